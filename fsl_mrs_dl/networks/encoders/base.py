"""What all encoders have in common: one input shape, said clearly when another comes."""

from __future__ import annotations

import torch
from torch import nn

from ...core.errors import OptionError

__all__ = ["Encoder"]


class Encoder(nn.Module):
    """Base of all encoders.

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
    """What it makes of its input first: nothing ('points'), or the spectrum, spectrogram, scalogram or scattering of an
    FID."""
    keeps_view = False
    """Whether what it makes of its input first takes so much longer than the rest, ``layers``, that it is worth making
    only once."""

    def __init__(self, *, n_points: int, n_out: int, in_channels: int = 2):
        super().__init__()
        if n_points < self.least_points:
            raise OptionError(
                f"{type(self).__name__}: {n_points} points are too few, it needs {self.least_points}; use more points,"
                " or another encoder."
            )
        self.n_points, self.in_channels, self.n_out = n_points, in_channels, n_out

    def check(self, x: torch.Tensor) -> None:
        """Refuse another shape than the one it was made for."""
        if x.shape[-2:] != (self.in_channels, self.n_points):
            raise OptionError(
                f"{type(self).__name__}: was made for {self.in_channels} channels of {self.n_points} points and got "
                f"{tuple(x.shape[-2:])}; make one with n_points={x.shape[-1]}."
            )
