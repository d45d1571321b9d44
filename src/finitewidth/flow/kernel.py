r"""The flow: K and Θ of every pair of inputs through every layer (PDLT ch. 4, 8; THEORY §2).

K⁽¹⁾ = C_b + C_W x·x'/n_0          K⁽ℓ⁺¹⁾ = C_b + C_W ⟨σσ⟩_K⁽ℓ⁾
Θ⁽¹⁾ = λ_b + λ_W x·x'/n_0          Θ⁽ℓ⁺¹⁾ = λ_b + λ_W ⟨σσ⟩ + C_W ⟨σ'σ'⟩ Θ⁽ℓ⁾

With what residual networks add: `finitewidth.flow.constants`.
"""

import os
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import xarray as xr

from finitewidth.architecture import MLP, Architecture, check_net, has_biases, must_be_plain, whole_number
from finitewidth.cores import Progress, one_blas_thread
from finitewidth.data import check_inputs
from finitewidth.errors import InputError
from finitewidth.flow.error_bounds import relative_errors
from finitewidth.flow.first_order import asked_tensors, check_size, first_order_variables, notes
from finitewidth.flow.line import LineFlow, line_flow
from finitewidth.flow.pairs import pair_flow
from finitewidth.gaussian.tables import is_discontinuous
from finitewidth.precision import in_float64

Layers = Literal["all", "last"] | Sequence[int]


@in_float64
def flow(
    net: Architecture,
    x: Any,
    *,
    order: int = 0,
    tensors: str | Sequence[str] | None = None,
    layers: Layers = "all",
    progress: Progress | None = None,
) -> xr.Dataset:
    """Signals, gradients and fluctuations of a network at initialisation, layer by layer.

    Source: PDLT ch. 4 (K, V), ch. 5 (χ∥, χ⊥), ch. 8 (Θ, A, B, D, F), ch. 11 and App. B (P, Q, R, S, T, U); THEORY §2
    and §3. Orders above the one asked for are dropped. The tensors are coefficients of 1/n, n the width of the layer
    before.

    Arguments
        net: an `MLP`, or a `ResidualMLP` (order 0, without V).
        x: inputs, shape (N, n_in); N up to several thousand at order 0, up to 16 at order 1.
        order: 0 for the infinite-width kernels with the single-input vertex; 1 for the tensors of order 1/n.
        tensors: at order 0, "" for K and Θ alone, None for V, χ∥ and χ⊥ of each input too. At order 1, the names wanted
            ("V", "ABDF", "V,G1", ["P", "Q"]), None for all that exist; only those are paid for.
        layers: "all", "last", or a sequence of layers 1 … L to keep.
        progress: called with (parts done, parts in all).

    Returns
        An `xarray.Dataset` with dimensions layer (1 … L), a, b (inputs): K(layer, a, b) and Theta(layer, a, b);
        chi_parallel(layer, a), chi_perp(layer, a) (of the step from this layer to the next; the last layer's with its
        own C_W). At order 0 V(layer, a) = V_{aaaa}; at order 1 V, A, B, D, F, P, Q, R, S, T, U with dimensions
        (layer, a, b, c, d), axes in the order of the subscripts in `NOTATION.md`, and G1, H1 (layer, a, b).
        Each has a `<name>_error`: an estimate of the absolute error, for K, Θ, χ by layer, for tensors by entry.
        With kinks, P … U hold almost-everywhere derivatives; `notes` says so.

        Of entries that are equal by a tensor's symmetries one is stored, at order 1 (`fw.independent_components`);
        `nbytes` counts what is stored, `.data` is it. Indexing, `.values` and arithmetic write out plain arrays of what
        is asked for, each time anew, and files hold every entry. Entries of such variables cannot be assigned.

        Where σ itself jumps, chi_perp does not exist: it is NaN, its error infinite, and `notes` says so. Tensors that
        do not exist, for a σ that jumps or for slopes with ⟨σ'⁴⟩ = ∞, are left out.

    Raises
        InputError: for inputs that cannot be used, sizes that do not match, order 1 of a residual network, a kernel
            that leaves float64 (the layer is named), tensors that do not exist, or more inputs or memory than can be
            had.

    Warns
        TrustWarning: where V/(nK²) at the last layer says that first order is not enough at this width.

    >>> import finitewidth as fw, numpy as np
    >>> net = fw.MLP("relu", depth=3, width=100, C_W=2.0)
    >>> float(fw.flow(net, np.ones((1, 5))).K[-1, 0, 0])
    2.0
    """
    check_net(net)
    x = check_inputs(x, may_vanish=has_biases(net))
    _check_request(net, x, order, tensors)
    plain = must_be_plain(net, "the first order in 1/n (order=1)") if order == 1 else None
    kept = _kept_layers(layers, net.depth)
    names = asked_tensors(tensors, net.activation) if order else ()
    if order:
        check_size(len(x), names, len(kept))
    _check_memory(len(x), len(kept))
    needed = kept if order == 0 else list(range(1, net.depth + 1))
    with one_blas_thread():  # where cores are busy, threads of BLAS wait for one another longer than they compute
        line = line_flow(net, np.einsum("ai,ai->a", x, x) / x.shape[1])
        K, Theta, pair_errors = pair_flow(net, x, line, needed, progress)
    errors = relative_errors(net, line, pair_errors, x.shape[1])
    found = _dataset(net, line, (K, Theta), errors, needed, None if order else tensors)
    if plain is None:
        return found
    found = found.drop_vars(["V", "V_error"]).sel(layer=kept)
    found = found.assign(first_order_variables(plain, line, (K, Theta), errors, names, kept, progress))
    if "d" in found.dims:
        found = found.assign_coords(c=found["a"].values, d=found["a"].values)
    found.attrs["notes"] = "; ".join(filter(None, [found.attrs["notes"], notes(net.activation, names)]))
    return found


