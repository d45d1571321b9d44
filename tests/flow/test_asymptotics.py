"""Large depth: exponents and coefficients of every tensor, K* = 0 class (FACTS 4.4), as in docs/asymptotics.md."""

import jax.numpy as jnp
import numpy as np
import pytest

import finitewidth as fw
from finitewidth.flow.vertex import TENSORS

MIXED = fw.Activation(lambda z: jnp.sin(z) + 0.3 * (1 - jnp.cos(z)), name="mixed")
DEPTH = 10_000


def coefficients(p: float, phi: float) -> dict[str, float]:
    """In units of `unit`."""
    return {
        "V": 2 / 3, "G1": -1 / 3, "F": 1 / (5 - p), "B": 1 / 3, "D": 2 / 9 * (phi - p), "A": 4 / 27 * (phi - p) ** 2,
        "P": -(2 - p) / (3 * (5 - p)), "Q": (phi - p) / (5 - p) ** 2,
        "R": ((3 * p - 4) / 3 - (phi - p) * (2 - p) / (3 * (5 - p))) / (5 - p), "S": (phi + 4 - 4 * p) / (3 * (5 - p)),
        "T": 2 * (phi - p) ** 2 / (5 - p) ** 3, "U": 4 * (1 - p) / (4 - p),
        "H1": 0.5 * (-(phi - p) / 3 - 2 / 9 * p * (phi - p) - 2 * p / (5 - p)),
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("phi", [0.0, 0.5, 1.0])
@pytest.mark.parametrize(("activation", "a1", "b1"), [("tanh", -2, -2), ("sin", -1, -1), (MIXED, -0.9325, -0.91)])
def test_tensors_at_large_depth(activation, a1: float, b1: float, phi: float) -> None:
    p, l = b1 / a1, np.arange(1, DEPTH + 1.0)
    lambda_b, lambda_W = (1 - phi) * l**-p * DEPTH ** (p - 1), -phi * a1 * (DEPTH / l) ** (p - 1)
    net = fw.MLP(activation, depth=DEPTH, width=10**6, lambda_b=list(lambda_b), lambda_W=list(lambda_W))
    flow = fw.flow(net, [[0.7]], order=1)
    K, Th = 1 / (-a1 * l), (DEPTH / l) ** (p - 1)
    unit = dict.fromkeys("ABPQ", l * Th**2) | dict.fromkeys("RST", -a1 * l**2 * Th**3) | dict.fromkeys("DF", l * K * Th)
    unit |= {"V": l * K**2, "G1": l * K, "H1": l * Th, "U": -a1 * l * Th**3}
    at = np.unique(np.geomspace(DEPTH / 8, DEPTH, 24).astype(int))
    log = np.log(at)
    terms = np.stack([np.ones(len(at)), 1 / at, log / at, 1 / at**2, log**2 / at**2, log / at**2], 1)
    size = np.abs(terms).max(0)
    for name in TENSORS:
        values = (flow[name].values.reshape(DEPTH) / unit[name])[at - 1]
        limit = np.linalg.lstsq(terms / size, values, rcond=None)[0][0]
        assert limit == pytest.approx(coefficients(p, phi)[name], abs=3e-5), name
