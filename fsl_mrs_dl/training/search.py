"""Search for hyper-parameters with Optuna."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ..core.errors import OptionError, OutputError
from .settings import Settings
from .trainer import train

__all__ = ["search", "search_and_train"]


def search(make: Callable, settings: Settings, n_trials: int, steps: int, encoders_tried: tuple[str, ...] = ()) -> dict:
    """Look for the learning rate, batch size and encoder of the lowest validation loss, with Optuna.

    Parameters
    ----------
    make : callable
        ``make(settings, encoder or None)`` returns a :class:`fsl_mrs_dl.training.trainer.Training`.
    settings : Settings
        Everything that is not searched for; its seed is the search's, too.
    n_trials, steps : int
        Trainings, and the batches of each.
    encoders_tried : tuple of str
        Encoders to choose from; none leaves the encoder as it is.

    Returns
    -------
    dict
        ``learning_rate``, ``batch_size``, ``encoder`` (where it was searched for), and ``trials``, a list of all
        trials with their ``validation_loss``.

    Raises
    ------
    OptionError
        Where Optuna is not installed.
    """
    try:
        import optuna
    except ImportError as exc:
        raise OptionError(
            f"needs Optuna, which cannot be loaded ({exc})",
            option="search",
            remedy="install it with: pip install '.[search]' in a copy of the repository",
        ) from exc
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    trials = []

    def objective(trial):
        values = {
            "learning_rate": trial.suggest_float("learning_rate", 1e-4, 5e-3, log=True),
            "batch_size": trial.suggest_categorical("batch_size", [32, 64, 128, 256]),
        }
        encoder = trial.suggest_categorical("encoder", list(encoders_tried)) if encoders_tried else None
        # The same number of spectra for each, so that large batches do not gain by more of them.
        n = max(2, round(steps * settings.batch_size / values["batch_size"]))
        training = make(replace(settings, **values, steps=n, validate_every=max(1, n // 2)), encoder)
        with tempfile.TemporaryDirectory() as folder:
            loss = train(training, Path(folder) / "trial")["training"]["validation_loss"]
        trials.append(values | ({"encoder": encoder} if encoder else {}) | {"validation_loss": loss})
        return loss

    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=settings.seed))
    study.optimize(objective, n_trials=n_trials)
    return dict(study.best_params) | {"trials": trials}


def search_and_train(
    make: Callable,
    settings: Settings,
    output: str | Path,
    *,
    n_trials: int,
    steps: int,
    encoders_tried: tuple[str, ...] = (),
    command: str = "",
):
    """Search for hyper-parameters, train with the best of them, and write the trials as ``search.json``.

    Parameters
    ----------
    make, settings, n_trials, steps, encoders_tried
        As for :func:`search`.
    output, command
        As for :func:`fsl_mrs_dl.training.trainer.train`.

    Returns
    -------
    card : Card
    best : dict
        As from :func:`search`.

    Raises
    ------
    DataError, OptionError, OutputError
    """
    output = Path(output)
    if output.is_dir() and any(output.iterdir()):
        raise OutputError(f"{output}: is not empty", remedy="choose another `output`")
    best = search(make, settings, n_trials, steps, encoders_tried)
    settings = replace(settings, learning_rate=best["learning_rate"], batch_size=best["batch_size"])
    card = train(make(settings, best.get("encoder")), output, command=command)
    (output / "search.json").write_text(json.dumps(best, indent=2) + "\n", encoding="utf-8")
    return card, best
