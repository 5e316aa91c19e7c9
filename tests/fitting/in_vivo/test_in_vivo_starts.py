"""Initial values of the in-vivo model: a search and a network."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from fsl_mrs_dl.core.axes import Axes
from fsl_mrs_dl.core.errors import OptionError
from fsl_mrs_dl.fitting.in_vivo.fit import Acquisition, prepare
from fsl_mrs_dl.fitting.in_vivo.network_starts import check_network, network_start, start_with_network
from fsl_mrs_dl.fitting.in_vivo.prepared import plain_prepared, restored_prepared
from fsl_mrs_dl.fitting.in_vivo.quantify import quantify_in_vivo
from fsl_mrs_dl.fitting.in_vivo.solver import NormalEquations, Problem, systems
from fsl_mrs_dl.fitting.in_vivo.starts import classical_start
from fsl_mrs_dl.fitting.options import FitOptions
from fsl_mrs_dl.physics.in_vivo_components import priors_table
from fsl_mrs_dl.simulation.acquisition import simulate_basis
from fsl_mrs_dl.simulation.in_vivo_spectra import simulate_in_vivo

N = 12
SHIFTS_PPM = np.linspace(-0.22, 0.22, N)


@pytest.fixture(scope="module")
def study():
    """Basis, axes and FIDs of spectra at many shifts and phases."""
    basis = simulate_basis(
        sequence="press", te_ms=35.0, field_t=3.0, bandwidth_hz=2000.0, n_points=2048, macromolecules=None
    )
    axes = Axes(1024, 1 / 2000, basis.spec_freq_mhz)
    fids = simulate_in_vivo(basis, axes, N, seed=4).fids
    turns = 2 * np.pi * SHIFTS_PPM[:, None] * axes.spec_freq_mhz * np.arange(axes.n_points) * axes.dwelltime
    return basis, axes, fids * np.exp(1j * turns + 1j * np.linspace(-3, 3, N)[:, None])


@pytest.fixture(scope="module")
def problem(study):
    basis, axes, fids = study
    prepared = prepare(fids, basis.resampled(axes.dwelltime, axes.n_points), basis.names, axes, Acquisition(0.035, 2.0))
    noise = np.full(N, np.abs(fids[:, -200:]).std() / np.sqrt(2))
    strengths = priors_table()["baseline"]["strengths"]
    return Problem.make(prepared.model, prepared.model.window.transform(fids), noise, prepared.baseline, strengths)


def cost(problem, x):
    return systems(problem, NormalEquations.at(problem, x), x, problem.shares[-1].expand(len(x), -1))[2]


@pytest.mark.parametrize("start", [classical_start, network_start])
def test_starts_are_near_the_true_shift_at_every_shift_and_phase(problem, start):
    x = start(problem)
    model = problem.model
    error = x[:, model.slices["shift"]][:, 0].numpy() / model.window.axes.spec_freq_mhz - SHIFTS_PPM
    assert np.abs(error).max() < 0.04
    # The spectra that they stand for explain most of the data beside a baseline.
    nothing = x.clone()
    nothing[:, model.slices["log_amp"]] -= 20
    energy = [NormalEquations.at(problem, one).energy for one in (x, nothing)]
    assert (energy[0] / energy[1]).max() < 0.6


def test_the_search_can_be_about_a_shift(problem):
    mhz = problem.model.window.axes.spec_freq_mhz
    near = classical_start(problem.rows([0]), most_ppm=0.04, about_ppm=SHIFTS_PPM[0])
    assert abs(float(near[0, problem.model.slices["shift"]]) / mhz - SHIFTS_PPM[0]) <= 0.0401
    elsewhere = classical_start(problem.rows([0]), most_ppm=0.04, about_ppm=0.1)
    assert abs(float(elsewhere[0, problem.model.slices["shift"]]) / mhz - 0.1) <= 0.0401


def test_the_search_s_templates_are_the_model_s(problem):
    """One of its starts, beside the spectra that the model gives for the parameters."""
    model = problem.model
    x = model.prior_mean[None].clone()
    x[:, model.slices["shift"]], x[:, model.slices["gamma"]] = 12.0, np.log(25.0)
    expected = model.component_spectra(x).sum(1)[0]
    signals = model.signals(x, model.basis, model.time, None)[0].sum(0)
    assert torch.allclose(model.to_window(signals), expected, atol=1e-9 * float(expected.abs().max()))


def test_both_takes_the_lower_cost(problem):
    network, classical = cost(problem, network_start(problem)), cost(problem, classical_start(problem))
    assert torch.allclose(cost(problem, start_with_network(problem, "both")), torch.minimum(network, classical))


def test_fits_from_both_starts_agree(study):
    basis, axes, fids = study
    options = FitOptions(spectral_model="in-vivo", device="cpu")
    one = quantify_in_vivo(fids, basis, axes, options)
    other = quantify_in_vivo(fids, basis, axes, replace(options, init="network"))
    assert (one.init, other.init) == ("classical", "network")
    sd = np.sqrt(np.diagonal(one.cov, axis1=1, axis2=2))
    apart = np.abs(one.conc - other.conc) / sd
    assert np.median(apart) < 0.05 and np.mean(apart < 0.5) > 0.95


def test_networks_refuse_what_they_were_not_trained_for(study, problem):
    basis, axes, fids = study
    check_network(problem.model, "network")
    short = axes.with_points(256)
    on_grid = basis.resampled(axes.dwelltime, 256)
    with pytest.raises(OptionError, match="init"):
        prepare(fids[:, :256], on_grid, basis.names, short, Acquisition(0.035, 2.0, init="network"))


def test_a_prepared_model_keeps_its_initial_values(study):
    basis, axes, fids = study
    on_grid = basis.resampled(axes.dwelltime, axes.n_points)
    prepared = prepare(fids, on_grid, basis.names, axes, Acquisition(0.035, 2.0, init="both"))
    assert restored_prepared(plain_prepared(prepared)).init == "both"
