"""Real networks, one array of outputs and one of NTKs for each width; what theory says of them is not known here."""

from dataclasses import replace
from functools import cache

import jax
import numpy as np

from finitewidth.experiments.derivatives import Derivatives
from finitewidth.experiments.networks import draw
from finitewidth.precision import float64

CHUNK = 500


@cache
def drawn(net, x, networks, seed, gradients=True):
    """z (networks, n_out, N) and H (networks, n_out, N, n_out, N) of `networks` draws; x is a tuple of tuples.

    Without gradients H is empty, and a draw costs a tenth.
    """

    @jax.jit
    @jax.vmap
    def one(key):
        network = Derivatives(net, draw(key, net, n_in=len(x[0]), n_out=net.n_out), np.array(x), moving=net.n_out)
        return network.z, network.H if gradients else ()

    with float64():
        keys = jax.random.split(jax.random.key(seed), networks).reshape(-1, CHUNK)
        z, H = zip(*(map(np.asarray, one(each)) for each in keys), strict=True)
    return np.concatenate(z), np.concatenate(H)


def covariance(X, Y):
    """Sample covariances of X and Y, (networks, …) each of one shape, with their standard errors."""
    products = (X - X.mean(0)) * (Y - Y.mean(0))
    return products.mean(0), products.std(0) / np.sqrt(len(X))


def mean(X):
    """Sample means of X, (networks, …), with their standard errors."""
    return X.mean(0), X.std(0) / np.sqrt(len(X))


def at_width(net, width):
    """`net` with this width in all hidden layers."""
    return replace(net, width=width)
