"""Tables and figure of the benchmark of supervised networks on idealised spectra.

``methods`` holds every :class:`Method` and ``scored`` its :class:`benchmarks.papers.supervised_scores.Scores`, by
name.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.papers.datasets import RIZZO_GROUPS, RIZZO_MOST
from benchmarks.papers.supervised_scores import METABOLITES, Scores, bounds, group_mean, percent_of_mean, scores

__all__ = [
    "Method",
    "bias_table",
    "cells_of",
    "end_errors",
    "in_order",
    "main_table",
    "table_by_metabolite",
    "verdict",
    "write_figure",
    "write_scores",
]


@dataclass(frozen=True)
class Method:
    """Estimates of a method in the test spectra, ``(n, 16)`` in mM; ``about`` are its further cells of the table."""

    estimates: np.ndarray
    about: tuple[str, ...] = ("",) * 5
    kind: str = "network"


_COLUMNS = ("kernels", "batches", "minutes", "million weights", "ms")


SNR_LIMITS = (16.7, 28.4)  # the paper's groups


def in_order(methods: dict, scored: dict) -> list[str]:
    """Return the names of methods: fits first, then networks and ensembles by their mean a R2."""
    rank = {"fit": 0, "network": 1, "ensemble": 2}
    return sorted(
        methods,
        key=lambda name: (rank[methods[name].kind], 0 if methods[name].kind == "fit" else -scored[name].linear.mean()),
    )


def cells_of(one: Scores) -> list[str]:
    """Return the cells of a R2 and sigma (%) of every group."""
    return [
        cell
        for group in RIZZO_GROUPS
        for cell in (f"{group_mean(one.concise, group):z.2f}", f"{group_mean(percent_of_mean(one.sigma), group):.1f}")
    ]


def main_table(methods, scored, limits, shown) -> list[str]:
    """Return the lines of the table of limits and methods."""
    lines = [
        "| | "
        + " | ".join(f"{group}: a R2 | sigma (%)" for group in RIZZO_GROUPS)
        + " | "
        + " | ".join(_COLUMNS)
        + " |",
        "|" + "---|" * (1 + 2 * len(RIZZO_GROUPS) + len(_COLUMNS)),
    ]
    lines += [
        f"| {name} | " + " | ".join([*cells_of(one), *[""] * len(_COLUMNS)]) + " |" for name, one in limits.items()
    ]
    return lines + [
        f"| {name} | " + " | ".join([*cells_of(scored[name]), *methods[name].about]) + " |" for name in shown
    ]


def verdict(methods, scored, order) -> list[str]:
    """Return a sentence on the best methods of every group."""
    compared = [name for name in order if not name.startswith("FSL-MRS")]  # measured on fewer spectra
    lines = [
        "Compared here by R2 times the slope or its inverse, whichever is below one: a slope that is too steep is no"
        " gain.\n"
    ]
    for group in RIZZO_GROUPS:
        linear = max(compared, key=lambda name: group_mean(scored[name].linear, group))
        exact = min(compared, key=lambda name: group_mean(percent_of_mean(scored[name].sigma), group))
        others = [name for name in compared if methods[name].kind != "fit"]
        best = max(others, key=lambda name: group_mean(scored[name].linear, group), default=None)
        least = min(others, key=lambda name: group_mean(percent_of_mean(scored[name].sigma), group), default=None)
        lines.append(
            f"- {group.capitalize()} represented: highest a R2 {linear}"
            f" ({group_mean(scored[linear].linear, group):z.3f}), lowest sigma {exact}"
            f" ({group_mean(percent_of_mean(scored[exact].sigma), group):.1f} %)."
            + (
                f" Best networks: {best} ({group_mean(scored[best].linear, group):z.3f}) and {least} "
                f"({group_mean(percent_of_mean(scored[least].sigma), group):.1f} %)."
                if best
                else ""
            )
        )
    lines.append(
        "- Always the mean has a sigma of 58 %: a network near it, or above, has learnt nothing there. FSL-MRS Newton"
        " is left out, because it fits a part of the spectra only."
    )
    return [*lines, ""]


def table_by_metabolite(limits, scored, shown, value, digits: int) -> list[str]:
    """Return the lines of a table of ``value(scores)`` by metabolite."""
    lines = ["| | " + " | ".join(METABOLITES) + " |", "|" + "---|" * (1 + len(METABOLITES))]
    for name, one in {**limits, **{name: scored[name] for name in shown}}.items():
        lines.append(f"| {name} | " + " | ".join(f"{number:z.{digits}f}" for number in value(one)) + " |")
    return lines


def write_scores(path: Path, scored: dict[str, Scores]) -> None:
    """Write all scores of all methods into a CSV file."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["method", "metabolite", "a", "q (mM)", "R2", "a R2", "sigma (mM)", "sigma (% of mean)"])
        for method, one in scored.items():
            columns = zip(METABOLITES, one.a, one.q, one.r2, one.concise, one.sigma, percent_of_mean(one.sigma))
            writer.writerows([method, name, *(f"{value:.5g}" for value in values)] for name, *values in columns)


def representative(methods, scored, order) -> list[str]:
    """Return the names of the fits, and of the best network and ensemble."""
    names = [name for name in ("ml", "posterior_mean") if name in methods]
    for kind in ("network", "ensemble"):
        names += [name for name in order if methods[name].kind == kind][:1]
    return names


