"""Trained networks at infinite width, against step-by-step evolution and against conditional Gaussians."""

import numpy as np
import pandas as pd
import pytest
import scipy.linalg
from scipy.stats import multivariate_normal

import finitewidth as fw
from finitewidth.errors import TrustWarning

rng = np.random.default_rng(3)
X_TRAIN, X_TEST, Y = rng.standard_normal((5, 4)), rng.standard_normal((3, 4)), rng.standard_normal((5, 2))
NET = fw.MLP("tanh", depth=3, width=50, n_out=2, C_b=0.1, C_W=1.4, lambda_b=0.3)
RIDGE = 0.2


@pytest.fixture(scope="module")
def kernels():
    f = fw.flow(NET, np.concatenate([X_TRAIN, X_TEST]), tensors="", layers="last").isel(layer=0)
    return f.K.values, f.Theta.values


def evolved(Theta, algorithm, ridge=0.0):
    """z(end) = A z(0) + b y: every step of the linear network, its parameters w = z̄-coefficients on training inputs."""
    N, T = len(Theta), np.arange(5)
    start = np.concatenate([np.eye(N), np.zeros((N, 5))], 1)  # in units of z(0) and y
    z, w = start.copy(), np.zeros((5, N + 5))  # z = z(0) + Θ_·T w
    label = np.concatenate([np.zeros((5, N)), np.eye(5)], 1)
    v = np.zeros_like(w)
    if isinstance(algorithm, fw.GradientFlow):
        generator = -(Theta[:5, :5] + ridge * np.eye(5))
        w = np.linalg.solve(
            generator, (scipy.linalg.expm(generator * algorithm.time) - np.eye(5)) @ -(start[:5] - label)
        )
        return start + Theta[:, T] @ w
    for _ in range(algorithm.steps):
        force = -(z[:5] - label) - ridge * w
        if isinstance(algorithm, fw.Newton):
            force = -np.linalg.solve(Theta[:5, :5], z[:5] - label)
        v = getattr(algorithm, "momentum", 0.0) * v + algorithm.step * force
        w = w + v
        z = start + Theta[:, T] @ w
    return z


@pytest.mark.parametrize(
    ("algorithm", "ridge"),
    [
        (fw.GradientFlow(time=1.7), 0.0),
        (fw.GradientFlow(time=1.7), RIDGE),
        (fw.GradientDescent(0.1, 23), 0.0),
        (fw.GradientDescent(0.1, 23), RIDGE),
        (fw.Momentum(0.03, 23, 0.8), 0.0),
        (fw.Momentum(0.03, 23, 0.8), RIDGE),
        (fw.Newton(0.2, 4), 0.0),
    ],
    ids=str,
)
def test_mean_and_covariance_step_by_step(kernels, algorithm, ridge):
    K, Theta = kernels
    z = evolved(Theta, algorithm, ridge)[5:]
    p = fw.predict(NET, X_TRAIN, Y, X_TEST, algorithm=algorithm, order=0, regularisation=ridge or None)
    np.testing.assert_allclose(p.mean, z[:, 8:] @ Y, rtol=1e-8, atol=1e-10)
    covariance = z[:, :8] @ K @ z[:, :8].T
    np.testing.assert_allclose(p.covariance[:, 0, :, 0], covariance, rtol=1e-8, atol=1e-10)
    np.testing.assert_array_equal(p.covariance[:, 0, :, 1], 0)
    np.testing.assert_allclose(p.std[:, 1], np.sqrt(np.diag(covariance)), rtol=1e-8)


@pytest.mark.parametrize(
    "algorithm", [fw.GradientFlow(), fw.GradientDescent(0.1), fw.Momentum(0.05), fw.Newton()], ids=str
)
def test_every_algorithm_ends_alike_and_at_the_labels(kernels, algorithm):
    p = fw.predict(NET, X_TRAIN, Y, np.concatenate([X_TRAIN[:2], X_TEST]), algorithm=algorithm, order=0)
    np.testing.assert_allclose(p.mean[:2], Y[:2], atol=1e-10)
    np.testing.assert_allclose(p.std[:2], 0, atol=1e-6)
    _, Theta = kernels
    np.testing.assert_allclose(p.mean[2:], Theta[5:, :5] @ np.linalg.solve(Theta[:5, :5], Y), rtol=1e-8)


