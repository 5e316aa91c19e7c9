"""Where parts are computed: names, and what is wrong with an address."""

from __future__ import annotations

import pytest

from fsl_mrs_dl.core import workers
from fsl_mrs_dl.core.errors import OptionError


def test_places_and_addresses():
    for place in (*workers.PARALLEL, "tcp://127.0.0.1:8786"):
        workers.check_parallel(place)
    with pytest.raises(OptionError, match="scheduler"):
        workers.check_parallel("somewhere")
    assert workers.cores() >= 1


def test_an_address_where_nothing_answers_is_an_error_of_one_line(monkeypatch):
    distributed = pytest.importorskip("dask.distributed")

    def silent(address, timeout):
        raise OSError("timed out")

    monkeypatch.setattr(distributed, "Client", silent)
    options = {"parallel": "tcp://127.0.0.1:1", "workers": None, "say": print}
    with pytest.raises(OptionError, match="no scheduler answers there"):
        list(workers.map_in_workers(str, [1], **options))
    assert list(workers.map_in_workers(str, [], **options)) == []
