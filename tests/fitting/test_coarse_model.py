"""The coarse grid against the whole model: spectra, their derivatives, and the fits that come from them."""

from __future__ import annotations

import copy
import dataclasses
import gc
import weakref

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fsl_mrs_dl.core import errors, units
from fsl_mrs_dl.core.axes import Axes
from fsl_mrs_dl.fitting import initialisation, optimise, uncertainty, varpro
from fsl_mrs_dl.fitting.coarse_model import ReducedModel, reduced
from fsl_mrs_dl.fitting.initialisation import ClassicalSearch
from fsl_mrs_dl.physics.signal_model import MODELS, SignalModel

LINES = (
    (2.01, 2.5, 2.7),
    (3.03, 3.92),
    (3.2, 3.66),
    (1.31, 4.1),
    (0.9, 1.4, 2.3),
    (3.56, 4.05, 3.27),
    (4.24, 4.6),
    (0.25, 5.9),
)
PHOSPHORUS = ((0.0,), (-2.5, -7.6), (4.9, 5.0), (-16.2, -7.5), (6.7,), (2.9, -19.5), (3.5,), (9.5,))


def make(
    model="voigt",
    n_points=1024,
    dwelltime=1 / 2500,
    mhz=123.2,
    nucleus="1H",
    ppmlim=(0.2, 4.2),
    baseline="off",
    groups=None,
    seed=0,
    lines=None,
):
    """A model of eight metabolites with lines inside, at the edge and outside of the window."""
    random = np.random.default_rng(seed)
    lines = lines or (PHOSPHORUS if nucleus == "31P" else LINES)
    time = np.arange(n_points) * dwelltime
    basis = []
    for places in lines:
        hz = units.ppm_to_hz(np.array(places), mhz, nucleus)[:, None]
        width = random.uniform(2, 8, (len(places), 1))
        size = random.uniform(0.5, 3, (len(places), 1))
        basis.append((size * np.exp((2j * np.pi * hz - width) * time)).sum(0))
    # Macromolecules are wide already.
    basis[4] *= np.exp(-60 * time)
    return SignalModel(
        np.array(basis),
        Axes(n_points, dwelltime, mhz, nucleus),
        model=model,
        ppmlim=ppmlim,
        baseline=baseline,
        groups=groups,
    )


def draw(model, n, seed=0, shift=0.6, width=0.6):
    """Nonlinear parameters inside the coarse grid's limits, as parts of them, and concentrations."""
    random = np.random.default_rng(seed)
    small = reduced(model)
    limits = {
        "gamma": (0, width * small.most_gamma),
        "variance": (0, width * small.most_variance),
        "eps": (-shift * small.most_shift, shift * small.most_shift),
        "phi0": (-3, 3),
        "phi1": (-3e-4, 3e-4),
    }
    blocks = {
        name: torch.as_tensor(random.uniform(*limits[name], (n, size))) for name, size in model.theta_sizes.items()
    }
    return model.join_theta(**blocks), torch.as_tensor(random.uniform(0.5, 4, (n, model.n_metabs)))


def apart(got, expected):
    """Largest distance of two sets of spectra, in parts of the norm of the second."""
    norm = torch.linalg.vector_norm
    return float((norm(got - expected, dim=-1) / norm(expected, dim=-1)).max())


