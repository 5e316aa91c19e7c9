"""Encoders: shapes, sizes, lengths, and that each of them can learn, be saved and be loaded.

Everything here runs over all of ENCODERS, so that none can be registered without being tried.
"""

import inspect

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fsl_mrs_dl.core.errors import OptionError
from fsl_mrs_dl.networks import encoders

pytestmark = pytest.mark.usefixtures("one_thread")
NEEDED = {"scalogram": "ptwt", "scattering": "kymatio"}


def small(name):
    """Arguments that make an encoder quick; skips the test where what it needs is not installed."""
    library = NEEDED.get(encoders.ENCODERS[name].sees)
    if library:
        pytest.importorskip(library, reason=f"{library} is not installed (pip install 'fsl-mrs-dl[timefreq]')")
    share = {"spectrogram": 0.04, "scalogram": 0.5}.get(encoders.ENCODERS[name].sees, 0.1)
    return {"share": share} if "share" in inspect.signature(encoders.ENCODERS[name]).parameters else {}


LENGTHS = [
    (name, n) for name in encoders.ENCODERS for n in ((256, 301, 512, 1024) if name in encoders.OF_POINTS else (301,))
]


@pytest.mark.parametrize("name,n_points", LENGTHS)
def test_every_length_is_served_and_another_one_refused(name, n_points):
    network = encoders.make(name, n_points=n_points, n_out=7, **small(name)).eval()
    x = torch.randn(3, 2, n_points)
    assert network(x).shape == (3, 7)
    # One spectrum gives the same alone as in a batch.
    torch.testing.assert_close(network(x)[1:2], network(x[1:2]), rtol=1e-4, atol=1e-5)
    with pytest.raises(OptionError, match=f"{n_points} points.*n_points={n_points + 1}") as caught:
        network(torch.randn(3, 2, n_points + 1))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", encoders.ENCODERS)
def test_shortest_length_works_and_one_less_is_said_to_be_too_short(name):
    least = encoders.ENCODERS[name].least_points
    assert encoders.make(name, n_points=least, n_out=2, **small(name))(torch.randn(2, 2, least)).shape == (2, 2)
    with pytest.raises(OptionError, match="too few"):
        encoders.make(name, n_points=least - 1, n_out=2)


def test_sizes_are_the_papers():
    # 79 000 weights for DQ-nMM's 23 numbers from 1024 points; eight blocks, the last of 72 channels.
    network = encoders.make("cnn", n_points=1024, n_out=23)
    convolutions = [layer for layer in network.modules() if isinstance(layer, torch.nn.Conv1d)]
    assert [c.out_channels for c in convolutions] == [16, 24, 32, 40, 48, 56, 64, 72]
    assert all(c.stride == (2,) for c in convolutions)
    align = encoders.make("align-cnn", n_points=512, n_out=2)
    assert sum(isinstance(layer, torch.nn.Conv1d) for layer in align.modules()) == 6
    assert next(layer.p for layer in align.modules() if isinstance(layer, torch.nn.Dropout)) == 0.2


PUBLISHED = {
    # Kernels of the first convolutions and how wide they are, neurons of the linear layers, activation, and dropout, of
    # the published programs.
    "hatami": ([(32, 3), (64, 3), (128, 3), (256, 3), (512, 3)], [1024], "ReLU", {0.5}),
    "deepnet-1d": ([(8, 3), (16, 3), (32, 3), (64, 3), (128, 3), (256, 3)], [400], "ReLU", {0.1}),
    "shallownet-2d2c": ([(50, 9), (100, 5), (150, 3)], [], "ELU", {0.1, 0.15}),
    "shallownet-2d2c-relu": ([(50, 11), (100, 9), (150, 5)], [], "ReLU", {0.1, 0.15}),
    "shallownet-2d2c-hp": ([(300, 7), (100, 9), (150, 5)], [], "ELU", {0.35}),
    "deepnet-2d2c": ([(50, 9), (50, 9), (100, 5), (100, 5), (150, 3), (150, 3)], [], "ELU", {0.1, 0.15}),
    "deepnet-2d1c": ([(8, 3), (16, 3), (32, 3), (64, 3), (128, 3), (256, 3)], [400], "ReLU", {0.1}),
    "deepnet-2d1c-wide": ([(8, 13), (16, 11), (32, 9), (64, 7), (128, 5), (256, 3)], [400], "ReLU", {0.1}),
    "inceptionnet-1d": ([(50, 9), (25, 9), (25, 7), (25, 5), (25, 3), (25, 1)], [], "ELU", {0.2, 0.5}),
    "resnet-1d": ([(8, 3), (16, 3), (32, 1), (32, 3), (128, 1)], [400], "ReLU", {0.3}),
    "resnet-2d1c": ([(32, 1), (32, 3), (128, 1)], [400], "ReLU", {0.1}),
    "wscn": ([], [20], "Tanh", set()),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_sizes_are_the_default(name):
    library = NEEDED.get(encoders.ENCODERS[name].sees)
    if library:
        pytest.importorskip(library, reason=f"{library} is not installed (pip install 'fsl-mrs-dl[timefreq]')")
    kernels, hidden, activation, dropout = PUBLISHED[name]
    layers = list(encoders.make(name, n_points=1024, n_out=17).modules())
    found = [
        (one.out_channels, one.kernel_size[0]) for one in layers if isinstance(one, (torch.nn.Conv1d, torch.nn.Conv2d))
    ]
    assert found[: len(kernels)] == kernels
    assert [one.out_features for one in layers if isinstance(one, torch.nn.Linear)] == [*hidden, 17]
    assert any(type(one).__name__ == activation for one in layers)
    assert {
        one.p for one in layers if isinstance(one, (torch.nn.Dropout, torch.nn.Dropout1d, torch.nn.Dropout2d))
    } == dropout


def test_counts_are_right():
    network = torch.nn.Linear(10, 4)
    assert encoders.count_parameters(network) == 44
    assert encoders.count_flops(network, torch.randn(1, 10)) == 80


@pytest.mark.parametrize("name", encoders.OF_POINTS)
def test_each_learns_where_a_line_is(name):
    torch.manual_seed(0)
    time = torch.arange(256) / 256
    network = encoders.make(name, n_points=256, n_out=1)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3)
    first, last = None, None
    for step in range(60):
        place = torch.rand(32, 1) * 2 - 1
        line = torch.exp((2j * torch.pi * 4 * place - 3) * time)
        loss = (network(torch.view_as_real(line).mT) - place).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        first = first if first is not None else loss.item()
        last = loss.item() if step < 50 else 0.9 * last + 0.1 * loss.item()
    assert last < 0.35 * max(first, 0.3)


