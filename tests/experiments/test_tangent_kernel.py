"""The tangent kernel by backward passes against gradients in all parameters."""

import jax
import numpy as np

import finitewidth as fw
from finitewidth.experiments.derivatives import Derivatives
from finitewidth.experiments.networks import draw
from finitewidth.experiments.tangent_kernel import tangent_kernel
from finitewidth.precision import float64


def test_it_is_the_product_of_gradients():
    net = fw.MLP("gelu", depth=4, width=(5, 7, 6), n_out=2, C_b=0.2, C_W=1.3, lambda_b=0.3, lambda_W=[0.8, 1, 2, 0.5])
    x = np.random.default_rng(0).standard_normal((4, 3))
    with float64():
        parameters = draw(jax.random.key(1), net, n_in=3, n_out=2)
        expected = np.asarray(jax.jit(lambda at: Derivatives(net, at, x, moving=2).H)(parameters))
        np.testing.assert_allclose(tangent_kernel(net, parameters, x), expected, rtol=1e-12)
        np.testing.assert_allclose(tangent_kernel(net, parameters, x, onto=2), expected[..., :2], rtol=1e-12)
