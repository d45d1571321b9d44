"""Connected three- and four-point functions after training, against step-by-step sums and real trained networks."""

import itertools

import numpy as np
import pytest

import finitewidth as fw
from finitewidth.experiments import extrapolate, measure_trained
from finitewidth.training.slots import IN_TRAINING_ORDER, in_training_order
from tests.references.combined_index import trained_cumulants

X = np.array([[-0.8, -1.3, -0.2], [0.4, 0.5, 0.3], [-0.6, -0.6, 0.1]])
Y = np.array([[0.3, -1.5], [-0.6, 0.9]])


def network(activation, depth, n_out, width=32):
    return fw.MLP(
        activation, depth=depth, width=width, n_out=n_out, C_b=0.2, C_W=1.4, lambda_b=0.5, lambda_W=0.7
    )  # fmt: skip


@pytest.mark.parametrize("activation, depth", [("tanh", 3), ("gelu", 2)])
def test_contracted_sums_are_those_of_combined_indices_step_by_step(activation, depth):
    """Every entry, two outputs: neurons, samples and times are summed over one by one in the reference."""
    net, step, steps, train = network(activation, depth, 2), 0.3, 4, [0, 1]
    p = fw.predict(net, X[train], Y, X, algorithm=fw.GradientDescent(step, steps))
    tensors = fw.flow(net, X, order=1, layers="last").isel(layer=0)
    slots = {name: in_training_order(tensors, name) for name in IN_TRAINING_ORDER} | {"H1": tensors.H1.values}
    three, four = trained_cumulants(
        tensors.K.values, tensors.Theta.values, slots, tensors.V.values, Y.T, train, step, steps
    )
    three, four = three.reshape((2, 3) * 3), four.reshape((2, 3) * 4)
    for i, j, k in itertools.product(range(2), repeat=3):
        np.testing.assert_allclose(
            net.widths[-1] * p.three_point(i, j, k), three[i, :, j, :, k], rtol=1e-9, atol=1e-9 * np.abs(three).max()
        )
    for i, j, k, m in itertools.product(range(2), repeat=4):
        np.testing.assert_allclose(
            net.widths[-1] * p.four_point(i, j, k, m),
            four[i, :, j, :, k, :, m],
            rtol=1e-9,
            atol=1e-9 * np.abs(four).max(),
        )
    own = [p.four_point(i, i, i, i).values[a, a, a, a] for a in range(3) for i in range(2)]
    np.testing.assert_allclose(p.fourth_cumulant.values.ravel(), own)
    own = [p.three_point(i, i, i).values[a, a, a] for a in range(3) for i in range(2)]
    np.testing.assert_allclose(p.third_cumulant.values.ravel(), own)
