"""Simulated basis sets of edited acquisitions."""

from __future__ import annotations

import numpy as np
import pytest

from fsl_mrs_dl.core.errors import BasisError, OptionError
from fsl_mrs_dl.io import nifti
from fsl_mrs_dl.simulation import simulate_basis, simulate_edited_basis, simulate_svs

SMALL = {"n_points": 512, "spec_freq_mhz": 123.2}


@pytest.mark.parametrize(
    ("scheme", "conditions", "te_s"),
    [
        ("mega-press", ("on", "off"), 0.068),
        ("mega-slaser", ("on", "off"), 0.068),
        ("hermes", tuple("ABCD"), 0.08),
        ("hercules", tuple("ABCD"), 0.08),
    ],
)
def test_every_scheme_has_its_conditions(scheme, conditions, te_s):
    one = simulate_edited_basis(["Cr", "Lac"], scheme, **SMALL)
    assert (one.scheme, one.conditions, one.names) == (scheme, conditions, ("Cr", "Lac"))
    assert one.echo_time_s == pytest.approx(te_s)
    assert all(len(pulses) == 1 and pulses[0].shape == "sinc-gaussian" for pulses in one.pulses)


def test_a_condition_is_what_the_set_of_one_condition_is():
    both = simulate_edited_basis(["GABA"], te_ms=80.0, edit_pulse="ideal", edit_bandwidth_hz=60.0, **SMALL)
    one = simulate_basis(
        ["GABA"], sequence="mega-press", te_ms=80.0, edit="on", edit_pulse="ideal", edit_bandwidth_hz=60.0, **SMALL
    )
    assert np.array_equal(both.condition("on").fids, one.fids)


def test_glutathione_is_edited_at_its_own_frequency():
    one = simulate_edited_basis(["GSH", "GABA"], te_ms=120.0, edit_ppm=[4.56], **SMALL)
    assert one.pulses[0][0].centre_ppm == 4.56
    sizes = np.abs(one.difference("on", "off").fids).max(axis=1)
    assert sizes[0] > 10 * sizes[-1] or one.difference("on", "off").names == ("GSH",)


def test_a_metabolite_that_ideal_pulses_remove_stays():
    one = simulate_edited_basis(["Ace", "Cr"], edit_pulse="ideal", **SMALL)
    assert 0 < np.abs(one.condition("on").fids[0]).max() < 1e-6


def test_edited_acquisitions_alternate_and_have_their_own_dimension(tmp_path):
    basis = simulate_edited_basis(["Cr", "NAA", "Glu"], edit_pulse="ideal", **SMALL)
    made = simulate_svs(basis, transients=3, snr=1e6, drift_hz=6.0, jitter_hz=0.0, drift_deg=0.0, jitter_deg=0.0)
    nifti.save(tmp_path / "mega.nii.gz", made.data)
    data = nifti.load(tmp_path / "mega.nii.gz")
    assert data.dim_tags == ("DIM_DYN", "DIM_EDIT") and data.fids.shape == (1, 1, 1, 512, 3, 2)
    assert data.header["dim_6_header"] == {"EditCondition": ["on", "off"]}
    assert np.array(made.truth["shift_hz"]) == pytest.approx(np.linspace(-3, 3, 6))
    concentrations = np.array(list(made.truth["concentrations"].values()))
    # The first points, before anything decays.
    expected = [concentrations @ one.fids[:, 0] for one in basis.sets]
    assert data.fids[0, 0, 0, 0, 1] == pytest.approx(expected, rel=1e-3)


def test_what_is_wrong_is_said():
    with pytest.raises(OptionError, match="choose from mega-press"):
        simulate_edited_basis(["Cr"], "press", **SMALL)
    with pytest.raises(BasisError, match="did you mean NAA"):
        simulate_edited_basis(["NNA"], **SMALL)
