"""The denoiser: what it leaves alone, that it learns, and what it refuses."""

import pytest
import torch

from fsl_mrs_dl.core import units
from fsl_mrs_dl.core.axes import Axes
from fsl_mrs_dl.core.errors import OptionError
from fsl_mrs_dl.networks import denoiser
from fsl_mrs_dl.simulation import protocols, random_spectra, recipes


def small(**other):
    torch.manual_seed(0)
    return denoiser.Denoiser(5e-4, 123.2, channels=4, kernel=8, layers=2, **other).eval()


def test_the_published_network_is_the_default():
    network = denoiser.Denoiser(1 / 8000, 123.2, 4096)
    shapes = [tuple(layer.weight.shape) for layer in network.layers if hasattr(layer, "weight")]
    # Of a transposed convolution the input's channels come first.
    assert shapes == [(64, 2, 32), (128, 64, 32), (256, 128, 32), (256, 128, 32), (128, 64, 32), (64, 2, 32)]


@pytest.mark.parametrize("n_points", [512, 1024, 1500])
def test_what_lies_outside_the_window_is_given_back(n_points):
    network, fid = small(), torch.randn(3, n_points, dtype=torch.complex64)
    with torch.no_grad():
        out = network(fid)
    assert out.shape == fid.shape
    inside = network.inside(n_points)
    before, after = units.fid_to_spec(fid), units.fid_to_spec(out)
    before[:, inside], after[:, inside] = 0, 0
    torch.testing.assert_close(before, after, rtol=1e-4, atol=1e-4)
    ppm = units.ppm_axis(n_points, 5e-4, 123.2)
    assert ppm[inside][0] >= 0.2 and ppm[inside][-1] <= 4.2 and ppm[inside.stop] > 4.2 and ppm[inside.start - 1] < 0.2


def test_the_answer_scales_with_the_data():
    network, fid = small(), torch.randn(2, 1024, dtype=torch.complex64)
    with torch.no_grad():
        torch.testing.assert_close(network(1e3 * fid), 1e3 * network(fid), rtol=1e-3, atol=1e-2)


def test_double_precision_goes_in_and_comes_out():
    network, fid = small(), torch.randn(2, 1024, dtype=torch.complex128)
    with torch.no_grad():
        out = network(fid)
        assert out.dtype == fid.dtype
        torch.testing.assert_close(out.to(torch.complex64), network(fid.to(torch.complex64)), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("settings,message", [({"layers": 3}, "even"), ({"ppmlim": (2.0, 2.05)}, "at least 16")])
def test_impossible_networks_are_refused(settings, message):
    with pytest.raises(OptionError, match=message):
        denoiser.Denoiser(5e-4, 123.2, **settings)


@pytest.mark.filterwarnings("ignore")
def test_it_learns_and_the_card_says_how_much(tmp_path, capsys, sim_basis, one_thread):
    pytest.importorskip("lightning", reason="Lightning is not installed (pip install 'fsl_mrs_dl[train]')")
    from fsl_mrs_dl.cli.main import main
    from fsl_mrs_dl.networks import model_cards

    sim_basis.save(tmp_path / "basis")
    words = [
        "train",
        "denoise",
        "--basis",
        str(tmp_path / "basis"),
        "--output",
        str(tmp_path / "net"),
        "--bandwidth",
        "2000",
    ]
    words += [
        "--channels",
        "16",
        "--kernel",
        "16",
        "--layers",
        "4",
        "--steps",
        "400",
        "--batch_size",
        "16",
        "--device",
        "cpu",
    ]
    assert main([*words, "--threads", "1", "--points", "512", "--learning_rate", "0.003"]) == 0, capsys.readouterr().err
    network, card = model_cards.load(tmp_path / "net")
    assert card.kind == "autoencoder" and card["ranges"]["dwelltime"][0] < 5e-4 < card["ranges"]["dwelltime"][1]
    (said,) = card["accuracy"]["at SNR 5"].values()
    assert said < 70
    # Measured here again, on other spectra.
    protocol = protocols.protocol_of(
        sim_basis.resampled(5e-4, 512), sim_basis.names, Axes(512, 5e-4, sim_basis.spec_freq_mhz)
    )
    recipe = recipes.Recipe.load("normal-brain")
    recipe = recipes.Recipe.of("at 5", recipe.content | {"snr": 5})
    made = random_spectra.render(
        random_spectra.draw(recipe, 200, protocol.names, torch.Generator().manual_seed(5)), protocol
    )
    clean = made.metabolites + made.nuisance
    with torch.no_grad():
        left = network.window_energy(network(made.fid) - clean) / network.window_energy(made.fid - clean)
    assert 100 * float(left) ** 0.5 == pytest.approx(said, rel=0.15)
