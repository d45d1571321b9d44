r"""Trained networks at infinite width: over initialisations outputs are Gaussian, at every time (PDLT §10.2).

    z_X = z_X(0) − g (z_T(0) − y) ,     z(0) ~ N(0, K)   independently for every output, so

    E z_X = g y ,     Cov[z_X, z_X'] = K_XX' − g K_TX' − K_XT gᵀ + g K_TT gᵀ ,

with the gain g of the algorithm (`finitewidth.training.modes`). The Bayesian posterior has g = K_XT (K_TT + noise)⁻¹
and the covariance K_XX' − g K_TX'.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import scipy.linalg

from finitewidth.algorithms import Algorithm
from finitewidth.training.cholesky import WORST
from finitewidth.training.modes import Modes, check_step, has_bound, is_ended, largest_rate, trained


@dataclass(frozen=True)
class Gain:
    """g of shape (N_X, N_T), its relative error, and what a reader must know of it.

    Attributes
        error: of rounding. Errors of the kernels are amplified as it is. left_out: the length of what is missing
            beside, at most, (N_X,).
    """

    value: np.ndarray
    error: float
    notes: tuple[str, ...] = ()
    left_out: np.ndarray | None = None


class Blocks(Protocol):
    """K and Θ between training inputs T and the inputs X that are asked about."""

    @property
    def K_TT(self) -> np.ndarray: ...
    @property
    def K_XT(self) -> np.ndarray: ...
    @property
    def K_XX(self) -> np.ndarray: ...
    @property
    def K_size(self) -> float: ...
    @property
    def Theta_size(self) -> float: ...
    @property
    def K_error(self) -> float: ...
    @property
    def Theta_error(self) -> float: ...


@dataclass(frozen=True)
class Outputs:
    """Mean (X, n_L) and covariance of one output (X, X), with errors of the mean and the variance, (X, n_L).

    Attributes
        log_evidence: of `Bayes`, where it is known. doubt: why not to rely on them, or nothing.
    """

    mean: np.ndarray
    covariance: np.ndarray
    mean_error: np.ndarray
    variance_error: np.ndarray
    notes: tuple[str, ...] = ()
    log_evidence: float | None = None
    doubt: str = ""


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

    @property
    def K_size(self) -> float:
        """The largest entry."""
        return _largest(self.K)

    @property
    def Theta_size(self) -> float:
        return _largest(self.Theta)


def _largest(matrix: np.ndarray) -> float:
    """Without a second matrix of its size."""
    return float(max(matrix.max(), -matrix.min()))


def gain(algorithm: Algorithm, kernels: Kernels, regularisation: float) -> Gain:
    """g = Θ_XT φ(Θ_TT + ρ), by Cholesky where only the end of training is asked for, else mode by mode.

    Raises
        InputError: for a step beyond the bound of stability.
    """
    Theta = kernels.Theta_TT
    added = Theta + regularisation * np.eye(len(Theta))
    if has_bound(algorithm):
        check_step(algorithm, largest_rate(added))
    if is_ended(algorithm) and (solved := solve(added, kernels.Theta_XT)) is not None:
        return solved
    return gain_by_modes(algorithm, added, kernels.Theta_XT)


def gain_by_modes(algorithm: Algorithm, Theta: np.ndarray, Theta_XT: np.ndarray) -> Gain:
    """The same from the modes of Θ_TT + ρ."""
    modes = Modes.of(Theta)
    phi = trained(algorithm, modes.rates) / modes.rates
    value = ((Theta_XT @ modes.vectors) * phi) @ modes.vectors.T
    # δg = Θ_XT δφ, and |φ'| ≤ φ² (of the flow): a mode that is hardly trained does not carry errors as 1/λ would
    error = np.finfo(float).eps * max(1.0, float((modes.rates[-1:] * np.abs(phi).max(initial=0.0)).sum()))
    return Gain(value, error, left_out_notes(modes))


def solve(matrix: np.ndarray, right: np.ndarray) -> Gain | None:
    """right · matrix⁻¹ by Cholesky; None where the matrix is singular to rounding."""
    try:
        factor = scipy.linalg.cho_factor(matrix, lower=True)
    except scipy.linalg.LinAlgError:
        return None
    condition, _ = scipy.linalg.lapack.dpocon(factor[0], np.abs(matrix).sum(0).max(), uplo="L")
    if condition < WORST:
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


def outputs_of(
    g: Gain, covariance: np.ndarray, kernels: Blocks, targets: np.ndarray, log_evidence: float | None = None
) -> Outputs:
    """What the gain makes of the targets, and of the errors: those of kernels are amplified as rounding is."""
    sizes = (kernels.Theta_error, kernels.Theta_size), (kernels.K_error, kernels.K_size)
    of_kernels = max(error / size for error, size in sizes if size > 0)
    relative = g.error * (1.0 + of_kernels / np.finfo(float).eps)
    mean = g.value @ targets
    mean_error = relative * (np.abs(g.value) @ np.abs(targets))
    return Outputs(mean, covariance, mean_error, np.full(mean.shape, relative * kernels.K_size), g.notes, log_evidence)


def trained_covariance(g: np.ndarray, kernels: Blocks) -> np.ndarray:
    """K_XX − g K_TX − K_XT gᵀ + g K_TT gᵀ, shape (N_X, N_X)."""
    half = g @ (0.5 * kernels.K_TT @ g.T - kernels.K_XT.T)
    return kernels.K_XX + half + half.T
