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


def test_before_training_it_is_the_vertex_and_at_the_end_nothing_is_left_on_training_inputs():
    net = network("tanh", 3, 2)
    at_start = fw.predict(net, X[:2], Y, X, algorithm=fw.GradientFlow(0.0))
    V = fw.flow(net, X, order=1, layers="last").V.values[0]
    np.testing.assert_allclose(32 * at_start.four_point(0, 0, 1, 1), V, rtol=1e-10)
    np.testing.assert_allclose(32 * at_start.four_point(0, 1, 0, 1), V.transpose(0, 2, 1, 3), rtol=1e-10)
    assert not at_start.three_point().any()
    at_end = fw.predict(net, X[:2], Y, X)
    assert abs(at_end.fourth_cumulant[2]).min() > 1e-6 and abs(at_end.third_cumulant[2]).min() > 1e-6
    for found in (at_end.three_point(), at_end.four_point(0, 0, 1, 1)):
        np.testing.assert_allclose(found[:2], 0, atol=1e-12)  # whatever the other legs are
        np.testing.assert_array_equal(at_end.three_point(0, 1, 0).transpose("sample_b", ...)[:2].round(12), 0)


def test_labels_enter_the_three_point_function_linearly_and_the_four_point_function_not_at_all():
    net, algorithm = network("gelu", 2, 1), fw.GradientFlow(1.5)
    one, double = (fw.predict(net, X[:2], s * Y[:, :1], X, algorithm=algorithm) for s in (1, 2))
    np.testing.assert_allclose(double.three_point(), 2 * one.three_point(), rtol=1e-10, atol=1e-15)
    np.testing.assert_allclose(double.four_point(), one.four_point(), rtol=1e-10)


@pytest.mark.slow
def test_networks_that_were_really_trained_agree():
    """n times the third and fourth cumulant of every output, extrapolated; 4 standard errors for 6 numbers."""
    x, labels, widths = np.array([[-0.8, -1.3], [0.4, 0.5], [0.9, -0.7]]), [0.8, -0.6], (16, 48)
    algorithm = fw.GradientDescent(0.2, 3)

    def net(n):
        return fw.MLP("tanh", depth=2, width=n, C_b=0.2, C_W=1.3, lambda_b=0.5, lambda_W=0.7)

    p = fw.predict(net(1), x[:2], labels, x, algorithm=algorithm)
    options = {"algorithm": algorithm, "n_networks": 16384, "linearised": 8, "seed": 7}
    seen = [measure_trained(net(n), x[:2], labels, x[2:], **options) for n in widths]
    for name, visible in (("third_cumulant", 5), ("fourth_cumulant", 10)):
        values = [n * each.value[name][-1, 0] for n, each in zip(widths, seen, strict=True)]
        errors = [n * each.standard_error[name][-1, 0] for n, each in zip(widths, seen, strict=True)]
        fit = extrapolate(widths, values, errors, order=1)
        stated = getattr(p, name).values[:, 0]
        assert np.abs((fit.value - stated) / fit.standard_error).max() < 4, (name, stated, fit.value)
        assert np.abs(stated / fit.standard_error).max() > visible


def test_what_is_not_known_is_refused():
    net = network("tanh", 2, 1)
    with pytest.raises(fw.InputError, match="order=1 brings them"):
        fw.predict(net, X[:2], Y[:, 0], order=0).third_cumulant  # noqa: B018
    with pytest.raises(fw.InputError, match="gradient flow and descent"):
        fw.predict(net, X[:2], Y[:, 0], algorithm=fw.Bayes(0.1)).four_point()
    with pytest.raises(fw.InputError, match="integers from 0 to 0, but got 1"):
        fw.predict(net, X[:2], Y[:, 0]).three_point(0, 0, 1)
