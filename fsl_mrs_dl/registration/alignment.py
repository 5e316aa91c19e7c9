"""Frequency and phase correction of transients by the maximum of the registration likelihood.

One transient is modelled as ``amplitude * exp(1j * (2 pi shift_hz t + phase)) * reference(t)`` plus white noise, where
``t`` starts at 0 at the first point (phases are those of the first point).  The correction is the inverse, ``fid *
exp(-1j * (2 pi shift_hz t + phase))``.  A positive ``shift_hz`` is a transient whose peaks lie at higher ppm than those
of the reference.

Spectral registration (Near et al. 2015, doi:10.1002/mrm.25094) minimises over shift, phase and amplitude ::

    sum over channels and over the points of the ppm window of  |S_k - amplitude * exp(1j * phase) * R_k(shift)|^2

with ``S`` the untouched spectrum of the transient and ``R(shift)`` that of the reference, shifted before the window is
cut.  The window of the data never moves, so signal outside of it (water) has no influence, and with a noise-free
reference the minimum is the maximum-likelihood estimate.  Phase and amplitude are solved in closed form, which leaves
one unknown: maximise ``|C(shift)|^2 / E(shift)``, where ``C = sum S_k conj(R_k)`` and ``E = sum |R_k|^2``.  Both are
Fourier sums over time points of vectors that do not depend on the shift.  Hence two short FFTs search the whole range,
a few Newton steps finish it, and any number of coils costs no more than one.  An optional complex polynomial baseline
in the window is solved in closed form as well (compare RATS, Wilson 2019, doi:10.1002/mrm.27605).

Residual water and lipids often change from one transient to the next, and bias the result.  Their places and widths are
known, their strengths are not.  So the noise is not white but has a covariance ``1 + tau^2 N``, with ``N`` that of
lines drawn from those places and widths, and ``tau`` estimated from the residuals of the aligned transients: the
inverse covariance takes the place of the window in all sums above.  Where nothing is unstable ``tau`` is 0 and
everything in the window counts; where it is large the subspace of those lines is projected out.

Without an external reference the reference is the weighted mean of the aligned transients, built iteratively.  Each
transient is compared with the mean of the others: its own noise in the mean would pull its shift to zero.  Only a band
of the spectrum matters, the window and as far around it as shifts reach, so that the transients are stored as the short
FIDs of that band until the iteration has converged (:mod:`fsl_mrs_dl.registration.solver`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import numpy as np
import torch

from ..core.axes import Axes
from ..core.errors import DataError, OptionError
from ..core.parallel import thread_map
from ..core.transients import apply_shift_phase
from .nuisance_lines import NUISANCE_LINES
from .reference import suppress_late_noise
from .signal import nuisance_kinds
from .solver import Search, Solver
from .transients import BYTES_PER_POINT, Transients
from .window import make_band, make_window, whole_band

__all__ = ["Alignment", "align_transients"]

_MIN_POINTS = 16


@dataclass(frozen=True, repr=False)
class Alignment:
    """Estimates for every transient; ``...`` is ``(n_sets,)`` for four-dimensional input and nothing otherwise.

    Attributes
    ----------
    shift_hz, phase_deg : ndarray, shape (..., n_transients)
        Offset of the transient relative to the reference; positive shifts lie towards higher ppm. Phase at the first
        point.
    shift_sd_hz, phase_sd_deg : ndarray, shape (..., n_transients)
        Standard deviations from the Fisher information of shift, phase and amplitude, with the noise taken from the
        residual (it therefore includes the noise of the reference). NaN where the transient failed.
    amplitude : ndarray, shape (..., n_transients)
        Amplitude relative to the reference.
    similarity : ndarray, shape (..., n_transients)
        Correlation of the aligned transient with the mean of the others (or the external reference) in the window, -1
        to 1.
    weight : ndarray, shape (..., n_transients)
        Weight for averaging, 0 to 1: inverse residual variance, 0 for outliers and failed transients.
    flag : ndarray of str, shape (..., n_transients)
        'ok', 'weak' (too little signal to be found alone: searched near its neighbours, or not found), 'outlier'
        (residual, noise or amplitude far from the others', or shift at the end of the search range), 'failed' (zero,
        not finite, or zero at the beginning where others are not: untouched).
    reason : ndarray of str, shape (..., n_transients)
        Why a transient is an outlier: 'residual', 'noise', 'amplitude', 'range' or 'spikes'; empty for others.
    reference : ndarray, shape (..., n_channels, n_points)
        The reference that shifts and phases refer to.
    n_iterations : int
        Passes over the data.
    dwelltime : float
        Seconds between points.
    """

    shift_hz: np.ndarray
    phase_deg: np.ndarray
    shift_sd_hz: np.ndarray
    phase_sd_deg: np.ndarray
    amplitude: np.ndarray
    similarity: np.ndarray
    weight: np.ndarray
    flag: np.ndarray
    reason: np.ndarray
    reference: np.ndarray
    n_iterations: int
    dwelltime: float

    def __repr__(self) -> str:
        return f"<Alignment of {self.flag.size} transients, {(self.flag == 'ok').sum()} of them ok>"

    def sets(self, index) -> Alignment:
        """Return the alignment of some sets, numbers or bool ``(n_sets,)``."""
        values = {part.name: getattr(self, part.name) for part in fields(self)}
        return replace(self, **{k: value[index] for k, value in values.items() if isinstance(value, np.ndarray)})

    def with_sets(self, sets, other: Alignment) -> Alignment:
        """Return the alignment with the estimates of some sets, numbers or bool ``(n_sets,)``, from another one of
        those."""
        values = {}
        for part in fields(self):
            value = getattr(self, part.name)
            if isinstance(value, np.ndarray):
                value = value.copy()
                value[sets] = getattr(other, part.name)
                values[part.name] = value
        passes = max(self.n_iterations, other.n_iterations)
        return replace(self, n_iterations=passes, dwelltime=self.dwelltime, **values)

    def with_points(self, n_points: int) -> Alignment:
        """Return the alignment of several sets with references that are filled with zeros to ``n_points``."""
        zeros = n_points - self.reference.shape[-1]
        return replace(self, reference=np.pad(self.reference, ((0, 0), (0, 0), (0, zeros))))

    def apply(self, fid):
        """Return corrected FIDs; ``fid`` has the shape that was aligned, or lacks the channel axis, or has other
        channels.

        Raises
        ------
        DataError
            If the transients of ``fid`` are not those that were aligned.
        """
        shift, phase = self.shift_hz, self.phase_deg
        if fid.ndim < 2 or fid.shape[-2] != shift.shape[-1]:
            raise DataError(
                f"FIDs of shape {tuple(fid.shape)}: {shift.shape[-1]} transients were aligned",
                remedy="give (..., n_transients, n_points)",
            )
        if shift.ndim == 2:
            if fid.shape[0] != shift.shape[0]:
                raise DataError(
                    f"FIDs of shape {tuple(fid.shape)}: {shift.shape[0]} sets were aligned", remedy="put the sets first"
                )
            between = (1,) * (fid.ndim - 3)
            shift = shift.reshape(shift.shape[0], *between, shift.shape[1])
            phase = phase.reshape(shift.shape)
        return apply_shift_phase(fid, shift, phase, self.dwelltime)


def align_transients(
    fid,
    axes: Axes,
    *,
    ppmlim: tuple[float, float] | None = (0.2, 4.2),
    reference=None,
    exact_reference: bool = False,
    proposal: str | Callable | tuple = "classical",
    proposal_error_hz: float = 8.0,
    max_shift_hz: float | None = None,
    taper_ppm: float = 0.0,
    baseline_order: int | None = None,
    unstable: tuple[str, ...] | None = None,
    exclude: tuple[tuple[float, float], ...] = (),
    n_iter: int = 12,
    device: str | torch.device | None = None,
    precision: str = "double",
    max_memory: float = 1e9,
) -> Alignment:
    """Find shift and phase of every transient.

    Channels (coils that are not combined yet) share one shift and phase per transient; each has its own reference, so
    that constant gains do not matter, and counts with its inverse noise variance (its correlation with other channels
    is not taken into account).  Sets (sub-spectra of edited data, voxels) are independent.  Without ``reference`` the
    mean shift of the transients flagged 'ok' is 0, and so is the circular mean of their phases: the average of the
    aligned transients stays where the input's was.

    Parameters
    ----------
    fid : complex array, (n_transients, n_points), with n_channels or (n_sets, n_channels) before
    axes : Axes
        Of the FIDs, whose number of points counts.
    ppmlim : (float, float) or None
        Part of the spectrum that is compared; None takes everything.
    reference : complex array, (n_points,), (n_channels, n_points) or (n_sets, n_channels, n_points), optional
        External reference; by default it is built from the transients.
    exact_reference : bool
        Whether the external reference is all signal; otherwise its late points are scaled down by its noise.
    proposal : 'classical', callable, or pair of arrays
        'classical' searches the whole range for the highest likelihood.  A callable takes the FIDs as a complex tensor
        (n_sets, n_channels, n_transients, n_points) and returns ``(shift_hz, phase_deg)``, each (n_sets, n_transients),
        relative to any reference common to a set (the external one if given); or give that pair.
    proposal_error_hz : float
        Half width of the search around proposals.
    max_shift_hz : float, optional
        Half width of the search of the whole range. Default: 0.35 ppm, at least 40 Hz.
    taper_ppm : float
        Width of a cosine taper inside either edge of the window; default none, which is the exact window.
    baseline_order : int, optional
        Order of the complex polynomial over the window that may differ in every transient. Default: none.
    unstable : tuple of {'water', 'lipids'}, optional
        Lines that may differ in every transient. Default: :func:`fsl_mrs_dl.registration.signal.nuisance_kinds`.
    exclude : tuple of (float, float)
        Ranges in ppm inside the window that are not compared.
    n_iter : int
        Most passes over the data (at least two are made); fewer once no transient moves by more than 0.01 of its SD.
    device : str or torch.device, optional
        Default: that of ``fid``.
    precision : 'double' or 'single'
    max_memory : float
        Bytes of working memory to stay below, roughly; without effect on the result.

    Raises
    ------
    DataError
        Wrong shape, not complex, or nothing finite in the data.
    OptionError
        A window outside the axis, or an impossible dwell time, range, proposal or precision.
    """
    options = _Options(
        ppmlim, taper_ppm, baseline_order, unstable, tuple(exclude), max_shift_hz, n_iter, precision, max_memory
    )
    fids, lead = _as_four_dimensional(fid, device)
    axes = axes.with_points(fids.shape[-1])
    options.check(axes)
    external = None if reference is None else _as_reference(reference, fids)
    if external is not None and not exact_reference:
        external = suppress_late_noise(external, fids, axes, ppmlim)
    pair = _as_pair(proposal, fids)
    return _collect(_solve(fids, axes, options, external, pair, proposal_error_hz), lead, axes, external)


@dataclass(frozen=True)
class _Options:
    """Options of :func:`align_transients`: the points that are compared, and the effort."""

    ppmlim: tuple[float, float] | None
    taper_ppm: float
    baseline_order: int | None
    unstable: tuple[str, ...] | None
    exclude: tuple[tuple[float, float], ...]
    max_shift_hz: float | None
    n_iter: int
    precision: str
    max_memory: float

    def check(self, axes: Axes) -> None:
        """Raise OptionError for a value that makes no sense for FIDs with these axes."""
        if not (np.isfinite(self.max_memory) and self.max_memory > 0):
            raise OptionError(
                "is not positive", option="max_memory", value=self.max_memory, remedy="give a positive number"
            )
        if self.precision not in ("double", "single"):
            raise OptionError(
                "there is no such precision", option="precision", value=self.precision, remedy="give double or single"
            )
        if self.n_iter < 1:
            raise OptionError("is too small", option="n_iter", value=self.n_iter, remedy="give at least 1")
        if self.taper_ppm < 0:
            raise OptionError(
                "is negative", option="taper_ppm", value=self.taper_ppm, remedy="give 0 for none, or a positive width"
            )
        if self.baseline_order is not None and not 0 <= self.baseline_order <= 20:
            raise OptionError(
                "there is no such polynomial",
                option="baseline_order",
                value=self.baseline_order,
                remedy="give None, or an order from 0 to 20",
            )
        if self.baseline_order is not None and self.ppmlim is None:
            raise OptionError(
                "a baseline needs a ppm window",
                option="baseline_order",
                remedy="give `ppmlim` as well, or leave `baseline_order` out",
            )
        if any(kind not in NUISANCE_LINES for kind in self.unstable or ()):
            raise OptionError(
                "there is no such kind of line",
                option="unstable",
                value=self.unstable,
                remedy=f"choose from {', '.join(NUISANCE_LINES)}",
            )
        if not 0 < self.range_hz(axes) < 0.5 / axes.dwelltime:
            raise OptionError(
                "is outside the bandwidth",
                option="max_shift_hz",
                value=self.max_shift_hz,
                remedy=f"give a value between 0 and half the bandwidth, {0.5 / axes.dwelltime:g} Hz",
            )

    def range_hz(self, axes: Axes) -> float:
        """Return the half width of the search in Hz."""
        if self.max_shift_hz is not None:
            return self.max_shift_hz
        return min(max(40.0, 0.35 * axes.spec_freq_mhz), 0.9 * (0.5 / axes.dwelltime))

    def lines(self, fids: torch.Tensor, axes: Axes) -> tuple[str, ...]:
        """Return the kinds of nuisance lines."""
        return nuisance_kinds(fids, axes, self.ppmlim) if self.unstable is None else tuple(self.unstable)


def _solve(fids, axes: Axes, options: _Options, external, pair, proposal_error_hz: float) -> list[dict]:
    """Align chunks of sets that fit in memory: on the band, and where transients are weak on the whole spectrum."""
    axes = axes.with_points(_length_without_padding(fids))
    fids = fids[..., : axes.n_points]
    max_shift_hz = options.range_hz(axes)
    window = make_window(
        axes,
        ppmlim=options.ppmlim,
        taper_ppm=options.taper_ppm,
        baseline_order=options.baseline_order,
        unstable=options.lines(fids, axes),
        exclude=options.exclude,
        device=fids.device,
        real=torch.float64 if options.precision == "double" and fids.device.type != "mps" else torch.float32,
    )
    band = make_band(window, axes.n_points * axes.dwelltime, max_shift_hz)
    attempts = ((window.on(band), band, False), (window, whole_band(window), True))
    n_sets = max(1, int(options.max_memory // (fids[0].numel() * BYTES_PER_POINT)))
    results = []
    with thread_map(fids.device) as map_:
        for first in range(0, fids.shape[0], n_sets):
            chunk = slice(first, first + n_sets)
            search = Search(
                max_shift_hz=max_shift_hz,
                proposal=None if pair is None else tuple(x[chunk] for x in pair),
                proposal_error_hz=proposal_error_hz,
                n_iter=options.n_iter,
            )
            target = None if external is None else external[chunk, :, : axes.n_points]
            for on_band, of_band, thorough in attempts:
                transients = Transients(
                    fids[chunk],
                    on_band,
                    of_band,
                    dwelltime=axes.dwelltime,
                    thorough=thorough,
                    max_memory=options.max_memory,
                    map_=map_,
                )
                result = Solver(transients, search, target).run()
                if result is not None:
                    results.append(result)
                    break
    return results


def _as_four_dimensional(fid, device) -> tuple[torch.Tensor, tuple[int, ...]]:
    """Return the FIDs as a tensor (n_sets, n_channels, n_transients, n_points), and the leading shape of the
    results."""
    tensor = fid if isinstance(fid, torch.Tensor) else torch.as_tensor(np.ascontiguousarray(fid))
    if not tensor.is_complex():
        raise DataError(f"FIDs of type {tensor.dtype}: are not complex", remedy="give complex time-domain data")
    if tensor.ndim not in (2, 3, 4) or 0 in tensor.shape:
        raise DataError(
            f"FIDs of shape {tuple(tensor.shape)}: cannot be aligned",
            remedy=(
                "give (n_transients, n_points), (n_channels, n_transients, n_points) or (n_sets, n_channels,"
                " n_transients, n_points)"
            ),
        )
    if tensor.shape[-1] < _MIN_POINTS:
        raise DataError(
            f"FIDs of {tensor.shape[-1]} points: at least {_MIN_POINTS} are needed", remedy="is time the last axis?"
        )
    lead = tuple(tensor.shape[:1]) if tensor.ndim == 4 else ()
    tensor = tensor.reshape((1,) * (4 - tensor.ndim) + tuple(tensor.shape))
    return (tensor if device is None else tensor.to(device)).detach(), lead


def _as_reference(reference, fid: torch.Tensor) -> torch.Tensor:
    """Return an external reference as (n_sets, n_channels, n_points) on the device of the data."""
    tensor = reference if isinstance(reference, torch.Tensor) else torch.as_tensor(np.ascontiguousarray(reference))
    tensor = tensor.to(fid.device).detach()
    n_sets, n_channels, _, n_points = fid.shape
    expected = {1: (1, 1), 2: (1, n_channels), 3: (n_sets, n_channels)}.get(tensor.ndim)
    fits = expected is not None and tuple(tensor.shape) == (*expected[3 - tensor.ndim :], n_points)
    if not fits or (tensor.ndim == 1 and n_channels != 1):
        raise DataError(
            f"reference of shape {tuple(tensor.shape)}: does not fit the data",
            remedy=(
                f"give ({n_channels}, {n_points}) for all sets or ({n_sets}, {n_channels}, {n_points}), one FID for"
                " each channel"
            ),
        )
    if not (
        tensor.is_complex() and bool(torch.isfinite(torch.view_as_real(tensor)).all()) and bool((tensor != 0).any())
    ):
        raise DataError("reference: is not a finite complex FID", remedy="give one without NaN that is not all zero")
    return tensor.reshape((1,) * (3 - tensor.ndim) + tuple(tensor.shape)).expand(n_sets, n_channels, n_points)


def _as_pair(proposal, fid: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Return proposed shifts (Hz) and phases (rad), each (n_sets, n_transients); None for the classical search."""
    if isinstance(proposal, str):
        if proposal != "classical":
            raise OptionError(
                "there is no such proposal",
                option="proposal",
                value=proposal,
                remedy="give classical, a callable, or a pair of arrays",
            )
        return None
    shift, phase = proposal(fid) if callable(proposal) else proposal
    shape = (fid.shape[0], fid.shape[2])
    try:
        shift, phase = (
            torch.as_tensor(x, dtype=torch.float64, device=fid.device).detach().reshape(shape) for x in (shift, phase)
        )
    except (RuntimeError, TypeError, ValueError) as error:
        raise OptionError(
            f"shift and phase do not have shape {shape}", option="proposal", remedy="give one each per transient"
        ) from error
    return torch.nan_to_num(shift), torch.deg2rad(torch.nan_to_num(phase))


