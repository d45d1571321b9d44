"""Pictures of a report: one idea each, drawn without touching the user's Matplotlib."""

import os
import tempfile
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from finitewidth.report.canvas import (
    COLOURS,
    INK,
    SIZE,
    direct_labels,
    horizontal_rule,
    layer_axis,
    log_axis,
    new_figure,
    style,
    to_png,
    to_svg,
)
from finitewidth.report.finite_width import GOOD, POOR
from finitewidth.report.phase import Mark, draw_phase
from finitewidth.report.signals import Spread
from finitewidth.report.words import layers, number

if TYPE_CHECKING:
    from finitewidth.report.contents import Report, Side

_FLOOR = 1e-300  # what a logarithmic axis can still show


def pictures(report: "Report") -> dict[str, Callable[[Axes], None]]:
    """The pictures that this report can show, in order: name → what draws it."""
    drawn = {
        "signals": lambda axes: _signals(report, axes),
        "angles": lambda axes: _angles(report, axes),
        "susceptibilities": lambda axes: _susceptibilities(report, axes),
        "gradients": lambda axes: _gradients(report, axes),
        "spectrum": lambda axes: _spectrum(report, axes),
        "width": lambda axes: _width(report, axes),
        "phase": lambda axes: _phase(report, axes),
    }
    if report.yours.signals.angle is None:
        del drawn["angles"]
    if report.yours.net.depth == 1:
        del drawn["susceptibilities"]
    return drawn


def save_pictures(report: "Report", directory: Path) -> list[Path]:
    """Each picture as PNG in `directory`, and `report.png` with all of them; their paths."""
    directory.mkdir(parents=True, exist_ok=True)
    paths = []
    with style():
        drawn = pictures(report)
        for name, draw in drawn.items():
            figure = new_figure()
            figure.set_dpi(200)
            draw(figure.add_subplot())
            paths.append(write_whole(directory / f"{name}.png", to_png(figure)))
        paths.append(write_whole(directory / "report.png", to_png(_overview(report, list(drawn.values())))))
    return paths


