"""Predictions, drawn: the data, infinite width, finite width with its band, and a handful of real networks on top.

With one feature everything is drawn along it. With more, rows of the test table stand side by side in the order of
what is predicted for them: nothing else orders them, and bars can then be compared with dots.
"""

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_ROWS = 50
_TWO_SIGMA = 2.0
_MARGIN = 0.02


class Answered(Protocol):
    """Mean and standard deviation, shape (N,) each."""

    @property
    def mean(self) -> np.ndarray: ...
    @property
    def std(self) -> np.ndarray: ...


def picture(found: Any) -> bytes:
    """The picture as PNG.

    Arguments
        found: what `finitewidth predict` computed (`frontends.prediction.FilePrediction`).
    """
    from finitewidth.report.canvas import new_figure, style, to_png

    with style():
        figure = new_figure(7.2, 4.4)
        axes = figure.add_subplot()
        if found.grid is not None:
            _along_the_feature(found, axes)
        else:
            _row_by_row(found, axes)
        axes.set_ylabel(found.target)
        net = found.net
        title = f"{found.target}: {net.activation.name} networks of depth {net.depth}"
        if net.widths:
            title += f", width {net.widths[0]}" if len(set(net.widths)) == 1 else f", widths {net.widths}"
        axes.set_title(title)
        lines, names = axes.get_legend_handles_labels()
        first = sorted(range(len(names)), key=lambda i: not names[i].endswith("σ"))
        handles = [lines[i] for i in first], [names[i] for i in first]
        axes.legend(*handles, frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0), labelspacing=0.7)
        return to_png(figure)


def _names(found: Any) -> tuple[str, str]:
    return ("first order in 1/n, ± 2 σ", "infinite width") if found.order else ("infinite width, ± 2 σ", "")


def _along_the_feature(found: Any, axes: "Axes") -> None:
    from finitewidth.report.canvas import COLOURS, INK, MUTED

    x = found.grid[:, 0]
    banded, beside = _names(found)
    if found.order:
        order = np.argsort(found.test.features[:, 0])
        at, answer = found.test.features[order, 0], found.finite
        mean, std = answer.mean[order], answer.std[order]
        axes.plot(
            x, found.infinite_grid.mean, color=MUTED, linewidth=1.3, linestyle=(0, (4, 2)), label=beside, zorder=4
        )
    else:
        at, mean, std = x, found.infinite_grid.mean, found.infinite_grid.std
    axes.fill_between(at, mean - _TWO_SIGMA * std, mean + _TWO_SIGMA * std, color=COLOURS[1], alpha=0.16, linewidth=0)
    axes.plot(at, mean, color=COLOURS[1], label=banded, zorder=5)
    if found.networks_grid is not None:
        for k, line in enumerate(found.networks_grid):
            label = f"{len(found.networks_grid)} real networks" if k == 0 else None
            axes.plot(x, line, color=COLOURS[0], linewidth=0.8, alpha=0.65, label=label, zorder=3)
    train = found.train
    axes.plot(train.features[:, 0], train.target, "o", color=INK, markersize=4.5, label="learned from", zorder=6)
    if found.test.target is not None:
        known: dict[str, Any] = {"markersize": 3.5, "markerfacecolor": "none", "markeredgewidth": 0.8}
        axes.plot(
            found.test.features[:, 0], found.test.target, "o", color=INK, label="to be predicted", zorder=6, **known
        )
    axes.set_xlabel(found.names[0])
    beyond = _MARGIN * (x[-1] - x[0])  # or markers at both ends were cut in half
    axes.set_xlim(x[0] - beyond, x[-1] + beyond)


def _row_by_row(found: Any, axes: "Axes") -> None:
    from finitewidth.report.canvas import COLOURS, INK, MUTED, PAPER

    order = np.argsort(found.finite.mean, kind="stable")
    if len(order) > _MOST_ROWS:  # evenly through all of them
        order = order[np.linspace(0, len(order) - 1, _MOST_ROWS).round().astype(int)]
    place = np.arange(len(order))
    banded, beside = _names(found)
    mean, std = found.finite.mean[order], found.finite.std[order]
    bars: dict[str, Any] = {
        "fmt": "o",
        "markersize": 4,
        "elinewidth": 3.5,
        "markeredgecolor": PAPER,
        "markeredgewidth": 0.6,
    }
    faint: dict[str, Any] = {"color": COLOURS[1], "ecolor": "#b9d3e6"}
    axes.errorbar(place, mean, yerr=_TWO_SIGMA * std, label=banded, zorder=4, **bars, **faint)
    if found.order:
        axes.plot(place, found.infinite.mean[order], "_", color=MUTED, markersize=9, label=beside, zorder=3)
    if found.networks is not None:
        shown = found.networks[:, order]
        across = np.broadcast_to(place, shown.shape)
        label = f"{len(shown)} real networks"
        axes.plot(across.ravel(), shown.ravel(), ".", color=COLOURS[0], markersize=3, alpha=0.8, label=label, zorder=5)
    if found.test.target is not None:
        known: dict[str, Any] = {"markersize": 5, "markerfacecolor": "none", "markeredgewidth": 0.9}
        axes.plot(place, found.test.target[order], "o", color=INK, label="to be predicted", zorder=2, **known)
    total = len(found.finite.mean)
    all_rows = f"{total} row{'s' if total > 1 else ''}"
    rows = f"{len(order)} of {all_rows}" if len(order) < total else all_rows
    axes.set_xlabel(f"{rows}, ordered by what is predicted")
    axes.set_xticks([])
    axes.set_xlim(-0.8, len(order) - 0.2)
