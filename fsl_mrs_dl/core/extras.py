"""Optional dependencies of the package: which there are, what they are for, and whether they are installed."""

from __future__ import annotations

import importlib.util

__all__ = ["EXTRAS", "extra_of", "how_to_install", "missing_of"]

EXTRAS = {
    "train": ("training networks", ("lightning", "sklearn")),
    "search": ("searching for settings of a training", ("lightning", "sklearn", "optuna")),
    "timefreq": ("encoders on wavelets", ("ptwt", "kymatio")),
    "parallel": ("volumes and studies in several processes", ("dask", "distributed", "dask_jobqueue")),
    "fsleyes": ("the viewer", ("fsleyes", "fsleyes_plugin_mrs")),
    "convert": ("files of scanners and jMRUI", ("spec2nii",)),
}
"""Purpose and modules of every extra that a user may want."""


def extra_of(module: str) -> str | None:
    """Return the first extra that a module comes with; None for one of no extra.

    >>> extra_of("lightning.pytorch"), extra_of("optuna"), extra_of("numpy")
    ('train', 'search', None)
    """
    top = module.partition(".")[0]
    return next((name for name, (_, modules) in EXTRAS.items() if top in modules), None)


def how_to_install(extra: str) -> str:
    """Return the command that installs an extra.

    >>> how_to_install("train")
    "pip install '.[train]' in a copy of the repository"
    """
    return f"pip install '.[{extra}]' in a copy of the repository"


def missing_of(extra: str) -> list[str]:
    """Return the modules of an extra that are not installed; none is imported."""
    return [module for module in EXTRAS[extra][1] if importlib.util.find_spec(module) is None]
