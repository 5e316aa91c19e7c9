"""A folder of results as maps, a table and spectra, whichever program wrote it.  Needs neither wx nor torch.

Opened are folders of ``fsl_mrs_dl mrsi``, ``fsl_mrs_dl fit``, ``fsl_mrsi`` and ``fsl_mrs``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fsl_mrs_dl.core.errors import DataError, OptionError
from fsl_mrs_dl.core.metabolites import name_among
from fsl_mrs_dl.io.images import image_errors, open_image
from fsl_mrs_dl.results import layout
from fsl_mrs_dl.results.in_vivo_model_file import InVivoEvaluator
from fsl_mrs_dl.results.layout import Quantity
from fsl_mrs_dl.results.model_file import Evaluator

from . import derived, quantities
from .estimates import PREFERRED, Estimates
from .grids import Voxel, as_voxel, is_inside
from .voxel_table import VoxelTable, metabolite_rows, read_tables, with_sd

if TYPE_CHECKING:
    from nibabel.spatialimages import SpatialImage

__all__ = ["Results"]

# Columns of maps that FSL-MRS writes, which have none in uncertainty.csv.
_FSL_COLUMNS = {
    "raw-concentrations": "conc",
    "conc-internal": "ratio",
    "conc-molarity": "molarity",
    "conc-molality": "molality",
    "conc-in-vivo": "conc",
    "ratio-in-vivo": "ratio",
    "in-vivo-ratio-sd": "ratio_sd",
    "in-vivo-ci95-low": "ci95_low",
    "in-vivo-ci95-high": "ci95_high",
    "sd": "crlb_pct",
    "SNR": "snr",
    "FWHM": "fwhm",
}

_PREFERRED_METABS = ("NAA", "tNAA", "NAA+NAAG", "PCr", "Cr", "Cr+PCr", "ATP", "HDO")

_MAPS = ("concs/ml", "concs/raw", "maps/conc")
_TABLES = ("uncertainty.csv", "summary.csv", "concentrations.csv")
# Folders within results that people open by mistake.
_PARTS = ("concs", "uncertainties", "flags", "qc", "quality", "nuisance", "fit", "maps", "misc")

_NO_RESULTS = (
    "is no folder of results: it has neither concs/ with maps (fsl_mrs_dl mrsi, fsl_mrsi) nor summary.csv or"
    " concentrations.csv (fsl_mrs_dl fit, fsl_mrs)."
)


@dataclass
class Results(Estimates):
    """A folder of results; see :meth:`open`.

    Attributes
    ----------
    folder : Path
    kind : {"MRSI", "SVS"}
    metabs : list of str
        Metabolites and sums.
    shape : (int, int, int)
        Grid of the voxels.
    affine : ndarray
        From indices of voxels to mm, ``(4, 4)``.
    quantities : list of Quantity
        Kinds of maps in the folder; empty for SVS.
    reference : str
        Name of the internal reference.
    table : dict
        Numbers of a single voxel by metabolite and column; empty for MRSI.
    note : str
        Remark on omitted spectra.
    problems : list of str
        Sentences on the maps that :meth:`read_all` could not read, and on a model that cannot be evaluated.
    """

    folder: Path
    kind: str
    metabs: list[str]
    shape: Voxel
    affine: np.ndarray
    quantities: list[Quantity] = field(default_factory=list)
    reference: str = "the internal reference"
    table: dict[str, dict[str, float]] = field(default_factory=dict)
    note: str = ""
    problems: list[str] = field(default_factory=list)

    # -- opening -------------------------------------------------------------------------------------------------------

    @classmethod
    def open(cls, folder: str | Path) -> Results:
        """Read the results in a folder.

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
        try:
            return cls._open_existing(folder)
        except OSError as exc:
            raise DataError(f"{folder}: cannot be read ({exc}).") from exc

    @classmethod
    def _open_existing(cls, folder: Path) -> Results:
        for candidate in (folder, *_parents(folder)):
            for where in _MAPS:
                files = sorted((candidate / where).glob("[!.]*.nii.gz"))
                if files:
                    return cls._open_mrsi(candidate, files)
            if any((candidate / name).is_file() for name in _TABLES):
                return cls._open_svs(candidate)
        inside = [path.name for path in sorted(folder.iterdir()) if path.is_dir() and cls._looks_like_results(path)]
        remedy = f" Did you mean {folder / inside[0]}?" if inside else ""
        raise DataError(f"{folder}: {_NO_RESULTS}{remedy}")

    @staticmethod
    def _looks_like_results(folder: Path) -> bool:
        return any((folder / name).exists() for name in ("concs/ml", "concs/raw", "summary.csv"))

    @classmethod
    def _open_mrsi(cls, folder: Path, files: list[Path]) -> Results:
        metabs = [path.name.removesuffix(".nii.gz") for path in files]
        image = _first_readable(files)
        shape, affine = _grid_of(image, files[0])
        results = cls(folder, "MRSI", metabs, shape, affine, reference=_reference(folder))
        results.quantities = [one for one in quantities.QUANTITIES if results._has_maps(one)]
        return results

    @classmethod
    def _open_svs(cls, folder: Path) -> Results:
        table, note = read_tables(folder)
        if not table:
            raise DataError(
                f"{folder}: its tables (uncertainty.csv, summary.csv, concentrations.csv) hold no metabolites; fit"
                " again."
            )
        fit = folder / "fit.nii.gz"
        if fit.is_file():
            shape, affine = _grid_of(_load(fit), fit)
        else:
            shape, affine = (1, 1, 1), np.eye(4)
        return cls(folder, "SVS", list(table), shape, affine, reference=_reference(folder), table=table, note=note)

    # -- maps ----------------------------------------------------------------------------------------------------------

    def _candidates(self, quantity: Quantity, metab: str | None) -> list[Path]:
        paths = [self.folder / quantity.path(metab)]
        if quantity.column:
            name = f"{quantity.column}/{metab}.nii.gz" if quantity.per_metab else f"{quantity.column}.nii.gz"
            paths.append(self.folder / "maps" / name)
        return paths

    def _has_maps(self, quantity: Quantity) -> bool:
        return any(path.is_file() for metab in self._names(quantity) for path in self._candidates(quantity, metab))

    def _names(self, quantity: Quantity) -> Sequence[str | None]:
        """Return the names that a quantity has a map for: the metabolites, or None for the whole spectrum."""
        return self.metabs if quantity.per_metab else [None]

    def path(self, key: str, metab: str | None = None) -> Path | None:
        """Return the file of a map; None where there is none."""
        return next((path for path in self._candidates(quantities.by_key(key), metab) if path.is_file()), None)

    def has(self, key: str) -> bool:
        """Return whether the folder has such a map, for any metabolite."""
        return any(one.key == key for one in self.quantities)

    def map(self, key: str, metab: str | None = None) -> np.ndarray | None:
        """Return a map on the grid, float ``(x, y, z)``, 0 where it is not finite; None where there is no file.

        Raises
        ------
        DataError
            If the file cannot be read or is on another grid.
        """
        quantity = quantities.by_key(key)
        metab = metab if quantity.per_metab else None
        if (expression := self.expression(metab)) is not None:
            return self.expression_map(key, expression)
        if (key, metab) not in self._cache:
            path = self.path(key, metab)
            self._cache[key, metab] = None if path is None else self._read(path)
        return self._cache[key, metab]

    def read_all(self, progress: Callable[[int, int], None] = lambda done, total: None) -> None:
        """Read every map into memory, and open the model; what cannot be read is noted in :attr:`problems`, and counts
        as absent.

        ``progress`` is called with the number of maps that were read and of all.

        Raises
        ------
        DataError
            If no map of a concentration can be read.
        """
        wanted = [(one.key, metab) for one in self.quantities for metab in self._names(one)]
        for done, (key, metab) in enumerate(wanted):
            progress(done, len(wanted))
            try:
                self.map(key, metab)
            except DataError as exc:
                self.problems.append(str(exc))
                self._cache[key, metab] = None
        progress(len(wanted), len(wanted))
        self.quantities = [
            one
            for one in self.quantities
            if any(self._cache.get((one.key, metab)) is not None for metab in self._names(one))
        ]
        if wanted and not any(self.is_estimate(one.key) for one in self.quantities):
            raise DataError(self.problems[0] if self.problems else f"{self.folder}: has no map of a concentration.")
        _ = self.evaluator

    def _read(self, path: Path) -> np.ndarray:
        image = _load(path)
        shape, _ = _grid_of(image, path)
        if shape != self.shape:
            raise DataError(f"{path}: has {shape} voxels, the other maps {self.shape}; make the results again.")
        values = _values(image, path).reshape(*self.shape, -1)[..., 0]
        return np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)

    @cached_property
    def _cache(self) -> dict[tuple[str, str | None], np.ndarray | None]:
        return {}

    @cached_property
    def fitted(self) -> np.ndarray:
        """Mask of the fitted voxels that hold more than noise, bool ``(x, y, z)``."""
        if self.kind == "SVS":
            return np.ones(self.shape, bool)
        if (fitted := self.map("fitted")) is not None:
            return (fitted > 0) & (self.failed != layout.NOISE)
        maps = [self.map(self.default_quantity, metab) for metab in self.metabs]
        return np.any([values != 0 for values in maps if values is not None], axis=0)

    @cached_property
    def failed(self) -> np.ndarray:
        """The values of :data:`fsl_mrs_dl.results.layout.FAILED`, int ``(x, y, z)``; 0 where the folder
        has none."""
        values = self.map("failed") if self.kind == "MRSI" else None
        return np.zeros(self.shape, int) if values is None else np.rint(values).astype(int)

    @cached_property
    def out_of_distribution(self) -> np.ndarray:
        """Mask of the fitted voxels above the limit of the out-of-distribution score, bool ``(x, y, z)``."""
        values = self.map("ood-score") if self.kind == "MRSI" else None
        return np.zeros(self.shape, bool) if values is None else (values > layout.OOD_LIMIT) & self.fitted

    @property
    def default_metab(self) -> str:
        """Metabolite to begin with: NAA where there is one."""
        names = self.metabs
        if self.kind == "MRSI" and self._cache:
            names = [name for name in names if self._cache.get((self.default_quantity, name), 0) is not None] or names
        return next((name for name in _PREFERRED_METABS if name in names), names[0])

    @property
    def default_quantity(self) -> str:
        """Key of the map to begin with."""
        keys = [one.key for one in self.quantities]
        return next((key for key in PREFERRED if key in keys), keys[0])

    def check_metab(self, metab: str) -> str:
        """Return the name that the folder has for a metabolite, or for a sum.

        Raises
        ------
        OptionError
            With the list of those that there are.
        """
        name = name_among(metab, self.metabs)
        if name is None and (expression := derived.parse(metab, self.metabs)) is not None:
            return str(expression)
        if name is None:
            raise OptionError(
                f"is not in {self.folder}",
                option="metab",
                value=metab,
                remedy=f"there are {', '.join(self.metabs)}, and sums and ratios of them, as in A+B/C",
            )
        return name

    def check_quantity(self, key: str) -> str:
        """Return the key of a quantity if the folder has maps of it.

        Raises
        ------
        OptionError
            With the list of those that there are.
        """
        if self.kind == "SVS":
            raise OptionError("a single voxel has no maps", option="quantity", value=key, remedy="leave it out")
        if not self.has(key):
            keys = ", ".join(one.key for one in self.quantities)
            raise OptionError(f"is not in {self.folder}", option="quantity", value=key, remedy=f"there are {keys}")
        return key

    # -- spectra -------------------------------------------------------------------------------------------------------

    @cached_property
    def evaluator(self) -> Evaluator | InVivoEvaluator | None:
        """Fitted model, for contributions and bands; None where the folder has none, or one that cannot be evaluated,
        which :attr:`problems` names."""
        try:
            return _evaluated(Evaluator.open(self.folder), self)
        except DataError as exc:
            self.problems.append(str(exc))
            return None

    def spectrum(self, what: str) -> Path | None:
        """Return the NIfTI-MRS file of "fit", "baseline" or "residual"; None where there is none."""
        mrsi = layout.SPECTRA[f"fit-{what}"]
        names = (mrsi, {"fit": "fit.nii.gz", "baseline": "fit_baseline.nii.gz"}.get(what, "fit_residual.nii.gz"))
        return next((self.folder / name for name in names if (self.folder / name).is_file()), None)

    @property
    def linked_data(self) -> Path | None:
        """File of the fitted data, where the link in the folder still leads to it."""
        return next(
            (
                path
                for path in sorted(self.folder.glob("data*"))
                if path.name in ("data.nii.gz", "data.nii") and path.is_file()
            ),
            None,
        )

    # -- table ---------------------------------------------------------------------------------------------------------

    def _map_values(self, voxel: Voxel, metab: str) -> dict[str, float]:
        values: dict[str, float] = {}
        for one in self.quantities:
            column = _FSL_COLUMNS.get(one.key, one.column)
            if column and one.per_metab and (image := self.map(one.key, metab)) is not None:
                values.setdefault(column, float(image[voxel]))
        conc = values.get("conc", math.nan)
        if values.get("crlb_pct") == 0:
            values["crlb_pct"] = math.nan  # maps hold a zero where nothing is known
        if self.in_vivo:
            values["in_vivo_pct"] = values.pop("crlb_pct", math.nan)
        elif "crlb_pct" not in values and values.get("crlb_sd"):
            values["crlb_pct"] = math.inf if conc <= 0 else 100 * values["crlb_sd"] / conc
        elif "crlb_sd" not in values and "crlb_pct" in values:
            values["crlb_sd"] = values["crlb_pct"] / 100 * conc
        if not self.has("at-zero") and values.get("conc") == 0:
            values["at_zero"] = 1.0
        return values

    def values(self, voxel: Voxel, metab: str) -> dict[str, float]:
        """Return every number on a metabolite in a voxel, by the columns of uncertainty.csv (and ``molarity``,
        ``molality``, ``snr``, ``fwhm``)."""
        values = dict(self.table[metab]) if self.kind == "SVS" else self._map_values(voxel, metab)
        share = values.get("prior_pull", values.get("prior_share"))
        if share is not None:
            values["prior_share"] = 100 * share
        return values

    def contribution(self, voxel: Voxel, metab: str) -> np.ndarray | None:
        """Return the FID of a metabolite or sum in a voxel as the file of the fit has it; None where it is unknown."""
        expression = self.expression(metab)
        name = metab if expression is None else "+".join(expression.numerator)
        try:
            return None if self.evaluator is None else self.evaluator.contribution(voxel, name)
        except DataError:
            # A name of the tables that the model has not.
            return None

    def has_contribution(self, metab: str) -> bool:
        """Return whether the model has a metabolite or sum, in whichever voxel."""
        expression = self.expression(metab)
        name = metab if expression is None else "+".join(expression.numerator)
        try:
            if self.evaluator is not None:
                self.evaluator.contribution((0, 0, 0), name)
        except DataError:
            return False
        return self.evaluator is not None

    def at(self, voxel: Voxel | None, chosen: str | None = None) -> VoxelTable:
        """Return the table of a voxel; ``voxel`` is None where the cursor is outside of the grid.

        ``chosen`` is a sum or ratio whose value is added to the line on the voxel.
        """
        if self.kind == "SVS":
            voxel = (0, 0, 0)
        if voxel is None or not is_inside(voxel, self.shape):
            return VoxelTable.empty("The cursor is outside of the spectra's voxels.")
        voxel = as_voxel(voxel)
        name = "Voxel" if self.kind == "SVS" else f"Voxel {voxel[0]} {voxel[1]} {voxel[2]}"
        failed = int(self.failed[voxel])
        if not self.fitted[voxel]:
            reason = (
                layout.FAILED.get(failed, "could not be fitted") if failed else "was not fitted (outside of the mask)"
            )
            return VoxelTable.empty(f"{name} {reason}.")
        values = {metab: self.values(voxel, metab) for metab in self.metabs}
        state, good = self._state(failed, self._quality(voxel, values[self.metabs[0]]))
        if (text := self._expression_text(voxel, chosen)) is not None:
            state = f"{text}; {state}"
        return VoxelTable(f"{name}: {state}", *metabolite_rows(values, self.reference), good)

    def _expression_text(self, voxel: Voxel, name: str | None) -> str | None:
        """Return the value of a sum or ratio in a voxel as a text; None for names that the table has."""
        if self.kind == "SVS" or name is None or self.expression(name) is None:
            return None
        key = self.default_quantity
        value, sd = self.map(key, name), self.sd(key, name)
        if value is None:
            return None
        text = with_sd(float(value[voxel]), math.nan if sd is None else float(sd[voxel]))
        note = " (as if independent)" if "±" in text and self.sd_is_of_independent(name) else ""
        return f"{name} = {text}{note}"

    def _state(self, failed: int, quality: dict[str, float]) -> tuple[str, bool]:
        """Return the quality of a fitted voxel as a text, and whether the fit is good."""
        texts, good = [], True
        if failed or quality.get("converged", 1) < 0.5:
            texts.append(layout.FAILED.get(failed or 1, "failed").upper())
            good = False
        if quality.get("ood_score", 0) > layout.OOD_LIMIT:
            texts.append(f"OUT OF DISTRIBUTION (score {quality['ood_score']:.1f}, above {layout.OOD_LIMIT:g})")
            good = False
        elif "ood_score" in quality:
            texts.append(f"out-of-distribution score {quality['ood_score']:.2f}")
        if "misfit" in quality:
            texts.append(f"residual over noise {quality['misfit']:.2f}")
        if "noise_sd" in quality:
            texts.append(f"noise SD {quality['noise_sd']:.3g} a.u.")
        texts += [self.note] if self.note else []
        return "; ".join(texts) or "fitted", good

    def _quality(self, voxel: Voxel, first: dict[str, float]) -> dict[str, float]:
        """Return the numbers of the whole spectrum; ``first`` are those of the first metabolite."""
        if self.kind == "SVS":
            return first
        columns = {"misfit": "misfit", "ood-score": "ood_score", "noise-sd": "noise_sd"}
        maps = {column: self.map(key) for key, column in columns.items()}
        return {column: float(values[voxel]) for column, values in maps.items() if values is not None}


