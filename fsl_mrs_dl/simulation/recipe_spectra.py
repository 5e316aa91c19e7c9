"""Independent spectra of a recipe with their truth, as data that every command reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from ..core.axes import Axes
from ..core.errors import OptionError
from ..io.basis import Basis
from .acquisition import SimulatedSvs, simulated_data
from .protocols import protocol_of
from .random_spectra import draw, render
from .recipes import Recipe

__all__ = ["simulate_spectra"]

_USUAL_TE_S = 0.03  # as of simulated basis sets


def simulate_spectra(
    basis: Basis, recipe: str | Path = "in-vivo", n: int = 64, *, seed: int = 0, te_ms: float | None = None
) -> SimulatedSvs:
    """Simulate independent spectra, each with concentrations, line shape and imperfections of its own.

    Parameters
    ----------
    basis : Basis
    recipe : str or path
        Ranges of the spectra, see :class:`fsl_mrs_dl.simulation.recipes.Recipe`.
    n, seed : int
    te_ms : float, optional
        Echo time that measured macromolecules are weighted for, written into the header; by default that of the basis
        set, or 30 ms.

    Raises
    ------
    OptionError
        No spectra, or a recipe that cannot be drawn from.
    """
    if n < 1:
        raise OptionError("must be at least 1", option="spectra", value=str(n))
    if basis.nucleus != "1H":
        raise OptionError(f"{basis.source}: is for {basis.nucleus}; recipes are 1H, give a basis set of protons.")
    content = Recipe.load(recipe)
    if "augment" in content.content:
        raise OptionError("varies measured data", option="recipe", value=recipe, remedy="choose one of spectra")
    axes = Axes(basis.n_points, basis.dwelltime, basis.spec_freq_mhz)
    of_basis = _USUAL_TE_S if basis.echo_time_s is None else basis.echo_time_s
    te_s = of_basis if te_ms is None else 1e-3 * te_ms
    protocol = protocol_of(basis.fids, basis.names, axes, str(basis.source), te_s=te_s)
    drawn = draw(content, n, basis.names, torch.Generator().manual_seed(seed))
    rendered = render(drawn, protocol)
    data = simulated_data(rendered.fid.numpy(), basis, "DIM_USER_0", 1e3 * te_s)
    shift_ppm = drawn["shift_ppm"] + drawn["shift_hz"] / basis.spec_freq_mhz
    truth = {
        "recipe": content.name,
        "seed": seed,
        "concentrations": {
            name: np.round(column.astype(float), 6).tolist()
            for name, column in zip(basis.names, drawn["conc"].numpy().T)
        },
        "shift_ppm": np.round(shift_ppm.numpy().astype(float), 6).tolist(),
        "phase_deg": np.round(np.rad2deg(drawn["phi0"].numpy().astype(float)), 4).tolist(),
        "snr": np.round(drawn["snr"].numpy().astype(float), 3).tolist(),
        "noise_sd": rendered.noise_sd.numpy().astype(float).tolist(),
    }
    return SimulatedSvs(data, truth)
