"""Self-supervised networks for quantification: an encoder, and the physical model as its decoder.

Shamaei, Starcukova, Starcuk, Comput Biol Med 2023;158:106837, doi 10.1016/j.compbiomed.2023.106837.  The encoder sees the first 1024
points of an FID and gives concentrations (kept positive by a softplus), one damping, shift and phase; the decoder makes the FID again from a
basis set, and the difference is what is trained on.  In DQ-nMM macromolecules are a pattern of the basis set.

As fits do, the networks here look at a window of the spectrum: FIDs are limited to its band before they are seen or compared.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from . import encoders, units
from .concentrations import is_macromolecule, typical_concentrations
from .errors import OptionError
from .registration import normalised

__all__ = ["METHODS", "DQnMM"]

_USUAL_MM = 10.0  # as many times as big as one metabolite's unit; only where a search begins


class DQnMM(nn.Module):
    """Encoder and model decoder with macromolecules as a numeric pattern.

    Parameters
    ----------
    names : list of str
        Metabolites of the basis set.
    dwelltime, spec_freq_mhz : float
        Of the data; seconds, MHz.
    encoder : str
        One of :data:`fsl_mrs_dl.encoders.ENCODERS`.
    n_points : int
        Points of the FID that are seen.
    ppmlim : (float, float)
        The window.
    """

    method = "dq-nmm"

    def __init__(
        self, names, dwelltime: float, spec_freq_mhz: float, encoder: str = "cnn", n_points: int = 1024, ppmlim=(0.2, 4.2)
    ):
        super().__init__()
        self.settings = {
            "names": list(names), "dwelltime": dwelltime, "spec_freq_mhz": spec_freq_mhz, "encoder": encoder, "n_points": n_points,
            "ppmlim": list(ppmlim),
        }  # fmt: skip
        self.names, self.dwelltime, self.spec_freq_mhz, self.n_points = list(names), dwelltime, spec_freq_mhz, n_points
        self.encoder = encoders.make(encoder, n_points=n_points, n_out=len(self.names) + 3)
        self.register_buffer("time", torch.arange(n_points) * dwelltime, persistent=False)
        ppm = units.ppm_axis(n_points, dwelltime, spec_freq_mhz)
        inside = (ppm >= ppmlim[0]) & (ppm <= ppmlim[1])
        if inside.sum() < 16:
            raise OptionError(
                f"the data have {inside.sum()} points between {ppmlim[0]:g} and {ppmlim[1]:g} ppm, at least 16 are needed."
            )
        self.register_buffer("inside", torch.as_tensor(inside), persistent=False)
        self.register_buffer("basis_ri", torch.zeros(2, len(self.names), n_points))
        self.register_buffer("usual", torch.ones(len(self.names)))

    def set_basis(self, fids) -> None:
        """The basis set, complex ``(n_metabs, n_points)`` on the data's grid."""
        fids = torch.as_tensor(np.asarray(fids)).to(torch.complex64)[:, : self.n_points]
        mm = np.array([is_macromolecule(name) for name in self.names])
        typical = typical_concentrations(self.names)
        typical = np.ones(len(mm)) if typical is None else np.where(typical > 0, typical, 0.3)
        usual = torch.as_tensor(np.where(mm, _USUAL_MM, typical), dtype=torch.float32)
        # What an FID of height one holds of each; the encoder's numbers are then about one for everybody.
        whole = self.limited((usual.to(fids.dtype) @ fids)[None]).abs().max()
        self.basis_ri.copy_(torch.stack([fids.real, fids.imag]))
        self.usual.copy_(usual / whole)

    def limited(self, fid: torch.Tensor) -> torch.Tensor:
        """FIDs without what lies outside the window."""
        return units.spec_to_fid(units.fid_to_spec(fid) * self.inside)

    def prepared(self, fid: torch.Tensor) -> torch.Tensor:
        """FIDs ``(batch, n)`` as the encoder and the loss see them, ``(batch, n_points)``."""
        return normalised(self.limited(normalised(fid, self.n_points)), self.n_points)

    def forward(self, fid: torch.Tensor) -> dict[str, torch.Tensor]:
        """FIDs -> ``conc`` ``(batch, n_metabs)`` for a :meth:`prepared` FID, ``damping`` (1/s), ``shift_hz`` and ``phi0`` (rad), ``(batch,)``."""
        return self.encode(self.prepared(fid))

    def encode(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """The same from prepared FIDs."""
        out = self.encoder(torch.stack([x.real, x.imag], 1))
        n = len(self.names)
        return {
            "conc": nn.functional.softplus(out[:, :n] + 0.54) * self.usual,
            "damping": 10 * nn.functional.softplus(out[:, n]),
            "shift_hz": 10 * out[:, n + 1],
            "phi0": out[:, n + 2],
        }

    def decode(self, found: dict[str, torch.Tensor]) -> torch.Tensor:
        """FIDs ``(batch, n_points)`` from what was found."""
        fid = found["conc"].to(torch.complex64) @ torch.complex(*self.basis_ri)
        angle = 2 * torch.pi * found["shift_hz"][:, None] * self.time - found["phi0"][:, None]
        return fid * torch.polar(torch.exp(-found["damping"][:, None] * self.time), angle)

    def loss(self, fid: torch.Tensor) -> torch.Tensor:
        """Mean squared difference between FIDs and what is made of them, in the window's band."""
        x = self.prepared(fid)
        return (x - self.limited(self.decode(self.encode(x)))).abs().square().mean()


METHODS = {DQnMM.method: DQnMM}
"""The networks by their published names."""