# -- reading -----------------------------------------------------------------------------------------------------------


def _parents(folder: Path) -> list[Path]:
    """Return the folders above one that is a part of results: of ``results/concs/raw``, for example."""
    parts = folder.resolve().parts
    inside = [depth for depth, part in enumerate(parts) if part in _PARTS and depth > 0]
    return [Path(*parts[:depth]) for depth in reversed(inside) if depth >= len(parts) - 3]


def _first_readable(files: list[Path]) -> SpatialImage:
    """Return the first image that can be opened; raise the error of the first file where none can."""
    problem: DataError | None = None
    for path in files:
        try:
            return _load(path)
        except DataError as exc:
            problem = problem or exc
    raise problem or DataError("there are no maps.")


def _load(path: Path) -> SpatialImage:
    try:
        return open_image(path)
    except image_errors() as exc:
        raise DataError(f"{path}: cannot be read ({' '.join(str(exc).split())}).") from exc


def _values(image: SpatialImage, path: Path) -> np.ndarray:
    if image.get_data_dtype().kind in "cV":
        raise DataError(f"{path}: holds colours or spectra, not a map; make the results again.")
    try:
        return np.asarray(image.dataobj, np.float32)
    except image_errors() as exc:
        raise DataError(f"{path}: cannot be read ({' '.join(str(exc).split())}).") from exc


