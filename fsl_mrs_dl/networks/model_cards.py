"""Trained networks as folders: weights in ``model.safetensors``, and a model card in ``card.json``.

The card describes the network, its training, the data it is for and its accuracy.  Loading runs no code from the
folder: weights are safetensors, the architecture is one of this package's, by name.  The card holds the weights'
SHA-256, and a card of another format is refused.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from ..core.errors import DataError, OptionError, OutputError
from ..io import files, output

__all__ = ["Card", "model_names", "find", "read_card", "little_learnt", "load", "save"]

CARD_FORMAT = 1
_NEEDED = {
    "format": int,
    "name": str,
    "what": str,
    "architecture": dict,
    "training": dict,
    "ranges": dict,
    "accuracy": dict,
    "versions": dict,
    "sha256": str,
}


RANGE_WORDS = {
    "nucleus": "nucleus",
    "spec_freq_mhz": "spectrometer frequency (MHz)",
    "snr": "SNR",
    "shift_ppm": "shift (ppm)",
    "ppm_low": "window from (ppm)",
    "ppm_high": "window to (ppm)",
    "acquired_s_mhz": "acquisition time x frequency (s MHz)",
    "dwelltime": "dwell time (s)",
}
"""Words for the ranges of a model card."""

KIND_WORDS = {
    "quant-universal": "proposes initial values of fits",
    "dq-nmm": "proposes initial values of fits",
    "dq-pmm": "proposes initial values of fits",
    "dq-rpmm": "proposes initial values of fits",
    "ensemble": "proposes initial values of fits",
    "supervised": "quantifies spectra",
    "supervised-ensemble": "quantifies spectra",
    "supervised-stack": "quantifies spectra",
    "align-universal": "proposes shifts and phases",
    "registration": "proposes shifts and phases",
    "autoencoder": "takes noise out of spectra",
    "frequency-then-phase": "estimates shift and phase by itself, for comparison",
}
"""Purpose of networks, by the architectures on their cards."""


@dataclass(frozen=True)
class Card:
    """Model card as it was read, with its folder."""

    folder: Path
    content: dict

    def __getitem__(self, key: str):
        return self.content[key]

    @property
    def name(self) -> str:
        return self.content["name"]

    @property
    def kind(self) -> str:
        """Name of the architecture."""
        return self.content["architecture"]["kind"]

    def refuses(self, **data) -> str:
        """Return the reason why the model is not made for data, in words; empty if it is.

        ``data`` are numbers or words by the names of the card's ``ranges``: a list of two numbers there is a range, one
        of words a choice.  Names that the card does not have are not limited.
        """
        for key, value in data.items():
            allowed = self.content["ranges"].get(key)
            if allowed is None:
                continue
            if all(isinstance(one, str) for one in allowed):
                if value not in allowed:
                    return f"{RANGE_WORDS.get(key, key)} {value} (made for {', '.join(allowed)})"
            elif not allowed[0] <= value <= allowed[1]:
                return f"{RANGE_WORDS.get(key, key)} {value:g} (made for {allowed[0]:g} to {allowed[1]:g})"
        return ""


def _shipped() -> Path:
    """Return the folder of the models that come with the package."""
    return files.models_folder()


def model_names() -> list[str]:
    """Return the names of the models that come with the package."""
    folder = _shipped()
    return sorted(path.parent.name for path in folder.glob("*/card.json")) if folder.is_dir() else []


def find(name: str | Path) -> Path:
    """Return the folder of a model, by the name of one that comes with the package or by path.

    Raises
    ------
    OptionError
        If there is none.
    """
    shipped = _shipped() / str(name)
    if str(name) in model_names():
        return shipped
    path = Path(name)
    if path.name in ("card.json", "model.safetensors"):
        path = path.parent
    if (path / "card.json").is_file():
        return path
    if (path / "training.json").is_file():
        raise OptionError(
            "is a training that has not ended", option="network", value=name, remedy="go on with `resume`"
        )
    from difflib import get_close_matches

    near = get_close_matches(str(name), model_names(), 1)
    if near:
        raise OptionError("there is no such model", option="network", value=name, remedy=f"did you mean {near[0]}?")
    raise OptionError(
        f"is neither a model of this package ({', '.join(model_names()) or 'none here'}) nor a folder with a card.json",
        option="network",
        value=name,
        remedy="'fsl_mrs_dl models list' shows them",
    )


def read_card(name: str | Path) -> Card:
    """Read the card of a model and check it.

    Raises
    ------
    OptionError
        If there is no such model.
    DataError
        If the card is malformed or of another format.
    """
    folder = find(name)
    path = folder / "card.json"
    try:
        content = files.json_content(path.read_bytes())
    except (OSError, ValueError) as exc:
        raise DataError(f"{path}: cannot be read as a model card ({exc}); train or copy it again.") from exc
    if not isinstance(content, dict) or content.get("format") != CARD_FORMAT:
        what = content.get("format") if isinstance(content, dict) else type(content).__name__
        raise DataError(
            f"{path}: is a card of format {what}, this version reads format {CARD_FORMAT}; use the version that wrote"
            " it, or train again."
        )
    for key, kind in _NEEDED.items():
        if not isinstance(content.get(key), kind):
            raise DataError(f"{path}: has no proper entry '{key}'; train or copy it again.")
    if not isinstance(content["architecture"].get("kind"), str) or not isinstance(
        content["architecture"].get("settings"), dict
    ):
        raise DataError(f"{path}: 'architecture' needs 'kind' and 'settings'; train or copy it again.")
    for key, allowed in content["ranges"].items():
        if not _is_range(allowed):
            raise DataError(f"{path}: 'ranges' has no proper entry '{key}'; train or copy it again.")
    return Card(folder, content)


def _is_range(allowed) -> bool:
    """Tell whether an entry of a card's ranges is a list of words, or two numbers; null limits nothing."""
    if allowed is None:
        return True
    if not isinstance(allowed, list) or not allowed:
        return False
    numbers = [one for one in allowed if isinstance(one, (int, float)) and abs(one) < 1e300]
    return all(isinstance(one, str) for one in allowed) or len(numbers) == len(allowed) == 2


