"""Amplitude and area of unsuppressed water: a Voigt line is fitted to its FID, as FSL-MRS does."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..core.axes import Axes
from ..core.fids import usable_fids
from ..core.noise import quiet_points
from ..core.units import fid_to_spec

__all__ = ["WATER_LIMITS", "WaterFit", "early_points", "first_sample", "fit_water", "line_area"]

WATER_LIMITS = (1.65, 7.65)
"""Limits in ppm between which water is integrated, FSL-MRS's."""

_COLUMNS = ("amplitude", "gamma", "sigma", "omega", "phase", "area", "log_area_sd", "early_amplitude")
_MAX_ITER, _TOLERANCE, _AT_ONCE = 100, 1e-10, 128
_MOST_PER_S = 1e4  # damping of a line that has nothing to do with water


@dataclass(frozen=True)
class WaterFit:
    """Voigt lines of water, ``amplitude exp(-t (gamma + t sigma)) exp(i (phase + omega t))`` with t from one dwell
    time.

    Attributes
    ----------
    amplitude : ndarray ``(n,)``
        At time zero, in units of the FIDs; NaN where there is no water.
    gamma, sigma : ndarray ``(n,)``
        Dampings, 1/s and 1/s^2.
    omega, phase : ndarray ``(n,)``
        rad/s and rad.
    area : ndarray ``(n,)``
        Integral of the magnitude of the real part between :data:`WATER_LIMITS`, of the line without phase and shift.
    log_area_sd : ndarray ``(n,)``
        SD of the logarithm of the area; the residual counts as noise, whatever it is.
    early_amplitude : ndarray ``(n,)``
        Magnitude at the first sample by :func:`first_sample`, whatever the line's shape.
    axes : Axes
    """

    amplitude: np.ndarray
    gamma: np.ndarray
    sigma: np.ndarray
    omega: np.ndarray
    phase: np.ndarray
    area: np.ndarray
    log_area_sd: np.ndarray
    early_amplitude: np.ndarray
    axes: Axes

    def damping(self) -> np.ndarray:
        """Return the lines' decay over the points of the FIDs, ``(n, n_points)``, one at the first."""
        t = self.axes.time()
        decay = np.exp(-t * (self.gamma[:, None] + t * self.sigma[:, None]))
        return decay / decay[:, :1]

    def rows(self, index) -> WaterFit:
        """Return the fits of some FIDs."""
        return WaterFit(**{name: getattr(self, name)[index] for name in _COLUMNS}, axes=self.axes)


def line_area(fids: np.ndarray, axes: Axes, limits: tuple[float, float], *, level: bool = False) -> np.ndarray:
    """Return FSL-MRS's area of FIDs ``(..., n_points)``: the integral of the magnitude of the spectrum's real part
    between two chemical shifts, in points.

    With ``level`` the spectrum is brought to zero where there is no signal first: basis sets differ in the weight of
    their first point, which lifts or lowers the whole spectrum.
    """
    first, last = axes.window(limits)
    spectra = fid_to_spec(fids).real
    if level:
        spectra = spectra - np.median(spectra[..., quiet_points(axes)], -1, keepdims=True)
    values = np.abs(spectra[..., first:last])
    return values.sum(-1) - 0.5 * (values[..., 0] + values[..., -1])


def fit_water(fids: np.ndarray, axes: Axes) -> WaterFit:
    """Fit a Voigt line to the FIDs of unsuppressed water ``(n, n_points)``, by least squares.

    Amplitude and area are FSL-MRS's (``fsl_mrs.utils.quantify.WaterRef``), whose minimiser ends at the same line.
    FIDs that are not usable get NaN.  A first point of zero was not acquired, and is left out.
    """
    fids = np.asarray(fids)
    usable = usable_fids(fids)
    out = np.full((len(fids), 8), np.nan)
    where = np.flatnonzero(usable)
    for start in range(0, len(where), _AT_ONCE):
        part = where[start : start + _AT_ONCE]
        out[part] = _fitted(fids[part].astype(complex), axes)
    return WaterFit(**dict(zip(_COLUMNS, out.T)), axes=axes)


def _fitted(fids: np.ndarray, axes: Axes) -> np.ndarray:
    """Return the columns of a WaterFit, ``(n, 8)``."""
    t = axes.time()
    size = np.abs(fids[:, :5]).mean(1)
    scaled = fids / size[:, None]
    acquired = np.ones(fids.shape)
    acquired[:, 0] = fids[:, 0] != 0
    params = _start(scaled, axes)
    model, jacobian = _model(params, t, acquired)
    residual = scaled - model
    damp, cost = np.full(len(fids), 1e-3), np.square(np.abs(residual)).sum(1)
    active = np.arange(len(fids))
    for _ in range(_MAX_ITER):
        step = _step(jacobian[active], residual[active], params[active], damp[active])
        trial = params[active] + step
        trial[:, 2:4] = np.clip(trial[:, 2:4], 0, [_MOST_PER_S, _MOST_PER_S**2])
        new_model, new_jacobian = _model(trial, t, acquired[active])
        new_residual = scaled[active] - new_model
        new_cost = np.square(np.abs(new_residual)).sum(1)
        better = new_cost <= cost[active]
        done = better & (cost[active] - new_cost <= _TOLERANCE * cost[active])
        rows = active[better]
        params[rows], jacobian[rows], residual[rows] = trial[better], new_jacobian[better], new_residual[better]
        cost[rows] = new_cost[better]
        damp[active] *= np.where(better, 0.2, 5.0)
        active = active[~done & (damp[active] < 1e8)]
        if not len(active):
            break
    return _columns(params, jacobian, cost, scaled, size, axes)


