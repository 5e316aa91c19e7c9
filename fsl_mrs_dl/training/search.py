"""Search for hyper-parameters with Optuna."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ..core.errors import OptionError
from .settings import Settings

__all__ = ["search"]


def search(
    start: Callable, settings: Settings, n_trials: int, steps: int, encoders_tried: tuple[str, ...] = ()
) -> dict:
    """Look for the learning rate, batch size and encoder of the lowest validation loss, with Optuna.

    Parameters
    ----------
    start : callable
        ``start(settings, encoder or None, folder)`` trains and gives the card.
    settings : Settings
        Everything that is not searched for; its seed is the search's, too.
    n_trials, steps : int
        Trainings, and the batches of each.
    encoders_tried : tuple of str
        Encoders to choose from; none leaves it as it is.

    Returns
    -------
    dict
        ``learning_rate``, ``batch_size``, ``encoder`` (where it was searched for), and ``trials``, a list of all that
        was tried.

    Raises
    ------
    OptionError
        Where Optuna is not installed.
    """
    try:
        import optuna
    except ImportError as exc:
        raise OptionError(
            f"--search needs Optuna, which cannot be loaded ({exc}); install it with: pip install 'fsl_mrs_dl[search]'"
        ) from exc
    import tempfile

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    trials = []

    def objective(trial):
        tried = {
            "learning_rate": trial.suggest_float("learning_rate", 1e-4, 5e-3, log=True),
            "batch_size": trial.suggest_categorical("batch_size", [32, 64, 128, 256]),
        }
        encoder = trial.suggest_categorical("encoder", list(encoders_tried)) if encoders_tried else None
        # The same number of spectra for each, so that large batches are not favoured by seeing more.
        n = max(2, round(steps * settings.batch_size / tried["batch_size"]))
        with tempfile.TemporaryDirectory() as folder:
            card = start(
                replace(settings, **tried, steps=n, validate_every=max(1, n // 2)), encoder, Path(folder) / "trial"
            )
        trials.append(
            tried | ({"encoder": encoder} if encoder else {}) | {"validation_loss": card["training"]["validation_loss"]}
        )
        return trials[-1]["validation_loss"]

    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=settings.seed))
    study.optimize(objective, n_trials=n_trials)
    return dict(study.best_params) | {"trials": trials}
