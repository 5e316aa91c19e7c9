"""The command ``fsl_mrs_dl simulate``."""

from __future__ import annotations

import json
from pathlib import Path

from .common import add_common_arguments, check_output, given_files, read_basis

__all__ = ["add_arguments"]


def add_arguments(parser) -> None:
    """Add the arguments of the command to its parser."""
    kinds = parser.add_subparsers(title="what", required=True, dest="what", metavar="WHAT")
    _add_basis(kinds)
    _add_svs(kinds)
    _add_spectra(kinds)
    _add_mrsi(kinds)


def _add_basis(kinds) -> None:
    basis = kinds.add_parser(
        "basis", help="a basis set", description="Simulate a basis set.", add_config_file_help=False
    )
    basis.add_argument("--output", required=True, type=Path, metavar="DIR", help="folder for the .json files")
    basis.add_argument(
        "--sequence",
        default="press",
        help=(
            "press (default), steam, slaser, special, spin-echo or fid; edited: mega-press, mega-slaser, hermes or"
            " hercules, with one basis set for each edit condition; pulses are ideal but for editing pulses and the"
            " refocusing pulses of press, mega-press, hermes and hercules"
        ),
    )
    basis.add_argument(
        "--TE", type=float, metavar="MS", help="echo time in ms (default 30; MEGA 68, HERMES and HERCULES 80)"
    )
    basis.add_argument("--TE1", type=float, metavar="MS", help="first echo time of press and its edited kinds in ms")
    basis.add_argument("--TM", type=float, metavar="MS", help="mixing time of steam in ms")
    basis.add_argument(
        "--refocusing",
        choices=("slice-selective", "ideal"),
        help="refocusing pulses of press and its edited kinds: as scanners have them, averaged over slices (default),"
        " or without duration",
    )
    basis.add_argument(
        "--edit", metavar="CONDITION", help="one edit condition only, as a plain basis set (on, off; A...)"
    )
    basis.add_argument(
        "--edit-pulse",
        choices=("sinc-gaussian", "ideal"),
        help="shape of editing pulses; ideal ones take no time and have a sharp band (default sinc-gaussian)",
    )
    basis.add_argument(
        "--edit-duration",
        dest="edit_duration_ms",
        type=float,
        metavar="MS",
        help="duration of editing pulses (default 15 ms, HERMES and HERCULES 20 ms)",
    )
    basis.add_argument(
        "--edit-bandwidth",
        dest="edit_bandwidth_hz",
        type=float,
        metavar="HZ",
        help="full width of the inverted band (default 1.24 over the duration, ideal 80 Hz)",
    )
    basis.add_argument(
        "--edit-ppm",
        type=float,
        nargs="+",
        metavar="PPM",
        help="centre of the editing pulses of MEGA's ON, and of OFF (default 1.9 7.5; GSH: 4.56)",
    )
    basis.add_argument(
        "--edit-delay",
        dest="edit_delay_ms",
        type=float,
        metavar="MS",
        help="time from a refocusing pulse to the middle of the editing pulse behind it (default (TE - TE1)/4)",
    )
    basis.add_argument("--field", type=float, default=3.0, help="field strength in tesla (default 3)")
    basis.add_argument("--frequency", type=float, help="spectrometer frequency in MHz, instead of --field")
    basis.add_argument("--bandwidth", type=float, default=2000.0, help="spectral width in Hz (default 2000)")
    basis.add_argument("--points", type=int, default=2048, help="number of points (default 2048)")
    basis.add_argument("--fwhm", type=float, default=2.0, help="line width in Hz (default 2)")
    basis.add_argument("--metabs", nargs="+", metavar="METAB", help="metabolites (default: twenty of the brain)")
    basis.add_argument(
        "--mm",
        choices=("parametric", "fsl-default", "summed"),
        help="add macromolecules: one basis spectrum a line, or one sum",
    )
    add_common_arguments(basis, device=False)
    basis.set_defaults(func=_simulate_basis)


def _add_svs(kinds) -> None:
    svs = kinds.add_parser(
        "svs", help="a single-voxel acquisition", description="Simulate an SVS.", add_config_file_help=False
    )
    svs.add_argument(
        "--basis",
        required=True,
        metavar="PATH",
        help="basis set it is made from; edited data from a folder with one for each edit condition",
    )
    svs.add_argument("--output", required=True, type=Path, metavar="DIR", help="folder for svs.nii.gz and truth.json")
    svs.add_argument("--transients", type=int, default=64, help="number of transients (default 64)")
    svs.add_argument("--snr", type=float, default=8.0, help="peak height over noise SD in one transient (default 8)")
    svs.add_argument("--seed", type=int, default=0, help="seed of the random numbers (default 0)")
    svs.add_argument(
        "--drift", type=float, nargs=2, default=(10.0, 40.0), metavar=("HZ", "DEG"), help="drift (default 10 40)"
    )
    svs.add_argument(
        "--TE", type=float, metavar="MS", help="echo time in ms for the header (default that of the basis set)"
    )
    add_common_arguments(svs, device=False)
    svs.set_defaults(func=_simulate_svs)