def snr_groups(snr: np.ndarray) -> dict[str, np.ndarray]:
    """Return which spectra are in each of the paper's groups of SNR, by the group's name."""
    low, high = SNR_LIMITS
    return {
        f"below {low:g}": snr < low,
        f"{low:g} to {high:g}": (snr >= low) & (snr < high),
        f"above {high:g}": snr >= high,
    }


def end_errors(estimates: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return mean errors in the lowest and in the highest fifth of the range, in percent of it, ``(2, n_metabs)``."""
    most = np.array(list(RIZZO_MOST.values()))
    low, high = truth < 0.2 * most, truth > 0.8 * most
    error = 100 * (estimates - truth) / most
    return np.array([(error * rows).sum(0) / np.maximum(rows.sum(0), 1) for rows in (low, high)])


def bias_table(methods, scored, data, order) -> list[str]:
    """Return the lines on bias towards the middle of the range, by SNR and concentration."""
    bound = np.sqrt(np.diagonal(bounds(data), axis1=1, axis2=2))
    groups = list(RIZZO_GROUPS)
    lines = [
        "### Bias against SNR and concentration\n",
        (
            "Mean error where there is little (the lowest fifth of the range) / where there is much (the highest"
            " fifth), in percent of the range, and sigma over the Cramer-Rao bound (root mean squares), for the fits"
            " and the best network and ensemble. An estimate that leans towards the middle of what it was trained on is"
            " above zero in the first and below in the second, and its sigma can be below the bound.\n"
        ),
        "| SNR | | " + " | ".join(f"{group}: little / much | sigma / bound" for group in groups) + " |",
        "|" + "---|" * (2 + 2 * len(groups)),
    ]
    for label, rows in snr_groups(data["snr"]).items():
        least = np.sqrt(np.mean(bound[rows] ** 2, 0))
        for name in representative(methods, scored, order):
            one, truth = methods[name].estimates[rows], data["conc"][rows]
            ends, ratio = end_errors(one, truth), scores(one, truth).sigma / least
            cells = [
                cell
                for group in groups
                for cell in (
                    f"{group_mean(ends[0], group):+.1f} / {group_mean(ends[1], group):+.1f}",
                    f"{group_mean(ratio, group):z.2f}",
                )
            ]
            lines.append(f"| {label} | {name} | " + " | ".join(cells) + " |")
    return [*lines, ""]


_COLOURS = {"fit": "#009E73", "network": "#1f5fa8", "ensemble": "#c2571a"}


def write_figure(path: Path, methods, scored, limits, data, shown) -> None:
    """Plot concise scores of all methods by group, and the mean of estimates against the truth at low SNR."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(2, 3, figsize=(13, 8.5), layout="constrained")
    own = dict(zip((name for name in shown if methods[name].kind == "fit"), "sD^v"))
    for panel, group in zip(panels[0], RIZZO_GROUPS):
        first = group == "well"
        for (name, one), marker in zip(limits.items(), "x*PX"):
            x, y = group_mean(percent_of_mean(one.sigma), group), group_mean(one.concise, group)
            panel.plot(x, y, marker, color="#222222", markersize=10, linestyle="none", label=name if first else None)
        for name in shown:
            x, y = group_mean(percent_of_mean(scored[name].sigma), group), group_mean(scored[name].concise, group)
            kind, marker = methods[name].kind, own.get(name, "o")
            label = name if first and name in own else None
            panel.plot(x, y, marker, color=_COLOURS[kind], markersize=6, alpha=0.8, linestyle="none", label=label)
        # A network that has learnt nothing has 58 %; points far beyond are counted, but not shown.
        beyond = sum(not group_mean(percent_of_mean(scored[name].sigma), group) <= 75 for name in shown)
        if beyond:
            panel.text(0.98, 0.02, f"{beyond} beyond", transform=panel.transAxes, ha="right", fontsize=8)
        panel.set(title=f"{group} represented", xlabel="sigma (% of the mean)", ylabel="a R2", xlim=(0, 75))
        panel.grid(alpha=0.3)
    for kind in {methods[name].kind for name in shown} - {"fit"}:
        panels[0, 0].plot([], [], "o", color=_COLOURS[kind], label=f"{kind}s")
    panels[0, 0].legend(fontsize=7.5)
    order = in_order({name: methods[name] for name in shown}, scored)
    rows = data["snr"] < SNR_LIMITS[0]
    for panel, metabolite in zip(panels[1], ("tCho", "NAAG", "Asp")):
        k = METABOLITES.index(metabolite)
        most = RIZZO_MOST[metabolite]
        edges = np.linspace(0, most, 9)
        truth = data["conc"][rows, k]
        panel.plot([0, most], [0, most], color="#222222", linewidth=1)
        for name, colour in zip(representative(methods, scored, order), ("#009E73", "#CC79A7", "#1f5fa8", "#c2571a")):
            part = methods[name].estimates[rows, k]
            which = np.digitize(truth, edges[1:-1])
            middle, mean, sd = (
                np.array(
                    [function(values[which == bin_]) if (which == bin_).sum() > 1 else np.nan for bin_ in range(8)]
                )
                for values, function in ((truth, np.mean), (part, np.mean), (part, np.std))
            )
            panel.plot(middle, mean, "o-", color=colour, markersize=4, label=name)
            panel.fill_between(middle, mean - sd, mean + sd, color=colour, alpha=0.12, linewidth=0)
        panel.set(
            title=f"{metabolite}, SNR below {SNR_LIMITS[0]:g}", xlabel="truth (mM)", ylabel="mean estimate +- SD (mM)"
        )
        panel.grid(alpha=0.3)
    panels[1, 0].legend(fontsize=8)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
