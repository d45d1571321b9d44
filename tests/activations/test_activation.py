"""A user's own function: what is found, what is checked."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from finitewidth import Activation
from finitewidth.errors import InputError


@pytest.mark.parametrize(
    ("function", "parity"),
    [
        (jnp.tanh, "odd"),
        (jnp.cosh, "even"),
        (lambda z: z * jnp.tanh(z), "even"),
        (lambda z: z + 1e-9, "none"),
        (lambda z: jnp.where(z > 0, z, (1 + 1e-12) * z), "none"),
        (lambda z: jnp.where((z > 1) & (z < 1.01), 1.0, 0.0) * jnp.sign(z), "none"),
        (lambda z: jnp.abs(z - 1), "none"),
    ],
)
def test_parity_is_found(function, parity):
    assert Activation(function).parity == parity


@pytest.mark.parametrize(
    ("function", "facts", "message"),
    [
        (3, {}, "must be a JAX function of an array, but got 3"),
        (jax.nn.softmax, {}, "is not elementwise"),
        (jnp.cumsum, {}, "is not elementwise"),
        (lambda z: z.sum(), {}, "is not elementwise"),
        (lambda z: z - z.mean(), {}, "is not elementwise"),
        (lambda z: z @ jnp.ones((4, 4)), {}, "fails on an array"),
        (lambda z: z.astype(jnp.float32), {}, "returns float32 for float64 numbers; remove casts"),
        (lambda z: z > 0, {}, "returns bool"),
        (lambda z: np.tanh(z), {}, "calls NumPy or SciPy, which JAX cannot follow: np.tanh is jnp.tanh"),
        (np.tanh, {}, "calls NumPy or SciPy, which JAX cannot follow: np.tanh is jnp.tanh"),
        (jnp.tanh, {"kinks": 0.0}, r"`kinks` must be a sequence of numbers, such as \(0.0,\), but got 0.0"),
        (jnp.tanh, {"kinks": (np.nan,)}, "`kinks` must be finite numbers"),
        (jnp.tanh, {"parity": "strange"}, "`parity` must be 'odd', 'even' or 'none', but got 'strange'"),
        (jnp.tanh, {"parity": "even"}, "is declared 'even', which it is not"),
        (
            jnp.abs,
            {"kinks": (0.0,), "pieces": ((0.0, 1.0),)},
            r"`pieces` must have len\(kinks\) \+ 1 = 2 entries, but got 1",
        ),
        (jnp.abs, {"kinks": (0.0,), "pieces": ((0.0, -1.0), (0.0, 2.0))}, "`pieces` give .* but `function` gives"),
    ],
)
def test_what_cannot_be_an_activation_is_refused(function, facts, message):
    with pytest.raises(InputError, match=message):
        Activation(function, "mine", **facts)


def test_only_backward_derivatives_are_refused():
    @jax.custom_vjp
    def function(z):
        return jnp.tanh(z)

    function.defvjp(lambda z: (jnp.tanh(z), z), lambda z, g: (g / jnp.cosh(z) ** 2,))
    with pytest.raises(InputError, match=r"cannot be differentiated .* use jax.custom_jvp"):
        Activation(function)


def test_activations_may_be_made_inside_of_jit():
    made = []

    @jax.jit
    def program(z):
        made.append(Activation(lambda z: z * jnp.abs(z)))
        return made[0](z)

    assert program(3.0) == 9.0
    assert (made[0].kinks, made[0].parity) == ((0.0,), "odd")


def test_kinks_are_sorted_and_kept_once():
    assert Activation(lambda z: jnp.clip(z, -1.0, 2.0), kinks=(2, -1, 2.0)).kinks == (-1.0, 2.0)


def test_values_come_back_in_the_shape_of_z():
    z = np.linspace(-2, 2, 12).reshape(3, 4)
    value, slope = Activation(jnp.sin, kinks=(), parity="odd").evaluate(z, (0, 1))
    np.testing.assert_allclose(value, np.sin(z), rtol=1e-15, atol=1e-16)
    np.testing.assert_allclose(slope, np.cos(z), rtol=1e-15, atol=1e-16)
