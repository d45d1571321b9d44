"""`fw.torch.tune_`: what it measures is critical afterwards, on networks of several kinds; what it leaves alone."""

import copy
import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

import finitewidth as fw  # noqa: E402
from finitewidth.errors import InputError  # noqa: E402
from finitewidth.frontends.torch.inspect_layers import run  # noqa: E402
from finitewidth.frontends.torch.layer_graph import layer_graph, shared_jacobian  # noqa: E402
from finitewidth.report.words import number  # noqa: E402


def chain(activation: type[nn.Module], depth: int = 20, width: int = 48) -> nn.Sequential:
    return nn.Sequential(*[m for _ in range(depth) for m in (nn.Linear(width, width), activation())][:-1])


class Residual(nn.Module):
    def __init__(self, blocks: int = 12, width: int = 48) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(48, width), nn.Linear(width, 5)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width)) for _ in range(blocks)
        )

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = x + block(x)
        return self.head(x)


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Linear(6, 32), nn.Linear(32, 4)
        blocks = [nn.TransformerEncoderLayer(32, 4, 64, 0.0, batch_first=True, norm_first=True) for _ in range(3)]
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x):
        x = self.embed(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean(1))


def convolutional() -> nn.Sequential:
    block = lambda n, m: (nn.Conv2d(n, m, 3, padding=1), nn.ReLU(inplace=True))  # noqa: E731
    layers = [*block(3, 16), *block(16, 16), nn.MaxPool2d(2), *block(16, 32), nn.AvgPool2d(2), *block(32, 32)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))


def batch(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(2))


def tuned(model, x, **options):
    return fw.torch.tune_(model, x, verbose=False, **options)


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh, nn.GELU])
def test_chains_are_critical_afterwards(activation) -> None:
    torch.manual_seed(0)
    x = batch(32, 48)
    model = chain(activation)
    before = fw.torch.inspect(model, x, initialisations=None)
    found = fw.torch.tuning(model, x)
    assert found.residual_jacobian < 2.3 and found.residual_variance < 0.7  # gave away at most e² of gradients
    found.apply_(model)
    after = fw.torch.inspect(model, x, initialisations=None)
    assert not before.verdict.startswith("Signals and gradients survive")
    assert after.verdict.startswith("Signals and gradients survive")
    target = fw.critical("gelu").K_star if activation is nn.GELU else 1.0
    np.testing.assert_allclose(after.columns["K"].value, target, rtol=1.0)


@pytest.mark.parametrize(
    ("build", "shape"), [(Residual, (32, 48)), (Attention, (16, 5, 6)), (convolutional, (16, 3, 16, 16))]
)
def test_signals_and_gradients_are_even_in_depth(build, shape) -> None:
    """Of the layers that are no branch of a stream: within e² of one another, measured by `inspect`."""
    torch.manual_seed(1)
    model, x = build(), batch(*shape)
    found = fw.torch.tuning(model, x)
    found.apply_(model)
    after = fw.torch.inspect(model, x, initialisations=None)
    assert after.verdict.startswith("Signals and gradients survive")
    chain = [i for i, layer in enumerate(found.layers) if layer.role in ("chain", "first", "in a branch")]
    K = after.columns["K"].value[chain]
    assert K.max() / K.min() < 4.0
    chi = [layer.jacobian for layer in found.layers if layer.role in ("chain", "in a branch")]
    assert all(abs(math.log(c)) < 0.8 for c in chi)
    gradient = after.columns["gradient"].value
    assert gradient.max() / gradient.min() < 60


def test_what_a_residual_branch_adds_is_its_share() -> None:
    torch.manual_seed(1)
    found = fw.torch.tuning(Residual(blocks=8), batch(32, 48))
    writers = [layer for layer in found.layers if layer.role == "writes to a stream"]
    assert [layer.name for layer in writers] == [f"blocks.{i}.3" for i in range(8)]
    for layer in writers:
        assert layer.jacobian_target == 1 / 8
        assert layer.variance < 1.05 * layer.variance_target and layer.jacobian < 1.2 * layer.jacobian_target


