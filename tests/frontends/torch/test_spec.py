"""Between models and MLP: the same architecture comes back, and the same distribution."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
nn = torch.nn

import finitewidth as fw  # noqa: E402


def test_round_trip_is_the_same_network():
    net = fw.MLP(
        "leaky_relu(0.1)", depth=3, width=[300, 200], n_in=100, n_out=20, C_b=0.3, C_W=[1.0, 2.0, 1.5],
        lambda_b=0.5, lambda_W=0.7,
    )  # fmt: skip
    model = fw.torch.from_spec(net, generator=torch.Generator().manual_seed(1))
    declared = {"C_b": net.C_b, "C_W": net.C_W, "lambda_b": net.lambda_b, "lambda_W": net.lambda_W}
    assert fw.torch.to_spec(model, **declared) == net
    seen = fw.torch.measured_variances(model)
    for name in ("C_b", "C_W"):
        for found, true, layer in zip(seen[name], net.per_layer(name), [model[0], model[2], model[4]], strict=True):
            size = layer.weight.numel() if name == "C_W" else layer.bias.numel()
            assert abs(found.value - true) < 4.5 * true * (2 / size) ** 0.5
            assert found.error == pytest.approx(true * (2 / size) ** 0.5, rel=0.8)


def test_drawn_models_have_the_kernel_of_the_spec():
    net = fw.MLP("gelu", depth=3, width=100, n_in=5, n_out=4, C_b=0.2, C_W=1.6)
    x = np.array([[0.5, -1.0, 0.3, 0.8, -0.2], [1.0, 0.4, -0.6, 0.1, 0.7]])
    generator = torch.Generator().manual_seed(2)
    products = []
    for _ in range(400):
        model = fw.torch.from_spec(net, generator=generator, dtype=torch.float64)
        z = model(torch.tensor(x)).detach().numpy()
        products.append(z @ z.T / 4)
    mean, error = np.mean(products, axis=0), np.std(products, axis=0, ddof=1) / 20
    K = fw.flow(net, x).K[-1].values
    assert np.all(np.abs(mean - K) < 4.5 * error + 0.02 * K.max())


RESIDUAL = fw.ResidualMLP(
    "gelu", depth=5, width=80, n_in=5, n_out=4, C_b=0.2, C_W=[1.0, 2.0, 1.5, 3.0, 1.2], lambda_b=0.5, lambda_W=0.7,
    gamma=0.8, xi=-0.6,
)  # fmt: skip


def test_residual_round_trip_is_the_same_network():
    declared = {n: getattr(RESIDUAL, n) for n in ("C_b", "C_W", "lambda_b", "lambda_W")}
    model = fw.torch.from_spec(RESIDUAL, generator=torch.Generator().manual_seed(1))
    assert fw.torch.to_spec(model, **declared) == RESIDUAL
    assert np.allclose(fw.torch.to_spec(model).per_layer("C_W")[1:4], RESIDUAL.per_layer("C_W")[1:4], rtol=0.1)


def test_drawn_residual_models_have_the_kernels_of_the_spec():
    """K, and Θ by autodiff at the learning rates of the spec; what is of order 1/n is left to a tolerance."""
    x = np.array([[0.5, -1.0, 0.3, 0.8, -0.2], [1.0, 0.4, -0.6, 0.1, 0.7]])
    generator = torch.Generator().manual_seed(2)
    products, tangent = [], []
    for _ in range(300):
        model = fw.torch.from_spec(RESIDUAL, generator=generator, dtype=torch.float64)
        z = model(torch.tensor(x))
        products.append((z @ z.T / 4).detach().numpy())
        tangent.append(sum(rate * g @ g.T for rate, g in gradients(model, z[:, 0])))
    flow = fw.flow(RESIDUAL, x).isel(layer=-1)
    for seen, true in ((products, flow.K.values), (tangent, flow.Theta.values)):
        mean, error = np.mean(seen, axis=0), np.std(seen, axis=0, ddof=1) / len(seen) ** 0.5
        assert np.all(np.abs(mean - true) < 4.5 * error + 0.02 * true.max())


def gradients(model, outputs):
    """λ and the gradients of the outputs, (outputs, numbers), of every parameter."""
    for parameter in model.parameters():
        rows = [torch.autograd.grad(z, parameter, retain_graph=True)[0].flatten() for z in outputs]
        is_bias = parameter.ndim == 1
        yield (0.5 if is_bias else 0.7 / parameter.shape[1]), torch.stack(rows).numpy()


class Adds(nn.Module):
    """z + Linear(σ(z)), or with the activation behind the layer."""

    def __init__(self, width, activation=torch.tanh, behind=None, factor=1.0):
        super().__init__()
        self.inner, self.activation, self.behind, self.factor = nn.Linear(width, width), activation, behind, factor

    def forward(self, z):
        added = self.inner(self.activation(z))
        return z + self.factor * (added if self.behind is None else self.behind(added))


def test_residual_model_of_ones_own_is_read():
    model = nn.Sequential(nn.Linear(3, 8), Adds(8), nn.Dropout(0.0), Adds(8), nn.Tanh(), nn.Linear(8, 2))
    found = fw.torch.to_spec(model, C_b=0.0, C_W=1.0)
    assert found == fw.ResidualMLP(
        "tanh", depth=4, width=8, n_in=3, n_out=2, C_W=1.0, lambda_W=[3, 8, 8, 8], gamma=1.0, xi=1.0
    )


@pytest.mark.parametrize(
    ("inside", "message"),
    [
        ([Adds(8, behind=torch.tanh)], "'1.inner' is not added to what its activation reads"),
        ([Adds(8), nn.Tanh(), nn.Linear(8, 8)], "'3' is not added to what its activation reads"),
        ([Adds(8), nn.LayerNorm(8), Adds(8)], "'1.inner' is not added to what its activation reads"),
        ([nn.Tanh(), nn.Linear(8, 8), Adds(8)], "'2' is not added to what its activation reads"),
        ([Adds(8), Adds(8, factor=0.5)], "adds with different factors .γ = 1, ξ = 0.5, γ = 1, ξ = 1."),
        ([Adds(8, activation=torch.relu)], "different activations"),
    ],
)
def test_other_residual_models_are_refused(inside, message):
    model = nn.Sequential(nn.Linear(3, 8), *inside, nn.Tanh(), nn.Linear(8, 2))
    with pytest.raises(fw.InputError, match=message):
        fw.torch.to_spec(model)


def test_residual_models_without_a_last_layer_are_refused():
    for model in (nn.Sequential(nn.Linear(3, 8), Adds(8)), nn.Sequential(Adds(3))):
        with pytest.raises(fw.InputError, match="`model` does not end in a Linear layer"):
            fw.torch.to_spec(model)


def test_pytorch_defaults_are_recognised():
    """nn.Linear's default is uniform in ±1/√n: C_W = 1/3, C_b = 1/(3 n)."""
    torch.manual_seed(4)
    model = nn.Sequential(nn.Linear(400, 300), nn.SiLU(), nn.Linear(300, 300))
    net = fw.torch.to_spec(model)
    assert net.activation is fw.activations.silu
    assert np.allclose(net.per_layer("C_W"), 1 / 3, rtol=0.02)
    assert np.allclose(net.per_layer("C_b") * [400, 300], 1 / 3, rtol=0.3)
    assert tuple(net.per_layer("lambda_W")) == (400.0, 300.0)


