"""Editing pulses against the theory of coupled spins and of uncoupled ones, and against themselves in finer steps."""

from __future__ import annotations

import numpy as np
import pytest

from fsl_mrs_dl.core import units
from fsl_mrs_dl.core.editing import EditingPulse, editing_pulses
from fsl_mrs_dl.core.errors import OptionError
from fsl_mrs_dl.physics import spin_systems, spinsim
from fsl_mrs_dl.physics.density_matrix import DensityMatrix
from fsl_mrs_dl.physics.editing_pulses import inversion_bandwidth_hz, rotation, survival

MHZ = 123.2
GRID = {"spec_freq_mhz": MHZ, "bandwidth_hz": 2000.0, "n_points": 4096}
PPM = units.ppm_axis(4096, 1 / 2000, MHZ)
REAL = editing_pulses("mega-press")["on"]


def singlet(ppm):
    return spin_systems.SpinSystem("S", (spin_systems.SpinGroup("S", (ppm,)),))


def spectrum(name, scheme, condition, te_ms, shape="sinc-gaussian"):
    """Spectrum at 4 Hz, whose sum over a resonance is in protons."""
    options = {"te_ms": te_ms, "edit": condition, "edit_pulse": shape, "fwhm_hz": 4.0}
    return 2 * units.fid_to_spec(spinsim.simulate_metabolite(name, scheme, **options, **GRID)).real / 64


def area(spec, low, high):
    return spec[(low < PPM) & (high > PPM)].sum()


# ---- uncoupled spins


@pytest.mark.parametrize(("duration_ms", "bandwidth_hz"), [(14.0, 88.0), (20.0, 62.0), (20.0, 80.0), (10.0, 250.0)])
def test_a_pulse_inverts_the_band_it_is_asked_for(duration_ms, bandwidth_hz):
    pulse = EditingPulse(1.9, duration_ms=duration_ms, bandwidth_hz=bandwidth_hz)
    assert inversion_bandwidth_hz(pulse) == pytest.approx(bandwidth_hz, rel=0.005)
    a, b = rotation(pulse, [1.9, 40.0], MHZ)
    assert np.abs(a) == pytest.approx([0, 1], abs=1e-3)
    assert np.abs(a) ** 2 + np.abs(b) ** 2 == pytest.approx([1, 1])


def test_the_default_pulses_are_those_of_the_literature():
    assert EditingPulse(1.9, duration_ms=14.0).bandwidth_hz == pytest.approx(88, abs=0.5)
    assert EditingPulse(1.9, duration_ms=20.0).bandwidth_hz == pytest.approx(62, abs=0.5)
    assert EditingPulse(1.9, "ideal").bandwidth_hz == 80
    assert editing_pulses("hermes")["A"].centres_ppm == (1.9, 4.56)
    assert [pulse.centres_ppm for pulse in editing_pulses("hercules").values()] == [
        (1.9, 4.58),
        (1.9, 4.18),
        (4.58,),
        (4.18,),
    ]


@pytest.mark.parametrize(
    ("scheme", "condition"), [("mega-press", "on"), ("mega-slaser", "on"), ("hermes", "A"), ("hermes", "D")]
)
def test_survival_is_what_the_simulation_leaves_of_a_singlet(scheme, condition):
    pulse = editing_pulses(scheme)[condition]
    for ppm in (0.93, 1.7, 2.008, 3.027, 4.4, 4.65):
        _, amplitude = spinsim.transitions(
            singlet(ppm), scheme, te_ms=80.0, edit=condition, edit_pulse=pulse, spec_freq_mhz=MHZ
        )
        assert amplitude.sum() == pytest.approx(survival([pulse], ppm, MHZ), abs=1e-9), ppm


def test_survival_in_the_band_and_far_away():
    ppm = np.array([[1.9, 2.008], [3.9, 7.5]])
    expected = np.array([[0, 0], [1, 1]])
    assert survival([REAL], ppm, MHZ).shape == (2, 2)
    assert survival([REAL], ppm, MHZ) == pytest.approx(expected, abs=0.02)
    assert survival([EditingPulse(1.9, "ideal")], ppm, MHZ) == pytest.approx(expected)
    assert survival([], ppm, MHZ) == pytest.approx(np.ones((2, 2)))
    # A single pulse shifts phases of lines beside its band; the second one takes them back.
    assert abs(np.angle(survival([REAL], 3.027, MHZ, n_applied=1))) > 0.1
    assert survival([REAL], 3.027, MHZ).imag == pytest.approx(0, abs=1e-9)


