"""Every activation of the catalogue: against mpmath, torch and jax.nn, and against what it declares of itself."""

from contextlib import nullcontext
from functools import partial

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finitewidth import activations
from finitewidth.activations.kinks import _evaluate, find_kinks, find_parity
from finitewidth.errors import InputError
from finitewidth.precision import float64

mp = mpmath.mp.clone()
mp.dps = 140

_SELU_ALPHA, _SELU_SCALE = mp.mpf("1.6732632423543772848170429916717"), mp.mpf("1.0507009873554804934193349852946")
_THIRD = mp.mpf(1) / 3


def _sigmoid(z):
    return 1 / (1 + mp.exp(-z))


def _clip(z, low, high):
    return min(max(z, mp.mpf(low)), mp.mpf(high))


# name → (σ in mpmath, the torch module as source text or ""); written from the definitions, not from our code
REFERENCES = {
    "relu": (lambda z: max(z, mp.zero), "ReLU()"),
    "leaky_relu": (lambda z: z if z > 0 else z * mp.mpf(0.01), "LeakyReLU()"),
    "leaky_relu(0.3)": (lambda z: z if z > 0 else z * mp.mpf(0.3), "LeakyReLU(0.3)"),
    "leaky_relu(-1)": (abs, ""),
    "prelu": (lambda z: z if z > 0 else z / 4, "PReLU()"),
    "rrelu": (lambda z: z if z > 0 else z * mp.mpf(11 / 48), "RReLU().eval()"),
    "abs": (abs, ""),
    "relu6": (lambda z: _clip(z, 0, 6), "ReLU6()"),
    "relu_squared": (lambda z: max(z, mp.zero) ** 2, ""),
    "threshold(0.1, -2)": (lambda z: z if z > 0.1 else mp.mpf(-2), "Threshold(0.1, -2)"),
    "tanh": (mp.tanh, "Tanh()"),
    "sigmoid": (_sigmoid, "Sigmoid()"),
    "erf": (mp.erf, ""),
    "arctan": (mp.atan, ""),
    "softsign": (lambda z: z / (1 + abs(z)), "Softsign()"),
    "gelu": (lambda z: z * mp.erfc(-z / mp.sqrt(2)) / 2, "GELU()"),
    "gelu_tanh": (
        lambda z: z * _sigmoid(2 * mp.sqrt(2 / mp.pi) * (z + mp.mpf("0.044715") * z**3)),
        "GELU(approximate='tanh')",
    ),
    "silu": (lambda z: z * _sigmoid(z), "SiLU()"),
    "swish": (lambda z: z * _sigmoid(z), "SiLU()"),
    "swish(1.7)": (lambda z: z * _sigmoid(mp.mpf(1.7) * z), ""),
    "mish": (lambda z: z * mp.tanh(mp.log1p(mp.exp(z))), "Mish()"),
    "elu": (lambda z: z if z > 0 else mp.expm1(z), "ELU()"),
    "elu(0.4)": (lambda z: z if z > 0 else mp.mpf(0.4) * mp.expm1(z), "ELU(0.4)"),
    "celu": (lambda z: z if z > 0 else mp.expm1(z), "CELU()"),
    "celu(2.5)": (lambda z: z if z > 0 else mp.mpf(2.5) * mp.expm1(z / mp.mpf(2.5)), "CELU(2.5)"),
    "selu": (lambda z: _SELU_SCALE * (z if z > 0 else _SELU_ALPHA * mp.expm1(z)), "SELU()"),
    "exp": (mp.exp, ""),
    "softplus": (lambda z: mp.log1p(mp.exp(z)), "Softplus(threshold=40)"),
    "softplus(3)": (lambda z: mp.log1p(mp.exp(3 * z)) / 3, "Softplus(3, threshold=40)"),
    "log_sigmoid": (lambda z: -mp.log1p(mp.exp(-z)), "LogSigmoid()"),
    "squareplus": (lambda z: (z + mp.sqrt(z * z + 4)) / 2, ""),
    "squareplus(0.5)": (lambda z: (z + mp.sqrt(z * z + mp.mpf(0.5))) / 2, ""),
    "hardtanh": (lambda z: _clip(z, -1, 1), "Hardtanh()"),
    "hardtanh(-0.5, 2)": (lambda z: _clip(z, -0.5, 2), "Hardtanh(-0.5, 2)"),
    "hardsigmoid": (lambda z: _clip((z + 3) / 6, 0, 1), "Hardsigmoid()"),
    "hardswish": (lambda z: z * _clip((z + 3) / 6, 0, 1), "Hardswish()"),
    "sparse_plus": (lambda z: mp.zero if z <= -1 else z if z >= 1 else (z + 1) ** 2 / 4, ""),
    "sparse_sigmoid": (lambda z: _clip((z + 1) / 2, 0, 1), ""),
    "softshrink": (lambda z: z - _clip(z, -0.5, 0.5), "Softshrink()"),
    "softshrink(0.2)": (lambda z: z - _clip(z, -0.2, 0.2), "Softshrink(0.2)"),
    "hardshrink": (lambda z: z if abs(z) > 0.5 else mp.zero, "Hardshrink()"),
    "tanhshrink": (lambda z: z - mp.tanh(z), "Tanhshrink()"),
    "sin": (mp.sin, ""),
    "cos": (mp.cos, ""),
    "snake": (lambda z: z + mp.sin(z) ** 2, ""),
    "snake(0.5)": (lambda z: z + 2 * mp.sin(z / 2) ** 2, ""),
    "linear": (lambda z: z, "Identity()"),
    "monomial(3)": (lambda z: z**3, ""),
    "polynomial(0, 1, 0.5)": (lambda z: z + z * z / 2, ""),
    "gaussian": (lambda z: mp.exp(-z * z), ""),
    "gaussian(0.5)": (lambda z: mp.exp(-z * z / 2), ""),
    "step": (lambda z: mp.mpf(z > 0), ""),
    "sign": (mp.sign, ""),
}

