"""Self-supervised networks for quantification: an encoder, and the physical model as its decoder.

Shamaei, Starcukova, Starcuk, Comput Biol Med 2023;158:106837, doi 10.1016/j.compbiomed.2023.106837.  The encoder takes
the first 1024 points of an FID and gives concentrations (kept positive by a softplus), one damping, shift and phase;
the decoder models the FID from these and a basis set, and their difference is minimised.  The methods differ in their
macromolecules: in DQ-nMM they are a pattern of the basis set, in DQ-pMM lines with an amplitude each, and in DQ-rpMM
such lines and a penalty where the metabolites alone do not explain the FID from a cut-off time on.

As fits do, the networks here use a window of the spectrum: FIDs are limited to its band before they are encoded or
compared.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from ..core import units
from ..core.errors import OptionError
from ..core.metabolites import is_macromolecule, typical_concentrations
from ..core.transients import normalised
from . import encoders

__all__ = ["METHODS", "Quantifier", "DQnMM", "DQpMM", "DQrpMM", "Ensemble"]

_OF_FIDS = 5.0  # weight of the residual's part of the energy, beside a teacher
_USUAL_MM = 10.0  # as many times as big as one metabolite's unit; only where a search begins


class Quantifier(nn.Module):
    """Base of networks that quantify: metabolites, a grid, a window, a basis set, and scaling to unit height.

    Parameters
    ----------
    names : list of str
        Metabolites of the basis set.
    dwelltime, spec_freq_mhz : float
        Of the data; seconds, MHz.
    encoder : str
        One of :data:`fsl_mrs_dl.networks.encoders.ENCODERS`.
    n_points : int
        Points of the FID that the encoder takes.
    ppmlim : (float, float)
        The window.
    n_out : int
        Numbers that the encoder gives.
    more : dict, optional
        More arguments of the encoder.
    """

    time: torch.Tensor
    inside: torch.Tensor
    basis_ri: torch.Tensor
    usual: torch.Tensor

    def __init__(
        self, names, dwelltime: float, spec_freq_mhz: float, encoder: str, n_points: int, ppmlim, n_out: int, more=None
    ):
        super().__init__()
        self.settings = {
            "names": list(names),
            "dwelltime": dwelltime,
            "spec_freq_mhz": spec_freq_mhz,
            "encoder": encoder,
            "n_points": n_points,
            "ppmlim": list(ppmlim),
        }
        self.names, self.dwelltime, self.spec_freq_mhz, self.n_points = list(names), dwelltime, spec_freq_mhz, n_points
        band = [float(units.ppm_to_hz(one, spec_freq_mhz)) * dwelltime for one in ppmlim]
        self.encoder = encoders.make(encoder, n_points=n_points, n_out=n_out, band=band, **(more or {}))
        self.register_buffer("time", torch.arange(n_points) * dwelltime, persistent=False)
        ppm = units.ppm_axis(n_points, dwelltime, spec_freq_mhz)
        inside = (ppm >= ppmlim[0]) & (ppm <= ppmlim[1])
        if inside.sum() < 16:
            raise OptionError(
                f"the data have {inside.sum()} points between {ppmlim[0]:g} and {ppmlim[1]:g} ppm, at least 16 are"
                " needed."
            )
        self.register_buffer("inside", torch.as_tensor(inside), persistent=False)
        self.register_buffer("basis_ri", torch.zeros(2, len(self.names), n_points))
        self.register_buffer("usual", torch.ones(len(self.names)))

    def set_basis(self, fids) -> None:
        """Set the basis set, complex ``(n_metabs, n_points)`` on the data's grid."""
        fids = torch.as_tensor(np.asarray(fids)).to(torch.complex64)[:, : self.n_points]
        mm = np.array([is_macromolecule(name) for name in self.names])
        typical = typical_concentrations(self.names)
        typical = np.ones(len(mm)) if typical is None else np.where(typical > 0, typical, 0.3)
        usual = torch.as_tensor(np.where(mm, _USUAL_MM, typical), dtype=torch.float32)
        # Concentrations in an FID of height one; the encoder's outputs are then about one for each metabolite.
        whole = self.limited((usual.to(fids.dtype) @ fids)[None]).abs().max()
        self.basis_ri.copy_(torch.stack([fids.real, fids.imag]))
        self.usual.copy_(usual / whole)

    def limited(self, fid: torch.Tensor) -> torch.Tensor:
        """Return FIDs limited to the window."""
        return units.spec_to_fid(units.fid_to_spec(fid) * self.inside)

    def prepared(self, fid: torch.Tensor) -> torch.Tensor:
        """Return FIDs ``(batch, n)`` limited to the window and scaled, ``(batch, n_points)``."""
        return normalised(self.limited(normalised(fid, self.n_points)), self.n_points)

    def scale(self, fid: torch.Tensor) -> torch.Tensor:
        """Return the factors that scale prepared FIDs to the size of the FIDs, ``(batch,)``."""
        whole = fid.abs().amax(-1)
        return whole * self.limited(normalised(fid, self.n_points)).abs().amax(-1)

    def concentrations(self, fid: torch.Tensor) -> torch.Tensor:
        """Return concentrations for FIDs ``(batch, n)`` in the units of FID and basis set, ``(batch, n_metabs)``."""
        return self(fid)["conc"] * self.scale(fid)[:, None]


