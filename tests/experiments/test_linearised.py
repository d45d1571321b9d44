"""The linearisation of a network that is linear is the network, whatever the algorithm and the loss."""

import jax
import numpy as np
import pytest

import finitewidth as fw
from finitewidth.experiments.courses import course
from finitewidth.experiments.linearised import linearised
from finitewidth.experiments.networks import draw, preactivations
from finitewidth.experiments.tangent_kernel import tangent_kernel
from finitewidth.experiments.training import train
from finitewidth.precision import float64

NET = fw.MLP("tanh", depth=1, n_out=3, C_b=0.2, C_W=1.3, lambda_b=0.3, lambda_W=0.8)
X = np.random.default_rng(0).standard_normal((5, 6))
Y = np.eye(3)[[0, 2, 1]].T


@pytest.mark.parametrize(
    ("algorithm", "loss", "times"),
    [
        (fw.GradientDescent(0.2, 30), "mse", [0, 1, 30]),
        (fw.GradientDescent(0.2), "mse", None),
        (fw.Momentum(0.1, 30, momentum=0.8), "mse", [2, 30]),
        (fw.Sgd(0.1, 30, batch_size=2), "mse", [2, 29]),
        (fw.Momentum(0.1, 30), "cross-entropy", [2, 30]),
        (fw.Sgd(0.1, 30, batch_size=1), "cross-entropy", None),
        pytest.param(fw.GradientFlow(2.0), "cross-entropy", [0.5, 2.0], marks=pytest.mark.slow),
    ],
)
def test_a_linear_network_is_its_linearisation(algorithm, loss, times):
    plan = course(algorithm, loss=loss, times=times, inputs=3)
    with float64():
        key = jax.random.key(1)
        parameters = draw(key, NET, n_in=6, n_out=3)
        H, z = tangent_kernel(NET, parameters, X, onto=3), preactivations(NET, parameters, X)
        observe = jax.jit(lambda parameters: preactivations(NET, parameters, X))
        seen = train(NET, parameters, X[:3], Y, course=plan, key=key, observe=observe)
        tolerance = 1e-6 if plan.flows else 1e-12  # of the integrators
        np.testing.assert_allclose(seen, linearised(H, z, Y, course=plan, key=key), atol=tolerance)


def test_a_step_that_is_too_large_has_no_end():
    plan = course(fw.GradientDescent(2.0), inputs=3)
    with float64():
        H = np.einsum("ab,ij->iajb", np.diag([1.0, 2.0, 3.0]), np.eye(3))
        assert np.isnan(linearised(H, np.zeros((3, 3)), Y, course=plan, key=jax.random.key(0))).all()
