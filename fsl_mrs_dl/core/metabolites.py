"""Metabolites of the brain by name, with typical concentrations; these start searches and never enter a result."""

from __future__ import annotations

import json
from functools import lru_cache
from importlib import resources

import numpy as np

__all__ = ["canonical_name", "typical_concentrations", "is_known", "is_macromolecule"]


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
