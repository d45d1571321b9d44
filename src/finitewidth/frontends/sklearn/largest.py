r"""Which of several Gaussian numbers is the largest, and how surely.

    p_k = P(z_k > z_j for all j ≠ k) ,     z ~ N(m, Σ) .

Two numbers: p_1 = Φ((m_1 − m_2)/√Var(z_1 − z_2)). Independent numbers of one variance s², as the outputs of infinitely
wide networks are: p_k = ∫ φ(u) Π_{j≠k} Φ(u + (m_k − m_j)/s) du, whose integrand is so smooth that equal steps give
rounding. All others: the differences z_k − z_j one after the other, each given those before (Genz 1992), over a
quasi-random lattice.
"""

from functools import cache

import numpy as np
from scipy.special import ndtr, ndtri

_STEP, _END = 0.125, 9.0
_LATTICE = 2048
_ROWS = 256  # at once: they take rows × numbers × lattice


def probabilities_of_largest(mean: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """p of each of k numbers being the largest of them.

    Arguments
        mean: m, shape (N, k). covariance: Σ, shape (N, k, k).

    Returns
        Shape (N, k), rows summing to one; numbers without variance that tie share. To 1e-12 for two numbers and for
        independent ones of one variance, to some 1e-4 otherwise.

    >>> probabilities_of_largest(np.array([[0.0, 1.0]]), np.eye(2)[None] / 2).round(4).tolist()
    [[0.1587, 0.8413]]
    """
    N, k = mean.shape
    if N > _ROWS:
        parts = range(0, N, _ROWS)
        return np.concatenate([probabilities_of_largest(mean[i : i + _ROWS], covariance[i : i + _ROWS]) for i in parts])
    if k == 1:
        return np.ones((N, 1))
    scale = np.abs(mean).max(1) + np.sqrt(np.einsum("nii->ni", covariance).max(1))
    negligible = 64 * np.finfo(float).eps * scale
    if k == 2:
        return _of_two(mean, covariance, negligible)
    found = np.empty((N, k))
    variance = covariance[:, 0, 0]
    alike = np.all(covariance == variance[:, None, None] * np.eye(k), axis=(1, 2))
    sure = np.sqrt(np.einsum("nii->ni", covariance).max(1)) <= negligible
    for chosen, method in ((sure, _of_sure), (alike & ~sure, _of_alike), (~alike & ~sure, _of_any)):
        if np.any(chosen):
            found[chosen] = method(mean[chosen], covariance[chosen])
    return found / found.sum(1, keepdims=True)


def _of_two(mean: np.ndarray, covariance: np.ndarray, negligible: np.ndarray) -> np.ndarray:
    apart = mean[:, 1] - mean[:, 0]
    variance = covariance[:, 0, 0] + covariance[:, 1, 1] - 2 * covariance[:, 0, 1]
    spread = np.sqrt(np.maximum(variance, 0.0))
    sure = spread <= negligible
    ratio = apart / np.where(sure, 1.0, spread)
    ratio = np.where(sure, np.where(np.abs(apart) <= negligible, 0.0, np.copysign(np.inf, apart)), ratio)
    return np.stack([ndtr(-ratio), ndtr(ratio)], axis=1)


def _of_sure(mean: np.ndarray, _: np.ndarray) -> np.ndarray:
    return (mean == mean.max(1, keepdims=True)).astype(float)


def _of_alike(mean: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    u = np.arange(-_END, _END + _STEP, _STEP)
    weights = _STEP * np.exp(-u * u / 2) / np.sqrt(2 * np.pi)
    lead = (mean[:, :, None] - mean[:, None, :]) / np.sqrt(covariance[:, 0, 0])[:, None, None]
    k = mean.shape[1]
    found = np.empty_like(mean)
    for i in range(k):
        others = np.delete(lead[:, i], i, axis=1)
        found[:, i] = np.prod(ndtr(u + others[:, :, None]), axis=1) @ weights
    return found


def _of_any(mean: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    k = mean.shape[1]
    found = np.empty_like(mean)
    for i in range(k):
        differences = np.delete(-np.eye(k), i, axis=0)
        differences[:, i] = 1.0
        found[:, i] = _all_positive(mean @ differences.T, differences @ covariance @ differences.T)
    return found


def _all_positive(mean: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """P(d > 0 in every component) for d ~ N(mean, covariance), shapes (N, p) and (N, p, p)."""
    p = mean.shape[1]
    size = np.einsum("nii->ni", covariance).max(1)
    # a difference that the others determine keeps a trace of its own: the step it makes is then steep, not undefined
    root = np.linalg.cholesky(covariance + 1e-12 * size[:, None, None] * np.eye(p))
    known = np.zeros((len(mean), p, _LATTICE))
    probability = np.ones((len(mean), _LATTICE))
    for i in range(p):
        centre = mean[:, i, None] + np.einsum("nj,njm->nm", root[:, i, :i], known[:, :i])
        positive = ndtr(centre / root[:, i, i, None])
        probability *= positive
        # the part of a standard normal above −centre/root, reached through the smaller tail
        known[:, i] = -ndtri(np.clip(_lattice(p)[i] * positive, np.finfo(float).tiny, 1.0 - 1e-16))
    return probability.mean(1)


@cache
def _lattice(p: int) -> np.ndarray:
    """Points in the unit cube, shape (p, _LATTICE); the same at every call."""
    from scipy.stats import qmc

    return qmc.Sobol(p, scramble=True, rng=np.random.default_rng(0)).random(_LATTICE).T
