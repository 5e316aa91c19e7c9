"""What a fresh installation must be able to do, tried in the environment of the Python that runs this file:

    python smoke.py --older RESULTS

Needs nothing but the installed package, writes into the current folder, and prints a JSON line for each step.  See
benchmarks.scripts.environments, which runs it in many environments.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import sysconfig
import time
import traceback
from pathlib import Path

__all__ = ["STEPS", "Failure", "main"]


class Failure(Exception):
    """A step that did not do what it should."""


def command(*words: str | Path, name: str = "fsl_mrs_dl") -> str:
    """Run an installed command, and return what it printed.

    Raises
    ------
    Failure
        If its exit status is not 0, with the last line that it printed.
    """
    program = Path(sysconfig.get_path("scripts")) / name
    done = subprocess.run([program, *map(str, words)], capture_output=True, text=True, check=False)
    if done.returncode:
        lines = (done.stdout + done.stderr).strip().splitlines()
        raise Failure(f"{name} {words[0]} ended with {done.returncode}: {lines[-1] if lines else 'no message'}")
    return done.stdout


def import_package(args) -> str:
    """Import the package, and every name of its public face."""
    import fsl_mrs_dl

    for name in fsl_mrs_dl.__all__:
        getattr(fsl_mrs_dl, name)
    if args.source and Path(fsl_mrs_dl.__file__).is_relative_to(args.source):
        raise Failure(f"{fsl_mrs_dl.__file__} is not the installed package")
    return fsl_mrs_dl.__version__


def import_viewer(args) -> str:
    """Import what shows results, which must not load PyTorch."""
    import fsl_mrs_dl
    from fsleyes_plugin_dl import map_display, render, results_folder, spectra, voxel_table  # noqa: F401

    if "torch" in sys.modules:
        raise Failure("torch was loaded")
    return fsl_mrs_dl.__version__


def version(args) -> str:
    """Compare the version that the command prints with that of the installation."""
    from importlib import metadata

    printed, installed = command("--version").strip(), metadata.version("fsl-mrs-dl")
    if printed != installed:
        raise Failure(f"--version prints {printed}, installed is {installed}")
    return printed


def doctor(args) -> str:
    """Ask the package whether all that it needs works together."""
    command("doctor")
    return "no fault"


def example(args) -> str:
    """Align and fit the bundled spectrum, and compare with the truth of its simulation."""
    last = command("example", "--output", "example", "--overwrite").strip().splitlines()[-1]
    within, total = (int(word) for word in last.split() if word.isdigit())
    if within < 0.8 * total:
        raise Failure(last)
    return f"{within} of {total} within 2 SD"


def network(args) -> str:
    """Let the bundled network propose the initial values of a fit."""
    import fsl_mrs_dl

    bundled = Path(fsl_mrs_dl.__file__).parent / "data/example"
    words = ["--data", "example/aligned/svs.nii.gz", "--basis", bundled / "basis", "--average", "DIM_DYN"]
    words += ["--spectral-model", "fsl-mrs", "--init", "network", "--model", "quant-universal", "--device", "cpu"]
    printed = command("fit", *words, "--output", "network", "--overwrite")
    if "initial values quant-universal" not in printed:
        raise Failure("the fit does not say that its initial values are the network's")
    return "quant-universal"


def older_results(args) -> str:
    """Read a folder of results that an earlier version wrote."""
    from fsleyes_plugin_dl.results_folder import Results

    results = Results.open(args.older)
    values = results.values((0, 0, 0), "NAA")
    if not values.get("conc", 0) > 0:
        raise Failure(f"NAA is {values}")
    if results.evaluator is None:
        raise Failure("the fitted model cannot be evaluated")
    return f"{len(results.metabs)} metabolites"


def inside_fsl_mrs(args) -> str:
    """Fit the bundled spectrum with the algorithm that FSL-MRS has from this package."""
    import fsl_mrs

    import fsl_mrs_dl

    bundled = Path(fsl_mrs_dl.__file__).parent / "data/example"
    words = ["--algo", "dlquant", "--data", "example/fit/data.nii.gz", "--basis", bundled / "basis"]
    command(*words, "--output", "inside", "--overwrite", name="fsl_mrs")
    if not Path("inside/uncertainty.csv").is_file():
        raise Failure("fsl_mrs wrote no uncertainty.csv")
    return f"FSL-MRS {fsl_mrs.__version__.split('+')[0]}"


STEPS = {
    "import": import_package,
    "--version": version,
    "doctor": doctor,
    "example": example,
    "network": network,
    "older results": older_results,
    "inside FSL-MRS": inside_fsl_mrs,
}
VIEWER_STEPS = {"import": import_viewer, "--version": version, "older results": older_results}


def main(argv: list[str] | None = None) -> int:
    """Try every step; the status is 0 if all of them worked."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--older", type=Path, required=True, help="results that an earlier version wrote")
    parser.add_argument("--source", type=Path, help="where the package must not be imported from")
    parser.add_argument("--viewer", action="store_true", help="try what must work without PyTorch")
    args = parser.parse_args(argv)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    failed = 0
    for name, step in (VIEWER_STEPS if args.viewer else STEPS).items():
        if name == "inside FSL-MRS" and importlib.util.find_spec("fsl_mrs") is None:
            continue
        start = time.perf_counter()
        try:
            text, good = step(args), True
        except Exception as exc:
            text, good = f"{type(exc).__name__}: {exc}".splitlines()[0], False
            traceback.print_exc()
        failed += not good
        seconds = round(time.perf_counter() - start, 1)
        print(json.dumps({"step": name, "good": good, "text": text, "seconds": seconds}), flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
