"""Order 1/n where it is known exactly: real networks of one hidden layer, deep linear networks, scale-invariant ones.

With one hidden layer, first order is exact: n_1 Cov[Ĝ, Ĝ] does not depend on n_1. So the tensors must be the averages
of exact derivatives of networks with one or two hidden neurons, by quadrature over all of their parameters.
"""

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import finitewidth as fw
from finitewidth.flow.vertex import FLUCTUATIONS, TENSORS
from finitewidth.precision import float64

HYPERPARAMETERS = {"C_b": [0.2, 0.3], "C_W": [0.9, 1.4], "lambda_b": [0.6, 0.3], "lambda_W": [0.5, 0.8]}


def all_parameters(n: int, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Parameters (W⁽¹⁾, b⁽¹⁾, W⁽²⁾, b⁽²⁾ flat) and weights of a product rule, exact for what is averaged below.

    The network sees W⁽¹⁾ and b⁽¹⁾ only through its n N preactivations; in W⁽²⁾ and b⁽²⁾ of an output it is of second
    degree, for which ± one standard deviation is exact; a sign common to an output has no effect.
    """
    N, n_in = x.shape
    (C_b1, C_b2), (C_W1, C_W2) = HYPERPARAMETERS["C_b"], HYPERPARAMETERS["C_W"]
    u = 0.36 * np.arange(-21, 22)  # the trapezoid rule: GELU is entire
    w = 0.36 * np.exp(-u * u / 2) / np.sqrt(2 * np.pi)
    L = np.linalg.cholesky(C_b1 + C_W1 * x @ x.T / n_in)
    grid = np.array(list(product(range(len(u)), repeat=n * N)))
    z = np.einsum("ab,mjb->mja", L, u[grid].reshape(-1, n, N))
    first = np.einsum("mja,ia->mji", z, np.linalg.pinv(x)).reshape(len(z), -1)
    signs = np.array([(*s[: 2 * n], 1.0, 1.0) for s in product((-1.0, 1.0), repeat=2 * n)])
    last = signs * np.sqrt([C_W2 / n] * 2 * n + [C_b2] * 2)
    theta = [np.concatenate([f, np.zeros(n), l]) for f in first for l in last]
    return np.array(theta), np.repeat(w[grid].prod(1), len(last)) / len(last)


def of_real_networks(n: int, x: np.ndarray) -> dict[str, np.ndarray]:
    """n × the connected averages of FACTS §1.4 at neurons i ≠ j, over all networks, in the order of the subscripts."""
    n_in, l_b, l_W = x.shape[1], HYPERPARAMETERS["lambda_b"], HYPERPARAMETERS["lambda_W"]
    rates = np.array([l_W[0] / n_in] * n * n_in + [l_b[0]] * n + [l_W[1] / n] * 2 * n + [l_b[1]] * 2)

    def network(step, theta):
        theta = theta + jnp.sqrt(rates) * step  # derivatives by `step` hold √λ each
        W, b, V, c = jnp.split(theta, [n * n_in, n * n_in + n, n * n_in + 3 * n])
        z = W.reshape(n, n_in) @ x.T + b[:, None]
        return V.reshape(2, n) @ (z * jax.scipy.stats.norm.cdf(z)) + c[:, None]

    def products(theta, weight):
        zero = jnp.zeros_like(theta)
        z, d1, d2, d3 = (f(zero, theta) for f in (network, first, second, third))
        (y, v), (p, q), (P, Q) = z, d1, d2  # neurons i and j
        T, e = d3[0], jnp.einsum
        H, Hij, Hj = e("am,bm->ab", p, p), e("am,bm->ab", p, q), e("am,bm->ab", q, q)
        found = {
            "zz": e("a,b->ab", y, y), "H": H, "V": e("a,b,c,d->abcd", y, y, v, v), "D": e("a,b,cd->abcd", y, y, Hj),
            "A": e("ab,cd->abcd", H, Hj), "F": e("a,b,cd->acbd", y, v, Hij), "B": e("ab,cd->acbd", Hij, Hij),
            "P": e("amn,bm,cn,d->abcd", P, q, q, y), "Q": e("amn,bm,cn,d->abcd", P, p, q, v),
            "R": e("amno,bm,cn,do->abcd", T, p, q, q), "S": e("amn,bmo,cn,do->abcd", P, P, q, q),
            "T": e("amn,bmo,cn,do->acdb", P, Q, p, q), "U": e("amn,bmo,cn,do->adbc", P, Q, q, p),
        }  # fmt: skip
        return jax.tree.map(lambda each: weight * each, found)

    first = jax.jacfwd(network)
    second = jax.jacfwd(first)
    third = jax.jacfwd(second)
    with float64():
        some = jax.jit(lambda *each: jax.tree.map(lambda f: f.sum(0), jax.vmap(products)(*each)))
        parts = [some(*each) for each in zip(*(np.array_split(a, 16) for a in all_parameters(n, x)), strict=True)]
        mean = {name: sum(np.asarray(part[name]) for part in parts) for name in parts[0]}
    zz, H = mean.pop("zz"), mean.pop("H")
    for name, (left, right) in {"V": (zz, zz), "D": (zz, H), "A": (H, H)}.items():
        mean[name] = mean[name] - np.einsum("ab,cd->abcd", left, right)
    return {name: n * each for name, each in mean.items()}


@pytest.mark.filterwarnings("ignore::finitewidth.errors.TrustWarning")  # at width 1 and 2, where it belongs
@pytest.mark.parametrize(
    ("n", "x"),
    [(1, np.array([[0.8, -0.3], [0.2, 0.9]])), (2, np.array([[0.9]]))],
    ids=["one neuron, two inputs", "two neurons, one input"],
)
def test_one_hidden_layer_is_exact(n: int, x: np.ndarray) -> None:
    exact = of_real_networks(n, x)
    flow = fw.flow(fw.MLP("gelu", depth=2, width=n, **HYPERPARAMETERS), x, order=1, layers="last")
    for name in FLUCTUATIONS:
        scale = np.abs(exact[name]).max()
        np.testing.assert_allclose(flow[name].values[0], exact[name], rtol=0, atol=1e-7 * scale, err_msg=name)
    np.testing.assert_array_equal(flow.G1, 0.0)
    np.testing.assert_array_equal(flow.H1, 0.0)


@pytest.mark.parametrize("inputs", [1, 3])
def test_one_layer_has_no_fluctuations(inputs: int) -> None:
    x = np.random.default_rng(0).normal(size=(inputs, 2))
    flow = fw.flow(fw.MLP("gelu", depth=1, C_b=0.3), x, order=1)
    for name in TENSORS:
        assert flow[name].shape == (1, *(inputs,) * (4 if name in FLUCTUATIONS else 2))
        np.testing.assert_array_equal(flow[name], 0.0)


@pytest.mark.parametrize("rank", [4, 2])
def test_deep_linear_network_of_several_inputs(rank: int) -> None:
    """FACTS 4.1 with widths: V_{(12)(34)}/n_{ℓ−1} = (K13 K24 + K14 K23) Σ 1/n, and no shift of the kernel."""
    x, widths = np.random.default_rng(1).normal(size=(4, rank)), np.array([400, 100, 200])
    flow = fw.flow(fw.MLP("linear", depth=4, width=widths.tolist()), x, order=1, tensors="V,G1")
    K = x @ x.T / rank
    each = np.einsum("ac,bd->abcd", K, K) + np.einsum("ad,bc->abcd", K, K)
    for layer in range(1, 4):
        expected = each * np.sum(1 / widths[:layer])
        np.testing.assert_allclose(flow.V.values[layer] / widths[layer - 1], expected, atol=1e-10 * np.abs(each).max())
        np.testing.assert_allclose(flow.G1.values[layer], 0.0, atol=1e-9 * widths.max() * np.abs(K).max())


def test_every_tensor_of_a_deep_linear_network_of_four_inputs() -> None:
    """FACTS 2.2, 2.4 with σ' = 1, on inputs that depend linearly on each other: products with σ″ vanish identically."""
    x = np.random.default_rng(2).normal(size=(4, 2))
    C_W, l_W = 1.2, 0.7
    net = fw.MLP("linear", depth=4, width=100, C_b=0.1, C_W=C_W, lambda_b=0.3, lambda_W=l_W)
    flow = fw.flow(net, x, order=1)
    e, found = np.einsum, {name: np.zeros((4,) * 4) for name in "VFBSQ"}
    for layer in range(1, 4):
        K, Theta = flow.K.values[layer - 1], flow.Theta.values[layer - 1]
        F = C_W**2 * (e("ac,bd->abcd", K, Theta) + found["F"])
        found = {
            "V": C_W**2 * (e("ac,bd->abcd", K, K) + e("ad,bc->abcd", K, K) + found["V"]),
            "F": F,
            "B": C_W**2 * (e("ac,bd->abcd", Theta, Theta) + found["B"]),
            "S": C_W * l_W * (e("ac,bd->abcd", Theta, Theta) + found["B"]) + C_W**2 * found["S"],
            "Q": l_W / C_W * F.transpose(1, 0, 3, 2) + C_W**2 * found["Q"],
        }
        for name in found:
            np.testing.assert_allclose(flow[name].values[layer], found[name], rtol=0, atol=1e-9, err_msg=name)
    for name in ("G1", "H1", "P", "R", "U"):
        np.testing.assert_allclose(flow[name], 0.0, atol=1e-9, err_msg=name)


def test_constant_activation_has_no_fluctuations() -> None:
    """Of four inputs: polynomials of degree 0 are all there is."""
    constant = fw.Activation(lambda z: 0.0 * z + 1.0)
    flow = fw.flow(fw.MLP(constant, depth=3, width=9, C_b=0.1), np.random.default_rng(0).normal(size=(4, 2)), order=1)
    for name in TENSORS:
        np.testing.assert_allclose(flow[name], 0.0, atol=1e-12, err_msg=name)


def scale_invariant(
    slopes: tuple[float, float], K: float, l_b: float, l_W: float, l: np.ndarray
) -> dict[str, np.ndarray]:
    """FACTS 4.3, at criticality, λ the same in all layers: almost-everywhere derivatives."""
    A2, A4 = (0.5 * sum(slope**p for slope in slopes) for p in (2, 4))
    al, om = A4 / A2**2, l_W * A2 * K
    th = l_b + om
    squares, cubes = l * (l - 1) * (2 * l - 1) / 6, l**2 * (l**2 - 1) / 12
    zero = 0.0 * l
    return {
        "K": K + zero,
        "Theta": th * l,
        "V": (l - 1) * (3 * al - 1) * K**2,
        "F": al * K * th * l * (l - 1) / 2,
        "B": al * th**2 * squares,
        "D": l * (l - 1) / 2 * K * (om * (3 * al - 1) + th * (al - 1)),
        "A": (om**2 * (3 * al - 1) + (om * th + th**2) * (al - 1)) * squares + om * th * (al - 1) * l * (l - 1) / 2,
        "P": zero,
        "Q": om * al * th * (l + 1) * l * (l - 1) / 6,
        "R": zero,
        "U": zero,
        "S": om / K * al * th**2 * cubes,
        "T": om**2 / K * al * th * cubes,
        "G1": zero,
        "H1": zero,
    }


@pytest.mark.parametrize(("l_b", "l_W"), [(1.0, 1.0), (0.0, 0.7), (0.3, 0.0), (0.4, 1.9)])
@pytest.mark.parametrize("slopes", [(1.0, 1.0), (0.0, 1.0), (0.1, 1.0), (-0.5, 1.0)])
def test_scale_invariant_networks(slopes: tuple[float, float], l_b: float, l_W: float) -> None:
    activation = {(1.0, 1.0): "linear", (0.0, 1.0): "relu"}.get(slopes, f"leaky_relu({slopes[0]})")
    A2, depth = 0.5 * (slopes[0] ** 2 + slopes[1] ** 2), 12
    C_W = 1 / A2
    x = np.array([[1.5, 0.4]])
    K = C_W * np.sum(x**2) / 2
    net = fw.MLP(activation, depth=depth, width=500, C_W=C_W, lambda_b=l_b, lambda_W=l_W)
    flow = fw.flow(net, x, order=1)
    exact = scale_invariant(slopes, K, l_b, l_W, np.arange(1.0, depth + 1))
    for name, expected in exact.items():
        got = flow[name].values.reshape(depth)
        # what is zero is a difference of terms of this size
        np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-14 * (1 + K) * depth**2, err_msg=name)


def test_scale_invariant_networks_of_several_inputs() -> None:
    """The diagonal entries of the dense route."""
    x = np.array([[1.5, 0.4], [0.3, -0.9], [1.2, 0.7]])
    flow = fw.flow(fw.MLP("relu", depth=5, width=500, C_W=2.0, lambda_b=0.4, lambda_W=1.3), x, order=1)
    for i, K in enumerate(np.sum(x**2, axis=1)):
        for name, expected in scale_invariant((0.0, 1.0), K, 0.4, 1.3, np.arange(1.0, 6.0)).items():
            got = flow[name].values[(slice(None), *(i,) * (flow[name].ndim - 1))]
            np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-12 * max(1.0, K), err_msg=name)
