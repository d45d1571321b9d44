"""The phase diagram, drawn: where gradients vanish, where they explode, and the line in between (PDLT ch. 5)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.ndimage import distance_transform_edt

from finitewidth.activations import Activation
from finitewidth.criticality import Criticality, PhaseDiagram, phase_diagram

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class Mark:
    """A choice of initialisation to show in the plane."""

    C_W: float
    C_b: float
    name: str
    colour: str


def diagram_around(activation: Activation, point: Criticality, choices: Sequence[tuple[float, float]]) -> PhaseDiagram:
    """The phase diagram around the critical point of `activation`, with `choices` (C_b, C_W) inside if not far."""
    known = point.preferred or point.nearest
    C_b, C_W = (known.C_b or 0.0, known.C_W or 1.0) if known is not None else (0.0, 1.0)
    top, right = max(0.5, 2 * C_b), 1.75 * C_W
    for b, W in choices:
        top = max(top, 1.2 * b) if b < 4 * top else top
        right = max(right, 1.2 * W) if 3 * right > W else right
    return phase_diagram(activation, C_b=(0.0, top), C_W=(0.02 * right, right))


def draw_phase(diagram: PhaseDiagram, axes: "Axes", marks: Sequence[Mark] = ()) -> None:
    """Phases as areas, the critical line χ⊥ = 1 as a line, and `marks` as points."""
    from finitewidth.report.canvas import INK, WASHES

    cells = diagram.cells
    C_W, C_b = cells["C_W"].values, cells["C_b"].values
    phase = cells["phase"].values
    kinds = np.select([phase == "ordered", phase == "chaotic", phase == "diverging"], [0, 1, 2], 3)
    kinds[phase == "critical"] = 0
    # each phase as one polygon, so that it can follow the page's light or dark mode; the padding reaches the axes
    x, y = np.concatenate([[0.0], C_W]), np.concatenate([[-0.02 * C_b[-1]], C_b])
    areas = np.pad(kinds, ((1, 0), (1, 0)), mode="edge")
    for kind, wash in enumerate((WASHES[1], WASHES[0], WASHES[2])):
        if np.any(areas == kind):
            axes.contourf(x, y, (areas == kind).astype(float), levels=[0.5, 1.5], colors=[wash], zorder=0)
    line = diagram.line.sortby("K_star")
    for stable, style, name in ((True, "-", "critical line"), (False, (0, (1, 1.6)), "where sizes drift away from it")):
        chosen = np.where(line["stable"].values == stable, 1.0, np.nan)
        at = line["C_W"].values * chosen, line["C_b"].values * chosen
        axes.plot(*at, color=INK, linewidth=1.3, linestyle=style, label=name)
    axes.set_title(f"Phases of {diagram.activation} networks")
    axes.set_xlabel("$C_W$")
    axes.set_ylabel("$C_b$", rotation=0, labelpad=10)
    axes.set_xlim(0, C_W[-1])
    axes.set_ylim(-0.02 * C_b[-1], C_b[-1])
    _name_regions(axes, C_W, C_b, kinds, marks)
    for mark in marks:
        _mark(axes, mark)


def save_phase(diagram: PhaseDiagram, path: Path) -> Path:
    """The phase diagram as a picture of its own, PNG, SVG or PDF by its ending, the critical points marked."""
    import io

    from finitewidth.errors import InputError
    from finitewidth.report.canvas import COLOURS, new_figure, style
    from finitewidth.report.pictures import write_whole

    if path.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise InputError(f"`--out` must end in .png, .svg or .pdf, but got {str(path)!r}")
    known = diagram.critical.preferred or diagram.critical.nearest
    marks = []
    if known is not None and known.C_W is not None and known.C_b is not None:
        marks = [Mark(known.C_W, known.C_b, "critical" if diagram.critical.preferred else "nearest choice", COLOURS[1])]
    with style():
        figure = new_figure(5.6, 4.2)
        axes = figure.add_subplot()
        draw_phase(diagram, axes, marks)
        if np.sum(~diagram.line["stable"].values) > 1:
            axes.legend(loc="upper right", frameon=False, fontsize="small")
        buffer = io.BytesIO()
        figure.savefig(buffer, format=path.suffix[1:].lower(), dpi=200)
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_whole(path, buffer.getvalue())


def phase_to_dict(diagram: PhaseDiagram) -> dict[str, Any]:
    """The phase diagram as plain values: axes, one nested list per quantity with rows of C_b, and the line χ⊥ = 1."""
    cells, line = diagram.cells, diagram.line
    return {
        "activation": diagram.activation,
        "C_b": cells["C_b"].values,
        "C_W": cells["C_W"].values,
        "cells": {str(name): cells[name].values for name in cells.data_vars},
        "line": {str(name): line[name].values for name in line.data_vars},
        "critical": diagram.critical.to_dict(),
    }


def _name_regions(axes: "Axes", C_W: np.ndarray, C_b: np.ndarray, kinds: np.ndarray, marks: Sequence[Mark]) -> None:
    from finitewidth.report.canvas import COLOURS, MUTED

    taken = np.zeros(kinds.shape, dtype=bool)
    for mark in marks:  # a point and the name beside it
        right = 0.7 * C_W[-1] < mark.C_W
        columns = np.abs(C_W - mark.C_W + (0.12 if right else -0.12) * C_W[-1]) < 0.16 * C_W[-1]
        taken |= columns & (np.abs(C_b - mark.C_b) < 0.1 * C_b[-1])[:, None]
    names = (("gradients\nvanish", COLOURS[1]), ("gradients\nexplode", COLOURS[0]), ("signals\nexplode", MUTED))
    for kind, (name, colour) in enumerate(names):
        inside = kinds == kind
        if inside.mean() < 0.06:
            continue
        # where the region is roomiest, seen with the picture's proportions
        room = distance_transform_edt(np.pad(inside & ~taken, 1), sampling=(1.0, len(C_b) / len(C_W)))[1:-1, 1:-1]
        row, column = np.unravel_index(int(np.argmax(room)), room.shape)
        axes.annotate(name, (C_W[column], C_b[row]), ha="center", va="center", color=colour, fontsize=8.5)


def _mark(axes: "Axes", mark: Mark) -> None:
    from finitewidth.report.canvas import PAPER

    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    inside = left <= mark.C_W <= right and low <= mark.C_b <= high
    x, y = float(np.clip(mark.C_W, left, right)), float(np.clip(mark.C_b, low, high))
    axes.plot(
        [x],
        [y],
        marker="o",
        markersize=7,
        color=mark.colour,
        markeredgecolor=PAPER,
        markeredgewidth=1.4,
        clip_on=False,
        zorder=5,
    )
    on_the_right = x > 0.7 * right + 0.3 * left
    axes.annotate(
        mark.name if inside else f"{mark.name} (outside)",
        (x, y), xytext=(-8 if on_the_right else 8, 5), textcoords="offset points", color=mark.colour, fontsize=8.5,
        fontweight="bold", ha="right" if on_the_right else "left",
    )  # fmt: skip
