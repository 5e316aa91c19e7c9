"""Supervised networks for shift and phase of transients, frequency first and phase second.

The two networks that the paper of dSR (doi 10.1002/mrm.29498) compares with: a multilayer perceptron (Tapper et al.,
doi 10.1002/mrm.28525) and a convolutional network (Ma et al., doi 10.1002/mrm.29103).  One network reads the shift off
the magnitude spectrum; the transient is shifted back, and another reads the phase off the real part.  Layers are those
the papers describe; where the papers' ranges of the spectrum are counted in points of their own protocol, a ppm window
takes the place of them.

Shifts and phases have :mod:`fsl_mrs_dl.registration.alignment`'s signs.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from ..core import units
from ..core.errors import OptionError
from ..core.units import wrap_radians

__all__ = ["METHODS", "FrequencyThenPhase"]


def _perceptron(n_points: int) -> nn.Module:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(n_points, 1024), nn.ReLU(), nn.Linear(1024, 512), nn.ReLU(), nn.Linear(512, 1)
    )


def _convolutional(n_points: int) -> nn.Module:
    blocks: list[nn.Module] = []
    channels = 1
    for out in (4, 8):
        blocks += [
            nn.Conv1d(channels, out, 3, padding=1),
            nn.ReLU(),
            nn.Conv1d(out, out, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool1d(2),
        ]
        channels = out
    return nn.Sequential(
        *blocks,
        nn.Flatten(),
        nn.Linear(channels * (n_points // 4), 1024),
        nn.ReLU(),
        nn.Linear(1024, 512),
        nn.ReLU(),
        nn.Linear(512, 1),
    )


METHODS = {"tapper": _perceptron, "ma": _convolutional}
"""The two networks by their first authors, as functions of the number of points."""


class FrequencyThenPhase(nn.Module):
    """One network for the shift and one for the phase, in a row.

    Parameters
    ----------
    method : str
        One of :data:`METHODS`.
    dwelltime, spec_freq_mhz : float
        Of the data it is for; seconds, MHz.
    n_points : int
        Points of the FIDs.
    ppmlim : (float, float)
        Part of the spectrum that the networks take.
    """

    time: torch.Tensor

    def __init__(self, method: str, dwelltime: float, spec_freq_mhz: float, n_points: int, ppmlim=(0.2, 4.2)):
        super().__init__()
        if method not in METHODS:
            raise OptionError(
                "there is no such supervised method",
                option="method",
                value=method,
                remedy=f"choose one of {', '.join(METHODS)}",
            )
        self.settings = {
            "method": method,
            "dwelltime": dwelltime,
            "spec_freq_mhz": spec_freq_mhz,
            "n_points": n_points,
            "ppmlim": list(ppmlim),
        }
        self.dwelltime, self.n_points = dwelltime, n_points
        ppm = units.ppm_axis(n_points, dwelltime, spec_freq_mhz)
        self.inside = slice(*units.window_indices(ppm, tuple(ppmlim)))
        n_window = self.inside.stop - self.inside.start
        if n_window < 8:
            raise OptionError(
                f"the data have {n_window} points in {ppmlim} ppm, which are too few", option="method", value=method
            )
        self.frequency, self.phase = METHODS[method](n_window), METHODS[method](n_window)
        self.register_buffer("time", torch.arange(n_points) * dwelltime, persistent=False)

    def _window(self, fid: torch.Tensor) -> torch.Tensor:
        """Return spectra in the window over their largest magnitude, ``(batch, n)``."""
        spec = units.fid_to_spec(fid)[..., self.inside]
        return spec / spec.abs().amax(-1, keepdim=True).clamp(min=1e-30)

    def forward(self, fid: torch.Tensor, known_shift_hz: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
        """Return ``shift_hz`` and ``phase`` (rad), ``(batch,)``, of FIDs ``(batch, n_points)``.

        The phase is that of FIDs shifted back, by the known shift if one is given.
        """
        if fid.shape[-1] != self.n_points:
            raise OptionError(f"FrequencyThenPhase: was made for {self.n_points} points and got {fid.shape[-1]}.")
        # Units in which the published ranges (20 Hz, 90 degrees) are numbers about 1.
        shift = 20 * self.frequency(self._window(fid).abs()[:, None])[:, 0]
        undone = shift if known_shift_hz is None else known_shift_hz
        turn = -2 * np.pi * undone[:, None] * self.time
        straight = fid * torch.polar(torch.ones_like(turn), turn)
        return {"shift_hz": shift, "phase": np.pi / 2 * self.phase(self._window(straight).real[:, None])[:, 0]}

    def loss(self, fid: torch.Tensor, shift_hz: torch.Tensor, phase: torch.Tensor) -> torch.Tensor:
        """Return the sum of the two networks' mean squared errors, each in units of its range."""
        estimate = self(fid, shift_hz)
        turn = wrap_radians(estimate["phase"] - phase)
        return ((estimate["shift_hz"] - shift_hz) / 20).square().mean() + (turn / (np.pi / 2)).square().mean()
