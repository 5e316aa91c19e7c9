"""Tables of a study: all values, a line per session, means of groups, and differences between groups."""

from __future__ import annotations

import itertools
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from .. import __version__
from ..core.errors import DataError, OptionError, spelled
from ..fitting.artefacts import option_spelling
from ..fitting.uncertainty import Z95
from ..io.output import write_text
from ..results.publication import StudyPublication
from .collect import QUANTITIES, RAW, SessionResult, collect, session_table, tidy_table
from .effect import adjusted, difference, group_mean
from .entry import StudySession
from .exclusion import ExclusionRules
from .remarks import study_remarks
from .study import FAILED

__all__ = [
    "GroupTables",
    "effect_table",
    "group_study",
    "group_table",
    "study_publication",
    "wide_table",
    "write_tables",
]


@dataclass(frozen=True)
class GroupTables:
    """Everything that a study has found.

    Attributes
    ----------
    results : list of SessionResult
    rules : ExclusionRules
    quantity : str
        Name of the quantity of the wide table, one of those of :data:`.collect.QUANTITIES`.
    sessions, tidy, wide, groups, effects : DataFrame
        Tables, see the functions of this module and of :mod:`.collect`.
    remarks : list of str
        What stands between the groups and a comparison, see :func:`.remarks.study_remarks`.
    """

    results: list[SessionResult]
    rules: ExclusionRules
    quantity: str
    sessions: pd.DataFrame
    tidy: pd.DataFrame
    wide: pd.DataFrame
    groups: pd.DataFrame
    effects: pd.DataFrame
    remarks: list[str]


def group_study(
    folder: Path,
    sessions: Sequence[StudySession],
    *,
    rules: ExclusionRules | None = None,
    by_hand: Collection[str] = (),
    quantity: str | None = None,
) -> GroupTables:
    """Return the tables of a study from its folder.

    Parameters
    ----------
    folder : path
    sessions : sequence of StudySession
    rules : ExclusionRules, optional
    by_hand : collection of str
        Sessions or participants that are left out besides.
    quantity : str, optional
        Quantity of the wide table; by default the first of :data:`.collect.QUANTITIES` that at least half of the
        included sessions of every group and series have, or otherwise half of all.

    Raises
    ------
    DataError
        If no session has any result.
    OptionError
        If no session has the quantity.
    """
    rules = rules or ExclusionRules()
    results = collect(folder, sessions, rules, by_hand)
    tidy = tidy_table(results)
    if tidy.empty:
        reason = next((result.reasons[0] for result in results if result.reasons), "none was run")
        raise DataError(f"{folder}: no session has results (the first: {reason})", remedy="run the participants first")
    asked, quantity = quantity is not None, quantity or _default_quantity(tidy)
    if quantity not in set(tidy["quantity"]):
        known = [one.name for one in QUANTITIES if one.name in set(tidy["quantity"])]
        raise OptionError(
            "no session has it", option="quantity", value=quantity, remedy=f"there are {', '.join(known)}"
        )
    return GroupTables(
        results=results,
        rules=rules,
        quantity=quantity,
        sessions=session_table(results),
        tidy=tidy,
        wide=wide_table(results, tidy, quantity),
        groups=group_table(tidy),
        effects=effect_table(tidy),
        remarks=study_remarks(results, tidy, quantity, asked),
    )


def _default_quantity(tidy: pd.DataFrame) -> str:
    some = tidy[tidy["included"]] if tidy["included"].any() else tidy
    for keys in (["series", "group"], []):
        # A group that lacks a quantity could not be compared.
        parts = [part for _, part in some.groupby(keys)] if keys else [some]
        for quantity in QUANTITIES:
            having = [part.loc[part["quantity"] == quantity.name, "session"].nunique() for part in parts]
            if all(n >= 0.5 * part["session"].nunique() for n, part in zip(having, parts)):
                return quantity.name
    return RAW


def wide_table(results: Sequence[SessionResult], tidy: pd.DataFrame, quantity: str) -> pd.DataFrame:
    """Return a line per session with the value and SD of every metabolite, quality, and why a session is left out.

    A session without the quantity has empty cells.
    """
    some = tidy[tidy["quantity"] == quantity]
    names = list(dict.fromkeys(some["metabolite"]))
    frame = session_table(results)
    columns: dict[str, np.ndarray] = {}
    for column, suffix in (("value", ""), ("sd", "_sd")):
        table = some.pivot(index="session", columns="metabolite", values=column)
        columns |= {f"{name}{suffix}": table[name].reindex(frame["session"]).to_numpy() for name in names}
    order = [f"{name}{suffix}" for name in names for suffix in ("", "_sd")]
    return pd.concat([frame, pd.DataFrame(columns)[order]], axis=1)


def _of_participants(tidy: pd.DataFrame) -> pd.DataFrame:
    """Return a line per participant, series, metabolite and quantity: the mean of its included sessions.

    ``sd`` is that of errors that are independent between sessions, ``common`` that of the others.  The internal
    reference over itself is left out, and so are raw amplitudes, whose scale is that of each session's data.
    """
    reference = (tidy["quantity"] == "ratio") & ((tidy["value"] - 1).abs() < 1e-9) & (tidy["sd"] < 1e-9)
    compared = tidy["included"] & ~reference & (tidy["quantity"] != RAW)
    some = tidy[compared & np.isfinite(tidy["value"].astype(float))]
    keys = ["series", "quantity", "unit", "metabolite", "group", "participant"]
    sd, common = some["sd"].astype(float), some["sd_common"].astype(float)
    frame = some.assign(variance=sd**2 - common**2).groupby(keys, sort=False, as_index=False)
    out = frame.agg(
        value=("value", "mean"),
        variance=("variance", "mean"),
        common=("sd_common", "mean"),
        n=("sd", "size"),
        prior_share=("prior_share", "median"),
    )
    return out.assign(sd=np.sqrt(out["variance"].clip(lower=0) / out["n"]))


