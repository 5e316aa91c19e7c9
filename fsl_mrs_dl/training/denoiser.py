"""Training of the denoiser."""

from __future__ import annotations

from pathlib import Path

import torch

from ..core.axes import Axes
from ..networks import denoiser, encoders
from ..simulation import protocols as protocols_module
from ..simulation import random_spectra, recipes
from .batches import seeded
from .cards import protocol_ranges, recipe_entry, rounded
from .checkpoints import fingerprint
from .settings import Settings
from .trainer import Training, seed_weights

__all__ = ["DenoiserTraining"]


class DenoiserTraining(Training):
    """Training of a :class:`fsl_mrs_dl.networks.denoiser.Denoiser` on simulated spectra of a basis set.

    The target is the spectrum without noise.

    Parameters
    ----------
    basis : Basis
    dwelltime : float, optional
        Of the data in seconds; the basis set's by default.
    n_points : int
        Of the data.
    network_settings : dict, optional
        ``channels``, ``kernel``, ``layers``, ``ppmlim`` of the network.
    settings : Settings, optional
    recipe : str or path, optional
        Of the simulated spectra; 'normal-brain' by default.

    Raises
    ------
    BasisError, OptionError
    """

    def __init__(
        self,
        basis,
        *,
        dwelltime: float | None = None,
        n_points: int = 1024,
        network_settings: dict | None = None,
        settings: Settings | None = None,
        recipe: str | Path | None = None,
    ):
        self.settings, self.basis, self.network_settings = settings or Settings(), basis, network_settings or {}
        self.recipe = recipes.Recipe.load(recipe or "normal-brain")
        self.axes = Axes(n_points, dwelltime or basis.dwelltime, basis.spec_freq_mhz)

    def network(self, seed: int | None = None) -> denoiser.Denoiser:
        seed_weights(self.settings.seed if seed is None else seed)
        axes = self.axes
        return denoiser.Denoiser(axes.dwelltime, axes.spec_freq_mhz, axes.n_points, **self.network_settings)

    def prepare(self, network) -> None:
        fids = self.basis.resampled(self.axes.dwelltime, self.axes.n_points)
        self._protocol = protocols_module.protocol_of(fids, self.basis.names, self.axes)

    def batch(self, generator) -> dict[str, torch.Tensor]:
        return self._simulate(self.recipe, generator)

    def _simulate(self, recipe, generator) -> dict[str, torch.Tensor]:
        drawn = random_spectra.draw(recipe, self.settings.batch_size, self._protocol.names, generator)
        spectra = random_spectra.render(drawn, self._protocol)
        return {"fid": spectra.fid, "clean": spectra.metabolites + spectra.nuisance}

    def loss(self, network, batch) -> dict[str, torch.Tensor]:
        return {"total": network.loss(batch["fid"], batch["clean"])}

    def start(self) -> dict:
        return {"recipe": self.recipe.content, "basis": fingerprint(self.basis.fids)}

    def card(self, network) -> dict:
        low, high = network.ppmlim
        one = torch.zeros(1, self.axes.n_points, dtype=torch.complex64)
        return {
            "what": (
                "Takes noise out of spectra of one protocol; what it gives is for display, not for quantification."
            ),
            "architecture": {"flops": encoders.count_flops(network, one)},
            "training": {
                "recipe": recipe_entry(self.recipe),
                "basis": f"simulated spectra on {self.basis.source}, {low:g} to {high:g} ppm",
            },
            "ranges": protocol_ranges(self.axes),
            "accuracy": self._accuracy(network),
        }

    def _accuracy(self, network) -> dict:
        """Return the RMS error in the window as a part of the noise's, at four SNRs."""
        accuracy = {}
        with torch.no_grad():
            for snr in (5, 10, 20, 40):
                recipe = recipes.Recipe.of(self.recipe.name, self.recipe.content | {"snr": snr})
                batches = [self._simulate(recipe, seeded(self.settings.seed, 3_000_000 + k)) for k in range(8)]
                noise = sum(float(network.window_energy(batch["fid"] - batch["clean"])) for batch in batches)
                error = sum(float(network.window_energy(network(batch["fid"]) - batch["clean"])) for batch in batches)
                accuracy[f"at SNR {snr}"] = {"error left, % of the noise": rounded(100 * (error / noise) ** 0.5)}
        return accuracy
