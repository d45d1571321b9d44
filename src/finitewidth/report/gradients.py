"""Gradients: what arrives at the first layer of what leaves the last (PDLT ch. 5 and 9)."""

from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from finitewidth.architecture import MLP

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Gradients:
    """Expected squared gradients by layer, to leading order in 1/n; medians over inputs.

    jacobian: E Σ_j (∂z⁽ᴸ⁾_i/∂z⁽ℓ⁾_j)², ℓ = 1 … L (1 at ℓ = L).
    weights: E‖∂ℒ/∂W⁽ℓ⁾‖² / E‖∂ℒ/∂W⁽ᴸ⁾‖², Frobenius norms, ℓ = 1 … L.
    """

    jacobian: Array
    weights: Array

    @property
    def first_to_last(self) -> float:
        """Root of `weights` at ℓ = 1: the size of `W1.grad.norm()` relative to that of the last layer."""
        return float(np.sqrt(self.weights[0]))


def gradients(net: MLP, flow: xr.Dataset, mean_square: Array) -> Gradients:
    """Gradients of `net` for one input at a time, read off its flow.

    Backwards, g⁽ℓ⁾ = ∂ℒ/∂z⁽ℓ⁾ obeys g⁽ℓ⁾_j = σ'(z⁽ℓ⁾_j) Σ_i W⁽ℓ⁺¹⁾_ij g⁽ℓ⁺¹⁾_i, and E W² = C_W/n_ℓ, so

        E|g⁽ℓ⁾|² = χ⊥⁽ℓ⁾ E|g⁽ℓ⁺¹⁾|² ,     χ⊥⁽ℓ⁾ = C_W⁽ℓ⁺¹⁾ ⟨σ'σ'⟩_K⁽ℓ⁾ ,     E|∂z⁽ᴸ⁾_i/∂z⁽ℓ⁾|² = Π_{m=ℓ}^{L−1} χ⊥⁽ᵐ⁾ .

    There is no factor of widths: the variance is shared by the n_ℓ incoming weights, and as many neurons are summed
    over. A weight's gradient has the layer's input as a factor, ∂ℒ/∂W⁽ℓ⁾_ij = g⁽ℓ⁾_i a⁽ℓ⁻¹⁾_j, with a⁽⁰⁾ = x and
    a⁽ℓ⁾ = σ(z⁽ℓ⁾):

        E‖∂ℒ/∂W⁽ℓ⁾‖² / E‖∂ℒ/∂W⁽ᴸ⁾‖² = Π_{m=ℓ}^{L−1} χ⊥⁽ᵐ⁾ · n_{ℓ−1} A⁽ℓ⁻¹⁾ / (n_{L−1} A⁽ᴸ⁻¹⁾) ,
        A⁽⁰⁾ = |x|²/n_0 ,     A⁽ℓ⁾ = ⟨σσ⟩_K⁽ℓ⁾ = (K⁽ℓ⁺¹⁾ − C_b⁽ℓ⁺¹⁾)/C_W⁽ℓ⁺¹⁾ .

    Source: PDLT ch. 5 and 9 for χ⊥; the weight norms follow from it. Dropped: order 1/n. A loss over many inputs adds
    their gradients, which can cancel; this is each input's own. Checked against ensembles of real networks in the
    tests.

    Arguments
        net: the network, `n_in` given.
        flow: its flow on N inputs.
        mean_square: |x|²/n_0 of each, shape (N,).
    """
    chi_perp = flow["chi_perp"].values[: net.depth - 1]
    number = len(mean_square)
    jacobian = np.concatenate([np.cumprod(chi_perp[::-1], axis=0)[::-1], np.ones((1, number))])
    K = np.diagonal(flow["K"].values, axis1=1, axis2=2)
    C_b, C_W = net.per_layer("C_b")[1:, None], net.per_layer("C_W")[1:, None]
    A = np.concatenate([mean_square[None, :], (K[1:] - C_b) / C_W])
    fan_in = np.array([net.n_in, *net.widths], dtype=np.float64)[:, None]
    incoming = fan_in * A
    return Gradients(np.median(jacobian, axis=1), np.median(jacobian * incoming / incoming[-1], axis=1))
