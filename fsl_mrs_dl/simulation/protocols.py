"""Protocols: basis, field, bandwidth and number of points that random spectra are drawn for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ..core import units
from ..physics import spinsim
from .recipes import sample

__all__ = ["Protocol", "protocol_of", "random_protocols"]


@dataclass(frozen=True)
class Protocol:
    """A basis set on its grid as torch sees it.

    ``basis`` complex64 ``(n_metabs, n_points)``, ``mm`` ``(12, n_points)`` the parametric macromolecules, each line of
    unit height once it is as wide as the first; ``first_t`` the time of the first point in seconds (0: the echo).
    """

    basis: torch.Tensor
    mm: torch.Tensor
    names: tuple[str, ...]
    dwelltime: float
    spec_freq_mhz: float
    about: str = ""

    @property
    def time(self) -> torch.Tensor:
        """Seconds after the echo, float32 ``(n_points,)``."""
        return torch.arange(self.basis.shape[-1], device=self.basis.device) * self.dwelltime

    def to(self, device) -> Protocol:
        """The same on another device."""
        from dataclasses import replace

        return replace(self, basis=self.basis.to(device), mm=self.mm.to(device))


def protocol_of(fids, names, dwelltime: float, spec_freq_mhz: float, about: str = "") -> Protocol:
    """A protocol from basis FIDs, complex ``(n_metabs, n_points)`` in FSL-MRS's sign convention."""
    fids = np.asarray(fids)
    mm, _ = spinsim.macromolecules(
        "parametric", spec_freq_mhz=spec_freq_mhz, bandwidth_hz=1 / dwelltime, n_points=fids.shape[-1]
    )
    # One over the height of the highest of its lines: 'height' of a recipe's macromolecules is that of their highest
    # peak.
    top = np.abs(units.fid_to_spec(mm.sum(0))).max()
    return Protocol(
        torch.as_tensor(fids).to(torch.complex64),
        torch.as_tensor(mm / top).to(torch.complex64),
        tuple(names),
        float(dwelltime),
        float(spec_freq_mhz),
        about,
    )


_BRAIN = "Ala Asc Asp Cr GABA GPC GSH Glc Gln Glu Gly Ins Lac NAA NAAG PCh PCr PE Scyllo Tau".split()


_RARE = ["Ser", "Thr", "Ace", "EA", "Pyr", "2HG", "bHB"]


def random_protocols(ranges: dict, n: int, seed: int, *, span_ppm: float = 9.6, n_points: int = 1024) -> list[Protocol]:
    """Simulated basis sets of random field, sequence and echo time on a grid that is the same in ppm for all.

    Parameters
    ----------
    ranges : dict
        ``spec_freq_mhz`` and ``te_ms`` (ranges), ``sequences`` (list of
        :func:`fsl_mrs_dl.physics.spinsim.simulate_basis`'s names), ``rare`` (probability of each rarely seen
        metabolite).
    n, seed : int
    span_ppm : float
        Bandwidth over the spectrometer frequency; centred on 4.65 ppm are ``span_ppm / 2`` to either side.
    n_points : int

    Returns
    -------
    list of Protocol
    """
    random = torch.Generator().manual_seed(seed)
    protocols = []
    for _ in range(n):
        freq = float(sample(ranges["spec_freq_mhz"], (1,), random))
        te = float(sample(ranges["te_ms"], (1,), random))
        sequence = ranges["sequences"][int(torch.randint(len(ranges["sequences"]), (1,), generator=random))]
        options = {} if sequence == "fid" else {"te_ms": te}
        if sequence == "steam":
            options["tm_ms"] = float(sample({"uniform": [6, 40]}, (1,), random))
        names = _BRAIN + [name for name in _RARE if float(torch.rand(1, generator=random)) < ranges.get("rare", 0.2)]
        fids, names = spinsim.simulate_basis(
            names, sequence, spec_freq_mhz=freq, bandwidth_hz=span_ppm * freq, n_points=n_points, fwhm_hz=0.0, **options
        )
        about = f"{sequence}, {freq:.1f} MHz" + (f", TE {te:.0f} ms" if options else "")
        protocols.append(protocol_of(fids, names, 1 / (span_ppm * freq), freq, about))
    return protocols
