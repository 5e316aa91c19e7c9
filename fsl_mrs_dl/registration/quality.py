"""The state of an alignment, and the thresholds by which transients are judged."""

from __future__ import annotations

from dataclasses import dataclass

import torch

_UNLIKE_Z = 5.0  # robust z-score beyond which a transient is called unlike the others


_DETECTION_MARGIN = 12.0  # above 2 ln(cells): a noise peak passes for a signal once in exp(6) transients


_NEVER_LESS = 1e-3  # of the highest peak: noise that is always reckoned with where unstable lines are looked for


_CREDIBLE = 8.0  # gain in log likelihood from which lines are believed to be unstable


@dataclass
class _State:
    """Estimates of one chunk of sets; every tensor is (n_sets, n_transients) unless it says otherwise."""

    shift: torch.Tensor
    phase: torch.Tensor
    amplitude: torch.Tensor
    variance: torch.Tensor  # residual variance in units of the channels' noise
    share: torch.Tensor  # what the transient contributes to the reference: reference = sum share * aligned
    weight: torch.Tensor
    similarity: torch.Tensor
    detection: torch.Tensor
    shift_sd: torch.Tensor
    phase_sd: torch.Tensor
    centre: torch.Tensor  # where to search, Hz
    reach: torch.Tensor  # how far from there, Hz