SETTINGS = {
    "3T": {},
    "7T": {"n_points": 4096, "dwelltime": 1 / 6000, "mhz": 297.2},
    "long": {"n_points": 8192, "dwelltime": 1 / 6000, "mhz": 297.2},
    "prime": {"n_points": 1021},
    "odd": {"n_points": 2047, "dwelltime": 1 / 4000},
    "few": {"n_points": 256, "dwelltime": 1 / 4000},
    "31P": {"n_points": 1024, "dwelltime": 1 / 8000, "mhz": 49.9, "nucleus": "31P", "ppmlim": (-20, 10)},
    "narrow": {"ppmlim": (1.8, 2.4)},
    "last": {"ppmlim": (4.7, 9.0)},
    "groups": {"groups": [0, 1, 0, 0, 2, 0, 1, 0]},
    "free": {"model": "free_shift"},
    "lorentz": {"model": "lorentzian"},
    "negative": {"model": "negativevoigt"},
    "spline": {"baseline": "spline, moderate"},
    "poly": {"baseline": "poly, 2"},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_spectra_are_those_of_the_whole_model(name):
    model = make(**SETTINGS[name])
    small = reduced(model)
    assert isinstance(small, ReducedModel)
    assert small.n_coarse < 0.6 * model.n_points
    theta, conc = draw(model, 12)
    assert small.covers(theta).all()
    plain = model.plain_columns(theta)
    # A metabolite without a line in the window has its tail there, which counts as what it is to the others.
    size = torch.linalg.vector_norm(plain, dim=-1).amax(-1)
    assert (torch.linalg.vector_norm(small.plain_columns(theta) - plain, dim=-1) / size[:, None]).max() < 2e-7
    assert apart(small.join_metabolites(theta, conc), model.join_metabolites(theta, conc)) < 2e-7
    assert apart(small.theta_derivatives(theta, conc), model.theta_derivatives(theta, conc)) < 2e-5
    assert (small.columns(theta) - model.eliminate_baseline(plain)).abs().max() < 1e-6 * plain.abs().max()


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(list(MODELS)),
    st.integers(200, 3000),
    st.floats(1000, 8000),
    st.sampled_from([63.9, 123.2, 297.2]),
    st.tuples(st.floats(-1, 3), st.floats(0.5, 4)),
    st.integers(0, 1000),
)
def test_any_grid_and_window(name, n_points, bandwidth, mhz, window, seed):
    low, width = window
    try:
        model = make(name, n_points, 1 / bandwidth, mhz, ppmlim=(low, low + width), seed=seed)
    except errors.OptionError:
        return  # too few points
    small = reduced(model)
    if small is model:
        return
    theta, conc = draw(model, 3, seed, shift=0.9, width=0.5)
    plain = model.plain_columns(theta)
    # All of a spectrum may be tails in such a window: errors are compared with what the lines are elsewhere.
    size = torch.linalg.vector_norm(model.basis, dim=-1).max()
    assert torch.linalg.vector_norm(small.plain_columns(theta) - plain, dim=-1).max() < 1e-6 * size


def test_at_its_limits_it_is_still_good_and_beyond_it_asks_the_whole_model():
    model = make()
    small = reduced(model)
    theta, conc = draw(model, 6, shift=1.0, width=1.0)
    blocks = model.split_theta(theta)
    blocks["eps"], blocks["gamma"] = (
        small.most_shift * blocks["eps"].sign(),
        torch.full_like(blocks["gamma"], small.most_gamma),
    )
    edge = model.join_theta(**blocks)
    assert small.covers(edge).all()
    plain = model.plain_columns(edge)
    assert apart(small.plain_columns(edge), plain) < 1e-4
    for block, value in (
        ("eps", 1.01 * small.most_shift),
        ("gamma", 1.01 * small.most_gamma),
        ("variance", 1.01 * small.most_variance),
    ):
        beyond = dict(model.split_theta(theta))
        beyond[block] = beyond[block].clone()
        beyond[block][1:3] = value
        mixed = model.join_theta(**beyond)
        assert small.covers(mixed).tolist() == [True, False, False, True, True, True]
        for got, expected in (
            (small.plain_columns(mixed), model.plain_columns(mixed)),
            (small.theta_derivatives(mixed, conc), model.theta_derivatives(mixed, conc)),
            (small.join_metabolites(mixed, conc), model.join_metabolites(mixed, conc)),
        ):
            np.testing.assert_allclose(got[1:3], expected[1:3], rtol=1e-12, atol=1e-12 * float(expected.abs().max()))
            assert apart(got, expected) < 1e-3


def test_a_window_that_is_most_of_the_band_is_not_reduced():
    model = make(ppmlim=None)
    assert reduced(model) is model
    model = make(ppmlim=(-3, 9), dwelltime=1 / 2000)
    assert reduced(model) is model


def test_it_is_not_made_for_few_spectra_but_used_where_it_is():
    model = make()
    assert reduced(model, 1) is model
    assert isinstance(reduced(model, 100), ReducedModel)
    assert isinstance(reduced(model, 1), ReducedModel)


def test_it_is_made_once_and_anew_for_another_model():
    model = make()
    assert reduced(model) is reduced(model)
    other = copy.deepcopy(model)
    assert reduced(other) is not reduced(model)
    free = make("free_shift")
    shared = free.with_shared_shifts()
    assert reduced(shared).shape is not reduced(free).shape
    before = reduced(model)
    model.to(torch.device("cpu"))
    assert reduced(model) is before
    model.basis *= 2
    assert reduced(model) is not before
    theta, _ = draw(model, 2)
    assert apart(reduced(model).plain_columns(theta), model.plain_columns(theta)) < 1e-6


def test_models_are_not_kept_alive():
    model = make()
    assert isinstance(reduced(model), ReducedModel)
    assert reduced(model).single.basis.dtype == torch.complex64
    gone = weakref.ref(model), weakref.ref(reduced(model))
    gc.disable()
    try:
        del model
        assert gone[0]() is None and gone[1]() is None
    finally:
        gc.enable()


