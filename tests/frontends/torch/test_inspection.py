"""`fw.torch.inspect` against exact Jacobians, theory, and plain recomputation; and what it must leave alone."""

import copy
from itertools import pairwise

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

import finitewidth as fw  # noqa: E402
from finitewidth.errors import InputError  # noqa: E402
from finitewidth.frontends.torch.inspect_layers import partial_jacobian, run  # noqa: E402
from finitewidth.frontends.torch.inspection import _from_the_output  # noqa: E402


def perceptron(*widths: int, activation: type[nn.Module] = nn.Tanh) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), activation()]
    return nn.Sequential(*layers[:-1])


def inspect(model, batch, **options):
    return fw.torch.inspect(model, batch, **{"initialisations": 3, "theory": False, **options})


@pytest.fixture
def x():
    return torch.randn(6, 7, generator=torch.Generator().manual_seed(3))


def test_one_network_recomputed_in_numpy(x) -> None:
    model = perceptron(7, 12, 9, 4)
    found = inspect(model, x, initialisations=None)
    signal = x.double().numpy()
    for i, layer in enumerate((model[0], model[2], model[4])):
        z = signal @ layer.weight.detach().double().numpy().T + layer.bias.detach().double().numpy()
        np.testing.assert_allclose(found.columns["K"].value[i], (z**2).mean(), rtol=1e-5)
        error = (z**2).mean(1).std(ddof=1) / np.sqrt(6)
        np.testing.assert_allclose(found.columns["K"].standard_error[i], error, rtol=1e-4)
        signal = np.tanh(z)


def test_derivatives_are_those_of_the_exact_jacobians(x) -> None:
    """Random directions, averaged, against W diag(σ') multiplied out."""
    torch.manual_seed(0)
    model = perceptron(7, 12, 9, 4).double()
    x = x.double()
    ran = run(copy.deepcopy(model), x)
    network = run(model, x)
    with torch.no_grad():
        slopes = [1 - torch.tanh(layer.z) ** 2 for layer in network.layers]
        W = [model[i].weight for i in (0, 2, 4)]
        J32 = W[2] * slopes[1][:, None]  # (inputs, 4, 9)
        J31 = J32 @ (W[1] * slopes[0][:, None])
        h = torch.tanh(network.layers[1].z)
        exact_chi = J32.square().sum((1, 2)) / 4
        exact_J = J31.square().sum((1, 2)) / 4
        exact_gradient = float((h.square().sum(1)).mean())  # of the last weights: |h|² for every output
    torch.manual_seed(1)
    chi, jacobian, gradient = [], [], []
    parameters = dict(network.layers[0].module.named_parameters())
    for _ in range(600):
        chi.append(partial_jacobian(ran.layers, 2, 6))
        of_output, gradients = _from_the_output(network, dict(model.named_parameters()), 6)
        jacobian.append(of_output[0])
        gradient.append(gradients["4.weight"])
    assert parameters
    for sampled, exact in ((chi, exact_chi), (jacobian, exact_J), (gradient, exact_gradient)):
        values = np.array(sampled)
        error = values.std(0, ddof=1) / np.sqrt(len(values))
        assert np.all(np.abs(values.mean(0) - np.asarray(exact)) < 4.5 * error)
        assert np.all(error < 0.1 * np.asarray(exact))


def test_theory_agrees_with_uniform_weights_and_unequal_widths(x) -> None:
    """PyTorch's own initialisation, whose uniform weights change the kurtosis; unequal widths, correlated inputs."""
    x = x + 0.7 * x[:1]
    found = fw.torch.inspect(perceptron(7, 40, 60, 50, 5), x, initialisations=80, seed=5)
    assert found.theory.startswith("theory: tanh MLP"), found.theory
    assert found.agreement.startswith("Theory agrees in all"), found.agreement
    kurtosis = found.columns["kurtosis"]
    assert (
        kurtosis.theory[0] < -0.1 and abs(kurtosis.z[0]) < 4.5
    )  # −6/5 Σx⁴/… : not zero, as Gaussian weights would give
    for column in found.columns.values():
        assert column.theory is not None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("activation", "C_b", "C_W"), [(nn.GELU, 0.17, 1.98), (nn.ReLU, 0.0, 2.0), (nn.SiLU, 0.2, 1.5)]
)
def test_theory_agrees_with_gaussian_weights(activation, C_b, C_W) -> None:
    def initialise(model):
        for layer in model.modules():
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=(C_W / layer.in_features) ** 0.5)
                nn.init.normal_(layer.bias, std=C_b**0.5) if C_b else nn.init.zeros_(layer.bias)

    x = torch.randn(5, 20, generator=torch.Generator().manual_seed(0))
    model = perceptron(20, 100, 100, 100, 100, 3, activation=activation)
    found = fw.torch.inspect(model, x, initialisations=300, initialise=initialise)
    assert found.agreement.startswith("Theory agrees in all"), found.agreement


