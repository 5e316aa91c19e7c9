"""The command ``fsl_mrs_dl study``: a BIDS app, and the same for a table of files."""

from __future__ import annotations

import argparse
from collections import Counter
from dataclasses import replace
from pathlib import Path

from ..core.errors import DataError, OptionError, OutputError, spelled
from .common import add_common_arguments, add_format_arguments, given_files
from .fit_options import add_fitting_options, add_hidden_arguments, add_output_options, check_fsl_mrs_options
from .run_session import add_processing_options, check_basis_options, run_options
from .scaling_options import add_scaling_options

__all__ = ["add_arguments", "run"]

LEVELS = ("participant", "group")

# Arguments that the results of a session do not depend on.
_OF_STUDY = (
    "study output levels participant_label session_label basis basis_of derivatives skip_bids_validation n_procs"
    " parallel work_dir group_column min_snr max_fwhm max_misfit max_ood keep_unusable exclude quantity config"
    " overwrite verbose debug job func format_values words main"
).split()

_NAME_FILES = ("t1_values", "t2_values", "mm", "prior", "network")
"""Options of sessions that may name a file or a folder."""


def add_arguments(parser) -> None:
    """Add the arguments of the command to its parser."""
    parser.add_argument(
        "study",
        metavar="BIDS",
        help="folder of a BIDS data set; or a table (.csv, .tsv) with a session a line, in columns data, name, water,"
        " t1, segmentation (or white, grey, csf), basis, participant, visit, series, group",
    )
    parser.add_argument("output", type=Path, metavar="OUT", help="folder of the results; a run that was killed goes on")
    parser.add_argument(
        "levels",
        nargs="+",
        choices=LEVELS,
        metavar="LEVEL",
        help="participant: run every session; group: tables, exclusions, differences between groups, and a page",
    )
    _add_choice(parser.add_argument_group("sessions"))
    _add_running(parser.add_argument_group("running (participant)"))
    group = parser.add_argument_group("processing (participant)")
    add_processing_options(group)
    add_fitting_options(parser.add_argument_group("fitting options (participant)"))
    add_scaling_options(parser.add_argument_group("absolute concentrations (participant)"))
    add_format_arguments(parser.add_argument_group("formats without axes (participant)"))
    group = parser.add_argument_group("output options (participant)")
    add_output_options(group)
    group.add_argument("--no-report", dest="report", action="store_false", help="write no HTML report of each session")
    _add_group(parser.add_argument_group("groups and exclusion (group)"))
    parser.add_argument(
        "--config", is_config_file=True, metavar="FILE", help="file with options, one a line: max-fwhm = 0.08"
    )
    add_common_arguments(parser, output="results of sessions, also those that are up to date")
    parser.set_defaults(func=run, advice="")
    add_hidden_arguments(parser)


def _add_choice(group) -> None:
    """Add the options that choose sessions and their files."""
    group.add_argument(
        "--participant-label", "--participant_label", nargs="+", default=(), metavar="LABEL", help="only these"
    )
    group.add_argument(
        "--session-label", "--session_label", nargs="+", default=(), metavar="LABEL", help="only these visits"
    )
    group.add_argument(
        "--basis-of",
        action="append",
        default=[],
        metavar="WHICH=PATH",
        help="basis set of some acquisitions, by entities or the label of acq: acq-press_voi-acc=DIR, or press=DIR"
        " [repeatable]; --basis is for all others",
    )
    group.add_argument(
        "--derivatives", nargs="+", type=Path, default=(), metavar="DIR", help="further folders with segmentations"
    )
    group.add_argument(
        "--skip-bids-validation",
        "--skip_bids_validation",
        action="store_true",
        help="accept a data set without a complete description, and note no fields that are missing",
    )


def _add_running(group) -> None:
    """Add the options of processes."""
    group.add_argument("--n-procs", "--n_procs", type=int, metavar="N", help="sessions at a time (default: all cores)")
    group.add_argument(
        "--parallel",
        metavar="WHERE",
        help="local (default with more than one process): processes of this machine; cluster: SLURM, configured as for"
        " fsl_mrsi; the address of a dask scheduler; or off",
    )
    group.add_argument("-w", "--work-dir", type=Path, metavar="DIR", help="folder for temporary files of processes")


