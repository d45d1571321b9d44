"""The four roads of a layer (closed form, table, piecewise, plane) agree, and say honestly how well."""

import numpy as np
import pytest

import finitewidth as fw
from finitewidth.gaussian.pair_maps import ClosedFormMap, DirectMap, PiecewiseMap, TableMap, pair_map
from finitewidth.gaussian.tables import line_moments
from finitewidth.precision import float64


def without_facts(name: str) -> fw.Activation:
    """The same σ, of which only the kinks are known."""
    known = fw.activations.named(name)
    return fw.Activation(known.function, kinks=known.kinks)


@pytest.mark.parametrize(
    ("activation", "K", "road"),
    [
        (fw.activations.relu, 1.0, ClosedFormMap),
        (fw.activations.tanh, 1.0, TableMap),
        (fw.activations.elu(), 1.0, TableMap),
        (fw.activations.hardtanh(), 1.0, PiecewiseMap),
        (without_facts("hardtanh"), 1.0, DirectMap),
    ],
    ids=["closed", "smooth", "kinked at 0", "piecewise", "kinked elsewhere"],
)
def test_road(activation: fw.Activation, K: float, road: type) -> None:
    kernels = np.full((1, 8), K)
    with float64():
        moments = line_moments(activation, kernels[0]).value[None]
        assert type(pair_map(activation, kernels, moments, [np.arange(8)])) is road


@pytest.mark.parametrize(
    "name",
    ["relu", "erf", "hardtanh", *(pytest.param(name, marks=pytest.mark.slow) for name in ("gelu", "sin", "cos"))],
)
def test_roads_agree_within_their_errors(name: str) -> None:
    """Through three layers: the known activation, and the same function of which little is known."""
    rng = np.random.default_rng(11)
    x = rng.normal(size=(4, 3))
    x[1] = x[0] + 1e-4 * x[2]
    x[3] = -x[2] + 1e-2 * x[0]
    networks = [fw.MLP(a, depth=3, C_b=0.1, C_W=1.3) for a in (fw.activations.named(name), without_facts(name))]
    one, other = (fw.flow(net, x, tensors="") for net in networks)
    for kernel in ("K", "Theta"):
        difference = np.abs(one[kernel].values - other[kernel].values).max((1, 2))
        stated = one[f"{kernel}_error"].values + other[f"{kernel}_error"].values
        assert np.all(difference <= stated)
        assert np.all(stated <= 1e-9 * np.abs(one[kernel].values).max((1, 2)))
