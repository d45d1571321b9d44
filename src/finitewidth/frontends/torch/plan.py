"""Which variances every layer of a model should have, before anything is changed.

Layer by layer in the order in which they run, K being the mean square of preactivations:

    behind data or a normalisation    C_W = (K − C_b)/(mean square of what comes in), with C_b and K of what follows
    behind an activation σ            C_W and C_b of σ's critical point
    behind a layer or an addition     C_W = 1, C_b = 0; or K/(what comes in), where the activation that follows has a K

Of a layer at the end of a residual branch both are multiplied by its share (`residual`); of the layer that gives the
model's outputs, by what brings these to the size asked for (`output_std`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf, sqrt
from typing import Any

import torch

from finitewidth.activations import Activation
from finitewidth.criticality import CriticalChoice, critical_choice
from finitewidth.errors import InputError
from finitewidth.frontends.torch.drawing import Distribution, checked_distribution, draw_weight_
from finitewidth.frontends.torch.model import LAYERS, Call, Given, Layer, Reading, activation_before, read_model
from finitewidth.frontends.torch.outputs import output_calls
from finitewidth.frontends.torch.residual import Share, branch_shares
from finitewidth.frontends.torch.signals import (
    Affine,
    Data,
    Dropped,
    Elementwise,
    Normalised,
    Resampled,
    Signal,
    Unknown,
    since_layers,
    stripped,
    upstream,
)
from finitewidth.frontends.torch.sizes import Sizes, is_gaussian


@dataclass(frozen=True)
class LayerPlan:
    """C_b and C_W of one layer: biases of variance C_b, weights of variance C_W / fan_in; `K`: what they lead to."""

    layer: Layer
    C_b: float
    C_W: float
    K: float
    note: str

    @property
    def weight_std(self) -> float:
        return sqrt(self.C_W / self.layer.fan_in)

    @property
    def bias_std(self) -> float:
        return sqrt(self.C_b)


@dataclass(frozen=True)
class Plan:
    """`drawn`: the layers to initialise. `left`: by parameter name, why it stays. `remarks`: on the whole model.

    distribution: of weights, "normal" or "orthogonal"; biases are Gaussian.
    """

    reading: Reading
    drawn: list[LayerPlan]
    left: dict[str, str]
    remarks: list[str]
    distribution: Distribution = "normal"

    def draw_(self, generator: torch.Generator | None = None) -> None:
        """Draw the layers' weights and biases, in place."""
        options: Any = {"distribution": self.distribution, "generator": generator}
        with torch.no_grad():
            for plan in self.drawn:
                draw_weight_(plan.layer.weight, plan.C_W, groups=plan.layer.groups, **options)
                if plan.layer.bias is not None and plan.layer.bias.requires_grad:
                    if plan.C_b > 0:
                        plan.layer.bias.normal_(0.0, plan.bias_std, generator=generator)
                    else:
                        plan.layer.bias.zero_()

    def __str__(self) -> str:
        rows = [("parameter", "std", "C_b / C_W", "K", "why")]
        for plan in self.drawn:
            rows.append((plan.layer.weight_names[0], f"{plan.weight_std:.4g}", f"{plan.C_W:.4g}", "", plan.note))
            if plan.layer.bias_names and plan.layer.bias_names[0] not in self.left:
                rows.append((plan.layer.bias_names[0], f"{plan.bias_std:.4g}", f"{plan.C_b:.4g}", f"{plan.K:.4g}", ""))
            else:
                rows[-1] = (*rows[-1][:3], f"{plan.K:.4g}", plan.note)
        rows += [(name, "left", "", "", why) for name, why in self.left.items()]
        widths = [max(len(row[i]) for row in rows) for i in range(4)]
        lines = ["  ".join([*(c.ljust(w) for c, w in zip(row, widths, strict=False)), row[4]]).rstrip() for row in rows]
        return "\n".join([*lines, *self.remarks])


