"""Finite width: how much one network differs from the next, and whether first order says it (PDLT ch. 3–5)."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from finitewidth.architecture import MLP

Array = NDArray[np.float64]

_TINY = np.finfo(np.float64).tiny / np.finfo(np.float64).eps  # smaller numbers lose digits

GOOD, POOR = 0.1, 0.5
"""Where first order is trusted: max(V/(nK²), r) ≤ 0.1 yes, up to 0.5 roughly, beyond it no.

ReLU at criticality is solved to all orders, Var(Ĝ)/K² = e^{5r} − 1 with first order 5r (FACTS 4.2): at 5r = 0.1 first
order is 5 % short of it, at 0.5 it is 23 % short, at 1 it is 42 % short.
"""


@dataclass(frozen=True)
class FiniteWidth:
    """The 1/n expansion at this width.

    r: depth over width, L × the mean of 1/n_ℓ over hidden layers; L/n for equal widths. 0 without hidden layers.
    ratio: V⁽ℓ⁾/(n_{ℓ−1} K⁽ℓ⁾²) by layer, ℓ = 1 … L, median over inputs: the relative variance of a layer's mean square.
    scale_std: √ratio at the output: relative standard deviation, over initialisations, of the variance Ĝ of the
        outputs.
    norm_std: relative standard deviation, over initialisations, of the mean square of the n_L outputs (formula:
        `finite_width`).
    gaussian_std: √(2/n_L), what `norm_std` would be for an infinitely wide network.
    first_order: "good", "rough" or "not to be trusted" (thresholds: GOOD, POOR).
    """

    r: float
    ratio: Array
    scale_std: float
    norm_std: float
    gaussian_std: float
    first_order: Literal["good", "rough", "not to be trusted"]


def finite_width(net: MLP, flow: xr.Dataset) -> FiniteWidth:
    """The 1/n expansion of `net`, read off the four-point vertices V of its flow.

    Given the last hidden layer, the outputs are independent N(0, Ĝ), and Ĝ has mean K and variance V/n. The mean
    square of the n_L outputs, Q = Σ_i z_i²/n_L, then has E Q = K and, by the law of total variance,

        Var Q / K² = V/(nK²) + (2/n_L) (1 + V/(nK²)) .

    Source: PDLT ch. 4 (four-point vertex), ch. 5 for its size. Order 1/n; dropped: order 1/n², the shift G1/n of the
        mean.
    """
    K = np.diagonal(flow["K"].values, axis1=1, axis2=2)
    fan_in = np.array([1.0, *net.widths])[:, None]  # V⁽¹⁾ = 0: the first entry divides nothing
    with np.errstate(divide="ignore", invalid="ignore"):
        # K² leaves float64 long before K does, and takes V with it
        ratio = np.where(K**2 > _TINY, flow["V"].values / (fan_in * K**2), np.nan)
    ratio = np.median(ratio, axis=1)
    r = net.depth * float(np.mean([1 / n for n in net.widths])) if net.widths else 0.0
    epsilon = float(ratio[-1])
    expansion = max(r, epsilon)  # r where the ratio is NaN
    return FiniteWidth(
        r=r,
        ratio=ratio,
        scale_std=math.sqrt(epsilon),
        norm_std=math.sqrt(epsilon + 2 / net.n_out * (1 + epsilon)),
        gaussian_std=math.sqrt(2 / net.n_out),
        first_order="good" if expansion <= GOOD else "rough" if expansion <= POOR else "not to be trusted",
    )