def test_single_precision_spectra_are_scaled_and_near():
    model = make(baseline="poly, 2")
    small = reduced(model)
    theta, conc = draw(model, 5)
    single = small.single
    rows = single.plain_columns(theta.float())
    assert rows.dtype == torch.complex64
    assert apart(rows * single.size[:, None], model.plain_columns(theta.float().double())) < 1e-5
    derivatives = single.theta_derivatives(theta.float(), (conc * single.size).float())
    assert derivatives.dtype == torch.complex64
    assert apart(derivatives, model.theta_derivatives(theta.float().double(), conc)) < 1e-4


# ---- fits


def simulated(model, n=24, snr=80.0, seed=1, water=0.0, width=0.25, shift=0.2):
    """Spectra in the window with noise, and with water just outside of it."""
    random = np.random.default_rng(seed)
    theta, conc = draw(model, n, seed, shift=shift, width=width)
    first, last = model.window
    clean = model.plain_columns(theta) * conc[..., None]
    clean = clean.sum(-2)
    noise = float(clean.abs().amax(-1).mean()) / snr
    clean = clean + noise * torch.as_tensor(random.normal(size=clean.shape) + 1j * random.normal(size=clean.shape))
    if water:
        time = np.arange(model.n_points) * model.dwelltime
        fid = torch.as_tensor(np.exp((2j * np.pi * units.ppm_to_hz(4.7, model.spec_freq_mhz) - 25) * time))
        spec = units.fid_to_spec(fid)
        clean = clean + water * clean.abs().max() / spec.abs().max() * spec[first:last]
    return clean, theta, conc


FITS = {
    "lorentzian": ({"model": "lorentzian"}, 0),
    "voigt": ({"baseline": "poly, 2"}, 0),
    "spline": ({"baseline": "spline, moderate"}, 0),
    "groups": ({"groups": [0, 0, 0, 0, 1, 0, 0, 0], "baseline": "poly, 1"}, 0),
    "negative": ({"model": "negativevoigt", "baseline": "poly, 2"}, 0),
    "31P": (SETTINGS["31P"] | {"model": "lorentzian"}, 0),
    "7T": (SETTINGS["7T"] | {"baseline": "spline, stiff"}, 0),
    "few": (SETTINGS["few"] | {"model": "lorentzian"}, 0),
    "prime": (SETTINGS["prime"] | {"baseline": "poly, 2"}, 0),
    "edge": ({"model": "lorentzian", "ppmlim": (1.9, 4.24)}, 0),
    "water": ({"baseline": "spline, flexible"}, 100),
    "water, no baseline": ({"model": "lorentzian"}, 300),
}


@pytest.mark.parametrize("name", FITS)
def test_fits_end_where_the_whole_model_has_its_minimum(name):
    options, water = FITS[name]
    model = make(**options)
    spec, _, _ = simulated(model, water=water)
    target = model.eliminate_baseline(spec)
    got = optimise.fit_spectra(spec, model, [str(i) for i in range(8)], ClassicalSearch())
    assert isinstance(reduced(model), ReducedModel)
    ends = got.converged
    assert ends.float().mean() > 0.9
    best = optimise.solve(target, model, got.theta, 200, tolerance=1e-6)
    # Its own tolerance is a thousandth of a standard deviation; a badly conditioned fit creeps, so that the cost is
    # what counts.
    assert (got.cost <= best.cost * (1 + 1e-6))[ends].all()
    noise = (best.cost / (2 * target.shape[-1])).sqrt()
    sd = uncertainty.covariance(best.information, noise).diagonal(dim1=-2, dim2=-1).sqrt()
    change = torch.cat([got.conc - best.conc, got.theta - best.theta], -1) / sd
    assert change[ends].abs().max() < 5e-3
    # What is reported as cost is the whole model's.
    left = target - model.eliminate_baseline(model.join_metabolites(got.theta, got.conc))
    np.testing.assert_allclose(got.cost, left.abs().square().sum(-1), rtol=1e-9)
    information = uncertainty.fisher_information(model, got.theta, got.conc)
    size = information.diagonal(dim1=-2, dim2=-1).sqrt()
    size = torch.where(size > 0, size, torch.ones_like(size))
    assert ((got.information - information).abs() / (size[:, :, None] * size[:, None])).max() < 1e-4


@pytest.mark.parametrize("name", ["lorentzian", "voigt", "spline", "groups", "water"])
def test_fits_are_those_without_the_reduction(name, monkeypatch):
    options, water = FITS[name]
    model = make(**options)
    spec, _, _ = simulated(model, seed=2, water=water)
    names = [str(i) for i in range(8)]
    got = optimise.fit_spectra(spec, model, names, ClassicalSearch())
    for module in (optimise, initialisation, uncertainty):
        monkeypatch.setattr(module, "reduced", lambda model, rows=None: model)
    whole = optimise.fit_spectra(spec, model, names, ClassicalSearch())
    assert (got.converged == whole.converged).float().mean() > 0.9
    np.testing.assert_allclose(got.cost, whole.cost, rtol=1e-5)


