"""Data in any format: NIfTI-MRS as it is, LCModel's ``.RAW`` by our own reader, and others through ``spec2nii``.

The format is recognised by content where it has a mark, otherwise by the ending.  ``spec2nii`` runs as a command in a
temporary folder; its release and its words are kept in a :class:`Conversion` and in ``MrsData.notes``.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from ..core.errors import DataError
from . import nifti
from .lcmodel_raw import AxisOptions, is_lcmodel_raw, read_lcmodel_raw
from .nifti import MrsData

__all__ = [
    "AxisOptions",
    "Conversion",
    "check_format",
    "is_reading_note",
    "load_any",
    "load_references",
    "load_water",
    "load_with_record",
    "spec2nii_version",
    "stem_of",
]

PROGRAM = "spec2nii"
_HEAD_BYTES = 4096
_LONGEST_S = 1800
_DICOM_BYTES = 200_000
_MISSING = "install it into this environment: pip install spec2nii, or this package's extra 'convert'"
_ENDINGS = r"(\.nii(\.gz)?|\.(sdat|spar|dat|rda|ima|dcm|7|mrui|txt|raw|h2o|data|list|fid))$"
# Names of spec2nii 0.8.  Noise and corrections of Philips' data with list, and empty scans of CMRR's semi-LASER:
_NO_SPECTRA = r"_(NOI|PHC|FRC|REJ|NAV)(_\d+)?\.nii\.gz$|_empty_data(_\d+)?\.nii\.gz$"
# Water that was acquired as the spectra, without outer-volume suppression, and of one kind only (the second mix of
# Philips' data with list); names of GE's and CMRR's sequences.
_REFERENCES = {
    "eddy currents": r"_(ref_ecc|ecc|rf_off)(_\d+)?\.nii\.gz$",
    "size": r"_(ref_no_ovs|quant|rf_grads_ovs_off)(_\d+)?\.nii\.gz$",
    "any": r"_(ref|wref|water|h2o)\w*\.nii\.gz$|_(vapor_ovs_rfoff|ws_ovs_off)(_\d+)?\.nii\.gz$|_STD_1\.nii\.gz$",
}
_FORMATS = (
    "NIfTI-MRS, LCModel RAW and H2O, jMRUI text and mrui, Philips SDAT with SPAR or data with list, Siemens dat, rda"
    " and DICOM, GE P files, UIH DICOM, Bruker and Varian"
)


@dataclass(frozen=True)
class Conversion:
    """Data in memory, and what was done to read them.

    Attributes
    ----------
    data : MrsData
    water : MrsData, optional
        Unsuppressed water that the same file holds, as GE's P files do.
    quant : MrsData, optional
        Other water of the file, for absolute concentrations: acquired without outer-volume suppression, which takes
        some of the water, where ``water`` has the gradients and offsets of the spectra.
    program, version, command : str
        Program that converted the file, its release, and its words; empty where the file was read directly.
    """

    data: MrsData
    water: MrsData | None = None
    quant: MrsData | None = None
    program: str = ""
    version: str = ""
    command: str = ""


def load_any(path: str | Path, options: AxisOptions | None = None) -> MrsData:
    """Read data of any format; the first of ``notes`` names the conversion where there was one.

    Parameters
    ----------
    path : path
        A file, or a folder of DICOM, Bruker or Varian files.
    options : AxisOptions, optional
        For formats without bandwidth, frequency or nucleus.

    Raises
    ------
    DataError
        If the format is unknown or ambiguous, ``spec2nii`` is needed and missing, the conversion fails, or the file has
        another bandwidth, frequency or nucleus than the options.
    """
    return load_with_record(path, options).data


def load_water(path: str | Path, options: AxisOptions | None = None) -> MrsData:
    """Read unsuppressed water of any format: that beside the spectra where a file holds both, as GE's P files do.

    Raises
    ------
    DataError
        As :func:`load_any`.
    """
    return load_references(path, options)[0]


def load_references(path: str | Path, options: AxisOptions | None = None) -> tuple[MrsData, MrsData]:
    """Read unsuppressed water for line shape and eddy currents, and that for absolute concentrations.

    They are the same, unless a scanner's file holds one for each.

    Raises
    ------
    DataError
        As :func:`load_any`.
    """
    conversion = load_with_record(path, options)
    water = conversion.data if conversion.water is None else conversion.water
    return water, water if conversion.quant is None else conversion.quant


def load_with_record(path: str | Path, options: AxisOptions | None = None) -> Conversion:
    """Read data of any format, and return them with a record of the conversion.

    Raises
    ------
    DataError
        As :func:`load_any`.
    """
    path, options = Path(path), options or AxisOptions()
    head = _head(path)
    if _is_nifti(path, head):
        return _agreeing(Conversion(nifti.load(path)), options)
    assert head is not None
    _refuse_basis_or_nothing(path, head)
    if is_lcmodel_raw(head):
        return Conversion(read_lcmodel_raw(path, options))
    with tempfile.TemporaryDirectory(prefix="fsl_mrs_dl_") as folder:
        words = _words(path, head, options, Path(folder))
        return _agreeing(_run_spec2nii(path, words, Path(folder)), options)


def _agreeing(conversion: Conversion, options: AxisOptions) -> Conversion:
    """Return data whose file has axes; raise DataError where the options are others."""
    data = conversion.data
    for name, given, own in options.contradicted(data.bandwidth, data.spec_freq_mhz, data.nucleus):
        raise DataError(
            f"{data.name}: has the {name} {own}, and `{name}` is {given}",
            remedy=(
                f"leave `{name}` out, which is for formats that hold none; where the file is wrong, convert the"
                " scanner's file again"
            ),
        )
    return conversion


def check_format(path: str | Path, options: AxisOptions | None = None) -> None:
    """Check that a file is of a known format, and that spec2nii is there where it is needed; only its beginning is
    read.

    Raises
    ------
    DataError
        As :func:`load_any`.
    """
    path, head = Path(path), _head(Path(path))
    if head is not None:
        _refuse_basis_or_nothing(path, head)
    if _is_nifti(path, head) or (head is not None and is_lcmodel_raw(head)):
        return
    assert head is not None
    with tempfile.TemporaryDirectory(prefix="fsl_mrs_dl_") as folder:
        words = _words(path, head, options or AxisOptions(), Path(folder))
    if _program() is None:
        raise _missing(path, words)


def _refuse_basis_or_nothing(path: Path, head: bytes) -> None:
    """Raise DataError for a basis set in place of spectra, and for an empty file."""
    if not head and path.is_file():
        raise DataError(f"{path}: the file is empty", remedy="copy or convert it again")
    if _is_basis(path, head):
        raise DataError(
            f"{path}: is a basis set, and spectra are needed",
            remedy="give spectra as `data` and the basis set as `basis`: are the two swapped?",
        )


def _is_basis(path: Path, head: bytes) -> bool:
    """Tell from its first bytes whether a file is of a basis set, LCModel's or FSL-MRS's, or a folder holds these."""
    if path.is_dir():
        files = sorted([*path.glob("*.json"), *path.glob("*/*.json")])[:3]
        return any(_is_basis(one, _head(one) or b"") for one in files)
    if re.search(rb"[$&]BASIS1?\b", head, re.IGNORECASE):
        return True
    return head.lstrip()[:1] == b"{" and re.search(rb'"basis(_re|_im|_dwell|_centre)?"', head) is not None


def stem_of(path: str | Path) -> str:
    """Return the name of a file of any format without its ending.

    >>> stem_of("a/act.SDAT"), stem_of("svs.nii.gz"), stem_of("sub-01.2")
    ('act', 'svs', 'sub-01.2')
    """
    return re.sub(_ENDINGS, "", Path(path).name, flags=re.IGNORECASE)


def spec2nii_version() -> str | None:
    """Return the release of spec2nii that would be called; None where there is none."""
    program = _program()
    if program is None:
        return None
    if Path(program).parent == Path(sys.executable).parent:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return importlib.metadata.version(PROGRAM)
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=False, timeout=_LONGEST_S)
    return done.stdout.strip().split(" ")[-1] or "unknown"


def _program() -> str | None:
    """Return the path of spec2nii beside this interpreter, or on the path."""
    places = [str(Path(sys.executable).parent), os.environ.get("PATH", "")]
    return shutil.which(PROGRAM, path=os.pathsep.join(places))


def _is_nifti(path: Path, head: bytes | None) -> bool:
    """Tell whether a file is read as NIfTI-MRS, by its first bytes or its ending; one that is not there is, too."""
    if head is None or head[:2] == b"\x1f\x8b" or head[344:348] in (b"n+1\0", b"ni1\0") or head[4:8] == b"n+2\0":
        return True
    return not is_lcmodel_raw(head) and re.search(r"\.nii(\.gz)?$", path.name, re.IGNORECASE) is not None


def _missing(path: Path, words: list[str]) -> DataError:
    return DataError(f"{path}: the format needs spec2nii ({PROGRAM} {words[0]}), which is not here", remedy=_MISSING)


def _head(path: Path) -> bytes | None:
    """Return the first bytes of a file, none of a folder; None where there is no file of exactly this name."""
    if path.is_dir():
        return b""
    try:
        with open(path, "rb") as file:
            return file.read(_HEAD_BYTES)
    except OSError:
        return None


def _words(path: Path, head: bytes, options: AxisOptions, folder: Path) -> list[str]:
    """Return the words of spec2nii for a file, its subcommand first.

    Raises
    ------
    DataError
        If the format is unknown or ambiguous.
    """
    path = path.resolve()
    ending = path.suffix.lower()
    if ending in (".sdat", ".spar"):
        return ["philips", str(_partner(path, ".sdat")), str(_partner(path, ".spar"))]
    if ending in (".data", ".list"):
        return ["philips_dl", *(str(_partner(path, other)) for other in (".data", ".list", ".spar"))]
    if path.is_dir():
        return _words_of_folder(path)
    if head[128:132] == b"DICM" or ending in (".ima", ".dcm"):
        return [_dicom_command(path), str(path)]
    if ending == ".rda" or b">>> Begin of header <<<" in head[:200]:
        return ["rda", str(path)]
    if ending == ".dat" and b"\0" in head[:64]:
        return ["twix", "-e", "image", "-q", str(path)]
    if ending == ".7":
        return ["ge", str(path)]
    if ending == ".mrui" or head[:40].lower().lstrip().startswith(b"jmrui data"):
        return ["jmrui", str(_with_ending(path, ".mrui" if ending == ".mrui" else ".txt", folder))]
    if path.name in ("fid", "2dseq", "rawdata.job0") and _beside(path, "acqp", "method", "visu_pars"):
        return ["bruker", "-m", path.name.split(".")[0].upper(), str(path)]
    if path.name == "fid" and _beside(path, "procpar"):
        return ["varian", str(path.parent)]
    if _is_pairs_of_numbers(head):
        return _words_of_text(path, options)
    raise DataError(
        f"{path}: is of no format that is known by its ending or content",
        remedy=f"read are {_FORMATS}; convert others to NIfTI-MRS first",
    )


def _words_of_folder(path: Path) -> list[str]:
    """Return the words of spec2nii for a folder of DICOM, Bruker or Varian files."""
    names = {entry.name.lower(): entry for entry in path.iterdir() if entry.is_file()}
    if {"fid", "procpar"} <= names.keys():
        return ["varian", str(path)]
    if "fid" in names and names.keys() & {"acqp", "method"}:
        return ["bruker", "-m", "FID", str(names["fid"])]
    series = sorted(name for name in names if name.endswith((".ima", ".dcm")))
    if series:
        return [_dicom_command(names[series[0]]), str(path)]
    raise DataError(
        f"{path}: is a folder without files of one DICOM series, Bruker's or Varian's fid",
        remedy="give a single file, or convert the scanner's files with spec2nii",
    )


def _dicom_command(path: Path) -> str:
    """Return spec2nii's subcommand for a DICOM file, by the name of the manufacturer in it."""
    with open(path, "rb") as file:
        content = file.read(_DICOM_BYTES).upper()
    commands = {b"SIEMENS": "dicom", b"PHILIPS": "philips_dcm", b"UIH": "uih"}
    makers = [maker for maker in commands if maker in content]
    if not makers:
        raise DataError(
            f"{path}: a DICOM file without the name of Siemens, Philips or UIH, whose spectra spec2nii converts",
            remedy="convert it to NIfTI-MRS with the vendor's tools, or give GE's P file",
        )
    # The manufacturer stands before names of others, which stand in lists of software.
    return commands[min(makers, key=content.index)]


