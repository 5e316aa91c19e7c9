"""The sessions of a plain table of files, one session a line."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from ..core.errors import DataError
from .entry import StudySession

__all__ = ["COLUMNS", "sessions_of_table"]

COLUMNS = (
    "name",
    "data",
    "water",
    "t1",
    "segmentation",
    "white",
    "grey",
    "csf",
    "basis",
    "participant",
    "visit",
    "series",
    "group",
)
"""Columns that are read; only ``data`` is needed, others may stand beside them."""

_FRACTIONS = ("white", "grey", "csf")
_NOTHING = ("", "n/a", "nan", "none")
_TOLERANCE = 0.1  # as of FSL-MRS, which normalises such fractions

_SUFFIX = re.compile(r"(\.nii(\.gz)?|\.gz|\.(sdat|spar|dat|rda|ima|dcm|raw|txt))$", re.IGNORECASE)
"""Ends of file names that are no part of a session's name."""


def sessions_of_table(path: str | Path, group_column: str = "group") -> list[StudySession]:
    """Return the sessions of a table, separated by tabs (``.tsv``) or commas.

    Relative paths are relative to the table; several segmentations of a session are separated by semicolons.  Without
    names, sessions are called after their data; without participants, each is one of its own.

    Parameters
    ----------
    path : path
    group_column : str
        Column with the groups.

    Raises
    ------
    DataError
        If the table cannot be read, has no column ``data``, or names a session twice.  What is wrong with one line,
        such as a file that is not there, is the error of its session.
    """
    path = Path(path)
    try:
        separator = "\t" if path.suffix.lower() == ".tsv" else ","
        frame = pd.read_csv(path, sep=separator, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (OSError, ValueError) as exc:
        raise DataError(f"{path}: is no table ({exc})") from exc
    frame.columns = [str(column).strip() for column in frame.columns]
    if "data" not in frame:
        raise DataError(f"{path}: has no column 'data'", remedy=f"columns that are read: {', '.join(COLUMNS)}")
    sessions = [_session(path, number, dict(row), group_column) for number, row in enumerate(frame.to_dict("records"))]
    if not sessions:
        raise DataError(f"{path}: has no lines")
    names = [session.name for session in sessions]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"{path}: has two sessions {twice}", remedy="name them in a column 'name'")
    return sessions


def _session(table: Path, number: int, row: dict, group_column: str) -> StudySession:
    """Return the session of one line; what is wrong with the line is its error."""
    cell = {key: str(value).strip() for key, value in row.items() if str(value).strip().lower() not in _NOTHING}
    errors = [] if "data" in cell else ["has no data"]

    def file(text: str | None) -> Path | None:
        if text is None:
            return None
        path = Path(text) if Path(text).is_absolute() else table.parent / text
        if not path.exists():
            errors.append(f"there is no file {path}")
        return path

    data = file(cell.get("data")) or Path()
    name = cell.get("name") or _SUFFIX.sub("", data.name)
    segmentations = [file(part.strip()) for part in cell.get("segmentation", "").split(";") if part.strip()]
    try:
        fractions = _fractions(cell)
    except ValueError as exc:
        fractions = None
        errors.append(str(exc))
    return StudySession(
        name=re.sub(r"[^\w.+-]+", "-", name) or f"line-{number + 2}",
        data=data,
        water=file(cell.get("water")),
        t1=file(cell.get("t1")),
        segmentations=tuple(path for path in segmentations if path is not None),
        fractions=fractions,
        basis=file(cell.get("basis")),
        participant=cell.get("participant", name),
        visit=cell.get("visit", ""),
        series=cell.get("series", ""),
        group=cell.get(group_column, ""),
        error=f"{table}, line {number + 2}: {'; '.join(errors)}" if errors else "",
    )


def _fractions(cell: dict[str, str]) -> tuple[float, float, float] | None:
    """Return white matter, grey matter and CSF of a line, or None where it has none of them.

    Raises
    ------
    ValueError
        If they are no fractions.
    """
    texts = [cell.get(key, "") for key in _FRACTIONS]
    if not any(texts):
        return None
    if not all(texts):
        raise ValueError(f"has only some of {', '.join(_FRACTIONS)}")
    try:
        white, grey, csf = (float(text) for text in texts)
    except ValueError as exc:
        raise ValueError(f"{', '.join(_FRACTIONS)} are no numbers ({exc})") from exc
    if not (min(white, grey, csf) >= 0 and abs(white + grey + csf - 1) <= _TOLERANCE):
        raise ValueError(f"{', '.join(_FRACTIONS)} are {white:g}, {grey:g}, {csf:g} and do not add up to 1")
    return white, grey, csf
