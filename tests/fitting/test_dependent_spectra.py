"""Basis spectra that a fit can hardly tell apart."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fsl_mrs_dl.fitting.dependent_spectra import dependence_notes, unique_shares


def test_a_sum_beside_its_parts_is_named(sim_basis):
    assert dependence_notes(sim_basis) == []
    parts = [sim_basis.names.index(name) for name in ("Glu", "Gln")]
    whole = sim_basis.fids[parts].sum(0)
    more = replace(sim_basis, fids=np.concatenate([sim_basis.fids, whole[None]]), names=(*sim_basis.names, "Glx"))
    (note,) = dependence_notes(more)
    assert note.startswith("Gln, Glu and Glx are nearly sums of other spectra") and "`ignore`" in note


def test_shares_are_those_of_the_projection(sim_basis):
    first, second = sim_basis.fids[:2]
    pair = replace(sim_basis, fids=np.stack([first, second]), names=("A", "B"))
    overlap = np.vdot(first, second).real / np.linalg.norm(first) / np.linalg.norm(second)
    np.testing.assert_allclose(unique_shares(pair), np.sqrt(1 - overlap**2), rtol=1e-6)
    alone = replace(sim_basis, fids=first[None], names=("A",))
    assert unique_shares(alone).tolist() == [1.0] and dependence_notes(alone) == []
