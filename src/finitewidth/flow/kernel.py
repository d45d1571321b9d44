r"""The flow: K and Θ of every pair of inputs through every layer (PDLT ch. 4, 8; THEORY §2).

    K⁽¹⁾ = C_b + C_W x·x'/n_0          K⁽ℓ⁺¹⁾ = C_b + C_W ⟨σσ⟩_K⁽ℓ⁾
    Θ⁽¹⁾ = λ_b + λ_W x·x'/n_0          Θ⁽ℓ⁺¹⁾ = λ_b + λ_W ⟨σσ⟩ + C_W ⟨σ'σ'⟩ Θ⁽ℓ⁾
"""

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np
import xarray as xr

from finitewidth.architecture import MLP
from finitewidth.data import check_inputs
from finitewidth.errors import InputError
from finitewidth.flow.line import LineFlow, line_flow
from finitewidth.flow.tiles import FirstLayer, LayerConstants, compiled_tile, each_tile, run_tile_directly, tile_size
from finitewidth.gaussian.pair_maps import DirectMap, pair_map
from finitewidth.gaussian.tables import is_discontinuous
from finitewidth.precision import in_float64

Layers = Literal["all", "last"] | Sequence[int]
Progress = Callable[[int, int], None]
_NEARLY_COLLINEAR = 1e-5  # below this w = 1 − |ρ|, an inner product has lost eleven of its digits


@in_float64
def flow(
    net: MLP,
    x: Any,
    *,
    order: int = 0,
    tensors: str | None = None,
    layers: Layers = "all",
    progress: Progress | None = None,
) -> xr.Dataset:
    """Signals, gradients and fluctuations of a network at initialisation, layer by layer.

    Source: PDLT ch. 4 (K), ch. 8 (Θ), ch. 5 (χ∥, χ⊥), §4.3 (V); THEORY §2, FACTS §2.6. Leading order in 1/n; V is the coefficient
    of 1/n (n the width of the layer before).

    Arguments
        net: the network.
        x: inputs, shape (N, n_in); N up to several thousand.
        order: 0 for the infinite-width kernels with the single-input vertex.
        tensors: "" for K and Θ alone; None adds V, χ∥ and χ⊥ of each input.
        layers: "all", "last", or a sequence of layers 1 … L to keep. N × N numbers are stored for each.
        progress: called with (tiles done, tiles in all).

    Returns
        An `xarray.Dataset` with dimensions layer (1 … L), a, b (inputs): K(layer, a, b) and Theta(layer, a, b), V(layer, a) =
        V_{aaaa}, chi_parallel(layer, a), chi_perp(layer, a) (of the step from this layer to the next; the last layer's with its own C_W).
        Each has a `<name>_error`: bounds on the absolute error, by layer.

    Raises
        InputError: for inputs that cannot be used, sizes that do not match, a kernel that leaves float64 (the layer is named),
            or more memory than this machine has.

    >>> import finitewidth as fw, numpy as np
    >>> net = fw.MLP("relu", depth=3, width=100, C_W=2.0)
    >>> float(fw.flow(net, np.ones((1, 5))).K[-1, 0, 0])
    2.0
    """
    x = check_inputs(x)
    _check_request(net, x, order, tensors)
    kept = _kept_layers(layers, net.depth)
    _check_memory(len(x), len(kept))
    line = line_flow(net, np.einsum("ai,ai->a", x, x) / x.shape[1])
    K, Theta, pair_errors = _pairs(net, x, line, kept, progress)
    errors = _relative_errors(line, pair_errors)
    return _dataset(net, line, (K, Theta), errors, kept, tensors)


