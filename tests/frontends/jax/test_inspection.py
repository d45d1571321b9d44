"""`fw.inspect` of a JAX function: against theory's kernels, exact gradients, and bad input."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import finitewidth as fw
from finitewidth.errors import InputError

WIDTHS = (9, 40, 60, 3)


def init(key):
    keys = jax.random.split(key, 6)
    return [
        {
            "W": jax.random.normal(keys[2 * i], (n, m)) * (1.3 / n) ** 0.5,
            "b": 0.3 * jax.random.normal(keys[2 * i + 1], (m,)),
        }
        for i, (n, m) in enumerate(pairwise(WIDTHS))
    ]


def apply(parameters, x):
    z = {}
    for i, layer in enumerate(parameters):
        x = (jnp.tanh(x) if i else x) @ layer["W"] + layer["b"]
        z[f"z{i + 1}"] = x
    return x, z


@pytest.fixture(scope="module")
def x():
    return np.random.default_rng(0).normal(size=(4, 9)) + 0.5


@pytest.fixture(scope="module")
def found(x):
    return fw.inspect(apply, init, x, initialisations=150, seed=1)


def test_signals_and_tangent_kernel_are_those_of_theory(found, x) -> None:
    net = fw.MLP("tanh", depth=3, width=WIDTHS[1:-1], n_in=9, n_out=3, C_W=1.3, C_b=0.09, lambda_W=WIDTHS[:-1])
    flow = fw.flow(net, x)
    assert found.layers == ("['z1']", "['z2']", "['z3']", "output")
    for i, layer in enumerate((1, 2, 3, 3)):
        K = np.diagonal(flow.K.sel(layer=layer)).mean()
        column = found.columns["K"]
        assert abs(column.value[i] - K) < 4.5 * column.standard_error[i] + K / 40**2
    kernel, error = found.tangent_kernel
    Theta = flow.Theta.values[-1]
    assert np.all(np.abs(kernel - Theta) < 4.5 * error + 0.03 * np.abs(Theta))  # leading order: 1/n is left out
    assert np.all(error < 0.2 * np.diagonal(Theta).mean())


def test_gradients_by_leaf_add_up_to_the_kernel(found) -> None:
    total = sum(value**2 for value, _ in found.parameters.values())
    np.testing.assert_allclose(total, np.diagonal(found.tangent_kernel[0]).mean(), rtol=1e-5)
    assert set(found.parameters) == {f"[{i}]['{name}']" for i in range(3) for name in "Wb"}
    np.testing.assert_allclose(found.parameters["[2]['b']"][0], 1.0, atol=4.5 * found.parameters["[2]['b']"][1])


def test_printed_and_as_json(found) -> None:
    from finitewidth.report.strict_json import to_json

    assert "Tangent kernel" in str(found) and "[0]['W']" in str(found)
    assert '"tangent_kernel"' in to_json(found.to_dict())


def test_trees_of_inputs_and_outputs_of_one_number() -> None:
    found = fw.inspect(
        lambda p, x: x["a"] @ p + x["b"],
        lambda key: jax.random.normal(key, (3,)),
        {"a": jnp.ones((2, 3)), "b": jnp.ones(2)},
    )
    assert found.layers == ("output",) and found.tangent_kernel[0].shape == (2, 2)
    np.testing.assert_allclose(found.columns["angle"].value, 0.0, atol=1e-3)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("apply", init, np.ones((2, 9))), {}, "`apply` must be a function"),
        ((apply, 3, np.ones((2, 9))), {}, "`init` must be a function"),
        ((apply, init, np.ones((2, 5))), {}, "`apply` or `init` fails"),
        ((apply, init, 1.0), {}, "`x` must hold inputs"),
        ((apply, init, np.full((2, 9), np.nan)), {}, "`x` must be finite"),
        ((lambda p, x: jnp.sum(x), init, np.ones((2, 9))), {}, "`apply` must return outputs with one"),
        ((apply, init, np.ones((2, 9))), {"initialisations": 1}, "`initialisations` must be"),
        ((apply, init, np.ones((2, 9))), {"seed": -1}, "`seed` must be"),
    ],
)
def test_refusals_are_one_line(arguments, options, message) -> None:
    with pytest.raises(InputError, match=message) as caught:
        fw.inspect(*arguments, **options)
    assert "\n" not in str(caught.value)
