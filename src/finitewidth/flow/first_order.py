"""The tensors of order 1/n as labelled results: which were asked for, whether they exist, what they are called."""

import re
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from finitewidth.activations import Activation
from finitewidth.architecture import MLP
from finitewidth.errors import InputError, TrustWarning
from finitewidth.flow.densely import dense_flow
from finitewidth.flow.line import LineFlow
from finitewidth.flow.singly import single_input_flow
from finitewidth.flow.symmetric import SymmetricTensor, independent, largest, orbits
from finitewidth.flow.vertex import FLUCTUATIONS, TENSORS, symmetries
from finitewidth.gaussian.tables import is_discontinuous

MOST_INPUTS = 16
"""Of the dense route: N⁴ numbers for each tensor and layer, and an integral for every four inputs."""

_MOST_MEMORY = 4.0  # GiB
_BEYOND = 0.5
_WITH_JUMPS = ("V", "G1")
_WITH_STEEP_SLOPES = ("V", "D", "F", "G1")
_TOO_STEEP = 0.245  # p of |σ'| ~ |z − c|⁻ᵖ, of which ¼ is not to be told from a little less: ⟨σ'⁴⟩ is infinite
_SECOND_DERIVATIVES = ("P", "Q", "R", "S", "T", "U")
_MEANINGS = {
    "V": "four-point vertex",
    "D": "NTK-preactivation vertex, E[z z ΔH]",
    "F": "NTK-preactivation vertex, E[z ΔH z]",
    "A": "NTK variance",
    "B": "NTK variance, crossed",
    "P": "dNTK-preactivation vertex, P",
    "Q": "dNTK-preactivation vertex, Q",
    "R": "ddNTK of the first kind, R",
    "S": "ddNTK of the second kind, S",
    "T": "ddNTK of the second kind, T",
    "U": "ddNTK of the second kind, U",
    "G1": "shift of the kernel",
    "H1": "shift of the neural tangent kernel",
}


def asked_tensors(tensors: str | Sequence[str] | None, activation: Activation) -> tuple[str, ...]:
    """The names in `"ABDF"`, `"V,G1"`, `["V", "H1"]`; all that exist for None.

    Raises
        InputError: for names that are none, and for tensors that do not exist for an activation that jumps, or whose
            slope grows like |z − c|^(−¼) or faster towards a kink.
    """
    jumps = is_discontinuous(activation)
    existing = _WITH_JUMPS if jumps else _WITH_STEEP_SLOPES if activation.slope_power > _TOO_STEEP else TENSORS
    if tensors is None:
        return existing
    text = tensors if isinstance(tensors, str) else ",".join(map(str, tensors))
    names = re.findall(r"G1|H1|[VABDFPQRSTU]", text)
    rest = re.sub(r"G1|H1|[VABDFPQRSTU]|[\s,]", "", text)
    if rest or not (isinstance(tensors, str) or all(t in TENSORS for t in tensors)):
        raise InputError(f'`tensors` must be made of the names {" ".join(TENSORS)}, as in "ABDF", but got {tensors!r}')
    missing = [name for name in names if name not in existing]
    if missing:
        why = (
            f"do not exist for {activation.name}, which jumps: its σ′ is a delta function, and they hold its square"
            if jumps
            else f"are not given for {activation.name}, whose slope grows like |z − c|^(−{activation.slope_power:.2g}) "
            "at a kink: ⟨σ′⁴⟩ is infinite"
        )
        raise InputError(f'`tensors` {", ".join(missing)} {why}; ask for tensors="{",".join(existing)}"')
    return tuple(name for name in TENSORS if name in names)


