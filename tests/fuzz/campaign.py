"""A campaign: mutated inputs for the readers, each read within a bound of memory and time, and the faults it meets."""

from __future__ import annotations

import contextlib
import logging
import random
import resource
import shutil
import signal
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from fsl_mrs_dl.core.errors import FslMrsDlError

from .targets import Fault, targets

__all__ = ["Outcome", "campaign"]

MEMORY_BYTES = 2**30  # that the smallest inputs may take
SECONDS = 20.0  # of the processor: a busy machine is no fault


@dataclass
class Outcome:
    """What became of the inputs of a campaign.

    Attributes
    ----------
    read, refused : Counter
        Inputs by target.
    faults : dict
        Kind of the fault -> (how often, seed of one input, its traceback).
    """

    read: Counter = field(default_factory=Counter)
    refused: Counter = field(default_factory=Counter)
    faults: dict[str, tuple[int, str, str]] = field(default_factory=dict)

    @property
    def n(self) -> int:
        """Number of inputs."""
        return self.read.total() + self.refused.total() + sum(count for count, _, _ in self.faults.values())

    def add_fault(self, target: str, seed: str, exc: BaseException) -> None:
        """Count a fault; those from one line of the source are one kind."""
        frames = traceback.extract_tb(exc.__traceback__)
        own = [frame for frame in frames if "fsl_mrs_dl" in Path(frame.filename).parts]
        place = f"{Path(own[-1].filename).name}:{own[-1].lineno}" if own else "here"
        about = str(exc)[:60] if isinstance(exc, Fault) else ""
        kind = f"{target}: {type(exc).__name__} {about} at {place}"
        count, first, text = self.faults.get(kind, (0, seed, "".join(traceback.format_exception(exc))))
        self.faults[kind] = (count + 1, first, text)


class TooSlow(BaseException):
    """An input takes too long; no handler of exceptions stops it."""


def campaign(
    n: int,
    seed: int,
    *,
    only: tuple[str, ...] = (),
    seconds: float = float("inf"),
    progress: Callable[[Outcome], None] | None = None,
) -> Outcome:
    """Read ``n`` mutated inputs, fewer where ``seconds`` are over, and return what became of them.

    ``progress`` is called now and then with what became of the inputs so far.  Input i is made from ``f"{seed}-{i}"``
    alone, and so can be had again by itself.
    """
    outcome, begun = Outcome(), time.perf_counter()
    with _quiet(), tempfile.TemporaryDirectory() as place:
        good, folder = Path(place) / "good", Path(place) / "input"
        good.mkdir()
        choices = [target for target in targets(good) if not only or target.name in only]
        for number in range(n):
            if time.perf_counter() - begun > seconds:
                break
            own = f"{seed}-{number}"
            read_one(choices, own, folder, outcome)
            if progress and (number + 1) % 1000 == 0:
                progress(outcome)
    return outcome


def read_one(choices, seed: str, folder: Path, outcome: Outcome) -> None:
    """Read the input of one seed and count what became of it."""
    rng = random.Random(seed)
    target = rng.choices(choices, [choice.weight for choice in choices])[0]
    folder.mkdir()
    try:
        path = target.write(rng, folder, True)
        with _bounds():
            target.read(path)
        outcome.read[target.name] += 1
    except FslMrsDlError as exc:
        if "\n" in str(exc) or not str(exc).strip():
            outcome.add_fault(target.name, seed, exc)
        else:
            outcome.refused[target.name] += 1
    except (Exception, TooSlow) as exc:
        outcome.add_fault(target.name, seed, exc)
    finally:
        shutil.rmtree(folder)


@contextlib.contextmanager
def _bounds() -> Iterator[None]:
    """Bound memory and time of a block."""

    def stop(*_):
        raise TooSlow

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = signal.signal(signal.SIGPROF, stop)
    resource.setrlimit(resource.RLIMIT_AS, (now + MEMORY_BYTES, hard))
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        signal.signal(signal.SIGPROF, before)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence remarks of libraries about headers, which are not what is looked for."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.CRITICAL)
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)