# ---- coupled spins


@pytest.mark.parametrize("scheme", ["mega-press", "mega-slaser"])
@pytest.mark.parametrize("te_ms", [34.0, 68.0, 100.0])
def test_an_ideal_pulse_on_weakly_coupled_spins_is_the_product_operators(scheme, te_ms):
    # The outer lines of a triplet of two protons carry a half each and turn by 2 pi J TE, unless they are refocused.
    coupling, mhz = 7.35, 4000.0
    shifts, pairs = (3.0, 3.0, 1.9, 1.9), tuple((i, j, coupling) for i in (0, 1) for j in (2, 3))
    system = spin_systems.SpinSystem("A2X2", (spin_systems.SpinGroup("A2X2", shifts, pairs),))
    lines = {}
    for condition in ("on", "off"):
        frequencies, amplitudes = spinsim.transitions(
            system, scheme, te_ms=te_ms, edit=condition, edit_pulse="ideal", spec_freq_mhz=mhz
        )
        apart = frequencies - units.ppm_to_hz(3.0, mhz)
        lines[condition] = [amplitudes[np.abs(apart - offset) < 2].sum() for offset in (-coupling, 0, coupling)]
    turn = np.exp(2j * np.pi * coupling * te_ms * 1e-3)
    assert lines["on"] == pytest.approx([0.5, 1, 0.5], abs=0.01)
    assert lines["off"] == pytest.approx([0.5 / turn, 1, 0.5 * turn], abs=0.02)


@pytest.mark.parametrize(("shape", "limits"), [("ideal", (1.6, 2.1)), ("sinc-gaussian", (1.4, 1.9))])
def test_outer_lines_of_gaba_are_upright_in_on_and_inverted_in_off(shape, limits):
    on, off = (spectrum("GABA", "mega-press", condition, 68.0, shape) for condition in ("on", "off"))
    sides = ((2.90, 2.985), (3.04, 3.12))
    for low, high in sides:
        assert area(on, low, high) > 0.2 > -0.2 > area(off, low, high)
    assert limits[0] < area(on - off, 2.85, 3.17) < limits[1]
    # The middle line is left alone: the couplings to its two partners cancel.
    assert area(on - off, 2.995, 3.03) == pytest.approx(0, abs=0.25)


def test_naa_is_gone_in_on_and_glx_is_edited_too():
    naa = [spectrum("NAA", "mega-press", condition, 68.0) for condition in ("on", "off")]
    assert area(naa[0] - naa[1], 1.95, 2.07) == pytest.approx(-area(naa[1], 1.95, 2.07), rel=0.03)
    assert area(naa[1], 1.8, 2.2) == pytest.approx(3, rel=0.1)
    glu = [spectrum("Glu", "mega-press", condition, 68.0) for condition in ("on", "off")]
    assert area(glu[0] - glu[1], 3.65, 3.85) > 0.3
    creatine = [spectrum("Cr", "mega-press", condition, 68.0) for condition in ("on", "off")]
    assert np.abs(creatine[0] - creatine[1]).max() < 0.01 * creatine[1].max()


def test_hadamard_combinations_of_hermes_separate_gaba_and_glutathione():
    signs = {"GABA": (1, 1, -1, -1), "GSH": (1, -1, 1, -1)}
    windows = {"GABA": (2.85, 3.17), "GSH": (2.85, 3.05)}
    strength = {}
    for name in signs:
        four = [spectrum(name, "hermes", condition, 80.0) for condition in "ABCD"]
        for target, sign in signs.items():
            strength[name, target] = np.abs(area(np.dot(sign, four), *windows[name]))
    for name, other in (("GABA", "GSH"), ("GSH", "GABA")):
        assert strength[name, name] > 0.5
        assert strength[name, other] < 0.03 * strength[name, name]


