"""A table that never cuts a number: 2.70 × 10²³ cut to 2.70 × 10² is wrong, and looks right.

What is too wide for the page is first broken where ranges begin, "0.0838 (0.0653 … 0.101)" before its bracket, then
inside of the bracket. What is still too wide goes on below, in parts that repeat the first column; and what is wider
than the page all by itself is folded.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

_PADDING, _GAP = 2, 3  # what rich adds to a column, and with the blank it puts between two
_BREAKS: tuple[tuple[str, ...], ...] = ((), (" (",), (" (", " … "))


@dataclass(frozen=True)
class _Row:
    cells: tuple[str | Text, ...]
    style: str


class FittedTable:
    """Rows of short cells under a thin rule, without a frame; as `rich.table.Table` but for what does not fit."""

    def __init__(self, *columns: str) -> None:
        self.names = columns
        self.rows: list[_Row] = []

    @property
    def row_count(self) -> int:
        return len(self.rows)

    def add_row(self, *cells: str | Text, style: str = "") -> None:
        """A row; columns without a cell stay empty."""
        padded = cells + ("",) * (len(self.names) - len(cells))
        self.rows.append(_Row(padded, style))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        page = options.max_width
        rows = self.rows
        for breaks in _BREAKS:
            rows = [_Row(tuple(_broken(cell, breaks) for cell in row.cells), row.style) for row in self.rows]
            if sum(self._widths(rows)) - _GAP <= page:
                break
        for i, part in enumerate(_parts(self._widths(rows), page)):
            if i:
                yield ""
            table = thin_table(*(self.names[column] for column in part), folds=True)
            for row in rows:
                table.add_row(*(row.cells[column] for column in part), style=row.style)
            yield table

    def _widths(self, rows: list[_Row]) -> list[int]:
        """Of each column, with the gap behind it."""
        columns = zip(self.names, *(row.cells for row in rows), strict=True)
        return [max(map(_width, cells)) + _GAP for cells in columns]


def thin_table(*columns: str, folds: bool = False) -> Table:
    """A `rich` table of thin lines and air: no frame, one rule under the head."""
    table = Table(
        box=box.SIMPLE_HEAD, padding=(0, _PADDING, 0, 0), show_edge=False, pad_edge=False, header_style="bold"
    )
    for column in columns:
        table.add_column(column, no_wrap=not folds, overflow="fold")
    return table


def _width(cell: str | Text) -> int:
    text = cell.plain if isinstance(cell, Text) else Text.from_markup(cell).plain
    return max(map(cell_len, text.split("\n")))


def _broken(cell: Any, breaks: tuple[str, ...]) -> Any:
    text = cell.plain if isinstance(cell, Text) else cell
    for where in breaks:
        text = text.replace(where, "\n" + where.lstrip())
    return Text(text, style=cell.style) if isinstance(cell, Text) else text


def _parts(widths: list[int], page: int) -> Iterator[list[int]]:
    """Columns that fit beside each other, the first one in every part."""
    part, used = [0], widths[0]
    for column, width in enumerate(widths[1:], start=1):
        if len(part) > 1 and used + width - _GAP > page:
            yield part
            part, used = [0], widths[0]
        part.append(column)
        used += width
    yield part
