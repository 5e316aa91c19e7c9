"""Folders of results hold the basis set and the data of the fit, and may be moved."""

from __future__ import annotations

import json
import shutil
import sys

import numpy as np
import pytest

from fsl_mrs_dl.cli.main import main
from fsl_mrs_dl.io import nifti
from fsl_mrs_dl.io.basis import Basis
from fsl_mrs_dl.results import write

QUICK = ["--spectral-model", "fsl-mrs", "--init", "classical"]


@pytest.fixture(scope="module")
def inputs(simulate, sim_basis, tmp_path_factory):
    """A folder with two equal transients in data.nii.gz, and basis."""
    folder = tmp_path_factory.mktemp("inputs")
    sim_basis.save(folder / "basis")
    fids = np.moveaxis(simulate(2, snr=100, seed=3, alike=True).fids, 0, -1)[None, None, None]
    nifti.save(folder / "transients.nii.gz", nifti.MrsData(fids, 5e-4, 123.2, "1H", ("DIM_DYN",)))
    nifti.save(folder / "data.nii.gz", nifti.MrsData(fids[..., 0], 5e-4, 123.2, "1H"))
    return folder


def fit(folder, data, *more, command="fit"):
    words = [command, "--data", str(data), "--basis", str(folder / "basis"), "--output", str(folder / "out")]
    assert main([*words, *QUICK, "--overwrite", *map(str, more)]) == 0
    return folder / "out"


def test_a_moved_folder_has_its_inputs(inputs, tmp_path):
    shutil.copytree(inputs, tmp_path / "here")
    out = fit(tmp_path / "here", tmp_path / "here" / "data.nii.gz", "--keep", "NAA", "Cr", "mI", "Glu")
    shutil.move(out, tmp_path / "elsewhere")
    shutil.rmtree(tmp_path / "here")
    moved = tmp_path / "elsewhere"
    assert not any(path.is_symlink() for path in moved.rglob("*"))
    basis = Basis.load(moved / "basis")
    assert basis.names == ("Cr", "Glu", "Ins", "NAA")
    np.testing.assert_allclose(basis.fids, Basis.load(inputs / "basis", keep=basis.names).fids, rtol=1e-8)
    np.testing.assert_array_equal(nifti.load(moved / "data").fids, nifti.load(inputs / "data.nii.gz").fids)
    again = json.loads((moved / "options.txt").read_text().splitlines()[0])
    assert again["keep"] is None
    assert "keep" in (moved / "options.txt").read_text().split("--------")[1]


def test_macromolecules_stand_in_the_basis_that_is_written(inputs, tmp_path):
    shutil.copytree(inputs, tmp_path / "here")
    words = ["--mm", "summed", "--metab_groups", "mm", "--combine", "mI", "Glu"]
    out = fit(tmp_path / "here", tmp_path / "here" / "data.nii.gz", *words)
    basis = Basis.load(out / "basis")
    assert "mm" in basis.names
    header = (out / "all_parameters.csv").read_text().splitlines()[1:]
    assert [line.split(",")[0] for line in header][: basis.n_metabs] == list(basis.names)
    again = json.loads((out / "options.txt").read_text().splitlines()[0])
    assert again["combine"] == [["Ins", "Glu"]]
    assert again["metab_groups"][basis.names.index("mm")] == 1


def test_repaired_data_are_written_as_they_were_fitted(inputs, tmp_path):
    folder = tmp_path / "here"
    shutil.copytree(inputs, folder)
    one = nifti.load(folder / "data.nii.gz")
    moved = one.fids * nifti.carrier_turn(-30.0, np.arange(1024) * 5e-4)
    header = {**one.header, "RxOffset": 30 / 123.2}
    nifti.save(folder / "data.nii.gz", nifti.MrsData(moved, 5e-4, 123.2, "1H", header=header))
    out = fit(folder, folder / "data.nii.gz", "--keep", "NAA", "Cr", "Ins")
    np.testing.assert_allclose(nifti.load(out / "data").fids, one.fids, atol=1e-4 * np.abs(one.fids).max())


@pytest.mark.parametrize("name", ["data.nii.gz", "DATA.NII.GZ", "data.nii"])
@pytest.mark.parametrize("large", [False, True])
def test_data_are_copied_or_linked(inputs, sim_basis, tmp_path, name, large, monkeypatch):
    data = nifti.load(inputs / "data.nii.gz")
    source = nifti.save(tmp_path / name.lower(), data).rename(tmp_path / name)
    if large:
        monkeypatch.setattr(write, "_LARGEST_COPY", 10)
    (tmp_path / "out").mkdir()
    write.write_inputs(tmp_path / "out", tmp_path / "out", source, None, sim_basis)
    np.testing.assert_array_equal(nifti.load(tmp_path / "out" / "data").fids, data.fids)
    assert (tmp_path / "out" / name.lower()).is_symlink() == large


def test_a_volume_has_its_inputs(inputs, tmp_path):
    shutil.copytree(inputs, tmp_path / "here")
    out = fit(tmp_path / "here", tmp_path / "here" / "data.nii.gz", command="mrsi")
    shutil.rmtree(tmp_path / "here" / "basis")
    assert Basis.load(out / "basis").n_metabs == 10
    assert (out / "data.nii.gz").is_file() and not (out / "data.nii.gz").is_symlink()


@pytest.mark.parametrize("size", [1e-7, 1.0, 1e8])
def test_a_basis_of_any_size_survives(sim_basis, tmp_path, size):
    from dataclasses import replace

    basis = replace(sim_basis, fids=sim_basis.fids * size)
    got = Basis.load(basis.save(tmp_path / "basis"))
    np.testing.assert_allclose(got.fids, basis.fids[np.argsort(basis.names)], atol=1e-9 * np.abs(basis.fids).max())


@pytest.mark.with_fsl_mrs
@pytest.mark.filterwarnings("ignore")
def test_summarise_reads_a_fit_with_macromolecules(inputs, tmp_path, monkeypatch):
    dash = pytest.importorskip("dash")
    from fsl_mrs.scripts import fsl_mrs_summarise

    shutil.copytree(inputs, tmp_path / "here")
    words = ["--mm", "summed", "--metab_groups", "mm", "--combine", "mI", "Glu", "--ignore", "Lac"]
    out = fit(tmp_path / "here", tmp_path / "here" / "data.nii.gz", *words)
    shutil.move(out, tmp_path / "all" / "one")
    shutil.rmtree(tmp_path / "here")
    served = []
    monkeypatch.setattr(dash.Dash, "run", lambda self, **options: served.append(str(self.layout)), raising=False)
    monkeypatch.setattr(dash.Dash, "run_server", dash.Dash.run, raising=False)
    monkeypatch.setattr(sys, "argv", ["fsl_mrs_summarise", "dir", str(tmp_path / "all")])
    fsl_mrs_summarise.main()
    assert len(served) == 1 and "mm" in served[0]