POINTS = [s * z for z in (1e-8, 1e-6, 1e-3, 1.25, 30.0, 1000.0, 1e7) for s in (1, -1)]
ALL = sorted(REFERENCES)
any_name = st.sampled_from(ALL)
any_size = st.floats(-8, 7).map(lambda e: 10.0**e)  # of z


def derivatives(name, z):
    """σ⁽⁰⁾ … σ⁽⁴⁾ at z, all tests sharing one compiled program for each activation: that of the search for kinks."""
    return _evaluate(activations.named(name), np.asarray(z, dtype=float))


def test_every_activation_has_a_reference():
    assert set(activations.names()) == {name.partition("(")[0] for name in REFERENCES}


@pytest.mark.parametrize("name", ALL)
def test_values_and_derivatives_agree_with_mpmath(name):
    reference, _ = REFERENCES[name]
    points = POINTS + [k + step for k in activations.named(name).kinks for step in (-0.011, 0.011)]
    ours = derivatives(name, points)
    for i, z in enumerate(points):
        for order in range(4):
            # a step far below 1e-8: no difference reaches across a kink at 0
            exact = (
                mp.diff(reference, mp.mpf(z), order, h=mp.mpf(10) ** -25, direction=0)
                if order
                else reference(mp.mpf(z))
            )
            exact = float(exact) if abs(exact) < 1e308 else np.inf
            np.testing.assert_allclose(
                ours[order, i], exact, rtol=1e-13, atol=1e-300, err_msg=f"order {order} at z = {z}"
            )


@given(name=any_name, sizes=st.lists(any_size, min_size=1, max_size=20))
@settings(max_examples=150)
def test_derivatives_up_to_the_fourth_are_finite(name, sizes):
    z = np.array(sizes + [-z for z in sizes])
    if name == "exp":
        z = z[z < 700]
    assert np.isfinite(derivatives(name, z)).all()


@given(name=any_name, size=any_size)
@settings(max_examples=150)
def test_parity_holds(name, size):
    activation = activations.named(name)
    plus, minus = derivatives(name, [size, -size])[0]
    if activation.parity != "none" and size not in activation.kinks:
        assert plus == (minus if activation.parity == "even" else -minus)


@pytest.mark.parametrize("name", ALL)
def test_parity_is_what_would_be_found(name):
    activation = activations.named(name)
    assert find_parity(activation) == activation.parity


PIECEWISE = [n for n in ALL if activations.named(n).pieces]


