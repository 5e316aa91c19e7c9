"""Arguments and output that all commands share."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from ..core.errors import OutputError


def _common_arguments(parser, *, output: str = "output folder", device: bool = True) -> None:
    group = parser.add_argument_group("additional options")
    if device:
        group.add_argument("--device", default="auto", metavar="DEVICE", help="auto (default), cpu or cuda")
    group.add_argument("--overwrite", action="store_true", help=f"replace an existing {output}")
    group.add_argument("--verbose", action="store_true", help="say what is being done")
    group.add_argument("--debug", action="store_true", help="show where an error arose")


def _say(args, text: str) -> None:
    if args.verbose:
        print(text)


def _new_file(path: Path, overwrite: bool) -> Path:
    """A file that may be written: refuse one that is there, before any work is done."""
    if path.exists() and not overwrite:
        raise OutputError(
            f"{path}: exists already; choose another --output or --filename, or give --overwrite to replace it."
        )
    return path


def _write_whole(path: Path, text: str) -> None:
    """Write a text file so that it is there whole or not at all."""
    temporary = path.with_name(f".{path.name}.part")
    try:
        temporary.write_text(text)
        temporary.replace(path)
    except OSError as exc:
        temporary.unlink(missing_ok=True)
        raise OutputError(f"{path}: cannot be written ({exc.strerror}); choose another --output.") from exc


class _progress:
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


def _link(folder: Path, final: Path, name: str, target: Path) -> None:
    """A relative link from the results to what they were made from, as FSL-MRS leaves one."""

    ending = (
        "".join(target.suffixes[-2:]) if target.name.endswith(".nii.gz") else (target.suffix if name == "data" else "")
    )
    link = folder / f"{name}{ending}"
    link.symlink_to(os.path.relpath(target.resolve(), final.resolve()))
