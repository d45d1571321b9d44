"""Every contraction and every pairing of indices, against dense derivatives of a tiny network, paired by FACTS 1.4."""

from functools import cache
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import finitewidth as fw
from finitewidth.experiments.derivatives import Derivatives
from finitewidth.experiments.networks import draw, learning_rates, preactivations
from finitewidth.experiments.tensors import TENSORS, Outputs
from finitewidth.precision import float64, in_float64

NET = fw.MLP(
    "tanh",
    depth=3,
    width=[3, 2],
    C_b=[0.3, 0.1, 0.2],
    C_W=[1.5, 1.2, 2.0],
    lambda_b=[0.4, 0.7, 0.2],
    lambda_W=[0.5, 1.1, 0.8],
)
X = np.array([[0.9, -0.4], [0.2, 1.3]])
READ, MOVING = 4, 3


class Dense:
    """z and its first three derivatives by every parameter, contracted by plain sums; a capital index is (i, a)."""

    def __init__(self, parameters):
        leaves, tree = jax.tree.flatten(parameters)
        sizes = np.cumsum([leaf.size for leaf in leaves])[:-1]

        def z(theta):
            parts = [p.reshape(leaf.shape) for p, leaf in zip(jnp.split(theta, sizes), leaves, strict=True)]
            h = jnp.asarray(X).T
            for l, (b, W) in enumerate(jax.tree.unflatten(tree, parts)):
                h = b[:, None] + W @ (jnp.tanh(h) if l else h)
            return h.reshape(-1)

        theta = jnp.concatenate([leaf.ravel() for leaf in leaves])
        first, second = jax.jacrev(z), jax.jacfwd(jax.jacrev(z))
        functions = [jax.jit(f) for f in (z, first, second, jax.jacfwd(second))]
        n_before = (X.shape[1], *NET.widths)
        rates = [
            rate
            for l, layer in enumerate(parameters)
            for rate in (
                np.full(layer.b.size, NET.lambda_b[l]),
                np.full(layer.W.size, NET.lambda_W[l] / n_before[l]),
            )
        ]
        self.z, g, h, k = (np.asarray(f(theta)) for f in functions)
        r = np.concatenate(rates)
        self.H = np.einsum("u,Au,Bu->AB", r, g, g)
        self.dH = np.einsum("Auv,Bu,Cv->ABC", h, r * g, r * g)
        self.ddI = np.einsum("Auvw,Bu,Cv,Dw->ABCD", k, r * g, r * g, r * g)
        moved = np.einsum("Auv,Cv->ACu", h, r * g)
        self.ddII = np.einsum("u,ACu,BDu->ABCD", r, moved, moved)


@cache
def drawn(net):
    with float64():
        return draw(jax.random.key(3), net, n_in=2, n_out=READ)


@pytest.fixture(scope="module")
def dense():
    with float64():
        return Dense(drawn(NET))


# FACTS 1.4: the correlator of 1 2 3 4 (or 0 1 2 3), its places, which of them have equal neurons, the order of the
# tensor's subscripts, and the pair of places whose neuron runs over all outputs. None: each of the two pairs in turn.
FACTS = {
    "V": (lambda t: np.einsum("A,B,C,D->ABCD", t.z, t.z, t.z, t.z), "1234", "12 34", "1234", "both"),
    "A": (lambda t: np.einsum("AB,CD->ABCD", t.H, t.H), "1234", "12 34", "1234", "neither"),
    "B": (lambda t: np.einsum("AB,CD->ABCD", t.H, t.H), "1234", "13 24", "1324", None),
    "D": (lambda t: np.einsum("A,B,CD->ABCD", t.z, t.z, t.H), "1234", "12 34", "1234", "12"),
    "F": (lambda t: np.einsum("A,B,CD->ABCD", t.z, t.z, t.H), "1234", "13 24", "1324", None),
    "P": (lambda t: np.einsum("ABC,D->ABCD", t.dH, t.z), "0123", "03 12", "0123", "03"),
    "Q": (lambda t: np.einsum("ABC,D->ABCD", t.dH, t.z), "0123", "01 23", "0123", "23"),
    "R": (lambda t: t.ddI, "0123", "01 23", "0123", "neither"),
    "S": (lambda t: t.ddII, "1234", "12 34", "1234", "neither"),
    "T": (lambda t: t.ddII, "1234", "13 42", "1342", "neither"),
    "U": (lambda t: t.ddII, "1234", "14 23", "1423", "neither"),
}


