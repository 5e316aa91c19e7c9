"""Self-supervised networks for frequency and phase correction: dSR, dSRF, dCrR and dCrRF.

Shamaei, Starcukova, Pavlova, Starcuk, Magn Reson Med 2023;89:1221-1236, doi 10.1002/mrm.29498.  An encoder sees the first 512 points
of a transient and gives shift and phase; a decoder that is a formula makes the transient again from these, and the difference is
what is trained on: no truth is needed, so the user's own transients will do.  dSR and dSRF turn a reference transient; dCrR and dCrRF
fit a Lorentzian line to creatine at 3.027 ppm over the input apodised by 500 Hz.  The F compares spectra between 2.5 and 3.5 ppm only.

Shifts and phases have :mod:`fsl_mrs_dl.registration.solver`'s signs: a transient is its reference times ``exp(1j (2 pi shift_hz t + phase))``.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from ..core import units
from ..core.errors import DataError, OptionError
from ..simulation import random_spectra
from . import encoders

__all__ = [
    "METHODS",
    "Registration",
    "DSR",
    "DSRF",
    "DCrR",
    "DCrRF",
    "RegistrationStarter",
    "normalised",
    "choose_reference",
    "augment",
    "accuracy",
]

METHODS = {
    "dsr": {"creatine": False, "ppmlim": None},
    "dsrf": {"creatine": False, "ppmlim": (2.5, 3.5)},
    "dcrr": {"creatine": True, "ppmlim": None},
    "dcrrf": {"creatine": True, "ppmlim": (2.5, 3.5)},
}
"""The four by their published names."""

_CREATINE_PPM, _BASELINE_HZ = 3.027, 500.0


def normalised(fid: torch.Tensor, n_points: int) -> torch.Tensor:
    """FIDs over their largest magnitude, cut to ``n_points``, zeros appended where they are shorter (Eq. 1 of the paper)."""
    fid = fid / fid.abs().amax(-1, keepdim=True).clamp(min=1e-30)
    return nn.functional.pad(fid, (0, max(0, n_points - fid.shape[-1])))[..., :n_points].to(torch.complex64)


class Registration(nn.Module):
    """Encoder and model decoder.

    Parameters
    ----------
    method : str
        One of :data:`METHODS`.
    dwelltime, spec_freq_mhz : float
        Of the data it is for; seconds, MHz.
    encoder : str
        One of :data:`fsl_mrs_dl.networks.encoders.ENCODERS`.
    n_points : int
        Points of the FID that are seen.
    """

    def __init__(self, method: str, dwelltime: float, spec_freq_mhz: float, encoder: str = "align-cnn", n_points: int = 512):
        super().__init__()
        if method not in METHODS:
            raise OptionError(f"--method {method}: there is no such method; choose one of {', '.join(METHODS)}.")
        self.settings = {
            "method": method, "dwelltime": dwelltime, "spec_freq_mhz": spec_freq_mhz, "encoder": encoder, "n_points": n_points,
        }  # fmt: skip
        self.method, self.dwelltime, self.spec_freq_mhz, self.n_points = method, dwelltime, spec_freq_mhz, n_points
        self.creatine, ppmlim = METHODS[method]["creatine"], METHODS[method]["ppmlim"]
        self.encoder = encoders.make(encoder, n_points=n_points, n_out=4 if self.creatine else 2)
        self.register_buffer("time", torch.arange(n_points) * dwelltime, persistent=False)
        self.register_buffer("reference_ri", torch.zeros(2, n_points))
        ppm = units.ppm_axis(n_points, dwelltime, spec_freq_mhz)
        inside = np.ones(n_points, bool) if ppmlim is None else (ppm >= ppmlim[0]) & (ppm <= ppmlim[1])
        if inside.sum() < 4:
            raise OptionError(
                f"--method {method}: the data have {inside.sum()} points between 2.5 and 3.5 ppm; use {method[:-1]}."
            )
        self.register_buffer("inside", torch.as_tensor(inside), persistent=False)

    def set_reference(self, fid: torch.Tensor) -> None:
        """The transient that dSR and dSRF compare with; ``(n_points,)``."""
        one = normalised(fid, self.n_points)
        self.reference_ri.copy_(torch.stack([one.real, one.imag]))

    def forward(self, fid: torch.Tensor) -> dict[str, torch.Tensor]:
        """FIDs ``(batch, n)`` -> ``shift_hz``, ``phase`` (rad) ``(batch,)``, and for creatine ``height`` and ``damping`` (1/s)."""
        x = normalised(fid, self.n_points)
        out = self.encoder(torch.stack([x.real, x.imag], 1))
        # Units in which the published ranges (20 Hz, 90 degrees) are numbers about 1.
        found = {"shift_hz": 20 * out[:, 0], "phase": torch.pi / 2 * out[:, 1]}
        if self.creatine:
            found |= {"height": nn.functional.softplus(out[:, 2]), "damping": 30 * nn.functional.softplus(out[:, 3] + 0.5)}
        return found

    def decode(self, fid: torch.Tensor, found: dict[str, torch.Tensor]) -> torch.Tensor:
        """The transients ``(batch, n_points)`` made again from what was found."""
        angle = 2 * torch.pi * found["shift_hz"][:, None] * self.time + found["phase"][:, None]
        if not self.creatine:
            return torch.complex(*self.reference_ri) * torch.polar(torch.ones_like(angle), angle)
        angle = angle + 2 * torch.pi * units.ppm_to_hz(_CREATINE_PPM, self.spec_freq_mhz) * self.time
        line = torch.polar(found["height"][:, None] * torch.exp(-found["damping"][:, None] * self.time), angle)
        return line + normalised(fid, self.n_points) * torch.exp(-_BASELINE_HZ * self.time)

    def misfit(self, fid: torch.Tensor, found: dict[str, torch.Tensor]) -> torch.Tensor:
        """Mean squared difference between each transient and what is made of it, in the time domain or the part of the spectrum; ``(batch,)``."""
        difference = normalised(fid, self.n_points) - self.decode(fid, found)
        if self.inside.all():
            return difference.abs().square().mean(-1)
        return units.fid_to_spec(difference)[..., self.inside].abs().square().mean(-1)

    def loss(self, fid: torch.Tensor) -> torch.Tensor:
        """Mean of :meth:`misfit` for what the encoder finds."""
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


class RegistrationStarter:
    """A trained :class:`Registration` as a starter of :func:`fsl_mrs_dl.registration.solver.align_transients`."""

    def __init__(
        self, network: Registration, card, *, dwelltime: float, spec_freq_mhz: float, nucleus: str = "1H", reference=None
    ):
        self.network, self.card, self.name = network, card, card.name
        self.dwelltime, self.spec_freq_mhz, self.nucleus = dwelltime, spec_freq_mhz, nucleus
        if not np.isclose(dwelltime, network.dwelltime, rtol=1e-3) or not np.isclose(
            spec_freq_mhz, network.spec_freq_mhz, rtol=5e-3
        ):
            raise DataError(
                f"--model {card.name}: was trained for {1 / network.dwelltime:.0f} Hz at {network.spec_freq_mhz:.1f} MHz, the data have "
                f"{1 / dwelltime:.0f} Hz at {spec_freq_mhz:.1f} MHz; train one on data like these."
            )

    @property
    def absolute(self) -> bool:
        """Whether shifts and phases are those of a line of known place."""
        return self.network.creatine

    def refuses(self, n_points: int) -> str:
        """Why the network was not made for data like these, in words; empty if it was."""
        return self.card.refuses(nucleus=self.nucleus)

    def __call__(self, fid: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Complex ``(n_sets, n_channels, n_transients, n_points)`` -> shifts (Hz) and phases (degrees), ``(n_sets, n_transients)``."""
        self.network.to(fid.device)
        fid = torch.nan_to_num(fid).to(torch.complex64)
        combined = torch.stack([torch.einsum("c,ctn->tn", combination(one), one) for one in fid])
        with torch.no_grad():
            found = [self.network(part) for part in combined.flatten(0, 1).split(1024)]
        shift, phase = (torch.cat([one[name] for one in found]).reshape(combined.shape[:2]) for name in ("shift_hz", "phase"))
        return shift, torch.rad2deg(phase)


