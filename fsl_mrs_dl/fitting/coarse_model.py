"""The fitted window of a signal model on a coarse time grid: the same spectra from several times fewer points.

A fit needs a few ppm of a bandwidth of tens of ppm.  The basis is filtered once to the window and a margin on both
sides and sampled as coarsely as that band allows; decay, shift and Fourier transform then run over the coarse grid.
Such a product is exact if the transform of the decay is narrower than the margin, so that no line outside of the margin
reaches into the window.  A decay that begins abruptly is not narrow: its jump causes the long tails of lines.  But the
FID is zero before it begins and after it ends, so there the decay may be anything, and it is chosen to rise and fall
smoothly.  The remaining error is 1e-8 of each spectrum, growing to 1e-6 towards limits on shift and width (see
:meth:`ReducedModel.covers`); parameters beyond them get the spectra of the whole model.
"""

from __future__ import annotations

import copy
import math
import weakref
from functools import cache, cached_property
from typing import cast

import numpy as np
import torch

from ..physics.signal_model import SignalModel

__all__ = ["ReducedModel", "reduced"]

# Shifts that the margin allows for (ppm), as far as the classical search looks.
_MOST_SHIFT_PPM = 0.36
# Shape of the rise and fall: a running sum of Kaiser's window, which falls to exp(-_BETA) outside of _BETA / (pi *
# length).
_BETA = 15.0
# Damping over the rise, gamma times its length, up to which its growth before time zero stays harmless.
_MOST_GROWTH = 5.6
# Lorentzian lines up to this width, the larger of the two, are to be covered.
_BROAD_HZ, _BROAD_PPM = 30.5, 0.2
# Width of the Gaussian line, its SD in frequency, up to which it stays inside the margin; in parts of the margin
# without the shift.
_MOST_GAUSS = 1 / 7


