r"""Any activation as fast as a closed form: Chebyshev tables of the Gaussian kernel.

The averages over a pair depend on three numbers only, the kernels a, b and the correlation. In u = log a, log b they
are analytic in the strip |Im u| < π/2 for *every* σ that does not outgrow the Gaussian, kinks included, because √a
enters only through the Gaussian weight. In the correlation they are analytic in ρ for a smooth σ, in the angle θ for a
σ with a kink at the origin (there F ∋ θ³). So a product of Chebyshev polynomials in (log a, log b, ρ or θ) converges
geometrically, and one small table per activation and range of kernels replaces the quadrature of millions of pairs.

What is tabulated is smooth and of order one as the pair becomes collinear:

    F(|ρ| = 1)/√(m_a m_b) ,   Q = [F(|ρ| = 1) − F]/(w √(ab s_a s_b)) ,   S/√(s_a s_b) ,

with m = ⟨σ²⟩, s = ⟨σ'²⟩ and w = 1 − |ρ|.
"""

from dataclasses import dataclass
from functools import lru_cache
from weakref import WeakKeyDictionary

import numpy as np
from numpy.polynomial import chebyshev
from scipy.fft import dct

from finitewidth.activations import Activation
from finitewidth.gaussian.estimate import Estimate
from finitewidth.gaussian.line import average
from finitewidth.gaussian.polar import pair_matrices

_LINE_NODES = (16, 32, 64, 128, 256)
_ROUNDING = 16 * float(np.finfo(float).eps)
_POSITIVE, _SLOPE = [0, 1, 3, 4], 2  # rows of `LineTable.NAMES`
_SMALLEST = 1e-300  # below, numbers lose digits
_ROOMY = 8.0  # windows up to this length may cover kernels that no input has


class NotTabulable(Exception):
    """The table does not converge: σ has kinks away from the origin, or changes too fast for these kernels."""


@dataclass(frozen=True)
class Window:
    """An interval of u = log K, aligned so that neighbouring layers and later calls find the same table again.

    A wide one keeps close to the kernels all the same: where it covered larger ones, the table would have to resolve
    what no input asks for (tanh at K = 10⁷ for kernels from 10⁻⁴ to 4), and there would be none.
    """

    low: float
    high: float

    @classmethod
    def around(cls, K: np.ndarray) -> "Window":
        low, high = float(np.log(K.min())), float(np.log(K.max()))
        size = 1.0
        while True:
            start = np.floor(low / (size / 2)) * (size / 2)
            if start + size >= high:
                break
            size *= 2
        if size <= _ROOMY:
            return cls(start, start + size)
        grid = size / 16
        return cls(float(np.floor(low / grid) * grid), float(np.ceil(high / grid) * grid))

    def to_unit(self, u: np.ndarray) -> np.ndarray:
        return (2 * np.asarray(u) - self.low - self.high) / (self.high - self.low)

    def nodes(self, n: int) -> np.ndarray:
        return 0.5 * (self.low + self.high) + 0.5 * (self.high - self.low) * chebyshev_nodes(n)


def chebyshev_nodes(n: int) -> np.ndarray:
    """The n roots of T_n, descending."""
    return np.cos(np.pi * (np.arange(n) + 0.5) / n)


def chebyshev_coefficients(values: np.ndarray, axis: int) -> np.ndarray:
    """Coefficients of the Chebyshev interpolant through values at `chebyshev_nodes`, along one axis."""
    n = values.shape[axis]
    coefficients = dct(values, type=2, axis=axis) / n
    first = [slice(None)] * values.ndim
    first[axis] = slice(0, 1)
    coefficients[tuple(first)] *= 0.5
    return coefficients


