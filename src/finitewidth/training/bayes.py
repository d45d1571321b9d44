r"""The exact Bayesian posterior at infinite width, a Gaussian process, and the evidence (PDLT §6.3).

The prior over outputs is that of networks at initialisation, N(0, K) for each; labels are y = z_T + noise, variance s:

    E z_X = K_XT K̃⁻¹ y ,    Cov = K_XX − K_XT K̃⁻¹ K_TX ,    K̃ = K_TT + s ,
    log p(y) = −½ Σ_i y_i K̃⁻¹ y_i − ½ n_L log det(2π K̃) .
"""

from dataclasses import dataclass

import numpy as np
import scipy.linalg

from finitewidth.errors import InputError
from finitewidth.training.infinite_width import Gain, Kernels, solve


@dataclass(frozen=True)
class Posterior:
    """The gain K_XT K̃⁻¹, the covariance of one output, shape (N_X, N_X), and log p(y)."""

    gain: Gain
    covariance: np.ndarray
    log_evidence: float


def posterior(kernels: Kernels, targets: np.ndarray, noise: float) -> Posterior:
    """The posterior at infinite width.

    Raises
        InputError: where K + noise is singular to rounding: labels without noise at inputs that the prior cannot tell
            apart.
    """
    prior = kernels.K_TT + noise * np.eye(len(targets))
    gain = divided(kernels.K_XT, prior, noise)
    covariance = kernels.K_XX - gain.value @ kernels.K_XT.T
    return Posterior(gain, 0.5 * (covariance + covariance.T), log_evidence(prior, targets))


def divided(left: np.ndarray, prior: np.ndarray, noise: float) -> Gain:
    """left · prior⁻¹, prior = K_TT + noise.

    Raises
        InputError: where the prior is singular to rounding.
    """
    found = solve(prior, left)
    if found is None:
        raise singular(noise, float(np.trace(prior)) / len(prior))
    return found


def singular(noise: float, variance: float) -> InputError:
    """That labels have no density, those of a typical input this variance."""
    return InputError(
        f"`algorithm` Bayes(noise={noise:g}): the prior's covariance of the labels is singular to rounding "
        f"(duplicate or dependent inputs); allow for noise, as in fw.Bayes(noise={1e-6 * variance:.2g})"
    )


def log_evidence(prior: np.ndarray, targets: np.ndarray) -> float:
    """log p(y) of labels ~ N(0, prior), independent for every output."""
    root = scipy.linalg.cholesky(prior, lower=True)
    white = scipy.linalg.solve_triangular(root, targets, lower=True)
    N, outputs = targets.shape
    log_det = N * np.log(2 * np.pi) + 2 * np.sum(np.log(np.diag(root)))
    return float(-0.5 * np.sum(white**2) - 0.5 * outputs * log_det)
