r"""A⁻¹ B by conjugate gradients, for many columns at once, preconditioned by a randomised Nyström approximation.

All columns are one system, (1 ⊗ A) vec(X) = vec(B), with the spectrum of A: every iteration is one matrix product,
which costs far less than as many products with vectors. P is A to rank r, and as if all that remains were as large as
the r-th eigenvalue s_r (Frangella, Tropp and Udell 2023, §2, 5):

    A ≈ U S Uᵀ + ρ ,     P⁻¹ = 1 + U [ (s_r + ρ)/(S + ρ) − 1 ] Uᵀ .
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import numpy as np
import scipy.linalg
from scipy.sparse.linalg import LinearOperator, cg

Columns = Callable[[np.ndarray], np.ndarray]
"""A symmetric matrix, by what it makes of columns (N, m)."""


@dataclass(frozen=True)
class Solution:
    """X with the residual B − A X, both (N, m); how many iterations, and whether the tolerance was reached.

    singular: whether they were given up, X being longer than an A of the eigenvalues that are asked for has it.
    """

    value: np.ndarray
    residual: np.ndarray
    iterations: int
    converged: bool
    singular: bool = False


class _TooLong(Exception):
    """Ends iterations; of scipy's there is no other end."""


def conjugate_gradients(
    A: Columns,
    B: np.ndarray,
    preconditioner: Columns,
    *,
    tolerance: float,
    iterations: int,
    least: float = 0.0,
    progress: Callable[[int, int], None] | None = None,
) -> Solution:
    """X with |B − A X| ≤ tolerance |B|, in the mean square over columns, every one in units of its own length.

    Ends where A has an eigenvalue below `least`: residuals of conjugate gradients are orthogonal to X, so that of m
    columns of unit length λ_min ≤ Σ_i x_i·A x_i/|X|² = Σ_i x_i·b_i/|X|² ≤ √m/|X|.
    """
    lengths = np.linalg.norm(B, axis=0)
    unit = B / np.where(lengths > 0, lengths, 1.0)
    done, reached = 0, unit.ravel()

    def count(X: np.ndarray) -> None:
        nonlocal done, reached
        done, reached = done + 1, X
        if progress is not None:
            progress(done, iterations)
        if least * float(np.linalg.norm(X)) > np.sqrt(B.shape[1]):
            raise _TooLong

    as_one = (
        LinearOperator((B.size, B.size), matvec=_of_vectors(each, B.shape), dtype=float) for each in (A, preconditioner)
    )
    singular = False
    try:
        reached, failed = cg(
            next(as_one), unit.ravel(), rtol=tolerance, atol=0.0, maxiter=iterations, M=next(as_one), callback=count
        )
    except _TooLong:
        singular, failed = True, 1
    value = reached.reshape(B.shape) * lengths
    return Solution(value, B - A(value), done, failed == 0, singular)


def _of_vectors(of_columns: Columns, shape: tuple[int, ...]) -> Columns:
    return lambda vector: of_columns(vector.reshape(shape)).ravel()


@dataclass(frozen=True)
class Nystrom:
    """A ≈ U S Uᵀ, S decreasing; `margin` is what rounding leaves of the eigenvalues that are zero."""

    U: np.ndarray
    S: np.ndarray
    margin: float

    @classmethod
    def of(cls, A: np.ndarray, rank: int) -> "Nystrom":
        """From the products of A with `rank` random directions, always the same ones."""
        N = len(A)
        directions = scipy.linalg.qr(np.random.default_rng(0).standard_normal((N, rank)), mode="economic")[0]
        sketch = A @ directions
        # Cholesky factors want a margin against rounding, which is taken off again
        margin = np.sqrt(N) * np.finfo(float).eps * float(np.linalg.norm(sketch))
        sketch += margin * directions
        inner = directions.T @ sketch
        root = scipy.linalg.cholesky(0.5 * (inner + inner.T), lower=True)
        half = scipy.linalg.solve_triangular(root, sketch.T, lower=True).T
        U, singular, _ = scipy.linalg.svd(half, full_matrices=False, overwrite_a=True)
        return cls(U, np.maximum(singular**2 - margin, 0.0), margin)

    def preconditioner(self, shift: float) -> Columns:
        """P⁻¹ of A + shift."""
        shifted = np.maximum(self.S + shift, self.margin)
        weight = (shifted[-1] / shifted - 1.0)[:, None]
        return cast(Columns, lambda columns: columns + self.U @ (weight * (self.U.T @ columns)))
