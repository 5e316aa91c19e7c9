"""Architectures by name."""

from __future__ import annotations

from .denoiser import Denoiser
from .frequency_then_phase import FrequencyThenPhase
from .self_supervised_quantification import METHODS, Ensemble
from .self_supervised_registration import Registration
from .supervised_quantification import NETWORKS as REGRESSORS
from .universal import AlignUniversal, QuantUniversal

__all__ = ["NETWORKS"]

NETWORKS = {
    "quant-universal": QuantUniversal,
    "align-universal": AlignUniversal,
    "registration": Registration,
    "frequency-then-phase": FrequencyThenPhase,
    **METHODS,
    "ensemble": Ensemble,
    **REGRESSORS,
    Denoiser.method: Denoiser,
}
"""Architectures by the names that model cards use."""
