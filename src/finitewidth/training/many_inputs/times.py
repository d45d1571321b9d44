r"""Nodes over training time, for integrals of smooth functions against decays of every rate.

Residuals decay with rates that may span many powers of ten. Between the nodes of a panel (each panel several times as
long as the one before) a function of time is taken as a polynomial; its integral against e^{−λ(τ−s)} is then exact,
however fast the decay:

    ∫_0^τ e^{−λ(τ−s)} f(s) ds ≈ Σ_k damped_k(λ) f(s_k) .

For S steps of gradient descent sums over steps take the place of integrals, (1 − ηλ)^{τ−1−s} that of e^{−λ(τ−s)}.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy.special import factorial, gammainc, roots_legendre

from finitewidth.algorithms import GradientDescent, GradientFlow
from finitewidth.errors import InputError

NODES = 3
"""On every panel."""

GROWTH = 3.0
"""Of a panel's end over its start. With three nodes, integrals are off by some 1e-4 of their size."""

_NODES_OF_STEPS, _GROWTH_OF_STEPS = 4, 2.0  # whole steps are no Gauss nodes
_ENDED = 18.0  # e^{−18} of the slowest mode is left
_MOST_STEPS = 10**6
_ALTERNATING = 1e-4  # a mode with ηλ > 1 must have decayed to this before steps are skipped

Panel = tuple[float, float, np.ndarray]
"""Start, end, nodes."""


@dataclass(frozen=True)
class TimeNodes:
    """Nodes s_k and the weights of integrals over them; for descent, of η Σ over steps.

    Attributes
        remaining: what is left of every mode at the nodes, (K, M). trained: ∫_0^{s_k} of it, (K, M).
        total: of ∫_0^t, (K,). running: of ∫_0^{s_j}, (K, K).
        damped_total: of ∫_0^t e^{−λ(t−s)}, (K, M). damped_running: of ∫_0^{s_j} e^{−λ(s_j−s)}, (K, K, M).
        step: η, 0 for flow.
    """

    remaining: np.ndarray
    trained: np.ndarray
    total: np.ndarray
    running: np.ndarray
    damped_total: np.ndarray
    damped_running: np.ndarray
    step: float

    @classmethod
    def of(cls, algorithm: GradientFlow | GradientDescent, rates: np.ndarray) -> "TimeNodes":
        """Nodes for modes of these rates.

        Raises
            InputError: for more steps of descent than can be summed.
        """
        match algorithm:
            case GradientFlow(0) | GradientDescent(steps=0):
                return cls.of_no_time(len(rates))
            case GradientFlow(time):
                end = min(time, _ENDED / float(rates.min()))
                panels = list(_panels(end, 1.0 / float(rates.max())))
                s = np.concatenate([nodes for _, _, nodes in panels])
                left = np.exp(-np.multiply.outer(s, rates))
                trained = -np.expm1(-np.multiply.outer(s, rates)) / rates
                return cls(left, trained, *_weights(panels, time, rates, _integral), 0.0)
            case GradientDescent(eta, steps):
                q = 1.0 - eta * rates
                end = _last_step(steps, q)
                panels = list(_panels_of_steps(end, q))
                s = np.concatenate([nodes for _, _, nodes in panels])
                left = q ** s[:, None]
                total, running, damped_total, damped_running = _weights(panels, end, q, _sum)
                return cls(
                    left,
                    (1.0 - left) / rates,
                    eta * total,
                    eta * running,
                    eta * damped_total,
                    eta * damped_running,
                    eta,
                )

    @classmethod
    def of_no_time(cls, modes: int) -> "TimeNodes":
        """One node at the start, over which every integral is zero."""
        nothing = np.zeros((1, modes))
        return cls(nothing + 1.0, nothing, np.zeros(1), np.zeros((1, 1)), nothing, nothing[None], 0.0)


def _last_step(steps: float, q: np.ndarray) -> float:
    if math.isinf(steps):
        steps = math.ceil(_ENDED / -math.log(np.abs(q).max()))
    if steps > _MOST_STEPS:
        raise InputError(
            f"`algorithm` takes {steps:.3g} steps, of which at most {_MOST_STEPS:.0e} are summed at order 1 with many "
            "inputs; give fw.GradientFlow(), which this close to its end is the same up to order η, or fewer steps"
        )
    return steps


