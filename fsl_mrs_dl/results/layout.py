"""Names in a folder of MRSI results: FSL-MRS's own, and those of the further maps.  Nothing heavy is imported.

Every map is an image on the grid of the data; where nothing was fitted it is zero, as FSL-MRS's are, and :data:`FAILED`
lists the reasons.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

__all__ = [
    "Quantity",
    "QUANTITIES",
    "by_key",
    "tree_text",
    "colourscheme_text",
    "SPECTRA",
    "TREE",
    "COLOURS",
    "MODEL",
    "DOUBTS",
    "FAILED",
    "IMPLAUSIBLE",
    "IN_VIVO_BASELINE",
    "LOW_SNR",
    "NOISE",
    "MOSTLY_PRIOR",
    "OOD_LIMIT",
    "WATER_MARK",
    "WIDE",
]

WATER_MARK = " (w)"
"""Behind mM of tables where tissue fractions were not given."""

IN_VIVO_BASELINE = "in-vivo: a Gaussian process"
"""Word in options.txt for the baseline of the in-vivo model, which is none of FSL-MRS's."""


@dataclass(frozen=True)
class Quantity:
    """A kind of map.

    Attributes
    ----------
    key : str
        Name in the file tree.
    template : str
        Path under the results, with ``{metab}`` where there is one for every metabolite.
    label, unit : str
        Text for people.
    cmap : str
        Colour map of FSLeyes.
    column : str, optional
        Column in uncertainty.csv.
    fsl_mrs : bool
        Whether FSL-MRS writes it, too.
    """

    key: str
    template: str
    label: str
    unit: str = ""
    cmap: str = "viridis"
    column: str | None = None
    fsl_mrs: bool = False

    @property
    def per_metab(self) -> bool:
        """Whether there is one for every metabolite."""
        return "{metab}" in self.template

    def path(self, metab: str | None = None) -> str:
        """Return its path under the results."""
        return self.template.format(metab=metab)


