"""All chunks of a volume, in threads, processes or on the nodes of a cluster."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial

import torch

from ..core import device as device_module
from ..core.errors import OptionError
from ..core.parallel import parallel_map
from .chunks import fit_chunk
from .job import Job
from .neighbours import _NEIGHBOUR_PASSES, _from_neighbours

__all__ = ["PARALLEL", "fit_all"]


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

    Raises
    ------
    OptionError, DataError, OutputError
    """
    done = set(job.done())
    if progress and done:
        progress(sum(job.rows(k).stop - job.rows(k).start for k in done))
    left = [k for k in range(job.n_chunks) if k not in done]
    for finished in _mapped(partial(fit_chunk, job), left, parallel, workers, say, job.settings.dl.device):
        if progress:
            progress(finished)
    if job.settings.share_starts:
        for number in range(_NEIGHBOUR_PASSES):
            if not _from_neighbours(job, number, parallel, workers, say):
                break


def _mapped(function, parts: list, parallel: str, workers: int | None, say, device: str) -> Iterator[int]:
    """``map`` in whatever order parts are finished."""
    if not parts:
        return
    if parallel == "off":
        threads = workers or torch.get_num_threads()
        yield from parallel_map(
            function, parts, threads=1 if device_module.choose_device(device).type != "cpu" else threads, ordered=False
        )
        return
    try:
        from dask.distributed import Client, as_completed
    except ImportError as exc:
        raise OptionError(
            f"--parallel {parallel}: needs dask ({exc}); pip install 'fsl-mrs-dl[parallel]', or leave --parallel out."
        ) from exc
    cluster = _cluster(workers or 2) if parallel == "cluster" else None
    n_workers = min(workers or os.cpu_count() or 1, len(parts))
    client = (
        Client(cluster)
        if cluster is not None
        else Client(n_workers=n_workers, threads_per_worker=1, dashboard_address=None)
    )
    with client:
        say(
            f"Fitting {len(parts)} chunks on {workers or 2} nodes."
            if cluster is not None
            else f"Fitting {len(parts)} chunks, {n_workers} at a time."
        )
        for future in as_completed(client.map(function, parts, pure=False)):
            yield future.result()
    if cluster is not None:
        cluster.close()


def _cluster(workers: int):
    """Nodes of a cluster as FSL-MRS asks for them: SLURM, configured under the name 'fsl_mrsi'."""
    try:
        from dask_jobqueue.slurm import SLURMCluster
    except ImportError as exc:
        raise OptionError(
            f"--parallel cluster: needs dask-jobqueue ({exc}); pip install 'fsl-mrs-dl[parallel]'."
        ) from exc
    try:
        cluster = SLURMCluster(config_name="fsl_mrsi")
    except (ValueError, KeyError, TypeError) as exc:
        raise OptionError(
            f"--parallel cluster: dask-jobqueue has no configuration 'fsl_mrsi' that it can use ({exc}); FSL-MRS's"
            " documentation says how to make one."
        ) from exc
    cluster.scale(workers)
    return cluster


_AT_REST, _EACH = 0.8, 0.3


"""Memory (GiB) of a run before anything is fitted, and of each chunk that is being fitted."""


def workers_for(parallel: str, asked: int | None, most_gib: float) -> int | None:
    """Number of threads, processes or nodes; as many as there are cores, or fewer where memory is short.

    Raises
    ------
    OptionError
        If the number is not positive, or the memory not enough for one.
    """
    if parallel not in PARALLEL:
        raise OptionError(f"--parallel {parallel}: there is no such thing; choose one of {', '.join(PARALLEL)}.")
    if asked is not None and asked < 1:
        raise OptionError(f"--parallel-workers {asked}: must be at least 1.")
    if parallel == "cluster":
        return asked
    at_rest, each = (0.0, _AT_REST + _EACH) if parallel == "local" else (_AT_REST, _EACH)
    if not most_gib >= _AT_REST + _EACH:
        raise OptionError(f"--max-memory {most_gib:g}: is too little; {_AT_REST + _EACH:.1f} GiB are needed.")
    most = int((most_gib - at_rest) / each)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    wanted = asked or cores
    return max(1, min(wanted, most))
