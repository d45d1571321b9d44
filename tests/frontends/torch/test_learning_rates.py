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
    groups = fw.torch.param_groups(model, lr=LR, optimizer=optimizer)
    changes = []
    for _ in range(draws):
        plan.draw_(generator)
        step = optimizer([dict(g) for g in groups] if scaled else model.parameters(), lr=LR)
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


def test_sgd_makes_the_tangent_kernel_that_of_the_theory():
    """Per unit of lr, SGD's change of the output is −Θ⁽ᴸ⁾ with λ_b, λ_W of PDLT ch. 9: `flow` against real steps."""
    L, n, x = 6, 128, inputs(1, 16, scale=1.7)
    seen, error = change_of_output(nn.Tanh, L, n, torch.optim.SGD, True, 60)
    C_W = [1 / float(x.square().mean()), *[1.0] * (L - 1)]
    net = fw.MLP("tanh", depth=L, width=n, C_W=C_W, lambda_b=[1 / l for l in range(1, L + 1)], lambda_W=1.0)
    Theta = float(fw.flow(net, x.numpy()).Theta[-1, 0, 0])
    assert abs(seen - Theta) < 4.5 * error + 3 * L / n * Theta


def test_factors_by_class():
    def rates(activation, optimizer):
        groups = fw.torch.param_groups(chain(activation, [8, 16, 16, 4]), lr=1.0, optimizer=optimizer)
        return {g["name"]: g["lr"] for g in groups}

    assert rates(nn.ReLU, torch.optim.SGD)["2.weight"] == pytest.approx(1 / (3 * 16))
    assert rates(nn.GELU, torch.optim.SGD)["2.bias"] == pytest.approx(1 / 3)
    tanh = rates(nn.Tanh, torch.optim.SGD)
    assert tanh["2.weight"] == pytest.approx(1 / 16) and tanh["2.bias"] == pytest.approx(1 / 2)  # p⊥ = 1
    adam = rates(nn.ReLU, torch.optim.AdamW)
    assert adam["0.weight"] == pytest.approx(1 / (3 * 8 * 4)) and adam["4.weight"] == pytest.approx(1 / (3 * 16))


def test_frozen_parameters_have_no_group():
    model = chain(nn.ReLU, [3, 4, 1])
    model[0].weight.requires_grad_(False)
    assert [g["name"] for g in fw.torch.param_groups(model, lr=0.1)] == ["0.bias", "2.weight", "2.bias"]


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (nn.Linear(2, 2), {"lr": 0.0}, "`lr` must be a finite number > 0"),
        (nn.Linear(2, 2), {"optimizer": torch.optim.RMSprop}, "`optimizer` must be torch.optim.SGD, Adam or AdamW"),
        (nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2), nn.ReLU(), nn.Linear(2, 2)), {}, "has the normalisation '1'"),
        (nn.Sequential(nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2)), {},
         "different universality classes"),
    ],
)  # fmt: skip
def test_what_is_not_derived_is_refused(model, options, message):
    with pytest.raises(fw.InputError, match=message):
        fw.torch.param_groups(model, **{"lr": 0.1, **options})
