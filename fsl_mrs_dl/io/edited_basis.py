"""Basis sets of edited acquisitions: one basis set for each edit condition, in sub-folders of one folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..core.axes import Axes
from ..core.editing import EDITING_SCHEMES, EditingPulse
from ..core.errors import BasisError, OptionError
from .basis import Basis, detect_conjugation
from .basis_files import EDIT_FILE, condition_folders
from .files import json_content

__all__ = ["EditedBasis", "is_edited_basis", "removed_kept"]

_NOTHING = 1e-6  # size of a difference over that of its two spectra
# A set refuses spectra that are nothing; a signal that a condition removes keeps this part of what another one leaves.
_REMOVED = 1e-7
_AGAIN = "simulate the sets again, with the same metabolites and sampling"


@dataclass(frozen=True)
class EditedBasis:
    """Basis set of an edited acquisition.

    Attributes
    ----------
    scheme : str
        'mega-press', 'mega-slaser', 'hermes', 'hercules' or 'unknown'.
    conditions : tuple of str
        Edit conditions: 'on' and 'off', or 'A' to 'D'.
    sets : tuple of Basis
        One for each condition, with the same metabolites in the same order, time axis, frequency and echo time.
    pulses : tuple of tuple of EditingPulse
        Editing pulses of each condition; empty where they are unknown, or there are none.
    source : str
        Folder that it was read from, for messages.

    Raises
    ------
    BasisError
        If the sets do not belong together.
    """

    scheme: str
    conditions: tuple[str, ...]
    sets: tuple[Basis, ...]
    pulses: tuple[tuple[EditingPulse, ...], ...] = ()
    source: str = "the edited basis set"

    def __post_init__(self):
        if not self.pulses:
            object.__setattr__(self, "pulses", ((),) * len(self.conditions))
        if len(self.conditions) < 2 or not len(self.conditions) == len(self.sets) == len(self.pulses):
            raise BasisError(
                f"{self.source}: {len(self.conditions)} conditions, {len(self.sets)} sets and pulses of"
                f" {len(self.pulses)}",
                remedy="give two conditions or more, and a set for each",
            )
        if len(set(self.conditions)) < len(self.conditions):
            raise BasisError(
                f"{self.source}: conditions {', '.join(self.conditions)}", remedy="each must have a name of its own"
            )
        first = self.sets[0]
        for condition, one in zip(self.conditions[1:], self.sets[1:]):
            head = f"{self.source}: {condition} and {self.conditions[0]} differ"
            if one.names != first.names:
                only = sorted(set(one.names) ^ set(first.names)) or ["the order of metabolites"]
                raise BasisError(f"{head} in {', '.join(only)}", remedy=f"{_AGAIN}, or leave them out with `ignore`")
            same_grid = one.n_points == first.n_points and abs(one.dwelltime / first.dwelltime - 1) < 1e-6
            if not same_grid or one.nucleus != first.nucleus:
                here, there = ((s.n_points, s.dwelltime, s.nucleus) for s in (one, first))
                raise BasisError(f"{head}: points, dwell time and nucleus {here} and {there}", remedy=_AGAIN)
            if abs(one.spec_freq_mhz / first.spec_freq_mhz - 1) > 1e-3:
                values = f"{one.spec_freq_mhz:g} and {first.spec_freq_mhz:g} MHz"
                raise BasisError(f"{head} in frequency: {values}", remedy=_AGAIN)
            here_s, there_s = one.echo_time_s, first.echo_time_s
            if here_s is not None and there_s is not None and abs(here_s - there_s) > 1e-5:
                raise BasisError(f"{head} in echo time: {1e3 * here_s:g} and {1e3 * there_s:g} ms", remedy=_AGAIN)

    @property
    def names(self) -> tuple[str, ...]:
        """Metabolites."""
        return self.sets[0].names

    @property
    def n_metabs(self) -> int:
        """Number of metabolites."""
        return len(self.names)

    @property
    def axes(self) -> Axes:
        """Axes of the basis FIDs."""
        return self.sets[0].axes

    @property
    def spec_freq_mhz(self) -> float:
        """Spectrometer frequency in MHz."""
        return self.sets[0].spec_freq_mhz

    @property
    def echo_time_s(self) -> float | None:
        """Echo time in seconds; None where no set has it."""
        return next((one.echo_time_s for one in self.sets if one.echo_time_s is not None), None)

    def condition(self, name: str) -> Basis:
        """Return the set of a condition, whose name may be in any case.

        Raises
        ------
        BasisError
            If there is no such condition.
        """
        for condition, one in zip(self.conditions, self.sets):
            if condition.lower() == name.lower():
                return one
        raise BasisError(f"{self.source}: no edit condition {name}", remedy=f"it has {', '.join(self.conditions)}")

    @classmethod
    def load(
        cls, path: str | Path, *, keep: Sequence[str] | None = None, ignore: Sequence[str] | None = None
    ) -> EditedBasis:
        """Read a folder with ``edit.json`` and a basis set for each condition, or only with such sets.

        Without ``edit.json`` sub-folders named ``on`` and ``off``, or ``A`` to ``D``, are the conditions, in any case;
        their pulses are unknown then, and ``on`` and ``off`` are taken for MEGA-PRESS.  ``keep`` and ``ignore`` choose
        metabolites as :meth:`Basis.load` does.

        Raises
        ------
        BasisError
            If the folder holds no such set, its files cannot be read, or its sets do not belong together.
        """
        path = Path(path)
        if (path / EDIT_FILE).is_file():
            about = _read_edit_file(path / EDIT_FILE)
        elif found := condition_folders(path):
            scheme = "mega-press" if "on" in found else "unknown"
            about = _EditFile(scheme, None, tuple(found), tuple(found.values()), ((),) * len(found))
        else:
            raise BasisError(
                f"{path}: not a basis set of edited data",
                remedy=f"give a folder with {EDIT_FILE}, or with sub-folders on and off, or A, B, C and D",
            )
        for name, folder in zip(about.conditions, about.folders):
            if not (path / folder).exists():
                raise BasisError(
                    f"{path / EDIT_FILE}: no {folder} beside it, the set of condition {name}",
                    remedy="put it there, or simulate the set again",
                )
        sets = [Basis.load(path / folder, keep=keep, ignore=ignore) for folder in about.folders]
        sets = _alike_oriented(_with_removed(sets))
        if about.te_s is not None:
            sets = [one if one.echo_time_s is not None else replace(one, echo_time_s=about.te_s) for one in sets]
        return cls(about.scheme, about.conditions, tuple(sets), about.pulses, str(path))

    def save(self, folder: str | Path, *, info: str = "") -> Path:
        """Write ``edit.json`` and a folder for each condition, which is a basis set of its own, into ``folder``."""
        folder = Path(folder)
        entries = []
        for condition, one, pulses in zip(self.conditions, self.sets, self.pulses):
            played = "; ".join(map(str, pulses)) or "no editing pulse known"
            one.save(folder / condition, info=f"{info} Condition {condition}: {played}.".strip())
            entries.append({"name": condition, "folder": condition, "pulses": [_pulse_entry(p) for p in pulses]})
        te_ms = None if self.echo_time_s is None else round(1e3 * self.echo_time_s, 6)
        content = {"scheme": self.scheme, "te_ms": te_ms, "conditions": entries}
        (folder / EDIT_FILE).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        return folder

    def select(self, keep: list[str] | None = None, ignore: list[str] | None = None) -> EditedBasis:
        """Return the set with the metabolites in ``keep`` (None: all) and not in ``ignore``, in the same order."""
        return replace(self, sets=tuple(one.select(keep, ignore) for one in self.sets))

    def check_match(self, spec_freq_mhz: float, nucleus_name: str, data_name: str = "the data") -> None:
        """Check that the set is meant for data of that spectrometer frequency and nucleus, see
        :meth:`Basis.check_match`."""
        replace(self.sets[0], source=self.source).check_match(spec_freq_mhz, nucleus_name, data_name)

    def difference(self, a: str, b: str) -> Basis:
        """Return the set of condition ``a`` minus that of ``b``, without halving.

        Metabolites whose two spectra are equal within a millionth of their size are left out; ``notes`` names them.

        Raises
        ------
        BasisError
            If there is no such condition, or nothing differs.
        """
        one, other = self.condition(a), self.condition(b)
        fids = one.fids - other.fids
        sizes = np.maximum(np.abs(one.fids).max(axis=1), np.abs(other.fids).max(axis=1))
        differs = np.abs(fids).max(axis=1) > _NOTHING * sizes
        source = f"{self.source}, {a} minus {b}"
        if not differs.any():
            raise BasisError(f"{source}: the two are equal", remedy="take other conditions")
        equal = [name for name, unlike in zip(self.names, differs) if not unlike]
        notes = (f"left out, as {a} and {b} are equal: {', '.join(equal)}",) if equal else ()
        kept = [name for name, unlike in zip(self.names, differs) if unlike]
        widths = tuple(width for width, unlike in zip(one.widths_hz, differs) if unlike)
        return replace(
            one,
            fids=fids[differs],
            names=tuple(kept),
            widths_hz=widths,
            source=source,
            notes=(*one.notes, *notes),
            echo_time_s=self.echo_time_s,
        )


def is_edited_basis(path: str | Path) -> bool:
    """Tell whether a folder holds basis sets of edit conditions, as :meth:`EditedBasis.load` reads them."""
    path = Path(path)
    return (path / EDIT_FILE).is_file() or bool(condition_folders(path))


# ---------------------------------------------------------------------------------------------------------------------
# edit.json
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _EditFile:
    """Content of ``edit.json``."""

    scheme: str
    te_s: float | None
    conditions: tuple[str, ...]
    folders: tuple[str, ...]
    pulses: tuple[tuple[EditingPulse, ...], ...]


def _read_edit_file(file: Path) -> _EditFile:
    try:
        content = json_content(file.read_bytes())
        scheme, te_ms, conditions = content.get("scheme", "unknown"), content.get("te_ms"), content["conditions"]
        if scheme not in (*EDITING_SCHEMES, "unknown"):
            raise ValueError(f"the scheme {scheme}")
        if te_ms is not None and not 0 < _number("te_ms", te_ms) < 1e4:
            raise ValueError(f"te_ms {te_ms}")
        if not isinstance(conditions, list) or not conditions:
            raise ValueError("no list of conditions")
        names = tuple(_text("name", entry) for entry in conditions)
        folders = tuple(_text("folder", entry) for entry in conditions)
        pulses = tuple(tuple(_read_pulse(pulse) for pulse in entry.get("pulses") or ()) for entry in conditions)
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError, OSError, OptionError) as exc:
        reason = f"it has no {exc}" if isinstance(exc, KeyError) else str(exc)
        raise BasisError(
            f"{file}: not a list of edit conditions ({reason})",
            remedy="simulate the set again, or take the file away so that the names of folders count",
        ) from None
    return _EditFile(scheme, None if te_ms is None else 1e-3 * te_ms, names, folders, pulses)


def _text(key: str, entry: dict) -> str:
    value = entry[key]
    if not isinstance(value, str) or not value:
        raise ValueError(f"a condition's {key} {value}")
    return value


def _number(key: str, value) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{key} {value}")
    return float(value)


def _read_pulse(entry: dict) -> EditingPulse:
    centres = entry["centre_ppm"]
    centres = [_number("centre_ppm", centre) for centre in (centres if isinstance(centres, list) else [centres])]
    if not centres:
        raise ValueError("a pulse without centre_ppm")
    optional = {key: _number(key, entry[key]) for key in ("duration_ms", "bandwidth_hz") if entry.get(key) is not None}
    return EditingPulse(centres[0], entry["shape"], other_centres_ppm=tuple(centres[1:]), **optional)


def _pulse_entry(pulse: EditingPulse) -> dict:
    centres = list(pulse.centres_ppm)
    entry = {"centre_ppm": centres if len(centres) > 1 else centres[0], "shape": pulse.shape}
    entry |= {"duration_ms": pulse.duration_ms} if pulse.duration_ms else {}
    return entry | {"bandwidth_hz": pulse.bandwidth_hz}


# ---------------------------------------------------------------------------------------------------------------------
# Sets of one folder
# ---------------------------------------------------------------------------------------------------------------------


def removed_kept(fids: np.ndarray) -> np.ndarray:
    """Return FIDs of all conditions, ``(n_conditions, n_metabs, n_points)``, none of which is nothing.

    A signal that one condition removes becomes a negligible part of what it is in the condition with most of it.
    """
    sizes = np.abs(fids).max(axis=-1)
    largest = np.take_along_axis(fids, sizes.argmax(axis=0)[None, :, None], axis=0)
    return np.where((sizes <= _REMOVED * sizes.max(axis=0))[..., None], _REMOVED * largest, fids)


def _with_removed(sets: list[Basis]) -> list[Basis]:
    """Return the sets, each with the metabolites that its file has without a signal, which reading left out."""
    names = sorted({name for one in sets for name in one.names})
    alike = all(set(names) == {*one.names, *one.empty} for one in sets)
    if not alike or len({one.n_points for one in sets}) > 1 or not any(one.empty for one in sets):
        return sets
    rows = [dict(zip(one.names, one.fids)) for one in sets]
    nothing = np.zeros(sets[0].n_points, complex)
    fids = removed_kept(np.array([[row.get(name, nothing) for name in names] for row in rows]))
    widths = [dict(zip(one.names, one.widths_hz)) for one in sets]
    return [
        replace(one, fids=whole, names=tuple(names), widths_hz=tuple(width.get(name) for name in names), empty=())
        for one, whole, width in zip(sets, fids, widths)
    ]


def _alike_oriented(sets: list[Basis]) -> list[Basis]:
    """Return the sets with one decision for all on the sign of their frequency axes."""
    if len({one.conjugated for one in sets}) == 1 or len({one.n_points for one in sets}) > 1:
        return sets
    stored = np.concatenate([one.fids.conj() if one.conjugated else one.fids for one in sets])
    conjugate = detect_conjugation(stored, sets[0].axes)
    return [
        one if one.conjugated == conjugate else replace(one, fids=one.fids.conj(), conjugated=conjugate) for one in sets
    ]
