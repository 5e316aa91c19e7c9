"""Priors of concentrations: from a recipe, from a file, or learnt from the spectra of a volume.

A prior is relative: one factor for all spectra brings it to the unit of the data (:func:`scale_to`), because raw
concentrations have an arbitrary scale.  Entries without a prior, macromolecules for one, may have any value.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..core.errors import OptionError
from ..core.metabolites import by_names, is_known, is_macromolecule
from ..io.files import json_content
from ..simulation import random_spectra
from ..simulation import recipes as recipes_module

__all__ = ["MIN_SPECTRA", "Prior", "recipes", "load", "from_recipe", "learn", "moments", "scale_to"]


@dataclass(frozen=True)
class Prior:
    """Expected concentrations of some metabolites.

    Attributes
    ----------
    names : tuple of str
    kinds : tuple of str
        For each: 'uniform' (limits), 'normal' (mean, SD), 'lognormal' (median, SD of the logarithm), or 'any'; none is
        negative, unless the model of the spectra has negative concentrations.
    numbers : ndarray ``(n_metabs, 2)``
        The two numbers of each kind.
    cov : ndarray ``(n_metabs, n_metabs)``, optional
        Covariance of the entries that are 'normal'; by default they are independent.
    source : str
        Its origin, in words.
    fwhm_hz, shift_hz : (float, float), optional
        Ranges of the line width added to that of the basis set, and of the shift.
    """

    names: tuple[str, ...]
    kinds: tuple[str, ...]
    numbers: np.ndarray
    cov: np.ndarray | None = None
    source: str = ""
    fwhm_hz: tuple[float, float] | None = None
    shift_hz: tuple[float, float] | None = None

    @property
    def mean(self) -> np.ndarray:
        """Expected values, zero for entries of any value, ``(n_metabs,)``."""
        return np.array([moments(kind, *numbers)[0] for kind, numbers in zip(self.kinds, self.numbers)])

    @property
    def sd(self) -> np.ndarray:
        """Standard deviations, infinite for entries of any value, ``(n_metabs,)``."""
        return np.array([moments(kind, *numbers)[1] for kind, numbers in zip(self.kinds, self.numbers)])

    @property
    def informative(self) -> np.ndarray:
        """Entries with an expectation, bool ``(n_metabs,)``."""
        return np.array([kind != "any" for kind in self.kinds])

    @property
    def never_negative(self) -> list[str]:
        """Names of the entries that have no negative values: lognormal ones, and ranges from zero or more."""
        entries = zip(self.names, self.kinds, self.numbers)
        return [name for name, kind, (a, _) in entries if kind == "lognormal" or (kind == "uniform" and a >= 0)]

    def extended(self, n: int) -> Prior:
        """Return it with entries of any value appended, ``n`` in all."""
        more = n - len(self.names)
        return replace(
            self,
            names=(*self.names, *[""] * more),
            kinds=(*self.kinds, *["any"] * more),
            numbers=np.concatenate([self.numbers, np.zeros((more, 2))]),
            cov=None if self.cov is None else np.pad(self.cov, (0, more)),
        )

    def times(self, factor) -> Prior:
        """Return it in another unit; ``factor`` is a number or ``(n_metabs,)``."""
        factor = np.broadcast_to(np.asarray(factor, float), (len(self.names),))
        numbers = self.numbers * factor[:, None]
        logarithmic = np.array([kind == "lognormal" for kind in self.kinds])
        numbers[logarithmic, 1] = self.numbers[logarithmic, 1]
        return replace(self, numbers=numbers, cov=None if self.cov is None else self.cov * np.outer(factor, factor))


def moments(kind: str, a: float, b: float) -> tuple[float, float]:
    """Return mean and SD of one entry; zero and infinity for 'any'."""
    if kind == "uniform":
        return (a + b) / 2, (b - a) / math.sqrt(12)
    if kind == "normal":
        return a, b
    if kind == "lognormal":
        mean = a * math.exp(b * b / 2)
        return mean, mean * math.sqrt(math.expm1(b * b))
    return 0.0, math.inf


def recipes() -> list[str]:
    """Return the names of the recipes that can be priors: those of spectra, with concentrations."""
    return [
        name
        for name in recipes_module.recipe_names()
        if not name.endswith("-transients") and not name.startswith("augment-")
    ]


def load(what: str | Path, names) -> Prior:
    """Return a prior for metabolites from a recipe, a recipe's file, or a file that gives ranges by metabolite.

    Such a file is JSON: ``{"NAA": {"normal": [12, 1.5]}, "GABA": {"uniform": [1, 2]}, "Gln": {"lognormal": [3,
    0.3]}}``, in any one unit.

    Raises
    ------
    OptionError
        If there is no such recipe or file, or it is malformed.
    """
    path = Path(what)
    if str(what) not in recipes_module.recipe_names() and path.is_file():
        try:
            content = json_content(path.read_bytes())
        except ValueError as exc:
            raise OptionError(f"is not JSON ({exc})", option="prior", value=what) from exc
        if isinstance(content, dict) and "concentrations" not in content and "augment" not in content:
            return _from_ranges(str(what), content, tuple(names))
    if str(what) in recipes_module.recipe_names() and str(what) not in recipes():
        raise OptionError(
            "is not a recipe of spectra",
            option="prior",
            value=what,
            remedy=f"there are {', '.join(recipes())}",
        )
    try:
        return from_recipe(what, names)
    except OptionError as exc:
        option = "prior" if exc.option == "recipe" else exc.option
        raise OptionError(exc.problem, option=option, value=exc.value, remedy=exc.remedy) from None


def _from_ranges(source: str, content: dict, names: tuple[str, ...]) -> Prior:
    """Return the prior of a file that gives ranges by metabolite."""
    content = by_names(content, names)
    known = [name for name in names if name in content]
    if not known:
        raise OptionError(
            f"holds none of {', '.join(names)}",
            option="prior",
            value=source,
            remedy="name metabolites as the basis set does",
        )
    strange = [name for name in content if name not in names and not is_known(name) and not is_macromolecule(name)]
    if strange:
        raise OptionError(
            f"there is no metabolite '{strange[0]}' here",
            option="prior",
            value=source,
            remedy=f"there are {', '.join(names)}",
        )
    try:
        recipes_module.check_ranges("", content)
        for name in known:
            recipes_module.check_range(name, content[name])
    except OptionError as exc:
        raise OptionError(exc.problem.lstrip(": "), option="prior", value=source) from None
    if len(known) < 2:
        raise OptionError(
            f"holds {known[0]} only",
            option="prior",
            value=source,
            remedy="give two metabolites at least; their proportion gives its unit",
        )
    kinds, numbers = zip(*(_kind(content.get(name)) for name in names))
    return Prior(names, kinds, np.array(numbers, float), source=source)


def _kind(spec) -> tuple[str, tuple[float, float]]:
    """Return a range as a prior's kind and numbers; a number counts as known to one percent."""
    if spec is None:
        return "any", (0.0, 0.0)
    if isinstance(spec, (int, float)):
        return "normal", (float(spec), max(abs(spec), 1e-6) * 0.01)
    ((kind, (a, b)),) = spec.items()
    if kind == "loguniform":
        return "lognormal", (math.sqrt(a * b), math.log(b / a) / math.sqrt(12))
    return kind, (float(a), float(b))


