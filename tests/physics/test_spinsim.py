"""The simulator against closed-form spin physics and against basis sets that others made."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fsl_mrs_dl.core import units
from fsl_mrs_dl.core.errors import BasisError, OptionError
from fsl_mrs_dl.physics import spin_systems, spinsim

DATA = Path(os.environ.get("FSL_MRS_DL_TESTDATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
AT_3T = {"spec_freq_mhz": 123.2, "bandwidth_hz": 4000.0, "n_points": 4096}
PPM = units.ppm_axis(4096, 1 / 4000, 123.2)


def spectrum(name, sequence="fid", **options):
    return units.fid_to_spec(spinsim.simulate_metabolite(name, sequence, **{**AT_3T, **options}))


def area(spec, low, high):
    """Real area between two chemical shifts, in protons; the sum doubled, as the first point of the FID is halved."""
    inside = (PPM > low) & (PPM < high)
    return 2 * spec[inside].real.sum() / np.sqrt(len(spec))


# ---- lines that can be worked out by hand


def test_singlets_stand_upright_at_their_shift_with_one_unit_per_proton():
    fid = spinsim.simulate_metabolite("Cr", "fid", **AT_3T)
    assert fid[0] == pytest.approx(5)
    spec = units.fid_to_spec(fid)
    assert PPM[spec.real.argmax()] == pytest.approx(3.027, abs=PPM[1] - PPM[0])
    assert area(spec, 2.5, 3.5) == pytest.approx(3, rel=0.03)
    assert area(spec, 3.5, 4.4) == pytest.approx(2, rel=0.03)
    naa = spectrum("NAA")
    assert PPM[naa.real.argmax()] == pytest.approx(2.008, abs=PPM[1] - PPM[0])


def test_the_line_width_is_the_one_asked_for():
    fid = spinsim.simulate_metabolite(
        "H2O", "fid", spec_freq_mhz=123.2, bandwidth_hz=1000.0, n_points=16384, fwhm_hz=8.0
    )
    spec = units.fid_to_spec(fid).real
    assert np.count_nonzero(spec > spec.max() / 2) * 1000 / 16384 == pytest.approx(8, abs=0.15)


@pytest.mark.parametrize("coupling", [3.0, 12.0, 40.0])
def test_a_strongly_coupled_pair_gives_the_ab_quartet(coupling):
    mhz, ppm = 100.0, (2.65, 2.45)
    pair = spin_systems.SpinSystem("AB", (spin_systems.SpinGroup("AB", ppm, ((0, 1, coupling),)),))
    frequencies, amplitudes = spinsim.transitions(pair, "fid", spec_freq_mhz=mhz)
    centre, split = mhz * (sum(ppm) / 2 - 4.65), mhz * (ppm[0] - ppm[1])
    spread = np.hypot(split, coupling)
    expected = centre + np.array([-(spread + coupling), -(spread - coupling), spread - coupling, spread + coupling]) / 2
    inner, outer = (1 + coupling / spread) / 2, (1 - coupling / spread) / 2
    assert frequencies == pytest.approx(expected, abs=1e-5)
    assert amplitudes == pytest.approx([outer, inner, inner, outer], abs=1e-9)


def test_magnetically_equivalent_protons_show_no_coupling():
    system = spin_systems.SpinSystem(
        "A3", (spin_systems.SpinGroup("A3", (2.0,) * 3, ((0, 1, -14.0), (0, 2, -14.0), (1, 2, -14.0))),)
    )
    frequencies, amplitudes = spinsim.transitions(system, "fid", spec_freq_mhz=123.2)
    assert frequencies == pytest.approx([(2.0 - 4.65) * 123.2])
    assert amplitudes == pytest.approx([3])


def test_nitrogen_splits_into_three_and_phosphorus_into_two():
    group = spin_systems.SpinGroup(
        "CH", (3.0,), (), (spin_systems.Heteronucleus("14N", (1.0,)), spin_systems.Heteronucleus("31P", (6.0,)))
    )
    frequencies, amplitudes = spinsim.transitions(spin_systems.SpinSystem("X", (group,)), "fid", spec_freq_mhz=100.0)
    assert frequencies == pytest.approx(np.array([-4, -3, -2, 2, 3, 4]) - 165)
    assert amplitudes == pytest.approx(np.full(6, 1 / 6))


# ---- sequences


def test_lactate_is_inverted_at_144_ms_and_upright_at_288_ms():
    for te_ms, sign in ((144.0, -1), (288.0, 1)):
        spec = spectrum("Lac", "press", te_ms=te_ms)
        assert area(spec, 1.0, 1.6) == pytest.approx(3 * sign, rel=0.05)


def test_a_weakly_coupled_pair_is_modulated_with_the_cosine_of_its_coupling():
    pair = spin_systems.SpinSystem("AX", (spin_systems.SpinGroup("AX", (1.0, 8.0), ((0, 1, 7.0),)),))
    for te_ms in (10.0, 50.0, 71.4, 142.9):
        fid = spinsim.simulate_metabolite(pair, "spin-echo", te_ms=te_ms, **AT_3T)
        assert fid[0].real == pytest.approx(2 * np.cos(np.pi * 7.0 * te_ms * 1e-3), abs=0.03)


@pytest.mark.parametrize("sequence", ["spin-echo", "special", "press", "slaser", "mega-press"])
def test_refocusing_sequences_lose_nothing_at_echo_time_zero(sequence):
    options = {"edit": "off", "edit_ppm": 20.0} if sequence == "mega-press" else {}
    for name in ("NAA", "Ins", "PCh", "Glc"):
        echo = spinsim.simulate_metabolite(name, sequence, te_ms=0.0, **options, **AT_3T)
        assert echo == pytest.approx(spinsim.simulate_metabolite(name, "fid", **AT_3T), abs=1e-6)


def test_steam_gives_half_the_signal_of_press():
    steam = spinsim.simulate_metabolite("Ins", "steam", te_ms=0.0, tm_ms=0.0, **AT_3T)
    press = spinsim.simulate_metabolite("Ins", "press", te_ms=0.0, **AT_3T)
    assert steam == pytest.approx(press / 2, abs=1e-6)
    singlet = spinsim.simulate_metabolite("Cr", "steam", te_ms=20.0, tm_ms=30.0, **AT_3T)
    assert singlet == pytest.approx(spinsim.simulate_metabolite("Cr", "fid", **AT_3T) / 2, abs=1e-6)


def test_steam_keeps_what_the_mixing_time_does_to_coupled_spins_only():
    short, long = (spinsim.simulate_metabolite("Asp", "steam", te_ms=20.0, tm_ms=tm, **AT_3T) for tm in (5.0, 40.0))
    assert np.abs(short - long).max() > 0.05


def test_slaser_refocuses_strong_coupling_better_than_one_echo():
    slaser, echo = (spectrum("Ins", sequence, te_ms=30.0) for sequence in ("slaser", "spin-echo"))
    reference = spectrum("Ins")
    assert np.abs(slaser - reference).sum() < np.abs(echo - reference).sum()


def test_phosphorus_is_refocused_because_no_pulse_reaches_it():
    group = spin_systems.SpinGroup("CH", (3.0,), (), (spin_systems.Heteronucleus("31P", (7.0,)),))
    fid = spinsim.simulate_metabolite(spin_systems.SpinSystem("X", (group,)), "press", te_ms=71.4, **AT_3T)
    assert fid[0] == pytest.approx(1)


def test_mega_press_keeps_gaba_and_cancels_creatine_in_the_difference():
    on, off = (
        {n: spectrum(n, "mega-press", te_ms=68.0, edit=edit) for n in ("GABA", "Cr", "NAA")} for edit in ("on", "off")
    )
    difference = {name: on[name] - off[name] for name in on}
    assert np.abs(difference["Cr"]).max() < 1e-9
    # At 68 ms the outer lines of the 3.0 ppm triplet are upright when edited and inverted when not: together they carry
    # one of its two protons, so their difference is near two.
    assert 1.6 < area(difference["GABA"], 2.8, 3.2) < 2.2
    assert area(on["GABA"], 2.8, 3.2) == pytest.approx(2, abs=0.2)
    assert area(difference["NAA"], 1.8, 2.2) == pytest.approx(-3, rel=0.05)


def test_the_spectrum_follows_the_field():
    at_7t = {"spec_freq_mhz": 297.2, "bandwidth_hz": 4000 * 297.2 / 123.2}
    low, high = spectrum("Cr", fwhm_hz=2.0), spectrum("Cr", fwhm_hz=2 * 297.2 / 123.2, **at_7t)
    assert high == pytest.approx(low, abs=1e-9)
    for mhz in (123.2, 600.0):
        frequencies, amplitudes = spinsim.transitions("Lac", "fid", spec_freq_mhz=mhz)
        methyl = frequencies[(frequencies < -2 * mhz) & (np.abs(amplitudes) > 0.3)]
        assert np.ptp(methyl) == pytest.approx(6.933, abs=0.3)


def test_resonances_outside_the_bandwidth_do_not_fold_back():
    narrow = units.fid_to_spec(
        spinsim.simulate_metabolite("GSH", "fid", spec_freq_mhz=297.2, bandwidth_hz=2000.0, n_points=4096, fwhm_hz=4.0)
    )
    ppm = units.ppm_axis(4096, 1 / 2000, 297.2)
    peak = np.abs(narrow).max()
    assert np.abs(narrow[(ppm > 1.35) & (ppm < 1.55)]).max() < 0.02 * peak


# ---- every metabolite


def test_the_table_is_whole():
    names = spin_systems.metabolite_names()
    expected = "Ala Asc Asp Cr PCr GABA Glc Gln Glu Gly GPC GSH Ins Lac NAA NAAG PCh PE Scyllo Tau Ser bHB 2HG Ace H2O"
    assert set(expected.split()) <= set(names)
    for name in names:
        system = spin_systems.spin_system(name)
        assert system.full_name and (system.sources or name == "H2O")
        for group in system.groups:
            n_spins = len(group.shifts_ppm)
            pairs = [pair[:2] for pair in group.couplings_hz]
            assert all(0 <= i < j < n_spins for i, j in pairs) and len(set(pairs)) == len(pairs)
            assert all(len(h.couplings_hz) == n_spins for h in group.heteronuclei)
            assert n_spins == 1 or group.weight <= 1


@pytest.mark.parametrize(
    ("name", "protons"),
    [("Glc", 7), ("Ins", 6), ("PCh", 13), ("GPC", 18), ("Tau", 4), ("Lac", 4), ("Scyllo", 6), ("NAA", 7)],
)
def test_proton_counts(name, protons):
    assert spin_systems.spin_system(name).n_protons == pytest.approx(protons)


@settings(max_examples=25, deadline=None)
@given(
    name=st.sampled_from(spin_systems.metabolite_names()),
    spec_freq_mhz=st.floats(60, 600),
    span_ppm=st.floats(12, 40),
    n_points=st.integers(1, 3000),
)
def test_straight_after_the_pulse_every_proton_counts_once(name, spec_freq_mhz, span_ppm, n_points):
    sampling = {"spec_freq_mhz": spec_freq_mhz, "bandwidth_hz": span_ppm * spec_freq_mhz, "n_points": n_points}
    fid = spinsim.simulate_metabolite(name, "fid", **sampling)
    assert fid.shape == (n_points,) and np.isfinite(fid).all()
    assert fid[0] == pytest.approx(spin_systems.spin_system(name).n_protons, abs=1e-6)
    assert (np.abs(fid) <= np.abs(fid[0]) * (1 + 1e-9)).all()


@settings(max_examples=25, deadline=None)
@given(
    name=st.sampled_from(("GABA", "Glu", "Ins", "PE", "NAAG")),
    sequence=st.sampled_from(("press", "steam", "slaser", "special")),
    te_ms=st.floats(0, 200),
)
def test_no_sequence_makes_signal(name, sequence, te_ms):
    options = {"te_ms": te_ms, **({"tm_ms": 17.0} if sequence == "steam" else {})}
    frequencies, amplitudes = spinsim.transitions(name, sequence, spec_freq_mhz=123.2, **options)
    limit = spin_systems.spin_system(name).n_protons * (0.5 if sequence == "steam" else 1)
    assert np.abs(amplitudes.sum()) <= limit + 1e-6
    assert (np.diff(frequencies) > 0).all()


@settings(max_examples=10, deadline=None)
@given(
    names=st.lists(st.sampled_from(spin_systems.metabolite_names()), min_size=1, max_size=4), weight=st.floats(0.1, 10)
)
def test_signals_add_up(names, weight):
    fids, returned = spinsim.simulate_basis(names, "press", te_ms=30.0, **AT_3T)
    assert returned == tuple(names) and fids.shape == (len(names), AT_3T["n_points"])
    groups = tuple(
        spin_systems.SpinGroup(g.label, g.shifts_ppm, g.couplings_hz, g.heteronuclei, g.weight * weight)
        for name in names
        for g in spin_systems.spin_system(name).groups
    )
    mixture = spinsim.simulate_metabolite(spin_systems.SpinSystem("mixture", groups), "press", te_ms=30.0, **AT_3T)
    assert mixture == pytest.approx(weight * fids.sum(axis=0), abs=1e-5 * weight)


# ---- macromolecules


def test_parametric_macromolecules_sit_at_their_position_and_widen_with_the_field():
    for mhz in (123.2, 297.2):
        sampling = {"spec_freq_mhz": mhz, "bandwidth_hz": 6000.0, "n_points": 16384}
        fids, names = spinsim.macromolecules("parametric", **sampling)
        ppm = units.ppm_axis(16384, 1 / 6000, mhz)
        widths = []
        for fid, name in zip(fids, names):
            spec = units.fid_to_spec(fid).real
            assert ppm[spec.argmax()] == pytest.approx(int(name[2:]) / 100, abs=0.01)
            widths.append(np.count_nonzero(spec > spec.max() / 2) * 6000 / 16384 / mhz)
        if mhz == 123.2:
            widths_ppm = np.array(widths)
        assert fids[0, 0] == pytest.approx(3) and (np.abs(fids[:, 0]) > 0).all()
    assert np.array(widths) == pytest.approx(widths_ppm, abs=0.008)
    summed, name = spinsim.macromolecules("summed", **sampling)
    assert name == ("mm",) and summed[0] == pytest.approx(fids.sum(axis=0))


def test_the_default_macromolecules_are_those_of_fsl_mrs():
    fids, names = spinsim.macromolecules("fsl-default", **AT_3T)
    assert names == ("MM09", "MM12", "MM14", "MM17", "MM21")
    assert fids[:, 0] == pytest.approx([3, 2, 2, 2, 2.39])
    positions = [PPM[units.fid_to_spec(fid).real.argmax()] for fid in fids]
    assert positions == pytest.approx([0.9, 1.2, 1.4, 1.7, 2.08], abs=0.015)


# ---- what goes wrong says so in one line


@pytest.mark.parametrize(
    ("name", "sequence", "options", "error", "words"),
    [
        ("NNA", "press", {"te_ms": 30.0}, BasisError, "did you mean NAA"),
        ("lac", "press", {"te_ms": 30.0}, BasisError, "did you mean Lac"),
        ("@@@@", "press", {"te_ms": 30.0}, BasisError, "choose from 2HG"),
        ("NAA", "pres", {"te_ms": 30.0}, OptionError, "choose from fid"),
        ("NAA", "press", {}, OptionError, "te_ms is missing"),
        ("NAA", "press", {"te_ms": -1.0}, OptionError, "te_ms = -1"),
        ("NAA", "press", {"te_ms": float("nan")}, OptionError, "te_ms = nan"),
        ("NAA", "press", {"te_ms": 30.0, "te1_ms": 40.0}, OptionError, "between 0 and 30"),
        ("NAA", "press", {"te_ms": 30.0, "tm_ms": 10.0}, OptionError, "tm_ms = 10.0 means nothing"),
        ("NAA", "steam", {"te_ms": 30.0}, OptionError, "tm_ms is missing"),
        ("NAA", "fid", {"te_ms": 30.0}, OptionError, "means nothing for fid"),
        ("NAA", "mega-press", {"te_ms": 68.0}, OptionError, "'on' or 'off'"),
        (
            "NAA",
            "mega-press",
            {"te_ms": 68.0, "edit": "on", "edit_bandwidth_hz": 0.0},
            OptionError,
            "edit_bandwidth_hz",
        ),
        ("NAA", "fid", {"n_points": 0}, OptionError, "n_points = 0"),
        ("NAA", "fid", {"bandwidth_hz": 0.0}, OptionError, "bandwidth_hz = 0"),
        ("NAA", "fid", {"spec_freq_mhz": -3.0}, OptionError, "spec_freq_mhz = -3"),
        ("NAA", "fid", {"fwhm_hz": -1.0}, OptionError, "fwhm_hz = -1"),
    ],
)
def test_errors_name_the_value_and_the_remedy(name, sequence, options, error, words):
    with pytest.raises(error, match=words) as caught:
        spinsim.simulate_metabolite(name, sequence, **{**AT_3T, **options})
    assert "\n" not in str(caught.value)


def test_other_errors():
    with pytest.raises(BasisError, match="name at least one"):
        spinsim.simulate_basis([], "fid", **AT_3T)
    with pytest.raises(BasisError, match="choose from govind2015"):
        spin_systems.spin_system("GABA", "unknown")
    with pytest.raises(BasisError, match="leave it out"):
        spin_systems.spin_system("NAA", "unknown")
    with pytest.raises(OptionError, match="choose from parametric"):
        spinsim.macromolecules("lipids", **AT_3T)


def test_importing_the_simulator_does_not_load_torch():
    code = "import sys, fsl_mrs_dl.physics.spinsim; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2]).returncode == 0


# ---- against real basis sets; benchmarks/basis_validation.md has the whole table


def real_correlations(path, shift_hz, fwhm_hz, extra_hz, names, sequence, **timing):
    """Correlation of simulated and real spectra in 0.2-4.2 ppm; shift and width are the real set's, one for all."""
    from fsl_mrs_dl.io.basis import Basis

    if not (DATA / path).exists():
        pytest.skip(f"the test data are not there: set FSL_MRS_DL_TESTDATA (looked in {DATA})")
    basis = Basis.load(DATA / path)
    time = np.arange(basis.n_points) / basis.bandwidth
    sampling = {"spec_freq_mhz": basis.spec_freq_mhz, "bandwidth_hz": basis.bandwidth, "n_points": basis.n_points}
    simulated, _ = spinsim.simulate_basis(names, sequence, **timing, **sampling, fwhm_hz=fwhm_hz + extra_hz)
    simulated = simulated * np.exp(2j * np.pi * shift_hz * time)
    real = basis.fids[[basis.names.index(name) for name in names]] * np.exp(-np.pi * extra_hz * time)
    first, last = units.window_indices(units.ppm_axis(basis.n_points, basis.dwelltime, basis.spec_freq_mhz), (0.2, 4.2))
    a, b = (units.fid_to_spec(fids)[:, first:last] for fids in (simulated, real))
    r = np.abs((a.conj() * b).sum(-1)) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)
    return dict(zip(names, r))


