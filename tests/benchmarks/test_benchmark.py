"""Methods of others, the data set they are compared on, and the comparison itself."""

import numpy as np
import pytest
import torch

from benchmarks.__main__ import main
from benchmarks.papers import alignment, classical_alignment
from fsl_mrs_dl.core import transients
from fsl_mrs_dl.core.axes import Axes
from fsl_mrs_dl.core.errors import DataError, OptionError
from fsl_mrs_dl.core.transients import apply_shift_phase
from fsl_mrs_dl.networks import frequency_then_phase, model_cards
from fsl_mrs_dl.training.frequency_then_phase import FrequencyThenPhaseTraining
from fsl_mrs_dl.training.registration import RegistrationTraining, choose_reference
from fsl_mrs_dl.training.settings import Settings
from fsl_mrs_dl.training.trainer import train

pytestmark = pytest.mark.usefixtures("one_thread")

FREQ, DWELL, N = 400.2, 1 / 4400, 1024
AXES = Axes(N, DWELL, FREQ)
GRID = {"dwelltime": DWELL, "spec_freq_mhz": FREQ}
TIME = np.arange(N) * DWELL


def clean(width=10.0):
    places = ((2.01, 1.0), (3.027, 0.8), (3.2, 0.5), (3.92, 0.5), (3.55, 0.4))
    return sum(a * np.exp((2j * np.pi * (ppm - 4.65) * FREQ - np.pi * width) * TIME) for ppm, a in places)


@pytest.fixture(scope="module")
def signal():
    return alignment.Signal(torch.as_tensor(clean()).to(torch.complex64), DWELL, FREQ)


def few_shifted(most_hz, sd=0.02, n=6):
    random = np.random.default_rng(1)
    shift, phase = random.uniform(-most_hz, most_hz, n), random.uniform(-40, 40, n)
    fids = apply_shift_phase(np.broadcast_to(clean(), (n, N)), -shift, -phase, DWELL)
    return fids + sd * (random.normal(size=fids.shape) + 1j * random.normal(size=fids.shape)), shift, phase


@pytest.mark.parametrize(
    ("method", "tolerance"),
    [
        (lambda fid: classical_alignment.spectral_registration(fid, clean(), AXES), (0.1, 1.0)),
        (lambda fid: classical_alignment.spectral_registration(fid, clean(), AXES, ppmlim=(2.5, 3.5)), (0.3, 3.0)),
        (lambda fid: classical_alignment.correlation(fid, clean(), AXES), (0.7, 4.0)),
        (lambda fid: classical_alignment.correlation(fid, clean(), AXES, ppmlim=(2.5, 3.5)), (0.7, 5.0)),
        (lambda fid: classical_alignment.creatine_fit(fid, AXES, ppmlim=(2.7, 3.45)), (0.3, 3.0)),
    ],
)
def test_peers_find_small_shifts_of_clean_transients(method, tolerance):
    fids, shift, phase = few_shifted(4.0)
    found = method(fids)
    assert np.abs(found[0] - shift).max() < tolerance[0] and np.abs(found[1] - phase).max() < tolerance[1]


def test_the_width_of_creatine_is_that_of_its_line():
    for width in (10.0, 16.0):
        assert classical_alignment.creatine_width(clean(width), AXES, ppmlim=(2.7, 3.45)) == pytest.approx(
            width, rel=0.03
        )


@pytest.mark.parametrize("method", frequency_then_phase.METHODS)
def test_supervised_pairs_can_learn_what_they_are_told(method, signal):
    torch.manual_seed(0)
    data = alignment.make_set(signal, 32, 3, nuisance=[], snr={"uniform": [40, 60]})
    network = frequency_then_phase.FrequencyThenPhase(method, DWELL, FREQ, N)
    told = [data[key] for key in ("fid", "shift_hz", "phase")]
    optimiser, first = torch.optim.Adam(network.parameters(), 1e-3), float(network.loss(*told).detach())
    for _ in range(40):
        optimiser.zero_grad()
        network.loss(*told).backward()
        optimiser.step()
    assert float(network.loss(*told).detach()) < 0.5 * first
    with pytest.raises(OptionError, match="1024 points"):
        network(data["fid"][:, :500])
    with pytest.raises(OptionError, match="tapper, ma"):
        frequency_then_phase.FrequencyThenPhase("magic", DWELL, FREQ, N)


def test_a_supervised_pair_is_trained_kept_and_read(signal, tmp_path):
    data = alignment.make_set(signal, 40, 3)
    shortest = Settings(steps=2, batch_size=8, validate_every=2, validation_batches=1, progress=False)
    card = train(FrequencyThenPhaseTraining("tapper", data, AXES, settings=shortest), tmp_path / "pair")
    network, again = model_cards.load(tmp_path / "pair")
    assert card.kind == again.kind == "frequency-then-phase" and network.settings["method"] == "tapper"
    shift, phase = alignment.answers_of(network)(data["fid"])
    assert shift.shape == phase.shape == (40,)