def test_the_graph_tells_chains_branches_and_joins() -> None:
    class Joins(nn.Module):
        """A convolution beside its shortcut, then a concatenation, then a true residual addition."""

        def __init__(self) -> None:
            super().__init__()
            self.stem, self.main, self.short = nn.Linear(4, 16), nn.Linear(16, 16), nn.Linear(16, 16)
            self.grow, self.back, self.head = nn.Linear(16, 16), nn.Linear(32, 16), nn.Linear(16, 2)

        def forward(self, x):
            x = torch.relu(self.stem(x))
            x = torch.relu(self.main(x) + self.short(x))
            x = torch.cat([x, self.grow(x)], 1)
            y = self.back(torch.relu(x))
            return self.head(torch.relu(y + torch.relu(x[:, :16])))

    torch.manual_seed(0)
    graph = layer_graph(run(Joins(), batch(64, 4), cut=True))
    assert graph.parents == ((), (0,), (0,), (1, 2), (3,), (4,))
    assert graph.stream[:4] == (None, None, None, None)  # neither of two parallel layers, nor what is concatenated


def test_the_shared_jacobian_is_the_exact_one() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv1d(2, 3, 3), nn.Tanh(), nn.AvgPool1d(2), nn.Conv1d(3, 4, 2)).double()
    x = batch(5, 2, 10).double()
    ran = run(model, x, cut=True)
    z = ran.layers[0].z.detach()
    exact = 0.0
    for a in range(5):  # channels perturbed at all positions at once
        J = torch.func.jacfwd(lambda d, a=a: model[1:](z[a : a + 1] + d[None, :, None]))(torch.zeros(3).double())
        exact += float(J.detach().square().sum()) / ran.layers[1].made.numel()
    sampled = [shared_jacobian(ran.layers, 1, (0,), 5, 1) for _ in range(400)]
    error = np.std(sampled) / 20
    assert abs(np.mean(sampled) - exact) < 4.5 * error and error < 0.03 * exact


def test_deterministic_and_torch_left_as_it_was() -> None:
    x = batch(16, 48)
    torch.manual_seed(5)
    model = chain(nn.Tanh, depth=4)
    state = torch.get_rng_state()
    first, second = copy.deepcopy(model), copy.deepcopy(model)
    assert tuned(first, x, seed=1) is first
    tuned(second, x, seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    ratio = (first[2].weight / model[2].weight).detach()
    assert float(ratio.std() / ratio.mean()) < 1e-5  # rescaled, not drawn anew


def test_frozen_tied_zero_and_buffers_stay() -> None:
    class Kept(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.norm = nn.Linear(48, 48), nn.BatchNorm1d(48)
            self.frozen = nn.Linear(48, 48).requires_grad_(False)
            self.tied, self.twin, self.zero = nn.Linear(48, 48), nn.Linear(48, 48), nn.Linear(48, 48)
            self.twin.weight = self.tied.weight
            nn.init.zeros_(self.zero.weight)

        def forward(self, x):
            x = torch.relu(self.frozen(torch.relu(self.norm(self.first(x)))))
            x = torch.relu(self.twin(torch.relu(self.tied(x))))
            return x + self.zero(x)

    torch.manual_seed(0)
    model, x = Kept(), batch(32, 48)
    before = copy.deepcopy(model.state_dict())
    found = fw.torch.tuning(model, x)
    assert all(torch.equal(v, before[n]) for n, v in model.state_dict().items())
    found.apply_(model)
    assert model.twin.weight is model.tied.weight
    changed = {n for n, v in model.state_dict().items() if not torch.equal(v, before[n])}
    assert changed <= {"first.weight", "first.bias", "tied.weight", "twin.weight", "tied.bias", "twin.bias"}
    assert {"first.weight", "tied.weight"} <= changed
    roles = {layer.name: layer.role for layer in found.layers}
    assert roles["frozen"] == "left: frozen" and roles["zero"] == "left: its weights are all zero"
    scales = {layer.name: layer.scale for layer in found.layers}
    assert scales["tied"] == scales["twin"]
    # shared weights cannot serve both: what is too much here is too little there
    off = [math.log(layer.jacobian) for layer in found.layers if layer.name in ("tied", "twin")]
    assert abs(sum(off)) < 0.4
    assert model.training and found.parameters.keys() <= before.keys()


def test_softplus_is_bounded_and_says_what_remains() -> None:
    torch.manual_seed(0)
    found = fw.torch.tuning(chain(nn.Softplus), batch(32, 48))
    assert found.residual_variance > 2 and found.residual_jacobian < 3
    assert "signals by" in " ".join(str(found).split())  # lines break where the table ends


@pytest.mark.parametrize(
    ("model", "x", "options", "message"),
    [
        (nn.ReLU(), torch.ones(2, 3), {}, "has no weights"),
        (nn.Linear(3, 2).half(), torch.ones(2, 3), {}, "float16"),
        (nn.Linear(3, 2).to("meta"), torch.ones(2, 3), {}, "meta device"),
        (nn.Linear(3, 2), torch.ones(2, 4), {}, "fails on `batch`"),
        (nn.Linear(3, 2), torch.ones(2, 3), {"variance": 0.0}, "`variance` must be"),
        (nn.Linear(3, 2), torch.ones(2, 3), {"seed": 1.5}, "`seed` must be"),
        (nn.Linear(3, 2), torch.zeros(2, 3), {}, "layer 'Linear' cannot be made critical"),
        (
            nn.Sequential(nn.Linear(3, 2), nn.Hardshrink(100.0), nn.Linear(2, 2)),
            torch.ones(2, 3),
            {},
            "layer '2' cannot",
        ),
    ],
)
def test_refusals_leave_the_model_untouched(model, x, options, message) -> None:
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    with pytest.raises(InputError, match=message) as caught:
        tuned(model, x, **options)
    assert "\n" not in str(caught.value)
    for n, p in model.named_parameters():
        assert p.is_meta or torch.equal(p, before[n])


def test_the_report_is_a_table(capsys) -> None:
    torch.manual_seed(0)
    fw.torch.tune_(nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2)), torch.ones(4, 3))
    printed = capsys.readouterr().out
    assert "weights ×" in printed and "along the chain" in printed and "\x1b" not in printed


