"""Credible spectra and transients in any number: what networks are trained on and searches are tried with.

Two steps that know nothing of each other.  :func:`draw` is all the randomness: from a :class:`Recipe` (a readable file
of ranges) and a seeded generator it draws concentrations, widths, shifts, phases, macromolecules, residual water,
lipids, baseline, spikes and SNR.  :func:`render` is deterministic: it turns what was drawn into FIDs on any basis set,
batched in torch.

Sizes of what does not belong to the metabolites are heights in the spectrum in units of the highest metabolite peak, so
that one recipe means the same at every field and echo time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from ..core import units
from ..core.errors import OptionError
from ..core.metabolites import is_known, is_macromolecule, typical_concentrations
from .protocols import Protocol
from .recipes import _EACH, _LINES, Recipe, _is_number, sample

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


def _highest(spec) -> float:
    """The most a range gives, three SDs up where it has no end."""
    if _is_number(spec):
        return float(spec)
    ((kind, (a, b)),) = spec.items()
    return {"normal": a + 3 * b, "lognormal": a * math.exp(min(3 * b, 50))}.get(kind, b)


def _concentrations(spec: dict, names, n: int, generator: torch.Generator) -> torch.Tensor:
    """Concentrations ``(n, n_metabs)``; macromolecules of the basis among them.

    ``prior``: 'typical' multiplies the typical brain table by a lognormal factor of each metabolite (``spread``, an SD
    of the logarithm, itself a range) and by those under ``factors``; 'uniform' draws from 0 to ``most`` times the
    table; 'table' draws each metabolite from its own range under ``ranges``.  ``absent`` is the probability that a
    metabolite is not there at all.
    """
    known = set(spec) - {"prior", "spread", "factors", "ranges", "absent", "most", "macromolecules", "other"}
    if known:
        raise OptionError(f"concentrations: '{min(known)}' is unknown.")
    prior, m = spec.get("prior", "typical"), len(names)
    typical = typical_concentrations(list(names))
    typical = torch.as_tensor(np.ones(m) if typical is None else typical, dtype=torch.float32)
    mm = torch.tensor([is_macromolecule(name) for name in names])
    # What the table does not know is drawn like a weak metabolite, so that no basis entry goes untrained.
    typical = torch.where((typical == 0) & ~mm, torch.full_like(typical, spec.get("other", 0.5)), typical)
    if prior == "typical":
        spread = sample(spec.get("spread", 0.3), (n, 1), generator)
        conc = typical * torch.exp(spread * torch.randn(n, m, generator=generator))
    elif prior == "uniform":
        conc = typical * sample({"uniform": [0, spec.get("most", 2)]}, (n, m), generator)
    elif prior == "table":
        conc = torch.zeros(n, m)
        for index, name in enumerate(names):
            if name in spec["ranges"]:
                conc[:, index] = sample(spec["ranges"][name], (n,), generator)
        lines = mm & torch.tensor([name not in spec["ranges"] for name in names])
        if lines.any() and "mm" in spec["ranges"]:
            # The range of a summed pattern, where the basis set has its lines one by one.
            each = torch.exp(0.2 * torch.randn(n, int(lines.sum()), generator=generator)) if lines.sum() > 1 else 1.0
            conc[:, lines] = sample(spec["ranges"]["mm"], (n, 1), generator) * each
    else:
        raise OptionError(f"concentrations: prior '{prior}' is unknown; choose typical, uniform or table.")
    for name, factor in spec.get("factors", {}).items():
        if name not in names and not is_macromolecule(name) and not is_known(name):
            raise OptionError(
                f"concentrations: factors: there is no metabolite '{name}', here or in a usual basis set."
            )
        if name in names:
            conc[:, list(names).index(name)] *= sample(factor, (n,), generator)
    if "absent" in spec:
        conc *= torch.rand(n, m, generator=generator) >= spec["absent"]
    if prior != "table" and mm.any():
        # A summed pattern of the size of a metabolite set's; single lines vary by themselves, too.
        whole = sample(spec.get("macromolecules", {"uniform": [0.5, 1.5]}), (n, 1), generator)
        each = torch.exp(0.2 * torch.randn(n, int(mm.sum()), generator=generator)) if mm.sum() > 1 else 1.0
        conc[:, mm] = 8.0 * whole * each
    return conc


def sample_lines(spec, n: int, generator: torch.Generator) -> torch.Tensor:
    """Random lines ``(n, n_lines, 5)``: height, ppm, Lorentzian and Gaussian width (Hz), phase (rad); height 0 where
    absent.

    A list of groups is drawn one after the other.  Widths under ``fwhm_ppm`` are Gaussian and negative in the fourth
    column:
    -ppm, turned into Hz once the field is known.
    """
    if isinstance(spec, list):
        return torch.cat([sample_lines(one, n, generator) for one in spec], 1)
    unknown = set(spec) - set(_LINES)
    if unknown:
        raise OptionError(f"lines of a recipe: '{min(unknown)}' is unknown; there are {', '.join(_LINES)}.")
    count = int(spec.get("n", 1))
    there = torch.rand(n, 1, generator=generator) < spec.get("probability", 1.0)
    # The group has a size and its lines divide it unevenly, so that one of many lines can stand for all of them.
    whole = sample(spec["height"], (n, 1), generator)
    share = torch.rand(n, count, generator=generator) if count > 1 else torch.ones(n, 1)
    height = whole * share / share.amax(1, keepdim=True) * there
    ppm = sample(spec["ppm"], (n, count), generator)
    lorentz = sample(spec.get("lorentz_fwhm_hz", 0.0), (n, count), generator)
    if "fwhm_ppm" in spec:
        gauss = -sample(spec["fwhm_ppm"], (n, count), generator)
    else:
        gauss = sample(spec.get("gauss_fwhm_hz", 0.0), (n, count), generator)
    phase = sample(spec.get("phase_deg", 0.0), (n, count), generator) * (torch.pi / 180)
    return torch.stack([height, ppm, lorentz, gauss, phase], -1)


def draw_concentrations(recipe: Recipe, n: int, names, generator: torch.Generator) -> torch.Tensor:
    """The concentrations of ``n`` spectra alone, ``(n, n_metabs)``."""
    return _concentrations(recipe.get("concentrations"), names, n, generator)


def draw(recipe: Recipe, n: int, names, generator: torch.Generator) -> dict[str, torch.Tensor]:
    """All that is random about ``n`` spectra.

    Parameters
    ----------
    recipe : Recipe
    n : int
    names : sequence of str
        The metabolites of the basis set that will be rendered.
    generator : torch.Generator
        On the CPU; the same seed gives the same spectra on every device.

    Returns
    -------
    dict of tensors with ``n`` rows
        ``conc`` ``(n, n_metabs)``, ``lorentz_hz`` and ``gauss_hz`` (full widths at half maximum), ``shift_ppm``,
        ``shift_hz`` (added to it), ``phi0`` (rad, at 2.2 ppm) and ``phi1`` (rad per ppm), ``mm`` ``(n, 12)`` heights of
        the parametric macromolecules' lines, ``water``, ``lipids``, ``baseline`` ``(n, n_lines, 5)``, ``spikes`` ``(n,
        2)`` height and place, ``snr``, ``noise_seed``.  Where the recipe says so, ``each`` ``(n, n_metabs, 3)``, shift
        (Hz), damping (1/s, of an exponent that is added, so that below zero is broader) and phase (rad) of every
        metabolite by itself (macromolecules only with ``"macromolecules": true``), and ``snr_of``, what an SNR of one
        is the noise's SD of: a number, or 'energy', the FID's root mean square in one channel.
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
        there = torch.rand(n, 1, generator=generator) < mm.get("probability", 1.0)
        each = torch.exp(mm.get("spread", 0.2) * torch.randn(n, 12, generator=generator))
        drawn["mm"] = sample(mm["height"], (n, 1), generator) * each * there
    for name in ("water", "lipids", "baseline"):
        if recipe.get(name):
            drawn[name] = sample_lines(recipe.get(name), n, generator)
    spikes = recipe.get("spikes")
    if spikes:
        there = torch.rand(n, generator=generator) < spikes.get("probability", 1.0)
        height = sample(spikes["height"], (n,), generator) * there
        drawn["spikes"] = torch.stack([height, torch.rand(n, generator=generator)], -1)
    each = recipe.get("each")
    if each:
        own = torch.stack([sample(each.get(name, 0.0), (n, len(names)), generator) for name in _EACH], -1)
        own[..., 2] *= pi / 180
        if not each.get("macromolecules"):
            own[:, [is_macromolecule(name) for name in names]] = 0
        drawn["each"] = own
    if recipe.get("snr_of", "peak") != "peak":
        drawn["snr_of"] = recipe.get("snr_of")
    return drawn


