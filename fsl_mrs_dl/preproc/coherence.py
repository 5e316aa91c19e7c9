"""Share of the signal that survives averaging, by region of the spectrum, before and after an alignment.

The coherence of transients is the energy of their mean over their mean energy, both without noise.  Products of
different transients have no noise in their mean: ``(|sum S|^2 - sum |S|^2) / (n (n - 1))`` is the energy of the mean,
0 on average for random phases and that of one transient for equal ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ..core.axes import Axes
from ..core.fids import acquired_points
from ..core.transients import apply_shift_phase, squared, transient_noise_sd
from ..registration.alignment import Alignment
from ..registration.nuisance_lines import NUISANCE_LINES
from ..registration.signal import nuisance_kinds

__all__ = [
    "SINGLETS",
    "Coherence",
    "Energies",
    "Regions",
    "energies",
    "fallen_singlets",
    "has_fallen",
    "lost_in_average",
    "measure_coherence",
    "measure_noise",
    "metabolites_fall",
    "regions_of",
    "rising_weight",
    "usable_transients",
]

SINGLETS = {"NAA": (1.85, 2.2), "creatine": (2.9, 3.13), "choline": (3.13, 3.35), "creatine CH2": (3.85, 4.05)}
"""Regions in ppm that metabolites' singlets own in brain."""

_RISE_S, _END_S = 0.025, 0.25  # smooth start and end of the FIDs where residual water is a nuisance
_AROUND_PPM = 2.0
_FALL = 1e-3  # of the coherent energy, from which it counts as fallen
_SURE = 2.0  # standard deviations
_LOST_SINGLET = 0.2  # of its coherent energy
_LOST_IN_AVERAGE = 0.1  # of the energy, from which transients count as scattered: by about 2 Hz or 20 degrees
_MOST_SETS = 16
_PRESENT = 5.0  # standard deviations, from which a region has coherent signal


@dataclass(frozen=True)
class Regions:
    """Regions of the spectrum that the coherence is measured in.

    Attributes
    ----------
    ppm : ndarray, shape (n_points,)
    window, owned : bool ndarray, shape (n_points,)
        The window without nuisance lines, and the part of it that metabolites' singlets own.
    named : dict
        Bool ndarrays by name: each singlet, and the rest of the window.
    weight : ndarray, shape (n_points,)
        Weight of the FIDs' points, as many as the spectra have.
    """

    ppm: np.ndarray
    window: np.ndarray
    owned: np.ndarray
    named: dict[str, np.ndarray]
    weight: np.ndarray


@dataclass(frozen=True)
class Energies:
    """Energies of the transients of one set by spectral point, in units of the channels' noise.

    Attributes
    ----------
    coherent, total : ndarray, shape (n_points,)
        Energy of the mean, and mean energy, both without that of noise.
    noise : float
        Energy of the noise of one transient in one point.
    n : int
        Transients.
    """

    coherent: np.ndarray
    total: np.ndarray
    noise: float
    n: int

    def share(self, inside: np.ndarray) -> float:
        """Return the coherence in a region, 0 to 1; NaN without signal."""
        total, coherent = self.total[inside].sum(), self.coherent[inside].sum()
        if not total > 3 * self.noise * np.sqrt(max(inside.sum(), 1) / self.n):
            return float("nan")
        return float(np.clip(coherent / total, 0, 1))

    def sd(self, inside: np.ndarray) -> float:
        """Return the standard deviation of the coherent energy of a region; signal that is not coherent counts as
        noise."""
        coherent = np.maximum(self.coherent[inside], 0)
        loose = self.noise + np.maximum(self.total[inside] - coherent, 0)
        return float(np.sqrt((2 * coherent * loose / self.n + (loose / self.n) ** 2).sum()))

    def present(self, inside: np.ndarray) -> bool:
        """Tell whether a region has coherent signal."""
        return bool(inside.any()) and self.coherent[inside].sum() > _PRESENT * self.sd(inside)


@dataclass(frozen=True)
class Coherence:
    """Coherence of one set before and after its alignment.

    Attributes
    ----------
    before, after : float
        In the window; NaN where there are no two transients, or no signal.
    by_region : dict
        Pairs (before, after) of each singlet and of the rest of the window, by name.
    fallen : bool
        Whether it fell, so that the set was not changed.
    """

    before: float
    after: float
    by_region: dict[str, tuple[float, float]]
    fallen: bool


