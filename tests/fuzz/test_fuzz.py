"""Inputs with something wrong in them are read or refused in one line; a short campaign, and what long ones found."""

from __future__ import annotations

import gzip
import json
import random
import shutil
import struct

import nibabel
import numpy as np
import pytest
import torch
from fuzz.campaign import campaign
from fuzz.targets import targets

from fsl_mrs_dl.cli.main import main
from fsl_mrs_dl.core.errors import BasisError, DataError, OptionError
from fsl_mrs_dl.fitting import priors
from fsl_mrs_dl.io import files, nifti
from fsl_mrs_dl.io.basis import Basis
from fsl_mrs_dl.io.volume import load_mask, open_volume
from fsl_mrs_dl.networks import model_cards
from fsl_mrs_dl.simulation.recipes import Recipe, sample

HEADER = {"SpectrometerFrequency": [123.2], "ResonantNucleus": ["1H"]}


def test_a_short_campaign_meets_no_fault():
    outcome = campaign(
        350, 20260, only=("data", "lcmodel", "raw", "json-basis", "mask", "recipe", "prior", "card", "config")
    )
    assert not outcome.faults, "\n".join(f"{kind}: input {one[1]}\n{one[2]}" for kind, one in outcome.faults.items())
    assert outcome.n == 350 and outcome.read.total() > 50 and outcome.refused.total() > 50


@pytest.fixture(scope="module")
def good_targets(tmp_path_factory):
    return {target.name: target for target in targets(tmp_path_factory.mktemp("good"))}


@pytest.fixture
def fids(rng):
    return (rng.normal(size=(2, 2, 1, 32)) + 1j * rng.normal(size=(2, 2, 1, 32))).astype(np.complex64)


@pytest.fixture
def written(fids, tmp_path):
    return nifti.save(tmp_path / "x.nii", nifti.MrsData(fids, 5e-4, 123.2, "1H", header=HEADER))


def with_header(path, **header):
    """Give a file another header extension, as it stands."""
    image = nibabel.load(path)
    image = nibabel.Nifti2Image(np.asarray(image.dataobj), image.affine, image.header)
    content = json.dumps({**HEADER, **header}).encode()
    image.header.extensions[:] = [nibabel.nifti1.Nifti1Extension(44, content)]
    nibabel.save(image, path)
    return path


def test_a_message_is_one_line_whatever_a_file_holds():
    text = OptionError("there is no\nsuch\r\n  thing", option="model", value="a\nb", remedy="look").text()
    assert text == "model a b: there is no such thing; look."


def test_json_that_is_nested_too_deeply_is_a_value_error():
    assert files.json_content(b"\xef\xbb\xbf[1]") == [1]
    for depth in (101, 100_000):
        with pytest.raises(ValueError, match="nested too deeply"):
            files.json_content("[" * depth + "]" * depth)


@pytest.mark.parametrize(
    "header", [{"SpectrometerFrequency": 10**400}, {"ResonantNucleus": []}, {"SpectrometerFrequency": []}]
)
def test_a_header_without_a_frequency_or_nucleus_is_refused(written, header):
    with pytest.raises(DataError, match="not a NIfTI-MRS file that can be used"):
        nifti.load(with_header(written, **header))


def test_a_header_of_a_dimension_that_is_not_there_is_left_out(written, tmp_path):
    data = nifti.load(with_header(written, dim_6_header={"EchoTime": [0.1]}, EchoTime=10**400))
    assert "EchoTime" not in data.header and "dim_6_header" not in data.header and len(data.notes) == 2
    nifti.save(tmp_path / "again.nii", data)


def test_a_list_without_elements_is_left_out(written):
    data = nifti.load(with_header(written, kSpace=[], VOI=[], PatientName=[]))
    assert not {"kSpace", "VOI"} & set(data.header)


@pytest.mark.parametrize("bad", [np.nan, 1e-40])
def test_a_position_that_is_none_is_left_out_with_a_note(written, fids, tmp_path, bad):
    content = bytearray(written.read_bytes())
    content[348:352], content[400:432] = struct.pack("<i", 2), struct.pack("<4d", bad, 0, 0, 0)  # sform_code, srow_x
    written.write_bytes(content)
    data = nifti.load(written)
    assert data.affine is None and "its position is none" in data.notes[0]
    np.testing.assert_array_equal(nifti.load(nifti.save(tmp_path / "again.nii", data)).fids, fids)


def test_images_that_are_damaged_or_hold_less_than_they_say_are_refused(written, fids, tmp_path):
    volume = open_volume(written, tmp_path)
    good = bytearray(gzip.compress(written.read_bytes()))
    good[30:60] = bytes(30)
    endless, none = bytearray(written.read_bytes()), bytearray(written.read_bytes())
    endless[24:56], none[24:32] = struct.pack("<4q", 30_000, 30_000, 1, 30_000), bytes(8)  # dim
    for name, bad in (("a.nii.gz", good), ("b.nii", endless), ("c.nii.gz", gzip.compress(endless)), ("d.nii", none)):
        path = tmp_path / name
        path.write_bytes(bad)
        for read in (nifti.load, nifti.load_header):
            if read is nifti.load or name != "a.nii.gz":
                with pytest.raises(DataError, match="cannot be read as NIfTI-MRS|cut short"):
                    read(path)
        with pytest.raises(DataError):
            open_volume(path, tmp_path, name)
        with pytest.raises(OptionError, match="cannot be read as an image"):
            load_mask(path, volume)


