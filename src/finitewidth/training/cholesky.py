"""Cholesky factors that take the place of their matrix: of many inputs there is no room for a second one."""

from dataclasses import dataclass

import numpy as np
from scipy.linalg import blas, lapack

WORST = 1e-12
"""Reciprocal condition number below which a Cholesky factor is not relied upon."""

BLOCK = 2048
"""Columns of a block. Four times as many are LAPACK's in one piece."""


@dataclass(frozen=True)
class Cholesky:
    """A = L Lᵀ.

    Attributes
        factor: L in the lower triangle, in LAPACK's order; the upper one is still that of A.
        condition: reciprocal condition number of A in the 1-norm, estimated.
    """

    factor: np.ndarray
    condition: float

    def solve(self, right: np.ndarray) -> np.ndarray:
        """A⁻¹ right, (N, columns)."""
        return lapack.dpotrs(self.factor, right, lower=1)[0]

    @property
    def log_determinant(self) -> float:
        return float(2 * np.sum(np.log(self.factor.diagonal())))


def factored_in_place(A: np.ndarray, worst: float = WORST) -> Cholesky | None:
    """The Cholesky factor of a symmetric matrix in C order, which it overwrites.

    None where the matrix is singular to rounding, its condition below `worst`; it is then as it was: LAPACK writes one
    triangle, the other remains.
    """
    diagonal, norm = A.diagonal().copy(), lapack.dlange("1", A.T)
    factor = A.T
    condition = float(lapack.dpocon(factor, norm, uplo="L")[0]) if _factor(factor) else 0.0
    if condition > 0 and condition >= worst:
        return Cholesky(factor, condition)
    for start in range(0, len(A), 256):
        rows = slice(start, start + 256)
        block = A[rows, rows]
        block[:] = np.tril(block, -1) + np.tril(block, -1).T
        A[rows, start + 256 :] = A[start + 256 :, rows].T
    np.fill_diagonal(A, diagonal)
    return None


def _factor(A: np.ndarray) -> bool:
    """L over the lower triangle of A, which is in LAPACK's order, by blocks of columns; whether there is one.

    OpenBLAS 0.3.31 ends the process (a segmentation fault in dpotrf) with two threads and 16,000 rows; of one block it
    does not. See OpenBLAS issues 352 and 2562.
    """
    N, block = len(A), BLOCK if len(A) > 4 * BLOCK else len(A)
    for start in range(0, N, block):
        here, below = slice(start, start + block), slice(start + block, N)
        corner, failed = lapack.dpotrf(A[here, here], lower=1, clean=0)
        if failed:
            return False
        A[here, here] = corner
        A[below, here] = blas.dtrsm(1.0, corner, A[below, here], side=1, lower=1, trans_a=1)
        rows = A.T  # products come in C order
        for first in range(start + block, N, block):
            columns, rest = slice(first, first + block), slice(first + block, N)
            left = rows[here, columns].T
            rows[columns, columns] -= np.triu(left @ rows[here, columns])
            rows[columns, rest] -= left @ rows[here, rest]
    return True


def compacted(view: np.ndarray) -> np.ndarray:
    """The leading block of a matrix in C order, moved to the front of the memory that the matrix has.

    LAPACK's wrappers would copy a block whose rows do not follow one another. The matrix is lost.
    """
    whole, size = view.base, len(view)
    is_leading = isinstance(whole, np.ndarray) and whole.flags.c_contiguous and whole.ctypes.data == view.ctypes.data
    if view.flags.c_contiguous or not is_leading:
        return np.ascontiguousarray(view)
    assert isinstance(whole, np.ndarray)
    flat = whole.reshape(-1)
    for row in range(size):  # never beyond what has been read
        flat[row * size : (row + 1) * size] = view[row]
    return flat[: size * size].reshape(size, size)
