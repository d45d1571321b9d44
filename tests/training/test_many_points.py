"""Thousands of training inputs by their own road, told with few, against the road of few."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal

import finitewidth as fw
from finitewidth.errors import TrustWarning
from finitewidth.training import many_points, prediction
from finitewidth.training.infinite_width import Kernels

rng = np.random.default_rng(8)
X, Y = rng.standard_normal((90, 6)), rng.standard_normal((90, 2))
X_AGAIN = np.concatenate([X, X[:4], X[:2]])  # some inputs thrice, with other labels
Y_AGAIN = np.concatenate([Y, rng.standard_normal((6, 2))])
X_TEST = np.concatenate([rng.standard_normal((7, 6)), X[:2]])
RELU = fw.MLP("relu", depth=3, width=64, n_out=2, C_W=2.0)
TANH = fw.MLP("tanh", depth=2, width=64, n_out=2, C_b=0.1, C_W=1.4)
LINEAR = fw.MLP("linear", depth=2, width=64, C_b=0.1)


@pytest.fixture
def many(monkeypatch):
    """All training sets count as large."""
    monkeypatch.setattr(prediction, "MANY", 0)


def assert_alike(found, few):
    """Within the errors that both state, and these are small."""
    for of in ("mean", "variance"):
        off, errors = abs(getattr(found, of) - getattr(few, of)), found.error[of] + few.error[of]
        assert np.all(off <= errors) and errors.max() < 1e-4


@pytest.mark.parametrize("net", [RELU, TANH], ids=["relu", "tanh"])
@pytest.mark.parametrize(
    ("algorithm", "pull"),
    [
        (fw.GradientFlow(), None),
        (fw.GradientDescent(1e-3), 0.1),
        (fw.Newton(0.3, 4), None),
        (fw.GradientFlow(2.0), 0.1),
        (fw.GradientDescent(1e-3, 300), None),
        (fw.Momentum(1e-3, 100, 0.8), None),
        (fw.Bayes(0.01), None),
    ],
    ids=str,
)
def test_all_roads_agree_where_inputs_occur_again(net, algorithm, pull, monkeypatch):
    def predicted(solver):
        return fw.predict(
            net, X_AGAIN, Y_AGAIN, X_TEST, algorithm=algorithm, order=0, regularisation=pull, solver=solver
        )

    few = predicted(None)
    iterative = predicted(fw.Iterative(rank=20))
    monkeypatch.setattr(prediction, "MANY", 0)
    for found in (iterative, predicted(None), predicted(fw.Direct())):
        assert_alike(found, few)
        np.testing.assert_allclose(found.covariance, few.covariance, atol=1e-6)
        assert "6 training inputs have occurred before" in found.notes[0]
    if isinstance(algorithm, fw.Bayes):
        joint = fw.flow(net, X_AGAIN, tensors="", layers="last").K.values[0] + 0.01 * np.eye(96)
        law = multivariate_normal(np.zeros(96), joint)
        assert predicted(None).log_evidence == pytest.approx(sum(law.logpdf(Y_AGAIN.T)), rel=1e-8)
        assert iterative.log_evidence is None and "determinant" in iterative.notes[-1]


@pytest.mark.parametrize("algorithm", [fw.GradientFlow(), fw.Bayes(0.01)], ids=str)
def test_errors_of_loose_iterations_are_honest_and_shrink(algorithm):
    few = fw.predict(TANH, X, Y, X_TEST, algorithm=algorithm, order=0)
    stated = []
    for tolerance in (1e-3, 1e-5):
        solver = fw.Iterative(tolerance=tolerance, rank=10)
        p = fw.predict(TANH, X, Y, X_TEST, algorithm=algorithm, order=0, solver=solver)
        off = {of: abs(getattr(p, of) - getattr(few, of)) for of in ("mean", "variance")}
        assert all(np.all(off[of] <= p.error[of] + few.error[of]) for of in off)
        # what is stated has been corrected for: only its square is left
        for of in ("mean", "variance") if algorithm == fw.Bayes(0.01) else ("mean",):
            assert off[of].max() < 0.1 * p.error[of].max() + few.error[of].max()
        stated.append([float(p.error[of].max()) for of in off])
    assert np.all(np.array(stated[1]) < 0.1 * np.array(stated[0]))


@pytest.mark.parametrize("most_modes", [6000, 0])
def test_a_singular_kernel_is_regularised_and_said_to_be(many, most_modes, monkeypatch):
    monkeypatch.setattr(many_points, "MOST_MODES", most_modes)
    y = X @ np.arange(1.0, 7.0) + 0.5  # what six weights and a bias can learn
    asked = X_TEST @ np.arange(1.0, 7.0) + 0.5
    iterative = fw.predict(LINEAR, X, y, X_TEST, order=0, solver=fw.Iterative())
    assert "singular to rounding: a regularisation of" in iterative.notes[0]
    if most_modes:
        direct = fw.predict(LINEAR, X, y, X_TEST, order=0)
        assert "83 of 90 modes" in direct.notes[0]
    else:
        with pytest.warns(TrustWarning, match="nearly singular"):  # its condition is all that is known
            direct = fw.predict(LINEAR, X, y, X_TEST, order=0)
        assert direct.notes == iterative.notes[:1]
    for found in (direct, iterative):
        np.testing.assert_allclose(found.mean[:, 0], asked, atol=1e-8)
        np.testing.assert_allclose(found.variance, 0, atol=1e-8)
    for solver in (None, fw.Iterative()):
        with pytest.raises(fw.InputError, match=r"Bayes\(noise=0\): .* singular to rounding .* allow for noise"):
            fw.predict(LINEAR, X, y, X_TEST, order=0, algorithm=fw.Bayes(), solver=solver)


@pytest.mark.parametrize("algorithm", [fw.GradientFlow(), fw.Newton(0.3, 4)], ids=str)
def test_more_near_duplicates_than_the_preconditioner_has_modes_are_regularised(algorithm):
    again = np.concatenate([X, X[:30] * (1 + 1e-12)])  # to rounding the same input, with another label
    labels = np.concatenate([Y, rng.standard_normal((30, 2))])
    few = fw.predict(RELU, again, labels, X_TEST, algorithm=algorithm, order=0)
    assert "30 of 120 modes of Θ" in few.notes[0]
    found = fw.predict(RELU, again, labels, X_TEST, algorithm=algorithm, order=0, solver=fw.Iterative(rank=10))
    assert "singular to rounding: a regularisation of" in found.notes[0]
    for of in ("mean", "variance"):
        off, errors = abs(getattr(found, of) - getattr(few, of)), found.error[of] + few.error[of]
        assert np.all(off <= errors) and errors.max() < 0.1
    with pytest.raises(fw.InputError, match=r"singular to rounding .* allow for noise"):
        fw.predict(RELU, again, labels, X_TEST, algorithm=fw.Bayes(), order=0, solver=fw.Iterative(rank=10))


def test_a_kernel_that_errors_made_indefinite_is_refused_with_the_remedy(monkeypatch):
    monkeypatch.setattr(many_points, "MOST_MODES", 0)
    Theta = np.eye(4)
    Theta[0, 1] = Theta[1, 0] = 1 + 1e-6
    kernels = Kernels(np.eye(4), Theta, 0.0, 1e-6, np.arange(3), np.array([3]))
    with pytest.raises(fw.InputError, match=r"`regularisation` 0 is too small: .* merge such inputs, or give more"):
        many_points.outputs_of_many(fw.GradientFlow(), kernels, np.ones((3, 1)), 0.0, None)


def test_rates_that_errors_made_negative_are_regularised_more():
    half = rng.standard_normal((90, 40))
    Theta = half @ half.T
    rates, modes = np.linalg.eigh(Theta[:80, :80])
    least = 4 * 80 * np.finfo(float).eps * rates[-1]
    Theta[:80, :80] -= 0.7 * least * np.outer(modes[:, 0], modes[:, 0])  # with `least` added, still far below it
    kernels = Kernels(Theta.copy(), Theta, 1e-15, 1e-15, np.arange(80), np.arange(80, 90))
    y = rng.standard_normal((80, 1))
    true = Theta[80:, :80] @ modes[:, 40:] / rates[40:] @ (modes[:, 40:].T @ y)
    found = many_points.outputs_of_many(fw.GradientFlow(), kernels, y, 0.0, fw.Iterative())
    assert "64 N ε λ_max" in found.notes[0]
    assert np.all(abs(found.mean - true) <= found.mean_error) and found.mean_error.max() < 1e-5


@pytest.mark.parametrize("pull", [0.0, 1e8])
@pytest.mark.parametrize("time", [1e-6, 1.0, 100.0])
def test_what_polynomials_leave_out_is_stated_for_single_labels_and_small_gains(pull, time, many):
    y = np.zeros((90, 2))
    y[3] = 1, -1
    request = {"algorithm": fw.GradientFlow(time), "order": 0, "regularisation": pull}
    modes = fw.predict(RELU, X, y, X_TEST, **request, solver=fw.Direct())
    found = fw.predict(RELU, X, y, X_TEST, **request, solver=fw.Iterative())
    assert "Chebyshev" in found.notes[0]
    assert_alike(found, modes)
    assert found.error["mean"].max() < 1e-8 * abs(found.mean).max()


@pytest.mark.parametrize("solver", [None, fw.Iterative()])
def test_a_network_that_learns_nothing_is_refused_but_has_a_posterior(solver, many):
    frozen = fw.MLP("relu", depth=2, width=64, n_out=2, C_W=2.0, lambda_b=0.0, lambda_W=0.0)
    for algorithm in (fw.GradientFlow(), fw.GradientFlow(1.0), fw.Newton()):
        with pytest.raises(fw.InputError, match=r"`lambda_b` and `lambda_W` 0 .* nothing is learned"):
            fw.predict(frozen, X, Y, algorithm=algorithm, order=0, solver=solver)
    asked = {"algorithm": fw.Bayes(0.1), "order": 0, "solver": solver}
    same = fw.predict(fw.MLP("relu", depth=2, width=64, n_out=2, C_W=2.0), X, Y, X_TEST, **asked)
    np.testing.assert_array_equal(fw.predict(frozen, X, Y, X_TEST, **asked).mean, same.mean)


def test_duplicates_without_noise_have_no_posterior(many):
    with pytest.raises(fw.InputError, match="duplicate or dependent inputs"):
        fw.predict(TANH, X_AGAIN, Y_AGAIN, X_TEST, order=0, algorithm=fw.Bayes())


def test_iterations_that_do_not_suffice_are_warned_of_with_the_remedy():
    with pytest.warns(TrustWarning, match="did not reach `tolerance` 1e-08 in 3 iterations.*`regularisation`"):
        p = fw.predict(TANH, X, Y, X_TEST, order=0, solver=fw.Iterative(iterations=3, rank=1))
    assert "did not reach" in p.notes[0]


def test_steps_beyond_the_bound_are_refused(many):
    for steps in (np.inf, 100):
        with pytest.raises(fw.InputError, match="`step` must be below 2/λ_max"):
            fw.predict(TANH, X, Y, X_TEST, order=0, algorithm=fw.GradientDescent(10.0, steps))


def test_iterations_are_told_of():
    counted = []
    fw.predict(RELU, X, Y, order=0, solver=fw.Iterative(), progress=lambda done, of: counted.append((done, of)))
    assert counted[0] == (1, 1000)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"solver": "cg"}, r"`solver` must be fw.Direct\(\), fw.Iterative\(\) or None"),
        ({"order": 1}, "at order=0 with"),
        ({"loss": "cross-entropy"}, "at order=0 with"),
        ({"algorithm": fw.Sgd(0.01, 3, 2)}, "gradient flow, gradient descent, momentum, Newton and Bayes"),
        ({"algorithm": fw.GradientFlow(1e30)}, "polynomials of too high a degree; train for a shorter time"),
    ],
    ids=str,
)
def test_what_cannot_be_iterated_is_refused(change, words):
    request = {"solver": fw.Iterative(), "order": 0, **change}
    with pytest.raises(fw.InputError, match=words):
        fw.predict(TANH, X[:5], Y[:5], **request)


@pytest.mark.parametrize(("name", "value"), [("tolerance", 0.0), ("tolerance", "x"), ("iterations", 0), ("rank", 1.5)])
def test_solvers_are_checked(name, value):
    with pytest.raises(fw.InputError, match=f"`{name}` must be"):
        fw.Iterative(**{name: value})
