"""A study: every session is run, or kept where its results are there already; a bad one does not end it.

A folder of a study holds ``sessions/NAME/`` with everything that :func:`.session.run_session` writes, and
``failed/NAME.json`` with the reason of each session that could not be run.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from .. import __version__
from ..core.errors import FslMrsDlError, OptionError, OutputError
from ..core.parallel import one_thread
from ..core.workers import map_in_workers
from ..io.companions import companions
from ..io.files import fingerprint, json_content
from ..io.output import folder_for, write_text
from .entry import StudySession

__all__ = [
    "DONE",
    "FAILED",
    "KEPT",
    "NOT_RUN",
    "RECORD",
    "Outcome",
    "Runner",
    "Study",
    "basis_for",
    "content_hash",
    "outcomes",
    "run_study",
]

DONE, KEPT, FAILED, NOT_RUN = "done", "kept", "failed", "not run"
"""States of a session: run now, run before from the same inputs and options, failed, not run yet."""

RECORD = "study.json"
"""File in a session's folder of results: what they were made from."""

Runner = Callable[[StudySession, Any, Path], None]
"""Runs one session with options and writes its results into an empty folder."""


@dataclass(frozen=True)
class Study:
    """Where and how the sessions of a study are run.

    Attributes
    ----------
    folder : path
        Folder of the study's results.
    options : object
        Options of every session, for ``runner``.
    runner : callable
        See :data:`Runner`; importable, as other processes call it.
    basis : dict
        Basis sets by the series that they are for, see :func:`basis_for`.
    settings : str
        The options in words: results are kept where these are the same.
    """

    folder: Path
    options: Any
    runner: Runner
    basis: Mapping[str, Path] = field(default_factory=dict)
    settings: str = ""


@dataclass(frozen=True)
class Outcome:
    """What became of a session.

    Attributes
    ----------
    name : str
    state : str
        :data:`DONE`, :data:`KEPT`, :data:`FAILED` or :data:`NOT_RUN`.
    reason : str
        Why it failed, one line.
    seconds : float
        That it took now.
    """

    name: str
    state: str
    reason: str = ""
    seconds: float = 0.0


def basis_for(session: StudySession, basis: Mapping[str, Path]) -> Path | None:
    """Return the basis set of a session: its own, or that of the key whose entities its series has most of.

    Keys are entities joined by underscores (``acq-press_voi-acc``), a label of ``acq`` alone, the name of a table's
    series, or empty for all others.
    """
    if session.basis is not None:
        return session.basis
    parts = set(session.series.split("_"))
    labels = {part.removeprefix("acq-") for part in parts if part.startswith("acq-")} | {session.series}
    fitting = [
        key for key in basis if not key or key in labels or set(key.split("_")) <= parts and "-" in key
    ]  # the empty key fits last
    return basis[max(fitting, key=lambda key: (key.count("_") + 1) * bool(key))] if fitting else None


def run_study(
    study: Study,
    sessions: Sequence[StudySession],
    *,
    parallel: str = "off",
    workers: int | None = None,
    scratch: Path | None = None,
    again: bool = False,
    say: Callable[[str], None] = print,
) -> Iterator[Outcome]:
    """Run every session whose results are not there yet, in any order, and yield what became of each.

    A session's results are kept where they were made from files of the same content, with the same options and the
    same version; sessions that failed are tried again.

    Parameters
    ----------
    study : Study
    sessions : sequence of StudySession
    parallel : str
        One of :data:`fsl_mrs_dl.core.workers.PARALLEL`, or the address of a scheduler.
    workers : int, optional
        Processes or nodes.
    scratch : path, optional
        Folder for files that need not stay.
    again : bool
        Run sessions again whose results are up to date.
    say : callable
        Called with messages.

    Raises
    ------
    OptionError, OutputError
    """
    _make(study.folder)
    attempt = partial(_attempt, study)
    waiting = []
    for session in sessions:
        # A look at what is there is quick; workers are started for the others only.
        known = not again and (study.folder / "sessions" / session.name).is_dir()
        outcome = _kept(study, session) if known else None
        if outcome is None:
            waiting.append(session)
        else:
            yield outcome
    if parallel == "off":
        yield from map(attempt, waiting)
        return
    failed = partial(_lost, study)
    doing = "Running {n} sessions"
    yield from map_in_workers(
        attempt, waiting, parallel=parallel, workers=workers, say=say, doing=doing, failed=failed, scratch=scratch
    )


