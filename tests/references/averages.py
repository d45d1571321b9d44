"""Two-input Gaussian averages ⟨f(z₁) f(z₂)⟩_K to 30 digits, by roads that share nothing with the library: mpmath only.

f is σ or σ' (its almost-everywhere value at kinks). K = [[a, k], [k, b]] is taken exactly as the numbers given. Roads:

- `Exact`     formulas: monomials, sin, cos, exp, erf, GELU;
- `Pieces`    polynomial × exponential on intervals (ReLU family, ELU, hard…): z₂ given z₁ in closed form, one integral
              left, split where f breaks and, on the scale of the conditional width, where the conditional mean does;
- `Strip`     analytic in a strip (tanh, SiLU, …): the trapezoid rule on a grid in (z₁, z₂), with error e^{-2πd/h} for
              poles at distance d; close to collinear, Gauss–Hermite across the narrow direction;
              beyond K = 1e6 the limit at large z (sign, step or ReLU) plus a remainder that dies off within |z| < 90;
- `Corner`    analytic but for z = 0 (softsign): polar coordinates, in which no direction is narrow.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

from mpmath import mp, mpf
from mpmath.calculus.quadrature import GaussLegendre

mp.dps = 55

Function = Callable[[mpf], mpf]
REACH = mpf(13)  # standard deviations: e^{-13²/2} = 2e-37
GOOD = mpf(10) ** -33


@cache
def legendre(degree: int) -> list[tuple[mpf, mpf]]:
    """Gauss–Legendre nodes and weights on [-1, 1]; degree 4 has 24 of them."""
    return GaussLegendre(mp).calc_nodes(degree, mp.prec)


def points(splits: Sequence[mpf], degree: int) -> list[tuple[mpf, mpf]]:
    """Nodes and weights of composite Gauss–Legendre between consecutive splits."""
    nodes = []
    for low, high in pairwise(sorted(set(splits))):
        middle, half = (low + high) / 2, (high - low) / 2
        nodes += [(middle + half * t, half * w) for t, w in legendre(degree)]
    return nodes


def ladder(low: mpf, high: mpf, smallest: mpf, largest: mpf) -> list[mpf]:
    """Splits of [low, high] that double from `smallest` at both ends and are nowhere longer than `largest`."""
    steps, reached, step = [mpf(0)], smallest, smallest
    while reached < (high - low) / 2:
        steps.append(reached)
        step = min(2 * step, largest)
        reached += step
    return sorted({low + s for s in steps} | {high - s for s in steps})


def density(x: mpf) -> mpf:
    return mp.exp(-x * x / 2) / mp.sqrt(2 * mp.pi)


def below(x: mpf) -> mpf:
    """Φ(x), to full relative precision in the lower tail."""
    return mp.erfc(-x / mp.sqrt(2)) / 2


def single(f: Function, a: mpf, kinks: Sequence[float] = ()) -> mpf:
    """⟨f(z)⟩ of one input of variance a, in one integral; kinks: where f is not analytic (0 is always a split)."""
    root = mp.sqrt(a)
    breaks = {x for x in (k / root for k in map(mpf, kinks)) if abs(x) < REACH} | {-REACH, mpf(0), REACH}
    splits: set[mpf] = set()
    for low, high in pairwise(sorted(breaks)):
        splits |= set(ladder(low, high, min(1 / root, mpf(1)) / 4, mpf(1)))
    return mp.fsum(w * density(x) * f(root * x) for x, w in points(list(splits), 4))


@dataclass(frozen=True)
class Exact:
    """σ with known averages ⟨σσ⟩ and ⟨σ'σ'⟩, functions of (a, b, k)."""

    ss: Callable[[mpf, mpf, mpf], mpf]
    dsds: Callable[[mpf, mpf, mpf], mpf]

    def pair(self, a: mpf, b: mpf, k: mpf) -> tuple[mpf, mpf]:
        return self.ss(a, b, k), self.dsds(a, b, k)

    def diagonal(self, a: mpf) -> tuple[mpf, mpf]:
        return self.pair(a, a, a)


# One term c₀ + c₁z + … times e^{rate z}.
Term = tuple[tuple[mpf, ...], int]


@dataclass(frozen=True)
class Pieces:
    """σ as a sum of polynomial × exponential terms on each interval between `kinks`, left to right."""

    kinks: tuple[mpf, ...]
    terms: tuple[tuple[Term, ...], ...]

    def pair(self, a: mpf, b: mpf, k: mpf) -> tuple[mpf, mpf]:
        root, tau = mp.sqrt(a), mp.sqrt((a * b - k * k) / a)
        slope = k / root
        both = (self, self.derivative())
        totals: tuple[list[mpf], list[mpf]] = ([], [])
        for x, weight in points(self.splits(root, slope, tau), 4):
            known = [f(root * x) for f in both]
            if any(known):
                means = smeared(both, slope * x, tau)
                for total, f, mean in zip(totals, known, means, strict=True):
                    total.append(weight * density(x) * f * mean)
        return mp.fsum(totals[0]), mp.fsum(totals[1])

    def diagonal(self, a: mpf) -> tuple[mpf, mpf]:
        ends = [mpf(x) for x in self.kinks]
        return single(lambda z: self(z) ** 2, a, ends), single(lambda z: self.derivative()(z) ** 2, a, ends)

    def __call__(self, z: mpf) -> mpf:
        terms = self.terms[sum(z > kink for kink in self.kinks)]
        return mp.fsum(mp.polyval(c[::-1], z) * mp.exp(rate * z) for c, rate in terms)

    def derivative(self) -> "Pieces":
        def one(term: Term) -> Term:
            c, rate = term
            slopes = [n * c[n] for n in range(1, len(c))] + [mpf(0)]
            return tuple(s + rate * x for s, x in zip(slopes, c, strict=True)), rate

        return Pieces(self.kinks, tuple(tuple(map(one, terms)) for terms in self.terms))

    def splits(self, root: mpf, slope: mpf, tau: mpf) -> list[mpf]:
        splits = {kink / root for kink in self.kinks}
        # an exponential piece changes over |z| ~ 1, that is |x| ~ 1/root, away from its kink
        splits |= {(kink + s * mpf(2) ** n) / root for kink in self.kinks for n in range(-2, 8) for s in (-1, 1)}
        if slope != 0:
            width = tau / abs(slope)
            for kink in self.kinks:
                turn = kink / slope
                splits |= {turn + s * width * 2**n for n in range(-1, 5) for s in (-1, 1)} | {turn}
        return list({x for x in splits if abs(x) < REACH} | {mpf(n) for n in range(-13, 14)})


def smeared(functions: Sequence[Pieces], mean: mpf, tau: mpf) -> list[mpf]:
    """E f(z) of functions with the same kinks, for z of this mean and standard deviation."""
    kinks, totals = functions[0].kinks, [mpf(0)] * len(functions)
    wanted: dict[tuple[int, int], list[tuple[int, tuple[mpf, ...]]]] = {}
    for which, f in enumerate(functions):
        for interval, terms in enumerate(f.terms):
            for c, rate in terms:
                if any(c):
                    wanted.setdefault((interval, rate), []).append((which, c))
    ends = (-mp.inf, *kinks, mp.inf)
    for (interval, rate), terms in wanted.items():
        shifted, factor = mean + rate * tau**2, mp.exp(rate * mean + (rate * tau) ** 2 / 2)
        moments = truncated(shifted, tau, ends[interval], ends[interval + 1], max(len(c) for _, c in terms))
        for which, c in terms:
            totals[which] += factor * mp.fdot(c, moments[: len(c)])
    return totals


def truncated(mean: mpf, tau: mpf, low: mpf, high: mpf, count: int) -> list[mpf]:
    """E[zⁿ; low < z < high], n = 0 … count − 1:  J_n = mean J_{n-1} + (n−1) τ² J_{n-2} − τ² [zⁿ⁻¹ N(z)]."""
    if mp.isinf(high):
        moments = [below((mean - low) / tau)]  # the upper tail, without 1 − Φ
    else:
        moments = [below((high - mean) / tau) - (mpf(0) if mp.isinf(low) else below((low - mean) / tau))]
    edges = [(z, sign * tau * density((z - mean) / tau)) for z, sign in ((high, 1), (low, -1)) if not mp.isinf(z)]
    for n in range(1, count):
        before = (n - 1) * tau**2 * moments[n - 2] if n > 1 else mpf(0)
        moments.append(mean * moments[n - 1] + before - mp.fsum(z ** (n - 1) * edge for z, edge in edges))
    return moments


@dataclass(frozen=True)
class Strip:
    """σ analytic for |Im z| < 1.5 at least, and its limit at large |z|: "sign", "step" or "relu" (for K beyond 1e6)."""

    s: Function
    ds: Function
    limit: str = ""

    def pair(self, a: mpf, b: mpf, k: mpf) -> tuple[mpf, mpf]:
        return tuple(smooth([(self.s, self.limit), (self.ds, SLOPE.get(self.limit, ""))], a, b, k))

    def diagonal(self, a: mpf) -> tuple[mpf, mpf]:
        return single(lambda z: self.s(z) ** 2, a), single(lambda z: self.ds(z) ** 2, a)


SLOPE = {"sign": "zero", "step": "zero", "relu": "step"}
STEP = mpf("0.115")  # e^{-2π 1.5/h} = 1e-35.6


def smooth(functions: Sequence[tuple[Function, str]], a: mpf, b: mpf, k: mpf) -> list[mpf]:
    if a < b:
        a, b = b, a
    if a > 10**6:
        return [by_limit(f, limit, a, b, k) for f, limit in functions]
    plain = [f for f, _ in functions]
    if (a * b - k * k) / a < mpf("3e-4") * min(b, 1):
        return by_narrow_direction(plain, a, b, k)
    return by_grid(plain, a, b, k)


def by_narrow_direction(functions: Sequence[Function], a: mpf, b: mpf, k: mpf) -> list[mpf]:
    """Trapezoid in z₁; z₂ = (k/a) z₁ + τ y with small τ by 20-point Gauss–Hermite in y, of error τ⁴⁰."""
    tau, h = mp.sqrt((a * b - k * k) / a), min(STEP, mpf("0.45") * mp.sqrt(a))
    count = int(mp.ceil(REACH * mp.sqrt(a) / h))
    totals = [[] for _ in functions]
    for i in range(-count, count + 1):
        z = i * h
        weight = h * density(z / mp.sqrt(a)) / mp.sqrt(a)
        near = [(k / a * z + tau * y, w) for y, w in hermite(20)]
        for total, f in zip(totals, functions, strict=True):
            total.append(weight * f(z) * mp.fsum(w * f(y) for y, w in near))
    return [mp.fsum(total) for total in totals]


@cache
def hermite(count: int) -> list[tuple[mpf, mpf]]:
    """Nodes and weights for the standard normal: roots of He_n, weights (n−1)!/(n He_{n-1}²)."""
    rows = [[mpf(1)], [mpf(1), mpf(0)]]
    for n in range(1, count):
        shifted, lower = rows[n] + [mpf(0)], [mpf(0)] * 2 + rows[n - 1]
        rows.append([x - n * y for x, y in zip(shifted, lower, strict=True)])
    with mp.workdps(120):
        roots = [mp.re(root) for root in mp.polyroots(rows[count], maxsteps=500, extraprec=500)]
    return [(y, mp.factorial(count - 1) / (count * mp.polyval(rows[count - 1], y) ** 2)) for y in roots]


def by_grid(functions: Sequence[Function], a: mpf, b: mpf, k: mpf) -> list[mpf]:
    """h₁ h₂ Σ_ij p(z_i, z_j) f(z_i) f(z_j): f only on two lines; the weights of a row by recurrence in fixed point."""
    det = a * b - k * k
    tau, other = mp.sqrt(det / a), mp.sqrt(det / b)
    h1, h2 = min(STEP, mpf("0.45") * other), min(STEP, mpf("0.45") * tau)
    rows, columns = int(mp.ceil(REACH * mp.sqrt(a) / h1)), int(mp.ceil(REACH * mp.sqrt(b) / h2)) + 2
    bits = 150
    one = 1 << bits
    tables, scales = [], []
    for f in functions:
        values = [f(j * h2) for j in range(-columns, columns + 1)]
        scale = max(abs(v) for v in values)
        tables.append([int(mp.nint(v / scale * one)) for v in values])
        scales.append(scale)
    step = int(mp.nint(mp.exp(-((h2 / tau) ** 2)) * one))
    totals = [[] for _ in functions]
    for i in range(-rows, rows + 1):
        z = i * h1
        weight = h1 * h2 * density(z / mp.sqrt(a)) / mp.sqrt(a) / tau
        if weight < GOOD**2:
            continue
        mean = k / a * z
        centre = int(mp.nint(mean / h2))
        offset = (centre * h2 - mean) / tau
        start = int(mp.nint(density(offset) * one))
        upward = branch(start, offset, h2 / tau, step, bits, columns - centre)
        downward = branch(start, -offset, h2 / tau, step, bits, columns + centre)
        row = downward[:0:-1] + upward
        first = columns + centre - (len(downward) - 1)
        for total, table, scale, f in zip(totals, tables, scales, functions, strict=True):
            dot = sum(map(int.__mul__, row, table[first : first + len(row)]))
            total.append(weight * f(z) * scale * mpf(dot) / one / one)
    return [mp.fsum(total) for total in totals]


def branch(start: int, offset: mpf, spacing: mpf, step: int, bits: int, room: int) -> list[int]:
    """φ(offset + n spacing) in fixed point, n = 0, 1, …, until it vanishes or the table ends."""
    ratio = int(mp.nint(mp.exp(-offset * spacing - spacing**2 / 2) * (1 << bits)))
    values = [start]
    while values[-1] and len(values) <= room:
        values.append(values[-1] * ratio >> bits)
        ratio = ratio * step >> bits
    return values


def by_limit(f: Function, limit: str, a: mpf, b: mpf, k: mpf) -> mpf:
    """⟨AA⟩ + ⟨Ae⟩ + ⟨eA⟩ + ⟨ee⟩ of f = A + e with A = f at large |z| and e = 0 beyond |z| = 90; not near collinear."""
    det = a * b - k * k
    gamma = k / det
    if abs(gamma) * 8100 > mpf("0.01"):
        raise ValueError("the remainder is not small against the kernel: this road is for huge and not collinear K")
    nodes = [(z, w, f(z) - LIMIT[limit](z)) for z, w in points([mpf(n) for n in range(-90, 91)], 4)]
    total = LIMIT_PAIR[limit](a, b, k)
    for own, its in ((a, b), (b, a)):
        tau = mp.sqrt((own * its - k * k) / own)
        total += mp.fsum(
            w * e * density(z / mp.sqrt(own)) / mp.sqrt(own) * LIMIT_MEAN[limit](k / own * z, tau) for z, w, e in nodes
        )
    # p(z₁, z₂) ∝ e^{-b z₁²/2det} e^{-a z₂²/2det} Σ_n (γ z₁ z₂)ⁿ/n!
    for n in range(12):
        left = mp.fsum(w * e * z**n * mp.exp(-b * z * z / (2 * det)) for z, w, e in nodes)
        right = mp.fsum(w * e * z**n * mp.exp(-a * z * z / (2 * det)) for z, w, e in nodes)
        total += gamma**n / mp.factorial(n) * left * right / (2 * mp.pi * mp.sqrt(det))
    return total


LIMIT = {
    "zero": lambda z: mpf(0),
    "sign": mp.sign,
    "step": lambda z: mpf(z > 0),
    "relu": lambda z: max(z, mpf(0)),
}
LIMIT_MEAN = {
    "zero": lambda m, tau: mpf(0),
    "sign": lambda m, tau: mp.erf(m / tau / mp.sqrt(2)),
    "step": lambda m, tau: below(m / tau),
    "relu": lambda m, tau: m * below(m / tau) + tau * density(m / tau),
}


def angle(a: mpf, b: mpf, k: mpf) -> mpf:
    return mp.atan2(mp.sqrt(a * b - k * k), k)


def relu_pair(a: mpf, b: mpf, k: mpf) -> mpf:
    t = angle(a, b, k)
    return (mp.sqrt(a * b - k * k) + (mp.pi - t) * k) / (2 * mp.pi)


LIMIT_PAIR = {
    "zero": lambda a, b, k: mpf(0),
    "sign": lambda a, b, k: 1 - 2 * angle(a, b, k) / mp.pi,
    "step": lambda a, b, k: (mp.pi - angle(a, b, k)) / (2 * mp.pi),
    "relu": relu_pair,
}


@dataclass(frozen=True)
class Corner:
    """Odd σ, analytic on each side of 0.

    z₁ = √a r cos θ, z₂ = √b r cos(θ − t), cos t = k/√(ab): in sectors of θ of constant signs the integrand is analytic.
    """

    s: Function
    ds: Function

    def pair(self, a: mpf, b: mpf, k: mpf) -> tuple[mpf, mpf]:
        t, small = angle(a, b, k), min(1, 1 / mp.sqrt(max(a, b)))
        radii = [(r, w * r * mp.exp(-r * r / 2) / mp.pi) for r, w in points(from_zero(small / 2), 4)]
        ss, dsds = [], []
        for low, high in ((-mp.pi / 2, t - mp.pi / 2), (t - mp.pi / 2, mp.pi / 2)):  # the other half by z → −z
            for theta, weight in points(ladder(low, high, small / 16, mpf(1)), 4):
                one, two = mp.sqrt(a) * mp.cos(theta), mp.sqrt(b) * mp.cos(theta - t)
                ss.append(weight * mp.fsum(w * self.s(one * r) * self.s(two * r) for r, w in radii))
                dsds.append(weight * mp.fsum(w * self.ds(one * r) * self.ds(two * r) for r, w in radii))
        return mp.fsum(ss), mp.fsum(dsds)

    def diagonal(self, a: mpf) -> tuple[mpf, mpf]:
        return single(lambda z: self.s(z) ** 2, a), single(lambda z: self.ds(z) ** 2, a)


def from_zero(smallest: mpf) -> list[mpf]:
    splits = [mpf(0), smallest]
    while splits[-1] < REACH:
        splits.append(min(REACH, splits[-1] + min(splits[-1], mpf(1))))
    return splits
