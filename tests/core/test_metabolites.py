"""Metabolites by name: several names of one, wherever one is named."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from fsl_mrs_dl.core.axes import Axes
from fsl_mrs_dl.core.errors import BasisError, OptionError
from fsl_mrs_dl.core.metabolites import by_names, name_among
from fsl_mrs_dl.fitting import priors
from fsl_mrs_dl.fitting.fitted_data import with_names
from fsl_mrs_dl.fitting.options import FitOptions
from fsl_mrs_dl.fitting.quantify import quantify
from fsl_mrs_dl.io.basis import Basis
from fsl_mrs_dl.physics.spin_systems import spin_system
from fsl_mrs_dl.simulation.random_spectra import draw_concentrations
from fsl_mrs_dl.simulation.recipes import Recipe

NAMES = ("NAA", "Cr", "PCr", "PCho", "GPC", "mI", "sIns")


@pytest.fixture(scope="module")
def other_names():
    t = np.arange(512) / 2000
    fids = [np.exp((2j * np.pi * 123.2 * (4.65 - ppm) - 10) * t) for ppm in (2.0, 3.03, 3.9, 3.2, 3.25, 3.55, 3.35)]
    return Basis(np.array(fids), NAMES, 1 / 2000, 123.2)


def test_the_name_among_others():
    for name, expected in (("PCh", "PCho"), ("Ins", "mI"), ("mIns", "mI"), ("Scyllo", "sIns"), ("NAA", "NAA")):
        assert name_among(name, NAMES) == expected
    # Sums, metabolites that are absent, and two that may be meant.
    for name in ("tCr", "tCho", "Cho", "tNAA", "Tau", "Ino"):
        assert name_among(name, NAMES) is None
    assert name_among("Ins", ("mI", "Myo")) is None
    assert name_among("Ins", ("Ins", "Myo")) == "Ins"
    assert name_among("Cr", ("tCr",)) is None
    assert name_among("tCr", ("tCr", "Cr")) == "tCr"


def test_a_dictionary_by_the_names_of_the_basis():
    assert by_names({"Ins": 1, "NAA": 2, "Tau": 3}, NAMES) == {"mI": 1, "NAA": 2, "Tau": 3}
    assert by_names({"Ins": 1, "mI": 2}, NAMES) == {"Ins": 1, "mI": 2}


def test_choices_and_groups(other_names, tmp_path):
    assert other_names.select(keep=["PCh", "Ins"]).names == ("PCho", "mI")
    assert other_names.select(ignore=["Scyllo"]).names == NAMES[:-1]
    assert other_names.groups(["PCh+GPC", "Ins"]) == other_names.groups(["PCho+GPC", "mI"]) == [0, 0, 0, 1, 1, 2, 0]
    other_names.save(tmp_path)
    assert Basis.load(tmp_path, keep=["PCh", "Ins"]).names == ("PCho", "mI")
    with pytest.raises(BasisError, match="no metabolite tCr"):
        Basis.load(tmp_path, keep=["tCr"])


def test_the_answer_has_the_names_of_the_basis(other_names):
    options = with_names(FitOptions(combine=["PCh+GPC", "Ins+Scyllo"], internal_ref=["Ins"]), NAMES)
    assert options.combine == ("PCho+GPC", "mI+sIns")
    assert options.internal_ref == ("mI",)
    assert with_names(FitOptions(), ("NAA", "Glu")).internal_ref == ("Cr", "PCr")
    with pytest.raises(OptionError, match="is not fitted"):
        with_names(FitOptions(combine=["tCho+Ins"]), NAMES)
    fids = np.array([3, 4, 2, 1, 1, 5, 1]) @ other_names.fids
    axes = Axes(512, 1 / 2000, 123.2, "1H")
    one, two = (
        quantify(fids[None], other_names, axes, FitOptions(ind_scale=[name], init="classical", prior="none"))
        for name in ("Ins", "mI")
    )
    assert tuple(one.names) == NAMES
    np.testing.assert_array_equal(one.conc, two.conc)
    assert one.members("Ins+PCh") == one.members("mI+PCho") == [5, 3]


def test_priors_and_recipes(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"Ins": {"normal": [6, 1]}, "PCh": {"uniform": [0.5, 1.5]}, "NAA": 12}))
    prior = priors.load(path, NAMES)
    assert prior.kinds == ("normal", "any", "any", "uniform", "any", "normal", "any")
    np.testing.assert_allclose(prior.numbers[[3, 5]], [[0.5, 1.5], [6, 1]])
    recipe = tmp_path / "recipe.json"
    content = {"prior": "table", "ranges": {"Ins": {"uniform": [5, 6]}, "Cr": {"uniform": [1, 2]}}}
    recipe.write_text(json.dumps({"concentrations": content, "snr": 20}))
    conc = draw_concentrations(Recipe.load(recipe), 100, list(NAMES), torch.Generator().manual_seed(0))
    assert 5 <= conc[:, 5].min() and conc[:, 5].max() <= 6
    assert priors.load(recipe, NAMES).kinds[5] == "uniform"


def test_simulated_metabolites():
    assert spin_system("mI").name == "Ins"
    assert spin_system("PCho").name == "PCh"
