"""dSR, dSRF, dCrR, dCrRF: decoders against formulas, the choice of a reference, and networks that learn without a
truth."""

import json
import math

import numpy as np
import pytest
import torch

from fsl_mrs_dl.core import transients, units
from fsl_mrs_dl.core.axes import Axes
from fsl_mrs_dl.core.errors import DataError, OptionError
from fsl_mrs_dl.networks.self_supervised_registration import METHODS, Registration
from fsl_mrs_dl.simulation import recipes
from fsl_mrs_dl.training.augmentation import augment
from fsl_mrs_dl.training.registration import RegistrationTraining, choose_reference

DWELL, FREQ = 1 / 2000, 123.2
AXES = Axes(1024, DWELL, FREQ)
T = torch.arange(1024) * DWELL


def transient(shift_hz=0.0, phase=0.0, noise=0.0, seed=0, water=0.0):
    clean = sum(
        a * torch.exp((2j * math.pi * (units.ppm_to_hz(ppm, FREQ) + shift_hz) - 20) * T + 1j * phase)
        for ppm, a in ((2.01, 1.0), (3.027, 0.7), (3.2, 0.5), (3.9, 0.4))
    )
    clean = clean + water * torch.exp((2j * math.pi * shift_hz - 40) * T)
    random = torch.Generator().manual_seed(seed)
    return clean + noise * torch.view_as_complex(torch.randn(1024, 2, generator=random))


def test_normalised_signals_are_cut_filled_and_of_height_one():
    x = transients.normalised(5 * transient()[None], 512)
    assert x.shape == (1, 512) and x.abs().max() == pytest.approx(1)
    assert transients.normalised(transient()[None, :100], 512)[0, 100:].abs().max() == 0


@pytest.mark.parametrize("shift_hz,phase", [(7.0, 0.4), (-15.0, -1.2)])
def test_decoder_of_dsr_turns_the_reference(shift_hz, phase):
    network = Registration("dsr", DWELL, FREQ)
    network.set_reference(transient())
    found = {"shift_hz": torch.tensor([shift_hz]), "phase": torch.tensor([phase])}
    moved = transient(shift_hz, phase)[None]
    again = network.decode(moved, found)
    expected = transients.normalised(moved, 512)
    # Both were divided by their largest magnitude.
    torch.testing.assert_close(again / again.abs().max(), expected, rtol=1e-4, atol=1e-4)


def test_decoder_of_dcrr_is_a_line_over_the_apodised_input():
    network = Registration("dcrr", DWELL, FREQ)
    found = {
        "shift_hz": torch.tensor([3.0]),
        "phase": torch.tensor([0.5]),
        "height": torch.tensor([0.8]),
        "damping": torch.tensor([25.0]),
    }
    x = torch.zeros(1, 1024, dtype=torch.complex64)
    t = T[:512]
    hz = units.ppm_to_hz(3.027, FREQ) + 3.0
    torch.testing.assert_close(
        network.decode(x, found)[0],
        0.8 * torch.exp((2j * math.pi * hz - 25) * t + 0.5j).to(torch.complex64),
        rtol=1e-3,
        atol=1e-4,
    )
    x = transient()[None]
    torch.testing.assert_close(
        network.decode(x, found) - network.decode(0 * x, found),
        transients.normalised(x, 512) * torch.exp(-500 * t),
        rtol=1e-3,
        atol=1e-4,
    )


def test_the_f_looks_at_its_part_of_the_spectrum_only():
    outside = torch.exp((2j * math.pi * units.ppm_to_hz(1.3, FREQ) - 3) * T)[None].to(torch.complex64)
    losses = {}
    for method in ("dsr", "dsrf"):
        torch.manual_seed(0)
        network = Registration(method, DWELL, FREQ).eval()
        with torch.no_grad():
            losses[method] = float(network.loss(outside))
    ppm = units.ppm_axis(512, DWELL, FREQ)
    assert np.array_equal(network.inside.numpy(), (ppm >= 2.5) & (ppm <= 3.5))
    assert losses["dsrf"] < 0.05 * losses["dsr"]


