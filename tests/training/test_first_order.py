"""First order in 1/n of trained networks, against step-by-step sums and against networks that were really trained."""

import math

import jax
import numpy as np
import pytest

import finitewidth as fw
from finitewidth.errors import TrustWarning
from finitewidth.training.slots import IN_TRAINING_ORDER, in_training_order
from finitewidth.training.time_kernels import simplex_integral, simplex_sum
from tests.references.combined_index import trained_moments
from tests.references.trained_networks import train

HYPER = (0.2, 1.4, 0.5, 0.7)
X = np.array([[-0.8, -1.3, -0.2], [0.4, 0.5, 0.3], [-0.6, -0.6, 0.1]])
Y = np.array([[0.3, -1.5], [-0.6, 0.9]])


def network(activation, depth, n_out, width=32):
    C_b, C_W, lambda_b, lambda_W = HYPER
    return fw.MLP(
        activation, depth=depth, width=width, n_out=n_out, C_b=C_b, C_W=C_W, lambda_b=lambda_b, lambda_W=lambda_W
    )


def sums(p):
    """Terms of the mean (X, n_L) and of the covariance without G1 (X, n_L, X, n_L)."""
    return (
        sum(each.values for each in p.terms.values()),
        sum(each.values for name, each in p.covariance_terms.items() if name != "G1"),
    )


def test_contracted_sums_are_those_of_combined_indices_step_by_step():
    net, step, steps = network("tanh", 3, 2), 0.3, 4
    train = [0, 1]
    p = fw.predict(net, X[train], Y, X, algorithm=fw.GradientDescent(step, steps))
    tensors = fw.flow(net, X, order=1, layers="last").isel(layer=0)
    slots = {name: in_training_order(tensors, name) for name in IN_TRAINING_ORDER} | {"H1": tensors.H1.values}
    mean, covariance = trained_moments(tensors.K.values, tensors.Theta.values, slots, Y.T, train, step, steps)
    of_mean, of_covariance = sums(p)
    np.testing.assert_allclose(of_mean, mean.T, rtol=1e-9, atol=1e-10)
    stated = covariance.reshape(2, 3, 2, 3).transpose(1, 0, 3, 2)
    np.testing.assert_allclose(of_covariance, stated, rtol=1e-9, atol=1e-10)


def free_propagator(K, Theta, algorithm, train):
    """P of the infinite-width evolution, by the eigenvalues of Θ."""
    rates, u = np.linalg.eigh(Theta[np.ix_(train, train)])
    if isinstance(algorithm, fw.GradientFlow):
        left = np.exp(-rates * algorithm.time)
    else:
        left = (1 - algorithm.step * rates) ** algorithm.steps
    P = np.eye(len(K))
    P[:, train] -= Theta[:, train] @ u @ np.diag((1 - left) / rates) @ u.T
    return P


def ensemble_moments(activation, depth, n_out, algorithm, rule, step, steps, widths, number):
    """n × (E z − infinite width) and n × (Cov − P K P) of real networks, extrapolated to n → ∞, with standard errors.

    Outputs of the free evolution from the same initial outputs are subtracted: their mean is known, their noise gone.
    """
    f = fw.flow(network(activation, depth, n_out), X, tensors="", layers="last").isel(layer=0)
    P = free_propagator(f.K.values, f.Theta.values, algorithm, [0, 1])
    label = np.zeros((3, n_out))
    label[:2] = Y[:, :n_out]
    moments = []
    for n in widths:
        sizes = (3, *[n] * (depth - 1), n_out)
        z0, z = train(
            jax.random.key(n), number, sigma=activation, widths=sizes, hyper=HYPER, x=X, y=Y[:, :n_out],
            trained=np.array([0, 1]), step=step, steps=steps, rule=rule,
        )  # fmt: skip
        free = np.einsum("xu,spui->spxi", P, z0)
        off = z - (label - P @ label) - free
        centred = free + off - off.mean((0, 1))
        covariance = np.einsum("spxi,spyj->sxiyj", centred, centred) - np.einsum("spxi,spyj->sxiyj", free, free)
        for each in (off.mean(1), covariance / 2):
            moments.append((n * each.mean(0), n * each.std(0) / math.sqrt(number)))
    (m, m_error), (c, c_error), (m2, m2_error), (c2, c2_error) = moments
    assert widths[1] == 2 * widths[0]
    return (
        (2 * m2 - m, np.hypot(2 * m2_error, m_error)),
        (2 * c2 - c, np.hypot(2 * c2_error, c_error)),
    )


