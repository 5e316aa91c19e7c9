"""Means of groups and their difference, from values that each have a standard deviation.

The mean of a group has no weights.  SDs of concentrations grow with the values: with weights of one over their squares
low values would count most, and the mean of a metabolite near its limit of detection would be far below the truth
(Shuster, doi 10.1002/sim.3607, on weights that depend on what they weigh).  The interval rests on the scatter of the
values, which contains both the spread between participants and the errors of the values; where stated errors are
larger than the scatter, on them.  Groups have spreads of their own; the interval of a difference is that of Welch's
test (Biometrika 34, 28, 1947, doi 10.1093/biomet/34.1-2.28).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

__all__ = ["FEWEST", "Difference", "GroupMean", "adjusted", "difference", "group_mean"]

FEWEST = 3
"""Values from which an interval is of use: that of two, with one degree of freedom, is nine SDs wide on either side."""


@dataclass(frozen=True)
class GroupMean:
    """The mean of a group.

    Attributes
    ----------
    n : int
        Values.
    mean, sd : float
        Mean without weights, and its SD, which contains spread and stated errors; the SD is NaN for fewer than two
        values.
    between_sd : float
        SD between participants, without the stated errors; zero where these explain the scatter.
    total_sd : float
        SD of the values as they are.
    """

    n: int
    mean: float
    sd: float
    between_sd: float
    total_sd: float

    def interval(self) -> tuple[float, float]:
        """Return the 95 % interval of the mean."""
        half = stats.t.ppf(0.975, self.n - 1) * self.sd if self.n > 1 else math.nan
        return self.mean - half, self.mean + half


@dataclass(frozen=True)
class Difference:
    """Second group minus first.

    Attributes
    ----------
    difference, sd : float
    low, high : float
        95 % interval.
    df : float
        Degrees of freedom of it, by Welch and Satterthwaite.
    p : float
        Of no difference, two-sided.
    g, g_sd : float
        The same difference over the SD of the values within groups, with the correction for small groups of Hedges
        (doi 10.3102/10769986006002107).
    """

    difference: float
    sd: float
    low: float
    high: float
    df: float
    p: float
    g: float
    g_sd: float


def group_mean(values, sds) -> GroupMean:
    """Return the mean of a group.

    Parameters
    ----------
    values, sds : array_like ``(n,)``
        Values and their stated SDs; an SD that is not a number counts as zero, its error is in the spread then.
    """
    values = np.asarray(values, float)
    variance = np.nan_to_num(np.asarray(sds, float), nan=0.0, posinf=0.0) ** 2
    n = len(values)
    mean = float(values.mean()) if n else math.nan
    if n < 2:
        return GroupMean(n, mean, math.nan, math.nan, math.nan)
    total, stated = float(values.var(ddof=1)), float(variance.mean())
    # Posterior means scatter less than their errors, as the prior is in all of them: scatter alone would be too sure.
    # The median, as stated errors grow with the values and one large value would be most of their mean.
    sd = math.sqrt(max(total, float(np.median(variance))) / n)
    return GroupMean(n, mean, sd, math.sqrt(max(total - stated, 0.0)), math.sqrt(total))


def difference(first: GroupMean, second: GroupMean) -> Difference:
    """Return the difference of two groups, second minus first; NaN where a group has fewer than two values."""
    delta = second.mean - first.mean
    if first.n < 2 or second.n < 2:
        return Difference(delta, *[math.nan] * 7)
    parts = [first.sd**2, second.sd**2]
    sd = math.sqrt(sum(parts))
    pooled_df = first.n + second.n - 2
    pooled = math.sqrt(((first.n - 1) * first.total_sd**2 + (second.n - 1) * second.total_sd**2) / pooled_df)
    if not (sd > 0 and pooled > 0):
        return Difference(delta, sd, *[math.nan] * 6)
    df = sum(parts) ** 2 / (parts[0] ** 2 / (first.n - 1) + parts[1] ** 2 / (second.n - 1))
    half = float(stats.t.ppf(0.975, df)) * sd
    g = (1 - 3 / (4 * pooled_df - 1)) * delta / pooled
    g_sd = math.sqrt(1 / first.n + 1 / second.n + g**2 / (2 * (first.n + second.n)))
    p = 2 * float(stats.t.sf(abs(delta) / sd, df))
    return Difference(delta, sd, delta - half, delta + half, df, p, g, g_sd)


def adjusted(p) -> np.ndarray:
    """Return p values ``(n,)`` adjusted for their number by Benjamini and Hochberg (false discovery rate); NaN stays.

    Source: J. R. Stat. Soc. B 57, 289 (1995), doi 10.1111/j.2517-6161.1995.tb02031.x.
    """
    p = np.asarray(p, float)
    out = np.full(p.shape, np.nan)
    some = np.flatnonzero(np.isfinite(p))
    if len(some):
        order = some[np.argsort(p[some])]
        scaled = p[order] * len(order) / np.arange(1, len(order) + 1)
        out[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1)
    return out