def from_recipe(recipe: str | Path | recipes_module.Recipe, names) -> Prior:
    """Return the distribution of concentrations in a recipe as a prior, with its line widths and shifts.

    Ranges of single metabolites are taken as they are; products of several random factors are described by their first
    two moments.

    Raises
    ------
    OptionError
        If there is no such recipe, or it has none of these concentrations.
    """
    import torch

    if not isinstance(recipe, recipes_module.Recipe):
        recipe = recipes_module.Recipe.load(recipe)
    names, spec = tuple(names), recipe.get("concentrations")
    if spec is None:
        raise OptionError("holds no concentrations", option="recipe", value=recipe.name)
    kinds: list[str] = []
    numbers: list[tuple[float, float]] = []
    if spec.get("prior", "typical") == "table":
        ranges = by_names(spec["ranges"], names)
        for name in names:
            kind, pair = _kind(ranges.get(name))
            kinds.append(kind)
            numbers.append(pair)
    else:
        drawn = (
            random_spectra.draw_concentrations(recipe, 20000, list(names), torch.Generator().manual_seed(0))
            .numpy()
            .astype(float)
        )
        if not np.isfinite(drawn).all():
            raise OptionError("draws concentrations without a limit", option="recipe", value=recipe.name)
        for column, name in enumerate(names):
            values = drawn[:, column]
            if is_macromolecule(name) or not is_known(name):
                kinds.append("any")
                numbers.append((0.0, 0.0))
            elif (values > 0).all():
                logs = np.log(values)
                kinds.append("lognormal")
                numbers.append((float(np.exp(logs.mean())), float(logs.std())))
            else:
                kinds.append("normal")
                numbers.append((float(values.mean()), float(values.std())))
    if not any(kind != "any" for kind in kinds):
        raise OptionError(f"holds none of {', '.join(names)}", option="recipe", value=recipe.name)
    widths = [_range(recipe.get(key, 0.0)) for key in ("lorentz_fwhm_hz", "gauss_fwhm_hz", "apodise_fwhm_hz")]
    return Prior(
        names,
        tuple(kinds),
        np.array(numbers, float),
        source=f"recipe {recipe.name}",
        fwhm_hz=(min(low for low, _ in widths), sum(high for _, high in widths)),
        shift_hz=(
            _range(recipe.get("shift_hz"))
            if recipe.get("shift_hz") is not None and not recipe.get("shift_ppm")
            else None
        ),
    )


