"""Finding the scales of `finitewidth.frontends.torch.tune`, on a copy of the model."""

import math
from typing import Any

import torch
from torch import nn

from finitewidth.errors import InputError
from finitewidth.frontends.torch.inspect_draws import duplicate
from finitewidth.frontends.torch.inspect_layers import Layer, Run, run
from finitewidth.frontends.torch.layer_graph import LayerGraph, layer_graph, shared_jacobian
from finitewidth.frontends.torch.linearity import linear_matrices
from finitewidth.frontends.torch.tune import Progress, TunedLayer

PROBES = 4
BUDGET = 2.0
"""ln of the gradients’ variance that may be given away over the whole depth."""
SWEEPS = 5
ENOUGH = 0.01
"""Change of ln s up to which no further sweep over the layers is made; only shared weights need a second one."""

_LINEAR_IN_WEIGHT = (
    nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d,
    nn.Embedding, nn.Bilinear,
)  # fmt: skip


class Tuner:
    """A copy of the model, on which scales are found."""

    def __init__(self, model: nn.Module, batch: Any, inputs: int, variance: float) -> None:
        self._trainable = {name for name, p in model.named_parameters() if p.requires_grad}
        self._model, self._batch, self._inputs, self.variance = duplicate(model), batch, inputs, variance
        self._names = {id(p): name for name, p in self._model.named_parameters()}
        self._matrices = linear_matrices(self._model, batch)
        first = self._run()
        self._graph: LayerGraph = layer_graph(first)
        self._roles = [self._role(layer, i) for i, layer in enumerate(first.layers)]
        self._calls = [layer.name for layer in first.layers]
        self._scales = [1.0] * len(first.layers)
        self._stds = [float("nan")] * len(first.layers)
        self._spent = 0.0

    def tuned(self, progress: Progress | None) -> tuple[tuple[TunedLayer, ...], dict[str, torch.Tensor]]:
        """Sweeps over the layers until the Jacobians stay; what came of it."""
        done: set[str] = set()
        self._clear_biases()
        for sweep in range(SWEEPS):
            before, self._spent = list(self._scales), 0.0
            for i in range(len(self._calls)):
                self._tune(i)
                if progress is not None and sweep == 0:
                    progress(i + 1, len(self._calls))
            layers = self._report()
            if all(abs(math.log(a / b)) < ENOUGH for a, b in zip(self._scales, before, strict=True)):
                break
            if len(set(self._paths())) == len(self._calls):  # no weights are shared: nothing would change
                break
        for i in range(len(self._calls)):
            done |= self._owned(i)
        values = {n: p.detach().clone() for n, p in self._model.named_parameters() if n in done}
        return layers, values

    def _run(self) -> Run:
        self._last = run(self._model, self._batch, cut=True)
        return self._last

    def _paths(self) -> list[int]:
        return [id(self._weight(layer.module)) for layer in self._last.layers]

    def _role(self, layer: Layer, i: int) -> str:
        weight = self._weight(layer.module)
        if weight is None:
            return f"left: {type(layer.module).__name__} is not linear in one matrix"
        if id(weight) not in self._names:
            return "left: its weight is computed from other parameters"
        if self._names[id(weight)] not in self._trainable:
            return "left: frozen"
        if not bool((weight != 0).any()):
            return "left: its weights are all zero"
        if self._graph.stream[i] is not None:
            return "writes to a stream"
        if self._graph.inner[i]:
            return "in a branch"
        return "chain" if self._graph.parents[i] else "first"

    def _weight(self, module: nn.Module) -> torch.Tensor | None:
        if isinstance(module, nn.MultiheadAttention):
            module = module.out_proj
        if isinstance(module, _LINEAR_IN_WEIGHT):
            return module.weight
        return getattr(module, self._matrices[module]) if module in self._matrices else None

    def _bias(self, module: nn.Module) -> torch.Tensor | None:
        if isinstance(module, nn.MultiheadAttention):
            module = module.out_proj
        bias = getattr(module, "bias", None)
        return bias if isinstance(bias, torch.Tensor) and self._names.get(id(bias)) in self._trainable else None

    def _owned(self, i: int) -> set[str]:
        """Names of the parameters that tuning layer i sets."""
        if self._roles[i].startswith("left"):
            return set()
        module = self._last.layers[i].module
        owned = [self._weight(module), self._bias(module)]
        return {self._names[id(p)] for p in owned if p is not None}

    @torch.no_grad()
    def _clear_biases(self) -> None:
        for i, layer in enumerate(self._last.layers):
            bias = self._bias(layer.module)
            if bias is not None and not self._roles[i].startswith("left"):
                bias.zero_()

    def _tune(self, i: int) -> None:
        """Set the scale of layer i, if it is the first call of its weights, by all of its calls; then its biases."""
        layer = self._last.layers[i]
        weight = self._weight(layer.module)
        if self._roles[i].startswith("left") or weight is None or self._paths().index(id(weight)) != i:
            return
        calls = [k for k, p in enumerate(self._paths()) if p == id(weight)]
        bias = self._bias(layer.module)
        with torch.no_grad():
            if bias is not None:
                bias.zero_()
        self._run()
        logs = [self._log_square(k) for k in calls]
        if not all(map(math.isfinite, logs)):
            raise InputError(
                f"`model`: layer {layer.name!r} cannot be made critical on this batch, since its signal or its "
                "derivative is zero or overflows; initialise the model anew, or give another batch"
            )
        scale = math.exp(sum(logs) / len(logs) / 2)  # of shared weights, the geometric mean
        with torch.no_grad():
            weight.mul_(scale)
            for k in calls:
                self._scales[k] *= scale
            if bias is not None:
                std = self._bias_std(i, scale)
                bias.normal_(0.0, std) if std > 0 else bias.zero_()
                for k in calls:
                    self._stds[k] = std

    def _targets(self, i: int) -> tuple[float, float]:
        """(variance, χ) that layer i should have."""
        if self._roles[i].startswith("left"):
            return float("nan"), float("nan")
        stream = self._graph.stream[i]
        if stream is None:
            return self.variance, 1.0 if self._graph.parents[i] else float("nan")
        share = 1.0 / self._graph.writers[i]
        return share * _variance(self._last.layers[stream]), share

    def _log_square(self, i: int) -> float:
        """ln s² of layer i by itself."""
        variance, chi = self._targets(i)
        by_variance = _log_ratio(variance, _variance(self._last.layers[i]))
        if not self._graph.parents[i]:
            return by_variance
        by_chi = _log_ratio(chi, self._jacobian(i))
        if self._graph.stream[i] is not None:
            return min(by_chi, by_variance)
        if self._graph.inner[i]:
            return by_chi
        x = min(max(by_variance - by_chi, -BUDGET - self._spent), -self._spent)
        self._spent += x
        return by_chi + x

    def _bias_std(self, i: int, scale: float) -> float:
        if self._roles[i] != "chain":
            return 0.0
        missing = self.variance - scale**2 * _variance(self._last.layers[i])
        return float(max(missing, 0.0) ** 0.5)

    def _jacobian(self, i: int) -> float:
        return shared_jacobian(self._last.layers, i, self._graph.parents[i], self._inputs, PROBES)

    def _report(self) -> tuple[TunedLayer, ...]:
        self._run()
        rows = []
        for i, name in enumerate(self._calls):
            variance, chi = self._targets(i)
            measured = self._jacobian(i) if self._graph.parents[i] else float("nan")
            now = _variance(self._last.layers[i])
            rows.append(TunedLayer(name, self._roles[i], self._scales[i], self._stds[i], now, variance, measured, chi))
        return tuple(rows)


def _variance(layer: Layer) -> float:
    return float(layer.z.detach().double().square().mean())


def _log_ratio(target: float, measured: float) -> float:
    return math.log(target / measured) if math.isfinite(measured) and measured > 0 else math.inf
