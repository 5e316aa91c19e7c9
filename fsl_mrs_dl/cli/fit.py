"""The command ``fsl_mrs_dl fit``."""

from __future__ import annotations

from pathlib import Path

from .common import _common_arguments, _link, _progress, _say
from .fit_options import (
    _check_fsl_mrs_words,
    _checked_options,
    _chosen_basis,
    _fitting_options,
    _hidden_arguments,
    _options_text,
    _output_options,
)
from .tables import _text_table


def _fit_arguments(parser) -> None:
    required = parser.add_argument_group("required arguments")
    required.add_argument(
        "--data", required=True, metavar="FILE", help="NIfTI-MRS file; every spectrum in it is fitted"
    )
    required.add_argument(
        "--basis", required=True, metavar="PATH", help="folder of FSL-MRS .json basis files, or LCModel .BASIS file"
    )
    required.add_argument("--output", required=True, type=Path, metavar="DIR", help="output folder")
    group = parser.add_argument_group("fitting options")
    _fitting_options(group)
    group.add_argument("--average", nargs="+", metavar="DIM", help="average over these dimensions first, e.g. DIM_DYN")
    group = parser.add_argument_group("output options")
    group.add_argument("--t1", metavar="IMAGE", help="structural image, for a picture of the voxel")
    _output_options(group)
    group.add_argument("--report", action="store_true", help="write an HTML report")
    group.add_argument("--export_baseline", action="store_true", help="write the baseline too")
    group.add_argument("--export_no_baseline", action="store_true", help="write the fit without baseline too")
    group.add_argument("--export_separate", action="store_true", help="write each metabolite too")
    group.add_argument(
        "-f", "--filename", default="fit", metavar="NAME", help="name of the fitted spectra's file (default fit)"
    )
    group.add_argument(
        "--config", is_config_file=True, metavar="FILE", help="file with options, one a line: baseline = off"
    )
    _common_arguments(parser)
    parser.set_defaults(func=_fit, advice="", prefix="--")
    _hidden_arguments(parser)


def _fit(args) -> None:
    from ..io import nifti
    from ..io import output as output_module
    from ..preproc import denoise
    from ..results import write

    _check_fsl_mrs_words(args)
    inputs = tuple(name for name in (args.data, args.basis, args.t1, args.config) if name)
    output_module.new_output_folder(args.output, args.overwrite, inputs)
    data = nifti.load(args.data)
    denoise.warn(args, data.header)
    fitted = _fit_data(args, data)
    options = _options_text(args, fitted.fit.network_note)
    export = [name for name in ("baseline", "no_baseline", "separate") if getattr(args, f"export_{name}")]
    with output_module.folder_for(args.output, args.overwrite, inputs) as folder:
        write.write_fit(folder, fitted, options=options, filename=args.filename, export=tuple(export))
        if args.average:
            # What was fitted is in no other file; FSL-MRS's summary reads the data again from here.
            what = f"fsl_mrs_dl fit, --average {' '.join(args.average)}, {args.data}."
            nifti.save(folder / "data.nii.gz", fitted.data, method="Signal averaging", details=what)
        else:
            _link(folder, args.output, "data", Path(args.data))
        _link(folder, args.output, "basis", Path(args.basis))
        location = None
        if args.t1:
            from ..results.figures import voxel_location

            location = folder / "voxel_location.png"
            voxel_location(args.t1, fitted.data, location)
        if args.report:
            from ..results.reports.fit import write_fit_report

            write_fit_report(folder / "report.html", fitted, data=args.data, basis=args.basis, location=location)
    print(_text_table(fitted))
    print(f"Written: {args.output}/ with uncertainty.csv, summary.csv{', report.html' if args.report else ''} and more")


def _fit_data(args, data):
    """Load, check and fit: everything before anything is written."""
    import numpy as np

    from ..fitting import quantify
    from ..io import basis as basis_module
    from ..io import nifti
    from ..results import tables

    nifti.check_fids(data)
    basis, groups = _chosen_basis(args, data)
    for tag in args.average or ():
        axis = data.axis(tag)
        data = _averaged(data, axis)
    fids = np.moveaxis(data.fids, 3, -1)
    fids = fids.reshape(-1, fids.shape[-1])
    conjugated = args.conjfid
    if conjugated is None:
        good = fids[np.isfinite(fids).all(-1)]
        conjugated = basis_module.detect_conjugation(good.mean(0), data.axes)
        if conjugated:
            print(
                f"{args.data}: the frequency axis runs backwards and was turned round (complex conjugate);"
                " --no_conj_fid forbids it."
            )
    model, sums, chosen = _checked_options(args, basis)
    _say(
        args, f"Fitting {len(fids)} spectra with {basis.n_metabs} metabolites, {model} model, baseline {args.baseline}"
    )
    with _progress(len(fids)) as advance:
        fit = quantify.quantify(
            fids.conj() if conjugated else fids,
            basis,
            dwelltime=data.dwelltime,
            spec_freq_mhz=data.spec_freq_mhz,
            nucleus=data.nucleus,
            model=model,
            ppmlim=tuple(args.ppmlim) if args.ppmlim else None,
            baseline=args.baseline,
            groups=groups,
            ind_scale=args.ind_scale,
            rescale=not args.no_rescale,
            starter=chosen.make_starter(),
            prior=args.prior,
            estimate=args.estimate,
            device=args.device,
            progress=advance,
        )
    fit.estimate(args.estimate)  # says so if it was not made
    return tables.FitResults(fit, data, args.internal_ref, sums, bool(conjugated), args.estimate)


def _averaged(data, axis: int):
    """Mean over one higher dimension, unusable transients left out; the dimension stays, with one element."""
    import warnings
    from dataclasses import replace

    import numpy as np

    from ..io.nifti import check_fids

    usable = np.expand_dims(check_fids(data), 3)
    with warnings.catch_warnings():
        # An element without a single usable transient becomes NaN and is flagged later.
        warnings.simplefilter("ignore", RuntimeWarning)
        mean = np.nanmean(np.where(usable, data.fids, np.nan), axis=axis, keepdims=True)
    return replace(data, fids=mean.astype(data.fids.dtype))