def test_bayes_is_the_conditional_gaussian(kernels):
    K, _ = kernels
    p = fw.predict(NET, X_TRAIN, Y, X_TEST, algorithm=fw.Bayes(noise=0.3), order=0)
    joint = K.copy()
    joint[:5, :5] += 0.3 * np.eye(5)
    precision = np.linalg.inv(joint)[5:, 5:]  # of the outputs given the labels
    np.testing.assert_allclose(p.covariance[:, 1, :, 1], np.linalg.inv(precision), rtol=1e-8, atol=1e-12)
    coupling = np.linalg.inv(joint)[5:, :5]
    np.testing.assert_allclose(p.mean, -np.linalg.solve(precision, coupling @ Y), rtol=1e-8)
    law = multivariate_normal(np.zeros(5), joint[:5, :5])
    assert p.log_evidence == pytest.approx(law.logpdf(Y[:, 0]) + law.logpdf(Y[:, 1]), rel=1e-9)
    assert p.evidence == pytest.approx(np.exp(p.log_evidence))


def test_labels_that_contradict_each_other_are_said_not_to_be_met():
    x = X_TRAIN[[0, 0, 1]]
    p = fw.predict(fw.MLP("tanh", depth=3, C_b=0.1), x, [1.0, 3.0, 0.0], x, order=0)
    np.testing.assert_allclose(p.mean[:, 0], [2.0, 2.0, 0.0], atol=1e-10)
    assert "1 of 3 modes" in p.notes[0]
    quiet = fw.predict(fw.MLP("tanh", depth=3, C_b=0.1), x[1:], [1.0, 0.0], order=0)
    assert quiet.notes == ()


def test_error_bar_is_honest_where_the_kernel_is_nearly_singular():
    x = np.array([[1.0, 0.0], [1.0, 1e-4], [0.3, 1.0]])
    net = fw.MLP("gelu", depth=2, C_b=0.1)
    p = fw.predict(net, x, [1.0, 1.0, -1.0], [[0.5, 0.5]], order=0)
    by_modes = fw.predict(net, x, [1.0, 1.0, -1.0], [[0.5, 0.5]], order=0, algorithm=fw.GradientFlow(time=1e15))
    assert abs((p.mean - by_modes.mean).item()) <= (p.error["mean"] + by_modes.error["mean"]).item()


def test_inputs_almost_alike_are_warned_of_where_training_tells_them_apart():
    x, y, asked = [[1.0, 2.0], [1.0, 2.0 + 1e-5], [0.3, 0.1]], [1.0, 0.0, 2.0], [[0.5, 0.5]]
    net = fw.MLP("tanh", depth=3, C_b=0.2, C_W=1.4)
    with pytest.warns(TrustWarning, match="the mean is known to ±.* only, .* nearly singular"):
        fw.predict(net, x, y, asked, order=0)
    soon = fw.predict(net, x, y, asked, order=0, algorithm=fw.GradientFlow(time=1e3))  # warnings are errors here
    alike = fw.predict(net, x[1:], [0.5, 2.0], asked, order=0)
    assert abs((soon.mean - alike.mean).item()) < 1e-2 and soon.error["mean"].item() < 1e-6


@pytest.mark.parametrize("inputs", [3, 20])  # the two roads to order 1: tensors and sample neurons
def test_first_order_of_residual_networks_is_refused(inputs):
    x = np.random.default_rng(6).normal(size=(inputs, 3))
    net = fw.ResidualMLP("tanh", depth=3, width=8)
    with pytest.raises(fw.InputError, match=r"order=1.* is computed for an MLP, but `net` is a ResidualMLP"):
        fw.predict(net, x, x[:, 0])


def test_a_network_is_asked_for():
    with pytest.raises(fw.InputError, match="`net` must be an MLP or a ResidualMLP, but got 'tanh'"):
        fw.predict("tanh", X_TRAIN, Y, order=0)


