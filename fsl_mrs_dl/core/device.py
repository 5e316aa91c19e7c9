"""The device that tensors are on."""

from __future__ import annotations

import torch

from .errors import OptionError

__all__ = ["choose_device"]


def choose_device(name: str = "auto") -> torch.device:
    """Return the device for 'auto', 'cpu' or 'cuda'.

    Raises
    ------
    OptionError
        If CUDA is not available, or the name is another one.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name != "cpu" and not name.startswith("cuda"):
        raise OptionError("write auto, cpu or cuda", option="device", value=name)
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise OptionError(
            f"no CUDA device is available to PyTorch {torch.__version__}",
            option="device",
            value=name,
            remedy="use `device` cpu",
        )
    return torch.device(name)
