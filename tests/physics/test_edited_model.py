"""The in-vivo model of edited data: derivatives, efficiency of pulses, combinations of conditions."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fsl_mrs_dl.core.axes import Axes
from fsl_mrs_dl.fitting.in_vivo.edited import prepare_edited
from fsl_mrs_dl.fitting.in_vivo.fit import Acquisition
from fsl_mrs_dl.physics.edited_components import places_of, survivals_of
from fsl_mrs_dl.physics.edited_model import combinations, efficiency_weights, partners_of
from fsl_mrs_dl.simulation.edited_basis import simulate_edited_basis

pytestmark = pytest.mark.usefixtures("one_thread")
NAMES = ["Cr", "GABA", "GPC", "GSH", "Glu", "NAA"]


@pytest.fixture(scope="module", params=["mega-press", "hermes"])
def prepared(request):
    """The model of a scheme in a window of few points, and its basis set."""
    basis = simulate_edited_basis(
        NAMES, request.param, spec_freq_mhz=123.25, bandwidth_hz=2000.0, n_points=512, edit_pulse="ideal"
    )
    axes = Axes(512, 1 / 2000, 123.25)
    bases = np.stack([one.fids for one in basis.sets])
    random = np.random.default_rng(0)
    noise = random.standard_normal((1, len(bases), 512)) + 0j
    model = prepare_edited(
        bases.sum(1)[None] + 0.01 * noise,
        bases,
        basis.names,
        axes,
        Acquisition(0.068, 2.0, ppmlim=(1.0, 3.9)),
        survivals=survivals_of(basis.pulses, 123.25),
        places=places_of(basis.pulses),
        reference=len(bases) - 1,
    )
    return model, basis


def parameters(model):
    """Parameters near the prior's centre, every one of them elsewhere."""
    random = torch.Generator().manual_seed(1)
    x = model.prior_mean.repeat(2, 1)
    return x + 0.02 * torch.randn(x.shape, generator=random, dtype=x.dtype)


def test_derivatives_are_those_of_the_spectra(prepared):
    model = prepared[0].model
    x = parameters(model)
    spectra, jacobian = model.jacobian(x)
    assert torch.allclose(spectra, model.spectrum(x))
    step = 1e-5
    for number in range(model.n_params):
        change = torch.zeros_like(x)
        change[:, number] = step
        slope = (model.spectrum(x + change) - model.spectrum(x - change)) / (2 * step)
        assert (slope - jacobian[:, number]).abs().max() < 1e-4 * jacobian.abs().max()


def test_products_with_derivatives_are_those_of_the_jacobian(prepared):
    model = prepared[0].model
    x = parameters(model)
    weights = torch.randn(2, len(model.spectrum(x)[0]), dtype=torch.complex128)
    _, pull = model.spectrum_and_pull(x, lambda spectra: weights)
    expected = (model.jacobian(x)[1].conj() * weights[:, None]).real.sum(-1)
    assert torch.allclose(pull, expected, rtol=1e-8, atol=1e-8 * float(expected.abs().max()))


def test_conditions_differ_by_what_editing_does(prepared):
    model, basis = prepared[0].model, prepared[1]
    x = model.prior_mean[None]
    each = model.component_spectra(x)[0]
    size = each.abs().amax((1, 2))
    names = list(model.components.names)
    apart = (each - each[:, -1:]).abs().amax((1, 2)) / size
    assert apart[names.index("Cr")] < 0.05  # the pulses leave it
    assert apart[names.index("GABA")] > 0.5
    assert torch.allclose(model.unmixed(model.mixed(model.spectra(x))), model.spectra(x))
    assert model.n_conditions == len(basis.conditions)


def test_co_edited_macromolecule_is_in_units_of_gaba(prepared):
    model = prepared[0].model
    names, each = list(model.components.names), model.component_spectra(model.prior_mean[None])[0]
    expected = torch.as_tensor(model.components.expected)[:, None, None]
    near = torch.as_tensor((model.plain.window.ppm > 2.8) & (model.plain.window.ppm < 3.2))
    areas = (each / expected)[..., near].real.sum(-1)
    gaba, own = (areas[names.index(name)] for name in ("GABA", "MM3co"))
    assert own[0] - own[-1] == pytest.approx(float(gaba[0] - gaba[-1]), rel=0.15)
    assert abs(float(own[-1])) < 1e-6 * float(own[0])


@pytest.mark.parametrize("n", [2, 3, 4, 8])
def test_combinations_are_orthonormal_and_begin_with_the_sum(n):
    matrix = combinations(n)
    assert np.allclose(matrix @ matrix.T, np.eye(n))
    assert np.allclose(matrix[0], 1 / np.sqrt(n))


def test_partners_lack_one_pulse():
    assert partners_of(((1.9,), ()))[1].tolist() == [[1, 1]]
    places, partners = partners_of(((1.9, 4.56), (1.9,), (4.56,), ()))
    assert places == (1.9, 4.56)
    assert partners.tolist() == [[2, 3, 2, 3], [1, 1, 3, 3]]
    places, partners = partners_of(((1.9, 4.58), (1.9, 4.18), (4.58,), (4.18,)))
    assert places == (1.9,) and partners.tolist() == [[2, 3, 2, 3]]
    assert partners_of(((1.9,), (1.5,)))[1].shape == (0, 2)


def test_no_effect_of_a_pulse_is_the_partner_and_full_effect_the_condition():
    _, partners = partners_of(((1.9, 4.56), (1.9,), (4.56,), ()))
    assert np.allclose(efficiency_weights(partners, np.ones((2, 1)))[0], np.eye(4))
    none = efficiency_weights(partners, np.zeros((2, 1)))[0]
    assert np.allclose(none, np.tile([0, 0, 0, 1], (4, 1)))
    half = efficiency_weights(partners, np.array([[0.5], [1.0]]))[0]
    assert np.allclose(half[1], [0, 0.5, 0, 0.5])
