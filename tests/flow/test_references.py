"""Flows through whole networks against references of 25 digits and more: right to 1e-10, and honest about it."""

import numpy as np
import pytest

import finitewidth as fw
from tests.problems import Flow, flows

TOLERANCE = 1e-10
HONEST = 10.0


@pytest.fixture(scope="module", params=flows(), ids=lambda problem: problem.name)
def problem(request: pytest.FixtureRequest) -> Flow:
    return request.param


@pytest.fixture(scope="module")
def result(problem: Flow):
    net = fw.MLP(problem.activation, **problem.network)
    return fw.flow(net, problem.x, tensors="").sel(layer=list(problem.layers))


@pytest.mark.parametrize("name", ["K", "Theta"])
def test_flow_is_right_to_1e_10(problem: Flow, result, name: str) -> None:
    exact = getattr(problem, name)
    assert np.max(off(result[name].values, exact)) <= TOLERANCE


@pytest.mark.parametrize("name", ["K", "Theta"])
def test_error_is_honest(problem: Flow, result, name: str) -> None:
    exact = getattr(problem, name)
    stated = HONEST * stated_error(result, name) + 4 * np.finfo(float).eps * np.abs(exact)
    assert np.all(np.abs(result[name].values - exact) <= stated)


@pytest.mark.parametrize("name", ["K", "Theta"])
def test_error_is_not_an_excuse(problem: Flow, result, name: str) -> None:
    exact = getattr(problem, name)
    # a bound that adds up layer by layer grows with depth
    allowed = 10 * TOLERANCE * np.maximum(1, np.array(problem.layers) / 100)
    assert np.all(off(exact + stated_error(result, name), exact) <= allowed[:, None, None])


def stated_error(result, name: str) -> np.ndarray:
    """The error of every entry, also where it is stated by layer."""
    return result[f"{name}_error"].broadcast_like(result[name]).values


def off(values: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """|ΔK_ab| / √(K_aa K_bb), by layer."""
    norms = np.sqrt(np.diagonal(exact, axis1=-2, axis2=-1))
    return np.abs(values - exact) / norms[..., :, None] / norms[..., None, :]
