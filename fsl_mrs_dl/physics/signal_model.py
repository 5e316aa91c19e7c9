"""FSL-MRS's linear-combination models in torch: parameters -> spectrum, batched, differentiable, in either precision.

    S(nu) = exp(-1j (phi0 + phi1 nu)) * sum_m conc_m F{ m(t) exp(-(1j eps + gamma + sigma^2 t) t) }  +  baseline(nu)

with ``gamma, sigma, eps`` shared within a metabolite group (``eps`` one per metabolite where shifts are free).  Clarke,
Stagg, Jbabdi, doi 10.1002/mrm.28630.

The fit itself works on the nonlinear parameters only (see :mod:`fsl_mrs_dl.fitting.varpro`): concentrations and
baseline follow linearly.  There the Gaussian width is carried as ``sigma**2``, which the signal is smooth in at zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from ..core import units
from ..core.axes import Axes
from ..core.errors import OptionError
from .baseline import Baseline, Elimination
from .progression import progression

__all__ = ["MODELS", "SignalModel"]


@dataclass(frozen=True)
class _Shape:
    """What sets one model apart from another."""

    gaussian: bool = True
    free_shift: bool = False
    negative: bool = False


MODELS = {
    "voigt": _Shape(),
    "lorentzian": _Shape(gaussian=False),
    "free_shift": _Shape(free_shift=True),
    "free_shift_lorentzian": _Shape(gaussian=False, free_shift=True),
    "negativevoigt": _Shape(negative=True),
}
"""The models, by FSL-MRS's names."""


_MOST_SHIFT_PPM, _MOST_WIDTH_HZ = 1.0, 200.0


def check_model(name: str) -> None:
    """Raise OptionError if there is no signal model of that name."""
    if name not in MODELS:
        raise OptionError("unknown", option="model", value=f"'{name}'", remedy=f"choose one of {', '.join(MODELS)}")


