r"""The Bayesian posterior at order 1/n: what infinite width forbids (PDLT §6.3–6.4).

Given the layer before, outputs are exactly Gaussian with one common metric Ĝ of mean K + G1/n and covariance V/n. Given
Ĝ, the posterior mean m_i(Ĝ), the posterior covariance C(Ĝ) and the evidence e^{ℓ(Ĝ)} are those of a Gaussian process;
labels weigh the metrics by their evidence. With V = Σ_k w_k φ_k φ_k and f', f'' derivatives along φ_k,

    E z_i = m_i + (1/n) [ m_i'(G1) + Σ_k w_k (m_i' ℓ' + ½ m_i'') ]
    Cov[z_i, z_j] = δ_ij { C + (1/n) [ C'(G1) + Σ_k w_k (C' ℓ' + ½ C'') ] } + (1/n) Σ_k w_k m_i' m_j'
    log p(y) = ℓ + (1/n) [ ℓ'(G1) + ½ Σ_k w_k (ℓ'' + ℓ'²) ] .

The last term of the covariance wires outputs together; m_i' ℓ' is the metric, and so the features, learning from
labels.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import scipy.linalg
import xarray as xr

from finitewidth.training.bayes import divided
from finitewidth.training.first_order import Corrections, Terms, total
from finitewidth.training.infinite_width import Kernels

_REPLICAS = 4


class Derivatives(NamedTuple):
    """First and second derivatives along each of k directions: of m (k, X, n_L), C (k, X, X) and ℓ (k,)."""

    mean: np.ndarray
    mean2: np.ndarray
    covariance: np.ndarray
    covariance2: np.ndarray
    evidence: np.ndarray
    evidence2: np.ndarray


Directions = tuple[np.ndarray, np.ndarray]
"""Some of the w_k, (k,), and φ_k, (k, U, U), of V."""


def posterior_corrections(
    kernels: Kernels, targets: np.ndarray, noise: float, tensors: xr.Dataset
) -> tuple[Corrections, float]:
    """The terms `G1` (shift of the metric) and `V` (its fluctuation), and the coefficient of 1/n of log p(y).

    Arguments
        tensors: V and G1 of the last layer over all inputs, as `flow` gives them, with their errors.
    """
    V, G1 = tensors.V.values, tensors.G1.values
    mean, covariance, evidence = posterior_terms(kernels, targets, noise, [components(V)], G1)
    rng = np.random.default_rng(0)
    errors = []
    for _ in range(_REPLICAS):
        V_off, G1_off = (
            tensors[name].values + tensors[f"{name}_error"].values * rng.choice([-1.0, 1.0], tensors[name].shape)
            for name in ("V", "G1")
        )
        moved_mean, moved_covariance, _ = posterior_terms(kernels, targets, noise, [components(V_off)], G1_off)
        off = total(moved_covariance) - total(covariance)
        errors.append((total(moved_mean) - total(mean), np.einsum("xixi->xi", off)))
    mean_error, variance_error = (np.abs(np.stack(each)).max(0) for each in zip(*errors, strict=True))
    return Corrections(mean, covariance, mean_error, variance_error), evidence


def posterior_terms(
    kernels: Kernels, targets: np.ndarray, noise: float, V: Iterable[Directions], G1: np.ndarray
) -> tuple[Terms, Terms, float]:
    """Terms of mean (X, n_L), covariance (X, n_L, X, n_L) and log evidence, V given by its directions."""
    X, n_L = len(kernels.test), targets.shape[1]
    shift = derivatives(kernels, targets, noise, G1[None])
    mean, shared, wired = np.zeros((X, n_L)), np.zeros((X, X)), np.zeros((X * n_L, X * n_L))
    evidence = float(shift.evidence[0])
    for weights, directions in V:
        along = derivatives(kernels, targets, noise, directions)
        mean += np.tensordot(weights * along.evidence, along.mean, 1) + 0.5 * np.tensordot(weights, along.mean2, 1)
        shared += np.tensordot(weights * along.evidence, along.covariance, 1)
        shared += 0.5 * np.tensordot(weights, along.covariance2, 1)
        flat = along.mean.reshape(len(weights), X * n_L)
        wired += (weights[:, None] * flat).T @ flat
        evidence += 0.5 * float(weights @ (along.evidence2 + along.evidence**2))
    delta = np.eye(n_L)
    covariance = {
        "G1": np.einsum("xy,ij->xiyj", shift.covariance[0], delta),
        "V": np.einsum("xy,ij->xiyj", shared, delta) + wired.reshape(X, n_L, X, n_L),
    }
    return {"G1": shift.mean[0], "V": mean}, covariance, evidence


def components(V: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """V_abcd = Σ_k w_k φ_k,ab φ_k,cd: weights (k,) and symmetric directions (k, U, U)."""
    U = len(V)
    # symmetric within pairs: where errors have been added it is so no longer, and only that part acts
    V = 0.25 * (V + V.transpose(1, 0, 2, 3) + V.transpose(0, 1, 3, 2) + V.transpose(1, 0, 3, 2))
    matrix = V.reshape(U * U, U * U)
    weights, vectors = scipy.linalg.eigh(0.5 * (matrix + matrix.T))
    kept = np.abs(weights) > np.finfo(float).eps * np.abs(weights).max(initial=0.0)
    return weights[kept], vectors.T[kept].reshape(-1, U, U)


def derivatives(kernels: Kernels, targets: np.ndarray, noise: float, phi: np.ndarray) -> Derivatives:
    """Derivatives of the posterior by the metric, along φ of shape (k, U, U)."""
    train, test = kernels.train, kernels.test
    prior = kernels.K_TT + noise * np.eye(len(targets))
    inverse = divided(np.eye(len(prior)), prior, noise).value
    g, weighted = kernels.K_XT @ inverse, inverse @ targets
    TT, XT, XX = (phi[:, i[:, None], j[None, :]] for i, j in ((train, train), (test, train), (test, test)))
    off = XT - g @ TT  # what φ moves at X beyond what the posterior makes of its part at T
    of_labels = TT @ weighted
    return Derivatives(
        mean=off @ weighted,
        mean2=-2 * off @ (inverse @ of_labels),
        covariance=XX - XT @ g.T - g @ off.transpose(0, 2, 1),
        covariance2=-2 * off @ inverse @ off.transpose(0, 2, 1),
        evidence=0.5 * np.einsum("ti,kti->k", weighted, of_labels)
        - 0.5 * targets.shape[1] * np.einsum("st,kst->k", inverse, TT),
        evidence2=-np.einsum("ksi,st,kti->k", of_labels, inverse, of_labels, optimize=True)
        + 0.5 * targets.shape[1] * np.einsum("kst,kts->k", inverse @ TT, inverse @ TT),
    )
