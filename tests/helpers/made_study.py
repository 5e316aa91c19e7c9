"""A stand-in for the run of one session, and made results of many."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from fsl_mrs_dl.core.errors import DataError
from fsl_mrs_dl.workflow.entry import StudySession


def run_stand_in(session, options, folder):
    """Write results that depend on the content of the data; 'bad' and 'fault' end as they say."""
    content = session.data.read_text(encoding="utf-8")
    if content == "bad":
        raise DataError(f"{session.name}: is bad")
    if content == "fault":
        raise ZeroDivisionError("a fault")
    (folder / "summary.csv").write_text(f"{content}, {options}\n", encoding="utf-8")


QUALITY = {"snr": 40.0, "fwhm_hz": 5.0, "fwhm_ppm": 0.04, "misfit": 1.1, "ood_score": 0.5, "unexplained": 0.01}
QUALITY |= {"transients": 64, "rejected": 1, "converged": True, "usable": True, "verdict": "good"}


def made_run(**changes):
    """The content of run.json."""
    about = {"version": "0", "units": "molarity", "warnings": [], "field_t": 2.89, "te_ms": 30.0, "vendor": "Siemens"}
    return {**about, **changes, "quality": {**QUALITY, **changes.get("quality", {})}}


def write_made_results(study_folder, name, values, *, absolute=True, prior_share=None, **changes):
    """Write the folder of one session as a run does: molarities with an SD of 0.3 mM, and ratios to the last."""
    folder = study_folder / "sessions" / name
    folder.mkdir(parents=True)
    (folder / "study.json").write_text("{}", encoding="utf-8")
    write_values(folder, values, absolute=absolute, prior_share=prior_share, **changes)


def write_values(folder, values, *, absolute=True, prior_share=None, **changes):
    """Write what a run writes into a session's folder, with the share of the prior by metabolite where it is given."""
    (folder / "run.json").write_text(json.dumps(made_run(**changes)), encoding="utf-8")
    last = list(values.values())[-1]
    lines = ["Metab,conc,in_vivo_sd,ci95_low,ci95_high,ratio,ratio_sd,ratio_ci95_low,ratio_ci95_high"]
    lines[0] += ",molarity,molarity_sd,molarity_ci95_low,molarity_ci95_high" * absolute
    lines[0] += ",prior_share" * (prior_share is not None)
    for metabolite, value in values.items():
        cells = [metabolite]
        for scale in (0.1, 1 / last, *[1] * absolute):
            sd = 0.0 if abs(scale * last - 1) < 1e-9 and metabolite == list(values)[-1] else 0.3
            cells += [f"{scale * one:.6f}" for one in (value, sd, value - 2 * sd, value + 2 * sd)]
        if prior_share is not None:
            cells.append(f"{prior_share.get(metabolite, '')}")
        lines.append(",".join(cells))
    (folder / "summary.csv").touch()
    (folder / "uncertainty.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def made_groups(study_folder, n=6, shift=2.0, seed=0, prior_share=None):
    """Write sessions of two groups that differ in glutamate, and return them; ``prior_share`` is by metabolite."""
    random, sessions = np.random.default_rng(seed), []
    for number in range(2 * n):
        group, name = ("patient" if number % 2 else "control"), f"sub-{number:02}_svs"
        values = {"NAA": 12.0, "Glu": 9.0 + shift * (number % 2), "Cr": 8.0}
        values = {key: value + 0.5 * random.standard_normal() for key, value in values.items()}
        write_made_results(study_folder, name, values, prior_share=prior_share)
        sessions.append(StudySession(name, Path(), participant=f"{number:02}", series="svs", group=group))
    return sessions
