"""A folder of results, whoever wrote it, as maps, a table and spectra.  Knows neither wx nor torch.

Opened are folders of ``fsl_mrs_dl mrsi``, ``fsl_mrs_dl fit``, ``fsl_mrsi`` and ``fsl_mrs``.
"""

from __future__ import annotations

import csv
import json
import math
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import nibabel
import numpy as np

from fsl_mrs_dl.core.errors import DataError, OptionError
from fsl_mrs_dl.results import layout
from fsl_mrs_dl.results.layout import Quantity
from fsl_mrs_dl.results.model_file import Evaluator

__all__ = ["Results", "Voxel", "OOD_LIMIT"]

OOD_LIMIT = 1.0
"""Above it the out-of-distribution score says that a spectrum is unlike clean data."""

# What a table shows: title, unit, column, column of its standard deviation.  "{ref}" is the internal reference.
_COLUMNS = (
    ("Conc.", "a.u.", "conc", "crlb_sd"),
    ("CRLB", "%", "crlb_pct", None),
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
_AFTER_REMARKS = ("posterior_mean", "network", "snr", "fwhm")
"""What matters least stands behind the remarks, lest they be out of sight."""

# Columns of maps that FSL-MRS writes, which have none in uncertainty.csv.
_FSL_COLUMNS = {
    "raw-concentrations": "conc",
    "conc-internal": "ratio",
    "conc-molarity": "molarity",
    "conc-molality": "molality",
    "sd": "crlb_pct",
    "SNR": "snr",
    "FWHM": "fwhm",
}

_REMARKS = {"at_zero": "held at zero", "mostly_prior": "mostly prior", "prior_conflict": "data and prior disagree"}

# Estimates, and the maps of their standard deviation.
_SD_OF = {
    "raw-concentrations": "crlb-sd",
    "conc-ml": "crlb-sd",
    "conc-posterior": "posterior-sd",
    "conc-network": "epistemic-sd",
    "ratio-ml": "ratio-sd",
    "conc-internal": "ratio-sd",
    "ratio-posterior": "posterior-ratio-sd",
}

_ESTIMATES = {*_SD_OF, "conc-molarity", "conc-molality"}

# The one that says most is chosen first.
_PREFERRED = ("conc-ml", "raw-concentrations")
_PREFERRED_METABS = ("NAA", "tNAA", "NAA+NAAG", "PCr", "Cr", "Cr+PCr", "ATP", "HDO")

_NO_RESULTS = (
    "is no folder of results: it has neither concs/ with maps (fsl_mrs_dl mrsi, fsl_mrsi) nor summary.csv or"
    " concentrations.csv (fsl_mrs_dl fit, fsl_mrs)."
)


@dataclass(frozen=True)
class Voxel:
    """What is known of a voxel.

    ``state`` is a line on the voxel as a whole, ``titles`` are those of the columns, units included, ``rows`` one line
    of text cells for every metabolite, and ``doubtful`` whether a line holds what should not be used as it is.
    """

    state: str
    titles: list[str]
    rows: list[list[str]]
    doubtful: list[bool]
    good: bool = True


@dataclass
class Results:
    """A folder of results; see :meth:`open`.

    ``kind`` is "MRSI" or "SVS", ``shape`` the grid of the voxels, ``affine`` from their indices to mm, ``metabs`` the
    metabolites and sums, ``quantities`` the kinds of map that there are (none for SVS), ``reference`` the internal
    reference.
    """

    folder: Path
    kind: str
    metabs: list[str]
    shape: tuple[int, int, int]
    affine: np.ndarray
    quantities: list[Quantity] = field(default_factory=list)
    reference: str = "the internal reference"
    table: dict = field(default_factory=dict)
    note: str = ""

    # -- opening -------------------------------------------------------------------------------------------------------

    @classmethod
    def open(cls, folder: str | Path) -> Results:
        """The results in a folder.

        Raises
        ------
        DataError
            If there is no such folder, or it holds no results, or they cannot be read.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise DataError(
                f"{folder}: there is no such folder; name the output folder of 'fsl_mrs_dl fit' or 'fsl_mrs_dl mrsi',"
                " or of fsl_mrs or fsl_mrsi."
                if not folder.exists()
                else f"{folder}: is a file; name the folder of results."
            )
        for where in ("concs/ml", "concs/raw", "maps/conc"):
            metabs = sorted(path.name.removesuffix(".nii.gz") for path in (folder / where).glob("[!.]*.nii.gz"))
            if metabs:
                return cls._open_mrsi(folder, metabs, folder / where / f"{metabs[0]}.nii.gz")
        if any((folder / name).is_file() for name in ("uncertainty.csv", "summary.csv", "concentrations.csv")):
            return cls._open_svs(folder)
        inside = [path.name for path in sorted(folder.iterdir()) if path.is_dir() and cls._looks_like_results(path)]
        remedy = f" Did you mean {folder / inside[0]}?" if inside else ""
        raise DataError(f"{folder}: {_NO_RESULTS}{remedy}")

    @staticmethod
    def _looks_like_results(folder: Path) -> bool:
        return any((folder / name).exists() for name in ("concs/ml", "concs/raw", "summary.csv"))

    @classmethod
    def _open_mrsi(cls, folder: Path, metabs: list[str], first: Path) -> Results:
        image = _load(first)
        results = cls(
            folder, "MRSI", metabs, tuple(int(n) for n in image.shape[:3]), image.affine, reference=_reference(folder)
        )
        results.quantities = [one for one in layout.QUANTITIES if results._there_is(one)]
        return results

    @classmethod
    def _open_svs(cls, folder: Path) -> Results:
        table, note = _read_table(folder)
        if not table:
            raise DataError(
                f"{folder}: its tables (uncertainty.csv, summary.csv, concentrations.csv) hold no metabolites; fit"
                " again."
            )
        fit = folder / "fit.nii.gz"
        if fit.is_file():
            image = _load(fit)
            shape, affine = tuple(int(n) for n in image.shape[:3]), image.affine
        else:
            shape, affine = (1, 1, 1), np.eye(4)
        return cls(folder, "SVS", list(table), shape, affine, reference=_reference(folder), table=table, note=note)

    # -- maps ----------------------------------------------------------------------------------------------------------

    def _candidates(self, quantity: Quantity, metab: str | None) -> list[Path]:
        found = [self.folder / quantity.path(metab)]
        if quantity.column:
            found.append(
                self.folder
                / "maps"
                / (f"{quantity.column}/{metab}.nii.gz" if quantity.per_metab else f"{quantity.column}.nii.gz")
            )
        return found

    def _there_is(self, quantity: Quantity) -> bool:
        metabs = self.metabs if quantity.per_metab else [None]
        return any(path.is_file() for metab in metabs for path in self._candidates(quantity, metab))

    def path(self, key: str, metab: str | None = None) -> Path | None:
        """The file of a map; None where there is none."""
        return next((path for path in self._candidates(layout.by_key(key), metab) if path.is_file()), None)

    def has(self, key: str) -> bool:
        """Is there such a map, for any metabolite?"""
        return any(one.key == key for one in self.quantities)

    def map(self, key: str, metab: str | None = None) -> np.ndarray | None:
        """A map on the grid, float ``(x, y, z)``, 0 where nothing is known; None where there is no such file.

        Raises
        ------
        DataError
            If the file cannot be read or is on another grid.
        """
        quantity = layout.by_key(key)
        metab = metab if quantity.per_metab else None
        if (key, metab) not in self._cache:
            path = self.path(key, metab)
            self._cache[key, metab] = None if path is None else self._read(path)
        return self._cache[key, metab]

    def _read(self, path: Path) -> np.ndarray:
        values = _load(path)
        if values.shape[:3] != self.shape:
            raise DataError(
                f"{path}: has {values.shape[:3]} voxels, the other maps {self.shape}; make the results again."
            )
        values = _values(values, path).reshape(*self.shape, -1)[..., 0]
        return np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)

    @cached_property
    def _cache(self) -> dict:
        return {}

    @cached_property
    def fitted(self) -> np.ndarray:
        """Which voxels hold something that was fitted, not only noise, bool ``(x, y, z)``."""
        if self.kind == "SVS":
            return np.ones(self.shape, bool)
        if self.map("fitted") is not None:
            return (self.map("fitted") > 0) & (self.failed != layout.NOISE)
        key = self.default_quantity
        return np.any([self.map(key, metab) != 0 for metab in self.metabs if self.map(key, metab) is not None], axis=0)

    @cached_property
    def failed(self) -> np.ndarray:
        """The values of :data:`fsl_mrs_dl.results.layout.FAILED`, int ``(x, y, z)``; 0 where the folder does not
        say."""
        values = self.map("failed") if self.kind == "MRSI" else None
        return np.zeros(self.shape, int) if values is None else np.rint(values).astype(int)

    @cached_property
    def unlike(self) -> np.ndarray:
        """Which fitted voxels are unlike clean data, bool ``(x, y, z)``."""
        values = self.map("ood-score") if self.kind == "MRSI" else None
        return np.zeros(self.shape, bool) if values is None else (values > OOD_LIMIT) & self.fitted

    @property
    def default_metab(self) -> str:
        """NAA where there is one."""
        return next((name for name in _PREFERRED_METABS if name in self.metabs), self.metabs[0])

    @property
    def default_quantity(self) -> str:
        """The key of the map to begin with."""
        there = [one.key for one in self.quantities]
        return next((key for key in _PREFERRED if key in there), there[0])

    def check_metab(self, metab: str) -> str:
        """The metabolite, if it is there.

        Raises
        ------
        OptionError
            With the list of those that there are.
        """
        if metab not in self.metabs:
            raise OptionError(f"--metab {metab}: is not in {self.folder}; there are {', '.join(self.metabs)}.")
        return metab

    def check_quantity(self, key: str) -> str:
        """The quantity's key, if there are maps of it.

        Raises
        ------
        OptionError
            With the list of those that there are.
        """
        if self.kind == "SVS":
            raise OptionError(f"--quantity {key}: a single voxel has no maps; leave it out.")
        if not self.has(key):
            raise OptionError(
                f"--quantity {key}: is not in {self.folder}; there are {', '.join(one.key for one in self.quantities)}."
            )
        return key

    def is_estimate(self, key: str) -> bool:
        """Is it a concentration or a ratio, which has an uncertainty of its own?"""
        return key in _ESTIMATES

    def label(self, key: str) -> str:
        """What a quantity is called, with its unit."""
        one = layout.by_key(key)
        text = one.label.replace("the internal reference", self.reference)
        return text + (f" ({one.unit})" if one.unit else "")

    def title(self, key: str, metab: str) -> str:
        """What a map is called, with its unit."""
        return f"{metab}: {self.label(key)}" if layout.by_key(key).per_metab else self.label(key)

    def sd(self, key: str, metab: str) -> np.ndarray | None:
        """Standard deviations of an estimate in its unit, ``(x, y, z)``, NaN where not known; None where nothing is."""
        own = _SD_OF.get(key)
        if own is not None and self.map(own, metab) is not None:
            return np.where(self.fitted & (self.map(own, metab) > 0), self.map(own, metab), np.nan)
        percent, values = self.map("sd", metab), self.map(key, metab)
        if percent is None or values is None or key not in _ESTIMATES:
            return None
        return np.where(self.fitted & (values > 0), percent / 100 * values, np.nan)

    def percent(self, key: str, metab: str) -> np.ndarray | None:
        """Standard deviations of an estimate in percent of it, ``(x, y, z)``, NaN where not fitted, infinite at zero;
        None where nothing is known."""
        sd, values = self.sd(key, metab), self.map(key, metab)
        if sd is None or values is None:
            return None
        with np.errstate(divide="ignore", invalid="ignore"):
            out = np.where(values > 0, 100 * sd / values, np.inf)
        return np.where(self.fitted, np.nan_to_num(out, nan=np.inf), np.nan)

    def crlb_percent(self, metab: str) -> np.ndarray | None:
        """Cramer-Rao bounds in percent, as :meth:`percent` gives it."""
        for key in ("conc-ml", "raw-concentrations"):
            if self.has(key):
                found = self.percent(key, metab)
                if found is not None:
                    return found
        return None

    # -- spectra -------------------------------------------------------------------------------------------------------

    @cached_property
    def evaluator(self) -> Evaluator | None:
        """The fitted model, for contributions and bands; None where the folder does not hold it."""
        return Evaluator.open(self.folder)

    def spectrum(self, what: str) -> Path | None:
        """The NIfTI-MRS file of "fit", "baseline" or "residual"; None where there is none."""
        mrsi = layout.SPECTRA[f"fit-{what}"]
        names = (mrsi, {"fit": "fit.nii.gz", "baseline": "fit_baseline.nii.gz"}.get(what, "fit_residual.nii.gz"))
        return next((self.folder / name for name in names if (self.folder / name).is_file()), None)

    @property
    def linked_data(self) -> Path | None:
        """What was fitted, where the folder still points to it."""
        return next(
            (
                path
                for path in sorted(self.folder.glob("data*"))
                if path.name in ("data.nii.gz", "data.nii") and path.is_file()
            ),
            None,
        )

    # -- table ---------------------------------------------------------------------------------------------------------

    def _of_map(self, voxel, metab: str) -> dict[str, float]:
        values = {}
        for one in self.quantities:
            column = _FSL_COLUMNS.get(one.key, one.column)
            if column and one.per_metab and (image := self.map(one.key, metab)) is not None:
                values.setdefault(column, float(image[voxel]))
        if "crlb_pct" not in values and values.get("crlb_sd"):
            values["crlb_pct"] = 100 * values["crlb_sd"] / values["conc"] if values["conc"] > 0 else math.inf
        elif "crlb_sd" not in values and "crlb_pct" in values:
            values["crlb_sd"] = values["crlb_pct"] / 100 * values.get("conc", math.nan)
        if not self.has("at-zero") and values.get("conc") == 0:
            values["at_zero"] = 1.0
        return values

    def values(self, voxel: tuple[int, int, int], metab: str) -> dict[str, float]:
        """Everything that is known of a metabolite in a voxel, by the names of uncertainty.csv (and ``molarity``,
        ``molality``, ``snr``, ``fwhm``)."""
        found = dict(self.table[metab]) if self.kind == "SVS" else self._of_map(voxel, metab)
        if "prior_pull" in found:
            found["prior_share"] = 100 * found["prior_pull"]
        return found

    def at(self, voxel: tuple[int, int, int] | None) -> Voxel:
        """The table of a voxel; ``voxel`` is None where the cursor is outside of the grid."""
        if self.kind == "SVS":
            voxel = (0, 0, 0)
        if voxel is None or any(not 0 <= index < size for index, size in zip(voxel, self.shape)):
            return Voxel("The cursor is outside of the spectra's voxels.", [], [], [], False)
        voxel = tuple(int(index) for index in voxel)
        name = "Voxel" if self.kind == "SVS" else f"Voxel {voxel[0]} {voxel[1]} {voxel[2]}"
        failed = int(self.failed[voxel])
        if not self.fitted[voxel]:
            reason = (
                layout.FAILED.get(failed, "could not be fitted") if failed else "was not fitted (outside of the mask)"
            )
            return Voxel(f"{name} {reason}.", [], [], [], False)
        known = {metab: self.values(voxel, metab) for metab in self.metabs}
        columns = [column for column in _COLUMNS if any(column[2] in values for values in known.values())]
        titles = ["Metabolite"]
        for title, unit, _, sd in columns:
            # That numbers behind "±" are SDs is said once, to save width.
            spread = len(titles) == 1 and any(sd in values for values in known.values())
            titles.append(
                title.format(ref=self.reference) + (" ± SD" if spread else "") + (f" ({unit})" if unit else "")
            )
        n_first = sum(column[2] not in _AFTER_REMARKS for column in columns)
        titles.insert(n_first + 1, "Remarks")
        rows, doubtful = [], []
        for metab, values in known.items():
            remarks = [text for column, text in _REMARKS.items() if values.get(column, 0) > 0.5]
            doubtful.append(bool(remarks) or values.get("crlb_pct", 0) > 50)
            cells = [_cell(values, column, sd) for _, _, column, sd in columns]
            rows.append([metab, *cells[:n_first], ", ".join(remarks), *cells[n_first:]])
        whole = self._whole(voxel, known[self.metabs[0]])
        texts, good = [], True
        if failed or whole.get("converged", 1) < 0.5:
            texts.append(layout.FAILED.get(failed or 1, "failed").upper())
            good = False
        if whole.get("ood_score", 0) > OOD_LIMIT:
            texts.append(f"UNLIKE CLEAN DATA (score {whole['ood_score']:.1f}, above {OOD_LIMIT:g})")
            good = False
        elif "ood_score" in whole:
            texts.append(f"out-of-distribution score {whole['ood_score']:.2f}")
        if "misfit" in whole:
            texts.append(f"residual over noise {whole['misfit']:.2f}")
        if "noise_sd" in whole:
            texts.append(f"noise SD {whole['noise_sd']:.3g} a.u.")
        texts += [self.note] if self.note else []
        return Voxel(f"{name}: " + ("; ".join(texts) if texts else "fitted"), titles, rows, doubtful, good)

    def _whole(self, voxel, first: dict[str, float]) -> dict[str, float]:
        """What concerns the spectrum, not one metabolite."""
        if self.kind == "SVS":
            return first
        keys = {"misfit": "misfit", "ood-score": "ood_score", "noise-sd": "noise_sd"}
        return {column: float(self.map(key)[voxel]) for key, column in keys.items() if self.has(key)}


# -- reading -----------------------------------------------------------------------------------------------------------


def _load(path: Path):
    try:
        return nibabel.load(path)
    except (OSError, nibabel.filebasedimages.ImageFileError) as exc:
        raise DataError(f"{path}: cannot be read ({' '.join(str(exc).split())}).") from exc


def _values(image, path: Path) -> np.ndarray:
    try:
        return np.asarray(image.dataobj, np.float32)
    except (OSError, EOFError, ValueError) as exc:
        raise DataError(f"{path}: cannot be read ({' '.join(str(exc).split())}).") from exc


def _reference(folder: Path) -> str:
    """What ratios refer to, as options.txt or summary.csv tell."""
    try:
        found = json.JSONDecoder().raw_decode((folder / "options.txt").read_text())[0].get("internal_ref")
        if found:
            return "+".join([found] if isinstance(found, str) else found)
    except (OSError, ValueError, AttributeError):
        pass
    try:
        head = (folder / "summary.csv").read_text().split("\n", 1)[0].split(",")
        return next(word[1:] for word in head if word.startswith("/") and " " not in word)
    except (OSError, StopIteration, UnicodeDecodeError):
        return "the internal reference"


def _number(text: str) -> float:
    if text in ("True", "False"):
        return float(text == "True")
    try:
        return float(text)
    except ValueError:
        return math.nan


def _read_csv(path: Path) -> list[list[str]]:
    try:
        with open(path, newline="") as file:
            return [row for row in csv.reader(file) if row]
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError, csv.Error) as exc:
        raise DataError(f"{path}: cannot be read ({exc}).") from exc


def _read_table(folder: Path) -> tuple[dict[str, dict[str, float]], str]:
    """Values by metabolite and column from the tables of a single voxel, and a note on what they leave out."""
    table: dict[str, dict[str, float]] = {}
    note = ""

    def add(metab: str, column: str, text: str) -> None:
        value = _number(text)
        if not math.isnan(value):
            table.setdefault(metab, {}).setdefault(column, value)

    head, *rows = _read_csv(folder / "uncertainty.csv") or [[]]
    if "Metab" in head:
        names = [row[head.index("Metab")] for row in rows]
        if len(names) > len(set(names)):
            note = f"the first of {names.count(names[0])} spectra"
            first = dict(zip(reversed(names), reversed(rows)))
            rows = [first[name] for name in dict.fromkeys(names)]
        for row in rows:
            for column, text in zip(head, row):
                add(row[head.index("Metab")], column, text)
    # Two lines of headings: mean or std, and the scaling.
    lines = _read_csv(folder / "concentrations.csv")
    if len(lines) > 2:
        for row in lines[2:]:
            for kind, scaling, text in zip(lines[0][1:], lines[1][1:], row[1:]):
                name = {"raw": "conc", "internal": "ratio"}.get(scaling, scaling)
                ending = "" if kind.startswith("mean") else "_sd"
                add(row[0], {"conc_sd": "crlb_sd"}.get(name + ending, name + ending), text)
    head, *rows = _read_csv(folder / "summary.csv") or [[]]
    for row in rows:
        for column, text in zip(head[1:], row[1:]):
            name = {"%CRLB": "crlb_pct", "SNR": "snr", "FWHM": "fwhm"}.get(column)
            if name is None and column.startswith("/"):
                name = "ratio_sd" if column.endswith(" CRLB") else "ratio"
            if name and (not table or row[0] in table or name != "snr"):
                add(row[0], name, text)
    for values in table.values():
        if values.get("conc") == 0:
            values.setdefault("at_zero", 1.0)
    return table, note


def _cell(values: dict[str, float], column: str, sd: str | None) -> str:
    value = values.get(column, math.nan)
    if math.isnan(value):
        return "–"
    if column in ("crlb_pct", "prior_share"):
        return f"{value:.0f}" if value < 999 else "> 999"
    if column in ("snr", "fwhm"):
        return f"{value:.1f}"
    spread = values.get(sd, math.nan)
    if not math.isfinite(spread) or spread <= 0:
        return _round(value, abs(value))
    return f"{_round(value, spread)} ± {_round(spread, spread)}"


def _round(value: float, scale: float) -> str:
    """A number with two digits of its scale; large and small ones with an exponent."""
    if scale <= 0 or not math.isfinite(value):
        return f"{value:.3g}"
    digits = 1 - math.floor(math.log10(scale))
    if digits > 6 or digits < -3:
        return f"{value:.3g}"
    return f"{value:.{max(digits, 0)}f}"
