"""Moments against loops written out, and their errors against repeated experiments."""

import itertools

import numpy as np

from finitewidth.frontends.moments import contributions, over_initialisations, over_inputs, pairs, root_mean_square


def signals(networks: int, inputs: int, neurons: int, positions: int, seed: int = 0) -> np.ndarray:
    """Of networks that share a scale among neurons, for kurtosis and correlation; inputs are correlated."""
    random = np.random.default_rng(seed)
    scale = np.sqrt(random.gamma(4.0, 1 / 4.0, (networks, 1, 1, 1)))
    common = random.normal(size=(networks, 1, neurons, positions))
    return scale * (0.6 * common + 0.8 * random.normal(size=(networks, inputs, neurons, positions)))


def test_every_input_is_in_equally_many_pairs() -> None:
    for inputs in (2, 3, 5, 8, 40, 300):
        first, second = pairs(inputs)
        assert np.all(first != second)
        assert len(set(np.bincount(np.concatenate([first, second]), minlength=inputs))) == 1
    assert len(pairs(1)[0]) == 0


def test_statistics_are_those_written_out() -> None:
    z = signals(40, 3, 5, 2)
    found = over_initialisations([contributions(each) for each in z], 5)
    K = (z**2).mean((0, 2, 3))
    angle = []
    for a, b in zip(*pairs(3), strict=True):
        correlation = (z[:, a] * z[:, b]).mean() / np.sqrt(K[a] * K[b])
        angle.append(np.degrees(np.arccos(correlation)))
    kurtosis, between, own = [], [], []
    for a, p in itertools.product(range(3), range(2)):
        at = z[:, a, :, p]
        m2 = (at**2).mean()
        kurtosis.append((at**4).mean() / m2**2 - 3)
        own.append((at**4).mean() / m2**2 - 1)
        different = [(at[:, i] ** 2 * at[:, j] ** 2).mean() for i, j in itertools.permutations(range(5), 2)]
        between.append(np.mean(different) / m2**2 - 1)
    # the jackknife takes away a bias of order 1/networks, so that it differs from the plain formula by that much
    plain = {"K": K.mean(), "angle": np.mean(angle), "kurtosis": np.mean(kurtosis)}
    plain["correlation"] = np.mean(between) / np.mean(own)
    for key, expected in plain.items():
        value, error = found[key]
        assert error is not None and abs(value - expected) < 0.5 * error, key
    np.testing.assert_allclose(found["K"][0], K.mean(), rtol=1e-12)


def test_errors_are_honest() -> None:
    """Of 200 experiments, the mean of (estimate − truth)²/error² is near one."""
    truth = {"K": 1.0, "kurtosis": 3 * 0.25, "correlation": 0.25 / (3 * 1.25 - 1), "angle": np.degrees(np.arccos(0.36))}
    pulls: dict[str, list[float]] = {key: [] for key in truth}
    for seed in range(200):
        found = over_initialisations([contributions(z) for z in signals(60, 2, 30, 1, seed)], 30)
        for key, true in truth.items():
            value, error = found[key]
            assert error is not None
            pulls[key].append((value - true) / error)
    for key, pull in pulls.items():
        assert 0.75 < np.std(pull) < 1.35, key
        assert abs(np.mean(pull)) < 0.45, key


def test_small_angles_keep_their_digits() -> None:
    direction = np.zeros((2, 4, 1))
    direction[:, 0, 0] = 1.0
    direction[1, 1, 0] = 1e-9
    angle, _ = over_inputs(contributions(direction))["angle"]
    np.testing.assert_allclose(angle, np.degrees(1e-9), rtol=1e-6)


def test_errors_of_one_network_are_honest() -> None:
    """Its inputs differ in size: means over inputs, and over pairs of them, against their truth."""
    random, pulls = np.random.default_rng(0), {"K": [], "angle": []}
    for _ in range(200):
        size = random.gamma(8.0, 1 / 8.0, (30, 1, 1)) ** 0.5
        found = over_inputs(contributions(size * (random.normal(size=(30, 40, 1)) + 0.5)))
        assert "correlation" not in found
        truth = {"K": 1.25, "angle": np.degrees(np.arccos(0.25 / 1.25))}
        for key, (value, error) in ((key, found[key]) for key in truth):
            pulls[key].append((value - truth[key]) / error)
    assert 0.8 < np.std(pulls["K"]) < 1.3 and abs(np.mean(pulls["K"])) < 0.45
    assert 0.6 < np.std(pulls["angle"]) < 1.3  # each angle fluctuates by itself too, which the error counts twice


def test_root_mean_square() -> None:
    value, error = root_mean_square([4.0, 16.0])
    np.testing.assert_allclose([value, error], [np.sqrt(10.0), 6.0 / (2 * np.sqrt(10.0))])
    assert root_mean_square([0.0, 0.0])[0] == 0.0
