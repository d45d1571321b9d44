"""Critical initialisation: real models of many draws stay where the theory says; refusals leave the model untouched."""

import copy
from itertools import pairwise

import numpy as np
import pytest

torch = pytest.importorskip("torch")
nn, F = torch.nn, torch.nn.functional

import finitewidth as fw  # noqa: E402
from finitewidth.frontends.torch.plan import critical_plan  # noqa: E402
from tests.frontends.torch.test_model import Block, HiddenActivation, Transposed  # noqa: E402


def chain(activation, widths):
    modules = [m for a, b in pairwise(widths) for m in (nn.Linear(a, b), activation())]
    return nn.Sequential(*modules[:-1]).double()


def inputs(*shape, scale=0.5):
    return scale * torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(5))


def measured(model, x, layers, draws=30):
    """Mean squares of the outputs of `layers` over draws of the plan, with their standard errors."""
    plan = critical_plan(model, x)
    generator = torch.Generator().manual_seed(7)
    seen = {name: [] for name in layers}
    hooks = [
        model.get_submodule(name).register_forward_hook(
            lambda m, a, output, name=name: seen[name].append(float(output.square().mean()))
        )
        for name in layers
    ]
    with torch.no_grad():
        for _ in range(draws):
            plan.draw_(generator)
            model(x)
    for hook in hooks:
        hook.remove()
    values = np.array([seen[name] for name in layers])
    return values.mean(axis=1), values.std(axis=1, ddof=1) / draws**0.5, plan


@pytest.mark.parametrize(("activation", "K"), [(nn.GELU, 3.5615528), (nn.ReLU, 1.0), (nn.SiLU, 14.3201736)])
def test_preactivations_have_the_promised_size(activation, K):
    x = inputs(10, 20)
    names = [str(2 * i) for i in range(6)]
    mean, error, plan = measured(chain(activation, [20, *[200] * 6, 10]), x, names)
    assert [p.K for p in plan.drawn[:6]] == pytest.approx([K] * 6)
    # 4.5 standard errors, and the shift of order 1/n that the theory leaves out at this order
    assert np.all(np.abs(mean / K - 1) < 4.5 * error / K + 6 / 200)


