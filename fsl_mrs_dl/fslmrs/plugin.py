"""The additions to FSL-MRS: the steps ``dl-align`` and ``dl-denoise``, and the fitting method ``dlquant``.

They have the form that ``docs/fsl_mrs_plugins.md`` proposes for plugins of FSL-MRS; an FSL-MRS that has the mechanism
finds them through this package's entry points, any other gets them from :mod:`fsl_mrs_dl._hook`.  Only the standard
library is imported at once, so that help texts stay as quick as they were.
"""

from ..preproc.options import AlignOptions, add_align_arguments, add_denoise_arguments

__all__ = ["DlAlign", "DlDenoise", "STEPS", "DlQuant"]


class DlAlign:
    """``fsl_mrs_proc dl-align``."""

    name = "dl-align"
    help = "Align FIDs at the Cramer-Rao limit (FSL-MRS-DL)."

    @staticmethod
    def add_arguments(group) -> None:
        """Add the step's own options to an argument group."""
        group.add_argument(
            "--file", type=str, required=True, metavar="FILE", help="file to align, coils combined or not"
        )
        add_align_arguments(group)
        group.add_argument("--device", type=str, default="auto", help="auto (default), cpu or cuda")

    @staticmethod
    def run(dataobj, args: dict):
        """Align FSL-MRS's container of data and reference; returns a container of the aligned data."""
        from pathlib import Path

        from ..preproc.align import align_image
        from ..results.reports.alignment import table_path, write_reports
        from ..results.reports.alignment_table import alignment_table, summary_line

        with one_line_errors("fsl_mrs_proc dl-align", DlAlign.add_arguments):
            data, aligned = align_image(
                dataobj.data,
                AlignOptions.from_arguments(args, device=args["device"]),
                reference=dataobj.reference,
                command="fsl_mrs_proc dl-align",
                file=dataobj.datafilename,
            )
            folder = Path(args["output"])
            name = f"{args['filename']}.nii.gz" if args.get("filename") else dataobj.datafilename
            table = table_path(folder, name, written=(folder / name).exists())
            table.write_text(alignment_table(aligned), encoding="utf-8")
            if args.get("generateReports") or args.get("allreports"):
                write_reports(folder, aligned, bool(args.get("allreports")), dataobj.datafilename, table)
        print(summary_line(aligned))
        return type(dataobj)(data, dataobj.datafilename)


class DlDenoise:
    """``fsl_mrs_proc dl-denoise``."""

    name = "dl-denoise"
    help = "Take noise out of spectra, for display only; not for fits (FSL-MRS-DL)."

    @staticmethod
    def add_arguments(group) -> None:
        """Add the step's own options to an argument group."""
        group.add_argument(
            "--file", type=str, required=True, metavar="FILE", help="file to denoise, every spectrum by itself"
        )
        add_denoise_arguments(group)
        group.add_argument("--device", type=str, default="auto", help="auto (default), cpu or cuda")

    @staticmethod
    def run(dataobj, args: dict):
        """Denoise FSL-MRS's container of data and reference; returns a container of the denoised data."""
        from ..preproc.denoise import denoise_image, summary_line
        from ..results.reports.denoising import write_denoise_report

        with one_line_errors("fsl_mrs_proc dl-denoise", DlDenoise.add_arguments):
            data, denoised = denoise_image(
                dataobj.data,
                args["model"],
                device=args["device"],
                command="fsl_mrs_proc dl-denoise",
                file=dataobj.datafilename,
            )
            if args.get("generateReports") or args.get("allreports"):
                write_denoise_report(args["output"], denoised, dataobj.datafilename)
        print(summary_line(denoised))
        return type(dataobj)(data, dataobj.datafilename)


STEPS = (DlAlign, DlDenoise)
"""The steps that are added to ``fsl_mrs_proc``."""


