r"""Theory meets experiment: every tensor of order 1/n against ensembles of real networks (THEORY §3).

The two know nothing of each other: `finitewidth.flow` computes, `finitewidth.experiments` draws networks and takes
exact derivatives. Networks of several widths are extrapolated,

    K(n) = K + G1/n + … ,     Θ(n) = Θ + H1/n + … ,     V(n) = V + O(1/n) , …    (tensors measured as multiples of 1/n)

by a fit, quadratic in 1/n unless asked otherwise, and compared in units of its standard error.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from finitewidth.architecture import MLP
from finitewidth.compare.arguments import check_networks, check_rate, checked_degree, scaled_widths
from finitewidth.compare.comparison import Comparison, Comparisons, finite_or_none
from finitewidth.cores import Tally, on_all_cores
from finitewidth.data import check_inputs
from finitewidth.errors import InputError, TrustWarning
from finitewidth.experiments import extrapolate, measure_widths
from finitewidth.experiments.initialisation import Measurement, WidthScan
from finitewidth.experiments.runs import Run
from finitewidth.experiments.statistics import joint_p_value
from finitewidth.flow.kernel import flow

Progress = Callable[[int, int], Any]

# What is measured together, and how many networks are drawn for each one that has third derivatives taken: what comes
# out with larger relative errors gets more.
_LEVELS: tuple[tuple[tuple[str, ...], int], ...] = (
    (("K", "G1", "V"), 16),
    (("Theta", "H1", "A", "B", "D", "F"), 10),
    (("P", "Q"), 1),
    (("R", "S", "T", "U"), 1),
)
_SHIFT_OF = {"G1": "K", "H1": "Theta"}
NAMES = tuple(name for names, _ in _LEVELS for name in names)
_MEASURED = tuple(name for name in NAMES if name not in _SHIFT_OF)


@dataclass(frozen=True, kw_only=True)
class Verification(Comparisons):
    """The table of `verify`, of networks of several `widths`, extrapolated."""

    widths: tuple[int, ...]

    def _about(self) -> dict[str, Any]:
        return super()._about() | {"widths": list(self.widths), "passed": self.passed}

    def __str__(self) -> str:
        lines = [f"{'':8}{'theory':>14}{'experiment':>14}{'std. error':>12}{'z':>7}"]
        for row in self.worst():
            subscript = "".join(map(str, row.inputs)) if any(row.inputs) else ""
            numbers = f"{row.theory:14.6g}{row.experiment:14.6g}{row.standard_error:12.2g}{row.z:7.2f}"
            lines.append(f"{row.name + subscript:8}{numbers}")
        return "\n".join([*lines, self.verdict])


def verify(
    net: MLP,
    x: Any,
    *,
    n_networks: int = 6000,
    widths: Sequence[int] = (12, 20, 48),
    degree: int = 2,
    tensors: Sequence[str] | None = None,
    seed: int = 0,
    false_alarm_rate: float = 0.01,
    progress: Progress | None = None,
) -> Verification:
    """Compare K, Θ and the tensors of order 1/n at the last layer with ensembles of real networks.

    Source: THEORY §3. The experiment draws networks of `net`'s architecture at several widths, takes the exact
    derivatives of their outputs, and fits the averages with a polynomial in 1/n.

    Arguments
        net: the network; of its widths, only the ratios matter.
        x: inputs, shape (N, n_in), N ≤ 16. Costs grow fast with N: two or three show everything.
        n_networks: how many networks of each width have second and third derivatives taken, at least 200. For what
            needs first derivatives only 10 times as many are drawn, for what needs none 16 times as many. Errors fall
            as 1/√n_networks.
        widths: of the last hidden layer, more than `degree`; the others keep their ratios to it.
        degree: of the fit in 1/n. What it leaves out is of order n^−(degree+1) of the widths. Networks of depth 2 need
            no fit: their averages are those of first order at every width, and degree 0 gives the smallest errors.
        tensors: names among K, Theta, V, A, B, D, F, P, Q, R, S, T, U, G1, H1; None for all that exist.
        seed: the same seed draws the same networks.
        false_alarm_rate: how often a right theory may fail.
        progress: called as progress(networks done, of how many).

    Returns
        a `Verification`; `print` shows its table, `passed` its verdict.

    Raises
        InputError: for arguments that cannot be used, naming the remedy.
    """
    check_networks(n_networks)
    check_rate(false_alarm_rate)
    scaled = scaled_widths(net, widths, checked_degree(degree))
    if isinstance(tensors, str) or not (tensors is None or isinstance(tensors, Sequence)):
        raise InputError(f"`tensors` must be a list of names such as ['V', 'A'], or None for all, but got {tensors!r}")
    names = NAMES if tensors is None else tuple(tensors)
    if unknown := [name for name in names if name not in NAMES]:
        raise InputError(f"`tensors` must be names among {', '.join(NAMES)}, but got {unknown[0]!r}")
    x = check_inputs(x)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TrustWarning)  # the width of `net` is not used
        theory = flow(net, x, order=1, tensors=[n for n in names if n not in ("K", "Theta")] or "V", layers="last")
    names = tuple(name for name in names if name in theory)
    rows: list[Comparison] = []
    for level, scan in _scans(net, x, names, scaled, n_networks, seed, progress):
        rows += [row for name in level for row in _compared(name, scan, theory, degree)]
    order = {name: i for i, name in enumerate(NAMES)}
    rows.sort(key=lambda row: order[row.name])
    return Verification(
        net=net, rows=tuple(rows), widths=tuple(widths), n_networks=n_networks, false_alarm_rate=false_alarm_rate
    )


@dataclass(frozen=True, kw_only=True)
class RunComparison(Comparisons):
    """What a run showed at its own width, beside the theory to first order in 1/n.

    The theory of K is K + G1/n, that of Theta is Θ + H1/n; of the tensors of order 1/n it is the leading coefficient.
    What it leaves out is of order 1/n² and 1/n, relatively: where many networks make errors smaller than that, z is
    large though nothing is wrong. Runs at several widths (`compare_runs`) tell the two apart.

    joint_p_values: of all entries of a tensor together, where there are batches enough.
    """

    joint_p_values: dict[str, float]

    def left_out(self, row: Comparison) -> float:
        """(experiment/theory − 1) n/L: of order one where it is the next order in L/n that is missing (for K and
        Theta, times n/L again)."""
        ratio = self.net.widths[-1] / self.net.depth
        relative = row.experiment / row.theory - 1 if row.theory else np.inf
        return float(relative * ratio ** (2 if row.name in ("K", "Theta") else 1))

    def to_dict(self) -> dict[str, Any]:
        """Everything, as JSON has it."""
        rows = [row.to_dict() | {"left_out": finite_or_none(self.left_out(row))} for row in self.rows]
        return self._about() | {"joint_p_values": self.joint_p_values, "rows": rows}


def compare_run(net: MLP, x: Any, run: Run) -> RunComparison:
    """A run at its own width, beside the theory to first order.

    Arguments
        net, x: as the run had them; at most 16 inputs. run: of `fw.ensemble`, with K, Theta or tensors among its
            observables.

    Raises
        InputError: when nothing in the run is known to the theory.
    """
    names = [name for name in NAMES if name in run.estimates]
    if not names:
        raise InputError(f"the run has no observable that the theory knows: {', '.join(_MEASURED)}")
    shifts = [shift for shift, mean in _SHIFT_OF.items() if mean in names]
    wanted = [name for name in names if name not in ("K", "Theta")] + shifts
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TrustWarning)  # that L/n is large shows in the table
        theory = flow(net, x, order=1, tensors=wanted, layers="last")
    shift_of_mean = {mean: shift for shift, mean in _SHIFT_OF.items()}
    n = net.widths[-1] if net.widths else np.inf
    rows: list[Comparison] = []
    joint: dict[str, float] = {}
    for name in (name for name in names if name in theory):
        expected = theory[name].values[-1]
        if name in shift_of_mean:
            expected = expected + theory[shift_of_mean[name]].values[-1] / n
        found = run.estimates[name]
        rows += _entries(name, expected, found.value, found.standard_error)
        with suppress(ValueError):
            joint[name] = joint_p_value([found], [expected])
    return RunComparison(net=net, rows=tuple(rows), n_networks=run.n_networks, joint_p_values=joint)


def compare_runs(net: MLP, x: Any, runs: Sequence[tuple[MLP, Run]]) -> Verification:
    """Runs of one architecture at several widths, extrapolated in 1/n and compared with the theory, as `verify` does.

    Arguments
        net, x: the architecture, of whose widths only the ratios matter, and the inputs. runs: with their networks.

    Raises
        InputError: when widths are equal, or the runs have no tensor in common that the theory knows.
    """
    scan = WidthScan(tuple(Measurement(each, np.asarray(x), run.n_networks, dict(run.estimates)) for each, run in runs))
    widths = tuple(seen.n for seen in scan.measurements)
    if len(set(widths)) < len(widths):
        raise InputError(f"the runs must differ in width to be extrapolated, but have the widths {list(widths)}")
    common = [name for name in _MEASURED if all(name in run.estimates for _, run in runs)]
    names = common + [shift for shift, mean in _SHIFT_OF.items() if mean in common]
    if not names:
        raise InputError(f"the runs have no observable in common that the theory knows: {', '.join(_MEASURED)}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TrustWarning)
        wanted = [name for name in names if name not in ("K", "Theta")]
        theory = flow(net, x, order=1, tensors=wanted, layers="last")
    degree = min(2, len(widths) - 1)
    rows = [row for name in NAMES if name in names and name in theory for row in _compared(name, scan, theory, degree)]
    fewest = min(run.n_networks for _, run in runs)
    return Verification(net=net, rows=tuple(rows), widths=widths, n_networks=fewest)


def _scans(
    net: MLP,
    x: np.ndarray,
    names: tuple[str, ...],
    widths: list[list[int]],
    n_networks: int,
    seed: int,
    progress: Progress | None,
) -> list[tuple[tuple[str, ...], WidthScan]]:
    """The experiments, one for each order of derivatives, on all cores."""
    wanted = [(tuple(name for name in level if name in names), factor) for level, factor in _LEVELS]
    wanted = [(level, factor) for level, factor in wanted if level]
    total = n_networks * len(widths) * sum(factor for _, factor in wanted)
    tally = Tally(total, progress)

    def scan(experiment: tuple[tuple[str, ...], int]) -> tuple[tuple[str, ...], WidthScan]:
        (level, factor), done = experiment, 0

        def count(networks: int, _: int) -> None:
            nonlocal done
            tally.add(networks - done)
            done = networks

        measured = sorted({_SHIFT_OF.get(name, name) for name in level})
        return level, measure_widths(
            net, x, widths=widths, n_networks=factor * n_networks, tensors=measured, seed=seed, progress=count
        )

    return on_all_cores(scan, wanted, tally)


def _compared(name: str, scan: WidthScan, theory: Any, degree: int) -> Iterator[Comparison]:
    expected = theory[name].values[-1]
    if name in _SHIFT_OF:  # n (mean − mean at infinite width) = shift + O(1/n)
        mean, n = _SHIFT_OF[name], [seen.n for seen in scan.measurements]
        values = [m.n * (m.mean[mean] - theory[mean].values[-1]) for m in scan.measurements]
        errors = [m.n * m.standard_error[mean] for m in scan.measurements]
        fit = extrapolate(n, values, errors, order=max(min(degree, 1), degree - 1))
    else:
        fit = scan.extrapolate(name, order=degree)
    yield from _entries(name, expected, fit.value, fit.standard_error)


def _entries(name: str, expected: np.ndarray, value: np.ndarray, error: np.ndarray) -> Iterator[Comparison]:
    seen: set[tuple[float, ...]] = set()
    for inputs in np.ndindex(expected.shape):
        entry = float(expected[inputs]), float(value[inputs]), float(error[inputs])
        fingerprint = tuple(float(f"{number:.9g}") for number in entry)  # entries that are equal by symmetry
        if fingerprint not in seen:
            seen.add(fingerprint)
            yield Comparison(name, tuple(map(int, inputs)), *entry)