@given(name=st.sampled_from(PIECEWISE), z=st.floats(-20, 20, allow_subnormal=False))  # XLA takes subnormals for 0
@settings(max_examples=150)
def test_pieces_are_the_function(name, z):
    activation = activations.named(name)
    if z not in activation.kinks:
        piece = activation.pieces[np.searchsorted(activation.kinks, z)] if activation.kinks else activation.pieces[0]
        expected = np.polynomial.polynomial.polyval(z, piece)
        np.testing.assert_allclose(derivatives(name, [z])[0], expected, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("name", [entry["example"] for entry in activations.catalogue()])
def test_kinks_are_those_that_would_be_found(name):
    activation = activations.named(name)
    assert find_kinks(activation) == (activation.kinks, ())


@pytest.fixture(scope="module")
def slopes():
    """σ and its backward derivative at FAR, by name: one program for the whole catalogue."""

    def all_of_them(z):
        return {name: all_slopes(activations.named(name))(z)[::2] for name in ALL}

    with float64():
        return jax.jit(all_of_them)(jnp.array(FAR))


FAR = (-1e4, -30.0, -0.7, 0.3, 40.0, 1e4, np.nan)


def all_slopes(activation):
    return lambda z: (activation(z), activation.derivative(1)(z), jax.grad(lambda z: activation(z).sum())(z))


@pytest.mark.parametrize("name", ALL)
def test_backward_derivatives_are_the_forward_ones(name, slopes):
    # real networks are trained in reverse mode: a branch that overflows unseen would make NaN there, and only there
    backward, forward = slopes[name][1][:-1], derivatives(name, FAR[:-1])[1]
    np.testing.assert_allclose(backward, forward, rtol=1e-12, atol=1e-300)
    assert np.isfinite(backward).all() or name == "exp"


def test_nan_stays_nan(slopes):
    # a network that diverged must not look healthy behind a clipped activation
    assert {name for name, (value, _) in slopes.items() if not np.isnan(value[-1])} == {"step"}


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("precision", [float64, nullcontext])
def test_single_precision_stays_single_precision(name, precision):
    with precision():
        results = jax.eval_shape(all_slopes(activations.named(name)), jax.ShapeDtypeStruct((3,), jnp.float32))
    assert {r.dtype for r in results} == {jnp.dtype("float32")}


RANDOM = np.random.default_rng(2).normal(size=400) * np.repeat([0.1, 1.0, 10.0, 30.0], 100)


@pytest.mark.parametrize("name", [n for n in ALL if REFERENCES[n][1]])
def test_agrees_with_torch(name):
    torch = pytest.importorskip("torch")
    module = eval(f"torch.nn.{REFERENCES[name][1]}", {"torch": torch}).double()
    theirs = module(torch.tensor(RANDOM)).detach().numpy()
    np.testing.assert_allclose(derivatives(name, RANDOM)[0], theirs, rtol=1e-12, atol=1e-14)


def test_torch_is_complete():
    torch = pytest.importorskip("torch")
    for name in torch.nn.modules.activation.__all__:
        if name in ("Softmax", "Softmax2d", "Softmin", "LogSoftmax", "GLU", "MultiheadAttention"):
            with pytest.raises(InputError, match="mixes neurons"):
                activations.named(name)
        elif name != "Threshold":  # has no default parameters, here as there
            activations.named(name)


@pytest.mark.parametrize("row", [r for r in activations.catalogue() if r["jax"]], ids=lambda r: r["name"])
def test_agrees_with_jax(row):
    name = row["jax"].partition("(")[0].rpartition(".")[2]
    function = next(getattr(m, name) for m in (jax.nn, jnp, jax.scipy.special) if hasattr(m, name))
    if row["name"] == "gelu":
        function = partial(function, approximate=False)
    z = RANDOM[np.abs(RANDOM) < 600]
    with float64():
        theirs = function(jnp.asarray(z))
    np.testing.assert_allclose(derivatives(row["example"], z)[0], theirs, rtol=1e-11, atol=1e-14)


def test_jax_nn_is_complete():
    elementwise = {row["jax"].partition("(")[0] for row in activations.catalogue() if row["jax"]} | {"hard_silu"}
    others = {"dot_product_attention", "get_scaled_dot_general_config", "initializers", "scaled_dot_general"}
    others |= {"scaled_matmul", "softmax", "log_softmax", "logsumexp", "logmeanexp", "one_hot", "standardize", "glu"}
    others |= {"log1mexp"}
    assert {name for name in dir(jax.nn) if not name.startswith("_")} <= elementwise | others