def critical_plan(
    model: torch.nn.Module,
    example_input: Any = None,
    *,
    activation: Given = None,
    distribution: Distribution = "normal",
    output_std: float | None = None,
) -> Plan:
    """What `critical_init_` would do to every parameter of `model`, and what it would leave alone and why.

    Arguments, errors: as for `critical_init_`. Nothing is changed. `print` shows the plan as a table.
    """
    checked_distribution(distribution)
    if output_std is not None and (
        isinstance(output_std, bool) or not isinstance(output_std, (int, float)) or not 0 < output_std < inf
    ):
        raise InputError(f"`output_std` must be a finite number > 0, or None, but got {output_std!r}")
    reading = read_model(model, example_input, activation=activation)
    if not reading.layers:
        raise InputError("`model` runs no Linear or Conv1d/2d/3d layer on its input: there is nothing to initialise")
    for unknown in reading.unknown_activations():
        at = f"module {unknown.path!r}" if unknown.path else "the model's own forward"
        has_layers = any(_is_within(layer.path, unknown.path) for layer in reading.layers)
        remedy = "make it a module of its own, and name that" if has_layers else "name it"
        path = "path.of.the.module" if has_layers else unknown.path
        raise InputError(
            f"`model`: the activation {unknown.operation!r} in {at} cannot be read; {remedy}, as in "
            f"activation={{{path!r}: 'gelu'}} or with a finitewidth.Activation"
        )
    return _Planner(reading, distribution, output_std).plan()


