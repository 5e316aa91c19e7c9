"""FSL-MRS's result object, filled from a fit of this package."""

from __future__ import annotations

import copy
from functools import cached_property
from pathlib import Path

import numpy as np
from fsl_mrs.core import MRS
from fsl_mrs.utils.results import FitRes

from .. import __version__
from ..core.errors import DataError
from ..core.fids import UNUSABLE
from ..fitting.serialise import Plain, restored_row
from ..results.layout import OOD_LIMIT

__all__ = ["DlFitRes", "ReadOnlyMRS", "describe_fit"]


class DlFitRes(FitRes):
    """FSL-MRS's result of a fit by ``dlquant``.

    Everything is FSL-MRS's own.  ``dl`` holds values that it has no place for: ``init``, ``estimate``, ``converged``,
    ``n_iter``, ``misfit`` (residual over noise; one where the model explains everything but noise) and ``ood_score``
    (above one the spectrum is out of distribution).  :meth:`uncertainties` has every estimate with its intervals.
    """

    dl: dict = {}
    # The fit of this package without model and data, as JSON and arrays, so that a worker need not load torch to pass a
    # result on, and nothing in it is ever unpickled by this package.
    dl_row: Plain | None = None
    dl_advice: tuple[str, ...] = ()

    def uncertainties(self):
        """Return every estimate with its intervals: the table of ``uncertainty.csv``, a ``pandas.DataFrame``.

        Raises
        ------
        DataError
            If the spectrum could not be fitted.
        """
        row = self.restored_row()
        from ..results.fit_results import FitResults
        from ..results.tables import uncertainty_table

        reference = self.concScalings["internalRef"] if self.concScalings.get("internal") is not None else None
        names = str(reference).split("+") if reference else []
        sums = [name for name in self.metabs if "+" in name and set(name.split("+")) <= set(row.names)]
        return uncertainty_table(FitResults(row, None, names or ["no reference"], sums, estimate=self.dl["estimate"]))

    def restored_row(self):
        """Return the estimates of this package, without data and model.

        Raises
        ------
        DataError
            If the spectrum could not be fitted.
        """
        return restored_row(self._stored_row())

    def _stored_row(self) -> Plain:
        if self.dl_row is None:
            raise DataError(f"the FID {UNUSABLE}; it has no estimates.")
        return self.dl_row

    def to_file(self, filename, what="concentrations"):
        """Write a table as FSL-MRS does, and with the summary ``uncertainty.csv`` into the same folder."""
        super().to_file(filename, what=what)
        if what == "summary" and self.dl_row is not None:
            self.uncertainties().to_csv(Path(filename).with_name("uncertainty.csv"), index=False)

    def getUncertainties(self, type="percentage", metab=None):
        """Return SDs of the concentrations from the Cramer-Rao bound, as FSL-MRS does."""
        # FSL-MRS goes by the name of the method here, and returns nothing for another.
        newton = copy.copy(self)
        newton.method = "Newton"
        return FitRes.getUncertainties(newton, type=type, metab=metab)

    @property
    def perc_SD(self):
        """Standard deviations in percent of every parameter, sums of metabolites at the end; 999 at most, as
        FSL-MRS's."""
        # FSL-MRS divides by the parameters without the sums, which fails as soon as there is one.
        with np.errstate(divide="ignore", invalid="ignore"):
            percent = np.sqrt(self.crlb) / self.params_inc_combine * 100
        return np.where(np.isnan(percent) | (percent > 999), 999.0, percent)


class ReadOnlyMRS(MRS):
    """An MRS object for reading only, whose formatted basis is computed once.

    FSL-MRS resamples the basis at every access, some two dozen times for one result, which is half of the time of a
    result.
    """

    @classmethod
    def of(cls, mrs: MRS) -> MRS:
        """Return a copy of an MRS object that shares its arrays."""
        shared = copy.copy(mrs)
        if type(mrs) is MRS:
            shared.__class__ = cls
        return shared

    @cached_property
    def basis(self):
        """Formatted basis, as FSL-MRS returns it."""
        return super().basis


def describe_fit(result) -> str:
    """Return a result's ``dl`` in a sentence, for reports and terminals; empty for results of another method."""
    dl = getattr(result, "dl", None)
    if not dl:
        return ""
    ended = f"converged after {dl['n_iter']} steps" if dl["converged"] else f"did NOT converge in {dl['n_iter']} steps"
    estimate = {
        "ml": "",
        "posterior_mean": " Concentrations are posterior means.",
        "network": " Concentrations are the network's own.",
    }
    name = "refined to the maximum of the likelihood"
    if dl.get("spectral_model") == "in-vivo":
        name = (
            f"in-vivo model (macromolecules and lipids: {dl['mm']}, for TE {1e3 * dl['echo_time_s']:g} ms and TR"
            f" {dl['repetition_time_s']:g} s; line shape, single shifts and widths, and a baseline of effective"
            f" dimension {dl['baseline_dimension']:.1f} estimated with priors"
            + ("; no prior on concentrations" if dl["prior"] == "none" else "")
            + ("; soft constraints " + ", ".join(dl["soft_constraints"]) if dl["soft_constraints"] else "")
            + "), refined to its minimum"
        )
    water = f" {dl['water_reference']}" if dl.get("water_reference") else ""
    outside = " The spectrum is out of distribution." if dl.get("ood_score", 0) > OOD_LIMIT else ""
    return (
        f"dlquant (FSL-MRS-DL {__version__}): initial values {dl['init']}, {name}, {ended}; residual over noise"
        f" {dl['misfit']:.2f}.{estimate.get(dl.get('estimate', 'ml'), '')}{water}{outside}"
        + "".join(f" {line}" for line in result.dl_advice)
    )
