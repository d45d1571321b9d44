"""Training of one network against closed forms, NumPy, SciPy and PyTorch."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.linalg import expm

import finitewidth as fw
from finitewidth.experiments.courses import course
from finitewidth.experiments.losses import CROSS_ENTROPY, targets
from finitewidth.experiments.networks import draw, preactivations
from finitewidth.experiments.training import RTOL, train
from finitewidth.precision import float64

LINEAR = fw.MLP("tanh", depth=1, n_out=2, C_b=0.2, C_W=1.3, lambda_b=0.3, lambda_W=0.8)
NET = fw.MLP("tanh", depth=2, width=6, n_out=2, C_b=0.2, C_W=1.5, lambda_b=0.5, lambda_W=0.7)
RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((5, 4)), RNG.standard_normal((2, 3))  # two inputs are not trained


def drawn(net, seed=1):
    with float64():
        return jax.tree.map(np.asarray, draw(jax.random.key(seed), net, n_in=X.shape[1], n_out=net.n_out))


def trained(net, algorithm, times=None, *, loss="mse", x=X, y=Y, seed=1):
    """Outputs of one network on all inputs, (times, n_out, N)."""
    plan = course(algorithm, loss=loss, times=times, inputs=y.shape[1])
    few = y.shape[1]
    with float64():

        @jax.jit
        def outputs(parameters):
            observe = lambda parameters: preactivations(net, parameters, x)  # noqa: E731
            key = jax.random.key(7)
            return train(net, parameters, x[:few], jnp.asarray(y), course=plan, key=key, observe=observe)

        return np.asarray(outputs(drawn(net, seed)))


def closed_form(learned):
    """Outputs of a network of one layer: z(0) − Θ_βT φ (z_T(0) − y), Θ written out."""
    layer = drawn(LINEAR)[0]
    z = layer.b[:, None] + layer.W @ X.T
    Theta = 0.3 + 0.8 * X @ X[:3].T / 4
    return z - (z[:, :3] - Y) @ learned(Theta[:3]).T @ Theta.T


def test_descent_of_one_layer_has_a_closed_form():
    def learned(Theta):  # η Σ_s (1 − ηΘ)^s
        return 0.2 * sum(np.linalg.matrix_power(np.eye(3) - 0.2 * Theta, s) for s in range(7))

    seen = trained(LINEAR, fw.GradientDescent(0.2, 20), [0, 7])
    np.testing.assert_allclose(seen[0], closed_form(lambda Theta: 0 * Theta), rtol=1e-12)
    np.testing.assert_allclose(seen[1], closed_form(learned), rtol=1e-10)


@pytest.mark.parametrize("algorithm", [fw.GradientDescent(0.2), fw.Momentum(0.1)])
def test_the_end_of_training_of_one_layer(algorithm):
    np.testing.assert_allclose(trained(LINEAR, algorithm)[0], closed_form(np.linalg.inv), rtol=1e-10)


def test_flow_of_one_layer_within_its_tolerance_and_at_its_end():
    seen = trained(LINEAR, fw.GradientFlow(), [1.5, math.inf])
    at = closed_form(lambda Theta: np.linalg.inv(Theta) @ (np.eye(3) - expm(-1.5 * Theta)))
    np.testing.assert_allclose(seen[0], at, atol=10 * RTOL)
    np.testing.assert_allclose(seen[1], closed_form(np.linalg.inv), atol=10 * RTOL)


def backpropagation(parameters, x, y, rates=(0.5, 0.7)):
    """λ ∇𝓛 of a tanh network with one hidden layer, by hand."""
    (b1, W1), (b2, W2) = parameters
    hidden = np.tanh(b1[:, None] + W1 @ x.T)
    error = b2[:, None] + W2 @ hidden - y
    back = (W2.T @ error) * (1 - hidden**2)
    lambda_b, lambda_W = rates
    return [
        (lambda_b * back.sum(1), lambda_W / x.shape[1] * back @ x),
        (lambda_b * error.sum(1), lambda_W / hidden.shape[0] * error @ hidden.T),
    ]


def forward(parameters, x):
    (b1, W1), (b2, W2) = parameters
    return b2[:, None] + W2 @ np.tanh(b1[:, None] + W1 @ x.T)


def stepped(parameters, slopes, step):
    return [tuple(p - step * g for p, g in zip(*pair, strict=True)) for pair in zip(parameters, slopes, strict=True)]


def test_descent_is_a_loop_of_numpy():
    parameters = drawn(NET)
    for _ in range(30):
        parameters = stepped(parameters, backpropagation(parameters, X[:3], Y), 0.1)
    np.testing.assert_allclose(trained(NET, fw.GradientDescent(0.1, 30))[0], forward(parameters, X), rtol=1e-9)


def test_batches_are_those_of_the_networks_key_and_cover_every_epoch():
    x, y = RNG.standard_normal((5, 4)), RNG.standard_normal((2, 5))
    parameters, batches = drawn(NET), []
    for number in range(7):  # batches of 2 out of 5: two steps an epoch, one input left out
        if number % 2 == 0:
            with float64():
                order = np.asarray(jax.random.permutation(jax.random.fold_in(jax.random.key(7), number // 2), 5))
        mine = order[2 * (number % 2) :][:2]
        batches.append(mine)
        parameters = stepped(parameters, backpropagation(parameters, x[mine], y[:, mine]), 0.05 * 5 / 2)
    seen = trained(NET, fw.Sgd(0.05, 7, batch_size=2), x=x, y=y)
    np.testing.assert_allclose(seen[0], forward(parameters, x), rtol=1e-9)
    assert all(len({*batches[i], *batches[i + 1]}) == 4 for i in range(0, 6, 2))


@pytest.mark.parametrize(
    ("algorithm", "optimiser", "options"),
    [
        (fw.Momentum(0.05, 25, momentum=0.8), "SGD", {"momentum": 0.8}),
        (fw.Adam(0.05, 25, beta1=0.8, beta2=0.99, epsilon=1e-7), "Adam", {"betas": (0.8, 0.99), "eps": 1e-7}),
    ],
)
@pytest.mark.parametrize("loss", ["mse", "cross-entropy"])
def test_momentum_and_adam_are_those_of_torch(algorithm, optimiser, options, loss):
    torch = pytest.importorskip("torch")
    tensors = [torch.tensor(np.array(leaf), requires_grad=True) for layer in drawn(NET) for leaf in layer]
    rates = [0.5, 0.7 / 4, 0.5, 0.7 / 6]
    groups = [{"params": [leaf], "lr": 0.05 * rate} for leaf, rate in zip(tensors, rates, strict=True)]
    steps, x = getattr(torch.optim, optimiser)(groups, **options), torch.tensor(X)
    labels = [0, 1, 1]
    for _ in range(25):
        steps.zero_grad()
        b1, W1, b2, W2 = tensors
        z = torch.tanh(x[:3] @ W1.T + b1) @ W2.T + b2
        if loss == "mse":
            value = 0.5 * ((z - torch.tensor(Y.T)) ** 2).sum()
        else:
            value = torch.nn.functional.cross_entropy(z, torch.tensor(labels), reduction="sum")
        value.backward()
        steps.step()
    b1, W1, b2, W2 = tensors
    expected = (torch.tanh(x @ W1.T + b1) @ W2.T + b2).detach().numpy().T
    y = Y if loss == "mse" else np.eye(2)[labels].T
    np.testing.assert_allclose(trained(NET, algorithm, loss=loss, y=y)[0], expected, rtol=1e-8)


@pytest.mark.slow
def test_flow_is_that_of_another_integrator_and_its_end_is_the_end():
    """SciPy's DOP853 on gradients by hand. At time 400 the slowest mode has decayed to nothing."""
    parameters = drawn(NET)
    shapes = [leaf.shape for layer in parameters for leaf in layer]
    sizes = np.cumsum([math.prod(shape) for shape in shapes])[:-1]

    def layered(vector):
        leaves = [part.reshape(shape) for part, shape in zip(np.split(vector, sizes), shapes, strict=True)]
        return [tuple(leaves[:2]), tuple(leaves[2:])]

    def velocity(_time, vector):
        slopes = backpropagation(layered(vector), X[:3], Y)
        return -np.concatenate([leaf.ravel() for layer in slopes for leaf in layer])

    start = np.concatenate([leaf.ravel() for layer in parameters for leaf in layer])
    exact = solve_ivp(velocity, (0, 400), start, method="DOP853", rtol=1e-11, atol=1e-12, t_eval=[0.7, 400])
    seen = trained(NET, fw.GradientFlow(), [0.7, math.inf])
    np.testing.assert_allclose(seen[0], forward(layered(exact.y[:, 0]), X), atol=10 * RTOL)
    np.testing.assert_allclose(seen[1][:, :3], Y, atol=1e-6)
    np.testing.assert_allclose(seen[1], forward(layered(exact.y[:, 1]), X), atol=20 * RTOL)


