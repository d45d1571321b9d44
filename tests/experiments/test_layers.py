"""Layers drawn without weights have the law of networks with weights: distribution tests, exact results, other draws.

Of the Kolmogorov-Smirnov tests, 1e-5 is the rate of false alarms of each: this file fails by chance once in 10^3
changes of seed at most.
"""

from functools import cache

import jax
import numpy as np
import pytest
from scipy.stats import ks_2samp

import finitewidth as fw
from finitewidth.errors import InputError
from finitewidth.experiments.ensembles import at_initialisation
from finitewidth.experiments.layers import PAIRS, jets_for, root_of
from finitewidth.experiments.tensors import TENSORS, Outputs
from finitewidth.precision import float64

# two inputs that are equal, one that is parallel to them, one across
X = np.array([[1.2, -0.3, 0.1], [1.2, -0.3, 0.1], [-2.4, 0.6, -0.2], [0.4, 0.8, 1.0]])
FALSE_ALARMS = 1e-5
BOUND = 5.5  # of t with some 60 degrees of freedom, exceeded once in 10^6


@fw.observable(dims=("layer", "a", "i"))
def some_neurons(network):
    """Two neurons of layers 2 and 3 and of the output."""
    return jax.numpy.stack([network.z(l)[:2].T for l in (2, 3, -1)])


@cache
def drawn(n, draw, count):
    """z of `count` networks: (networks, layer, a, i)."""
    net = fw.MLP("gelu", depth=4, width=n, n_in=3, n_out=2, C_b=0.1, C_W=[1.0, 1.8, 1.6, 1.4])
    made = at_initialisation(net, X, [some_neurons], seed=11, draw=draw)
    with float64():
        groups = [
            np.asarray(made.contributions(np.arange(start, start + made.together))["some_neurons/"])
            for start in range(0, count, made.together)
        ]
    return np.concatenate(groups)[:count]


@pytest.mark.parametrize(("n", "count"), [(4, 8000), (32, 4000)])
def test_the_law_is_that_of_networks_with_weights(n, count):
    layers, networks = (drawn(n, draw, count) for draw in ("layers", "networks"))
    # one preactivation; and what single ones do not see: products over neurons, inputs and layers; random projections
    directions = np.random.default_rng(5).standard_normal((6, layers[0].size))
    functions = {
        "one": lambda z: z[:, 2, 0, 0],
        "neurons": lambda z: z[:, 2, 0, 0] ** 2 - z[:, 2, 0, 1] ** 2 * z[:, 2, 3, 0] ** 2,
        "inputs": lambda z: z[:, 1, 0, 0] * z[:, 1, 3, 0],
        "layers": lambda z: z[:, 0, 3, 1] ** 2 * z[:, 1, 0, 0] ** 2 - z[:, 2, 2, 1] ** 2,
        **{f"direction {k}": lambda z, d=d: z.reshape(count, -1) @ d for k, d in enumerate(directions)},
    }
    for name, function in functions.items():
        assert ks_2samp(function(layers), function(networks)).pvalue > FALSE_ALARMS, name
    # equal inputs have equal preactivations
    np.testing.assert_allclose(layers[:, :, 0], layers[:, :, 1], rtol=0, atol=1e-6 * np.abs(layers).max())


def test_the_distribution_test_sees_a_wrong_law():
    # neurons that are Gaussian, but with the average kernel in place of each network's own: infinite width
    networks = drawn(4, "networks", 8000)[:, 2, 0, 0]
    gaussian = np.random.default_rng(0).standard_normal(8000) * networks.std()
    assert ks_2samp(gaussian, networks).pvalue < FALSE_ALARMS


def test_kernel_and_vertex_of_linear_networks_are_exact():
    # FACTS 4.1: E[z⁴]/(3 K²) = Π (1 + 2/n_ℓ); V = n (E[Ĝ²] − E[Ĝ]²)
    net = fw.MLP("linear", depth=3, width=[4, 8])
    found = fw.ensemble(net, [[1.0]], observables=["K", "V"], n_networks=20_000, draw="layers").estimate
    assert abs(found["K"].value - 1) < BOUND * found["K"].standard_error
    V = 8 * ((1 + 2 / 4) * (1 + 2 / 8) - 1)
    assert abs(found["V"].value - V) < BOUND * found["V"].standard_error
    assert found["V"].standard_error < 0.05 * V


