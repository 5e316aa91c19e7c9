"""The minimum reporting table of MR spectroscopy, MRSinMRS (Lin et al., doi 10.1002/nbm.4484).

It has four sections.  Every item is filled from the header and the fit, or named as missing with the key of the header
that would fill it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ...fitting.header_facts import sequence_of
from ...fitting.in_vivo.result import InVivoFit
from .analysis import Analysis, number, program_versions

__all__ = ["SECTIONS", "Item", "mrsinmrs_items", "mrsinmrs_table"]

SECTIONS = ("Hardware", "Acquisition", "Data analysis methods and outputs", "Data quality")
"""Sections of the table, numbered from one."""

MISSING = "missing"

_NOMINAL_T, _NEAR_NOMINAL = (1.5, 3.0, 4.0, 4.7, 7.0, 9.4, 11.7), 0.05
"""Nominal fields of scanners, and how far the frequency's may be from them: Siemens's 3 T are 2.89 T."""


@dataclass(frozen=True)
class Item:
    """A line of the table.

    Attributes
    ----------
    number : str
        As in the consensus, such as '2d'.
    name : str
    value : str
        Empty where it is missing.
    remedy : str
        What would fill it: a key of the NIfTI-MRS header, or a statement by hand.
    """

    number: str
    name: str
    value: str
    remedy: str = ""

    @property
    def section(self) -> str:
        """Section that it stands in."""
        return SECTIONS[int(self.number[0]) - 1]

    @property
    def text(self) -> str:
        """The value, or what would fill it."""
        return self.value or f"{MISSING} ({self.remedy})"


def mrsinmrs_items(analysis: Analysis) -> list[Item]:
    """Return all items of the table, in the order of the consensus."""
    return [*_hardware(analysis), *_acquisition(analysis), *_methods(analysis), *_quality(analysis)]


def mrsinmrs_table(analysis: Analysis) -> pd.DataFrame:
    """Return the table with the columns section, number, item, value and status ('filled' or 'missing')."""
    rows = [
        {
            "section": item.section,
            "number": item.number,
            "item": item.name,
            "value": item.text,
            "status": "filled" if item.value else MISSING,
        }
        for item in mrsinmrs_items(analysis)
    ]
    return pd.DataFrame(rows)


def _key(header: dict, *keys: str, write: Callable[[Any], str] = str) -> str:
    """Return the first value that a header has under some keys, in text; empty where there is none."""
    for key in keys:
        value = header.get(key)
        # Keys of the user are objects with a description.
        value = value.get("Value") if isinstance(value, dict) and "Value" in value else value
        if value not in (None, "", []):
            return write(value).strip(' "')
    return ""


def _by_key(key: str, more: str = "") -> str:
    return f"header key {key} would fill it{more}"


_BY_HAND = "no key of NIfTI-MRS holds it; state it by hand"


def _software(text: str) -> str:
    """Return the versions of a header without empty parts and those that only repeat the end of another.

    >>> _software("6.0.541 ; .0.541 ;")
    '6.0.541'
    """
    parts = list(dict.fromkeys(part.strip() for part in text.split(";") if part.strip()))
    return "; ".join(one for one in parts if not any(other != one and other.endswith(one) for other in parts))


def _hardware(analysis: Analysis) -> list[Item]:
    header = analysis.header
    field = analysis.field_t
    strength = f"{field:.3g} T ({analysis.data.spec_freq_mhz:.5g} MHz)" if field == field else ""
    nominal = next((one for one in _NOMINAL_T if abs(field / one - 1) < _NEAR_NOMINAL), None)
    if strength and nominal is not None and f"{field:.3g}" != f"{nominal:g}":
        strength = f"{strength[:-1]}; nominal {nominal:g} T)"
    model = _key(header, "ManufacturersModelName")
    software = _software(_key(header, "SoftwareVersions"))
    coils = [
        f"{label} {value}"
        for label, value in (
            ("transmit", _key(header, "TxCoil")),
            ("receive", _key(header, "RxCoil", "ReceiveCoilName")),
        )
        if value
    ]
    nucleus = f"nucleus {', '.join(header.get('ResonantNucleus') or [analysis.data.nucleus])}"
    coil = f"{'; '.join(coils)}; {nucleus}" if coils else ""
    return [
        Item("1a", "Field strength", strength, _by_key("SpectrometerFrequency")),
        Item("1b", "Manufacturer", _key(header, "Manufacturer"), _by_key("Manufacturer")),
        Item(
            "1c",
            "Model (software version)",
            f"{model}{f' (software {software})' if software else ''}" if model else "",
            _by_key("ManufacturersModelName", f"; software {software}" if software else ""),
        ),
        Item(
            "1d",
            "RF coils: nuclei (transmit and receive), number of channels, type, body part",
            coil,
            _by_key("TxCoil and RxCoil", f"; {nucleus}"),
        ),
        Item("1e", "Additional hardware", "", _BY_HAND),
    ]


def _milliseconds(value) -> str:
    return f"{1e3 * float(value):g} ms"


def _acquisition(analysis: Analysis) -> list[Item]:
    header, options = analysis.header, analysis.full_options
    sequence = ", ".join(
        filter(None, [_key(header, "SequenceName"), _key(header, "ProtocolName", write=lambda v: f"protocol {v}")])
    )
    sides = analysis.voxel_mm
    size = ""
    if sides:
        size = f"{' x '.join(f'{side:.3g}' for side in sides)} mm ({sides[0] * sides[1] * sides[2] / 1e3:.3g} ml)"
    te, tr = options.echo_time_s, options.repetition_time_s
    times = ", ".join(f"{name} {_milliseconds(value)}" for name, value in (("TE", te), ("TR", tr)) if value is not None)
    lacking = " and ".join(name for name, value in (("EchoTime", te), ("RepetitionTime", tr)) if value is None)
    n = analysis.transients
    spectra = analysis.n_spectra or int(len(analysis.results.fit.params))
    count = f"{n} transients per spectrum" if n else ""
    return [
        Item("2a", "Pulse sequence", sequence, _by_key("SequenceName")),
        Item(
            "2b",
            "Volume of interest: location",
            analysis.location or _key(header, "VOI"),
            f"{_by_key('VOI')}, or state it by hand; the affine of the file holds the position in the scanner",
        ),
        Item("2c", "Nominal size of the volume of interest", size, "the affine of the NIfTI header would fill it"),
        Item(
            "2d", "Repetition time, echo time", "" if lacking else times, _by_key(lacking) + f"; {times}" * bool(times)
        ),
        Item(
            "2e",
            "Excitations per spectrum, averaging",
            f"{count}; {spectra} spectra" if count and spectra > 1 else count,
            "no key of NIfTI-MRS holds it once transients are averaged; fit the transients, or state it by hand",
        ),
        _parameters(analysis),
        Item(
            "2g",
            "Water suppression",
            _key(header, "WaterSuppressionType")
            or _key(header, "WaterSuppressed", write=lambda v: "yes, method not stated" if v else "none"),
            _by_key("WaterSuppressionType"),
        ),
        Item("2h", "Shimming: method, reference peak, thresholds", "", _BY_HAND),
        Item(
            "2i",
            "Triggering or motion correction",
            _key(header, "SequenceTriggered", write=lambda v: "triggered" if v else "not triggered"),
            _by_key("SequenceTriggered", "; motion correction by hand"),
        ),
    ] + ([] if max(analysis.grid) == 1 else [_imaging(analysis)])


def _parameters(analysis: Analysis) -> Item:
    """Return the item of further parameters, which is missing where a stimulated echo has no mixing time."""
    name, text = "Additional sequence parameters", _sequence_parameters(analysis)
    if sequence_of(analysis.header)[0] == "steam" and "TM " not in text:
        return Item("2f", name, "", _by_key("MixingTime", f"; {text}"))
    return Item("2f", name, text)


def _sequence_parameters(analysis: Analysis) -> str:
    """Return spectral width, points, offset, and the times and angles that the header has."""
    header, data = analysis.header, analysis.data
    parts = [f"spectral width {data.bandwidth:.5g} Hz", f"{data.n_points} points"]
    for key, label, write in (
        ("TxOffset", "transmitter offset", lambda value: f"{float(value):g} ppm"),
        ("MixingTime", "TM", _milliseconds),
        ("InversionTime", "TI", _milliseconds),
        ("ExcitationFlipAngle", "excitation", lambda value: f"{float(value):g} degrees"),
        ("EditPulse", "editing pulse", str),
    ):
        value = _key(header, key)
        # Converters write a time of zero where a sequence has none.
        if value and not (key in ("MixingTime", "InversionTime") and float(header[key]) == 0):
            parts.append(f"{label} {write(header[key])}")
    return "; ".join(parts)


def _imaging(analysis: Analysis) -> Item:
    shape, sides = analysis.grid, analysis.voxel_mm
    matrix = " x ".join(str(size) for size in shape)
    remedy = "the affine of the NIfTI header would fill the field of view; acceleration and sampling by hand"
    if sides is None:
        return Item("2f", "MRSI: dimensions, field of view, matrix, acceleration, sampling", "", remedy)
    extent = " x ".join(f"{size * side:.4g}" for size, side in zip(shape, sides))
    dimensions = "3D" if shape[2] > 1 else "2D"
    value = f"{dimensions}; field of view {extent} mm; matrix {matrix}; acceleration and sampling: state by hand"
    return Item("2f", "MRSI: dimensions, field of view, matrix, acceleration, sampling", value, remedy)


def _methods(analysis: Analysis) -> list[Item]:
    results = analysis.results
    versions = program_versions() | dict(analysis.versions)
    how = analysis.header.get("ConversionMethod")
    software = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    steps = [str(entry.get("Method")) for entry in analysis.history if entry.get("Method")]
    steps += [str(step["name"]) for step in analysis.steps if step.get("done")]
    if analysis.absolute is not None:
        measure = "absolute concentrations in mM (molarity) and mmol/kg (molality)"
        measure += ", as in a voxel of water alone" * (analysis.absolute.scaling.tissue is None)
    elif results.reference is not None:
        measure = f"ratios to {results.reference_name}"
    else:
        measure = "institutional units"
    model = "in-vivo model" if analysis.in_vivo else f"FSL-MRS's model ({results.fit.model.name})"
    basis = analysis.basis
    return [
        Item("3a", "Analysis software", f"{software}{f'; converted by {how}' if how else ''}"),
        Item(
            "3b",
            "Processing steps",
            ", ".join(steps),
            _by_key("ProcessingApplied") + " for steps before; 'none' if there were none",
        ),
        Item("3c", "Output measure", measure),
        Item(
            "3d",
            "Quantification references and assumptions, fitting model",
            (
                f"{model}, baseline {results.fit.model.baseline}; basis set"
                f" {f'{analysis.basis_name} ' if analysis.basis_name else ''}of {basis.n_metabs} spectra, SHA-256"
                f" {basis.sha256}; {_reference(analysis)}"
            ),
        ),
    ]


def _reference(analysis: Analysis) -> str:
    absolute = analysis.absolute
    if absolute is None:
        name = analysis.results.reference_name if analysis.results.reference is not None else ""
        return f"internal reference {name}, no relaxation correction" if name else "no reference"
    relaxation = absolute.relaxation
    times = ", ".join(
        f"{label} {part} {number(1e3 * value)} ms"
        for label, values in (("T1", relaxation.t1), ("T2", relaxation.t2))
        for part, value in values.items()
        if analysis.has_csf or part != "H2O_CSF"
    )
    return f"water reference, {times}"


def _quality(analysis: Analysis) -> list[Item]:
    results, column = analysis.results, analysis.quality_line
    variables = ""
    if column is not None:
        snr, width = (analysis.spread(values[:, column]) for values in results.quality)
        if snr and width:
            name = results.fit.names[column]
            variables = f"SNR {snr} and line width {width} Hz (FWHM), both of {name}; matched filter, as FSL-MRS"
    percent = "; ".join(
        f"{name} {analysis.spread(results.percent[:, index])} %"
        for index, name in enumerate(results.names)
        if name in ("NAA", "tNAA", "Cr+PCr", "tCr", "Glu", "Ins", "mI")
    )
    sd = "SD of the posterior" if isinstance(results.fit, InVivoFit) else "Cramér-Rao bound"
    measures = f"residual over noise {analysis.spread(results.fit.misfit)}"
    measures += f"; {sd} in percent: {percent}" if percent else ""
    return [
        Item(
            "4a", "Reported variables: SNR, line width with reference peak", variables, "creatine or NAA is not fitted"
        ),
        Item(
            "4b",
            "Data exclusion criteria",
            " ".join(analysis.exclusions)
            or "fits that did not converge, have no signal, or a larger residual than realistic spectra are marked as"
            " not usable; none was excluded",
        ),
        Item("4c", "Quality measures of the fit: CRLB, goodness of fit, SD of the residual", measures),
        Item("4d", "Sample spectrum", "fit_summary.png"),
    ]