def _partner(path: Path, ending: str) -> Path:
    """Return the file of the same name with another ending, in letters of either case.

    Raises
    ------
    DataError
    """
    partners = [entry for entry in path.parent.iterdir() if entry.stem == path.stem and entry.suffix.lower() == ending]
    if not partners:
        # Philips writes both endings in capitals.
        ending = ending.upper() if path.suffix.isupper() else ending
        raise DataError(
            f"{path}: there is no {path.stem}{ending} beside it", remedy="copy it there; both files are needed"
        )
    return path if path in partners else partners[0]


def _beside(path: Path, *names: str) -> bool:
    return any((path.parent / name).is_file() for name in names)


def _with_ending(path: Path, ending: str, folder: Path) -> Path:
    """Return a file, or a link to it with the ending that spec2nii recognises the format by."""
    if path.suffix == ending:
        return path
    link = folder / f"{path.stem}{ending}"
    link.symlink_to(path)
    return link


def _is_pairs_of_numbers(head: bytes) -> bool:
    """Tell whether a file begins with lines of two numbers."""
    rows = [row.split() for row in head.decode("latin-1").splitlines()[:6] if row.strip() and not row.startswith("#")]
    try:
        return bool(rows) and all(len(row) == 2 and all(abs(float(word)) >= 0 for word in row) for row in rows)
    except ValueError:
        return False


