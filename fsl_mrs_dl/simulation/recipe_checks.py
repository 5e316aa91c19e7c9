"""What each entry of a recipe may hold, and its check."""

from __future__ import annotations

import json
import math

from ..core.errors import OptionError

__all__ = [
    "LINE_KEYS",
    "PER_METABOLITE_KEYS",
    "RANGE_KINDS",
    "check_entries",
    "check_range",
    "check_ranges",
    "is_number",
]

RANGE_KINDS = ("uniform", "loguniform", "normal", "lognormal")

_LARGEST = 1e30  # spectra are in single precision
_LARGEST_LOG_SD = 10.0
_MOST_LINES = 1000

LINE_KEYS = ("probability", "n", "height", "ppm", "lorentz_fwhm_hz", "gauss_fwhm_hz", "phase_deg", "fwhm_ppm")
"""Entries of a group of random lines."""

PER_METABOLITE_KEYS = ("shift_hz", "damping_per_s", "phase_deg", "shift_ppm")
"""Parameters that every metabolite may have of its own, under 'each'; shifts in Hz and in ppm are added."""

_RANGES = (
    "lorentz_fwhm_hz",
    "gauss_fwhm_hz",
    "shift_ppm",
    "shift_hz",
    "phase_deg",
    "phi1_deg_per_ppm",
    "apodise_fwhm_hz",
    "snr",
    "amplitude",
)
_LINES = ("water", "lipids", "baseline", "unstable_water", "unstable_lipids", "nuisance")
# Entries of parts that are no ranges, wherever they stand.
_PROBABILITIES = ("probability", "unstable_water_probability", "unstable_lipids_probability", "absent", "rare")
_NEEDED = {
    "macromolecules": ("height",),
    "spikes": ("height",),
    "measured_macromolecules": ("amount",),
    "scalp_lipid": ("height",),
    "echoes": ("height", "ppm", "time_ms", "duration_ms"),
    "protocols": ("spec_freq_mhz", "te_ms", "sequences"),
}


def is_number(value) -> bool:
    """Return whether a value is a number in single precision's range, not a boolean; whole ones fit into 64 bits."""
    if isinstance(value, int) and abs(value) >= 2**63:
        return False
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -_LARGEST < value < _LARGEST


def check_ranges(where: str, value) -> None:
    """Raise OptionError unless :func:`fsl_mrs_dl.simulation.recipes.sample` can draw from every range in an entry of a
    recipe."""
    if isinstance(value, dict):
        for key, one in value.items():
            if key not in RANGE_KINDS and isinstance(one, list) and len(one) == 2 and all(map(is_number, one)):
                raise OptionError(f"{where}: '{key}' is no kind of range; there are {', '.join(RANGE_KINDS)}.")
        if set(value) & set(RANGE_KINDS):
            check_range(where, value)
            return
        for key, one in value.items():
            check_ranges(f"{where}: {key}", one)
    elif isinstance(value, list):
        for one in value:
            check_ranges(where, one)


def check_range(where: str, value) -> None:
    """Raise OptionError unless a value is a number or a range.

    >>> check_range("snr", {"uniform": [1, 2]})
    >>> check_range("snr", "high")
    Traceback (most recent call last):
        ...
    fsl_mrs_dl.core.errors.OptionError: snr: "high" is no range; write for example {'uniform': [1, 2]}.
    """
    if is_number(value):
        return
    kind = next((one for one in RANGE_KINDS if isinstance(value, dict) and one in value), "uniform")
    numbers = value.get(kind) if isinstance(value, dict) and len(value) == 1 else None
    if not isinstance(numbers, list) or len(numbers) != 2 or not all(map(is_number, numbers)):
        text = json.dumps(value)
        text = text if len(text) < 100 else f"{text[:100]}..."
        raise OptionError(f"{where}: {text} is no range; write for example {{'{kind}': [1, 2]}}.")
    if kind in ("normal", "lognormal") and numbers[1] < 0:
        raise OptionError(f"{where}: {json.dumps(value)}: the second number is an SD, which is not negative.")
    if kind == "lognormal" and numbers[1] > _LARGEST_LOG_SD:
        raise OptionError(f"{where}: {json.dumps(value)}: the second number is the SD of a logarithm, 10 at most.")
    if kind in ("uniform", "loguniform") and numbers[0] > numbers[1] or kind[:3] == "log" and numbers[0] <= 0:
        raise OptionError(f"{where}: {json.dumps(value)}: limits in ascending order, above zero for logarithmic ones.")


