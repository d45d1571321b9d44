"""Which training inputs a step of stochastic gradient descent sees: batches without replacement, drawn anew each epoch.

The order of an epoch comes from the network's own key and the epoch's number: it is the same whoever trains it.
"""

from typing import Any

import jax
import jax.numpy as jnp

from finitewidth.algorithms import Sgd
from finitewidth.experiments.courses import Course


class Batches:
    """The batches of one network.

    Arguments
        course: a training; all but `Sgd` see all inputs in every step, and nothing here is read.
        inputs: how many training inputs there are. key: of the network's orders.
    """

    def __init__(self, course: Course, inputs: int, key: jax.Array):
        self._course, self._inputs, self._key = course, inputs, key
        self.size = course.algorithm.batch_size if isinstance(course.algorithm, Sgd) else inputs
        self._per_epoch = inputs // self.size

    @property
    def scale(self) -> float:
        """N_T / batch size: on average over batches a step is one of gradient descent."""
        return self._inputs / self.size

    def first(self) -> jax.Array:
        """The order of inputs before any step."""
        return jnp.arange(self._inputs)

    def order(self, number: Any, before: jax.Array) -> jax.Array:
        """The order of inputs in step `number`, given that of the step before: new when an epoch begins."""
        if not self._course.has_batches:
            return before

        def anew() -> jax.Array:
            return jax.random.permutation(jax.random.fold_in(self._key, number // self._per_epoch), self._inputs)

        return jax.lax.cond(number % self._per_epoch == 0, anew, lambda: before)

    def inputs(self, number: Any, order: jax.Array) -> jax.Array:
        """The inputs that step `number` sees."""
        return jax.lax.dynamic_slice_in_dim(order, (number % self._per_epoch) * self.size, self.size)
