"""Quality figures of a fit, by FSL-MRS's definitions: line width and signal-to-noise ratio of each metabolite."""

from __future__ import annotations

import numpy as np

from . import units

__all__ = ["noise_points", "metabolite_qc"]


def _detrended(values: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Remove a polynomial: order 4, or 1 for few points, none for hardly any."""
    if values.size <= 2:
        return values
    order = 1 if values.size <= 20 else 4
    x = np.interp(x, (x.min(), x.max()), (-1, 1))
    return values - np.polynomial.polynomial.polyval(x, np.polynomial.polynomial.polyfit(x, values, order))


def noise_points(spec: np.ndarray, ppm: np.ndarray, nucleus: str = "1H") -> np.ndarray | None:
    """Which points of one spectrum hold noise only, bool ``(n_points,)``; ``None`` for a nucleus without known regions.

    Where the outer quarters of the bandwidth are quieter or louder than the rest (Levene's test at 5 %), oversampling has
    left filtered edges, and they are not counted.
    """
    from scipy.stats import levene

    quiet = units.nucleus(nucleus).signal_free
    if quiet is None:
        return None
    n = spec.size
    mask, flat = np.zeros(n, bool), np.zeros(n)
    for limits in ((ppm.min(), quiet[0]), (quiet[1], ppm.max())):
        first, last = units.window_indices(ppm, limits)
        region = slice(first, last + 1)
        mask[region] = True
        flat[region] = _detrended(spec.real[region], ppm[region])
    outer = np.zeros(n, bool)
    outer[: n // 4] = outer[n - n // 4 :] = True
    if mask.sum() < 100:
        mask[:50] = mask[-50:] = True
        return mask
    # FSL-MRS takes the exclusive or: where the quiet regions do not fill the outer quarters, the rest of these is in it too.
    inner_points, outer_points = mask ^ outer, mask & outer
    if inner_points.sum() < 2 or outer_points.sum() < 2:
        return mask
    filtered = levene(flat[outer_points], flat[inner_points], center="mean").pvalue < 0.05
    return inner_points if filtered else mask


def _line_width(spec: np.ndarray, hz_per_point: float, widest_hz: float) -> float:
    """Full width at half prominence of the strongest peak of a noise-free spectrum, Hz; zero if there is no clear one."""
    from scipy.signal import find_peaks

    height = np.abs(spec.real)
    if not height.max() > 0:
        return 0.0
    peaks, about = find_peaks(height / height.max(), prominence=(0.4, None), width=(None, 2 * widest_hz))
    return float(about["widths"][np.argmax(about["prominences"])] * hz_per_point) if peaks.size else 0.0


def metabolite_qc(
    fid: np.ndarray,
    metabolite_specs: np.ndarray,
    *,
    dwelltime: float,
    spec_freq_mhz: float,
    nucleus: str,
    ppmlim: tuple[float, float] | None,
    widest_hz: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Matched-filter SNR and line width (Hz) of every metabolite of one fit: two arrays ``(n_metabs,)``.

    ``fid`` is the data ``(n_points,)``, ``metabolite_specs`` the fitted spectra ``(n_metabs, n_points)``, ``widest_hz`` the
    broadening that was fitted.  NaN for a nucleus whose signal-free regions are not known.
    """
    n = fid.size
    ppm = units.ppm_axis(n, dwelltime, spec_freq_mhz, nucleus)
    mask = noise_points(units.fid_to_spec(fid), ppm, nucleus)
    if mask is None:
        nothing = np.full(len(metabolite_specs), np.nan)
        return nothing, nothing.copy()
    first, last = units.window_indices(ppm, ppmlim)
    widths = np.array([_line_width(spec[first:last], 1 / (dwelltime * n), widest_hz) for spec in metabolite_specs])
    # FSL-MRS takes the narrowest line, in Hz, as the rate of the matched filter.
    decay = np.exp(-widths.min() * units.time_axis(n, dwelltime))
    filtered = units.fid_to_spec(fid * decay)[mask]
    noise = np.sqrt(2) * np.std(_detrended(filtered, np.arange(filtered.size)).real)
    heights = np.abs(units.fid_to_spec(units.spec_to_fid(metabolite_specs) * decay)[:, first:last].real).max(-1)
    return heights / noise, widths
