"""The table of one voxel: metabolites with their uncertainties and remarks, as text; and the tables of a single voxel
that fits write.  Needs neither wx nor torch."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path

from fsl_mrs_dl.core.errors import DataError

__all__ = ["VoxelTable", "as_text", "metabolite_rows", "read_tables", "with_sd"]

# What a table shows: title, unit, column, column of its standard deviation.  "{ref}" is the internal reference.
_COLUMNS = (
    ("Conc.", "a.u.", "conc", "crlb_sd"),
    ("CRLB", "%", "crlb_pct", None),
    ("SD", "%", "in_vivo_pct", None),
    ("/ {ref}", "", "ratio", "ratio_sd"),
    ("Molarity", "mM", "molarity", "molarity_sd"),
    ("Molality", "mmol/kg", "molality", "molality_sd"),
    ("Posterior / {ref}", "", "posterior_ratio", "posterior_ratio_sd"),
    ("Prior", "%", "prior_share", None),
    # Remarks stand here.
    ("Posterior", "a.u.", "posterior_mean", "posterior_sd"),
    ("Network", "a.u.", "network", "epistemic_sd"),
    ("SNR", "", "snr", None),
    ("FWHM", "Hz", "fwhm", None),
)
# The least important columns stand behind the remarks, which would be out of sight otherwise.
_AFTER_REMARKS = ("posterior_mean", "network", "snr", "fwhm")

_REMARKS = {"at_zero": "held at zero", "mostly_prior": "mostly prior", "prior_conflict": "data and prior disagree"}

_DOUBTFUL_SD = 50  # percent


@dataclass(frozen=True)
class VoxelTable:
    """Table of a voxel.

    Attributes
    ----------
    state : str
        One line on the voxel as a whole.
    titles : list of str
        Titles of the columns, units included.
    rows : list of list of str
        Cells of every metabolite.
    doubtful : list of bool
        Whether a row should not be used as it is.
    good : bool
        Whether the fit of the voxel is free of remarks.
    """

    state: str
    titles: list[str]
    rows: list[list[str]]
    doubtful: list[bool]
    good: bool = True

    @classmethod
    def empty(cls, state: str) -> VoxelTable:
        """Return the table of a voxel without a fit."""
        return cls(state, [], [], [], False)


def metabolite_rows(
    values: dict[str, dict[str, float]], reference: str
) -> tuple[list[str], list[list[str]], list[bool]]:
    """Return titles, rows and doubts of a table.

    Parameters
    ----------
    values : dict
        Numbers by metabolite and column of uncertainty.csv.
    reference : str
        Name of the internal reference.

    Returns
    -------
    titles : list of str
    rows : list of list of str
    doubtful : list of bool
        See :class:`VoxelTable`.
    """
    columns = [column for column in _COLUMNS if any(column[2] in row for row in values.values())]
    titles = ["Metabolite"]
    for title, unit, _, sd in columns:
        # That numbers behind "±" are SDs is said once, to save width.
        spread = len(titles) == 1 and any({sd, "in_vivo_sd"} & set(row) for row in values.values())
        titles.append(title.format(ref=reference) + (" ± SD" if spread else "") + (f" ({unit})" if unit else ""))
    n_first = sum(column[2] not in _AFTER_REMARKS for column in columns)
    titles.insert(n_first + 1, "Remarks")
    rows, doubtful = [], []
    for metab, row in values.items():
        remarks = [text for column, text in _REMARKS.items() if row.get(column, 0) > 0.5]
        doubtful.append(bool(remarks) or row.get("crlb_pct", row.get("in_vivo_pct", 0)) > _DOUBTFUL_SD)
        cells = [_cell(row, column, sd) for _, _, column, sd in columns]
        rows.append([metab, *cells[:n_first], ", ".join(remarks), *cells[n_first:]])
    return titles, rows, doubtful


def _cell(values: dict[str, float], column: str, sd: str | None) -> str:
    value = values.get(column, math.nan)
    if math.isnan(value):
        return "–"
    if column in ("crlb_pct", "in_vivo_pct", "prior_share"):
        return f"{value:.0f}" if value < 999 else "> 999"
    if column in ("snr", "fwhm"):
        return f"{value:.1f}"
    spread = math.nan if sd is None else values.get(sd, math.nan)
    if sd == "crlb_sd":
        spread = values.get("in_vivo_sd", spread)
    return with_sd(value, spread)


def with_sd(value: float, sd: float) -> str:
    """Return a value and its standard deviation as a text with two digits of the latter; the value alone where there is
    none."""
    if not math.isfinite(sd) or sd <= 0:
        return _rounded(value, abs(value))
    return f"{_rounded(value, sd)} ± {_rounded(sd, sd)}"


def _rounded(value: float, scale: float) -> str:
    """Return a number with two digits of its scale, very large and very small ones with an exponent."""
    if scale <= 0 or not math.isfinite(value):
        return f"{value:.3g}"
    digits = 1 - math.floor(math.log10(scale))
    if digits > 6 or digits < -3:
        return f"{value:.3g}"
    return f"{value:.{max(digits, 0)}f}"


def as_text(folder: str, state: str, titles: list[str], rows: list[list[str]]) -> str:
    """Return a table as tab-separated text; folder and state of the voxel stand above it, after ``#``."""
    lines = [f"# {folder}", f"# {state}", "\t".join(titles), *("\t".join(row) for row in rows)]
    return "\n".join(lines) + "\n"