def test_without_the_right_gain_it_would_be_seen():
    x = inputs(10, 20)
    model = chain(nn.GELU, [20, *[256] * 6, 10])
    plan = critical_plan(model, x)
    wrong = [copy.copy(p) for p in plan.drawn]
    for p in wrong:
        object.__setattr__(p, "C_W", 2.0)
    object.__setattr__(plan, "drawn", wrong)
    plan.draw_(torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert abs(float(model[:11](x).square().mean()) / 3.56 - 1) > 0.2


def test_mean_squares_agree_with_flow_where_activations_differ():
    """A tanh network that turns into a GELU one: K of every layer against what draws show."""
    model = nn.Sequential(
        nn.Linear(20, 256), nn.Tanh(), nn.Linear(256, 256), nn.Tanh(), nn.Linear(256, 256), nn.GELU(), nn.Linear(256, 5)
    ).double()  # fmt: skip
    mean, error, plan = measured(model, inputs(10, 20), ["0", "2", "4", "6"], draws=40)
    expected = np.array([p.K for p in plan.drawn])
    assert expected[2] == pytest.approx(3.5615528)
    assert np.all(np.abs(mean / expected - 1) < 4.5 * error / expected + 4 / 256)


def test_convolution_sees_its_patches():
    x = inputs(6, 3, 10, 10, scale=2.0)
    model = nn.Sequential(nn.Conv2d(3, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 64, 3), nn.ReLU()).double()
    mean, error, plan = measured(model, x, ["0", "2"], draws=40)
    assert pytest.approx(1.0) == plan.drawn[0].K
    assert abs(mean[0] - 1.0) < 4.5 * error[0]
    assert pytest.approx(2.0) == plan.drawn[1].C_W


@pytest.mark.parametrize("skip", [1.0, 0.6])
def test_residual_streams_grow_as_said(skip):
    blocks = 5
    model = nn.Sequential(nn.Linear(20, 150), *(Block(150, skip) for _ in range(blocks)), nn.Linear(150, 3)).double()
    names = ["0", *(str(i + 1) for i in range(blocks))]
    mean, error, plan = measured(model, inputs(10, 20), names, draws=30)
    share = 1 / blocks if skip == 1.0 else 1 - skip**2
    outer = {p.layer.path: p for p in plan.drawn if p.layer.path.endswith("outer")}
    assert all(pytest.approx(share) == p.C_W for p in outer.values())  # tanh: C_W = 1
    K = 1.0
    for i in range(blocks):
        K = skip**2 * K + outer[f"{i + 1}.outer"].K
        assert abs(mean[i + 1] - K) < 4.5 * error[i + 1] + 0.02 * K
    assert mean[-1] < np.e


def test_first_layer_follows_the_data():
    for scale in (0.01, 1.0, 30.0):
        x = inputs(4, 50, scale=scale)
        plan = critical_plan(chain(nn.GELU, [50, 30, 2]), x)
        assert plan.drawn[0].C_b + plan.drawn[0].C_W * float(x.square().mean()) == pytest.approx(3.5615528)


def test_everything_is_accounted_for(capsys):
    model = nn.Sequential(nn.Linear(6, 8), nn.PReLU(), nn.Linear(8, 8), nn.LayerNorm(8), nn.Tanh(), nn.Linear(8, 2))
    model[2].weight.requires_grad_(False)
    frozen, norm = model[2].weight.clone(), model[3].weight.clone()
    assert fw.torch.critical_init_(model, torch.rand(5, 6)) is model
    printed = capsys.readouterr().out
    assert all(name in printed for name, _ in model.named_parameters())
    assert "frozen" in printed and "of a LayerNorm" in printed and "of a PReLU" in printed
    assert torch.equal(model[2].weight, frozen) and torch.equal(model[3].weight, norm)


def test_same_generator_same_weights():
    draws = []
    for _ in range(2):
        model = chain(nn.Tanh, [4, 6, 2])
        fw.torch.critical_init_(model, inputs(3, 4), generator=torch.Generator().manual_seed(3), verbose=False)
        draws.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert torch.equal(*draws)


def test_layers_without_biases_keep_their_size_by_weights():
    model = nn.Sequential(*[m for _ in range(4) for m in (nn.Linear(200, 200, bias=False), nn.GELU())]).double()
    mean, error, _ = measured(model, inputs(8, 200), ["0", "2", "4", "6"])
    assert np.all(np.abs(mean / 3.5615528 - 1) < 4.5 * error / 3.56 + 4 / 200)


def shared_with_different_needs():
    layer = nn.Linear(6, 6)
    return nn.Sequential(nn.Linear(6, 6), nn.ReLU(), layer, nn.Tanh(), layer)


@pytest.mark.parametrize(
    ("model", "x", "message"),
    [
        (nn.Sequential(nn.Linear(4, 4), HiddenActivation(), nn.Linear(4, 1)), torch.rand(2, 4),
         "the activation 'HiddenActivation' in module '1' cannot be read"),
        (shared_with_different_needs(), torch.rand(3, 6),
         "the shared weight '2.weight' runs 2 times and would need C_W"),
        (nn.Sequential(nn.Linear(4, 4), nn.ReLU()), torch.zeros(2, 4), "`example_input` is zero where '0' reads it"),
        (nn.Sequential(nn.Linear(4, 4), nn.ReLU()), torch.rand(2, 3), "does not go through the model"),
        (nn.Sequential(nn.Linear(4, 4), nn.ReLU()).half(), torch.rand(2, 4), "float16"),
        (nn.Sequential(nn.Linear(4, 4), nn.Hardshrink(), nn.Linear(4, 2)), torch.rand(2, 4), "'1'.*σ jumps at"),
        (nn.Embedding(3, 4), torch.tensor([1, 2]), "runs no Linear or Conv1d/2d/3d layer"),
    ],
)  # fmt: skip
def test_refusal_leaves_the_model_untouched(model, x, message):
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(fw.InputError, match=message) as refused:
        fw.torch.critical_init_(model, x)
    assert "\n" not in str(refused.value)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


class Residual(nn.Module):
    """x ← after(x + gain × outer(relu(inner(x)))), as in ResNets (relu), ConvNeXt and ReZero (a small gain)."""

    def __init__(self, width, after=nn.Identity, gain=1.0):
        super().__init__()
        self.inner, self.outer, self.after = nn.Linear(width, width), nn.Linear(width, width), after()
        self.gain = nn.Parameter(torch.full((width,), gain))

    def forward(self, x):
        return self.after(x + self.gain * self.outer(torch.relu(self.inner(x))))


@pytest.mark.parametrize("after", [nn.ReLU, nn.GELU])
def test_streams_that_pass_through_activations_have_the_size_that_is_printed(after):
    """They are not Gaussian, and have a mean: σ(x + f(x))."""
    model = nn.Sequential(nn.Linear(20, 150), *(Residual(150, after) for _ in range(4)), nn.Linear(150, 10)).double()
    mean, error, plan = measured(model, inputs(10, 20), ["0", "2.inner", "4.inner", "5"], draws=20)
    expected = {p.layer.path: p.K for p in plan.drawn}
    expected = np.array([expected[name] for name in ("0", "2.inner", "4.inner", "5")])
    assert np.all(np.abs(mean / expected - 1) < 4.5 * error / expected + 8 / 150)


@pytest.mark.parametrize("gain", [1e-6, 0.0])
def test_a_learned_gain_that_starts_small_is_not_made_up_for(gain):
    model = nn.Sequential(nn.Linear(20, 30), *(Residual(30, gain=gain) for _ in range(3)), nn.Linear(30, 2))
    plan = critical_plan(model, torch.rand(5, 20))
    assert [p.C_W for p in plan.drawn if p.layer.path.endswith("outer")] == pytest.approx([2.0] * 3)
    assert all(pytest.approx(1.0) == p.K for p in plan.drawn if p.layer.path.endswith("inner"))


def test_why_is_said_of_tied_attention_and_transposed_weights():
    attention = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    assert (
        critical_plan(attention, torch.randn(2, 3, 8))
        .left["self_attn.out_proj.weight"]
        .startswith("used by 'multi_head_attention_forward'")
    )
    embedding, head = nn.Embedding(5, 8), nn.Linear(8, 5, bias=False)
    head.weight = embedding.weight
    left = critical_plan(nn.Sequential(embedding, nn.Linear(8, 8), nn.ReLU(), head), torch.tensor([[1, 2]])).left
    assert left["0.weight"] == left["3.weight"] == "shared with an Embedding ('0.weight'), which is no layer"
    remarks = critical_plan(Transposed(), torch.randn(4, 6)).remarks
    assert "'encoder.weight' is used by 't' as well, for which nothing is computed" in remarks


def test_named_arguments_may_be_any_mapping():
    from types import MappingProxyType

    x = torch.rand(3, 4)
    batch = MappingProxyType({"input": x})  # such as a BatchEncoding of a tokenizer
    assert critical_plan(nn.Linear(4, 2), batch).drawn[0].C_W == critical_plan(nn.Linear(4, 2), x).drawn[0].C_W


class Halved(nn.Module):
    """(x + f(x))/√2, the factor behind the sum or in front of its terms."""

    def __init__(self, width, behind):
        super().__init__()
        self.inner, self.outer, self.behind = nn.Linear(width, width), nn.Linear(width, width), behind

    def forward(self, x):
        f = self.outer(torch.tanh(self.inner(x)))
        return (x + f) / 2**0.5 if self.behind else x / 2**0.5 + f / 2**0.5


def test_a_factor_behind_an_addition_is_one_of_its_terms():
    plans = []
    for behind in (True, False):
        model = nn.Sequential(nn.Linear(6, 8), *(Halved(8, behind) for _ in range(3)), nn.ReLU(), nn.Linear(8, 2))
        plans.append([p.C_W for p in critical_plan(model, torch.ones(2, 6)).drawn])
    assert plans[0] == pytest.approx(plans[1])
    assert plans[0][2::2] == pytest.approx([1.0] * 3)  # share (1 − γ²)/β² = 1: χ = 1 exactly
