"""Finding what was not declared: the kinks of σ, and its parity.

Take ReLU: automatic differentiation gives σ' = 0 on the left and 1 on the right, each consistent with σ'' = 0 around
it; that the two do not fit together is seen only across z = 0. So: on a fine grid, compare the change of σ, σ', σ'' and
σ''' over each cell with the change that the next derivatives at its two ends predict (trapezoid rule, with the
Euler–Maclaurin term where one more derivative is at hand). Where they disagree, halve the cell and keep the half that
disagrees more. Smooth variation, however rapid, is soon resolved, for the disagreement falls by 8 or more per halving;
a jump stays, down to neighbouring floats. Where a cell had to be halved before σ was smooth on it, σ has a transition:
`finitewidth.activations.transitions`, where a second, much denser grid of values of σ alone is searched for more cells.

What this can miss: features narrower than 2e-4 |z| (see there) that leave no trace on either side; jumps smaller than
1e-9 of σ⁽ᵏ⁾ around them; jumps in σ'''' and beyond, which hardly disturb an average; anything beyond |z| = 1e4.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from finitewidth.activations.transitions import Resolved, cells_beside, striking_runs, transitions
from finitewidth.errors import InputError

if TYPE_CHECKING:
    from finitewidth.activations.activation import Activation

_ORDERS = (0, 1, 2, 3, 4)  # jumps are looked for in all but the last, which predicts
_BATCH = 4096  # every evaluation has this size, so that one program is compiled
_MOST_KINKS = 64
_NEAREST, _FARTHEST = 1e-6, 1e4
_ZERO = 1e-100  # ±_ZERO are the two sides of 0
_LOCAL_TOLERANCE, _FLOOR, _NOISE = 1e-9, 1e-10, 1e4 * np.finfo(float).eps
_SINGULAR = 1e-10  # so narrow, relative to |z|, a transition seems where a derivative is infinite
_ROUNDING = 64 * np.finfo(float).eps

_FAR = np.geomspace(_NEAREST, _FARTHEST, _BATCH // 2 - 1)
_NEAR = np.linspace(-10.0, 10.0, _BATCH)  # an even number of points: none is 0
_GRID = np.unique(np.concatenate([-_FAR, [-_ZERO, _ZERO], _FAR, _NEAR]))
_TELLING = np.array(
    [0.0, *(s * z for z in (1.0, 0.5, 2.0, 3.0, 0.1, 5.0, 10.0, 30.0, 1e2, 1e3, _FARTHEST) for s in (-1, 1))]
)


class _TooMany(Exception):
    """More kinks than can be listed."""


class Found(NamedTuple):
    """Kinks, and transitions with their widths, each in ascending order."""

    kinks: tuple[float, ...]
    transitions: tuple[tuple[float, float], ...]


def find_kinks(activation: "Activation", declared: tuple[float, ...] = ()) -> Found:
    """The points where σ, σ', σ'' or σ''' jumps, and where it changes fast without a jump.

    Arguments
        activation: its `function` is evaluated with four derivatives, on |z| ≤ 1e4.
        declared: kinks that are known, which are kept. With them σ may jump at more places than can be listed.

    Raises
        InputError: if σ is NaN somewhere, has a pole or cannot be differentiated, and if there are more than 64 kinks,
            none of them declared.
    """
    values = _evaluate(activation, _GRID)
    _check_values(activation, values)
    scan = _Scan(activation, np.abs(_GRID), values)
    try:
        kinks = _all_kinks(scan, _Cells.of(_GRID, values), list(declared))
    except _TooMany as too_many:
        if not declared:
            raise InputError(str(too_many)) from None
        return Found(declared, ())
    narrow = transitions(activation, scan.resolved, kinks)
    singular = _singular(activation, narrow)
    kinks = _distinct(kinks + [c for c, _ in singular])
    narrow = tuple(transition for transition in narrow if transition not in [of for _, of in singular])
    return Found(tuple(sorted(kinks)), narrow)


def _all_kinks(scan: "_Scan", cells: "_Cells", known: list[float]) -> list[float]:
    """Those in the cells of a grid, and where the search goes on from there."""
    activation = scan.activation
    kinks = _distinct(known + scan.kinks(cells))
    runs, nan = striking_runs(activation)
    if nan is not None:
        raise _not_finite(activation, np.nan, nan)
    if len(runs):
        kinks = _distinct(kinks + scan.kinks(_Cells.of_runs(activation, runs)))
    found = kinks
    for _ in range(3):  # one halving follows one kink: look again beside those found
        if not found:
            break
        found = [c for c in scan.kinks(_beside(activation, found)) if not _contains(kinks, c)]
        kinks = _distinct(kinks + found)
        _check_count(activation, kinks)
    return _distinct(kinks + scan.kinks(_Cells.between(activation, *cells_beside(kinks))))


def find_parity(activation: "Activation") -> Literal["odd", "even", "none"]:
    """Whether σ(−z) = −σ(z) or σ(z), to a few units in the last place, at some two thousand points up to |z| = 1e4
    and on transitions."""
    kinks = np.asarray(activation.kinks)
    if not np.allclose(kinks, -kinks[::-1], rtol=1e-12, atol=0.0):
        return "none"
    z = np.concatenate([np.geomspace(_NEAREST, _FARTHEST, 1024), np.linspace(0.01, 10.0, 1024)])
    narrow = [place + width * np.linspace(-3.0, 3.0, 25) for place, width in activation.transitions]
    z = np.concatenate([z, *narrow])
    z = z[~np.isin(z, kinks)]
    plus, minus = activation.evaluate(z)[0], activation.evaluate(-z)[0]
    with np.errstate(invalid="ignore"):
        allowed = 4 * np.finfo(float).eps * np.abs(plus)
        if np.all((plus == minus) | (np.abs(plus - minus) <= allowed)):
            return "even"
        if np.all((plus == -minus) | (np.abs(plus + minus) <= allowed)):
            return "odd"
    return "none"


@dataclass(frozen=True)
class _Cells:
    """Intervals [a, b], the values of σ⁽⁰⁾ … σ⁽⁴⁾ at both ends, shape (5, cells), and the order each one watches."""

    a: np.ndarray
    b: np.ndarray
    at_a: np.ndarray
    at_b: np.ndarray
    order: np.ndarray

    @staticmethod
    def of(grid: np.ndarray, values: np.ndarray) -> "_Cells":
        """All cells of a grid, each once for every watched order."""
        n, m = len(_ORDERS) - 1, len(grid) - 1
        a, b, at_a, at_b = (np.tile(x, n) for x in (grid[:-1], grid[1:], values[:, :-1], values[:, 1:]))
        return _Cells(a, b, at_a, at_b, np.repeat(np.arange(n), m))

    @staticmethod
    def of_runs(activation: "Activation", runs: np.ndarray) -> "_Cells":
        """All cells between neighbours of each run of points, shape (runs, points), but for one across 0."""
        grid = runs.ravel()
        cells = _Cells.of(grid, _evaluate(activation, grid))
        joins_runs = np.tile(np.arange(len(grid) - 1) % runs.shape[1] == runs.shape[1] - 1, len(_ORDERS) - 1)
        return cells[~joins_runs & (cells.b > cells.a) & (cells.a * cells.b >= 0)]

    @staticmethod
    def between(activation: "Activation", a: np.ndarray, b: np.ndarray) -> "_Cells":
        """The cells [a, b], which may overlap."""
        both = _Cells.of(np.stack([a, b], 1).ravel(), _evaluate(activation, np.stack([a, b], 1).ravel()))
        return both[np.tile(np.arange(2 * len(a) - 1) % 2 == 0, len(_ORDERS) - 1)]

    def __getitem__(self, chosen: np.ndarray) -> "_Cells":
        return _Cells(self.a[chosen], self.b[chosen], self.at_a[:, chosen], self.at_b[:, chosen], self.order[chosen])

    def watched(self, shift: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """σ⁽ᵒʳᵈᵉʳ⁺ˢʰⁱᶠᵗ⁾ at a and at b; zero beyond the last derivative, and where it is not finite."""
        row = np.minimum(self.order + shift, len(_ORDERS) - 1)
        at_a, at_b = (v[row, np.arange(len(row))] for v in (self.at_a, self.at_b))
        is_known = self.order + shift < len(_ORDERS)
        return np.where(is_known & np.isfinite(at_a), at_a, 0.0), np.where(is_known & np.isfinite(at_b), at_b, 0.0)

    def surprise(self) -> np.ndarray:
        """The change over the cell that its derivatives do not explain."""
        h = self.b - self.a
        (g_a, g_b), (d_a, d_b), (s_a, s_b) = (self.watched(shift) for shift in (0, 1, 2))
        row, column = self.order, np.arange(len(self.a))
        is_known = np.isfinite(self.at_a[row, column]) & np.isfinite(self.at_b[row, column])
        return np.where(is_known, np.abs(g_b - g_a - h * (0.5 * (d_a + d_b) - h * (s_b - s_a) / 12)), 0.0)


class _Scan:
    """A search among the cells of a grid, for one activation."""

    def __init__(self, activation: "Activation", distance: np.ndarray, values: np.ndarray) -> None:
        # How large σ … σ⁽ᵏ⁾ are up to a distance: rounding is relative to that, neither to a tail that has died
        # away nor to a derivative that should vanish (σ'' of √z²).
        self.activation = activation
        by_distance = np.argsort(distance, kind="stable")
        far_enough = by_distance[distance[by_distance] >= _NEAREST]
        self.distance = distance[far_enough]
        sizes = np.where(np.isfinite(values[:, far_enough]), np.abs(values[:, far_enough]), 0.0)
        self.largest = np.maximum.accumulate(np.maximum.accumulate(sizes, axis=1), axis=0)
        # and where only halving came upon a steep place: its rounding is felt in the tails, its size says no more
        self.steepest = np.zeros_like(self.largest)
        self.resolved = Resolved(np.zeros(0), np.zeros(0))

    def kinks(self, cells: _Cells) -> list[float]:
        """The kinks in these cells, one at most for each cell and order."""
        with np.errstate(over="ignore", invalid="ignore"):
            kinks: list[float] = []
            cells = cells[self.suspicious(cells)]
            while len(cells.a):
                ended = (cells.b - cells.a <= 2 * np.spacing(np.maximum(np.abs(cells.a), np.abs(cells.b)))) | (
                    (cells.a == -_ZERO) & (cells.b == _ZERO)
                )
                kinks = _distinct(kinks + self.confirmed(cells[ended]))
                _check_count(self.activation, kinks)
                cells = self.halved(cells[~ended])
            return kinks

    def column(self, distance: np.ndarray) -> np.ndarray:
        return np.searchsorted(self.distance, distance).clip(max=len(self.distance) - 1)

    def note_sizes(self, z: np.ndarray, values: np.ndarray) -> None:
        sizes = np.where(np.isfinite(values), np.abs(values), 0.0)
        np.maximum.at(self.steepest.T, self.column(np.abs(z)), sizes.T)
        self.steepest = np.maximum.accumulate(self.steepest, axis=1)

    def suspicious(self, cells: _Cells) -> np.ndarray:
        (g_a, g_b), (d_a, d_b) = cells.watched(0), cells.watched(1)
        far = np.maximum(np.abs(cells.a), np.abs(cells.b))
        column = self.column(np.maximum(3.0, 1.5 * far))
        allowed = (
            _LOCAL_TOLERANCE * np.maximum(np.abs(g_a), np.abs(g_b))
            + _FLOOR * self.largest[cells.order, column]
            + _ROUNDING * self.steepest[cells.order, column]
            + _NOISE * far * np.maximum(np.abs(d_a), np.abs(d_b))
        )
        return np.asarray(cells.surprise() > allowed)

    def halved(self, cells: _Cells) -> _Cells:
        """Of each cell the half that surprises more, if it is still suspicious."""
        if not len(cells.a):
            return cells
        middle, values = 0.5 * cells.a, np.full(cells.at_a.shape, np.nan)
        is_lost = np.ones(len(middle), dtype=bool)
        # σ' of √(z − 1)² is 0/0 at the kink itself, which halving loves to hit: step aside
        for fraction in (0.5, 0.38, 0.8):
            if is_lost.any():
                middle[is_lost] = _between(cells.a[is_lost], cells.b[is_lost], fraction)
                values[:, is_lost] = _evaluate(self.activation, middle[is_lost])
                is_lost = ~np.isfinite(values[cells.order, np.arange(len(middle))])
        self.check_poles(middle, values[0])
        self.note_sizes(middle, values)
        left = _Cells(cells.a, middle, cells.at_a, values, cells.order)
        right = _Cells(middle, cells.b, values, cells.at_b, cells.order)
        go_right = right.surprise() > left.surprise()
        half = _Cells(
            np.where(go_right, middle, cells.a),
            np.where(go_right, cells.b, middle),
            np.where(go_right, values, cells.at_a),
            np.where(go_right, cells.at_b, values),
            cells.order,
        )
        is_suspicious = self.suspicious(half)
        # the third derivative has but one more to predict it, and needs shorter cells than σ does
        self._note_resolved(half[~is_suspicious & (half.order < 3)])
        return half[is_suspicious]

    def _note_resolved(self, cells: _Cells) -> None:
        more = Resolved(0.5 * (cells.a + cells.b), cells.b - cells.a)
        self.resolved = Resolved(*(np.concatenate(pair) for pair in zip(self.resolved, more, strict=True)))

    def check_poles(self, z: np.ndarray, sigma: np.ndarray) -> None:
        """The halving runs into poles: there σ far exceeds all that the grid saw up to that distance."""
        column = self.column(np.maximum(3.0, 1.5 * np.abs(z)))
        is_pole = np.abs(sigma) > 1e6 * self.largest[0, column]
        if is_pole.any():
            raise InputError(
                f"`function` of activation {self.activation.name!r} diverges near z = {z[np.argmax(is_pole)]:.6g}; "
                "a preactivation takes every real value, so give a function that is finite on the whole line"
            )

    def confirmed(self, cells: _Cells) -> list[float]:
        """The cells, by now as short as cells can be, whose jump stands out of the noise on either side of it."""
        if not len(cells.a):
            return []
        size = np.maximum(np.abs(cells.a), np.abs(cells.b))
        steps = np.geomspace(4e-15, 1e-9, 12)[:, None] * size
        columns = np.arange(len(cells.a))
        noise = np.zeros(len(cells.a))
        for side in (cells.a - steps, cells.b + steps):
            values = _evaluate(self.activation, side.ravel()).reshape(len(_ORDERS), *side.shape)[
                cells.order, :, columns
            ]
            noise = np.maximum(noise, np.ptp(np.where(np.isfinite(values), values, 0.0), axis=1))
        g_a, g_b = cells.watched()
        real = np.abs(g_b - g_a) > 4 * noise
        return [_simplest(a, b) for a, b in zip(cells.a[real], cells.b[real], strict=True)]


def _evaluate(activation: "Activation", z: np.ndarray) -> np.ndarray:
    """σ⁽⁰⁾ … σ⁽⁴⁾ at z, shape (5, len(z)), in batches of one size."""
    batches = np.concatenate([z, np.full(-len(z) % _BATCH, z[-1])]).reshape(-1, _BATCH)
    try:
        values = [activation.evaluate(batch, _ORDERS) for batch in batches]
    except (TypeError, NotImplementedError) as error:
        raise InputError(
            f"`function` of activation {activation.name!r} cannot be differentiated ({error}); "
            "it needs forward-mode derivatives: use jax.custom_jvp rather than jax.custom_vjp"
        ) from error
    return np.concatenate(values, axis=1)[:, : len(z)]


def _check_values(activation: "Activation", values: np.ndarray) -> None:
    telling = _evaluate(activation, _TELLING)
    z = np.concatenate([_TELLING, _GRID])
    sigma = np.concatenate([telling[0], values[0]])
    is_bad = np.isnan(sigma) | (np.isinf(sigma) & (np.abs(z) <= 1.0))
    if is_bad.any():
        first = int(np.argmax(is_bad))
        raise _not_finite(activation, sigma[first], z[first])
    is_bad = np.isnan(values[1]) & (np.abs(_GRID) <= 30) & (np.abs(_GRID) >= _NEAREST)
    if is_bad.any():
        raise InputError(
            f"the derivative of activation {activation.name!r} is nan at z = {_GRID[np.argmax(is_bad)]:.6g}, "
            "where the function is not; keep branches that are not taken finite: jnp.where(c, f(jnp.where(c, z, 0)), …)"
        )


def _singular(
    activation: "Activation", narrow: tuple[tuple[float, float], ...]
) -> list[tuple[float, tuple[float, float]]]:
    """Where a derivative is infinite, as of |z − c|^1.5, and the transition that was found there: the search takes the
    values next to such a place for rounding noise, and what is left of it is as narrow as a transition can be."""
    found = [(_simplest(z - w, z + w), (z, w)) for z, w in narrow if w < _SINGULAR * abs(z)]
    if not found:
        return []
    is_finite = np.isfinite(_evaluate(activation, np.array([c for c, _ in found]))).all(0)
    return [each for each, finite in zip(found, is_finite, strict=True) if not finite]


def steepest(activation: "Activation") -> tuple[float, float]:
    """How σ' grows towards a kink c, as |z − c|⁻ᵖ: the largest p, and its c; p = 0 where it does not grow.

    ⟨σ'²⟩ is infinite for p ≥ ½, ⟨σ'⁴⟩ for p ≥ ¼.
    """
    most, at = 0.0, 0.0
    for c in activation.kinks:
        h = np.geomspace(16 * np.spacing(abs(c)), 1e-6 * abs(c), 5) if c else np.geomspace(1e-12, 1e-6, 5)
        z = np.concatenate([c - h, c + h])
        slopes = np.abs(activation.evaluate(z, (1,))[0]).reshape(2, -1)
        with np.errstate(divide="ignore", invalid="ignore"):
            power = -np.diff(np.log(slopes), axis=1) / np.diff(np.log(np.abs(z - c).reshape(2, -1)), axis=1)
        p = float(np.nan_to_num(power, nan=0.0, posinf=0.0, neginf=0.0).min(axis=1).max())  # at every distance
        if p > most + 0.01:
            most, at = p, c
    return most, at


def check_slopes(activation: "Activation") -> None:
    """Refuse a σ whose slope grows like |z − c|⁻ᵖ with p ≥ ½ at a kink: ⟨σ'²⟩ is infinite."""
    power, c = steepest(activation)
    if power > 0.49:
        raise InputError(
            f"the derivative of activation {activation.name!r} grows so fast towards z = {c:g} that its mean square is "
            "infinite, and with it gradients and the neural tangent kernel; smooth the function there, as in "
            "(z² + ε²)^(1/4) for √|z|; averages of the function alone: fw.expectation"
        )


