"""Absolute concentrations: fits scaled by water, with an error budget.

Conventions are FSL-MRS's (``fsl_mrs.utils.quantify``), after Near et al., doi 10.1002/nbm.4257, equations 4 to 6: 90
degree excitation, tissue water by densities, molality by mole fractions, correction for CSF, which holds no
metabolites. Without tissue fractions pure water is assumed, with T1 and T2 half-way between those of grey and of white
matter.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..core.axes import Axes
from ..core.errors import OptionError
from ..fitting.header_facts import seconds_of, seconds_of_each
from ..fitting.in_vivo.result import InVivoFit
from ..fitting.options import check_time
from ..fitting.quantification import Quantification
from ..fitting.uncertainty import Z95
from ..io.nifti import MrsData
from .reference import ReferenceSignal, WaterReferenceMetabolite, reference_metabolite, reference_signal
from .relaxation import Relaxation, field_strength, signal_factor
from .tissue import WATER_DENSITY, WATER_MOLALITY, TissueFractions
from .water import WaterFit, fit_water

__all__ = [
    "IN_VIVO_LOG_SD",
    "SOURCES",
    "UNITS",
    "WATER_ALONE",
    "AbsoluteConcentrations",
    "WaterScaling",
    "absolute_concentrations",
    "water_factor",
]

UNITS = ("molality", "molarity")
"""Kinds of absolute concentrations, in mmol/kg and mM, in FSL-MRS's order."""

WATER_ALONE = (
    "tissue fractions were not given: mM are as in a voxel of water alone, without the lower content of water of tissue"
    f" ({WATER_DENSITY['WM']:.0%} in white, {WATER_DENSITY['GM']:.0%} in grey matter) and without a share of CSF"
)
"""What concentrations in mM are without tissue fractions."""

SOURCES = ("fit", "model", "water fit", "tissue fractions", "water relaxation", "metabolite relaxation")
"""Sources of error of the budget; 'model' is what all amplitudes of the in-vivo model have in common."""

IN_VIVO_LOG_SD = 0.08
"""SD of the logarithm of the in-vivo model's common amplitude: where lines are broad it shares signal with baseline and
macromolecules, and those of others read 4 to 6 % low (benchmarks/absolute_concentrations.md); ratios do not."""

_WATER_PROTONS = 2
_OF_SPECTRA = ("echo_time_s", "repetition_time_s")
_POSSIBLE_MM = (0.5, 50.0)  # of the reference metabolite, in tissue or in a phantom