class SignalModel(nn.Module):
    """A linear-combination model of a spectrum.

    Parameters
    ----------
    basis : array, complex ``(n_metabs, n_points)``
        Basis FIDs on the data's time grid.
    axes : Axes
        Of the data.
    model : str
        One of :data:`MODELS`.
    groups : sequence of int, optional
        Group of each metabolite, from 0 without gaps; one group by default.
    ppmlim : (float, float) or None
        The fitted window, ppm; ``None`` fits every point.
    baseline : str or Baseline
        FSL-MRS's words, or a ready one.
    dtype : torch.dtype
        ``torch.float64`` or ``torch.float32``; complex numbers follow.

    Raises
    ------
    OptionError
        Unknown model, malformed groups or baseline, or a window with too few points.
    """

    basis: torch.Tensor
    time: torch.Tensor
    frequency: torch.Tensor
    regressors: torch.Tensor
    projector_u: torch.Tensor
    projector_d: torch.Tensor
    group_index: torch.Tensor
    bins: torch.Tensor

    def __init__(
        self,
        basis,
        axes: Axes,
        *,
        model: str = "voigt",
        groups=None,
        ppmlim: tuple[float, float] | None = (0.2, 4.2),
        baseline: str | Baseline = "poly, 2",
        dtype: torch.dtype = torch.float64,
    ):
        super().__init__()
        check_model(model)
        basis = torch.as_tensor(np.asarray(basis))
        n_metabs, n_points = basis.shape
        groups = list(groups) if groups is not None else [0] * n_metabs
        if len(groups) != n_metabs or sorted(set(groups)) != list(range(max(groups) + 1)):
            raise OptionError(
                f"one index per metabolite ({n_metabs}) is needed, from 0 without gaps",
                option="metab_groups",
                value=groups,
            )
        if n_points != axes.n_points:
            raise OptionError(
                f"the basis FIDs have {n_points} points and the data {axes.n_points}; resample the basis."
            )
        ppm = axes.ppm()
        first, last = axes.window(ppmlim)
        if last - first < 16:
            limits = "all" if ppmlim is None else f"{ppmlim[0]:g} {ppmlim[1]:g}"
            raise OptionError(
                f"holds {last - first} spectral points, at least 16 are needed",
                option="ppmlim",
                value=limits,
                remedy=f"the data span {ppm[0]:.1f} to {ppm[-1]:.1f} ppm",
            )
        width = ppmlim[1] - ppmlim[0] if ppmlim else ppm[-1] - ppm[0]
        self.name, self.shape = model, MODELS[model]
        self.axes, self.dwelltime, self.spec_freq_mhz, self.nucleus = (
            axes,
            axes.dwelltime,
            axes.spec_freq_mhz,
            axes.nucleus,
        )
        self.ppmlim, self.window = ppmlim, (first, last)
        self.baseline = (
            baseline if isinstance(baseline, Baseline) else Baseline.parse(baseline, last - first, abs(width))
        )
        self.n_metabs, self.n_points, self.n_groups = n_metabs, n_points, max(groups) + 1
        self.groups = groups

        complex_dtype = torch.complex128 if dtype == torch.float64 else torch.complex64
        u, d = self.baseline.projector
        for name, values, kind in (
            ("basis", basis, complex_dtype),
            ("time", axes.time(), dtype),
            ("frequency", axes.hz(), dtype),
            ("regressors", self.baseline.regressors, complex_dtype if self.baseline.nuisance is not None else dtype),
            ("projector_u", u, complex_dtype),
            ("projector_d", d, dtype),
        ):
            self.register_buffer(name, torch.as_tensor(values).to(kind), persistent=False)
        self.register_buffer("group_index", torch.as_tensor(groups), persistent=False)
        shift = (torch.arange(first, last) - n_points // 2) % n_points
        self.register_buffer("bins", shift, persistent=False)

    # -- parameters ------------------------------------------------------------------------------------------------

    @property
    def dtype(self) -> torch.dtype:
        """Real number type."""
        return self.time.dtype

    @property
    def complex_dtype(self) -> torch.dtype:
        return self.basis.dtype

    @property
    def n_shifts(self) -> int:
        return self.n_metabs if self.shape.free_shift else self.n_groups

    @property
    def sizes(self) -> dict[str, int]:
        """Parameter blocks in FSL-MRS's order with their sizes."""
        baseline = 2 * self.baseline.n_regressors
        sizes = {"conc": self.n_metabs, "gamma": self.n_groups, "sigma": self.n_groups, "eps": self.n_shifts}
        if not self.shape.gaussian:
            del sizes["sigma"]
        return sizes | {"phi0": 1, "phi1": 1, "baseline": baseline}

    @property
    def n_params(self) -> int:
        return sum(self.sizes.values())

    def parameter_names(self, names: list[str]) -> list[str]:
        """FSL-MRS's column names of a parameter vector, ``names`` being the metabolites'."""
        out = list(names)
        for block in ("gamma", "sigma", "eps"):
            out += [f"{block}_{i}" for i in range(self.sizes.get(block, 0))]
        out += ["Phi0", "Phi1"]
        for i in range(self.sizes["baseline"] // 2):
            out += [f"B_real_{i}", f"B_imag_{i}"]
        return out

    def split(self, params: torch.Tensor) -> dict[str, torch.Tensor]:
        """Parameter vectors ``(..., n_params)`` -> blocks by name, each ``(..., size)``."""
        return dict(zip(self.sizes, torch.split(params, list(self.sizes.values()), dim=-1)))

    def pack(self, theta: torch.Tensor, conc: torch.Tensor, baseline: torch.Tensor) -> torch.Tensor:
        """Nonlinear parameters, concentrations and complex baseline coefficients -> FSL-MRS's vectors ``(...,
        n_params)``."""
        blocks = self.split_theta(theta)
        if "variance" in blocks:
            blocks["sigma"] = blocks["variance"].clamp(min=0).sqrt()
        tail = torch.as_tensor(self.baseline.order_coefficients(baseline.detach().cpu().numpy()))
        parts = {"conc": conc, **blocks, "baseline": tail.to(conc)}
        return torch.cat([parts[name] for name in self.sizes], dim=-1)

    def unpack(self, params: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The inverse of :meth:`pack`: ``(theta, conc, baseline)``."""
        blocks = self.split(params)
        conc, tail = blocks.pop("conc"), blocks.pop("baseline")
        if "sigma" in blocks:
            blocks["sigma"] = blocks["sigma"] ** 2
        baseline = self.baseline.collect_coefficients(tail)
        return torch.cat(list(blocks.values()), dim=-1), conc, baseline.to(self.complex_dtype)

    @property
    def theta_sizes(self) -> dict[str, int]:
        """Blocks of the nonlinear parameters with their sizes; ``variance`` is ``sigma**2``."""
        rename = {"sigma": "variance"}
        return {rename.get(k, k): v for k, v in self.sizes.items() if k not in ("conc", "baseline")}

    def split_theta(self, theta: torch.Tensor) -> dict[str, torch.Tensor]:
        return dict(zip(self.theta_sizes, torch.split(theta, list(self.theta_sizes.values()), dim=-1)))

    def join_theta(self, **blocks: torch.Tensor) -> torch.Tensor:
        """Blocks by name -> nonlinear parameters; a block of size one is spread over groups or metabolites."""
        parts = [blocks[k].expand(*blocks[k].shape[:-1], size) for k, size in self.theta_sizes.items()]
        return torch.cat(parts, dim=-1)

    @property
    def theta_bounds(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Lower and upper bounds of the nonlinear parameters, ``(n_theta,)`` each.

        Line widths are not negative.  The upper bounds are far outside of what can be a spectrum; they keep a group of
        metabolites that the data do not hold from running off to where its lines are flat or out of the band.
        """
        most_shift = 2 * torch.pi * _MOST_SHIFT_PPM * self.spec_freq_mhz
        limits = {
            "gamma": (0.0, torch.pi * _MOST_WIDTH_HZ),
            "variance": (0.0, (torch.pi * _MOST_WIDTH_HZ / np.sqrt(4 * np.log(2))) ** 2),
            "eps": (-most_shift, most_shift),
        }
        pairs = [limits.get(name, (-torch.inf, torch.inf)) for name, n in self.theta_sizes.items() for _ in range(n)]
        bounds = torch.tensor(pairs, dtype=self.dtype, device=self.time.device)
        return bounds[:, 0], bounds[:, 1]

    def with_shared_shifts(self) -> SignalModel:
        """The same model with one shift per group, sharing this one's basis."""
        import copy

        plain = copy.copy(self)
        plain.name = "lorentzian" if not self.shape.gaussian else "voigt"
        plain.shape = MODELS[plain.name]
        return plain

    def with_one_group(self) -> SignalModel:
        """The same model with one shift and width for all metabolites, sharing this one's basis."""
        import copy

        plain = copy.copy(self.with_shared_shifts())
        plain._buffers = dict(self._buffers)
        plain.groups, plain.n_groups = [0] * self.n_metabs, 1
        plain.group_index = torch.zeros_like(self.group_index)
        return plain

    # -- spectra ---------------------------------------------------------------------------------------------------

    def decay(self, theta: torch.Tensor, per_metabolite: bool, time: torch.Tensor | None = None) -> torch.Tensor:
        """Return damping and shift over time (evenly spaced), ``(..., n, n_points)``, of n groups or metabolites."""
        time = self.time if time is None else time
        blocks = self.split_theta(theta)
        gamma, variance, eps = blocks["gamma"], blocks.get("variance"), blocks["eps"]
        if per_metabolite and not (self.n_groups == 1 and not self.shape.free_shift):
            gamma = gamma[..., self.group_index]
            variance = variance[..., self.group_index] if variance is not None else None
            eps = eps if self.shape.free_shift else eps[..., self.group_index]
        step = (time[-1] - time[0]) / (len(time) - 1)
        slope = -torch.complex(gamma, eps)
        out = progression(slope * time[0], slope * step, len(time))
        return out if variance is None else out * torch.exp(-variance[..., None] * time**2)

    def phase(self, theta: torch.Tensor, frequency: torch.Tensor) -> torch.Tensor:
        """Return the phase factor over frequencies (evenly spaced), complex ``(..., n_frequencies)``."""
        blocks = self.split_theta(theta)
        step = (frequency[-1] - frequency[0]) / (len(frequency) - 1)
        first, slope = blocks["phi0"] + blocks["phi1"] * frequency[0], blocks["phi1"] * step
        zero = torch.zeros_like(first)
        return progression(torch.complex(zero, -first), torch.complex(zero, -slope), len(frequency)).squeeze(-2)

    def _spectrum(self, fid: torch.Tensor) -> torch.Tensor:
        """FIDs ``(..., n_points)`` of our own making -> the fitted window of their spectra; overwrites the first
        point."""
        fid[..., 0] *= 0.5
        return torch.fft.fft(fid, dim=-1, norm="ortho")[..., self.bins]

    def eliminate_baseline(self, spec: torch.Tensor) -> torch.Tensor:
        """Remove from spectra in the window ``(..., n_window)`` what the baseline can explain (see
        ``Baseline.projector``)."""
        if self.projector_d.numel() == 0:
            return spec
        return spec - (spec @ self.projector_u.conj() * self.projector_d) @ self.projector_u.mT

    @property
    def elimination(self) -> Elimination | None:
        """:meth:`eliminate_baseline` for a solver that takes the plain spectra; None if there is no baseline."""
        if not self.projector_d.numel():
            return None
        real = self.baseline.nuisance is None
        return Elimination(self.projector_u.real.contiguous() if real else self.projector_u, self.projector_d)

    def columns(self, theta: torch.Tensor) -> torch.Tensor:
        """Spectra of one unit of each metabolite in the window, baseline eliminated.

        ``theta`` is ``(batch, n_theta)``; gives complex ``(batch, n_metabs, n_window)``.
        """
        return self.eliminate_baseline(self.plain_columns(theta))

    def plain_columns(self, theta: torch.Tensor) -> torch.Tensor:
        """As :meth:`columns`, the baseline not eliminated."""
        phase = self.phase(theta, self.frequency[self.window[0] : self.window[1]])
        blocks = [
            self._spectrum(self.basis * self.decay(part, per_metabolite=True))
            for part in torch.split(theta, self.rows_in_cache(theta.device))
        ]
        return torch.cat(blocks) * phase[:, None]

    def rows_in_cache(self, device: torch.device) -> int:
        """How many spectra's time-domain products to hold at once.

        Buffers beyond a few megabytes cost a processor more in page faults than in arithmetic; on a GPU large ones
        are quick.
        """
        budget = 8e6 if device.type == "cpu" else 2e9
        return max(1, int(budget / (self.n_metabs * self.n_points * self.basis.element_size())))

    def theta_derivatives(self, theta: torch.Tensor, conc: torch.Tensor, *, eliminate: bool = True) -> torch.Tensor:
        """Derivative of the metabolite spectrum in the window by each nonlinear parameter, the baseline eliminated or
        not.

        ``theta`` ``(batch, n_theta)``, ``conc`` ``(batch, n_metabs)``; gives complex ``(batch, n_theta, n_window)``.
        """
        frequency = self.frequency[self.window[0] : self.window[1]]
        weighted = self.group_fids(theta, conc)
        by_gamma = -self._spectrum(weighted * self.time)
        rows = [by_gamma]
        if self.shape.gaussian:
            rows.append(-self._spectrum(weighted * self.time**2))
        if self.shape.free_shift:
            each = conc[..., None] * self.basis * self.decay(theta, per_metabolite=True) * self.time
            rows.append(-1j * self._spectrum(each))
        else:
            rows.append(1j * by_gamma)
        total = self._spectrum(weighted.sum(dim=-2, keepdim=True))
        rows += [-1j * total, -1j * frequency * total]
        spec = torch.cat(rows, dim=-2) * self.phase(theta, frequency)[:, None]
        return self.eliminate_baseline(spec) if eliminate else spec

    def group_fids(self, theta: torch.Tensor, conc: torch.Tensor) -> torch.Tensor:
        """Return the sum of the metabolites of each group over time, ``(batch, n_groups, n_points)``."""
        if self.shape.free_shift:
            each = conc[..., None] * self.basis * self.decay(theta, per_metabolite=True)
            out = each.new_zeros(*conc.shape[:-1], self.n_groups, self.n_points)
            return out.index_add(-2, self.group_index, each)
        member = torch.nn.functional.one_hot(self.group_index, self.n_groups).to(conc)
        weights = (conc[..., None] * member).mT
        # The weights are real: half of a complex product would be spent on zeros.
        sums = weights.reshape(-1, self.n_metabs) @ torch.view_as_real(self.basis).flatten(-2)
        fids = torch.view_as_complex(sums.reshape(*weights.shape[:-1], self.n_points, 2))
        return fids * self.decay(theta, per_metabolite=False)

    def join_metabolites(self, theta: torch.Tensor, conc: torch.Tensor) -> torch.Tensor:
        """Sum of all metabolites in the window, baseline not touched, complex ``(batch, n_window)``."""
        total = self._spectrum(self.group_fids(theta, conc).sum(dim=-2))
        return total * self.phase(theta, self.frequency[self.window[0] : self.window[1]])

    def baseline_coefficients(self, residual: torch.Tensor) -> torch.Tensor:
        """Best complex baseline coefficients for ``residual`` ``(batch, n_window)``: ``(batch, n_regressors)``."""
        solver = torch.as_tensor(self.baseline.solver, device=residual.device).to(residual.dtype)
        return residual @ solver.mT

    def metabolites(self, params: torch.Tensor) -> torch.Tensor:
        """Spectrum of each metabolite over all points, complex ``(..., n_metabs, n_points)``."""
        theta, conc, _ = self.unpack(params)
        fid = conc[..., None] * self.basis * self.decay(theta, per_metabolite=True)
        return units.fid_to_spec(fid) * self.phase(theta, self.frequency)[..., None, :]

    def baseline_spec(self, params: torch.Tensor) -> torch.Tensor:
        """The baseline over all points, zero outside the window, complex ``(..., n_points)``."""
        _, _, coefficients = self.unpack(params)
        first, last = self.window
        out = coefficients.new_zeros(*params.shape[:-1], self.n_points)
        out[..., first:last] = coefficients @ self.regressors.mT.to(self.complex_dtype)
        return out

    def forward(self, params: torch.Tensor) -> torch.Tensor:
        """FSL-MRS's parameter vectors ``(..., n_params)`` -> whole spectra, complex ``(..., n_points)``."""
        theta, conc, _ = self.unpack(params)
        fid = self.group_fids(theta, conc).sum(dim=-2)
        return units.fid_to_spec(fid) * self.phase(theta, self.frequency) + self.baseline_spec(params)

    def jacobian(self, params: torch.Tensor) -> torch.Tensor:
        """Derivative of the spectrum in the window by every parameter of FSL-MRS's vector.

        ``params`` ``(batch, n_params)``; gives complex ``(batch, n_window, n_params)``.
        """
        theta, conc, _ = self.unpack(params)
        first, last = self.window
        by_conc = self.plain_columns(theta)
        by_theta = self.theta_derivatives(theta, conc, eliminate=False)
        if self.shape.gaussian:
            start = self.n_groups
            sigma = self.split(params)["sigma"]
            by_theta = by_theta.clone()
            by_theta[:, start : 2 * start] *= 2 * sigma[..., None]
        unit = np.eye(self.sizes["baseline"])
        shapes = self.baseline.collect_coefficients(unit) @ self.baseline.regressors.T
        by_baseline = torch.as_tensor(shapes, device=params.device).to(self.complex_dtype).reshape(-1, last - first)
        rows = torch.cat([by_conc, by_theta, by_baseline.expand(len(params), -1, -1)], dim=-2)
        return rows.mT
