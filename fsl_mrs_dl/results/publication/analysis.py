"""One analysis as a paper reports it: a fit with its options, its basis set, and the steps before it."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any

import numpy as np

from ... import __version__
from ...core import units
from ...fitting.header_facts import with_header
from ...fitting.in_vivo.result import InVivoFit
from ...fitting.options import FitOptions
from ...io.basis import Basis
from ...io.nifti import PROGRAM, MrsData
from ...physics.in_vivo_components import priors_table
from ..doubts import quality_line
from ..fit_results import FitResults

__all__ = ["Analysis", "figure_in_words", "number", "program_versions"]

_WIDEST_VOXEL_MM = 1000.0  # beyond it an affine is a placeholder


@dataclass(frozen=True)
class Analysis:
    """A fit, and what else a paper states about it.

    Attributes
    ----------
    results : FitResults
        With its data.
    options : FitOptions
        As they were given to the fit.
    basis : Basis
        That was fitted.
    basis_name : str
        Name of its file, without folders.
    steps : sequence of mapping
        Steps before the fit, in order, each with ``name``, ``done``, ``reason`` and ``figures`` as in run.json.
    exclusions : sequence of str
        Sentences on spectra or subjects that were left out, and the rules.
    n_transients : int, optional
        Transients that each spectrum is an average of, where that is known.
    versions : mapping of str to str
        Programs and their versions besides :func:`program_versions`.
    location : str
        Where the voxel lies, in words.
    volume : (int, int, int), optional
        Grid of the volume, where the results are of some of its voxels.
    n_spectra : int, optional
        All spectra that were fitted, where the results are of some of them.
    """

    results: FitResults
    options: FitOptions
    basis: Basis
    basis_name: str = ""
    steps: Sequence[Mapping[str, Any]] = ()
    exclusions: Sequence[str] = ()
    n_transients: int | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    location: str = ""
    volume: tuple[int, int, int] | None = None
    n_spectra: int | None = None

    @property
    def data(self) -> MrsData:
        """Data that were fitted."""
        data = self.results.data
        assert data is not None
        return data

    @property
    def header(self) -> dict:
        """NIfTI-MRS header extension of the data."""
        return self.data.header

    @cached_property
    def full_options(self) -> FitOptions:
        """The options with the facts of the header and of the basis set."""
        return with_header(self.options, self.data, self.basis.echo_time_s)

    @property
    def in_vivo(self) -> bool:
        """Whether the in-vivo model was fitted."""
        return isinstance(self.results.fit, InVivoFit)

    @property
    def in_vivo_fit(self) -> InVivoFit:
        """The fit, where it is one of the in-vivo model."""
        fit = self.results.fit
        assert isinstance(fit, InVivoFit)
        return fit

    @property
    def macromolecules(self) -> str:
        """Macromolecules of the in-vivo model: the basis set's 'own', 'table', or 'none'."""
        fit = self.in_vivo_fit
        if fit.has_own_macromolecules:
            return "own"
        components = fit.fitted_model.components
        return "table" if len(components.names) > components.n_linear else "none"

    @property
    def weighting_times(self) -> tuple[float, float]:
        """Echo and repetition time in seconds that macromolecules are weighted for."""
        usual = priors_table()["usual"]
        echo, repetition = self.full_options.echo_time_s, self.full_options.repetition_time_s
        return usual["te_s"] if echo is None else echo, usual["tr_s"] if repetition is None else repetition

    @property
    def absolute(self):
        """Absolute concentrations of the results; None where there are none."""
        return self.results.absolute

    @property
    def has_csf(self) -> bool:
        """Whether absolute concentrations rest on the relaxation of CSF."""
        tissue = None if self.absolute is None else self.absolute.scaling.tissue
        return tissue is not None and bool(np.any(tissue.csf > 0))

    @property
    def field_t(self) -> float:
        """Field strength in tesla; NaN for a nucleus whose gyromagnetic ratio is not known."""
        data = self.data
        return data.spec_freq_mhz / units.nucleus(data.nucleus).gamma_mhz_per_t

    @property
    def grid(self) -> tuple[int, int, int]:
        """Number of voxels along each side."""
        x, y, z = self.volume or self.data.fids.shape[:3]
        return x, y, z

    @property
    def voxel_mm(self) -> tuple[float, float, float] | None:
        """Sides of a voxel in mm; None without a position."""
        affine = self.data.affine
        if affine is None:
            return None
        x, y, z = (float(side) for side in np.linalg.norm(affine[:3, :3], axis=0))
        return (x, y, z) if max(x, y, z) < _WIDEST_VOXEL_MM else None

    @property
    def transients(self) -> int | None:
        """Transients of each spectrum: as given, or of the step that averaged them."""
        if self.n_transients:
            return self.n_transients
        numbers = [dict(step.get("figures") or {}).get("transients") for step in self.steps]
        return next((int(value) for value in numbers if value), None)

    @property
    def history(self) -> list[dict]:
        """Entries of the header's ``ProcessingApplied``, without those of this package where steps are given."""
        entries = [entry for entry in self.header.get("ProcessingApplied") or () if isinstance(entry, dict)]
        return [entry for entry in entries if not self.steps or entry.get("Program") != PROGRAM]

    @cached_property
    def rows(self) -> np.ndarray:
        """Numbers of the spectra that were fitted."""
        return np.flatnonzero(self.results.fit.fitted)

    def spread(self, values: np.ndarray) -> str:
        """Return the value of the one fitted spectrum, or the median and range of several, in text."""
        values = np.asarray(values, float)[self.rows]
        values = values[np.isfinite(values)]
        if not len(values):
            return ""
        if len(values) == 1:
            return number(values[0])
        return f"{number(np.median(values))} (median; {number(values.min())} to {number(values.max())})"

    @cached_property
    def quality_line(self) -> int | None:
        """Column of the metabolite whose SNR and line width are reported."""
        return quality_line(self.results.fit.names)


def number(value: float) -> str:
    """Return a number with three significant digits, without an exponent.

    >>> number(0.0312), number(1234.5), number(2.0)
    ('0.0312', '1234', '2')
    """
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def figure_in_words(name: str, value: float) -> str:
    """Return a figure of a step with its name and unit, which names end with.

    >>> figure_in_words("shift_sd_hz", 0.70713), figure_in_words("transients", 64.0)
    ('shift SD 0.707 Hz', 'transients 64')
    """
    name, _, last = name.rpartition("_")
    unit = {"hz": " Hz", "deg": " deg"}.get(last)
    words = (name if unit else f"{name}_{last}".strip("_")).replace("_", " ")
    for word, written in (("snr", "SNR"), ("sd", "SD")):
        words = " ".join(written if one == word else one for one in words.split())
    return f"{words} {number(value)}{unit or ''}"


def program_versions() -> dict[str, str]:
    """Return the versions of this package and of the libraries that its numbers depend on."""
    return dict(_program_versions())


@cache
def _program_versions() -> dict[str, str]:
    """Look the versions up, which reads the metadata of every library."""
    versions = {"FSL-MRS-DL": __version__, "Python": platform.python_version()}
    for label, name in (("NumPy", "numpy"), ("SciPy", "scipy"), ("PyTorch", "torch")):
        versions[label] = importlib.metadata.version(name).partition("+")[0]
    return versions
