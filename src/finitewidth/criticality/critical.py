"""The critical initialisation of an activation: all of its critical points, which to take, and what comes closest if
there is none.

A critical point has χ∥ = χ⊥ = 1 at a fixed point of the kernel (PDLT §5.1, FACTS 3.1). Three ways to find one:

    σ(λz) = λσ(z)                  any K, C_W = 1/A_2, C_b = 0                                 ("scale-invariant")
    σ(0) = 0, σ'(0) ≠ 0            K* = 0, C_W = 1/σ'(0)², C_b = 0                             ("K*=0")
    ⟨σ'²⟩_K = d⟨σ²⟩_K/dK           C_W = 1/⟨σ'²⟩, and C_b = K* − C_W⟨σ²⟩ must not be negative   ("half-stable")
"""

from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from scipy.optimize import brentq, minimize_scalar

from finitewidth.activations import Activation, named
from finitewidth.criticality.nearest import NearestChoice, nearest_choice
from finitewidth.criticality.point import (
    CriticalPoint,
    UniversalityClass,
    point_at_kernel,
    point_at_zero,
    scale_invariant_point,
)
from finitewidth.criticality.susceptibility import susceptibility
from finitewidth.criticality.table import PER_DECADE, WIDE, Table, moment_table
from finitewidth.criticality.words import rough
from finitewidth.errors import InputError

_EPS = float(np.finfo(float).eps)


