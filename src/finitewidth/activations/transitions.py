"""Where σ changes fast: steps, peaks and wiggles much narrower than 1, found and measured.

An integral over a Gaussian takes a few nodes per unit of z, and walks past a smooth step of width 1e-6 as past a jump.
So half a million values of σ are looked at, equally spaced in arsinh z, hence as dense everywhere relative to |z|.
Where their fourth difference stands out from what is usual around it, a fine search follows (`activations.kinks`): it
halves cells until they hold a jump, or until they are so short that σ is a smooth function on them, and the length of
these cells is how narrow σ is there. Each place with its width is one transition, from which panels may grow outwards.

What this can miss: features narrower than 2e-4 |z|, and for |z| < 1e-6 than 2e-10, that leave no trace on either side,
or which change σ by less than 1e-9 of its size around there.
"""

from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.ndimage import minimum_filter1d

if TYPE_CHECKING:
    from finitewidth.activations.activation import Activation

_NEAREST, _FARTHEST = 1e-6, 1e4
_BLOCK, _BLOCKS = 128, 4096
_AT_A_TIME = 1 << 16  # values in cache, and of a size for which `Activation.evaluate` has compiled σ before
_MARGIN = 4
_TOLERANCE, _STANDS_OUT, _AROUND = 1e-11, 100.0, 16
_MOST_SEARCHED = 64

_CELL = 100.0  # the width of tanh (1), in lengths of the cells on which the search finds it smooth
_NARROW = 0.3  # wider ones need no help
_ABRUPT = 0.02
_MOST = 32
_SINGULAR = 1e-9
_STEPS = 0.3 * 3.0 ** -np.arange(16.0)


class Resolved(NamedTuple):
    """Cells at which the search for kinks found σ smooth in the end: their middles and lengths."""

    middle: np.ndarray
    length: np.ndarray


def striking_runs(activation: "Activation") -> tuple[np.ndarray, float | None]:
    """Runs of neighbouring points around which σ changes in a striking way, shape (runs, points); where σ is NaN."""
    z = _grid()
    values = np.concatenate([activation.evaluate(part)[0] for part in z.reshape(-1, _AT_A_TIME)])
    is_nan = np.isnan(values)
    if is_nan.any():
        return np.zeros((0, 2)), float(z[np.argmax(is_nan)])
    with np.errstate(invalid="ignore", over="ignore"):
        # each block's differences, those that reach into the next one too
        fourth = np.abs(np.diff(values, 4, append=np.full(4, np.nan)))
    fourth[-4:] = 0.0
    size, change = (x.reshape(_BLOCKS, _BLOCK).max(1) for x in (np.abs(values), fourth))
    size, change = (np.where(np.isfinite(x), x, 0.0) for x in (size, change))
    usual = minimum_filter1d(change, 2 * _AROUND + 1, mode="nearest")
    prominence = change / np.maximum(np.maximum(_TOLERANCE * _size_around(size), _STANDS_OUT * usual), 1e-300)
    found = np.argsort(-prominence, kind="stable")[: min(_MOST_SEARCHED, np.count_nonzero(prominence > 1))]
    at = np.sort(found)[:, None] * _BLOCK + np.arange(-_MARGIN, _BLOCK + _MARGIN)
    return z[np.clip(at, 0, len(z) - 1)], None


def transitions(activation: "Activation", resolved: Resolved, kinks: list[float]) -> tuple[tuple[float, float], ...]:
    """(z, width) of each narrow transition, ascending in z, without those that a narrower one nearby takes care of.

    Oscillations that go on for ever have no place and are left out.
    """
    width = _CELL * resolved.length
    kept = (width < _NARROW) & ~_of_kinks(resolved, width, kinks)
    found = _measured(activation, _apart(resolved.middle[kept], width[kept]))
    return tuple(sorted(_apart(*np.array(found).T))) if found else ()


