"""All chunks of a volume, in threads, processes or on the nodes of a cluster."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial

import torch

from ..core import device as device_module
from ..core.errors import OptionError
from ..core.parallel import parallel_map
from .chunks import fit_chunk
from .job import Job
from .neighbours import PASSES, refit_from_neighbours

__all__ = ["PARALLEL", "fit_all", "workers_for"]

PARALLEL = ("off", "local", "cluster")
"""Where chunks are fitted: in this process, in several of this machine, or on a cluster."""


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
        One of :data:`PARALLEL`.
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
        counts = _in_processes(fit, chunks, parallel, workers, say)
    # Closed at once after an error, here or in a chunk, and with it whatever it holds.
    with closing(counts):
        for count in counts:
            if progress:
                progress(count)
    if job.volume_options.share_initial_values:
        for number in range(PASSES):
            if not refit_from_neighbours(job, number, parallel=parallel, workers=workers, say=say):
                break


def _in_threads(function: Callable, parts: list, workers: int | None, device: str) -> Iterator:
    """Map over parts in this process, in the order in which they are finished."""
    if not parts:
        return
    threads = workers or torch.get_num_threads()
    if device_module.choose_device(device).type != "cpu":
        threads = 1
    yield from parallel_map(function, parts, threads=threads, ordered=False)


def _in_processes(function: Callable, parts: list, parallel: str, workers: int | None, say: Callable) -> Iterator:
    """Map over parts in other processes, in the order in which they are finished."""
    if not parts:
        return
    try:
        from dask.distributed import as_completed
    except ImportError as exc:
        raise OptionError(
            f"needs dask ({exc})",
            option="parallel",
            value=parallel,
            remedy="pip install 'fsl-mrs-dl[parallel]', or leave `parallel` out",
        ) from exc
    with _dask_client(parallel, workers, len(parts), say) as client:
        for future in as_completed(client.map(function, parts, pure=False)):
            yield future.result()


@contextmanager
def _dask_client(parallel: str, workers: int | None, n_parts: int, say: Callable) -> Iterator:
    """Open a client of local processes or of a cluster; both are closed in the end, whatever happens."""
    from dask.distributed import Client

    with ExitStack() as stack:
        if parallel == "cluster":
            nodes = workers or 2
            cluster = stack.enter_context(closing(_slurm_cluster()))
            cluster.scale(nodes)
            client = stack.enter_context(Client(cluster))
            say(f"Fitting {n_parts} chunks on {nodes} nodes.")
        else:
            processes = min(workers or os.cpu_count() or 1, n_parts)
            client = stack.enter_context(Client(n_workers=processes, threads_per_worker=1, dashboard_address=":0"))
            say(f"Fitting {n_parts} chunks, {processes} at a time.")
        yield client


def _slurm_cluster():
    """Return a cluster as FSL-MRS asks for one: SLURM, configured under the name 'fsl_mrsi'; no node of it runs yet."""
    try:
        from dask_jobqueue.slurm import SLURMCluster
    except ImportError as exc:
        raise OptionError(
            f"needs dask-jobqueue ({exc})",
            option="parallel",
            value="cluster",
            remedy="pip install 'fsl-mrs-dl[parallel]'",
        ) from exc
    try:
        return SLURMCluster(config_name="fsl_mrsi")
    except (ValueError, KeyError, TypeError) as exc:
        raise OptionError(
            f"dask-jobqueue has no configuration 'fsl_mrsi' that it can use ({exc})",
            option="parallel",
            value="cluster",
            remedy="FSL-MRS's documentation says how to make one",
        ) from exc


_AT_REST_GIB, _CHUNK_GIB = 0.8, 0.3  # memory of a run before anything is fitted, and of each chunk in work


def workers_for(parallel: str, requested: int | None, max_gib: float) -> int | None:
    """Return the number of threads, processes or nodes: as many as there are cores, or fewer where memory is short.

    Raises
    ------
    OptionError
        If the number is not positive, or the memory not enough for one.
    """
    if parallel not in PARALLEL:
        raise OptionError(
            "there is no such thing", option="parallel", value=parallel, remedy=f"choose one of {', '.join(PARALLEL)}"
        )
    if requested is not None and requested < 1:
        raise OptionError("must be at least 1", option="parallel_workers", value=requested)
    if parallel == "cluster":
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
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(requested or cores, most))
