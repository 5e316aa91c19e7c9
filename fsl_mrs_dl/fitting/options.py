"""The options of a fit, checked in one place for the command line, FSL-MRS and Python."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..core.errors import OptionError

__all__ = [
    "ESTIMATES",
    "FitOptions",
    "LONGEST_ECHO_TIME_S",
    "REPETITION_TIMES_S",
    "SPECTRAL_MODELS",
    "check_time",
    "finite_numbers",
]

SPECTRAL_MODELS = ("fsl-mrs", "in-vivo")
"""Spectral models: FSL-MRS's own, and the one with priors for in vivo 1H spectra of the brain."""

ESTIMATES = ("ml", "posterior_mean", "network")
"""The estimates of a concentration: ``ml`` is the maximum of the likelihood, unbiased away from the bound at zero, and
the default everywhere."""


LONGEST_ECHO_TIME_S, REPETITION_TIMES_S = 1.0, (0.01, 100.0)
"""Longest echo time, and shortest and longest repetition time, of a measurement: one beyond them has another unit."""


def check_time(name: str, seconds: float | None) -> None:
    """Raise OptionError for an echo or repetition time (s) that no measurement has; an echo time may be zero.

    Raises
    ------
    OptionError
    """
    low, high = (0.0, LONGEST_ECHO_TIME_S) if "echo" in name else REPETITION_TIMES_S
    if seconds is None:
        return
    (value,) = finite_numbers(name, [seconds])
    if low <= value <= high:
        return
    in_ms = low <= value / 1e3 and value > high and value / 1e3 <= high
    raise OptionError(
        f"is in s, {low:g} to {high:g}",
        option=name,
        value=f"{value:g}",
        remedy=f"give {value / 1e3:g} for {value:g} ms" if in_ms else None,
    )


def finite_numbers(name: str, values) -> tuple[float, ...]:
    """Return the values of an option as numbers.

    Raises
    ------
    OptionError
        If one is no finite number.
    """
    try:
        numbers = tuple(float(value) for value in values)
    except (TypeError, ValueError):
        numbers = (math.nan,)
    if not all(map(math.isfinite, numbers)):
        raise OptionError("is no number", option=name, value=" ".join(map(str, values)), remedy="give a finite one")
    return numbers


