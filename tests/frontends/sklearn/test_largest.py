"""Probabilities of being the largest: closed form, sampling, symmetries, and where nothing is left to chance."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal, norm

from finitewidth.frontends.sklearn.largest import probabilities_of_largest

RNG = np.random.default_rng(5)


def problem(k, rows=6):
    root = RNG.standard_normal((rows, k, k))
    return RNG.standard_normal((rows, k)), root @ root.swapaxes(1, 2) / k


def test_two_numbers():
    mean, covariance = problem(2)
    variance = covariance[:, 0, 0] + covariance[:, 1, 1] - 2 * covariance[:, 0, 1]
    expected = norm.cdf((mean[:, 1] - mean[:, 0]) / np.sqrt(variance))
    np.testing.assert_allclose(probabilities_of_largest(mean, covariance)[:, 1], expected, rtol=1e-12)


def test_three_numbers_against_the_bivariate_normal():
    mean, covariance = problem(3)
    found = probabilities_of_largest(mean, covariance)
    for n in range(6):
        for k in range(3):
            D = np.delete(-np.eye(3), k, axis=0)
            D[:, k] = 1.0
            expected = multivariate_normal.cdf(D @ mean[n], cov=D @ covariance[n] @ D.T)
            assert found[n, k] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("k", [3, 5, 10])
def test_independent_numbers_by_quadrature_and_by_lattice(k):
    """Two methods of the module, which share nothing, and sampling."""
    mean = RNG.standard_normal((4, k))
    alike = np.tile(0.4 * np.eye(k), (4, 1, 1))
    found = probabilities_of_largest(mean, alike)
    nearly = alike + 1e-13 * np.ones((k, k))
    np.testing.assert_allclose(probabilities_of_largest(mean, nearly), found, atol=3e-4)
    draws = 400_000
    z = mean[0] + np.sqrt(0.4) * RNG.standard_normal((draws, k))
    share = np.bincount(z.argmax(1), minlength=k) / draws
    error = np.sqrt(found[0] * (1 - found[0]) / draws) + 1 / draws
    assert np.max(np.abs(share - found[0]) / error) < norm.isf(0.005 / k)


@pytest.mark.parametrize("k", [4, 8])
def test_correlated_numbers_by_sampling(k):
    mean, covariance = problem(k, rows=2)
    found = probabilities_of_largest(mean, covariance)
    draws = 400_000
    for n in range(2):
        z = RNG.multivariate_normal(mean[n], covariance[n], size=draws)
        share = np.bincount(z.argmax(1), minlength=k) / draws
        error = np.hypot(np.sqrt(found[n] * (1 - found[n]) / draws), 2e-4)
        assert np.max(np.abs(share - found[n]) / error) < norm.isf(0.005 / 2 / k)


def test_what_all_share_changes_nothing():
    mean, covariance = problem(4)
    found = probabilities_of_largest(mean, covariance)
    np.testing.assert_allclose(probabilities_of_largest(mean + 3.0, covariance + 5.0), found, atol=1e-9)
    np.testing.assert_allclose(probabilities_of_largest(10 * mean, 100 * covariance), found, atol=1e-9)


def test_rows_sum_to_one_and_are_judged_one_by_one():
    mean, covariance = problem(5, rows=600)
    found = probabilities_of_largest(mean, covariance)
    np.testing.assert_allclose(found.sum(1), 1.0, rtol=1e-12)
    np.testing.assert_allclose(probabilities_of_largest(mean[300:301], covariance[300:301])[0], found[300], rtol=1e-12)


@pytest.mark.parametrize("k", [2, 3, 5])
def test_without_variance_the_largest_is_certain_and_ties_share(k):
    mean = np.zeros((2, k))
    mean[1, 1] = 1.0
    found = probabilities_of_largest(mean, np.zeros((2, k, k)))
    np.testing.assert_allclose(found[0], 1 / k)
    np.testing.assert_array_equal(found[1], np.eye(k)[1])


def test_one_number():
    np.testing.assert_array_equal(probabilities_of_largest(np.zeros((3, 1)), np.ones((3, 1, 1))), np.ones((3, 1)))
