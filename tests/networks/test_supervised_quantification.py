"""Supervised quantifiers: what they learn is concentrations in the data's units, whatever the encoder; stacks, votes,
rounds; the command."""

import json
import re

import numpy as np
import pytest
import torch

import fsl_mrs_dl
from fsl_mrs_dl.core.axes import Axes
from fsl_mrs_dl.core.errors import OptionError
from fsl_mrs_dl.networks import model_cards, supervised_quantification
from fsl_mrs_dl.simulation import protocols, random_spectra, recipes

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.filterwarnings("ignore")]
SMALL = {"arguments": {"share": 0.1}}


def spectra(basis, n, seed=0, recipe="shamaei-table2"):
    protocol = protocols.protocol_of(basis.fids, basis.names, basis.axes)
    drawn = random_spectra.draw(recipes.Recipe.load(recipe), n, basis.names, torch.Generator().manual_seed(seed))
    return random_spectra.render(drawn, protocol).fid, drawn["conc"]


def made(basis, encoder="cnn", **options):
    torch.manual_seed(0)
    network = supervised_quantification.Supervised(
        basis.names, basis.dwelltime, basis.spec_freq_mhz, encoder, **options
    )
    network.set_basis(basis.fids)
    network.set_range(*spectra(basis, 64))
    return network.eval()


