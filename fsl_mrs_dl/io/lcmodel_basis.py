"""LCModel's ``.BASIS`` format: Fortran namelists of settings, and after each ``$BASIS`` the spectrum of one metabolite.

Programs write these namelists in many dialects.  Read are: ``$NAME`` and ``&NAME``; an end by ``$END``, ``&END``,
``$``, ``&`` or ``/``, on a line of its own or behind the last value; any number of assignments on a line; values over
several lines; strings in either quotes, or in none; comments behind ``!``; exponents with E or D, or with neither where
they have three digits; and numbers without a space between them, whose columns are those of ``FMTBAS``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..core.errors import BasisError

__all__ = [
    "read_lcmodel_basis",
    "namelists",
    "fortran_numbers",
    "format_columns",
    "table_numbers",
    "echo_time_of",
]

_HEADER_BYTES = 20_000  # the settings of the sequence stand in the first lines

_GROUP = re.compile(r"[$&]([A-Za-z]\w*)")
# A string ends at a quote before a separator, so that an apostrophe may stand in it.  A string over two lines has no
# character of an assignment: otherwise a forgotten quote would swallow the next one.
_STRING = r"""{q}(?:[^{q}\n]|{q}{q}|{q}(?![\s,/$&!{q}]|$))*{q}(?=[\s,/$&!]|$)|{q}[^{q}=$&]{{0,400}}{q}(?=[\s,/$&!]|$)"""
_TOKEN = re.compile(
    r"(?P<blank>[\s,]+|![^\n]*)"
    r"|(?P<end>[$&]END\b|[$&](?=\s|$)|/(?=\s|$))"
    r"|(?P<group>[$&][A-Za-z])"
    r"|(?P<name>[A-Za-z]\w*)\s*(?:\([^()=\n]*\)\s*)?="
    rf"|(?P<string>{_STRING.format(q=chr(39))}|{_STRING.format(q=chr(34))})"
    r"|(?P<bare>\([^()\n]*(?:\([^()\n]*\)[^()\n]*)*\)|\S[^\s,]*?(?=[\s,]|$|[$&](?:END\b|\s|$)|/(?:\s|$)))",
    re.IGNORECASE,
)


def read_lcmodel_basis(path: Path) -> tuple[np.ndarray, tuple[str, ...], float, float]:
    """Read an LCModel basis set.

    Returns
    -------
    fids : complex ndarray ``(n_metabs, n_points)``
        In the in-memory sign convention.
    names : tuple of str
    dwelltime : float
        Seconds.
    spec_freq_mhz : float

    Raises
    ------
    BasisError
        If the file cannot be read, is encrypted, lacks a setting or holds spectra of different lengths.
    """
    try:
        raw = path.read_bytes()
    except OSError as exc:
        raise BasisError(f"{path}: cannot be read ({exc.strerror})", remedy="check its permissions") from exc
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    settings: dict[str, str] = {}
    names: list[str] = []
    shifts: list[str] = []
    tables: list[str] = []
    for group, values, table in namelists(text):
        settings.update(values)
        name = (values.get("METABO") or values.get("ID") or "").strip()
        if group == "BASIS" and name:
            names.append(name)
            shifts.append(values.get("ISHIFT") or "0")
            tables.append(table)
    dwelltime, frequency = _setting(path, settings, "BADELT"), _setting(path, settings, "HZPPPM")
    if frequency <= 0:
        raise BasisError(f"{path}: HZPPPM is {frequency:g}", remedy="write the spectrometer frequency in MHz there")
    if dwelltime <= 0:
        raise BasisError(
            f"{path}: this LCModel basis set is encrypted (BADELT {dwelltime:g})", remedy="simulate one of your own"
        )
    if not names:
        raise BasisError(
            f"{path}: not a readable LCModel basis set (no METABO)",
            remedy="it needs HZPPPM, BADELT and METABO entries",
        )
    n_points = max(0, int(_setting(path, settings, "NDATAB"))) if settings.get("NDATAB") else 0
    columns = format_columns(settings.get("FMTBAS", ""))
    spectra = [_spectrum(path, name, table, n_points, columns) for name, table in zip(names, tables)]
    _check_lengths(path, names, spectra, n_points)
    numbers = np.stack(spectra)
    spec = numbers[:, 0::2] + 1j * numbers[:, 1::2]
    turns = [int(_number(path, "ISHIFT", shift)) % spec.shape[1] for shift in shifts]
    spec = np.stack([np.roll(row, -turn) for row, turn in zip(spec, turns)])
    # LCModel's time axis runs the other way in phase.
    return np.fft.ifft(spec, axis=-1).conj(), tuple(names), dwelltime, frequency


def echo_time_of(path: Path) -> float | None:
    """Return the echo time of an LCModel basis set in seconds; None where the file has none.

    Raises
    ------
    BasisError
        If it is no number.
    """
    with open(path, "rb") as file:
        text = file.read(_HEADER_BYTES).decode("latin-1")
    for _, values, _ in namelists(text):
        echo = values.get("ECHOT")
        if echo:
            seconds = _number(path, "ECHOT", echo) / 1e3
            return seconds if seconds >= 0 else None
    return None


def namelists(text: str) -> Iterator[tuple[str, dict[str, str], str]]:
    """Yield each namelist of a text as (group in capitals, settings, text up to the next namelist).

    A setting of several values is their text with a space between; the rest of the line that a namelist ends on is
    skipped, as Fortran does, unless the next namelist begins there.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    start = _GROUP.search(text)
    while start:
        settings, place = _assignments(text, start.end())
        following = _GROUP.search(text, place)
        # An end that stands twice, as / and $END, opens no namelist.
        while following and following[1].upper() == "END":
            place = following.end()
            following = _GROUP.search(text, place)
        between = text[place : following.start() if following else None]
        yield start[1].upper(), settings, between.partition("\n")[2]
        start = following


