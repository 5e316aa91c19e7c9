"""The universal networks: what they see does not depend on the grid of the data, and their proposals mean what they
say."""

import math

import numpy as np
import pytest
import torch

from fsl_mrs_dl.core import units
from fsl_mrs_dl.core.axes import Axes
from fsl_mrs_dl.networks import universal
from fsl_mrs_dl.networks.universal import GRID_PPM, AlignUniversal, PpmGrid, QuantUniversal
from fsl_mrs_dl.preproc.proposals import UniversalProposal
from fsl_mrs_dl.simulation import protocols as protocols_module
from fsl_mrs_dl.simulation import recipes
from fsl_mrs_dl.training import universal_tasks


def line(ppm, n_points, dwelltime, freq, width=6.0, shift_hz=0.0, phi0=0.0):
    """One line on a grid of time, FSL-MRS's sign of the phase."""
    t = torch.arange(n_points, dtype=torch.float64) * dwelltime
    angle = 2 * torch.pi * (units.ppm_to_hz(ppm, freq) + shift_hz) * t - phi0
    return torch.polar(torch.exp(-torch.pi * width * t), angle)


def spectrum(*places, freq=123.2, n_points=1024, dwelltime=1 / 2000, **options):
    return sum(line(ppm, n_points, dwelltime, freq, **options) * size for ppm, size in places)


BRAIN = ((2.01, 1.0), (3.03, 0.7), (3.2, 0.5), (3.9, 0.4), (3.55, 0.4))


def halved_fft(fid):
    fid = fid.clone()
    fid[..., 0] *= 0.5
    return torch.fft.fft(fid, dim=-1, norm="ortho")


@pytest.mark.parametrize("n_points,dwelltime", [(1024, 1 / 2000), (2048, 1 / 2000), (4096, 1 / 4000), (1980, 1 / 2500)])
def test_the_same_signal_looks_the_same_on_every_grid_of_time(n_points, dwelltime):
    fid = spectrum(*BRAIN, n_points=n_points, dwelltime=dwelltime)
    grid = PpmGrid(np.arange(n_points), n_points, dwelltime, 123.2)(halved_fft(fid)[None])[0]
    # The integral over time does not know the sampling; half the first point makes the sum one.
    exact = torch.as_tensor(
        sum(a / (math.pi * 6 + 2j * math.pi * (GRID_PPM - ppm) * 123.2) for ppm, a in BRAIN)
        / dwelltime
        / math.sqrt(n_points)
    )
    assert (grid - exact).abs().max() < 0.01 * exact.abs().max()
    assert GRID_PPM[grid.abs().argmax()] == pytest.approx(2.01, abs=0.01)


def test_a_window_of_the_spectrum_is_enough():
    n, dwelltime = 2048, 1 / 2000
    spec = halved_fft(spectrum(*BRAIN, n_points=n))
    ppm = np.fft.fftfreq(n, dwelltime) / 123.2 + 4.65
    inside = np.flatnonzero((ppm > 0.0) & (ppm < 4.4))
    whole = PpmGrid(np.arange(n), n, dwelltime, 123.2)(spec)
    part = PpmGrid(inside, n, dwelltime, 123.2)(spec[inside])
    assert (whole - part).abs().max() < 0.02 * whole.abs().max()


def test_peaks_of_a_distribution_are_found_with_their_mass():
    values = torch.linspace(-0.4, 0.4, 81)
    mass = 0.7 * torch.exp(-0.5 * ((values - 0.103) / 0.008) ** 2) + 0.3 * torch.exp(
        -0.5 * ((values + 0.2) / 0.008) ** 2
    )
    place, probability = universal.peaks(mass.log().clamp(min=-80)[None], values, 2)
    assert place[0].numpy() == pytest.approx([0.103, -0.2], abs=0.002)
    assert probability[0].numpy() == pytest.approx([0.7, 0.3], abs=0.05)


@pytest.fixture(scope="module")
def trusting():
    """An alignment network that trusts every point: a plain matched filter, so that its arithmetic can be held to the
    truth."""
    network = AlignUniversal().eval()
    with torch.no_grad():
        network.weights.weight.zero_()
        network.weights.bias.fill_(8.0)
    return network


