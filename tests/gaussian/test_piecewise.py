"""Piecewise quadratic activations: the integral over angles against 30 digits, the plane, and its own derivative."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import ndtr

import finitewidth as fw
from finitewidth.gaussian.closed_forms import PairAverages
from finitewidth.gaussian.pair_maps import PiecewiseMap
from finitewidth.gaussian.pairs import complement
from finitewidth.gaussian.piecewise import is_piecewise_quadratic, piecewise_quadratic
from finitewidth.gaussian.plane import direct_pairs
from finitewidth.gaussian.tables import NotTabulable, line_moments
from finitewidth.precision import float64
from tests.problems import Pairs, pairs

EPS = float(np.finfo(float).eps)
NAMES = ("hardtanh", "relu6", "hardswish", "softshrink", "hardshrink", "leaky_relu(0.1)")


def averages(activation: fw.Activation, a, b, w, s) -> PairAverages:
    """In NumPy: nothing to compile. `test_numpy_and_jax_agree` and `test_price` look at JAX's."""
    assert activation.pieces is not None
    form = piecewise_quadratic(activation.kinks, activation.pieces)
    with np.errstate(all="ignore"):
        return PairAverages(*(x[0] for x in form(*(np.asarray(x, dtype=float)[None] for x in (a, b, w, s)))))


@pytest.mark.parametrize(
    "problem",
    [pytest.param(p, id=p.activation) for p in pairs() if p.activation in NAMES],
)
def test_thirty_digits(problem: Pairs) -> None:
    """Unit, unequal, tiny, large and huge kernels; correlations down to 1 − |ρ| = 1e-12, of both signs."""
    a, c, b = problem.K[:, 0, 0], problem.K[:, 0, 1], problem.K[:, 1, 1]
    activation = fw.activations.named(problem.activation)
    found, compared = averages(activation, a, b, *complement(a, b, c)), 0
    for i in range(len(a)):
        K = np.array([[a[i], b[i]]])
        try:
            stated = PiecewiseMap(activation, K, line_moments(activation, K[0]).value[None], [np.arange(2)]).errors
        except NotTabulable:  # huge kernels, at which a bounded σ or a short quadratic piece cancels
            continue
        compared += 1
        for value, right, scale in (
            (found.F, problem.ss, problem.ss_scale),
            (found.S, problem.dsds, problem.dsds_scale),
        ):
            assert abs(value[i] - right[i]) <= stated.averages[0] * scale[i], problem.kernels[i]
    assert compared >= len(a) - 3


@pytest.mark.parametrize("s", [1.0, -1.0])
def test_nearly_equal_kernels(s: float) -> None:
    """The density of (z₁, z₂) at one kink then switches on at a tiny angle, whatever θ is."""
    activation = fw.activations.named("hardtanh")
    b = 1.0 + np.concatenate([[0.0], np.geomspace(1e-9, 1e-2, 15)])
    a, w = np.ones_like(b), np.full_like(b, 0.3)
    found, (plane, error) = averages(activation, a, b, w, s * a), direct_pairs(activation, a, b, w, s * a)
    for what in ("F", "S"):
        assert np.all(np.abs(getattr(found, what) - getattr(plane, what)) <= 2e-13 + getattr(error, what))


@pytest.mark.parametrize("name", ["hardswish", "hardtanh", "relu6", "softshrink"])
@pytest.mark.parametrize("s", [1.0, -1.0])
def test_distance_from_the_collinear_pair(name: str, s: float) -> None:
    """D of near neighbours, to relative accuracy, against the plane: it sums squares of small differences."""
    activation = fw.activations.named(name)
    a, b, w = (x.ravel() for x in np.meshgrid([0.4, 3.0], [0.4, 2.0], [1e-12, 1e-8, 1e-4, 0.3], indexing="ij"))
    found, (plane, error) = averages(activation, a, b, w, s + 0 * a), direct_pairs(activation, a, b, w, s + 0 * a)
    assert np.all(np.abs(found.D - plane.D) <= 1e-9 * np.abs(plane.D) + error.D)
    np.testing.assert_allclose(found.collinear, plane.collinear, rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(found.collinear - found.F, found.D, rtol=0, atol=1e-14)
    np.testing.assert_allclose(found.S, plane.S, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) for name in ("relu6", "hardtanh", "hardswish")]
)
def test_price(name: str) -> None:
    """∂⟨σσ⟩/∂ρ = √(ab)⟨σ'σ'⟩: two outputs of one form, by automatic differentiation."""
    activation = fw.activations.named(name)
    assert activation.pieces is not None
    form = piecewise_quadratic(activation.kinks, activation.pieces)
    with float64():
        for a, b, w in ((0.5, 2.0, 0.3), (1.3, 1.3, 0.01), (4.0, 0.2, 0.9)):
            one = [jnp.full((1, 1), x) for x in (a, b, w, 1.0)]
            slope = jax.jvp(lambda w, one=one: form(*one[:2], w, one[3]).D, (one[2],), (jnp.ones((1, 1)),))[1]
            np.testing.assert_allclose(slope, np.sqrt(a * b) * form(*one).S, rtol=1e-10)


def test_a_jump_of_sigma() -> None:
    """sign(z − ½): P(z₁ > ½, z₂ > ½) by quadrature over one variable."""
    form = piecewise_quadratic((0.5,), ((-1.0,), (1.0,)))
    a, b, rho = 1.5, 0.8, 0.6

    def tail(x: float) -> float:
        mean, width = rho * x, np.sqrt(1 - rho**2)
        return np.exp(-x * x / 2) / np.sqrt(2 * np.pi) * ndtr((mean - 0.5 / np.sqrt(b)) / width)

    both = quad(tail, 0.5 / np.sqrt(a), 12, epsabs=1e-14, epsrel=1e-13)[0]
    each = [ndtr(-0.5 / np.sqrt(k)) for k in (a, b)]
    exact = 4 * both - 2 * sum(each) + 1
    found = form(*(np.full((1, 1), x) for x in (a, b, 1 - rho, 1.0)))
    np.testing.assert_allclose(found.F, exact, rtol=1e-11)
    np.testing.assert_array_equal(found.S, 0.0)


def test_numpy_and_jax_agree() -> None:
    """Of one kink off the origin, with correlations of both signs."""
    activation = fw.activations.named("softshrink")
    form = piecewise_quadratic(activation.kinks, activation.pieces)
    numbers = [np.array(x)[None] for x in ([0.5, 2.0, 1e-3], [0.6, 0.1, 4.0], [0.3, 1e-9, 0.9], [1.0, -1.0, -1.0])]
    with float64():
        compiled = jax.jit(form)(*numbers)
    for one, other in zip(form(*numbers), compiled, strict=True):
        assert isinstance(one, np.ndarray)
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-15)


def test_what_it_covers() -> None:
    assert is_piecewise_quadratic(((1.0, 0.0, 2.0), (0.0, 1.0, 2.0, 0.0)))
    assert not is_piecewise_quadratic(((0.0, 0.0, 0.0, 1.0),))
    assert not is_piecewise_quadratic(None)


def test_kernels_at_which_a_bounded_sigma_cancels_are_left_to_others() -> None:
    K = np.full((1, 8), 1e6)
    activation = fw.activations.named("hardtanh")
    with float64():
        moments = line_moments(activation, K[0]).value[None]
        with pytest.raises(NotTabulable, match="hardtanh"):
            PiecewiseMap(activation, K, moments, [np.arange(8)])
