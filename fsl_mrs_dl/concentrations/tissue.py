"""Tissue fractions of voxels, and the water that they hold."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..core.errors import DataError, OptionError
from ..io.files import json_content

__all__ = ["DEFAULT_SD", "WATER_DENSITY", "WATER_MOLALITY", "TissueFractions"]

DEFAULT_SD = 0.03
"""SD of a volume fraction where none is given: about the difference between programs of segmentation; assumed."""

WATER_DENSITY = {"GM": 0.78, "WM": 0.65, "CSF": 0.97}
"""Water of the tissues in g/ml; Ernst, Kreis and Ross, doi 10.1006/jmrb.1993.1055, as in FSL-MRS."""

WATER_MOLALITY = 55.51e3
"""Molality of pure water in mmol/kg."""

_EXACT, _NEAR = 1e-2, 1e-1  # of a sum of one: taken as it is, and normalised, as in FSL-MRS


@dataclass(frozen=True)
class TissueFractions:
    """Volume fractions of white matter, grey matter and CSF, of one voxel or of many.

    Attributes
    ----------
    white, grey, csf : float or ndarray ``(n,)``
        Sum to one; NaN where they are not known.
    sd : float
        SD of each fraction.
    source : str
        Where they come from, in words.
    notes : tuple of str
        Remarks on them, in sentences.
    """

    white: np.ndarray
    grey: np.ndarray
    csf: np.ndarray
    sd: float = DEFAULT_SD
    source: str = "as given"
    notes: tuple[str, ...] = ()

    def __post_init__(self):
        parts = np.broadcast_arrays(*(np.asarray(part, float) for part in (self.white, self.grey, self.csf)))
        for name, part in zip(("white", "grey", "csf"), parts):
            object.__setattr__(self, name, part)
        if not self.sd >= 0:
            raise OptionError("must not be negative", option="tissue_frac_sd", value=self.sd)

    @classmethod
    def from_values(cls, white: float, grey: float, csf: float, sd: float = DEFAULT_SD) -> TissueFractions:
        """Return the fractions of one voxel, by FSL-MRS's rules: a sum within 0.01 of one is taken as it is, one within
        0.1 is normalised.

        Raises
        ------
        OptionError
            For another sum, a negative fraction, or a voxel of CSF alone.
        """
        values = np.array([white, grey, csf], float)
        total = values.sum()
        if (values < 0).any():
            raise OptionError(
                f"{values[values < 0][0]:g} is negative",
                option="tissue_frac",
                value=" ".join(f"{value:g}" for value in values),
                remedy="give the white, grey and CSF fraction of the voxel, such as 0.4 0.5 0.1",
            )
        if not (np.isfinite(values).all() and (values >= 0).all() and abs(total - 1) <= _NEAR):
            raise OptionError(
                f"is the white, grey and CSF fraction of the voxel, which sum to 1 (here {total:g})",
                option="tissue_frac",
                value=" ".join(f"{value:g}" for value in values),
                remedy="give three fractions such as 0.4 0.5 0.1",
            )
        if not white + grey > 0:
            raise OptionError(
                "is a voxel of CSF alone, and metabolites are scaled to the tissue in it",
                option="tissue_frac",
                value=" ".join(f"{value:g}" for value in values),
                remedy="give the white, grey and CSF fraction, such as 0.4 0.5 0.1, or leave it out",
            )
        notes: tuple[str, ...] = ()
        if abs(total - 1) > _EXACT:
            values, notes = values / total, (f"tissue fractions sum to {total:.3g} and were normalised",)
        return cls(values[0], values[1], values[2], sd=sd, notes=notes)

    @classmethod
    def read(cls, path: str | Path, sd: float = DEFAULT_SD) -> TissueFractions:
        """Read a JSON file of svs_segment (``WM``, ``GM``, ``CSF``) or a quantification_info.csv of FSL-MRS.

        Raises
        ------
        DataError, OptionError
        """
        path = Path(path)
        try:
            text = path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as exc:
            raise DataError(f"{path}: cannot be read ({getattr(exc, 'strerror', None) or 'no text'})") from exc
        try:
            if path.suffix.lower() == ".csv":
                rows = {row["Tissue"]: row for row in csv.DictReader(text.splitlines())}
                content = {part: rows[part]["Tissue volume fractions"] for part in ("WM", "GM", "CSF")}
            else:
                content = json_content(text)
            values = [float(content[part]) for part in ("WM", "GM", "CSF")]
        except (ValueError, KeyError, TypeError) as exc:
            raise OptionError(
                "holds no tissue fractions",
                option="tissue_frac",
                value=path,
                remedy="give a JSON file with WM, GM and CSF, or a quantification_info.csv with fractions",
            ) from exc
        return replace(cls.from_values(values[0], values[1], values[2], sd=sd), source=path.name)

    @classmethod
    def from_volumes(cls, volumes: Sequence[np.ndarray], sd: float, source: str, names: str) -> TissueFractions:
        """Return the fractions of many voxels from white, grey and CSF volumes ``(n,)``, normalised; NaN where less
        than a tenth of a voxel is tissue.

        Parameters
        ----------
        volumes : sequence of ndarray ``(n,)``
            Shares of each voxel.
        sd : float
        source : str
        names : str
            Of the files, for remarks.
        """
        white, grey, csf = (np.asarray(part, float) for part in volumes)
        total = white + grey + csf
        with np.errstate(divide="ignore", invalid="ignore"):
            scale = np.where(total >= _NEAR, 1 / total, np.nan)
        notes = []
        empty = int((~(total >= _NEAR)).sum())
        if empty:
            which = "the voxel holds" if total.size == 1 else f"{empty} of {total.size} voxels hold"
            notes.append(f"{names}: {which} hardly any tissue, and there are no fractions there")
        elif total.size == 1 and total.item() < 0.95:
            notes.append(
                f"{names}: {1 - total.item():.0%} of the voxel is no tissue; fractions are those of the others"
            )
        return cls(white * scale, grey * scale, csf * scale, sd=sd, source=source, notes=tuple(notes))

    def shifted(self, white: float, grey: float, csf: float) -> TissueFractions:
        """Return fractions that differ by these amounts, none of them negative or above one."""
        moved = zip(self._parts, (white, grey, csf))
        return self._with([np.clip(part + change, 0, 1) for part, change in moved])

    def repeated(self, n: int) -> TissueFractions:
        """Return the fractions with each voxel ``n`` times in a row, for voxels of several spectra."""
        return self._with([part if part.ndim == 0 else np.repeat(part, n) for part in self._parts])

    def rows(self, index) -> TissueFractions:
        """Return the fractions of some voxels; those of one voxel are of all."""
        return self._with([part if part.ndim == 0 else part[index] for part in self._parts])

    @property
    def _parts(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self.white, self.grey, self.csf

    def _with(self, parts: Sequence[np.ndarray]) -> TissueFractions:
        """Return the same with other fractions."""
        return replace(self, white=parts[0], grey=parts[1], csf=parts[2])