def test_without_noise_the_end_is_exact():
    """Where the noise is smaller than the coarse grid's error the whole model has the last word."""
    model = make("lorentzian")
    theta, conc = draw(model, 10, shift=0.2, width=0.25)
    spec = model.join_metabolites(theta, conc)
    got = optimise.fit_spectra(spec, model, [str(i) for i in range(8)], ClassicalSearch())
    energy = spec.abs().square().sum(-1)
    assert (got.cost / energy).max() < 1e-18
    np.testing.assert_allclose(got.conc, conc, rtol=1e-6)


def test_wide_and_far_spectra_are_fitted_too():
    """Beyond the limits on width and shift nothing changes but the time it takes."""
    model = make("lorentzian")
    small = reduced(model)
    theta, conc = draw(model, 6, shift=0.1, width=0.2)
    blocks = model.split_theta(theta)
    wide = model.join_theta(**blocks | {"gamma": torch.full_like(blocks["gamma"], 1.5 * small.most_gamma)})
    spec = model.join_metabolites(wide, conc)
    got = optimise.solve_fast(spec, model, theta, 60)
    assert (got.cost / spec.abs().square().sum(-1)).max() < 1e-12
    far = model.join_theta(**blocks | {"eps": torch.full_like(blocks["eps"], 1.2 * small.most_shift)})
    spec = model.join_metabolites(far, conc)
    near = model.join_theta(**model.split_theta(far) | {"phi0": model.split_theta(far)["phi0"] + 0.3})
    got = optimise.solve_fast(spec, model, near, 60)
    assert (got.cost / spec.abs().square().sum(-1)).max() < 1e-12


@pytest.mark.parametrize("baseline", ["poly, 2", "spline, moderate"])
def test_eliminating_from_products_is_eliminating_from_spectra(baseline):
    model = make(baseline=baseline)
    theta, conc = draw(model, 4)
    plain = model.plain_columns(theta)
    less = model.eliminate_baseline(plain)
    np.testing.assert_allclose(model.elimination(plain), less, atol=1e-12 * float(plain.abs().max()))
    once, twice = model.elimination.both(plain)
    np.testing.assert_allclose(once, less, atol=1e-12 * float(plain.abs().max()))
    np.testing.assert_allclose(twice, model.eliminate_baseline(less), atol=1e-12 * float(plain.abs().max()))
    rows = torch.view_as_real(less).flatten(-2)
    gram = rows @ rows.mT
    np.testing.assert_allclose(model.elimination.gram(plain), gram, atol=1e-11 * float(gram.max()))
    spec, start, _ = simulated(model, 4)
    target = model.eliminate_baseline(spec)
    lower, upper = model.theta_bounds
    options = {"lower": lower, "upper": upper, "nonnegative": torch.ones(8, dtype=torch.bool)}
    one = varpro.solve(target, model.columns, model.theta_derivatives, start, **options)
    other = optimise.solve(target, model, start, 60)
    np.testing.assert_allclose(one.cost, other.cost, rtol=1e-8)
    np.testing.assert_allclose(one.information, other.information, atol=1e-6 * float(one.information.max()))


def test_the_matched_filter_finds_the_same(monkeypatch):
    model = make(baseline="poly, 2")
    spec, _, _ = simulated(model, shift=0.5)
    names = [str(i) for i in range(8)]
    got = ClassicalSearch()(spec, model, names)
    monkeypatch.setattr(initialisation, "reduced", lambda model, rows=None: model)
    whole = ClassicalSearch()(spec, model, names)
    # Neighbouring shifts may be equally good.
    same = (got - whole).abs().amax(-1) < 1e-4
    assert same.float().mean() > 0.95


def test_a_model_in_single_precision_is_reduced_too():
    model = make("lorentzian")
    single = SignalModel(
        model.basis.numpy(),
        model.axes,
        model="lorentzian",
        baseline="off",
        dtype=torch.float32,
    )
    theta, conc = draw(model, 3)
    got = reduced(single).plain_columns(theta.float())
    assert got.dtype == torch.complex64
    assert apart(got.to(torch.complex128), model.plain_columns(theta)) < 1e-4


def test_rows_that_cannot_be_fitted_do_no_harm():
    model = make("lorentzian")
    spec, _, _ = simulated(model, 12)
    alone = optimise.solve_fast(spec[:10], model, draw(model, 10, 5, 0.05, 0.2)[0], 60)
    bad = spec.clone()
    bad[10], bad[11] = torch.nan, 0
    got = optimise.solve_fast(bad, model, draw(model, 12, 5, 0.05, 0.2)[0], 60)
    assert not got.converged[10:].any()
    assert dataclasses.is_dataclass(alone)
    assert torch.isfinite(got.cost[:10]).all()
