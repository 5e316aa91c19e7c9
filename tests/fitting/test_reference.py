"""The internal reference of basis sets without phosphocreatine, and the sums of volumes."""

from __future__ import annotations

import numpy as np
import pytest

from fsl_mrs_dl.cli.main import main
from fsl_mrs_dl.fitting.fitted_data import reference_note, with_names
from fsl_mrs_dl.fitting.options import FitOptions
from fsl_mrs_dl.io import nifti


def test_without_pcr_the_reference_is_cr():
    options = FitOptions()
    assert with_names(options, ["NAA", "Cr"]).internal_ref == ("Cr",)
    assert with_names(options, ["NAA", "Cr", "PCr"]).internal_ref == ("Cr", "PCr")
    assert (
        with_names(options, ["NAA", "PCr"]).internal_ref == with_names(options, ["NAA"]).internal_ref == ("Cr", "PCr")
    )
    assert "Cr alone" in reference_note(("Cr",), ["NAA", "Cr"])
    assert not reference_note(("Cr",), ["Cr", "PCr"]) and not reference_note(("NAA",), ["NAA", "Cr"])


@pytest.mark.usefixtures("one_thread")
def test_volumes_have_the_usual_sums_and_ratios_to_cr(sim_basis, simulate, tmp_path, capsys):
    fids = simulate(4, snr=60, seed=1).fids.astype(np.complex64).reshape(2, 2, 1, -1)
    data = nifti.MrsData(fids, sim_basis.dwelltime, sim_basis.spec_freq_mhz, "1H", affine=np.diag([9.0, 9.0, 9.0, 1.0]))
    nifti.save(tmp_path / "mrsi.nii.gz", data)
    sim_basis.save(tmp_path / "basis", info="simulated")
    words = ["mrsi", "--data", str(tmp_path / "mrsi.nii.gz"), "--basis", str(tmp_path / "basis")]
    words += ["--spectral-model", "fsl-mrs", "--output"]
    assert not main([*words, str(tmp_path / "out")])
    text = capsys.readouterr().out
    assert "Ratios are to Cr alone" in text and "/Cr" in text
    for name in ("NAA", "Glu+Gln"):
        assert (tmp_path / f"out/concs/internal/{name}.nii.gz").is_file()
    assert not main([*words, str(tmp_path / "own"), "--combine", "NAA", "Cr"])
    assert (
        not (tmp_path / "own/concs/raw/Glu+Gln.nii.gz").exists()
        and (tmp_path / "own/concs/raw/NAA+Cr.nii.gz").is_file()
    )
