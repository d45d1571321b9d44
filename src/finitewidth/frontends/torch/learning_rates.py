"""Learning rates that keep their meaning when depth and width change.

SGD (PDLT ch. 9). A step changes the output by the tangent kernel, Δz = −η Θ ε, to which layer ℓ of L contributes
(λ_b + λ_W⟨σ²⟩) Π_{ℓ' > ℓ} χ⊥, with rates η λ_b for biases and η λ_W/n_{ℓ−1} for weights. All layers contribute alike,
and Θ stays of order one at every depth, for

    scale-invariant, half-stable    λ_b = λ_W = 1/L
    K* = 0                          λ_b = ℓ^{−p⊥} L^{p⊥−1} ,   λ_W = (L/ℓ)^{p⊥−1}

Adam. Its step is η × sign of the gradient (the first exactly, later ones about so). For one input the gradient of a
layer is δ_i σ_j, so that Δz = −Σ_ij η |δ_i| |σ_j|: not a sum of squares but of sizes. With |σ_j| ~ √K⁽ℓ⁻¹⁾ and
|δ_i| ~ √(Π χ⊥ / n_ℓ) (of the output layer, δ = 1), layers contribute alike, and Δz ~ η at every depth and width, for

    weights   η_W = (η/L) / (n_{ℓ−1} √n_ℓ √K⁽ℓ⁻¹⁾ √Π χ⊥) ,      biases   η_b = (η/L) / (√n_ℓ √Π χ⊥) ,

√n_ℓ replaced by 1 in the output layer; K and Π χ⊥ of order one (scale-invariant, half-stable), or K ~ 1/ℓ and
Π χ⊥ ~ (ℓ/L)^{p⊥} (K* = 0). Derived here; `tests/frontends/torch/test_learning_rates.py` measures it.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch

from finitewidth.criticality import critical
from finitewidth.errors import InputError
from finitewidth.frontends.torch.chain import check_chain, hidden_activations
from finitewidth.frontends.torch.model import Given, Reading, read_model
from finitewidth.frontends.torch.signals import Elementwise


@dataclass(frozen=True)
class _Place:
    """Where a layer stands: number ℓ of L, widths, and p⊥ (None: every layer is like every other)."""

    number: int
    depth: int
    fan_in: int
    fan_out: int
    p_perp: float | None

    def sgd(self) -> tuple[float, float]:
        """Factors for weights and biases."""
        L, l, p = self.depth, self.number, self.p_perp
        if p is None:
            return 1 / (L * self.fan_in), 1 / L
        return (L / l) ** (p - 1) / self.fan_in, l**-p * L ** (p - 1)

    def adam(self) -> tuple[float, float]:
        L, l, p = self.depth, self.number, self.p_perp
        neurons = 1.0 if l == L else math.sqrt(self.fan_out)
        bias = 1 / (L * neurons) * (1.0 if p is None else (L / l) ** (p / 2))
        return bias / self.fan_in * (1.0 if p is None else math.sqrt(l)), bias


def param_groups(
    model: torch.nn.Module,
    *,
    lr: float,
    optimizer: type[torch.optim.Optimizer] = torch.optim.SGD,
    example_input: Any = None,
    activation: Given = None,
) -> list[dict[str, Any]]:
    """Parameter groups for `optimizer` in which one `lr` means the same at every depth and width.

    Source: PDLT ch. 9 for SGD, with or without momentum; for Adam and AdamW derived in this module. They hold for a
    model at criticality: initialise it with `critical_init_` first.

    Arguments
        model: a chain of `Linear` or `Conv` layers with one activation, as `read_model` reads it. In a convolution the
            sum over positions is not accounted for.
        lr: the learning rate η before scaling: with a loss of order one per output, of order one.
        optimizer: the class that the groups are for: `torch.optim.SGD`, `Adam` or `AdamW`.
        example_input, activation: as for `critical_init_`.

    Returns
        one group a parameter that requires gradients, with `params`, `lr` and its `name`, first layer first; to be
        passed on as `torch.optim.SGD(fw.torch.param_groups(model, lr=1.0))`.

    Raises
        InputError: for a model with residual additions, normalisations, shared weights or activations of different
            classes, for which these scalings are not derived; for another optimizer; for `lr` that is not positive.

    >>> import finitewidth as fw, torch
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
    >>> [(group["name"], group["lr"]) for group in fw.torch.param_groups(model, lr=1.0)]
    [('0.weight', 0.125), ('0.bias', 0.5), ('2.weight', 0.0625), ('2.bias', 0.5)]
    """
    if isinstance(lr, bool) or not isinstance(lr, (int, float)) or not 0 < lr < math.inf:
        raise InputError(f"`lr` must be a finite number > 0, but got {lr!r}")
    is_adam = _is_adam(optimizer)
    reading = read_model(model, example_input, activation=activation)
    check_chain(reading, "scaled rates are derived for chains of layers; give this model groups of your own")
    p_perp = _exponent(reading)
    groups: list[dict[str, Any]] = []
    depth = len(reading.layers)
    for number, layer in enumerate(reading.layers, start=1):
        place = _Place(number, depth, layer.fan_in, layer.fan_out, p_perp)
        weight, bias = place.adam() if is_adam else place.sgd()
        groups.append(_group(layer.weight, layer.weight_names[0], lr * weight))
        if layer.bias is not None:
            groups.append(_group(layer.bias, layer.bias_names[0], lr * bias))
    grouped = {id(p) for group in groups for p in group["params"]}
    # a parameter for a whole layer, such as PReLU's slope: its gradient is of order one, as an output layer's bias has
    others = [(n, p) for n, p in model.named_parameters() if id(p) not in grouped]
    groups += [_group(p, name, lr / depth) for name, p in others]
    return [group for group in groups if group["params"][0].requires_grad]


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


def _exponent(reading: Reading) -> float | None:
    """p⊥ of the activations if they are of the K* = 0 class, None if of the classes in which all layers are alike."""
    found = {f.text: f for f in hidden_activations(reading) if f is not None}
    exponents = {_p_perp(f) for f in found.values()}
    if len(exponents) > 1:
        names = ", ".join(sorted(found))
        raise InputError(f"`model` has activations of different universality classes ({names}); use one of them")
    return exponents.pop() if exponents else None


def _p_perp(function: Elementwise) -> float | None:
    found = critical(function.activation)
    if found.universality_class != "K*=0" or found.preferred is None or not found.preferred.attracts:
        return None
    p = found.preferred.exponents["p_perp"]
    return float(p) if p is not None else None
