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
    max_core_minutes : float, optional
        The same for the time that processor cores have worked on it; at low priority that is less than the clock's.
    patience : int
        End the training after so many validations without improvement; 0 never does.
    rate_schedule : str
        Course of the learning rate: 'cosine' to the end of the training after a warm-up, 'plateau', which divides it by
        ten where the loss on held-back data stalls, twice at most, or 'constant'.
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
    max_core_minutes: float | None = None
    patience: int = 0
    rate_schedule: str = "cosine"
    validate_every: int = 500
    validation_batches: int = 16
    n_protocols: int = 256
    seed: int = 0
    device: str = "auto"
    tensorboard: bool = False
    progress: bool = True

    @property
    def timed(self) -> bool:
        """Whether a time can end the training."""
        return self.max_minutes is not None or self.max_core_minutes is not None
