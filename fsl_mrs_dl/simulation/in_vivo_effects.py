"""Imperfections of in vivo spectra for recipes, batched in torch: line shapes of shim fields, measured macromolecules,
scalp lipid and echoes from outside the voxel.

Each has a function that draws from the ranges of a recipe and one that renders what was drawn; see
:mod:`fsl_mrs_dl.simulation.random_spectra`.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch

from ..core.axes import Axes
from ..core.errors import OptionError
from ..physics.in_vivo_components import priors_table
from ..physics.progression import progression
from .artefacts import LIPID_LINES
from .recipes import sample

__all__ = [
    "EFFECTS",
    "draw_echoes",
    "draw_macromolecules",
    "draw_scalp_lipid",
    "draw_shim",
    "echo_fids",
    "harmonics",
    "macromolecule_fids",
    "scalp_lipid_lines",
    "shim_line_shapes",
    "shim_widths_hz",
]

EFFECTS = {
    "shim": ("linear_hz_3t", "quadratic_hz_3t", "factor"),
    "measured_macromolecules": ("probability", "amount", "spread", "shift_ppm", "log_width"),
    "scalp_lipid": ("probability", "height", "shift_ppm", "fwhm_ppm", "phase_deg"),
    "echoes": ("probability", "height", "ppm", "time_ms", "duration_ms", "phase_deg"),
}
"""Parts of a recipe and their entries."""

_MHZ_3T = 42.577 * 3
_PLACES = 512  # points of the voxel that a shim field is sampled at
_FREQUENCIES = 256  # steps of the histogram of a shim field
_NEGLIGIBLE = 1e-7  # of a line's decay


def _entries(name: str, spec: dict) -> dict:
    unknown = set(spec) - set(EFFECTS[name])
    if unknown:
        raise OptionError(f"{name}: '{min(unknown)}' is unknown; there are {', '.join(EFFECTS[name])}.")
    return spec


# -- shim ----------------------------------------------------------------------------------------------------------


def draw_shim(spec: dict, n: int, generator: torch.Generator) -> torch.Tensor:
    """Draw shim fields of first and second order ``(n, 8)``, Hz at 3 T at the edge of a voxel.

    ``linear_hz_3t`` are gradients along the voxel's three axes, ``quadratic_hz_3t`` the five harmonics of second order,
    ``factor`` multiplies the whole field of a spectrum.
    """
    spec = _entries("shim", spec)
    linear = sample(spec.get("linear_hz_3t", 0.0), (n, 3), generator)
    quadratic = sample(spec.get("quadratic_hz_3t", 0.0), (n, 5), generator)
    return torch.cat([linear, quadratic], 1) * sample(spec.get("factor", 1.0), (n, 1), generator)


@lru_cache
def harmonics() -> torch.Tensor:
    """Return the field of each coefficient at points spread evenly over a cubic voxel ``(8, n_places)``, its mean
    removed."""
    x, y, z = (2 * torch.quasirandom.SobolEngine(3).draw(_PLACES + 1)[1:] - 1).T
    second = [x * y, y * z, z * x, 0.5 * (x**2 - y**2), z**2 - 0.5 * (x**2 + y**2)]
    fields = torch.stack([x, y, z, *second])
    return fields - fields.mean(1, keepdim=True)


def _fields(shim: torch.Tensor, mhz: float) -> torch.Tensor:
    return shim @ harmonics().to(shim.device) * (mhz / _MHZ_3T)


def shim_widths_hz(shim: torch.Tensor, mhz: float) -> torch.Tensor:
    """Return full widths at half maximum ``(n,)`` of Gaussian lines with the variances of shim fields ``(n, 8)``."""
    return _fields(shim, mhz).std(1, correction=0) * math.sqrt(8 * math.log(2))


def shim_line_shapes(shim: torch.Tensor, axes: Axes) -> torch.Tensor:
    """Return the signals of shim fields ``(n, 8)`` over time, complex64 ``(n, n_points)``, one at time zero.

    The field is sampled over the voxel, and its histogram is transformed.
    """
    hz = _fields(shim, axes.spec_freq_mhz)
    most = float(hz.abs().max()) * 1.001 + 1e-6
    step = 2 * most / _FREQUENCIES
    place = (hz + most) / step
    low = place.floor().long().clamp(0, _FREQUENCIES - 1)
    part = place - low
    histogram = torch.zeros(len(shim), _FREQUENCIES + 1, device=shim.device)
    histogram.scatter_add_(1, low, 1 - part).scatter_add_(1, low + 1, part)
    time = torch.arange(axes.n_points, device=shim.device) * axes.dwelltime
    frequencies = step * torch.arange(_FREQUENCIES + 1, device=shim.device) - most
    turns = progression(0j * frequencies, 2j * torch.pi * axes.dwelltime * frequencies, axes.n_points)
    # Counts are shared between two neighbours, which is a convolution with a triangle.
    shapes = (histogram / _PLACES).to(turns.dtype) @ turns
    return shapes / torch.sinc(step * time).square().clamp(min=0.1)


# -- macromolecules ------------------------------------------------------------------------------------------------


def draw_macromolecules(spec: dict, n: int, generator: torch.Generator) -> torch.Tensor:
    """Draw the lines of measured macromolecules ``(n, n_lines, 3)``: amount, shift (ppm) and log width of each.

    ``amount`` is that of all lines in the units of concentrations, at an echo time of 35 ms; ``spread`` the SD of the
    logarithm of each line's amount about the measured proportions.
    """
    spec, size = _entries("measured_macromolecules", spec), (n, len(priors_table()["macromolecules"]["lines"]))
    present = torch.rand(n, 1, generator=generator) < spec.get("probability", 1.0)
    spread = sample(spec.get("spread", 0.0), (n, 1), generator)
    amount = sample(spec["amount"], (n, 1), generator) * present
    amount = amount * torch.exp(spread * torch.randn(size, generator=generator))
    shift, width = (sample(spec.get(name, 0.0), size, generator) for name in ("shift_ppm", "log_width"))
    return torch.stack([amount, shift, width], -1)


def macromolecule_fids(lines: torch.Tensor, axes: Axes, te_s: float) -> torch.Tensor:
    """Return the sum of macromolecule lines (see :func:`draw_macromolecules`) in units of a proton, complex64 ``(n,
    n_points)``."""
    if not len(lines):
        return torch.zeros(0, axes.n_points, dtype=torch.complex64, device=lines.device)
    ppm, area, fwhm = (column.to(lines.device) for column in _table_lines(te_s))
    amount, shift, log_width = lines.unbind(-1)
    rate = (torch.pi * fwhm * axes.spec_freq_mhz * torch.exp(log_width)) ** 2 / (4 * math.log(2))
    # Macromolecules have decayed long before the end of an acquisition.
    longest = math.sqrt(-math.log(_NEGLIGIBLE) / float(rate.min()))
    n_points = min(axes.n_points, 1 + int(longest / axes.dwelltime))
    time = torch.arange(n_points, device=lines.device) * axes.dwelltime
    angle = 2 * torch.pi * axes.ppm_to_hz(ppm + shift)[..., None] * time
    fids = torch.polar((amount * area)[..., None] * torch.exp(-rate[..., None] * time**2), angle).sum(1)
    return torch.nn.functional.pad(fids, (0, axes.n_points - n_points))


@lru_cache
def _table_lines(te_s: float) -> torch.Tensor:
    """Return place (ppm), area (protons) at an echo time, and width (ppm) of the measured lines ``(3, n_lines)``."""
    about = priors_table()["macromolecules"]
    rows = []
    for entry in about["lines"]:
        (line,) = entry["lines"]
        weight = math.exp(-(te_s - about["at_te_s"]) / entry["t2_s"])
        rows.append((line["ppm"], line["area"] * weight, line["fwhm_ppm"]))
    return torch.tensor(rows).T


# -- scalp lipid ---------------------------------------------------------------------------------------------------


def draw_scalp_lipid(spec: dict, n: int, generator: torch.Generator) -> torch.Tensor:
    """Draw lipid of the scalp ``(n, 4)``: height of its highest line, shift (ppm), Gaussian width (ppm), phase
    (rad)."""
    spec = _entries("scalp_lipid", spec)
    height = sample(spec["height"], (n,), generator) * (
        torch.rand(n, generator=generator) < spec.get("probability", 1.0)
    )
    shift, width, phase = (
        sample(spec.get(name, default), (n,), generator)
        for name, default in (("shift_ppm", 0.0), ("fwhm_ppm", 0.15), ("phase_deg", 0.0))
    )
    return torch.stack([height, shift, width, torch.deg2rad(phase)], -1)


def scalp_lipid_lines(lipid: torch.Tensor) -> torch.Tensor:
    """Return the lines of lipid (see :func:`draw_scalp_lipid`) ``(n, n_lines, 5)``, as
    :func:`fsl_mrs_dl.simulation.random_spectra.sample_lines` draws them: the proportions are those of triglycerides,
    shift and phase common to all lines."""
    height, shift, width, phase = lipid.unbind(-1)
    ppm, share, _ = torch.tensor(LIPID_LINES, device=lipid.device).T
    zero = torch.zeros(len(lipid), len(ppm), device=lipid.device)
    columns = [height[:, None] * share, ppm + shift[:, None], zero, zero - width[:, None], zero + phase[:, None]]
    return torch.stack(columns, -1)


# -- echoes --------------------------------------------------------------------------------------------------------


def draw_echoes(spec: dict, n: int, generator: torch.Generator) -> torch.Tensor:
    """Draw an echo of signal outside the voxel for every spectrum ``(n, 5)``: height of its spectrum, place (ppm), time
    of its centre and its duration (s, SD of a Gaussian envelope), phase (rad)."""
    spec = _entries("echoes", spec)
    height = sample(spec["height"], (n,), generator) * (
        torch.rand(n, generator=generator) < spec.get("probability", 1.0)
    )
    ppm, time, duration = (sample(spec[name], (n,), generator) for name in ("ppm", "time_ms", "duration_ms"))
    phase = torch.deg2rad(sample(spec.get("phase_deg", 0.0), (n,), generator))
    return torch.stack([height, ppm, time * 1e-3, duration * 1e-3, phase], -1)


def echo_fids(echoes: torch.Tensor, axes: Axes) -> torch.Tensor:
    """Return echoes (see :func:`draw_echoes`) of heights relative to 1, complex64 ``(n, n_points)``."""
    (row,) = echoes[:, 0].nonzero(as_tuple=True)
    height, ppm, centre, duration, phase = echoes[row].unbind(-1)
    time = torch.arange(axes.n_points, device=echoes.device) * axes.dwelltime
    envelope = torch.exp(-0.5 * ((time - centre[:, None]) / duration[:, None]) ** 2)
    size = height * math.sqrt(axes.n_points) / envelope.sum(-1).clamp(min=1e-6)
    angle = 2 * torch.pi * axes.ppm_to_hz(ppm)[:, None] * (time - centre[:, None]) + phase[:, None]
    fids = torch.zeros(len(echoes), axes.n_points, dtype=torch.complex64, device=echoes.device)
    fids[row] = torch.polar(size[:, None] * envelope, angle)
    return fids
