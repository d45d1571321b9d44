from finitewidth.criticality.critical import Criticality, critical
from finitewidth.criticality.point import CriticalPoint

__all__ = ["CriticalPoint", "Criticality", "critical"]
