"""Training of a network's linearisation: its outputs, from those at initialisation and a kernel alone.

A network that is linear in its parameters keeps its tangent kernel H, and its outputs learn without them:

    dz/dt = − H ∂𝓛/∂z                                       (flow; steps alike)
    z_β(t) = z_β(0) − H_βT φ(H_TT, t) (z_T(0) − y)           squared loss, all data in every step

with φ(λ, t) = (1 − e^{−λt})/λ for the flow; for steps with momentum μ, φ and its last step w follow
w ← μ w + η (1 − λ φ), φ ← φ + w. At the end of training φ = 1/λ.

With H a network's own kernel this is the network's linearisation, from which the trained network differs at order 1/n;
with one kernel for all networks it is a function of z(0) alone (see `controls`).
"""

from typing import Any

import diffrax
import jax
import jax.numpy as jnp
import numpy as np

from finitewidth.algorithms import Adam, GradientFlow, Momentum
from finitewidth.experiments.batches import Batches
from finitewidth.experiments.courses import Course


def can_be_linearised(course: Course) -> bool:
    """Adam divides by what each parameter's own gradients were: no kernel says what it does to the outputs."""
    return not isinstance(course.algorithm, Adam)


def is_affine(course: Course) -> bool:
    """Whether the linearised outputs are an affine function of those at initialisation, the same for every network."""
    return course.loss.quadratic and not course.has_batches and can_be_linearised(course)


def linearised(H: jax.Array, z: jax.Array, y: jax.Array, *, course: Course, key: jax.Array) -> jax.Array:
    """Outputs of the trained linearisation, (times, n_out, N).

    Arguments
        H: (n_out, N, n_out, N_T) tangent kernel; the first N_T of the N inputs are those of training.
        z: (n_out, N) outputs at initialisation. y: (n_out, N_T) targets.
        course: the training. key: of the order of batches.
    """
    z, y = jnp.asarray(z), jnp.asarray(y)
    if is_affine(course):
        few = y.shape[1]
        moved = jnp.einsum("tiajb,jb->tia", response(H, course), z[:, :few] - y)
        return z - moved
    return _by_flow(H, z, y, course) if course.flows else _by_steps(H, z, y, course, key)


def response(H: jax.Array, course: Course) -> jax.Array:
    """H_βT φ(H_TT): what is learned of the errors at initialisation, (times, n_out, N, n_out, N_T)."""
    n_out, inputs, _, few = H.shape
    size = n_out * few
    values, modes = jnp.linalg.eigh(H[:, :few].reshape(size, size))
    learned = _learned(values, course)
    outward = H.reshape(n_out * inputs, size) @ modes
    return jnp.einsum("pm,tm,qm->tpq", outward, learned, modes).reshape(-1, n_out, inputs, n_out, few)


def _learned(values: jax.Array, course: Course) -> jax.Array:
    """φ(λ, t) of every time and eigenvalue, (times, modes)."""
    null = values <= values.size * np.finfo(values.dtype).eps * values[-1]
    safe = jnp.where(null, 1.0, values)
    if isinstance(course.algorithm, GradientFlow):
        time = jnp.asarray(course.finite_times)[:, None]
        finite = jnp.where(null, time, -jnp.expm1(-safe * time) / safe)
    else:
        finite = _steps_learned(values, course)
    end = jnp.where(null, 0.0, 1 / safe)[None]  # modes without a gradient never move
    if course.ends and not course.flows:
        # the step is stable below 2 (1 + μ)/λ
        end = jnp.where(course.step * values[-1] < 2 * (1 + _momentum(course)), end, jnp.nan)
    return jnp.concatenate([finite, end]) if course.ends else finite


def _steps_learned(values: jax.Array, course: Course) -> jax.Array:
    mu, eta = _momentum(course), course.step

    def step(_number: object, state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        learned, last = state
        last = mu * last + eta * (1 - values * learned)
        return learned + last, last

    def stretch(state: tuple[jax.Array, jax.Array], gap: tuple[jax.Array, jax.Array]) -> tuple[Any, jax.Array]:
        state = jax.lax.fori_loop(*gap, step, state)
        return state, state[0]

    nothing = jnp.zeros_like(values)
    return jax.lax.scan(stretch, (nothing, nothing), course.gaps)[1]


def _momentum(course: Course) -> float:
    return course.algorithm.momentum if isinstance(course.algorithm, Momentum) else 0.0


def _by_steps(H: jax.Array, z: jax.Array, y: jax.Array, course: Course, key: jax.Array) -> jax.Array:
    """Steps on the outputs: whatever the loss, and with batches."""
    few, eta, mu = y.shape[1], course.step, _momentum(course)
    batches = Batches(course, few, key)

    def step(number: jax.Array, state: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        z, last, order = state
        order = batches.order(number, order)
        if course.has_batches:
            mine = batches.inputs(number, order)
            slope = batches.scale * course.loss.gradient(z[:, mine], y[:, mine])
            last = -eta * jnp.tensordot(H[..., mine], slope, 2)
        else:
            last = mu * last - eta * jnp.tensordot(H, course.loss.gradient(z[:, :few], y), 2)
        return z + last, last, order

    def stretch(state: Any, gap: tuple[jax.Array, jax.Array]) -> tuple[Any, jax.Array]:
        state = jax.lax.fori_loop(*gap, step, state)
        return state, state[0]

    return jax.lax.scan(stretch, (z, jnp.zeros_like(z), batches.first()), course.gaps)[1]


def _by_flow(H: jax.Array, z: jax.Array, y: jax.Array, course: Course) -> jax.Array:
    """The flow of the outputs under a loss that is not quadratic."""
    few = y.shape[1]

    def velocity(_time: object, z: jax.Array, _args: object) -> jax.Array:
        return -jnp.tensordot(H, course.loss.gradient(z[:, :few], y), 2)

    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(velocity),
        diffrax.Tsit5(),
        t0=0.0,
        t1=course.times[-1],
        dt0=None,
        y0=z,
        saveat=diffrax.SaveAt(ts=jnp.asarray(course.times)),
        stepsize_controller=diffrax.PIDController(rtol=1e-8, atol=1e-10),
        max_steps=200_000,
        throw=False,
    )
    return jnp.where(diffrax.is_okay(solution.result), solution.ys, jnp.nan)
