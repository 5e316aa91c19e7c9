"""The spectral model that is fitted where none is asked for."""

from __future__ import annotations

import numpy as np
import pytest

from fsl_mrs_dl.fitting.data import fit_data
from fsl_mrs_dl.fitting.in_vivo.result import InVivoFit
from fsl_mrs_dl.fitting.model_choice import usual_spectral_model
from fsl_mrs_dl.fitting.options import FitOptions
from fsl_mrs_dl.io.basis import Basis
from fsl_mrs_dl.io.nifti import MrsData

BRAIN = ("NAA", "Cr", "GPC", "Ins", "Glu")


def basis_of(names, nucleus="1H", n_points=512):
    time = np.arange(n_points) / 2000
    fids = np.stack([np.exp((2j * np.pi * 40 * i - 8) * time) for i in range(len(names))])
    return Basis(fids, tuple(names), 1 / 2000, 123.2, nucleus=nucleus, source="a basis set")


def test_brain_spectra_are_fitted_with_the_in_vivo_model():
    choice = usual_spectral_model(basis_of(BRAIN))
    assert (choice.name, choice.reason) == ("in-vivo", "")


@pytest.mark.parametrize(
    "names, nucleus, dims, request_of, reason",
    [
        (BRAIN, "31P", (), {}, ""),
        (("Cr", "PCr", "Lac", "Tau", "Ala", "GPC"), "1H", (), {}, "not one of a brain"),
        (("NAA", "Cr", "GPC"), "1H", (), {}, "not one of a brain"),
        (BRAIN, "1H", ("DIM_EDIT",), {}, "edited"),
        (BRAIN, "1H", ("DIM_DYN",), {"lorentzian": False, "baseline": True}, "`baseline`"),
    ],
)
def test_all_others_are_fitted_with_fsl_mrs_s(names, nucleus, dims, request_of, reason):
    choice = usual_spectral_model(basis_of(names, nucleus), dims, request_of)
    assert choice.name == "fsl-mrs"
    assert reason in choice.reason and bool(choice.reason) == bool(reason)


def test_a_file_is_fitted_with_the_usual_model(simulate, sim_basis):
    fids = simulate(1, snr=40).fids.reshape(1, 1, 1, -1)
    data = MrsData(fids, sim_basis.dwelltime, sim_basis.spec_freq_mhz, "1H")
    assert isinstance(fit_data(data, sim_basis).fit, InVivoFit)
    assert not isinstance(fit_data(data, sim_basis, FitOptions()).fit, InVivoFit)