def _not_finite(activation: "Activation", sigma: float, z: float) -> InputError:
    return InputError(
        f"`function` of activation {activation.name!r} is {sigma:g} at z = {z:.6g}; "
        "a preactivation takes every real value, so give a function that is finite on the whole line"
    )


def _check_count(activation: "Activation", kinks: list[float]) -> None:
    if len(kinks) > _MOST_KINKS:
        shown = ", ".join(f"{k:g}" for k in sorted(kinks, key=abs)[:4])
        raise _TooMany(
            f"activation {activation.name!r} seems to jump at more than {_MOST_KINKS} points ({shown}, …); "
            "declare those that matter: Activation(function, kinks=(…))"
        )


def _beside(activation: "Activation", kinks: list[float]) -> _Cells:
    """Cells on both sides of each kink, the shortest ones next to it, none across it."""
    runs = []
    for c in kinks:
        reach, hair = (0.02 * abs(c), 64 * np.spacing(abs(c))) if c else (1e-3, _ZERO)
        steps = np.concatenate([[hair], np.geomspace(1e-10 * reach, reach, 100)])
        runs += [c - steps[::-1], c + steps]
    return _Cells.of_runs(activation, np.array(runs))


def _simplest(a: float, b: float) -> float:
    """The number with the fewest decimals in [a, b], give or take a unit in the last place."""
    low, high = np.nextafter(a, -np.inf), np.nextafter(b, np.inf)
    if low <= 0.0 <= high:
        return 0.0
    middle = 0.5 * (a + b)
    shortest = (float(f"{middle:.{digits}g}") for digits in range(1, 18))
    return next((c for c in shortest if low <= c <= high), float(middle))


def _between(a: np.ndarray, b: np.ndarray, fraction: float) -> np.ndarray:
    """A point in each [a, b]; in the geometric sense where the ends differ much, as next to a singularity at 0."""
    near, far = np.sort(np.abs([a, b]), axis=0)
    is_geometric = (np.sign(a) == np.sign(b)) & (far > 4 * near)
    return np.where(is_geometric, np.sign(a) * near**fraction * far ** (1 - fraction), a + fraction * (b - a))


def _contains(kinks: list[float], c: float) -> bool:
    return any(abs(c - k) <= 1e-13 * max(abs(c), abs(k)) for k in kinks)


def _distinct(kinks: list[float]) -> list[float]:
    kept: list[float] = []
    for c in kinks:
        if not _contains(kept, c):
            kept.append(c)
    return kept