@pytest.mark.parametrize("water", [False, True])
@pytest.mark.parametrize("encoder,options", [("cnn", {}), ("unet-1dr-joint", SMALL)])
def test_numbers_and_concentrations_are_each_others_inverse(sim_basis, water, encoder, options):
    network = made(sim_basis, encoder, water=water, **options)
    fid, conc = spectra(sim_basis, 5, seed=1)
    target = network.targets(fid, conc)
    assert target.shape == (5, sim_basis.n_metabs + water) and target.min() > -0.5 and target.max() < 1.5
    found = network.amounts(fid, target) * network.scale(fid)[:, None]
    torch.testing.assert_close(found, conc, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("encoder", ["wscn", "stack"])
def test_what_is_kept_of_spectra_gives_the_same_loss(sim_basis, encoder):
    if encoder == "stack":
        member = made(sim_basis)
        network = supervised_quantification.Stack([member.settings, member.settings], (8,))
        for one in network.members:
            one.load_state_dict(member.state_dict())
        network = network.fix_members()
    else:
        pytest.importorskip("kymatio", reason="kymatio is not installed (pip install 'fsl_mrs_dl[timefreq]')")
        network = made(sim_basis, encoder)
    assert network.keeps_view
    fid, conc = spectra(sim_basis, 5, seed=1)
    with torch.no_grad():
        kept = network.loss_of_views(network.views(fid), network.targets(fid, conc))
        torch.testing.assert_close(kept, network.loss(fid, conc))
        network.eval()
        torch.testing.assert_close(
            network.loss_on(network.views(fid), network.targets(fid, conc))(), network.loss(fid, conc)
        )


def test_wavelet_scattering_is_scaled_by_what_it_is_first_trained_with():
    pytest.importorskip("kymatio", reason="kymatio is not installed (pip install 'fsl_mrs_dl[timefreq]')")
    from fsl_mrs_dl.networks.encoders.timefreq import _Scaled

    scaled, generator = _Scaled(3), torch.Generator().manual_seed(0)
    batches = 5 + torch.tensor([1.0, 10.0, 0.1]) * torch.randn(40, 64, 3, generator=generator)
    for batch in batches:
        scaled(batch)
    first = batches[:32].flatten(0, 1)
    torch.testing.assert_close(scaled.mean, first.mean(0))
    torch.testing.assert_close(scaled.square.sqrt(), first.std(0), rtol=0.02, atol=0)
    before = scaled(batches[0])
    scaled.eval()(100 * batches[1])
    assert torch.equal(scaled(batches[0]), before)


def test_a_fixed_set_of_spectra_is_seen_over_and_over(sim_basis, tmp_path, monkeypatch):
    from fsl_mrs_dl.training.settings import Settings
    from fsl_mrs_dl.training.supervised_quantification import SupervisedTraining
    from fsl_mrs_dl.training.trainer import train

    settings = Settings(steps=12, batch_size=8, validate_every=6, validation_batches=2, device="cpu", progress=False)
    seen, plain = [], supervised_quantification.Supervised.loss
    monkeypatch.setattr(
        supervised_quantification.Supervised,
        "loss",
        lambda self, fid, conc: seen.append((self.training, conc)) or plain(self, fid, conc),
    )
    training = SupervisedTraining(sim_basis, settings=settings, encoder="cnn", n_signals=30, active=1)
    card = train(training, tmp_path / "net")
    assert card["training"]["basis"].startswith("30 simulated spectra")
    rows = {
        kind: {tuple(row) for training, conc in seen for row in conc.tolist() if training == kind}
        for kind in (True, False)
    }
    assert len(rows[True]) <= 2 * 27 and len(rows[False]) <= 3 and not rows[True] & rows[False]


@pytest.mark.parametrize("size", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("water", [False, True])
def test_concentrations_are_in_the_units_of_the_data(sim_basis, size, water):
    network = made(sim_basis, water=water)
    fid, _ = spectra(sim_basis, 3)
    with torch.no_grad():
        one, other = network.concentrations(fid), network.concentrations(size * fid)
    np.testing.assert_allclose(other.numpy(), size * one.numpy(), rtol=1e-3, atol=1e-3 * size * float(one.abs().max()))


def test_water_is_a_line_at_half_a_ppm_that_is_counted_in(sim_basis):
    from fsl_mrs_dl.core import units

    network = made(sim_basis, water=True)
    line = torch.view_as_complex(network.line_ri)
    ppm = units.ppm_axis(1024, sim_basis.dwelltime, sim_basis.spec_freq_mhz)
    assert ppm[units.fid_to_spec(line).abs().argmax()] == pytest.approx(0.5, abs=0.02)
    fid, _ = spectra(sim_basis, 2)
    numbers = torch.full((2, network.n_out), 0.5)
    twice = (2 * (numbers * network.span + network.low) - network.low) / network.span
    # A network that sees everything twice as large, the reference too, gives the same answer.
    torch.testing.assert_close(network.amounts(fid, numbers), network.amounts(fid, twice))
    with pytest.raises(OptionError, match="water.*0.5 ppm"):
        made(sim_basis, water=True, ppmlim=(1.0, 4.2))


def test_painted_spectra_are_integrated_to_what_they_were_painted_with(sim_basis):
    """An encoder that paints the truth answers the truth, although lines of both signs cancel in a plain integral."""
    network = made(sim_basis, "unet-1dr-joint", **SMALL)
    fid, conc = spectra(sim_basis, 4, seed=2)
    target = network.targets(fid, conc)
    network.encoder.spectra = lambda x: target[..., None] * network._templates()
    torch.testing.assert_close(network.numbers(fid), target, rtol=1e-4, atol=1e-5)
    assert float(network.loss(fid, conc)) < 1e-9


@pytest.mark.parametrize("encoder", ["unet-1dr", "unet-1dr-joint"])
def test_painters_begin_with_empty_spectra(sim_basis, encoder):
    """Noise all over the band is worse than nothing by far, and took a short training's time to unlearn."""
    network = made(sim_basis, encoder, **SMALL)
    fid, conc = spectra(sim_basis, 4)
    assert float(network.numbers(fid).abs().max()) < 0.05
    nothing = float(network.targets(fid, conc).square().mean())
    assert float(network.loss(fid, conc)) == pytest.approx(nothing, rel=0.1)


def test_a_metabolite_that_never_varies_does_no_harm(sim_basis):
    network = made(sim_basis)
    fid, conc = spectra(sim_basis, 8)
    conc[:, 2] = 0
    network.set_range(fid, conc)
    assert torch.isfinite(network.targets(fid, conc)).all() and float(network.span.min()) > 0
    assert set(supervised_quantification.scores(conc, conc, sim_basis.names)["RMSE"]) == set(sim_basis.names) - {
        sim_basis.names[2]
    }


def test_scores_are_the_papers():
    truth = torch.linspace(1, 3, 50)[:, None]
    found = supervised_quantification.scores(0.5 * truth + 1, truth, ["NAA"])
    assert found["slope of found against true"]["NAA"] == pytest.approx(0.5)
    assert found["intercept"]["NAA"] == pytest.approx(1)
    assert found["R2 of concentrations"]["NAA"] == pytest.approx(0.75, abs=0.01)
    assert found["RMSE"]["NAA"] == pytest.approx(float(((0.5 * truth - 1) ** 2).mean().sqrt()), rel=0.01)


def test_hard_spectra_are_those_with_the_largest_errors_and_more_of_them_are_drawn(sim_basis):
    network = made(sim_basis)
    fid, conc = spectra(sim_basis, 40)
    network.numbers = lambda _: network.targets(fid, conc) + torch.arange(40)[:, None] / 40
    hard = supervised_quantification.hardest(network, [{"fid": fid, "conc": conc, "snr": torch.arange(40.0)}])
    assert sorted(hard["snr"].tolist()) == list(range(30, 40))
    generator = torch.Generator().manual_seed(0)
    hard["conc"][:, 0] = hard["low"][0] = hard["high"][0] = 7.0  # a reference that is always the same
    drawn = random_spectra.draw(recipes.Recipe.load("shamaei-table2"), 2000, sim_basis.names, generator)
    again = supervised_quantification.near(drawn, hard, 0.25, generator)
    changed = again["snr"] != drawn["snr"]
    assert changed.float().mean() == pytest.approx(0.25, abs=0.04) and set(again["snr"][changed].tolist()) <= set(
        range(30, 40)
    )
    assert torch.equal(again["conc"][~changed], drawn["conc"][~changed]) and torch.equal(again["phi0"], drawn["phi0"])
    like = again["conc"][changed]
    assert (like[:, 0] == 7).all() and (like >= hard["low"]).all() and (like <= hard["high"]).all()
    assert float(like[:, 1].std()) > 0
    assert supervised_quantification.pool_size(100) == 100 and supervised_quantification.pool_size(10**6) < 10**5


def test_one_spectrum_in_a_batch_is_refused(sim_basis, tmp_path):
    pytest.importorskip("lightning", reason="Lightning is not installed (pip install 'fsl_mrs_dl[train]')")
    from fsl_mrs_dl.training.settings import Settings
    from fsl_mrs_dl.training.supervised_quantification import SupervisedTraining
    from fsl_mrs_dl.training.trainer import train

    with pytest.raises(OptionError, match="batch_size 1: .*at least 2"):
        training = SupervisedTraining(sim_basis, settings=Settings(steps=2, batch_size=1, progress=False))
        train(training, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_stack_with_a_misspelt_member_is_refused_before_anything_is_trained(sim_basis, tmp_path):
    pytest.importorskip("lightning", reason="Lightning is not installed (pip install 'fsl_mrs_dl[train]')")
    from fsl_mrs_dl.training.settings import Settings
    from fsl_mrs_dl.training.supervised_quantification import SupervisedTraining
    from fsl_mrs_dl.training.trainer import train

    with pytest.raises(OptionError, match="stack fc fcc: there is no such encoder as fcc"):
        training = SupervisedTraining(sim_basis, stack=("fc", "fcc"), settings=Settings(steps=2, progress=False))
        train(training, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_stack_weighs_its_members_and_leaves_them_alone(sim_basis):
    members = [made(sim_basis, "cnn"), made(sim_basis, "align-cnn")]
    torch.manual_seed(3)
    stack = supervised_quantification.Stack([one.settings for one in members], hidden=(16, 8))
    for mine, one in zip(stack.members, members):
        mine.load_state_dict(one.state_dict())
    before = {key: value.clone() for key, value in stack.members.state_dict().items()}
    optimiser = torch.optim.Adam([p for p in stack.fix_members().parameters() if p.requires_grad], 1e-2)
    fid, conc = spectra(sim_basis, 16)
    losses = []
    for _ in range(30):
        stack.train()
        loss = stack.loss(fid, conc)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.7 * losses[0] and not stack.members.training
    assert all(torch.equal(value, before[key]) for key, value in stack.members.state_dict().items())


@pytest.mark.parametrize("words", [("ShallowEns-5n",), ("hybridens-2n",), ("hybridens-10n",), ("cnn", "resnet")])
def test_stacks_have_published_names_or_their_own_encoders(words):
    members = supervised_quantification.stack_members(words)
    assert len(members) == {"S": 5, "c": 2}.get(words[0][0], 2 if "2n" in words[0] else 10)
    with pytest.raises(OptionError, match="stack cnn.*shallowens-5n"):
        supervised_quantification.stack_members(("cnn",))


@pytest.fixture(scope="module")
def trained(tmp_path_factory, sim_basis, one_thread):
    """Spectra with a known truth, a basis set, and networks by the command."""
    pytest.importorskip("lightning", reason="Lightning is not installed (pip install 'fsl_mrs_dl[train]')")
    from fsl_mrs_dl.cli.main import main
    from fsl_mrs_dl.io import nifti

    folder = tmp_path_factory.mktemp("supervised")
    sim_basis.save(folder / "basis")
    fids, conc = spectra(sim_basis, 16, seed=5, recipe="rizzo")
    data = nifti.MrsData(
        fids.numpy().T[None, None, None],
        sim_basis.dwelltime,
        sim_basis.spec_freq_mhz,
        "1H",
        ("DIM_DYN",),
        affine=np.eye(4),
    )
    nifti.save(folder / "data.nii.gz", data)
    some = [
        "train",
        "quant",
        "--method",
        "supervised",
        "--basis",
        str(folder / "basis"),
        "--threads",
        "1",
        "--device",
        "cpu",
    ]
    some += ["--batch_size", "32", "--validate_every", "100", "--learning_rate", "0.002"]
    for name, words in {
        "one": ["--encoder", "resnet", "--steps", "90", "--water", "--recipe", "rizzo"],
        "votes": ["--encoder", "align-cnn", "--ensemble", "2", "--steps", "4"],
        "stack": ["--stack", "align-cnn", "cnn", "--steps", "4", "--active-learning"],
    }.items():
        assert main([*some, *words, "--output", str(folder / name)]) == 0
    return folder, conc.numpy(), some


def test_it_learns_concentrations_and_its_card_says_how_well(trained):
    card = model_cards.read_card(trained[0] / "one")
    assert card.kind == "supervised" and card["architecture"]["settings"]["water"] is True
    learnt = card["accuracy"]["R2 of concentrations"]
    assert learnt["NAA"] > 0.7 and learnt["Cr"] > 0.7 and np.median(list(learnt.values())) > 0.2
    assert 0.5 < card["accuracy"]["slope of found against true"]["NAA"] < 1.3 and card["architecture"]["flops"] > 0
    assert "--method supervised" in card["training"]["command"]


def test_members_and_rounds_are_models_of_their_own(trained):
    folder = trained[0]
    assert (
        model_cards.read_card(folder / "votes").kind == "supervised-ensemble"
        and model_cards.read_card(folder / "stack").kind == "supervised-stack"
    )
    for part in ("votes/members/1", "stack/members/0", "stack/members/1/rounds/0"):
        assert model_cards.read_card(folder / part).kind == "supervised"
    assert len(model_cards.read_card(folder / "stack/members/1")["training"]["active_learning"]) == 1
    network, _ = model_cards.load(folder / "stack")
    for index, member in enumerate(network.members):
        alone = model_cards.load(folder / f"stack/members/{index}")[0].state_dict()
        assert all(torch.equal(value, alone[key]) for key, value in member.state_dict().items())


@pytest.mark.parametrize("name", ["one", "votes", "stack"])
def test_a_fit_starts_without_it_and_has_its_answer_beside_its_own(trained, tmp_path, capsys, name):
    import pandas as pd

    from fsl_mrs_dl.cli.main import main

    folder, truth, _ = trained
    words = [
        "fit",
        "--data",
        str(folder / "data.nii.gz"),
        "--basis",
        str(folder / "basis"),
        "--model",
        str(folder / name),
    ]
    words += ["--lorentzian", "--baseline", "off"]
    assert main([*words, "--output", str(tmp_path / "fit")]) == 0, capsys.readouterr().err
    assert f"classical, {name} answers beside it" in capsys.readouterr().out
    table = pd.read_csv(tmp_path / "fit/uncertainty.csv")
    assert table["network"].notna().all() and ("epistemic_sd" in table) == (name == "votes")
    assert main([*words, "--estimate", "network", "--report", "--output", str(tmp_path / "own")]) == 0, (
        capsys.readouterr().err
    )
    own = pd.read_csv(tmp_path / "own/concentrations.csv", header=[0, 1])
    np.testing.assert_allclose(own[("mean", "raw")].to_numpy(), table["network"].to_numpy(), rtol=1e-4)
    summary = pd.read_csv(tmp_path / "own/summary.csv")
    assert (summary["estimate"] == "network").all() and (summary["%CRLB"].notna() == (name == "votes")).all()
    # What is to be thought of the network stays with its numbers.
    for file in ("options.txt", "report.html"):
        assert ("has learnt little" in (tmp_path / "own" / file).read_text()) == model_cards.little_learnt(
            model_cards.read_card(folder / name)
        )


@pytest.mark.parametrize("name", ["one", "votes"])
def test_what_a_network_does_not_know_spreads_to_nothing_else(trained, name):
    """Macromolecules that were added for the fit have no answer; ratios of the others keep their spread, where there is
    one."""
    from fsl_mrs_dl.io.basis import Basis
    from fsl_mrs_dl.io.nifti import load
    from fsl_mrs_dl.physics.macromolecules import add_macromolecules
    from fsl_mrs_dl.results.figures import sd_labels
    from fsl_mrs_dl.results.fit_results import FitResults

    data = load(trained[0] / "data.nii.gz")
    basis = add_macromolecules(Basis.load(trained[0] / "basis"), "summed")
    fit = fsl_mrs_dl.quantify(
        np.moveaxis(data.fids, 3, -1).reshape(-1, data.n_points)[:2],
        basis,
        dwelltime=data.dwelltime,
        spec_freq_mhz=data.spec_freq_mhz,
        network=trained[0] / name,
        estimate="network",
        device="cpu",
    )
    results = FitResults(fit, data, ["Cr"], estimate="network")
    sd = results.ratios[1]
    known = np.array([one != basis.names[-1] for one in results.names])
    assert np.isnan(sd[:, ~known]).all() and np.isfinite(sd[:, known]).all() == (name == "votes")
    if name == "one":
        assert np.isnan(sd).all() and sd_labels(results)[0] == "estimate of one network, SD unknown"
    else:
        np.testing.assert_allclose(
            results.ratios[0][:, known] * results.reference[:, None], results.concentrations[0][:, known]
        )


def test_the_network_alone_answers_in_the_unit_of_data_and_basis(trained, sim_basis):
    from fsl_mrs_dl.fitting import quantify
    from fsl_mrs_dl.fitting.automatic_initialisation import AutomaticChoice
    from fsl_mrs_dl.fitting.network_initialisation import SupervisedAnswers

    folder, truth, _ = trained
    model, _ = quantify.model_for(sim_basis, Axes(1024, sim_basis.dwelltime, sim_basis.spec_freq_mhz, "1H"))
    initial = AutomaticChoice(None, folder / "one").for_model(model)
    assert isinstance(initial, SupervisedAnswers)
    fids, conc = spectra(sim_basis, 64, seed=9, recipe="rizzo")
    fit = fsl_mrs_dl.quantify(
        7.0 * fids.numpy(),
        sim_basis,
        dwelltime=sim_basis.dwelltime,
        spec_freq_mhz=sim_basis.spec_freq_mhz,
        initial_values=initial,
        rescale=False,
        device="cpu",
    )
    column = list(sim_basis.names).index("NAA")
    found = fit.networks[0, :, column]
    assert np.corrcoef(found, conc[:, column])[0, 1] > 0.85
    assert np.median(found / conc[:, column].numpy()) == pytest.approx(7, rel=0.2)


def test_what_it_has_no_answer_for_is_said(trained, sim_basis):
    """A metabolite that it was not trained on, and one that looks different there."""
    from fsl_mrs_dl.io.basis import Basis
    from fsl_mrs_dl.io.nifti import load

    data = load(trained[0] / "data.nii.gz")
    fids = np.moveaxis(data.fids, 3, -1).reshape(-1, data.n_points)[:2]
    other = sim_basis.fids.copy()
    glu = list(sim_basis.names).index("Glu")
    other[glu] = other[glu] * np.exp(2j * np.pi * 40 * np.arange(other.shape[-1]) * sim_basis.dwelltime)
    names = tuple("Sugar" if name == "Lac" else name for name in sim_basis.names)
    changed = Basis(other, names, sim_basis.dwelltime, sim_basis.spec_freq_mhz, sim_basis.nucleus)
    axes = {"dwelltime": data.dwelltime, "spec_freq_mhz": data.spec_freq_mhz, "device": "cpu"}
    notes = [
        fsl_mrs_dl.quantify(fids, one, network=trained[0] / "one", **axes).network_note for one in (sim_basis, changed)
    ]
    assert "no answer" not in notes[0]
    there = "one has no answer for " + ", ".join(name for name in names if name in ("Glu", "Sugar"))
    assert notes[1].startswith(there + ":")


def test_a_network_that_proposes_no_starts_is_not_taken_for_one_that_does(trained, tmp_path, capsys):
    from fsl_mrs_dl.cli.main import main

    folder, _, _ = trained
    words = [
        "fit",
        "--data",
        str(folder / "data.nii.gz"),
        "--basis",
        str(folder / "basis"),
        "--model",
        str(folder / "votes"),
    ]
    assert main([*words, "--init", "network", "--output", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert "--init network" in error and "proposes no initial values" in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_what_was_interrupted_goes_on(trained, tmp_path, monkeypatch):
    """A stack whose second member was interrupted: the first stays, the second goes on, the rest follows."""
    from fsl_mrs_dl.io.basis import Basis
    from fsl_mrs_dl.training.batches import BatchStream
    from fsl_mrs_dl.training.settings import Settings
    from fsl_mrs_dl.training.supervised_quantification import SupervisedTraining
    from fsl_mrs_dl.training.trainer import train

    basis = Basis.load(trained[0] / "basis")
    settings = Settings(steps=6, batch_size=8, validate_every=2, validation_batches=1, device="cpu", progress=False)
    options = {"stack": ("align-cnn", "cnn"), "hidden": (8,), "active": 1}
    plain, seen = BatchStream.__iter__, []

    def interrupted(self):
        for batch in plain(self):
            seen.append(self.n is None)
            if sum(seen) == 26:  # one of each training's batches is made ahead
                raise KeyboardInterrupt
            yield batch

    monkeypatch.setattr(BatchStream, "__iter__", interrupted)
    with pytest.raises(KeyboardInterrupt, match="--resume goes on"):
        train(SupervisedTraining(basis, settings=settings, **options), tmp_path / "net")
    monkeypatch.setattr(BatchStream, "__iter__", plain)
    first = (tmp_path / "net/members/0/card.json").read_bytes()
    assert not (tmp_path / "net/members/1/card.json").exists()
    card = train(SupervisedTraining(basis, settings=settings, **options), tmp_path / "net", resume=True)
    assert card.kind == "supervised-stack" and (tmp_path / "net/members/0/card.json").read_bytes() == first
    whole = train(SupervisedTraining(basis, settings=settings, **options), tmp_path / "whole")
    ours, theirs = (model_cards.load(one.folder)[0].state_dict() for one in (card, whole))
    assert all(torch.equal(value, theirs[key]) for key, value in ours.items())
    other = SupervisedTraining(basis, settings=settings, **options | {"stack": ("cnn", "cnn")})
    with pytest.raises(OptionError, match="resume: .*was begun with"):
        train(other, tmp_path / "net", resume=True)


def test_second_order_goes_on_where_batches_end(sim_basis, tmp_path, monkeypatch):
    """It lowers the loss of held-back spectra by much, says so on the card, and goes on after an interruption."""
    pytest.importorskip("lightning", reason="Lightning is not installed (pip install 'fsl_mrs_dl[train]')")
    pytest.importorskip("kymatio", reason="kymatio is not installed (pip install 'fsl_mrs_dl[timefreq]')")
    from fsl_mrs_dl.training import supervised_quantification as supervised_module
    from fsl_mrs_dl.training.settings import Settings
    from fsl_mrs_dl.training.supervised_quantification import SupervisedTraining
    from fsl_mrs_dl.training.trainer import train

    settings = Settings(
        steps=30,
        batch_size=32,
        validate_every=10,
        validation_batches=2,
        learning_rate=3e-3,
        device="cpu",
        progress=False,
    )
    options = {"encoder": "wscn", "n_signals": 400, "n_points": 256, "settings": settings, "recipe": "rizzo"}
    plain = train(SupervisedTraining(sim_basis, **options), tmp_path / "plain")
    polished, stopped = supervised_module.polish_weights, {"yes": True}

    def interrupted(*args):
        if stopped.pop("yes", False):
            raise KeyboardInterrupt
        return polished(*args)

    monkeypatch.setattr(supervised_module, "polish_weights", interrupted)
    with pytest.raises(KeyboardInterrupt, match="--resume goes on"):
        train(SupervisedTraining(sim_basis, polish=60, **options), tmp_path / "more")
    card = train(SupervisedTraining(sim_basis, polish=60, **options), tmp_path / "more", resume=True)
    done = card["training"]
    assert 20 <= done["polished"] <= 60 and done["steps"] == 30 and "polished" not in plain["training"]
    assert done["validation_loss"] < 0.8 * plain["training"]["validation_loss"]
    with pytest.raises(OptionError, match="trained for 30 steps already"):
        train(SupervisedTraining(sim_basis, polish=60, **options), tmp_path / "more", resume=True)


def test_second_order_keeps_the_best_of_held_back_spectra():
    """On targets that are noise, nothing that it finds holds elsewhere: the network stays as it was."""
    from fsl_mrs_dl.training import second_order

    torch.manual_seed(0)

    class Plain(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = torch.nn.Linear(40, 3)
            torch.nn.init.zeros_(self.layers.weight)
            torch.nn.init.zeros_(self.layers.bias)

        def loss_on(self, views, targets):
            return lambda: (self.layers(views) - targets).square().mean()

    network = Plain()
    used, held = ({"view": torch.randn(n, 40), "target": torch.randn(n, 3)} for n in (60, 50))
    done = second_order.polish_weights(network, used, held, 400)
    assert (
        done["polished"] == 20 * second_order.ROUNDS_WITHOUT_GAIN
        and float(network.layers.weight.detach().abs().max()) == 0
    )
    assert done["validation_loss"] == pytest.approx(float(held["target"].square().mean()))


@pytest.mark.parametrize(
    "words,message",
    [
        ([], "--basis"),
        (["--basis", "b", "--data", "a.nii.gz"], "--data.*simulated"),
        (["--basis", "b", "--teacher", "ml"], "--teacher.*supervised"),
        (["--basis", "b", "--lambda", "1"], "--lambda.*supervised"),
        (["--basis", "BASIS", "--stack", "cnn"], "--stack cnn: is one network.*hybridens-2n"),
        (["--basis", "BASIS", "--stack", "hybridens-3n"], "--stack hybridens-3n: there is no such stack.*hybridens-2n"),
        (["--basis", "BASIS", "--stack", "cnn", "cnn", "--ensemble", "2"], "--stack.*--ensemble"),
        (["--basis", "b", "--stack", "cnn", "cnn", "--encoder", "cnn"], "--encoder.*--stack"),
        (["--basis", "BASIS", "--active-learning", "-1"], "--active-learning -1"),
        (["--basis", "BASIS", "--encoder", "gru"], "--encoder gru.*hatami"),
        (["--method", "dq-nmm", "--basis", "b", "--water"], "--water.*supervised"),
        (["--method", "universal", "--stack", "cnn", "cnn"], "--stack.*universal"),
    ],
)
def test_impossible_trainings_are_said_in_one_line(trained, tmp_path, capsys, words, message):
    from fsl_mrs_dl.cli.main import main

    words = [str(trained[0] / "basis") if word == "BASIS" else word for word in words]
    first = [] if "--method" in words else ["--method", "supervised"]
    assert main(["train", "quant", *first, "--output", str(tmp_path / "net"), *words]) == 2
    error = capsys.readouterr().err
    assert re.search(message, error) and error.count("\n") == 1 and not (tmp_path / "net").exists()


def test_encoders_of_fids_are_not_for_spectra(tmp_path, capsys):
    from fsl_mrs_dl.cli.main import main

    words = [
        "train",
        "quant",
        "--output",
        str(tmp_path / "net"),
        "--steps",
        "1",
        "--n_protocols",
        "1",
        "--encoder",
        "hatami",
    ]
    assert main(words) == 2
    error = capsys.readouterr().err
    assert (
        "--encoder hatami" in error and "--method supervised" in error and "resnet" in error and error.count("\n") == 1
    )


def test_a_search_tries_encoders(trained, tmp_path, monkeypatch):
    pytest.importorskip("optuna", reason="Optuna is not installed (pip install 'fsl_mrs_dl[search]')")
    from fsl_mrs_dl.cli.main import main

    monkeypatch.setattr(supervised_quantification, "SEARCHED", ("cnn", "align-cnn"))
    words = [*trained[2], "--output", str(tmp_path / "net"), "--steps", "2", "--search", "2", "--search_steps", "2"]
    assert main(words) == 0
    found = json.loads((tmp_path / "net/search.json").read_text())
    assert model_cards.read_card(tmp_path / "net")["architecture"]["settings"]["encoder"] == found["encoder"]
