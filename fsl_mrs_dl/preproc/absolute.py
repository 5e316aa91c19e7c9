"""Where the lines that everybody knows lie: the absolute shift and phase of a spectrum.

Transients are aligned to each other first; what is left open is where all of them lie together.  That is read off the
aligned mean: creatine, choline and NAA (phosphocreatine for 31P) as lines of one shape, at fixed distances, with one
shift and one phase.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..core.errors import OptionError
from ..core.units import ppm_axis, ppm_to_hz, wrap_degrees
from ..registration.alignment import align_transients

__all__ = ["Offset", "absolute_offset", "LINES"]

LINES = {
    "1H": {
        "names": "creatine, choline and NAA",
        # The fourth is NAAG, which would otherwise pass for a phase of NAA.
        "ppm": (3.027, 3.21, 2.008, 2.045),
        "height": (0.7, 0.6, 1.0, 0.15),
        "search": (1.6, 3.7),
        "pieces": ((1.88, 2.14), (2.92, 3.32)),
        "fwhm_ppm": 0.05,
    },
    "31P": {
        "names": "phosphocreatine",
        "ppm": (0.0,),
        "height": (1.0,),
        "search": (-6.0, 8.0),
        "pieces": ((-1.2, 1.2),),
        "fwhm_ppm": 0.25,
    },
}
"""What is looked for by nucleus: places, usual heights, and the parts of the spectrum around them that are fitted."""

_BASELINE_ORDER = 2
# Lines between and under the known ones, differing with echo time and field, move the answer by about as much
# (simulated, TE 30 to 144 ms).
_MODEL_ERROR_PPM, _MODEL_ERROR_DEG = 0.001, 3.0
_LEAST = 5.0  # height over its SD from which lines count as found


@dataclass(frozen=True)
class Offset:
    """Shift and phase of a whole spectrum against its true place; positive shifts lie towards higher ppm.  NaN where
    nothing was found.

    The SDs are those of noise and of what the model of a few lines lacks, together.
    """

    shift_hz: float
    phase_deg: float
    shift_sd_hz: float
    phase_sd_deg: float

    @property
    def found(self) -> bool:
        """Whether the lines stood out of the noise."""
        return bool(np.isfinite(self.shift_hz))


def absolute_offset(
    fid, *, dwelltime: float, spec_freq_mhz: float, nucleus: str = "1H", max_shift_hz: float | None = None
) -> Offset:
    """Shift and phase of a spectrum, from its lines of known place.

    Parameters
    ----------
    fid : complex array ``(n_points,)``
        An average of aligned transients, say; coils combined.
    dwelltime, spec_freq_mhz : float
        Seconds, MHz.
    nucleus : str
        One of :data:`LINES`.
    max_shift_hz : float, optional
        How far the spectrum may lie from its place; default 0.35 ppm.

    Returns
    -------
    Offset
        The phase is that of the first point with which the lines are upright.

    Raises
    ------
    OptionError
        For a nucleus without lines that are always there.
    """
    from scipy.optimize import least_squares

    if nucleus not in LINES:
        raise OptionError(
            f"--absolute: no lines of known place for {nucleus}, only for {', '.join(LINES)}; leave it out."
        )
    lines = LINES[nucleus]
    fid = np.asarray(fid, dtype=complex)
    none = Offset(*[float("nan")] * 4)
    if not np.isfinite(fid).all() or not fid.any():
        return none
    n_points = fid.shape[-1]
    time = np.arange(n_points) * dwelltime
    places = ppm_to_hz(np.array(lines["ppm"]), spec_freq_mhz, nucleus)
    turns = np.exp(2j * np.pi * places[:, None] * time)
    width = lines["fwhm_ppm"] * spec_freq_mhz
    if max_shift_hz is None:
        max_shift_hz = 0.35 * spec_freq_mhz

    template = (np.array(lines["height"])[:, None] * turns).sum(0) * np.exp(-np.pi * width * time)
    start = align_transients(
        fid[None],
        reference=template,
        dwelltime=dwelltime,
        spec_freq_mhz=spec_freq_mhz,
        nucleus=nucleus,
        ppmlim=lines["search"],
        max_shift_hz=max_shift_hz,
        baseline_order=4,
        unstable=(),
    )
    at = float(start.shift_hz[0])

    ppm = ppm_axis(n_points, dwelltime, spec_freq_mhz, nucleus) - at / spec_freq_mhz
    pieces = [(ppm >= low) & (ppm <= high) for low, high in lines["pieces"]]
    inside = np.any(pieces, axis=0)
    if inside.sum() < 24:
        return none
    smooth = []
    for piece in pieces:
        x = (ppm - ppm[piece].mean()) / np.ptp(ppm[piece])
        smooth += [np.where(piece, x**order, 0.0)[inside] for order in range(_BASELINE_ORDER + 1)]
    smooth = np.array(smooth)
    baseline = np.concatenate([np.concatenate([smooth, 0 * smooth], 1), np.concatenate([0 * smooth, smooth], 1)])
    spec = lambda x: np.fft.fftshift(np.fft.fft(x, norm="ortho"), axes=-1)[..., inside]  # noqa: E731
    seen = spec(fid)
    seen = np.concatenate([seen.real, seen.imag])

    def columns(p):
        shift, phase, lorentz, gauss = p
        shape = np.exp(
            2j * np.pi * shift * time - np.pi * abs(lorentz) * time - (np.pi * gauss * time) ** 2 / (4 * np.log(2))
        )
        made = spec(turns * shape * np.exp(1j * phase))
        return np.concatenate([np.concatenate([made.real, made.imag], 1), baseline])

    def solved(design):
        return np.linalg.solve(
            design @ design.T + 1e-12 * np.trace(design @ design.T) * np.eye(len(design)), design @ seen
        )

    def left(p):
        design = columns(p)
        return seen - solved(design) @ design

    first = (at, np.deg2rad(start.phase_deg[0]), width / 2, width / 2)
    fit = least_squares(left, first, method="lm", x_scale=(1.0, 0.1, 2.0, 2.0), max_nfev=200)
    design = columns(fit.x)
    heights = solved(design)
    variance = 2 * fit.cost / max(len(seen) - len(design) - 4, 1)
    n_lines = len(places)
    covariance = np.linalg.pinv(design @ design.T)[:n_lines, :n_lines] * variance
    total = heights[:n_lines].sum()
    if total < 0:
        # The same fit, upside down.
        fit.x[1] += np.pi
        total = -total
    sd = np.sqrt(np.clip(np.diag(np.linalg.pinv(fit.jac.T @ fit.jac)), 0, None) * variance)
    certain = (
        total > _LEAST * np.sqrt(covariance.sum()) and abs(fit.x[0] - at) < width and abs(fit.x[0]) <= max_shift_hz
    )
    if not certain:
        return none
    phase = wrap_degrees(np.rad2deg(fit.x[1]))
    shift_sd, phase_sd = (
        np.hypot(sd[0], _MODEL_ERROR_PPM * spec_freq_mhz),
        np.hypot(np.rad2deg(sd[1]), _MODEL_ERROR_DEG),
    )
    return Offset(float(fit.x[0]), float(phase), float(shift_sd), float(phase_sd))
