"""Training of networks with Lightning: one loop for all kinds of trainings.

A kind of training is a subclass of :class:`Training`: its network, batches, loss and model card.  :func:`train` runs it
in a folder, which holds checkpoints and logs meanwhile, and the finished model as
:mod:`fsl_mrs_dl.networks.model_cards` reads it.  Every batch has a seed of its own, counted from the training's: a
resumed training goes on exactly where it stopped, and the same seed gives the same network on a CPU.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import warnings
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

import torch

from ..core.errors import OptionError
from ..networks import model_cards
from . import checkpoints
from .batches import BatchStream
from .settings import Settings

try:
    import lightning
    from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
    from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger

    from .lightning_module import NetworkModule, ProgressReport, TimeLimit, WholeCheckpoints
except ImportError as exc:
    raise OptionError(
        f"training needs Lightning, which cannot be loaded ({exc})",
        remedy="install it with: pip install '.[train]' in a copy of the repository",
    ) from exc

# Lightning's remarks on devices and services are not about the training.
for _name in ("lightning.pytorch", "lightning.fabric"):
    logging.getLogger(_name).setLevel(logging.WARNING)

__all__ = ["Job", "Training", "fit", "report", "seed_weights", "train"]


@dataclass(frozen=True)
class Job:
    """One run of a training.

    Attributes
    ----------
    folder : path
        Folder of the model.
    name : str
        Name on the model card.
    resume : bool
        Go on from the folder's last checkpoint.
    command : str
        Command on the model card.
    """

    folder: Path
    name: str
    resume: bool = False
    command: str = ""


class Training(ABC):
    """One kind of training: network, batches, loss and model card.

    Subclasses check their options when they are made, and read nothing but those until :meth:`network` is called.

    Attributes
    ----------
    settings : Settings
    """

    settings: Settings

    @abstractmethod
    def network(self, seed: int | None = None):
        """Return a new network; ``seed`` of its weights is the training's by default."""

    def prepare(self, network) -> None:  # noqa: B027  (most trainings have nothing to prepare)
        """Make the data to train on; called once, after :meth:`network`."""

    @abstractmethod
    def batch(self, generator: torch.Generator) -> dict[str, torch.Tensor]:
        """Return a batch to train on."""

    def held_back(self, generator: torch.Generator) -> dict[str, torch.Tensor]:
        """Return a batch of held-back data; other random numbers of the same kind by default."""
        return self.batch(generator)

    @abstractmethod
    def loss(self, network, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return the terms of the loss; ``total`` is minimised."""

    @abstractmethod
    def start(self) -> dict:
        """Return the options, as JSON, that must be the same where the training is resumed."""

    @abstractmethod
    def card(self, network) -> dict:
        """Return the model card's entries but its name: what, architecture, training, ranges, accuracy."""

    def finish(self, network) -> dict:
        """Train on after the last batch, and return entries for the card; does nothing by default."""
        return {}

    def run(self, job: Job) -> model_cards.Card:
        """Train the network of one job; trainings of several networks do so for each."""
        network = self.network()
        self.prepare(network)
        self.batch(torch.Generator())  # a recipe that cannot be drawn from fails before anything is written
        return fit(self, network, job)


def train(
    training: Training, output: str | Path, *, name: str | None = None, resume: bool = False, command: str = ""
) -> model_cards.Card:
    """Train a network and write it as a model.

    Parameters
    ----------
    training : Training
        A training with its options, for instance :class:`fsl_mrs_dl.training.universal.UniversalTraining`.
    output : path
        Folder of the model; ``checkpoints/`` and ``logs/`` are kept in it.
    name : str, optional
        Of the model; the folder's name by default.
    resume : bool
        Go on from the folder's last checkpoint.
    command : str
        Command that the model card gives for training the network anew.

    Returns
    -------
    Card

    Raises
    ------
    DataError, OptionError, OutputError
        Data or options that cannot be trained with; a folder with other files, or without anything to resume.
    KeyboardInterrupt
        With a message that says how to go on.
    """
    output = Path(output)
    checkpoints.check_folder(output, resume)
    return training.run(Job(output, name or output.name, resume, command))


def seed_weights(seed: int) -> None:
    """Seed the random numbers that networks are initialised with."""
    lightning.seed_everything(seed, verbose=False)


def report(settings: Settings, text: str) -> None:
    """Print a line on standard error, where progress is reported."""
    if settings.progress:
        print(text, file=sys.stderr, flush=True)


def fit(training: Training, network, job: Job, settings: Settings | None = None) -> model_cards.Card:
    """Train one network, keep the weights with the lowest loss on held-back data, measure it and write it.

    Parameters
    ----------
    training : Training
    network : torch.nn.Module
        With ``settings``, the arguments it was made with.
    job : Job
    settings : Settings, optional
        The training's own by default; members of an ensemble have seeds of their own.

    Raises
    ------
    DataError, OptionError
        A checkpoint that cannot be used, or other options than the training was begun with.
    KeyboardInterrupt
    """
    settings = settings or training.settings
    last = checkpoints.last_checkpoint(job.folder)
    start = {"network": type(network).__name__} | training.start() | {"settings": network.settings}
    begun = job.resume and (job.folder / "training.json").is_file()
    checkpoints.record_start(job.folder, settings, start, begun)
    resume = job.resume and last.is_file()  # a training may have been killed before its first checkpoint
    if resume:
        checkpoints.check_unfinished(job.folder, settings, checkpoints.read_checkpoint(last, network))
    module = NetworkModule(network, training.loss, settings)
    best = ModelCheckpoint(
        last.parent, filename="best", monitor="val_total", save_last=True, save_top_k=1, enable_version_counter=False
    )
    progress = ProgressReport(settings.steps)
    trainer = _lightning_trainer(settings, job.folder, [best, TimeLimit()], progress)
    try:
        _fit_module(trainer, module, training, settings, last if resume else None)
    except (KeyboardInterrupt, SystemExit):  # Lightning turns the first into the second
        progress.close()
        kept = f"--resume goes on from {last}" if last.is_file() else "nothing was kept yet"
        raise KeyboardInterrupt(f"interrupted at batch {trainer.global_step} of {settings.steps}; {kept}.") from None
    progress.close()
    if best.best_model_path:
        # The path in a checkpoint is not trusted; there is one place for the best weights.
        path = checkpoints.best_checkpoint(job.folder)
        module.load_state_dict(checkpoints.read_checkpoint(path, network)["state_dict"])
    network = module.network.cpu().eval()
    try:
        finished = training.finish(network)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"interrupted after batch {trainer.global_step}; --resume goes on from {last}."
        ) from None
    # Measured anew on data that took no part in choosing the best checkpoint.
    content = {"name": job.name, **training.card(network)}
    content["training"] = {
        "command": checkpoints.repeatable_command(job.command, settings, trainer.global_step),
        **content["training"],
        "steps": trainer.global_step,
        "timed": settings.timed and trainer.global_step < settings.steps,
        "validation_loss": float(best.best_model_score) if best.best_model_score is not None else None,
        "batch_size": settings.batch_size,
        "learning_rate": settings.learning_rate,
        "seed": settings.seed,
        "minutes": round(module.minutes, 1),
        "core_minutes": round(module.core_minutes, 1),
        "device": _device_name(trainer),
        **finished,
    }
    return model_cards.save(job.folder, network, content)