def group_table(tidy: pd.DataFrame) -> pd.DataFrame:
    """Return means of groups of participants: a line per series, quantity, metabolite and group.

    ``n`` participants have ``n_sessions``; those of one are averaged first.
    ``sd_of_mean`` and the interval contain ``sd_common``, which all groups share.  ``prior_share`` is a median.
    """
    lines = []
    for key, part in _of_participants(tidy).groupby(
        ["series", "quantity", "unit", "metabolite", "group"], sort=False
    ):  # fmt: skip
        mean = group_mean(part["value"], part["sd"])
        common = float(np.nan_to_num(part["common"].mean()))
        half = float(np.hypot(mean.interval()[1] - mean.mean, Z95 * common))
        line = dict(zip(("series", "quantity", "unit", "metabolite", "group"), key))
        line |= {
            "n": mean.n,
            "n_sessions": int(part["n"].sum()),
            "mean": mean.mean,
            "sd_of_mean": float(np.hypot(mean.sd, common)),
            "sd_common": common,
        }
        line |= {"ci95_low": mean.mean - half, "ci95_high": mean.mean + half}
        line |= {"between_sd": mean.between_sd, "total_sd": mean.total_sd}
        line |= {"median_sd_of_value": float(part["sd"].median())}
        lines.append(line | {"prior_share": float(part["prior_share"].median())})
    return pd.DataFrame(lines)


def effect_table(tidy: pd.DataFrame) -> pd.DataFrame:
    """Return differences between groups of participants, the group that comes later in the alphabet minus the other.

    Errors that all sessions have in common cancel there, but for a scale that differences in percent do not have.
    ``prior_share`` is the larger of the two groups' medians.  ``p_adjusted`` is adjusted for the number of metabolites
    of a series and quantity.
    """
    people = _of_participants(tidy)
    groups = sorted(group for group in people["group"].unique() if group)
    lines = []
    for first, second in itertools.combinations(groups, 2):
        for key, part in people.groupby(["series", "quantity", "unit", "metabolite"], sort=False):
            pair = [part[part["group"] == one] for one in (first, second)]
            means = [group_mean(one["value"], one["sd"]) for one in pair]
            if min(mean.n for mean in means) == 0:
                continue
            effect = difference(*means)
            line = dict(zip(("series", "quantity", "unit", "metabolite"), key))
            line |= {"group": second, "against": first, "n": means[1].n, "n_against": means[0].n}
            line |= {"difference": effect.difference, "sd": effect.sd, "ci95_low": effect.low, "ci95_high": effect.high}
            line |= {"percent": 100 * effect.difference / means[0].mean if means[0].mean else np.nan}
            line |= {"df": effect.df, "p": effect.p, "hedges_g": effect.g, "hedges_g_sd": effect.g_sd}
            lines.append(line | {"prior_share": float(np.fmax(*(one["prior_share"].median() for one in pair)))})
    frame = pd.DataFrame(lines)
    if lines:
        by = ["series", "quantity", "group", "against"]
        frame["p_adjusted"] = frame.groupby(by)["p"].transform(lambda p: adjusted(p.to_numpy()))
    return frame


def study_publication(tables: GroupTables) -> StudyPublication:
    """Return what a paper needs of a study: methods, minimum reporting table and references."""
    included = [result for result in tables.results if result.included]
    return StudyPublication(
        folders=[result.folder for result in included],
        n_sessions=len(tables.results),
        rules=tables.rules.sentences(),
        left_out={
            # What was wrong with a file stands in the tables; a paper counts such sessions.
            result.session.name: ("could not be run",) if result.outcome.state == FAILED else result.reasons
            for result in tables.results
            if result.reasons
        },
        quality=[result.quality for result in included],
    )


def write_tables(folder: Path, tables: GroupTables) -> None:
    """Write the tables of a study, the rules behind them, and what a paper needs, into an existing folder."""
    study_publication(tables).write(folder)
    for name in ("sessions", "groups", "effects"):
        _write(folder / f"{name}.tsv", getattr(tables, name))
    _write(folder / "concentrations_tidy.tsv", tables.tidy)
    _write(folder / "concentrations_wide.tsv", tables.wide)
    about = {
        "version": __version__,
        "exclusion": tables.rules.as_dict(),
        "wide_table": tables.quantity,
        "remarks": [spelled(text, option_spelling) for text in tables.remarks],
        "left_out": {result.session.name: list(result.reasons) for result in tables.results if result.reasons},
    }
    write_text(folder / "exclusion.json", json.dumps(about, indent=1) + "\n")


def _write(path: Path, frame: pd.DataFrame) -> None:
    """Write a table as BIDS defines it: tabs, and n/a where there is nothing."""
    text = frame.replace({"": np.nan}).to_csv(sep="\t", index=False, na_rep="n/a", float_format="%.6g")
    write_text(path, text)
