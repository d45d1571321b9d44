"""Numbers in words."""

import math

from hypothesis import given
from hypothesis import strategies as st

from finitewidth.report.strict_json import plain
from finitewidth.report.words import layers, number, percent, power_of_ten, spread


def parse(text: str) -> float:
    digits = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻−", "0123456789--")
    mantissa, _, power = text.partition(" × 10")
    return float(mantissa.translate(digits)) * 10.0 ** int(power.translate(digits) or 0)


@given(st.floats(min_value=1e-280, max_value=1e280), st.integers(min_value=1, max_value=9), st.sampled_from([1, -1]))
def test_number_is_right_to_the_digits_shown(value: float, digits: int, sign: int) -> None:
    shown = parse(number(sign * value, digits))
    assert math.isclose(shown, sign * value, rel_tol=0.5000001 * 10.0 ** (1 - digits))


def test_what_is_no_number() -> None:
    assert (number(math.nan), number(math.inf), number(-math.inf), number(None), number(0.0)) == (
        "–",
        "∞",
        "−∞",
        "–",
        "0",
    )


def test_shortened_values() -> None:
    assert percent(0.4693) == "47 %"
    assert power_of_ten(3e-12) == "10⁻¹²"
    assert spread(1.0, 1.0, 1.0) == "1.00"
    assert layers([3.0, 1.0, 1.0]) == "1.00000 (first 3.000)"


def test_json_has_null_for_what_is_not_finite() -> None:
    assert plain({"a": math.nan, "b": [math.inf, 1.5], "c": {"d": True, "e": None}}) == {
        "a": None,
        "b": [None, 1.5],
        "c": {"d": True, "e": None},
    }