@pytest.mark.parametrize("entry", [{"basis_nucleus": ["1H"]}, {"basis_dwell": 10**400}, {"basis_re": "x"}])
def test_a_basis_file_with_a_wrong_type_is_refused(tmp_path, entry):
    Basis(np.ones((2, 32), complex), ("Cr", "NAA"), 5e-4, 123.2).save(tmp_path)
    content = json.loads((tmp_path / "Cr.json").read_text())
    (tmp_path / "Cr.json").write_text(json.dumps({"basis": {**content["basis"], **entry}}))
    with pytest.raises(BasisError, match="not an FSL-MRS basis file"):
        Basis.load(tmp_path)
    (tmp_path / "Cr.json").write_text(json.dumps({"basis": []}))
    with pytest.raises(BasisError, match="not an FSL-MRS basis file"):
        Basis.load(tmp_path)


@pytest.mark.parametrize(
    "entry",
    [
        {"snr": "high"},
        {"snr": None},
        {"snr": 10**400},
        {"water": {"ppm": 4.6}},
        {"water": [3]},
        {"water": {"height": 1, "ppm": 4.6, "n": 10**12}},
        {"water": {"height": 1, "ppm": 4.6, "probability": "often"}},
        {"macromolecules": {"spread": 0.2}},
        {"macromolecules": [1]},
        {"each": {"shift_hz": []}},
        {"each": 3},
        {"echoes": {"height": 1}},
        {"concentrations": []},
        {"concentrations": {"prior": "table"}},
        {"concentrations": {"prior": ["table"]}},
        {"concentrations": {"factors": {"NAA": "x"}}},
        {"concentrations": {"factors": 1}},
        {"concentrations": {"absent": None}},
        {"shift_ppm": {"lognormal": [1, 1e6]}},
        {"protocols": {"spec_freq_mhz": 123, "te_ms": 30, "sequences": 3}},
    ],
)
def test_a_recipe_with_a_wrong_type_is_refused(tmp_path, entry):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"concentrations": {}, "snr": 10, **entry}))
    with pytest.raises(OptionError, match=next(iter(entry))) as error:
        Recipe.load(path)
    assert "\n" not in str(error.value)
    path.write_text("[1, 2]")
    with pytest.raises(OptionError, match="an object"):
        Recipe.load(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(OptionError, match="is not JSON"):
        Recipe.load(path)


def test_whole_numbers_of_a_recipe_may_be_large():
    generator = torch.Generator().manual_seed(0)
    for kind in ("uniform", "loguniform", "normal"):
        assert (sample({kind: [10**20, 10**25]}, (3,), generator) != 0).all()


def test_a_basis_set_with_a_tiny_dwell_time_is_resampled():
    fids = np.exp(-np.arange(4096) / 1000).astype(complex)[None]
    assert np.isfinite(Basis(fids, ("NAA",), 1e-9, 123.2).resampled(5e-4, 1)).all()


@pytest.mark.parametrize("spec", [[1, 2], "x", {}, {"normal": [1]}, 10**400, {"lognormal": [1, 1e3]}])
def test_a_prior_with_a_wrong_type_is_refused(tmp_path, spec):
    path = tmp_path / "prior.json"
    path.write_text(json.dumps({"NAA": spec, "Cr": 8}))
    with pytest.raises(OptionError, match="NAA"):
        priors.load(path, ("Cr", "NAA"))


def test_a_prior_from_a_recipe_with_wide_lines(tmp_path):
    """The exponential of a limit in Hz was taken, whatever the kind of the range."""
    path = tmp_path / "wide.json"
    path.write_text(json.dumps({"concentrations": {}, "snr": 10, "lorentz_fwhm_hz": {"uniform": [0, 800]}}))
    assert priors.load(path, ("Cr", "NAA", "Ins")).fwhm_hz == (0, 800)
    path.write_text(json.dumps({"concentrations": {"spread": 1e20}, "snr": 10}))
    with pytest.raises(OptionError, match="without a limit"):
        priors.load(path, ("Cr", "NAA", "Ins"))


@pytest.mark.parametrize(
    "change",
    [
        {"ranges": {"snr": 3}},
        {"ranges": {"snr": [1, "x"]}},
        {"ranges": {"snr": []}},
        {"training": {}},
        {"architecture": {"kind": "align-universal", "settings": {"x": 1}, "parameters": 1}},
        {"architecture": {"kind": "align-universal", "settings": {}}},
    ],
)
def test_a_card_with_a_wrong_type_is_refused(tmp_path, change, capsys):
    folder = tmp_path / "net"
    shutil.copytree(model_cards.find("align-universal"), folder)
    card = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps({**card, **change}))
    assert main(["models", "show", str(folder)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_configuration_that_is_no_text_is_refused(tmp_path, capsys):
    path = tmp_path / "options"
    path.write_bytes(b"baseline = \x96\n")
    with pytest.raises(SystemExit) as error:
        main(["fit", "--data", "x", "--basis", "x", "--output", str(tmp_path / "out"), "--config", str(path)])
    assert error.value.code == 2
    message = capsys.readouterr().err
    assert "is no text" in message and message.count("\n") == 1
    path.write_bytes(b"\xef\xbb\xbfdata = x\nbasis = y\n")  # with a byte-order mark
    assert main(["fit", "--output", str(tmp_path / "out"), "--config", str(path)]) == 2
    assert "x: no such file" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name",
    ["data", "lcmodel", "raw", "json-basis", "mask", "recipe", "prior", "card", "config", "align", "fit", "mrsi"],
)
def test_an_input_that_is_not_mutated_is_read(good_targets, tmp_path, name):
    path = good_targets[name].write(random.Random(0), tmp_path, False)
    good_targets[name].read(path)
