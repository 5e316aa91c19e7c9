"""A study's folder as BIDS derivatives: its description, and results under the names of the data they were made from.

Source: BIDS 1.10, "Derived dataset and pipeline description".  That version has rules for raw spectroscopy only; names
of processed spectra follow its general rule for derivatives (``SOURCE-ENTITIES_desc-LABEL_SUFFIX``), and
``.bidsignore`` lists them.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from .. import __version__
from ..core.errors import OutputError
from ..io import nifti
from ..io.files import json_content
from ..io.output import whole_file, write_text
from ..results.layout import QUANTITIES
from .bids import BIDS_VERSION, BidsDataset, parse_name
from .entry import StudySession

__all__ = ["PIPELINE", "check_study_folder", "describe", "name_problem", "publish", "withdraw"]

PIPELINE = "fsl_mrs_dl"
"""Name in ``GeneratedBy``."""

_RAW = "raw"
_IGNORED = ("sessions", "failed", "group", "basis", "*.html", "*_desc-*")
_IMAGES = {
    "preproc": ("processed.nii.gz", "Spectrum that was fitted, after all steps of preprocessing."),
    "fit": ("fit.nii.gz", "Fitted spectrum."),
}
_COLUMNS = {
    "metabolite": "Metabolite, or a sum of several.",
    "conc": "Concentration in the units of the data.",
    "molarity": "Concentration in mM.",
    "molality": "Concentration in mmol per kg.",
    "ratio": "Concentration over the internal reference.",
}
_ENDINGS = {
    "_sd": "Standard deviation of {name}.",
    "_ci95_low": "Lower end of the 95 % interval of {name}.",
    "_ci95_high": "Upper end of the 95 % interval of {name}.",
}


def check_study_folder(folder: Path, dataset: BidsDataset | None) -> None:
    """Raise OutputError unless a folder is new, empty or one of a study before, and not the data set itself."""
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder}: is a file, not a folder", remedy="choose another folder")
    if dataset is not None and folder.resolve() == dataset.root.resolve():
        raise OutputError(f"{folder}: is the data set itself", remedy=f"choose {folder}/derivatives/{PIPELINE}")
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    try:
        by = json_content((folder / "dataset_description.json").read_bytes())["GeneratedBy"][0]["Name"]
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        by = None
    if by != PIPELINE:
        raise OutputError(f"{folder}: holds something else than a study of this program", remedy="choose a new folder")


def name_problem(folder: Path, dataset: BidsDataset | None) -> str | None:
    """Return what is wrong with the name of a study's folder within its data set, or None.

    The name of a folder under ``derivatives`` must contain that of the pipeline.
    """
    if dataset is None:
        return None
    inside = dataset.root.resolve() in folder.resolve().parents
    if inside and PIPELINE not in folder.resolve().name:
        return f"{folder}: BIDS needs '{PIPELINE}' in the name of this folder, such as derivatives/{PIPELINE}"
    return None


def describe(folder: Path, dataset: BidsDataset | None, name: str) -> None:
    """Write what every data set of derivatives has: dataset_description.json, README and .bidsignore.

    Parameters
    ----------
    folder : path
        Of the study; it exists.
    dataset : BidsDataset, optional
        That the study is made from.
    name : str
        Of the study, where the data set has none.
    """
    content: dict = {
        "Name": f"FSL-MRS-DL: {name}",
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": PIPELINE, "Version": __version__}],
    }
    if dataset is not None:
        content["Name"] = f"FSL-MRS-DL: {dataset.description.get('Name', name)}"
        source = {"URL": dataset.root.resolve().as_uri()}
        if isinstance(dataset.description.get("DatasetDOI"), str):
            source["DOI"] = dataset.description["DatasetDOI"]
        content["SourceDatasets"] = [source]
        content["DatasetLinks"] = {_RAW: Path(os.path.relpath(dataset.root.resolve(), folder.resolve())).as_posix()}
    write_text(folder / "dataset_description.json", json.dumps(content, indent=1) + "\n")
    write_text(folder / ".bidsignore", "".join(f"{pattern}\n" for pattern in _IGNORED))
    write_text(folder / "README", _README)


_README = f"""Results of 'fsl_mrs_dl study', version {__version__}.

