"""One learning rate at every depth and width: measured by one step of the optimizer on real models."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
nn = torch.nn

import finitewidth as fw  # noqa: E402
from tests.frontends.torch.test_critical_init import chain, inputs  # noqa: E402

LR = 1e-5


def change_of_output(activation, depth, width, optimizer, scaled, draws):
    """Mean over draws of −(change of the output per unit of lr) after one step on 𝓛 = output; one input, one output."""
    x = inputs(1, 16, scale=1.7)
    model = chain(activation, [16, *[width] * (depth - 1), 1])
    plan = fw.torch.critical_plan(model, x)
    generator = torch.Generator().manual_seed(depth + width)
    changes = []
    for _ in range(draws):
        plan.draw_(generator)
        groups = fw.torch.param_groups(model, lr=LR, optimizer=optimizer, example_input=x) if scaled else None
        step = optimizer(groups or model.parameters(), lr=LR)
        before = model(x).sum()
        step.zero_grad()
        before.backward()
        step.step()
        changes.append(-float((model(x).sum() - before).detach()) / LR)
    return np.mean(changes), np.std(changes, ddof=1) / draws**0.5


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam])
@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh])
def test_change_of_output_does_not_depend_on_depth_and_width(activation, optimizer):
    shallow, deep = (change_of_output(activation, L, 64, optimizer, True, 30) for L in (4, 16))
    narrow = change_of_output(activation, 4, 16, optimizer, True, 60)
    error = 4.5 * np.hypot(deep[1] / deep[0], shallow[1] / shallow[0])
    # equal up to corrections of order L/n; unscaled it is 4 times as much, see below
    assert abs(np.log(deep[0] / shallow[0])) < np.log(1.45) + error
    error = 4.5 * np.hypot(narrow[1] / narrow[0], shallow[1] / shallow[0])
    assert abs(np.log(narrow[0] / shallow[0])) < 0.15 + error


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam])
def test_without_scaling_it_does(optimizer):
    shallow, deep = (change_of_output(nn.ReLU, L, 32, optimizer, False, 20)[0] for L in (4, 16))
    assert deep > 2.5 * shallow


@pytest.mark.parametrize(("activation", "name"), [(nn.Tanh, "tanh"), (nn.GELU, "gelu")])
def test_sgd_makes_the_tangent_kernel_that_of_the_theory(activation, name):
    """Per unit of lr, SGD's change of the output is −Θ⁽ᴸ⁾ = −1.1: real steps, and `flow` with the groups' λ."""
    L, n, x = 6, 128, inputs(1, 16, scale=1.7)
    seen, error = change_of_output(activation, L, n, torch.optim.SGD, True, 60)
    assert abs(seen - 1.1) < 4.5 * error + 3 * L / n * 1.1
    model = chain(activation, [16, *[n] * (L - 1), 1])
    plan = fw.torch.critical_plan(model, x)
    plan.draw_(torch.Generator().manual_seed(0))
    with torch.no_grad():
        model[-1].weight.mul_(2.0)  # so that it is surely not one that starts small
    rate = {g["name"]: g["lr"] for g in fw.torch.param_groups(model, lr=1.0, example_input=x)}
    lambda_b = [rate[p.layer.bias_names[0]] for p in plan.drawn]
    lambda_W = [rate[p.layer.weight_names[0]] * p.layer.fan_in for p in plan.drawn]
    C_b, C_W = zip(*(p.layer.variances() for p in plan.drawn), strict=True)
    net = fw.MLP(name, depth=L, width=n, C_b=C_b, C_W=C_W, lambda_b=lambda_b, lambda_W=lambda_W)
    assert float(fw.flow(net, x.numpy()).Theta[-1, 0, 0]) == pytest.approx(1.1, rel=1e-6)


def rates(activation, optimizer, widths=(8, 400, 400, 4)):
    model, x = chain(activation, list(widths)), torch.full((1, widths[0]), 0.5, dtype=torch.float64)
    generator = torch.Generator().manual_seed(1)
    fw.torch.critical_init_(model, x, generator=generator, verbose=False)
    groups = fw.torch.param_groups(model, lr=1.0, optimizer=optimizer, example_input=x)
    return {g["name"]: g["lr"] for g in groups}


def test_factors_by_class():
    """Weights are drawn: a layer's C_W is off by √(2/N) of N weights."""
    relu = rates(nn.ReLU, torch.optim.SGD)
    assert relu["2.weight"] == pytest.approx(2 / (3 * 400), rel=0.1)  # λ_W⟨σ²⟩ = 1/L at K = 1, ⟨σ²⟩ = ½
    assert relu["2.bias"] == pytest.approx(0.1 / 3, rel=0.1)
    deep = rates(nn.Tanh, torch.optim.SGD, [8, *[100] * 39, 4])
    # K* = 0, p⊥ = 1: λ_W is the same in every layer, λ_b falls like 1/ℓ (PDLT §9.4)
    assert deep["60.weight"] / deep["30.weight"] == pytest.approx(1, rel=0.25)
    assert deep["60.bias"] / deep["30.bias"] == pytest.approx(16 / 31, rel=0.25)
    adam = rates(nn.ReLU, torch.optim.AdamW)
    assert adam["0.weight"] == pytest.approx(1 / (3 * 8 * 20 * 0.5), rel=0.1)
    assert adam["4.weight"] == pytest.approx(2**0.5 / (3 * 400), rel=0.1)


