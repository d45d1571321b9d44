"""`kernel_pair`: complements without loss, every road, zero variance, bad input. References: test_references."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mpmath import mp, mpf

import finitewidth as fw
from finitewidth.gaussian import kernel_pair
from finitewidth.gaussian.pairs import complement

EPS = np.finfo(float).eps


def named(name: str) -> fw.Activation:
    return fw.activations.named(name)


@settings(max_examples=300, deadline=None)
@given(
    a=st.floats(1e-150, 1e150), b=st.floats(1e-150, 1e150), log_w=st.floats(-15, -0.01), sign=st.sampled_from([-1, 1])
)
def test_complement_keeps_its_relative_accuracy(a: float, b: float, log_w: float, sign: int) -> None:
    mp.dps = 60
    c = float(sign * mp.sqrt(mpf(a) * mpf(b)) * (1 - mpf(10) ** log_w))
    w, s = complement(np.array([a]), np.array([b]), np.array([c]))
    exact = 1 - abs(mpf(c)) / mp.sqrt(mpf(a) * mpf(b))
    assert s[0] == sign
    assert abs(mpf(w[0]) - exact) <= 16 * EPS * abs(exact)


def test_collinear_inputs_have_complement_zero() -> None:
    w, s = complement(np.array([2.0, 3.0]), np.array([2.0, 12.0]), np.array([2.0, -6.0]))
    np.testing.assert_array_equal(w, 0.0)
    np.testing.assert_array_equal(s, [1.0, -1.0])


@pytest.mark.parametrize("name", ["relu", "gelu", "erf", "tanh", "hardtanh"])
def test_diagonal_pair_is_the_average_over_one_input(name: str) -> None:
    for K in (1e-12, 0.7, 40.0):
        pair = kernel_pair(named(name), np.full((2, 2), K))
        alone = fw.expectation(lambda z: jnp.square(named(name)(z)), [[K]], kinks=named(name).kinks)
        np.testing.assert_allclose(pair.ss.value, alone.value, rtol=1e-12)


@pytest.mark.parametrize("name", ["relu", "gelu", "sin", "monomial(3)"])
def test_closed_forms_agree_with_the_plane(name: str) -> None:
    activation = named(name)
    without = fw.Activation(activation.function, kinks=activation.kinks, parity=activation.parity)
    K = np.array([[[1.0, 0.4], [0.4, 2.0]], [[0.5, -0.6], [-0.6, 0.8]], [[1.0, 1 - 1e-9], [1 - 1e-9, 1.0]]])
    form, plane = kernel_pair(activation, K), kernel_pair(without, K)
    assert (form.ss.method, plane.ss.method) == ("closed form", "plane")
    for one, other in zip(form, plane, strict=True):
        np.testing.assert_allclose(one.value, other.value, rtol=1e-11, atol=1e-13)


def test_pairs_of_any_shape() -> None:
    K = np.broadcast_to([[1.0, 0.5], [0.5, 1.0]], (3, 4, 2, 2))
    assert kernel_pair(named("silu"), K).dsds.value.shape == (3, 4)


def test_input_of_zero_variance() -> None:
    """σ(0)⟨σ(z)⟩ with sigmoid: ½ · ½; slopes ¼⟨σ'⟩."""
    pair = kernel_pair(named("sigmoid"), [[0.0, 0.0], [0.0, 3.0]])
    slope = fw.expectation(lambda z: named("sigmoid").evaluate(z, (1,))[0], [[3.0]])
    np.testing.assert_allclose(pair.ss.value, 0.25, rtol=1e-14)
    np.testing.assert_allclose(pair.dsds.value, 0.25 * slope.value, rtol=1e-13)


@settings(max_examples=20, deadline=None)
@given(a=st.floats(1e-6, 1e6), b=st.floats(1e-6, 1e6), rho=st.floats(-1, 1))
def test_schwarz(a: float, b: float, rho: float) -> None:
    c = rho * np.sqrt(a * b) * (1 - 4 * EPS)
    K = np.array([[[a, c], [c, b]], [[a, a], [a, a]], [[b, b], [b, b]]])
    value, error, _ = kernel_pair(named("hardswish"), K).ss
    assert value[0] ** 2 <= value[1] * value[2] * (1 + 1e-10) + 10 * error[0] ** 2


@pytest.mark.parametrize(
    ("K", "message"),
    [
        (np.eye(3), r"shape \(…, 2, 2\)"),
        ([[1.0, np.nan], [np.nan, 1.0]], "finite"),
        ([[1.0, 0.5], [0.4, 1.0]], "symmetric"),
        ([[-1.0, 0.0], [0.0, 1.0]], "variances ≥ 0"),
        ([[1.0, 1.1], [1.1, 1.0]], r"not positive semidefinite: the correlation .* is 1\.1"),
        ([[0.0, 0.5], [0.5, 1.0]], "zero variance"),
    ],
)
def test_bad_kernels(K, message: str) -> None:
    with pytest.raises(fw.InputError, match=message):
        kernel_pair(named("tanh"), K)


def test_average_beyond_float64_is_said() -> None:
    with pytest.raises(fw.InputError, match="leave float64 at kernels 1000 and 1000"):
        kernel_pair(named("exp"), [[1000.0, 500.0], [500.0, 1000.0]])