def test_the_data_set_is_what_it_says(signal):
    data = alignment.make_set(signal, 300, 5)
    assert torch.equal(data["fid"], alignment.make_set(signal, 300, 5)["fid"])
    assert data["shift_hz"].abs().max() <= 20 and data["phase"].abs().max() <= np.pi / 2
    assert 0.35 < data["nuisance"].float().mean() < 0.65
    snr = signal.fid[0].abs() / data["noise_sd"]
    assert 9 <= snr.min() and snr.max() <= 27
    # Undone, and without nuisance peaks, transients are the signal again but for their noise.
    plain = alignment.make_set(signal, 50, 5, nuisance=[], snr=1e6, apodise_fwhm_hz=0.0)
    back = (
        apply_shift_phase(plain["fid"], plain["shift_hz"], torch.rad2deg(plain["phase"]), DWELL)
        / plain["amplitude"][:, None]
    )
    assert float((back - signal.fid).abs().max()) < 1e-3 * float(signal.fid.abs().max())


def test_the_default_is_near_its_bound_on_the_data_set(signal):
    data = alignment.make_set(signal, 300, 6, nuisance=[])
    every = alignment.methods(signal, {}, fsl_mrs=False)
    found = alignment.precision(every["default, known reference"](data["fid"].numpy()), data)
    limit = alignment.bounds(signal, data, (0.2, 4.2))
    assert found[1] < 1.25 * limit[1] and found[4] < 1.25 * limit[4]


def test_the_reference_is_the_mean_or_chosen_by_k_means(signal, tmp_path):
    data = alignment.make_set(signal, 120, 7, nuisance=[])
    shortest = Settings(steps=2, batch_size=8, validate_every=2, validation_batches=1, progress=False)
    options = {"settings": shortest, "recipe": "unvaried-transients"}
    fids = data["fid"].numpy()
    made = {}
    for kind in ("mean", "k-means"):
        train(RegistrationTraining("dsr", fids, AXES, reference=kind, **options), tmp_path / kind)
        made[kind] = torch.complex(*model_cards.load(tmp_path / kind)[0].reference_ri)
    tail = {kind: float(one[-64:].abs().mean()) for kind, one in made.items()}
    assert tail["mean"] < 0.5 * tail["k-means"]  # a mean has less noise than any of its parts
    same = (transients.normalised(data["fid"], 512) - made["k-means"]).abs().amax(-1).min()
    assert float(same) == 0
    with pytest.raises(OptionError, match="reference best"):
        train(RegistrationTraining("dsr", fids, AXES, reference="best", **options), tmp_path / "x")


def test_the_chosen_reference_is_like_most_others(signal):
    data = alignment.make_set(signal, 200, 8, nuisance=[], snr={"uniform": [40, 60]})
    fids = data["fid"].clone()
    odd = torch.arange(0, 200, 4)
    fids[odd] += (
        2
        * torch.exp(2j * torch.pi * torch.rand(len(odd), 1))
        * fids.abs().max()
        * torch.exp(torch.as_tensor(-60.0 * TIME))
    )
    assert choose_reference(fids) not in odd.tolist()


def test_the_benchmark_writes_its_table_and_figures(tmp_path, capsys, monkeypatch):
    from nifti_mrs.create_nmrs import gen_nifti_mrs

    monkeypatch.delenv("FSL_MRS_DL_TESTDATA", raising=False)
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "signal.nii.gz"
    gen_nifti_mrs(clean().conj()[None, None, None].astype(np.complex64), DWELL, FREQ, no_conj=True).save(str(file))
    words = ["align", "--output", str(tmp_path / "out"), "--signal", str(file), "--test", "40", "--signals", "60"]
    assert main([*words, "--networks", "dsr", "--steps", "2", "--threads", "1"]) == 0
    said = capsys.readouterr().out
    text = (tmp_path / "out" / "table.md").read_text()
    assert "Training dsr" in said and text in said
    for name in ("table.md", "snr.png", "monte_carlo.png", "models/dsr/card.json"):
        assert (tmp_path / "out" / name).stat().st_size > 100, name
    for words_in in (
        "| dsr |",
        "| dsr, paper | 1.02",
        "| bound, 0.2 to 4.2 ppm |",
        "| default |",
        "## Beyond",
        "## SNR",
        "## Monte Carlo",
    ):
        assert words_in in text, words_in
    assert main([*words, "--networks", "dsr", "--steps", "3", "--threads", "1"]) == 2
    assert "networks of another run (steps 2)" in capsys.readouterr().err
    assert main([*words, "--networks", "magic"]) == 2 and "--networks magic" in capsys.readouterr().err
    assert main([*words, "--networks", "dsr", "--test", "3"]) == 2 and "--test 3" in capsys.readouterr().err
    assert main(["align", "--output", "o"]) == 2 and "FSL_MRS_DL_TESTDATA" in capsys.readouterr().err


def test_signals_that_cannot_be_used_are_refused(tmp_path):
    import scipy.io

    file = tmp_path / "signal.mat"
    scipy.io.savemat(file, {"data": clean()[:, None]})
    assert alignment.load_signal(file, 4400.0, FREQ).fid.shape == (N,)
    with pytest.raises(OptionError, match="give bandwidth in Hz"):
        alignment.load_signal(file)
    scipy.io.savemat(file, {"data": np.zeros((3, 4))})
    with pytest.raises(DataError, match=r"shape \(3, 4\)"):
        alignment.load_signal(file, 4400.0, FREQ)
    scipy.io.savemat(file, {"other": clean()})
    with pytest.raises(DataError, match="variable 'data'"):
        alignment.load_signal(file, 4400.0, FREQ)