def test_labels():
    p = fw.predict(NET, X_TRAIN, Y, X_TEST, order=0)
    assert p.mean.dims == ("sample", "output")
    assert p.covariance.dims == ("sample", "output", "sample_b", "output_b")
    assert p.mean.coords["sample"].values.tolist() == [0, 1, 2]
    assert p.n == 50 and p.r == pytest.approx(2 / 50) and p.evidence is None
    assert repr(p).startswith("Prediction(3 samples × 2 outputs, infinite width: mean ")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"y_train": Y[:4]}, "`y_train` has 4 rows, but `x_train` has 5"),
        ({"y_train": Y[:, 0]}, "`y_train` has 1 columns, but the network has n_out = 2"),
        ({"y_train": np.where(Y[1, 1] == Y, np.nan, Y)}, "`y_train` holds nan at row 1, column 1"),
        ({"y_train": [["a", "b"]] * 5}, "`y_train` must hold real numbers"),
        ({"y_train": Y + 0j}, "`y_train` must hold real numbers, .* complex128"),
        ({"y_train": np.ma.masked_greater(Y, 0)}, "`y_train` must hold real numbers, .* masked"),
        ({"y_train": 1e200 * Y}, "`y_train` has entries of size .*, whose cubes leave float64"),
        ({"x_train": np.zeros((0, 4)), "y_train": Y[:0]}, "`x_train` is empty"),
        ({"x_test": X_TEST[:, :3]}, "`x_test` has 3 columns, but `x_train` has 4"),
        ({"algorithm": fw.GradientDescent(step=2.0)}, r"`step` must be below 2/λ_max = 0\.\d+"),
        ({"algorithm": fw.Momentum(step=5.0)}, r"below 2 \(1 \+ μ\)/λ_max"),
        ({"algorithm": fw.Adam(0.1, 10)}, "`algorithm` Adam"),
        ({"algorithm": "flow"}, "`algorithm` must be one such as"),
        ({"order": 2}, "`order` must be 0"),
        ({"order": True}, "`order` must be 0"),
        ({"y_train": np.full((5, 2), np.datetime64("2020-01-01"))}, "`y_train` must hold real numbers, .* datetime64"),
        ({"y_train": [["1", "2"]] * 5}, "`y_train` must hold real numbers, .* <U1"),
        ({"loss": "hinge"}, "`loss` must be"),
        ({"regularisation": -1.0}, "`regularisation` must be a finite number ≥ 0"),
        ({"algorithm": fw.Bayes(), "x_train": X_TRAIN[[0, 0, 1, 2, 3]]}, "singular to rounding"),
        ({"algorithm": fw.Bayes(), "x_train": X_TRAIN[[0, 0, 1, 2, 3]], "order": 1}, "singular to rounding"),
    ],
)
def test_bad_input_is_refused_by_name(change, words):
    given = {"x_train": X_TRAIN, "y_train": Y, "x_test": X_TEST, "order": 0} | change
    with pytest.raises(fw.InputError, match=words):
        fw.predict(NET, given.pop("x_train"), given.pop("y_train"), given.pop("x_test"), **given)


@pytest.mark.parametrize("order", [0, 1])
def test_an_input_may_be_zero_where_there_are_biases(order):
    """x = 0 lies on any line of one feature; what is predicted there is what is predicted beside it."""
    net, y = fw.MLP("tanh", depth=3, width=64, C_b=0.2, C_W=1.3), [0.3, -0.2, 0.5]

    def at(x):
        asked = [[0.3], [x]]
        return fw.predict(net, [[-1.0], [x], [0.7]], y, asked, algorithm=fw.GradientFlow(2.0), order=order)

    zero, beside = at(0.0), at(1e-7)
    np.testing.assert_allclose(zero.mean, beside.mean, rtol=0, atol=1e-6)
    np.testing.assert_allclose(zero.covariance, beside.covariance, rtol=0, atol=1e-6)
    with pytest.raises(fw.InputError, match=r"`x_test` is all zero in row 0 .*give the network biases \(C_b > 0\)"):
        fw.predict(fw.MLP("tanh", depth=3, width=64), [[1.0]], y[:1], [[0.0]], order=0)


