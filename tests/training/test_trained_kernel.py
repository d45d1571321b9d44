"""The tangent kernel after training: against step-by-step sums, single inputs, and networks really trained.

Seen with 4096 tanh networks of n = 128, six steps (first case below), n × E[H(t) − H(0)] of pairs 00 01 02 11 12 22:
−0.620(68) −0.119(14) −0.452(50) −0.918(64) −0.229(23) −0.413(54); stated −0.621 −0.122 −0.425 −0.904 −0.213 −0.348.
"""

import numpy as np
import pytest

import finitewidth as fw
from finitewidth.experiments import measure_trained
from finitewidth.experiments.statistics import Estimate
from finitewidth.training.slots import IN_TRAINING_ORDER, in_training_order
from tests.references.combined_index import trained_kernel

X = np.array([[-0.8, -1.3, -0.2], [0.4, 0.5, 0.3], [-0.6, -0.6, 0.1]])
Y = np.array([[0.3, -1.5], [-0.6, 0.9]])


def network(activation, depth, n_out, width=32):
    return fw.MLP(activation, depth=depth, width=width, n_out=n_out, C_b=0.2, C_W=1.4, lambda_b=0.5, lambda_W=0.7)


def test_contracted_sums_are_those_of_combined_indices_step_by_step():
    net, step, steps = network("gelu", 3, 2), 0.3, 4
    kernel = fw.trained_kernel(net, X[:2], Y, X, algorithm=fw.GradientDescent(step, steps))
    tensors = fw.flow(net, X, order=1, layers="last").isel(layer=0)
    slots = {name: in_training_order(tensors, name) for name in IN_TRAINING_ORDER}
    moved = trained_kernel(tensors.K.values, tensors.Theta.values, slots, Y.T, [0, 1], step, steps)
    stated = moved.reshape(2, 3, 2, 3).transpose(1, 0, 3, 2)
    np.testing.assert_allclose(kernel.change * kernel.n, stated, rtol=1e-9, atol=1e-10)
    assert np.abs(stated[:, 0, :, 1]).max() > 1e-2  # outputs learn together
    np.testing.assert_allclose(kernel.infinite[:, 1, :, 1], tensors.Theta)
    np.testing.assert_allclose((kernel.initial - kernel.infinite)[:, 0, :, 0] * kernel.n, tensors.H1)
    np.testing.assert_allclose(kernel.mean - kernel.initial, kernel.change)


def test_of_one_input_it_is_what_representation_learning_says():
    net, x = network("tanh", 4, 1), np.array([[0.9, -0.4, 1.0]])
    K = fw.flow(net, x, layers="last").K.item()
    kernel = fw.trained_kernel(net, x, [np.sqrt(K)])
    stated = fw.representation_learning(net, x).NTK_change[-1, 0]
    assert (kernel.change / kernel.infinite).item() == pytest.approx(float(stated), rel=1e-8)


def test_small_steps_are_the_flow_and_nothing_moves_before_it():
    net = network("tanh", 3, 2)
    flow, coarse, fine = (
        fw.trained_kernel(net, X[:2], Y, X, algorithm=algorithm).change
        for algorithm in (fw.GradientFlow(2.0), fw.GradientDescent(0.02, 100), fw.GradientDescent(0.01, 200))
    )
    gap = float(np.abs(coarse - flow).max())
    assert 0 < float(np.abs(2 * fine - coarse - flow).max()) < 0.02 * gap
    still = fw.trained_kernel(net, X[:2], Y, X, algorithm=fw.GradientFlow(0.0))
    np.testing.assert_allclose(still.change, 0, atol=1e-12)


def test_it_is_a_symmetric_kernel_on_the_inputs_asked_about():
    net = network("tanh", 3, 2)
    kernel = fw.trained_kernel(net, X[:2], Y, X[[2, 0, 2]])
    assert kernel.mean.shape == (3, 2, 3, 2) and kernel.error.shape == kernel.mean.shape
    np.testing.assert_allclose(kernel.change, kernel.change.values.transpose(2, 3, 0, 1), atol=1e-12)
    np.testing.assert_allclose(kernel.change[0], kernel.change[2])
    assert 0 < float(kernel.error.max()) < 1e-5
    relu = fw.trained_kernel(fw.MLP("relu", depth=2), X[:2], Y[:, 0])
    assert "cross a kink" in relu.notes[-1] and relu.left_out["mean_size"].shape == (2, 1, 2, 1)
    lacking = relu.left_out["mean"].values[:, 0, :, 0]
    np.testing.assert_allclose(lacking, lacking.T, rtol=1e-12)
    assert np.all(np.diag(lacking) < 0)  # slopes are lost
    assert kernel.left_out is None and kernel.notes == ()


