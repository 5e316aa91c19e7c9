"""Folders that dialogs begin in, and names that they propose.  Needs neither wx nor FSLeyes."""

from __future__ import annotations

import os
from pathlib import Path

from .grids import Voxel
from .results_folder import Results

__all__ = ["chosen", "folder_for", "picture_name", "table_name"]

_latest: dict[str, Path] = {}  # by purpose: the folder of the latest file or folder that was chosen


def folder_for(purpose: str, folders: list[Path]) -> str:
    """Return the folder that a dialog begins in: that of the latest choice for a purpose, else the first of some
    folders that exists, else the working one."""
    places = [_latest[purpose]] if purpose in _latest else []
    return str(next((place for place in (*places, *folders) if place.is_dir()), Path(os.getcwd())))


def chosen(purpose: str, path: str) -> str:
    """Remember the choice of a dialog for the next one of that purpose, and return it."""
    _latest[purpose] = Path(path).absolute().parent
    return path


def picture_name(results: Results, name: str) -> str:
    """Return a name for a picture of a metabolite, sum or ratio."""
    return f"{results.folder.resolve().name}_{name.replace('/', '_over_')}.png"


def table_name(results: Results, voxel: Voxel | None) -> str:
    """Return a name for the table of a voxel."""
    place = "" if voxel is None or results.kind == "SVS" else "_" + "_".join(map(str, voxel))
    return f"{results.folder.resolve().name}_voxel{place}.tsv"
