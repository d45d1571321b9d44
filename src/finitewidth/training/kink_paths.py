r"""Neurons near a kink of σ, followed while a network is trained.

Where the preactivation z of a neuron is close to a kink κ, it moves with c₋ = o + σ′₋ v below and c₊ = o + σ′₊ v above,
functions of training time alone (`finitewidth.training.crossings` says of what). There neurons lie evenly, x = z − κ,

    ẋ = c₋(s)  for x < 0 ,     ẋ = c₊(s)  for x > 0 ,

and where c₋ > 0 > c₊ those that reach the kink stay on it, with the slope of a neuron that stands still, 0 = o + σ′ v,
until one of the two turns round. With C(s) = ∫_0^s c, only those that begin between −max_s C₋ and max_s (−C₊) ever
reach the kink, and are followed.
"""

from typing import NamedTuple

import numpy as np

from finitewidth.activations import Activation

_PLACES = 4  # on either side of a kink, from which neurons are followed
_BESIDE = 1e-9  # of a kink, where σ′ is evaluated


class Bend(NamedTuple):
    """A kink at which σ′ jumps, and σ′ below and above."""

    place: float
    below: float
    above: float


def bends(activation: Activation) -> list[Bend]:
    """Of all kinks those at which σ′ jumps."""
    places = np.array(activation.kinks)
    beside = _BESIDE * np.maximum(1.0, np.abs(places))
    below, above = activation.evaluate(np.stack([places - beside, places + beside]), (1,))[0]
    found = zip(places.tolist(), below.tolist(), above.tolist(), strict=True)
    return [Bend(*each) for each in found if abs(each[1] - each[2]) > 1e-6]


def changes(
    other: np.ndarray, own: np.ndarray, bend: Bend, until: np.ndarray, offset: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """∫ Δσ′ dx and ∫ Δσ′² dx over all neurons near a kink, in units of z, (count, times after), of h and −h together.

    Arguments
        other, own: o and v at the nodes of training time, (count, times), of so many sample neurons.
        until: weights of ∫_0^s over the nodes, for growing s, (times after, times).
        offset: in [0, 1), (count,), of the places that are followed.
    """
    below, above = other + bend.below * own, other + bend.above * own
    with np.errstate(divide="ignore", invalid="ignore"):
        still = np.where(own == 0, bend.below, np.clip(-other / own, min(bend[1:]), max(bend[1:])))
    first = np.array([[bend.below], [bend.above]])
    found = np.zeros((2, len(until), len(other)))
    for sign in (1.0, -1.0):
        gone = [sign * until @ each.T for each in (below, above)]  # C₋, C₊
        reach = np.stack([np.maximum(gone[0].max(0), 0.0), np.maximum(-gone[1].min(0), 0.0)])
        x = (np.arange(_PLACES)[:, None, None] + offset) / _PLACES * reach * [[-1.0], [1.0]]
        for k, steps in enumerate(zip(*(np.diff(each, axis=0, prepend=0.0) for each in gone), strict=True)):
            x = _later(x, *steps)
            on_it = still[:, min(k, still.shape[1] - 1)]
            slope = np.where(x < 0, bend.below, np.where(x > 0, bend.above, on_it))
            for power, change in enumerate(found, 1):
                change[k] += ((slope**power - first**power).mean(0) * reach).sum(0)
    return found[0].T, found[1].T


def _later(x: np.ndarray, below: np.ndarray, above: np.ndarray) -> np.ndarray:
    """Where neurons are a step later, in which they would go so far below the kink, or above; on it, x is 0."""
    pace = np.where(x < 0, below, above)
    ahead = x + pace
    leaves = np.where((above > 0) & (above + below > 0), above, 0.0)
    leaves = np.where((below < 0) & (above + below < 0), below, leaves)
    with np.errstate(divide="ignore", invalid="ignore"):
        rest = np.where(x == 0, 1.0, ahead / pace)  # of the step, once the kink is reached
        return np.where(x * ahead > 0, ahead, rest * leaves)
