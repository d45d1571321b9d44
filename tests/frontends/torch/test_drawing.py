"""Weights as drawn: variances of preactivations in layers of every shape, and how much orthogonal ones fluctuate."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
nn = torch.nn

import finitewidth as fw  # noqa: E402
from finitewidth.frontends.torch.drawing import draw_weight_  # noqa: E402
from tests.frontends.torch.test_critical_init import chain, inputs  # noqa: E402


def drawn(layer, C_W, distribution, draws=400):
    """Draws of the weight of `layer`, over which its parameter runs."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for _ in range(draws):
            groups = getattr(layer, "groups", 1)
            draw_weight_(layer.weight, C_W, groups=groups, distribution=distribution, generator=generator)
            yield layer


LAYERS = {
    "square": nn.Linear(12, 12, bias=False),
    "tall": nn.Linear(5, 40, bias=False),
    "wide": nn.Linear(40, 5, bias=False),
    "one neuron": nn.Linear(9, 1, bias=False),
    "convolution, tall": nn.Conv2d(1, 20, 3, bias=False),
    "convolution, wide": nn.Conv1d(6, 4, 5, bias=False),
    "groups": nn.Conv2d(6, 9, 2, groups=3, bias=False),
    "groups, tall": nn.Conv1d(4, 24, 2, groups=2, bias=False),
    "depthwise": nn.Conv2d(6, 12, 3, groups=6, bias=False),
}


@pytest.mark.parametrize("distribution", ["normal", "orthogonal"])
@pytest.mark.parametrize("name", LAYERS)
def test_preactivations_have_variance_C_W(name, distribution):
    layer = LAYERS[name].double()
    shape = [layer.in_features] if name in ("square", "tall", "wide", "one neuron") else [layer.in_channels]
    x = inputs(1, *shape, *layer.weight.shape[2:], scale=2.0)  # one patch; numbers of nonzero mean, unequal
    C_W, share = 1.7, layer.weight[0].numel() * layer.weight.shape[0]
    seen = np.array([float(now(x).square().mean()) for now in drawn(layer, C_W, distribution)])
    groups = getattr(layer, "groups", 1)
    expected = C_W * float(x.square().mean())  # the mean over groups of what each sums
    assert share == layer.weight.numel() and x[0].numel() == groups * layer.weight[0].numel()
    # 4.5 standard errors: 7e-6 false alarms a case; where orthogonal columns leave no fluctuation, rounding
    assert abs(seen.mean() - expected) < 4.5 * seen.std(ddof=1) / len(seen) ** 0.5 + 1e-12
    if distribution == "orthogonal" and layer.weight.shape[0] >= groups * layer.weight[0].numel():
        assert seen == pytest.approx(expected, rel=1e-12)


def test_orthogonal_entries_have_no_correlations_within_a_neuron():
    rows = torch.stack([layer.weight.detach().clone() for layer in drawn(nn.Linear(6, 4).double(), 1.0, "orthogonal")])
    second = torch.einsum("dia,dib->ab", rows, rows) / (4 * len(rows))
    assert torch.allclose(second, torch.eye(6, dtype=torch.float64) / 6, atol=4.5 / (6 * (4 * len(rows)) ** 0.5))


@pytest.mark.parametrize(("distribution", "per_layer"), [("normal", 5 / 32), ("orthogonal", 3 / 34)])
def test_fluctuations_of_relu_networks(distribution, per_layer):
    """The variance of |z|²/n over networks of four activations: exact in n, see finitewidth.frontends.torch.drawing."""
    plan = fw.torch.critical_plan(
        chain(nn.ReLU, [32] * 6), x := torch.ones(1, 32, dtype=torch.float64), distribution=distribution
    )
    generator, sizes = torch.Generator().manual_seed(1), []
    with torch.no_grad():
        for _ in range(2000):
            plan.draw_(generator)
            sizes.append([float(z.square().mean()) for z in _signals(plan.reading.model, x)])
    first, last = np.array(sizes)[:, [0, -1]].T
    ratio = (last / first).reshape(40, 50)
    batches = ((ratio - 1) ** 2).mean(axis=1)  # the mean is 1 exactly
    error = batches.std(ddof=1) / len(batches) ** 0.5
    assert abs(batches.mean() - ((1 + per_layer) ** 4 - 1)) < 4.5 * error
    assert error < 0.12 * batches.mean()  # the two distributions differ by 0.78 to 0.40


def _signals(model, z):
    seen = []
    for module in model:
        z = module(z)
        if isinstance(module, nn.Linear):
            seen.append(z)
    return seen


@pytest.mark.parametrize("distribution", ["normal", "orthogonal"])
@pytest.mark.parametrize("output_std", [0.1, 2.0])
def test_outputs_have_the_size_asked_for(distribution, output_std):
    x = inputs(10, 20)
    model = nn.Sequential(*chain(nn.GELU, [20, *[150] * 4, 40]), nn.LogSoftmax(-1)).double()
    plan = fw.torch.critical_plan(model, x, distribution=distribution, output_std=output_std)
    assert [p.K for p in plan.drawn[-2:]] == pytest.approx([3.5615528, output_std**2])
    seen, generator = [], torch.Generator().manual_seed(4)
    with torch.no_grad():
        for _ in range(40):
            plan.draw_(generator)
            seen.append(float(model[:-1](x).square().mean()))
    relative = np.array(seen) / output_std**2
    assert abs(relative.mean() - 1) < 4.5 * relative.std(ddof=1) / 40**0.5 + 4 / 150  # and the shift of order L/n


def test_the_same_generator_draws_the_same_orthogonal_weights():
    model, x = chain(nn.Tanh, [5, 8, 3]), inputs(2, 5)
    make = lambda: fw.torch.critical_init_(  # noqa: E731
        model, x, distribution="orthogonal", generator=torch.Generator().manual_seed(3), verbose=False
    )
    first = make()[2].weight.detach().clone()
    assert torch.equal(first, make()[2].weight)


class Ending(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        z = self.first(x)
        return z + self.second(torch.relu(z))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"distribution": "uniform"}, "`distribution` must be 'normal' or 'orthogonal', but got 'uniform'"),
        ({"output_std": 0.0}, "`output_std` must be a finite number > 0, or None, but got 0.0"),
        ({"output_std": True}, "`output_std` must be a finite number > 0, or None, but got True"),
        ({"output_std": 1.0}, "`output_std` sets the layer that ends the model, but this one ends in a signal sum"),
    ],
)
def test_refusals(options, message):
    with pytest.raises(fw.InputError, match=message):
        fw.torch.critical_init_(Ending(), torch.rand(2, 4), **options)


def test_a_frozen_output_layer_cannot_be_scaled():
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    model[2].weight.requires_grad_(False)
    with pytest.raises(fw.InputError, match=r"`output_std` cannot be had: the output layer's '2.weight' is left alone"):
        fw.torch.critical_init_(model, torch.rand(3, 4), output_std=0.1)


@pytest.mark.parametrize("distribution", ["normal", "orthogonal"])
def test_memory_format_changes_no_number(distribution):
    drawn = []
    for memory_format in (torch.contiguous_format, torch.channels_last):
        model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3)).to(memory_format=memory_format)
        options = {"distribution": distribution, "generator": torch.Generator().manual_seed(1), "verbose": False}
        fw.torch.critical_init_(model, torch.rand(2, 3, 8, 8), **options)
        assert model[0].weight.is_contiguous(memory_format=memory_format)
        drawn.append(model[2].weight)
    assert torch.equal(*drawn)
