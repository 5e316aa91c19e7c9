"""Training of this package's networks with Lightning, on simulated data or on measured ones; the only module that
imports it.

A training is a :class:`Task` (how batches come about and what the loss is), a network and a folder.  The folder holds
checkpoints and logs while it runs, and the finished model as :mod:`fsl_mrs_dl.networks.model_cards` reads it.  Every
batch has a seed of its own, counted from the training's, so that a run that was interrupted goes on exactly where it
stopped, and the same seed gives the same network on a CPU.
"""

from __future__ import annotations

import hashlib
import json
import logging
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import torch

from ..core.errors import OptionError, OutputError
from ..networks import (
    model_cards,
)
from .batches import _Stream
from .lightning_module import _Clock, _Module, _Progress
from .settings import Settings

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

__all__ = []


def _say(settings: Settings, text: str) -> None:
    if settings.progress:
        print(text, file=sys.stderr, flush=True)


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
        output,
        settings,
        {"network": type(network).__name__} | begun | {"settings": network.settings},
        last if resume else None,
    )
    module = _Module(network, loss, settings)
    make = lambda which, seed, first, n=None: torch.utils.data.DataLoader(  # noqa: E731
        _Stream(which, seed, first, n), batch_size=None
    )
    checkpoints = ModelCheckpoint(
        output / "checkpoints",
        filename="best",
        monitor="val_total",
        save_last=True,
        save_top_k=1,
        enable_version_counter=False,
    )
    callbacks: list[Callback] = [checkpoints, _Clock()]
    if settings.patience:
        callbacks.append(EarlyStopping("val_total", patience=settings.patience, check_on_train_epoch_end=False))
    progress = _Progress(settings.steps)
    if settings.progress:
        callbacks.append(progress)
    # Each part of a training that was interrupted has a log of its own.
    parts = len(list(output.glob("logs/csv*")))
    loggers = [
        CSVLogger(output, name="logs", version=f"csv_{parts + 1}" if parts else "csv", flush_logs_every_n_steps=20)
    ]
    if settings.tensorboard:
        try:
            loggers.append(TensorBoardLogger(output, name="logs", version="tensorboard"))
        except ModuleNotFoundError as exc:
            raise OptionError(
                "--tensorboard needs the package tensorboard; install it, or read logs/csv/metrics.csv."
            ) from exc
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
            raise KeyboardInterrupt(
                f"interrupted at batch {trainer.global_step} of {settings.steps}; {kept}."
            ) from None
        progress.close()
    if checkpoints.best_model_path:
        state = torch.load(checkpoints.best_model_path, map_location="cpu", weights_only=False)["state_dict"]
        module.load_state_dict(state)
    network = module.network.cpu().eval()
    try:
        finished = finish(network) if finish else {}
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"interrupted after batch {trainer.global_step}; --resume goes on from {last}."
        ) from None
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
    return hashlib.sha256(
        torch.as_tensor(array).to(torch.complex64).resolve_conj().contiguous().numpy().tobytes()
    ).hexdigest()[:12]


def _remember(output: Path, settings: Settings, begun: dict, last: Path | None) -> None:
    """Write down what a training is begun with; where one goes on from ``last``, see that it is the same and has
    something left to do.

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
            told = max(len(was), len(new)) < 60 and key not in (
                "basis",
                "spectra",
                "transients",
            )  # these are fingerprints
            words = f"{name} {was}, not {new}" if told else f"another {name}"
            raise OptionError(f"--resume: {output} was begun with {words}; give the options that it was begun with.")
    checkpoint = torch.load(last, map_location="cpu", weights_only=False)
    step, minutes = checkpoint["global_step"], checkpoint.get("fsl_mrs_dl_minutes", 0.0)
    if not (output / "card.json").is_file():
        return  # interrupted after the last batch, at the latest: what was left to do is done
    if step >= settings.steps:
        raise OptionError(f"--resume: {output} has been trained for {step} steps already; give more --steps.")
    if settings.max_minutes and minutes >= settings.max_minutes:
        raise OptionError(
            f"--resume: {output} has been trained for {minutes:.1f} minutes already; give more --max-minutes."
        )


def _device_name(trainer) -> str:
    if trainer.strategy.root_device.type == "cuda":
        return torch.cuda.get_device_name()
    return f"CPU, {torch.get_num_threads()} threads"
