"""Classical methods of frequency and phase correction, as they were published, for comparison.

They fit one transient at a time with SciPy's optimisers, like the originals, and are not used to align data.  All take
FIDs ``(n_transients, n_points)`` and return ``shift_hz`` and ``phase_deg``, each ``(n_transients,)``, with
:mod:`fsl_mrs_dl.registration.alignment`'s signs.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import least_squares, minimize_scalar

from fsl_mrs_dl.core import units
from fsl_mrs_dl.core.axes import Axes

__all__ = ["correlation", "creatine_fit", "creatine_width", "rats", "spectral_registration"]

_CREATINE_PPM, _CHOLINE_PPM = 3.027, 3.2


def spectral_registration(fid, reference, axes: Axes, *, ppmlim=None) -> tuple[np.ndarray, np.ndarray]:
    """Align by least squares in the time domain over shift and phase, starting at no shift.

    Near et al., doi 10.1002/mrm.25094.

    With ``ppmlim`` the part of both spectra in the window is cut out first and transformed back: registration over a
    limited frequency range.  Amplitudes are not fitted; the first 0.4 s are compared, since later points are mostly
    noise.
    """
    fid, reference, dwelltime = np.asarray(fid), np.asarray(reference), axes.dwelltime
    if ppmlim is not None:
        first, last = axes.with_points(fid.shape[-1]).window(ppmlim)
        n_points = fid.shape[-1]
        cut = lambda x: np.fft.ifft(np.fft.fftshift(np.fft.fft(x), axes=-1)[..., first:last])  # noqa: E731
        fid, reference, dwelltime = cut(fid), cut(reference), dwelltime * n_points / (last - first)
    n_used = max(16, min(fid.shape[-1], int(0.4 / dwelltime)))
    time = np.arange(n_used) * dwelltime
    fid, reference = fid[:, :n_used], reference[:n_used]
    # Hertz and degrees are of the same size here, as in the originals.
    solutions = np.empty((len(fid), 2))
    for row, one in enumerate(fid):

        def residual(p, one=one):
            shifted = reference * np.exp(1j * (2 * np.pi * p[0] * time + np.deg2rad(p[1])))
            return (one - shifted).view(float)

        solutions[row] = least_squares(residual, (0.0, 0.0), method="lm", x_scale=(1.0, 1.0)).x
    return solutions[:, 0], (solutions[:, 1] + 180) % 360 - 180


def rats(
    fid, reference, axes: Axes, *, ppmlim=(0.5, 4.0), order: int = 2, max_shift_hz: float = 20.0
) -> tuple[np.ndarray, np.ndarray]:
    """Align by least squares over shift, phase, amplitude and a complex polynomial in the window (RATS).

    Wilson 2019, doi 10.1002/mrm.27605: everything but the shift is solved in closed form, and the shift is searched,
    here by a grid of 0.5 Hz and golden sections.
    """
    fid, reference = np.asarray(fid), np.asarray(reference)
    first, last = axes.with_points(fid.shape[-1]).window(ppmlim)
    time = np.arange(fid.shape[-1]) * axes.dwelltime
    x = np.linspace(-1, 1, last - first)
    powers, _ = np.linalg.qr(x[:, None] ** np.arange(order + 1))

    def straight(fids):
        spectra = np.fft.fftshift(np.fft.fft(fids), axes=-1)[..., first:last]
        return spectra - (spectra @ powers) @ powers.T

    def moved(shift):
        return straight(reference * np.exp(2j * np.pi * np.atleast_1d(shift)[:, None] * time))

    grid = np.arange(-max_shift_hz, max_shift_hz + 0.25, 0.5)
    on_grid, target = moved(grid), straight(fid)
    size = (np.abs(on_grid) ** 2).sum(-1)
    out = np.empty((len(fid), 2))
    for row, one in enumerate(target):
        best = int((np.abs(on_grid.conj() @ one) ** 2 / size).argmax())

        def misfit(shift, one=one):
            (model,) = moved(shift)
            return -(np.abs(np.vdot(model, one)) ** 2) / (np.abs(model) ** 2).sum()

        around = grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]
        shift = minimize_scalar(misfit, bounds=around, method="bounded", options={"xatol": 1e-3}).x
        out[row] = shift, np.rad2deg(np.angle(np.vdot(moved(shift)[0], one)))
    return out[:, 0], out[:, 1]


def correlation(fid, reference, axes: Axes, *, ppmlim=None, zero_fill: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Align by the largest correlation of the spectra over shifts, with the phase of that correlation (Wiegers et al.
    2017).

    Zero-filled, so that shifts are found in steps of ``1 / (zero_fill * acquisition time)``; ``ppmlim`` limits both
    spectra.
    """
    n_fft = zero_fill * np.shape(fid)[-1]
    fid, reference = (np.fft.fft(np.asarray(x), n=n_fft) for x in (fid, reference))
    if ppmlim is not None:
        ppm = units.hz_to_ppm(np.fft.fftfreq(n_fft, axes.dwelltime), axes.spec_freq_mhz)
        inside = (ppm >= ppmlim[0]) & (ppm <= ppmlim[1])
        fid, reference = fid * inside, reference * inside
    fid, reference = np.fft.ifft(fid), np.fft.ifft(reference)
    # The correlation of two spectra is the transform of one FID times the other's conjugate.
    value = np.fft.fft(fid * reference.conj())
    best = np.abs(value).argmax(-1)
    return np.fft.fftfreq(n_fft, axes.dwelltime)[best], np.rad2deg(np.angle(value[np.arange(len(fid)), best]))


