"""Tables that are too wide for the page lose no digit of a number, whatever the page."""

import io
import re

import pytest
from rich.console import Console
from rich.text import Text

from finitewidth.report.fitted_table import FittedTable

RANGE = "3.24 × 10²² (2.38 × 10²⁰ … 2.70 × 10²³)"
WIDE = "−1.10845 × 10⁻¹⁰"


def printed(table: FittedTable, width: int) -> str:
    text = io.StringIO()
    Console(file=text, width=width, no_color=True, color_system=None).print(table)
    lines = [line.rstrip() for line in text.getvalue().splitlines()]
    assert max(map(len, lines)) <= width
    return "\n".join(lines)


@pytest.mark.parametrize("width", [60, 80, 100, 200])
@pytest.mark.parametrize("columns", [1, 2, 5, 8])
def test_every_number_is_printed_whole(width: int, columns: int) -> None:
    table = FittedTable("layer", *(f"column {i}" for i in range(columns)))
    table.add_row("1", *([RANGE] * columns))
    table.add_row("2", *(Text(WIDE) for _ in range(columns)))
    text = printed(table, width)
    for number, count in (("3.24 × 10²²", 1), ("2.38 × 10²⁰", 1), ("2.70 × 10²³", 1), (WIDE, 1)):
        assert len(re.findall(f"{re.escape(number)}(?![⁰-⁹⁻])", text)) == count * columns
    assert all(f"column {i}" in text for i in range(columns))
    assert text.count("layer") == text.count("─\n")  # every part repeats the first column


def test_what_fits_stays_as_it_is() -> None:
    table = FittedTable("layer", "K")
    table.add_row("1", RANGE)
    assert RANGE in printed(table, 50)
    assert printed(table, 50).splitlines()[1] == "─" * (len("layer") + 3 + len(RANGE))
    assert RANGE in printed(table, len("layer") + 3 + len(RANGE))


def test_rows_may_be_short() -> None:
    table = FittedTable("", "a", "b")
    table.add_row("title")
    assert table.row_count == 1 and "title" in printed(table, 40)
