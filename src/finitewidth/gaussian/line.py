"""⟨f(z)⟩_K for one Gaussian variable: adaptive Gauss–Legendre panels that know where the difficulties are.

Written z = √K x with x standard normal, two lengths compete: the Gaussian lives at |x| ~ 1, the activation changes at
|z| ~ 1, that is at |x| ~ 1/√K. Panels that double in length from the smaller of the two outwards resolve both, for any
K from 1e-12 to 1e12, with a number of nodes that grows like log K: on a panel [x, 2x] a function whose singularities
lie at the origin or on the imaginary axis (tanh: z = ±iπ/2) converges like 5.8^(−2·nodes). Panels also end at the
kinks. Whatever is still not resolved, a feature far from the origin, is found by comparing two rules and halved until
they agree, or until halving does not bring them closer: then what is left is the rounding of f itself, and goes into
the error.

(Gauss–Hermite, the textbook choice, sees one length only: 200 nodes are off by 2 % for tanh at K = 100.)
"""

from collections.abc import Callable

import numpy as np

from finitewidth.errors import InputError
from finitewidth.gaussian.estimate import Estimate

Integrand = Callable[[np.ndarray], np.ndarray]

_REACH = 38.0  # exp(−38²/2) is the smallest normal float64
_OUTER = (1.0, 2.0, 3.0, 4.25, 6.0, 9.0, 13.0, 19.0, 27.0, _REACH)
_FINE, _COARSE = np.polynomial.legendre.leggauss(20), np.polynomial.legendre.leggauss(14)
_MOST_PANELS = 4000
_MOST_NODES = 1 << 20  # evaluated at a time
# halvings without effect after which a difference counts as rounding noise: where it is small, and where it is not
_PATIENCE = (2, 7)


def average(f: Integrand, K: np.ndarray | float, *, kinks: tuple[float, ...] = (), rtol: float = 1e-13) -> Estimate:
    """⟨f(z)⟩_K for z ~ N(0, K).

    Arguments
        f: a NumPy function of an array z; returns an array whose trailing axes are those of z (leading axes:
            several functions).
        K: variances ≥ 0, a number or an array.
        kinks: points where f is not smooth.
        rtol: relative accuracy aimed at, per function.

    Returns
        an `Estimate` of shape (*functions, *K.shape), with the absolute error.

    Raises
        InputError: if f is not finite where the Gaussian has weight, or cannot be resolved.
    """
    K = np.asarray(K, dtype=np.float64)
    std = np.sqrt(K.ravel())
    away = [k for k in kinks if k != 0.0]
    if away:
        f = _not_at(f, away)
    groups = [std[i : i + 1] for i in range(std.size)] if away else [std]
    parts = [_average(f, group, away, rtol) for group in groups]
    value, error = (np.concatenate(p, axis=-1) for p in zip(*parts, strict=True))
    shape = (*value.shape[:-1], *K.shape)
    return Estimate(value.reshape(shape), error.reshape(shape), "line")


def _not_at(f: Integrand, kinks: list[float]) -> Integrand:
    """f as it is next to a kink, where it may be infinite and panels become as short as z can tell."""

    def moved(z: np.ndarray) -> np.ndarray:
        for kink in kinks:
            z = np.where(z == kink, np.nextafter(kink, 0.0), z)
        return f(z)

    return moved


def _average(f: Integrand, std: np.ndarray, kinks: list[float], rtol: float) -> tuple[np.ndarray, np.ndarray]:
    todo = _panels(float(std.max()), [k / std[0] for k in kinks if std[0] > 0])
    value = error = scale = None
    beyond: np.ndarray | float = 0.0
    before = stalled = np.zeros(0)
    while len(todo):
        fine, coarse, size = _panel_sums(f, std, todo)
        if value is None and np.any(size[..., [0, -1]] > np.finfo(float).eps * size.sum(-1, keepdims=True)):
            beyond = _beyond(f, std)
        difference = np.abs(fine - coarse)
        total = fine.sum(-1) + (0 if value is None else value)
        weight = size.sum(-1) + (0 if scale is None else scale)
        # a function that averages to zero by symmetry is resolved against the average of its modulus
        goal = rtol * np.maximum(np.abs(total), 1e-2 * weight)[..., None] + np.finfo(float).tiny
        is_good = (difference <= goal / 20) | (difference <= 8 * np.finfo(float).eps * size)
        stalled = _stalled(difference, before, stalled) if value is not None else np.zeros(difference.shape)
        patience = np.where(difference <= 1e-9 * weight[..., None], _PATIENCE[0], _PATIENCE[1])
        done = np.all(is_good | (stalled >= patience), axis=tuple(range(fine.ndim - 1)))
        is_short = (todo[:, 1] - todo[:, 0]) <= 1e-14 * np.maximum(1e-3, np.abs(todo).max(1))
        done |= is_short
        # at a singularity (1/√|z|) both rules miss more than they differ by
        difference = np.where(is_short & ~is_good, 4 * difference, difference)
        value = fine[..., done].sum(-1) + (0 if value is None else value)
        error = difference[..., done].sum(-1) + (0 if error is None else error)
        scale = size[..., done].sum(-1) + (0 if scale is None else scale)
        rest = todo[~done]
        if len(rest) > _MOST_PANELS:
            raise InputError(
                "the average over the Gaussian cannot be resolved: the function oscillates or jumps at too many places"
            )
        middle = rest.mean(1)
        todo = np.concatenate([np.stack([rest[:, 0], middle], 1), np.stack([middle, rest[:, 1]], 1)])
        before, stalled = difference[..., ~done], stalled[..., ~done]
    assert value is not None and error is not None and scale is not None
    return value, error + beyond + 4 * np.finfo(float).eps * scale


