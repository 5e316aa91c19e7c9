"""Voxels fitted again from their neighbours' parameters."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from ..core.parallel import parallel_map
from ..fitting import optimise
from .chunks import fit_voxels, gather, model_of, save_chunk
from .job import Job

__all__ = ["PASSES", "FixedInitialValues", "refit_from_neighbours"]

PASSES = 2
"""Most passes over the volume."""


class FixedInitialValues:
    """Initial values that were chosen beforehand.

    Parameters
    ----------
    proposals : tensor ``(n, n_theta)``
        For the spectra of the calls to come, in their order.
    """

    name = "neighbours"

    def __init__(self, proposals: torch.Tensor):
        self.proposals, self.position = proposals, 0

    def __call__(self, spec, model, names):
        """Return the proposals of the next spectra, ``(len(spec), 1, n_theta)``."""
        part = self.proposals[self.position : self.position + len(spec)]
        self.position += len(spec)
        return part[:, None]


class _NeighboursInitialValues:
    """Parameters of a voxel and of its neighbours, each of them a part that the fit tries."""

    name = "neighbours"

    def __init__(self, proposals: torch.Tensor):
        self.parts = [FixedInitialValues(proposals[:, i]) for i in range(proposals.shape[1])]

    def for_model(self, model):
        return self


def refit_from_neighbours(
    job: Job, number: int, *, parallel: str, workers: int | None, say: Callable[[str], None]
) -> int:
    """Fit voxels again whose neighbours' parameters differ, and keep the better fits.

    Parameters
    ----------
    job : Job
        With every chunk done.
    number : int
        Of the pass.
    parallel, workers, say
        As for :func:`fsl_mrs_dl.mrsi.run.fit_all`.

    Returns
    -------
    int
        Number of voxels that fit better; of a pass that was done before, of those with other neighbours.
    """
    model = model_of(job).model
    theta, cost = gather(job, ["theta", "cost"])
    theta = _nonlinear_parameters(model, theta)
    finite = torch.as_tensor(np.where(np.isfinite(theta), theta, 0.0))
    candidates = _candidates(job, model, finite, np.isfinite(cost) & np.isfinite(theta).all(1))
    rows = np.flatnonzero((candidates != candidates[:, :1]).any(1))
    file = job.scratch / f"patch-{number}.npz"
    if not len(rows) or file.is_file():
        return len(rows)
    parts = np.array_split(rows, -(-len(rows) // job.chunk))

    def better_fits(k: int) -> tuple[int, dict]:
        torch.set_num_threads(1)
        fits = fit_voxels(job, job.index[parts[k]], _NeighboursInitialValues(finite[candidates[parts[k]]]))
        lower = fits["cost"] < cost[parts[k]] * (1 - 1e-6)
        return k, {name: values[..., lower] if name == "spectra" else values[lower] for name, values in fits.items()}

    here = workers if parallel != "cluster" else None
    threads = 1 if model.time.device.type != "cpu" else here or torch.get_num_threads()
    finished = parallel_map(better_fits, range(len(parts)), threads=threads, ordered=False)
    improved = [fits for _, fits in sorted(finished, key=lambda part: part[0])]
    better = sum(len(fits["cost"]) for fits in improved)
    save_chunk(
        job,
        file,
        {
            name: np.concatenate([fits[name] for fits in improved], axis=-1 if name == "spectra" else 0)
            for name in improved[0]
        },
    )
    say(f"{better} of {len(rows)} voxels whose neighbours have other parameters fit better with those.")
    return better


def _candidates(job: Job, model, theta: torch.Tensor, converged: np.ndarray) -> np.ndarray:
    """Return the rows whose parameters each voxel is fitted from, int ``(n, 7)``: its own first, then those of its
    neighbours that differ, its own again in place of the others."""
    place = np.full(job.volume.grid, -1).reshape(-1)
    place[job.index] = np.arange(len(job.index))
    around = _neighbours(place.reshape(job.volume.grid))[job.index]
    candidates = np.repeat(np.arange(len(theta))[:, None], 7, 1)
    for side in range(6):
        other = around[:, side]
        there = (other >= 0) & converged & np.where(other >= 0, converged[other], False)
        rows = np.flatnonzero(there)
        differ = optimise.differ(model, theta[rows], theta[other[rows]]).cpu().numpy()
        rows = rows[differ]
        candidates[rows, side + 1] = other[rows]
    return candidates


def _nonlinear_parameters(model, values: np.ndarray) -> np.ndarray:
    """Turn all parameters behind the concentrations into the nonlinear ones, ``sigma`` squared."""
    n = sum(model.theta_sizes.values())
    theta = values[:, :n].copy()
    if model.shape.gaussian:
        at = slice(model.n_groups, 2 * model.n_groups)
        theta[:, at] = theta[:, at] ** 2
    return theta


def _neighbours(place: np.ndarray) -> np.ndarray:
    """Return what the six neighbours of each voxel hold, ``(n_voxels, 6)``; -1 outside."""
    padded = np.pad(place, 1, constant_values=-1)
    sides = [
        padded[2:, 1:-1, 1:-1],
        padded[:-2, 1:-1, 1:-1],
        padded[1:-1, 2:, 1:-1],
        padded[1:-1, :-2, 1:-1],
        padded[1:-1, 1:-1, 2:],
        padded[1:-1, 1:-1, :-2],
    ]
    return np.stack([side.reshape(-1) for side in sides], 1)
