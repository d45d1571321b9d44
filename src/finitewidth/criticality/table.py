"""⟨σ²⟩, d⟨σ²⟩/dK and ⟨σ'²⟩ on a logarithmic grid of kernels: where roots are looked for and what phase diagrams
interpolate."""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from finitewidth.activations import Activation
from finitewidth.criticality.susceptibility import Susceptibility, susceptibility
from finitewidth.errors import InputError


@dataclass(frozen=True, eq=False)
class Table:
    """g = ⟨σ²⟩, g' = d⟨σ²⟩/dK and p = ⟨σ'²⟩ (for C_W = 1) at increasing K > 0, with absolute errors; p is NaN where σ
    jumps.

    `overflows_above` is the kernel above which the averages leave float64 or cannot be resolved, or None. The grid
    ends there; it begins later than asked where σ loses its digits near 0.
    """

    K: np.ndarray
    mean_square: np.ndarray
    parallel: np.ndarray
    perp: np.ndarray
    parallel_error: np.ndarray
    perp_error: np.ndarray
    jumps: tuple[float, ...]
    overflows_above: float | None


PER_DECADE = 16
WIDE = (1e-8, 1e6)


@lru_cache(maxsize=64)
def moment_table(activation: Activation, K_range: tuple[float, float], per_decade: int) -> Table:
    """The averages on a uniform grid of log K over `K_range`, cut off where they overflow; kept for those used last.

    Raises
        InputError: `K_range` not increasing and positive, or no kernel in it at which the averages are finite.
    """
    low, high = (float(K) for K in K_range)
    if not (0 < low < high < math.inf):
        raise InputError(f"`K_range` must be two increasing positive kernels, but got {K_range!r}")
    K = np.geomspace(low, high, max(2, 1 + round(per_decade * math.log10(high / low))))
    # one call a decade: a σ that oscillates needs many nodes at large K, and only there
    runs = np.array_split(K, max(1, round(math.log10(high / low))))
    first = next((i for i, run in enumerate(runs) if run[-1] >= 1.0), len(runs) - 1)
    start = susceptibility(activation, runs[first]) if len(runs) == 1 else _try(activation, runs[first])
    if start is None:
        count = _longest_finite(activation, runs[first])
        parts = [susceptibility(activation, runs[first][: max(1, count)])]
        ends = True
    else:
        parts, ends = [start], False
    for run in runs[first + 1 :] if not ends else []:
        part = _try(activation, run)
        if part is None:
            count = _longest_finite(activation, run)
            parts += [] if count == 0 else [susceptibility(activation, run[:count])]
            ends = True
            break
        parts.append(part)
    for run in runs[:first][::-1]:
        part = _try(activation, run)
        if part is None:  # σ computed with cancellation near 0, for instance z − tanh z
            break
        parts.insert(0, part)
    return _join(parts, float(parts[-1].K[-1]) if ends else None)


def _try(activation: Activation, K: np.ndarray) -> Susceptibility | None:
    try:
        return susceptibility(activation, K)
    except InputError:
        return None


def _longest_finite(activation: Activation, run: np.ndarray) -> int:
    good, bad = 0, len(run)
    while bad - good > 1:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if _try(activation, run[:middle]) is not None else (good, middle)
    return good


def _join(parts: list[Susceptibility], overflows_above: float | None) -> Table:
    return Table(
        K=np.concatenate([s.K for s in parts]),
        mean_square=np.concatenate([s.mean_square.value for s in parts]),
        parallel=np.concatenate([s.parallel.value for s in parts]),
        perp=np.concatenate([s.perp.value for s in parts]),
        parallel_error=np.concatenate([s.parallel.error for s in parts]),
        perp_error=np.concatenate([s.perp.error for s in parts]),
        jumps=parts[0].jumps,
        overflows_above=overflows_above,
    )
