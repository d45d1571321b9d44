"""`vertex`: contractions agree with the dense tensors of a few inputs within their errors, and the errors fall."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import t

import finitewidth as fw
from finitewidth.flow.vertex import FLUCTUATIONS

NET = fw.MLP(
    "gelu",
    depth=4,
    width=[400, 200, 800],
    C_b=[0.1, 0.3, 0.2, 0.1],
    C_W=[1.0, 1.6, 1.3, 1.8],
    lambda_b=0.3,
    lambda_W=0.8,
)
X = np.random.default_rng(2).normal(size=(3, 4))
RANDOMISATIONS = 16
FALSE_ALARMS = 1e-6  # of each tensor, by Bonferroni over its entries


@pytest.fixture(scope="module")
def dense():
    return fw.flow(NET, X, order=1, layers="last")


@pytest.fixture(scope="module")
def operators():
    return fw.vertex(NET, X, nodes=256, randomisations=RANDOMISATIONS, seed=5)


def contracted(dense, name: str, B: np.ndarray) -> np.ndarray:
    p, q = ("".join(axis for _, axis in pair) for pair in FLUCTUATIONS[name])
    return np.einsum(f"abcd,{q}->{p}", dense[name].values[0], B)


def spread_of_t(entries: int) -> float:
    """In units of the stated error, which covers what one standard deviation does (Student's t of few means)."""
    degrees = RANDOMISATIONS - 1
    one = t.ppf(0.841344746, degrees)
    return float(t.ppf(1 - FALSE_ALARMS / (2 * entries), degrees) / one)


@pytest.mark.parametrize("name", FLUCTUATIONS)
def test_contractions_agree_with_dense_tensors(dense, operators, name: str) -> None:
    """Route 1 and route 2 within the error bars of both; a matrix without symmetry shows exchanged axes."""
    B = np.random.default_rng(1).normal(size=(3, 3))
    expected, got = contracted(dense, name, B), operators.contract(name, B)
    error = got.error + float(dense[f"{name}_error"].max()) * np.abs(B).sum()
    assert np.all(np.abs(got.value - expected) <= spread_of_t(expected.size) * error)
    assert np.all(got.error <= 0.1 * np.abs(expected).max())  # else the agreement says nothing


@pytest.fixture(scope="module")
def with_kinks():
    net = replace(NET, activation="relu")
    return fw.flow(net, X, order=1, layers="last"), fw.vertex(net, X, nodes=1024, randomisations=RANDOMISATIONS, seed=5)


@pytest.mark.parametrize("name", ["V", "D", "A", "F", "B", "Q", "S", "T"])
def test_contractions_agree_with_kinks(with_kinks, name: str) -> None:
    """The same for ReLU: sample neurons know no deltas, and the responses bring them in closed form."""
    dense, operators = with_kinks
    B = np.random.default_rng(1).normal(size=(3, 3))
    expected, got = contracted(dense, name, B), operators.contract(name, B)
    error = got.error + float(dense[f"{name}_error"].max()) * np.abs(B).sum()
    assert np.all(np.abs(got.value - expected) <= spread_of_t(expected.size) * error)
    assert np.all(got.error <= 0.1 * np.abs(expected).max())


@pytest.mark.parametrize("name", ["V", "B", "Q"])
def test_error_falls_with_the_population(name: str) -> None:
    B = np.random.default_rng(1).normal(size=(3, 3))
    errors = [fw.vertex(NET, X, nodes=n).contract(name, B).error.max() for n in (64, 4096)]
    assert errors[1] < errors[0] / 5  # 8 for chance, more for Sobol points


def test_many_inputs_are_a_larger_matrix() -> None:
    """A B that is zero outside three of 132 inputs (past Sobol points): the block of their dense tensor."""
    x = np.concatenate([X, np.random.default_rng(4).normal(size=(129, 4))])
    net = fw.MLP("gelu", depth=3, width=400, C_W=1.6)
    B, small = np.zeros((132, 132)), np.random.default_rng(1).normal(size=(3, 3))
    B[:3, :3] = small
    dense = fw.flow(net, X, order=1, layers="last", tensors="V")
    got = fw.vertex(net, x, nodes=1024, randomisations=RANDOMISATIONS).contract("V", B)
    assert got.value.shape == (132, 132)
    off = np.abs(got.value[:3, :3] - contracted(dense, "V", small))
    assert np.all(off <= spread_of_t(9) * got.error[:3, :3])


@pytest.mark.parametrize("name", ["V", "A", "B", "P", "T"])
def test_contraction_is_linear_and_repeatable(operators, name: str) -> None:
    rng = np.random.default_rng(0)
    B, C = rng.normal(size=(2, 3, 3))
    value = operators.contract(name, 2 * B - C).value
    parts = 2 * operators.contract(name, B).value - operators.contract(name, C).value
    np.testing.assert_allclose(value, parts, atol=1e-11 * np.abs(parts).max())
    np.testing.assert_array_equal(operators.contract(name, B).value, operators.contract(name, B).value)


def test_contraction_of_one_layer_is_zero_and_progress_is_told() -> None:
    calls: list[tuple[int, int]] = []
    shallow = fw.vertex(fw.MLP("tanh", depth=1), X)
    np.testing.assert_array_equal(shallow.contract("V", np.eye(3)).value, 0.0)
    deep = fw.vertex(fw.MLP("tanh", depth=3, width=50), X, nodes=16, randomisations=2)
    deep.contract("V", np.eye(3), progress=lambda done, of: calls.append((done, of)))
    assert calls == [(i, 4) for i in range(1, 5)]


@pytest.mark.parametrize(
    ("network", "options", "message"),
    [
        ({"n_in": 3}, {}, "`x` has 4 columns, but the network has n_in = 3"),
        ({"activation": "elu"}, {}, r"`net` has the activation elu, with kinks .*use fw\.flow\(net, x, order=1\)"),
        ({}, {"nodes": 100}, "`nodes` must be a power of two and `randomisations` ≥ 2, but got 100 and 8"),
        ({}, {"nodes": 0}, "`nodes` must be an integer ≥ 1, but got 0"),
        ({}, {"randomisations": 1}, "`randomisations` ≥ 2, but got 512 and 1"),
        ({}, {"randomisations": 2.5}, "`randomisations` must be an integer"),
    ],
)
def test_refused_operators(network, options, message: str) -> None:
    with pytest.raises(fw.InputError, match=message):
        fw.vertex(fw.MLP(**{"activation": "tanh", "depth": 3, **network}), X, **options)


@pytest.mark.parametrize(
    ("name", "matrix", "message"),
    [
        ("G1", np.eye(3), "`name` must be one of V, D, A, F, B, P, Q, R, S, T, U, but got 'G1'"),
        ("V", np.eye(2), r"`matrix` must hold finite numbers in the shape \(3, 3\), but got shape \(2, 2\)"),
        ("V", np.full((3, 3), np.nan), "`matrix` must hold finite numbers"),
    ],
)
def test_refused_contractions(operators, name: str, matrix: np.ndarray, message: str) -> None:
    with pytest.raises(fw.InputError, match=message):
        operators.contract(name, matrix)
