"""The picture of a measured network: six small panels by layer, error bars, theory as a line."""

import io
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from finitewidth.report.canvas import COLOURS, INK, MUTED, horizontal_rule, log_axis, new_figure, style, to_png
from finitewidth.report.pictures import write_whole

if TYPE_CHECKING:
    from finitewidth.report.inspection import Inspection

# name → title, whether on a logarithmic axis, the value at which nothing happens
_PANELS: dict[str, tuple[str, bool, float | None]] = {
    "K": ("Variance of preactivations, E z²", True, None),
    "angle": ("Angle between two inputs", False, None),
    "chi": ("Partial Jacobian of one layer, χ", True, 1.0),
    "jacobian": ("Jacobian of the output, J", True, 1.0),
    "gradient": ("Gradient norm of the weights", True, None),
    "kurtosis": ("Excess kurtosis of a neuron", False, 0.0),
    "correlation": ("Correlation of neurons’ squares", False, 0.0),
}


def save(found: "Inspection", path: Path) -> Path:
    """Into a file .png, .svg or .pdf, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with style():
        figure = picture(found)
        if path.suffix == ".png":
            figure.set_dpi(150)
            return write_whole(path, to_png(figure))
        buffer = io.BytesIO()
        if path.suffix == ".pdf":
            FigureCanvasPdf(figure).print_pdf(buffer, metadata={"CreationDate": None})
        else:
            text = io.StringIO()
            FigureCanvasSVG(figure).print_svg(text, metadata={"Date": None})
            buffer.write(text.getvalue().encode())
        return write_whole(path, buffer.getvalue())


def picture(found: "Inspection") -> Figure:
    """The figure; call it within `canvas.style()`."""
    names = [name for name in _PANELS if name in found.columns and np.isfinite(found.columns[name].value).any()]
    if len(names) == 7:
        names.remove("correlation")  # the kurtosis says the same: six panels fill the page
    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    figure = new_figure(4.0 * columns, 2.7 * rows + 0.8)
    figure.set_layout_engine("constrained", w_pad=0.12, h_pad=0.1)
    heading = textwrap.fill(found.verdict, 38 * columns)
    figure.suptitle(heading, x=0.008, ha="left", fontsize=12, fontweight="bold", color=INK)
    for k, name in enumerate(names):
        _draw(found, name, figure.add_subplot(rows, columns, k + 1))
    return figure


def _draw(found: "Inspection", name: str, axes: Axes) -> None:
    title, logarithmic, still = _PANELS[name]
    column, layer = found.columns[name], np.arange(1, len(found.layers) + 1)
    axes.set_title(title)
    value, error = column.value, np.nan_to_num(column.standard_error)
    if logarithmic:
        value = np.where(value > 0, value, np.nan)
        axes.set_yscale("log")
        error = np.minimum(error, 0.99 * value)
    if still is not None:
        horizontal_rule(axes, still)
    if column.theory is not None:
        axes.plot(layer, column.theory, color=COLOURS[1], linewidth=1.4, zorder=1)
    axes.errorbar(
        layer, value, error, color=COLOURS[0], linestyle="", marker="o", markersize=3.5, elinewidth=1.2, zorder=2
    )
    _limits(axes, column.theory, value, error, logarithmic, still)
    if name == "angle":
        axes.yaxis.set_major_formatter("{x:g}°")
    _layers(axes, found.layers)
    if column.theory is not None and name == "K":
        axes.annotate("measured", (1, 1), xycoords="axes fraction", xytext=(-38, 4), textcoords="offset points",
                      color=COLOURS[0], fontsize=8, ha="right")  # fmt: skip
        axes.annotate("theory", (1, 1), xycoords="axes fraction", xytext=(0, 4), textcoords="offset points",
                      color=COLOURS[1], fontsize=8, ha="right")  # fmt: skip


def _limits(
    axes: Axes, theory: np.ndarray | None, value: np.ndarray, error: np.ndarray, logarithmic: bool, still: float | None
) -> None:
    shown = [value - error, value + error, *([] if theory is None else [theory]), *([] if still is None else [[still]])]
    every = np.concatenate([np.asarray(s, dtype=float) for s in shown])
    every = every[np.isfinite(every) & ((every > 0) | (not logarithmic))]
    if not len(every):
        return
    low, high = float(every.min()), float(every.max())
    if not logarithmic:
        room = 0.08 * max(high - low, 1e-9)
        axes.set_ylim(min(low - room, 0.0), high + room)
        return
    room = max((high / low) ** 0.08, 1.15)
    if high / low < 1.5:  # a flat line is to look flat
        room = 2.0
    axes.set_ylim(low / room, high * room)
    log_axis(axes.yaxis, low / room, high * room)


def _layers(axes: Axes, names: tuple[str, ...]) -> None:
    """Names of the layers where there is room for them, numbers otherwise."""
    count = len(names)
    axes.set_xlim(0.5, count + 0.5)
    if count <= 8 and max(map(len, names)) <= 9:
        axes.set_xticks(range(1, count + 1), names)
        axes.tick_params(axis="x", labelsize=7, labelrotation=30 if max(map(len, names)) > 4 else 0, colors=MUTED)
    else:
        step = max(1, round(count / 6))
        axes.set_xticks(range(step if step > 1 else 1, count + 1, step))
    axes.set_xlabel("layer")
