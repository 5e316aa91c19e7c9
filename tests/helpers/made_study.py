"""A stand-in for the run of one session: quick, and bad where the data say so."""

from __future__ import annotations

from fsl_mrs_dl.core.errors import DataError


def run_stand_in(session, options, folder):
    """Write results that depend on the content of the data; 'bad' and 'fault' end as they say."""
    content = session.data.read_text(encoding="utf-8")
    if content == "bad":
        raise DataError(f"{session.name}: is bad")
    if content == "fault":
        raise ZeroDivisionError("a fault")
    (folder / "summary.csv").write_text(f"{content}, {options}\n", encoding="utf-8")
