"""The record of the trainings at their published length: a table, learning curves and model cards.

``long_trainings.md``, ``long_trainings.png`` and the folder ``long_trainings`` with a card (JSON) and a curve (CSV) for
each; the models themselves take hours and stay outside of the repository.
"""

from __future__ import annotations

import csv
import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.papers import long_measures, long_tables, quantification
from benchmarks.papers.long_trainings import LongTraining
from fsl_mrs_dl.io.files import json_content
from fsl_mrs_dl.io.output import whole_file, write_text
from fsl_mrs_dl.networks import model_cards

__all__ = ["Curve", "curve_of", "write_record"]


@dataclass(frozen=True)
class Curve:
    """Losses of a training by its batches: ``(n, 2)`` arrays of batch and loss, of training and of held-back data."""

    trained: np.ndarray
    held: np.ndarray


def curve_of(folder: Path) -> Curve:
    """Return the learning curve of a training; batches that were repeated after an interruption count once."""
    losses: dict[str, dict[int, float]] = {"train_total": {}, "val_total": {}}
    # 'csv', then 'csv_1', 'csv_2' and so on.
    for path in sorted(folder.glob("logs/csv*/metrics.csv"), key=lambda path: (len(path.parent.name), path)):
        with path.open(newline="") as lines:
            rows = [row for row in csv.DictReader(lines) if row.get("step")]
        if rows:
            begun = min(int(row["step"]) for row in rows)
            for name, values in losses.items():
                losses[name] = {step: loss for step, loss in values.items() if step < begun}
        for row in rows:
            for name, values in losses.items():
                if row.get(name):
                    values[int(row["step"])] = float(row[name])
    return Curve(*(np.array(sorted(values.items())).reshape(-1, 2) for values in losses.values()))


def _write_curve(path: Path, curve: Curve) -> None:
    """Write the losses at the validations: the mean of those of the batches in between, and that of held-back data."""
    lines, before = ["batch,loss of training,loss of held-back data"], -1.0
    for step, loss in curve.held:
        since = curve.trained[(curve.trained[:, 0] > before) & (curve.trained[:, 0] <= step), 1]
        lines.append(f"{int(step) + 1},{since.mean() if len(since) else math.nan:.6g},{loss:.6g}")
        before = step
    write_text(path, "\n".join(lines) + "\n")


def _in_parts(points: np.ndarray, n: int = 100) -> np.ndarray:
    """Return the means of ``n`` consecutive parts of a curve ``(n_points, 2)``: single batches scatter more than the
    loss falls."""
    return np.stack([part.mean(0) for part in np.array_split(points, min(n, len(points)))]) if len(points) else points


def _draw_curves(path: Path, curves: dict[str, Curve]) -> None:
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot, ticker

    columns = min(4, len(curves))
    n_rows = -(-len(curves) // columns)
    figure, panels = pyplot.subplots(
        n_rows, columns, figsize=(3 * columns, 2.4 * n_rows), layout="constrained", squeeze=False
    )
    for panel in panels.ravel()[len(curves) :]:
        panel.set_axis_off()
    for (name, curve), panel in zip(curves.items(), panels.ravel()):
        panel.semilogy(*_in_parts(curve.trained).T, color="#999999", linewidth=0.8, label="batches")
        panel.semilogy(*curve.held.T, color="#0072b2", linewidth=1.2, label="held back")
        panel.set_title(name, fontsize=9)
        panel.tick_params(which="both", labelsize=7)
        panel.xaxis.set_major_locator(ticker.MaxNLocator(5))
        panel.xaxis.set_major_formatter(ticker.EngFormatter(sep=""))
        panel.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 1.2, 1.5, 2, 3, 5, 7), numticks=20))
        panel.yaxis.set_minor_formatter(ticker.NullFormatter())
        panel.yaxis.set_major_formatter(ticker.StrMethodFormatter("{x:.3g}"))
        panel.grid(alpha=0.3)
    panels[0, 0].legend(fontsize=7)
    figure.supxlabel("batch", fontsize=9)
    figure.supylabel("loss", fontsize=9)
    with whole_file(path, path.suffix) as temporary:
        figure.savefig(temporary, dpi=110)
    pyplot.close(figure)


