"""K = L Lᵀ with as many columns as K has rank: jointly Gaussian inputs from independent ones, z = L x."""

import numpy as np

from finitewidth.errors import InputError

_EPS = float(np.finfo(float).eps)


def factor(K: np.ndarray) -> np.ndarray:
    """L of shape (m, rank) with K = L Lᵀ, by Cholesky with pivots on the correlation matrix.

    Every pivot adds one variable x, so L is triangular in the order of the pivots; duplicated and collinear inputs add
    none. The sums are carried in extended precision: what a near-collinear input leaves of a variance is a small
    difference, and kinked functions feel its square root.

    Raises
        InputError: if K is not square, symmetric, finite and positive semidefinite (up to rounding).
    """
    K = np.asarray(K, dtype=np.float64)
    _check(K)
    variance = np.diag(K).astype(np.longdouble)
    std = np.sqrt(variance)
    plain = np.flatnonzero(variance > 0)
    rho = K[np.ix_(plain, plain)].astype(np.longdouble) / (std[plain, None] * std[plain])
    np.fill_diagonal(rho, 1.0)
    columns: list[np.ndarray] = []
    pivots: list[int] = []
    left = np.ones(len(plain), dtype=np.longdouble)
    # an eigenvalue may come out that far below zero for a matrix that was computed as a product
    negligible = 8 * max(1, len(plain)) * _EPS
    while len(plain) and left.max() > negligible:
        pivot = int(np.argmax(left))
        column = rho[:, pivot] - sum((c * c[pivot] for c in columns), np.zeros(len(plain), dtype=np.longdouble))
        # what rounding alone leaves of a copy; more than that is real even where the variance left has rounded to 0
        column[(left <= 0) & (np.abs(column) <= negligible)] = 0.0
        column[pivots] = 0.0
        column = column / np.sqrt(left[pivot])
        pivots.append(pivot)
        left = left - column * column
        left[pivot] = 0.0
        columns.append(column)
    L = np.zeros((len(K), len(columns)))
    if columns:
        L[plain] = (std[plain, None] * np.stack(columns, axis=1)).astype(np.float64)
    return L


def _check(K: np.ndarray) -> None:
    if K.ndim != 2 or K.shape[0] != K.shape[1] or not K.size:
        raise InputError(f"`K` must be a square matrix of shape (m, m), one row for each argument, but got {K.shape}")
    if not np.all(np.isfinite(K)):
        raise InputError("`K` must hold finite numbers, but has NaN or infinite entries")
    variance = np.diag(K)
    if np.any(variance < 0):
        raise InputError(f"`K` has the negative variance {variance.min():g} on its diagonal")
    std = np.sqrt(variance)
    apart = np.abs(K - K.T)
    # numbers below the normal ones are not rounded relatively to their size
    if np.any(apart > np.maximum(8 * _EPS * np.maximum(np.abs(K), np.abs(K.T)), np.finfo(np.float64).tiny)):
        i, j = np.unravel_index(np.argmax(apart), K.shape)
        raise InputError(f"`K` must be symmetric, but K[{i}, {j}] = {K[i, j]:.17g} and K[{j}, {i}] = {K[j, i]:.17g}")
    plain = std > 0
    if np.any(K[~plain] != 0):
        raise InputError("`K` is not positive semidefinite: an input of zero variance has a covariance with another")
    lowest = np.linalg.eigvalsh(K[np.ix_(plain, plain)] / std[plain, None] / std[plain]).min(initial=0.0)
    if lowest < -64 * len(K) * _EPS:
        raise InputError(
            f"`K` is not positive semidefinite: its correlation matrix has the eigenvalue {lowest:.3g}; "
            "check how it was computed"
        )
