"""What an installed package weighs, and what starting it costs: disk, time, memory.

    python -m benchmarks.scripts.size_and_start --python ENVIRONMENT/bin/python

``--python`` is that of an environment into which the wheel was installed; without it, this one is measured.  Processor
time is shown beside the time on the clock, because the latter depends on what else a machine does.

Prints Markdown; see benchmarks/size_and_start.md for recorded results.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Cost", "cost_of", "median_cost", "sizes", "table_of_costs", "table_of_sizes"]

_PARTS = (
    ("fsl_mrs_dl/models/", "trained networks"),
    ("fsl_mrs_dl/data/example/", "the bundled example"),
    ("fsl_mrs_dl/data/", "recipes, priors, spin systems"),
    ("fsleyes_plugin_dl/", "FSLeyes's plugin"),
    ("fsl_mrs_dl/", "Python code"),
)
_LIST = """
import json
from importlib import metadata
out = {}
for one in metadata.distributions():
    files = {}
    for file in one.files or ():
        path = one.locate_file(file)
        if path.is_file() and not path.is_symlink() and "__pycache__" not in str(file):
            files[str(file)] = path.stat().st_size
    out[one.metadata["Name"].lower().replace("_", "-")] = files
print(json.dumps(out))
"""
_MAIN = "import sys; from fsl_mrs_dl.cli.main import main; sys.exit(main(sys.argv[1:]))"


@dataclass(frozen=True)
class Cost:
    """What a process took: seconds on the clock, seconds of a processor, and its largest memory in MB."""

    clock_s: float
    processor_s: float
    memory_mb: float


def cost_of(words: Sequence[str | Path], folder: Path) -> Cost:
    """Run a program in a folder, and return what it cost.

    Raises
    ------
    RuntimeError
        If its exit status is not 0.
    """
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    begun = time.perf_counter()
    with (folder / "log").open("w+", encoding="utf-8") as log:
        process = subprocess.Popen(list(map(str, words)), stdout=log, stderr=log, cwd=folder, env=clean)
        _, status, used = os.wait4(process.pid, 0)
        elapsed = time.perf_counter() - begun
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            log.seek(0)
            raise RuntimeError(f"{words} ended with {process.returncode}: {log.read()[-500:]}")
    unit = 1e6 if sys.platform == "darwin" else 1e3  # ru_maxrss counts bytes there, kB elsewhere
    return Cost(elapsed, used.ru_utime + used.ru_stime, used.ru_maxrss / unit)


def median_cost(costs: Iterable[Cost]) -> Cost:
    """Return the median of each figure."""
    columns = zip(*((one.clock_s, one.processor_s, one.memory_mb) for one in costs), strict=True)
    return Cost(*map(statistics.median, columns))


def sizes(files: dict[str, int]) -> dict[str, float]:
    """Return megabytes by part of the package, from sizes of its files in bytes by name."""
    out = dict.fromkeys((part for _, part in _PARTS), 0.0)
    for name, size in files.items():
        part = next((part for prefix, part in _PARTS if name.startswith(prefix)), "metadata")
        out[part] = out.get(part, 0.0) + size / 1e6
    return out


def table_of_sizes(listed: dict[str, dict[str, int]], most: int = 8) -> str:
    """Return a table of the package's parts and of the largest packages beside it."""
    lines = ["| part of the installed package | MB |", "|---|---|"]
    parts = sizes(listed["fsl-mrs-dl"])
    lines += [f"| {part} | {size:.2f} |" for part, size in parts.items()]
    lines += [f"| **all of it** | **{sum(parts.values()):.2f}** |", "", "| packages beside it | MB |", "|---|---|"]
    others = {name: sum(files.values()) / 1e6 for name, files in listed.items() if name != "fsl-mrs-dl"}
    largest = sorted(others, key=lambda name: -others[name])
    lines += [f"| {name} | {others[name]:.0f} |" for name in largest[:most]]
    lines += [f"| {len(largest) - most} others | {sum(others[name] for name in largest[most:]):.0f} |"]
    return "\n".join(lines)


def table_of_costs(costs: dict[str, Cost]) -> str:
    """Return a table with a row for each command."""
    lines = ["| | seconds | of a processor | memory, MB |", "|---|---|---|---|"]
    lines += [
        f"| {name} | {one.clock_s:.2f} | {one.processor_s:.2f} | {one.memory_mb:.0f} |" for name, one in costs.items()
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--python", type=Path, default=Path(sys.executable), help="of the environment to measure")
    parser.add_argument("--repeat", type=int, default=5, help="runs of each; the median is shown")
    args = parser.parse_args()
    # Not resolved: a virtual environment's Python is a link.
    python = args.python.absolute()
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
    listed = json.loads(subprocess.run([python, "-I", "-c", _LIST], capture_output=True, text=True, check=True).stdout)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        own = [python, "-I", "-c", _MAIN]
        cost_of([*own, "example", "--output", "example"], folder)
        basis = folder / "example/fit/basis"
        fit = [*own, "fit", "--data", "example/aligned/svs.nii.gz", "--basis", basis, "--average", "DIM_DYN"]
        fit += ["--output", "fit", "--overwrite"]
        jobs = {
            "`python -c pass`": [python, "-I", "-c", "pass"],
            "`import fsl_mrs_dl`": [python, "-I", "-c", "import fsl_mrs_dl"],
            "`fsl_mrs_dl --version`": [*own, "--version"],
            "`fsl_mrs_dl --help`": [*own, "--help"],
            "`fsl_mrs_dl fit --help`": [*own, "fit", "--help"],
            "`import torch`, for comparison": [python, "-I", "-c", "import torch"],
            "`from fsl_mrs_dl import quantify`": [python, "-I", "-c", "from fsl_mrs_dl import quantify"],
            "one `fit`": fit,
            "one `fit --report`": [*fit, "--report"],
            "one `fit --spectral-model fsl-mrs`": [*fit, "--spectral-model", "fsl-mrs"],
            "`example`: align and fit, with reports": [*own, "example", "--output", "example", "--overwrite"],
        }
        costs = {name: median_cost(cost_of(words, folder) for _ in range(args.repeat)) for name, words in jobs.items()}
    version = subprocess.run([*own, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    print(
        f"# Size and start\n\n`python -m benchmarks.scripts.size_and_start --repeat {args.repeat}`: {version},"
        f" {platform.system()} on {platform.machine()}, one thread; medians.\n\n## Disk\n\n{table_of_sizes(listed)}\n\n"
        f"## Start\n\nA fit is that of the bundled spectrum (20 metabolites, 2048 points) in its own process, from the"
        f" start of Python to the last file.\n\n{table_of_costs(costs)}"
    )


if __name__ == "__main__":
    main()
