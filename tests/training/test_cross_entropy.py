"""Cross-entropy at infinite width: exact limits, the evolution of joint draws step by step, real wide networks."""

import numpy as np
import pytest
from scipy.special import softmax

import finitewidth as fw
from finitewidth.experiments import measure_trained_widths
from finitewidth.training import cross_entropy

rng = np.random.default_rng(3)
X_TRAIN, X_TEST = rng.standard_normal((4, 3)), rng.standard_normal((2, 3))
X = np.concatenate([X_TRAIN, X_TEST])
LABELS = [0, 1, 2, 1]
FALSE_ALARM = 4.5  # standard errors of the largest of at most some hundred numbers


def network(n_out, last=1.0):
    """`last` multiplies K and Θ: all hyperparameters of the last layer."""
    by_layer = [1.0, 1.0, last]
    return fw.MLP(
        "tanh", depth=3, width=50, n_out=n_out, C_b=[0.1 * s for s in by_layer], C_W=[1.4 * s for s in by_layer],
        lambda_b=[0.3 * s for s in by_layer], lambda_W=by_layer,
    )  # fmt: skip


def predict(net, y, **options):
    return fw.predict(net, X_TRAIN, y, X, order=0, loss="cross-entropy", **options)


@pytest.fixture(scope="module")
def kernels():
    f = fw.flow(network(3), X, tensors="", layers="last").isel(layer=0)
    return f.K.values, f.Theta.values


def test_joint_draws_step_by_step(kernels):
    K, Theta = kernels
    step, steps, ridge, mu = 0.4, 7, 0.1, 0.5
    y = np.array([[0.2, 0.5, 0.3], [0, 1, 0], [0, 0, 1], [0.6, 0.4, 0]])
    p = predict(network(3), y, algorithm=fw.Momentum(step, steps, mu), regularisation=ridge)
    start = np.linalg.cholesky(K) @ np.random.default_rng(5).standard_normal((40_000, 6, 3))
    w, v = np.zeros((2, 40_000, 4, 3))
    for _ in range(steps):
        z = start + Theta[:, :4] @ w
        v = mu * v - step * (softmax(z[:, :4], axis=-1) - y + ridge * w)
        w = w + v
    z = start + Theta[:, :4] @ w
    for stated, sample in ((p.mean, z), (p.probabilities, softmax(z, axis=-1))):
        name = "mean" if stated is p.mean else "probabilities"
        error = np.hypot(p.error[name], sample.std(0) / 200)
        assert np.abs((stated - sample.mean(0)) / error).max() < FALSE_ALARM
    off = z - z.mean(0)
    products = np.einsum("sxi,syj->xiyj", off, off) / len(off)
    squares = np.einsum("sxi,syj->xiyj", off**2, off**2) / len(off) - products**2
    of_sample = np.sqrt(squares / len(off))
    error = np.hypot(of_sample, float(p.error["variance"].max()))
    assert np.abs((p.covariance - products) / error).max() < FALSE_ALARM
    np.testing.assert_allclose(np.einsum("aiai->ai", p.covariance), p.std**2, rtol=1e-12)
    assert abs(products[0, 0, 1, 1]) > 50 * of_sample[0, 0, 1, 1]  # outputs of one network are correlated


def test_probabilities_that_can_be_met_are_met_at_the_end(kernels):
    """Σ_i z_i does not move, differences end at those of ln y: exactly Gaussian."""
    K, Theta = kernels
    y = softmax(np.random.default_rng(1).standard_normal((4, 3)), axis=-1)
    p = predict(network(3), y, algorithm=fw.GradientFlow(time=1000.0))
    label = np.log(y) - np.log(y).mean(1, keepdims=True)
    gain = Theta[:, :4] @ np.linalg.inv(Theta[:4, :4])
    np.testing.assert_array_less(np.abs(p.mean - gain @ label), FALSE_ALARM * p.error["mean"])
    np.testing.assert_allclose(p.probabilities[:4], y, atol=1e-6)
    # z = z(0) + gain (ln y − (z_T(0) less its mean over outputs)), that mean and the rest being independent
    P = np.eye(6) - np.concatenate([gain, np.zeros((6, 2))], 1)
    variance = np.diag(K) / 3 + np.diag(P @ K @ P.T) * 2 / 3
    np.testing.assert_array_less(np.abs(p.variance - variance[:, None]), FALSE_ALARM * p.error["variance"])
    assert float((p.error["variance"] / p.variance).max()) < 0.05


@pytest.mark.parametrize("algorithm", [fw.GradientFlow(time=5.0), fw.GradientDescent(0.3, 9)], ids=str)
def test_one_output_is_the_difference_of_two(algorithm):
    """u = z_1 − z_0 of two outputs has the kernels 2K and 2Θ, and the logistic loss."""
    y = np.array([0, 1, 1, 0])
    two, one = (predict(net, y, algorithm=algorithm) for net in (network(2), network(1, last=2.0)))
    # not the same draws: standard errors of independent averages
    error = np.sqrt((two.error["mean"] ** 2).sum("output").values + one.error["mean"].values[:, 0] ** 2)
    assert np.all(np.abs((two.mean[:, 1] - two.mean[:, 0]) - one.mean[:, 0]) < FALSE_ALARM * error)
    error = np.hypot(two.error["probabilities"][:, 1], one.error["probabilities"][:, 0])
    assert np.all(np.abs(two.probabilities[:, 1] - one.probabilities[:, 0]) < FALSE_ALARM * error)
    c = two.covariance.values[np.arange(6), :, np.arange(6), :]
    error = 2 * two.error["variance"].sum("output") + one.error["variance"][:, 0]
    assert np.all(np.abs(c[:, 0, 0] + c[:, 1, 1] - 2 * c[:, 0, 1] - one.variance[:, 0]) < FALSE_ALARM * error)


