"""A BIDS data set: names of files, metadata with their inheritance, and references from one file to another.

Source: Brain Imaging Data Structure 1.10 and 1.11, "Magnetic Resonance Spectroscopy", "The Inheritance Principle" and
"BIDS URI", https://bids-specification.readthedocs.io.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlparse

from ..core.errors import DataError
from ..io.files import json_content

__all__ = [
    "BIDS_VERSION",
    "DATA_SUFFIXES",
    "ENTITIES",
    "MRS_ENTITIES",
    "REFERENCE_SUFFIX",
    "REQUIRED_METADATA",
    "BidsDataset",
    "BidsName",
    "parse_name",
]

BIDS_VERSION = "1.10.0"
"""The first version that has spectroscopy."""

DATA_SUFFIXES = ("svs", "mrsi", "unloc")
"""Suffixes of spectroscopy data: single voxel, imaging, and without localisation."""

REFERENCE_SUFFIX = "mrsref"
"""Suffix of a reference for concentrations or preprocessing."""

ENTITIES = (
    "sub tpl ses cohort sample task tracksys acq nuc voi ce trc stain rec dir run mod echo flip inv mt part proc hemi"
    " space split recording chunk atlas seg scale res den label desc"
).split()
"""Entities in the order in which a file name has them."""

MRS_ENTITIES = tuple("sub ses task acq nuc voi rec run echo inv".split())
"""Entities of raw spectroscopy files, in their order."""

REQUIRED_METADATA = ("ResonantNucleus", "SpectrometerFrequency", "SpectralWidth", "EchoTime")
"""Fields that a sidecar of spectroscopy data must have."""

_NAME = re.compile(r"((?:[A-Za-z]+-[A-Za-z0-9+]+_)*)([A-Za-z0-9]+)(\.nii\.gz|\.nii|\.json|\.tsv|\.mgz)")
_IMAGES = (".nii.gz", ".nii")


@dataclass(frozen=True)
class BidsName:
    """The parts of a file's name.

    Attributes
    ----------
    entities : dict
        Labels by the short names of entities, in their order in the name.
    suffix, extension : str
    """

    entities: dict[str, str]
    suffix: str
    extension: str

    @property
    def stem(self) -> str:
        """The name without suffix and extension: ``sub-01_acq-press``."""
        return "_".join(f"{key}-{label}" for key, label in self.entities.items())

    def problems(self) -> list[str]:
        """Return what is wrong with the name of a raw spectroscopy file, a phrase each."""
        keys = list(self.entities)
        wrong = [f"'{key}' is no entity of spectroscopy" for key in keys if key not in MRS_ENTITIES]
        known = [key for key in keys if key in MRS_ENTITIES]
        if known != sorted(known, key=MRS_ENTITIES.index):
            wrong.append(f"its entities are not in the order {', '.join(sorted(known, key=MRS_ENTITIES.index))}")
        wrong += [
            f"'{key}-{self.entities[key]}' is no number"
            for key in ("run", "echo", "inv")
            if not self.entities.get(key, "0").isdigit()
        ]
        return wrong


def parse_name(name: str) -> BidsName | None:
    """Return the parts of a file's name, or None if it has no form of BIDS.

    >>> parse_name("sub-01_acq-press_svs.nii.gz").entities
    {'sub': '01', 'acq': 'press'}
    """
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    pairs = [part.split("-", 1) for part in match[1].split("_") if part]
    entities = dict(pairs)
    return BidsName(entities, match[2], match[3]) if len(entities) == len(pairs) else None


class BidsDataset:
    """A BIDS data set on disk.

    Parameters
    ----------
    root : path
        Its folder.
    validate : bool
        Refuse a data set whose description is missing or incomplete.

    Raises
    ------
    DataError
        If the folder does not exist, or its description is not as BIDS defines it.
    """

    def __init__(self, root: str | Path, validate: bool = True):
        self.root = Path(root)
        if not self.root.is_dir():
            raise DataError(
                f"{root}: {'is neither a folder nor a table' if self.root.exists() else 'no such folder or file'}",
                remedy="give the folder of a BIDS data set, or a table (.csv, .tsv) with a session a line",
            )
        self.description = self._described(validate)
        self._sidecars: dict[Path, list[tuple[BidsName, Path]]] = {}

    def _described(self, validate: bool) -> dict:
        """Return the content of dataset_description.json."""
        path = self.root / "dataset_description.json"
        problem, content = None, {}
        try:
            content = json_content(path.read_bytes())
            missing = [key for key in ("Name", "BIDSVersion") if not isinstance(content.get(key), str)]
            if missing:
                problem = f"{path}: has no {' and no '.join(missing)}"
        except OSError as exc:
            problem = f"{path}: cannot be read ({exc.strerror})"
        except (ValueError, AttributeError) as exc:
            problem, content = f"{path}: is no object of JSON ({exc})", {}
        if problem and validate:
            raise DataError(problem, remedy="mend the data set, or give `skip_bids_validation`")
        return content if isinstance(content, dict) else {}

    def participants(self) -> list[str]:
        """Return the labels of the participants that have a folder."""
        return sorted(path.name[4:] for path in self.root.glob("sub-*") if path.is_dir())

    def files(self, participant: str, kind: str) -> Iterator[tuple[Path, BidsName]]:
        """Yield the images of a participant in folders ``kind`` ('mrs', 'anat') with the parts of their names."""
        folder = self.root / f"sub-{participant}"
        for path in sorted([*folder.glob(f"{kind}/*"), *folder.glob(f"ses-*/{kind}/*")]):
            name = parse_name(path.name)
            if name is not None and name.extension in _IMAGES:
                yield path, name

    def metadata(self, path: Path) -> dict:
        """Return the metadata of a file: fields of every sidecar that applies, the nearest before the others.

        Raises
        ------
        DataError
            If a sidecar is no object of JSON.
        """
        name = parse_name(path.name)
        fields: dict = {}
        if name is None:
            return fields
        above = [self.root, *reversed([p for p in path.parents if self.root in p.parents])]
        for folder in above:
            for other, sidecar in self._in(folder):
                if other.suffix == name.suffix and other.entities.items() <= name.entities.items():
                    fields |= _object(sidecar)
        return fields

    def _in(self, folder: Path) -> list[tuple[BidsName, Path]]:
        """Return the sidecars in a folder, those with more entities last."""
        if folder not in self._sidecars:
            paths = [(parse_name(path.name), path) for path in sorted(folder.glob("*.json"))]
            named = [(name, path) for name, path in paths if name is not None]
            self._sidecars[folder] = sorted(named, key=lambda pair: len(pair[0].entities))
        return self._sidecars[folder]

    def referenced(self, value, participant: str, path: Path) -> list[tuple[str, Path | None]]:
        """Return the files that a metadata field refers to, each as (text, path); None where there is no such file.

        BIDS URIs are looked up in this data set and those of its ``DatasetLinks``.  Paths without a scheme, which
        older data sets have, are relative to the data set, to the participant's folder or to the file.
        """
        texts = [value] if isinstance(value, str) else value if isinstance(value, list) else []
        return [(text, self._resolved(text, participant, path)) for text in texts if isinstance(text, str) and text]

    def _resolved(self, text: str, participant: str, path: Path) -> Path | None:
        if text.startswith("bids:"):
            name, _, relative = text[5:].partition(":")
            root = self.root if not name else self._linked(name)
            candidates = [] if root is None else [root / relative]
        else:
            candidates = [self.root / text, self.root / f"sub-{participant}" / text, path.parent / text]
        return next((one for one in candidates if one.is_file()), None)

    def _linked(self, name: str) -> Path | None:
        """Return the folder of another data set, by its name in ``DatasetLinks``; None if it is not on this machine."""
        links = self.description.get("DatasetLinks")
        target = links.get(name) if isinstance(links, dict) else None
        if not isinstance(target, str):
            return None
        url = urlparse(target)
        if url.scheme == "file":
            return Path(unquote(url.path))
        return self.root / target if not url.scheme else None


def _object(path: Path) -> dict:
    """Return the object that a JSON file holds."""
    try:
        content = json_content(path.read_bytes())
    except OSError as exc:
        raise DataError(f"{path}: cannot be read ({exc.strerror})") from exc
    except ValueError as exc:
        raise DataError(f"{path}: is no JSON ({exc})") from exc
    if not isinstance(content, dict):
        raise DataError(f"{path}: is no object of JSON")
    return content
