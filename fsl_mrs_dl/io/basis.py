"""Basis sets: read from FSL-MRS's JSON folder or an LCModel ``.BASIS`` file, checked, oriented and resampled."""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from .. import __version__
from ..core import units
from ..core.axes import Axes
from ..core.basis_reference import reference_offset_ppm
from ..core.errors import BasisError
from ..core.metabolites import name_among
from ..core.resampling import resample
from .basis_files import BasisEntry, check_alike, chosen_entries, named_or_refused, read_entries
from .lcmodel_basis import echo_time_of

__all__ = ["Basis", "detect_conjugation", "runs_backwards"]

_CLEARLY = 1.5
_BY_CHANCE = 4.0  # SDs by which the sides of noise differ
_ZERO = 1e-9  # size of a spectrum over the largest one's


@dataclass(frozen=True)
class Basis:
    """A basis set.

    Attributes
    ----------
    fids : complex ndarray, shape ``(n_metabs, n_points)``
        Basis FIDs sampled from time zero, in the in-memory sign convention.
    names : tuple of str
        FSL-MRS's metabolite names, one per row.
    dwelltime : float
        Seconds.
    spec_freq_mhz : float
        Spectrometer frequency in MHz.
    nucleus : str
    widths_hz : tuple of float or None
        Line width of the simulation, where the file has it.
    source : str
        File or folder that it was read from, for messages.
    notes : tuple of str
        Repairs made when it was read, in sentences.
    conjugated : bool
        Its frequency axis ran backwards and was reversed when it was read.
    echo_time_s : float or None
        Seconds, where the file says.
    empty : tuple of str
        Spectra of the file that were left out, as they are zero everywhere.
    """

    fids: np.ndarray
    names: tuple[str, ...]
    dwelltime: float
    spec_freq_mhz: float
    nucleus: str = "1H"
    widths_hz: tuple[float | None, ...] = ()
    source: str = "the basis set"
    notes: tuple[str, ...] = ()
    conjugated: bool = False
    echo_time_s: float | None = None
    empty: tuple[str, ...] = ()

    @property
    def axes(self) -> Axes:
        """Axes of the basis FIDs."""
        return Axes(self.fids.shape[1], self.dwelltime, self.spec_freq_mhz, self.nucleus)

    def __post_init__(self):
        if self.fids.ndim != 2 or self.fids.shape[0] != len(self.names):
            raise BasisError(
                f"{self.source}: {len(self.names)} names for basis FIDs of shape {self.fids.shape}",
                remedy="one row a name is needed",
            )
        doubles = sorted({name for name in self.names if self.names.count(name) > 1})
        if doubles:
            raise BasisError(
                f"{self.source}: the name {doubles[0]} stands more than once", remedy="remove or rename one of them"
            )
        bad = [name for name, fid in zip(self.names, self.fids) if not np.isfinite(fid).all() or not fid.any()]
        if bad:
            raise BasisError(
                f"{self.source}: {bad[0]} is all zero or holds NaN",
                remedy="simulate it again or leave it out with `ignore`",
            )

    @property
    def n_metabs(self) -> int:
        """Number of basis spectra."""
        return len(self.names)

    @property
    def n_points(self) -> int:
        """Points of a basis FID."""
        return self.fids.shape[1]

    @property
    def bandwidth(self) -> float:
        """Spectral width in Hz."""
        return 1 / self.dwelltime

    @property
    def sha256(self) -> str:
        """Hash of the set's content, whatever format it is stored in, to name it in a publication.

        It is that of one line ``nucleus frequency/MHz dwelltime/s points largest`` with six significant digits each,
        and for each name in alphabetical order the name, a line feed, and real and imaginary parts of the FID, in units
        of a millionth of the largest absolute value, rounded to little-endian 32-bit integers.
        """
        largest = float(np.abs(self.fids).max())
        numbers = (self.spec_freq_mhz, self.dwelltime, self.n_points, largest)
        content = hashlib.sha256(" ".join((self.nucleus, *(f"{number:.6g}" for number in numbers))).encode())
        for name, fid in sorted(zip(self.names, self.fids), key=lambda entry: entry[0]):
            parts = np.stack([fid.real, fid.imag], -1) / largest
            content.update(f"\n{name}\n".encode() + np.rint(1e6 * parts).astype("<i4").tobytes())
        return content.hexdigest()

    @classmethod
    def load(cls, path: str | Path, *, keep: Sequence[str] | None = None, ignore: Sequence[str] | None = None) -> Basis:
        """Read a basis set: a folder of FSL-MRS ``.json`` files, or one LCModel ``.BASIS`` file; sorted by name.

        A set whose frequency axis has the opposite sign is conjugated, and spectra that are zero everywhere are left
        out; ``notes`` records both.  ``keep`` and ``ignore`` choose metabolites as :meth:`select` does, before the
        checks of single ones.

        Raises
        ------
        BasisError
            Missing, unreadable, inconsistent or doubled entries among the chosen ones.
        """
        source = str(path)
        entries = read_entries(Path(path))
        chosen = chosen_entries(entries, keep, ignore, source)
        check_alike(chosen)
        sizes = np.array([np.abs(entry.fid).max(initial=0.0) for entry in chosen])
        # A difference of two spectra that are alike leaves their rounding.
        zero = sizes <= _ZERO * np.nanmax(sizes, initial=0.0)
        empty = [entry.name for entry, nothing in zip(chosen, zero) if nothing]
        notes = (f"left out, as they are zero everywhere: {', '.join(empty)}",) if empty else ()
        chosen = [entry for entry, nothing in zip(chosen, zero) if not nothing]
        if not chosen:
            raise BasisError(f"{source}: its spectra are zero everywhere", remedy="simulate them again")
        first = min(chosen, key=lambda entry: entry.source)
        basis = cls(
            np.stack([entry.fid for entry in chosen]),
            tuple(entry.name for entry in chosen),
            first.dwelltime,
            first.spec_freq_mhz,
            next((entry.nucleus for entry in chosen if entry.nucleus), "1H"),
            tuple(entry.width_hz for entry in chosen),
            source,
            notes,
            echo_time_s=_echo_time(Path(path), chosen),
            empty=tuple(empty),
        )
        return basis._oriented_as(_usable_like(entries, chosen[0]))._with_note_of_offset()

    @classmethod
    def from_fsl_mrs(cls, basis, *, conjugate: bool = False) -> Basis:
        """Convert a ``fsl_mrs.core.Basis``, without importing FSL-MRS; ``conjugate`` as its ``MRS.conj_Basis``."""
        fids = np.asarray(basis.original_basis_array).T
        return cls(
            fids=fids.conj() if conjugate else fids,
            names=tuple(basis.names),
            dwelltime=float(basis.original_dwell),
            spec_freq_mhz=float(basis.cf),
            nucleus=basis.nucleus,
            widths_hz=tuple(basis.basis_fwhm),
            source="the FSL-MRS basis object",
        )

    def save(self, folder: str | Path, *, info: str = "") -> Path:
        """Write FSL-MRS's format, one ``<name>.json`` per metabolite, into ``folder`` (made if absent)."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        meta: dict[str, str | float] = {
            "time": datetime.datetime.now().strftime("%Y%m%d_%H%M%S"),
            "SimVersion": f"FSL-MRS-DL {__version__}. {info}".strip(),
        }
        if self.echo_time_s is not None:
            meta["EchoTime"] = self.echo_time_s  # in seconds, as NIfTI-MRS has it
        widths = self.widths_hz or (None,) * self.n_metabs
        # Nine digits at least behind the largest number.
        digits = max(9, 9 - int(np.floor(np.log10(np.abs(self.fids).max()))))
        for name, fid, width in zip(self.names, self.fids, widths):
            content = {
                "basis_re": np.round(fid.real, digits).tolist(),
                "basis_im": np.round(fid.imag, digits).tolist(),
                "basis_dwell": self.dwelltime,
                "basis_centre": self.spec_freq_mhz,
                "basis_width": width,
                "basis_name": name,
                "basis_nucleus": self.nucleus,
            }
            file = folder / f"{name.replace('/', '_')}.json"
            file.write_text(json.dumps({"basis": content, "meta": meta}), encoding="utf-8")
        return folder

    def oriented(self) -> Basis:
        """Return the set with the usual sign of its frequency axis; ``notes`` records a conjugation."""
        return self._oriented_as(self.fids)

    def _with_note_of_offset(self) -> Basis:
        """Return the set with a note of how far its singlets are from their chemical shifts."""
        offset = reference_offset_ppm(self.fids, self.names, self.axes)
        if not offset:
            return self
        note = (
            f"all metabolites lie {abs(offset):.3f} ppm {'above' if offset > 0 else 'below'} their chemical shifts;"
            " macromolecules and lipids that are added are moved as far, unless the fits have more evidence without"
        )
        return replace(self, notes=(*self.notes, note))

    def _oriented_as(self, fids: np.ndarray) -> Basis:
        """Conjugate the set if ``fids``, of more metabolites than are chosen, have a frequency axis that runs back."""
        if not detect_conjugation(fids, self.axes):
            return self
        note = "the frequency axis ran backwards and was reversed (complex conjugate)"
        return replace(self, fids=self.fids.conj(), notes=(*self.notes, note), conjugated=not self.conjugated)

    def select(self, keep: list[str] | None = None, ignore: list[str] | None = None) -> Basis:
        """Return the set with the metabolites in ``keep`` (None: all) and not in ``ignore``, in the same order.

        Raises
        ------
        BasisError
            If a name is not in the set, or no metabolite remains.
        """
        keep = named_or_refused("keep", keep, self.names, self.source)
        ignore = named_or_refused("ignore", ignore, self.names, self.source)
        rows = [i for i, name in enumerate(self.names) if (not keep or name in keep) and name not in ignore]
        if not rows:
            raise BasisError(
                f"{self.source}: no metabolite is left after `keep` and `ignore`", remedy="give fewer of them"
            )
        widths = tuple(self.widths_hz[i] for i in rows) if self.widths_hz else ()
        return replace(self, fids=self.fids[rows], names=tuple(self.names[i] for i in rows), widths_hz=widths)

    def resampled(self, dwelltime: float, n_points: int, start: float = 0.0) -> np.ndarray:
        """Return the basis FIDs on another time grid, complex ``(n_metabs, n_points)``, see
        :func:`fsl_mrs_dl.core.resampling.resample`.

        The last requested point may lie behind the set's by half a dwell time, which is more than the rounding of dwell
        times in headers.  Grids that drift apart by less than a hundredth of a dwell time are one.  ``start`` is the
        time of the first point in seconds.

        Raises
        ------
        BasisError
            If the set is too short in time.
        """
        have, need = (self.n_points - 1) * self.dwelltime, (n_points - 1) * dwelltime + start
        if need - have > 0.5 * max(self.dwelltime, dwelltime):
            raise BasisError(
                f"{self.source}: covers {have * 1e3:.0f} ms, the data need {need * 1e3:.0f} ms",
                remedy="simulate it with more points, or shorten the data",
            )
        if not start and n_points <= self.n_points and n_points * abs(dwelltime / self.dwelltime - 1) < 0.01:
            return self.fids[:, :n_points]
        return resample(self.fids, self.dwelltime, dwelltime, n_points, start)

    def check_match(self, spec_freq_mhz: float, nucleus_name: str, data_name: str = "the data") -> None:
        """Check that the set is meant for data of that spectrometer frequency and nucleus.

        Raises
        ------
        BasisError
            If the nucleus differs, or the frequencies differ by more than 3 %: another field strength.
        """
        if self.nucleus != nucleus_name:
            raise BasisError(
                f"{self.source}: is for {self.nucleus}, {data_name} is {nucleus_name}",
                remedy="use a basis set of that nucleus",
            )
        if abs(self.spec_freq_mhz / spec_freq_mhz - 1) > 0.03:
            gamma = units.nucleus(nucleus_name).gamma_mhz_per_t
            raise BasisError(
                f"{self.source}: simulated at {self.spec_freq_mhz:.1f} MHz ({self.spec_freq_mhz / gamma:.1f} T),"
                f" {data_name} was acquired at {spec_freq_mhz:.1f} MHz ({spec_freq_mhz / gamma:.1f} T)",
                remedy="use a basis set of that field strength",
            )

    def sorted(self) -> Basis:
        """Return the set with its metabolites sorted by name, as it is read from files."""
        rows = sorted(range(self.n_metabs), key=self.names.__getitem__)
        widths = tuple(self.widths_hz[i] for i in rows) if self.widths_hz else ()
        return replace(self, fids=self.fids[rows], names=tuple(self.names[i] for i in rows), widths_hz=widths)

    def groups(self, spec: list[str | int] | str | int | None) -> list[int]:
        """Return a group index per metabolite, as FSL-MRS reads its option ``metab_groups``.

        ``None`` or one number: one group.  ``'separate_all'``, ``'combine_all'``.  Names, each with a group of its own
        (``A+B`` share one), the rest in group 0.  A list of ``n_metabs`` numbers is taken as it is.

        Raises
        ------
        BasisError
            If a name is not in the set or the numbers are not one per metabolite, counting from 0 without gaps.
        """
        if isinstance(spec, (list, tuple)) and len(spec) == 1 and self.n_metabs > 1:
            spec = spec[0]
        if spec is None or isinstance(spec, int):
            return [0] * self.n_metabs
        if isinstance(spec, str):
            if spec.lower() == "separate_all":
                return list(range(self.n_metabs))
            if spec.lower() == "combine_all":
                return [0] * self.n_metabs
            spec = [spec]
        if all(isinstance(entry, (int, np.integer)) for entry in spec):
            if len(spec) != self.n_metabs or sorted(set(spec)) != list(range(len(set(spec)))):
                raise BasisError(
                    f"one number per metabolite is needed ({self.n_metabs}), from 0 without gaps",
                    option="metab_groups",
                    value=" ".join(map(str, spec)),
                )
            return [int(entry) for entry in spec]
        out = [0] * self.n_metabs
        for index, entry in enumerate(spec, start=1):
            for name in str(entry).split("+"):
                member = name_among(name, self.names)
                if member is None:
                    raise BasisError(
                        f"no metabolite {name} in {self.source}",
                        option="metab_groups",
                        value=entry,
                        remedy=f"it has {', '.join(self.names)}",
                    )
                out[self.names.index(member)] = index
        # An empty group 0 would be a set of parameters without data.
        lowest = min(out)
        return [group - lowest for group in out]


def _usable_like(entries: Sequence[BasisEntry], like: BasisEntry) -> np.ndarray:
    """Return the FIDs of all entries with the axis of ``like`` that hold a signal."""
    alike = [entry.fid for entry in entries if len(entry.fid) == len(like.fid) and entry.dwelltime == like.dwelltime]
    return np.stack([fid for fid in alike if np.isfinite(fid).all() and fid.any()] or [like.fid])


def detect_conjugation(fids: np.ndarray, axes: Axes) -> bool:
    """Tell whether the signal of FIDs ``(..., n_points)`` is on the wrong side of the carrier.

    Compares the detrended spectral power in the nucleus' usual window as stored and conjugated, spectrum by spectrum,
    and takes the majority, as FSL-MRS does.  A nucleus without a usual window, or with one that is symmetric, is never
    turned, nor are spectra whose sides differ no more than those of noise.
    """
    stored, conjugated = _power_as_stored_and_conjugated(np.atleast_2d(fids), axes)
    if not len(stored) or np.mean(stored < conjugated) < 0.5:
        return False
    first, last = axes.window(axes.usual_window)
    with np.errstate(divide="ignore", invalid="ignore"):
        # Of noise each of the two has a sum of squares with an SD of its mean times the root of two over the points.
        least = np.minimum(stored, conjugated) ** 2 * 2 / np.sqrt(last - first)
        difference = (conjugated**2 - stored**2) / least
    return bool(np.nan_to_num(difference).sum() > _BY_CHANCE * np.sqrt(len(stored)))


def runs_backwards(fids: np.ndarray, axes: Axes) -> bool:
    """Tell whether FIDs ``(n, n_points)`` together have clearly more power on the wrong side of the carrier; for noisy
    ones, and for water, which has as much on both sides."""
    stored, conjugated = _power_as_stored_and_conjugated(fids, axes)
    return bool(len(stored) and np.mean(conjugated**2) > _CLEARLY * np.mean(stored**2))


def _power_as_stored_and_conjugated(fids: np.ndarray, axes: Axes) -> tuple[np.ndarray, np.ndarray]:
    """Return the size of detrended spectra in the nucleus' usual window, ``(...)`` each; empty where there is none."""
    if axes.usual_window is None:
        return np.zeros(0), np.zeros(0)
    first, last = axes.window(axes.usual_window)
    if last - first < 8:
        return np.zeros(0), np.zeros(0)
    x = np.linspace(-1, 1, last - first)
    trend = np.linalg.qr(np.vander(x, 5))[0]

    def power(signal):
        real = units.fid_to_spec(signal).real[..., first:last]
        return np.linalg.norm(real - (real @ trend) @ trend.T, axis=-1)

    return power(fids), power(fids.conj())


def _echo_time(path: Path, chosen: Sequence[BasisEntry]) -> float | None:
    """Return the echo time of a basis set in seconds; None where it has none, or several."""
    if path.is_file():
        return echo_time_of(path)
    times = {entry.echo_time_s for entry in chosen}
    return times.pop() if len(times) == 1 else None
