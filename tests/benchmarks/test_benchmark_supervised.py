"""The benchmark of supervised networks: its scores and limits against what is known, and a small run of all of it."""

import csv
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from benchmarks.__main__ import main
from benchmarks.papers import datasets
from benchmarks.papers import supervised as bench
from benchmarks.papers import supervised_scores as measures
from benchmarks.papers import supervised_tables as tables
from benchmarks.papers import supervised_trainings as trials
from fsl_mrs_dl.io.files import claim
from fsl_mrs_dl.networks import encoders
from fsl_mrs_dl.networks import model_cards as zoo

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.filterwarnings("ignore")]


def test_scores_of_answers_that_are_known():
    truth = np.random.default_rng(0).uniform(0, 2, (4000, 3))
    one = measures.scores(np.stack([truth[:, 0], 0.5 * truth[:, 1] + 0.3, np.full(4000, 1.0)], 1), truth)
    assert one.a == pytest.approx([1, 0.5, 0], abs=1e-9) and one.q == pytest.approx([0, 0.3, 1], abs=1e-9)
    assert one.r2[:2] == pytest.approx([1, 1]) and one.sigma[0] == pytest.approx(0, abs=1e-9)
    assert one.sigma[2] == pytest.approx(2 / np.sqrt(12), rel=0.02)  # who always says the mean
    noisy = measures.scores(truth + np.random.default_rng(1).normal(0, 0.5, truth.shape), truth)
    spread = truth.var(0)
    assert noisy.r2 == pytest.approx(spread / (spread + 0.25), rel=0.05) and noisy.concise == pytest.approx(
        noisy.a * noisy.r2
    )


def test_what_is_counted_in_water_has_no_scale():
    names = [*datasets.RIZZO_MOST, "mm", datasets.REFERENCE]
    found = np.random.default_rng(0).uniform(1, 2, (5, 18))
    found[:, -1] = datasets.REFERENCE_MM
    np.testing.assert_allclose(measures.referenced(found, names), found[:, :16])
    np.testing.assert_allclose(measures.referenced(7 * found, names), found[:, :16])
    np.testing.assert_allclose(measures.referenced(found[:, :-1], names[:-1]), found[:, :16])


def test_every_network_is_in_the_benchmark_once_and_every_budget_is_a_network():
    small = trials.SCALES["small"]
    jobs = trials.jobs_of(small, trials.PARTS, tuple(encoders.ENCODERS))
    assert len({job.name for job in jobs}) == len(jobs)
    assert {job.name for job in jobs} >= set(encoders.ENCODERS) and set(small.budgets) == set(encoders.ENCODERS)
    assert {job.data for job in jobs} == {"rizzo", "rizzo without reference", "DSS1 without noise", *datasets.DSS}
    members = [job for job in jobs if job.encoder == "shallownet-2d2c" and job.name[-1] in "2345" and ", " in job.name]
    assert len({job.seed for job in members}) == 4
    # Published sizes where there is a machine for them.
    paper = trials.jobs_of(trials.SCALES["paper"], trials.PARTS, tuple(encoders.ENCODERS))
    assert not any("share" in job.arguments for job in paper)
    (scalogram,) = [job for job in paper if job.part == "scalogram" and job.encoder == "scalogram"]
    assert scalogram.arguments == {"n_rows": 340, "n_columns": 1536} and scalogram.n_points == 1536


def test_fits_reach_the_limit_and_beat_it_only_with_what_they_are_told():
    data = measures.make_rizzo(512, 5)
    basis = datasets.rizzo_basis()
    fit, _ = measures.fits(data)
    truth, limits, bound = (
        data["conc"],
        measures.limits_of(data),
        np.sqrt(np.diagonal(measures.bounds(data), axis1=1, axis2=2)),
    )
    free = measures.referenced(fit.free[:, : basis.n_metabs], basis.names)
    posterior = measures.scores(measures.referenced(fit.estimate("posterior_mean")[0], basis.names), truth)
    # Each error over its own bound: of those as they are the few of the lowest SNR would be all there is.
    size = np.sqrt(np.mean(((free - truth) / bound) ** 2, 0))
    assert 0.91 < size.min() and size.max() < 1.09 and np.median(size) == pytest.approx(1, abs=0.03)
    known, all_known = limits["limit, ranges known"], limits["limit, all else known, too"]
    ratio = posterior.sigma / known.sigma
    assert ratio.max() < 1.1 and ratio.min() > 0.85 and np.median(ratio) == pytest.approx(0.97, abs=0.05)
    assert (known.sigma < limits["limit without bias"].sigma).all() and (all_known.sigma <= known.sigma).all()