def _range(spec) -> tuple[float, float]:
    """Return the limits of a range, two SDs from the centre where it has none."""
    if isinstance(spec, (int, float)):
        return float(spec), float(spec)
    ((kind, (a, b)),) = spec.items()
    if kind == "normal":
        return a - 2 * b, a + 2 * b
    return (a * math.exp(-2 * b), a * math.exp(2 * b)) if kind == "lognormal" else (a, b)


def scale_to(prior: Prior, conc: np.ndarray, cov: np.ndarray) -> float:
    """Return the factor that brings a prior to the unit of the data: the likeliest one, for all spectra the same.

    ``conc`` ``(n, n_metabs)`` and ``cov`` ``(n, n_metabs, n_metabs)`` are estimates by the data alone.  Each metabolite
    is compared with its own prior, as if they were independent (a composite likelihood, doi 10.1093/biomet/asm092); at
    most 1024 spectra are used.
    """
    from scipy.optimize import minimize_scalar

    rows = np.flatnonzero(np.isfinite(conc).all(1))
    rows = rows[np.linspace(0, len(rows) - 1, min(1024, len(rows))).astype(int)] if len(rows) else rows
    entries, mean = np.flatnonzero(prior.informative), prior.mean
    entries = entries[mean[entries] > 0]
    x, variance = conc[rows][:, entries], np.diagonal(cov[rows], axis1=1, axis2=2)[:, entries]
    mean = mean[entries]
    good = np.isfinite(variance) & (variance > 0)
    if not good.any():
        return 1.0
    weight = np.where(good, 1 / np.where(good, variance, 1.0), 0.0) * mean**2
    # A first factor: the median over spectra of a weighted mean of the ratios.
    first = float(np.median((weight * x / mean).sum(1) / np.maximum(weight.sum(1), 1e-300)))
    if not first > 0:
        return 1.0
    # In that unit, so that the limit on a single term below means the same for all metabolites.
    x, sd = x / first, np.sqrt(np.where(good, variance, 1.0)) / first

    def negative_log_evidence(log: float) -> float:
        factor, total = math.exp(log), 0.0
        for column, i in enumerate(entries):
            a, b = prior.numbers[i]
            terms = _log_evidence(prior.kinds[i], a, b, factor=factor, x=x[:, column], sd=sd[:, column])
            # Outliers have a bounded weight.
            total -= np.maximum(terms, -15)[good[:, column]].sum()
        return total

    grid = np.linspace(-1.2, 1.2, 49)
    best = grid[int(np.argmin([negative_log_evidence(log) for log in grid]))]
    around = (best - 0.06, best + 0.06)
    minimum = minimize_scalar(negative_log_evidence, bounds=around, method="bounded", options={"xatol": 1e-4})
    return float(first * math.exp(minimum.x))