_VERSION = 2  # of what is measured


def _measured(training: LongTraining, folder: Path, card: model_cards.Card) -> dict:
    """Return the figures of a finished training; those of the same weights are read where they were measured before."""
    path = folder / "measured.json"
    if path.is_file():
        before = json_content(path.read_bytes())
        if before.get("sha256") == card["sha256"] and before.get("version") == _VERSION:
            return before["figures"]
    figures = long_measures.measure(training, folder)
    write_text(path, json.dumps({"sha256": card["sha256"], "version": _VERSION, "figures": figures}, indent=2) + "\n")
    return figures


def _core_hours(folder: Path) -> str:
    """Return the core-hours of a training under way, with a space, or nothing where there is no checkpoint."""
    from fsl_mrs_dl.training.checkpoints import last_checkpoint, read_checkpoint

    path = last_checkpoint(folder)
    return f"{read_checkpoint(path).get('fsl_mrs_dl_core_minutes', 0) / 60:.2f} " if path.is_file() else ""


def _minima(output: Path, place: Path) -> list[str]:
    """Return the lines on the minima of the losses; those that were measured before are read."""
    path, names = output / "minima.json", list(quantification.PAPER_R2["dq-nmm"])
    kept = place / "minima.json"
    if not path.is_file():
        before = json_content(kept.read_bytes()) if kept.is_file() else long_measures.minima()
        write_text(path, json.dumps(before, indent=2) + "\n")
    write_text(kept, path.read_text())
    lines = [
        "## Minima of the losses of DQ-nMM, DQ-pMM and DQ-rpMM\n",
        "The published loss is minimised for each of 128 spectra by itself, without a network: loss at the truth and at"
        " the minimum, and the coefficients of determination there, which a perfectly trained network would have."
        " A network can be above these where its size keeps it from the minimum, as a prior does.\n",
        f"| | loss, truth | loss, minimum | {' | '.join(names)} |",
        "|" + "---|" * (3 + len(names)),
    ]
    lines.append(
        "| paper, DQ-nMM | | | " + " | ".join(f"{quantification.PAPER_R2['dq-nmm'][n]:.2f}" for n in names) + " |"
    )
    for method, values in json_content(path.read_bytes()).items():
        scores = " | ".join(f"{values['R2, minimum'][name]:.2f}" for name in names)
        lines.append(f"| {method} | {values['loss, truth']:.3g} | {values['loss, minimum']:.3g} | {scores} |")
    return [*lines, ""]


_HEAD = (
    "# Networks at their published length\n",
    "Made by `nice -n 19 python -m benchmarks.scripts.long_trainings --output FOLDER`, one training at a time; the same"
    " command goes on after an interruption. Batch: the last one of the training, of the published number, or of that"
    " which the last part of this record gives. Core-hours are those of the processor, which at low priority are fewer"
    " than the clock's. Models are kept outside of the repository; their cards and learning curves are in the folder"
    " `long_trainings`.\n",
    "| training | state | batch | of | core-hours | loss of held-back data | seed | device | torch |",
    "|---|---|---|---|---|---|---|---|---|",
)


def _ended(one: LongTraining, folder: Path, place: Path) -> tuple[dict, dict] | None:
    """Return card and figures of a training that has ended, of a folder of models or, where it is not there, of the
    record; None if it has not."""
    card_path, figures_path = place / f"{one.name}.json", place / f"{one.name}.figures.json"
    if (folder / "card.json").is_file():
        card = model_cards.read_card(folder)
        write_text(card_path, json.dumps(card.content, indent=2) + "\n")
        write_text(figures_path, json.dumps(_measured(one, folder, card), indent=2) + "\n")
    if not (card_path.is_file() and figures_path.is_file()):
        return None
    return json_content(card_path.read_bytes()), json_content(figures_path.read_bytes())


