"""The public functions, on FSL-MRS's objects and on plain arrays: ``from fsl_mrs_dl import align, quantify``."""

from __future__ import annotations

import inspect
from dataclasses import fields
from pathlib import Path

import numpy as np

from .core.errors import DataError, OptionError
from .core.fids import check_decay, usable_fids, why_unusable

__all__ = ["align", "quantify", "denoise", "load_model"]

_FIT_ARGUMENTS = ("ppmlim", "baseline", "baseline_order", "metab_groups", "model", "x0")
_OWN_ARGUMENTS = (
    "init",
    "network",
    "estimate",
    "prior",
    "device",
    "spectral_model",
    "mm",
    "soft_constraints",
    "echo_time_s",
    "repetition_time_s",
)

_FEWEST_POINTS = 16

_OF_FSL_MRS_MODEL = ("model", "baseline", "metab_groups", "ind_scale", "network")
_OF_IN_VIVO_MODEL = ("mm", "soft_constraints", "eddy_currents_corrected")
_OF_FILES = ("edit_mode", "edit_conditions")
_OF_HEADERS = ("dwelltime", "spec_freq_mhz", "nucleus")


def align(data, **options):
    """Align transients in frequency and phase.

    Parameters
    ----------
    data : NIFTI_MRS, MrsData or complex array ``(..., n_transients, n_points)``
        FSL-MRS's (or the nifti-mrs package's) object, this package's own, or FIDs in FSL-MRS's sign convention.
    **options
        For objects with a header ``reference`` and the fields of
        :class:`fsl_mrs_dl.preproc.options.AlignOptions`: ``dim``, ``ppmlim``, ``method`` and so on. For arrays
        ``dwelltime`` (s) and ``spec_freq_mhz`` are needed, and ``nucleus`` unless '1H'; further options are those of
        :func:`fsl_mrs_dl.registration.alignment.align_transients`.

    Returns
    -------
    (aligned, Alignment)
        The same kind of thing, corrected, and shifts (Hz), phases (degrees), their SDs and flags.

    Raises
    ------
    DataError, OptionError

    Examples
    --------
    >>> import numpy as np
    >>> from fsl_mrs_dl import align
    >>> t = np.arange(1, 1025) / 2000
    >>> line = np.exp(2j * np.pi * -210 * t - 15 * t)
    >>> off = np.array([0.0, 3.0, -2.0])
    >>> aligned, found = align(line * np.exp(2j * np.pi * off[:, None] * t), dwelltime=1 / 2000, spec_freq_mhz=127.7)
    >>> (found.shift_hz - found.shift_hz[0]).round(2).tolist()
    [0.0, 3.0, -2.0]
    """
    from .io import nifti
    from .preproc.align import align_data, align_image
    from .preproc.options import AlignOptions

    _refuse_path(data, "load it with fsl_mrs_dl.io.nifti.load")
    is_data, is_image = isinstance(data, nifti.MrsData), hasattr(data, "hdr_ext") and hasattr(data, "image")
    if is_data or is_image:
        known = [field.name for field in fields(AlignOptions)]
        _check_names(options, [*known, "reference"])
        reference = options.pop("reference", None)
        if is_data:
            aligned = align_data(data, AlignOptions(**options), reference=reference)
            return aligned.data, aligned.alignment
        image, aligned = align_image(data, AlignOptions(**options), reference=reference)
        return image, aligned.alignment
    from .core.axes import Axes
    from .registration.alignment import align_transients

    for name in ("dwelltime", "spec_freq_mhz"):
        if name not in options:
            raise OptionError(
                "is needed to align an array of FIDs", option=name, remedy=f"give align(fids, {name}=...)"
            )
    fids = _array(data)
    of_axes = {name: options.pop(name) for name in ("dwelltime", "spec_freq_mhz", "nucleus") if name in options}
    known = list(inspect.signature(align_transients).parameters)[2:]
    _check_names(options, [*known, "dwelltime", "spec_freq_mhz", "nucleus"])
    axes = Axes(fids.shape[-1], **of_axes)
    axes.check_window(options.get("ppmlim"))
    check_decay(fids)
    alignment = align_transients(fids, axes, **options)
    return alignment.apply(fids), alignment