def _add_group(group) -> None:
    """Add the options of groups and exclusion."""
    from ..workflow.exclusion import ExclusionRules

    rules = ExclusionRules()
    group.add_argument(
        "--group-column", default="group", metavar="NAME", help="column of participants.tsv (default: group)"
    )
    for option, default, text in (
        ("min-snr", rules.min_snr, "leave out sessions with a smaller SNR"),
        ("max-fwhm", rules.max_fwhm_ppm, "with broader lines, in ppm"),
        ("max-misfit", rules.max_misfit, "with a larger residual over noise"),
        ("max-ood", rules.max_ood, "with a larger out-of-distribution score"),
    ):
        known = "off" if default is None else f"{default:g}"
        group.add_argument(
            f"--{option}", metavar="X", default=known, help=f"{text} (default {known}; off switches the rule off)"
        )
    group.add_argument("--keep-unusable", action="store_true", help="keep fits whose verdict is 'not usable'")
    group.add_argument(
        "--exclude", nargs="+", default=(), metavar="NAME", help="leave out these sessions or participants, too"
    )
    group.add_argument(
        "--quantity",
        metavar="NAME",
        help="quantity of wide table and page: molarity, molality, ratio or raw (default: the first of them that half"
        " of the sessions have)",
    )


def run(args) -> None:
    """Run the levels that were asked for."""
    check_fsl_mrs_options(args)
    check_basis_options(args)
    from ..io.output import check_writable
    from ..workflow.collect import check_by_hand
    from ..workflow.derivatives import check_study_folder, describe, name_problem

    dataset, sessions = _sessions(args)
    check_study_folder(args.output, dataset)
    check_writable(args.output)
    _check_not_of_groups(args)
    rules = _rules(args)
    if "group" in args.levels:
        check_by_hand(sessions, args.exclude)
    if "participant" in args.levels:
        args.output.mkdir(parents=True, exist_ok=True)
        describe(args.output, dataset, Path(args.study).name)
        problem = name_problem(args.output, dataset)
        if problem:
            print(f"{problem}.")
        _participants(args, dataset, sessions)
    if "group" in args.levels:
        _group(args, dataset, sessions, rules)


def _check_not_of_groups(args) -> None:
    """Raise OutputError for a file that is read and lies where the tables of groups are written."""
    folder = (args.output / "group").resolve()
    for path in given_files(args):
        if folder in path.resolve().parents:
            raise OutputError(f"{path}: lies where the study writes its tables", remedy="move it to another folder")


def _sessions(args):
    """Return the data set, or None for a table, and the sessions that were chosen."""
    from ..workflow.bids import BidsDataset
    from ..workflow.bids_sessions import find_sessions, read_groups
    from ..workflow.table import sessions_of_table

    if Path(args.study).is_file():
        sessions = sessions_of_table(args.study, args.group_column, say=print)
        for option, attribute, prefix in (
            ("participant_label", "participant", "sub-"),
            ("session_label", "visit", "ses-"),
        ):
            sessions = _chosen(sessions, getattr(args, option), option, attribute, prefix)
        return None, sessions
    validate = not args.skip_bids_validation
    dataset = BidsDataset(args.study, validate)
    sessions = find_sessions(
        dataset,
        participants=args.participant_label,
        visits=args.session_label,
        derivatives=args.derivatives,
        groups=read_groups(dataset.root, args.group_column),
        validate=validate,
    )
    return dataset, sessions


def _chosen(sessions, labels, option: str, attribute: str, prefix: str) -> list:
    """Return the sessions of a table whose participant or visit is among some labels, with or without their prefix; all
    without labels."""
    if not labels:
        return sessions
    known = [getattr(one, attribute).removeprefix(prefix) for one in sessions]
    wanted = [label.removeprefix(prefix) for label in labels]
    for label in wanted:
        if label not in known:
            raise OptionError("is in no line of the table that is chosen", option=option, value=label)
    return [one for one, label in zip(sessions, known) if label in wanted]


def _rules(args):
    """Return the rules of exclusion."""
    from ..workflow.exclusion import ExclusionRules

    def limit(option: str) -> float | None:
        text = str(getattr(args, option))
        if text == "off":
            return None
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if not 0 < value < float("inf"):
            raise OptionError("must be a positive number, or off", option=option, value=text)
        return value

    return ExclusionRules(
        min_snr=limit("min_snr"),
        max_fwhm_ppm=limit("max_fwhm"),
        max_misfit=limit("max_misfit"),
        max_ood=limit("max_ood"),
        usable=not args.keep_unusable,
    )


