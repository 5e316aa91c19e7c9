"""One session of a study by :func:`.session.run_session`, and basis sets for those that have none."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..core.errors import FslMrsDlError
from ..fitting.edited_data import EDIT_DIM
from ..io import nifti
from ..io.nifti import MrsData
from ..io.output import folder_for
from .basis_of_header import acquisition_of, basis_of_header
from .entry import StudySession
from .session import RunOptions, Session, run_session
from .study import basis_for

__all__ = ["MESSAGES", "run_one", "with_simulated_basis"]

MESSAGES = "messages.txt"
"""File with what a session's run printed."""

_MHZ = 0.1  # scanners of one field differ by less; the basis set of a study must not depend on which was first


def run_one(session: StudySession, options: RunOptions, folder: Path) -> None:
    """Run one session and write its results, and what was printed, into an empty folder.

    Raises
    ------
    DataError, BasisError, OptionError, OutputError
    """
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        run_session(_as_session(session, options.tissue_sd), options, folder, say=print)
    (folder / MESSAGES).write_text(printed.getvalue(), encoding="utf-8")


def _as_session(session: StudySession, tissue_sd: float) -> Session:
    """Return the files of a session of a study, with the times of its sidecars."""
    return Session(
        name=session.name,
        data=session.data,
        water=session.water,
        t1=session.t1,
        tissue=_tissue(session, tissue_sd),
        basis=session.basis,
        header=_times(session.echo_time_s, session.repetition_time_s),
        water_header=_times(session.water_echo_time_s, session.water_repetition_time_s),
    )


def _times(echo_s: float | None, repetition_s: float | None) -> dict[str, float]:
    """Return the times that are known, by the keys of headers."""
    times = {"EchoTime": echo_s, "RepetitionTime": repetition_s}
    return {key: value for key, value in times.items() if value is not None}


def _tissue(session: StudySession, sd: float):
    """Return shares of tissue, or segmentations, or None."""
    if session.fractions is not None:
        from ..concentrations.tissue import TissueFractions

        return TissueFractions.from_values(*session.fractions, sd=sd)
    return list(session.segmentations) or None


def with_simulated_basis(
    sessions: Sequence[StudySession],
    basis: Mapping[str, Path],
    folder: Path,
    options: RunOptions,
    say=print,
) -> list[StudySession]:
    """Return sessions of which those without a basis set share simulated ones, one for each acquisition.

    Parameters
    ----------
    sessions : sequence of StudySession
    basis : dict
        Basis sets of the study, see :func:`.study.basis_for`.
    folder : path
        For the simulated ones; one that is there is taken.
    options : RunOptions
    say : callable
        Called with a line for each.
    """
    return [
        session
        if session.error or basis_for(session, basis) is not None
        else replace(session, basis=_simulated(session, folder, options, say))
        for session in sessions
    ]


def _simulated(session: StudySession, folder: Path, options: RunOptions, say) -> Path | None:
    """Return the simulated basis set of a session's acquisition; None where its header does not say enough, which its
    run prints, and of edited data, whose run simulates all conditions."""
    try:
        data = nifti.load_header(session.data)
        if EDIT_DIM in data.dim_tags or options.processing.edit_order:
            return None
        data = replace(data, fids=np.zeros((1, 1, 1, data.stored_points), np.complex64))
        path = folder / _name(data, options)
        if not path.is_dir():
            rounded = replace(data, spec_freq_mhz=round(data.spec_freq_mhz / _MHZ) * _MHZ)
            simulated, what = basis_of_header(
                rounded, sequence=options.sequence, te_ms=options.te_ms, tm_ms=options.tm_ms
            )
            with folder_for(path, overwrite=False) as temporary:
                simulated.save(temporary, info=f"Simulated for {what}.")
            say(f"No basis set for {session.name} and its like: simulated for {what}.")
        return path
    except FslMrsDlError:
        return None


def _name(data: MrsData, options: RunOptions) -> str:
    """Return the name of a simulated basis set, from what it is simulated for."""
    acquired = acquisition_of(data)
    te_ms = (acquired.te_s or 0) * 1e3 if options.te_ms is None else options.te_ms
    tm_ms = (acquired.tm_s or 0) * 1e3 if options.tm_ms is None else options.tm_ms
    grid = f"{data.spec_freq_mhz:.1f}MHz_{data.bandwidth:.0f}Hz_{data.n_points}"
    text = f"{options.sequence or acquired.sequence}_{te_ms:.2f}ms_{tm_ms:.2f}ms_{grid}"
    return re.sub(r"[^\w.+-]+", "-", text)
