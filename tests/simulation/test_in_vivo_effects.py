"""Parts of the recipe for in vivo spectra: each does what its ranges say, and is absent where the recipe lacks it."""

import json
import time

import numpy as np
import pytest
import torch

from fsl_mrs_dl.cli.main import main
from fsl_mrs_dl.core import units
from fsl_mrs_dl.core.axes import Axes
from fsl_mrs_dl.core.errors import OptionError
from fsl_mrs_dl.io import nifti
from fsl_mrs_dl.physics.in_vivo_components import build_components
from fsl_mrs_dl.simulation import in_vivo_effects, protocols, random_spectra, recipes
from fsl_mrs_dl.training import universal_tasks

CLEAN = {"concentrations": {"prior": "typical", "spread": 0.0}, "lorentz_fwhm_hz": 3.0, "snr": 1e6}
AXES = Axes(2048, 1 / 2000, 123.2)


@pytest.fixture(scope="module")
def protocol(sim_basis):
    return protocols.protocol_of(sim_basis.fids, sim_basis.names, sim_basis.axes)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def rendered(protocol, content, n=8, seed=0):
    drawn = random_spectra.draw(recipes.Recipe.of("test", CLEAN | content), n, protocol.names, seeded(seed))
    return drawn, random_spectra.render(drawn, protocol, noise=False)


SHIM = {"linear_hz_3t": {"normal": [0, 2]}, "quadratic_hz_3t": {"normal": [0, 2]}}


def test_the_line_shape_is_the_mean_over_the_voxel():
    """Beside the definition: the mean of the turns of all points of the voxel."""
    shim = in_vivo_effects.draw_shim(SHIM, 6, seeded())
    shapes = in_vivo_effects.shim_line_shapes(shim, AXES)
    hz = shim @ in_vivo_effects.harmonics() * (123.2 / (3 * 42.577))
    direct = torch.exp(2j * torch.pi * hz[..., None] * torch.arange(600) * AXES.dwelltime).mean(1)
    assert torch.allclose(shapes[:, :600], direct.to(shapes.dtype), atol=2e-3)
    assert torch.allclose(shapes[:, 0], torch.ones(6, dtype=shapes.dtype), atol=1e-5)


def test_line_shapes_have_no_shift_the_width_that_is_told_and_are_not_symmetric():
    shim = in_vivo_effects.draw_shim(SHIM, 200, seeded())
    hz = shim @ in_vivo_effects.harmonics() * (123.2 / (3 * 42.577))
    assert hz.mean(1).abs().max() < 1e-4
    told = in_vivo_effects.shim_widths_hz(shim, 123.2)
    assert torch.allclose(told, hz.std(1, correction=0) * 2.3548, rtol=1e-3)
    skewness = ((hz / hz.std(1, keepdim=True)) ** 3).mean(1)
    assert skewness.abs().median() > 0.2
    linear_only = in_vivo_effects.draw_shim({"linear_hz_3t": {"normal": [0, 2]}}, 50, seeded())
    hz = linear_only @ in_vivo_effects.harmonics()
    assert ((hz / hz.std(1, keepdim=True)) ** 3).mean(1).abs().max() < 0.1


def test_the_shim_s_width_grows_with_the_field():
    shim = in_vivo_effects.draw_shim(SHIM, 5, seeded())
    ratio = in_vivo_effects.shim_widths_hz(shim, 297.2) / in_vivo_effects.shim_widths_hz(shim, 123.2)
    assert torch.allclose(ratio, torch.full((5,), 297.2 / 123.2))


def test_macromolecules_have_the_measured_places_and_proportions_at_their_echo_time(protocol):
    """Beside the in-vivo model's own components."""
    axes, n = protocol.axes, 3
    lines = in_vivo_effects.draw_macromolecules({"amount": 1.0}, n, seeded())
    for te_s in (0.035, 0.08):
        fids = in_vivo_effects.macromolecule_fids(lines, axes, te_s)
        basis = np.ones((1, axes.n_points), complex)
        parts = build_components(basis, ("NAA",), axes, te_s=te_s, tr_s=100.0)
        mm = parts.kinds == "mm"
        damping = np.exp(-parts.gauss_variance[mm][:, None] * protocol.time.numpy() ** 2)
        expected = (parts.fids[mm] * damping).sum(0) * 5  # the basis' first point is that of five protons
        assert np.allclose(fids[0].numpy(), expected, atol=2e-4 * abs(expected).max())


