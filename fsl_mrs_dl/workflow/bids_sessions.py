"""The sessions of a BIDS data set: spectroscopy with its water reference, structural image and segmentations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from ..core.errors import DataError, OptionError
from .bids import DATA_SUFFIXES, REFERENCE_SUFFIX, REQUIRED_METADATA, BidsDataset, BidsName, parse_name
from .entry import StudySession
from .table import check_group_column, read_cells

__all__ = ["find_sessions", "read_groups"]

_NOTHING = ("", "n/a", "nan")
_TISSUES = ("GM", "WM", "CSF")
_OWN_SPACES = (None, "T1w", "orig", "individual", "native")
_PLACE = ("voi", "nuc", "echo", "inv")  # a reference of another value belongs to another acquisition
_WATER_LABELS = ("conc", "concentration", "water", "h2o", "ref")


def find_sessions(
    dataset: BidsDataset,
    *,
    participants: Sequence[str] = (),
    visits: Sequence[str] = (),
    derivatives: Sequence[Path] = (),
    groups: dict[str, str] | None = None,
    validate: bool = True,
) -> list[StudySession]:
    """Return the sessions of a data set.

    Parameters
    ----------
    dataset : BidsDataset
    participants, visits : sequence of str
        Labels to choose, with or without ``sub-`` and ``ses-``; all by default.
    derivatives : sequence of path
        Folders of further pipelines, besides those under ``derivatives/``.
    groups : dict, optional
        Groups by the participants' labels, see :func:`read_groups`.
    validate : bool
        Note what BIDS requires and a session lacks.

    Raises
    ------
    OptionError
        If a participant or visit does not exist.
    DataError
        If there is no spectroscopy, or two files have one name.
    """
    chosen = _chosen(participants, "sub-", dataset.participants(), "participant_label")
    wanted = {label.removeprefix("ses-") for label in visits}
    pipelines = _pipelines(dataset.root, derivatives)
    sessions, all_visits = [], set()
    for participant in chosen:
        files = list(dataset.files(participant, "mrs"))
        for path, name in files:
            if name.suffix not in DATA_SUFFIXES:
                continue
            all_visits.add(name.entities.get("ses", ""))
            if not wanted or name.entities.get("ses", "") in wanted:
                finder = _Finder(dataset, participant, path, name, files, pipelines, validate)
                sessions.append(finder.session((groups or {}).get(participant, "")))
    missing = sorted(wanted - all_visits)
    if missing:
        raise OptionError("no chosen participant has it", option="session_label", value=missing[0])
    if not sessions:
        raise DataError(f"{dataset.root}: has no spectroscopy (sub-*/[ses-*/]mrs/*_svs.nii.gz and the like)")
    _check_names(sessions)
    return sessions


def _check_names(sessions: list[StudySession]) -> None:
    """Raise DataError if two files have one name, and so would have one folder of results."""
    files: dict[str, Path] = {}
    for session in sessions:
        other = files.setdefault(session.name, session.data)
        if other is not session.data:
            raise DataError(
                f"{session.data}: has the name of {other}",
                remedy="give each its own entities (sub, ses, run), as its folder has them",
            )


def _chosen(labels: Sequence[str], prefix: str, known: list[str], option: str) -> list[str]:
    """Return the labels that were chosen, or all."""
    chosen = [label.removeprefix(prefix) for label in labels]
    for label in chosen:
        if label not in known:
            raise OptionError("is not in the data set", option=option, value=label)
    return [label for label in known if not chosen or label in chosen]


def read_groups(root: Path, column: str) -> dict[str, str]:
    """Return the groups of participants from a column of participants.tsv, by their labels.

    An empty dictionary if there is no such file; cells 'n/a' are left out.

    Raises
    ------
    DataError
        If the file cannot be read, or a participant is in two groups.
    OptionError
        If it has no such column.
    """
    path = root / "participants.tsv"
    heads, rows = read_cells(path, "\t") if path.is_file() else ([], [])
    check_group_column(path, heads, column)
    groups: dict[str, str] = {}
    for _, row in rows:
        label, group = row.get("participant_id", "").removeprefix("sub-"), row.get(column, "")
        if group.lower() in _NOTHING:
            continue
        if groups.setdefault(label, group) != group:
            raise DataError(
                f"{path}: sub-{label} is in two groups ({groups[label]}, {group})",
                remedy="give each participant one group there, or name another column (`group_column`); for groups that"
                " are visits, such as before and after, give a table with a session a line in place of the data set",
            )
    return groups


def _pipelines(root: Path, derivatives: Sequence[Path]) -> list[Path]:
    """Return the folders of pipelines: each given one, or those in it, and those under ``derivatives/``."""
    folders = []
    for place in [*map(Path, derivatives), root / "derivatives"]:
        if any(place.glob("sub-*")) or (place / "dataset_description.json").is_file():
            folders.append(place)
        elif place.is_dir():
            folders += sorted(path for path in place.iterdir() if path.is_dir())
    return folders


class _Finder:
    """What belongs to one spectroscopy file.

    Parameters
    ----------
    dataset : BidsDataset
    participant : str
    path, name : path and BidsName
        The file.
    files : list of (path, BidsName)
        All spectroscopy files of the participant.
    pipelines : list of path
    validate : bool
    """

    def __init__(self, dataset, participant, path, name: BidsName, files, pipelines, validate):
        self.dataset, self.participant, self.path, self.name = dataset, participant, path, name
        self.files, self.pipelines, self.validate = files, pipelines, validate
        self.visit = name.entities.get("ses", "")
        self.notes: list[str] = []

    def session(self, group: str) -> StudySession:
        """Return the session."""
        try:
            fields = self.dataset.metadata(self.path)
        except DataError as exc:
            fields = {}
            self.notes.append(f"the sidecar was not used: {exc}")
        if self.validate:
            self._check(fields)
        t1, water = self._t1(fields), self._water(fields)
        of_water = self._fields_of(water)
        series = {k: v for k, v in self.name.entities.items() if k not in ("sub", "ses", "run")}
        return StudySession(
            name=f"{self.name.stem}_{self.name.suffix}",
            data=self.path,
            water=water,
            t1=t1,
            segmentations=self._segmentations(),
            participant=self.participant,
            visit=self.visit,
            series="_".join([*(f"{key}-{label}" for key, label in series.items()), self.name.suffix]),
            group=group,
            echo_time_s=_number(fields.get("EchoTime"), least=0),
            repetition_time_s=_number(fields.get("RepetitionTime")),
            water_echo_time_s=_number(of_water.get("EchoTime"), least=0),
            water_repetition_time_s=_number(of_water.get("RepetitionTime")),
            notes=tuple(self.notes),
            bids=self.path.relative_to(self.dataset.root),
        )

    def _check(self, fields: dict) -> None:
        """Note what BIDS forbids in the name and requires in the sidecar."""
        self.notes += [f"name: {problem}" for problem in self.name.problems()]
        for key, folder in (("sub", f"sub-{self.participant}"), ("ses", f"ses-{self.visit}")):
            label = self.name.entities.get(key)
            if (label is None and key == "sub") or (label and f"{key}-{label}" not in self.path.parts):
                self.notes.append(f"name: does not agree with the folder {folder}")
        missing = [key for key in REQUIRED_METADATA if key not in fields]
        if missing:
            self.notes.append(f"sidecar: BIDS requires {', '.join(missing)}")

    def _water(self, fields: dict) -> Path | None:
        """Return the water reference: by ``ReferenceSignal``, or the only one in the folder that fits."""
        references = self.dataset.referenced(fields.get("ReferenceSignal"), self.participant, self.path)
        there = [path for _, path in references if path is not None]
        self.notes += [f"ReferenceSignal {text}: there is no such file" for text, path in references if path is None]
        if there:
            return self._preferred(there)
        if references:
            return None
        fitting = [
            path
            for path, name in self.files
            if name.suffix == REFERENCE_SUFFIX and path.parent == self.path.parent and self._same_place(name)
            if not self._of_another_acquisition(name)
        ]
        if not fitting:
            return None
        nearest = max(self._shared(path) for path in fitting)
        reference = self._preferred([path for path in fitting if self._shared(path) == nearest])
        if reference is not None:
            self.notes.append(f"no ReferenceSignal: {reference.name} was taken, by its name")
        return reference

    def _fields_of(self, water: Path | None) -> dict:
        """Return the metadata of a water reference of this data set; none of another's."""
        if water is None or self.dataset.root not in water.parents:
            return {}
        try:
            return self.dataset.metadata(water)
        except DataError as exc:
            self.notes.append(f"the sidecar of the water reference was not used: {exc}")
            return {}

    def _same_place(self, name: BidsName) -> bool:
        own = self.name.entities
        return all(name.entities.get(key, own.get(key)) == own.get(key) for key in _PLACE)

    def _of_another_acquisition(self, name: BidsName) -> bool:
        """Tell whether a reference has the ``acq`` of other data beside these, and not theirs."""
        label, own = name.entities.get("acq"), self.name.entities.get("acq")
        return label not in (None, own) and any(
            other.suffix in DATA_SUFFIXES and path.parent == self.path.parent and other.entities.get("acq") == label
            for path, other in self.files
        )

    def _shared(self, path: Path) -> int:
        """Return how many entities a file's name shares with that of the data."""
        name = parse_name(path.name)
        return len(name.entities.items() & self.name.entities.items()) if name else 0

    def _preferred(self, paths: list[Path]) -> Path | None:
        """Return the one file, or of several the one whose ``acq`` says that it is for concentrations."""
        if len(paths) == 1:
            return paths[0]
        for word in _WATER_LABELS:
            for path in paths:
                name = parse_name(path.name)
                if name is not None and word in name.entities.get("acq", "").lower():
                    self.notes.append(f"of several references {path.name} was taken, by its name")
                    return path
        self.notes.append(f"of several references none was taken: {', '.join(path.name for path in paths)}")
        return None

    def _t1(self, fields: dict) -> Path | None:
        """Return the structural image: by ``AnatomicalImage``, or the only T1w of the visit or the participant."""
        references = self.dataset.referenced(fields.get("AnatomicalImage"), self.participant, self.path)
        self.notes += [f"AnatomicalImage {text}: there is no such file" for text, path in references if path is None]
        there = [path for _, path in references if path is not None]
        if references:
            return there[0] if there else None
        images = [(p, n) for p, n in self.dataset.files(self.participant, "anat") if n.suffix == "T1w"]
        same = [path for path, name in images if name.entities.get("ses", "") == self.visit]
        paths = same or [path for path, _ in images]
        if len(paths) > 1:
            self.notes.append(f"no AnatomicalImage, and several T1w: {', '.join(path.name for path in paths)}")
        return paths[0] if len(paths) == 1 else None

    def _segmentations(self) -> tuple[Path, ...]:
        """Return images of tissue of the same visit, or of the participant: maps of grey and white matter and CSF,
        else labels, else FreeSurfer's."""
        for folder in self.pipelines:
            for visit in dict.fromkeys((self.visit, "")):
                paths = self._segmented(folder, visit)
                if paths:
                    return paths
        return ()

    def _segmented(self, pipeline: Path, visit: str) -> tuple[Path, ...]:
        label = f"sub-{self.participant}"
        anat = pipeline / label / (f"ses-{visit}" if visit else "") / "anat"
        named = [(path, parse_name(path.name)) for path in sorted(anat.glob("*seg.nii*"))]
        own = [(path, name) for path, name in named if name and name.entities.get("space") in _OWN_SPACES]
        maps = [
            [path for path, name in own if name.suffix == "probseg" and name.entities.get("label") == tissue]
            for tissue in _TISSUES
        ]
        if all(maps):
            return tuple(paths[0] for paths in maps)
        labels = [path for path, name in own if name.suffix == "dseg" and name.entities.get("desc") in (None, "aseg")]
        if labels:
            return (labels[0],)
        subject = f"{label}_ses-{visit}" if visit else label
        images = [pipeline / subject / "mri" / image for image in ("aseg.mgz", "aparc+aseg.mgz")]
        return next(((image,) for image in images if image.is_file()), ())


def _number(value, *, least: float | None = None) -> float | None:
    """Return a positive number of the metadata, or one that is not below ``least``; None for another."""
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not math.isfinite(value):
        return None
    return float(value) if value > 0 or (least is not None and value >= least) else None
