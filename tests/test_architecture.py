"""`MLP`: what it accepts, what it refuses and in which words, and that it is a value like any other."""

from dataclasses import FrozenInstanceError, replace

import jax.numpy as jnp
import numpy as np
import pytest

import finitewidth as fw


def test_positional_and_named_activation_are_one() -> None:
    one, other = fw.MLP("relu", depth=3), fw.MLP(activation=fw.activations.relu, depth=3)
    assert one == other and hash(one) == hash(other)
    assert one.activation is fw.activations.relu


def test_everything_but_the_activation_is_keyword_only() -> None:
    with pytest.raises(TypeError, match="positional"):
        fw.MLP("relu", 3)  # type: ignore[misc]


def test_defaults_and_lists_become_plain_numbers() -> None:
    net = fw.MLP("tanh", depth=np.int64(3), width=np.array([4, 5]), C_W=[1, 2, 3], C_b=np.float64(0.5))
    assert net.widths == (4, 5) and all(type(n) is int for n in net.widths)
    assert type(net.depth) is int and type(net.C_b) is float
    np.testing.assert_array_equal(net.per_layer("C_W"), [1.0, 2.0, 3.0])
    np.testing.assert_array_equal(net.per_layer("lambda_b"), [1.0, 1.0, 1.0])
    assert net.depth_to_width == 1 / 4 + 1 / 5
    assert (net.n_in, net.n_out) == (None, 1)


def test_one_layer_has_no_hidden_width() -> None:
    net = fw.MLP("tanh", depth=1, width=7)
    assert net.widths == () and net.depth_to_width == 0.0


def test_replace_checks_again() -> None:
    net = fw.MLP("relu", depth=3, width=10, C_W=2.0)
    assert replace(net, depth=4).widths == (10, 10, 10)
    assert replace(net, activation="tanh").activation is fw.activations.tanh
    assert replace(net) == net
    with pytest.raises(fw.InputError, match="`depth` must be"):
        replace(net, depth=0)


def test_networks_of_other_numbers_are_other_networks() -> None:
    net = fw.MLP("relu", depth=3)
    assert net != replace(net, C_W=2.0)
    assert net != replace(net, activation="tanh")
    assert len({net, replace(net), replace(net, n_out=2)}) == 2


def test_frozen_and_readable() -> None:
    net = fw.MLP("leaky_relu(0.1)", depth=2, width=8)
    with pytest.raises(FrozenInstanceError):
        net.depth = 3  # type: ignore[misc]
    assert repr(net) == (
        "MLP(activation=Activation(leaky_relu(0.1)), depth=2, width=8, n_in=None, n_out=1, C_b=0.0, C_W=1.0, "
        "lambda_b=1.0, lambda_W=1.0)"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"activation": "rellu"}, r"`activation` must be a known name, but got 'rellu'; did you mean 'relu'\?"),
        ({"activation": jnp.tanh}, r"must be an Activation or the name of one, but got .*wrap a function as fw\.Act"),
        ({"activation": None}, "must be an Activation or the name of one, but got None"),
        (
            {"activation": fw.activations.leaky_relu},
            r"leaky_relu has parameters: call it .* fw\.activations\.leaky_rel",
        ),
        (
            {"activation": fw.activations.monomial},
            r"monomial has parameters: call it .*fw\.activations\.monomial\(\d\)",
        ),
        ({"depth": 0}, "`depth` must be an integer ≥ 1, but got 0"),
        ({"depth": 2.0}, "`depth` must be an integer ≥ 1, but got 2.0"),
        ({"depth": True}, "`depth` must be an integer ≥ 1, but got True"),
        ({"depth": "3"}, "`depth` must be an integer ≥ 1, but got '3'"),
        ({"width": 0}, "`width` must be an integer ≥ 1, but got 0"),
        ({"width": 1.5}, "`width` must be an integer ≥ 1 or a sequence of them, but got 1.5"),
        ({"width": "64"}, "`width` must be an integer ≥ 1 or a sequence of them, but got '64'"),
        ({"width": True}, "`width` must be an integer ≥ 1 or a sequence of them, but got True"),
        ({"width": [4, 4, 4]}, "`width` has 3 entries, but depth 3 has 2 hidden layers .*give 2 widths or one number"),
        ({"width": [4, 0]}, r"`width\[1\]` must be an integer ≥ 1, but got 0"),
        ({"width": [4, 4.0]}, r"`width\[1\]` must be an integer ≥ 1, but got 4.0"),
        ({"n_in": 0}, "`n_in` must be an integer ≥ 1, but got 0"),
        ({"n_out": -1}, "`n_out` must be an integer ≥ 1, but got -1"),
        ({"n_out": None}, "`n_out` must be an integer ≥ 1, but got None"),
        ({"C_b": -0.1}, "`C_b` must be a finite number ≥ 0, but got -0.1"),
        ({"C_W": float("nan")}, "`C_W` must be a finite number ≥ 0, but got nan"),
        ({"C_W": float("inf")}, "`C_W` must be a finite number ≥ 0, but got inf"),
        ({"C_W": 0.0}, "`C_W` must be positive in every layer"),
        ({"C_W": [1.0, 0.0, 1.0]}, "`C_W` must be positive in every layer"),
        ({"C_W": [1.0, 2.0]}, "`C_W` has 2 entries, but the network has depth 3; give 3 or one number"),
        ({"C_W": np.ones((3, 1))}, "`C_W` must be a number ≥ 0 or a sequence with one per layer"),
        ({"lambda_b": "1"}, "`lambda_b` must be a number ≥ 0 or a sequence with one per layer, but got '1'"),
        ({"lambda_b": True}, "`lambda_b` must be a number ≥ 0 or a sequence with one per layer, but got True"),
        ({"lambda_W": [1.0, 1.0, -2.0]}, r"`lambda_W\[2\]` must be a finite number ≥ 0, but got -2.0"),
        ({"lambda_W": [1.0, 1.0, "a"]}, r"`lambda_W\[2\]` must be a finite number ≥ 0, but got 'a'"),
        ({"lambda_W": 1j}, "`lambda_W` must be a number ≥ 0"),
    ],
)
def test_bad_arguments(arguments, message: str) -> None:
    with pytest.raises(fw.InputError, match=message):
        fw.MLP(**{"activation": "relu", "depth": 3, **arguments})


