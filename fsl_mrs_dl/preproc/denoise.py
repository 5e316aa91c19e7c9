"""Denoising of spectra with a trained network; the header of denoised data records it.

Denoised spectra are for display.  Where noise hides the signal a network fills in spectra like those that it was
trained on.  A fit of the result is biased towards them, by an amount that its SDs do not include, because the remaining
noise is not that of the measurement (Dziadosz et al., Denoising MR spectra by deep learning: miracle or mirage?, Proc
ISMRM 2022, 2541).
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from ..core import units
from ..core.device import choose_device
from ..core.errors import DataError, OptionError
from ..core.noise import noise_outside
from ..io.nifti import MrsData, as_stored, check_fids, from_image, processing_record
from ..networks import denoiser, model_cards

__all__ = [
    "FIELD",
    "METHOD",
    "WARNING",
    "DenoisedData",
    "denoise_data",
    "denoise_image",
    "summary_line",
    "warn",
    "warning_of",
]

FIELD, METHOD = "Denoised", "Denoising"
"""User-defined header field that marks denoised data, and the name of the step in the record of processing."""

WARNING = (
    "the noise left in denoised data is not the noise of the measurement, so SDs are too small, and concentrations lean"
    " towards what the network was trained on; fit the raw data instead"
)

_MOST_REMOVED = 1.2  # of the noise: where more is removed, signal went with it
_ROWS = 256  # spectra that the network takes at once


@dataclass
class DenoisedData:
    """Denoised data and measures of the denoising.

    Attributes
    ----------
    data : MrsData
        As the input, less noise.
    raw, fids : complex array, shape (n, n_points)
        All FIDs before and after, in the order of the dimensions of the data without time.
    shape, axes : tuple
        Lengths and names of those dimensions.
    usable : bool array, shape (n,)
        Spectra that were denoised; the others, zero or not finite, are unchanged.
    noise_sd : array, shape (n,)
        Noise of the raw spectrum per real channel.
    snr : array, shape (n,)
        Highest magnitude of the raw spectrum in the window over ``noise_sd``.
    removed : array, shape (n,)
        Root mean square of the removed part in the window over ``noise_sd``: about 1 where noise was removed and
        nothing else.
    ppmlim : (float, float)
        Window that was denoised.
    card : Card
        Model card of the network.
    """

    data: MrsData
    raw: np.ndarray
    fids: np.ndarray
    shape: tuple[int, ...]
    axes: tuple[str, ...]
    usable: np.ndarray
    noise_sd: np.ndarray
    snr: np.ndarray
    removed: np.ndarray
    ppmlim: tuple[float, float]
    card: model_cards.Card

    @property
    def removes_signal(self) -> np.ndarray:
        """Where more than noise was removed, bool ``(n,)``."""
        return self.usable & (self.removed > _MOST_REMOVED)

    @property
    def shown(self) -> int:
        """The spectrum that a report shows: of those denoised, the one at the upper quartile of SNR."""
        rows = np.flatnonzero(self.usable)
        return int(rows[np.argsort(self.snr[rows])[(3 * (len(rows) - 1)) // 4]])

    def place(self, row: int) -> str:
        """Return where a spectrum is in the data, in words, counted from 0; empty where there is one only."""
        where = np.unravel_index(row, self.shape)
        return ", ".join(f"{name} {at}" for name, at, size in zip(self.axes, where, self.shape) if size > 1)

    def details(self, command: str) -> str:
        """Describe the step for the header's record of processing."""
        return (
            f"{command}, model={self.card.name}, sha256={self.card['sha256']}, ppmlim={self.ppmlim}, "
            f"{int(self.usable.sum())} of {self.usable.size} spectra."
        )

    def header_field(self) -> dict[str, tuple[object, str]]:
        """Return the field that marks denoised data, as :func:`fsl_mrs_dl.io.nifti.save` takes it."""
        return {FIELD: (True, f"Noise was removed by a network: {WARNING}.")}


def warning_of(header: dict) -> str:
    """Return the warning for a fit of data with this header, if they were denoised by this or another program; else
    empty."""
    field = header.get(FIELD)
    marked = bool(field.get("Value") if isinstance(field, dict) else field)
    steps = header.get("ProcessingApplied", [])
    steps = [one for one in steps if isinstance(one, dict) and str(one.get("Method", "")).lower().startswith("denois")]
    if not (marked or steps):
        return ""
    by = f" by {steps[-1]['Program']}" if steps and steps[-1].get("Program") else ""
    return f"was denoised{by}: {WARNING}"


def warn(args, header: dict) -> None:
    """Print a warning on stderr if the header of ``args.data`` marks them as denoised; keep it in ``args.denoised``.

    The frequency axis of data that this program denoised has been checked: it is not tested again (``args.conjfid``),
    since the noise beside a spectrum with little signal would mislead that test.
    """
    text = warning_of(header)
    if FIELD in header and getattr(args, "conjfid", True) is None:
        args.conjfid = False
    if text:
        args.denoised = f"{args.data} {text}"
        print(f"Warning: {args.denoised}.", file=sys.stderr)


