"""The band that a filter left of spectra, and the window and options of a fit that keep to it.

Scanners and programs that suppress water and lipids by a filter take signals and noise beyond its band.  A fit takes
the emptied part for data without signals: metabolites, macromolecules and baseline are wrong there, and in the band
with it, while the residual is small.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..core.axes import Axes
from ..core.metabolites import is_macromolecule
from ..core.noise import noise_within, remaining_band
from ..core.units import fid_to_spec
from .artefacts import Artefact
from .in_vivo.result import InVivoFit
from .quantification import Quantification

__all__ = ["WHOLE", "Band", "band_of", "filter_artefact", "outside_of"]

_TOLERANCE = 0.1  # ppm that a window may reach beyond a band, whose edges are not known better
_LINES_PPM = (1.8, 3.4)  # NAA to choline: the highest lines
_LOWEST_PPM, _SIGNALS_PPM, _HIGHEST_PPM = 0.3, 1.5, 2.0  # where the lowest signal is looked for; macromolecules end
_STEP_PPM = 0.05
_TAIL_ORDER = 2  # of a polynomial, which tails of lines are but macromolecules and lipids are not
_LEAST_SIGNAL = 0.01  # over the highest line: macromolecules are 0.02 and more at short echo times
_LEAST_SHARE = 0.15  # of the energy of a metabolite's lines; less is a metabolite whose lines are outside
_MACROMOLECULES_PPM = 1.1  # without their line at 0.92 ppm they cannot be distinguished from metabolites
_MOST_SPECTRA = 64


@dataclass(frozen=True)
class Band:
    """Chemical shifts that a filter left.

    Attributes
    ----------
    low, high : float
        In ppm; infinite where nothing is missing.
    """

    low: float = -np.inf
    high: float = np.inf

    def lacks(self, ppmlim: tuple[float, float] | None) -> bool:
        """Tell whether a window reaches beyond the band; None is one of all frequencies."""
        first, last = (-np.inf, np.inf) if ppmlim is None else (min(ppmlim), max(ppmlim))
        return first < self.low - _TOLERANCE or last > self.high + _TOLERANCE

    def within(self, ppmlim: tuple[float, float]) -> tuple[float, float]:
        """Return the part of a window that the band holds."""
        return max(min(ppmlim), self.low), min(max(ppmlim), self.high)


WHOLE = Band()
"""The band of spectra that were not filtered."""


def band_of(fids: np.ndarray, axes: Axes) -> Band:
    """Return the band that a filter left of FIDs of one acquisition.

    It ends where the noise does.  Where a filter took the noise above, but not that below, and there is no signal below
    NAA either, signals were suppressed there, and the band begins below NAA.

    Parameters
    ----------
    fids : complex ndarray ``(n, n_points)``
        In the in-memory sign convention; rows of zeros or NaN do not count.
    axes : Axes
    """
    size = np.abs(fids).max(-1)
    fids = fids[np.isfinite(size) & (size > 0)]
    if not len(fids) or axes.nucleus != "1H":
        return WHOLE
    some = np.unique(np.linspace(0, len(fids) - 1, min(len(fids), _MOST_SPECTRA)).astype(int))
    spec = fid_to_spec(fids[some])
    low, high = remaining_band(spec, axes)
    if np.isfinite(high) and not np.isfinite(low):
        low = _lowest_signal(spec, axes)
    return Band(low, high)


def _lowest_signal(spec: np.ndarray, axes: Axes) -> float:
    """Return the chemical shift below which spectra ``(n, n_points)`` have only tails of lines; minus infinity where
    there are macromolecules or lipids."""
    ppm, noise = axes.ppm(), noise_within(spec, axes, (_LOWEST_PPM, _SIGNALS_PPM))
    lines = np.abs(spec[:, (ppm > _LINES_PPM[0]) & (ppm < _LINES_PPM[1])]).max(1)
    lowest = -np.inf
    for end in np.arange(_LOWEST_PPM + 0.5, _HIGHEST_PPM, _STEP_PPM).round(3):
        use = (ppm > _LOWEST_PPM) & (ppm < end)
        n = int(use.sum())
        if n < 2 * _TAIL_ORDER + 4:
            continue
        tails, _ = np.linalg.qr(np.vander(np.linspace(-1, 1, n), _TAIL_ORDER + 1))
        rest = spec[:, use] - (spec[:, use] @ tails) @ tails.T
        power = (np.abs(rest) ** 2).sum(1) / (2 * (n - _TAIL_ORDER - 1))
        signal = np.sqrt(np.clip(power - noise**2, 0, None)) / lines
        if np.median(signal) > _LEAST_SIGNAL:
            break
        lowest = float(end)
    return lowest if lowest >= _SIGNALS_PPM else -np.inf


def outside_of(band: Band, names: Sequence[str], fids: np.ndarray, axes: Axes) -> list[str]:
    """Return the metabolites whose lines in the usual window lie outside of a band.

    Parameters
    ----------
    band : Band
    names : sequence of str
    fids : complex ndarray ``(n_metabs, n_points)``
        Basis FIDs.
    axes : Axes
    """
    ppm, (low, high) = axes.ppm(), axes.usual_window or (-np.inf, np.inf)
    usual = (ppm >= low) & (ppm <= high)
    inside = usual & (ppm >= band.low) & (ppm <= band.high)
    # Lines of a basis set may be narrower than a point is wide.
    energy = np.abs(fid_to_spec(fids * np.exp(-5 * axes.time()))) ** 2
    with np.errstate(divide="ignore", invalid="ignore"):
        share = energy[:, inside].sum(1) / energy[:, usual].sum(1)
    return [name for name, one in zip(names, share) if one < _LEAST_SHARE and not is_macromolecule(name)]


def filter_artefact(fit: Quantification, band: Band) -> Artefact | None:
    """Return an artefact where the window of a fit reaches beyond a band, with the window and options that keep to
    it."""
    model = fit.model
    window = model.ppmlim or model.axes.usual_window
    if window is None or not band.lacks(model.ppmlim):
        return None
    low, high = band.within(window)
    remedy = f"keep to the band (`ppmlim` {low:g} {high:g}"
    if band.low > _MACROMOLECULES_PPM and any(map(is_macromolecule, fit.names)) and isinstance(fit, InVivoFit):
        remedy += ", `mm` none"
    without = outside_of(band, *_basis_of(fit), model.axes)
    remedy += f", `ignore` {' '.join(without)})" if without else ")"
    return Artefact(
        "filtered band", f"the fit takes {_left(window)}, of which a filter left {_left((low, high))}", remedy
    )


def _left(ppmlim: tuple[float, float]) -> str:
    return f"{min(ppmlim):g} to {max(ppmlim):g} ppm"


def _basis_of(fit: Quantification) -> tuple[list[str], np.ndarray]:
    """Return names and FIDs ``(n_metabs, n_points)`` of a fit's basis set."""
    if isinstance(fit, InVivoFit):
        components = fit.fitted_model.components
        return list(components.names), np.asarray(components.fids)
    return list(fit.names), fit.model.basis.cpu().numpy()