def _add_spectra(kinds) -> None:
    spectra = kinds.add_parser(
        "spectra",
        help="independent spectra of a recipe",
        description="Simulate independent spectra of a recipe, with their truth.",
        add_config_file_help=False,
    )
    spectra.add_argument("--basis", required=True, metavar="PATH", help="basis set they are made from")
    spectra.add_argument(
        "--output", required=True, type=Path, metavar="DIR", help="folder for spectra.nii.gz and truth.json"
    )
    spectra.add_argument(
        "--recipe",
        default="in-vivo",
        metavar="NAME",
        help="ranges of the spectra, as of fsl_mrs_dl train, or a JSON file of yours (default in-vivo)",
    )
    spectra.add_argument("--spectra", type=int, default=64, metavar="N", help="number of spectra (default 64)")
    spectra.add_argument("--seed", type=int, default=0, help="seed of the random numbers (default 0)")
    spectra.add_argument(
        "--TE",
        type=float,
        metavar="MS",
        help="echo time for the header and measured macromolecules (default that of the basis set, or 30 ms)",
    )
    add_common_arguments(spectra, device=False)
    spectra.set_defaults(func=_simulate_spectra)


def _add_concentrations_and_lipids(mrsi) -> None:
    """Add options of the brain's concentrations and of the scalp's lipids."""
    mrsi.add_argument(
        "--concentration-sd",
        dest="concentration_sd",
        type=float,
        default=0.0,
        metavar="X",
        help="SD of the logarithm of this head's concentrations about typical ones (default 0)",
    )
    mrsi.add_argument(
        "--lipid-height",
        dest="lipid_height",
        type=float,
        default=16.0,
        metavar="X",
        help="height of the scalp's lipids over the metabolites' (default: 16)",
    )
    mrsi.add_argument(
        "--k-filter",
        dest="k_filter",
        default="hamming",
        metavar="NAME",
        help="filter of k-space that lipids are spread by: hamming (default) or none, with which they ring",
    )


def _add_mrsi(kinds) -> None:
    mrsi = kinds.add_parser(
        "mrsi",
        help="MRSI of a head",
        description=(
            "Simulate MRSI of a head: spectra, structural image, tissue maps and everything they were made from."
        ),
        add_config_file_help=False,
    )
    mrsi.add_argument(
        "--output", required=True, type=Path, metavar="DIR", help="folder for mrsi.nii.gz, T1w.nii.gz and the rest"
    )
    mrsi.add_argument(
        "--basis",
        metavar="PATH",
        help=(
            "basis set it is made from (default: 20 metabolites and macromolecules, 3 T, semi-LASER, TE 35 ms, 2000 Hz)"
        ),
    )
    mrsi.add_argument(
        "--mm",
        metavar="WHAT",
        help="macromolecules to add to --basis, or instead of the default set's: as those of fsl_mrs_dl fit",
    )
    mrsi.add_argument(
        "--size", type=int, nargs=3, default=(32, 32, 10), metavar=("X", "Y", "Z"), help="voxels (default 32 32 10)"
    )
    mrsi.add_argument(
        "--fov",
        dest="fov_mm",
        type=float,
        nargs=3,
        metavar=("X", "Y", "Z"),
        help="size of the grid in mm (default 220 220 100, or less)",
    )
    mrsi.add_argument(
        "--points",
        dest="n_points",
        metavar="POINTS",
        type=int,
        default=1024,
        help="number of points of an FID (default 1024)",
    )
    mrsi.add_argument(
        "--snr",
        type=float,
        default=20.0,
        help="median in the brain of the height of a spectrum's largest metabolite peak over noise SD (default 20)",
    )
    mrsi.add_argument("--seed", type=int, default=0, help="seed of the random numbers, the anatomy's too (default 0)")
    mrsi.add_argument(
        "--b0",
        dest="b0_hz",
        type=float,
        default=30.0,
        metavar="HZ",
        help="largest B0 shift in the brain (default 30)",
    )
    mrsi.add_argument(
        "--water",
        type=float,
        default=1.0,
        metavar="FACTOR",
        help="residual water over the largest metabolite peak (default 1)",
    )
    mrsi.add_argument("--no-lipids", dest="lipids", action="store_false", help="a scalp without lipids")
    _add_concentrations_and_lipids(mrsi)
    mrsi.add_argument("--no-lesion", dest="lesion", action="store_false", help="a healthy brain")
    mrsi.add_argument(
        "--t1_mm", type=float, default=1.5, metavar="MM", help="voxel side of the structural image (default 1.5)"
    )
    mrsi.add_argument("--TE", type=float, metavar="MS", help="echo time for the header (default that of --basis)")
    add_common_arguments(mrsi, device=False)
    mrsi.set_defaults(func=_simulate_mrsi)