@dataclass(frozen=True)
class Criticality:
    """The critical points of an activation. The fields from `universality_class` to `errors` repeat the preferred one.

    `universality_class` is "none", and `C_b` … `chi_perp` are None, when no point can be realised; `nearest` then
    holds the choice that comes closest, if there is one. `reason` says in words why the answer is what it is. Of
    leading order in 1/n.
    """

    activation: str
    universality_class: UniversalityClass
    C_b: float | None
    C_W: float | None
    K_star: float | None
    chi_parallel: float | None
    chi_perp: float | None
    errors: dict[str, float]
    points: tuple[CriticalPoint, ...]
    reason: str
    nearest: NearestChoice | None
    K_range: tuple[float, float]

    @property
    def preferred(self) -> CriticalPoint | None:
        """The point that the top-level numbers are those of."""
        return _preferred(self.points)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, texts and lists, ready for JSON."""
        return {
            **{name: getattr(self, name) for name in ("activation", "universality_class", "C_b", "C_W", "K_star")},
            "chi_parallel": self.chi_parallel,
            "chi_perp": self.chi_perp,
            "errors": dict(self.errors),
            "points": [point.to_dict() for point in self.points],
            "reason": self.reason,
            "nearest": None if self.nearest is None else asdict(self.nearest),
            "K_range": list(self.K_range),
        }


def critical(activation: Activation | str, *, K_range: tuple[float, float] = WIDE) -> Criticality:
    """Every critical point of `activation`, and the one to use.

    Equation: K* = C_b + C_W⟨σ²⟩_{K*} with C_W d⟨σ²⟩/dK = C_W⟨σ'²⟩ = 1 at K*.
    Source: PDLT §5.1–5.3; FACTS 3.1–3.4.

    Arguments
        activation: an `Activation`, or the name of one.
        K_range: where fixed points K* > 0 are looked for (those at K* = 0 are found from the Taylor series of σ). The
            range ends earlier for a σ that overflows; the result says where.

    Returns
        a `Criticality`. Preferred is a scale-invariant point, then a stable one at K* = 0, then a half-stable one,
        then an unstable one.

    Raises
        InputError: unknown activation, an unusable `K_range`, or a σ that is not finite.

    >>> import finitewidth as fw
    >>> fw.critical("tanh").universality_class, fw.critical("tanh").C_W
    ('K*=0', 1.0)
    """
    if isinstance(activation, str):
        activation = named(activation)
    elif not isinstance(activation, Activation):
        raise InputError(f"`activation` must be an Activation or the name of one, but got {activation!r}")
    A_2 = homogeneity(activation)
    if A_2 is not None and A_2 > 0:
        point = scale_invariant_point(A_2)
        return _result(activation, (point,), "σ(λz) = λσ(z) for λ > 0: " + point.note, None, K_range)
    table = moment_table(activation, _pair(K_range), PER_DECADE)
    searched = (float(table.K[0]), float(table.K[-1]))
    if table.jumps:
        where = ", ".join(f"{k:g}" for k in table.jumps)
        reason = (
            f"σ jumps at {where}: its slope is a delta function there and χ⊥ = C_W⟨σ'²⟩ does not exist. "
            "Inputs however close are pulled apart by any layer, so no choice preserves angles"
        )
        return _result(activation, (), reason, None, searched)
    if not np.any(table.perp > 0):
        return _result(activation, (), "σ is constant: no layer sees its input", None, searched)
    zero = point_at_zero(activation)
    points: tuple[CriticalPoint, ...]
    if _identical(table):
        points = (_on_line(activation, table),)
    else:
        roots = _roots(activation, table)
        points = tuple(_with_companions(activation, table, point_at_kernel(activation, K)) for K in roots)
    points = points if zero is None else (_with_companions(activation, table, zero), *points)
    nearest = None if any(p.admissible and p.attracts for p in points) else nearest_choice(activation, table)
    return _result(activation, points, _reason(activation, table, points, nearest), nearest, searched)


def _pair(K_range: Any) -> tuple[float, float]:
    try:
        low, high = (float(K) for K in K_range)
    except (TypeError, ValueError):
        raise InputError(f"`K_range` must be two increasing positive kernels, but got {K_range!r}") from None
    return low, high


def homogeneity(activation: Activation) -> float | None:
    """A_2 = (σ(1)² + σ(−1)²)/2 if σ(z) = |z| σ(sign z) for all z to rounding, else None."""
    if any(k != 0.0 for k in activation.kinks):
        return None
    z = np.geomspace(1e-6, 1e6, 73)
    for sign in (1.0, -1.0):
        ratio = activation.evaluate(sign * z)[0] / z
        if not np.all(np.isfinite(ratio)) or np.ptp(ratio) > 8 * _EPS * np.abs(ratio).max():
            return None
    at_one = activation.evaluate(np.array([1.0, -1.0]))[0]
    return float(0.5 * (at_one**2).sum())


def _imbalance(activation: Activation, log_K: float) -> float:
    """1 − χ∥/χ⊥, which unlike χ⊥/χ∥ has no pole where ⟨σ²⟩ is stationary."""
    at = susceptibility(activation, np.exp(log_K))
    return float(1 - at.parallel.value / at.perp.value)


def _imbalances(table: Table) -> tuple[np.ndarray, np.ndarray]:
    """1 − χ∥/χ⊥ on the grid, and what of it may be rounding; NaN where χ⊥ has underflowed."""
    p = np.where(table.perp > 1e-200, table.perp, np.nan)
    ratio = table.parallel / p
    return 1 - ratio, 32 * (_EPS + (table.parallel_error + np.abs(ratio) * table.perp_error) / p)


def _identical(table: Table) -> bool:
    """Whether χ∥ = χ⊥ at every K, which means σσ'' = 0 (delta functions included): affine σ, softshrink, shifted
    ReLU."""
    f, error = _imbalances(table)
    known = np.isfinite(f)
    return bool(np.all(np.abs(f[known]) <= error[known]))


def _on_line(activation: Activation, table: Table) -> CriticalPoint:
    """A representative of a line of critical points, one at each K: at K = 1 if that can be realised, else at the
    nearest K that can."""
    with np.errstate(divide="ignore", invalid="ignore"):
        C_b = table.K - table.mean_square / table.perp
    usable = np.flatnonzero(C_b >= 0)
    K = 1.0 if not usable.size else float(table.K[usable[np.argmin(np.abs(np.log(table.K[usable])))]])
    point = point_at_kernel(activation, K)
    if point.admissible and abs(K - 1) < 0.2:
        point = point_at_kernel(activation, 1.0)
    extra = (
        "σσ'' = 0, so χ∥ = χ⊥ at every K: a line of critical points, "
        "C_W = 1/⟨σ'²⟩ and C_b = K* − C_W⟨σ²⟩; shown at one K*"
    )
    # b = 2a exactly on such a line, which leaves K* free: its error is that of choosing it
    return replace(point, note=f"{point.note} ({extra})", errors=point.errors | {"K_star": 0.0})


def _roots(activation: Activation, table: Table) -> list[float]:
    """All K > 0 with χ∥ = χ⊥, to rounding: sign changes on the grid, and pairs of roots hidden between its nodes."""
    f, error = _imbalances(table)
    known = np.flatnonzero(np.isfinite(f) & (np.abs(f) > error))
    log_K = np.log(table.K)
    brackets = []
    for i, j in pairwise(known):
        if f[i] * f[j] < 0:
            brackets.append((log_K[i], log_K[j]))
    for h, i, j in zip(known[:-2], known[1:-1], known[2:], strict=True):
        ends, middle = sorted(abs(f[[h, j]])), abs(f[i])
        if np.all(f[[h, j]] * f[i] > 0) and middle <= ends[0] and middle < 0.1 * ends[1]:
            sign = float(np.sign(f[i]))
            lowest = minimize_scalar(
                lambda t, sign=sign: sign * _imbalance(activation, t), bounds=(log_K[h], log_K[j]), method="bounded"
            )
            if lowest.fun < -error[i]:
                brackets += [(log_K[h], lowest.x), (lowest.x, log_K[j])]
    return sorted(
        float(np.exp(brentq(lambda t: _imbalance(activation, t), *b, xtol=1e-15, rtol=4 * _EPS))) for b in brackets
    )


def _with_companions(activation: Activation, table: Table, point: CriticalPoint) -> CriticalPoint:
    """`point` with the other fixed points of K' = C_b + C_W⟨σ²⟩ at its (C_b, C_W)."""
    if not point.admissible:
        return point
    K, C_b, C_W = table.K, point.C_b, point.C_W
    K_star = point.K_star or 0.0

    def growth(t: float) -> float:
        return float(C_b + C_W * susceptibility(activation, np.exp(t)).mean_square.value) / np.exp(t) - 1

    drift = (C_b + C_W * table.mean_square) / K - 1
    clear = np.flatnonzero((np.abs(drift) > 1e-12) & (np.abs(K - K_star) > 1e-3 * K_star))
    found = []
    for i, j in pairwise(clear):
        if drift[i] * drift[j] < 0:
            found.append(float(np.exp(brentq(growth, np.log(K[i]), np.log(K[j]), xtol=1e-14))))
    found = [K for K in found if abs(K - K_star) > 1e-3 * K_star]
    if not found:
        return point
    at = susceptibility(activation, np.array(found))
    companions = tuple(zip(found, (C_W * at.parallel.value).tolist(), (C_W * at.perp.value).tolist(), strict=True))
    words = "; ".join(
        f"K = {K:.6g} ({'stable' if abs(chi) < 1 else 'unstable'}, χ∥ = {chi:.6g})" for K, chi, _ in companions
    )
    return replace(
        point, companions=companions, note=f"{point.note}; the same C_b and C_W have another fixed point at {words}"
    )


