r"""⟨f(z₁, …, z_m)⟩ over a few independent variables, z = L x: one integral inside the other, or a lattice.

**Panels.** Integrals over x_r, …, x₁ are nested, each by Gauss–Legendre panels as in `plane`. A kink of f in one of its
arguments, z_i = κ, is a plane; panels in x_r end on the planes that contain x_r. Where two such planes meet, the
integral over x_r has a kink of its own, so the same is done for x_{r−1} with their intersections, projected along x_r,
and so on outwards.

**Lattice.** Without kinks the trapezoid rule is better in three and four variables: for f analytic within a distance d
of the real axis its error is e^{−2πd/h}, on a fraction of the nodes.

Both are compared with themselves at another resolution, and refined until they agree.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from finitewidth.gaussian.estimate import Estimate
from finitewidth.gaussian.plane import panels

Function = Callable[[np.ndarray], np.ndarray]
"""From x of shape (n, rank) to values of shape (functions, n)."""

_EPS = float(np.finfo(float).eps)
_LONGEST = 2.9
_NODES = 1 << 15  # evaluated at a time, always this many: JAX compiles a program for each shape
_ROWS = 4096
_MOST_NODES = {2: 20_000_000, 3: 30_000_000, 4: 25_000_000}
# orders of the two rules and the length of panels, in turn
_RULES = {
    2: ((14, 11, 1.0), (14, 11, 0.5), (14, 11, 0.2)),
    3: ((10, 8, 1.0), (14, 11, 1.0), (14, 11, 0.6)),
    4: ((6, 5, 1.0), (8, 6, 1.0), (11, 9, 1.0)),
}
_SPACINGS = (0.7, 0.5, 0.36, 0.26, 0.18, 0.13)
_PARALLEL = 1e-13


class Plane(NamedTuple):
    """normal·x = offset, where f has a kink or (`is_kink` false) changes on a scale of `width` in normal·x."""

    normal: np.ndarray
    offset: float
    width: float
    is_kink: bool


class Found(NamedTuple):
    """An average, and the average of |f| that its error is measured against."""

    estimate: Estimate
    size: np.ndarray


class Sums(NamedTuple):
    """Σ w f and Σ w |f| over the nodes of a rule."""

    value: np.ndarray
    size: np.ndarray

    def goal(self, rtol: float) -> np.ndarray:
        """An average that vanishes by symmetry is resolved against the average of the modulus."""
        return rtol * np.maximum(np.abs(self.value), 1e-2 * self.size)


def by_panels(f: Function, planes: list[Plane], rank: int, reach: float, rtol: float) -> Found | None:
    """The average over x ~ N(0, 1) of `rank` variables, or None where panels would need too many nodes."""
    levels = levels_of(planes, rank)
    best = before = None
    for order, coarser, scale in _RULES[rank]:
        if _count(levels, order, scale, reach) + _count(levels, coarser, scale, reach) > _MOST_NODES[rank]:
            break
        fine, coarse = (_total(f, nested_nodes(levels, n, scale, reach), rank) for n in (order, coarser))
        error = np.abs(fine.value - coarse.value)
        is_done = bool(np.all(error <= fine.goal(rtol)))
        if before is not None and not is_done:
            error = np.maximum(error, np.abs(fine.value - before))
        best = Found(Estimate(fine.value, error + 8 * _EPS * fine.size, "nested panels"), fine.size)
        before = fine.value
        if is_done:
            break
    return best


def by_lattice(f: Function, rank: int, reach: float, rtol: float) -> Found | None:
    """The same by the trapezoid rule, for f without kinks."""
    best = before = None
    for i, h in enumerate(_SPACINGS):
        if (2 * reach / h) ** rank > _MOST_NODES[rank]:
            break
        # shifts keep a kink from lying at the same place of every lattice
        found = _total(f, _lattice(rank, h, 0.31 * i, reach), rank)
        if before is not None:
            error = np.abs(found.value - before)
            best = Found(Estimate(found.value, error + 8 * _EPS * found.size, "lattice"), found.size)
            if np.all(error <= found.goal(rtol)):
                break
        before = found.value
    return best


def levels_of(planes: list[Plane], rank: int) -> list[list[Plane]]:
    """For each variable, outermost first, the planes at which its panels end or are short."""
    levels: list[list[Plane]] = []
    for level in range(rank - 1, -1, -1):
        here: list[Plane] = []
        further: list[Plane] = []
        for plane in planes:
            is_here = abs(plane.normal[level]) > _PARALLEL * np.abs(plane.normal).max(initial=0.0)
            (here if is_here else further).append(plane._replace(normal=plane.normal[: level + 1]))
        levels.insert(0, here)
        planes = further + _projected(here, level)
    return levels


def _projected(planes: list[Plane], level: int) -> list[Plane]:
    """What the integral over x_level leaves of its planes: a blurred step across each, and a kink where two meet."""
    found = []
    for plane in planes:
        # the Gaussian in x_level blurs a kink over this scale, and what had a width over more
        width = (0.0 if plane.is_kink else plane.width) + 1.5 * abs(plane.normal[level])
        found.append(plane._replace(width=width, is_kink=False))
    for i, u in enumerate(planes):
        for v in planes[:i]:
            a, b = u.normal[level], v.normal[level]
            normal = a * v.normal - b * u.normal
            size = max(abs(a), abs(b))
            width = (abs(a) * v.width + abs(b) * u.width) / size
            found.append(Plane(normal / size, (a * v.offset - b * u.offset) / size, width, u.is_kink and v.is_kink))
    plain = [p._replace(normal=p.normal[:level]) for p in found]
    scale = max((np.abs(p.normal).max() for p in planes), default=0.0)
    return _distinct([p for p in plain if level and np.abs(p.normal).max() > _PARALLEL * scale])


def _distinct(planes: list[Plane]) -> list[Plane]:
    kept: dict[tuple[float, ...], Plane] = {}
    for p in planes:
        lead = p.normal[np.argmax(np.abs(p.normal))]
        key = (*np.round(np.append(p.normal, p.offset) / lead, 12), p.is_kink)
        if key not in kept or p.width / abs(lead) < kept[key].width / np.abs(kept[key].normal).max():
            kept[key] = p
    return list(kept.values())


def _at(level: list[Plane], prefix: np.ndarray, reach: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Edges, centers and widths of the panels of one variable, for each row of the variables before it."""
    rows = len(prefix)
    n = int(np.ceil(2 * reach / _LONGEST))
    base = np.broadcast_to(np.linspace(-reach, reach, n + 1), (rows, n + 1))
    if not level:
        return base, np.zeros((rows, 0)), np.zeros((rows, 0))
    normals, offsets = np.stack([p.normal for p in level]), np.array([p.offset for p in level])
    centers = (offsets - prefix @ normals[:, :-1].T) / normals[:, -1]
    widths = np.broadcast_to(np.array([p.width for p in level]) / np.abs(normals[:, -1]), centers.shape)
    kinks = np.clip(centers[:, [p.is_kink for p in level]], -reach, reach)
    return np.concatenate([base, kinks], axis=1), centers, widths