def _panels(end: float, first: float) -> Iterator[Panel]:
    """[0, first], then each `GROWTH` times as far as the one before, with Gauss–Legendre nodes."""
    x, _ = roots_legendre(NODES)
    start, stop = 0.0, min(first, end)
    while start < end:
        yield start, stop, start + (stop - start) * 0.5 * (1.0 + x)
        start, stop = stop, min(GROWTH * stop, end)


def _panels_of_steps(end: float, q: np.ndarray) -> Iterator[Panel]:
    """Every step for a while, then panels of which a few steps are nodes."""
    worst = float(-q.min())
    while_alternating = math.log(_ALTERNATING) / math.log(worst) if worst > 0 else 0.0
    start, stop = 0, min(int(max(2 * _NODES_OF_STEPS, math.ceil(while_alternating))), int(end))
    while start < end:
        count = stop - start
        if start == 0 or count <= _NODES_OF_STEPS:
            nodes = np.arange(start, stop)
        else:
            x, _ = roots_legendre(_NODES_OF_STEPS)
            nodes = np.unique(np.round(start + (count - 1) * 0.5 * (1.0 + x / -x[0])).astype(int))
        if start == 0:
            for s in nodes:  # each its own panel: nothing is interpolated
                yield float(s), float(s + 1), np.array([float(s)])
        else:
            yield float(start), float(stop), nodes.astype(float)
        start, stop = stop, min(math.ceil(_GROWTH_OF_STEPS * stop), int(end))


Rule = Callable[[np.ndarray, Panel, float], np.ndarray]


def _weights(
    panels: list[Panel], end: float, decays: np.ndarray, rule: Rule
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """total, running, damped_total, damped_running; a last "decay" that is none serves the undamped ones."""
    still = 0.0 if rule is _integral else 1.0
    all_decays = np.append(decays, still)
    s = np.concatenate([nodes for _, _, nodes in panels])
    found = np.zeros((len(s) + 1, len(s), len(all_decays)))
    at = 0
    for panel in panels:
        here = slice(at, at + len(panel[2]))
        for j, target in enumerate([*s, end]):
            if target > panel[0]:
                found[j, here] = rule(all_decays, panel, target)
        at = here.stop
    return found[-1, :, -1], found[:-1, :, -1], found[-1, :, :-1], found[:-1, :, :-1]


def _integral(rates: np.ndarray, panel: Panel, target: float) -> np.ndarray:
    """∫ over the panel, up to τ, of e^{−λ(τ−s)} ℓ_k(s), (k, λ): ℓ_k Lagrange's polynomials of the nodes."""
    start, stop, nodes = panel
    stop = min(stop, target)
    length = stop - start
    degrees = np.arange(len(nodes))
    # ℓ_k in powers of y = (stop − s)/length; ∫_0^1 e^{−xy} y^p dy = γ(p + 1, x)/x^{p+1}
    powers = np.linalg.inv(((stop - nodes) / length)[:, None] ** degrees)
    x = rates * length
    with np.errstate(divide="ignore", invalid="ignore"):
        moments = gammainc(degrees[:, None] + 1, x) * factorial(degrees)[:, None] / x ** (degrees[:, None] + 1.0)
    tiny = x < 1e-60
    moments[:, tiny] = (1.0 / (degrees + 1))[:, None]
    with np.errstate(invalid="ignore"):
        since = np.where(rates == 0, 1.0, np.exp(-rates * (target - stop)))
    return length * (powers.T @ moments) * since


def _sum(q: np.ndarray, panel: Panel, target: float) -> np.ndarray:
    """Σ over the panel's steps s < τ of q^{τ−1−s} ℓ_k(s), (k, q)."""
    start, stop, nodes = panel
    s = np.arange(start, min(stop, target))
    scale = max(stop - start, 1.0)
    powers = np.linalg.inv(((nodes - start) / scale)[:, None] ** np.arange(len(nodes)))
    polynomials = powers.T @ ((s - start) / scale) ** np.arange(len(nodes))[:, None]
    return polynomials @ q ** (target - 1 - s)[:, None]