_LITTLE = 0.3


def little_learnt(card: Card) -> bool:
    """Return whether a network's concentrations are hardly better than the mean of its training data: a median R2 below
    0.3."""
    scores = sorted(card["accuracy"].get("R2 of concentrations", {}).values())
    return bool(scores) and (scores[(len(scores) - 1) // 2] + scores[len(scores) // 2]) / 2 < _LITTLE


def _sha256(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as exc:
        raise DataError(f"{path}: cannot be read ({exc.strerror}); train or copy it again.") from exc


def load(name: str | Path, device="cpu"):
    """Load a trained network in evaluation mode, with its card.

    Returns
    -------
    (network, Card)

    Raises
    ------
    OptionError
        If there is no such model.
    DataError
        If its card is not understood, or the weights are not those that the card describes.
    """
    from safetensors.torch import load as read_weights

    from .architectures import NETWORKS

    card = read_card(name)
    weights = card.folder / "model.safetensors"
    if _sha256(weights) != card["sha256"]:
        raise DataError(f"{weights}: is not the file its card describes (SHA-256 differs); train or copy it again.")
    if card.kind not in NETWORKS:
        raise DataError(
            f"{card.folder / 'card.json'}: describes a network '{card.kind}', this version has {', '.join(NETWORKS)};"
            " use the version that wrote it."
        )
    try:
        network = NETWORKS[card.kind](**card["architecture"]["settings"])
        network.load_state_dict(read_weights(weights.read_bytes()))
    except Exception as exc:  # whatever settings that are not this package's make an architecture raise
        reason = str(exc).splitlines()[0].rstrip(" :") if str(exc) else type(exc).__name__
        raise DataError(f"{card.folder}: the weights do not fit the architecture on the card ({reason}).") from exc
    return network.eval().requires_grad_(False).to(device), card


def save(folder: str | Path, network, content: dict) -> Card:
    """Write a model's folder; no file is ever half-written, and the card is last.

    Parameters
    ----------
    folder : path
    network : torch.nn.Module
        With ``settings``, its arguments.
    content : dict
        The card without ``format``, ``sha256``, ``versions`` and the architecture, which are added.

    Raises
    ------
    OutputError
        If the folder cannot be written.
    """
    import numpy
    import torch
    from safetensors.torch import save as write_weights

    from .. import __version__
    from . import encoders
    from .architectures import NETWORKS

    folder = Path(folder)
    # Of classes that inherit from each other, the nearest.
    kind = next(name for ancestor in type(network).__mro__ for name, cls in NETWORKS.items() if cls is ancestor)
    data = write_weights({name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()})
    card = {
        "format": CARD_FORMAT,
        **content,
        "architecture": {
            "kind": kind,
            "settings": network.settings,
            "parameters": encoders.count_parameters(network),
            **content.get("architecture", {}),
        },
        "versions": {"fsl_mrs_dl": __version__, "torch": torch.__version__, "numpy": numpy.__version__},
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with output.whole_file(folder / "model.safetensors") as temporary:
            temporary.write_bytes(data)
        output.write_text(folder / "card.json", json.dumps(card, indent=2) + "\n")
    except OSError as exc:
        raise OutputError(f"{folder}: cannot be written ({exc.strerror})", remedy="choose another `output`") from exc
    return read_card(folder)
