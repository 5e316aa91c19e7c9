"""LCModel's ``.RAW`` and ``.H2O`` files: FIDs as text behind the namelists ``$SEQPAR`` and ``$NMID``.

The namelists are read in the dialects of :mod:`fsl_mrs_dl.io.lcmodel_basis`.  A file of this format has neither a
bandwidth nor, mostly, a frequency: both stand in LCModel's control file, and some programs write them into ``$SEQPAR``.
FIDs are the conjugate of those of this package, as LCModel's own test spectrum is, unless ``BRUKER=T``, which makes
LCModel conjugate them (``MYDATA`` of its source).  The reader of spec2nii 0.8 leaves the frequency axis reversed.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import DataError
from ..core.units import in_mhz
from .lcmodel_basis import format_columns, fortran_numbers, namelists, table_numbers
from .nifti import MrsData

__all__ = ["AxisOptions", "control_files", "is_lcmodel_raw", "read_lcmodel_raw"]

_CONTROL_BYTES = 100_000
_CONTROL_NAMES = re.compile(r"control|cpstart|.*\.(control|ctrl|ctl|plotin)|control\..*", re.IGNORECASE)
_POSSIBLE_HZ, _POSSIBLE_MHZ = (10.0, 1e6), (1.0, 2000.0)
_NEEDED = "give `bandwidth` and `frequency`, or put LCModel's control file beside it"
_DWELLTIME, _FREQUENCY = ("DELTAT", "BADELT", "DWELLTIME"), ("HZPPPM",)
_SAME = 0.01  # relative, of numbers that are the same as people write them


@dataclass(frozen=True)
class AxisOptions:
    """What a file's format may not hold, given by the user.

    Attributes
    ----------
    bandwidth_hz, frequency_mhz : float, optional
    nucleus : str, optional
        Such as 1H, which is the default where the file names none.
    """

    bandwidth_hz: float | None = None
    frequency_mhz: float | None = None
    nucleus: str | None = None

    def contradicted(
        self, bandwidth_hz: float | None, frequency_mhz: float | None, nucleus: str | None = None
    ) -> list[tuple[str, str, str]]:
        """Return what a file has otherwise, by more than rounding: the option's name, the value that was given, and the
        file's, in words; None is what the file does not hold."""
        out = []
        for name, given, own, unit in (
            ("bandwidth", self.bandwidth_hz, bandwidth_hz, "Hz"),
            ("frequency", self.frequency_mhz, frequency_mhz, "MHz"),
        ):
            if given and own and not abs(given / own - 1) <= _SAME:
                out.append((name, f"{given:.6g} {unit}", f"{own:.6g} {unit}"))
        if self.nucleus and nucleus and self.nucleus != nucleus:
            out.append(("nucleus", self.nucleus, nucleus))
        return out


def is_lcmodel_raw(head: bytes) -> bool:
    """Tell from the first bytes of a file whether it is LCModel's ``.RAW`` or ``.H2O``."""
    return re.search(rb"[$&]NMID\b", head, re.IGNORECASE) is not None