# -- reading -----------------------------------------------------------------------------------------------------------


def read_tables(folder: Path) -> tuple[dict[str, dict[str, float]], str]:
    """Return the numbers in the tables of a single voxel, by metabolite and column, and a note on omitted spectra.

    Raises
    ------
    DataError
        If a table cannot be read.
    """
    table: dict[str, dict[str, float]] = {}
    note = _read_uncertainty(folder, table)
    _read_concentrations(folder, table)
    _read_summary(folder, table)
    for values in table.values():
        if "in_vivo_sd" in values:
            # FSL-MRS's tables head the same numbers CRLB.
            for name in ("crlb_sd", "crlb_pct"):
                values.pop(name, None)
        if values.get("conc") == 0:
            values.setdefault("at_zero", 1.0)
    return table, note


def _add(table: dict[str, dict[str, float]], metab: str, column: str, text: str) -> None:
    """Add a number that an earlier table does not have."""
    value = _number(text)
    if not math.isnan(value):
        table.setdefault(metab, {}).setdefault(column, value)


def _of_first_spectrum(head: list[str], rows: list[list[str]], label: str) -> tuple[list[str], list[list[str]]]:
    """Return headings and rows from the column of metabolites on, a row per metabolite: in tables of a series, counters
    and values of the header stand before it, and there is a row per spectrum."""
    at = head.index(label) if label in head else 0
    first = {row[at]: row[at:] for row in reversed(rows) if len(row) > at}
    names = dict.fromkeys(row[at] for row in rows if len(row) > at)
    return head[at:], [first[name] for name in names]


def _read_uncertainty(folder: Path, table: dict[str, dict[str, float]]) -> str:
    head, *rows = _read_csv(folder / "uncertainty.csv") or [[]]
    if "Metab" not in head:
        return ""
    n_rows = len(rows)
    head, rows = _of_first_spectrum(head, rows, "Metab")
    for row in rows:
        for column, text in zip(head, row):
            _add(table, row[0], column, text)
    return f"the first of {n_rows // len(rows)} spectra" if n_rows > len(rows) else ""


def _read_concentrations(folder: Path, table: dict[str, dict[str, float]]) -> None:
    # Two lines of headings: mean or std, and the scaling.
    lines = _read_csv(folder / "concentrations.csv")
    if len(lines) < 3:
        return
    kinds, rows = _of_first_spectrum(lines[0], lines[2:], "Metabs")
    scalings = lines[1][len(lines[0]) - len(kinds) :]
    for row in rows:
        for kind, scaling, text in zip(kinds[1:], scalings[1:], row[1:]):
            name = {"raw": "conc", "internal": "ratio"}.get(scaling, scaling)
            ending = "" if kind.startswith("mean") else "_sd"
            _add(table, row[0], {"conc_sd": "crlb_sd"}.get(name + ending, name + ending), text)


def _read_summary(folder: Path, table: dict[str, dict[str, float]]) -> None:
    head, *rows = _read_csv(folder / "summary.csv") or [[]]
    head, rows = _of_first_spectrum(head, rows, "Metab")
    for row in rows:
        for column, text in zip(head[1:], row[1:]):
            name = {"%CRLB": "crlb_pct", "SNR": "snr", "FWHM": "fwhm"}.get(column)
            if name is None and column.startswith("/"):
                name = "ratio_sd" if column.endswith(" CRLB") else "ratio"
            if name and (not table or row[0] in table or name != "snr"):
                _add(table, row[0], name, text)


def _read_csv(path: Path) -> list[list[str]]:
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            return [row for row in csv.reader(file) if row]
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError, csv.Error) as exc:
        raise DataError(f"{path}: cannot be read ({exc}).") from exc


def _number(text: str) -> float:
    if text in ("True", "False"):
        return float(text == "True")
    try:
        return float(text)
    except ValueError:
        return math.nan
