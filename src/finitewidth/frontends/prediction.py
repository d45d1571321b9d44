"""What `finitewidth predict` computes: two tables in, predictions in the units of the target out.

Features and target are brought to mean 0 and variance 1 over the training rows (unless `raw`), and a constant feature
1 stands for the biases of the first layer, as in `finitewidth.sklearn`. Infinite width, finite width and a handful of
real networks answer for the same rows; with a single feature the first and the last also for a grid along it.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from finitewidth.algorithms import Algorithm, GradientDescent, GradientFlow, Momentum, Sgd
from finitewidth.architecture import MLP
from finitewidth.data import DataSet, load_table
from finitewidth.errors import InputError, TrustWarning
from finitewidth.experiments.courses import course
from finitewidth.experiments.trained_outputs import trained_outputs
from finitewidth.flow.first_order import MOST_INPUTS
from finitewidth.frontends.progress import ProgressLine
from finitewidth.frontends.sklearn.regressor import FiniteWidthRegressor

_GRID = 200
MOST_STEPS = 100_000  # of training, for a network to be shown


@dataclass(frozen=True)
class Table:
    """Features (N, n), and the target (N,) where the file has it, NaN where it is blank."""

    features: np.ndarray
    target: np.ndarray | None


@dataclass(frozen=True)
class Answer:
    """Mean and standard deviation over initialisations, of shape (N,) each."""

    mean: np.ndarray
    std: np.ndarray


@dataclass(frozen=True)
class FilePrediction:
    """All that is shown, in the units of the target.

    Fields
        names, target: of the features, of the target. train, test: the tables.
        net, algorithm, order, notes: what was computed, and what must be known of it.
        infinite, finite: for the rows of the test table; finite is infinite at order 0.
        networks: outputs of real networks for these rows, (networks, N); None where there are none.
        grid: with a single feature, points along it; infinite_grid, networks_grid: the answers there.
    """

    names: tuple[str, ...]
    target: str
    train: Table
    test: Table
    net: MLP
    algorithm: Algorithm
    order: int
    notes: tuple[str, ...]
    infinite: Answer
    finite: Answer
    networks: np.ndarray | None
    grid: np.ndarray | None = None
    infinite_grid: Answer | None = None
    networks_grid: np.ndarray | None = None

    def rms_error(self, answer: Answer) -> float | None:
        """Root mean square of mean − target over the test rows that have one; None without targets."""
        target = self.test.target
        return None if target is None else float(np.sqrt(np.nanmean((answer.mean - target) ** 2)))


def read_tables(train: str, test: str, target: str) -> tuple[tuple[str, ...], Table, Table]:
    """The names of the features, the training table, and the test table with its columns in the same order.

    The target may be blank in the test table, in some rows or in all.

    Raises
        InputError: for files that cannot be read, a target that is no column, or columns that differ.
    """
    first, second = load_table(train), load_table(test, may_be_blank=target)
    if target not in first.names:
        raise InputError(f"`--target` {target!r} is no column of {train!r}; it has {', '.join(first.names)}")
    names = tuple(name for name in first.names if name != target)
    if not names:
        raise InputError(f"{train!r} has no column beside the target {target!r}; it needs features")
    missing = [name for name in names if name not in second.names]
    strange = [name for name in second.names if name not in first.names]
    if missing or strange:
        faults = [f"lacks {', '.join(map(repr, missing))}"] * bool(missing)
        faults += [f"has {', '.join(map(repr, strange))}, which training does not"] * bool(strange)
        raise InputError(f"{test!r} {' and '.join(faults)}; give the columns of {train!r} (the target may be left out)")
    return names, _table(first, names, target), _table(second, names, target)


def _table(data: DataSet, names: tuple[str, ...], target: str) -> Table:
    features = data.inputs[:, [data.names.index(name) for name in names]]
    values = data.inputs[:, data.names.index(target)] if target in data.names else np.full(len(features), np.nan)
    return Table(features, None if np.all(np.isnan(values)) else values)


@dataclass(frozen=True)
class Request:
    """What the command was asked for.

    Fields
        parameters: of `FiniteWidthRegressor`. algorithm: given the largest eigenvalue of Θ on the training inputs.
        order: None to have it chosen. networks, seed: of the real ones. raw: whether units stay as they are.
    """

    parameters: dict[str, Any]
    algorithm: Callable[[float], Algorithm]
    order: int | None
    networks: int
    seed: int
    raw: bool


def predict_tables(
    names: tuple[str, ...], target: str, train: Table, test: Table, request: Request, progress: ProgressLine
) -> FilePrediction:
    """Everything `FilePrediction` holds; warnings become notes."""
    centre, scale = (np.zeros(len(names)), np.ones(len(names))) if request.raw else _units(train.features)
    x, asked = (train.features - centre) / scale, (test.features - centre) / scale
    grid = grid_asked = infinite_grid = networks = networks_grid = None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", TrustWarning)
        progress("infinite width")
        model = _fitted(request, x, train.target)
        infinite = Answer(*model.predict(asked, return_std=True))
        if len(names) == 1:
            every = np.concatenate([x, asked])
            grid_asked = np.linspace(every.min(), every.max(), _GRID)[:, None]
            grid, infinite_grid = grid_asked * scale + centre, Answer(*model.predict(grid_asked, return_std=True))
        order, notes = _order(request, model, x, asked)
        finite = infinite
        if order:
            progress("first order in 1/n")
            first_order = FiniteWidthRegressor(**model.get_params()).set_params(order=1).fit(x, train.target)
            first_order._progress = progress.counted("first order in 1/n, parts")
            finite = Answer(*first_order.predict(asked, return_std=True))
            if doubt := not_small(finite, infinite, float(model.y_scale_[0])):
                order, finite = (order, finite) if request.order else (0, infinite)
                notes += (doubt if request.order else f"infinite width, since {doubt}",)
        if request.networks:
            progress("training real networks")
            every = asked if grid_asked is None else np.concatenate([asked, grid_asked])
            outputs = _real(model, x, train.target, every, request)
            if outputs is None:
                notes += (f"no real networks: {model.algorithm_!r} takes no steps, or too many, or diverges",)
            else:
                networks, networks_grid = outputs[:, : len(asked)], outputs[:, len(asked) :]
    notes += tuple(dict.fromkeys(str(each.message) for each in caught if issubclass(each.category, TrustWarning)))
    found = (model.net_, model.algorithm_, order, notes, infinite, finite, networks)
    return FilePrediction(names, target, train, test, *found, grid, infinite_grid, networks_grid)


def _fitted(request: Request, x: np.ndarray, target: np.ndarray | None) -> FiniteWidthRegressor:
    model = FiniteWidthRegressor(**request.parameters, normalize_y=not request.raw)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TrustWarning)  # of an algorithm that nobody asked for: this finds the network
        model.fit(x, target)
    return model.set_params(algorithm=request.algorithm(largest_rate(model, x))).fit(x, target)


def not_small(finite: Answer, infinite: Answer, unit: float) -> str:
    """Why first order is no correction but something else, or "" where it is one.

    Where modes of Θ are slow, the 1/n in which one expands is Var ΔH/λ² of the slowest of them, and r = Σ 1/n_ℓ can be
    small all the same: half the targets' standard deviation, as rms over the rows, is called too much here.
    """
    shift = float(np.sqrt(np.mean((finite.mean - infinite.mean) ** 2)))
    lost = int(np.sum((finite.std == 0) & (infinite.std > 0)))
    if shift <= 0.5 * unit and not lost:
        return ""
    negative = f", and makes {lost} variances negative" if lost else ""
    return (
        f"first order in 1/n is not small here: it moves the mean by {shift / unit:.2g} standard deviations of the "
        f"targets (rms){negative}; shorter training, a larger width or more different inputs bring it into its own"
    )


def _units(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of every column; 1 for a column that is constant."""
    centre, scale = values.mean(0), values.std(0)
    return centre, np.where(scale <= 10 * np.finfo(float).eps * np.abs(values).max(0), 1.0, scale)


