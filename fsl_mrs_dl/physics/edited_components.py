"""Signals of edited data: those of every condition, and the macromolecule that is edited with GABA."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from ..core import units
from ..core.axes import Axes
from ..core.editing import EditingPulse
from .editing_pulses import survival
from .in_vivo_components import Components, build_components, priors_table

__all__ = ["edited_components", "places_of", "survivals_of"]

_SPECTRUM_PPM = (0.0, 5.2)  # pulses elsewhere invert nothing that is fitted
_LEAST_EDITED = 0.02  # of a proton, of the difference of conditions that counts as edited


def places_of(pulses: Sequence[Sequence[EditingPulse]]) -> tuple[tuple[float, ...], ...]:
    """Return the places (ppm) in the spectrum that the pulses of each condition invert."""
    low, high = _SPECTRUM_PPM
    return tuple(
        tuple(sorted(centre for pulse in of_one for centre in pulse.centres_ppm if low <= centre <= high))
        for of_one in pulses
    )


def survivals_of(pulses: Sequence[Sequence[EditingPulse]], spec_freq_mhz: float) -> list[Callable[[float], complex]]:
    """Return for each condition the function of a line's chemical shift (ppm) of the share that its pulses leave."""
    return [partial(_share_left, tuple(one), spec_freq_mhz) for one in pulses]


def _share_left(pulses: tuple[EditingPulse, ...], spec_freq_mhz: float, ppm: float) -> complex:
    return complex(survival(pulses, ppm, spec_freq_mhz))


def edited_components(
    fids: np.ndarray,
    names: tuple[str, ...],
    axes: Axes,
    survivals: Sequence[Callable[[float], complex]],
    *,
    te_s: float,
    tr_s: float,
    mm: str = "brain",
    start_s: float = 0.0,
    reference: int = 0,
) -> tuple[Components, np.ndarray]:
    """Put the signals of all conditions together.

    Parameters
    ----------
    fids : complex ndarray ``(n_conditions, n_metabs, n_points)``
        Basis sets on the data's time grid.
    names : tuple of str
    axes : Axes
    survivals : sequence of callables
        For each condition: factor that its editing pulses multiply a line at a chemical shift (ppm) by.
    te_s, tr_s, mm, start_s
        See :func:`.in_vivo_components.build_components`.
    reference : int
        Condition whose components are returned.

    Returns
    -------
    Components
    complex ndarray ``(n_conditions, n_components, n_points)``
        Signals in each condition.

    Raises
    ------
    OptionError
    """
    each = [
        build_components(
            one,
            names,
            axes,
            te_s=te_s,
            tr_s=tr_s,
            mm=mm,
            start_s=start_s,
            survival=survival,
            unit_fids=fids[reference],
        )
        for one, survival in zip(fids, survivals)
    ]
    if mm != "none":
        co_edited = _co_edited(fids, names, axes, survivals, start_s)
        if co_edited is not None:
            each = [_with_line(one, signal) for one, signal in zip(each, co_edited)]
    return each[reference], np.stack([one.fids for one in each])


def _co_edited(fids, names, axes: Axes, survivals, start_s: float) -> np.ndarray | None:
    """Return the co-edited line in each condition, complex ``(n_conditions, n_points)``, in units of GABA's edited
    line; None without GABA, or where it is not edited."""
    about = priors_table()["edited"]["co_edited"]
    if about["from"] not in names:
        return None
    first, last = axes.window(tuple(about["window_ppm"]))
    gaba = fids[:, names.index(about["from"])]
    time = start_s + np.arange(axes.n_points) * axes.dwelltime
    variance = (np.pi * about["fwhm_ppm"] * axes.spec_freq_mhz) ** 2 / (4 * np.log(2))
    line = np.exp(2j * np.pi * axes.ppm_to_hz(about["ppm"]) * time - variance * time**2)

    def area(signals: np.ndarray) -> np.ndarray:
        return units.fid_to_spec(signals)[..., first:last].real.sum(-1)

    areas = area(gaba) / area(line)
    edited = 1 - np.abs([survival(about["pulse_ppm"]) for survival in survivals])
    if np.ptp(edited) < 0.1:
        # Pulses are not known: GABA itself shows them.
        edited = (areas - areas.min()) / max(np.ptp(areas), 1e-30)
    most, least = int(np.argmax(edited)), int(np.argmin(edited))
    unit = (areas[most] - areas[least]) / (edited[most] - edited[least])
    if unit < _LEAST_EDITED * np.abs(gaba[:, 0]).max():
        return None
    return unit * edited[:, None] * line


def _with_line(components: Components, fid: np.ndarray) -> Components:
    """Return components with the co-edited line before the macromolecules."""
    table = priors_table()
    about, at = table["edited"]["co_edited"], components.n_linear
    gaba = components.names.index(about["from"])
    values = {
        "kinds": "co-edited",
        "expected": components.expected[gaba] * about["share"] / (1 - about["share"]),
        "log_sd": about["log_sd"],
        "shift_sd_hz": table["shift_ppm"]["mm"] * components.shift_sd_hz[gaba] / table["shift_ppm"]["metabolite"],
        "width_sd": table["width_per_s"]["lipid"],
        "gauss_variance": 0.0,
    }
    arrays: dict[str, Any] = {
        name: np.insert(np.asarray(getattr(components, name)), at, value) for name, value in values.items()
    }
    arrays["kinds"] = np.insert(components.kinds.astype("U10"), at, "co-edited")
    names = (*components.names[:at], about["name"], *components.names[at:])
    return replace(components, names=names, fids=np.insert(components.fids, at, fid, axis=0), **arrays)