def test_every_tensor_of_one_hidden_linear_layer_is_exact():
    # FACTS 2.1–2.4 with σ' = 1 and no second derivative: pins axes, pairings and powers of each
    w, b, C = 0.9, 0.4, 1.3  # λ_W, λ_b
    net = fw.MLP("linear", depth=2, width=6, C_b=0.2, C_W=[1.0, C], lambda_b=b, lambda_W=w)
    x = np.array([[1.2, -0.3], [0.4, 0.8]])
    found = fw.ensemble(net, x, observables=list(TENSORS), n_networks=30_000, draw="layers", seed=3).estimate
    K, Th = 0.2 + x @ x.T / 2, b + w * x @ x.T / 2
    two = np.einsum("ac,bd->abcd", K, K) + np.einsum("ad,bc->abcd", K, K)
    expected = {
        "K": 0.2 + C * K,
        "Theta": b + w * K + C * Th,
        "V": C**2 * two,
        "B": C**2 * np.einsum("ac,bd->abcd", Th, Th),
        "D": C * w * two,
        "F": C**2 * np.einsum("ac,bd->abcd", K, Th),
        "A": w**2 * two,
        "P": np.zeros((2,) * 4),
        "Q": w * C * np.einsum("bd,ac->abcd", K, Th),
        "R": np.zeros((2,) * 4),
        "S": C * w * np.einsum("ac,bd->abcd", Th, Th),
        "T": w**2 * np.einsum("bc,ad->abcd", K, Th),
        "U": np.zeros((2,) * 4),
    }
    for name, value in expected.items():
        pull = (found[name].value - value) / np.maximum(found[name].standard_error, 1e-12)
        assert np.abs(pull).max() < BOUND, name


@pytest.mark.slow
def test_every_tensor_is_that_of_exact_derivatives_of_networks_with_weights():
    net = fw.MLP("tanh", depth=3, width=[5, 7], C_b=0.2, C_W=1.3, lambda_b=[0.5, 0.3, 0.2], lambda_W=0.7)
    x = np.array([[1.2, -0.3], [0.4, 0.8]])
    with_weights = fw.ensemble(net, x, observables=list(TENSORS), n_networks=4000, seed=1).estimate
    layers = fw.ensemble(net, x, observables=list(TENSORS), n_networks=200_000, seed=2, draw="layers").estimate
    for name in TENSORS:
        one, other = layers[name], with_weights[name]
        pull = (one.value - other.value) / np.hypot(one.standard_error, other.standard_error)
        assert np.abs(pull).max() < BOUND, name


def test_jets_come_with_their_parts():
    assert jets_for(["V"]) == ("",)
    assert jets_for(["D"]) == ("", "r")
    assert jets_for(["P"]) == ("", "r", "s", "rs")
    assert jets_for(["S"]) == ("", "r", "s", "t", "rs", "rt")
    assert len(jets_for(list(PAIRS))) == 8
    assert PAIRS.keys() == TENSORS.keys()


@pytest.mark.parametrize("size", [5, 60])
@pytest.mark.parametrize("rank", [0, 1, 3])
def test_roots_of_singular_matrices(size, rank):
    factor = np.random.default_rng(size).standard_normal((size, rank)) * np.logspace(0, 3, rank)
    G = factor @ factor.T
    with float64():
        root = np.asarray(root_of(jax.numpy.asarray(G)))
    np.testing.assert_allclose(root @ root.T, G, rtol=0, atol=1e-12 * max(1.0, np.abs(G).max()))


def test_networks_that_overflow_are_not_averaged():
    net = fw.MLP(fw.Activation(lambda z: z**3, name="cube"), depth=9, width=4, C_W=1e3)
    with pytest.raises(InputError, match="contribute a number that is not finite"):
        fw.ensemble(net, [[3.0]], observables=["K"], n_networks=64, draw="layers", workers=1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"observables": ["gradient_norms"]}, "'gradient_norms', which needs weights, but draw='layers' draws no"),
        ({"draw": "layer"}, "`draw` must be 'networks' or 'layers'"),
        ({"outputs": Outputs(z=8)}, "`outputs` is not used by draw='layers'"),
    ],
)
def test_what_layers_do_not_have_is_refused(arguments, message):
    net = fw.MLP("tanh", depth=3, width=4)
    with pytest.raises(InputError, match=message):
        fw.ensemble(net, [[1.0]], **{"observables": ["K"], "n_networks": 10, "draw": "layers", **arguments})