def test_macromolecules_spread_about_their_proportions():
    spec = {"amount": 5.0, "spread": 0.2, "shift_ppm": {"normal": [0, 0.01]}, "log_width": {"normal": [0, 0.1]}}
    lines = in_vivo_effects.draw_macromolecules(spec, 4000, seeded())
    assert lines[..., 0].log().mean() == pytest.approx(np.log(5), abs=0.01)
    assert lines[..., 0].log().std() == pytest.approx(0.2, rel=0.03)
    assert lines[..., 1].std() == pytest.approx(0.01, rel=0.03) and lines[..., 2].std() == pytest.approx(0.1, rel=0.03)
    absent = in_vivo_effects.draw_macromolecules(spec | {"probability": 0.25}, 4000, seeded())[:, 0, 0] == 0
    assert absent.float().mean() == pytest.approx(0.75, abs=0.03)


def test_scalp_lipid_has_its_height_moves_as_one_and_keeps_its_proportions(protocol):
    spec = {"height": 2.0, "shift_ppm": 0.1, "phase_deg": 90.0, "fwhm_ppm": 0.1}
    drawn, made = rendered(protocol, {"scalp_lipid": spec})
    spectra = units.fid_to_spec(made.nuisance)
    ppm, size = protocol.axes.ppm(), (spectra.imag.abs() / made.height[:, None]).numpy()
    window = (ppm > 0.5) & (ppm < 2.0)
    assert np.allclose(size[:, window].max(1), 2.0, rtol=0.1)
    assert np.allclose(ppm[window][size[:, window].argmax(1)], 1.4, atol=0.02)
    lines = in_vivo_effects.scalp_lipid_lines(drawn["scalp_lipid"])
    assert torch.allclose(lines[0, :, 0] / lines[0, 1, 0], torch.tensor([0.2, 1, 0.12, 0.16, 0.1, 0.03, 0.12]))


def test_an_echo_is_centred_in_time_and_as_high_as_asked(protocol):
    spec = {"height": 0.5, "ppm": 3.0, "time_ms": 120.0, "duration_ms": 10.0, "phase_deg": {"uniform": [-180, 180]}}
    _, made = rendered(protocol, {"echoes": spec})
    size = made.nuisance.abs().numpy()
    time_s = protocol.axes.time()
    centre = (size**2 * time_s).sum(1) / (size**2).sum(1)
    assert np.allclose(centre, 0.12, atol=2e-3)
    height = units.fid_to_spec(made.nuisance).abs().amax(1) / made.height
    assert torch.allclose(height, torch.full_like(height, 0.5), rtol=0.03)


def test_single_metabolites_move_by_the_same_ppm_at_every_field(sim_basis):
    content = {"each": {"shift_ppm": {"normal": [0, 0.01]}}}
    protocol = protocols.protocol_of(sim_basis.fids[:1], sim_basis.names[:1], sim_basis.axes)
    drawn, made = rendered(protocol, content)
    turn = torch.exp(2j * torch.pi * drawn["each_shift_ppm"] * sim_basis.axes.spec_freq_mhz * protocol.time)
    decay = torch.exp(-torch.pi * 3.0 * protocol.time)
    expected = drawn["conc"] * protocol.basis * turn * decay
    assert torch.allclose(made.metabolites, expected.to(made.metabolites.dtype), atol=1e-4 * expected.abs().max())


@pytest.mark.parametrize("part", ["shim", "each", "measured_macromolecules", "baseline", "water", "lipids"])
def test_every_part_of_the_recipe_can_be_off(protocol, part):
    content = recipes.Recipe.load("in-vivo").content
    without = {name: value for name, value in content.items() if name != part}
    on, off = (
        random_spectra.render(
            random_spectra.draw(recipes.Recipe.of("test", one), 32, protocol.names, seeded()), protocol, noise=False
        )
        for one in (content, without)
    )
    assert not torch.allclose(on.fid, off.fid)
    if part == "shim":
        assert off.metabolites[:, -400:].abs().mean() > on.metabolites[:, -400:].abs().mean()


