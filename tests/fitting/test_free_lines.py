"""Free shifts and groups: the lowest minimum, convergence far from the model, and lines that leave their place."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from fsl_mrs_dl import quantify
from fsl_mrs_dl.core import units
from fsl_mrs_dl.core.metabolites import is_macromolecule
from fsl_mrs_dl.fitting import artefacts, optimise
from fsl_mrs_dl.fitting.free_lines import has_free_lines, lines_of_their_own
from fsl_mrs_dl.fitting.initialisation import ClassicalSearch
from fsl_mrs_dl.io import nifti
from fsl_mrs_dl.io.basis import Basis
from fsl_mrs_dl.physics.macromolecules import add_macromolecules

AXES = {"dwelltime": 1 / 2000, "spec_freq_mhz": 123.2, "device": "cpu", "prior": "none"}


def shifted(basis, ppm):
    """The basis set with lines elsewhere, by their names."""
    fids = basis.fids.copy()
    time = np.arange(basis.n_points) * basis.dwelltime
    for name, distance in ppm.items():
        fids[basis.names.index(name)] *= np.exp(2j * np.pi * distance * basis.spec_freq_mhz * time)
    return replace(basis, fids=fids)


def spectra(basis, *, snr, seed=0, rows=3, width_hz=4.0):
    """FIDs of a basis set with concentrations from 0.5 to 2, macromolecules twice as much."""
    random = np.random.default_rng(seed)
    conc = random.uniform(0.5, 2, (rows, basis.n_metabs)) * [
        2.0 if is_macromolecule(name) else 1.0 for name in basis.names
    ]
    time = np.arange(basis.n_points) * basis.dwelltime
    fids = conc @ basis.fids * np.exp(-np.pi * width_hz * time)
    noise = np.abs(units.fid_to_spec(fids)).max() / snr
    return fids + noise * (random.normal(size=fids.shape) + 1j * random.normal(size=fids.shape))


def lowest_of_many(fit, n=24, seed=0):
    """The lowest cost of each spectrum from random starts around that of shared lines."""
    model = fit.model
    spec = units.fid_to_spec(torch.as_tensor(fit.fids).to(model.basis))[:, slice(*model.window)]
    target = model.eliminate_baseline(spec)
    one = (model.with_shared_shifts() if model.shape.free_shift else model).with_one_group()
    shared = one.split_theta(optimise.fit_spectra(spec, one, fit.names, ClassicalSearch()).theta)
    random = torch.Generator().manual_seed(seed)
    start = model.split_theta(model.join_theta(**shared).repeat_interleave(n, 0))

    def normal(block):
        return torch.randn(start[block].shape, generator=random, dtype=torch.float64)

    spread = 0.03 * 2 * torch.pi * model.spec_freq_mhz
    blocks = {**start, "eps": start["eps"] + spread * normal("eps")}
    if model.n_groups > 1:
        blocks["gamma"] = blocks["gamma"] * torch.exp(normal("gamma"))
    theta = model.join_theta(**blocks)
    end = optimise.solve(target.repeat_interleave(n, 0), model, theta, 40, damping=1.0, tolerance=0.05)
    return end.cost.reshape(-1, n).amin(-1).numpy()


def test_free_shifts_end_as_low_as_the_best_of_many_random_starts(sim_basis):
    basis = sim_basis.select(["GPC", "Glu", "Ins", "NAA"])
    fids = spectra(shifted(basis, {"NAA": 0.03, "Glu": -0.03, "GPC": 0.02}), snr=40, rows=2)
    fit = quantify(fids, basis, model="free_shift", **AXES)
    assert fit.converged.all()
    assert (fit.cost <= lowest_of_many(fit) * (1 + 1e-4)).all()


def test_groups_end_as_low_as_the_best_of_many_random_starts(sim_basis):
    basis = add_macromolecules(sim_basis.select(["Cr", "Glu", "NAA"]), "fsl-default")
    own = [name for name in basis.names if is_macromolecule(name)]
    fids = spectra(shifted(basis, {own[0]: 0.04, own[2]: -0.03}), snr=60, rows=1)
    fit = quantify(fids, basis, baseline="spline, stiff", metab_groups=basis.groups(own), **AXES)
    assert fit.converged.all()
    assert (fit.cost <= lowest_of_many(fit) * (1 + 1e-4)).all()


def test_the_order_of_rows_and_their_neighbours_do_not_matter(sim_basis):
    basis = sim_basis.select(["Cr", "NAA"])
    fids = spectra(shifted(basis, {"NAA": 0.03}), snr=40, rows=3)
    options = {"model": "free_shift", "baseline": "off"}
    together, alone = quantify(fids, basis, **options, **AXES), quantify(fids[2:3], basis, **options, **AXES)
    assert together.cost[2] / together.fid_scale**2 == pytest.approx(alone.cost[0] / alone.fid_scale**2, rel=1e-6)


def test_noise_and_unusable_rows_do_no_harm(sim_basis):
    basis = sim_basis.select(["Cr", "NAA"])
    fids = spectra(basis, snr=40, rows=3)
    fids[1] = np.random.default_rng(1).normal(size=fids.shape[1])
    fids[2] = np.nan
    fit = quantify(fids, basis, metab_groups=[0, 1], **AXES)
    assert fit.fitted.tolist() == [True, True, False] and fit.empty[:2].tolist() == [False, True]
    assert fit.converged[0]


def test_set_11_of_the_challenge_converges_with_its_macromolecules_in_a_group(testdata):
    """Gauss-Newton steps alone take hundreds there, because the baseline is not in the model."""
    folder = testdata / "fitting_challenge_2016"
    data, basis = nifti.load(folder / "all28.nii.gz"), Basis.load(folder / "press3T_30ms.BASIS")
    fids = np.moveaxis(data.fids, 3, -1).reshape(-1, data.n_points)[10]
    axes = {**AXES, "dwelltime": data.dwelltime, "spec_freq_mhz": data.spec_freq_mhz}
    fit = quantify(fids, basis, baseline="off", metab_groups=basis.groups(["Mac"]), **axes)
    assert fit.converged.all()


def test_a_line_that_leaves_its_place_is_named_with_the_remedy(sim_basis):
    basis = sim_basis.select(["Cr", "GPC", "Ins", "NAA"])
    fids = spectra(shifted(basis, {"NAA": 0.08}), snr=100, rows=1)
    fit = quantify(fids, basis, model="free_shift", **AXES)
    (one,) = [
        artefact
        for artefact in artefacts.artefacts_of(artefacts.fitted_spectrum(fit, 0))
        if artefact.kind == "line out of its place"
    ]
    assert "NAA moved by +0.08 ppm" in one.seen and "Cr" not in one.seen and "`free_shift`" in one.remedy
    assert "\n" not in one.text()
    shift, width = lines_of_their_own(fit.model, torch.as_tensor(fit.params))
    np.testing.assert_allclose(shift[0], [0, 0, 0, 0.08], atol=0.005)
    np.testing.assert_allclose(width[0] * 123.2, 4, atol=1)


def test_lines_in_their_place_are_not_named(sim_basis):
    basis = sim_basis.select(["Cr", "GPC", "Ins", "NAA"])
    fids = spectra(shifted(basis, {"NAA": 0.01}), snr=100, rows=1)
    for options in ({"model": "free_shift"}, {"metab_groups": [0, 0, 0, 1]}, {}):
        fit = quantify(fids, basis, **options, **AXES)
        assert has_free_lines(fit.model) == bool(options)
        found = artefacts.artefacts_of(artefacts.fitted_spectrum(fit, 0))
        assert "line out of its place" not in [artefact.kind for artefact in found]
