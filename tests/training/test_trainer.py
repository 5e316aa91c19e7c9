"""Training: the same seed gives the same network, an interruption changes nothing, and what comes out is a model."""

import json
import warnings
from types import SimpleNamespace

import pytest
import torch

pytest.importorskip("lightning", reason="Lightning is not installed (pip install 'fsl_mrs_dl[train]')")

from fsl_mrs_dl.cli.main import main  # noqa: E402
from fsl_mrs_dl.core.axes import Axes
from fsl_mrs_dl.core.errors import OptionError, OutputError
from fsl_mrs_dl.networks import model_cards  # noqa: E402
from fsl_mrs_dl.training import batches, checkpoints
from fsl_mrs_dl.training.lightning_module import NetworkModule, ProgressReport
from fsl_mrs_dl.training.registration import RegistrationTraining
from fsl_mrs_dl.training.settings import Settings
from fsl_mrs_dl.training.trainer import train
from fsl_mrs_dl.training.universal import UniversalTraining

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.filterwarnings("ignore")]
SMALL = {
    "batch_size": 8,
    "validate_every": 2,
    "validation_batches": 1,
    "n_protocols": 1,
    "device": "cpu",
    "progress": False,
}


def run(folder, steps, **options):
    resume = options.pop("resume", False)
    settings = Settings(steps=steps, **SMALL | options)
    training = UniversalTraining("align-universal", settings=settings, network_settings={"width": 8, "depth": 2})
    return train(training, folder, resume=resume)


def weights(folder):
    return model_cards.load(folder)[0].state_dict()