def test_an_answer_that_never_changes_has_scores_and_one_without_water_is_bounded():
    truth = np.random.default_rng(0).uniform(0, 2, (50, 16))
    one = measures.scores(np.ones((50, 16)), truth)
    assert (one.r2 == 0).all() and (one.linear == 0).all()
    names = [*datasets.RIZZO_MOST, "mm", datasets.REFERENCE]
    found = np.ones((5, 18))
    found[:, -1] = -1e-9
    assert np.abs(measures.referenced(found, names, 0.1 * datasets.REFERENCE_MM)).max() == pytest.approx(10)


def test_the_best_linear_estimate_is_the_bound_where_ranges_are_wide_and_the_range_where_they_say_all():
    data = measures.make_rizzo(4, 6)
    data["noise_sd"] = data["noise_sd"] * 1e-6
    known = np.diagonal(measures.best_linear(data), axis1=1, axis2=2)
    bound = np.diagonal(measures.bounds(data), axis1=1, axis2=2)
    # That the peak's size is known is worth its own error, which is little.
    assert (known <= bound * (1 + 1e-6)).all() and (known > 0.3 * bound).all() and np.median(known / bound) > 0.95
    data["noise_sd"] = data["noise_sd"] * 1e12
    most = np.array(list(datasets.RIZZO_MOST.values()))
    np.testing.assert_allclose(
        np.diagonal(measures.best_linear(data), axis1=1, axis2=2), np.tile(most**2 / 12, (4, 1)), rtol=1e-3
    )


def test_the_least_error_is_that_of_one_line_that_is_alone(monkeypatch):
    from fsl_mrs_dl.io.basis import Basis
    from fsl_mrs_dl.simulation import recipes

    time_axis = np.arange(512) / 1000.0
    basis = Basis(np.exp((2j * np.pi * 30 - 20) * time_axis)[None], ("NAA",), 1e-3, 123.0, "1H", None, "one line")
    content = {
        "doc": "",
        "source": "",
        "concentrations": {"prior": "table", "ranges": {"NAA": {"uniform": [0.5, 1.5]}}},
        "each": {"shift_hz": 0, "damping_per_s": 0},
        "phase_deg": 0,
        "snr": 2.0,
        "snr_of": 1.0,
    }
    monkeypatch.setattr(measures, "basis_and_recipe", lambda _: (basis, recipes.Recipe.of("one", content)))
    # Noise of 0.5 in either channel, one unknown amplitude with a range whose SD is 1 / sqrt(12).
    variance = 1 / ((np.abs(basis.fids) ** 2).sum() / 0.25 + 12)
    assert measures.dss_limit("one", 2, 0) == pytest.approx(100 * np.sqrt(2 / np.pi * variance) / 2, rel=1e-3)
    short = 1 / ((np.abs(basis.fids[:, :20]) ** 2).sum() / 0.25 + 12)
    assert measures.dss_limit("one", 2, 0, 20) == pytest.approx(100 * np.sqrt(2 / np.pi * short) / 2, rel=1e-3)


def test_the_least_error_of_a_data_set_grows_with_what_is_unknown():
    least = {name: measures.dss_limit(name, 3, 0) for name in ("DSS2", "DSS5", "DSS6", "DSS7")}
    assert least["DSS2"] < 0.05 and 1 < least["DSS5"] < least["DSS7"] < 8
    # A background that is known costs nothing; its energy lets more noise in.
    assert least["DSS5"] < least["DSS6"] <= least["DSS7"]


def test_bias_is_seen_at_the_ends_of_the_range():
    truth = np.random.default_rng(0).uniform(0, 1, (5000, 16)) * np.array(list(datasets.RIZZO_MOST.values()))
    middle = truth.mean(0) + 0.5 * (truth - truth.mean(0))
    low, high = tables.end_errors(middle, truth)
    assert low == pytest.approx(np.full(16, 20), abs=1.5) and high == pytest.approx(np.full(16, -20), abs=1.5)
    assert np.abs(tables.end_errors(truth, truth)).max() == 0


@pytest.fixture
def tiny(monkeypatch):
    """The benchmark with trainings of a few batches, in this process."""
    from concurrent.futures import ThreadPoolExecutor

    small = trials.Scale(
        budgets={"shallownet-2d2c": (0.04, 6, 1e-3), "resnet-1d": (0.04, 6, 1e-3), "unet-1dr-joint": (0.04, 6, 1e-3)},
        many=(1.0, 6, 1e-3),
        batch_size=8,
        signals=40,
        test=64,
        held=0,
        dss={"steps": 6, "batch_size": 8, "rate": 1e-3, "decay": 1e-4, "polish": 20},
        scalogram=({"hatami": {"share": 0.04}, "scalogram": {"share": 0.2}}, 6, 1024),
        stack_steps=6,
        newton=2,
    )
    monkeypatch.setitem(trials.SCALES, "small", small)
    monkeypatch.setattr(datasets, "DSS", ("DSS1", "DSS7"))
    monkeypatch.setattr(trials, "ProcessPoolExecutor", lambda *_, **__: ThreadPoolExecutor(1))
    plain = trials.Job
    monkeypatch.setattr(
        trials, "Job", lambda *args, **more: bench.replace(plain(*args, **more), signals=40, batch_size=8)
    )


