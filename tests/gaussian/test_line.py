"""Averages over one input: exact problems, honest errors, kinks known and unknown, integrands that are all noise."""

import numpy as np
import pytest
from mpmath import mp, mpf

import finitewidth as fw
from finitewidth.gaussian import line
from finitewidth.gaussian.line import average


def exact(f, K: float) -> float:
    """In 40 digits, on panels that double from the scale 1/√K."""
    mp.dps = 40
    root = mp.sqrt(mpf(K))
    ends = [mpf(0), *(x for x in (mpf(2) ** k / root for k in range(-3, 60)) if x < 25), mpf(25)]
    return float(mp.quad(lambda x: (f(root * x) + f(-root * x)) * mp.npdf(x), ends))


@pytest.fixture
def panels_used(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    counts: list[int] = []
    plain = line._panel_sums

    def counted(f, std, panels):
        counts.append(len(panels))
        return plain(f, std, panels)

    monkeypatch.setattr(line, "_panel_sums", counted)
    return counts


@pytest.mark.parametrize("K", [1e-12, 1e-3, 1.0, 1e3, 1e12])
def test_tanh_squared(K: float) -> None:
    found = average(lambda z: np.tanh(z) ** 2, K)
    np.testing.assert_allclose(found.value, exact(lambda z: mp.tanh(z) ** 2, K), rtol=1e-14)
    assert found.error < 1e-13 * found.value


@pytest.mark.parametrize("K", [1e-4, 1e-8, 1e-12])
def test_function_that_cancels_is_averaged_to_its_own_noise(K: float, panels_used: list[int]) -> None:
    """z − tanh z = z³/3 − … loses 1/z² of its digits: halving panels for ever would not bring them back."""
    found = average(lambda z: (z - np.tanh(z)) ** 2, K)
    off = abs(found.value - exact(lambda z: (z - mp.tanh(z)) ** 2, K))
    assert off <= 10 * found.error
    assert found.error < 1e-3 * found.value
    assert sum(panels_used) < 6000


@pytest.mark.parametrize("K", [1.0, 1e4, 1e12])
def test_third_moment_against_a_slope_that_underflows(K: float, panels_used: list[int]) -> None:
    def f(z: np.ndarray) -> np.ndarray:
        t = np.tanh(z)
        return z**3 * t * (1 - t * t)  # 1 − t² cancels for large z

    found = average(f, K)
    reference = exact(lambda z: z**3 * mp.tanh(z) / mp.cosh(z) ** 2, K)
    np.testing.assert_allclose(found.value, reference, rtol=1e-10)
    assert abs(found.value - reference) <= 10 * found.error
    assert sum(panels_used) < 6000


def test_kink_that_was_not_declared_is_found(panels_used: list[int]) -> None:
    """⟨|z − 0.3|⟩ = 2φ(0.3) + 0.3 (2Φ(0.3) − 1)."""
    k = mpf("0.3")
    reference = float(2 * mp.npdf(k) + k * (2 * mp.ncdf(k) - 1))
    used = []
    for kinks in ((), (0.3,)):
        panels_used.clear()
        found = average(lambda z: np.abs(z - 0.3), 1.0, kinks=kinks)
        assert abs(found.value - reference) < 1e-13
        assert abs(found.value - reference) <= found.error
        used.append(sum(panels_used))
    assert used[1] < used[0]  # a kink that is known costs nothing


def test_fast_oscillation_is_not_taken_for_noise() -> None:
    found = average(lambda z: np.cos(200 * z) ** 2, 1.0)
    assert abs(found.value - 0.5) <= 10 * found.error
    assert found.error < 1e-8


def test_error_is_honest_and_shrinks_with_the_aim() -> None:
    reference = exact(lambda z: 1 / (1 + 400 * (z - 3) ** 2), 1.0)
    errors = []
    for rtol in (1e-2, 1e-6, 1e-12):
        found = average(lambda z: 1 / (1 + 400 * (z - 3) ** 2), 1.0, rtol=rtol)
        assert abs(found.value - reference) <= 10 * found.error + 1e-15
        errors.append(float(found.error))
    assert errors[0] > errors[1] > errors[2]


def test_several_functions_and_kernels_at_once() -> None:
    found = average(lambda z: np.stack([z * z, z**4]), np.array([[0.5, 2.0]]))
    np.testing.assert_allclose(found.value, [[[0.5, 2.0]], [[0.75, 12.0]]], rtol=1e-14)


def test_overflow_is_said() -> None:
    with pytest.raises(fw.InputError, match="not finite at z = "):
        average(lambda z: np.exp(z * z), 1e3)
