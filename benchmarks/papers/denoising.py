"""What a denoiser does to spectra, and what that is worth to a fit: simulated spectra, denoised or not, quantified
against their truth.

The question and the answer to expect are those of Dziadosz et al., Denoising MR spectra by deep learning: miracle or
mirage?, Proc ISMRM 2022,
2541.  Spectra are those of the physics-informed quantification paper (recipe 'shamaei-table2',
       doi 10.1016/j.compbiomed.2023.106837) on a simulated basis set, in which the fitted model is exactly right:
       whatever the intervals miss, denoising made them miss.
"""

from __future__ import annotations

import json
import platform
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.papers.quantification_data import make_set
from benchmarks.papers.quantification_measures import fit_set, slopes
from fsl_mrs_dl.core import units
from fsl_mrs_dl.core.errors import OptionError, OutputError
from fsl_mrs_dl.fitting import uncertainty
from fsl_mrs_dl.io.basis import Basis
from fsl_mrs_dl.io.files import claim, fingerprint
from fsl_mrs_dl.io.output import put_in_place
from fsl_mrs_dl.networks import model_cards
from fsl_mrs_dl.physics.macromolecules import add_macromolecules
from fsl_mrs_dl.simulation import protocols, random_spectra, recipes
from fsl_mrs_dl.simulation.acquisition import simulate_basis

__all__ = [
    "SCALES",
    "SNRS",
    "Compared",
    "default_basis",
    "train_network",
    "spectrum_errors",
    "compare_fits",
    "write_denoise",
]

SNRS = (5, 10, 20, 40)
"""Highest metabolite peak over the noise SD of the real spectrum."""


@dataclass(frozen=True)
class Scale:
    """How large a benchmark is: the network, its training, and the spectra fitted at each SNR."""

    network: dict
    steps: int
    batch_size: int
    test: int


SCALES = {
    "small": Scale({"channels": 16, "kernel": 16, "layers": 4}, 1800, 64, 256),
    "paper": Scale({"channels": 64, "kernel": 32, "layers": 6}, 40000, 128, 2048),
}
"""'small' takes minutes on a core; 'paper' has the network as large as published and wants a GPU."""

_NAMES = "Ala Asp Cr GABA GPC GSH Glc Gln Glu Gly Ins Lac NAA NAAG PCh PCr PE Tau Scyllo".split()
_SHOWN = "NAA Cr Glu Ins Tau GPC GSH GABA Lac".split()
_TRAINED_AT = {"loguniform": [3, 100]}
_BEYOND = 1.5
_RAW, _OUT, _PRIOR, _INK = "#c2571a", "#1f5fa8", "#009E73", "#222222"


def default_basis(n_points: int = 1024) -> Basis:
    """Nineteen metabolites and macromolecules, 3 T, PRESS, TE 30 ms, 2000 Hz."""
    return add_macromolecules(
        simulate_basis(_NAMES, te_ms=30.0, bandwidth_hz=2000.0, n_points=n_points, fwhm_hz=2.0), "summed"
    )


def _recipe() -> recipes.Recipe:
    """What the network is trained on: the test spectra's recipe at SNRs that hold all those tested."""
    return recipes.Recipe.of("denoise", recipes.Recipe.load("shamaei-table2").content | {"snr": _TRAINED_AT})


