"""Numbers as a reader wants them: the digits that mean something, and powers of ten as powers of ten."""

import math

import numpy as np
from numpy.typing import ArrayLike

from finitewidth.criticality.words import superscript


def number(value: float | None, digits: int = 3) -> str:
    """`value` to `digits` significant digits: 0.0123, 45.6, 2.11 × 10⁻²⁶, ∞; a dash for what does not exist.

    >>> number(0.17292239), number(2.11e-26), number(81234.5), number(float("nan"))
    ('0.173', '2.11 × 10⁻²⁶', '81200', '–')
    """
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if value == 0:
        return "0"
    mantissa, power = f"{value:.{digits - 1}e}".split("e")
    exponent = int(power)
    if -4 < exponent < 5:
        rounded = round(value, digits - 1 - exponent)
        return f"{rounded:.{max(0, digits - 1 - exponent)}f}".replace("-", "−")
    return f"{mantissa} × 10{superscript(exponent)}".replace("-", "−")


def power_of_ten(value: float) -> str:
    """A rough size: 10⁻²⁶, 300, 0.02.

    >>> power_of_ten(2.11e-26), power_of_ten(312.0)
    ('10⁻²⁶', '300')
    """
    if value == 0 or not math.isfinite(value):
        return number(value)
    exponent = round(math.log10(abs(value)))
    return f"10{superscript(exponent)}" if abs(exponent) >= 4 else number(value, 1)


def counted(count: int, noun: str) -> str:
    """So many of them.

    >>> counted(1, "input"), counted(64, "input")
    ('1 input', '64 inputs')
    """
    return f"{count} {noun}{'' if count == 1 else 's'}"


def all_layers(count: int) -> str:
    """All layers of so many.

    >>> all_layers(1), all_layers(2), all_layers(24)
    ('the only layer', 'both layers', 'all 24 layers')
    """
    return {1: "the only layer", 2: "both layers"}.get(count, f"all {count} layers")


def spread(median: float, low: float, high: float, digits: int = 3) -> str:
    """Median and, in brackets, the 5th to the 95th percentile; the bracket is left out where all are the same."""
    shown = number(median, digits)
    ends = number(low, digits), number(high, digits)
    return shown if ends[0] == ends[1] == shown else f"{shown} ({ends[0]} … {ends[1]})"


def percent(value: float) -> str:
    """A ratio as a percentage of two digits.

    >>> percent(0.4693), percent(1.234)
    ('47 %', '120 %')
    """
    return "–" if math.isnan(value) else f"{number(100 * value, 2)} %"


def layers(values: ArrayLike, digits: int = 6) -> str:
    """A value given per layer, shortened: one number where all agree, that of all but the first, or first … last.

    >>> layers([2.0, 2.0]), layers([14.4, 2.0, 2.0]), layers([1.0, 2.0, 3.0])
    ('2.00000', '2.00000 (first 14.40)', '1.000 … 3.000')
    """
    array = np.atleast_1d(np.asarray(values, dtype=np.float64))
    if np.all(array == array[0]):
        return number(float(array[0]), digits)
    if np.all(array[1:] == array[1]):
        return f"{number(float(array[1]), digits)} (first {number(float(array[0]), 4)})"
    return f"{number(float(array[0]), 4)} … {number(float(array[-1]), 4)}"


def sentence(text: str) -> str:
    """With a capital first letter and a full stop; a symbol stays what it is.

    >>> sentence("no critical point"), sentence("χ∥ = χ⊥ = 1 at K* = 1")
    ('No critical point.', 'χ∥ = χ⊥ = 1 at K* = 1.')
    """
    first = text[:1].upper() if text[:1].isascii() else text[:1]  # the capital of χ is Χ
    return f"{first}{text[1:].rstrip('.')}."
