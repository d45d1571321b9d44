r"""Two inputs as functions on a plane, and lattices on it.

In standard deviations, u_a = c x₁ + s x₂ and u_b = c x₁ − s x₂ with c² = (1 + ρ)/2, s² = (1 − ρ)/2. The trapezoid
rule converges geometrically for analytic σ. What it gets wrong are the Fourier components of the integrand at the
points of the dual lattice. Two lattices, the second shifted by half a cell in both directions, have them with
opposite signs at the points with an odd sum of indices, and these are the nearest ones: the mean of the two is free
of them, the difference shows them. The next points are √2 times as far, so a relative difference δ leaves a relative
error of the mean of at most about δ^√2.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from finitewidth.activations import Activation
from finitewidth.errors import InputError
from finitewidth.gaussian.products import Product, single_input_products

_SPACINGS = tuple(0.95 * 0.87**i for i in range(24))
_FINE_ENOUGH = 1e-7  # relative error of one lattice on a line
_NEGLIGIBLE = 1e-15  # relative weight of the tail that is cut off
_EXPONENT = 1.4


class Lattices(NamedTuple):
    """Nodes and weights of the lattice and of the shifted one along both axes, shapes (2, m₁) and (2, m₂)."""

    x: np.ndarray
    w_x: np.ndarray
    y: np.ndarray
    w_y: np.ndarray

    @classmethod
    @lru_cache(maxsize=8)
    def of(cls, h: float, reach: float, is_even: bool) -> "Lattices":
        """If the integrand is even under (x, y) → −(x, y), half of the nodes are enough."""
        n = int(np.ceil(reach / h))
        y = h * (np.arange(-n, n + 1) + np.array([[0.0], [0.5]]))
        w = h / np.sqrt(2 * np.pi) * np.exp(-0.5 * y * y)
        if not is_even:
            return cls(y, w, y, w)
        return cls(y[:, n:], np.where(y == 0, w, 2 * w)[:, n:], y, w)

    @property
    def weights(self) -> np.ndarray:
        """Of the plane, shape (2, m₁, m₂)."""
        return self.w_x[:, :, None] * self.w_y[:, None, :]


def axes_of(rho: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """c and s; 0 for what is 0 up to rounding."""
    eps = 8 * np.finfo(float).eps
    c, s = (np.sqrt(np.where(each < eps, 0.0, each)) for each in (0.5 * (1 + rho), 0.5 * (1 - rho)))
    return c, s


def derivatives_on(
    activation: Activation, std: np.ndarray, rho: np.ndarray, orders: tuple[int, ...], lattices: Lattices
) -> np.ndarray:
    """σ⁽ᵏ⁾ of both inputs of P pairs at the nodes, shape (orders, inputs, 2, P, m₁, m₂)."""
    c, s = axes_of(rho)
    along = c[:, None, None] * lattices.x[:, None, :, None]
    across = s[:, None, None] * lattices.y[:, None, None, :]
    first, second = std.T[:, :, None, None]
    return activation.evaluate(np.stack([first * (along + across), second * (along - across)]), orders)


def mean_of_lattices(both: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Value and absolute error of averages over both lattices, given the root mean squares they are measured by."""
    one, other = both
    apart = np.minimum(np.abs(one - other) / scale, 1.0)
    return np.stack([0.5 * (one + other), scale * (apart**_EXPONENT + 8 * np.finfo(float).eps)])


def spacing(activation: Activation, variance: float, products: tuple[tuple[int, ...], ...], reach: float) -> float:
    """The widest that gives these products of derivatives of a single input, and their magnitudes, to 1e-7.

    A line is the worst case: the plane's axes are never steeper functions of the inputs.
    """
    keys = tuple(sorted({Product(tuple(sorted(orders))) for orders in products}))
    exact = single_input_products(activation, np.array([variance]), keys).value[:, 0]
    orders = tuple(sorted({k for key in keys for k in key.orders}))
    for h in _SPACINGS:
        n = int(np.ceil(reach / h))
        x = h * np.arange(-n, n + 1)
        d = dict(zip(orders, activation.evaluate(np.sqrt(variance) * x, orders), strict=True))
        rows = np.stack([np.prod([d[k] for k in key.orders], axis=0) for key in keys])
        weight = h / np.sqrt(2 * np.pi) * np.exp(-0.5 * x * x)
        if np.all(np.abs(rows @ weight - exact) <= _FINE_ENOUGH * (np.abs(rows) @ weight)):
            return h
    raise InputError(
        f"averages over two inputs at K = {variance:.4g} need a lattice finer than {_SPACINGS[-1]:.2g} standard "
        f"deviations for {activation.name}; use smaller inputs, C_W or C_b"
    )


def reach(
    activation: Activation, variance: float, orders: tuple[int, ...], slots: int, negligible: float = _NEGLIGIBLE
) -> float:
    """Standard deviations beyond which no product of `slots` derivatives has a weight that matters."""
    r = np.arange(0.25, 38.0, 0.25)
    x = np.concatenate([-r[::-1], r])
    with np.errstate(over="ignore", invalid="ignore"):
        sizes = np.abs(activation.evaluate(np.sqrt(variance) * x, orders))
        if not activation.is_abrupt:  # at these one derivative may be so large that the others seem negligible
            sizes = sizes.max(0, keepdims=True)
        weight = np.nan_to_num(sizes**slots, nan=np.inf) * np.exp(-0.5 * x * x) * np.abs(x) ** 3
    if not np.all(np.isfinite(weight)):
        if np.isnan(sizes).any():
            raise InputError(
                f"activation {activation.name!r} has derivatives up to order {max(orders)} that are nan where a "
                f"Gaussian of variance {variance:.4g} has weight; write it so that automatic differentiation works "
                "there (two nested `jnp.where`, one to keep each branch finite)"
            )
        raise InputError(f"{activation.name} overflows where a Gaussian of variance {variance:.4g} still has weight")
    matters = np.any((weight > negligible * weight.max(1, keepdims=True)), axis=0)
    return float(np.abs(x[matters]).max() + 0.25)
