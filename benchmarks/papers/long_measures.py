"""Figures of the trainings at their published length, and the reason where a paper's figure is not reached.

Three things can be the reason.  The loss: its minimum, for every signal by itself, is no closer to the truth than the
paper's figure.  The data: the loss of the spectra that were trained on is far below that of others.  The training: the
answers of the network are far from the minimum of its loss on all spectra alike.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from benchmarks.papers import (
    alignment,
    datasets,
    quantification,
    quantification_data,
    quantification_measures,
    supervised,
    supervised_scores,
    supervised_trainings,
)
from benchmarks.papers.long_trainings import LongTraining
from benchmarks.papers.supervised_scores import percent_of_mean
from fsl_mrs_dl.networks import model_cards
from fsl_mrs_dl.networks.self_supervised_quantification import METHODS
from fsl_mrs_dl.simulation import random_spectra
from fsl_mrs_dl.training.batches import protocol_for, seeded
from fsl_mrs_dl.training.self_supervised_quantification import SelfSupervisedTraining

__all__ = ["measure", "minima", "sentences"]

_TEST_SEED = 1_000_003  # that of the benchmarks' tables
_N_ALIGN, _N_MINIMISED, _N_QUANT, _N_DSS, _N_RIZZO = 2400, 800, 256, 1000, 1000


def measure(training: LongTraining, folder: Path) -> dict:
    """Return the figures of a trained network, as JSON."""
    network, _ = model_cards.load(folder)
    if training.benchmark == "align":
        signal = alignment.load_signal()
        data = alignment.make_set(signal, _N_ALIGN, _TEST_SEED)
        cells = alignment.cells_of(alignment.answers_of(network)(data["fid"]), data, signal)
        few = {key: values[:_N_MINIMISED] for key, values in data.items()}
        return {"shift": cells[0], "phase": cells[3], "cells": cells} | alignment.losses(network, few)
    if training.benchmark == "quant":
        basis = quantification_data.load_basis()
        return quantification_measures.losses(network, basis, quantification_data.make_set(basis, _N_QUANT, _TEST_SEED))
    return _supervised(training.job, network, folder)


def minima(n: int = 128) -> dict[str, dict]:
    """Return the losses of DQ-nMM, DQ-pMM and DQ-rpMM at the truth and at their minima, and the coefficients of
    determination there, on the paper's data; no network takes part."""
    basis = quantification_data.load_basis()
    data = quantification_data.make_set(basis, n, _TEST_SEED)
    values = {}
    for method in METHODS:
        network = SelfSupervisedTraining(method, basis, recipe="shamaei-table2").network(0)
        values[method] = quantification_measures.losses(network.eval(), basis, data)
    return values


def _supervised(job: supervised_trainings.Job, network, folder: Path) -> dict:
    """Return losses on spectra that were trained on and on others, and the scores of the benchmark."""
    values = _losses(job, network)
    if job.part == "dss":
        names, errors = supervised.dss_errors(folder, job.data, _N_DSS, 0)
        limit = supervised_scores.dss_limit(job.data, 40, _TEST_SEED, job.n_points)
        return values | {"SMAPE": float(errors.mean()), "least possible": limit}
    if job.part == "scalogram":
        names, errors = supervised.dss_errors(folder, job.data, _N_DSS, 0)
        return values | {"SMAPE": float(errors.mean())}
    data = supervised_scores.make_rizzo(_N_RIZZO, _TEST_SEED)
    method = supervised.measure_network(folder, data, datasets.rizzo_basis(), job)
    scores = supervised_scores.scores(method.estimates, data["conc"])
    limit = supervised_scores.limits_of(data)["limit, ranges known"]
    for group in datasets.RIZZO_GROUPS:
        values[f"a R2, {group}"] = supervised_scores.group_mean(scores.concise, group)
        values[f"sigma, {group}"] = supervised_scores.group_mean(percent_of_mean(scores.sigma), group)
        values[f"a R2 of the best linear estimate, {group}"] = supervised_scores.group_mean(limit.concise, group)
    return values


