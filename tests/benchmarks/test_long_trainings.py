"""Trainings at their published length: the queue, its record, and the reasons that it gives; all on tiny trainings."""

import json
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks.papers import (
    alignment,
    datasets,
    long_measures,
    long_record,
    long_tables,
    long_trainings,
    quantification_measures,
    quantification_trainings,
)
from benchmarks.papers.loss_minimum import minimise
from benchmarks.scripts import gpu
from benchmarks.scripts import long_trainings as queue
from fsl_mrs_dl.core.errors import OptionError
from fsl_mrs_dl.io.basis import Basis
from fsl_mrs_dl.networks.self_supervised_quantification import METHODS

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.filterwarnings("ignore")]


def test_lengths_are_those_of_the_papers_or_ten_times_the_short_ones():
    every = {one.name: one for one in long_trainings.long_trainings()}
    assert len(every) == len(long_trainings.long_trainings())
    for name in ("dsr-k-means", "dsr-mean", "dsrf-k-means", "dsrf-mean", "dcrr", "dcrrf"):
        settings = every[name].settings
        assert settings.steps * settings.batch_size == 150 * 21600 and settings.validate_every == 1350
        assert (settings.batch_size, settings.learning_rate, settings.rate_schedule) == (16, 4e-5, "constant")
        assert settings.patience == 10 and settings.weight_decay == 0
    short = {network.name: 10000 * network.share for network in quantification_trainings.networks_of(["accuracy"])}
    for name in ("dq-nmm", "dq-pmm", "dq-rpmm"):
        settings = every[name].settings
        assert settings.steps >= 10 * short[name] and settings.steps % 675 == 0 and settings.validate_every == 675
        assert (settings.batch_size, settings.learning_rate, settings.rate_schedule) == (128, 1e-3, "cosine")
        assert f"{settings.steps // 675} epochs" in every[name].deviations
    for name in ("dq-rpmm-cnn-15", "dq-rpmm-fc-100"):
        assert (every[name].settings.learning_rate, every[name].settings.rate_schedule) == (1e-4, "plateau")


def test_large_networks_can_go_on_after_ten_minutes_and_are_trained_with_few_kernels_too():
    every = {one.name: one for one in long_trainings.long_trainings()}
    large, few = every["inceptionnet-2d1c"], every["inceptionnet-2d1c_few-kernels"]
    # 67 seconds for a batch.
    assert large.settings.validate_every == 8 and large.settings.validation_batches == 4
    assert large.settings.patience == 0 and large.settings.max_core_minutes == 360
    assert large.job.arguments.get("share", 1.0) == 1.0 and few.job.arguments["share"] == 0.0625
    assert few.settings.max_core_minutes == 90 and few.settings.patience == 10
    assert "6.25 % of the kernels" in few.deviations and few.settings.learning_rate == 0.002
    assert every["wscn_DSS4"].settings.validation_batches == 32


def test_a_minimum_is_found_for_every_signal_and_the_least_is_kept():
    wanted = torch.tensor([[1.0, 2.0], [0.5, 4.0]])
    start = {"conc": torch.ones(2, 2), "shift_hz": torch.zeros(2)}
    shift = torch.tensor([3.0, -1.0])

    def misfit(values):
        return (values["conc"] - wanted).square().sum(-1) + (values["shift_hz"] - shift).square()

    found = minimise(misfit, start, {"shift_hz": 1.0}, steps=200, rate=0.1)
    np.testing.assert_allclose(found["conc"], wanted, atol=0.01)
    np.testing.assert_allclose(found["shift_hz"], shift, atol=0.01)
    worse = minimise(
        lambda values: misfit(values) + 0 * values["shift_hz"], found, {"shift_hz": 1.0}, steps=1, rate=5.0
    )
    assert (misfit(worse) <= misfit(found)).all()