def quantify(data, basis=None, *, initial_values=None, water=None, progress=None, conjugate=None, **options):
    """Quantify metabolites by a fit to the maximum of the likelihood; many spectra are fitted at once.

    Parameters
    ----------
    data : fsl_mrs.core.MRS, MRSI, a list of MRS, MrsData, or complex array ``(..., n_points)``
        FSL-MRS's objects carry their basis set, conjugation and scaling; arrays are FIDs in FSL-MRS's sign convention.
        The data of a file (:func:`fsl_mrs_dl.load`) have dwell time, frequency, nucleus, echo and repetition time in
        their header; every spectrum is fitted, and coils have to be combined before.
    basis : Basis, fsl_mrs.core.Basis or path
        Not for FSL-MRS's MRS objects.
    initial_values : callable, optional
        Initial values of your own, see :class:`fsl_mrs_dl.fitting.initialisation.InitialValues`; not for FSL-MRS's
        objects.
    progress : callable, optional
        Called with the number of finished spectra; not for FSL-MRS's objects.
    water : complex array ``(..., n_points)`` or MrsData, optional
        Unsuppressed water of every FID, or one of all, for the line shape and eddy currents of the in-vivo model; of
        the same kind as ``data``.
    conjugate : bool, optional
        Conjugate the FIDs, and ``water`` with them; by default where their frequency axis runs backwards,
        with a warning.  FSL-MRS's objects have their own ``check_FID``.
    **options
        For FSL-MRS's objects those of its ``fit_FSLModel`` (``ppmlim``, ``baseline``, ``metab_groups``, ``model``,
        ``x0``) and ``init``, ``network``, ``estimate``, ``prior``, ``device``, ``spectral_model`` ('fsl-mrs' by
        default, or 'in-vivo', with ``mm``, ``soft_constraints``, ``echo_time_s`` and ``repetition_time_s``).
        Otherwise those of :class:`fsl_mrs_dl.fitting.options.FitOptions`, and for arrays ``dwelltime`` (s),
        ``spec_freq_mhz`` and ``nucleus``.  ``combine`` are sums that :meth:`.Quantification.table` appends;
        ``internal_ref`` counts where results are written.

    Returns
    -------
    FitRes, list of FitRes, dict or Quantification
        FSL-MRS's result for an MRS object, a list of them for a list, ``{(x, y, z): FitRes}`` for an MRSI object;
        :class:`fsl_mrs_dl.fitting.quantification.Quantification` otherwise, with one row per spectrum: the spectra of
        a file are in the order of ``np.moveaxis(data.fids, 3, -1).reshape(-1, n_points)``.

    Raises
    ------
    DataError, BasisError, OptionError
    """
    first = data[0] if isinstance(data, (list, tuple)) and data else None
    if _is_fsl_mrs(data, "MRS") or _is_fsl_mrs(data, "MRSI") or _is_fsl_mrs(first, "MRS"):
        if basis is not None:
            raise OptionError(
                "FSL-MRS's MRS objects have theirs",
                option="basis",
                remedy="leave it out, or make the objects with another one",
            )
        if conjugate is not None:
            raise OptionError("is for arrays", option="conjugate", remedy="FSL-MRS's objects have mrs.conj_FID")
        return _quantify_fsl_mrs(data, options)
    if hasattr(data, "hdr_ext") and hasattr(data, "mrs"):
        raise OptionError("a NIFTI_MRS object has no basis set yet; give quantify(data.mrs(basis=...)).")
    if isinstance(data, (list, tuple)) and not data:
        raise DataError("the list of spectra is empty; there is nothing to work on.")
    _refuse_path(data, "fit it with 'fsl_mrs_dl fit', or give its FIDs")
    from .io.nifti import MrsData

    if isinstance(data, MrsData):
        if initial_values is not None:
            raise OptionError("is for arrays", option="initial_values", remedy="give quantify(fids, basis, ...)")
        return _quantify_file(data, basis, options, water=water, progress=progress, conjugate=conjugate)
    more = {"initial_values": initial_values, "water": water, "progress": progress, "conjugate": conjugate}
    return _quantify_arrays(data, basis, options, **more)


def denoise(data, model, *, device: str = "auto"):
    """Remove noise from every spectrum of a file with a trained network; to look at, not to quantify.

    Parameters
    ----------
    data : MrsData
        See :func:`fsl_mrs_dl.load`.
    model : str or path
        A network of ``fsl_mrs_dl train denoise``, by name or folder.
    device : str
        'auto', 'cpu' or 'cuda'.

    Returns
    -------
    MrsData
        The denoised data.

    Raises
    ------
    DataError, OptionError
    """
    from .io.nifti import MrsData
    from .preproc.denoise import denoise_data

    _refuse_path(data, "load it with fsl_mrs_dl.load")
    if not isinstance(data, MrsData):
        raise DataError(f"{type(data).__name__}: is not the data of a file; load it with fsl_mrs_dl.load.")
    return denoise_data(data, model, device).data


