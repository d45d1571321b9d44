"""Critical gains of PyTorch's activations, against closed forms and published values."""

import pickle
from math import pi, sqrt

import pytest

torch = pytest.importorskip("torch")

from finitewidth.frontends.torch.gain import calculate_gain  # noqa: E402


@pytest.mark.parametrize(
    ("activation", "gain", "bias_std"),
    [
        (torch.nn.ReLU(), sqrt(2), 0.0),
        (torch.nn.LeakyReLU(0.2), torch.nn.init.calculate_gain("leaky_relu", 0.2), 0.0),
        (torch.nn.Tanh(), 1.0, 0.0),
        (torch.erf, sqrt(pi) / 2, 0.0),
        (torch.nn.GELU(), sqrt(1.9830582574375471), sqrt(0.17292239075606735)),
        (torch.nn.SiLU(), sqrt(1.9880046782694920), sqrt(0.5551431707215304)),
        (lambda z: z * torch.sigmoid(z), sqrt(1.9880046782694920), sqrt(0.5551431707215304)),
        ("gelu", sqrt(1.9830582574375471), sqrt(0.17292239075606735)),
    ],
)
def test_gain_and_bias(activation, gain, bias_std):
    found = calculate_gain(activation)
    assert found == pytest.approx(gain, rel=1e-9)
    assert found.bias_std == pytest.approx(bias_std, rel=1e-7)
    assert found.is_critical


def test_it_is_a_float_for_torch_nn_init():
    weight = torch.nn.init.orthogonal_(torch.empty(3, 3), gain=calculate_gain("relu"))
    assert torch.allclose(weight @ weight.T, 2 * torch.eye(3), atol=1e-5)
    assert pickle.loads(pickle.dumps(calculate_gain("gelu"))).bias_std == calculate_gain("gelu").bias_std


def test_where_nothing_is_critical_it_says_so():
    gain = calculate_gain(torch.nn.Softplus())
    assert not gain.is_critical and "Nearest useful choice" in gain.note
