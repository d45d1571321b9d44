"""What the smaller commands print: tables of a few columns."""

from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Group, RenderableType
from rich.text import Text

from finitewidth.report.fitted_table import FittedTable
from finitewidth.report.text import width_in_words, wrapping_table
from finitewidth.report.words import layers, number, sentence, spread

if TYPE_CHECKING:
    import xarray as xr

    from finitewidth.architecture import MLP
    from finitewidth.compare import Comparisons, RunComparison, TrainedComparison, TrainedVerification, Verification
    from finitewidth.criticality import Criticality, PhaseDiagram
    from finitewidth.experiments.runs import Run
    from finitewidth.frontends.prediction import FilePrediction


def critical_table(found: "Criticality") -> RenderableType:
    """The answer first, then every critical point, then the reason."""
    if found.C_W is not None and found.C_b is not None:
        numbers = f"C_b = {number(found.C_b, 9)}, C_W = {number(found.C_W, 9)}"
        answer = f"{found.activation}: {numbers}  ({found.universality_class})"
    else:
        answer = f"{found.activation}: no critical point"
    nearest = found.nearest
    parts: list[RenderableType] = [Text(answer, style="bold green" if found.C_W is not None else "bold red"), ""]
    table = FittedTable("class", "K*", "C_b", "C_W", "χ∥", "χ⊥", *(["attracts"] if found.points else []))
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
        )
    if table.row_count:
        parts += [table, ""]
    return Group(*parts, Text(sentence(found.reason)))


def _attracts(point: Any) -> str:
    if not point.admissible:
        return "cannot be realised"
    if point.universality_class == "scale-invariant":
        return "all K stay"
    sides = [
        name for name, stable in (("below", point.stable_from_below), ("above", point.stable_from_above)) if stable
    ]
    return "from " + " and ".join(sides) if sides else "no"


def _head(net: "MLP") -> str:
    """The network, without its width."""
    return (
        f"{net.activation.name}, depth {net.depth}, C_b = {layers(net.per_layer('C_b'))}, "
        f"C_W = {layers(net.per_layer('C_W'))}, "
        f"λ_b = {layers(net.per_layer('lambda_b'))}, λ_W = {layers(net.per_layer('lambda_W'))}"
    )


def flow_table(net: "MLP", flow: "xr.Dataset") -> RenderableType:
    """One row per layer, of single inputs; medians and 5 … 95 % over them where there are several."""
    single = flow.sizes["a"] == 1
    leading = [name for name in _LEADING if name in flow and not (name == "V" and flow[name].ndim > 2)]
    tables: list[RenderableType] = [_by_layer(flow, leading, 8)]
    first_order = [str(name) for name in flow if flow[name].attrs.get("order_in_1/n") == 1 and name not in leading]
    for i in range(0, len(first_order), _TENSORS_IN_A_ROW):
        some = first_order[i : i + _TENSORS_IN_A_ROW]
        tables += ["", Text("coefficients of 1/n, of single inputs:", style="dim"), _by_layer(flow, some, 6)]
    head = _head(net)
    note = "" if single else f"Medians over {flow.sizes['a']} inputs, with 5 … 95 % of them in brackets."
    remarks = [Text(text, style="dim") for text in (note, flow.attrs.get("notes", "")) if text]
    return Group(Text(head, style="bold"), *remarks, "", *tables)


_LEADING = {"K": "K", "Theta": "Θ", "V": "V", "chi_parallel": "χ∥", "chi_perp": "χ⊥"}
_TENSORS_IN_A_ROW = 7


def _by_layer(flow: "xr.Dataset", names: list[str], digits: int) -> RenderableType:
    single = flow.sizes["a"] == 1
    table = FittedTable("layer", *(_LEADING.get(name, name) for name in names))
    every = np.arange(flow.sizes["a"])
    for i, layer in enumerate(flow["layer"].values):
        cells = []
        for name in names:
            values = flow[name].values[i]
            low, median, high = np.percentile(values[(every,) * values.ndim], [5, 50, 95])
            cells.append(number(float(median), digits) if single else spread(float(median), float(low), float(high)))
        table.add_row(str(int(layer)), *cells)
    return table


