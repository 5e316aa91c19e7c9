"""Arguments and output that all commands share."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from pathlib import Path

from ..core.errors import DataError, OptionError, OutputError

__all__ = [
    "add_common_arguments",
    "add_format_arguments",
    "axis_options",
    "say",
    "given_files",
    "check_filename",
    "check_formats",
    "check_not_given",
    "check_output",
    "check_there",
    "check_times",
    "processed_file",
    "progress_bar",
    "read_basis",
    "read_data",
    "read_water",
    "str_or_int",
]


_SHORTEST_TE_MS = 0.3  # a number below it is one of seconds


def add_common_arguments(parser, *, output: str = "an existing output folder", device: bool = True) -> None:
    """Add the options that every command has."""
    group = parser.add_argument_group("additional options")
    if device:
        group.add_argument("--device", default="auto", metavar="DEVICE", help="auto (default), cpu or cuda")
    group.add_argument("--overwrite", action="store_true", help=f"replace {output}")
    group.add_argument("--verbose", action="store_true", help="print each step")
    group.add_argument("--debug", action="store_true", help="show where an error arose")


def add_format_arguments(group) -> None:
    """Add the options for files whose format has no bandwidth, frequency or nucleus, such as LCModel's RAW."""
    group.add_argument(
        "--bandwidth", type=float, metavar="HZ", help="spectral width, where the format has none (LCModel's RAW, text)"
    )
    group.add_argument("--frequency", type=float, metavar="MHZ", help="spectrometer frequency, likewise")
    group.add_argument("--nucleus", metavar="NAME", help="nucleus, likewise (default 1H)")


def axis_options(args):
    """Return the AxisOptions of parsed arguments, checked."""
    from ..core.units import nucleus
    from ..io.convert import AxisOptions

    if args.bandwidth is not None and not 10 <= args.bandwidth <= 1e6:
        raise OptionError("is in Hz, 10 to 1000000", option="bandwidth", value=f"{args.bandwidth:g}")
    if args.frequency is not None and not 1 <= args.frequency <= 2000:
        raise OptionError("is in MHz, 1 to 2000", option="frequency", value=f"{args.frequency:g}")
    if args.nucleus is not None:
        nucleus(args.nucleus)
    return AxisOptions(args.bandwidth, args.frequency, args.nucleus)


def check_times(args) -> None:
    """Raise OptionError for echo and repetition times that have the wrong unit."""
    from ..fitting.options import LONGEST_ECHO_TIME_S, REPETITION_TIMES_S

    longest = 1e3 * LONGEST_ECHO_TIME_S
    if args.TE and not _SHORTEST_TE_MS <= args.TE <= longest:
        limits = f"0 or {_SHORTEST_TE_MS:g} to {longest:g}"
        in_s = args.TE > 0 and args.TE < _SHORTEST_TE_MS
        remedy = f"give {1e3 * args.TE:g} for {args.TE:g} s" if in_s else None
        raise OptionError(f"is in ms, {limits}", option="TE", value=f"{args.TE:g}", remedy=remedy)
    low, high = REPETITION_TIMES_S
    if args.TR is not None and not low <= args.TR <= high:
        remedy = f"give {args.TR / 1e3:g} for {args.TR:g} ms" if args.TR > high else None
        raise OptionError(f"is in s, {low:g} to {high:g}", option="TR", value=f"{args.TR:g}", remedy=remedy)


def say(args, text: str) -> None:
    """Print a line if --verbose was given."""
    if args.verbose:
        print(text)


def read_basis(path):
    """Read a basis set and print what was repaired."""
    from ..io.basis import Basis

    basis = Basis.load(path)
    for note in basis.notes:
        print(f"{path}: {note}.")
    return basis


def check_formats(options, *paths) -> None:
    """Raise DataError for files that are not there, of an unknown format, or that need spec2nii where it is missing,
    before libraries are loaded that take seconds; ``options`` are those of formats without axes."""
    from ..io.convert import check_format

    check_there(*paths, others=", or of a scanner's file, such as SDAT")
    for path in paths:
        if path:
            check_format(path, options)


def check_there(*paths, others: str = "") -> None:
    """Raise DataError for a file that is not there, with or without its ending; ``others`` are formats besides
    NIfTI-MRS."""
    for path in paths:
        if path and not any(_is_there(f"{path}{ending}") for ending in ("", ".nii.gz", ".nii")):
            raise DataError(
                f"{path}: no such file", remedy=f"give the path of a NIfTI-MRS file (.nii or .nii.gz){others}"
            )


