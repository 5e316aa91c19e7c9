"""Files of the scratch folder: JSON and arrays, written whole or not at all, and read without unpickling anything."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from ..core.errors import OutputError
from ..fitting.filtered_band import Band
from ..fitting.in_vivo.prepared import plain_prepared, restored_prepared
from ..fitting.serialise import Plain, plain_prior, restored_prior
from ..physics.nuisance import NuisanceSpace
from ..results.layout import QUANTITIES
from .job import Job
from .nuisance import L2Removal

__all__ = ["save_job", "load_plan", "save_arrays", "save_array", "load_arrays", "load_array"]

JOB, ARRAYS = "job.json", "job.npz"
PARTS = ("prior", "in_vivo", "nuisance", "removal")
_FORMAT = 7, *(one.key for one in QUANTITIES)
"""Changes with what is kept of a job, and with the maps that chunks hold values of."""


def save_job(job: Job) -> None:
    """Keep what :func:`load_plan` reads: everything that was decided before the first chunk.

    Raises
    ------
    OutputError
    """
    parts = {} if job.prior is None else {"prior": plain_prior(job.prior)}
    parts |= {} if job.in_vivo is None else {"in_vivo": plain_prepared(job.in_vivo)}
    parts |= {} if job.nuisance is None else {"nuisance": Plain("{}", vars(job.nuisance))}
    parts |= {} if job.removal is None else {"removal": Plain("{}", vars(job.removal))}
    arrays = {"index": job.index, "pilot": job.pilot}
    for part, plain in parts.items():
        arrays |= {f"{part}.{name}": values for name, values in plain.arrays.items()}
    about = {
        "format": list(_FORMAT),
        "signature": json.loads(job.signature),
        "fid_scale": job.fid_scale,
        "conjugated": job.conjugated,
        "band": [job.band.low, job.band.high],
        **{part: json.loads(parts[part].text) if part in parts else None for part in PARTS},
    }
    try:
        save_arrays(job.scratch / ARRAYS, arrays)
        # The last file: a job is there as soon as this one is.
        with _complete_file(job.scratch / JOB) as file:
            file.write(json.dumps(about, indent=1).encode())
    except OSError as exc:
        raise OutputError(
            f"{job.scratch}: cannot be written ({exc.strerror or exc})", remedy="choose another `output`"
        ) from exc


def load_plan(scratch: Path) -> tuple[dict, dict]:
    """Return the signature of the job in a scratch folder, and the fields of :class:`Job` that it has decided.

    Raises
    ------
    FileNotFoundError
        If there is none.
    ValueError
        If the folder holds no job of this program.
    """
    about = json.loads((scratch / JOB).read_text(encoding="utf-8"))
    try:
        if about["format"] != list(_FORMAT):
            raise ValueError(f"{JOB} is of another version of the program")
        with _arrays(scratch / ARRAYS) as stored:
            arrays = {name: stored[name] for name in stored.files}
        index, pilot = arrays.pop("index"), arrays.pop("pilot")
        for name, values in (("index", index), ("pilot", pilot)):
            if values.ndim != 1 or values.dtype.kind not in "iu" or not len(values) or values.min() < 0:
                raise ValueError(f"{ARRAYS} holds no voxels under '{name}'")
        if (about["signature"]["spectral_model"] == "in-vivo") != (about["in_vivo"] is not None):
            raise ValueError(f"{JOB} holds another spectral model than it says")

        def restored(part: str, restore: Callable):
            if about[part] is None:
                return None
            begin = f"{part}."
            own = {name.removeprefix(begin): values for name, values in arrays.items() if name.startswith(begin)}
            return restore(Plain(json.dumps(about[part]), own))

        return dict(about["signature"]), {
            "index": index,
            "pilot": pilot,
            "fid_scale": float(about["fid_scale"]),
            "conjugated": bool(about["conjugated"]),
            "band": Band(*map(float, about["band"])),
            "prior": restored("prior", restored_prior),
            "in_vivo": restored("in_vivo", restored_prepared),
            "nuisance": restored("nuisance", lambda plain: NuisanceSpace(**plain.arrays)),
            "removal": restored("removal", lambda plain: L2Removal(**plain.arrays)),
        }
    except (KeyError, TypeError, AttributeError) as exc:
        raise ValueError(f"{JOB} is not as this program writes it: {exc}") from exc


@contextmanager
def _complete_file(path: Path) -> Iterator:
    """Open a file that takes its name only when it is complete."""
    temporary = path.with_name(f"{path.stem}-{os.getpid()}.part")
    try:
        with temporary.open("wb") as file:
            yield file
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def save_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write arrays by name; slashes in names are stored as '|'."""
    arrays = {name.replace("/", "|"): np.asarray(values) for name, values in arrays.items()}
    objects = [name for name, values in arrays.items() if values.dtype.hasobject]
    if objects:
        raise TypeError(f"{', '.join(objects)}: objects are not stored, arrays of numbers only")
    with _complete_file(path) as file:
        np.savez(file, allow_pickle=False, **arrays)


def save_array(path: Path, values: np.ndarray) -> None:
    """Write one array, which can then be read in parts."""
    with _complete_file(path) as file:
        np.save(file, values, allow_pickle=False)


@contextmanager
def _arrays(path: Path) -> Iterator:
    """Open a file of arrays; whatever else it is, is a ValueError."""
    try:
        if not zipfile.is_zipfile(path):  # NumPy would take it for a pickle
            raise ValueError(f"{path.name} is no file of arrays")
        with np.load(path, allow_pickle=False) as stored:
            yield stored
    except (OSError, ValueError):
        raise
    except Exception as exc:  # whatever a damaged archive makes NumPy and zipfile raise
        raise ValueError(f"{path.name} is damaged: {exc}") from exc


def load_arrays(path: Path, names: list[str] | None = None) -> dict[str, np.ndarray]:
    """Return the arrays of a file by name, or some of them.

    Raises
    ------
    OutputError
        If it holds something else than arrays of numbers, or one is missing.
    """
    try:
        with _arrays(path) as stored:
            there = {name.replace("|", "/"): name for name in stored.files}
            missing = [name for name in names or () if name not in there]
            if missing:
                raise ValueError(f"has no {', '.join(missing)}")
            return {name: stored[there[name]] for name in (there if names is None else names)}
    except (ValueError, OSError) as exc:
        raise _unreadable(path, exc) from exc


def load_array(path: Path) -> np.ndarray:
    """Return the array of a file, read from disk as it is used.

    Raises
    ------
    OutputError
        If it holds something else than one array of numbers.
    """
    try:
        with path.open("rb") as file:
            if file.read(6) != b"\x93NUMPY":
                raise ValueError(f"{path.name} is no array")
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError) as exc:
        raise _unreadable(path, exc) from exc


def _unreadable(path: Path, exc: Exception) -> OutputError:
    reason = str(exc).splitlines()[0].rstrip(".") if str(exc) else type(exc).__name__
    return OutputError(
        f"{path}: cannot be read ({reason})", remedy=f"delete {path.stem}.* there and go on with `resume`"
    )
