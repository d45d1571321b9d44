"""What comes closest to criticality for an activation that has no critical point.

Angles between inputs, and gradients, survive depth only if χ⊥ = 1; norms are then the lesser loss. So, in this order:

1. "edge of chaos": among the fixed points with χ⊥ = 1 and C_b ≥ 0 (one for each K: C_W = 1/⟨σ'²⟩, C_b = K − C_W⟨σ²⟩)
   that are stable, |χ∥| < 1, the one whose norms remember longest: |χ∥| largest, ξ∥ = −1/ln|χ∥|.
2. "large kernel": a σ that is (leaky) linear far from 0 is as good as scale-invariant at K ≫ 1: C_b = 0,
   C_W = 1/A_2(∞).
3. otherwise nothing is near; the note gives the largest χ⊥ at any stable fixed point.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.optimize import brentq, minimize_scalar

from finitewidth.activations import Activation
from finitewidth.criticality.susceptibility import susceptibility
from finitewidth.criticality.table import Table


@dataclass(frozen=True)
class NearestChoice:
    """A choice that is nearly critical, or (`kind` "nothing", numbers None) the statement that none is.

    K_star is None for "large kernel": every K ≫ 1 nearly stays.
    """

    kind: Literal["edge of chaos", "large kernel", "nothing"]
    C_b: float | None
    C_W: float | None
    K_star: float | None
    chi_parallel: float | None
    chi_perp: float | None
    note: str


def nearest_choice(activation: Activation, table: Table) -> NearestChoice:
    """The nearest useful choice as this module defines it, from the averages in `table`: σ continuous, not
    constant."""
    edge = _edge_of_chaos(activation, table)
    if edge is not None:
        return edge
    return _large_kernel(activation, table) or _nothing(table)


def _edge_of_chaos(activation: Activation, table: Table) -> NearestChoice | None:
    with np.errstate(divide="ignore", invalid="ignore"):
        C_b = table.K - table.mean_square / table.perp
        chi = np.abs(table.parallel / table.perp)
    allowed = np.isfinite(chi) & (C_b >= 0) & (chi < 1 - 1e-9)
    if not allowed.any():
        return None
    best = int(np.argmax(np.where(allowed, chi, -1.0)))
    if best in (0, len(chi) - 1):
        return None  # the longest memory lies at the end of the range: a limit, not a choice
    log_K = np.log(table.K)
    beyond = [i for i in (best - 1, best + 1) if C_b[i] < 0]
    if beyond:
        t = brentq(lambda t: _edge(activation, t)[0], *sorted((log_K[best], log_K[beyond[0]])), xtol=1e-14)
        K = math.exp(t)
    else:
        span = (log_K[best - 1], log_K[best + 1])
        K = math.exp(minimize_scalar(lambda t: -abs(_edge(activation, t)[2]), bounds=span, method="bounded").x)
    at_C_b, C_W, chi_parallel = _edge(activation, math.log(K))
    at_C_b = 0.0 if beyond else at_C_b
    memory = f"{-1 / math.log(abs(chi_parallel)):.3g} layers" if chi_parallel != 0 else "no layer"
    note = (
        f"Nearest useful choice: C_b = {at_C_b:.8g}, C_W = {C_W:.8g}, whose stable fixed point K = {K:.6g} has χ⊥ = 1 "
        f"(angles and gradients survive) and χ∥ = {chi_parallel:.4g} (norms are forgotten within {memory})"
    )
    return NearestChoice("edge of chaos", at_C_b, C_W, K, chi_parallel, 1.0, note)


def _edge(activation: Activation, log_K: float) -> tuple[float, float, float]:
    """C_b, C_W, χ∥ of the choice with χ⊥ = 1 at K."""
    K = math.exp(log_K)
    at = susceptibility(activation, K)
    C_W = 1 / float(at.perp.value)
    return K - C_W * float(at.mean_square.value), C_W, C_W * float(at.parallel.value)


def _large_kernel(activation: Activation, table: Table) -> NearestChoice | None:
    far = np.array([1e6, 1e8])
    with np.errstate(over="ignore", invalid="ignore"):
        slopes = np.stack([activation.evaluate(sign * far)[0] / far for sign in (1.0, -1.0)])
    if not np.all(np.isfinite(slopes)) or np.any(np.abs(slopes[:, 1] - slopes[:, 0]) > 1e-3 * np.abs(slopes).max()):
        return None
    # between the two points, since σ(z)/z still holds what it adds to its asymptote: 1e-8 of it
    ends = np.stack([activation.evaluate(sign * far)[0] for sign in (1.0, -1.0)])
    slope = np.diff(ends, axis=1)[:, 0] / np.diff(far)
    slopes = np.where(np.abs(slope) < 1e-6 * np.abs(slopes).max(), 0.0, slope)
    A_2 = float(0.5 * (slopes**2).sum())
    if not A_2 > 1e-12:
        return None
    C_W = 1 / A_2
    drift = C_W * table.mean_square[-1] / table.K[-1] - 1
    note = (
        f"Nearest useful choice: C_b = 0, C_W = {C_W:.8g} with large preactivations (K ≫ 1, set by the first layer), "
        "where σ is as good as scale-invariant; "
        f"K then {'grows' if drift > 0 else 'shrinks'} slowly, and χ∥, χ⊥ → 1 only as K → ∞"
    )
    return NearestChoice("large kernel", 0.0, C_W, None, None, None, note)


def _nothing(table: Table) -> NearestChoice:
    with np.errstate(divide="ignore", invalid="ignore"):
        C_W = np.minimum(table.K / table.mean_square, 1 / np.abs(table.parallel))
        chi_perp = float(np.nanmax(C_W * table.perp))
    note = (
        f"Nothing comes near: at a stable fixed point χ⊥ is at most {chi_perp:.4g}"
        if chi_perp < 0.999
        else "Nothing comes near: no stable fixed point with C_b ≥ 0 has χ⊥ = 1, which is reached only in a limit"
    )
    return NearestChoice("nothing", None, None, None, None, None, note)