CASES = [
    ("tanh", 3, 1, fw.GradientDescent(0.3, 6), "descent", 0.3, 6),
    ("gelu", 3, 2, fw.GradientFlow(time=2.0), "flow", 0.5, 4),
    ("tanh", 3, 1, fw.GradientFlow(), "flow", 0.5, 120),  # networks of slow modes too are at their labels then
    ("gelu", 2, 2, fw.GradientDescent(0.5), "descent", 0.5, 40),
]


@pytest.mark.parametrize("case", [CASES[0], *(pytest.param(c, marks=pytest.mark.slow) for c in CASES[1:])], ids=str)
def test_networks_that_were_really_trained_agree(case):
    activation, depth, n_out, algorithm, rule, step, steps = case
    p = fw.predict(network(activation, depth, n_out), X[:2], Y[:, :n_out], X, algorithm=algorithm)
    finite = fw.GradientFlow(step * steps) if rule == "flow" else fw.GradientDescent(step, steps)
    found = ensemble_moments(activation, depth, n_out, finite, rule, step, steps, (32, 64), 4096)
    for stated, (value, error) in zip(sums(p), found, strict=True):
        z = (value - stated) / np.maximum(error, 1e-6 * np.abs(stated).max())
        # of at most 20 different numbers; order 1/n³ is left over, a few per cent
        assert np.abs(z).max() < 4.5
        assert np.sqrt(np.mean(z**2)) < 2.0


def test_corrections_vanish_on_training_inputs_at_the_end_of_training():
    for algorithm in (fw.GradientFlow(), fw.GradientDescent(0.3)):
        p = fw.predict(network("tanh", 3, 2), X[:2], Y, X, algorithm=algorithm)
        np.testing.assert_allclose(p.mean[:2], Y, atol=1e-10)
        np.testing.assert_allclose(p.covariance[:2, :, :2], 0, atol=1e-10)


def test_small_steps_are_the_flow_and_finite_ones_are_not():
    net = network("tanh", 3, 1)
    of = {
        step: fw.predict(net, X[:2], Y[:, :1], X[2:], algorithm=algorithm).terms
        for step, algorithm in [(0, fw.GradientFlow()), *((s, fw.GradientDescent(s)) for s in (0.01, 0.02, 0.4))]
    }
    gap = {s: abs(float(sum((of[s][name] - of[0][name]).item() for name in of[0]))) for s in (0.01, 0.02, 0.4)}
    assert gap[0.01] < 1e-2 * gap[0.4] or gap[0.01] == pytest.approx(gap[0.02] / 2, rel=0.1)
    assert gap[0.4] > 1e-3  # the same labels reached, another prediction elsewhere (PDLT ch. ∞)
    zero = fw.predict(net, X[:2], Y[:, :1], X, algorithm=fw.GradientFlow(time=0.0))
    assert all(np.allclose(each, 0) for each in zero.terms.values())
    np.testing.assert_allclose(
        sum(zero.covariance_terms.values()).values[:, 0, :, 0], fw.flow(net, X, order=1, tensors="G1").G1[-1]
    )


def test_a_training_input_told_twice_counts_twice_and_is_computed_once():
    net, algorithm = network("tanh", 3, 1), fw.GradientFlow(time=1.5)
    twice = fw.predict(net, X[[0, 0, 1]], [1.0, 1.0, -1.0], X, algorithm=algorithm)
    # the loss of that input counts twice: as a rate, √2 in every slot of its residual; here by brute force in modes
    f = fw.flow(net, X, tensors="", layers="last").isel(layer=0)
    weight = np.diag([2.0, 1.0])
    rates, u = np.linalg.eigh(np.sqrt(weight) @ f.Theta.values[:2, :2] @ np.sqrt(weight))
    gain = (
        f.Theta.values[:, :2]
        @ np.sqrt(weight)
        @ u
        @ np.diag((1 - np.exp(-1.5 * rates)) / rates)
        @ u.T
        @ np.sqrt(weight)
    )
    np.testing.assert_allclose(twice.mean_infinite.values[:, 0], gain @ [1.0, -1.0], rtol=1e-8)
    assert any("not trained" in note for note in twice.notes)


@pytest.mark.parametrize("x", [(0.3, 1.7, 2.2), (0.0, 1.0, 1.0, 2.0), (1.0, 1.0 + 1e-9, 2.0, 2.0 + 1e-9)])
def test_simplex_integrals_by_quadrature(x):
    time, k = 1.3, len(x) - 1
    nodes, weights = np.polynomial.legendre.leggauss(24)

    def integral(j, upper):  # ∫ over s_j … s_k below `upper`, the exponent of what follows s_{j-1} included
        s = 0.5 * upper * (nodes + 1)
        w = 0.5 * upper * weights
        inner = np.array([math.exp(-x[j] * each) if j == k else integral(j + 1, each) for each in s])
        return np.sum(w * np.exp(-x[j - 1] * (upper - s)) * inner)

    assert simplex_integral(time, *map(np.array, x)) == pytest.approx(integral(1, time), rel=1e-10)


@pytest.mark.parametrize("q", [(1.0, 0.3, -0.5), (0.7, 0.7, 0.2, 0.1)])
def test_simplex_sums_term_by_term(q):
    S, k = 9, len(q) - 1
    polynomial = np.ones(1)
    for each in q:  # Σ over exponents that add up to S − k: a coefficient of Π 1/(1 − q x)
        polynomial = np.convolve(polynomial, each ** np.arange(S + 1))[: S + 1]
    assert simplex_sum(S, *map(np.array, q)) == pytest.approx(polynomial[S - k], rel=1e-12)


def test_ends_of_training_are_limits():
    x = [np.array(each) for each in (0.0, 0.8, 1.9)]
    assert simplex_integral(math.inf, *x) == pytest.approx(float(simplex_integral(200.0, *x)), rel=1e-12)
    q = [np.array(each) for each in (1.0, 0.8, -0.4)]
    assert simplex_sum(math.inf, *q) == pytest.approx(float(simplex_sum(2000, *q)), rel=1e-12)


def test_stated_error_covers_what_the_tensors_are_unsure_of():
    p = fw.predict(network("tanh", 3, 1), X[:2], Y[:, :1], X[2:])
    assert 0 < float(p.error["mean"].max()) < 1e-5
    assert float(p.error["truncation"].max()) > 0


def test_what_first_order_does_not_have_is_refused():
    net = network("tanh", 3, 1)
    with pytest.raises(fw.InputError, match="`order` 1 is computed for gradient flow"):
        fw.predict(net, X[:2], Y[:, :1], algorithm=fw.Newton())
    with pytest.raises(fw.InputError, match="`regularisation` is known at infinite width"):
        fw.predict(net, X[:2], Y[:, :1], regularisation=0.1)
    tiny = fw.MLP("tanh", depth=3, width=16, lambda_b=1e-150, lambda_W=1e-150)
    with pytest.raises(fw.InputError, match=r"tangent kernel of size .*e-150, whose third power leaves float64"):
        fw.predict(tiny, X[:2], Y[:, :1])
    with pytest.raises(fw.InputError, match="`neurons` must be an integer ≥ 1, but got 0"):
        fw.predict(net, np.random.default_rng(0).standard_normal((20, 3)), np.zeros(20), neurons=0)


@pytest.mark.slow
def test_kinks_are_named():
    p = fw.predict(network("relu", 3, 1), X[:2], Y[:, :1], X[2:])
    assert any("kink" in note for note in p.notes)


def test_terms_larger_than_the_targets_are_warned_of() -> None:
    """A slow mode trained for long: terms cancel in the sum, and what order 1/n² then adds is not r times it."""
    x = np.stack([[-1.2, -0.5, 0.1, 0.6, 1.3], np.ones(5)], axis=1)
    net = fw.MLP("tanh", depth=3, width=24, C_W=1.0)
    with pytest.warns(TrustWarning, match="not small at `width` 24"):
        p = fw.predict(net, x, [-0.8, -0.3, 0.5, 0.2, 1.0], [[0.9, 1.0]], algorithm=fw.GradientDescent(0.08, 1000))
    size = sum(np.abs(each.values) for each in p.terms.values()).item() / 24
    assert p.error["truncation"].item() > size > 1.0