def _assignments(text: str, place: int) -> tuple[dict[str, str], int]:
    """Return the settings of the namelist whose values begin at ``place``, and the place behind its end."""
    lists: dict[str, list[str]] = {}
    current: list[str] = []
    while match := _TOKEN.match(text, place):
        if match["group"]:
            # The next namelist begins before this one has ended.
            break
        place = match.end()
        if match["end"]:
            break
        if match["name"]:
            current = lists[match["name"].upper()] = []
        elif match["string"]:
            quote = match["string"][0]
            current.append(match["string"][1:-1].replace(quote * 2, quote).replace("\n", ""))
        elif match["bare"]:
            current.append(match["bare"].strip("'\""))
    return {name: " ".join(values) for name, values in lists.items()}, place


def _setting(path: Path, settings: dict[str, str], name: str) -> float:
    """Return the number that a setting has."""
    if not settings.get(name):
        raise BasisError(
            f"{path}: not a readable LCModel basis set (no {name})",
            remedy="it needs HZPPPM, BADELT and METABO entries",
        )
    return _number(path, name, settings[name])


def _number(path: Path, name: str, text: str) -> float:
    try:
        value = fortran_numbers(text.split()[:1])[0]
        if not np.isfinite(value):
            raise ValueError
        return float(value)
    except (ValueError, IndexError) as exc:
        raise BasisError(
            f"{path}: not a readable LCModel basis set ({name} is {text!r})", remedy="a number is needed there"
        ) from exc


_WITHOUT_LETTER = re.compile(r"^([+-]?[\d.]+)([+-]\d{3})$")


def fortran_numbers(words: list[str]) -> np.ndarray:
    """Return the numbers of words as Fortran reads them, with exponents of E or D, or of three digits and no letter.

    Raises
    ------
    ValueError
        If a word is no number.
    """
    try:
        return np.array(words, float)
    except ValueError:
        words = [_WITHOUT_LETTER.sub(r"\1E\2", word.replace("D", "E").replace("d", "e")) for word in words]
        return np.array(words, float)


_DESCRIPTOR = re.compile(
    r"\s*,?\s*(?:(?P<scale>[+-]?\d+)P|(?P<skip>\d*)X|(?P<count>\d*)(?:(?P<open>\()|(?:E[SN]?|[DFG])(?P<width>\d+)"
    r"(?:\.\d+)?(?:E\d+)?)|(?P<close>\)))",
    re.IGNORECASE,
)


