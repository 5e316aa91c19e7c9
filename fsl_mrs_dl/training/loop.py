"""Training of this package's networks with Lightning, on simulated data or on measured ones; the only module that imports it.

A training is a :class:`Task` (how batches come about and what the loss is), a network and a folder.  The folder holds checkpoints
and logs while it runs, and the finished model as :mod:`fsl_mrs_dl.networks.model_cards` reads it.  Every batch has a seed of its own, counted from the
training's, so that a run that was interrupted goes on exactly where it stopped, and the same seed gives the same network on a CPU.
"""

from __future__ import annotations

import hashlib
import json
import logging
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from ..core import units
from ..core.errors import DataError, OptionError, OutputError
from ..fitting import out_of_distribution, priors
from ..networks import (
    denoiser,
    encoders,
    frequency_then_phase,
    model_cards,
    self_supervised_quantification,
    self_supervised_registration,
    supervised_quantification,
    universal,
)
from ..physics.macromolecules import add_macromolecules, in_lines
from ..registration import solver
from ..simulation import random_spectra

try:
    import lightning
    from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
    from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
except ImportError as exc:
    raise OptionError(
        f"training needs Lightning, which cannot be loaded ({exc}); install it with: pip install 'fsl_mrs_dl[train]'"
    ) from exc

# What Lightning says of itself (devices it looked for, services it knows) is not what a user trains for.
for _name in ("lightning.pytorch", "lightning.fabric"):
    logging.getLogger(_name).setLevel(logging.WARNING)

__all__ = [
    "Task",
    "Settings",
    "TASKS",
    "train",
    "train_registration",
    "train_supervised",
    "train_quantifier",
    "train_regressor",
    "train_denoiser",
    "search",
]


