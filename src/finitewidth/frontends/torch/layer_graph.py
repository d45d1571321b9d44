"""Which layer gets its signal from which, found by derivatives: nothing is assumed of what lies between layers.

A forward pass in which every layer's output is cut off, and goes on as a leaf of its own, makes ∂z⁽ᵐ⁾/∂z⁽ʲ⁾ the
derivative along paths without another layer: its parents are the j for which it is not zero. A layer m has a shortcut
around ℓ where j and ℓ are both parents of m, and ℓ itself descends from j, with the same derivative of m along both: m
takes z⁽ʲ⁾ + z⁽ˡ⁾. Such an ℓ writes to a residual stream.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from finitewidth.frontends.torch.inspect_layers import Layer, Run, arranged, normal_like, pulled_back

ALIKE = 0.3
"""Cosine of two derivatives from which they count as those of one sum: 1 for x + f(x), less where x is masked by a
ReLU on the way, 0 for concatenated channels."""

VANISHED = 1e-6
"""Part of a Jacobian below which it is rounding."""


@dataclass(frozen=True)
class LayerGraph:
    """parents: of each layer, the nearest earlier ones that it depends on, without those that only a shortcut adds.

    stream: for each layer that writes to a residual stream, the earliest layer of that stream; None for the others.
    writers: how many layers write to that same stream. inner: whether a layer lies in a branch that ends in a writer.
    """

    parents: tuple[tuple[int, ...], ...]
    stream: tuple[int | None, ...]
    writers: tuple[int, ...]
    inner: tuple[bool, ...]


def layer_graph(run: Run) -> LayerGraph:
    """The graph of a run that was cut."""
    derivatives = [_derivatives(layer.made, run.layers[:m]) for m, layer in enumerate(run.layers)]
    derivatives.append(_derivatives(run.output, run.layers))  # the output takes part as one more layer
    ancestors: list[set[int]] = []
    for of in derivatives:
        ancestors.append(set(of).union(*(ancestors[j] for j in of)) if of else set())
    stream: list[int | None] = [None] * len(run.layers)
    together: list[set[int]] = [set() for _ in run.layers]
    for of in derivatives:
        added = {l: j for l in of if (j := _shortcut(l, of, ancestors)) is not None}
        for l, j in added.items():
            stream[l] = j if stream[l] is None else min(j, stream[l])  # type: ignore[type-var]
            together[l] |= set(added)
    parents = tuple(
        tuple(sorted(j for j in of if not any(j in ancestors[k] for k in of if k != j))) for of in derivatives[:-1]
    )
    inner = tuple(
        stream[i] is None
        and any(i in ancestors[w] and j in ancestors[i] for w, j in enumerate(stream) if j is not None)
        for i in range(len(stream))
    )
    return LayerGraph(parents, tuple(stream), tuple(len(t) for t in together), inner)


def _derivatives(made: torch.Tensor, earlier: Sequence[Layer]) -> dict[int, torch.Tensor]:
    """By parent, the derivative along one random direction."""
    if not earlier or not made.requires_grad:
        return {}
    pulled = pulled_back(made, [layer.z for layer in earlier], normal_like(made))
    return {j: g for j, g in enumerate(pulled) if g is not None and bool((g != 0).any())}


def _shortcut(l: int, of: dict[int, torch.Tensor], ancestors: list[set[int]]) -> int | None:
    """The earliest layer that bypasses ℓ into the same sum."""
    around = [j for j in sorted(of) if j < l and j in ancestors[l] and of[j].shape == of[l].shape]
    # compared with the nearest, which has met the fewest masks and normalisations since
    return around[0] if around and _cosine(of[around[-1]], of[l]) > ALIKE else None


def _cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    a, b = a.double().flatten(), b.double().flatten()
    return float(a @ b / (a.norm() * b.norm()))


def shared_jacobian(layers: Sequence[Layer], m: int, parents: Sequence[int], inputs: int, probes: int) -> float:
    """|∂z⁽ᵐ⁾/∂δ|²_F per number of z⁽ᵐ⁾, δ a perturbation of the parents' channels that all positions share.

    For a layer without positions (pixels, tokens) this is the partial Jacobian. With positions it is its slowest mode,
    the one that survives in deep convolutional networks (Xiao et al., arXiv:1806.05393); pooling and attention average
    the other modes away in any case. An instance normalisation takes just this mode away, and leaves the others: then,
    the partial Jacobian.
    """
    made, shared, each = layers[m].made, 0.0, 0.0
    for _ in range(probes):
        pulled = pulled_back(made, [layers[j].z for j in parents], normal_like(made))
        for j, g in zip(parents, pulled, strict=True):
            if g is not None:
                g = arranged(g, layers[j].module, inputs).double()
                shared, each = shared + float(g.sum(2).square().sum()), each + float(g.square().sum())
    return (shared if shared > VANISHED * each else each) / probes / made.numel()
