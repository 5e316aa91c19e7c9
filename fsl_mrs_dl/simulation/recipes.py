"""Recipes: the ranges that random spectra are drawn from."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import torch

from ..core.errors import OptionError
from ..io.files import json_content
from .recipe_checks import LINE_KEYS, PER_METABOLITE_KEYS, check_entries, check_range, check_ranges, is_number

__all__ = [
    "LINE_KEYS",
    "PER_METABOLITE_KEYS",
    "Recipe",
    "check_range",
    "check_ranges",
    "is_number",
    "recipe_names",
    "sample",
]

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
            text = resources.files("fsl_mrs_dl").joinpath(f"data/recipes/{name}.json").read_bytes()
        elif path.is_file():
            text = path.read_bytes()
        else:
            raise OptionError(
                "no such recipe or file", option="recipe", value=name, remedy=f"there are {', '.join(recipe_names())}"
            )
        try:
            content = json_content(text)
        except ValueError as exc:
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
        if not isinstance(content, dict):
            raise OptionError(f"{name}: a recipe is an object, entries in curly brackets.")
        unknown = set(content) - _SPECTRUM_KEYS
        if unknown:
            raise OptionError(
                f"{name}: '{min(unknown)}' is no entry of a recipe; there are {', '.join(sorted(_SPECTRUM_KEYS))}."
            )
        if "augment" not in content and not {"concentrations", "snr"} <= set(content):
            raise OptionError(f"{name}: a recipe needs 'concentrations' and 'snr', or 'augment'.")
        for key, value in content.items():
            check_ranges(f"{name}: {key}", value)
        check_entries(name, content)
        snr_of = content.get("snr_of", "peak")
        if snr_of not in ("peak", "energy") and not (is_number(snr_of) and snr_of > 0):
            raise OptionError(f"{name}: snr_of: {json.dumps(snr_of)} is neither peak nor energy nor a positive number.")
        unknown = set(content.get("each") or {}) - {*PER_METABOLITE_KEYS, "macromolecules"}
        if unknown:
            known = ", ".join(PER_METABOLITE_KEYS)
            raise OptionError(f"{name}: each: '{min(unknown)}' is unknown; there are {known} and macromolecules.")
        return cls(name, content)

    def get(self, key: str, default=None):
        """Return an entry, or the default."""
        return self.content.get(key, default)


def sample(spec, shape, generator: torch.Generator) -> torch.Tensor:
    """Draw from a range; return float32 values of the given shape."""
    if is_number(spec):
        return torch.full(shape, float(spec))
    ((kind, numbers),) = spec.items()
    a, b = map(float, numbers)
    if kind in ("normal", "lognormal"):
        standard = torch.randn(shape, generator=generator)
        return a + b * standard if kind == "normal" else a * torch.exp(b * standard)
    part = torch.rand(shape, generator=generator)
    return a + (b - a) * part if kind == "uniform" else a * torch.exp(part * math.log(b / a))