def test_small_steps_are_the_flow():
    """The same draws: what is left of two step sizes is of second order in the step."""
    flow, coarse, fine = (
        predict(network(3), LABELS, algorithm=algorithm)
        for algorithm in (fw.GradientFlow(time=4.0), fw.GradientDescent(0.02, 200), fw.GradientDescent(0.01, 400))
    )
    gap = float(np.abs(coarse.mean - flow.mean).max())
    assert gap > 1e-3
    assert float(np.abs(2 * fine.mean - coarse.mean - flow.mean).max()) < 0.02 * gap


@pytest.mark.slow
def test_integration_is_as_good_as_stated(monkeypatch):
    p = predict(network(3), LABELS, algorithm=fw.GradientFlow(time=37.0))
    stated = p._infinite.integration_error
    monkeypatch.setattr(cross_entropy, "RTOL", 1e-11)
    cross_entropy._by_flow.clear_cache()
    finer = predict(network(3), LABELS, algorithm=fw.GradientFlow(time=37.0))
    cross_entropy._by_flow.clear_cache()
    assert 0 < np.abs(p._infinite.outputs - finer._infinite.outputs).max() < stated


def test_before_training_nothing_is_known(kernels):
    p = predict(network(3), LABELS, algorithm=fw.GradientFlow(time=0.0))
    np.testing.assert_allclose(p.mean, 0, atol=1e-12)
    np.testing.assert_array_less(np.abs(p.variance - np.diag(kernels[0])[:, None]), FALSE_ALARM * p.error["variance"])
    np.testing.assert_array_less(np.abs(p.probabilities - 1 / 3), FALSE_ALARM * p.error["probabilities"])
    assert "draws of initial outputs" in p.notes[0]


def test_inputs_told_twice_learn_twice_as_fast():
    """A singular Θ is no matter here."""
    once, x = fw.GradientDescent(0.2, 1), X_TRAIN[[0, 0, 1]]
    twice = fw.predict(network(1), x, [1, 1, 0], X, order=0, loss="cross-entropy", algorithm=once)
    Theta = fw.flow(network(1), X, tensors="", layers="last").Theta.values[0]
    assert np.all(np.abs(twice.mean[:, 0] - 0.2 * Theta[:, :2] @ [1.0, -0.5]) < FALSE_ALARM * twice.error["mean"][:, 0])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"algorithm": fw.GradientFlow()}, "has no end for the loss .*grow as log t.*give a finite time"),
        ({"algorithm": fw.GradientDescent(0.1)}, "give a finite number of steps"),
        ({"algorithm": fw.Newton(steps=3)}, "computed for gradient flow, gradient descent and momentum"),
        ({"algorithm": fw.Bayes()}, "computed for gradient flow"),
        ({"order": 1}, "`loss` 'cross-entropy' is known at infinite width only"),
        ({"y_train": [0, 1, 3, 1]}, "labels 0 … 2 for n_out = 3, but has 3"),
        ({"y_train": [0, 1, 0.5, 1]}, "labels 0 … 2 for n_out = 3, but has 0.5"),
        ({"y_train": np.full((4, 3), 0.5)}, r"row 0 is \[0.5, 0.5, 0.5\]"),
        ({"y_train": np.eye(4)[:, :2]}, "has 2 columns, but the network has n_out = 3"),
        ({"y_train": [0, 1, np.nan, 1]}, "holds nan at row 2"),
        ({"net": network(1)}, r"labels 0 and 1, or probabilities for cross-entropy, but row 2 is \[2.0\]"),
        (
            {"algorithm": fw.GradientFlow(time=1e7), "y_train": np.full((4, 3), 1 / 3)},
            "takes more than .* steps of integration",
        ),
    ],
)
def test_bad_input_is_refused_by_name(change, words):
    given = {"net": network(3), "y_train": LABELS, "order": 0, "algorithm": fw.GradientFlow(time=1.0)} | change
    with pytest.raises(fw.InputError, match=words):
        fw.predict(given.pop("net"), X_TRAIN, given.pop("y_train"), X_TEST, loss="cross-entropy", **given)


def test_a_large_step_is_said_to_be_one():
    p = predict(network(3), LABELS, algorithm=fw.GradientDescent(5.0, 3))
    assert "below which the loss is sure to fall" in p.notes[1]


@pytest.mark.slow
def test_real_wide_networks():
    algorithm = fw.GradientDescent(0.15, 10)
    p = predict(network(3), LABELS, algorithm=algorithm)
    seen = measure_trained_widths(
        network(3), X_TRAIN, LABELS, X_TEST, widths=[128, 256], n_networks=1024, algorithm=algorithm,
        loss="cross-entropy", linearised=8,
    )  # fmt: skip
    for name, stated in (("mean", p.mean.values.T), ("covariance", p.covariance.values.transpose(1, 0, 3, 2))):
        one, two = (m.estimates[name] for m in seen.measurements)
        of_theory = float(p.error["variance" if name == "covariance" else name].max())
        error = np.sqrt((2 * two.standard_error[0]) ** 2 + one.standard_error[0] ** 2 + of_theory**2)
        z = (2 * two.value[0] - one.value[0] - stated) / error
        assert np.abs(z).max() < FALSE_ALARM
        assert np.sqrt(np.mean(z**2)) < 1.6  # 18 and 324 numbers, correlated
