"""The weighted mean of aligned transients: no bias, and no less SNR than the plain mean."""

import warnings

import numpy as np
import pytest
from helpers.singlets import DWELL, FREQ, TIME, N, lines

from fsl_mrs_dl.cli.main import main
from fsl_mrs_dl.core.errors import OptionError
from fsl_mrs_dl.core.transients import apply_shift_phase
from fsl_mrs_dl.io import nifti
from fsl_mrs_dl.preproc import align
from fsl_mrs_dl.preproc.options import AlignOptions

pytestmark = pytest.mark.usefixtures("one_thread")

CLEAN = lines(((2.008, 1.0), (3.027, 0.7), (3.21, 0.6), (3.92, 0.4), (3.55, 0.3)))


def scan(sd, seed=0, amplitude=1.0):
    """Drifting transients ``(n, n_points)`` with noise of SD ``sd`` each, and their true shifts and phases."""
    rng, n = np.random.default_rng(seed), len(sd)
    shift, phase = np.linspace(-3, 3, n) + rng.normal(0, 0.3, n), np.linspace(-20, 20, n) + rng.normal(0, 3, n)
    fids = amplitude * apply_shift_phase(np.broadcast_to(CLEAN, (n, N)), -shift, -phase, DWELL)
    noise = np.asarray(sd)[:, None] * (rng.standard_normal((n, N)) + 1j * rng.standard_normal((n, N)))
    return fids + noise, shift, phase


def svs(fids, tags=("DIM_DYN",)):
    fids = np.moveaxis(fids, -1, 0)
    return nifti.MrsData(fids[None, None, None], DWELL, FREQ, "1H", tags)


def averaged(data, **options):
    return align.align_data(data, AlignOptions(average=True, method="classical", device="cpu", **options))


def noise_and_size(fid):
    """Residual against the truth with one shift, phase and size, and that size."""
    grid = np.linspace(-5, 5, 401)
    value = (fid * np.exp(-2j * np.pi * grid[:, None] * TIME)) @ CLEAN.conj() / np.vdot(CLEAN, CLEAN).real
    best = np.abs(value).argmax()
    fid = fid * np.exp(-2j * np.pi * grid[best] * TIME - 1j * np.angle(value[best]))
    return np.linalg.norm(fid - abs(value[best]) * CLEAN), abs(value[best])


@pytest.mark.parametrize("kind", ["equal", "uneven", "outliers"])
def test_the_mean_has_the_size_of_the_truth_and_no_less_snr_than_the_plain_one(kind):
    ratios, sizes = [], []
    for seed in range(6):
        sd = np.full(32, 0.4)
        if kind == "uneven":
            sd[::2] = 1.2
        fids, *_ = scan(sd, seed)
        if kind == "outliers":
            fids[5] = 5 * fids[5][::-1]
        weighted = averaged(svs(fids)).data
        assert weighted.dim_tags == () and weighted.fids.shape == (1, 1, 1, N)
        plain = align.align_data(svs(fids), AlignOptions(method="classical", device="cpu")).data.fids[0, 0, 0].mean(1)
        noise, size = noise_and_size(weighted.fids[0, 0, 0])
        ratios.append(noise / noise_and_size(plain)[0])
        sizes.append(size)
    assert np.mean(ratios) < {"equal": 1.001, "uneven": 0.75, "outliers": 0.75}[kind]
    assert abs(np.mean(sizes) - 1) < 0.02


def test_weights_do_not_follow_the_scatter_of_estimates_nor_amplitudes():
    fids, *_ = scan(np.full(64, 0.3), 1, np.linspace(0.8, 1.2, 64)[:, None])
    mean = averaged(svs(fids)).data.fids[0, 0, 0]
    aligned = align.align_data(svs(fids), AlignOptions(method="classical", device="cpu")).data.fids[0, 0, 0]
    assert np.linalg.norm(mean - aligned.mean(1)) < 0.02 * np.linalg.norm(mean)


def test_sub_spectra_and_coils_are_averaged_each_with_its_own_weights():
    parts = [scan(np.full(16, 0.2), seed)[0] for seed in range(4)]
    parts[1][3] *= 0
    fids = np.stack(parts, 1).reshape(16, 2, 2, N)
    data = svs(fids, ("DIM_DYN", "DIM_COIL", "DIM_EDIT"))
    out = averaged(data)
    assert out.data.dim_tags == ("DIM_COIL", "DIM_EDIT") and out.data.fids.shape == (1, 1, 1, N, 2, 2)
    assert np.isfinite(out.data.fids).all()
    every = align.align_data(data, AlignOptions(method="classical", device="cpu")).data.fids
    np.testing.assert_allclose(out.data.fids[..., 0, 0], every[..., 0, 0].mean(-1), atol=0.05)
    assert "weighted mean over DIM_DYN" in out.details("align", None)


def test_the_command_averages(tmp_path, capsys):
    fids, *_ = scan(np.full(12, 0.2))
    nifti.save(tmp_path / "one.nii.gz", svs(fids))
    words = ["align", "--file", str(tmp_path / "one.nii.gz"), "--output", str(tmp_path / "out"), "--device", "cpu"]
    assert main([*words, "--average", "--reject-outliers", "-r"]) in (0, None)
    assert "Averaged" in capsys.readouterr().out
    assert nifti.load(tmp_path / "out" / "one.nii.gz").fids.shape == (1, 1, 1, N)
    image, out = align.align_image(nifti.image_of(svs(fids)), AlignOptions(average=True, device="cpu"))
    assert image.shape[:4] == (1, 1, 1, N) and not image.dim_tags[0]
    with pytest.raises(OptionError, match="one dimension"):
        averaged(svs(np.stack([fids, fids], 1), ("DIM_DYN", "DIM_USER_0")), dim="all")


def test_several_files_in_one_folder_keep_their_tables_and_reports(tmp_path):
    for k, name in enumerate(("one", "two.b", "three")):
        nifti.save(tmp_path / f"{name}.nii.gz", svs(scan(np.full(8 + k, 0.2), k)[0]))
        words = ["--file", str(tmp_path / f"{name}.nii.gz"), "--output", str(tmp_path / "out"), "--device", "cpu", "-r"]
        assert main(["align", *words]) in (0, None)
    assert main(["align", *words, "--overwrite", "--average"]) in (0, None)
    names = {path.name for path in (tmp_path / "out").iterdir()}
    stems = ("dl_align", "dl_align_two.b", "dl_align_three")
    assert names == {
        *("one.nii.gz", "two.b.nii.gz", "three.nii.gz"),
        *(f"{stem}.csv" for stem in stems),
        *(f"report_{stem}.html" for stem in stems),
    }
    rows = [len((tmp_path / "out" / f"{stem}.csv").read_text().splitlines()) for stem in stems]
    assert rows == [9, 10, 11]


def test_a_voxel_without_signal_has_a_mean_of_zero_and_no_warning():
    fids = np.stack([scan(np.full(8, 0.1))[0].T, np.zeros((N, 8))])[:, None, None]
    data = nifti.MrsData(fids, DWELL, FREQ, "1H", ("DIM_DYN",))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        out = averaged(data)
    assert out.data.fids[0].any() and not out.data.fids[1].any()
