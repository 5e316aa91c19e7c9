"""The launchers for machines without FSL-MRS: written only where there are none, and doing FSL-MRS's words with our two
jobs."""

from __future__ import annotations

import importlib.util
import os
import subprocess

import nibabel as nib
import numpy as np
import pytest
from helpers import launcher_folder

from fsl_mrs_dl.cli import without_fsl_mrs as without_fsl_mrs_module
from fsl_mrs_dl.cli.main import main
from fsl_mrs_dl.core.errors import OptionError, OutputError
from fsl_mrs_dl.fslmrs import launchers


@pytest.fixture
def scripts(tmp_path, monkeypatch):
    return launcher_folder.prepare(tmp_path / "bin", monkeypatch)


def test_added_shown_and_removed(scripts, capsys):
    assert main(["launchers", "add"]) == 0
    assert sorted(path.name for path in scripts.iterdir()) == ["fsl_mrs", "fsl_mrs_proc"]
    assert all(os.access(path, os.X_OK) for path in scripts.iterdir())
    assert main(["launchers", "add"]) == 0, "adding again renews them"
    assert main(["launchers", "status"]) == 0
    assert f"fsl_mrs: {scripts / 'fsl_mrs'} (of FSL-MRS-DL)" in capsys.readouterr().out
    assert main(["launchers", "remove"]) == 0
    assert not list(scripts.iterdir())
    assert main(["launchers", "remove"]) == 0
    assert "no launchers of FSL-MRS-DL" in capsys.readouterr().out


@pytest.mark.parametrize("name", launchers.NAMES)
def test_one_that_is_there_is_not_replaced_nor_removed(scripts, name, capsys):
    theirs = launcher_folder.foreign(scripts / name)
    assert main(["launchers", "add"]) == 2
    assert str(theirs) in capsys.readouterr().err
    assert list(scripts.iterdir()) == [theirs]
    assert launchers.remove() == []
    assert "theirs" in theirs.read_text()


def test_one_elsewhere_on_the_path_is_not_hidden(scripts, tmp_path, monkeypatch):
    theirs = launcher_folder.foreign(tmp_path / "fsl/bin/fsl_mrs")
    monkeypatch.setenv("PATH", f"{scripts}:{theirs.parent}")
    with pytest.raises(OptionError, match="there is a launcher fsl_mrs already"):
        launchers.add()
    assert not list(scripts.iterdir())


def test_none_where_fsl_mrs_is_installed(scripts, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: object())
    with pytest.raises(OptionError, match="FSL-MRS is installed here"):
        launchers.add()
    assert not list(scripts.iterdir())


def test_a_folder_that_cannot_be_written(scripts, monkeypatch):
    monkeypatch.setattr(launchers, "_folder", lambda: scripts / "missing")
    with pytest.raises(OutputError, match="cannot be written"):
        launchers.add()


@pytest.mark.skipif(
    importlib.util.find_spec("fsl_mrs") is not None, reason="FSL-MRS is installed; its commands would answer"
)
def test_written_launchers_run(scripts):
    launchers.add()

    def run(*words):
        return subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False)

    shown = run(scripts / "fsl_mrs_proc", "dl-align", "--help")
    assert shown.returncode == 0 and "usage: fsl_mrs_proc dl-align" in shown.stdout
    refused = run(scripts / "fsl_mrs_proc", "coilcombine", "--file", "x")
    assert refused.returncode == 2 and refused.stderr.count("\n") == 1
    assert "the step 'coilcombine' needs FSL-MRS" in refused.stderr and "conda" in refused.stderr
    assert run(scripts / "fsl_mrs", "--data", "x").returncode == 2


def test_align_is_that_of_our_own_command(tmp_path, monkeypatch):
    launcher_folder.without_fsl_mrs(monkeypatch)
    config = tmp_path / "config"
    config.write_text(f"file = {launcher_folder.EXAMPLE / 'svs.nii.gz'}\nppm = [1, 4]\n")
    assert (
        without_fsl_mrs_module.fsl_mrs_proc(["--config", str(config), "dl-align", "--output", str(tmp_path / "a")]) == 0
    )
    words = [
        "align",
        "--file",
        str(launcher_folder.EXAMPLE / "svs.nii.gz"),
        "--ppm",
        "1",
        "4",
        "--output",
        str(tmp_path / "b"),
    ]
    assert main(words) == 0
    a, b = (np.asarray(nib.load(tmp_path / name / "svs.nii.gz").dataobj) for name in "ab")
    np.testing.assert_array_equal(a, b)
    assert (tmp_path / "a/dl_align.csv").read_bytes() == (tmp_path / "b/dl_align.csv").read_bytes()


