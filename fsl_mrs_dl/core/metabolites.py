"""Metabolites of the brain by name, with typical concentrations; these start searches and never enter a result."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import lru_cache
from importlib import resources

import numpy as np

__all__ = [
    "by_names",
    "canonical_name",
    "is_known",
    "is_macromolecule",
    "name_among",
    "same_metabolites",
    "typical_concentrations",
]


@lru_cache
def _table() -> dict:
    """Return the table of concentrations and of other names of metabolites."""
    return json.loads(
        resources.files("fsl_mrs_dl").joinpath("data/brain_concentrations.json").read_text(encoding="utf-8")
    )


def is_macromolecule(name: str) -> bool:
    """Tell whether a basis spectrum is a macromolecule or lipid, by the names in use: Mac, mm, MM09, Lip13."""
    return name.lower() in ("mac", "mm", "mmbg", "macro") or name[:2].upper() == "MM" or name[:3].lower() == "lip"


def canonical_name(name: str) -> str:
    """Return the table's name of a metabolite: PCho -> PCh; any other stays."""
    return _table()["aliases"].get(name, name)


_TOTALS = ("Cho", "tCr", "tCho", "tNAA")
"""Names that the table has a concentration for, but which stand for sums of metabolites."""


def name_among(name: str, names: Iterable[str]) -> str | None:
    """Return the one of ``names`` that a metabolite has there: itself, or its other name, as PCh for PCho.

    None if it is not there, or if two of ``names`` are other names of it.
    """
    names = tuple(dict.fromkeys(names))
    if name in names or name in _TOTALS:
        return name if name in names else None
    same = [other for other in names if other not in _TOTALS and canonical_name(other) == canonical_name(name)]
    return same[0] if len(same) == 1 else None


_PARTS = ("Glc_a",)
"""Names that the table has a concentration for, but which stand for a part of the metabolite."""


def same_metabolites(total: str) -> tuple[str, ...]:
    """Return the metabolites of a sum, as GPC+PCho, by the table's names in order: alike for what is the same.

    >>> same_metabolites("GPC+PCho") == same_metabolites("PCh+GPC")
    True
    """
    apart = _TOTALS + _PARTS
    return tuple(sorted(one if one in apart else canonical_name(one) for one in total.split("+")))


def by_names(content: dict, names: Iterable[str]) -> dict:
    """Return a dictionary with its keys replaced by the names that these metabolites have among ``names``.

    Keys that are no metabolite there stay; an exact name goes before another name of the same metabolite.
    """
    names = tuple(names)
    renamed = {}
    for key, value in content.items():
        member = name_among(key, names) or key
        renamed[key if member in content else member] = value
    return renamed


def is_known(name: str) -> bool:
    """Tell whether a name is one of the table's metabolites, or another name of one."""
    return canonical_name(name) in _table()["concentrations"]


def typical_concentrations(names: list[str]) -> np.ndarray | None:
    """Return the typical brain concentration of each name, mmol/kg, shape ``(n_metabs,)``; zero where not in the table.

    None if fewer than three of the names are metabolites of the brain.
    """
    table, aliases = _table()["concentrations"], _table()["aliases"]
    values = np.array([table.get(aliases.get(name, name), 0.0) for name in names])
    return values if np.count_nonzero(values) >= 3 else None
