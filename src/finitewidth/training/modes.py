r"""How the modes of the residual decay under each algorithm, at infinite width (PDLT §10.2, §∞.2).

Training on inputs T moves every output by what the tangent kernel lets through. With Θ_TT u_m = λ_m u_m,

    z_X = z_X(0) − g (z_T(0) − y) ,     g = Θ_XT φ(Θ_TT) ,     φ(λ) = (1 − q(λ))/λ ,

where q is what is left of a mode of rate λ:

    gradient flow        e^{−λt}
    gradient descent     (1 − ηλ)^S
    momentum             the corner of the S-th power of ((1 − ηλ, μ), (−ηλ, μ)), which takes (ε, v) one step on
    Newton               (1 − η)^S, whatever λ

At the end of training q = 0. A pull back to the initial parameters, 𝓛 + ½ ρ (θ − θ(0)) λ⁻¹ (θ − θ(0)), makes λ + ρ of
every λ in φ: the gain ends at Θ_XT (Θ_TT + ρ)⁻¹.
"""

import math
from dataclasses import dataclass

import numpy as np
import scipy.linalg
import scipy.sparse.linalg

from finitewidth.algorithms import Algorithm, GradientDescent, GradientFlow, Momentum, Newton, Sgd
from finitewidth.errors import InputError


@dataclass(frozen=True)
class Modes:
    """Θ_TT = Σ_m λ_m u_m u_mᵀ, without the modes that rounding cannot tell from λ = 0.

    Such a mode is not trained: nothing that the training inputs share tells its inputs apart. It is what duplicate
    inputs leave, whose labels cannot both be met.

    Attributes
        rates: λ_m, shape (modes,). vectors: u_m in columns, shape (N_T, modes).
        left_out: how many modes are zero to rounding.
    """

    rates: np.ndarray
    vectors: np.ndarray
    left_out: int

    @classmethod
    def of(cls, Theta: np.ndarray) -> "Modes":
        rates, vectors = scipy.linalg.eigh(Theta)
        trained = rates > len(Theta) * np.finfo(float).eps * rates[-1]
        return cls(rates[trained], vectors[:, trained], int(np.sum(~trained)))


def remaining(algorithm: Algorithm, rates: np.ndarray) -> np.ndarray:
    """q: what is left of the residual in modes of these rates."""
    match algorithm:
        case GradientFlow(time):
            return np.exp(-rates * time)
        case GradientDescent(step, steps):
            return np.zeros_like(rates) if math.isinf(steps) else (1.0 - step * rates) ** steps
        case Newton(step, steps):
            return np.full_like(rates, 0.0 if math.isinf(steps) else (1.0 - step) ** steps)
        case Momentum(step, steps, mu):
            if math.isinf(steps):
                return np.zeros_like(rates)
            one = np.stack([[1.0 - step * rates, mu + 0 * rates], [-step * rates, mu + 0 * rates]]).transpose(2, 0, 1)
            return np.linalg.matrix_power(one, int(steps))[:, 0, 0]
    raise NotImplementedError(f"{algorithm} has no modes")


def trained(algorithm: Algorithm, rates: np.ndarray) -> np.ndarray:
    """1 − q, without the cancellation where q is close to 1."""
    match algorithm:
        case GradientFlow(time):
            return -np.expm1(-rates * time)
        case GradientDescent(step, steps) if not math.isinf(steps):
            slow = step * rates < 1
            without = -np.expm1(steps * np.log1p(-step * np.where(slow, rates, 0.0)))
            return np.where(slow, without, 1.0 - remaining(algorithm, rates))
        case _:
            return 1.0 - remaining(algorithm, rates)


def gained(algorithm: Algorithm, rates: np.ndarray) -> np.ndarray:
    """φ(λ) = (1 − q(λ))/λ, accurate down to small λ."""
    if not isinstance(algorithm, Momentum) or math.isinf(algorithm.steps):
        return trained(algorithm, rates) / rates
    # (φ, v, 1) by steps v ← μ v + η (1 − λφ), φ ← φ + v: 1 − q would lose the digits of λφ
    zero, step, mu = 0.0 * rates, algorithm.step + 0.0 * rates, algorithm.momentum + 0.0 * rates
    one = np.array([[1.0 - step * rates, mu, step], [-step * rates, mu, step], [zero, zero, zero + 1.0]])
    return np.linalg.matrix_power(one.transpose(2, 0, 1), int(algorithm.steps))[:, 0, 2]


def is_ended(algorithm: Algorithm) -> bool:
    """Whether training goes on until nothing of the residual is left."""
    return math.isinf(getattr(algorithm, "time", getattr(algorithm, "steps", 0.0)))


def ended_fraction(algorithm: Algorithm) -> float | None:
    """c of φ = c/λ: 1 at the end of training, of Newton what any number of steps has trained; else None."""
    if is_ended(algorithm):
        return 1.0
    return float(trained(algorithm, np.ones(1))[0]) if isinstance(algorithm, Newton) else None


def has_bound(algorithm: Algorithm) -> bool:
    """Whether its steps can be too long for the fastest mode."""
    return isinstance(algorithm, GradientDescent | Momentum | Sgd)


def check_step(algorithm: Algorithm, largest: float) -> None:
    """Refuse a step that grows the fastest mode, whose rate is `largest`."""
    if not isinstance(algorithm, GradientDescent | Momentum | Sgd) or largest <= 0:
        return
    mu = algorithm.momentum if isinstance(algorithm, Momentum) else 0.0
    bound = 2.0 * (1.0 + mu) / largest
    if algorithm.step >= bound:
        formula = "2 (1 + μ)/λ_max" if mu else "2/λ_max"
        raise InputError(
            f"`step` must be below {formula} = {bound:.6g}, where training stops to converge (λ_max = {largest:.6g} is "
            "the largest eigenvalue of Θ on the training inputs, for the loss ½ Σ (z − y)²), "
            f"but got {algorithm.step:g}"
        )


def least_regularisation(largest: float, N: int, times: float = 4) -> tuple[float, tuple[str, ...]]:
    """What a Θ of N inputs that is singular to rounding needs to be divided by, and the note that says so."""
    least = times * N * float(np.finfo(float).eps) * largest
    return least, (
        f"Θ on the training inputs is singular to rounding: a regularisation of {least:.2g}, {times:g} N ε λ_max, was "
        "added to it; give `regularisation` to choose your own",
    )


def indefinite(regularisation: float, added: float) -> InputError:
    """That Θ has negative modes which are larger than rounding makes them: errors of the kernels."""
    return InputError(
        f"`regularisation` {regularisation:g} is too small: Θ on the training inputs has no Cholesky factor with "
        f"{regularisation + added:.2g} added to it (inputs almost alike); merge such inputs, or give more of it"
    )


def largest_rate(Theta: np.ndarray) -> float:
    """λ_max, by Lanczos iteration where there are many inputs."""
    if len(Theta) < 64:
        return float(scipy.linalg.eigvalsh(Theta)[-1])
    start = np.ones(len(Theta))  # the same numbers at every call
    return float(scipy.sparse.linalg.eigsh(Theta, k=1, return_eigenvectors=False, v0=start)[0])
