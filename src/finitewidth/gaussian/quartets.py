r"""Averages over every pair and every quartet of a few inputs, with derivatives that see the jumps of σ.

⟨∂ⁱσ⁽ᵏ⁾_a ∂ʲσ⁽ˡ⁾_b⟩ and ⟨σ⁽ⁱ⁾_a σ⁽ʲ⁾_b σ⁽ᵏ⁾_c σ⁽ˡ⁾_d⟩, where σ⁽ᵏ⁾ is the almost-everywhere derivative and ∂ the
derivative in the sense of distributions. For smooth σ they are the same (`subsets`), on lattices that
a narrow transition would slip through; else see `kinked`.
"""

from collections.abc import Sequence

import numpy as np

from finitewidth.activations import Activation
from finitewidth.gaussian.kinked import PairKey, kinked_pairs, kinked_quartets
from finitewidth.gaussian.subsets import averages_of_subsets

__all__ = ["PairKey", "pair_averages", "quartet_averages"]


def pair_averages(activation: Activation, K: np.ndarray, wanted: Sequence[PairKey]) -> dict[PairKey, np.ndarray]:
    """⟨∂ⁱσ⁽ᵏ⁾_a ∂ʲσ⁽ˡ⁾_b⟩ by (k, i, l, j): values and absolute errors, shape (2, N, N)."""
    if activation.kinks or activation.is_abrupt:
        return kinked_pairs(activation, K, wanted)
    orders = {(k, i, l, j): (k + i, l + j) for k, i, l, j in wanted}
    found = averages_of_subsets(activation, K, sorted(set(orders.values())))
    return {key: found[each] for key, each in orders.items()}


def quartet_averages(
    activation: Activation, K: np.ndarray, wanted: Sequence[tuple[int, ...]]
) -> dict[tuple[int, ...], np.ndarray]:
    """⟨σ⁽ⁱ⁾_a σ⁽ʲ⁾_b σ⁽ᵏ⁾_c σ⁽ˡ⁾_d⟩ by orders: values and absolute errors, shape (2, N, N, N, N)."""
    if activation.kinks or activation.is_abrupt:
        return kinked_quartets(activation, K, wanted)
    return averages_of_subsets(activation, K, wanted)
