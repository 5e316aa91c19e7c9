"""FSL-MRS's commands that read other commands' output read this package's too."""

import sys

import numpy as np
import pytest

from fsl_mrs_dl.cli.main import main
from fsl_mrs_dl.io import nifti

pytestmark = [pytest.mark.with_fsl_mrs, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    assert main(["example", "--output", str(folder / "example")]) == 0
    return folder / "example"


def test_summarise_shows_fits_of_averaged_and_of_single_data(results, tmp_path, monkeypatch):
    dash = pytest.importorskip("dash")
    from fsl_mrs.scripts import fsl_mrs_summarise

    averaged = nifti.load(results / "fit/data.nii.gz")
    assert averaged.fids.shape == (1, 1, 1, 2048, 1)
    np.testing.assert_allclose(
        averaged.fids, nifti.load(results / "aligned/svs.nii.gz").fids.mean(-1, keepdims=True), rtol=1e-5
    )
    assert averaged.header["ProcessingApplied"][-1]["Method"] == "Signal averaging"
    words = ["--data", results / "fit/data.nii.gz", "--basis", results / "fit/basis", "--output", results / "again"]
    assert main(["fit", *map(str, words)]) == 0
    served = []
    monkeypatch.setattr(dash.Dash, "run", lambda self, **options: served.append(str(self.layout)), raising=False)
    monkeypatch.setattr(dash.Dash, "run_server", dash.Dash.run, raising=False)
    monkeypatch.setattr(sys, "argv", ["fsl_mrs_summarise", "dir", str(results)])
    fsl_mrs_summarise.main()
    assert len(served) == 1 and "NAA" in served[0]


def test_merge_takes_alignment_reports(results, tmp_path, monkeypatch):
    pytest.importorskip("bs4")
    from fsl_mrs.scripts import merge_mrs_reports

    for name in ("a", "b"):
        assert (
            main(["align", "--file", str(results / "aligned/svs.nii.gz"), "--output", str(tmp_path / name), "-r"]) == 0
        )
    reports = sorted(str(path) for name in "ab" for path in (tmp_path / name).glob("*.html"))
    assert len(reports) == 2
    monkeypatch.setattr(sys, "argv", ["merge_mrs_reports", "-d", "two sessions", "-o", str(tmp_path), *reports])
    merge_mrs_reports.main()
    text = (tmp_path / "mergedReports.html").read_text(encoding="utf-8")
    assert "Combined report for two sessions" in text and text.count("<h2>Alignment</h2>") == 2
