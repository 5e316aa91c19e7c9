"""A basis set simulated for the sequence, echo time and field that a file's header names."""

from __future__ import annotations

from dataclasses import dataclass

from ..core.editing import EDITING_SCHEMES, WITH_PRESS
from ..core.errors import OptionError
from ..fitting.edited_data import edit_conditions
from ..fitting.header_facts import is_time, sequence_of
from ..io.basis import Basis
from ..io.edited_basis import EditedBasis
from ..io.nifti import MrsData
from ..physics.spinsim import usual_te1_ms
from ..simulation.acquisition import simulate_basis
from ..simulation.edited_basis import simulate_edited_basis

__all__ = ["Acquired", "acquisition_of", "basis_of_header"]

_SAME_MS = 0.5  # of mixing times that are the same as people write them


@dataclass(frozen=True)
class Acquired:
    """What a header says of an acquisition; None where it is silent.

    Attributes
    ----------
    sequence : str or None
        As :data:`fsl_mrs_dl.physics.spinsim.SEQUENCES` names it.
    te_s, tm_s, tr_s : float or None
        Echo, mixing and repetition time in seconds.
    named_by : str
        Header key and value that the sequence was taken from.
    """

    sequence: str | None
    te_s: float | None
    tm_s: float | None
    tr_s: float | None
    named_by: str = ""


def acquisition_of(data: MrsData) -> Acquired:
    """Return sequence and times of a file's header."""
    header = data.header
    sequence, named_by = sequence_of(header)
    te_s, tm_s, tr_s = (_time(header, key) for key in ("EchoTime", "MixingTime", "RepetitionTime"))
    return Acquired(sequence, te_s, tm_s, tr_s, named_by)


def basis_of_header(
    data: MrsData,
    *,
    sequence: str | None = None,
    te_ms: float | None = None,
    tm_ms: float | None = None,
    edited: bool = False,
) -> tuple[Basis | EditedBasis, str]:
    """Simulate the usual metabolites for the acquisition that a header names: PRESS, edited or not, with
    slice-selective refocusing pulses, other sequences with ideal pulses.

    Basis sets of edited data have the conditions and the usual editing pulses of their scheme.

    Parameters
    ----------
    data : MrsData
    sequence, te_ms, tm_ms : optional
        In place of the header's.
    edited : bool
        Whether the data have edit conditions.

    Returns
    -------
    Basis or EditedBasis
    str
        What it was simulated for, and where that was read.

    Raises
    ------
    OptionError
        If the header does not say enough, or for another nucleus than 1H.
    """
    acquired = acquisition_of(data)
    name = sequence or acquired.sequence
    if data.nucleus != "1H":
        raise OptionError(f"no basis set is simulated for {data.nucleus}", option="basis", remedy="give one")
    if name is None and edited:
        raise OptionError(
            f"{data.name}: is edited, and the header does not name the scheme (SequenceName, ProtocolName), so no basis"
            " set can be simulated",
            remedy=f"give `basis`, or `sequence` {', '.join(EDITING_SCHEMES)}",
        )
    if name is None:
        raise OptionError(
            f"{data.name}: the header does not name the sequence (SequenceName, ProtocolName), so no basis set can be"
            " simulated",
            remedy="give `basis`, or `sequence` press, steam, slaser or special",
        )
    echo = _echo_ms(data, name, acquired.te_s and 1e3 * acquired.te_s if te_ms is None else te_ms)
    source = _source(acquired, sequence, tm_ms if name == "steam" else None)
    if edited:
        return _edited_basis(data, name, echo, source)
    if name in EDITING_SCHEMES:
        raise OptionError(
            f"{data.name}: is edited ({acquired.named_by or name}), but has no edit conditions (DIM_EDIT)",
            remedy="give `edit_order` if they lie among the transients, or the `basis` of the condition that it is",
        )
    if echo is None and name != "fid":
        raise OptionError(f"{data.name}: the header has no EchoTime", remedy="give `TE` in ms, or `basis`")
    mixing = acquired.tm_s and 1e3 * acquired.tm_s if tm_ms is None else tm_ms
    if name == "steam" and mixing is None:
        raise OptionError(
            f"{data.name}: the header has no MixingTime, which STEAM needs", remedy="give `TM` in ms, or `basis`"
        )
    basis = simulate_basis(
        sequence=name,
        te_ms=echo if name != "fid" else None,
        tm_ms=mixing if name == "steam" else None,
        refocusing="slice-selective" if name == "press" else None,
        spec_freq_mhz=data.spec_freq_mhz,
        bandwidth_hz=data.bandwidth,
        n_points=max(data.n_points, 2048),
    )
    times = f", TE {echo:g} ms" if name != "fid" else ""
    times += f", TM {mixing:g} ms" if name == "steam" else ""
    pulses = "slice-selective refocusing pulses" if name == "press" else "ideal pulses"
    return basis, f"{name}{times}, {data.spec_freq_mhz:.2f} MHz, {pulses} ({source}){_assumed(name, echo)}"