def regions_of(
    fids: np.ndarray,
    axes: Axes,
    ppmlim: tuple[float, float] | None,
    *,
    late: bool = False,
    kinds: tuple[str, ...] | None = None,
) -> Regions:
    """Return the regions of a window.

    Parameters
    ----------
    fids : complex array, shape (..., n_points)
        They show whether the water is their signal, which has no regions but the window.
    axes : Axes
    ppmlim : (float, float) or None
    late : bool
        Count the end of FIDs in full, where echoes may be; otherwise they fall smoothly.
    kinds : tuple of str, optional
        Nuisance lines. Default: :func:`fsl_mrs_dl.registration.signal.nuisance_kinds`.
    """
    kinds = nuisance_kinds(torch.as_tensor(fids), axes, ppmlim) if kinds is None else kinds
    suppressed = "water" in kinds
    weight = rising_weight(axes, None if late else _END_S) if suppressed else np.ones(axes.n_points)
    axes = axes.with_points(len(weight))
    ppm = axes.ppm()
    first, last = axes.window(ppmlim)
    window, owned = np.zeros((2, len(ppm)), bool)
    window[first:last] = True
    for kind in kinds:
        low, high = NUISANCE_LINES[kind]["ppm"]
        window &= ~((ppm > low) & (ppm < high) & (kind == "water" or not late))
    named = {}
    if suppressed:
        named = {name: window & (ppm >= low) & (ppm < high) for name, (low, high) in SINGLETS.items()}
        named = {name: inside for name, inside in named.items() if inside.sum() > 1}
        for inside in named.values():
            owned |= inside
        named["rest"] = window & ~owned
    return Regions(ppm, window, owned, named, weight)


def energies(fids: np.ndarray, noise: np.ndarray, shift_hz, phase_deg, axes: Axes, regions: Regions) -> Energies:
    """Return the energies of transients with shifts and phases removed.

    Parameters
    ----------
    fids : complex array, shape (n_channels, n_transients, n_points)
    noise : ndarray, shape (n_channels, n_transients)
        As :func:`measure_noise` returns it.
    shift_hz, phase_deg : array, shape (n_transients,), or 0
    axes : Axes
    regions : Regions
    """
    n, weight = fids.shape[1], regions.weight
    usual = np.median(noise, axis=1)
    usual = np.maximum(usual, max(1e-9 * float(np.abs(fids[..., 0]).max()), np.finfo(float).tiny))
    scale = torch.as_tensor(weight / (usual[:, None, None] * np.sqrt((weight**2).sum())))
    # Single precision is enough here, and takes half the time.
    moved = (torch.as_tensor(fids[..., : len(weight)]) * scale).to(torch.complex64)
    shift, phase = (np.broadcast_to(np.asarray(x, float), n) for x in (shift_hz, phase_deg))
    if shift.any() or phase.any():
        moved = apply_shift_phase(moved, shift.copy(), phase.copy(), axes.dwelltime)
    spectra = torch.fft.fft(moved)
    each = squared(spectra).double().sum(1)
    coherent = (squared(spectra.sum(1).to(torch.complex128)) - each) / (n * (n - 1))
    of_noise = 2 * ((noise / usual[:, None]) ** 2).mean(1)
    total = each / n - torch.as_tensor(of_noise[:, None])
    coherent, total = (np.fft.fftshift(x.sum(0).numpy()) for x in (coherent, total))
    return Energies(coherent, total, float(of_noise.sum()), n)


def measure_noise(fids: np.ndarray, axes: Axes, ppmlim: tuple[float, float] | None) -> np.ndarray:
    """Return the noise SD per real and imaginary part of FIDs ``(..., n_points)``, ``(...)``.

    It is that around the window: receivers' filters take the noise from the ends of the spectrum.
    """
    spectra = torch.fft.fftshift(torch.fft.fft(torch.as_tensor(fids), norm="ortho"), dim=-1)
    if ppmlim is not None:
        ppm = axes.ppm()
        around = np.flatnonzero((ppm > min(ppmlim) - _AROUND_PPM) & (ppm < max(ppmlim) + _AROUND_PPM))
        spectra = spectra[..., around[0] : around[-1] + 1] if len(around) > 64 else spectra
    return transient_noise_sd(spectra).double().numpy()


def fallen_singlets(before: Energies, after: Energies, regions: Regions) -> list[str]:
    """Return the names of metabolites' singlets that lost much of their coherent energy.

    Lines of metabolites become coherent together.  Where one loses what others gain, the latter are not of metabolites.
    """
    out = []
    for name, inside in regions.named.items():
        if name != "rest" and before.present(inside):
            lost = before.coherent[inside].sum() - after.coherent[inside].sum()
            if lost > max(_LOST_SINGLET * before.coherent[inside].sum(), _PRESENT * before.sd(inside)):
                out.append(name)
    return out


def has_fallen(before: Energies, after: Energies, regions: Regions) -> bool:
    """Tell whether coherent energy has fallen: that of metabolites' singlets, all or one, where there are some, else of
    the window."""
    if fallen_singlets(before, after, regions):
        return True
    judged = regions.owned if before.present(regions.owned) or after.present(regions.owned) else regions.window
    old, new = before.coherent[judged].sum(), after.coherent[judged].sum()
    return bool(new < (1 - _FALL) * old - _SURE * _noise_sd(before, judged))


