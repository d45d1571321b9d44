"""Fits in 1/n: exact polynomials come back, errors and χ² are those of repeated experiments."""

import numpy as np
import pytest

from finitewidth.errors import InputError
from finitewidth.experiments import extrapolate

WIDTHS = [16, 24, 32, 64]


@pytest.mark.parametrize("order", [1, 2])
def test_a_polynomial_comes_back(order):
    coefficients = np.array([[2.0, -1e-3], [5.0, 7.0], [-40.0, 3.0]])[: order + 1]
    values = [sum(c / n**p for p, c in enumerate(coefficients)) for n in WIDTHS]
    fit = extrapolate(WIDTHS, values, [np.array([1e-3, 2.0]) / n for n in WIDTHS], order=order)
    np.testing.assert_allclose(fit.coefficients, coefficients, rtol=1e-9)
    np.testing.assert_allclose(fit.value, coefficients[0], rtol=1e-9)
    assert fit.degrees_of_freedom == 3 - order
    np.testing.assert_allclose(fit.p_value, 1, atol=1e-6)


def test_two_widths_give_the_line_through_both_and_its_error():
    fit = extrapolate([10, 20], [np.array(3.0), np.array(2.0)], [np.array(0.3), np.array(0.1)])
    np.testing.assert_allclose(fit.coefficients, [1.0, 20.0])  # 2 T(20) − T(10), 20 (T(10) − T(20))
    np.testing.assert_allclose(fit.standard_errors, [np.hypot(0.2, 0.3), 20 * np.hypot(0.3, 0.1)])
    np.testing.assert_allclose(fit.p_value, 1)


def test_errors_and_chi_square_are_honest():
    # 4000 experiments at once: pulls of both coefficients have variance 1 ± 0.022, χ² the mean 2 ± 0.032;
    # bands of five such errors fail once in 10^6
    rng = np.random.default_rng(0)
    errors = [np.full(4000, e) for e in (0.1, 0.2, 0.2, 0.3)]
    values = [1 + 3 / n + e * rng.normal(size=4000) for n, e in zip(WIDTHS, errors, strict=True)]
    fit = extrapolate(WIDTHS, values, errors)
    pulls = (fit.coefficients - np.array([[1.0], [3.0]])) / fit.standard_errors
    np.testing.assert_allclose(np.var(pulls, axis=1), 1, atol=0.11)
    np.testing.assert_allclose(fit.chi_square.mean(), 2, atol=0.16)
    np.testing.assert_allclose(np.mean(fit.p_value < 0.1), 0.1, atol=0.024)
    expected = np.cov(fit.coefficients)
    np.testing.assert_allclose(fit.covariances[..., 0], expected, rtol=0.12)


def test_what_has_no_error_is_fitted_all_the_same():
    fit = extrapolate(WIDTHS, [np.array([0.0, 1 + 1 / n]) for n in WIDTHS], [np.zeros(2)] * 4)
    np.testing.assert_allclose(fit.coefficients, [[0, 1], [0, 1]], atol=1e-12)
    np.testing.assert_array_equal(fit.standard_errors, 0)


def test_too_few_widths():
    with pytest.raises(
        InputError, match=r"`widths` must have at least order \+ 1 = 3 different entries, but got \[8, 8, 16\]"
    ):
        extrapolate([8, 8, 16], [np.zeros(1)] * 3, [np.ones(1)] * 3, order=2)
