"""Transients of one chunk of sets: their noise, their short FIDs of the band, and what the likelihood needs of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch

from ..core.transients import TWO_PI, rotation, transient_noise_sd
from .likelihood import block_length
from .window import Band, Window

__all__ = ["BYTES_PER_POINT", "Transients"]

BYTES_PER_POINT = 16 * 10
"""Memory for a point of a transient: double complex, times the working copies of one pass."""

_CACHED_BYTES = 2e6  # working arrays of this size stay in the processor's cache


class Transients:
    """Transients of one chunk of independent sets, seen through a window on a band of the spectrum.

    Everything that belongs to a set is in the precision of the window (``real``, ``cplx``).  What belongs to transients
    is in that of :meth:`set_precision`, which is single at the start unless ``thorough``.

    Parameters
    ----------
    fid : complex tensor, shape (n_sets, n_channels, n_transients, n_points)
    window : Window
        On the band.
    band : Band
    dwelltime : float
        Seconds.
    thorough : bool
        Use full precision from the start.
    max_memory : float
        Bytes of working memory to stay below, roughly.
    map_ : callable
        A parallel map, see :func:`fsl_mrs_dl.core.parallel.thread_map`.

    Attributes
    ----------
    counts : tensor, shape (n_sets, n_channels, n_transients)
        How much of a transient a channel counts: 1, less where it is noisier there than elsewhere, 0 where it failed.
    valid : bool tensor, shape (n_sets, n_transients)
        Transients that are finite and not zero in at least one channel.
    channel_sd : tensor, shape (n_sets, n_channels)
        Noise SD of each channel, the unit of the short FIDs.
    noise_variance : tensor, shape (n_sets, n_transients)
        Noise of each transient over that of the channels.
    """

    def __init__(
        self,
        fid: torch.Tensor,
        window: Window,
        band: Band,
        *,
        dwelltime: float,
        thorough: bool,
        max_memory: float,
        map_: Callable,
    ):
        self.fid, self.band, self.thorough, self.map = fid, band, thorough, map_
        self.real, self.cplx = window.weight.dtype, window.lag.dtype
        self.n_band, self.duration = len(band.index), fid.shape[-1] * dwelltime
        # The band's FIDs begin a little before the first point, as a filtered step does; that is found at their end.
        self.n_early = 0
        if self.n_band < fid.shape[-1]:
            n_fine = block_length(self.n_band)
            self.n_early = self.n_band - n_fine * (-(-self.n_band // n_fine) - 2)
        index = torch.arange(self.n_band, dtype=self.real, device=fid.device)
        self.band_time = torch.where(index < self.n_band - self.n_early, index, index - self.n_band) / self.n_band
        self.time = torch.arange(fid.shape[-1], dtype=self.real, device=fid.device) / fid.shape[-1]
        self.window = replace(window, hypothesis=torch.zeros(fid.shape[:2], dtype=torch.long, device=fid.device))
        self._take_precision(self.cplx if thorough else torch.complex64)
        self._chunk = max(1, int(max_memory // (fid[:, :, 0].numel() * BYTES_PER_POINT)))
        self._band_spectra: torch.Tensor | None = None  # kept if they fit
        self._measure_noise()

    # ---- noise

    def _measure_noise(self) -> None:
        """Measure the noise of channels and transients and which of them count; keep the band's spectra if they fit."""
        sd, rms = self._sd_and_rms()
        # A transient that begins with zeros lacks its beginning, unless all do: points before the echo are left in.
        late = (self.fid[..., :2] == 0).all(-1)
        valid = torch.isfinite(rms) & (rms > 0) & (~late | late.all(-1, keepdim=True))
        nan = torch.full_like(sd, torch.nan)
        tiny = torch.finfo(self.real).tiny
        level = torch.where(valid, rms, nan).nanmedian(-1).values.nan_to_num(1.0)
        # The floor lets noise-free simulations through.
        channel_sd = torch.where(valid, sd, nan).nanmedian(-1).values.nan_to_num(1.0)
        self.channel_sd = torch.maximum(channel_sd, level * 1e-9).clamp_min(tiny)
        relative = sd / self.channel_sd[..., None]
        # One coil's spike must not cost the transient its other coils.
        usual = torch.where(valid, relative, nan).nanmedian(1, keepdim=True).values.nan_to_num(1.0)
        excess = relative / usual.clamp_min(tiny)
        counts = torch.where(excess > 2, excess.clamp_min(1).reciprocal() ** 2, torch.ones_like(excess))
        self.counts = torch.where(valid, counts, torch.zeros_like(counts))
        self.valid = valid.any(1)
        total = self.counts.sum(1).clamp_min(tiny)
        noise = ((relative * self.counts) ** 2).sum(1) / (self.counts**2).sum(1).clamp_min(tiny)
        noise = torch.where(self.valid & (total > 0), noise, torch.ones_like(noise)).clamp_min(1e-12)
        # Noise is much alike in all transients but for spikes: one with far less would be a noise-free line that fits
        # the grid.
        usual = torch.where(self.valid, noise, torch.full_like(noise, torch.nan)).nanmedian(1, keepdim=True).values
        self.noise_variance = torch.maximum(noise, 0.1 * usual.nan_to_num(0.0))
        if self._band_spectra is not None:
            self._band_spectra *= (self.counts / self.channel_sd[..., None])[..., None] * self.band.edge

    def _sd_and_rms(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return noise SD and root mean square of every transient in every channel, (n_sets, n_channels,
        n_transients)."""
        n_sets, n_channels, n_transients, n_points = self.fid.shape
        sd = torch.zeros(n_sets, n_channels, n_transients, dtype=self.real, device=self.fid.device)
        rms = torch.zeros_like(sd)
        if n_transients <= self._chunk:
            self._band_spectra = torch.empty(*sd.shape, self.n_band, dtype=self.cplx, device=self.fid.device)

        def measure(part: slice) -> None:
            fid = self.fid[:, :, part].resolve_conj().to(self.cplx)
            power = (torch.view_as_real(fid) ** 2).sum((-1, -2))
            finite = torch.isfinite(power)
            if not bool(finite.all()):
                fid = torch.where(finite[..., None], fid, torch.zeros_like(fid))
                power = torch.where(finite, power, torch.zeros_like(power))
            rms[:, :, part] = (power / n_points).sqrt()
            spec = torch.fft.fft(fid, norm="ortho")
            sd[:, :, part] = transient_noise_sd(spec)
            if self._band_spectra is not None:
                self._band_spectra[:, :, part] = spec[..., self.band.index]

        self.each(measure, n_points)
        return sd, rms

    # ---- precision and nuisance lines

    def set_precision(self, precision: torch.dtype) -> None:
        """Set the complex precision of what belongs to transients."""
        if precision != self.precision:
            self._take_precision(precision)

    def _take_precision(self, precision: torch.dtype) -> None:
        self.precision = precision
        self.working_window = self.window.to(torch.float32 if precision == torch.complex64 else torch.float64)
        angle = -math.pi * self.band_time
        self.half_bin = torch.stack(
            [torch.ones_like(angle).to(precision), torch.polar(torch.ones_like(angle), angle).to(precision)]
        )
        # By the first transient of their slice; they are in this precision, and windowed ones under the hypotheses.
        self._fids: dict[int, torch.Tensor] = {}
        self._windowed: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def set_hypothesis(self, hypothesis: torch.Tensor) -> None:
        """Remove nuisance lines under these hypotheses, (n_sets, n_channels)."""
        if torch.equal(hypothesis, self.window.hypothesis):
            return
        self.window = replace(self.window, hypothesis=hypothesis)
        self.working_window = replace(self.working_window, hypothesis=hypothesis)
        self._windowed = {}

    # ---- access

    def _slices(self, n_points: int | None = None, bytes_per_point: int = 16) -> list[slice]:
        """Return transients to work on together: few enough for the memory, and for the processor's cache."""
        n_sets, n_channels, n = self.fid.shape[:3]
        size = n_sets * n_channels * (self.n_band if n_points is None else n_points) * bytes_per_point
        chunk = max(1, min(self._chunk, int(_CACHED_BYTES // size)))
        return [slice(first, min(first + chunk, n)) for first in range(0, n, chunk)]

    def each(self, work: Callable, n_points: int | None = None) -> list:
        """Return the results of ``work(slice)`` for every slice of the transients; ``n_points`` of a FID are used,
        default the band's."""
        return list(self.map(work, self._slices(n_points)))

    def whole(self, part: slice) -> torch.Tensor:
        """Return whole FIDs, as much of them as counts."""
        fid, counts = self.fid[:, :, part].to(self.cplx), self.counts[:, :, part, None]
        return fid if bool((counts == 1).all()) else torch.where(counts > 0, fid, torch.zeros_like(fid)) * counts

    def _spectra(self, part: slice) -> torch.Tensor:
        """Return spectra of the band in units of the channels' noise."""
        if self._band_spectra is not None:
            return self._band_spectra[:, :, part]
        spec = torch.fft.fft(self.whole(part), norm="ortho")[..., self.band.index]
        return spec * (self.band.edge / self.channel_sd[..., None, None])

    def load(self, part: slice) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return short FIDs in units of their channel's noise, the same through the window, and the products of both;
        kept if they fit."""
        if part.start in self._windowed:
            return self._fids[part.start], *self._windowed[part.start]
        spec = self._spectra(part).to(self.precision)
        fid = self._fids[part.start] if part.start in self._fids else torch.fft.ifft(spec, norm="ortho")
        windowed = torch.fft.ifft(self.working_window.apply(spec), norm="ortho")
        own = self.product(windowed, fid)
        if self._band_spectra is not None:
            self._fids[part.start], self._windowed[part.start] = fid, (windowed, own)
        return fid, windowed, own

    @staticmethod
    def product(windowed: torch.Tensor, fid: torch.Tensor) -> torch.Tensor:
        """Return ``windowed * conj(fid)``, summed over channels."""
        product = windowed * fid.conj()
        return product[:, 0] if product.shape[1] == 1 else product.sum(1)

    def gather(self, index: torch.Tensor) -> torch.Tensor:
        """Return spectra of chosen transients (n_sets, n_chosen) in the band, in units of noise, (n_sets, n_channels,
        n_chosen, n_band)."""
        n_sets, n_channels = self.fid.shape[:2]
        wide = index[:, None, :].expand(n_sets, n_channels, index.shape[1])
        source = self.fid if self._band_spectra is None else self._band_spectra
        chosen = torch.gather(source, 2, wide[..., None].expand(*wide.shape, source.shape[-1]))
        if self._band_spectra is not None:
            return chosen
        counts = torch.gather(self.counts, 2, wide)[..., None]
        fid = torch.where(counts > 0, chosen, torch.zeros_like(chosen)).to(self.cplx)
        spec = torch.fft.fft(fid, norm="ortho")[..., self.band.index]
        return spec * (self.band.edge * counts / self.channel_sd[..., None, None])

    # ---- shifts and phases

    def correction(
        self, shift: torch.Tensor, phase: torch.Tensor, weights: torch.Tensor | None = None, whole: bool = False
    ) -> torch.Tensor:
        """Return the factor that removes shifts (Hz) and phases (rad), times weights: (n_sets, n_transients, n_band, or
        n_points for ``whole`` FIDs)."""
        n_points, n_early, cplx = (
            (self.fid.shape[-1], 0, self.cplx) if whole else (self.n_band, self.n_early, self.precision)
        )
        n_fine = block_length(n_points)
        first = torch.arange(0, n_points, n_fine, device=shift.device)
        first = torch.where(first < n_points - n_early, first, first - n_points)
        turn = -self.duration / n_points * shift[..., None]
        outer = rotation(turn * first - phase[..., None] / TWO_PI, cplx)
        if weights is not None:
            outer = outer * weights[..., None].to(outer.real.dtype)
        inner = rotation(turn * torch.arange(n_fine, device=shift.device), cplx)
        return (outer[..., None] * inner[..., None, :]).flatten(-2)[..., :n_points]

    def plain_mean(self, weights: torch.Tensor) -> torch.Tensor:
        """Return the weighted mean of the short FIDs as they are, (n_sets, n_channels, n_band)."""

        def add(part: slice) -> torch.Tensor:
            factor = weights[:, part].to(self.precision)[..., None]
            return (self.load(part)[0] * factor[:, None]).sum(2).to(self.cplx)

        total = sum(self.each(add))
        return total / weights.sum(1).clamp_min(torch.finfo(self.real).tiny)[:, None, None]

    def aligned_sum(self, share: torch.Tensor, shift: torch.Tensor, phase: torch.Tensor) -> torch.Tensor:
        """Return ``sum_k share_k * aligned_k`` of short FIDs, (n_sets, n_channels, n_band)."""

        def add(part: slice) -> torch.Tensor:
            factor = self.correction(shift[:, part], phase[:, part], share[:, part])
            return (self.load(part)[0] * factor[:, None]).sum(2).to(self.cplx)

        return sum(self.each(add))

    def whole_aligned_sum(self, share: torch.Tensor, shift: torch.Tensor, phase: torch.Tensor) -> torch.Tensor:
        """Return ``sum_k share_k * aligned_k`` of whole FIDs, (n_sets, n_channels, n_points)."""

        def add(part: slice) -> torch.Tensor:
            factor = self.correction(shift[:, part], phase[:, part], share[:, part], whole=True)
            return (self.whole(part) * factor[:, None]).sum(2)

        return sum(self.each(add, self.fid.shape[-1])) / self.channel_sd[..., None]
