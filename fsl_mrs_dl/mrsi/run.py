"""All chunks of a volume, in threads, processes or on the nodes of a cluster."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing
from functools import partial

import torch

from ..core import device as device_module
from ..core.errors import OptionError
from ..core.parallel import parallel_map
from ..core.workers import check_parallel, cores, is_address, map_in_workers
from .chunks import fit_chunk
from .job import Job
from .neighbours import PASSES, refit_from_neighbours

__all__ = ["fit_all", "workers_for"]


def fit_all(
    job: Job,
    *,
    parallel: str = "off",
    workers: int | None = None,
    progress: Callable[[int], None] | None = None,
    say: Callable[[str], None] = print,
) -> None:
    """Fit every chunk that is not there yet.

    Parameters
    ----------
    job : Job
    parallel : str
        One of :data:`fsl_mrs_dl.core.workers.PARALLEL`, or the address of a scheduler.
    workers : int, optional
        Threads, processes or nodes.
    progress : callable, optional
        Called with the number of voxels that were finished.
    say : callable, optional
        Called with messages.

    Raises
    ------
    OptionError, DataError, OutputError
    """
    finished = set(job.done())
    if progress and finished:
        progress(job.n_voxels(finished))
    chunks = [k for k in range(job.n_chunks) if k not in finished]
    fit = partial(fit_chunk, job)
    if parallel == "off":
        counts = _in_threads(fit, chunks, workers, job.options.device)
    else:
        counts = map_in_workers(fit, chunks, parallel=parallel, workers=workers, say=say)
    # Closed at once after an error, here or in a chunk, and with it whatever it holds.
    with closing(counts):
        for count in counts:
            if progress:
                progress(count)
    if job.volume_options.share_initial_values:
        for number in range(PASSES):
            if not refit_from_neighbours(job, number, parallel=parallel, workers=workers, say=say):
                break


def _in_threads(function: Callable, parts: list, workers: int | None, device: str) -> Generator:
    """Map over parts in this process, in the order in which they are finished."""
    if not parts:
        return
    threads = workers or torch.get_num_threads()
    if device_module.choose_device(device).type != "cpu":
        threads = 1
    yield from parallel_map(function, parts, threads=threads, ordered=False)


_AT_REST_GIB, _CHUNK_GIB = 0.8, 0.3  # memory of a run before anything is fitted, and of each chunk in work


def workers_for(parallel: str, requested: int | None, max_gib: float) -> int | None:
    """Return the number of threads, processes or nodes: as many as there are cores, or fewer where memory is short.

    Raises
    ------
    OptionError
        If the number is not positive, or the memory not enough for one.
    """
    check_parallel(parallel)
    if requested is not None and requested < 1:
        raise OptionError("must be at least 1", option="parallel_workers", value=requested)
    if parallel == "cluster" or is_address(parallel):
        return requested
    if not max_gib >= _AT_REST_GIB + _CHUNK_GIB:
        raise OptionError(
            "is too little",
            option="max_memory",
            value=f"{max_gib:g}",
            remedy=f"{_AT_REST_GIB + _CHUNK_GIB:.1f} GiB are needed",
        )
    at_rest, each = (0.0, _AT_REST_GIB + _CHUNK_GIB) if parallel == "local" else (_AT_REST_GIB, _CHUNK_GIB)
    most = int((max_gib - at_rest) / each)
    return max(1, min(requested or cores(), most))