def largest_rate(model: FiniteWidthRegressor, features: np.ndarray) -> float:
    """λ_max of Θ on the training inputs: gradient descent is stable below a step of 2/λ_max."""
    from finitewidth.flow import flow
    from finitewidth.training.modes import largest_rate as of_kernel

    return of_kernel(flow(model.net_, model.network_inputs(features), tensors="", layers="last").Theta.values[0])


def _order(
    request: Request, model: FiniteWidthRegressor, train: np.ndarray, test: np.ndarray
) -> tuple[int, tuple[str, ...]]:
    """The order to compute: what was asked, or first where it is cheap."""
    if request.order is not None:
        return request.order, ()
    if model.net_.depth == 1:
        return 0, ("a network without hidden layers has no finite width",)
    if model.net_.activation.kinks:
        kinked = f"neurons that cross a kink of {model.net_.activation.name} in training count at order 1/√n"
        return 0, (f"infinite width: {kinked}, which first order in 1/n leaves out; --order 1 says how much",)
    inputs = len(np.unique(np.concatenate([train, test]), axis=0))
    if inputs > MOST_INPUTS:
        return 0, (f"infinite width: with {inputs} different inputs first order in 1/n takes minutes; --order 1",)
    return 1, ()


def _real(
    model: FiniteWidthRegressor, train: np.ndarray, target: np.ndarray | None, asked: np.ndarray, request: Request
) -> np.ndarray | None:
    """Outputs of real networks, (networks, N), in the units of the target."""
    assert target is not None
    if not is_short(model.algorithm_, largest_rate(model, train)):
        return None
    outputs = trained_outputs(
        model.net_,
        model.network_inputs(train),
        (target[:, None] - model.y_mean_) / model.y_scale_,
        model.network_inputs(asked),
        course=course(model.algorithm_, inputs=len(train)),
        networks=request.networks,
        seed=request.seed,
    )[:, -1, :, 0]
    return outputs * model.y_scale_[0] + model.y_mean_[0] if np.all(np.isfinite(outputs)) else None


def is_short(algorithm: Algorithm, largest: float) -> bool:
    """Whether networks can be trained while a person waits; `largest` is λ_max of Θ on the training inputs."""
    match algorithm:
        case GradientFlow(time):
            return time * largest <= MOST_STEPS  # an explicit method's steps are some 3/λ_max
        case GradientDescent() | Momentum() | Sgd():
            return algorithm.steps <= MOST_STEPS
    return False
