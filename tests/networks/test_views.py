"""What encoders look at: the transforms are those they are said to be, and say so where something is not installed."""

import pickle
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fsl_mrs_dl.core import units
from fsl_mrs_dl.core.errors import OptionError
from fsl_mrs_dl.networks import encoders
from fsl_mrs_dl.networks.encoders import views

pytestmark = pytest.mark.usefixtures("one_thread")
BAND = (-0.27, -0.02)


def channels(fid):
    return torch.stack([fid.real, fid.imag], -2)


def line(cycles, n=512, decay=0.01):
    t = torch.arange(n)
    return channels(torch.exp((2j * torch.pi * cycles - decay) * t).to(torch.complex64)[None])


def test_the_spectrum_is_that_of_units_on_twice_the_grid():
    fid = torch.randn(3, 256, dtype=torch.complex64)
    seen = views.Spectrum(256)(channels(fid))
    expected = units.fid_to_spec(fid)
    np.testing.assert_allclose(torch.complex(seen[:, 0], seen[:, 1])[:, ::2].numpy(), expected.numpy(), atol=1e-5)
    joined = views.Spectrum(256, band=BAND, joined=True)(channels(fid))
    apart = views.Spectrum(256, band=BAND)(channels(fid))
    assert torch.equal(joined, apart.flatten(1)[:, None])
    assert torch.equal(views.Spectrum(256, band=BAND, real=True)(channels(fid)), apart[:, :1])


def test_a_spectrogram_is_its_definition():
    fid = torch.randn(2, 256, dtype=torch.complex64)
    view = views.Spectrogram(256, band=BAND)
    seen = view(channels(fid))
    assert seen.shape == (2, 2, 128, 32) == (2, *view.shape)
    window = np.hamming(128)
    for k, m in ((0, 0), (5, 3), (127, 31), (40, 9)):
        frequency = BAND[0] + (BAND[1] - BAND[0]) * (8 * k + m % 8 + 0.5) / 1024
        part = np.pad(fid.numpy(), ((0, 0), (0, 256)))[:, m * view.hop : m * view.hop + 128]
        expected = (part * window * np.exp(-2j * np.pi * frequency * np.arange(128))).sum(-1) / np.sqrt(128)
        np.testing.assert_allclose(torch.complex(seen[:, 0, k, m], seen[:, 1, k, m]).numpy(), expected, atol=1e-4)


def test_one_channel_has_both_parts_along_time():
    fid = channels(torch.randn(2, 256, dtype=torch.complex64))
    two, one = views.Spectrogram(256)(fid), views.Spectrogram(256, joined=True)(fid)
    assert one.shape == (2, 1, 128, 64)
    assert torch.equal(one[:, 0, :, :32], two[:, 0]) and torch.equal(one[:, 0, :, 32:], two[:, 1])


def test_a_scalogram_is_the_wavelet_transform_of_both_parts():
    ptwt = pytest.importorskip("ptwt", reason="ptwt is not installed (pip install 'fsl-mrs-dl[timefreq]')")
    import pywt

    n = 512
    view = views.Scalogram(n, band=(-0.3, 0.2), n_rows=12, n_columns=128)
    fid = torch.exp((2j * torch.pi * 0.1 - 0.02) * torch.arange(n)).to(torch.complex64)[None] + torch.exp(
        (-2j * torch.pi * 0.15 - 0.02) * torch.arange(n)
    ).to(torch.complex64)
    seen = view(channels(fid))
    assert seen.shape == (1, 2, 12, 128)
    seen = torch.complex(seen[0, 0], seen[0, 1]).numpy()
    wavelet = pywt.ContinuousWavelet(view.wavelet)
    for row, cycles in enumerate(view.cycles):
        mirrored = fid.conj() if cycles < 0 else fid
        scale = [pywt.central_frequency(view.wavelet) / abs(cycles)]
        expected = sum(
            unit * ptwt.cwt(part.double(), scale, wavelet)[0][0, 0, ::4].numpy()
            for unit, part in ((1, mirrored.real), (1j, mirrored.imag))
        )
        expected = expected.conj() if cycles < 0 else expected
        # Sizes differ, by the gain that is brought to one; what is seen is the same.
        ratio = np.vdot(expected, seen[row]) / np.vdot(expected, expected)
        assert abs(ratio.imag) < 1e-3 * abs(ratio) and ratio.real > 0
        assert np.linalg.norm(seen[row] - ratio * expected) < 2e-3 * np.linalg.norm(seen[row])


@pytest.mark.parametrize("cycles", [-0.2, -0.05, 0.05, 0.2])
def test_lines_are_bright_in_their_rows(cycles):
    pytest.importorskip("ptwt", reason="ptwt is not installed (pip install 'fsl-mrs-dl[timefreq]')")
    view = views.Scalogram(512, band=(-0.4, 0.4))
    size = torch.linalg.vector_norm(view(line(cycles))[0], dim=0).sum(-1)
    assert view.cycles[int(size.argmax())] == pytest.approx(cycles, rel=0.15)


def test_scattering_is_kymatios_and_adds_no_weights_to_a_network():
    pytest.importorskip("kymatio", reason="kymatio is not installed (pip install 'fsl-mrs-dl[timefreq]')")
    view = views.Scattering(1024)
    assert view.shape == (2, 176, 8) and not view.state_dict()
    x = torch.randn(2, 2, 1024)
    torch.testing.assert_close(view(x)[1, 1], view.transform[0](x[1, 1][None])[0])
    seen = pickle.loads(pickle.dumps(view))(x)
    view.transform[0].backend = view.transform[0].backend.__mro__[1]  # kymatio's own, which takes twice as long
    assert torch.equal(view(x), seen)


@given(st.integers(64, 700), st.floats(-0.5, 0.3), st.floats(0.15, 0.6), st.sampled_from([2, 4]))
@settings(max_examples=25, deadline=None)
def test_shapes_are_what_views_say(n_points, low, width, in_channels):
    band = (low, min(0.5, low + width))
    made = [views.Spectrum(n_points, in_channels, band, **how) for how in ({}, {"joined": True}, {"real": True})]
    made += [views.Spectrogram(n_points, in_channels, band, joined=joined) for joined in (False, True)]
    if "ptwt" in sys.modules:
        made.append(views.Scalogram(n_points, in_channels, band, n_rows=9, n_columns=40))
    x = torch.randn(2, in_channels, n_points)
    for view in made:
        seen = view(x)
        assert seen.shape == (2, *view.shape) and torch.isfinite(seen).all()


def test_bands_without_points_and_channels_without_partner_are_refused():
    with pytest.raises(OptionError, match="at least 16"):
        views.Spectrum(64, band=(0.1, 0.15))
    with pytest.raises(OptionError, match="twos"):
        views.Spectrum(64, 5)


@pytest.mark.parametrize("name,library", [("scalogram", "ptwt"), ("wscn", "kymatio")])
def test_what_is_missing_is_named_with_the_command_that_installs_it(monkeypatch, name, library):
    for module in [
        module for module in sys.modules if module.split(".")[0] == library or module.endswith(f".{library}_torch")
    ]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(OptionError, match=rf"encoder {name}.*{library}.*pip install '.\[timefreq\]'") as caught:
        encoders.make(name, n_points=256, n_out=2)
    assert "\n" not in str(caught.value)
