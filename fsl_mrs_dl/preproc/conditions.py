"""Edit conditions that lie in the dimension of transients, recognised by the order in which spectra differ.

A file may hold the transients of several edit conditions in one dimension: by halves, in turn, or in steps of four.
Two conditions differ by a spectrum of their own, present in some transients and absent from the others.  Drift and
motion change transients gradually, or once, and all lines alike.  So changes common to all lines (amplitude, phase,
shift and width: the mean FID times powers of time) are removed from the aligned transients, and the remainder is
compared with the orders that scanners use.  Products of different transients have no noise in their mean.

Phase cycles have such orders, too, and spurious echoes follow them.  Their energy is small, and regions that an
alignment left out do not count.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ..core.axes import Axes
from ..core.errors import OptionError
from ..core.transients import apply_shift_phase
from ..io.nifti import MrsData, divided
from ..registration.alignment import Alignment
from .coherence import regions_of, usable_transients
from .options import AlignOptions

__all__ = ["ORDERS", "Conditions", "declared_conditions", "find_conditions", "labels_of_order"]

ORDERS = {
    "halves": ("the first half, then the second", None),
    "alternating": ("in turn", "AB"),
    "AABB": ("two by two", "AABB"),
    "ABBA": ("in steps of four", "ABBA"),
    "four-step": ("in steps of four", "ABCD"),
}
"""Orders of conditions along a dimension: in words, and the pattern that repeats."""

_FEWEST = 8  # transients
_POWERS = 4  # of time, times the mean FID: changes common to all lines
_LEAST_SHARE = 0.04  # of the energy of the mean that the difference of two conditions has
_SURE = 8.0  # standard errors of the difference's energy
_SHARP = 12.0  # in twice the log likelihood, that a step is better than a smooth course
_MOST_SLOPE = 0.1  # of a step's energy that a course within the halves may have
_APART = 0.8  # of the spread of transients along the difference, that they lie from the middle
_MOST_SETS, _MOST_TRANSIENTS = 16, 4096  # beyond, products would take longer than the alignment
_PAIRS = {"alternating": "AB", "AABB": "AABB", "ABBA": "ABBA"}


@dataclass(frozen=True)
class Conditions:
    """Conditions found along the dimension of transients.

    Attributes
    ----------
    order : str
        Key of :data:`ORDERS`.
    share : float
        Energy of the difference between conditions over that of the mean.
    """

    order: str
    share: float

    @property
    def n(self) -> int:
        """Number of conditions."""
        return n_conditions(self.order)

    def __str__(self) -> str:
        words, pattern = ORDERS[self.order]
        return f"{'four' if self.n == 4 else 'two'} conditions, {words}" + (f" ({pattern})" if pattern else "")


def n_conditions(order: str) -> int:
    """Return the number of conditions of an order."""
    return len(set(ORDERS[order][1] or "AB"))


def labels_of_order(order: str, n: int) -> np.ndarray:
    """Return the condition of each of ``n`` transients, ``(n,)`` from 0."""
    number, pattern = np.arange(n), ORDERS[order][1]
    if pattern is None:
        return number * 2 // n
    return np.array([ord(letter) - ord("A") for letter in pattern])[number % len(pattern)]


def declared_conditions(data: MrsData, options: AlignOptions) -> MrsData:
    """Return data whose edit conditions, declared by ``options.edit_order``, have a dimension of their own.

    Raises
    ------
    OptionError
        If there is no such order.
    DataError
        If the transients do not divide into it, or the file has no room for another dimension.
    """
    order = options.edit_order
    if order not in ORDERS:
        raise OptionError(
            "there is no such order", option="edit_order", value=order, remedy=f"choose from {', '.join(ORDERS)}"
        )
    n = data.fids.shape[data.axis(options.dim)]
    return divided(data, options.dim, labels_of_order(order, n), options.edit_dim or "DIM_EDIT")


def find_conditions(
    fids: np.ndarray,
    noise: np.ndarray,
    alignment: Alignment,
    axes: Axes,
    ppmlim: tuple[float, float] | None,
    left_out: dict[int, tuple],
) -> Conditions | None:
    """Return the conditions along the dimension of transients; None for a single one.

    Parameters
    ----------
    fids : complex array, shape (n_sets, n_channels, n_transients, n_points)
        In the order of acquisition. All sets have the same order.
    noise : ndarray, shape (n_sets, n_channels, n_transients)
        As :func:`fsl_mrs_dl.preproc.coherence.measure_noise` returns it.
    alignment : Alignment
        Of the same.
    axes : Axes
    ppmlim : (float, float) or None
        Window that counts.
    left_out : dict of tuples of ForeignRegion, by number of the set
        Regions that do not count.
    """
    n, regions = fids.shape[2], regions_of(fids, axes, ppmlim)
    if not _FEWEST <= n <= _MOST_TRANSIENTS or len(fids) > _MOST_SETS or not regions.window.any():
        return None
    gram, energy, pairs = np.zeros((n, n)), 0.0, np.zeros((n, n))
    for index, one in enumerate(fids):
        used = np.flatnonzero(usable_transients(alignment, index, one))
        if len(used) < _FEWEST:
            continue
        inside = regions.window.copy()
        for region in left_out.get(index, ()):
            inside &= ~((regions.ppm >= region.low) & (regions.ppm < region.high))
        shift, phase = alignment.shift_hz[index, used], alignment.phase_deg[index, used]
        moved = apply_shift_phase(one[:, used, : len(regions.weight)], shift, phase, axes.dwelltime)
        products, of_mean = _products(moved, noise[index][:, used], regions.weight, inside)
        place = np.ix_(used, used)
        gram[place] += products
        pairs[place] += 1
        energy += of_mean
    compared = pairs.diagonal() > 0
    if compared.sum() < _FEWEST or not energy > 0:
        return None
    np.fill_diagonal(gram, 0.0)
    return _order_of(gram[np.ix_(compared, compared)], np.flatnonzero(compared), n, energy)


def _products(fids, noise, weight, inside) -> tuple[np.ndarray, float]:
    """Return the products ``(n, n)`` of transients' deviations from their mean, without changes common to all lines,
    and the energy of the mean, in units of the channels' noise."""
    n, m = fids.shape[1], len(weight)
    usual = np.maximum(np.median(noise, axis=1), max(1e-9 * float(np.abs(fids[..., 0]).max()), np.finfo(float).tiny))
    scaled = fids[..., :m] * (weight / usual[:, None, None])
    mean = scaled.mean(1)
    common = mean[:, None] * np.linspace(0, 1, m) ** np.arange(_POWERS)[:, None]

    def spectra(x):
        x = torch.fft.fftshift(torch.fft.fft(torch.as_tensor(x, dtype=torch.complex64)), dim=-1).numpy()[..., inside]
        return x.swapaxes(0, 1).reshape(x.shape[1], -1) / np.sqrt((weight**2).sum())

    each, common = spectra(scaled), spectra(common)
    of_mean = each.mean(0)
    directions, _ = np.linalg.qr(common.T)
    each = each - of_mean
    each -= (each @ directions.conj()) @ directions.T
    own = float((np.abs(each) ** 2).sum()) / (n * (n - 1))  # energy of the noise of the mean
    return (each @ each.conj().T).real, float((np.abs(of_mean) ** 2).sum()) - own


