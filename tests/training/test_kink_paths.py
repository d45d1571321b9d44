"""Neurons near a kink, against many of them moved by tiny steps."""

import numpy as np
import pytest

from finitewidth import activations
from finitewidth.algorithms import GradientFlow
from finitewidth.training.kink_paths import Bend, bends, changes
from finitewidth.training.many_inputs.times import TimeNodes

END, RATES = 4.0, np.array([0.2, 0.9, 2.3])
KINKS = [Bend(0.0, 0.0, 1.0), Bend(0.0, 0.3, 1.0), Bend(0.0, -1.0, 1.0), Bend(1.0, 1.0, 0.0)]


def by_tiny_steps(other, own, bend, steps=1000, places=3201):
    """∫ Δσ′ dx and ∫ Δσ′² dx at the end, where no neuron is left on the kink; of o and v as functions of time."""
    step = END / steps
    x = np.linspace(-8.0, 8.0, places)
    found, width = np.zeros(2), x[1] - x[0]
    for sign in (1.0, -1.0):
        z = x.copy()
        for s in (np.arange(steps) + 0.5) * step:
            z += step * sign * (other(s) + np.where(z < 0, bend.below, bend.above) * own(s))
        first, last = (np.where(each < 0, bend.below, bend.above) for each in (x, z))
        found += [width * np.sum(last**power - first**power) for power in (1, 2)]
    return found


@pytest.mark.parametrize("bend", KINKS, ids=str)
def test_neurons_whose_velocities_turn_round(bend):
    """Not where they stay on the kink at the end: then tiny steps show σ′ on either side of it."""
    rng, time = np.random.default_rng(3), TimeNodes.of(GradientFlow(END), RATES)
    until, few, seen = np.vstack([time.running, time.total]), 1024, 0
    for draw in range(6):
        a, b = rng.normal(size=(2, 3)) * [0.5, 1.0, 1.5]
        a[1:] *= -np.sign(a[0] * a[1:])  # decays of either sign: o changes its own

        def velocity(weights):
            return lambda s: weights @ np.exp(-RATES * s)

        other, own = (np.tile(time.remaining @ weights, (few, 1)) for weights in (a, b))
        at_end = [velocity(a)(END) + slope * velocity(b)(END) for slope in bend[1:]]
        found = changes(other, own, bend, until, (np.arange(few) + 0.5) / few)
        assert found[0].shape == found[1].shape == (few, len(until))
        if at_end[0] * at_end[1] > 0:
            expected = by_tiny_steps(velocity(a), velocity(b), bend)
            scale = 1.0 + np.abs(expected).max()
            np.testing.assert_allclose(
                [each[:, -1].mean() for each in found], expected, atol=0.02 * scale, err_msg=draw
            )
            seen += 1
    assert seen >= 2


def test_neurons_that_stay_on_a_kink_have_the_slope_at_which_they_stand_still():
    """|z| with o = 0 and v = −1: all that come to the kink in s stay on it, 2 s of h, with slope 0; none of −h does."""
    s, few = np.linspace(0.1, 1.0, 10), 1000
    until, offset = np.tril(np.full((10, 10), 0.1)), (np.arange(few) + 0.5) / few
    still, velocity = np.zeros((few, 10)), np.full((few, 10), -1.0)
    slope, square = (each.mean(0) for each in changes(still, velocity, Bend(0.0, -1.0, 1.0), until, offset))
    np.testing.assert_allclose(slope, 0.0, atol=1e-12)  # as many lose +1 as lose −1
    np.testing.assert_allclose(square, -2 * s, rtol=1e-3)
    # pushed upwards by o = ½ more come from below, c₋ = 1.5 and c₊ = −0.5, and they stand still where σ′ = ½
    slope, square = (each.mean(0) for each in changes(still + 0.5, velocity, Bend(0.0, -1.0, 1.0), until, offset))
    np.testing.assert_allclose(slope, s * (1.5 * (0.5 + 1) + 0.5 * (0.5 - 1)), rtol=1e-3)
    np.testing.assert_allclose(square, s * 2.0 * (0.25 - 1), rtol=1e-3)


def test_kinks_at_which_the_slope_jumps():
    assert [bend.place for bend in bends(activations.named("hard_tanh"))] == [-1.0, 1.0]
    assert bends(activations.named("elu")) == [] == bends(activations.named("tanh"))
    below, above = bends(activations.named("leaky_relu(0.3)"))[0][1:]
    assert (below, above) == pytest.approx((0.3, 1.0), abs=1e-12)
