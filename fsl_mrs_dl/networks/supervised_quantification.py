"""Supervised networks for quantification: an encoder learns concentrations from simulated spectra whose truth is known.

The family of Hatami et al. (doi 10.48550/arXiv.1806.07237), of scalograms and wavelet scattering (doi
10.5220/0010318502680275), and of Rizzo et al. (doi 10.1002/mrm.29561); which of them is a matter of the encoder.  They
learn the mean of what they were trained on where the data do not say better, as the last of these papers shows, and
they say nothing of shift, width or phase: a fit is the better answer, and starts without them.

Concentrations are scaled to what there is in the training data, 0 for the least and 1 for the most, and the last layer
is linear, so that numbers outside are possible.  FIDs are looked at, and concentrations meant, relative to the FID's
height in the window; hence the units of data and basis set do not matter.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from ..core import units
from ..core.errors import OptionError
from ..core.transients import normalised
from .encoders import ENCODERS
from .self_supervised_quantification import Ensemble, Quantifier

__all__ = [
    "METHODS",
    "NETWORKS",
    "STACKS",
    "Supervised",
    "Voting",
    "Stack",
    "SEARCHED",
    "stack_members",
    "SCORES",
    "scores",
    "pool_size",
    "hardest",
    "near",
]

_WATER_PPM, _WATER_FWHM_HZ = 0.5, 5.0
_WATER_HEIGHT = 0.5  # of the FID, in its first point


class Supervised(Quantifier):
    """An encoder that gives concentrations.

    Parameters
    ----------
    names, dwelltime, spec_freq_mhz, encoder, n_points, ppmlim
        As for :class:`fsl_mrs_dl.networks.self_supervised_quantification.Quantifier`.
    water : bool
        Add a line of known size at 0.5 ppm to every FID, learn its size along with the others, and count them in it:
        Rizzo et al.'s downscaled water peak (section 2.3), here half as high as the FID, so that it needs no unit.
        Ratios to tissue water are what ``--h2o`` makes of either.
    arguments : dict, optional
        More of the encoder, ``share`` for instance.

    Raises
    ------
    OptionError
        If the window has too few points, or does not hold the water line.
    """

    method = "supervised"

    def __init__(
        self,
        names,
        dwelltime: float,
        spec_freq_mhz: float,
        encoder: str = "hatami",
        n_points: int = 1024,
        ppmlim=(0.2, 4.2),
        water: bool = False,
        arguments: dict | None = None,
    ):
        super().__init__(names, dwelltime, spec_freq_mhz, encoder, n_points, ppmlim, len(names) + water, arguments)
        if water and not ppmlim[0] < _WATER_PPM < ppmlim[1]:
            raise OptionError(
                f"--water: its line is at {_WATER_PPM:g} ppm, outside of {ppmlim[0]:g} to {ppmlim[1]:g} ppm; leave it"
                " out."
            )
        self.settings |= {"water": bool(water), "arguments": arguments or {}}
        self.water = bool(water)
        hz = float(units.ppm_to_hz(_WATER_PPM, spec_freq_mhz))
        angle = 2 * torch.pi * hz * self.time
        line = self.limited(torch.polar(torch.exp(-torch.pi * _WATER_FWHM_HZ * self.time), angle)[None])[0]
        self.register_buffer("line_ri", _WATER_HEIGHT * torch.view_as_real(line / line.abs().max()), persistent=False)
        self.register_buffer("low", torch.zeros(self.n_out))
        self.register_buffer("span", torch.ones(self.n_out))

    @property
    def n_out(self) -> int:
        """Numbers it gives: one for each metabolite, and water's."""
        return len(self.names) + self.water

    @property
    def keeps_view(self) -> bool:
        """As :attr:`fsl_mrs_dl.networks.encoders.base.Encoder.keeps_view`."""
        return self.encoder.keeps_view

    @property
    def _paints(self) -> bool:
        """Whether the encoder gives spectra, which are integrated here."""
        return hasattr(self.encoder, "spectra")

    def set_range(self, fid: torch.Tensor, conc: torch.Tensor) -> None:
        """Take the range of numbers from simulated spectra: FIDs ``(batch, n)`` and their concentrations ``(batch,
        n_metabs)``."""
        x, height = self._seen(fid)
        truth = self._relative(fid, conc, height)
        # A metabolite's own spectrum is scaled from nothing, as its integral is.
        low = torch.zeros_like(truth[0]) if self._paints else truth.amin(0)
        span = truth.amax(0) - low
        self.low.copy_(low)
        self.span.copy_(torch.where(span > 0, span, torch.ones_like(span)))

    def _seen(self, fid: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """What the encoder looks at, complex ``(batch, n_points)``, and how many times smaller than prepared it is,
        ``(batch,)``."""
        x = self.prepared(fid)
        if not self.water:
            return x, torch.ones_like(x[:, 0].real)
        x = x + torch.view_as_complex(self.line_ri)
        return normalised(x, self.n_points), x.abs().amax(-1)

    def _relative(self, fid: torch.Tensor, conc: torch.Tensor, height: torch.Tensor) -> torch.Tensor:
        """Concentrations in what is seen, ``(batch, n_out)``; water's is the height of its line."""
        found = conc / (self.scale(fid) * height)[:, None]
        return torch.cat([found, _WATER_HEIGHT / height[:, None]], 1) if self.water else found

    def _templates(self) -> torch.Tensor:
        """What a number of one of each looks like to an encoder that gives spectra, over its largest, ``(n_out,
        n_seen)``."""
        fids = torch.cat([self.limited(torch.complex(*self.basis_ri)), torch.view_as_complex(self.line_ri)[None]])[
            : self.n_out
        ]
        seen = self.encoder.view(torch.stack([fids.real, fids.imag], 1))[:, 0]
        return seen / seen.abs().amax(-1, keepdim=True).clamp(min=1e-30)

    def numbers(self, fid: torch.Tensor) -> torch.Tensor:
        """The encoder's numbers for FIDs ``(batch, n)``: 0 is the least and 1 the most of the training data, ``(batch,
        n_out)``."""
        return self._numbers_of(self.views(fid))

    def _numbers_of(self, views: torch.Tensor) -> torch.Tensor:
        if not self._paints:
            # Begins in the middle of what there is.
            return (self.encoder.layers(views) if self.keeps_view else self.encoder(views)) + 0.5
        # The integral of every spectrum, taken with the sign it should have: lines of both signs would cancel.
        templates = self._templates()
        return (self.encoder.spectra(views) * templates.sign()).sum(-1) / templates.abs().sum(-1)

    def amounts(self, fid: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
        """Concentrations for a prepared FID ``(batch, n_metabs)`` from such numbers."""
        found = numbers * self.span + self.low
        if not self.water:
            return found
        found, water = found[:, :-1], found[:, -1:]
        # A network that sees little of a line that is always there has learnt nothing; its ratios must not run away.
        return found / water.clamp(min=0.1 * _WATER_HEIGHT) * _WATER_HEIGHT

    def forward(self, fid: torch.Tensor) -> dict[str, torch.Tensor]:
        """FIDs -> ``conc`` ``(batch, n_metabs)`` for a :meth:`prepared` FID."""
        return {"conc": self.amounts(fid, self.numbers(fid))}

    def targets(self, fid: torch.Tensor, conc: torch.Tensor) -> torch.Tensor:
        """What :meth:`numbers` should be, ``(batch, n_out)``."""
        return self._scaled(fid, conc, self._seen(fid)[1])

    def _scaled(self, fid: torch.Tensor, conc: torch.Tensor, height: torch.Tensor) -> torch.Tensor:
        return (self._relative(fid, conc, height) - self.low) / self.span

    def views(self, fid: torch.Tensor) -> torch.Tensor:
        """What the encoder looks at of FIDs ``(batch, n)``, or, where it ``keeps_view``, makes of that before anything
        that is trained."""
        return self._viewed(self._seen(fid)[0])

    def _viewed(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.stack([x.real, x.imag], 1)
        return self.encoder.view(x) if self.keeps_view else x

    def loss_of_views(self, views: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """As :meth:`loss`, from :meth:`views` and :meth:`targets`."""
        if not self._paints:
            return (self._numbers_of(views) - targets).square().mean()
        templates = self._templates()
        apart = self.encoder.spectra(views) - targets[..., None] * templates
        return (apart.square().sum(-1) / templates.square().sum(-1)).mean()

    def loss_on(self, views: torch.Tensor, targets: torch.Tensor) -> Callable[[], torch.Tensor]:
        """:meth:`loss_of_views` of the same spectra, to be asked for time after time, of an encoder that
        ``keeps_view``.

        What its first layers make of them, which nothing in a training at its end changes, is worked out once.
        """
        n = next(at for at, layer in enumerate(self.encoder.layers) if next(layer.parameters(), None) is not None)
        with torch.no_grad():
            inputs = self.encoder.layers[:n](views)
        return lambda: (self.encoder.layers[n:](inputs) + 0.5 - targets).square().mean()

    def loss(self, fid: torch.Tensor, conc: torch.Tensor) -> torch.Tensor:
        """Mean squared error of the numbers; of the spectra, each over its template's energy, where the encoder gives
        these."""
        x, height = self._seen(fid)
        return self.loss_of_views(self._viewed(x), self._scaled(fid, conc, height))


METHODS = {Supervised.method: Supervised}
"""The networks by name."""


class Voting(Ensemble):
    """As :class:`fsl_mrs_dl.networks.self_supervised_quantification.Ensemble`, of supervised networks: its ``forward``
    gives ``conc`` alone."""

    @staticmethod
    def methods() -> dict:
        return METHODS


SEARCHED = ("cnn", "resnet", "hatami", "deepnet-1d", "resnet-1d", "inceptionnet-1d", "deepnet-2d1c")
"""Encoders that a search tries: quick ones, that need nothing more installed."""

STACKS = {
    "shallowens-5n": ("shallownet-2d2c",) * 5,
    "hybridens-2n": ("shallownet-2d2c", "resnet-1d"),
    "hybridens-10n": ("shallownet-2d2c", "resnet-1d") * 5,
}
"""Stacks by their published names: the encoders of their members.  Rizzo et al. stack the -hp variants."""


def stack_members(words) -> tuple[str, ...]:
    """Encoders of a stack from one of :data:`STACKS` or their own names.

    Raises
    ------
    OptionError
        If it is one encoder only.
    """
    words = tuple(words)
    if len(words) == 1 and words[0].lower() in STACKS:
        return STACKS[words[0].lower()]
    if len(words) < 2 and words[0] not in ENCODERS:
        raise OptionError(f"--stack {words[0]}: there is no such stack; give encoders, or one of {', '.join(STACKS)}.")
    if len(words) < 2:
        raise OptionError(
            f"--stack {' '.join(words)}: is one network; give the encoders of two or more, or one of"
            f" {', '.join(STACKS)}."
        )
    for name in words:
        if name not in ENCODERS:
            raise OptionError(
                f"--stack {' '.join(words)}: there is no such encoder as {name}; choose from {', '.join(ENCODERS)}."
            )
    return words


class Stack(nn.Module):
    """A stacking model: fully connected layers that weigh what several trained networks say (section 2.5 of
    doi 10.1002/mrm.29561).

    Parameters
    ----------
    members : list of dict
        What each :class:`Supervised` is made with; all for the same metabolites, grid and water.
    hidden : list of int
        Neurons of the layers before the last.
    """

    def __init__(self, members: list[dict], hidden=(1000, 500)):
        super().__init__()
        self.settings = {"members": members, "hidden": list(hidden)}
        self.members = nn.ModuleList(Supervised(**member) for member in members)
        first = self.members[0]
        layers: list[nn.Module] = []
        inside = sum(member.n_out for member in self.members)
        for width in hidden:
            layers += [nn.Linear(inside, width), nn.ReLU()]
            inside = width
        self.layers = nn.Sequential(*layers, nn.Linear(inside, first.n_out))

    def train(self, mode: bool = True) -> Stack:
        """The members stay as they are: they are not trained with it."""
        super().train(mode)
        self.members.eval()
        return self

    def fix_members(self) -> Stack:
        """Leave nothing but the stacking model to be trained; returns itself."""
        self.members.requires_grad_(False).eval()
        return self

    @property
    def names(self) -> list[str]:
        return self.members[0].names

    @property
    def n_points(self) -> int:
        return self.members[0].n_points

    def scale(self, fid: torch.Tensor) -> torch.Tensor:
        """As :meth:`fsl_mrs_dl.networks.self_supervised_quantification.Quantifier.scale`."""
        return self.members[0].scale(fid)

    keeps_view = True

    def views(self, fid: torch.Tensor) -> torch.Tensor:
        """What the members say of FIDs ``(batch, n)``, all their numbers in a row."""
        with torch.no_grad():
            return torch.cat([member.numbers(fid) for member in self.members], 1)

    def loss_of_views(self, views: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """As :meth:`loss`, from :meth:`views` and :meth:`targets`."""
        return self.loss_on(views, targets)()

    def loss_on(self, views: torch.Tensor, targets: torch.Tensor) -> Callable[[], torch.Tensor]:
        """As :meth:`Supervised.loss_on`."""
        inputs = views - 0.5
        return lambda: (self.layers(inputs) + 0.5 - targets).square().mean()

    def numbers(self, fid: torch.Tensor) -> torch.Tensor:
        """As :meth:`Supervised.numbers`, in the scale of the first member."""
        return self.layers(self.views(fid) - 0.5) + 0.5

    def targets(self, fid: torch.Tensor, conc: torch.Tensor) -> torch.Tensor:
        """As :meth:`Supervised.targets`."""
        return self.members[0].targets(fid, conc)

    def forward(self, fid: torch.Tensor) -> dict[str, torch.Tensor]:
        """FIDs -> ``conc`` ``(batch, n_metabs)`` for a prepared FID."""
        return {"conc": self.members[0].amounts(fid, self.numbers(fid))}

    def concentrations(self, fid: torch.Tensor) -> torch.Tensor:
        """Concentrations for FIDs ``(batch, n)`` in the units of FID and basis set, ``(batch, n_metabs)``."""
        return self(fid)["conc"] * self.scale(fid)[:, None]

    def loss(self, fid: torch.Tensor, conc: torch.Tensor) -> torch.Tensor:
        """Mean squared error of the numbers."""
        return (self.numbers(fid) - self.targets(fid, conc)).square().mean()


NETWORKS = {**METHODS, "supervised-ensemble": Voting, "supervised-stack": Stack}
"""Architectures by the names that model cards use."""


SCORES = ("R2 of concentrations", "slope of found against true", "intercept", "RMSE")


def scores(found: torch.Tensor, truth: torch.Tensor, names) -> dict[str, dict[str, float]]:
    """How good concentrations ``(n, n_metabs)`` are: Rizzo et al.'s slope, intercept, R2 and RMSE by metabolite
    (section 2.2.4).

    ``R2 of concentrations`` is one minus the error's mean square over the truth's variance, as everywhere in this
    package; the paper's own, a squared correlation, does not see bias.  A metabolite that does not vary is left out.
    """
    found, truth = found.double(), truth.double()
    rows: dict[str, dict[str, float]] = {name: {} for name in SCORES}
    for column, name in enumerate(names):
        x, y = truth[:, column], found[:, column]
        variance = x.var(correction=0)
        if not variance > 0:
            continue
        slope = ((x - x.mean()) * (y - y.mean())).mean() / variance
        square = (y - x).square().mean()
        values = (1 - square / variance, slope, y.mean() - slope * x.mean(), square.sqrt())
        for row, value in zip(rows.values(), values):
            row[name] = float(f"{float(value):.3g}")
    return rows


_POOL = 8192
_HARD_PART = 0.25
_SPREAD = 0.05


def pool_size(seen: int) -> int:
    """Out of how many spectra the hardest are looked for after a training on ``seen``."""
    return min(_POOL, seen)


def hardest(network, batches) -> dict[str, torch.Tensor]:
    """The spectra that a network is worst at: the quarter with the largest errors, ``conc`` ``(n, n_metabs)`` and
    ``snr`` ``(n,)``; ``low`` and ``high`` ``(n_metabs,)`` are the ends of all concentrations.

    ``batches`` are dictionaries with ``fid``, ``conc`` and ``snr``.
    """
    with torch.no_grad():
        wrong = torch.cat(
            [
                (network.numbers(one["fid"]) - network.targets(one["fid"], one["conc"])).square().mean(-1)
                for one in batches
            ]
        )
    worst = wrong.topk(max(1, round(_HARD_PART * len(wrong)))).indices
    every = torch.cat([one["conc"] for one in batches])
    return {
        "conc": every[worst],
        "snr": torch.cat([one["snr"] for one in batches])[worst],
        "low": every.amin(0),
        "high": every.amax(0),
    }


def near(
    drawn: dict[str, torch.Tensor], hard: dict[str, torch.Tensor], part: float, generator: torch.Generator
) -> dict:
    """What was drawn (:func:`fsl_mrs_dl.simulation.random_spectra.draw`), a part of it with concentrations and SNR like
    those of hard spectra.

    Active learning as of section 2.4 of doi 10.1002/mrm.29561, where predictions scored worst for metabolites in very
    low or high concentration and for low SNR; everything else about these spectra is new.  No concentration leaves the
    range that others are drawn from, and one that is always the same (a water reference) stays so.
    """
    n = len(drawn["snr"])
    chosen = torch.rand(n, generator=generator) < part
    index = torch.randint(len(hard["snr"]), (n,), generator=generator)
    vary = torch.exp(_SPREAD * torch.randn(n, hard["conc"].shape[1], generator=generator))
    like = torch.minimum(torch.maximum(hard["conc"][index] * vary, hard["low"]), hard["high"])
    conc = torch.where(chosen[:, None], like, drawn["conc"])
    return drawn | {"conc": conc, "snr": torch.where(chosen, hard["snr"][index], drawn["snr"])}