def test_a_small_run_of_all_of_it(tiny, tmp_path, capsys):
    for library in ("lightning", "kymatio", "ptwt"):
        pytest.importorskip(library, reason=f"{library} is not installed")
    folder = tmp_path / "b"
    words = [
        "supervised",
        "--output",
        str(folder),
        "--networks",
        "cnn",
        "shallownet-2d2c",
        "--test",
        "64",
        "--threads",
        "1",
    ]
    assert main(words) == 0, capsys.readouterr().err
    text = (folder / "table.md").read_text()
    for words_in in (
        "--networks cnn shallownet-2d2c --seed 0",
        "| posterior_mean |",
        "| cnn |",
        "| hybridens-10n |",
        "| DSS7 |",
        "| hatami |",
    ):
        assert words_in in text
    for part in ("### Bias", "### Active learning", "### Water referencing", "## Wavelet scattering", "## Scalogram"):
        assert part in text
    assert "nan" not in text.lower()
    assert (folder / "supervised.png").read_bytes()[:4] == b"\x89PNG"
    assert sorted(path.name for path in folder.iterdir()) == ["models", "scores.csv", "supervised.png", "table.md"]
    rows = list(csv.DictReader((folder / "scores.csv").open()))
    assert {row["method"] for row in rows} >= {"ml", "cnn", "shallowens-5n", "limit without bias"} and len(
        {row["metabolite"] for row in rows}
    ) == 16
    assert all(np.isfinite(float(row["sigma (mM)"])) for row in rows)
    # What a network was made of counts in what it took.
    rounds = folder / "models" / "shallownet-2d2c_active-learning"
    cards = [zoo.read_card(place) for place in (rounds, rounds / "rounds" / "0")]
    assert trials.minutes_of(cards[0]) == pytest.approx(
        sum(card["training"]["minutes"] + card["training"]["preparation_minutes"] for card in cards)
    )
    assert "| shallownet-2d2c, active learning | " in text and "6 and those of its networks" in text
    # What was trained is used again.
    cards = {path: path.read_bytes() for path in folder.glob("models/*/card.json")}
    assert len(cards) == len(trials.jobs_of(trials.SCALES["small"], trials.PARTS, ("cnn", "shallownet-2d2c"))) + 3
    assert main([*words, "--parts", "networks"]) == 0
    assert cards == {path: path.read_bytes() for path in folder.glob("models/*/card.json")}


def test_what_was_interrupted_goes_on(tiny, tmp_path, monkeypatch):
    pytest.importorskip("lightning", reason="Lightning is not installed (pip install 'fsl_mrs_dl[train]')")
    calls, plain = [], trials.train_job

    def stopped(job, *args):
        calls.append(job.name)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return plain(job, *args)

    monkeypatch.setattr(trials, "train_job", stopped)
    run = lambda: bench.write_supervised(  # noqa: E731
        tmp_path / "b", parts=("networks",), networks=("cnn", "fc"), n_test=64, workers=1, say=lambda _: None
    )
    with pytest.raises(KeyboardInterrupt):
        run()
    assert not (tmp_path / "b" / "table.md").exists()
    run()
    assert calls == [calls[0], calls[1], calls[1]] and (tmp_path / "b" / "table.md").is_file()


def test_networks_of_another_run_are_not_mixed_with_these(tiny, tmp_path, capsys):
    about = {"scale": "small", "steps": None, "seed": 0, "data and budgets": trials.fingerprint_of("small")}
    claim(tmp_path / "b", about)
    claim(tmp_path / "b", about)
    assert main(["supervised", "--output", str(tmp_path / "b"), "--seed", "3", "--networks", "cnn"]) == 2
    assert "holds networks of another run (seed 0)" in capsys.readouterr().err
    # Budgets of another version are another run's, too.
    (tmp_path / "b/models/settings.json").write_text(json.dumps(about | {"data and budgets": "of before"}))
    assert main(["supervised", "--output", str(tmp_path / "b"), "--networks", "cnn"]) == 2
    assert "another run (data and budgets of before)" in capsys.readouterr().err


