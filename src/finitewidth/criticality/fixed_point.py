"""Where the kernel recursion of a given initialisation ends, and what that does to signals: a user's own (C_b, C_W)
judged.

    K⁽ℓ⁺¹⁾ = F(K⁽ℓ⁾) ,     F(K) = C_b + C_W ⟨σ²⟩_K .

Every orbit ends at a fixed point or grows without bound; none oscillates. In t = ln K the map has slope
K F'/F = ½ C_W⟨σ²(z²/K − 1)⟩/F ≥ −½, so no two kernels can be each other's image, and an interval map without 2-cycles
has no cycles at all. While F rises, which it does for most σ, orbits are monotone and stop at the first fixed point
in their way, half-stable ones included; where F falls (cos, bumps) the map contracts by ½ or better and is simply
followed.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from scipy.optimize import brentq, minimize_scalar

from finitewidth.activations import Activation, named
from finitewidth.criticality.interpolant import Interpolant
from finitewidth.criticality.susceptibility import susceptibility
from finitewidth.criticality.table import PER_DECADE, WIDE, moment_table
from finitewidth.errors import InputError

Fate = Literal["exploding", "vanishing", "critical", "undefined"]
Outcome = Literal["fixed point", "diverges"]
ALTERNATING_LAYERS = 200  # 2^−200 is nothing: where F falls, orbits have settled by then
CRITICAL_DEPTH = 1e4  # a change that takes more layers than this to grow or shrink by e is called critical
_TOUCHES = 1e-14  # relative |F(K) − K| that counts as a fixed point


@dataclass(frozen=True)
class FixedPoint:
    """The end of the kernel recursion started at K⁽¹⁾ = `K_start`, at leading order in 1/n.

    Fields
        outcome: "fixed point", or "diverges" (K → ∞, or beyond what float64 averages reach).
        K_star: the fixed point, 0 included; None unless there is one.
        chi_parallel, chi_perp: there; where K diverges, at the largest kernel reached. `chi_perp` is None where σ
            jumps.
        stable: |χ∥| < 1.
        xi_norms, xi_angles: correlation lengths 1/|ln χ∥|, 1/|ln χ⊥|: layers in which a small difference of norms, or
            of directions, shrinks or grows by e. None: infinite.
        norms, angles: what becomes of such differences: "vanishing", "exploding" or "critical" (longer than 10⁴
            layers). Gradients fare like `angles`: they change by χ⊥ a layer.
        verdict: the same in a sentence.
    """

    activation: str
    C_b: float
    C_W: float
    K_start: float
    outcome: Outcome
    K_star: float | None
    chi_parallel: float | None
    chi_perp: float | None
    stable: bool
    xi_norms: float | None
    xi_angles: float | None
    norms: Fate
    angles: Fate
    verdict: str

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and texts, ready for JSON."""
        return asdict(self)


def fixed_point(activation: Activation | str, C_b: float, C_W: float, K_start: float | None = None) -> FixedPoint:
    """Follow K' = C_b + C_W⟨σ²⟩_K from `K_start` to its end and judge what deep networks do there.

    Source: PDLT §5.1; correlation lengths ξ = 1/|ln χ|.

    Arguments
        activation: an `Activation`, or the name of one.
        C_b, C_W: variances of biases, and n × variance of weights; C_b ≥ 0, C_W > 0.
        K_start: K⁽¹⁾; by default C_b + C_W, that of an input with |x|²/n_0 = 1.

    Returns
        a `FixedPoint` (leading order in 1/n).

    Raises
        InputError: unknown activation, C_b < 0, C_W ≤ 0, K_start < 0, or one of them not finite.
    """
    activation = named(activation) if isinstance(activation, str) else activation
    C_b, C_W = _variance("C_b", C_b, zero=True), _variance("C_W", C_W, zero=False)
    K_start = C_b + C_W if K_start is None else _variance("K_start", K_start, zero=True)
    table = moment_table(activation, WIDE, PER_DECADE)
    falling = bool(np.any(table.parallel < -1e-12 * table.mean_square / table.K))
    outcome, K_star = _follow_map(activation, C_b, C_W, K_start) if falling else _follow(activation, C_b, C_W, K_start)
    K_end = K_star if K_star is not None else float(table.K[-1])
    at = susceptibility(activation, K_end)
    chi_parallel, chi_perp = C_W * float(at.parallel.value), C_W * float(at.perp.value)
    norms, xi_norms = _fate(abs(chi_parallel))
    angles, xi_angles = _fate(chi_perp)
    if outcome == "fixed point" and K_star == 0.0 and math.isinf(chi_parallel):
        norms = "exploding"
    return FixedPoint(
        activation=activation.name,
        C_b=C_b,
        C_W=C_W,
        K_start=K_start,
        outcome=outcome,
        K_star=K_star,
        chi_parallel=chi_parallel if math.isfinite(chi_parallel) else None,
        chi_perp=chi_perp if math.isfinite(chi_perp) else None,
        stable=outcome == "fixed point" and abs(chi_parallel) < 1,
        xi_norms=xi_norms,
        xi_angles=xi_angles,
        norms=norms,
        angles=angles,
        verdict=_verdict(outcome, K_star, norms, xi_norms, angles, xi_angles),
    )


