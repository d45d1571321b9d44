"""Normals in many dimensions, even where it matters: along the directions of largest variance."""

import numpy as np
import scipy.linalg
from scipy.special import ndtri
from scipy.stats import qmc


def principal_root(K: np.ndarray) -> np.ndarray:
    """R with K = R Rᵀ, the directions of largest variance first; what rounding made negative is zero."""
    variances, directions = scipy.linalg.eigh(K)
    return np.ascontiguousarray((directions * np.sqrt(np.clip(variances, 0.0, None)))[:, ::-1])


class Normals:
    """Independent standard normals for a number of neurons, of which the foremost columns are scrambled Sobol points.

    Every request uses up a few of those columns; the rest is pseudo-random.
    """

    def __init__(self, count: int, columns: int, rng: np.random.Generator) -> None:
        sobol = qmc.Sobol(columns, scramble=True, bits=52, seed=rng)
        self._even = ndtri(sobol.random(count) + 0.5**53)
        self._used = 0
        self._rng = rng

    def draw(self, columns: int, even: int) -> np.ndarray:
        """(neurons, columns), at most `even` of which are even."""
        even = min(even, columns, self._even.shape[1] - self._used)
        found = self._even[:, self._used : self._used + even]
        self._used += even
        return np.concatenate([found, self._rng.standard_normal((len(found), columns - even))], axis=1)

    def signs(self, columns: int) -> np.ndarray:
        """±1, (neurons, columns)."""
        return self._rng.choice([-1.0, 1.0], (len(self._even), columns))
