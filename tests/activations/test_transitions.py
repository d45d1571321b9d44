"""Where σ is smooth but changes fast is found, with its width; what is as wide as usual is not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import finitewidth as fw
from finitewidth import Activation
from finitewidth.activations import named
from finitewidth.activations.transitions import graded_breaks
from finitewidth.errors import InputError

# places and widths: tanh(z / w), with its poles at ±iπw/2, has width w
NARROW = {
    "step at 0": (lambda z: jnp.tanh(1e6 * z), 0.0, 1e-6),
    "step": (lambda z: jnp.tanh(1e6 * (z - 0.5)), 0.5, 1e-6),
    "step, rounded in its tails": (lambda z: jnp.tanh(1e5 * (z - 0.7)), 0.7, 1e-5),
    "step, not so steep": (lambda z: jnp.tanh(30.0 * (z + 3.3)), -3.3, 1 / 30),
    "sigmoid": (lambda z: jax.nn.sigmoid(1e5 * z), 0.0, 2e-5),
    "peak": (lambda z: jnp.tanh(z) + 1 / (1 + 1e6 * (z - 2.0) ** 2), 2.0, 1e-3),
    "bump, narrow and low": (lambda z: jnp.tanh(z) + 1e-5 * jnp.exp(-((1e3 * (z - 1.2345)) ** 2)), 1.2345, 1e-3),
    "beside a kink": (lambda z: jnp.where(z > 0, jnp.exp(-1e4 * jnp.maximum(z, 0.0)), 1.0), 0.0, 1e-4),
}

WIDE = {
    "tanh": jnp.tanh,
    "gelu": jax.nn.gelu,
    "sin": jnp.sin,
    "oscillates ever faster": lambda z: jnp.sin(z * z),
    "oscillates": lambda z: z + jnp.sin(10.0 * z) ** 2,
    "hard_swish": jax.nn.hard_swish,
    "soft_shrink": lambda z: jnp.where(z > 0.5, z - 0.5, jnp.where(z < -0.5, z + 0.5, 0.0)),
    "singular": lambda z: jnp.abs(z) ** 1.5,
}


@pytest.mark.parametrize("case", NARROW)
def test_narrow_transitions_are_found(case):
    function, place, width = NARROW[case]
    found = Activation(function).transitions
    assert 1 <= len(found) <= 4
    nearest, measured = min(found, key=lambda each: abs(each[0] - place))
    assert abs(nearest - place) < 2 * width
    assert 0.1 * width < measured < 5 * width


def test_narrow_transitions_are_found_where_kinks_are_declared():
    """⟨σ'²⟩ of tanh(z/w) is 4/(3w√(2πK)) for w ≪ √K; panels that walk past the step would give 0."""
    activation = Activation(lambda z: jnp.tanh(1e6 * z), kinks=())
    assert activation.transitions[0] == pytest.approx((0.0, 1e-6), abs=1e-6)
    flowed = fw.flow(fw.MLP(activation, depth=2, width=10, n_in=1, C_W=1.0, C_b=0.0), np.array([[1.0]]))
    assert flowed.chi_perp.values[0, 0] == pytest.approx(4e6 / (3 * np.sqrt(2 * np.pi)), rel=1e-9)


@pytest.mark.parametrize("case", WIDE)
def test_what_is_not_narrow_has_none(case):
    assert Activation(WIDE[case]).transitions == ()


def test_an_oscillation_does_not_hide_a_step():
    activation = Activation(lambda z: jnp.sin(50.0 * z) + jnp.tanh(1e5 * (z - 0.7)))
    places, widths = np.array(activation.transitions).T
    assert np.abs(places - 0.7).min() < 2e-5
    assert np.all(np.abs(places - 0.7) < 1e-3)
    assert np.all((widths > 1e-6) & (widths < 3e-5))


@pytest.mark.parametrize("width", [1e-3, 3e-4])
def test_boxes_are_found(width):
    low, high = 1.2345, 1.2345 + width
    activation = Activation(lambda z: jnp.tanh(z) + jnp.where((z > low) & (z < high), 1.0, 0.0))
    np.testing.assert_allclose(activation.kinks, (low, high), rtol=1e-15)
    assert activation.parity == "none"


def test_a_narrow_feature_breaks_the_parity():
    assert Activation(lambda z: jnp.tanh(z) + jnp.exp(-((1e4 * (z - 1.2345)) ** 2))).parity == "none"


def test_a_narrow_nan_is_found():
    with pytest.raises(InputError, match=r"is nan at z = 0\.70"):
        Activation(lambda z: jnp.where((z > 0.7) & (z < 0.7005), jnp.nan, z))


def test_panels_grow_away_from_a_transition():
    breaks = np.array(sorted(graded_breaks(0.5, 1e-6)))
    lengths = np.diff(breaks[breaks >= 0.5])
    assert lengths[0] == pytest.approx(1e-6)
    assert np.all(lengths[1:] <= 2.01 * (breaks[breaks >= 0.5][1:-1] - 0.5))
    assert breaks[-1] > 0.7


def test_declared_transitions_are_kept_and_checked():
    activation = Activation(jnp.tanh, kinks=(), transitions=((0.5, 0.1),))
    assert activation.transitions == activation.renamed("other").transitions == ((0.5, 0.1),)
    assert named("tanh").transitions == ()
    with pytest.raises(InputError, match="`transitions` must be finite places with widths > 0"):
        Activation(jnp.tanh, kinks=(), transitions=((0.5, 0.0),))
    with pytest.raises(InputError, match="`transitions` must be pairs of a place and a width"):
        Activation(jnp.tanh, kinks=(), transitions=(0.5,))
