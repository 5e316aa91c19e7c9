"""Concentrations of metabolites in the tissues of the phantom."""

from __future__ import annotations

import numpy as np

from ..core.errors import OptionError
from ..core.metabolites import canonical_name, is_macromolecule, typical_concentrations
from .anatomy import TISSUES

__all__ = ["tissue_concentrations"]

# Ratio to the typical concentration in grey matter, white matter and the lesion.
_RATIOS = {
    "NAA": (1.0, 0.97, 0.35),
    "NAAG": (0.6, 1.5, 0.3),
    "Cr": (1.12, 0.86, 0.65),
    "PCr": (1.12, 0.86, 0.65),
    "GPC": (0.82, 1.18, 1.7),
    "PCh": (0.82, 1.18, 3.2),
    "Glu": (1.18, 0.75, 0.55),
    "Gln": (1.2, 0.7, 1.3),
    "Ins": (1.08, 0.9, 1.5),
    "GABA": (1.2, 0.7, 0.6),
    "GSH": (1.1, 0.85, 1.2),
    "Tau": (1.2, 0.75, 1.1),
    "Asp": (1.1, 0.85, 0.6),
    "Asc": (1.1, 0.85, 0.8),
    "Gly": (1.1, 0.9, 3.0),
    "Ala": (1.05, 0.9, 2.5),
    "Lac": (1.05, 0.9, 9.0),
    "Glc": (1.05, 0.9, 0.8),
    "PE": (1.0, 1.0, 1.6),
    "Scyllo": (1.0, 1.0, 0.8),
}

_IN_CSF = {"Glc": 3.3, "Lac": 1.6, "Gln": 0.5}
_MACROMOLECULES = {"gm": 7.5, "wm": 5.0, "csf": 0.0, "lesion": 6.5}


def tissue_concentrations(names) -> np.ndarray:
    """Return concentrations of basis entries in pure tissue, mmol/kg, shape ``(len(TISSUES), n_metabs)``;
    macromolecules in a unit of their own.

    They are typical concentrations of the whole brain (``data/brain_concentrations.json``) times the ratio of each
    tissue.  Creatine, glutamate, glutamine and inositol are higher in grey matter, NAAG in white, NAA is about the
    same: Pouwels and Frahm, doi 10.1002/mrm.1910390110.  Choline is a quarter lower in grey matter: Schuff et al., doi
    10.1002/mrm.1119.  The lesion is like a glial tumour: Howe and Opstad, doi 10.1002/nbm.822.  Values are rounded, and
    guessed where these references have none: they resemble a brain, but are no reference themselves.

    Raises
    ------
    OptionError
        If fewer than three entries are known metabolites of the brain.
    """
    typical = typical_concentrations(list(names))
    if typical is None:
        raise OptionError(
            f"has fewer than three known brain metabolites ({', '.join(names)})",
            option="basis",
            remedy="simulate with another basis set",
        )
    concentrations = np.zeros((len(TISSUES), len(names)))
    for column, (name, value) in enumerate(zip(names, typical)):
        if is_macromolecule(name):
            concentrations[:, column] = [_MACROMOLECULES[tissue] for tissue in TISSUES]
            continue
        known = canonical_name(name)
        gm, wm, lesion = _RATIOS.get(known, (1.0, 1.0, 1.0))
        concentrations[:, column] = value * gm, value * wm, _IN_CSF.get(known, 0.0), value * lesion
    return concentrations
