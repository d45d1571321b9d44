"""The phase diagram, drawn: where in the (C_W, C_b) plane angles and gradients vanish, where they explode (PDLT ch. 5)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from finitewidth.report.canvas import COLOURS, INK, MUTED, PAPER, WASHES

Mark = tuple[float, float, str, str]


def draw_phase(diagram: Any, axes: Axes, marks: Sequence[Mark] = ()) -> None:
    """The plane of initialisations: ln χ⊥ < 0 and > 0 shaded apart, the lines χ⊥ = 1 and χ∥ = 1, and `marks` (C_W, C_b, name, colour)."""
    C_W, C_b = diagram["C_W"].values, diagram["C_b"].values
    perp = np.asarray(diagram["chi_perp"].transpose("C_b", "C_W").values)
    parallel = np.asarray(diagram["chi_parallel"].transpose("C_b", "C_W").values)
    perp = np.where(np.isnan(perp), np.inf, perp)
    shown = np.clip(perp, 0, 10)
    axes.contourf(C_W, C_b, shown, levels=[0, 1, 11], colors=[WASHES[1], WASHES[0]])
    if shown.min() < 1 < shown.max():
        axes.contour(C_W, C_b, shown, levels=[1], colors=[INK], linewidths=1.2)
    flat = np.clip(np.where(np.isnan(parallel), np.inf, parallel), 0, 10)
    if flat.min() < 1 < flat.max():
        axes.contour(C_W, C_b, flat, levels=[1], colors=[MUTED], linewidths=0.9, linestyles=[(0, (2.5, 1.6))])
    axes.set_title("Phase diagram")
    axes.set_xlabel("$C_W$")
    axes.set_ylabel("$C_b$", rotation=0, labelpad=10)
    room = 0.02 * (C_b[-1] - C_b[0])
    axes.set_xlim(C_W[0], C_W[-1])
    axes.set_ylim(C_b[0] - room, C_b[-1])
    _name_regions(axes, C_W, C_b, shown)
    for x, y, name, colour in marks:
        _mark(axes, x, y, name, colour)


def _name_regions(axes: Axes, C_W: np.ndarray, C_b: np.ndarray, perp: np.ndarray) -> None:
    for inside, word, colour in ((perp < 1, "gradients vanish", COLOURS[1]), (perp > 1, "gradients explode", COLOURS[0])):
        if inside.mean() > 0.08:
            # the middle of the region's widest row above the marks
            row = int(np.argmax(inside.sum(1) + np.linspace(0, 0.5, len(C_b))))
            columns = np.flatnonzero(inside[row])
            axes.annotate(
                word, (C_W[int(np.median(columns))], C_b[int(0.8 * (len(C_b) - 1))]),
                ha="center", va="center", color=colour, fontsize=8.5, alpha=0.9,
            )  # fmt: skip


def _mark(axes: Axes, x: float, y: float, name: str, colour: str) -> None:
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    inside = left <= x <= right and low <= y <= high
    x, y = float(np.clip(x, left, right)), float(np.clip(y, low, high))
    axes.plot([x], [y], marker="o", markersize=7, color=colour, markeredgecolor=PAPER, markeredgewidth=1.4, clip_on=False, zorder=5)
    on_the_right = x > 0.7 * right + 0.3 * left
    axes.annotate(
        name if inside else f"{name} (outside)",
        (x, y), xytext=(-8 if on_the_right else 8, 5), textcoords="offset points", color=colour, fontsize=8.5, fontweight="bold",
        ha="right" if on_the_right else "left",
    )  # fmt: skip
