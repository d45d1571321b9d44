"""Averages over every quartet of inputs, against adaptive quadrature, a lattice in four dimensions and each other."""

from itertools import product

import numpy as np
import pytest

import finitewidth as fw
from finitewidth.errors import InputError
from finitewidth.gaussian.canonical import canonical_correlations
from finitewidth.gaussian.subsets import averages_of_subsets

WANTED = [(0, 0, 0, 0), (0, 0, 1, 1), (1, 1, 2, 2), (1, 1, 1, 3)]
KERNELS = {
    "spread": np.array([[1.2, 0.3, -0.4, 0.5], [0.3, 0.8, 0.1, 0.2], [-0.4, 0.1, 1.0, 0.1], [0.5, 0.2, 0.1, 0.6]]),
    "alike": 0.7 * (0.97 + 0.03 * np.eye(4)),
    "a plane": (lambda x: x @ x.T)(np.array([[1.0, 0.1], [0.4, -0.7], [-0.5, 0.6], [0.2, 0.9]])),
    "twins": 0.5 + 0.5 * np.array([[1, 1, 0, -0.5], [1, 1, 0, -0.5], [0, 0, 1, 0.2], [-0.5, -0.5, 0.2, 1]]),
}


def activation(name: str) -> fw.Activation:
    return fw.MLP(name, depth=2, width=10).activation


def by_lattice(sigma: fw.Activation, K: np.ndarray, wanted: list[tuple[int, ...]], h: float) -> list[float]:
    """The trapezoid rule in as many dimensions as K has rank, in principal axes: another road."""
    eigenvalues, vectors = np.linalg.eigh(K)
    keep = eigenvalues > 1e-12
    axis = np.arange(-6.8, 6.8 + h / 2, h)
    total = np.zeros(len(wanted))
    orders = tuple(sorted({k for each in wanted for k in each}))
    first, *others = [axis] * int(keep.sum())
    for x0 in first:
        x = np.stack([np.full(len(axis) ** len(others), x0), *(g.ravel() for g in np.meshgrid(*others, indexing="ij"))])
        d = sigma.evaluate((vectors[:, keep] * np.sqrt(eigenvalues[keep])) @ x, orders)
        weight = (h / np.sqrt(2 * np.pi)) ** len(x) * np.exp(-0.5 * (x * x).sum(0))
        total += [np.sum(weight * np.prod([d[orders.index(k), i] for i, k in enumerate(each)], 0)) for each in wanted]
    return list(total)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("name", ["tanh", "gelu"])
def test_agrees_with_a_lattice_within_its_error(name: str, kernel: str) -> None:
    sigma, K = activation(name), KERNELS[kernel]
    found = averages_of_subsets(sigma, K, WANTED)
    for (orders, (value, error)), expected in zip(found.items(), by_lattice(sigma, K, WANTED, 0.34), strict=True):
        # the lattice itself is right to six digits
        assert abs(value[0, 1, 2, 3] - expected) <= error[0, 1, 2, 3] + 2e-7 * max(1.0, abs(expected)), orders
        assert error.max() <= 1e-6 * max(1.0, np.abs(value).max())


@pytest.mark.parametrize("at", [(0, 0, 1, 2), (1, 0, 2, 2), (3, 1, 0, 1)])
def test_three_inputs_agree_with_adaptive_quadrature(at: tuple[int, ...]) -> None:
    sigma, K, orders = activation("tanh"), KERNELS["spread"], (0, 0, 1, 1)
    inputs = sorted(set(at))

    def integrand(*z: np.ndarray) -> np.ndarray:
        by_input = dict(zip(inputs, z, strict=True))
        return np.prod([sigma.evaluate(np.asarray(by_input[i]), (k,))[0] for i, k in zip(at, orders, strict=True)], 0)

    expected = fw.expectation(integrand, K[np.ix_(inputs, inputs)], rtol=1e-10)
    value, error = (each[at] for each in averages_of_subsets(sigma, K, [orders])[orders])
    assert abs(value - expected.value) <= error + expected.error


@pytest.mark.parametrize("name", ["tanh", "gelu"])
def test_permuted_inputs_permute_the_result(name: str) -> None:
    sigma, K, order = activation(name), KERNELS["spread"], [2, 0, 3, 1]
    value, error = averages_of_subsets(sigma, K, [(0, 0, 1, 1)])[0, 0, 1, 1]
    other, its_error = averages_of_subsets(sigma, K[np.ix_(order, order)], [(0, 0, 1, 1)])[0, 0, 1, 1]
    assert np.all(np.abs(other - value[np.ix_(*[order] * 4)]) <= its_error + error[np.ix_(*[order] * 4)])


def test_slots_of_equal_orders_are_symmetric_and_odd_products_vanish() -> None:
    found = averages_of_subsets(activation("tanh"), KERNELS["spread"], [(0, 0, 1, 1), (0, 0, 0, 1)])
    value, error = found[0, 0, 1, 1]
    assert np.all(np.abs(value - value.transpose(1, 0, 3, 2)) <= error)
    assert not found[0, 0, 0, 1].any()


def test_pairs_obey_the_heat_equation() -> None:
    """∂/∂K_aa ⟨σ_a σ_b⟩ = ½ ⟨σ''_a σ_b⟩ (Price): a difference quotient of one average is another."""
    sigma, K, step = activation("gelu"), KERNELS["spread"][:2, :2], 1e-4
    up, down = (
        averages_of_subsets(sigma, K + each * np.diag([1.0, 0.0]), [(0, 0)])[0, 0][0, 0, 1] for each in (step, -step)
    )
    expected = 0.5 * averages_of_subsets(sigma, K, [(2, 0)])[2, 0][0, 0, 1]
    assert (up - down) / (2 * step) == pytest.approx(expected, rel=1e-6)


def test_canonical_correlations_recompose_the_cross_covariance() -> None:
    x = np.random.default_rng(3).standard_normal((4, 5))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    rho = x @ x.T
    s, alpha, beta = (each[0] for each in canonical_correlations(rho, np.array([[0, 1, 2, 3]])))

    def rotation(phi: float) -> np.ndarray:
        return np.array([[np.cos(phi), -np.sin(phi)], [np.sin(phi), np.cos(phi)]])

    def axes(a: int, b: int) -> np.ndarray:
        return np.stack([(x[a] + x[b]) / np.sqrt(2 + 2 * rho[a, b]), (x[a] - x[b]) / np.sqrt(2 - 2 * rho[a, b])])

    np.testing.assert_allclose(rotation(alpha) @ np.diag(s) @ rotation(beta).T, axes(0, 1) @ axes(2, 3).T, atol=1e-14)
    assert 1 >= s[0] >= abs(s[1])


def test_too_fast_a_function_is_refused() -> None:
    with pytest.raises(InputError, match="need"):
        averages_of_subsets(activation("tanh"), 400 * KERNELS["alike"], [(0, 0, 1, 1)])


def test_every_entry_is_filled() -> None:
    value, error = averages_of_subsets(activation("gelu"), KERNELS["spread"], [(0, 1, 1, 2)])[0, 1, 1, 2]
    assert all(value[at] != 0 and error[at] > 0 for at in product(range(4), repeat=4))
