"""Batches, losses and accuracy of the universal networks."""

from __future__ import annotations

import math

import torch
from torch import nn

from ..core import units
from ..networks.universal import STEP_PPM, AlignUniversal, QuantUniversal, peaks
from ..simulation import random_spectra
from ..simulation.in_vivo_effects import shim_widths_hz

__all__ = [
    "align_accuracy",
    "align_batch",
    "align_loss",
    "quant_accuracy",
    "quant_batch",
    "quant_loss",
]


def quant_loss(network: QuantUniversal, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the terms of the training loss of :class:`QuantUniversal`; ``total`` is their weighted sum."""
    out = network(batch["spec"], batch["spec_freq_mhz"])
    target = _soft_labels(batch["shift_ppm"], network.shifts_ppm, 0.8 * network.step_ppm)
    shift = -(target * torch.log_softmax(out["shift_logits"], -1)).sum(-1)
    unit = torch.stack([torch.cos(batch["phi0"]), torch.sin(batch["phi0"])], -1)
    phase = (out["phase"] - unit).square().sum(-1)
    huber = nn.functional.smooth_l1_loss
    width = 0.5 * (
        huber(torch.log1p(out["lorentz_hz"]), torch.log1p(batch["lorentz_hz"]), reduction="none", beta=0.3)
        + huber(torch.log1p(out["gauss_hz"]), torch.log1p(batch["gauss_hz"]), reduction="none", beta=0.3)
    )
    slope = huber(10 * out["phi1"], 10 * batch["phi1"], reduction="none")
    baseline = huber(
        torch.view_as_real(out["baseline"]), torch.view_as_real(batch["baseline"]), reduction="none", beta=0.1
    )
    terms = {"shift": shift, "phase": phase, "width": width, "phi1": slope, "baseline": baseline.mean((-2, -1))}
    weights = {"shift": 1.0, "phase": 2.0, "width": 0.5, "phi1": 0.3, "baseline": 2.0}
    terms = {name: value.mean() for name, value in terms.items()}
    terms["total"] = sum(weights[name] * terms[name] for name in weights)
    guess, _ = peaks(out["shift_logits"].detach(), network.shifts_ppm, 1)
    terms["within_0.02ppm"] = ((guess[:, 0] - batch["shift_ppm"]).abs() < 0.02).float().mean()
    return terms


def align_loss(network: AlignUniversal, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the terms of the training loss of :class:`AlignUniversal`; ``total`` is their sum."""
    out = network(batch["transient"], batch["reference"], batch["spec_freq_mhz"])
    values = network.shifts_ppm.to(torch.float32)
    target = _soft_labels(batch["shift_ppm"], values, 0.6 * STEP_PPM)
    shift = -(target * torch.log_softmax(out["shift_logits"], -1)).sum(-1)
    angle = (target * out["correlation"]).sum(-1).angle()
    phase = 1 - torch.cos(angle + batch["phi0"])
    terms = {"shift": shift.mean(), "phase": phase.mean()}
    terms["total"] = terms["shift"] + terms["phase"]
    guess, _ = peaks(out["shift_logits"].detach(), values, 1)
    terms["within_0.02ppm"] = ((guess[:, 0] - batch["shift_ppm"]).abs() < 0.02).float().mean()
    return terms


def _shares(shift_error_ppm, phase_error_rad) -> dict[str, float]:
    degrees = torch.rad2deg(units.wrap_radians(phase_error_rad)).abs()
    return {
        "shift within 0.02 ppm (%)": 100 * (shift_error_ppm.abs() < 0.02).float().mean().item(),
        "phase within 30 degrees (%)": 100 * (degrees < 30).float().mean().item(),
        "shift, median error (ppm)": shift_error_ppm.abs().median().item(),
        "phase, median error (degrees)": degrees.median().item(),
    }


def quant_accuracy(network: QuantUniversal, batch: dict[str, torch.Tensor]) -> dict[str, float]:
    """Return the accuracy of the proposals for a batch, in the words and units of the model card."""
    proposals = network.propose(batch["spec"], batch["spec_freq_mhz"])
    error = proposals["shift_ppm"] - batch["shift_ppm"][:, None]
    return _shares(error[:, 0], proposals["phi0"] - batch["phi0"]) | {
        "one of three shifts within 0.02 ppm (%)": 100 * (error.abs() < 0.02).any(-1).float().mean().item(),
        "Lorentzian width, median error (Hz)": (proposals["lorentz_hz"] - batch["lorentz_hz"]).abs().median().item(),
        "Gaussian width, median error (Hz)": (proposals["gauss_hz"] - batch["gauss_hz"]).abs().median().item(),
    }


def align_accuracy(network: AlignUniversal, batch: dict[str, torch.Tensor]) -> dict[str, float]:
    """Return the accuracy of the proposals for a batch, in the words and units of the model card."""
    proposals = network.propose(batch["transient"], batch["reference"], batch["spec_freq_mhz"])
    return _shares(proposals["shift_ppm"] - batch["shift_ppm"], proposals["phi0"] - batch["phi0"])


def _soft_labels(value: torch.Tensor, grid: torch.Tensor, sd: float) -> torch.Tensor:
    """Return Gaussian weights of the grid's steps around each value, summing to 1."""
    return torch.softmax(-0.5 * ((value[:, None] - grid) / sd) ** 2, -1)


def quant_batch(recipe, protocol, n: int, generator: torch.Generator) -> dict[str, torch.Tensor]:
    """Return simulated spectra as :func:`quant_loss` needs them, some of acquisitions that end early."""
    drawn = random_spectra.draw(recipe, n, protocol.names, generator)
    rendered = random_spectra.render(drawn, protocol)
    sampled = _sampled(protocol, n, generator)
    spec = _on_grid(rendered.fid * sampled, protocol)
    nuisance = _on_grid(rendered.nuisance * sampled, protocol)
    knots = nn.functional.adaptive_avg_pool1d(torch.view_as_real(nuisance).permute(0, 2, 1), QuantUniversal.n_knots)
    knots = torch.complex(*knots.unbind(1)) / spec.abs().amax(-1, keepdim=True).clamp(min=1e-30)
    device = spec.device
    freq = protocol.axes.spec_freq_mhz
    gauss_hz = drawn["gauss_hz"]
    if "shim" in drawn:
        # Variances add up.
        gauss_hz = torch.hypot(gauss_hz, shim_widths_hz(drawn["shim"], freq))
    return {
        "spec": spec,
        "spec_freq_mhz": torch.full((len(spec),), freq, device=device),
        "shift_ppm": (drawn["shift_ppm"] + drawn["shift_hz"] / freq).to(device),
        "gauss_hz": gauss_hz.to(device),
        **{name: drawn[name].to(device) for name in ("phi0", "phi1", "lorentz_hz")},
        "baseline": knots,
    }


def align_batch(recipe, protocol, n: int, generator: torch.Generator, n_transients: int = 8) -> dict[str, torch.Tensor]:
    """Return ``n`` simulated transients in sets, as :func:`align_loss` needs them; the first of a set is the reference.

    As in measurements, a reference is another transient or the mean of many, with less noise and weaker unstable lines.
    """
    n_sets = max(1, n // n_transients)
    drawn = random_spectra.draw_transients(recipe, n_sets, n_transients + 1, protocol.names, generator)
    drawn["noise"][:, 0] = torch.exp(torch.rand(n_sets, generator=generator) * math.log(0.1))
    drawn["lines"][:, 0, :, 0] *= torch.rand(n_sets, 1, generator=generator)
    # References lie near their nominal place; what counts is the difference.
    drawn["shift_hz"][:, 0] *= 0.1
    fid, _ = random_spectra.render_transients(drawn, protocol)
    spec = _on_grid(fid * _sampled(protocol, n_sets, generator)[:, None], protocol)
    shift = (drawn["shift_hz"][:, 1:] - drawn["shift_hz"][:, :1]) / protocol.axes.spec_freq_mhz
    phase = drawn["phi0"][:, 1:] - drawn["phi0"][:, :1]
    device = spec.device
    return {
        "transient": spec[:, 1:].flatten(0, 1),
        "reference": spec[:, :1].expand(-1, n_transients, -1).flatten(0, 1),
        "spec_freq_mhz": torch.full((n_sets * n_transients,), protocol.axes.spec_freq_mhz, device=device),
        "shift_ppm": shift.flatten().to(device),
        "phi0": phase.flatten().to(device),
    }


def _sampled(protocol, n: int, generator: torch.Generator) -> torch.Tensor:
    """Return 1 before the end of each of ``n`` acquisitions and 0 after it, ``(n, n_points)``.

    Acquisitions are as long as the grid's FIDs, or shorter, down to a quarter.
    """
    end = 0.25 + 0.9 * torch.rand(n, 1, generator=generator)
    return (torch.linspace(0, 1, protocol.basis.shape[-1]) < end).to(protocol.basis.device)


def _on_grid(fid: torch.Tensor, protocol) -> torch.Tensor:
    """Return spectra on the grid from FIDs of a training protocol; the grid's points are bins of their transform."""
    n = fid.shape[-1]
    if n != 1024 or not math.isclose(protocol.axes.dwelltime * protocol.axes.spec_freq_mhz, 1 / 9.6, rel_tol=1e-6):
        raise ValueError("training spectra are made on 1024 points over 9.6 ppm")
    return units.fid_to_spec(fid)[..., 512 - 474 : 512 - 474 + 424]
