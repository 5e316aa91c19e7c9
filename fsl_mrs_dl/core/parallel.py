"""Threads: their number, and one map over them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial

import numpy as np
import torch

__all__ = ["one_thread", "parallel_map", "thread_map", "batched_linalg"]

_THREADS: ContextVar[int | None] = ContextVar("threads that parts of a batch are computed with", default=None)


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute with one thread, and parts of a batch in parallel with as many as there were.

    Results are then the same to the last digit whatever the number of threads: sums are not split among them.
    """
    threads = torch.get_num_threads()
    token = _THREADS.set(_THREADS.get() or threads)
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        _THREADS.reset(token)


@contextmanager
def thread_map(device: torch.device | str = "cpu", threads: int | None = None, each_alone: bool = True):
    """Yield a ``map_(function, parts, ordered=True)`` whose threads are kept for several calls.

    On a processor it runs ``threads`` of them (default: as many as PyTorch has), each of which computes with one where
    ``each_alone``.  That is faster than one part after the other with all threads: most of the work is on arrays too
    short to be shared out one operation at a time.  On any other device, with one thread, and for a single part it is
    the plain ``map``.  With ``ordered=False`` results come as they are finished.  After an exception, also one of the
    caller's, no further part is begun.
    """
    before = torch.get_num_threads()
    count = threads or _THREADS.get() or before
    if torch.device(device).type != "cpu" or (threads is None and count < 2):
        yield lambda function, parts, ordered=True: map(function, parts)
        return
    inference = torch.is_inference_mode_enabled()

    def in_mode(function, part):
        with torch.inference_mode(inference):
            return function(part)

    if each_alone:
        torch.set_num_threads(1)
    pool = ThreadPoolExecutor(count, initializer=partial(torch.set_num_threads, 1) if each_alone else None)

    def map_(function, parts, ordered=True):
        if len(parts) < 2 and threads is None:
            return map(function, parts)
        waiting = [pool.submit(partial(in_mode, function), part) for part in parts]
        return (future.result() for future in waiting) if ordered else _as_finished(waiting)

    try:
        yield map_
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        torch.set_num_threads(before)


def _as_finished(waiting) -> Iterator:
    """Yield the results of futures as they finish."""
    waiting = set(waiting)
    while waiting:
        finished, waiting = wait(waiting, return_when=FIRST_COMPLETED)
        for future in finished:
            yield future.result()


def parallel_map(
    function: Callable,
    parts: Sequence,
    *,
    device: torch.device | str = "cpu",
    threads: int | None = None,
    ordered: bool = True,
) -> Iterator:
    """Map a function over parts of a batch in threads, see :func:`thread_map`.

    A single part is computed with all threads, unless ``threads`` sets the number of parts in parallel; within
    :func:`one_thread` results are the same whatever their number.
    """
    if threads is None and len(parts) < 2:
        yield from map(function, parts)
        return
    with thread_map(device, threads, each_alone=threads is None) as map_:
        yield from map_(function, parts, ordered=ordered)


def batched_linalg(decompose: Callable, matrix: np.ndarray, **options) -> list[np.ndarray]:
    """Decompose matrices on one thread and return the parts as arrays.

    On a busy machine, threads that wait for each other make small matrices take seconds.

    Parameters
    ----------
    decompose : callable
        Of ``torch.linalg``, such as ``eigh``.
    matrix : ndarray
    **options
        Of ``decompose``.
    """
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return [part.numpy() for part in decompose(torch.as_tensor(matrix), **options)]
    finally:
        torch.set_num_threads(n_threads)
