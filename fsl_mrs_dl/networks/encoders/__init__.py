"""Encoders: networks from a signal to numbers, without physics.

Every encoder is made for one input shape, ``(in_channels, n_points)``, of any length from its ``least_points`` on, and
takes ``(batch, in_channels, n_points)``, real, to ``(batch, n_out)``.  Encoders whose class attribute ``sees`` is not
points take FIDs, real and imaginary parts in turn, and transform them to a spectrum, spectrogram, scalogram or
scattering (:mod:`.views`); the others take any signal.
"""

from __future__ import annotations

import inspect

import torch
from torch import nn

from ...core.errors import OptionError
from .base import Encoder
from .conv import AlignCNN, ConvNeXt, QuantCNN, ResNet
from .conv2d import (
    DeepNet2D1C,
    DeepNet2D1CWide,
    DeepNet2D2C,
    InceptionNet2D1C,
    ResNet2D1C,
    ResNet2D1CWide,
    ShallowNet2D2C,
    ShallowNet2D2CHp,
    ShallowNet2D2CReLU,
)
from .mlp import MLP, MLPMixer
from .spectrum import DeepNet1D, Hatami, InceptionNet1D, ResNet1D, UNet1DR, UNet1DRJoint
from .timefreq import WSCN, ScalogramCNN

__all__ = [
    "ENCODERS",
    "OF_POINTS",
    "make",
    "count_parameters",
    "count_flops",
    "AlignCNN",
    "QuantCNN",
    "ConvNeXt",
    "ResNet",
    "MLP",
    "MLPMixer",
]

ENCODERS: dict[str, type[Encoder]] = {
    "cnn": QuantCNN,
    "fc": MLP,
    "mlp-mixer": MLPMixer,
    "convnext": ConvNeXt,
    "align-cnn": AlignCNN,
    "resnet": ResNet,
    "hatami": Hatami,
    "scalogram": ScalogramCNN,
    "wscn": WSCN,
    "deepnet-1d": DeepNet1D,
    "resnet-1d": ResNet1D,
    "inceptionnet-1d": InceptionNet1D,
    "unet-1dr": UNet1DR,
    "unet-1dr-joint": UNet1DRJoint,
    "shallownet-2d2c": ShallowNet2D2C,
    "shallownet-2d2c-relu": ShallowNet2D2CReLU,
    "shallownet-2d2c-hp": ShallowNet2D2CHp,
    "deepnet-2d2c": DeepNet2D2C,
    "deepnet-2d1c": DeepNet2D1C,
    "deepnet-2d1c-wide": DeepNet2D1CWide,
    "resnet-2d1c": ResNet2D1C,
    "resnet-2d1c-wide": ResNet2D1CWide,
    "inceptionnet-2d1c": InceptionNet2D1C,
}
"""The encoders by the names that commands and model cards use."""

OF_POINTS = tuple(name for name, cls in ENCODERS.items() if cls.sees == "points")
"""Encoders that take any signal, FID or not."""


def make(name: str, *, n_points: int, n_out: int, in_channels: int = 2, band=None, **arguments) -> Encoder:
    """Return an encoder by name.

    Parameters
    ----------
    name : str
        One of :data:`ENCODERS`.
    n_points, n_out, in_channels : int
        Sizes of input and output.
    band : (float, float), optional
        Part of the spectrum in cycles per point, for encoders of a spectrum.
    **arguments
        More of the encoder.

    Raises
    ------
    OptionError
        If there is none of that name, the input is too short for it, or it does not take an argument.
    """
    if name not in ENCODERS:
        raise OptionError(
            "there is no such encoder", option="encoder", value=name, remedy=f"choose one of {', '.join(ENCODERS)}"
        )
    if band is not None and "band" in inspect.signature(ENCODERS[name]).parameters:
        arguments["band"] = tuple(band)
    try:
        encoder = ENCODERS[name](n_points=n_points, n_out=n_out, in_channels=in_channels, **arguments)
    except TypeError as exc:
        raise OptionError(str(exc), option="encoder", value=name) from exc
    # Kernels of images in the order of oneDNN: up to twice as quick on a CPU, and the same numbers but for rounding.
    return encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks it


def count_parameters(network: nn.Module) -> int:
    """Return the number of weights."""
    return sum(parameter.numel() for parameter in network.parameters())


def count_flops(network: nn.Module, *inputs) -> int:
    """Return the floating-point operations of one forward pass, as torch counts them (a multiplication and an addition
    are two)."""
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    training = network.training
    with counter, torch.no_grad():
        network.eval()(*inputs)
    network.train(training)
    return counter.get_total_flops()
