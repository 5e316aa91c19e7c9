"""Results in the layout of LCModel's ``.table`` and ``.csv`` files, for scripts that read those.

The layout is that of LCModel 6.3 (``FINOUT`` of its source): ``$$CONC`` with concentration, percent SD, ratio and name;
``$$MISC`` with line width, signal-to-noise ratio, shift and phases; ``$$DIAG`` with warnings; ``$$INPU`` with the axes.
Where LCModel and this package define a figure differently, LCModel's definition is computed.  Its lines on
regularisation and spline knots, which have no counterpart, are left out.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from .. import __version__
from ..core import units
from ..fitting.verdict import UNUSABLE
from .doubts import quality_line
from .fit_results import FitResults

__all__ = ["lcmodel_csv", "lcmodel_table", "write_lcmodel_files"]

_SUMS = (
    "GPC+PCh",
    "GPC+Cho",
    "PCh+Cho",
    "Cho+GPC+PCh",
    "NAA+NAAG",
    "Ins+Glyc",
    "mI+Glyc",
    "Ins+Gly",
    "mI+Gly",
    "Cr+PCr",
    "Cre+PCr",
    "Glu+Gln",
)
"""Sums that LCModel reports (CHCOMB)."""


def write_lcmodel_files(folder: Path, results: FitResults, name: str, *, title: str = "") -> list[Path]:
    """Write ``NAME.csv`` with a row for every fitted spectrum, and ``NAME.table``, one for each of several.

    Parameters
    ----------
    folder : path
    results : FitResults
    name : str
        Name of the files, without ending; tables of several spectra are ``NAME_1.table`` and so on.
    title : str
        Second line of the tables.

    Returns
    -------
    list of Path
    """
    results = _with_lcmodel_sums(results)
    rows = np.flatnonzero(results.fit.fitted)
    several = len(results.fit.params) > 1
    paths = [folder / (f"{name}_{row + 1}.table" if several else f"{name}.table") for row in rows]
    for path, row in zip(paths, rows):
        path.write_text(lcmodel_table(results, int(row), title=title), encoding="utf-8")
    paths.append(folder / f"{name}.csv")
    paths[-1].write_text(lcmodel_csv(results), encoding="utf-8")
    return paths


def _with_lcmodel_sums(results: FitResults) -> FitResults:
    """Return results with LCModel's sums of the metabolites that were fitted."""
    names = set(results.fit.names)
    sums = [total for total in _SUMS if set(total.split("+")) <= names and _members(total) not in _all(results.sums)]
    # With free choline LCModel has only the sum of all three.
    if "Cho+GPC+PCh" in sums:
        sums = [total for total in sums if total not in ("GPC+PCh", "GPC+Cho", "PCh+Cho")]
    return replace(results, combine=(*results.combine, *sums))


def _members(total: str) -> frozenset[str]:
    return frozenset(total.split("+"))


def _all(sums: Sequence[str]) -> set[frozenset[str]]:
    return {_members(total) for total in sums}


def lcmodel_table(results: FitResults, row: int = 0, *, title: str = "") -> str:
    """Return the content of a ``.table`` file for one spectrum."""
    conc, percent, ratio = (values[row] for values in _values(results))
    lines = [f" FSL-MRS-DL {__version__}, in the layout of LCModel", f" {title}", ""]
    lines.append(f"$$CONC{len(results.names) + 1:3d} lines in following concentration table = NCONC+1")
    # Names longer than six letters are cut, as LCModel does.
    lines.append(f"    Conc.  %SD /{_reference(results)[:6]:<6s}  Metabolite")
    for values in zip(conc, percent, ratio, results.names):
        lines.append(f" {_number(values[0], 2)}{values[1]:4d}%{_number(values[2], 1)} {values[3]}")
    misc = _misc(results, row)
    lines += ["", f"$$MISC{len(misc):3d} lines in following misc. output table", *(f" {line}" for line in misc)]
    diagnostics = _diagnostics(results, row)
    lines += ["", f"$$DIAG{len(diagnostics):3d} lines in following diagnostic table:", *diagnostics]
    changes = _input(results)
    lines += ["", f"$$INPU{len(changes):3d} lines in following table of input changes:", *changes]
    return "\n".join(lines) + "\n"


def lcmodel_csv(results: FitResults) -> str:
    """Return the content of LCModel's spreadsheet: a row for every fitted spectrum, three columns for every name.

    Row and column count from one: of a grid, y and x; otherwise the number of the spectrum, and one.
    """
    reference = _reference(results)
    names = [name[:13] for name in results.names]
    head = ["Row", "Col"] + [text for name in names for text in (name, f"{name} %SD", f"{name}/{reference}")]
    lines = [", ".join(head)]
    conc, percent, ratio = _values(results)
    for row in np.flatnonzero(results.fit.fitted):
        place = _place(results, int(row))
        cells = [f"{place[0]:3d}", f"{place[1]:3d}"]
        for values in zip(conc[row], percent[row], ratio[row]):
            cells += [_number(values[0], 2), f"{values[1]:4d}", _number(values[2], 1)]
        lines.append(", ".join(cells))
    return "\n".join(lines) + "\n"


