"""Estimates of an alignment in progress and their quality: residuals, standard deviations, outliers, nuisance lines."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from ..core.units import wrap_radians
from .bounds import shift_phase_sd, spectral_derivatives
from .reference import Reference
from .transients import Transients

__all__ = [
    "OUTLIER_REASONS",
    "State",
    "is_outlier",
    "is_weak",
    "largest_move",
    "learn_nuisance_lines",
    "outlier_reasons",
    "update_residual",
    "update_sd",
]

OUTLIER_REASONS = ("", "amplitude", "noise", "residual", "range")
"""Why a transient is an outlier: by the numbers of :func:`outlier_reasons`, and at an end of the range of shifts."""

_SECOND_STATE = 0.1  # of the transients; if more are outliers, nuisance lines may be what makes them so
_MOST_APART = 0.7  # of the transients are no outliers
_OUTLIER_Z = 5.0  # robust z-score beyond which a transient is an outlier
_DETECTION_MARGIN = 12.0  # above 2 ln(cells): a noise peak passes for a signal once in exp(6) transients
_LEAST_NOISE = 1e-3  # of the highest peak: noise that is always assumed where nuisance lines are looked for
_LEAST_GAIN = 8.0  # in log likelihood, from which nuisance lines are removed
_LEAST_CHANGE = 0.05  # of a filter, from which nuisance lines count as removed differently


@dataclass(kw_only=True)
class State:
    """Estimates of one chunk of sets; every tensor is (n_sets, n_transients).

    Attributes
    ----------
    shift, phase, amplitude : tensor
        Hz, radians, relative to the reference.
    variance : tensor
        Residual variance in units of the channels' noise.
    share : tensor
        Contribution of the transient to the reference, which is the sum of ``share * aligned``.
    weight : tensor
        Weight of the transient in building the reference.
    similarity : tensor
        Correlation with the mean of the others.
    detection : tensor
        Gain in twice the log likelihood at the maximum.
    shift_sd, phase_sd : tensor
        Hz, radians.
    centre, reach : tensor
        Middle and half width of the search, in Hz.
    """

    shift: torch.Tensor
    phase: torch.Tensor
    amplitude: torch.Tensor
    variance: torch.Tensor
    share: torch.Tensor
    weight: torch.Tensor
    similarity: torch.Tensor
    detection: torch.Tensor
    shift_sd: torch.Tensor
    phase_sd: torch.Tensor
    centre: torch.Tensor
    reach: torch.Tensor

    def replace_sets(self, sets: torch.Tensor, other: State) -> None:
        """Take the estimates of some sets, bool ``(n_sets,)``, from another state."""
        for name in vars(self):
            setattr(self, name, torch.where(sets[:, None], getattr(other, name), getattr(self, name)))


# ---- residual and standard deviations


def update_residual(state: State, transients: Transients, reference: Reference) -> None:
    """Update amplitude, residual variance and similarity: aligned transients against the mean of the others."""
    window, working = transients.window, transients.working_window
    share = torch.zeros_like(state.share) if reference.external else state.share
    spectrum = torch.fft.fft(reference.fid, norm="ortho")
    windowed = window.apply(spectrum)
    size = (spectrum.conj() * windowed).real.sum(-1)[..., None]
    windowed = windowed.conj().resolve_conj()[..., None].to(transients.precision)
    remaining = (1 - share * state.amplitude).clamp_min(0.05)
    spread = share**2 * state.variance
    noise = 2 * window.n_counted * (transients.counts**2).sum(1) * (spread.sum(1, keepdim=True) - spread) / remaining**2

    def compare(part: slice) -> None:
        correction = transients.correction(state.shift[:, part], state.phase[:, part])
        spec = torch.fft.fft(transients.load(part)[0] * correction[:, None], norm="ortho")
        # Products of the transient with itself and with the reference, from which those with the others' mean follow.
        each = working.energy(spec).to(transients.real)
        mixed = (spec @ windowed)[..., 0].real.to(transients.real)
        own, counts = share[:, None, part], transients.counts[:, :, part]
        power = (counts**2 * (size - 2 * own * mixed + own**2 * each)).sum(1) / remaining[:, part] ** 2
        power = power.clamp_min(torch.finfo(transients.real).tiny)
        inner = (counts * (mixed - own * each)).sum(1) / remaining[:, part]
        total = each.sum(1)
        state.similarity[:, part] = inner / (power * total).sqrt().clamp_min(torch.finfo(transients.real).tiny)
        amplitude = _least_squares_amplitude(inner, power, noise[:, part], reference.external)
        state.amplitude[:, part] = torch.where(transients.valid[:, part], amplitude, torch.ones_like(amplitude))
        n_real = 2 * window.n_counted * counts.sum(1).clamp_min(1e-6)
        state.variance[:, part] = (total - inner**2 / power).clamp_min(0) / (n_real - 3).clamp_min(1)

    transients.each(compare)
    valid = transients.valid
    state.variance = torch.where(valid, state.variance, torch.ones_like(state.variance))
    state.variance = torch.maximum(state.variance, 0.25 * transients.noise_variance)
    if not reference.external:
        # A transient with next to no residual is most of the reference itself, and must not become all of it.
        usual = _median(state.variance, valid).nan_to_num(0.0)
        state.variance = torch.where(valid, torch.maximum(state.variance, 0.05 * usual), state.variance)
    state.similarity = torch.where(valid, state.similarity, torch.zeros_like(state.similarity))


def _least_squares_amplitude(inner, power, noise, external: bool) -> torch.Tensor:
    """Return the amplitude; the noise of the reference, which would pull it to 0, is subtracted from its energy."""
    amplitude = inner / torch.maximum(power - noise, 0.2 * power)
    # Amplitudes are near 1 unless the reference came from elsewhere, on a scale of its own.
    low, high = (torch.finfo(amplitude.dtype).tiny, None) if external else (0.02, 50)
    return amplitude.clamp(low, high)


def update_sd(state: State, transients: Transients, fid: torch.Tensor, whole: torch.Tensor | None) -> None:
    """Update standard deviations from the information in a reference, short or ``whole``, at the residual's noise."""
    if whole is None:
        derivatives = spectral_derivatives(fid, transients.band_time * transients.duration)
    else:
        derivatives = spectral_derivatives(whole, transients.time * transients.duration)[..., transients.band.index]
    shift_sd, phase_sd = shift_phase_sd(transients.window, derivatives)
    scale = state.variance.sqrt() / state.amplitude
    state.shift_sd = shift_sd[:, None] * scale
    state.phase_sd = phase_sd[:, None] * scale


