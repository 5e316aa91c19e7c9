"""One session of a study, as a BIDS data set or a table names it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["StudySession"]


@dataclass(frozen=True)
class StudySession:
    """A session of a study: its files, and its place among the others.

    Attributes
    ----------
    name : str
        Unique in the study, and the name of its folder of results.
    data : path
        NIfTI-MRS file.
    water, t1 : path, optional
        Water reference, and structural image.
    segmentations : tuple of path
        Images of tissue in the space of the structural image.
    fractions : (float, float, float), optional
        White and grey matter and CSF of the voxel; they go before segmentations.
    basis : path, optional
        Basis set of this session, before that of the study.
    participant, visit : str
        Labels of the participant, and of the visit where there are several.
    series : str
        What distinguishes acquisitions of one visit (sequence, place); values are compared within a series.
    group : str
        Group of the participant; empty where there is none.
    echo_time_s, repetition_time_s : float, optional
        From the sidecar, for headers without them.
    water_echo_time_s, water_repetition_time_s : float, optional
        The same of the water reference.
    notes : tuple of str
        What was assumed, or is wrong with the description of the session, a sentence each.
    error : str
        Why the session cannot be run; empty where it can.
    bids : path, optional
        The data file relative to its BIDS data set.
    """

    name: str
    data: Path
    water: Path | None = None
    t1: Path | None = None
    segmentations: tuple[Path, ...] = ()
    fractions: tuple[float, float, float] | None = None
    basis: Path | None = None
    participant: str = ""
    visit: str = ""
    series: str = ""
    group: str = ""
    echo_time_s: float | None = None
    repetition_time_s: float | None = None
    water_echo_time_s: float | None = None
    water_repetition_time_s: float | None = None
    notes: tuple[str, ...] = field(default=())
    error: str = ""
    bids: Path | None = None
