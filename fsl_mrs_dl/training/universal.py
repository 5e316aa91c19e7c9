"""Training of the networks that serve any basis: quant-universal and align-universal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import lightning
import torch

from ..core.axes import Axes
from ..core.errors import OptionError
from ..networks import encoders, model_cards, universal
from ..simulation import protocols as protocols_module
from ..simulation import recipes
from .batches import _Stream
from .loop import _check_folder, _fingerprint, _run
from .settings import Settings

__all__ = ["Task", "TASKS", "train"]


@dataclass(frozen=True)
class Task:
    """What is trained and on what.

    ``batch(recipe, protocol, n, generator)`` makes a batch; ``loss(network, batch)`` gives a dictionary of terms with
    ``total``, ``accuracy(network, batch)`` what the card says of it; ``ranges`` of the card are taken from the recipe
    where ``ranges(recipe)`` says so.
    """

    network: type
    recipe: str
    batch: Callable
    loss: Callable
    accuracy: Callable
    what: str
    ranges: dict = field(default_factory=dict)


_BRAIN_1H = {"nucleus": ["1H"], "spec_freq_mhz": [60.0, 410.0]}


TASKS = {
    "quant-universal": Task(
        universal.QuantUniversal,
        "universal",
        universal.quant_batch,
        universal.quant_loss,
        universal.quant_accuracy,
        "Proposes where a fit starts: shift, phases and widths of a brain spectrum, whatever the basis set.",
        # Shift: what the network can say, less the width of its last steps.
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
        universal.align_batch,
        universal.align_loss,
        universal.align_accuracy,
        "Proposes shift and phase of a transient against its reference, whatever the protocol.",
        _BRAIN_1H | {"snr": [1.5, 60.0], "shift_ppm": [-0.45, 0.45], "acquired_s_mhz": [26.0, 1e9]},
    ),
}


"""What can be trained, by the name of its architecture."""


def _simulated(task: Task, recipe, protocols, n: int) -> Callable:
    """Makes batches of ``n`` on one of the protocols each."""

    def make(generator):
        protocol = protocols[int(torch.randint(len(protocols), (1,), generator=generator))]
        return task.batch(recipe, protocol, n, generator)

    return make


def protocols_for(recipe, settings: Settings, basis=None) -> list:
    """The protocols of a training: those of a basis set of the user's, or random ones as the recipe says.

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
            f"--recipe {recipe.name}: says nothing about protocols; give the basis set to train on with --basis."
        )
    return protocols_module.random_protocols(recipe.get("protocols"), settings.n_protocols, settings.seed)


def train(
    task_name: str,
    output: str | Path,
    *,
    settings: Settings | None = None,
    recipe: str | Path | None = None,
    basis=None,
    network_settings: dict | None = None,
    name: str | None = None,
    resume: bool = False,
    command: str = "",
) -> model_cards.Card:
    """Train a network and write it as a model.

    Parameters
    ----------
    task_name : str
        One of :data:`TASKS`.
    output : path
        Folder of the model; ``checkpoints/`` and ``logs/`` are kept in it.
    settings : Settings, optional
    recipe : str or path, optional
        Ranges of the simulated data; the task's own by default.
    basis : Basis, optional
        Train for this basis set only.
    network_settings : dict, optional
        Arguments of the network.
    name : str, optional
        Of the model; the folder's name by default.
    resume : bool
        Go on from the folder's last checkpoint.
    command : str
        What the card says the training was started with.

    Raises
    ------
    OptionError, OutputError
        Unknown task or recipe; a folder that holds something else, or nothing to go on from.
    """
    if task_name not in TASKS:
        raise OptionError(f"'{task_name}' cannot be trained; there are {', '.join(TASKS)}.")
    task, settings = TASKS[task_name], settings or Settings()
    drawn_from = recipes.Recipe.load(recipe or task.recipe)
    _check_folder(Path(output), resume)
    network_settings = network_settings or {}
    lightning.seed_everything(settings.seed, verbose=False)
    network = task.network(**network_settings)
    protocols = protocols_for(drawn_from, settings, basis)
    # Validation: other seeds and, where protocols are drawn, other protocols.
    others = replace(settings, seed=settings.seed + 1, n_protocols=32)
    held_back = protocols if basis is not None else protocols_for(drawn_from, others)
    n = settings.batch_size
    ranges, what = dict(task.ranges), task.what
    if basis is not None:
        ranges["spec_freq_mhz"] = [basis.spec_freq_mhz * 0.98, basis.spec_freq_mhz * 1.02]
        what = what.replace("whatever the basis set", "for one basis set").replace(
            "whatever the protocol", "for one basis set"
        )
    if drawn_from.name != task.recipe:
        for key in ("snr", "shift_ppm"):
            drawn = drawn_from.get(key)
            if isinstance(drawn, dict) and {"uniform", "loguniform"} & set(drawn):
                ((low, high),) = drawn.values()
                ranges[key] = [low, high]
    return _run(
        network,
        output,
        settings,
        begun={"recipe": drawn_from.content, "basis": None if basis is None else _fingerprint(basis.fids)},
        train_make=_simulated(task, drawn_from, protocols, n),
        held_make=_simulated(task, drawn_from, held_back, n),
        loss=task.loss,
        resume=resume,
        card=lambda network: {
            "name": name or Path(output).name,
            "what": what,
            "architecture": {"flops": _flops(network, task, drawn_from, protocols[0])},
            "training": {
                "command": command,
                "recipe": {"name": drawn_from.name, **drawn_from.content},
                "basis": str(basis.source) if basis is not None else f"{settings.n_protocols} simulated protocols",
            },
            "ranges": ranges,
            "accuracy": _measure(network, task, drawn_from, held_back, settings),
        },
    )


def _flops(network, task: Task, recipe, protocol) -> int:
    """Operations for one spectrum or transient."""
    batch = task.batch(recipe, protocol, 8, torch.Generator().manual_seed(0))
    inputs = [batch[name] for name in ("spec", "transient", "reference", "spec_freq_mhz") if name in batch]
    return encoders.count_flops(network, *inputs) // len(inputs[0])


def _measure(network, task: Task, recipe, protocols, settings: Settings, n_batches: int = 32) -> dict:
    """Accuracy on held-back protocols inside the recipe's ranges, at their lowest SNR and below, and at twice the
    shifts."""
    cells = {"inside": {}}
    if isinstance(recipe.get("snr"), dict):
        low = min(next(iter(recipe.get("snr").values())))
        cells[f"at SNR {low:g}"] = {"snr": low}
        cells[f"outside, at SNR {low / 2:g}"] = {"snr": low / 2}
    if isinstance(recipe.get("shift_ppm"), dict) and "transients" not in recipe.content:
        ((kind, (a, b)),) = recipe.get("shift_ppm").items()
        cells[f"outside, shifts {kind} {2 * a:g} to {2 * b:g} ppm"] = {"shift_ppm": {kind: [2 * a, 2 * b]}}
    measured = {}
    with torch.no_grad():
        for label, change in cells.items():
            one = recipes.Recipe.of(recipe.name, recipe.content | change)
            stream = _Stream(
                _simulated(task, one, protocols, settings.batch_size), settings.seed + 2_000_000, lambda: 0, n_batches
            )
            figures = [task.accuracy(network, batch) for batch in stream]
            measured[label] = {
                name: float(f"{sum(f[name] for f in figures) / len(figures):.4g}") for name in figures[0]
            }
    return measured
