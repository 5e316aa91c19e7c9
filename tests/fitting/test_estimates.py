"""The three estimates of a fit, their intervals and their tables: against the truth they were simulated from."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch

import fsl_mrs_dl
from fsl_mrs_dl.cli.main import main
from fsl_mrs_dl.core.errors import OptionError
from fsl_mrs_dl.fitting import uncertainty
from fsl_mrs_dl.io import nifti
from fsl_mrs_dl.results import tables
from fsl_mrs_dl.results.fit_results import FitResults
from fsl_mrs_dl.simulation import protocols, random_spectra, recipes

RECIPE = "shamaei-table2"


def simulated(basis, n, seed=1, **changes):
    """Spectra of the paper's recipe and the concentrations that a fit defines, whose time begins one dwell time
    late."""
    protocol = protocols.protocol_of(basis.fids, basis.names, basis.axes)
    recipe = recipes.Recipe.of("changed", recipes.Recipe.load(RECIPE).content | changes)
    drawn = random_spectra.draw(recipe, n, basis.names, torch.Generator().manual_seed(seed))
    conc = drawn["conc"].numpy() * np.exp(np.pi * drawn["lorentz_hz"].numpy()[:, None] * basis.dwelltime)
    return random_spectra.render(drawn, protocol).fid.numpy().astype(complex), conc


def fitted(basis, fids, **options):
    given = {
        "model": "lorentzian",
        "baseline": "off",
        "init": "classical",
        "prior": RECIPE,
        "device": "cpu",
    }
    axes = {"dwelltime": basis.dwelltime, "spec_freq_mhz": basis.spec_freq_mhz, "rescale": False}
    return fsl_mrs_dl.quantify(fids, basis, **(axes | given | options))


@pytest.fixture(scope="module")
def noisy(sim_basis):
    fids, conc = simulated(sim_basis, 600, snr=12.0)
    return fids, conc, fitted(sim_basis, fids)


def test_the_posterior_mean_is_nearer_to_the_truth_and_does_not_change_the_fit(noisy, sim_basis):
    fids, conc, fit = noisy
    error = lambda estimate: np.mean((estimate - conc) ** 2, 0)  # noqa: E731
    assert (error(fit.posterior.mean) < error(fit.conc)).all()
    np.testing.assert_array_equal(fit.conc, fitted(sim_basis, fids, prior="none").conc)


@pytest.mark.parametrize("estimate", ["ml", "posterior"])
def test_intervals_hold_the_truth_as_often_as_they_say(noisy, estimate):
    _, conc, fit = noisy
    if estimate == "ml":
        low, high = (np.stack(part, 1) for part in zip(*(fit.interval([i]) for i in range(len(fit.names)))))
    else:
        low, high = fit.posterior.low, fit.posterior.high
    inside = ((conc >= low) & (conc <= high)).mean(0)
    assert (inside > 0.9).all() and inside.mean() == pytest.approx(0.955, abs=0.02) and (low >= 0).all()


def test_intervals_of_sums_and_ratios_hold_the_truth(noisy):
    _, conc, fit = noisy
    naa, cr, glu, gln = (fit.names.index(name) for name in ("NAA", "Cr", "Glu", "Gln"))
    low, high = fit.interval([glu, gln])
    assert np.mean((conc[:, glu] + conc[:, gln] >= low) & (conc[:, glu] + conc[:, gln] <= high)) == pytest.approx(
        0.95, abs=0.03
    )
    ratio = conc[:, naa] / conc[:, cr]
    for values, cov in ((fit.free[:, : len(fit.names)], fit.cov), (fit.posterior.mean, fit.posterior.cov)):
        low, high = uncertainty.ratio_interval(values, cov, [naa], [cr])
        assert np.mean((ratio >= low) & (ratio <= high)) == pytest.approx(0.95, abs=0.03)


def test_estimates_at_a_bound_know_what_the_data_say_without_it(sim_basis):
    changes = json.loads(json.dumps(recipes.Recipe.load(RECIPE).content["concentrations"]))
    changes["ranges"]["Lac"] = changes["ranges"]["Asp"] = 0
    fids, conc = simulated(sim_basis, 400, concentrations=changes, snr=30.0)
    fit = fitted(sim_basis, fids, prior="none")
    for name in ("Lac", "Asp"):
        i = fit.names.index(name)
        z = fit.free[:, i] / fit.crlb_sd[:, i]
        assert abs(z.mean()) < 0.2 and z.std() == pytest.approx(1, abs=0.15)  # free of the bound it has no bias
        assert (fit.conc[:, i] >= 0).all() and fit.conc[:, i].mean() > 0.25 * fit.crlb_sd[:, i].mean()


def test_what_the_data_leave_to_the_prior_is_marked(noisy):
    _, _, fit = noisy
    pull = dict(zip(fit.names, fit.posterior.pull.mean(0)))
    assert pull["NAA"] < 0.3 < 0.8 < pull["Asp"]


def test_a_prior_learnt_from_the_spectra_is_their_distribution(sim_basis):
    fids, conc = simulated(sim_basis, 500, seed=3)
    fit = fitted(sim_basis, fids, prior="volume")
    i = fit.names.index("NAA")
    assert fit.posterior.prior.source.startswith("learnt from")
    assert fit.posterior.prior.mean[i] == pytest.approx(conc[:, i].mean(), rel=0.02)
    assert fit.posterior.prior.sd[i] == pytest.approx(conc[:, i].std(), rel=0.15)
    assert (np.mean((fit.posterior.mean - conc) ** 2, 0) <= 1.02 * np.mean((fit.conc - conc) ** 2, 0)).all()


def test_basis_spectra_that_are_scaled_one_by_one_have_the_same_posterior(noisy, sim_basis):
    fids, _, fit = noisy
    other = fitted(sim_basis, fids[:50], rescale=True, ind_scale=["NAA", "Glu"])
    one = fitted(sim_basis, fids[:50], rescale=True)
    ratio = other.posterior.mean / other.conc.clip(1e-9), one.posterior.mean / one.conc.clip(1e-9)
    strong = [fit.names.index(name) for name in ("NAA", "Cr", "Ins")]
    np.testing.assert_allclose(ratio[0][:, strong], ratio[1][:, strong], rtol=0.01)


def test_estimates_that_were_not_made_are_refused(noisy, sim_basis):
    fit = fitted(sim_basis, noisy[0][:3], prior="none")
    with pytest.raises(OptionError, match="prior"):
        fit.estimate("posterior_mean")
    with pytest.raises(OptionError, match="network"):
        fit.estimate("network")
    with pytest.raises(OptionError, match="choose one of ml"):
        fit.estimate("mean")
    with pytest.raises(OptionError, match="classical"):
        fitted(sim_basis, noisy[0][:3], estimate="network")


def test_what_only_proposes_starts_has_no_answer(noisy, sim_basis):
    with pytest.raises(OptionError, match="come with no concentrations.*network"):
        fitted(sim_basis, noisy[0][:3], init="network", estimate="network")


def test_metabolites_that_no_datum_decides_and_nothing_is_expected_of_are_not_known(noisy, sim_basis):
    from dataclasses import replace

    from fsl_mrs_dl.physics.macromolecules import add_macromolecules

    more = add_macromolecules(sim_basis, "fsl-default")
    far = more.fids.copy()
    far[-1] = np.exp(2j * np.pi * 700 * np.arange(more.n_points) * more.dwelltime)  # outside of the window
    fids, _, plain = noisy
    fit = fitted(replace(more, fids=far), fids[:20], metab_groups=[0] * (more.n_metabs - 1) + [1], prior=RECIPE)
    values = fit.posterior.mean
    assert (np.isnan(values[:, -1]) | (values[:, -1] < 1e3)).all() and np.isfinite(
        values[:, : sim_basis.n_metabs]
    ).all()


def test_data_that_contradict_the_prior_are_marked(sim_basis):
    changes = json.loads(json.dumps(recipes.Recipe.load(RECIPE).content["concentrations"]))
    changes["ranges"]["Lac"] = 12.0
    fids, _ = simulated(sim_basis, 40, concentrations=changes)
    conflict = fitted(sim_basis, fids).posterior.conflict
    lac = sim_basis.names.index("Lac")
    assert conflict[:, lac].mean() > 0.9
    fids, _ = simulated(sim_basis, 200)
    assert fitted(sim_basis, fids).posterior.conflict.mean() < 0.01


def test_one_row_is_small_and_says_the_same(noisy):
    import pickle

    _, _, fit = noisy
    data = nifti.MrsData(fit.fids.T[None, None, None], 1e-3, 123.2, "1H", ("DIM_DYN",))
    whole = tables.uncertainty_table(FitResults(fit, data, ["Cr"]))
    sent = pickle.dumps(fit.row(7))
    one = tables.uncertainty_table(FitResults(pickle.loads(sent), None, ["Cr"]))
    m = len(fit.names)
    expected = whole.iloc[7 * m : 8 * m].reset_index(drop=True)
    pd.testing.assert_frame_equal(one, expected[one.columns])
    assert len(sent) < 40_000


# -- commands ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def files(sim_basis, tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    sim_basis.save(folder / "basis")
    fids, conc = simulated(sim_basis, 60, seed=5)
    shaped = fids.reshape(15, 2, 2, -1)
    shaped[1, 1, 0] = 0
    nifti.save(
        folder / "mrsi.nii.gz",
        nifti.MrsData(shaped, sim_basis.dwelltime, sim_basis.spec_freq_mhz, "1H", (), affine=np.eye(4)),
    )
    nifti.save(
        folder / "svs.nii.gz",
        nifti.MrsData(
            fids[:1].reshape(1, 1, 1, -1), sim_basis.dwelltime, sim_basis.spec_freq_mhz, "1H", (), affine=np.eye(4)
        ),
    )
    return folder


def run(files, *words):
    return main(
        [
            "fit",
            "--basis",
            str(files / "basis"),
            "--lorentzian",
            "--baseline",
            "off",
            "--internal_ref",
            "Cr",
            *map(str, words),
        ]
    )


def test_the_table_has_every_estimate(files, tmp_path, capsys):
    assert run(files, "--data", files / "svs.nii.gz", "--prior", RECIPE, "--output", tmp_path / "out", "--report") == 0
    said = capsys.readouterr().out
    assert "posterior" in said and "% prior" in said and "recipe shamaei-table2" in said
    table = pd.read_csv(tmp_path / "out" / "uncertainty.csv")
    wanted = (
        "conc crlb_sd crlb_pct ci95_low ci95_high ratio ratio_sd ratio_ci95_low ratio_ci95_high at_zero posterior_mean"
        " posterior_sd "
    )
    wanted += (
        "posterior_ci95_low posterior_ci95_high posterior_ratio prior_pull mostly_prior misfit ood_score ood_residual"
        " ood_latent"
    )
    assert set(wanted.split()) <= set(table)
    assert ((table["ci95_low"] <= table["conc"]) & (table["conc"] <= table["ci95_high"])).all()
    assert (
        (table["posterior_ci95_low"] <= table["posterior_mean"])
        & (table["posterior_mean"] <= table["posterior_ci95_high"])
    ).all()
    assert (table["mostly_prior"] == (table["prior_pull"] > 0.5)).all()
    page = (tmp_path / "out" / "report.html").read_text()
    assert "posterior mean" in page and "% prior" in page and "Out of distribution" in page


def test_the_estimate_that_is_asked_for_is_in_every_table(files, tmp_path):
    words = [
        "--data",
        files / "svs.nii.gz",
        "--prior",
        RECIPE,
        "--estimate",
        "posterior_mean",
        "--output",
        tmp_path / "out",
    ]
    assert run(files, *words) == 0
    table = pd.read_csv(tmp_path / "out" / "uncertainty.csv")
    conc = pd.read_csv(tmp_path / "out" / "concentrations.csv", header=[0, 1])
    np.testing.assert_allclose(conc[("mean", "raw")], table["posterior_mean"], rtol=1e-6)
    np.testing.assert_allclose(conc[("std", "raw")], table["posterior_sd"], rtol=1e-6)
    summary = pd.read_csv(tmp_path / "out" / "summary.csv")
    assert (summary["mostly prior"] == table["mostly_prior"]).all()


def test_volumes_get_maps(files, tmp_path):
    import nibabel

    assert run(files, "--data", files / "mrsi.nii.gz", "--prior", "volume", "--output", tmp_path / "out") == 0
    maps = tmp_path / "out" / "maps"
    table = pd.read_csv(tmp_path / "out" / "uncertainty.csv").set_index(["x", "y", "z", "Metab"])
    for name in (
        "conc",
        "crlb_sd",
        "posterior_mean",
        "posterior_sd",
        "prior_pull",
        "mostly_prior",
        "ci95_low",
        "posterior_ratio",
    ):
        image = nibabel.load(maps / name / "NAA.nii.gz")
        assert image.shape == (15, 2, 2)
        assert image.get_fdata()[2, 1, 1] == pytest.approx(float(table.loc[(2, 1, 1, "NAA"), name]), rel=1e-5)
        assert np.isnan(image.get_fdata()[1, 1, 0])
    assert nibabel.load(maps / "usable.nii.gz").get_fdata().sum() == 59
    assert {"misfit.nii.gz", "ood_score.nii.gz", "converged.nii.gz", "noise_sd.nii.gz"} <= {
        path.name for path in maps.iterdir()
    }


def test_macromolecules_can_be_added_for_a_fit(files, tmp_path, capsys):
    assert run(files, "--data", files / "svs.nii.gz", "--mm", "fsl-default", "--output", tmp_path / "out") == 0
    assert "MM09" in pd.read_csv(tmp_path / "out" / "summary.csv")["Metab"].tolist()


@pytest.mark.parametrize(
    "words,message",
    [
        (["--prior", "nowhere"], "--prior nowhere: no such recipe or file"),
        (["--prior", "volume"], "--prior volume.*50 spectra at least, there is 1"),
        (["--prior", "universal-transients"], "--prior universal-transients"),
        (["--estimate", "posterior_mean", "--prior", "none"], "needs a prior"),
        (["--estimate", "median"], "--estimate median.*posterior_mean"),
        (["--estimate", "network", "--init", "classical"], "estimate network.*classical"),
        (["--mm", "nowhere"], "--mm nowhere: no such file"),
    ],
)
def test_what_cannot_be_had_is_said_in_one_line(files, tmp_path, capsys, words, message):
    import re

    assert run(files, "--data", files / "svs.nii.gz", "--output", tmp_path / "out", *words) == 2
    error = capsys.readouterr().err
    assert re.search(message, error) and error.strip().count("\n") == 0 and not (tmp_path / "out").exists()