def combination(fid: torch.Tensor) -> torch.Tensor:
    """Weights that add up channels ``(n_channels, n_transients, n_points)`` to most signal, complex ``(n_channels,)``."""
    if fid.shape[0] == 1:
        return torch.ones(1, dtype=fid.dtype, device=fid.device)
    flat = fid[..., : min(256, fid.shape[-1])].flatten(1)
    _, vectors = torch.linalg.eigh(flat @ flat.conj().T)
    return vectors[:, -1].conj()


def choose_reference(fids: torch.Tensor, n_points: int = 512, seed: int = 0) -> int:
    """Index of the transient to compare with, chosen nearly as the paper does (section 2.4.2).

    Magnitudes fall into two clusters (k-means), with and without unstable water or lipids; the one that begins lower is without.  The paper
    takes its transient of highest SNR.  Where the clusters differ in something else, noise or line width, that would be one with much water:
    so it is the one that most others are like, by the distance to the nearest twentieth of them.  What is unstable scatters, and so does noise.

    Raises
    ------
    OptionError
        Where scikit-learn is not installed.
    """
    try:
        from sklearn.cluster import KMeans
    except ImportError as exc:
        raise OptionError(
            f"choosing a reference needs scikit-learn, which cannot be loaded ({exc}); install it with: pip install 'fsl_mrs_dl[train]'"
        ) from exc
    x = normalised(fids, n_points).abs()
    if len(x) < 4:
        return 0
    cluster = KMeans(2, n_init=10, random_state=seed).fit(x.numpy()).labels_
    first = [fids[cluster == k].abs().numpy()[:, :10].mean() if (cluster == k).any() else np.inf for k in (0, 1)]
    members = np.flatnonzero(cluster == int(np.argmin(first)))
    members = np.random.default_rng(seed).permutation(members)[:_MOST_COMPARED]
    if len(members) < 4:
        return int(members[0])
    distance = torch.cdist(x[members], x[members]).kthvalue(max(2, len(members) // 20), dim=-1).values
    return int(members[int(distance.argmin())])


_MOST_COMPARED = 3000


def augment(
    fids: torch.Tensor, recipe, dwelltime: float, spec_freq_mhz: float, n: int, generator: torch.Generator, chosen=None
) -> dict:
    """Credible variations of measured transients (section 2.2 of the paper).

    Parameters
    ----------
    fids : complex ``(n_fids, n_points)``
    recipe : Recipe
        Its ``augment`` holds ranges: ``shift_hz``, ``phase_deg``, ``apodise_fwhm_hz``, ``amplitude``, ``snr`` (largest magnitude of the FID over
        the SD of the added noise), and lines under ``nuisance`` of heights relative to the spectrum's.
    n : int
    chosen : int tensor ``(n,)``, optional
        Which FIDs are varied; random ones by default.

    Returns
    -------
    dict
        ``fid`` ``(n, n_points)`` and what was added: ``shift_hz``, ``phase`` (rad), and ``nuisance`` ``(n, n_lines)``, which lines are
        there; only tests and benchmarks make use of these.
    """
    spec = recipe.get("augment")
    if spec is None:
        raise OptionError(f"--recipe {recipe.name}: says nothing about augmentation; it needs an entry 'augment'.")
    if chosen is None:
        chosen = torch.randint(len(fids), (n,), generator=generator)
    fid = fids[chosen]
    draw = lambda key, default: random_spectra.sample(spec.get(key, default), (n,), generator)  # noqa: E731
    shift, phase, width = (
        draw("shift_hz", 0.0),
        draw("phase_deg", 0.0) * (torch.pi / 180),
        draw("apodise_fwhm_hz", 0.0).clamp(min=0),
    )
    amplitude, snr = draw("amplitude", 1.0).clamp(min=0.05), draw("snr", 1e9)
    fid = amplitude[:, None] * fid
    n_points = fid.shape[-1]
    nuisance = torch.zeros(n, 0, dtype=torch.bool)
    if spec.get("nuisance"):
        lines = random_spectra.sample_lines(spec["nuisance"], n, generator)
        nuisance = lines[..., 0] > 0
        height = units.fid_to_spec(fid).abs().amax(-1)
        fid = fid + height[:, None] * random_spectra.line_fids(lines, n_points, dwelltime, spec_freq_mhz)
    time = torch.arange(n_points) * dwelltime
    angle = 2 * torch.pi * shift[:, None] * time + phase[:, None]
    fid = fid * torch.polar(torch.exp(-torch.pi * width[:, None] * time), angle)
    noise_sd = fid.abs().amax(-1, keepdim=True) / snr[:, None]
    noise = torch.view_as_complex(torch.randn(n, n_points, 2, generator=generator))
    return {"fid": (fid + noise_sd * noise).to(torch.complex64), "shift_hz": shift, "phase": phase, "nuisance": nuisance}


def accuracy(network: Registration, fids, recipe, dwelltime: float, spec_freq_mhz: float, seed: int, n: int = 512) -> dict:
    """Robust SDs of a network's errors, and of what it had to find.

    Two variations of the same transient differ by what they were varied by; the transient's own drift, which nobody knows, is in
    both.  The error of that difference is that of one answer times the root of two.
    """
    generator = torch.Generator().manual_seed(seed * 1_000_003 + 3_000_000)
    chosen = torch.randint(len(fids), (n,), generator=generator)
    pair = [augment(fids, recipe, dwelltime, spec_freq_mhz, n, generator, chosen) for _ in range(2)]
    with torch.no_grad():
        found = [network(one["fid"]) for one in pair]
    turned = lambda x: torch.remainder(x + torch.pi, 2 * torch.pi) - torch.pi  # noqa: E731
    rows = {}
    for key, name, wrap, unit in (
        ("shift_hz", "shift (Hz)", lambda x: x, 1.0),
        ("phase", "phase (degrees)", turned, 180 / torch.pi),
    ):
        asked = unit * wrap(pair[0][key] - pair[1][key])
        error = unit * wrap(found[0][key] - found[1][key] - (pair[0][key] - pair[1][key]))
        for label, value in (("error", error), ("what it had to find", asked)):
            rows[f"{name}, SD of {label}"] = float(f"{1.4826 * value.abs().median() / 2**0.5:.4g}")
    return rows