@pytest.mark.parametrize(
    "words, ours",
    [
        (["--algo", "dlquant"], []),
        (["--algo=dlquant", "--dl-init", "classical", "--dl-device", "cpu"], ["--init", "classical"]),
        (["--algo=dlquant", "--dl-init=network"], ["--init", "network", "--device", "cpu"]),
    ],
    ids=lambda words: " ".join(words) or "same",
)
def test_fit_is_that_of_our_own_command(tmp_path, monkeypatch, words, ours):
    launcher_folder.without_fsl_mrs(monkeypatch)
    assert without_fsl_mrs_module.fsl_mrs([*launcher_folder.FIT, *words, "--output", str(tmp_path / "a")]) == 0
    assert main(["fit", *launcher_folder.FIT, *ours, "--output", str(tmp_path / "b")]) == 0
    assert (tmp_path / "a/summary.csv").read_bytes() == (tmp_path / "b/summary.csv").read_bytes()


@pytest.mark.parametrize(
    "words, ours",
    [
        ([], ["--spectral-model", "fsl-mrs"]),
        (["--dl-spectral-model", "in-vivo", "--dl-mm", "none"], ["--spectral-model", "in-vivo", "--mm", "none"]),
    ],
    ids=["default", "in-vivo"],
)
def test_the_spectral_model_is_the_one_of_fsl_mrs(tmp_path, monkeypatch, words, ours):
    launcher_folder.without_fsl_mrs(monkeypatch)
    own = without_fsl_mrs_module.fsl_mrs(
        [*launcher_folder.FIT[:-2], "--algo", "dlquant", *words, "--output", str(tmp_path / "a")]
    )
    assert own == 0 and main(["fit", *launcher_folder.FIT[:-2], *ours, "--output", str(tmp_path / "b")]) == 0
    assert (tmp_path / "a/summary.csv").read_bytes() == (tmp_path / "b/summary.csv").read_bytes()


def test_the_older_word_for_a_baseline(tmp_path, monkeypatch):
    launcher_folder.without_fsl_mrs(monkeypatch)
    words = [*launcher_folder.FIT[:-2], "--algo", "dlquant"]
    assert without_fsl_mrs_module.fsl_mrs([*words, "--baseline_order", "1", "--output", str(tmp_path / "a")]) == 0
    assert main(["fit", *launcher_folder.FIT[:-1], "poly, 1", "--output", str(tmp_path / "b")]) == 0
    assert (tmp_path / "a/summary.csv").read_bytes() == (tmp_path / "b/summary.csv").read_bytes()


@pytest.mark.parametrize(
    "words, part",
    [
        ([], "--algo Newton: needs FSL-MRS, --algo dlquant does not"),
        (["--algo", "MH"], "--algo MH"),
        (
            ["--algo", "dlquant", "--tissue_frac", ".5", ".4", ".9"],
            "--tissue_frac 0.5 0.4 0.9: is the white, grey and CSF",
        ),
        (["--algo", "dlquant", "--h2o=w.nii.gz"], "w.nii.gz: no such file"),
        (["--algo", "dlquant", "--mh_samples", "1"], "--mh_samples: needs FSL-MRS"),
        (["--algo", "dlquant", "--dl-init", "nobody"], "--dl-init nobody"),
    ],
)
def test_what_needs_fsl_mrs_or_is_wrong_is_said_in_one_line(tmp_path, monkeypatch, capsys, words, part):
    launcher_folder.without_fsl_mrs(monkeypatch)
    assert without_fsl_mrs_module.fsl_mrs([*launcher_folder.FIT, *words, "--output", str(tmp_path / "a")]) == 2
    said = capsys.readouterr().err
    assert said.startswith("fsl_mrs: error: ") and part in said and said.count("\n") == 1
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("command", [without_fsl_mrs_module.fsl_mrs, without_fsl_mrs_module.fsl_mrs_proc])
def test_help_says_what_it_is(monkeypatch, capsys, command):
    launcher_folder.without_fsl_mrs(monkeypatch)
    assert command(["--help"]) == 0
    assert "stands in for FSL-MRS" in capsys.readouterr().out


@pytest.mark.parametrize("option", ["--mh_samples", "--disable_MH_priors"])
def test_our_own_command_names_fsl_mrs_for_what_only_it_has(tmp_path, capsys, option):
    assert main(["fit", *launcher_folder.FIT, "--output", str(tmp_path / "a"), option, "1"]) == 2
    said = capsys.readouterr().err
    assert f"{option}: needs FSL-MRS" in said and said.count("\n") == 1