def test_the_reference_is_a_good_one_of_the_cluster_without_water():
    fids = torch.stack(
        [transient(noise=0.05, seed=i, water=6.0) for i in range(6)]
        + [transient(noise=0.2 if i != 3 else 0.02, seed=10 + i) for i in range(6)]
    )
    assert choose_reference(fids) == 9


def test_augmentation_adds_what_it_says():
    recipe = recipes.Recipe.of("mine", {"augment": {"shift_hz": {"uniform": [-20, 20]}, "phase_deg": 30.0}})
    batch = augment(transient()[None].to(torch.complex64), recipe, AXES, 4, torch.Generator().manual_seed(0))
    for one, shift, phase in zip(batch["fid"], batch["shift_hz"], batch["phase"]):
        torch.testing.assert_close(one, transient(float(shift), float(phase)).to(torch.complex64), rtol=1e-2, atol=1e-2)
    with pytest.raises(OptionError, match="'augment'"):
        augment(batch["fid"], recipes.Recipe.load("lipid"), AXES, 4, torch.Generator())


def test_impossible_choices_are_refused():
    with pytest.raises(OptionError, match="dsr, dsrf, dcrr, dcrrf"):
        Registration("dxr", DWELL, FREQ)
    with pytest.raises(OptionError, match="between 2.5 and 3.5"):
        Registration("dsrf", 1 / 80000, 64.0, n_points=256)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("method", METHODS)
def test_each_learns_shifts_without_being_told_any(method, tmp_path, one_thread):
    pytest.importorskip("lightning", reason="Lightning is not installed (pip install 'fsl_mrs_dl[train]')")
    from fsl_mrs_dl.io.nifti import MrsData
    from fsl_mrs_dl.networks import model_cards
    from fsl_mrs_dl.preproc import align
    from fsl_mrs_dl.preproc.options import AlignOptions
    from fsl_mrs_dl.training.settings import Settings
    from fsl_mrs_dl.training.trainer import train

    fids = torch.stack([transient(noise=0.02, seed=i) for i in range(12)]).numpy()
    # A line among others is found more slowly than a whole spectrum, but in smaller batches.
    steps, size = (800, 16) if METHODS[method]["creatine"] else (400, 32)
    settings = Settings(
        steps=steps,
        batch_size=size,
        learning_rate=2e-3,
        validate_every=200,
        validation_batches=8,
        device="cpu",
        progress=False,
    )
    content = recipes.Recipe.load("augment-transients").content
    (tmp_path / "gentle.json").write_text(
        json.dumps(
            {
                "augment": {k: v for k, v in content["augment"].items() if k != "nuisance"}
                | {"snr": {"uniform": [20, 60]}}
            }
        )
    )
    training = RegistrationTraining(method, fids, AXES, settings=settings, recipe=tmp_path / "gentle.json")
    train(training, tmp_path / "net")
    network, card = model_cards.load(tmp_path / "net")
    assert network.method == method and card["training"]["steps"] == steps
    shift = np.array([-12.0, -6.0, 0.0, 6.0, 12.0])
    moved = torch.stack([transient(s, 0.2, noise=0.02, seed=50 + i) for i, s in enumerate(shift)])
    with torch.no_grad():
        found = network(moved)["shift_hz"].numpy()
    # Seconds of training: the slope is there, the papers' accuracy is not.
    assert np.corrcoef(found, shift)[0, 1] > 0.98
    data = MrsData(moved.numpy()[None, None, None].transpose(0, 1, 2, 4, 3), DWELL, FREQ, "1H", ("DIM_DYN",))
    aligned = align.align_data(data, AlignOptions(model=tmp_path / "net"))
    error = aligned.alignment.shift_hz[0] - shift
    assert aligned.method == "net" and np.abs(error - error.mean()).max() < 0.5
    with pytest.raises(DataError, match="2000 Hz at 123.2 MHz.*4000 Hz"):
        align.align_data(MrsData(data.fids, DWELL / 2, FREQ, "1H", ("DIM_DYN",)), AlignOptions(model=tmp_path / "net"))
