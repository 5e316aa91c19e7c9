"""Folders of trainings: checkpoints, and the record of the options a training was begun with.

A folder may come from elsewhere.  Checkpoints are therefore read as weights only: nothing in them is executed.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch

from ..core.errors import DataError, OptionError, OutputError
from ..io.output import write_text
from .settings import Settings

__all__ = [
    "best_checkpoint",
    "check_folder",
    "check_unfinished",
    "fingerprint",
    "last_checkpoint",
    "read_checkpoint",
    "record_start",
    "repeatable_command",
]

_ENTRIES = {"state_dict": dict, "optimizer_states": list, "lr_schedulers": list, "loops": dict, "callbacks": dict}


def last_checkpoint(folder: str | Path) -> Path:
    """Return the path of the checkpoint that a training is resumed from."""
    return Path(folder) / "checkpoints" / "last.ckpt"


def best_checkpoint(folder: str | Path) -> Path:
    """Return the path of the checkpoint with the lowest loss on held-back data."""
    return Path(folder) / "checkpoints" / "best.ckpt"


def check_folder(folder: Path, resume: bool) -> None:
    """Raise an error where a training cannot be begun or resumed in a folder.

    Raises
    ------
    OptionError
        Where there is nothing to resume.
    OutputError
        Where a new training would meet other files.
    """
    # Members of an ensemble, and rounds of active learning, have folders of their own.
    begun = [*folder.glob("training.json"), *folder.glob("members/*/**/training.json")]
    begun += folder.glob("rounds/*/training.json")
    if resume and not begun and not last_checkpoint(folder).is_file():
        raise OptionError(f"{folder} holds no training", option="resume", remedy="leave `resume` out to begin anew")
    # Hidden files are what a killed process had not finished.
    if not resume and folder.is_dir() and any(not entry.name.startswith(".") for entry in folder.iterdir()):
        raise OutputError(f"{folder}: is not empty", remedy="choose another `output`, or go on with `resume`")


def read_checkpoint(path: str | Path, network=None) -> dict:
    """Read a checkpoint of a training without executing anything in it.

    Parameters
    ----------
    path : path
    network : torch.nn.Module, optional
        Network whose weights the checkpoint must hold, by name and shape.

    Returns
    -------
    dict
        Lightning's checkpoint: ``state_dict``, ``global_step``, ``loops`` and others.

    Raises
    ------
    DataError
        If the file holds anything but tensors, numbers and text, or is no checkpoint of such a network.
    """
    remedy = "begin anew in another folder, or copy the checkpoint again"
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as exc:  # torch, pickle and zipfile have a dozen different errors for damaged or unsafe files
        first = (str(exc).strip().splitlines() or [type(exc).__name__])[0].rstrip(" .:")
        raise DataError(f"{path}: cannot be read safely as a checkpoint ({first[:120]})", remedy=remedy) from exc
    good = isinstance(content, dict) and isinstance(content.get("global_step"), int)
    if not good or not all(isinstance(content.get(key), kind) for key, kind in _ENTRIES.items()):
        raise DataError(f"{path}: is no checkpoint of a training", remedy=remedy)
    if network is not None:
        shapes = {f"network.{name}": tuple(value.shape) for name, value in network.state_dict().items()}
        stored = {name: tuple(getattr(value, "shape", ())) for name, value in content["state_dict"].items()}
        if shapes != stored:
            raise DataError(f"{path}: holds the weights of another network", remedy=remedy)
    return content


def fingerprint(array) -> str:
    """Return a short content hash of an array, as complex64: 12 hexadecimal digits."""
    values = torch.as_tensor(array).to(torch.complex64).resolve_conj().contiguous().numpy()
    return hashlib.sha256(values.tobytes()).hexdigest()[:12]


_FINGERPRINTS = ("basis", "spectra", "transients")


def record_start(folder: Path, settings: Settings, start: dict, resume: bool) -> None:
    """Write the options that a training is begun with, or compare them where it is resumed.

    Parameters
    ----------
    folder : path
    settings : Settings
        Batch size, learning rate and its course, seed and protocols are recorded, too.
    start : dict
        Further options, as JSON.
    resume : bool

    Raises
    ------
    DataError
        If the record cannot be read.
    OptionError
        If an option is another than before.
    """
    path = folder / "training.json"
    recorded = ("batch_size", "learning_rate", "rate_schedule", "seed", "n_protocols")
    now = start | {name: getattr(settings, name) for name in recorded}
    now = json.loads(json.dumps(now))
    if not resume:
        folder.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(now, indent=2) + "\n")
        return
    before = _read_start(path)
    for key, value in now.items():
        if key in before and before[key] != value:
            name = {"members": "encoder", "basis": "basis set"}.get(key, key).replace("_", " ")
            was, new = (" ".join(map(str, one)) if isinstance(one, list) else str(one) for one in (before[key], value))
            readable = max(len(was), len(new)) < 60 and key not in _FINGERPRINTS
            words = f"{name} {was}, not {new}" if readable else f"another {name}"
            raise OptionError(
                f"{folder} was begun with {words}",
                option="resume",
                remedy="give the options that it was begun with",
            )


def _read_start(path: Path) -> dict:
    if not path.is_file():
        return {}
    try:
        before = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as exc:
        raise DataError(f"{path}: cannot be read ({exc})", remedy="begin anew in another folder") from exc
    if not isinstance(before, dict):
        raise DataError(f"{path}: is no record of a training", remedy="begin anew in another folder")
    return before


def check_unfinished(folder: Path, settings: Settings, checkpoint: dict) -> None:
    """Raise an error where a finished training is resumed with no steps or minutes more than it had.

    Raises
    ------
    OptionError
    """
    step, minutes = checkpoint["global_step"], checkpoint.get("fsl_mrs_dl_minutes", 0.0)
    if not (folder / "card.json").is_file():
        return  # interrupted after the last batch at the latest: the rest is measuring and writing
    if step >= settings.steps:
        raise OptionError(
            f"{folder} has been trained for {step} steps already", option="resume", remedy="give more `steps`"
        )
    if settings.max_minutes and minutes >= settings.max_minutes:
        raise OptionError(
            f"{folder} has been trained for {minutes:.1f} minutes already",
            option="resume",
            remedy="give more `max_minutes`",
        )


def repeatable_command(command: str, settings: Settings, steps: int) -> str:
    """Return the command that trains the same network anew: with ``steps`` batches in place of a time limit."""
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
