"""Simulated spectra are what the recipe says: measured on the spectra, not on the code that made them."""

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.papers import datasets
from fsl_mrs_dl.core import units
from fsl_mrs_dl.core.axes import Axes
from fsl_mrs_dl.core.errors import OptionError
from fsl_mrs_dl.simulation import protocols as protocols_module
from fsl_mrs_dl.simulation import random_spectra, recipes

CLEAN = {"concentrations": {"prior": "typical", "spread": 0.0}, "snr": 50, "lorentz_fwhm_hz": 6.0}


@pytest.fixture(scope="module")
def protocol(sim_basis):
    return protocols_module.protocol_of(sim_basis.fids, sim_basis.names, sim_basis.axes)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def made(protocol, content, n=4, seed=0, **options):
    recipe = recipes.Recipe.of("test", content)
    drawn = random_spectra.draw(recipe, n, protocol.names, seeded(seed))
    return drawn, random_spectra.render(drawn, protocol, **options)


def ppm_of(protocol):
    return protocol.axes.ppm()


@pytest.mark.parametrize("name", recipes.recipe_names())
def test_recipes_can_be_drawn_and_say_what_they_are(name, protocol):
    recipe = recipes.Recipe.load(name)
    assert recipe.content["doc"].endswith(".") and "source" in recipe.content
    if "augment" in recipe.content:
        return  # for measured transients; see test_registration.py
    drawn = random_spectra.draw(recipe, 16, protocol.names, seeded())
    spectra = random_spectra.render(drawn, protocol)
    assert torch.isfinite(torch.view_as_real(spectra.fid)).all() and (drawn["conc"] >= 0).all()


def test_the_same_seed_gives_the_same_spectra_and_another_one_others(protocol):
    content = recipes.Recipe.load("universal").content
    one, again, other = (made(protocol, content, seed=seed)[1].fid for seed in (1, 1, 2))
    assert torch.equal(one, again) and not torch.allclose(one, other)


@pytest.mark.parametrize("snr", [4.0, 40.0])
def test_snr_is_peak_height_over_the_sd_of_the_real_part(protocol, snr):
    _, with_noise = made(protocol, CLEAN | {"snr": snr}, n=64)
    _, without = made(protocol, CLEAN | {"snr": snr}, n=64, noise=False)
    noise = units.fid_to_spec(with_noise.fid - without.fid).real
    ppm = ppm_of(protocol)
    height = units.fid_to_spec(without.fid).real[:, (ppm > 0.2) & (ppm < 4.2)].amax(-1)
    assert (height / noise.std(-1)).mean() == pytest.approx(snr, rel=0.02)


def test_shift_and_phase_have_fsl_mrs_signs(protocol):
    _, plain = made(protocol, CLEAN, noise=False)
    _, moved = made(protocol, CLEAN | {"shift_ppm": 0.1}, noise=False)
    _, turned = made(protocol, CLEAN | {"phase_deg": 30.0}, noise=False)
    ppm = ppm_of(protocol)
    window = (ppm > 1.7) & (ppm < 2.4)
    a, b = (units.fid_to_spec(one.fid)[0][torch.as_tensor(window)] for one in (plain, moved))
    top_a, top_b = a.abs().argmax(), b.abs().argmax()
    assert ppm[window][top_b] - ppm[window][top_a] == pytest.approx(0.1, abs=0.02)
    # The model multiplies by exp(-1j phi0).
    torch.testing.assert_close(turned.fid, plain.fid * torch.exp(torch.tensor(-1j * math.pi / 6)), rtol=1e-4, atol=1e-4)


def test_first_order_phase_turns_about_2_2_ppm(protocol):
    _, plain = made(protocol, CLEAN, noise=False)
    _, turned = made(protocol, CLEAN | {"phi1_deg_per_ppm": 10.0}, noise=False)
    ppm = ppm_of(protocol)
    ratio = (units.fid_to_spec(turned.fid) / units.fid_to_spec(plain.fid))[0]
    for place, degrees in ((2.2, 0), (3.2, -10), (1.2, 10)):
        assert math.degrees(ratio[np.abs(ppm - place).argmin()].angle()) == pytest.approx(degrees, abs=0.3)


