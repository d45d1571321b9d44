"""What PyTorch prints for an activation module is a name of the activation."""

import pytest

torch = pytest.importorskip("torch")

from finitewidth.activations import named  # noqa: E402


def _of_torch():
    """Every activation of torch.nn, with its defaults and with other parameters."""
    other = {"ELU": (0.5,), "CELU": (2.0,), "GELU": ("tanh",), "Hardshrink": (0.3,), "Hardtanh": (-2.0, 3.0)}
    other |= {"LeakyReLU": (0.2, True), "PReLU": (3,), "ReLU": (True,), "SiLU": (True,), "RReLU": (0.1, 0.2)}
    other |= {"Softplus": (2.0, 10.0), "Softshrink": (0.2,), "Threshold": (0.1, 20)}
    mixing = {"GLU", "MultiheadAttention", "Softmax", "Softmax2d", "Softmin", "LogSoftmax"}
    kinds = [k for k in (*torch.nn.modules.activation.__all__, "Identity") if k not in mixing]
    return [getattr(torch.nn, k)() for k in kinds if k != "Threshold"] + [
        getattr(torch.nn, k)(*arguments) for k, arguments in other.items()
    ]


@pytest.mark.parametrize("module", _of_torch(), ids=str)
def test_what_torch_prints_for_a_module_is_a_name_of_it(module):
    z = torch.linspace(-30.0, 30.0, 3 * 667, dtype=torch.float64)
    with torch.no_grad():
        expected = module.double().eval()(z.clone().reshape(-1, 3 if "=3" in str(module) else 1)).ravel()
    # torch's softplus is z beyond its threshold of 20, ours at once where log(1 + e^{−z}) rounds to nothing
    rounding = 3e-9 if "threshold=20" in str(module) else 1e-14
    assert named(str(module)).evaluate(z.numpy())[0] == pytest.approx(expected.numpy(), rel=1e-13, abs=rounding)
    assert named(f"torch.nn.{module}") is named(str(module))
