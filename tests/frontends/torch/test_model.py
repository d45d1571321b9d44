"""Reading models: what lies between layers, however it is written, and what is refused; nothing of a model changes."""

import copy

import numpy as np
import pytest

torch = pytest.importorskip("torch")
nn, F = torch.nn, torch.nn.functional

from finitewidth import InputError  # noqa: E402
from finitewidth.frontends.torch.model import activation_before, read_model  # noqa: E402
from finitewidth.frontends.torch.signals import Affine, Normalised, Sum, Unknown, stripped, upstream  # noqa: E402


class Functional(nn.Module):
    """Control flow, functional calls, an activation by hand: what symbolic tracing stops at."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(6, 6) for _ in range(4))

    def forward(self, x):
        for i, layer in enumerate(self.layers):
            x = layer(x)
            if x.abs().sum() >= 0 and i < 3:
                x = F.gelu(x) if i % 2 else x * torch.sigmoid(x)
        return x


class Block(nn.Module):
    def __init__(self, width, skip=1.0):
        super().__init__()
        self.inner, self.outer, self.skip = nn.Linear(width, width), nn.Linear(width, width), skip

    def forward(self, x):
        return self.skip * x + self.outer(torch.tanh(self.inner(x)))


class Hidden(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return torch.from_numpy(np.sin(x.numpy()))


class HiddenActivation(nn.Module):
    def forward(self, x):
        return Hidden.apply(x)


def texts(reading):
    found = [activation_before(call.source)[0] for call in reading.calls]
    return [None if f is None else f.text for f in found]


def test_functions_lambdas_and_control_flow():
    reading = read_model(Functional(), torch.randn(3, 6))
    assert texts(reading) == [None, "(z * sigmoid(z))", "gelu", "(z * sigmoid(z))"]
    assert [layer.path for layer in reading.layers] == [f"layers.{i}" for i in range(4)]
    assert [[a.text for a in reading.activations_after(c)] for c in reading.calls][:2] == [
        ["(z * sigmoid(z))"],
        ["gelu"],
    ]
    assert [reading.is_output(c) for c in reading.calls] == [False] * 3 + [True]


def test_image_network():
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.LeakyReLU(0.2, inplace=True), nn.MaxPool2d(2),
        nn.Conv2d(4, 8, 3, groups=2, padding="same", padding_mode="circular"), nn.ReLU(), nn.Flatten(), nn.Dropout(0.3),
        nn.Linear(8 * 36, 5),
    )  # fmt: skip
    reading = read_model(model, torch.randn(4, 2, 12, 12))
    assert texts(reading) == [None, "leaky_relu(0.2)", "relu"]
    assert [(layer.kind, layer.fan_in) for layer in reading.layers] == [("conv2d", 18), ("conv2d", 18), ("linear", 288)]
    assert any(isinstance(s, Normalised) for s in upstream(reading.calls[1].source))
    # 3 × 3 kernels on 12 × 12 pixels: (34/36)² of what they cover is no padding
    assert reading.calls[0].coverage == pytest.approx((34 / 36) ** 2)
    assert reading.calls[1].coverage == 1.0


@pytest.mark.parametrize("padding", [0, 1])
def test_size_of_the_data_is_what_a_neuron_sums(padding):
    x = torch.randn(3, 4, 7, 7)
    conv = nn.Conv2d(4, 6, 3, padding=padding, stride=2, groups=2)
    with torch.no_grad():
        patches = F.unfold(x, 3, padding=padding, stride=2)  # both groups at once
    assert read_model(conv, x).calls[0].mean_square == pytest.approx(float(patches.square().mean()), rel=1e-5)


def test_residual_additions():
    model = nn.Sequential(nn.Linear(6, 6), Block(6), Block(6, skip=0.5), nn.Linear(6, 2))
    reading = read_model(model)
    last = stripped(reading.calls[-1].source)
    assert isinstance(last, Sum)
    assert [coefficient for coefficient, _ in last.terms] == [0.5, 1.0]


def test_reading_changes_nothing():
    model = nn.Sequential(
        nn.Conv1d(2, 3, 3), nn.BatchNorm1d(3), nn.Dropout(0.5), nn.ReLU(), nn.Flatten(), nn.Linear(12, 2)
    )
    before, state = copy.deepcopy(model.state_dict()), torch.random.get_rng_state()
    read_model(model, torch.randn(8, 2, 6, generator=torch.Generator().manual_seed(1)))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(state, torch.random.get_rng_state())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_shared_weights_are_one_layer():
    layer = nn.Linear(5, 5)
    reading = read_model(nn.Sequential(layer, nn.Tanh(), layer))
    assert len(reading.layers) == 1 and len(reading.layers[0].calls) == 2
    assert reading.layers[0].weight_names == ("0.weight", "2.weight")


def test_activation_that_cannot_be_seen_is_named():
    model = nn.Sequential(nn.Linear(4, 4), HiddenActivation(), nn.Linear(4, 1))
    (unknown,) = read_model(model).unknown_activations()
    assert (unknown.path, unknown.operation) == ("1", "HiddenActivation")
    assert texts(read_model(model, activation="sin")) == [None, "sin"]
    assert texts(read_model(model, activation={"1": "tanh"})) == [None, "tanh"]


def test_attention_is_unknown_but_no_activation():
    model = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=True)
    reading = read_model(model, torch.randn(2, 3, 8))
    assert not reading.unknown_activations()
    assert any(isinstance(s, Unknown) for s in upstream(reading.outputs[0]))


@pytest.mark.parametrize(
    ("model", "example", "message"),
    [
        (nn.Sequential(nn.Linear(4, 2)).half(), None, "'0.weight' is float16; initialise in float32"),
        (nn.Linear(4, 2, device="meta"), None, "'weight' is on the meta device"),
        (nn.LazyLinear(3), None, "has no shape yet"),
        (nn.utils.parametrizations.weight_norm(nn.Linear(3, 3)), None, "are parametrized"),
        (nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)).eval(), None, "'1' is a BatchNorm1d in eval mode"),
        (nn.Linear(4, 2), torch.ones(3, 5), r"`example_input` of shape \(3, 5\) does not go through the model"),
        (nn.Linear(4, 2), torch.full((3, 4), float("nan")), "must hold finite numbers"),
        (nn.Linear(4, 2), [[1.0] * 4], "does not go through the model"),
        (nn.Linear(4, 2), 3.0, "`example_input` must be a tensor"),
        (nn.ReLU(), None, "has no Linear or Conv1d/2d/3d layers"),
        ("gelu", None, "`model` must be a torch.nn.Module, but got str"),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_line(model, example, message):
    with pytest.raises(InputError, match=message) as refused:
        read_model(model, example)
    assert "\n" not in str(refused.value)


def test_activation_argument_is_checked():
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    with pytest.raises(InputError, match="names the module 'act', which the model does not have"):
        read_model(model, activation={"act": "relu"})
    with pytest.raises(InputError, match="must be an Activation or the name of one"):
        read_model(model, activation={"1": 3})


class Positions(nn.Module):
    """What a vision transformer does before its blocks: a learned number for every token and channel."""

    def __init__(self):
        super().__init__()
        self.embed, self.out = nn.Linear(6, 6), nn.Linear(6, 2)
        self.position = nn.Parameter(torch.linspace(-0.5, 1.0, 6))

    def forward(self, x):
        return self.out(torch.relu(self.embed(x) + self.position))


def test_fixed_numbers_added_are_no_activation():
    reading = read_model(Positions(), torch.randn(3, 6))
    assert texts(reading) == [None, "relu"] and not reading.unknown_activations()
    _, before = activation_before(reading.calls[1].source)
    assert isinstance(before, Affine)
    assert before.shift == pytest.approx(float(torch.linspace(-0.5, 1.0, 6).square().mean()))


class Comparing(nn.Module):
    """Control flow on the input, a scaled activation, buffers that a forward pass replaces or first sets."""

    def __init__(self):
        super().__init__()
        self.layer, self.out = nn.Linear(4, 4), nn.Linear(4, 1)
        self.register_buffer("count", torch.zeros(()))
        self.register_buffer("average", None)

    def forward(self, x):
        self.count = self.count + 1
        self.average = x.mean(0)
        x = self.layer(x) if x.norm() < 1e9 else x
        return self.out(0.5 * torch.relu(x))


def test_comparisons_of_data_and_buffers_that_are_replaced():
    model = Comparing()
    count = model.count
    assert texts(read_model(model, torch.randn(3, 4)))[1] == "(relu(z) * 0.5)"
    assert model.count is count and float(count) == 0 and model.average is None


@torch.compile(backend="eager")
def compiled_silu(z):
    return z * torch.sigmoid(z)


class Compiled(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(4, 4), nn.Linear(4, 1)

    def forward(self, x):
        return self.last(compiled_silu(self.first(x)))


@pytest.mark.skipif(not hasattr(torch.compiler, "set_stance"), reason="PyTorch before 2.6")
def test_compiled_models_are_read_as_they_were_written():
    inside = Compiled()
    in_place = nn.Sequential(nn.Linear(4, 4), nn.GELU(), nn.Linear(4, 1))
    in_place.compile(backend="eager")
    assert texts(read_model(inside)) == [None, "(z * sigmoid(z))"]
    assert texts(read_model(in_place)) == texts(read_model(torch.compile(in_place, backend="eager"))) == [None, "gelu"]


def test_before_pytorch_2_6_compiled_models_are_refused(monkeypatch):
    monkeypatch.delattr(torch.compiler, "set_stance", raising=False)
    model = nn.Sequential(nn.Linear(4, 4), torch.compile(nn.GELU(), backend="eager"), nn.Linear(4, 1))
    with pytest.raises(InputError, match="`model` is compiled, or a part of it; give the module that it was made from"):
        read_model(model)


class Transposed(nn.Module):
    """An autoencoder that decodes with the encoder's weight."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Linear(6, 3)

    def forward(self, x):
        return F.linear(torch.tanh(self.encoder(x)), self.encoder.weight.t())