def test_residual_network_is_a_value_too() -> None:
    net = fw.ResidualMLP("relu", depth=4, width=[8, 8, 8], C_W=2.0, gamma=0.5)
    assert (net.width, net.widths, net.gamma, net.xi) == (8, (8, 8, 8), 0.5, 1.0)
    assert net == replace(net) and hash(net) == hash(replace(net))
    assert net != replace(net, xi=0.5)
    assert net != fw.MLP("relu", depth=4, width=8, C_W=2.0)
    np.testing.assert_array_equal(net.carried, [0, 0.5, 0.5, 0])
    np.testing.assert_array_equal(replace(net, xi=3).added, [1, 3, 3, 1])
    assert not fw.MLP("relu", depth=2).carried.any() and not fw.ResidualMLP("relu", depth=2).carried.any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"width": [3, 4]}, r"`width` must be one number for all hidden layers .* got \(3, 4\)"),
        ({"gamma": float("nan")}, "`gamma` must be a finite number, but got nan"),
        ({"xi": "1"}, "`xi` must be a finite number, but got '1'"),
        ({"xi": 0}, "`xi` must not be 0"),
        ({"C_W": 0.0}, "`C_W` must be positive"),
    ],
)
def test_residual_network_refuses(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(fw.InputError, match=message):
        fw.ResidualMLP("relu", depth=3, **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "ask",
    [
        lambda x: fw.flow("tanh", x),
        lambda x: fw.flow("tanh", x, order=1),
        lambda x: fw.vertex("tanh", x),
        lambda x: fw.nearly_gaussian("tanh", x),
        lambda x: fw.tangent_kernel("tanh", x),
        lambda x: fw.learning_rates("tanh"),
        lambda x: fw.report("tanh", x),
        lambda x: fw.predict("tanh", x, [1.0]),
        lambda x: fw.generalisation("tanh", x, [1.0], x, [1.0]),
        lambda x: fw.verify("tanh", x),
        lambda x: fw.ensemble("tanh", x, observables=["K"], n_networks=2),
    ],
)
def test_what_is_no_network_is_said_to_be_none(ask):
    with pytest.raises(fw.InputError, match=r"`net` must be an MLP.*, but got 'tanh'; make one as fw\.MLP"):
        ask([[1.0, 2.0]])
