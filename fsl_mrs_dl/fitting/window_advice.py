"""Fitted windows that leave a signal out which is not of metabolites, for remedies."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

__all__ = ["Window", "below_tail", "common_window", "rounded", "window_in_words", "window_without"]

_LINES_PPM = (1.85, 3.35)  # of NAA, creatine and choline, which stay in a window
_STEP_PPM = 0.05
_ENDS_PPM = (4.1, 4.0, 3.85, 3.7, 3.6, 3.5, 3.4)
"""Upper ends of windows that are tried below a tail; 3.85 ppm is below the CH2 of creatine."""

Window = tuple[float, float]
"""Lower and upper limit in ppm."""


def window_without(window: Window, low: float, high: float) -> Window | None:
    """Return the window that leaves out the signal between two chemical shifts; None where it lies among the lines of
    NAA, creatine and choline, or outside of the window.

    >>> window_without((0.2, 4.2), 3.52, 3.9)
    (0.2, 3.5)
    >>> window_without((0.2, 4.2), 1.1, 1.5)
    (1.5, 4.2)
    >>> window_without((0.2, 4.2), 2.4, 2.6)
    """
    bottom, top = sorted(window)
    if high <= bottom or low >= top:
        return None
    ends = rounded(low, math.floor), rounded(high, math.ceil)
    if ends[0] >= _LINES_PPM[1] and bottom < _LINES_PPM[0]:
        return bottom, ends[0]
    if ends[1] <= _LINES_PPM[0] and top > _LINES_PPM[1]:
        return ends[1], top
    return None


def rounded(ppm: float, to: Callable[[float], int] = round) -> float:
    """Return a limit on a grid of 0.05 ppm."""
    # One that is there already must not move by an error of floating point.
    return round(to(round(ppm / _STEP_PPM, 6)) * _STEP_PPM, 2)


def below_tail(window: Window, ppm: np.ndarray, size: np.ndarray, most: float) -> Window | None:
    """Return the window that ends where the tail of water is low; None where it is not even below creatine's CH2.

    Parameters
    ----------
    window : (float, float)
        The fitted one.
    ppm, size : ndarray ``(n_window,)``
        Chemical shifts, and the magnitude of the data.
    most : float
        Largest mean magnitude in the highest 0.1 ppm.
    """
    bottom, top = sorted(window)
    for end in _ENDS_PPM:
        near = (ppm > end - 0.1) & (ppm <= end)
        if end < top and bottom < _LINES_PPM[0] and near.any() and size[near].mean() <= most:
            return bottom, end
    return None


def common_window(windows: Sequence[Window]) -> Window | None:
    """Return the part that windows have in common; None without the lines of metabolites, and of no windows."""
    if not windows:
        return None
    bottom, top = max(one[0] for one in windows), min(one[1] for one in windows)
    return (bottom, top) if bottom <= _LINES_PPM[0] and top >= _LINES_PPM[1] else None


def window_in_words(window: Window) -> str:
    """Return a window as an option; the option's name stands in backticks.

    >>> window_in_words((0.2, 3.5))
    '`ppmlim` 0.2 3.5'
    """
    return f"`ppmlim` {window[0]:g} {window[1]:g}"
