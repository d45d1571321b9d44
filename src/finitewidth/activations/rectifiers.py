"""Rectifiers: two half-lines that meet at 0, and their near relatives (PDLT ch. 5.2, the scale-invariant class)."""

from finitewidth.activations.activation import Parity
from finitewidth.activations.entry import Known, entry, require
from finitewidth.activations.piecewise import piecewise


def half_lines(minus: float, plus: float) -> Known:
    """a₋ z for z < 0 and a₊ z for z > 0."""
    parity: Parity = "even" if minus == -plus else "odd" if minus == plus else "none"
    return piecewise(
        (0.0,),
        ((0.0, minus) if minus else (0.0,), (0.0, plus)),
        parity=parity,
        closed_form=("piecewise_linear", (minus, plus)),
        tails=(f"{minus:g} z" if minus else "0", f"{plus:g} z" if plus != 1.0 else "z"),
    )


@entry(torch="ReLU", jax="relu", aliases=("rectifier",))
def relu() -> Known:
    """max(z, 0)."""
    return half_lines(0.0, 1.0)


@entry(torch="LeakyReLU", jax="leaky_relu", aliases=("lrelu",))
def leaky_relu(negative_slope: float = 0.01) -> Known:
    """z above 0, negative_slope · z below."""
    return half_lines(negative_slope, 1.0)


@entry(torch="PReLU")
def prelu(slope: float = 0.25) -> Known:
    """z above 0, slope · z below: one slope for all neurons, at the value it is initialised with."""
    return half_lines(slope, 1.0)


@entry(torch="RReLU")
def rrelu(lower: float = 1 / 8, upper: float = 1 / 3) -> Known:
    """z above 0, (lower + upper)/2 · z below: torch's RReLU in eval mode; in training its slope is random."""
    require(upper >= lower, "upper", f"at least `lower` = {lower:g}", upper)
    return half_lines(0.5 * (lower + upper), 1.0)


@entry(jax="abs", aliases=("absolute",))
def abs() -> Known:  # its name in the catalogue
    """|z|."""
    return half_lines(-1.0, 1.0)


@entry(torch="ReLU6", jax="relu6")
def relu6() -> Known:
    """min(max(z, 0), 6)."""
    return piecewise((0.0, 6.0), ((0.0,), (0.0, 1.0), (6.0,)), tails=("0", "6"))


@entry(aliases=("relu2", "squared_relu"))
def relu_squared() -> Known:
    """max(z, 0)²."""
    return piecewise((0.0,), ((0.0,), (0.0, 0.0, 1.0)), tails=("0", "z²"))


@entry(torch="Threshold", example=(0.1, 0.0))
def threshold(threshold: float, value: float) -> Known:
    """z above threshold, the constant value below."""
    return piecewise((threshold,), ((value,), (0.0, 1.0)), tails=(f"{value:g}", "z"))
