"""The signal models against FSL-MRS's own figures, against autograd and against themselves."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fsl_mrs_dl.core.axes import Axes
from fsl_mrs_dl.core.errors import OptionError
from fsl_mrs_dl.physics.baseline import Baseline
from fsl_mrs_dl.physics.signal_model import MODELS, SignalModel

IN_REFERENCE = ("voigt", "lorentzian", "free_shift", "negativevoigt")
BASELINES = {"poly_2": "poly, 2", "spline_moderate": "spline, moderate", "off": "off"}
KEYS = [f"{model}|{baseline}|{group}" for baseline in BASELINES for model in IN_REFERENCE for group in ("g1", "g3")]


def reference_model(reference, key, dtype=torch.float64):
    name, words, _ = key.split("|")
    first, last = reference["window"]
    baseline = Baseline.parse(BASELINES[words], last - first, 4.0)
    if words == "poly_2":
        # FSL-MRS's own polynomials are not quite orthogonal; the parameters belong to them.
        baseline = dataclasses.replace(baseline, given=reference["baseline_poly_2"][first:last, 0::2].real)
    return SignalModel(
        reference["basis"].T,
        Axes(len(reference["basis"]), float(reference["dwelltime_s"]), float(reference["spec_freq_hz"]) / 1e6),
        model=name,
        groups=reference[f"{key}|groups"].tolist(),
        baseline=baseline,
        dtype=dtype,
    )


def toy(model="voigt", groups=(0, 0, 0, 0), baseline="poly, 2", dtype=torch.float64, ppmlim=(0.5, 4.0)):
    t = np.arange(160) / 1000
    ppm = np.array([2.0, 3.0, 3.2, 1.3])
    basis = np.exp((2j * np.pi * (ppm[:, None] - 4.65) * 64 - 8) * t) * (1 + np.cos(2 * np.pi * 7 * t))
    return SignalModel(
        basis, Axes(160, 1e-3, 64.0), model=model, groups=groups, ppmlim=ppmlim, baseline=baseline, dtype=dtype
    )


def draw(model, n, seed=0, sign=1.0):
    """Random parameter vectors, ``(n, n_params)``."""
    rng = np.random.default_rng(seed)
    ranges = {
        "conc": (0.2 if sign > 0 else -3, 3),
        "gamma": (1, 20),
        "sigma": (1, 15),
        "eps": (-30, 30),
        "phi0": (-2, 2),
        "phi1": (-1e-3, 1e-3),
        "baseline": (-2, 2),
    }
    parts = [rng.uniform(*ranges[name], (n, size)) for name, size in model.sizes.items()]
    return torch.as_tensor(np.concatenate(parts, axis=1))


def relative(got, expected):
    return np.abs(np.asarray(got) - np.asarray(expected)).max() / np.abs(np.asarray(expected)).max()


# ---- FSL-MRS's figures


def test_every_reference_entry_is_compared(reference):
    assert {key[: -len("|params")] for key in reference if key.endswith("|params")} == set(KEYS)


@pytest.mark.parametrize("key", KEYS)
def test_predictions_and_jacobians_are_fsl_mrs_s(reference, key):
    params = torch.as_tensor(reference[f"{key}|params"])
    model = reference_model(reference, key)
    first, last = model.window
    assert model.n_params == len(params)
    assert relative(model(params), reference[f"{key}|spec"]) < 1e-6
    theta, conc, coefficients = model.unpack(params[None])
    in_window = model.join_metabolites(theta, conc) + coefficients @ model.regressors.mT.to(coefficients)
    assert relative(in_window[0], reference[f"{key}|spec"][first:last]) < 1e-6
    single = reference_model(reference, key, torch.float32)(params.float())
    assert single.dtype == torch.complex64
    assert relative(single, reference[f"{key}|spec"]) < 1e-4
    if f"{key}|jac" in reference:
        ours = model.jacobian(params[None])[0].numpy()
        theirs = reference[f"{key}|jac"]
        assert ours.shape == theirs.shape
        for column, name in enumerate(theirs.T):
            assert relative(ours[:, column], name) < 1e-6, column


def test_some_jacobians_are_in_the_reference(reference):
    assert {f"{name}|poly_2|g1|jac" for name in IN_REFERENCE} <= set(reference)


@pytest.mark.with_fsl_mrs
@pytest.mark.parametrize("groups", [(0, 0, 0, 0), (0, 1, 1, 2)])
@pytest.mark.parametrize("words", BASELINES.values())
@pytest.mark.parametrize("name", MODELS)
def test_random_parameters_against_fsl_mrs_itself(name, words, groups):
    from fsl_mrs import models
    from fsl_mrs.core import MRS
    from fsl_mrs.utils.baseline import Baseline as Theirs

    model = toy(name, groups, words)
    mrs = MRS(np.ones(160, complex), cf=64.0, bw=1000, nucleus="1H")
    regressors = Theirs(mrs, (0.5, 4.0), words, None).regressor
    first, last = mrs.ppmlim_to_range((0.5, 4.0))
    assert (first, last) == model.window
    if not words.startswith("spline"):
        model = toy(name, groups, dataclasses.replace(model.baseline, given=regressors[first:last, 0::2].real))
    fixed = (model.frequency.numpy()[:, None], model.time.numpy()[:, None], model.basis.numpy().T, regressors, groups)
    n_groups = max(groups) + 1
    for params in draw(model, 3, sign=-1.0 if name == "negativevoigt" else 1.0):
        expected = models.getModelForward(name)(params.numpy(), *fixed, n_groups)
        assert relative(model(params), expected) < 1e-9
        theirs = models.getModelJac(name)(params.numpy(), *fixed, n_groups, first, last)
        ours = model.jacobian(params[None])[0].numpy()
        for column in range(model.n_params):
            assert relative(ours[:, column], theirs[:, column]) < 1e-9, column


@pytest.mark.with_fsl_mrs
@pytest.mark.parametrize("name", MODELS)
def test_parameter_sizes_are_fsl_mrs_s(name):
    from fsl_mrs import models

    model = toy(name, (0, 1, 1, 2))
    _, sizes = models.FSLModel_vars(name, 4, 3, model.baseline.n_regressors)
    assert list(model.sizes.values()) == sizes


# ---- independent of FSL-MRS


@pytest.mark.parametrize("name", MODELS)
def test_the_formula(name):
    """Written out with loops, for three groups."""
    model = toy(name, (0, 1, 1, 2), "off")
    params = draw(model, 1, sign=-1.0)[0]
    blocks = {key: value.numpy() for key, value in model.split(params).items()}
    t, nu = np.arange(1, 161) * 1e-3, np.linspace(-500, 500, 160)
    total = np.zeros(160, complex)
    for i, group in enumerate((0, 1, 1, 2)):
        eps = blocks["eps"][i if len(blocks["eps"]) == 4 else group]
        sigma = blocks["sigma"][group] if "sigma" in blocks else 0.0
        fid = (
            blocks["conc"][i] * model.basis[i].numpy() * np.exp(-(1j * eps + blocks["gamma"][group] + sigma**2 * t) * t)
        )
        fid[0] /= 2
        total += np.fft.fftshift(np.fft.fft(fid)) / np.sqrt(160)
    total *= np.exp(-1j * (blocks["phi0"] + blocks["phi1"] * nu))
    total[model.window[0] : model.window[1]] += blocks["baseline"] @ [1, 1j]
    assert relative(model(params), total) < 1e-12


@pytest.mark.parametrize("groups", [(0, 0, 0, 0), (0, 1, 1, 2)])
@pytest.mark.parametrize("words", ["poly, 2", "spline, stiff"])
@pytest.mark.parametrize("name", MODELS)
def test_jacobian_is_autograd_s(name, words, groups):
    model = toy(name, groups, words)
    params = draw(model, 1)[0]
    first, last = model.window

    def spectrum(p):
        return torch.view_as_real(model(p)[first:last])

    by_part = torch.autograd.functional.jacobian(spectrum, params, vectorize=True)
    expected = torch.complex(by_part[:, 0], by_part[:, 1])
    ours = model.jacobian(params[None])[0]
    assert ours.shape == expected.shape
    for column in range(model.n_params):
        assert relative(ours[:, column], expected[:, column]) < 1e-9, column


@pytest.mark.parametrize("words", ["off", "poly, 1", "spline, stiff"])
def test_eliminated_columns_and_derivatives(words):
    model = toy(groups=(0, 1, 1, 2), baseline=words)
    theta, conc, coefficients = model.unpack(draw(model, 3))
    plain = model.plain_columns(theta)
    assert relative(model.columns(theta), model.eliminate_baseline(plain)) < 1e-14
    assert relative((conc[:, None].to(plain) @ plain)[:, 0], model.join_metabolites(theta, conc)) < 1e-12
    raw = model.theta_derivatives(theta, conc, eliminate=False)
    assert relative(model.theta_derivatives(theta, conc), model.eliminate_baseline(raw)) < 1e-14
    u, d = model.baseline.projector
    expected = plain.numpy() - (plain.numpy() @ u * d) @ u.T
    assert relative(model.columns(theta), expected) < 1e-12
    if words == "poly, 1":
        only_baseline = coefficients @ model.regressors.mT.to(coefficients)
        assert model.eliminate_baseline(only_baseline).abs().max() < 1e-12 * only_baseline.abs().max()
        assert relative(model.baseline_coefficients(only_baseline), coefficients) < 1e-10


def test_parts_add_up():
    model = toy(groups=(0, 1, 1, 2))
    params = draw(model, 2)
    assert model.metabolites(params).shape == (2, 4, 160)
    assert relative(model.metabolites(params).sum(1) + model.baseline_spec(params), model(params)) < 1e-14
    outside = torch.ones(160, dtype=torch.bool)
    outside[model.window[0] : model.window[1]] = False
    assert model.baseline_spec(params)[:, outside].abs().max() == 0


@pytest.mark.parametrize("words", ["off", "poly, 2", "spline, stiff"])
@pytest.mark.parametrize("name", MODELS)
def test_pack_and_unpack_are_inverses(name, words):
    model = toy(name, (0, 1, 1, 2), words)
    params = draw(model, 5)
    theta, conc, coefficients = model.unpack(params)
    assert theta.shape == (5, sum(model.theta_sizes.values()))
    np.testing.assert_allclose(model.pack(theta, conc, coefficients), params, rtol=1e-14)
    if model.shape.gaussian:
        np.testing.assert_allclose(model.split_theta(theta)["variance"], model.split(params)["sigma"] ** 2)
    np.testing.assert_array_equal(model.join_theta(**model.split_theta(theta)), theta)
    assert len(model.parameter_names(["a", "b", "c", "d"])) == model.n_params


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(sorted(MODELS)), st.sampled_from([(), (1,), (4,), (2, 3), (2, 1, 2)]), st.integers(0, 10**6))
def test_a_batch_is_its_rows(name, batch, seed):
    model = toy(name, (0, 1, 1, 2))
    rows = draw(model, int(np.prod(batch)), seed)
    together = model(rows.reshape(*batch, model.n_params))
    assert together.shape == (*batch, 160)
    apart = torch.stack([model(row) for row in rows])
    assert relative(together.reshape(-1, 160), apart) < 1e-13
    theta, conc, _ = model.unpack(rows)
    singly = torch.cat([model.columns(row[None]) for row in theta])
    assert relative(model.columns(theta), singly) < 1e-12
    singly = torch.cat([model.theta_derivatives(a[None], b[None]) for a, b in zip(theta, conc)])
    assert relative(model.theta_derivatives(theta, conc), singly) < 1e-12


def test_the_model_is_differentiable_everywhere_in_its_parameters():
    model = toy("voigt", (0, 1, 1, 2), "spline, stiff")
    params = draw(model, 2).requires_grad_()
    model(params).abs().square().sum().backward()
    assert torch.isfinite(params.grad).all()
    assert (params.grad != 0).all()


def test_whole_spectrum_as_window():
    model = toy(ppmlim=None)
    assert model.window == (0, 160)
    params = draw(model, 1)
    assert relative(model.unpack(params)[1], params[:, :4]) == 0
    theta, conc, coefficients = model.unpack(params)
    in_window = model.join_metabolites(theta, conc) + coefficients @ model.regressors.mT.to(coefficients)
    assert relative(in_window, model(params)) < 1e-12


@pytest.mark.parametrize("name", MODELS)
def test_bounds_of_widths_and_shifts(name):
    model = toy(name, (0, 1, 1, 2))
    lower, upper = (model.split_theta(bound) for bound in model.theta_bounds)
    assert set(lower) == set(model.theta_sizes)
    for width in {"gamma", "variance"} & set(lower):
        assert (lower[width] == 0).all()
        assert (upper[width] > (2 * torch.pi * 30) ** (2 if width == "variance" else 1)).all()
    # In rad/s: more than the 0.35 ppm to either side in which a start is looked for.
    assert (upper["eps"] == -lower["eps"]).all()
    assert (upper["eps"] > 2 * torch.pi * 0.5 * 64).all()
    for phase in ("phi0", "phi1"):
        assert (lower[phase] == -torch.inf).all() and (upper[phase] == torch.inf).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "gauss"}, "model 'gauss': unknown; choose one of voigt"),
        ({"groups": (0, 1)}, r"one index per metabolite \(4\)"),
        ({"groups": (0, 2, 2, 0)}, "from 0 without gaps"),
        ({"groups": (1, 1, 1, 1)}, "from 0 without gaps"),
        ({"baseline": "wobbly"}, "baseline 'wobbly': not understood"),
        ({"ppmlim": (2.0, 2.1)}, r"ppmlim 2 2\.1: holds \d+ spectral points, at least 16"),
        ({"ppmlim": (50.0, 60.0)}, "holds 0 spectral points"),
    ],
)
def test_malformed_options(options, message):
    with pytest.raises(OptionError, match=message):
        toy(**options)


def test_too_few_points_for_any_window():
    with pytest.raises(OptionError, match="at least 16"):
        SignalModel(np.ones((1, 8), complex), Axes(8, 1e-3, 64.0), ppmlim=None)