def test_other_initialisations_are_accounted_for():
    """A second layer of twice the size: what the third reads, and the gradient that reaches the first, have 4 times the
    mean square."""
    x = inputs(20, 8)
    model = fw.torch.critical_init_(chain(nn.ReLU, [8, 300, 300, 2]), x, verbose=False)
    before = {g["name"]: g["lr"] for g in fw.torch.param_groups(model, lr=1.0, example_input=x)}
    with torch.no_grad():
        model[2].weight.mul_(2.0)
    after = {g["name"]: g["lr"] for g in fw.torch.param_groups(model, lr=1.0, example_input=x)}
    factor = {"0.weight": 1 / 4, "0.bias": 1 / 4, "2.weight": 1, "2.bias": 1, "4.weight": 1 / 4, "4.bias": 1}
    for name, expected in factor.items():
        assert after[name] / before[name] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("last", [0.5, 0.0])
def test_an_output_layer_that_starts_small_counts_as_critical(last):
    x = inputs(20, 8)
    model = fw.torch.critical_init_(chain(nn.SiLU, [8, 300, 5000]), x, verbose=False)
    before = fw.torch.param_groups(model, lr=1.0, example_input=x)
    with torch.no_grad():
        model[2].weight.mul_(last)
    after = fw.torch.param_groups(model, lr=1.0, example_input=x)
    for a, b in zip(after, before, strict=True):
        assert a["lr"] == pytest.approx(b["lr"], rel=0.01)  # C_W of 1.5 million weights


def test_without_an_example_inputs_are_those_of_the_initialisation():
    x = inputs(50, 8, scale=0.3)
    model = fw.torch.critical_init_(chain(nn.SiLU, [8, 500, 50, 2]), x, verbose=False)
    given, guessed = (fw.torch.param_groups(model, lr=1.0, example_input=e) for e in (x, None))
    for a, b in zip(given, guessed, strict=True):
        assert a["lr"] == pytest.approx(b["lr"], rel=0.1)  # C_W of 4000 weights, C_b of 500 biases


def test_frozen_parameters_have_no_group():
    model = chain(nn.ReLU, [3, 4, 1])
    model[0].weight.requires_grad_(False)
    assert [g["name"] for g in fw.torch.param_groups(model, lr=0.1)] == ["0.bias", "2.weight", "2.bias"]


def zeroed():
    model = chain(nn.ReLU, [2, 2, 2, 2])
    nn.init.zeros_(model[2].weight)
    return model


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (nn.Linear(2, 2), {"lr": 0.0}, "`lr` must be a finite number > 0"),
        (nn.Linear(2, 2), {"optimizer": torch.optim.RMSprop}, "`optimizer` must be torch.optim.SGD, Adam or AdamW"),
        (nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2), nn.ReLU(), nn.Linear(2, 2)), {}, "has the normalisation '1'"),
        (nn.Sequential(nn.Linear(2, 2), nn.Hardshrink(), nn.Linear(2, 2)), {}, "jumps at"),
        (zeroed(), {}, "the layer of '0.weight' has a gradient of mean square 0; initialise with"),
    ],
)  # fmt: skip
def test_what_is_not_derived_is_refused(model, options, message):
    with pytest.raises(fw.InputError, match=message):
        fw.torch.param_groups(model, **{"lr": 0.1, **options})


@pytest.mark.parametrize("of", ["slopes", "embedding"])
def test_other_parameters_too_change_the_output_alike_at_every_width(of):
    """One step of Adam on PReLU's slopes alone, or on an embedding in front: √width as much if not divided by it."""
    changes = []
    for width in (32, 512):
        drawn = []
        for seed in range(12):
            torch.manual_seed(seed)
            model = nn.Sequential(nn.Embedding(9, width), nn.Linear(width, width), nn.PReLU(width), nn.Linear(width, 1))
            token = torch.tensor([seed % 9])
            fw.torch.critical_init_(model.double(), token, verbose=False)
            groups = fw.torch.param_groups(model, lr=LR, optimizer=torch.optim.Adam, example_input=token)
            step = torch.optim.Adam(
                [g for g in groups if g["name"] == {"slopes": "2.weight", "embedding": "0.weight"}[of]]
            )
            before = model(token).sum()
            before.backward()
            step.step()
            drawn.append(float((before - model(token).sum()).detach()) / LR)
        changes.append(np.mean(drawn))
    assert abs(np.log(changes[1] / changes[0])) < np.log(1.5)
