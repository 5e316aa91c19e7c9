"""Batches for trainings: simulated anew at every step, or drawn from a fixed set of spectra."""

from __future__ import annotations

from collections.abc import Callable

import torch

from ..core.axes import Axes
from ..core.errors import DataError
from ..simulation import protocols as protocols_module

__all__ = ["BatchStream", "batches_from", "fixed_set", "protocol_for", "seeded", "split_usable"]


def seeded(seed: int, index: int) -> torch.Generator:
    """Return the generator of batch ``index`` of a training with this seed."""
    return torch.Generator().manual_seed(seed * 1_000_003 + index)


class BatchStream(torch.utils.data.IterableDataset):
    """Batches ``first(), first() + 1, ...``, each from a generator of its own.

    Parameters
    ----------
    make : callable
        ``make(generator)`` returns a batch.
    seed : int
    first : callable
        Returns the index of the first batch when the iteration begins.
    n : int, optional
        Number of batches; endless by default.
    """

    def __init__(self, make: Callable, seed: int, first: Callable[[], int], n: int | None = None):
        self.make, self.seed, self.first, self.n = make, seed, first, n

    def __iter__(self):
        index = self.first()
        last = None if self.n is None else index + self.n
        while last is None or index < last:
            yield self.make(seeded(self.seed, index))
            index += 1


def protocol_for(basis, dwelltime: float, n_points: int) -> protocols_module.Protocol:
    """Return a basis set on the data's grid, with FIDs as long as those whose first ``n_points`` a network takes."""
    # An SNR is that of the whole spectrum; the network takes the beginning of the FID.
    whole = min(2 * n_points, int(basis.n_points * basis.dwelltime / dwelltime + 1e-6))
    axes = Axes(max(n_points, whole), dwelltime, basis.spec_freq_mhz)
    return protocols_module.protocol_of(basis.resampled(axes.dwelltime, axes.n_points), basis.names, axes)


def fixed_set(
    make: Callable, n_signals: int, batch_size: int, seed: int, n_points: int, teach: Callable | None = None
) -> tuple[dict, dict]:
    """Simulate a set of spectra and return nine tenths to train on and one tenth to hold back.

    Parameters
    ----------
    make : callable
        ``make(generator)`` returns a batch of ``batch_size`` as a dictionary of tensors.
    n_signals : int
        Spectra of the set.
    batch_size, seed : int
    n_points : int
        Points of the FIDs that are kept.
    teach : callable, optional
        See :func:`fsl_mrs_dl.training.teacher.fitted_targets`; adds ``target`` and ``spread``.
    """
    batches, spread = [], {}
    for index in range(-(-n_signals // batch_size)):
        batch = make(seeded(seed, 5_000_000 + index))
        if teach is None and "fid" in batch:
            batch["fid"] = batch["fid"][:, :n_points].clone()
        batches.append(batch)
    whole = {key: torch.cat([batch[key] for batch in batches])[:n_signals] for key in batches[0]}
    if teach is not None:
        whole["target"], spread["spread"] = teach(whole["fid"])
        whole["fid"] = whole["fid"][:, :n_points].clone()
    n_held = max(1, n_signals // 10)
    used, held = (
        {key: values[rows] for key, values in whole.items()} | spread
        for rows in (slice(n_held, None), slice(0, n_held))
    )
    return used, held


def batches_from(part: dict, batch_size: int) -> Callable:
    """Return a function ``make(generator)`` that draws batches from one part of :func:`fixed_set`."""

    def make(generator):
        size = next(len(values) for key, values in part.items() if key != "spread")
        chosen = torch.randint(size, (batch_size,), generator=generator)
        return {key: values if key == "spread" else values[chosen] for key, values in part.items()}

    return make


def split_usable(fids, seed: int, source: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the usable FIDs to train on, and one in ten, at least one, to hold back.

    Parameters
    ----------
    fids : complex array ``(n, n_points)``
        FIDs that are all zero or hold numbers that are not finite are left out.
    seed : int
    source : str
        Name of the data in errors.

    Raises
    ------
    DataError
        Where fewer than four FIDs are usable.
    """
    fids = torch.as_tensor(fids).to(torch.complex64)
    fids = fids[torch.isfinite(torch.view_as_real(fids)).all((-1, -2)) & (fids != 0).any(-1)]
    if len(fids) < 4:
        raise DataError(f"{source}: holds {len(fids)} usable FIDs, training needs 4 at least; give more files.")
    shuffled = torch.randperm(len(fids), generator=torch.Generator().manual_seed(seed))
    n_held = max(1, len(fids) // 10)
    return fids[shuffled[n_held:]], fids[shuffled[:n_held]]
