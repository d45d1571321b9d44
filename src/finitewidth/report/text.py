"""The report on a terminal: a table in colour there, plain text in a pipe."""

import io
import os
import sys
from typing import TYPE_CHECKING, TextIO

from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from finitewidth.report.fitted_table import FittedTable, thin_table
from finitewidth.report.rows import groups
from finitewidth.report.words import counted

if TYPE_CHECKING:
    from finitewidth.report.contents import Report

_MOODS = {"good": "green", "bad": "red", "": ""}


_WIDEST = 100
_WORDS = 16  # columns, below which words are torn apart


def print_on(renderable: RenderableType, stream: TextIO | None = None, *, least: int = 0) -> None:
    """Print on `stream` (standard output): in colour on a terminal; elsewhere plain text, no trailing blanks.

    As wide as the terminal up to 100 columns; in a pipe 100, or what the environment's COLUMNS says, but no less than
    `least`.
    """
    stream = stream or sys.stdout
    if stream.isatty():
        console = Console(file=stream, highlight=False)
        console.width = min(console.width, _WIDEST)
        console.print(renderable)
        return
    columns = os.environ.get("COLUMNS", "")
    width = min(int(columns), 200) if columns.isdigit() and int(columns) >= 40 else _WIDEST
    text = io.StringIO()
    width = max(width, least)
    console = Console(file=text, highlight=False, width=width, no_color=True, force_terminal=False, color_system=None)
    console.print(renderable)
    stream.write("\n".join(line.rstrip() for line in text.getvalue().splitlines()) + "\n")


def wrapping_table(*columns: str) -> Table:
    """A table of thin lines and air whose last column holds sentences."""
    table = thin_table(*columns)
    table.columns[-1].no_wrap, table.columns[-1].min_width = False, _WORDS
    return table


def narrowest(table: Table) -> int:
    """The width below which a table whose last column wraps has to cut the other ones."""
    console = Console(width=1000)
    longest = max(cell_len(str(cell)) for cell in table.columns[-1].cells)
    return Measurement.get(console, console.options, table).maximum - max(0, longest - _WORDS)


def render(report: "Report") -> RenderableType:
    """The whole report: verdict, table, what to do, where the time went."""
    healthy = report.yours.signals.norms.word == report.yours.signals.angles.word == "critical"
    parts: list[RenderableType] = [Text(report.verdict, style="bold green" if healthy else "bold red")]
    if report.critical is not None:
        from finitewidth.report.verdict import headline

        parts.append(Text(headline(report.critical)))
    parts += ["", Text(subject(report), style="dim")]
    parts += [Text(report.sample.note, style="bold")] if report.sample.note else []
    parts += ["", _table(report), "", _todo(report), "", _timings(report)]
    return Group(*parts)


def subject(report: "Report") -> str:
    """The network and the data, in a line."""
    net, sample = report.yours.net, report.sample
    rows = f"{sample.used} of {sample.total} rows"
    if sample.used == sample.total:
        rows = "the only row" if sample.total == 1 else f"all {sample.total} rows"
    return (
        f"{net.activation.name}, depth {net.depth}, width {width_in_words(net.widths)}, "
        f"{counted(sample.n_in, 'input')}, {counted(net.n_out, 'output')}; {rows} of {sample.source}"
    )


def width_in_words(widths: tuple[int, ...]) -> str:
    """Hidden widths, shortened."""
    if not widths:
        return "none (no hidden layer)"
    if len(set(widths)) == 1:
        return str(widths[0])
    return ", ".join(map(str, widths)) if len(widths) <= 6 else f"{widths[0]} … {widths[-1]}"


def _table(report: "Report") -> FittedTable:
    table = FittedTable("", *(side.name for side in report.sides))
    for i, group in enumerate(groups(report)):
        if i:
            table.add_row()
        table.add_row(Text(group.title, style="bold"))
        for row in group.rows:
            table.add_row(f"  {row.name}", *(Text(cell.text, style=_MOODS[cell.mood]) for cell in row.cells))
    return table


def _todo(report: "Report") -> Group:
    parts: list[RenderableType] = [
        Text("What to do", style="bold"),
        Padding(Text(report.advice_in_words), (0, 0, 0, 2)),
    ]
    if report.advice is not None:
        for name, code in (("PyTorch", report.advice.torch), ("JAX", report.advice.jax)):
            parts += ["", Padding(Text(name, style="bold"), (0, 0, 0, 2)), Padding(Text(code), (0, 0, 0, 4))]
    return Group(*parts)


def _timings(report: "Report") -> Text:
    total = sum(wall for wall, _ in report.timings.values())
    compiling = sum(jit for _, jit in report.timings.values())
    each = ", ".join(f"{name} {wall:.1f}" for name, (wall, _) in report.timings.items() if wall >= 0.05)
    return Text(f"{total:.1f} s, of which {compiling:.1f} s compiling (once): {each}", style="dim")