def denoise_data(data: MrsData, model: str | Path, device: str | torch.device = "auto") -> DenoisedData:
    """Denoise every spectrum of a file, each by itself.

    Parameters
    ----------
    data : MrsData
        Of any dimensions.
    model : str or path
        A network made by ``fsl_mrs_dl train denoise``, by name or folder.
    device : str or torch.device

    Raises
    ------
    DataError
        Nothing usable in the file, or its frequency axis runs backwards.
    OptionError
        No such network, or one that was not made for data like these.
    """
    usable = check_fids(data)
    network, card = _network(model, data)
    device = choose_device(device) if isinstance(device, str) else device
    network = network.to(device)
    moved = np.moveaxis(data.fids, 3, -1)
    rows = np.ascontiguousarray(moved).reshape(-1, data.n_points)
    good = usable.reshape(-1)
    _check_direction(rows[good], network, data)
    out = rows.copy()
    noise, snr, removed = (np.full(len(rows), np.nan) for _ in range(3))
    inside = network.inside(data.n_points)
    for part in np.array_split(np.flatnonzero(good), -(-int(good.sum()) // _ROWS)):
        raw = rows[part]
        with torch.no_grad():
            out[part] = network(torch.as_tensor(raw).to(device)).cpu().numpy()
        spec = units.fid_to_spec(raw)
        noise[part] = noise_outside(spec, data.axes)
        difference = (spec - units.fid_to_spec(out[part]))[:, inside]
        with np.errstate(divide="ignore"):  # simulated data without noise
            snr[part] = np.abs(spec[:, inside]).max(-1) / noise[part]
            removed[part] = np.sqrt(np.mean(np.abs(difference) ** 2, -1) / 2) / noise[part]
    return DenoisedData(
        data=replace(data, fids=np.moveaxis(out.reshape(moved.shape), -1, 3)),
        raw=rows,
        fids=out,
        shape=usable.shape,
        axes=("x", "y", "z", *data.dim_tags),
        usable=good,
        noise_sd=noise,
        snr=snr,
        removed=removed,
        ppmlim=network.ppmlim,
        card=card,
    )


def _network(model, data: MrsData):
    """Return the network and its card, if it was made for data like these."""
    card = model_cards.read_card(model)
    if card.kind not in denoiser.METHODS:
        purpose = model_cards.KIND_WORDS.get(card.kind, "does other things")
        raise OptionError(
            purpose,
            option="model",
            value=model,
            remedy="give one that takes noise out of spectra ('fsl_mrs_dl train denoise')",
        )
    why = card.refuses(nucleus=data.nucleus, spec_freq_mhz=data.spec_freq_mhz, dwelltime=data.dwelltime)
    network, card = model_cards.load(model)
    # Lines of a longer FID are more points wide than in training.
    if not why and not 0.9 <= data.n_points / network.n_points <= 1.1:
        why = f"{data.n_points} points (made for {network.n_points})"
    if why:
        raise OptionError(
            f"is not for data like {data.name}: {why}",
            option="model",
            value=model,
            remedy="train one for them with 'fsl_mrs_dl train denoise'",
        )
    return network, card


def _check_direction(rows: np.ndarray, network, data: MrsData) -> None:
    """Raise DataError where the signal is on the other side of the carrier: the network would denoise noise."""
    inside = network.inside(data.n_points)
    # Without the part beside water, whose foot is as high on the other side.
    inside = slice(inside.start, inside.stop - (inside.stop - inside.start) // 10)
    here = there = 0.0
    for part in np.array_split(rows, -(-len(rows) // _ROWS)):
        power = np.abs(units.fid_to_spec(part)) ** 2
        here, there = here + power[:, inside].sum(), there + power[:, ::-1][:, inside].sum()
    if there > 4 * here:
        raise DataError(
            f"{data.name}: the frequency axis runs backwards (the spectrum is on the wrong side)",
            remedy="conjugate the FIDs first (fsl_mrs_proc conj)",
        )


def denoise_image(image, model: str | Path, *, device="auto", command: str = "denoise", file: str | None = None):
    """Denoise a ``NIFTI_MRS`` object of the nifti-mrs package or of FSL-MRS.

    Parameters
    ----------
    image : NIFTI_MRS
    model, device
        As for :func:`denoise_data`.
    command : str
        Name of the step in the header's record of processing.
    file : str, optional
        The file's name for messages, where the object has none.

    Returns
    -------
    (NIFTI_MRS, DenoisedData)
        A copy of the same class, less noise, with the step in its header, and measures of the denoising.

    Raises
    ------
    DataError, OptionError
    """
    name = file or str(getattr(image, "filename", "") or "") or None
    denoised = denoise_data(from_image(image, name=name), model, device)
    out = image.copy()
    # The object conjugates on the way in as on the way out.
    out[:] = as_stored(denoised.data).reshape(out.image.shape)
    steps = out.hdr_ext["ProcessingApplied"] if "ProcessingApplied" in out.hdr_ext else []
    out.add_hdr_field("ProcessingApplied", [*steps, processing_record(METHOD, denoised.details(command))])
    for key, (value, doc) in denoised.header_field().items():
        out.add_hdr_field(key, value, doc=doc)
    return out, denoised


def summary_line(denoised: DenoisedData) -> str:
    """Return a summary in one line for the terminal."""
    good = denoised.usable
    text = (
        f"Denoised {int(good.sum())} of {good.size} spectra between {denoised.ppmlim[0]:g} and {denoised.ppmlim[1]:g}"
        f" ppm with {denoised.card.name}; removed: {np.median(denoised.removed[good]):.2f} of the noise."
    )
    if not good.all():
        places = [place for row in np.flatnonzero(~good)[:3] if (place := denoised.place(int(row)))]
        more = ", ..." if int((~good).sum()) > 3 else ""
        text += (
            f" Zero or not finite, left as they were: {int((~good).sum())} ({'; '.join(places)}{more}, counted from 0)."
        )
    if denoised.removes_signal.any():
        text += f" In {int(denoised.removes_signal.sum())} more than noise was removed: signal was removed, too."
    return (
        f"{text} For display only; fit the raw data: a fit of denoised data is biased towards the training data of the"
        " network, and its SDs are too small."
    )
