"""Training of the networks for any basis set and protocol: quant-universal and align-universal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from ..core.axes import Axes
from ..core.errors import OptionError
from ..networks import encoders, model_cards, universal
from ..simulation import protocols as protocols_module
from ..simulation import recipes
from . import universal_tasks
from .batches import BatchStream
from .cards import recipe_entry, rounded
from .checkpoints import fingerprint
from .settings import Settings
from .trainer import Training, seed_weights

__all__ = ["TASKS", "Task", "UniversalTraining"]


@dataclass(frozen=True)
class Task:
    """What distinguishes the trainings of the universal networks.

    Attributes
    ----------
    network : type
    recipe : str
        Name of the default recipe.
    batch : callable
        ``batch(recipe, protocol, n, generator)`` returns a batch.
    loss : callable
        ``loss(network, batch)`` returns a dictionary of terms with ``total``.
    accuracy : callable
        ``accuracy(network, batch)`` returns the figures of the model card.
    what : str
        Description on the model card.
    ranges : dict
        Ranges on the model card, with the default recipe.
    """

    network: type
    recipe: str
    batch: Callable
    loss: Callable
    accuracy: Callable
    what: str
    ranges: dict = field(default_factory=dict)


_HELD_PROTOCOLS, _MEASURED_BATCHES = 32, 32  # that the accuracy of a card is measured on
_BRAIN_1H = {"nucleus": ["1H"], "spec_freq_mhz": [60.0, 410.0]}

TASKS = {
    "quant-universal": Task(
        universal.QuantUniversal,
        "universal",
        universal_tasks.quant_batch,
        universal_tasks.quant_loss,
        universal_tasks.quant_accuracy,
        "Proposes where a fit starts: shift, phases and widths of a brain spectrum, whatever the basis set.",
        # Shift: the network's own range, less the width of its last steps.
        _BRAIN_1H
        | {
            "snr": [3.0, 200.0],
            "shift_ppm": [-0.3, 0.3],
            "ppm_low": [-10.0, 0.6],
            "ppm_high": [3.9, 20.0],
            "acquired_s_mhz": [26.0, 1e9],
        },
    ),
    "align-universal": Task(
        universal.AlignUniversal,
        "universal-transients",
        universal_tasks.align_batch,
        universal_tasks.align_loss,
        universal_tasks.align_accuracy,
        "Proposes shift and phase of a transient against its reference, whatever the protocol.",
        _BRAIN_1H | {"snr": [1.5, 60.0], "shift_ppm": [-0.45, 0.45], "acquired_s_mhz": [26.0, 1e9]},
    ),
}
"""The trainings by the names of their architectures."""


class UniversalTraining(Training):
    """Training of a universal network on simulated spectra or transients.

    Held-back batches have other seeds and, where protocols are random, other protocols.

    Parameters
    ----------
    task : str
        One of :data:`TASKS`.
    settings : Settings, optional
    recipe : str or path, optional
        Ranges of the simulated data; the task's own by default.
    basis : Basis, optional
        Train for this basis set only.
    network_settings : dict, optional
        Arguments of the network.
    start_from : str or path, optional
        Model of the same kind whose weights the training begins with, by name or folder; its network's arguments
        replace ``network_settings``.

    Raises
    ------
    OptionError
        Unknown task or recipe, a recipe without protocols and no basis set, or a model of another kind to start from.
    """

    def __init__(
        self,
        task: str,
        *,
        settings: Settings | None = None,
        recipe: str | Path | None = None,
        basis=None,
        network_settings: dict | None = None,
        start_from: str | Path | None = None,
    ):
        if task not in TASKS:
            raise OptionError(f"'{task}' cannot be trained; there are {', '.join(TASKS)}.")
        self.task, self.settings, self.basis = TASKS[task], settings or Settings(), basis
        self.recipe = recipes.Recipe.load(recipe or self.task.recipe)
        self.network_settings = network_settings or {}
        self.start_card = None if start_from is None else model_cards.read_card(start_from)
        if self.start_card is not None and self.start_card.kind != task:
            raise OptionError(
                f"is a {self.start_card.kind}",
                option="start_from",
                value=start_from,
                remedy=f"give a model of the kind {task}",
            )

    def network(self, seed: int | None = None):
        seed_weights(self.settings.seed if seed is None else seed)
        if self.start_card is not None:
            return model_cards.load(self.start_card.folder)[0].requires_grad_(True).train()
        return self.task.network(**self.network_settings)

    def prepare(self, network) -> None:
        self._protocols = _protocols(self.recipe, self.settings, self.basis)
        others = replace(self.settings, seed=self.settings.seed + 1, n_protocols=_HELD_PROTOCOLS)
        self._held_protocols = self._protocols if self.basis is not None else _protocols(self.recipe, others)

    def batch(self, generator) -> dict[str, torch.Tensor]:
        return self._simulate(self.recipe, self._protocols, generator)

    def held_back(self, generator) -> dict[str, torch.Tensor]:
        return self._simulate(self.recipe, self._held_protocols, generator)

    def _simulate(self, recipe, protocols, generator) -> dict[str, torch.Tensor]:
        """Return a batch on one of the protocols."""
        protocol = protocols[int(torch.randint(len(protocols), (1,), generator=generator))]
        return self.task.batch(recipe, protocol, self.settings.batch_size, generator)

    def loss(self, network, batch) -> dict[str, torch.Tensor]:
        return self.task.loss(network, batch)

    def start(self) -> dict:
        return {
            "recipe": self.recipe.content,
            "basis": None if self.basis is None else fingerprint(self.basis.fids),
            "start_from": None if self.start_card is None else self.start_card["sha256"],
        }

    def card(self, network) -> dict:
        what, basis = self.task.what, self.basis
        begun = {} if self.start_card is None else {"start_from": self.start_card.name}
        if basis is not None:
            for general in ("whatever the basis set", "whatever the protocol"):
                what = what.replace(general, "for one basis set")
        return {
            "what": what,
            "architecture": {"flops": self._flops(network)},
            "training": {
                "recipe": recipe_entry(self.recipe),
                "basis": f"{self.settings.n_protocols} simulated protocols" if basis is None else str(basis.source),
                **begun,
            },
            "ranges": self._ranges(),
            "accuracy": self._accuracy(network),
        }

    def _ranges(self) -> dict:
        """Return the card's ranges: the task's, those of another recipe, and the frequency of a basis set."""
        ranges = dict(self.task.ranges)
        if self.basis is not None:
            ranges["spec_freq_mhz"] = [self.basis.spec_freq_mhz * 0.98, self.basis.spec_freq_mhz * 1.02]
        if self.recipe.name != self.task.recipe:
            for key in ("snr", "shift_ppm"):
                drawn = self.recipe.get(key)
                if isinstance(drawn, dict) and {"uniform", "loguniform"} & set(drawn):
                    ((low, high),) = drawn.values()
                    ranges[key] = [low, high]
            frequency = (self.recipe.get("protocols") or {}).get("spec_freq_mhz")
            if self.basis is None and isinstance(frequency, dict):
                ((low, high),) = frequency.values()
                ranges["spec_freq_mhz"] = [low * 0.98, high * 1.02]
        return ranges

    def _flops(self, network) -> int:
        """Return the operations for one spectrum or transient."""
        batch = self.task.batch(self.recipe, self._protocols[0], 8, torch.Generator().manual_seed(0))
        inputs = [batch[name] for name in ("spec", "transient", "reference", "spec_freq_mhz") if name in batch]
        return encoders.count_flops(network, *inputs) // len(inputs[0])

    def _accuracy(self, network) -> dict:
        """Return the accuracy on held-back protocols: inside the recipe's ranges, at the lowest SNR and at half of it,
        and at twice the shifts."""
        recipe = self.recipe
        cells: dict[str, dict] = {"inside": {}}
        if isinstance(recipe.get("snr"), dict):
            low = min(next(iter(recipe.get("snr").values())))
            cells[f"at SNR {low:g}"] = {"snr": low}
            cells[f"outside, at SNR {low / 2:g}"] = {"snr": low / 2}
        if isinstance(recipe.get("shift_ppm"), dict) and "transients" not in recipe.content:
            ((kind, (a, b)),) = recipe.get("shift_ppm").items()
            cells[f"outside, shifts {kind} {2 * a:g} to {2 * b:g} ppm"] = {"shift_ppm": {kind: [2 * a, 2 * b]}}
        accuracy = {}
        with torch.no_grad():
            for label, change in cells.items():
                changed = recipes.Recipe.of(recipe.name, recipe.content | change)
                stream = BatchStream(
                    lambda generator, changed=changed: self._simulate(changed, self._held_protocols, generator),
                    self.settings.seed + 2_000_000,
                    lambda: 0,
                    _MEASURED_BATCHES,
                )
                figures = [self.task.accuracy(network, batch) for batch in stream]
                accuracy[label] = {name: rounded(sum(f[name] for f in figures) / len(figures)) for name in figures[0]}
        return accuracy


def _protocols(recipe: recipes.Recipe, settings: Settings, basis=None) -> list[protocols_module.Protocol]:
    """Return the protocols of a training: that of a basis set, or random ones within the recipe's ranges.

    Raises
    ------
    OptionError
        If the recipe names no ranges of protocols and there is no basis set.
    """
    if basis is not None:
        axes = Axes(1024, 1 / (9.6 * basis.spec_freq_mhz), basis.spec_freq_mhz)
        fids = basis.resampled(axes.dwelltime, axes.n_points)
        return [protocols_module.protocol_of(fids, basis.names, axes, str(basis.source))]
    if recipe.get("protocols") is None:
        raise OptionError(
            "says nothing about protocols",
            option="recipe",
            value=recipe.name,
            remedy="give the basis set to train on with `basis`",
        )
    return protocols_module.random_protocols(recipe.get("protocols"), settings.n_protocols, settings.seed)
