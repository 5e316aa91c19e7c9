"""Macromolecules for a basis set: measured ones, ones from a table, and a measured pattern as a sum of lines.

Three forms are in use (Cudalbu et al., doi 10.1002/nbm.4393).  A measured pattern is one basis spectrum with one
amplitude.  Lines of known place and width have an amplitude each, so that what is overlaid may change its shape; a
measured pattern can be turned into such lines.  Simulated patterns of :func:`fsl_mrs_dl.physics.spinsim.macromolecules`
stand in where nothing was measured.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from ..core import units
from ..core.axes import Axes
from ..core.basis_reference import reference_offset_ppm
from ..core.errors import BasisError, DataError, OptionError
from ..core.fids import usable_fids
from ..core.metabolites import is_macromolecule
from ..io.basis import Basis, detect_conjugation
from ..io.convert import load_any
from ..io.nifti import MrsData
from . import spinsim

__all__ = ["add_macromolecules", "check_macromolecules", "in_lines", "fit_lines", "line_fids"]

_WINDOW_PPM = (0.2, 4.2)
_WIDTHS_HZ = (8.0, 14.0, 22.0, 34.0, 52.0)  # at 123 MHz
_APART_PPM = 0.05
_MOST_WATER = 30.0  # times the highest macromolecule; a reference has thousands, and its foot reaches far
_PROTONS = 5.0  # of a metabolite, roughly
_NO_AXES = (
    "convert it to NIfTI-MRS, or put {}.control beside LCModel's RAW, with lines such as deltat=5e-4 (s) and"
    " hzpppm=123.2 (MHz)"
)


def add_macromolecules(basis: Basis, what: str | Path) -> Basis:
    """Append macromolecules to a basis set; ``notes`` says if it holds others already.

    Parameters
    ----------
    basis : Basis
    what : str or path
        'parametric' (twelve lines), 'fsl-default' (FSL-MRS's five), 'summed' (the twelve as one pattern), or a file:
        NIfTI-MRS or a scanner's file with one measured spectrum, such as a metabolite-nulled one, which becomes 'mm';
        or another basis set, whose macromolecules are taken.

    Raises
    ------
    BasisError, DataError, OptionError
        If the basis set has such entries already, or there is nothing of the kind in the file.
    """
    read: tuple[str, ...] = ()
    if str(what) in spinsim.MACROMOLECULE_KINDS:
        if basis.nucleus != "1H":
            raise OptionError(
                f"is for 1H, the basis set is {basis.nucleus}", option="mm", value=what, remedy="leave it out"
            )
        fids, names = spinsim.macromolecules(
            str(what), spec_freq_mhz=basis.spec_freq_mhz, bandwidth_hz=basis.bandwidth, n_points=basis.n_points
        )
        # Theirs is a unit for each proton; a basis set in another unit has another mean.
        fids = _shifted(fids * (np.abs(basis.fids).max(1).mean() / _PROTONS), basis)
    else:
        fids, names, read = _from_file(Path(what), basis)
    there = [name for name in names if name in basis.names]
    if there:
        raise OptionError(
            f"{basis.source} has {there[0]} already",
            option="mm",
            value=what,
            remedy=f"leave one out with `ignore` {there[0]}, or `mm`",
        )
    own = [name for name in basis.names if is_macromolecule(name) and not name.lower().startswith("lip")]
    twice = [
        f"holds macromolecules already ({', '.join(own)}), which `mm` {what} adds again; leave out one of the two, `mm`"
        f" or, with `ignore`, {name}"
        for name in own[:1]
    ]
    return replace(
        basis,
        fids=np.concatenate([basis.fids, fids]),
        names=(*basis.names, *names),
        widths_hz=tuple(basis.widths_hz or (None,) * basis.n_metabs) + (None,) * len(names),
        notes=(*basis.notes, *read, *twice),
    )


def check_macromolecules(what: str | Path, data: MrsData | None = None) -> None:
    """Check what can be of macromolecules without a basis set, which may take minutes to simulate.

    Parameters
    ----------
    what : str or path
        As :func:`add_macromolecules` takes it.
    data : MrsData, optional
        That they are to be fitted to.

    Raises
    ------
    BasisError, DataError, OptionError
        If there is nothing of the kind in the file, or it is of another nucleus or field than the data.
    """
    kind = str(what) in spinsim.MACROMOLECULE_KINDS
    read = None if kind else _read(Path(what))
    if data is None:
        return
    if read is None and data.nucleus != "1H":
        raise OptionError(f"is for 1H, {data.name} is {data.nucleus}", option="mm", value=what, remedy="leave it out")
    if read is not None and not _alike(read, data):
        raise OptionError(
            f"is of {read.nucleus} at {read.spec_freq_mhz:.1f} MHz, and {data.name} of {data.nucleus} at"
            f" {data.spec_freq_mhz:.1f} MHz",
            option="mm",
            value=what,
            remedy="give macromolecules that were measured at the same field",
        )


def _alike(one: Basis | MrsData, other: Basis | MrsData) -> bool:
    """Tell whether spectra are of one nucleus and field, as :meth:`.Basis.check_match` does."""
    return one.nucleus == other.nucleus and abs(one.spec_freq_mhz / other.spec_freq_mhz - 1) <= 0.03


def _read(path: Path) -> Basis | MrsData:
    """Return the macromolecules of a file: those of a basis set, or one measured spectrum.

    Raises
    ------
    BasisError, DataError, OptionError
        If there is no such file, or nothing of the kind in it.
    """
    if not path.exists():
        raise OptionError(
            "no such file",
            option="mm",
            value=path,
            remedy=f"give one, or one of {', '.join(spinsim.MACROMOLECULE_KINDS)}",
        )
    if path.is_dir() or path.suffix.lower() == ".basis":
        other = Basis.load(path)
        chosen = [name for name in other.names if is_macromolecule(name)] or (
            list(other.names) if other.n_metabs == 1 else []
        )
        if not chosen:
            raise BasisError(
                f"holds no macromolecules ({', '.join(other.names)})",
                option="mm",
                value=path,
                remedy="name them mm, Mac or MM09",
            )
        return other.select(chosen)
    about = path.stat()
    return _read_spectrum(path, about.st_mtime_ns, about.st_size)


@lru_cache(maxsize=2)  # a scanner's file is converted by another program, and is checked before it is used
def _read_spectrum(path: Path, mtime_ns: int, size: int) -> MrsData:
    """Return one measured spectrum ``(1, 1, 1, n_points)`` of a file; time and size tell another content."""
    try:
        data = load_any(path)
    except DataError as exc:
        if "`bandwidth`" not in (exc.remedy or ""):
            raise
        # Those options are of the data, and macromolecules may have been acquired with others.
        raise DataError(exc.problem, option="mm", value=path, remedy=_NO_AXES.format(path.stem)) from exc
    fids = np.moveaxis(data.fids, 3, -1).reshape(-1, data.n_points)
    if len(fids) != 1 or not usable_fids(fids).all():
        raise DataError(
            f"holds {len(fids)} spectra, one usable one is needed", option="mm", value=path, remedy="average it first"
        )
    if detect_conjugation(fids[0], data.axes):
        fids = fids.conj()
    _check_not_water(fids[0], data, path)
    return replace(data, fids=fids[0, None, None, None])


def _from_file(path: Path, basis: Basis) -> tuple[np.ndarray, tuple[str, ...], tuple[str, ...]]:
    """Return the macromolecules of a file on the grid of a basis set, their names, and notes on how they were read."""
    read = _read(path)
    if isinstance(read, Basis):
        read.check_match(basis.spec_freq_mhz, basis.nucleus, str(basis.source))
        return read.resampled(basis.dwelltime, basis.n_points), read.names, ()
    data, fids = read, read.fids[0, 0]
    basis.check_match(data.spec_freq_mhz, data.nucleus, str(path))
    # About as large as a metabolite set's own pattern, so that its amplitude is a number one can read.
    size = np.abs(fids).max() / np.abs(basis.fids).max(1).mean()
    # Macromolecules have decayed long before a metabolite basis set ends: what was not acquired of them is nothing.
    missing = int(np.ceil(basis.n_points * basis.dwelltime / data.dwelltime)) + 2 - fids.shape[1]
    fids = np.pad(fids, ((0, 0), (0, max(0, missing))))
    one = Basis(fids / size, ("mm",), data.dwelltime, data.spec_freq_mhz, data.nucleus, source=str(path))
    notes = tuple(f"macromolecules of {path.name}, {note}" for note in data.notes)
    return _shifted(one.resampled(basis.dwelltime, basis.n_points), basis), ("mm",), notes


def _shifted(fids: np.ndarray, basis: Basis) -> np.ndarray:
    """Return macromolecules at their chemical shifts, moved to where a basis set has them."""
    hz = reference_offset_ppm(basis.fids, basis.names, basis.axes) * basis.spec_freq_mhz
    return fids * np.exp(2j * np.pi * hz * np.arange(basis.n_points) * basis.dwelltime) if hz else fids


def _check_not_water(fid: np.ndarray, data, path: Path) -> None:
    """Refuse a spectrum of water alone: a reference file is easily given by mistake."""
    if data.nucleus != "1H":
        return
    ppm, spec = data.axes.ppm(), np.abs(units.fid_to_spec(fid))
    inside, water = (ppm > _WINDOW_PPM[0]) & (ppm < _WINDOW_PPM[1] - 1.2), np.abs(ppm - 4.65) < 0.5
    if inside.any() and water.any() and spec[water].max() > _MOST_WATER * spec[inside].max():
        raise DataError(
            f"its water is {spec[water].max() / spec[inside].max():.0f} times as high as anything from 0.2 to 3 ppm",
            option="mm",
            value=path,
            remedy="this looks like a water reference. Give a metabolite-nulled spectrum, water suppressed or removed",
        )


def in_lines(basis: Basis, n_lines: int = 18) -> tuple[Basis, np.ndarray]:
    """Replace the one measured macromolecule of a basis set by lines that sum up to it.

    Parameters
    ----------
    basis : Basis
        Sets whose macromolecules are lines already are given back as they are.
    n_lines : int
        As many as in doi 10.1016/j.compbiomed.2023.106837 by default.

    Returns
    -------
    basis : Basis
        The metabolites, then the lines, named after their places (MM094 is at 0.94 ppm).
    shares : ndarray ``(n_metabs,)`` of bool
        Which entries are macromolecules.

    Raises
    ------
    BasisError
        If there are no macromolecules at all.
    """
    mm = np.array([is_macromolecule(name) for name in basis.names])
    if not mm.any():
        raise BasisError(f"{basis.source}: has no macromolecules", remedy="add some with `mm` parametric, or `mm` FILE")
    widths = tuple(basis.widths_hz or (None,) * basis.n_metabs)
    order = [*np.flatnonzero(~mm), *np.flatnonzero(mm)]
    if mm.sum() > 1:
        ordered = replace(
            basis,
            fids=basis.fids[order],
            names=tuple(basis.names[i] for i in order),
            widths_hz=tuple(widths[i] for i in order),
        )
        return ordered, mm[order]
    pattern = basis.fids[mm][0]
    ppm, fwhm_hz, area = fit_lines(pattern, basis.axes, n_lines)
    fids = area[:, None] * line_fids(ppm, fwhm_hz, basis.axes)
    names = [f"MM{round(place * 100):03d}" for place in ppm]
    names = [
        name if name not in names[:i] else f"{name}{'bcdefgh'[names[:i].count(name) - 1]}"
        for i, name in enumerate(names)
    ]
    keep = np.flatnonzero(~mm)
    lines = replace(
        basis,
        fids=np.concatenate([basis.fids[keep], fids]),
        names=(*(basis.names[i] for i in keep), *names),
        widths_hz=(*(widths[i] for i in keep), *[None] * len(names)),
    )
    return lines, np.arange(lines.n_metabs) >= len(keep)


def line_fids(ppm, fwhm_hz, axes: Axes) -> np.ndarray:
    """Return Lorentzian lines of first point one, complex ``(n_lines, n_points)``."""
    time = np.arange(axes.n_points) * axes.dwelltime
    hz = axes.ppm_to_hz(np.asarray(ppm, float))
    return np.exp((2j * np.pi * hz - np.pi * np.asarray(fwhm_hz))[:, None] * time)


def fit_lines(fid, axes: Axes, n_lines: int = 18) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fit a pattern by upright Lorentzian lines of positive area: least squares of its spectrum in 0.2 to 4.2 ppm.

    The fit begins with the lines that explain most, chosen one after the other from all places and five widths.

    Returns
    -------
    ppm, fwhm_hz, area : ndarray ``(n_lines,)``
        Ascending in ppm; fewer where fewer suffice.
    """
    from scipy.optimize import least_squares, nnls

    fid = np.asarray(fid)
    axes = axes.with_points(min(len(fid), int(round(0.5 / axes.dwelltime))))  # broad lines have decayed by then
    fid, axis = fid[: axes.n_points], axes.ppm()
    inside = (axis >= _WINDOW_PPM[0]) & (axis <= _WINDOW_PPM[1])

    def real(fids):
        spec = units.fid_to_spec(fids)[..., inside]
        return np.concatenate([spec.real, spec.imag], -1)

    target = real(fid)
    places = np.arange(_WINDOW_PPM[0] + 0.2, _WINDOW_PPM[1] - 0.1, 0.02)
    widths = np.array(_WIDTHS_HZ) * axes.spec_freq_mhz / 123.0
    ppm, fwhm = (grid.ravel() for grid in np.meshgrid(places, widths, indexing="ij"))
    dictionary = real(line_fids(ppm, fwhm, axes))
    size = np.linalg.norm(dictionary, axis=-1)
    # A pattern's first point may be off, which lifts its spectrum as a whole; that is none of its lines.
    flat = np.concatenate([np.ones(inside.sum()), np.zeros(inside.sum())])
    offset = np.stack([flat, -flat])
    chosen: list[int] = []
    remainder = target
    for _ in range(n_lines):
        gain = dictionary @ remainder / size
        near = (np.abs(ppm[:, None] - ppm[chosen]) < _APART_PPM).any(1)
        best = int(np.argmax(np.where(near, -np.inf, gain)))
        if gain[best] <= 0:
            break
        chosen.append(best)
        rows = np.concatenate([dictionary[chosen], offset])
        remainder = target - nnls(rows.T, target)[0] @ rows
    lower, upper = widths[0] / 2, widths[-1] * 2
    n = len(chosen)

    def split(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return x[:n], np.exp(x[n : 2 * n])

    def amplitudes(x):
        rows = np.concatenate([real(line_fids(*split(x), axes)), offset])
        values, _ = nnls(rows.T, target)
        return rows, values

    def residual(x):
        rows, values = amplitudes(x)
        return values @ rows - target

    start = np.concatenate([ppm[chosen], np.log(fwhm[chosen])])
    bounds = (
        np.concatenate([ppm[chosen] - 0.1, np.full(n, np.log(lower))]),
        np.concatenate([ppm[chosen] + 0.1, np.full(n, np.log(upper))]),
    )
    end = least_squares(
        residual, start, bounds=bounds, max_nfev=100, x_scale=np.concatenate([np.full(n, 0.02), np.full(n, 0.2)])
    )
    area = amplitudes(end.x)[1][:n]
    ppm, fwhm = split(end.x)
    there = np.flatnonzero(area > 1e-6 * area.max())
    there = there[np.argsort(ppm[there])]
    return ppm[there], fwhm[there], area[there]
