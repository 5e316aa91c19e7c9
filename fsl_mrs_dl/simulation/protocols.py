"""Protocols: the basis sets and axes of random spectra."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ..core import units
from ..core.axes import Axes
from ..physics import spinsim
from .recipes import sample

__all__ = ["Protocol", "protocol_of", "random_protocols"]


@dataclass(frozen=True)
class Protocol:
    """A basis set as tensors.

    Attributes
    ----------
    basis : complex64 tensor ``(n_metabs, n_points)``
    mm : complex64 tensor ``(12, n_points)``
        Lines of the parametric macromolecules; their sum has a highest peak of 1.
    names : tuple of str
        Metabolites of ``basis``.
    axes : Axes
    description : str
    te_s : float
        Echo time that measured macromolecules are weighted for, in seconds.
    """

    basis: torch.Tensor
    mm: torch.Tensor
    names: tuple[str, ...]
    axes: Axes
    description: str = ""
    te_s: float = 0.035

    @property
    def time(self) -> torch.Tensor:
        """Time after the echo in seconds, float32 ``(n_points,)``."""
        return torch.arange(self.axes.n_points, device=self.basis.device) * self.axes.dwelltime

    def to(self, device) -> Protocol:
        """Return the protocol on another device."""
        from dataclasses import replace

        return replace(self, basis=self.basis.to(device), mm=self.mm.to(device))


def protocol_of(fids, names, axes: Axes, description: str = "", te_s: float = 0.035) -> Protocol:
    """Return the protocol of a basis set.

    Parameters
    ----------
    fids : complex array ``(n_metabs, n_points)``
        In FSL-MRS's sign convention.
    names : sequence of str
    axes : Axes
        Their number of points is taken from ``fids``; spectra are drawn as those of protons.
    description : str
    te_s : float
        Echo time in seconds.
    """
    fids = np.asarray(fids)
    axes = Axes(fids.shape[-1], float(axes.dwelltime), float(axes.spec_freq_mhz))
    mm, _ = spinsim.macromolecules(
        "parametric", spec_freq_mhz=axes.spec_freq_mhz, bandwidth_hz=axes.bandwidth, n_points=axes.n_points
    )
    # The height of macromolecules in a recipe is that of their highest peak.
    top = np.abs(units.fid_to_spec(mm.sum(0))).max()
    return Protocol(
        torch.as_tensor(fids).to(torch.complex64),
        torch.as_tensor(mm / top).to(torch.complex64),
        tuple(names),
        axes,
        description,
        te_s,
    )


_BRAIN = "Ala Asc Asp Cr GABA GPC GSH Glc Gln Glu Gly Ins Lac NAA NAAG PCh PCr PE Scyllo Tau".split()


_RARE = ["Ser", "Thr", "Ace", "EA", "Pyr", "2HG", "bHB"]


def random_protocols(ranges: dict, n: int, seed: int, *, span_ppm: float = 9.6, n_points: int = 1024) -> list[Protocol]:
    """Simulate basis sets of random field, sequence and echo time on a common grid in ppm.

    Parameters
    ----------
    ranges : dict
        ``spec_freq_mhz`` and ``te_ms`` (ranges), ``sequences`` (list of
        :func:`fsl_mrs_dl.physics.spinsim.simulate_basis`'s names), ``rare`` (probability of each rare
        metabolite).
    n, seed : int
    span_ppm : float
        Bandwidth over the spectrometer frequency, centred on 4.65 ppm.
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
        wanted = _BRAIN + [name for name in _RARE if float(torch.rand(1, generator=random)) < ranges.get("rare", 0.2)]
        fids, names = spinsim.simulate_basis(
            wanted,
            sequence,
            spec_freq_mhz=freq,
            bandwidth_hz=span_ppm * freq,
            n_points=n_points,
            fwhm_hz=0.0,
            **options,
        )
        description = f"{sequence}, {freq:.1f} MHz" + (f", TE {te:.0f} ms" if options else "")
        protocols.append(
            protocol_of(
                fids,
                names,
                Axes(n_points, 1 / (span_ppm * freq), freq),
                description,
                0.0 if sequence == "fid" else 1e-3 * te,
            )
        )
    return protocols
