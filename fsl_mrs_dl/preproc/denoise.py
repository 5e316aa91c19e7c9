"""Noise taken out of spectra with a trained network, and data that say of themselves that this was done to them.

What comes out is to be looked at.  A network that knows what spectra look like fills in what the noise has hidden with
what it has seen in training.  A fit of the result leans towards that, and it cannot know by how much it is off, because
the noise left is not that of the measurement (Dziadosz et al., Denoising MR spectra by deep learning: miracle or
mirage?, Proc ISMRM 2022, 2541).
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
from ..core.fids import noise_outside
from ..io.nifti import MrsData, check_fids, from_image, processing_record
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
"""The user-defined header field that tells programs, and what the record of processing calls the step."""

WARNING = (
    "the noise left in denoised data is not the noise of the measurement, so SDs are too small, and concentrations lean"
    " towards what the network was trained on; fit the raw data instead"
)

# More than this much of the noise taken out: signal went with it.
_TOO_MUCH = 1.2
_ROWS = 256


@dataclass
class DenoisedData:
    """Denoised data and how it went.

    ``data`` as the input, less noise; ``raw`` and ``fids`` all FIDs before and after, ``(n, n_points)``, in the order
    of the data's dimensions without time, whose lengths are ``shape`` and names ``axes``.  ``usable`` ``(n,)`` tells
    which were denoised; the others, zero or not finite, are as they were.  ``noise_sd`` ``(n,)`` is the noise of the
    raw spectrum per real channel, ``snr`` its highest magnitude in the window over that, ``taken`` the size of what was
    taken out of the window over the size of noise there: about 1 where noise was taken out and nothing else.
    """

    data: MrsData
    raw: np.ndarray
    fids: np.ndarray
    shape: tuple[int, ...]
    axes: tuple[str, ...]
    usable: np.ndarray
    noise_sd: np.ndarray
    snr: np.ndarray
    taken: np.ndarray
    ppmlim: tuple[float, float]
    card: model_cards.Card

    @property
    def too_much(self) -> np.ndarray:
        """Where more than noise was taken out, bool ``(n,)``."""
        return self.usable & (self.taken > _TOO_MUCH)

    @property
    def shown(self) -> int:
        """The spectrum that stands for all in a report: of those denoised, the one whose SNR is above three quarters of
        the others'."""
        rows = np.flatnonzero(self.usable)
        return int(rows[np.argsort(self.snr[rows])[(3 * (len(rows) - 1)) // 4]])

    def place(self, row: int) -> str:
        """Where a spectrum is in the data, in words, counted from 0; empty where there is one only."""
        where = np.unravel_index(row, self.shape)
        return ", ".join(f"{name} {at}" for name, at, size in zip(self.axes, where, self.shape) if size > 1)

    def details(self, command: str) -> str:
        """The step in words, for the header's record of processing."""
        return (
            f"{command}, model={self.card.name}, sha256={self.card['sha256']}, ppmlim={self.ppmlim}, "
            f"{int(self.usable.sum())} of {self.usable.size} spectra."
        )

    def header_field(self) -> dict[str, tuple[object, str]]:
        """The field that tells programs, as :func:`fsl_mrs_dl.io.nifti.save` takes it."""
        return {FIELD: (True, f"Noise was taken out by a network: {WARNING}.")}


def warning_of(header: dict) -> str:
    """What is to be said before data with this header are quantified, if they were denoised by this or another program;
    else empty."""
    field = header.get(FIELD)
    marked = bool(field.get("Value") if isinstance(field, dict) else field)
    steps = header.get("ProcessingApplied", [])
    steps = [one for one in steps if isinstance(one, dict) and str(one.get("Method", "")).lower().startswith("denois")]
    if not (marked or steps):
        return ""
    by = f" by {steps[-1]['Program']}" if steps and steps[-1].get("Program") else ""
    return f"was denoised{by}: {WARNING}"


def warn(args, header: dict) -> None:
    """Say on stderr that ``args.data``, to be quantified, were denoised, if their header tells, and keep it in
    ``args.denoised``.

    What this program denoised has its axis the right way round, or would have been refused; where little is left of a
    spectrum, that cannot be seen any more, so it is not asked again (``args.conjfid``).
    """
    text = warning_of(header)
    if FIELD in header and getattr(args, "conjfid", True) is None:
        args.conjfid = False
    if text:
        args.denoised = f"{args.data} {text}"
        print(f"Warning: {args.denoised}.", file=sys.stderr)


def denoise_data(data: MrsData, model: str | Path, device: str | torch.device = "auto") -> DenoisedData:
    """Take noise out of every spectrum of a file, each by itself.

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
    noise, snr, taken = (np.full(len(rows), np.nan) for _ in range(3))
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
            taken[part] = np.sqrt(np.mean(np.abs(difference) ** 2, -1) / 2) / noise[part]
    return DenoisedData(
        data=replace(data, fids=np.moveaxis(out.reshape(moved.shape), -1, 3)),
        raw=rows,
        fids=out,
        shape=usable.shape,
        axes=("x", "y", "z", *data.dim_tags),
        usable=good,
        noise_sd=noise,
        snr=snr,
        taken=taken,
        ppmlim=network.ppmlim,
        card=card,
    )


def _network(model, data: MrsData):
    """The network and its card, if it was made for data like these."""
    card = model_cards.read_card(model)
    if card.kind not in denoiser.METHODS:
        does = model_cards.KIND_WORDS.get(card.kind, "does other things")
        raise OptionError(
            f"--model {model}: {does}; give one that takes noise out of spectra ('fsl_mrs_dl train denoise')."
        )
    why = card.refuses(nucleus=data.nucleus, spec_freq_mhz=data.spec_freq_mhz, dwelltime=data.dwelltime)
    network, card = model_cards.load(model)
    # Lines of a longer FID are more points wide, which the network has never seen.
    if not why and not 0.9 <= data.n_points / network.n_points <= 1.1:
        why = f"{data.n_points} points (made for {network.n_points})"
    if why:
        raise OptionError(
            f"--model {model}: is not for data like {data.name}: {why}; train one for them with 'fsl_mrs_dl train"
            " denoise'."
        )
    return network, card


def _check_direction(rows: np.ndarray, network, data: MrsData) -> None:
    """Raise DataError where the signal is on the other side of the carrier: the network would be shown noise."""
    inside = network.inside(data.n_points)
    # Without the part beside water, whose foot is as high on the other side.
    inside = slice(inside.start, inside.stop - (inside.stop - inside.start) // 10)
    here = there = 0.0
    for part in np.array_split(rows, -(-len(rows) // _ROWS)):
        power = np.abs(units.fid_to_spec(part)) ** 2
        here, there = here + power[:, inside].sum(), there + power[:, ::-1][:, inside].sum()
    if there > 4 * here:
        raise DataError(
            f"{data.name}: the frequency axis runs backwards (the spectrum is on the wrong side); conjugate the FIDs"
            " first (fsl_mrs_proc conj)."
        )


def denoise_image(image, model: str | Path, *, device="auto", command: str = "denoise", file: str | None = None):
    """Take noise out of a ``NIFTI_MRS`` object of the nifti-mrs package or of FSL-MRS, whose is one.

    Parameters
    ----------
    image : NIFTI_MRS
    model, device
        As for :func:`denoise_data`.
    command : str
        What the header's record of processing calls the step.
    file : str, optional
        The file's name for messages, where the object does not know it.

    Returns
    -------
    (NIFTI_MRS, DenoisedData)
        A copy of the same class, less noise, with the step in its header, and how it went.

    Raises
    ------
    DataError, OptionError
    """
    name = file or str(getattr(image, "filename", "") or "") or None
    denoised = denoise_data(from_image(image, name=name), model, device)
    out = image.copy()
    # The object conjugates on the way in as on the way out.
    out[:] = denoised.data.fids.reshape(out.image.shape)
    done = out.hdr_ext["ProcessingApplied"] if "ProcessingApplied" in out.hdr_ext else []
    out.add_hdr_field("ProcessingApplied", [*done, processing_record(METHOD, denoised.details(command))])
    for key, (value, doc) in denoised.header_field().items():
        out.add_hdr_field(key, value, doc=doc)
    return out, denoised


def summary_line(denoised: DenoisedData) -> str:
    """What was done, in one line for the terminal."""
    good = denoised.usable
    text = (
        f"Denoised {int(good.sum())} of {good.size} spectra between {denoised.ppmlim[0]:g} and {denoised.ppmlim[1]:g}"
        f" ppm with {denoised.card.name}; what was taken out is {np.median(denoised.taken[good]):.2f} of the noise."
    )
    if not good.all():
        places = [place for row in np.flatnonzero(~good)[:3] if (place := denoised.place(int(row)))]
        more = ", ..." if int((~good).sum()) > 3 else ""
        text += (
            f" Zero or not finite, left as they were: {int((~good).sum())} ({'; '.join(places)}{more}, counted from 0)."
        )
    if denoised.too_much.any():
        text += f" In {int(denoised.too_much.sum())} more than noise was taken out: signal went with it."
    return (
        f"{text} Look at them, and fit the raw data: a fit of denoised data leans towards what the network was trained"
        " on and does not know its errors."
    )