def verification_table(found: "Verification") -> RenderableType:
    """For every tensor the entry that theory and experiment agree least on."""
    net = found.net
    table = FittedTable("", "theory", "experiment", "std. error", "z")
    for row in found.worst():
        subscript = f"_{''.join(map(str, row.inputs))}" if any(any(r.inputs) for r in found.rows) else ""
        style = "" if abs(row.z) <= found.limit else "bold red"
        table.add_row(
            ("Θ" if row.name == "Theta" else row.name) + subscript,
            number(row.theory, 6),
            number(row.experiment, 6),
            number(row.standard_error, 2),
            f"{row.z:+.2f}".replace("-", "−"),
            style=style,
        )
    head = _head(net)
    how = (
        f"Layer {net.depth}. Experiment: {found.n_networks:,} real networks of each of the widths "
        f"{', '.join(map(str, found.widths))} (more where fewer derivatives are needed), extrapolated in 1/n."
    )
    if len(found.rows) > table.row_count:
        how += " Of every tensor the entry with the largest |z|."
    return Group(Text(head, style="bold"), Text(how, style="dim"), "", table, "", _verdict(found))


def _verdict(found: "Comparisons") -> Text:
    chance = f"a right theory fails {100 * found.false_alarm_rate:.3g} % of the time: some |z| > {found.limit:.2f}"
    if found.passed:
        return Text(f"Agreement in all {len(found.rows)} numbers ({chance}).", style="bold green")
    return Text(f"Contradiction in {len(found.beyond)} of {len(found.rows)} numbers ({chance}).", style="bold red")


def trained_table(found: "TrainedVerification") -> RenderableType:
    """Every mean and covariance, at infinite width and to first order; then what this experiment could have seen."""
    how = (
        f"{found.algorithm!r} on {found.trained} inputs. Experiment: {found.n_networks:,} real networks of each of the "
        f"widths {', '.join(map(str, found.widths))}, trained, and extrapolated in 1/n."
    )
    parts: list[RenderableType] = [Text(_head(found.net), style="bold"), Text(how, style="dim")]
    for suffix, title in (("", "At infinite width"), ("_first_order", "Coefficient of 1/n")):
        table = FittedTable(title, "theory", "experiment", "std. error", "z")
        for row in found.rows:
            if row.name not in (f"mean{suffix}", f"covariance{suffix}"):
                continue
            table.add_row(
                f"{'mean' if row.name.startswith('mean') else 'cov.'} {found.label(row)}",
                number(row.theory, 6),
                number(row.experiment, 6),
                number(row.standard_error, 2),
                f"{row.z:+.2f}".replace("-", "−"),
                style="" if abs(row.z) <= found.limit else "bold red",
            )
        parts += ["", table]
    seen = ", ".join(f"{name} {number(size, 2)}" for name, size in found.detectable.items())
    parts += ["", Text(f"Without a term, some |z| would be about: {seen}.", style="dim"), _verdict(found)]
    if found.fit < found.false_alarm_rate:
        words = f"No polynomial in 1/n fits these widths (p = {found.fit:.1g}): the series has not set in. Larger ones."
        parts.append(Text(words, style="bold red"))
    return Group(*parts)


def estimates_table(run: "Run") -> RenderableType:
    """What was measured: of every observable its first entries."""
    table = FittedTable("", "value", "std. error")
    for name, found in run.estimate.items():
        values, errors = found.value.values, found.standard_error.values
        for at in list(np.ndindex(values.shape))[:_ENTRIES]:
            label = f"{name}[{', '.join(map(str, at))}]" if at else name
            table.add_row(label, number(float(values[at]), 6), number(float(errors[at]), 2))
        if values.size > _ENTRIES:
            table.add_row(f"… {values.size - _ENTRIES} more", "", "")
    left_out = f", {run.n_excluded:,} more left out, which are not finite" if run.n_excluded else ""
    return Group(Text(f"{run.n_networks:,} networks{left_out}.", style="bold"), "", table)


