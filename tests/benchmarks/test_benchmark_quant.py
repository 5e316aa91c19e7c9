"""The benchmark of quantification: its data and limits against theory, and a small run of all that it measures."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks.__main__ import main
from benchmarks.papers import quantification as bench
from benchmarks.papers import quantification_data as sets
from benchmarks.papers import quantification_measures as measures
from benchmarks.papers import quantification_trainings as trainings
from fsl_mrs_dl.core.errors import DataError, OptionError
from fsl_mrs_dl.physics.macromolecules import add_macromolecules
from fsl_mrs_dl.simulation.acquisition import simulate_basis

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def basis():
    names = "Ala Asp Cr GABA GPC GSH Glc Gln Glu Gly Ins Lac NAA NAAG PCh PCr PE Tau Scyllo".split()
    made = simulate_basis(names, te_ms=30.0, bandwidth_hz=2500.0, n_points=1280, fwhm_hz=2.0)
    made = replace(made, names=tuple({"PCh": "PCho", "Scyllo": "sIns"}.get(name, name) for name in made.names))
    return add_macromolecules(made, "summed")


def test_a_set_is_what_the_recipe_says(basis):
    data = sets.make_set(basis, 300, 0)
    assert data["fid"].shape == (300, 1280) and data["conc"].shape == (300, 20)
    naa = data["conc"][:, basis.names.index("NAA")]
    assert (
        7.5 <= naa.min() and naa.max() < 17.2 and abs(data["shift_hz"]).max() <= 3 and data["lorentz_hz"].max() <= 4.775
    )
    again = sets.make_set(basis, 300, 0)
    np.testing.assert_array_equal(data["fid"], again["fid"])
    wide = sets.make_set(basis, 300, 0, widen=3.0)["conc"][:, basis.names.index("NAA")]
    assert wide.min() < 3 and wide.max() > 40


def test_without_noise_a_fit_gives_the_truth_of_the_set(basis):
    data = sets.make_set(basis, 8, 1, snr=1e6)
    fit = measures.fit_set(basis, data, prior="none")
    np.testing.assert_allclose(fit.conc, data["conc"], atol=2e-3)


def test_bounds_are_those_of_the_fit(basis):
    data = sets.make_set(basis, 40, 2)
    bound = np.sqrt(np.diagonal(measures.bounds(basis, data), axis1=1, axis2=2))
    np.testing.assert_allclose(np.median(measures.fit_set(basis, data, prior="none").crlb_sd / bound, 0), 1, atol=0.1)


def test_the_bayes_limit_lies_above_the_bound_and_meets_it_where_there_is_no_prior(basis):
    bound = measures.bounds(basis, sets.make_set(basis, 20, 3))
    variance = np.diagonal(bound, axis1=1, axis2=2).mean(0)
    spread = np.full(20, 0.5)
    assert (measures.bayes_limit(bound, spread) >= 1 - variance / spread - 1e-9).all()
    np.testing.assert_allclose(measures.bayes_limit(bound, np.full(20, 1e8)), 1 - variance / 1e8, atol=1e-9)


def test_measures_on_known_numbers():
    truth = np.array([[1.0], [2.0], [3.0]])
    assert measures.r2(truth, truth)[0] == 1 and measures.r2(np.full((3, 1), 2.0), truth)[0] == 0
    assert measures.mape(1.1 * truth, truth)[0] == pytest.approx(10) and measures.slopes(0.5 * truth + 1, truth)[
        0
    ] == pytest.approx(0.5)
    assert measures.auroc(np.array([0.0, 1.0]), np.array([2.0, 3.0])) == 1
    assert measures.auroc(np.array([0.0, 1.0, 2.0]), np.array([0.0, 1.0, 2.0])) == 0.5


def test_strange_spectra_are_strange(basis):
    strange = sets.strange_sets(basis, 6, 4)
    assert len(strange) == 6 and all(
        one["fid"].shape == (6, 1280) and np.isfinite(one["fid"]).all() for one in strange.values()
    )
    scores = {name: measures.fit_set(basis, one).ood for name, one in strange.items()}
    assert all(np.median(score) > 1 for score in scores.values()), scores


def test_every_part_knows_its_networks():
    assert {n.name for n in trainings.networks_of(["accuracy"])} == {"dq-nmm", "dq-nmm taught", "dq-pmm", "dq-rpmm"}
    assert [n.options["lam"] for n in trainings.networks_of(["lambda"]) if n.method == "dq-rpmm"] == list(
        map(float, trainings.LAMBDAS)
    )
    assert trainings.networks_of(["novelty"]) == trainings.networks_of(["accuracy"])


@pytest.mark.filterwarnings("ignore")
def test_a_small_run_measures_everything(basis, tmp_path, capsys, monkeypatch):
    pytest.importorskip("lightning", reason="Lightning is not installed (pip install 'fsl_mrs_dl[train]')")
    monkeypatch.setattr(trainings, "BATCH_SIZE", 16)  # networks learn nothing in so few batches of any size
    basis.save(tmp_path / "basis")
    words = [
        "quant",
        "--output",
        str(tmp_path / "out"),
        "--basis",
        str(tmp_path / "basis"),
        "--steps",
        "50",
        "--test",
        "128",
    ]
    words += ["--threads", "1", "--parts", "accuracy", "monte-carlo", "calibration", "novelty"]
    assert main(words) == 0, capsys.readouterr().err
    text = (tmp_path / "out" / "table.md").read_text()
    for part in (
        "## Accuracy",
        "## Monte Carlo",
        "## Calibration",
        "## Spectra unlike clean ones",
        "limit with the recipe as prior",
    ):
        assert part in text
    assert "nan" not in text
    for name in ("accuracy.png", "monte_carlo.png"):
        assert (tmp_path / "out" / name).read_bytes()[:4] == b"\x89PNG"
    first = text.split("Mean absolute error")[0]
    rows = {line.split("|")[1].strip(): line.split("|")[2:-1] for line in first.splitlines() if line.startswith("|")}
    ours = np.array([float(x) for x in rows["fit, `posterior_mean` (prior: the recipe)"][:9]])
    limit = np.array([float(x) for x in rows["limit with the recipe as prior (Bayes, linear)"][:9]])
    assert (ours > limit - 0.15).all() and (ours < limit + 0.1).all()
    # A second run finds its networks.
    capsys.readouterr()
    assert main([*words[: words.index("--parts")], "--parts", "calibration"]) == 0
    assert "Training" not in capsys.readouterr().out
    assert main([*words, "--steps", "51"]) == 2
    assert "networks of another run (steps 50)" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words,message",
    [
        (["--scale", "huge"], "--scale huge"),
        (["--parts", "speed"], "--parts speed.*accuracy"),
        (["--steps", "3"], "--steps 3: give 50"),
        (["--basis", "nowhere"], "nowhere"),
    ],
)
def test_what_cannot_be_measured_is_said_in_one_line(tmp_path, capsys, words, message):
    import re

    assert main(["quant", "--output", str(tmp_path / "out"), *words]) == 2
    error = capsys.readouterr().err
    assert re.search(message, error) and error.count("\n") == 1 and not (tmp_path / "out").exists()


def test_without_the_papers_basis_set_the_remedy_is_said(monkeypatch, tmp_path):
    monkeypatch.setenv("FSL_MRS_DL_TESTDATA", str(tmp_path))
    with pytest.raises(DataError, match="give one with basis.*Deep-MRS-Quantification"):
        sets.load_basis()


def test_the_papers_basis_set_ends_at_zero(testdata, monkeypatch):
    monkeypatch.setenv("FSL_MRS_DL_TESTDATA", str(testdata))
    made = sets.load_basis()
    assert made.names[-1] == "mm" and made.n_metabs == 20
    edge = np.fft.fftshift(np.fft.fft(made.fids[-1]))[[0, -1]]
    assert np.abs(edge).max() < 0.02 * np.abs(np.fft.fft(made.fids[-1])).max()


def test_a_basis_set_without_what_is_measured_is_refused(basis, tmp_path):
    with pytest.raises(OptionError):
        bench.write_quant(tmp_path, scale="other")
    basis.select(ignore=["Tau"]).save(tmp_path / "few")
    with pytest.raises(DataError, match="no Tau"):
        bench.write_quant(tmp_path / "out", basis=tmp_path / "few")


def test_networks_answers_are_timed_and_in_order(basis):
    from fsl_mrs_dl.networks import self_supervised_quantification

    network = self_supervised_quantification.DQnMM(basis.names, basis.dwelltime, basis.spec_freq_mhz).eval()
    network.set_basis(basis.fids)
    data = sets.make_set(basis, 20, 5)
    conc, ms = bench.measure_network(network, data)
    with torch.no_grad():
        expected = network.concentrations(torch.as_tensor(data["fid"]).to(torch.complex64)).numpy()
    np.testing.assert_allclose(conc, expected, rtol=1e-5)
    assert ms > 0
