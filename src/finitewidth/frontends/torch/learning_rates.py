"""Learning rates that keep their meaning when depth and width change.

SGD (PDLT ch. 9). A step changes the output by the tangent kernel, Δz = −η Θ ε, to which layer ℓ of L contributes

    (λ_b + λ_W⟨σ²⟩⁽ℓ⁻¹⁾) Π⁽ℓ⁾ ,     Π⁽ℓ⁾ = Π_{ℓ' ≥ ℓ} χ⊥⁽ℓ'⁾ ,    ⟨σ²⟩⁽⁰⁾ = |x|²/n_0 ,

with rates η λ_b for biases and η λ_W/n_{ℓ−1} for weights. All layers contribute alike, and Θ = 1 + β at any depth and
width and for any activation, for

    λ_W = 1 / (L ⟨σ²⟩⁽ℓ⁻¹⁾ Π⁽ℓ⁾) ,     λ_b = β / (L Π⁽ℓ⁾) .

⟨σ²⟩ and χ⊥ follow from the C_b and C_W that the layers' parameters have when this is called; but the output layer is
counted with its critical C_W where its own is smaller (`output_std`, or zeros): it grows while outputs learn to be of
order one, and Θ with it. At criticality and large depth these are the book's λ_W ∝ 1/L (scale-invariant, half-stable)
or (L/ℓ)^(p⊥−1) (K* = 0). The book leaves β open, the share of biases; β = 1 would be all parameters alike. But what
biases do is nearly the same for all inputs: on digits, for tanh at L = 30, their part of Θ is 0.97 off the diagonal for
1 on it, the weights' 0.63. Such a part makes the largest eigenvalue of Θ larger, which limits the rate, and hardly
anything is learned faster by it. Here β = 1/10; `benchmarks/README.md` says what β does to the rate and to accuracy.

Adam. Its step is η × sign of the gradient (the first exactly, later ones about so). For one input the gradient of a
layer is δ_i σ_j, so that Δz = −Σ_ij η |δ_i| |σ_j|: not a sum of squares but of sizes. With |σ_j| ~ √⟨σ²⟩⁽ℓ⁻¹⁾ and
|δ_i| ~ √(Π⁽ℓ⁾ / n_ℓ) (of the output layer, δ = 1), layers contribute alike, and Δz ~ η at every depth and width, for

    weights   η_W = (η/L) / (n_{ℓ−1} √(n_ℓ ⟨σ²⟩⁽ℓ⁻¹⁾ Π⁽ℓ⁾)) ,      biases   η_b = β (η/L) / √(n_ℓ Π⁽ℓ⁾) ,

n_ℓ replaced by 1 in the output layer. Derived here; `tests/frontends/torch/test_learning_rates.py` measures it.

Other parameters, PReLU's slopes or an embedding in front, have for one input a gradient of order one, over k numbers:
η/L for SGD, (η/L)/√k for Adam, whose k steps add up.
"""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch

from finitewidth.criticality import critical_choice, susceptibility
from finitewidth.errors import InputError
from finitewidth.frontends.torch.chain import check_chain
from finitewidth.frontends.torch.model import Call, Given, Reading, activation_before, read_model

BIAS_SHARE = 0.1
"""β: what a layer's biases contribute to the tangent kernel (SGD) or to a step (Adam), for 1 of its weights."""


@dataclass(frozen=True)
class _Place:
    """A layer among L: fan-in, neurons (1 for the output layer, where they do not add up), mean square of what it
    reads, and Π χ⊥, how much of its own tangent kernel reaches the outputs."""

    depth: int
    fan_in: int
    neurons: int
    mean_square: float
    carried: float

    def sgd(self) -> tuple[float, float]:
        """Factors for weights and biases."""
        alike = 1 / (self.depth * self.carried)
        return alike / (self.fan_in * self.mean_square), BIAS_SHARE * alike

    def adam(self) -> tuple[float, float]:
        alike = 1 / (self.depth * math.sqrt(self.neurons * self.carried))
        return alike / (self.fan_in * math.sqrt(self.mean_square)), BIAS_SHARE * alike


