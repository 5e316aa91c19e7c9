"""Random spectra and transients for the training of networks and the evaluation of methods.

There are two independent steps.  :func:`draw` holds all randomness: from a :class:`Recipe` (a readable file of ranges)
and a seeded generator it draws concentrations, widths, shifts, phases, macromolecules, residual water, lipids,
baseline, spikes and SNR.  :func:`render` is deterministic: it turns them into FIDs on any basis set, batched in torch.

Signals other than metabolites have heights in the spectrum relative to the highest metabolite peak, so that one recipe
is valid at every field and echo time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from ..core import units
from ..core.axes import Axes
from ..core.errors import OptionError
from ..core.metabolites import by_names, is_known, is_macromolecule, typical_concentrations
from ..physics.in_vivo_components import priors_table
from ..physics.progression import progression
from . import in_vivo_effects
from .protocols import Protocol
from .recipes import LINE_KEYS, PER_METABOLITE_KEYS, Recipe, sample

__all__ = [
    "Rendered",
    "draw",
    "draw_concentrations",
    "render",
    "draw_transients",
    "render_transients",
    "sample_lines",
    "line_fids",
]

_WINDOW_PPM = (0.2, 4.2)
_NEGLIGIBLE_EXPONENT = -18.0  # of a decay


def _concentrations(spec: dict, names, n: int, generator: torch.Generator) -> torch.Tensor:
    """Return concentrations ``(n, n_metabs)``, macromolecules of the basis included.

    ``prior``: 'typical' multiplies the typical brain table by a lognormal factor of each metabolite (``spread``, an SD
    of the logarithm, itself a range) and by those under ``factors``; 'uniform' draws from 0 to ``most`` times the
    table; 'table' draws each metabolite from its own range under ``ranges``.  ``absent`` is the probability that a
    metabolite is absent.
    """
    unknown = set(spec) - {"prior", "spread", "factors", "ranges", "absent", "most", "macromolecules", "other"}
    if unknown:
        raise OptionError(f"concentrations: '{min(unknown)}' is unknown.")
    prior, m = spec.get("prior", "typical"), len(names)
    table = typical_concentrations(list(names))
    typical = torch.as_tensor(np.ones(m) if table is None else table, dtype=torch.float32)
    mm = torch.tensor([is_macromolecule(name) for name in names])
    # Entries that the table lacks are drawn like a weak metabolite, so that no basis entry remains untrained.
    typical = torch.where((typical == 0) & ~mm, torch.full_like(typical, spec.get("other", 0.5)), typical)
    if prior == "typical":
        spread = sample(spec.get("spread", 0.3), (n, 1), generator)
        conc = typical * torch.exp(spread * torch.randn(n, m, generator=generator))
    elif prior == "uniform":
        conc = typical * sample({"uniform": [0, spec.get("most", 2)]}, (n, m), generator)
    elif prior == "table":
        ranges = by_names(spec["ranges"], names)
        conc = torch.zeros(n, m)
        for index, name in enumerate(names):
            if name in ranges:
                conc[:, index] = sample(ranges[name], (n,), generator)
        lines = mm & torch.tensor([name not in ranges for name in names])
        if lines.any() and "mm" in ranges:
            # The range of a summed pattern for a basis set with single lines.
            each = torch.exp(0.2 * torch.randn(n, int(lines.sum()), generator=generator)) if lines.sum() > 1 else 1.0
            conc[:, lines] = sample(ranges["mm"], (n, 1), generator) * each
    else:
        raise OptionError(f"concentrations: prior '{prior}' is unknown; choose typical, uniform or table.")
    for name, factor in by_names(spec.get("factors", {}), names).items():
        if name not in names and not is_macromolecule(name) and not is_known(name):
            raise OptionError(
                f"concentrations: factors: there is no metabolite '{name}', here or in a usual basis set."
            )
        if name in names:
            conc[:, list(names).index(name)] *= sample(factor, (n,), generator)
    if "absent" in spec:
        conc *= torch.rand(n, m, generator=generator) >= spec["absent"]
    if prior != "table" and mm.any():
        # A summed pattern of the size of a metabolite set's; single lines also vary independently.
        whole = sample(spec.get("macromolecules", {"uniform": [0.5, 1.5]}), (n, 1), generator)
        each = torch.exp(0.2 * torch.randn(n, int(mm.sum()), generator=generator)) if mm.sum() > 1 else 1.0
        conc[:, mm] = 8.0 * whole * each
    return conc


def sample_lines(spec, n: int, generator: torch.Generator) -> torch.Tensor:
    """Draw lines ``(n, n_lines, 5)``: height, ppm, Lorentzian and Gaussian width (Hz), phase (rad); height 0 where
    absent.

    A list of groups is drawn one after the other.  Widths under ``fwhm_ppm`` are Gaussian, and stored as ``-ppm`` in
    the fourth column: :func:`line_fids` turns them into Hz.
    """
    if isinstance(spec, list):
        return torch.cat([sample_lines(one, n, generator) for one in spec], 1)
    unknown = set(spec) - set(LINE_KEYS)
    if unknown:
        raise OptionError(f"lines of a recipe: '{min(unknown)}' is unknown; there are {', '.join(LINE_KEYS)}.")
    count = int(spec.get("n", 1))
    present = torch.rand(n, 1, generator=generator) < spec.get("probability", 1.0)
    # The lines divide the height of the group unevenly, so that one of many lines can represent all of them.
    whole = sample(spec["height"], (n, 1), generator)
    share = torch.rand(n, count, generator=generator) if count > 1 else torch.ones(n, 1)
    height = whole * share / share.amax(1, keepdim=True) * present
    ppm = sample(spec["ppm"], (n, count), generator)
    lorentz = sample(spec.get("lorentz_fwhm_hz", 0.0), (n, count), generator)
    if "fwhm_ppm" in spec:
        gauss = -sample(spec["fwhm_ppm"], (n, count), generator)
    else:
        gauss = sample(spec.get("gauss_fwhm_hz", 0.0), (n, count), generator)
    phase = sample(spec.get("phase_deg", 0.0), (n, count), generator) * (torch.pi / 180)
    return torch.stack([height, ppm, lorentz, gauss, phase], -1)


def draw_concentrations(recipe: Recipe, n: int, names, generator: torch.Generator) -> torch.Tensor:
    """Draw the concentrations of ``n`` spectra alone, ``(n, n_metabs)``."""
    return _concentrations(recipe.get("concentrations"), names, n, generator)


_DRAW_EFFECTS = {
    "shim": in_vivo_effects.draw_shim,
    "measured_macromolecules": in_vivo_effects.draw_macromolecules,
    "scalp_lipid": in_vivo_effects.draw_scalp_lipid,
    "echoes": in_vivo_effects.draw_echoes,
}


def draw(recipe: Recipe, n: int, names, generator: torch.Generator) -> dict[str, torch.Tensor]:
    """Draw all random parameters of ``n`` spectra.

    Parameters
    ----------
    recipe : Recipe
    n : int
    names : sequence of str
        Metabolites of the basis set that is rendered.
    generator : torch.Generator
        On the CPU; the same seed gives the same spectra on every device.

    Returns
    -------
    dict of tensors with ``n`` rows
        ``conc`` ``(n, n_metabs)``, ``lorentz_hz`` and ``gauss_hz`` (full widths at half maximum), ``shift_ppm``,
        ``shift_hz`` (added to it), ``phi0`` (rad, at 2.2 ppm) and ``phi1`` (rad per ppm), ``mm`` ``(n, 12)`` heights of
        the parametric macromolecules' lines, ``water``, ``lipids``, ``baseline`` ``(n, n_lines, 5)``, ``spikes`` ``(n,
        2)`` height and place, ``snr``, ``noise_seed``.  Where the recipe says so, ``each`` ``(n, n_metabs, 3)``, shift
        (Hz), damping (1/s, added to the exponent: negative values broaden) and phase (rad) of every single metabolite
        (macromolecules only with ``"macromolecules": true``), ``each_shift_ppm`` ``(n, n_metabs)``, parts of
        :mod:`fsl_mrs_dl.simulation.in_vivo_effects` by the recipe's names, and ``snr_of``, the noise SD of an SNR of
        one: a number, or 'energy', the root mean square of the FID in one channel.
    """
    pi = torch.pi
    drawn = {
        "conc": _concentrations(recipe.get("concentrations"), names, n, generator),
        "lorentz_hz": sample(recipe.get("lorentz_fwhm_hz", 0.0), (n,), generator).clamp(min=0)
        + sample(recipe.get("apodise_fwhm_hz", 0.0), (n,), generator).clamp(min=0),
        "gauss_hz": sample(recipe.get("gauss_fwhm_hz", 0.0), (n,), generator).clamp(min=0),
        "shift_ppm": sample(recipe.get("shift_ppm", 0.0), (n,), generator),
        "shift_hz": sample(recipe.get("shift_hz", 0.0), (n,), generator),
        "phi0": sample(recipe.get("phase_deg", 0.0), (n,), generator) * (pi / 180),
        "phi1": sample(recipe.get("phi1_deg_per_ppm", 0.0), (n,), generator) * (pi / 180),
        "snr": sample(recipe.get("snr"), (n,), generator).clamp(min=0.5),
        "noise_seed": torch.randint(2**62, (1,), generator=generator),
    }
    mm = recipe.get("macromolecules")
    if mm:
        present = torch.rand(n, 1, generator=generator) < mm.get("probability", 1.0)
        each = torch.exp(mm.get("spread", 0.2) * torch.randn(n, 12, generator=generator))
        drawn["mm"] = sample(mm["height"], (n, 1), generator) * each * present
    for name in ("water", "lipids", "baseline"):
        if recipe.get(name):
            drawn[name] = sample_lines(recipe.get(name), n, generator)
    spikes = recipe.get("spikes")
    if spikes:
        present = torch.rand(n, generator=generator) < spikes.get("probability", 1.0)
        height = sample(spikes["height"], (n,), generator) * present
        drawn["spikes"] = torch.stack([height, torch.rand(n, generator=generator)], -1)
    each = recipe.get("each")
    if each:
        parameters = torch.stack(
            [sample(each.get(name, 0.0), (n, len(names)), generator) for name in PER_METABOLITE_KEYS], -1
        )
        parameters[..., 2] *= pi / 180
        if not each.get("macromolecules"):
            parameters[:, [is_macromolecule(name) for name in names]] = 0
        drawn["each"] = parameters[..., :3]
        if "shift_ppm" in each:
            drawn["each_shift_ppm"] = parameters[..., 3]
    for name, draw_effect in _DRAW_EFFECTS.items():
        if recipe.get(name):
            drawn[name] = draw_effect(recipe.get(name), n, generator)
    if recipe.get("snr_of", "peak") != "peak":
        drawn["snr_of"] = recipe.get("snr_of")
    return drawn


@dataclass(frozen=True)
class Rendered:
    """Spectra and their parts.

    Attributes
    ----------
    fid : complex64 tensor ``(n, n_points)``
        The sum, with noise.
    metabolites : complex64 tensor ``(n, n_points)``
        Metabolites alone, macromolecules of the basis included.
    nuisance : complex64 tensor ``(n, n_points)``
        Macromolecules, water, lipids, echoes and baseline.
    height : tensor ``(n,)``
        Highest metabolite peak of the spectrum, in the units of :func:`fsl_mrs_dl.core.units.fid_to_spec`.
    noise_sd : tensor ``(n,)``
        SD of the noise in the real part of the spectrum.
    """

    fid: torch.Tensor
    metabolites: torch.Tensor
    nuisance: torch.Tensor
    height: torch.Tensor
    noise_sd: torch.Tensor


def _widths(time, lorentz_hz, gauss_hz):
    """Return the exponent of the decay in time for full widths at half maximum."""
    pi = torch.pi
    return -pi * lorentz_hz[..., None] * time - (pi * gauss_hz[..., None] * time) ** 2 / (4 * math.log(2))


def line_fids(lines: torch.Tensor, axes: Axes, device="cpu") -> torch.Tensor:
    """Return the sum of random lines (see :func:`sample_lines`) of heights relative to 1, complex ``(n, n_points)``."""
    time = torch.arange(axes.n_points, device=device) * axes.dwelltime
    # Most lines of most recipes are absent, and cost nothing.
    row, column = lines[..., 0].nonzero(as_tuple=True)
    height, ppm, lorentz, gauss, phase = lines[row, column].to(time.device).unbind(-1)
    row, gauss = row.to(time.device), torch.where(gauss < 0, -gauss * axes.spec_freq_mhz, gauss)
    hz = axes.ppm_to_hz(ppm)
    # Broad lines have decayed after a quarter of the time.
    first = len(time) // 4
    brief = _widths(time[first : first + 1], lorentz, gauss)[:, 0] < _NEGLIGIBLE_EXPONENT
    out = torch.zeros(len(lines), axes.n_points, dtype=torch.complex64, device=device)
    for some, n_points in ((brief, first), (~brief, len(time))):
        decay = _widths(time[:n_points], lorentz[some], gauss[some]).exp()
        # The height of a line is the sum over its decay in the unitary transform.
        size = height[some] * math.sqrt(axes.n_points) / decay.sum(-1)
        angle = phase[some, None] + 2 * torch.pi * hz[some, None] * time[:n_points]
        out[:, :n_points] += out.new_zeros(len(lines), n_points).index_add(
            0, row[some], torch.polar(size[:, None] * decay, angle)
        )
    return out


def _band(protocol: Protocol) -> torch.Tensor:
    """Return the mask of the spectral points of metabolites."""
    ppm = protocol.axes.ppm()
    return torch.as_tensor((ppm > _WINDOW_PPM[0]) & (ppm < _WINDOW_PPM[1])).to(protocol.basis.device)


def _proton(protocol: Protocol) -> float:
    """Return the signal of a proton in the units of the basis set, as macromolecules of the in-vivo model have it."""
    metabolites = torch.tensor([not is_macromolecule(name) for name in protocol.names])
    return float(protocol.basis[metabolites, 0].abs().mean()) / priors_table()["protons"]


def _common_phase(drawn, protocol, spec):
    """Apply zero- and first-order phase about 2.2 ppm to spectra ``(n, n_points)``."""
    ppm = torch.as_tensor(protocol.axes.ppm(), dtype=torch.float32)
    phi0, phi1 = drawn["phi0"].to(spec.device), drawn["phi1"].to(spec.device)
    angle = phi0[:, None] + phi1[:, None] * (ppm.to(spec.device) - 2.2)
    return spec * torch.polar(torch.ones_like(angle), -angle)


def _metabolite_fids(conc: torch.Tensor, drawn: dict[str, torch.Tensor], protocol: Protocol) -> torch.Tensor:
    """Return the sum of basis FIDs times concentrations ``(n, n_metabs)``, ``(n, n_points)``, each with its own shift,
    damping and phase where these were drawn."""
    if "each" not in drawn:
        return conc.to(protocol.basis.dtype) @ protocol.basis
    shift, damping, phase = drawn["each"].to(conc.device).unbind(-1)
    if "each_shift_ppm" in drawn:
        shift = shift + drawn["each_shift_ppm"].to(shift) * protocol.axes.spec_freq_mhz
    turns = 2 * torch.pi * shift
    steps, starts = torch.complex(damping, turns) * protocol.axes.dwelltime, torch.complex(0 * phase, -phase)
    fid = protocol.basis.new_zeros(len(conc), protocol.basis.shape[-1])
    for k, one in enumerate(protocol.basis):
        fid += conc[:, k, None] * progression(starts[:, k], steps[:, k], len(one)) * one
    return fid


def render(drawn: dict[str, torch.Tensor], protocol: Protocol, *, noise: bool = True) -> Rendered:
    """Return the drawn spectra as FIDs on a basis set; deterministic, on the device of the protocol.

    The sign of phases is FSL-MRS's: the spectrum is multiplied by ``exp(-1j (phi0 + phi1 (ppm - 2.2)))``.  Positive
    shifts go to higher ppm.
    """
    device, time = protocol.basis.device, protocol.time
    n, n_points = len(drawn["snr"]), protocol.basis.shape[-1]
    conc = drawn["conc"].to(device)
    metabolites = _metabolite_fids(conc, drawn, protocol)
    shift = 2 * torch.pi * (drawn["shift_ppm"] * protocol.axes.spec_freq_mhz + drawn["shift_hz"]).to(device)
    decay = _widths(time, drawn["lorentz_hz"].to(device), drawn["gauss_hz"].to(device))
    decay = decay.exp().to(metabolites.dtype)
    if "shim" in drawn:
        decay = decay * in_vivo_effects.shim_line_shapes(drawn["shim"].to(device), protocol.axes)
    broadened = metabolites * decay
    band = _band(protocol)
    height = units.fid_to_spec(broadened)[:, band].real.amax(-1).clamp(min=1e-12)
    nuisance = torch.zeros_like(broadened)
    if "mm" in drawn:
        nuisance = nuisance + (drawn["mm"].to(device) * height[:, None]).to(nuisance.dtype) @ protocol.mm * decay
    if "measured_macromolecules" in drawn:
        measured = drawn["measured_macromolecules"].to(device)
        of_proton = _proton(protocol) * in_vivo_effects.macromolecule_fids(measured, protocol.axes, protocol.te_s)
        nuisance = nuisance + of_proton * decay
    if "echoes" in drawn:
        echoes = in_vivo_effects.echo_fids(drawn["echoes"].to(device), protocol.axes)
        nuisance = nuisance + height[:, None] * echoes
    lines = [drawn[name] for name in ("water", "lipids", "baseline") if name in drawn]
    if "scalp_lipid" in drawn:
        lines.append(in_vivo_effects.scalp_lipid_lines(drawn["scalp_lipid"]))
    if lines:
        nuisance = nuisance + height[:, None] * line_fids(torch.cat(lines, 1), protocol.axes, device)
    modulation = torch.polar(torch.ones_like(shift)[:, None].expand(-1, n_points), shift[:, None] * time)
    parts = [
        units.spec_to_fid(_common_phase(drawn, protocol, units.fid_to_spec(part * modulation)))
        for part in (broadened, nuisance)
    ]
    fid = parts[0] + parts[1]
    if "spikes" in drawn:
        size, place = drawn["spikes"].to(device).unbind(-1)
        fid = fid.clone()
        # One bad point of the FID lifts the whole spectrum by its size over the root of the number of points.
        fid[torch.arange(n), (place * (n_points - 1)).long()] += size * height * math.sqrt(n_points)
    size = height
    if drawn.get("snr_of") == "energy":
        size = (fid.abs().square().mean(-1) / 2).sqrt()
    elif "snr_of" in drawn:
        size = torch.full_like(height, float(drawn["snr_of"]))
    noise_sd = size / drawn["snr"].to(device)
    if noise:
        fid = fid + noise_sd[:, None] * _noise((n, n_points), int(drawn["noise_seed"]), device)
    return Rendered(fid, parts[0], parts[1], height, noise_sd)


def _noise(shape, seed: int, device) -> torch.Tensor:
    """Return complex noise of SD 1 in each part; from the CPU, so that a seed gives the same on every device."""
    generator = torch.Generator().manual_seed(seed)
    return torch.view_as_complex(torch.randn(*shape, 2, generator=generator)).to(device)


# -- transients ----------------------------------------------------------------------------------------------------


def draw_transients(recipe: Recipe, n: int, n_transients: int, names, generator: torch.Generator) -> dict:
    """Draw all random parameters of ``n`` sets of transients: those of :func:`draw`, and the variation within a set.

    The recipe's ``transients`` holds ``shift_hz``, ``phase_deg``, ``amplitude`` (of every transient) and
    ``unstable_water``, ``unstable_lipids``: lines that differ in every transient.  ``snr`` is that of one transient.

    Returns
    -------
    dict
        ``set`` the result of :func:`draw`; ``shift_hz``, ``phi0`` (rad), ``amplitude`` ``(n, n_transients)``; ``lines``
        ``(n, n_transients, n_lines, 5)``; ``noise`` ``(n, n_transients)``, the SD of each transient's noise over that
        of the recipe's SNR, 1 unless changed; ``noise_seed``.
    """
    spec, shape = recipe.get("transients", {}), (n, n_transients)
    lines = []
    for name in ("unstable_water", "unstable_lipids"):
        if name in spec:
            one = sample_lines(spec[name], n * n_transients, generator).reshape(n, n_transients, -1, 5)
            # Either all transients of a set are unstable, or none.
            unstable = torch.rand(n, 1, 1, generator=generator) < spec.get(f"{name}_probability", 1.0)
            one[..., 0] *= unstable
            lines.append(one)
    return {
        "set": draw(recipe, n, names, generator),
        "shift_hz": sample(spec.get("shift_hz", 0.0), shape, generator),
        "phi0": sample(spec.get("phase_deg", 0.0), shape, generator) * (torch.pi / 180),
        "amplitude": sample(spec.get("amplitude", 1.0), shape, generator).clamp(min=0.05),
        "lines": torch.cat(lines, 2) if lines else torch.zeros(*shape, 0, 5),
        "noise": torch.ones(shape),
        "noise_seed": torch.randint(2**62, (1,), generator=generator),
    }


def render_transients(drawn: dict, protocol: Protocol) -> tuple[torch.Tensor, Rendered]:
    """Return FIDs ``(n, n_transients, n_points)`` complex64, and the spectra that they vary around, without noise.

    A transient is the common FID times ``amplitude exp(1j (2 pi shift_hz t - phi0))``: positive shifts go to higher
    ppm, phases are FSL-MRS's.
    """
    device, time = protocol.basis.device, protocol.time
    base = render(drawn["set"], protocol, noise=False)
    n, k = drawn["shift_hz"].shape
    fid = base.fid[:, None].expand(n, k, -1)
    if drawn["lines"].shape[2]:
        unstable = line_fids(drawn["lines"].flatten(0, 1), protocol.axes, device).reshape(n, k, -1)
        fid = fid + base.height[:, None, None] * unstable
    angle = 2 * torch.pi * drawn["shift_hz"].to(device)[..., None] * time - drawn["phi0"].to(device)[..., None]
    fid = torch.polar(drawn["amplitude"].to(device)[..., None].expand_as(angle), angle) * fid
    noise = _noise(fid.shape, int(drawn["noise_seed"]), device)
    return fid + base.noise_sd[:, None, None] * drawn["noise"].to(device)[..., None] * noise, base
