"""One network's exact derivatives, contracted with the learning-rate tensor (THEORY §1, FACTS 1.3).

With g_B = λ ∇z_B, a direction in parameter space, and D_g the derivative along it (A, B, … stand for neuron and input):

    H_AB        = D_{g_B} z_A                       neural tangent kernel
    dH_ABC      = D_{g_B} D_{g_C} z_A               its differential, the dNTK
    ddI_ABCD    = D_{g_B} D_{g_C} D_{g_D} z_A       ddNTK of the first kind
    ddII_AB;CD  = (D_{g_C} ∇z_A)ᵀ λ (D_{g_D} ∇z_B)  ddNTK of the second kind

The g_B come from reverse mode and are then held fixed; every D_g is forward mode, so that one pass along a direction
gives all z_A at once. At kinks of σ the derivatives are JAX's, the almost-everywhere ones.

Two kinds of outputs keep this cheap. The first few, the *moving* ones, have gradients; the others are only read. No
output depends on the last weights of another, so along a moving output's gradient the last weights of the read ones
stand still: they are constants here, which is exact and saves most of the numbers.
"""

from collections.abc import Callable
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from finitewidth.architecture import MLP
from finitewidth.experiments.networks import Layer, Parameters, learning_rates, preactivations

Function = Callable[[Parameters], Any]


