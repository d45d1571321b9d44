"""What one layer does to a single input and to small changes of it: ⟨σ²⟩, χ∥, χ⊥ and their slopes (PDLT §5.1, FACTS
2.6).

    K' = C_b + C_W ⟨σ²⟩_K ,     χ∥ = C_W d⟨σ²⟩/dK ,     χ⊥ = C_W ⟨σ'²⟩_K ,     h = ½ dχ⊥/dK .

All of these are averages of derivatives of F = σ² or F = σ'². With F⁽ᵐ⁾ the almost-everywhere derivative, J_j(k) the
jump of F⁽ʲ⁾ at the kink k, and He the Hermite polynomials, integrating by parts m times gives the same number for
every m:

    (2 d/dK)^{n/2} ⟨F⟩_K = ⟨F⁽ᵐ⁾ He_{n−m}(z/√K)⟩ K^{−(n−m)/2}
                           + Σ_{j<m} Σ_k J_j(k) φ_K(k) He_{n−1−j}(k/√K) K^{−(n−1−j)/2} .

m = 1 has no cancellation for K ≳ 1 and m = n none for K → 0 (m = 0, the textbook ⟨σ²(z²−K)⟩/2K², loses a factor K in
the first and is safe only in between). Both are computed where K is small and the one with the smaller error is
given. (For d²⟨σ²⟩/dK², n = 4, m = 2 takes the place of m = 1: the factor z³ of the latter blows up the rounding of σ'
where it is nearly 0.)
The jumps make the formula right for every σ: for a discontinuous one, ⟨zσσ'⟩/K alone would miss the delta function in
    σ'.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from finitewidth.activations import Activation
from finitewidth.criticality.taylor import kernel_series, limit_of_derivative, one_sided_derivatives
from finitewidth.errors import InputError
from finitewidth.gaussian.estimate import Estimate
from finitewidth.gaussian.line import average

_SMALL = 4.0  # below this K the road without inverse powers of K is tried too
_EPS = float(np.finfo(float).eps)


@dataclass(frozen=True, eq=False)
class Susceptibility:
    """Single-input averages at kernels K, each an `Estimate` (value and absolute error) of the shape of K, for C_W = 1.

    Multiply by C_W: χ∥ = C_W · `parallel`, χ⊥ = C_W · `perp`. Of leading order in 1/n. At K = 0 they are limits,
        which may be infinite.

    `jumps` lists the points where σ itself jumps. There σ' is a delta function whose square has no average: χ⊥ does
    not exist and `perp` is NaN with infinite error.
    """

    K: np.ndarray
    mean_square: Estimate
    parallel: Estimate
    perp: Estimate
    jumps: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Slopes:
    """How the susceptibilities change with K, for C_W = 1: dχ∥/dK = C_W · `parallel`, dχ⊥/dK = 2h = C_W · `perp`
    (FACTS 2.6, 2.7)."""

    K: np.ndarray
    parallel: Estimate
    perp: Estimate


def susceptibility(activation: Activation, K: np.ndarray | float) -> Susceptibility:
    """⟨σ²⟩, d⟨σ²⟩/dK and ⟨σ'²⟩ at each K ≥ 0, with errors.

    Source: PDLT §5.1; the forms used are in this module's opening.

    Arguments
        activation: σ, with its kinks known.
        K: variances ≥ 0 of the preactivation, any shape.

    Returns
        a `Susceptibility` (leading order in 1/n).

    Raises
        InputError: K negative or not finite; σ or σ' not finite where the Gaussian has weight.
    """
    K = _checked(K)
    jumps = _Jumps(activation)
    table = _table(activation, K, jumps, _averages_by_parts, (("square", 0), ("square", 1), ("slope", 0)))
    if jumps.of_sigma:
        table[2, 0], table[2, 1] = np.nan, np.inf
    mean_square, parallel, perp = (Estimate(value, error, "line") for value, error in table)
    return Susceptibility(K, mean_square, parallel, perp, jumps.of_sigma)


def slopes(activation: Activation, K: np.ndarray | float) -> Slopes:
    """d²⟨σ²⟩/dK² and d⟨σ'²⟩/dK at each K ≥ 0, with errors; `perp` is NaN where σ jumps.

    Source: this module's opening with n = 4 and n = 2. Arguments and errors raised: as for `susceptibility`.
    """
    K = _checked(K)
    jumps = _Jumps(activation)
    table = _table(activation, K, jumps, _slopes_by_parts, (("square", 2), ("slope", 1)))
    if jumps.of_sigma:
        table[1, 0], table[1, 1] = np.nan, np.inf
    parallel, perp = (Estimate(value, error, "line") for value, error in table)
    return Slopes(K, parallel, perp)


class _Jumps:
    """J_j(k) for F = σ² (j < 4) and F = σ'² (j < 2), from one-sided values at each kink."""

    def __init__(self, activation: Activation) -> None:
        self.kinks = np.asarray(activation.kinks, dtype=np.float64)
        self.of_square = self.of_slope_square = np.zeros((0, self.kinks.size))
        self.of_sigma: tuple[float, ...] = ()
        if self.kinks.size:
            # a kink that was found by search is known to some digits only: step aside, extrapolate back
            aside = np.where(self.kinks == 0, 1e-30, 1e-7 * np.maximum(1.0, np.abs(self.kinks)))
            right, left = (self._derivatives(activation, side * aside) for side in (1, -1))
            self.of_square = _square_derivatives(right)[:4] - _square_derivatives(left)[:4]
            self.of_slope_square = _square_derivatives(right[1:])[:2] - _square_derivatives(left[1:])[:2]
            jump = np.abs(right[0] - left[0])
            self.of_sigma = tuple(
                self.kinks[jump > 1e-9 * np.maximum(1e-3, np.abs(right[0]) + np.abs(left[0]))].tolist()
            )

    def _derivatives(self, activation: Activation, step: np.ndarray) -> np.ndarray:
        at = activation.evaluate(self.kinks + step, (0, 1, 2, 3, 4))
        at = np.where(np.isfinite(at), at, 0.0)
        back = at.copy()
        back[:-1] -= step * at[1:]
        back[:-2] += 0.5 * step**2 * at[2:]
        return back

    def term(self, jumps: np.ndarray, n: int, m: int, K: np.ndarray) -> np.ndarray:
        """The sum over kinks and j < m of this module's formula, at each K."""
        total = np.zeros_like(K)
        x = self.kinks[:, None] / np.sqrt(K)
        density = np.exp(-0.5 * x * x) / np.sqrt(2 * np.pi * K)
        for j in range(min(m, len(jumps))):
            power = n - 1 - j
            total += (jumps[j][:, None] * density * _hermite(power, x)).sum(0) * K ** (-power / 2)
        return total


