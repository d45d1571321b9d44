"""`fw.expectation`: any function, any rank, any size of K; honest errors; one clear message for each bad input."""

import warnings
from collections.abc import Callable
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from mpmath import mp, mpf

import finitewidth as fw
from finitewidth.errors import TrustWarning
from finitewidth.gaussian.factor import factor
from tests.problems import Pairs, pairs

EPS = np.finfo(float).eps
C3 = np.array([[1.0, 0.3, 0.2], [0.3, 1.5, -0.4], [0.2, -0.4, 0.8]])
C4 = 0.5 * np.eye(4) + 0.5


def orthant(K: np.ndarray) -> float:
    """P(z₁, z₂, z₃ > 0) (Sheppard 1899)."""
    std = np.sqrt(np.diag(K))
    rho = (K / std[:, None] / std)[np.tril_indices(3, -1)]
    return float(1 / 8 + np.arcsin(rho).sum() / (4 * np.pi))


def positive(*z):
    return jnp.prod(jnp.stack([x > 0 for x in z]), axis=0) * 1.0


def product(*z):
    return jnp.prod(jnp.stack(z), axis=0)


# name: f, K, kinks, exact value, accuracy relative to it
PROBLEMS: dict[str, tuple[Callable, np.ndarray, tuple, float, float]] = {
    "one point": (lambda x, y: jnp.cos(x) + y, np.zeros((2, 2)), (), 1.0, EPS),
    "one input": (lambda x: x**4, np.array([[3.0]]), (), 27.0, 1e-13),
    "duplicated": (lambda x, y: jnp.abs(x - 1) * jnp.abs(y - 1), np.full((2, 2), 4.0), (1.0,), 5.0, 1e-13),
    "opposite": (lambda x, y: jax.nn.relu(x) * jax.nn.relu(-y), np.array([[4.0, -2], [-2, 1]]), (0.0,), 1.0, 1e-13),
    "beside zero": (lambda x, y: jnp.cos(x) * y**2, np.diag([0.0, 2.0]), (), 2.0, 1e-13),
    "Wick, two": (lambda x, y: x**2 * y**2, np.array([[1, 0.5], [0.5, 2]]), (), 2.5, 1e-13),
    "steps, three": (positive, C3, (0.0,), orthant(C3), 1e-9),
    # panels graded down to 1e-6 in three variables are too many: a population, honest about its four digits
    "steps, three, huge": (positive, 1e12 * C3, (0.0,), orthant(C3), 1e-3),
    "Wick, three": (lambda x, y, z: x**2 * y * z, C3, (), -0.28, 1e-12),
    "Wick, three of rank two": (
        lambda x, y, z: x * y * z**2,
        np.array([[1, 1, 0.5], [1, 1, 0.5], [0.5, 0.5, 1]]),
        (),
        1.5,
        1e-12,
    ),
    "steps, three of rank two": (
        # z₃ = z₁ + z₂: both positive, or not all
        positive,
        np.array([[1.0, 0, 1], [0, 1, 1], [1, 1, 2]]),
        (0.0,),
        0.25,
        1e-12,
    ),
    "Wick, four": (product, C4, (), 0.75, 1e-11),
    "steps, four": (positive, C4, (0.0,), 0.2, 1e-7),
    "exponential": (lambda x, y: jnp.exp(x + y), np.array([[20.0, 10], [10, 20]]), (), float(np.exp(30.0)), 1e-12),
    "tiny": (lambda x, y: jnp.tanh(x) * y, 1e-12 * np.array([[1, 0.5], [0.5, 2]]), (), 0.5e-12 * (1 - 1e-12), 1e-13),
}


@pytest.fixture(scope="module", params=PROBLEMS)
def solved(request: pytest.FixtureRequest):
    f, K, kinks, exact, accuracy = PROBLEMS[request.param]
    return fw.expectation(f, K, kinks=kinks), exact, accuracy


def test_exact_problem(solved) -> None:
    found, exact, accuracy = solved
    assert abs(found.value - exact) <= accuracy * abs(exact)


def test_error_is_honest(solved) -> None:
    found, exact, _ = solved
    assert abs(found.value - exact) <= 10 * found.error + 4 * EPS * abs(exact)


def test_error_is_not_an_excuse(solved) -> None:
    found, exact, accuracy = solved
    assert found.error <= 1e3 * accuracy * abs(exact)


