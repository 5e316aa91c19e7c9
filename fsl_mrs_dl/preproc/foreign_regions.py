"""Regions of the spectrum that pull an alignment though metabolites do not own them.

A spurious echo, or lipids, of random phase in every transient can hold more energy than the metabolites.  An alignment
then lines up those, and the metabolites gain nothing.  Such a region shows in the coherence: it rises by far more than
that of metabolites' singlets.  The alignment is repeated without the region, and the repeat is kept if the region is
less coherent and the metabolites are not.

A weaker signal of that kind only pulls.  It shows in aligned transients as energy that their mean lacks, and the repeat
is kept if metabolites are more coherent by it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from ..core.axes import Axes
from ..registration.alignment import Alignment
from ..registration.nuisance_lines import NUISANCE_LINES
from .coherence import SINGLETS, Energies, Regions, energies, fallen_singlets, has_fallen, regions_of, usable_transients

__all__ = ["ForeignRegion", "align_without_foreign_regions", "foreign_regions"]

_STEP_PPM = 0.1
_SURE = 5.0  # standard deviations that the coherent energy of a foreign region rises by
_LIKELY = 3.0  # the same for its neighbours
_LEAST_RISE = 0.1  # of the coherence
_TIMES = 2.5  # that the coherence rises more than that of the singlets
_OFFSET = 0.05  # of the coherence, so that a rise from next to nothing is not all the proof
_MOST_REPEATS = 3  # without regions that only pull
_ENOUGH_COHERENCE = 0.99  # of singlets, above which nothing pulls
_LEAST_ECHO, _WEAKEST_ECHO = 4.0, 0.1  # rise of the power after its fall, and its height over the beginning's
_ECHO_TRANSIENTS = 48  # in which echoes are looked for
_SMOOTH_S, _GATE_S = 0.01, 0.03
_EDGE, _WIDEST_PPM = 0.02, 0.35  # power at the edge of an echo over that at its middle, and most of its half width
_ECHO_S = 0.03  # an echo is highest later than this
_LOOSE = 0.5  # of a region's energy that the mean lacks, where signal pulls the alignment
_ALIGNED = 0.5  # coherence of singlets; if it is lower all of the spectrum may be incoherent
_LEAST_LOOSE = 0.02  # of the singlets' energy, that it lacks in all such regions
_LOST = 2e-3  # of the singlets' coherent energy that a repeat may lose
_MOST_KEPT = 0.5  # of the rise of a foreign region's coherent energy that may remain in a repeat
_ENOUGH = 256  # transients, spread evenly, that foreign regions are looked for in
_MOST_SETS = 64  # in files of more sets the search would take longer than the alignment


@dataclass(frozen=True)
class ForeignRegion:
    """A region that metabolites do not own.

    Attributes
    ----------
    low, high : float
        Limits in ppm.
    echo_s : float, optional
        Time of the highest signal, where that comes after the beginning of the FID.
    """

    low: float
    high: float
    echo_s: float | None = None

    def __str__(self) -> str:
        lipids = NUISANCE_LINES["lipids"]["ppm"]
        what = "signal that moves unlike the metabolites"
        if self.echo_s is not None:
            what = f"spurious echo, highest {self.echo_s:.2f} s after the first point"
        elif self.low < lipids[1] and self.high > lipids[0]:
            what = "lipids"
        return f"{self.low:.1f} to {self.high:.1f} ppm ({what})"


def foreign_regions(
    fids: np.ndarray, noise: np.ndarray, shift_hz: np.ndarray, phase_deg: np.ndarray, axes: Axes, regions: Regions
) -> list[ForeignRegion]:
    """Return the regions of one set that became coherent though metabolites do not own them.

    Parameters
    ----------
    fids : complex array, shape (n_channels, n_transients, n_points)
    noise : ndarray, shape (n_channels, n_transients)
    shift_hz, phase_deg : ndarray, shape (n_transients,)
        Of the alignment.
    axes : Axes
    regions : Regions
        With ``late`` ends of the FIDs.
    """
    before = energies(fids, noise, 0, 0, axes, regions)
    after = energies(fids, noise, shift_hz, phase_deg, axes, regions)
    regions = _believed(before, after, regions)
    if not (before.present(regions.owned) or after.present(regions.owned)):
        return []
    usual = _rise(before, after, regions.owned)
    edges, bins = _bins(regions)
    sure, likely = [], []
    for inside in bins:
        size, sd = 0.0, before.sd(inside) if inside.any() else 0.0
        if inside.any():
            size = after.coherent[inside].sum() - before.coherent[inside].sum()
        risen = sd > 0 and size > _LIKELY * sd
        likely.append(risen and _rise(before, after, inside) > 1.5 * usual)
        sure.append(
            risen
            and size > _SURE * sd
            and _coherence(after, inside) - _coherence(before, inside) > _LEAST_RISE
            and _rise(before, after, inside) > _TIMES * usual
        )
    out = []
    for start, end in _runs(np.array(likely) | np.array(sure)):
        if any(sure[start:end]):
            low, high = (round(float(edge), 2) for edge in edges[[start, end]])
            out.append(ForeignRegion(low, high, _echo_time(fids, axes, low, high)))
    return out


def _believed(before: Energies, after: Energies, regions: Regions) -> Regions:
    """Return the regions without singlets that became coherent while others lost their coherence: those lie under
    signal that is not of metabolites."""
    fallen = fallen_singlets(before, after, regions)
    if not fallen:
        return regions
    owned = np.any([regions.named[name] for name in fallen], axis=0)
    return replace(regions, owned=owned)


def _bins(regions: Regions) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return limits in ppm, and the points between each and the next that metabolites' singlets do not own."""
    first, last = regions.ppm[regions.window][[0, -1]]
    edges = np.arange(np.floor(first / _STEP_PPM), np.ceil(last / _STEP_PPM) + 1) * _STEP_PPM
    free = regions.window & ~regions.owned
    return edges, [free & (regions.ppm >= low) & (regions.ppm < low + _STEP_PPM) for low in edges[:-1]]