def _lightning_trainer(
    settings: Settings, folder: Path, callbacks: list[Callback], progress: ProgressReport
) -> lightning.Trainer:
    """Return Lightning's trainer with the loggers and callbacks of one run."""
    if settings.patience:
        callbacks = [
            *callbacks,
            EarlyStopping("val_total", patience=settings.patience, check_on_train_epoch_end=False),
        ]
    if settings.progress:
        callbacks = [*callbacks, progress]
    # Each part of a training that was interrupted has a log of its own.
    parts = len(list(folder.glob("logs/csv*")))
    loggers: list[Logger] = [
        CSVLogger(folder, name="logs", version=f"csv_{parts + 1}" if parts else "csv", flush_logs_every_n_steps=20)
    ]
    if settings.tensorboard:
        try:
            loggers.append(TensorBoardLogger(folder, name="logs", version="tensorboard"))
        except ModuleNotFoundError as exc:
            raise OptionError(
                "needs the package tensorboard",
                option="tensorboard",
                remedy="install it, or read logs/csv/metrics.csv",
            ) from exc
    with _without_remarks():
        return lightning.Trainer(
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
            default_root_dir=folder,
            plugins=[WholeCheckpoints()],
        )


@contextlib.contextmanager
def _without_remarks():
    """Silence Lightning's remarks on its use of other libraries, on schedulers of clusters, and on loading data, which
    do not apply to simulated data on one device."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")
        warnings.filterwarnings("ignore", message=".*(LeafSpec|num_workers|IterableDataset|`srun`).*")
        yield


def _fit_module(trainer, module: NetworkModule, training: Training, settings: Settings, resumed_from: Path | None):
    """Run Lightning's loop on the batches of a training."""

    def loader(make, seed, first, n=None):
        return torch.utils.data.DataLoader(BatchStream(make, seed, first, n), batch_size=None)

    with _without_remarks():
        trainer.fit(
            module,
            loader(training.batch, settings.seed, lambda: trainer.global_step),
            loader(training.held_back, settings.seed + 1_000_000, lambda: 0, settings.validation_batches),
            ckpt_path=resumed_from,
            weights_only=True,
        )


def _device_name(trainer) -> str:
    if trainer.strategy.root_device.type == "cuda":
        return torch.cuda.get_device_name()
    return f"CPU, {torch.get_num_threads()} threads"
