"""What the sessions of a study have found, read from their folders."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd

from ..core.errors import DataError, OptionError, spelled
from ..fitting.uncertainty import narrower_share, normal_interval
from ..io.files import json_content
from ..results.layout import MOSTLY_PRIOR
from .entry import StudySession
from .exclusion import ExclusionRules
from .metabolite_names import common_names
from .steps import ABSOLUTE, why_not_absolute
from .study import FAILED, KEPT, NOT_RUN, RECORD, Outcome, outcomes

__all__ = [
    "MOSTLY_PRIOR_NOTE",
    "QUANTITIES",
    "RAW",
    "Quantity",
    "SessionResult",
    "check_by_hand",
    "collect",
    "left_out_words",
    "marked",
    "same_data",
    "session_table",
    "tidy_table",
]

RAW = "raw"
"""Name of the amplitudes in units of each session's data, which are not comparable between sessions."""


MOSTLY_PRIOR_NOTE = (
    f"* mostly prior: priors decide more than the spectra do (a share above {MOSTLY_PRIOR:g}, median of a group). Such"
    " values are near those of a typical brain in every group: do not compare groups by them."
)
"""What the mark of :func:`marked` means."""


@dataclass(frozen=True)
class Quantity:
    """A quantity of uncertainty.csv.

    Attributes
    ----------
    name, unit : str
    column : str
    sd : tuple of str
        Columns that may hold its SD, the first that is there.
    limits : str
        Beginning of the names of the columns with its 95 % interval.
    """

    name: str
    unit: str
    column: str
    sd: tuple[str, ...]
    limits: str


QUANTITIES = (
    Quantity("molarity", "mM", "molarity", ("molarity_sd",), "molarity_ci95"),
    Quantity("molality", "mmol/kg", "molality", ("molality_sd",), "molality_ci95"),
    Quantity("ratio", "", "ratio", ("ratio_sd",), "ratio_ci95"),
    Quantity(RAW, "arbitrary", "conc", ("in_vivo_sd", "crlb_sd"), "ci95"),
)
"""Quantities of a table, the most wanted first."""


@dataclass(frozen=True)
class SessionResult:
    """A session and what it has found.

    Attributes
    ----------
    session : StudySession
    outcome : Outcome
    folder : path
        Its results.
    run : dict
        The content of ``run.json``; empty where there is none.
    values : DataFrame, optional
        ``uncertainty.csv``.
    reasons : tuple of str
        Why it is left out of groups; empty where it is not.
    common : dict
        Share of the variance that all sessions have in common, from the times of relaxation of the literature: by
        quantity and metabolite.
    renamed : dict
        Names that metabolites have in its own tables, where another is that of the study: the study's, by its own.
    settings : dict
        Version and options that it was run with, texts by name; empty where they are not known.
    """

    session: StudySession
    outcome: Outcome
    folder: Path
    run: dict
    values: pd.DataFrame | None
    reasons: tuple[str, ...]
    common: dict[tuple[str, str], float] = field(default_factory=dict)
    renamed: dict[str, str] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)

    @property
    def included(self) -> bool:
        """Whether the session enters groups."""
        return not self.reasons

    @property
    def up_to_date(self) -> bool:
        """Whether the files in ``folder`` are its results; those of a session that failed are of an earlier run."""
        return self.outcome.state == KEPT

    @property
    def quality(self) -> dict:
        """Figures of quality of ``run.json``."""
        quality = self.run.get("quality")
        return quality if isinstance(quality, dict) else {}

    @property
    def remarks(self) -> list[str]:
        """Notes of the study's description, warnings of the run, and why concentrations are not absolute."""
        warnings = self.run.get("warnings")
        texts = [*self.session.notes, *(map(str, warnings) if isinstance(warnings, list) else [])]
        texts += [f"no {ABSOLUTE}: {self.not_absolute}"] * bool(self.not_absolute)
        return [spelled(text, str) for text in texts]

    @property
    def not_absolute(self) -> str:
        """Why concentrations are not absolute, and the remedy; empty where they are, or where it is not known."""
        return why_not_absolute(self.run)


