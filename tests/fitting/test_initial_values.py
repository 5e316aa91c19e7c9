"""What proposes the start: the shipped networks on protocols they never saw, and who is asked when."""

import numpy as np
import pytest
import torch

from fsl_mrs_dl.core import units
from fsl_mrs_dl.core.axes import Axes
from fsl_mrs_dl.core.errors import OptionError
from fsl_mrs_dl.fitting import optimise, quantify
from fsl_mrs_dl.fitting.automatic_initialisation import AutomaticChoice, Combined, WithKnownParameters
from fsl_mrs_dl.fitting.initialisation import ClassicalSearch
from fsl_mrs_dl.fitting.network_initialisation import NetworkProposal, theta_from_quantities
from fsl_mrs_dl.io.basis import Basis
from fsl_mrs_dl.networks import model_cards
from fsl_mrs_dl.physics.signal_model import SignalModel
from fsl_mrs_dl.preproc.proposals import UniversalProposal
from fsl_mrs_dl.registration.alignment import align_transients
from fsl_mrs_dl.simulation import protocols, random_spectra, recipes

pytestmark = pytest.mark.usefixtures("one_thread")


def simulated(basis, recipe, n, seed=3, snr=15.0):
    """Spectra in the window, their model and what was drawn."""
    protocol = protocols.protocol_of(basis.fids, basis.names, basis.axes)
    content = recipes.Recipe.load(recipe).content | {"snr": snr}
    drawn = random_spectra.draw(recipes.Recipe.of(recipe, content), n, basis.names, torch.Generator().manual_seed(seed))
    fids = random_spectra.render(drawn, protocol).fid.to(torch.complex128)
    fids *= 100 / torch.linalg.vector_norm(fids, dim=-1, keepdim=True)
    model, _ = quantify.model_for(basis, Axes(fids.shape[-1], basis.dwelltime, basis.spec_freq_mhz, "1H"))
    first, last = model.window
    return units.fid_to_spec(fids)[:, first:last], model, drawn


@pytest.fixture(scope="module")
def network():
    return NetworkProposal(*model_cards.load("quant-universal"))


def shift_of(model, theta):
    return -model.split_theta(theta)["eps"][..., 0] / (2 * torch.pi * model.spec_freq_mhz)


def test_parameters_from_what_was_drawn_make_the_spectrum(sim_basis):
    """The conversion to the model's parameters: at the truth nothing but noise is left, whatever the shift and
    phases."""
    spec, model, drawn = simulated(sim_basis, "rizzo", 6, snr=1e5)
    content = recipes.Recipe.load("normal-brain").content | {"snr": 1e5, "macromolecules": None}
    content.pop("macromolecules")
    protocol = protocols.protocol_of(sim_basis.fids, sim_basis.names, sim_basis.axes)
    drawn = random_spectra.draw(
        recipes.Recipe.of("clean", content), 6, sim_basis.names, torch.Generator().manual_seed(0)
    )
    fids = random_spectra.render(drawn, protocol).fid.to(torch.complex128)
    first, last = model.window
    spec = units.fid_to_spec(fids)[:, first:last]
    rest = (drawn[name].double()[:, None] for name in ("phi0", "phi1", "lorentz_hz", "gauss_hz"))
    theta = theta_from_quantities(model, drawn["shift_ppm"].double()[:, None], *rest)
    _, cost = optimise._best_proposal(model.eliminate_baseline(spec), model, theta)
    assert (cost / spec.abs().square().sum(-1)).max() < 1e-4


@pytest.mark.parametrize(
    "recipe,least", [("normal-brain", 0.97), ("residual-water", 0.97), ("lipid", 0.9), ("tumour", 0.85)]
)
def test_the_network_sees_shift_and_phase_of_a_protocol_it_never_saw(network, sim_basis, recipe, least):
    spec, model, drawn = simulated(sim_basis, recipe, 200)
    proposals = network(spec, model, list(sim_basis.names))
    assert proposals.shape[1] == 3
    error = shift_of(model, proposals) - drawn["shift_ppm"].double()[:, None]
    assert (error.abs() < 0.02).any(1).double().mean() >= least


