r"""Trained networks at infinite width: over initialisations outputs are Gaussian, at every time (PDLT §10.2).

    z_X = z_X(0) − g (z_T(0) − y) ,     z(0) ~ N(0, K)   independently for every output, so

    E z_X = g y ,     Cov[z_X, z_X'] = K_XX' − g K_TX' − K_XT gᵀ + g K_TT gᵀ ,

with the gain g of the algorithm (`finitewidth.training.modes`). The Bayesian posterior has g = K_XT (K_TT + noise)⁻¹
and the covariance K_XX' − g K_TX'.
"""

from dataclasses import dataclass

import numpy as np
import scipy.linalg

from finitewidth.algorithms import Algorithm
from finitewidth.training.modes import Modes, check_step, is_ended, largest_rate, trained

_WORST = 1e-12
"""Reciprocal condition number below which a Cholesky factor is not relied upon."""


@dataclass(frozen=True)
class Gain:
    """g of shape (N_X, N_T), its relative error, and what a reader must know of it."""

    value: np.ndarray
    error: float
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Kernels:
    """K and Θ of all inputs with their absolute errors, and which inputs are trained on and asked about."""

    K: np.ndarray
    Theta: np.ndarray
    K_error: float
    Theta_error: float
    train: np.ndarray
    test: np.ndarray

    @property
    def K_TT(self) -> np.ndarray:
        return self.K[np.ix_(self.train, self.train)]

    @property
    def K_XT(self) -> np.ndarray:
        return self.K[np.ix_(self.test, self.train)]

    @property
    def K_XX(self) -> np.ndarray:
        return self.K[np.ix_(self.test, self.test)]

    @property
    def Theta_TT(self) -> np.ndarray:
        return self.Theta[np.ix_(self.train, self.train)]

    @property
    def Theta_XT(self) -> np.ndarray:
        return self.Theta[np.ix_(self.test, self.train)]


def gain(algorithm: Algorithm, kernels: Kernels, regularisation: float) -> Gain:
    """g = Θ_XT φ(Θ_TT + ρ), by Cholesky where only the end of training is asked for, else mode by mode.

    Raises
        InputError: for a step beyond the bound of stability.
    """
    Theta = kernels.Theta_TT
    added = Theta + regularisation * np.eye(len(Theta))
    check_step(algorithm, largest_rate(added))
    if is_ended(algorithm) and (solved := solve(added, kernels.Theta_XT)) is not None:
        return solved
    modes = Modes.of(added)
    phi = trained(algorithm, modes.rates) / modes.rates
    value = ((kernels.Theta_XT @ modes.vectors) * phi) @ modes.vectors.T
    # δg = Θ_XT δφ, and |φ'| ≤ φ² (of the flow): a mode that is hardly trained does not carry errors as 1/λ would
    error = np.finfo(float).eps * max(1.0, float(modes.rates[-1] * np.abs(phi).max()))
    return Gain(value, error, left_out_notes(modes))


def solve(matrix: np.ndarray, right: np.ndarray) -> Gain | None:
    """right · matrix⁻¹ by Cholesky; None where the matrix is singular to rounding."""
    try:
        factor = scipy.linalg.cho_factor(matrix, lower=True)
    except scipy.linalg.LinAlgError:
        return None
    condition, _ = scipy.linalg.lapack.dpocon(factor[0], np.abs(matrix).sum(0).max(), uplo="L")
    if condition < _WORST:
        return None
    value = scipy.linalg.cho_solve(factor, right.T).T
    return Gain(value, np.finfo(float).eps / float(condition))


def left_out_notes(modes: Modes) -> tuple[str, ...]:
    if not modes.left_out:
        return ()
    return (
        f"{modes.left_out} of {len(modes.vectors)} modes of Θ on the training inputs are zero to rounding (duplicate "
        "or dependent inputs): they are not trained, and labels along them not fitted",
    )


def trained_covariance(g: np.ndarray, kernels: Kernels) -> np.ndarray:
    """K_XX − g K_TX − K_XT gᵀ + g K_TT gᵀ, shape (N_X, N_X)."""
    half = g @ (0.5 * kernels.K_TT @ g.T - kernels.K_XT.T)
    return kernels.K_XX + half + half.T
