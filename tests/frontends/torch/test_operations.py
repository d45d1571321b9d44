"""Every operation has the twin it claims: PyTorch's values against JAX's, function by function and argument by
argument."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from finitewidth.precision import float64  # noqa: E402

nn, F = torch.nn, torch.nn.functional

from finitewidth.frontends.torch.gain import function_of  # noqa: E402

Z = np.linspace(-7.0, 7.0, 401) + 1e-3  # no point of it is a kink

WRITTEN = {
    "relu": torch.relu, "relu in place": nn.ReLU(inplace=True), "method": lambda z: z.relu(),
    "relu_": lambda z: z.clone().relu_(),
    "relu6": nn.ReLU6(), "leaky": nn.LeakyReLU(0.2), "leaky functional": lambda z: F.leaky_relu(z, 0.3),
    "prelu": nn.PReLU(init=0.1), "prelu by channel": nn.PReLU(3, init=0.25), "rrelu": nn.RReLU().eval(),
    "threshold": nn.Threshold(0.3, -1.0), "tanh": torch.tanh, "sigmoid": nn.Sigmoid(), "logsigmoid": nn.LogSigmoid(),
    "softsign": nn.Softsign(), "gelu": nn.GELU(), "gelu tanh": nn.GELU(approximate="tanh"), "silu": nn.SiLU(),
    "mish": nn.Mish(), "elu": nn.ELU(0.7), "celu": nn.CELU(1.3), "selu": nn.SELU(), "softplus": nn.Softplus(),
    "softplus beta": nn.Softplus(2.0), "softplus threshold": nn.Softplus(1.0, 4.0),
    "hardtanh": nn.Hardtanh(-0.5, 2.0),
    "hardsigmoid": nn.Hardsigmoid(), "hardswish": nn.Hardswish(), "softshrink": nn.Softshrink(0.4),
    "hardshrink": nn.Hardshrink(0.6), "tanhshrink": nn.Tanhshrink(), "erf": torch.erf, "sin": torch.sin,
    "cos": torch.cos,
    "exp": torch.exp, "atan": torch.atan, "abs": abs, "identity": nn.Identity(),
    "swish by hand": lambda z: z * torch.sigmoid(1.7 * z), "mish by hand": lambda z: z * torch.tanh(F.softplus(z)),
    "where": lambda z: torch.where(z > 0, z, 0.1 * z),
    "where zeros": lambda z: torch.where(z > 1, z, torch.zeros_like(z)),
    "snake": lambda z: z + torch.sin(z) ** 2, "relu squared": lambda z: F.relu(z) ** 2,
    "polynomial": lambda z: 2 * z - z**3 / 6,
    "rational": lambda z: z / (1 + z.abs()), "reflected": lambda z: 1 - z, "inverse": lambda z: 1 / (1 + z * z),
    "clamp": lambda z: z.clamp(-1, 2), "clamp_min": lambda z: z.clamp_min(0.5),
    "maximum": lambda z: torch.maximum(z, 0.2 * z),
    "in place": lambda z: z.clone().mul_(2).add_(1).tanh_(), "augmented": lambda z: _augmented(z),
    "alpha": lambda z: torch.add(z, torch.tanh(z), alpha=0.5), "sub": lambda z: torch.sub(torch.tanh(z), z, alpha=2),
    "log1p": lambda z: torch.log1p(z**2), "sqrt": lambda z: torch.sqrt(1 + z.square()),
    "rsqrt": lambda z: z * torch.rsqrt(1 + z * z),
    "expm1": lambda z: torch.expm1(-z * z), "logaddexp": lambda z: torch.logaddexp(z, -z), "negative": lambda z: -z,
    "sinc": lambda z: torch.sinc(z), "asinh": torch.asinh, "erfc": torch.erfc, "rpow": lambda z: 2.0**z,
    "sign": lambda z: z + torch.sign(z),
    "mask": lambda z: z * (z > 0), "cast": lambda z: z * (z > 0).to(z.dtype), "sinh": torch.sinh,
    "square": lambda z: z.square() - 1,
}  # fmt: skip


def _augmented(z):
    y = z.clone()
    y *= 2
    y += z
    return y


@pytest.mark.parametrize("name", WRITTEN)
def test_twin_has_the_values_of_the_original(name):
    written = WRITTEN[name]
    channels = 3 if "channel" in name else 1
    z = torch.tensor(Z)[:, None].expand(-1, channels)
    module = written.double() if isinstance(written, nn.Module) else written
    with torch.no_grad():
        expected = module(z.clone())[:, 0].numpy()
    with float64():
        twin = np.asarray(function_of(module).twin(Z))
    assert np.allclose(twin, expected, rtol=1e-7, atol=3e-9)


@pytest.mark.parametrize(
    "module", [nn.Softmax(-1), nn.GLU(), nn.LayerNorm(2), nn.Linear(2, 2), nn.RReLU(), nn.ReLU, 3, nn.LSTM(2, 2)]
)
def test_what_is_no_function_of_one_number_is_refused(module):
    with pytest.raises(ValueError, match="`activation`"):
        function_of(module)
