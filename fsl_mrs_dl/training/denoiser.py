"""Training of the denoiser."""

from __future__ import annotations

from pathlib import Path

import lightning
import torch

from ..core.axes import Axes
from ..networks import denoiser, encoders, model_cards
from ..simulation import protocols as protocols_module
from ..simulation import random_spectra, recipes
from .loop import _check_folder, _fingerprint, _run
from .settings import Settings

__all__ = ["train_denoiser"]


def train_denoiser(
    basis,
    output: str | Path,
    *,
    dwelltime: float | None = None,
    n_points: int = 1024,
    network_settings: dict | None = None,
    settings: Settings | None = None,
    recipe: str | Path | None = None,
    name: str | None = None,
    resume: bool = False,
    command: str = "",
) -> model_cards.Card:
    """Train a :class:`fsl_mrs_dl.networks.denoiser.Denoiser` on simulated spectra of a basis set, whose noise-free form
    is the target.

    Parameters
    ----------
    basis : Basis
    output, settings, name, resume, command
        As for :func:`train`.
    dwelltime : float, optional
        Of the data in seconds; the basis set's by default.
    n_points : int
        Of the data.
    network_settings : dict, optional
        ``channels``, ``kernel``, ``layers``, ``ppmlim`` of the network.
    recipe : str or path, optional
        Of the simulated spectra; 'normal-brain' by default.

    Raises
    ------
    BasisError, OptionError, OutputError
    """
    settings = settings or Settings()
    drawn_from = recipes.Recipe.load(recipe or "normal-brain")
    _check_folder(Path(output), resume)
    dwelltime, frequency = dwelltime or basis.dwelltime, basis.spec_freq_mhz
    lightning.seed_everything(settings.seed, verbose=False)
    network = denoiser.Denoiser(dwelltime, frequency, n_points, **(network_settings or {}))
    axes = Axes(n_points, dwelltime, frequency)
    protocol = protocols_module.protocol_of(basis.resampled(dwelltime, n_points), basis.names, axes)
    low, high = network.ppmlim

    def make(generator, recipe=drawn_from):
        made = random_spectra.render(
            random_spectra.draw(recipe, settings.batch_size, protocol.names, generator), protocol
        )
        return {"fid": made.fid, "clean": made.metabolites + made.nuisance}

    def accuracy(network):
        found = {}
        with torch.no_grad():
            for snr in (5, 10, 20, 40):
                one = recipes.Recipe.of(drawn_from.name, drawn_from.content | {"snr": snr})
                batches = [
                    make(torch.Generator().manual_seed(settings.seed * 1_000_003 + 3_000_000 + k), one)
                    for k in range(8)
                ]
                noise = sum(float(network.window_energy(batch["fid"] - batch["clean"])) for batch in batches)
                left = sum(float(network.window_energy(network(batch["fid"]) - batch["clean"])) for batch in batches)
                found[f"at SNR {snr}"] = {"error left, % of the noise": float(f"{100 * (left / noise) ** 0.5:.4g}")}
        return found

    return _run(
        network,
        output,
        settings,
        begun={"recipe": drawn_from.content, "basis": _fingerprint(basis.fids)},
        train_make=make,
        held_make=make,
        loss=lambda network, batch: {"total": network.loss(batch["fid"], batch["clean"])},
        resume=resume,
        card=lambda network: {
            "name": name or Path(output).name,
            "what": (
                "Takes noise out of spectra of one protocol; what it gives is to be looked at, not to be quantified."
            ),
            "architecture": {"flops": encoders.count_flops(network, torch.zeros(1, n_points, dtype=torch.complex64))},
            "training": {
                "command": command,
                "recipe": {"name": drawn_from.name, **drawn_from.content},
                "basis": f"simulated spectra on {basis.source}, {low:g} to {high:g} ppm",
            },
            "ranges": {
                "nucleus": ["1H"],
                "spec_freq_mhz": [frequency * 0.995, frequency * 1.005],
                "dwelltime": [dwelltime * 0.999, dwelltime * 1.001],
            },
            "accuracy": accuracy(network),
        },
    )
