"""Inside FSL-MRS, which ignores some keys of the header, data are refused that it would read wrongly."""

import json
from types import SimpleNamespace

import nibabel
import numpy as np
import pytest

from fsl_mrs_dl.core.errors import DataError
from fsl_mrs_dl.fslmrs.plugin import DlQuant
from fsl_mrs_dl.io import nifti

IN_VIVO = {"dl_spectral_model": "in-vivo"}


def check(tmp_path, header, **arguments):
    fids = np.ones((1, 1, 1, 64), np.complex64)
    common = {"SpectrometerFrequency": [123.2], "ResonantNucleus": ["1H"]}
    path = tmp_path / "x.nii.gz"
    nifti.save(path, nifti.MrsData(fids, 5e-4, 123.2, "1H", header=common))
    image = nibabel.load(path)
    image.header.extensions[:] = [nibabel.nifti1.Nifti1Extension(44, json.dumps({**common, **header}).encode())]
    nibabel.save(image, path)
    DlQuant.warn(SimpleNamespace(data=str(path), h2o=None, **arguments))


@pytest.mark.parametrize(
    "header, arguments, words",
    [
        ({"SpecFreqChemShift": 3.0}, {}, "is at 3 ppm .*takes for 4.65 ppm.*fsl_mrs_dl fit"),
        ({"RxOffset": -1.65}, IN_VIVO, "is at 3 ppm"),
        ({"AcquisitionStartTime": -2e-3}, {}, "begin 2 ms before the echo"),
        ({"AcquisitionStartTime": 4e-3}, {}, "begin 4 ms after the echo"),
        ({"AcquisitionStartTime": 2e-4}, IN_VIVO, "begin 0.2 ms after the echo"),
    ],
)
def test_headers_that_fsl_mrs_would_read_wrongly_are_refused(tmp_path, header, arguments, words):
    with pytest.raises(DataError, match=words):
        check(tmp_path, header, **arguments)


@pytest.mark.parametrize(
    "header, arguments",
    [
        ({}, IN_VIVO),
        ({"SpecFreqChemShift": 4.7}, {}),
        ({"SpecFreqChemShift": 4.65}, {}),
        ({"AcquisitionStartTime": 2e-4}, {}),
    ],
)
def test_headers_that_it_reads_rightly_are_not(tmp_path, capsys, header, arguments):
    check(tmp_path, header, **arguments)
    assert capsys.readouterr().err == ""
