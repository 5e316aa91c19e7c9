"""The command ``dynamic`` on volumes: every voxel as on its own, in FSL-MRS's folder form."""

from __future__ import annotations

from dataclasses import replace

import nibabel
import numpy as np
import pandas as pd
import pytest
from helpers.made_series import FITTED, RATES, VOLUME, write_volume

from fsl_mrs_dl.cli.main import main
from fsl_mrs_dl.core.errors import DataError
from fsl_mrs_dl.dynamic import series
from fsl_mrs_dl.dynamic import volume as volume_module
from fsl_mrs_dl.io import nifti


@pytest.fixture(scope="module")
def files(tmp_path_factory, sim_basis):
    """Folder with a volume, its mask, basis set, configuration and b values; the metabolites."""
    folder = tmp_path_factory.mktemp("volume")
    names = write_volume(folder, sim_basis)
    return folder, names


def words(folder, output):
    inputs = {"data": "data.nii.gz", "basis": "basis", "dyn_config": "config.py", "time_variables": "bvals"}
    paths = [str(word) for name, value in inputs.items() for word in (f"--{name}", folder / value)]
    return ["dynamic", *paths, "--baseline", "poly, 0", "--output", str(output)]


@pytest.fixture(scope="module")
def written(files, tmp_path_factory):
    folder, _ = files
    output = tmp_path_factory.mktemp("out") / "maps"
    assert main([*words(folder, output), "--mask", str(folder / "mask.nii.gz")]) == 0
    return output


def values_of(path):
    return np.asarray(nibabel.load(path).dataobj)


def test_maps_hold_the_decays_and_their_errors(files, written):
    for number, name in enumerate(("Cr", "GPC", "NAA")):
        mean, sd, variance = (values_of(written / kind / f"conc_{name}_c_adc.nii.gz") for kind in ("mean", "sd", "var"))
        assert mean.shape == VOLUME
        for place in FITTED:
            assert abs(mean[place] - RATES[number]) < 4 * sd[place] and sd[place] < 0.03
            assert variance[place] == pytest.approx(sd[place] ** 2, rel=1e-5)
        assert mean[0, 1, 0] == mean[1, 0, 0] == 0
    amplitude = values_of(written / "mean" / "conc_NAA_c_amp.nii.gz")
    assert amplitude[1, 1, 0] / amplitude[0, 0, 0] == pytest.approx(2, rel=0.05)
    assert np.all(values_of(written / "qc" / "converged.nii.gz")[tuple(np.array(FITTED).T)] == 1)
    np.testing.assert_allclose(nibabel.load(written / "qc" / "AIC.nii.gz").affine, np.diag([-10.0, 10, 15, 1]))


def test_voxels_have_the_tables_of_a_series(files, written, tmp_path):
    assert sorted(path.name for path in (written / "voxels").iterdir()) == ["0_0_0", "1_1_0"]
    data = nifti.load(files[0] / "data.nii.gz")
    one = nifti.MrsData(data.fids[:1, :1], data.dwelltime, data.spec_freq_mhz, "1H", data.dim_tags)
    nifti.save(tmp_path / "one.nii.gz", one)
    alone = words(files[0], tmp_path / "alone")
    alone[alone.index("--data") + 1] = str(tmp_path / "one.nii.gz")
    assert main(alone) == 0
    ours, theirs = (
        pd.read_csv(folder / "free_parameters.csv", index_col=0)
        for folder in (written / "voxels" / "0_0_0", tmp_path / "alone")
    )
    rates = [name for name in ours.index if name.endswith("_c_adc")]
    # The scale of a volume is another, and amplitudes with it.
    np.testing.assert_allclose(ours.loc[rates], theirs.loc[rates], rtol=2e-3)
    names = {path.name for path in (tmp_path / "alone").iterdir() if path.suffix in (".csv", ".json")}
    assert {path.name for path in (written / "voxels" / "0_0_0").iterdir()} == names - {"parameters_tidy.csv"}


