"""Artefacts of a spectrum and its fit, each with the remedy that would have helped.

Every detector takes one fitted spectrum and returns what it measured, or None; thresholds are in
``data/artefacts.json``.  Remedies name options in backticks, which each program spells in its own way.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import resources

import numpy as np

from ..core.axes import Axes
from ..core.metabolites import is_macromolecule
from ..core.noise import filtered_noise
from .late_signal import SINGLETS, echo_size, lines_that_return
from .window_advice import Window, below_tail, rounded, window_in_words, window_without

__all__ = [
    "MIRRORED",
    "Artefact",
    "FittedSpectrum",
    "artefacts_before",
    "artefact_lines",
    "artefacts_of",
    "echo_time_mismatch",
    "field_mismatch",
    "fitted_spectrum",
    "mirrored",
    "phase_beyond_shift",
]

MIRRORED = "mirrored data"
"""Kind of an artefact that makes all others meaningless."""

_HEIGHT_PPM = (1.8, 3.4)  # NAA, creatine and choline: the highest lines of metabolites
_CREATINE_CHOLINE_PPM, _LIPID_PPM = (2.95, 3.3), (1.15, 1.45)
_WATER_PPM = (4.0, 5.4)
_ECHO_PPM, _ECHO_HZ = 0.15, 25.0  # half of an echo's width, at least
_MHZ_3T = 127.7


_SPELLING = {"conjfid": "--conj_fid", "spectral_model": "--spectral-model", "edit_mode": "--edit-mode"}


def option_spelling(name: str) -> str:
    """Return an option as the commands of this package spell it."""
    return _SPELLING.get(name, f"--{name}")


@dataclass(frozen=True)
class Artefact:
    """What is wrong with a spectrum, and what helps.

    Attributes
    ----------
    kind : str
        A short name, as 'residual water'.
    seen : str
        Measured figures and where.
    remedy : str
        Options in backticks.
    window : (float, float), optional
        Fitted window that leaves the artefact out, where there is one.
    """

    kind: str
    seen: str
    remedy: str
    window: Window | None = None

    def text(self, spelling=None) -> str:
        """Return it in a line; ``spelling`` is as of :meth:`fsl_mrs_dl.core.errors.FslMrsDlError.text`."""
        import re

        line = f"{self.kind.capitalize()}: {self.seen}. {self.remedy[:1].upper()}{self.remedy[1:]}."
        return re.sub(r"`(\w+)`", lambda match: spelling(match[1]) if spelling else match[1], line)


def artefact_lines(
    found: Mapping[int, Sequence[Artefact]], spelling=None, where: Callable[[Sequence[int]], str] | None = None
) -> list[str]:
    """Return a line for each kind of artefact in spectra, by their numbers: the text of the first that has it, and of
    several spectra which have it.

    ``where`` words the numbers of spectra, as '4 of 28 spectra: x 3, 4, 5, 6'; by default only how many they are.
    """
    kinds: dict[str, list[tuple[int, Artefact]]] = {}
    for number, artefacts in found.items():
        for artefact in artefacts:
            kinds.setdefault(artefact.kind, []).append((number, artefact))
    n, lines = len(found), []
    for several in kinds.values():
        line = several[0][1].text(spelling)
        if n > 1 or where:
            words = where([number for number, _ in several]) if where else f"{len(several)} of {n} spectra"
            line += f" ({words}{'; figures of the first' if len(several) > 1 else ''})"
        lines.append(line)
    return lines


@dataclass(frozen=True)
class FittedSpectrum:
    """One spectrum and the parts of its fit, turned upright by the fitted phases.

    Attributes
    ----------
    axes : Axes
    window : (int, int)
        First and last + 1 of the fitted points.
    spectrum : complex ndarray ``(n_points,)``
    metabolites, others, baseline : complex ndarray ``(n_window,)``
        Parts of the fit; ``others`` are lipids and macromolecules.
    noise_sd : float
        Per real channel.
    in_vivo : bool
        Fitted with the in-vivo model.
    has_macromolecules, has_water_reference : bool
    line_phase : float
        :func:`phase_beyond_shift` of the fitted line shape; NaN where the model has none.
    lipid_part : complex ndarray ``(n_window,)`` or None
        Lipids of the in-vivo model.
    own_shift_sd : dict of str to float
        Shifts of single metabolites in SDs of their prior.
    phi1_deg_per_ppm : float
        First-order phase.
    own_shift_ppm, own_width_ppm : dict of str to float
        Distances of metabolites from the place of the strongest lines, and widths added to the basis set's, where
        FSL-MRS's model leaves them free; of metabolites with a signal only.
    groups_free : bool
        These are of whole groups.
    filtered : bool
        A filter took a part of the band, and bends the window's ends.
    edited : bool
        It is of edited data, alone or as a combination, whose fits have other options.
    """

    axes: Axes
    window: tuple[int, int]
    spectrum: np.ndarray
    metabolites: np.ndarray
    others: np.ndarray
    baseline: np.ndarray
    noise_sd: float
    in_vivo: bool
    has_macromolecules: bool
    has_water_reference: bool = False
    line_phase: float = float("nan")
    lipid_part: np.ndarray | None = None
    own_shift_sd: dict[str, float] = field(default_factory=dict)
    phi1_deg_per_ppm: float = 0.0
    own_shift_ppm: dict[str, float] = field(default_factory=dict)
    own_width_ppm: dict[str, float] = field(default_factory=dict)
    groups_free: bool = False
    filtered: bool = False
    edited: bool = False

    @property
    def limits(self) -> Window:
        """Chemical shifts of the window's ends, rounded as those that a remedy names."""
        return rounded(float(self.ppm.min())), rounded(float(self.ppm.max()))

    @property
    def ppm(self) -> np.ndarray:
        """Chemical shifts of the window."""
        return self.axes.ppm()[slice(*self.window)]

    @property
    def residual(self) -> np.ndarray:
        """Data less fit in the window."""
        return self.spectrum[slice(*self.window)] - self.metabolites - self.others - self.baseline

    def part(self, values: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
        """Return the points of a window's values between two chemical shifts."""
        return values[(self.ppm > limits[0]) & (self.ppm < limits[1])]

    @property
    def height(self) -> float:
        """Height of NAA, creatine and choline: the range of the data there, at least three times the noise."""
        lines = self.part(self.spectrum[slice(*self.window)], _HEIGHT_PPM)
        # The tail of water has little range there.
        return max(float(np.ptp(lines.real)) if lines.size else 0.0, 3 * self.noise_sd)


@lru_cache
def _thresholds() -> dict[str, float]:
    """Return the thresholds of the data file."""
    text = resources.files("fsl_mrs_dl").joinpath("data/artefacts.json").read_text(encoding="utf-8")
    return json.loads(text)["thresholds"]


# -- measures: one number each, high where there is the artefact -----------------------------------------


def water_height(one: FittedSpectrum) -> tuple[float, float]:
    """Return the height of residual water over that of metabolites, and its ppm; zero where the data end below 4
    ppm."""
    ppm = one.axes.ppm()
    near = (ppm > _WATER_PPM[0]) & (ppm < _WATER_PPM[1])
    if not near.any():
        return 0.0, np.nan
    size = np.abs(one.spectrum) * near
    return float(size.max() / one.height), float(ppm[size.argmax()])


def water_tail(one: FittedSpectrum) -> float:
    """Return the magnitude of the data in the highest 0.1 ppm of the window over the height of metabolites."""
    top = one.part(one.spectrum[slice(*one.window)], (one.ppm.max() - 0.1, np.inf))
    return float(np.abs(top).mean() / one.height)


def lipid_height(one: FittedSpectrum) -> tuple[float, float]:
    """Return the height of lipids at 1.15 to 1.45 ppm over their threshold, and its ppm.

    Fitted lipids are compared with metabolites, and the data, of any phase, with creatine and choline: a fit without
    lipids takes them for metabolites.
    """
    thresholds = _thresholds()
    data = np.abs(one.spectrum[slice(*one.window)]) / _highest(one, _CREATINE_CHOLINE_PPM) / thresholds["lipid_data"]
    if one.lipid_part is not None:
        data = np.maximum(data, one.lipid_part.real / one.height / thresholds["lipid_fit"])
    foreign = one.part(data, _LIPID_PPM)
    if not foreign.size:
        return 0.0, np.nan
    return float(foreign.max()), float(one.part(one.ppm, _LIPID_PPM)[foreign.argmax()])


def _highest(one: FittedSpectrum, limits: tuple[float, float]) -> float:
    """Return the largest magnitude of the data between two chemical shifts, at least three times the noise."""
    part = np.abs(one.part(one.spectrum[slice(*one.window)], limits))
    return max(float(part.max(initial=0.0)), 3 * one.noise_sd)


def macromolecule_height(one: FittedSpectrum) -> tuple[float, float]:
    """Return signal at 0.92 ppm, above that at 0.5 and 1.1 ppm, over the noise of its mean, and over the highest
    metabolite."""
    ppm = one.ppm
    if ppm.min() > 0.6 or ppm.max() < 1.2:
        return 0.0, 0.0
    foreign = (one.spectrum[slice(*one.window)] - one.metabolites).real
    line = np.exp(-4 * np.log(2) * ((ppm - 0.92) / 0.2) ** 2)
    near = (ppm > 0.5) & (ppm < 1.1)
    if near.sum() < 4:
        return 0.0, 0.0
    trend = np.stack([np.ones(near.sum()), ppm[near] - 0.92], 1)
    columns = np.concatenate([line[near, None], trend], 1)
    amplitude = np.linalg.lstsq(columns, foreign[near], rcond=None)[0][0]
    sd = one.noise_sd * np.sqrt(np.linalg.inv(columns.T @ columns)[0, 0])
    return float(amplitude / sd), float(amplitude / one.height)


def line_phase(one: FittedSpectrum) -> float:
    """Return the largest phase (rad) by which the lines of the data turn in the first 60 ms beyond a shift."""
    if np.isfinite(one.line_phase):
        return one.line_phase
    data = one.spectrum[slice(*one.window)] - one.baseline - one.others
    n = len(data)
    step = 1 / (n * one.axes.ppm_per_point * one.axes.spec_freq_mhz)
    product = np.fft.ifft(data) * np.fft.ifft(one.metabolites).conj()
    product = product[: n // 2]
    width = max(1, int(round(0.008 / step)))
    kernel = np.hanning(2 * width + 1)
    smooth = np.convolve(product, kernel)[width : width + len(product)]
    time = np.arange(len(product)) * step
    use = (time > 0.004) & (time < 0.06) & (np.abs(smooth) > 0.03 * np.abs(smooth).max())
    if use.sum() < 4:
        return 0.0
    return phase_beyond_shift(smooth[use], time[use])


def phase_beyond_shift(values: np.ndarray, time: np.ndarray) -> float:
    """Return the largest phase (rad) of complex ``values`` at ``time`` (s) beyond a constant and a shift."""
    angle, weight = np.unwrap(np.angle(values)), np.sqrt(np.abs(values))
    if not np.isfinite(angle).all() or not weight.any():
        return 0.0
    line = np.polyval(np.polyfit(time, angle, 1, w=weight), time)
    return float(np.abs(angle - line).max())


def singlet_phases(one: FittedSpectrum) -> dict[str, float]:
    """Return the phases (degrees) of strong singlets of the data against those of the fit, by name."""
    data, out = one.spectrum[slice(*one.window)] - one.baseline - one.others, {}
    for name, ppm in SINGLETS.items():
        near = np.abs(one.ppm - ppm) < 0.05
        fitted = one.metabolites[near]
        if near.sum() < 3 or np.abs(fitted).max() < 8 * one.noise_sd:
            continue
        out[name] = float(np.degrees(np.angle(np.vdot(fitted, data[near]))))
    return out


# -- artefacts -------------------------------------------------------------------------------------------


def artefacts_of(one: FittedSpectrum) -> list[Artefact]:
    """Return the artefacts of a fitted spectrum, the ones that matter most first."""
    strong = [artefact for artefact in (_residual_water(one), _lipid(one)) if artefact is not None]
    if strong:
        # Strong foreign lines leave residuals of every kind.
        detectors = [_place, _macromolecules]
    else:
        # A line with a phase of its own turns the mean line, too, and so do macromolecules that a fit has not.
        turned = _phase if _phase(one) else _eddy_currents
        detectors = [
            _place,
            _echo,
            _phase if _macromolecules(one) else turned,
            _macromolecules,
            _basis,
        ]
    return strong + [artefact for artefact in (detector(one) for detector in detectors) if artefact is not None]


def _residual_water(one: FittedSpectrum) -> Artefact | None:
    height, ppm = water_height(one)
    inside = ppm < one.ppm.max()
    tail = water_tail(one)
    if height < _thresholds()["water_height"] or not (inside or tail > _thresholds()["water_tail"]):
        return None
    where = "inside the fitted window" if inside else f"whose tail in the window is {tail:.1f} times as high as they"
    size = np.abs(one.spectrum[slice(*one.window)])
    window = below_tail(one.limits, one.ppm, size, _thresholds()["water_tail"] * one.height)
    lower = "" if window is None else f", or end the window lower ({window_in_words(window)})"
    return Artefact(
        "residual water",
        f"a line at {ppm:.2f} ppm, {height:.0f} times as high as the metabolites, {where}",
        f"remove it before the fit (fsl_mrs_dl run does; in FSL-MRS fsl_mrs_proc remove){lower}",
        window,
    )


def _lipid(one: FittedSpectrum) -> Artefact | None:
    above, ppm = lipid_height(one)
    if above < 1:
        return None
    height = np.abs(one.part(one.spectrum[slice(*one.window)], _LIPID_PPM)).max() / _highest(one, _CREATINE_CHOLINE_PPM)
    seen = f"a line at {ppm:.2f} ppm, {height:.1f} times as high as creatine and choline, of the scalp or a tumour"
    if one.edited:
        # A window without it makes total NAA no better: lipids have lines near 2 ppm, too.
        return Artefact("lipid", seen, "lipid of the scalp needs suppression in the scanner")
    has = "`mm` tumour has strong lipids"
    remedy = has if one.in_vivo else f"`spectral_model` in-vivo with {has}"
    return Artefact("lipid", seen, f"{remedy}; lipid of the scalp needs suppression in the scanner, or a smaller mask")


def _echo(one: FittedSpectrum) -> Artefact | None:
    if one.filtered:
        # Its edge cuts lines, and what remains of them looks like an echo.
        return None
    size, time, ppm = echo_size(one)
    if size < _thresholds()["echo_size" if one.in_vivo else "echo_size_fsl_mrs"]:
        return None
    returned = lines_that_return(one, time)
    if "NAA" in returned and len(returned) > 1:
        # The other two are so near to each other that a single echo is in both.
        return Artefact(
            "split lines",
            f"{' and '.join(returned)} return {1e3 * time:.0f} ms after the beginning, as two lines of nearly the same"
            " frequency do",
            "align transients before they are averaged (fsl_mrs_dl align); in the next scan look for movement and shim",
        )
    half = max(_ECHO_PPM, _ECHO_HZ / one.axes.spec_freq_mhz)
    window = window_without(one.limits, ppm - half, ppm + half)
    remedy = "no window leaves it out: it lies among the lines of metabolites, unless"
    if window is not None:
        remedy = f"leave it out of the window ({window_in_words(window)}), unless"
    return Artefact(
        "spurious echo",
        f"a signal near {ppm:.1f} ppm that begins {1e3 * time:.0f} ms late, {size:.0f} times the noise",
        f"{remedy} the basis set (`basis`) is of another echo time; in the next scan change crusher gradients or the"
        " order of the slices",
        window,
    )


def _eddy_currents(one: FittedSpectrum) -> Artefact | None:
    phase = line_phase(one)
    limit = _thresholds()["line_phase" if one.in_vivo else "line_phase_fsl_mrs"]
    if one.in_vivo:
        # An uneven field turns lines, too, and its frequencies grow with the main field.
        limit *= max(1.0, one.axes.spec_freq_mhz / _MHZ_3T)
    if one.has_water_reference or phase < limit:
        return None
    remedy = "`h2o` with unsuppressed water corrects both"
    if one.edited:
        remedy = "fsl_mrs_proc ecc corrects them before the fit"
    elif not one.in_vivo:
        remedy = "fsl_mrs_dl run with `h2o` corrects them, or `spectral_model` in-vivo with `h2o`"
    return Artefact(
        "eddy currents",
        f"lines turn by {np.degrees(phase):.0f} degrees in the first 60 ms: eddy currents, or an uneven field",
        remedy,
    )


def _macromolecules(one: FittedSpectrum) -> Artefact | None:
    if one.has_macromolecules:
        return None
    sure, height = macromolecule_height(one)
    if sure < _thresholds()["macromolecule_sds"] or height < _thresholds()["macromolecule_height"]:
        return None
    remedy = "leave `mm` none out" if one.in_vivo else "`spectral_model` in-vivo has them, or give `mm`"
    remedy = "`edit_mode` joint has them" if one.edited and not one.in_vivo else remedy
    return Artefact(
        "missing macromolecules",
        f"a broad line at 0.92 ppm, {height:.2f} of the highest metabolite, and the fit has no macromolecules",
        remedy,
    )


def _basis(one: FittedSpectrum) -> Artefact | None:
    if not one.own_shift_sd:
        return None
    name = max(one.own_shift_sd, key=lambda each: abs(one.own_shift_sd[each]))
    if abs(one.own_shift_sd[name]) < _thresholds()["own_shift_sd"]:
        return None
    of_model = is_macromolecule(name)  # lipids and macromolecules are not of the basis set
    return Artefact(
        "macromolecules or lipids unlike the model's" if of_model else "basis set unlike the data",
        f"lines of {name} had to move by {abs(one.own_shift_sd[name]):.1f} SDs",
        ("begin the window higher (`ppmlim`) and compare" if one.edited else "give measured ones (`mm`)")
        if of_model
        else "give a basis set (`basis`) of the same sequence, echo time and field",
    )


_MOST_LINES = 3  # that are named


def _place(one: FittedSpectrum) -> Artefact | None:
    """Return an artefact where lines with a shift or width of their own are nowhere near those of the others."""
    limits, moved = _thresholds(), {}
    for name, shift in one.own_shift_ppm.items():
        most = limits["own_shift_ppm_broad" if is_macromolecule(name) else "own_shift_ppm"]
        if abs(shift) > most:
            moved[name] = (abs(shift) / most, f"{name} moved by {shift:+.2f} ppm")
    for name, width in one.own_width_ppm.items():
        if width > limits["own_width_ppm"]:
            far, text = moved.get(name, (0.0, name))
            moved[name] = (max(far, width / limits["own_width_ppm"]), f"{text}, {width:.1f} ppm broader")
    if not moved:
        return None
    worst = sorted(moved.values(), reverse=True)
    more = f", and {len(worst) - _MOST_LINES} more" if len(worst) > _MOST_LINES else ""
    hold = "`metab_groups` without them" if one.groups_free else "a fit without `free_shift`"
    by_priors = f"{'`edit_mode` joint' if one.edited else '`spectral_model` in-vivo'} holds shifts by priors"
    return Artefact(
        "line out of its place",
        "; ".join(text for _, text in worst[:_MOST_LINES]) + more + ": they fit something else, and mean nothing",
        f"{hold} keeps them in place, or leave them out (`ignore`); {by_priors}",
    )


def _phase(one: FittedSpectrum) -> Artefact | None:
    if abs(one.phi1_deg_per_ppm) > _thresholds()["phi1_deg_per_ppm" if one.in_vivo else "phi1_deg_per_ppm_fsl_mrs"]:
        return Artefact(
            "first-order phase",
            f"{one.phi1_deg_per_ppm:.0f} degrees per ppm, more than a scanner's delay gives",
            "check for points that are missing before the echo, or superfluous ones (fsl_mrs_proc truncate)",
        )
    phases = singlet_phases(one)
    if len(phases) < 2 or np.ptp(list(phases.values())) < _thresholds()["singlet_phase_deg"]:
        return None
    low, high = (pick(phases, key=lambda each: phases[each]) for pick in (min, max))
    return Artefact(
        "phase that no spectrum of the basis set has",
        f"{high} has {phases[high] - phases[low]:.0f} degrees more than {low}",
        "give a basis set (`basis`) of the same sequence and echo time, refocusing pulses included, and check for"
        " points that are missing at the beginning of the FIDs",
    )


# -- before a fit ----------------------------------------------------------------------------------------


def mirrored(fids: np.ndarray, axes: Axes) -> Artefact | None:
    """Return an artefact where the signal of FIDs ``(n, n_points)`` lies on the wrong side of the carrier."""
    from ..io.basis import detect_conjugation

    if axes.nucleus != "1H" or not len(fids) or not detect_conjugation(fids, axes):
        return None
    return Artefact(
        MIRRORED,
        "the signal lies on the wrong side of water",
        "conjugate the FIDs (`conjfid` for files, fids.conj() for arrays)",
    )


def field_mismatch(names: Sequence[str], fids: np.ndarray, axes: Axes) -> Artefact | None:
    """Return an artefact where doublets of a basis set are not as far apart as its frequency demands.

    The methyl groups of lactate and alanine are weakly coupled: their lines are 6.9 and 7.2 Hz apart at any field
    (Govindaraju et al., doi 10.1002/1099-1492(200005)13:3<129::AID-NBM619>3.0.CO;2-V).

    Parameters
    ----------
    names : sequence of str
    fids : complex ndarray ``(n_metabs, n_points)``
        Basis FIDs.
    axes : Axes
        Of the basis set.
    """
    for name, ppm, splitting in (("Lac", 1.31, 6.93), ("Ala", 1.47, 7.23)):
        if name not in names or axes.nucleus != "1H":
            continue
        distance = _distance_of_lines(fids[list(names).index(name)], axes, ppm)
        if distance is None or abs(distance / splitting - 1) < _thresholds()["splitting"]:
            continue
        mhz = axes.spec_freq_mhz
        return Artefact(
            "wrong field of the basis set",
            f"the doublet of {name} is {distance:.1f} Hz wide, not {splitting:.1f}: it is of about"
            f" {mhz * splitting / distance:.0f} MHz, not {mhz:.0f}",
            "give a basis set (`basis`) of the field of the data",
        )
    return None


def _distance_of_lines(fid: np.ndarray, axes: Axes, ppm: float) -> float | None:
    """Return the distance in Hz of the two lines of a doublet near a chemical shift; None where they are not
    resolved."""
    n = 8 * len(fid)
    spectrum = np.abs(np.fft.fftshift(np.fft.fft(fid, n)))
    hz = np.fft.fftshift(np.fft.fftfreq(n, axes.dwelltime))
    near = np.abs(axes.hz_to_ppm(hz) - ppm) < 0.12
    part, hz = spectrum[near], hz[near]
    peaks = np.flatnonzero((part[1:-1] > part[:-2]) & (part[1:-1] >= part[2:])) + 1
    peaks = peaks[part[peaks] > 0.5 * part.max(initial=0.0)]
    if len(peaks) != 2 or part[peaks[0] : peaks[1]].min() > 0.9 * part[peaks].min():
        return None
    return float(hz[peaks[1]] - hz[peaks[0]])


def artefacts_before(fids: np.ndarray, basis, axes: Axes, echo_time_s: float | None) -> list[Artefact]:
    """Return artefacts that are there before a fit.

    Parameters
    ----------
    fids : complex ndarray ``(n, n_points)``
    basis : fsl_mrs_dl.io.basis.Basis
    axes : Axes
        Of the FIDs.
    echo_time_s : float, optional
        Of the data, in seconds.
    """
    finite = fids[np.isfinite(fids).all(-1) & (np.abs(fids).max(-1) > 0)]
    each = (
        mirrored(finite, axes),
        field_mismatch(basis.names, basis.fids, basis.axes),
        echo_time_mismatch(basis.echo_time_s, echo_time_s),
    )
    return [artefact for artefact in each if artefact is not None]


def echo_time_mismatch(basis_s: float | None, data_s: float | None) -> Artefact | None:
    """Return an artefact where the echo times of basis set and data, in seconds, differ by more than 2 ms."""
    if basis_s is None or data_s is None or abs(basis_s - data_s) <= 1e-3 * _thresholds()["echo_time_ms"]:
        return None
    return Artefact(
        "wrong echo time of the basis set",
        f"it is for {1e3 * basis_s:g} ms, the data have {1e3 * data_s:g} ms",
        "give a basis set (`basis`) of the same echo time, or correct `TE`",
    )


def fitted_spectrum(fit, row: int) -> FittedSpectrum:
    """Return one spectrum of a :class:`fsl_mrs_dl.fitting.quantification.Quantification`, turned upright."""
    from ..core.units import fid_to_spec

    first, last = fit.model.window
    axes = fit.model.axes
    rows = np.array([row])
    turn = fit.upright(rows)[0]
    parts = fit.metabolite_spectra(rows)[0] * turn[first:last]
    broad = np.array([is_macromolecule(name) for name in fit.names])
    phi1 = np.degrees(fit.block("phi1")[row, 0]) * axes.spec_freq_mhz
    return FittedSpectrum(
        axes=axes,
        window=(first, last),
        spectrum=fid_to_spec(fit.fids[row]) * turn,
        metabolites=parts[~broad].sum(0),
        others=parts[broad].sum(0),
        baseline=fit.spectra("baseline", rows)[0, first:last] * turn[first:last],
        noise_sd=float(fit.noise_outside_sd[row]),
        in_vivo=fit.model.name == "in-vivo",
        has_macromolecules=bool(broad.any()),
        phi1_deg_per_ppm=float(phi1),
        filtered=bool(filtered_noise(fid_to_spec(fit.fids[row])[None], axes)[0]),
        **fit.line_details(row),
    )