class DlQuant:
    """``--algo dlquant`` of ``fsl_mrs``, ``fsl_mrsi`` and ``fsl_dynmrs``, and ``method='dlquant'`` of ``fit_FSLModel``
    and ``dynMRS.fit``."""

    name = "dlquant"
    help = "dlquant (to the maximum of the likelihood, all spectra at once; FSL-MRS-DL)"
    heading = "dlquant options (FSL-MRS-DL; only with --algo dlquant)"

    _OPTIONS = {
        "spectral_model": (
            "fsl-mrs (default: FSL-MRS's own models), or in-vivo for 1H spectra of the brain: baseline, macromolecules,"
            " lipids, line shape and shifts of single metabolites are estimated with priors, and need no options"
        ),
        "mm": (
            "macromolecules and lipids of the in-vivo model: brain (default), tumour, none, or measured ones, a file as"
            " for 'fsl_mrs_dl fit --mm'"
        ),
        "init": "initial values of the fits: classical, network or both (default: as the data allow)",
        "network": "trained network that proposes them, by name or folder (default quant-universal)",
        "device": "where to compute: auto (default), cpu or cuda",
        "estimate": (
            "reported concentrations: ml (maximum of the likelihood, default of the fsl-mrs model), in-vivo (default of"
            " the in-vivo model), posterior_mean or network"
        ),
        "prior": (
            "expected concentrations, for posterior_mean: a recipe or a file, volume, or none (default: normal-brain);"
            " of the in-vivo model only none, which leaves its wide prior out"
        ),
    }
    _FLAGS = {
        "soft_constraints": (
            "hold GABA, Asp, Glc, GSH, Scyllo and Tau by ratios of the literature, as LCModel does (in-vivo model)"
        )
    }
    _STRINGS = {
        "network": "--dl-model",
        "spectral_model": "--dl-spectral-model",
        "soft_constraints": "--dl-soft-constraints",
        "t1_values": "--t1-values",
        "t2_values": "--t2-values",
    }

    @classmethod
    def add_arguments(cls, group) -> None:
        """Add the method's own options to an argument group; ``None`` means that an option was not given."""
        for name, text in cls._OPTIONS.items():
            group.add_argument(cls.spelling(name), dest=f"dl_{name}", default=None, metavar=name.upper(), help=text)
        for name, text in cls._FLAGS.items():
            spelling = cls.spelling(name)
            group.add_argument(spelling, dest=f"dl_{name}", action="store_const", const=True, default=None, help=text)

    @classmethod
    def options_from(cls, args, algo: str):
        """Return the method's options from parsed arguments, checked; None if another method was chosen.

        Raises
        ------
        OptionError
            If one of them was given for another method, or has a value that cannot be served.
        """
        values = {
            name: getattr(args, f"dl_{name}")
            for name in (*cls._OPTIONS, *cls._FLAGS)
            if getattr(args, f"dl_{name}", None) is not None
        }
        if algo != cls.name:
            if values:
                from ..core.errors import OptionError

                option = next(iter(values))
                raise OptionError(
                    f"goes with `algo` {cls.name} only, not with `algo` {algo}",
                    option=option,
                    remedy=f"leave `{option}` out",
                )
            return None
        from ..fitting.options import FitOptions
        from .in_vivo_options import check_arguments

        # Macromolecules of the in-vivo model are weighted for the times of --TE and --TR, else of the data's header.
        times = {"echo_time_s": ("TE", 1e-3), "repetition_time_s": ("TR", 1.0)}
        for name, (option, unit) in times.items():
            value = getattr(args, option, None)
            if value is not None and values.get("spectral_model") == "in-vivo":
                values[name] = float(value) * unit
        options = FitOptions(**{"spectral_model": "fsl-mrs", **values})
        check_arguments(options, args)
        return options.check()

    @classmethod
    def spelling(cls, name: str) -> str:
        """Return the option of FSL-MRS's commands for a plain name."""
        return cls._STRINGS.get(name, f"--dl-{name}" if name in cls._OPTIONS else f"--{name}")

    @staticmethod
    def with_header(options, args):
        """Return the options with the facts of the header of a command's data that the in-vivo model needs; say on
        stderr which time is missing."""
        if options.spectral_model != "in-vivo":
            return options
        import sys
        from dataclasses import replace

        from ..core.errors import FslMrsDlError, spelled
        from ..fitting.header_facts import time_notes, with_header
        from ..io.nifti import load_header

        try:
            about = load_header(args.data)
        except FslMrsDlError:
            return options  # FSL-MRS reports what is wrong with the file
        for note in time_notes(options, about):
            print(spelled(note, DlQuant.spelling), file=sys.stderr)
        # FSL-MRS puts basis sets on the data's grid itself, from the echo on.
        return replace(with_header(options, about), start_time_s=0.0)

    @staticmethod
    def warn(args) -> None:
        """Say on stderr if a command's data were denoised, which is noted in its arguments, too: FSL-MRS writes them to
        ``options.txt``.

        Raises
        ------
        DataError
            If FSL-MRS would read the data wrongly, or cannot use the water reference, because its FIDs are of another
            length.
        """

        from ..core.errors import DataError, FslMrsDlError
        from ..io.nifti import load_header

        try:
            data = load_header(args.data)
            water = load_header(args.h2o) if getattr(args, "h2o", None) else None
        except FslMrsDlError:
            return  # FSL-MRS reports what is wrong with the file
        if water is not None and water.stored_points != data.stored_points:
            raise DataError(
                f"{args.h2o}: its FIDs have {water.stored_points} points, those of {args.data} {data.stored_points}",
                remedy="FSL-MRS needs one length: cut the longer ones (fsl_mrs_proc truncate)",
            )
        _check_header(args, data)
        from ..preproc.denoise import warn

        warn(args, data.header)

    @classmethod
    def fit(cls, mrs, arguments: dict, options=None):
        """Fit one spectrum and return its ``FitRes``; see :func:`fsl_mrs_dl.fslmrs.fit.fit`."""
        from . import fit as fit_module

        return fit_module.fit(mrs, arguments, options)

    @classmethod
    def fit_batched(cls, voxels, arguments: dict, options=None, running: dict | None = None):
        """Iterate over voxels as FSL-MRS does, fitted ahead; see :func:`fsl_mrs_dl.fslmrs.fit.fit_batched`.

        ``running`` is the state of a command with its ``args``; the collector of maps is put there as ``volume``.
        """
        from ..fitting.options import FitOptions
        from . import fit as fit_module
        from . import volume as volume_module

        options, volume = options or FitOptions(spectral_model="fsl-mrs"), None
        if running is not None:
            args = running.get("args")
            reference = list(getattr(args, "internal_ref", None) or ["Cr", "PCr"])
            sums = ["+".join(names) for names in getattr(args, "combine", None) or ()]
            volume = running["volume"] = volume_module.VolumeMapCollector(reference, sums, options.estimate)
        return fit_module.fit_batched(voxels, arguments, options, volume)

    @classmethod
    def is_named(cls, word) -> bool:
        """Tell whether a word for an algorithm means this method: dlquant, DLQuant or dl-quant."""
        return str(word).lower().replace("-", "").replace("_", "") == cls.name

    @classmethod
    def fit_dynamic(cls, dyn, init: dict | None = None, x0=None):
        """Fit a series and return its ``dynRes``; see :func:`fsl_mrs_dl.fslmrs.dynamic.fit_dynamic`."""
        from . import dynamic as dynamic_module

        return dynamic_module.fit_dynamic(dyn, init, x0)

    @classmethod
    def initialise_dynamic(cls, dyn) -> dict:
        """Fit the spectra of a series one by one; see :func:`fsl_mrs_dl.fslmrs.dynamic.initialise_dynamic`."""
        from . import dynamic as dynamic_module

        return dynamic_module.initialise_dynamic(dyn)

    @classmethod
    def usable(cls, fids, mask):
        """Return the voxels of a mask ``(x, y, z)`` whose FIDs ``(x, y, z, n_points)`` are finite and not all zero.

        Raises
        ------
        DataError
            If there are none.
        """
        from ..core.errors import DataError
        from ..core.fids import UNUSABLE, usable_fids

        good = (mask != 0) & usable_fids(fids)
        if not good.any():
            raise DataError(
                f"every FID in the mask {UNUSABLE}",
                remedy="there is nothing to fit: check `data` and `mask`",
            )
        return good

    @classmethod
    def describe(cls, result) -> str:
        """Return the method in a sentence, for the methods section of reports."""
        if hasattr(result, "free_names"):
            from . import dynamic as dynamic_module

            return dynamic_module.describe_dynamic(result)
        from . import result as result_module

        return result_module.describe_fit(result)


