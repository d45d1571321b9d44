"""Training of one network: by gradient flow, an ODE, or in steps; `vmap` makes many of it.

    GradientFlow        dθ/dt = − λ ∇𝓛                    by an adaptive Runge–Kutta method (diffrax)
    all others          θ ← θ + λ u(∇𝓛)                   u from optax, its rate multiplied by λ entry by entry

The end of training (time or steps ∞, squared loss) is reached in two parts: until the errors ε have fallen to
`SETTLED` of what they were, as it comes; from there in one step along the tangent kernel at that point,
θ ← θ − λ Jᵀ H⁻¹ ε, which is where flow, descent and momentum all lead when what is left to learn is so little that the
network is linear in it. What this leaves out is quadratic in the small part that was left. (To follow the equation all
the way would take as long again for every further digit, and the slowest mode sets the pace.)

A network that diverges, or does not settle within `MOST_STEPS`, gets parameters that are not numbers: whoever averages
sees it, counts it and leaves it out.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import diffrax
import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from finitewidth.algorithms import Adam, GradientDescent, Momentum, Sgd
from finitewidth.architecture import MLP
from finitewidth.experiments.batches import Batches
from finitewidth.experiments.courses import Course
from finitewidth.experiments.networks import Parameters, learning_rates, preactivations
from finitewidth.experiments.tangent_kernel import tangent_kernel

Observe = Callable[[Parameters], Any]

RTOL, ATOL = 1e-6, 1e-8  # of the flow's parameters, each step; tests/experiments/test_training.py says what they give
SETTLED = 1e-4
MOST_STEPS = 200_000
FOREVER = math.inf


class Problem(NamedTuple):
    """One network to be trained: on the (N_T, n_in) inputs x with the (n_out, N_T) targets y, in this order."""

    net: MLP
    course: Course
    x: jax.Array
    y: jax.Array
    key: jax.Array  # of the order of batches

    def loss(self, parameters: Parameters) -> jax.Array:
        """𝓛 of all training inputs."""
        return self.course.loss(preactivations(self.net, parameters, self.x), self.y)

    def error(self, parameters: Parameters) -> jax.Array:
        """ε_ia = z_ia − y_ia."""
        return preactivations(self.net, parameters, self.x) - self.y


def train(
    net: MLP, parameters: Parameters, x: jax.Array, y: jax.Array, *, course: Course, key: jax.Array, observe: Observe
) -> Any:
    """Train one network; what `observe` sees of its parameters at every one of the course's times.

    Arguments
        net, parameters: the network at initialisation.
        x, y: (N_T, n_in) training inputs and (n_out, N_T) targets.
        course: algorithm, loss and times.
        key: of the order of batches, read by `Sgd` only.
        observe: a function of the parameters.

    Returns
        what `observe` returns, with a leading axis of times.
    """
    problem = Problem(net, course, jnp.asarray(x), jnp.asarray(y), key)
    begin, advance, finish = _flow(problem) if course.flows else _steps(problem)

    def stretch(state: Any, gap: tuple[jax.Array, jax.Array]) -> tuple[Any, Any]:
        state = advance(state, *gap)
        return state, observe(state[0])

    state, seen = begin(parameters), []
    if course.finite_times:
        state, records = jax.lax.scan(stretch, state, course.gaps)
        seen.append(records)
    if course.ends:
        end = _linear_end(problem, finish(state))
        seen.append(jax.tree.map(lambda leaf: leaf[None], observe(end)))
    return jax.tree.map(lambda *parts: jnp.concatenate(parts), *seen)


def _flow(problem: Problem) -> tuple[Callable[..., Any], ...]:
    """Gradient flow: begin, advance(state, start, end), finish(state); a state is (parameters, those before, time)."""

    def advance(state: Any, start: Any, end: Any) -> Any:
        parameters, first, _ = state
        vector, unravel = ravel_pytree(parameters)  # one array compiles faster than many

        def velocity(_time: Any, vector: jax.Array, _args: Any) -> jax.Array:
            parameters = unravel(vector)
            rates, slope = learning_rates(problem.net, parameters), jax.grad(problem.loss)(parameters)
            return ravel_pytree(jax.tree.map(lambda rate, each: -rate * each, rates, slope))[0]

        event = diffrax.Event(lambda _time, vector, _args, **_: _settled(problem, first, unravel(vector)))
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(velocity),
            diffrax.Tsit5(),
            t0=start,
            t1=end,
            dt0=None,
            y0=vector,
            stepsize_controller=diffrax.PIDController(rtol=RTOL, atol=ATOL),
            event=event if end is FOREVER else None,
            max_steps=MOST_STEPS,
            throw=False,
        )
        done = diffrax.is_okay(solution.result)
        return unravel(jnp.where(done, solution.ys[-1], jnp.nan)), first, end

    def finish(state: Any) -> Parameters:
        return advance(state, state[2], FOREVER)[0]

    return lambda parameters: (parameters, parameters, 0.0), advance, finish


def _steps(problem: Problem) -> tuple[Callable[..., Any], ...]:
    """All others: begin, advance(state, start, end), finish(state); a state is (parameters, optimiser's, …)."""
    net, course, x, y, _ = problem
    optimiser, batches = _optimiser(problem.course.algorithm), Batches(problem.course, problem.x.shape[0], problem.key)

    def loss(parameters: Parameters, number: Any, order: jax.Array) -> jax.Array:
        if not course.has_batches:
            return problem.loss(parameters)
        mine = batches.inputs(number, order)
        return batches.scale * course.loss(preactivations(net, parameters, x[mine]), y[:, mine])

    def step(number: Any, state: Any) -> Any:
        parameters, memory, order, first = state
        order = batches.order(number, order)
        slope = jax.grad(loss)(parameters, number, order)
        update, memory = optimiser.update(slope, memory, parameters)
        rates = learning_rates(problem.net, parameters)
        moved = jax.tree.map(lambda at, rate, by: at + rate * by, parameters, rates, update)
        return moved, memory, order, first

    def begin(parameters: Parameters) -> Any:
        return parameters, optimiser.init(parameters), batches.first(), parameters

    def advance(state: Any, start: Any, end: Any) -> Any:
        return jax.lax.fori_loop(start, end, step, state)

    def finish(state: Any) -> Parameters:
        start = problem.course.finite_times[-1] if problem.course.finite_times else 0

        def go_on(carry: Any) -> jax.Array:
            number, (parameters, _, _, first) = carry
            return (number < MOST_STEPS) & ~_settled(problem, first, parameters)

        number, (parameters, *_) = jax.lax.while_loop(
            go_on, lambda carry: (carry[0] + 1, step(*carry)), (jnp.asarray(start), state)
        )
        return jax.tree.map(lambda leaf: jnp.where(number < MOST_STEPS, leaf, jnp.nan), parameters)

    return begin, advance, finish


def _optimiser(algorithm: Any) -> optax.GradientTransformation:
    match algorithm:
        case GradientDescent() | Sgd():
            return optax.sgd(algorithm.step)
        case Momentum():
            return optax.sgd(algorithm.step, momentum=algorithm.momentum)
        case Adam():
            return optax.adam(algorithm.step, b1=algorithm.beta1, b2=algorithm.beta2, eps=algorithm.epsilon)
    raise TypeError(algorithm)


def _settled(problem: Problem, first: Parameters, now: Parameters) -> jax.Array:
    """Whether what is left to learn is so little that the network is linear in it.

    Either the errors are small, or, where labels contradict each other and cannot all be met, the loss stands still.
    """
    small = jnp.linalg.norm(problem.error(now)) <= SETTLED * jnp.linalg.norm(problem.error(first))
    still = _fall(problem, now) <= 1e-4 * SETTLED**2 * _fall(problem, first)
    return small | still


def _fall(problem: Problem, parameters: Parameters) -> jax.Array:
    """− d𝓛/dt = Σ λ (∂𝓛/∂θ)²."""
    rates, slope = learning_rates(problem.net, parameters), jax.grad(problem.loss)(parameters)
    squares = jax.tree.map(lambda rate, each: rate * jnp.sum(each**2), rates, slope)
    return jnp.sum(jnp.stack(jax.tree.leaves(squares)))


def _linear_end(problem: Problem, parameters: Parameters) -> Parameters:
    """θ − λ Jᵀ H⁺ ε: the end of the training of the linearisation at these parameters."""
    error, pull = jax.vjp(problem.error, parameters)
    H = tangent_kernel(problem.net, parameters, problem.x).reshape(error.size, error.size)
    # modes that do not move, such as differences of equal inputs, keep their error
    inverse = jnp.linalg.pinv(H, rtol=1e-12, hermitian=True)
    (slope,) = pull((inverse @ error.ravel()).reshape(error.shape))
    rates = learning_rates(problem.net, parameters)
    return jax.tree.map(lambda at, rate, by: at - rate * by, parameters, rates, slope)
