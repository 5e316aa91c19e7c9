"""What a header says of the spectra of a series: time variable, directions, diffusion."""

from __future__ import annotations

import numpy as np
import pytest

from fsl_mrs_dl.core.errors import OptionError
from fsl_mrs_dl.dynamic.data import time_variable_of
from fsl_mrs_dl.dynamic.elements import agreement, header_variable, is_diffusion, labels_of, series_elements
from fsl_mrs_dl.io.nifti import MrsData

B = [0, 907, 907, 3956]
DIRECTIONS = [[0, 0, 0], [1, 1, -0.5], [1, -0.5, 1], [1, 1, -0.5]]


def data_of(**keys):
    """Four spectra in DIM_USER_0 after a mean of transients, with these keys in the header."""
    header = {"dim_6_header": keys} if keys else {}
    fids = np.ones((1, 1, 1, 8, 1, 4), complex)
    return MrsData(fids, 1e-3, 123.0, "1H", ("DIM_DYN", "DIM_USER_0"), header=header)


def with_directions():
    return data_of(Bval={"Value": B, "Description": "b value"}, direction={"Value": DIRECTIONS, "Description": "x"})


def test_b_values_of_the_header_are_the_time_variable():
    found = header_variable(with_directions())
    np.testing.assert_allclose(found.values, [0, 0.907, 0.907, 3.956])
    assert found.words == "Bval of the header, divided by 1000: in ms/um2"
    np.testing.assert_array_equal(header_variable(data_of(b_value={"Value": [0, 1, 5, 50]})).values, [0, 1, 5, 50])
    variable = time_variable_of(with_directions(), (), 4)
    assert variable.name == "Bval (ms/um2)" and "Time variable" in variable.notes[0]


def test_times_of_the_header_are_the_time_variable():
    echo = header_variable(data_of(EchoTime=[0.03, 0.06, 0.09, 0.2], gain={"Value": [1, 2, 3, 4]}))
    assert echo.key == "EchoTime" and echo.values[1] == 0.06


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({}, "has none"),
        ({"direction": {"Value": DIRECTIONS}}, "has none"),
        ({"Bval": {"Value": [5, 5, 5, 5]}}, "has none"),
        ({"power": {"Value": [1, 2, 3, 4]}, "gain": {"Value": [4, 3, 2, 1]}}, r"several \(power, gain\)"),
    ],
)
def test_a_header_without_one_variable_asks_for_a_file(keys, message):
    with pytest.raises(OptionError, match=message) as caught:
        header_variable(data_of(**keys))
    assert caught.value.option == "time_variables"


def test_files_are_compared_with_the_header(tmp_path):
    data = with_directions()
    for scale in (1.0, 1e-3):
        assert agreement(data, np.array(B) * scale) == ""
    assert agreement(data, np.ones((4, 2))) == "" and agreement(data_of(), np.arange(4.0)) == ""
    np.savetxt(tmp_path / "bvals", np.array([0, 0.907, 0.907, 2.155]))
    (note,) = time_variable_of(data, [tmp_path / "bvals"], 4).notes
    assert "not the header's Bval: spectrum 3 (from 0) has 2.155, and the header 3956" in note


def test_spectra_of_one_b_value_are_told_apart_by_direction():
    data = with_directions()
    assert labels_of(data, np.array(B) / 1e3)[1:3] == ["direction 1 1 -0.5", "direction 1 -0.5 1"]
    assert labels_of(data, np.arange(4.0)) == [""] * 4


def test_diffusion_is_recognised():
    assert is_diffusion(series_elements(with_directions()))
    assert not is_diffusion(series_elements(data_of(EchoTime=[0.03, 0.06, 0.09, 0.2])))
    assert not is_diffusion(series_elements(data_of(Bval={"Value": [0, 0, 0, 0]})))