@dataclass(frozen=True)
class Task:
    """What is trained and on what.

    ``batch(recipe, protocol, n, generator)`` makes a batch; ``loss(network, batch)`` gives a dictionary of terms with ``total``,
    ``accuracy(network, batch)`` what the card says of it;
    ``ranges`` of the card are taken from the recipe where ``ranges(recipe)`` says so.
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


@dataclass(frozen=True)
class Settings:
    """How a training goes; see ``fsl_mrs_dl train --help``."""

    steps: int = 12000
    batch_size: int = 128
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    max_minutes: float | None = None
    patience: int = 0
    reduce_on_plateau: bool = False
    validate_every: int = 500
    validation_batches: int = 16
    n_protocols: int = 256
    seed: int = 0
    device: str = "auto"
    tensorboard: bool = False
    progress: bool = True


class _Stream(torch.utils.data.IterableDataset):
    """Batches ``first(), first() + 1, ...``, each from a generator of its own; ``make(generator)`` makes one."""

    def __init__(self, make: Callable, seed: int, first: Callable[[], int], n: int | None = None):
        self.make, self.seed, self.first, self.n = make, seed, first, n

    def __iter__(self):
        index = self.first()
        last = None if self.n is None else index + self.n
        while last is None or index < last:
            yield self.make(torch.Generator().manual_seed(self.seed * 1_000_003 + index))
            index += 1


def _simulated(task: Task, recipe, protocols, n: int) -> Callable:
    """Makes batches of ``n`` on one of the protocols each."""

    def make(generator):
        protocol = protocols[int(torch.randint(len(protocols), (1,), generator=generator))]
        return task.batch(recipe, protocol, n, generator)

    return make


class _Module(lightning.LightningModule):
    """The network with its optimiser: AdamW; the rate warms up and follows a cosine to the end, or is cut where the loss stalls."""

    def __init__(self, network, loss: Callable, settings: Settings):
        super().__init__()
        self.network, self.loss, self.settings = network, loss, settings
        self.before, self.begun = 0.0, time.monotonic()

    @property
    def minutes(self) -> float:
        """Minutes this training took so far, before an interruption, too."""
        return self.before + (time.monotonic() - self.begun) / 60

    def on_save_checkpoint(self, checkpoint) -> None:
        checkpoint["fsl_mrs_dl_minutes"] = self.minutes

    def on_load_checkpoint(self, checkpoint) -> None:
        self.before = checkpoint.get("fsl_mrs_dl_minutes", 0.0)

    def training_step(self, batch, index):
        terms = self.loss(self.network, batch)
        self.log_dict({f"train_{name}": value.detach() for name, value in terms.items()}, batch_size=1)
        return terms["total"]

    def validation_step(self, batch, index):
        terms = self.loss(self.network, batch)
        self.log_dict({f"val_{name}": value.detach() for name, value in terms.items()}, batch_size=1, prog_bar=True)

    def _part(self, step: int) -> float:
        """How far the training has come, by steps or by the clock, 0 to 1."""
        done = step / self.settings.steps
        if self.settings.max_minutes:
            done = max(done, self.minutes / self.settings.max_minutes)
        return min(done, 1.0)

    def configure_optimizers(self):
        optimiser = torch.optim.AdamW(
            self.network.parameters(), lr=self.settings.learning_rate, weight_decay=self.settings.weight_decay
        )
        if self.settings.reduce_on_plateau:
            plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
                optimiser, factor=0.1, patience=max(2, self.settings.patience // 3)
            )
            every = self.settings.validate_every
            return {
                "optimizer": optimiser,
                "lr_scheduler": {
                    "scheduler": plateau,
                    "monitor": "val_total",
                    "interval": "step",
                    "frequency": every,
                    "strict": False,
                },
            }

        def rate(step: int) -> float:
            cosine = 0.5 * (1 + torch.cos(torch.tensor(self._part(step) * torch.pi)).item())
            return min((step + 1) / 200, 1.0) * max(cosine, 1e-3)

        return {
            "optimizer": optimiser,
            "lr_scheduler": {"scheduler": torch.optim.lr_scheduler.LambdaLR(optimiser, rate), "interval": "step"},
        }


class _Clock(Callback):
    """Ends the training when its minutes are over, counting those before an interruption."""

    def on_train_batch_end(self, trainer, module, *args) -> None:
        if module.settings.max_minutes and module.minutes >= module.settings.max_minutes:
            trainer.should_stop = True


class _Progress(Callback):
    """Where the training stands: a bar on a terminal, else a line for every validation."""

    def __init__(self, steps: int):
        self.steps, self.bar = steps, None

    def on_train_start(self, trainer, module) -> None:
        if sys.stderr.isatty():
            from tqdm import tqdm

            self.bar = tqdm(total=self.steps, initial=trainer.global_step, unit="batch", desc="training")
        else:
            print(f"Training begins at batch {trainer.global_step} of {self.steps}.", file=sys.stderr, flush=True)

    def on_train_batch_end(self, trainer, module, *args) -> None:
        if self.bar is not None:
            self.bar.update(trainer.global_step - self.bar.n)

    def on_validation_end(self, trainer, module) -> None:
        loss = float(trainer.callback_metrics.get("val_total", torch.nan))
        if self.bar is not None:
            self.bar.set_postfix_str(f"loss on held-back data {loss:.4g}")
        else:
            done = f"batch {trainer.global_step} of {self.steps}, {module.minutes:.1f} minutes"
            print(f"{done}, loss on held-back data {loss:.4g}", file=sys.stderr, flush=True)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()


def protocols_for(recipe, settings: Settings, basis=None) -> list:
    """The protocols of a training: those of a basis set of the user's, or random ones as the recipe says.

    Raises
    ------
    OptionError
        If the recipe names no ranges of protocols and there is no basis set.
    """
    if basis is not None:
        n_points, bandwidth = 1024, 9.6 * basis.spec_freq_mhz
        return [
            random_spectra.protocol_of(
                basis.resampled(1 / bandwidth, n_points), basis.names, 1 / bandwidth, basis.spec_freq_mhz, str(basis.source)
            )
        ]
    if recipe.get("protocols") is None:
        raise OptionError(f"--recipe {recipe.name}: says nothing about protocols; give the basis set to train on with --basis.")
    return random_spectra.random_protocols(recipe.get("protocols"), settings.n_protocols, settings.seed)


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
    drawn_from = random_spectra.Recipe.load(recipe or task.recipe)
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
        what = what.replace("whatever the basis set", "for one basis set").replace("whatever the protocol", "for one basis set")
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


def train_registration(
    method: str,
    fids,
    output: str | Path,
    *,
    dwelltime: float,
    spec_freq_mhz: float,
    nucleus: str = "1H",
    settings: Settings | None = None,
    recipe: str | Path | None = None,
    encoder: str = "align-cnn",
    reference: str = "mean",
    name: str | None = None,
    resume: bool = False,
    command: str = "",
    source: str = "transients of yours",
) -> model_cards.Card:
    """Train dSR, dSRF, dCrR or dCrRF on measured transients, without a truth.

    Parameters
    ----------
    method : str
        One of :data:`fsl_mrs_dl.networks.self_supervised_registration.METHODS`.
    fids : complex array ``(n_transients, n_points)``
        One in ten, at least one, is held back and measured on.
    output, settings, name, resume, command
        As for :func:`train`.
    dwelltime, spec_freq_mhz, nucleus
        Of the data; seconds, MHz.
    recipe : str or path, optional
        How they are varied; 'augment-transients' by default.
    encoder : str
        One of :data:`fsl_mrs_dl.networks.encoders.ENCODERS`.
    reference : str
        What dSR and dSRF compare with: 'mean', of some of the transients after they were aligned by search, or 'k-means', one of the
        transients, chosen as the paper does.
    source : str
        What the card calls the data.

    Raises
    ------
    DataError, OptionError, OutputError
        Too few usable transients; an unknown method or recipe; a folder that holds something else, or nothing to go on from.
    """
    settings = settings or Settings()
    used, held = _used_and_held(fids, settings.seed, source)
    drawn_from = random_spectra.Recipe.load(recipe or "augment-transients")
    _check_folder(Path(output), resume)
    lightning.seed_everything(settings.seed, verbose=False)
    if nucleus != "1H" and method != "dsr":
        raise OptionError(f"--method {method}: looks for lines of 1H spectra, the data are {nucleus}; choose dsr.")
    network = self_supervised_registration.Registration(method, dwelltime, spec_freq_mhz, encoder)
    if not network.creatine:
        network.set_reference(_reference(reference, used, network.n_points, settings.seed, dwelltime, spec_freq_mhz, nucleus))

    def maker(which):
        return lambda generator: self_supervised_registration.augment(which, drawn_from, dwelltime, spec_freq_mhz, settings.batch_size, generator)

    maker(used)(torch.Generator())  # a recipe that cannot be drawn from is found out before anything is written
    return _run(
        network,
        output,
        settings,
        begun={"recipe": drawn_from.content, "transients": _fingerprint(fids), "reference": reference},
        train_make=maker(used),
        held_make=maker(held),
        loss=lambda network, batch: {"total": network.loss(batch["fid"])},
        resume=resume,
        card=lambda network: {
            "name": name or Path(output).name,
            "what": f"Proposes shift and phase of transients of one protocol ({method}, self-supervised).",
            "architecture": {"flops": encoders.count_flops(network, used[:1])},
            "training": {
                "command": command,
                "recipe": {"name": drawn_from.name, **drawn_from.content},
                "basis": f"{len(used)} measured transients: {source}",
            },
            "ranges": {"nucleus": [nucleus], "spec_freq_mhz": [spec_freq_mhz * 0.995, spec_freq_mhz * 1.005]},
            "accuracy": {
                "pairs of variations of held-back transients": self_supervised_registration.accuracy(
                    network, held, drawn_from, dwelltime, spec_freq_mhz, settings.seed
                )
            },
        },
    )


_MOST_ALIGNED = 256


def _reference(kind: str, fids: torch.Tensor, n_points: int, seed: int, dwelltime: float, spec_freq_mhz: float, nucleus: str):
    """The FID that dSR and dSRF compare with, ``(n_points,)``."""
    if kind == "k-means":
        return fids[self_supervised_registration.choose_reference(fids, n_points, seed)]
    if kind != "mean":
        raise OptionError(f"--reference {kind}: there is no such reference; choose mean or k-means.")
    some = fids[:_MOST_ALIGNED].to(torch.complex128)
    ppmlim = units.nucleus(nucleus).ppmlim
    found = solver.align_transients(some, dwelltime=dwelltime, spec_freq_mhz=spec_freq_mhz, nucleus=nucleus, ppmlim=ppmlim)
    return torch.as_tensor(found.reference[0]).to(torch.complex64)


def train_supervised(
    method: str,
    batch,
    output: str | Path,
    *,
    dwelltime: float,
    spec_freq_mhz: float,
    settings: Settings | None = None,
    name: str | None = None,
    resume: bool = False,
    command: str = "",
    source: str = "simulated transients",
) -> model_cards.Card:
    """Train one of the supervised pairs on transients with a known truth.

    Parameters
    ----------
    method : str
        One of :data:`fsl_mrs_dl.networks.frequency_then_phase.METHODS`.
    batch : dict
        ``fid`` complex ``(n, n_points)``, ``shift_hz`` and ``phase`` (rad) ``(n,)``; one in ten is held back.
    output, settings, name, resume, command, source, dwelltime, spec_freq_mhz
        As for :func:`train_registration`.

    Raises
    ------
    OptionError, OutputError
    """
    settings = settings or Settings()
    _check_folder(Path(output), resume)
    lightning.seed_everything(settings.seed, verbose=False)
    fids = batch["fid"]
    network = frequency_then_phase.FrequencyThenPhase(method, dwelltime, spec_freq_mhz, fids.shape[-1])
    n_held = max(1, len(fids) // 10)

    def maker(first, last):
        def make(generator):
            chosen = torch.randint(first, last, (settings.batch_size,), generator=generator)
            return {key: batch[key][chosen] for key in ("fid", "shift_hz", "phase")}

        return make

    return _run(
        network,
        output,
        settings,
        begun={"transients": _fingerprint(fids)},
        train_make=maker(n_held, len(fids)),
        held_make=maker(0, n_held),
        loss=lambda network, one: {"total": network.loss(one["fid"], one["shift_hz"], one["phase"])},
        resume=resume,
        card=lambda network: {
            "name": name or Path(output).name,
            "what": f"Finds shift and phase of transients of one signal ({method}, supervised); to compare with.",
            "architecture": {"flops": encoders.count_flops(network, fids[:1])},
            "training": {"command": command, "recipe": {}, "basis": f"{len(fids) - n_held} transients: {source}"},
            "ranges": {"nucleus": ["1H"], "spec_freq_mhz": [spec_freq_mhz * 0.995, spec_freq_mhz * 1.005]},
            "accuracy": {},
        },
    )


def train_quantifier(
    method: str,
    basis,
    output: str | Path,
    *,
    fids=None,
    dwelltime: float | None = None,
    settings: Settings | None = None,
    recipe: str | Path | None = None,
    encoder: str = "cnn",
    mm: str | Path | None = None,
    teacher: str | None = None,
    prior: str | Path | None = None,
    lam: float | None = None,
    n_members: int = 1,
    n_signals: int | None = None,
    name: str | None = None,
    resume: bool = False,
    command: str = "",
    source: str = "spectra of yours",
) -> model_cards.Card:
    """Train DQ-nMM, DQ-pMM or DQ-rpMM for a basis set, on simulated or on measured spectra, without a truth.

    Parameters
    ----------
    method : str
        One of :data:`fsl_mrs_dl.networks.self_supervised_quantification.METHODS`.
    basis : Basis
    output, settings, name, resume, command
        As for :func:`train`.
    fids : complex array ``(n, n_points)``, optional
        Measured spectra's FIDs; one in ten, at least one, is held back.  Simulated ones by default.
    dwelltime : float, optional
        Of the data in seconds; the basis set's by default.
    recipe : str or path, optional
        Of simulated spectra ('shamaei-table2' by default), or of how measured ones are varied ('augment-spectra').
    encoder : str
        One of :data:`fsl_mrs_dl.networks.encoders.ENCODERS`.
    mm : str or path, optional
        Macromolecules to add to the basis set, see :func:`fsl_mrs_dl.physics.macromolecules.add_macromolecules`.
    teacher : str, optional
        'ml' or 'posterior_mean': learn from fits of the training spectra, too, whose truth is not looked at.
    prior : str or path, optional
        Of the teacher's posterior mean, see :func:`fsl_mrs_dl.fitting.priors.load`; the recipe's own concentrations by default.
    lam : float, optional
        Weight of DQ-rpMM's rule, the paper's lambda.
    n_members : int
        Networks of an ensemble, trained one after the other.
    n_signals : int, optional
        Train on so many simulated spectra, over and over, one in ten held back; by default on new ones all the time, and on 20000 with a
        teacher.
    source : str
        What the card calls the data.

    Raises
    ------
    BasisError, DataError, OptionError, OutputError
    """
    settings = settings or Settings()
    if method not in self_supervised_quantification.METHODS:
        raise OptionError(f"--method {method}: there is no such method; choose one of {', '.join(self_supervised_quantification.METHODS)}.")
    if lam is not None and method != "dq-rpmm":
        raise OptionError(f"--lambda: is of dq-rpmm, not of {method}; leave it out.")
    drawn_from = random_spectra.Recipe.load(recipe or ("shamaei-table2" if fids is None else "augment-spectra"))
    _check_folder(Path(output), resume)
    if mm is not None:
        basis = add_macromolecules(basis, mm)
    dwelltime, frequency = dwelltime or basis.dwelltime, basis.spec_freq_mhz
    lines = basis if method == "dq-nmm" else in_lines(basis)[0]
    makes = {"names": list(lines.names), "dwelltime": dwelltime, "spec_freq_mhz": frequency, "encoder": encoder}
    makes |= {} if lam is None else {"lam": lam}
    if prior is not None and teacher != "posterior_mean":
        raise OptionError("--prior: is the teacher's; give --teacher posterior_mean, or leave it out.")

    def new(seed: int):
        lightning.seed_everything(seed, verbose=False)
        network = self_supervised_quantification.METHODS[method](**makes)
        network.set_basis(lines.resampled(dwelltime, network.n_points))
        return network

    network = new(settings.seed)
    n = settings.batch_size
    teach = (
        None if teacher is None else _teacher(teacher, prior or (drawn_from if fids is None else "auto"), basis, lines, dwelltime)
    )
    if fids is None:
        protocol = _protocol_for(basis, dwelltime, network.n_points)

        def made(generator):
            drawn = random_spectra.draw(drawn_from, n, protocol.names, generator)
            return {"fid": random_spectra.render(drawn, protocol).fid, "conc": drawn["conc"]}

        makers, trained_on = (made, made), f"simulated spectra on {basis.source}"
        many = n_signals or (_TAUGHT if teacher else None)
        if many is not None:
            makers, trained_on = _repeated(made, many, n, settings.seed, network.n_points, teach), f"{many} {trained_on}"
    else:
        parts = _used_and_held(_without_lipids(fids, drawn_from, dwelltime, frequency, source), settings.seed, source)
        makers = tuple(
            lambda generator, which=which: self_supervised_registration.augment(which, drawn_from, dwelltime, frequency, n, generator)
            for which in parts
        )
        trained_on = f"{len(parts[0])} measured spectra ({source}), basis set {basis.source}"
        if teacher:
            makers = tuple(_taught(make, teach, n, settings.seed + k) for k, make in enumerate(makers))
    makers[0](torch.Generator())  # a recipe that cannot be drawn from is found out before anything is written

    def held():
        # Other batches than those that chose the best checkpoint.
        return [makers[1](torch.Generator().manual_seed(settings.seed * 1_000_003 + 3_000_000 + k)) for k in range(8)]

    def card(network):
        return {
            "name": name or Path(output).name,
            "what": f"Quantifies spectra of one protocol with one basis set ({method}, self-supervised); proposes where their fits start.",
            "architecture": {"flops": encoders.count_flops(network, torch.zeros(1, network.n_points, dtype=torch.complex64))},
            "training": {
                "command": command,
                "recipe": {"name": drawn_from.name, **drawn_from.content},
                "basis": trained_on,
                "teacher": teacher,
                "prior": None if prior is None else str(prior),
            },
            "ranges": {
                "nucleus": ["1H"],
                "spec_freq_mhz": [frequency * 0.995, frequency * 1.005],
                "dwelltime": [dwelltime * 0.999, dwelltime * 1.001],
            },
            "accuracy": _quantifier_accuracy(network, held(), basis.names),
            "clean": out_of_distribution.of_clean(network, [batch["fid"] for batch in held()]),
        }

    begun = {
        "recipe": drawn_from.content, "basis": _fingerprint(lines.fids), "spectra": None if fids is None else _fingerprint(fids),
        "teacher": teacher, "prior": None if prior is None else str(prior), "signals": n_signals,
    }  # fmt: skip

    def run(network, folder, settings, resume):
        return _run(
            network, folder, settings, begun=begun, train_make=makers[0], held_make=makers[1],
            loss=lambda network, batch: {"total": network.loss(batch["fid"], batch.get("target"), batch.get("spread"))},
            resume=resume, card=card,
        )  # fmt: skip

    if n_members == 1:
        return run(network, output, settings, resume)
    return _ensemble(method, makes, n_members, Path(output), settings, new, run, held, basis.names)


def train_regressor(
    basis,
    output,
    *,
    dwelltime: float | None = None,
    n_points: int = 1024,
    settings: Settings | None = None,
    recipe: str | Path | None = None,
    encoder: str = "hatami",
    arguments: dict | None = None,
    mm: str | Path | None = None,
    water: bool = False,
    n_members: int = 1,
    stack: tuple[str, ...] = (),
    hidden: tuple[int, ...] = (1000, 500),
    active: int = 0,
    n_signals: int | None = None,
    polish: int = 0,
    name: str | None = None,
    resume: bool = False,
    command: str = "",
) -> model_cards.Card:
    """Train a :class:`fsl_mrs_dl.networks.supervised_quantification.Supervised` for a basis set, on simulated spectra whose concentrations are known.

    Parameters
    ----------
    basis : Basis
    output, settings, name, resume, command
        As for :func:`train`.
    dwelltime : float, optional
        Of the data in seconds; the basis set's by default.
    n_points : int
        Points of the FID that are seen.
    recipe : str or path, optional
        Of the simulated spectra; 'shamaei-table2' by default.
    encoder, arguments, water
        As for :class:`fsl_mrs_dl.networks.supervised_quantification.Supervised`.
    mm : str or path, optional
        Macromolecules to add to the basis set, see :func:`fsl_mrs_dl.physics.macromolecules.add_macromolecules`.
    n_members : int
        Networks that vote, trained one after the other.
    stack : tuple of str
        Encoders of networks that a stacking model is trained on, with ``hidden`` neurons in its layers.
    active : int
        Rounds of active learning: after each, a network is trained anew, a quarter of its spectra like those that the one before was worst at.
    n_signals : int, optional
        Train on so many spectra, over and over, one in ten held back; by default on new ones all the time.
    polish : int
        Iterations of second order, at most, on all of ``n_signals`` at once at the end; of networks that keep their view (wscn, stacks) only.

    Raises
    ------
    BasisError, OptionError, OutputError
    """
    settings, output = settings or Settings(), Path(output)
    if stack and n_members > 1:
        raise OptionError("--stack: is of networks that are weighed, --ensemble of such that vote; leave one of the two out.")
    if active < 0:
        raise OptionError(f"--active-learning {active}: must not be negative.")
    if settings.batch_size < 2:
        # Batch normalisation, and ranges that numbers are scaled by.
        raise OptionError(f"--batch_size {settings.batch_size}: supervised networks need at least 2 spectra in a batch.")
    members = supervised_quantification.stack_members(stack) if stack else (encoder,) * n_members
    drawn_from = random_spectra.Recipe.load(recipe or "shamaei-table2")
    _check_folder(output, resume)
    basis = basis if mm is None else add_macromolecules(basis, mm)
    dwelltime, frequency, n = dwelltime or basis.dwelltime, basis.spec_freq_mhz, settings.batch_size
    protocol = _protocol_for(basis, dwelltime, n_points)
    names = list(basis.names)

    def made(generator, hard=None):
        drawn = random_spectra.draw(drawn_from, n, protocol.names, generator)
        drawn = drawn if hard is None else supervised_quantification.near(drawn, hard, _HARD_SHARE, generator)
        return {"fid": random_spectra.render(drawn, protocol).fid, "conc": drawn["conc"], "snr": drawn["snr"]}

    def batches(offset: int, count: int):
        return [made(torch.Generator().manual_seed(settings.seed * 1_000_003 + offset + k)) for k in range(count)]

    few = batches(4_000_000, 8)

    def makes(which: str) -> dict:
        return {
            "names": names, "dwelltime": dwelltime, "spec_freq_mhz": frequency, "encoder": which, "n_points": n_points, "water": water,
            "arguments": arguments or {},
        }  # fmt: skip

    def new(which: str, seed: int):
        lightning.seed_everything(seed, verbose=False)
        network = supervised_quantification.Supervised(**makes(which))
        network.set_basis(basis.resampled(dwelltime, n_points))
        network.set_range(torch.cat([one["fid"] for one in few]), torch.cat([one["conc"] for one in few]))
        return network

    for which in dict.fromkeys(members[1:]):  # what cannot be made is found out before anything is written
        new(which, settings.seed)
    first = new(members[0], settings.seed)

    told: list[dict] = []  # of members, on the card of what is made of them

    def content(network, what: str, folder: Path, rounds=(), prepared: float = 0.0) -> dict:
        # Other batches than those that chose the best checkpoint.
        held = batches(3_000_000, 8)
        with torch.no_grad():
            conc = torch.cat([network.concentrations(one["fid"]) for one in held])
        return {
            "name": name if name and folder == output else folder.name,
            "what": f"Quantifies spectra of one protocol with one basis set ({what}, supervised); fits start without it.",
            "architecture": {"flops": encoders.count_flops(network, torch.zeros(1, n_points, dtype=torch.complex64))},
            "training": {
                "command": command,
                "recipe": {"name": drawn_from.name, **drawn_from.content},
                "basis": f"{f'{n_signals} ' if n_signals else ''}simulated spectra on {basis.source}",
                "active_learning": list(rounds),
                "preparation_minutes": prepared,
                **({"members": told} if told else {}),
            },
            "ranges": {
                "nucleus": ["1H"],
                "spec_freq_mhz": [frequency * 0.995, frequency * 1.005],
                "dwelltime": [dwelltime * 0.999, dwelltime * 1.001],
            },
            "accuracy": supervised_quantification.scores(conc, torch.cat([one["conc"] for one in held]), names),
        }

    begun = {
        "recipe": drawn_from.content, "basis": _fingerprint(basis.fids), "members": list(members), "active learning": active,
        "signals": n_signals, "polish": polish,
    }  # fmt: skip

    def makers(network, hard) -> tuple[Callable, Callable, tuple[dict, dict] | None]:
        """What makes batches to train on and to hold back, and what they are out of."""
        if n_signals is None:
            return lambda generator: made(generator, hard), made, None
        seen = _views_of(network)
        used, held = _kept(lambda generator: seen(made(generator)), n_signals, n, settings.seed, n_points)
        if hard is not None:
            used, _ = _kept(lambda generator: seen(made(generator, hard)), n_signals, n, settings.seed, n_points)
        return _batches_of(used, n), _batches_of(held, n), (used, held)

    def run(network, folder: Path, settings: Settings, what: str, hard=None, rounds=()) -> model_cards.Card:
        began = time.monotonic()
        used, held, sets = makers(network, hard)
        prepared = round((time.monotonic() - began) / 60, 1)
        return _run(
            network,
            folder,
            settings,
            begun=begun,
            train_make=used,
            held_make=held,
            loss=_regression_loss,
            resume=(folder / "checkpoints" / "last.ckpt").is_file(),
            card=lambda network: content(network, what, folder, rounds, prepared),
            finish=(lambda network: _polished(network, *sets, polish)) if polish and sets and network.keeps_view else None,
        )

    def train_one(which: str, folder: Path, settings: Settings) -> model_cards.Card:
        """One network, after its rounds of active learning; rounds that are there stay."""
        hard, rounds = None, []
        for index in range(active):
            part = folder / "rounds" / str(index)
            if not (part / "card.json").is_file():
                _say(settings, f"Active learning, round {index + 1} of {active}:")
                run(new(which, settings.seed), part, settings, which, hard, rounds)
            network, card = model_cards.load(part)
            learnt = list(card["accuracy"]["R2 of concentrations"].values())
            rounds.append({"median R2 before": float(np.median(learnt)) if learnt else None})
            pool = supervised_quantification.pool_size(min(settings.steps * n, n_signals or settings.steps * n))
            hard = supervised_quantification.hardest(network, batches(6_000_000 + 10_000 * index, -(-pool // n)))
        if active:
            _say(settings, "The network itself:")
        return run(new(which, settings.seed), folder, settings, which, hard, rounds)

    if len(members) == 1:
        return train_one(members[0], output, settings)
    for index, which in enumerate(members):
        folder = output / "members" / str(index)
        if not (folder / "card.json").is_file():
            _say(settings, f"Member {index + 1} of {len(members)}, {which}:")
            train_one(which, folder, replace(settings, seed=settings.seed + index))
    parts = [model_cards.load(output / "members" / str(index)) for index in range(len(members))]
    for which, (network, card) in zip(members, parts):
        if network.settings != first.settings | {"encoder": which}:
            raise OptionError(f"--resume: {card.folder} was begun with other options; give the options that it was begun with.")
    told += [
        {"encoder": which, "steps": card["training"]["steps"], "minutes": card["training"]["minutes"]}
        for which, (_, card) in zip(members, parts)
    ]
    lightning.seed_everything(settings.seed + len(members), verbose=False)  # the same layers, whatever was trained before them
    together = (
        supervised_quantification.Stack([makes(which) for which in members], hidden)
        if stack
        else supervised_quantification.Voting("supervised", n_members, makes(encoder))
    )
    for member, (network, _) in zip(together.members, parts):
        member.load_state_dict(network.state_dict())
    if stack:
        _say(settings, "Stacking model:")
        return run(together.fix_members(), output, settings, f"{len(members)} stacked networks")
    together.eval().requires_grad_(False)
    done = content(together, f"{n_members} networks that vote, {encoder}", output)
    first_card = parts[0][1]
    done["training"] = first_card["training"] | {
        "minutes": round(sum(card["training"]["minutes"] for _, card in parts), 1), "members": told,
    }  # fmt: skip
    return model_cards.save(output, together, done)


def _polished(network, used: dict, held: dict, iterations: int) -> dict:
    """Go on by L-BFGS on all spectra at once for as long as held-back ones gain; what the card says of it.

    A small network that thousands of numbers go into is far from its optimum when batches show no more gain.
    """
    network.eval()
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    optimiser = torch.optim.LBFGS(weights, max_iter=_AT_ONCE, history_size=30, line_search_fn="strong_wolfe")

    of_used, of_held = (network.loss_on(part["view"], part["target"]) for part in (used, held))

    def closure():
        optimiser.zero_grad()
        loss = of_used()
        loss.backward()
        return loss

    def on_held() -> float:
        with torch.no_grad():
            return float(of_held())

    def state() -> list[torch.Tensor]:
        return [weight.detach().clone() for weight in weights]

    least, best, done, waited = on_held(), state(), 0, 0
    while done < iterations and waited < _WITHOUT_GAIN:
        optimiser.step(closure)
        done, value = done + _AT_ONCE, on_held()
        waited += 1
        if value < least:
            least, best, waited = value, state(), 0
    with torch.no_grad():
        for weight, kept in zip(weights, best):
            weight.copy_(kept)
    return {"polished": done, "validation_loss": least}


_AT_ONCE, _WITHOUT_GAIN = 20, 10


def _views_of(network) -> Callable:
    """Turns batches into what the encoder looks at and what it should say, which are the same whenever a spectrum comes again."""

    def views(part: dict) -> dict:
        with torch.no_grad():
            return {"view": network.views(part["fid"]), "target": network.targets(part["fid"], part["conc"])}

    return views


def _regression_loss(network, batch: dict) -> dict:
    if "view" in batch:
        return {"total": network.loss_of_views(batch["view"], batch["target"])}
    return {"total": network.loss(batch["fid"], batch["conc"])}


_HARD_SHARE = 0.25  # of the spectra of a round, as 5000 of 20000 in the paper


def _say(settings: Settings, text: str) -> None:
    if settings.progress:
        print(text, file=sys.stderr, flush=True)


def _protocol_for(basis, dwelltime: float, n_points: int) -> random_spectra.Protocol:
    """A basis set on the data's grid, as long as its spectra are that networks see ``n_points`` of."""
    # An SNR is that of the whole spectrum, of which the network sees the beginning.
    whole = min(2 * n_points, int(basis.n_points * basis.dwelltime / dwelltime + 1e-6))
    return random_spectra.protocol_of(basis.resampled(dwelltime, max(n_points, whole)), basis.names, dwelltime, basis.spec_freq_mhz)