_Road = Callable[[Activation, np.ndarray, _Jumps, bool], np.ndarray]


def _checked(K: np.ndarray | float) -> np.ndarray:
    K = np.asarray(K, dtype=np.float64)
    if not np.all(np.isfinite(K)) or np.any(K < 0):
        raise InputError(f"`K` must be finite numbers ≥ 0, but got {K!r}; a kernel is a variance")
    return K


def _table(
    activation: Activation, K: np.ndarray, jumps: _Jumps, road: _Road, limits: tuple[tuple[str, int], ...]
) -> np.ndarray:
    """Shape (quantities, 2, *K.shape), value and error: the better of the two roads at each K."""
    flat = K.ravel()
    positive, small = flat > 0, (flat > 0) & (flat < _SMALL)
    table = np.empty((len(limits), 2, flat.size))
    if positive.any():
        table[:, :, positive] = road(activation, flat[positive], jumps, False)
    if small.any():
        try:
            near = road(activation, flat[small], jumps, True)
            current = table[:, :, small]
            better = (near[:, 1] < current[:, 1]) & np.isfinite(near[:, 0])
            table[:, :, small] = np.where(better[:, None], near, current)
        except InputError:  # higher derivatives of a user's σ may fail where σ and σ' do not; the other road is safe
            pass
    if not positive.all():
        table[:, :, ~positive] = _limits(activation, limits)[:, :, None]
    return table.reshape(*table.shape[:2], *K.shape)


def _averages_by_parts(activation: Activation, K: np.ndarray, jumps: _Jumps, near_zero: bool) -> np.ndarray:
    def integrands(z: np.ndarray) -> np.ndarray:
        s = activation.evaluate(z, (0, 1, 2) if near_zero else (0, 1))
        square = _square_derivatives(s)
        return np.stack([square[0], 0.5 * (square[2] if near_zero else z * square[1]), s[1] ** 2])

    value, error, _ = average(integrands, K, kinks=activation.breaks)
    if not near_zero:
        value[1], error[1] = value[1] / K, error[1] / K
    at_kinks = 0.5 * jumps.term(jumps.of_square, 2, 2 if near_zero else 1, K)
    value[1] += at_kinks
    error[1] += 8 * _EPS * np.abs(at_kinks)
    return np.stack([value, error], axis=1)


def _slopes_by_parts(activation: Activation, K: np.ndarray, jumps: _Jumps, near_zero: bool) -> np.ndarray:
    def integrands(z: np.ndarray) -> np.ndarray:
        s = activation.evaluate(z, (0, 1, 2, 3, 4) if near_zero else (0, 1, 2))
        square, slope_square = _square_derivatives(s), _square_derivatives(s[1:])
        if near_zero:
            return np.stack([0.25 * square[4], 0.5 * slope_square[2]])
        return np.stack([0.25 * z**2 * square[2], 0.5 * z * slope_square[1], 0.25 * square[2]])

    value, error, _ = average(integrands, K, kinks=activation.breaks)
    if not near_zero:
        value = np.stack([(value[0] - K * value[2]) / K**2, value[1] / K])
        error = np.stack([(error[0] + K * error[2]) / K**2, error[1] / K])
    m = (4, 2) if near_zero else (2, 1)
    at_kinks = np.stack(
        [0.25 * jumps.term(jumps.of_square, 4, m[0], K), 0.5 * jumps.term(jumps.of_slope_square, 2, m[1], K)]
    )
    return np.stack([value + at_kinks, error + 8 * _EPS * np.abs(at_kinks)], axis=1)


def _limits(activation: Activation, wanted: tuple[tuple[str, int], ...]) -> np.ndarray:
    """K → 0 of derivatives of ⟨σ²⟩ ("square") and ⟨σ'²⟩ ("slope"), each given by its order."""
    derivatives = one_sided_derivatives(activation, 5)
    series = {"square": kernel_series(derivatives, 5), "slope": kernel_series(derivatives[:, 1:], 5)}
    values = np.array([limit_of_derivative(series[of], order) for of, order in wanted])
    return np.stack([values, 8 * _EPS * np.where(np.isfinite(values), np.abs(values), 0.0)], axis=1)


def _square_derivatives(s: np.ndarray) -> np.ndarray:
    """(s²)⁽ʲ⁾ for j = 0 … len(s) − 1, from s, s', s'', …, by Leibniz' rule."""
    return np.stack([sum(math.comb(n, k) * s[k] * s[n - k] for k in range(n + 1)) for n in range(len(s))])


def _hermite(n: int, x: np.ndarray) -> np.ndarray:
    return np.polynomial.hermite_e.hermeval(x, [0.0] * n + [1.0])
