"""Sums of singlets at 3 T, on the time grid that tests of alignments share."""

import numpy as np

from fsl_mrs_dl.core.axes import Axes

FREQ, DWELL, N = 123.2, 1 / 2000, 1024
AXES = Axes(N, DWELL, FREQ)
TIME = np.arange(N) * DWELL


def lines(places, width=5.0):
    """The signal of pairs of ppm and height, with a width in Hz."""
    return sum(a * np.exp((2j * np.pi * (ppm - 4.65) * FREQ - np.pi * width) * TIME) for ppm, a in places)
