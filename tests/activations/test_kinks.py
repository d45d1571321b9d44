"""Kinks that nobody declared are found, exactly; what is merely steep is not taken for one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import norm

from finitewidth import Activation
from finitewidth.errors import InputError
from finitewidth.gaussian.line import average

FOUND = {
    "relu": (jax.nn.relu, (0.0,)),
    "maximum": (lambda z: jnp.maximum(z, 0.0), (0.0,)),
    "leaky at 0.3": (lambda z: jnp.where(z > 0.3, z, 0.1 * z), (0.3,)),
    "corner in σ''": (lambda z: jnp.abs(z - 2) ** 3, (2.0,)),
    "corner in σ'": (lambda z: z * jnp.abs(z), (0.0,)),
    "clip": (lambda z: jnp.clip(z, -1.0, 1.0), (-1.0, 1.0)),
    "steep clip": (lambda z: jnp.clip(1000.0 * z, -1.0, 1.0), (-0.001, 0.001)),
    "1/3": (lambda z: jax.nn.relu(3.0 * z - 1.0), (1 / 3,)),
    "π": (lambda z: jnp.abs(z - np.pi), (np.pi,)),
    "far": (lambda z: jnp.maximum(z, 1234.5), (1234.5,)),
    "narrow hat": (lambda z: jnp.where((z > 1) & (z < 1.01), 1.0, 0.0) * z, (1.0, 1.01)),
    "close pair": (lambda z: jnp.where(z > 0.5, z, 0.0) + jnp.where(z > 0.503, z, 0.0), (0.5, 0.503)),
    "pair in one cell": (lambda z: jnp.abs(z - 100.0) + 2.0 * jnp.abs(z - 100.01), (100.0, 100.01)),
    "faint": (lambda z: jnp.tanh(z) + 1e-7 * jnp.abs(z - 0.7), (0.7,)),
    "faint and far": (lambda z: jnp.tanh(z) + 1e-6 * jnp.abs(z - 100.0), (100.0,)),
    "root of a square": (lambda z: jnp.sqrt(jnp.square(z - 1.0)), (1.0,)),
    "root of a square, further off": (lambda z: jnp.sqrt(jnp.square(z - 8.0)), (8.0,)),
    "singular": (lambda z: jnp.abs(z) ** 1.5, (0.0,)),
    "under a power": (lambda z: z**9 + jnp.abs(z), (0.0,)),
    "hardswish": (jax.nn.hard_swish, (-3.0, 3.0)),
}

SMOOTH = {
    "steep tanh": lambda z: jnp.tanh(50.0 * z),
    "very steep tanh": lambda z: jnp.tanh(1e4 * z),
    "steep step elsewhere": lambda z: jax.nn.sigmoid(1e4 * (z - 3.3)),
    "steep step, rounded in its tails": lambda z: jnp.tanh(1e5 * (z - 0.7)),
    "step, far and rounded": lambda z: jnp.tanh(100.0 * (z - 50.0)),
    "far tanh": lambda z: jnp.tanh(z - 100.0),
    "fast sine": lambda z: jnp.sin(50.0 * z),
    "gelu, rounded in its tail": lambda z: 0.5 * z * (1.0 + jax.lax.erf(z / np.sqrt(2.0))),
    "mish": jax.nn.mish,
    "exp": jnp.exp,
    "cosh": jnp.cosh,
    "power": lambda z: z**9,
    "peak": lambda z: 1 / (1 + 1e6 * (z - 2) ** 2),
    "constant": lambda z: 0.0 * z + 1.0,
}


@pytest.mark.parametrize("case", FOUND)
def test_kinks_are_found(case):
    function, kinks = FOUND[case]
    activation = Activation(function)
    assert activation.kinks == kinks
    assert not activation.kinks_were_declared


@pytest.mark.parametrize("case", SMOOTH)
def test_smooth_functions_have_no_kinks(case):
    assert Activation(SMOOTH[case]).kinks == ()


def test_more_than_what_is_declared_is_found():
    assert Activation(lambda z: jnp.clip(z, -1.0, 1.0) + jnp.abs(z - 0.3), kinks=(-1.0, 1.0)).kinks == (-1.0, 0.3, 1.0)
    assert Activation(jnp.tanh, kinks=(0.5,)).kinks == (0.5,)  # an average may be split anywhere
    of_some = Activation(jnp.round, kinks=(-0.5, 0.5))  # the remedy for more kinks than can be listed
    assert of_some.kinks == (-0.5, 0.5)


def test_an_infinite_mean_square_is_refused_where_everything_is_declared():
    with pytest.raises(InputError, match="grows so fast towards z = 0 that its mean square is infinite"):
        Activation(lambda z: jnp.sqrt(jnp.abs(z)), kinks=(0.0,), transitions=())


def test_singular_places_away_from_0_are_kinks():
    """⟨σ'²⟩ of |z − 0.7|^0.75 at K = 0.62: from quadrature in u = |z − 0.7|^½, where the integrand is smooth."""
    activation = Activation(lambda z: jnp.abs(z - 0.7) ** 0.75)
    assert (activation.kinks, activation.transitions) == ((0.7,), ())
    mean, _, _ = average(lambda z: activation.evaluate(z, (1,))[0] ** 2, 0.62, kinks=activation.kinks)
    K, c, p = 0.62, 0.7, 0.75

    def smooth(u, side):  # σ'² dz = p² |z − c|^(2p − 2) dz = 2 p² du for p = ¾
        return 2 * p**2 * norm.pdf(c + side * u**2, scale=K**0.5)

    exact = sum(quad(smooth, 0.0, 4.0, args=(side,), epsabs=0, epsrel=1e-12)[0] for side in (-1, 1))
    assert mean == pytest.approx(exact, rel=1e-8)


def test_slopes_may_grow_without_bound_as_long_as_their_square_has_an_average():
    assert Activation(lambda z: z * jnp.log(jnp.where(z == 0, 1.0, jnp.abs(z)))).kinks == (0.0,)
    assert Activation(lambda z: jnp.abs(z) ** 0.6).kinks == (0.0,)


@given(position=st.floats(-300, 300).filter(lambda c: abs(c) > 1e-3), size=st.floats(1e-4, 10))
@settings(max_examples=4)  # each compiles
def test_any_kink_is_found_to_the_last_digits(position, size):
    (found,) = Activation(lambda z: jnp.tanh(z) + size * jnp.abs(z - position)).kinks
    assert found == pytest.approx(position, rel=1e-15)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (jnp.round, r"seems to jump at more than 64 points \(-0.5, 0.5, .*declare those that matter"),
        (jnp.sqrt, "is nan at z = -1; .* finite on the whole line"),
        (lambda z: jnp.sin(z) / z, "is nan at z = 0"),
        (lambda z: 1.0 / z, "is inf at z = 0"),
        (jnp.tan, r"diverges near z = -?[0-9.]+"),
        (lambda z: jnp.sinh(z) / jnp.cosh(z), "is nan at z = -?1000"),
        (lambda z: jnp.sqrt(jnp.abs(z)), "grows so fast towards z = 0 that its mean square is infinite"),
        (lambda z: z + jnp.cbrt(z - 2.0), "grows so fast towards z = 2 that its mean square is infinite"),
    ],
)
def test_functions_that_no_average_can_use_are_refused(function, message):
    with pytest.raises(InputError, match=message):
        Activation(function, "mine")