@dataclass(frozen=True)
class FitOptions:
    """Options of a fit, from a parser, from FSL-MRS's arguments or from keywords.

    Attributes
    ----------
    spectral_model : str
        One of :data:`SPECTRAL_MODELS`.  'in-vivo' has its own baseline, macromolecules, widths and shifts, and takes
        none of ``model``, ``baseline``, ``metab_groups``, ``ind_scale``, ``network``.
    mm : str, optional
        Macromolecules and lipids of the in-vivo model, one of
        :data:`fsl_mrs_dl.physics.in_vivo_components.MACROMOLECULE_PRESETS`; 'brain' by default.
    soft_constraints : bool
        Hold concentrations of the in-vivo model by ratios that literature gives, see
        :mod:`fsl_mrs_dl.fitting.in_vivo.ratios`.
    echo_time_s, repetition_time_s : float, optional
        That macromolecules of the in-vivo model are weighted for, in seconds; the usual ones of a brain scan by
        default.
    start_time_s : float, optional
        Time of the first point after the echo, in seconds; 0 by default.
    eddy_currents_corrected : bool
        Eddy currents of the data were corrected before, and a water reference does not correct them again.
    model : str
        One of :data:`fsl_mrs_dl.physics.signal_model.MODELS`.
    ppmlim : (float, float), optional
        Fitted window in ppm; the nucleus' usual one by default.
    baseline : str
        'off', 'poly, N' or 'spline, STIFFNESS'.
    metab_groups : tuple of int, optional
        Group of each metabolite (see :meth:`fsl_mrs_dl.io.basis.Basis.groups`); one group by default.
    ind_scale : tuple of str
        Basis spectra that are scaled independently of the others, as FSL-MRS's ``--ind_scale``.
    rescale : bool
        Bring data and basis to FSL-MRS's scale; the opposite of its ``--no_rescale``.
    internal_ref, combine : tuple of str
        Metabolites of the internal reference, and sums to report, each as 'GPC+PCh'.
    init : str, optional
        Initial values, one of :data:`fsl_mrs_dl.fitting.automatic_initialisation.INITIALISATIONS`; by default as the
        data allow, and 'classical' of the in-vivo model.
    network : str, optional
        Trained network that proposes them, by name or folder.
    prior : str, path or Prior, optional
        Expected concentrations, for the posterior: a recipe or file (see
        :func:`fsl_mrs_dl.fitting.priors.load`), 'volume' to learn it from the spectra that are fitted, 'none', or
        'auto': 'normal-brain' for basis sets of the brain.  It never changes the 'ml' estimate.  The in-vivo model has
        priors of its own; 'none' leaves that of the concentrations out.
    estimate : str
        Estimate that tables hold, one of :data:`ESTIMATES`; the spectral model's own by default: 'ml' of FSL-MRS's,
        'in-vivo' of the in-vivo one.
    device : str
        'auto', 'cpu' or 'cuda'.
    edit_mode : str
        How edited data are fitted whose basis set has their conditions: 'joint', or 'difference' or the name of another
        combination of sub-spectra, see :func:`fsl_mrs_dl.fitting.in_vivo.edited_result.combinations_of`.
    edit_conditions : tuple of str, optional
        Names of the conditions in the order of the data; recognised by default.
    max_iter : int
        Most trial points per spectrum; twice as many of the in-vivo model.
    """

    spectral_model: str = "fsl-mrs"
    mm: str | None = None
    soft_constraints: bool = False
    echo_time_s: float | None = None
    repetition_time_s: float | None = None
    start_time_s: float | None = None
    eddy_currents_corrected: bool = False
    model: str = "voigt"
    ppmlim: tuple[float, float] | None = None
    baseline: str = "poly, 2"
    metab_groups: tuple[int, ...] | None = None
    ind_scale: tuple[str, ...] = ()
    rescale: bool = True
    internal_ref: tuple[str, ...] = ("Cr", "PCr")
    combine: tuple[str, ...] = ()
    init: str | None = None
    network: str | None = None
    prior: object = "auto"
    estimate: str = ""
    device: str = "auto"
    edit_mode: str = "joint"
    edit_conditions: tuple[str, ...] | None = None
    max_iter: int = 60

    def __post_init__(self):
        for name in ("ppmlim", "metab_groups", "ind_scale", "internal_ref", "combine", "edit_conditions"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, (value,) if isinstance(value, str) else tuple(value))
        if not self.estimate:
            object.__setattr__(self, "estimate", self.own_estimate)

    @property
    def own_estimate(self) -> str:
        """Name of the spectral model's own estimate."""
        return "in-vivo" if self.spectral_model == "in-vivo" else "ml"

    @property
    def most_steps_in_vivo(self) -> int:
        """Most trial points of the in-vivo model: a residual far above the noise takes more than other fits do."""
        return 2 * self.max_iter

    def check(self) -> FitOptions:
        """Return itself; raise OptionError if a value is invalid."""
        from ..core.device import choose_device
        from ..core.units import check_limits

        for name in ("echo_time_s", "repetition_time_s"):
            check_time(name, getattr(self, name))
        if self.ppmlim is not None:
            check_limits("ppmlim", self.ppmlim)
        if self.spectral_model not in SPECTRAL_MODELS:
            raise OptionError(
                "there is no such model",
                option="spectral_model",
                value=self.spectral_model,
                remedy=f"choose one of {', '.join(SPECTRAL_MODELS)}",
            )
        if self.estimate not in (*ESTIMATES, self.own_estimate):
            raise OptionError(
                "belongs to the in-vivo model" if self.estimate == "in-vivo" else "there is no such estimate",
                option="estimate",
                value=self.estimate,
                remedy=f"choose one of {', '.join(ESTIMATES)}",
            )
        if self.estimate == "posterior_mean" and (self.prior is None or str(self.prior) == "none"):
            raise OptionError("needs a prior", option="estimate", value=self.estimate, remedy="leave `prior` none out")
        if self.estimate == "posterior_mean" and self.model == "negativevoigt" and str(self.prior) == "auto":
            raise OptionError(
                "needs a prior, and that of a normal brain has no negative concentrations",
                option="estimate",
                value=self.estimate,
                remedy="give one with `prior`",
            )
        self._check_prior()
        if self.soft_constraints and self.spectral_model != "in-vivo":
            raise OptionError(
                "belong to the in-vivo model", option="soft_constraints", remedy="choose `spectral_model` in-vivo"
            )
        self.initialisation()
        choose_device(self.device)
        return self

    def _check_prior(self) -> None:
        from pathlib import Path

        from .priors import recipes

        if self.spectral_model == "in-vivo" and str(self.prior) not in ("auto", "none"):
            raise OptionError(
                "the in-vivo model has priors of its own",
                option="prior",
                value=self.prior,
                remedy="leave it out, or choose none",
            )
        if not isinstance(self.prior, (str, Path)) or str(self.prior) in ("auto", "none", "volume"):
            return
        if str(self.prior) not in recipes() and not Path(self.prior).is_file():
            raise OptionError(
                "no such recipe or file",
                option="prior",
                value=self.prior,
                remedy=f"there are volume, none, {', '.join(recipes())}",
            )

    def initialisation(self):
        """Return the choice of initial values, see :class:`.automatic_initialisation.AutomaticChoice`."""
        from .automatic_initialisation import AutomaticChoice

        return AutomaticChoice(self.init, self.network)
