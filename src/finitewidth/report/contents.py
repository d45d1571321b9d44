"""What a report says: one network on data, as initialised and as it could be, before any training."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from finitewidth.architecture import MLP, check_mlp, whole_number
from finitewidth.criticality import Criticality, PhaseDiagram
from finitewidth.data import DataSet, check_inputs, load_data
from finitewidth.errors import InputError
from finitewidth.flow import flow
from finitewidth.report import strict_json
from finitewidth.report.advice import Advice, advice
from finitewidth.report.finite_width import FiniteWidth, finite_width
from finitewidth.report.gradients import Gradients, gradients
from finitewidth.report.initialisations import TITLES, critical_twin, default_network, in_words, is_critical
from finitewidth.report.phase import diagram_around
from finitewidth.report.signals import Signals, signals
from finitewidth.report.stopwatch import Progress, Stopwatch
from finitewidth.report.tangent_kernel import TangentKernel, tangent_kernel
from finitewidth.report.verdict import headline

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

Array = NDArray[np.float64]
_LOUD = 0.95  # share of |x|² beyond which a column leaves nothing to the others


@dataclass(frozen=True)
class Side:
    """One initialisation and what follows from it. `name` is short ("torch"), `title` is for a sentence."""

    name: str
    title: str
    net: MLP
    signals: Signals
    gradients: Gradients
    tangent_kernel: TangentKernel
    finite_width: FiniteWidth


@dataclass(frozen=True)
class Sample:
    """The inputs the report was made with: `used` of the `total` rows of `source`; mean_square is |x|²/n_0 of each.

    `note` says, if it is so, that one column is nearly all that the network sees.
    """

    source: str
    total: int
    used: int
    n_in: int
    mean_square: Array
    note: str = ""


@dataclass(frozen=True)
class Report:
    """What a network will do before it is trained: numbers (`to_dict`), a table (`print`), pictures, a page.

    Attributes
        yours: the network as given.
        critical: the same network at the advised initialisation; None if `yours` is it.
        sample: the inputs used.
        point: what `finitewidth.critical` says of the activation.
        advice: what to do, in numbers; None where no initialisation is near criticality. `advice_in_words`: the same
            in words.
        timings: seconds by stage, (wall, of which JAX compiled).
        command: how to make this report again.
    """

    yours: Side
    critical: Side | None
    sample: Sample
    point: Criticality
    advice: Advice | None
    advice_in_words: str
    timings: dict[str, tuple[float, float]]
    command: str

    @property
    def sides(self) -> tuple[Side, ...]:
        """`yours`, and `critical` where there is one."""
        return (self.yours,) if self.critical is None else (self.yours, self.critical)

    @property
    def verdict(self) -> str:
        """The first thing to know, in plain words."""
        return headline(self.yours)

    @cached_property
    def phase(self) -> PhaseDiagram:
        """The phase diagram of the activation with the initialisations inside, computed when it is first drawn."""
        choices = [(float(side.net.per_layer("C_b")[-1]), float(side.net.per_layer("C_W")[-1])) for side in self.sides]
        return diagram_around(self.yours.net.activation, self.point, choices)

    def to_dict(self) -> dict[str, Any]:
        """Every number of the report at full precision, as plain values with stable keys; null where none exists."""
        net = self.yours.net
        return strict_json.document(
            {
                "verdict": self.verdict,
                "network": {
                    "activation": net.activation.name,
                    "depth": net.depth,
                    "width": net.width,
                    "n_in": net.n_in,
                    "n_out": net.n_out,
                    "lambda_b": net.per_layer("lambda_b"),
                    "lambda_W": net.per_layer("lambda_W"),
                },
                "data": {
                    "source": self.sample.source,
                    "inputs": self.sample.total,
                    "inputs_used": self.sample.used,
                    "mean_square": float(np.median(self.sample.mean_square)),
                    "note": self.sample.note,
                },
                "yours": _side_to_dict(self.yours),
                "critical": None if self.critical is None else _side_to_dict(self.critical),
                "critical_point": self.point.to_dict(),
                "advice": self.advice,
                "advice_in_words": self.advice_in_words,
                "command": self.command,
                "seconds": {name: {"wall": wall, "compiling": jit} for name, (wall, jit) in self.timings.items()},
            }
        )

    def print(self, *, console: "Console | None" = None) -> None:
        """The report as a table on standard output (or on `console`): colour on a terminal, plain text in a pipe."""
        from finitewidth.report.text import print_on, render

        if console is None:
            print_on(render(self))
        else:
            console.print(render(self))

    def __rich_console__(self, console: "Console", options: "ConsoleOptions") -> "RenderResult":
        from finitewidth.report.text import render

        yield render(self)

    def save_pictures(self, directory: str | PathLike[str]) -> list[Path]:
        """A PNG for each picture, and `report.png` with all, in `directory` (made if missing). Returns their paths."""
        from finitewidth.report.pictures import save_pictures

        return save_pictures(self, Path(directory))

    def save_html(self, file: str | PathLike[str]) -> Path:
        """The report as one self-contained HTML page: no network, light and dark, fit for paper."""
        from finitewidth.report.page import save_page

        return save_page(self, Path(file))


def report(
    net: MLP | None = None,
    data: "str | PathLike[str] | DataSet | Array | Sequence[Sequence[float]]" = "digits",
    *,
    label: str | None = None,
    inputs: int = 500,
    command: str | None = None,
    progress: Progress | None = None,
) -> Report:
    """What `net` will do with `data` before any training, side by side with the critical initialisation.

    Leading order in 1/n for signals, gradients and the tangent kernel, first order for the spread between
    initialisations; the formulas are in the docstrings of `signals`, `gradients`, `tangent_kernel` and `finite_width`
    (PDLT ch. 4, 5, 8–10).

    Arguments
        net: the network. `n_in=None` takes the number of columns of the data. Default: GELU, depth 24, width 512, 10
            outputs, PyTorch's default initialisation, the learning-rate tensor of plain SGD (λ_b = 1, λ_W⁽ℓ⁾ =
            n_{ℓ−1}).
        data: a name or path for `load_data`, a `DataSet`, or an array of shape (N, n_in).
        label: the name of the initialisation (`"torch"`, `"kaiming"`, …), for the words of the report. Default:
            "yours".
        inputs: how many of the inputs to use at most; more are thinned out at random, always in the same way.
        command: how to make this report again, for the page. Default: the call in words.
        progress: called with the name of each stage as it begins.

    Raises
        InputError: one line: the argument, the value that came, the remedy.
    """
    if net is not None:
        check_mlp(net)
    watch = Stopwatch(progress)
    with watch.stage("reading the data"):
        x, sample = _sample(data, inputs)
    mean_square = float(np.median(sample.mean_square))
    with watch.stage("critical point"):
        if net is None:
            net, label = default_network(sample.n_in, mean_square), "torch"
        net = _fitted(net, sample.n_in)
        name = label or "yours"
        point, twin = critical_twin(net, mean_square)
    yours = _side(watch, name, TITLES.get(name, name), net, x, sample.mean_square)
    critical = None
    if twin is not None and (twin.C_b, twin.C_W) != (net.C_b, net.C_W):
        kind = "critical" if is_critical(point) else "nearest"
        critical = _side(watch, kind, TITLES[kind], twin, x, sample.mean_square)
    return Report(
        yours=yours,
        critical=critical,
        sample=sample,
        point=point,
        advice=None if twin is None else advice(twin),
        advice_in_words=in_words(point, twin),
        timings=watch.stages,
        command=command or f"fw.report({net.activation.name!r} network, …)",
    )


def _sample(data: Any, inputs: int) -> tuple[Array, Sample]:
    """The inputs to use, and what they are a sample of."""
    inputs = whole_number("inputs", inputs)
    if isinstance(data, (str, PathLike)):
        data = load_data(data)
    x = check_inputs(data, "data")
    source = data.source if isinstance(data, DataSet) else "an array"
    total = len(x)
    if total > inputs:
        x = x[np.sort(np.random.default_rng(0).choice(total, inputs, replace=False))]
    names = data.names if isinstance(data, DataSet) else tuple(f"x{i}" for i in range(x.shape[1]))
    return x, Sample(source, total, len(x), x.shape[1], _mean_squares(x), _one_column(x, names))


def _one_column(x: Array, names: Sequence[str]) -> str:
    """A sentence, if one of several columns is nearly all there is of the inputs: the kernel is made of x·x'."""
    if x.shape[1] == 1:
        return ""
    size = np.abs(x).max()  # columns of 1e200 among others
    shares = np.square(x / size).sum(axis=0)
    shares = shares / shares.sum()
    loudest = int(np.argmax(shares))
    if shares[loudest] < _LOUD:
        return ""
    percent = np.floor(1e3 * shares[loudest]) / 10
    return (
        f"Column {names[loudest]!r} makes up {percent:g} % of |x|²: to this network inputs differ in little else. "
        "Rescale the columns to similar sizes."
    )