def _length_without_padding(fid: torch.Tensor) -> int:
    """Return the points up to the last that is not zero everywhere: zero-filling adds neither noise nor information."""
    if bool((fid[..., -1] != 0).any()):
        return fid.shape[-1]
    used = (fid != 0).reshape(-1, fid.shape[-1]).any(0).nonzero()
    if not len(used):
        raise DataError("FIDs: are zero everywhere; there is nothing to align.")
    return max(int(used[-1]) + 1, _MIN_POINTS)


def _collect(results: list[dict], lead: tuple[int, ...], axes: Axes, external: torch.Tensor | None) -> Alignment:
    """Join the chunks; drop the set axis that the input did not have; return an external reference unchanged."""
    joined = {
        name: (
            max(part[name] for part in results)
            if name == "n_iterations"
            else np.concatenate([part[name] for part in results], axis=0)
        )
        for name in results[0]
    }
    if external is not None:
        joined["reference"] = external.cpu().numpy().copy()
    else:
        missing = axes.n_points - joined["reference"].shape[-1]
        joined["reference"] = np.pad(joined["reference"], ((0, 0), (0, 0), (0, missing)))
    if not lead:
        joined = {name: value if name == "n_iterations" else value[0] for name, value in joined.items()}
    return Alignment(dwelltime=axes.dwelltime, **joined)