def check_output(args, *inputs) -> None:
    """Raise OutputError for a folder of results that cannot be made, before libraries are loaded that take seconds."""
    from ..io.output import new_output_folder

    new_output_folder(args.output, args.overwrite, (*inputs, *given_files(args)))


def read_data(path, options=None, *, header_only: bool = False):
    """Read data of any format, or only the header of a NIfTI-MRS file, and print what was converted and repaired."""
    from ..io import nifti
    from ..io.convert import load_any

    data = nifti.load_header(path) if header_only else load_any(path, options)
    for note in data.notes:
        print(f"{path}: {note}.")
    return data


def read_water(path, options=None):
    """Read water for line shape and eddy currents, and that for absolute concentrations, and print what was converted
    and repaired; both are None where there is no path."""
    from ..io.convert import load_references

    if not path:
        return None, None
    references = load_references(path, options)
    # Those of one file have the same notes.
    for note in dict.fromkeys(note for water in references for note in water.notes):
        print(f"{path}: {note}.")
    return references


def str_or_int(text: str) -> str | int:
    """Return a word as a number if it is one."""
    try:
        return int(text)
    except ValueError:
        return text


class progress_bar:
    """A progress bar for many spectra on a terminal, nothing otherwise."""

    def __init__(self, total: int, unit: str = "spectra"):
        self.total, self.unit, self.bar = total, unit, None

    def __enter__(self):
        if self.total >= 200 and sys.stderr.isatty():
            from tqdm import tqdm

            self.bar = tqdm(total=self.total, unit=f" {self.unit}", desc="fit")
        return self.bar.update if self.bar is not None else (lambda n: None)

    def __exit__(self, *exc):
        if self.bar is not None:
            self.bar.close()


_NO_INPUTS = ("output", "out", "filename", "work_dir", "words", "job", "main")


def given_files(args) -> tuple[Path, ...]:
    """Return the files and folders that options of a command name and that exist: what is read, by any option."""
    values: list = [value for name, value in vars(args).items() if name not in _NO_INPUTS]
    values = [one for value in values for one in (value if isinstance(value, (list, tuple)) else [value])]
    return tuple(dict.fromkeys(Path(one) for one in values if isinstance(one, (str, Path)) and _is_there(one)))


def _is_there(name: str | Path) -> bool:
    try:
        return str(name) != "" and Path(name).exists()
    except (OSError, ValueError):  # texts that are no names of files
        return False


def check_not_given(paths: Iterable[Path], inputs: Iterable[Path | None]) -> None:
    """Raise OutputError if a file that is to be written is one that is read.

    Raises
    ------
    OutputError
    """
    read = {Path(one).resolve() for one in inputs if one is not None}
    for path in paths:
        if path.resolve() in read:
            raise OutputError(f"{path}: is an input itself", remedy="choose another `output` or `filename`")


def check_filename(args, taken: Iterable[str] = ()) -> None:
    """Raise OptionError for a ``filename`` that lies in another folder than the output, or is one of those that are
    taken."""
    name = args.filename
    if name is None:
        return
    if not name or name in (".", "..") or re.search(r"[/\\\0]", name):
        raise OptionError(
            "is no name of a file", option="filename", value=name, remedy="give a name without a folder; `output` is it"
        )
    if name in taken:
        raise OptionError(
            "is the name of another file of the results", option="filename", value=name, remedy="choose another one"
        )


def processed_file(args, *given) -> Path:
    """Return the file of a step's result, in a folder that may contain other files; an input is never replaced, neither
    data that were ``given`` nor any other file that an option names.

    Raises
    ------
    OutputError
    """
    from ..io import output as output_module

    check_filename(args)
    if args.output.exists() and not args.output.is_dir():
        raise OutputError(f"{args.output}: is a file, not a folder", remedy="choose another `output`")
    from ..io.convert import stem_of

    if args.filename:
        stem = re.sub(r"(\.nii)?(\.gz)?$", "", args.filename, flags=re.IGNORECASE)
    else:
        stem = stem_of(args.file)
    target = output_module.new_file(args.output / f"{stem}.nii.gz", args.overwrite)
    check_not_given([target], (*given_files(args), *(data.path for data in given if data is not None)))
    output_module.check_writable(args.output)
    return target
