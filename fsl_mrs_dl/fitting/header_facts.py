"""Facts of a file's header that a fit depends on: echo and repetition time, and the history of processing."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TypeGuard

import numpy as np

from ..io.basis import Basis
from ..io.edited_basis import EditedBasis
from ..io.header_keys import start_time_s
from ..io.nifti import MrsData
from ..physics.in_vivo_components import priors_table
from .options import FitOptions

_LONGEST_S = 1e6  # of an echo or repetition time that can be meant
_MAY_BE_ZERO = ("EchoTime", "InversionTime", "MixingTime")  # headers of FID-MRSI have an echo time of zero

__all__ = [
    "aligned_before",
    "contradicted_times",
    "contradictions",
    "is_time",
    "seconds_of",
    "seconds_of_each",
    "sequence_of",
    "time_notes",
    "with_header",
]

# Names as vendors and spec2nii write them; the first that is in one of the header's texts.
_SEQUENCES = (
    ("hercules", r"hercules"),
    ("hermes", r"hermes"),
    ("mega-slaser", r"mega.?s-?laser|mega.?semi"),
    ("slaser", r"s-?laser|semi-?laser|_slaser"),
    ("mega-press", r"mega|svs_ed|gaba.?edit"),
    ("special", r"special"),
    ("steam", r"steam|svs_st\b|svs_st_"),
    ("press", r"press|probe-p|svs_se\b|svs_se_|probep"),
    ("spin-echo", r"spin.?echo"),
    ("fid", r"\bfid\b|fid_?csi|csi_fid"),
)
_NAMING_KEYS = ("SequenceName", "PulseSequenceFile", "PulseSequenceType", "ProtocolName", "SequenceTriggered")


def with_header(options: FitOptions, data: MrsData, basis_echo_time_s: float | None = None) -> FitOptions:
    """Return the options with the facts of the file's header: echo, repetition and start time, where they have none,
    and whether eddy currents were corrected.

    Without an echo time in either, that of the basis set is taken.
    """
    echo = _given_or_of(options.echo_time_s, data, "EchoTime")
    return replace(
        options,
        echo_time_s=basis_echo_time_s if echo is None else echo,
        repetition_time_s=_given_or_of(options.repetition_time_s, data, "RepetitionTime"),
        start_time_s=start_time_s(data.header) if options.start_time_s is None else options.start_time_s,
        eddy_currents_corrected=options.eddy_currents_corrected or _eddy_currents_corrected(data.header),
    )


_SAME_S = 0.5e-3  # of two times that are the same as people write them
_SAME = 0.01  # likewise, relative to the longer one


def contradictions(options: FitOptions, data: MrsData) -> list[str]:
    """Return a line for each time of the options that the file's header contradicts; options stand in backticks.

    Parameters
    ----------
    options : FitOptions
        As they were given.
    data : MrsData
        Whose header is asked.
    """
    return [
        f"{data.name}: its header has {key} {of_header}, and `{option}` is {given}, which is used: leave `{option}` out"
        " unless the header is wrong."
        for option, key, given, of_header in contradicted_times(options, data)
    ]


def contradicted_times(options: FitOptions, data: MrsData) -> list[tuple[str, str, str, str]]:
    """Return the times of the options that the file's header contradicts: option, key, and the values that were given
    and that the header has, in words."""
    out = []
    for option, given, key, factor, unit in (
        ("TE", options.echo_time_s, "EchoTime", 1e3, "ms"),
        ("TR", options.repetition_time_s, "RepetitionTime", 1.0, "s"),
    ):
        own = seconds_of(data, key)
        if given is None or own is None or abs(given - own) <= max(_SAME_S, _SAME * max(given, own)):
            continue
        out.append((option, key, f"{factor * given:.4g} {unit}", f"{factor * own:.4g} {unit}"))
    return out


def time_notes(options: FitOptions, data: MrsData, basis: Basis | EditedBasis | None = None) -> list[str]:
    """Return a line for each time that the header contradicts, or that the in-vivo model has to assume; options stand
    in backticks.

    Parameters
    ----------
    options : FitOptions
        As they were given.
    data : MrsData
        Whose header is asked.
    basis : Basis or EditedBasis, optional
        Whose echo time is asked.
    """
    notes = contradictions(options, data)
    if options.spectral_model != "in-vivo":
        return notes
    usual = priors_table()["usual"]
    echo = _given_or_of(options.echo_time_s, data, "EchoTime")
    if options.echo_time_s is None and echo == 0:
        notes.append(f"{data.name}: its EchoTime is 0, and is taken for that (`TE`).")
    of_basis = None if basis is None else basis.echo_time_s
    if echo is None and of_basis is not None:
        notes.append(f"{data.name}: has no EchoTime; that of the basis set, {1e3 * of_basis:g} ms, is assumed (`TE`).")
    elif echo is None:
        notes.append(
            f"{data.name}: has no EchoTime; macromolecules are weighted for {1e3 * usual['te_s']:g} ms (`TE`), and the"
            " basis set must be of the echo time of the data."
        )
    elif basis is not None and of_basis is None:
        notes.append(f"{basis.source}: has no echo time; it is assumed to be for that of the data, {1e3 * echo:g} ms.")
    if options.repetition_time_s is None and seconds_of(data, "RepetitionTime") is None:
        notes.append(f"{data.name}: has no RepetitionTime; macromolecules are weighted for {usual['tr_s']:g} s (`TR`).")
    return notes


def seconds_of(data: MrsData, key: str) -> float | None:
    """Return a time of a header in seconds, the mean of one that varies along a dimension; None where there is none."""
    values = [data.header.get(key)]
    for number in (5, 6, 7):
        varying = (data.header.get(f"dim_{number}_header") or {}).get(key)
        values = varying if isinstance(varying, list) else values
    times = [float(value) for value in values if is_time(value, key)]
    return sum(times) / len(times) if times else None


def seconds_of_each(data: MrsData, key: str) -> tuple[float, ...] | None:
    """Return a time of every spectrum in seconds where a header has different ones along a dimension, in the order of
    the rows of a fit; None where it has one time, or none for some spectra."""
    shape = data.fids.shape[:3] + data.fids.shape[4:]
    for axis, size in enumerate(shape[3:], 3):
        values = (data.header.get(f"dim_{axis + 2}_header") or {}).get(key)
        if not isinstance(values, list) or len(values) != size or len(set(map(str, values))) < 2:
            continue
        if not all(is_time(value, key) for value in values):
            return None
        along = np.asarray(values, float).reshape(-1, *[1] * (len(shape) - axis - 1))
        return tuple(np.broadcast_to(along, shape).ravel().tolist())
    return None


def is_time(value: object, key: str) -> TypeGuard[float]:
    """Tell whether a value of a header is a time in seconds."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return False
    return 0 < value < _LONGEST_S or (value == 0 and key in _MAY_BE_ZERO)