@pytest.mark.parametrize("shift_hz,phi0", [(3.3, 0.5), (-17.77, 2.0), (0.4, 0.1), (20.0, -1.0), (38.0, 3.0)])
@pytest.mark.parametrize("freq", [123.2, 297.2])
def test_shift_and_phase_of_a_matched_filter_are_exact(trusting, shift_hz, phi0, freq):
    dwelltime = 0.246 / freq
    grid = PpmGrid(np.arange(1024), 1024, dwelltime, freq)
    reference, moved = (
        grid(halved_fft(spectrum(*BRAIN, freq=freq, dwelltime=dwelltime, **options))[None])
        for options in ({}, {"shift_hz": shift_hz, "phi0": phi0})
    )
    with torch.no_grad():
        found = trusting.propose(moved, reference, freq)
    assert found["shift_ppm"].item() * freq == pytest.approx(shift_hz, abs=0.002 * freq)
    assert math.remainder(found["phi0"].item() - phi0, 2 * math.pi) == pytest.approx(0, abs=0.03)


@pytest.mark.parametrize("known", [True, False])
def test_the_proposal_has_the_signs_of_alignments(trusting, known):
    from fsl_mrs_dl.registration.alignment import align_transients

    random = np.random.default_rng(0)
    shift, phi = random.uniform(-20, 20, 12), random.uniform(-2, 2, 12)
    fids = torch.stack([spectrum(*BRAIN, shift_hz=s, phi0=p) for s, p in zip(shift, phi)])
    fids += 0.02 * torch.view_as_complex(torch.as_tensor(random.standard_normal((12, 1024, 2))))
    axes = Axes(1024, 1 / 2000, 123.2)
    reference = spectrum(*BRAIN).numpy() if known else None
    proposal = UniversalProposal(trusting, type("Card", (), {"name": "trusting"}), axes, reference=reference)
    proposed = proposal(fids[None, None])
    found = align_transients(fids.numpy(), axes, reference=reference, proposal=proposal)
    for shifts, phases in ((proposed[0][0].numpy(), proposed[1][0].numpy()), (found.shift_hz, found.phase_deg)):
        error = shifts - shift
        turn = np.exp(1j * (np.deg2rad(phases) + phi))
        if not known:
            error, turn = error - error.mean(), turn / np.mean(turn)
        assert np.abs(error).max() < 0.6 and np.abs(np.angle(turn)).max() < 0.1


def test_channels_of_any_gain_are_combined(trusting):
    axes = Axes(1024, 1 / 2000, 123.2)
    shift = np.array([0.0, 5.0, -8.0, 12.0])
    one = torch.stack([spectrum(*BRAIN, shift_hz=s) for s in shift])
    coils = torch.stack([one * g for g in (1.0, 0.5j, -0.8 + 0.2j)])
    proposal = UniversalProposal(trusting, type("Card", (), {"name": "trusting"}), axes)
    found = proposal(coils[None])[0][0].numpy()
    assert found - found[0] == pytest.approx(shift, abs=0.6)


def test_quant_batches_hold_the_truth_of_their_spectra():
    recipe = recipes.Recipe.load("normal-brain")
    protocols = protocols_module.random_protocols(recipes.Recipe.load("universal").get("protocols"), 1, seed=0)
    batch = universal_tasks.quant_batch(recipe, protocols[0], 8, torch.Generator().manual_seed(0))
    assert batch["spec"].shape == (8, 424) and batch["baseline"].shape == (8, 16)
    assert batch["shift_ppm"].abs().max() <= 0.3
    assert batch["spec_freq_mhz"].unique().item() == pytest.approx(protocols[0].axes.spec_freq_mhz)


@pytest.mark.parametrize("kind", ["quant", "align"])
def test_losses_fall_when_the_networks_learn(kind):
    torch.manual_seed(0)
    recipe = recipes.Recipe.load("normal-brain" if kind == "quant" else "universal-transients")
    protocols = protocols_module.random_protocols(recipes.Recipe.load("universal").get("protocols"), 2, seed=0)
    network = QuantUniversal() if kind == "quant" else AlignUniversal(width=8, depth=3)
    make, loss = (
        (universal_tasks.quant_batch, universal_tasks.quant_loss)
        if kind == "quant"
        else (universal_tasks.align_batch, universal_tasks.align_loss)
    )
    optimiser = torch.optim.Adam(network.parameters(), lr=2e-3)
    totals = []
    generator = torch.Generator().manual_seed(0)
    for step in range(40 if kind == "quant" else 15):
        terms = loss(network, make(recipe, protocols[step % 2], 32, generator))
        optimiser.zero_grad()
        terms["total"].backward()
        optimiser.step()
        totals.append(terms["total"].item())
    assert all(math.isfinite(t) for t in totals)
    assert np.mean(totals[-4:]) < 0.95 * np.mean(totals[:4])