_U = "uncertainties/{metab}_"
QUANTITIES = (
    Quantity("raw-concentrations", "concs/raw/{metab}.nii.gz", "concentration", "a.u.", "red-yellow", None, True),
    Quantity(
        "conc-internal",
        "concs/internal/{metab}.nii.gz",
        "ratio to the internal reference",
        "",
        "red-yellow",
        None,
        True,
    ),
    Quantity("conc-molarity", "concs/molarity/{metab}.nii.gz", "molarity", "mM", "red-yellow", "molarity", True),
    Quantity("conc-molality", "concs/molality/{metab}.nii.gz", "molality", "mmol/kg", "red-yellow", "molality", True),
    Quantity("conc-ml", "concs/ml/{metab}.nii.gz", "maximum-likelihood concentration", "a.u.", "red-yellow", "conc"),
    Quantity("conc-in-vivo", "concs/in_vivo/{metab}.nii.gz", "concentration, in-vivo model", "a.u.", "red-yellow"),
    Quantity(
        "conc-posterior",
        "concs/posterior_mean/{metab}.nii.gz",
        "posterior mean",
        "a.u.",
        "red-yellow",
        "posterior_mean",
    ),
    Quantity("conc-spatial", "concs/spatial/{metab}.nii.gz", "concentration, spatial prior", "a.u.", "red-yellow"),
    Quantity("conc-network", "concs/network/{metab}.nii.gz", "network's estimate", "a.u.", "red-yellow", "network"),
    Quantity(
        "ratio-ml",
        "concs/ratio/{metab}.nii.gz",
        "ratio to the internal reference, maximum likelihood",
        "",
        "red-yellow",
        "ratio",
    ),
    Quantity(
        "ratio-in-vivo",
        "concs/in_vivo_ratio/{metab}.nii.gz",
        "ratio to the internal reference, in-vivo model",
        "",
        "red-yellow",
    ),
    Quantity(
        "ratio-posterior",
        "concs/posterior_ratio/{metab}.nii.gz",
        "ratio to the internal reference, posterior",
        "",
        "red-yellow",
        "posterior_ratio",
    ),
    Quantity("sd", _U + "sd.nii.gz", "relative Cramer-Rao SD", "%", "blue", None, True),
    Quantity("crlb-sd", _U + "crlb_sd.nii.gz", "Cramer-Rao SD", "a.u.", "blue", "crlb_sd"),
    Quantity("in-vivo-sd", _U + "in_vivo_sd.nii.gz", "posterior SD, in-vivo model", "a.u.", "blue", "in_vivo_sd"),
    Quantity("posterior-sd", _U + "posterior_sd.nii.gz", "posterior SD", "a.u.", "blue", "posterior_sd"),
    Quantity(
        "ratio-sd",
        _U + "ratio_sd.nii.gz",
        "SD of the ratio to the internal reference, maximum likelihood",
        "",
        "blue",
        "ratio_sd",
    ),
    Quantity(
        "in-vivo-ratio-sd",
        _U + "in_vivo_ratio_sd.nii.gz",
        "SD of the ratio to the internal reference, in-vivo model",
        "",
        "blue",
    ),
    Quantity(
        "posterior-ratio-sd",
        _U + "posterior_ratio_sd.nii.gz",
        "SD of the ratio to the internal reference, posterior",
        "",
        "blue",
        "posterior_ratio_sd",
    ),
    Quantity("spatial-sd", _U + "spatial_sd.nii.gz", "posterior SD, spatial prior", "a.u.", "blue"),
    Quantity("molarity-sd", _U + "molarity_sd.nii.gz", "SD of the molarity, all sources", "mM", "blue", "molarity_sd"),
    Quantity(
        "molality-sd", _U + "molality_sd.nii.gz", "SD of the molality, all sources", "mmol/kg", "blue", "molality_sd"
    ),
    Quantity("epistemic-sd", _U + "epistemic_sd.nii.gz", "spread of the networks", "a.u.", "blue", "epistemic_sd"),
    Quantity("prior-pull", _U + "prior_pull.nii.gz", "posterior over prior variance", "", "blue", "prior_pull"),
    Quantity(
        "prior-share",
        _U + "prior_share.nii.gz",
        "share of the variance that priors take away",
        "",
        "blue",
        "prior_share",
    ),
    Quantity(
        "between-models-share",
        _U + "between_models_share.nii.gz",
        "share of the variance that is disagreement of models",
        "",
        "blue",
        "between_models_share",
    ),
    Quantity(
        "ci95-low",
        _U + "ci95_low.nii.gz",
        "lower 95 % limit, maximum likelihood",
        "a.u.",
        "red-yellow",
        "ci95_low",
    ),
    Quantity(
        "ci95-high",
        _U + "ci95_high.nii.gz",
        "upper 95 % limit, maximum likelihood",
        "a.u.",
        "red-yellow",
        "ci95_high",
    ),
    Quantity(
        "in-vivo-ci95-low", _U + "in_vivo_ci95_low.nii.gz", "lower 95 % limit, in-vivo model", "a.u.", "red-yellow"
    ),
    Quantity(
        "in-vivo-ci95-high", _U + "in_vivo_ci95_high.nii.gz", "upper 95 % limit, in-vivo model", "a.u.", "red-yellow"
    ),
    Quantity(
        "posterior-ci95-low",
        _U + "posterior_ci95_low.nii.gz",
        "lower 95 % limit, posterior",
        "a.u.",
        "red-yellow",
        "posterior_ci95_low",
    ),
    Quantity(
        "posterior-ci95-high",
        _U + "posterior_ci95_high.nii.gz",
        "upper 95 % limit, posterior",
        "a.u.",
        "red-yellow",
        "posterior_ci95_high",
    ),
    Quantity(
        "spatial-ci95-low", _U + "spatial_ci95_low.nii.gz", "lower 95 % limit, spatial prior", "a.u.", "red-yellow"
    ),
    Quantity(
        "spatial-ci95-high", _U + "spatial_ci95_high.nii.gz", "upper 95 % limit, spatial prior", "a.u.", "red-yellow"
    ),
    Quantity(
        "molarity-ci95-low",
        _U + "molarity_ci95_low.nii.gz",
        "lower 95 % limit of the molarity",
        "mM",
        "red-yellow",
        "molarity_ci95_low",
    ),
    Quantity(
        "molarity-ci95-high",
        _U + "molarity_ci95_high.nii.gz",
        "upper 95 % limit of the molarity",
        "mM",
        "red-yellow",
        "molarity_ci95_high",
    ),
    Quantity("at-zero", "flags/{metab}_at_zero.nii.gz", "held at zero", "", "red", "at_zero"),
    Quantity("mostly-prior", "flags/{metab}_mostly_prior.nii.gz", "mostly prior", "", "red", "mostly_prior"),
    Quantity(
        "prior-conflict", "flags/{metab}_prior_conflict.nii.gz", "data and prior disagree", "", "red", "prior_conflict"
    ),
    Quantity("SNR", "qc/{metab}_snr.nii.gz", "SNR", "", "red", None, True),
    Quantity("FWHM", "qc/{metab}_fwhm.nii.gz", "line width, FWHM", "Hz", "blue", None, True),
    Quantity("misfit", "quality/misfit.nii.gz", "residual over noise", "", "hot", "misfit"),
    Quantity("ood-score", "quality/ood_score.nii.gz", "out-of-distribution score", "", "hot", "ood_score"),
    Quantity(
        "ood-network", "quality/ood_network.nii.gz", "out-of-distribution score, network", "", "hot", "ood_network"
    ),
    Quantity("noise-sd", "quality/noise_sd.nii.gz", "noise SD", "a.u.", "hot", "noise_sd"),
    Quantity("residual-sd", "quality/residual_sd.nii.gz", "residual SD", "a.u.", "hot", "residual_sd"),
    Quantity("n-iter", "quality/n_iter.nii.gz", "steps of the fit", "", "hot", "n_iter"),
    Quantity("failed", "quality/failed.nii.gz", "1: not converged, 2: not fitted, 3: only noise", "", "red", None),
    Quantity("fitted", "quality/fitted.nii.gz", "voxels that were fitted", "", "greyscale", "fitted"),
    Quantity("usable", "quality/usable.nii.gz", "fits that can be used", "", "greyscale", "usable"),
    Quantity(
        "doubt",
        "quality/doubt.nii.gz",
        "1: SNR, 2: line width, 3: concentrations, 4: filtered band; doubtful",
        "",
        "red",
    ),
    Quantity("unexplained", "quality/unexplained.nii.gz", "unexplained share of the signal", "", "hot", "unexplained"),
)
"""Every kind of map, those of FSL-MRS first within each folder; a run writes those that it has values of."""