def _participants(args, dataset, sessions) -> None:
    """Run every session, and print what became of it."""
    from ..workflow.derivatives import publish, withdraw
    from ..workflow.progress import came_to, warnings_in_words
    from ..workflow.runner import run_one, with_simulated_basis
    from ..workflow.study import FAILED, KEPT, Study, run_study

    (options, settings), basis = _options_of_sessions(args), _basis(args)
    sessions = _with_tissue(args, sessions)
    sessions = with_simulated_basis(sessions, basis, args.output / "basis", options)
    study = Study(args.output, options, run_one, basis, settings=settings)
    parallel, workers = _workers(args)
    by_name = {session.name: session for session in sessions}
    counts: dict[str, int] = {}
    reasons: list[str] = []
    warnings: Counter[str] = Counter()
    if args.work_dir:
        args.work_dir.mkdir(parents=True, exist_ok=True)
    how = {"parallel": parallel, "workers": workers, "scratch": args.work_dir, "again": args.overwrite}
    try:
        for outcome in run_study(study, sessions, **how):
            counts[outcome.state] = counts.get(outcome.state, 0) + 1
            if dataset is not None and outcome.state == FAILED:
                withdraw(args.output, by_name[outcome.name])
            elif dataset is not None:
                publish(args.output, by_name[outcome.name], dataset)
            if outcome.state == FAILED:
                reasons.append(f"  {outcome.name}: {outcome.reason}")
            if outcome.state != KEPT:
                words, found = came_to(args.output / "sessions" / outcome.name) if outcome.state != FAILED else ("", [])
                warnings.update(dict.fromkeys(found, 1))
                what = ", ".join(filter(None, [f"{outcome.seconds:.0f} s", words]))
                what = f"failed: {outcome.reason}" if outcome.state == FAILED else what
                print(f"[{sum(counts.values())}/{len(sessions)}] {outcome.name}: {what}", flush=True)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"interrupted; {sum(counts.values())} of {len(sessions)} sessions are done: the same command goes on."
        ) from None
    n_kept, n_failed = counts.get(KEPT, 0), counts.get(FAILED, 0)
    kept = f", {n_kept} of them from before" if n_kept else ""
    print(f"{len(sessions) - n_failed} of {len(sessions)} sessions have results{kept}; {n_failed} failed.")
    print("".join(f"{line}\n" for line in [*reasons, *warnings_in_words(warnings)]), end="")
    if n_failed == len(sessions):
        raise DataError(
            f"{args.study}: none of its sessions could be run",
            remedy=f"the reasons are above and in {args.output}/failed",
        )
    group = f"fsl_mrs_dl study {args.study} {args.output} group"
    print(f"Written: {args.output}/sessions ('{group}' makes tables and the overview)")


def _options_of_sessions(args):
    """Return the RunOptions of every session and their options in words, without those of how the study is run."""
    of_session = {name: value for name, value in vars(args).items() if name not in _OF_STUDY}
    lines = "".join(f"{name}: {of_session[name]}\n" for name in sorted(of_session) if name != "spelling")
    lines += _contents(of_session)
    # What `run` has besides: files, which each session has of its own.
    files = dict.fromkeys(("data", "h2o", "t1", "basis"))
    return run_options(argparse.Namespace(**of_session, **files, format_values=lambda: lines)), lines


def _contents(options: dict) -> str:
    """Return a line with the hash of the content of every option that names a file or a folder."""
    from ..workflow.study import content_hash

    named = ((name, Path(options[name])) for name in _NAME_FILES if options.get(name))
    return "".join(f"content of {name}: {content_hash(path)}\n" for name, path in named if path.exists())


def _with_tissue(args, sessions) -> list:
    """Return the sessions, those without tissue of their own with the fractions that are given for all."""
    from ..concentrations.tissue import TissueFractions

    if not args.tissue_frac:
        return sessions
    try:
        white, grey, csf = map(float, args.tissue_frac)
    except ValueError:
        raise OptionError(
            "of a study are three numbers, for all sessions that have no tissue of their own",
            option="tissue_frac",
            value=" ".join(args.tissue_frac),
            remedy="give white, grey and CSF, as 0.4 0.5 0.1; segmentations belong into the table, or `derivatives`",
        ) from None
    TissueFractions.from_values(white, grey, csf)  # raises if they are none
    return [
        one if one.fractions or one.segmentations else replace(one, fractions=(white, grey, csf)) for one in sessions
    ]


