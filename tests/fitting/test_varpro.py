"""The solver against scipy and against known truths; it knows no physics, and neither do these tests."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import least_squares, lsq_linear, nnls

from fsl_mrs_dl.fitting import varpro

WIDTH = 48
T = torch.linspace(0, 1, WIDTH, dtype=torch.float64)
TONES = torch.tensor([3.0, 11.0, 24.0], dtype=torch.float64)
LOWER = torch.tensor([-torch.inf, 0.0], dtype=torch.float64)
NONNEGATIVE = torch.ones(3, dtype=torch.bool)


def columns(theta, tones=TONES):
    """Damped tones with one common shift and damping: theta is (shift, damping)."""
    turns = 2j * torch.pi * (tones[None] + theta[:, :1])
    return torch.exp((turns - theta[:, 1:])[..., None] * T)


def derivatives(theta, conc, tones=TONES):
    total = (conc[:, None].to(torch.complex128) @ columns(theta, tones))[:, 0] * T
    return torch.stack([2j * torch.pi * total, -total], dim=1)


def problem(n, seed=0, noise=0.0):
    rng = np.random.default_rng(seed)
    theta = torch.as_tensor(np.stack([rng.uniform(-0.15, 0.15, n), rng.uniform(0.5, 3, n)], 1))
    conc = torch.as_tensor(rng.uniform(0.5, 2, (n, 3)))
    target = (conc[:, None].to(torch.complex128) @ columns(theta))[:, 0]
    target = target + noise * torch.as_tensor(rng.normal(size=(n, WIDTH)) + 1j * rng.normal(size=(n, WIDTH)))
    return target, theta, conc


def solve(target, start, **options):
    options = {"lower": LOWER, "nonnegative": NONNEGATIVE} | options
    return varpro.solve(target, columns, derivatives, start, **options)


def start_for(n):
    return torch.tensor([[0.0, 1.0]], dtype=torch.float64).repeat(n, 1)


# ---- non-negative least squares


@settings(max_examples=120, deadline=None)
@given(
    st.integers(1, 9), st.integers(0, 10**6), st.sampled_from([0.0, 1e-3, 1e-6, 1.0]), st.sampled_from([1.0, 1e-4, 1e5])
)
def test_nnls_is_scipy_s(n, seed, alike, scale):
    rng = np.random.default_rng(seed)
    design = rng.normal(size=(3 * n + 5, n))
    if alike != 1.0:  # columns that differ by ``alike`` only
        design[:, -1] = design[:, 0] + alike * rng.normal(size=len(design))
    design *= scale * 10.0 ** rng.uniform(-2, 2, n)
    y = design @ rng.normal(size=n) + rng.normal(size=len(design))
    gram, right = design.T @ design, design.T @ y
    x, free = varpro.nonnegative_least_squares(
        torch.as_tensor(gram)[None], torch.as_tensor(right)[None], torch.ones(n, dtype=torch.bool)
    )
    x = x[0].numpy()
    expected, _ = nnls(design, y)
    assert (x >= 0).all()
    assert (x[~free[0].numpy()] == 0).all()
    # From the Gram matrix the cost is known to the ridge and the tolerance of the signs, in parts of the energy of the
    # data.
    assert np.sum((design @ x - y) ** 2) <= np.sum((design @ expected - y) ** 2) + 1e-9 * np.sum(y**2)
    if alike == 1.0 or n == 1:
        size = np.sqrt(np.diag(gram))
        np.testing.assert_allclose(x * size, expected * size, atol=1e-6 * np.linalg.norm(y))


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 7), st.integers(0, 10**6))
def test_only_those_that_must_be_are_nonnegative(n, seed):
    rng = np.random.default_rng(seed)
    design, y = rng.normal(size=(20, n)), rng.normal(size=20)
    mask = rng.random(n) < 0.5
    expected = lsq_linear(design, y, (np.where(mask, 0, -np.inf), np.inf), tol=1e-13, method="bvls").x
    x, _ = varpro.nonnegative_least_squares(
        torch.as_tensor(design.T @ design)[None], torch.as_tensor(design.T @ y)[None], torch.as_tensor(mask)
    )
    np.testing.assert_allclose(x[0].numpy(), expected, atol=1e-7)


def test_nnls_of_a_batch_is_that_of_its_rows_whatever_the_start(rng):
    design, y = rng.normal(size=(40, 12, 6)), rng.normal(size=(40, 12))
    gram = torch.as_tensor(np.einsum("bij,bik->bjk", design, design))
    right = torch.as_tensor(np.einsum("bij,bi->bj", design, y))
    everything = torch.ones(6, dtype=torch.bool)
    x, free = varpro.nonnegative_least_squares(gram, right, everything)
    for row in range(40):
        np.testing.assert_allclose(x[row].numpy(), nnls(design[row], y[row])[0], atol=1e-9)
    guess = torch.as_tensor(rng.random((40, 6)) < 0.5)
    again, free_again = varpro.nonnegative_least_squares(gram, right, everything, guess)
    np.testing.assert_allclose(again.numpy(), x.numpy(), atol=1e-9)
    assert (free == free_again).all()


def test_nnls_with_a_column_of_zeros_and_twins():
    design = np.array([[1.0, 0, 1], [2, 0, 2], [0, 0, 0]])
    y = np.array([1.0, 2, 5])
    gram, right = torch.as_tensor(design.T @ design)[None], torch.as_tensor(design.T @ y)[None]
    x, _ = varpro.nonnegative_least_squares(gram, right, NONNEGATIVE)
    assert x[0, 1] == 0
    assert float(x[0, 0] + x[0, 2]) == pytest.approx(1)
    assert (x >= 0).all()


# ---- the whole problem


@pytest.mark.parametrize("seed", range(4))
def test_the_optimum_is_scipy_s(seed):
    target, _, _ = problem(1, seed, noise=0.3)
    got = solve(target, start_for(1), tolerance=1e-6)
    y = target[0].numpy()

    def residual(p):
        spectra = columns(torch.as_tensor(p[None, 3:]))[0].numpy()
        left = y - p[:3] @ spectra
        return np.concatenate([left.real, left.imag])

    best = least_squares(
        residual, [1, 1, 1, 0, 1], bounds=([0, 0, 0, -np.inf, 0], np.inf), xtol=1e-14, ftol=1e-14, gtol=1e-14
    )
    assert got.converged.all()
    assert float(got.cost[0]) == pytest.approx(2 * best.cost, rel=1e-9)
    np.testing.assert_allclose(got.conc[0].numpy(), best.x[:3], atol=1e-4)
    np.testing.assert_allclose(got.theta[0].numpy(), best.x[3:], atol=1e-4)


def test_truth_is_recovered_without_noise():
    target, theta, conc = problem(50)
    got = solve(target, start_for(50))
    assert got.converged.all()
    np.testing.assert_allclose(got.theta.numpy(), theta.numpy(), atol=1e-6)
    np.testing.assert_allclose(got.conc.numpy(), conc.numpy(), atol=1e-6)
    assert (got.n_iter > 1).all()


def test_cost_is_what_is_left():
    target, theta, conc = problem(6, noise=0.2)
    got = solve(target, start_for(6))
    left = target - (got.conc[:, None].to(torch.complex128) @ columns(got.theta))[:, 0]
    np.testing.assert_allclose(got.cost.numpy(), left.abs().square().sum(-1).numpy(), rtol=1e-12)
    np.testing.assert_allclose(
        varpro.cost(target, columns, got.theta, nonnegative=NONNEGATIVE).numpy(), got.cost.numpy(), rtol=1e-9
    )
    assert (got.cost <= varpro.cost(target, columns, theta, nonnegative=NONNEGATIVE)).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0])
def test_one_bad_spectrum_does_not_spoil_the_batch(bad):
    target, _, _ = problem(5, noise=0.1)
    alone = solve(target[[0, 1, 3, 4]], start_for(4))
    target[2] = bad
    got = solve(target, start_for(5))
    assert not got.converged[2]
    assert got.converged[[0, 1, 3, 4]].all()
    np.testing.assert_allclose(got.theta[[0, 1, 3, 4]].numpy(), alone.theta.numpy(), rtol=1e-10)
    np.testing.assert_allclose(got.conc[[0, 1, 3, 4]].numpy(), alone.conc.numpy(), rtol=1e-10)
    if bad != 0:
        assert not torch.isfinite(got.cost[2])


def test_a_batch_is_its_chunks():
    target, _, _ = problem(17, noise=0.2)
    together = solve(target, start_for(17))
    apart = [solve(part, start_for(len(part))) for part in torch.split(target, 5)]
    for name in ("theta", "conc", "cost"):
        parts = torch.cat([getattr(part, name) for part in apart])
        np.testing.assert_allclose(getattr(together, name).numpy(), parts.numpy(), rtol=1e-8, atol=1e-10)
    assert (together.n_iter == torch.cat([part.n_iter for part in apart])).all()


def test_bounds_are_kept_and_the_rest_is_best():
    # Growing tones: the damping that fits best is negative.
    conc = torch.ones(1, 3, dtype=torch.complex128)
    target = (conc[:, None] @ columns(torch.tensor([[0.05, -0.8]], dtype=torch.float64)))[:, 0]
    got = solve(target, start_for(1), tolerance=1e-6)
    assert got.theta[0, 1] == 0
    free = solve(target, start_for(1), lower=torch.full((2,), -torch.inf, dtype=torch.float64))
    assert float(free.theta[0, 1]) == pytest.approx(-0.8, abs=1e-6)
    assert free.cost[0] < got.cost[0]
    shifts = torch.linspace(0.0, 0.1, 201, dtype=torch.float64)
    grid = torch.stack([shifts, torch.zeros_like(shifts)], 1)
    on_grid = varpro.cost(target.expand(201, -1), columns, grid, nonnegative=NONNEGATIVE)
    assert got.cost[0] <= on_grid.min() * (1 + 1e-9)


def test_upper_bounds_are_kept_too():
    target = columns(torch.tensor([[0.1, 2.5]], dtype=torch.float64)).sum(1)
    upper = torch.tensor([0.04, 1.5], dtype=torch.float64)
    got = solve(target, start_for(1), upper=upper, tolerance=1e-6)
    assert got.converged.all()
    assert (got.theta <= upper).all()
    assert got.theta[0, 0] == upper[0]
    free = solve(target, start_for(1), upper=torch.full((2,), torch.inf, dtype=torch.float64))
    np.testing.assert_allclose(free.theta[0].numpy(), [0.1, 2.5], atol=1e-6)
    one_step_inside = varpro.cost(target, columns, got.theta - torch.tensor([[1e-3, 0.0]]), nonnegative=NONNEGATIVE)
    assert got.cost[0] < one_step_inside[0]


def test_a_start_below_the_bound_is_lifted():
    target, theta, _ = problem(3)
    start = start_for(3)
    start[:, 1] = -5
    got = solve(target, start)
    assert (got.theta[:, 1] >= 0).all()
    np.testing.assert_allclose(got.theta.numpy(), theta.numpy(), atol=1e-6)


def test_negative_concentrations_only_where_allowed():
    theta = torch.tensor([[0.05, 1.0]], dtype=torch.float64)
    conc = torch.tensor([[1.0, -0.7, 0.5]], dtype=torch.float64)
    target = (conc[:, None].to(torch.complex128) @ columns(theta))[:, 0]
    held = solve(target, start_for(1))
    assert (held.conc >= 0).all() and held.conc[0, 1] == 0
    free = solve(target, start_for(1), nonnegative=torch.zeros(3, dtype=torch.bool))
    np.testing.assert_allclose(free.conc.numpy(), conc.numpy(), atol=1e-6)


def test_fixed_parameters_stay():
    target, theta, _ = problem(4, noise=0.05)
    start = start_for(4)
    got = solve(target, start, fixed=torch.tensor([False, True]))
    assert (got.theta[:, 1] == start[:, 1]).all()
    assert (got.theta[:, 0] != start[:, 0]).all()
    assert got.converged.all()
    assert (got.cost >= solve(target, start).cost).all()
    both = solve(target, start, fixed=torch.tensor([True, True]))
    np.testing.assert_array_equal(both.theta.numpy(), start.numpy())
    np.testing.assert_allclose(both.cost, varpro.cost(target, columns, start, nonnegative=NONNEGATIVE), rtol=1e-12)


def test_twin_columns_do_no_harm():
    twins = torch.tensor([3.0, 3.0, 24.0], dtype=torch.float64)
    target, theta, conc = problem(6, noise=0.05)
    truth = torch.stack([conc[:, 0] + conc[:, 1], conc[:, 1] * 0, conc[:, 2]], 1)
    target = (truth[:, None].to(torch.complex128) @ columns(theta, twins))[:, 0]
    got = varpro.solve(
        target,
        lambda t: columns(t, twins),
        lambda t, c: derivatives(t, c, twins),
        start_for(6),
        lower=LOWER,
        nonnegative=NONNEGATIVE,
    )
    assert got.converged.all()
    assert torch.isfinite(got.conc).all() and (got.conc >= 0).all()
    np.testing.assert_allclose((got.conc[:, 0] + got.conc[:, 1]).numpy(), truth[:, 0].numpy(), atol=1e-5)
    np.testing.assert_allclose(got.theta.numpy(), theta.numpy(), atol=1e-5)


def test_few_steps_are_said_to_be_too_few():
    target, _, _ = problem(5)
    start = start_for(5)
    got = solve(target, start, max_iter=2)
    assert (got.n_iter <= 2).all()
    assert not got.converged.any()


def test_the_target_and_the_start_are_left_alone():
    target, _, _ = problem(3)
    start = start_for(3)
    before = target.clone(), start.clone()
    solve(target, start)
    assert torch.equal(target, before[0]) and torch.equal(start, before[1])


def test_the_scale_of_the_data_does_not_matter():
    target, _, _ = problem(8, noise=0.1)
    one, other = solve(target, start_for(8)), solve(target * 1e-7, start_for(8))
    np.testing.assert_allclose(other.theta.numpy(), one.theta.numpy(), atol=1e-8)
    np.testing.assert_allclose(other.conc.numpy() * 1e7, one.conc.numpy(), rtol=1e-7)


def test_far_from_the_model_the_exact_curvature_takes_few_steps_to_the_same_minimum():
    """Beside lines that the model has not, the usual approximation of the curvature is wrong."""
    target, theta, _ = problem(6, seed=3)
    strange = torch.exp(2j * torch.pi * 4.2 * T - 0.2 * T) + torch.exp(2j * torch.pi * 12.3 * T - 8 * T)
    target = target + torch.linspace(0.6, 2, 6, dtype=torch.float64)[:, None] * strange
    usual = solve(target, theta, max_iter=400, tolerance=1e-6)
    exact = solve(target, theta, max_iter=400, tolerance=1e-6, exact_after=2)
    assert exact.converged.all() and usual.converged.all()
    torch.testing.assert_close(exact.cost, usual.cost, rtol=1e-9, atol=0)
    assert exact.n_iter.sum() < 0.4 * usual.n_iter.sum()


def test_steps_that_end_at_a_bound_are_shortened_in_that_parameter_alone():
    target, theta, _ = problem(4, seed=5, noise=0.05)
    upper = torch.tensor([torch.inf, 1.0], dtype=torch.float64)  # below the dampings of most
    usual = solve(target, start_for(4), max_iter=200, upper=upper)
    exact = solve(target, start_for(4), max_iter=200, upper=upper, exact_after=0)
    assert (exact.theta <= upper).all() and (exact.theta >= LOWER).all()
    torch.testing.assert_close(exact.cost, usual.cost, rtol=1e-6, atol=1e-12)
