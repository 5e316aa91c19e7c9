"""The in-vivo spectral model in torch: parameters -> spectrum in the window and its derivatives, batched.

    S(nu) = exp(-i (phi0 + phi1 (nu - nu0))) F{ g(t) h(t) sum_j A_j b_j(t) exp(2 pi i d_j t - w_j t - e^{2 q_j} v_j
    t^2) } g(t) = exp((2 pi i s - gamma) t - sigma^2 t^2),   h(t) = 1 + sum_k a_k (exp(2 pi i f_k t) - 1)

Every line has an amplitude A, a shift d (Hz) and a damping w (1/s, metabolites and lipids) or a log width q
(macromolecules) of its own; s, gamma, sigma^2, the phases and the line shape h are common to all.  A measured pattern
of macromolecules has one damping w, which may be negative, because it was measured with a line width of its own.  Every
parameter has a Gaussian prior, so that a spectrum decides no more of them than it can.  The parts are LCModel's
(Provencher, doi 10.1002/mrm.1910300604), as log amplitudes and with the covariance of all of them kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from .coarse_window import CoarseWindow
from .in_vivo_components import Components, priors_table
from .in_vivo_signals import concentration_names
from .progression import progression

__all__ = ["InVivoModel", "make_in_vivo_model", "parameter_names"]

_DETAILS = ("q", "phi1", "own_shift", "own_width", "pattern_width", "shape")


@dataclass(frozen=True)
class InVivoModel:
    """Tensors of the model; made by :func:`make_in_vivo_model`.

    Attributes
    ----------
    components : Components
    window : CoarseWindow
    basis : complex Tensor ``(n_components, n_time)``
        On the coarse grid.
    time : Tensor ``(n_time,)``
        Seconds of the coarse grid, one dwell time later than the signal's as in FSL-MRS.
    hz : Tensor ``(n_window,)``
    pivot : float
        Offset (Hz) that the first-order phase turns about.
    gauss : Tensor ``(n_components,)``
        Gaussian damping of macromolecule lines, 1/s^2.
    shape_hz : Tensor ``(n_shape,)``
        Frequencies of the line shape.
    slices : dict of str to slice
        Where in a parameter vector each block is.
    prior_mean, prior_precision : Tensor ``(n_params,)`` and ``(n_params, n_params)``
        Gaussian prior, with rows for relations between parameters.
    least_gamma : float
        Subtracted from the common damping (1/s), which may be negative where water gave the line shape.
    """

    components: Components
    window: CoarseWindow
    basis: torch.Tensor
    time: torch.Tensor
    hz: torch.Tensor
    pivot: float
    gauss: torch.Tensor
    shape_hz: torch.Tensor
    slices: dict[str, slice]
    prior_mean: torch.Tensor
    prior_precision: torch.Tensor
    least_gamma: float = 0.0

    @property
    def n_components(self) -> int:
        """Number of signals."""
        return self.basis.shape[-2]

    @property
    def n_linear(self) -> int:
        """Number of metabolites and lipids, which come first."""
        return self.components.n_linear

    @property
    def n_params(self) -> int:
        """Length of a parameter vector."""
        return len(self.prior_mean)

    @property
    def details(self) -> torch.Tensor:
        """Indices of parameters of single lines and of the line shape, which the first steps of a fit leave alone."""
        names = [name for name in _DETAILS if name in self.slices]
        return torch.cat([torch.arange(self.slices[name].start, self.slices[name].stop) for name in names])

    def _spectrum(self, fid: torch.Tensor) -> torch.Tensor:
        """Transform products on the extended grid to the window; overwrites them."""
        n, extra = self.window.n_coarse, self.window.extra
        fid[..., n : n + extra] += fid[..., :extra]
        fid[..., extra : 2 * extra] += fid[..., n + extra :]
        return torch.fft.fft(fid[..., extra : extra + n], dim=-1)[..., : self.window.n_window]

    def to_window(self, signals: torch.Tensor) -> torch.Tensor:
        """Return the spectra ``(..., n_window)`` of signals on the coarse grid ``(..., n_time)``, without phases."""
        return self._spectrum(signals.clone())

    def line_shape(self, x: torch.Tensor, time: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return the line shape ``(b, n_time)`` and its factors ``(n_shape, n_time)`` or None."""
        line = torch.ones(len(x), len(time), dtype=self.basis.dtype, device=x.device)
        if "shape" not in self.slices:
            return line, None
        factors = torch.exp(2j * torch.pi * self.shape_hz[:, None] * time) - 1
        return line + x[:, self.slices["shape"]].to(factors.dtype) @ factors, factors

    def signals(
        self, x: torch.Tensor, basis: torch.Tensor, time: torch.Tensor, water: torch.Tensor | None
    ) -> torch.Tensor:
        """Return the components' signals without the line shape of :meth:`line_shape`, complex ``(b, n_components,
        n_time)``, on any grid of evenly spaced times.

        ``water`` ``(b, n_time)`` is a line shape that was taken from water.
        """
        s = self.slices
        amplitude = torch.exp(x[:, s["log_amp"]])
        slope = torch.zeros(len(x), self.n_components, dtype=basis.dtype, device=x.device)
        slope.imag = 2 * torch.pi * (x[:, s["own_shift"]] + x[:, s["shift"]])
        slope.real = -(torch.exp(x[:, s["gamma"]]) - self.least_gamma).expand(-1, self.n_components)
        slope.real[:, : self.n_linear] -= x[:, s["own_width"]]
        if "pattern_width" in s:
            slope.real[:, self.n_linear :] -= x[:, s["pattern_width"]]
        signal = basis * progression(slope * time[0], slope * (time[1] - time[0]), len(time)) * amplitude[..., None]
        common = torch.exp(-torch.exp(x[:, s["variance"]]) * time**2)
        if water is not None:
            common = common * water
        if "q" in s:
            first = self.n_components - (s["q"].stop - s["q"].start)
            own = (torch.exp(2 * x[:, s["q"]]) * self.gauss[first:])[..., None] * time**2
            signal[:, first:] *= torch.exp(-own)
        return signal * common[:, None]

    def phase_factor(self, x: torch.Tensor, hz: torch.Tensor) -> torch.Tensor:
        """Return the factor that zero- and first-order phase turn spectra by, complex ``(b, n)``."""
        angle = x[:, self.slices["phi0"]] + x[:, self.slices["phi1"]] * (hz - self.pivot)
        return torch.exp(-1j * angle)

    def spectrum(self, x: torch.Tensor, water: torch.Tensor | None = None) -> torch.Tensor:
        """Return spectra in the window, complex ``(b, n_window)``, for parameters ``(b, n_params)``."""
        signal, (line, _) = self.signals(x, self.basis, self.time, water), self.line_shape(x, self.time)
        return self._spectrum(signal.sum(1) * line) * self.phase_factor(x, self.hz)

    def spectrum_and_pull(
        self, x: torch.Tensor, weigh: Callable[[torch.Tensor], torch.Tensor], water: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return spectra ``(b, n_window)`` and the products of their derivatives with ``weigh(spectra)``, ``(b,
        n_params)``, without forming the derivatives.

        ``weigh`` takes and returns complex ``(b, n_window)``.
        """
        s, t, n, n_lin = self.slices, self.time, self.n_components, self.n_linear
        signal, (line, factors) = self.signals(x, self.basis, t, water), self.line_shape(x, t)
        total, phase = signal.sum(1), self.phase_factor(x, self.hz)
        spectra = self._spectrum(total * line) * phase
        weighted = weigh(spectra)
        back = self._adjoint(weighted * phase.conj())
        along_line = back * line.conj()
        powers = torch.stack([along_line, along_line * t, along_line * t**2], -1)
        by_power = signal.conj() @ powers
        height, by_time, by_square = by_power.unbind(-1)
        out = torch.zeros(len(x), self.n_params, dtype=x.dtype, device=x.device)
        out[:, s["log_amp"]] = height.real
        out[:, s["own_shift"]] = 2 * torch.pi * by_time.imag
        out[:, s["own_width"]] = -by_time[:, :n_lin].real
        if "pattern_width" in s:
            out[:, s["pattern_width"]] = -by_time[:, n_lin:].real.sum(-1, keepdim=True)
        out[:, s["shift"]] = 2 * torch.pi * by_time.imag.sum(-1, keepdim=True)
        turn = -(spectra.conj() * weighted).imag
        out[:, s["phi0"]] = turn.sum(-1, keepdim=True)
        out[:, s["phi1"]] = (turn * (self.hz - self.pivot)).sum(-1, keepdim=True)
        out[:, s["gamma"]] = -torch.exp(x[:, s["gamma"]]) * by_time.real.sum(-1, keepdim=True)
        out[:, s["variance"]] = -torch.exp(x[:, s["variance"]]) * by_square.real.sum(-1, keepdim=True)
        if "q" in s:
            n_q = s["q"].stop - s["q"].start
            rate = -2 * torch.exp(2 * x[:, s["q"]]) * self.gauss[n - n_q :]
            out[:, s["q"]] = rate * by_square[:, n - n_q :].real
        if factors is not None:
            out[:, s["shape"]] = ((back * total.conj()) @ factors.conj().mT).real
        return spectra, out

    def growth(self, before: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """Return the factors ``(b, n_params)`` that derivatives are multiplied by, from parameters ``before`` to ``x``,
        because they are in proportion to an amplitude, a damping or a width."""
        s, change = self.slices, x - before
        out = torch.ones_like(x)
        amplitude = torch.exp(change[:, s["log_amp"]])
        for name, size in (
            ("log_amp", self.n_components),
            ("own_shift", self.n_components),
            ("own_width", self.n_linear),
        ):
            out[:, s[name]] = amplitude[:, :size]
        for name in ("gamma", "variance"):
            out[:, s[name]] = torch.exp(change[:, s[name]])
        if "q" in s:
            n_q = s["q"].stop - s["q"].start
            out[:, s["q"]] = amplitude[:, self.n_components - n_q :] * torch.exp(2 * change[:, s["q"]])
        return out

    def _adjoint(self, spectrum: torch.Tensor) -> torch.Tensor:
        """Return the adjoint of :meth:`_spectrum` of ``(b, n_window)``, on the extended grid."""
        n, extra = self.window.n_coarse, self.window.extra
        inner = n * torch.fft.ifft(spectrum, n=n, dim=-1)
        return torch.cat([inner[..., n - extra :], inner, inner[..., :extra]], -1)

    def component_spectra(self, x: torch.Tensor, water: torch.Tensor | None = None) -> torch.Tensor:
        """Return the spectrum of every component in the window, complex ``(b, n_components, n_window)``."""
        signal, (line, _) = self.signals(x, self.basis, self.time, water), self.line_shape(x, self.time)
        return self._spectrum(signal * line[:, None]) * self.phase_factor(x, self.hz)[:, None]

    def jacobian(self, x: torch.Tensor, water: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Return spectra ``(b, n_window)`` and their derivatives by all parameters ``(b, n_params, n_window)``."""
        s, t, n, n_lin = self.slices, self.time, self.n_components, self.n_linear
        signal, (line, factors) = self.signals(x, self.basis, t, water), self.line_shape(x, t)
        total = signal.sum(1)
        signal = signal * line[:, None]
        n_shape = 0 if factors is None else len(factors)
        n_q = s["q"].stop - s["q"].start if "q" in s else 0
        end = 2 * n + 1 + n_q
        stack = torch.empty(len(x), end + n_shape, len(t), dtype=signal.dtype, device=x.device)
        stack[:, :n] = signal
        stack[:, n : 2 * n] = signal * t
        stack[:, 2 * n] = total * line * t**2
        if n_q:
            stack[:, 2 * n + 1 : end] = signal[:, n - n_q :] * t**2
        if factors is not None:
            stack[:, end:] = total[:, None] * factors
        spectra = self._spectrum(stack) * self.phase_factor(x, self.hz)[:, None]
        columns, by_time = spectra[:, :n], spectra[:, n : 2 * n]
        out = torch.zeros(len(x), self.n_params, spectra.shape[-1], dtype=spectra.dtype, device=x.device)
        model, all_time = columns.sum(1), by_time.sum(1)
        out[:, s["log_amp"]] = columns
        out[:, s["own_shift"]] = 2j * torch.pi * by_time
        out[:, s["own_width"]] = -by_time[:, :n_lin]
        if "pattern_width" in s:
            out[:, s["pattern_width"]] = -by_time[:, n_lin:].sum(1, keepdim=True)
        out[:, s["shift"]] = 2j * torch.pi * all_time[:, None]
        out[:, s["phi0"]] = -1j * model[:, None]
        out[:, s["phi1"]] = (-1j * model * (self.hz - self.pivot))[:, None]
        out[:, s["gamma"]] = -(torch.exp(x[:, s["gamma"]])[:, None] * all_time[:, None])
        out[:, s["variance"]] = -torch.exp(x[:, s["variance"]])[:, :, None] * spectra[:, 2 * n : 2 * n + 1]
        if n_q:
            rate = -2 * torch.exp(2 * x[:, s["q"]]) * self.gauss[n - n_q :]
            out[:, s["q"]] = rate[..., None] * spectra[:, 2 * n + 1 : end]
        if n_shape:
            out[:, s["shape"]] = spectra[:, end:]
        return model, out


def make_in_vivo_model(
    components: Components,
    window: CoarseWindow,
    *,
    line_shape: bool = True,
    from_water: bool = False,
    dtype: torch.dtype = torch.float64,
    device: str | torch.device = "cpu",
) -> InVivoModel:
    """Make the model of components in a window.

    Parameters
    ----------
    line_shape : bool
        Estimate a non-parametric line shape.
    from_water : bool
        Every spectrum comes with a line shape from water: the estimated one is expected to be small, and the common
        damping is negative, because water decays faster than metabolites.
    """
    table, axes = priors_table(), window.axes
    field = max(1.0, axes.spec_freq_mhz / 42.577 / 3)
    n = len(components.names)
    about = table["line_shape"]
    steps = np.arange(1, int(about["most_hz_3t"] / about["step_hz_3t"]) + 1) * about["step_hz_3t"]
    shape_hz = np.concatenate([-steps[::-1], steps]) * field
    n_q = int((components.gauss_variance > 0).sum())
    sizes = {"log_amp": n, "scale": 1, "mm_scale": 1, "shift": 1, "phi0": 1, "phi1": 1, "gamma": 1, "variance": 1}
    sizes |= {"q": n_q} if n_q else {}
    sizes |= {"own_shift": n, "own_width": components.n_linear}
    sizes |= {"pattern_width": 1} if components.n_linear < n and not n_q else {}
    sizes |= {"shape": len(shape_hz)} if line_shape else {}
    slices, start = {}, 0
    for name, size in sizes.items():
        slices[name] = slice(start, start + size)
        start += size
    mean, precision = _prior(components, slices, start, shape_hz, axes.spec_freq_mhz, from_water)
    kind = torch.complex128 if dtype == torch.float64 else torch.complex64

    def tensor(array, as_type=dtype):
        return torch.as_tensor(np.asarray(array)).to(device=device, dtype=as_type)

    return InVivoModel(
        components=components,
        window=window,
        basis=tensor(window.coarse(components.fids), kind),
        time=tensor(window.time + axes.dwelltime),
        hz=tensor(window.hz),
        pivot=float(window.hz.mean()),
        gauss=tensor(components.gauss_variance),
        shape_hz=tensor(shape_hz),
        slices=slices,
        prior_mean=tensor(mean),
        prior_precision=tensor(precision),
        least_gamma=-table["damping"]["water_least_per_s"] if from_water else 0.0,
    )


def _prior(components: Components, slices: dict[str, slice], size: int, shape_hz, mhz: float, from_water: bool):
    """Return mean and precision matrix of the Gaussian prior on all parameters."""
    table = priors_table()
    field = max(1.0, mhz / 42.577 / 3)
    mean, precision = np.zeros(size), np.zeros((size, size))
    index = np.arange(slices["log_amp"].start, slices["log_amp"].stop)
    mean[index] = np.log(components.expected)
    scale, mm_scale = slices["scale"].start, slices["mm_scale"].start
    for i, weight, kind in zip(index, components.log_sd**-2.0, components.kinds):
        _relate(precision, i, mm_scale if kind == "mm" else scale, weight)
    _relate(precision, scale, mm_scale, table["macromolecules"]["scale_log_sd"] ** -2.0)
    damping, shape = table["damping"], table["line_shape"]
    gamma, gamma_sd = damping["gamma_per_s"], damping["gamma_log_sd"]
    fwhm_hz, shape_sd = damping["gauss_fwhm_hz_3t"] * field, shape["sd"]
    if from_water:
        gamma = damping["water_gamma_per_s"] - damping["water_least_per_s"]
        gamma_sd = damping["water_gamma_log_sd"]
        fwhm_hz, shape_sd = 0.5 * fwhm_hz, shape_sd * shape["water_factor"]
    gauss_variance = (np.pi * fwhm_hz) ** 2 / (4 * np.log(2))
    single = {
        "scale": (0.0, 30.0),
        "shift": (0.0, table["shift_ppm"]["common"] * mhz),
        "phi0": (0.0, 1e3),
        "phi1": (0.0, np.deg2rad(table["phase"]["phi1_sd_deg_per_ppm"]) / mhz),
        "gamma": (np.log(gamma), gamma_sd),
        "variance": (np.log(gauss_variance), damping["gauss_log_sd"]),
        "q": (0.0, table["macromolecules"]["width_log_sd"]),
        "own_shift": (0.0, components.shift_sd_hz),
        "own_width": (0.0, components.width_sd[: components.n_linear]),
        "pattern_width": (0.0, table["own_pattern"]["width_per_s"]),
        "shape": (0.0, shape_sd * np.exp(-((shape_hz / field) ** 2) / (2 * shape["decay_hz_3t"] ** 2))),
    }
    for name, (centre, sd) in single.items():
        if name in slices:
            rows = np.arange(slices[name].start, slices[name].stop)
            mean[rows] = centre
            precision[rows, rows] += np.broadcast_to(np.asarray(sd, float) ** -2.0, rows.shape)
    return mean, precision


def _relate(precision: np.ndarray, i: int, j: int, weight: float) -> None:
    """Add the penalty ``weight (x_i - x_j)^2 / 2``."""
    precision[i, i] += weight
    precision[j, j] += weight
    precision[i, j] -= weight
    precision[j, i] -= weight


def parameter_names(model: InVivoModel) -> list[str]:
    """Return the names of all parameters, in the order of :meth:`InVivoFit.parameter_values`."""
    components, s = model.components, model.slices
    out = [*concentration_names(components), "shift_hz", "phi0_rad", "phi1_rad_per_hz"]
    out += ["log_lorentz_per_s", "log_gauss_per_s2"]
    out += [f"shift_hz_{name}" for name in components.names]
    out += [f"damping_per_s_{name}" for name in components.names[: components.n_linear]]
    macromolecules = components.names[components.n_linear :]
    out += [f"log_amplitude_{name}" for name in macromolecules]
    out += [f"log_width_{name}" for name in macromolecules] if "q" in s else []
    out += ["damping_per_s_MM"] if "pattern_width" in s else []
    if "shape" in s:
        out += [f"line_shape_{hz:+.3g}_hz" for hz in model.shape_hz.tolist()]
    return [*out, "baseline_dimension"]