def read_lcmodel_raw(path: str | Path, options: AxisOptions | None = None) -> MrsData:
    """Read FIDs in LCModel's ``.RAW`` format.

    Bandwidth, frequency and number of points are taken from the options, the file's own namelists, and the control file
    of LCModel in the same folder or the one above, in that order; a note names what an option took the place of.  FIDs
    are multiplied by ``TRAMP``/``VOLUME``, as LCModel does.

    Returns
    -------
    MrsData
        With fids of shape ``(1, 1, 1, n_points)``; of several voxels ``(NDCOLS, NDROWS, NDSLIC, n_points)`` where the
        control file has these, otherwise ``(1, 1, 1, n_points, n)``.

    Raises
    ------
    DataError
        If the file cannot be read, or bandwidth or frequency are nowhere or impossible.
    """
    path, options = Path(path), options or AxisOptions()
    groups = list(namelists(_text(path)))
    own = {name: value for group, settings, _ in groups if group != "NMID" for name, value in settings.items()}
    identity, table = next(((settings, table) for group, settings, table in groups if group == "NMID"), ({}, ""))
    complete = options.bandwidth_hz and options.frequency_mhz
    control, control_path = _control(path, needed=not complete)
    notes = ["read as LCModel's RAW"]

    def number(*names: str) -> float | None:
        for settings, source in ((own, path), (control, control_path)):
            for name in names:
                if settings.get(name):
                    return _number(source or path, name, settings[name])
        return None

    dwelltime = 1 / options.bandwidth_hz if options.bandwidth_hz else number(*_DWELLTIME)
    frequency = options.frequency_mhz or number(*_FREQUENCY)
    dwelltime, frequency = _axes(path, dwelltime, frequency)
    if control_path is not None and not complete:
        notes = [f"read as LCModel's RAW, with bandwidth and frequency of {control_path.name}"]
    for settings, source in ((own, path), (control, control_path)):
        stated, mhz = (_possible(settings, *names) for names in (_DWELLTIME, _FREQUENCY))
        for name, given, value in options.contradicted(stated and 1 / stated, mhz and in_mhz(mhz)):
            notes.append(f"the {name} that was given, {given}, is used, not {value} of {(source or path).name}")
    fids = _fids(path, identity, table, int(number("NUNFIL") or 0))
    scale = _scale(path, identity)
    if scale != 1:
        notes.append(f"its FIDs were multiplied by TRAMP/VOLUME = {scale:g}, as LCModel does")
    grid = tuple(int(number(name) or 1) for name in ("NDCOLS", "NDROWS", "NDSLIC"))
    if len(fids) > 1 and math.prod(grid) == len(fids):
        # Columns run fastest in such a file.
        fids = np.moveaxis(fids.reshape(*grid[::-1], -1), (0, 1, 2), (2, 1, 0))
        tags: tuple[str, ...] = ()
    else:
        tags = ("DIM_USER_0",) if len(fids) > 1 else ()
        fids = fids.T.reshape(1, 1, 1, fids.shape[1], *([len(fids)] if tags else []))
    header: dict[str, Any] = {
        "SpectrometerFrequency": [frequency],
        "ResonantNucleus": [options.nucleus or "1H"],
        "OriginalFile": [path.name],
        **{f"dim_{index}": tag for index, tag in enumerate(tags, start=5)},
    }
    echo = number("ECHOT")
    if echo is not None and echo >= 0:  # programs write -1 for one that they do not know
        header["EchoTime"] = echo / 1e3
    with np.errstate(over="ignore", invalid="ignore"):  # numbers beyond single precision are unusable
        fids = (scale * fids).astype(np.complex64)
    return MrsData(
        fids,
        dwelltime,
        frequency,
        header["ResonantNucleus"][0],
        tags,
        header,
        path=path,
        notes=tuple(notes),
    )


def _axes(path: Path, dwelltime: float | None, frequency: float | None) -> tuple[float, float]:
    """Return the dwell time (s) and the frequency (MHz) of a file.

    Raises
    ------
    DataError
        If one is missing, or is that of no scanner.
    """
    if not dwelltime or not frequency or dwelltime < 0 or frequency < 0:
        lacking = [what for what, value in (("bandwidth", dwelltime), ("frequency", frequency)) if not (value or 0) > 0]
        raise DataError(f"{path}: LCModel's format has no {' and no '.join(lacking)}", remedy=_NEEDED)
    bandwidth, frequency = 1 / dwelltime, in_mhz(frequency)
    if not (_POSSIBLE_HZ[0] <= bandwidth <= _POSSIBLE_HZ[1] and _POSSIBLE_MHZ[0] <= frequency <= _POSSIBLE_MHZ[1]):
        raise DataError(
            f"{path}: has a bandwidth of {bandwidth:g} Hz and a frequency of {frequency:g} MHz, which no scanner has",
            remedy="give `bandwidth` and `frequency`",
        )
    return dwelltime, frequency


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("latin-1")
    except OSError as exc:
        raise DataError(f"{path}: cannot be read ({exc.strerror})", remedy="check its permissions") from exc


def _number(path: Path, name: str, text: str) -> float:
    try:
        value = float(fortran_numbers(text.split()[:1])[0])
        if np.isfinite(value):
            return value
    except (ValueError, IndexError):
        pass
    raise DataError(f"{path}: {name} is {text!r}", remedy="a number is needed there")