# ---- the numbers behind it


def matrix_of(name):
    group = max(spin_systems.spin_system(name).groups, key=lambda group: len(group.shifts_ppm))
    shifts = np.array(group.shifts_ppm)
    return DensityMatrix(shifts, units.ppm_to_hz(shifts, MHZ), group.couplings_hz, MHZ)


def edited_lines(pulse, steps):
    spins = matrix_of("Asp")
    spins.pulse("y", 90)
    spins.edit(pulse, steps)
    return spins.lines()[1].sum()


@pytest.mark.parametrize("pulse", [REAL, editing_pulses("hermes")["A"]])
def test_time_steps_are_fine_enough(pulse):
    reference = edited_lines(pulse, 1000)
    errors = [np.abs(edited_lines(pulse, steps) - reference) for steps in (100, 200)]
    assert np.abs(edited_lines(pulse, None) - reference) < 1e-3
    assert errors[1] < 0.3 * errors[0]


def test_editing_pulses_may_lie_elsewhere():
    given = {"te_ms": 68.0, "te1_ms": 10.0, "edit": "on", "edit_pulse": REAL, "spec_freq_mhz": MHZ}
    usual, same, later = (
        spinsim.transitions("Lac", "mega-press", **given, edit_delay_ms=delay)[1] for delay in (None, 14.5, 17.0)
    )
    assert usual == pytest.approx(same)
    assert np.abs(later - usual).max() > 1e-3
    with pytest.raises(OptionError, match="edit_delay_ms = 30 ms makes no sense for mega-press: give between 0 and 29"):
        spinsim.transitions("Lac", "mega-press", **given, edit_delay_ms=30.0)


def test_spins_evolve_freely_during_a_pulse_that_is_far_away():
    free, pulsed = matrix_of("Asp"), matrix_of("Asp")
    for spins in (free, pulsed):
        spins.pulse("y", 90)
    pulsed.edit(EditingPulse(80.0, duration_ms=20.0))
    free.delay(20e-3)
    assert pulsed.rho == pytest.approx(free.rho, abs=2e-2)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"edit_pulse": "gauss"}, "edit_pulse gauss: is no shape"),
        ({"edit_pulse": "sinc-gaussian", "edit_bandwidth_hz": 20.0}, "edit_bandwidth_hz 20: no sinc-Gaussian pulse of"),
        ({"edit_pulse": "sinc-gaussian", "te_ms": 30.0}, "edit_duration_ms 15: the sequence has 4 ms"),
        ({"edit": "A"}, "'on' or 'off'"),
        ({"edit_pulse": REAL, "edit_ppm": 4.56}, "leave them out"),
    ],
)
def test_impossible_pulses_are_refused(options, words):
    options = {"te_ms": 68.0, "edit": "on", "spec_freq_mhz": MHZ} | options
    with pytest.raises(OptionError, match=words):
        spinsim.transitions("Cr", "mega-press", **options)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"duration_ms": None}, "edit_duration_ms = None is impossible; give a positive number of ms"),
        ({"duration_ms": 0.0}, "edit_duration_ms = 0.0"),
        ({"duration_ms": 20.0, "bandwidth_hz": -1.0}, "positive number of Hz"),
        ({"shape": "ideal", "duration_ms": 20.0}, "takes no time"),
        ({"centre_ppm": float("nan"), "duration_ms": 20.0}, "is no chemical shift"),
    ],
)
def test_impossible_values_of_a_pulse_are_refused(values, words):
    with pytest.raises(OptionError, match=words):
        EditingPulse(**{"centre_ppm": 1.9} | values)


def test_centres_belong_to_mega():
    assert editing_pulses("mega-press", centres_ppm=[4.56])["off"].centre_ppm == 7.5
    assert editing_pulses("mega-press", centres_ppm=[4.56, 8.0])["off"].centre_ppm == 8
    with pytest.raises(OptionError, match="leave it out"):
        editing_pulses("hermes", centres_ppm=[4.56])
    with pytest.raises(OptionError, match="choose from mega-press"):
        editing_pulses("mega")
