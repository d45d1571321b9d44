"""The table of a report, once, for the terminal and for the page: groups of rows, one value for each initialisation."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from finitewidth.report.signals import E_FOLDS, Spread, Verdict
from finitewidth.report.tangent_kernel import STEPS
from finitewidth.report.words import layers, number, percent, spread

if TYPE_CHECKING:
    from finitewidth.report.contents import Report, Side


@dataclass(frozen=True)
class Cell:
    """A value as text; `mood` is "good", "bad" or "" and may be shown as a colour."""

    text: str
    mood: str = ""


@dataclass(frozen=True)
class Row:
    """One quantity: its symbol, a cell for each initialisation, and what it is in one sentence (with the chapter)."""

    name: str
    cells: tuple[Cell, ...]
    meaning: str


@dataclass(frozen=True)
class Group:
    """Rows that belong together; `picture` names the pictures that show them."""

    title: str
    rows: tuple[Row, ...]
    pictures: tuple[str, ...] = ()


def groups(report: "Report") -> list[Group]:
    """The whole table of `report`, in the order of the argument."""
    return [
        _initialisation(report),
        _signals(report),
        *([_susceptibilities(report)] if report.yours.net.depth > 1 else []),
        _gradients(report),
        _kernel(report),
        _width(report),
    ]


def _row(report: "Report", name: str, cell: Callable[["Side"], Cell | str], meaning: str) -> Row:
    cells = []
    for side in report.sides:
        value = cell(side)
        cells.append(value if isinstance(value, Cell) else Cell(value))
    return Row(name, tuple(cells), meaning)


def _initialisation(report: "Report") -> Group:
    return Group(
        "Initialisation",
        (
            _row(
                report,
                "C_b",
                lambda s: layers(s.net.per_layer("C_b")),
                "Variance of the biases (ch. 2).",
            ),
            _row(
                report,
                "C_W",
                lambda s: layers(s.net.per_layer("C_W")),
                "Variance of the weights times the number of inputs to the layer, its fan-in (ch. 2).",
            ),
            _row(
                report,
                "std of biases",
                lambda s: layers(np.sqrt(s.net.per_layer("C_b")), 4),
                "Standard deviation √C_b that a program draws biases with (ch. 2).",
            ),
            _row(
                report,
                "std of weights",
                lambda s: layers(np.sqrt(s.net.per_layer("C_W") / np.array([s.net.n_in, *s.net.widths])), 4),
                "Standard deviation √(C_W / fan-in) that a program draws weights with (ch. 2).",
            ),
        ),
        ("phase",),
    )


def _signals(report: "Report") -> Group:
    last = report.yours.net.depth
    rows = [
        _row(
            report,
            "K, layer 1",
            lambda s: _at(s.signals.K, 0),
            "Kernel: the variance of a neuron's preactivation, median over inputs (5 % … 95 % of them) (ch. 4).",
        ),
        _row(
            report,
            f"K, layer {last}",
            lambda s: _at(s.signals.K, -1),
            "The same at the output: what is left of the size of an input (ch. 4).",
        ),
    ]
    if report.yours.signals.angle is not None:
        rows += [
            _row(
                report,
                "angle, layer 1",
                lambda s: _angle(s.signals.angle, 0),
                "Angle between the signals of two inputs, median over pairs (5 % … 95 %): cos of it is their "
                "correlation (ch. 5).",
            ),
            _row(
                report,
                f"angle, layer {last}",
                lambda s: _angle(s.signals.angle, -1),
                "The same at the output: near 0° the network cannot tell its inputs apart (ch. 5).",
            ),
        ]
    rows += [
        _row(
            report,
            "norms",
            lambda s: _verdict(s.signals.norms),
            f"Verdict on sizes: critical if |ln χ∥| × depth ≤ {E_FOLDS:g}, that is depth ≤ {E_FOLDS:g} ξ∥ (ch. 5).",
        ),
        _row(
            report,
            "angles",
            lambda s: _verdict(s.signals.angles),
            f"Verdict on angles: critical if |ln χ⊥| × depth ≤ {E_FOLDS:g}, that is depth ≤ {E_FOLDS:g} ξ⊥ (ch. 5).",
        ),
    ]
    return Group("Signals", tuple(rows), ("signals", "angles"))


def _susceptibilities(report: "Report") -> Group:
    return Group(
        "Susceptibilities",
        (
            _row(
                report,
                "χ∥",
                lambda s: number(s.signals.norms.chi, 4),
                "Parallel susceptibility: what a layer does to a small difference in size; mean over the last "
                "third of the layers (ch. 5).",
            ),
            _row(
                report,
                "χ⊥",
                lambda s: number(s.signals.angles.chi, 4),
                "Perpendicular susceptibility: what a layer does to a small angle, and to a gradient on its way "
                "back (ch. 5).",
            ),
            _row(
                report,
                "ξ∥, ξ⊥",
                lambda s: f"{_length(s.signals.norms)}, {_length(s.signals.angles)}",
                "Correlation lengths 1/|ln χ| in layers: beyond a few of them nothing is left (ch. 5).",
            ),
        ),
        ("susceptibilities",),
    )


def _gradients(report: "Report") -> Group:
    return Group(
        "Gradients",
        (
            _row(
                report,
                "first : last",
                lambda s: Cell(number(s.gradients.first_to_last), _mood(1e-2 <= s.gradients.first_to_last <= 1e2)),
                "Root mean square norm of the first weight matrix's gradient relative to that of the last (ch. 5, 9).",
            ),
            _row(
                report,
                "E|∂z⁽ᴸ⁾/∂z⁽¹⁾|²",
                lambda s: number(float(s.gradients.jacobian[0])),
                "Expected squared gradient of an output with respect to the first layer's signals: the product "
                "of χ⊥ (ch. 5).",
            ),
        ),
        ("gradients",),
    )


def _kernel(report: "Report") -> Group:
    used = report.sample.used
    sgd = report.yours.tangent_kernel.plain_sgd
    rows = [
        _row(
            report,
            "Θ, output",
            lambda s: _at(s.tangent_kernel.Theta, -1),
            "Neural tangent kernel: how far one step of gradient descent on an input moves its own output (ch. 8).",
        ),
        _row(
            report,
            "λ_max",
            lambda s: number(float(s.tangent_kernel.eigenvalues[0])),
            f"Largest eigenvalue of Θ on {used} inputs: the direction learned first (ch. 10).",
        ),
        _row(
            report,
            "learnable",
            lambda s: f"{s.tangent_kernel.learnable} of {used}",
            f"Directions of the data learned to a factor e within {STEPS} steps at η = 1/λ_max (ch. 10).",
        ),
        _row(
            report,
            "η_max, MSELoss()",
            lambda s: number(s.tangent_kernel.learning_rate_mse),
            "Largest stable learning rate of gradient descent on the mean squared error over inputs and outputs"
            + ("; what one types into torch.optim.SGD (ch. 10)." if sgd else ", times the λ of each layer (ch. 10)."),
        ),
        _row(
            report,
            "η_max, ½ Σ (z − y)²",
            lambda s: number(s.tangent_kernel.learning_rate_sum),
            f"The same for the loss ½ Σ (z − y)² summed over these {used} inputs: 2/λ_max (ch. 10).",
        ),
    ]
    return Group("Tangent kernel", tuple(rows), ("spectrum",))


def _width(report: "Report") -> Group:
    outputs = report.yours.net.n_out
    return Group(
        "Finite width",
        (
            _row(
                report,
                "r = L/n",
                lambda s: number(s.finite_width.r),
                "Depth over width: the parameter of the expansion in 1/n (ch. 3, 4).",
            ),
            _row(
                report,
                "V/(nK²)",
                lambda s: number(float(s.finite_width.ratio[-1])),
                "Four-point vertex at the output: relative variance, from one initialisation to the next, of "
                "the output's scale (ch. 4).",
            ),
            _row(
                report,
                "spread of outputs",
                lambda s: percent(s.finite_width.norm_std),
                f"Relative standard deviation over initialisations of the mean square of the {outputs} outputs;"
                f" {percent(report.yours.finite_width.gaussian_std)} of it would remain at infinite width (ch. 4).",
            ),
            _row(
                report,
                "first order in 1/n",
                lambda s: Cell(s.finite_width.first_order, _mood(s.finite_width.first_order != "not to be trusted")),
                "Good if V/(nK²) and r are at most 0.1, rough to 0.5; beyond, higher orders matter as much (ch. 4).",
            ),
        ),
        ("width",),
    )


def _mood(good: bool) -> str:
    return "good" if good else "bad"


def _at(values: Spread, index: int) -> str:
    return spread(float(values.median[index]), float(values.low[index]), float(values.high[index]))


def _angle(angle: Spread | None, index: int) -> str:
    assert angle is not None
    if angle.high[index] < 1e-4:  # 1 − ρ is below what float64 resolves
        return "< 0.0001°"
    return spread(float(angle.median[index]), float(angle.low[index]), float(angle.high[index])) + " °"


def _length(verdict: Verdict) -> str:
    return number(verdict.correlation_length, 2)


def _verdict(verdict: Verdict) -> Cell:
    return Cell(verdict.word, _mood(verdict.word == "critical"))