def load_model(name):
    """Load a trained network by name or folder.

    Returns
    -------
    (torch.nn.Module, Card)
        The network, and the card that says what it is for.

    Raises
    ------
    OptionError
        If there is none, or its weights are not those of the card.
    """
    from .networks.model_cards import load

    return load(name)


def _quantify_file(data, basis, options: dict, *, water, progress, conjugate):
    """Fit every spectrum of a file with a basis set; ``options`` are those of the fit."""
    import warnings

    from .fitting.data import fit_data
    from .fitting.fitted_data import with_names
    from .fitting.options import FitOptions
    from .io.nifti import MrsData

    for name in _OF_HEADERS:
        if name in options:
            raise OptionError("is that of the data's header", option=name, remedy="leave it out, or give data.fids")
    if water is not None and not isinstance(water, MrsData):
        raise OptionError("is no data of a file", option="water", remedy="load it with fsl_mrs_dl.load")
    if "DIM_COIL" in data.dim_tags and data.fids.shape[data.axis("DIM_COIL")] > 1:
        raise DataError(
            f"{data.name}: has several coils; combine them first (fsl_mrs_dl run does, or fsl_mrs_proc coilcombine)."
        )
    _check_names(options, [field.name for field in fields(FitOptions) if field.name not in _OF_FILES])
    basis, fit_options = _basis(basis), _fit_options(options)
    fit_options = with_names(fit_options, basis.names).check()
    fitted = fit_data(data, basis, fit_options, water=water, progress=progress, conjugate=conjugate)
    if conjugate is None and fitted.conjugated:
        warnings.warn(_MIRRORED, stacklevel=3)
    for artefact in fitted.artefacts:
        warnings.warn(artefact.text(), stacklevel=3)
    fitted.fit.combine = fit_options.combine
    return fitted.fit


def _basis(basis):
    """Return a basis set of a path or of FSL-MRS's object."""
    from .io.basis import Basis

    if basis is None:
        raise OptionError(
            "is needed to quantify FIDs", option="basis", remedy="give a Basis, FSL-MRS's Basis or a path"
        )
    if isinstance(basis, (str, Path)):
        return Basis.load(basis)
    return basis if isinstance(basis, Basis) else Basis.from_fsl_mrs(basis)


def _fit_options(options: dict):
    """Return the FitOptions of keywords, without any that the spectral model does not have."""
    from .fitting.options import FitOptions

    out = FitOptions(**options)
    default = FitOptions(spectral_model=out.spectral_model)
    foreign, other = (
        (_OF_FSL_MRS_MODEL, "fsl-mrs") if out.spectral_model == "in-vivo" else (_OF_IN_VIVO_MODEL, "in-vivo")
    )
    for name in foreign:
        if getattr(out, name) != getattr(default, name):
            raise OptionError(
                f"does not go with the {out.spectral_model} model",
                option=name,
                remedy=f"leave it out, or choose `spectral_model` {other}",
            )
    return out