sessions/NAME     everything that was found in one session; report.html shows it
failed/NAME.json  why a session could not be run
group             tables of all sessions (concentrations_wide.tsv, concentrations_tidy.tsv), means of groups and
                  differences between them, sessions with quality and why they are left out, and overview.html
sub-*/[ses-*/]mrs processed and fitted spectra and concentrations, under the names of the data (BIDS data sets only)
"""


def publish(folder: Path, session: StudySession, dataset: BidsDataset) -> list[Path]:
    """Write the results of a session of a BIDS data set under BIDS names; returns the files.

    Files that are up to date are left as they are; those whose source is missing are not written.

    Raises
    ------
    OutputError
    """
    name = parse_name(session.data.name)
    if session.bids is None or name is None:
        return []
    source, place = folder / "sessions" / session.name, folder / session.bids.parent
    place.mkdir(parents=True, exist_ok=True)
    about = {"Sources": [f"bids:{_RAW}:{session.bids.as_posix()}"]}
    written = []
    for label, (file, description) in _IMAGES.items():
        path = place / f"{name.stem}_desc-{label}_{name.suffix}.nii.gz"
        if not (source / file).is_file():
            continue
        sidecar = path.with_name(path.name[:-7] + ".json")
        # The sidecar is written last: a study that was killed in between has none.
        if not (sidecar.is_file() and path.is_file() and path.stat().st_mtime >= (source / file).stat().st_mtime):
            sidecar.unlink(missing_ok=True)
            with whole_file(path, suffix=".nii.gz") as temporary:
                shutil.copyfile(source / file, temporary)
            fields = {"Description": description, **about, **_metadata(path)}
            write_text(sidecar, json.dumps(fields, indent=1) + "\n")
        written.append(path)
    if (source / "uncertainty.csv").is_file():
        written.append(
            _publish_table(source / "uncertainty.csv", place, f"{name.stem}_desc-concentrations_{name.suffix}")
        )
        fields = {"Description": "Concentrations with their uncertainty.", **about}
        fields |= dict(_described(pd.read_csv(source / "uncertainty.csv", nrows=0)))
        write_text(written[-1].with_suffix(".json"), json.dumps(fields, indent=1) + "\n")
    return written


def _publish_table(source: Path, place: Path, stem: str) -> Path:
    """Write uncertainty.csv as a table of BIDS and return it."""
    path = place / f"{stem}.tsv"
    frame = pd.read_csv(source).rename(columns={"Metab": "metabolite"})
    write_text(path, frame.to_csv(sep="\t", index=False, na_rep="n/a"))
    return path


def _metadata(path: Path) -> dict:
    """Return the fields that BIDS requires of spectroscopy data, from a file's header."""
    data = nifti.load_header(path)
    fields: dict = {
        "ResonantNucleus": data.nucleus,
        "SpectrometerFrequency": data.spec_freq_mhz,
        "SpectralWidth": data.bandwidth,
    }
    return fields | {key: data.header[key] for key in ("EchoTime", "RepetitionTime") if key in data.header}


def _described(frame: pd.DataFrame) -> Iterator[tuple[str, dict]]:
    """Yield the descriptions of the columns of a table."""
    known = {quantity.column: quantity.label for quantity in QUANTITIES if quantity.column} | _COLUMNS
    for column in frame.rename(columns={"Metab": "metabolite"}).columns:
        ending = next((end for end in _ENDINGS if column.endswith(end)), None)
        text = known.get(column)
        if text is None and ending is not None:
            text = _ENDINGS[ending].format(name=column.removesuffix(ending) or "conc")
        yield column, {"Description": text or f"{column.replace('_', ' ')}, see the documentation of FSL-MRS-DL."}


def withdraw(folder: Path, session: StudySession) -> None:
    """Remove files under BIDS names of a session that has no results any more."""
    name = parse_name(session.data.name)
    if session.bids is None or name is None:
        return
    for path in (folder / session.bids.parent).glob(f"{name.stem}_desc-*_{name.suffix}.*"):
        path.unlink(missing_ok=True)
