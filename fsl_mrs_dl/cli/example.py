"""The command ``fsl_mrs_dl example``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from ..core.errors import DataError
from .common import add_common_arguments

__all__ = ["add_arguments", "run"]


def add_arguments(parser) -> None:
    """Add the arguments of the command to its parser."""
    parser.add_argument(
        "--output", type=Path, default=Path("example-results"), metavar="DIR", help="default example-results"
    )
    add_common_arguments(parser)
    parser.set_defaults(func=run)


def run(args) -> None:
    """Align and fit the bundled example, and compare with its truth."""
    from importlib import resources

    bundled = resources.files("fsl_mrs_dl").joinpath("data", "example")
    flags = [flag for flag, is_set in (("--overwrite", args.overwrite), ("--verbose", args.verbose)) if is_set]
    flags += ["--device", args.device]
    with resources.as_file(bundled) as folder:
        if not (folder / "svs.nii.gz").is_file():
            raise DataError(f"{folder}: the bundled example is missing", remedy="install the package again")
        aligned = args.output / "aligned"
        jobs = (
            ["align", "--file", str(folder / "svs.nii.gz"), "--output", str(aligned), "-r", *flags],
            ["fit", "--data", str(aligned / "svs.nii.gz"), "--basis", str(folder / "basis"), "--average", "DIM_DYN"]
            + ["--output", str(args.output / "fit"), "--report", *flags],
        )
        for job in jobs:
            print("\n$ fsl_mrs_dl " + " ".join(f"'{word}'" if " " in word else word for word in job))
            status = args.main(job + (["--debug"] if args.debug else []))
            if status:
                sys.exit(status)
        truth = json.loads((folder / "truth.json").read_text(encoding="utf-8-sig"))
    _compare_with_truth(args.output / "fit" / "uncertainty.csv", truth)


def _compare_with_truth(table: Path, truth: dict) -> None:
    """Print how many of the example's ratios agree with the truth of its simulation."""
    import pandas as pd

    frame = pd.read_csv(table).set_index("Metab")
    true = truth["concentrations"]
    total = true["Cr"] + true["PCr"]
    error = [(frame.loc[name, "ratio"] - value / total) / frame.loc[name, "ratio_sd"] for name, value in true.items()]
    within = sum(abs(e) < 2 for e in error)
    print(f"\nThe example is simulated: {within} of {len(error)} ratios lie within two SDs of its truth.")