def _loosest_region(fids: np.ndarray, noise, shift_hz, phase_deg, axes: Axes, regions: Regions) -> ForeignRegion | None:
    """Return the region of one set that the mean of the aligned transients lacks most energy of; None where it lacks
    none that could pull them.

    Arguments are those of :func:`foreign_regions`.
    """
    after = energies(fids, noise, shift_hz, phase_deg, axes, regions)
    if _coherence(after, regions.owned) < _ALIGNED:
        return None
    lipids = NUISANCE_LINES["lipids"]["ppm"]  # which the registration removes
    edges, bins = _bins(regions)
    lacks = [0.0] * len(bins)
    for k, inside in enumerate(bins):
        if inside.any() and not (edges[k] < lipids[1] and edges[k + 1] > lipids[0]):
            total = after.total[inside].sum()
            lack = total - max(after.coherent[inside].sum(), 0.0)
            if lack > max(_SURE * after.noise * np.sqrt(inside.sum() / after.n), _LOOSE * total):
                lacks[k] = float(lack)
    runs = _runs(np.array(lacks) > 0.05 * max(lacks))
    least = _LEAST_LOOSE * after.total[regions.owned].sum()
    start, end = max(runs, key=lambda run: sum(lacks[slice(*run)]), default=(0, 0))
    if not sum(lacks[start:end]) > least:
        return None
    low, high = (round(float(edge), 2) for edge in edges[[start, end]])
    return ForeignRegion(low, high, _echo_time(fids, axes, low, high))


def align_without_foreign_regions(
    fids: np.ndarray,
    noise: np.ndarray,
    alignment: Alignment,
    axes: Axes,
    ppmlim: tuple[float, float] | None,
    groups: np.ndarray,
    repeat: Callable[[int, tuple], Alignment],
) -> tuple[Alignment, dict[int, tuple[ForeignRegion, ...]]]:
    """Repeat the alignment of sets in which a foreign region became coherent, without that region.

    Parameters
    ----------
    fids : complex array, shape (n_sets, n_channels, n_transients, n_points)
    noise : ndarray, shape (n_sets, n_channels, n_transients)
        As :func:`fsl_mrs_dl.preproc.coherence.measure_noise` returns it.
    alignment : Alignment
        Of the same.
    axes : Axes
    ppmlim : (float, float) or None
    groups : ndarray of int, shape (n_sets,)
        Sets of the same number, conditions of one voxel, are aligned without the regions of all of them.
    repeat : callable
        Number of a set and ranges in ppm to its :class:`Alignment` without these, of one set.

    Returns
    -------
    (Alignment, dict)
        And the regions that sets were aligned without, by number of the set.
    """
    regions, early = regions_of(fids, axes, ppmlim, late=True), regions_of(fids, axes, ppmlim)
    if len(fids) > _MOST_SETS or not regions.owned.any():
        return alignment, {}
    by_group: dict[int, list[ForeignRegion]] = {}
    for index, one in enumerate(fids):
        used = usable_transients(alignment, index, one)
        if used.sum() > 2:
            every = np.flatnonzero(used)
            used = every[np.linspace(0, len(every) - 1, min(len(every), _ENOUGH)).astype(int)]
            shift, phase = alignment.shift_hz[index, used], alignment.phase_deg[index, used]
            by_group.setdefault(int(groups[index]), []).extend(
                foreign_regions(one[:, used], noise[index][:, used], shift, phase, axes, regions)
            )
    left_out = {}
    for index, one in enumerate(fids):
        used = usable_transients(alignment, index, one)
        if used.sum() > 2:
            trials = _Trials(one[:, used], noise[index][:, used], used, axes, regions, early, partial(repeat, index))
            best, without = trials.without_risen(alignment.sets([index]), _joined(by_group.get(int(groups[index]), [])))
            best, without = trials.without_pulling(best, without)
            if without:
                alignment, left_out[index] = alignment.with_sets([index], best), without
    return alignment, left_out


