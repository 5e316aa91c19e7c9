"""DQ-nMM: the decoder is the physical model, the network learns without a truth, and its answer starts fits."""

import math

import numpy as np
import pytest
import torch

from fsl_mrs_dl import quantifiers, synthetic, units
from fsl_mrs_dl.errors import OptionError


@pytest.fixture(scope="module")
def network(sim_basis):
    torch.manual_seed(0)
    made = quantifiers.DQnMM(sim_basis.names, sim_basis.dwelltime, sim_basis.spec_freq_mhz)
    made.set_basis(sim_basis.fids)
    return made.eval()


def test_the_decoder_is_the_physical_model(network, sim_basis):
    conc = torch.rand(2, sim_basis.n_metabs)
    found = {
        "conc": conc, "damping": torch.tensor([5.0, 12.0]), "shift_hz": torch.tensor([2.0, -3.0]), "phi0": torch.tensor([0.3, -1.0]),
    }  # fmt: skip
    t = np.arange(1024) * sim_basis.dwelltime
    for row in range(2):
        d, s, p = (float(found[name][row]) for name in ("damping", "shift_hz", "phi0"))
        expected = (conc[row].numpy() @ sim_basis.fids[:, :1024]) * np.exp(-d * t + 2j * math.pi * s * t - 1j * p)
        np.testing.assert_allclose(network.decode(found)[row].numpy(), expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())


def test_numbers_begin_at_what_is_usual_and_are_never_negative(network):
    with torch.no_grad():
        found = network(torch.randn(8, 1024, dtype=torch.complex64))
    assert (found["conc"] > 0).all() and (found["damping"] > 0).all()
    assert (found["conc"] / network.usual).median() == pytest.approx(1, abs=0.1)


def test_only_the_window_is_seen_and_compared(network):
    # Water at 4.65 ppm and a line in the window: of the first a few percent of tail are left, of the second all but its tails.
    energy = {}
    for ppm in (4.65, 2.5):
        hz = units.ppm_to_hz(ppm, network.spec_freq_mhz)
        line = torch.exp((2j * math.pi * hz - 20) * network.time)[None].to(torch.complex64)
        energy[ppm] = float(network.limited(line).abs().square().sum() / line.abs().square().sum())
    assert energy[4.65] < 0.05 and energy[2.5] > 0.95


def test_windows_without_points_are_refused(sim_basis):
    with pytest.raises(OptionError, match="at least 16"):
        quantifiers.DQnMM(sim_basis.names, sim_basis.dwelltime, sim_basis.spec_freq_mhz, n_points=512, ppmlim=(2.0, 2.1))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("measured", [False, True])
def test_it_learns_from_spectra_alone_and_starts_fits(tmp_path, capsys, sim_basis, measured, one_thread):
    pytest.importorskip("lightning", reason="Lightning is not installed (pip install 'fsl_mrs_dl[train]')")
    from fsl_mrs_dl import nifti, pipeline, zoo
    from fsl_mrs_dl.cli import main
    from fsl_mrs_dl.starters import Automatic

    sim_basis.save(tmp_path / "basis")
    protocol = synthetic.protocol_of(sim_basis.fids, sim_basis.names, sim_basis.dwelltime, sim_basis.spec_freq_mhz)
    recipe = synthetic.Recipe.load("shamaei-table2")
    drawn = synthetic.draw(recipe, 100, sim_basis.names, torch.Generator().manual_seed(1))
    fids = synthetic.render(drawn, protocol).fid.numpy()
    words = ["train", "quant", "--method", "dq-nmm", "--basis", str(tmp_path / "basis"), "--output", str(tmp_path / "net")]
    words += ["--steps", "600", "--batch_size", "32", "--learning_rate", "0.002", "--device", "cpu", "--threads", "1"]
    if measured:
        data = nifti.MrsData(
            fids.T[None, None, None], sim_basis.dwelltime, sim_basis.spec_freq_mhz, "1H", ("DIM_DYN",), affine=np.eye(4)
        )
        nifti.save(tmp_path / "spectra.nii.gz", data)
        words += ["--data", str(tmp_path / "spectra.nii.gz")]
    assert main(words) == 0, capsys.readouterr().err
    network, card = zoo.load(tmp_path / "net")
    assert card.kind == "dq-nmm" and ("90 measured spectra" in card["training"]["basis"]) == measured
    (left,) = card["accuracy"]["held-back spectra"].values()
    assert left < (25 if measured else 10)  # percent of the energy; 90 spectra do not teach much
    with torch.no_grad():
        found = network(torch.as_tensor(fids))
    shift = drawn["shift_hz"].numpy()
    assert np.corrcoef(found["shift_hz"].numpy(), shift)[0, 1] > 0.7
    model, _ = pipeline.model_for(sim_basis, 1024, sim_basis.dwelltime, sim_basis.spec_freq_mhz, "1H")
    starter = Automatic("network", tmp_path / "net").for_model(model)
    assert starter.name == "net"
    fit = pipeline.quantify(
        fids, sim_basis, dwelltime=sim_basis.dwelltime, spec_freq_mhz=sim_basis.spec_freq_mhz, starter=starter, device="cpu"
    )
    classical = pipeline.quantify(
        fids,
        sim_basis,
        dwelltime=sim_basis.dwelltime,
        spec_freq_mhz=sim_basis.spec_freq_mhz,
        starter=Automatic("classical"),
        device="cpu",
    )
    assert np.mean(fit.cost <= classical.cost * 1.001) > 0.95


@pytest.mark.parametrize(
    "words,message",
    [
        (["--method", "dq-nmm"], "--basis"),
        (["--method", "dq-x", "--basis", "b"], "--method dq-x.*dq-nmm"),
        (["--data", "a.nii.gz"], "--data.*dq-nmm"),
    ],
)
def test_impossible_trainings_are_said_in_one_line(tmp_path, capsys, words, message):
    pytest.importorskip("lightning", reason="Lightning is not installed (pip install 'fsl_mrs_dl[train]')")
    import re

    from fsl_mrs_dl.cli import main

    assert main(["train", "quant", "--output", str(tmp_path / "net"), *words]) == 2
    error = capsys.readouterr().err
    assert re.search(message, error) and error.count("\n") == 1 and not (tmp_path / "net").exists()
