"""What was settled for a water reference, in words."""

import pytest

from fsl_mrs_dl.fitting.in_vivo.settle import _note
from fsl_mrs_dl.fitting.in_vivo.water_reference import WATER_USES, WaterUse


@pytest.mark.parametrize("ratio, words", [(1.15, "would be 1.15 times as large, and"), (1.003, ""), (0.99, "")])
def test_a_residual_that_is_not_larger_is_left_out(ratio, words):
    """'Without it the residual would be 1.00 times as large, and the log evidence 40 lower.'"""
    nothing, most = WaterUse(False, False), WATER_USES[0]
    gain = {use: 0.0 for use in WATER_USES} | {most: 40.0}
    misfit = {use: 1.0 for use in WATER_USES} | {nothing: ratio}
    text = _note(most, gain, misfit, False, "at least ")
    assert (
        words in text
        and ("residual" in text) == bool(words)
        and text.endswith("log evidence at least 40 lower.") == bool(words)
    )
    if not words:
        assert text.endswith("Without it the log evidence would be at least 40 lower.")
    worse = _note(nothing, {**gain, most: -40.0}, {**misfit, most: ratio, nothing: 1.0}, False, "")
    assert "nothing was taken" in worse and words in worse and ("residual" in worse) == bool(words)
