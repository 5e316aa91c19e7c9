"""Recipes: the ranges that random spectra are drawn from."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import torch

from ..core.errors import OptionError

__all__ = ["LINE_KEYS", "PER_METABOLITE_KEYS", "Recipe", "check_ranges", "is_number", "recipe_names", "sample"]

_KINDS = {"uniform": 2, "loguniform": 2, "normal": 2, "lognormal": 2}

_SPECTRUM_KEYS = {
    "doc",
    "source",
    "concentrations",
    "lorentz_fwhm_hz",
    "gauss_fwhm_hz",
    "shift_ppm",
    "shift_hz",
    "phase_deg",
    "phi1_deg_per_ppm",
    "macromolecules",
    "baseline",
    "water",
    "lipids",
    "spikes",
    "apodise_fwhm_hz",
    "snr",
    "snr_of",
    "each",
    "shim",
    "measured_macromolecules",
    "scalp_lipid",
    "echoes",
    "protocols",
    "transients",
    "augment",
}


LINE_KEYS = ("probability", "n", "height", "ppm", "lorentz_fwhm_hz", "gauss_fwhm_hz", "phase_deg", "fwhm_ppm")
"""Entries of a group of random lines."""

PER_METABOLITE_KEYS = ("shift_hz", "damping_per_s", "phase_deg", "shift_ppm")
"""Parameters that every metabolite may have of its own, under 'each'; shifts in Hz and in ppm are added."""


def recipe_names() -> list[str]:
    """Return the names of the recipes that come with the package."""
    folder = resources.files("fsl_mrs_dl").joinpath("data/recipes")
    return sorted(entry.name.removesuffix(".json") for entry in folder.iterdir() if entry.name.endswith(".json"))


@dataclass(frozen=True)
class Recipe:
    """Ranges of random spectra: a checked dictionary, read from a file.

    A range is a number, or one of ``{"uniform": [low, high]}``, ``{"loguniform": [low, high]}``, ``{"normal": [mean,
    sd]}`` and ``{"lognormal": [median, sd of the logarithm]}``.
    """

    name: str
    content: dict

    @classmethod
    def load(cls, name: str | Path) -> Recipe:
        """Load a recipe by its name (:func:`recipe_names`) or from a JSON file.

        Raises
        ------
        OptionError
            If there is none, or an entry is malformed.
        """
        path = Path(name)
        if str(name) in recipe_names():
            text = resources.files("fsl_mrs_dl").joinpath(f"data/recipes/{name}.json").read_text(encoding="utf-8")
        elif path.is_file():
            text = path.read_text(encoding="utf-8-sig")
        else:
            raise OptionError(
                "no such recipe or file", option="recipe", value=name, remedy=f"there are {', '.join(recipe_names())}"
            )
        try:
            content = json.loads(text)
        except json.JSONDecodeError as exc:
            raise OptionError(f"{name}: is not JSON ({exc}).") from exc
        try:
            return cls.of(path.stem, content)
        except OptionError as exc:
            raise OptionError(
                exc.problem.removeprefix(f"{path.stem}: "), option="recipe", value=name, remedy=exc.remedy
            ) from exc

    @classmethod
    def of(cls, name: str, content: dict) -> Recipe:
        """Check a dictionary and return it as a recipe.

        Raises
        ------
        OptionError
            If an entry is malformed.
        """
        unknown = set(content) - _SPECTRUM_KEYS
        if unknown:
            raise OptionError(
                f"{name}: '{min(unknown)}' is no entry of a recipe; there are {', '.join(sorted(_SPECTRUM_KEYS))}."
            )
        if "augment" not in content and not {"concentrations", "snr"} <= set(content):
            raise OptionError(f"{name}: a recipe needs 'concentrations' and 'snr', or 'augment'.")
        for key, value in content.items():
            check_ranges(f"{name}: {key}", value)
        snr_of = content.get("snr_of", "peak")
        if snr_of not in ("peak", "energy") and not (is_number(snr_of) and snr_of > 0):
            raise OptionError(f"{name}: snr_of: {json.dumps(snr_of)} is neither peak nor energy nor a positive number.")
        unknown = set(content.get("each", {})) - {*PER_METABOLITE_KEYS, "macromolecules"}
        if unknown:
            known = ", ".join(PER_METABOLITE_KEYS)
            raise OptionError(f"{name}: each: '{min(unknown)}' is unknown; there are {known} and macromolecules.")
        return cls(name, content)

    def get(self, key: str, default=None):
        """Return an entry, or the default."""
        return self.content.get(key, default)


def check_ranges(where: str, value) -> None:
    """Raise OptionError unless :func:`sample` can draw from every range in an entry of a recipe."""
    if isinstance(value, dict):
        kinds = set(value) & set(_KINDS)
        for key, one in value.items():
            if key not in _KINDS and isinstance(one, list) and len(one) == 2 and all(map(is_number, one)):
                raise OptionError(f"{where}: '{key}' is no kind of range; there are {', '.join(_KINDS)}.")
        if kinds:
            kind = kinds.pop()
            numbers = value[kind]
            if (
                len(value) != 1
                or not isinstance(numbers, list)
                or len(numbers) != 2
                or not all(map(is_number, numbers))
            ):
                raise OptionError(f"{where}: {json.dumps(value)} is no range; write for example {{'{kind}': [1, 2]}}.")
            if kind in ("normal", "lognormal") and numbers[1] < 0:
                raise OptionError(f"{where}: {json.dumps(value)}: the second number is an SD, which is not negative.")
            if kind in ("uniform", "loguniform") and numbers[0] > numbers[1] or kind[:3] == "log" and numbers[0] <= 0:
                raise OptionError(
                    f"{where}: {json.dumps(value)}: limits in ascending order, above zero for logarithmic ones."
                )
            return
        for key, one in value.items():
            check_ranges(f"{where}: {key}", one)
    elif isinstance(value, list):
        for one in value:
            check_ranges(where, one)


def is_number(value) -> bool:
    """Return whether a value is a finite number, not a boolean."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def sample(spec, shape, generator: torch.Generator) -> torch.Tensor:
    """Draw from a range; return float32 values of the given shape."""
    if is_number(spec):
        return torch.full(shape, float(spec))
    ((kind, (a, b)),) = spec.items()
    if kind in ("normal", "lognormal"):
        standard = torch.randn(shape, generator=generator)
        return a + b * standard if kind == "normal" else a * torch.exp(b * standard)
    part = torch.rand(shape, generator=generator)
    return a + (b - a) * part if kind == "uniform" else a * torch.exp(part * math.log(b / a))
