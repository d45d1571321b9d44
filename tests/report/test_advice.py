"""The lines to paste do what the numbers say."""

from typing import Any

import jax
import numpy as np
import pytest

import finitewidth as fw
from finitewidth.report.advice import advice


def network(activation: str = "gelu", **changes: Any) -> fw.MLP:
    options = {
        "depth": 4,
        "width": [300, 200, 100],
        "n_in": 784,
        "n_out": 10,
        "C_b": 0.17,
        "C_W": [14.0, 1.98, 1.98, 1.98],
    }
    return fw.MLP(activation, **{**options, **changes})


def test_standard_deviations_use_the_fan_in_of_each_layer() -> None:
    found = advice(network())
    np.testing.assert_allclose(found.weight_std, np.sqrt([14 / 784, 1.98 / 300, 1.98 / 200, 1.98 / 100]))
    np.testing.assert_allclose(found.bias_std, np.sqrt(0.17))
    assert list(found.fan_in) == [784, 300, 200, 100]
    assert found.gain == np.sqrt(1.98)


def test_jax_lines_draw_that_variance() -> None:
    names: dict[str, Any] = {}
    exec(advice(network()).jax, names)
    for name, C_W in (("first_kernel_init", 14.0), ("kernel_init", 1.98)):
        W = names[name](jax.random.key(0), (784, 300))
        variance, error = float(np.var(W)) * 784, C_W * np.sqrt(2 / W.size)
        assert abs(variance - C_W) < 4.9 * error
    b = names["bias_init"](jax.random.key(1), (100_000,))
    assert abs(float(np.var(b)) - 0.17) < 4.9 * 0.17 * np.sqrt(2 / b.size)


@pytest.mark.parametrize(
    ("changes", "torch_line", "jax_line"),
    [
        ({"C_b": 0.0}, "torch.nn.init.zeros_(layer.bias)", "bias_init = init.zeros"),
        ({"C_W": 2.0}, "    C_W = 2", 'kernel_init = init.variance_scaling(2, "fan_in", "normal")'),
        ({"C_W": [1.0, 2.0, 3.0, 4.0]}, "    C_W = [1, 2, 3, 4][i]", "for C in (1, 2, 3, 4)]"),
    ],
)
def test_lines_are_as_short_as_the_case_allows(changes: dict[str, Any], torch_line: str, jax_line: str) -> None:
    found = advice(network(**changes))
    assert torch_line in found.torch
    assert jax_line in found.jax
    compile(found.torch, "torch", "exec")
    exec(found.jax, {})


def test_torch_lines_draw_that_variance() -> None:
    torch = pytest.importorskip("torch")
    model = torch.nn.Sequential(
        torch.nn.Linear(784, 300), torch.nn.GELU(), torch.nn.Linear(300, 200), torch.nn.GELU(), torch.nn.Linear(200, 10)
    )
    torch.manual_seed(0)
    exec(advice(network()).torch, {"torch": torch, "model": model})
    for layer, C_W in ((model[0], 14.0), (model[2], 1.98)):
        W = layer.weight.detach().numpy()
        assert abs(W.var() * layer.in_features - C_W) < 4.9 * C_W * np.sqrt(2 / W.size)
    assert abs(model[0].bias.detach().numpy().var() - 0.17) < 4.9 * 0.17 * np.sqrt(2 / 300)