def _start(fids: np.ndarray, axes: Axes) -> np.ndarray:
    """Return initial values ``(n, 5)``: real and imaginary amplitude, gamma, sigma, omega."""
    t, n = axes.time(), axes.n_points
    padded = np.abs(np.fft.fft(fids, n=4 * n, axis=-1))
    omega = 2 * np.pi * np.fft.fftfreq(4 * n, axes.dwelltime)[padded.argmax(-1)]
    magnitude = np.abs(fids)
    weight = np.where(magnitude > 0.2 * magnitude.max(1, keepdims=True), magnitude, 0.0)
    rows = np.stack([np.ones(n), -t, -(t**2)], 1)
    log = np.log(np.maximum(magnitude, 1e-12))
    scale = np.array([1.0, 1e2, 1e4])
    gram = np.einsum("np,pi,pj->nij", weight**2, rows * scale, rows * scale) + 1e-9 * np.eye(3)
    right = np.einsum("np,pi,np->ni", weight**2, rows * scale, log)
    gamma, sigma = np.clip((np.linalg.solve(gram, right[..., None])[..., 0] * scale)[:, 1:], 1e-3, 500).T
    turned = fids * np.exp(-1j * omega[:, None] * t)
    line = np.exp(-t * (gamma[:, None] + t * sigma[:, None]))
    amplitude = (turned * line).sum(1) / (line**2).sum(1)
    return np.stack([amplitude.real, amplitude.imag, gamma, sigma, omega], 1)


def _model(params: np.ndarray, t: np.ndarray, acquired: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the lines ``(n, n_points)`` and their derivatives ``(n, 5, n_points)``, zero at what was not acquired."""
    real, imag, gamma, sigma, omega = params.T[..., None]
    line = acquired * np.exp(-t * (gamma + t * sigma) + 1j * omega * t)
    model = (real + 1j * imag) * line
    return model, np.stack([line, 1j * line, -t * model, -(t**2) * model, 1j * t * model], 1)


def _normal(jacobian: np.ndarray) -> np.ndarray:
    return (jacobian @ jacobian.conj().swapaxes(1, 2)).real


def _step(jacobian: np.ndarray, residual: np.ndarray, params: np.ndarray, damp: np.ndarray) -> np.ndarray:
    """Return a step of Levenberg and Marquardt; dampings at zero that would become negative stay there."""
    normal = _normal(jacobian)
    pull = (jacobian.conj() @ residual[..., None])[..., 0].real
    held = np.zeros(pull.shape, bool)
    held[:, 2:4] = (params[:, 2:4] <= 0) & (pull[:, 2:4] < 0)
    diagonal = np.einsum("nii->ni", normal)
    scale = np.sqrt(np.maximum(diagonal, 1e-300))
    both = held[:, :, None] | held[:, None, :]
    scaled = np.where(both, 0.0, normal / (scale[:, :, None] * scale[:, None]))
    scaled += np.eye(5) * (damp[:, None, None] + held[:, None, :] + 1e-12)
    return np.linalg.solve(scaled, np.where(held, 0.0, pull / scale)[..., None])[..., 0] / scale


def _columns(params, jacobian, cost, fids, size, axes: Axes) -> np.ndarray:
    """Return the columns of a WaterFit from the parameters of scaled FIDs."""
    t = axes.time()
    amplitude = np.hypot(params[:, 0], params[:, 1])
    gamma, sigma, omega = params[:, 2:].T
    phase = np.arctan2(params[:, 1], params[:, 0])

    def area(amount, gamma, sigma):
        return line_area(amount[:, None] * np.exp(-t * (gamma[:, None] + t * sigma[:, None])), axes, WATER_LIMITS)

    centre = area(amplitude, gamma, sigma)
    slopes = np.zeros((len(params), 5))
    slopes[:, 0], slopes[:, 1] = params[:, 0] / amplitude**2, params[:, 1] / amplitude**2
    for column, steps in ((2, (0.1, 0.0)), (3, (0.0, 1.0))):
        moved = area(amplitude, gamma + steps[0], sigma + steps[1])
        slopes[:, column] = (moved / centre - 1) / sum(steps)
    normal = _normal(jacobian)
    scale = np.sqrt(np.maximum(np.einsum("nii->ni", normal), 1e-300))
    inverse = np.linalg.inv(normal / (scale[:, :, None] * scale[:, None]) + 1e-12 * np.eye(5))
    weighted = slopes / scale
    noise = cost / max(1, 2 * fids.shape[1] - 5)
    variance = np.einsum("ni,nij,nj->n", weighted, inverse, weighted) * noise
    early = first_sample(fids, axes)
    values = [amplitude * size, gamma, sigma, omega, phase, centre * size, np.sqrt(np.clip(variance, 0, None))]
    return np.stack([*values, early * size], 1)


_EARLY_S = (0.004, 0.016)


def early_points(axes: Axes) -> slice:
    """Return the points from which :func:`first_sample` extrapolates."""
    first, last = (int(round(one / axes.dwelltime)) for one in _EARLY_S)
    first = min(first, max(0, axes.n_points - 3))
    return slice(first, min(max(last, first + 3), axes.n_points))


def first_sample(decay: np.ndarray, axes: Axes) -> np.ndarray:
    """Return the magnitude at the first sample of decays ``(..., n_points)``, of which the early points are used.

    A parabola through the logarithm from 4 to 16 ms is extrapolated: scanners' filters spoil the first samples, and a
    line shape that was smoothed is too low there.  It is exact for Voigt lines.
    """
    part = early_points(axes)
    t = np.arange(axes.n_points)[part] * axes.dwelltime
    weights = np.linalg.pinv(np.stack([np.ones(len(t)), t, t**2], 1))[0]
    return np.exp(np.log(np.maximum(np.abs(decay[..., part]), 1e-30)) @ weights)
