"""Settings of a training."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Settings"]


@dataclass(frozen=True)
class Settings:
    """How a training goes; see ``fsl_mrs_dl train --help``."""

    steps: int = 12000
    batch_size: int = 128
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    max_minutes: float | None = None
    patience: int = 0
    reduce_on_plateau: bool = False
    validate_every: int = 500
    validation_batches: int = 16
    n_protocols: int = 256
    seed: int = 0
    device: str = "auto"
    tensorboard: bool = False
    progress: bool = True
