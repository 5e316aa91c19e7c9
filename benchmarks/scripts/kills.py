"""Commands that are killed at random moments: what is there afterwards is whole or absent, and they can be run again:

python -m benchmarks.scripts.kills --kills 200 > benchmarks/kills.md

Every run is a process of its own, forked from this one, which has loaded the libraries already.  Half of the kills fall
anywhere in a run; the others fall after the first file of it appeared, where results are being written.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import nibabel
import numpy as np

from fsl_mrs_dl.cli.main import main as command
from fsl_mrs_dl.core.errors import FslMrsDlError
from fsl_mrs_dl.io import nifti
from fsl_mrs_dl.io.basis import Basis
from fsl_mrs_dl.networks import model_cards

__all__ = ["COMMANDS", "Kills", "kill_many", "make_inputs", "state_of"]

COMMANDS = ("fit", "align", "mrsi", "train")
_GRID = (3, 2, 1)
_FOLLOWED = 4  # times that the advice of a message is followed


def make_inputs(folder: Path) -> None:
    """Write a basis set, a spectrum, a set of transients and a small volume into an empty folder."""
    rng, dwelltime, n_points = np.random.default_rng(0), 5e-4, 512
    time_s = np.arange(n_points) * dwelltime
    hz = (-330.0, -210.0, -190.0)
    basis = np.stack([np.exp((2j * np.pi * one - 5) * time_s) for one in hz])
    Basis(basis, ("NAA", "Cr", "GPC"), dwelltime, 123.2).save(folder / "basis")

    def save(name, shape, tags=()):
        noise = 0.1 * (rng.normal(size=(*shape, n_points)) + 1j * rng.normal(size=(*shape, n_points)))
        fids = np.array([10.0, 8.0, 2.0]) @ basis * np.exp(-12 * time_s) + noise
        fids = np.moveaxis(fids, -1, 3).astype(np.complex64)
        nifti.save(folder / name, nifti.MrsData(fids, dwelltime, 123.2, "1H", tags, affine=np.diag([9.0, 9, 9, 1])))

    save("one.nii.gz", (1, 1, 1))
    save("transients.nii.gz", (1, 1, 1, 8), ("DIM_DYN",))
    save("volume.nii.gz", _GRID)


def words_of(name: str, inputs: Path, output: Path) -> list[str]:
    """Return the words of one command on the small inputs."""
    if name == "train":
        words = ["train", "align", "--method", "dsrf", "--file", str(inputs / "transients.nii.gz"), "--device", "cpu"]
        words += ["--steps", "8", "--batch_size", "4", "--validate_every", "2", "--threads", "1"]
        return [*words, "--output", str(output)]
    fitted = ["--basis", str(inputs / "basis"), "--spectral-model", "fsl-mrs", "--lorentzian"]
    fitted += ["--baseline", "off", "--internal_ref", "Cr", "--device", "cpu", "--output", str(output)]
    if name == "fit":
        return ["fit", "--data", str(inputs / "one.nii.gz"), *fitted]
    if name == "mrsi":
        return ["mrsi", "--data", str(inputs / "volume.nii.gz"), *fitted]
    return ["align", "--file", str(inputs / "transients.nii.gz"), "--output", str(output), "--device", "cpu"]


def start(words: list[str], log: Path, modules: Path | None = None) -> multiprocessing.Process:
    """Start a command in a process of its own, with its messages in a file, and the names of modules it loads."""

    def run():
        with log.open("w") as file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
            try:
                status = command(words)
            except SystemExit as exc:
                status = exc.code
        if modules is not None:
            modules.write_text("\n".join(sorted(sys.modules)))
        os._exit(status or 0)

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    return process


def files_of(output: Path) -> dict[str, Path]:
    """Return the files of a result by their names in it."""
    return {str(path.relative_to(output)): path for path in sorted(output.rglob("*")) if path.is_file()}


def state_of(name: str, output: Path, reference: Path) -> str:
    """Return 'absent', 'whole' or, beginning with 'broken', what is wrong.

    Parameters
    ----------
    name : str
        The command.
    output : path
        What it should write.
    reference : path
        What it wrote when it was not disturbed.
    """
    if name == "train":
        # Checkpoints and logs grow meanwhile; the card, written last, makes a model of the folder.
        if not (output / "card.json").exists():
            return "absent"
        try:
            model_cards.load(output)
        except FslMrsDlError as exc:
            return f"broken: {exc}"
        return "whole"
    there, expected = files_of(output), files_of(reference)
    if name == "align":
        # Two files in a folder of the user's, each for itself; the table is written last.
        there = {file: path for file, path in there.items() if not file.startswith(".")}
        expected = {file: path for file, path in expected.items() if file in there}
    if not output.exists() or name == "align" and not there:
        return "absent"
    if set(there) != set(expected):
        return f"broken: {sorted(set(there) ^ set(expected))[:3]} are missing or too many"
    for file, path in there.items():
        try:
            if not _is_whole(path, expected[file]):
                return f"broken: {file}"
        except Exception as exc:
            return f"broken: {file} ({exc!r})"
    return "whole"


def _is_whole(path: Path, expected: Path) -> bool:
    """Tell whether a file can be read and holds what that of the undisturbed run does."""
    if path.name.endswith(".nii.gz"):
        arrays = [np.asanyarray(nibabel.load(one).dataobj) for one in (path, expected)]
        return np.allclose(*arrays, rtol=1e-3, atol=1e-3, equal_nan=True)
    if path.suffix == ".npy":
        shapes = {np.load(one, allow_pickle=False).shape for one in (path, expected)}
        return len(shapes) == 1
    if path.suffix == ".json":
        return type(json.loads(path.read_text())) is type(json.loads(expected.read_text()))
    if path.suffix == ".csv":
        return path.read_text().count("\n") == expected.read_text().count("\n")
    return path.stat().st_size > 0.5 * expected.stat().st_size


@dataclass
class Kills:
    """What became of the kills of one command.

    Attributes
    ----------
    name : str
    seconds : float
        Of an undisturbed run.
    states : Counter
        What was there after kills.
    again : Counter
        What it took to have the whole result: the options that messages advised, one after another.
    hidden : int
        Kills after which a hidden temporary file or folder was there.
    faults : list of str
    """

    name: str
    seconds: float = 0.0
    states: Counter = field(default_factory=Counter)
    again: Counter = field(default_factory=Counter)
    hidden: int = 0
    faults: list[str] = field(default_factory=list)

    @property
    def n(self) -> int:
        """Number of kills."""
        return self.states.total()


def kill_many(name: str, n: int, seed: int = 0, *, until: float = float("inf")) -> Kills:
    """Kill a command ``n`` times, fewer where ``time.perf_counter()`` passes ``until``.

    Kills that come after the end of a run are not counted.
    """
    rng, result = random.Random(f"{seed} {name}"), Kills(name)
    with tempfile.TemporaryDirectory() as place, _one_thread():
        inputs, reference = Path(place) / "inputs", Path(place) / "reference" / "out"
        inputs.mkdir()
        make_inputs(inputs)
        _load_modules(words_of(name, inputs, Path(place) / "first" / "out"), Path(place))
        writing = _undisturbed(result, words_of(name, inputs, reference), reference, Path(place) / "log")
        for _ in range(4 * n):
            if result.n >= n or time.perf_counter() > until:
                break
            folder = Path(tempfile.mkdtemp(dir=place))
            _one_kill(result, rng, folder, (inputs, reference), writing)
            shutil.rmtree(folder)
    return result


def _load_modules(words: list[str], place: Path) -> None:
    """Load what a command imports as it runs, so that the processes forked from here need not."""
    process = start(words, place / "log", place / "modules")
    process.join()
    if process.exitcode != 0:
        raise RuntimeError(f"{words[0]} fails undisturbed: {(place / 'log').read_text()}")
    for module in (place / "modules").read_text().split():
        with contextlib.suppress(Exception):
            importlib.import_module(module)


def _undisturbed(result: Kills, words: list[str], output: Path, log: Path) -> float:
    """Run a command to its end, note its seconds, and return those after its first file appeared."""
    output.parent.mkdir()
    begun, appeared = time.perf_counter(), None
    process = start(words, log)
    while process.is_alive():
        if appeared is None and any(output.parent.iterdir()):
            appeared = time.perf_counter()
        time.sleep(0.001)
    end = time.perf_counter()
    result.seconds = end - begun
    return end - (appeared or begun)


def _one_kill(result: Kills, rng: random.Random, folder: Path, paths: tuple[Path, Path], writing: float) -> None:
    """Start a command, kill it at a random moment, note what is there, and run it again."""
    inputs, reference = paths
    name, output, log = result.name, folder / "results" / "out", folder / "log"
    output.parent.mkdir()
    words, old = words_of(name, inputs, output), rng.random() < 0.25 and name != "train"
    if old:
        shutil.copytree(reference, output, symlinks=True)
        words.append("--overwrite")
    before = {entry.name for entry in output.parent.iterdir()}
    process = start(words, log)
    if rng.random() < 0.5:
        process.join(rng.uniform(0, result.seconds))
    else:
        while process.is_alive() and {entry.name for entry in output.parent.iterdir()} <= before:
            time.sleep(0.001)
        process.join(rng.uniform(0, writing))
    process.kill()
    process.join()
    if process.exitcode != -signal.SIGKILL:
        return
    state = state_of(name, output, reference)
    result.hidden += bool(list(output.parent.rglob(".*")))
    result.states[f"{state.split(':')[0]}{', over old results' if old else ''}"] += 1
    if state.startswith("broken"):
        result.faults.append(state)
    result.again[_again(result, words, output, reference, log)] += 1
    for path in output.parent.rglob(".*"):
        result.faults.append(f"{path.name[:5]}... is there after running again")


def _again(result: Kills, words: list[str], output: Path, reference: Path, log: Path) -> str:
    """Run a command again as its messages advise, and return the options that it took."""
    taken: list[str] = []
    if result.name == "train" and state_of("train", output, reference) == "whole":
        return "nothing"
    for _ in range(_FOLLOWED):
        process = start([*words, *taken[-1:]], log)
        process.join()
        text = log.read_text()
        if process.exitcode == 0:
            state = state_of(result.name, output, reference)
            if state != "whole":
                result.faults.append(f"after running again: {state}")
            return ", then ".join(taken) or "the same command"
        advised = [option for option in ("--resume", "--overwrite") if option in text and option not in taken]
        if process.exitcode != 2 or not advised:
            break
        taken.append(advised[0])
    result.faults.append(f"cannot be run again ({', '.join(taken) or 'plain'}): {text.strip()[-300:]}")
    return "never"


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Use one thread, so that a fork of this process is whole."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def table(results: list[Kills]) -> str:
    """Return the results as Markdown."""
    lines = [
        "# Kills",
        "",
        "`python -m benchmarks.scripts.kills`: commands on small inputs, killed (SIGKILL) at random moments, half of"
        " them anywhere in a run and half while it writes; a quarter of them over older results with `--overwrite` (not"
        " of `train`, which has no such option)."
        " Results are compared with those of an undisturbed run, then the command is run again as its messages advise.",
        "",
        "| command | s undisturbed | kills | there afterwards | options to finish | hidden files left | faults |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in results:
        there, again = (", ".join(f"{n} {key}" for key, n in part.most_common()) for part in (one.states, one.again))
        lines.append(
            f"| {one.name} | {one.seconds:.1f} | {one.n} | {there} | {again} | {one.hidden} | {len(one.faults)} |"
        )
    lines += [f"\n{one.name}: {fault}" for one in results for fault in dict.fromkeys(one.faults)]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Kill every command in turn and print a table; status 1 where there is a fault."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200, metavar="N", help="in all")
    parser.add_argument("--commands", nargs="+", choices=COMMANDS, default=list(COMMANDS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="for each command, at most")
    args = parser.parse_args()
    results = []
    for number, name in enumerate(args.commands):
        n = args.kills // len(args.commands) + (number < args.kills % len(args.commands))
        results.append(kill_many(name, n, args.seed, until=time.perf_counter() + args.seconds))
        print(results[-1], file=sys.stderr)
    print(table(results), end="")
    return 1 if any(one.faults for one in results) else 0


if __name__ == "__main__":
    sys.exit(main())
