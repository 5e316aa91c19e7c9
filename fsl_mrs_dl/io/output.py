"""Folders and files of results: written whole or not at all, and never over something else."""

from __future__ import annotations

import contextlib
import fcntl
import glob
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ..core.errors import OutputError

__all__ = ["check_writable", "folder_for", "new_file", "new_output_folder", "put_in_place", "whole_file", "write_text"]

# Names that programs of this package write; a folder with any other file is not replaced.
_RESULT_FILES = re.compile(
    r"(summary|concentrations|concentration_budget|quantification_info|edited|edited_quality|qc|all_parameters|uncertainty|mrsinmrs|dl_align[\w.+-]*)\.csv"
    r"|(dyn_results|dyn_cov|init_results|free_parameters|mapped_parameters|parameters_tidy|sum_concentrations|derived|comparison)\.csv"
    r"|dyn_(parameters|spectra|residuals)\.png"
    r"|(options|messages)\.txt|truth\.json|methods\.md|references\.bib|[\w.+-]+\.table"
    r"|report[\w.+-]*\.html|(fit_summary|fit_avg|edited_summary|series|voxel_location)\.png|[\w+-]+\.json|[\w.+-]+\.nii\.gz|data\.nii|[\w-]+\.(tree|npy)"
)
_RESULT_FOLDERS = (
    *("A", "B", "C", "D", "on", "off"),  # edit conditions of a basis set
    "basis",
    "concs",
    "configurations",
    "edited",
    "fit",
    "flags",
    "maps",
    "misc",
    "nuisance",
    "qc",
    "quality",
    "truth",
    "uncertainties",
)
_ANOTHER_FOLDER = "choose another `output`"


def put_in_place(temporary: str | Path, path: Path) -> None:
    """Move a finished temporary file, private to its owner until then, to its place and give it the ordinary mode."""
    os.chmod(temporary, 0o666 & ~_umask())
    os.replace(temporary, path)


def _hidden(path: Path) -> str:
    """Return the beginning of the names of temporary files and folders of ``path``, which stand beside it."""
    return f".{path.name}-part-"


@contextlib.contextmanager
def _in_use(temporary: Path) -> Iterator[None]:
    """Mark a temporary file or folder as one that a running process writes; a process that is killed loses its mark."""
    handle = os.open(temporary, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # not every file system has locks
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)


def _remove_remains(path: Path) -> None:
    """Remove temporary files and folders of ``path`` whose processes were killed: those without a mark."""
    for remains in path.resolve().parent.glob(f"{glob.escape(_hidden(path))}*"):
        try:
            handle = os.open(remains, os.O_RDONLY)
        except OSError:
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if remains.is_dir():
                shutil.rmtree(remains, ignore_errors=True)
            else:
                remains.unlink(missing_ok=True)
        except OSError:
            continue
        finally:
            os.close(handle)


