r"""Cross-entropy at infinite width: outputs over initialisations, by integrating their evolution (PDLT §10.2, §∞.1).

The tangent kernel is frozen whatever the loss is, so outputs move by what has been learned, w, alone:

    z_X(t) = z_X(0) + Θ_XT w(t) ,     dw/dt = − ∂𝓛/∂z_T − ρ w ,     ∂𝓛/∂z = softmax(z) − y      (w(0) = 0)

over outputs i at each input, or σ(z) − y of a single output, whose σ is the logistic function; descent and momentum
alike, in steps. This is not linear in z(0) ~ N(0, K), so that trained outputs are not Gaussian, and outputs of one
network are correlated at infinite width too. Only z_T(0) needs to be drawn: given it, z_X(0) is Gaussian,

    z_X(0) = K_XT K_TT⁻¹ z_T(0) + r ,     Cov[r] = K_XX − K_XT K_TT⁻¹ K_TX ,

and r is averaged exactly. Draws are quasi-random, most of the variance first, in both signs, several times over with
independent randomisations, whose scatter gives the standard errors.
"""

import math
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg

from finitewidth.algorithms import Algorithm, GradientDescent, GradientFlow, Momentum
from finitewidth.errors import InputError
from finitewidth.gaussian.estimate import Estimate
from finitewidth.gaussian.population import independent_normals, spread
from finitewidth.training.infinite_width import Kernels
from finitewidth.training.modes import is_ended, largest_rate

Trainable = GradientFlow | GradientDescent | Momentum

RANDOMISATIONS = 16
MOST_DRAWS, FEWEST_DRAWS = 64, 4  # of each randomisation, and each in both signs
MOST_PRODUCTS = 2e8  # multiplications of one step of all draws, beyond which fewer are drawn
SOBOL_DIMENSIONS = 64
RTOL = 1e-7
MOST_STEPS = 10_000


@dataclass(frozen=True)
class Drawn:
    """Outputs given z_T(0), and what is averaged exactly.

    Attributes
        outputs: E[z_X(t) | z_T(0)] of every draw, (randomisations, draws, X, n_L).
        residual: Cov[r], the same for every output and draw, (X, X).
        noise: a standard normal of every draw and output, (randomisations, draws, n_L): r of any one input is √Cov[r]
            times it.
        learned: mean over draws of Σ_T |w|, (n_L,): how far an error of Θ reaches.
    """

    outputs: np.ndarray
    residual: np.ndarray
    noise: np.ndarray
    learned: np.ndarray

    @cached_property
    def mean(self) -> Estimate:
        """E z, (X, n_L), with its standard error."""
        return spread(self.outputs.mean(1))

    @cached_property
    def _off(self) -> np.ndarray:
        return self.outputs - self.mean.value

    def variance(self, outputs: int) -> np.ndarray:
        """Var z, (X, n_L)."""
        return self._variance.value

    @cached_property
    def _variance(self) -> Estimate:
        return spread(np.diag(self.residual)[:, None] + (self._off**2).mean(1))

    @property
    def variance_error(self) -> np.ndarray:
        """The standard error of the variance, (X, n_L)."""
        return self._variance.error

    @property
    def integration_error(self) -> float:
        """What the steps of a flow may add up to in an output."""
        return 10 * RTOL * float(np.abs(self.outputs).max())

    def dense(self, outputs: int) -> np.ndarray:
        """Cov[z, z], (X, n_L, X, n_L)."""
        off = self._off.reshape(-1, self._off[0, 0].size)
        between = (off.T @ off / len(off)).reshape(2 * self._off.shape[2:])
        return between + np.einsum("xy,ij->xiyj", self.residual, np.eye(outputs))

    @cached_property
    def probabilities(self) -> Estimate:
        """E softmax(z), (X, n_L), or E σ(z) of a single output."""
        r = np.sqrt(np.maximum(np.diag(self.residual), 0.0))[:, None] * self.noise[:, :, None, :]
        return spread(np.asarray(_probabilities(jnp.asarray(self.outputs + r))).mean(1))


def drawn(algorithm: Algorithm, kernels: Kernels, targets: np.ndarray, regularisation: float) -> Drawn:
    """Trained outputs of draws of the outputs at initialisation, always the same draws.

    Arguments
        targets: y, (N_T, n_L), probabilities.

    Raises
        InputError: for algorithms that this loss is not computed for, an end of training, which does not exist, and a
            flow that takes more than `MOST_STEPS` steps.
    """
    algorithm = _check(algorithm)
    N, n_L = targets.shape
    rates, modes = scipy.linalg.eigh(kernels.K_TT)
    kept = rates > N * np.finfo(float).eps * rates[-1]
    # of either sign of a mode, which rounding decides: always the same draws on every machine
    modes = modes * np.sign(modes[np.abs(modes).argmax(0), np.arange(N)])
    root = (modes[:, kept] * np.sqrt(rates[kept]))[:, ::-1]  # K_TT = root rootᵀ, most of the variance first
    through = (kernels.K_XT @ modes[:, kept] / np.sqrt(rates[kept]))[:, ::-1]
    ranks = root.shape[1]
    wanted = MOST_PRODUCTS / (2 * RANDOMISATIONS * N * N * n_L)
    draws = 2 ** int(np.log2(np.clip(wanted, FEWEST_DRAWS, MOST_DRAWS)))
    x = independent_normals(draws, (1 + ranks) * n_L, 0, randomisations=RANDOMISATIONS, most_even=SOBOL_DIMENSIONS)
    x = np.concatenate([x, -x], axis=1)
    noise, x = x[..., :n_L], x[..., n_L:].reshape(-1, ranks, n_L)
    w = _learned(algorithm, kernels.Theta_TT, root @ x, targets, regularisation)
    outputs = through @ x + kernels.Theta_XT @ w
    return Drawn(
        outputs.reshape(RANDOMISATIONS, 2 * draws, -1, n_L),
        kernels.K_XX - through @ through.T,
        noise,
        np.abs(w).sum(1).mean(0),
    )


