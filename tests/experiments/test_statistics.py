"""The jackknife against what is known of means and covariances; merging; what a standard error is worth."""

import numpy as np
import pytest

from finitewidth.experiments.statistics import Batch, jackknife, joint_p_value, merge


def batches(values, sizes):
    """Batches of these sizes of the rows of `values`, each contributing x, y and x y."""
    edges = np.cumsum([0, *sizes])
    return {
        j: Batch(size, {"x": part[:, 0].sum(0), "y": part[:, 1].sum(0), "xy": np.prod(part, axis=1).sum(0)})
        for j, (size, start) in enumerate(zip(sizes, edges, strict=False))
        for part in [values[start : start + size]]
    }


def covariance(averages):
    return averages["xy"] - averages["x"] * averages["y"]


def test_of_a_mean_it_is_the_mean_and_its_textbook_error():
    values = np.random.default_rng(0).normal(size=(40, 2, 3))
    estimate = jackknife(batches(values, [1] * 40), lambda averages: averages["x"])
    np.testing.assert_allclose(estimate.value, values[:, 0].mean(0), rtol=1e-12)
    np.testing.assert_allclose(estimate.standard_error, values[:, 0].std(0, ddof=1) / np.sqrt(40), rtol=1e-12)


def test_covariance_is_unbiased_exactly():
    # with one network a batch, the jackknife's covariance is the textbook's with M − 1
    values = np.random.default_rng(1).normal(size=(12, 2)) + 3
    estimate = jackknife(batches(values, [1] * 12), covariance)
    np.testing.assert_allclose(estimate.value, np.cov(values.T)[0, 1], rtol=1e-11)


def test_covariance_is_unbiased_for_batches_of_different_sizes():
    # exact expectation: all 2^5 equally likely samples of ±1, x = y, whose variance is 1
    samples = 1 - 2 * ((np.arange(32)[:, None] >> np.arange(5)) & 1)
    seen = [jackknife(batches(np.stack([s, s], 1).astype(float) + 2, [2, 2, 1]), covariance).value for s in samples]
    np.testing.assert_allclose(np.mean(seen), 1, rtol=1e-12)


def test_standard_errors_are_honest_for_products_of_means():
    # 400 experiments of 64 batches: squared pulls average to 63/61, the variance of t, with an error of 0.075;
    # five of them fail once in 10^6
    rng = np.random.default_rng(2)
    x = rng.normal(size=(400, 64 * 25)) + 1
    y = 0.5 * x + rng.normal(size=x.shape)
    estimates = [jackknife(batches(one, [25] * 64), covariance) for one in np.stack([x, y], -1)]
    pulls = [(estimate.value - 0.5) / estimate.standard_error for estimate in estimates]
    np.testing.assert_allclose(np.mean(np.square(pulls)), 63 / 61, atol=0.38)
    np.testing.assert_allclose(np.mean(pulls), 0, atol=0.25)


def test_covariance_of_two_estimates_is_that_of_their_pseudo_values():
    values = np.random.default_rng(3).normal(size=(30, 2, 2))
    parts = batches(values, [1] * 30)
    x, y = (jackknife(parts, lambda averages, name=name: averages[name]) for name in "xy")
    expected = np.cov(values[:, 0].T, values[:, 1].T)[:2, 2:] / 30
    np.testing.assert_allclose(x.covariance(y), expected, rtol=1e-11, atol=1e-17)
    np.testing.assert_allclose(np.diag(x.covariance(x)), x.standard_error**2, rtol=1e-12)


def test_merging_in_any_order_gives_the_same_bits():
    parts = [{j: batch} for j, batch in batches(np.random.default_rng(4).normal(size=(17, 2)), [3, 5, 4, 5]).items()]
    one = jackknife(merge(*parts), covariance)
    other = jackknife(merge(merge(parts[3], parts[1]), parts[2], parts[0]), covariance)
    assert one.value == other.value and one.standard_error == other.standard_error


def test_a_batch_cannot_count_twice():
    parts = batches(np.ones((4, 2)), [2, 2])
    with pytest.raises(ValueError, match=r"batches \[1\] come twice"):
        merge(parts, {1: parts[1]})


def test_the_joint_test_is_uniform_where_nothing_is_wrong_and_sees_what_single_entries_hide():
    # 200 p-values of a true hypothesis: their Kolmogorov distance from uniform exceeds 0.16 once in 10^4
    rng, found = np.random.default_rng(6), []
    mixing = np.array([[1.0, 0.99], [0.99, 1.0]])
    for _ in range(200):
        values = rng.multivariate_normal([0, 0], mixing, size=40)
        x, y = (jackknife(batches(values, [1] * 40), lambda a, k=k: a[k]) for k in "xy")
        found.append(joint_p_value([x, y], [np.zeros(()), np.zeros(())]))
    assert np.abs(np.sort(found) - (np.arange(200) + 0.5) / 200).max() < 0.16
    # each entry is off by one standard error; against the grain of their correlation that is much
    error = x.standard_error
    off = [x.value - error, y.value + error]
    assert joint_p_value([x, y], off) < 1e-6 < 0.1 < joint_p_value([x], off[:1])
