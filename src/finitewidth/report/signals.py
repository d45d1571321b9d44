"""Signals: what the layers do to the size of an input and to the angle between two (PDLT ch. 4–5)."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from finitewidth.architecture import MLP

Array = NDArray[np.float64]

E_FOLDS = 4.0
"""|ln χ| · L up to which a network counts as critical: signals change by at most e⁴ ≈ 55 over the whole depth, L ≤ 4 ξ.

Power laws (K* = 0: χ⊥ = 1 − 1/ℓ, χ∥ = 1 − 2/ℓ) have |ln χ| · L ≈ 1 to 3 and are critical; networks of depth L ≲ 6 ξ
have been found trainable (Schoenholz et al. 2017), so the threshold is on the careful side.
"""


@dataclass(frozen=True)
class Spread:
    """Median, 5th and 95th percentile, over inputs or over pairs of inputs, one number for each layer."""

    median: Array
    low: Array
    high: Array

    @classmethod
    def over(cls, values: Array) -> "Spread":
        """Of `values` of shape (L, many)."""
        low, median, high = np.percentile(values, [5, 50, 95], axis=1)
        return cls(median, low, high)


@dataclass(frozen=True)
class Verdict:
    """Whether a perturbation explodes, vanishes or survives, from its susceptibility χ at the deep layers.

    word: "exploding", "vanishing" or "critical" (|ln χ| · L ≤ E_FOLDS); "undefined" where σ jumps and χ does not exist.
    chi: geometric mean of χ over the last third of the layers.
    e_folds: L ln χ, the logarithm of what the whole depth does to a perturbation at that rate.
    correlation_length: ξ = 1/|ln χ|, in layers; infinite at χ = 1.
    """

    word: Literal["exploding", "vanishing", "critical", "undefined"]
    chi: float
    e_folds: float
    correlation_length: float


@dataclass(frozen=True)
class Signals:
    """Size and angle of signals by layer, to leading order in 1/n.

    layer: 1 … L.
    K: E z² of a neuron at each layer (its spread is over inputs).
    correlation: ρ = K_ab / √(K_aa K_bb) over pairs of inputs; None for a single input.
    angle: arccos ρ in degrees; None for a single input.
    chi_parallel, chi_perp: susceptibilities from layer ℓ to ℓ + 1, median over inputs, ℓ = 1 … L − 1.
    growth: geometric mean of K⁽ℓ⁺¹⁾/K⁽ℓ⁾ over the last third of the layers.
    norms, angles: the verdicts, from χ∥ and χ⊥.
    """

    layer: NDArray[np.int64]
    K: Spread
    correlation: Spread | None
    correlation_mean: Array | None
    angle: Spread | None
    chi_parallel: Array
    chi_perp: Array
    growth: float
    norms: Verdict
    angles: Verdict


def signals(net: MLP, flow: xr.Dataset) -> Signals:
    """The signals of `net`, read off its flow (THEORY §2).

        χ∥ = C_W ⟨z σ σ'⟩/K ,   χ⊥ = C_W ⟨σ'σ'⟩ ,   δK⁽ᴸ⁾/δK⁽¹⁾ = Π χ∥ ,   ξ = 1/|ln χ| .

    Arguments
        net: the network.
        flow: its flow on N inputs: K (L, N, N), chi_parallel and chi_perp (L, N).
    """
    K = flow["K"].values
    sizes = np.diagonal(K, axis1=1, axis2=2)
    steps = slice(0, net.depth - 1)
    chi_parallel = np.median(flow["chi_parallel"].values[steps], axis=1)
    chi_perp = np.median(flow["chi_perp"].values[steps], axis=1)
    median = np.median(sizes, axis=1)
    correlation, mean, angle = _correlations(K, sizes)
    return Signals(
        layer=flow["layer"].values.astype(np.int64),
        K=Spread.over(sizes),
        correlation=correlation,
        correlation_mean=mean,
        angle=angle,
        chi_parallel=chi_parallel,
        chi_perp=chi_perp,
        growth=_deep_mean(median[1:] / median[:-1]) if net.depth > 1 else 1.0,
        norms=_verdict(chi_parallel, net.depth),
        angles=_verdict(chi_perp, net.depth),
    )


def _correlations(K: Array, sizes: Array) -> tuple[Spread | None, Array | None, Spread | None]:
    number = K.shape[1]
    if number == 1:
        return None, None, None
    upper = np.triu_indices(number, 1)
    rho, mean, angle = [], [], []
    for K_layer, size in zip(K, sizes, strict=True):  # layer by layer: N² numbers at a time
        std = np.sqrt(size)
        values = np.clip(K_layer[upper] / (std[upper[0]] * std[upper[1]]), -1.0, 1.0)
        rho.append(np.percentile(values, [5, 50, 95]))
        mean.append(values.mean())
        angle.append(np.degrees(np.arccos(rho[-1])))
    low, median, high = np.array(rho).T
    wide, middle, narrow = np.array(angle).T  # the smallest correlation is the widest angle
    return Spread(median, low, high), np.array(mean), Spread(middle, narrow, wide)


def _verdict(chi: Array, depth: int) -> Verdict:
    deep = _deep_mean(chi)
    if math.isnan(deep):
        return Verdict("undefined", deep, math.nan, math.nan)
    rate = math.log(deep) if deep > 0 else -math.inf
    e_folds = rate * depth
    if abs(e_folds) <= E_FOLDS:
        word: Literal["exploding", "vanishing", "critical", "undefined"] = "critical"
    else:
        word = "exploding" if e_folds > 0 else "vanishing"
    return Verdict(word, deep, e_folds, math.inf if rate == 0 else 1 / abs(rate))


def _deep_mean(values: Array) -> float:
    """Geometric mean over the last third of the layers (one layer at least); 1 where there is no step to take."""
    if len(values) == 0:
        return 1.0
    deep = values[-max(1, len(values) // 3) :]
    if np.any(np.isnan(deep)):
        return math.nan
    return float(np.exp(np.mean(np.log(deep)))) if np.all(deep > 0) else 0.0
