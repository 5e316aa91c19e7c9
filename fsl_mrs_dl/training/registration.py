"""Training of dSR, dSRF, dCrR and dCrRF on measured transients."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from ..core import units
from ..core.axes import Axes
from ..core.errors import OptionError
from ..core.transients import normalised
from ..core.units import wrap_radians
from ..networks import encoders
from ..networks.self_supervised_registration import Registration
from ..registration import alignment
from ..simulation import recipes
from .augmentation import augment
from .batches import split_usable
from .cards import protocol_ranges, recipe_entry, rounded
from .checkpoints import fingerprint
from .settings import Settings
from .trainer import Training, seed_weights

__all__ = ["RegistrationTraining", "choose_reference", "registration_accuracy"]


class RegistrationTraining(Training):
    """Self-supervised training of dSR, dSRF, dCrR or dCrRF on measured transients, without a truth.

    Parameters
    ----------
    method : str
        One of :data:`fsl_mrs_dl.networks.self_supervised_registration.METHODS`.
    fids : complex array ``(n_transients, n_points)``
        One in ten, at least one, is kept for validation.
    axes : Axes
        Of the FIDs.
    settings : Settings, optional
    recipe : str or path, optional
        How transients are varied; 'augment-transients' by default.
    encoder : str
        One of :data:`fsl_mrs_dl.networks.encoders.ENCODERS`.
    reference : str
        Reference of dSR and dSRF: 'mean', of some of the transients aligned by search, or 'k-means', one transient
        chosen by :func:`choose_reference`.
    source : str
        Name of the data on the model card.

    Raises
    ------
    DataError, OptionError
        Too few usable transients; an unknown method, reference or recipe; lines of 1H in another nucleus.
    """

    def __init__(
        self,
        method: str,
        fids,
        axes: Axes,
        *,
        settings: Settings | None = None,
        recipe: str | Path | None = None,
        encoder: str = "align-cnn",
        reference: str = "mean",
        source: str = "transients of yours",
    ):
        self.settings = settings or Settings()
        self.method, self.fids, self.encoder, self.reference, self.source = method, fids, encoder, reference, source
        self.used, self.held = split_usable(fids, self.settings.seed, source)
        self.axes = axes.with_points(self.used.shape[-1])
        self.recipe = recipes.Recipe.load(recipe or "augment-transients")
        if axes.nucleus != "1H" and method != "dsr":
            raise OptionError(
                f"looks for lines of 1H spectra, the data are {axes.nucleus}",
                option="method",
                value=method,
                remedy="choose dsr",
            )

    def network(self, seed: int | None = None) -> Registration:
        seed_weights(self.settings.seed if seed is None else seed)
        network = Registration(self.method, self.axes.dwelltime, self.axes.spec_freq_mhz, self.encoder)
        if not network.creatine:
            network.set_reference(_reference(self.reference, self.used, self.axes, network.n_points, self.settings))
        return network

    def batch(self, generator) -> dict[str, torch.Tensor]:
        return augment(self.used, self.recipe, self.axes, self.settings.batch_size, generator)

    def held_back(self, generator) -> dict[str, torch.Tensor]:
        return augment(self.held, self.recipe, self.axes, self.settings.batch_size, generator)

    def loss(self, network, batch) -> dict[str, torch.Tensor]:
        return {"total": network.loss(batch["fid"])}

    def start(self) -> dict:
        return {
            "recipe": self.recipe.content,
            "transients": fingerprint(self.fids),
            "reference": self.reference,
        }

    def card(self, network) -> dict:
        accuracy = registration_accuracy(network, self.held, self.recipe, self.axes, self.settings.seed)
        return {
            "what": f"Proposes shift and phase of transients of one protocol ({self.method}, self-supervised).",
            "architecture": {"flops": encoders.count_flops(network, self.used[:1])},
            "training": {
                "recipe": recipe_entry(self.recipe),
                "basis": f"{len(self.used)} measured transients: {self.source}",
            },
            "ranges": protocol_ranges(self.axes, dwelltime=False),
            "accuracy": {"pairs of variations of held-back transients": accuracy},
        }


def registration_accuracy(
    network: Registration, fids: torch.Tensor, recipe: recipes.Recipe, axes: Axes, seed: int, n: int = 512
) -> dict[str, float]:
    """Return robust SDs of a network's errors, and of the variations themselves.

    Two variations of the same transient differ by their augmentation; the unknown drift of the transient itself is in
    both.  The error of that difference is that of one estimate times the root of two.

    Parameters
    ----------
    network : Registration
    fids : complex tensor ``(n_transients, n_points)``
    recipe, axes
        See :func:`fsl_mrs_dl.training.augmentation.augment`.
    seed : int
    n : int
        Pairs of variations.
    """
    generator = torch.Generator().manual_seed(seed * 1_000_003 + 3_000_000)
    chosen = torch.randint(len(fids), (n,), generator=generator)
    first, second = (augment(fids, recipe, axes, n, generator, chosen) for _ in range(2))
    with torch.no_grad():
        estimates = [network(one["fid"]) for one in (first, second)]
    rows = {}
    for key, name, wrap, unit in (
        ("shift_hz", "shift (Hz)", lambda x: x, 1.0),
        ("phase", "phase (degrees)", wrap_radians, 180 / torch.pi),
    ):
        truth = unit * wrap(first[key] - second[key])
        error = unit * wrap(estimates[0][key] - estimates[1][key] - (first[key] - second[key]))
        for label, value in (("error", error), ("what it had to find", truth)):
            rows[f"{name}, SD of {label}"] = rounded(1.4826 * value.abs().median() / 2**0.5)
    return rows


def choose_reference(fids: torch.Tensor, n_points: int = 512, seed: int = 0) -> int:
    """Return the index of a transient that suits as reference, chosen nearly as in section 2.4.2 of the paper.

    Magnitudes fall into two clusters (k-means), with and without unstable water or lipids; the one that begins lower is
    without.  The paper (doi 10.1002/mrm.29498) takes its transient of highest SNR.  Where the clusters differ in
    something else, noise or line width, that would be one with much water; here it is the transient with the smallest
    distance to the nearest twentieth of the others.  Unstable transients scatter, and so do noisy ones.

    Parameters
    ----------
    fids : complex tensor ``(n, n_points)``
    n_points : int
        Points that are compared.
    seed : int

    Raises
    ------
    OptionError
        Where scikit-learn is not installed.
    """
    try:
        from sklearn.cluster import KMeans
    except ImportError as exc:
        raise OptionError(
            f"choosing a reference needs scikit-learn, which cannot be loaded ({exc})",
            remedy="install it with: pip install '.[train]' in a copy of the repository",
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
_MOST_ALIGNED = 256


def _reference(kind: str, fids: torch.Tensor, axes: Axes, n_points: int, settings: Settings) -> torch.Tensor:
    """Return the reference of dSR and dSRF, ``(n_points,)``."""
    if kind == "k-means":
        return fids[choose_reference(fids, n_points, settings.seed)]
    if kind != "mean":
        raise OptionError("there is no such reference", option="reference", value=kind, remedy="choose mean or k-means")
    some = fids[:_MOST_ALIGNED].to(torch.complex128)
    aligned = alignment.align_transients(some, axes, ppmlim=units.nucleus(axes.nucleus).ppmlim)
    return torch.as_tensor(aligned.reference[0]).to(torch.complex64)
