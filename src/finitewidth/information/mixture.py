r"""Samples of a nearly-Gaussian distribution: Gaussians whose covariance is itself random.

Real neurons are independent N(0, Ĝ) given the layer before. So draw Ĝ, then z ~ N(0, Ĝ): any law of Ĝ with the mean
K + G1/n and the covariance V/n gives all moments of z to order 1/n. Here, with K = R Rᵀ,

    Ĝ = R e^E Rᵀ ,      E Gaussian, symmetric, with   Cov[E] = R⁻¹R⁻¹ V R⁻ᵀR⁻ᵀ/n ,    E[E] = R⁻¹ G1 R⁻ᵀ/n − ½ E[E²] .

e^E = 1 + E + ½ E² + … has the mean and covariance asked for up to order 1/n², and Ĝ is always positive. Rejected:
a Gaussian Ĝ, negative for one input in a fraction Φ(−1/√ε) of draws, ε = V/(nK²), 0.1 % at ε = 0.1 and 8 % at ε = 0.5;
a Wishart law, whose covariance is K_ac K_bd + K_ad K_bc up to a factor, as V is for linear networks only. And layers
multiply: for one input the law is log-normal, Var[Ĝ]/K² = e^ε − 1, which for critical ReLU and linear networks is the
exact limit at a fixed ratio of depth to width (FACTS 4.2: e^{5r} − 1).
"""

import jax
import numpy as np

from finitewidth.errors import InputError
from finitewidth.information.correlators import Array
from finitewidth.precision import in_float64


@in_float64
def mixture_sample(
    key: jax.Array, size: int, neurons: int, *, K: Array, shift: Array, fluctuation: Array, error: float
) -> Array:
    """`size` draws of m neurons on N inputs, (size, m, N).

    Arguments
        key: a JAX random key.
        K, shift, fluctuation: K, G1/n, V/n; of `fluctuation` only what is symmetric and positive is used.
        error: absolute numerical error of the entries of `fluctuation`, up to which it may fail to be positive.
    """
    root = _root(K)
    inverse = np.linalg.pinv(root)
    white = np.einsum("pa,qb,rc,sd,abcd->pqrs", *(inverse,) * 4, fluctuation, optimize=True)
    modes = _modes(white, error * float(np.linalg.norm(inverse, 2)) ** 4 * len(K) ** 2)
    mean = inverse @ shift @ inverse.T - np.einsum("eab,ebc->ac", modes, modes) / 2
    of_modes, of_neurons = jax.random.split(key)
    weights = np.asarray(jax.random.normal(of_modes, (size, len(modes))))
    normals = np.asarray(jax.random.normal(of_neurons, (size, neurons, root.shape[1])))
    values, vectors = np.linalg.eigh(mean + np.tensordot(weights, modes, 1))
    half = vectors * np.exp(values / 2)[:, None, :]  # e^{E/2} up to a rotation on the right, which normals do not see
    return normals @ np.swapaxes(half, 1, 2) @ root.T


def _root(K: Array) -> Array:
    """R with K = R Rᵀ, (N, rank): directions that no network tells apart are left out."""
    values, vectors = np.linalg.eigh(K)
    kept = values > len(K) * np.finfo(np.float64).eps * values.max()
    return vectors[:, kept] * np.sqrt(values[kept])


def _modes(covariance: Array, error: float) -> Array:
    """Symmetric matrices M_e with Σ_e M_e ⊗ M_e = `covariance`, (modes, N, N): E = Σ_e w_e M_e for normal w."""
    N = len(covariance)
    values, vectors = np.linalg.eigh(covariance.reshape(N * N, N * N))
    if values.min() < -error - 1e-9 * abs(values).max():
        raise InputError(
            f"`x` has inputs too nearly equal for the numerical error of V: an eigenvalue is {values.min():.3g} K², "
            "and no random covariance has a negative one; leave out nearly equal inputs"
        )
    kept = values > 1e-14 * abs(values).max()
    modes = (vectors[:, kept] * np.sqrt(values[kept])).T.reshape(-1, N, N)
    return (modes + modes.transpose(0, 2, 1)) / 2
