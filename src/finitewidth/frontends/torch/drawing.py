"""Weights of a given variance: Gaussian, or orthogonal.

Orthogonal: W of shape (m, n) = (fan_out, fan_in) is √c Q, with Q uniform among the matrices whose columns (m ≥ n) or
rows (m ≤ n) are orthonormal. The squares of Q's entries sum to min(m, n), so that E Q_ij² = 1/max(m, n), and
E Q_ij Q_ik = 0 for j ≠ k; the preactivations' variance is therefore what C_W says, E z_i² = (C_W/n)|s|², for

    c = C_W max(m, n)/n ,        (gain √c of `torch.nn.init.orthogonal_`)

in layers of any shape. K and Θ at infinite width are those of Gaussian weights. What happens at order 1/n is not: for
m ≥ n the layer keeps |z|²/m = C_W|s|²/n to the last digit, where Gaussian weights add fluctuations of relative variance
2/m. With square layers, the variance of |z⁽ᴸ⁾|²/n over networks is, exactly and in units of its squared mean,

    deep linear    0                       (Gaussian: (1 + 2/n)^L − 1)
    ReLU           (1 + 3/(n + 2))^L − 1   (Gaussian: (1 + 5/n)^L − 1)

with L activations passed, and for tanh it does not grow with depth at first order in 1/n (Day, Kahn, Roberts,
arXiv:2310.07765). A convolution's matrix is that of one patch, (channels out, channels in × kernel), of each group.
"""

from math import sqrt
from typing import Any, Literal, get_args

import torch

from finitewidth.errors import InputError

Distribution = Literal["normal", "orthogonal"]


def checked_distribution(distribution: Any) -> Distribution:
    if distribution not in get_args(Distribution):
        raise InputError(f"`distribution` must be 'normal' or 'orthogonal', but got {distribution!r}")
    return distribution  # type: ignore[no-any-return]


def draw_weight_(
    weight: torch.Tensor, C_W: float, *, groups: int, distribution: Distribution, generator: torch.Generator | None
) -> None:
    """Fill `weight` (neurons first) with numbers of variance C_W/fan_in, in place."""
    fan_in = weight[0].numel()
    # in the usual order whatever the memory format: the same numbers, and orthogonal_ takes no other
    drawn = torch.empty_like(weight, memory_format=torch.contiguous_format)
    if distribution == "normal" or C_W == 0:
        drawn.normal_(0.0, sqrt(C_W / fan_in), generator=generator)
    else:
        for group in drawn.chunk(groups):
            gain = sqrt(C_W * max(group.shape[0], fan_in) / fan_in)
            torch.nn.init.orthogonal_(group, gain, generator=generator)
    weight.copy_(drawn)