@pytest.mark.parametrize("lorentz,gauss", [(8.0, 0.0), (0.0, 8.0)])
def test_widths_are_full_widths_at_half_maximum(lorentz, gauss):
    n, dwelltime = 8192, 1 / 1000
    still = protocols_module.protocol_of(np.ones((1, n)), ["NAA"], Axes(n, dwelltime, 123.2))
    content = CLEAN | {"lorentz_fwhm_hz": lorentz, "gauss_fwhm_hz": gauss}
    content["concentrations"] = {"prior": "uniform", "most": 2}
    # The one line is at 4.65 ppm, outside the window in which heights are measured; that is of no matter to its width.
    _, line = made(still, content, n=1, noise=False)
    spec = units.fid_to_spec(line.metabolites)[0].real
    assert (spec > spec.max() / 2).sum() / (n * dwelltime) == pytest.approx(8, abs=0.3)


def test_water_and_lipids_have_the_height_asked_for(protocol):
    for name, ppm, factor in (("water", 4.65, 5.0), ("lipids", 1.3, 3.0)):
        line = {"height": factor, "ppm": ppm, "lorentz_fwhm_hz": 8.0, "phase_deg": 0.0}
        _, spectra = made(protocol, CLEAN | {name: line}, noise=False)
        top = units.fid_to_spec(spectra.nuisance).abs().amax(-1)
        assert (top / spectra.height).numpy() == pytest.approx(factor, rel=0.03)


def test_a_group_of_lines_is_there_as_often_as_asked(protocol):
    line = {"height": 1.0, "ppm": 1.3, "fwhm_ppm": 0.1, "probability": 0.3}
    drawn, _ = made(protocol, CLEAN | {"lipids": [line, line]}, n=2000)
    share = (drawn["lipids"][..., 0] > 0).float().mean(0)
    assert share.numpy() == pytest.approx(0.3, abs=0.04)


def test_a_spike_lifts_the_whole_spectrum(protocol):
    _, plain = made(protocol, CLEAN, noise=False)
    _, spiked = made(protocol, CLEAN | {"spikes": {"height": 0.5}}, noise=False)
    change = units.fid_to_spec(spiked.fid - plain.fid).abs() / plain.height[:, None]
    assert change.numpy() == pytest.approx(0.5, rel=1e-3)


def test_table_prior_stays_within_its_ranges(protocol):
    drawn, _ = made(protocol, recipes.Recipe.load("shamaei-table2").content, n=500)
    index = list(protocol.names).index("NAA")
    naa = drawn["conc"][:, index]
    assert naa.min() >= 7.5 and naa.max() <= 17 and naa.std() == pytest.approx(9.5 / math.sqrt(12), rel=0.1)
    assert drawn["lorentz_hz"].max() * math.pi <= 15.01


def test_transients_are_variations_of_one_spectrum(protocol):
    content = CLEAN | {
        "snr": 1e6,
        "transients": {"shift_hz": {"uniform": [-20, 20]}, "phase_deg": {"uniform": [-90, 90]}},
    }
    drawn = random_spectra.draw_transients(recipes.Recipe.of("t", content), 2, 5, protocol.names, seeded())
    fid, base = random_spectra.render_transients(drawn, protocol)
    back = torch.exp(-1j * (2 * torch.pi * drawn["shift_hz"][..., None] * protocol.time - drawn["phi0"][..., None]))
    difference = (fid * back - base.fid[:, None]).abs().amax() / base.fid.abs().amax()
    assert fid.shape == (2, 5, protocol.basis.shape[-1]) and difference < 1e-3


def test_unstable_lines_change_from_transient_to_transient(protocol):
    line = {
        "height": 5.0,
        "ppm": {"normal": [4.65, 0.05]},
        "lorentz_fwhm_hz": 10.0,
        "phase_deg": {"uniform": [-180, 180]},
    }
    content = CLEAN | {"snr": 1e6, "transients": {"unstable_water": line}}
    fid, base = random_spectra.render_transients(
        random_spectra.draw_transients(recipes.Recipe.of("t", content), 1, 6, protocol.names, seeded()), protocol
    )
    water = units.fid_to_spec(fid - base.fid[:, None])[0]
    tops = water.abs().amax(-1)
    assert (tops / base.height).numpy() == pytest.approx(5, rel=0.05)
    assert len(set(water.abs().argmax(-1).tolist())) > 1


def test_random_protocols_share_one_grid_in_ppm():
    ranges = recipes.Recipe.load("universal").get("protocols")
    protocols = protocols_module.random_protocols(ranges, 3, seed=4)
    for one in protocols:
        assert ppm_of(one) == pytest.approx(ppm_of(protocols[0]), abs=1e-6)
        assert 63 <= one.axes.spec_freq_mhz <= 401 and one.basis.shape[1] == 1024
    assert [one.description for one in protocols] == [
        one.description for one in protocols_module.random_protocols(ranges, 3, seed=4)
    ]