class DQnMM(Quantifier):
    """Encoder and model decoder with macromolecules as a numeric pattern; parameters are :class:`Quantifier`'s."""

    method = "dq-nmm"
    _more = 0  # numbers the encoder gives beyond those of all methods

    def __init__(
        self,
        names,
        dwelltime: float,
        spec_freq_mhz: float,
        encoder: str = "cnn",
        n_points: int = 1024,
        ppmlim=(0.2, 4.2),
    ):
        super().__init__(names, dwelltime, spec_freq_mhz, encoder, n_points, ppmlim, len(names) + 3 + self._more)

    def forward(self, fid: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return ``conc`` ``(batch, n_metabs)`` for :meth:`prepared` FIDs, ``damping`` (1/s), ``shift_hz`` and ``phi0``
        (rad), ``(batch,)``, of FIDs ``(batch, n)``."""
        return self.encode(self.prepared(fid))

    def encode(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the same as :meth:`forward` from prepared FIDs."""
        return self.parameters_of(self.encoder(torch.stack([x.real, x.imag], 1)))

    def parameters_of(self, out: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the parameters of :meth:`forward` for outputs of the encoder ``(batch, n_out)``."""
        n = len(self.names)
        return {
            "conc": nn.functional.softplus(out[:, :n] + 0.54) * self.usual,
            "damping": 10 * nn.functional.softplus(out[:, n]),
            "shift_hz": 10 * out[:, n + 1],
            "phi0": out[:, n + 2],
        } | self._own(out[:, n + 3 :])

    def _own(self, out: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return a method's own parameters, from the last of the encoder's outputs."""
        return {}

    def decode(self, parameters: dict[str, torch.Tensor], which: torch.Tensor | None = None) -> torch.Tensor:
        """Return the model of the FIDs, ``(batch, n_points)``, with the parameters of :meth:`forward`.

        ``which`` ``(n_metabs,)`` bool limits it to some entries of the basis set.
        """
        conc = parameters["conc"] if which is None else parameters["conc"] * which
        # Real products are quicker than complex ones, and twice so where gradients are wanted.
        fid = torch.complex(conc @ self.basis_ri[0], conc @ self.basis_ri[1])
        angle = 2 * torch.pi * parameters["shift_hz"][:, None] * self.time - parameters["phi0"][:, None]
        return fid * torch.polar(torch.exp(-parameters["damping"][:, None] * self.time), angle)

    def loss(
        self, fid: torch.Tensor, target: torch.Tensor | None = None, spread: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return the mean squared difference of FIDs and their model in the window's band, and the method's own term.

        With a teacher, which is not in the paper, it is taken relative to the signal's energy, and the squared
        difference of concentrations from those fitted to the same FIDs is added: ``target`` ``(batch, n_metabs)`` in
        the data's units, NaN for none, over ``spread`` ``(n_metabs,)``.  Fits weigh every metabolite by its
        information in the data; a difference of FIDs hardly depends on weak or overlapping ones.
        """
        x = self.prepared(fid)
        parameters = self.encode(x)
        total = self.misfit(x, parameters).mean()
        if target is None:
            return total
        assert spread is not None  # goes with a target
        known = torch.isfinite(target)
        away = (parameters["conc"] * self.scale(fid)[:, None] - torch.where(known, target, 0.0)) / spread
        taught = torch.where(known, away, 0.0).square().sum() / known.sum().clamp(min=1)
        return _OF_FIDS * total / x.abs().square().mean() + taught

    def misfit(self, x: torch.Tensor, parameters: dict[str, torch.Tensor]) -> torch.Tensor:
        """Return the published loss of every prepared FID with the parameters of :meth:`forward`, ``(batch,)``."""
        # In the spectrum's window, the same as all points of FIDs limited to it, and quicker.
        residual = units.fid_to_spec(x - self.decode(parameters))[:, self.inside]
        return torch.view_as_real(residual).square().sum((-1, -2)) / x.shape[-1] + self._rule(x, parameters)

    def _rule(self, x: torch.Tensor, parameters: dict[str, torch.Tensor]) -> torch.Tensor:
        """Return a method's own term of the loss of every FID, ``(batch,)``."""
        return x.real.new_zeros(len(x))


class DQpMM(DQnMM):
    """As :class:`DQnMM`, with macromolecules as lines: entries of the basis set with an amplitude each."""

    method = "dq-pmm"
    metabolites: torch.Tensor

    def __init__(self, names, *args, **kwargs):
        super().__init__(names, *args, **kwargs)
        self.register_buffer(
            "metabolites", torch.tensor([not is_macromolecule(name) for name in self.names]), persistent=False
        )
        if self.metabolites.all():
            raise OptionError(
                "needs macromolecules in the basis set",
                option="method",
                value=self.method,
                remedy="add some with `mm`",
            )


# Unit of lambda: that of FIDs that are about 55 high, with half of a mean square as loss, as in the paper's published
# program.
_LAMBDA = 2 / 55**2
_SIGN_S = 3e-4  # width of the smooth step at the cut-off


class DQrpMM(DQpMM):
    """As :class:`DQpMM`, with the paper's regularisation (Eq. 5).

    From a cut-off time on, which the encoder gives for every spectrum, metabolites alone must explain the FID; a late
    cut-off costs ``lam`` a second.  The default puts the cut-off where macromolecules are about as small as the noise
    of a usual spectrum, 0.05 to 0.1 s; the paper tried 0 to 8 in a unit that it does not state.
    """

    method = "dq-rpmm"
    _more = 1

    def __init__(self, names, *args, lam: float = 0.05, **kwargs):
        super().__init__(names, *args, **kwargs)
        if lam < 0:
            raise OptionError("must not be negative", option="lam", value=f"{lam:g}")
        self.settings["lam"] = self.lam = lam

    def _own(self, out: torch.Tensor) -> dict[str, torch.Tensor]:
        # Begins at a quarter of the FID, where macromolecules have decayed, and moves slowly: a cut-off that runs away
        # spoils the encoder.
        whole = self.n_points * self.dwelltime
        return {"cutoff_s": 0.5 * whole * torch.sigmoid(0.3 * out[:, 0])}

    def _rule(self, x: torch.Tensor, parameters: dict[str, torch.Tensor]) -> torch.Tensor:
        late = self.time - parameters["cutoff_s"][:, None]
        # FIDs limited to a band ring about their beginning, and the end of an FID lies next to that.
        after = (
            (1 + late / torch.sqrt(late.square() + _SIGN_S**2))
            / 2
            * (self.time < 0.75 * self.n_points * self.dwelltime)
        )
        residual = (after * (x - self.limited(self.decode(parameters, self.metabolites)))).abs().square().mean(-1)
        return (residual + self.lam * _LAMBDA * parameters["cutoff_s"]) / 2


class Ensemble(nn.Module):
    """Ensemble of networks of one kind with different initial weights: the mean of their answers, with their spread.

    Lakshminarayanan, Pritzel, Blundell, arXiv 1612.01474.

    Parameters
    ----------
    method : str
        One of :data:`METHODS`.
    n : int
        Number of networks.
    member : dict
        Arguments of each network.
    """

    def __init__(self, method: str, n: int, member: dict):
        super().__init__()
        self.settings = {"method": method, "n": n, "member": member}
        self.members = nn.ModuleList(self.methods()[method](**member) for _ in range(n))

    @staticmethod
    def methods() -> dict:
        """Return the classes that members can have, by name."""
        return METHODS

    @property
    def names(self) -> list[str]:
        """Metabolites of the basis set."""
        return self.networks()[0].names

    def networks(self) -> list[Quantifier]:
        """Return the members in a list of their type."""
        return [member for member in self.members if isinstance(member, Quantifier)]

    def forward(self, fid: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the means of the members' :meth:`DQnMM.forward`."""
        each = [member(fid) for member in self.members]
        return {name: torch.stack([parameters[name] for parameters in each]).mean(0) for name in each[0]}

    def each(self, fid: torch.Tensor) -> torch.Tensor:
        """Return every member's :meth:`DQnMM.concentrations`, ``(n, batch, n_metabs)``."""
        return torch.stack([member.concentrations(fid) for member in self.networks()])

    def concentrations(self, fid: torch.Tensor) -> torch.Tensor:
        """Return the mean of :meth:`each`, ``(batch, n_metabs)``."""
        return self.each(fid).mean(0)


METHODS = {cls.method: cls for cls in (DQnMM, DQpMM, DQrpMM)}
"""The networks by their published names."""
