"""Base of all encoders."""

from __future__ import annotations

import torch
from torch import nn

from ...core.errors import OptionError
from .views import View

__all__ = ["Encoder"]


class Encoder(nn.Module):
    """Encoder for one input shape.

    Parameters
    ----------
    n_points, in_channels, n_out : int
        Input and output sizes.

    Raises
    ------
    OptionError
        If ``n_points`` is less than ``least_points``.
    """

    least_points = 16
    sees = "points"
    """First transform of the input: none ('points'), or 'spectrum', 'spectrogram', 'scalogram', 'scattering'."""
    keeps_view = False
    """Whether the first transform takes so much longer than the rest, ``layers``, that it is worth keeping."""

    view: View
    """The first transform, of encoders that have one."""
    layers: nn.Sequential

    def __init__(self, *, n_points: int, n_out: int, in_channels: int = 2):
        super().__init__()
        if n_points < self.least_points:
            raise OptionError(
                f"{type(self).__name__}: {n_points} points are too few, it needs {self.least_points}; use more points,"
                " or another encoder."
            )
        self.n_points, self.in_channels, self.n_out = n_points, in_channels, n_out

    def check(self, x: torch.Tensor) -> None:
        """Raise an error for another shape than the encoder was made for.

        Raises
        ------
        OptionError
        """
        if x.shape[-2:] != (self.in_channels, self.n_points):
            raise OptionError(
                f"{type(self).__name__}: was made for {self.in_channels} channels of {self.n_points} points and got "
                f"{tuple(x.shape[-2:])}; make one with n_points={x.shape[-1]}."
            )
