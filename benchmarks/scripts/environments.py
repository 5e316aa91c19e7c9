"""Wheel and sdist in empty environments of the oldest and newest supported versions:

    python -m benchmarks.scripts.environments --older RESULTS --python 3.12=/path/to/python3.12 --python 3.13=...

Wheel and sdist are built as for a release.  Each trial makes an environment, installs with pip what a user would get
under the trial's pins, runs benchmarks/scripts/smoke.py there, and removes the environment.  Python 3.11 is the one
that runs this, unless another is named.  ``--rows FILE`` keeps the outcomes, so that single trials (``--only``) can be
made again.

Prints Markdown; see benchmarks/environments.md for recorded results.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import tomllib
from dataclasses import asdict, dataclass, field
from pathlib import Path

__all__ = ["ROOT", "TRIALS", "Outcome", "Trial", "build", "lower_bounds", "table"]

ROOT = Path(__file__).resolve().parents[2]
SHOWN = ("torch", "numpy", "scipy", "pandas", "nibabel", "nifti-mrs", "matplotlib", "plotly")
# What the FSLeyes plugin needs of the package's dependencies, and what comes with FSLeyes.
VIEWER = ("nifti-mrs", "nibabel", "pandas", "matplotlib", "scipy", "ConfigArgParse")


@dataclass(frozen=True)
class Trial:
    """An environment to be tried.

    Attributes
    ----------
    name : str
    python : str
        Version of Python, such as '3.11'.
    pins : tuple of str
        Requirements beside the package itself; '@oldest' stands for every lower bound in pyproject.toml.
    arguments : tuple of str
        Further arguments for pip.
    sdist : bool
        Install the sdist in place of the wheel.
    fsl_mrs : bool
        Install FSL-MRS, too.
    viewer : bool
        Install without PyTorch, and try what must work then.
    """

    name: str
    python: str
    pins: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    sdist: bool = False
    fsl_mrs: bool = False
    viewer: bool = False


TRIALS = (
    Trial("every lower bound", "3.11", ("@oldest",)),
    Trial("versions of constraints.txt", "3.11", arguments=("-c", str(ROOT / "constraints.txt"))),
    Trial("inside FSL-MRS, its pins", "3.11", ("numpy<2.4", "pandas<3", "setuptools<81", "torch<2.14"), fsl_mrs=True),
    Trial("newest", "3.11"),
    Trial("old", "3.12", ("torch==2.2.2", "numpy==1.26.4", "scipy==1.13.1", "pandas==2.2.3")),
    Trial("newest", "3.12"),
    Trial("old", "3.13", ("torch==2.5.1", "numpy==2.1.0", "scipy==1.14.1", "pandas==2.2.3", "matplotlib==3.9.2")),
    Trial("newest, NumPy below 2.4, pandas 2", "3.13", ("numpy<2.4", "pandas<3")),
    Trial("newest", "3.13"),
    Trial("newest, from the sdist", "3.13", sdist=True),
    Trial("viewer without PyTorch", "3.11", VIEWER, viewer=True),
    Trial("viewer without PyTorch", "3.13", VIEWER, viewer=True),
)


@dataclass
class Outcome:
    """What a trial showed.

    Attributes
    ----------
    name, python : str
        Of the trial; ``python`` is the full version.
    versions : dict
        Installed version of every package.
    steps : list of dict
        'step', 'good', 'text' and 'seconds' of each.
    problem : str
        Why there are no steps, where the installation failed.
    megabytes : float
        The environment on disk.
    """

    name: str
    python: str
    versions: dict[str, str] = field(default_factory=dict)
    steps: list[dict] = field(default_factory=list)
    problem: str = ""
    megabytes: float = 0.0

    @property
    def key(self) -> str:
        """Return what no other trial has."""
        return f"{self.name}, {'.'.join(self.python.split('.')[:2])}"


def lower_bounds() -> list[str]:
    """Return the oldest version that every dependency may have, as requirements."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [text.replace(">=", "==") for text in project["dependencies"]]


def build(folder: Path) -> tuple[Path, Path]:
    """Build sdist and, from it, the wheel; returns (wheel, sdist)."""
    subprocess.run([sys.executable, "-m", "build", "--outdir", folder, ROOT], check=True, stdout=subprocess.DEVNULL)
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return wheel, sdist


def make_trial(trial: Trial, python: str, artefact: Path, args) -> Outcome:
    """Make an environment, install into it, run the smoke test there, and remove it."""
    number = ".".join(re.findall(r"\d+", _printed([python, "--version"]))[:3])
    outcome = Outcome(trial.name, number)
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    with tempfile.TemporaryDirectory(dir=args.place, prefix="environment") as place:
        own = Path(place) / "bin/python"
        subprocess.run([python, "-m", "venv", place], check=True, env=clean)
        pip = [args.uv, "pip", "install", "--python", own] if args.uv else [own, "-m", "pip", "install"]
        pins = [one for pin in trial.pins for one in (lower_bounds() if pin == "@oldest" else (pin,))]
        jobs = [[*pip, *args.pip, *trial.arguments, *pins, *([] if trial.viewer else [artefact])]]
        if trial.viewer:
            jobs.append([*pip, *args.pip, "--no-deps", artefact])
        if trial.fsl_mrs:
            jobs += [[*pip, *args.pip, *pins, *FSL_MRS_NEEDS], [*pip, *args.pip, "--no-deps", args.fsl_mrs]]
        for words in jobs:
            done = subprocess.run(list(map(str, words)), capture_output=True, text=True, check=False, env=clean)
            if done.returncode:
                lines = [line for line in done.stderr.splitlines() if line.strip()]
                outcome.problem = lines[-1] if lines else "pip gives no reason"
                print(done.stderr, file=sys.stderr)
                return outcome
        outcome.versions = json.loads(_printed([own, "-I", "-c", _VERSIONS]))
        outcome.megabytes = _megabytes(Path(place))
        words = [own, ROOT / "benchmarks/scripts/smoke.py", "--older", args.older, "--source", ROOT]
        work = Path(place) / "smoke"
        work.mkdir()
        done = subprocess.run(
            [*words, *(["--viewer"] if trial.viewer else [])],
            capture_output=True,
            text=True,
            check=False,
            cwd=work,
            env=clean,
        )
        print(done.stderr, file=sys.stderr)
        outcome.steps = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return outcome


