"""Batches for trainings: simulated anew at every step, or drawn from measured spectra."""

from __future__ import annotations

from collections.abc import Callable

import torch

from ..core.axes import Axes
from ..core.errors import DataError
from ..simulation import protocols as protocols_module


class _Stream(torch.utils.data.IterableDataset):
    """Batches ``first(), first() + 1, ...``, each from a generator of its own; ``make(generator)`` makes one."""

    def __init__(self, make: Callable, seed: int, first: Callable[[], int], n: int | None = None):
        self.make, self.seed, self.first, self.n = make, seed, first, n

    def __iter__(self):
        index = self.first()
        last = None if self.n is None else index + self.n
        while last is None or index < last:
            yield self.make(torch.Generator().manual_seed(self.seed * 1_000_003 + index))
            index += 1


def _protocol_for(basis, dwelltime: float, n_points: int) -> protocols_module.Protocol:
    """A basis set on the data's grid, as long as its spectra are that networks see ``n_points`` of."""
    # An SNR is that of the whole spectrum, of which the network sees the beginning.
    whole = min(2 * n_points, int(basis.n_points * basis.dwelltime / dwelltime + 1e-6))
    axes = Axes(max(n_points, whole), dwelltime, basis.spec_freq_mhz)
    return protocols_module.protocol_of(basis.resampled(axes.dwelltime, axes.n_points), basis.names, axes)


def _kept(
    made: Callable, n_signals: int, n: int, seed: int, n_points: int, teach: Callable | None = None
) -> tuple[dict, dict]:
    """A set of simulated spectra, nine tenths to train on and one to hold back."""
    parts, spread = [], {}
    for k in range(-(-n_signals // n)):
        part = made(torch.Generator().manual_seed(seed * 1_000_003 + 5_000_000 + k))
        if teach is None and "fid" in part:
            part["fid"] = part["fid"][:, :n_points].clone()  # all that the network sees of it
        parts.append(part)
    whole = {key: torch.cat([part[key] for part in parts])[:n_signals] for key in parts[0]}
    if teach is not None:
        whole["target"], spread["spread"] = teach(whole["fid"])
        whole["fid"] = whole["fid"][:, :n_points].clone()
    n_held = max(1, n_signals // 10)
    return tuple(
        {key: values[rows] for key, values in whole.items()} | spread
        for rows in (slice(n_held, None), slice(0, n_held))
    )


def _batches_of(part: dict, n: int) -> Callable:
    """Makes batches out of one of these."""

    def make(generator):
        size = next(len(values) for key, values in part.items() if key != "spread")
        chosen = torch.randint(size, (n,), generator=generator)
        return {key: values if key == "spread" else values[chosen] for key, values in part.items()}

    return make


def _used_and_held(fids, seed: int, source: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Usable FIDs to train on, and one in ten, at least one, that is held back."""
    fids = torch.as_tensor(fids).to(torch.complex64)
    fids = fids[torch.isfinite(torch.view_as_real(fids)).all((-1, -2)) & (fids != 0).any(-1)]
    if len(fids) < 4:
        raise DataError(f"{source}: holds {len(fids)} usable FIDs, training needs 4 at least; give more files.")
    shuffled = torch.randperm(len(fids), generator=torch.Generator().manual_seed(seed))
    n_held = max(1, len(fids) // 10)
    return fids[shuffled[n_held:]], fids[shuffled[:n_held]]