def _apart(place: np.ndarray, width: np.ndarray) -> list[tuple[float, float]]:
    """The narrowest ones, without those that lie on panels short enough for them."""
    found: list[tuple[float, float]] = []
    for i in np.argsort(width, kind="stable"):
        # panels beside (c, w) are 2w + 3/2 of their distance long, which may do here as well
        if all(2 * w + 1.5 * abs(place[i] - c) > 6 * width[i] for c, w in found):
            found.append((float(place[i]), float(width[i])))
        if len(found) > _MOST:  # σ oscillates: what is much narrower than that came first
            return [(c, w) for c, w in found if w < 0.1 * width[i]]
    return found


def _measured(activation: "Activation", found: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Moved to the middle of |σ''| around there, with widths of at most max |σ'| / max |σ''|.

    For the search may end on cells of one length all along a step, and rounding of z ends it on longer ones.
    """
    if not found:
        return []
    place, width = np.array(found).T
    around = place[:, None] + width[:, None] * np.linspace(-2.0, 2.0, _AROUND * 4 + 1)
    slope, bend = np.abs(activation.evaluate(around, (0, 1, 2, 3, 4))[1:3])
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = np.nan_to_num(slope.max(axis=1) / bend.max(axis=1), nan=np.inf, posinf=np.inf)
        middle = (bend * around).sum(axis=1) / bend.sum(axis=1)
    place = np.where(np.isfinite(middle), middle, place)
    return list(zip(place.tolist(), np.clip(scale, 0.01 * width, width).tolist(), strict=True))


def cells_beside(kinks: list[float]) -> tuple[np.ndarray, np.ndarray]:
    """Ends of cells that begin at a kink or hold 0, of all lengths: short points next to them hide what is there."""
    pairs = [] if 0.0 in kinks else [(-steps, 1.1 * steps) for steps in [_STEPS]]
    for c in kinks:
        hair = np.full(len(_STEPS), 64 * np.spacing(abs(c)) if c else 1e-100)
        steps = _STEPS[4 * hair < _STEPS]
        hair = hair[: len(steps)]
        pairs += [(c - steps, c - hair), (c + hair, c + steps)]
    return np.concatenate([a for a, _ in pairs]), np.concatenate([b for _, b in pairs])


def at_origin(width: float) -> tuple[tuple[float, float], ...]:
    """The transition of a σ that changes at 0 on this scale, if that is narrow."""
    return ((0.0, width),) if width < _NARROW else ()


def is_abrupt(place: float, width: float) -> bool:
    """Whether a lattice, or a table's quadrature, steps over a transition."""
    return width < _ABRUPT * max(1.0, abs(place))


def graded_breaks(place: float, width: float) -> list[float]:
    """Points on both sides of a transition, the closest ones next to it, to end panels at."""
    steps = width * 3.0 ** np.arange(0.0, np.ceil(np.log(max(1.0, abs(place)) / width) / np.log(3.0)))
    return [place, *(place - steps), *(place + steps)]


@cache
def _grid() -> np.ndarray:
    reach = np.arcsinh(_FARTHEST / _NEAREST)
    return np.asarray(_NEAREST * np.sinh(np.linspace(-reach, reach, _BLOCK * _BLOCKS)))


def _size_around(size: np.ndarray) -> np.ndarray:
    """The largest |σ| within 3/2 of each block's distance from 0, or within 3."""
    distance = np.abs(_grid().reshape(_BLOCKS, _BLOCK).mean(1))
    outwards = np.argsort(distance, kind="stable")
    largest = np.maximum.accumulate(size[outwards])
    far = np.searchsorted(distance[outwards], np.maximum(3.0, 1.5 * distance))
    return np.asarray(largest[np.minimum(far, _BLOCKS - 1)])


def _of_kinks(resolved: Resolved, width: np.ndarray, kinks: list[float]) -> np.ndarray:
    """Which ones tell of a kink only: they hold it, or σ is singular there, as √|z|, on the scale |z| down to 0."""
    of_kink = np.zeros(len(width), dtype=bool)
    for kink in kinks:
        distance = np.abs(resolved.middle - kink)
        of_kink |= distance <= resolved.length
        near = ((width > distance) | (distance < _SINGULAR)) & ~of_kink
        if near.any() and width[near].min() < _SINGULAR * max(1.0, abs(kink)):
            of_kink |= near
    return of_kink