def _grid_of(image: SpatialImage, path: Path) -> tuple[Voxel, np.ndarray]:
    """Return the voxels of an image along x, y and z, of which files may leave out the last, and its affine.

    Raises
    ------
    DataError
        If the affine maps voxels to no volume.
    """
    affine = np.asarray(image.affine, float)
    if not (np.isfinite(affine).all() and abs(np.linalg.det(affine)) > 0):
        raise DataError(f"{path}: the affine in its header is singular; make the results again.")
    return as_voxel([*image.shape[:3], 1, 1, 1][:3]), affine


def _evaluated(evaluator: Evaluator | InVivoEvaluator | None, results: Results) -> Evaluator | InVivoEvaluator | None:
    """Return a model after its evaluation in the first voxel with a fit.

    Raises
    ------
    DataError
        If it cannot be evaluated, since another version wrote it, or has another grid than the maps.
    """
    if evaluator is None:
        return None
    folder = results.folder / layout.MODEL
    try:
        place = evaluator.arrays["place"]
        if results.kind == "MRSI" and place.shape != results.shape:
            raise DataError(
                f"{folder}: is of {place.shape} voxels, the maps of {results.shape}; make the results again."
            )
        for voxel in np.argwhere(place >= 0)[:1]:
            evaluator.contribution(as_voxel(voxel), evaluator.names[0])
            evaluator.band(as_voxel(voxel))
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as exc:
        text = f"{type(exc).__name__}: {' '.join(str(exc).split())}"
        raise DataError(f"{folder}: cannot be evaluated ({text}); make the results again.") from exc
    return evaluator


def _reference(folder: Path) -> str:
    """Return the reference of ratios in options.txt or summary.csv."""
    try:
        reference = (
            json.JSONDecoder()
            .raw_decode((folder / "options.txt").read_text(encoding="utf-8-sig"))[0]
            .get("internal_ref")
        )
        if reference:
            return "+".join([reference] if isinstance(reference, str) else reference)
    except (OSError, ValueError, AttributeError):
        pass
    try:
        head = (folder / "summary.csv").read_text(encoding="utf-8-sig").split("\n", 1)[0].split(",")
        return next(word[1:] for word in head if word.startswith("/") and " " not in word)
    except (OSError, StopIteration, UnicodeDecodeError):
        return "the internal reference"