def mean_square_of(x: Array) -> float:
    """|x|²/n_0 of a typical input: the median over all."""
    return float(np.median(_mean_squares(x)))


def _mean_squares(x: Array) -> Array:
    return np.asarray(np.einsum("ai,ai->a", x, x) / x.shape[1])


def _fitted(net: MLP, n_in: int) -> MLP:
    """`net` with the number of columns of the data as its n_in."""
    if net.n_in is not None and net.n_in != n_in:
        raise InputError(
            f"`net` has n_in={net.n_in}, but the data have {n_in} columns; leave `n_in` out or change the data"
        )
    return replace(net, n_in=n_in)


def _side(watch: Stopwatch, name: str, title: str, net: MLP, x: Array, mean_square: Array) -> Side:
    with watch.stage(f"flow, {name}"):
        layers = flow(net, x)
    with watch.stage("reading the flow"):
        return Side(
            name=name,
            title=title,
            net=net,
            signals=signals(net, layers),
            gradients=gradients(net, layers, mean_square),
            tangent_kernel=tangent_kernel(net, layers),
            finite_width=finite_width(net, layers),
        )


def _side_to_dict(side: Side) -> dict[str, Any]:
    return {
        "initialisation": side.name,
        "C_b": side.net.per_layer("C_b"),
        "C_W": side.net.per_layer("C_W"),
        "verdict": headline(side),
        "signals": side.signals,
        "gradients": {
            "jacobian": side.gradients.jacobian,
            "weights": side.gradients.weights,
            "first_to_last": side.gradients.first_to_last,
        },
        "tangent_kernel": side.tangent_kernel,
        "finite_width": side.finite_width,
    }
