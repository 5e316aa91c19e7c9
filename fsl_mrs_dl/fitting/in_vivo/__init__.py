"""Fits of in vivo spectra: every nuisance with a prior, the baseline integrated out, amplitudes averaged over
models."""