class Standardised(nn.Conv1d):
    """Weights of which mean and size are taken away before use."""

    def forward(self, x):
        return F.conv1d(x, (self.weight - self.weight.mean()) / self.weight.std(), self.bias)


def test_weights_computed_from_parameters_are_no_data():
    model = Transposed()
    reading = read_model(model, torch.randn(4, 6))
    assert isinstance(reading.outputs[0], Unknown) and reading.uses[id(model.encoder.weight)] == ("t",)
    reading = read_model(nn.Sequential(Standardised(2, 3, 3), nn.Flatten(), nn.Linear(12, 2)), torch.randn(4, 2, 6))
    assert isinstance(stripped(reading.calls[0].source), Unknown)


def test_a_script_module_inside_is_refused_and_no_hook_stays():
    model = nn.Sequential(nn.Linear(4, 4), torch.jit.script(nn.ReLU()), nn.Linear(4, 1))
    with pytest.raises(InputError, match="'1' is a compiled"):
        read_model(model)
    assert not any(model[i]._forward_hooks or model[i]._forward_pre_hooks for i in (0, 2))


def pruned():
    from torch.nn.utils import prune

    return prune.random_unstructured(nn.Linear(4, 4), "weight", 0.5)


@pytest.mark.parametrize(
    ("model", "example", "message"),
    [
        (torch.nn.utils.spectral_norm(nn.Linear(4, 4)), None, "are parametrized"),
        (pruned(), None, "are parametrized"),
        (nn.Linear(4, 4, dtype=torch.cfloat), None, "'weight' is complex"),
        (nn.Linear(4, 4), torch.zeros(2, 4, device="meta"), "`example_input` is on the meta device"),
    ],
)
def test_more_of_what_cannot_be_read(model, example, message):
    with pytest.raises(InputError, match=message) as refused:
        read_model(model, example)
    assert "\n" not in str(refused.value)


def test_a_fault_of_the_reader_is_not_blamed_on_the_input(monkeypatch):
    def failing(*_, **__):
        raise ZeroDivisionError("of ours")

    monkeypatch.setattr("finitewidth.frontends.torch.model._sizes", failing)
    with pytest.raises(InputError, match=r"`model` runs, but not while its operations are watched .*of ours"):
        read_model(nn.Linear(4, 4), torch.randn(2, 4))