def check_size(N: int, names: Sequence[str], layers: int) -> None:
    """Refuse what the dense route cannot hold: values and errors, 8 bytes each, at every layer that is kept."""
    size = 16 * sum(float(N) ** (4 if name in FLUCTUATIONS else 2) for name in names) / 2**30
    if N > MOST_INPUTS:
        raise InputError(
            f"`x` has {N} inputs: the dense tensors {' '.join(names)} take {size:.3g} GiB a layer, and an integral for "
            f"every four inputs; give at most {MOST_INPUTS}, or contract them with matrices without forming them: "
            "fw.vertex(net, x)"
        )
    stored = 16 * sum(len(orbits(symmetries(name), N).representatives) for name in names) / 2**30
    if stored * layers > _MOST_MEMORY:
        raise InputError(
            f"the tensors {' '.join(names)} of {N} inputs at {layers} layers take {size * layers:.3g} GiB; keep fewer "
            f"`layers` ({size:.3g} GiB each, {stored:.3g} GiB as stored; 'last' is one), or ask for fewer tensors"
        )


def first_order_variables(
    net: MLP,
    line: LineFlow,
    kernels: tuple[np.ndarray, np.ndarray],
    relative_errors: tuple[np.ndarray, np.ndarray],
    names: tuple[str, ...],
    kept: Sequence[int],
    progress: Callable[[int, int], None] | None,
) -> dict[str, Any]:
    """xarray variables of the tensors and their errors at the kept layers.

    Arguments
        kernels, relative_errors: K and Θ at all layers, shape (L, N, N) each, and their errors there, shape (L,) each.
        names: the tensors. kept: layers, counted from 1.
    """
    L, N = line.K.shape
    if not names:
        return {}
    if N == 1:
        value, error = single_input_flow(net, line, relative_errors, names)
        value, error = ({n: each[n][np.array(kept) - 1].reshape(-1, 1) for n in names} for each in (value, error))
    else:
        layers = []
        for layer, (at, errors_at) in enumerate(dense_flow(net, *kernels, relative_errors, names), start=1):
            if layer in kept:
                stored = {n: (independent(at[n], symmetries(n)), largest(errors_at[n], symmetries(n))) for n in names}
                layers.append(stored)
            if progress is not None:
                progress(layer, L)
        value, error = ({n: np.stack([each[n][i] for each in layers]) for n in names} for i in (0, 1))
    if "V" in names:
        warn_beyond_first_order(net, line, stacklevel=5)  # the line that calls `flow`, past the context of float64
    variables: dict[str, Any] = {}
    for name in names:
        dimensions = ("layer", *("abcd" if name in FLUCTUATIONS else "ab"))
        tensor, its_error = (SymmetricTensor(each[name], symmetries(name), N) for each in (value, error))
        variables[name] = (dimensions, tensor, {"long_name": _MEANINGS[name], "order_in_1/n": 1})
        variables[f"{name}_error"] = (dimensions, its_error)
    return variables


def notes(activation: Activation, names: Sequence[str]) -> str:
    """What a reader of these tensors must know about kinks."""
    concerned = [name for name in names if name in _SECOND_DERIVATIVES]
    if not activation.kinks or not concerned:
        return ""
    return (
        f"σ has kinks: {', '.join(concerned)} are the almost-everywhere values, those of exact derivatives of a "
        "network; what the deltas of σ″ add over training steps that cross a kink is left out"
    )


def warn_beyond_first_order(net: MLP, line: LineFlow, *, stacklevel: int) -> None:
    """Say so where V/(nK²) of the inputs' median is too large for first order to be trusted."""
    fan_in = net.widths[-1] if net.widths else 1
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        ratio = float(np.nan_to_num(np.median(line.V[-1] / (fan_in * line.K[-1] ** 2))))
    if ratio > _BEYOND:
        warnings.warn(
            f"first order in 1/n cannot be trusted at this width: r = {net.depth_to_width:.3g}, V/(nK²) = {ratio:.3g}. "
            "That is the relative variance of the output's scale from one initialisation to the next, and higher "
            "orders go like its powers. The tensors themselves, coefficients of 1/n, are right; use a larger width or "
            "less depth",
            TrustWarning,
            stacklevel=stacklevel,
        )
