"""Real networks: drawn at initialisation, their derivatives taken exactly, their statistics measured.

Knows no theory: plain forward passes and JAX's derivatives. That is what makes it a check of the theory.
"""

from finitewidth.experiments.extrapolation import Extrapolation, extrapolate
from finitewidth.experiments.initialisation import Measurement, WidthScan, measure, measure_widths
from finitewidth.experiments.statistics import Estimate
from finitewidth.experiments.tensors import Outputs

__all__ = [
    "measure",
    "measure_widths",
    "Measurement",
    "WidthScan",
    "Estimate",
    "Extrapolation",
    "extrapolate",
    "Outputs",
]