def test_the_network_sees_the_same_at_7_t_and_on_another_grid(network, testdata):
    folder = testdata / "fsl_basis_7t"
    basis = Basis.load(folder)
    n, bandwidth = 2048, 5000.0
    basis = Basis(basis.resampled(1 / bandwidth, n), basis.names, 1 / bandwidth, basis.spec_freq_mhz)
    spec, model, drawn = simulated(basis, "normal-brain", 100)
    error = shift_of(model, network(spec, model, list(basis.names))) - drawn["shift_ppm"].double()[:, None]
    assert (error.abs() < 0.02).any(1).double().mean() >= 0.95


@pytest.mark.parametrize("recipe", ["lipid", "tumour"])
def test_together_is_at_least_as_good_as_either(network, sim_basis, recipe):
    spec, model, _ = simulated(sim_basis, recipe, 48)
    names = list(sim_basis.names)
    cost = {
        initial_values.name: optimise.fit_spectra(spec, model, names, initial_values).cost
        for initial_values in (ClassicalSearch(), network, Combined([network, ClassicalSearch()]))
    }
    both = cost["quant-universal and classical"]
    best = torch.stack(list(cost.values())).amin(0)
    reached = {name: (one <= best * 1.001).double().mean().item() for name, one in cost.items()}
    assert reached["quant-universal and classical"] >= max(reached.values()) - 0.03
    assert reached["quant-universal and classical"] > reached["classical"] and both.isfinite().all()


def model_at(freq=123.2, nucleus="1H", **options):
    t = np.arange(1024) / 2000
    return SignalModel(np.exp(-20 * t)[None], Axes(1024, 1 / 2000, freq, nucleus), **({"ppmlim": (0.2, 4.2)} | options))


@pytest.mark.parametrize(
    "model,words",
    [
        (dict(freq=49.9, nucleus="31P", ppmlim=(-10, 5)), "nucleus 31P"),
        (dict(freq=42.6), "spectrometer frequency (MHz) 42.6"),
        (dict(ppmlim=(1.8, 4.2)), "window from (ppm) 1.8"),
        (dict(ppmlim=(0.2, 3.4)), "window to (ppm) 3.4"),
    ],
)
def test_data_outside_the_card_are_searched_classically_and_it_is_said(model, words):
    initial_values = AutomaticChoice().for_model(model_at(**model))
    assert initial_values.name.startswith("classical, not quant-universal: ") and words in initial_values.name
    insisted = AutomaticChoice("network").for_model(model_at(**model))
    assert insisted.name.startswith("quant-universal, outside its range: ") and words in insisted.name


def test_data_inside_the_card_get_both_and_a_name_gets_what_it_says():
    model = model_at()
    assert AutomaticChoice().for_model(model).name == "quant-universal and classical"
    assert AutomaticChoice("both").for_model(model).name == "quant-universal and classical"
    assert AutomaticChoice("network").for_model(model).name == "quant-universal"
    assert AutomaticChoice("classical").for_model(model).name == "classical"


@pytest.mark.parametrize(
    "arguments,words",
    [
        (("oracle",), "oracle.*classical, network, both"),
        (("classical", "quant-universal"), "not used with init classical"),
        ((None, "align-universal"), "proposes shifts and phases"),
        ((None, "nobody"), "nobody.*models list"),
    ],
)
def test_impossible_choices_are_refused_in_one_line(arguments, words):
    with pytest.raises(OptionError, match=words) as caught:
        AutomaticChoice(*arguments)
    assert "\n" not in str(caught.value)


def test_known_parameters_go_with_both_initial_values(network, sim_basis):
    spec, model, _ = simulated(sim_basis, "normal-brain", 4)
    names = list(sim_basis.names)
    end = optimise.fit_spectra(spec[:1], model, names, network)
    params = model.pack(
        end.theta, end.conc, model.baseline_coefficients(spec[:1] - model.join_metabolites(end.theta, end.conc))
    )[0]
    initial_values = WithKnownParameters(Combined([network, ClassicalSearch()]), params.numpy(), model)
    assert initial_values.name == "quant-universal and classical" and len(initial_values.parts) == 2
    again = optimise.fit_spectra(spec[:1], model, names, initial_values)
    assert again.cost[0] <= end.cost[0] * (1 + 1e-6)