@pytest.mark.parametrize(
    "content,words",
    [
        ({"snr": 1}, "needs 'concentrations'"),
        (CLEAN | {"snow": 1}, "'snow' is no entry"),
        (CLEAN | {"snr": {"uniform": [1]}}, "snr.*is no range"),
        (CLEAN | {"snr": {"uniform": [2, 1]}}, "ascending"),
        (CLEAN | {"snr": {"loguniform": [0, 1]}}, "above zero"),
        (CLEAN | {"water": {"height": {"normal": ["a", 1]}}}, "water: height"),
        (CLEAN | {"snr_of": "water"}, "snr_of: .*neither peak nor energy"),
        (CLEAN | {"snr_of": -1}, "snr_of"),
        (CLEAN | {"each": {"shift": 1}}, "each: 'shift' is unknown"),
        (CLEAN | {"each": {"shift_hz": {"uniform": [2, 1]}}}, "each: shift_hz.*ascending"),
    ],
)
def test_malformed_recipes_are_refused_in_one_line(content, words):
    with pytest.raises(OptionError, match=words) as caught:
        recipes.Recipe.of("mine", content)
    assert "\n" not in str(caught.value)


def test_recipes_come_by_name_or_from_a_file(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(CLEAN))
    assert recipes.Recipe.load(path).name == "mine"
    path.write_text("{")
    with pytest.raises(OptionError, match="not JSON"):
        recipes.Recipe.load(path)
    with pytest.raises(OptionError, match="no such recipe.*universal"):
        recipes.Recipe.load("nobody's")


@settings(max_examples=15, deadline=None)
@given(st.floats(-3, 3), st.floats(0.01, 5))
def test_ranges_hold(low, width):
    for kind in ("uniform", "loguniform"):
        a = abs(low) + 0.01 if kind == "loguniform" else low
        values = recipes.sample({kind: [a, a + width]}, (200,), seeded())
        assert values.min() >= a - 1e-4 and values.max() <= a + width + 1e-4


def test_an_snr_can_be_of_one_size_or_of_energies(protocol):
    content = CLEAN | {"snr": 4.0, "concentrations": {"prior": "uniform"}}

    def noise(more):
        return made(protocol, content | more, n=32)[1].fid - made(protocol, content | more, n=32, noise=False)[1].fid

    fixed = noise({"snr_of": 80.0})
    assert fixed.real.std(-1).numpy() == pytest.approx(20, rel=0.1) and fixed.imag.std(-1).numpy() == pytest.approx(
        20, rel=0.1
    )
    clean = made(protocol, content, n=32, noise=False)[1].fid
    energies = clean.abs().square().sum(-1) / noise({"snr_of": "energy"}).abs().square().sum(-1)
    assert energies.sqrt().numpy() == pytest.approx(4, rel=0.1)


def test_metabolites_can_differ_in_shift_damping_and_phase(protocol):
    plain = CLEAN | {"lorentz_fwhm_hz": 0.0, "snr": 1e9}
    same = {"shift_hz": 3.0, "damping_per_s": -4.0, "phase_deg": 20.0}
    together = plain | {"shift_hz": 3.0, "lorentz_fwhm_hz": 4.0 / math.pi, "phase_deg": 20.0}
    one, other = made(protocol, plain | {"each": same}, noise=False)[1], made(protocol, together, noise=False)[1]
    torch.testing.assert_close(one.fid, other.fid, rtol=1e-3, atol=1e-3 * float(other.fid.abs().max()))
    drawn, spectra = made(protocol, plain | {"each": {"shift_hz": {"uniform": [-10, 10]}}}, n=3, noise=False)
    assert drawn["each"][..., 0].std(1).min() > 3 and not drawn["each"][..., 1:].any()
    # By hand, for one spectrum.
    turn = torch.exp(2j * torch.pi * drawn["each"][1, :, 0, None] * protocol.time)
    whole = (drawn["conc"][1, :, None] * protocol.basis * turn).sum(0)
    torch.testing.assert_close(spectra.fid[1], whole, rtol=1e-3, atol=1e-4 * float(whole.abs().max()))


def test_macromolecules_stay_unless_they_are_meant():
    basis = datasets.dss_basis("DSS1")
    lines = [name.startswith("mm") for name in basis.names]
    draw = lambda each: random_spectra.draw(  # noqa: E731
        recipes.Recipe.of("test", CLEAN | {"each": each}), 4, basis.names, seeded()
    )["each"]
    every = {"shift_hz": {"uniform": [-10, 10]}}
    assert not draw(every)[:, lines].any() and draw(every)[:, [not line for line in lines], 0].all()
    assert draw(every | {"macromolecules": True})[:, lines, 0].all()
