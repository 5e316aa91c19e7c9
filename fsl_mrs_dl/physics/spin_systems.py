"""Spin systems of metabolites: shifts and couplings of their protons, from ``data/spin_systems.json``."""

from __future__ import annotations

import difflib
import functools
import json
from dataclasses import dataclass
from importlib import resources

from ..core.errors import BasisError
from ..core.metabolites import name_among

__all__ = ["Heteronucleus", "SpinGroup", "SpinSystem", "constants", "metabolite_names", "spin_system"]


@dataclass(frozen=True)
class Heteronucleus:
    """A nucleus that is not excited ('31P' or '14N') and its coupling in Hz to every proton of the group."""

    nucleus: str
    couplings_hz: tuple[float, ...]


@dataclass(frozen=True)
class SpinGroup:
    """Protons coupled among themselves and to nothing outside.

    ``couplings_hz`` holds ``(i, j, J)`` with the protons counted from 0; ``weight`` multiplies the signal.
    """

    label: str
    shifts_ppm: tuple[float, ...]
    couplings_hz: tuple[tuple[int, int, float], ...] = ()
    heteronuclei: tuple[Heteronucleus, ...] = ()
    weight: float = 1.0

    @property
    def n_protons(self) -> float:
        """Protons this group stands for."""
        return self.weight * len(self.shifts_ppm)


@dataclass(frozen=True)
class SpinSystem:
    """A molecule: its uncoupled groups of protons, and the sources of their constants."""

    name: str
    groups: tuple[SpinGroup, ...]
    full_name: str = ""
    sources: tuple[str, ...] = ()
    note: str = ""

    @property
    def n_protons(self) -> float:
        """Protons that give signal: the first point of the FID straight after an ideal 90-degree pulse."""
        return sum(group.n_protons for group in self.groups)


@functools.cache
def constants() -> dict:
    """Return the content of ``data/spin_systems.json``."""
    return json.loads(resources.files("fsl_mrs_dl").joinpath("data/spin_systems.json").read_text(encoding="utf-8"))


def metabolite_names() -> tuple[str, ...]:
    """Return the names of all metabolites that can be simulated, in alphabetical order without regard to case."""
    return tuple(constants()["metabolites"])


def spin_system(name: str, variant: str | None = None) -> SpinSystem:
    """Return the spin system of a metabolite.

    Parameters
    ----------
    name : str
        FSL-MRS's name, for example ``NAA``.
    variant : str, optional
        Key of another publication's constants, for example ``near2013`` for GABA.

    Raises
    ------
    BasisError
        If the metabolite or the variant is not in the table.
    """
    table = constants()
    name = name_among(name, table["metabolites"]) or name
    if name not in table["metabolites"]:
        known = {known.lower(): known for known in metabolite_names()}
        near = [known[match] for match in difflib.get_close_matches(name.lower(), known, n=3, cutoff=0.5)]
        hint = f"did you mean {' or '.join(near)}?" if near else f"choose from {', '.join(metabolite_names())}."
        raise BasisError(f"'{name}' is not among the {len(known)} metabolites that can be simulated: {hint}")
    entry = table["metabolites"][name]
    if variant is not None:
        variants = table["variants"].get(name, {})
        if variant not in variants:
            remedy = f"choose from {', '.join(variants)}." if variants else "leave it out."
            raise BasisError(f"{name} has no variant '{variant}': {remedy}")
        entry = variants[variant]
    return SpinSystem(
        name=name,
        groups=tuple(_read_group(group) for group in entry["groups"]),
        full_name=entry["full_name"],
        sources=tuple(table["sources"][key] for key in entry["sources"]),
        note=entry["note"],
    )


def _read_group(entry: dict) -> SpinGroup:
    return SpinGroup(
        label=entry["label"],
        shifts_ppm=tuple(entry["shifts_ppm"]),
        couplings_hz=tuple((i, j, coupling) for i, j, coupling in entry["couplings_hz"]),
        heteronuclei=tuple(Heteronucleus(h["nucleus"], tuple(h["couplings_hz"])) for h in entry["heteronuclei"]),
        weight=entry["weight"],
    )
