"""Remarks on a study: what stands between its groups and a comparison, and what its page does not show."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ..concentrations.scaling import WATER_ALONE
from .collect import QUANTITIES, RAW, SessionResult, same_data
from .effect import FEWEST

__all__ = ["study_remarks"]

_UNEVEN = 0.3  # share of a group's sessions that would have to change for groups to be alike
_MOST_NAMES = 4
_ABSOLUTE = ("molarity", "molality")
_MOST_REASONS = 2  # for which sessions have no absolute concentrations


@dataclass(frozen=True)
class _Fact:
    """What sessions may differ in besides their participants.

    Attributes
    ----------
    name : str
    key : callable
        ``run.json -> key``: alike where keys are alike; None where it is not known.
    label : callable
        ``run.json -> text``.
    """

    name: str
    key: Callable[[dict], Hashable]
    label: Callable[[dict], str]


def _rounded(name: str, step: float) -> Callable[[dict], Hashable]:
    """Return a key of numbers that are alike within a step."""

    def key(run: dict) -> Hashable:
        value = run.get(name)
        return round(value / step) if isinstance(value, (int, float)) else None

    return key


def _scanner(run: dict) -> str | None:
    parts = [str(run[name]).strip() for name in ("vendor", "model") if run.get(name)]
    return " ".join(parts) or None


def _basis(run: dict) -> str:
    inputs = run.get("inputs")
    path = inputs.get("basis") if isinstance(inputs, dict) else None
    return f"{Path(path).name if path else 'simulated'} {str(run.get('basis_sha256'))[:8]}"


_FACTS = (
    _Fact("basis set", lambda run: run.get("basis_sha256"), _basis),
    _Fact("scanner", lambda run: (_scanner(run) or "").lower() or None, lambda run: str(_scanner(run))),
    _Fact("sequence", lambda run: run.get("sequence"), lambda run: str(run.get("sequence"))),
    _Fact("echo time", _rounded("te_ms", 0.5), lambda run: f"{run['te_ms']:.4g} ms"),
    _Fact("repetition time", _rounded("tr_s", 0.02), lambda run: f"{run['tr_s']:.4g} s"),
    # Fields of one class differ by vendor: 2.89 and 3 T.
    _Fact("field", _rounded("field_t", 0.5), lambda run: f"{run['field_t']:.3g} T"),
)


def study_remarks(results: Sequence[SessionResult], tidy: pd.DataFrame, quantity: str, asked: bool) -> list[str]:
    """Return remarks on a study, a sentence or two each; empty where there is nothing to say.

    Parameters
    ----------
    results : sequence of SessionResult
    tidy : DataFrame
        See :func:`.collect.tidy_table`.
    quantity : str
        Quantity of wide table and page.
    asked : bool
        Whether it was asked for.
    """
    included = [result for result in results if result.included]
    return [
        *_same(results),
        *_names(results),
        *_options(included),
        *_in_both(included),
        *_visits(included),
        *_confounded(included),
        *_ungrouped(included),
        *_small(included),
        *_quantity(included, tidy, quantity, asked),
        *_water_alone(included, quantity),
        *_doubtful(included),
    ]


def _listed(names: Sequence[str]) -> str:
    """Return some names, and how many more there are."""
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return ", ".join(names[:_MOST_NAMES]) + more


def _of_series(series: str) -> str:
    return f" ({series})" if series else ""


def _same(results: Sequence[SessionResult]) -> list[str]:
    """Return remarks on data that stand under several names."""
    twins = same_data(results)
    sets = list(dict.fromkeys(tuple(sorted([name, *others])) for name, others in twins.items()))
    return [
        f"{', '.join(names)} hold the same data: the same FIDs under {len(names)} names. Correct the data set, or"
        " leave out all but one (`exclude`)."
        for names in sets
    ]


def _names(results: Sequence[SessionResult]) -> list[str]:
    """Return a remark on metabolites that have other names in the tables of some sessions."""
    counts = Counter(pair for result in results for pair in result.renamed.items() if "+" not in pair[0])
    if not counts:
        return []
    parts = [f"{own} of {n} session{'s' * (n > 1)} is {new} here" for (own, new), n in counts.items()]
    return [f"Basis sets of this study have several names of one metabolite: {', '.join(parts)}."]


def _options(included: Sequence[SessionResult]) -> list[str]:
    """Return a remark on sessions that were run with other options than most, as after a change that was not run to its
    end."""
    known = [result for result in included if result.settings]
    counts = Counter(tuple(sorted(result.settings.items())) for result in known)
    if len(counts) < 2:
        return []
    usual = dict(counts.most_common(1)[0][0])
    others = [result for result in known if result.settings != usual]
    changed = {
        name for result in others for name in {*usual, *result.settings} if usual.get(name) != result.settings.get(name)
    }
    return [
        f"{len(others)} of {len(known)} included sessions were run with other options than most"
        f" ({', '.join(sorted(changed))}): {_listed([result.session.name for result in others])}. Run the participants"
        " again, so that all are alike."
    ]


def _in_both(included: Sequence[SessionResult]) -> list[str]:
    """Return a remark for every pair of groups that share participants, as those before and after a treatment do."""
    people: dict[tuple[str, str], set[str]] = {}
    for result in included:
        session = result.session
        if session.group and session.participant:
            people.setdefault((session.series, session.group), set()).add(session.participant)
    out = []
    for (series, first), (other, second) in itertools.combinations(sorted(people), 2):
        both = sorted(people[series, first] & people[other, second])
        if series == other and both:
            who = "1 participant is" if len(both) == 1 else f"{len(both)} participants are"
            out.append(
                f"{who} in both {first} and {second}{_of_series(series)}: {_listed(both)}. The difference between these"
                " groups is that of independent groups: its SD, interval and p are not those of a paired comparison."
                " Compare the values within participants (concentrations_tidy.tsv)."
            )
    return out


def _visits(included: Sequence[SessionResult]) -> list[str]:
    """Return a remark for every group with participants of several sessions, which are averaged."""
    counts: dict[tuple[str, str], Counter[str]] = {}
    for result in included:
        session = result.session
        counts.setdefault((session.series, session.group), Counter())[session.participant or session.name] += 1
    out = []
    for (series, group), count in counts.items():
        several = [f"{who} ({n})" for who, n in count.items() if n > 1]
        if several:
            who = "1 participant has" if len(several) == 1 else f"{len(several)} participants have"
            where = f" in {group}" if group else ""
            out.append(
                f"{who} several sessions{where}{_of_series(series)}, whose values are averaged: {_listed(several)}."
                " A participant is one value of a group, and changes from one visit to the next are in no mean and no"
                " difference. To compare visits give each visit a group of its own, in a table with a session a line,"
                " or choose one (`session_label`); values of visits are in concentrations_tidy.tsv."
            )
    return out


def _confounded(included: Sequence[SessionResult]) -> list[str]:
    """Return a remark for every pair of groups that were not measured or fitted alike."""
    groups = sorted({result.session.group for result in included} - {""})
    series = list(dict.fromkeys(result.session.series for result in included))
    out = []
    for name, pair in itertools.product(series, itertools.combinations(groups, 2)):
        runs = [
            [one.run for one in included if (one.session.group, one.session.series) == (group, name)] for group in pair
        ]
        uneven = [text for fact in _FACTS if (text := _uneven(fact, pair, runs))]
        if uneven:
            out.append(
                f"{pair[0]} and {pair[1]}{_of_series(name)} were not measured or fitted alike, and a difference may be"
                f" due to that: {'; '.join(uneven)}."
            )
    return out


def _uneven(fact: _Fact, groups: tuple[str, str], runs: Sequence[Sequence[dict]]) -> str:
    """Return how two groups differ in a fact; empty where they do not, or where it is not known."""
    known = [[run for run in part if fact.key(run) is not None] for part in runs]
    if not all(known):
        return ""
    counts = [Counter(fact.key(run) for run in part) for part in known]
    labels = {fact.key(run): fact.label(run) for part in reversed(known) for run in reversed(part)}
    shares = [[count[key] / count.total() for key in labels] for count in counts]
    if sum(abs(a - b) for a, b in zip(*shares)) / 2 <= _UNEVEN:
        return ""
    parts = [
        f"{group} {', '.join(f'{labels[key]} ({n})' for key, n in count.most_common())}"
        for group, count in zip(groups, counts)
    ]
    return f"{fact.name}: {', but '.join(parts)}"


def _ungrouped(included: Sequence[SessionResult]) -> list[str]:
    without = [result.session.name for result in included if not result.session.group]
    if not without or len(without) == len(included):
        return []
    return [f"{_sessions(len(without))} no group, and no part in a difference: {_listed(without)}."]


def _small(included: Sequence[SessionResult]) -> list[str]:
    """Return a remark on groups that are too small for an interval."""
    people: dict[tuple[str, str], set[str]] = {}
    for result in included:
        session = result.session
        people.setdefault((session.group, session.series), set()).add(session.participant or session.name)
    return [
        f"{group or 'The study'}{_of_series(series)} has {len(members)} participant{'s' * (len(members) > 1)}: too few"
        " for an interval; the figures show the values alone."
        for (group, series), members in people.items()
        if len(members) < FEWEST
    ]


def _quantity(included: Sequence[SessionResult], tidy: pd.DataFrame, quantity: str, asked: bool) -> list[str]:
    """Return remarks on the quantity of the page: why it is shown, and sessions that lack it."""
    some = tidy[tidy["included"]]
    having = {name: set(some.loc[some["quantity"] == name, "session"]) for name in some["quantity"].unique()}
    names = [one.name for one in QUANTITIES]
    fitted = {result.session.name for result in included} & set(some["session"])
    out = []
    if quantity != names[0] and not asked:
        lacking = fitted - having.get(names[0], set())
        why = _why([result for result in included if result.session.name in lacking])
        out.append(
            f"Shown is the {quantity}: {len(lacking)} of {len(fitted)} included sessions have no {names[0]}{why}."
        )
    if quantity == RAW:
        out.append(
            "Raw amplitudes are in units of each session's data: they are not comparable between sessions, and have no"
            " means of groups and no differences."
        )
    without = sorted(fitted - having.get(quantity, set()))
    if without:
        out.append(_without(included, without, quantity, [one for one in names if fitted == having.get(one)]))
    return out


def _water_alone(included: Sequence[SessionResult], quantity: str) -> list[str]:
    """Return a remark on sessions whose concentrations in mM are those of a voxel of water alone."""
    alone = [one.session.name for one in included if one.run.get("molarity_of") == "water alone"]
    if quantity not in _ABSOLUTE or not alone:
        return []
    mixed = ", and not comparable with those of the others" if len(alone) < len(included) else ""
    return [
        f"Of {len(alone)} of {len(included)} included sessions {WATER_ALONE}{mixed}: {_listed(alone)}. Give"
        " segmentations (columns segmentation, or white, grey and csf of a table; `derivatives`), or `tissue_frac`."
    ]


def _why(lacking: Sequence[SessionResult]) -> str:
    """Return why sessions have no absolute concentrations, with the remedy, as the end of a sentence; empty where it is
    not known."""
    counts = Counter(result.not_absolute for result in lacking if result.not_absolute)
    if not counts:
        return ""
    parts = [text if n == len(lacking) else f"{text} ({n} of them)" for text, n in counts.most_common(_MOST_REASONS)]
    return f": {'; '.join(parts)}"


def _sessions(n: int) -> str:
    return "1 included session has" if n == 1 else f"{n} included sessions have"


def _without(included: Sequence[SessionResult], without: Sequence[str], quantity: str, complete: list[str]) -> str:
    """Return a remark on included sessions that lack the quantity of the page."""
    groups: dict[str, list[bool]] = {}
    for result in included:
        groups.setdefault(result.session.group, []).append(result.session.name in without)
    whole = [group for group, lacking in groups.items() if group and all(lacking)]
    text = f"{_sessions(len(without))} no {quantity} and no place in its tables and figures"
    text += f", all of {', '.join(whole)} among them" if whole else ""
    others = [one for one in complete if one != RAW]
    remedy = f" All have the {others[0]} (`quantity` {others[0]})." if others else ""
    why = _why([one for one in included if one.session.name in without]) if quantity in _ABSOLUTE else ""
    return f"{text}: {_listed(without)}.{f' Why{why}.' if why else ''}{remedy}"


def _doubtful(included: Sequence[SessionResult]) -> list[str]:
    """Return a remark on included sessions that are not usable, and one on doubtful ones."""
    out = []
    for verdict, meaning in (
        ("not usable", " Their values are no estimates, and p values of differences mean nothing with them: leave out"
         " `keep_unusable`."),
        ("doubtful", ""),
    ):  # fmt: skip
        names = [result.session.name for result in included if result.quality.get("verdict") == verdict]
        if names:
            which = f"{len(names)} of {len(included)} included sessions have the verdict '{verdict}'"
            out.append(f"{which}: {_listed(names)}.{meaning}")
    return out