_ENTRIES = 4


def run_comparison_table(found: "RunComparison") -> RenderableType:
    """Every tensor's largest |z|, and what the next order would have to be."""
    table = FittedTable("", "theory", "experiment", "std. error", "z", "left out", "joint p")
    for row in found.worst():
        subscript = f"_{''.join(map(str, row.inputs))}" if any(any(r.inputs) for r in found.rows) else ""
        joint = found.joint_p_values.get(row.name)
        table.add_row(
            ("Θ" if row.name == "Theta" else row.name) + subscript,
            number(row.theory, 6),
            number(row.experiment, 6),
            number(row.standard_error, 2),
            f"{row.z:+.2f}".replace("-", "−"),
            number(found.left_out(row), 2),
            "" if joint is None else f"{joint:.2g}",
        )
    net = found.net
    head = f"{net.activation.name}, depth {net.depth}, width {net.widths[-1] if net.widths else 'none'}"
    how = (
        f"{found.n_networks:,} networks; theory to first order. Of every tensor the entry with the largest |z|; "
        "left out: (experiment/theory − 1) n/L, for K and Θ (experiment/theory − 1) n²/L²."
    )
    beyond = len(found.beyond)
    words = (
        f"Within chance in all {len(found.rows)} numbers (|z| ≤ {found.limit:.2f})."
        if not beyond
        else f"{beyond} of {len(found.rows)} numbers differ by more than chance (|z| > {found.limit:.2f}); the theory "
        "leaves out the next order in 1/n. Runs at several widths tell."
    )
    return Group(Text(head, style="bold"), Text(how, style="dim"), "", table, "", Text(words, style="bold"))


def trained_comparison_table(found: "TrainedComparison") -> RenderableType:
    """Of mean and covariance at every time the entry with the largest |z|, beside infinite width."""
    columns = (
        "",
        "time",
        "infinite width",
        *(("first order",) if found.order else ()),
        "experiment",
        "std. error",
        "z",
    )
    table = FittedTable(*columns)
    for row in found.worst():
        pairs = [row.inputs[i : i + 2] for i in range(0, len(row.inputs), 2)]
        subscript = ",".join(str(a) if found.net.n_out == 1 else f"{i}{a}" for i, a in pairs)
        table.add_row(
            f"{row.name}_{subscript}",
            "end" if np.isinf(row.time) else f"{row.time:g}",
            number(row.infinite, 6),
            *((number(row.theory, 6),) if found.order else ()),
            number(row.experiment, 6),
            number(row.standard_error, 2),
            f"{row.z:+.2f}".replace("-", "−"),
        )
    net, beyond = found.net, len(found.beyond)
    head = f"{net.activation.name}, depth {net.depth}, width {net.widths[-1] if net.widths else 'none'}"
    how = (
        f"{found.n_networks:,} networks, {found.algorithm!r}; theory to order {found.order} in 1/n. Of mean and "
        "covariance at every time the entry with the largest |z|; z counts statistical and numerical errors."
    )
    words = (
        f"Within chance in all {len(found.rows)} numbers (|z| ≤ {found.limit:.2f})."
        if not beyond
        else f"{beyond} of {len(found.rows)} numbers differ by more than chance (|z| > {found.limit:.2f}); the theory "
        f"leaves out order 1/n{'²' if found.order else ''}. Wider networks tell."
    )
    return Group(Text(head, style="bold"), Text(how, style="dim"), "", table, "", Text(words, style="bold"))