def notes(algorithm: Algorithm, kernels: Kernels, drawn: Drawn) -> tuple[str, ...]:
    """What a reader must know: how many draws, and of a step beyond which descent may not descend."""
    number = math.prod(drawn.outputs.shape[:2])
    said = [f"cross-entropy: averages over {number} draws of initial outputs, whose standard errors are in `error`"]
    if isinstance(algorithm, GradientDescent | Momentum):
        mu = algorithm.momentum if isinstance(algorithm, Momentum) else 0.0
        curvature = 0.25 if drawn.outputs.shape[-1] == 1 else 0.5  # the most that 𝓛 has in z
        bound = 2 * (1 + mu) / (curvature * largest_rate(kernels.Theta_TT))
        if algorithm.step > bound:
            said.append(f"`step` {algorithm.step:g} is above {bound:.3g}, below which the loss is sure to fall")
    return tuple(said)


def _check(algorithm: Algorithm) -> Trainable:
    if not isinstance(algorithm, Trainable):
        raise InputError(
            f'`loss` "cross-entropy" is computed for gradient flow, gradient descent and momentum, but `algorithm` is '
            f"{algorithm!r}"
        )
    if is_ended(algorithm):
        finite = "time, as in fw.GradientFlow(time=10.0)" if isinstance(algorithm, GradientFlow) else "number of steps"
        raise InputError(
            f'`algorithm` {algorithm!r} has no end for the loss "cross-entropy": labels that can be told apart are met '
            f"only by infinite outputs, which grow as log t for ever; give a finite {finite}"
        )
    return algorithm


def _probabilities(z: jax.Array) -> jax.Array:
    """softmax over the last axis, or the logistic function of a single output."""
    return jax.nn.sigmoid(z) if z.shape[-1] == 1 else jax.nn.softmax(z, axis=-1)


def _learned(
    algorithm: Trainable, Theta: np.ndarray, start: np.ndarray, targets: np.ndarray, regularisation: float
) -> np.ndarray:
    """w at the end, (draws, N_T, n_L), from z_T(0) of every draw."""
    given = tuple(map(jnp.asarray, (Theta, start, targets, regularisation)))
    if not isinstance(algorithm, GradientFlow):
        mu = algorithm.momentum if isinstance(algorithm, Momentum) else 0.0
        return np.asarray(_by_steps(*given, algorithm.step, mu, int(algorithm.steps)))
    if algorithm.time == 0:
        return np.zeros_like(start)
    fastest = algorithm.time * largest_rate(Theta)
    # where many steps may be needed, one draw tells whether they are too many, before all draws take them
    for some in (start[:1], start) if fastest > MOST_STEPS else (start,):
        w, done = _by_flow(given[0], jnp.asarray(some), *given[2:], algorithm.time)
        if not np.all(done):
            raise InputError(
                f"`time` {algorithm.time:g} of the flow takes more than {MOST_STEPS} steps of integration (it is "
                f"{fastest:.3g}/λ_max, λ_max the largest eigenvalue of Θ on the training inputs); train for a shorter "
                "time"
            )
    return np.asarray(w)


def _force(Theta: jax.Array, start: jax.Array, y: jax.Array, ridge: jax.Array, w: jax.Array) -> jax.Array:
    """− ∂𝓛/∂z_T − ρ w."""
    return y - _probabilities(start + Theta @ w) - ridge * w


@jax.jit
def _by_flow(
    Theta: jax.Array, start: jax.Array, y: jax.Array, ridge: jax.Array, time: float
) -> tuple[jax.Array, jax.Array]:
    import diffrax  # half a second, which no other prediction needs to wait for

    reach = jnp.abs(Theta).sum(1).max()  # how far w reaches in z

    def one(z: jax.Array) -> tuple[jax.Array, jax.Array]:
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(lambda _time, w, _args: _force(Theta, z, y, ridge, w)),
            diffrax.Tsit5(),
            t0=0.0,
            t1=time,
            dt0=None,
            y0=jnp.zeros_like(z),
            stepsize_controller=diffrax.PIDController(rtol=RTOL, atol=RTOL / reach),
            max_steps=MOST_STEPS,
            throw=False,
        )
        assert solution.ys is not None
        return solution.ys[-1], diffrax.is_okay(solution.result)

    return jax.vmap(one)(start)


@jax.jit
def _by_steps(
    Theta: jax.Array, start: jax.Array, y: jax.Array, ridge: jax.Array, eta: float, mu: float, steps: int
) -> jax.Array:
    force = jax.vmap(partial(_force, Theta), in_axes=(0, None, None, 0))

    def step(_number: Any, state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        w, v = state
        v = mu * v + eta * force(start, y, ridge, w)
        return w + v, v

    return jax.lax.fori_loop(0, steps, step, (jnp.zeros_like(start), jnp.zeros_like(start)))[0]