NOISE = 3
FAILED = {
    0: "fitted, or outside of the mask",
    1: "did not converge",
    2: "could not be fitted",
    NOISE: "contains only noise",
}
"""Meaning of the values of ``quality/failed.nii.gz``."""

LOW_SNR, WIDE, IMPLAUSIBLE, FILTERED = 1, 2, 3, 4
DOUBTS = {
    LOW_SNR: "a signal-to-noise ratio that is too low",
    WIDE: "lines that are too broad",
    IMPLAUSIBLE: "concentrations that no brain has",
    FILTERED: "a window beyond the band that a filter left",
}
"""Meaning of the values of ``quality/doubt.nii.gz`` above zero; of several the highest."""

MOSTLY_PRIOR = 0.5
"""Posterior over prior variance above which an answer is marked as mostly prior."""

OOD_LIMIT = 1.0
"""Out-of-distribution score above which a spectrum is marked."""

SPECTRA = {"fit-fit": "fit/fit.nii.gz", "fit-baseline": "fit/baseline.nii.gz", "fit-residual": "fit/residual.nii.gz"}
"""NIfTI-MRS files of spectra by their keys in the tree."""

TREE, COLOURS, MODEL = "dl_mrsi.tree", "dl_colourscheme.json", "misc/dl_model"
"""File tree and colour scheme for the viewer, and the folder of :mod:`fsl_mrs_dl.results.model_file`."""

OF_VOXEL = "misc/of_voxel/{metab}/"
"""Links to ``quality/``, one for each metabolite: the viewer offers only maps whose path has a metabolite in it."""


def by_key(key: str) -> Quantity:
    """Return the quantity of a key.

    Raises
    ------
    KeyError
    """
    return next(one for one in QUANTITIES if one.key == key)


def tree_text(written: set[str]) -> str:
    """Return the file tree of results with the quantities and spectra of these keys, in the format of FSL's
    file-tree."""
    paths = [(one.template if one.per_metab else OF_VOXEL + one.template.split("/")[-1], one.key) for one in QUANTITIES]
    paths += [(path, key) for key, path in SPECTRA.items()]
    folders: dict = {}
    for path, key in paths:
        if key in written:
            *parents, name = path.split("/")
            place = folders
            for parent in parents:
                place = place.setdefault(parent, {})
            place[name] = key
    lines = ["# Results of FSL-MRS-DL on the voxels of an MRSI; those with {metab} are map types in the viewer."]

    def write(place: dict, depth: int) -> None:
        for name, inside in place.items():
            if isinstance(inside, dict):
                lines.append("    " * depth + name)
                write(inside, depth + 1)
            else:
                lines.append("    " * depth + f"{name} ({inside})")

    write(folders, 0)
    return "\n".join(lines) + "\n"


def colourscheme_text() -> str:
    """Return the colours in which fsleyes-plugin-mrs shows each of them, JSON."""
    scheme: dict = {
        "fit-fit": {"lineWidth": 2, "colour": [0.84, 0.37, 0.0]},
        "fit-baseline": {"lineWidth": 1, "colour": [0.0, 0.45, 0.7]},
        "fit-residual": {"lineWidth": 1, "colour": [0.4, 0.4, 0.4]},
    }
    for one in QUANTITIES:
        scheme[one.key] = {
            "cmap": one.cmap,
            "clippingRange": ["0.0", "max"],
            "displayRange": (
                ["0.0", "percentile(98)"] if one.template.startswith(("concs", "uncert")) else ["0.0", "max"]
            ),
            "linkLowRanges": False,
        }
    return json.dumps(scheme, indent=2) + "\n"
