"""The benchmark of denoising: its measures on networks whose effect is known, and a small run of all of it."""

import numpy as np
import pytest
import torch

from benchmarks.__main__ import main
from benchmarks.papers import denoising as bench
from fsl_mrs_dl.networks import denoiser

pytestmark = pytest.mark.usefixtures("one_thread")


class Known(denoiser.Denoiser):
    """A network that gives back so much of what it is given."""

    def __init__(self, basis, part: float):
        super().__init__(basis.dwelltime, basis.spec_freq_mhz, basis.n_points, channels=1, kernel=1, layers=2)
        self.part = part

    def forward(self, fid):
        return self.part * fid


@pytest.fixture(scope="module")
def basis():
    return bench.default_basis()


def test_errors_of_spectra_are_those_of_networks_that_are_known(basis):
    assert bench.spectrum_errors(Known(basis, 1.0), basis, 10, n=4, repeats=8) == pytest.approx((1, 0), abs=0.05)
    whole, bias = bench.spectrum_errors(Known(basis, 0.0), basis, 10, n=4, repeats=8)
    assert whole == pytest.approx(bias) and whole > 1


def test_raw_fits_are_honest_and_those_of_shrunk_data_are_not(basis):
    found = bench.compare_fits(Known(basis, 0.7), basis, 40, 24, 0)
    raw, shrunk = found["raw"], found["denoised"]
    assert raw.coverage.mean() > 0.85 and raw.misfit == pytest.approx(1, abs=0.1)
    naa = basis.names.index("NAA")
    assert shrunk.slope[naa] == pytest.approx(0.7 * raw.slope[naa], rel=0.02) and shrunk.coverage[naa] < 0.2
    assert (found["posterior"].error < raw.error).mean() > 0.8


@pytest.mark.filterwarnings("ignore")
def test_a_small_run_of_all_of_it(tmp_path, capsys, monkeypatch):
    pytest.importorskip("lightning", reason="Lightning is not installed (pip install 'fsl_mrs_dl[train]')")
    monkeypatch.setattr(bench, "SNRS", (10, 40))
    monkeypatch.setitem(bench.SCALES, "small", bench.Scale({"channels": 4, "kernel": 8, "layers": 2}, 10, 8, 16))
    words = ["denoise", "--output", str(tmp_path / "b"), "--steps", "10", "--test", "16", "--threads", "1"]
    assert main(words) == 0, capsys.readouterr().err
    text = (tmp_path / "b" / "table.md").read_text()
    assert "benchmarks denoise --scale small --steps 10 --test 16 --seed 0" in text and "| NAA |" in text
    assert (tmp_path / "b" / "denoise.png").read_bytes()[:4] == b"\x89PNG"
    assert sorted(path.name for path in (tmp_path / "b").iterdir()) == ["denoise.png", "models", "table.md"]
    # A figure that fails leaves what was there as it was; the network is used again.
    card = (tmp_path / "b" / "models" / "denoiser" / "card.json").read_bytes()
    monkeypatch.setattr(bench, "_figure", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    assert main(words) == 2
    assert "cannot be written" in capsys.readouterr().err and (tmp_path / "b" / "table.md").read_text() == text
    assert (tmp_path / "b" / "models" / "denoiser" / "card.json").read_bytes() == card
    # Another one's network is not taken for this one's.
    assert main([*words, "--seed", "1"]) == 2
    assert "holds networks of another run (seed 0)" in capsys.readouterr().err
    assert main(["denoise", "--output", str(tmp_path / "c"), "--scale", "huge"]) == 2
    assert "choose small or paper" in capsys.readouterr().err and not (tmp_path / "c").exists()


def test_chunks_do_not_matter(basis):
    fids = np.random.default_rng(0).normal(size=(300, 64)) + 0j
    np.testing.assert_allclose(bench.denoised(lambda x: 2 * x, fids), 2 * fids)
    assert torch.is_grad_enabled()
