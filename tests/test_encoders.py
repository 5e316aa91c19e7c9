"""Encoders: shapes, sizes, lengths, and that each of them can learn."""

import pytest
import torch

from fsl_mrs_dl import encoders
from fsl_mrs_dl.errors import OptionError


@pytest.mark.parametrize("name", encoders.ENCODERS)
@pytest.mark.parametrize("n_points", [256, 301, 512, 1024])
def test_every_length_is_served_and_another_one_refused(name, n_points):
    network = encoders.make(name, n_points=n_points, n_out=7).eval()
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
    assert encoders.make(name, n_points=least, n_out=2)(torch.randn(2, 2, least)).shape == (2, 2)
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


def test_counts_are_right():
    network = torch.nn.Linear(10, 4)
    assert encoders.count_parameters(network) == 44
    assert encoders.count_flops(network, torch.randn(1, 10)) == 80


@pytest.mark.parametrize("name", encoders.ENCODERS)
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


def test_unknown_names_and_arguments_are_refused():
    with pytest.raises(OptionError, match="no such encoder.*cnn"):
        encoders.make("gru", n_points=256, n_out=2)
    with pytest.raises(OptionError, match="colour"):
        encoders.make("cnn", n_points=256, n_out=2, colour="red")
