r"""How far to believe K and Θ: errors of each layer's averages, and what later layers make of them (first order).

A layer sends an input to the vector (√C_b, √C_W σ(z)) in the space of functions of z. Kernels are its squared length,
correlations the cosine of the angle θ between two of them, and geometry says what becomes of errors. To the kernels, of
relative error ε, every layer adds that of ⟨σ²⟩. The direction of the vector turns with log K at the rate
√(2 spread/K') (`collinear_spread`), and with the direction of z at the rate √steep, steep = K χ⊥/K'. (A residual layer
sends it to (√C_b, √C_W σ(z), √skip z).) So

    ε' = e + |∂log K'/∂log K| ε ,      δ' = e + steep δ + turn ε ,      η' = e/θ' + √steep η + turn ε

for the errors δ of correlations and η of angles, with e that of the averages and turn = 2√(2 spread/K').

For a steep σ these are the rates of inputs that are nearly the same; others are far from them. In normalised Hermite
polynomials ⟨f_α g_β⟩ = Σ_k f_k g_k ρᵏ, and k |ρ|ᵏ⁻¹ w ≤ 1 − |ρ|ᵏ ≤ 1 for complements w = 1 − |ρ|. So no derivative by ρ
exceeds √(⟨f²⟩⟨g²⟩)/w, and none by log K exceeds that times 1 + w/4, since z ∂_z multiplies by k, and by √(k(k − 1)) on
the way to k − 2. Of an input with itself or with its negative, the latter is ½|⟨f(z) f(±z) (z²/K − 1)⟩|, which is
at most ½⟨f² (z²/K + 1)⟩ = ⟨f²⟩ + K d⟨f²⟩/dK. What is more, with the unit vectors of the layer in place of f and g,

    w' ≥ ½ Σ_k (f_k² + g_k²)(1 − |ρ|ᵏ) ≥ Σ_k |f_k g_k| k |ρ|ᵏ⁻¹ w ≥ |∂ρ'/∂ρ| w :

no layer increases the relative error r of a complement. Hence r' = r + e/w' + 2(e + turn ε)/θ', and in the equations
above the terms with δ and η need not be larger than r.

⟨σσ⟩ and, for a smooth σ, ⟨σ'σ'⟩ follow the correlation. A jump J of σ' at z = κ makes ⟨σ'σ'⟩ follow the angle itself,
at the rate J² e^{−κ²/2K}/2π or less, and a jump of σ does that to ⟨σσ⟩. Angles are worse off: θ = √(2w), so an error e
of the complement w = 1 − |ρ| is one of e/θ. θ is the smallest angle at the layer of those whose complement is not known
to relative accuracy (see `tiles.correlation_step`).

Errors of K are relative to √(K_aa K_bb), those of Θ to √(Θ_aa Θ_bb), those of averages to their largest value too.
"""

from functools import lru_cache
from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np

from finitewidth.activations import Activation
from finitewidth.architecture import Architecture
from finitewidth.flow.constants import layer_constants
from finitewidth.flow.line import LineFlow, collinear_spread
from finitewidth.flow.pairs import NEARLY_COLLINEAR, PairErrors
from finitewidth.flow.tiles import NEARLY_EQUAL
from finitewidth.gaussian.line import average
from finitewidth.gaussian.tables import is_discontinuous

_EPS = float(np.finfo(float).eps)


