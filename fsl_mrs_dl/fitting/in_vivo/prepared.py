"""All that the fits of a study share: :class:`PreparedModel`, for files and other processes as JSON and arrays."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import torch

from ...core.axes import Axes
from ...physics.coarse_window import CoarseWindow
from ...physics.in_vivo_components import Components, priors_table
from ...physics.in_vivo_model import InVivoModel
from ...physics.nuisance import NuisanceSpace, Whitening, whitened_baseline
from ...physics.smooth_baseline import SmoothBaseline, make_smooth_baseline
from ..nuisance import StrengthChoice
from ..serialise import Plain
from .population import Population
from .ratios import ConcentrationPrior
from .water_reference import WaterUse

__all__ = [
    "NuisanceOperators",
    "PreparedModel",
    "plain_prepared",
    "restored_prepared",
    "smooth_baseline_of",
    "whole_baseline_of",
]

_FREE = 1e4  # strength of what has no prior, where the strengths of nuisances are chosen


@dataclass(frozen=True)
class PreparedModel:
    """What is settled before the first spectrum of a study is fitted.

    Attributes
    ----------
    model : InVivoModel
        With its window, and the priors of the study where these were learnt.
    baseline : SmoothBaseline
        In the window.
    axes : Axes
        Of the data, of which the window may take fewer points.
    ppmlim : (float, float)
        Fitted window.
    basis_scale : ndarray ``(n_metabs,)``
        Factors of the basis spectra before the fit.
    whole_baseline : SmoothBaseline, optional
        In the window of whole spectra, for those that are shown.
    init : str
        Initial values of the fits, one of :data:`fsl_mrs_dl.fitting.automatic_initialisation.INITIALISATIONS`.
    concentrations : ConcentrationPrior
        Of the estimate.
    water_use : WaterUse, optional
        Properties that are taken from a water reference; None without one.
    water_note : str
        The same in words, with the reason.
    places_note : str
        Why macromolecules and lipids are at their places beside a basis set that is not; empty where they go with it.
    nuisance : NuisanceSpace, optional
        Signals that leak into the spectra, normalised in the window; None for none.
    population : Population, optional
        What was learnt of the volume that the spectra are from; None where nothing was.
    """

    model: InVivoModel
    baseline: SmoothBaseline
    axes: Axes
    ppmlim: tuple[float, float]
    basis_scale: np.ndarray
    whole_baseline: SmoothBaseline | None = None
    init: str = "classical"
    concentrations: ConcentrationPrior = ConcentrationPrior()
    water_use: WaterUse | None = None
    water_note: str = ""
    places_note: str = ""
    nuisance: NuisanceSpace | None = None
    population: Population | None = None

    def to(self, device: str | torch.device) -> PreparedModel:
        """Return it with the model on a device."""
        tensors: dict[str, Any] = {name: tensor.to(device) for name, tensor in _tensors(self.model).items()}
        return replace(self, model=replace(self.model, **tensors))

    @cached_property
    def nuisance_operators(self) -> NuisanceOperators | None:
        """Whitening and baseline of every state of the nuisances; None without."""
        return None if self.nuisance is None else NuisanceOperators(self)

    def with_whole_baseline(self) -> PreparedModel:
        """Return it with the baseline of whole spectra: computed once, it is the same to the last digit everywhere."""
        first, last = self.axes.window(self.ppmlim)
        return replace(self, whole_baseline=whole_baseline_of(self.axes.ppm()[first:last], self.axes.nucleus))


class NuisanceOperators:
    """Whitening and baseline for each state of a prepared model's nuisances, computed when they are needed.

    Parameters
    ----------
    prepared : PreparedModel
    """

    def __init__(self, prepared: PreparedModel):
        self.prepared = prepared
        window, baseline = prepared.model.window, prepared.baseline
        about = priors_table()["baseline"]
        middle = about["strengths"][len(about["strengths"]) // 2]
        smooth = middle * np.sqrt(baseline.values) * baseline.vectors
        assert prepared.nuisance is not None
        self.space = prepared.nuisance
        self.choice = StrengthChoice(self.space, window.transform, np.concatenate([_FREE * baseline.free, smooth], 1))
        self._parts: dict[int, tuple[Whitening, SmoothBaseline]] = {}

    def of_state(self, state: int) -> tuple[Whitening, SmoothBaseline]:
        """Return whitening and baseline in the window of the fit."""
        if state not in self._parts:
            whitening = Whitening.of(self.space.root(state, self.prepared.model.window.transform))
            self._parts[state] = whitening, whitened_baseline(self.prepared.baseline, whitening)
        return self._parts[state]


def smooth_baseline_of(ppm: np.ndarray, nucleus: str) -> SmoothBaseline:
    """Return the baseline of the table of priors at points ``ppm``."""
    about = priors_table()["baseline"]
    lengths = tuple(map(tuple, about["lengths_ppm"]))
    return make_smooth_baseline(ppm, lengths, tails=(about["tail_ppm"],) if nucleus == "1H" else ())


def whole_baseline_of(ppm: np.ndarray, nucleus: str) -> SmoothBaseline:
    """Return the same baseline; the last few are kept."""
    return _kept_baseline(ppm.tobytes(), nucleus)


@lru_cache(maxsize=4)
def _kept_baseline(ppm: bytes, nucleus: str) -> SmoothBaseline:
    return smooth_baseline_of(np.frombuffer(ppm, float), nucleus)


def plain_prepared(prepared: PreparedModel) -> Plain:
    """Return a :class:`PreparedModel` as JSON and arrays."""
    model = prepared.model
    components, window = model.components, model.window
    arrays = {f"model.{name}": tensor.cpu().numpy() for name, tensor in _tensors(model).items()}
    parts: dict[str, Any] = {"components": components, "window": window, "baseline": prepared.baseline}
    if prepared.whole_baseline is not None:
        parts["whole_baseline"] = prepared.whole_baseline
    if prepared.nuisance is not None:
        parts["nuisance"] = prepared.nuisance
    arrays["basis_scale"] = prepared.basis_scale
    for prefix, part in parts.items():
        values = {each.name: getattr(part, each.name) for each in fields(part)}
        arrays |= {f"{prefix}.{name}": value for name, value in values.items() if isinstance(value, np.ndarray)}
    about = {
        "names": list(components.names),
        "slices": {name: [block.start, block.stop] for name, block in model.slices.items()},
        "pivot": model.pivot,
        "least_gamma": model.least_gamma,
        "window": {name: int(getattr(window, name)) for name in ("first", "last", "n_coarse", "extra")},
        "n_used": int(window.axes.n_points),
        "axes": asdict(prepared.axes),
        "ppmlim": [float(limit) for limit in prepared.ppmlim],
        "init": prepared.init,
        "concentrations": asdict(prepared.concentrations),
        "water_use": prepared.water_use and asdict(prepared.water_use),
        "water_note": prepared.water_note,
        "places_note": prepared.places_note,
        "population": prepared.population and asdict(prepared.population),
    }
    return Plain(json.dumps(about), arrays)


def restored_prepared(plain: Plain) -> PreparedModel:
    """Return the model of :func:`plain_prepared`, on the CPU.

    Raises
    ------
    ValueError, KeyError, TypeError
        If something is missing or has another shape.
    """
    about = json.loads(plain.text)

    def part(prefix: str) -> dict:
        return {
            name.removeprefix(f"{prefix}."): values
            for name, values in plain.arrays.items()
            if name.startswith(f"{prefix}.")
        }

    axes = Axes(**about["axes"])
    window = CoarseWindow(axes=axes.with_points(about["n_used"]), **about["window"], **part("window"))
    model = InVivoModel(
        components=Components(names=tuple(about["names"]), **part("components")),
        window=window,
        pivot=about["pivot"],
        slices={name: slice(*block) for name, block in about["slices"].items()},
        least_gamma=about["least_gamma"],
        **{name: torch.as_tensor(values) for name, values in part("model").items()},
    )
    whole, nuisance, learnt = part("whole_baseline"), part("nuisance"), about["population"]
    prepared = PreparedModel(
        model=model,
        baseline=SmoothBaseline(**part("baseline")),
        axes=axes,
        ppmlim=(about["ppmlim"][0], about["ppmlim"][1]),
        basis_scale=plain.arrays["basis_scale"],
        whole_baseline=SmoothBaseline(**whole) if whole else None,
        init=about["init"],
        concentrations=ConcentrationPrior(**about["concentrations"]),
        water_use=about["water_use"] and WaterUse(**about["water_use"]),
        water_note=about["water_note"],
        places_note=about["places_note"],
        nuisance=NuisanceSpace(**nuisance) if nuisance else None,
        population=learnt and Population(**learnt | {"strengths": tuple(learnt["strengths"])}),
    )
    _check(prepared)
    return prepared


def _check(prepared: PreparedModel) -> None:
    """Raise ValueError if parts of a prepared model do not belong together."""
    model, window = prepared.model, prepared.model.window
    components, n = model.components, len(model.components.names)
    n_params = max(block.stop for block in model.slices.values())
    expected: dict[str, tuple[Any, tuple[int, ...]]] = {
        "basis": (model.basis, (n, len(window.time))),
        "time": (model.time, (len(window.time),)),
        "hz": (model.hz, (window.n_window,)),
        "gauss": (model.gauss, (n,)),
        "prior_mean": (model.prior_mean, (n_params,)),
        "prior_precision": (model.prior_precision, (n_params, n_params)),
        "components": (components.fids, (n, prepared.axes.n_points)),
        "kinds": (components.kinds, (n,)),
        "baseline": (prepared.baseline.vectors, (window.n_window, len(prepared.baseline.values))),
    }
    for name, (values, shape) in expected.items():
        if tuple(values.shape) != shape:
            raise ValueError(f"an in-vivo model whose '{name}' has shape {tuple(values.shape)}, not {shape}")


def _tensors(model: InVivoModel) -> dict[str, torch.Tensor]:
    """Return the tensors of a model by name."""
    values = {each.name: getattr(model, each.name) for each in fields(model)}
    return {name: value for name, value in values.items() if isinstance(value, torch.Tensor)}
