"""Supervised networks for quantification: an encoder learns concentrations from simulated spectra whose truth is known.

The family of Hatami et al. (doi 10.48550/arXiv.1806.07237), of scalograms and wavelet scattering (doi
10.5220/0010318502680275), and of Rizzo et al. (doi 10.1002/mrm.29561); which of them is a matter of the encoder.  Where
the data hold little information, they return the mean of the training data, as the last of these papers shows, and they
give no shift, width or phase: a fit is the better answer, and starts without them.

Concentrations are scaled to the range of the training data, 0 for the least and 1 for the most, and the last layer is
linear, so that numbers outside are possible.  FIDs and concentrations are relative to the FID's height in the window;
hence the units of data and basis set do not matter.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from ..core import units
from ..core.errors import OptionError
from ..core.transients import normalised
from .encoders import ENCODERS
from .encoders.spectrum import UNet1DR
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
        Add a line of known size at 0.5 ppm to every FID, learn its size, too, and use it as the unit of the others:
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
    line_ri: torch.Tensor
    low: torch.Tensor
    span: torch.Tensor

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
                f"its line is at {_WATER_PPM:g} ppm, outside of {ppmlim[0]:g} to {ppmlim[1]:g} ppm",
                option="water",
                remedy="leave it out",
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
        """Number of outputs: one for each metabolite, and water's."""
        return len(self.names) + self.water

    @property
    def keeps_view(self) -> bool:
        """As :attr:`fsl_mrs_dl.networks.encoders.base.Encoder.keeps_view`."""
        return self.encoder.keeps_view

    @property
    def _painter(self) -> UNet1DR | None:
        """The encoder where it gives spectra, which are then integrated."""
        return self.encoder if isinstance(self.encoder, UNet1DR) else None

    def set_range(self, fid: torch.Tensor, conc: torch.Tensor) -> None:
        """Set the range of outputs from simulated FIDs ``(batch, n)`` and concentrations ``(batch, n_metabs)``."""
        x, height = self._network_input(fid)
        truth = self._relative(fid, conc, height)
        # A metabolite's own spectrum is scaled from nothing, as its integral is.
        low = truth.amin(0) if self._painter is None else torch.zeros_like(truth[0])
        span = truth.amax(0) - low
        self.low.copy_(low)
        self.span.copy_(torch.where(span > 0, span, torch.ones_like(span)))

    def _network_input(self, fid: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the encoder's input, complex ``(batch, n_points)``, and the factor that it is smaller by than prepared
        FIDs, ``(batch,)``."""
        x = self.prepared(fid)
        if not self.water:
            return x, torch.ones_like(x[:, 0].real)
        x = x + torch.view_as_complex(self.line_ri)
        return normalised(x, self.n_points), x.abs().amax(-1)

    def _relative(self, fid: torch.Tensor, conc: torch.Tensor, height: torch.Tensor) -> torch.Tensor:
        """Return concentrations in the encoder's input, ``(batch, n_out)``; water's is the height of its line."""
        relative = conc / (self.scale(fid) * height)[:, None]
        return torch.cat([relative, _WATER_HEIGHT / height[:, None]], 1) if self.water else relative

    def _templates(self) -> torch.Tensor:
        """Return the spectra of concentration one for an encoder that gives spectra, over their largest magnitude,
        ``(n_out, n_window)``."""
        fids = torch.cat([self.limited(torch.complex(*self.basis_ri)), torch.view_as_complex(self.line_ri)[None]])[
            : self.n_out
        ]
        spectra = self.encoder.view(torch.stack([fids.real, fids.imag], 1))[:, 0]
        return spectra / spectra.abs().amax(-1, keepdim=True).clamp(min=1e-30)

    def numbers(self, fid: torch.Tensor) -> torch.Tensor:
        """Return the outputs for FIDs ``(batch, n)``: 0 is the least and 1 the most of the training data, ``(batch,
        n_out)``."""
        return self._numbers_of(self.views(fid))

    def _numbers_of(self, views: torch.Tensor) -> torch.Tensor:
        painter = self._painter
        if painter is None:
            # Begins in the middle of the range.
            return (self.encoder.layers(views) if self.keeps_view else self.encoder(views)) + 0.5
        # The integral of every spectrum, taken with the sign it should have: lines of both signs would cancel.
        templates = self._templates()
        return (painter.spectra(views) * templates.sign()).sum(-1) / templates.abs().sum(-1)

    def amounts(self, fid: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
        """Return concentrations for prepared FIDs ``(batch, n_metabs)`` from the outputs of :meth:`numbers`."""
        conc = numbers * self.span + self.low
        if not self.water:
            return conc
        conc, water = conc[:, :-1], conc[:, -1:]
        # A small estimate of a line of constant size is an error; ratios to it must not run away.
        return conc / water.clamp(min=0.1 * _WATER_HEIGHT) * _WATER_HEIGHT

    def forward(self, fid: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return ``conc`` ``(batch, n_metabs)`` for :meth:`prepared` FIDs, of FIDs ``(batch, n)``."""
        return {"conc": self.amounts(fid, self.numbers(fid))}

    def targets(self, fid: torch.Tensor, conc: torch.Tensor) -> torch.Tensor:
        """Return the targets of :meth:`numbers`, ``(batch, n_out)``."""
        return self._scaled(fid, conc, self._network_input(fid)[1])

    def _scaled(self, fid: torch.Tensor, conc: torch.Tensor, height: torch.Tensor) -> torch.Tensor:
        return (self._relative(fid, conc, height) - self.low) / self.span

    def views(self, fid: torch.Tensor) -> torch.Tensor:
        """Return the encoder's input for FIDs ``(batch, n)``, or, where it ``keeps_view``, its transform of that."""
        return self._viewed(self._network_input(fid)[0])

    def _viewed(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.stack([x.real, x.imag], 1)
        return self.encoder.view(x) if self.keeps_view else x

    def loss_of_views(self, views: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the same as :meth:`loss`, from :meth:`views` and :meth:`targets`."""
        painter = self._painter
        if painter is None:
            return (self._numbers_of(views) - targets).square().mean()
        templates = self._templates()
        residual = painter.spectra(views) - targets[..., None] * templates
        return (residual.square().sum(-1) / templates.square().sum(-1)).mean()

    def loss_on(self, views: torch.Tensor, targets: torch.Tensor) -> Callable[[], torch.Tensor]:
        """Return a function that computes :meth:`loss_of_views` of the same spectra again and again.

        For an encoder that ``keeps_view``.  The first layers without weights are applied once.
        """
        n = next(at for at, layer in enumerate(self.encoder.layers) if next(layer.parameters(), None) is not None)
        with torch.no_grad():
            inputs = self.encoder.layers[:n](views)
        return lambda: (self.encoder.layers[n:](inputs) + 0.5 - targets).square().mean()

    def loss(self, fid: torch.Tensor, conc: torch.Tensor) -> torch.Tensor:
        """Return the mean squared error of the outputs, or of spectra over their templates' energy where the encoder
        gives these."""
        x, height = self._network_input(fid)
        return self.loss_of_views(self._viewed(x), self._scaled(fid, conc, height))


METHODS = {Supervised.method: Supervised}
"""The networks by name."""


class Voting(Ensemble):
    """As :class:`fsl_mrs_dl.networks.self_supervised_quantification.Ensemble`, of supervised networks: its ``forward``
    gives ``conc`` alone."""

    @staticmethod
    def methods() -> dict:
        """Return the classes that members can have, by name."""
        return METHODS


SEARCHED = ("cnn", "resnet", "hatami", "deepnet-1d", "resnet-1d", "inceptionnet-1d", "deepnet-2d1c")
"""Encoders that a search tries: quick ones that need no further package."""

STACKS = {
    "shallowens-5n": ("shallownet-2d2c",) * 5,
    "hybridens-2n": ("shallownet-2d2c", "resnet-1d"),
    "hybridens-10n": ("shallownet-2d2c", "resnet-1d") * 5,
}
"""Stacks by their published names: the encoders of their members.  Rizzo et al. stack the -hp variants."""


def stack_members(words) -> tuple[str, ...]:
    """Return the encoders of a stack, given by one of :data:`STACKS` or their own names.

    Raises
    ------
    OptionError
        If there is one encoder only, or one of an unknown name.
    """
    words = tuple(words)
    if len(words) == 1 and words[0].lower() in STACKS:
        return STACKS[words[0].lower()]
    if len(words) < 2 and words[0] not in ENCODERS:
        raise OptionError(
            "there is no such stack",
            option="stack",
            value=words[0],
            remedy=f"give encoders, or one of {', '.join(STACKS)}",
        )
    if len(words) < 2:
        raise OptionError(
            "is one network",
            option="stack",
            value=" ".join(words),
            remedy=f"give the encoders of two or more, or one of {', '.join(STACKS)}",
        )
    for name in words:
        if name not in ENCODERS:
            raise OptionError(
                f"there is no such encoder as {name}",
                option="stack",
                value=" ".join(words),
                remedy=f"choose from {', '.join(ENCODERS)}",
            )
    return words


class Stack(nn.Module):
    """Stacking model: fully connected layers on the outputs of several trained networks (section 2.5 of
    doi 10.1002/mrm.29561).

    Parameters
    ----------
    members : list of dict
        Arguments of each :class:`Supervised`; all for the same metabolites, grid and water.
    hidden : list of int
        Neurons of the layers before the last.
    """

    def __init__(self, members: list[dict], hidden=(1000, 500)):
        super().__init__()
        self.settings = {"members": members, "hidden": list(hidden)}
        self.members = nn.ModuleList(Supervised(**member) for member in members)
        networks = self.networks()
        layers: list[nn.Module] = []
        inside = sum(network.n_out for network in networks)
        for width in hidden:
            layers += [nn.Linear(inside, width), nn.ReLU()]
            inside = width
        self.layers = nn.Sequential(*layers, nn.Linear(inside, networks[0].n_out))

    def networks(self) -> list[Supervised]:
        """Return the members in a list of their type."""
        return [member for member in self.members if isinstance(member, Supervised)]

    def train(self, mode: bool = True) -> Stack:
        """Set the mode of the stacking model; its members stay in evaluation mode."""
        super().train(mode)
        self.members.eval()
        return self

    def fix_members(self) -> Stack:
        """Exclude the members from training, and return the stack itself."""
        self.members.requires_grad_(False).eval()
        return self

    @property
    def names(self) -> list[str]:
        """Metabolites of the basis set."""
        return self.networks()[0].names

    @property
    def n_points(self) -> int:
        """Points of the FID that the members take."""
        return self.networks()[0].n_points

    def scale(self, fid: torch.Tensor) -> torch.Tensor:
        """Return the factors of :meth:`fsl_mrs_dl.networks.self_supervised_quantification.Quantifier.scale`."""
        return self.networks()[0].scale(fid)

    keeps_view = True

    def views(self, fid: torch.Tensor) -> torch.Tensor:
        """Return the outputs of all members for FIDs ``(batch, n)``, in a row."""
        with torch.no_grad():
            return torch.cat([member.numbers(fid) for member in self.networks()], 1)

    def loss_of_views(self, views: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the same as :meth:`loss`, from :meth:`views` and :meth:`targets`."""
        return self.loss_on(views, targets)()

    def loss_on(self, views: torch.Tensor, targets: torch.Tensor) -> Callable[[], torch.Tensor]:
        """Return a function as :meth:`Supervised.loss_on` does."""
        inputs = views - 0.5
        return lambda: (self.layers(inputs) + 0.5 - targets).square().mean()

    def numbers(self, fid: torch.Tensor) -> torch.Tensor:
        """Return the outputs for FIDs ``(batch, n)``, in the scale of the first member."""
        return self.layers(self.views(fid) - 0.5) + 0.5

    def targets(self, fid: torch.Tensor, conc: torch.Tensor) -> torch.Tensor:
        """Return the targets of :meth:`numbers`, ``(batch, n_out)``."""
        return self.networks()[0].targets(fid, conc)

    def forward(self, fid: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return ``conc`` ``(batch, n_metabs)`` for prepared FIDs, of FIDs ``(batch, n)``."""
        return {"conc": self.networks()[0].amounts(fid, self.numbers(fid))}

    def concentrations(self, fid: torch.Tensor) -> torch.Tensor:
        """Return concentrations for FIDs ``(batch, n)`` in the units of FID and basis set, ``(batch, n_metabs)``."""
        return self(fid)["conc"] * self.scale(fid)[:, None]

    def loss(self, fid: torch.Tensor, conc: torch.Tensor) -> torch.Tensor:
        """Return the mean squared error of the outputs."""
        return (self.numbers(fid) - self.targets(fid, conc)).square().mean()


NETWORKS = {**METHODS, "supervised-ensemble": Voting, "supervised-stack": Stack}
"""Architectures by the names that model cards use."""


SCORES = ("R2 of concentrations", "slope of found against true", "intercept", "RMSE")


def scores(estimates: torch.Tensor, truth: torch.Tensor, names) -> dict[str, dict[str, float]]:
    """Return slope, intercept, R2 and RMSE of concentrations ``(n, n_metabs)`` by metabolite, as Rizzo et al. (section
    2.2.4).

    ``R2 of concentrations`` is one minus the error's mean square over the truth's variance, as everywhere in this
    package; the paper's own, a squared correlation, ignores bias.  A metabolite that does not vary is left out.
    """
    estimates, truth = estimates.double(), truth.double()
    rows: dict[str, dict[str, float]] = {name: {} for name in SCORES}
    for column, name in enumerate(names):
        x, y = truth[:, column], estimates[:, column]
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


def pool_size(n_spectra: int) -> int:
    """Return the number of spectra that the hardest are chosen from after a training on ``n_spectra``."""
    return min(_POOL, n_spectra)


def hardest(network, batches) -> dict[str, torch.Tensor]:
    """Return the quarter of spectra with the largest errors of a network: ``conc`` ``(n, n_metabs)`` and ``snr``
    ``(n,)``; ``low`` and ``high`` ``(n_metabs,)`` are the ends of all concentrations.

    ``batches`` are dictionaries with ``fid``, ``conc`` and ``snr``.
    """
    with torch.no_grad():
        error = torch.cat(
            [
                (network.numbers(one["fid"]) - network.targets(one["fid"], one["conc"])).square().mean(-1)
                for one in batches
            ]
        )
    worst = error.topk(max(1, round(_HARD_PART * len(error)))).indices
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
    """Return the drawn numbers of spectra, a part of them with concentrations and SNR near those of hard spectra.

    ``drawn`` is from :func:`fsl_mrs_dl.simulation.random_spectra.draw`, ``hard`` from :func:`hardest`.

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
