"""⟨f(z₁, …, z_m)⟩_K for any f: the road is chosen by the rank of K, and every road says how far to believe it."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from finitewidth.architecture import real_array
from finitewidth.errors import InputError, TrustWarning
from finitewidth.gaussian.estimate import Estimate
from finitewidth.gaussian.factor import factor
from finitewidth.gaussian.line import average
from finitewidth.gaussian.nested import Found, Plane, by_lattice, by_panels
from finitewidth.gaussian.population import Population
from finitewidth.precision import float64

_REACH, _FAR = 8.6, 38.0
_NESTED_RANK = 4
_POPULATIONS = (1 << 12, 1 << 14, 1 << 16)
_WORST = 1e-2  # relative error of a population beyond which a warning is due
_UNSEEN_DIRECTIONS = 4.0  # how much larger f may be between those that are looked in
_NEARLY_PARALLEL = 0.1
_SLACK = 100.0  # and of quadrature, in units of rtol, or of what is good enough for so many variables:
_GOOD = {2: 0.0, 3: 1e-9, 4: 1e-7}


def expectation(
    f: Callable[..., Any],
    K: Any,
    *,
    kinks: Sequence[float] | Sequence[Sequence[float]] = (),
    rtol: float = 1e-10,
    seed: int = 0,
) -> Estimate:
    """The average of f(z₁, …, z_m) over jointly Gaussian z with zero mean and covariance K (PDLT ch. 1).

        ⟨f⟩_K = ∫ dz f(z₁, …, z_m) exp(−½ zᵀ K⁻¹ z) / √|2πK| ,

    also where K has no inverse: duplicated and collinear inputs, and inputs of zero variance, are integrated over once.
    Up to rank 4 by quadrature, beyond by a quasi-random population.

    Arguments
        f: a function of m arrays of shape (n,), JAX or NumPy, applied elementwise; returns an array of shape (n,), or
            (…, n) for several functions at once.
        K: covariance, shape (m, m): symmetric, positive semidefinite.
        kinks: where f is not smooth in its arguments: one tuple for all of them, or one for each. Kinks that are not
            given cost digits; the error says how many.
        rtol: relative accuracy aimed at.
        seed: of the quasi-random population; the same seed gives the same numbers.

    Returns
        an `Estimate` of shape (…): value, absolute error, and the method that was used.

    Raises
        InputError: if K is not a covariance, f has the wrong shape, or is not finite where the Gaussian has weight.

    Warns
        TrustWarning: if the accuracy aimed at was missed by far.

    >>> import finitewidth as fw, jax.numpy as jnp
    >>> found = fw.expectation(lambda x, y: jnp.abs(x * y), [[1.0, 0.5], [0.5, 1.0]], kinks=(0.0,))
    >>> print(f"{found.value:.10f}")  # (2/π)(√(1 − c²) + c asin c)
    0.7179955621
    """
    K = real_array("K", K, "a matrix of covariances")
    if not 0 < rtol < 1:
        raise InputError(f"`rtol` must lie between 0 and 1, but got {rtol!r}")
    L = factor(K)
    m, rank = L.shape
    places = _kinks_by_argument(kinks, m)
    checked = _Checked(f, m)
    checked(0.5 * L.sum(axis=1, keepdims=True) * [1.0, -1.0])  # its shape, on the shortest arrays
    if rank == 0:
        value = checked.finite(np.zeros((m, 1)))[..., 0]
        return Estimate(value, 0.0 * value, "point")
    if rank == 1:
        return _on_line(checked, L[:, 0], places, rtol)

    def of_independent(x: np.ndarray) -> np.ndarray:
        return checked.finite(L @ x.T).reshape(-1, len(x))

    reach, beyond = _reach(lambda x: checked(L @ x.T).reshape(-1, len(x)), L)
    found = _nested(of_independent, L, places, reach, rtol) if rank <= _NESTED_RANK else None
    if found is None or (rank > 2 and _relative_error(found) > 1e-5):
        sampled = _sampled(checked, K, rtol, seed)
        if found is None or _relative_error(sampled) < _relative_error(found):
            found = sampled
    found = found._replace(estimate=found.estimate._replace(error=found.estimate.error + beyond * found.size))
    estimate = found.estimate
    limit = _WORST if estimate.method == "population" else max(_SLACK * rtol, _SLACK * _GOOD[rank])
    if _relative_error(found) > limit:
        warnings.warn(
            f"the average over {rank} Gaussian variables is only good to {_relative_error(found):.0e}; "
            "if f has kinks, give them as `kinks`",
            TrustWarning,
            stacklevel=2,
        )
    shape = checked.shape
    return Estimate(estimate.value.reshape(shape), estimate.error.reshape(shape), estimate.method)


class _Checked:
    """f as a function of an array (m, n), in float64, with its shape and its numbers checked."""

    def __init__(self, f: Callable[..., Any], m: int) -> None:
        self.f, self.m = f, m
        self.shape: tuple[int, ...] = ()

    def __call__(self, z: np.ndarray) -> np.ndarray:
        """Values of shape (…, n)."""
        n = z.shape[1]
        try:
            with float64(), np.errstate(all="ignore"):
                values = np.asarray(self.f(*np.ascontiguousarray(z)))
        except Exception as error:
            reason = str(error).partition("\n")[0]
            raise InputError(
                f"`f` fails on {self.m} arrays of shape ({n},), one for each row of `K`: {reason}"
            ) from error
        if values.shape[-1:] != (n,) or values.dtype.kind not in "fiub":
            raise InputError(
                f"`f` must map {self.m} arrays of shape ({n},) to real numbers of shape (…, {n}), but it returned "
                f"{values.dtype} of shape {values.shape}"
            )
        self.shape = values.shape[:-1]
        return values.astype(np.float64)

    def finite(self, z: np.ndarray) -> np.ndarray:
        values = self(z)
        if not np.all(np.isfinite(values)):
            at = z[:, np.argmin(np.isfinite(values).reshape(-1, z.shape[1]).all(0))]
            raise InputError(
                f"`f` is not finite at z = ({', '.join(f'{x:.6g}' for x in at)}), where the Gaussian has weight; "
                "use a smaller `K` or a function that stays finite"
            )
        return values


def _kinks_by_argument(kinks: Any, m: int) -> list[tuple[float, ...]]:
    try:
        listed = list(kinks)
        each = [tuple(float(k) for k in some) for some in listed] if any(map(np.ndim, listed)) else None
        every = tuple(float(k) for k in listed) if each is None else ()
    except (TypeError, ValueError) as error:
        raise InputError(
            f"`kinks` must be a tuple of numbers, or one such tuple for each argument, but got {kinks!r}"
        ) from error
    if each is not None and len(each) != m:
        raise InputError(f"`kinks` must have one tuple for each of the {m} arguments of `f`, but got {len(each)}")
    found = [every] * m if each is None else each
    if not all(np.isfinite(k) for some in found for k in some):
        raise InputError(f"`kinks` must be finite numbers, but got {kinks!r}")
    return found


def _on_line(f: _Checked, column: np.ndarray, kinks: list[tuple[float, ...]], rtol: float) -> Estimate:
    """All inputs are multiples of one: the largest is integrated over, since it feels the shortest scale."""
    largest = float(np.abs(column).max())
    ratio = column / largest
    places = tuple(k / r for r, some in zip(ratio, kinks, strict=True) for k in some if r != 0)

    def of_largest(z: np.ndarray) -> np.ndarray:
        values = f.finite(ratio[:, None] * z.ravel())
        return values.reshape(*values.shape[:-1], *z.shape)

    return average(of_largest, largest**2, kinks=places, rtol=rtol / 10)


def _reach(f: Callable[[np.ndarray], np.ndarray], along: np.ndarray) -> tuple[float, np.ndarray]:
    """How many standard deviations out the integrand matters, and what share of each |f| may lie beyond.

    8.6, and more for an f that grows like an exponential; up to 38, where an f such as e^{0.49 x²} still has 1e-7 of
    its average beyond: a geometric series goes on from the last values, in the direction in which f is largest.
    Directions are random, and those of each argument, `along` (m, rank).
    """
    along = along[np.any(along != 0, axis=1)]
    rank = along.shape[1]
    directions = np.concatenate([np.random.default_rng(0).standard_normal((64, rank)), along, -along])
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    r = np.arange(0.25, _FAR, 0.25)
    values = np.abs(f((r[:, None, None] * directions).reshape(-1, rank))).reshape(-1, len(r), len(directions))
    with np.errstate(invalid="ignore", over="ignore"):
        weight = np.nan_to_num(values, nan=0.0, posinf=np.finfo(float).max) * np.exp(-0.5 * r * r)[:, None]
    weight = weight.max(2) * r ** (rank - 1)
    matters = np.any(weight > 1e-16 * weight.max(1, keepdims=True), axis=0)
    reach = float(np.clip(r[matters].max(initial=0.0) + 0.25, _REACH, _FAR))
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        last, ratio = weight[:, -1], weight[:, -1] / weight[:, -2]
        tail = np.where(ratio < 1, last * ratio / (1 - ratio), np.inf) / weight.sum(1)
    return reach, np.where(last > 0, _UNSEEN_DIRECTIONS * tail, 0.0)


def _nested(
    f: Callable[[np.ndarray], np.ndarray], L: np.ndarray, kinks: list[tuple[float, ...]], reach: float, rtol: float
) -> Found | None:
    """By the lattice where nothing is known to be kinked, else (or where that fails) by nested panels."""
    rank = L.shape[1]
    rows = [(row, some) for row, some in zip(L, kinks, strict=True) if np.any(row)]
    found = None
    if rank > 2 and not any(some for _, some in rows):
        found = by_lattice(f, rank, reach, rtol)
        if found is not None and _relative_error(found) <= max(rtol, _GOOD[rank]):
            return found
    planes = [Plane(row, k, 1.0, True) for row, some in rows for k in some]
    # in two variables the origin may be a kink that was not given: panels that end there by chance would agree on what
    # they miss between near-collinear arguments
    planes += [Plane(row, 0.0, 1.0, rank == 2) for row, some in rows if 0.0 not in some]
    nested = by_panels(f, planes, rank, reach, rtol)
    if nested is not None and rank == 2 and not all(some for _, some in rows) and _nearly_parallel(L):
        nested = _seen_askew(f, planes, nested, reach, rtol)
    options = [each for each in (found, nested) if each is not None]
    return min(options, key=_relative_error, default=None)


def _nearly_parallel(L: np.ndarray) -> bool:
    """Whether two arguments, of two independent variables, are almost one."""
    rows = L[np.any(L != 0, axis=1)]
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    sine = np.abs(np.outer(rows[:, 0], rows[:, 1]) - np.outer(rows[:, 1], rows[:, 0]))
    return bool(np.any((sine > 0) & (sine < _NEARLY_PARALLEL)))


def _seen_askew(
    f: Callable[[np.ndarray], np.ndarray], planes: list[Plane], found: Found, reach: float, rtol: float
) -> Found:
    """`found` with what another rule, turned by an eighth, differs from it: kinks that were not given.

    Kinks of near-collinear arguments lie between the nodes of the first variable, where two rules may both miss them.
    """
    turn = np.array([[1.0, -1.0], [1.0, 1.0]]) / np.sqrt(2.0)
    turned = [plane._replace(normal=plane.normal @ turn) for plane in planes]
    askew = by_panels(lambda x: f(x @ turn.T), turned, 2, reach, rtol)
    if askew is None:
        return found
    error = found.estimate.error + np.abs(found.estimate.value - askew.estimate.value)
    return found._replace(estimate=found.estimate._replace(error=error))


def _sampled(f: _Checked, K: np.ndarray, rtol: float, seed: int) -> Found:
    for n in _POPULATIONS:
        population = Population.sample(K, n, seed)
        sizes: list[np.ndarray] = []

        def values(*z: np.ndarray, sizes: list[np.ndarray] = sizes) -> np.ndarray:
            found = f.finite(np.stack(z))
            found = found.reshape(-1, found.shape[-1])
            sizes.append(np.abs(found).mean(1))
            return found

        found = Found(population.average(values), np.mean(sizes, axis=0))
        if _relative_error(found) <= rtol:
            break
    return found


def _relative_error(found: Found) -> float:
    """The largest of the functions' errors, relative to the value, or to ⟨|f|⟩/100 where that is larger."""
    size = np.maximum(np.abs(found.estimate.value), 1e-2 * found.size)
    return float(np.max(np.divide(found.estimate.error, size, out=np.zeros_like(size), where=size > 0), initial=0.0))