def _simulate_basis(args) -> None:
    from ..core.editing import EDITING_SCHEMES, usual_echo_time_ms
    from ..io import output as output_module
    from ..simulation import acquisition

    edited = args.sequence in EDITING_SCHEMES
    _check_edit_options(args, edited)
    check_output(args)
    if edited and args.edit is None:
        return _simulate_edited_basis(args)
    usual_ms = usual_echo_time_ms(args.sequence) if edited else None if args.sequence == "fid" else 30.0
    te_ms = usual_ms if args.TE is None else args.TE
    edit, pulse = _one_condition(args) if edited else (None, None)
    refocusing = _refocusing(args)
    basis = acquisition.simulate_basis(
        args.metabs,
        sequence=args.sequence,
        te_ms=te_ms,
        te1_ms=args.TE1,
        tm_ms=args.TM,
        edit=edit,
        edit_pulse=pulse,
        edit_delay_ms=args.edit_delay_ms,
        refocusing=refocusing,
        field_t=args.field,
        spec_freq_mhz=args.frequency,
        bandwidth_hz=args.bandwidth,
        n_points=args.points,
        fwhm_hz=args.fwhm,
        macromolecules=args.mm,
    )
    ideal = refocusing in (None, "ideal")
    if pulse is None:
        pulses = "ideal pulses" if ideal else f"{refocusing} refocusing pulses, excitation ideal"
    else:
        others = "other pulses ideal" if ideal else f"{refocusing} refocusing pulses, excitation ideal"
        pulses = f"editing pulse {pulse}, {others}"
    with output_module.folder_for(args.output, args.overwrite, given_files(args)) as folder:
        basis.save(folder, info=f"{args.sequence}, {'' if te_ms is None else f'TE {te_ms:g} ms, '}{pulses}.")
    print(f"Simulated {basis.n_metabs} basis spectra at {basis.spec_freq_mhz:.2f} MHz.\nWritten: {args.output}")


def _check_edit_options(args, edited: bool) -> None:
    """Refuse options of editing for other sequences, and those of one basis set for all conditions."""
    from ..core.editing import EDITING_SCHEMES, WITH_PRESS
    from ..core.errors import OptionError

    for option in ("edit", "edit_pulse", "edit_duration_ms", "edit_bandwidth_hz", "edit_ppm", "edit_delay_ms"):
        if getattr(args, option) is not None and not edited:
            raise OptionError(
                f"means nothing for {args.sequence}",
                option=option,
                remedy=f"leave it out, or choose `sequence` {', '.join(EDITING_SCHEMES)}",
            )
    if edited and args.edit is None and args.mm:
        raise OptionError(
            "is not for all conditions of edited data, whose pulses act on macromolecules",
            option="mm",
            remedy="leave it out, or give `edit`",
        )
    if args.refocusing is not None and args.sequence not in ("press", *WITH_PRESS):
        raise OptionError(f"means nothing for {args.sequence}", option="refocusing", remedy="leave it out")
    if edited and args.TM is not None:
        raise OptionError("is for steam", option="TM", value=f"{args.TM:g}", remedy="leave it out")


def _refocusing(args) -> str | None:
    """Return the kind of refocusing pulses, None for sequences that do not take one."""
    from ..core.editing import WITH_PRESS

    return args.refocusing or ("slice-selective" if args.sequence in ("press", *WITH_PRESS) else None)


def _edit_options(args) -> dict:
    """Return the options of editing pulses, by their keywords of ``simulate_edited_basis``."""
    return {
        "edit_pulse": args.edit_pulse or "sinc-gaussian",
        "edit_duration_ms": args.edit_duration_ms,
        "edit_bandwidth_hz": args.edit_bandwidth_hz,
        "edit_ppm": args.edit_ppm,
    }


def _one_condition(args) -> tuple:
    """Return the name of the edit condition that is asked for, and its pulse."""
    from ..core.editing import editing_pulses
    from ..core.errors import OptionError

    shape, duration_ms, bandwidth_hz, centres_ppm = _edit_options(args).values()
    pulses = editing_pulses(
        args.sequence, shape=shape, duration_ms=duration_ms, bandwidth_hz=bandwidth_hz, centres_ppm=centres_ppm
    )
    for name, pulse in pulses.items():
        if name.lower() == args.edit.lower():
            return name, pulse
    raise OptionError(
        f"is no edit condition of {args.sequence}",
        option="edit",
        value=args.edit,
        remedy=f"choose from {', '.join(pulses)}, or leave it out for all",
    )