def _dataset(
    net: Architecture,
    line: LineFlow,
    pairs: tuple[np.ndarray, np.ndarray],
    errors: tuple[np.ndarray, np.ndarray],
    kept: list[int],
    tensors: str | Sequence[str] | None,
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
        "notes": "; ".join(
            [
                *(["σ jumps: chi_perp does not exist, and Theta uses the almost-everywhere derivative"] * jumps),
                *(["V is not computed for residual networks"] * (not isinstance(net, MLP))),
            ]
        ),
    }
    return xr.Dataset(variables, {"layer": kept, "a": sample, "b": sample}, attributes)


def _single_input_variables(
    net: Architecture, line: LineFlow, rows: np.ndarray, relative: np.ndarray
) -> dict[str, Any]:
    """V, χ∥ and χ⊥ at the kept layers with their errors, given the relative errors of K there."""
    meanings = {
        "V": ("single-input four-point vertex V_aaaa, coefficient of 1/n", 4 * (rows + 1)),
        "chi_parallel": ("parallel susceptibility", 4),
        "chi_perp": ("perpendicular susceptibility", 4),
    }
    if not isinstance(net, MLP):
        del meanings["V"]
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
        own = 0.0 if name == "V" else line.moment_error[rows, {"chi_perp": 1, "chi_parallel": 2}[name]]
        error = (factor * relative + own) * np.abs(values[rows]).max(1)
        if name == "V":  # a variance: the difference of terms of the size of K²
            error = error + 16 * (rows + 1) * np.finfo(float).eps * (line.K**2).max(1)[rows]
        variables[f"{name}_error"] = ("layer", error)
    return variables


def _must_be_finite(name: str, values: np.ndarray, net: Architecture) -> None:
    bad = ~np.all(np.isfinite(values), axis=1)
    if np.any(bad):
        layer = int(np.argmax(bad)) + 1
        raise InputError(
            f"{name} leaves float64 at layer {layer}: {net.activation.name} amplifies too much at these `C_W`; "
            "use fewer layers"
        )


def _check_request(net: Architecture, x: np.ndarray, order: int, tensors: str | Sequence[str] | None) -> None:
    if net.n_in is not None and net.n_in != x.shape[1]:
        raise InputError(
            f"`x` has {x.shape[1]} columns, but the network has n_in = {net.n_in}; give inputs of shape (N, {net.n_in})"
        )
    if order not in (0, 1):
        raise InputError(f"`order` must be 0 (infinite width) or 1 (first order in 1/n), but got {order!r}")
    if order == 0 and tensors not in (None, ""):
        raise InputError(
            f'`tensors` must be None or "" (K and Theta alone) at order 0, but got {tensors!r}; use order=1'
        )


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