@pytest.mark.parametrize("method", METHODS)
def test_the_minimum_of_a_loss_is_below_the_truth_and_the_network(method):
    time_s = np.arange(512) * 5e-4
    hz, width = np.array([-330.0, -200.0, -410.0, -450.0]), np.array([3.0, 3.0, 60.0, 70.0])
    lines = np.exp(2j * np.pi * hz[:, None] * time_s - width[:, None] * time_s)
    basis = Basis(lines, ("NAA", "Cr", "MM09", "MM06"), 5e-4, 123.2)
    rng = np.random.default_rng(0)
    conc = rng.uniform(4, 8, (6, 4))
    fids = conc @ lines + 0.05 * (rng.normal(size=(6, 512)) + 1j * rng.normal(size=(6, 512)))
    zero = np.zeros(6)
    data = {"fid": fids, "conc": conc, "lorentz_hz": zero + 0.3, "shift_hz": zero, "phi0": zero}
    data["fid"] = data["fid"] * np.exp(-0.3 * np.pi * time_s)
    torch.manual_seed(0)
    network = METHODS[method](list(basis.names), 5e-4, 123.2, n_points=512)
    network.set_basis(lines)
    values = quantification_measures.losses(network, basis, data, steps=60)
    assert values["loss, minimum"] <= min(values["loss, truth"], values["loss, network"])
    assert values["loss, network"] > 5 * values["loss, truth"]
    assert min(values["R2, minimum"].values()) > 0.9 > max(values["R2, network"].values())


def test_sentences_say_what_is_the_reason():
    every = {one.name: one for one in long_trainings.long_trainings()}
    measured = {"shift": 1.0, "shift, minimum": 0.7, "phase": 7.0, "phase, minimum": 6.5}
    measured |= {"loss, network": 0.011, "loss, minimum": 0.010}
    shift, phase, loss = long_measures.sentences(every["dsr-k-means"], measured)
    assert "reached, 1 against the paper's 1.02 Hz" in shift
    assert "not reached" in phase and "the loss on these data is the reason" in phase
    (phase,) = long_measures.sentences(every["dsr-k-means"], measured | {"phase, minimum": 5.0})[1:2]
    assert "the training is the reason" in phase
    measured = {"loss, trained on": 1e-3, "loss, held back": 3e-3, "loss, always the mean": 0.1}
    measured |= {"SMAPE": 1.9, "least possible": 0.0}
    assert "the reason is the data." in long_measures.sentences(every["wscn_DSS4"], measured)[1]
    assert "Reached" in long_measures.sentences(every["wscn_DSS4"], measured | {"SMAPE": 1.6})[0]
    scores = dict.fromkeys(("Cr", "Glu", "GPC", "Ins", "NAA", "NAAG", "PCho", "PCr", "Tau"), 0.7)
    measured = {"R2, network": scores, "R2, minimum": scores | {"Cr": 0.95}}
    measured |= {f"loss, {what}": 1e-5 for what in ("network", "minimum", "truth")}
    text = " ".join(long_measures.sentences(every["dq-nmm"], measured))
    assert "R2 of Cr: not reached, 0.7 against the paper's 0.88; the minimum of the loss has 0.95" in text
    assert "R2 of PCho: reached" in text


def test_tables_have_the_short_trainings_of_the_other_records_the_long_ones_and_the_papers(tmp_path):
    every = {one.name: one for one in long_trainings.long_trainings()}
    (tmp_path / "align_paper.md").write_text(
        "# A\n\n## Table 1 of the paper\n\n| | x |\n|---|---|\n"
        "| dcrr | 1.27 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 0.05 | 11 |\n"
        "\n## Beyond\n\n| dcrr | 99 |\n| dsr | 98 |\n"
    )
    (tmp_path / "quant_paper.md").write_text(
        "## Accuracy: 2048 spectra\n\n| dq-rpmm, published loss, 6000 batches | "
        + " | ".join(["0.31"] * 9)
        + " | 0.4 |\n"
    )
    (tmp_path / "supervised.md").write_text(
        "## Idealised spectra\n\n| unet-1dr | 0.14 | 1 | 2 | 3 | 4 | 5 | 6.25 % | 80 | 2.8 | 0.14 | 2.06 |\n"
        "## Wavelet scattering on DSS1 to DSS7\n\n| DSS4 | 1.99 | 1.70 |\n"
    )
    scores = dict.fromkeys(("Cr", "Glu", "GPC", "Ins", "NAA", "NAAG", "PCho", "PCr", "Tau"), 0.5)
    rizzo = {f"{what}, {group}": 0.5 for what in ("a R2", "sigma") for group in datasets.RIZZO_GROUPS}
    ended = [
        (every["dcrr"], {"core_minutes": 90}, {"cells": [1.116, 1, 2, 5.7, 3, 4, 0.46, 10.1]}),
        (every["dsr-mean"], {"core_minutes": 60}, {"shift": 1.5, "phase": 10.0}),
        (every["dq-rpmm"], {"core_minutes": 180}, {"R2, network": scores, "R2, minimum": scores | {"Cr": 0.9}}),
        (every["wscn_DSS4"], {"core_minutes": 6}, {"SMAPE": 1.98, "least possible": 0.0}),
        (every["unet-1dr"], {"core_minutes": 360}, rizzo),
        (every["unet-1dr_few-kernels"], {"core_minutes": 90}, rizzo),
    ]
    lines = long_tables.tables(ended, tmp_path)
    assert "| dcrr, short | 1.27 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 11 minutes |" in lines
    assert "| dcrr, long | 1.12 | 1 | 2 | 5.7 | 3 | 4 | 0.46 | 10.1 | 1.50 core-hours |" in lines
    assert "| dsr-mean, long | 1.5 |  |  | 10.0 |  |  |  |  | 1.00 core-hours |" in lines
    assert not any(line.startswith("| dsr, short") for line in lines), "a row of another table"
    assert any(line.startswith("| dcrr, paper | 0.94 |") for line in lines)
    assert any(line.startswith("| dq-rpmm, short | 0.31 |") for line in lines)
    assert any(line.startswith("| dq-rpmm, minimum | 0.90 | 0.50 |") for line in lines)
    assert "| wscn_DSS4 | 1.99 | 1.98 | 1.70 | 0.00 | 0.10 core-hours |" in lines
    assert lines.count("| unet-1dr, short | 0.14 | 1 | 2 | 3 | 4 | 5 | 2.8 minutes |") == 1
    assert "| unet-1dr_few-kernels, long | 0.50 | 0.5 | 0.50 | 0.5 | 0.50 | 0.5 | 1.50 core-hours |" in lines
    assert long_tables.tables([], tmp_path) == []
    widths = {line.count("|") for line in lines[lines.index(ended_head(lines, "shift all")) :][:8] if line}
    assert len(widths) == 1, "rows of one table have different numbers of cells"


