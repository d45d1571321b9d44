"""What the smaller commands print: tables of a few columns."""

from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Group, RenderableType
from rich.text import Text

from finitewidth.report.text import plain_table
from finitewidth.report.words import layers, number, spread

if TYPE_CHECKING:
    import xarray as xr

    from finitewidth.architecture import MLP
    from finitewidth.criticality import Criticality, PhaseDiagram


def critical_table(found: "Criticality") -> RenderableType:
    """The answer first, then every critical point, then the reason."""
    if found.C_W is not None and found.C_b is not None:
        numbers = f"C_b = {number(found.C_b, 9)}, C_W = {number(found.C_W, 9)}"
        answer = f"{found.activation}: {numbers}  ({found.universality_class})"
    else:
        answer = f"{found.activation}: no critical point"
    nearest = found.nearest
    parts: list[RenderableType] = [Text(answer, style="bold green" if found.C_W is not None else "bold red"), ""]
    table = plain_table("class", "K*", "C_b", "C_W", "χ∥", "χ⊥", "attracts")
    for point in found.points:
        table.add_row(
            point.universality_class,
            "every K" if point.K_star is None else number(point.K_star, 9),
            number(point.C_b, 9),
            number(point.C_W, 9),
            number(point.chi_parallel, 4),
            number(point.chi_perp, 4),
            _attracts(point),
        )
    if nearest is not None and nearest.C_W is not None:
        table.add_row(
            f"nearest: {nearest.kind}",
            "large K" if nearest.K_star is None else number(nearest.K_star, 9),
            number(nearest.C_b, 9),
            number(nearest.C_W, 9),
            number(nearest.chi_parallel, 4),
            number(nearest.chi_perp, 4),
            "",
        )
    if table.row_count:
        parts += [table, ""]
    return Group(*parts, Text(f"{found.reason[:1].upper()}{found.reason[1:].rstrip('.')}."))


def _attracts(point: Any) -> str:
    if not point.admissible:
        return "cannot be realised"
    if point.universality_class == "scale-invariant":
        return "all K stay"
    sides = [
        name for name, stable in (("below", point.stable_from_below), ("above", point.stable_from_above)) if stable
    ]
    return "from " + " and ".join(sides) if sides else "no"


def flow_table(net: "MLP", flow: "xr.Dataset") -> RenderableType:
    """One row per layer; medians and 5 … 95 % over inputs where there are several."""
    single = flow.sizes["a"] == 1
    names = [name for name in ("K", "Theta", "V", "chi_parallel", "chi_perp") if name in flow]
    symbols = {"K": "K", "Theta": "Θ", "V": "V", "chi_parallel": "χ∥", "chi_perp": "χ⊥"}
    table = plain_table("layer", *(symbols[name] for name in names))
    for i, layer in enumerate(flow["layer"].values):
        cells = []
        for name in names:
            values = flow[name].values[i]
            values = np.diagonal(values) if values.ndim == 2 else values
            low, median, high = np.percentile(values, [5, 50, 95])
            cells.append(number(float(median), 8) if single else spread(float(median), float(low), float(high)))
        table.add_row(str(int(layer)), *cells)
    head = (
        f"{net.activation.name}, depth {net.depth}, C_b = {layers(net.per_layer('C_b'))}, "
        f"C_W = {layers(net.per_layer('C_W'))}, "
        f"λ_b = {layers(net.per_layer('lambda_b'))}, λ_W = {layers(net.per_layer('lambda_W'))}"
    )
    note = "" if single else f"Medians over {flow.sizes['a']} inputs, with 5 … 95 % of them in brackets."
    return Group(Text(head, style="bold"), *([Text(note, style="dim")] if note else []), "", table)


def phase_table(diagram: "PhaseDiagram") -> RenderableType:
    """The critical line in a dozen points, and the critical point."""
    found, line = diagram.critical, diagram.line.sortby("K_star")
    table = plain_table("K*", "C_b", "C_W", "χ∥", "ξ∥")
    count = line.sizes["point"]
    chosen: list[int] = []
    if count:  # evenly along C_b, as the picture shows it
        heights = np.linspace(0, line["C_b"].values.max(), 11)
        chosen = sorted({int(np.argmin(np.abs(line["C_b"].values - height))) for height in heights})
    for i in chosen:
        K, C_b, C_W, chi = (float(line[name].values[i]) for name in ("K_star", "C_b", "C_W", "chi_parallel"))
        xi = 1 / abs(np.log(abs(chi))) if chi not in (0.0, 1.0) else (np.inf if chi == 1.0 else 0.0)
        table.add_row(number(K, 6), number(C_b, 6), number(C_W, 6), number(chi, 4), number(xi, 3))
    answer = (
        f"{found.activation}: critical at C_b = {number(found.C_b, 9)}, C_W = {number(found.C_W, 9)}"
        if found.C_W is not None
        else f"{found.activation}: no critical point"
    )
    if not count:
        return Group(Text(answer, style="bold"), "", Text("There is no line on which gradients survive (χ⊥ = 1)."))
    line_words = Text(
        "On this line gradients and angles survive (χ⊥ = 1); sizes are forgotten within some ξ∥ layers.", style="dim"
    )
    return Group(Text(answer, style="bold"), line_words, "", table)


def activation_table(rows: list[dict[str, Any]]) -> RenderableType:
    """All activations, one a row."""
    table = plain_table("name", "parity", "kinks", "what it is", wrap_last=True)
    for row in rows:
        name = row["name"] + (f"({', '.join(row['parameters'])})" if row["parameters"] else "")
        kinks = ", ".join(f"{kink:.4g}".replace("-", "−") for kink in row["kinks"][:3]) + (
            " …" if len(row["kinks"]) > 3 else ""
        )
        table.add_row(name, "" if row["parity"] == "none" else row["parity"], kinks, row["summary"].rstrip("."))
    return Group(
        table, "", Text(f"{len(rows)} activations. Parameters go in parentheses: leaky_relu(0.1).", style="dim")
    )