def _row_of_ended(one: LongTraining, card: dict) -> str:
    done = card["training"]
    ended = "complete" if done["steps"] >= one.settings.steps else "no more gain"
    if done["timed"]:
        ended = "time limit"
    hours, loss = f"{done['core_minutes'] / 60:.2f}", f"{done['validation_loss']:.4g}"
    return (
        f"| {one.name} | {ended} | {done['steps']} | {one.settings.steps} | {hours} | {loss} | {done['seed']}"
        f" | {done['device']} | {card['versions']['torch']} |"
    )


def _row_of_unfinished(one: LongTraining, folder: Path, curve: Curve) -> str:
    at = int(curve.held[-1, 0]) + 1 if len(curve.held) else 0
    loss = f"{curve.held[:, 1].min():.4g}" if len(curve.held) else ""
    spent = _core_hours(folder)
    about = f"{spent}of about {one.core_hours:g}" if spent else f"about {one.core_hours:g}"
    # The curve of one that was interrupted for good stays in the record.
    state = ("under way" if spent else "interrupted") if at else "not begun"
    return f"| {one.name} | {state} | {at} | {one.settings.steps} | {about} | {loss} | | | |"


def _kept_curve(path: Path) -> Curve:
    """Return the learning curve that :func:`_write_curve` wrote."""
    values = np.loadtxt(path, delimiter=",", skiprows=1, ndmin=2)
    step = values[:, :1] - 1
    return Curve(np.hstack([step, values[:, 1:2]]), np.hstack([step, values[:, 2:3]]))


def write_record(trainings: list[LongTraining], output: Path, record: Path) -> Path:
    """Measure the trained networks in a folder, write their record into another one, and return the table's path.

    Trainings that ended before and are in that record stay in it, though their models are no longer in the folder.

    Parameters
    ----------
    trainings : list of LongTraining
    output : path
        Folder of the models.
    record : path
        Folder of the record, ``benchmarks`` for the one in the repository.
    """
    place = record / "long_trainings"
    place.mkdir(parents=True, exist_ok=True)
    rows, methods, curves, all_ended = [], [], {}, []
    for one in trainings:
        folder, ended = output / one.name, _ended(one, output / one.name, place)
        curve = curve_of(folder)
        if len(curve.held):
            _write_curve(place / f"{one.name}.csv", curve)
        elif (place / f"{one.name}.csv").is_file():
            curve = _kept_curve(place / f"{one.name}.csv")
        if len(curve.held):
            curves[one.name] = curve
        if ended is None:
            rows.append(_row_of_unfinished(one, folder, curve))
            continue
        card, figures = ended
        rows.append(_row_of_ended(one, card))
        all_ended.append((one, card["training"], figures))
        methods.append(f"- {one.name}: {' '.join(long_measures.sentences(one, figures))}")
    lines = [*_HEAD, *rows, ""]
    if curves:
        _draw_curves(record / "long_trainings.png", curves)
        lines += ["![Learning curves](long_trainings.png)\n"]
    lines += ["## What was reached\n", *(methods or ["No training has ended."]), ""]
    lines += long_tables.tables(all_ended, record)
    quantifiers = [one for one in trainings if one.benchmark == "quant" and (output / one.name / "card.json").is_file()]
    if quantifiers or any((folder / "minima.json").is_file() for folder in (output, place)):
        lines += _minima(output, place)
    lines += ["## What is published, and what differs\n"]
    lines += [f"- {one.name}: {one.published}. Here {one.deviations}." for one in trainings]
    path = record / "long_trainings.md"
    write_text(path, "\n".join(lines) + "\n")
    return path