@contextlib.contextmanager
def whole_file(path: Path, suffix: str = "") -> Iterator[Path]:
    """Give a temporary file that takes the place of ``path`` when the block ends well, and is removed otherwise.

    Parameters
    ----------
    path : path
        File to write; its folder exists.
    suffix : str
        End of the temporary file's name, for writers that go by it.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    try:
        handle, name = tempfile.mkstemp(suffix=suffix, prefix=_hidden(path), dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        try:
            with _in_use(temporary):
                yield temporary
                put_in_place(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        _remove_remains(path)
    except OSError as exc:
        raise OutputError(f"{path}: cannot be written ({exc.strerror})", remedy=_ANOTHER_FOLDER) from exc


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def new_file(path: Path, overwrite: bool) -> Path:
    """Return the path of a file that may be written.

    Raises
    ------
    OutputError
        If it exists and ``overwrite`` is false.
    """
    if path.exists() and not overwrite:
        raise OutputError(
            f"{path}: exists already",
            remedy="choose another `output` or `filename`, or give `overwrite` to replace it",
        )
    return path


def new_output_folder(path: str | Path, overwrite: bool, inputs: tuple = ()) -> Path:
    """Return the path of a folder that may be made or replaced; nothing is touched yet.

    Parameters
    ----------
    path : path
    overwrite : bool
        Whether a folder of results may be replaced.
    inputs : tuple of path
        Files and folders that are read; they must not lie in a folder that is replaced.

    Raises
    ------
    OutputError
        If the folder exists and ``overwrite`` is false, holds an input or something that is not a result of this
        package, is a file or the working directory, or its parent cannot be written.
    """
    path = Path(path)
    if path.exists() and not path.is_dir():
        raise OutputError(f"{path}: is a file, not a folder", remedy=_ANOTHER_FOLDER)
    if path.is_dir() and any(path.iterdir()) and not overwrite:
        raise OutputError(
            f"{path}: exists already", remedy="choose another `output`, or give `overwrite` to replace it"
        )
    real = path.resolve()
    if real == Path.cwd() or real in Path.cwd().parents:
        raise OutputError(f"{path}: is the folder you work in, or above it", remedy="choose a new folder for `output`")
    if path.is_dir():
        _check_replaceable(path, inputs)
    parent = real.parent
    while not parent.exists():
        parent = parent.parent
    _check_writable(path, parent)
    if path.is_dir():
        _check_writable(path, real)
    return path


def check_writable(path: str | Path) -> None:
    """Raise OutputError unless files can be written into a folder, or it can be made."""
    folder = Path(path).resolve()
    while not folder.exists():
        folder = folder.parent
    _check_writable(Path(path), folder)


def _check_writable(path: Path, folder: Path) -> None:
    """Raise OutputError unless a file can be made in an existing folder; permissions do not tell of every one."""
    reason: str | None = "it is no folder"
    if folder.is_dir():
        try:
            handle, name = tempfile.mkstemp(prefix=_hidden(path), dir=folder)
            os.close(handle)
            os.unlink(name)
            return
        except OSError as exc:
            reason = exc.strerror
    raise OutputError(f"{path}: cannot be made, {folder} is not writable ({reason})", remedy=_ANOTHER_FOLDER)


@contextlib.contextmanager
def folder_for(path: str | Path, overwrite: bool, inputs: tuple = ()) -> Iterator[Path]:
    """Give a temporary folder that takes the place of ``path`` when the block ends well, and is removed otherwise.

    Raises
    ------
    OutputError
        If ``path`` exists and may not be replaced, or cannot be written.
    """
    path = new_output_folder(path, overwrite, inputs)
    try:
        path.resolve().parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=_hidden(path), dir=path.resolve().parent))
    except OSError as exc:
        raise OutputError(f"{path}: cannot be made ({exc.strerror})", remedy=_ANOTHER_FOLDER) from exc
    try:
        with _in_use(temporary):
            yield temporary
            temporary.chmod(0o777 & ~_umask())
            if path.exists():
                # The old results are removed only once the new ones stand in their place.
                aside = Path(tempfile.mkdtemp(prefix=f"{_hidden(path)}old-", dir=path.resolve().parent))
                with _in_use(aside):
                    os.replace(path, aside / "old")
                    os.replace(temporary, path)
                    shutil.rmtree(aside)
            else:
                os.replace(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    _remove_remains(path)


def _check_replaceable(path: Path, inputs: tuple) -> None:
    """Raise OutputError if a folder holds an input, or anything but results of this package."""
    real = path.resolve()
    for source in inputs:
        resolved = Path(source).resolve()
        if resolved == real or real in resolved.parents:
            raise OutputError(f"{path}: holds the input {source} and would be replaced", remedy=_ANOTHER_FOLDER)
    names = {entry.name for entry in path.iterdir()}
    has_results = names & {"options.txt", "summary.csv", "truth.json", "edit.json"}
    if names and not has_results and not all(name.endswith(".json") for name in names):
        raise OutputError(f"{path}: holds {min(names)} and no results of this kind", remedy=_ANOTHER_FOLDER)
    for entry in sorted(path.iterdir()):
        if not _is_result(entry):
            raise OutputError(
                f"{path}: holds {entry.name}, which is not a result of this program", remedy=_ANOTHER_FOLDER
            )


def _is_result(entry: Path, inside: bool = False) -> bool:
    """Tell whether a program of this package may have written a file, or a folder and everything in it."""
    if entry.is_symlink():
        return True
    if entry.is_dir():
        return (inside or entry.name in _RESULT_FOLDERS) and all(_is_result(one, True) for one in entry.iterdir())
    # A spreadsheet in LCModel's layout stands beside its table.
    beside_table = entry.suffix == ".csv" and any(entry.parent.glob(f"{glob.escape(entry.stem)}*.table"))
    return beside_table or _RESULT_FILES.fullmatch(entry.name) is not None


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask
