"""The quadratic model at first order in ε, against the model itself: trained step by step, or solved."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.optimize

import finitewidth as fw
from finitewidth.errors import TrustWarning
from finitewidth.experiments.networks import draw, learning_rates, preactivations
from finitewidth.precision import float64

rng = np.random.default_rng(11)
PHI, PSI = rng.standard_normal((5, 7)), rng.standard_normal((5, 7, 7))
PSI = PSI + PSI.transpose(0, 2, 1)
Y, START, TRAIN = rng.standard_normal(3), rng.standard_normal(5), [1, 0, 3]
EPSILON = 1e-4


def outputs(W, epsilon):
    return START + PHI @ W + 0.5 * epsilon * np.einsum("ajk,j,k->a", PSI, W, W)


def features(W, epsilon):
    return PHI + epsilon * np.einsum("ajk,k->aj", PSI, W)


def slope(W, epsilon):
    return features(W, epsilon)[TRAIN].T @ (outputs(W, epsilon)[TRAIN] - Y)


def descended(epsilon, step, steps):
    W = np.zeros(7)
    for _ in range(steps):
        W = W - step * slope(W, epsilon)
    return W


def flowed(epsilon, time):
    return scipy.integrate.solve_ivp(
        lambda _t, W: -slope(W, epsilon), (0, time), np.zeros(7), method="LSODA", rtol=1e-12, atol=1e-13
    ).y[:, -1]


def solved(epsilon):
    """W = Σ_T α φ that meets the labels."""
    found = scipy.optimize.root(
        lambda alpha: outputs(PHI[TRAIN].T @ alpha, epsilon)[TRAIN] - Y,
        np.linalg.solve(PHI[TRAIN] @ PHI[TRAIN].T, (Y - START[TRAIN])),
        tol=1e-13,
    )
    return PHI[TRAIN].T @ found.x


def of_first_order(observable, solution):
    """(f(ε) − f(−ε))/2, f(0)."""
    plus, zero, minus = (observable(solution(e), e) for e in (EPSILON, 0.0, -EPSILON))
    return 0.5 * (plus - minus), zero


@pytest.mark.parametrize(
    ("algorithm", "solution"),
    [
        (fw.GradientDescent(0.05, 7), lambda e: descended(e, 0.05, 7)),
        (fw.GradientDescent(0.1), lambda e: descended(e, 0.1, 4000)),
        (fw.GradientFlow(0.3), lambda e: flowed(e, 0.3)),
        (fw.GradientFlow(), lambda e: flowed(e, 300.0)),
        (None, solved),
    ],
    ids=["descent", "descent-end", "flow", "flow-end", "span"],
)
def test_first_order_is_that_of_the_model_itself(algorithm, solution):
    model = fw.QuadraticModel.of_features(PHI, PSI, epsilon=EPSILON)
    p = model.trained(Y, train=TRAIN, algorithm=algorithm, start=START)
    correction, linear = of_first_order(outputs, solution)
    np.testing.assert_allclose(p.linear[:, 0], linear, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(p.correction[:, 0], correction, rtol=1e-4, atol=1e-4 * np.abs(correction).max())
    change, kernel = of_first_order(lambda W, e: features(W, e) @ features(W, e).T, solution)
    np.testing.assert_allclose(p.kernel, kernel, rtol=1e-12)
    np.testing.assert_allclose(p.kernel_change[0], change, rtol=1e-4, atol=1e-4 * np.abs(change).max())
    np.testing.assert_allclose(p.mean, p.linear + p.correction)
    np.testing.assert_allclose(p.effective_kernel[0], p.kernel + p.kernel_change[0])


def test_algorithms_meet_the_labels_and_differ_elsewhere():
    model = fw.QuadraticModel.of_features(PHI, PSI, epsilon=0.02)
    ends = [
        model.trained(Y, train=TRAIN, algorithm=each, start=START)
        for each in (fw.GradientFlow(), fw.GradientDescent(0.1), None)
    ]
    for one in ends:
        np.testing.assert_allclose(one.mean.values[TRAIN, 0], Y, atol=1e-9)
    flow, descent, direct = (one.correction.values[[2, 4], 0] for one in ends)
    assert np.abs(flow - descent).max() > 1e-3 and np.abs(flow - direct).max() > 1e-3


def test_outputs_have_parameters_of_their_own():
    model = fw.QuadraticModel.of_features(PHI, PSI, epsilon=0.01)
    both = model.trained(np.stack([Y, -Y], 1), train=TRAIN)
    one = model.trained(-Y, train=TRAIN)
    np.testing.assert_allclose(both.correction[:, 1], one.correction[:, 0])
    np.testing.assert_allclose(both.kernel_change[1], one.kernel_change[0])


@pytest.mark.slow
def test_a_wide_network_is_nearly_its_own_quadratic_model():
    """One network's tangent kernel and dNTK, against the same network trained: better than its linearisation."""
    x, y, few, step, steps = rng.standard_normal((4, 3)), np.array([0.7, -0.4]), [0, 1], 0.2, 6
    net = fw.MLP("tanh", depth=3, width=256, n_in=3, C_b=0.1, C_W=1.5)
    with float64():
        start = draw(jax.random.key(2), net, n_in=3, n_out=1)
        z, H, dH = map(np.asarray, jax.jit(lambda x: derivatives(net, start, x))(jnp.asarray(x)))
    model = fw.QuadraticModel(H, dH)
    p = model.trained(y, train=few, algorithm=fw.GradientDescent(step, steps), start=z)
    after = trained_by_descent(net, start, x, y, few, step, steps)
    of_linear, of_model = (np.abs(after - each.values[:, 0]).max() for each in (p.linear, p.mean))
    assert of_model < 0.35 * of_linear


def derivatives(net, parameters, x):
    """z (N,), H (N, N) and dH (N, N, N) of one network of one output, by automatic differentiation."""

    def outputs(parameters):
        return preactivations(net, parameters, x)[0]

    def along(function, direction):
        return lambda parameters: jax.jvp(function, (parameters,), (direction,))[1]

    rates, slopes = learning_rates(net, parameters), jax.jacrev(outputs)(parameters)
    g = jax.tree.map(lambda rate, slope: rate * slope, rates, slopes)
    H = jax.vmap(lambda g_b: along(outputs, g_b)(parameters), out_axes=1)(g)
    dH = jax.vmap(
        lambda g_b: jax.vmap(lambda g_c: along(along(outputs, g_c), g_b)(parameters), out_axes=1)(g), out_axes=1
    )(g)
    return outputs(parameters), H, dH


def trained_by_descent(net, parameters, x, y, few, step, steps):
    with float64():
        rates, x, y = learning_rates(net, parameters), jnp.asarray(x), jnp.asarray(y)
        few = jnp.asarray(few)

        def loss(parameters):
            return 0.5 * ((preactivations(net, parameters, x[few])[0] - y) ** 2).sum()

        for _ in range(steps):
            slope = jax.jit(jax.grad(loss))(parameters)
            parameters = jax.tree.map(lambda at, rate, by: at - step * rate * by, parameters, rates, slope)
        return np.asarray(preactivations(net, parameters, x)[0])


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda: fw.QuadraticModel(np.eye(3), np.zeros((3, 3))), "`meta_kernel` must have 3 axes"),
        (lambda: fw.QuadraticModel(np.eye(3), np.zeros((2, 2, 2))), r"but have \(3, 3\) and \(2, 2, 2\)"),
        (lambda: fw.QuadraticModel(np.triu(np.ones((2, 2))), np.zeros((2, 2, 2))), "`kernel` must be symmetric"),
        (lambda: fw.QuadraticModel(np.eye(2), np.arange(8.0).reshape(2, 2, 2)), "symmetric in its last two"),
        (lambda: fw.QuadraticModel(np.eye(2) * np.nan, np.zeros((2, 2, 2))), "`kernel` must be finite"),
        (lambda: fw.QuadraticModel.of_features(PHI, PSI[:, :6, :6]), r"`psi` must have shape \(N, P, P\)"),
        (lambda: fw.QuadraticModel.of_features(PHI, PSI, epsilon="small"), "`epsilon` must be a finite number"),
        (lambda: fw.QuadraticModel(-np.eye(2), np.zeros((2, 2, 2))), "`kernel` must be positive semidefinite, .* -1"),
        (lambda: model().trained(Y, train=[0, 1]), "`train` must be 3 integers from 0 to 4"),
        (lambda: model().trained(Y, train=[0, 1, 5]), "`train` must be 3 integers from 0 to 4"),
        (lambda: model().trained(Y, train=TRAIN, start=Y), r"`start` must have shape \(5, 1\)"),
        (lambda: model().trained(Y, train=TRAIN, algorithm=fw.Newton()), "`algorithm` must be fw.GradientFlow"),
        (lambda: model().trained(Y, train=TRAIN, algorithm=fw.GradientDescent(5.0)), "`step` must be below"),
    ],
)
def test_bad_input_is_refused_by_name(wrong, words):
    with pytest.raises(fw.InputError, match=words):
        wrong()


def model(epsilon=0.01):
    return fw.QuadraticModel.of_features(PHI, PSI, epsilon=epsilon)


def test_a_large_correction_is_warned_of():
    with pytest.warns(TrustWarning, match="first order is not enough"):
        model(epsilon=10.0).trained(Y, train=TRAIN)


@pytest.mark.parametrize("algorithm", [fw.GradientFlow(), None], ids=str)
def test_two_labels_of_one_input_end_at_their_mean(algorithm):
    rng = np.random.default_rng(5)
    phi, psi = rng.normal(size=(3, 4)), rng.normal(size=(3, 4, 4))
    model = fw.QuadraticModel.of_features(phi, psi + psi.transpose(0, 2, 1), epsilon=0.01)
    start = [0.3, -0.2, 0.5]
    twice = model.trained([1.0, 3.0, 0.5], train=[0, 0, 1], algorithm=algorithm, start=start)
    np.testing.assert_allclose(twice.linear[:2, 0], [2.0, 0.5], atol=1e-10)
    once = model.trained([2.0, 0.5], train=[0, 1], algorithm=algorithm, start=start)
    np.testing.assert_allclose(twice.linear, once.linear, atol=1e-10)


@pytest.mark.parametrize("algorithm", [fw.GradientFlow(), fw.GradientFlow(1.0), fw.GradientDescent(0.1, 5), None])
def test_nothing_is_learned_where_features_vanish(algorithm):
    """φ = 0 on every training input: there is no mode to train."""
    vanishing = fw.QuadraticModel(np.diag([0.0, 1.0]), np.zeros((2, 2, 2)))
    found = vanishing.trained([1.0], train=[0], algorithm=algorithm, start=[0.5, 0.2])
    np.testing.assert_array_equal(found.mean.values[:, 0], [0.5, 0.2])
    np.testing.assert_array_equal(found.kernel_change, 0.0)
