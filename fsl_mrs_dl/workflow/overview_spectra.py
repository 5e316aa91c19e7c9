"""The processed spectra of a study on one axis and one scale, for its overview."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..core.errors import FslMrsDlError
from ..io import nifti
from ..results.reports.page import spectrum, zero_order
from .collect import SessionResult

__all__ = ["StudySpectra", "study_spectra"]

_POINTS = 600


@dataclass(frozen=True)
class StudySpectra:
    """Spectra of one series.

    Attributes
    ----------
    ppm : ndarray ``(n_ppm,)``
    spectra : ndarray ``(n, n_ppm)``
        Real parts.
    names, groups : list of str
        Of each spectrum.
    included : bool ndarray ``(n,)``
    note : str
        How they were brought to one scale, a sentence.
    """

    ppm: np.ndarray
    spectra: np.ndarray
    names: list[str]
    groups: list[str]
    included: np.ndarray
    note: str


def study_spectra(results: Sequence[SessionResult]) -> StudySpectra | None:
    """Return the spectra of sessions that have one, or None if there are none.

    Each is in phase, over the internal reference where it has one; sessions of another nucleus than the first are left
    out, and so are spectra of an earlier run of sessions that failed.
    """
    lines, names, groups, included, scaled, ppm = [], [], [], [], [], None
    nucleus = None
    for result in results:
        if not result.up_to_date:
            continue
        try:
            data = nifti.load(result.folder / "processed.nii.gz")
        except FslMrsDlError:
            continue
        fids = np.moveaxis(data.fids, 3, -1).reshape(-1, data.n_points)
        window = data.axes.usual_window
        if len(fids) != 1 or window is None or nucleus not in (None, data.nucleus) or not np.isfinite(fids).all():
            continue
        nucleus = data.nucleus
        ppm = np.linspace(*window, _POINTS) if ppm is None else ppm
        _, phased = zero_order(fids, fids, np.ones(1), data.axes, window)
        x, y = spectrum(phased, data.axes, window)
        reference = _reference(result)
        # Without a reference the height stands in for it.
        lines.append(np.interp(ppm, x, y[0].real) / (reference or np.abs(y[0]).max() or 1.0))
        scaled.append(reference is not None)
        names.append(result.session.name)
        groups.append(result.session.group)
        included.append(result.included)
    if ppm is None:
        return None
    how = "over the internal reference" if all(scaled) else "over the internal reference, or their height without one"
    return StudySpectra(ppm, np.stack(lines), names, groups, np.array(included), f"Processed spectra, {how}.")


def _reference(result: SessionResult) -> float | None:
    """Return the raw concentration of the internal reference, or None."""
    values = result.values
    if values is None or not {"conc", "ratio"} <= set(values.columns):
        return None
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = (values["conc"] / values["ratio"]).to_numpy(float)
    scale = scale[np.isfinite(scale) & (scale > 0)]
    # Raw concentrations are those of scaled data.
    factor = result.run.get("fid_scale") or 1.0
    return float(np.median(scale)) / float(factor) if len(scale) else None
