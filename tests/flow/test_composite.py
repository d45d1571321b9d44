"""The last layer as one series in the first: as right as the layers one by one, or refused."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from mpmath import mp, mpf

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


@pytest.fixture
def series(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """`fw.flow` of the last layer that takes the series, however few the pairs."""
    built = []

    def as_series(net: fw.MLP, x: np.ndarray) -> Any:
        with monkeypatch.context() as patch:
            patch.setattr(pairs, "_MANY_CLOSED_FORMS", 0)
            patch.setattr(pairs, "_FEW", 0)
            patch.setattr(
                pairs, "composite", lambda net, line, _: built.append(composite(net, line, np.inf)) or built[-1]
            )
            flow = fw.flow(net, x, tensors="", layers="last")
        assert built[-1] is not None
        return flow

    return as_series


@pytest.mark.parametrize(
    ("name", "depth"), [("erf", 12), pytest.param("tanh", 6, marks=pytest.mark.slow)], ids=["erf", "tanh"]
)
def test_as_right_as_the_layers_one_by_one(name: str, depth: int, series: Callable[..., Any]) -> None:
    net = fw.MLP(name, depth=depth, C_b=0.1, C_W=1.5)
    layers, fast = fw.flow(net, INPUTS, tensors="", layers="last"), series(net, INPUTS)
    for kernel in ("K", "Theta"):
        one, other = layers[kernel].values[0], fast[kernel].values[0]
        size = np.sqrt(np.diag(one))
        assert np.max(np.abs(one - other) / np.outer(size, size)) < 1e-11
        np.testing.assert_array_equal(other, other.T)
        assert np.max(np.abs(one - other)) <= float(layers[f"{kernel}_error"][0] + fast[f"{kernel}_error"][0])
        assert float(fast[f"{kernel}_error"][0]) <= 5e-11 * one.max()


@pytest.mark.parametrize("bias", [0.0, 0.3])
@pytest.mark.parametrize("apart", [1e-2, 1e-5, 1e-9])
def test_error_of_near_neighbours_is_honest(bias: float, apart: float, series: Callable[..., Any]) -> None:
    """Equal, opposite and nearly equal inputs of erf by the series, against 40 digits."""
    x = np.random.default_rng(11).normal(size=(6, 3))
    x[1], x[2], x[3], x[4] = x[0] + apart * x[5], -x[0] * (1 + apart), x[0], -x[1]
    net = fw.MLP("erf", depth=4, C_b=bias, C_W=1.3)
    flow = series(net, x)
    with mp.workdps(40):
        pairs = [(i, j) for i in range(6) for j in range(6)]
        G = {(i, j): mp.fdot(map(mpf, map(float, x[i])), map(mpf, map(float, x[j]))) / 3 for i, j in pairs}
        C_b, C_W = mpf(bias), mpf(1.3)
        K, Theta = ({p: c + d * G[p] for p in pairs} for c, d in ((C_b, C_W), (mpf(1), mpf(1))))
        for _ in range(3):
            norm = {(i, j): (1 + 2 * K[i, i]) * (1 + 2 * K[j, j]) for i, j in pairs}
            F = {p: 2 / mp.pi * mp.asin(2 * K[p] / mp.sqrt(norm[p])) for p in pairs}
            S = {p: 4 / mp.pi / mp.sqrt(norm[p] - 4 * K[p] ** 2) for p in pairs}
            Theta = {p: 1 + F[p] + C_W * S[p] * Theta[p] for p in pairs}
            K = {p: C_b + C_W * F[p] for p in pairs}
        for kernel, exact in (("K", K), ("Theta", Theta)):
            off = max(abs(mpf(float(flow[kernel].values[0][p])) - exact[p]) for p in pairs)
            assert off <= float(flow[f"{kernel}_error"][0]) <= 2e-11 * float(exact[0, 0])


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
        assert composite(net, line(net), np.inf) is None