def _count(levels: list[list[Plane]], order: int, scale: float, reach: float) -> float:
    """About how many nodes nested panels have: those around the origin."""
    counts = [len(panels(*_at(level, np.zeros((1, i)), reach), scale).row) for i, level in enumerate(levels)]
    return float(np.prod(np.array(counts, dtype=float) * order))


Nodes = Iterator[tuple[np.ndarray, np.ndarray]]


def nested_nodes(levels: list[list[Plane]], order: int, scale: float, reach: float) -> Nodes:
    """Nodes, shape (n, rank), and weights with the Gaussian, in portions."""
    # in the corners of the cube the Gaussian is far below what its faces cut off
    negligible = np.exp(-0.5 * reach * reach) * 1e-6

    def inside(prefix: np.ndarray, weight: np.ndarray, level: int) -> Nodes:
        for at in range(0, len(prefix), _ROWS):
            rows, above = prefix[at : at + _ROWS], weight[at : at + _ROWS]
            found = panels(*_at(levels[level], rows, reach), scale)
            for some in found.portions(_NODES // order):
                x, inner = some.nodes(order)
                total = (above[some.row][:, None] * inner).ravel()
                points = np.concatenate([np.repeat(rows[some.row], order, axis=0), x.reshape(-1, 1)], axis=1)
                is_kept = total > negligible
                if level == len(levels) - 1:
                    yield points[is_kept], total[is_kept]
                else:
                    yield from inside(points[is_kept], total[is_kept], level + 1)

    return inside(np.zeros((1, 0)), np.ones(1), 0)


def _lattice(rank: int, h: float, shift: float, reach: float) -> Nodes:
    x = h * (np.arange(-np.ceil(reach / h), np.ceil(reach / h) + 1) + shift)
    rest = np.stack(np.meshgrid(*[x] * (rank - 1), indexing="ij"), axis=-1).reshape(-1, rank - 1)
    squares = (rest * rest).sum(1)
    for first in x:
        is_kept = squares + first * first <= reach * reach
        points = np.concatenate([np.full((int(is_kept.sum()), 1), first), rest[is_kept]], axis=1)
        yield points, (h / np.sqrt(2 * np.pi)) ** rank * np.exp(-0.5 * (points * points).sum(1))


def _total(f: Function, nodes: Nodes, rank: int) -> Sums:
    value = size = np.zeros(1)
    for x, weight in _in_fixed_portions(nodes, rank):
        values = f(x)
        values *= weight  # a product by BLAS would wake its threads for a thousandth of a second of work
        value, size = value + values.sum(1), size + np.abs(values).sum(1)
    return Sums(value, size)


def _in_fixed_portions(nodes: Nodes, rank: int) -> Nodes:
    """The same nodes, `_NODES` at a time; the last portion is filled up at weight 0."""
    points, weights, count = [np.zeros((0, rank))], [np.zeros(0)], 0
    for x, w in nodes:
        points.append(x)
        weights.append(w)
        count += len(w)
        if count >= _NODES:
            x, w = np.concatenate(points), np.concatenate(weights)
            whole = count - count % _NODES
            for at in range(0, whole, _NODES):
                yield x[at : at + _NODES], w[at : at + _NODES]
            points, weights, count = [x[whole:]], [w[whole:]], count - whole
    if count:
        x, w = np.concatenate(points), np.concatenate(weights)
        # a point of the rule, since f need not be finite at the origin
        fill = np.broadcast_to(x[-1:], (_NODES - count, rank))
        yield np.concatenate([x, fill]), np.concatenate([w, np.zeros(_NODES - count)])
