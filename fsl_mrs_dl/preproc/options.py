"""Options of alignment and denoising, shared by this package's commands, ``fsl_mrs_proc`` and Python."""

from __future__ import annotations

from dataclasses import dataclass

from ..core.errors import OptionError

__all__ = ["AlignOptions", "add_align_arguments", "add_denoise_arguments"]

LEAST_WINDOW = 8
"""Fewest transients that a moving-window reference is made of."""


@dataclass(frozen=True)
class AlignOptions:
    """Say how the transients of a file are aligned; made once, from parsed arguments or from keywords.

    Attributes
    ----------
    dim : str
        Dimension that runs over transients, 'all' for all spectra of a voxel, or 'voxels' for the voxels themselves;
        'all' is 'voxels' where a voxel has one spectrum.
    ppmlim : (float, float), optional
        Window in ppm; the nucleus' usual one by default.
    method : str, optional
        Source of the initial shifts and phases: 'classical' searches the whole range for the highest likelihood,
        'universal' is the network that comes with the package, 'dsr', 'dsrf', 'dcrr' and 'dcrrf' are networks trained
        on data like these (``model``).  By default the search, and where it finds transients weak the network, if it
        was made for data like these.
    model : str or path, optional
        A network, by name or folder.
    refine : bool
        Maximise the likelihood from there; False keeps the network's estimates, without SDs.
    absolute : bool
        Reference the frequency to creatine, choline and NAA (31P: phosphocreatine) and the phase to upright lines;
        otherwise the mean stays where it was.
    moving_window : int, optional
        Compare every transient with about so many of its neighbours in time, not with all; for line shapes that drift.
    edit_dim : str or None
        Dimension of edit conditions, which are matched to each other so that they subtract well; None for none.
    edit_order : str, optional
        Order of edit conditions that lie in ``dim`` itself, a key of
        :data:`fsl_mrs_dl.preproc.conditions.ORDERS`; they become a dimension of their own.
    reject_outliers : bool
        Leave transients out of the result that are outliers or failed, in any of their sub-spectra.
    average : bool
        Average the aligned transients, weighted with their inverse noise variance, without outliers.
    device : str or torch.device
        'auto', 'cpu' or 'cuda'.
    """

    dim: str = "DIM_DYN"
    ppmlim: tuple[float, float] | None = None
    method: str | None = None
    model: object = None
    refine: bool = True
    absolute: bool = False
    moving_window: int | None = None
    edit_dim: str | None = "DIM_EDIT"
    edit_order: str | None = None
    reject_outliers: bool = False
    average: bool = False
    device: object = "auto"

    @classmethod
    def from_arguments(cls, args: dict, **more) -> AlignOptions:
        """Return the options of parsed arguments (see :func:`add_align_arguments`), with ``more`` in place of some."""
        names = (
            "dim",
            "method",
            "model",
            "refine",
            "absolute",
            "moving_window",
            "reject_outliers",
            "edit_order",
            "average",
        )
        options = {name: args[name] for name in names}
        options["ppmlim"] = tuple(args["ppmlim"]) if args["ppmlim"] else None
        options["edit_dim"] = None if args["edit_dim"].lower() == "none" else args["edit_dim"]
        return cls(**options | more)

    def check(self, *, reference: bool) -> None:
        """Raise OptionError for options that exclude each other, or an external ``reference`` if there is one."""
        from ..core.units import check_limits

        if self.ppmlim is not None:
            check_limits("ppmlim", sorted(self.ppmlim))
        if not self.refine and self.model is None and self.method in (None, "classical"):
            raise OptionError(
                "the classical search is the refinement",
                option="refine",
                remedy="name a network with `method` or `model`",
            )
        if self.absolute and reference:
            raise OptionError(
                "the reference fixes frequency and phase already",
                option="absolute",
                remedy="leave one of `absolute` and `reference` out",
            )
        if self.moving_window is None:
            return
        if self.moving_window < 1:
            raise OptionError(
                "is too small",
                option="moving_window",
                value=self.moving_window,
                remedy=f"give the number of neighbours, {LEAST_WINDOW} or more; leave it out for one reference for all",
            )
        if reference:
            raise OptionError(
                "a moving-window reference is made of the data",
                option="moving_window",
                remedy="leave one of `moving_window` and `reference` out",
            )
        if not self.refine:
            raise OptionError(
                "is a refinement", option="moving_window", remedy="leave one of `moving_window` and `refine` out"
            )


def add_align_arguments(group) -> None:
    """Add the options of an alignment that ``fsl_mrs_dl align`` and ``fsl_mrs_proc dl-align`` share."""
    group.add_argument(
        "--dim",
        type=str,
        default="DIM_DYN",
        help=(
            'dimension tag of the transients, "all" for all spectra of a voxel, or "voxels" for the voxels of an MRSI'
            " (default DIM_DYN)"
        ),
    )
    group.add_argument(
        "--ppm",
        dest="ppmlim",
        type=float,
        nargs=2,
        metavar=("LOW", "HIGH"),
        default=None,
        help="window that is aligned (default: the nucleus' usual one, 0.2 to 4.2 for 1H)",
    )
    group.add_argument(
        "--reference", type=str, metavar="FILE", help="align to this NIfTI-MRS file: one FID, or one per coil"
    )
    group.add_argument(
        "--method",
        type=str,
        metavar="NAME",
        help=(
            "source of the initial shifts and phases: classical, universal, dsr, dsrf, dcrr or dcrrf (default:"
            " classical, and universal where transients are weak)"
        ),
    )
    group.add_argument(
        "--model", type=str, metavar="NAME", help="trained network that proposes them, by name or folder"
    )
    group.add_argument("--no-refine", dest="refine", action="store_false", help="keep the network's own estimates")
    group.add_argument(
        "--absolute",
        action="store_true",
        help=(
            "reference the frequency to creatine, choline and NAA (31P: PCr), lines upright if coils are combined"
            " (default: the mean stays where it was)"
        ),
    )
    group.add_argument(
        "--moving-window",
        dest="moving_window",
        type=int,
        metavar="N",
        help="compare each transient with about N neighbours in time, for line shapes that drift",
    )
    _add_edit_arguments(group)
    group.add_argument(
        "--reject-outliers",
        dest="reject_outliers",
        action="store_true",
        help="leave outliers and failed transients out (default: they are only flagged)",
    )

    group.add_argument(
        "--average",
        action="store_true",
        help="write the mean of the aligned transients, weighted with their inverse noise variance, without outliers",
    )


def _add_edit_arguments(group) -> None:
    """Add the options of edited data."""
    group.add_argument(
        "--edit-dim",
        dest="edit_dim",
        type=str,
        default="DIM_EDIT",
        metavar="TAG",
        help="dimension of edit conditions, which are matched to each other; none switches that off (default DIM_EDIT)",
    )
    group.add_argument(
        "--edit-order",
        dest="edit_order",
        type=str,
        metavar="ORDER",
        help=(
            "order of edit conditions that lie in --dim itself: halves, alternating, AABB, ABBA or four-step; they"
            " become a dimension of their own"
        ),
    )


def add_denoise_arguments(group) -> None:
    """Add the options of a denoising that ``fsl_mrs_dl denoise`` and ``fsl_mrs_proc dl-denoise`` share."""
    group.add_argument(
        "--model",
        type=str,
        required=True,
        metavar="NAME",
        help="network trained for data like these with 'fsl_mrs_dl train denoise', by name or folder",
    )
