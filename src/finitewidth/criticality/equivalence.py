r"""Learning rates by layer that let every layer learn alike (PDLT §9.4: learning-rate equivalence).

Layer ℓ adds to the tangent kernel of the outputs what its own parameters make, carried on by the layers after it,

    Θ⁽ᴸ⁾ = Σ_ℓ [ λ_b⁽ℓ⁾ + λ_W⁽ℓ⁾ ⟨σσ⟩⁽ℓ⁻¹⁾ ] Π_{ℓ'=ℓ}^{L−1} χ⊥⁽ℓ'⁾          (⟨σσ⟩⁽⁰⁾ = |x|²/n_0)

so that all 2L contributions are Θ⁽ᴸ⁾/(2L) for

    λ_b⁽ℓ⁾ = Θ⁽ᴸ⁾ / (2L Π χ⊥) ,     λ_W⁽ℓ⁾ = λ_b⁽ℓ⁾ / ⟨σσ⟩⁽ℓ⁻¹⁾ .

At criticality and large depth this is the book's scaling by universality class: 1/L for both where every K is a fixed
point (and K* > 0); λ_b ∝ ℓ^(−p) L^(p−1) and λ_W ∝ (L/ℓ)^(p−1), p = p⊥, for K* = 0.
"""

import math
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any

import numpy as np

from finitewidth.architecture import Architecture, check_net
from finitewidth.errors import InputError
from finitewidth.flow.line import line_flow
from finitewidth.precision import in_float64


@dataclass(frozen=True)
class LearningRates:
    """Relative learning rates by layer, ℓ = 1 … L. Made by `fw.learning_rates`.

    Attributes
        lambda_b, lambda_W: the rates, tuples of L numbers.
        carried: Π_{ℓ'=ℓ}^{L−1} χ⊥, how much of a layer's own tangent kernel reaches the outputs, L numbers.
        network: the network with these rates.
    """

    lambda_b: tuple[float, ...]
    lambda_W: tuple[float, ...]
    carried: tuple[float, ...]
    network: Architecture


@in_float64
def learning_rates(net: Architecture, *, mean_square: float = 1.0, Theta: float = 1.0) -> LearningRates:
    """λ_b and λ_W by layer such that biases and weights of every layer contribute alike to the tangent kernel.

    Source: PDLT §9.4. Leading order; what is dropped is of order 1/n.

    Arguments
        net: the network; its own λ_b and λ_W do not matter.
        mean_square: |x|²/n_0 of a typical input, positive; 1 for standardised data.
        Theta: what Θ⁽ᴸ⁾ of such an input shall be, at any depth: 1 makes steps of gradient descent alike across depths.

    Returns
        `LearningRates`: the rates, and the network that has them.

    Raises
        InputError: for numbers that are not positive, or where a layer's kernel vanishes or no gradient gets through.

    >>> import finitewidth as fw
    >>> rates = fw.learning_rates(fw.MLP("relu", depth=4, width=100, C_W=2.0))
    >>> [round(rate, 12) for rate in rates.lambda_b]  # scale-invariant: 1/(2L) in every layer
    [0.125, 0.125, 0.125, 0.125]
    """
    check_net(net)
    square, target = _positive("mean_square", mean_square), _positive("Theta", Theta)
    line = line_flow(net, np.array([square]))
    chi, moment = line.chi_perp[:-1, 0], np.concatenate([[square], line.moments[:-1, 0, 0]])
    carried = np.concatenate([np.cumprod(chi[::-1])[::-1], [1.0]])
    for name, values in (("no gradient gets through", carried), ("σ vanishes", moment)):
        if not np.all((values > 1e-200) & (values < 1e200)):
            layer = int(np.argmin((values > 1e-200) & (values < 1e200))) + 1
            raise InputError(
                f"`net`: {name} at layer {layer} (to the range of numbers); use other C_b, C_W or less depth"
            )
    of_biases = target / (2 * net.depth * carried * net.added**2)
    of_weights = of_biases / moment
    lambda_b, lambda_W = (tuple(float(each) for each in values) for values in (of_biases, of_weights))
    return LearningRates(
        lambda_b, lambda_W, tuple(carried.tolist()), replace(net, lambda_b=lambda_b, lambda_W=lambda_W)
    )


def _positive(name: str, value: Any) -> float:
    number = float(value) if isinstance(value, Real) and not isinstance(value, bool) else math.nan
    if not 0 < number < math.inf:
        raise InputError(f"`{name}` must be a positive number, but got {value!r}")
    return number