@pytest.mark.slow
def test_descent_becomes_the_flow_at_first_order_in_its_step():
    flow = trained(NET, fw.GradientFlow(1.0))[0]
    coarse, fine = (trained(NET, fw.GradientDescent(1 / steps, steps))[0] - flow for steps in (400, 800))
    np.testing.assert_allclose(coarse / fine, 2, rtol=0.02)


def test_without_learning_rates_nothing_moves():
    still = fw.MLP("tanh", depth=2, width=6, n_out=2, C_b=0.2, C_W=1.5, lambda_b=0.0, lambda_W=0.0)
    seen = trained(still, fw.Adam(0.1, 5), [0, 5])
    np.testing.assert_array_equal(seen[1], seen[0])


def test_contradictory_labels_end_at_their_mean():
    x = np.stack([X[0], X[0], X[1]])
    seen = trained(NET, fw.GradientDescent(0.05), x=x)[0]
    np.testing.assert_allclose(seen, np.stack([Y[:, :2].mean(1)] * 2 + [Y[:, 2]], 1), atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"algorithm": fw.Bayes()}, "`algorithm` Bayes trains no network"),
        ({"algorithm": "sgd"}, "`algorithm` must be one such as"),
        ({"algorithm": fw.Sgd(0.1, 5, batch_size=9)}, "`batch_size` must be at most the 3 training inputs, but is 9"),
        ({"algorithm": fw.GradientFlow(), "loss": "cross-entropy"}, "has no end for `loss` 'cross-entropy'"),
        ({"algorithm": fw.GradientFlow(1.0), "loss": "hinge"}, "`loss` must be 'mse' or 'cross-entropy'"),
        ({"algorithm": fw.GradientFlow(1.0), "times": [0.5, 2.0]}, "`times` must be times from 0 to .* 1, but has 2.0"),
        ({"algorithm": fw.GradientDescent(0.1, 9), "times": [1, 2.5]}, "`times` must be numbers of steps .* has 2.5"),
        ({"algorithm": fw.GradientDescent(0.1, 9), "times": [4, 2]}, r"`times` must increase, but got \[4, 2\]"),
        ({"algorithm": fw.GradientDescent(0.1, 9), "times": []}, "`times` must be increasing numbers"),
    ],
)
def test_bad_trainings_are_refused_by_name(arguments, words):
    with pytest.raises(fw.InputError, match=words):
        course(**arguments, inputs=3)


def test_the_logistic_loss_is_cross_entropy_with_an_output_that_stays_zero():
    z, y = np.random.default_rng(0).normal(size=(1, 4)) * 3, np.array([0.0, 1.0, 1.0, 0.3])
    with float64():
        both = CROSS_ENTROPY.each(jnp.asarray(np.concatenate([0 * z, z])), jnp.asarray(np.stack([1 - y, y])))
        alone = CROSS_ENTROPY.each(jnp.asarray(z), jnp.asarray(targets(CROSS_ENTROPY, y, inputs=4, n_out=1)))
    np.testing.assert_allclose(alone, both, rtol=1e-13)