@dataclass(frozen=True)
class Rendered:
    """Spectra that were made, and their parts; FIDs are complex64 ``(n, n_points)``.

    ``fid`` all of it with noise; ``metabolites`` without anything else (the basis' own macromolecules included);
    ``nuisance`` macromolecules, water, lipids and baseline; ``height`` ``(n,)`` of the highest metabolite peak in the
    spectrum and ``noise_sd`` ``(n,)`` of its real part, in the units of :func:`fsl_mrs_dl.core.units.fid_to_spec`.
    """

    fid: torch.Tensor
    metabolites: torch.Tensor
    nuisance: torch.Tensor
    height: torch.Tensor
    noise_sd: torch.Tensor


def _widths(time, lorentz_hz, gauss_hz):
    """Exponent of the decay in time for full widths at half maximum."""
    pi = torch.pi
    return -pi * lorentz_hz[..., None] * time - (pi * gauss_hz[..., None] * time) ** 2 / (4 * math.log(2))


def line_fids(lines: torch.Tensor, n_points: int, dwelltime: float, spec_freq_mhz: float, device="cpu") -> torch.Tensor:
    """Sum of random lines (see :func:`sample_lines`) of heights relative to 1, complex ``(n, n_points)``."""
    time = torch.arange(n_points, device=device) * dwelltime
    # Most lines of most recipes are absent; only those that are there cost anything.
    row, column = lines[..., 0].nonzero(as_tuple=True)
    there = lines[row, column].to(time.device)
    height, ppm, lorentz, gauss, phase = there.unbind(-1)
    gauss = torch.where(gauss < 0, -gauss * spec_freq_mhz, gauss)
    hz = units.ppm_to_hz(ppm, spec_freq_mhz)
    decay = _widths(time, lorentz, gauss).exp()
    # The height of a line is the sum over its decay in the unitary transform.
    size = height * math.sqrt(n_points) / decay.sum(-1)
    angle = phase[..., None] + 2 * torch.pi * hz[..., None] * time
    fids = torch.polar(size[..., None] * decay, angle)
    return fids.new_zeros(len(lines), n_points).index_add(0, row.to(time.device), fids)


