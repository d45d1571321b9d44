"""Initialisations by name, and the one this library advises beside the user's own."""

from dataclasses import replace
from typing import Any

import numpy as np

from finitewidth.architecture import MLP
from finitewidth.criticality import critical, initialisation

TITLES = {
    "torch": "PyTorch's default initialisation",
    "kaiming": "Kaiming initialisation",
    "xavier": "Xavier initialisation",
    "lecun": "LeCun initialisation",
    "critical": "Critical initialisation",
    "yours": "Your initialisation",
}


def default_network(n_in: int, mean_square: float) -> MLP:
    """GELU, depth 24, width 512, 10 outputs, as PyTorch initialises it, trained by plain SGD."""
    net = MLP("gelu", depth=24, width=512, n_in=n_in, n_out=10)
    return initialised(with_plain_sgd(net), "torch", mean_square)


def with_plain_sgd(net: MLP) -> MLP:
    """`net` with the learning-rate tensor of one step for all parameters: λ_b = 1, λ_W⁽ℓ⁾ = n_{ℓ−1} (its `n_in` given)."""
    assert net.n_in is not None
    return replace(net, lambda_b=1.0, lambda_W=tuple(map(float, (net.n_in, *net.widths))))


def initialised(net: MLP, scheme: str, mean_square: float) -> MLP:
    """`net` with the C_b and C_W of `scheme`; `mean_square` = |x|²/n_0 of a typical input."""
    C_b, C_W = initialisation(scheme, net, mean_square)
    return replace(net, C_b=tuple(map(float, C_b)), C_W=tuple(map(float, C_W)))


def critical_twin(net: MLP, mean_square: float) -> tuple[Any, MLP]:
    """What is known of the activation's critical points, and `net` at the initialisation advised."""
    return critical(net.activation), initialised(net, "critical", mean_square)


def point_in_words(point: Any, net: MLP) -> str:
    return point.reason


def point_to_dict(point: Any) -> dict[str, Any]:
    """A critical point with the keys of `finitewidth critical NAME --json`."""
    keys = ("activation", "universality_class", "C_b", "C_W", "K_star", "chi_parallel", "chi_perp", "points", "reason")
    return {key: getattr(point, key) for key in keys}
