"""Basis spectra that are nearly sums of others of the same set, which a fit can hardly tell apart."""

from __future__ import annotations

import numpy as np

from ..io.basis import Basis

__all__ = ["dependence_notes", "unique_shares"]

_LEAST_UNIQUE = 0.17
"""Of usual basis sets the least unique spectra have .2 to .5 (lipids of one place, GPC beside PCh, Cr beside PCr); a
glutathione beside spectra of its parts has .12."""


def unique_shares(basis: Basis) -> np.ndarray:
    """Return what each spectrum has that no sum of the others has: a norm relative to its own, ``(n_metabs,)``."""
    fids = np.concatenate([basis.fids.real, basis.fids.imag], -1)
    fids = fids / np.maximum(np.linalg.norm(fids, axis=-1, keepdims=True), 1e-300)
    out = np.ones(len(fids))
    for i in range(len(fids) if len(fids) > 1 else 0):
        others = np.delete(fids, i, 0).T
        weights = np.linalg.lstsq(others, fids[i], rcond=1e-8)[0]
        out[i] = np.linalg.norm(fids[i] - others @ weights)
    return out


def dependence_notes(basis: Basis) -> list[str]:
    """Return a line that names such spectra, with the remedy, or nothing; options stand in backticks."""
    names = [name for name, share in zip(basis.names, unique_shares(basis)) if share < _LEAST_UNIQUE]
    if not names:
        return []
    listed = " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
    are = "are nearly sums of other spectra" if len(names) > 1 else "is nearly a sum of other spectra"
    return [f"{listed} {are} in this basis set; leave out what is not needed (`ignore`), or their SDs are large."]
