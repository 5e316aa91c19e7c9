"""Results of all chunks by name: the same in whatever number of passes over the files."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from fsl_mrs_dl.mrsi import chunks, scratch

NAMES = ["a", "b", "nuisance/c"]


@pytest.fixture
def job(rng, tmp_path):
    index = np.sort(rng.choice(50, 11, replace=False))
    job = SimpleNamespace(
        index=index, scratch=tmp_path, n_chunks=3, file=lambda k: tmp_path / f"chunk-{k:06d}.npz", values={}
    )
    job.values = {"a": rng.normal(size=11), "b": rng.normal(size=(11, 4)), "nuisance/c": rng.normal(size=(11, 2))}
    for k, rows in enumerate(np.array_split(np.arange(11), 3)):
        scratch.save_arrays(
            job.file(k), {"index": index[rows], **{key: each[rows] for key, each in job.values.items()}}
        )
    return job


@pytest.mark.parametrize("most, n_passes", [(1, 3), (11 * 8 * 5, 2), (2**20, 1)])
def test_as_many_at_once_as_memory_holds(job, monkeypatch, most, n_passes):
    monkeypatch.setattr(chunks, "_GATHERED_BYTES", most)
    passes, gather = [], chunks.gather
    monkeypatch.setattr(chunks, "gather", lambda job, names: passes.append(names) or gather(job, names))
    values_of = chunks.gather_one_by_one(job, NAMES)
    for name in NAMES:
        np.testing.assert_array_equal(values_of(name), job.values[name])
    assert len(passes) == n_passes


def test_another_order_than_the_one_given(job):
    values_of = chunks.gather_one_by_one(job, NAMES)
    for name in ("nuisance/c", "a", "b"):
        np.testing.assert_array_equal(values_of(name), job.values[name])
