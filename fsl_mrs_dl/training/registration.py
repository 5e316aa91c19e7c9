"""Training of dSR, dSRF, dCrR, dCrRF and of the supervised alignment networks."""

from __future__ import annotations

from pathlib import Path

import lightning
import numpy as np
import torch

from ..core import units
from ..core.axes import Axes
from ..core.errors import OptionError
from ..core.transients import normalised
from ..core.units import wrap_radians
from ..networks import encoders, frequency_then_phase, model_cards, self_supervised_registration
from ..networks.self_supervised_registration import Registration
from ..registration import alignment
from ..simulation import recipes
from . import augmentation, registration
from .augmentation import augment
from .batches import _used_and_held
from .loop import _check_folder, _fingerprint, _run
from .settings import Settings

__all__ = ["choose_reference", "accuracy", "train_registration", "train_supervised"]


def choose_reference(fids: torch.Tensor, n_points: int = 512, seed: int = 0) -> int:
    """Index of the transient to compare with, chosen nearly as the paper does (section 2.4.2).

    Magnitudes fall into two clusters (k-means), with and without unstable water or lipids; the one that begins lower is
    without.  The paper takes its transient of highest SNR.  Where the clusters differ in something else, noise or line
    width, that would be one with much water: so it is the one that most others are like, by the distance to the nearest
    twentieth of them.  What is unstable scatters, and so does noise.

    Raises
    ------
    OptionError
        Where scikit-learn is not installed.
    """
    try:
        from sklearn.cluster import KMeans
    except ImportError as exc:
        raise OptionError(
            f"choosing a reference needs scikit-learn, which cannot be loaded ({exc}); install it with: pip install"
            " 'fsl_mrs_dl[train]'"
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


def accuracy(
    network: Registration, fids, recipe, dwelltime: float, spec_freq_mhz: float, seed: int, n: int = 512
) -> dict:
    """Robust SDs of a network's errors, and of what it had to find.

    Two variations of the same transient differ by what they were varied by; the transient's own drift, which nobody
    knows, is in both.  The error of that difference is that of one answer times the root of two.
    """
    generator = torch.Generator().manual_seed(seed * 1_000_003 + 3_000_000)
    chosen = torch.randint(len(fids), (n,), generator=generator)
    pair = [augment(fids, recipe, dwelltime, spec_freq_mhz, n, generator, chosen) for _ in range(2)]
    with torch.no_grad():
        found = [network(one["fid"]) for one in pair]
    rows = {}
    for key, name, wrap, unit in (
        ("shift_hz", "shift (Hz)", lambda x: x, 1.0),
        ("phase", "phase (degrees)", wrap_radians, 180 / torch.pi),
    ):
        asked = unit * wrap(pair[0][key] - pair[1][key])
        error = unit * wrap(found[0][key] - found[1][key] - (pair[0][key] - pair[1][key]))
        for label, value in (("error", error), ("what it had to find", asked)):
            rows[f"{name}, SD of {label}"] = float(f"{1.4826 * value.abs().median() / 2**0.5:.4g}")
    return rows


def train_registration(
    method: str,
    fids,
    output: str | Path,
    *,
    dwelltime: float,
    spec_freq_mhz: float,
    nucleus: str = "1H",
    settings: Settings | None = None,
    recipe: str | Path | None = None,
    encoder: str = "align-cnn",
    reference: str = "mean",
    name: str | None = None,
    resume: bool = False,
    command: str = "",
    source: str = "transients of yours",
) -> model_cards.Card:
    """Train dSR, dSRF, dCrR or dCrRF on measured transients, without a truth.

    Parameters
    ----------
    method : str
        One of :data:`fsl_mrs_dl.networks.self_supervised_registration.METHODS`.
    fids : complex array ``(n_transients, n_points)``
        One in ten, at least one, is held back and measured on.
    output, settings, name, resume, command
        As for :func:`train`.
    dwelltime, spec_freq_mhz, nucleus
        Of the data; seconds, MHz.
    recipe : str or path, optional
        How they are varied; 'augment-transients' by default.
    encoder : str
        One of :data:`fsl_mrs_dl.networks.encoders.ENCODERS`.
    reference : str
        What dSR and dSRF compare with: 'mean', of some of the transients after they were aligned by search, or
        'k-means', one of the transients, chosen as the paper does.
    source : str
        What the card calls the data.

    Raises
    ------
    DataError, OptionError, OutputError
        Too few usable transients; an unknown method or recipe; a folder that holds something else, or nothing to go on
        from.
    """
    settings = settings or Settings()
    used, held = _used_and_held(fids, settings.seed, source)
    drawn_from = recipes.Recipe.load(recipe or "augment-transients")
    _check_folder(Path(output), resume)
    lightning.seed_everything(settings.seed, verbose=False)
    if nucleus != "1H" and method != "dsr":
        raise OptionError(f"--method {method}: looks for lines of 1H spectra, the data are {nucleus}; choose dsr.")
    network = self_supervised_registration.Registration(method, dwelltime, spec_freq_mhz, encoder)
    if not network.creatine:
        network.set_reference(
            _reference(reference, used, network.n_points, settings.seed, dwelltime, spec_freq_mhz, nucleus)
        )

    def maker(which):
        return lambda generator: augmentation.augment(
            which, drawn_from, dwelltime, spec_freq_mhz, settings.batch_size, generator
        )

    maker(used)(torch.Generator())  # a recipe that cannot be drawn from is found out before anything is written
    return _run(
        network,
        output,
        settings,
        begun={"recipe": drawn_from.content, "transients": _fingerprint(fids), "reference": reference},
        train_make=maker(used),
        held_make=maker(held),
        loss=lambda network, batch: {"total": network.loss(batch["fid"])},
        resume=resume,
        card=lambda network: {
            "name": name or Path(output).name,
            "what": f"Proposes shift and phase of transients of one protocol ({method}, self-supervised).",
            "architecture": {"flops": encoders.count_flops(network, used[:1])},
            "training": {
                "command": command,
                "recipe": {"name": drawn_from.name, **drawn_from.content},
                "basis": f"{len(used)} measured transients: {source}",
            },
            "ranges": {"nucleus": [nucleus], "spec_freq_mhz": [spec_freq_mhz * 0.995, spec_freq_mhz * 1.005]},
            "accuracy": {
                "pairs of variations of held-back transients": registration.accuracy(
                    network, held, drawn_from, dwelltime, spec_freq_mhz, settings.seed
                )
            },
        },
    )


_MOST_ALIGNED = 256


def _reference(
    kind: str, fids: torch.Tensor, n_points: int, seed: int, dwelltime: float, spec_freq_mhz: float, nucleus: str
):
    """The FID that dSR and dSRF compare with, ``(n_points,)``."""
    if kind == "k-means":
        return fids[registration.choose_reference(fids, n_points, seed)]
    if kind != "mean":
        raise OptionError(f"--reference {kind}: there is no such reference; choose mean or k-means.")
    some = fids[:_MOST_ALIGNED].to(torch.complex128)
    ppmlim = units.nucleus(nucleus).ppmlim
    axes = Axes(some.shape[-1], dwelltime, spec_freq_mhz, nucleus)
    aligned = alignment.align_transients(some, axes, ppmlim=ppmlim)
    return torch.as_tensor(aligned.reference[0]).to(torch.complex64)


def train_supervised(
    method: str,
    batch,
    output: str | Path,
    *,
    dwelltime: float,
    spec_freq_mhz: float,
    settings: Settings | None = None,
    name: str | None = None,
    resume: bool = False,
    command: str = "",
    source: str = "simulated transients",
) -> model_cards.Card:
    """Train one of the supervised pairs on transients with a known truth.

    Parameters
    ----------
    method : str
        One of :data:`fsl_mrs_dl.networks.frequency_then_phase.METHODS`.
    batch : dict
        ``fid`` complex ``(n, n_points)``, ``shift_hz`` and ``phase`` (rad) ``(n,)``; one in ten is held back.
    output, settings, name, resume, command, source, dwelltime, spec_freq_mhz
        As for :func:`train_registration`.

    Raises
    ------
    OptionError, OutputError
    """
    settings = settings or Settings()
    _check_folder(Path(output), resume)
    lightning.seed_everything(settings.seed, verbose=False)
    fids = batch["fid"]
    network = frequency_then_phase.FrequencyThenPhase(method, dwelltime, spec_freq_mhz, fids.shape[-1])
    n_held = max(1, len(fids) // 10)

    def maker(first, last):
        def make(generator):
            chosen = torch.randint(first, last, (settings.batch_size,), generator=generator)
            return {key: batch[key][chosen] for key in ("fid", "shift_hz", "phase")}

        return make

    return _run(
        network,
        output,
        settings,
        begun={"transients": _fingerprint(fids)},
        train_make=maker(n_held, len(fids)),
        held_make=maker(0, n_held),
        loss=lambda network, one: {"total": network.loss(one["fid"], one["shift_hz"], one["phase"])},
        resume=resume,
        card=lambda network: {
            "name": name or Path(output).name,
            "what": f"Finds shift and phase of transients of one signal ({method}, supervised); to compare with.",
            "architecture": {"flops": encoders.count_flops(network, fids[:1])},
            "training": {"command": command, "recipe": {}, "basis": f"{len(fids) - n_held} transients: {source}"},
            "ranges": {"nucleus": ["1H"], "spec_freq_mhz": [spec_freq_mhz * 0.995, spec_freq_mhz * 1.005]},
            "accuracy": {},
        },
    )