def _words_of_text(path: Path, options: AxisOptions) -> list[str]:
    """Return the words of spec2nii for two columns of numbers."""
    if not options.bandwidth_hz or not options.frequency_mhz:
        raise DataError(
            f"{path}: two columns of numbers have no bandwidth and no frequency",
            remedy="give `bandwidth` and `frequency`",
        )
    axes = ["-b", repr(options.bandwidth_hz), "-i", repr(options.frequency_mhz), "-n", options.nucleus or "1H"]
    return ["text", *axes, str(path)]


def _run_spec2nii(path: Path, words: list[str], folder: Path) -> Conversion:
    """Convert a file in a temporary folder, and read the result.

    Raises
    ------
    DataError
        If spec2nii is missing or fails.
    """
    program, version = _program(), spec2nii_version()
    if program is None or version is None:
        raise _missing(path, words)
    out = folder / "out"
    # Its parsers take options before files, and its own messages are no business of a terminal.
    command = [program, words[0], "-f", "converted", "-o", str(out), *words[1:]]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", check=False, cwd=folder, timeout=_LONGEST_S
        )
    except subprocess.TimeoutExpired as exc:
        raise DataError(f"{path}: spec2nii took longer than {_LONGEST_S} s", remedy="convert it by hand") from exc
    files = sorted(out.glob("*.nii.gz")) if out.is_dir() else []
    shown = " ".join([PROGRAM, *(Path(word).name if os.sep in word else word for word in words)])
    if done.returncode or not files:
        last = next(
            (line for line in reversed(done.stderr.strip().splitlines()) if line.strip()), "no file was written"
        )
        raise DataError(f"{path}: {shown} failed ({last.strip()[:160]})", remedy="convert it by hand to NIfTI-MRS")
    used, other = _uses(path, files)
    note = f"converted by spec2nii {version} ({shown})"
    if "quant" in used:
        names = [_suffix(used[use]) for use in ("water", "quant")]
        note += f", which holds unsuppressed water, too: {names[0]} for line shape and eddy currents, {names[1]} for"
        note += " absolute concentrations"
    elif "water" in used:
        note += f", which holds unsuppressed water, too ({_suffix(used['water'])})"
    if other:
        note += f"; left out: {', '.join(other)}"
    read = {use: _renamed(nifti.load(file), path, note) for use, file in used.items()}
    return Conversion(**read, program=PROGRAM, version=version, command=" ".join(command[1:]))


