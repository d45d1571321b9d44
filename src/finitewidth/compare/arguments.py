"""What every verification is asked for, checked once: how many networks, of which widths, what fit, which alarms."""

from collections.abc import Sequence
from math import gcd
from numbers import Real
from typing import Any

import numpy as np

from finitewidth.architecture import MLP, check_mlp, whole_number
from finitewidth.errors import InputError

FEWEST = 200


def check_networks(n_networks: Any) -> None:
    """Refuse so few networks that their standard errors are none."""
    whole_number("n_networks", n_networks)
    if n_networks < FEWEST:
        raise InputError(
            f"`n_networks` must be at least {FEWEST} for its errors to mean something, but got {n_networks}"
        )


def check_rate(false_alarm_rate: Any) -> None:
    """Refuse what is no rate."""
    if not isinstance(false_alarm_rate, Real) or not 0 < float(false_alarm_rate) < 1:
        raise InputError(f"`false_alarm_rate` must lie between 0 and 1, but got {false_alarm_rate!r}")


def checked_degree(degree: Any, *, least: int = 0) -> int:
    """The degree of a fit, from `least` to 3."""
    if isinstance(degree, bool) or degree not in range(least, 4):
        allowed = ", ".join(map(str, range(least, 3)))
        raise InputError(f"`degree` must be {allowed} or 3, but got {degree!r}")
    return int(degree)


def scaled_widths(net: MLP, widths: Sequence[int], degree: int) -> list[list[int]]:
    """Widths of all hidden layers, in the ratios of `net`, for each width of the last of them."""
    check_mlp(net)
    if isinstance(widths, str) or not isinstance(widths, (Sequence, np.ndarray)):
        raise InputError(f"`widths` must be a list such as [24, 48, 96], but got {widths!r}")
    for width in widths:
        whole_number("widths", width)
    if len(set(widths)) <= degree:
        raise InputError(
            f"`widths` must have at least degree + 1 = {degree + 1} different entries to be extrapolated, but got "
            f"{list(widths)}"
        )
    if net.depth == 1:
        raise InputError("`net` has depth 1 and no hidden layer: nothing is of order 1/n")
    hidden = np.array(net.widths)
    smallest = hidden[-1] // gcd(*map(int, hidden)) if len(hidden) > 1 else 1
    if any(width % smallest for width in widths):
        raise InputError(
            f"`widths` must be multiples of {smallest}, so that hidden layers keep the ratios of {list(net.widths)}, "
            f"but got {list(widths)}"
        )
    return [[int(width * n // hidden[-1]) for n in hidden] for width in widths]