class Named(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder_of_the_whole_model = nn.ModuleDict(
            {"recurrent_part": nn.LSTM(4, 8), "classifier": nn.Linear(8, 2)}
        )

    def forward(self, x):
        parts = self.encoder_of_the_whole_model
        return parts["classifier"](parts["recurrent_part"](x)[0])


@pytest.mark.parametrize("columns", ["40", "80", "120"])
def test_a_table_of_long_names_and_roles_loses_no_number(columns, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    torch.manual_seed(0)
    found = fw.torch.tuning(Named(), torch.randn(5, 4))
    layer, printed = found.layers[-1], str(found)
    for value in (layer.scale, layer.bias_std, layer.variance, layer.jacobian, layer.jacobian_target):
        assert number(value) in printed
    assert "…" in printed and all(word in printed for word in ("LSTM", "linear in", "matrix"))


class Product(nn.Module):
    """A layer as people write it, weights (in, out), such as GPT-2's in transformers."""

    def __init__(self, fan_in, fan_out):
        super().__init__()
        self.kernel, self.bias = nn.Parameter(0.02 * torch.randn(fan_in, fan_out)), nn.Parameter(torch.zeros(fan_out))

    def forward(self, x):
        return torch.addmm(self.bias, x, self.kernel)


class OfUnitSize(Product):
    def forward(self, x):
        return x @ (self.kernel / self.kernel.norm(dim=0))


def test_layers_of_peoples_own_are_found_by_trying() -> None:
    torch.manual_seed(0)
    x = torch.randn(16, 32)
    build = (Product, nn.Linear, Product)
    chain = [m for layer in build for m in (layer(32, 32), nn.Tanh())]
    found = fw.torch.tuning(nn.Sequential(*chain[:-1]), x)
    assert [layer.role for layer in found.layers] == ["first", "chain", "chain"]
    assert found.residual_jacobian < 0.7 and "0.kernel" in found.parameters
    found = fw.torch.tuning(nn.Sequential(nn.Linear(32, 32), OfUnitSize(32, 4)), x)
    assert found.layers[1].role == "left: OfUnitSize is not linear in one matrix"


def test_an_instance_normalisation_does_not_blow_up_what_is_behind() -> None:
    """It takes away what all positions share, and with it the mode by which convolutions are tuned."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv1d(3, 16, 3), nn.InstanceNorm1d(16), nn.ReLU(), nn.Conv1d(16, 16, 3), nn.InstanceNorm1d(16),
        nn.Flatten(), nn.Linear(16 * 8, 4),
    )  # fmt: skip
    last = fw.torch.tuning(model, torch.randn(8, 3, 12)).layers[-1]
    assert last.scale < 20 and 0.3 < last.variance < 3 and 0.3 < last.jacobian < 3
