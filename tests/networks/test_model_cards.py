"""Model folders: what was saved is what is loaded, and nothing else is."""

import json

import pytest
import torch

from fsl_mrs_dl.cli.main import main
from fsl_mrs_dl.core.errors import DataError, OptionError
from fsl_mrs_dl.networks import model_cards
from fsl_mrs_dl.networks.universal import AlignUniversal

CONTENT = {
    "name": "mine",
    "what": "Tries things.",
    "training": {
        "command": "fsl_mrs_dl train align",
        "basis": "none",
        "recipe": {"name": "universal-transients"},
        "steps": 1,
        "batch_size": 2,
        "minutes": 0.1,
        "device": "CPU",
        "seed": 0,
    },
    "ranges": {"nucleus": ["1H"], "spec_freq_mhz": [60.0, 410.0]},
    "accuracy": {"inside": {"shift within 0.02 ppm (%)": 12.5}},
}


@pytest.fixture
def folder(tmp_path):
    torch.manual_seed(0)
    model_cards.save(tmp_path / "mine", AlignUniversal(width=8, depth=2), CONTENT)
    return tmp_path / "mine"


def test_what_was_saved_is_loaded(folder):
    torch.manual_seed(0)
    network = AlignUniversal(width=8, depth=2)
    for path in (folder, folder / "card.json", str(folder)):
        again, card = model_cards.load(path)
        assert card.name == "mine" and card["architecture"]["parameters"] == sum(
            p.numel() for p in network.parameters()
        )
        for name, value in network.state_dict().items():
            assert torch.equal(value, again.state_dict()[name])
        assert not again.training and not any(p.requires_grad for p in again.parameters())


def test_loading_never_unpickles(folder, monkeypatch):
    import pickle

    monkeypatch.setattr(pickle, "load", None)
    monkeypatch.setattr(torch, "load", None)
    model_cards.load(folder)


def edit(folder, **changes):
    card = json.loads((folder / "card.json").read_text()) | changes
    (folder / "card.json").write_text(json.dumps(card))


@pytest.mark.parametrize(
    "spoil,words",
    [
        (lambda f: (f / "model.safetensors").write_bytes(b"x"), "SHA-256"),
        (lambda f: (f / "model.safetensors").unlink(), "cannot be read"),
        (lambda f: (f / "card.json").write_text("{"), "cannot be read as a model card"),
        (lambda f: (f / "card.json").write_text("[1]"), "format list"),
        (lambda f: edit(f, format=2), "format 2.*reads format 1"),
        (lambda f: edit(f, ranges=3), "'ranges'"),
        (lambda f: edit(f, architecture={"kind": "align-universal"}), "'architecture'"),
        (lambda f: edit(f, architecture={"kind": "gpt", "settings": {}}), "network 'gpt'.*align-universal"),
        (lambda f: edit(f, architecture={"kind": "align-universal", "settings": {"width": 16}}), "do not fit"),
        (lambda f: edit(f, architecture={"kind": "align-universal", "settings": {"colour": 1}}), "do not fit"),
    ],
)
def test_what_is_not_understood_is_refused_in_one_line(folder, spoil, words):
    spoil(folder)
    with pytest.raises(DataError, match=words) as caught:
        model_cards.load(folder)
    assert "\n" not in str(caught.value) and str(folder) in str(caught.value)


def test_a_model_that_is_not_there_is_named(tmp_path):
    with pytest.raises(OptionError, match="nobody.*models list"):
        model_cards.load("nobody")
    with pytest.raises(OptionError, match="card.json"):
        model_cards.load(tmp_path)


def test_the_card_says_what_it_covers(folder):
    card = model_cards.read_card(folder)
    assert card.refuses(nucleus="1H", spec_freq_mhz=123.2, unheard_of=7) == ""
    assert "31P" in card.refuses(nucleus="31P")
    assert "51" in card.refuses(spec_freq_mhz=51.0)


def test_every_shipped_model_is_whole():
    for name in model_cards.model_names():
        network, card = model_cards.load(name)
        assert (
            card.name == name and card["training"]["command"] and card["accuracy"] and card["architecture"]["flops"] > 0
        )


def test_models_command(folder, capsys):
    assert main(["models", "list"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == model_cards.model_names()
    assert main(["models", "path", str(folder)]) == 0
    assert capsys.readouterr().out.strip() == str(folder)
    assert main(["models", "show", str(folder)]) == 0
    shown = capsys.readouterr().out
    for words in (
        "Tries things.",
        "align-universal (width 8, depth 2)",
        "nucleus 1H",
        "12.5",
        "fsl_mrs_dl train align",
    ):
        assert words in shown
    (folder / "model.safetensors").write_bytes(b"x")
    assert main(["models", "show", str(folder)]) == 2
    error = capsys.readouterr().err
    assert "SHA-256" in error and error.count("\n") == 1