@pytest.mark.parametrize(
    "name, spec",
    [
        ("shim", {"cubic": 1.0}),
        ("measured_macromolecules", {"amount": 1.0, "height": 2.0}),
        ("scalp_lipid", {"height": 1.0, "n": 3}),
        ("echoes", {"height": 1.0, "ppm": 3.0, "time_ms": 100.0, "duration_ms": 5.0, "width": 1.0}),
    ],
)
def test_unknown_entries_are_refused(protocol, name, spec):
    with pytest.raises(OptionError, match=name):
        rendered(protocol, {name: spec})


def test_the_network_s_width_counts_the_shim(sim_basis):
    fast = protocols.random_protocols(
        {"spec_freq_mhz": 123.0, "te_ms": 30.0, "sequences": ["press"], "rare": 0.0}, 1, 0
    )[0]
    with_shim = recipes.Recipe.of("a", CLEAN | {"gauss_fwhm_hz": 3.0, "shim": SHIM})
    batch = universal_tasks.quant_batch(with_shim, fast, 16, seeded())
    assert (batch["gauss_hz"] > 3.0).all() and batch["gauss_hz"].std() > 0.3
    assert batch["spec"].shape == (16, 424) and torch.isfinite(batch["baseline"].abs()).all()


def test_protocols_carry_their_echo_time():
    ranges = {"spec_freq_mhz": 64.0, "te_ms": {"uniform": [100, 150]}, "sequences": ["press"], "rare": 0.0}
    (protocol,) = protocols.random_protocols(ranges, 1, 0)
    assert 0.1 < protocol.te_s < 0.15
    (at_once,) = protocols.random_protocols(ranges | {"sequences": ["fid"]}, 1, 0)
    assert at_once.te_s == 0.0


def test_a_batch_costs_less_than_a_step_of_the_network(sim_basis):
    """Training must not wait for the simulator: a step of the network on 128 spectra takes a quarter of a second of a
    core, and so a batch may not."""
    recipe = recipes.Recipe.load("in-vivo")
    (protocol,) = protocols.random_protocols(
        {"spec_freq_mhz": 123.0, "te_ms": 30.0, "sequences": ["press"], "rare": 0.0}, 1, 0
    )
    universal_tasks.quant_batch(recipe, protocol, 128, seeded())
    began = time.process_time()
    universal_tasks.quant_batch(recipe, protocol, 128, seeded())
    assert time.process_time() - began < 1.0


def test_the_command_writes_spectra_and_their_truth(tmp_path, sim_basis, capsys):
    sim_basis.save(tmp_path / "basis")
    words = ["simulate", "spectra", "--basis", str(tmp_path / "basis"), "--spectra", "5", "--TE", "35"]
    for name in ("a", "b"):
        assert main([*words, "--seed", "3", "--output", str(tmp_path / name)]) == 0
    assert "recipe in-vivo" in capsys.readouterr().out
    data, again = (nifti.load(tmp_path / name / "spectra.nii.gz") for name in ("a", "b"))
    truth = json.loads((tmp_path / "a/truth.json").read_text())
    assert data.fids.shape[-1] == 5 and data.dim_tags == ("DIM_USER_0",) and np.array_equal(data.fids, again.fids)
    assert all(len(truth[key]) == 5 for key in ("shift_ppm", "phase_deg", "snr", "noise_sd"))
    assert set(truth["concentrations"]) == set(sim_basis.names)
    # Far from all signal is noise of the SD that is told; a rare spike, which is a cosine there, adds to it.
    spectra = units.fid_to_spec(np.moveaxis(data.fids[0, 0, 0], 0, -1))
    outside = spectra[:, np.abs(sim_basis.axes.ppm() - 4.65) > 7]
    noise = np.diff(outside.real, axis=1).std(1) / np.sqrt(2)
    assert np.median(noise / truth["noise_sd"]) == pytest.approx(1, abs=0.15)
    assert main([*words[:-2], "--recipe", "augment-spectra", "--output", str(tmp_path / "c")]) != 0
    assert "varies measured data" in capsys.readouterr().err
