"""Real networks: drawn at initialisation, their derivatives taken exactly, their statistics measured.

Knows no theory: plain forward passes and JAX's derivatives. That is what makes it a check of the theory.
"""

from finitewidth.experiments.extrapolation import Extrapolation, extrapolate
from finitewidth.experiments.initialisation import Measurement, WidthScan, measure, measure_widths
from finitewidth.experiments.statistics import Estimate
from finitewidth.experiments.tensors import Outputs
from finitewidth.experiments.trained import (
    TrainedMeasurement,
    TrainedWidths,
    measure_trained,
    measure_trained_widths,
)

__all__ = [
    "measure",
    "measure_widths",
    "measure_trained",
    "measure_trained_widths",
    "Measurement",
    "WidthScan",
    "TrainedMeasurement",
    "TrainedWidths",
    "Estimate",
    "Extrapolation",
    "extrapolate",
    "Outputs",
]
