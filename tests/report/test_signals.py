"""Verdicts: what is critical, what vanishes, what explodes."""

import numpy as np
import pytest

import finitewidth as fw
from finitewidth.report.signals import signals


@pytest.mark.parametrize(
    ("activation", "C_b", "C_W", "norms", "angles"),
    [
        ("erf", 0.0, np.pi / 4, "critical", "critical"),  # a power law
        ("relu", 0.0, 2.0, "critical", "critical"),
        ("relu", 0.0, 3.0, "exploding", "exploding"),
        ("relu", 0.0, 1.0, "vanishing", "vanishing"),
        ("erf", 0.1, 0.7, "vanishing", "vanishing"),  # ordered
        ("erf", 0.0, 4.0, "vanishing", "exploding"),  # chaotic: all sizes become the same, angles are torn apart
        ("sign", 0.0, 1.0, "vanishing", "undefined"),
    ],
)
def test_verdict(activation: str, C_b: float, C_W: float, norms: str, angles: str, inputs: np.ndarray) -> None:
    net = fw.MLP(activation, depth=40, width=100, C_b=C_b, C_W=C_W)
    found = signals(net, fw.flow(net, inputs))
    assert (found.norms.word, found.angles.word) == (norms, angles)


def test_a_shallow_network_survives_what_kills_a_deep_one(inputs: np.ndarray) -> None:
    words = []
    for depth in (4, 40):
        net = fw.MLP("relu", depth=depth, width=100, C_b=0.0, C_W=1.5)
        words.append(signals(net, fw.flow(net, inputs)).norms.word)
    assert words == ["critical", "vanishing"]


def test_correlation_lengths_and_growth_of_relu_are_known(inputs: np.ndarray) -> None:
    net = fw.MLP("relu", depth=12, width=100, C_b=0.0, C_W=1.5)
    found = signals(net, fw.flow(net, inputs))
    np.testing.assert_allclose(found.chi_parallel, 0.75, rtol=1e-12)
    np.testing.assert_allclose(found.growth, 0.75, rtol=1e-12)
    np.testing.assert_allclose(found.norms.correlation_length, -1 / np.log(0.75), rtol=1e-11)


def test_angles_are_those_between_the_inputs_at_the_first_layer_without_biases(inputs: np.ndarray) -> None:
    net = fw.MLP("relu", depth=3, width=100, C_b=0.0, C_W=2.0)
    found = signals(net, fw.flow(net, inputs))
    unit = inputs / np.linalg.norm(inputs, axis=1, keepdims=True)
    upper = np.triu_indices(len(inputs), 1)
    assert found.angle is not None and found.correlation is not None
    np.testing.assert_allclose(found.correlation.median[0], np.median((unit @ unit.T)[upper]), rtol=1e-12)
    np.testing.assert_allclose(found.angle.median[0], np.degrees(np.arccos(found.correlation.median[0])), rtol=1e-12)
    assert np.all(found.angle.low <= found.angle.median) and np.all(found.angle.median <= found.angle.high)


def test_a_single_input_has_no_angles() -> None:
    net = fw.MLP("erf", depth=3, width=10)
    found = signals(net, fw.flow(net, [[1.0, 2.0]]))
    assert found.angle is None and found.correlation is None
