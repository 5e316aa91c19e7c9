"""Header extensions of NIfTI-MRS files as other programs write them: brought into the standard's form, key by key.

What each key does here is a table in docs/formats.md.
"""

from __future__ import annotations

import math
import re
from typing import Any, NamedTuple

import numpy as np
import numpy.typing  # noqa: F401  # nifti-mrs takes it for loaded, which NumPy 1.26 does not do by itself

from ..core.errors import DataError
from ..core.units import in_mhz, nucleus

__all__ = ["ElementValues", "carrier_ppm", "element_values", "start_time_s", "tidy_header"]

_DEFAULT_TAGS = ("DIM_COIL", "DIM_DYN", "DIM_INDIRECT_0")
# Larger ones are milliseconds.
_MOST_SECONDS = {"EchoTime": 1.0, "RepetitionTime": 100.0, "AcquisitionStartTime": 0.1}
_NUMBERS = ("EchoTime", "RepetitionTime", "AcquisitionStartTime", "SpecFreqChemShift", "RxOffset")
_LONGEST_TEXT = 64  # characters of a value that can stand in a table
_AXIS_KEYS = ("SpecFreqChemShift", "RxOffset", "AcquisitionStartTime", "SpectrometerFrequency")


def tidy_header(header: dict[str, Any], shape: tuple[int, ...], name: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return a header extension in the standard's form, and remarks on what was changed or left out.

    Parameters
    ----------
    header : dict
        As read; it is not changed.
    shape : tuple of int
        Of the file's array.
    name : str
        Of the file, for messages.

    Raises
    ------
    DataError
        If frequency or nucleus are missing, if the data are of k-space, or if the frequency axis varies along a
        dimension.
    """
    header, notes = {key: value for key, value in header.items() if value is not None}, []
    header["SpectrometerFrequency"], header["ResonantNucleus"] = _frequencies(header, name), _nuclei(header, name)
    in_k_space = header.get("kSpace")
    if isinstance(in_k_space, list) and any(true and n > 1 for true, n in zip(in_k_space, shape)):
        raise DataError(f"{name}: holds k-space (kSpace {in_k_space})", remedy="reconstruct it to voxels first")
    for number in (5, 6, 7):
        if len(shape) >= number or f"dim_{number}" in header:
            notes += _tidy_dimension(header, number, shape[number - 1] if len(shape) >= number else 1, name)
        elif header.keys() & {f"dim_{number}_header", f"dim_{number}_info"}:
            notes.append(f"dim_{number}_header or dim_{number}_info is of no dimension of the file and was left out")
            header = {key: value for key, value in header.items() if not key.startswith(f"dim_{number}_")}
    for key in [key for key in header if re.fullmatch(r"dim_\w+", key)]:
        if not re.fullmatch(r"dim_[567](_info|_header)?", key):
            notes.append(f"{key} is no key of the standard and was left out")
            del header[key]
    notes += _tidy_values(header)
    return header, tuple(notes)


def carrier_ppm(header: dict[str, Any]) -> float:
    """Return the chemical shift at the middle of the spectrum, ``SpecFreqChemShift`` + ``RxOffset``, of a header that
    :func:`tidy_header` returned."""
    usual = nucleus(header["ResonantNucleus"][0]).ppm_reference
    return float(header.get("SpecFreqChemShift", usual)) + float(header.get("RxOffset", 0.0))


def start_time_s(header: dict[str, Any]) -> float:
    """Return how long after the echo the first point was acquired, ``AcquisitionStartTime`` in seconds."""
    return float(header.get("AcquisitionStartTime", 0.0))


class ElementValues(NamedTuple):
    """What a header gives for each element of a dimension: a key, values ``(size,)``, numbers or texts, and the unit or
    the description of the key, which may be empty."""

    key: str
    values: np.ndarray
    unit: str


def element_values(header: dict[str, Any], number: int, size: int) -> list[ElementValues]:
    """Return the values of ``dim_N_header`` for the elements of a dimension, those that numbers or short texts can say.

    Parameters
    ----------
    header : dict
        That :func:`tidy_header` returned.
    number : int
        Of the dimension, 5 to 7.
    size : int
        Elements of the dimension; values of another number are left out.
    """
    from nifti_mrs.definitions import standard_defined

    about, out = header.get(f"dim_{number}_header"), []
    for key, entry in about.items() if isinstance(about, dict) else ():
        unit = standard_defined[key][1] if key in standard_defined else ""
        if isinstance(entry, dict) and "Value" in entry:
            entry, unit = entry["Value"], str(entry.get("Description", ""))
        values = _in_table(_listed(entry, size))
        if values is not None and len(values) == size:
            out.append(ElementValues(str(key), values, " ".join((unit or "").split())))
    return out


def _listed(values, size: int) -> list:
    """Return values along a dimension as a list; an empty one where there are none."""
    if _spaced(values):
        # Without the last digits, in which sums of decimal fractions differ.
        return [float(f"{values['start'] + index * values['increment']:.12g}") for index in range(size)]
    return values if isinstance(values, list) else []


def _in_table(values: list) -> np.ndarray | None:
    """Return values as numbers or as texts; None where they are too long, or neither."""
    if all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values):
        return np.array(values)
    texts = []
    for value in values:
        parts = value if isinstance(value, list) else [value]
        if not all(part is None or isinstance(part, (str, int, float)) for part in parts):
            return None
        texts.append(" ".join("" if part is None else " ".join(str(part).split()) for part in parts))
    return np.array(texts, object) if max(map(len, texts)) <= _LONGEST_TEXT else None


def _frequencies(header: dict[str, Any], name: str) -> list[float]:
    value: Any = header.get("SpectrometerFrequency")
    try:
        frequencies = [in_mhz(float(one)) for one in (value if isinstance(value, (list, tuple)) else [value])]
        if frequencies and all(0 < one < math.inf for one in frequencies):
            return frequencies
    except (TypeError, ValueError, OverflowError):
        pass
    raise DataError(
        f"{name}: not a NIfTI-MRS file that can be used (SpectrometerFrequency {value})",
        remedy=(
            "its header needs the frequency in MHz, for which `frequency` does not stand in: convert it with spec2nii"
        ),
    )


def _nuclei(header: dict[str, Any], name: str) -> list[str]:
    value = header.get("ResonantNucleus")
    nuclei = []
    for one in value if isinstance(value, (list, tuple)) else [value]:
        # 1H, 1h, 1-H, H1 and H-1.
        match = re.fullmatch(r"(\d+)[-_^ ]?([A-Za-z]+)", str(one).strip())
        other: Any = re.fullmatch(r"([A-Za-z]+)[-_^ ]?(\d+)", str(one).strip())
        if match is None and other is None:
            raise DataError(
                f"{name}: not a NIfTI-MRS file that can be used (ResonantNucleus {value})",
                remedy="its header needs a nucleus, such as 1H: convert it with spec2nii",
            )
        mass, element = match.groups() if match else (other[2], other[1])
        nuclei.append(f"{mass}{element.upper()}")
    if not nuclei:
        raise DataError(
            f"{name}: not a NIfTI-MRS file that can be used (no ResonantNucleus)",
            remedy="its header needs a nucleus, such as 1H: convert it with spec2nii",
        )
    return nuclei


def _tidy_dimension(header: dict[str, Any], number: int, size: int, name: str) -> list[str]:
    """Bring tag and values of one higher dimension, of ``size`` elements, into form, and return remarks."""
    from nifti_mrs.definitions import dimension_tags, standard_defined

    key, notes = f"dim_{number}", []
    tag, about = header.get(key), header.get(f"{key}_header")
    if tag is None:
        taken = [header.get(f"dim_{other}") for other in (5, 6, 7)]
        usual = _DEFAULT_TAGS[number - 5]
        header[key] = usual if usual not in taken else f"DIM_USER_{number - 5}"
        if size > 1:
            notes.append(f"{key} has no tag; it is read as {header[key]}")
    elif tag is not None and tag not in dimension_tags:
        upper = str(tag).strip().upper()
        header[key] = upper if upper in dimension_tags else f"DIM_USER_{number - 5}"
        if upper not in dimension_tags:
            header[f"{key}_info"] = " ".join(filter(None, (str(tag), str(header.get(f"{key}_info", "")))))
            notes.append(f"{key} is {tag}, which is no tag of the standard; it is read as {header[key]}")
    if f"{key}_info" in header and not isinstance(header[f"{key}_info"], str):
        header[f"{key}_info"] = str(header[f"{key}_info"])
    if about is None:
        return notes
    if not isinstance(about, dict):
        about = {"Value": about}
        notes.append(f"{key}_header has no names of keys; its values are kept as Value")
    values: dict[str, Any] = {}
    for entry, value in about.items():
        if entry in _AXIS_KEYS and _varies(value):
            raise DataError(
                f"{name}: {entry} varies along {header.get(key, key)} ({key}_header)",
                remedy="split the file along that dimension (mrs_tools split), and write one value into each header",
            )
        user = entry not in standard_defined
        content = value.get("Value") if user and isinstance(value, dict) and "Value" in value else value
        if not (_spaced(content) or (isinstance(content, list) and len(content) == size)):
            notes.append(f"{entry} of {key}_header has not one value for each of {size} elements and was left out")
            continue
        if not user:
            content, milliseconds = _in_seconds(entry, content, size)
            notes += [f"{entry} of {key}_header is read as milliseconds"] * milliseconds
        description = str(value.get("Description", "")) if user and isinstance(value, dict) else ""
        values[entry] = {"Value": content, "Description": description} if user else content
        if user and isinstance(value, dict):
            values[entry] = (value if "Value" in value else {}) | values[entry]
    header[f"{key}_header"] = values
    if not values:
        del header[f"{key}_header"]
    return notes


def _in_seconds(key: str, values, size: int) -> tuple[Any, bool]:
    """Return times along a dimension in seconds, and whether they were milliseconds; other values as they are."""
    numbers = [one for one in _listed(values, size) if isinstance(one, (int, float))]
    if not numbers or max(map(abs, numbers)) <= _MOST_SECONDS.get(key, math.inf):
        return values, False
    return [one * 1e-3 if isinstance(one, (int, float)) else one for one in _listed(values, size)], True


def _spaced(value) -> bool:
    return isinstance(value, dict) and {"start", "increment"} <= set(value)


def _varies(value) -> bool:
    """Tell whether values along a dimension differ."""
    if _spaced(value):
        return bool(value["increment"])
    return not isinstance(value, list) or any(one != value[0] for one in value)


def _tidy_values(header: dict[str, Any]) -> list[str]:
    """Bring values of standard keys to their types and units, and return remarks."""
    from nifti_mrs.definitions import standard_defined
    from nifti_mrs.validator import check_type

    notes = []
    for key in [key for key in header if key in standard_defined or key in _NUMBERS]:
        kind = ((float, int),) if key in _NUMBERS else standard_defined[key][0]
        value = header[key]
        # Releases of the library that do not have a key yet write it as one of a user.
        value = value["Value"] if isinstance(value, dict) and set(value) == {"Value", "Description"} else value
        if kind == ((float, int),):
            value = _number(value)
            if value is not None and abs(value) > _MOST_SECONDS.get(key, math.inf):
                notes.append(f"{key} {value:g} is read as milliseconds")
                value *= 1e-3
        elif kind == (str,):
            value = str(value)
        elif value == [] or not check_type(value, kind if len(kind) > 1 else kind[0]):
            value = [value] if kind[0] is list and not isinstance(value, list) else None
            value = value if value and check_type(value, kind if len(kind) > 1 else kind[0]) else None
        if value is None:
            notes.append(f"{key} {str(header[key])[:40]} is not what the standard has there and was left out")
            del header[key]
        else:
            header[key] = value
    return notes


def _number(value) -> float | int | None:
    """Return a number that may be a text or in a list of its own; None where it is none."""
    value = value[0] if isinstance(value, list) and len(value) == 1 else value
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    try:
        return value if isinstance(value, (int, float)) and math.isfinite(value) else None
    except OverflowError:
        return None
