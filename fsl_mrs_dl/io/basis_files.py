"""Entries of a basis set as its files hold them, before any check that a choice of metabolites may make needless."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..core.errors import BasisError, nearest
from ..core.metabolites import name_among
from ..core.units import in_mhz
from .files import json_content
from .lcmodel_basis import read_lcmodel_basis

__all__ = [
    "EDIT_FILE",
    "GIVE_BASIS",
    "BasisEntry",
    "check_alike",
    "chosen_entries",
    "condition_folders",
    "named_or_refused",
    "read_entries",
]

EDIT_FILE = "edit.json"
"""File that lists the edit conditions of a folder, each with a basis set in a sub-folder."""

# Names of edit conditions of folders without that file; what they are made of stands beside them as diff and sum.
_CONDITIONS = (("on", "off"), ("A", "B", "C", "D"))

GIVE_BASIS = "give a folder of FSL-MRS .json files or an LCModel .BASIS file, or make one ('fsl_mrs_dl simulate basis')"
"""Remedy where there is no basis set."""

_MOST_NAMED = 4


@dataclass(frozen=True)
class BasisEntry:
    """One basis spectrum of a file.

    Attributes
    ----------
    name : str
    fid : complex ndarray ``(n_points,)``
        In the in-memory sign convention; empty where the file cannot be read.
    dwelltime : float
        Seconds.
    spec_freq_mhz : float
    nucleus : str
        Empty where the file has none.
    width_hz : float or None
    source : str
        File, for messages.
    problem : BasisError or None
        Why the file cannot be read; raised if the entry is chosen.
    echo_time_s : float or None
        Seconds, where the file says.
    """

    name: str
    fid: np.ndarray
    dwelltime: float
    spec_freq_mhz: float
    nucleus: str
    width_hz: float | None
    source: str
    problem: BasisError | None = None
    echo_time_s: float | None = None


def read_entries(path: Path) -> list[BasisEntry]:
    """Read a folder of FSL-MRS's ``.json`` files, or an LCModel ``.BASIS`` file.

    Raises
    ------
    BasisError
        If there is no such file, or nothing of it can be read.
    """
    if path.is_dir():
        return _read_json_folder(path)
    if path.is_file() and path.suffix.lower() == ".basis":
        fids, names, dwelltime, frequency = read_lcmodel_basis(path)
        frequency = in_mhz(frequency)
        return [BasisEntry(name, fid, dwelltime, frequency, "1H", None, str(path)) for name, fid in zip(names, fids)]
    if path.is_file():
        raise BasisError(f"{path}: not a basis set", remedy=GIVE_BASIS)
    raise BasisError(f"{path}: no such basis set", remedy=GIVE_BASIS)


def _read_json_folder(folder: Path) -> list[BasisEntry]:
    """Read FSL-MRS's format: a JSON file per metabolite."""
    files = _json_files(folder)
    conditions = condition_folders(folder)
    if conditions or (folder / EDIT_FILE).is_file():
        one = next(iter(conditions.values()), "on")
        raise BasisError(
            f"{folder}: holds a basis set for each edit condition", remedy=f"give one of its sub-folders, such as {one}"
        )
    if not files:
        others = sorted(file for file in folder.iterdir() if file.suffix.lower() == ".basis" and file.is_file())
        if others:
            names = " or ".join(str(file) for file in others[:_MOST_NAMED])
            raise BasisError(f"{folder}: is a folder without FSL-MRS .json files", remedy=f"give {names}")
        raise BasisError(f"{folder}: no .json files in this folder", remedy=GIVE_BASIS)
    return [_read_json(file) for file in files]


def _json_files(folder: Path) -> list[Path]:
    # macOS leaves a file ._NAME.json beside NAME.json where a disk cannot hold its attributes.
    return [file for file in sorted(folder.glob("*.json")) if not file.name.startswith(".")]


def condition_folders(folder: Path) -> dict[str, str]:
    """Return the edit conditions after which sub-folders with basis sets are named, with the sub-folders' names.

    None, unless all conditions of a scheme are there, and no basis files beside them.
    """
    if not folder.is_dir() or [file for file in _json_files(folder) if file.name != EDIT_FILE]:
        return {}
    sets = {
        entry.name.lower(): entry.name for entry in sorted(folder.iterdir()) if entry.is_dir() and _json_files(entry)
    }
    for names in _CONDITIONS:
        if all(name.lower() in sets for name in names):
            return {name: sets[name.lower()] for name in names}
    return {}


