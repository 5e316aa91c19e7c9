"""A series of spectra of one voxel: what it is drawn against, which metabolites are drawn, and its quality."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pandas as pd

from ..fitting.verdict import VERDICTS
from ..io.header_keys import ElementValues
from .fit_results import FitResults

__all__ = ["Series", "Tracked", "range_of_values", "spread_rows"]

_WELL_DETERMINED = 0.2  # median SD over the estimate of a metabolite that is drawn
_FEWEST, _MOST = 6, 12  # metabolites that are drawn
_LONGEST_LIST = 30  # characters of different texts that a line names
_MOST_CATEGORIES = 20  # different texts along an axis
_LONGEST_UNIT = 30


class Tracked(NamedTuple):
    """A quantity of the metabolites that are drawn: its label, values and SDs ``(n, n_metabolites)``."""

    label: str
    values: np.ndarray
    sd: np.ndarray


@dataclass(frozen=True, eq=False)
class Series:
    """Several spectra of one voxel that were fitted one by one.

    Attributes
    ----------
    results : FitResults
        Those of which :attr:`FitResults.is_series` holds.
    """

    results: FitResults

    @cached_property
    def axis(self) -> tuple[np.ndarray, str]:
        """What the series is drawn against, numbers or texts ``(n,)``, and its label: the first number of the header
        that varies, else a text, else the number of the spectrum."""
        for name, one in self._varying(numbers=True) + self._varying(numbers=False):
            if one.values.dtype != object or len(set(one.values)) <= _MOST_CATEGORIES:
                return one.values, _with_unit(name, one.unit)
        index = self.results.index
        counters = [name for name in index.columns if name not in self.results.header_values]
        if len(counters) == 1:
            return index[counters[0]].to_numpy(), f"{counters[0]} (counted from 0)"
        return np.arange(len(index)), "spectrum (counted from 0)"

    @cached_property
    def titles(self) -> list[str]:
        """Name of every spectrum: its counters and what the header gives."""
        index = self.results.index
        texts = [[f"{name} {_short(value)}" for value in index[name]] for name in index.columns]
        return [", ".join(parts) for parts in zip(*texts)]

    @cached_property
    def names(self) -> list[str]:
        """Metabolites and sums that are drawn, the best determined first."""
        tracked = self._quantities[0]
        rows = self.results.fit.fitted & ~self.results.fit.empty
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # of metabolites without a finite SD
            share = np.nanmedian((tracked.sd / np.abs(tracked.values))[rows if rows.any() else slice(None)], 0)
        share = np.where(np.isfinite(share), share, np.inf)
        if tracked.label.startswith("ratio"):
            share[self.results.names.index(self.results.reference_name)] = np.nan  # one, everywhere
        order = [column for column in np.argsort(share, kind="stable") if not np.isnan(share[column])]
        n_well = int(np.sum(share <= _WELL_DETERMINED))
        return [self.results.names[column] for column in order[: max(_FEWEST, min(n_well, _MOST))]]

    @cached_property
    def tracked(self) -> list[Tracked]:
        """Quantities of :attr:`names`, the one that suits the series first: concentrations along values of the header,
        because a reference may vary with them, too; else ratios, which do not depend on the scale of a spectrum."""
        columns = [self.results.names.index(name) for name in self.names]
        return [one._replace(values=one.values[:, columns], sd=one.sd[:, columns]) for one in self._quantities]

    @cached_property
    def quality(self) -> pd.DataFrame:
        """A row per spectrum: its place, SNR and line width of the highest metabolite, misfit, verdict and reasons."""
        results, frame = self.results, self.results.index.copy()
        snr, width = results.quality
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            typical = np.nanmedian(np.where(np.isfinite(width), snr, np.nan), 0)
        if np.isfinite(typical).any():
            highest = int(np.nanargmax(typical))
            name = results.fit.names[highest]
            frame[f"SNR ({name})"], frame[f"FWHM ({name}, Hz)"] = snr[:, highest], width[:, highest]
        frame["residual / noise"] = results.fit.misfit
        frame["unexplained (%)"] = 100 * results.fit.unexplained
        verdicts = np.array(VERDICTS, object)[results.verdict]
        frame["verdict"] = np.where(results.fit.fitted, verdicts, "not fitted")
        frame["reasons"] = ["; ".join(reason.kind for reason in reasons) for reasons in results.reasons]
        return frame

    @cached_property
    def _quantities(self) -> list[Tracked]:
        """Quantities of all metabolites and sums."""
        results = self.results
        out = [Tracked("concentration (raw)", *results.concentrations)]
        if results.absolute is not None:
            columns = [results.absolute.names.index(name) for name in results.names]
            values, sd = results.absolute.values["molarity"], results.absolute.sd["molarity"]
            # Behind the raw ones, whose SDs have no part that all spectra share.
            out.append(Tracked("concentration (mM)", values[:, columns], sd[:, columns]))
        if results.ratios is not None:
            ratio = Tracked(f"ratio to {results.reference_name}", *results.ratios)
            out.insert(len(out) if self._varying(numbers=True) else 0, ratio)
        fitted = results.fit.fitted[:, None]
        return [
            one._replace(values=np.where(fitted, one.values, np.nan), sd=np.where(fitted, one.sd, np.nan))
            for one in out
        ]

    def _varying(self, *, numbers: bool) -> list[tuple[str, ElementValues]]:
        """Return the values of the header that differ between spectra, numbers or texts."""
        return [
            (name, one)
            for name, one in self.results.header_values.items()
            if (one.values.dtype != object) == numbers and len(set(one.values.tolist())) > 1
        ]


def range_of_values(results: FitResults) -> str:
    """Return the ranges of what the header gives for the spectra of a series, such as 'Bval 0 to 50'; empty without."""
    parts = []
    for name, one in results.header_values.items():
        different = list(dict.fromkeys(one.values.tolist()))
        if one.values.dtype != object:
            low, high = min(different), max(different)
            parts.append(f"{name} {_short(low)} to {_short(high)}" if high > low else f"{name} {_short(low)}")
        elif len(", ".join(different)) <= _LONGEST_LIST:
            parts.append(f"{name} {', '.join(different)}")
        else:
            parts.append(f"{name}: {len(different)} different ones")
    return "; ".join(parts)


def spread_rows(results: FitResults, most: int) -> np.ndarray:
    """Return the rows of at most so many fitted spectra, evenly spread over the series."""
    rows = np.flatnonzero(results.fit.fitted)
    return rows[np.unique(np.linspace(0, len(rows) - 1, min(len(rows), most)).astype(int))]


def _with_unit(name: str, unit: str) -> str:
    return f"{name} ({unit})" if unit and len(unit) <= _LONGEST_UNIT else name


def _short(value) -> str:
    return value if isinstance(value, str) else f"{value:.6g}"