def _possible(settings: dict[str, str], *names: str) -> float | None:
    """Return the first of some settings that are there; None where it is no positive number."""
    text = next((settings[name] for name in names if settings.get(name)), "")
    try:
        value = float(fortran_numbers(text.split()[:1])[0])
    except (ValueError, IndexError):
        return None
    return value if 0 < value < math.inf else None


def _is_true(text: str) -> bool:
    """Tell whether a setting is one of Fortran's spellings of true."""
    return text.strip().lstrip(".").upper().startswith("T")


def _scale(path: Path, identity: dict[str, str]) -> float:
    """Return the factor that LCModel multiplies the FIDs of a file with."""
    tramp, volume = (_number(path, name, identity.get(name) or "1") for name in ("TRAMP", "VOLUME"))
    return tramp / volume if tramp > 0 and volume > 0 else 1.0


def _fids(path: Path, identity: dict[str, str], table: str, n_points: int) -> np.ndarray:
    """Return the FIDs of a file, shape ``(n, n_points)``.

    Raises
    ------
    DataError
    """
    if _is_true(identity.get("SEQACQ", "")):
        raise DataError(
            f"{path}: real and imaginary parts were acquired in turn (SEQACQ=T)", remedy="convert the scanner's file"
        )
    try:
        numbers = table_numbers(table, 0, format_columns(identity.get("FMTDAT", "")))
    except ValueError:
        numbers = np.zeros(1)
    if not len(numbers) or len(numbers) % 2:
        raise DataError(
            f"{path}: its FID holds something other than pairs of numbers", remedy="write or copy the file again"
        )
    n_values = len(numbers) // 2
    several = 1 < n_points < n_values and n_values % n_points == 0
    values = np.empty(n_values, complex)
    values.real, values.imag = numbers[0::2], numbers[1::2]
    fids = values.reshape(-1, n_points if several else n_values)
    return fids if _is_true(identity.get("BRUKER", "")) else fids.conj()


def control_files(path: Path) -> list[Path]:
    """Return the control files of LCModel that bandwidth and frequency of a file may be read from.

    They stand in the same folder or, for files named RAW or h2o as LCModel's interface lays them out, in the one above;
    those that name the file, or have its name, go before all others.
    """
    return [file for _, file in _controls(path)]


def _controls(path: Path) -> list[tuple[dict[str, str], Path]]:
    """Return the settings and paths of :func:`control_files`."""
    folder, generic = path.resolve().parent, path.name.lower() in ("raw", "h2o")
    controls: list[tuple[bool, dict[str, str], Path]] = []
    for place in (folder, folder.parent) if generic else (folder,):
        for file in sorted(place.iterdir()) if not controls else ():
            settings = _control_settings(file) if _CONTROL_NAMES.fullmatch(file.name) else {}
            if settings.get("DELTAT") or settings.get("HZPPPM"):
                named = {Path(settings.get(name, "")).name for name in ("FILRAW", "FILH2O")}
                own = (path.name in named and not generic) or file.stem.lower() == path.stem.lower()
                controls.append((own, settings, file))
    best = [entry for entry in controls if entry[0]] or controls
    return [(settings, file) for _, settings, file in best]


def _control(path: Path, *, needed: bool) -> tuple[dict[str, str], Path | None]:
    """Return the settings of the control file that belongs to a file, and its path.

    Several must agree on bandwidth and frequency.

    Raises
    ------
    DataError
        If several disagree, and bandwidth or frequency are ``needed`` from them.
    """
    best = _controls(path)
    differ = len({tuple(settings.get(name) for name in ("DELTAT", "HZPPPM", "NUNFIL")) for settings, _ in best}) > 1
    if differ and not needed:
        return {}, None
    if differ:
        names = ", ".join(file.name for _, file in best[:4])
        raise DataError(
            f"{path}: several control files beside it differ ({names})",
            remedy="give `bandwidth` and `frequency`, or keep one of them there",
        )
    return best[0] if best else ({}, None)


def _control_settings(file: Path) -> dict[str, str]:
    """Return the settings of a control file, none where it is no text."""
    try:
        with open(file, "rb") as content:
            text = content.read(_CONTROL_BYTES).decode("latin-1")
    except OSError:
        return {}
    # The interface's cpStart has assignments without a namelist around them.
    text = text if re.search(r"[$&][A-Za-z]", text) else f"$LCMODL\n{text}\n$END"
    return {name: value for _, values, _ in namelists(text) for name, value in values.items()}