@pytest.mark.parametrize(
    "problem",
    [p for p in pairs() if p.activation in ("tanh", "hardshrink", "hardtanh", "relu6")],
    ids=lambda problem: problem.activation,
)
def test_pairs_of_the_catalogue(problem: Pairs) -> None:
    """Near-collinear, tiny, huge: the general road is as good as the one made for pairs."""
    activation = fw.activations.named(problem.activation)
    for i in range(0, len(problem.K), 3):
        found = fw.expectation(lambda x, y: activation(x) * activation(y), problem.K[i], kinks=activation.kinks)
        off = abs(found.value - problem.ss[i])
        assert off <= 1e-10 * problem.ss_scale[i], problem.kernels[i]
        assert off <= 10 * found.error + 4 * EPS * abs(problem.ss[i]), problem.kernels[i]


def test_six_inputs_by_population() -> None:
    found = fw.expectation(product, 0.5 * np.eye(6) + 0.5)
    assert found.method == "population"
    assert abs(found.value - 15 / 8) < 5 * found.error  # 16 randomisations: one false alarm in 10⁴
    assert found.error < 1e-2
    assert fw.expectation(product, 0.5 * np.eye(6) + 0.5, seed=0).value == found.value
    assert fw.expectation(product, 0.5 * np.eye(6) + 0.5, seed=1).value != found.value


def test_aim_is_heeded() -> None:
    """A pole at distance 0.05: rough aims are met with fewer nodes, and all errors are honest."""
    K, nodes = np.array([[1.0, 0.3], [0.3, 1.0]]), []

    def f(x, y):
        nodes[-1] += x.size
        return 1 / (1 + 400 * (x - 1) ** 2) + 0 * y

    reference = fw.expectation(lambda x: 1 / (1 + 400 * (x - 1) ** 2), [[1.0]], rtol=1e-13).value
    errors = []
    for rtol in (1e-1, 1e-10):
        nodes.append(0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", TrustWarning)
            found = fw.expectation(f, K, rtol=rtol)
        assert abs(found.value - reference) <= 10 * found.error
        errors.append(found.error)
    assert nodes[0] < nodes[1] and errors[0] > errors[1]


@pytest.mark.parametrize("f", [lambda x, y: jnp.abs(x - y), lambda x, y: (x > 0.1) * jnp.tanh(y - x)])
def test_kink_that_was_not_given_is_said(f: Callable) -> None:
    K = np.array([[1.0, 0.5], [0.5, 1.0]])
    with pytest.warns(TrustWarning, match="only good to .*give them as `kinks`"):
        found = fw.expectation(f, K)
    # x and y − x/2 as independent variables, by a lattice so fine that the kink hardly matters
    u = np.linspace(-9, 9, 6001)
    density = np.exp(-0.5 * u * u) * (u[1] - u[0]) / np.sqrt(2 * np.pi)
    x, other = u[:, None], u[None, :]
    lattice = density @ np.asarray(f(x, 0.5 * x + np.sqrt(0.75) * other)) @ density
    assert abs(found.value - lattice) <= 10 * found.error + 1e-5
    assert found.error < 1e-2


def test_several_functions() -> None:
    found = fw.expectation(lambda x, y: jnp.stack([x * y, x**2, jnp.zeros_like(x)]), [[1.0, 0.5], [0.5, 2.0]])
    np.testing.assert_allclose(found.value, [0.5, 1.0, 0.0], rtol=1e-13)
    assert found.error.shape == (3,)


def test_kinks_one_tuple_for_each_argument() -> None:
    K = np.array([[1.0, 0.5], [0.5, 1.0]])
    found = fw.expectation(lambda x, y: jnp.abs(x - 1) * y**2, K, kinks=((1.0,), ()))
    same = fw.expectation(lambda x: jnp.abs(x - 1) * (0.75 + x**2 / 4), [[1.0]], kinks=(1.0,))
    np.testing.assert_allclose(found.value, same.value, rtol=1e-12)


def test_kinks_that_cross_where_no_argument_has_one() -> None:
    """z₃ = z₁ + z₂ > 1.2 and z₂ > 0.5: the two lines cross at z₁ = 0.7, where the inner integral has its kink."""
    K = np.array([[1.0, 0, 1], [0, 1, 1], [1, 1, 2]])
    found = fw.expectation(lambda x, y, z: (y > 0.5) * (z > 1.2) * 1.0, K, kinks=((), (0.5,), (1.2,)))
    alone = fw.expectation(lambda y: (y > 0.5) * jax.scipy.special.ndtr(y - 1.2), [[1.0]], kinks=(0.5,))
    np.testing.assert_allclose(found.value, alone.value, rtol=1e-12)


def test_numpy_functions_and_the_callers_precision() -> None:
    found = fw.expectation(lambda x, y: np.maximum(x, 0) * np.maximum(y, 0), np.eye(2), kinks=(0.0,))
    np.testing.assert_allclose(found.value, 1 / (2 * np.pi), rtol=1e-13)
    assert jnp.zeros(1).dtype == (jnp.float64 if jax.config.jax_enable_x64 else jnp.float32)


@pytest.mark.parametrize("order", [(1, 2, 0), (2, 1, 0)])
def test_order_of_inputs_does_not_matter(order: tuple[int, ...]) -> None:
    def f(*z):
        return jax.nn.relu(z[0]) * z[1] ** 2 * jnp.tanh(z[2])

    back = np.argsort(order)
    plain = fw.expectation(f, C3, kinks=((0.0,), (), ()))
    kinks = tuple(((0.0,), (), ())[i] for i in order)
    moved = fw.expectation(lambda *z: f(*(z[i] for i in back)), C3[np.ix_(order, order)], kinks=kinks)
    assert abs(plain.value - moved.value) <= 10 * (plain.error + moved.error)
    np.testing.assert_allclose(plain.value, moved.value, rtol=1e-9)


@settings(max_examples=12, deadline=None)
@given(log_size=st.floats(-12, 12), rho=st.floats(-1, 1), log_ratio=st.floats(-3, 3))
@example(log_size=2.0, rho=2.2250738585e-313, log_ratio=-2.0)  # K and its transpose differ below the normal numbers
def test_scale_invariant_function(log_size: float, rho: float, log_ratio: float) -> None:
    """relu is homogeneous: with K → s K, and with a factor for one input, its average scales along."""

    def f(x, y):
        return np.maximum(x, 0) * np.maximum(y, 0)

    plain = fw.expectation(f, np.array([[1, rho], [rho, 1]]), kinks=(0.0,))
    std = np.array([1.0, 10**log_ratio]) * 10 ** (log_size / 2)
    scaled = fw.expectation(f, np.array([[1, rho], [rho, 1]]) * std[:, None] * std, kinks=(0.0,))
    # rescaling rounds ρ
    assert abs(scaled.value / std.prod() - plain.value) < 1e-12


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10**6), m=st.integers(1, 6), rank=st.integers(0, 6), spread=st.floats(0, 6))
def test_factor_has_the_rank_and_the_covariance(seed: int, m: int, rank: int, spread: float) -> None:
    rng = np.random.default_rng(seed)
    A = rng.standard_normal((m, rank)) * 10 ** rng.uniform(-spread, spread, (m, 1))
    K = A @ A.T
    K = 0.5 * (K + K.T)
    L = factor(K)
    std = np.sqrt(np.diag(K))
    assert L.shape[1] <= min(m, rank)
    np.testing.assert_allclose(L @ L.T, K, rtol=0, atol=1e-12 * (std.max(initial=0) ** 2 + 1e-300))
    assert np.all(np.abs(L @ L.T - K) <= 1e-12 * std[:, None] * std)