def _tail(coefficients: np.ndarray, axis: int) -> float:
    """Largest of the last quarter of the coefficients along `axis`, relative to the largest of all."""
    size = np.abs(np.moveaxis(coefficients, axis, 0)).reshape(coefficients.shape[axis], -1).max(1)
    n = len(size)
    return float(size[n - max(2, n // 4) :].max() / size.max())


def _needed(coefficients: np.ndarray, axis: int, floor: float = 3e-14) -> int:
    """How many coefficients along `axis` stand above `floor` × the largest."""
    size = np.abs(np.moveaxis(coefficients, axis, 0)).reshape(coefficients.shape[axis], -1).max(1)
    return int(np.max(np.nonzero(size > floor * size.max())[0])) + 1


def unseen(coefficients: np.ndarray, axis: int) -> np.ndarray:
    """What the terms beyond the last along `axis` may add up to, for each entry of axis 1: shape (n,).

    The coefficients fall geometrically, at the rate seen from the largest to the last ones; their sum is counted twice,
    once for the terms that are missing and once for those that they are taken for.
    """
    size = np.moveaxis(np.abs(coefficients).max(axis=0), [0, axis - 1], [0, 1])
    return np.array([_beyond(row.reshape(len(row), -1).sum(1)) for row in size])


def _beyond(size: np.ndarray) -> float:
    first, n = int(size.argmax()), len(size)
    if size[first] == 0.0:
        return 0.0
    some = max(1, min(4, n - 1 - first))
    last = size[n - some :].max()
    rate = min(0.95, (last / size[first]) ** (1 / max(1, n - some - first)))
    return float(2 * last * rate**some / (1 - rate))


class LineTable:
    """⟨σ²⟩, ⟨σ'²⟩, d⟨σ²⟩/dK, ⟨σ⁴⟩ and ⟨z²σ'²⟩ of a single input, as polynomials in log K.

    `moments(K)` returns rows in the order of `NAMES`; `error` is their relative error. What is positive is tabulated as
    a logarithm, and d⟨σ²⟩/dK as the slope of that of ⟨σ²⟩: they range over many powers of ten where a kink lies many
    standard deviations out, or the kernels do, and the small ones keep their digits as well.
    """

    NAMES = ("sigma2", "slope2", "dsigma2_dK", "sigma4", "stretch2")

    def __init__(self, activation: Activation, window: Window) -> None:
        self.window = window
        for n in _LINE_NODES:
            u = window.nodes(n)
            estimate = line_moments(activation, np.exp(u))
            value = estimate.value
            self._used = np.any(value != 0, axis=1)
            if np.any(value[_POSITIVE][self._used[_POSITIVE]] < _SMALLEST):
                raise NotTabulable(f"single-input averages of {activation.name} vanish for some of the kernels")
            # relative to the middle of the window, so that a logarithm is only as large as the window is wide
            self._scale, logs = value[:, n // 2].copy(), np.zeros_like(value)
            for i in np.flatnonzero(self._used):
                logs[i] = np.log(value[i] / self._scale[i]) if i != _SLOPE else np.exp(u) * value[_SLOPE] / value[0]
            self._coefficients = chebyshev_coefficients(logs, 1)
            size = np.abs(self._coefficients)
            tail = size[:, n - max(2, n // 4) :].max(1)
            enough = 1e-15 * n * np.maximum(1.0, size[:, 1:].max(1))
            if activation.transitions:  # z rounds, and σ' with it: no more terms are to be had from that
                enough = np.maximum(enough, np.max(estimate.error / np.maximum(np.abs(value), _SMALLEST), axis=1))
            if np.all(tail < enough):
                break
        else:
            raise NotTabulable(f"single-input averages of {activation.name} over log K in {window}")
        with np.errstate(divide="ignore", invalid="ignore"):
            relative = np.where(value != 0, estimate.error / np.abs(value), 0.0)
            relative[_SLOPE] = np.nan_to_num(estimate.error[_SLOPE].max() / np.abs(value[_SLOPE]).max(), posinf=0.0)
        # rounding of a logarithm, and of log K, is a relative error of what it is the logarithm of
        slope = np.ptp(logs, axis=1) / np.ptp(u)
        rounding = 2 * float(np.finfo(float).eps) * (size.max(axis=1) + slope * np.abs(u).max())
        self.error = np.maximum(relative.max(axis=1), 4e-16) + tail + rounding

    def moments(self, K: np.ndarray) -> np.ndarray:
        """Shape (5, *K.shape)."""
        basis = chebyshev.chebvander(self.window.to_unit(np.log(K)), self._coefficients.shape[1] - 1)
        found = np.moveaxis(basis @ self._coefficients.T, -1, 0)
        found[_POSITIVE] = (np.exp(found[_POSITIVE]).T * self._scale[_POSITIVE]).T
        found[_SLOPE] *= found[0] / K
        found[~self._used] = 0.0
        return found


def line_moments(activation: Activation, K: np.ndarray) -> Estimate:
    """⟨σ²⟩, ⟨σ'²⟩, d⟨σ²⟩/dK = ⟨σ²(z² − K)⟩/2K², ⟨σ⁴⟩, ⟨z²σ'²⟩ by quadrature: shape (5, *K.shape).

    For a continuous σ the derivative is taken as ⟨zσσ'⟩/K, which does not cancel.
    """
    K = np.asarray(K, dtype=np.float64)
    jumps = is_discontinuous(activation)

    def stack(z: np.ndarray) -> np.ndarray:
        s, d = activation.evaluate(z, (0, 1))
        s2 = s * s
        rows = [s2, d * d, np.zeros_like(z) if jumps else z * s * d, s2 * s2, (z * d) ** 2]
        return np.stack(rows)

    estimate = average(stack, K, kinks=activation.breaks)
    value, error = estimate.value.copy(), estimate.error.copy()
    if jumps:
        for i, k in np.ndenumerate(K):

            def hermite_moment(z: np.ndarray, k: float = k) -> np.ndarray:
                return activation.evaluate(z)[0] ** 2 * (z * z / k - 1)

            hermite = average(hermite_moment, k, kinks=activation.breaks)
            value[(2, *i)], error[(2, *i)] = hermite.value / (2 * k), hermite.error / (2 * k)
    else:
        value[2], error[2] = value[2] / K, error[2] / K
    return estimate._replace(value=value, error=error)


@lru_cache(maxsize=256)
def is_discontinuous(activation: Activation) -> bool:
    """Whether σ itself jumps at one of its kinks (sign, step, hard-shrink)."""
    for k in activation.kinks:
        h = 1e-9 * max(1.0, abs(k))
        left, right = activation.evaluate(np.array([k - h, k + h]))[0]
        slope = np.abs(activation.evaluate(np.array([k - h, k + h]), (1,))[0]).max()
        if abs(right - left) > 4 * h * slope + 1e-7 * max(abs(left), abs(right)):
            return True
    return False


@dataclass(frozen=True)
class Coordinate:
    """How a complement w = 1 − |ρ| ∈ [0, 1] becomes v ∈ [−1, 1], the argument of the Chebyshev polynomials.

    y = w, or y = θ/(π/2) where σ is kinked and F ∋ θ³; then v = 1 − 2y(1 + bend)/(y + bend), which moves nodes towards
    collinear pairs as bend → 0, where large kernels change fastest.
    """

    angular: bool
    bend: float

    def v(self, w: np.ndarray) -> np.ndarray:
        y = 4 / np.pi * np.arcsin(np.sqrt(w / 2)) if self.angular else w
        return 1.0 - 2.0 * y * (1.0 + self.bend) / (y + self.bend)

    def angles(self, n: int) -> np.ndarray:
        """θ ∈ (0, π/2) at the n Chebyshev nodes of v."""
        x = 0.5 * (1.0 - chebyshev_nodes(n))
        y = x * self.bend / (1.0 + self.bend - x)
        return 0.5 * np.pi * y if self.angular else 2 * np.arcsin(np.sqrt(y / 2))


_BENDS = (4.0, 1.0, 0.3, 0.1, 0.03, 0.01)


class PairTable:
    """The pair averages of one activation for all kernels in a window.

    Attributes
        coefficients: shape (signs, 2, k, p, p): Q and S in T_k(v) T_p(u_a) T_q(u_b), for ρ > 0 and, unless σ is odd or
            even, ρ < 0.
        collinear: shape (signs, p, p): F at ρ = +1 and at ρ = −1.
        coordinate: how the correlation enters.
        error: of D and S, relative to √(mm) and √(ss); `collinear_error`: of F at |ρ| = 1, relative to √(mm).

    Both errors add up what can go wrong, which no number of points alone would show:
    - terms cut off: no more than the sum of their coefficients, since |T_k| ≤ 1;
    - terms never seen, beyond the nodes, and folded back on those that are: a geometric series, that goes on at the
      rate at which the coefficients have fallen so far (`unseen`), twice;
    - the quadrature at the nodes, and rounding: the same everywhere but for a factor of a few, so twice the largest
      deviation from a finer quadrature, at the corners of the window and inside.
    Q enters D with the factor w √(ab s_a s_b/(m_a m_b)), which grows with the kernels where σ saturates.
    """

    def __init__(self, activation: Activation, window: Window) -> None:
        if any(k != 0.0 for k in activation.kinks):
            raise NotTabulable(f"{activation.name} has kinks away from the origin")
        if activation.is_abrupt:
            raise NotTabulable(f"{activation.name} has transitions that slip through the nodes of `pair_matrices`")
        self.activation, self.window = activation, window
        self.signs = (1.0,) if activation.parity != "none" else (1.0, -1.0)
        self.coordinate, k = self._resolve_correlation()
        K = np.exp(window.nodes(self._resolve_kernels()))
        values, collinear = self._values(K, self.coordinate.angles(k))
        for axis in (2, 3, 4):
            values = chebyshev_coefficients(values, axis)
        kept = _needed(values, 2)
        self.coefficients = values[:, :, :kept]
        self.collinear = chebyshev_coefficients(chebyshev_coefficients(collinear, 1), 2)
        seen = self._check()
        if seen.max() > 1e-11:
            raise NotTabulable(
                f"the table of {activation.name} is only good to {seen.max():.1e} "
                f"for K in [{K.min():.3g}, {K.max():.3g}]"
            )
        moments = line_moments(activation, K)
        m, s = moments.value[:2]
        floor = _ROUNDING + float(np.max(moments.error[:2] / moments.value[:2]))  # of what the averages are divided by
        left_out = np.abs(values[:, :, kept:]).sum(axis=(2, 3, 4)).max(0) + sum(unseen(values, n) for n in (2, 3, 4))
        self.error = floor + float(np.max(2 * seen[:2] + left_out * [np.max(K * s / m), 1.0]))
        edges = self.collinear[:, None]
        self.collinear_error = floor + float(2 * seen[2] + unseen(edges, 2)[0] + unseen(edges, 3)[0])

    def _resolve_correlation(self) -> tuple[Coordinate, int]:
        """The coordinate that needs the fewest terms at both ends of the window, and how many."""
        K = np.exp([self.window.low, self.window.high])
        for probe, n in ((Coordinate(True, 0.3), 64), (Coordinate(True, 0.1), 128), (Coordinate(True, 0.03), 192)):
            coefficients = chebyshev_coefficients(self._values(K, probe.angles(n))[0], 2)
            if _tail(coefficients, 2) < 2e-12:
                break
        else:
            raise NotTabulable(f"{self.activation.name} changes too fast for K up to {K.max():.3g}")
        best = (n, probe)
        for angular in (True,) if self.activation.kinks else (True, False):
            for bend in _BENDS:
                coordinate = Coordinate(angular, bend)
                w = 2 * np.sin(0.5 * coordinate.angles(n)) ** 2
                values = np.moveaxis(chebyshev.chebval(probe.v(w), np.moveaxis(coefficients, 2, 0)), -1, 2)
                seen = chebyshev_coefficients(values, 2)
                best = min(best, (_needed(seen, 2, 1e-13), coordinate), key=lambda pair: pair[0])
        return best[1], best[0] + 4

    def _resolve_kernels(self) -> int:
        """How many nodes in log K resolve the table: at most those that the strip |Im u| < π/2 asks for."""
        half = 0.5 * (self.window.high - self.window.low)
        R = np.pi / 2 / half + np.hypot(1.0, np.pi / 2 / half)
        most = int(np.ceil(np.log(1e14) / np.log(R))) + 4
        values, collinear = self._values(np.exp(self.window.nodes(most)), np.array([0.05, 1.2]))
        series, edge = (chebyshev_coefficients(chebyshev_coefficients(f, -2), -1) for f in (values, collinear))
        return min(most, max(_needed(series, 3, 3e-14), _needed(edge, 1, 3e-15)) + 2)

    def _values(self, K: np.ndarray, angles: np.ndarray, order: int = 12) -> tuple[np.ndarray, np.ndarray]:
        """Q and S, shape (signs, 2, angles, p, p), and F/√(mm) at ρ = ±1, shape (signs, p, p)."""
        m, s = line_moments(self.activation, K).value[:2]
        if np.any(s <= 0) or np.any(m <= 0):
            raise NotTabulable(f"{self.activation.name} is constant, or vanishes, where the Gaussian has weight")
        root_m, root_s, root_Ks = (np.sqrt(np.outer(q, q)) for q in (m, s, K * s))
        found = pair_matrices(self.activation, K, angles, both_signs=len(self.signs) == 2, order=order)
        w = 2 * np.sin(angles / 2)[:, None, None] ** 2
        return np.stack([found.D / (w * root_Ks), found.S / root_s], axis=1), found.collinear / root_m

    def _check(self) -> np.ndarray:
        """Largest deviations of D, S and F(|ρ| = 1), relative to √(mm), √(ss), √(mm), from a finer quadrature."""
        rng = np.random.default_rng(2)
        low, high = self.window.low, self.window.high
        K = np.exp(np.concatenate([[low, high], rng.uniform(low, high, 3)]))
        angles = np.concatenate([rng.uniform(0, np.pi / 2, 2), [1e-4, 0.1]])
        values, edges = self._values(K, angles, order=16)
        w = 2 * np.sin(angles / 2) ** 2
        basis = chebyshev.chebvander(self.window.to_unit(np.log(K)), self.coefficients.shape[3] - 1)
        v = chebyshev.chebvander(self.coordinate.v(w), self.coefficients.shape[2] - 1)
        mine = np.einsum("sfkpq,ik,ap,bq->sfiab", self.coefficients, v, basis, basis, optimize=True)
        m, s = line_moments(self.activation, K).value[:2]
        of_D = w[:, None, None] * np.sqrt(np.outer(K * s / m, K * s / m))
        weight = np.stack([of_D, np.ones_like(of_D)])
        off = np.abs((mine - values) * weight).max(axis=(0, 2, 3, 4))
        return np.append(off, np.abs(basis @ self.collinear @ basis.T - edges).max())

    @property
    def size(self) -> tuple[int, int]:
        """(terms in v, terms in u)."""
        return self.coefficients.shape[2], self.coefficients.shape[3]


_LINES: WeakKeyDictionary[Activation, dict[Window, LineTable]] = WeakKeyDictionary()
_PAIRS: WeakKeyDictionary[Activation, dict[Window, PairTable | NotTabulable]] = WeakKeyDictionary()


def line_table(activation: Activation, K: np.ndarray) -> LineTable:
    """The table of single-input moments that covers these kernels; made once."""
    tables = _LINES.setdefault(activation, {})
    window = Window.around(K)
    if window not in tables:
        tables[window] = LineTable(activation, window)
    return tables[window]


def pair_table(activation: Activation, K: np.ndarray) -> PairTable:
    """The table of pair averages that covers these kernels; made once. Raises NotTabulable."""
    tables = _PAIRS.setdefault(activation, {})
    window = Window.around(K)
    if window not in tables:
        try:
            tables[window] = PairTable(activation, window)
        except NotTabulable as no:
            tables[window] = no
    found = tables[window]
    if isinstance(found, NotTabulable):
        raise found
    return found
