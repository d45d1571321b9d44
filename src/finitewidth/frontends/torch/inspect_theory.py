"""What theory says about a model that is a multilayer perceptron: the columns of an inspection, predicted.

K and the kurtosis to first order in 1/n, by G1 and V; angle, susceptibilities, Jacobians, gradients and the correlation
of neurons to the first order that they have. PDLT's weights are Gaussian. For others (PyTorch draws uniform ones) the
fourth cumulant of weights adds to the kurtosis of a single neuron, at the same order 1/n:

    kurtosis⁽ℓ⁾ = 3 V⁽ℓ⁾/(n K²) + [κ_W C_W² ⟨σ⁴⟩/n_{ℓ−1} + κ_b C_b²]/K² ,

κ the excess kurtosis of a weight and of a bias (−6/5 if uniform), ⟨σ⁴⟩ the mean of x⁴ for layer 1. Neurons given the
layer before are sums of independent terms, so their fourth cumulants add up; V, which neurons share, is unchanged.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import nn

from finitewidth.activations import Activation
from finitewidth.architecture import MLP
from finitewidth.errors import InputError
from finitewidth.flow import flow
from finitewidth.frontends.moments import angles, pairs
from finitewidth.frontends.torch.chain import changed_between_layers
from finitewidth.frontends.torch.inspect_layers import tensors
from finitewidth.frontends.torch.model import Call, Reading, activation_before, read_model
from finitewidth.frontends.torch.signals import Data, Preactivation

Predicted = dict[str, tuple[np.ndarray, np.ndarray]]
MOST_INPUTS = 64


class _NotCovered(Exception):
    """Why theory does not cover a model, in words."""


def predicted(model: nn.Module, batch: Any, layers: Sequence[str], variances: np.ndarray) -> tuple[Predicted, str]:
    """Theory by column, (values, size of what is dropped), and a line on what it is; no columns where there is none.

    variances: for each layer E W², E W⁴, E b², E b⁴ over its entries and over initialisations.
    """
    try:
        reading = read_model(model, batch)
        net, names = _perceptron(reading, variances)
        if names != list(layers):
            raise _NotCovered("its layers do not run in one chain")
        x = tensors(batch)[0].detach().double().flatten(1).cpu().numpy()
        if len(x) > MOST_INPUTS:
            raise _NotCovered(f"the batch has {len(x)} inputs, theory is compared for at most {MOST_INPUTS}")
        columns = _columns(net, x, variances)
    except (_NotCovered, InputError) as reason:
        return {}, f"no theory: {reason}"
    return columns, f"theory: {net.activation.name} MLP, to first order in 1/n"


def _perceptron(reading: Reading, variances: np.ndarray) -> tuple[MLP, list[str]]:
    calls = reading.calls
    activations: list[Activation] = []
    for before, call in zip([None, *calls], calls, strict=False):
        if call.layer.kind != "linear" or len(call.layer.calls) > 1:
            raise _NotCovered(f"layer {call.layer.path!r} is not a Linear that runs once")
        activations += _between(before, call)
    if change := changed_between_layers(reading, dropout=True):
        raise _NotCovered(f"it has {change}")
    if len(calls) < 2:
        raise _NotCovered("it has no hidden layer")
    if len({a.name for a in activations}) > 1:
        raise _NotCovered(f"it mixes the activations {', '.join(sorted({a.name for a in activations}))}")
    fan_in = np.array([call.layer.fan_in for call in calls])
    net = MLP(
        activations[0],
        depth=len(calls),
        width=[call.layer.fan_out for call in calls[:-1]],
        n_in=int(fan_in[0]),
        n_out=calls[-1].layer.fan_out,
        C_W=[float(v) for v in variances[:, 0] * fan_in],
        C_b=[float(v) for v in variances[:, 2]],
    )
    return net, [call.layer.path for call in calls]


def _between(before: Call | None, call: Call) -> list[Activation]:
    if before is None:
        if not (isinstance(call.source, Data) and call.source.is_input):
            raise _NotCovered("its first layer does not take the data as they are")
        return []
    activation, base = activation_before(call.source)
    if activation is None or not isinstance(base, Preactivation) or base.call is not before:
        raise _NotCovered(
            f"between layers {before.layer.path!r} and {call.layer.path!r} there is more than an activation"
        )
    return [activation.activation]


def _columns(net: MLP, x: np.ndarray, variances: np.ndarray) -> Predicted:
    leading = flow(net, x)
    before = np.array([np.inf, *net.widths])[:, None]  # given Gaussian weights, the first layer is exactly Gaussian
    K = np.diagonal(leading["K"].values, axis1=1, axis2=2)
    ratio = leading["V"].values / before / K**2
    shift = _relative_shift(net, x, K) / before
    # what an order leaves out, relative to it: Σ 1/n so far, or V/(nK²) where that is larger
    small = np.maximum([np.sum(1 / np.array(net.widths[:l])) for l in range(net.depth)], ratio.mean(1))
    kurtosis, correlation = _kurtosis(net, x, K, ratio, variances), ratio.mean(1) / 2
    columns = {
        "K": ((K * (1 + shift)).mean(1), K.mean(1) * small**2 + np.abs(shift[:, 0]) * K.std(1)),
        "kurtosis": (kurtosis, np.abs(kurtosis) * small + small**2),
        "correlation": (correlation, correlation * small + small**2),
    }
    a, b = pairs(len(x))
    if len(a):
        full = leading["K"].values
        angle = angles(K, np.maximum(full[:, a, a] + full[:, b, b] - 2 * full[:, a, b], 0.0)).mean(-1)
        columns["angle"] = (angle, angle * small)
    return columns | _backward(net, x, leading["chi_perp"].values, K, small)


def _relative_shift(net: MLP, x: np.ndarray, K: np.ndarray) -> np.ndarray:
    """G1/K of the input of median size, (layer, 1): G1 of every input would take many times as long."""
    middle = int(np.argsort(K[0])[len(x) // 2])
    G1 = flow(net, x[middle : middle + 1], order=1, tensors="G1")["G1"].values
    shift: np.ndarray = G1[:, :, 0] / K[:, middle : middle + 1]
    return shift


def _kurtosis(net: MLP, x: np.ndarray, K: np.ndarray, ratio: np.ndarray, variances: np.ndarray) -> np.ndarray:
    fan_in = np.array([x.shape[1], *net.widths])
    W2, W4, b2, b4 = variances.T
    excess_W = W4 / W2**2 - 3
    excess_b = np.divide(b4, b2**2, out=np.full_like(b2, 3.0), where=b2 > 0) - 3
    fourth = np.concatenate([np.mean(x**4, axis=1)[None], _fourth_moments(net.activation, K[:-1])])
    own = (excess_W * net.per_layer("C_W") ** 2 / fan_in)[:, None] * fourth
    own += (excess_b * net.per_layer("C_b") ** 2)[:, None]
    value: np.ndarray = (3 * ratio + own / K**2).mean(1)
    return value


def _fourth_moments(activation: Activation, K: np.ndarray) -> np.ndarray:
    """⟨σ⁴⟩_K for every K, by the trapezoid rule: to 1e-5 at kinks, which is ample for a correction."""
    u = np.linspace(-9, 9, 4001)
    weights = np.exp(-(u**2) / 2) / np.sqrt(2 * np.pi) * (u[1] - u[0])
    sigma = activation.evaluate(np.sqrt(K)[..., None] * u)[0]
    fourth: np.ndarray = sigma**4 @ weights
    return fourth


def _backward(net: MLP, x: np.ndarray, chi_perp: np.ndarray, K: np.ndarray, small: np.ndarray) -> Predicted:
    """χ into each layer, J = Π χ⊥ from it to the output, g² = |s|² J with |s|² = n (K − C_b)/C_W, s what comes in."""
    into = np.concatenate([np.full((1, K.shape[1]), np.nan), chi_perp[:-1]])
    to_output = np.concatenate([np.cumprod(chi_perp[:-1][::-1], axis=0)[::-1], np.ones((1, K.shape[1]))])
    fan_in = np.array([x.shape[1], *net.widths])
    incoming = fan_in[:, None] * (K - net.per_layer("C_b")[:, None]) / net.per_layer("C_W")[:, None]
    jacobian, gradient = to_output.mean(1), np.sqrt((incoming * to_output).mean(1))
    return {
        "chi": (into.mean(1), into.mean(1) * small),
        "jacobian": (jacobian, jacobian * small[-1]),
        "gradient": (gradient, gradient * small[-1]),
    }