def _order_of(gram: np.ndarray, places: np.ndarray, n: int, energy: float) -> Conditions | None:
    """Return the order of the conditions that products ``(n_used, n_used)`` of deviations show."""
    shares = {}
    for order in ("halves", *_PAIRS):
        signs = 1.0 - 2.0 * labels_of_order(order, n)[places]
        signs -= signs.mean()
        scores = gram @ signs / len(signs)
        agree = scores * np.sign(signs)
        # Of four conditions each lies elsewhere along this difference.
        group = np.zeros_like(places) if order == "halves" else places % 4
        spread = np.sqrt(np.mean([agree[group == one].var() for one in np.unique(group)]))
        share = 4 * float((scores * signs).mean()) / energy
        if (
            share > _LEAST_SHARE
            and agree.mean() > spread * max(_SURE / np.sqrt(len(agree)), _APART)
            and (order != "halves" or _is_one_step(scores, places, n))
        ):
            shares[order] = share
    in_turn = [order for order in shares if order != "halves"]
    if len(in_turn) > 1:
        return Conditions("four-step", sum(shares[order] for order in in_turn))
    best = max(shares, key=lambda order: shares[order], default=None)
    return None if best is None else Conditions(best, shares[best])


def _is_one_step(course: np.ndarray, places: np.ndarray, n: int) -> bool:
    """Tell whether transients change by one step in the middle, neither gradually nor elsewhere."""

    def misfit(columns) -> float:
        design = np.stack([np.ones(len(course)), *columns], axis=1)
        return float(((course - design @ np.linalg.lstsq(design, course, rcond=None)[0]) ** 2).sum())

    steps = {at: misfit([places >= at]) for at in places[2:-1]}
    at = min(steps, key=lambda place: steps[place])
    middle = misfit([places >= n / 2])
    x = np.linspace(-1, 1, len(course))
    smooth = misfit([x, x**2, x**3])
    halves = (places < n / 2).astype(float)
    sloped = misfit([1 - halves, x * halves, x * (1 - halves)])
    near = abs(at - n / 2) <= max(1, 0.02 * n)
    tiny = np.finfo(float).tiny
    sharp = len(course) * np.log((smooth + tiny) / (middle + tiny)) > _SHARP
    return bool(near and sharp and middle - sloped < _MOST_SLOPE * (misfit([]) - middle))
