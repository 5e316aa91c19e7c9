"""Augmentation of measured spectra and transients."""

from __future__ import annotations

import torch

from ..core import units
from ..core.axes import Axes
from ..core.errors import OptionError
from ..simulation import random_spectra, recipes

__all__ = ["augment"]


def augment(
    fids: torch.Tensor,
    recipe: recipes.Recipe,
    axes: Axes,
    n: int,
    generator: torch.Generator,
    chosen: torch.Tensor | None = None,
) -> dict[str, torch.Tensor]:
    """Return random variations of measured transients, as of section 2.2 of doi 10.1002/mrm.29498.

    Parameters
    ----------
    fids : complex ``(n_fids, n_points)``
    recipe : Recipe
        Its ``augment`` holds ranges: ``shift_hz``, ``phase_deg``, ``apodise_fwhm_hz``, ``amplitude``, ``snr`` (largest
        magnitude of the FID over the SD of the added noise), and lines under ``nuisance`` of heights relative to the
        spectrum's.
    axes : Axes
        Of the FIDs.
    n : int
    generator : torch.Generator
    chosen : int tensor ``(n,)``, optional
        Indices of the FIDs that are varied; random ones by default.

    Returns
    -------
    dict
        ``fid`` ``(n, n_points)`` and the variations: ``shift_hz``, ``phase`` (rad) ``(n,)``, and ``nuisance`` bool
        ``(n, n_lines)``, whether a line was added; only tests and benchmarks use these.

    Raises
    ------
    OptionError
        If the recipe has no entry 'augment'.
    """
    spec = recipe.get("augment")
    if spec is None:
        raise OptionError(
            "says nothing about augmentation; it needs an entry 'augment'", option="recipe", value=recipe.name
        )
    if chosen is None:
        chosen = torch.randint(len(fids), (n,), generator=generator)
    fid = fids[chosen]

    def draw(key, default):
        return recipes.sample(spec.get(key, default), (n,), generator)

    shift, phase = draw("shift_hz", 0.0), draw("phase_deg", 0.0) * (torch.pi / 180)
    width = draw("apodise_fwhm_hz", 0.0).clamp(min=0)
    amplitude, snr = draw("amplitude", 1.0).clamp(min=0.05), draw("snr", 1e9)
    fid = amplitude[:, None] * fid
    n_points = fid.shape[-1]
    nuisance = torch.zeros(n, 0, dtype=torch.bool)
    if spec.get("nuisance"):
        lines = random_spectra.sample_lines(spec["nuisance"], n, generator)
        nuisance = lines[..., 0] > 0
        height = units.fid_to_spec(fid).abs().amax(-1)
        fid = fid + height[:, None] * random_spectra.line_fids(lines, axes.with_points(n_points))
    time = torch.arange(n_points) * axes.dwelltime
    angle = 2 * torch.pi * shift[:, None] * time + phase[:, None]
    fid = fid * torch.polar(torch.exp(-torch.pi * width[:, None] * time), angle)
    noise_sd = fid.abs().amax(-1, keepdim=True) / snr[:, None]
    noise = torch.view_as_complex(torch.randn(n, n_points, 2, generator=generator))
    return {
        "fid": (fid + noise_sd * noise).to(torch.complex64),
        "shift_hz": shift,
        "phase": phase,
        "nuisance": nuisance,
    }