def _ensemble(method, makes, n_members: int, output: Path, settings: Settings, new, run, held, names) -> model_cards.Card:
    """Train the members of an ensemble, each in a folder of its own, and put them together; members that are there stay."""
    ensemble = self_supervised_quantification.Ensemble(method, n_members, makes)
    cards = []
    for index in range(n_members):
        folder = output / "members" / str(index)
        if not (folder / "card.json").is_file():
            going = (folder / "checkpoints" / "last.ckpt").is_file()
            if settings.progress:
                print(f"Member {index + 1} of {n_members}:", file=sys.stderr, flush=True)
            run(new(settings.seed + index), folder, replace(settings, seed=settings.seed + index), going)
        network, card = model_cards.load(folder)
        ensemble.members[index].load_state_dict(network.state_dict())
        cards.append(card)
    content = {key: cards[0][key] for key in ("training", "ranges")}
    content["training"] = content["training"] | {"minutes": round(sum(card["training"]["minutes"] for card in cards), 1)}
    ensemble.eval().requires_grad_(False)
    return model_cards.save(
        output,
        ensemble,
        {
            "name": output.name,
            "what": cards[0]["what"].replace("spectra of one protocol", f"spectra of one protocol by {n_members} networks"),
            "architecture": {"flops": n_members * cards[0]["architecture"]["flops"]},
            "accuracy": _quantifier_accuracy(ensemble, held(), names),
            "clean": out_of_distribution.of_clean(ensemble, [batch["fid"] for batch in held()]),
            **content,
        },
    )