# ---- nuisance lines


def learn_nuisance_lines(state: State, transients: Transients, reference: Reference) -> bool:
    """Estimate how strong nuisance lines are from the residuals of the aligned transients, and remove them.

    Of all hypotheses the one of highest likelihood; each kind of lines must earn its place.

    Returns
    -------
    bool
        Whether lines are removed differently from before.
    """
    window = transients.window
    if not len(window.unstable):
        return False
    if reference.external:
        update_residual(state, transients, reference)
    share = torch.zeros_like(state.share) if reference.external else state.share
    remaining = (1 - share * state.amplitude).clamp_min(0.05)
    spread = share**2 * transients.noise_variance
    noise = transients.noise_variance + (spread.sum(1, keepdim=True) - spread) * (state.amplitude / remaining) ** 2
    # Without noise the residual of a registration that has not converged yet would count as a nuisance line.
    peak = (torch.fft.fft(reference.fid, norm="ortho") * window.weight).abs().amax((1, 2))
    noise = noise + (_LEAST_NOISE * peak[:, None] * state.amplitude) ** 2
    tiny = torch.finfo(transients.real).tiny
    counted = transients.valid & (state.weight > 0)
    # Lines that came with a motion are in outliers only.
    many = (transients.valid & ~counted).sum(1) > _SECOND_STATE * transients.valid.sum(1)
    counted = torch.where(many[:, None], transients.valid, counted)
    fid, vectors = reference.fid.to(transients.precision), transients.working_window.unstable_fid.conj().T

    def moments(part: slice) -> tuple[torch.Tensor, torch.Tensor]:
        counts = transients.counts[:, :, part]
        turn = transients.correction(-state.shift[:, part], -state.phase[:, part], state.amplitude[:, part])
        residual = transients.load(part)[0] - fid[:, :, None] * (turn[:, None] * counts[..., None].to(turn.real.dtype))
        lines = (residual @ vectors).to(transients.cplx) / remaining[:, None, part, None]
        used = ((counts > 0) & counted[:, None, part]).to(transients.real)
        scale = used / (2 * counts**2 * noise[:, None, part]).clamp_min(tiny)
        return lines.mT @ (lines.conj() * scale[..., None]), used.sum(2)

    moment, n = (sum(terms) for terms in zip(*transients.each(moments)))
    gain = torch.einsum("gij,scij->scg", window.filters, moment).real - n[..., None] * window.entropy
    best = (gain - _LEAST_GAIN * (window.strengths > 0).sum(-1)).argmax(-1)
    changed = bool((window.filters[best] - window.removed).abs().max() > _LEAST_CHANGE)
    transients.set_hypothesis(best)
    return changed