def _basis(args) -> dict[str, Path]:
    """Return the basis sets of the study by what they are for."""
    from ..io.basis_files import GIVE_BASIS

    basis = {"": Path(args.basis)} if args.basis else {}
    for text in args.basis_of:
        key, separator, path = text.partition("=")
        if not (key and separator and path):
            raise OptionError("is not of the form WHICH=PATH", option="basis_of", value=text)
        basis[key] = Path(path)
    for key, path in basis.items():
        if not path.exists():
            option, value = ("basis_of", f"{key}={path}") if key else ("basis", path)
            raise OptionError("no such basis set", option=option, value=value, remedy=GIVE_BASIS)
    return basis


def _workers(args) -> tuple[str, int | None]:
    """Return where sessions are run, and the number of processes or nodes."""
    from importlib.util import find_spec

    from ..core.workers import check_parallel, cores

    if args.n_procs is not None and args.n_procs < 1:
        raise OptionError("must be at least 1", option="n_procs", value=args.n_procs)
    if args.parallel is not None:
        check_parallel(args.parallel)
        return args.parallel, args.n_procs or (cores() if args.parallel == "local" else None)
    n = args.n_procs or cores()
    if n == 1:
        return "off", None
    if find_spec("distributed") is None:
        print("dask is not installed: one session at a time (pip install '.[parallel]' in a copy of the repository).")
        return "off", None
    return "local", n


def _group(args, dataset, sessions, rules) -> None:
    """Write the tables and the page of a study, and print the groups' differences."""
    from ..workflow.collect import left_out_words
    from ..workflow.group import group_study, write_tables
    from ..workflow.overview import write_overview

    tables = group_study(args.output, sessions, rules=rules, by_hand=args.exclude, quantity=args.quantity)
    folder = args.output / "group"
    folder.mkdir(exist_ok=True)
    write_tables(folder, tables)
    name = Path(args.study).resolve().name if dataset is None else dataset.description.get("Name", args.study)
    write_overview(folder / "overview.html", tables, title=f"Study: {name}")
    included = sum(result.included for result in tables.results)
    parts = [f"{included} of {len(tables.results)} sessions are included", *left_out_words(tables.results)]
    print(spelled(f"{'; '.join(parts)}.", args.spelling))
    for result in tables.results:
        if result.reasons:
            print(f"  {result.session.name}: {'; '.join(result.reasons)}")
    for remark in tables.remarks:
        print(spelled(remark, args.spelling))
    print(_effects(tables), end="")
    print(f"Written: {folder}/ with overview.html, concentrations_wide.tsv, concentrations_tidy.tsv, effects.tsv")


def _effects(tables) -> str:
    """Return the differences of groups whose interval excludes zero, as lines; mostly prior ones are marked."""
    from ..workflow.collect import MOSTLY_PRIOR_NOTE, marked
    from ..workflow.effect import FEWEST

    effects = tables.effects
    if effects.empty:
        return "No two groups to compare.\n"
    some = effects[(effects["quantity"] == tables.quantity) & (effects[["n", "n_against"]].min(axis=1) >= FEWEST)]
    if some.empty:
        return f"{tables.quantity}: no two groups of {FEWEST} or more participants to compare.\n"
    lines = [f"{tables.quantity}: differences whose 95 % interval excludes zero, of {len(some)}:"]
    for line in some.to_dict("records"):
        if line["ci95_low"] > 0 or line["ci95_high"] < 0:
            unit = f" {line['unit']}" if line["unit"] else ""
            name = marked(line["metabolite"], line["prior_share"])
            lines.append(
                f"  {name}: {line['group']} - {line['against']} {line['difference']:+.3g} ±"
                f" {line['sd']:.2g}{unit} ({line['ci95_low']:+.3g} to {line['ci95_high']:+.3g}), p adjusted"
                f" {line['p_adjusted']:.2g}"
            )
    if len(lines) == 1:
        lines.append("  none")
    elif any(line.partition(":")[0].endswith("*") for line in lines[1:]):
        lines.append(MOSTLY_PRIOR_NOTE)
    return "\n".join(lines) + "\n"