def creatine_fit(fid, axes: Axes, *, ppmlim=(2.6, 3.6)) -> tuple[np.ndarray, np.ndarray]:
    """Fit creatine and choline as two Lorentzian lines of one width over a straight baseline to the real part of the
    spectrum.

    The parameters are those of Gannet's model (Edden et al., doi 10.1002/jmri.24478): height of creatine, its shift,
    width and phase, the ratio of choline to it, offset and slope.  Shifts are relative to 3.027 ppm; the start is the
    highest point of the magnitude near it.
    """
    lines = np.array([_fit_creatine(one, axes, ppmlim) for one in np.asarray(fid)])
    phase = lines[:, 3] + np.where(lines[:, 0] * lines[:, 2] < 0, np.pi, 0)
    return (lines[:, 1] - _CREATINE_PPM) * axes.spec_freq_mhz, np.rad2deg((phase + np.pi) % (2 * np.pi) - np.pi)


def creatine_width(fid, axes: Axes, *, ppmlim=(2.6, 3.6)) -> float:
    """Return the full width at half maximum (Hz) of creatine in a FID ``(n_points,)``, by :func:`creatine_fit`."""
    return float(2 * abs(_fit_creatine(np.asarray(fid), axes, ppmlim)[2]) * axes.spec_freq_mhz)


def _fit_creatine(fid, axes: Axes, ppmlim) -> np.ndarray:
    """Return height, shift (ppm), half width (ppm), phase (rad), ratio of choline, offset, slope."""
    first, last = axes.with_points(fid.shape[-1]).window(ppmlim)
    # FSL-MRS's axis, good for windows, is off by part of a bin; lines are fitted where the transform has its bins.
    hertz = np.fft.fftshift(np.fft.fftfreq(fid.shape[-1], axes.dwelltime))[first:last]
    ppm = units.hz_to_ppm(hertz, axes.spec_freq_mhz)
    spec = np.fft.fftshift(np.fft.fft(fid, norm="ortho"))[first:last]
    near = np.abs(ppm - _CREATINE_PPM) < 0.1
    top = int(np.flatnonzero(near)[np.abs(spec[near]).argmax()])

    def residual(p):
        height, centre, width, phase, ratio, offset, slope = p
        line = 0
        for size, at in ((1.0, centre), (ratio, centre + _CHOLINE_PPM - _CREATINE_PPM)):
            line = line + size * height * width / (width + 1j * (ppm - at))
        return (line * np.exp(1j * phase)).real + offset + slope * (ppm - ppm.mean()) - spec.real

    size = np.abs(spec[top])
    start = (size, ppm[top], 0.02, np.angle(spec[top]), 0.7, 0.0, 0.0)
    return least_squares(residual, start, method="lm", x_scale=(size, 0.05, 0.01, 1.0, 0.5, size, size), max_nfev=400).x