def _variance(name: str, value: Any, *, zero: bool) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number) or number < 0 or (number == 0 and not zero):
        raise InputError(f"`{name}` must be a finite number {'≥' if zero else '>'} 0, but got {value!r}")
    return number


def _follow(activation: Activation, C_b: float, C_W: float, K_start: float) -> tuple[Outcome, float | None]:
    """The first fixed point in the way of a monotone orbit."""

    def drift(t: float) -> float:
        """F(K)/K − 1 at K = e^t."""
        return float(C_b + C_W * float(susceptibility(activation, math.exp(t)).mean_square.value)) / math.exp(t) - 1

    table = moment_table(activation, WIDE, PER_DECADE)
    if K_start == 0.0:
        if C_b + C_W * float(susceptibility(activation, 0.0).mean_square.value) == 0.0:
            return "fixed point", 0.0
        K_start = C_b + C_W * float(susceptibility(activation, 0.0).mean_square.value)
    K_start = min(K_start, float(table.K[-1]))
    start = drift(math.log(K_start))
    if abs(start) <= _TOUCHES:
        return "fixed point", K_start
    up = start > 0
    beyond = K_start < table.K if up else K_start > table.K
    order = slice(None) if up else slice(None, None, -1)
    t = np.concatenate([[math.log(K_start)], np.log(table.K[beyond])[order]])
    along = ((C_b + C_W * table.mean_square[beyond]) / table.K[beyond] - 1)[order]
    along = np.abs(start) * np.ones(1) if not along.size else np.concatenate([[start], along]) * (1 if up else -1)
    for i in range(1, len(along)):  # `along` is positive until the orbit's first fixed point
        if along[i] <= 0:
            return "fixed point", math.exp(brentq(drift, t[i - 1], t[i], xtol=1e-15))
        if 1 < i < len(along) - 1 and along[i] < 0.05 and along[i] <= min(along[i - 1], along[i + 1]):
            sign = 1 if up else -1
            span = sorted((t[i - 1], t[i + 1]))
            lowest = minimize_scalar(lambda t: sign * drift(t), bounds=span, method="bounded", options={"xatol": 1e-10})  # noqa: B023
            if lowest.fun < -_TOUCHES:
                return "fixed point", math.exp(brentq(drift, t[i - 1], lowest.x, xtol=1e-15))
            if lowest.fun <= _TOUCHES:
                return "fixed point", math.exp(lowest.x)
    if up:
        return "diverges", None
    floor = C_b + C_W * float(susceptibility(activation, 0.0).mean_square.value)
    if floor == 0.0:
        return "fixed point", 0.0
    return "fixed point", math.exp(brentq(drift, math.log(0.5 * floor), t[-1], xtol=1e-15))


def _follow_map(activation: Activation, C_b: float, C_W: float, K_start: float) -> tuple[Outcome, float | None]:
    """Follow the map until it contracts no more by alternation; what is then left is monotone."""
    moments = Interpolant(activation)
    K = np.array(K_start)
    for _ in range(ALTERNATING_LAYERS):
        K = np.minimum(C_b + C_W * moments.mean_square(K), moments.high)
    chi = C_W * float(moments.parallel(K))
    if chi < 0 and abs(float((C_b + C_W * moments.mean_square(K)) / K) - 1) < 1e-12:
        for _ in range(3):
            at = susceptibility(activation, K)
            K = K - (C_b + C_W * at.mean_square.value - K) / (C_W * at.parallel.value - 1)
        return "fixed point", float(K)
    return _follow(activation, C_b, C_W, float(K))


def _fate(chi: float) -> tuple[Fate, float | None]:
    if math.isnan(chi):
        return "undefined", None
    if chi == 0.0 or math.isinf(chi):
        return ("vanishing" if chi == 0.0 else "exploding"), 0.0
    rate = abs(math.log(chi))
    fate: Fate = "critical" if rate * CRITICAL_DEPTH < 1 else ("vanishing" if chi < 1 else "exploding")
    return fate, None if rate <= 1e-15 else 1 / rate


def _layers(xi: float | None) -> str:
    return "ever" if xi is None else f"{xi:.3g} layers"


def _verdict(
    outcome: str, K: float | None, norms: Fate, xi_norms: float | None, angles: Fate, xi_angles: float | None
) -> str:
    if outcome == "diverges":
        size = (
            "signals explode"
            if norms == "exploding"
            else "signals grow without bound, but no faster than a power of depth"
        )
    elif K == 0.0:
        size = "signals die out" if norms == "vanishing" else "signals shrink like a power of depth"
    elif norms == "critical":
        size = f"signals keep their size, K* = {K:.6g}"
    else:
        size = f"signals settle at K* = {K:.6g} and forget the input's norm in {_layers(xi_norms)}"
    direction = {
        "vanishing": f"directions are forgotten and gradients vanish in {_layers(xi_angles)}",
        "exploding": f"close inputs are torn apart and gradients explode in {_layers(xi_angles)}",
        "critical": "angles between inputs and gradients survive depth",
        "undefined": "close inputs are torn apart at once: σ jumps, χ⊥ does not exist",
    }[angles]
    return f"{size}; {direction}"
