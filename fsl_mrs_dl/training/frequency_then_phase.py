"""Training of the supervised alignment networks, for comparison."""

from __future__ import annotations

import torch

from ..core.axes import Axes
from ..networks import encoders, frequency_then_phase
from .cards import protocol_ranges
from .checkpoints import fingerprint
from .settings import Settings
from .trainer import Training, seed_weights

__all__ = ["FrequencyThenPhaseTraining"]


class FrequencyThenPhaseTraining(Training):
    """Training of a pair of networks, for frequency and for phase, on transients with a known truth.

    Parameters
    ----------
    method : str
        One of :data:`fsl_mrs_dl.networks.frequency_then_phase.METHODS`.
    transients : dict
        ``fid`` complex ``(n, n_points)``, ``shift_hz`` and ``phase`` (rad) ``(n,)``; one in ten is kept for validation.
    axes : Axes
        Of the transients.
    settings : Settings, optional
    source : str
        Name of the data on the model card.

    Raises
    ------
    OptionError
    """

    def __init__(
        self,
        method: str,
        transients: dict[str, torch.Tensor],
        axes: Axes,
        *,
        settings: Settings | None = None,
        source: str = "simulated transients",
    ):
        self.method, self.transients, self.source = method, transients, source
        self.settings, self.axes = settings or Settings(), axes.with_points(transients["fid"].shape[-1])
        self.n_held = max(1, len(transients["fid"]) // 10)

    def network(self, seed: int | None = None) -> frequency_then_phase.FrequencyThenPhase:
        seed_weights(self.settings.seed if seed is None else seed)
        axes = self.axes
        return frequency_then_phase.FrequencyThenPhase(self.method, axes.dwelltime, axes.spec_freq_mhz, axes.n_points)

    def batch(self, generator) -> dict[str, torch.Tensor]:
        return self._draw(self.n_held, len(self.transients["fid"]), generator)

    def held_back(self, generator) -> dict[str, torch.Tensor]:
        return self._draw(0, self.n_held, generator)

    def _draw(self, first: int, last: int, generator) -> dict[str, torch.Tensor]:
        chosen = torch.randint(first, last, (self.settings.batch_size,), generator=generator)
        return {key: self.transients[key][chosen] for key in ("fid", "shift_hz", "phase")}

    def loss(self, network, batch) -> dict[str, torch.Tensor]:
        return {"total": network.loss(batch["fid"], batch["shift_hz"], batch["phase"])}

    def start(self) -> dict:
        return {"transients": fingerprint(self.transients["fid"])}

    def card(self, network) -> dict:
        fids = self.transients["fid"]
        return {
            "what": (
                f"Finds shift and phase of transients of one signal ({self.method}, supervised); to compare with."
            ),
            "architecture": {"flops": encoders.count_flops(network, fids[:1])},
            "training": {"recipe": {}, "basis": f"{len(fids) - self.n_held} transients: {self.source}"},
            "ranges": protocol_ranges(self.axes, dwelltime=False),
            "accuracy": {},
        }