def relative_errors(net: Architecture, line: LineFlow, pairs: PairErrors, n_in: int) -> tuple[np.ndarray, np.ndarray]:
    """Bounds on the relative errors of K and Θ at every layer, shape (L,) each.

    Arguments
        net, line, pairs: the network, its single inputs, and where the errors of pairs come from.
        n_in: terms of an inner product of inputs; their roundings add up like a random walk.
    """
    rounding = (4 + np.sqrt(n_in)) * _EPS
    no_pairs = line.K.shape[1] == 1
    of_kernels, of_correlations = rounding, 0.0 if no_pairs else rounding
    closest = max(pairs.closest[0], 0.5 * NEARLY_COLLINEAR)
    of_angles = of_correlations / _angle(closest)
    of_complements = _relative(of_correlations, closest, of_correlations, pairs.nearest[0])
    K, Theta = np.full(len(line.K), 2 * rounding), np.full(len(line.K), 2 * rounding)
    spread, constants = collinear_spread(net, line), layer_constants(net)
    for layer in range(1, len(K)):
        at = layer - 1
        C_W, K_in, K_out = constants.C_W[layer], line.K[at], line.K[layer]
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            steep, grow = (np.max(K_in * np.abs(chi[at]) / K_out) for chi in (line.chi_perp, line.chi_parallel))
            turning = np.sqrt(2 * np.maximum(spread[at], 0.0) / K_out)
            turn = 2 * np.max(np.nan_to_num(turning))
        own, own_slopes, of_gap, of_turn = (
            e[at] + line.moment_error[at, i] + 4 * _EPS for e, i in zip(pairs.averages, (0, 1, 0, 0), strict=True)
        )
        of_F, of_S = (
            rates.times(of_kernels, of_correlations, of_angles, of_complements)
            for rates in _rates(net.activation, K_in, line.moments[at], pairs.nearest[at])
        )
        Theta[layer] = 4 * _EPS + max(own + of_F, own_slopes + of_S + Theta[at])
        if not no_pairs:
            jump = _jumps(net.activation, K_in, line.moments[at])[0] * float(np.max(C_W * line.moments[at, 0] / K_out))
            w, nearest = pairs.closest[layer], pairs.nearest[layer]
            of_correlations = min(steep * of_correlations + jump * of_angles, of_complements)
            of_correlations += own + turn * of_kernels
            of_angles = min(np.sqrt(steep) * of_angles + jump * of_angles / _angle(w), of_complements)
            of_turn += turn * of_kernels + _left_out(K_in, turning)
            of_angles += of_turn + of_gap / _angle(w)
            of_complements += _relative(of_gap, w, of_turn, nearest)
        of_kernels = line.moment_error[at, 0] + 2 * _EPS + grow * of_kernels
        K[layer] = of_kernels + of_correlations
    K[-1], Theta[-1] = K[-1] + pairs.composite[0], Theta[-1] + pairs.composite[1]
    return K, Theta


def _angle(w: float) -> float:
    return float(np.sqrt(2 * max(w, _EPS)))


def _relative(error: float, w: float, of_angle: float, nearest: float) -> float:
    """Relative errors of complements ≥ w with this error, and of complements ≥ `nearest` with that of their angle."""
    with np.errstate(divide="ignore"):
        return float(error / np.float64(w) + 2 * of_angle / np.sqrt(2 * np.float64(nearest)))


def _left_out(K: np.ndarray, turning: np.ndarray) -> float:
    """The fourth order of the angle between nearly equal kernels, which `tiles.correlation_step` leaves out."""
    u = np.sort(np.log(K))
    reach = u[np.searchsorted(u, u + 2 * NEARLY_EQUAL) - 1] - u
    return float(0.5 * np.max(np.nan_to_num(turning)) * reach.max() ** 3)


class _Rates(NamedTuple):
    """How fast an average follows log K, the correlation and, where σ or σ' jumps, the angle."""

    by_kernel: float
    by_correlation: float
    by_angle: float

    def times(self, of_kernels: float, of_correlations: float, of_angles: float, of_complements: float) -> float:
        """What errors of these make of it; see the module for that of complements."""
        of_pairs = self.by_correlation * of_correlations + self.by_angle * of_angles
        return self.by_kernel * of_kernels + min(of_pairs, of_complements)


