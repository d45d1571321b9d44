"""Averages of products at one input: deltas by hand, and interpolation as good as it says."""

import numpy as np
import pytest

import finitewidth as fw
from finitewidth.gaussian.products import Product, single_input_products
from finitewidth.precision import float64

K = np.array([1e-6, 0.3, 40.0])


@pytest.mark.parametrize(
    ("product", "exact"),
    [
        (Product((0, 0)), 0.5 * K),
        (Product((0, 0), 2), np.ones(3)),  # of z²θ(z): 2θ
        (Product((0, 0), 3), 2 / np.sqrt(2 * np.pi * K)),  # 2δ
        (Product((1, 1), 1), 1 / np.sqrt(2 * np.pi * K)),  # of θ: δ
        (Product((0, 1), 2), 1 / np.sqrt(2 * np.pi * K)),  # of zθ: δ
        (Product((1, 1), 3), -1 / np.sqrt(2 * np.pi) * K**-1.5),  # δ″
    ],
    ids=str,
)
def test_deltas_of_relu(product: Product, exact: np.ndarray) -> None:
    with float64():
        found = single_input_products(fw.activations.relu, K, (product,))
    assert np.all(np.abs(found.value[0] - exact) <= found.error[0] + 4e-15 * np.abs(exact))
    assert np.all(found.error[0] <= 1e-9 * np.abs(exact))


def test_interpolation_is_honest_and_sharp() -> None:
    """A hundred kernels in one window of log K are interpolated, three of them are not."""
    wanted = (Product((0, 0)), Product((0, 1, 1, 2)), Product((3, 3)))
    many = np.geomspace(0.2, 0.36, 100)
    some = many[[3, 50, 98]]
    with float64():
        for name in ("gelu", "tanh"):
            activation = fw.activations.named(name)
            direct = single_input_products(activation, some, wanted)
            fast = single_input_products(activation, many, wanted)
            off = np.abs(fast.value[:, [3, 50, 98]] - direct.value)
            assert np.all(off <= fast.error[:, [3, 50, 98]] + direct.error)
            assert np.all(fast.error <= 1e-10 * np.abs(fast.value).max(1, keepdims=True))
