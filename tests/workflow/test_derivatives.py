"""A study's folder against the rules of BIDS for derivatives, written down here from the specification."""

from __future__ import annotations

import json
import re
from pathlib import Path
from urllib.parse import urlparse

import pandas as pd
import pytest

from fsl_mrs_dl.core.errors import OutputError
from fsl_mrs_dl.workflow.bids import ENTITIES, BidsDataset, parse_name
from fsl_mrs_dl.workflow.bids_sessions import find_sessions
from fsl_mrs_dl.workflow.derivatives import check_study_folder, describe, name_problem, publish, withdraw
from tests.helpers.made_bids import SIDECAR, make
from tests.helpers.made_study import write_made_results
from tests.workflow.test_overview import save_spectrum


@pytest.fixture
def dataset(tmp_path):
    files = {"svs.json": SIDECAR, "sub-01/ses-a/mrs/sub-01_ses-a_acq-press_run-1_svs.nii.gz": None}
    description = {"Name": "made", "BIDSVersion": "1.10.0", "DatasetDOI": "doi:10.1/x"}
    return BidsDataset(make(tmp_path / "set", files, description))


@pytest.fixture
def published(dataset):
    """The folder of a study, its one session, and the files written under BIDS names."""
    folder = dataset.root / "derivatives" / "fsl_mrs_dl"
    (session,) = find_sessions(dataset)
    write_made_results(folder, session.name, {"NAA": 12.0, "Cr": 8.0})
    save_spectrum(folder, session.name)
    describe(folder, dataset, "made")
    return folder, session, publish(folder, session, dataset)


def load(path):
    return json.loads(path.read_text(encoding="utf-8"))


def test_the_description_has_what_bids_requires(published, dataset):
    folder, _, _ = published
    content = load(folder / "dataset_description.json")
    assert content["Name"] and re.fullmatch(r"\d+\.\d+\.\d+", content["BIDSVersion"])
    assert content["DatasetType"] == "derivative"
    first = content["GeneratedBy"][0]
    # In derivatives/NAME[-VARIANT] the first name must be part of the folder's.
    assert first["Name"] in folder.name and first["Version"]
    assert name_problem(folder, dataset) is None and "BIDS needs" in name_problem(folder.with_name("x"), dataset)
    source = content["SourceDatasets"][0]
    assert set(source) <= {"URL", "DOI", "Version"} and source["DOI"] == "doi:10.1/x"
    assert Path(urlparse(source["URL"]).path) == dataset.root.resolve()
    assert (folder / content["DatasetLinks"]["raw"]).resolve() == dataset.root.resolve()
    assert len((folder / "README").read_text(encoding="utf-8")) > 150


def test_names_keep_the_sources_entities_in_order_and_have_a_description(published, dataset):
    folder, session, written = published
    kinds = {"preproc", "concentrations"}
    source = parse_name(session.data.name)
    for path in written:
        name = parse_name(path.name)
        assert path.parent == folder / session.bids.parent
        assert list(name.entities) == sorted(name.entities, key=ENTITIES.index)
        assert list(name.entities)[-1] == "desc" and name.suffix == source.suffix
        assert source.entities.items() == {k: v for k, v in name.entities.items() if k != "desc"}.items()
        kinds.remove(name.entities["desc"])
    assert not kinds, "no file is written whose source is missing (fit)"


def test_sidecars_name_their_sources_and_the_required_metadata(published, dataset):
    _, session, written = published
    for path in written:
        sidecar = load(path.with_name(re.sub(r"\.(nii\.gz|tsv)$", ".json", path.name)))
        # The data set is a link of the description, and the path in it exists.
        scheme, link, relative = sidecar["Sources"][0].split(":")
        assert (scheme, link) == ("bids", "raw") and (dataset.root / relative) == session.data
        assert sidecar["Description"]
        if path.name.endswith(".nii.gz"):
            assert {"ResonantNucleus", "SpectrometerFrequency", "SpectralWidth"} <= set(sidecar)
        else:
            columns = pd.read_csv(path, sep="\t").columns
            assert all(sidecar[column]["Description"] for column in columns) and "metabolite" in columns


def test_everything_else_is_named_in_bidsignore(published):
    folder, _, _ = published
    ignored = (folder / ".bidsignore").read_text(encoding="utf-8").split()
    top = {path.name for path in folder.iterdir()} - {"dataset_description.json", "README", ".bidsignore"}
    assert {name for name in top if not name.startswith("sub-")} <= set(ignored) and "*_desc-*" in ignored


def test_files_are_written_once_and_withdrawn(published, dataset):
    folder, session, written = published
    before = {path: path.stat().st_mtime_ns for path in written if path.suffix == ".gz"}
    publish(folder, session, dataset)
    assert before == {path: path.stat().st_mtime_ns for path in before}
    withdraw(folder, session)
    assert not list((folder / session.bids.parent).iterdir())


def test_folders_that_hold_something_else_are_refused(tmp_path, published, dataset):
    folder, _, _ = published
    check_study_folder(folder, dataset)
    check_study_folder(tmp_path / "new", dataset)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").touch()
    for wrong, words in (
        (dataset.root, "itself"),
        (tmp_path / "other", "something else"),
        (folder / "README", "a file"),
    ):
        with pytest.raises(OutputError, match=words):
            check_study_folder(wrong, dataset)


def test_a_study_of_a_table_has_a_description_too(tmp_path):
    describe(tmp_path, None, "table")
    content = load(tmp_path / "dataset_description.json")
    assert "SourceDatasets" not in content and content["Name"].endswith("table")
    check_study_folder(tmp_path, None)


def test_a_spectrum_without_its_sidecar_is_written_again(published, dataset):
    """A study may be killed between the two."""
    folder, session, written = published
    sidecar = next(path.with_name(path.name[:-7] + ".json") for path in written if path.suffix == ".gz")
    sidecar.unlink()
    publish(folder, session, dataset)
    assert load(sidecar)["Description"]