@pytest.mark.parametrize("known", [True, False])
def test_unstable_water_and_lipids_lose_few_transients(sim_basis, known):
    protocol = protocols.protocol_of(sim_basis.fids, sim_basis.names, sim_basis.axes)
    content = dict(recipes.Recipe.load("universal-transients").content)
    content["transients"] = content["transients"] | {
        "unstable_water_probability": 1.0,
        "unstable_lipids_probability": 1.0,
    }
    content |= {"snr": 10.0, "lorentz_fwhm_hz": 5.0, "gauss_fwhm_hz": 0.0}
    for name in ("water", "lipids", "baseline"):
        content.pop(name)
    drawn = random_spectra.draw_transients(
        recipes.Recipe.of("t", content), 6, 24, sim_basis.names, torch.Generator().manual_seed(5)
    )
    fid, base = random_spectra.render_transients(drawn, protocol)
    axes = Axes(fid.shape[-1], sim_basis.dwelltime, sim_basis.spec_freq_mhz)
    network, card = model_cards.load("align-universal")
    hits = {"network": 0, "classical": 0, "refined": 0}
    for one, reference, shift in zip(
        fid.to(torch.complex128), base.fid.to(torch.complex128), drawn["shift_hz"].double()
    ):
        reference = reference.numpy() if known else None
        shifts = {
            "network": UniversalProposal(network, card, axes, reference=reference)(one[None, None])[0][0].numpy(),
            "classical": align_transients(one.numpy(), axes, reference=reference, unstable=()).shift_hz,
            "refined": align_transients(
                one.numpy(),
                axes,
                reference=reference,
                proposal=UniversalProposal(network, card, axes, reference=reference),
            ).shift_hz,
        }
        for name, value in shifts.items():
            error = value - shift.numpy()
            error = error if known else error - np.median(error)
            hits[name] += (np.abs(error) < 2).sum()
    assert hits["network"] / (6 * 24) > (0.95 if known else 0.85) and hits["network"] > hits["classical"]
    assert hits["refined"] / (6 * 24) > 0.95


def test_weak_transients_are_started_by_the_network_and_strong_ones_are_not(sim_basis):
    from fsl_mrs_dl.io import nifti
    from fsl_mrs_dl.preproc import align
    from fsl_mrs_dl.preproc.options import AlignOptions
    from fsl_mrs_dl.simulation import protocols, random_spectra, recipes

    protocol = protocols.protocol_of(sim_basis.fids, sim_basis.names, sim_basis.axes)
    content = dict(recipes.Recipe.load("universal-transients").content)
    content["transients"] = content["transients"] | {
        "unstable_water_probability": 0.0,
        "unstable_lipids_probability": 0.0,
    }
    for name in ("water", "lipids", "baseline"):
        content.pop(name)
    fids = []
    for snr in (0.5, 20.0):
        one = recipes.Recipe.of("t", content | {"snr": snr, "lorentz_fwhm_hz": 5.0, "gauss_fwhm_hz": 0.0})
        drawn = random_spectra.draw_transients(one, 1, 24, sim_basis.names, torch.Generator().manual_seed(3))
        fids.append(random_spectra.render_transients(drawn, protocol)[0][0].numpy())
    both = np.stack(fids, -1).transpose(1, 0, 2)[None, None, None]  # points, transients, sets
    freq, dwelltime = sim_basis.spec_freq_mhz, sim_basis.dwelltime

    def aligned(fids, **options):
        data = nifti.MrsData(fids, dwelltime, freq, "1H", ("DIM_DYN", "DIM_EDIT"), affine=np.eye(4))
        return align.align_data(data, AlignOptions(device="cpu", edit_dim=None, **options))

    combined, classical, network = aligned(both), aligned(both, method="classical"), aligned(both, method="universal")
    assert combined.method == "align-universal in 1 of 2 sets, where transients are weak, classical elsewhere"
    assert (classical.alignment.flag[0] == "weak").mean() > 0.05
    np.testing.assert_allclose(combined.alignment.shift_hz[0], network.alignment.shift_hz[0])
    np.testing.assert_allclose(combined.alignment.shift_hz[1], classical.alignment.shift_hz[1])
    assert aligned(both[..., 1:]).method == "classical" and aligned(both[..., :1]).method == "align-universal"
