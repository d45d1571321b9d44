"""A measured network on a terminal: the verdict, then a row for each layer, theory below what was measured."""

import math
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Group, RenderableType
from rich.text import Text

from finitewidth.report.fitted_table import FittedTable
from finitewidth.report.words import number, sentence

if TYPE_CHECKING:
    from finitewidth.report.inspection import Inspection

_TABLES = {
    "Signals": ("K", "angle", "kurtosis", "correlation"),
    "Gradients": ("chi", "jacobian", "gradient"),
}
_HEADS = {
    "K": "E z²",
    "angle": "angle °",
    "chi": "χ",
    "jacobian": "J to output",
    "gradient": "gradient",
    "kurtosis": "kurtosis",
    "correlation": "correlation",
}
MOST_ROWS = 30
_LONGEST = 34


def render(found: "Inspection") -> RenderableType:
    """Everything but the single parameters."""
    good = found.verdict.startswith(("Signals survive", "Signals and gradients survive"))
    parts: list[RenderableType] = [Text(found.verdict, style="bold green" if good else "bold red")]
    if found.agreement:
        parts.append(Text(found.agreement, style="" if found.agreement.startswith("Theory agrees") else "red"))
    parts += ["", Text(_subject(found), style="dim"), ""]
    for title, keys in _TABLES.items():
        if names := [key for key in keys if key in found.columns]:
            parts += [Text(title, style="bold"), _table(found, names), ""]
    if found.tangent_kernel is not None:
        parts += [Text(_kernel(found)), ""]
        gradients = FittedTable("parameter", "gradient norm")
        for name, (value, error) in found.parameters.items():
            gradients.add_row(name, with_error(value, math.nan if error is None else error))
        parts += [gradients, ""]
    parts += [Text(sentence(note), style="dim") for note in (*found.notes, found.theory) if note]
    return Group(*parts)


def _table(found: "Inspection", names: list[str]) -> FittedTable:
    table = FittedTable("", "layer", *(_HEADS[key] for key in names))
    shown = _shown(len(found.layers))
    cells = [found.columns[key] for key in names]
    for before, i in zip([-1, *shown], shown, strict=False):
        if i > before + 1:
            table.add_row("⋮")
        measured = (with_error(float(c.value[i]), float(c.standard_error[i])) for c in cells)
        table.add_row(str(i + 1), shortened(found.layers[i], _LONGEST), *measured)
        if any(c.theory is not None for c in cells):
            theory = ["" if c.theory is None else number(float(c.theory[i])) for c in cells]
            table.add_row("", Text("theory", style="dim"), *(Text(t, style="dim") for t in theory))
    return table


def shortened(name: str, longest: int) -> str:
    """The end of a name that is too long."""
    return name if len(name) <= longest else f"…{name[1 - longest :]}"


def with_error(value: float, error: float) -> str:
    """A value, its standard error in its last digits: 1.983(12), 4.1(2) × 10⁻⁷.

    >>> with_error(1.98305, 0.0123), with_error(4.12e-7, 0.21e-7), with_error(312.4, 41.0)
    ('1.983(12)', '4.12(21) × 10⁻⁷', '312(41)')
    """
    if not math.isfinite(value) or not math.isfinite(error) or error <= 0 or error > 1e3 * abs(value) or value == 0:
        return number(value)
    power = math.floor(math.log10(max(abs(value), error)))
    scale, tail = 0, ""
    if not -4 < power < 5:
        scale, tail = power, number(10.0**power, 1).removeprefix("1")
    value, error = value / 10.0**scale, error / 10.0**scale
    places = max(0, 1 - math.floor(math.log10(error)))
    places = min(places, 6)
    digits = round(error * 10**places) if places else round(error)
    return f"{value:.{places}f}({digits})".replace("-", "−") + tail


def _subject(found: "Inspection") -> str:
    inputs = f"{found.inputs} inputs" if found.inputs > 1 else "one input"
    if found.initialisations:
        return (
            f"{found.title}, {inputs}; {found.initialisations} networks, {found.redrawn}; standard errors in brackets"
        )
    return f"{found.title}, {inputs}; {found.redrawn}; standard errors, from the spread between inputs, in brackets"


def _shown(count: int) -> list[int]:
    """All layers, or some spread evenly with the first and the last."""
    return sorted(set(np.linspace(0, count - 1, min(count, MOST_ROWS)).round().astype(int).tolist()))


def _kernel(found: "Inspection") -> str:
    assert found.tangent_kernel is not None
    value, error = found.tangent_kernel
    spectrum = np.linalg.eigvalsh(value)
    trace, largest = float(np.trace(value)), float(spectrum[-1])
    off = with_error(float(np.diagonal(value).mean()), float(np.sqrt(np.mean(np.diagonal(error) ** 2))))
    share = f"; the largest eigenvalue has {number(100 * largest / trace, 2)} % of its trace" if len(value) > 1 else ""
    return f"Tangent kernel Θ of one input, on average: {off}{share}."
