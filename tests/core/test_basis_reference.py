"""How far a basis set is from its chemical shifts, by the singlets in it."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fsl_mrs_dl.core.axes import Axes
from fsl_mrs_dl.core.basis_reference import reference_offset_ppm
from fsl_mrs_dl.io.basis import Basis
from fsl_mrs_dl.physics.in_vivo_components import build_components
from fsl_mrs_dl.physics.macromolecules import add_macromolecules


def moved(basis: Basis, ppm: float) -> Basis:
    """A basis set whose programs had another chemical shift in the middle of the spectrum."""
    time = np.arange(basis.n_points) * basis.dwelltime
    return replace(basis, fids=basis.fids * np.exp(2j * np.pi * ppm * basis.spec_freq_mhz * time))


def offset_of(basis: Basis) -> float:
    return reference_offset_ppm(basis.fids, basis.names, basis.axes)


def test_a_basis_set_at_its_places_has_no_offset(sim_basis):
    assert offset_of(sim_basis) == 0.0 and sim_basis.notes == ()


@given(st.floats(0.008, 0.06), st.booleans(), st.integers(400, 1024))
@settings(max_examples=20, deadline=None)
def test_an_offset_is_found_whatever_its_sign_and_the_number_of_points(sim_basis_of_session, size, above, n_points):
    basis = moved(sim_basis_of_session, size if above else -size)
    short = reference_offset_ppm(basis.fids[:, :n_points], basis.names, basis.axes.with_points(n_points))
    assert short == pytest.approx(size if above else -size, abs=0.003)


@pytest.fixture(scope="module")
def sim_basis_of_session(sim_basis):
    return sim_basis


def test_what_does_not_agree_says_nothing(sim_basis):
    basis = moved(sim_basis, 0.03)
    assert reference_offset_ppm(basis.fids, basis.names, replace(basis.axes, nucleus="31P")) == 0.0
    few = basis.select(["NAA", "Cr", "Glu", "Ins"])
    assert offset_of(few) == 0.0
    time = np.arange(basis.n_points) * basis.dwelltime
    each = np.array([0.05, -0.06, 0.02, -0.02, 0.07, 0.0, 0.03, -0.07, 0.04, -0.03])[: basis.n_metabs]
    scattered = sim_basis.fids * np.exp(2j * np.pi * each[:, None] * basis.spec_freq_mhz * time)
    assert reference_offset_ppm(scattered, basis.names, basis.axes) == 0.0
    nothing = np.zeros_like(basis.fids)
    assert reference_offset_ppm(nothing, basis.names, Axes(basis.n_points, basis.dwelltime, 123.2, "1H")) == 0.0


def test_a_basis_set_that_is_read_says_so(sim_basis, tmp_path):
    moved(sim_basis, -0.03).save(tmp_path / "basis")
    (note,) = Basis.load(tmp_path / "basis").notes
    assert "0.030 ppm below their chemical shifts" in note and "moved as far" in note


@pytest.mark.parametrize("mm", ["brain", "tumour"])
def test_lines_of_the_in_vivo_model_move_with_the_metabolites(sim_basis, mm):
    plain, other = (
        build_components(basis.fids, basis.names, basis.axes, te_s=0.035, tr_s=2.0, mm=mm)
        for basis in (sim_basis, moved(sim_basis, -0.03))
    )
    time = np.arange(sim_basis.n_points) * sim_basis.dwelltime
    turns = np.exp(-2j * np.pi * 0.03 * sim_basis.spec_freq_mhz * time)
    early = time < 0.05  # they have decayed later
    np.testing.assert_allclose(
        other.fids[:, early], (plain.fids * turns)[:, early], atol=0.1 * np.abs(plain.fids).max()
    )
    lines = plain.kinds != "metabolite"
    assert lines.sum() > 10
    size = np.abs(plain.fids[lines][:, early]).max()
    assert np.abs(other.fids[lines] - plain.fids[lines] * turns)[:, early].max() < 0.03 * size


def test_macromolecules_that_are_added_move_with_the_metabolites(sim_basis):
    plain, other = (add_macromolecules(basis, "summed") for basis in (sim_basis, moved(sim_basis, 0.03)))
    np.testing.assert_allclose(moved(plain, 0.03).fids[-1], other.fids[-1], atol=0.05 * np.abs(plain.fids[-1]).max())
    assert add_macromolecules(sim_basis, "summed").fids.tobytes() == plain.fids.tobytes()


def test_a_halved_first_point_leaves_the_unit_of_macromolecules(sim_basis):
    halved = sim_basis.fids.copy()
    halved[:, 0] *= 0.5
    plain, other = (
        build_components(fids, sim_basis.names, sim_basis.axes, te_s=0.035, tr_s=2.0)
        for fids in (sim_basis.fids, halved)
    )
    lines = plain.kinds != "metabolite"
    np.testing.assert_allclose(other.fids[lines], plain.fids[lines], rtol=1e-9)