class ReducedModel:
    """Coarse-grid form of a :class:`SignalModel` for spectra in the window.

    ``columns``, ``plain_columns``, ``theta_derivatives`` and ``join_metabolites`` are the model's, ``(batch, ...,
    n_window)``. The rest comes from ``model``, which must exist as long as this one is used.

    Parameters
    ----------
    model : SignalModel
    n_coarse : int
        Points of the coarse grid for the duration of the FID.
    rise_s : float
        Length of the rise before and of the fall after the FID, seconds.
    """

    def __init__(self, model: SignalModel, n_coarse: int, rise_s: float):
        # A weak reference: the model keeps its reduced one, see :func:`reduced`.
        self.model = cast(SignalModel, weakref.proxy(model))
        n, (first, last) = model.n_points, model.window
        width = last - first
        below = (n_coarse - width) // 2  # bins of the margin
        step = n / n_coarse  # fine points per coarse one
        self.n_coarse, self.extra = n_coarse, math.ceil(rise_s / (step * model.dwelltime))
        device, wide = model.basis.device, torch.complex128

        # On twice the duration, so that signal that the filter smears before time zero does not wrap to the end.
        fids = model.basis.detach().to(wide).clone()
        fids[:, 0] *= 0.5
        spectra = torch.fft.fft(fids, n=2 * n)
        bins = torch.arange(2 * n_coarse, device=device) - 2 * below
        band = torch.empty(len(fids), 2 * n_coarse, dtype=wide, device=device)
        band[:, bins % (2 * n_coarse)] = spectra[:, (bins + 2 * (first - n // 2)) % (2 * n)]
        # The first bin of the window becomes the zero frequency: the window is the beginning of the coarse transform.
        coarse = torch.fft.ifft(band) * (n_coarse / n)
        index = torch.arange(-self.extra, n_coarse + self.extra, device=device)
        taper = _rise_and_fall(index.cpu().numpy(), self.extra, (n - 1) / step)
        scale = torch.as_tensor(taper, device=device) * (step / math.sqrt(n))
        self.basis = (coarse[:, index % (2 * n_coarse)] * scale).to(model.complex_dtype)
        self.elimination = model.elimination
        self.size = torch.ones(len(fids), dtype=model.dtype, device=device)  # of the columns
        self.time = ((index.double() * step + 1) * model.dwelltime).to(model.dtype)
        self.frequency = model.frequency[first:last]
        self.clock, self.axis = self.time, self.frequency  # in double precision, whatever that of the rest
        margin_hz = below / (n * model.dwelltime)
        self.most_shift = 2 * math.pi * _MOST_SHIFT_PPM * model.spec_freq_mhz
        self.most_gamma = _MOST_GROWTH / rise_s
        gauss_hz = _MOST_GAUSS * (margin_hz - _MOST_SHIFT_PPM * model.spec_freq_mhz)
        self.most_variance = (2 * math.pi * gauss_hz) ** 2 / 2
        most = {"gamma": self.most_gamma, "variance": self.most_variance, "eps": self.most_shift}
        limits = [most.get(name, math.inf) for name, size in model.theta_sizes.items() for _ in range(size)]
        shifts = [name == "eps" for name, size in model.theta_sizes.items() for _ in range(size)]
        self.highest = torch.tensor(limits, dtype=model.dtype, device=device)
        self.lowest = torch.where(torch.tensor(shifts, device=device), -self.highest, -math.inf)

    # Attributes of the model that a fit needs besides spectra.
    n_metabs = property(lambda self: self.model.n_metabs)
    n_groups = property(lambda self: self.model.n_groups)
    group_index = property(lambda self: self.model.group_index)
    shape = property(lambda self: self.model.shape)
    spec_freq_mhz = property(lambda self: self.model.spec_freq_mhz)
    theta_bounds = property(lambda self: self.model.theta_bounds)
    n_points = property(lambda self: len(self.time))
    complex_dtype = property(lambda self: self.model.complex_dtype)

    def split_theta(self, theta: torch.Tensor) -> dict[str, torch.Tensor]:
        """As :meth:`SignalModel.split_theta`."""
        return self.model.split_theta(theta)

    def join_theta(self, **blocks: torch.Tensor) -> torch.Tensor:
        """As :meth:`SignalModel.join_theta`."""
        return self.model.join_theta(**blocks)

    def eliminate_baseline(self, spec: torch.Tensor) -> torch.Tensor:
        """As :meth:`SignalModel.eliminate_baseline`."""
        return spec if self.elimination is None else self.elimination(spec)

    def covers(self, theta: torch.Tensor) -> torch.Tensor:
        """Tell which nonlinear parameters ``(batch, n_theta)`` are within the limits of the coarse grid, bool
        ``(batch,)``."""
        return ((theta >= self.lowest) & (theta <= self.highest)).all(-1)

    def rows_in_cache(self) -> int:
        """Return the number of spectra whose products are held at once, see :meth:`SignalModel.rows_in_cache`."""
        budget = 4e6 if self.basis.device.type == "cpu" else 2e9
        return max(1, int(budget / (self.basis.numel() * self.basis.element_size())))

    def _spectrum(self, fid: torch.Tensor) -> torch.Tensor:
        """Return the window of the spectra of products on the extended coarse grid, which are overwritten."""
        n, extra = self.n_coarse, self.extra
        # In a discrete transform times before zero are at the end, those after the end at the beginning.
        fid[..., n : n + extra] += fid[..., :extra]
        fid[..., extra : 2 * extra] += fid[..., n + extra :]
        return torch.fft.fft(fid[..., extra : extra + n], dim=-1)[..., : len(self.frequency)]

    def _group_fids(self, theta: torch.Tensor, conc: torch.Tensor) -> torch.Tensor:
        """As :meth:`SignalModel.group_fids`, over the points of the coarse grid."""
        return SignalModel.group_fids(cast(SignalModel, self), theta, conc)

    def decay(self, theta: torch.Tensor, per_metabolite: bool) -> torch.Tensor:
        """As :meth:`SignalModel.decay`, over the points of the coarse grid."""
        return self.model.decay(theta.to(self.clock), per_metabolite, self.clock).to(self.basis)

    def _phase(self, theta: torch.Tensor) -> torch.Tensor:
        return self.model.phase(theta.to(self.clock), self.axis).to(self.basis)

    @cached_property
    def single(self) -> ReducedModel:
        """The model in single precision, each basis signal scaled to a size of one, which scales concentrations.

        Phases turn many times; they are still computed in double precision.
        """
        small = copy.copy(self)
        size = self.basis.abs().amax(-1)
        small.size = torch.where(size > 0, size, torch.ones_like(size))
        small.basis = (self.basis / small.size[:, None]).to(torch.complex64)
        small.time, small.frequency = self.time.float(), self.frequency.float()
        small.elimination = self.elimination and self.elimination.to(torch.float32)
        return small

    def columns(self, theta: torch.Tensor) -> torch.Tensor:
        """As :meth:`SignalModel.columns`."""
        return self.eliminate_baseline(self.plain_columns(theta))

    def plain_columns(self, theta: torch.Tensor) -> torch.Tensor:
        """As :meth:`SignalModel.plain_columns`."""
        good = self.covers(theta)
        if not good.all():
            return self._mixed(good, self.plain_columns, self._whole_columns, theta)
        out = self.basis.new_empty(len(theta), self.n_metabs, len(self.frequency))
        decay, phase, rows = self.decay(theta, True), self._phase(theta)[:, None], self.rows_in_cache()
        room = self.basis.new_empty(min(rows, len(theta)), *self.basis.shape)
        for start in range(0, len(theta), rows):
            part = slice(start, start + rows)
            product = torch.mul(self.basis, decay[part], out=room[: len(decay[part])])
            torch.mul(self._spectrum(product), phase[part], out=out[part])
        return out

    def _whole_columns(self, theta: torch.Tensor) -> torch.Tensor:
        return (self.model.plain_columns(theta.to(self.model.time)) / self.size[:, None]).to(self.basis)

    def _whole_derivatives(self, theta: torch.Tensor, conc: torch.Tensor) -> torch.Tensor:
        time = self.model.time
        return self.model.theta_derivatives(theta.to(time), conc.to(time) / self.size, eliminate=False).to(self.basis)

    @staticmethod
    def _mixed(good, fast, whole, *arguments):
        """Return rows of which some are beyond the limits: these come from the whole model."""
        out = whole(*(argument[~good] for argument in arguments))
        both = out.new_empty(len(good), *out.shape[1:])
        both[~good] = out
        if good.any():
            both[good] = fast(*(argument[good] for argument in arguments))
        return both

    def theta_derivatives(self, theta: torch.Tensor, conc: torch.Tensor, *, eliminate: bool = True) -> torch.Tensor:
        """As :meth:`SignalModel.theta_derivatives`."""
        rows = self._plain_derivatives(theta, conc)
        return self.eliminate_baseline(rows) if eliminate else rows

    def _plain_derivatives(self, theta: torch.Tensor, conc: torch.Tensor) -> torch.Tensor:
        good = self.covers(theta)
        if not good.all():
            return self._mixed(good, self._plain_derivatives, self._whole_derivatives, theta, conc)
        weighted = self._group_fids(theta, conc)
        moments = [weighted * -self.time]
        if self.shape.gaussian:
            moments.append(moments[0] * self.time)
        if self.shape.free_shift:
            moments.append(conc[..., None] * self.basis * self.decay(theta, True) * self.time)
        moments.append(weighted.sum(-2, keepdim=True))
        spectra = self._spectrum(torch.cat(moments, -2)) * self._phase(theta)[:, None]
        *by_decay, total = torch.split(spectra, [part.shape[-2] for part in moments], dim=-2)
        if self.shape.free_shift:
            by_decay[-1] = -1j * by_decay[-1]
        else:
            by_decay.append(1j * by_decay[0])
        by_phase = -1j * total
        return torch.cat([*by_decay, by_phase, self.frequency * by_phase], dim=-2)

    def join_metabolites(self, theta: torch.Tensor, conc: torch.Tensor) -> torch.Tensor:
        """As :meth:`SignalModel.join_metabolites`."""
        good = self.covers(theta)
        if not good.all():
            return self._mixed(good, self.join_metabolites, self.model.join_metabolites, theta, conc)
        return self._spectrum(self._group_fids(theta, conc).sum(-2)) * self._phase(theta)

    def correlate(
        self, weights: torch.Tensor, gamma: torch.Tensor, data: torch.Tensor, hz: torch.Tensor
    ) -> torch.Tensor:
        """Return the correlation over shifts of windowed data with templates, damped sums of metabolites, in single
        precision.

        ``weights`` complex ``(n_metabs,)``, ``gamma`` ``(n,)``, ``data`` complex ``(batch, n_window)``, ``hz`` ``(k,)``
        shifts at the bins of a transform of twice the FID's length -> complex ``(batch, n, k)``; each row of the batch
        has a scale of its own.
        """
        n, extra, kind = self.n_coarse, self.extra, torch.complex64
        size = data.abs().amax(-1, keepdim=True)
        data = torch.fft.ifft((data / torch.where(size > 0, size, torch.ones_like(size))).to(kind), n=n)
        templates = (weights @ self.basis) * torch.exp(-gamma[:, None] * self.time)
        templates = (templates / templates.abs().amax()).conj().to(kind)
        product = data.new_zeros(len(data), len(gamma), 2 * n)
        torch.mul(templates[:, extra : extra + n], data[:, None], out=product[..., :n])
        # The data are periodic, the extended FID is not.
        torch.mul(templates[:, extra + n :], data[:, None, :extra], out=product[..., n : n + extra])
        torch.mul(templates[:, :extra], data[:, None, n - extra :], out=product[..., 2 * n - extra :])
        lags = torch.round(hz * (2 * self.model.n_points * self.model.dwelltime)).long() % (2 * n)
        return torch.fft.fft(product)[..., lags]


def _rise_and_fall(index: np.ndarray, extra: int, last: float) -> np.ndarray:
    """Return a window at the points ``index``: one from 0 to ``last``, falling smoothly to zero within ``extra`` points
    on both sides."""
    outside = np.maximum(-index, index - last)
    out = np.ones(len(index))
    # The running integral of Kaiser's window, by quadrature: interpolated sums would leave steps.
    nodes, weights = _quadrature()
    end = 1 - 2 * np.minimum(outside[outside > 0] / extra, 1.0)
    at = -1 + (nodes + 1) / 2 * (end[:, None] + 1)
    whole = np.i0(_BETA * np.sqrt(1 - nodes**2)) @ weights
    out[outside > 0] = (np.i0(_BETA * np.sqrt(1 - at**2)) @ weights) * (end + 1) / 2 / whole
    return out


@cache
def _quadrature() -> tuple[np.ndarray, np.ndarray]:
    return np.polynomial.legendre.leggauss(48)


# Lengths of fast transforms: powers of two times these.
_FAST = (1, 3, 5, 9, 15)


def _design(model: SignalModel) -> tuple[int, float] | None:
    """Return points of the coarse grid and length of the rise (s) of the least computation; None if it saves none."""
    first, last = model.window
    width, duration = last - first, model.n_points * model.dwelltime
    shift = _MOST_SHIFT_PPM * model.spec_freq_mhz
    broad = math.pi * max(_BROAD_HZ, _BROAD_PPM * model.spec_freq_mhz)
    designs = []
    for n_coarse in (odd << power for odd in _FAST for power in range(4, 24)):
        # The smoothness determines the product of margin (without the shift) and length of the rise.
        margin = (n_coarse - width) // 2 / duration - shift
        rise = math.sqrt(_BETA**2 + math.pi**2) / (math.pi * margin) if margin > 0 else math.inf
        if rise <= min(duration / 2, _MOST_GROWTH / broad):
            designs.append((n_coarse * (1 + 2 * rise / duration), n_coarse, rise))
    total, n_coarse, rise = min(designs, default=(math.inf, 0, 0.0))
    return (n_coarse, rise) if total < 0.6 * model.n_points else None


_reduced_models: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


# Points of all products at one trial point, below which constructing the reduced model costs more than it saves.
_MIN_POINTS = 6e4


def reduced(model: SignalModel, rows: int | None = None) -> SignalModel | ReducedModel:
    """Return the model on a coarse grid, constructed once per model, device and precision.

    It is the model itself where its window is most of the band, or where constructing it costs more than it saves for
    so few ``rows``.
    """
    basis, version, shape, small = _reduced_models.get(model, (None, None, None, None))
    if basis is not model.basis or version != model.basis._version or shape is not model.shape:
        if rows is not None and rows * model.n_metabs * model.n_points < _MIN_POINTS:
            return model
        design = _design(model)
        small = None if design is None else ReducedModel(model, *design)
        _reduced_models[model] = model.basis, model.basis._version, model.shape, small
    return small or model