class Derivatives:
    """The derivatives of one drawn network on given inputs, each computed when it is first read.

    Indices: i any of the n_out outputs; j, k moving ones; a, b, c, d inputs. Axes follow the order of the indices.

    Arguments
        net, parameters: the network. `parameters` has n_out outputs.
        x: (N, n_in) inputs.
        moving: how many of the outputs have gradients; 0 when z alone is of interest.
    """

    def __init__(self, net: MLP, parameters: Parameters, x: jax.Array, *, moving: int):
        *hidden, last = parameters
        read_only = Layer(last.b[moving:], last.W[moving:])
        self._net, self._x = net, x
        self._at: Parameters = (*hidden, Layer(last.b[:moving], last.W[:moving]))
        self._rates = learning_rates(net, self._at)

        def outputs(at: Parameters) -> jax.Array:
            *hidden, last = at
            both = Layer(jnp.concatenate([last.b, read_only.b]), jnp.concatenate([last.W, read_only.W]))
            return preactivations(net, (*hidden, both), x)

        self._outputs = outputs

    @cached_property
    def z(self) -> jax.Array:
        """z_ia."""
        return self._outputs(self._at)

    @cached_property
    def g(self) -> Parameters:
        """λ ∇z_ja: parameters with leading axes (j, a)."""
        z, pull = jax.vjp(self._first(self.moving), self._at)
        units = jnp.eye(z.size).reshape(*z.shape, *z.shape)
        return _over_both(lambda unit: self._raised(pull(unit)[0]))(units)

    @property
    def moving(self) -> int:
        """How many outputs have gradients."""
        return self._at[-1].W.shape[0]

    @cached_property
    def H(self) -> jax.Array:
        """H_(ia)(jb): axes (i, a, j, b)."""
        H = _over_both(lambda g: _along(self._outputs, g)(self._at))(self.g)
        return jnp.moveaxis(H, (0, 1), (2, 3))

    def dH_pairs(self, count: int) -> jax.Array:
        """dH_(ia)(jb)(jc) for j < `count`: axes (i, a, j, b, c)."""
        first, second, place = _pairs(self._x.shape[0])

        def derivative(p: Parameters, q: Parameters) -> jax.Array:
            return _along(_along(self._outputs, p), q)(self._at)

        g = _cut(self.g, count)
        dH = _over_both(derivative)(_take(g, first), _take(g, second))
        return jnp.moveaxis(dH[:, place], (0, 1, 2), (2, 3, 4))

    def dH_weighted(self, count: int) -> jax.Array:
        """Σ_{i≠j} dH_(ja)(jb)(ic) z_id for j < `count`, the sum over all outputs: axes (j, a, b, c, d).

        The dNTK is linear in its last direction, so that the sum costs one: Σ_{i≠j} z_id λ∇z_ic. (The last weights of
        read outputs are missing from it; they do not move z_j.)
        """
        z, pull = jax.vjp(self._outputs, self._at)
        function, inputs = self._first(count), jnp.eye(z.shape[1])

        def one(j: jax.Array, g_j: Parameters) -> jax.Array:
            others = z.at[j].set(0.0)
            weighted = _over_both(self._raised)(
                jax.vmap(lambda c: jax.vmap(lambda z_d: pull(z_d[:, None] * c)[0])(others.T))(inputs)
            )

            def first_two(b: Parameters) -> jax.Array:
                return _over_both(lambda cd: _along(_along(function, b), cd)(self._at)[j])(weighted)

            return jnp.moveaxis(jax.vmap(first_two)(g_j), 3, 0)  # (b, c, d, a) → (a, b, c, d)

        return jax.vmap(one)(jnp.arange(count), _cut(self.g, count))

    def ddI_pairs(self, count: int) -> jax.Array:
        """ddI_(ia)(ib)(jc)(jd) for i, j < `count`: axes (i, a, b, j, c, d)."""
        g, function = _cut(self.g, count), self._first(count)
        first, second, place = _pairs(self._x.shape[0])
        numbers = jnp.broadcast_to(jnp.arange(count)[:, None], (count, self._x.shape[0]))

        def two(p: Parameters, q: Parameters) -> jax.Array:
            function_pq = _along(_along(function, p), q)
            return _over_both(lambda i, b: _along(function_pq, b)(self._at)[i])(numbers, g)

        ddI = _over_both(two)(_take(g, first), _take(g, second))[:, place]  # (j, c, d, i, b, a)
        return ddI.transpose(3, 5, 4, 0, 1, 2)

    def hessian_gradients(self, count: int) -> jax.Array:
        """√λ D_{g_jc} ∇z_ia for i, j < `count`: axes (i, a, j, c, parameter). Dot products of them are ddII."""
        function, g = self._first(count), _cut(self.g, count)
        units = jnp.eye(count * self._x.shape[0]).reshape(count, self._x.shape[0], count, self._x.shape[0])

        def gradients(at: Parameters) -> Parameters:
            pull = jax.vjp(function, at)[1]
            return _over_both(lambda unit: pull(unit)[0])(units)

        moved = _over_both(lambda c: _along(gradients, c)(self._at))(g)
        flat = [
            (jnp.sqrt(rate) * leaf).reshape(*leaf.shape[:4], -1)
            for rate, leaf in zip(jax.tree.leaves(self._rates), jax.tree.leaves(moved), strict=True)
        ]
        return jnp.moveaxis(jnp.concatenate(flat, axis=-1), (0, 1), (2, 3))

    def _first(self, count: int) -> Function:
        """The first `count` outputs, as a function of the moving parameters."""

        def outputs(at: Parameters) -> jax.Array:
            *hidden, last = at
            return preactivations(self._net, (*hidden, Layer(last.b[:count], last.W[:count])), self._x)

        return outputs

    def _raised(self, vectors: Parameters) -> Parameters:
        return jax.tree.map(jnp.multiply, self._rates, vectors)


def _along(function: Function, direction: Parameters) -> Function:
    """D_g f."""
    return lambda at: jax.jvp(function, (at,), (direction,))[1]


def _over_both(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` of every (neuron, input), the first two axes of its arguments."""
    return jax.vmap(jax.vmap(function))


def _cut(directions: Parameters, count: int) -> Parameters:
    return jax.tree.map(lambda leaf: leaf[:count], directions)


def _take(directions: Parameters, inputs: np.ndarray) -> Parameters:
    return jax.tree.map(lambda leaf: leaf[:, inputs], directions)


def _pairs(inputs: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The pairs b ≤ c of inputs, and at [b, c] which of them it is: a symmetric matrix is computed once."""
    first, second = np.triu_indices(inputs)
    place = np.empty((inputs, inputs), dtype=int)
    place[first, second] = place[second, first] = np.arange(first.size)
    return first, second, place