def _grid(protocol: Protocol):
    return protocol.basis.shape[-1], protocol.dwelltime, protocol.spec_freq_mhz, protocol.basis.device


def _band(protocol: Protocol) -> torch.Tensor:
    ppm = units.ppm_axis(protocol.basis.shape[-1], protocol.dwelltime, protocol.spec_freq_mhz)
    return torch.as_tensor((ppm > _WINDOW_PPM[0]) & (ppm < _WINDOW_PPM[1])).to(protocol.basis.device)


def _common_phase(drawn, protocol, spec):
    """Zero- and first-order phase about 2.2 ppm, applied to spectra ``(n, n_points)``."""
    ppm = torch.as_tensor(
        units.ppm_axis(spec.shape[-1], protocol.dwelltime, protocol.spec_freq_mhz), dtype=torch.float32
    )
    phi0, phi1 = drawn["phi0"].to(spec.device), drawn["phi1"].to(spec.device)
    angle = phi0[:, None] + phi1[:, None] * (ppm.to(spec.device) - 2.2)
    return spec * torch.polar(torch.ones_like(angle), -angle)


def _mixed(conc: torch.Tensor, each: torch.Tensor | None, protocol: Protocol) -> torch.Tensor:
    """Basis FIDs times concentrations ``(n, n_metabs)``, summed, ``(n, n_points)``; each with a shift, damping and
    phase of its own."""
    if each is None:
        return conc.to(protocol.basis.dtype) @ protocol.basis
    shift, damping, phase = each.to(conc.device).unbind(-1)
    fid = protocol.basis.new_zeros(len(conc), protocol.basis.shape[-1])
    for k, one in enumerate(protocol.basis):
        angle = 2 * torch.pi * shift[:, k, None] * protocol.time - phase[:, k, None]
        fid += one * torch.polar(conc[:, k, None] * torch.exp(damping[:, k, None] * protocol.time), angle)
    return fid