def train_network(
    basis: Basis, folder: Path, scale: Scale, *, seed: int = 0, progress: bool = False
) -> model_cards.Card:
    """Train the denoiser of the benchmark, or read it where it was trained before; a training that was interrupted goes
    on."""
    from fsl_mrs_dl.training.denoiser import DenoiserTraining
    from fsl_mrs_dl.training.settings import Settings
    from fsl_mrs_dl.training.trainer import train

    if (folder / "card.json").is_file():
        return model_cards.read_card(folder)
    settings = Settings(
        steps=scale.steps,
        batch_size=scale.batch_size,
        learning_rate=2e-3,
        validate_every=max(5, scale.steps // 10),
        seed=seed,
        progress=progress,
        device="cuda" if torch.cuda.is_available() else "cpu",
    )
    with tempfile.TemporaryDirectory() as place:
        recipe = Path(place) / "denoise.json"
        recipe.write_text(json.dumps(_recipe().content))
        training = DenoiserTraining(
            basis, settings=settings, n_points=basis.n_points, network_settings=scale.network, recipe=recipe
        )
        return train(
            training,
            folder,
            name="denoiser",
            resume=(folder / "checkpoints" / "last.ckpt").is_file(),
            command="python -m benchmarks denoise",
        )


def denoised(network, fids: np.ndarray) -> np.ndarray:
    """FIDs ``(n, n_points)`` with less noise, in chunks."""
    with torch.no_grad():
        return np.concatenate(
            [network(torch.as_tensor(part)).numpy() for part in np.array_split(fids, -(-len(fids) // 256))]
        )


# -- what is measured ----------------------------------------------------------------------------------------------


def spectrum_errors(
    network, basis: Basis, snr: float, *, n: int = 32, repeats: int = 32, seed: int = 0
) -> tuple[float, float]:
    """Root mean square error of denoised spectra in the window, and its part that is the same whatever the noise, over
    that of raw ones.

    ``n`` spectra are denoised with ``repeats`` draws of noise each; the second number is the bias, freed from the noise
    left in a mean of so many.
    """
    protocol = protocols.protocol_of(basis.fids, basis.names, basis.axes)
    recipe = recipes.Recipe.of("denoise", _recipe().content | {"snr": snr})
    made = random_spectra.render(
        random_spectra.draw(recipe, n, basis.names, torch.Generator().manual_seed(seed)), protocol, noise=False
    )
    clean, random = made.fid.numpy().astype(complex), np.random.default_rng(seed)
    inside, errors = network.inside(clean.shape[-1]), []
    spectrum = lambda fids: units.fid_to_spec(fids)[:, inside] / made.noise_sd.numpy()[:, None]  # noqa: E731
    raw = []
    for _ in range(repeats):
        noise = random.standard_normal((2, *clean.shape)) * made.noise_sd.numpy()[:, None]
        fids = clean + noise[0] + 1j * noise[1]
        raw.append(np.mean(np.abs(spectrum(fids) - spectrum(clean)) ** 2))
        errors.append(spectrum(denoised(network, fids)) - spectrum(clean))
    errors, size = np.array(errors), np.mean(raw)
    scatter = np.mean(np.abs(errors - errors.mean(0)) ** 2) * repeats / (repeats - 1)
    bias = max(0.0, np.mean(np.abs(errors.mean(0)) ** 2) - scatter / repeats)
    return float(np.sqrt(np.mean(np.abs(errors) ** 2) / size)), float(np.sqrt(bias / size))


@dataclass(frozen=True)
class Compared:
    """Fits against the truth, arrays by metabolite: error (root mean square), stated SD (the same), share of 95 %
    intervals that hold the truth, and slope of estimate on truth, which is below one where estimates lean towards the
    middle; ``misfit`` is the median of residual over noise."""

    error: np.ndarray
    sd: np.ndarray
    coverage: np.ndarray
    slope: np.ndarray
    misfit: float


def _compared(conc, sd, low, high, truth, misfit) -> Compared:
    return Compared(
        error=np.sqrt(np.mean((conc - truth) ** 2, 0)),
        sd=np.sqrt(np.mean(sd**2, 0)),
        coverage=np.mean((low <= truth) & (truth <= high), 0),
        slope=slopes(conc, truth),
        misfit=float(np.median(misfit)),
    )


def compare_fits(network, basis: Basis, snr: float, n: int, seed: int, widen: float = 1.0) -> dict[str, Compared]:
    """Fits of the same spectra: 'raw', 'denoised', and 'posterior', the raw data's with the recipe's ranges as a prior.

    With ``widen`` above one concentrations are drawn from zero to so many times the upper end of the range that the
    network was trained on.
    """
    data = make_set(basis, n, seed, snr=snr, widen=widen)
    found = {}
    for name, fids in (("raw", data["fid"]), ("denoised", denoised(network, data["fid"]))):
        fit = fit_set(basis, {**data, "fid": fids}, prior="shamaei-table2" if name == "raw" else "none")
        low, high = np.transpose([fit.interval([column]) for column in range(basis.n_metabs)], (1, 2, 0))
        found[name] = _compared(fit.conc, fit.crlb_sd, low, high, data["conc"], fit.misfit)
        if name == "raw":
            mean, cov = fit.estimate("posterior_mean")
            sd = np.sqrt(np.clip(np.diagonal(cov, axis1=1, axis2=2), 0, None))
            half = uncertainty.Z95 * sd
            found["posterior"] = _compared(mean, sd, mean - half, mean + half, data["conc"], fit.misfit)
    return found


# -- the report ----------------------------------------------------------------------------------------------------


def write_denoise(
    output: str | Path,
    *,
    scale: str = "small",
    steps: int | None = None,
    n_test: int | None = None,
    seed: int = 0,
    say: Callable[[str], None] = print,
) -> Path:
    """Train the network unless it is there, measure everything, and write ``table.md`` and ``denoise.png``, both or
    none.

    Parameters
    ----------
    output : path
        The trained network stays in ``output/models`` and is loaded from there the next time.
    scale : str
        One of :data:`SCALES`.
    steps, n_test : int, optional
        In place of the scale's.
    seed : int
    say : callable

    Raises
    ------
    OptionError, OutputError
    """
    if scale not in SCALES:
        raise OptionError("there is no such scale", option="scale", value=scale, remedy=f"choose {' or '.join(SCALES)}")
    chosen = SCALES[scale]
    size = replace(chosen, steps=steps or chosen.steps, test=n_test or chosen.test)
    output, basis = Path(output), default_basis()
    folder = output / "models" / "denoiser"
    claim(
        output,
        {
            "scale": scale,
            "steps": steps,
            "seed": seed,
            "data and network": fingerprint(repr(chosen), _recipe().content, _NAMES),
        },
    )
    folder.mkdir(exist_ok=True)
    if not (folder / "card.json").is_file():
        say(f"Training the denoiser, {size.steps} batches of {size.batch_size}; it is kept in {folder}.")
        train_network(basis, folder, size, seed=seed)
    network, card = model_cards.load(folder)
    spectra, fits, beyond = {}, {}, {}
    other = seed * 1_000_003  # where trainings count from, which these are far away from
    for snr in SNRS:
        say(f"Measuring at SNR {snr}.")
        spectra[snr] = spectrum_errors(network, basis, snr, seed=other + 1_000_003 + snr)
        fits[snr] = compare_fits(network, basis, snr, size.test, other + 2_000_003 + snr)
        beyond[snr] = compare_fits(network, basis, snr, size.test, other + 3_000_003 + snr, _BEYOND)
    command = f"python -m benchmarks denoise --scale {scale}"
    command += f" --steps {steps}" if steps else ""
    command += f" --test {n_test}" if n_test else ""
    text = _text(f"{command} --seed {seed}", basis, card, size, spectra, fits, beyond)
    parts = [output / f".{name}.part" for name in ("denoise.png", "table.md")]
    try:
        _figure(parts[0], network, basis, fits, seed)
        parts[1].write_text(text)
        for part, name in zip(parts, ("denoise.png", "table.md")):
            put_in_place(part, output / name)
    except OSError as exc:
        raise OutputError(f"{output}: cannot be written ({exc.strerror}); choose another --output.") from exc
    finally:
        for part in parts:
            part.unlink(missing_ok=True)
    return output / "table.md"


def _text(command: str, basis: Basis, card, size: Scale, spectra: dict, fits: dict, beyond: dict) -> str:
    done = card["training"]
    lines = [
        "# Denoising, and what it is worth to a fit\n",
        (
            f"Made by `{command}`, {torch.get_num_threads()} threads of a {platform.machine()} CPU, torch"
            f" {torch.__version__}, numpy {np.__version__}. Network: {card['architecture']['parameters']} parameters,"
            f" {done['steps']} batches of {done['batch_size']}, {done['minutes']:g} minutes on {done['device']}, seed"
            f" {done['seed']}, SHA-256 {card['sha256'][:16]}.\n"
        ),
        (
            "Data: recipe `shamaei-table2` on a simulated basis set of 19 metabolites and macromolecules (3 T, PRESS,"
            " TE 30 ms, 2000 Hz, 1024 points). The network is trained on the same recipe, SNR"
            f" {_TRAINED_AT['loguniform'][0]} to {_TRAINED_AT['loguniform'][1]}: the best case for a denoiser, spectra"
            " of the kind it knows. SNR is the highest metabolite peak over the noise SD of the real spectrum.\n"
        ),
        "## Spectra\n",
        (
            "Root mean square error between 0.2 and 4.2 ppm in percent of the raw spectrum's, whose error is the noise;"
            " 'bias' is the part of it that is the same whatever the noise (32 spectra with 32 draws of noise each).\n"
        ),
        "| SNR | error left (%) | of it bias (%) |",
        "|---|---|---|",
        *(f"| {snr} | {100 * error:.0f} | {100 * bias:.0f} |" for snr, (error, bias) in spectra.items()),
        "",
        "## Fits\n",
        (
            f"{size.test} spectra at each SNR, fitted to the maximum of the likelihood with the model they were made"
            " with (Lorentzian, no baseline), raw and denoised; 'with prior' is the posterior mean of the raw data,"
            " which is told the recipe's ranges openly. Error: root mean square against the truth over that of the raw"
            " fit; stated SD over actual error (1 is honest); share of 95 % intervals that hold the truth. Geometric"
            " mean, median and mean over 19 metabolites. 'Residual' is residual over noise, median. Concentrations are"
            " never negative, which is why errors of weak metabolites in raw data are smaller than their SDs.\n"
        ),
        *_summary(basis, fits),
        "",
        (
            f"The same for spectra beyond what the network has seen: concentrations from zero to {_BEYOND:g} times the"
            " upper end of the range. A prior that is wrong misleads as well; it is stated, and `prior_conflict` marks"
            " where the data contradict it.\n"
        ),
        *_summary(basis, beyond),
    ]
    names = ("raw", "denoised", "posterior")
    for snr in (10, 40):
        lines += [
            "",
            (
                f"At SNR {snr}, by metabolite, in the recipe's units: error of raw and denoised, stated SD, share of"
                " intervals that hold the truth, and slope of estimate on truth (below 1: estimates lean towards the"
                " middle of the range, whatever is there).\n"
            ),
            (
                "| | error, raw | denoised | with prior | SD, raw | denoised | intervals, raw (%) | denoised | slope,"
                " raw | denoised | with prior |"
            ),
            "|" + "---|" * 11,
        ]
        for name in _SHOWN:
            at, one = basis.names.index(name), fits[snr]
            values = [one[kind].error[at] for kind in names] + [one[kind].sd[at] for kind in names[:2]]
            held = [100 * one[kind].coverage[at] for kind in names[:2]]
            tilt = [one[kind].slope[at] for kind in names]
            lines.append(
                f"| {name} | "
                + " | ".join(f"{value:.3g}" for value in values)
                + " | "
                + " | ".join(f"{value:.0f}" for value in held)
                + " | "
                + " | ".join(f"{value:.2f}" for value in tilt)
                + " |"
            )
    lines += ["", "![A spectrum, errors and intervals](denoise.png)", ""]
    return "\n".join(lines)


def _summary(basis: Basis, fits: dict) -> list[str]:
    """The table of all SNRs, over the metabolites together."""
    lines = [
        (
            "| SNR | error, denoised | error, with prior | stated SD, raw | denoised | with prior | intervals, raw (%)"
            " | denoised | with prior | residual, raw | denoised |"
        ),
        "|" + "---|" * 11,
    ]
    metabolites, names = _metabolites(basis), ("raw", "denoised", "posterior")
    for snr, one in fits.items():
        error = {name: one[name].error[metabolites] for name in names}
        ratio = [np.exp(np.mean(np.log(error[name] / error["raw"]))) for name in names[1:]]
        honest = [np.median(one[name].sd[metabolites] / error[name]) for name in names]
        held = [100 * np.mean(one[name].coverage[metabolites]) for name in names]
        lines.append(
            f"| {snr} | "
            + " | ".join(f"{value:.2f}" for value in (*ratio, *honest))
            + " | "
            + " | ".join(f"{value:.0f}" for value in held)
            + f" | {one['raw'].misfit:.2f} | {one['denoised'].misfit:.2f} |"
        )
    return lines


def _metabolites(basis: Basis) -> list[int]:
    """Columns of metabolites; macromolecules have a unit of their own."""
    return [column for column, name in enumerate(basis.names) if name != "mm"]


def _figure(path: Path, network, basis: Basis, fits: dict, seed: int) -> None:
    """One spectrum raw, denoised and true; errors of fits, raw against denoised; intervals that hold the truth."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    spectrum, errors, held = figure.subplots(1, 3, width_ratios=(1.5, 1, 1))
    protocol = protocols.protocol_of(basis.fids, basis.names, basis.axes)
    recipe = recipes.Recipe.of("denoise", _recipe().content | {"snr": 10, "phase_deg": 0})
    made = random_spectra.render(
        random_spectra.draw(recipe, 1, basis.names, torch.Generator().manual_seed(seed + 7)), protocol
    )
    inside = network.inside(basis.n_points)
    ppm = units.ppm_axis(basis.n_points, basis.dwelltime, basis.spec_freq_mhz)[inside]
    raw, clean = (
        units.fid_to_spec(one.numpy())[0, inside].real for one in (made.fid, made.metabolites + made.nuisance)
    )
    out = units.fid_to_spec(denoised(network, made.fid.numpy()))[0, inside].real
    step = 1.05 * raw.max()
    for line, colour, text, up in (
        (raw, _RAW, "raw,\nSNR 10", 2),
        (out, _OUT, "denoised", 1),
        (clean, _INK, "truth", 0),
        (out - clean, "#888888", "denoised\nless truth", -0.35),
    ):
        spectrum.plot(ppm, line + up * step, color=colour, lw=1)
        spectrum.text(0.12, up * step + line[:8].mean(), text, color=colour, fontsize=9, va="center")
    spectrum.set_xlim(4.2, -0.75)
    spectrum.set_xticks([4, 3, 2, 1])
    spectrum.set_yticks([])
    spectrum.set_xlabel("chemical shift (ppm)")
    spectrum.set_title("It looks better", loc="left", fontsize=11)
    metabolites = _metabolites(basis)
    for snr, shade in zip(fits, (0.35, 0.55, 0.75, 1.0)):
        one = fits[snr]
        errors.loglog(
            one["raw"].error[metabolites],
            one["denoised"].error[metabolites],
            "o",
            ms=4,
            color=_OUT,
            alpha=shade,
            label=f"SNR {snr}",
        )
    limits = [min(errors.get_xlim()[0], errors.get_ylim()[0]), max(errors.get_xlim()[1], errors.get_ylim()[1])]
    errors.plot(limits, limits, color="#888888", lw=0.8)
    ticks = [tick for tick in (0.1, 0.2, 0.5, 1, 2, 5, 10) if limits[0] < tick < limits[1]]
    errors.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    errors.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    errors.minorticks_off()
    errors.set(xlim=limits, ylim=limits, xlabel="error of the fit, raw", ylabel="error of the fit, denoised")
    errors.legend(frameon=False, fontsize=8)
    errors.set_title("Concentrations against truth", loc="left", fontsize=11)
    for name, colour, text in (
        ("raw", _RAW, "raw"),
        ("denoised", _OUT, "denoised"),
        ("posterior", _PRIOR, "raw, with prior"),
    ):
        held.plot(
            list(fits),
            [100 * np.mean(one[name].coverage[metabolites]) for one in fits.values()],
            "o-",
            color=colour,
            label=text,
        )
    held.axhline(95, color="#888888", lw=0.8, ls="--")
    held.set_xscale("log")
    held.set_xticks(list(fits), [str(snr) for snr in fits])
    held.minorticks_off()
    held.set(ylim=(0, 103), xlabel="SNR", ylabel="95 % intervals that hold the truth (%)")
    held.legend(frameon=False, fontsize=8, loc="lower left")
    held.set_title("What the intervals are worth", loc="left", fontsize=11)
    for one in (spectrum, errors, held):
        one.spines[["top", "right"]].set_visible(False)
    spectrum.spines["left"].set_visible(False)
    figure.savefig(path, dpi=130, format="png")