def _given_or_of(given: float | None, data: MrsData, key: str) -> float | None:
    """Return a time that was given, or else that of a header in seconds."""
    return seconds_of(data, key) if given is None else given


def aligned_before(header: dict) -> bool:
    """Tell whether the processing history of a NIfTI-MRS header names an alignment of transients."""
    return any("frequency and phase correction" in text for text in _history(header))


def _eddy_currents_corrected(header: dict) -> bool:
    """Tell whether the processing history of a NIfTI-MRS header names a correction of eddy currents."""
    return any("eddy" in text or re.search(r"\becc\b", text) for text in _history(header))


def _history(header: dict) -> list[str]:
    """Return method and details of every step in a header's processing history, in small letters."""
    steps = [step for step in header.get("ProcessingApplied") or () if isinstance(step, dict)]
    return [f"{step.get('Method', '')} {step.get('Details', '')}".lower() for step in steps]


def sequence_of(header: dict) -> tuple[str | None, str]:
    """Return the sequence that the texts of a header name, and the key and value that do so."""
    for key in _NAMING_KEYS:
        value = header.get(key)
        text = str(value.get("Value", "") if isinstance(value, dict) else value or "")
        for name, pattern in _SEQUENCES:
            if re.search(pattern, text, re.IGNORECASE):
                return name, f"{key} {text}"
    return None, ""
