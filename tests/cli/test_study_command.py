"""The command ``study``: from a BIDS data set or a table to tables and a page; a stand-in runs the sessions."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from fsl_mrs_dl.cli.main import main
from fsl_mrs_dl.core.errors import DataError
from fsl_mrs_dl.io import nifti
from fsl_mrs_dl.workflow import runner
from fsl_mrs_dl.workflow.entry import StudySession
from fsl_mrs_dl.workflow.session import RunOptions
from tests.helpers.made_bids import SIDECAR, make
from tests.helpers.made_study import write_values


@pytest.fixture
def dataset(tmp_path, monkeypatch):
    """A data set of six participants in two groups, the last of which is bad; sessions are run by a stand-in."""
    files = {f"sub-0{i}/mrs/sub-0{i}_acq-press_svs.nii.gz": f"{i}" for i in range(1, 7)}
    people = "".join(f"sub-0{i}\t{'ill' if i % 2 else 'well'}\n" for i in range(1, 7))
    files |= {"svs.json": SIDECAR, "participants.tsv": f"participant_id\tdiagnosis\n{people}"}
    make(tmp_path / "basis", {"NAA.json": "{}"})
    calls = []

    def run_one(session, options, folder):
        calls.append((session.name, options, session.basis))
        number = int(session.data.read_text(encoding="utf-8"))
        if number == 6:
            raise DataError(f"{session.name}: is bad")
        write_values(folder, {"NAA": 10.0 + number, "Cr": 8.0}, quality={"snr": 2.0 if number == 5 else 40.0})

    monkeypatch.setattr(runner, "run_one", run_one)
    return SimpleNamespace(root=make(tmp_path / "set", files), calls=calls)


@pytest.fixture
def words(dataset, tmp_path):
    out = tmp_path / "fsl_mrs_dl"
    return ["study", str(dataset.root), str(out), "participant", "--basis", str(tmp_path / "basis"), "--n-procs", "1"]


def test_both_levels_at_once(words, dataset, tmp_path, capsys):
    assert main([*words[:4], "group", *words[4:], "--group-column", "diagnosis", "--exclude", "sub-04"]) == 0
    text = capsys.readouterr().out
    assert "5 of 6 sessions have results; 1 failed" in text and "sub-06_acq-press_svs: is bad" in text
    assert "SNR 2 below 5" in text and "left out by hand" in text and "3 of 6 sessions are included" in text
    assert (
        "no two groups of 3 or more participants" in text and "well (acq-press_svs) has 1 participant: too few" in text
    )
    out = tmp_path / "fsl_mrs_dl"
    effects = pd.read_csv(out / "group" / "effects.tsv", sep="\t")
    assert set(effects["group"]) == {"well"} and set(effects["against"]) == {"ill"}
    assert "<h2>Left out</h2>" in (out / "group" / "overview.html").read_text(encoding="utf-8")
    assert json.loads((out / "dataset_description.json").read_text(encoding="utf-8"))["DatasetType"] == "derivative"
    assert (out / "sub-01" / "mrs" / "sub-01_acq-press_desc-concentrations_svs.tsv").is_file()
    assert dataset.calls[0][2] == tmp_path / "basis"


def test_a_study_goes_on_and_runs_again_what_options_change(words, dataset, capsys):
    main(words)
    main([*words, "--min-snr", "7", "--verbose"])
    assert "5 of them from before" in capsys.readouterr().out and len(dataset.calls) == 6 + 1
    main([*words, "--participant-label", "01", "--ignore", "Ala"])
    assert len(dataset.calls) == 8 and dataset.calls[-1][0] == "sub-01_acq-press_svs"
    main([*words, "--participant-label", "02", "--overwrite"])
    assert len(dataset.calls) == 9 and dataset.calls[-1][0] == "sub-02_acq-press_svs"


def test_files_under_bids_names_of_a_session_that_fails_now_are_removed(words, dataset, tmp_path):
    main(words)
    data = dataset.root / "sub-01" / "mrs" / "sub-01_acq-press_svs.nii.gz"
    data.write_text("6", encoding="utf-8")
    main(words)
    assert not list((tmp_path / "fsl_mrs_dl" / "sub-01" / "mrs").iterdir())


def test_basis_sets_by_acquisition(words, dataset, tmp_path):
    (tmp_path / "steam").mkdir()
    main([*words, "--basis-of", f"acq-press={tmp_path / 'steam'}", "--participant-label", "01"])
    assert dataset.calls[0][2] == tmp_path / "steam"


def test_a_table_of_files(dataset, words, tmp_path, capsys):
    table = tmp_path / "study.csv"
    lines = [f"set/sub-0{i}/mrs/sub-0{i}_acq-press_svs.nii.gz,p{i},{'a' if i % 2 else 'b'}" for i in range(1, 5)]
    table.write_text("\n".join(["data,participant,group", *lines, "nothing.nii,p9,a"]), encoding="utf-8")
    assert main(["study", str(table), str(tmp_path / "out"), "participant", "group", *words[4:]]) == 0
    text = capsys.readouterr().out
    assert "4 of 5 sessions have results" in text and "line 6: there is no file" in text
    wide = pd.read_csv(tmp_path / "out" / "group" / "concentrations_wide.tsv", sep="\t")
    assert wide["NAA"].notna().sum() == 4 and not (tmp_path / "out" / "sub-01").exists()


@pytest.mark.parametrize(
    "more, expected",
    [
        (["--min-snr", "-1"], "--min-snr -1"),
        (["--basis-of", "press"], "--basis-of press"),
        (["--basis-of", "press=nowhere"], "--basis-of press=nowhere: no such basis set; give a folder"),
        (["--participant-label", "09"], "--participant-label 09"),
        (["--n-procs", "0"], "--n-procs 0"),
        (["--parallel", "moon"], "--parallel moon"),
    ],
)
def test_wrong_options_are_errors_of_one_line(words, more, expected, capsys):
    assert main([*words, *more]) == 2
    assert expected in capsys.readouterr().err


def test_wrong_places_are_errors_of_one_line(words, dataset, tmp_path, capsys):
    for place, out, expected in (
        (str(tmp_path / "nowhere"), "x", "neither a folder nor a table"),
        (str(dataset.root), str(dataset.root), "is the data set itself"),
        (str(tmp_path), "x", "dataset_description.json"),
        (str(dataset.root), str(tmp_path / "empty"), "no session has results"),
    ):
        level = "group" if out.endswith("empty") else "participant"
        assert main(["study", place, out, level]) == 2
        assert expected in capsys.readouterr().err


def test_a_session_is_run_with_its_files_and_its_messages_are_kept(tmp_path, monkeypatch):
    """What is printed meanwhile goes into a file beside the results."""
    seen = []

    def run_session(session, options, folder, say):
        seen.append(session)
        print("printed")
        say("said")

    monkeypatch.setattr(runner, "run_session", run_session)
    session = StudySession(
        "a", Path("d.nii"), water=Path("w.nii"), segmentations=(Path("s.nii"),), basis=Path("b"), echo_time_s=0.03
    )
    runner.run_one(session, RunOptions(), tmp_path)
    assert (tmp_path / "messages.txt").read_text(encoding="utf-8") == "printed\nsaid\n"
    assert (seen[0].water, seen[0].tissue, seen[0].basis) == (Path("w.nii"), [Path("s.nii")], Path("b"))
    assert seen[0].header == {"EchoTime": 0.03}


def test_sessions_without_a_basis_set_share_a_simulated_one(tmp_path, monkeypatch):
    from fsl_mrs_dl.io.basis import Basis

    simulated = []

    def basis_of_header(data, **options):
        simulated.append(data.spec_freq_mhz)
        fids = np.exp(-5 * np.arange(64) * 5e-4)[None].astype(complex)
        return Basis(fids, ("NAA",), 5e-4, data.spec_freq_mhz), "press"

    monkeypatch.setattr(runner, "basis_of_header", basis_of_header)
    sessions = []
    for name, frequency in (("a", 123.21), ("b", 123.24), ("c", 127.7)):
        header = {"SpectrometerFrequency": [frequency], "ResonantNucleus": ["1H"], "EchoTime": 0.03}
        fids = np.ones((1, 1, 1, 64), np.complex64)
        nifti.save(tmp_path / f"{name}.nii", nifti.MrsData(fids, 5e-4, frequency, "1H", (), header, np.eye(4)))
        sessions.append(StudySession(name, tmp_path / f"{name}.nii"))
    sessions += [StudySession("bad", tmp_path / "bad.nii"), StudySession("own", tmp_path / "a.nii", basis=tmp_path)]
    said = []
    given = runner.with_simulated_basis(sessions, {}, tmp_path / "basis", RunOptions(), said.append)
    assert given[0].basis == given[1].basis != given[2].basis and simulated == pytest.approx([123.2, 127.7])
    assert given[3].basis is None and given[4].basis == tmp_path and len(said) == 2
    runner.with_simulated_basis(sessions, {}, tmp_path / "basis", RunOptions(), said.append)
    assert len(simulated) == 2
