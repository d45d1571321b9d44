"""A computed average and how far to believe it."""

from typing import NamedTuple

import numpy as np


class Estimate(NamedTuple):
    """A value with an estimate of its absolute error.

    For deterministic rules `error` bounds the difference between two resolutions plus the rounding of the sum; for
    quasi-random populations it is one standard error over independent randomisations.
    """

    value: np.ndarray
    error: np.ndarray
    method: str = ""

    @property
    def relative_error(self) -> np.ndarray:
        """error / |value|; infinite where the value is zero and the error is not."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(self.error == 0, 0.0, np.abs(self.error / self.value))
