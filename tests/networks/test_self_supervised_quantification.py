"""DQ-nMM: the decoder is the physical model, the network learns without a truth, and its answer starts fits."""

import math

import numpy as np
import pytest
import torch

import fsl_mrs_dl
from fsl_mrs_dl.core import units
from fsl_mrs_dl.core.axes import Axes
from fsl_mrs_dl.core.errors import OptionError
from fsl_mrs_dl.networks import self_supervised_quantification
from fsl_mrs_dl.simulation import protocols, random_spectra, recipes


@pytest.fixture(scope="module")
def network(sim_basis):
    torch.manual_seed(0)
    made = self_supervised_quantification.DQnMM(sim_basis.names, sim_basis.dwelltime, sim_basis.spec_freq_mhz)
    made.set_basis(sim_basis.fids)
    return made.eval()


def test_the_decoder_is_the_physical_model(network, sim_basis):
    conc = torch.rand(2, sim_basis.n_metabs)
    found = {
        "conc": conc,
        "damping": torch.tensor([5.0, 12.0]),
        "shift_hz": torch.tensor([2.0, -3.0]),
        "phi0": torch.tensor([0.3, -1.0]),
    }
    t = np.arange(1024) * sim_basis.dwelltime
    for row in range(2):
        d, s, p = (float(found[name][row]) for name in ("damping", "shift_hz", "phi0"))
        expected = (conc[row].numpy() @ sim_basis.fids[:, :1024]) * np.exp(-d * t + 2j * math.pi * s * t - 1j * p)
        np.testing.assert_allclose(
            network.decode(found)[row].numpy(), expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max()
        )


def test_numbers_begin_at_what_is_usual_and_are_never_negative(network):
    with torch.no_grad():
        found = network(torch.randn(8, 1024, dtype=torch.complex64))
    assert (found["conc"] > 0).all() and (found["damping"] > 0).all()
    assert (found["conc"] / network.usual).median() == pytest.approx(1, abs=0.1)


def test_only_the_window_is_seen_and_compared(network):
    # Water at 4.65 ppm and a line in the window: of the first a few percent of tail are left, of the second all but its
    # tails.
    energy = {}
    for ppm in (4.65, 2.5):
        hz = units.ppm_to_hz(ppm, network.spec_freq_mhz)
        line = torch.exp((2j * math.pi * hz - 20) * network.time)[None].to(torch.complex64)
        energy[ppm] = float(network.limited(line).abs().square().sum() / line.abs().square().sum())
    assert energy[4.65] < 0.05 and energy[2.5] > 0.95


def test_windows_without_points_are_refused(sim_basis):
    with pytest.raises(OptionError, match="at least 16"):
        self_supervised_quantification.DQnMM(
            sim_basis.names, sim_basis.dwelltime, sim_basis.spec_freq_mhz, n_points=512, ppmlim=(2.0, 2.1)
        )


@pytest.fixture(scope="module")
def with_lines(sim_basis):
    from fsl_mrs_dl.physics.macromolecules import add_macromolecules

    return add_macromolecules(sim_basis, "parametric")


def made(method, basis, **options):
    torch.manual_seed(0)
    network = self_supervised_quantification.METHODS[method](
        basis.names, basis.dwelltime, basis.spec_freq_mhz, **options
    )
    network.set_basis(basis.fids)
    return network.eval()


def truth_of(network, basis, n=3, damping=6.0):
    conc = (
        torch.as_tensor(np.random.default_rng(0).uniform(0.5, 1.5, (n, basis.n_metabs)), dtype=torch.float32)
        * network.usual
    )
    zero = torch.zeros(n)
    return {"conc": conc, "damping": zero + damping, "shift_hz": zero + 1.0, "phi0": zero + 0.2}


def test_a_truth_has_no_loss_and_anything_else_has(network, sim_basis):
    found = truth_of(network, sim_basis)
    fid = network.decode(found)
    x = network.prepared(fid)
    network.encode = lambda _: {**found, "conc": found["conc"] / network.scale(fid)[:, None]}
    try:
        assert float(network.loss(fid)) < 1e-6 * float(x.abs().square().mean())
        network.encode = lambda _: {**found, "conc": 1.1 * found["conc"] / network.scale(fid)[:, None]}
        assert float(network.loss(fid)) > 1e-3 * float(x.abs().square().mean())
    finally:
        del network.encode


