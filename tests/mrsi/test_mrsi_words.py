"""Lines on a volume in the terminal."""

import time

import pytest

from fsl_mrs_dl.mrsi.assemble import duration
from fsl_mrs_dl.mrsi.plan import _nuisances_in_words


@pytest.mark.parametrize(
    "seconds, n, words",
    [
        (698.61352, 1, "699 s"),
        (698.61352, 100, "699 s, 6.99 s per voxel"),
        (52.04, 10240, "52 s, 5.08 ms per voxel"),
        (1.234, 2, "1.23 s, 617 ms per voxel"),
    ],
)
def test_times_have_the_digits_that_mean_something(monkeypatch, seconds, n, words):
    """One voxel took '698.6 s, 698613.52 ms per voxel'."""
    monkeypatch.setattr(time, "perf_counter", lambda: 1000.0 + seconds)
    assert duration(1000.0, n) == words


def test_nuisances_that_are_not_there_are_not_named():
    """'Lipids of 0 voxels span 0 dimensions' of one voxel."""
    end = "part of every voxel's likelihood."
    assert _nuisances_in_words(0, 0, 3) == f"Residual water spans 3 dimensions: it is {end}"
    assert _nuisances_in_words(40, 5, 0) == f"Lipids of 40 voxels span 5 dimensions: they are {end}"
    assert _nuisances_in_words(40, 5, 3) == f"Lipids of 40 voxels span 5 dimensions, residual water 3: they are {end}"