@dataclass(frozen=True)
class WaterScaling:
    """What the scaling by water needs besides the fit and the water FIDs.

    Attributes
    ----------
    echo_time_s, repetition_time_s : float, optional
        Of the spectra.
    water_echo_time_s, water_repetition_time_s : float, optional
        Of the water reference; those of the spectra by default.
    tissue : TissueFractions, optional
        Of one voxel, or a row for every spectrum.
    t1, t2 : dict, optional
        Relaxation times in place of the literature's, see :func:`fsl_mrs_dl.concentrations.relaxation.read_times`.
    reference : tuple of str, optional
        Metabolites that are compared with water, with ``protons`` and ``limits``; FSL-MRS's by default.
    protons : int, optional
    limits : (float, float), optional
        In ppm.
    factor : float
        Multiplies all concentrations, FSL-MRS's ``h2o_scale``.
    area : str, optional
        How the reference is compared with water, one of :data:`fsl_mrs_dl.concentrations.reference.AREAS`; by default
        FSL-MRS's way of FSL-MRS's model, and 'alike' of the in-vivo model.
    each : dict of str to tuple of float
        In place of any of the four times, by its name, that of every spectrum, where they differ.
    """

    echo_time_s: float | None = None
    repetition_time_s: float | None = None
    water_echo_time_s: float | None = None
    water_repetition_time_s: float | None = None
    tissue: TissueFractions | None = None
    t1: dict[str, float] | None = None
    t2: dict[str, float] | None = None
    reference: tuple[str, ...] | None = None
    protons: int | None = None
    limits: tuple[float, float] | None = None
    factor: float = 1.0
    area: str | None = None
    each: dict[str, tuple[float, ...]] = field(default_factory=dict)

    def __post_init__(self):
        if not (np.isfinite(self.factor) and self.factor > 0):
            raise OptionError("must be positive", option="h2o_scale", value=self.factor)
        for name in _OF_SPECTRA:
            for which in (name, f"water_{name}"):
                check_time(which, getattr(self, which))

    def with_headers(self, data: MrsData, water: MrsData | None = None) -> WaterScaling:
        """Return the scaling with the times of the files' headers where it has none."""
        times: dict[str, Any] = {}  # of `replace`, whose arguments have different types
        each = dict(self.each)
        n = data.fids[:, :, :, 0].size
        for name, (file, key) in {
            "echo_time_s": (data, "EchoTime"),
            "repetition_time_s": (data, "RepetitionTime"),
            "water_echo_time_s": (water, "EchoTime"),
            "water_repetition_time_s": (water, "RepetitionTime"),
        }.items():
            times[name] = getattr(self, name)
            if times[name] is not None or file is None:
                continue
            times[name], different = seconds_of(file, key), seconds_of_each(file, key)
            if different is not None and len(different) == n:
                each[name] = different
        return replace(self, each=each, **times)

    def times(self, *, water: bool) -> tuple[np.ndarray, np.ndarray]:
        """Return echo and repetition time of spectra or of the water reference, scalars or ``(n,)``."""
        prefix, plain = ("water_", self.times_of_water) if water else ("", (self.echo_time_s, self.repetition_time_s))
        names = (f"{prefix}echo_time_s", f"{prefix}repetition_time_s")
        echo, repetition = (np.asarray(self.each.get(name, one), float) for name, one in zip(names, plain))
        return echo, repetition

    def times_in_words(self, *, water: bool = False) -> str:
        """Return :meth:`times` as 'TE 30 ms and TR 2 s'; of different ones their range."""
        words = []
        for label, values, scale, unit in zip(("TE", "TR"), self.times(water=water), (1e3, 1.0), ("ms", "s")):
            low, high = scale * values.min(), scale * values.max()
            words.append(f"{label} {low:g} {unit}" if low == high else f"{label} {low:g} to {high:g} {unit}")
        return " and ".join(words)

    @property
    def times_of_water(self) -> tuple[float | None, float | None]:
        """Echo and repetition time of the water reference."""
        echo, repetition = self.water_echo_time_s, self.water_repetition_time_s
        return (
            self.echo_time_s if echo is None else echo,
            self.repetition_time_s if repetition is None else repetition,
        )

    @property
    def signature(self) -> str:
        """Text that is the same for the same scaling."""
        digest = hashlib.sha256()
        if self.tissue is not None:
            for part in (self.tissue.white, self.tissue.grey, self.tissue.csf):
                digest.update(np.ascontiguousarray(part).tobytes())
        plain = replace(self, tissue=None)
        return f"{plain} tissue {digest.hexdigest()[:16]} {None if self.tissue is None else self.tissue.sd}"

    def missing(self, names: Sequence[str], axes: Axes, *, has_water: bool = True) -> list[str]:
        """Return a line for everything that is missing: what, and the remedy; options stand in backticks.

        Raises
        ------
        OptionError
            For values that are wrong.
        """
        lines = []
        if axes.nucleus != "1H":
            return [f"No absolute concentrations: water is no reference for {axes.nucleus}."]
        if not has_water:
            lines.append("No absolute concentrations: there is no water reference; give one with `h2o`.")
        times = (
            (self.echo_time_s, "echo time", "`TE` in ms"),
            (self.repetition_time_s, "repetition time", "`TR` in s"),
        )
        unknown = [(what, option) for value, what, option in times if value is None]
        if unknown:
            what, options = (" and ".join(parts) for parts in zip(*unknown))
            lines.append(
                f"No absolute concentrations: the {what} {'is' if len(unknown) == 1 else 'are'} in no header, and"
                f" relaxation cannot be corrected; give {options}."
            )
        if Relaxation.at_field(field_strength(axes.spec_freq_mhz), self.t1, self.t2) is None:
            lines.append(
                f"No absolute concentrations: no T1 and T2 are known at {field_strength(axes.spec_freq_mhz):.2g} T"
                f" (there are {Relaxation.fields()}); give `t1_values` and `t2_values`."
            )
        if reference_metabolite(names, self.reference, self.protons, self.limits) is None:
            lines.append(
                "No absolute concentrations: neither creatine nor NAA was fitted, one of which is compared with water;"
                " give `wref_metabolite`, `ref_protons` and `ref_int_limits`."
            )
        return lines

    def assumptions(self, names: Sequence[str], axes: Axes) -> list[str]:
        """Return what the numbers rest on where nothing is missing, in sentences."""
        reference = reference_metabolite(names, self.reference, self.protons, self.limits)
        relaxation = Relaxation.at_field(field_strength(axes.spec_freq_mhz), self.t1, self.t2)
        assert reference is not None and relaxation is not None
        of_spectra, of_water = (self.times_in_words(water=water) for water in (False, True))
        own = ", each spectrum its own" if set(self.each) & set(_OF_SPECTRA) else ""
        out = [
            f"{'+'.join(reference.names)} is compared with water; relaxation of the {relaxation.source},"
            f" {of_spectra.replace(' and', ',')}{own}."
        ]
        if of_water != of_spectra:
            out.append(f"The water reference has {of_water}, and is corrected for these.")
        if self.tissue is None:
            out.append(
                f"{WATER_ALONE[:1].upper()}{WATER_ALONE[1:]}. Half of this water has the T1 and T2 of grey and half"
                " those of white matter; this is in no SD (`tissue_frac`)."
            )
        else:
            tissue = self.tissue
            if tissue.white.size == 1:
                parts = ", ".join(
                    f"{name} {value.item():.2f}"
                    for name, value in (("white", tissue.white), ("grey", tissue.grey), ("CSF", tissue.csf))
                )
                out.append(f"Tissue fractions {tissue.source}: {parts}, each with an SD of {tissue.sd:g}.")
            else:
                out.append(f"Tissue fractions of every voxel {tissue.source}, each with an SD of {tissue.sd:g}.")
            out += [f"{note[:1].upper()}{note[1:]}." for note in tissue.notes]
        out.append("Spectra and water reference must have the same receiver gain, and both be averaged, not summed.")
        return out


