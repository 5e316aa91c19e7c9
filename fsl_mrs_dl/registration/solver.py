"""The iteration that registers transients to a reference and, unless it is external, the reference to them.

Passes run on short FIDs of the band, in single precision: every transient is registered to the mean of the others (a
search of the grid of shifts, then Newton's method), the mean is rebuilt with new weights, and nuisance lines are
estimated from the residuals.  A band's FID is shifted not quite as the whole FID is (both are taken for periodic),
which affects only references built from shifted transients.  The last passes are therefore exact: means of whole FIDs
in double precision.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from ..core.units import wrap_radians
from .likelihood import SERIES_DEGREES, TAPS, ShiftGrid, likelihood_on_grid, maximise, taylor_taps
from .quality import (
    OUTLIER_REASONS,
    State,
    is_outlier,
    is_weak,
    largest_move,
    learn_nuisance_lines,
    outlier_reasons,
    update_residual,
    update_sd,
)
from .reference import Reference, Template
from .transients import Transients

__all__ = ["Search", "Solver"]

_NEIGHBOURS = 4  # transients either side that help one too weak to find its own shift
_N_REWEIGHT = 4  # weights are frozen after this many passes, so that the iteration can converge
_CONVERGED = 0.01  # in standard deviations
_NEARLY = 0.1  # in standard deviations: from here on it is worth being more exact
_LEAST_SINGLE = 1e-3  # phase (rad), and shift in steps of the grid, that single precision resolves


@dataclass(frozen=True, kw_only=True)
class Search:
    """Say where shifts and phases are looked for.

    Attributes
    ----------
    max_shift_hz : float
        Half width of the search of the whole range.
    proposal : pair of tensors (n_sets, n_transients), optional
        Shifts (Hz) and phases (rad) to start from; by default the whole range is searched.
    proposal_error_hz : float
        Half width of the search around a proposal.
    n_iter : int
        Most passes over the data.
    """

    max_shift_hz: float
    proposal: tuple[torch.Tensor, torch.Tensor] | None = None
    proposal_error_hz: float = 8.0
    n_iter: int = 12


class Solver:
    """Alignment of one chunk of independent sets.

    Parameters
    ----------
    transients : Transients
    search : Search
    external : complex tensor, shape (n_sets, n_channels, n_points), optional
        Reference; by default it is built from the transients.
    """

    def __init__(self, transients: Transients, search: Search, external: torch.Tensor | None = None):
        self.transients, self.search = transients, search
        self.grid = ShiftGrid.of(search.max_shift_hz, transients.duration, like=transients.noise_variance)
        self.reference = Reference(transients, self.grid, external)

    def run(self) -> dict[str, np.ndarray | int] | None:
        """Return the estimates by name; None where transients are weak and only ``thorough`` ones are good enough.

        Which maximum of its likelihood a weak transient takes must not be a matter of rounding, nor of the part of the
        spectrum outside the band.
        """
        lone = not self.reference.external and self.transients.fid.shape[2] == 1
        state, passes = self._iterate(lone)
        if not (lone or self.transients.thorough) and bool(self._weak(state).any()):
            return None
        passes = self._finish(state, passes, lone)
        reason = self._judge(state)
        if not self.reference.external and not lone:
            self._centre(state, reason > 0)
        return self._results(state, reason, passes)

    def _weak(self, state: State) -> torch.Tensor:
        return is_weak(state, self.transients, self.search.max_shift_hz)

    # ---- iteration

    def _iterate(self, lone: bool) -> tuple[State, int]:
        """Make the passes with short FIDs; return the state and how many there were."""
        state, reference, passes = self._first_state(), self.reference, 0
        if lone:
            return state, passes
        if not reference.external:
            reference.fid = self._first_reference(state)
        if self.search.proposal is not None:
            learn_nuisance_lines(state, self.transients, reference)
        elif len(self.transients.window.unstable):
            self._restart_without_nuisance_lines(state)
        settled = 0
        for passes in range(1, max(1, self.search.n_iter - 1) + 1):
            early = passes <= _N_REWEIGHT
            # A first reference that is one of the transients contains that one's nuisance lines.
            built = reference.external or bool((state.share > 0).any())
            moved = self._pass(state, search=early, reweight=early)
            if early and built and learn_nuisance_lines(state, self.transients, reference):
                settled = 0
                self._search_whole_range(state)
            else:
                settled += 1
            if reference.external and (settled > 1 or (settled == 1 and not bool(self._weak(state).any()))):
                break
            # The ranges that weak transients are searched in improve with a second pass.
            if moved < _NEARLY and (passes > _N_REWEIGHT or (settled > 1 and not bool(self._weak(state).any()))):
                break
        return state, passes

    def _finish(self, state: State, passes: int, lone: bool) -> int:
        """Make passes with whole FIDs, in the end in full precision, until no transient moves; return the number of all
        passes."""
        transients, reference, n_iter = self.transients, self.reference, self.search.n_iter
        if lone:
            transients.set_precision(transients.cplx)
            share = state.weight / state.weight.clamp_min(torch.finfo(transients.real).tiny)
            reference.set_whole(transients.whole_aligned_sum(share, state.shift, state.phase))
            return passes
        # With an external reference every pass has been one with whole FIDs, independent of the one before.
        levels = ((transients.precision, _NEARLY), (transients.cplx, _CONVERGED))[reference.external :]
        for precision, enough in levels:
            transients.set_precision(precision)
            moved = math.inf
            while moved >= enough and (passes < n_iter or moved == math.inf):
                if not reference.external:
                    reference.set_whole(transients.whole_aligned_sum(state.share, state.shift, state.phase))
                moved = self._pass(state, search=False, reweight=False)
                passes += 1
                if reference.external:
                    break
        return passes

    def _restart_without_nuisance_lines(self, state: State) -> None:
        """Look for nuisance lines; sets that have some start again with all of them removed.

        Water and lipids that pull spoil the first registration, which shows only that they are present.
        """
        reference, transients = self.reference, self.transients
        for _ in range(1 if reference.external else 2):
            self._pass(state, search=True, reweight=True)
        learn_nuisance_lines(state, transients, reference)
        self._search_whole_range(state)
        window = transients.window
        sets = (window.strengths[window.hypothesis] > 0).flatten(1).any(1)
        if not bool(sets.any()):
            return
        transients.set_hypothesis(torch.where(sets[:, None], len(window.filters) - 1, window.hypothesis))
        state.replace_sets(sets, self._first_state())
        if not reference.external:
            reference.fid = torch.where(sets[:, None, None], reference.initial(), reference.fid)

    # ---- initial values

    def _first_state(self) -> State:
        transients, search = self.transients, self.search
        zero = torch.zeros_like(transients.noise_variance)
        one = torch.ones_like(zero)
        shift, phase, reach = zero.clone(), zero.clone(), one * search.max_shift_hz
        if search.proposal is not None:
            shift, phase = (x.to(transients.real) for x in search.proposal)
            reach = one * search.proposal_error_hz
        return State(
            shift=shift,
            phase=phase,
            amplitude=one.clone(),
            variance=transients.noise_variance.clone(),
            share=zero.clone(),
            weight=transients.valid.to(transients.real) / transients.noise_variance,
            similarity=zero.clone(),
            detection=zero.clone(),
            shift_sd=one * torch.inf,
            phase_sd=one * torch.inf,
            centre=shift.clone(),
            reach=reach,
        )

    def _first_reference(self, state: State) -> torch.Tensor:
        if self.search.proposal is None:
            return self.reference.initial()
        self._set_share(state)
        return self.transients.aligned_sum(state.share, state.shift, state.phase)

    def _set_share(self, state: State) -> None:
        """Set the shares of the reference by least squares given the amplitudes, whose mean is held at 1."""
        tiny = torch.finfo(self.transients.real).tiny
        mean = (state.weight * state.amplitude).sum(1, keepdim=True) / state.weight.sum(1, keepdim=True).clamp_min(tiny)
        state.amplitude = amplitude = state.amplitude / torch.where(mean > 0, mean, torch.ones_like(mean))
        total = (state.weight * amplitude**2).sum(1, keepdim=True).clamp_min(tiny)
        state.share = state.weight * amplitude / total

    # ---- one pass

    def _pass(self, state: State, search: bool, reweight: bool) -> float:
        """Register every transient to the mean of the others, then rebuild the mean; return the largest move in SDs."""
        transients, reference = self.transients, self.reference
        built = not reference.external and bool((state.share > 0).any())
        gain = reference.time_filter(state.share, state.variance) if built else None
        fid, whole = reference.filtered(gain)
        old_shift, old_phase = state.shift.clone(), state.phase.clone()
        # Interpolated between two values to a bin, the energy lacks the last half of the FID, which is noise.
        template = reference.template(fid, 2 if whole is None else 4, whole)
        likelihood = self._register(state, template, gain, search)
        # Compared with the mean of the others, transients that all move at once would overshoot by n / (n - 1).
        relax = (1 - state.share * state.amplitude).clamp(0.3, 1) if built else torch.ones_like(state.shift)
        turn = wrap_radians(state.phase - old_phase)
        # The only valid transient of a set has no other to be compared with.
        valid = transients.valid
        moves = valid if reference.external else valid & (valid.sum(1, keepdim=True) > 1)
        state.shift = torch.where(moves, old_shift + relax * (state.shift - old_shift), torch.zeros_like(state.shift))
        state.phase = torch.where(moves, old_phase + relax * turn, torch.zeros_like(state.phase))
        if search and not reference.external:
            self._recentre(state)
        update_sd(state, transients, fid, whole)
        # A first reference that is one of the transients leaves that one no residual, so it is left out here.
        if (reweight and built) or (reference.external and bool(self._weak(state).any())):
            update_residual(state, transients, reference)
        if likelihood is not None:
            self._aim(state, likelihood)
        if not reference.external:
            if reweight:
                state.weight = valid / state.variance * ~is_outlier(state, transients)
                self._set_share(state)
            if reference.whole is None:
                reference.fid = transients.aligned_sum(state.share, state.shift, state.phase)
        least = _LEAST_SINGLE if transients.precision == torch.complex64 else 0.0
        return largest_move(state, old_shift, old_phase, least_shift=least * self.grid.step, least_phase=least)

    def _register(self, state: State, template: Template, gain, search: bool) -> torch.Tensor | None:
        """Find shift and phase of every transient against a template.

        Parameters
        ----------
        gain : callable, optional
            Time filter of a template built from the transients, each of which is compared with the mean of the others.
        search : bool
            Search the grid; otherwise only the neighbourhood of the present shifts.

        Returns
        -------
        tensor, shape (n_sets, n_transients, n_grid), or None
            Likelihood on the grid, where it was searched.
        """
        transients, reference, grid = self.transients, self.reference, self.grid
        built, device = gain is not None, transients.fid.device
        grid_shape = (*state.shift.shape, len(grid.hz))
        on_grid = torch.zeros(grid_shape, dtype=transients.real, device=device) if search else None
        place = torch.round(state.shift / grid.step).long() + grid.half
        place = place.clamp(-grid.beyond, 2 * grid.half + grid.beyond)
        taps = torch.zeros(*place.shape, len(TAPS), dtype=transients.cplx, device=device)
        around = torch.as_tensor(TAPS, device=device) + 2 * grid.reach - grid.half
        remaining = (
            (1 - state.share * state.amplitude).clamp_min(0.05)[..., None]
            if built
            else torch.ones_like(state.shift)[..., None]
        )

        def register(part: slice) -> None:
            _, windowed, own = transients.load(part)
            if built:
                share = state.share[:, part] / template.scale
                turn = transients.correction(-state.shift[:, part], -state.phase[:, part], share)
                own = own * (turn * gain(transients.band_time)[:, None].to(turn.real.dtype))
            cross = reference.cross(windowed, own if built else None, template)
            if on_grid is not None:
                inside, finer = grid.inside, template.finer
                energy = template.energy[:, inside.start * finer : inside.stop * finer : finer]
                likelihood = likelihood_on_grid(cross[..., inside], energy)
                on_grid[:, part] = likelihood.to(transients.real) / remaining[:, part] ** 2
                place[:, part] = self._highest(state, part, on_grid[:, part])
            taps[:, part] = (
                torch.gather(cross, -1, place[:, part, None] + around).to(transients.cplx) / remaining[:, part]
            )

        transients.each(register)
        self._newton(state, place, taps, template, search)
        return on_grid

    def _highest(self, state: State, part: slice, likelihood: torch.Tensor) -> torch.Tensor:
        """Return the index of the highest point of the grid within reach, (n_sets, n_transients)."""
        distance = (self.grid.hz - state.centre[:, part, None]).abs()
        allowed = distance <= state.reach[:, part, None].clamp_min(self.grid.step)
        peak, best = torch.where(allowed, likelihood, -torch.ones_like(likelihood)).max(-1)
        state.detection[:, part] = peak / state.variance[:, part]
        return best

    def _newton(self, state: State, place: torch.Tensor, taps: torch.Tensor, template: Template, search: bool) -> None:
        """Find shift and phase of every transient by Newton's method on power series of ``C`` and ``E``.

        The series are around points of the grid, whose indices are ``place``; ``taps`` are ``C`` there and at the
        neighbours.
        """
        real, precision, finer = self.transients.real, self.transients.precision, template.finer
        degree, degree_energy = SERIES_DEGREES[precision]
        point = (place - self.grid.half).to(real)
        # Centred on the middle of the FID, ``C`` turns by a quarter from one point of the grid to the next.
        centred = taylor_taps(degree) * (1j**TAPS)[:, None]
        centred = torch.as_tensor(centred, dtype=self.transients.cplx, device=taps.device)
        around = torch.as_tensor(TAPS, device=taps.device) + finer * (2 * self.grid.reach - self.grid.half)
        energy = template.energy.to(real)
        near = torch.gather(energy, 1, (finer * place[..., None] + around).flatten(1)).reshape(taps.shape)
        scaled = taylor_taps(degree_energy) * float(finer) ** np.arange(degree_energy + 1)
        scaled = torch.as_tensor(scaled, dtype=real, device=taps.device)
        start = torch.zeros_like(state.shift) if search else (state.shift / self.grid.step - point).clamp(-1, 1)
        tolerance = 2e-7 if precision == torch.complex128 else 2e-5
        offset, value = maximise(taps @ centred, near @ scaled, start, tolerance)
        value = value * torch.polar(torch.ones_like(offset), -math.pi / 2 * offset)
        state.shift = torch.nan_to_num((point + offset) * self.grid.step)
        state.phase = torch.nan_to_num(torch.angle(value))

    # ---- range of the search

    def _recentre(self, state: State) -> None:
        """Put the middle of the transients at the middle of the search: the first reference may lie at an end of it."""
        valid, reference = self.transients.valid, self.reference
        shift = torch.where(valid, state.shift, torch.full_like(state.shift, torch.nan))
        middle = shift.nanmedian(1, keepdim=True).values.nan_to_num(0.0)
        state.shift = torch.where(valid, state.shift - middle, torch.zeros_like(state.shift))
        if self.search.proposal is not None:
            state.centre = state.centre - middle
        reference.fid = reference.fid * self.transients.correction(-middle, torch.zeros_like(middle))

    def _aim(self, state: State, likelihood: torch.Tensor) -> None:
        """Set the range of the next search: weak transients near the shift that their neighbourhood agrees on."""
        weak = self._weak(state)
        if self.search.proposal is not None or not bool(weak.any()):
            return
        valid, max_shift_hz = self.transients.valid, self.search.max_shift_hz
        score = torch.where(valid[..., None], likelihood / state.variance[..., None], torch.zeros_like(likelihood))
        score = torch.nan_to_num(score).movedim(1, -1)
        width = 2 * _NEIGHBOURS + 1
        pooled = torch.nn.functional.avg_pool1d(score, width, stride=1, padding=_NEIGHBOURS, count_include_pad=True)
        centre = self.grid.hz[pooled.argmax(1)]
        state.centre = torch.where(weak, centre, torch.zeros_like(centre))
        reach = (4 * state.shift_sd).clamp_max(max_shift_hz)
        state.reach = torch.where(weak, reach, torch.full_like(reach, max_shift_hz))

    def _search_whole_range(self, state: State) -> None:
        """Search the whole range again: transients that were weak with all nuisance lines removed need not be now."""
        if self.search.proposal is None:
            state.centre = torch.zeros_like(state.centre)
            state.reach = torch.full_like(state.reach, self.search.max_shift_hz)

    # ---- conclusion

    def _judge(self, state: State) -> torch.Tensor:
        """Update residual, SDs and weights against the final reference; return why transients are outliers."""
        transients, reference = self.transients, self.reference
        update_residual(state, transients, reference)
        gain = None if reference.external else reference.time_filter(state.share, state.variance)
        update_sd(state, transients, *reference.filtered(gain))
        reason = outlier_reasons(state, transients)
        if self.search.proposal is None:
            at_end = transients.valid & (state.shift.abs() >= 0.999 * self.search.max_shift_hz)
            reason = torch.where(at_end, OUTLIER_REASONS.index("range"), reason)
        weight = torch.where(transients.valid & (reason == 0), 1 / state.variance, torch.zeros_like(state.variance))
        state.weight = weight / weight.amax(1, keepdim=True).clamp_min(torch.finfo(transients.real).tiny)
        return reason

    def _centre(self, state: State, outlier: torch.Tensor) -> None:
        """Fix the gauge of a built reference: the mean shift and phase become 0; the reference moves along."""
        transients, reference = self.transients, self.reference
        valid, tiny = transients.valid, torch.finfo(transients.real).tiny
        # Equal weights: estimated ones would tie the convention to the noise of their estimate.
        weight = (valid & ~outlier & ~self._weak(state)).to(transients.real)
        weight = torch.where(weight.sum(1, keepdim=True) > 0, weight, valid.to(transients.real))
        weight = weight / weight.sum(1, keepdim=True).clamp_min(tiny)
        mean_shift = (weight * state.shift).sum(1)
        mean_phase = torch.angle((weight * torch.polar(torch.ones_like(state.phase), state.phase)).sum(1))
        state.shift = torch.where(valid, state.shift - mean_shift[:, None], torch.zeros_like(state.shift))
        state.phase = torch.where(valid, state.phase - mean_phase[:, None], torch.zeros_like(state.phase))
        turn = transients.correction(-mean_shift[:, None], -mean_phase[:, None], whole=True)
        assert reference.whole is not None  # since the passes with whole FIDs
        reference.whole = reference.whole * turn

    def _results(self, state: State, reason: torch.Tensor, passes: int) -> dict[str, np.ndarray | int]:
        """Return the estimates as arrays by the names of :class:`fsl_mrs_dl.registration.alignment.Alignment`."""
        failed, whole = ~self.transients.valid, self.reference.whole
        assert whole is not None  # since the passes with whole FIDs
        flag = np.full(tuple(failed.shape), "ok", dtype="<U7")
        # A shift that could be anywhere in the range was not found, whatever the likelihood's height.
        lost = self._weak(state) | (state.shift_sd > self.search.max_shift_hz / 2)
        flag[lost.cpu().numpy()] = "weak"
        flag[(reason > 0).cpu().numpy()] = "outlier"
        flag[failed.cpu().numpy()] = "failed"
        phase = wrap_radians(state.phase)

        def array(value: torch.Tensor, where_failed: float = 0.0) -> np.ndarray:
            return torch.where(failed, torch.full_like(value, where_failed), value).double().cpu().numpy()

        return {
            "shift_hz": array(state.shift),
            "phase_deg": array(torch.rad2deg(phase)),
            "shift_sd_hz": array(state.shift_sd, torch.nan),
            "phase_sd_deg": array(torch.rad2deg(state.phase_sd), torch.nan),
            "amplitude": array(state.amplitude, torch.nan),
            "similarity": array(state.similarity),
            "weight": array(state.weight),
            "flag": flag,
            "reason": np.array(OUTLIER_REASONS, "<U9")[reason.cpu().numpy()],
            "reference": (whole * self.transients.channel_sd[..., None]).cpu().numpy(),
            "n_iterations": passes,
        }
