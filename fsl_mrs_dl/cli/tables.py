"""Tables for the terminal."""

from __future__ import annotations

__all__ = ["text_table", "print_if_little_learnt", "members_text", "short_text", "range_text", "print_accuracy"]


def _or_dash(value):
    """A number's format as a function; a dash for what is not known."""
    import math

    return lambda form: format(value, form) if math.isfinite(value) else f"{'-':>{int(form.split('.')[0])}}"


def text_table(fitted) -> str:
    """Concentrations for the terminal: of the spectrum, or the median over several."""
    import warnings

    import numpy as np

    from ..core.metabolites import is_macromolecule
    from ..results import layout, tables

    fit = fitted.fit
    rows = np.flatnonzero(fit.usable)
    conc, sd = fitted.table
    ratio = fitted.reference is not None
    name = "/" + "+".join(fitted.internal_ref)
    lines = []
    if len(fit.params) > 1:
        lines.append(f"{len(rows)} of {len(fit.params)} spectra fitted; medians:")
    head = f"{'Metab':<10}{'conc':>10}{'SD':>9}{'%SD':>6}" + (f"{name:>12}{'SD':>8}" if ratio else "")
    more, unit = [], 1.0
    for title, estimate, there in (
        ("posterior", "posterior_mean", fit.posterior is not None),
        ("network", "network", fit.networks is not None),
    ):
        if there and estimate != fitted.estimate:
            values = fit.table(fitted.sums, estimate)[1]
            with np.errstate(all="ignore"), warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)
                unit = values[:, [fitted.names.index(name[1:])]] if ratio else 1.0
                more.append(np.nanmedian((values / unit)[rows], 0))
            head += f"{title:>11}"
    head += f"{'% prior':>9}" if fit.posterior is not None else ""
    lines += [head, "-" * len(head)]
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of what is known nowhere
        middle = lambda values, column: _or_dash(np.nanmedian(values[rows, column]))  # noqa: E731
        percent = fitted.percent()
        for column, metab in enumerate(fitted.names):
            line = (
                f"{metab:<10}{middle(conc, column)('10.4g')}{middle(sd, column)('9.2g')}"
                f" {middle(percent, column)('5.0f')}"
            )
            if ratio:
                line += f"{middle(fitted.ratios[0], column)('12.3f')} {middle(fitted.ratios[1], column)('7.3g')}"
            line += "".join(f" {_or_dash(values[column])('10.3f')}" for values in more)
            if fit.posterior is not None:
                pull = np.nanmedian(fitted.pull[rows, column])
                line += _or_dash(100 * pull)("8.0f") + ("*" if pull > tables.MOSTLY_PRIOR else "")
                line += "!" if fitted.conflict[rows, column].mean() > 0.5 else ""
            lines.append(line)
    spread = (
        "the networks' spread"
        if fit.networks is not None and len(fit.networks) > 1
        else "not known of a single network"
    )
    bound = {"ml": "the Cramer-Rao bound", "posterior_mean": "the posterior's", "network": spread}[fitted.estimate]
    lines.append(f"residual / noise {np.nanmedian(fit.misfit):.2f}; SD is {bound}; initial values {fit.init}")
    if fit.posterior is not None:
        lines.append(
            f"Posterior: {fit.posterior.prior.source} and the data{', as ratio' if ratio else ''}; % prior is what the"
            " data left standing of it, * mostly prior, ! the data say something else than what was expected."
        )
    if fit.network_note:
        lines.append(fit.network_note)
    strange = int((fit.ood[rows] > layout.OOD_LIMIT).sum())
    if strange:
        what = "The spectrum is" if len(fit.params) == 1 else f"{strange} of {len(rows)} spectra are"
        lines.append(
            f"{what} unlike clean data (score {np.nanmax(fit.ood[rows]):.1f}, above 1; column ood_score in"
            " uncertainty.csv)."
        )
    if np.nanmedian(fit.misfit[rows]) > 1.5:
        tried = fit.model.baseline.mode == "spline"
        remedies = [] if tried else ["--baseline 'spline, moderate'"]
        remedies += [] if any(is_macromolecule(name) for name in fit.names) else ["macromolecules (--mm)"]
        advice = f": try {' or '.join(remedies)}." if remedies else "."
        lines.append(f"The model misses more than noise, so the SDs are too small{advice}")
    for tag, size in zip(fitted.data.dim_tags, fitted.data.fids.shape[4:]):
        if size > 1:
            remedy = (
                "combine coils first (fsl_mrs_proc coilcombine)"
                if tag == "DIM_COIL"
                else f"--average {tag} fits their mean"
            )
            lines.append(f"{tag} has {size} elements, fitted one by one: {remedy}.")
    if not ratio:
        lines.append(
            f"No ratios: {'+'.join(fitted.internal_ref)} was not fitted; choose a reference with --internal_ref."
        )
    if not fit.converged[rows].all():
        lines.append(
            f"{int((~fit.converged[rows]).sum())} of {len(rows)} fits did NOT converge and should not be used as they"
            " are (column converged in uncertainty.csv): give fewer --metab_groups, or leave out what the data do not"
            " hold."
        )
    return "\n".join(lines)