def param_groups(
    model: torch.nn.Module,
    *,
    lr: float,
    optimizer: type[torch.optim.Optimizer] = torch.optim.SGD,
    example_input: Any = None,
    activation: Given = None,
) -> list[dict[str, Any]]:
    """Parameter groups for `optimizer` in which one `lr` means the same at every depth and width.

    Equation: every layer's weights contribute 1/L to the tangent kernel of the outputs, its biases a tenth of that.
    Source: PDLT ch. 9 for SGD, with or without momentum; for Adam and AdamW derived in this module. Leading order: what
    is dropped is of order L/n, depth over width. One rate held from depth 10 to 30 at width 128 with orthogonal weights
    and `output_std=1` (eight activations), not with normal ones (`benchmarks/README.md`). Computed from the variances
    that the parameters have now, so initialise first, with `critical_init_` or otherwise.

    Arguments
        model: a chain of `Linear` or `Conv` layers, as `read_model` reads it. In a convolution the sum over positions
            is not accounted for.
        lr: the learning rate η before scaling. For SGD the tangent kernel is η × 1.1: with the mean cross-entropy of 10
            classes, good rates are 10 to 300; 30 for a start (`benchmarks/README.md`).
        optimizer: the class that the groups are for: `torch.optim.SGD`, `Adam` or `AdamW`.
        example_input, activation: as for `critical_init_`. Without an example, inputs are supposed to be of the size
            for which `critical_init_` would have drawn the first layer as it is.

    Returns
        one group a parameter that requires gradients, with `params`, `lr` and its `name`, first layer first; to be
        passed on as `torch.optim.SGD(fw.torch.param_groups(model, lr=1.0))`.

    Raises
        InputError: for a model with residual additions, normalisations or shared weights, for which these scalings are
            not derived; where no gradient gets through or a layer reads zeros; for another optimizer; for `lr` that is
            not positive.

    >>> import finitewidth as fw, torch
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
    >>> for parameter in model.parameters():
    ...     _ = torch.nn.init.constant_(parameter, 0.5 if parameter.ndim > 1 else 0.0)  # C_W = 1 and 2, C_b = 0
    >>> [(group["name"], group["lr"]) for group in fw.torch.param_groups(model, lr=1.0, example_input=torch.ones(1, 4))]
    [('0.weight', 0.125), ('0.bias', 0.05), ('2.weight', 0.125), ('2.bias', 0.05)]
    """
    if isinstance(lr, bool) or not isinstance(lr, (int, float)) or not 0 < lr < math.inf:
        raise InputError(f"`lr` must be a finite number > 0, but got {lr!r}")
    is_adam = _is_adam(optimizer)
    reading = read_model(model, example_input, activation=activation)
    check_chain(reading, "scaled rates are derived for chains of layers; give this model groups of your own")
    groups: list[dict[str, Any]] = []
    places = _places(reading, reading.calls[0].mean_square if example_input is not None else None)
    for layer, place in zip(reading.layers, places, strict=True):
        weight, bias = place.adam() if is_adam else place.sgd()
        groups.append(_group(layer.weight, layer.weight_names[0], lr * weight))
        if layer.bias is not None:
            groups.append(_group(layer.bias, layer.bias_names[0], lr * bias))
    grouped = {id(p) for group in groups for p in group["params"]}
    for name, parameter in model.named_parameters():
        if id(parameter) not in grouped:
            shared = lr / len(places)
            groups.append(_group(parameter, name, shared / math.sqrt(_used(parameter, reading)) if is_adam else shared))
    return [group for group in groups if group["params"][0].requires_grad]


def _places(reading: Reading, mean_square: float | None) -> list[_Place]:
    """Every layer's place, from the flow of K and χ⊥ through the layers as they are."""
    calls = reading.calls
    size = _size_for(reading) if mean_square is None else mean_square
    sizes, chi = [size], []
    for before, call in pairwise(calls):
        C_b, C_W = before.layer.variances()
        size, slope = _passed(call, C_b + C_W * size)
        sizes.append(size)
        own = call.layer.variances()[1]
        chi.append(slope * (max(own, _critical_C_W(call)) if call is calls[-1] else own))
    places = []
    for number, call in enumerate(calls):
        carried, last = math.prod(chi[number:]), number + 1 == len(calls)
        for what, value in (("reads numbers", sizes[number]), ("has a gradient", carried)):
            if not 1e-200 < value < 1e200:
                at = f"`model`: the layer of {call.layer.weight_names[0]!r}"
                raise InputError(f"{at} {what} of mean square {value:.3g}; initialise with critical_init_")
        neurons = 1 if last else call.layer.fan_out
        places.append(_Place(len(calls), call.layer.fan_in, neurons, sizes[number], carried))
    return places


def _passed(call: Call, K: float) -> tuple[float, float]:
    """⟨σ²⟩ and ⟨σ'²⟩ of the activation in front of a layer, from its preactivations' K."""
    function, _ = activation_before(call.source)
    if function is None:
        return K, 1.0
    found = susceptibility(function.activation, K)
    if found.jumps:
        raise InputError(f"`model`: {function.text} jumps at {found.jumps[0]:.6g}, where it has no gradient")
    return float(found.mean_square.value), float(found.perp.value)


def _critical_C_W(call: Call) -> float:
    """C_W of a layer at criticality; 0 where there is none."""
    function, _ = activation_before(call.source)
    try:
        return 1.0 if function is None else critical_choice(function.activation).C_W
    except InputError:
        return 0.0


def _size_for(reading: Reading) -> float:
    """The inputs' mean square with which the first layer leads to the K that `critical_init_` aims at."""
    C_b, C_W = reading.calls[0].layer.variances()
    function = activation_before(reading.calls[1].source)[0] if len(reading.calls) > 1 else None
    try:
        K = (critical_choice(function.activation).K if function is not None else None) or 1.0
    except InputError:  # an activation that critical_init_ would refuse
        K = 1.0
    return (K - C_b) / C_W if C_W > 0 and C_b < K else 1.0


def _used(parameter: torch.nn.Parameter, reading: Reading) -> int:
    """How many numbers of a parameter that is no layer's an input has a gradient of: of an embedding, one row."""
    is_table = any(operation.startswith("embedding") for operation in reading.uses.get(id(parameter), ()))
    return int(parameter.shape[-1]) if is_table else parameter.numel()


def _group(parameter: torch.nn.Parameter, name: str, lr: float) -> dict[str, Any]:
    return {"params": [parameter], "lr": lr, "name": name}


def _is_adam(optimizer: Any) -> bool:
    if isinstance(optimizer, type):
        if issubclass(optimizer, (torch.optim.Adam, torch.optim.AdamW)):
            return True
        if issubclass(optimizer, torch.optim.SGD):
            return False
    raise InputError(
        f"`optimizer` must be torch.optim.SGD, Adam or AdamW (the class), but got {optimizer!r}: "
        "for others the scaling is not derived"
    )