def _log_evidence(kind: str, a: float, b: float, *, factor: float, x: np.ndarray, sd: np.ndarray) -> np.ndarray:
    """Return the log density of estimates with normal errors where the true values are drawn from ``factor`` times a
    prior, up to a constant."""
    if kind == "uniform" and b > a:
        from scipy.special import ndtr

        inside = ndtr((x - factor * a) / sd) - ndtr((x - factor * b) / sd)
        return np.log(np.maximum(inside, 1e-300)) - math.log(factor * (b - a))
    mean, spread = moments(kind, a, b)
    variance = sd**2 + (factor * spread) ** 2
    return -0.5 * (x - factor * mean) ** 2 / variance - 0.5 * np.log(variance)


MIN_SPECTRA = 50
"""Fewest spectra that a prior can be learnt from."""


def learn(conc: np.ndarray, cov: np.ndarray, names, *, iterations: int = 60, seed: int = 0) -> Prior:
    """Learn mean and covariance of the concentrations of spectra, without the variance due to noise (empirical Bayes).

    Expectation maximisation of the likelihood of ``conc`` ``(n, n_metabs)`` with errors of covariance ``cov``; the
    covariance is shrunk towards its diagonal as by ``2 n_metabs`` further spectra that vary independently.  At most
    2000 spectra are used.  Dempster, Laird, Rubin, doi 10.1111/j.2517-6161.1977.tb01600.x.

    Raises
    ------
    OptionError
        If there are fewer spectra than :data:`MIN_SPECTRA`.
    """
    names = tuple(names)
    good = np.isfinite(conc).all(1) & np.isfinite(cov).all((1, 2))
    rows = np.flatnonzero(good)
    if len(rows) < MIN_SPECTRA:
        there = "there is 1 usable one" if len(rows) == 1 else f"there are {len(rows)} usable ones"
        raise OptionError(
            f"is learnt from {MIN_SPECTRA} spectra at least, {there}",
            option="prior",
            value="volume",
            remedy="give a recipe or a file",
        )
    if len(rows) > 2000:
        rows = np.sort(np.random.default_rng(seed).choice(rows, 2000, replace=False))
    x, c = conc[rows], cov[rows]
    n, m = x.shape
    # Outliers, from fits that went wrong, must not shape the prior of all.
    middle = np.median(x, 0)
    distance = np.abs(x - middle) / np.sqrt(
        np.diagonal(c, axis1=1, axis2=2) + (1.4826 * np.median(np.abs(x - middle), 0)) ** 2
    )
    keep = distance.max(1) < 8
    x, c = (x[keep], c[keep]) if keep.sum() >= 10 else (x, c)
    n = len(x)
    mean = x.mean(0)
    noise = np.median(c, 0)
    floor = (1e-3 * np.maximum(np.abs(mean), np.sqrt(np.diag(noise)))) ** 2
    spread = np.diag(np.maximum(x.var(0) - np.diag(noise), 0.05 * x.var(0)) + floor)
    for _ in range(iterations):
        gain = np.linalg.solve(spread + c, np.broadcast_to(spread, c.shape)).swapaxes(1, 2)
        expected = mean + np.einsum("nij,nj->ni", gain, x - mean)
        remaining = spread - gain @ spread
        mean = expected.mean(0)
        deviations = expected - mean
        total = remaining.sum(0) + deviations.T @ deviations
        spread = (total + 2 * m * np.diag(np.diag(total)) / n) / (n + 2 * m)
        spread = (spread + spread.T) / 2 + np.diag(floor)
    # Mean and covariance are themselves uncertain.
    spread = spread * (1 + m / n)
    return Prior(
        names,
        tuple("any" if is_macromolecule(name) else "normal" for name in names),
        np.stack([mean, np.sqrt(np.diag(spread))], 1),
        cov=spread,
        source=f"learnt from {n} spectra",
    )
