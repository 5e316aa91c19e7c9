"""Networks at their published length, one after the other, for a machine that does other work, too:

nice -n 19 python -m benchmarks.scripts.long_trainings --output FOLDER

The same command goes on after an interruption, from the last validation.  A second process on the same folder ends at
once.  ``--minutes 9`` ends after that time, for a GPU that is lent in pieces; ``--names`` chooses.  Whenever a training
ends, it is measured, and its card, its learning curve and its row are written into ``FOLDER/record``.  ``--record
benchmarks`` trains nothing and writes the record of the trainings so far into the repository.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.papers.long_record import write_record
from benchmarks.papers.long_trainings import LongTraining, long_trainings
from fsl_mrs_dl.core.errors import FslMrsDlError, OptionError

__all__ = ["chosen", "main", "run_queue", "the_only_queue"]


@contextlib.contextmanager
def the_only_queue(output: Path):
    """Hold the lock of a folder of trainings.

    Raises
    ------
    OptionError
        If another process holds it.
    """
    output.mkdir(parents=True, exist_ok=True)
    with (output / "queue.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise OptionError(
                f"{output}: another queue is at work there", option="output", remedy="wait for it to end"
            ) from None
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield


def chosen(names: list[str] | None) -> list[LongTraining]:
    """Return the trainings of these names, all by default.

    Raises
    ------
    OptionError
        If there is no such training.
    """
    every = {one.name: one for one in long_trainings()}
    for name in names or ():
        if name not in every:
            raise OptionError(
                "there is no such training", option="names", value=name, remedy=f"choose from {', '.join(every)}"
            )
    return [one for name, one in every.items() if not names or name in names]


def run_queue(trainings: list[LongTraining], output: Path, say=print) -> None:
    """Train what is not there yet; one that cannot be trained is reported, and the others go on."""
    for one in trainings:
        folder = output / one.name
        if (folder / "card.json").is_file():
            continue
        began = time.strftime("%Y-%m-%d %H:%M")
        say(f"{began}: {one.name}, up to {one.settings.steps} batches, {one.core_hours:g} core-hours.")
        try:
            card = one.run(folder, one.settings)
        except FslMrsDlError as exc:
            say(f"{one.name} cannot be trained: {exc}")
            continue
        done = card["training"]
        say(f"{one.name}: {done['steps']} batches, {done['core_minutes'] / 60:.2f} core-hours.")
        write_record(long_trainings(), output, output / "record")


@contextlib.contextmanager
def _ending_after(minutes: float | None):
    """Interrupt the block after a time; the training under way goes on from its last validation another time."""
    if minutes is None:
        yield
        return

    def interrupt(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 60 * minutes)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, help="folder of the models")
    parser.add_argument("--names", nargs="+", help="trainings to run (default: all)")
    parser.add_argument("--minutes", type=float, help="end after this time")
    parser.add_argument("--record", type=Path, help="write the record of the trainings so far into this folder")
    parser.add_argument("--threads", type=int, default=1, help="CPU cores to use (default 1)")
    parser.add_argument("--device", default="auto", help="auto (default), cpu or cuda")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    say = lambda text: print(text, flush=True)  # noqa: E731
    if args.record is not None:
        say(f"Written: {write_record(long_trainings(), args.output, args.record)}")
        return 0
    try:
        trainings = [replace(one, settings=replace(one.settings, device=args.device)) for one in chosen(args.names)]
        with the_only_queue(args.output), _ending_after(args.minutes):
            run_queue(trainings, args.output, say)
    except KeyboardInterrupt as exc:
        say(f"{exc or 'interrupted'}: the same command goes on.")
        return 130
    except OptionError as exc:
        print(exc, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
