r"""Stochastic gradient descent at infinite width: averages over initialisations and over the order of the batches.

One order of batches is a linear map, z = z(0) − g_b (z_T(0) − y), found step by step in the coefficients w of what has
been learned, z = z(0) + Θ_·T w (z_T(0) − y):   w ← w − η (N_T/|b|) D_b (1 + Θ_TT w) − η ρ w. Averaging over orders b,

    E z = E_b[g_b] y ,     Cov[z_i, z_j] = δ_ij E_b[Cov(z | b)] + Cov_b[g_b y_i, g_b y_j] ,

exactly in the initialisations, and over a number of drawn orders, whose scatter gives the standard errors.
"""

from dataclasses import dataclass

import numpy as np

from finitewidth.algorithms import Sgd
from finitewidth.errors import InputError
from finitewidth.training.infinite_width import Kernels, trained_covariance
from finitewidth.training.modes import check_step, largest_rate

ORDERS = 64
"""Orders of batches that are drawn."""


@dataclass(frozen=True)
class OverBatches:
    """Mean (X, n_L), covariance of one output (X, X) and between outputs (X, n_L, X, n_L), with standard errors."""

    mean: np.ndarray
    shared: np.ndarray
    between: np.ndarray
    mean_error: np.ndarray
    variance_error: np.ndarray


def over_batches(algorithm: Sgd, kernels: Kernels, targets: np.ndarray, regularisation: float) -> OverBatches:
    """The average over `ORDERS` orders of batches, always the same ones.

    Raises
        InputError: for batches larger than the data, and for steps at which the noise of the batches grows.
    """
    Theta, size = kernels.Theta_TT, algorithm.batch_size
    if size > len(Theta):
        raise InputError(f"`batch_size` must be at most the {len(Theta)} training inputs, but got {size}")
    check_step(algorithm, largest_rate(Theta) + regularisation)
    rng = np.random.default_rng(0)
    means, shared = [], np.zeros((ORDERS, len(kernels.test), len(kernels.test)))
    for i in range(ORDERS):
        g = -kernels.Theta_XT @ _learned(algorithm, Theta, regularisation, rng)
        means.append(g @ targets)
        shared[i] = trained_covariance(g, kernels)
    found = np.stack(means)
    off = found - found.mean(0)
    of_order = np.diagonal(shared, axis1=1, axis2=2)[:, :, None] + off**2 * ORDERS / (ORDERS - 1)
    return OverBatches(
        found.mean(0),
        shared.mean(0),
        np.einsum("sxi,syj->xiyj", off, off) / (ORDERS - 1),
        found.std(0, ddof=1) / np.sqrt(ORDERS),
        of_order.std(0, ddof=1) / np.sqrt(ORDERS),
    )


def _learned(algorithm: Sgd, Theta: np.ndarray, regularisation: float, rng: np.random.Generator) -> np.ndarray:
    """w at the end of one order of batches, (N_T, N_T)."""
    N, size = len(Theta), algorithm.batch_size
    scale, per_epoch = N / size, N // size
    w, one = np.zeros((N, N)), np.eye(N)
    for step in range(algorithm.steps):
        if step % per_epoch == 0:
            order = rng.permutation(N)
        batch = order[step % per_epoch * size :][:size]
        residual = one[batch] + Theta[batch] @ w
        if not np.abs(residual).max() < 1e6:
            raise InputError(
                f"`step` {algorithm.step:g} is too large for batches of {size}: the residuals grow to "
                f"{np.abs(residual).max():.3g} of what they were by step {step}; use a smaller step or larger batches"
            )
        w *= 1.0 - algorithm.step * regularisation
        w[batch] -= algorithm.step * scale * residual
    return w
