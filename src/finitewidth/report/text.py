"""The report on a terminal: a table in colour there, plain text in a pipe."""

import os
import sys
from typing import TYPE_CHECKING, TextIO

from rich import box
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from finitewidth.report.rows import groups
from finitewidth.report.words import layers, number

if TYPE_CHECKING:
    from finitewidth.report.contents import Report

_MOODS = {"good": "green", "bad": "red", "": ""}


def console_for(stream: TextIO | None = None) -> Console:
    """A console on `stream` (standard output): as wide as the terminal up to 100 columns; in a pipe 100, or what COLUMNS says."""
    stream = stream or sys.stdout
    if stream.isatty():
        console = Console(file=stream, highlight=False)
        return console if console.width <= 100 else Console(file=stream, highlight=False, width=100)
    columns = os.environ.get("COLUMNS", "")
    width = int(columns) if columns.isdigit() and int(columns) > 0 else 100
    return Console(file=stream, highlight=False, width=width, no_color=True, force_terminal=False)


def render(report: "Report") -> RenderableType:
    """The whole report: verdict, table, what to do, where the time went."""
    healthy = report.yours.signals.norms.word == report.yours.signals.angles.word == "critical"
    parts: list[RenderableType] = [Text(report.verdict, style="bold green" if healthy else "bold red")]
    if report.critical is not None:
        from finitewidth.report.verdict import headline

        parts.append(Text(headline(report.critical)))
    parts += ["", Text(subject(report), style="dim"), "", _table(report), "", _todo(report), "", _timings(report)]
    return Group(*parts)


def subject(report: "Report") -> str:
    """The network and the data, in a line."""
    net, sample = report.yours.net, report.sample
    inputs = f"all {sample.total}" if sample.used == sample.total else f"{sample.used} of {sample.total}"
    return (
        f"{net.activation.name}, depth {net.depth}, width {width_in_words(net.widths)}, "
        f"{sample.n_in} inputs, {net.n_out} outputs; {inputs} rows of {sample.source}"
    )


def width_in_words(widths: tuple[int, ...]) -> str:
    """Hidden widths, shortened."""
    if not widths:
        return "none (no hidden layer)"
    if len(set(widths)) == 1:
        return str(widths[0])
    return ", ".join(map(str, widths)) if len(widths) <= 6 else f"{widths[0]} … {widths[-1]}"


def _table(report: "Report") -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 2, 0, 0), show_edge=False, pad_edge=False, header_style="bold")
    table.add_column("", no_wrap=True)
    for side in report.sides:
        table.add_column(side.name, no_wrap=True)
    for i, group in enumerate(groups(report)):
        if i:
            table.add_row()
        table.add_row(Text(group.title, style="bold"))
        for row in group.rows:
            table.add_row(f"  {row.name}", *(Text(cell.text, style=_MOODS[cell.mood]) for cell in row.cells))
    return table


def _todo(report: "Report") -> Group:
    advice = report.advice
    first, rest = advice.weight_std[0], advice.weight_std[-1]
    numbers = (
        f"std of weights {number(float(rest), 4)} (first layer {number(float(first), 4)}), std of biases {layers(advice.bias_std)}"
    )
    return Group(
        Text("What to do", style="bold"),
        Padding(Text(advice.words), (0, 0, 0, 2)),
        Padding(Text(numbers), (0, 0, 1, 2)),
        Padding(Text("PyTorch", style="bold"), (0, 0, 0, 2)),
        Padding(Text(advice.torch), (0, 0, 1, 4)),
        Padding(Text("JAX", style="bold"), (0, 0, 0, 2)),
        Padding(Text(advice.jax), (0, 0, 0, 4)),
    )


def _timings(report: "Report") -> Text:
    total = sum(wall for wall, _ in report.timings.values())
    compiling = sum(jit for _, jit in report.timings.values())
    each = ", ".join(f"{name} {wall:.1f}" for name, (wall, _) in report.timings.items() if wall >= 0.05)
    return Text(f"{total:.1f} s, of which {compiling:.1f} s compiling (once): {each}", style="dim")
