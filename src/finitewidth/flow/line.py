r"""The flow of single inputs: K, Θ, χ∥, χ⊥ and the vertex V, layer by layer (PDLT ch. 4, 5, 8; FACTS §2.6).

K' = C_b + C_W⟨σ²⟩ ,   Θ' = λ_b + λ_W⟨σ²⟩ + χ⊥Θ ,   V' = C_W²(⟨σ⁴⟩ − ⟨σ²⟩²) + r χ∥² V ,   r = n_ℓ/n_{ℓ−1}
χ∥ = C_W d⟨σ²⟩/dK ,    χ⊥ = C_W⟨σ'²⟩ .

A skip adds skip K to K', and skip to χ∥ and χ⊥ (`constants`). V is then not computed: E[z_i z_i z_j] enters it.
"""

from dataclasses import dataclass

import numpy as np

from finitewidth.activations import Activation
from finitewidth.architecture import MLP, Architecture
from finitewidth.errors import InputError
from finitewidth.flow.constants import layer_constants
from finitewidth.gaussian.tables import NotTabulable, is_discontinuous, line_moments, line_table

_FLOOR, _CEILING = 1e-290, 1e290


@dataclass(frozen=True)
class LineFlow:
    """Single-input quantities at layers 1 … L, each of shape (L, N).

    Attributes
        K, Theta, V, chi_parallel, chi_perp: as in the module's equations; V is NaN for a residual network.
        moments: ⟨σ²⟩, ⟨σ'²⟩, d⟨σ²⟩/dK, ⟨σ⁴⟩, ⟨z²σ'²⟩ at each layer, shape (L, 5, N).
        moment_error: relative errors of the first three, shape (L, 3).
    """

    K: np.ndarray
    Theta: np.ndarray
    V: np.ndarray
    chi_parallel: np.ndarray
    chi_perp: np.ndarray
    moments: np.ndarray
    moment_error: np.ndarray


def line_flow(net: Architecture, x2: np.ndarray) -> LineFlow:
    """Push |x|²/n_0 of each input, shape (N,), through all layers.

    Raises
        InputError: naming the layer at which K leaves the range of float64.
    """
    L, N = net.depth, len(x2)
    C_b, C_W, l_b, l_W, skip = layer_constants(net)
    K, Theta, V = (np.zeros((L, N)) for _ in range(3))
    moments = np.zeros((L, 5, N))
    moment_error = np.zeros((L, 3))
    K[0], Theta[0] = C_b[0] + C_W[0] * x2, l_b[0] + l_W[0] * x2
    for layer in range(L):
        _check_range(net, K[layer], layer + 1)
        moments[layer], moment_error[layer] = single_input_moments(net.activation, K[layer], layer + 1)
        if layer + 1 == L:
            break
        m, s, dm, m4, _ = moments[layer]
        K[layer + 1] = skip[layer + 1] * K[layer] + C_b[layer + 1] + C_W[layer + 1] * m
        with np.errstate(over="ignore", invalid="ignore"):
            chi_perp = skip[layer + 1] + C_W[layer + 1] * s
            Theta[layer + 1] = l_b[layer + 1] + l_W[layer + 1] * m + chi_perp * Theta[layer]
            ratio = net.widths[layer] / net.widths[layer - 1] if layer else 0.0
            V[layer + 1] = C_W[layer + 1] ** 2 * (np.maximum(m4 - m * m, 0.0) + ratio * dm * dm * V[layer])
    if not isinstance(net, MLP):
        V = np.full_like(V, np.nan)
    carried, entered = (np.concatenate([h[1:], h[-1:]])[:, None] for h in (skip, C_W))
    chi_parallel, chi_perp = (carried + entered * moments[:, i] for i in (2, 1))
    return LineFlow(K, Theta, V, chi_parallel, chi_perp, moments, moment_error)


def collinear_spread(net: Architecture, line: LineFlow) -> np.ndarray:
    """How fast collinear inputs turn into different directions: R' − K'_ab = spread · (ln K_a − ln K_b)² at ρ = 1.

    To second order in the logarithm, with R'² = K'_a K'_b,

        8 K' spread = C_W {C_b ⟨z²σ'²⟩ + C_W (⟨σ²⟩⟨z²σ'²⟩ − ⟨zσσ'⟩²)} + skip K {C_b + C_W ⟨(σ − zσ')²⟩} .

    Shape (L − 1, N); −1 where σ jumps, and the difference is not of second order.
    """
    C_b, C_W, _, _, skip = (h[1:, None] for h in layer_constants(net))
    m, _, dm, _, stretch = line.moments[:-1].transpose(1, 0, 2)
    if is_discontinuous(net.activation):
        return np.full_like(m, -1.0)
    with np.errstate(over="ignore", invalid="ignore"):
        along = line.K[:-1] * dm  # ⟨zσσ'⟩
        tilt = np.maximum(m * stretch - along**2, 0.0)
        bend = np.maximum(m + stretch - 2 * along, 0.0)
        spread = C_W * (C_b * stretch + C_W * tilt) + skip * line.K[:-1] * (C_b + C_W * bend)
        spread = spread / (8 * line.K[1:])
    return np.where(np.isfinite(spread), spread, -1.0)


def single_input_moments(activation: Activation, K: np.ndarray, layer: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """⟨σ²⟩, ⟨σ'²⟩, d⟨σ²⟩/dK, ⟨σ⁴⟩, ⟨z²σ'²⟩ at kernels K > 0, (5, *K.shape); relative errors of the first three."""
    form, parameters = activation.closed_form or ("", ())
    eps = np.finfo(float).eps
    with np.errstate(over="ignore"):
        if form == "piecewise_linear":
            A2, A4 = (0.5 * sum(slope**p for slope in parameters) for p in (2, 4))
            one = np.ones_like(K)
            return np.stack([A2 * K, A2 * one, A2 * one, 3 * A4 * K * K, A2 * K]), np.full(3, 4 * eps)
        if form == "exp":
            e2, e8 = np.exp(2 * K), np.exp(8 * K)
            return np.stack([e2, e2, 2 * e2, e8, (K + 4 * K * K) * e2]), np.full(3, 8 * eps * (1 + K.max()))
    try:
        try:
            table = line_table(activation, K)
            return table.moments(K), table.error[:3]
        except NotTabulable:
            estimate = line_moments(activation, K)
            size, error = (np.abs(part[:3]).reshape(3, -1) for part in (estimate.value, estimate.error))
            size[2] = size[2].max()  # it may vanish for some of the kernels
            return estimate.value, (error / np.maximum(size, np.finfo(float).tiny)).max(axis=1)
    except InputError as error:
        raise InputError(f"`activation` {activation.name}, layer {layer}, K = {K.max():.4g}: {error}") from error


def _check_range(net: Architecture, K: np.ndarray, layer: int) -> None:
    C_W = net.per_layer("C_W")[layer - 1]
    if not np.all(np.isfinite(K)) or K.max() > _CEILING:
        raise InputError(
            f"the kernel leaves float64 at layer {layer} (K = {K.max():.3g}): "
            f"the signal explodes under {net.activation.name} with C_W = {C_W:.6g}; use a smaller `C_W` or fewer layers"
        )
    if K.min() < _FLOOR:
        raise InputError(
            f"the kernel leaves float64 at layer {layer} (K = {K.min():.3g}): "
            f"the signal dies under {net.activation.name} with C_W = {C_W:.6g}; "
            "use a larger `C_W`, a positive `C_b`, or fewer layers"
        )