def _pairs(
    net: MLP, x: np.ndarray, line: LineFlow, kept: list[int], progress: Progress | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """K and Θ of all pairs at the kept layers, shape (layers, N, N), and the relative error of each layer's averages."""
    N, L = len(x), net.depth
    hyper = [net.per_layer(name) for name in ("C_b", "C_W", "lambda_b", "lambda_W")]
    out = np.empty((2, len(kept), N, N))
    order = np.argsort(line.K[0], kind="stable")  # tiles of similar kernels
    size = tile_size(N)
    tiles = [order[np.minimum(np.arange(i, i + size), N - 1)] for i in range(0, N, size)]
    averages = pair_map(net.activation, line.K[:-1], line.moments[:-1], tiles)
    shared, sides = ((), []) if isinstance(averages, DirectMap) else (averages.layers(), [averages.tile(i) for i in range(len(tiles))])
    kernels, entered = [line.K[:, t] for t in tiles], LayerConstants(*hyper)
    samples, homogeneous = [x[t] for t in tiles], _scale_invariance(net)
    unknown = np.full((size, size), -1.0)
    keep = kept != [L]
    picked = np.array(kept) - 1 if keep else np.array([0])

    def work(i: int, j: int) -> tuple[np.ndarray, np.ndarray]:
        inner = samples[i] @ samples[j].T / x.shape[1]

        def run(refined: np.ndarray) -> tuple[np.ndarray, ...]:
            if isinstance(averages, DirectMap):
                each = partial(averages.averages, first=i, second=j)
                found = run_tile_directly(each, FirstLayer(inner, refined), (kernels[i], kernels[j]), entered)
                return found if keep else (found[0][-1:], found[1][-1:], found[2])
            pair = (kernels[i], kernels[j]), shared, (sides[i], sides[j])
            found = compiled_tile(averages.function, FirstLayer(inner, refined), *pair, entered, homogeneous, keep=keep)
            return tuple(np.asarray(f) for f in found)

        same = np.where(np.equal.outer(tiles[i], tiles[j]), 0.0, -1.0) if i == j else unknown
        K, Theta, closest = run(same)
        if closest < _NEARLY_COLLINEAR:
            refined = nearly_collinear(samples[i], samples[j], float(hyper[0][0]), float(hyper[1][0]))
            K, Theta, _ = run(np.where(same >= 0, same, refined))
        return K[picked], Theta[picked]

    for i, j, found in each_tile(work, len(tiles), progress):
        rows, columns = tiles[i][: N - i * size], tiles[j][: N - j * size]
        for target, values in zip(out, found, strict=True):
            block = values[:, : len(rows), : len(columns)]
            target[:, rows[:, None], columns] = block
            target[:, columns[:, None], rows] = block.transpose(0, 2, 1)
    for target, diagonal in zip(out, (line.K, line.Theta), strict=True):
        target[:, np.arange(N), np.arange(N)] = diagonal[np.array(kept) - 1]
    return out[0], out[1], averages.errors


def nearly_collinear(x: np.ndarray, y: np.ndarray, C_b: float, C_W: float) -> np.ndarray:
    """Complements w = 1 − |ρ| of the pairs (len(x), len(y)) that an inner product cannot resolve; −1 for all others.

    They are taken from differences: with x̃ = (√C_b, √(C_W/n_0) x) scaled to unit length, 1 ∓ ρ = ½|x̃ ∓ ỹ|².
    """
    u, v = (np.concatenate([np.full((len(p), 1), np.sqrt(C_b)), np.sqrt(C_W / p.shape[1]) * p], 1) for p in (x, y))
    u, v = (p / np.linalg.norm(p, axis=1, keepdims=True) for p in (u, v))
    rho = u @ v.T
    w = np.full(rho.shape, -1.0)
    rows, columns = np.nonzero(1.0 - np.abs(rho) < _NEARLY_COLLINEAR)
    for start in range(0, len(rows), 4096):
        r, c = rows[start : start + 4096], columns[start : start + 4096]
        w[r, c] = 0.5 * np.sum((u[r] - np.sign(rho[r, c])[:, None] * v[c]) ** 2, axis=1)
    return w


def _scale_invariance(net: MLP) -> float:
    """⟨σ²⟩/K of a scale-invariant activation, 0 for any other."""
    form = net.activation.closed_form
    return 0.5 * (form[1][0] ** 2 + form[1][1] ** 2) if form is not None and form[0] == "piecewise_linear" else 0.0


def _relative_errors(line: LineFlow, pair_errors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bounds on the relative errors of K and Θ (relative to √(K_aa K_bb)) at every layer, shape (L,) each.

    Each layer adds the error of its averages, and passes on what it was given, amplified by at most its steepest slope. Θ is a sum
    of positive terms, of which C_W⟨σ'σ'⟩Θ inherits the errors of K (through ⟨σ'σ'⟩) and of Θ.
    """
    eps = np.finfo(float).eps
    K, Theta = np.full(len(line.K), 4 * eps), np.full(len(line.K), 4 * eps)
    for layer in range(1, len(K)):
        own = max(pair_errors[layer - 1], line.moment_error[layer - 1]) + 2 * eps
        K[layer] = own + line.steepest[layer] * K[layer - 1]
        Theta[layer] = max(K[layer], Theta[layer - 1] + own + 2 * K[layer - 1])
    return K, Theta


def _dataset(
    net: MLP,
    line: LineFlow,
    pairs: tuple[np.ndarray, np.ndarray],
    errors: tuple[np.ndarray, np.ndarray],
    kept: list[int],
    tensors: str | None,
) -> xr.Dataset:
    rows = np.array(kept) - 1
    K, Theta = pairs
    relative, relative_Theta = (e[rows] for e in errors)
    size = [line.K.max(1)[rows], np.abs(line.Theta).max(1)[rows], np.abs(line.V).max(1)[rows]]
    pair, single = ("layer", "a", "b"), ("layer", "a")
    variables: dict[str, Any] = {
        "K": (pair, K, {"long_name": "kernel", "order_in_1/n": 0}),
        "Theta": (pair, Theta, {"long_name": "frozen neural tangent kernel", "order_in_1/n": 0}),
        "K_error": ("layer", relative * size[0]),
        "Theta_error": ("layer", relative_Theta * size[1]),
    }
    if tensors is None:
        singles = {
            "V": (line.V, "single-input four-point vertex V_aaaa, coefficient of 1/n", 4 * np.array(kept) * relative * size[2]),
            "chi_parallel": (line.chi_parallel, "parallel susceptibility", 4 * relative),
            "chi_perp": (line.chi_perp, "perpendicular susceptibility", 4 * relative),
        }
        for name, (values, meaning, error) in singles.items():
            _must_be_finite(name, values, net)
            variables[name] = (single, values[rows], {"long_name": meaning})
            variables[f"{name}_error"] = ("layer", error * (1 if name == "V" else np.abs(values[rows]).max(1)))
    _must_be_finite("Theta", line.Theta, net)
    coordinates = {"layer": kept, "a": np.arange(K.shape[1]), "b": np.arange(K.shape[1])}
    notes = "σ jumps: Theta and chi_perp use the almost-everywhere derivative" if is_discontinuous(net.activation) else ""
    return xr.Dataset(variables, coordinates, {"network": repr(net), "depth": net.depth, "widths": list(net.widths), "notes": notes})


def _must_be_finite(name: str, values: np.ndarray, net: MLP) -> None:
    bad = ~np.all(np.isfinite(values), axis=1)
    if np.any(bad):
        layer = int(np.argmax(bad)) + 1
        raise InputError(f"{name} leaves float64 at layer {layer}: {net.activation.name} amplifies too much at these `C_W`; use fewer layers")


def _check_request(net: MLP, x: np.ndarray, order: int, tensors: str | None) -> None:
    if net.n_in is not None and net.n_in != x.shape[1]:
        raise InputError(f"`x` has {x.shape[1]} columns, but the network has n_in = {net.n_in}; give inputs of shape (N, {net.n_in})")
    if order != 0:
        raise InputError(f"`order` must be 0 in this version (infinite width, with the single-input vertex V), but got {order!r}")
    if tensors not in (None, ""):
        raise InputError(f"`tensors` must be None or \"\" (K and Theta alone) in this version, but got {tensors!r}")
    if net.per_layer("C_b")[0] == 0 and not np.all(np.any(x != 0, axis=1)):
        row = int(np.argmin(np.any(x != 0, axis=1)))
        raise InputError(f"`x` has an all-zero row ({row}), whose kernel is 0 at C_b = 0; drop it or use a positive C_b")


def _kept_layers(layers: Layers, depth: int) -> list[int]:
    if isinstance(layers, str):
        if layers not in ("all", "last"):
            raise InputError(f"`layers` must be 'all', 'last' or a sequence of layers, but got {layers!r}")
        return list(range(1, depth + 1)) if layers == "all" else [depth]
    kept = [int(layer) for layer in layers]
    if not kept or min(kept) < 1 or max(kept) > depth or sorted(set(kept)) != kept:
        raise InputError(f"`layers` must be increasing layers between 1 and {depth}, but got {list(layers)!r}")
    return kept


def _check_memory(N: int, layers: int) -> None:
    needed = 16 * N * N * layers
    try:
        available = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return
    if needed > 0.7 * available:
        raise InputError(
            f"K and Theta of {N} inputs at {layers} layers take {needed / 2**30:.3g} GiB, and this machine has "
            f"{available / 2**30:.3g} GiB; use layers='last' ({16 * N * N / 2**30:.3g} GiB) or fewer inputs"
        )