def marked(metabolite: str, prior_share: float) -> str:
    """Return the name of a metabolite, with a star where its values are mostly prior."""
    return f"{metabolite}*" if prior_share > MOSTLY_PRIOR else metabolite


def collect(
    folder: Path,
    sessions: Sequence[StudySession],
    rules: ExclusionRules | None = None,
    by_hand: Collection[str] = (),
) -> list[SessionResult]:
    """Return what every session has found, and which are left out; a metabolite has one name in all of them.

    Parameters
    ----------
    folder : path
        Of the study.
    sessions : sequence of StudySession
    rules : ExclusionRules, optional
    by_hand : collection of str
        Names of sessions or participants that are left out besides.

    Raises
    ------
    DataError
        If a file of results is damaged.
    OptionError
        If there is no session or participant of a name.
    """
    rules = rules or ExclusionRules()
    check_by_hand(sessions, by_hand)
    results = []
    for session, outcome in zip(sessions, outcomes(folder, sessions)):
        place = folder / "sessions" / session.name
        run, values, common, reasons = {}, None, {}, [outcome.reason] if outcome.reason else []
        settings: dict[str, str] = {}
        if outcome.state == KEPT:
            settings = _settings(_run(place / RECORD))
            run, values = _run(place / "run.json"), _values(place / "uncertainty.csv")
            if values is not None:
                values = _of_estimate(values, place / "concentrations.csv", settings.get("estimate", ""))
            common = _common(_values(place / "concentration_budget.csv"))
            if values is not None and values["Metab"].duplicated().any():
                values = None
                reasons.append(_SEVERAL)
            quality = run.get("quality")
            reasons += rules.reasons(quality if isinstance(quality, dict) else {})
        if _called(session) & set(by_hand):
            reasons.append(_BY_HAND)
        results.append(SessionResult(session, outcome, place, run, values, tuple(reasons), common, {}, settings))
    return _with_common_names(results)


def left_out_words(results: Sequence[SessionResult]) -> list[str]:
    """Return how many sessions are left out, and why, a phrase for each kind of reason: those that a rule leaves out
    are no others."""
    run = [result.reasons for result in results if result.outcome.state not in (FAILED, NOT_RUN) and result.reasons]
    by_rule = sum(bool(set(reasons) - {_BY_HAND, _SEVERAL}) for reasons in run)
    by_hand = sum(set(reasons) <= {_BY_HAND, _SEVERAL} and _BY_HAND in reasons for reasons in run)
    several = len(run) - by_rule - by_hand
    out = []
    for n, words in (
        (sum(result.outcome.state == FAILED for result in results), "could not be run"),
        (sum(result.outcome.state == NOT_RUN for result in results), "not run yet"),
        (by_rule, "left out by rules"),
        (by_hand, "left out by hand (`exclude`)"),
        (several, "left out, having several spectra"),
    ):
        verb = "" if words.startswith("could") else "was " if n == 1 else "were "
        out += [f"{n} {verb}{words}"] * bool(n)
    return out


def check_by_hand(sessions: Sequence[StudySession], by_hand: Collection[str]) -> None:
    """Raise OptionError if a session to leave out by hand is none, and no participant either."""
    known = {name for session in sessions for name in _called(session)}
    for name in by_hand:
        if name not in known:
            raise OptionError("there is no such session or participant", option="exclude", value=name)


def _called(session: StudySession) -> set[str]:
    """Return the names of a session and of its participant, the latter with and without ``sub-``."""
    label = session.participant.removeprefix("sub-")
    return {session.name, session.participant, label, f"sub-{label}"}


