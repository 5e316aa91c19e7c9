"""What a paper needs of a study: methods that its sessions have in common, and one minimum reporting table for all."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from .analysis import number
from .files import FILES, TABLE_HEAD, linked
from .references import bibtex, cite, cited

__all__ = ["StudyPublication", "common_sentences", "merged_table"]

_TABLE = "The minimum reporting table"
_OF_ONE = ("No spectrum was excluded", "The verdict on the fit is", _TABLE)
_SHARED = 0.9
_MOST_VALUES = 3  # of an item, that are listed
_QUALITY = (
    ("snr", "signal-to-noise ratio", ""),
    ("fwhm_hz", "line width", " Hz (FWHM)"),
    ("misfit", "residual over noise", ""),
)


@dataclass(frozen=True)
class StudyPublication:
    """Methods and reporting table of a study, from the folders of its sessions.

    Attributes
    ----------
    folders : sequence of path
        Of the sessions that are included, each with the files of :data:`.files.FILES`; a folder without is skipped.
    n_sessions : int
        All sessions, included or not.
    rules : sequence of str
        Rules of exclusion in words, such as 'SNR below 5'.
    left_out : mapping of str to sequence of str
        Sessions that are not included, and why.
    quality : sequence of mapping
        Figures of quality of the included sessions, as in run.json.
    """

    folders: Sequence[Path]
    n_sessions: int
    rules: Sequence[str] = ()
    left_out: Mapping[str, Sequence[str]] = field(default_factory=dict)
    quality: Sequence[Mapping] = ()

    @cached_property
    def methods(self) -> str:
        """Methods paragraphs with citations, of the sentences that hold for every session."""
        texts = [path.read_text(encoding="utf-8") for path in self._files(FILES[1])]
        paragraphs = common_sentences([_methods_of(text) for text in texts]) if texts else []
        return "\n\n".join([*paragraphs, self._sentences(paragraphs)]) + "\n"

    @cached_property
    def table(self) -> pd.DataFrame | None:
        """Minimum reporting table of all sessions; None where none has one."""
        frames = [pd.read_csv(path, dtype=str, keep_default_na=False) for path in self._files(FILES[0])]
        return merged_table(frames) if frames else None

    def write(self, folder: Path) -> None:
        """Write the files of :data:`.files.FILES` into a folder."""
        if self.table is not None:
            self.table.to_csv(folder / FILES[0], index=False)
        (folder / FILES[1]).write_text(f"# Methods\n\n{self.methods}", encoding="utf-8")
        stored = " ".join(path.read_text(encoding="utf-8") for path in self._files(FILES[2]))
        # Keys of works without an entry of their own may spell a DOI differently.
        dois = re.findall(r"\bdoi = \{(.*?)\},?\n", stored)
        (folder / FILES[2]).write_text(bibtex(cited(self.methods), dois), encoding="utf-8")

    def html(self) -> str:
        """Return the methods paragraphs in HTML, with links to the works."""
        return "".join(f"<p>{linked(part)}</p>" for part in self.methods.strip().split("\n\n"))

    def _files(self, name: str) -> list[Path]:
        return [Path(folder) / name for folder in self.folders if (Path(folder) / name).is_file()]

    def _sentences(self, paragraphs: Sequence[str]) -> str:
        """Return the sentences on sessions, exclusions and quality of the study, after those that sessions share."""
        n = self.n_sessions - len(self.left_out)
        out = [f"Of {self.n_sessions} sessions {n} were included."]
        if self.rules:
            out.append(f"Sessions were left out by these rules: {'; '.join(self.rules)}.")
        # Reasons with a figure in them are counted without it.
        kinds = Counter(
            re.sub(r" [\d.eE+-]+(?= (?:above|below) )", "", reasons[0]) for reasons in self.left_out.values() if reasons
        )
        if kinds:
            out.append(
                "Left out were " + ", ".join(f"{count} ({reason})" for reason, count in kinds.most_common()) + "."
            )
        figures = []
        for key, name, unit in _QUALITY:
            values = [float(one[key]) for one in self.quality if isinstance(one.get(key), (int, float))]
            if values:
                ends = f"{number(min(values))} to {number(max(values))}"
                figures.append(f"{name} {number(float(np.median(values)))}{unit} ({ends})")
        if figures:
            out.append(f"Medians of their quality, with the range, are {', '.join(figures)}.")
        verdicts = Counter(str(one["verdict"]) for one in self.quality if one.get("verdict"))
        if verdicts:
            out.append(
                "The verdicts on their fits are "
                + ", ".join(f"{verdict} ({count})" for verdict, count in verdicts.most_common())
                + "."
            )
        if len(self.folders) > 1:
            out.append(
                "Sentences that differ between sessions, such as those on their basis sets, are in their own folders."
            )
        out.append(f"The minimum reporting table {cite('lin2021mrsinmrs')} is given with the results.")
        return " ".join(out)


def _methods_of(page: str) -> str:
    """Return the methods paragraphs of a session's page, without headings and table."""
    return page.partition(TABLE_HEAD)[0].removeprefix("# Methods").strip()


def common_sentences(texts: Sequence[str]) -> list[str]:
    """Return paragraphs of the sentences that texts share.

    Sentences that nine of ten have are paragraphs of their own that say in how many; those that more lack, such as
    those with a figure of one session, are left out.  So are those of single fits on exclusions and on the reporting
    table, which a study has of its own.

    Parameters
    ----------
    texts : sequence of str
        Paragraphs with an empty line between.
    """
    split = [[re.split(r"(?<=\.) (?=[A-Z])", part) for part in text.split("\n\n")] for text in texts]
    counts = Counter(one for parts in split for one in {sentence for part in parts for sentence in part})
    written: set[str] = set()
    out = []
    # Paragraphs are those of the text with the most of them, and other texts add what it lacks.
    for position in range(max(len(parts) for parts in split)):
        sentences: dict[int, list[str]] = {len(texts): []}
        for parts in split:
            for sentence in parts[position] if position < len(parts) else ():
                count = counts[sentence]
                if sentence in written or count < _SHARED * len(texts) or sentence.startswith(_OF_ONE):
                    continue
                written.add(sentence)
                sentences.setdefault(count, []).append(sentence)
        out.append(" ".join(sentences.pop(len(texts))))
        out += [f"In {n} of {len(texts)} sessions: {' '.join(several)}" for n, several in sentences.items()]
    return [part for part in out if part]


def merged_table(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return one minimum reporting table of several: the value that all share, or the different ones.

    An item is missing where it is in all tables.
    """
    every = pd.concat(frames)
    rows = []
    for keys, group in every.groupby(["section", "number", "item"], sort=False):
        values = Counter(group["value"]).most_common()
        text = values[0][0]
        if len(values) > _MOST_VALUES:
            text = f"differs between sessions ({len(values)} values, such as: {text})"
        elif len(values) > 1:
            text = "; ".join(f"{value} ({count} sessions)" for value, count in values)
        status = "missing" if (group["status"] == "missing").all() else "filled"
        rows.append(dict(zip(("section", "number", "item"), keys)) | {"value": text, "status": status})
    return pd.DataFrame(rows)
