"""Works that the methods paragraph cites, as BibTeX.

Citations in a text are those of pandoc, ``[@key; @other]``.  A work that is known by its DOI alone, such as the source
of a relaxation time, has the key of :func:`key_of_doi` and an entry without a title.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from functools import lru_cache
from importlib import resources

from ... import __version__

__all__ = ["PACKAGE_KEY", "bibtex", "cite", "cited", "key_of_doi", "label_of"]

PACKAGE_KEY = "fslmrsdl"
"""Key of this package."""

_DOI_KEY = "doi_"
_FIELDS = ("author", "title", "journal", "year", "volume", "pages", "doi")


@lru_cache
def works() -> dict[str, dict]:
    """Return the known works by their keys."""
    text = resources.files("fsl_mrs_dl").joinpath("data/references.json").read_text(encoding="utf-8")
    return json.loads(text)["works"]


def key_of_doi(doi: str) -> str:
    """Return the key of the work with a DOI.

    >>> key_of_doi("10.1002/nbm.4257"), key_of_doi("10.1148/r")
    ('near2021consensus', 'doi_10.1148/r')
    """
    known = {work["doi"].lower(): key for key, work in works().items()}
    # A key holds no separators of BibTeX or pandoc.
    return known.get(doi.lower()) or _DOI_KEY + re.sub(r"[^\w./:-]", "_", doi)


def cite(*keys: str) -> str:
    """Return a citation of works, as pandoc writes it; nothing for none.

    >>> cite("klose1990ecc", "near2021consensus")
    '[@klose1990ecc; @near2021consensus]'
    """
    return f"[{'; '.join(f'@{key}' for key in dict.fromkeys(keys))}]" if keys else ""


def cited(text: str) -> list[str]:
    """Return the keys that a text cites, in the order of their first citation."""
    groups = re.findall(r"\[(@[^\]]+)\]", text)
    return list(dict.fromkeys(part.strip().removeprefix("@") for group in groups for part in group.split(";")))


def label_of(key: str) -> tuple[str, str]:
    """Return name and year of a work for a text, and its address.

    >>> label_of("klose1990ecc")
    ('Klose 1990', 'https://doi.org/10.1002/mrm.1910140104')
    """
    if key not in works():
        doi = key.removeprefix(_DOI_KEY)
        return f"doi {doi}", f"https://doi.org/{doi}"
    work = works()[key]
    names = [name.split(",")[0] for name in work["author"].split(" and ")]
    several = " et al." if len(names) > 2 or names[-1] == "others" else ""
    first = names[0] + several if several or len(names) == 1 else f"{names[0]} and {names[1]}"
    return f"{first} {work['year']}", f"https://doi.org/{work['doi']}"


def bibtex(keys: Iterable[str], dois: Iterable[str] = ()) -> str:
    """Return BibTeX entries of works.

    Parameters
    ----------
    keys : iterable of str
        From :func:`cited`.
    dois : iterable of str
        DOIs as they are written, of keys that :func:`key_of_doi` had to change.
    """
    spelled = {key_of_doi(doi): doi for doi in dois}
    return "\n".join(_entry(key, spelled.get(key, key.removeprefix(_DOI_KEY))) for key in keys)


def _entry(key: str, doi: str) -> str:
    if key == PACKAGE_KEY:
        note = "Alignment and quantification of MR spectra: plugins for FSL-MRS and FSLeyes"
        # Braces keep the name of a group whole.
        fields = {"author": "{FSL-MRS-DL contributors}", "title": "FSL-MRS-DL", "version": __version__, "note": note}
        return _block("software", key, fields)
    if key in works():
        work = works()[key]
        return _block("article", key, {name: work[name] for name in _FIELDS if name in work})
    return _block("misc", key, {"doi": doi, "url": f"https://doi.org/{doi}"})


def _block(kind: str, key: str, fields: dict) -> str:
    # Titles keep their capitals.
    values = {name: f"{{{value}}}" if name == "title" else str(value) for name, value in fields.items()}
    return f"@{kind}{{{key},\n" + "".join(f"  {name} = {{{value}}},\n" for name, value in values.items()) + "}\n"
