"""One name for what is the same metabolite in the basis sets of a study, as PCh and PCho."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ..core.metabolites import same_metabolites

__all__ = ["common_names"]


def common_names(sessions: Sequence[Sequence[str]]) -> dict[str, str]:
    """Return the name that a metabolite or sum gets in a study, by each other name that it has there.

    It is the name that most sessions have, the first of those that equally many have.  Names that stand beside each
    other in a session are not the same there, and stay.

    Parameters
    ----------
    sessions : sequence of sequence of str
        Names of metabolites, and of sums as GPC+PCho, of every session.

    Examples
    --------
    >>> common_names([("PCh", "GPC+PCh"), ("PCho", "PCho+GPC"), ("PCho", "PCho+GPC")])
    {'PCh': 'PCho', 'GPC+PCh': 'PCho+GPC'}
    """
    counts = Counter(name for names in sessions for name in set(names))
    order = dict.fromkeys(name for names in sessions for name in names)
    same: dict[tuple[str, ...], list[str]] = {}
    for name in order:
        same.setdefault(same_metabolites(name), []).append(name)
    out: dict[str, str] = {}
    for group in same.values():
        if all(len(set(group) & set(names)) < 2 for names in sessions):
            best = max(group, key=lambda name: counts[name])
            out |= {name: best for name in group if name != best}
    return out
