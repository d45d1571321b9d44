"""What crossing a kink during training does: a closed form for one input, and networks that were really trained."""

import math

import jax
import numpy as np
import pytest
from scipy.stats import norm

import finitewidth as fw
from finitewidth.experiments import measure_trained
from tests.references.trained_networks import train

X = np.array([[1.0, 0.3], [0.4, -0.9], [0.2, 0.8]])
Y = np.array([[1.0], [-0.5]])
HYPER = (0.2, 1.8, 0.5, 0.7)


def network(activation, depth, width=64, n_out=1):
    C_b, C_W, lambda_b, lambda_W = HYPER
    return fw.MLP(
        activation, depth=depth, width=width, n_out=n_out, C_b=C_b, C_W=C_W, lambda_b=lambda_b, lambda_W=lambda_W
    )


# of σ′² where v = 1: ½ (σ′₊ − σ′₋)² (σ′₊ + σ′₋); of |z| half the neurons near the kink end on it, with slope 0
LOSSES = {"relu": 0.5, "leaky_relu(0.3)": 0.5 * 0.7**2 * 1.3, "abs": 1.0}
# what the kernel has lost beside: of |z| nothing, whose σ′² is 1 on either side of a kink on which neurons stay
KERNELS = {"relu": 1.0, "leaky_relu(0.3)": 1.0, "abs": 0.0}


@pytest.mark.parametrize("activation", LOSSES)
def test_one_input_and_one_hidden_layer_are_a_closed_form(activation):
    """E ΔH(t) = −2 √(2/π) loss C_W^{3/2} Θ₁² p(0) ∫|ε| n^{−1/2}, and ε = ε₀ e^{−Θt} with ε₀ Gaussian."""
    y, time = 1.2, 0.9
    p = fw.predict(network(activation, 2), X[:1], [y], algorithm=fw.GradientFlow(time))
    _, C_W, lambda_b, lambda_W = HYPER
    f = fw.flow(network(activation, 2), X[:1], tensors="")
    K1, (K, Theta) = f.K.values[0, 0, 0], (f[name].values[1, 0, 0] for name in ("K", "Theta"))
    Theta1 = lambda_b + lambda_W * (X[0] @ X[0]) / 2
    lost = 2 * math.sqrt(2 / math.pi) * LOSSES[activation] * C_W**1.5 * Theta1**2 / math.sqrt(2 * math.pi * K1)
    left = math.exp(-Theta * time)
    factor = lost * left * (time / Theta - (1 - left) / Theta**2)
    m, s = -y, math.sqrt(K)
    size = 2 * s * norm.pdf(m / s) + m * (2 * norm.cdf(m / s) - 1)  # E|ε₀|
    square = m * size + s**2 * (2 * norm.cdf(m / s) - 1)  # E|ε₀| ε₀
    found = p.left_out
    for of, stated in (("mean", factor * square), ("variance", 2 * factor * left * 2 * s**2 * size)):
        assert found[of].item() * 8 == pytest.approx(stated, abs=4 * 8 * found[f"{of}_error"].item())
        assert found[f"{of}_error"].item() < 0.03 * abs(found[of].item())
    kernel = fw.trained_kernel(network(activation, 2), X[:1], [y], algorithm=fw.GradientFlow(time)).left_out
    change = -KERNELS[activation] * lost * (1 - left) / Theta * size
    assert kernel["mean"].item() * 8 == pytest.approx(change, abs=4 * 8 * kernel["mean_error"].item())
    assert kernel["mean_error"].item() <= 0.02 * abs(kernel["mean"].item())


def test_what_is_said_of_kinks():
    p = fw.predict(network("relu", 3), X[:1], Y[:1], X[:1], algorithm=fw.GradientFlow(2.0))
    assert any("cross a kink" in note and "at width 64" in note for note in p.notes)
    assert np.all(p.left_out["mean_size"] > abs(p.left_out["mean"]))
    wider = p.at_width(256)
    np.testing.assert_allclose(wider.left_out["mean"], p.left_out["mean"] / 2, rtol=1e-12)
    one = X[:1], Y[:1], X[:1]
    smooth = fw.predict(network("elu", 2), *one, algorithm=fw.GradientFlow(2.0))  # σ′ has no jump: nothing of 1/√n
    assert np.all(smooth.left_out["mean"] == 0) and np.all(smooth.left_out["mean_size"] > 0)
    assert any("of order 1/n, may change" in note for note in smooth.notes)
    assert fw.predict(network("tanh", 2), *one).left_out is None
    assert fw.predict(network("relu", 2), *one, algorithm=fw.Bayes(0.1)).left_out is None
    assert fw.predict(network("relu", 2), *one, order=0).left_out is None


