from finitewidth.criticality.critical import Criticality, critical
from finitewidth.criticality.equivalence import LearningRates, learning_rates
from finitewidth.criticality.fixed_point import FixedPoint, fixed_point
from finitewidth.criticality.initialisation import CriticalChoice, Initialisation, critical_choice, initialisation
from finitewidth.criticality.nearest import NearestChoice
from finitewidth.criticality.phase import PhaseDiagram, critical_line, phase_diagram
from finitewidth.criticality.point import CriticalPoint
from finitewidth.criticality.susceptibility import Slopes, Susceptibility, slopes, susceptibility

__all__ = [
    "CriticalChoice",
    "CriticalPoint",
    "Criticality",
    "FixedPoint",
    "Initialisation",
    "LearningRates",
    "NearestChoice",
    "PhaseDiagram",
    "Slopes",
    "Susceptibility",
    "critical",
    "critical_choice",
    "critical_line",
    "fixed_point",
    "initialisation",
    "learning_rates",
    "phase_diagram",
    "slopes",
    "susceptibility",
]