def ended_head(lines, first):
    """The head of a table by its first column."""
    return next(line for line in lines if line.startswith(f"| | {first}"))


@pytest.fixture
def tiny(monkeypatch):
    """Make one training of dSR tiny, on transients of one line."""
    time_s = np.arange(1024) / 4400
    fid = np.exp((2j * np.pi * (3.027 - 4.65) * 400.2 - 30) * time_s) + np.exp(
        -2j * np.pi * 1050 * time_s - 30 * time_s
    )
    signal = alignment.Signal(torch.as_tensor(fid).to(torch.complex64), 1 / 4400, 400.2)
    monkeypatch.setattr(alignment, "load_signal", lambda: signal)
    monkeypatch.setattr(long_trainings, "_ALIGN_SIGNALS", 60)
    monkeypatch.setattr(long_measures, "_N_ALIGN", 40)
    monkeypatch.setattr(long_measures, "_N_MINIMISED", 8)
    (one,) = [one for one in long_trainings.ALIGN if one.name == "dsr-mean"]
    settings = replace(one.settings, steps=12, validate_every=3, validation_batches=1, progress=False, device="cpu")
    one = replace(one, settings=settings)
    monkeypatch.setattr(queue, "long_trainings", lambda: [one])
    return one


def test_the_queue_goes_on_and_records_what_has_ended(tiny, tmp_path, monkeypatch, capsys):
    pytest.importorskip("lightning", reason="Lightning is not installed (pip install 'fsl_mrs_dl[train]')")
    calls, minimised = [], alignment.minimised
    monkeypatch.setattr(alignment, "minimised", lambda network: minimised(network, steps=5))
    misfit = alignment.self_supervised_registration.Registration.loss

    def interrupted(self, fid):
        calls.append(1)
        if len(calls) == 9:
            raise KeyboardInterrupt
        return misfit(self, fid)

    monkeypatch.setattr(alignment.self_supervised_registration.Registration, "loss", interrupted)
    words = ["--output", str(tmp_path), "--device", "cpu"]
    assert queue.main(words) == 130 and "the same command goes on" in capsys.readouterr().out
    assert not (tmp_path / "dsr-mean/card.json").exists()
    assert queue.main(words) == 0
    content = json.loads((tmp_path / "record/long_trainings/dsr-mean.json").read_text())["training"]
    assert content["steps"] == 12 and content["core_minutes"] >= 0 and content["learning_rate"] == 4e-5
    curve = (tmp_path / "record/long_trainings/dsr-mean.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in curve] == ["batch", "3", "6", "9", "12"]
    text = (tmp_path / "record/long_trainings.md").read_text()
    assert "| dsr-mean | complete | 12 | 12 |" in text and "- dsr-mean: SD of the shift:" in text
    assert (tmp_path / "record/long_trainings.png").stat().st_size > 1000
    # Measured once, and found by the benchmark.
    monkeypatch.setattr(long_measures, "measure", None)
    assert queue.main([*words, "--record", str(tmp_path / "again")]) == 0
    # Kept in the record without the models.
    assert queue.main(["--output", str(tmp_path / "none"), "--record", str(tmp_path / "again")]) == 0
    assert (tmp_path / "again/long_trainings.md").read_text() == text
    assert (tmp_path / "again/long_trainings.md").read_text() == text
    monkeypatch.setattr(long_trainings, "long_trainings", lambda: [tiny])
    assert list(long_trainings.finished(tmp_path, "align")) == ["dsr-mean, long"]
    assert long_trainings.finished(tmp_path, "quant") == long_trainings.finished_jobs(None) == {}


def test_one_queue_at_a_time_and_no_other_trainings(tmp_path, capsys):
    with queue.the_only_queue(tmp_path):
        assert queue.main(["--output", str(tmp_path)]) == 1 and "another queue is at work" in capsys.readouterr().err
    assert queue.main(["--output", str(tmp_path), "--names", "magic"]) == 1
    assert "magic" in capsys.readouterr().err
    with pytest.raises(OptionError, match="no such training"):
        queue.chosen(["magic"])


def test_a_curve_counts_repeated_batches_once(tmp_path):
    for part, rows in (("csv", [(0, 3.0), (4, 2.0), (9, 9.0)]), ("csv_1", [(5, 1.5), (9, 1.0)])):
        (tmp_path / "logs" / part).mkdir(parents=True)
        lines = [f"0,{step},{loss},{loss if step else ''}" for step, loss in rows]
        (tmp_path / "logs" / part / "metrics.csv").write_text("\n".join(["epoch,step,train_total,val_total", *lines]))
    curve = long_record.curve_of(tmp_path)
    assert curve.trained.tolist() == [[0, 3.0], [4, 2.0], [5, 1.5], [9, 1.0]]
    assert curve.held.tolist() == [[4, 2.0], [5, 1.5], [9, 1.0]]


def test_the_gpu_script_goes_on_with_what_is_missing_and_then_trains(tmp_path, monkeypatch, capsys):
    calls, trained = [], []
    monkeypatch.setattr(gpu, "measure", lambda part: calls.append(part.what) or f"| {part.what} |")
    monkeypatch.setattr(gpu, "measure_networks", lambda part: calls.append(part.what) or "| encoders |")
    monkeypatch.setattr(gpu.long_trainings, "main", lambda words: trained.append(words) or 0)
    words = ["--output", str(tmp_path / "gpu" / "gpu.md"), "--trainings", str(tmp_path / "t"), "--sizes", "8"]
    assert gpu.main([*words, "--minutes", "0"]) == 0 and not calls and not trained
    assert gpu.main([*words, "--minutes", "1"]) == 0
    assert "in-vivo model" in calls and "networks" in calls and trained[0][:2] == ["--output", str(tmp_path / "t")]
    first = list(calls)
    assert gpu.main([*words, "--minutes", "1"]) == 0 and calls == first and len(trained) == 2
    assert "| encoders |" in (tmp_path / "gpu" / "gpu.md").read_text() and "| encoders |" in capsys.readouterr().out


def test_a_queue_ends_after_its_time(tiny, tmp_path, monkeypatch):
    begun = time.monotonic()
    monkeypatch.setattr(queue, "run_queue", lambda *_: time.sleep(20))
    assert queue.main(["--output", str(tmp_path), "--minutes", "0.005"]) == 130 and time.monotonic() - begun < 10


def test_a_training_whose_folder_is_gone_is_interrupted_and_keeps_its_curve(tmp_path):
    (one,) = [one for one in long_trainings.long_trainings() if one.name == "resnet-2d1c_few-kernels"]
    place = tmp_path / "long_trainings"
    place.mkdir()
    lines = ["batch,loss of training,loss of held-back data", "100,0.5,0.6", "200,0.4,0.55"]
    (place / f"{one.name}.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    text = long_record.write_record([one], tmp_path / "models", tmp_path).read_text(encoding="utf-8")
    assert f"| {one.name} | interrupted | 200 |" in text and "| 0.55 |" in text
    assert (tmp_path / "long_trainings.png").is_file()