class _Planner:
    """Walks through the calls of a reading, keeping K of every signal."""

    def __init__(self, reading: Reading, distribution: Distribution, output_std: float | None) -> None:
        self.reading, self.distribution, self.output_std = reading, distribution, output_std
        self.outputs = set() if output_std is None else {call.number for call in output_calls(reading)}
        self.shares, self.remarks = branch_shares(reading)
        self.K: dict[int, float | None] = {}  # by number of the call
        self.plans: dict[int, list[LayerPlan]] = {}
        self.left: dict[str, str] = {}
        self.known: dict[int | str, tuple[Activation, CriticalChoice]] = {}
        self.sizes = Sizes(self.K, lambda function: self._known(function)[0])

    def plan(self) -> Plan:
        modules = dict(self.reading.model.named_modules(remove_duplicate=False))
        for call in self.reading.calls:
            reason = _reason_to_leave(call.layer, modules)
            size = call.mean_square if call.mean_square is not None else self.sizes.of(call.source)
            if reason is None and size is None:
                reason = f"its input comes from {_unknown(call.source)}, which the theory does not cover; see tune_"
            if reason is not None and call.number in self.outputs:
                name = call.layer.weight_names[0]
                raise InputError(f"`output_std` cannot be had: the output layer's {name!r} is left alone ({reason})")
            if reason is not None:
                self.left |= dict.fromkeys(call.layer.weight_names, reason)
                self.K[call.number] = None if size is None else _actual_K(call.layer, size)
                continue
            assert size is not None
            plan = self._layer(call, size)
            self.K[call.number] = plan.K
            self.plans.setdefault(id(call.layer), []).append(plan)
        drawn = [_one_plan(self.plans[id(layer)]) for layer in self.reading.layers if id(layer) in self.plans]
        self._name_the_rest(drawn)
        for layer in (plan.layer for plan in drawn):
            if others := self.reading.uses.get(id(layer.weight)):
                name, by = layer.weight_names[0], _listed(others)
                self.remarks.append(f"{name!r} is used by {by} as well, for which nothing is computed")
        return Plan(self.reading, drawn, self.left, [*self.remarks, *_remarks(self.reading)], self.distribution)

    def _layer(self, call: Call, size: float) -> LayerPlan:
        activation, _ = activation_before(call.source)
        if activation is not None:
            choice = self._choice(activation)
            C_b, C_W, note = choice.C_b, choice.C_W, f"after {activation.text}: {_brief(choice)}"
            if call.layer.bias is None and C_b > 0:
                # with no bias to hold K up, weights do it, at χ⊥ = C_W⟨σ'²⟩ > 1
                C_W, C_b = C_W + C_b / size, 0.0
                chi = C_W / choice.C_W
                note += f"; no bias to add C_b = {choice.C_b:.4g}, so C_W is larger and χ⊥ = {chi:.4g}"
            K = C_b + C_W * size
            aim, after = self._aim(call)
            if (
                call.number not in self.shares
                and aim is not None
                and after is not None
                and self._known(after)[0] is not self._known(activation)[0]
            ):
                C_b, C_W, K, note = C_b * aim / K, C_W * aim / K, aim, note + f"; scaled to K of {after.text}"
        else:
            C_b, C_W, K, note = self._behind_no_activation(call, size)
        share = self.shares.get(call.number, Share(1.0, ""))
        if share.note:
            factor, note = self._factor(share, K), f"{note}; {share.note}"
            C_b, C_W, K = C_b * factor, C_W * factor, K * factor
        plan = LayerPlan(call.layer, C_b, C_W, K, note)
        if call.number in self.outputs and self.output_std is not None:
            plan = _scaled(plan, self.output_std**2)
        return plan

    def _factor(self, share: Share, K: float) -> float:
        """The share, of no more than the skip carries: behind an activation, K of the branch may be larger."""
        if share.skip is None or is_gaussian(share.skip):
            return share.factor
        carried = self.sizes.of(share.skip)
        return share.factor if carried is None else share.factor * min(1.0, carried / K)

    def _behind_no_activation(self, call: Call, size: float) -> tuple[float, float, float, str]:
        aim, after = self._aim(call)
        is_fixed = isinstance(stripped(call.source), (Data, Normalised))
        what = "data" if call.mean_square is not None else "what comes in"
        if not is_fixed and (aim is None or call.number in self.shares):
            return 0.0, 1.0, size, "after no activation: C_W = 1 keeps what comes in"
        choice = self._choice(after) if after is not None else None
        C_b = choice.C_b if choice is not None and is_fixed and call.layer.bias is not None else 0.0
        K = aim or 1.0
        if size == 0:
            raise InputError(f"`example_input` is zero where {call.layer.path!r} reads it; give typical inputs")
        K_words = f"K = {K:.4g}" + (f" of {after.text}" if aim is not None and after is not None else "")
        return C_b, (K - C_b) / size, K, f"brings {what} of mean square {size:.4g} to {K_words}"

    def _aim(self, call: Call) -> tuple[float | None, Elementwise | None]:
        """The K that the next activation wants, if it wants one, and that activation."""
        after = self.reading.activations_after(call)
        wanting = [(self._choice(a).K, a) for a in after if a.linear is None]
        wanting.sort(key=lambda pair: pair[0] is None)
        return wanting[0] if wanting else (None, None)

    def _choice(self, function: Elementwise) -> CriticalChoice:
        return self._known(function)[1]

    def _known(self, function: Elementwise) -> tuple[Activation, CriticalChoice]:
        """Function and choice: written alike, they are searched for kinks and critical points once."""
        key = id(function.known) if function.known is not None else function.text
        if key not in self.known:
            try:
                self.known[key] = (function.activation, critical_choice(function.activation))
            except InputError as error:
                at = f"module {function.path!r}" if function.path else "the model's own forward"
                raise InputError(f"`model`: {function.text} in {at}: {error}") from error
        return self.known[key]

    def _name_the_rest(self, drawn: list[LayerPlan]) -> None:
        """Why every other parameter stays."""
        weights = {name: plan for plan in drawn for name in plan.layer.weight_names}
        biases = {name: plan for plan in drawn for name in plan.layer.bias_names}
        ran = {id(p) for layer in self.reading.layers for p in (layer.weight, layer.bias)}
        modules = dict(self.reading.model.named_modules(remove_duplicate=False))
        for name, parameter in self.reading.model.named_parameters(remove_duplicate=False):
            if name in weights or name in self.left or (name in biases and parameter.requires_grad):
                continue
            module = modules[name.rpartition(".")[0]]
            if not parameter.requires_grad:
                self.left[name] = "frozen (requires_grad=False)"
            elif id(parameter) in ran:
                self.left[name] = "belongs to a weight that is left alone"
            elif not isinstance(module, LAYERS):
                self.left[name] = f"of {_a(module)}, not the weight of a linear or convolutional layer"
            elif id(parameter) in self.reading.uses:
                self.left[name] = f"used by {_listed(self.reading.uses[id(parameter)])}, not as a layer"
            else:
                self.left[name] = "not used in the forward pass"