def test_spectra_of_model_and_residual_add_to_the_data(files, written):
    data, model, residual = (
        nifti.load(path).fids
        for path in (files[0] / "data.nii.gz", written / "fit.nii.gz", written / "residual.nii.gz")
    )
    for place in FITTED:
        np.testing.assert_allclose(model[place] + residual[place], data[place], atol=1e-3 * np.abs(data[place]).max())
        assert np.linalg.norm(residual[place]) < 0.5 * np.linalg.norm(data[place])
    assert not model[0, 1].any() and not residual[0, 1].any()


def test_voxels_without_a_fit_are_listed(files, written, tmp_path, capsys, monkeypatch):
    assert (written / "left_out.txt").read_text(
        encoding="utf-8"
    ) == "1 0 0: an FID is zero or holds NaN, or begins with zeros\n"
    monkeypatch.setattr(volume_module, "_MOST_SPECTRA", 10)
    assert main(words(files[0], tmp_path / "out")) == 2
    assert "2 voxels of 7 spectra are too many for a dynamic fit (10 spectra); give a smaller --mask" in (
        capsys.readouterr().err
    )
    assert not (tmp_path / "out").exists()


def test_mask_is_for_volumes(files, tmp_path, capsys):
    folder = files[0]
    data = nifti.load(folder / "data.nii.gz")
    one = nifti.MrsData(data.fids[:1, :1], data.dwelltime, data.spec_freq_mhz, "1H", data.dim_tags)
    nifti.save(tmp_path / "one.nii.gz", one)
    line = [*words(folder, tmp_path / "out"), "--mask", str(folder / "mask.nii.gz")]
    line[line.index("--data") + 1] = str(tmp_path / "one.nii.gz")
    assert main(line) == 2
    assert "--mask" in capsys.readouterr().err


def test_report_and_derived_quantities_are_for_one_voxel(files, tmp_path, capsys):
    for more in (["--report"], ["--derived", "x = conc_NAA[0]"]):
        assert main([*words(files[0], tmp_path / "out"), *more]) == 2
        assert f"{more[0]}" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_facts_of_the_header_count_for_a_volume_as_for_a_voxel(files, tmp_path, monkeypatch):
    """The start of the acquisition moves what the basis set has at the first point."""
    folder, _ = files
    data, seen = nifti.load(folder / "data.nii.gz"), []
    header = {**data.header, "AcquisitionStartTime": 0.0013}
    nifti.save(tmp_path / "late.nii.gz", replace(data, header=header))

    def model_for(basis, axes, options):
        seen.append(options.start_time_s)
        raise DataError("enough")

    monkeypatch.setattr(volume_module, "model_for", model_for)
    line = words(folder, tmp_path / "out")
    line[line.index("--data") + 1] = str(tmp_path / "late.nii.gz")
    assert main(line) == 2 and seen == [0.0013]


def test_an_echo_time_beside_another_one_of_the_header_is_named_for_a_volume(files, tmp_path, capsys):
    folder, _ = files
    data = nifti.load(folder / "data.nii.gz")
    nifti.save(tmp_path / "data.nii.gz", replace(data, header=data.header | {"EchoTime": 0.03}))
    line = words(folder, tmp_path / "out")
    line[line.index("--data") + 1] = str(tmp_path / "data.nii.gz")
    assert main([*line, "--TE", "68"]) == 0
    assert "its header has EchoTime 30 ms, and --TE is 68 ms, which is used" in capsys.readouterr().out


def test_voxels_that_have_not_converged_are_counted(files, tmp_path, capsys, monkeypatch):
    """The count of voxels with a fit was that of fits that are none."""
    whole = series.solve_joint
    monkeypatch.setattr(series, "solve_joint", lambda joint, start, *_: whole(joint, start, max_iter=1))
    assert main([*words(files[0], tmp_path / "out"), "--mask", str(files[0] / "usable.nii.gz")]) == 0
    printed = capsys.readouterr().out
    assert "2 of 2 fits have not converged and are not usable (qc/converged.nii.gz is 0 there)" in printed
    assert "--ignore" in printed and "--dyn_config" in printed
