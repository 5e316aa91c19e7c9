"""The command ``study``: from a BIDS data set or a table to tables and a page; a stand-in runs the sessions."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
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
from fsl_mrs_dl.workflow.processing import ProcessingOptions
from fsl_mrs_dl.workflow.progress import came_to
from fsl_mrs_dl.workflow.session import RunOptions
from tests.helpers.made_bids import SIDECAR, make
from tests.helpers.made_study import write_values

REAL_RUN_ONE = runner.run_one


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


def test_an_interrupted_study_says_what_is_done_and_goes_on(words, dataset, monkeypatch, capsys):
    whole = runner.run_one

    def interrupted(session, options, folder):
        if len(dataset.calls) == 2:
            raise KeyboardInterrupt
        whole(session, options, folder)

    monkeypatch.setattr(runner, "run_one", interrupted)
    assert main(words) == 130
    assert "interrupted; 2 of 6 sessions are done: the same command goes on." in capsys.readouterr().err
    monkeypatch.setattr(runner, "run_one", whole)
    main(words)
    assert "2 of them from before" in capsys.readouterr().out and len(dataset.calls) == 6


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


def test_warnings_are_counted_without_names_of_files(tmp_path):
    """A session that was called 1 lost the digits of its warnings, and files of other names were not recognised."""
    texts = "{file}: has an EchoTime of 130 ms.", "A spurious echo near 1.3 ppm, 41 times the noise."
    counts = Counter()
    for name, file in (("1", "/data/one.nii.gz"), ("scan-2", "/data/1.nii.gz")):
        (tmp_path / name).mkdir()
        record = {"name": name, "inputs": {"data": file, "water": None, "basis": "noise"}, "quality": {}}
        record["warnings"] = [text.format(file=file) for text in texts]
        (tmp_path / name / "run.json").write_text(json.dumps(record))
        counts.update(came_to(tmp_path / name)[1])
    assert counts == {"...: has an EchoTime of 130 ms.": 2, texts[1]: 2}


def test_lines_of_sessions_have_their_verdicts_and_warnings(dataset, words, monkeypatch, capsys):
    """Only the seconds were printed, also of a fit that the tables leave out."""

    def run_one(session, options, folder):
        number = int(session.data.read_text(encoding="utf-8"))
        bad = {"converged": False, "usable": False, "verdict": "not usable"} if number == 2 else {}
        warnings = ["A spurious echo.", f"{session.name}: has no echo time."][: 2 if number == 1 else number % 2]
        write_values(folder, {"NAA": 10.0, "Cr": 8.0}, quality=bad, warnings=warnings, name=session.name)

    monkeypatch.setattr(runner, "run_one", run_one)
    assert main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "[1/6] sub-01_acq-press_svs: 0 s, good, 2 warnings" in lines
    assert "[2/6] sub-02_acq-press_svs: 0 s, not usable, the fit did not converge" in lines
    assert "[4/6] sub-04_acq-press_svs: 0 s, good" in lines and "  3 sessions: A spurious echo." in lines
    assert "  1 session: ...: has no echo time." in lines
    assert main([*words[:3], "group", "--group-column", "diagnosis"]) == 0
    assert "sub-02_acq-press_svs: the fit did not converge" in capsys.readouterr().out


def test_water_that_no_time_of_the_header_scales_by_is_named(tmp_path):
    """A study with water had no molarity, and no line of the terminal said why."""
    step = {
        "name": "absolute concentrations",
        "done": False,
        "reason": "none, the echo time is in no header; give --TE",
    }
    for reason, expected in (
        (
            step["reason"],
            ["No absolute concentrations (mM), though there is water: the echo time is in no header; give --TE."],
        ),
        ("none, there is no water reference; give one with --h2o", []),
    ):
        content = {"quality": {"verdict": "good"}, "steps": [step | {"reason": reason}]}
        (tmp_path / "run.json").write_text(json.dumps(content), encoding="utf-8")
        assert came_to(tmp_path)[1] == expected


def test_a_study_of_which_no_session_could_be_run_ends_with_an_error(words, dataset, capsys):
    assert main([*words, "--participant-label", "06"]) == 2
    out, err = capsys.readouterr()
    assert "none of its sessions could be run" in err and "Written" not in out and "sub-06_acq-press_svs: is bad" in out


@pytest.mark.parametrize(
    "more, expected",
    [
        (["--min-snr", "-1"], "--min-snr -1"),
        (["--basis-of", "press"], "--basis-of press"),
        (["--basis-of", "press=nowhere"], "--basis-of press=nowhere: no such basis set; give a folder"),
        (["--participant-label", "09"], "--participant-label 09"),
        (["--group-column", "Diagnosis"], "there are participant_id, diagnosis"),
        (["group", "--exclude", "sub-7"], "--exclude sub-7: there is no such session or participant"),
        (["--tissue_frac", "seg.nii"], "--tissue_frac seg.nii: of a study are three numbers"),
        (["--tissue_frac", "0.9", "0.9", "0.1"], "--tissue_frac 0.9 0.9 0.1"),
        (["--n-procs", "0"], "--n-procs 0"),
        (["--parallel", "moon"], "--parallel moon"),
    ],
)
def test_wrong_options_are_errors_of_one_line(words, more, expected, capsys):
    level = [more.pop(0)] if more[0] == "group" else []
    assert main([*words[:4], *level, *words[4:], *more]) == 2
    assert expected in capsys.readouterr().err


def test_a_table_among_the_tables_of_groups_stays(words, dataset, tmp_path, capsys):
    assert main([*words[:4], "group", *words[4:], "--group-column", "diagnosis"]) == 0
    table = Path(words[2]) / "group" / "sessions.tsv"
    before = table.read_text(encoding="utf-8")
    table.write_text(f"data\n{dataset.root}/sub-01/mrs/sub-01_acq-press_svs.nii.gz\n", encoding="utf-8")
    mine = table.read_text(encoding="utf-8")
    assert main(["study", str(table), words[2], "group"]) == 2 and mine != before
    assert f"{table}: lies where the study writes its tables" in capsys.readouterr().err
    assert table.read_text(encoding="utf-8") == mine


def test_wrong_places_are_errors_of_one_line(words, dataset, tmp_path, capsys):
    for place, out, expected in (
        (
            str(tmp_path / "nowhere"),
            "x",
            "nowhere: no such folder or file; give the folder of a BIDS data set, or a table",
        ),
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
    session = replace(session, water_repetition_time_s=10.0)
    runner.run_one(session, RunOptions(), tmp_path)
    assert (tmp_path / "messages.txt").read_text(encoding="utf-8") == "printed\nsaid\n"
    assert (seen[0].water, seen[0].tissue, seen[0].basis) == (Path("w.nii"), [Path("s.nii")], Path("b"))
    assert seen[0].header == {"EchoTime": 0.03} and seen[0].water_header == {"RepetitionTime": 10.0}


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


def test_participants_and_visits_of_a_table_are_chosen_with_and_without_prefix(dataset, words, tmp_path, capsys):
    table = tmp_path / "study.csv"
    place = "set/sub-0{0}/mrs/sub-0{0}_acq-press_svs.nii.gz,sub-0{0},ses-{1},n{0}"
    lines = [place.format(number, number % 2) for number in range(1, 5)]
    table.write_text("\n".join(["data,participant,visit,name", *lines]), encoding="utf-8")
    start = ["study", str(table), str(tmp_path / "out"), "participant", *words[4:]]
    for more, names in ((["--session-label", "ses-1"], {"n1", "n3"}), (["--session-label", "0"], {"n2", "n4"})):
        dataset.calls.clear()
        assert main([*start, *more]) == 0 and {name for name, *_ in dataset.calls} == names
    dataset.calls.clear()
    assert main([*start, "--participant-label", "01", "9"]) == 2 and not dataset.calls
    assert "--participant-label 9" in capsys.readouterr().err


def test_tissue_fractions_are_those_of_sessions_without_their_own(dataset, words, tmp_path, monkeypatch):
    """And their SD is the one that was asked for."""
    seen = {}

    def run_session(session, options, folder, say):
        seen[session.name] = session.tissue
        write_values(folder, {"NAA": 10.0, "Cr": 8.0})

    monkeypatch.setattr(runner, "run_session", run_session)
    monkeypatch.setattr(runner, "run_one", REAL_RUN_ONE)
    table = tmp_path / "study.csv"
    lines = [
        f"set/sub-0{i}/mrs/sub-0{i}_acq-press_svs.nii.gz,n{i},{part}" for i, part in ((1, "0.5,0.4,0.1"), (2, ",,"))
    ]
    table.write_text("\n".join(["data,name,white,grey,csf", *lines]), encoding="utf-8")
    more = ["--tissue_frac", "0.3", "0.6", "0.1", "--tissue_frac_sd", "0.07"]
    assert main(["study", str(table), str(tmp_path / "out"), "participant", *words[4:], *more]) == 0
    assert (seen["n1"].white, seen["n2"].white, seen["n2"].grey) == (0.5, 0.3, 0.6)
    assert seen["n1"].sd == seen["n2"].sd == 0.07


def test_the_content_of_a_file_that_an_option_names_counts(words, dataset, tmp_path):
    times = tmp_path / "t1.json"
    more = ["--participant-label", "01", "--t1-values", str(times)]
    for t1, calls in ((1.0, 1), (1.0, 1), (1.1, 2)):
        times.write_text(json.dumps(dict.fromkeys(("H2O_WM", "H2O_GM", "H2O_CSF", "METAB"), t1)), encoding="utf-8")
        assert main([*words, *more]) == 0 and len(dataset.calls) == calls


def edited_file(path, name, n_points=2048, conditions=2):
    """Write a file whose header names a sequence, with edit conditions where there are several."""
    header = {"SpectrometerFrequency": [123.2], "ResonantNucleus": ["1H"], "EchoTime": 0.068, "ProtocolName": name}
    header |= {"dim_5": "DIM_EDIT"} if conditions > 1 else {}
    fids = np.ones((1, 1, 1, n_points, conditions)[: 5 if conditions > 1 else 4], np.complex64)
    tags = ("DIM_EDIT",) if conditions > 1 else ()
    nifti.save(path, nifti.MrsData(fids, 5e-4, 123.2, "1H", tags, header, np.diag([20.0, 20, 20, 1])))
    return StudySession(path.name, path)


def test_edited_data_get_no_basis_set_of_one_condition(tmp_path):
    """Vendors name the localisation of edited sequences; the run of the session simulates all conditions."""
    edited = edited_file(tmp_path / "edited.nii.gz", "PRESS")
    assert runner.with_simulated_basis([edited], {}, tmp_path / "basis", RunOptions(), print)[0].basis is None
    plain = edited_file(tmp_path / "plain.nii.gz", "PRESS", conditions=1)
    by_order = RunOptions(processing=ProcessingOptions(edit_order="ON OFF"))
    assert runner.with_simulated_basis([plain], {}, tmp_path / "basis", by_order, print)[0].basis is None


def test_a_simulated_basis_set_is_as_long_as_the_data(tmp_path, monkeypatch):
    seen = []

    def basis_of_header(data, **options):
        seen.append(data.n_points)
        raise DataError("enough")

    monkeypatch.setattr(runner, "basis_of_header", basis_of_header)
    long = edited_file(tmp_path / "long.nii.gz", "PRESS", n_points=4096, conditions=1)
    runner.with_simulated_basis([long], {}, tmp_path / "basis", RunOptions(), print)
    assert seen == [4096]
