"""What all tests of training share."""

import pytest


@pytest.fixture(autouse=True)
def few_held_protocols(monkeypatch):
    """Measure a card's accuracy on little: simulating 32 protocols takes ten times as long as these trainings."""
    try:
        from fsl_mrs_dl.training import universal
    except ImportError:  # without Lightning no test here trains
        return
    monkeypatch.setattr(universal, "_HELD_PROTOCOLS", 2)
    monkeypatch.setattr(universal, "_MEASURED_BATCHES", 2)
