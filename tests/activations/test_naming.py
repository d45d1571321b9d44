"""Names, parameters and the errors of those that do not fit."""

import copy
import json
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finitewidth import activations
from finitewidth.activations import Activation, catalogue, named, names
from finitewidth.architecture import MLP
from finitewidth.errors import InputError


@pytest.mark.parametrize(
    ("spelled", "name"),
    [
        ("gelu", "gelu"),
        ("GELU", "gelu"),
        ("LeakyReLU", "leaky_relu"),
        ("leaky-relu", "leaky_relu"),
        (" leaky_relu( 0.1 ) ", "leaky_relu(0.1)"),
        ("leaky_relu(negative_slope=0.1)", "leaky_relu(0.1)"),
        ("leaky_relu(0.01)", "leaky_relu"),
        ("leaky_relu()", "leaky_relu"),
        ("RReLU(1/8, 1/3)", "rrelu"),
        ("hardtanh(max_val=2)", "hardtanh(-1, 2)"),
        ("Hardswish", "hardswish"),
        ("hard_silu", "hardswish"),
        ("SiLU", "silu"),
        ("GELU(approximate='tanh')", "gelu_tanh"),
        ("gelu(none)", "gelu"),
        ("torch.nn.ReLU(inplace=True)", "relu"),
        ("nn.Hardtanh(min_val=-2, max_val=3.5, inplace=True)", "hardtanh(-2, 3.5)"),
        ("jax.nn.leaky_relu(0.1)", "leaky_relu(0.1)"),
        ("heaviside", "step"),
        ("perceptron", "step"),
        ("identity", "linear"),
        ("monomial(p=3)", "monomial(3)"),
        ("polynomial(0, 1, -0.5)", "polynomial(0, 1, -0.5)"),
        ("softplus(2.0)", "softplus(2)"),
        ("softplus(1e-3)", "softplus(0.001)"),
    ],
)
def test_spellings(spelled, name):
    activation = named(spelled)
    assert activation.name == name
    assert named(name) is activation  # the name says it all


@given(st.floats(-5, 5))
def test_every_slope_has_a_name_of_its_own(slope):
    activation = activations.leaky_relu(slope)
    assert named(activation.name) is activation
    assert activation.pieces[0][-1] == slope


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gelou", r"must be a known name, but got 'gelou'; did you mean 'gelu'\?"),
        ("leekyrelu(0.1)", "did you mean 'leaky_relu'"),
        ("torch.nn.GELOU", "got 'GELOU'; did you mean 'gelu'"),
        ("xyzzy", "must be a known name, but got 'xyzzy'; `finitewidth activations` lists"),
        ("", "must be a known name, but got ''"),
        (3, "must be the name of an activation, but got 3"),
        ("softmax", "'softmax' mixes neurons"),
        ("LogSoftmax", "mixes neurons"),
        ("GLU", "mixes neurons"),
        ("log1mexp", "z > 0 only"),
        ("leaky_relu(slope=0.1)", r"no parameter `slope`; it is leaky_relu\(negative_slope=0.01\)"),
        ("leaky_relu(0.1, 0.2)", "got 2 parameters"),
        ("leaky_relu(0.1, negative_slope=0.2)", "multiple values for argument 'negative_slope'"),
        ("leaky_relu(negative_slope=1, negative_slope=2)", "twice|repeated|must be numbers"),
        ("leaky_relu(0.1", "closing parenthesis is missing"),
        ("leaky_relu(a)", "parameters must be numbers"),
        ("leaky_relu('a')", "`negative_slope` of activation 'leaky_relu' must be a finite number, but got 'a'"),
        ("leaky_relu(True)", "must be a finite number, but got True"),
        ("leaky_relu(1e999)", "must be a finite number, but got inf"),
        ("leaky_relu(1/0)", "parameters must be numbers"),
        ("relu(1)", "'relu' got 1 parameters; it takes no parameters"),
        ("softplus(-1)", "`beta` must be > 0, but got -1"),
        ("rrelu(0.5, 0.1)", "`upper` must be at least `lower` = 0.5, but got 0.1"),
        ("hardtanh(1, -1)", "`max_val` must be greater than `min_val` = 1, but got -1"),
        ("softshrink(0)", r"`lambd` must be > 0 \(at 0 it is `linear`\)"),
        ("snake(0)", "`a` must be different from 0"),
        ("squareplus(0)", "`b` must be > 0"),
        ("celu(0)", "`alpha` must be > 0"),
        ("gaussian(-1)", "`a` must be > 0"),
        ("swish(0)", "`beta` must be > 0"),
        ("monomial", r"missing a required argument: 'p'; it is monomial\(p\), for example monomial\(3\)"),
        ("monomial(2.5)", "`p` of activation 'monomial' must be an integer, but got 2.5"),
        ("monomial(0)", "`p` must be an integer from 1 to 100, but got 0"),
        ("polynomial", "at least one number, as in polynomial"),
    ],
)
def test_bad_names_say_what_is_wrong(name, message):
    with pytest.raises(InputError, match=message):
        named(name)


def test_attributes_are_the_named_ones():
    for name in names():
        entry = getattr(activations, name)
        assert (entry if isinstance(entry, Activation) else entry.default()) is named(
            entry.name if isinstance(entry, Activation) else entry.default().name
        )
    with pytest.raises(AttributeError, match="gelou"):
        activations.gelou  # noqa: B018


def test_networks_take_names_and_their_defaults():
    assert MLP("leaky_relu", depth=2).activation is activations.leaky_relu()


def test_named_activations_travel_to_other_processes():
    activation = named("leaky_relu(0.3)")
    assert pickle.loads(pickle.dumps(activation)) is activation
    assert copy.deepcopy(activation) is activation
    renamed = pickle.loads(pickle.dumps(activation.renamed("mine")))
    assert (renamed.name, renamed.pieces) == ("mine", activation.pieces)


def test_catalogue_rows_are_complete_and_plain():
    rows = catalogue()
    assert tuple(row["name"] for row in rows) == names()
    json.dumps(rows, allow_nan=False)
    for row in rows:
        assert row["summary"] and len(row["tails"]) == 2 and row["parity"] in ("odd", "even", "none")
        named(row["example"])
    assert next(r for r in rows if r["name"] == "leaky_relu")["parameters"] == {"negative_slope": 0.01}
    assert "gelu_tanh" in next(r for r in rows if r["name"] == "gelu")["summary"]
