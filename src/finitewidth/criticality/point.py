"""One critical point: a kernel at which neither norms nor angles change from layer to layer, and how it is approached.

Near a fixed point K* write δ = K − K*. One layer does

    δ' = δ (1 + a |δ|^s) ,     χ∥ = 1 + (1 + s) a |δ|^s ,     χ⊥ = 1 + b |δ|^s

with signed a and b; s = 1 unless σ has a kink at K* = 0. Where it attracts, after ℓ layers (PDLT §5.3.3, §5.3.4;
FACTS 3.3, 3.4; s = ½ derived here from `taylor`)

    |δ| → (−1 / (a s ℓ))^{1/s} ~ ℓ^{−p0} ,     Π χ∥ ~ ℓ^{−p∥} ,     Π χ⊥ ~ ℓ^{−p⊥} ,
    p0 = 1/s ,     p∥ = 1 + 1/s ,     p⊥ = b / (a s) .

Above K* > 0 the first equation reads δ' = δ + a δ², whose a is a_1 = ½ dχ∥/dK and attracts from above if negative,
from below if positive.
"""

import math
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

from finitewidth.activations import Activation
from finitewidth.criticality.susceptibility import slopes, susceptibility
from finitewidth.criticality.taylor import first_irregular, kernel_series, one_sided_derivatives
from finitewidth.criticality.words import decay

UniversalityClass = Literal["scale-invariant", "K*=0", "half-stable", "none"]
_EPS = float(np.finfo(float).eps)