def test_same_seed_same_network_and_another_one_another(tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        run(tmp_path / name, 4, seed=seed)
    a, b, c = (weights(tmp_path / name) for name in "abc")
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert not all(torch.equal(a[key], c[key]) for key in a)


def test_a_resumed_training_sees_the_batches_that_would_have_come(tmp_path, monkeypatch):
    seen = []
    plain = batches.BatchStream.__iter__

    def noted(self):
        for batch in plain(self):
            if self.n is None:
                seen.append(batch["shift_ppm"][0].item())
            yield batch

    monkeypatch.setattr(batches.BatchStream, "__iter__", noted)
    run(tmp_path / "whole", 6)
    whole, seen[:] = seen[:6], []
    run(tmp_path / "parts", 4)
    first, seen[:] = seen[:4], []
    card = run(tmp_path / "parts", 6, resume=True)
    assert first + seen[:2] == whole and card["training"]["steps"] == 6


def test_a_card_says_how_the_network_came_about(tmp_path):
    card = run(tmp_path / "m", 2)
    assert card["training"]["recipe"]["name"] == "universal-transients" and card["training"]["seed"] == 0
    assert set(card["accuracy"]) == {"inside", "at SNR 1.5", "outside, at SNR 0.75"}
    assert 0 <= card["accuracy"]["inside"]["shift within 0.02 ppm (%)"] <= 100
    assert (tmp_path / "m/logs/csv/metrics.csv").read_text().startswith("epoch,step")
    assert json.loads((tmp_path / "m/card.json").read_text())["architecture"]["flops"] > 0


def test_a_training_begins_with_the_weights_of_a_model(tmp_path):
    run(tmp_path / "first", 2)
    settings = Settings(steps=2, **SMALL | {"learning_rate": 1e-9})
    training = UniversalTraining("align-universal", settings=settings, start_from=tmp_path / "first")
    card = train(training, tmp_path / "second")
    assert card["training"]["start_from"] == "first"
    first, second = weights(tmp_path / "first"), weights(tmp_path / "second")
    assert all(torch.allclose(first[key], second[key], atol=1e-6) for key in first)
    assert any(not torch.equal(first[key], second[key]) for key in first)
    with pytest.raises(OptionError, match="kind quant-universal"):
        UniversalTraining("quant-universal", settings=settings, start_from=tmp_path / "first")


def test_a_card_claims_the_fields_of_its_recipe(tmp_path):
    settings = Settings(steps=1, **SMALL)
    training = UniversalTraining("quant-universal", settings=settings, recipe="in-vivo", start_from="quant-universal")
    ranges = training._ranges()
    assert ranges["spec_freq_mhz"] == pytest.approx([62 * 0.98, 305 * 1.02]) and ranges["snr"] == [3, 200]


def test_the_scheduler_of_a_cluster_is_no_matter(tmp_path, monkeypatch):
    slurm = pytest.importorskip("lightning.fabric.plugins.environments.slurm")
    monkeypatch.setattr(slurm.shutil, "which", lambda name: f"/usr/bin/{name}")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(tmp_path / "m", 1)


def test_the_clock_ends_a_training(tmp_path):
    card = run(tmp_path / "m", 100000, max_minutes=0.02)
    assert card["training"]["steps"] < 2000


@pytest.mark.parametrize("minutes, text", [(2.0, "batch 0 of 9 at most, or for 2 minutes."), (None, "batch 0 of 9.")])
def test_a_training_prints_its_limits(capsys, minutes, text):
    module = SimpleNamespace(settings=Settings(steps=9, max_minutes=minutes))
    ProgressReport(9).on_train_start(SimpleNamespace(global_step=0), module)
    assert text in capsys.readouterr().err


def test_the_work_of_the_cores_ends_a_training_and_is_on_its_card(tmp_path):
    card = run(tmp_path / "m", 100000, max_core_minutes=0.02)
    assert card["training"]["steps"] < 2000 and card["training"]["timed"]
    assert 0 < checkpoints.read_checkpoint(tmp_path / "m/checkpoints/last.ckpt")["fsl_mrs_dl_core_minutes"] < 1


@pytest.mark.parametrize("schedule", ["constant", "plateau", "cosine"])
def test_a_learning_rate_follows_its_schedule(schedule):
    network = torch.nn.Linear(1, 1)
    module = NetworkModule(network, None, Settings(steps=800, rate_schedule=schedule))
    made = module.configure_optimizers()
    if schedule == "constant":
        assert [group["lr"] for group in made.param_groups] == [1e-3]
        return
    optimiser, scheduler = made["optimizer"], made["lr_scheduler"]["scheduler"]
    rate = []
    for _ in range(400):
        optimiser.step()
        rate.append(optimiser.param_groups[0]["lr"])
        scheduler.step(*([1.0] if schedule == "plateau" else []))
    if schedule == "cosine":
        assert rate[0] == pytest.approx(1e-3 / 200) and rate[-1] == pytest.approx(0.5e-3, rel=0.02)
    else:
        assert rate[0] == 1e-3 and min(rate) == pytest.approx(1e-5, rel=0.02) and rate[-1] == min(rate)


def test_folders_are_not_overwritten_and_nothing_is_resumed_from_nothing(tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full/precious").write_text("x")
    with pytest.raises(OutputError, match="not empty"):
        run(tmp_path / "full", 2)
    with pytest.raises(OptionError, match="resume: "):
        run(tmp_path / "new", 2, resume=True)
    assert (tmp_path / "full/precious").read_text() == "x" and not (tmp_path / "new").exists()


def test_the_command_trains_for_a_basis_set_and_fit_uses_it(tmp_path, capsys):
    from fsl_mrs_dl.simulation.acquisition import simulate_basis

    simulate_basis(["NAA", "Cr", "PCr", "GPC", "Glu", "Ins"], te_ms=30.0).save(tmp_path / "basis")
    words = ["train", "quant", "--output", str(tmp_path / "net"), "--basis", str(tmp_path / "basis"), "--steps", "3"]
    words += ["--batch_size", "8", "--encoder", "align-cnn", "--device", "cpu", "--threads", "1"]
    assert main(words) == 0, capsys.readouterr().err
    assert "Trained in" in capsys.readouterr().out
    card = model_cards.read_card(tmp_path / "net")
    assert card["training"]["command"] == "fsl_mrs_dl " + " ".join(words)
    assert card["architecture"]["settings"]["encoder"] == "align-cnn"
    svs = [
        "simulate",
        "svs",
        "--basis",
        str(tmp_path / "basis"),
        "--transients",
        "1",
        "--output",
        str(tmp_path / "svs"),
    ]
    assert main(svs) == 0
    fit = ["fit", "--data", str(tmp_path / "svs/svs.nii.gz"), "--basis", str(tmp_path / "basis")]
    fit += ["--model", str(tmp_path / "net")]
    assert main([*fit, "--output", str(tmp_path / "fit")]) == 0
    assert "initial values net and classical" in capsys.readouterr().out
    assert main([*fit, "--init", "network", "--output", str(tmp_path / "alone")]) == 0
    assert "initial values net\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words,message",
    [
        (["--steps", "0"], "--steps 0"),
        (["--learning_rate", "0"], "--learning_rate 0"),
        (["--max-minutes", "0"], "--max-minutes 0"),
        (["--max-minutes", "-5"], "--max-minutes -5"),
        (["--recipe", "nobody's"], "--recipe nobody's"),
        (["--recipe", "lipid"], "lipid.*--basis"),
        (["--encoder", "gru"], "--encoder gru.*resnet"),
        (["--basis", "nowhere"], "nowhere"),
    ],
)
def test_what_cannot_be_trained_is_said_in_one_line(tmp_path, capsys, words, message):
    import re

    assert main(["train", "quant", "--output", str(tmp_path / "net"), "--steps", "2", *words]) == 2
    error = capsys.readouterr().err
    assert re.search(message, error) and error.count("\n") == 1
    assert not (tmp_path / "net").exists()


def test_search_trains_with_what_it_found(tmp_path, capsys):
    pytest.importorskip("optuna", reason="Optuna is not installed (pip install '.[search]')")
    words = [
        "train",
        "quant",
        "--output",
        str(tmp_path / "net"),
        "--steps",
        "2",
        "--batch_size",
        "8",
        "--n_protocols",
        "1",
    ]
    assert main([*words, "--search", "2", "--search_steps", "2", "--device", "cpu", "--threads", "1"]) == 0, (
        capsys.readouterr().err
    )
    found = json.loads((tmp_path / "net/search.json").read_text())
    best = min(found["trials"], key=lambda one: one["validation_loss"])
    card = model_cards.read_card(tmp_path / "net")
    assert (
        len(found["trials"]) == 2 and card["architecture"]["settings"]["encoder"] == best["encoder"] == found["encoder"]
    )
    assert (
        card["training"]["learning_rate"] == best["learning_rate"]
        and card["training"]["batch_size"] == best["batch_size"]
    )


def test_search_without_optuna_says_what_to_install(tmp_path, capsys, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "optuna", None)
    assert main(["train", "quant", "--output", str(tmp_path / "net"), "--search", "2", "--device", "cpu"]) == 2
    error = capsys.readouterr().err
    assert "pip install '.[search]'" in error and error.count("\n") == 1


def test_a_training_on_files_and_its_use(tmp_path, capsys):
    from pathlib import Path

    import fsl_mrs_dl
    from fsl_mrs_dl.io import nifti

    example = str(Path(fsl_mrs_dl.__file__).parent / "data/example/svs.nii.gz")
    words = ["train", "align", "--method", "dsr", "--file", example, "--output", str(tmp_path / "net"), "--steps", "4"]
    assert main([*words, "--batch_size", "8", "--device", "cpu"]) == 0, capsys.readouterr().err
    assert "learnt little yet" in capsys.readouterr().out
    card = model_cards.read_card(tmp_path / "net")
    assert card.kind == "registration" and card["training"]["basis"].startswith("58 measured transients")
    assert (
        main(["align", "--file", example, "--model", str(tmp_path / "net"), "--output", str(tmp_path / "aligned")]) == 0
    )
    record = nifti.load(tmp_path / "aligned/svs.nii.gz").header["ProcessingApplied"][-1]
    assert "method=net" in record["Details"]


@pytest.mark.parametrize(
    "words,message",
    [
        (["--method", "dsr"], "--file"),
        (["--method", "dxr", "--file", "a"], "--method dxr.*dsrf"),
        (["--file", "a"], "--file.*universal"),
        (["--encoder", "cnn"], "--encoder.*universal"),
        (["--method", "dsr", "--file", "nowhere.nii.gz"], "nowhere.nii.gz"),
    ],
)
def test_impossible_trainings_of_alignments_are_said_in_one_line(tmp_path, capsys, words, message):
    import re

    assert main(["train", "align", "--output", str(tmp_path / "net"), *words]) == 2
    error = capsys.readouterr().err
    assert re.search(message, error) and error.count("\n") == 1 and not (tmp_path / "net").exists()


def test_networks_for_1h_lines_are_not_trained_on_other_nuclei(tmp_path):
    with pytest.raises(OptionError, match="dsrf.*1H.*31P"):
        fids = torch.randn(8, 512, dtype=torch.complex64)
        train(RegistrationTraining("dsrf", fids, Axes(512, 5e-4, 51.7, "31P")), tmp_path / "n")


def test_what_a_training_was_begun_with_is_what_it_goes_on_with(tmp_path):
    run(tmp_path / "m", 2)
    with pytest.raises(OptionError, match="resume: .*batch size 8, not 4"):
        run(tmp_path / "m", 4, resume=True, batch_size=4)
    with pytest.raises(OptionError, match="2 steps already"):
        run(tmp_path / "m", 2, resume=True)
    with pytest.raises(OptionError, match="resume: .*network"):
        train(UniversalTraining("quant-universal", settings=Settings(steps=4, **SMALL)), tmp_path / "m", resume=True)
    assert run(tmp_path / "m", 4, resume=True)["training"]["steps"] == 4
    assert len(list((tmp_path / "m/logs").glob("*/metrics.csv"))) == 2


def test_an_interruption_says_how_to_go_on(tmp_path, capsys, monkeypatch):
    seen = []
    plain = batches.BatchStream.__iter__

    def interrupted(self):
        for batch in plain(self):
            seen.append(self.n is None)
            if sum(seen) == 4:
                raise KeyboardInterrupt
            yield batch

    monkeypatch.setattr(batches.BatchStream, "__iter__", interrupted)
    words = [
        "train",
        "align",
        "--output",
        str(tmp_path / "net"),
        "--steps",
        "50",
        "--batch_size",
        "8",
        "--validate_every",
        "2",
    ]
    words += ["--n_protocols", "1", "--device", "cpu", "--threads", "1"]
    assert main(words) == 130
    error = capsys.readouterr().err
    assert "of 50; " in error and "--resume goes on" in error and "batch 2 of 50" in error
    with pytest.raises(OptionError, match="not ended; go on with resume"):
        model_cards.read_card(tmp_path / "net")


@pytest.mark.parametrize(
    "command,steps,again",
    [
        ("fsl_mrs_dl train quant --output a --steps 9 --resume", 9, "fsl_mrs_dl train quant --output a --steps 9"),
        ("fsl_mrs_dl train quant --max-minutes 3 --output a", 7, "fsl_mrs_dl train quant --output a --steps 7"),
        ("fsl_mrs_dl train quant --steps 9 --max-minutes=3", 7, "fsl_mrs_dl train quant --steps 7"),
        ("", 7, ""),
    ],
)
def test_the_card_s_command_makes_the_same_network(command, steps, again):
    assert checkpoints.repeatable_command(command, Settings(steps=9), steps) == again


@pytest.mark.parametrize(
    "key,before,now,message",
    [
        ("basis", "0a1b", "2c3d", "begun with another basis set;"),
        ("members", ["fc"], ["cnn"], "begun with encoder fc, not cnn;"),
        ("active learning", 0, 1, "begun with active learning 0, not 1;"),
    ],
)
def test_what_a_training_was_begun_with_is_said_in_words(tmp_path, key, before, now, message):
    checkpoints.record_start(tmp_path, Settings(), {key: before}, resume=False)
    with pytest.raises(OptionError, match=message):
        checkpoints.record_start(tmp_path, Settings(), {key: now}, resume=True)


def test_a_card_claims_no_more_than_its_recipe_and_basis(tmp_path, capsys):
    from fsl_mrs_dl.simulation.acquisition import simulate_basis
    from fsl_mrs_dl.simulation.recipes import Recipe

    simulate_basis(["NAA", "Cr", "PCr", "GPC", "Glu", "Ins"], te_ms=30.0).save(tmp_path / "basis")
    content = Recipe.load("tumour").content | {"shift_ppm": {"uniform": [-0.1, 0.1]}, "snr": {"loguniform": [20, 50]}}
    (tmp_path / "mine.json").write_text(json.dumps(content))
    words = ["train", "quant", "--output", str(tmp_path / "net"), "--basis", str(tmp_path / "basis"), "--steps", "2"]
    words += ["--recipe", str(tmp_path / "mine.json"), "--batch_size", "8", "--device", "cpu", "--threads", "1"]
    assert main(words) == 0, capsys.readouterr().err
    card = model_cards.read_card(tmp_path / "net")
    assert card["ranges"]["shift_ppm"] == [-0.1, 0.1] and card["ranges"]["snr"] == [20, 50]
    assert "for one basis set" in card["what"]
    assert main(["models", "show", str(tmp_path / "net")]) == 0
    assert "SNR 20 to 50" in capsys.readouterr().out