def _simulate_edited_basis(args) -> None:
    from ..io import output as output_module
    from ..simulation.edited_basis import simulate_edited_basis

    refocusing = _refocusing(args)
    edited = simulate_edited_basis(
        args.metabs,
        args.sequence,
        te_ms=args.TE,
        te1_ms=args.TE1,
        field_t=args.field,
        spec_freq_mhz=args.frequency,
        bandwidth_hz=args.bandwidth,
        n_points=args.points,
        fwhm_hz=args.fwhm,
        edit_delay_ms=args.edit_delay_ms,
        refocusing=refocusing,
        **_edit_options(args),
    )
    assert edited.echo_time_s is not None  # of a simulated one
    pulses_info = "" if refocusing is None else f", {refocusing} refocusing pulses"
    with output_module.folder_for(args.output, args.overwrite, given_files(args)) as folder:
        edited.save(folder, info=f"{args.sequence}, TE {1e3 * edited.echo_time_s:g} ms{pulses_info}.")
    print(f"Simulated {edited.n_metabs} basis spectra at {edited.spec_freq_mhz:.2f} MHz.")
    for condition, pulses in zip(edited.conditions, edited.pulses):
        print(f"Condition {condition}: {pulses[0]}.")
    print(f"Written: {args.output}")


def _simulate_svs(args) -> None:
    from ..io import nifti
    from ..io import output as output_module
    from ..io.edited_basis import EditedBasis, is_edited_basis
    from ..simulation import acquisition

    check_output(args)
    acquired = acquisition.simulate_svs(
        EditedBasis.load(args.basis) if is_edited_basis(args.basis) else read_basis(args.basis),
        transients=args.transients,
        snr=args.snr,
        seed=args.seed,
        drift_hz=args.drift[0],
        drift_deg=args.drift[1],
        te_ms=args.TE,
    )
    with output_module.folder_for(args.output, args.overwrite, given_files(args)) as folder:
        nifti.save(folder / "svs.nii.gz", acquired.data)
        (folder / "truth.json").write_text(json.dumps(acquired.truth, indent=1), encoding="utf-8")
    conditions = acquired.truth.get("conditions", [])
    of_each = f" of each edit condition ({', '.join(conditions)})" if conditions else ""
    print(
        f"Simulated {args.transients} transients{of_each}, seed {args.seed}.\nWritten: {args.output}/svs.nii.gz,"
        f" {args.output}/truth.json"
    )


def _simulate_spectra(args) -> None:
    from ..io import nifti
    from ..io import output as output_module
    from ..simulation import recipe_spectra

    check_output(args)
    simulated = recipe_spectra.simulate_spectra(
        read_basis(args.basis), args.recipe, args.spectra, seed=args.seed, te_ms=args.TE
    )
    with output_module.folder_for(args.output, args.overwrite, given_files(args)) as folder:
        nifti.save(folder / "spectra.nii.gz", simulated.data)
        (folder / "truth.json").write_text(json.dumps(simulated.truth, indent=1), encoding="utf-8")
    print(
        f"Simulated {args.spectra} spectra of the recipe {simulated.truth['recipe']}, seed {args.seed}.\nWritten:"
        f" {args.output}/spectra.nii.gz, {args.output}/truth.json"
    )


def _simulate_mrsi(args) -> None:
    from ..io import output as output_module
    from ..physics.macromolecules import add_macromolecules, check_macromolecules
    from ..simulation import phantom

    inputs = given_files(args)
    # The folder is checked before the work is done.
    output_module.new_output_folder(args.output, args.overwrite, inputs)
    if args.mm:
        check_macromolecules(args.mm)
    basis = read_basis(args.basis) if args.basis else None
    if args.mm:
        basis = add_macromolecules(basis or phantom.default_basis(max(64, args.n_points), None), args.mm)
    options = phantom.PhantomOptions(
        size=args.size,
        n_points=args.n_points,
        snr=args.snr,
        seed=args.seed,
        lipids=args.lipids,
        lesion=args.lesion,
        b0_hz=args.b0_hz,
        water=args.water,
        fov_mm=args.fov_mm,
        t1_mm=args.t1_mm,
        te_ms=phantom.DEFAULT_TE_MS if args.TE is None and not args.basis else args.TE,
        lipid_height=args.lipid_height,
        k_filter=args.k_filter,
        concentration_sd=args.concentration_sd,
    )
    head = phantom.simulate_phantom(basis, options)
    with output_module.folder_for(args.output, args.overwrite, inputs) as folder:
        phantom.write_phantom(folder, head)
    x, y, z = head.mask.shape
    print(
        f"Simulated {x} x {y} x {z} voxels, {int(head.mask.sum())} of them brain, seed {args.seed}.\nWritten:"
        f" {args.output}/mrsi.nii.gz, T1w.nii.gz, mask.nii.gz, basis, truth and more, see {args.output}/truth.json"
    )
