"""The sessions of a plain table of files, one session a line."""

from __future__ import annotations

import csv
import difflib
import io
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from ..core.errors import DataError, OptionError
from .entry import StudySession

__all__ = ["COLUMNS", "GROUP_COLUMN", "check_group_column", "read_cells", "sessions_of_table"]

GROUP_COLUMN = "group"
"""Column with the groups, unless another one is named."""

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

_SIMILAR = 0.75
"""Similarity of a heading to a column that the table lacks, from which it is a slip: 'watr', 'gray', 'Group'."""

_FRACTIONS = ("white", "grey", "csf")
_NOTHING = ("", "n/a", "nan", "none")
_TOLERANCE = 0.1  # as of FSL-MRS, which normalises such fractions

_SUFFIX = re.compile(r"(\.nii(\.gz)?|\.gz|\.(sdat|spar|dat|rda|ima|dcm|raw|txt))$", re.IGNORECASE)
"""Ends of file names that are no part of a session's name."""


def read_cells(path: Path, separator: str | None = None) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """Return the headings of a table, and its lines, each with its number and its cells by heading, as texts.

    Parameters
    ----------
    path : path
    separator : str, optional
        By default that of the first line: a tab, or a semicolon where there is no comma, as spreadsheets write it in
        countries with decimal commas, or a comma.

    Raises
    ------
    DataError
        If it cannot be read, or a line has more cells than there are headings.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
        first = text.lstrip("\r\n").partition("\n")[0]
        if separator is None:
            separator = "\t" if "\t" in first else ";" if ";" in first and "," not in first else ","
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
        rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
    except UnicodeDecodeError as exc:
        raise DataError(f"{path}: is no text in UTF-8 ({exc})", remedy="save it as UTF-8") from exc
    except (OSError, csv.Error) as exc:
        raise DataError(f"{path}: is no table ({exc})") from exc
    # Spreadsheets leave lines of separators where cells were deleted.
    rows = [(number, row) for number, row in rows if any(row)]
    heads = rows[0][1] if rows else []
    for number, row in rows[1:]:
        if any(row[len(heads) :]):
            raise DataError(
                f"{path}, line {number}: has {len(row)} cells, and the first line {len(heads)}",
                remedy="quote cells that hold a separator",
            )
    # Of two columns with one heading the first counts.
    return heads, [(number, dict(reversed(list(zip(heads, row))))) for number, row in rows[1:]]


def check_group_column(path: Path, heads: list[str], column: str) -> None:
    """Raise OptionError if a table lacks a column of groups that was asked for."""
    if column not in heads and column != GROUP_COLUMN:
        raise OptionError(
            f"is no column of {path}",
            option="group_column",
            value=column,
            remedy=f"there are {', '.join(heads)}" if heads else "make the file, or leave the option out",
        )


def _free_columns(path: Path, heads: Sequence[str], group_column: str) -> list[str]:
    """Return the headings of a table that no input is read from, such as those of covariates.

    Raises
    ------
    DataError
        If one of them is nearly the name of a column that the table lacks.
    """
    known = [name for name in COLUMNS if name != GROUP_COLUMN] + [group_column]
    free = [name for name in dict.fromkeys(heads) if name and name not in known]
    lacking = [name for name in known if name not in heads]
    for name in free:
        near = difflib.get_close_matches(name.lower(), lacking, n=1, cutoff=_SIMILAR)
        if near:
            raise DataError(
                f"{path}: has a column '{name}' and none '{near[0]}'",
                remedy=f"call it '{near[0]}', or something less like it if it is no input of the study",
            )
    return free


def sessions_of_table(
    path: str | Path, group_column: str = GROUP_COLUMN, say: Callable[[str], None] | None = None
) -> list[StudySession]:
    """Return the sessions of a table, separated by tabs (``.tsv``), commas or semicolons.

    Relative paths are relative to the table; several segmentations of a session are separated by semicolons.  Without
    names, sessions are called after their data; without participants, each is one of its own.

    Parameters
    ----------
    path : path
    group_column : str
        Column with the groups.
    say : callable, optional
        Called with a line that names the columns that are not read.

    Raises
    ------
    DataError
        If the table cannot be read, has no column ``data`` or one whose name is nearly that of a column, or names a
        session twice.  What is wrong with one line, such as a file that is not there, is the error of its session.
    OptionError
        If it has no such column of groups.
    """
    path = Path(path)
    heads, rows = read_cells(path, "\t" if path.suffix.lower() == ".tsv" else None)
    free = _free_columns(path, heads, group_column)
    if "data" not in heads:
        raise DataError(f"{path}: has no column 'data'", remedy=f"columns that are read: {', '.join(COLUMNS)}")
    check_group_column(path, heads, group_column)
    if free and say is not None:
        say(f"{path}: not read as inputs are the columns {', '.join(free)}.")
    sessions = [_session(path, number, row, group_column) for number, row in rows]
    if not sessions:
        raise DataError(f"{path}: has no lines")
    names = [session.name for session in sessions]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"{path}: has two sessions {twice}", remedy="name them in a column 'name'")
    return sessions


def _session(table: Path, number: int, row: dict, group_column: str) -> StudySession:
    """Return the session of one line; what is wrong with the line is its error."""
    cell = {key: value for key, value in row.items() if value.lower() not in _NOTHING}
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
        name=re.sub(r"[^\w.+-]+", "-", name) or f"line-{number}",
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
        error=f"{table}, line {number}: {'; '.join(errors)}" if errors else "",
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
        white, grey, csf = (float(text.replace(",", ".")) for text in texts)
    except ValueError as exc:
        raise ValueError(f"{', '.join(_FRACTIONS)} are no numbers ({exc})") from exc
    if not (min(white, grey, csf) >= 0 and abs(white + grey + csf - 1) <= _TOLERANCE):
        raise ValueError(f"{', '.join(_FRACTIONS)} are {white:g}, {grey:g}, {csf:g} and do not add up to 1")
    return white, grey, csf
