"""What measurements of networks have in common: estimates by name, and their extrapolation over widths."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np

from finitewidth.experiments.extrapolation import Extrapolation, extrapolate
from finitewidth.experiments.statistics import Estimate


class Estimated:
    """`estimates` by name, at one width n."""

    estimates: Mapping[str, Estimate]

    @property
    @abstractmethod
    def n(self) -> int:
        """The width of the layer before the output."""

    @cached_property
    def value(self) -> dict[str, np.ndarray]:
        """By name, the estimate."""
        return {name: estimate.value for name, estimate in self.estimates.items()}

    @cached_property
    def standard_error(self) -> dict[str, np.ndarray]:
        """By name, the standard error of `value`."""
        return {name: estimate.standard_error for name, estimate in self.estimates.items()}


class Widths:
    """Measurements of one architecture at several widths."""

    measurements: Sequence[Estimated]

    def extrapolate(self, name: str, *, order: int = 1) -> Extrapolation:
        """Fit T(n) = T_∞ + c₁/n + … + c_order/n^order to what was measured of `name` (see `extrapolation`)."""
        seen = self.measurements
        values, errors = [each.value[name] for each in seen], [each.standard_error[name] for each in seen]
        return extrapolate([each.n for each in seen], values, errors, order=order)