def format_columns(form: str) -> list[slice]:
    """Return the columns of the numbers in a line of a Fortran format such as ``(6E13.5)``; none if it is another."""
    stack: list[tuple[int, list[int]]] = [(1, [])]
    place = 0
    form = form.strip()
    while place < len(form):
        match = _DESCRIPTOR.match(form, place)
        if match is None:
            return []
        place = match.end()
        if match["open"]:
            stack.append((int(match["count"] or 1), []))
        elif match["close"]:
            if len(stack) == 1:
                return []
            count, widths = stack.pop()
            stack[-1][1].extend(widths * min(count, 1000))
        elif match["skip"] is not None:
            stack[-1][1].append(-int(match["skip"] or 1))
        elif match["width"]:
            stack[-1][1].extend([int(match["width"])] * min(int(match["count"] or 1), 1000))
    columns, start = [], 0
    for width in stack[0][1] if len(stack) == 1 else []:
        if width > 0:
            columns.append(slice(start, start + width))
        start += abs(width)
    return columns


_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[EeDd][+-]?\d+|[+-]\d{3}(?!\d*\.))?")


def _spectrum(path: Path, name: str, table: str, n_points: int, columns: list[slice]) -> np.ndarray:
    """Return the numbers of the spectrum of a metabolite."""
    try:
        return table_numbers(table, 2 * n_points, columns)
    except ValueError as exc:
        raise BasisError(
            f"{path}: the spectrum of {name} holds something other than numbers, or too few of them",
            remedy="its rows must follow FMTBAS: write or copy the file again",
        ) from exc


def table_numbers(table: str, n_numbers: int, columns: list[slice]) -> np.ndarray:
    """Return the numbers of a table, split at spaces, else at the columns of its format, else at signs.

    Lines behind the last of ``n_numbers`` that hold no numbers are skipped, as LCModel does.

    Parameters
    ----------
    table : str
    n_numbers : int
        Numbers that the table is said to hold; 0 where that is unknown.
    columns : list of slice
        From :func:`format_columns`.

    Raises
    ------
    ValueError
        If the table holds something other than numbers, or another number of them.
    """
    words = table.replace(",", " ").split()
    try:
        return fortran_numbers(words)
    except ValueError:
        pass
    rows = [line.rstrip() for line in table.splitlines() if line.strip()]

    def by_columns(row):
        return [row[part] for part in columns if part.start < len(row)]

    def by_sign(row):
        if _NUMBER.sub("", row).strip(" \t,"):
            raise ValueError(row)
        return _NUMBER.findall(row)

    for split in (lambda row: row.replace(",", " ").split(), by_columns, by_sign):
        numbers: list[float] = []
        try:
            for row in rows:
                if n_numbers and len(numbers) >= n_numbers:
                    break
                numbers.extend(fortran_numbers([word.strip() or "0" for word in split(row)]))
        except ValueError:
            continue
        if not n_numbers or len(numbers) == n_numbers:
            return np.array(numbers)
    raise ValueError("something other than numbers, or too few of them")


def _check_lengths(path: Path, names: list[str], spectra: list[np.ndarray], n_points: int) -> None:
    """Check that all spectra have one length, an even number of values; NDATAB alone may be wrong."""
    sizes = [len(spectrum) for spectrum in spectra]
    usual = max(set(sizes), key=sizes.count) if len(sizes) > 2 or not n_points else 2 * n_points
    other = next((index for index, size in enumerate(sizes) if size != usual), None)
    if other is None and usual and usual % 2 == 0:
        return
    # Two spectra that agree are a set, whatever NDATAB says.
    if len(sizes) == 2 and sizes[0] == sizes[1] and sizes[0] and sizes[0] % 2 == 0:
        return
    index = other or 0
    if index == len(names) - 1 and sizes[index] < usual:
        problem, remedy = "is incomplete", "copy the file again"
    else:
        problem, remedy = "differs in length", "all spectra of a set must have NDATAB points: write the file again"
    raise BasisError(
        f"{path}: the spectrum of {names[index]} {problem} ({sizes[index]} numbers, {usual} are needed)", remedy=remedy
    )
