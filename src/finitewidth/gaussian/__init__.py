"""Averages over Gaussian distributions, ⟨f(z)⟩_K: the numerical tool that everything else stands on (PDLT ch. 1)."""

from finitewidth.gaussian.estimate import Estimate
from finitewidth.gaussian.expectation import expectation
from finitewidth.gaussian.pairs import KernelPair, kernel_pair
from finitewidth.gaussian.population import Population

__all__ = ["Estimate", "KernelPair", "Population", "expectation", "kernel_pair"]