def print_if_little_learnt(card) -> None:
    from ..networks import model_cards

    if card.kind.startswith("supervised") and model_cards.little_learnt(card):
        print(
            "It has learnt little yet: its answers say hardly more than the middle of what it was trained on. Train"
            " longer."
        )


def members_text(done: dict) -> str:
    """What the networks took that this one is made of."""
    each = [f"{one['encoder']} {one['steps']} steps, {one['minutes']:.1f} minutes" for one in done.get("members", ())]
    return f" (members: {'; '.join(each)})" if each else ""


def _scores_table(accuracy: dict) -> str:
    """What a supervised network is worth, a line for each metabolite."""
    import numpy as np

    from ..networks.supervised_quantification import SCORES

    heads = ("R2", "slope", "intercept", "RMSE")
    lines = [f"  {'':<12}" + "".join(f"{head:>10}" for head in heads)]
    columns = [accuracy[label] for label in SCORES]
    lines += [f"  {name:<12}" + "".join(f"{column[name]:10.3g}" for column in columns) for name in columns[0]]
    if columns[0]:
        lines.append(
            f"  {'median':<12}" + "".join(f"{np.median(list(column.values())):10.3g}" for column in columns[:2])
        )
    return "\n".join(
        [*lines, "  Slope of found against true; intercept and RMSE in the units of the recipe's concentrations."]
    )


def short_text(value) -> str:
    if isinstance(value, dict):
        return f"({', '.join(f'{key} {short_text(one)}' for key, one in value.items() if one)})"
    if isinstance(value, list) and value and all(isinstance(one, dict) and "encoder" in one for one in value):
        return ", ".join(one["encoder"] for one in value)
    return f"{len(value)} of them" if isinstance(value, list) and len(value) > 4 else str(value)


def range_text(key: str, allowed) -> str:
    from ..networks.model_cards import RANGE_WORDS

    name = RANGE_WORDS.get(key, key)
    if all(isinstance(one, str) for one in allowed):
        return f"{name} {', '.join(allowed)}"
    low, high = allowed
    if high >= 1e8 or high > 0 and 1 < high / max(low, 1e-30) < 1.02:
        return f"{name} from {low:g}" if high >= 1e8 else f"{name} {(low * high) ** 0.5:.4g}"
    return f"{name} {low:g} to {high:g}"


def print_accuracy(card, only=()) -> None:
    from ..networks import supervised_quantification

    if set(supervised_quantification.SCORES) <= set(card["accuracy"]):
        print(_scores_table(card["accuracy"]))
        return
    for label, terms in card["accuracy"].items():
        if only and label not in only:
            continue
        if isinstance(terms, dict):
            print(f"  {label}:")
            for name, value in terms.items():
                print(f"    {value:<10.4g} {name}")
        else:
            print(f"  {label}: {terms}")