# Up to here FSL-MRS's window and shifts serve, and its first-order phase makes up for a late start.
_MOST_MOVED_PPM, _LATEST_S = 0.1, 1e-3


def _check_header(args, data) -> None:
    """Raise DataError where keys of the header that FSL-MRS ignores would make it read the data wrongly."""
    from ..core.errors import DataError
    from ..io.header_keys import start_time_s
    from ..io.nifti import points_before_echo

    remedy = "fit it with fsl_mrs_dl fit or mrsi, which read the header"
    moved_ppm, start = data.moved_hz / data.spec_freq_mhz, start_time_s(data.header)
    if abs(moved_ppm) > _MOST_MOVED_PPM:
        raise DataError(
            f"{args.data}: the middle of its spectra is at {data.usual_ppm + moved_ppm:g} ppm (SpecFreqChemShift,"
            f" RxOffset), which FSL-MRS takes for {data.usual_ppm:g} ppm",
            remedy=remedy,
        )
    latest = 0.01 * data.dwelltime if getattr(args, "dl_spectral_model", None) == "in-vivo" else _LATEST_S
    if points_before_echo(data) or start > latest:
        raise DataError(
            f"{args.data}: its FIDs begin {1e3 * abs(start):g} ms {'before' if start < 0 else 'after'} the echo"
            " (AcquisitionStartTime), which FSL-MRS ignores",
            remedy=remedy,
        )


class one_line_errors:
    """Context in which errors for the user end the command with their one line and status 2, without a traceback.

    Parameters
    ----------
    command : str
        What the line begins with.
    add_arguments : callable, optional
        Adds the command's options to an argparse parser; errors spell them so.
    """

    def __init__(self, command: str, add_arguments=None):
        self.command, self.add_arguments = command, add_arguments

    def __enter__(self):
        return self

    def __exit__(self, kind, exc, traceback):
        # By name: the end of a --help is an exception too, and need not load a module to be let through.
        if any(cls.__name__ == "FslMrsDlError" for cls in getattr(kind, "__mro__", ())):
            import argparse
            import sys

            from ..core.errors import spelling_of
            from ..core.topics import hint

            if self.add_arguments is None:
                text = exc.text(DlQuant.spelling)
            else:
                parser = argparse.ArgumentParser(add_help=False)
                self.add_arguments(parser)
                text = exc.text(spelling_of(parser))
            print(f"{self.command}: error: {text} {hint(exc)}", file=sys.stderr)
            raise SystemExit(2) from exc
