"""Plain facts of a report: how the spectra were acquired, and which basis set was fitted."""

from __future__ import annotations

from ...core import units
from ...fitting.header_facts import seconds_of, sequence_of
from ..fit_results import FitResults
from ..publication.analysis import Analysis

__all__ = ["data_entries"]


def data_entries(results: FitResults, analysis: Analysis | None = None) -> list[tuple[str, str]]:
    """Return names and texts of the facts of data and basis set.

    Parameters
    ----------
    results : FitResults
    analysis : Analysis, optional
        For times as they were used, and the basis set.
    """
    axes = results.fit.model.axes
    gamma = units.nucleus(axes.nucleus).gamma_mhz_per_t
    field = f", {axes.spec_freq_mhz / gamma:.3g} T" if gamma == gamma else ""
    duration = 1e3 * axes.n_points * axes.dwelltime
    entries = [("Nucleus and frequency", f"{axes.nucleus}, {axes.spec_freq_mhz:.2f} MHz{field}")]
    if analysis is not None:
        entries += _times(analysis)
    entries.append(("Points", f"{axes.n_points} in {duration:.0f} ms, bandwidth {axes.bandwidth:.0f} Hz"))
    if analysis is None:
        return entries
    transients = analysis.transients
    entries += [("Transients", f"{transients} in every spectrum")] if transients else []
    basis = analysis.basis
    parts = [analysis.basis_name or str(basis.source), f"{basis.n_metabs} metabolites"]
    if "TE " not in parts[0]:
        parts += ["no echo time stated"] if basis.echo_time_s is None else [f"TE {1e3 * basis.echo_time_s:g} ms"]
    return [*entries, ("Basis set", ", ".join(parts))]


def _times(analysis: Analysis) -> list[tuple[str, str]]:
    """Return sequence, echo time and repetition time, and where each is from."""
    sequence, named_by = sequence_of(analysis.header)
    entries = [("Sequence", f"{sequence} (header, {named_by})" if sequence else "not named in the header")]
    full, given, data = analysis.full_options, analysis.options, analysis.data
    for name, key, value, own, unit, factor in (
        ("Echo time", "EchoTime", full.echo_time_s, given.echo_time_s, "ms", 1e3),
        ("Repetition time", "RepetitionTime", full.repetition_time_s, given.repetition_time_s, "s", 1.0),
    ):
        of_header = seconds_of(data, key)
        where = "as given" if own is not None else "header" if of_header is not None else "of the basis set"
        entries.append((name, "not known" if value is None else f"{factor * value:.4g} {unit} ({where})"))
    return entries
