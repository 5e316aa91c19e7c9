"""Sums of metabolites and ratios between them, as ``GPC+PCh`` or ``NAA/Cr+PCr``: maps and their SDs.  NumPy only."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np

from fsl_mrs_dl.core.metabolites import name_among
from fsl_mrs_dl.results.in_vivo_model_file import InVivoEvaluator
from fsl_mrs_dl.results.model_file import Evaluator, unpack_symmetric

__all__ = ["USUAL_SUMS", "Expression", "correlations", "parse"]

USUAL_SUMS = {
    "tNAA": ("NAA", "NAAG"),
    "tCr": ("Cr", "PCr"),
    "tCho": ("GPC", "PCho"),
    "Glx": ("Glu", "Gln"),
}
"""Sums that have names of their own, with their members."""


@dataclass(frozen=True)
class Expression:
    """A sum of metabolites, or a ratio of two sums.

    Attributes
    ----------
    numerator, denominator : tuple of str
        Names of maps; an empty denominator stands for 1.
    """

    numerator: tuple[str, ...]
    denominator: tuple[str, ...] = ()

    def __str__(self) -> str:
        top = "+".join(self.numerator)
        return f"{top}/{'+'.join(self.denominator)}" if self.denominator else top

    @property
    def members(self) -> tuple[str, ...]:
        """All names, those of the numerator first."""
        return self.numerator + self.denominator

    def value(self, read: Callable[[str], np.ndarray | None]) -> np.ndarray | None:
        """Return the map of the expression, 0 where the denominator is not positive; None where a map is missing.

        ``read`` returns the map of a name, or None.
        """
        maps = _all_of(read(name) for name in self.members)
        if maps is None:
            return None
        top = _total(maps[: len(self.numerator)])
        if not self.denominator:
            return top
        bottom = _total(maps[len(self.numerator) :])
        return np.divide(top, bottom, out=np.zeros_like(top), where=bottom > 0)

    def sd(
        self,
        read: Callable[[str], np.ndarray | None],
        read_sd: Callable[[str], np.ndarray | None],
        correlation: Callable[[str, str], np.ndarray | None],
    ) -> np.ndarray | None:
        """Return the SD of the expression to first order, NaN where unknown; None where a map is missing.

        ``read_sd`` returns the SD map of a name, ``correlation`` the map of the correlation between two names; without
        one they count as independent.
        """
        maps, sds = _all_of(read(name) for name in self.members), _all_of(read_sd(name) for name in self.members)
        if maps is None or sds is None:
            return None
        # A concentration held at zero has no SD of its own, and adds none.
        sds = [np.where((sd > 0) & np.isfinite(sd), sd, np.where(one == 0, 0, np.nan)) for sd, one in zip(sds, maps)]
        n = len(self.numerator)
        slopes = [np.ones_like(maps[0])] * n
        if self.denominator:
            bottom = _total(maps[n:])
            inverse = np.divide(1.0, bottom, out=np.full_like(bottom, np.nan), where=bottom > 0)
            slopes = [inverse] * n + [-_total(maps[:n]) * inverse**2] * len(self.denominator)
        variance = np.zeros_like(maps[0])
        for i, first in enumerate(self.members):
            for j, second in enumerate(self.members):
                known = correlation(first, second) if first != second else 1.0
                variance = variance + slopes[i] * slopes[j] * sds[i] * sds[j] * (0.0 if known is None else known)
        # The difference of equal terms, as of a metabolite over itself, is zero but for rounding.
        scale = _total([(slope * sd) ** 2 for slope, sd in zip(slopes, sds)])
        return np.sqrt(np.where(variance > 1e-9 * scale, variance, 0.0) + 0.0 * scale)


def _all_of(maps: Iterable[np.ndarray | None]) -> list[np.ndarray] | None:
    """Return maps; None where one of them is missing."""
    maps = list(maps)
    there = [one for one in maps if one is not None]
    return there if len(there) == len(maps) else None


def _total(maps: Sequence[np.ndarray]) -> np.ndarray:
    """Return the sum of maps."""
    return reduce(operator.add, maps)


def parse(text: str, names: Sequence[str]) -> Expression | None:
    """Return the expression of a text such as ``NAA+NAAG/Cr+PCr``, ``tCho`` or ``Glx/NAA``; None where it is none.

    ``names`` are those of the maps; a sum that has a map of its own is one name.
    """
    top, slash, bottom = text.replace(" ", "").partition("/")
    numerator = _sum(top, names)
    denominator = _sum(bottom, names) if slash else ()
    if not numerator or denominator is None or (slash and not denominator):
        return None
    return Expression(numerator, denominator)


def _sum(text: str, names: Sequence[str]) -> tuple[str, ...] | None:
    """Return the names of a sum; None where one of them has no map."""
    whole = name_among(text, names)
    if whole is not None:
        return (whole,)
    members = [member for part in text.split("+") for member in USUAL_SUMS.get(part, (part,))]
    known = (name_among(member, names) for member in members)
    found = tuple(name for name in known if name is not None)
    if len(set(found)) < len(members):
        return None
    together = name_among("+".join(found), names)
    return (together,) if together is not None else found


def correlations(
    evaluator: Evaluator | InVivoEvaluator | None, shape: tuple[int, ...]
) -> Callable[[str, str], np.ndarray | None]:
    """Return a function that gives the correlation between two concentrations as a map of that shape, 0 where nothing
    was fitted, or None where the folder does not have it."""
    cache: dict[tuple[tuple[int, ...], ...], np.ndarray] = {}

    def correlation(first: str, second: str) -> np.ndarray | None:
        # Folders of the in-vivo model have covariances, too, but for those of early versions.
        if evaluator is None or "cov" not in evaluator.arrays:
            return None
        names = list(evaluator.names)
        one, two = (tuple(names.index(part) for part in name.split("+") if part in names) for name in (first, second))
        if len(one) != len(first.split("+")) or len(two) != len(second.split("+")):
            return None
        if (one, two) not in cache:
            cache[one, two] = _correlation(evaluator, one, two, shape)
        return cache[one, two]

    return correlation


def _correlation(
    evaluator: Evaluator | InVivoEvaluator, first: Sequence[int], second: Sequence[int], shape: tuple[int, ...]
) -> np.ndarray:
    """Return the correlation of the sums of two groups of concentrations, from their packed covariances."""
    packed = np.asarray(evaluator.arrays["cov"], float)
    k = int(np.sqrt(2 * packed.shape[1]))  # of k (k + 1) / 2
    place = unpack_symmetric(np.arange(k * (k + 1) // 2), k).astype(int)

    def covariance(one: Sequence[int], two: Sequence[int]) -> np.ndarray:
        return _total([packed[:, place[i, j]] for i in one for j in two])

    with np.errstate(divide="ignore", invalid="ignore"):
        values = covariance(first, second) / np.sqrt(covariance(first, first) * covariance(second, second))
    out = np.zeros(int(np.prod(shape)))
    out[np.asarray(evaluator.arrays["rows"])] = np.clip(np.nan_to_num(values), -1, 1)
    return out.reshape(shape)
