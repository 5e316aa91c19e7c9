"""What a header says of the spectra of a series: their time variable, and labels that distinguish them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..core.errors import OptionError
from ..io.header_keys import ElementValues, element_values
from ..io.nifti import MrsData

__all__ = ["HeaderVariable", "agreement", "header_variable", "is_diffusion", "labels_of", "series_elements"]

_MOST_MS_PER_UM2 = 100.0  # larger b values are in s/mm2
_TIMES = ("EchoTime", "InversionTime", "MixingTime", "RepetitionTime")
_SCALES = (1.0, 1e3, 1e-3, 1e6, 1e-6)
_SAME = 1e-3


@dataclass(frozen=True)
class HeaderVariable:
    """A time variable that the header has: values ``(n_times,)``, and where they are from in words."""

    key: str
    values: np.ndarray
    words: str


def series_elements(data: MrsData) -> list[ElementValues]:
    """Return what the header gives for each spectrum of a series of one dimension of more than one element."""
    sizes = [(number, size) for number, size in enumerate(data.fids.shape[4:], start=5) if size > 1]
    if len(sizes) != 1:
        return []
    return element_values(data.header, *sizes[0])


def _is_b(one: ElementValues) -> bool:
    return one.key.lower().replace("_", "").replace("-", "") in ("b", "bval", "bvals", "bvalue", "bvalues")


def _numeric(elements: list[ElementValues]) -> list[ElementValues]:
    return [one for one in elements if one.values.dtype != object and np.isfinite(one.values).all()]


def is_diffusion(elements: list[ElementValues]) -> bool:
    """Whether spectra have b values, and one of them is above zero."""
    return any(_is_b(one) and bool((one.values > 0).any()) for one in _numeric(elements))


def header_variable(data: MrsData) -> HeaderVariable:
    """Return the time variable of the header's ``dim_N_header``.

    It is the b value where there is one, or else the only key whose numbers differ, or one of the times of a sequence.
    b values of more than 100 are in s/mm2; they are divided by 1000, to ms/um2.  All others are as the header has them.

    Raises
    ------
    OptionError
        If the header has none, or several.
    """
    differing = [one for one in _numeric(series_elements(data)) if np.ptp(one.values) > 0]
    chosen = [one for one in differing if _is_b(one)] or [one for one in differing if one.key in _TIMES] or differing
    if len(chosen) != 1:
        found = f"several ({', '.join(one.key for one in chosen)})" if chosen else "none"
        raise OptionError(
            f"{data.name}: the header has {found} for the spectra of the series",
            option="time_variables",
            remedy="give a file with a number for each spectrum",
        )
    (one,) = chosen
    values, words = one.values.astype(float), f"{one.key} of the header"
    if _is_b(one) and values.max() > _MOST_MS_PER_UM2:
        return HeaderVariable(one.key, values / 1e3, f"{words}, divided by 1000: in ms/um2")
    if _is_b(one):
        return HeaderVariable(one.key, values, f"{words}: in ms/um2")
    return HeaderVariable(one.key, values, f"{words} ({one.unit})" if one.unit else words)


def agreement(data: MrsData, time_variable: np.ndarray) -> str:
    """Return in words where a time variable that was given is another one than the header's; empty where it is not.

    Values that differ by a factor of a thousand or a million are the same in another unit.
    """
    differing = [one for one in _numeric(series_elements(data)) if np.ptp(one.values) > 0]
    if time_variable.ndim != 1 or not differing:
        return ""
    reach = _SAME * np.abs(time_variable).max()
    for one in differing:
        if any(np.abs(one.values * scale - time_variable).max() <= reach for scale in _SCALES):
            return ""
    one = next((one for one in differing if _is_b(one)), differing[0])
    best = min(_SCALES, key=lambda scale: float(np.abs(one.values * scale - time_variable).max()))
    worst = int(np.abs(one.values * best - time_variable).argmax())
    return (
        f"the time variable is not the header's {one.key}: spectrum {worst} (from 0) has {time_variable[worst]:g},"
        f" and the header {one.values[worst]:g}"
    )


def labels_of(data: MrsData, time_variable: np.ndarray) -> list[str]:
    """Return what differs between spectra of the same time variable, as the diffusion direction; empty texts where
    nothing does or all times differ."""
    n_times = len(time_variable)
    if time_variable.ndim == 1 and len(np.unique(time_variable)) == n_times:
        return [""] * n_times
    labels = [""] * n_times
    for one in series_elements(data):
        texts = [value if one.values.dtype == object else f"{value:g}" for value in one.values]
        same_as_time = time_variable.ndim == 1 and all(
            len({texts[k] for k in np.flatnonzero(time_variable == value)}) == 1 for value in np.unique(time_variable)
        )
        if len(set(texts)) > 1 and not same_as_time:
            labels = [f"{label}, {one.key} {text}".removeprefix(", ") for label, text in zip(labels, texts)]
    return labels