def measure_coherence(
    fids: np.ndarray, noise: np.ndarray, alignment: Alignment, axes: Axes, regions: Regions
) -> list[Coherence]:
    """Return the coherence of every set.

    Parameters
    ----------
    fids : complex array, shape (n_sets, n_channels, n_transients, n_points)
    noise : ndarray, shape (n_sets, n_channels, n_transients)
        As :func:`measure_noise` returns it.
    alignment : Alignment
        Of the same; outliers and failed transients are not counted.
    axes : Axes
    regions : Regions
    """
    unknown = Coherence(float("nan"), float("nan"), {}, False)
    out = []
    for index, one in enumerate(fids):
        used = usable_transients(alignment, index, one)
        if used.sum() < 2 or not regions.window.any():
            out.append(unknown)
            continue
        one, sd = one[:, used], noise[index][:, used]
        before = energies(one, sd, 0, 0, axes, regions)
        shift, phase = alignment.shift_hz[index, used], alignment.phase_deg[index, used]
        after = energies(one, sd, shift, phase, axes, regions)
        by_region = {
            name: (before.share(inside), after.share(inside))
            for name, inside in regions.named.items()
            if before.present(inside) or after.present(inside)
        }
        fallen = has_fallen(before, after, regions)
        out.append(Coherence(before.share(regions.window), after.share(regions.window), by_region, fallen))
    return out


def metabolites_fall(fids: np.ndarray, alignment: Alignment, axes: Axes) -> bool:
    """Tell whether an alignment on the water costs metabolites' singlets coherence in most sets that have some.

    Parameters
    ----------
    fids : complex array, shape (n_sets, n_channels, n_transients, n_points)
    alignment : Alignment
        Of the same.
    axes : Axes
    """
    ppmlim = axes.usual_window
    regions = regions_of(fids, axes, ppmlim, kinds=tuple(NUISANCE_LINES))
    noise = measure_noise(fids, axes, ppmlim)
    coherence = measure_coherence(fids, noise, alignment, axes, regions)
    known = [one.fallen for one in coherence if one.by_region.keys() - {"rest"}]
    return bool(known and np.mean(known) > 0.5)


def lost_in_average(fids: np.ndarray, axes: Axes) -> float:
    """Return the share of the energy of metabolites' singlets, else of the window, that an average of transients as
    they are loses because their frequencies and phases differ; 0 where it is not surely above a tenth.

    Parameters
    ----------
    fids : complex array, shape (n_sets, n_transients, n_points)
        The median of at most 16 sets counts.
    axes : Axes
    """
    ppmlim, lost = axes.usual_window, []
    fids = fids[..., : acquired_points(fids)]
    axes = axes.with_points(fids.shape[-1])
    for one in fids[np.unique(np.linspace(0, len(fids) - 1, min(len(fids), _MOST_SETS)).astype(int))]:
        one = one[np.isfinite(one).all(-1) & (one != 0).any(-1)]
        if len(one) < 2 or ppmlim is None:
            continue
        regions = regions_of(one[None], axes, ppmlim)
        measured = energies(one[None], measure_noise(one[None], axes, ppmlim), 0, 0, axes, regions)
        inside = regions.owned if measured.present(regions.owned) else regions.window
        total = measured.total[inside].sum()
        if measured.present(inside) and total > 0:
            share = measured.share(inside)
            lost.append(1 - share if share + 2 * measured.sd(inside) / total < 1 - _LOST_IN_AVERAGE else 0.0)
    return float(np.median(lost)) if lost else 0.0


def usable_transients(alignment: Alignment, index: int, fids: np.ndarray) -> np.ndarray:
    """Return which transients of a set count, ``(n_transients,)``: those that are neither outliers nor failed, or all
    finite ones where these are most."""
    finite = np.isfinite(fids).all((0, 2)) & (fids != 0).any((0, 2))
    good = finite & np.isin(alignment.flag[index], ("ok", "weak"))
    return good if good.sum() > finite.sum() / 2 else finite


def _noise_sd(one: Energies, inside: np.ndarray) -> float:
    coherent = np.maximum(one.coherent[inside], 0)
    return float(np.sqrt((2 * coherent * one.noise / one.n + (one.noise / one.n) ** 2).sum()))


def rising_weight(axes: Axes, end_s: float | None = None) -> np.ndarray:
    """Return a weight of FIDs that rises smoothly, and falls to 0 at ``end_s`` if that is given, ``(n,)``.

    A smooth rise takes the tails from lines, so that residual water stays at its place.
    """
    n = axes.n_points if end_s is None else min(axes.n_points, int(end_s / axes.dwelltime))
    t = (np.arange(n) + 0.5) * axes.dwelltime
    rise = np.sin(0.5 * np.pi * np.clip(t / _RISE_S, 0, 1)) ** 2
    if end_s is None:
        return rise
    return rise * np.cos(0.5 * np.pi * np.clip((t - _RISE_S) / (n * axes.dwelltime - _RISE_S), 0, 1)) ** 2