def phase_table(diagram: "PhaseDiagram") -> RenderableType:
    """The critical line in a dozen points, and the critical point."""
    found, line = diagram.critical, diagram.line.sortby("K_star")
    table = FittedTable("K*", "C_b", "C_W", "χ∥", "ξ∥")
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
    words = "On this line gradients and angles survive (χ⊥ = 1); sizes are forgotten within some ξ∥ layers"
    if np.any(line["chi_parallel"].values > 1 + 1e-6):
        words += ", but where χ∥ > 1 they run away from K*, by a factor e in ξ∥ layers"
    return Group(Text(answer, style="bold"), Text(f"{words}.", style="dim"), "", table)


def activation_table(rows: list[dict[str, Any]]) -> RenderableType:
    """All activations, one a row."""
    table = wrapping_table("name", "parity", "kinks", "what it is")
    for row in rows:
        name = row["name"] + (f"({', '.join(row['parameters'])})" if row["parameters"] else "")
        kinks = ", ".join(f"{kink:.4g}".replace("-", "−") for kink in row["kinks"][:3]) + (
            " …" if len(row["kinks"]) > 3 else ""
        )
        table.add_row(name, "" if row["parity"] == "none" else row["parity"], kinks, row["summary"].rstrip("."))
    return Group(
        table, "", Text(f"{len(rows)} activations. Parameters go in parentheses: leaky_relu(0.1).", style="dim")
    )


_ROWS_SHOWN = 12


def prediction_table(found: "FilePrediction") -> RenderableType:
    """The first rows, what they were computed with, and how far from the target they are where it is known."""
    net, known = found.net, found.test.target
    head = (
        f"{net.activation.name}, depth {net.depth}, width {width_in_words(net.widths)}, "
        f"C_b = {layers(net.per_layer('C_b'))}, C_W = {layers(net.per_layer('C_W'))}, "
        f"λ_b = {layers(net.per_layer('lambda_b'))}, λ_W = {layers(net.per_layer('lambda_W'))}"
    )
    features = f"{len(found.names)} features" if len(found.names) > 1 else "one feature"
    how = f"{found.algorithm!r}; {len(found.train.features)} rows to learn from, {features}."
    columns = ["row", found.target] if known is not None else ["row"]
    columns += ["mean ± std", "infinite width"] if found.order else ["mean ± std"]
    columns += ["real networks"] if found.networks is not None else []
    table = FittedTable(*columns)
    for i in range(min(len(found.infinite.mean), _ROWS_SHOWN)):
        cells = [str(i)] + ([_known(float(known[i]))] if known is not None else [])
        cells += [_with_bar(found.finite.mean[i], found.finite.std[i])]
        cells += [_with_bar(found.infinite.mean[i], found.infinite.std[i])] if found.order else []
        cells += ["  ".join(number(float(z), 3) for z in found.networks[:4, i])] if found.networks is not None else []
        table.add_row(*cells)
    parts: list[RenderableType] = [Text(head, style="bold"), Text(how, style="dim"), "", table, ""]
    more = len(found.infinite.mean) - _ROWS_SHOWN
    if more > 0:
        parts.append(Text(f"… and {more} more row{'s' * (more > 1)}.", style="dim"))
    error = found.rms_error(found.finite)
    if error is not None and known is not None:
        beside = f" ({number(found.rms_error(found.infinite), 4)} at infinite width)" if found.order else ""
        with_target = np.isfinite(known)
        over = "" if with_target.all() else f", over the {with_target.sum()} rows that have one"
        parts.append(Text(f"Root mean square of mean − {found.target}: {number(error, 4)}{beside}{over}."))
    return Group(*parts, *(Text(f"Note: {note}.") for note in found.notes))


def _known(value: float) -> str:
    return "" if np.isnan(value) else number(value, 4)


def _with_bar(mean: float, std: float) -> str:
    return f"{number(float(mean), 4)} ± {number(float(std), 2)}"
