"""Folders and files of results: written whole or not at all, and never over something else."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ..core.errors import OutputError
from . import output

__all__ = ["new_output_folder", "folder_for"]


# What the programs of this package write; a folder that holds anything else is somebody's own.
_OURS = re.compile(
    r"(summary|concentrations|qc|all_parameters|uncertainty|dl_align)\.csv|options\.txt|truth\.json|report[\w-]*\.html"
    r"|(fit_summary|fit_avg|voxel_location)\.png|[\w+-]+\.json|[\w.+-]+\.nii\.gz|[\w-]+\.(tree|npy)"
)


_OUR_FOLDERS = ("basis", "concs", "fit", "flags", "maps", "misc", "nuisance", "qc", "quality", "truth", "uncertainties")


def _is_ours(entry: Path, inside: bool = False) -> bool:
    """Whether a program of this package may have written a file, or a folder and all that is in it."""
    if entry.is_symlink():
        return True
    if entry.is_dir():
        return (inside or entry.name in _OUR_FOLDERS) and all(_is_ours(one, True) for one in entry.iterdir())
    return _OURS.fullmatch(entry.name) is not None


def new_output_folder(path: str | Path, overwrite: bool, inputs: tuple = ()) -> Path:
    """Check that an output folder may be made or replaced; nothing is touched yet.

    ``inputs`` are files and folders that are read: they must not lie in a folder that is replaced.

    Raises
    ------
    OutputError
        If it exists and ``overwrite`` is false, holds an input or something that is not a result of this package, is a
        file or the working directory, or its parent cannot be written.
    """
    path = Path(path)
    if path.exists() and not path.is_dir():
        raise OutputError(f"{path}: is a file, not a folder; choose another --output.")
    if path.is_dir() and any(path.iterdir()) and not overwrite:
        raise OutputError(f"{path}: exists already; choose another --output, or give --overwrite to replace it.")
    real = path.resolve()
    if real == Path.cwd() or real in Path.cwd().parents:
        raise OutputError(f"{path}: is the folder you work in, or above it; choose a new folder for --output.")
    if path.is_dir():
        for given in inputs:
            source = Path(given).resolve()
            if source == real or real in source.parents:
                raise OutputError(f"{path}: holds the input {given} and would be replaced; choose another --output.")
        names = {entry.name for entry in path.iterdir()}
        if (
            names
            and not names & {"options.txt", "summary.csv", "truth.json"}
            and not all(name.endswith(".json") for name in names)
        ):
            raise OutputError(f"{path}: holds {min(names)} and no results of this kind; choose another --output.")
        for entry in sorted(path.iterdir()):
            if not _is_ours(entry):
                raise OutputError(
                    f"{path}: holds {entry.name}, which is not a result of this program; choose another --output."
                )
    parent = path.resolve().parent
    while not parent.exists():
        parent = parent.parent
    if not (parent.is_dir() and os.access(parent, os.W_OK)):
        raise OutputError(f"{path}: cannot be made, {parent} is not writable; choose another --output.")
    return path


@contextlib.contextmanager
def folder_for(path: str | Path, overwrite: bool, inputs: tuple = ()) -> Iterator[Path]:
    """A temporary folder that takes the place of ``path`` when the block ends well, and vanishes when it does not.

    Raises
    ------
    OutputError
        If ``path`` exists and may not be replaced, or cannot be written.
    """
    path = output.new_output_folder(path, overwrite, inputs)
    try:
        path.resolve().parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.resolve().parent))
    except OSError as exc:
        raise OutputError(f"{path}: cannot be made ({exc.strerror}); choose another --output.") from exc
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o777 & ~umask)
        if path.exists():
            # The old results go only once the new ones stand in their place.
            aside = Path(tempfile.mkdtemp(prefix=f".{path.name}-old-", dir=path.resolve().parent))
            os.replace(path, aside / "old")
            os.replace(temporary, path)
            shutil.rmtree(aside)
        else:
            os.replace(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