def render(drawn: dict[str, torch.Tensor], protocol: Protocol, *, noise: bool = True) -> Rendered:
    """What was drawn, as FIDs on a basis set; deterministic, on the protocol's device.

    The sign of phases is FSL-MRS's: the spectrum is multiplied by ``exp(-1j (phi0 + phi1 (ppm - 2.2)))``.  Positive
    shifts go to higher ppm.
    """
    device, time = protocol.basis.device, protocol.time
    n, n_points = len(drawn["snr"]), protocol.basis.shape[-1]
    conc = drawn["conc"].to(device)
    metabolites = _mixed(conc, drawn.get("each"), protocol)
    shift = 2 * torch.pi * (drawn["shift_ppm"] * protocol.spec_freq_mhz + drawn["shift_hz"]).to(device)
    decay = _widths(time, drawn["lorentz_hz"].to(device), drawn["gauss_hz"].to(device))
    broadened = metabolites * decay.exp()
    band = _band(protocol)
    height = units.fid_to_spec(broadened)[:, band].real.amax(-1).clamp(min=1e-12)
    nuisance = torch.zeros_like(broadened)
    if "mm" in drawn:
        nuisance = nuisance + (drawn["mm"].to(device) * height[:, None]).to(nuisance.dtype) @ protocol.mm * decay.exp()
    lines = [drawn[name] for name in ("water", "lipids", "baseline") if name in drawn]
    if lines:
        nuisance = nuisance + height[:, None] * line_fids(torch.cat(lines, 1), *_grid(protocol))
    moved = torch.polar(torch.ones_like(shift)[:, None].expand(-1, n_points), shift[:, None] * time)
    parts = [
        units.spec_to_fid(_common_phase(drawn, protocol, units.fid_to_spec(part * moved)))
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
    """Complex noise of SD 1 in each of both parts; on the CPU first, so that a seed means the same everywhere."""
    generator = torch.Generator().manual_seed(seed)
    return torch.view_as_complex(torch.randn(*shape, 2, generator=generator)).to(device)


# -- transients ----------------------------------------------------------------------------------------------------


def draw_transients(recipe: Recipe, n: int, n_transients: int, names, generator: torch.Generator) -> dict:
    """All that is random about ``n`` sets of transients: :func:`draw`'s, and what varies within a set.

    The recipe's ``transients`` holds ``shift_hz``, ``phase_deg``, ``amplitude`` (of every transient) and
    ``unstable_water``, ``unstable_lipids``: lines that every transient has anew.  ``snr`` is that of one transient.

    Returns
    -------
    dict
        ``set`` what :func:`draw` gives; ``shift_hz``, ``phi0`` (rad), ``amplitude`` ``(n, n_transients)``; ``lines``
        ``(n, n_transients, n_lines, 5)``; ``noise`` ``(n, n_transients)``, the SD of each transient's noise over that
        of the recipe's SNR, 1 unless changed; ``noise_seed``.
    """
    spec, shape = recipe.get("transients", {}), (n, n_transients)
    lines = []
    for name in ("unstable_water", "unstable_lipids"):
        if name in spec:
            one = sample_lines(spec[name], n * n_transients, generator).reshape(n, n_transients, -1, 5)
            # A set is unstable or it is not; within one, every transient is.
            there = torch.rand(n, 1, 1, generator=generator) < spec.get(f"{name}_probability", 1.0)
            one[..., 0] *= there
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
    """FIDs ``(n, n_transients, n_points)`` complex64, and the spectra they are variations of, without noise.

    A transient is the common FID times ``amplitude exp(1j (2 pi shift_hz t - phi0))``: positive shifts go to higher
    ppm, phases are FSL-MRS's.
    """
    device, time = protocol.basis.device, protocol.time
    base = render(drawn["set"], protocol, noise=False)
    n, k = drawn["shift_hz"].shape
    fid = base.fid[:, None].expand(n, k, -1)
    if drawn["lines"].shape[2]:
        unstable = line_fids(drawn["lines"].flatten(0, 1), *_grid(protocol)).reshape(n, k, -1)
        fid = fid + base.height[:, None, None] * unstable
    angle = 2 * torch.pi * drawn["shift_hz"].to(device)[..., None] * time - drawn["phi0"].to(device)[..., None]
    fid = torch.polar(drawn["amplitude"].to(device)[..., None].expand_as(angle), angle) * fid
    noise = _noise(fid.shape, int(drawn["noise_seed"]), device)
    return fid + base.noise_sd[:, None, None] * drawn["noise"].to(device)[..., None] * noise, base


# -- protocols -----------------------------------------------------------------------------------------------------
