"""Threads: one place that decides how many run, and maps functions over them."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np
import torch

_SIDE_BY_SIDE: ContextVar[int | None] = ContextVar("threads that parts of a batch are computed with", default=None)


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute with one thread, and parts of a batch side by side with as many as there were.

    What comes out is then the same to the last digit whatever the number of threads: sums are not split among them.
    """
    threads = torch.get_num_threads()
    token = _SIDE_BY_SIDE.set(_SIDE_BY_SIDE.get() or threads)
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        _SIDE_BY_SIDE.reset(token)


def side_by_side(function: Callable, parts: list, device: torch.device) -> Iterator:
    """``map`` over parts of a batch, on a processor with as many threads as torch has, each of which computes with one.

    That is faster than one after the other with all threads: most of the work is on matrices too small to share.
    Results come in their order, and within :func:`one_thread` they are the same whatever the number of threads; outside
    of it a single part is computed with all of them.
    """
    before = torch.get_num_threads()
    threads = _SIDE_BY_SIDE.get() or before
    if device.type != "cpu" or threads < 2 or len(parts) < 2:
        yield from map(function, parts)
        return
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(min(threads, len(parts)), initializer=torch.set_num_threads, initargs=(1,)) as pool:
        try:
            waiting = [pool.submit(function, part) for part in parts]
            for one in waiting:
                yield one.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
            torch.set_num_threads(before)


def _in_threads(function, parts: Sequence, threads: int) -> Iterator:
    """Each part in one of some threads; after an interruption no further part is begun."""
    before = torch.get_num_threads()
    with ThreadPoolExecutor(threads) as pool:
        waiting = {pool.submit(function, part) for part in parts}
        try:
            while waiting:
                finished, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                for future in finished:
                    yield future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
            torch.set_num_threads(before)


def _linalg(what: Callable, matrix: np.ndarray, **options) -> list[np.ndarray]:
    """A decomposition on one thread: on a busy machine threads that wait for each other make small ones take
    seconds."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return [part.numpy() for part in what(torch.as_tensor(matrix), **options)]
    finally:
        torch.set_num_threads(n_threads)


@contextlib.contextmanager
def _workers(device: torch.device):
    """A ``map`` with as many workers as PyTorch has threads, each with one thread.

    Arrays of a few transients are too short to be shared out among threads one operation at a time: the threads would
    spend their time waiting for each other, for milliseconds an operation where other programs keep the processor busy.
    """
    n_threads = torch.get_num_threads()
    if device.type != "cpu" or n_threads == 1:
        yield map
        return
    inference = torch.is_inference_mode_enabled()

    def with_mode(work, part):
        with torch.inference_mode(inference):
            return work(part)

    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(n_threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield (
                lambda work, parts: (
                    pool.map(functools.partial(with_mode, work), parts) if len(parts) > 1 else map(work, parts)
                )
            )
    finally:
        torch.set_num_threads(n_threads)