def _reference(results: FitResults) -> str:
    return results.reference_name if results.reference is not None else "1"


def _values(results: FitResults) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return concentrations, percent SDs as integers, and ratios, ``(n, len(names))`` each.

    Concentrations are in mM where they were scaled by water, of sums that were not reported as the sums of their parts.
    Lipids and macromolecules, of which no number of protons is known, are on the same scale, as in LCModel: theirs is
    the ratio times the concentration of the reference.
    """
    conc = np.nan_to_num(results.concentrations[0])
    percent = np.rint(np.nan_to_num(results.percent, nan=999.0)).astype(int)
    ratio = conc
    if results.reference is not None:
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = conc / results.reference[:, None]
        # A ratio to a reference of zero has no value.
        ratio = np.where(np.isfinite(ratio), ratio, 0.0)
    absolute = results.absolute
    if absolute is not None:
        parts = {name: absolute.molarity[:, column] for column, name in enumerate(absolute.names)}
        columns = [
            parts[name] if name in parts else sum(parts[part] for part in name.split("+")) for name in results.names
        ]
        scaled = np.stack(columns, 1)
        # One factor of a spectrum makes mM of all that have any.
        with np.errstate(divide="ignore", invalid="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # of a spectrum without a scaling
            factors = np.where(conc > 0, scaled / conc, np.nan)
            factor = np.nanmedian(np.where(np.isfinite(factors), factors, np.nan), 1)[:, None]
        conc = np.nan_to_num(np.where(np.isfinite(scaled), scaled, conc * factor))
    return conc, percent, ratio


def _number(value: float, digits: int) -> str:
    """Return a number in eight columns as LCModel writes it, with an exponent where it is small or large."""
    with_exponent = value != 0 and not 0.0995 <= abs(value) <= 999.999
    return f"{value:8.{digits}E}" if with_exponent else f"{value:8.3f}"


def _place(results: FitResults, row: int) -> tuple[int, int]:
    """Return row and column of a spectrum, from one."""
    if results.data is None or max(results.data.fids.shape[:3]) == 1:
        return row + 1, 1
    shape = results.data.fids.shape
    x, y = np.unravel_index(row, (*shape[:3], *shape[4:]))[:2]
    return int(y) + 1, int(x) + 1


def _misc(results: FitResults, row: int) -> list[str]:
    """Return line width, signal-to-noise ratio, shift and phases, as LCModel defines them.

    The shift is that to higher ppm, and the phases those in degrees, which correct the data: LCModel's signals are the
    conjugate of those in memory, so that the signs of phases are the opposite of the fit's.
    """
    fit, model = results.fit, results.fit.model
    first, last = model.window
    full, baseline = (fit.spectra(what, slice(row, row + 1))[0, first:last].real for what in ("full", "baseline"))
    data = units.fid_to_spec(fit.fids[row])[first:last].real
    residual = np.sqrt(np.mean((data - full) ** 2))
    snr = np.abs(full - baseline).max() / (2 * residual) if residual > 0 else -1
    shift_hz = -float(np.mean(fit.block("eps")[row])) / (2 * np.pi)
    phi0, phi1 = (float(fit.block(name)[row][0]) for name in ("phi0", "phi1"))
    width = _line_width(results, row)
    frequency = model.spec_freq_mhz
    return [
        f" FWHM ={width / frequency:6.3f} ppm    S/N ={min(9999, round(float(snr))):4d}",
        f" Data shift ={-shift_hz / frequency:6.3f} ppm",
        f" Ph:{round(units.wrap_degrees(-np.degrees(phi0))):4d} deg{-np.degrees(phi1) * frequency:10.1f} deg/ppm",
    ]


def _line_width(results: FitResults, row: int) -> float:
    """Return the line width of a singlet in Hz, that of NAA or creatine; 0 without one."""
    column = quality_line(results.fit.names)
    width = 0.0 if column is None else float(results.quality[1][row, column])
    return width if width > 0 else 0.0


def _diagnostics(results: FitResults, row: int) -> list[str]:
    """Return a line for a fit that is not usable, and for its artefacts, in the columns of LCModel's diagnostics."""
    lines = []
    if results.verdict[row] == UNUSABLE:
        lines.append("   1 ERROR     VERDIC  1" if results.fit.converged[row] else "   1 ERROR     FIT     1")
    n = len(results.artefacts_of_file) + len(results.artefacts.get(row, ()))
    return lines + ([f"{n:4d} {'warning' if n == 1 else 'warnings':9s} ARTEFA  1"] if n else [])


def _input(results: FitResults) -> list[str]:
    model = results.fit.model
    lines = [f" hzpppm={model.spec_freq_mhz:.6f}", f" deltat={model.dwelltime:.6e}", f" nunfil={model.n_points}"]
    if model.ppmlim:
        lines += [f" ppmst={max(model.ppmlim):g}", f" ppmend={min(model.ppmlim):g}"]
    return lines
