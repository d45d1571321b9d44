"""Averages over Gaussian distributions, ⟨f(z)⟩_K: the one numerical tool that everything else stands on (PDLT ch. 1)."""

from finitewidth.gaussian.estimate import Estimate
from finitewidth.gaussian.pairs import KernelPair, kernel_pair

__all__ = ["Estimate", "KernelPair", "kernel_pair"]
