"""Tables of the trainings at their published length, beside the short trainings of the other records and the papers.

Rows of short trainings are read from the records in the same folder, so that a long training is compared with what is
printed there.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.papers import alignment, datasets, quantification
from benchmarks.papers.long_trainings import LongTraining
from fsl_mrs_dl.networks.self_supervised_quantification import METHODS

__all__ = ["cells_of_row", "tables"]

_QUANT_COLUMNS = tuple(quantification.PAPER_R2["dq-nmm"])
_RIZZO_COLUMNS = 6  # a R2 and sigma, of three groups


def cells_of_row(path: Path, heading: str, name: str) -> list[str] | None:
    """Return the cells after the first of a row of a Markdown table.

    Parameters
    ----------
    path : Path
        The file.
    heading : str
        Of the part that the table is in, with its signs '#'; parts of it are looked at, too.
    name : str
        What the first cell is, or what it begins with before a comma.

    Returns
    -------
    list of str, optional
        None where there is no such file, part or row.
    """
    if not path.is_file():
        return None
    depth, inside = heading.split(" ")[0], False
    for line in path.read_text().splitlines():
        if line.startswith("#"):
            inside = line == heading or (inside and len(line.split(" ")[0]) > len(depth))
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if inside and cells and (cells[0] == name or cells[0].startswith(f"{name}, published loss")):
            return cells[1:]
    return None


def _row(name: str, cells) -> str:
    texts = (one if isinstance(one, str) else f"{one:.3g}" if abs(one) < 10 else f"{one:.1f}" for one in cells)
    return f"| {name} | {' | '.join(texts)} |"


def _head(*columns: str) -> list[str]:
    return [f"| | {' | '.join(columns)} |", "|" + "---|" * (len(columns) + 1)]


def _duration(hours: float) -> str:
    return f"{hours:.2f} core-hours"


def _align(ended: dict, record: Path) -> list[str]:
    """Return Table 1 of the paper on frequency and phase correction."""
    path, heading = record / "align_paper.md", "## Table 1 of the paper"
    lines = [
        "### Frequency and phase correction\n",
        "As in [align_paper.md](align_paper.md), on the same 2400 transients: SD of the error of the shift (Hz) and of"
        " the phase (degrees), similarity index, width of creatine (Hz). 'Short' are the trainings of that record.\n",
        *_head("shift all", "without", "with", "phase all", "without", "with", "SI", "Cr width", "training"),
    ]
    for method in dict.fromkeys(one.method for one, _, _ in ended.values()):
        short = cells_of_row(path, heading, method)
        if short is not None:
            lines.append(_row(f"{method}, short", [*short[:8], f"{short[-1]} minutes"]))
        for name, (one, card, figures) in ended.items():
            if one.method == method:
                # Of models that are gone only these two figures may be known.
                cells = figures.get("cells") or [figures["shift"], "", "", figures["phase"], "", "", "", ""]
                lines.append(_row(f"{name}, long", [*cells, _duration(card["core_minutes"] / 60)]))
        lines.append(_row(f"{method}, paper", [*alignment.PAPER[method], ""]))
        least = cells_of_row(path, heading, f"{method}, its loss minimised")
        if least is not None:
            lines.append(_row(f"{method}, its loss minimised", [*least[:6], "", "", ""]))
    return [*lines, ""]


def _quant(ended: dict, record: Path) -> list[str]:
    """Return the coefficients of determination of the quantifiers that are trained without a truth."""
    lines = [
        "### Quantification\n",
        "Coefficients of determination on 256 spectra of the same kind as in [quant_paper.md](quant_paper.md), whose"
        " networks are 'short' here (2048 spectra there). 'Minimum': of the loss, for each spectrum by itself, without"
        " a network.\n",
        *_head(*_QUANT_COLUMNS, "training"),
        _row("paper, DQ-nMM", [*(f"{one:.2f}" for one in quantification.PAPER_R2["dq-nmm"].values()), ""]),
    ]
    for method in METHODS:
        own = {name: what for name, what in ended.items() if what[0].method == method}
        if not own:
            continue
        short = cells_of_row(record / "quant_paper.md", "## Accuracy: 2048 spectra", method)
        if short is not None:
            lines.append(_row(f"{method}, short", [*short[: len(_QUANT_COLUMNS)], ""]))
        for name, (_, card, figures) in own.items():
            cells = [f"{figures['R2, network'][metab]:.2f}" for metab in _QUANT_COLUMNS]
            lines.append(_row(f"{name}, long", [*cells, _duration(card["core_minutes"] / 60)]))
        least = next(iter(own.values()))[2]["R2, minimum"]
        lines.append(_row(f"{method}, minimum", [*(f"{least[metab]:.2f}" for metab in _QUANT_COLUMNS), ""]))
    return [*lines, ""]


def _errors(ended: dict, record: Path) -> list[str]:
    """Return the errors of wavelet scattering and of networks of scalograms."""
    path = record / "supervised.md"
    lines = [
        "### Wavelet scattering and scalograms\n",
        "SMAPE (%), as in [supervised.md](supervised.md), whose networks are 'short' here.\n",
        *_head("short", "long", "paper", "least possible", "training"),
    ]
    for name, (one, card, figures) in ended.items():
        if one.job.part == "dss":
            short = cells_of_row(path, "## Wavelet scattering on DSS1 to DSS7", one.job.data)
        else:
            short = cells_of_row(path, "## Scalogram and spectrum", one.method)
        paper, least = datasets.DSS_SMAPE.get(one.job.data), figures.get("least possible")
        texts = ("" if value is None else f"{value:.2f}" for value in (figures["SMAPE"], paper, least))
        cells = ["" if short is None else short[0], *texts, _duration(card["core_minutes"] / 60)]
        lines.append(_row(name, cells))
    return [*lines, ""]


def _rizzo(ended: dict, record: Path) -> list[str]:
    """Return the concise scores of the supervised networks."""
    path = record / "supervised.md"
    columns = [f"{group}: {what}" for group in datasets.RIZZO_GROUPS for what in ("a R2", "sigma (%)")]
    lines = [
        "### Supervised networks\n",
        "Concise scores, as in [supervised.md](supervised.md), whose networks, with fewer kernels, are 'short' here.\n",
        *_head(*columns, "training"),
    ]
    limit = cells_of_row(path, "## Idealised spectra", "limit, ranges known")
    if limit is not None:
        lines.append(_row("limit, ranges known", [*limit[:_RIZZO_COLUMNS], ""]))
    for method in dict.fromkeys(one.method for one, _, _ in ended.values()):
        short = cells_of_row(path, "## Idealised spectra", method)
        if short is not None:
            lines.append(_row(f"{method}, short", [*short[:_RIZZO_COLUMNS], f"{short[-3]} minutes"]))
        for name, (one, card, figures) in ended.items():
            if one.method == method:
                cells = []
                for group in datasets.RIZZO_GROUPS:
                    cells += [f"{figures[f'a R2, {group}']:.2f}", f"{figures[f'sigma, {group}']:.1f}"]
                lines.append(_row(f"{name}, long", [*cells, _duration(card["core_minutes"] / 60)]))
    return [*lines, ""]


def tables(ended: list[tuple[LongTraining, dict, dict]], record: Path) -> list[str]:
    """Return the lines of the tables.

    Parameters
    ----------
    ended : list of tuple
        Trainings that have ended: which, the part 'training' of its card, its figures.
    record : Path
        Folder of the other records.
    """
    parts = {
        _align: lambda one: one.benchmark == "align",
        _quant: lambda one: one.benchmark == "quant",
        _errors: lambda one: one.job is not None and one.job.part in ("dss", "scalogram"),
        _rizzo: lambda one: one.job is not None and one.job.part == "networks",
    }
    lines = ["## Beside short trainings and the papers\n"]
    for write, belongs in parts.items():
        own = {one.name: (one, card, figures) for one, card, figures in ended if belongs(one)}
        if own:
            lines += write(own, record)
    return lines if len(lines) > 1 else []
