"""Relaxation times of water and metabolites, with the spread that they have in the literature."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass, field, replace
from functools import lru_cache
from importlib import resources
from pathlib import Path

import numpy as np

from ..core.errors import DataError, OptionError
from ..core.units import nucleus
from ..io.files import json_content

__all__ = ["COMPARTMENTS", "Relaxation", "field_strength", "read_times", "signal_factor"]

COMPARTMENTS = ("H2O_GM", "H2O_WM", "H2O_CSF", "METAB")
"""FSL-MRS's names of the times: water of grey matter, of white matter and of CSF, and all metabolites."""

_SPREAD_OF_OTHERS = 0.15  # relative, of times that a user gives at a field without a table


@lru_cache
def _tables() -> dict:
    text = resources.files("fsl_mrs_dl").joinpath("data/relaxation.json").read_text(encoding="utf-8")
    return json.loads(text)["fields"]


def field_strength(spec_freq_mhz: float) -> float:
    """Return the field in T at which protons have a frequency."""
    return spec_freq_mhz / nucleus("1H").gamma_mhz_per_t


def signal_factor(t1_s, t2_s, te_s, tr_s):
    """Return the share of a signal that an excitation of 90 degrees leaves after T1 and T2 relaxation, FSL-MRS's
    formula for TR much longer than TE; times in seconds, arrays broadcast."""
    return (1 - np.exp(-np.asarray(tr_s, float) / t1_s)) * np.exp(-np.asarray(te_s, float) / t2_s)


@dataclass(frozen=True)
class Relaxation:
    """T1 and T2 of the compartments, each with its SD.

    Attributes
    ----------
    t1, t2 : dict
        Seconds by the names of :data:`COMPARTMENTS`.
    t1_sd, t2_sd : dict
        Their SDs, seconds.
    source : str
        Where they come from, in words.
    dois : tuple of str
        Publications that they were taken from.
    dois_of_csf : tuple of str
        Those among them that are of the times of CSF alone.
    """

    t1: dict[str, float]
    t2: dict[str, float]
    t1_sd: dict[str, float] = field(default_factory=dict)
    t2_sd: dict[str, float] = field(default_factory=dict)
    source: str = ""
    dois: tuple[str, ...] = ()
    dois_of_csf: tuple[str, ...] = ()

    def __post_init__(self):
        for name, option in (("t1", "t1_values"), ("t2", "t2_values")):
            values = getattr(self, name)
            missing = [part for part in COMPARTMENTS if part not in values]
            if missing:
                raise OptionError(
                    f"lacks {', '.join(missing)}",
                    option=option,
                    remedy=f"give {', '.join(COMPARTMENTS)} in seconds",
                )
            wrong = [part for part in COMPARTMENTS if not values[part] > 0]
            if wrong:
                raise OptionError("must be positive", option=option, value=f"{wrong[0]} {values[wrong[0]]:g}")
            if not getattr(self, f"{name}_sd"):
                object.__setattr__(self, f"{name}_sd", {part: 0.0 for part in COMPARTMENTS})

    @classmethod
    def at_field(
        cls, field_t: float, t1: dict[str, float] | None = None, t2: dict[str, float] | None = None
    ) -> Relaxation | None:
        """Return the literature's times at a field, with a user's in their place; None where neither is there.

        A user's time keeps the relative spread of the table, or an SD that stands beside it (``H2O_GM_SD``).

        Parameters
        ----------
        field_t : float
        t1, t2 : dict, optional
            Seconds, as of :func:`read_times`.

        Raises
        ------
        OptionError
        """
        name = next((key for key, one in _tables().items() if one["range_t"][0] < field_t < one["range_t"][1]), None)
        if name is None and (t1 is None or t2 is None):
            return None
        table = _tables()[name] if name else None
        times, sds = {}, {}
        for kind, given in (("T1", t1), ("T2", t2)):
            if given is None:
                assert table is not None
                times[kind] = {part: table[kind][part]["value"] for part in COMPARTMENTS}
                sds[kind] = {part: table[kind][part]["sd"] for part in COMPARTMENTS}
                continue
            times[kind], sds[kind] = {part: float(given[part]) for part in COMPARTMENTS if part in given}, {}
            for part, value in times[kind].items():
                of_table = _SPREAD_OF_OTHERS if table is None else table[kind][part]["sd"] / table[kind][part]["value"]
                sds[kind][part] = float(given.get(f"{part}_SD", of_table * value))
        own = [kind for kind, given in (("T1", t1), ("T2", t2)) if given is not None]
        source = f"literature at {name[:-1]} T" if name else f"{field_t:.2g} T"
        if own:
            source = f"{' and '.join(own)} as given" + (f", the other of the {source}" if len(own) == 1 else "")
        taken = [table[kind] for kind in ("T1", "T2") if table and kind not in own]
        dois = dict.fromkeys(doi for entries in taken for part in COMPARTMENTS for doi in entries[part]["doi"])
        others = {
            doi for entries in taken for part in COMPARTMENTS if part != "H2O_CSF" for doi in entries[part]["doi"]
        }
        of_csf = tuple(doi for doi in dois if doi not in others)
        return cls(times["T1"], times["T2"], sds["T1"], sds["T2"], source, tuple(dois), of_csf)

    def with_times(self, kind: str, times: dict[str, float]) -> Relaxation:
        """Return the same with other ``t1`` or ``t2``."""
        return replace(self, t1=times) if kind == "t1" else replace(self, t2=times)

    @staticmethod
    def fields() -> str:
        """Return the fields that there are values of, in words."""
        return ", ".join(key[:-1] for key in _tables()) + " T"


def read_times(path: str | Path, kind: str) -> dict[str, float]:
    """Read relaxation times as FSL-MRS does: a JSON file with the names of :data:`COMPARTMENTS` in seconds, or a
    quantification_info.csv of an earlier fit.

    Parameters
    ----------
    path : path
    kind : str
        'T1' or 'T2'.

    Raises
    ------
    DataError, OptionError
    """
    option = f"{kind.lower()}_values"
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as exc:
        raise DataError(f"{path}: cannot be read ({getattr(exc, 'strerror', None) or 'no text'})") from exc
    try:
        times = _of_csv(text, kind) if Path(path).suffix.lower() == ".csv" else json_content(text)
        return {str(key): float(value) for key, value in times.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise OptionError(
            "is neither a table of relaxation times nor a quantification_info.csv",
            option=option,
            value=path,
            remedy=f"give a JSON file with {', '.join(COMPARTMENTS)} in seconds",
        ) from exc


def _of_csv(text: str, kind: str) -> dict[str, float]:
    rows = {row["Tissue"]: row for row in csv.DictReader(text.splitlines())}
    unit, scale = ("(s)", 1.0) if kind == "T1" else ("(ms)", 1e-3)
    times = {f"H2O_{part}": scale * float(rows[part][f"Water {kind} {unit}"]) for part in ("GM", "WM", "CSF")}
    return times | {"METAB": scale * float(rows["GM"][f"Metabolite {kind} {unit}"])}