@pytest.mark.parametrize("size", [1e-6, 1.0, 1e6])
def test_concentrations_are_in_the_units_of_the_data(network, sim_basis, size):
    found = truth_of(network, sim_basis)
    fid = network.decode(found)
    one, other = network.concentrations(fid), network.concentrations(size * fid)
    np.testing.assert_allclose(other.detach().numpy(), size * one.detach().numpy(), rtol=1e-3)


def test_lines_of_macromolecules_are_no_metabolites(with_lines, sim_basis):
    network = made("dq-pmm", with_lines)
    assert int(network.metabolites.sum()) == sim_basis.n_metabs
    found = truth_of(network, with_lines)
    whole, part = network.decode(found), network.decode(found, network.metabolites)
    other = network.decode(found, ~network.metabolites)
    np.testing.assert_allclose(
        (part + other).detach().numpy(), whole.detach().numpy(), atol=1e-3 * float(whole.abs().max())
    )


def test_without_macromolecules_dq_pmm_is_refused(sim_basis):
    with pytest.raises(OptionError, match="dq-pmm: .*with mm"):
        made("dq-pmm", sim_basis)


def test_the_rule_of_dq_rpmm_is_equation_5(with_lines):
    network = made("dq-rpmm", with_lines, lam=3.0)
    found = truth_of(network, with_lines)
    x = network.prepared(network.decode(found))
    left = (x - network.limited(network.decode(found, network.metabolites))).detach()
    for cutoff in (0.01025, 0.03025, 0.10025):
        rule = float(network._rule(x, {**found, "cutoff_s": torch.full((3,), cutoff)}).mean())
        inside = (network.time > cutoff) & (network.time < 0.75 * 1024 * network.dwelltime)
        sharp = (left * inside).abs().square().mean() + 3.0 * self_supervised_quantification._LAMBDA * cutoff
        assert rule == pytest.approx(float(sharp) / 2, rel=0.05)


def test_once_macromolecules_have_decayed_the_truth_breaks_no_rule(with_lines):
    """Limited to its band, the beginning of an FID must not be seen again at its end."""
    network = made("dq-rpmm", with_lines, lam=0.0)
    found = truth_of(network, with_lines, damping=2.0)
    fid = network.decode(found)
    scaled = {**found, "conc": found["conc"] / network.scale(fid)[:, None]}
    x = network.prepared(fid)
    energy = float((network.decode(scaled, ~network.metabolites)).abs().square().mean())
    assert float(network._rule(x, {**scaled, "cutoff_s": torch.full((3,), 0.1)}).mean()) < 2e-3 * energy


def test_a_later_cutoff_leaves_less_and_costs_more(with_lines):
    network = made("dq-rpmm", with_lines, lam=1e3)
    found = truth_of(network, with_lines)
    x = network.prepared(network.decode(found))
    costs = [float(network._rule(x, {**found, "cutoff_s": torch.full((3,), t)}).mean()) for t in (0.05, 0.2)]
    network.lam = 0.0
    rests = [float(network._rule(x, {**found, "cutoff_s": torch.full((3,), t)}).mean()) for t in (0.05, 0.2)]
    assert costs[1] > costs[0] and rests[1] < rests[0]


def test_an_ensembles_answer_is_the_mean_of_its_members(sim_basis):
    member = {
        "names": list(sim_basis.names),
        "dwelltime": sim_basis.dwelltime,
        "spec_freq_mhz": sim_basis.spec_freq_mhz,
    }
    torch.manual_seed(1)
    ensemble = self_supervised_quantification.Ensemble("dq-nmm", 3, member)
    for one in ensemble.members:
        one.set_basis(sim_basis.fids)
    fid = torch.randn(4, 1024, dtype=torch.complex64)
    ensemble.requires_grad_(False)
    each = ensemble.each(fid)
    assert each.shape == (3, 4, sim_basis.n_metabs) and float((each[0] - each[1]).abs().max()) > 0
    torch.testing.assert_close(ensemble.concentrations(fid), each.mean(0))
    torch.testing.assert_close(
        ensemble(fid)["shift_hz"], torch.stack([one(fid)["shift_hz"] for one in ensemble.members]).mean(0)
    )


