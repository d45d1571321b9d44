"""How pictures look here: few lines, labels on the curves, colours that survive colour blindness and the night."""

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib
import numpy as np
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from finitewidth.report.words import number

# Okabe and Ito's palette: vermillion and blue differ for every kind of colour vision, and in grey.
INK, MUTED, FAINT, PAPER = "#1c2128", "#66707b", "#d5dae0", "#ffffff"
COLOURS = ("#c4500a", "#0a6aa8", "#7a7a7a")
WASHES = ("#f6e3d6", "#dbe9f3", "#e9e9ec")

SIZE = (4.5, 3.0)
_SANS = ("Inter", "Helvetica Neue", "Helvetica", "Arial", "Liberation Sans", "DejaVu Sans")

# In the page each colour is a variable, so that pictures follow the reader's light or dark mode.
_VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    FAINT: "--faint",
    PAPER: "--paper",
    COLOURS[0]: "--yours",
    COLOURS[1]: "--critical",
    COLOURS[2]: "--third",
    WASHES[0]: "--yours-wash",
    WASHES[1]: "--critical-wash",
    WASHES[2]: "--third-wash",
}


@contextmanager
def style() -> Iterator[None]:
    """Matplotlib's settings for these pictures, and the user's again afterwards. No backend is chosen."""
    installed = set(font_manager.get_font_names())
    fonts = [name for name in _SANS if name in installed] or ["DejaVu Sans"]
    if "DejaVu Sans" not in fonts:
        fonts.append("DejaVu Sans")  # has every Greek letter and superscript
    settings: dict[str, Any] = {
        "font.family": fonts,
        "font.size": 9,
        "axes.titlesize": 9.5,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.titlepad": 9,
        "axes.titlecolor": INK,
        "axes.labelcolor": MUTED,
        "axes.labelsize": 8.5,
        "axes.edgecolor": MUTED,
        "axes.linewidth": 0.7,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.facecolor": "none",
        "axes.unicode_minus": True,
        "xtick.color": MUTED,
        "ytick.color": MUTED,
        "xtick.labelcolor": MUTED,
        "ytick.labelcolor": MUTED,
        "xtick.labelsize": 8.5,
        "ytick.labelsize": 8.5,
        "xtick.major.size": 3,
        "ytick.major.size": 3,
        "xtick.major.width": 0.7,
        "ytick.major.width": 0.7,
        "text.color": INK,
        "lines.linewidth": 1.8,
        "lines.solid_capstyle": "round",
        "figure.facecolor": PAPER,
        "svg.fonttype": "none",
        "svg.hashsalt": "finitewidth",
        "mathtext.default": "regular",
    }
    with matplotlib.rc_context(settings):  # type: ignore[arg-type]  # its keys are a Literal
        yield


def new_figure(width: float = SIZE[0], height: float = SIZE[1]) -> Figure:
    """A figure that no window system knows of."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def to_png(figure: Figure) -> bytes:
    """The figure as PNG, 200 dots an inch."""
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer, metadata={"Software": None})
    return buffer.getvalue()


def to_svg(figure: Figure, name: str) -> str:
    """The figure as an SVG element to set inside a page: text is text, colours are the page's, ids have `name`."""
    buffer = io.StringIO()
    figure.patch.set_visible(False)
    FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    figure.patch.set_visible(True)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(id="|url\(#|xlink:href="#)', lambda m: m[1] + name + "-", svg)
    # the size is the page's business, the proportions (viewBox) are the picture's
    svg = re.sub(
        r'<svg [^>]*?viewBox="([^"]*)"[^>]*>',
        rf'<svg viewBox="\1" role="img" aria-labelledby="{name}-title">',
        svg,
        count=1,
    )
    svg = svg.replace("xlink:href", "href")
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, f"var({variable})")
    svg = re.sub(r"font-family: [^;\"]*", "font-family: var(--sans)", svg)
    return svg


def log_axis(axis: Any, low: float, high: float) -> None:
    """Ticks at powers of ten, few enough to read, written 10⁻²⁶ (and 0.1, 1, 10 as they are)."""
    decades = max(1.0, np.log10(high / low))
    step = max(1, int(np.ceil(decades / 6)))
    if decades < 1.5:
        axis.set_major_locator(LogLocator(base=10, subs=(1, 2, 5)))
    else:
        exponents = np.arange(np.ceil(np.log10(low) - 1e-9), np.floor(np.log10(high) + 1e-9) + 1)
        exponents = exponents[exponents % step == 0]
        axis.set_ticks(10.0**exponents)
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())
    axis.set_major_formatter(FuncFormatter(lambda value, _: _tick(value)))


def _tick(value: float) -> str:
    text = number(value, 1)
    return text.removeprefix("1 × ")


def layer_axis(axes: Axes, depth: int) -> None:
    """Layers along x: whole numbers, the first and the last among them."""
    axes.set_xlabel("layer")
    steps = [int(t) for t in MaxNLocator(integer=True, nbins=5).tick_values(0, depth)]
    room = (steps[1] - steps[0]) / 2 if len(steps) > 1 else 0.5
    axes.set_xticks([1, *(t for t in steps if 1 + room <= t <= depth - room), *([depth] if depth > 1 else [])])
    if depth > 1:
        axes.set_xlim(1, depth)


def direct_labels(axes: Axes, labels: Sequence[tuple[float, str, str]]) -> None:
    """Names at the right end of curves: (y of the end, text, colour), pushed apart where they would overlap."""
    if not labels:
        return
    low, high = axes.get_ylim()
    to_axes = axes.transData + axes.transAxes.inverted()
    x_end = axes.get_xlim()[1]
    at = [float(to_axes.transform((x_end, min(max(y, min(low, high)), max(low, high))))[1]) for y, _, _ in labels]
    order = np.argsort(at)
    gap = 0.075
    placed = np.array([at[i] for i in order])
    for _ in range(50):  # a few passes settle two to four labels
        for k in range(len(placed) - 1):
            overlap = gap - (placed[k + 1] - placed[k])
            if overlap > 1e-6:
                placed[k] -= overlap / 2
                placed[k + 1] += overlap / 2
        placed += max(0.0, -placed.min()) - max(0.0, placed.max() - 1.0)
    for y, i in zip(placed, order, strict=True):
        axes.annotate(
            labels[i][1],
            (1, y),
            xycoords="axes fraction",
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            color=labels[i][2],
            fontsize=8.5,
            annotation_clip=False,
        )


def horizontal_rule(axes: Axes, y: float, text: str = "") -> None:
    """A thin line across at y, with a word on it."""
    axes.axhline(y, color=FAINT, linewidth=1, zorder=0)
    if text:
        axes.annotate(
            text,
            (0, y),
            xycoords=("axes fraction", "data"),
            xytext=(3, 2),
            textcoords="offset points",
            color=MUTED,
            fontsize=7.5,
        )