def test_wrong_theory_would_be_seen(x) -> None:
    """What the agreement is worth: a network that has another activation than it says contradicts."""
    from dataclasses import replace

    found = inspect(perceptron(7, 40, 40, 5), x, initialisations=20)
    K = found.columns["K"]
    wrong = replace(K, theory=1.3 * K.value, dropped=0.01 * K.value)
    assert replace(found, columns={"K": wrong}).agreement.startswith("Theory and measurement differ")


class Norms(nn.Module):
    """BatchNorm, dropout, an activation in place, a tied and a frozen layer, a parameter of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Linear(7, 8), nn.BatchNorm1d(8)
        self.drop, self.second = nn.Dropout(0.2), nn.Linear(8, 8)
        self.third = nn.Linear(8, 8)
        self.third.weight = self.second.weight
        self.frozen = nn.Linear(8, 8).requires_grad_(False)
        self.offset = nn.Parameter(torch.full((3, 8), 0.5))

    def forward(self, x):
        h = nn.functional.relu(self.norm(self.first(x)), inplace=True) + self.offset[0]
        return self.frozen(torch.tanh(self.third(self.drop(torch.tanh(self.second(h))))))


def test_nothing_of_the_model_or_of_torch_changes(x) -> None:
    model = Norms()
    before, mode = copy.deepcopy(model.state_dict()), [m.training for m in model.modules()]
    hooks = [len(m._forward_hooks) for m in model.modules()]
    torch.manual_seed(11)
    state = torch.get_rng_state()
    found = inspect(model, x)
    assert torch.equal(torch.get_rng_state(), state)
    assert [m.training for m in model.modules()] == mode
    assert [len(m._forward_hooks) for m in model.modules()] == hooks
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert [p.requires_grad for n, p in model.named_parameters() if n.startswith("frozen")] == [False, False]
    assert any("offset" in note for note in found.notes) and any("frozen" in note for note in found.notes)


def test_an_activation_in_place_does_not_overwrite_what_is_measured(x) -> None:
    out_of_place, in_place = perceptron(7, 8, 3, activation=nn.ReLU), nn.Sequential(
        nn.Linear(7, 8), nn.ReLU(inplace=True), nn.Linear(8, 3)
    )  # fmt: skip
    first, second = inspect(out_of_place, x, seed=4), inspect(in_place, x, seed=4)
    for name in first.columns:
        np.testing.assert_array_equal(first.columns[name].value, second.columns[name].value)


def test_the_same_seed_gives_the_same_numbers(x) -> None:
    model = perceptron(7, 8, 3)
    first, again, other = (inspect(model, x, seed=seed).columns["chi"].value[1] for seed in (1, 1, 2))
    assert first == again != other


def test_parallel_branches_and_calls_without_weights_between(x) -> None:
    class Parallel(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.out = nn.Linear(7, 5), nn.Linear(7, 5), nn.Linear(5, 2)
            self.unused = nn.Linear(7, 5)

        def forward(self, x):
            self.unused(x)
            return self.out(self.a(x) * self.b(x))

    found = inspect(Parallel(), x)
    assert found.layers == ("unused", "a", "b", "out")
    assert np.isnan(found.columns["chi"].value[:3]).all() and found.columns["chi"].value[3] > 0
    assert any("unused" in note for note in found.notes)
    assert found.parameters["unused.weight"][0] == 0


def test_a_shared_layer_is_two(x) -> None:
    shared = nn.Linear(7, 7)
    found = inspect(nn.Sequential(shared, nn.Tanh(), shared), x)
    assert found.layers == ("0", "0 (call 2)")


def test_attention_convolutions_embeddings_and_recurrence() -> None:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.attend = nn.Embedding(11, 8), nn.MultiheadAttention(8, 2, batch_first=True)
            self.convolve, self.recur = nn.Conv1d(8, 6, 3, padding=1), nn.LSTM(6, 4, batch_first=True)

        def forward(self, tokens):
            h = self.embed(tokens)
            h = h + self.attend(h, h, h)[0]
            return {"logits": self.recur(self.convolve(h.mT).mT)[0]}

    found = inspect(Mixed(), torch.randint(11, (4, 5)))
    assert found.layers == ("embed", "attend", "convolve", "recur")
    assert np.isfinite(found.columns["K"].value).all() and np.isfinite(found.columns["jacobian"].value).all()
    assert found.parameters["attend.in_proj_weight"][0] > 0


def test_verdicts_point_at_the_layer(x) -> None:
    def scaled(factor, at=None):
        def initialise(model):
            for i, layer in enumerate(m for m in model if isinstance(m, nn.Linear)):
                gain = factor if at is None or i == at else 1.0
                nn.init.normal_(layer.weight, std=gain * (2 / layer.in_features) ** 0.5)
                nn.init.zeros_(layer.bias)

        return initialise

    model = perceptron(7, *[64] * 9, 8, activation=nn.ReLU)
    verdicts = {
        name: inspect(model, x, initialise=initialise, initialisations=6).verdict
        for name, initialise in {
            "good": scaled(1.0), "dying": scaled(0.6), "exploding": scaled(2.0), "one": scaled(0.01, at=4),
            "nothing": scaled(0.0), "overflow": scaled(1e6),
        }.items()
    }  # fmt: skip
    assert verdicts["good"].startswith("Signals and gradients survive all 10 layers")
    assert verdicts["dying"].startswith("Signals die: by a factor 0.3")
    assert verdicts["exploding"].startswith("Signals explode: by a factor")
    assert verdicts["one"].startswith("Signals die: layer 5 (8) changes their variance by a factor")
    assert verdicts["nothing"].startswith("Signals die: layer 1 (0) gives zero")
    assert verdicts["overflow"].startswith("Signals overflow: at layer")


def test_default_initialisation_of_deep_networks_is_found_out() -> None:
    x = torch.randn(16, 64, generator=torch.Generator().manual_seed(0))
    found = inspect(lambda: perceptron(*[64] * 16, activation=nn.ReLU), x, initialisations=4)
    assert found.verdict.startswith(("Signals die", "The network forgets", "Gradients die"))


@pytest.mark.parametrize(
    ("model", "batch", "options", "message"),
    [
        (nn.Sequential(nn.ReLU()), torch.ones(2, 3), {}, "has no weights"),
        (perceptron(3, 2).half(), torch.ones(2, 3), {}, r"type float16 \(0.weight\)"),
        (perceptron(3, 2).to("meta"), torch.ones(2, 3), {}, "meta device"),
        (nn.Sequential(nn.LazyLinear(3)), torch.ones(2, 3), {}, "lazy parameters"),
        (perceptron(3, 2), torch.ones(2, 4), {}, r"`model` fails on `batch` \(\(2, 4\) float32\)"),
        (perceptron(3, 2), torch.ones(0, 3), {}, "has no inputs"),
        (perceptron(3, 2), torch.full((2, 3), float("nan")), {}, "not finite"),
        (perceptron(3, 2), [[1.0, 2.0, 3.0]], {}, "`batch` must be a tensor"),
        (perceptron(3, 2), torch.ones(2, 3), {"initialisations": 1}, "`initialisations` must be an integer ≥ 2"),
        (perceptron(3, 2), torch.ones(2, 3), {"seed": -1}, "`seed` must be"),
        ("model", torch.ones(2, 3), {}, "`model` must be a torch.nn.Module or a function"),
        (lambda: 3, torch.ones(2, 3), {}, "must return a torch.nn.Module"),
        (lambda: 1 / 0, torch.ones(2, 3), {}, "ZeroDivisionError"),
        (nn.Linear(3, 2, dtype=torch.cfloat), torch.ones(2, 3), {}, "complex parameters"),
        (perceptron(3, 2), torch.ones(2, 3, device="meta"), {}, "`batch` .* is on the meta device"),
        (torch.jit.script(perceptron(3, 2)), torch.ones(2, 3), {}, "is a compiled RecursiveScriptModule"),
    ],
)
def test_refusals_are_one_line(model, batch, options, message) -> None:
    with pytest.raises(InputError, match=message) as caught:
        inspect(model, batch, **options)
    assert "\n" not in str(caught.value)


def test_weights_that_reset_parameters_would_not_draw_are_not_measured_as_if_it_had(x) -> None:
    model = perceptron(7, 32, 3)
    nn.init.kaiming_normal_(model[0].weight)
    with pytest.raises(InputError, match=r"0.weight has standard deviation .* reset_parameters draws"):
        inspect(model, x)
    assert inspect(model, x, initialisations=None).initialisations == 0
    assert inspect(lambda: model, x).initialisations == 3


def test_batch_norm_in_eval_mode_takes_the_batch(x) -> None:
    model = Norms().eval()
    found = inspect(model, 100 * x)
    assert any("BatchNorm" in note for note in found.notes)
    assert not model.norm.training and found.columns["K"].value[1] < 100


class PositionEmbedding(nn.Module):
    """Its embedding of positions runs once, not once an input."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.places, self.out = nn.Embedding(9, 6), nn.Embedding(5, 6), nn.Linear(6, 9)

    def forward(self, t):
        return self.out(self.tokens(t) + self.places(torch.arange(t.shape[1])[None]))


def test_weights_as_they_are_with_a_layer_that_runs_for_all_inputs_at_once() -> None:
    torch.manual_seed(0)
    found = inspect(PositionEmbedding(), torch.randint(0, 9, (4, 5)), initialisations=None)
    assert found.layers == ("tokens", "places", "out") and np.isfinite(found.columns["jacobian"].value).all()


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (nn.Sequential(nn.LayerNorm(7), nn.Linear(7, 8), nn.Tanh(), nn.Linear(8, 2)), "does not take the data as they"),
        (nn.Sequential(nn.Linear(7, 8), nn.Tanh(), nn.Dropout(0.5), nn.Linear(8, 2)), "dropout in front of '3'"),
        (nn.Sequential(nn.Linear(7, 8), nn.Tanh(), nn.AvgPool1d(2), nn.Linear(4, 2)), "'avg_pool1d' in front of '3'"),
    ],
)
def test_no_theory_where_layers_read_something_else(model, why, x) -> None:
    found = inspect(model, x, theory=True)
    assert found.theory.startswith("no theory") and why in found.theory and found.columns["K"].theory is None
