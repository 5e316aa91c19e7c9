"""Studies of sessions that a stand-in runs: kept, resumed, failed, in other processes."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from fsl_mrs_dl.core.errors import DataError
from fsl_mrs_dl.workflow import study as module
from fsl_mrs_dl.workflow.entry import StudySession
from fsl_mrs_dl.workflow.study import DONE, FAILED, KEPT, NOT_RUN, Study, basis_for, outcomes, run_study
from tests.helpers.made_study import run_stand_in


@pytest.fixture
def study(tmp_path):
    return Study(tmp_path / "out", "options", run_stand_in, settings="these")


@pytest.fixture
def sessions(tmp_path):
    made = []
    for name in ("one", "two", "bad"):
        (tmp_path / f"{name}.nii").write_text(name, encoding="utf-8")
        made.append(StudySession(name, tmp_path / f"{name}.nii"))
    return made


@pytest.fixture(scope="module")
def scheduler():
    """The address of a dask scheduler whose workers are threads of this process."""
    distributed = pytest.importorskip("dask.distributed")
    options = {"processes": False, "dashboard_address": None, "threads_per_worker": 1}
    with distributed.LocalCluster(n_workers=2, **options) as cluster:
        yield cluster.scheduler_address


def states(study, sessions, **options):
    return {outcome.name: outcome.state for outcome in run_study(study, sessions, **options)}


def test_a_bad_session_is_recorded_and_does_not_end_the_study(study, sessions):
    assert states(study, sessions) == {"one": DONE, "bad": FAILED, "two": DONE}
    assert json.loads((study.folder / "failed" / "bad.json").read_text(encoding="utf-8"))["reason"] == "bad: is bad"
    assert [(one.state, one.reason) for one in outcomes(study.folder, sessions)][-1] == (FAILED, "bad: is bad")
    late = StudySession("late", sessions[0].data)
    assert outcomes(study.folder, [late])[0].state == NOT_RUN


def test_results_are_kept_until_inputs_or_options_change(study, sessions, monkeypatch):
    one, two, _ = sessions
    states(study, [one, two])
    assert states(study, [one, two]) == {"one": KEPT, "two": KEPT}
    one.data.write_text("other", encoding="utf-8")
    assert states(study, [one, two]) == {"one": DONE, "two": KEPT}
    for changed in (
        replace(two, fractions=(0.5, 0.3, 0.2)),
        replace(two, water=one.data),
        replace(two, echo_time_s=1),
        replace(two, water_repetition_time_s=1),
    ):
        assert states(study, [changed]) == {"two": DONE}, changed
    assert states(replace(study, settings="others"), [one]) == {"one": DONE}
    assert states(replace(study, settings="others", basis={"": two.data}), [one]) == {"one": DONE}


def test_a_failed_session_is_tried_again_and_its_old_results_count_no_more(study, sessions):
    one = sessions[0]
    states(study, [one])
    one.data.write_text("bad", encoding="utf-8")
    (study.folder / "sessions" / "one" / "report_mine.html").touch()
    assert states(study, [one]) == {"one": FAILED} and outcomes(study.folder, [one])[0].state == FAILED
    one.data.write_text("good", encoding="utf-8")
    assert states(study, [one]) == {"one": DONE} and not (study.folder / "failed" / "one.json").exists()


def test_files_of_the_user_in_a_sessions_folder_stay(study, sessions):
    one = sessions[0]
    states(study, [one])
    notes = study.folder / "sessions" / "one" / "notes.docx"
    notes.touch()
    one.data.write_text("other", encoding="utf-8")
    (outcome,) = run_study(study, [one])
    assert outcome.state == FAILED and "notes.docx" in outcome.reason and notes.exists()


def test_a_session_whose_data_lie_among_its_results_keeps_them(study, sessions):
    one = sessions[0]
    states(study, [one])
    data = study.folder / "sessions" / "one" / "processed.nii.gz"
    data.write_text("mine", encoding="utf-8")
    (outcome,) = run_study(study, [replace(one, data=data)])
    assert outcome.state == FAILED and "holds the input" in outcome.reason
    assert data.read_text(encoding="utf-8") == "mine"


def test_errors_of_the_description_and_faults_are_reasons(study, sessions):
    one, two, _ = sessions
    two.data.write_text("fault", encoding="utf-8")
    first, second = run_study(study, [replace(one, error="line 3: has no data"), two])
    assert first.reason == "line 3: has no data" and second.reason == "ZeroDivisionError: a fault"


def test_workers_of_a_scheduler_give_the_same_results(study, sessions, scheduler):
    said = []
    there = states(study, sessions, parallel=scheduler, say=said.append)
    assert there == {"one": DONE, "two": DONE, "bad": FAILED}
    assert said == [f"Running 3 sessions with the scheduler {scheduler}."]
    here = replace(study, folder=study.folder.with_name("here"))
    states(here, sessions)
    for name in ("one", "two"):
        first, second = (folder / "sessions" / name / "summary.csv" for folder in (study.folder, here.folder))
        assert first.read_bytes() == second.read_bytes()
    assert states(study, sessions[:2], parallel="tcp://nowhere") == {"one": KEPT, "two": KEPT}, "none was needed"


def test_a_session_whose_process_was_lost_is_a_reason(study, sessions, scheduler, monkeypatch):
    """The error comes from dask then, not from the session."""

    def lost(study, session):
        raise RuntimeError("KilledWorker")

    monkeypatch.setattr(module, "_attempt", lost)
    (outcome,) = run_study(study, sessions[:1], parallel=scheduler, say=lambda text: None)
    assert outcome.state == FAILED and "memory" in outcome.reason
    assert outcomes(study.folder, sessions[:1]) == [replace(outcome, seconds=0.0)]


def test_basis_sets_are_chosen_by_series(tmp_path):
    session = StudySession("a", tmp_path, series="acq-press_voi-acc_svs")
    basis = {"": 0, "press": 1, "acq-press_voi-acc": 2, "acq-press_voi-pcc": 3, "steam": 4}
    assert basis_for(session, basis) == 2
    assert basis_for(replace(session, series="acq-press_voi-ofc_svs"), basis) == 1
    assert basis_for(replace(session, series="acq-laser_svs"), basis) == 0
    assert basis_for(replace(session, series="table's own"), {"table's own": 5}) == 5
    assert basis_for(replace(session, series="acq-laser_svs"), {"press": 1}) is None
    assert basis_for(replace(session, basis=9), basis) == 9


def test_the_hash_of_a_folder_is_of_names_and_contents(tmp_path):
    hashes = set()
    for name, content in (("a", "1"), ("b", "1"), ("b", "2")):
        for old in tmp_path.iterdir():
            old.unlink()
        (tmp_path / name).write_text(content, encoding="utf-8")
        hashes.add(module.content_hash(tmp_path))
    assert len(hashes) == 3
    assert module.content_hash(tmp_path / "nothing") != module.content_hash(tmp_path)


def test_a_folder_that_cannot_be_made_ends_the_study(tmp_path, study, sessions):
    study.folder.write_text("", encoding="utf-8")
    with pytest.raises(DataError.__base__, match="cannot be made"):
        list(run_study(study, sessions))


@pytest.mark.parametrize("which", ["data", "water", "t1"])
def test_results_are_made_again_when_a_file_changes_that_belongs_to_another(study, tmp_path, which):
    """Of a Philips .SDAT, the header is a file of its own, and a corrected one had kept old results."""
    first, header = ("t1.img", "t1.hdr") if which == "t1" else ("a.SDAT", "a.SPAR")
    for name in ("b.nii", first, header):
        (tmp_path / name).write_text("1", encoding="utf-8")
    session = replace(StudySession("a", tmp_path / "b.nii"), **{which: tmp_path / first})
    assert states(study, [session]) == {"a": DONE} and states(study, [session]) == {"a": KEPT}
    (tmp_path / header).write_text("2", encoding="utf-8")
    assert states(study, [session]) == {"a": DONE} and states(study, [session]) == {"a": KEPT}
