"""Frequency and phase correction of transients: a search and a refinement on the registration likelihood.

One transient is modelled as ``amplitude * exp(1j * (2 pi shift_hz t + phase)) * reference(t)`` plus white noise, where
``t`` starts at 0 at the first point (phases are those of the first point).  The correction is the inverse, ``fid *
exp(-1j * (2 pi shift_hz t + phase))``.  A positive ``shift_hz`` is a transient whose peaks lie at higher ppm than those
of the reference.

Spectral registration (Near et al. 2015, doi:10.1002/mrm.25094) minimises over shift, phase and amplitude ::

    sum over channels and over the points of the ppm window of  |S_k - amplitude * exp(1j * phase) * R_k(shift)|^2

with ``S`` the untouched spectrum of the transient and ``R(shift)`` that of the reference, shifted before the window is
cut. The data's window never moves, so what lies outside of it (water) has no say, and with a noise-free reference the
minimum is the maximum-likelihood estimate.  Phase and amplitude are solved in closed form, which leaves one unknown:
maximise ``|C(shift)|^2 / E(shift)``, where ``C = sum S_k conj(R_k)`` and ``E = sum |R_k|^2``.  Both are Fourier sums
over time points of vectors that do not depend on the shift.  Hence two short FFTs search the whole range, a few Newton
steps finish it, and any number of coils costs no more than one.  An optional complex polynomial baseline in the window
is solved in closed form as well (compare RATS, Wilson 2019, doi:10.1002/mrm.27605).

Residual water and lipids often change from one transient to the next, and pull.  Where they are, and how wide, is
known; how strong they are is not.  So the noise is not white but has a covariance ``1 + tau^2 N``, with ``N`` that of
lines drawn from those places and widths, and ``tau`` as large as the residuals of the aligned transients say: the
inverse covariance takes the place of the window in all sums above. Where nothing is unstable ``tau`` is 0 and
everything in the window counts; where it is large those lines' subspace is projected out.

Without an external reference the reference is the weighted mean of the aligned transients, built iteratively.  Each
transient is compared with the mean of the others: its own noise in the mean would hold it where it is.

Only a band of the spectrum matters, the window and as far around it as shifts reach, so that the transients are kept as
the short FIDs of that band.  There a shift is not quite what it is to the whole FID (both are taken for periodic),
which touches nothing but references built from shifted transients.  So the iteration runs on short FIDs, in single
precision, and its end is exact: means of whole FIDs in double precision, from which one or two passes find the final
shifts and phases.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from ..core.transients import TWO_PI, rotation, squared, transient_noise_sd
from ..core.units import wrap_radians
from .bounds import _changes, _decay_gain, _unit_sd
from .likelihood import (
    _DEGREES,
    _TAPS,
    _around,
    _block_length,
    _energy_on_grid,
    _likelihood,
    _maximise,
    _shifted_spectra,
    _taylor_taps,
)
from .quality import _CREDIBLE, _DETECTION_MARGIN, _NEVER_LESS, _UNLIKE_Z, _State
from .reference import _N_CANDIDATES, _N_JUDGES
from .transients import _BYTES_PER_POINT, _CACHED_BYTES
from .window import _window_energy, _window_spec

__all__ = []

_NEIGHBOURS = 4  # transients either side that help one too weak to find its own shift
_N_REWEIGHT = 4  # weights are frozen after this many passes, so that the iteration can converge
_CONVERGED = 0.01  # in standard deviations
_NEARLY = 0.1  # in standard deviations: from here on it is worth being more exact


# --------------------------------------------------------------------------------------------------- window


# --------------------------------------------------------------------------- the one-dimensional likelihood


# --------------------------------------------------------------------------------------------------- noise, information


# --------------------------------------------------------------------------------------------------- alignment


class _Job:
    """Alignment of one chunk of independent sets.

    What belongs to a set (its reference) is in the precision asked for; ``bulk`` is the precision of what belongs to
    transients, which is single until the end unless the job is ``thorough``.
    """

    def __init__(
        self,
        fid,
        window,
        band,
        thorough,
        dwelltime,
        max_shift_hz,
        external,
        proposal,
        starter_error_hz,
        n_iter,
        max_memory,
        map_,
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
        # Without a search transients may leave its range a little by themselves: the range follows the middle of them,
        # which moves.
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
        """Noise of channels and transients, and which of them count (NaN and zero ones do not); keeps the bands if they
        fit."""
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
            sd[:, :, part] = transient_noise_sd(spec)
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
        # Noise is much alike in all transients but for spikes: one with far less would be a noise-free line that fits
        # the grid.
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
        self.half_bin = torch.stack(
            [torch.ones_like(angle).to(bulk), torch.polar(torch.ones_like(angle), angle).to(bulk)]
        )
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
        """Short FIDs in units of their channel's noise, the same through the window, and the products of both; kept if
        they fit."""
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
        """The reference as :meth:`_cross` and the energy need it: FIDs (n_sets, n_channels, 2, n_band) half a bin
        apart, the energy at ``n_steps`` shifts to a bin, and the scale (n_sets, 1) that both are divided by, which
        keeps them in range.
        """
        if exact is None:
            spectra = _shifted_spectra(reference, self.short_time, n_steps)
        else:
            spectra = _shifted_spectra(exact, self.time, n_steps)[..., self.band.index]
        scale = squared(spectra).sum((1, 3)).amax(1).clamp_min(torch.finfo(self.real).tiny).sqrt()
        spectra = (spectra / scale[:, None, None, None]).to(self.bulk)
        energy = _energy_on_grid(self.bulk_window, spectra, self.reach)
        fids = torch.fft.ifft(spectra[:, :, :: n_steps // 2], norm="ortho")
        return fids.conj().resolve_conj(), energy, scale[:, None]

    def _cross(self, windowed, own, template) -> torch.Tensor:
        """``C`` at every shift of the grid and a little beyond, two to a bin, (n_sets, n_transients, n).

        It is the Fourier sum of windowed transient times conjugate template, summed over channels, without ``own``, the
        same of what the transient itself has contributed to the template.
        """
        product = windowed[:, 0, :, None] * template[:, 0, None]
        for channel in range(1, windowed.shape[1]):
            product += windowed[:, channel, :, None] * template[:, channel, None]
        if own is not None:
            product -= own[:, :, None] * self.half_bin
        return _around(torch.fft.fft(product), self.reach)

    def _weighted_mean(self, share, shift=None, phase=None) -> torch.Tensor:
        """``sum_k share_k * aligned_k`` divided by the sum of shares if no shift is given, (n_sets, n_channels,
        n_band)."""

        def add(part: slice) -> torch.Tensor:
            fid = self._load(part)[0]
            weights = share[:, part]
            factor = (
                weights.to(self.bulk)[..., None]
                if shift is None
                else self._undo(shift[:, part], phase[:, part], weights)
            )
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
        n_points, n_early, cplx = (
            (self.fid.shape[-1], 0, self.cplx) if whole else (self.n_band, self.n_early, self.bulk)
        )
        n_fine = _block_length(n_points)
        first = torch.arange(0, n_points, n_fine, device=shift.device)
        first = torch.where(first < n_points - n_early, first, first - n_points)
        turn = -self.duration / n_points * shift[..., None]
        outer = rotation(turn * first - phase[..., None] / TWO_PI, cplx)
        if weights is not None:
            outer = outer * weights[..., None].to(outer.real.dtype)
        inner = rotation(turn * torch.arange(n_fine, device=shift.device), cplx)
        return (outer[..., None] * inner[..., None, :]).flatten(-2)[..., :n_points]

    def _time_filter(self, share, noise) -> Callable[[torch.Tensor], torch.Tensor]:
        """Wiener gain of a reference built from noisy transients, at times from 0 to 1: (n_sets, n_times).

        Late points of the mean are noise; multiplied by the transient's noise they would add variance.  The gain
        follows an exponential decay fitted to the power in the window: a gain read off the power itself would let
        through, and so reinforce pass by pass, whatever noise the registration has aligned.
        """
        spec = torch.fft.fft(self.reference, norm="ortho") * self.window.smooth
        power = (torch.fft.ifft(spec, norm="ortho").abs() ** 2).sum(1)
        passed = 2 * (self.window.smooth**2).mean() * self.fid.shape[1]
        floor = passed * (share**2 * noise).sum(1)
        # Filtered, the FID begins a little before its first point, which is found at its end and would pass for noise
        # there.
        narrow = bool((self.window.smooth == 0).any())
        used = self.n_band - (max(self.n_early, self.n_band // 32) if narrow else 0)
        return _decay_gain(power[:, :used], floor, used / self.n_band)

    # ---- passes

    def run(self) -> dict[str, np.ndarray | int] | None:
        """What was found; None where transients are weak and only a thorough job is good enough.

        Which maximum of its likelihood a weak transient takes must not be a matter of rounding, nor of what the band
        leaves out.
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

        Water and lipids that pull spoil the first registration, after which nothing could be learnt of them but that
        they are there.
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
            shift,
            phase,
            one.clone(),
            self.noise_variance.clone(),
            zero.clone(),
            weight,
            zero.clone(),
            zero.clone(),
            one * torch.inf,
            one * torch.inf,
            centre,
            reach,
        )

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
        # Interpolated between two values to a bin, the energy lacks what the last half of the FID has to say, which is
        # noise.
        n_steps = 2 if exact is None else 4
        template, energy, scale = self._template(reference, n_steps, exact)
        grid = (
            torch.zeros(*state.shift.shape, len(self.grid_hz), dtype=self.real, device=self.fid.device)
            if search
            else None
        )
        place = torch.round(state.shift / self.step).long() + self.half
        place = place.clamp(-self.beyond, 2 * self.half + self.beyond)
        taps = torch.zeros(*place.shape, len(_TAPS), dtype=self.cplx, device=self.fid.device)
        around = torch.as_tensor(_TAPS, device=self.fid.device) + 2 * self.reach - self.half
        rest = (
            (1 - state.share * state.amplitude).clamp_min(0.05)[..., None]
            if built
            else torch.ones_like(state.shift)[..., None]
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
                likelihood = _likelihood(
                    cross[..., inside], energy[:, inside.start * finer : inside.stop * finer : finer]
                )
                grid[:, part] = likelihood.to(self.real) / rest[:, part] ** 2
                place[:, part] = self._highest(state, part, grid[:, part])
            taps[:, part] = torch.gather(cross, -1, place[:, part, None] + around).to(self.cplx) / rest[:, part]

        self._each(register)
        self._refine(state, place, taps, energy.to(self.real), n_steps // 2, search)
        # Compared with the mean of the others, everybody moving at once would overshoot by n / (n - 1).
        relax = (1 - state.share * state.amplitude).clamp(0.3, 1) if built else torch.ones_like(state.shift)
        turn = wrap_radians(state.phase - old_phase)
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
        """Shift and phase of every transient by Newton's method on the power series of ``C`` and ``E`` around points of
        the grid.

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
        """Put the middle of the transients where the search is: the first reference may be one that lies at an end of
        the range."""
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
        """How strong what is unstable is, from what the aligned transients leave; whether that changed what is taken
        out.

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
        noise = (
            2 * self.window.n_counted * (self.counts**2).sum(1) * (spread.sum(1, keepdim=True) - spread) / remaining**2
        )

        def compare(part: slice):
            spec = torch.fft.fft(
                self._load(part)[0] * self._undo(state.shift[:, part], state.phase[:, part])[:, None], norm="ortho"
            )
            # Products of the transient with itself and with the reference, from which those with the others' mean
            # follow.
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
        """Search the whole range again: who was weak when everything that may be unstable was taken out need not be
        now."""
        if self.proposal is None:
            state.centre = torch.zeros_like(state.centre)
            state.reach = torch.full_like(state.reach, self.max_shift_hz)

    def _largest_move(self, state, old_shift, old_phase) -> float:
        """In SDs, common motion of the whole set (which the gauge removes) left out; transients with no weight do not
        count."""
        weight = state.weight
        total = weight.sum(1, keepdim=True).clamp_min(torch.finfo(self.real).tiny)
        counted = weight > 0
        moves = []
        turn = wrap_radians(state.phase - old_phase)
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
        at_end = (
            (state.shift.abs() >= 0.999 * self.max_shift_hz) if self.proposal is None else torch.zeros_like(self.valid)
        )
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
        phase = wrap_radians(state.phase)

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


# --------------------------------------------------------------------------------------------------- similarity
