r"""⟨σ⁽ⁱ⁾σ⁽ʲ⁾ …⟩_K of one input: averages of products of σ and its derivatives, and their derivatives by z.

For smooth σ the derivatives of a product are products again. Where σ has kinks, its derivatives hold delta functions;
then, for g the product of almost-everywhere derivatives, integration by parts gives what the deltas contribute too:

    ⟨dᵐg/dzᵐ⟩_K = K^{−m/2} ⟨g He_m(z/√K)⟩_K .
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.polynomial import chebyshev, hermite_e

from finitewidth.activations import Activation
from finitewidth.gaussian.estimate import Estimate
from finitewidth.gaussian.line import average
from finitewidth.gaussian.tables import chebyshev_coefficients, chebyshev_nodes

_AT_A_TIME = 8  # products: what they need of memory is bounded so
_WIDTH, _NODES = 1.0, 24  # of an interval of log K, and of the polynomial on it


class Product(NamedTuple):
    """⟨dᵐ/dzᵐ Π σ⁽ᵏ⁾⟩: the orders k, ascending, and m = `weak`."""

    orders: tuple[int, ...]
    weak: int = 0


def single_input_products(activation: Activation, K: np.ndarray, wanted: tuple[Product, ...]) -> Estimate:
    """Averages of products at kernels K > 0, with their absolute errors: shape (len(wanted), *K.shape).

    Many K that lie close together are interpolated in log K, in which the averages are analytic.
    """
    flat = np.asarray(K, dtype=np.float64).ravel()
    value, error = np.zeros((2, len(wanted), flat.size))
    window = np.floor(np.log(flat) / _WIDTH).astype(int)
    for w in np.unique(window):
        here = window == w
        direct = np.unique(flat[here])
        interpolates = len(direct) > 1.5 * _NODES
        nodes = np.exp((w + 0.5 + 0.5 * chebyshev_nodes(_NODES)) * _WIDTH) if interpolates else direct
        found = _by_quadrature(activation, nodes, wanted)
        if interpolates:
            found = _interpolated(found, 2 * (np.log(flat[here]) / _WIDTH - w) - 1)
            value[:, here], error[:, here] = found.value, found.error
        else:
            at = np.searchsorted(direct, flat[here])
            value[:, here], error[:, here] = found.value[:, at], found.error[:, at]
    shape = (len(wanted), *np.shape(K))
    return Estimate(value.reshape(shape), error.reshape(shape), "line")


def _by_quadrature(activation: Activation, K: np.ndarray, wanted: tuple[Product, ...]) -> Estimate:
    parts = [_few_by_quadrature(activation, K, wanted[i : i + _AT_A_TIME]) for i in range(0, len(wanted), _AT_A_TIME)]
    return Estimate(np.concatenate([p.value for p in parts]), np.concatenate([p.error for p in parts]), "line")


def _few_by_quadrature(activation: Activation, K: np.ndarray, wanted: tuple[Product, ...]) -> Estimate:
    if any(product.weak for product in wanted):
        each = [average(_integrand(activation, wanted, k), k, kinks=activation.breaks) for k in K]
        value, error = (np.stack([getattr(e, name) for e in each], axis=-1) for name in ("value", "error"))
    else:
        value, error, _ = average(_integrand(activation, wanted, 1.0), K, kinks=activation.breaks)
    power = K ** (-0.5 * np.array([product.weak for product in wanted])[:, None])
    return Estimate(value * power, error * power, "line")


def _integrand(activation: Activation, wanted: tuple[Product, ...], K: float) -> Callable[[np.ndarray], np.ndarray]:
    orders = tuple(sorted({k for product in wanted for k in product.orders}))

    def products(z: np.ndarray) -> np.ndarray:
        derivatives = dict(zip(orders, activation.evaluate(z, orders), strict=True))
        rows = np.ones((len(wanted), *z.shape))
        for row, product in zip(rows, wanted, strict=True):
            for k in product.orders:
                row *= derivatives[k]
            if product.weak:
                row *= hermite_e.hermeval(z / np.sqrt(K), [0] * product.weak + [1])
        return rows

    return products


def _interpolated(at_nodes: Estimate, t: np.ndarray) -> Estimate:
    """By the polynomial through the nodes; what its last coefficients leave open is added to the error."""
    coefficients = chebyshev_coefficients(at_nodes.value, 1)
    value = chebyshev.chebval(t, coefficients.T)
    tail = np.abs(coefficients[:, -3:]).sum(1, keepdims=True)
    return Estimate(value, at_nodes.error.max(1, keepdims=True) + tail, "line")