def measured_change(net, n_out, algorithm, widths, number):
    """n E[H(t) − H(0)] averaged over outputs, extrapolated from two widths, with its standard error."""
    found = []
    for n in widths:
        seen = measure_trained(
            network(net.activation, net.depth, n_out, n), X[:2], Y[:, :n_out], X[2:],
            algorithm=algorithm, n_networks=number, control=False, seed=n,
        )  # fmt: skip
        after, before = seen.estimates["H"], seen.estimates["H_before"]
        change = Estimate(after.pseudo_values[:, 0] - before.pseudo_values, after.weights)
        found.append((n * change.value, n * change.standard_error))
    (one, one_error), (two, two_error) = found
    return 2 * two - one, np.hypot(2 * two_error, one_error)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("activation", "depth", "n_out", "algorithm"),
    [
        ("tanh", 3, 1, fw.GradientDescent(0.3, 6)),
        ("gelu", 3, 2, fw.GradientFlow(time=2.0)),
        ("tanh", 2, 2, fw.GradientFlow()),
    ],
    ids=str,
)
def test_networks_that_were_really_trained(activation, depth, n_out, algorithm):
    net = network(activation, depth, n_out)
    kernel = fw.trained_kernel(net, X[:2], Y[:, :n_out], X, algorithm=algorithm)
    stated = np.einsum("aibi->ab", kernel.change) * kernel.n / n_out
    value, error = measured_change(net, n_out, algorithm, (32, 64), 8192)
    z = (value - stated)[np.triu_indices(3)] / error[np.triu_indices(3)]
    assert np.abs(stated / error).max() > 6  # it would be seen
    assert np.abs(z).max() < 4.0
    assert np.sqrt(np.mean(z**2)) < 2.2  # six numbers


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["relu", "hard_tanh"])
def test_networks_with_kinks_that_were_really_trained(activation):
    """Order 1/√n, of the neurons that cross a kink, is most of what the kernel changes by."""
    net, algorithm = network(activation, 2, 1, width=1024), fw.GradientDescent(0.05, 40)
    kernel = fw.trained_kernel(net, X[:2], Y[:, :1], X, algorithm=algorithm)
    seen = measure_trained(
        net, X[:2], Y[:, :1], X[2:], algorithm=algorithm, n_networks=2048, control=False, seed=1
    )  # fmt: skip
    after, before = seen.estimates["H"], seen.estimates["H_before"]
    change = Estimate(after.pseudo_values[:, 0] - before.pseudo_values, after.weights)
    lacking = {name: each.values[:, 0, :, 0] for name, each in kernel.left_out.items()}
    rest = change.value - kernel.change.values[:, 0, :, 0]
    assert np.all(np.abs(rest) < lacking["mean_size"] + 4 * change.standard_error)
    assert np.all(np.abs(rest - lacking["mean"]) < 4 * np.hypot(change.standard_error, lacking["mean_error"]))
    assert np.abs(rest / change.standard_error).max() > 15  # it is there
    assert np.abs(kernel.change.values).max() < 0.5 * np.abs(lacking["mean"]).max()


def test_what_it_does_not_have_is_refused():
    net = network("tanh", 3, 1)
    with pytest.raises(fw.InputError, match=r"`algorithm` must be fw.GradientFlow or fw.GradientDescent here"):
        fw.trained_kernel(net, X[:2], Y[:, 0], algorithm=fw.Newton())
    with pytest.raises(fw.InputError, match=r"`step` must be below 2/λ_max"):
        fw.trained_kernel(net, X[:2], Y[:, 0], algorithm=fw.GradientDescent(9.0))
    with pytest.raises(fw.InputError, match="hold 20 different inputs"):
        fw.trained_kernel(net, np.random.default_rng(0).standard_normal((20, 3)), np.zeros(20))
