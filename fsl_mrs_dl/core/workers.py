"""Processes of this machine, the nodes of a cluster, or a scheduler that runs already: one map over them, by dask."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

from .errors import OptionError

__all__ = ["PARALLEL", "check_parallel", "cores", "is_address", "map_in_workers"]

PARALLEL = ("off", "local", "cluster")
"""Where parts are computed: in this process, in several of this machine, or on a cluster; besides these the address of
a dask scheduler, such as ``tcp://10.0.0.1:8786``."""


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def is_address(parallel: str) -> bool:
    """Tell whether a place is the address of a scheduler."""
    return "://" in parallel


def check_parallel(parallel: str) -> None:
    """Raise OptionError unless a place is one of :data:`PARALLEL` or the address of a scheduler."""
    if parallel not in PARALLEL and not is_address(parallel):
        raise OptionError(
            "there is no such thing",
            option="parallel",
            value=parallel,
            remedy=f"choose one of {', '.join(PARALLEL)}, or give the address of a dask scheduler (tcp://HOST:PORT)",
        )


def map_in_workers(
    function: Callable,
    parts: Sequence,
    *,
    parallel: str,
    workers: int | None,
    say: Callable[[str], None],
    doing: str = "Fitting {n} chunks",
    failed: Callable[[Any, Exception], Any] | None = None,
    scratch: Path | None = None,
) -> Generator:
    """Map over parts in other processes, in the order in which they are finished.

    Parameters
    ----------
    function : callable
    parts : sequence
    parallel : str
        'local', 'cluster', or the address of a scheduler.
    workers : int, optional
        Processes or nodes.
    say : callable
        Called with messages.
    doing : str
        Beginning of the message, with ``{n}`` for the number of parts.
    failed : callable, optional
        Result of a part from the part and the exception that it ended with, also where its process was killed; by
        default the exception is raised.
    scratch : path, optional
        Folder for dask's own files; the system's temporary one by default.

    Raises
    ------
    OptionError
        If dask is not installed, or no cluster or scheduler can be used.
    """
    if not parts:
        return
    try:
        from dask.distributed import as_completed
    except ImportError as exc:
        raise OptionError(
            f"needs dask ({exc})",
            option="parallel",
            value=parallel,
            remedy="pip install '.[parallel]' in a copy of the repository, or leave `parallel` out",
        ) from exc
    with _client(parallel, workers, len(parts), say, doing.format(n=len(parts)), scratch) as client:
        futures = client.map(function, parts, pure=False)
        part_of = {future.key: part for future, part in zip(futures, parts)} if failed else {}
        for future in as_completed(futures):
            try:
                result = future.result()
            except Exception as exc:
                if failed is None:
                    raise
                result = failed(part_of[future.key], exc)
            yield result


@contextmanager
def _client(
    parallel: str, workers: int | None, n_parts: int, say: Callable, doing: str, scratch: Path | None
) -> Iterator:
    """Open a client; processes and nodes that were started for it are closed in the end, whatever happens."""
    from dask.distributed import Client

    with ExitStack() as stack:
        if is_address(parallel):
            client = stack.enter_context(_client_of(parallel))
            say(f"{doing} with the scheduler {parallel}.")
        elif parallel == "cluster":
            nodes = workers or 2
            cluster = stack.enter_context(closing(_slurm_cluster()))
            cluster.scale(nodes)
            client = stack.enter_context(Client(cluster))
            say(f"{doing} on {nodes} nodes.")
        else:
            processes = min(workers or os.cpu_count() or 1, n_parts)
            folder = {} if scratch is None else {"local_directory": str(scratch)}
            # Workers that end late are ended by dask, which is no fault of the user's.
            logging.getLogger("distributed.nanny").setLevel(logging.ERROR)
            client = stack.enter_context(
                Client(n_workers=processes, threads_per_worker=1, dashboard_address=":0", **folder)
            )
            say(f"{doing}, {processes} at a time.")
        yield client


def _client_of(address: str):
    """Return a client of a scheduler that runs already."""
    from dask.distributed import Client

    try:
        return Client(address, timeout=30)
    except (OSError, ValueError, TypeError) as exc:
        raise OptionError(
            f"no scheduler answers there ({str(exc) or type(exc).__name__})",
            option="parallel",
            value=address,
            remedy="start one with 'dask scheduler', or choose local",
        ) from exc


def _slurm_cluster():
    """Return a cluster as FSL-MRS requests one: SLURM, configured under the name 'fsl_mrsi'; no node of it runs yet."""
    try:
        from dask import config
        from dask_jobqueue.slurm import SLURMCluster
    except ImportError as exc:
        raise OptionError(
            f"needs dask-jobqueue ({exc})",
            option="parallel",
            value="cluster",
            remedy="pip install '.[parallel]' in a copy of the repository",
        ) from exc
    own = config.get("jobqueue.fsl_mrsi", None)
    if isinstance(own, dict):
        # Versions of dask-jobqueue add settings that a configuration must have: those missing are SLURM's usual ones.
        usual = config.get("jobqueue.slurm", {})
        whole = usual | {name.replace("_", "-"): value for name, value in own.items()}
        config.set({"jobqueue.fsl_mrsi": whole})
    try:
        return SLURMCluster(config_name="fsl_mrsi")
    except (ValueError, KeyError, TypeError) as exc:
        raise OptionError(
            f"dask-jobqueue has no configuration 'fsl_mrsi' that it can use ({exc})",
            option="parallel",
            value="cluster",
            remedy="FSL-MRS's documentation says how to make one",
        ) from exc
