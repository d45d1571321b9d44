r"""The flow: K and Θ of every pair of inputs through every layer (PDLT ch. 4, 8; THEORY §2).

K⁽¹⁾ = C_b + C_W x·x'/n_0          K⁽ℓ⁺¹⁾ = C_b + C_W ⟨σσ⟩_K⁽ℓ⁾
Θ⁽¹⁾ = λ_b + λ_W x·x'/n_0          Θ⁽ℓ⁺¹⁾ = λ_b + λ_W ⟨σσ⟩ + C_W ⟨σ'σ'⟩ Θ⁽ℓ⁾
"""

import os
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import xarray as xr

from finitewidth.architecture import MLP, whole_number
from finitewidth.data import check_inputs
from finitewidth.errors import InputError
from finitewidth.flow.line import LineFlow, line_flow
from finitewidth.flow.pairs import Progress, pair_flow
from finitewidth.gaussian.polar import one_blas_thread
from finitewidth.gaussian.tables import is_discontinuous
from finitewidth.precision import in_float64

Layers = Literal["all", "last"] | Sequence[int]


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

    Source: PDLT ch. 4 (K), ch. 8 (Θ), ch. 5 (χ∥, χ⊥), §4.3 (V); THEORY §2, FACTS §2.6. Leading order in 1/n; V is the
    coefficient of 1/n (n the width of the layer before).

    Arguments
        net: the network.
        x: inputs, shape (N, n_in); N up to several thousand.
        order: 0 for the infinite-width kernels with the single-input vertex.
        tensors: "" for K and Θ alone; None adds V, χ∥ and χ⊥ of each input.
        layers: "all", "last", or a sequence of layers 1 … L to keep. N × N numbers are stored for each.
        progress: called with (tiles done, tiles in all).

    Returns
        An `xarray.Dataset` with dimensions layer (1 … L), a, b (inputs): K(layer, a, b) and Theta(layer, a, b),
        V(layer, a) = V_{aaaa}, chi_parallel(layer, a), chi_perp(layer, a) (of the step from this layer to the next; the
        last layer's with its own C_W).
        Each has a `<name>_error`: bounds on the absolute error, by layer.

        Where σ itself jumps, chi_perp does not exist: it is NaN, its error infinite, and `notes` says so.

    Raises
        InputError: for inputs that cannot be used, sizes that do not match, a kernel that leaves float64 (the layer is
            named), or more memory than this machine has.

    >>> import finitewidth as fw, numpy as np
    >>> net = fw.MLP("relu", depth=3, width=100, C_W=2.0)
    >>> float(fw.flow(net, np.ones((1, 5))).K[-1, 0, 0])
    2.0
    """
    x = check_inputs(x)
    _check_request(net, x, order, tensors)
    kept = _kept_layers(layers, net.depth)
    _check_memory(len(x), len(kept))
    with one_blas_thread():  # where cores are busy, threads of BLAS wait for one another longer than they compute
        line = line_flow(net, np.einsum("ai,ai->a", x, x) / x.shape[1])
        K, Theta, pair_errors = pair_flow(net, x, line, kept, progress)
    errors = _relative_errors(line, pair_errors)
    return _dataset(net, line, (K, Theta), errors, kept, tensors)


def _relative_errors(line: LineFlow, pair_errors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bounds on the relative errors of K and Θ (relative to √(K_aa K_bb)) at every layer, shape (L,) each.

    Each layer adds the error of its averages, and passes on what it was given, amplified by at most its steepest slope.
    Θ is a sum of positive terms, of which C_W⟨σ'σ'⟩Θ inherits the errors of K (through ⟨σ'σ'⟩) and of Θ.
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
    _must_be_finite("Theta", line.Theta, net)
    rows, (K, Theta), pair = np.array(kept) - 1, pairs, ("layer", "a", "b")
    relative, relative_Theta = (e[rows] for e in errors)
    variables: dict[str, Any] = {
        "K": (pair, K, {"long_name": "kernel", "order_in_1/n": 0}),
        "Theta": (pair, Theta, {"long_name": "frozen neural tangent kernel", "order_in_1/n": 0}),
        "K_error": ("layer", relative * line.K.max(1)[rows]),
        "Theta_error": ("layer", relative_Theta * np.abs(line.Theta).max(1)[rows]),
    }
    if tensors is None:
        variables |= _single_input_variables(net, line, rows, relative)
    sample = np.arange(K.shape[1])
    jumps = is_discontinuous(net.activation)
    attributes = {
        "network": repr(net),
        "depth": net.depth,
        "widths": list(net.widths),
        "notes": "σ jumps: chi_perp does not exist, and Theta uses the almost-everywhere derivative" if jumps else "",
    }
    return xr.Dataset(variables, {"layer": kept, "a": sample, "b": sample}, attributes)


def _single_input_variables(net: MLP, line: LineFlow, rows: np.ndarray, relative: np.ndarray) -> dict[str, Any]:
    """V, χ∥ and χ⊥ at the kept layers with their errors, given the relative errors of K there."""
    meanings = {
        "V": ("single-input four-point vertex V_aaaa, coefficient of 1/n", 4 * (rows + 1)),
        "chi_parallel": ("parallel susceptibility", 4),
        "chi_perp": ("perpendicular susceptibility", 4),
    }
    variables: dict[str, Any] = {}
    for name, (meaning, factor) in meanings.items():
        values = getattr(line, name)
        if name == "chi_perp" and is_discontinuous(net.activation):
            # ⟨σ'σ'⟩ of one input holds the square of a delta: there is no such number
            variables[name] = (("layer", "a"), np.full_like(values[rows], np.nan), {"long_name": meaning})
            variables[f"{name}_error"] = ("layer", np.full(len(rows), np.inf))
            continue
        _must_be_finite(name, values, net)
        variables[name] = (("layer", "a"), values[rows], {"long_name": meaning})
        error = factor * relative * np.abs(values[rows]).max(1)
        if name == "V":  # a variance: the difference of terms of the size of K²
            error = error + 16 * (rows + 1) * np.finfo(float).eps * (line.K**2).max(1)[rows]
        variables[f"{name}_error"] = ("layer", error)
    return variables


def _must_be_finite(name: str, values: np.ndarray, net: MLP) -> None:
    bad = ~np.all(np.isfinite(values), axis=1)
    if np.any(bad):
        layer = int(np.argmax(bad)) + 1
        raise InputError(
            f"{name} leaves float64 at layer {layer}: {net.activation.name} amplifies too much at these `C_W`; "
            "use fewer layers"
        )


def _check_request(net: MLP, x: np.ndarray, order: int, tensors: str | None) -> None:
    if net.n_in is not None and net.n_in != x.shape[1]:
        raise InputError(
            f"`x` has {x.shape[1]} columns, but the network has n_in = {net.n_in}; give inputs of shape (N, {net.n_in})"
        )
    if order != 0:
        raise InputError(
            f"`order` must be 0 in this version (infinite width, with the single-input vertex V), but got {order!r}"
        )
    if tensors not in (None, ""):
        raise InputError(f'`tensors` must be None or "" (K and Theta alone) in this version, but got {tensors!r}')


def _kept_layers(layers: Layers, depth: int) -> list[int]:
    if isinstance(layers, str):
        if layers not in ("all", "last"):
            raise InputError(f"`layers` must be 'all', 'last' or a sequence of layers, but got {layers!r}")
        return list(range(1, depth + 1)) if layers == "all" else [depth]
    kept = [whole_number("layers", layer) for layer in layers]
    if not kept or max(kept) > depth or sorted(set(kept)) != kept:
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