def _beyond(f: Integrand, std: np.ndarray) -> np.ndarray:
    """What lies beyond the last panels, shape (*functions, K): some, for an f that grows almost as the Gaussian falls.

    Of e^{0.49 z²} at K = 1 there remains 8e-8. The integrand falls ever faster there, so that a geometric series from
    its last two values is a bound; infinite where it does not fall.
    """
    x = np.array([[-_REACH, 0.25 - _REACH], [_REACH, _REACH - 0.25]])
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        last, previous = np.moveaxis(np.abs(f(std[:, None, None] * x)) * np.exp(-0.5 * x * x), -1, 0)
        rate = np.log(previous / last) / 0.25
        tail = np.where(last == 0, 0.0, np.where(rate > 0, last / rate, np.inf))
    return np.asarray(tail.sum(-1) / np.sqrt(2 * np.pi))


def _stalled(difference: np.ndarray, before: np.ndarray, stalled: np.ndarray) -> np.ndarray:
    """How often halving a panel has not brought the two rules together: then they differ by the rounding noise of f.

    Of a kink or jump one half keeps the whole difference; rounding noise, where f cancels (z − tanh z near 0), stays in
    both.

    Arguments
        difference: of the rules on all left halves, then on all right ones, shape (…, 2·panels).
        before, stalled: difference, and number of such halvings, of the panels that were halved, shape (…, panels).
    """
    left, right = np.split(difference, 2, axis=-1)
    is_stalled = (left + right > 0.2 * before) & (np.minimum(left, right) > 0.01 * before)
    is_converging = left + right < 0.01 * before
    count = np.where(is_converging, 0, stalled + is_stalled)
    return np.concatenate([count, count], axis=-1)


def _panels(std: float, kinks: list[float]) -> np.ndarray:
    """Panels in x, shape (panels, 2): doubling outwards from min(1, 1/√K), ended at the kinks."""
    doublings = max(1, int(np.ceil(np.log2(max(std, 1.0)))) + 2)
    positive = np.concatenate([2.0 ** -np.arange(doublings, 0, -1.0), _OUTER])
    edges = np.concatenate([-positive[::-1], [0.0], positive, [k for k in kinks if abs(k) < _REACH]])
    edges = np.unique(edges)
    return np.stack([edges[:-1], edges[1:]], 1)


def _panel_sums(f: Integrand, std: np.ndarray, panels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Each panel's integral by the fine rule, by the coarse rule, and that of |f|: shape (*functions, K, panels)."""
    step = max(1, _MOST_NODES // (std.size * (len(_FINE[0]) + len(_COARSE[0]))))
    parts = [_portion_sums(f, std, panels[i : i + step]) for i in range(0, len(panels), step)]
    fine, coarse, size = (np.concatenate(part, axis=-1) for part in zip(*parts, strict=True))
    return fine, coarse, size


def _portion_sums(f: Integrand, std: np.ndarray, panels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    nodes = np.concatenate([_FINE[0], _COARSE[0]])
    half = 0.5 * (panels[:, 1] - panels[:, 0])[:, None]
    x = panels.mean(1)[:, None] + half * nodes
    density = half * np.exp(-0.5 * x * x) / np.sqrt(2 * np.pi)
    z = std[:, None, None] * x
    with np.errstate(over="ignore", invalid="ignore"):
        integrand = f(z) * density
    if not np.all(np.isfinite(integrand)):
        at = z.ravel()[np.argmin(np.isfinite(integrand.reshape(-1, z.size)).all(0))]
        if np.isnan(integrand).any() and not np.isinf(integrand).any():
            raise InputError(
                f"what is averaged is nan at z = {at:.6g}; if it holds derivatives, write the function so that "
                "automatic differentiation works there (two nested `jnp.where`, one to keep each branch finite)"
            )
        raise InputError(
            f"what is averaged is not finite at z = {at:.6g}, where a Gaussian of variance {std.max() ** 2:.6g} still "
            "has weight; use a smaller kernel (smaller inputs, C_b or C_W) or a function that stays finite"
        )
    n = len(_FINE[0])
    fine = integrand[..., :n] @ _FINE[1]
    return fine, integrand[..., n:] @ _COARSE[1], np.abs(integrand[..., :n]) @ _FINE[1]