def _preferred(points: tuple[CriticalPoint, ...]) -> CriticalPoint | None:
    order = {"scale-invariant": 0, "K*=0": 1, "half-stable": 2}
    usable = [p for p in points if p.admissible]
    return min(usable, key=lambda p: (not p.attracts, order[p.universality_class]), default=None)


def _reason(
    activation: Activation, table: Table, points: tuple[CriticalPoint, ...], nearest: NearestChoice | None
) -> str:
    best = _preferred(points)
    where = f"K from {rough(table.K[0])} to {rough(table.K[-1])}"
    if table.overflows_above is not None:
        where += " (above it the averages leave float64)"
    if best is None:
        if points:
            text = f"χ∥ = χ⊥ at K = {', '.join(f'{p.K_star:.6g}' for p in points)}, but it " + points[0].note
        else:
            ratio = 1 - _imbalances(table)[0]
            low, high = f"{np.nanmin(ratio):.4g}", f"{np.nanmax(ratio):.4g}"
            extent = f"it is {low} throughout" if low == high else f"it runs from {low} to {high}"
            text = f"no critical point: χ∥/χ⊥ is nowhere 1 for {where} ({extent})"
        return f"{text}. " + ("" if nearest is None else nearest.note)
    square = "⟨σ'(0±)²⟩" if 0.0 in activation.kinks else "σ'(0)²"  # a mean of both sides
    head = {
        "K*=0": f"σ(0) = 0 and σ'(0) ≠ 0: K* = 0 is critical at C_b = 0, C_W = 1/{square} = {best.C_W:.8g}; ",
        "half-stable": f"χ∥ = χ⊥ = 1 at K* = {best.K_star:.10g}; " if best.K_star is not None else "",
        "scale-invariant": "",
    }[best.universality_class]
    others = [p for p in points if p is not best]
    tail = "".join(f". Also K* = {p.K_star:.10g} (C_b = {p.C_b:.8g}, C_W = {p.C_W:.8g}): {p.note}" for p in others)
    return head + best.note + tail + ("" if nearest is None else f". {nearest.note}")


def _result(
    activation: Activation,
    points: tuple[CriticalPoint, ...],
    reason: str,
    nearest: NearestChoice | None,
    K_range: tuple[float, float],
) -> Criticality:
    best = _preferred(points)
    numbers = ("C_b", "C_W", "K_star", "chi_parallel", "chi_perp")
    return Criticality(
        activation=activation.name,
        universality_class="none" if best is None else best.universality_class,
        **{name: None if best is None else getattr(best, name) for name in numbers},
        errors={} if best is None else dict(best.errors),
        points=points,
        reason=reason.strip(),
        nearest=nearest,
        K_range=K_range,
    )