@dataclass(frozen=True)
class _Trials:
    """Alignments of one set without regions, which are kept only if metabolites are no less coherent.

    Attributes
    ----------
    fids : complex array, shape (n_channels, n_used, n_points)
    noise : ndarray, shape (n_channels, n_used)
    used : bool ndarray, shape (n_transients,)
    axes : Axes
    regions, early : Regions
        With late ends of the FIDs, and without.
    repeat : callable
        Ranges in ppm to the :class:`Alignment` without these, of one set.
    """

    fids: np.ndarray
    noise: np.ndarray
    used: np.ndarray
    axes: Axes
    regions: Regions
    early: Regions
    repeat: Callable[[tuple], Alignment]

    def moves(self, alignment: Alignment) -> tuple[np.ndarray, np.ndarray]:
        """Return the shifts and phases of the transients that are used."""
        return alignment.shift_hz[0, self.used], alignment.phase_deg[0, self.used]

    def measured(self, where: Regions, alignment: Alignment | None = None) -> Energies:
        """Return the energies of aligned transients, or of those as they are."""
        if alignment is None:
            return energies(self.fids, self.noise, 0, 0, self.axes, where)
        return energies(self.fids, self.noise, *self.moves(alignment), self.axes, where)

    def again(self, without: tuple[ForeignRegion, ...]) -> Alignment:
        """Return the alignment without regions."""
        return self.repeat(tuple((region.low, region.high) for region in without))

    def without_risen(self, alignment: Alignment, without) -> tuple[Alignment, tuple[ForeignRegion, ...]]:
        """Return the alignment without regions that became coherent, and these, if they are less coherent by it."""
        if not without:
            return alignment, ()
        again = self.again(without)
        foreign = np.any([(self.regions.ppm >= one.low) & (self.regions.ppm < one.high) for one in without], axis=0)
        before, old, new = (
            self.measured(self.regions, one).coherent[foreign].sum() for one in (None, alignment, again)
        )
        # Metabolites' lines become as coherent without being compared.
        less = new < before + _MOST_KEPT * (old - before)
        # Late in the FID an echo may reach into the region of a singlet.
        start, old, new = (self.measured(self.early, one) for one in (None, alignment, again))
        owned = _believed(start, old, self.early).owned
        if less and new.coherent[owned].sum() >= (1 - _LOST) * old.coherent[owned].sum():
            return again, without
        return alignment, ()

    def without_pulling(self, alignment: Alignment, left_out) -> tuple[Alignment, tuple[ForeignRegion, ...]]:
        """Return the alignment without regions that pull it, and all that are left out, if metabolites gain."""
        for _ in range(_MOST_REPEATS):
            if (
                _coherence(self.measured(self.early, alignment), _without(self.early, left_out).owned)
                > _ENOUGH_COHERENCE
            ):
                break
            loose = _loosest_region(self.fids, self.noise, *self.moves(alignment), self.axes, self.regions)
            for region in filter(None, (loose, _echo_region(self.fids, self.axes, self.regions))):
                without = _joined([*left_out, region])
                judged = _without(self.early, without)
                if without == left_out or not judged.owned.any():
                    continue
                again = self.again(without)
                if has_fallen(self.measured(self.early, again), self.measured(self.early, alignment), judged):
                    alignment, left_out = again, without
                    break
            else:
                break
        return alignment, left_out


def _without(regions: Regions, left_out) -> Regions:
    """Return the regions with less of what metabolites own: singlets that a region which was left out covers."""
    covered = np.zeros_like(regions.owned)
    for region in left_out:
        covered |= (regions.ppm >= region.low) & (regions.ppm < region.high)
    named = {name: inside for name, inside in regions.named.items() if (inside & covered).sum() < 0.5 * inside.sum()}
    owned = np.any([np.zeros_like(covered), *(named[name] for name in named if name != "rest")], axis=0)
    return replace(regions, owned=owned, named=named)


