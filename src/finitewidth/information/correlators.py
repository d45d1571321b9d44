"""Four-index correlators between neurons: which pairs of neurons agree decides which tensor enters (PDLT ch. 4, 8)."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Neurons = tuple[int, int, int, int]


def over_pairings(neurons: Neurons, paired: Array, crossed: Array) -> Array:
    """δ_ij δ_km X_{abcd} + δ_ik δ_jm Y_{acbd} + δ_im δ_jk Y_{adbc} for neurons (i, j, k, m) with samples (a, b, c, d).

    X = Y = V for the four-point function of preactivations; X = A, Y = B for the covariance of the NTK, X = D, Y = F
    for that of the NTK with two preactivations (FACTS §1.4).

    Arguments
        paired, crossed: X and Y, (N, N, N, N).

    Returns
        (N, N, N, N), axes a, b, c, d.
    """
    i, j, k, m = neurons
    # result[a, b, c, d] = Y[a, c, b, d] is Y.transpose(0, 2, 1, 3); Y[a, d, b, c] is Y.transpose(0, 2, 3, 1)
    return (
        (i == j and k == m) * paired
        + (i == k and j == m) * crossed.transpose(0, 2, 1, 3)
        + (i == m and j == k) * crossed.transpose(0, 2, 3, 1)
    )
