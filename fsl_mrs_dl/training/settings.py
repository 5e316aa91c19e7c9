"""Settings of a training."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Settings"]


@dataclass(frozen=True)
class Settings:
    """Settings that every training has.

    Attributes
    ----------
    steps : int
        Batches to train on.
    batch_size : int
        Spectra or transients in a batch.
    learning_rate : float
        Highest learning rate of AdamW.
    weight_decay : float
        Weight decay of AdamW.
    max_minutes : float, optional
        End the training after this time, with the parts before an interruption.
    patience : int
        End the training after so many validations without improvement; 0 never does.
    reduce_on_plateau : bool
        Cut the learning rate where the loss stalls; otherwise it follows a cosine.
    validate_every : int
        Batches from one validation to the next.
    validation_batches : int
        Batches of a validation.
    n_protocols : int
        Simulated protocols of the universal networks.
    seed : int
        Seed of weights and batches.
    device : str
        'auto', 'cpu' or 'cuda'.
    tensorboard : bool
        Write logs for TensorBoard beside those in CSV.
    progress : bool
        Report the progress on standard error.
    """

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