def _echo_region(fids: np.ndarray, axes: Axes, regions: Regions) -> ForeignRegion | None:
    """Return the region of one set whose signal rises most after it has fallen; None where none does.

    Beats of neighbouring lines do, too, so that it is a candidate only.

    Parameters
    ----------
    fids : complex array, shape (n_channels, n_transients, n_points)
    axes : Axes
    regions : Regions
    """
    fids = fids[:, np.unique(np.linspace(0, fids.shape[1] - 1, min(fids.shape[1], _ECHO_TRANSIENTS)).astype(int))]
    edges, bins = _bins(regions)
    limits = [*SINGLETS.values(), *((edges[k], edges[k + 1]) for k, inside in enumerate(bins) if inside.any())]
    best, most = None, _LEAST_ECHO
    for low, high in limits:
        power = _power_over_time(fids, axes, low, high)
        power = power[: int(0.9 * len(power))]
        floor = 2 * np.median(power[len(power) // 2 :])
        late = slice(int(_ECHO_S / axes.dwelltime), None)
        rise = power[late] / (np.minimum.accumulate(power)[late] + floor)
        at = int(rise.argmax())
        if rise[at] > most and power[late][at] > _WEAKEST_ECHO * power[0]:
            width = max(1, int(_SMOOTH_S / axes.dwelltime))
            best, most = (low, high, (at + late.start + width / 2) * axes.dwelltime), rise[at]
    if best is None:
        return None
    low, high, echo_s = best
    gate = np.exp(-0.5 * ((axes.time() - echo_s) / _GATE_S) ** 2)
    power = (np.abs(np.fft.fftshift(np.fft.fft(fids * gate, axis=-1), axes=-1)) ** 2).sum((0, 1))
    near = np.flatnonzero((regions.ppm >= low - _STEP_PPM) & (regions.ppm <= high + _STEP_PPM))
    top = near[power[near].argmax()]
    weak = power < _EDGE * power[top]
    first, last = (np.flatnonzero(part) for part in (weak[:top], weak[top:]))
    first, last = regions.ppm[first[-1] if len(first) else 0], regions.ppm[top + last[0] if len(last) else -1]
    middle = regions.ppm[top]
    first, last = max(first, middle - _WIDEST_PPM), min(last, middle + _WIDEST_PPM)
    return ForeignRegion(round(float(first), 2), round(float(last), 2), echo_s)


def _coherence(one: Energies, inside: np.ndarray) -> float:
    share = one.share(inside)
    return share if share == share else 0.0


def _rise(before: Energies, after: Energies, inside: np.ndarray) -> float:
    """Return how many times the coherence of a region has risen."""
    return (_coherence(after, inside) + _OFFSET) / (_coherence(before, inside) + _OFFSET)


def _runs(flags: np.ndarray) -> list[tuple[int, int]]:
    """Return the first and one past the last index of every run of True."""
    steps = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(int)))
    return list(zip(steps[::2].tolist(), steps[1::2].tolist()))


def _power_over_time(fids: np.ndarray, axes: Axes, low: float, high: float) -> np.ndarray:
    """Return the power of a region over time, smoothed, summed over channels and transients, ``(n,)``."""
    spectra, ppm = np.fft.fftshift(np.fft.fft(fids, axis=-1), axes=-1), axes.ppm()
    middle, half = (low + high) / 2, max(high - low, 0.2) / 2
    window = np.clip(1 - np.abs(ppm - middle) / (2 * half), 0, 1)  # a triangle, whose FID does not ring
    power = (np.abs(np.fft.ifft(np.fft.ifftshift(spectra * window, axes=-1), axis=-1)) ** 2).sum((0, 1))
    width = max(1, int(_SMOOTH_S / axes.dwelltime))
    return np.convolve(power[: len(power) // 2 * 2], np.ones(width) / width, mode="valid")


def _echo_time(fids: np.ndarray, axes: Axes, low: float, high: float) -> float | None:
    """Return when the signal of a region is highest, in seconds; None where that is the beginning of the FID."""
    power = _power_over_time(fids, axes, low, high)
    highest = int(power[: int(0.9 * len(power))].argmax())
    late = highest * axes.dwelltime > _ECHO_S and power[highest] > 2 * power[0]
    return (highest + max(1, int(_SMOOTH_S / axes.dwelltime)) / 2) * axes.dwelltime if late else None


def _joined(regions: list[ForeignRegion]) -> tuple[ForeignRegion, ...]:
    """Return regions in order, those that overlap or touch as one."""
    out: list[ForeignRegion] = []
    for region in sorted(regions, key=lambda one: one.low):
        if out and region.low <= out[-1].high:
            last = out[-1]
            echo = last.echo_s if last.echo_s is not None else region.echo_s
            out[-1] = ForeignRegion(last.low, max(last.high, region.high), echo)
        else:
            out.append(region)
    return tuple(out)