def test_trained_inputs_lack_nothing_at_the_end_whatever_the_outputs():
    p = fw.predict(network("relu", 2, n_out=2), X[:2], [[1.0, 0.2], [-0.5, 0.4]], X[1:])
    assert p.left_out["mean"].shape == (2, 2)
    assert np.abs(p.left_out["mean"][0]).max() < 1e-6 < np.abs(p.left_out["mean"][1]).min()


@pytest.mark.slow  # one to two minutes each
@pytest.mark.parametrize(("activation", "depth", "width"), [("relu", 2, 256), ("hard_tanh", 2, 256), ("relu", 3, 128)])
def test_what_order_1_lacks_of_real_networks_is_the_estimate(activation, depth, width):
    """Within standard errors the mean, within the stated sizes all; and far from nothing."""
    net, algorithm = network(activation, depth, width), fw.GradientDescent(0.02, 100)
    p = fw.predict(net, X[:2], Y, X, algorithm=algorithm)
    seen = measure_trained(net, X[:2], Y, X[2:], algorithm=algorithm, n_networks=2048, seed=1)
    found = {of: (each["mean"][-1, 0], np.einsum("aa->a", each["covariance"][-1, 0, :, 0])) for of, each in (
        ("value", seen.value), ("error", seen.standard_error),
    )}  # fmt: skip
    for of, stated, value, error in zip(("mean", "variance"), (p.mean, p.variance), *found.values(), strict=True):
        rest, lacking = value - stated.values[:, 0], p.left_out[of].values[:, 0]
        assert np.all(np.abs(rest) < p.left_out[f"{of}_size"].values[:, 0] + 4 * error)
        assert np.abs(rest / error).max() > 8  # it is there
        if of == "mean":
            assert np.all(np.abs(rest - lacking) < 4 * np.hypot(error, p.left_out["mean_error"].values[:, 0]))


@pytest.mark.slow
@pytest.mark.parametrize(("depth", "trained"), [(2, 1), (2, 2), (3, 2)])
def test_the_rest_of_real_networks_is_what_is_stated(depth, trained):
    """Of widths 32 and 64: beyond the stated errors without it, within them with it."""
    algorithm = fw.GradientDescent(0.02, 100)
    for width in (32, 64):
        p = fw.predict(network("relu", depth, width), X[:trained], Y[:trained], X, algorithm=algorithm)
        number, widths = 4096 if depth == 2 else 2048, (2, *[width] * (depth - 1), 1)
        before, after = train(
            jax.random.key(width), number, sigma="relu", widths=widths, hyper=HYPER, x=X, y=Y[:trained],
            trained=np.arange(trained), step=0.02, steps=100,
        )  # fmt: skip
        f = fw.flow(network("relu", depth), X, tensors="", layers="last").isel(layer=0)
        own = f.Theta.values[:trained, :trained]
        gain = f.Theta.values[:, :trained] @ np.linalg.solve(
            own, np.eye(trained) - np.linalg.matrix_power(np.eye(trained) - 0.02 * own, 100)
        )
        free = before - gain @ (before[:, :, :trained] - Y[:trained])  # its mean is known
        off = (after - free).mean(1)[..., 0]
        error = off.std(0) / np.sqrt(len(off))
        rest = off.mean(0) - (p.mean - p.mean_infinite).values[:, 0]
        assert np.all(np.abs(rest) < p.left_out["mean_size"].values[:, 0] + 4 * error)
        assert np.abs(rest / error).max() > 8  # it is there
        clearest = np.argmax(np.abs(rest / error))
        assert 0.5 < rest[clearest] / p.left_out["mean"].values[clearest, 0] < 2.0


@pytest.mark.parametrize("algorithm", [fw.GradientFlow(0.0), fw.GradientDescent(0.01, 0)], ids=str)
@pytest.mark.parametrize("N", [3, 20])
def test_nothing_crosses_where_nothing_is_trained(algorithm, N):
    x = np.random.default_rng(1).standard_normal((N, 2))
    p = fw.predict(network("relu", 2), x, x[:, 0], algorithm=algorithm, neurons=64)
    assert not p.mean.any() and not p.left_out["mean"].any() and not p.left_out["variance"].any()


def test_opposite_inputs_have_an_estimate():
    x = np.random.default_rng(0).standard_normal(3)  # what is left of K given z_x is rounding, here below zero
    p = fw.predict(fw.MLP("relu", depth=2, width=64, C_W=2.0), [x, -x], [1.0, 1.0])
    assert np.all(np.isfinite(p.left_out["mean"])) and p.left_out["mean_error"].max() > 0
