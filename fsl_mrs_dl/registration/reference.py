"""The reference that transients are compared with: external, or built from them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from ..core.axes import Axes
from ..core.transients import squared, transient_noise_sd
from .likelihood import ShiftGrid, cross_on_grid, energy_on_grid, likelihood_on_grid, shifted_spectra
from .transients import Transients
from .window import smooth_window

__all__ = ["Reference", "Template", "decay_gain", "suppress_late_noise"]

_N_CANDIDATES, _N_JUDGES = 6, 24
_NOISELESS = 3e-3  # of the transients' noise: less of it in a reference changes nothing


@dataclass(frozen=True)
class Template:
    """A reference in the form that the likelihood takes.

    Attributes
    ----------
    fids : complex tensor, shape (n_sets, n_channels, 2, n_band)
        Conjugate FIDs, half a bin apart.
    energy : tensor, shape (n_sets, n)
        Its energy in the window, at ``finer`` times the points of the grid of shifts.
    scale : tensor, shape (n_sets, 1)
        What both were divided by to keep them in range.
    finer : int
    """

    fids: torch.Tensor
    energy: torch.Tensor
    scale: torch.Tensor
    finer: int


class Reference:
    """The reference of every set: a short FID, and the exact whole one once it is there.

    Parameters
    ----------
    transients : Transients
    grid : ShiftGrid
    external : complex tensor, shape (n_sets, n_channels, n_points), optional
        By default the reference is built from the transients, and ``fid`` is set when it is.
    """

    fid: torch.Tensor  # (n_sets, n_channels, n_band)

    def __init__(self, transients: Transients, grid: ShiftGrid, external: torch.Tensor | None = None):
        self.transients, self.grid, self.external = transients, grid, external is not None
        self.whole: torch.Tensor | None = None  # (n_sets, n_channels, n_points)
        if external is not None:
            self.set_whole(external.to(transients.cplx) / transients.channel_sd[..., None])

    def set_whole(self, whole: torch.Tensor) -> None:
        """Take a whole FID, in units of the channels' noise, for the reference from here on."""
        self.whole, band = whole, self.transients.band
        spec = torch.fft.fft(whole, norm="ortho")[..., band.index]
        self.fid = torch.fft.ifft(spec * band.edge, norm="ortho")

    # ---- filter

    def time_filter(self, share: torch.Tensor, noise: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
        """Return the Wiener gain of a reference built from noisy transients, at times from 0 to 1: (n_sets, n_times).

        Late points of the mean are noise; multiplied by the transient's noise they would add variance.  The gain
        follows an exponential decay fitted to the power in the window: a gain read off the power itself would let
        through, and so reinforce pass by pass, whatever noise the registration has aligned.

        Parameters
        ----------
        share, noise : tensor, shape (n_sets, n_transients)
            Share of each transient in the reference, and its noise variance.
        """
        window, n_band = self.transients.window, self.transients.n_band
        spec = torch.fft.fft(self.fid, norm="ortho") * window.smooth
        power = (torch.fft.ifft(spec, norm="ortho").abs() ** 2).sum(1)
        passed = 2 * (window.smooth**2).mean() * self.transients.fid.shape[1]
        floor = passed * (share**2 * noise).sum(1)
        # Filtered, the FID begins a little before its first point, which is found at its end and would pass for noise
        # there.
        narrow = bool((window.smooth == 0).any())
        used = n_band - (max(self.transients.n_early, n_band // 32) if narrow else 0)
        return decay_gain(power[:, :used], floor, used / n_band)

    def filtered(self, gain: Callable | None) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return the short FID, and the whole one if there is one, times a gain."""
        if gain is None:
            return self.fid, self.whole
        whole = None if self.whole is None else self.whole * gain(self.transients.time)[:, None]
        return self.fid * gain(self.transients.band_time)[:, None], whole

    # ---- likelihood

    def template(self, fid: torch.Tensor, n_steps: int, whole: torch.Tensor | None = None) -> Template:
        """Return the form of a short FID, or the ``whole`` one, that the likelihood takes; energy at ``n_steps`` shifts
        to a bin."""
        transients = self.transients
        if whole is None:
            spectra = shifted_spectra(fid, transients.band_time, n_steps)
        else:
            spectra = shifted_spectra(whole, transients.time, n_steps)[..., transients.band.index]
        tiny = torch.finfo(transients.real).tiny
        scale = squared(spectra).sum((1, 3)).amax(1).clamp_min(tiny).sqrt()
        spectra = (spectra / scale[:, None, None, None]).to(transients.precision)
        energy = energy_on_grid(transients.working_window, spectra, self.grid.reach)
        fids = torch.fft.ifft(spectra[:, :, :: n_steps // 2], norm="ortho")
        return Template(fids.conj().resolve_conj(), energy, scale[:, None], n_steps // 2)

    def cross(self, windowed: torch.Tensor, own: torch.Tensor | None, template: Template) -> torch.Tensor:
        """Return the product of transients with the template on the grid, see
        :func:`fsl_mrs_dl.registration.likelihood.cross_on_grid`."""
        return cross_on_grid(windowed, own, template.fids, self.transients.half_bin, self.grid.reach)

    # ---- initial reference

    def initial(self) -> torch.Tensor:
        """Return the candidate that most transients resemble after the search, (n_sets, n_channels, n_band): the plain
        mean, or one of the transients."""
        transients = self.transients
        valid, variance = transients.valid, transients.noise_variance
        n_transients = valid.shape[1]
        order = torch.argsort(valid.to(torch.int8), dim=1, descending=True, stable=True)  # valid ones first
        n_valid = valid.sum(1).clamp_min(1)
        mean = transients.plain_mean(valid.to(transients.real) / variance)
        judges = _spread_evenly(order, n_valid, min(_N_JUDGES, n_transients))
        spec = transients.gather(judges).to(transients.precision)
        fid = torch.fft.ifft(spec, norm="ortho")
        windowed = torch.fft.ifft(transients.working_window.apply(spec), norm="ortho")
        judge = windowed, transients.product(windowed, fid)
        noise = torch.gather(variance, 1, judges)
        share = torch.gather(valid.to(transients.real) / variance, 1, judges) / (
            (valid / variance).sum(1, keepdim=True).clamp_min(torch.finfo(transients.real).tiny)
        )
        best, score = mean, self._score(mean, *judge, share, noise)
        candidates = _spread_evenly(order, n_valid, min(_N_CANDIDATES, n_transients))
        candidate_fids = torch.fft.ifft(transients.gather(candidates), norm="ortho")
        for column in range(candidates.shape[1]):
            candidate = candidate_fids[:, :, column]
            own = (judges == candidates[:, column : column + 1]).to(transients.real)
            rival = self._score(candidate, *judge, own, noise)
            better = rival > score
            best = torch.where(better[:, None, None], candidate, best)
            score = torch.maximum(score, rival)
        return best

    def _score(self, fid, judge_window, judge_own, share, noise) -> torch.Tensor:
        """Return the median over the judges of the likelihood gain, their ``share`` of the reference removed,
        (n_sets,)."""
        template = self.template(fid, 2)
        own = judge_own * (share / template.scale)[..., None].to(self.transients.precision)
        cross, inside = self.cross(judge_window, own, template), self.grid.inside
        likelihood = likelihood_on_grid(cross[..., inside], template.energy[..., inside])
        gain = likelihood.amax(-1).to(self.transients.real) / noise
        return torch.nan_to_num(gain).median(1).values


def _spread_evenly(order: torch.Tensor, n_valid: torch.Tensor, n: int) -> torch.Tensor:
    """Return ``n`` transients spread evenly over the valid ones of each set, (n_sets, n)."""
    position = (torch.arange(n, device=order.device) + 0.5) / n
    index = (position * n_valid[:, None]).long().clamp_max(order.shape[1] - 1)
    return torch.gather(order, 1, index)


def decay_gain(power: torch.Tensor, floor: torch.Tensor, end: float = 1.0) -> Callable[[torch.Tensor], torch.Tensor]:
    """Fit ``power(t) = a exp(-2 t / tau) + b`` with ``b >= floor`` and return its Wiener gain at any times (0 to 1).

    Means over blocks are gamma distributed: weighted least squares for ``a`` and ``b``, reweighted twice, and the decay
    of a fixed list that has the highest likelihood.

    Parameters
    ----------
    power : tensor, shape (n_sets, n_points)
        At times from 0 to ``end``.
    floor : tensor, shape (n_sets,)
    end : float
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
        # The part of a band's FID before its first point is found at its end, where hardly anything but noise is.
        signal = a * torch.exp(-2 * time.remainder(1.0) / tau)
        return signal / (signal + b).clamp_min(tiny)

    return gain


def suppress_late_noise(
    reference: torch.Tensor, fid: torch.Tensor, axes: Axes, ppmlim: tuple[float, float] | None
) -> torch.Tensor:
    """Scale down the late points of external references that hold nothing but noise.

    Noise taken for signal would add noise to every estimate, and to the information that errors are stated from.

    Parameters
    ----------
    reference : complex tensor, shape (n_sets, n_channels, n_points)
    fid : complex tensor, shape (n_sets, n_channels, n_transients, n_points)
        The transients that will be compared with it.
    """
    noise = transient_noise_sd(torch.fft.fft(reference, norm="ortho"))  # (n_sets, n_channels)
    finite = torch.nan_to_num(fid[:, :, : min(fid.shape[2], 64)])
    usual = transient_noise_sd(torch.fft.fft(finite, norm="ortho")).median(-1).values
    noisy = noise > _NOISELESS * usual
    if not bool(noisy.any()):
        return reference
    smooth = torch.as_tensor(smooth_window(axes, ppmlim), dtype=noise.dtype, device=reference.device)
    level = noise.clamp_min(torch.finfo(noise.dtype).tiny)[..., None]
    spec = torch.fft.fft(reference / level, norm="ortho") * smooth
    power = squared(torch.fft.ifft(spec, norm="ortho")).sum(1)
    floor = torch.full_like(power[:, 0], float(2 * (smooth**2).mean()) * reference.shape[1])
    time = torch.arange(axes.n_points, dtype=noise.dtype, device=reference.device) / axes.n_points
    gain = decay_gain(power, floor)(time)
    return torch.where(noisy.any(1)[:, None, None], reference * gain[:, None], reference)