def _assumed(name: str, echo_ms: float | None) -> str:
    """Return the timing within a sequence that headers lack and that was assumed, and what changes it; empty of
    sequences without any."""
    if echo_ms is None or name not in ("press", *WITH_PRESS):
        return ""
    what, options = f"an assumed TE1 of {usual_te1_ms(echo_ms):g} ms", "--TE1"
    if name in EDITING_SCHEMES:
        what += " and editing pulses midway between refocusing pulses and echoes"
        options += " or --edit-delay"
    return f", with {what} (fsl_mrs_dl simulate basis {options} makes another)"


def _source(acquired: Acquired, sequence: str | None, tm_ms: float | None) -> str:
    """Return where a sequence was read, and what of the header an option took the place of."""
    source = "as given" if sequence else f"from the header's {acquired.named_by}"
    if sequence and acquired.sequence not in (None, sequence):
        source += f", where the header's {acquired.named_by} names {acquired.sequence}"
    if tm_ms is not None and acquired.tm_s is not None and abs(tm_ms - 1e3 * acquired.tm_s) > _SAME_MS:
        source += f"; TM as given, where the header's MixingTime is {1e3 * acquired.tm_s:g} ms"
    return source


def _echo_ms(data: MrsData, name: str, echo_ms: float | None) -> float | None:
    """Return an echo time; raise OptionError for one of zero where the sequence has echoes."""
    if echo_ms == 0 and name != "fid":
        raise OptionError(
            f"{data.name}: has an echo time of 0, which {name} cannot have", remedy="give `TE` in ms, or `basis`"
        )
    return echo_ms


def _edited_basis(data: MrsData, name: str, echo_ms: float | None, source: str) -> tuple[EditedBasis, str]:
    """Simulate the conditions of edited data."""
    if name not in EDITING_SCHEMES:
        # Vendors name the localisation of edited sequences, too; of four conditions it does not tell the scheme.
        if edit_conditions(data) > 2:
            raise OptionError(
                f"{data.name}: has {edit_conditions(data)} edit conditions, and the header does not name the scheme",
                remedy="give `basis`, or `sequence` hermes or hercules",
            )
        name = "mega-slaser" if name == "slaser" else "mega-press"
    refocusing = "slice-selective" if name in WITH_PRESS else None
    basis = simulate_edited_basis(
        None,
        name,
        te_ms=echo_ms,
        refocusing=refocusing,
        spec_freq_mhz=data.spec_freq_mhz,
        bandwidth_hz=data.bandwidth,
        n_points=max(data.n_points, 2048),
    )
    pulses = "; ".join(f"{one} {of_one[0]}" for one, of_one in zip(basis.conditions, basis.pulses))
    echo = basis.echo_time_s or 0.0
    pulses = f"editing pulses {pulses}" + ("" if refocusing is None else f", {refocusing} refocusing pulses")
    about = f"{name}, TE {1e3 * echo:g} ms, {data.spec_freq_mhz:.2f} MHz, {pulses} ({source})"
    return basis, about + _assumed(name, 1e3 * echo)


def _time(header: dict, key: str) -> float | None:
    """Return a time of a header in seconds, None where there is none or it varies."""
    value = header.get(key)
    return float(value) if is_time(value, key) else None
