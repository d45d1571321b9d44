"""The verdict in plain words: the first thing a reader sees."""

from typing import TYPE_CHECKING

import numpy as np

from finitewidth.report.words import all_layers, number, percent, power_of_ten

if TYPE_CHECKING:
    from finitewidth.report.contents import Side

ALIKE = 1.0
"""Degrees below which two inputs are said to look alike."""
_KEPT = 0.5  # share of an angle below which inputs are being forgotten


def headline(side: "Side") -> str:
    """One sentence on a network: do its signals and its gradients survive the depth?"""
    norms, angles = side.signals.norms.word, side.signals.angles.word
    depth = side.net.depth
    if angles == "undefined":
        return f"{side.title}: this activation passes no gradient, so there is nothing for gradient descent to follow."
    if norms == "exploding":
        return f"{side.title}: signals explode, {_growth(side)}; {_gradient(side)}."
    if angles == "vanishing" and _angles_fell(side):
        return f"{side.title}: the network forgets its inputs; {_alike(side)}and {_gradient(side)}."
    if angles == "vanishing":
        return f"{side.title}: gradients shrink, {_shrinking(side)}; {_still_apart(side)}{_gradient(side)}."
    if angles == "exploding":
        return f"{side.title}: chaos; nearby inputs are torn apart layer after layer, and {_gradient(side)}."
    if norms == "vanishing":
        fate = f"angles survive {all_layers(depth)}, but every input is driven to the same size"
        return f"{side.title}: {fate}; {_gradient(side)}."
    return f"{side.title}: signals and gradients survive {all_layers(depth)}; {_gradient(side)}{_trust(side)}."


def _growth(side: "Side") -> str:
    return f"by a factor {number(side.signals.growth, 3)} in variance each layer"


def _angles_fell(side: "Side") -> bool:
    """Whether depth has brought the inputs together: χ⊥ < 1 alone need not, where their size shrinks as fast."""
    angle = side.signals.angle
    return angle is not None and bool(angle.median[-1] < _KEPT * angle.median[0])


def _shrinking(side: "Side") -> str:
    chi = side.signals.angles.chi
    return f"by a factor {number(1 / chi if chi else np.inf, 2)} in variance each layer"


def _still_apart(side: "Side") -> str:
    angle = side.signals.angle
    if angle is None or angle.high[-1] < ALIKE:
        return ""
    return f"the typical angle between two inputs is still {number(float(angle.median[-1]), 2)}° at the output, but "


def _alike(side: "Side") -> str:
    assert side.signals.angle is not None
    below = np.flatnonzero(side.signals.angle.high < ALIKE)
    if len(below) == 0:
        return f"the typical angle between two falls to {number(float(side.signals.angle.median[-1]), 2)}°, "
    return f"from layer {side.signals.layer[below[0]]} on they all look alike (angles below 1°), "


def _gradient(side: "Side") -> str:
    if side.net.depth == 1:
        return "there is one layer only, so gradients have nowhere to go"
    ratio = side.gradients.first_to_last
    size = power_of_ten(ratio) if not 1e-3 < ratio < 1e4 else number(ratio, 2)
    return f"the first layer receives {size} times the last layer’s gradient"


def _trust(side: "Side") -> str:
    width = side.finite_width
    if width.first_order == "good":
        return ""
    if width.first_order == "not to be trusted":
        # the figure of first order would be stated as a fact: 390 % for a ReLU network of r = 3, where it is 1800 times
        return (
            f"; but with r = L/n = {number(width.r, 2)} it is too deep for its width: one draw may be nothing like the "
            "next, by more than first order in 1/n can tell"
        )
    return f"; at this width one draw differs from the next by {percent(width.scale_std)} in output variance"
