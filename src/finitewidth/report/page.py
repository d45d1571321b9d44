"""The report as one HTML file: nothing is fetched, it follows light and dark, and it prints."""

import re
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from finitewidth._version import __version__
from finitewidth.report.pictures import svg_pictures, write_whole
from finitewidth.report.rows import Group, groups
from finitewidth.report.text import subject, width_in_words
from finitewidth.report.verdict import headline
from finitewidth.report.words import layers, number

if TYPE_CHECKING:
    from finitewidth.report.contents import Report, Side

_CAPTIONS = {
    "signals": "Variance of a neuron’s preactivation, layer by layer: median over the inputs, and the band that holds "
    "90 % of them.",
    "angles": "Angle between the signals of two inputs: median over pairs, and the band that holds 90 % of them.",
    "susceptibilities": "What one layer does to a small difference in size (solid) and in direction (dashed). At 1 "
    "both survive.",
    "gradients": "Norm of each weight matrix’s gradient, relative to the last layer’s. A flat line trains every layer.",
    "spectrum": "Eigenvalues of the tangent kernel on the data, largest first; those below rounding are left out. "
    "Small ones are learned late.",
    "width": "Relative variance, over initialisations, of a layer’s mean square. At criticality it grows in proportion "
    "to depth over width.",
    "phase": "Where very deep networks end. On the solid line gradients survive (χ⊥ = 1) at a size of signals that "
    "layers return to; on the dotted line they drift away from it.",
}


def save_page(report: "Report", file: Path) -> Path:
    """Write the page to `file`, whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    return write_whole(file, page(report).encode())


def page(report: "Report") -> str:
    """The page as text."""
    drawn = svg_pictures(report)
    healthy = report.yours.signals.norms.word == report.yours.signals.angles.word == "critical"
    other = "" if report.critical is None else f'<p class="other">{escape(headline(report.critical))}</p>'
    net = report.yours.net
    title = f"{net.depth} layers of {net.activation.name}, width {width_in_words(net.widths)}"
    body = "".join(_group(report, group, drawn) for group in groups(report))
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="generator" content="finitewidth {__version__}">
<title>{escape(title)}: before training</title>
<style>
{_stylesheet()}
</style>
</head>
<body>
<main>
<header>
<p class="kicker">Before training</p>
<h1>{escape(title)}</h1>
<p class="subject">{escape(subject(report))}</p>
{f"<p><strong>{escape(report.sample.note)}</strong></p>" if report.sample.note else ""}
<p class="verdict {"good" if healthy else "bad"}">{escape(report.verdict)}</p>
{other}
</header>
{body}
{_advice(report)}
{_method(report)}
</main>
</body>
</html>
"""


def _stylesheet() -> str:
    return files("finitewidth.report").joinpath("page.css").read_text(encoding="utf-8").strip()


def _group(report: "Report", group: Group, drawn: dict[str, str]) -> str:
    heads = "".join(f'<th scope="col" class="{kind}">{escape(side.name)}</th>' for side, kind in _kinds(report))
    rows = []
    for row in group.rows:
        cells = "".join(
            f'<td class="{kind}" data-name="{escape(side.name)}">'
            f'<span class="{cell.mood}">{_math(cell.text)}</span></td>'
            for cell, (side, kind) in zip(row.cells, _kinds(report), strict=True)
        )
        rows.append(
            f'<tr><th scope="row">{_math(row.name)}</th>{cells}</tr>'
            f'<tr class="meaning"><td colspan="{1 + len(row.cells)}">{_math(row.meaning)}</td></tr>'
        )
    shown = [name for name in group.pictures if name in drawn]
    figures = "".join(
        f"<figure>{_titled(drawn[name], name)}<figcaption>{escape(_CAPTIONS[name])}</figcaption></figure>"
        for name in shown
    )
    return f"""<section class="group">
<h2>{escape(group.title)}</h2>
<div class="beside">
<table class="numbers">
<thead><tr><td></td>{heads}</tr></thead>
<tbody>{"".join(rows)}</tbody>
</table>
<div class="pictures">{figures}</div>
</div>
</section>
"""


def _math(text: str) -> str:
    """Text for the page, with C_b and the like set as symbols with subscripts."""
    return re.sub(r"(?<![A-Za-z])(C|n|λ|η)_(max|[bWL0])(?![a-zA-Z])", r"<i>\1</i><sub>\2</sub>", escape(text))