def check_entries(name: str, content: dict) -> None:
    """Raise OptionError unless every entry of a recipe has the type that is drawn from.

    Names of entries within a part are checked where they are drawn from.  Parts may be empty or null.
    """
    for key, value in content.items():
        where = f"{name}: {key}"
        if key in _RANGES:
            check_range(where, value)
        elif key in _LINES:
            _check_lines(where, value)
        elif key == "concentrations":
            _check_concentrations(where, value)
        elif key not in ("doc", "source", "snr_of") and value:
            _check_part(where, key, value)


def _check_part(where: str, part: str, value) -> None:
    """Check one part: an object of ranges, numbers, and groups of lines."""
    _check_object(where, value, _NEEDED.get(part, ()))
    for key, one in value.items():
        if key in _LINES:
            _check_lines(f"{where}: {key}", one)
        elif key in _PROBABILITIES:
            _check_probability(f"{where}: {key}", one)
        elif (part, key) in (("macromolecules", "spread"), ("augment", "most_lipid")):
            _check_number(f"{where}: {key}", one)
        elif part == "protocols" and key == "sequences":
            if not isinstance(one, list) or not one:
                raise OptionError(f"{where}: {key}: a list is needed.")
        elif (part, key) != ("each", "macromolecules"):
            check_range(f"{where}: {key}", one)


def _check_lines(where: str, value) -> None:
    """Check one group of lines, or a list of groups."""
    if not value:
        return
    for group in value if isinstance(value, list) else [value]:
        _check_object(where, group, ("height", "ppm"))
        for key, one in group.items():
            if key == "n" and not (is_number(one) and 1 <= one <= _MOST_LINES):
                raise OptionError(f"{where}: n: {json.dumps(one)[:40]} is no number of lines, 1 to {_MOST_LINES}.")
            if key in _PROBABILITIES:
                _check_probability(f"{where}: {key}", one)
            elif key in LINE_KEYS and key != "n":
                check_range(f"{where}: {key}", one)


def _check_concentrations(where: str, value) -> None:
    _check_object(where, value, ("ranges",) if isinstance(value, dict) and value.get("prior") == "table" else ())
    for key, one in value.items():
        if key in ("factors", "ranges"):
            _check_object(f"{where}: {key}", one)
            for name, spec in one.items():
                check_range(f"{where}: {key}: {name}", spec)
        elif key in ("absent", "most", "other"):
            _check_number(f"{where}: {key}", one)
        elif key in ("spread", "macromolecules"):
            check_range(f"{where}: {key}", one)
        elif key == "prior" and not isinstance(one, str):
            raise OptionError(f"{where}: prior: {json.dumps(one)[:40]} is unknown; choose typical, uniform or table.")


def _check_object(where: str, value, needed: tuple[str, ...] = ()) -> None:
    if not isinstance(value, dict):
        raise OptionError(f"{where}: entries in curly brackets are needed, not {json.dumps(value)[:40]}.")
    missing = [key for key in needed if key not in value]
    if missing:
        raise OptionError(f"{where}: '{missing[0]}' is needed.")


def _check_number(where: str, value) -> None:
    if not is_number(value) or not math.isfinite(value) or value < 0:
        raise OptionError(f"{where}: {json.dumps(value)[:40]} is no number that is not negative.")


def _check_probability(where: str, value) -> None:
    if not is_number(value) or not 0 <= value <= 1:
        raise OptionError(f"{where}: {json.dumps(value)[:40]} is no probability, 0 to 1.")
