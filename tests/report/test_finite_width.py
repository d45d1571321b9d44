"""How much networks differ: against the exact result for ReLU, and against an ensemble of real networks."""

import numpy as np

import finitewidth as fw
from finitewidth.report.finite_width import finite_width


def relu(depth: int, width: int, n_out: int) -> fw.MLP:
    return fw.MLP("relu", depth=depth, width=width, n_in=3, n_out=n_out, C_b=0.0, C_W=2.0)


def test_relu_agrees_with_the_exact_variance_to_first_order() -> None:
    """Var(Ĝ)/K² = (1 + 5/n)^{L−1} − 1 exactly (FACTS 4.2), and the outputs are Gaussian given Ĝ."""
    x = [[1.0, -2.0, 0.5]]
    for width in (100, 200, 400):
        net = relu(5, width, 7)
        found = finite_width(net, fw.flow(net, x))
        spread = (1 + 5 / width) ** 4
        exact = spread * (1 + 2 / 7) - 1
        np.testing.assert_allclose(found.scale_std**2, 20 / width, rtol=1e-10)
        assert 0 < exact - found.norm_std**2 < 1.5 * (20 / width) ** 2  # the order 1/n² that was dropped, and no more


def test_the_exact_variance_is_that_of_real_networks() -> None:
    rng = np.random.default_rng(5)
    depth, width, n_out, number = 4, 12, 5, 20_000
    z = np.broadcast_to(np.array([1.0, -2.0, 0.5]), (number, 3))
    for n in (width,) * (depth - 1) + (n_out,):
        z = np.einsum("sij,sj->si", rng.normal(size=(number, n, z.shape[1])) * np.sqrt(2 / z.shape[1]), z)
        z = np.maximum(z, 0) if n == width else z
    Q = (z**2).mean(axis=1) / (2 * 5.25 / 3)
    exact = (1 + 5 / width) ** (depth - 1) * (1 + 2 / n_out) - 1
    squares = (Q - 1) ** 2
    assert abs(squares.mean() - exact) < 4.9 * squares.std() / np.sqrt(number)


def test_thresholds_of_trust() -> None:
    words = []
    for width in (2000, 100, 20):
        net = relu(5, width, 1)
        words.append(finite_width(net, fw.flow(net, [[1.0, 2.0, 3.0]])).first_order)
    assert words == ["good", "rough", "not to be trusted"]


def test_no_hidden_layer_is_exactly_gaussian() -> None:
    net = fw.MLP("relu", depth=1, n_in=3, n_out=4)
    found = finite_width(net, fw.flow(net, [[1.0, 2.0, 3.0]]))
    assert (found.r, found.scale_std) == (0.0, 0.0)
    assert found.norm_std == found.gaussian_std == np.sqrt(0.5)