@dataclass(frozen=True)
class CriticalPoint:
    """A choice (C_b, C_W) with a fixed point K* at which χ∥ = χ⊥ = 1.

    Fields
        universality_class: "scale-invariant" (every K is a fixed point), "K*=0" or "half-stable" (K* > 0).
        K_star: the fixed point; None where every K is one.
        C_b, C_W, chi_parallel, chi_perp: as they were computed. A point with C_b < 0 cannot be realised: `admissible`
            is False.
        stable_from_below, stable_from_above: whether kernels on that side flow to K*; None: there is no such side, or
            they stay put.
        exponents: p_0, p_parallel, p_perp of the approach in depth; None where there is no power law, or no approach.
        coefficients: `power` s, `a`, `b` of this module's opening; `K`, the coefficient of |K − K*| → K · ℓ^(−p_0)
            (of K → K / ln ℓ where `logarithmic`).
        companions: other fixed points of the kernel recursion at this very (C_b, C_W), as (K, χ∥, χ⊥); flows may end
            there.
        errors: absolute errors of the numbers above, by name.
        note: the same in words.
    """

    universality_class: UniversalityClass
    K_star: float | None
    C_b: float
    C_W: float
    chi_parallel: float
    chi_perp: float
    admissible: bool
    stable_from_below: bool | None
    stable_from_above: bool | None
    exponents: dict[str, float | None]
    coefficients: dict[str, float | None]
    errors: dict[str, float]
    note: str
    logarithmic: bool = False
    companions: tuple[tuple[float, float, float], ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, texts and lists, ready for JSON (None for what does not exist)."""
        return asdict(self) | {"companions": [list(fixed_point) for fixed_point in self.companions]}

    @property
    def attracts(self) -> bool:
        """Whether kernels flow to K* from at least one side, or stay where they are."""
        return self.universality_class == "scale-invariant" or bool(self.stable_from_below or self.stable_from_above)


def scale_invariant_point(A_2: float) -> CriticalPoint:
    """σ(λz) = λσ(z): C_b = 0, C_W = 1/A_2 with A_2 = (a_+² + a_−²)/2, at any K (PDLT §5.2)."""
    return CriticalPoint(
        universality_class="scale-invariant",
        K_star=None,
        C_b=0.0,
        C_W=1.0 / A_2,
        chi_parallel=1.0,
        chi_perp=1.0,
        admissible=True,
        stable_from_below=None,
        stable_from_above=None,
        exponents={"p_0": 0.0, "p_parallel": 0.0, "p_perp": 0.0},
        coefficients={"power": None, "a": 0.0, "b": 0.0, "K": None},
        errors={"C_b": 0.0, "C_W": 4 * _EPS / A_2, "chi_parallel": 4 * _EPS, "chi_perp": 4 * _EPS},
        note="every kernel is a fixed point: the size of the signal stays what it is at the first layer",
    )


def point_at_kernel(activation: Activation, K: float) -> CriticalPoint:
    """The critical point at a root K > 0 of χ∥/χ⊥ = 1, where C_W = 1/⟨σ'²⟩ and C_b = K − C_W⟨σ²⟩ (FACTS 3.1, 3.4)."""
    at, slope = susceptibility(activation, K), slopes(activation, K)
    g, g1, p = (float(e.value) for e in (at.mean_square, at.parallel, at.perp))
    g_error, g1_error, p_error = (float(e.error) for e in (at.mean_square, at.parallel, at.perp))
    C_W = 1.0 / p
    C_b = K - C_W * g
    a, b = 0.5 * C_W * float(slope.parallel.value), C_W * float(slope.perp.value)
    a_error, b_error = 0.5 * C_W * float(slope.parallel.error), C_W * float(slope.perp.error)
    # K* solves 1 − C_W g' = 0, whose slope in K is b − 2a; everything else inherits its error
    K_error = 2 * _EPS * K + C_W * (g1_error + p_error) / max(abs(b - 2 * a), 1e-3 * abs(b), _EPS)
    C_W_error = C_W * (abs(b) * K_error + C_W * p_error)
    C_b_error = 2 * _EPS * K + C_W * g_error + g * C_W_error  # dC_b/dK = −g dC_W/dK: the rest cancels at χ∥ = 1
    admissible = C_b >= -C_b_error
    if admissible and abs(C_b) <= C_b_error:
        C_b = 0.0
    sided = abs(a) > 8 * a_error
    from_below, from_above = (a > 0, a < 0) if sided else (None, None)
    side = "below" if a > 0 else "above"
    words = (
        f"half-stable: kernels flow to K* from {side} and away from it on the other side"
        if sided
        else "the kernel recursion has no quadratic term here within rounding: stability is not decided"
    )
    if not admissible:
        words = f"cannot be realised: it would need biases of negative variance C_b = {C_b:.6g}"
    return CriticalPoint(
        universality_class="half-stable",
        K_star=K,
        C_b=C_b,
        C_W=C_W,
        chi_parallel=C_W * g1,
        chi_perp=1.0,
        admissible=admissible,
        stable_from_below=from_below,
        stable_from_above=from_above,
        exponents={"p_0": 1.0, "p_parallel": 2.0, "p_perp": b / a} if sided else _no_exponents(),
        coefficients={"power": 1.0, "a": a, "b": b, "K": 1.0 / abs(a) if sided else None},
        errors={
            "K_star": K_error,
            "C_b": C_b_error,
            "C_W": C_W_error,
            "chi_parallel": C_W * g1_error + C_W**2 * g1 * p_error,
            "chi_perp": C_W * p_error,
            "a": a_error,
            "b": b_error,
        },
        note=words,
    )


def point_at_zero(activation: Activation) -> CriticalPoint | None:
    """The critical point at K* = 0, C_b = 0, C_W = 1/A_2 with A_2 = (σ'(0⁺)² + σ'(0⁻)²)/2; None unless σ(0) = 0 and
    A_2 > 0."""
    derivatives = one_sided_derivatives(activation, 1)
    A_2 = float(0.5 * (derivatives[:, 1] ** 2).sum())
    if np.any(np.abs(derivatives[:, 0]) > 1e-14 * math.sqrt(A_2)) or A_2 <= 1e-24:
        return None
    irregular = first_irregular(activation, 4)
    if irregular <= 1:  # σ' runs off to infinity, or σ'(0) is 0 and it goes there slowly
        return None
    derivatives = one_sided_derivatives(activation, 4)
    n, a, b = _first_corrections(derivatives[:, : irregular + 1], A_2)
    if n is None and irregular == 5:  # first terms that cancel are rare: seven nested, slow derivatives wait until here
        n, a, b = _first_corrections(one_sided_derivatives(activation, 8), A_2)
    common: dict[str, Any] = {
        "universality_class": "K*=0",
        "K_star": 0.0,
        "C_b": 0.0,
        "C_W": 1.0 / A_2,
        "chi_parallel": 1.0,
        "chi_perp": 1.0,
        "admissible": True,
        "stable_from_below": None,
        "errors": {"K_star": 0.0, "C_b": 0.0, "C_W": 16 * _EPS / A_2, "chi_parallel": 16 * _EPS, "chi_perp": 16 * _EPS},
    }
    if n is None:
        return CriticalPoint(**common, **(_flat if irregular == 5 else _of_unknown_power)(activation, A_2))
    s = (n - 2) / 2
    stable = a < 0
    exponents: dict[str, float | None] = {
        "p_0": 1 / s,
        "p_parallel": 1 + 1 / s,
        "p_perp": None if b is None else b / (a * s),
    }
    note = (
        f"kernels decay to 0 like {decay(1 / s)}, slower than any exponential; the first layer sets where they start"
        if stable
        else "unstable: kernels above 0 grow away from it, and there is nothing below"
    )
    if stable and s == 0.5:
        note += " (σ is not smooth at 0, which makes the decay faster than the 1/ℓ of smooth activations)"
    return CriticalPoint(
        **common,
        stable_from_above=stable,
        exponents=exponents if stable else _no_exponents(),
        coefficients={"power": s, "a": a, "b": b, "K": (-1 / (a * s)) ** (1 / s) if stable else None},
        note=note,
    )


def _first_corrections(derivatives: np.ndarray, A_2: float) -> tuple[int | None, float, float | None]:
    """n, a, b of C_W⟨σ²⟩ = K (1 + a K^{(n−2)/2}), C_W⟨σ'²⟩ = 1 + b K^{(n−2)/2}; b None if ⟨σ'²⟩ moves at a lower
    power."""
    terms = derivatives.shape[1]
    square, slope = kernel_series(derivatives, terms), kernel_series(derivatives[:, 1:], terms - 1)
    for n in range(3, terms):
        if square[n] != 0.0:
            lower = np.any(slope[1 : n - 2] != 0.0)
            return n, float(square[n] / A_2), None if lower else float(slope[n - 2] / A_2)
    return None, 0.0, None


def _flat(activation: Activation, A_2: float) -> dict[str, Any]:
    """σ linear (or leaky) around 0 up to a kink at distance k: corrections ~ e^{−k²/2K}, hence K → k²/(2 ln ℓ).

    With u = k²/2K, one layer adds du ∝ √u e^{−u}: u → ln ℓ. Then χ∥ → 1 − 1/ℓ and χ⊥ → 1 − O(1/(ℓ ln ℓ)).
    """
    k = min((abs(k) for k in activation.kinks if k != 0.0), default=1.0)
    K = k * k / np.array([30.0, 20.0, 12.0, 6.0, 2.0])
    change = susceptibility(activation, K).mean_square.value / (A_2 * K) - 1
    visible = np.flatnonzero(np.abs(change) > 1e-14)
    stable = bool(visible.size and change[visible[0]] < 0)
    words = (
        f"σ is exactly (leaky) linear within {k:g} of 0: kernels decay to 0 only like {0.5 * k * k:g}/ln ℓ, "
        "slower than any power of depth, and once K is well below the break the network is linear to all digits"
    )
    if not stable:
        words = (
            f"unstable: σ is exactly (leaky) linear within {k:g} of 0 and steeper outside; "
            "kernels grow, extremely slowly at first"
        )
    return {
        "stable_from_above": stable,
        "exponents": {"p_0": 0.0, "p_parallel": 1.0, "p_perp": 0.0} if stable else _no_exponents(),
        "coefficients": {"power": None, "a": 0.0, "b": 0.0, "K": 0.5 * k * k if stable else None},
        "note": words,
        "logarithmic": stable,
    }


def _of_unknown_power(activation: Activation, A_2: float) -> dict[str, Any]:
    """σ with a power of |z| at 0 that is no whole number: where kernels go is read off, how fast is not."""
    K = np.geomspace(1e-14, 1e-2, 13)
    change = susceptibility(activation, K).mean_square.value / (A_2 * K) - 1
    visible = np.flatnonzero(np.abs(change) > 1e-12)
    stable = bool(visible.size and change[visible[0]] < 0)
    words = "kernels near 0 shrink" if stable else "unstable: kernels near 0 grow"
    return {
        "stable_from_above": stable,
        "exponents": _no_exponents(),
        "coefficients": {"power": None, "a": None, "b": None, "K": None},
        "note": f"{words}; how fast is not said, since derivatives of σ grow without limit towards 0",
    }


def _no_exponents() -> dict[str, float | None]:
    return {"p_0": None, "p_parallel": None, "p_perp": None}
