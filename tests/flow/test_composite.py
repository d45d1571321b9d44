"""The last layer as one series in the first: as right as the layers one by one, or refused."""

import numpy as np
import pytest

import finitewidth as fw
from finitewidth.flow import pairs
from finitewidth.flow.composite import composite
from finitewidth.flow.line import line_flow
from finitewidth.precision import float64

INPUTS = np.random.default_rng(8).normal(size=(70, 6)) * np.geomspace(0.4, 2.5, 70)[:, None]
INPUTS[1] = INPUTS[0] * (1 + 1e-9)
INPUTS[2] = -INPUTS[0]
INPUTS[3] = INPUTS[4]
INPUTS[5] = INPUTS[6] + 1e-5 * INPUTS[7]


def line(net: fw.MLP):
    return line_flow(net, np.mean(INPUTS**2, axis=1))


@pytest.mark.parametrize(("name", "depth"), [("erf", 12), ("tanh", 6)])
def test_as_right_as_the_layers_one_by_one(name: str, depth: int, monkeypatch: pytest.MonkeyPatch) -> None:
    net = fw.MLP(name, depth=depth, C_b=0.1, C_W=1.5)
    layers = fw.flow(net, INPUTS, tensors="", layers="last")
    monkeypatch.setattr(pairs, "_MANY_PAIRS", 0)
    monkeypatch.setattr(pairs, "_MANY_CLOSED_FORMS", 0)
    series = fw.flow(net, INPUTS, tensors="", layers="last")
    for kernel in ("K", "Theta"):
        one, other = layers[kernel].values[0], series[kernel].values[0]
        assert not np.array_equal(one, other)  # another road
        size = np.sqrt(np.diag(one))
        assert np.max(np.abs(one - other) / np.outer(size, size)) < 1e-11
        np.testing.assert_array_equal(other, other.T)
        assert np.max(np.abs(one - other)) <= float(layers[f"{kernel}_error"][0] + series[f"{kernel}_error"][0])


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("relu", {"depth": 5, "C_W": 2.0}),
        ("elu", {"depth": 5}),
        ("erf", {"depth": 2}),
        ("erf", {"depth": 40, "C_W": 6.0}),  # chaotic: inputs 1e-9 apart end up in different directions
    ],
    ids=["kink", "kink of the slope", "one average", "chaos"],
)
def test_refused(name: str, options: dict) -> None:
    net = fw.MLP(name, C_b=0.1, **options)
    with float64():
        assert composite(net, line(net)) is None
