"""Learning algorithms: what is done to the parameters, whatever the network then predicts (PDLT ch. 7, ∞).

With the loss 𝓛 = ½ Σ_A ε_A² over training inputs and outputs, ε_A = z_A − y_A (or another 𝓛, where one is named), and
the diagonal learning-rate tensor λ of the architecture (λ_b for biases, λ_W / n_{ℓ-1} for weights):

    GradientFlow      dθ/dt = − λ ∇𝓛
    GradientDescent   θ ← θ − η λ ∇𝓛
    Momentum          v ← μ v − η λ ∇𝓛 ,   θ ← θ + v
    Sgd               GradientDescent with 𝓛 of a batch, scaled so that its mean over batches is that of all data
    Adam              Adam's step, its rate η times λ entry by entry
    Newton            θ ← θ − η λ ∇z_A (H⁻¹)_AB ε_B ,   H = ∇z λ ∇z the tangent kernel of the training inputs
    Bayes             no training: the posterior over outputs, given labels with noise

`fw.predict` computes what they lead to; `fw.ensemble` does it to real networks. Both read these descriptions.
"""

import math
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

from finitewidth.errors import InputError


@dataclass(frozen=True)
class GradientFlow:
    """dθ/dt = − λ ∇𝓛 until `time` (PDLT §10.2, §∞.2). The step of gradient descent becomes the unit of time.

    Arguments
        time: t ≥ 0; ∞, the default, is the end of training.
    """

    time: float = math.inf

    def __post_init__(self) -> None:
        _set(self, time=_number("time", self.time, least=0.0, may_be_infinite=True))


@dataclass(frozen=True)
class GradientDescent:
    """θ ← θ − η λ ∇𝓛 with all the data in every step (PDLT §7.2, §10.2).

    Arguments
        step: η > 0. Stable below 2/λ_max of the tangent kernel on the training inputs.
        steps: how many, an integer ≥ 0; ∞ is the end of training.
    """

    step: float
    steps: float = math.inf

    def __post_init__(self) -> None:
        _set(self, step=_positive("step", self.step), steps=_count("steps", self.steps))


@dataclass(frozen=True)
class Momentum:
    """v ← μ v − η λ ∇𝓛, θ ← θ + v, from v = 0 (heavy ball).

    Arguments
        step, steps: as for `GradientDescent`.
        momentum: 0 ≤ μ < 1.
    """

    step: float
    steps: float = math.inf
    momentum: float = 0.9

    def __post_init__(self) -> None:
        mu = _number("momentum", self.momentum, least=0.0)
        if mu >= 1:
            raise InputError(f"`momentum` must be below 1, or nothing is ever forgotten, but got {self.momentum!r}")
        _set(self, step=_positive("step", self.step), steps=_count("steps", self.steps), momentum=mu)


@dataclass(frozen=True)
class Sgd:
    """Gradient descent on batches, drawn anew for every epoch without replacement.

    The gradient of a batch is multiplied by N_T / batch size, so that on average a step is one of `GradientDescent`.

    Arguments
        step, steps: as for `GradientDescent`, but finitely many.
        batch_size: training inputs in a step, at least 1. What does not fill a batch at the end of an epoch is left
            out.
    """

    step: float
    steps: int
    batch_size: int

    def __post_init__(self) -> None:
        size = _count("batch_size", self.batch_size, least=1, may_be_infinite=False)
        steps = _count("steps", self.steps, may_be_infinite=False)
        _set(self, step=_positive("step", self.step), steps=int(steps), batch_size=int(size))


@dataclass(frozen=True)
class Adam:
    """Adam (Kingma & Ba 2015) with its rate multiplied by λ entry by entry.

    Arguments
        step, steps: the rate η > 0, and how many steps, finitely many.
        beta1, beta2: decay of the first and the second moment of the gradient, in [0, 1).
        epsilon: added to the root of the second moment.
    """

    step: float
    steps: int
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8

    def __post_init__(self) -> None:
        for name in ("beta1", "beta2"):
            if _number(name, getattr(self, name), least=0.0) >= 1:
                raise InputError(f"`{name}` must be below 1, but got {getattr(self, name)!r}")
        _set(
            self,
            step=_positive("step", self.step),
            steps=int(_count("steps", self.steps, may_be_infinite=False)),
            epsilon=_positive("epsilon", self.epsilon),
        )


@dataclass(frozen=True)
class Newton:
    """θ ← θ − η λ ∇z_A (H⁻¹)_AB ε_B, H the network's own tangent kernel on the training data (PDLT §∞.2).

    Newton's step for the squared loss where λ⁻¹ is the metric of what it does not determine (Gauss and Newton's, or the
    natural gradient's for labels with Gaussian noise): every mode of the residual shrinks alike, by 1 − η a step.

    Arguments
        step: 0 < η < 2; 1, the default, arrives in one step were the network linear in its parameters.
        steps: how many, an integer ≥ 0; ∞ is the end of training.
    """

    step: float = 1.0
    steps: float = math.inf

    def __post_init__(self) -> None:
        step = _positive("step", self.step)
        if step >= 2:
            raise InputError(f"`step` must be below 2, beyond which Newton's steps grow, but got {self.step!r}")
        _set(self, step=step, steps=_count("steps", self.steps))


@dataclass(frozen=True)
class Bayes:
    """Exact Bayesian inference: the prior over outputs is that of the networks at initialisation (PDLT ch. 6).

    Arguments
        noise: variance of the labels' Gaussian noise, ≥ 0; 0 takes them as they are.
    """

    noise: float = 0.0

    def __post_init__(self) -> None:
        _set(self, noise=_number("noise", self.noise, least=0.0))


Algorithm = GradientFlow | GradientDescent | Momentum | Sgd | Adam | Newton | Bayes


def _set(algorithm: Any, **checked: float) -> None:
    for name, value in checked.items():
        object.__setattr__(algorithm, name, value)


def _positive(name: str, value: Any) -> float:
    if _number(name, value, least=0.0) == 0:
        raise InputError(f"`{name}` must be positive, or nothing is learned, but got {value!r}")
    return float(value)


def _number(name: str, value: Any, *, least: float, may_be_infinite: bool = False) -> float:
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    number = float(value) if is_number else math.nan
    if not number >= least or (math.isinf(number) and not may_be_infinite):  # not ≥: NaN is refused too
        kind = "a number" if may_be_infinite else "a finite number"
        raise InputError(f"`{name}` must be {kind} ≥ {least:g}, but got {value!r}")
    return number


def _count(name: str, value: Any, *, least: int = 0, may_be_infinite: bool = True) -> float:
    if may_be_infinite and isinstance(value, float) and value == math.inf:
        return value
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        or_infinity = " or math.inf" if may_be_infinite else ""
        raise InputError(f"`{name}` must be an integer ≥ {least}{or_infinity}, but got {value!r}")
    return int(value)