@pytest.mark.parametrize("order", [0, 1])
def test_nothing_is_learned_from_an_input_without_a_tangent_kernel(order):
    """One layer without a rate for its bias: at x = 0 no parameter moves the output."""
    net = fw.MLP("tanh", depth=1, C_b=0.2, lambda_b=0.0)
    p = fw.predict(net, [[0.0]], [1.0], [[0.0], [1.0]], order=order)
    np.testing.assert_allclose(p.mean, 0.0)
    np.testing.assert_allclose(p.variance.values[:, 0], [0.2, 1.2], rtol=1e-12)
    assert any("zero to rounding" in note for note in p.notes)


def test_columns_of_tables_are_not_mixed_up():
    table = pd.DataFrame(X_TRAIN, columns=list("abcd"))
    with pytest.raises(fw.InputError, match="`x_test` has the column 'b' where `x_train` has 'a'"):
        fw.predict(NET, table, Y, table[list("bacd")], order=0)
    tables = table[1:3], X_TRAIN[1:3], pd.DataFrame(X_TRAIN[1:3])  # of which the last has numbers for names
    named, *plain = (fw.predict(NET, table, Y, x, order=0) for x in tables)
    assert all(np.array_equal(named.mean, each.mean) for each in plain)
    assert fw.predict(NET, table, Y, table, order=0, regularisation=np.float32(0.1)).order == 0


def test_one_batch_of_everything_is_gradient_descent():
    whole = fw.predict(NET, X_TRAIN, Y, X_TEST, algorithm=fw.Sgd(0.1, 7, batch_size=5), order=0)
    descent = fw.predict(NET, X_TRAIN, Y, X_TEST, algorithm=fw.GradientDescent(0.1, 7), order=0)
    np.testing.assert_allclose(whole.mean, descent.mean, rtol=1e-10)
    np.testing.assert_allclose(whole.covariance, descent.covariance, rtol=1e-9, atol=1e-12)


def test_batches_move_outputs_together(kernels):
    """Against the outputs themselves, step by step, from random initial ones, in other orders of the batches."""
    K, Theta = kernels
    algorithm = fw.Sgd(0.06, 9, batch_size=2)
    p = fw.predict(NET, X_TRAIN, Y, X_TEST, algorithm=algorithm, order=0)
    draw, number = np.random.default_rng(8), 20_000
    z = np.einsum("uv,svi->sui", np.linalg.cholesky(K), draw.standard_normal((number, 8, 2)))
    for step in range(9):
        if step % 2 == 0:
            order = draw.permuted(np.tile(np.arange(5), (number, 1)), axis=1)
        batch = order[:, 2 * (step % 2) :][:, :2]
        residual = np.take_along_axis(z[:, :5], batch[:, :, None], 1) - Y[batch]
        z = z - 0.06 * 2.5 * np.einsum("usb,sbi->sui", Theta[:, batch], residual)
    z = z[:, 5:]
    mean, error = z.mean(0), z.std(0) / np.sqrt(number)
    assert np.all(np.abs(p.mean - mean) < 4.5 * np.hypot(error, p.error["mean"]))
    off = z - mean
    products = np.einsum("sxi,syj->sxiyj", off, off)
    apart, apart_error = products.mean(0), products.std(0) / np.sqrt(number)
    shared = p.covariance.values[:, 0, :, 1]
    assert np.all(np.abs(shared - apart[:, 0, :, 1]) < 4.5 * apart_error[:, 0, :, 1] + 0.5 * np.abs(shared).max())
    assert np.all(
        np.abs(p.variance - np.einsum("xixi->xi", apart))
        < 4.5 * np.hypot(np.einsum("xixi->xi", apart_error), p.error["variance"])
    )


def test_batches_that_cannot_be_drawn_or_diverge_are_refused():
    with pytest.raises(fw.InputError, match="`batch_size` must be at most the 5 training inputs"):
        fw.predict(NET, X_TRAIN, Y, algorithm=fw.Sgd(0.1, 7, batch_size=6), order=0)
    with pytest.raises(fw.InputError, match="too large for batches of 1"):
        fw.predict(NET, X_TRAIN, Y, algorithm=fw.Sgd(0.24, 2000, batch_size=1), order=0)
