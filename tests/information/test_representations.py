"""Sizes of the dNTK and ddNTK: closed forms, units, and real networks that are trained."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import finitewidth as fw
from finitewidth.experiments import extrapolate
from finitewidth.experiments.networks import draw, learning_rates, preactivations
from finitewidth.precision import float64
from tests.information.draws import at_width, mean

X = [[1.2, -0.3]]
BOUND = 5.0  # fails by chance once in 1.7·10⁶


@pytest.mark.parametrize(("activation", "C_W", "alpha"), [("relu", 2.0, 2.0), ("linear", 1.0, 1.0)])
def test_scale_invariant_networks_at_criticality(activation, C_W, alpha):
    # FACTS 4.3: with ω = λ_W A₂ K and ϑ = λ_b + ω, A₂ = 1/C_W, Θ = ϑ ℓ, and so on; layer 1 is like the others if λ_W is
    # such that λ_W |x|²/n_0 = ω
    L, n, lambda_b, lambda_W = 5, 40, 0.3, 0.7
    K = C_W * (1.2**2 + 0.3**2) / 2
    omega = lambda_W * K / C_W
    theta, l = lambda_b + omega, np.arange(1, L + 1)
    net = fw.MLP(activation, depth=L, width=n, C_W=C_W, lambda_b=lambda_b, lambda_W=lambda_W)
    found = fw.representation_learning(net, X).isel(a=0)
    cubic = alpha * (l**2 - 1) / (n * l)
    for name, expected in {
        "dNTK_P": 0 * l,
        "dNTK_Q": omega / theta * cubic / 6,
        "ddNTK_R": 0 * l,
        "ddNTK_S": omega / theta * cubic / 12,
        "ddNTK_T": (omega / theta) ** 2 * cubic / 12,
        "ddNTK_U": 0 * l,
    }.items():
        np.testing.assert_allclose(found[name], expected, rtol=1e-9, atol=1e-12, err_msg=name)


def test_no_unit_enters():
    common = {"depth": 3, "width": [30, 50]}
    base = fw.MLP("tanh", C_b=[0.1, 0.2, 0.3], C_W=[1.1, 1.2, 1.3], lambda_b=0.4, lambda_W=0.6, **common)
    faster = fw.MLP("tanh", C_b=[0.1, 0.2, 0.3], C_W=[1.1, 1.2, 1.3], lambda_b=4.0, lambda_W=6.0, **common)
    # z⁽ᴸ⁾ → 3 z⁽ᴸ⁾: parameters of the last layer are three times as large, and their steps nine times
    larger = fw.MLP(
        "tanh", C_b=[0.1, 0.2, 2.7], C_W=[1.1, 1.2, 11.7], lambda_b=[0.4, 0.4, 3.6], lambda_W=[0.6, 0.6, 5.4], **common
    )
    of_base = fw.representation_learning(base, X)
    for name, values in fw.representation_learning(faster, X).items():
        np.testing.assert_allclose(values, of_base[name], rtol=1e-9)
    for name, values in fw.representation_learning(larger, X).items():
        np.testing.assert_allclose(values[-1], of_base[name][-1], rtol=1e-9)


def test_each_input_by_itself():
    net = fw.MLP("gelu", depth=3, width=30, C_b=0.1, C_W=2.0)
    both, second = (
        fw.representation_learning(net, [[1.2, -0.3], [0.4, 0.8]]),
        fw.representation_learning(net, [[0.4, 0.8]]),
    )
    np.testing.assert_array_equal(both.NTK_change.isel(a=1), second.NTK_change.isel(a=0))


def relative_changes(net, target, Theta, networks, seed):
    """(H(∞) − H)/Θ of networks with one output, trained on X by gradient flow.

    Along dθ/du = −λ∇z (z(0) − y)/H, the path of gradient flow at another speed, z moves evenly from z(0) to y as u goes
    from 0 to 1; Runge–Kutta of fourth order in ten steps.
    """
    steps = 10

    @jax.jit
    @jax.vmap
    def one(key):
        start = draw(key, net, n_in=2, n_out=1)
        rates = learning_rates(net, start)

        def output(at):
            return preactivations(net, at, jnp.array(X))[0, 0]

        def raised(at):
            gradient = jax.grad(output)(at)
            step = jax.tree.map(jnp.multiply, rates, gradient)
            return step, sum(jax.tree.leaves(jax.tree.map(lambda a, b: (a * b).sum(), step, gradient)))

        z = output(start)

        def velocity(at):
            step, H = raised(at)
            return jax.tree.map(lambda each: -each * (z - target) / H, step)

        def moved(at, by, h):
            return jax.tree.map(lambda a, b: a + h * b, at, by)

        def runge_kutta(at, _):
            h = 1 / steps
            k1 = velocity(at)
            k2 = velocity(moved(at, k1, h / 2))
            k3 = velocity(moved(at, k2, h / 2))
            k4 = velocity(moved(at, k3, h))
            return jax.tree.map(lambda a, p, q, r, s: a + h / 6 * (p + 2 * q + 2 * r + s), at, k1, k2, k3, k4), None

        end, _ = jax.lax.scan(runge_kutta, start, length=steps)
        return (raised(end)[1] - raised(start)[1]) / Theta, output(end)

    with float64():
        keys = jax.random.split(jax.random.key(seed), networks).reshape(-1, 250)
        change, z = (np.concatenate(each) for each in zip(*(map(np.asarray, one(k)) for k in keys), strict=True))
    np.testing.assert_allclose(z, target, atol=1e-4)
    return change


@pytest.mark.slow
def test_ntk_of_trained_real_networks_changes_as_said():
    net = fw.MLP("tanh", depth=3, width=64, n_out=1, C_b=0.1, C_W=1.4, lambda_b=0.3, lambda_W=0.7)
    limit, flow = fw.representation_learning(net, X).isel(layer=-1, a=0), fw.flow(net, X)
    K, Theta = flow.K[-1].item(), flow.Theta[-1].item()
    widths, values, errors = [16, 32, 64], [], []
    for n in widths:
        # what is odd in the target has no mean: taken away by giving each network both signs
        both = [relative_changes(at_width(net, n), sign * np.sqrt(K), Theta, 10_000, n) for sign in (1, -1)]
        average, error = mean(sum(both) / 2)
        values.append(n * average)
        errors.append(n * error)
    fit = extrapolate(widths, values, errors, order=1)
    expected = 64 * limit.NTK_change.item()
    assert abs(fit.value - expected) < BOUND * fit.standard_error, (fit.value, fit.standard_error, expected)
    assert fit.standard_error < 0.1 * abs(expected)  # with ddII counted once instead of twice it would be −1.3
