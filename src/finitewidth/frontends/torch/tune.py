"""`fw.torch.tune_`: weights rescaled, layer by layer, until what is measured is critical.

One scale cannot hold both the size of signals and that of gradients: z = b + s W h makes E z² = C_b + s² a and the
partial Jacobian χ = s² c, with a and c whatever the network in front makes them. So, layer after layer,

    weights   s² = e^x/c: the partial Jacobian χ from the layers before is 1, and gradients keep their size;
    biases    C_b = K − s² a where that is positive: signals keep theirs.

That is PDLT's critical initialisation, C_W = 1/⟨σ'²⟩ and C_b = K − C_W ⟨σ²⟩, its averages measured instead of computed.
No bias takes variance away. Where there is too much, by chance of finite width or because σ has no critical point
(softplus), the weights are made smaller, x < 0, and larger again where there is too little, but all x together stay
between −`BUDGET` and 0: gradients give away at most a factor e² in variance for the sake of signals, whatever the
depth. What variance remains too large is reported.

Three cases differ:

    the first layers, with no layer before them: s² = K/a;
    layers inside a residual branch: s² = 1/c and no biases; the size of signals there does not add up over depth;
    layers that write to a residual stream, of which there are B: s² = min(1/c, K/a)/B. Each of them adds at most 1/B of
    the stream's variance and of its gradient, so that B of them together multiply either by at most (1 + 1/B)^B < e.

With pixels or tokens, χ is that of perturbations which all positions share (`layer_graph.shared_jacobian`).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn

from finitewidth.errors import InputError
from finitewidth.frontends.torch.inspect_draws import checked, seeded
from finitewidth.frontends.torch.inspect_layers import batch_size
from finitewidth.frontends.torch.model import read_model

Model = TypeVar("Model", bound=nn.Module)
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class TunedLayer:
    """What was found and done at one layer.

    role: "first", "chain", "in a branch", "writes to a stream", or why it was left. scale: s, by which
    its weights are multiplied; 1 where it was left. bias_std: √C_b, NaN without biases to set. variance, jacobian: E z²
    and χ afterwards. variance_target, jacobian_target: K and 1, or their share 1/B; NaN where there is none.
    """

    name: str
    role: str
    scale: float
    bias_std: float
    variance: float
    variance_target: float
    jacobian: float
    jacobian_target: float


@dataclass(frozen=True)
class Tuning:
    """Scales that make a model critical, and how near they bring it. Printing it shows a table.

    layers: in the order in which they run. parameters: new values by name, of those that change.
    """

    layers: tuple[TunedLayer, ...]
    parameters: dict[str, torch.Tensor] = field(repr=False)

    @property
    def residual_jacobian(self) -> float:
        """The largest |Σ ln χ| from one layer to another, over those whose χ should be 1: how uneven gradients are."""
        walk = np.cumsum([0.0, *(math.log(l.jacobian) for l in self._chain if l.jacobian > 0)])
        return float(walk.max() - walk.min())

    @property
    def residual_variance(self) -> float:
        """The largest |ln(E z²/K)| over the layers whose variance should be K: how uneven signals are."""
        return max((abs(math.log(l.variance / l.variance_target)) for l in self._chain if l.variance > 0), default=0.0)

    @property
    def _chain(self) -> list[TunedLayer]:
        return [layer for layer in self.layers if layer.role == "chain"]

    @torch.no_grad()
    def apply_(self, model: nn.Module) -> None:
        """Write the new values into the model, in place; tied parameters stay tied."""
        mine = dict(model.named_parameters())
        for name, value in self.parameters.items():
            mine[name].copy_(value)

    def __str__(self) -> str:
        from finitewidth.frontends.torch.tuning_table import table_of

        return table_of(self)


def tune_(
    model: Model,
    batch: Any,
    *,
    variance: float | None = None,
    seed: int = 0,
    verbose: bool = True,
    progress: Progress | None = None,
) -> Model:
    """Rescale weights layer by layer, in place, until partial Jacobians and variances as measured are critical.

        s_ℓ² |∂z⁽ℓ⁾/∂z⁽ℓ⁻¹⁾|²/n_ℓ = 1 ,   C_b = K − s_ℓ² a_ℓ where positive; writers to a residual stream: 1/B.

    For architectures that `critical_init_` has no theory of: pooling, attention, mixed blocks. The weights keep their
    direction, so draw them first. `finitewidth.frontends.torch.tune` says what each layer's scale is for, and why.

    Source: PDLT ch. 5; tuning partial Jacobians by measurement, He and Gromov, arXiv:2206.13568.

    Arguments
        model: any module. Linear, convolutions, Embedding, MultiheadAttention (its output projection) and whatever else
            is found to be linear in its one matrix are rescaled, and their biases drawn anew; frozen and parametrised
            weights, those that are all zero, and other modules' (an LSTM's) are left and reported. Tied weights share
            one scale.
        batch: what the model is called with: a tensor with one input a row, a tuple of arguments, or a dictionary.
        variance: K, the variance that preactivations should have. None: K* of the activation where it has one (GELU,
            SiLU; see `fw.critical`), else 1.
        seed: of the random directions and the biases; the same seed gives the same numbers.
        verbose: print what was done. `tuning` returns it without changing anything.
        progress: called with (layers done, layers in all).

    Returns
        `model`. Its buffers, mode and frozen parameters and PyTorch's random state are as before.

    Raises
        InputError: as `inspect`; then nothing of the model has changed.

    >>> import torch, finitewidth as fw
    >>> deep = torch.nn.Sequential(*[torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.Tanh()) for _ in range(8)])
    >>> x = torch.randn(32, 64)
    >>> bool(deep(x).std() < 0.1)  # PyTorch's initialisation has lost the signal after eight layers
    True
    >>> deep = fw.torch.tune_(deep, x, verbose=False)
    >>> bool(0.4 < deep(x).std() < 0.9)
    True
    """
    found = tuning(model, batch, variance=variance, seed=seed, progress=progress)
    found.apply_(model)
    if verbose:
        print(found)
    return model


def tuning(
    model: nn.Module, batch: Any, *, variance: float | None = None, seed: int = 0, progress: Progress | None = None
) -> Tuning:
    """What `tune_` would do to a model; arguments and errors as there. The model is not changed."""
    checked(model)
    inputs = batch_size(batch)
    if variance is not None and (
        isinstance(variance, bool) or not isinstance(variance, (int, float)) or not 0 < variance < math.inf
    ):
        raise InputError(f"`variance` must be a finite number > 0, but got {variance!r}")
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise InputError(f"`seed` must be an integer ≥ 0, but got {seed!r}")
    from finitewidth.frontends.torch.tuner import Tuner

    with seeded(seed, model):
        tuner = Tuner(model, batch, inputs, 1.0 if variance is None else float(variance))
        if variance is None:
            tuner.variance = fixed_point(model, batch)
        layers, parameters = tuner.tuned(progress)
    return Tuning(layers, parameters)


def fixed_point(model: nn.Module, batch: Any) -> float:
    """K* of the model's activation, where it has one and K* > 0 (GELU, SiLU); else 1, which scale-invariant activations
    keep, and at which others lose the least.

    Below K* a half-stable activation has χ∥ > 1 on the line χ⊥ = 1: sizes of different inputs drift apart.
    """
    from finitewidth.criticality import critical

    try:
        reading = read_model(model, batch)
    except InputError:
        return 1.0
    found = {a.activation.name: a.activation for call in reading.calls for a in reading.activations_after(call)}
    if len(found) != 1:
        return 1.0
    K_star = critical(next(iter(found.values()))).K_star
    return K_star if K_star else 1.0
