"""From finite widths to infinite width: weighted least squares in powers of 1/n.

T(n) = T_∞ + c₁/n + c₂/n² + … , as far as asked. T_∞ of a tensor is its value at first order in 1/n; c₁ of a mean, such
as E[z z] or E[H], is n times its shift at first order (G1, H1).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import gammaincc

from finitewidth.errors import InputError


@dataclass(frozen=True)
class Extrapolation:
    """The fit of Σ_p c_p n^(−p), p = 0 … order, to values at several widths, entry by entry.

    coefficients, standard_errors: (order + 1, …) c_p and their errors; c_0 is the value at infinite width.
    covariances: (order + 1, order + 1, …) of the coefficients.
    chi_square: (…) Σ_n (value − fit)²/error².
    degrees_of_freedom: widths − order − 1. With 0 the fit goes through every value and says nothing of its own truth.
    """

    coefficients: np.ndarray
    standard_errors: np.ndarray
    covariances: np.ndarray
    chi_square: np.ndarray
    degrees_of_freedom: int

    @property
    def value(self) -> np.ndarray:
        """c_0, the value at infinite width."""
        return self.coefficients[0]

    @property
    def standard_error(self) -> np.ndarray:
        """The error of `value`: statistical, for a polynomial of this order."""
        return self.standard_errors[0]

    @property
    def p_value(self) -> np.ndarray:
        """How often χ² would be larger by chance, were the polynomial of this order the truth; 1 with 0 degrees."""
        if self.degrees_of_freedom == 0:
            return np.ones_like(self.chi_square)
        return gammaincc(self.degrees_of_freedom / 2, self.chi_square / 2)


def extrapolate(
    widths: Sequence[int], values: Sequence[np.ndarray], standard_errors: Sequence[np.ndarray], *, order: int = 1
) -> Extrapolation:
    """Fit T(n) = T_∞ + c₁/n + … + c_order/n^order by least squares, each width weighted by 1/error².

    Arguments
        widths: n, two or more different ones.
        values, standard_errors: for each width, arrays of one shape; independent from width to width.
        order: the highest power of 1/n.

    Raises
        InputError: when there are fewer different widths than coefficients.
    """
    n = np.asarray(widths, dtype=np.float64)
    if np.unique(n).size <= order:
        raise InputError(
            f"`widths` must have at least order + 1 = {order + 1} different entries, but got {list(widths)}; "
            "measure more widths or lower `order`"
        )
    value, error = np.stack(values), np.stack(standard_errors)
    scale = error.max(0)
    unit = np.where(scale > 0, scale, 1.0)  # what does not vary has no error: all widths then weigh the same
    relative = np.where(scale > 0, np.maximum(error / unit, np.sqrt(np.finfo(np.float64).eps)), 1.0)
    # powers of n_min/n are of order one
    powers = np.arange(order + 1)
    design = np.power.outer(n.min() / n, powers)
    columns = design / np.moveaxis(relative, 0, -1)[..., None]  # (…, widths, powers)
    target = np.moveaxis(value / unit / relative, 0, -1)[..., None]
    inverse = np.linalg.pinv(columns)
    fitted = inverse @ target
    steps = n.min() ** powers
    covariance = inverse @ np.swapaxes(inverse, -1, -2) * np.outer(steps, steps) * scale[..., None, None] ** 2
    variances = np.diagonal(covariance, axis1=-2, axis2=-1)
    return Extrapolation(
        np.moveaxis(fitted[..., 0] * steps * unit[..., None], -1, 0),
        np.moveaxis(np.sqrt(variances), -1, 0),
        np.moveaxis(covariance, (-2, -1), (0, 1)),
        np.sum((target - columns @ fitted) ** 2, axis=(-2, -1)),
        n.size - order - 1,
    )