def _overview(report: "Report", drawn: list[Callable[[Axes], None]]) -> Figure:
    columns = 4 if len(drawn) > 6 else 3
    rows = -(-len(drawn) // columns)
    figure = new_figure(columns * (SIZE[0] - 0.4), rows * (SIZE[1] - 0.1) + 0.8)
    figure.set_dpi(150)
    figure.suptitle(
        textwrap.fill(report.verdict, 32 * columns), x=0.008, ha="left", fontsize=13, fontweight="bold", color=INK
    )
    figure.set_layout_engine("constrained", w_pad=0.14, h_pad=0.12)
    for k, draw in enumerate(drawn):
        draw(figure.add_subplot(rows, columns, k + 1))
    if len(drawn) < rows * columns:
        _summary(report, figure.add_subplot(rows, columns, len(drawn) + 1))
    return figure


def _summary(report: "Report", axes: Axes) -> None:
    """What to do, in the place that the pictures leave free."""
    axes.set_axis_off()
    axes.set_title("What to do")
    advice = report.advice
    if advice is None:
        axes.text(
            0,
            0.96,
            textwrap.fill(report.advice_in_words, 48),
            transform=axes.transAxes,
            va="top",
            fontsize=9,
            color=INK,
        )
        return
    lines = [
        f"C_b  {layers(advice.C_b)}",
        f"C_W  {layers(advice.C_W)}",
        f"std of biases  {layers(advice.bias_std)}",
        f"std of weights  √(C_W / fan-in): {number(float(advice.weight_std[-1]), 4)}",
        f"    first layer  {number(float(advice.weight_std[0]), 4)}",
    ]
    axes.text(0, 0.96, "\n".join(lines), transform=axes.transAxes, va="top", linespacing=1.9, fontsize=9.5, color=INK)


def svg_pictures(report: "Report") -> dict[str, str]:
    """Each picture as an SVG element for the page."""
    drawn = {}
    with style():
        for name, draw in pictures(report).items():
            figure = new_figure()
            draw(figure.add_subplot())
            drawn[name] = to_svg(figure, name)
    return drawn


def write_whole(path: Path, content: bytes) -> Path:
    """Whole or not at all: written beside and renamed."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    with os.fdopen(handle, "wb") as file:
        file.write(content)
    os.chmod(temporary, 0o644)
    os.replace(temporary, path)
    return path


def _banded(report: "Report", axes: Axes, values: Callable[["Side"], Spread | None]) -> list[tuple[float, str, str]]:
    labels = []
    for side, colour in zip(report.sides, COLOURS, strict=False):
        spread = values(side)
        assert spread is not None
        layer = side.signals.layer
        axes.fill_between(layer, spread.low, spread.high, color=colour, alpha=0.16, linewidth=0)
        axes.plot(layer, spread.median, color=colour, marker="o" if len(layer) == 1 else "")
        labels.append((float(spread.median[-1]), side.name, colour))
    return labels


def _signals(report: "Report", axes: Axes) -> None:
    axes.set_title("Size of signals, K")
    axes.set_yscale("log")
    labels = _banded(report, axes, lambda side: side.signals.K)
    low = min(float(side.signals.K.low.min()) for side in report.sides)
    high = max(float(side.signals.K.high.max()) for side in report.sides)
    _log_limits(axes, low, high)
    layer_axis(axes, report.yours.net.depth)
    direct_labels(axes, labels)


def _angles(report: "Report", axes: Axes) -> None:
    axes.set_title("Angle between two inputs")
    labels = _banded(report, axes, lambda side: side.signals.angle)
    top = max(float(side.signals.angle.high.max()) for side in report.sides if side.signals.angle is not None)
    axes.set_ylim(0, 180 if top > 100 else 90)
    axes.set_yticks([0, 45, 90, 135, 180] if top > 100 else [0, 30, 60, 90])
    axes.yaxis.set_major_formatter("{x:g}°")
    layer_axis(axes, report.yours.net.depth)
    direct_labels(axes, labels)


def _susceptibilities(report: "Report", axes: Axes) -> None:
    axes.set_title("Susceptibilities, χ")
    labels = []
    top = 1.0
    for side, colour in zip(report.sides, COLOURS, strict=False):
        layer = side.signals.layer[:-1]
        parallel, perp = side.signals.chi_parallel, side.signals.chi_perp
        axes.plot(layer, parallel, color=colour, marker="o" if len(layer) == 1 else "")
        axes.plot(layer, perp, color=colour, dashes=(2.5, 1.6), marker="s" if len(layer) == 1 else "")
        if abs(parallel[-1] - perp[-1]) < 0.06 * max(1.0, parallel[-1], perp[-1]):
            labels.append((float(perp[-1]), f"χ∥, χ⊥ {side.name}", colour))
        else:
            labels += [(float(parallel[-1]), f"χ∥ {side.name}", colour), (float(perp[-1]), f"χ⊥ {side.name}", colour)]
        top = float(np.nanmax([*parallel, *perp], initial=top))  # of a σ that jumps, χ⊥ is NaN at every layer
    horizontal_rule(axes, 1.0)
    axes.set_ylim(0, 1.12 * top)
    layer_axis(axes, report.yours.net.depth - 1)
    axes.set_xlabel("layer   (solid: χ∥, sizes; dashed: χ⊥, angles)")
    direct_labels(axes, labels)


def _gradients(report: "Report", axes: Axes) -> None:
    axes.set_title("Gradients by layer, relative to the last")
    axes.set_yscale("log")
    labels = []
    low = high = 1.0
    for side, colour in zip(report.sides, COLOURS, strict=False):
        size = np.sqrt(side.gradients.weights)
        shown = np.where(size > _FLOOR, size, np.nan)
        axes.plot(side.signals.layer, shown, color=colour, marker="o" if len(size) == 1 else "")
        low, high = min(low, float(np.nanmin(shown))), max(high, float(np.nanmax(shown)))
        middle = size[len(size) // 3]
        labels.append((float(middle), side.name, colour))
    _log_limits(axes, low, high * (high / low) ** 0.08)
    horizontal_rule(axes, 1.0)
    layer_axis(axes, report.yours.net.depth)
    for y, name, colour in labels:  # curves meet at the last layer: named on the way
        x = report.yours.signals.layer[report.yours.net.depth // 3]
        below = y < np.sqrt(low * high)
        axes.annotate(
            name, (x, y), xytext=(8, -6 if below else 7), textcoords="offset points", color=colour, fontsize=8.5,
            va="top" if below else "bottom",
        )  # fmt: skip


def _spectrum(report: "Report", axes: Axes) -> None:
    axes.set_title("Spectrum of the tangent kernel")
    axes.set_xscale("log")
    axes.set_yscale("log")
    low = 0.1
    most = len(report.yours.tangent_kernel.eigenvalues)
    labels = []
    for side, colour in zip(report.sides, COLOURS, strict=False):
        resolved = side.tangent_kernel.eigenvalues[: side.tangent_kernel.resolved]
        share = resolved / resolved[0]
        rank = np.arange(1, len(share) + 1)
        alone = len(share) == 1  # a single point is easily hidden
        axes.plot(
            rank, share, color=colour, marker="o", markersize=5 if alone else 2.2, linewidth=0.8, zorder=3 + alone
        )
        low = min(low, float(share[-1]))
        labels.append((rank[-1], float(share[-1]), side.name, colour))
    axes.set_xlim(0.85, max(most, 2) * 1.15)
    _log_limits(axes, low, 1.0)
    if most > 1:
        log_axis(axes.xaxis, 1, most)
    axes.set_xlabel("rank of the eigenvalue")
    axes.set_ylabel("λ / λₘₐₓ")
    for x, y, name, colour in labels:
        on_the_right = x > most**0.5
        axes.annotate(
            name, (x, y), xytext=(-6 if on_the_right else 7, -3), textcoords="offset points", color=colour,
            fontsize=8.5, ha="right" if on_the_right else "left", va="top",
        )  # fmt: skip


def _width(report: "Report", axes: Axes) -> None:
    axes.set_title("Finite width, V / (nK²)")
    labels = []
    top = 0.0
    for side, colour in zip(report.sides, COLOURS, strict=False):
        ratio = side.finite_width.ratio
        axes.plot(side.signals.layer, ratio, color=colour, marker="o" if len(ratio) == 1 else "")
        labels.append((float(ratio[-1]), side.name, colour))
        top = max(top, float(np.nanmax(ratio)))
    axes.set_ylim(0, 1.15 * max(top, GOOD))
    horizontal_rule(axes, GOOD, "first order is good below")
    if axes.get_ylim()[1] > POOR:
        horizontal_rule(axes, POOR, "not to be trusted above")
    layer_axis(axes, report.yours.net.depth)
    direct_labels(axes, labels)


def _phase(report: "Report", axes: Axes) -> None:
    marks = [
        Mark(float(side.net.per_layer("C_W")[-1]), float(side.net.per_layer("C_b")[-1]), side.name, colour)
        for side, colour in zip(report.sides, COLOURS, strict=False)
    ]
    draw_phase(report.phase, axes, marks)


def _log_limits(axes: Axes, low: float, high: float) -> None:
    low, high = max(low, _FLOOR), max(high, _FLOOR)
    room = max((high / low) ** 0.08, 1.3)
    axes.set_ylim(low / room, high * room)
    log_axis(axes.yaxis, low / room, high * room)
