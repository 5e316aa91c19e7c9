"""Frequency and phase correction of transients: a search and a refinement on the registration likelihood.

One transient is modelled as ``amplitude * exp(1j * (2 pi shift_hz t + phase)) * reference(t)`` plus white noise, where ``t``
starts at 0 at the first point (phases are those of the first point).  The correction is the inverse,
``fid * exp(-1j * (2 pi shift_hz t + phase))``.  A positive ``shift_hz`` is a transient whose peaks lie at higher ppm than
those of the reference.

Spectral registration (Near et al. 2015, doi:10.1002/mrm.25094) minimises over shift, phase and amplitude ::

    sum over channels and over the points of the ppm window of  |S_k - amplitude * exp(1j * phase) * R_k(shift)|^2

with ``S`` the untouched spectrum of the transient and ``R(shift)`` that of the reference, shifted before the window is cut.
The data's window never moves, so what lies outside of it (water) has no say, and with a noise-free reference the minimum
is the maximum-likelihood estimate.  Phase and amplitude are solved in closed form, which leaves one unknown: maximise
``|C(shift)|^2 / E(shift)``, where ``C = sum S_k conj(R_k)`` and ``E = sum |R_k|^2``.  Both are Fourier sums over time points
of vectors that do not depend on the shift.  Hence two short FFTs search the whole range, a few Newton steps finish
it, and any number of coils costs no more than one.  An optional complex polynomial baseline in the window is solved in
closed form as well (compare RATS, Wilson 2019, doi:10.1002/mrm.27605).

Residual water and lipids often change from one transient to the next, and pull.  Where they are, and how wide, is known; how strong they are
is not.  So the noise is not white but has a covariance ``1 + tau^2 N``, with ``N`` that of lines drawn from those places and widths, and
``tau`` as large as the residuals of the aligned transients say: the inverse covariance takes the place of the window in all sums above.
Where nothing is unstable ``tau`` is 0 and everything in the window counts; where it is large those lines' subspace is projected out.

Without an external reference the reference is the weighted mean of the aligned transients, built iteratively.  Each
transient is compared with the mean of the others: its own noise in the mean would hold it where it is.

Only a band of the spectrum matters, the window and as far around it as shifts reach, so that the transients are kept as the
short FIDs of that band.  There a shift is not quite what it is to the whole FID (both are taken for periodic), which touches
nothing but references built from shifted transients.  So the iteration runs on short FIDs, in single precision, and its end
is exact: means of whole FIDs in double precision, from which one or two passes find the final shifts and phases.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace

import numpy as np
import torch

from ..core.errors import DataError, OptionError
from ..core.units import ppm_axis, ppm_to_hz, window_indices

__all__ = [
    "Alignment",
    "align_transients",
    "apply_shift_phase",
    "cramer_rao",
    "mean_pairwise_correlation",
    "similarity_index",
    "similarity_matrix",
]

_TWO_PI = 2 * math.pi
_MIN_POINTS = 16
_UNLIKE_Z = 5.0  # robust z-score beyond which a transient is called unlike the others
_DETECTION_MARGIN = 12.0  # above 2 ln(cells): a noise peak passes for a signal once in exp(6) transients
_NEIGHBOURS = 4  # transients either side that help one too weak to find its own shift
_N_CANDIDATES, _N_JUDGES = 6, 24
_N_REWEIGHT = 4  # weights are frozen after this many passes, so that the iteration can converge
_CONVERGED = 0.01  # in standard deviations
_NEARLY = 0.1  # in standard deviations: from here on it is worth being more exact
_NEVER_LESS = 1e-3  # of the highest peak: noise that is always reckoned with where unstable lines are looked for
_CREDIBLE = 8.0  # gain in log likelihood from which lines are believed to be unstable


@dataclass(frozen=True, repr=False)
class Alignment:
    """What was found for every transient; ``...`` is ``(n_sets,)`` for four-dimensional input and nothing otherwise.

    Attributes
    ----------
    shift_hz, phase_deg : ndarray, shape (..., n_transients)
        Offset of the transient relative to the reference; positive shifts lie towards higher ppm. Phase at the first point.
    shift_sd_hz, phase_sd_deg : ndarray, shape (..., n_transients)
        Standard deviations from the Fisher information of shift, phase and amplitude, with the noise taken from the residual
        (it therefore includes the noise of the reference). NaN where the transient failed.
    amplitude : ndarray, shape (..., n_transients)
        Amplitude relative to the reference.
    similarity : ndarray, shape (..., n_transients)
        Correlation of the aligned transient with the mean of the others (or the external reference) in the window, -1 to 1.
    weight : ndarray, shape (..., n_transients)
        Weight for averaging, 0 to 1: inverse residual variance, 0 for transients that are unlike the others or failed.
    flag : ndarray of str, shape (..., n_transients)
        'ok', 'weak' (too little signal to be found alone: its neighbours told where to look, or nothing did), 'unlike' (residual, noise or
        amplitude far from the others', or shift at the end of the search range), 'failed' (zero or not finite: untouched).
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
    reference: np.ndarray
    n_iterations: int
    dwelltime: float

    def __repr__(self) -> str:
        return f"<Alignment of {self.flag.size} transients, {(self.flag == 'ok').sum()} of them ok>"

    def apply(self, fid):
        """The corrected FIDs; ``fid`` has the shape that was aligned, or lacks the channel axis, or has other channels.

        Raises
        ------
        DataError
            If the transients of ``fid`` are not those that were aligned.
        """
        shift, phase = self.shift_hz, self.phase_deg
        if fid.ndim < 2 or fid.shape[-2] != shift.shape[-1]:
            raise DataError(
                f"The FIDs have shape {tuple(fid.shape)} but {shift.shape[-1]} transients were aligned: "
                "give (..., n_transients, n_points)."
            )
        if shift.ndim == 2:
            if fid.shape[0] != shift.shape[0]:
                raise DataError(
                    f"The FIDs have shape {tuple(fid.shape)} but {shift.shape[0]} sets were aligned: put the sets first."
                )
            between = (1,) * (fid.ndim - 3)
            shift = shift.reshape(shift.shape[0], *between, shift.shape[1])
            phase = phase.reshape(shift.shape)
        return apply_shift_phase(fid, shift, phase, self.dwelltime)


@dataclass(frozen=True)
class _Window:
    """The part of the spectrum that counts: weights and baseline vectors in FFT order, and their transforms."""

    weight: torch.Tensor  # (n_points,)
    lag: torch.Tensor  # (n_points,) transform of the weights: the energy's share of every lag
    baseline: torch.Tensor  # (n_baseline, n_points), weighted, orthonormal
    baseline_fid: torch.Tensor  # (n_baseline, n_points)
    smooth: torch.Tensor  # (n_points,) the window with wide flanks, whose transform does not ring
    unstable: torch.Tensor  # (n_unstable, n_points), weighted, orthonormal: what lines of unknown strength consist of
    unstable_fid: torch.Tensor  # (n_unstable, n_points)
    strengths: torch.Tensor  # (n_guesses, n_kinds) variances over the noise's that are reckoned with, none first, strongest last
    filters: torch.Tensor  # (n_guesses, n_unstable, n_unstable) part that each guess takes out: 1 - inverse covariance
    excess: torch.Tensor  # (n_guesses, n_unstable, n_unstable) covariance of each guess less the white noise
    entropy: torch.Tensor  # (n_guesses,) log determinant of the covariance
    held: torch.Tensor  # (n_sets, n_channels) the guess that holds

    @property
    def n_counted(self) -> float:
        return float(self.weight.sum()) - self.baseline.shape[0]

    @property
    def taken(self) -> torch.Tensor:
        """What is taken out of the unstable vectors, (n_sets, n_channels, n_unstable, n_unstable)."""
        return self.filters[self.held]

    @property
    def takes_out(self) -> bool:
        """Whether anything unstable is taken out of any set."""
        return bool((self.strengths[self.held] > 0).any())

    def to(self, real: torch.dtype) -> _Window:
        """The same in another precision."""
        cplx = torch.complex128 if real == torch.float64 else torch.complex64
        tensors = {field.name: getattr(self, field.name) for field in fields(self)}
        return _Window(
            **{k: x.to(cplx if x.is_complex() else real if x.is_floating_point() else x.dtype) for k, x in tensors.items()}
        )

    def on(self, band: _Band) -> _Window:
        """The same on a band of the spectrum that holds everything in the window."""
        weight, baseline, unstable = self.weight[band.index], self.baseline[:, band.index], self.unstable[:, band.index]
        return replace(
            self,
            weight=weight,
            lag=(torch.fft.fft(weight) / len(weight)).to(self.lag.dtype),
            baseline=baseline,
            baseline_fid=_inverse(baseline).to(self.lag.dtype),
            smooth=self.smooth[band.index],
            unstable=unstable,
            unstable_fid=_inverse(unstable).to(self.lag.dtype),
        )


def _squared(x: torch.Tensor) -> torch.Tensor:
    """``|x|^2``, without the square root that the absolute value would take first."""
    return x.real**2 + x.imag**2


def _rotation(turns: torch.Tensor, cplx: torch.dtype) -> torch.Tensor:
    """``exp(2j pi turns)`` in another precision; whole turns are dropped in that of ``turns``."""
    turns = (_TWO_PI * (turns - turns.round())).to(torch.float32 if cplx == torch.complex64 else torch.float64)
    return torch.polar(torch.ones_like(turns), turns)


def _inverse(spec: torch.Tensor) -> torch.Tensor:
    """FIDs of spectra, of none as well."""
    return torch.fft.ifft(spec, norm="ortho") if len(spec) else spec


@dataclass(frozen=True)
class _Band:
    """The part of the spectrum that a registration can touch: the window, and as far around it as shifts reach."""

    index: torch.Tensor  # (n_band,) places in the spectrum (FFT order) of neighbouring bins
    edge: torch.Tensor  # (n_band,) 1, and a fall to 0 at both ends: a sharp cut would ring through the short FIDs


def apply_shift_phase(fid, shift_hz, phase_deg, dwelltime: float):
    """Remove shifts and phases: ``fid * exp(-1j * (2 pi shift_hz t + phase))`` with ``t = 0`` at the first point.

    Parameters
    ----------
    fid : ndarray or tensor, complex, shape (..., n_points)
    shift_hz, phase_deg : array, broadcastable to shape (...)
    dwelltime : float
        Seconds.

    Returns
    -------
    ndarray or tensor like ``fid``; FIDs whose shift and phase are both 0 come back bit for bit.
    """
    if isinstance(fid, torch.Tensor):
        real = torch.float64
        shift = torch.as_tensor(shift_hz, dtype=real, device=fid.device)[..., None]
        phase = torch.deg2rad(torch.as_tensor(phase_deg, dtype=real, device=fid.device))[..., None]
        t = torch.arange(fid.shape[-1], dtype=real, device=fid.device) * dwelltime
        angle = -(_TWO_PI * shift * t + phase)
        out = fid * torch.polar(torch.ones_like(angle), angle).to(fid.dtype)
        return torch.where((shift == 0) & (phase == 0), fid, out)
    fid = np.asarray(fid)
    shift = np.asarray(shift_hz, dtype=float)[..., None]
    phase = np.deg2rad(np.asarray(phase_deg, dtype=float))[..., None]
    t = np.arange(fid.shape[-1]) * dwelltime
    out = (fid * np.exp(-1j * (_TWO_PI * shift * t + phase))).astype(np.result_type(fid.dtype, np.complex64))
    return np.where((shift == 0) & (phase == 0), fid, out)


# --------------------------------------------------------------------------------------------------- window


def _make_window(
    n_points: int,
    dwelltime: float,
    spec_freq_mhz: float,
    nucleus: str,
    ppmlim: tuple[float, float] | None,
    taper_ppm: float,
    baseline_order: int | None,
    device: torch.device,
    real: torch.dtype,
    unstable: tuple[str, ...] = (),
) -> _Window:
    """Weights of the spectral points in ``ppmlim``, the orthonormal baseline polynomials on them, and what unstable lines consist of."""
    limits = None if ppmlim is None else (float(ppmlim[0]), float(ppmlim[1]))
    arrays = _window_arrays(
        n_points, float(dwelltime), float(spec_freq_mhz), nucleus, limits, float(taper_ppm), baseline_order, tuple(unstable)
    )
    cplx = torch.complex128 if real == torch.float64 else torch.complex64
    tensors = {
        name: torch.tensor(array, dtype=cplx if np.iscomplexobj(array) else real, device=device) for name, array in arrays.items()
    }
    return _Window(**tensors, held=torch.full((1, 1), len(tensors["filters"]) - 1, device=device))


def _linalg(what: Callable, matrix: np.ndarray, **options) -> list[np.ndarray]:
    """A decomposition on one thread: on a busy machine threads that wait for each other make small ones take seconds."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return [part.numpy() for part in what(torch.as_tensor(matrix), **options)]
    finally:
        torch.set_num_threads(n_threads)


@functools.lru_cache(maxsize=4)
def _window_arrays(
    n_points, dwelltime, spec_freq_mhz, nucleus, ppmlim, taper_ppm, baseline_order, unstable
) -> dict[str, np.ndarray]:
    """What :func:`_make_window` holds; kept, as finding out what unstable lines consist of takes longer than dozens of transients."""
    ppm = ppm_axis(n_points, dwelltime, spec_freq_mhz, nucleus)
    first, last = window_indices(ppm, ppmlim)
    n_baseline = 0 if baseline_order is None else baseline_order + 1
    if last - first < 8 + n_baseline:
        raise OptionError(
            f"The ppm window {ppmlim} holds {last - first} spectral points (axis {ppm[0]:.2f} to {ppm[-1]:.2f} ppm): "
            "give limits inside the axis, or wider ones."
        )
    weight = np.zeros(n_points)
    weight[first:last] = 1.0
    if taper_ppm > 0:
        inside = np.minimum(ppm[first:last] - ppm[first], ppm[last - 1] - ppm[first:last])
        weight[first:last] = 0.5 - 0.5 * np.cos(np.pi * np.clip((inside + 1e-9) / taper_ppm, 0, 1))
    powers = np.zeros((n_points, n_baseline))
    x = np.linspace(-1, 1, last - first)
    powers[first:last] = np.stack([x**m for m in range(n_baseline)], axis=1) if n_baseline else 0.0
    root = np.sqrt(weight)
    orthonormal, _ = np.linalg.qr(powers * root[:, None])
    baseline = np.fft.ifftshift((orthonormal * root[:, None]).T, axes=-1)
    smooth = np.zeros(n_points)
    smooth[first:last] = 1.0 if ppmlim is None else np.hanning(last - first + 2)[1:-1]
    weight, smooth = np.fft.ifftshift(weight), np.fft.ifftshift(smooth)
    lag = np.fft.fft(weight) / n_points
    baseline_fid = np.fft.ifft(baseline, axis=-1, norm="ortho")
    lines, covariance = _unstable_lines(unstable, n_points, dwelltime, spec_freq_mhz, nucleus, weight, baseline)
    strengths, filters, excess, entropy = _guesses(covariance)
    return {
        "weight": weight,
        "lag": lag,
        "baseline": baseline,
        "baseline_fid": baseline_fid,
        "smooth": smooth,
        "unstable": lines,
        "unstable_fid": np.fft.ifft(lines, axis=-1, norm="ortho"),
        "strengths": strengths,
        "filters": filters.astype(complex),
        "excess": excess.astype(complex),
        "entropy": entropy,
    }


_GUARD = 10  # bins either side of the search's range that its interpolation may use
_WORTHWHILE = 0.8  # of the spectrum: a wider band would save nothing


def _everything(window: _Window) -> _Band:
    return _Band(torch.arange(len(window.weight), device=window.weight.device), torch.ones_like(window.weight))


def _make_band(window: _Window, duration: float, max_shift_hz: float) -> _Band:
    """The window, and twice the largest shift around it: the range between two transients that lie at opposite ends of the search."""
    n_points = len(window.weight)
    counted = np.flatnonzero(np.fft.fftshift(window.smooth.cpu().numpy()))
    flat, fall = math.ceil(max_shift_hz * duration) + _GUARD, math.ceil(max_shift_hz * duration)
    n_band = _fast_length(counted[-1] + 1 - counted[0] + 2 * (flat + fall))
    if n_band > _WORTHWHILE * n_points:
        return _everything(window)
    inside = counted[0] + counted[-1] + 1 - n_band  # twice the first bin
    index = (inside // 2 + np.arange(n_band) - n_points // 2) % n_points
    depth = np.minimum(np.arange(n_band), np.arange(n_band)[::-1])
    edge = 0.5 - 0.5 * np.cos(np.pi * np.clip((depth + 0.5) / fall, 0, 1))
    return _Band(
        torch.as_tensor(index, device=window.weight.device),
        torch.as_tensor(edge, dtype=window.weight.dtype, device=window.weight.device),
    )


def _fast_length(n: int) -> int:
    """The least length from ``n`` on that has no prime factors but 2, 3 and 5."""
    while True:
        rest = n
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return n
        n += 1


_UNSTABLE = {
    # Ranges in ppm, widths (full, at half maximum) in Hz or, where susceptibility makes them, in ppm.
    "water": {"ppm": (4.3, 5.1), "step": 0.04, "hz": (4.0, 8.0, 16.0, 32.0)},
    "lipids": {"ppm": (0.9, 1.6), "step": 0.05, "in_ppm": (0.08, 0.12, 0.2, 0.3)},
}
_UNSTABLE_LEFT = 1e-3  # of a line's height that its subspace may miss, root mean square over the window


def _unstable_lines(kinds, n_points, dwelltime, spec_freq_mhz, nucleus, weight, baseline) -> tuple[np.ndarray, np.ndarray]:
    """Orthonormal spectra ``(k, n_points)`` that lines of these kinds consist of, and each kind's covariance ``(n_kinds, k, k)`` in them."""
    t = np.arange(n_points) * dwelltime
    root = np.sqrt(weight)
    counted = np.flatnonzero(weight > 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        smooth = np.nan_to_num(np.where(weight > 0, baseline / root, 0.0))[:, counted]
    families = []
    for kind in kinds:
        lines = _UNSTABLE[kind]
        ppm = np.arange(lines["ppm"][0], lines["ppm"][1] + 1e-9, lines["step"])
        turn = np.exp(2j * np.pi * ppm_to_hz(ppm, spec_freq_mhz, nucleus)[:, None] * t)
        fids = []
        for width in np.array([*lines.get("hz", ()), *(w * spec_freq_mhz for w in lines.get("in_ppm", ()))]):
            lorentz = np.exp(-np.pi * width * t)
            fids.append(turn * lorentz / lorentz.sum())
            if kind != "water":
                gauss = np.exp(-((np.pi * width * t) ** 2) / (4 * np.log(2)))
                fids.append(turn * gauss / gauss.sum())
        spec = (np.fft.fft(np.concatenate(fids), axis=-1) * root)[:, counted]
        # What a baseline takes out nothing else need take out.
        families.append(spec - (spec @ smooth.T) @ smooth)
    if not families:
        return np.zeros((0, n_points), complex), np.zeros((0, 0, 0), complex)
    left, size, vectors = _linalg(torch.linalg.svd, np.concatenate(families), full_matrices=False)
    missed = np.cumsum((np.abs(left * size) ** 2)[:, ::-1], axis=1)[:, ::-1].max(0) / len(counted)
    k = int((missed > _UNSTABLE_LEFT**2).sum())
    found = np.zeros((k, n_points), complex)
    found[:, counted] = vectors[:k]
    parts = [family @ vectors[:k].conj().T for family in families]
    return found * root, np.array([part.T @ part.conj() / len(part) for part in parts])


def _guesses(covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Strengths ``(n, n_kinds)`` of lines whose covariances these are, what each takes out, their covariance (both ``(n, k, k)``),
    and log determinants ``(n,)``."""
    n_kinds, k = covariance.shape[:2]
    if not k:
        return np.zeros((1, n_kinds)), np.zeros((1, 0, 0)), np.zeros((1, 0, 0)), np.zeros(1)
    steps = np.concatenate([[0.0], np.logspace(-1, 12, 14)])
    strengths = np.stack([one.ravel() for one in np.meshgrid(*[steps] * n_kinds, indexing="ij")], -1)
    total = np.eye(k) + np.einsum("gb,bij->gij", strengths, covariance)
    # Rows of coefficients are multiplied from the left, so that the transpose is what is needed.
    values, vectors = _linalg(torch.linalg.eigh, total)
    values = np.maximum(values, 1.0)
    share, back = 1 - 1 / values, vectors.swapaxes(-1, -2)
    filters = (vectors.conj() * share[:, None]) @ back
    excess = (vectors.conj() * (share * np.minimum(values, 1e9))[:, None]) @ back
    return strengths, filters, excess, np.log(values).sum(-1)


def _window_spec(window: _Window, spec: torch.Tensor, taken: torch.Tensor | None = None) -> torch.Tensor:
    """The spectrum (FFT order) as the likelihood sees it: weighted, with the best baseline and what is unstable taken out.

    ``taken``, the window's unless given, broadcasts to ``spec`` with two axes of unstable vectors in place of points.
    """
    out = spec * window.weight
    for vector in window.baseline:
        out = out - vector * (spec * vector).sum(-1, keepdim=True)
    if len(window.unstable):
        if window.takes_out:
            taken = window.taken if taken is None else taken
            part = _unstable_part(window, spec)
            if spec.ndim == 3 or taken.ndim > 4:
                part = (part[..., None, :] @ taken)[..., 0, :]
            else:
                part = part @ taken
            out = out - part @ window.unstable
    return out


def _unstable_part(window: _Window, spec: torch.Tensor) -> torch.Tensor:
    """How much of each unstable vector is in the spectra, ``(..., n_unstable)``."""
    return spec @ window.unstable.conj().T


def _window_energy(window: _Window, spec: torch.Tensor) -> torch.Tensor:
    """Product of each spectrum with itself as the likelihood sees it; (n_sets, n_channels, n_transients, n_points) less the last."""
    energy = _squared(spec) @ window.weight
    for vector in window.baseline:
        part = (spec * vector).sum(-1)
        energy = energy - _squared(part)
    if window.takes_out:
        part = _unstable_part(window, spec)
        energy = energy - ((part @ window.taken) * part.conj()).sum(-1).real
    return energy


# --------------------------------------------------------------------------- the one-dimensional likelihood


def _block_length(n: int) -> int:
    """Length of the blocks that ``n`` points are cut into: about as many blocks as points in each."""
    return math.isqrt(n - 1) + 1


_TAPS = np.arange(-12, 13)  # neighbours on the grid that tell what is between
_BRACKET = 2.0  # steps of the grid that Newton's method may go from a point of it
# Degrees of the power series of C and E: remainders below 1e-9 and 1e-6 within a step.
_DEGREES = {torch.complex128: (22, 32), torch.complex64: (12, 18)}


@functools.lru_cache(maxsize=8)
def _taylor_taps(degree: int) -> np.ndarray:
    """Taylor coefficients (25, degree + 1) at a sample, from its neighbours, of what is sampled at twice the least rate.

    What oscillates as ``exp(-2j pi x u)`` with ``|x| <= 1/4`` has the coefficients ``(-2j pi x)^n / n!``: least squares over
    these ``x`` for the weights of the neighbours at ``u = -12 ... 12``.
    """
    x = 0.25 * np.cos(np.pi * (np.arange(200) + 0.5) / 200)
    order = np.arange(degree + 1)
    wanted = (-2j * np.pi * x[:, None]) ** order / np.array([math.factorial(n) for n in order], dtype=float)
    waves = np.exp(-2j * np.pi * x[:, None] * _TAPS)
    split = [np.concatenate([part.real, part.imag]) for part in (waves, wanted)]
    right = torch.as_tensor(split[1])
    return _linalg(lambda waves: torch.linalg.lstsq(waves, right, rcond=1e-13, driver="gelsd")[:1], split[0])[0]


def _shifted_spectra(fid: torch.Tensor, time: torch.Tensor, n_steps: int) -> torch.Tensor:
    """Spectra of FIDs shifted by ``0, 1/n_steps ...`` of a bin, (..., n_steps, n_points); ``time`` is from 0 to 1."""
    angle = _TWO_PI * torch.arange(n_steps, device=fid.device)[:, None] / n_steps * time
    return torch.fft.fft(fid[..., None, :] * torch.polar(torch.ones_like(angle), angle).to(fid.dtype), norm="ortho")


def _around(values: torch.Tensor, reach: int) -> torch.Tensor:
    """Bins ``-reach ... reach`` of every step of a bin, in ascending order: (..., n_steps, n_band) -> (..., (2 reach + 1) n_steps)."""
    index = torch.arange(-reach, reach + 1, device=values.device) % values.shape[-1]
    return values[..., index].transpose(-1, -2).flatten(-2)


def _energy_on_grid(window: _Window, spectra: torch.Tensor, reach: int) -> torch.Tensor:
    """``E`` at the shifts of :func:`_around`, (n_sets, n); ``spectra`` (n_sets, n_channels, n_steps, n_band) of the reference."""
    power = _squared(spectra).sum(1)
    found = torch.fft.ifft(torch.fft.fft(window.weight) * torch.fft.fft(power).conj()).real
    vectors, filters = [], []
    if len(window.baseline):
        eye = torch.eye(len(window.baseline), dtype=window.lag.dtype, device=power.device)
        vectors, filters = [window.baseline_fid], [eye.expand(*window.held.shape, -1, -1)]
    if window.takes_out:
        vectors, filters = [*vectors, window.unstable_fid], [*filters, window.taken]
    found = _around(found, reach)
    for fids, taken in zip(vectors, filters):
        turned = torch.fft.ifft(spectra, norm="ortho").conj().resolve_conj()
        for channel in range(spectra.shape[1]):
            # The parts of the shifted reference that the vectors can explain; their conjugates, to be exact.
            part = [_around(torch.fft.fft(fid * turned[:, channel]), reach) for fid in fids]
            part = torch.stack(part, -1)
            out = part.conj() @ taken[:, min(channel, taken.shape[1] - 1)]
            found = found - (out * part).sum(-1).real
    return found


def _likelihood(cross: torch.Tensor, energy: torch.Tensor) -> torch.Tensor:
    """``|C|^2 / E`` at every shift of a grid, (n_sets, n_transients, n_grid)."""
    floor = energy.amax(-1, keepdim=True) * 1e-6 + torch.finfo(energy.dtype).tiny
    return _squared(cross) / torch.maximum(energy, floor)[:, None]


def _series(coefficients: torch.Tensor, u: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Value, first and second derivative at ``u`` (...) of the power series with these coefficients (..., n)."""
    order = torch.arange(coefficients.shape[-1], device=u.device, dtype=u.dtype)
    powers = torch.where(order > 0, u[..., None], torch.ones_like(u[..., None])).cumprod(-1)
    value = (coefficients * powers).sum(-1)
    first = (coefficients[..., 1:] * (order[1:] * powers[..., :-1])).sum(-1)
    second = (coefficients[..., 2:] * (order[2:] * order[1:-1] * powers[..., :-2])).sum(-1)
    return value, first, second


def _maximise(cross, energy, start, tolerance: float):
    """Newton's method on ``log |C|^2 - log E``, kept inside a shrinking bracket around 0; returns the place and ``C`` there.

    ``cross`` and ``energy`` are power series (n_sets, n_transients, n), ``start`` (n_sets, n_transients) is where to begin.
    """
    place, lower, upper = start.clone(), torch.full_like(start, -_BRACKET), torch.full_like(start, _BRACKET)
    tiny = torch.finfo(start.dtype).tiny
    for _ in range(30):
        c, c1, c2 = _series(cross, place)
        e, e1, e2 = _series(energy, place)
        power = _squared(c).clamp_min(tiny)
        e = e.clamp_min(tiny)
        slope_c = 2 * (c.real * c1.real + c.imag * c1.imag) / power
        slope = slope_c - e1 / e
        turning = c1.real**2 + c1.imag**2 + c.real * c2.real + c.imag * c2.imag
        curvature = 2 * turning / power - slope_c**2 - e2 / e + (e1 / e) ** 2
        lower = torch.where(slope > 0, place, lower)
        upper = torch.where(slope > 0, upper, place)
        newton = -slope / torch.where(curvature < 0, curvature, -torch.ones_like(curvature))
        proposal = place + newton
        # A start that is the maximum already sits on an end of the bracket: it must not be bisected away.
        arrived = newton.abs() <= tolerance
        inside = (curvature < 0) & (arrived | ((proposal > lower) & (proposal < upper)))
        proposal = torch.where(inside, proposal, (lower + upper) / 2)
        step = proposal - place
        place = proposal
        if not bool((step.abs() > tolerance).any()):
            break
    return place, _series(cross, place)[0]


# --------------------------------------------------------------------------------------------------- noise, information


def _noise_sd(spec: torch.Tensor) -> torch.Tensor:
    """Noise SD per real and imaginary part, (...), from the median second difference of the spectrum.

    Peaks occupy few points and baselines are smooth, so neither reaches the median of the second differences.
    """
    second = spec[..., 2:] - 2 * spec[..., 1:-1] + spec[..., :-2]
    return _squared(second).median(-1).values.sqrt() / (math.sqrt(6) * math.sqrt(2 * math.log(2)))


def _decay_gain(power: torch.Tensor, floor: torch.Tensor, end: float = 1.0) -> Callable[[torch.Tensor], torch.Tensor]:
    """Wiener gain at any times (0 to 1), from the model ``power(t) = a exp(-2 t / tau) + b`` with ``b >= floor``.

    ``power``: (n_sets, n_points) from 0 to ``end``, ``floor``: (n_sets,).  Means over blocks are gamma distributed: weighted least squares for
    ``a`` and ``b``, reweighted twice, and the decay of a fixed list that has the highest likelihood.
    """
    n_points = power.shape[-1]
    n_blocks = min(64, n_points // 4)
    length = n_points // n_blocks
    level = power[..., : n_blocks * length].reshape(-1, n_blocks, length).mean(-1)[:, None]  # (n_sets, 1, n_blocks)
    tiny = torch.finfo(power.dtype).tiny
    tau = torch.logspace(-2.3, 0.7, 25, device=power.device, dtype=power.dtype)
    t = (torch.arange(n_points, device=power.device, dtype=power.dtype) + 0.5) * (end / n_points)
    decay = torch.exp(-2 * t / tau[:, None])  # (n_tau, n_points)
    block = decay[:, : n_blocks * length].reshape(-1, n_blocks, length).mean(-1)[None]
    least = floor[:, None, None].clamp_min(tiny)
    model = level.mean(-1, keepdim=True).clamp_min(tiny).expand(level.shape[0], len(tau), n_blocks)
    for _ in range(4):
        weight = (model.amin(-1, keepdim=True) / model) ** 2
        w0, w1, w2 = weight.sum(-1), (weight * block).sum(-1), (weight * block**2).sum(-1)
        y0, y1 = (weight * level).sum(-1), (weight * block * level).sum(-1)
        b = (w2 * y0 - w1 * y1) / (w0 * w2 - w1**2).clamp_min(tiny)
        b = torch.maximum(b[..., None], least)
        a = ((y1 - b[..., 0] * w1) / w2.clamp_min(tiny)).clamp_min(0)[..., None]
        model = (a * block + b).clamp_min(tiny)
    best = (torch.log(model) + level / model).sum(-1).argmin(-1)
    row = torch.arange(len(best), device=best.device)
    a, b, tau = a[row, best], b[row, best], tau[best][:, None]

    def gain(time: torch.Tensor) -> torch.Tensor:
        # What a band's FID has before its first point is found at its end, where hardly anything but noise is.
        signal = a * torch.exp(-2 * time.remainder(1.0) / tau)
        return signal / (signal + b).clamp_min(tiny)

    return gain


def _changes(reference: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
    """How the spectrum changes with shift, phase and amplitude, (n_sets, 3, n_channels, n_points); ``time`` in seconds."""
    spec = torch.fft.fft(reference, norm="ortho")
    slope = torch.fft.fft(2j * math.pi * time * reference, norm="ortho")
    return torch.stack([slope, 1j * spec, spec], 1)


def _unit_sd(window: _Window, columns: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """SD of shift (Hz) and phase (rad) for unit noise and unit amplitude from what :func:`_changes` gives, each (n_sets,).

    The sandwich form covers tapered windows, whose weights are not the inverse noise variance.  What is unstable counts as noise.
    """
    taken = window.taken[:, None]
    projected = _window_spec(window, columns, taken)
    bread = torch.einsum("saxn,sbxn->sab", columns.conj(), projected).real
    # Noise passes the window once more than the signal: weight squared.
    meat = torch.einsum("saxn,sbxn->sab", projected.conj(), projected).real
    if len(window.unstable):
        part = _unstable_part(window, projected)
        excess = window.excess[window.held][:, None]
        meat = meat + torch.einsum("saxk,sbxk->sab", part.conj(), (part[..., None, :] @ excess)[..., 0, :]).real
    scale = bread.diagonal(dim1=-2, dim2=-1).clamp_min(torch.finfo(bread.dtype).tiny).rsqrt()
    bread = bread * scale[:, :, None] * scale[:, None, :]
    meat = meat * scale[:, :, None] * scale[:, None, :]
    eye = torch.eye(3, device=bread.device, dtype=bread.dtype)
    inverse = torch.linalg.pinv(bread + 1e-14 * eye, hermitian=True)
    variance = (inverse @ meat @ inverse).diagonal(dim1=-2, dim2=-1) * scale**2
    return variance[:, 0].sqrt(), variance[:, 1].sqrt()


def cramer_rao(
    reference,
    noise_sd,
    *,
    dwelltime: float,
    spec_freq_mhz: float,
    nucleus: str = "1H",
    ppmlim: tuple[float, float] | None = (0.2, 4.2),
    taper_ppm: float = 0.0,
    baseline_order: int | None = None,
    unstable: tuple[str, ...] = (),
) -> tuple[float, float]:
    """Cramer-Rao bound of one transient's shift and phase, amplitude unknown, reference noise-free.

    Parameters
    ----------
    reference : complex array, shape (n_points,) or (n_channels, n_points)
        The noise-free transient, seen by each channel.
    noise_sd : float or array, shape (n_channels,)
        Noise SD of the real and of the imaginary part of every FID point.
    dwelltime, spec_freq_mhz : float
        Seconds, MHz.
    ppmlim, taper_ppm, baseline_order
        As in :func:`align_transients`.
    unstable : tuple of {'water', 'lipids'}
        Lines whose strength is unknown, too, however strong they are.

    Returns
    -------
    shift_sd_hz, phase_sd_deg : float
    """
    reference = torch.as_tensor(np.asarray(reference), dtype=torch.complex128)
    reference = reference.reshape(-1, reference.shape[-1])
    sd = torch.as_tensor(np.broadcast_to(np.asarray(noise_sd, dtype=float), reference.shape[:1]).copy())
    if not bool((sd > 0).all()):
        raise OptionError(f"The noise SD is {noise_sd}: give a positive value for every channel.")
    window = _make_window(
        reference.shape[-1],
        dwelltime,
        spec_freq_mhz,
        nucleus,
        ppmlim,
        taper_ppm,
        baseline_order,
        reference.device,
        torch.float64,
        unstable,
    )
    time = torch.arange(reference.shape[-1], dtype=sd.dtype) * dwelltime
    shift, phase = _unit_sd(window, _changes((reference / sd[:, None])[None], time))
    return float(shift[0]), float(torch.rad2deg(phase[0]))


# --------------------------------------------------------------------------------------------------- alignment


def align_transients(
    fid,
    *,
    dwelltime: float,
    spec_freq_mhz: float,
    nucleus: str = "1H",
    ppmlim: tuple[float, float] | None = (0.2, 4.2),
    reference=None,
    exact_reference: bool = False,
    starter: str | Callable | tuple = "classical",
    max_shift_hz: float | None = None,
    starter_error_hz: float = 8.0,
    taper_ppm: float = 0.0,
    baseline_order: int | None = None,
    unstable: tuple[str, ...] | None = None,
    n_iter: int = 12,
    device: str | torch.device | None = None,
    precision: str = "double",
    max_memory: float = 1e9,
) -> Alignment:
    """Find shift and phase of every transient.

    Channels (coils that are not combined yet) share one shift and one phase per transient; each has its own reference, so
    that constant differences of gain and phase between coils do not matter, and counts with its inverse noise variance.
    Sets (sub-spectra of edited data, voxels) are independent: each has its own reference.

    Without ``reference`` the mean shift of the transients flagged 'ok' is 0, and so is the circular mean of their phases:
    the average of the aligned transients stays where the input's was.

    Parameters
    ----------
    fid : complex ndarray or tensor
        Shape (n_transients, n_points), (n_channels, n_transients, n_points) or (n_sets, n_channels, n_transients, n_points).
    dwelltime : float
        Seconds.
    spec_freq_mhz : float
        Spectrometer frequency in MHz.
    nucleus : str
    ppmlim : (float, float) or None
        Part of the spectrum that is compared; None takes everything.
    reference : complex array, optional
        External reference: (n_points,) for one channel, (n_channels, n_points), or (n_sets, n_channels, n_points). Default: built
        from the transients.
    exact_reference : bool
        Everything in the external reference is signal, down to its end. Otherwise its late points count as far as they stand out
        of its own noise, where it has any to speak of.
    starter : 'classical', callable, or pair of arrays
        Who proposes shift and phase. 'classical' searches the whole range for the highest likelihood. A callable takes the
        FIDs as a complex tensor (n_sets, n_channels, n_transients, n_points) and returns ``(shift_hz, phase_deg)``, each
        (n_sets, n_transients), relative to any reference common to a set (the external one if given); or give that pair.
        Proposals may be wrong by ``starter_error_hz``; the likelihood decides within that distance.
    max_shift_hz : float, optional
        Half width of the search. Default: 0.35 ppm, at least 40 Hz.
    taper_ppm : float
        Width of a cosine taper inside either edge of the window; default none, which is the exact window.
    baseline_order : int, optional
        Order of the complex polynomial over the window that is allowed to differ in every transient. Default: none.
    unstable : tuple of {'water', 'lipids'}, optional
        What may differ in every transient; the data say how much it does. Default: both for 1H with a window, nothing else.
    n_iter : int
        Most passes over the data, though at least one on short FIDs and one on whole ones is made; the iteration ends when no
        transient moves by more than 0.01 of its SD.
    device : str or torch.device, optional
        Default: where ``fid`` is.
    precision : 'double' or 'single'
    max_memory : float
        Bytes of working memory to stay below, roughly. The result does not depend on it.

    Returns
    -------
    Alignment

    Raises
    ------
    DataError
        Wrong shape, not complex, or nothing finite in the data.
    OptionError
        A window outside the axis, an impossible dwell time, range, starter or precision.

    Notes
    -----
    Near et al. 2015 (doi:10.1002/mrm.25094), Wilson 2019 (doi:10.1002/mrm.27605), FSL-MRS (doi:10.1002/mrm.28630).
    Correlation of the noise between channels is not taken into account.
    """
    fid, lead = _as_four_dimensional(fid, device)
    _check_options(dwelltime, spec_freq_mhz, precision, max_memory, n_iter, taper_ppm, baseline_order, ppmlim)
    if any(kind not in _UNSTABLE for kind in unstable or ()):
        raise OptionError(f"unstable is {unstable}: choose from {', '.join(_UNSTABLE)}.")
    half_band = 0.5 / dwelltime
    if max_shift_hz is None:
        max_shift_hz = min(max(40.0, 0.35 * spec_freq_mhz), 0.9 * half_band)
    if not 0 < max_shift_hz < half_band:
        raise OptionError(f"max_shift_hz is {max_shift_hz}: give a value between 0 and half the bandwidth, {half_band:g} Hz.")
    external = None if reference is None else _as_reference(reference, fid)
    if external is not None and not exact_reference:
        external = _without_late_noise(external, fid, dwelltime, spec_freq_mhz, nucleus, ppmlim)
    n_points = _length_without_padding(fid)
    n_total, fid = fid.shape[-1], fid[..., :n_points]
    real = torch.float64 if precision == "double" else torch.float32
    if fid.device.type == "mps":
        real = torch.float32
    if unstable is None:
        unstable = tuple(_UNSTABLE) if nucleus == "1H" and ppmlim is not None else ()
    grid = (n_points, dwelltime, spec_freq_mhz, nucleus, ppmlim, taper_ppm, baseline_order)
    window = _make_window(*grid, fid.device, real, tuple(unstable))
    band = _make_band(window, n_points * dwelltime, max_shift_hz)
    attempts = ((window.on(band), band, False), (window, _everything(window), True))
    proposal = _as_proposal(starter, fid)
    n_sets = _sets_per_chunk(fid, max_memory)
    parts = []
    with _workers(fid.device) as map_:
        for first in range(0, fid.shape[0], n_sets):
            chunk = slice(first, first + n_sets)
            for short, at_hand, thorough in attempts:
                job = _Job(
                    fid[chunk],
                    short,
                    at_hand,
                    thorough,
                    dwelltime,
                    max_shift_hz,
                    None if external is None else external[chunk, :, :n_points],
                    None if proposal is None else tuple(x[chunk] for x in proposal),
                    starter_error_hz,
                    n_iter,
                    max_memory,
                    map_,
                )
                found = job.run()
                if found is not None:
                    parts.append(found)
                    break
    return _collect(parts, lead, dwelltime, external, n_total)


@contextlib.contextmanager
def _workers(device: torch.device):
    """A ``map`` with as many workers as PyTorch has threads, each with one thread.

    Arrays of a few transients are too short to be shared out among threads one operation at a time: the threads would spend
    their time waiting for each other, for milliseconds an operation where other programs keep the processor busy.
    """
    n_threads = torch.get_num_threads()
    if device.type != "cpu" or n_threads == 1:
        yield map
        return
    inference = torch.is_inference_mode_enabled()

    def with_mode(work, part):
        with torch.inference_mode(inference):
            return work(part)

    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(n_threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield lambda work, parts: pool.map(functools.partial(with_mode, work), parts) if len(parts) > 1 else map(work, parts)
    finally:
        torch.set_num_threads(n_threads)


def _as_four_dimensional(fid, device) -> tuple[torch.Tensor, tuple[int, ...]]:
    """The FIDs as a tensor (n_sets, n_channels, n_transients, n_points), and the leading shape of the results."""
    tensor = fid if isinstance(fid, torch.Tensor) else torch.as_tensor(np.ascontiguousarray(fid))
    if not tensor.is_complex():
        raise DataError(f"The FIDs are {tensor.dtype}: give complex time-domain data.")
    if tensor.ndim not in (2, 3, 4) or 0 in tensor.shape:
        raise DataError(
            f"The FIDs have shape {tuple(tensor.shape)}: give (n_transients, n_points), (n_channels, n_transients, n_points) "
            "or (n_sets, n_channels, n_transients, n_points)."
        )
    if tensor.shape[-1] < _MIN_POINTS:
        raise DataError(f"The FIDs have {tensor.shape[-1]} points, at least {_MIN_POINTS} are needed: is time the last axis?")
    lead = tuple(tensor.shape[:1]) if tensor.ndim == 4 else ()
    tensor = tensor.reshape((1,) * (4 - tensor.ndim) + tuple(tensor.shape))
    return (tensor if device is None else tensor.to(device)).detach(), lead


def _check_options(dwelltime, spec_freq_mhz, precision, max_memory, n_iter, taper_ppm, baseline_order, ppmlim) -> None:
    for name, value in (("dwelltime", dwelltime), ("spec_freq_mhz", spec_freq_mhz), ("max_memory", max_memory)):
        if not (np.isfinite(value) and value > 0):
            raise OptionError(f"{name} is {value}: give a positive number.")
    if precision not in ("double", "single"):
        raise OptionError(f"precision is '{precision}': give 'double' or 'single'.")
    if n_iter < 1:
        raise OptionError(f"n_iter is {n_iter}: give at least 1.")
    if taper_ppm < 0:
        raise OptionError(f"taper_ppm is {taper_ppm}: give 0 for none, or a positive width.")
    if baseline_order is not None and not 0 <= baseline_order <= 20:
        raise OptionError(f"baseline_order is {baseline_order}: give None, or an order from 0 to 20.")
    if baseline_order is not None and ppmlim is None:
        raise OptionError("A baseline needs a ppm window: give ppmlim as well, or leave baseline_order out.")


def _as_reference(reference, fid: torch.Tensor) -> torch.Tensor:
    """External reference as (n_sets, n_channels, n_points) on the device of the data."""
    tensor = reference if isinstance(reference, torch.Tensor) else torch.as_tensor(np.ascontiguousarray(reference))
    tensor = tensor.to(fid.device).detach()
    n_sets, n_channels, _, n_points = fid.shape
    wanted = {1: (1, 1), 2: (1, n_channels), 3: (n_sets, n_channels)}.get(tensor.ndim)
    fits = wanted is not None and tuple(tensor.shape[:-1]) == wanted[3 - tensor.ndim :] and tensor.shape[-1] == n_points
    if not fits or (tensor.ndim == 1 and n_channels != 1):
        raise DataError(
            f"The reference has shape {tuple(tensor.shape)}: give ({n_channels}, {n_points}) for all sets or "
            f"({n_sets}, {n_channels}, {n_points}), one FID for each channel."
        )
    if not (tensor.is_complex() and bool(torch.isfinite(torch.view_as_real(tensor)).all()) and bool((tensor != 0).any())):
        raise DataError("The reference is not a finite complex FID: give one without NaN that is not all zero.")
    return tensor.reshape((1,) * (3 - tensor.ndim) + tuple(tensor.shape)).expand(n_sets, n_channels, n_points)


_NOISELESS = 3e-3  # of the transients' noise: less of it in a reference changes nothing


def _without_late_noise(reference: torch.Tensor, fid: torch.Tensor, dwelltime, spec_freq_mhz, nucleus, ppmlim) -> torch.Tensor:
    """References whose late points, where there is nothing but noise, are turned down.

    Noise that is taken for signal would add noise to every estimate, and to the information that errors are stated from.
    """
    noise = _noise_sd(torch.fft.fft(reference, norm="ortho"))  # (n_sets, n_channels)
    finite = torch.nan_to_num(fid[:, :, : min(fid.shape[2], 64)])
    usual = _noise_sd(torch.fft.fft(finite, norm="ortho")).median(-1).values
    noisy = noise > _NOISELESS * usual
    if not bool(noisy.any()):
        return reference
    n_points = reference.shape[-1]
    first, last = window_indices(ppm_axis(n_points, dwelltime, spec_freq_mhz, nucleus), ppmlim)
    smooth = np.zeros(n_points)
    smooth[first:last] = 1.0 if ppmlim is None else np.hanning(last - first + 2)[1:-1]
    smooth = torch.as_tensor(np.fft.ifftshift(smooth), dtype=noise.dtype, device=reference.device)
    level = noise.clamp_min(torch.finfo(noise.dtype).tiny)[..., None]
    spec = torch.fft.fft(reference / level, norm="ortho") * smooth
    power = _squared(torch.fft.ifft(spec, norm="ortho")).sum(1)
    floor = torch.full_like(power[:, 0], float(2 * (smooth**2).mean()) * reference.shape[1])
    time = torch.arange(n_points, dtype=noise.dtype, device=reference.device) / n_points
    gain = _decay_gain(power, floor)(time)
    return torch.where(noisy.any(1)[:, None, None], reference * gain[:, None], reference)


def _as_proposal(starter, fid: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor] | None:
    """The starter's shifts (Hz) and phases (rad), each (n_sets, n_transients); None for the classical search."""
    if isinstance(starter, str):
        if starter != "classical":
            raise OptionError(f"starter is '{starter}': give 'classical', a callable, or a pair of arrays.")
        return None
    shift, phase = starter(fid) if callable(starter) else starter
    shape = (fid.shape[0], fid.shape[2])
    try:
        shift, phase = (
            torch.as_tensor(x, dtype=torch.float64, device=fid.device).detach().reshape(shape) for x in (shift, phase)
        )
    except (RuntimeError, TypeError, ValueError) as error:
        raise OptionError(f"The starter's shift and phase do not have shape {shape}: one each per transient.") from error
    return torch.nan_to_num(shift), torch.deg2rad(torch.nan_to_num(phase))


def _length_without_padding(fid: torch.Tensor) -> int:
    """Points up to the last that is not zero everywhere: zero-filling adds points but neither noise nor information."""
    if bool((fid[..., -1] != 0).any()):
        return fid.shape[-1]
    used = (fid != 0).reshape(-1, fid.shape[-1]).any(0).nonzero()
    if not len(used):
        raise DataError("The FIDs are zero everywhere: there is nothing to align.")
    return max(int(used[-1]) + 1, _MIN_POINTS)


_BYTES_PER_POINT = 16 * 10  # double complex, times the working copies of one pass


def _sets_per_chunk(fid: torch.Tensor, max_memory: float) -> int:
    per_set = fid[0].numel() * _BYTES_PER_POINT
    return max(1, int(max_memory // per_set))


@dataclass
class _State:
    """Estimates of one chunk of sets; every tensor is (n_sets, n_transients) unless it says otherwise."""

    shift: torch.Tensor
    phase: torch.Tensor
    amplitude: torch.Tensor
    variance: torch.Tensor  # residual variance in units of the channels' noise
    share: torch.Tensor  # what the transient contributes to the reference: reference = sum share * aligned
    weight: torch.Tensor
    similarity: torch.Tensor
    detection: torch.Tensor
    shift_sd: torch.Tensor
    phase_sd: torch.Tensor
    centre: torch.Tensor  # where to search, Hz
    reach: torch.Tensor  # how far from there, Hz


_CACHED_BYTES = 2e6  # working arrays of this size stay in the processor's cache


class _Job:
    """Alignment of one chunk of independent sets.

    What belongs to a set (its reference) is in the precision asked for; ``bulk`` is the precision of what belongs to transients,
    which is single until the end unless the job is ``thorough``.
    """

    def __init__(
        self, fid, window, band, thorough, dwelltime, max_shift_hz, external, proposal, starter_error_hz, n_iter, max_memory, map_
    ):
        self.fid, self.band, self.thorough, self.map = fid, band, thorough, map_
        self.real, self.cplx = window.weight.dtype, window.lag.dtype
        self.n_band, self.duration = len(band.index), fid.shape[-1] * dwelltime
        # The band's FIDs begin a little before the first point, as a filtered step does; that is found at their end.
        self.n_early = 0
        if self.n_band < fid.shape[-1]:
            n_fine = _block_length(self.n_band)
            self.n_early = self.n_band - n_fine * (-(-self.n_band // n_fine) - 2)
        index = torch.arange(self.n_band, dtype=self.real, device=fid.device)
        self.short_time = torch.where(index < self.n_band - self.n_early, index, index - self.n_band) / self.n_band
        self.time = torch.arange(fid.shape[-1], dtype=self.real, device=fid.device) / fid.shape[-1]
        self.window = replace(window, held=torch.zeros(fid.shape[:2], dtype=torch.long, device=fid.device))
        self._set_bulk(self.cplx if thorough else torch.complex64)
        self.n_iter, self.max_memory = n_iter, max_memory
        self.proposal, self.starter_error_hz, self.max_shift_hz = proposal, starter_error_hz, max_shift_hz
        # Two points of the grid to a bin; what is between them is interpolated from the neighbours.
        self.half = max(2, math.floor(2 * max_shift_hz * self.duration))
        # Without a search transients may leave its range a little by themselves: the range follows the middle of them, which moves.
        self.beyond = self.half // 2
        self.reach = (self.half + self.beyond + 1) // 2 + len(_TAPS) // 4 + 1
        self.step = 0.5 / self.duration
        self.grid_hz = torch.arange(-self.half, self.half + 1, dtype=self.real, device=fid.device) * self.step
        per_transient = fid[:, :, 0].numel() * _BYTES_PER_POINT
        self.chunk = max(1, int(max_memory // per_transient))
        self.kept = None
        self._measure_noise()
        self.external = external is not None
        self.exact = None  # reference in full length; until it is there, that of the band counts
        if self.external:
            self._set_exact(external.to(self.cplx) / self.channel_sd[..., None])

    # ---- data

    def _slices(self, n_points: int | None = None, bytes_per_point: int = 16):
        """Transients that are worked on together: few enough for the memory, and for the processor's cache."""
        n_sets, n_channels, n = self.fid.shape[:3]
        size = n_sets * n_channels * (self.n_band if n_points is None else n_points) * bytes_per_point
        chunk = max(1, min(self.chunk, int(_CACHED_BYTES // size)))
        return [slice(first, min(first + chunk, n)) for first in range(0, n, chunk)]

    def _each(self, work: Callable, n_points: int | None = None) -> list:
        """What ``work`` returns for every slice of the transients."""
        return list(self.map(work, self._slices(n_points)))

    def _measure_noise(self) -> None:
        """Noise of channels and transients, and which of them count (NaN and zero ones do not); keeps the bands if they fit."""
        n_sets, n_channels, n_transients, n_points = self.fid.shape
        sd = torch.zeros(n_sets, n_channels, n_transients, dtype=self.real, device=self.fid.device)
        rms = torch.zeros_like(sd)
        if n_transients <= self.chunk:
            self.kept = torch.empty(*sd.shape, self.n_band, dtype=self.cplx, device=self.fid.device)

        def measure(part: slice):
            fid = self.fid[:, :, part].resolve_conj().to(self.cplx)
            power = (torch.view_as_real(fid) ** 2).sum((-1, -2))
            finite = torch.isfinite(power)
            if not bool(finite.all()):
                fid = torch.where(finite[..., None], fid, torch.zeros_like(fid))
                power = torch.where(finite, power, torch.zeros_like(power))
            rms[:, :, part] = (power / n_points).sqrt()
            spec = torch.fft.fft(fid, norm="ortho")
            sd[:, :, part] = _noise_sd(spec)
            if self.kept is not None:
                self.kept[:, :, part] = spec[..., self.band.index]

        self._each(measure, n_points)
        valid = torch.isfinite(rms) & (rms > 0)
        nan = torch.full_like(sd, torch.nan)
        level = torch.where(valid, rms, nan).nanmedian(-1).values.nan_to_num(1.0)
        # The floor lets noise-free simulations through.
        channel_sd = torch.where(valid, sd, nan).nanmedian(-1).values.nan_to_num(1.0)
        self.channel_sd = torch.maximum(channel_sd, level * 1e-9).clamp_min(torch.finfo(self.real).tiny)
        relative = sd / self.channel_sd[..., None]
        # One coil's spike must not cost the transient its other coils.
        usual = torch.where(valid, relative, nan).nanmedian(1, keepdim=True).values.nan_to_num(1.0)
        excess = relative / usual.clamp_min(torch.finfo(self.real).tiny)
        counts = torch.where(excess > 2, excess.clamp_min(1).reciprocal() ** 2, torch.ones_like(excess))
        self.counts = torch.where(valid, counts, torch.zeros_like(counts))
        self.valid = valid.any(1)
        total = self.counts.sum(1).clamp_min(torch.finfo(self.real).tiny)
        noise = ((relative * self.counts) ** 2).sum(1) / (self.counts**2).sum(1).clamp_min(torch.finfo(self.real).tiny)
        noise = torch.where(self.valid & (total > 0), noise, torch.ones_like(noise)).clamp_min(1e-12)
        # Noise is much alike in all transients but for spikes: one with far less would be a noise-free line that fits the grid.
        usual = torch.where(self.valid, noise, torch.full_like(noise, torch.nan)).nanmedian(1, keepdim=True).values
        self.noise_variance = torch.maximum(noise, 0.1 * usual.nan_to_num(0.0))

        if self.kept is not None:
            self.kept *= (self.counts / self.channel_sd[..., None])[..., None] * self.band.edge

    def _set_bulk(self, bulk: torch.dtype) -> None:
        """Set the precision of what belongs to transients."""
        if bulk == getattr(self, "bulk", None):
            return
        self.bulk = bulk
        self.bulk_window = self.window.to(torch.float32 if bulk == torch.complex64 else torch.float64)
        angle = -math.pi * self.short_time
        self.half_bin = torch.stack([torch.ones_like(angle).to(bulk), torch.polar(torch.ones_like(angle), angle).to(bulk)])
        self.cache = {}

    def _set_held(self, held: torch.Tensor) -> None:
        """Take out what these guesses say, (n_sets, n_channels)."""
        if torch.equal(held, self.window.held):
            return
        self.window, self.bulk_window = replace(self.window, held=held), replace(self.bulk_window, held=held)
        self.cache = {key: (fid, None, None) for key, (fid, _, _) in self.cache.items()}

    def _whole(self, part: slice) -> torch.Tensor:
        """Whole FIDs, as much of them as counts."""
        fid, counts = self.fid[:, :, part].to(self.cplx), self.counts[:, :, part, None]
        return fid if bool((counts == 1).all()) else torch.where(counts > 0, fid, torch.zeros_like(fid)) * counts

    def _bands(self, part: slice) -> torch.Tensor:
        """Spectra of the band in units of the channels' noise."""
        if self.kept is not None:
            return self.kept[:, :, part]
        spec = torch.fft.fft(self._whole(part), norm="ortho")[..., self.band.index]
        return spec * (self.band.edge / self.channel_sd[..., None, None])

    def _load(self, part: slice) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Short FIDs in units of their channel's noise, the same through the window, and the products of both; kept if they fit."""
        fid, windowed, own = self.cache.get(part.start, (None, None, None))
        if windowed is None:
            spec = self._bands(part).to(self.bulk)
            fid = torch.fft.ifft(spec, norm="ortho") if fid is None else fid
            windowed = torch.fft.ifft(_window_spec(self.bulk_window, spec), norm="ortho")
            own = self._product(windowed, fid)
            if self.kept is not None:
                self.cache[part.start] = fid, windowed, own
        return fid, windowed, own

    @staticmethod
    def _product(windowed: torch.Tensor, fid: torch.Tensor) -> torch.Tensor:
        """``windowed * conj(fid)``, summed over channels."""
        product = windowed * fid.conj()
        return product[:, 0] if product.shape[1] == 1 else product.sum(1)

    # ---- reference

    def _initial_reference(self) -> torch.Tensor:
        """The candidate that most transients resemble after the search: the plain mean, or one of the transients."""
        n_transients = self.fid.shape[2]
        order = torch.argsort(self.valid.to(torch.int8), dim=1, descending=True, stable=True)  # valid ones first
        n_valid = self.valid.sum(1).clamp_min(1)
        mean = self._weighted_mean(self.valid.to(self.real) / self.noise_variance)
        judges = self._pick(order, n_valid, min(_N_JUDGES, n_transients))
        spec = self._gather(judges).to(self.bulk)
        fid = torch.fft.ifft(spec, norm="ortho")
        windowed = torch.fft.ifft(_window_spec(self.bulk_window, spec), norm="ortho")
        judge = windowed, self._product(windowed, fid)
        noise = torch.gather(self.noise_variance, 1, judges)
        share = torch.gather(self.valid.to(self.real) / self.noise_variance, 1, judges) / (
            (self.valid / self.noise_variance).sum(1, keepdim=True).clamp_min(torch.finfo(self.real).tiny)
        )
        best, score = mean, self._score(mean, *judge, share, noise)
        candidates = self._pick(order, n_valid, min(_N_CANDIDATES, n_transients))
        candidate_fids = torch.fft.ifft(self._gather(candidates), norm="ortho")
        for column in range(candidates.shape[1]):
            candidate = candidate_fids[:, :, column]
            mine = (judges == candidates[:, column : column + 1]).to(self.real)
            rival = self._score(candidate, *judge, mine, noise)
            better = rival > score
            best = torch.where(better[:, None, None], candidate, best)
            score = torch.maximum(score, rival)
        return best

    @staticmethod
    def _pick(order, n_valid, n):
        """``n`` transients spread evenly over the valid ones of each set, (n_sets, n)."""
        position = (torch.arange(n, device=order.device) + 0.5) / n
        index = (position * n_valid[:, None]).long().clamp_max(order.shape[1] - 1)
        return torch.gather(order, 1, index)

    def _gather(self, index: torch.Tensor) -> torch.Tensor:
        """Spectra of chosen transients in the band, in units of noise, (n_sets, n_channels, n_chosen, n_band)."""
        n_sets, n_channels = self.fid.shape[:2]
        wide = index[:, None, :].expand(n_sets, n_channels, index.shape[1])
        source = self.fid if self.kept is None else self.kept
        chosen = torch.gather(source, 2, wide[..., None].expand(*wide.shape, source.shape[-1]))
        if self.kept is not None:
            return chosen
        counts = torch.gather(self.counts, 2, wide)[..., None]
        fid = torch.where(counts > 0, chosen, torch.zeros_like(chosen)).to(self.cplx)
        spec = torch.fft.fft(fid, norm="ortho")[..., self.band.index]
        return spec * (self.band.edge * counts / self.channel_sd[..., None, None])

    def _score(self, reference, judge_window, judge_own, share, noise) -> torch.Tensor:
        """Median over the judges of the likelihood gain, their ``share`` of the reference taken out, (n_sets,)."""
        template, energy, scale = self._template(reference, 2)
        cross = self._cross(judge_window, judge_own * (share / scale)[..., None].to(self.bulk), template)
        beyond = 2 * self.reach - self.half
        inside = slice(beyond, beyond + len(self.grid_hz))
        gain = _likelihood(cross[..., inside], energy[..., inside]).amax(-1).to(self.real) / noise
        return torch.nan_to_num(gain).median(1).values

    def _template(self, reference: torch.Tensor, n_steps: int, exact: torch.Tensor | None = None):
        """The reference as :meth:`_cross` and the energy need it: FIDs (n_sets, n_channels, 2, n_band) half a bin apart, the
        energy at ``n_steps`` shifts to a bin, and the scale (n_sets, 1) that both are divided by, which keeps them in range.
        """
        if exact is None:
            spectra = _shifted_spectra(reference, self.short_time, n_steps)
        else:
            spectra = _shifted_spectra(exact, self.time, n_steps)[..., self.band.index]
        scale = _squared(spectra).sum((1, 3)).amax(1).clamp_min(torch.finfo(self.real).tiny).sqrt()
        spectra = (spectra / scale[:, None, None, None]).to(self.bulk)
        energy = _energy_on_grid(self.bulk_window, spectra, self.reach)
        fids = torch.fft.ifft(spectra[:, :, :: n_steps // 2], norm="ortho")
        return fids.conj().resolve_conj(), energy, scale[:, None]

    def _cross(self, windowed, own, template) -> torch.Tensor:
        """``C`` at every shift of the grid and a little beyond, two to a bin, (n_sets, n_transients, n).

        It is the Fourier sum of windowed transient times conjugate template, summed over channels, without ``own``, the same of
        what the transient itself has contributed to the template.
        """
        product = windowed[:, 0, :, None] * template[:, 0, None]
        for channel in range(1, windowed.shape[1]):
            product += windowed[:, channel, :, None] * template[:, channel, None]
        if own is not None:
            product -= own[:, :, None] * self.half_bin
        return _around(torch.fft.fft(product), self.reach)

    def _weighted_mean(self, share, shift=None, phase=None) -> torch.Tensor:
        """``sum_k share_k * aligned_k`` divided by the sum of shares if no shift is given, (n_sets, n_channels, n_band)."""

        def add(part: slice) -> torch.Tensor:
            fid = self._load(part)[0]
            weights = share[:, part]
            factor = weights.to(self.bulk)[..., None] if shift is None else self._undo(shift[:, part], phase[:, part], weights)
            return (fid * factor[:, None]).sum(2).to(self.cplx)

        total = sum(self._each(add))
        if shift is None:
            total = total / share.sum(1).clamp_min(torch.finfo(self.real).tiny)[:, None, None]
        return total

    def _exact_mean(self, share, shift, phase) -> torch.Tensor:
        """``sum_k share_k * aligned_k`` of whole FIDs, (n_sets, n_channels, n_points)."""

        def add(part: slice) -> torch.Tensor:
            undo = self._undo(shift[:, part], phase[:, part], share[:, part], whole=True)
            return (self._whole(part) * undo[:, None]).sum(2)

        return sum(self._each(add, self.fid.shape[-1])) / self.channel_sd[..., None]

    def _set_exact(self, exact: torch.Tensor) -> None:
        """Take a whole FID for the reference from here on."""
        self.exact = exact
        spec = torch.fft.fft(exact, norm="ortho")[..., self.band.index]
        self.reference = torch.fft.ifft(spec * self.band.edge, norm="ortho")

    def _undo(self, shift, phase, weights=None, whole: bool = False) -> torch.Tensor:
        """The correcting factor (n_sets, n_transients, n_band or n_points), times weights."""
        n_points, n_early, cplx = (self.fid.shape[-1], 0, self.cplx) if whole else (self.n_band, self.n_early, self.bulk)
        n_fine = _block_length(n_points)
        first = torch.arange(0, n_points, n_fine, device=shift.device)
        first = torch.where(first < n_points - n_early, first, first - n_points)
        turn = -self.duration / n_points * shift[..., None]
        outer = _rotation(turn * first - phase[..., None] / _TWO_PI, cplx)
        if weights is not None:
            outer = outer * weights[..., None].to(outer.real.dtype)
        inner = _rotation(turn * torch.arange(n_fine, device=shift.device), cplx)
        return (outer[..., None] * inner[..., None, :]).flatten(-2)[..., :n_points]

    def _time_filter(self, share, noise) -> Callable[[torch.Tensor], torch.Tensor]:
        """Wiener gain of a reference built from noisy transients, at times from 0 to 1: (n_sets, n_times).

        Late points of the mean are noise; multiplied by the transient's noise they would add variance.  The gain follows an
        exponential decay fitted to the power in the window: a gain read off the power itself would let through, and so
        reinforce pass by pass, whatever noise the registration has aligned.
        """
        spec = torch.fft.fft(self.reference, norm="ortho") * self.window.smooth
        power = (torch.fft.ifft(spec, norm="ortho").abs() ** 2).sum(1)
        passed = 2 * (self.window.smooth**2).mean() * self.fid.shape[1]
        floor = passed * (share**2 * noise).sum(1)
        # Filtered, the FID begins a little before its first point, which is found at its end and would pass for noise there.
        narrow = bool((self.window.smooth == 0).any())
        used = self.n_band - (max(self.n_early, self.n_band // 32) if narrow else 0)
        return _decay_gain(power[:, :used], floor, used / self.n_band)

    # ---- passes

    def run(self) -> dict[str, np.ndarray | int] | None:
        """What was found; None where transients are weak and only a thorough job is good enough.

        Which maximum of its likelihood a weak transient takes must not be a matter of rounding, nor of what the band leaves out.
        """
        lone = not self.external and self.fid.shape[2] == 1
        state, passes = self._iterate(lone)
        if not (lone or self.thorough) and bool(self._weak(state).any()):
            return None
        passes = self._finish(state, passes, lone)
        self._judge(state)
        if not self.external and not lone:
            self._centre(state)
        return self._report(state, passes)

    def _iterate(self, lone: bool) -> tuple[_State, int]:
        """The passes with short FIDs, and how many there were."""
        state = self._first_state()
        if not self.external:
            self.reference = None if lone else self._first_reference(state)
        passes = 0
        if not lone:
            if self.proposal is not None:
                self._learn(state)
            elif len(self.window.unstable):
                self._try_without(state)
            settled = 0
            for passes in range(1, max(1, self.n_iter - 1) + 1):
                early = passes <= _N_REWEIGHT
                # A first reference that is one of the transients has that one's unstable lines in it.
                built = self.external or bool((state.share > 0).any())
                moved = self._pass(state, search=early, reweight=early)
                if early and built and self._learn(state):
                    settled = 0
                    self._forget_aim(state)
                else:
                    settled += 1
                if self.external and (settled > 1 or (settled == 1 and not bool(self._weak(state).any()))):
                    break
                # Weak transients are told where to look, and are told better when told again.
                if moved < _NEARLY and (passes > _N_REWEIGHT or (settled > 1 and not bool(self._weak(state).any()))):
                    break
        return state, passes

    def _finish(self, state: _State, passes: int, lone: bool) -> int:
        """Whole FIDs, in the end in full precision, until nobody moves any more; the number of passes."""
        if lone:
            self._set_bulk(self.cplx)
            share = state.weight / state.weight.clamp_min(torch.finfo(self.real).tiny)
            self._set_exact(self._exact_mean(share, state.shift, state.phase))
            return passes
        # With an external reference every pass has been one with whole FIDs, and none tells the next anything new.
        for bulk, enough in ((self.bulk, _NEARLY), (self.cplx, _CONVERGED))[self.external :]:
            self._set_bulk(bulk)
            moved = math.inf
            while moved >= enough and (passes < self.n_iter or moved == math.inf):
                if not self.external:
                    self._set_exact(self._exact_mean(state.share, state.shift, state.phase))
                moved = self._pass(state, search=False, reweight=False)
                passes += 1
                if self.external:
                    break
        return passes

    def _try_without(self, state: _State) -> None:
        """See whether anything is unstable; sets in which something is begin again with all that may be taken out.

        Water and lipids that pull spoil the first registration, after which nothing could be learnt of them but that they are there.
        """
        for _ in range(1 if self.external else 2):
            self._pass(state, search=True, reweight=True)
        self._learn(state)
        self._forget_aim(state)
        held = self.window.held
        there = (self.window.strengths[held] > 0).flatten(1).any(1)
        if not bool(there.any()):
            return
        self._set_held(torch.where(there[:, None], len(self.window.filters) - 1, held))
        fresh = self._first_state()
        for name in vars(state):
            setattr(state, name, torch.where(there[:, None], getattr(fresh, name), getattr(state, name)))
        if not self.external:
            self.reference = torch.where(there[:, None, None], self._initial_reference(), self.reference)

    def _first_state(self) -> _State:
        zero = torch.zeros_like(self.noise_variance)
        one = torch.ones_like(zero)
        centre, reach = zero.clone(), one * self.max_shift_hz
        shift, phase = zero.clone(), zero.clone()
        if self.proposal is not None:
            shift, phase = (x.to(self.real) for x in self.proposal)
            centre, reach = shift.clone(), one * self.starter_error_hz
        weight = self.valid.to(self.real) / self.noise_variance
        return _State(
            shift, phase, one.clone(), self.noise_variance.clone(), zero.clone(), weight, zero.clone(), zero.clone(),
            one * torch.inf, one * torch.inf, centre, reach,
        )  # fmt: skip

    def _first_reference(self, state: _State) -> torch.Tensor:
        if self.proposal is None:
            return self._initial_reference()
        self._set_share(state)
        return self._weighted_mean(state.share, state.shift, state.phase)

    def _set_share(self, state: _State) -> None:
        """Least squares for the reference given the amplitudes, whose mean is held at 1."""
        tiny = torch.finfo(self.real).tiny
        mean = (state.weight * state.amplitude).sum(1, keepdim=True) / state.weight.sum(1, keepdim=True).clamp_min(tiny)
        state.amplitude = amplitude = state.amplitude / torch.where(mean > 0, mean, torch.ones_like(mean))
        total = (state.weight * amplitude**2).sum(1, keepdim=True).clamp_min(torch.finfo(self.real).tiny)
        state.share = state.weight * amplitude / total

    def _pass(self, state: _State, search: bool, reweight: bool) -> float:
        """Register every transient to the mean of the others, then rebuild the mean; largest move in SDs."""
        built = not self.external and bool((state.share > 0).any())
        gain = self._time_filter(state.share, state.variance) if built else None
        reference, exact = self._filtered(gain)
        # Interpolated between two values to a bin, the energy lacks what the last half of the FID has to say, which is noise.
        n_steps = 2 if exact is None else 4
        template, energy, scale = self._template(reference, n_steps, exact)
        grid = torch.zeros(*state.shift.shape, len(self.grid_hz), dtype=self.real, device=self.fid.device) if search else None
        place = torch.round(state.shift / self.step).long() + self.half
        place = place.clamp(-self.beyond, 2 * self.half + self.beyond)
        taps = torch.zeros(*place.shape, len(_TAPS), dtype=self.cplx, device=self.fid.device)
        around = torch.as_tensor(_TAPS, device=self.fid.device) + 2 * self.reach - self.half
        rest = (
            (1 - state.share * state.amplitude).clamp_min(0.05)[..., None] if built else torch.ones_like(state.shift)[..., None]
        )
        old_shift, old_phase = state.shift.clone(), state.phase.clone()

        def register(part: slice):
            _, windowed, own = self._load(part)
            if built:
                turn = self._undo(-state.shift[:, part], -state.phase[:, part], state.share[:, part] / scale)
                own = own * (turn * gain(self.short_time)[:, None].to(turn.real.dtype))
            cross = self._cross(windowed, own if built else None, template)
            if search:
                inside = slice(2 * self.reach - self.half, 2 * self.reach + self.half + 1)
                finer = n_steps // 2
                likelihood = _likelihood(cross[..., inside], energy[:, inside.start * finer : inside.stop * finer : finer])
                grid[:, part] = likelihood.to(self.real) / rest[:, part] ** 2
                place[:, part] = self._highest(state, part, grid[:, part])
            taps[:, part] = torch.gather(cross, -1, place[:, part, None] + around).to(self.cplx) / rest[:, part]

        self._each(register)
        self._refine(state, place, taps, energy.to(self.real), n_steps // 2, search)
        # Compared with the mean of the others, everybody moving at once would overshoot by n / (n - 1).
        relax = (1 - state.share * state.amplitude).clamp(0.3, 1) if built else torch.ones_like(state.shift)
        turn = torch.remainder(state.phase - old_phase + math.pi, _TWO_PI) - math.pi
        # The only valid transient of a set has nobody to be compared with.
        moves = self.valid if self.external else self.valid & (self.valid.sum(1, keepdim=True) > 1)
        state.shift = torch.where(moves, old_shift + relax * (state.shift - old_shift), torch.zeros_like(state.shift))
        state.phase = torch.where(moves, old_phase + relax * turn, torch.zeros_like(state.phase))
        if search and not self.external:
            self._recentre(state)
        self._inform(state, reference, exact)
        # A first reference that is one of the transients leaves that one no residual: nothing is learnt from it.
        if (reweight and built) or (self.external and bool(self._weak(state).any())):
            self._residual(state)
        if grid is not None:
            self._aim(state, grid)
        if not self.external:
            if reweight:
                state.weight = self.valid / state.variance * ~self._unlike(state)
                self._set_share(state)
            if self.exact is None:
                self.reference = self._weighted_mean(state.share, state.shift, state.phase)
        return self._largest_move(state, old_shift, old_phase)

    def _highest(self, state: _State, part: slice, likelihood: torch.Tensor) -> torch.Tensor:
        """Index of the highest point of the grid within reach, (n_sets, n_transients)."""
        distance = (self.grid_hz - state.centre[:, part, None]).abs()
        allowed = distance <= state.reach[:, part, None].clamp_min(self.step)
        peak, best = torch.where(allowed, likelihood, -torch.ones_like(likelihood)).max(-1)
        state.detection[:, part] = peak / state.variance[:, part]
        return best

    def _refine(self, state: _State, place, taps, energy, finer: int, search: bool) -> None:
        """Shift and phase of every transient by Newton's method on the power series of ``C`` and ``E`` around points of the grid.

        The energy's grid is ``finer`` times as fine.
        """
        degree, degree_energy = _DEGREES[self.bulk]
        point = (place - self.half).to(self.real)
        # Centred on the middle of the FID, ``C`` turns by a quarter from one point of the grid to the next.
        centred = torch.as_tensor(_taylor_taps(degree) * (1j**_TAPS)[:, None], dtype=self.cplx, device=taps.device)
        around = torch.as_tensor(_TAPS, device=taps.device) + finer * (2 * self.reach - self.half)
        near = torch.gather(energy, 1, (finer * place[..., None] + around).flatten(1)).reshape(taps.shape)
        scaled = _taylor_taps(degree_energy) * float(finer) ** np.arange(degree_energy + 1)
        scaled = torch.as_tensor(scaled, dtype=self.real, device=taps.device)
        start = torch.zeros_like(state.shift) if search else (state.shift / self.step - point).clamp(-1, 1)
        tolerance = 2e-7 if self.bulk == torch.complex128 else 2e-5
        found, value = _maximise(taps @ centred, near @ scaled, start, tolerance)
        value = value * torch.polar(torch.ones_like(found), -math.pi / 2 * found)
        state.shift = torch.nan_to_num((point + found) * self.step)
        state.phase = torch.nan_to_num(torch.angle(value))

    def _recentre(self, state: _State) -> None:
        """Put the middle of the transients where the search is: the first reference may be one that lies at an end of the range."""
        seen = torch.where(self.valid, state.shift, torch.full_like(state.shift, torch.nan))
        middle = seen.nanmedian(1, keepdim=True).values.nan_to_num(0.0)
        state.shift = torch.where(self.valid, state.shift - middle, torch.zeros_like(state.shift))
        if self.proposal is not None:
            state.centre = state.centre - middle
        self.reference = self.reference * self._undo(-middle, torch.zeros_like(middle))

    def _filtered(self, gain) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The reference, and in full length if there is one, times the gain."""
        if gain is None:
            return self.reference, self.exact
        exact = None if self.exact is None else self.exact * gain(self.time)[:, None]
        return self.reference * gain(self.short_time)[:, None], exact

    def _inform(self, state: _State, reference, exact) -> None:
        """Standard deviations from the information in the filtered reference at the residual's noise."""
        if exact is None:
            columns = _changes(reference, self.short_time * self.duration)
        else:
            columns = _changes(exact, self.time * self.duration)[..., self.band.index]
        shift_sd, phase_sd = _unit_sd(self.window, columns)
        scale = state.variance.sqrt() / state.amplitude
        state.shift_sd = shift_sd[:, None] * scale
        state.phase_sd = phase_sd[:, None] * scale

    def _learn(self, state: _State) -> bool:
        """How strong what is unstable is, from what the aligned transients leave; whether that changed what is taken out.

        Of all guesses the one of highest likelihood; each kind of lines must earn its place.
        """
        window = self.window
        if not len(window.unstable):
            return False
        if self.external:
            self._residual(state)
        share = torch.zeros_like(state.share) if self.external else state.share
        remaining = (1 - share * state.amplitude).clamp_min(0.05)
        spread = share**2 * self.noise_variance
        noise = self.noise_variance + (spread.sum(1, keepdim=True) - spread) * (state.amplitude / remaining) ** 2
        # Without noise what is left of a registration that has not converged yet would count as unstable.
        peak = (torch.fft.fft(self.reference, norm="ortho") * window.weight).abs().amax((1, 2))
        noise = noise + (_NEVER_LESS * peak[:, None] * state.amplitude) ** 2
        tiny = torch.finfo(self.real).tiny
        reference, vectors = self.reference.to(self.bulk), self.bulk_window.unstable_fid.conj().T

        def look(part: slice) -> tuple[torch.Tensor, torch.Tensor]:
            counts = self.counts[:, :, part]
            redo = self._undo(-state.shift[:, part], -state.phase[:, part], state.amplitude[:, part])
            left = self._load(part)[0] - reference[:, :, None] * (redo[:, None] * counts[..., None].to(redo.real.dtype))
            found = (left @ vectors).to(self.cplx) / remaining[:, None, part, None]
            seen = ((counts > 0) & (self.valid & (state.weight > 0))[:, None, part]).to(self.real)
            scale = seen / (2 * counts**2 * noise[:, None, part]).clamp_min(tiny)
            return found.mT @ (found.conj() * scale[..., None]), seen.sum(2)

        moment, n = (sum(terms) for terms in zip(*self._each(look)))
        gain = torch.einsum("gij,scij->scg", window.filters, moment).real - n[..., None] * window.entropy
        best = (gain - _CREDIBLE * (window.strengths > 0).sum(-1)).argmax(-1)
        changed = bool((window.filters[best] - window.taken).abs().max() > 0.05)
        self._set_held(best)
        return changed

    def _residual(self, state: _State) -> None:
        """Amplitude, residual variance and similarity of the aligned transients against the mean of the others."""
        share = torch.zeros_like(state.share) if self.external else state.share
        reference = torch.fft.fft(self.reference, norm="ortho")
        windowed = _window_spec(self.window, reference)
        size = (reference.conj() * windowed).real.sum(-1)[..., None]
        windowed = windowed.conj().resolve_conj()[..., None].to(self.bulk)
        remaining = (1 - share * state.amplitude).clamp_min(0.05)
        spread = share**2 * state.variance
        noise = 2 * self.window.n_counted * (self.counts**2).sum(1) * (spread.sum(1, keepdim=True) - spread) / remaining**2

        def compare(part: slice):
            spec = torch.fft.fft(
                self._load(part)[0] * self._undo(state.shift[:, part], state.phase[:, part])[:, None], norm="ortho"
            )
            # Products of the transient with itself and with the reference, from which those with the others' mean follow.
            each = _window_energy(self.bulk_window, spec).to(self.real)
            mixed = (spec @ windowed)[..., 0].real.to(self.real)
            own, counts = share[:, None, part], self.counts[:, :, part]
            power = (counts**2 * (size - 2 * own * mixed + own**2 * each)).sum(1) / remaining[:, part] ** 2
            power = power.clamp_min(torch.finfo(self.real).tiny)
            inner = (counts * (mixed - own * each)).sum(1) / remaining[:, part]
            total = each.sum(1)
            state.similarity[:, part] = inner / (power * total).sqrt().clamp_min(torch.finfo(self.real).tiny)
            state.amplitude[:, part] = self._amplitude(part, inner, power, noise[:, part])
            n_real = 2 * self.window.n_counted * counts.sum(1).clamp_min(1e-6)
            state.variance[:, part] = (total - inner**2 / power).clamp_min(0) / (n_real - 3).clamp_min(1)

        self._each(compare)
        state.variance = torch.where(self.valid, state.variance, torch.ones_like(state.variance))
        state.variance = torch.maximum(state.variance, 0.25 * self.noise_variance)
        if not self.external:
            # A transient that leaves next to nothing is most of the reference itself, and must not become all of it.
            seen = torch.where(self.valid, state.variance, torch.full_like(state.variance, torch.nan))
            usual = seen.nanmedian(1, keepdim=True).values.nan_to_num(0.0)
            state.variance = torch.where(self.valid, torch.maximum(state.variance, 0.05 * usual), state.variance)
        state.similarity = torch.where(self.valid, state.similarity, torch.zeros_like(state.similarity))

    def _amplitude(self, part, inner, power, noise) -> torch.Tensor:
        """Least-squares amplitude; the noise of the reference, which would pull it to 0, is taken out of its energy."""
        amplitude = inner / torch.maximum(power - noise, 0.2 * power)
        # Amplitudes are near 1 unless the reference came from elsewhere, on a scale of its own.
        low, high = (torch.finfo(self.real).tiny, None) if self.external else (0.02, 50)
        return torch.where(self.valid[:, part], amplitude.clamp(low, high), torch.ones_like(amplitude))

    def _robust_z(self, value: torch.Tensor, floor) -> torch.Tensor:
        """Deviation from the median of the set in robust SDs, which are at least ``floor``."""
        seen = torch.where(self.valid, value, torch.full_like(value, torch.nan))
        deviation = value - seen.nanmedian(1, keepdim=True).values
        seen = torch.where(self.valid, deviation.abs(), torch.full_like(value, torch.nan))
        spread = 1.4826 * seen.nanmedian(1, keepdim=True).values
        return torch.nan_to_num(deviation / torch.maximum(spread, torch.as_tensor(floor, dtype=self.real)))

    def _unlike(self, state: _State) -> torch.Tensor:
        """Transients whose residual, noise or amplitude stands apart from the rest of their set."""
        if self.valid.shape[1] < 4:
            return torch.zeros_like(self.valid)
        # Chance alone scatters a log variance of n values by sqrt(2 / n); half a per cent is no reason to reject.
        chance = max(math.sqrt(1.0 / (self.window.n_counted * self.fid.shape[1])), 0.05)
        excess = self._robust_z(torch.log(state.variance / self.noise_variance), chance)
        # Inverse-variance weights deal with uneven noise; only five times the usual SD counts as a fault.
        noisy = self._robust_z(torch.log(self.noise_variance), math.log(25) / _UNLIKE_Z)
        size = self._robust_z(torch.log(state.amplitude), self._amplitude_sd(state).clamp_min(0.05))
        return self.valid & ((excess > _UNLIKE_Z) | (noisy > _UNLIKE_Z) | (size.abs() > _UNLIKE_Z))

    def _amplitude_sd(self, state: _State) -> torch.Tensor:
        """Relative SD of the amplitude: the inverse of the detected signal-to-noise ratio."""
        return (state.detection.clamp_min(1.0)).rsqrt()

    def _weak(self, state: _State) -> torch.Tensor:
        cells = max(2.0, 2 * self.max_shift_hz * self.duration)
        return self.valid & (state.detection < 2 * math.log(cells) + _DETECTION_MARGIN)

    def _aim(self, state: _State, grid: torch.Tensor) -> None:
        """Where the next search looks: weak transients near the shift that their neighbourhood agrees on."""
        weak = self._weak(state)
        if self.proposal is not None or not bool(weak.any()):
            return
        score = torch.where(self.valid[..., None], grid / state.variance[..., None], torch.zeros_like(grid))
        score = torch.nan_to_num(score).movedim(1, -1)
        width = 2 * _NEIGHBOURS + 1
        pooled = torch.nn.functional.avg_pool1d(score, width, stride=1, padding=_NEIGHBOURS, count_include_pad=True)
        centre = self.grid_hz[pooled.argmax(1)]
        state.centre = torch.where(weak, centre, torch.zeros_like(centre))
        reach = (4 * state.shift_sd).clamp_max(self.max_shift_hz)
        state.reach = torch.where(weak, reach, torch.full_like(reach, self.max_shift_hz))

    def _forget_aim(self, state: _State) -> None:
        """Search the whole range again: who was weak when everything that may be unstable was taken out need not be now."""
        if self.proposal is None:
            state.centre = torch.zeros_like(state.centre)
            state.reach = torch.full_like(state.reach, self.max_shift_hz)

    def _largest_move(self, state, old_shift, old_phase) -> float:
        """In SDs, common motion of the whole set (which the gauge removes) left out; transients with no weight do not count."""
        weight = state.weight
        total = weight.sum(1, keepdim=True).clamp_min(torch.finfo(self.real).tiny)
        counted = weight > 0
        moves = []
        turn = torch.remainder(state.phase - old_phase + math.pi, _TWO_PI) - math.pi
        # Single precision cannot tell less than this.
        least = 1e-3 if self.bulk == torch.complex64 else 0.0
        shift_sd, phase_sd = state.shift_sd.clamp_min(least * self.step), state.phase_sd.clamp_min(least)
        for move, sd in ((state.shift - old_shift, shift_sd), (turn, phase_sd)):
            common = (weight * move).sum(1, keepdim=True) / total
            relative = torch.where(counted, (move - common).abs() / sd, torch.zeros_like(move))
            moves.append(float(torch.nan_to_num(relative).max()))
        return max(moves)

    # ---- conclusion

    def _judge(self, state: _State) -> None:
        """Residual against the final reference, final SDs, weights and flags."""
        self._residual(state)
        self._inform(state, *self._filtered(None if self.external else self._time_filter(state.share, state.variance)))
        at_end = (state.shift.abs() >= 0.999 * self.max_shift_hz) if self.proposal is None else torch.zeros_like(self.valid)
        self.unlike = self.valid & (self._unlike(state) | at_end)
        weight = torch.where(self.valid & ~self.unlike, 1 / state.variance, torch.zeros_like(state.variance))
        state.weight = weight / weight.amax(1, keepdim=True).clamp_min(torch.finfo(self.real).tiny)

    def _centre(self, state: _State) -> None:
        """Fix what the data leave open: the mean shift and phase become 0; the reference moves along."""
        # Equal weights: estimated ones would tie the convention to the noise of their estimate.
        weight = (self.valid & ~self.unlike & ~self._weak(state)).to(self.real)
        weight = torch.where(weight.sum(1, keepdim=True) > 0, weight, self.valid.to(self.real))
        weight = weight / weight.sum(1, keepdim=True).clamp_min(torch.finfo(self.real).tiny)
        mean_shift = (weight * state.shift).sum(1)
        mean_phase = torch.angle((weight * torch.polar(torch.ones_like(state.phase), state.phase)).sum(1))
        state.shift = torch.where(self.valid, state.shift - mean_shift[:, None], torch.zeros_like(state.shift))
        state.phase = torch.where(self.valid, state.phase - mean_phase[:, None], torch.zeros_like(state.phase))
        self.exact = self.exact * self._undo(-mean_shift[:, None], -mean_phase[:, None], whole=True)

    def _report(self, state: _State, passes: int) -> dict[str, np.ndarray | int]:
        failed = ~self.valid
        flag = np.full(tuple(failed.shape), "ok", dtype="<U6")
        # A shift that could be anywhere in the range was not found, whatever the likelihood's height.
        lost = self._weak(state) | (state.shift_sd > self.max_shift_hz / 2)
        flag[lost.cpu().numpy()] = "weak"
        flag[self.unlike.cpu().numpy()] = "unlike"
        flag[failed.cpu().numpy()] = "failed"
        phase = torch.remainder(state.phase + math.pi, _TWO_PI) - math.pi

        def out(value, where_failed=0.0):
            return torch.where(failed, torch.full_like(value, where_failed), value).double().cpu().numpy()

        return {
            "shift_hz": out(state.shift),
            "phase_deg": out(torch.rad2deg(phase)),
            "shift_sd_hz": out(state.shift_sd, torch.nan),
            "phase_sd_deg": out(torch.rad2deg(state.phase_sd), torch.nan),
            "amplitude": out(state.amplitude, torch.nan),
            "similarity": out(state.similarity),
            "weight": out(state.weight),
            "flag": flag,
            "reference": (self.exact * self.channel_sd[..., None]).cpu().numpy(),
            "n_iterations": passes,
        }


def _collect(parts, lead, dwelltime, external, n_points) -> Alignment:
    """Join the chunks; drop the set axis that the input did not have; give an external reference back as it came."""
    joined = {
        name: max(part[name] for part in parts)
        if name == "n_iterations"
        else np.concatenate([part[name] for part in parts], axis=0)
        for name in parts[0]
    }
    if external is not None:
        joined["reference"] = external.cpu().numpy().copy()
    else:
        missing = n_points - joined["reference"].shape[-1]
        joined["reference"] = np.pad(joined["reference"], ((0, 0), (0, 0), (0, missing)))
    if not lead:
        joined = {name: value if name == "n_iterations" else value[0] for name, value in joined.items()}
    return Alignment(dwelltime=dwelltime, **joined)


# --------------------------------------------------------------------------------------------------- similarity


def similarity_matrix(
    fid,
    *,
    dwelltime: float,
    spec_freq_mhz: float,
    nucleus: str = "1H",
    ppmlim: tuple[float, float] | None = (0.2, 4.2),
) -> np.ndarray:
    """Pairwise correlation of the transients' complex spectra in the window.

    Real part of ``<S_i, S_j> / (|S_i| |S_j|)`` over the spectral points of the window (plain Fourier transform, mean not
    removed): 1 only for spectra that agree in frequency, phase and shape.

    Parameters
    ----------
    fid : complex ndarray or tensor, shape (..., n_transients, n_points)

    Returns
    -------
    ndarray, shape (..., n_transients, n_transients); NaN for transients that are zero or not finite
    """
    fid = fid.detach().cpu().numpy() if isinstance(fid, torch.Tensor) else np.asarray(fid)
    if fid.ndim < 2:
        raise DataError(f"The FIDs have shape {fid.shape}: give (..., n_transients, n_points).")
    first, last = window_indices(ppm_axis(fid.shape[-1], dwelltime, spec_freq_mhz, nucleus), ppmlim)
    spec = np.fft.fftshift(np.fft.fft(fid, axis=-1), axes=-1)[..., first:last].astype(np.complex128)
    with np.errstate(invalid="ignore", divide="ignore"):
        spec = spec / np.linalg.norm(spec, axis=-1, keepdims=True)
    return (spec @ np.conj(np.swapaxes(spec, -1, -2))).real


def mean_pairwise_correlation(
    fid,
    *,
    dwelltime: float,
    spec_freq_mhz: float,
    nucleus: str = "1H",
    ppmlim: tuple[float, float] | None = (0.2, 4.2),
) -> np.ndarray:
    """Mean of :func:`similarity_matrix` over all pairs of different transients, failed ones left out; shape (...)."""
    matrix = similarity_matrix(fid, dwelltime=dwelltime, spec_freq_mhz=spec_freq_mhz, nucleus=nucleus, ppmlim=ppmlim)
    row, column = np.triu_indices(matrix.shape[-1], 1)
    if not len(row):
        raise DataError("There is one transient only: a pairwise correlation needs at least two.")
    pairs = matrix[..., row, column]
    seen = np.isfinite(pairs)
    return np.where(seen, pairs, 0.0).sum(-1) / np.maximum(seen.sum(-1), 1)


def similarity_index(
    fid,
    *,
    dwelltime: float,
    spec_freq_mhz: float,
    nucleus: str = "1H",
    ppmlim: tuple[float, float] | None = (2.5, 3.5),
) -> np.ndarray:
    """The alignment paper's similarity index: mean of all elements of :func:`similarity_matrix` between 2.5 and 3.5 ppm; shape (...).

    The paper (doi 10.1002/mrm.29498, section 2.6.1) sums the elements; its figures, which do not grow with the number of transients,
    are those of the mean.  Failed transients are left out.
    """
    matrix = similarity_matrix(fid, dwelltime=dwelltime, spec_freq_mhz=spec_freq_mhz, nucleus=nucleus, ppmlim=ppmlim)
    seen = np.isfinite(matrix)
    return np.where(seen, matrix, 0.0).sum((-2, -1)) / np.maximum(seen.sum((-2, -1)), 1)
