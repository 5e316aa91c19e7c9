"""Topics of the troubleshooting page: each error of :mod:`.errors` has one, and its message names it.

``fsl_mrs_dl explain TOPIC`` prints the entry, and the documentation has all of them.  The text is
``data/troubleshooting.md``.
"""

from __future__ import annotations

import re
from importlib import resources

from .errors import BasisError, DataError, FslMrsDlError, OptionError, OutputError

__all__ = ["topic_of", "hint", "entries"]

_OPTIONS = {
    "metabolites": "combine keep ignore internal_ref wref_metabolite ind_scale",
    "water-reference": "h2o water quant tissue_frac tissue_frac_sd t1_values t2_values ref_protons h2o_scale",
    "echo-time": "TE TR TM echo_time_s repetition_time_s",
    "spectral-model": "spectral_model baseline baseline_order metab_groups mm soft_constraints negative lorentzian",
    "prior-and-estimate": "prior estimate x0 conjugate",
    "network": "network model method encoder stack teacher lam ensemble proposal start_from search active mean_of init "
    "refine tensorboard",
    "dynamic-configuration": "dyn_config time_variables inversion_model execute_config",
    "edit-conditions": "edit edit_mode edit_conditions edit_order edit_dim edit_ppm edit_pulse edit_duration_ms "
    "edit_bandwidth_hz scheme",
    "alignment-options": "dim average reference moving_window absolute reject_outliers",
    "window": "ppmlim ppm exclude taper_ppm",
    "parallel": "parallel parallel_workers max_memory n_procs device resume",
    "study": "basis_of participant_label session_label quantity group_column",
    "mask": "mask",
    "recipe": "recipe",
    "basis-protocol": "basis",
    "output-exists": "output",
}
_BY_OPTION = {option: topic for topic, options in _OPTIONS.items() for option in options.split()}

# The first whose pattern is found in the problem; the last entry of a class is for all others.
_BY_PROBLEM: dict[type[FslMrsDlError], tuple[tuple[str, str], ...]] = {
    OutputError: (
        ("output-unfinished", "unfinished run"),
        (
            "output-exists",
            "exists already|is not empty|and would be replaced|is the input file|is the data set|work in",
        ),
        ("output-other-files", "holds|is a file, not a folder"),
        ("output-not-writable", ""),
    ),
    BasisError: (
        ("edit-conditions", "edit condition|edited data|conditions|the two are equal"),
        ("basis-protocol", "^is for|^simulated at|^covers"),
        ("metabolites", "no metabolite|stands more than once|no macromolecules|can be simulated|has no variant"),
        ("basis-unreadable", ""),
    ),
    DataError: (
        ("file-missing", "no such file|^there is no .* beside it|bundled example is missing"),
        ("water-mixed-up", "water is not suppressed|not unsuppressed water|its water is .* times"),
        (
            "conversion",
            "spec2nii|of no format|DICOM|several data sets|control files|SEQACQ|two columns|LCModel's format",
        ),
        ("network", "card|checkpoint|network|weights|record of a training"),
        ("transients", "transient|one spectrum|nothing to be aligned|averaged together"),
        ("no-signal", "zero|NaN|no signal|no coil holds|can be fitted"),
        ("water-reference", "water|combined coils| coils "),
        ("segmentation", "position|fast_pve|3D image|an image|cover the voxel"),
        (
            "study",
            "no such folder|is no table|no column"
            "|two sessions|no session|spectroscopy|folder nor a table|has no lines|object of JSON",
        ),
        (
            "file-unreadable",
            "cannot be read|file is empty"
            "|cut short|damaged|NIfTI-MRS file|is no JSON|compressed file|numbers|dwell time",
        ),
        ("data-unsuitable", ""),
    ),
}


def topic_of(error: FslMrsDlError) -> str:
    """Return the topic of an error, by its option, or by its class and problem.

    >>> topic_of(DataError("svs.nii.gz: no such file"))
    'file-missing'
    >>> topic_of(OptionError("is no estimate", option="estimate"))
    'prior-and-estimate'
    """
    if isinstance(error, OptionError):
        return _BY_OPTION.get(error.option or "", "option-value")
    patterns = next((_BY_PROBLEM[kind] for kind in type(error).__mro__ if kind in _BY_PROBLEM), (("option-value", ""),))
    # Names of files before the colon are left out, because they may hold any word.
    problem = error.problem.partition(": ")[2] or error.problem
    return next(topic for topic, pattern in patterns if re.search(pattern, problem))


def hint(error: FslMrsDlError) -> str:
    """Return the words at the end of a message that lead to its entry.

    >>> hint(OutputError("fit: exists already"))
    '(fsl_mrs_dl explain output-exists)'
    """
    return f"(fsl_mrs_dl explain {topic_of(error)})"


def entries() -> dict[str, str]:
    """Return the texts of all topics, in the order of the page."""
    page = resources.files("fsl_mrs_dl").joinpath("data", "troubleshooting.md").read_text(encoding="utf-8")
    parts = re.split(r"^## (\S+)\n", page, flags=re.MULTILINE)[1:]
    return {topic: text.strip() for topic, text in zip(parts[::2], parts[1::2])}