def _with_common_names(results: Sequence[SessionResult]) -> list[SessionResult]:
    """Return the results with one name for each metabolite, whatever basis sets call it."""
    names = common_names([list(one.values["Metab"].astype(str)) for one in results if one.values is not None])
    out = []
    for one in results:
        if one.values is not None and (own := {name: names[name] for name in one.values["Metab"] if name in names}):
            values = one.values.assign(Metab=one.values["Metab"].replace(own))
            common = {(unit, own.get(name, name)): share for (unit, name), share in one.common.items()}
            one = replace(one, values=values, common=common, renamed=own)
        out.append(one)
    return out


def _run(path: Path) -> dict:
    """Return the content of run.json, or of another object."""
    try:
        content = json_content(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as exc:
        raise DataError(f"{path}: is damaged ({exc})", remedy="remove its folder and run the session again") from exc
    return content if isinstance(content, dict) else {}


def _settings(record: dict) -> dict[str, str]:
    """Return version and options of a session's record, by name."""
    made_from = record.get("made_from")
    if not isinstance(made_from, dict):
        return {}
    lines = (line.partition(": ") for line in str(made_from.get("settings", "")).splitlines())
    return {"version": str(made_from.get("version")), **{name: value for name, _, value in lines}}


def _common(budget: pd.DataFrame | None) -> dict[tuple[str, str], float]:
    """Return the shares of the variance that all sessions have in common, by quantity and metabolite."""
    if budget is None or not {"unit", *_COMMON} <= set(budget.columns):
        return {}
    shares = budget[list(_COMMON)].sum(axis=1).clip(0, 1)
    return {(unit, name): share for unit, name, share in zip(budget["unit"], budget["Metab"], shares)}


def _values(path: Path) -> pd.DataFrame | None:
    """Return a table of metabolites, or None where there is none."""
    if not path.is_file():
        return None
    try:
        frame = pd.read_csv(path)
    except (OSError, ValueError) as exc:
        raise DataError(f"{path}: is damaged ({exc})", remedy="remove its folder and run the session again") from exc
    if "Metab" not in frame:
        raise DataError(f"{path}: is damaged (no column Metab)", remedy="remove its folder and run the session again")
    return frame


def _of_estimate(values: pd.DataFrame, path: Path, estimate: str) -> pd.DataFrame:
    """Return a table of metabolites with the amplitudes and ratios of the estimate that was asked for.

    ``uncertainty.csv`` has the model's own under their names, and absolute concentrations of the estimate beside them;
    the table of FSL-MRS is of the estimate alone.
    """
    if estimate not in ("posterior_mean", "network") or not path.is_file():
        return values
    try:
        table = pd.read_csv(path, header=[0, 1], index_col=0).reindex(values["Metab"])
    except (OSError, ValueError) as exc:
        raise DataError(f"{path}: is damaged ({exc})", remedy="remove its folder and run the session again") from exc
    out, own = values.copy(), next((name for name in ("in_vivo_sd", "crlb_sd") if name in values), None)
    for kind, column, limits in (("raw", "conc", "ci95"), ("internal", "ratio", "ratio_ci95")):
        if ("mean", kind) not in table:
            continue
        value, sd = (table[(part, kind)].to_numpy(float) for part in ("mean", "std"))
        out[column], out[own if kind == "raw" and own else f"{column}_sd"] = value, sd
        ends = normal_interval(value, sd, negative=bool((value < 0).any()))
        out[f"{limits}_low"], out[f"{limits}_high"] = ends
    if estimate == "posterior_mean" and {"prior_share", "posterior_sd", "in_vivo_sd"} <= set(values):
        out["prior_share"] = narrower_share(values["prior_share"], values["in_vivo_sd"], values["posterior_sd"])
    elif estimate == "network":
        out = out.drop(columns=["prior_share", "prior_pull"], errors="ignore")
    return out


_BY_HAND, _SEVERAL = "left out by hand", "has several spectra, and so no single value of a metabolite"
_COMMON = ("water_relaxation_share", "metabolite_relaxation_share")
_PLACE = ("session", "participant", "visit", "series", "group")
_QUALITY = (
    "snr",
    "fwhm_hz",
    "fwhm_ppm",
    "misfit",
    "ood_score",
    "unexplained",
    "transients",
    "rejected",
    "usable",
    "verdict",
)
_FACTS = ("units", "field_t", "te_ms", "tr_s", "sequence", "vendor", "model", "basis_sha256")


def _place(result: SessionResult) -> dict:
    session = result.session
    parts = (session.name, session.participant, session.visit, session.series, session.group)
    return dict(zip(_PLACE, parts))


def same_data(results: Sequence[SessionResult]) -> dict[str, list[str]]:
    """Return the names of other sessions with the same FIDs, by the names of those that have such."""
    names: dict[str, list[str]] = {}
    for result in results:
        content = result.run.get("fids_sha256")
        if isinstance(content, str):
            names.setdefault(content, []).append(result.session.name)
    return {name: [one for one in twins if one != name] for twins in names.values() for name in twins if len(twins) > 1}


def session_table(results: Sequence[SessionResult]) -> pd.DataFrame:
    """Return a line per session: its place, whether it is included and why not, quality, and remarks."""
    lines, twins = [], same_data(results)
    for result in results:
        line = _place(result)
        line["state"] = "done" if result.outcome.state == KEPT else result.outcome.state
        line |= {"included": result.included, "reason": "; ".join(result.reasons)}
        line |= {key: result.quality.get(key) for key in _QUALITY}
        line |= {key: result.run.get(key) for key in _FACTS}
        same = twins.get(result.session.name)
        remarks = [*([f"the same data as {', '.join(same)}"] if same else []), *result.remarks]
        lines.append(line | {"remarks": "; ".join(remarks)})
    return pd.DataFrame(lines)


def tidy_table(results: Sequence[SessionResult]) -> pd.DataFrame:
    """Return a line per session, metabolite and quantity: value, SD, 95 % interval, and whether it is included.

    ``sd_common`` is the part of the SD that all sessions have in common: it does not get smaller in a mean, and it
    cancels in a difference.  ``prior_share`` is the share of the prior in a value; NaN where it is not known, as of
    sums.
    Sessions that failed have no lines; a quantity that a session lacks, such as a molarity without water, has none.
    """
    lines: list[tuple] = []
    for result in results:
        if result.values is None or result.outcome.state == FAILED:
            continue
        for quantity in QUANTITIES:
            if quantity.column in result.values and not result.values[quantity.column].isna().all():
                lines += _lines(result, result.values, quantity)
    columns = [*_PLACE, "metabolite", "quantity", "unit", "value", "sd", "sd_common", "ci95_low", "ci95_high"]
    return pd.DataFrame(lines, columns=[*columns, "prior_share", "included", "reason"])


def _lines(result: SessionResult, values: pd.DataFrame, quantity: Quantity) -> list[tuple]:
    """Return the lines of one session and quantity, in the order of the tidy table's columns."""
    nothing = [float("nan")] * len(values)

    def column(*names: str) -> list[float]:
        return next((values[name].tolist() for name in names if name in values), nothing)

    place, why = tuple(_place(result).values()), (result.included, "; ".join(result.reasons))
    low, high = (column(f"{quantity.limits}_{side}") for side in ("low", "high"))
    names, sd = values["Metab"].astype(str), column(*quantity.sd)
    common = [one * result.common.get((quantity.name, name), 0.0) ** 0.5 for name, one in zip(names, sd)]
    # Of FSL-MRS's model there are values with and without the prior.
    share = column("prior_share", *["prior_pull"] * (result.settings.get("estimate") == "posterior_mean"))
    cells = zip(names, column(quantity.column), sd, common, low, high, share)
    return [(*place, name, quantity.name, quantity.unit, *numbers, *why) for name, *numbers in cells]
