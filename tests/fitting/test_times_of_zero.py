"""An echo time of zero, which headers of FID-MRSI have, is a time and not the lack of one."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from fsl_mrs_dl.cli.common import check_times
from fsl_mrs_dl.concentrations.scaling import WaterScaling
from fsl_mrs_dl.core.errors import OptionError
from fsl_mrs_dl.fitting.header_facts import seconds_of, seconds_of_each, time_notes, with_header
from fsl_mrs_dl.fitting.in_vivo.quantify import acquisition_of
from fsl_mrs_dl.fitting.options import FitOptions
from fsl_mrs_dl.io.basis import Basis
from fsl_mrs_dl.io.convert import AxisOptions, load_any
from fsl_mrs_dl.io.nifti import MrsData
from fsl_mrs_dl.simulation.acquisition import simulated_data
from fsl_mrs_dl.workflow import basis_of_header
from fsl_mrs_dl.workflow.bids_sessions import _number
from fsl_mrs_dl.workflow.runner import _name
from fsl_mrs_dl.workflow.session import RunOptions

HEADER = {"SpectrometerFrequency": [123.2], "ResonantNucleus": ["1H"], "EchoTime": 0, "RepetitionTime": 0}


def data(**header):
    return MrsData(np.ones((1, 1, 1, 64, 3), np.complex64), 5e-4, 123.2, "1H", ("DIM_USER_0",), HEADER | header)


def test_of_a_header():
    assert seconds_of(data(), "EchoTime") == 0 and seconds_of(data(), "RepetitionTime") is None
    assert seconds_of(data(EchoTime=False), "EchoTime") is None
    each = data(dim_5_header={"EchoTime": [0, 0.01, 0.02]})
    assert seconds_of_each(each, "EchoTime") == (0, 0.01, 0.02)
    options = with_header(FitOptions(spectral_model="in-vivo"), data(), 0.035)
    assert options.echo_time_s == 0 and options.repetition_time_s is None
    assert with_header(FitOptions(echo_time_s=0.0), data(EchoTime=0.03)).echo_time_s == 0
    assert acquisition_of(options, (0.2, 4.2)).te_s == 0
    assert acquisition_of(replace(options, echo_time_s=None), (0.2, 4.2)).te_s > 0


def test_it_is_said_where_macromolecules_are_weighted_for_it(sim_basis):
    options = FitOptions(spectral_model="in-vivo")
    lines = time_notes(options, data(RepetitionTime=2.0), replace(sim_basis, echo_time_s=None))
    assert len(lines) == 2 and "EchoTime is 0, and is taken for that (`TE`)" in lines[0]
    assert "assumed to be for that of the data, 0 ms" in lines[1]
    (line,) = time_notes(options, data(EchoTime=None, RepetitionTime=2.0), replace(sim_basis, echo_time_s=0.0))
    assert "that of the basis set, 0 ms, is assumed" in line
    assert not time_notes(replace(options, echo_time_s=0.0), data(RepetitionTime=2.0), None)


def test_of_absolute_concentrations():
    times = WaterScaling().with_headers(data(), data(EchoTime=0.03))
    assert (times.echo_time_s, times.water_echo_time_s) == (0, 0.03)
    assert WaterScaling(echo_time_s=0.0).with_headers(data(EchoTime=0.03)).echo_time_s == 0
    water = WaterScaling(0.03, 2.0).with_headers(data(), data())
    assert water.times_of_water == (0, 2.0) and "TE 0 ms" in water.times_in_words(water=True)
    assert not any("echo time" in line for line in times.missing(["Cr"], data().axes))


@pytest.mark.parametrize(
    "times, message",
    [
        ({"echo_time_s": -0.01}, "echo_time_s -0.01: is in s, 0 to 1."),
        ({"echo_time_s": np.nan}, "echo_time_s nan: is no number; give a finite one."),
        ({"echo_time_s": "30 ms"}, "echo_time_s 30 ms: is no number; give a finite one."),
        ({"echo_time_s": 30}, "echo_time_s 30: is in s, 0 to 1; give 0.03 for 30 ms."),
        ({"repetition_time_s": 0.0}, "repetition_time_s 0: is in s, 0.01 to 100."),
        ({"repetition_time_s": 2000}, "repetition_time_s 2000: is in s, 0.01 to 100; give 2 for 2000 ms."),
    ],
)
def test_times_that_cannot_be_are_refused(times, message):
    for kind in (lambda **given: FitOptions(**given).check(), WaterScaling):
        with pytest.raises(OptionError) as caught:
            kind(**times)
        assert str(caught.value) == message


def test_of_a_basis_set_and_of_simulated_data(sim_basis, tmp_path):
    basis = replace(sim_basis, echo_time_s=0.0)
    basis.save(tmp_path / "basis")
    assert Basis.load(tmp_path / "basis").echo_time_s == 0
    assert simulated_data(np.ones((1, 64)), basis, "DIM_DYN", None).header["EchoTime"] == 0
    assert simulated_data(np.ones((1, 64)), sim_basis, "DIM_DYN", 0.0).header["EchoTime"] == 0
    text = " $SEQPAR ECHOT = 0. $END\n $NMID ID='x', FMTDAT='(2E15.6)' $END\n" + " 1.0 1.0\n" * 32
    (tmp_path / "x.RAW").write_text(text, encoding="utf-8")
    assert load_any(tmp_path / "x.RAW", AxisOptions(2000.0, 123.2)).header["EchoTime"] == 0


def test_of_a_basis_set_that_is_simulated_for_the_header(monkeypatch):
    asked = {}
    monkeypatch.setattr(basis_of_header, "simulate_basis", lambda **given: asked.update(given))
    basis_of_header.basis_of_header(data(SequenceName="fid"))
    assert asked["te_ms"] is None
    basis_of_header.basis_of_header(data(EchoTime=0.03, MixingTime=0.01), sequence="steam", tm_ms=0.0)
    assert asked["te_ms"] == 30 and asked["tm_ms"] == 0
    # Of a sequence with echoes it is none, and a basis set for it would be wrong in silence.
    for edited in (False, True):
        with pytest.raises(OptionError, match="an echo time of 0, which press cannot have; give TE in ms"):
            basis_of_header.basis_of_header(data(SequenceName="press"), edited=edited)
    assert "_0.00ms_" in _name(data(EchoTime=0.03), RunOptions(sequence="press", te_ms=0.0))


def test_of_a_sidecar():
    assert _number(0, least=0) == 0 and _number(0) is None and _number(-1, least=0) is None


@pytest.mark.parametrize("te, refused", [(0.0, False), (0.9, False), (30.0, False), (0.03, True), (-1.0, True)])
def test_it_can_be_given(te, refused):
    with pytest.raises(OptionError, match="0 or 0.3 to 1000") if refused else contextlib.nullcontext():
        check_times(SimpleNamespace(TE=te, TR=None))


def test_times_that_the_header_contradicts_are_named():
    about = data(EchoTime=0.03, RepetitionTime=2.0)
    wrong = time_notes(FitOptions(echo_time_s=0.144, repetition_time_s=1.5), about)
    assert len(wrong) == 2 and "EchoTime 30 ms" in wrong[0] and "144 ms" in wrong[0] and "`TR`" in wrong[1]
    assert time_notes(FitOptions(echo_time_s=0.0302, repetition_time_s=2.01), about) == []
