"""The doctor's word on FSL-MRS in every state it can be in, tried on a stand-in."""

from __future__ import annotations

import importlib.util
import sys

import pytest
from helpers import stand_in_fsl_mrs

from fsl_mrs_dl.cli import doctor
from fsl_mrs_dl.cli.doctor import ABSENT, BAD, GOOD, Finding
from fsl_mrs_dl.cli.main import main
from fsl_mrs_dl.fslmrs import switch

needs_starter = pytest.mark.skipif(not switch.starter_files(), reason="no starter file in this environment")
no_fsl_mrs = pytest.mark.skipif(importlib.util.find_spec("fsl_mrs") is not None, reason="FSL-MRS is installed here")


@pytest.fixture
def examined(tmp_path, monkeypatch):
    """Factory: write the stand-in with changes and return what the doctor says of it, by mark."""

    def make(*, write=True, **changes):
        monkeypatch.delenv("FSL_MRS_DL_HOOK", raising=False)
        if write:
            stand_in_fsl_mrs.write(tmp_path, **changes)
        monkeypatch.setenv("PYTHONPATH", stand_in_fsl_mrs.path_with(tmp_path))
        return doctor.examine_fsl_mrs()

    return make


def texts(findings, mark):
    return [finding.text for finding in findings if finding.mark == mark]


@no_fsl_mrs
def test_absent(examined):
    findings = examined(write=False)
    assert not texts(findings, BAD)
    assert any("not installed here; fsl_mrs_dl works without it" in text for text in texts(findings, ABSENT))


@needs_starter
def test_present(examined):
    findings = examined()
    assert not texts(findings, BAD)
    assert "dl-align and dlquant: in 8 of 8 modules of FSL-MRS" in texts(findings, GOOD)
    assert any(text.startswith("FSL-MRS 2.4.0 in ") for text in texts(findings, GOOD))


@needs_starter
def test_broken_as_a_whole(examined):
    findings = examined(__init__="import not_there\n")
    (text,) = texts(findings, BAD)
    assert "is installed but broken (ModuleNotFoundError: No module named 'not_there')" in text


@needs_starter
def test_broken_in_one_module(examined):
    findings = examined(utils_report="import not_there\n")
    assert any("fsl_mrs.utils.report cannot be imported" in text for text in texts(findings, BAD))
    assert "dl-align and dlquant: in 7 of 8 modules of FSL-MRS" in texts(findings, BAD)


@needs_starter
def test_another_version(examined):
    findings = examined(__init__="__version__ = '9.1'\n", core_mrsi=None, utils_fitting="def fit(): pass\n")
    bad = texts(findings, BAD)
    assert any("FSL-MRS 9.1 has no fsl_mrs.core.mrsi" in text for text in bad)
    assert any(
        "does not know this FSL-MRS (9.1): fsl_mrs.utils.fitting: no function fit_FSLModel" in text for text in bad
    )


def test_switched_off(examined, tmp_path, monkeypatch):
    stand_in_fsl_mrs.write(tmp_path)
    monkeypatch.setenv("PYTHONPATH", stand_in_fsl_mrs.path_with(tmp_path))
    monkeypatch.setenv("FSL_MRS_DL_HOOK", "off")
    findings = doctor.examine_fsl_mrs()
    assert not texts(findings, BAD)
    said = texts(findings, ABSENT)
    assert any("hook: off, because of FSL_MRS_DL_HOOK=off" in text for text in said)
    assert any("in 0 of 8 modules of FSL-MRS, because the hook is not on" in text for text in said)


@pytest.mark.parametrize("mark, status", [(GOOD, 0), (ABSENT, 0), (BAD, 1)])
def test_exit_status_says_whether_all_is_well(monkeypatch, capsys, mark, status):
    monkeypatch.setattr(doctor, "examine_fsl_mrs", lambda: [Finding(mark, "FSL-MRS: as the test has it")])
    assert main(["doctor"]) == status
    *lines, empty, verdict = capsys.readouterr().out.splitlines()
    assert all(line[:4] in ("ok  ", "--  ", "!!  ") for line in lines)
    assert f"{mark}  FSL-MRS: as the test has it" in lines
    assert ("All is well" in verdict) == (status == 0)


def test_a_spoilt_model_is_named(monkeypatch, tmp_path):
    import shutil

    from fsl_mrs_dl.io import files

    folder = tmp_path / "models"
    shutil.copytree(files.models_folder(), folder)
    monkeypatch.setattr(files, "models_folder", lambda: folder)
    assert [finding.mark for finding in doctor._models()] == [doctor.GOOD]
    (folder / "align-universal/model.safetensors").write_bytes(b"x")
    (finding,) = doctor._models()
    assert finding.mark == doctor.BAD and "align-universal" in finding.text and "SHA-256" in finding.text


def test_a_library_that_models_need_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "fsl_mrs_dl.networks.model_cards", None)
    monkeypatch.delattr("fsl_mrs_dl.networks.model_cards", raising=False)
    (finding,) = doctor._models()
    assert (
        finding.mark == doctor.BAD
        and "models: cannot be read" in finding.text
        and "install FSL-MRS-DL again" in finding.text
    )


def test_a_setuptools_that_is_too_new_for_hlsvdpropy_is_named(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "pkg_resources" else find(name))
    (text,) = texts(doctor._ourselves(), BAD)
    assert "pkg_resources" in text and "pip install 'setuptools<81'" in text


def test_a_package_without_torch_is_examined_to_the_end(monkeypatch):
    """FSLeyes's plugin is installed so."""
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "safetensors.torch", raising=False)
    findings = doctor.examine()
    assert any("PyTorch: not installed here" in text for text in texts(findings, ABSENT))
    assert any("models: not tried without" in text for text in texts(findings, ABSENT))


@pytest.mark.parametrize(("missing", "status"), [("torch", 2), ("fsl_mrs_dl.core", 1)])
def test_a_library_that_is_missing_is_named_with_its_remedy(missing, status, monkeypatch, capsys):
    def examine():
        raise ModuleNotFoundError(f"No module named {missing!r}", name=missing)

    monkeypatch.setattr(doctor, "examine", examine)
    assert main(["doctor"]) == status
    assert ("needs torch, which is not installed here; install it with pip" in capsys.readouterr().err) == (status == 2)