def _quantifier_accuracy(network, batches, names) -> dict:
    """What a network leaves unexplained of held-back spectra and, where the truth is known, how near its concentrations are."""
    first = network.members[0] if isinstance(network, self_supervised_quantification.Ensemble) else network
    with torch.no_grad():
        left = [
            float((first.prepared(batch["fid"]) - first.limited(first.decode(network(batch["fid"])))).abs().square().mean())
            / float(first.prepared(batch["fid"]).abs().square().mean())
            for batch in batches
        ]
        found = {
            "held-back spectra": {"part of the signal's energy left unexplained (%)": float(f"{100 * sum(left) / len(left):.4g}")}
        }
        if "conc" not in batches[0]:
            return found
        conc = torch.cat([network.concentrations(batch["fid"]) for batch in batches])
    truth = torch.cat([batch["conc"] for batch in batches])
    found["R2 of concentrations"] = {
        one: float(
            f"{1 - float((conc[:, first.names.index(one)] - truth[:, column]).square().mean() / truth[:, column].var()):.3f}"
        )
        for column, one in enumerate(names)
        if one in first.names and float(truth[:, column].var()) > 0
    }
    return found


def _kept(made: Callable, n_signals: int, n: int, seed: int, n_points: int, teach: Callable | None = None) -> tuple[dict, dict]:
    """A set of simulated spectra, nine tenths to train on and one to hold back."""
    parts, spread = [], {}
    for k in range(-(-n_signals // n)):
        part = made(torch.Generator().manual_seed(seed * 1_000_003 + 5_000_000 + k))
        if teach is None and "fid" in part:
            part["fid"] = part["fid"][:, :n_points].clone()  # all that the network sees of it
        parts.append(part)
    whole = {key: torch.cat([part[key] for part in parts])[:n_signals] for key in parts[0]}
    if teach is not None:
        whole["target"], spread["spread"] = teach(whole["fid"])
        whole["fid"] = whole["fid"][:, :n_points].clone()
    n_held = max(1, n_signals // 10)
    return tuple(
        {key: values[rows] for key, values in whole.items()} | spread for rows in (slice(n_held, None), slice(0, n_held))
    )


def _batches_of(part: dict, n: int) -> Callable:
    """Makes batches out of one of these."""

    def make(generator):
        size = next(len(values) for key, values in part.items() if key != "spread")
        chosen = torch.randint(size, (n,), generator=generator)
        return {key: values if key == "spread" else values[chosen] for key, values in part.items()}

    return make


def _repeated(
    made: Callable, n_signals: int, n: int, seed: int, n_points: int, teach: Callable | None = None
) -> tuple[Callable, Callable]:
    """Batches out of a set of simulated spectra: to train on, and held back."""
    return tuple(_batches_of(part, n) for part in _kept(made, n_signals, n, seed, n_points, teach))


_TAUGHT = 20000  # spectra that a teacher fits
_LITTLE = 0.03


def _taught(make: Callable, teach: Callable, n: int, seed: int) -> Callable:
    """Batches out of variations of measured spectra, fitted beforehand."""
    batches = [make(torch.Generator().manual_seed(seed * 1_000_003 + 5_000_000 + k)) for k in range(-(-_TAUGHT // 4 // n))]
    fid = torch.cat([batch["fid"] for batch in batches])
    target, spread = teach(fid)

    def taught(generator):
        chosen = torch.randint(len(fid), (n,), generator=generator)
        return {"fid": fid[chosen], "target": target[chosen], "spread": spread}

    return taught


def _teacher(estimate: str, prior, basis, lines, dwelltime: float) -> Callable:
    """``teach(fids)`` -> what fits of the FIDs give ``(n, n_metabs)``, in the order of ``lines``, and the unit of errors ``(n_metabs,)``."""
    from ..fitting import quantify
    from ..fitting.initialisation import Automatic

    if estimate not in ("ml", "posterior_mean"):
        raise OptionError(f"--teacher {estimate}: there is no such teacher; choose ml or posterior_mean.")
    if isinstance(prior, random_spectra.Recipe):
        prior = priors.from_recipe(prior, list(basis.names))

    def teach(fids):
        print(f"Fitting {len(fids)} spectra to learn from.", file=sys.stderr, flush=True)
        fit = quantify.quantify(
            fids.numpy(), basis, dwelltime=dwelltime, spec_freq_mhz=basis.spec_freq_mhz, model="lorentzian", baseline="off",
            rescale=False, starter=Automatic("classical"), prior=prior if estimate == "posterior_mean" else "none", device="cpu",
        )  # fmt: skip
        conc, cov = fit.estimate(estimate)
        conc = np.where((fit.usable & fit.converged)[:, None], conc, np.nan)
        with np.errstate(invalid="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # of a metabolite that was found nowhere
            varies = np.nanvar(conc, 0)
            unsure = np.nanmedian(np.diagonal(cov, axis1=1, axis2=2), 0)
            # What fits know well is to be learnt well: an error is counted in what the data leave open, and a little of what there is to find.
            spread = np.sqrt(np.minimum(unsure, varies) + _LITTLE * varies)
        spread = np.where(np.isfinite(spread) & (spread > 0), spread, 1.0)
        target, scale = np.full((len(fids), lines.n_metabs), np.nan), np.ones(lines.n_metabs)
        for column, name in enumerate(basis.names):
            if name in lines.names:
                target[:, lines.names.index(name)], scale[lines.names.index(name)] = conc[:, column], spread[column]
        return torch.as_tensor(target).float(), torch.as_tensor(scale).float()

    return teach


_LIPID_PPM, _BRAIN_PPM = (0.0, 1.85), (1.85, 4.2)


def _without_lipids(fids, recipe, dwelltime: float, spec_freq_mhz: float, source: str) -> torch.Tensor:
    """Measured FIDs without those in which lipids are strong (section 4.1.2 of the paper), where the recipe says how strong."""
    fids = torch.as_tensor(fids).to(torch.complex64)
    most = (recipe.get("augment") or {}).get("most_lipid")
    if most is None:
        return fids
    ppm = units.ppm_axis(fids.shape[-1], dwelltime, spec_freq_mhz)
    size = units.fid_to_spec(fids).abs()
    low, high = (size[:, (ppm > a) & (ppm < b)].mean(-1) for a, b in (_LIPID_PPM, _BRAIN_PPM))
    keep = (low <= most * high) | ~torch.isfinite(low)
    if int(keep.sum()) < 4:
        raise DataError(
            f"{source}: lipids are stronger than {most:g} times the metabolites in all but {int(keep.sum())} of {len(fids)} spectra; give "
            "other files, or a recipe with a higher 'most_lipid'."
        )
    if not keep.all():
        print(f"Left out for their lipids: {int((~keep).sum())} of {len(fids)} spectra.", file=sys.stderr, flush=True)
    return fids[keep]


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
    """Train a :class:`fsl_mrs_dl.networks.denoiser.Denoiser` on simulated spectra of a basis set, whose noise-free form is the target.

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
    drawn_from = random_spectra.Recipe.load(recipe or "normal-brain")
    _check_folder(Path(output), resume)
    dwelltime, frequency = dwelltime or basis.dwelltime, basis.spec_freq_mhz
    lightning.seed_everything(settings.seed, verbose=False)
    network = denoiser.Denoiser(dwelltime, frequency, n_points, **(network_settings or {}))
    protocol = random_spectra.protocol_of(basis.resampled(dwelltime, n_points), basis.names, dwelltime, frequency)
    low, high = network.ppmlim

    def make(generator, recipe=drawn_from):
        made = random_spectra.render(random_spectra.draw(recipe, settings.batch_size, protocol.names, generator), protocol)
        return {"fid": made.fid, "clean": made.metabolites + made.nuisance}

    def accuracy(network):
        found = {}
        with torch.no_grad():
            for snr in (5, 10, 20, 40):
                one = random_spectra.Recipe.of(drawn_from.name, drawn_from.content | {"snr": snr})
                batches = [make(torch.Generator().manual_seed(settings.seed * 1_000_003 + 3_000_000 + k), one) for k in range(8)]
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
            "what": "Takes noise out of spectra of one protocol; what it gives is to be looked at, not to be quantified.",
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


def _used_and_held(fids, seed: int, source: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Usable FIDs to train on, and one in ten, at least one, that is held back."""
    fids = torch.as_tensor(fids).to(torch.complex64)
    fids = fids[torch.isfinite(torch.view_as_real(fids)).all((-1, -2)) & (fids != 0).any(-1)]
    if len(fids) < 4:
        raise DataError(f"{source}: holds {len(fids)} usable FIDs, training needs 4 at least; give more files.")
    shuffled = torch.randperm(len(fids), generator=torch.Generator().manual_seed(seed))
    n_held = max(1, len(fids) // 10)
    return fids[shuffled[n_held:]], fids[shuffled[:n_held]]


def _check_folder(output: Path, resume: bool) -> None:
    last = output / "checkpoints" / "last.ckpt"
    # Members of an ensemble, and rounds of active learning, have folders of their own.
    parts = [*output.glob("members/*/**/training.json"), *output.glob("rounds/*/training.json")]
    if resume and not last.is_file() and not parts:
        raise OptionError(f"--resume: {last} is not there; leave --resume out to begin anew.")
    if not resume and output.is_dir() and any(output.iterdir()):
        raise OutputError(f"{output}: is not empty; choose another --output, or go on with --resume.")


def _run(
    network,
    output,
    settings: Settings,
    *,
    train_make,
    held_make,
    loss,
    resume: bool,
    card: Callable,
    begun: dict,
    finish: Callable | None = None,
) -> model_cards.Card:
    """Train, keep the best on held-back data, measure and write; ``begun`` is what must be the same where it goes on.

    ``finish`` is given the best network, on the CPU, to go on with, and gives what the card says of that.
    """
    output = Path(output)
    last = output / "checkpoints" / "last.ckpt"
    _remember(
        output, settings, {"network": type(network).__name__} | begun | {"settings": network.settings}, last if resume else None
    )
    module = _Module(network, loss, settings)
    make = lambda which, seed, first, n=None: torch.utils.data.DataLoader(  # noqa: E731
        _Stream(which, seed, first, n), batch_size=None
    )
    checkpoints = ModelCheckpoint(
        output / "checkpoints", filename="best", monitor="val_total", save_last=True, save_top_k=1, enable_version_counter=False
    )
    callbacks: list[Callback] = [checkpoints, _Clock()]
    if settings.patience:
        callbacks.append(EarlyStopping("val_total", patience=settings.patience, check_on_train_epoch_end=False))
    progress = _Progress(settings.steps)
    if settings.progress:
        callbacks.append(progress)
    # Each part of a training that was interrupted has a log of its own.
    parts = len(list(output.glob("logs/csv*")))
    loggers = [CSVLogger(output, name="logs", version=f"csv_{parts + 1}" if parts else "csv", flush_logs_every_n_steps=20)]
    if settings.tensorboard:
        try:
            loggers.append(TensorBoardLogger(output, name="logs", version="tensorboard"))
        except ModuleNotFoundError as exc:
            raise OptionError("--tensorboard needs the package tensorboard; install it, or read logs/csv/metrics.csv.") from exc
    trainer = lightning.Trainer(
        max_steps=settings.steps,
        val_check_interval=settings.validate_every,
        check_val_every_n_epoch=None,
        accelerator={"auto": "auto", "cpu": "cpu", "cuda": "gpu"}[settings.device],
        devices=1,
        logger=loggers,
        callbacks=callbacks,
        gradient_clip_val=1.0,
        log_every_n_steps=50,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        deterministic=True,
        default_root_dir=output,
    )
    with warnings.catch_warnings():
        # Of its own use of other libraries, and advice on loading data that does not apply to data made on the fly.
        warnings.filterwarnings("ignore", module="lightning")
        warnings.filterwarnings("ignore", message=".*(LeafSpec|num_workers|IterableDataset).*")
        try:
            trainer.fit(
                module,
                make(train_make, settings.seed, lambda: trainer.global_step),
                make(held_make, settings.seed + 1_000_000, lambda: 0, settings.validation_batches),
                ckpt_path=last if resume else None,
                weights_only=False,
            )
        except (KeyboardInterrupt, SystemExit):
            # Lightning turns the first into the second.
            progress.close()
            kept = f"--resume goes on from {last}" if last.is_file() else "nothing was kept yet"
            raise KeyboardInterrupt(f"interrupted at batch {trainer.global_step} of {settings.steps}; {kept}.") from None
        progress.close()
    if checkpoints.best_model_path:
        state = torch.load(checkpoints.best_model_path, map_location="cpu", weights_only=False)["state_dict"]
        module.load_state_dict(state)
    network = module.network.cpu().eval()
    try:
        finished = finish(network) if finish else {}
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"interrupted after batch {trainer.global_step}; --resume goes on from {last}.") from None
    # Measured anew on data that took no part in choosing the best checkpoint.
    content = card(network)
    content["training"] |= {
        "command": _again(content["training"]["command"], settings, trainer.global_step),
        "steps": trainer.global_step,
        "timed": settings.max_minutes is not None and trainer.global_step < settings.steps,
        "validation_loss": float(checkpoints.best_model_score) if checkpoints.best_model_score is not None else None,
        "batch_size": settings.batch_size,
        "learning_rate": settings.learning_rate,
        "seed": settings.seed,
        "minutes": round(module.minutes, 1),
        "device": _device_name(trainer),
        **finished,
    }
    return model_cards.save(output, network, content)


def _again(command: str, settings: Settings, steps: int) -> str:
    """The command that makes the same network anew: as many steps as there were, not as many minutes."""
    words = command.split()
    for option, n in (("--resume", 1), ("--max-minutes", 2)):
        while option in words:
            del words[words.index(option) : words.index(option) + n]
    words = [word for word in words if not word.startswith("--max-minutes=")]
    if steps != settings.steps and command:
        if "--steps" in words:
            words[words.index("--steps") + 1] = str(steps)
        else:
            words = [word for word in words if not word.startswith("--steps=")] + ["--steps", str(steps)]
    return " ".join(words)


def _fingerprint(array) -> str:
    """A few letters that are others for other numbers."""
    return hashlib.sha256(torch.as_tensor(array).to(torch.complex64).resolve_conj().contiguous().numpy().tobytes()).hexdigest()[
        :12
    ]


def _remember(output: Path, settings: Settings, begun: dict, last: Path | None) -> None:
    """Write down what a training is begun with; where one goes on from ``last``, see that it is the same and has something left to do.

    Raises
    ------
    OptionError
    """
    path = output / "training.json"
    now = begun | {name: getattr(settings, name) for name in ("batch_size", "learning_rate", "seed", "n_protocols")}
    now = json.loads(json.dumps(now))
    if last is None:
        output.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(now, indent=2) + "\n")
        return
    before = json.loads(path.read_text()) if path.is_file() else {}
    for key, value in now.items():
        if key in before and before[key] != value:
            name = {"members": "encoder", "basis": "basis set"}.get(key, key).replace("_", " ")
            was, new = (" ".join(map(str, one)) if isinstance(one, list) else str(one) for one in (before[key], value))
            told = max(len(was), len(new)) < 60 and key not in ("basis", "spectra", "transients")  # these are fingerprints
            words = f"{name} {was}, not {new}" if told else f"another {name}"
            raise OptionError(f"--resume: {output} was begun with {words}; give the options that it was begun with.")
    checkpoint = torch.load(last, map_location="cpu", weights_only=False)
    step, minutes = checkpoint["global_step"], checkpoint.get("fsl_mrs_dl_minutes", 0.0)
    if not (output / "card.json").is_file():
        return  # interrupted after the last batch, at the latest: what was left to do is done
    if step >= settings.steps:
        raise OptionError(f"--resume: {output} has been trained for {step} steps already; give more --steps.")
    if settings.max_minutes and minutes >= settings.max_minutes:
        raise OptionError(f"--resume: {output} has been trained for {minutes:.1f} minutes already; give more --max-minutes.")


def _flops(network, task: Task, recipe, protocol) -> int:
    """Operations for one spectrum or transient."""
    batch = task.batch(recipe, protocol, 8, torch.Generator().manual_seed(0))
    inputs = [batch[name] for name in ("spec", "transient", "reference", "spec_freq_mhz") if name in batch]
    return encoders.count_flops(network, *inputs) // len(inputs[0])


def search(start: Callable, settings: Settings, n_trials: int, steps: int, encoders_tried: tuple[str, ...] = ()) -> dict:
    """Look for the learning rate, batch size and encoder of the lowest validation loss, with Optuna.

    Parameters
    ----------
    start : callable
        ``start(settings, encoder or None, folder)`` trains and gives the card.
    settings : Settings
        Everything that is not searched for; its seed is the search's, too.
    n_trials, steps : int
        Trainings, and the batches of each.
    encoders_tried : tuple of str
        Encoders to choose from; none leaves it as it is.

    Returns
    -------
    dict
        ``learning_rate``, ``batch_size``, ``encoder`` (where it was searched for), and ``trials``, a list of all that was tried.

    Raises
    ------
    OptionError
        Where Optuna is not installed.
    """
    try:
        import optuna
    except ImportError as exc:
        raise OptionError(
            f"--search needs Optuna, which cannot be loaded ({exc}); install it with: pip install 'fsl_mrs_dl[search]'"
        ) from exc
    import tempfile

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    trials = []

    def objective(trial):
        tried = {
            "learning_rate": trial.suggest_float("learning_rate", 1e-4, 5e-3, log=True),
            "batch_size": trial.suggest_categorical("batch_size", [32, 64, 128, 256]),
        }
        encoder = trial.suggest_categorical("encoder", list(encoders_tried)) if encoders_tried else None
        # The same number of spectra for each, so that large batches are not favoured by seeing more.
        n = max(2, round(steps * settings.batch_size / tried["batch_size"]))
        with tempfile.TemporaryDirectory() as folder:
            card = start(replace(settings, **tried, steps=n, validate_every=max(1, n // 2)), encoder, Path(folder) / "trial")
        trials.append(
            tried | ({"encoder": encoder} if encoder else {}) | {"validation_loss": card["training"]["validation_loss"]}
        )
        return trials[-1]["validation_loss"]

    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=settings.seed))
    study.optimize(objective, n_trials=n_trials)
    return dict(study.best_params) | {"trials": trials}


def _device_name(trainer) -> str:
    if trainer.strategy.root_device.type == "cuda":
        return torch.cuda.get_device_name()
    return f"CPU, {torch.get_num_threads()} threads"


def _measure(network, task: Task, recipe, protocols, settings: Settings, n_batches: int = 32) -> dict:
    """Accuracy on held-back protocols inside the recipe's ranges, at their lowest SNR and below, and at twice the shifts."""
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
            one = random_spectra.Recipe.of(recipe.name, recipe.content | change)
            stream = _Stream(
                _simulated(task, one, protocols, settings.batch_size), settings.seed + 2_000_000, lambda: 0, n_batches
            )
            figures = [task.accuracy(network, batch) for batch in stream]
            measured[label] = {name: float(f"{sum(f[name] for f in figures) / len(figures):.4g}") for name in figures[0]}
    return measured