@dataclass(frozen=True)
class AbsoluteConcentrations:
    """Concentrations in mmol/kg and mM with their errors.

    Attributes
    ----------
    names : list of str
        Metabolites, then sums.
    values, sd, low, high : dict
        By the names of :data:`UNITS`: arrays ``(n, len(names))`` of concentrations, SDs and ends of 95 % intervals;
        NaN where there is none.
    crlb : dict
        By unit: SD of the fit alone by FSL-MRS's formula, ``(n, len(names))``.
    budget : dict
        By unit and by the names of :data:`SOURCES`: the SD that each source contributes, ``(n, len(names))``.
    scaling : WaterScaling
        That was used.
    relaxation : Relaxation
    reference : WaterReferenceMetabolite
    water : WaterFit
    assumptions : list of str
        What the numbers rest on, in sentences.
    """

    names: list[str]
    values: dict[str, np.ndarray]
    sd: dict[str, np.ndarray]
    low: dict[str, np.ndarray]
    high: dict[str, np.ndarray]
    crlb: dict[str, np.ndarray]
    budget: dict[str, dict[str, np.ndarray]]
    scaling: WaterScaling
    relaxation: Relaxation
    reference: WaterReferenceMetabolite
    water: WaterFit
    assumptions: list[str] = field(default_factory=list)

    @property
    def remarks(self) -> list[str]:
        """Sentences on a reference metabolite whose concentration no brain has."""
        rows = [self.names.index(name) for name in self.reference.names]
        values = self.molarity[:, rows].sum(1)
        values = values[np.isfinite(values)]
        middle = float(np.median(values)) if len(values) else np.nan
        if not len(values) or _POSSIBLE_MM[0] <= middle <= _POSSIBLE_MM[1]:
            return []
        return [
            f"Absolute concentrations are impossible: {middle:.3g} mM of {'+'.join(self.reference.names)}. The water"
            " reference (`h2o`) may be water-suppressed or inverted, or have another gain, number of averages or"
            " combination of coils than the spectra."
        ]

    @property
    def as_water_alone(self) -> bool:
        """Whether concentrations are those of a voxel of water alone, as tissue fractions were not given."""
        return self.scaling.tissue is None

    @property
    def voxel(self) -> str:
        """What the voxel was taken for, as tables name it."""
        return "water alone" if self.as_water_alone else "tissue"

    @property
    def molality(self) -> np.ndarray:
        """Concentrations in mmol per kg of tissue water, ``(n, len(names))``."""
        return self.values["molality"]

    @property
    def molarity(self) -> np.ndarray:
        """Concentrations in mM, ``(n, len(names))``."""
        return self.values["molarity"]

    def share(self, unit: str, source: str) -> np.ndarray:
        """Return the share of a source in the variance, ``(n, len(names))``."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return (self.budget[unit][source] / self.sd[unit]) ** 2


def absolute_concentrations(
    fit: Quantification,
    water: np.ndarray | None,
    scaling: WaterScaling,
    *,
    sums: Sequence[str] = (),
    estimate: str | None = None,
) -> tuple[AbsoluteConcentrations | None, list[str]]:
    """Scale concentrations by water.

    Parameters
    ----------
    fit : Quantification
    water : complex ndarray ``(n, n_points)`` or ``(1, n_points)``, or None
        Unsuppressed water in the units of the data, in the direction of the fit; see
        :func:`fsl_mrs_dl.fitting.data.water_fids`.
    scaling : WaterScaling
    sums : sequence of str
        Sums to report as well, each as 'GPC+PCh'.
    estimate : str, optional
        Estimate that is scaled; the model's own by default.

    Returns
    -------
    AbsoluteConcentrations or None
    list of str
        Where it is None, a line for each thing that is missing; options stand in backticks.

    Raises
    ------
    OptionError
    """
    axes = fit.model.axes
    if water is None and axes.nucleus != "1H":
        return None, []
    missing = scaling.missing(fit.names, axes, has_water=water is not None)
    if missing or water is None:
        return None, missing
    reference = reference_metabolite(fit.names, scaling.reference, scaling.protons, scaling.limits)
    relaxation = Relaxation.at_field(field_strength(axes.spec_freq_mhz), scaling.t1, scaling.t2)
    assert reference is not None and relaxation is not None
    n = len(fit.params)
    of_water = fit_water(water, axes)
    if len(water) == 1 and n != 1:
        of_water = of_water.rows(np.zeros(n, int))
    name = estimate or fit.own_estimate
    conc = fit.estimate(name)[0]
    area = scaling.area or ("alike" if isinstance(fit, InVivoFit) else "as-fitted")
    signal = reference_signal(fit, of_water, reference, conc, area)
    concentrations = _Concentrations(fit, name, list(sums), signal, reference)
    values, sd, low, high, crlb, budget = {}, {}, {}, {}, {}, {}
    for unit in UNITS:
        log_errors = _log_errors(scaling, relaxation, unit)
        log_errors["water fit"] = of_water.log_area_sd
        log_errors["model"] = np.array(IN_VIVO_LOG_SD if isinstance(fit, InVivoFit) else 0.0)
        factor = signal.per_concentration * water_factor(scaling, relaxation, unit) * _WATER_PROTONS / reference.protons
        values[unit] = concentrations.values * factor[:, None]
        crlb[unit] = concentrations.plain_sd * factor[:, None]
        parts = {"fit": concentrations.sd * factor[:, None]}
        parts |= {key: values[unit] * np.broadcast_to(log_errors[key], n)[:, None] for key in SOURCES[1:]}
        budget[unit] = parts
        sd[unit] = np.sqrt(sum(part**2 for part in parts.values()))
        common = np.sqrt(sum(np.broadcast_to(log_errors[key], n) ** 2 for key in SOURCES[1:]))
        low[unit], high[unit] = _interval(values[unit], factor[:, None], concentrations.ends, common)
    result = AbsoluteConcentrations(
        names=concentrations.names,
        values=values,
        sd=sd,
        low=low,
        high=high,
        crlb=crlb,
        budget=budget,
        scaling=scaling,
        relaxation=relaxation,
        reference=reference,
        water=of_water,
        assumptions=scaling.assumptions(fit.names, axes),
    )
    return result, []


class _Concentrations:
    """Concentrations of the fit and its sums, with the errors that a scaling by the reference leaves."""

    def __init__(self, fit, estimate: str, sums, signal: ReferenceSignal, reference: WaterReferenceMetabolite):
        conc, cov = fit.estimate(estimate)
        self.names = [*fit.names, *sums]
        members = [fit.members(name) for name in self.names]
        self.values = np.stack([conc[:, rows].sum(1) for rows in members], 1)
        under = [fit.names.index(name) for name in reference.names]
        self.sd, self.plain_sd = np.empty(self.values.shape), np.empty(self.values.shape)
        low, high = np.empty(self.values.shape), np.empty(self.values.shape)
        for column, rows in enumerate(members):
            # Infinite variances of other metabolites must not enter.
            used = sorted({*rows, *under})
            gradient = np.zeros((len(conc), len(used)))
            for row in rows:
                gradient[:, used.index(row)] += 1.0
            block = cov[:, used][:, :, used]
            plain = np.einsum("ni,nij,nj->n", gradient, block, gradient)
            for position, row in enumerate(under):
                gradient[:, used.index(row)] += self.values[:, column] * signal.slopes[:, position]
            variance = np.einsum("ni,nij,nj->n", gradient, block, gradient)
            self.sd[:, column] = np.sqrt(np.clip(variance, 0, None))
            self.plain_sd[:, column] = np.sqrt(np.clip(plain, 0, None))
            low[:, column], high[:, column] = fit.interval_of(estimate, rows)
        self.ends = low, high
        if isinstance(fit, InVivoFit):
            self._leave_out(fit)

    def _leave_out(self, fit: InVivoFit) -> None:
        """Take out lipids and macromolecules of the model, whose signals have no number of protons; that one stays
        which is edited with GABA, because it is in units of it."""
        components = fit.fitted_model.components
        known = {
            name
            for name, kind in zip(components.names[: components.n_linear], components.kinds)
            if kind in ("metabolite", "co-edited")
        }
        unknown = [not set(name.split("+")) <= known for name in self.names]
        for values in (self.values, self.sd, self.plain_sd, *self.ends):
            values[:, unknown] = np.nan


def water_factor(scaling: WaterScaling, relaxation: Relaxation, unit: str) -> np.ndarray:
    """Return the concentration of visible water, corrected for relaxation of metabolites and CSF, ``(n,)`` or scalar;
    FSL-MRS's formulas."""
    te, tr = scaling.times(water=True)
    t1, t2 = relaxation.t1, relaxation.t2
    of_metabolites = signal_factor(t1["METAB"], t2["METAB"], *scaling.times(water=False))
    tissue = scaling.tissue
    if tissue is None:
        t1_s, t2_s = ((times["H2O_WM"] + times["H2O_GM"]) / 2 for times in (t1, t2))
        return scaling.factor * WATER_MOLALITY * signal_factor(t1_s, t2_s, te, tr) / of_metabolites
    weights = {
        part: values * WATER_DENSITY[part]
        for part, values in (("GM", tissue.grey), ("WM", tissue.white), ("CSF", tissue.csf))
    }
    visible = sum(
        weight * signal_factor(t1[f"H2O_{part}"], t2[f"H2O_{part}"], te, tr) for part, weight in weights.items()
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        if unit == "molality":
            visible = visible / sum(weights.values())
        solid = 1 - tissue.csf
        correction = np.where(solid > 1e-6, 1 / solid, np.nan)
    return scaling.factor * WATER_MOLALITY * visible * correction / of_metabolites


def _log_errors(scaling: WaterScaling, relaxation: Relaxation, unit: str) -> dict[str, np.ndarray]:
    """Return the SDs of the logarithm of the factor by source, scalars or ``(n,)``: differences over one SD to both
    sides."""
    out = {"tissue fractions": np.array(0.0)}
    if scaling.tissue is not None:
        # Independent errors of the three, of which the sum is known to be one.
        step = scaling.tissue.sd * np.sqrt(1.5)
        variance: np.ndarray | float = 0.0
        for direction in (np.array([1, -1, 0]) / np.sqrt(2), np.array([1, 1, -2]) / np.sqrt(6)):
            moved = [
                np.log(
                    water_factor(
                        replace(scaling, tissue=scaling.tissue.shifted(*(sign * step * direction))), relaxation, unit
                    )
                )
                for sign in (1, -1)
            ]
            variance = variance + ((moved[0] - moved[1]) / 2) ** 2
        out["tissue fractions"] = np.sqrt(variance)
    for source, parts in (
        ("water relaxation", ("H2O_GM", "H2O_WM", "H2O_CSF")),
        ("metabolite relaxation", ("METAB",)),
    ):
        variance = 0.0
        for kind in ("t1", "t2"):
            for part in parts:
                times, sd = getattr(relaxation, kind), getattr(relaxation, f"{kind}_sd")[part]
                if not sd:
                    continue
                moved = []
                for sign in (1, -1):
                    changed = {**times, part: max(times[part] + sign * sd, 0.05 * times[part])}
                    moved.append(np.log(water_factor(scaling, relaxation.with_times(kind, changed), unit)))
                variance = variance + ((moved[0] - moved[1]) / 2) ** 2
        out[source] = np.sqrt(variance)
    return out


def _interval(
    value: np.ndarray, factor: np.ndarray, ends: tuple[np.ndarray, np.ndarray], common: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the ends of 95 % intervals of a concentration times a factor with a log-normal error of SD ``common``.

    The distances of the ends are combined as squares, each side by itself (Zou and Donner, doi 10.1002/sim.3095).
    """
    low, high = (end * factor for end in ends)
    with np.errstate(invalid="ignore"):
        down, up = 1 - np.exp(-Z95 * common[:, None]), np.exp(Z95 * common[:, None]) - 1
        least = value - np.hypot(value - low, value * down)
        most = value + np.hypot(high - value, value * up)
    return np.where(low >= 0, np.maximum(least, 0), least), most
