"""Self-supervised networks for frequency and phase correction: dSR, dSRF, dCrR and dCrRF.

Shamaei, Starcukova, Pavlova, Starcuk, Magn Reson Med 2023;89:1221-1236, doi 10.1002/mrm.29498.  An encoder takes
the first 512 points of a transient and gives shift and phase; a decoder without weights models the transient from
these, and their difference is minimised.  No truth is needed, so the user's own transients will do.  dSR and dSRF
turn a reference transient; dCrR and dCrRF fit a Lorentzian line to creatine at 3.027 ppm over the input apodised by 500
Hz.  The F compares spectra between 2.5 and 3.5 ppm only.

Shifts and phases have :mod:`fsl_mrs_dl.registration.alignment`'s signs: a transient is its reference times ``exp(1j (2
pi shift_hz t + phase))``.
"""

from __future__ import annotations

from typing import TypedDict

import numpy as np
import torch
from torch import nn

from ..core import units
from ..core.errors import OptionError
from ..core.transients import normalised
from . import encoders

__all__ = ["METHODS", "Method", "Registration", "DSR", "DSRF", "DCrR", "DCrRF"]


class Method(TypedDict):
    """Whether a method models creatine, and the part of the spectrum that it compares (ppm), or None for all."""

    creatine: bool
    ppmlim: tuple[float, float] | None


METHODS: dict[str, Method] = {
    "dsr": {"creatine": False, "ppmlim": None},
    "dsrf": {"creatine": False, "ppmlim": (2.5, 3.5)},
    "dcrr": {"creatine": True, "ppmlim": None},
    "dcrrf": {"creatine": True, "ppmlim": (2.5, 3.5)},
}
"""The four by their published names."""

_CREATINE_PPM, _BASELINE_HZ = 3.027, 500.0


class Registration(nn.Module):
    """Encoder of shift and phase, and a model of the transient as decoder.

    Parameters
    ----------
    method : str
        One of :data:`METHODS`.
    dwelltime, spec_freq_mhz : float
        Of the data it is for; seconds, MHz.
    encoder : str
        One of :data:`fsl_mrs_dl.networks.encoders.ENCODERS`.
    n_points : int
        Points of the FID that the encoder takes.
    """

    time: torch.Tensor
    reference_ri: torch.Tensor
    inside: torch.Tensor

    def __init__(
        self, method: str, dwelltime: float, spec_freq_mhz: float, encoder: str = "align-cnn", n_points: int = 512
    ):
        super().__init__()
        if method not in METHODS:
            raise OptionError(
                "there is no such method", option="method", value=method, remedy=f"choose one of {', '.join(METHODS)}"
            )
        self.settings = {
            "method": method,
            "dwelltime": dwelltime,
            "spec_freq_mhz": spec_freq_mhz,
            "encoder": encoder,
            "n_points": n_points,
        }
        self.method, self.dwelltime, self.spec_freq_mhz, self.n_points = method, dwelltime, spec_freq_mhz, n_points
        self.creatine, ppmlim = METHODS[method]["creatine"], METHODS[method]["ppmlim"]
        self.encoder = encoders.make(encoder, n_points=n_points, n_out=4 if self.creatine else 2)
        self.register_buffer("time", torch.arange(n_points) * dwelltime, persistent=False)
        self.register_buffer("reference_ri", torch.zeros(2, n_points))
        ppm = units.ppm_axis(n_points, dwelltime, spec_freq_mhz)
        inside = np.ones(n_points, bool) if ppmlim is None else (ppm >= ppmlim[0]) & (ppm <= ppmlim[1])
        if inside.sum() < 4:
            raise OptionError(
                f"the data have {inside.sum()} points between 2.5 and 3.5 ppm",
                option="method",
                value=method,
                remedy=f"use {method[:-1]}",
            )
        self.register_buffer("inside", torch.as_tensor(inside), persistent=False)

    def set_reference(self, fid: torch.Tensor) -> None:
        """Set the reference of dSR and dSRF, a transient ``(n_points,)``."""
        reference = normalised(fid, self.n_points)
        self.reference_ri.copy_(torch.stack([reference.real, reference.imag]))

    def forward(self, fid: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return ``shift_hz`` and ``phase`` (rad) of FIDs ``(batch, n)``, and for creatine ``height`` and ``damping``
        (1/s), ``(batch,)`` each."""
        x = normalised(fid, self.n_points)
        out = self.encoder(torch.stack([x.real, x.imag], 1))
        # Units in which the published ranges (20 Hz, 90 degrees) are numbers about 1.
        estimate = {"shift_hz": 20 * out[:, 0], "phase": torch.pi / 2 * out[:, 1]}
        if self.creatine:
            estimate |= {
                "height": nn.functional.softplus(out[:, 2]),
                "damping": 30 * nn.functional.softplus(out[:, 3] + 0.5),
            }
        return estimate

    def decode(self, fid: torch.Tensor, estimate: dict[str, torch.Tensor]) -> torch.Tensor:
        """Return the model of the transients, ``(batch, n_points)``, with the values of :meth:`forward`."""
        angle = 2 * torch.pi * estimate["shift_hz"][:, None] * self.time + estimate["phase"][:, None]
        if not self.creatine:
            return torch.complex(*self.reference_ri) * torch.polar(torch.ones_like(angle), angle)
        angle = angle + 2 * torch.pi * units.ppm_to_hz(_CREATINE_PPM, self.spec_freq_mhz) * self.time
        line = torch.polar(estimate["height"][:, None] * torch.exp(-estimate["damping"][:, None] * self.time), angle)
        return line + normalised(fid, self.n_points) * torch.exp(-_BASELINE_HZ * self.time)

    def misfit(self, fid: torch.Tensor, estimate: dict[str, torch.Tensor]) -> torch.Tensor:
        """Return the mean squared difference of each transient and its model, in the time domain or the part of the
        spectrum; ``(batch,)``."""
        difference = normalised(fid, self.n_points) - self.decode(fid, estimate)
        if self.inside.all():
            return difference.abs().square().mean(-1)
        return units.fid_to_spec(difference)[..., self.inside].abs().square().mean(-1)

    def loss(self, fid: torch.Tensor) -> torch.Tensor:
        """Return the mean of :meth:`misfit` with the encoder's values."""
        return self.misfit(fid, self(fid)).mean()


class DSR(Registration):
    """dSR: turns a reference transient; the whole FID counts.  Arguments of :class:`Registration` less the method."""

    def __init__(self, dwelltime: float, spec_freq_mhz: float, **arguments):
        super().__init__("dsr", dwelltime, spec_freq_mhz, **arguments)


class DSRF(Registration):
    """dSRF: turns a reference transient; 2.5 to 3.5 ppm count."""

    def __init__(self, dwelltime: float, spec_freq_mhz: float, **arguments):
        super().__init__("dsrf", dwelltime, spec_freq_mhz, **arguments)


class DCrR(Registration):
    """dCrR: fits a Lorentzian line to creatine, over the input apodised by 500 Hz; the whole FID counts."""

    def __init__(self, dwelltime: float, spec_freq_mhz: float, **arguments):
        super().__init__("dcrr", dwelltime, spec_freq_mhz, **arguments)


class DCrRF(Registration):
    """dCrRF: fits a Lorentzian line to creatine, over the input apodised by 500 Hz; 2.5 to 3.5 ppm count."""

    def __init__(self, dwelltime: float, spec_freq_mhz: float, **arguments):
        super().__init__("dcrrf", dwelltime, spec_freq_mhz, **arguments)