def test_settings_that_cannot_be_read_are_said_in_one_line(tmp_path, capsys):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "settings.json").write_text('{"scale": ')
    assert main(["supervised", "--output", str(tmp_path), "--networks", "cnn"]) == 2
    error = capsys.readouterr().err
    assert "settings.json: is no list of the networks" in error and error.count("\n") == 1


def test_a_folder_with_other_things_is_left_alone(tmp_path, capsys):
    (tmp_path / "svs.nii.gz").touch()
    assert main(["supervised", "--output", str(tmp_path), "--networks", "cnn"]) == 2
    assert "holds something else" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["svs.nii.gz"]


def test_results_of_a_measurement_that_was_interrupted_are_not_mixed_with_older_ones(tmp_path, monkeypatch):
    claim(tmp_path, {"scale": "small", "steps": None, "seed": 0, "data and budgets": trials.fingerprint_of("small")})
    results = [tmp_path / name for name in ("table.md", "scores.csv", "supervised.png")]
    for path in results:
        path.write_text("of before")
    monkeypatch.setattr(bench, "run_jobs", lambda *_: None)

    def stopped(output, made, *_):
        (made / "scores.csv").write_text("of now")
        raise KeyboardInterrupt

    monkeypatch.setattr(bench, "_idealised", stopped)
    with pytest.raises(KeyboardInterrupt, match="no results were written.*models"):
        bench.write_supervised(tmp_path, parts=("networks",), networks=("cnn",), say=lambda _: None)
    assert [path.read_text() for path in results] == ["of before"] * 3
    assert len(list(tmp_path.iterdir())) == 4


def test_trainings_end_with_a_parent_that_was_killed(tmp_path):
    program = tmp_path / "parent.py"
    program.write_text(
        "import multiprocessing, sys, time\n"
        "from concurrent.futures import ProcessPoolExecutor\n"
        "from benchmarks.papers import supervised_trainings\n"
        "import os\n"
        "if __name__ == '__main__':\n"
        "    context = multiprocessing.get_context('spawn')\n"
        "    with ProcessPoolExecutor(1, context, supervised_trainings._begin_worker, (os.getpid(),)) as pool:\n"
        "        print(pool.submit(os.getpid).result(), flush=True)\n"
        "        pool.submit(time.sleep, 300).result()\n"
    )
    parent = subprocess.Popen(
        [sys.executable, str(program)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},  # benchmarks/ is not installed
    )
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    for _ in range(100):
        try:
            os.kill(child, 0)
            if "Z" in Path(f"/proc/{child}/stat").read_text().rsplit(")", 1)[1][:3]:
                break  # has ended, and nobody asked for its status
        except (ProcessLookupError, FileNotFoundError):
            break
        time.sleep(0.2)
    else:
        os.kill(child, 9)
        raise AssertionError("the child trains on")


def test_a_training_that_was_stopped_before_its_first_checkpoint_begins_anew(tiny, tmp_path):
    pytest.importorskip("lightning", reason="Lightning is not installed (pip install 'fsl_mrs_dl[train]')")
    (job,) = trials.jobs_of(trials.SCALES["small"], ("networks",), ("cnn",))
    (tmp_path / "cnn" / "logs").mkdir(parents=True)
    (tmp_path / "cnn" / "training.json").write_text("{}")
    card = trials.train_job(job, tmp_path / "cnn", "cpu")
    assert trials.minutes_of(card) >= 0 and (tmp_path / "cnn" / "card.json").is_file()


@pytest.mark.parametrize(
    "words,message",
    [
        (["--scale", "huge"], "choose small or paper"),
        (["--parts", "all"], "--parts all: there is no such part"),
        (["--networks", "net"], "--networks net: there is no such encoder"),
        (["--test", "3"], "--test 3: give 64 or more"),
        (["--parts", "water", "--networks", "fc"], "--networks fc: are of the part networks"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_made(tmp_path, capsys, words, message):
    assert main(["supervised", "--output", str(tmp_path / "b"), *words]) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "b").exists()


@pytest.mark.with_fsl_mrs
def test_newton_is_beside_our_fit():
    data = measures.make_rizzo(6, 3)
    methods, sentence = bench.fit_methods(data, bench.replace(trials.SCALES["small"], newton=4), lambda _: None)
    newton = methods["FSL-MRS Newton, first 4"].estimates
    assert newton.shape == (4, 16) and "times faster" in sentence
    naa = list(datasets.RIZZO_MOST).index("NAA")
    np.testing.assert_allclose(newton[:, naa], methods["ml"].estimates[:4, naa], rtol=0.1, atol=0.3)