def _losses(job: supervised_trainings.Job, network) -> dict[str, float]:
    """Return the mean loss of spectra trained on, of those held back, and of the mean of all as the answer."""
    basis, recipe = supervised_trainings.basis_and_recipe(job.data)
    protocol = protocol_for(basis, basis.dwelltime, job.n_points)
    # As in fsl_mrs_dl.training.batches.fixed_set: the first tenth is held back.
    n_batches, first_used = max(1, 256 // job.batch_size), -(-job.signals // 10 // job.batch_size) + 1
    values = {}
    for label, first in (("held back", 0), ("trained on", first_used)):
        loss, alone, n = 0.0, [], 0
        for index in range(first, first + n_batches):
            generator = seeded(job.seed, 5_000_000 + index)
            drawn = random_spectra.draw(recipe, job.batch_size, protocol.names, generator)
            fid = random_spectra.render(drawn, protocol).fid
            with torch.no_grad():
                targets = network.targets(fid, drawn["conc"])
                loss += float(network.loss_of_views(network.views(fid), targets))
            alone.append(targets)
            n += 1
        values[f"loss, {label}"] = loss / n
        if label == "held back":
            values["loss, always the mean"] = float(torch.cat(alone).var(0, correction=0).mean())
    return values


def _against(what: str, own: float, least: float, paper: float, unit: str, lower: bool = True) -> str:
    """Return a sentence on a figure, that at the minimum of the loss, and the paper's."""
    worse = (lambda a, b: a > b) if lower else (lambda a, b: a < b)
    unit = f" {unit}" if unit else ""
    figures = f"{own:.3g} against the paper's {paper:.3g}{unit}"
    if not worse(own, paper):
        return f"{what}: reached, {figures}."
    if worse(least, paper):
        reason = "so that the loss on these data is the reason, not the training"
    else:
        reason = "so that the training is the reason"
    return f"{what}: not reached, {figures}; the minimum of the loss has {least:.3g}, {reason}."


_FOUND_BY_TRAINING = 1.5  # a loss of held-back spectra over that of others, above which the data are the reason


def sentences(training: LongTraining, measured: dict) -> list[str]:
    """Return what was reached, and why not, in sentences."""
    if training.benchmark == "align":
        paper = alignment.PAPER[training.method]
        lines = [
            _against("SD of the shift", measured["shift"], measured["shift, minimum"], paper[0], "Hz"),
            _against("SD of the phase", measured["phase"], measured["phase, minimum"], paper[3], "degrees"),
        ]
        return [*lines, f"Loss {measured['loss, network']:.3g}, at the minimum {measured['loss, minimum']:.3g}."]
    if training.benchmark == "quant":
        own, least = measured["R2, network"], measured["R2, minimum"]
        paper = quantification.PAPER_R2.get(training.method, {})
        lines = [_against(f"R2 of {name}", own[name], least[name], one, "", lower=False) for name, one in paper.items()]
        losses = ", ".join(f"{what} {measured[f'loss, {what}']:.3g}" for what in ("network", "minimum", "truth"))
        means = ", ".join(
            f"{label} {np.mean([values[name] for name in quantification.COMPARED]):.2f}"
            for label, values in (("network", own), ("minimum of the loss", least))
        )
        return [*lines, f"Mean R2 of {', '.join(quantification.COMPARED)}: {means}.", f"Loss: {losses}."]
    used, held, mean = (measured[f"loss, {what}"] for what in ("trained on", "held back", "always the mean"))
    why = "the data" if held > _FOUND_BY_TRAINING * used else "the training, or the size of the network"
    losses = f"Loss of spectra trained on {used:.3g}, of others {held:.3g}, of the mean as the answer {mean:.3g}"
    if "SMAPE" not in measured:
        groups = [
            f"{group} {measured[f'a R2, {group}']:.2f} (best linear estimate"
            f" {measured[f'a R2 of the best linear estimate, {group}']:.2f})"
            for group in datasets.RIZZO_GROUPS
        ]
        return [f"a R2: {', '.join(groups)}.", f"{losses}: what is missing is due to {why}."]
    paper = datasets.DSS_SMAPE.get(training.job.data)
    if paper is None:
        return [f"SMAPE {measured['SMAPE']:.2f} %.", f"{losses}."]
    figures = f"SMAPE {measured['SMAPE']:.2f} % against the paper's {paper:.2f} %"
    if measured["SMAPE"] <= paper:
        return [f"Reached, {figures}.", f"{losses}."]
    if measured["least possible"] > paper:
        why = "the data, whose least possible error is larger"
    least = f"least possible {measured['least possible']:.2f} %"
    return [f"Not reached, {figures}; {least}.", f"{losses}: the reason is {why}."]