@pytest.mark.parametrize("name", [name for name in encoders.ENCODERS if name not in encoders.OF_POINTS])
def test_each_that_sees_fids_learns_a_few_lines(name):
    torch.manual_seed(0)
    network = encoders.make(name, n_points=256, n_out=1, **small(name))
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)
    # On one side of the carrier, as metabolites are: scattering does not tell the sides apart.
    place = torch.linspace(-1, 1, 8)[:, None]
    lines = torch.view_as_real(torch.exp((2j * torch.pi * (30 + 15 * place) - 3) * torch.arange(256) / 256)).mT
    loss_now = 1.0
    for _ in range(150):
        loss = (network(lines) - place).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        loss_now = 0.8 * loss_now + 0.2 * loss.item()
        if loss_now < 0.15:
            break
    assert loss_now < 0.15  # of 0.43 for the mean


@pytest.mark.parametrize("name", encoders.ENCODERS)
def test_every_weight_is_reached_by_the_loss(name):
    torch.manual_seed(0)
    network = encoders.make(
        name, n_points=300, n_out=3, in_channels=4 if encoders.ENCODERS[name].sees != "points" else 2, **small(name)
    )
    x = torch.randn(4, network.in_channels, 300)
    network(x).square().sum().backward()
    for key, weight in network.named_parameters():
        assert weight.grad is not None and torch.isfinite(weight.grad).all(), key
    assert sum(float(weight.grad.abs().sum()) > 0 for weight in network.parameters()) > 0.8 * len(
        list(network.parameters())
    )


@pytest.mark.parametrize("name", encoders.ENCODERS)
def test_each_is_saved_and_loaded_as_a_quantifier(name, tmp_path):
    from fsl_mrs_dl.networks import model_cards
    from fsl_mrs_dl.networks.supervised_quantification import Supervised

    torch.manual_seed(0)
    network = Supervised(["NAA", "Cr", "Glu"], 1 / 2000, 123.2, name, n_points=512, arguments=small(name)).eval()
    network.set_basis(torch.randn(3, 512, dtype=torch.complex64))
    content = {"name": "n", "what": "w", "training": {}, "ranges": {}, "accuracy": {}}
    model_cards.save(tmp_path / "n", network, content)
    again, card = model_cards.load(tmp_path / "n")
    fid = torch.randn(2, 512, dtype=torch.complex64)
    assert card.kind == "supervised" and torch.equal(again.concentrations(fid), network.concentrations(fid))


@pytest.mark.parametrize("name", encoders.ENCODERS)
def test_each_says_where_it_is_from_and_what_it_sees(name):
    cls = encoders.ENCODERS[name]
    assert cls.sees in ("points", "spectrum", "spectrogram", "scalogram", "scattering")
    assert cls.sees == "points" or any(
        word in inspect.getdoc(cls.__mro__[0]) + inspect.getdoc(cls.__mro__[1]) for word in ("doi 10.", "has no DOI")
    )


@given(st.sampled_from(sorted(encoders.ENCODERS)), st.integers(0, 100), st.integers(1, 5), st.integers(2, 3))
@settings(max_examples=25, deadline=None)
def test_shapes_hold_for_any_length_and_numbers(name, longer, n_out, batch):
    try:
        arguments = small(name)
    except pytest.skip.Exception:
        return
    n_points = encoders.ENCODERS[name].least_points + longer
    network = encoders.make(name, n_points=n_points, n_out=n_out, band=(-0.4, 0.1), **arguments)
    found = network(torch.randn(batch, 2, n_points))
    assert found.shape == (batch, n_out) and torch.isfinite(found).all()


def test_unknown_names_and_arguments_are_refused():
    with pytest.raises(OptionError, match="no such encoder.*cnn"):
        encoders.make("gru", n_points=256, n_out=2)
    with pytest.raises(OptionError, match="colour"):
        encoders.make("cnn", n_points=256, n_out=2, colour="red")
