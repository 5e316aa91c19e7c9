"""Kinds of maps in the viewer: those of :mod:`fsl_mrs_dl.results.layout`, and FSL-MRS's parameters of the whole
spectrum; their groups in menus, their colours and ranges."""

from __future__ import annotations

from fsl_mrs_dl.results import layout
from fsl_mrs_dl.results.layout import Quantity

from . import colours

__all__ = [
    "CRLB_LIMIT",
    "ESTIMATE_OF",
    "QUANTITIES",
    "SD_OF",
    "by_key",
    "colour_map",
    "fixed_range",
    "group_of",
    "grouped",
    "is_additive",
    "key_of_kind",
    "ratio_of_folder",
]

CRLB_LIMIT = 50.0
"""Relative SD in percent that ends the colours of relative SDs; larger ones are drawn white."""

QUANTITIES = (
    *layout.QUANTITIES,
    Quantity("shift", "nuisance/shift_group0.nii.gz", "frequency shift", "ppm", "coolwarm"),
    Quantity("phase0", "nuisance/p0.nii.gz", "zero-order phase", "degrees", "coolwarm"),
    Quantity("phase1", "nuisance/p1.nii.gz", "first-order phase", "s", "coolwarm"),
    Quantity("line-width", "nuisance/combined_lw_group0.nii.gz", "line width of the spectrum", "Hz", "blue"),
)
"""Every kind of map that the viewer opens."""

SD_OF = {
    "raw-concentrations": ("crlb-sd", "in-vivo-sd"),
    "conc-ml": ("crlb-sd",),
    "conc-in-vivo": ("in-vivo-sd",),
    "conc-posterior": ("posterior-sd",),
    "conc-spatial": ("spatial-sd",),
    "conc-network": ("epistemic-sd",),
    "ratio-ml": ("ratio-sd",),
    "ratio-in-vivo": ("in-vivo-ratio-sd",),
    "conc-internal": ("ratio-sd", "in-vivo-ratio-sd"),
    "ratio-posterior": ("posterior-ratio-sd",),
    "conc-molarity": ("molarity-sd",),
    "conc-molality": ("molality-sd",),
}
"""Keys of estimates, and those of the maps of their standard deviation, of which the first that is there counts."""

ESTIMATE_OF = {sds[0]: key for key, sds in SD_OF.items() if key not in ("raw-concentrations", "conc-internal")}
"""Keys of maps of standard deviations, and that of the estimate of each."""

_BY_KEY = {one.key: one for one in QUANTITIES}
_SIGNED = ("shift", "phase0", "phase1")
_OF_ONE = ("prior-pull", "prior-share", "between-models-share")
# Estimates whose sums over metabolites mean something.
_ADDITIVE = (
    "raw-concentrations",
    "conc-internal",
    "conc-molarity",
    "conc-molality",
    "conc-ml",
    "conc-in-vivo",
    "conc-posterior",
    "conc-spatial",
    "conc-network",
    "ratio-ml",
    "ratio-in-vivo",
    "ratio-posterior",
)


def by_key(key: str) -> Quantity:
    """Return the quantity of a key.

    Raises
    ------
    KeyError
    """
    return _BY_KEY[key]


def is_additive(key: str) -> bool:
    """Return whether sums of metabolites, and ratios between them, can be made of a quantity."""
    return key in _ADDITIVE


def ratio_of_folder(key: str) -> bool:
    """Return whether a quantity is a ratio to the internal reference that folders have maps of."""
    return group_of(key) == "Ratio"


def group_of(key: str) -> str:
    """Return the heading that a quantity stands under in menus."""
    folder = by_key(key).template.split("/")[0]
    if folder == "concs":
        return "Ratio" if by_key(key).label.startswith("ratio") else "Concentration"
    if folder == "uncertainties":
        return "95 % limit" if "ci95" in key else "Uncertainty"
    return {"flags": "Yes or no", "nuisance": "Shift, phase, width"}.get(folder, "Quality of the fit")


def grouped(keys: list[str]) -> dict[str, list[str]]:
    """Return keys by their headings, in the order of their first ones."""
    groups: dict[str, list[str]] = {}
    for key in keys:
        groups.setdefault(group_of(key), []).append(key)
    return groups


def key_of_kind(kind: str, groups: dict[str, list[str]], latest: dict[str, str]) -> str:
    """Return the key that a heading of :func:`grouped` begins with: the latest one that was chosen under it, or its
    first."""
    keys = groups[kind]
    return latest[kind] if latest.get(kind) in keys else keys[0]


def colour_map(key: str) -> str:
    """Return the name of the colour map of a quantity, of those in :mod:`.colours`."""
    if key == "sd":
        return "mrsdl_capped"
    if key == "failed":
        return "mrsdl_codes"
    if key in _SIGNED:
        return "mrsdl_signed"
    if key == "SNR":
        return "mrsdl_values"
    return colours.key_of(by_key(key).cmap)


def fixed_range(key: str) -> tuple[float, float] | None:
    """Return the values of the first and last colour of a quantity that has fixed ones; None for all others."""
    if key == "sd":
        return 0.0, CRLB_LIMIT
    if key == "failed":
        return 0.0, 3.0
    if by_key(key).template.startswith("flags") or key in ("fitted", "usable", *_OF_ONE):
        return 0.0, 1.0
    return None