def _scaled(plan: LayerPlan, K: float) -> LayerPlan:
    factor = K / plan.K
    note = f"{plan.note}; variances × {factor:.4g} for outputs of size {sqrt(K):.4g}"
    return replace(plan, C_b=plan.C_b * factor, C_W=plan.C_W * factor, K=K, note=note)


def _reason_to_leave(layer: Layer, modules: dict[str, torch.nn.Module]) -> str | None:
    if not layer.weight.requires_grad:
        return "frozen (requires_grad=False)"
    for name in layer.weight_names:
        kind = modules[name.rpartition(".")[0]]
        if not isinstance(kind, LAYERS) and len(layer.weight_names) > 1:
            return f"shared with {_a(kind)} ({name!r}), which is no layer"
    return None


def _is_within(path: str, parent: str) -> bool:
    return not parent or path == parent or path.startswith(f"{parent}.")


def _a(module: torch.nn.Module) -> str:
    kind = type(module).__name__
    return f"an {kind}" if kind[0] in "AEIOU" else f"a {kind}"


def _actual_K(layer: Layer, size: float) -> float:
    """K after a layer that stays as it is."""
    C_b, C_W = layer.variances()
    return C_b + C_W * size


def _one_plan(plans: list[LayerPlan]) -> LayerPlan:
    """One plan for a layer that runs several times: what all its uses agree on."""
    first, layer = plans[0], plans[0].layer
    if len(plans) == 1:
        return first
    if all(call.mean_square is not None for call in layer.calls):
        mean_size = sum(call.mean_square or 0.0 for call in layer.calls) / len(plans)
        C_W = (first.K - first.C_b) / mean_size
        return replace(first, C_W=C_W, note=f"{first.note}; runs {len(plans)} times, their mean counts")
    if max(abs(p.C_W - first.C_W) + abs(p.C_b - first.C_b) for p in plans) > 1e-6 * (first.C_W + first.C_b):
        raise InputError(
            f"`model`: the shared weight {layer.weight_names[0]!r} runs {len(plans)} times and would need C_W from "
            f"{min(p.C_W for p in plans):.4g} to {max(p.C_W for p in plans):.4g}; give each use its own, or tune_"
        )
    return replace(first, note=f"{first.note}; shared by {len(plans)} uses, which the theory takes to be independent")


def _brief(choice: CriticalChoice) -> str:
    return choice.note if choice.is_critical else "no critical point, the nearest choice"


def _unknown(signal: Signal) -> str:
    found = next((s for s in upstream(signal) if isinstance(s, Unknown)), None)
    if found is None:
        return "an operation that was not seen"
    return f"{found.operation!r}" + (f" in {found.path!r}" if found.path else "")


def _remarks(reading: Reading) -> list[str]:
    """What the theory leaves out of this model."""
    remarks = []
    inside = [s for call in reading.calls for s in since_layers(call.source)]
    dropped = max((s.p for s in inside if isinstance(s, Dropped)), default=0.0)
    if dropped > 0:
        remarks.append(f"dropout of p = {dropped:g} multiplies variances by 1/(1 − p) in training; C_W leaves that out")
    resampled = sorted({s.operation for s in inside if isinstance(s, Resampled)})
    if resampled:
        remarks.append(
            f"{', '.join(resampled)} changes variances in ways the theory does not cover; see inspect, tune_"
        )
    covered = min((call.coverage for call in reading.calls if call.mean_square is None), default=1.0)
    if covered < 0.99:
        remarks.append(
            f"zero padding: neurons sum {covered:.0%} of their inputs on average in the worst layer, so that signals "
            "fade at the borders; see inspect, tune_"
        )
    affine = sorted(
        {f"{s.operation} in {s.path!r}" if s.path else s.operation for s in inside if isinstance(s, Affine)}
    )
    if affine:
        remarks.append(f"fixed numbers are added or multiplied ({', '.join(affine)}): K counts them as they are now")
    if any(isinstance(s, Normalised) for s in inside):
        remarks.append(
            "behind a normalisation K is what it sets, not K*, and the size of weights before it is no matter"
        )
    return remarks


def _listed(operations: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in operations)