def _read_json(file: Path) -> BasisEntry:
    try:
        whole = json_content(file.read_bytes())
        content = whole["basis"]
        fid = np.asarray(content["basis_re"], float) + 1j * np.asarray(content["basis_im"], float)
        if fid.ndim != 1:
            raise ValueError(f"an FID of {fid.ndim} dimensions")
        nucleus, width = content.get("basis_nucleus") or content.get("nucleus") or "", content.get("basis_width")
        if not isinstance(nucleus, str):
            raise TypeError(f"a nucleus {nucleus}")
        return BasisEntry(
            name=str(content.get("basis_name", file.stem)),
            fid=fid,
            dwelltime=float(content["basis_dwell"]),
            spec_freq_mhz=in_mhz(float(content["basis_centre"])),
            nucleus=nucleus,
            width_hz=width if isinstance(width, (int, float)) else None,
            source=str(file),
            echo_time_s=_echo_time(whole.get("meta")),
        )
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError, OSError) as exc:
        reason = f"it has no {exc}" if isinstance(exc, KeyError) else repr(exc)
        problem = BasisError(
            f"{file}: not an FSL-MRS basis file ({reason})",
            remedy="take it out of the folder, make it again, or give the folder of a basis set",
        )
        return BasisEntry(file.stem, np.zeros(0, complex), 0, 0, "", None, str(file), problem)


def _echo_time(meta) -> float | None:
    """Return the echo time in seconds of what a file says about its simulation; None where there is none."""
    seconds = meta.get("EchoTime") if isinstance(meta, dict) else None
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 <= seconds < 10:
        return None
    return float(seconds)


def named_or_refused(option: str, given: Iterable[str] | None, names: Sequence[str], source: str) -> list[str]:
    """Return the names that metabolites given with an option have among ``names``.

    Raises
    ------
    BasisError
        If one is not there.
    """
    members = []
    for name in given or ():
        member = name_among(name, names)
        if member is None:
            raise BasisError(
                f"{source}: no metabolite {name} (given with `{option}`)",
                remedy=nearest(name, names) + f"it has {', '.join(names)}",
            )
        members.append(member)
    return members


def chosen_entries(
    entries: Sequence[BasisEntry], keep: Iterable[str] | None, ignore: Iterable[str] | None, source: str
) -> list[BasisEntry]:
    """Return the entries with a name in ``keep`` (None: all) and not in ``ignore``, sorted by name.

    Raises
    ------
    BasisError
        If a name is not there, if none remains, or if one that remains cannot be read.
    """
    names = list(dict.fromkeys(entry.name for entry in entries))
    keep, ignore = named_or_refused("keep", keep, names, source), named_or_refused("ignore", ignore, names, source)
    chosen = [entry for entry in entries if (not keep or entry.name in keep) and entry.name not in ignore]
    if not chosen:
        raise BasisError(f"{source}: no metabolite is left after `keep` and `ignore`", remedy="give fewer of them")
    for entry in chosen:
        if entry.problem:
            raise entry.problem
    return sorted(chosen, key=lambda entry: entry.name)


def check_alike(entries: Sequence[BasisEntry]) -> None:
    """Check that all entries have one time axis, to a tenth of a dwell time at its end, and one frequency.

    Raises
    ------
    BasisError
    """
    first = min(entries, key=lambda entry: entry.source)
    for entry in entries:
        if not entry.dwelltime > 0 or not entry.spec_freq_mhz > 0:
            raise BasisError(
                f"{entry.source}: dwell time {entry.dwelltime:g} s, frequency {entry.spec_freq_mhz:g} MHz",
                remedy="both must be positive: make the file again",
            )
    for entry in entries:
        drift = abs(entry.dwelltime - first.dwelltime) * len(first.fid)
        same = len(entry.fid) == len(first.fid) and drift <= 0.1 * first.dwelltime
        # Frequencies that differ by a thousandth move a line by less than 0.003 ppm.
        if not same or abs(entry.spec_freq_mhz / first.spec_freq_mhz - 1) > 1e-3:
            here, there = ((one.dwelltime, one.spec_freq_mhz, len(one.fid)) for one in (entry, first))
            raise BasisError(
                f"{entry.source}: dwell time, frequency or length {here} differs from {Path(first.source).name}'s"
                f" {there}",
                remedy="all files of a set must agree",
            )
    nuclei = {entry.nucleus: entry.source for entry in entries if entry.nucleus}
    if len(nuclei) > 1:
        (one, file), (other, _) = list(nuclei.items())[:2]
        raise BasisError(f"{file}: is for {one}, another file for {other}", remedy="all files of a set must agree")