@pytest.mark.parametrize("name", ["tanh", "erf", "sin", "softplus(2)", "gelu_tanh", "threshold(0.1, 0)", "linear"])
def test_activations_travel_both_ways(name):
    net = fw.MLP(name, depth=2, width=3, n_in=2)
    assert fw.torch.to_spec(fw.torch.from_spec(net)).activation is net.activation


def test_activation_of_ones_own():
    sigma = fw.Activation(lambda z: z / (1 + z * z), name="bump", parity="odd", kinks=())
    net = fw.MLP(sigma, depth=2, width=3, n_in=2)

    class Bump(nn.Module):
        def forward(self, z):
            return z / (1 + z**2)

    assert isinstance(fw.torch.from_spec(net, activation=Bump())[1], Bump)
    with pytest.raises(fw.InputError, match="has no module in PyTorch"):
        fw.torch.from_spec(net)
    with pytest.raises(fw.InputError, match="their values differ"):
        fw.torch.from_spec(net, activation=nn.Tanh())


class Half(nn.Module):
    def forward(self, z):
        return z[:, :2]


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            nn.Sequential(nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2)),
            "different activations",
        ),
        (nn.Sequential(nn.Linear(2, 2), nn.Tanh()), "an activation after its last layer"),
        (nn.Sequential(nn.Conv1d(1, 1, 1)), "is a conv1d layer"),
        (nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2), nn.Linear(2, 2)), "has the normalisation '1'"),
        (nn.Sequential(nn.LayerNorm(2), nn.Linear(2, 2)), "changes its inputs before '1' reads them"),
        (nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.AvgPool1d(2), nn.Linear(2, 2)), "'avg_pool1d' in front of '3'"),
        (nn.Sequential(nn.Linear(2, 4), nn.Tanh(), Half(), nn.Linear(2, 2)), "reads 2 numbers of the 4 before it"),
    ],
)
def test_what_is_no_mlp_is_refused(model, message):
    with pytest.raises(fw.InputError, match=message):
        fw.torch.to_spec(model)


class Functional(nn.Module):
    """No Linear module whose shape could be guessed."""

    def __init__(self):
        super().__init__()
        self.weights = nn.ParameterList([nn.Parameter(torch.randn(5, 3)), nn.Parameter(torch.randn(2, 5))])

    def forward(self, x):
        return nn.functional.linear(torch.tanh(nn.functional.linear(x.flatten(1), self.weights[0])), self.weights[1])


def test_an_example_shows_the_shape_where_none_can_be_guessed():
    with pytest.raises(fw.InputError, match="`example_input` is needed"):
        fw.torch.to_spec(Functional())
    net = fw.torch.to_spec(Functional(), example_input=torch.randn(4, 1, 3))
    assert (net.n_in, net.width, net.n_out, net.activation.name) == (3, 5, 2, "tanh")