@pytest.mark.filterwarnings("ignore")
def test_every_method_is_trained_and_answers_in_a_fit(tmp_path, capsys, monkeypatch, sim_basis, with_lines, one_thread):
    pytest.importorskip("lightning", reason="Lightning is not installed (pip install 'fsl_mrs_dl[train]')")
    import pandas as pd

    from fsl_mrs_dl.cli.main import main
    from fsl_mrs_dl.io import nifti
    from fsl_mrs_dl.networks import model_cards
    from fsl_mrs_dl.training import teacher

    monkeypatch.setattr(teacher, "N_TAUGHT", 1000)
    with_lines.save(tmp_path / "basis")
    protocol = protocols.protocol_of(with_lines.fids, with_lines.names, with_lines.axes)
    drawn = random_spectra.draw(
        recipes.Recipe.load("shamaei-table2"), 12, with_lines.names, torch.Generator().manual_seed(1)
    )
    fids = random_spectra.render(drawn, protocol).fid.numpy()
    data = nifti.MrsData(
        fids.T[None, None, None], sim_basis.dwelltime, sim_basis.spec_freq_mhz, "1H", ("DIM_DYN",), affine=np.eye(4)
    )
    nifti.save(tmp_path / "data.nii.gz", data)
    some = [
        "--basis",
        str(tmp_path / "basis"),
        "--steps",
        "60",
        "--batch_size",
        "16",
        "--validate_every",
        "30",
        "--threads",
        "1",
    ]
    for words in (
        ["--method", "dq-rpmm", "--lambda", "2", "--output", str(tmp_path / "r")],
        ["--method", "dq-pmm", "--ensemble", "2", "--output", str(tmp_path / "p")],
        [
            "--method",
            "dq-nmm",
            "--teacher",
            "posterior_mean",
            "--data",
            str(tmp_path / "data.nii.gz"),
            "--output",
            str(tmp_path / "n"),
        ],
    ):
        assert main(["train", "quant", *some, *words]) == 0, capsys.readouterr().err
    assert model_cards.read_card(tmp_path / "r")["architecture"]["settings"]["lam"] == 2
    assert (
        model_cards.read_card(tmp_path / "p").kind == "ensemble"
        and (tmp_path / "p" / "members" / "1" / "card.json").is_file()
    )
    assert model_cards.read_card(tmp_path / "n")["training"]["teacher"] == "posterior_mean"
    assert {"R2 of concentrations"} < set(model_cards.read_card(tmp_path / "r")["accuracy"])
    fit = [
        "fit",
        "--data",
        str(tmp_path / "data.nii.gz"),
        "--basis",
        str(tmp_path / "basis"),
        "--lorentzian",
        "--baseline",
        "off",
    ]
    for name, words in (("r", ["--prior", "shamaei-table2"]), ("p", ["--estimate", "network"])):
        out = tmp_path / f"fit-{name}"
        words = [*fit, "--model", str(tmp_path / name), "--output", str(out), *words]
        assert main(words) == 0, capsys.readouterr().err
        assert "network" in capsys.readouterr().out
        table = pd.read_csv(out / "uncertainty.csv")
        assert table["network"].notna().all() and (table["ood_network"] >= 0).all()
        assert ("epistemic_sd" in table) == (name == "p")
    summary = pd.read_csv(tmp_path / "fit-p" / "concentrations.csv", header=[0, 1])
    own = table["network"].to_numpy()
    np.testing.assert_allclose(summary[("mean", "raw")].to_numpy(), own, rtol=1e-4)


def test_spectra_with_lipids_are_left_out_of_training(sim_basis, capsys):
    pytest.importorskip("lightning", reason="Lightning is not installed (pip install 'fsl_mrs_dl[train]')")
    from fsl_mrs_dl.core.errors import DataError
    from fsl_mrs_dl.training.measured import without_lipids

    protocol = protocols.protocol_of(sim_basis.fids, sim_basis.names, sim_basis.axes)
    drawn = random_spectra.draw(
        recipes.Recipe.load("shamaei-table2"), 10, sim_basis.names, torch.Generator().manual_seed(1)
    )
    fids = random_spectra.render(drawn, protocol).fid
    t = torch.arange(fids.shape[1]) * sim_basis.dwelltime
    lipid = torch.exp((2j * math.pi * units.ppm_to_hz(1.3, sim_basis.spec_freq_mhz) - 60) * t).to(fids)
    fids[:4] += 3 * fids[:4].abs().amax(1, keepdim=True) * lipid
    recipe = recipes.Recipe.load("augment-spectra")
    kept = without_lipids(fids, recipe, sim_basis.axes, "mine")
    torch.testing.assert_close(kept, fids[4:])
    assert "4 of 10" in capsys.readouterr().err
    with pytest.raises(DataError, match="mine.*lipids"):
        without_lipids(fids[:5], recipe, sim_basis.axes, "mine")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("measured", [False, True])
