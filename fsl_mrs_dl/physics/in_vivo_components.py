"""Signals that an in vivo spectrum is a sum of - metabolites, lipids, macromolecules - and the priors of each.

Numbers and sources are in ``data/in_vivo.json``.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import NamedTuple

import numpy as np

from ..core import units
from ..core.axes import Axes
from ..core.basis_reference import reference_offset_ppm
from ..core.errors import OptionError
from ..core.metabolites import is_macromolecule, typical_concentrations

__all__ = ["MACROMOLECULE_PRESETS", "Components", "build_components", "priors_table"]

MACROMOLECULE_PRESETS = ("brain", "tumour", "none")
"""Sets of macromolecules and lipids: of healthy brain; with strong lipids and proportions that vary twice as much;
none."""

_HALVED = 0.7  # of the second point, which is hardly smaller than a whole first one
_UNKNOWN_CONCENTRATION = 0.5  # mmol/kg, of a metabolite that the table of typical ones does not have


@lru_cache
def priors_table() -> dict:
    """Return the data file of priors as a dictionary."""
    return json.loads(resources.files("fsl_mrs_dl").joinpath("data/in_vivo.json").read_text(encoding="utf-8"))


def _all_survives(ppm: float) -> complex:
    return 1.0


class _Lines(NamedTuple):
    """What lines of the table depend on: echo, repetition and start of the measurement, in seconds, what editing pulses
    leave of a line, and how far the basis set is from its places, in ppm."""

    te_s: float
    tr_s: float
    start_s: float
    survival: Callable[[float], complex] = _all_survives
    offset_ppm: float = 0.0


@dataclass(frozen=True)
class _Group:
    """Components of one kind, an array of one row each."""

    kind: str
    names: list[str]
    fids: np.ndarray
    expected: np.ndarray
    log_sd: np.ndarray
    shift_sd_ppm: float
    width_sd: float
    gauss_variance: np.ndarray


@dataclass(frozen=True)
class Components:
    """All signals of a spectrum on the data's time grid, with their priors.

    Attributes
    ----------
    names : tuple of str
        Metabolites, then lipids, then a co-edited macromolecule if there is one, then macromolecules.
    kinds : ndarray of str ``(n,)``
        'metabolite', 'lipid', 'co-edited' (a macromolecule's line of edited data, with an amplitude of its own) or
        'mm'.
    fids : complex ndarray ``(n, n_points)``
    expected : ndarray ``(n,)``
        Typical amplitudes; the units of metabolites and of macromolecules are free.
    log_sd : ndarray ``(n,)``
        SD of the logarithm of the amplitude about the expected one, the common unit aside.
    shift_sd_hz, width_sd : ndarray ``(n,)``
        SDs of the component's own shift (Hz) and damping (1/s).
    gauss_variance : ndarray ``(n,)``
        Gaussian damping of a macromolecule's line, ``exp(-gauss_variance t^2)`` with t in s; zero where the signal is
        damped already.
    """

    names: tuple[str, ...]
    kinds: np.ndarray
    fids: np.ndarray
    expected: np.ndarray
    log_sd: np.ndarray
    shift_sd_hz: np.ndarray
    width_sd: np.ndarray
    gauss_variance: np.ndarray

    @property
    def n_linear(self) -> int:
        """Number of metabolites and lipids, which come first."""
        return int((self.kinds != "mm").sum())


def build_components(
    fids: np.ndarray,
    names: tuple[str, ...],
    axes: Axes,
    *,
    te_s: float,
    tr_s: float,
    mm: str = "brain",
    start_s: float = 0.0,
    survival: Callable[[float], complex] = _all_survives,
    unit_fids: np.ndarray | None = None,
    moved: bool = True,
) -> Components:
    """Put metabolites, lipids and macromolecules together.

    Parameters
    ----------
    fids : complex ndarray ``(n_metabs, n_points)``
        The basis set on the data's time grid.  Entries that are macromolecules by name are a measured pattern, and take
        the place of the table's lines.
    te_s, tr_s : float
        Echo and repetition time in seconds, which macromolecules and lipids are weighted for.
    mm : str
        One of :data:`MACROMOLECULE_PRESETS`.
    start_s : float
        Time of the first point after the echo, in seconds.
    survival : callable
        Factor that editing pulses multiply a line of macromolecules or lipids at a chemical shift (ppm) by.
    unit_fids : complex ndarray ``(n_metabs, n_points)``, optional
        Basis set that the units of macromolecules and lipids are taken from: ``fids`` by default.
    moved : bool
        Lines of the table are as far off their places as the singlets of the basis set.

    Raises
    ------
    OptionError
        Unknown preset, or a basis set without metabolites.
    """
    if mm not in MACROMOLECULE_PRESETS:
        raise OptionError(
            "no such preset", option="mm", value=mm, remedy=f"choose one of {', '.join(MACROMOLECULE_PRESETS)}"
        )
    table = priors_table()
    pattern = np.array([is_macromolecule(name) for name in names])
    if pattern.all():
        raise OptionError("the basis set has no metabolites", option="keep", remedy="name some")
    of_units = fids if unit_fids is None else unit_fids
    offset_ppm = reference_offset_ppm(of_units, names, axes) if moved else 0.0
    times = _Lines(te_s, tr_s, start_s, survival, offset_ppm)
    proton = _beginnings(of_units[~pattern]).mean() / table["protons"]
    groups = [_metabolites(fids[~pattern], [n for n, own in zip(names, pattern) if not own], axes.nucleus)]
    if axes.nucleus == "1H" and mm != "none":
        groups.append(_lipids(axes, mm, times, proton))
    if pattern.any():
        own_names = [name for name, own in zip(names, pattern) if own]
        unit = proton * table["protons"] / np.abs(of_units[pattern].sum(0)).max()
        groups.append(_measured_pattern(fids[pattern], own_names, axes, unit))
    elif axes.nucleus == "1H" and mm != "none":
        groups.append(_macromolecules(axes, mm, times, proton))
    sizes = [len(group.names) for group in groups]
    return Components(
        names=tuple(name for group in groups for name in group.names),
        kinds=np.repeat([group.kind for group in groups], sizes),
        fids=np.concatenate([group.fids for group in groups]),
        expected=np.concatenate([group.expected for group in groups]),
        log_sd=np.concatenate([group.log_sd for group in groups]),
        shift_sd_hz=np.repeat([group.shift_sd_ppm * axes.spec_freq_mhz for group in groups], sizes),
        width_sd=np.repeat([group.width_sd for group in groups], sizes),
        gauss_variance=np.concatenate([group.gauss_variance for group in groups]),
    )


def _beginnings(fids: np.ndarray) -> np.ndarray:
    """Return the size of FIDs at their beginning, ``(n,)``; some programs that write LCModel's format halve the first
    point of all."""
    first, second = np.abs(fids[:, :2]).T
    halved = np.median(first / np.maximum(second, np.finfo(float).tiny)) < _HALVED
    return 2 * first if halved else first


def _metabolites(fids: np.ndarray, names: list[str], nucleus: str) -> _Group:
    table, n = priors_table(), len(names)
    typical = typical_concentrations(names) if nucleus == "1H" else None
    spread = table["concentrations"]["log_sd"]
    if typical is None:
        expected, log_sd = np.ones(n), np.full(n, 3 * spread)
    else:
        expected = np.where(typical > 0, typical, _UNKNOWN_CONCENTRATION)
        log_sd = np.where(typical > 0, spread, 1.5 * spread)
    shift, width = table["shift_ppm"]["metabolite"], table["width_per_s"]["metabolite"]
    return _Group("metabolite", names, fids, expected, log_sd, shift, width, np.zeros(n))


def _lipids(axes: Axes, preset: str, times: _Lines, proton: float) -> _Group:
    table = priors_table()
    entries = table["lipids"][preset]
    fids, _ = _gaussian_lines(entries, axes, times)
    return _Group(
        "lipid",
        [entry["name"] for entry in entries],
        fids * proton,
        np.array([entry["expected"] for entry in entries]),
        np.array([entry["log_sd"] for entry in entries]),
        table["shift_ppm"]["lipid"],
        table["width_per_s"]["lipid"],
        np.zeros(len(entries)),
    )


def _macromolecules(axes: Axes, preset: str, times: _Lines, proton: float) -> _Group:
    table = priors_table()
    about = table["macromolecules"]
    fids, variances = _gaussian_lines(about["lines"], axes, times, damped=False)
    log_sd = np.array([entry.get("log_sd", about["log_sd"]) for entry in about["lines"]])
    names = [entry["name"] for entry in about["lines"]]
    factor = 2.0 if preset == "tumour" else 1.0
    ones = np.ones(len(names))
    return _Group("mm", names, fids * proton, ones, factor * log_sd, table["shift_ppm"]["mm"], 0.0, variances)


def _measured_pattern(fids: np.ndarray, names: list[str], axes: Axes, unit: float) -> _Group:
    """Return a user's macromolecules: one pattern in overlapping pieces, or several entries as they are."""
    table = priors_table()
    about, log_sd = table["own_pattern"], table["macromolecules"]["log_sd"]
    if len(fids) == 1:
        fids, centres = _pieces(fids[0], axes, about["piece_ppm"])
        names, log_sd = [f"MM{100 * centre:03.0f}" for centre in centres], about["log_sd"]
    n = len(fids)
    expected = np.full(n, about["expected"])
    fids = fids * unit
    return _Group("mm", names, fids, expected, np.full(n, log_sd), table["shift_ppm"]["own_pattern"], 0.0, np.zeros(n))


def _gaussian_lines(
    entries: list[dict], axes: Axes, times: _Lines, damped: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Return signals of entries, each one or several Gaussian lines, complex ``(n, n_points)``, and their Gaussian
    damping ``(n,)``.

    Areas are those at the table's echo time and a long repetition time.  Where ``damped`` is false the damping is left
    to the model.
    """
    time = times.start_s + np.arange(axes.n_points) * axes.dwelltime
    at_te_s = priors_table()["macromolecules"]["at_te_s"]
    fids, variances = np.zeros((len(entries), axes.n_points), complex), np.zeros(len(entries))
    for row, entry in enumerate(entries):
        weight = np.exp(-(times.te_s - at_te_s) / entry["t2_s"]) * (1 - np.exp(-times.tr_s / entry["t1_s"]))
        for line in entry["lines"]:
            variance = (np.pi * line["fwhm_ppm"] * axes.spec_freq_mhz) ** 2 / (4 * np.log(2))
            turns = np.exp(2j * np.pi * axes.ppm_to_hz(line["ppm"] + times.offset_ppm) * time)
            area = weight * line["area"] * times.survival(line["ppm"])
            fids[row] += area * turns * np.exp(-variance * damped * time**2)
            variances[row] = variances[row] or variance
    return fids, variances


def _pieces(fid: np.ndarray, axes: Axes, width_ppm: float) -> tuple[np.ndarray, np.ndarray]:
    """Divide a pattern into overlapping stretches of its spectrum that sum up to it: ``(n, n_points)``, and their
    centres (ppm)."""
    n = len(fid)
    spectrum = units.fid_to_spec(np.pad(fid, (0, n)))
    ppm = axes.with_points(2 * n).ppm()
    centres = np.arange(0.6, 4.4, width_ppm)
    place = np.clip((ppm - centres[0]) / width_ppm, 0, len(centres) - 1)
    weight = np.clip(1 - np.abs(place - np.arange(len(centres))[:, None]), 0, 1)
    weight = np.sin(0.5 * np.pi * weight) ** 2
    return units.spec_to_fid(spectrum * weight)[:, :n], centres
