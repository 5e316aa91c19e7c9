"""A machine without FSL-MRS, with a folder of its own for launchers, and the words of a fit of the bundled example."""

from __future__ import annotations

import importlib.util
from importlib import resources
from pathlib import Path

from fsl_mrs_dl.fslmrs import launchers

EXAMPLE = Path(str(resources.files("fsl_mrs_dl").joinpath("data/example")))
FIT = [
    "--data",
    str(EXAMPLE / "svs.nii.gz"),
    "--basis",
    str(EXAMPLE / "basis"),
    "--average",
    "DIM_DYN",
    "--baseline",
    "off",
]


def prepare(folder: Path, monkeypatch) -> Path:
    """Make an empty folder of scripts, alone on the path, on a machine without FSL-MRS, and return it."""
    folder.mkdir()
    monkeypatch.setattr(launchers, "_folder", lambda: folder)
    monkeypatch.setenv("PATH", str(folder))
    without_fsl_mrs(monkeypatch)
    return folder


def without_fsl_mrs(monkeypatch) -> None:
    """Let Python find no FSL-MRS."""
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "fsl_mrs" else find(name, *more)
    )


def foreign(path: Path, mode: int = 0o755) -> Path:
    """Write a script of another program, and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\necho theirs\n")
    path.chmod(mode)
    return path
