"""Networks that look at a signal and give numbers.  No physics here: what the numbers mean is up to who asks.

Every encoder is made for one input shape, ``(in_channels, n_points)``, of any length from its ``least_points`` on, and takes
``(batch, in_channels, n_points)``, real, to ``(batch, n_out)``.
"""

from __future__ import annotations

from torch import nn

from ..errors import OptionError
from .conv import AlignCNN, ConvNeXt, QuantCNN, ResNet
from .mlp import MLP, MLPMixer

__all__ = ["ENCODERS", "make", "count_parameters", "count_flops", "AlignCNN", "QuantCNN", "ConvNeXt", "ResNet", "MLP", "MLPMixer"]

ENCODERS = {
    "cnn": QuantCNN,
    "fc": MLP,
    "mlp-mixer": MLPMixer,
    "convnext": ConvNeXt,
    "align-cnn": AlignCNN,
    "resnet": ResNet,
}
"""The encoders by the names that commands and model cards use."""


def make(name: str, *, n_points: int, n_out: int, in_channels: int = 2, **arguments) -> nn.Module:
    """An encoder by name.

    Raises
    ------
    OptionError
        If there is none of that name, the input is too short for it, or it does not take an argument.
    """
    if name not in ENCODERS:
        raise OptionError(f"--encoder {name}: there is no such encoder; choose one of {', '.join(ENCODERS)}.")
    try:
        return ENCODERS[name](n_points=n_points, n_out=n_out, in_channels=in_channels, **arguments)
    except TypeError as exc:
        raise OptionError(f"--encoder {name}: {exc}.") from exc


def count_parameters(network: nn.Module) -> int:
    """Number of trained numbers."""
    return sum(parameter.numel() for parameter in network.parameters())


def count_flops(network: nn.Module, *inputs) -> int:
    """Floating-point operations of one forward pass (a multiplication and an addition are two), as torch counts them."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    training = network.training
    with counter, torch.no_grad():
        network.eval()(*inputs)
    network.train(training)
    return counter.get_total_flops()
