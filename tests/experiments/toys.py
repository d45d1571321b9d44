"""An experiment without networks, which costs nothing and whose every number is known: for runs and engines."""

import time

import numpy as np

from finitewidth.experiments.experiment import Quantity


def _mean(averages):
    return averages["x"]


def _variance(averages):
    return averages["xx"] - averages["x"] ** 2


class Toy:
    """Network k contributes a number that is decided by k, and its square.

    seconds: of sleep for every group. bad: networks that contribute NaN. grows_at: from this network on, the shape
    changes. fails_at: this network raises.
    """

    def __init__(self, *, together=8, seconds=0.0, bad=(), grows_at=None, fails_at=None, cost=1e6, seed=0):
        self.together, self.cost, self.seconds, self.seed = together, cost, seconds, seed
        self.bad, self.grows_at, self.fails_at = tuple(bad), grows_at, fails_at

    def describe(self):
        return {"toy": True, "seed": self.seed, "bad": list(self.bad)}

    def contributions(self, numbers):
        assert numbers.shape == (self.together,)
        time.sleep(self.seconds)
        if self.fails_at is not None and (numbers == self.fails_at).any():
            raise KeyboardInterrupt
        x = np.sin(1.0 + self.seed + numbers**1.5) + 0.1
        x = np.where(np.isin(numbers, self.bad), np.nan, x)
        if self.grows_at is not None and numbers[0] >= self.grows_at:
            x = np.stack([x, x], axis=1)
        return {"x": x, "xx": x**2}

    def quantities(self):
        return {"mean": Quantity(_mean), "variance": Quantity(_variance)}


def numbers_of(toy, n):
    """What networks 0 … n − 1 contribute."""
    return np.sin(1.0 + toy.seed + np.arange(n) ** 1.5) + 0.1


def bits(run):
    """Everything that a run estimates, to the last bit."""
    return {name: (each.value.tobytes(), each.standard_error.tobytes()) for name, each in run.estimates.items()}