def from_facts(name, dense, moving):
    """The average over pairs of different neurons of the correlator with the neurons of FACTS, axes in its order."""
    correlator, places, pairs, order, read = FACTS[name]
    N = X.shape[0]
    values = correlator(dense).reshape((READ, N) * 4)
    results = []
    for many in pairs.split() if read is None else [read]:
        chosen = []
        for neurons in product(range(READ), repeat=2):
            ranges = [READ if read == "both" or pair == many else moving for pair in pairs.split()]
            if neurons[0] == neurons[1] or any(i >= r for i, r in zip(neurons, ranges, strict=True)):
                continue
            neuron = {place: i for pair, i in zip(pairs.split(), neurons, strict=True) for place in pair}
            index = [part for place in places for part in (neuron[place], slice(None))]
            chosen.append(values[tuple(index)].transpose([places.index(place) for place in order]))
        results.append(np.mean(chosen, axis=0))
    return np.mean(results, axis=0)


@cache
def contributions(net, moving, count):
    """What one network contributes to each tensor, and its full H and dH, compiled at once."""

    @jax.jit
    def all_of_them(parameters):
        network = Derivatives(net, parameters, jnp.asarray(X), moving=moving)
        tensors = {
            name: tensor.product(network, Outputs(READ, count, count, count)) for name, tensor in TENSORS.items()
        }
        return tensors | {"full H": network.H, "full dH": network.dH_pairs(count)}

    with float64():
        return {name: np.asarray(value) for name, value in all_of_them(drawn(net)).items()}


@pytest.mark.parametrize("name", FACTS)
@pytest.mark.parametrize(("moving", "count"), [(READ, READ), pytest.param(READ, 2, marks=pytest.mark.slow), (3, 3)])
def test_contribution_of_a_network_is_that_of_the_facts(name, moving, count, dense):
    expected = from_facts(name, dense, count)
    np.testing.assert_allclose(
        contributions(NET, moving, count)[name], expected, rtol=0, atol=1e-13 * np.abs(expected).max()
    )


def test_means_are_the_averages_over_outputs(dense):
    seen = contributions(NET, 3, 3)
    z, H = dense.z.reshape(READ, 2), dense.H.reshape(READ, 2, READ, 2)
    np.testing.assert_allclose(seen["K"], z.T @ z / READ, rtol=1e-13)
    np.testing.assert_allclose(seen["Theta"], np.mean([H[i, :, i] for i in range(3)], axis=0), rtol=1e-13)


def test_full_neural_tangent_kernel_and_its_differential(dense):
    seen = contributions(NET, 3, 3)
    np.testing.assert_allclose(seen["full H"], dense.H.reshape(READ, 2, READ, 2)[:, :, :3], rtol=1e-12, atol=1e-14)
    dH = np.einsum("iajbjc->iajbc", dense.dH.reshape((READ, 2) * 3))[:, :, :3]
    np.testing.assert_allclose(seen["full dH"], dH, rtol=1e-11, atol=1e-14)


@in_float64
def test_networks_are_drawn_with_their_variances_and_run_as_defined():
    keys = jax.random.split(jax.random.key(0), 4000)
    drawn = jax.vmap(lambda key: draw(key, NET, n_in=2, n_out=3))(keys)
    for l, (layer, n_before) in enumerate(zip(drawn, (2, 3, 2), strict=True)):
        for values, variance in ((layer.b, NET.C_b[l]), (layer.W, NET.C_W[l] / n_before)):
            assert values.dtype == np.float64
            # the mean of M squares of Gaussians of variance v has the error v √(2/M): one of six fails at 2e-6
            np.testing.assert_allclose(np.mean(values**2), variance, rtol=5 * np.sqrt(2 / values.size))
            np.testing.assert_allclose(np.mean(values), 0, atol=5 * np.sqrt(variance / values.size))
    one = jax.tree.map(lambda leaf: np.asarray(leaf[0]), drawn)
    z1 = one[0].b + X @ one[0].W.T
    z2 = one[1].b + np.tanh(z1) @ one[1].W.T
    z3 = one[2].b + np.tanh(z2) @ one[2].W.T
    np.testing.assert_allclose(preactivations(NET, one, jnp.asarray(X)), z3.T, rtol=1e-13)
    assert [float(rate.W) for rate in learning_rates(NET, one)] == [0.5 / 2, 1.1 / 3, 0.8 / 2]


@pytest.mark.slow
def test_kinked_activations_have_their_almost_everywhere_derivatives():
    # ReLU: between kinks z is linear in each layer's weights, so that only derivatives by different layers are not zero
    net = fw.MLP("relu", depth=3, width=5, C_W=2.0, C_b=0.1)
    seen = contributions(net, 3, 3)
    for name in FACTS:
        assert np.isfinite(seen[name]).all()
        assert np.abs(seen[name]).max() > 0