def _kinds(report: "Report") -> list[tuple["Side", str]]:
    return list(zip(report.sides, ("yours", "critical"), strict=False))


def _titled(svg: str, name: str) -> str:
    """The picture with a name for those who cannot see it."""
    end = svg.index(">") + 1
    return f'{svg[:end]}<title id="{name}-title">{escape(_CAPTIONS[name])}</title>{svg[end:]}'


def _advice(report: "Report") -> str:
    advice = report.advice
    if advice is None:
        return f"<section><h2>What to do</h2><p>{_math(report.advice_in_words)}</p></section>"
    depth = len(advice.C_b)
    shown = sorted({0, 1, depth - 1} & set(range(depth)))
    names = {0: "first", 1: "second", depth - 1: "last"}
    if depth > 3:
        names[1] = f"2 … {depth - 1}"
    if depth == 1:
        names = {0: "the only"}
    rows = "".join(
        f'<tr><th scope="row">{names[i]}</th><td>{advice.fan_in[i]}</td><td>{number(float(advice.C_b[i]), 7)}</td>'
        f"<td>{number(float(advice.C_W[i]), 7)}</td><td>{number(float(advice.bias_std[i]), 5)}</td>"
        f"<td>{number(float(advice.weight_std[i]), 5)}</td></tr>"
        for i in shown
    )
    return f"""<section>
<h2>What to do</h2>
<p>{_math(report.advice_in_words)}</p>
<div class="scroll"><table class="plain">
<thead><tr><th scope="col">layer</th><th scope="col">fan-in</th>
<th scope="col">{_math("C_b")}</th><th scope="col">{_math("C_W")}</th>
<th scope="col">std of biases</th><th scope="col">std of weights</th></tr></thead>
<tbody>{rows}</tbody>
</table></div>
<div class="code">
<div><h3>PyTorch</h3><pre><code>{escape(advice.torch)}</code></pre></div>
<div><h3>JAX</h3><pre><code>{escape(advice.jax)}</code></pre></div>
</div>
</section>
"""


def _method(report: "Report") -> str:
    total = sum(wall for wall, _ in report.timings.values())
    compiling = sum(jit for _, jit in report.timings.values())
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{wall:.2f} s</td><td>{jit:.2f} s</td></tr>'
        for name, (wall, jit) in report.timings.items()
    )
    return f"""<section class="method">
<h2>How this was made</h2>
<p>{_conventions(report)}</p>
<h3>To make it again</h3>
<pre><code>{escape(report.command)}</code></pre>
<h3>Where the time went</h3>
<table class="plain">
<thead><tr><th scope="col">stage</th><th scope="col">wall</th><th scope="col">of which compiling</th></tr></thead>
<tbody>{rows}
<tr class="sum"><th scope="row">together</th><td>{total:.2f} s</td><td>{compiling:.2f} s</td></tr></tbody>
</table>
<p class="colophon">finitewidth {__version__}</p>
</section>
"""


def _conventions(report: "Report") -> str:
    sample, net = report.sample, report.yours.net
    thinned = "" if sample.used == sample.total else f", a fixed random choice of {sample.used} among {sample.total}"
    lambda_b, lambda_W = layers(net.per_layer("lambda_b")), layers(net.per_layer("lambda_W"))
    sgd = " (plain SGD: one learning rate for all parameters)" if report.yours.tangent_kernel.plain_sgd else ""
    mean_square = number(float(np.median(sample.mean_square)), 4)
    return f"""Computed, not simulated: expectations over initialisations in powers of 1/width, after
<cite>The Principles of Deep Learning Theory</cite> (Roberts, Yaida and Hanin, 2022), whose chapters are named above.
Signals, gradients and the tangent kernel are of leading order; V is the first correction.
Weights count as Gaussian; only their variance matters to what is shown here.
Depth {net.depth} counts layers of weights, the output included.
Data: {escape(sample.source)}{thinned}; the median of |x|²/{_math("n_0")} is {mean_square}.
Learning-rate tensor: {_math("λ_b")} = {escape(lambda_b)}, {_math("λ_W")} = {escape(lambda_W)}{sgd}."""
