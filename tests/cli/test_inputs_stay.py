"""No output takes the place of a file that is read, whichever option names it."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from fsl_mrs_dl.cli.common import given_files
from fsl_mrs_dl.cli.main import main
from fsl_mrs_dl.io import nifti


@pytest.fixture
def files(tmp_path, rng):
    """Transients in here/a.nii.gz, and a reference and other inputs in a folder of results, there."""
    here, there = tmp_path / "here", tmp_path / "there"
    fids = np.exp(-20 * np.arange(256) / 2000)[:, None] + 0.01 * rng.normal(size=(256, 4))
    data = nifti.MrsData(fids[None, None, None].astype(np.complex64), 5e-4, 123.2, "1H", ("DIM_DYN",))
    for folder in (here, there):
        folder.mkdir()
        nifti.save(folder / "a.nii.gz", data)
    for name in ("summary.csv", "prior.json", "dl_align.csv", "options.txt"):
        (there / name).write_text("verbose = true\n", encoding="utf-8")
    return here, there


def refused(capsys, there, *words):
    """Return the one line that a command is refused with, and check that nothing was changed."""
    before = {path: path.read_bytes() for path in there.iterdir()}
    assert main([str(word) for word in words]) == 2
    assert {path: path.read_bytes() for path in there.iterdir()} == before
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


@pytest.mark.parametrize("name", ["a.nii.gz", "a"])
def test_align_keeps_its_reference(files, capsys, name):
    """`--overwrite` replaced the reference by the aligned data."""
    here, there = files
    words = ["align", "--file", here / "a.nii.gz", "--output", there, "--overwrite", "--reference", there / name]
    assert f"{there / 'a.nii.gz'}: is an input itself; choose another --output or --filename" in refused(
        capsys, there, *words
    )


def test_align_keeps_its_data_and_its_configuration(files, capsys):
    here, there = files
    words = ["align", "--file", there / "a", "--output", there, "--overwrite"]
    assert "a.nii.gz: is an input itself" in refused(capsys, there, *words)
    words = ["align", "--file", here / "a.nii.gz", "--output", there, "--overwrite", "--config"]
    assert "dl_align.csv: is an input itself" in refused(capsys, there, *words, there / "dl_align.csv")


def test_denoise_keeps_its_configuration(files, capsys):
    here, there = files
    (there / "report_dl_denoise.html").write_text("verbose = true\n", encoding="utf-8")
    words = ["denoise", "--file", here / "a.nii.gz", "--output", there, "--overwrite", "-r", "--filename", "new"]
    words += ["--model", here / "none", "--config", there / "report_dl_denoise.html"]
    assert "report_dl_denoise.html: is an input itself" in refused(capsys, there, *words)


@pytest.mark.parametrize(
    "command, option",
    [
        ("fit", "--prior"),
        ("fit", "--t1-values"),
        ("run", "--t2-values"),
        ("run", "--tissue_frac"),
        ("mrsi", "--prior"),
        ("dynamic", "--config"),
    ],
)
def test_a_folder_with_any_input_is_not_replaced(files, sim_basis, capsys, command, option):
    """Files of priors, relaxation times and tissue fractions were lost with the folder of results that held them."""
    here, there = files
    sim_basis.save(here / "basis")
    (here / "model.py").write_text("", encoding="utf-8")
    own = ["--data", here / "a.nii.gz", "--basis", here / "basis"]
    if command == "dynamic":
        own += ["--dyn_config", here / "model.py", "--time_variables", here / "model.py"]
    given = there / "prior.json"
    error = refused(capsys, there, command, *own, "--output", there, "--overwrite", option, given)
    assert f"{there}: holds the input {given} and would be replaced; choose another --output" in error


def test_given_files_are_those_that_are_there(tmp_path):
    (tmp_path / "x").write_text("", encoding="utf-8")
    args = SimpleNamespace(
        data=str(tmp_path / "x"), many=[tmp_path, "y", ["x", 3]], output=tmp_path, words=["."], text="a" * 5000
    )
    assert given_files(args) == (tmp_path / "x", tmp_path)


@pytest.mark.parametrize("name", ["../other", "sub/other", ".."])
@pytest.mark.parametrize("command", ["fit", "align"])
def test_no_file_is_written_outside_of_the_output(files, capsys, command, name):
    """`fit` wrote beside its folder, over what was there."""
    here, there = files
    data = ["--data", here / "a.nii.gz", "--basis", here] if command == "fit" else ["--file", here / "a.nii.gz"]
    error = refused(capsys, there, command, *data, "--output", here / "out", "--filename", name)
    assert f"--filename {name}: is no name of a file" in error and not (here / "out").exists()


@pytest.mark.parametrize("words", [["--filename", "summary", "--lcmodel-table"], ["--filename", "data"]])
def test_no_file_of_the_results_takes_the_place_of_another(files, capsys, words):
    """LCModel's table replaced `summary.csv`, and the copy of the data the fit."""
    here, there = files
    line = ["fit", "--data", here / "a.nii.gz", "--basis", here, "--output", here / "out", *words]
    assert "is the name of another file of the results" in refused(capsys, there, *line)