def test_factor_of_nearly_collinear_inputs() -> None:
    """What is left of a variance, b − c²/a, to six digits of a part in 10¹²: float64 sums would leave four."""
    for a, b in ((1.0, 1.0), (0.3, 2.5), (7e-9, 13e11)):
        c = (1 - 1e-12) * np.sqrt(a * b)
        L = factor(np.array([[a, c], [c, b]]))
        with mp.workdps(50):
            left = mp.sqrt(mpf(b) - mpf(c) ** 2 / mpf(a))
        np.testing.assert_allclose(L[1, 1], float(left), rtol=1e-6)


@pytest.mark.parametrize("seed", range(8))
def test_error_is_honest_where_inputs_are_copies_but_for_the_ninth_digit(seed: int) -> None:
    """By Wick's theorem in fractions. What is left of such an input's variance is below rounding, what it has in common
    with a third input is not."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(3, 3))
    x[1] = x[0] + 10 ** rng.uniform(-9.5, -7.5) * x[1]
    K = 0.5 * (x @ x.T + (x @ x.T).T)
    k = [[Fraction(value) for value in row] for row in K.tolist()]
    exact = k[0][0] * k[1][2] + 2 * k[0][1] * k[0][2]
    found = fw.expectation(lambda a, b, c: a * a * b * c, K)
    assert abs(float(Fraction(float(found.value)) - exact)) <= found.error + 16 * EPS * abs(float(exact))


@pytest.mark.parametrize(
    ("K", "message"),
    [
        ([["a"]], "must hold real numbers"),
        ([[1.0, 0.3]], r"square matrix .* got \(1, 2\)"),
        (1.0, r"square matrix .* got \(\)"),
        ([[1.0, 0.2], [0.3, 1.0]], r"symmetric, but K\[0, 1\] = 0\.2"),
        ([[1.0, 2.0], [2.0, 1.0]], "eigenvalue -1"),
        ([[1.0, np.nan], [np.nan, 1.0]], "NaN or infinite"),
        ([[-1.0, 0.0], [0.0, 1.0]], "negative variance -1"),
        ([[0.0, 0.1], [0.1, 1.0]], "zero variance"),
    ],
)
def test_bad_covariance(K, message: str) -> None:
    with pytest.raises(fw.InputError, match=message):
        fw.expectation(lambda *z: z[0], K)


@pytest.mark.parametrize(
    ("f", "message"),
    [
        (lambda x, y: 1.0, r"shape \(…, 2\), but it returned float64 of shape \(\)"),
        (lambda x: x, "fails on 2 arrays of shape"),
        (lambda x, y: jnp.sqrt(x), r"not finite at z = \(-"),
        (lambda x, y: x + 1j * y, "real numbers .* returned complex128"),
    ],
)
def test_bad_function(f: Callable, message: str) -> None:
    with pytest.raises(fw.InputError, match=message):
        fw.expectation(f, np.eye(2))


@pytest.mark.parametrize("kinks", [((0.0,),), (np.inf,), "no", 3.0])
def test_bad_kinks(kinks) -> None:
    with pytest.raises(fw.InputError, match="`kinks` must"):
        fw.expectation(lambda x, y: x, np.eye(2), kinks=kinks)


@pytest.mark.parametrize("rtol", [0.0, -1.0, np.nan])
def test_bad_accuracy(rtol: float) -> None:
    with pytest.raises(fw.InputError, match="`rtol` must lie between 0 and 1"):
        fw.expectation(lambda x: x, [[1.0]], rtol=rtol)


def test_overflow_is_said() -> None:
    with pytest.raises(fw.InputError, match="use a smaller `K`"):
        fw.expectation(lambda x, y: jnp.exp(x + y), 1e4 * np.eye(2))


@pytest.mark.parametrize("c", [1 - 1e-2, 1 - 1e-4, 1 - 1e-6, 1 - 1e-9, -1 + 1e-6])
@pytest.mark.parametrize("kink", [0.0, 0.5])
def test_kink_that_was_not_given_between_near_collinear_inputs(c: float, kink: float) -> None:
    """The two rules agreed on what both missed: 1.5e-10 off at c = 1 − 1e-6, and 8e-15 was stated."""

    def f(x, y):
        return np.maximum(x - kink, 0) * np.maximum(y - kink, 0)

    K = [[1, c], [c, 1]]
    given = fw.expectation(f, K, kinks=(kink,))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TrustWarning)
        found = fw.expectation(f, K)
    assert abs(found.value - given.value) <= found.error + given.error


def test_near_collinear_smooth_functions_keep_their_digits() -> None:
    c = 1 - 1e-6
    found = fw.expectation(lambda x, y: np.sin(x) * np.sin(y), [[1, c], [c, 1]])
    exact = np.exp(-1) * np.sinh(c)
    assert abs(found.value - exact) <= found.error <= 1e-12 * exact


@pytest.mark.parametrize("rank", [1, 2])
def test_what_lies_beyond_the_last_nodes_is_counted(rank: int) -> None:
    """⟨e^{a z²}⟩ = 1/√(1 − 2a): at a = 0.49 there is 8e-8 of it beyond 38 standard deviations; 1e-14 was stated."""

    def f(*z):
        return np.exp(0.49 * z[0] ** 2) * np.prod([x * x for x in z[1:]], axis=0)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TrustWarning)
        found = fw.expectation(f, np.eye(rank))
    exact = 0.02**-0.5
    assert abs(found.value - exact) <= found.error <= 1e-5 * exact


def test_error_at_a_singularity_is_honest() -> None:
    """⟨|z|^{−1/2}⟩ = 2^{−1/4} Γ(1/4)/√π."""
    found = fw.expectation(lambda z: np.abs(z) ** -0.5, [[1.0]], kinks=(0.0,))
    exact = float(mp.mpf(2) ** -0.25 * mp.gamma(0.25) / mp.sqrt(mp.pi))
    assert abs(found.value - exact) <= found.error <= 1e-8