def _uses(path: Path, files: list[Path]) -> tuple[dict[str, Path], list[str]]:
    """Return the converted files by their use (``data``, ``water``, ``quant``), and the names of others.

    Raises
    ------
    DataError
        If several may be the spectra.
    """
    no_spectra = [file for file in files if re.search(_NO_SPECTRA, file.name)]
    files = [file for file in files if file not in no_spectra] or files
    references = {
        use: [file for file in files if re.search(pattern, file.name, re.IGNORECASE)]
        for use, pattern in _REFERENCES.items()
    }
    shape, size, any_use = references.values()
    any_use = [file for file in any_use if file not in shape and file not in size]
    water = [*shape, *any_use, *size]
    spectra = [file for file in files if file not in water] or water
    if len(spectra) > 1:
        raise DataError(
            f"{path}: holds several data sets ({', '.join(_suffix(file) for file in spectra)})",
            remedy="convert it with spec2nii, and give the one to use",
        )
    used = {"data": spectra[0]}
    if water and spectra != water:
        used["water"] = water[0]
        if size and size[0] != water[0]:
            used["quant"] = size[0]
    left_out = [file for file in (*files, *no_spectra) if file not in used.values()]
    return used, [_suffix(file) for file in dict.fromkeys(left_out)]


def _suffix(file: Path) -> str:
    """Return what spec2nii calls a converted file."""
    return file.name.removesuffix(".nii.gz").removeprefix("converted_")


def is_reading_note(text: str) -> bool:
    """Tell whether a note on a file states how its format was read, and no more."""
    return re.search(rf": (converted by {PROGRAM}|read as LCModel's RAW) ?", text) is not None


def _renamed(data: MrsData, path: Path, note: str) -> MrsData:
    """Return data under the name of the scanner's file, with a note of the conversion before the others."""
    return replace(data, path=path, notes=(note, *data.notes))
