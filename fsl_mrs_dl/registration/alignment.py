"""Alignment of sets of transients: :func:`align_transients` and its result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from ..core.errors import DataError, OptionError
from ..core.parallel import thread_map
from ..core.transients import apply_shift_phase, squared, transient_noise_sd
from ..core.units import ppm_axis, window_indices
from .bounds import _decay_gain
from .nuisance_lines import _UNSTABLE
from .solver import _Job
from .transients import _BYTES_PER_POINT
from .window import _everything, _make_band, _make_window

__all__ = ["Alignment", "align_transients"]


_MIN_POINTS = 16


@dataclass(frozen=True, repr=False)
class Alignment:
    """What was found for every transient; ``...`` is ``(n_sets,)`` for four-dimensional input and nothing otherwise.

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
        Weight for averaging, 0 to 1: inverse residual variance, 0 for transients that are unlike the others or failed.
    flag : ndarray of str, shape (..., n_transients)
        'ok', 'weak' (too little signal to be found alone: its neighbours told where to look, or nothing did), 'unlike'
        (residual, noise or amplitude far from the others', or shift at the end of the search range), 'failed' (zero or
        not finite: untouched).
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
                    f"The FIDs have shape {tuple(fid.shape)} but {shift.shape[0]} sets were aligned: put the sets"
                    " first."
                )
            between = (1,) * (fid.ndim - 3)
            shift = shift.reshape(shift.shape[0], *between, shift.shape[1])
            phase = phase.reshape(shift.shape)
        return apply_shift_phase(fid, shift, phase, self.dwelltime)


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

    Channels (coils that are not combined yet) share one shift and one phase per transient; each has its own reference,
    so that constant differences of gain and phase between coils do not matter, and counts with its inverse noise
    variance. Sets (sub-spectra of edited data, voxels) are independent: each has its own reference.

    Without ``reference`` the mean shift of the transients flagged 'ok' is 0, and so is the circular mean of their
    phases: the average of the aligned transients stays where the input's was.

    Parameters
    ----------
    fid : complex ndarray or tensor
        Shape (n_transients, n_points), (n_channels, n_transients, n_points) or (n_sets, n_channels, n_transients,
        n_points).
    dwelltime : float
        Seconds.
    spec_freq_mhz : float
        Spectrometer frequency in MHz.
    nucleus : str
    ppmlim : (float, float) or None
        Part of the spectrum that is compared; None takes everything.
    reference : complex array, optional
        External reference: (n_points,) for one channel, (n_channels, n_points), or (n_sets, n_channels, n_points).
        Default: built from the transients.
    exact_reference : bool
        Everything in the external reference is signal, down to its end. Otherwise its late points count as far as they
        stand out of its own noise, where it has any to speak of.
    starter : 'classical', callable, or pair of arrays
        Who proposes shift and phase. 'classical' searches the whole range for the highest likelihood. A callable takes
        the FIDs as a complex tensor (n_sets, n_channels, n_transients, n_points) and returns ``(shift_hz, phase_deg)``,
        each (n_sets, n_transients), relative to any reference common to a set (the external one if given); or give that
        pair. Proposals may be wrong by ``starter_error_hz``; the likelihood decides within that distance.
    max_shift_hz : float, optional
        Half width of the search. Default: 0.35 ppm, at least 40 Hz.
    taper_ppm : float
        Width of a cosine taper inside either edge of the window; default none, which is the exact window.
    baseline_order : int, optional
        Order of the complex polynomial over the window that is allowed to differ in every transient. Default: none.
    unstable : tuple of {'water', 'lipids'}, optional
        What may differ in every transient; the data say how much it does. Default: both for 1H with a window, nothing
        else.
    n_iter : int
        Most passes over the data, though at least one on short FIDs and one on whole ones is made; the iteration ends
        when no transient moves by more than 0.01 of its SD.
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
        raise OptionError(
            f"max_shift_hz is {max_shift_hz}: give a value between 0 and half the bandwidth, {half_band:g} Hz."
        )
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
    with thread_map(fid.device) as map_:
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


def _as_four_dimensional(fid, device) -> tuple[torch.Tensor, tuple[int, ...]]:
    """The FIDs as a tensor (n_sets, n_channels, n_transients, n_points), and the leading shape of the results."""
    tensor = fid if isinstance(fid, torch.Tensor) else torch.as_tensor(np.ascontiguousarray(fid))
    if not tensor.is_complex():
        raise DataError(f"The FIDs are {tensor.dtype}: give complex time-domain data.")
    if tensor.ndim not in (2, 3, 4) or 0 in tensor.shape:
        raise DataError(
            f"The FIDs have shape {tuple(tensor.shape)}: give (n_transients, n_points), (n_channels, n_transients,"
            " n_points) or (n_sets, n_channels, n_transients, n_points)."
        )
    if tensor.shape[-1] < _MIN_POINTS:
        raise DataError(
            f"The FIDs have {tensor.shape[-1]} points, at least {_MIN_POINTS} are needed: is time the last axis?"
        )
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
    if not (
        tensor.is_complex() and bool(torch.isfinite(torch.view_as_real(tensor)).all()) and bool((tensor != 0).any())
    ):
        raise DataError("The reference is not a finite complex FID: give one without NaN that is not all zero.")
    return tensor.reshape((1,) * (3 - tensor.ndim) + tuple(tensor.shape)).expand(n_sets, n_channels, n_points)


_NOISELESS = 3e-3  # of the transients' noise: less of it in a reference changes nothing


def _without_late_noise(
    reference: torch.Tensor, fid: torch.Tensor, dwelltime, spec_freq_mhz, nucleus, ppmlim
) -> torch.Tensor:
    """References whose late points, where there is nothing but noise, are turned down.

    Noise that is taken for signal would add noise to every estimate, and to the information that errors are stated
    from.
    """
    noise = transient_noise_sd(torch.fft.fft(reference, norm="ortho"))  # (n_sets, n_channels)
    finite = torch.nan_to_num(fid[:, :, : min(fid.shape[2], 64)])
    usual = transient_noise_sd(torch.fft.fft(finite, norm="ortho")).median(-1).values
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
    power = squared(torch.fft.ifft(spec, norm="ortho")).sum(1)
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
        raise OptionError(
            f"The starter's shift and phase do not have shape {shape}: one each per transient."
        ) from error
    return torch.nan_to_num(shift), torch.deg2rad(torch.nan_to_num(phase))


def _length_without_padding(fid: torch.Tensor) -> int:
    """Points up to the last that is not zero everywhere: zero-filling adds points but neither noise nor information."""
    if bool((fid[..., -1] != 0).any()):
        return fid.shape[-1]
    used = (fid != 0).reshape(-1, fid.shape[-1]).any(0).nonzero()
    if not len(used):
        raise DataError("The FIDs are zero everywhere: there is nothing to align.")
    return max(int(used[-1]) + 1, _MIN_POINTS)


def _sets_per_chunk(fid: torch.Tensor, max_memory: float) -> int:
    per_set = fid[0].numel() * _BYTES_PER_POINT
    return max(1, int(max_memory // per_set))


def _collect(parts, lead, dwelltime, external, n_points) -> Alignment:
    """Join the chunks; drop the set axis that the input did not have; give an external reference back as it came."""
    joined = {
        name: (
            max(part[name] for part in parts)
            if name == "n_iterations"
            else np.concatenate([part[name] for part in parts], axis=0)
        )
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