def _rates(activation: Activation, K: np.ndarray, moments: np.ndarray, nearest: float) -> tuple[_Rates, _Rates]:
    """Of ⟨σσ⟩ relative to ⟨σ²⟩, and of ⟨σ'σ'⟩ relative to ⟨σ'²⟩: the largest over all inputs."""
    m, s, dm, _, stretch = moments
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        # 0/0 where σ vanishes wherever the Gaussian has weight: nothing is there to be wrong
        by_size, by_angle, alone, slope_alone = (
            float(np.max(np.nan_to_num(x, posinf=np.inf)))
            for x in (np.sqrt(stretch / m), K * s / m, 1 + K * dm / m, 0.5 * (1 + stretch / (K * s)))
        )
        apart = 0.5 + 2 / nearest
    jump, kink = _jumps(activation, K, moments)
    bend, stretched = _bends(activation, K)
    bend = bend if kink == 0 else 2 * bend  # (p + q)² ≤ 2(p² + q²) of the delta and the rest of σ''
    return (
        _Rates(min(by_size, max(apart, alone)), by_angle, jump),
        _Rates(min(stretched, max(apart, slope_alone)), bend, 2 * kink),
    )


def _jumps(activation: Activation, K: np.ndarray, moments: np.ndarray) -> tuple[float, float]:
    """(Σ|J| e^{−κ²/4K})²/2π of the jumps of σ, relative to ⟨σ²⟩, and of those of σ', relative to ⟨σ'²⟩: the largest.

    The density of (z₁, z₂) at two kinks κ, λ is at most e^{−(κ²/K₁ + λ²/K₂)/4}, at any angle.
    """
    if not activation.kinks:
        return 0.0, 0.0
    weight = np.exp(-np.square(activation.kinks)[:, None] / (4 * K))
    with np.errstate(divide="ignore", invalid="ignore"):
        found = [
            float(np.nan_to_num((jumps @ weight) ** 2 / (2 * np.pi * size)).max())
            for jumps, size in zip(_jump_sizes(activation), moments[:2], strict=True)
        ]
    return found[0], found[1]


@lru_cache(maxsize=256)
def _jump_sizes(activation: Activation) -> np.ndarray:
    """|jump| of σ and of σ' at each kink, shape (2, kinks)."""
    kinks = np.array(activation.kinks)
    h = 1e-9 * np.maximum(1.0, np.abs(kinks))
    left, right = (activation.evaluate(kinks + side * h, (0, 1)) for side in (-1, 1))
    sizes = np.abs(right - left)
    if not is_discontinuous(activation):
        sizes[0] = 0.0
    return sizes


_OCTAVE = np.log(2.0)
_BENDS: WeakKeyDictionary[Activation, dict[int, tuple[float, float]]] = WeakKeyDictionary()


def _bends(activation: Activation, K: np.ndarray) -> tuple[float, float]:
    """K⟨σ''²⟩/⟨σ'²⟩ and √(⟨z²σ''²⟩/⟨σ'²⟩), without the deltas of σ'': the largest at octaves around the kernels."""
    if activation.pieces is not None and all(len(p) <= 2 or not any(p[2:]) for p in activation.pieces):
        return 0.0, 0.0
    octaves = range(int(np.floor(np.log(K.min()) / _OCTAVE)), int(np.ceil(np.log(K.max()) / _OCTAVE)) + 1)
    known = _BENDS.setdefault(activation, {})
    new = [n for n in octaves if n not in known]
    if new:
        at = np.exp(_OCTAVE * np.array(new))
        s, square, stretch = average(lambda z: _slopes(activation, z), at, kinks=activation.breaks, rtol=1e-3).value
        with np.errstate(divide="ignore", invalid="ignore"):
            both = np.nan_to_num([at * square / s, np.sqrt(stretch / s)])
        known.update({n: (float(b), float(t)) for n, b, t in zip(new, *both, strict=True)})
    bend, stretched = zip(*(known[n] for n in octaves), strict=True)
    return max(bend), max(stretched)


def _slopes(activation: Activation, z: np.ndarray) -> np.ndarray:
    d, dd = activation.evaluate(z, (1, 2))
    lost = ~np.isfinite(dd)
    if lost.any():  # automatic differentiation twice through max(z, 0)^1.5 is 0 · ∞ below 0; a bound needs few digits
        h = 1e-4 * np.abs(z)
        dd = np.where(lost, (activation.evaluate(z + h, (1,))[0] - activation.evaluate(z - h, (1,))[0]) / (2 * h), dd)
    return np.stack([d * d, dd * dd, (z * dd) ** 2])
