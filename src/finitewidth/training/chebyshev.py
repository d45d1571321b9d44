r"""Functions of a symmetric matrix, times a few columns, without its modes: a sum of Chebyshev polynomials.

    φ(A) B = Σ_k c_k T_k(2A/λ_max − 1) B ,     T_{k+1}(s) = 2 s T_k(s) − T_{k−1}(s) ,

one product with A for every degree. T steps of gradient descent are a polynomial of degree T − 1 already, but √T terms
of this one are enough, and √(λ_max t) for the flow until t (Trefethen, Approximation Theory and Practice, ch. 3, 8; for
powers Sachdeva and Vishnoi 2014, §3). What is left out is at most the sum of the |c_k| that are.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.fft

HIGHEST = 2**17
"""Degree beyond which no expansion is looked for."""


@dataclass(frozen=True)
class Chebyshev:
    """φ on [0, top] to ± `tail`."""

    coefficients: np.ndarray
    top: float
    tail: float
    largest: float

    @classmethod
    def of(
        cls, function: Callable[[np.ndarray], np.ndarray], top: float, relative: float, roundings: float = 0.0
    ) -> "Chebyshev | None":
        """With a tail of `relative`/top, of `relative` φ if that is less, or what rounding allows; None if that takes a
        degree beyond `HIGHEST`.

        Arguments
            function: φ of an array of λ. relative: what Θ_XT φ may be off by, as φ is multiplied by λ ≤ top.
            roundings: how many of them, in a row, φ has.
        """
        degree = 32
        while degree <= HIGHEST:
            angles = np.pi * (np.arange(degree) + 0.5) / degree
            values = function(top * np.cos(0.5 * angles) ** 2)  # 1 + cos without cancellation near λ = 0
            found = scipy.fft.dct(values, type=2) / degree
            found[0] /= 2
            largest = float(np.abs(values).max())
            # of a sum of so many coefficients
            rounding = (4 * np.sqrt(degree) + roundings) * np.finfo(float).eps * largest
            allowed = max(relative * min(1 / top, largest), rounding)
            tails = np.abs(found[::-1]).cumsum()[::-1]  # of all from here on
            if tails[degree // 2] <= allowed:
                kept = max(1, int(np.argmax(tails <= allowed)))
                return cls(found[:kept], top, float(tails[kept]), largest)
            degree *= 2
        return None

    @property
    def products(self) -> int:
        """With the matrix."""
        return len(self.coefficients) - 1

    def applied(
        self,
        product: Callable[[np.ndarray], np.ndarray],
        columns: np.ndarray,
        progress: Callable[[int, int], None] | None = None,
    ) -> np.ndarray:
        """φ(A) columns, of the same shape; `product` multiplies by A."""
        before, now = columns, columns  # T_0, and from k = 1 on T_{k−1}, T_k
        found = self.coefficients[0] * columns
        for k, coefficient in enumerate(self.coefficients[1:], start=1):
            turned = (2.0 / self.top) * product(now) - now
            before, now = now, turned if k == 1 else 2.0 * turned - before
            found += coefficient * now
            if progress is not None:
                progress(k, self.products)
        return found
