"""Two-input averages against 30-digit references: right to 1e-10, and honest about it."""

import numpy as np
import pytest

import finitewidth as fw
from finitewidth.gaussian import kernel_pair
from tests.problems import Pairs, pairs

TOLERANCE = 1e-10
# an error estimate says the order of magnitude: this far may the truth lie beyond it
HONEST = 10.0


@pytest.fixture(scope="module", params=pairs(), ids=lambda problem: problem.activation)
def problem(request: pytest.FixtureRequest) -> Pairs:
    return request.param


@pytest.fixture(scope="module")
def averages(problem: Pairs):
    return kernel_pair(fw.activations.named(problem.activation), problem.K)


@pytest.mark.parametrize("which", ["ss", "dsds"])
def test_average_is_right_to_1e_10_of_the_largest_it_can_be(problem: Pairs, averages, which: str) -> None:
    value, _ = value_and_error(averages, which)
    off = np.abs(value - getattr(problem, which)) / getattr(problem, which + "_scale")
    assert_all(off <= TOLERANCE, problem, which, off)


@pytest.mark.parametrize("which", ["ss", "dsds"])
def test_average_is_right_to_1e_10_of_itself(problem: Pairs, averages, which: str) -> None:
    exact, scale = getattr(problem, which), getattr(problem, which + "_scale")
    value, _ = value_and_error(averages, which)
    c = problem.K[:, 0, 1] / np.sqrt(problem.K[:, 0, 0] * problem.K[:, 1, 1])
    # an average that cancels to far below what it could be is left to the other test
    compared = (np.abs(c) >= 1e-3) & (np.abs(exact) >= 1e-3 * scale)
    off = np.abs(value - exact) / np.where(compared, np.abs(exact), np.inf)
    assert_all(off <= TOLERANCE, problem, which, off)


@pytest.mark.parametrize("which", ["ss", "dsds"])
def test_error_is_honest(problem: Pairs, averages, which: str) -> None:
    exact = getattr(problem, which)
    value, error = value_and_error(averages, which)
    # the float64 reference itself is half a unit in the last place off
    allowed = HONEST * error + 4 * np.finfo(float).eps * np.abs(exact)
    off = np.abs(value - exact)
    assert_all(off <= allowed, problem, which, off / np.maximum(allowed, np.finfo(float).tiny))


@pytest.mark.parametrize("which", ["ss", "dsds"])
def test_error_is_not_an_excuse(problem: Pairs, averages, which: str) -> None:
    """An error stated as 1 is honest and useless: what is right to 1e-10 must be said to be right to 1e-9."""
    _, error = value_and_error(averages, which)
    stated = np.broadcast_to(error, problem.ss.shape) / getattr(problem, which + "_scale")
    assert_all(stated <= 10 * TOLERANCE, problem, which, stated)


def value_and_error(averages, which: str) -> tuple[np.ndarray, np.ndarray]:
    quantity = getattr(averages, which)
    if hasattr(quantity, "error"):
        return np.asarray(quantity.value), np.asarray(quantity.error)
    return np.asarray(quantity), np.asarray(getattr(averages.error, which, averages.error))


def assert_all(right: np.ndarray, problem: Pairs, which: str, off: np.ndarray) -> None:
    wrong = [f"{problem.kernels[i]}: {off[i]:.1e}" for i in np.flatnonzero(~np.asarray(right))]
    assert not wrong, f"{problem.activation} ⟨{which}⟩ is off:\n" + "\n".join(wrong)