def _quantify_arrays(data, basis, options: dict, *, initial_values, water, progress, conjugate):
    """Fit FIDs with a basis set; ``options`` are those of the axes and of the fit."""
    from .core.axes import Axes
    from .fitting import quantify as quantify_module
    from .fitting.fitted_data import with_names
    from .fitting.options import FitOptions
    from .fitting.quantification import Quantification

    named = ("initial_values", "progress", "conjugate")
    known = [field.name for field in fields(FitOptions) if field.name not in _OF_FILES]
    _check_names(options, [*_OF_HEADERS, *known, *named])
    basis = _basis(basis)
    of_axes = {name: options.pop(name) for name in _OF_HEADERS if name in options}
    for name in ("dwelltime", "spec_freq_mhz"):
        if name not in of_axes:
            raise OptionError(
                "is needed to quantify an array of FIDs",
                option=name,
                remedy=f"give quantify(fids, basis, {name}=...)",
            )
    fids, fit_options = _array(data), with_names(_fit_options(options), basis.names)
    if fids.shape[-1] < _FEWEST_POINTS:
        raise DataError(
            f"the last axis of the array has {fids.shape[-1]} points, and time is the last axis",
            remedy="move time to the end, and combine coils first",
        )
    axes = Axes(fids.shape[-1], **of_axes)
    basis.check_match(axes.spec_freq_mhz, axes.nucleus)
    if initial_values is None:
        fit_options.check()
    check_decay(fids, stacklevel=3)
    if conjugate or (conjugate is None and _runs_backwards(fids, axes)):
        fids, water = fids.conj(), None if water is None else np.conj(_array(water))
    _warn_of_artefacts(fids, basis, axes, fit_options.echo_time_s)
    if fit_options.spectral_model == "in-vivo":
        from .fitting.in_vivo.quantify import quantify_in_vivo

        if initial_values is not None:
            raise OptionError(
                "has initial values of its own",
                option="spectral_model",
                value="in-vivo",
                remedy="leave `initial_values` out",
            )
        fit: Quantification = quantify_in_vivo(fids, basis, axes, fit_options, water=water, progress=progress)
    else:
        if water is not None:
            raise OptionError("goes with `spectral_model` in-vivo only", option="water", remedy="leave it out")
        own = {"initial_values": initial_values, "progress": progress}
        fit = quantify_module.quantify(fids, basis, axes, fit_options, **own)
    fit.combine = fit_options.combine
    return fit


_MIRRORED = (
    "Mirrored data: the signal lies on the wrong side of water, and the frequency axis was reversed (complex"
    " conjugate); conjugate=False forbids it, conjugate=True or fids.conj() does it without a warning."
)


def _runs_backwards(fids, axes) -> bool:
    """Tell whether the frequency axis of FIDs runs backwards, with a warning."""
    import warnings

    from .fitting.artefacts import mirrored

    rows = fids.reshape(-1, fids.shape[-1])
    if mirrored(rows[usable_fids(rows)], axes) is None:
        return False
    warnings.warn(_MIRRORED, stacklevel=5)
    return True


def _warn_of_artefacts(fids, basis, axes, echo_time_s) -> None:
    """Warn of mirrored data, and of a basis set of another field or echo time."""
    import warnings

    from .fitting.artefacts import artefacts_before

    for artefact in artefacts_before(fids.reshape(-1, fids.shape[-1]), basis, axes, echo_time_s):
        warnings.warn(artefact.text(), stacklevel=4)


def _quantify_fsl_mrs(data, options: dict):
    """Fit FSL-MRS's MRS object, list of them, or MRSI object."""
    from .fitting.options import FitOptions
    from .fslmrs import fit

    _check_names(options, [*_FIT_ARGUMENTS, *_OWN_ARGUMENTS])
    # FSL-MRS's model by default, as everywhere in FSL-MRS.
    values = {name: options.pop(name) for name in _OWN_ARGUMENTS if name in options}
    own = FitOptions(**{"spectral_model": "fsl-mrs", **values})
    if _is_fsl_mrs(data, "MRS"):
        return fit.fit(data, options, own)
    if _is_fsl_mrs(data, "MRSI"):
        voxels = [(mrs, index) for mrs, index, _ in data]
        return dict(zip([index for _, index in voxels], fit.fit_together([mrs for mrs, _ in voxels], options, own)))
    return fit.fit_together(data, options, own)


def _refuse_path(data, remedy: str) -> None:
    if isinstance(data, (str, Path)):
        raise DataError(f"{data}: is a path ({type(data).__name__}), no data; {remedy}.")


def _check_names(options, known: list[str]) -> None:
    for name in options:
        if name not in known:
            raise OptionError("is no option here", option=name, remedy=f"there are {', '.join(known)}")


def _array(data) -> np.ndarray:
    try:
        fids = np.asarray(data)
    except ValueError:  # rows of unequal length
        fids = np.asarray(None)
    if fids.dtype.kind not in "cfiu" or fids.ndim == 0:
        raise DataError(
            f"{type(data).__name__}: is neither an object of FSL-MRS nor an array of FIDs; give one of these."
        )
    if not usable_fids(fids).any():
        problem, remedy = why_unusable(fids)
        raise DataError(problem, remedy=remedy or "there is nothing to work on")
    return fids


def _is_fsl_mrs(data, name: str) -> bool:
    """Is it an object of FSL-MRS's class of that name?  Asked without importing FSL-MRS."""
    return any(cls.__name__ == name and cls.__module__.split(".")[0] == "fsl_mrs" for cls in type(data).__mro__)