def test_it_learns_from_spectra_alone_and_starts_fits(tmp_path, capsys, sim_basis, measured, one_thread):
    pytest.importorskip("lightning", reason="Lightning is not installed (pip install 'fsl_mrs_dl[train]')")
    from fsl_mrs_dl.cli.main import main
    from fsl_mrs_dl.fitting import quantify
    from fsl_mrs_dl.fitting.automatic_initialisation import AutomaticChoice
    from fsl_mrs_dl.io import nifti
    from fsl_mrs_dl.networks import model_cards

    sim_basis.save(tmp_path / "basis")
    protocol = protocols.protocol_of(sim_basis.fids, sim_basis.names, sim_basis.axes)
    recipe = recipes.Recipe.load("shamaei-table2")
    drawn = random_spectra.draw(recipe, 100, sim_basis.names, torch.Generator().manual_seed(1))
    fids = random_spectra.render(drawn, protocol).fid.numpy()
    words = [
        "train",
        "quant",
        "--method",
        "dq-nmm",
        "--basis",
        str(tmp_path / "basis"),
        "--output",
        str(tmp_path / "net"),
    ]
    words += ["--steps", "600" if measured else "400", "--batch_size", "24", "--learning_rate", "0.002"]
    words += ["--device", "cpu", "--threads", "1"]
    if measured:
        data = nifti.MrsData(
            fids.T[None, None, None], sim_basis.dwelltime, sim_basis.spec_freq_mhz, "1H", ("DIM_DYN",), affine=np.eye(4)
        )
        nifti.save(tmp_path / "spectra.nii.gz", data)
        words += ["--data", str(tmp_path / "spectra.nii.gz")]
    assert main(words) == 0, capsys.readouterr().err
    network, card = model_cards.load(tmp_path / "net")
    assert card.kind == "dq-nmm" and ("90 measured spectra" in card["training"]["basis"]) == measured
    (left,) = card["accuracy"]["held-back spectra"].values()
    assert left < (25 if measured else 10)  # percent of the energy; 90 spectra do not teach much
    with torch.no_grad():
        found = network(torch.as_tensor(fids))
    shift = drawn["shift_hz"].numpy()
    assert np.corrcoef(found["shift_hz"].numpy(), shift)[0, 1] > 0.7
    model, _ = quantify.model_for(sim_basis, Axes(1024, sim_basis.dwelltime, sim_basis.spec_freq_mhz, "1H"))
    initial = AutomaticChoice("network", tmp_path / "net").for_model(model)
    assert initial.name == "net"
    fit = fsl_mrs_dl.quantify(
        fids,
        sim_basis,
        dwelltime=sim_basis.dwelltime,
        spec_freq_mhz=sim_basis.spec_freq_mhz,
        initial_values=initial,
        device="cpu",
    )
    classical = fsl_mrs_dl.quantify(
        fids,
        sim_basis,
        dwelltime=sim_basis.dwelltime,
        spec_freq_mhz=sim_basis.spec_freq_mhz,
        init="classical",
        device="cpu",
    )
    assert np.mean(fit.cost <= classical.cost * 1.001) > 0.95


@pytest.mark.parametrize(
    "words,message",
    [
        (["--method", "dq-nmm"], "--basis"),
        (["--method", "dq-x", "--basis", "b"], "--method dq-x.*dq-nmm"),
        (["--data", "a.nii.gz"], "--data.*dq-nmm"),
        (["--mm", "parametric"], "--mm.*universal"),
        (["--ensemble", "0"], "--ensemble 0"),
    ],
)
def test_impossible_trainings_are_said_in_one_line(tmp_path, capsys, words, message):
    pytest.importorskip("lightning", reason="Lightning is not installed (pip install 'fsl_mrs_dl[train]')")
    import re

    from fsl_mrs_dl.cli.main import main

    assert main(["train", "quant", "--output", str(tmp_path / "net"), *words]) == 2
    error = capsys.readouterr().err
    assert re.search(message, error) and error.count("\n") == 1 and not (tmp_path / "net").exists()
