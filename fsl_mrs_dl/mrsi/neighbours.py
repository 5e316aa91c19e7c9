"""Voxels fitted again from where their neighbours ended."""

from __future__ import annotations

import numpy as np
import torch

from ..core.parallel import parallel_map
from ..fitting import optimise
from .chunks import _fitted, _gathered, _model, _save_chunk
from .job import Job

_NEIGHBOUR_PASSES = 2


class Given:
    """A starter that proposes what it was given.

    Parameters
    ----------
    proposals : tensor ``(n, n_theta)``
        For the spectra it will be called with, in their order; NaN for none, which the first proposal then stands in
        for.
    """

    name = "neighbours"

    def __init__(self, proposals: torch.Tensor):
        self.proposals, self.at = proposals, 0

    def __call__(self, spec, model, names):
        part = self.proposals[self.at : self.at + len(spec)]
        self.at += len(spec)
        return part[:, None]


class _FromNeighbours:
    """Where a voxel ended and where its neighbours did, each to be tried."""

    name = "neighbours"

    def __init__(self, proposals: torch.Tensor):
        self.parts = [Given(proposals[:, i]) for i in range(proposals.shape[1])]

    def for_model(self, model):
        return self


def _from_neighbours(job: Job, number: int, parallel: str, workers: int | None, say) -> int:
    """Fit voxels again whose neighbours ended elsewhere, and keep what is better; how many were."""
    model, names, _ = _model(job)
    theta, cost = _gathered(job, ["theta", "cost"])
    theta = _theta_only(model, theta)
    place = np.full(job.volume.grid, -1).reshape(-1)
    place[job.index] = np.arange(len(job.index))
    around = _neighbours(place.reshape(job.volume.grid))[job.index]
    converged = np.isfinite(cost) & np.isfinite(theta).all(1)
    known = torch.as_tensor(np.where(np.isfinite(theta), theta, 0.0))
    candidates = np.repeat(np.arange(len(theta))[:, None], 7, 1)
    different = np.zeros(len(theta), bool)
    for side in range(6):
        other = around[:, side]
        there = (other >= 0) & converged & np.where(other >= 0, converged[other], False)
        apart = np.zeros(len(theta), bool)
        rows = np.flatnonzero(there)
        apart[rows] = optimise.apart(model, known[rows], known[other[rows]]).cpu().numpy()
        candidates[:, side + 1] = np.where(apart, other, candidates[:, side + 1])
        different |= apart
    rows = np.flatnonzero(different)
    file = job.scratch / f"patch-{number}.npz"
    if not len(rows) or file.is_file():
        return len(rows)
    parts = np.array_split(rows, -(-len(rows) // job.chunk))

    def better_fits(k: int) -> tuple[int, dict]:
        torch.set_num_threads(1)
        found = _fitted(job, job.index[parts[k]], _FromNeighbours(known[candidates[parts[k]]]))
        lower = found["cost"] < cost[parts[k]] * (1 - 1e-6)
        return k, {name: values[..., lower] if name == "spectra" else values[lower] for name, values in found.items()}

    here = workers if parallel != "cluster" else None
    threads = 1 if model.time.device.type != "cpu" else here or torch.get_num_threads()
    kept = [
        found
        for _, found in sorted(
            parallel_map(better_fits, range(len(parts)), threads=threads, ordered=False), key=lambda one: one[0]
        )
    ]
    better = sum(len(found["cost"]) for found in kept)
    joined = {
        name: np.concatenate([one[name] for one in kept], axis=-1 if name == "spectra" else 0) for name in kept[0]
    }
    _save_chunk(job, file, joined)
    say(f"{better} of {len(rows)} voxels whose neighbours ended elsewhere were better fitted from there.")
    return better


def _theta_only(model, values: np.ndarray) -> np.ndarray:
    """All parameters behind the concentrations -> the nonlinear ones, ``sigma`` squared."""
    n = sum(model.theta_sizes.values())
    theta = values[:, :n].copy()
    if model.shape.gaussian:
        at = slice(model.n_groups, 2 * model.n_groups)
        theta[:, at] = theta[:, at] ** 2
    return theta


def _neighbours(place: np.ndarray) -> np.ndarray:
    """What the six neighbours of each voxel hold, ``(n_voxels, 6)``; -1 outside."""
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