def outcomes(study_folder: Path, sessions: Sequence[StudySession]) -> list[Outcome]:
    """Return what became of sessions, from the folder of their study alone."""
    known = []
    for session in sessions:
        if (study_folder / "sessions" / session.name / RECORD).is_file():
            known.append(Outcome(session.name, KEPT))
            continue
        try:
            content = json_content((study_folder / "failed" / f"{session.name}.json").read_bytes())
            known.append(Outcome(session.name, FAILED, str(content["reason"])))
        except (OSError, ValueError, KeyError, TypeError):
            known.append(Outcome(session.name, NOT_RUN, "was not run"))
    return known


def content_hash(path: Path) -> str:
    """Return the SHA-256 of a file and of those that it is read with, or of the names and contents of a folder's files.

    Those are the header of a pair, parameters of the scanner or a control file, see
    :func:`fsl_mrs_dl.io.companions.companions`.  A file that cannot be read has the hash of its error.
    """
    digest = hashlib.sha256()
    try:
        paths = sorted(one for one in path.rglob("*") if one.is_file()) if path.is_dir() else [path, *companions(path)]
        for one in paths:
            if path.is_dir():
                digest.update(one.relative_to(path).as_posix().encode() + b"\0")
            digest.update(hashlib.sha256(one.read_bytes()).digest())
    except OSError as exc:
        digest.update(repr(exc).encode())
    return digest.hexdigest()


def _make(folder: Path) -> None:
    """Make the folder of a study and those in it."""
    try:
        for name in ("sessions", "failed"):
            (folder / name).mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise OutputError(f"{folder}: cannot be made ({exc.strerror})", remedy="choose another folder") from exc


def _recipe(study: Study, session: StudySession) -> dict:
    """Return what the results of a session depend on."""
    basis = basis_for(session, study.basis)
    return {
        "version": __version__,
        "data": content_hash(session.data),
        "water": None if session.water is None else content_hash(session.water),
        "t1": None if session.t1 is None else content_hash(session.t1),
        "segmentations": [content_hash(path) for path in session.segmentations],
        "basis": None if basis is None else content_hash(basis),
        "fractions": session.fractions,
        "times": [session.echo_time_s, session.repetition_time_s],
        "times of water": [session.water_echo_time_s, session.water_repetition_time_s],
        "settings": study.settings,
    }


def _kept(study: Study, session: StudySession) -> Outcome | None:
    """Return the outcome of a session whose results are there and up to date, or None."""
    try:
        record = json_content((study.folder / "sessions" / session.name / RECORD).read_bytes())
        if record["fingerprint"] == fingerprint(_recipe(study, session)):
            return Outcome(session.name, KEPT)
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return None


def _attempt(study: Study, session: StudySession) -> Outcome:
    """Run one session; an error is its outcome."""
    begun = time.perf_counter()
    target = study.folder / "sessions" / session.name
    try:
        if session.error:
            raise OptionError(session.error)
        recipe = _recipe(study, session)
        inputs = (session.data, session.water, session.t1, session.basis, *session.segmentations)
        given = tuple(one for one in inputs if one is not None)
        with folder_for(target, overwrite=True, inputs=given) as folder, one_thread():
            study.runner(replace(session, basis=basis_for(session, study.basis)), study.options, folder)
            record = {"name": session.name, "fingerprint": fingerprint(recipe), "made_from": recipe}
            write_text(folder / RECORD, json.dumps(record, indent=1) + "\n")
        (study.folder / "failed" / f"{session.name}.json").unlink(missing_ok=True)
    except Exception as exc:
        return _failed(study, session, _one_line(exc), begun)
    return Outcome(session.name, DONE, seconds=time.perf_counter() - begun)


def _lost(study: Study, session: StudySession, exc: Exception) -> Outcome:
    """Return the outcome of a session whose process was killed."""
    reason = f"its process ended ({type(exc).__name__}), perhaps for want of memory"
    return _failed(study, session, reason, time.perf_counter())


def _failed(study: Study, session: StudySession, reason: str, begun: float) -> Outcome:
    """Record that a session failed; results that were made from something else are no longer its results.

    Raises
    ------
    OutputError
        If the record cannot be written; the next session would not fare better.
    """
    (study.folder / "sessions" / session.name / RECORD).unlink(missing_ok=True)
    record = {"name": session.name, "reason": reason}
    write_text(study.folder / "failed" / f"{session.name}.json", json.dumps(record, indent=1) + "\n")
    return Outcome(session.name, FAILED, reason, time.perf_counter() - begun)


def _one_line(exc: Exception) -> str:
    """Return an error in one line."""
    if isinstance(exc, FslMrsDlError):
        return exc.text()
    return " ".join(f"{type(exc).__name__}: {exc}".split())
