"""Lightning module and callbacks, common to all trainings."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import lightning
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import Callback

from ..io.output import whole_file
from .settings import Settings

__all__ = ["NetworkModule", "ProgressReport", "TimeLimit", "WholeCheckpoints"]


class WholeCheckpoints(TorchCheckpointIO):
    """Writer of checkpoints, each whole or not at all, also where temporary files are on another disk."""

    def save_checkpoint(self, checkpoint, path, storage_options=None) -> None:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as temporary:
            torch.save(checkpoint, temporary)


class NetworkModule(lightning.LightningModule):
    """A network with its loss and its optimiser, AdamW.

    The learning rate warms up and follows a cosine to the end of the training, is cut where the loss stalls, or stays.

    Parameters
    ----------
    network : torch.nn.Module
    loss : callable
        ``loss(network, batch)`` returns a dictionary of terms; ``total`` is minimised.
    settings : Settings
    """

    def __init__(self, network, loss: Callable, settings: Settings):
        super().__init__()
        self.network, self.loss, self.settings = network, loss, settings
        self.minutes_before, self.begun = 0.0, time.monotonic()
        self.core_minutes_before, self.core_seconds_begun = 0.0, time.process_time()

    @property
    def minutes(self) -> float:
        """Minutes of the training, with those before an interruption."""
        return self.minutes_before + (time.monotonic() - self.begun) / 60

    @property
    def core_minutes(self) -> float:
        """Minutes that processor cores have worked on the training, with those before an interruption."""
        return self.core_minutes_before + (time.process_time() - self.core_seconds_begun) / 60

    def on_save_checkpoint(self, checkpoint) -> None:
        checkpoint["fsl_mrs_dl_minutes"] = self.minutes
        checkpoint["fsl_mrs_dl_core_minutes"] = self.core_minutes

    def on_load_checkpoint(self, checkpoint) -> None:
        self.minutes_before = checkpoint.get("fsl_mrs_dl_minutes", 0.0)
        self.core_minutes_before = checkpoint.get("fsl_mrs_dl_core_minutes", 0.0)

    def training_step(self, batch, index):
        terms = self.loss(self.network, batch)
        self.log_dict({f"train_{name}": value.detach() for name, value in terms.items()}, batch_size=1)
        return terms["total"]

    def validation_step(self, batch, index):
        terms = self.loss(self.network, batch)
        self.log_dict({f"val_{name}": value.detach() for name, value in terms.items()}, batch_size=1, prog_bar=True)

    def _completed(self, step: int) -> float:
        """Return the completed part of the training, by steps or by either time, 0 to 1."""
        done = step / self.settings.steps
        if self.settings.max_minutes:
            done = max(done, self.minutes / self.settings.max_minutes)
        if self.settings.max_core_minutes:
            done = max(done, self.core_minutes / self.settings.max_core_minutes)
        return min(done, 1.0)

    @property
    def time_is_up(self) -> bool:
        """Whether one of the settings' two times has passed."""
        limits = ((self.settings.max_minutes, self.minutes), (self.settings.max_core_minutes, self.core_minutes))
        return any(limit and spent >= limit for limit, spent in limits)

    def configure_optimizers(self):
        optimiser = torch.optim.AdamW(
            self.network.parameters(), lr=self.settings.learning_rate, weight_decay=self.settings.weight_decay
        )
        if self.settings.rate_schedule == "constant":
            return optimiser
        if self.settings.rate_schedule == "plateau":
            plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
                optimiser,
                factor=0.1,
                patience=max(2, self.settings.patience // 3),
                min_lr=0.99e-2 * self.settings.learning_rate,
            )
            every = self.settings.validate_every
            return {
                "optimizer": optimiser,
                "lr_scheduler": {
                    "scheduler": plateau,
                    "monitor": "val_total",
                    "interval": "step",
                    "frequency": every,
                    "strict": False,
                },
            }

        def rate(step: int) -> float:
            cosine = 0.5 * (1 + torch.cos(torch.tensor(self._completed(step) * torch.pi)).item())
            return min((step + 1) / 200, 1.0) * max(cosine, 1e-3)

        return {
            "optimizer": optimiser,
            "lr_scheduler": {"scheduler": torch.optim.lr_scheduler.LambdaLR(optimiser, rate), "interval": "step"},
        }


class TimeLimit(Callback):
    """End of a training after ``max_minutes`` or ``max_core_minutes``, with those before an interruption."""

    def on_train_batch_end(self, trainer, module, *args) -> None:
        if module.time_is_up:
            trainer.should_stop = True


class ProgressReport(Callback):
    """Progress of a training on standard error: a bar on a terminal, otherwise a line for every validation."""

    def __init__(self, steps: int):
        self.steps, self.bar = steps, None

    def on_train_start(self, trainer, module) -> None:
        if sys.stderr.isatty():
            from tqdm import tqdm

            self.bar = tqdm(total=self.steps, initial=trainer.global_step, unit="batch", desc="training")
        else:
            minutes = module.settings.max_minutes
            limit = f" at most, or for {minutes:g} minutes" if minutes else ""
            text = f"Training begins at batch {trainer.global_step} of {self.steps}{limit}."
            print(text, file=sys.stderr, flush=True)

    def on_train_batch_end(self, trainer, module, *args) -> None:
        if self.bar is not None:
            self.bar.update(trainer.global_step - self.bar.n)

    def on_validation_end(self, trainer, module) -> None:
        loss = float(trainer.callback_metrics.get("val_total", torch.nan))
        if self.bar is not None:
            self.bar.set_postfix_str(f"loss on held-back data {loss:.4g}")
        else:
            done = f"batch {trainer.global_step} of {self.steps}, {module.minutes:.1f} minutes"
            print(f"{done}, loss on held-back data {loss:.4g}", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Close the bar."""
        if self.bar is not None:
            self.bar.close()