# ---- outliers and weak transients


def is_outlier(state: State, transients: Transients) -> torch.Tensor:
    """Tell which transients have a residual, noise or amplitude that stands apart from the rest of their set."""
    return outlier_reasons(state, transients) > 0


def outlier_reasons(state: State, transients: Transients) -> torch.Tensor:
    """Return what stands apart from the rest of the set, place in :data:`OUTLIER_REASONS`, (n_sets, n_transients)."""
    valid = transients.valid
    reason = torch.zeros(valid.shape, dtype=torch.long, device=valid.device)
    if valid.shape[1] < 4:
        return reason
    # Chance alone scatters a log variance of n values by sqrt(2 / n); half a per cent is no reason to reject.
    chance = max(math.sqrt(1.0 / (transients.window.n_counted * transients.fid.shape[1])), 0.05)
    excess = _robust_z(torch.log(state.variance / transients.noise_variance), valid, chance)
    # Inverse-variance weights deal with uneven noise; only five times the usual SD counts as a fault.
    noisy = _robust_z(torch.log(transients.noise_variance), valid, math.log(25) / _OUTLIER_Z)
    # Relative SD of the amplitude: the inverse of the detected signal-to-noise ratio.
    amplitude_sd = (state.detection.clamp_min(1.0)).rsqrt()
    size = _robust_z(torch.log(state.amplitude), valid, amplitude_sd.clamp_min(0.05))
    for number, apart in enumerate((size.abs(), noisy, excess), start=1):
        reason = torch.where(valid & (apart > _OUTLIER_Z), number, reason)
    return reason


def _median(value: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """Return the median over the valid transients of each set, (n_sets, 1); NaN without any."""
    return torch.where(valid, value, torch.full_like(value, torch.nan)).nanmedian(1, keepdim=True).values


def _robust_z(value: torch.Tensor, valid: torch.Tensor, floor: float | torch.Tensor) -> torch.Tensor:
    """Return the deviation from the median of the set in robust SDs, which are at least ``floor``."""
    deviation = torch.where(valid, value, torch.full_like(value, torch.nan)) - _median(value, valid)
    # Where a third stands apart, as after a motion, that is a second state and not outliers.
    usual, wide = deviation.abs().nanquantile(torch.tensor([0.5, _MOST_APART], dtype=value.dtype), dim=1, keepdim=True)
    spread = torch.maximum(1.4826 * usual, wide / 1.04)
    return torch.nan_to_num(deviation / torch.maximum(spread, torch.as_tensor(floor, dtype=value.dtype)))


def is_weak(state: State, transients: Transients, max_shift_hz: float) -> torch.Tensor:
    """Tell which transients have too little signal to be found in the whole range by themselves."""
    cells = max(2.0, 2 * max_shift_hz * transients.duration)
    return transients.valid & (state.detection < 2 * math.log(cells) + _DETECTION_MARGIN)


# ---- convergence


def largest_move(
    state: State, old_shift: torch.Tensor, old_phase: torch.Tensor, *, least_shift: float, least_phase: float
) -> float:
    """Return the largest change of a shift or phase in SDs.

    Common motion of the whole set (which the gauge removes) is subtracted; transients with no weight do not count.
    ``least_shift`` (Hz) and ``least_phase`` (rad) are the smallest SDs that the precision can resolve.
    """
    weight = state.weight
    total = weight.sum(1, keepdim=True).clamp_min(torch.finfo(weight.dtype).tiny)
    counted = weight > 0
    moves = []
    turn = wrap_radians(state.phase - old_phase)
    shift_sd, phase_sd = state.shift_sd.clamp_min(least_shift), state.phase_sd.clamp_min(least_phase)
    for move, sd in ((state.shift - old_shift, shift_sd), (turn, phase_sd)):
        common = (weight * move).sum(1, keepdim=True) / total
        relative = torch.where(counted, (move - common).abs() / sd, torch.zeros_like(move))
        moves.append(float(torch.nan_to_num(relative).max()))
    return max(moves)