# Dependencies of FSL-MRS that its installation without dependencies leaves out.
FSL_MRS_NEEDS = (
    "hlsvdpropy",
    "spec2nii",
    "fslpy",
    "dill",
    "dash",
    "flask",
    "jinja2",
    "beautifulsoup4",
    "dask-jobqueue",
)

_VERSIONS = """
import json
from importlib import metadata
print(json.dumps({one.metadata["Name"].lower().replace("_", "-"): one.version for one in metadata.distributions()}))
"""


def _printed(words: list) -> str:
    return subprocess.run(list(map(str, words)), capture_output=True, text=True, check=True).stdout


def _megabytes(folder: Path) -> float:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def table(outcomes: list[Outcome]) -> str:
    """Return the outcomes as a Markdown table."""
    lines = [f"| Python | trial | {' | '.join(SHOWN)} | MB | outcome |", "|---" * (len(SHOWN) + 4) + "|"]
    for one in outcomes:
        versions = [one.versions.get(name, "-").partition("+")[0] for name in SHOWN]
        bad = [f"{step['step']}: {step['text']}" for step in one.steps if not step["good"]]
        good = ", ".join(step["step"] for step in one.steps if step["good"])
        inside = [step["text"] for step in one.steps if step["good"] and step["step"] == "inside FSL-MRS"]
        text = one.problem or "; ".join(bad) or f"works: {good}" + "".join(f" ({name})" for name in inside)
        cells = [
            one.python,
            one.name,
            *versions,
            f"{one.megabytes:.0f}" if one.megabytes else "-",
            text.replace("|", "/"),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--python", action="append", default=[], metavar="VERSION=PATH", help="an interpreter")
    parser.add_argument("--older", type=Path, required=True, help="folder of fsl_mrs_dl fit by an earlier version")
    parser.add_argument("--fsl-mrs", metavar="SOURCE", help="what pip installs FSL-MRS from")
    parser.add_argument("--only", nargs="+", type=int, metavar="N", help="numbers of trials, from 0")
    parser.add_argument("--rows", type=Path, help="JSON file that keeps outcomes")
    parser.add_argument("--place", type=Path, help="where environments are made")
    parser.add_argument(
        "--pip", action="append", default=[], metavar="WORD", help="a further argument for pip, as --pip=X"
    )
    parser.add_argument("--uv", metavar="PROGRAM", help="install with uv, which takes the same versions in less time")
    args = parser.parse_args()
    args.older = args.older.resolve()
    pythons = {"{}.{}".format(*sys.version_info): sys.executable, **dict(one.split("=", 1) for one in args.python)}
    kept = json.loads(args.rows.read_text(encoding="utf-8")) if args.rows and args.rows.exists() else []
    outcomes = {one.key: one for one in (Outcome(**row) for row in kept)}
    with tempfile.TemporaryDirectory() as dist:
        wheel, sdist = build(Path(dist))
        sizes = f"wheel {wheel.stat().st_size / 1e6:.1f} MB, sdist {sdist.stat().st_size / 1e6:.1f} MB"
        for number in args.only or range(len(TRIALS)):
            trial, python = TRIALS[number], pythons.get(TRIALS[number].python)
            if python is None or (trial.fsl_mrs and not args.fsl_mrs):
                continue
            begun = time.perf_counter()
            outcome = make_trial(trial, python, sdist if trial.sdist else wheel, args)
            outcomes[outcome.key] = outcome
            print(f"{number}: {outcome.key}: {time.perf_counter() - begun:.0f} s", file=sys.stderr)
            if args.rows:
                args.rows.write_text(json.dumps([asdict(one) for one in outcomes.values()], indent=1), encoding="utf-8")
    order = {f"{trial.name}, {trial.python}": number for number, trial in enumerate(TRIALS)}
    rows = sorted(outcomes.values(), key=lambda one: order.get(one.key, len(order)))
    print(PAGE.format(sizes=sizes, table=table(rows)))


PAGE = """# Installation in empty environments

`python -m benchmarks.scripts.environments`, {sizes}. Each row is a virtual environment with nothing in it, into
which the wheel (or the sdist) was installed under the pins of the trial, on Linux with two cores; it was removed
afterwards. The steps of `benchmarks/scripts/smoke.py` run there: *import* of the package and of every public name;
*--version* is that of the installation; *doctor* finds no fault; *example* is aligned and fitted, and at least four of
five ratios lie within two SDs of the truth; *network*: the bundled network proposes the initial values of a fit;
*older results*: a folder that an earlier version wrote is opened as FSLeyes's plugin does, with its model. MB: the
environment on disk; PyTorch's usual builds for Linux bring CUDA's libraries (3 to 5 GB), those for CPUs do not.

{table}
"""

if __name__ == "__main__":
    main()