def test_agrees_with_a_real_press_basis_at_3_tesla():
    names = ["Asp", "Cr", "GABA", "GPC", "GSH", "Gln", "Glu", "Ins", "NAA", "NAAG", "PCh", "PCr", "PE", "Scyllo", "Tau"]
    path = "invivo_3t_press_philips/3T_PRESS_Philips_35ms_noMM.BASIS"
    r = real_correlations(path, -3.83, 1.0, 0.0, names, "press", te_ms=35.0, te1_ms=14.0)
    assert min(r.values()) > 0.95, r
    assert min(r[name] for name in ("Cr", "PCr", "Scyllo", "Ins", "Tau")) > 0.995, r


def test_agrees_with_a_real_slaser_basis_at_7_tesla():
    names = [
        "Asp",
        "Cr",
        "GABA",
        "GPC",
        "GSH",
        "Glc",
        "Gln",
        "Glu",
        "Lac",
        "NAA",
        "NAAG",
        "PCh",
        "PCr",
        "PE",
        "Scyllo",
        "Tau",
    ]
    r = real_correlations("fsl_basis_7t", 0.0, 1.0, 0.0, names, "slaser", te_ms=33.5)
    assert min(r.values()) > 0.95, r
    assert min(r[name] for name in ("Cr", "GABA", "GSH", "Glc", "NAA")) > 0.99, r


def test_agrees_with_a_real_steam_basis_at_7_tesla():
    names = [
        "Ala",
        "Asc",
        "Asp",
        "Cr",
        "GABA",
        "GPC",
        "GSH",
        "Glc",
        "Gln",
        "Glu",
        "Gly",
        "Ins",
        "Lac",
        "NAA",
        "NAAG",
        "PE",
        "Tau",
    ]
    path = "invivo_7t_steam_raw/STEAM_7T_11ms.BASIS"
    r = real_correlations(path, 1.14, 2.0, 10.0, names, "steam", te_ms=11.0, tm_ms=32.0)
    assert min(r.values()) > 0.95, r
