r"""Theory meets experiment after training: mean and covariance of the outputs (THEORY-TRAINED §4, §5).

`finitewidth.predict` computes, `finitewidth.experiments` trains real networks of several widths. Of every mean and
covariance

    E z(n) = E z(∞) + c₁/n + c₂/n² + …

two numbers are compared: the value at infinite width, from a free fit, and the coefficient c₁ = Σ terms, from a fit to
n (E z(n) − E z(∞)), which makes use of the first and so is known much better than by a free fit.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from finitewidth.algorithms import Algorithm, GradientDescent, GradientFlow
from finitewidth.architecture import MLP, has_biases
from finitewidth.compare.arguments import check_networks, check_rate, checked_degree, scaled_widths
from finitewidth.compare.comparison import Comparison
from finitewidth.compare.initialisation import Verification
from finitewidth.compare.kinks import warn_of_kinks
from finitewidth.data import check_inputs
from finitewidth.errors import InputError, TrustWarning
from finitewidth.experiments import Extrapolation, TrainedWidths, extrapolate, measure_trained_widths
from finitewidth.training import predict
from finitewidth.training.result import Prediction

NUMERICAL = 1e-6
"""Of trained outputs, relative to their size: what the integrator of the flow leaves, and the end of training."""


@dataclass(frozen=True, kw_only=True)
class TrainedVerification(Verification):
    """The table of `verify_trained`.

    Rows are named `mean`, `covariance` (infinite width), `mean_first_order`, `covariance_first_order` (coefficients of
    1/n); their `inputs` are (sample, output), of a covariance twice, samples the training inputs and then the others.

    Fields
        trained: how many of the samples were trained on. algorithm: how.
        widths: of the last hidden layer.
        detectable: for every term of first order, by how many standard errors the row moves that would notice most if
            the term were left out. Below `limit`, this experiment has nothing to say of it.
        fit: how often, by chance, some polynomial in 1/n would fit the widths as badly as here (Bonferroni). Where it
            is small, the series has not set in at these widths, and a contradiction is none: take larger ones.
    """

    trained: int
    algorithm: Algorithm
    widths: tuple[int, ...]
    detectable: dict[str, float]
    fit: float

    def _about(self) -> dict[str, Any]:
        training = {"algorithm": repr(self.algorithm), "trained": self.trained}
        return super()._about() | training | {"detectable": self.detectable, "fit": self.fit}

    def label(self, row: Comparison) -> str:
        """Which samples a row is of: `train 0`, `test 1`, `train 0 · test 1`; with outputs where there are several."""
        pairs = [row.inputs[i : i + 2] for i in range(0, len(row.inputs), 2)]
        return " · ".join(map(self._sample, dict.fromkeys(pairs)))

    def _sample(self, pair: tuple[int, ...]) -> str:
        a, i = pair
        name = f"train {a}" if a < self.trained else f"test {a - self.trained}"
        return name if self.net.n_out == 1 else f"{name}, output {i}"

    def __str__(self) -> str:
        lines = [f"{'':42}{'theory':>14}{'experiment':>14}{'std. error':>12}{'z':>7}"]
        for row in self.rows:
            numbers = f"{row.theory:14.6g}{row.experiment:14.6g}{row.standard_error:12.2g}{row.z:7.2f}"
            lines.append(f"{row.name:24}{self.label(row):18}{numbers}")
        return "\n".join([*lines, self.verdict])


def verify_trained(
    net: MLP,
    x_train: Any,
    y_train: Any,
    x_test: Any = None,
    *,
    algorithm: GradientFlow | GradientDescent = GradientFlow(),  # noqa: B008  (frozen)
    n_networks: int = 2000,
    widths: Sequence[int] = (24, 48, 96),
    degree: int = 2,
    seed: int = 0,
    false_alarm_rate: float = 0.01,
    progress: Callable[[int, int], Any] | None = None,
) -> TrainedVerification:
    """Compare what `predict` says with networks that are really trained, at infinite width and to first order in 1/n.

    Source: THEORY-TRAINED §4, §5. The experiment draws networks of `net`'s architecture at several widths, trains each,
    and takes mean and covariance over initialisations, with control variates (docs/trained-ensembles.md).

    Arguments
        net: the network; of its widths, only the ratios matter.
        x_train, y_train: (N_T, n_in), (N_T,) or (N_T, n_L), as for `predict`. x_test: further inputs, (N, n_in).
        algorithm: gradient flow or descent. Descent is computed much faster.
        n_networks: how many are trained of each width, at least 200. Errors fall as 1/√n_networks.
        widths: of the last hidden layer, more than `degree`; the others keep their ratios to it.
        degree: of the fit in 1/n to the values, 1, 2 or 3; coefficients of 1/n are fitted with one degree less. What is
            left out is of order n^−(degree+1) and n^−degree of the widths; it grows with depth and with the step (tanh,
            depth 4, 6 steps of 0.6 of the stable bound: 15 % of the mean's coefficient at the default widths, 5 % with
            degree 3 and a width of 192 more).
        seed: the same seed draws the same networks.
        false_alarm_rate: how often a right theory may fail.
        progress: called as progress(networks trained, of how many).

    Returns
        a `TrainedVerification`; `print` shows its table, `passed` its verdict.

    Raises
        InputError: for arguments that cannot be used, naming the remedy.

    Warns
        TrustWarning: for σ with kinks, whose effect in training is of order 1/√n.
    """
    check_networks(n_networks)
    check_rate(false_alarm_rate)
    if not isinstance(algorithm, GradientFlow | GradientDescent):
        raise InputError(f"`algorithm` must be gradient flow or descent, whose first order is known; got {algorithm!r}")
    scaled = scaled_widths(net, widths, checked_degree(degree, least=1))
    x, asked = _inputs(net, x_train, x_test)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TrustWarning)  # of the width of `net`, which is not used
        theory = predict(net, x, y_train, asked, algorithm=algorithm, order=1)
    warn_of_kinks(net, "a fit in 1/n")
    experiment = measure_trained_widths(
        net,
        x,
        y_train,
        None if len(asked) == len(x) else asked[len(x) :],
        widths=scaled,
        n_networks=n_networks,
        algorithm=algorithm,
        seed=seed,
        progress=progress,
    )
    compared = compare_scan(theory, experiment, degree)
    return TrainedVerification(
        net=net,
        rows=compared.rows,
        n_networks=n_networks,
        false_alarm_rate=false_alarm_rate,
        trained=len(x),
        algorithm=algorithm,
        widths=tuple(widths),
        detectable=compared.detectable,
        fit=compared.fit,
    )


def _inputs(net: MLP, x_train: Any, x_test: Any) -> tuple[np.ndarray, np.ndarray]:
    """Training inputs, and these with the others behind them."""
    may_vanish = has_biases(net)
    x = check_inputs(x_train, "x_train", may_vanish=may_vanish)
    if x_test is None:
        return x, x
    new = check_inputs(x_test, "x_test", may_vanish=may_vanish)
    if new.shape[1] != x.shape[1]:
        raise InputError(f"`x_test` has {new.shape[1]} columns, but `x_train` has {x.shape[1]}")
    return x, np.concatenate([x, new])


class Compared(NamedTuple):
    """Rows, and what is said of all of them: see `TrainedVerification`."""

    rows: tuple[Comparison, ...]
    detectable: dict[str, float]
    fit: float


class _Statistic(NamedTuple):
    """A mean or covariance, its entries flattened: what theory says, and what networks of several widths showed."""

    name: str
    inputs: tuple[tuple[int, ...], ...]
    infinite: np.ndarray
    terms: dict[str, np.ndarray]
    theory_error: np.ndarray  # of a value at the width of the prediction
    n: int
    widths: list[int]
    values: list[np.ndarray]
    errors: list[np.ndarray]


def compare_scan(theory: Prediction, experiment: TrainedWidths, degree: int) -> Compared:
    """Mean and covariance of a prediction for all of an experiment's samples, with those of its networks.

    Of the prediction nothing is used but values at infinite width, terms and errors.
    """
    rows: list[Comparison] = []
    detectable: dict[str, float] = {}
    worst, fits = 1.0, 0
    for statistic in (_mean(theory, experiment), _covariance(theory, experiment)):
        value, coefficient = _fits(statistic, degree)
        found = _rows(statistic, value, coefficient)
        rows += found
        errors = np.array([row.standard_error for row in found[len(found) // 2 :]])
        for name, each in statistic.terms.items():
            power = float(np.max(np.abs(each) / errors))
            detectable[name] = max(power, detectable.get(name, 0.0))
        worst = min([worst, *np.ravel(value.p_value), *np.ravel(coefficient.p_value)])
        fits += len(found)
    return Compared(tuple(rows), detectable, float(min(1.0, fits * worst)))


def _fits(seen: _Statistic, degree: int) -> tuple[Extrapolation, Extrapolation]:
    """The free fit, whose value is that at infinite width, and the fit of what is left times n."""
    value = extrapolate(seen.widths, seen.values, seen.errors, order=degree)
    off = [n * (each - seen.infinite) for n, each in zip(seen.widths, seen.values, strict=True)]
    errors = [n * each for n, each in zip(seen.widths, seen.errors, strict=True)]
    return value, extrapolate(seen.widths, off, errors, order=max(1, degree - 1))


def _rows(seen: _Statistic, value: Extrapolation, coefficient: Extrapolation) -> list[Comparison]:
    """First all values, then all coefficients."""
    first = np.sum(list(seen.terms.values()), axis=0)
    both = (
        (seen.name, seen.infinite, value, seen.theory_error),
        (f"{seen.name}_first_order", first, coefficient, seen.n * seen.theory_error),
    )
    return [
        Comparison(name, at, float(stated), float(measured), float(np.hypot(error, uncertain)))
        for name, expected, fit, numerical in both
        for at, stated, measured, error, uncertain in zip(
            seen.inputs, expected, fit.value, fit.standard_error, numerical, strict=True
        )
    ]


def _mean(theory: Prediction, experiment: TrainedWidths) -> _Statistic:
    shape = theory.mean_infinite.shape
    return _Statistic(
        "mean",
        tuple(np.ndindex(shape)),
        theory.mean_infinite.values.ravel(),
        {str(name): each.values.ravel() for name, each in theory.terms.items()},
        theory.error["mean"].values.ravel(),
        theory.n,
        *_measured(experiment, "mean", lambda each: each[-1].T.ravel(), _size(theory)),
    )


def _covariance(theory: Prediction, experiment: TrainedWidths) -> _Statistic:
    shape = theory.mean_infinite.shape
    size = int(np.prod(shape))
    upper = np.triu_indices(size)  # a covariance is symmetric
    places = list(np.ndindex(shape))
    error = theory.error["variance"].values.ravel()

    def once(each: np.ndarray) -> np.ndarray:
        return each.reshape(size, size)[upper]

    return _Statistic(
        "covariance",
        tuple((*places[p], *places[q]) for p, q in zip(*upper, strict=True)),
        once(theory.covariance_infinite.values),
        {str(name): once(each.values) for name, each in theory.covariance_terms.items()},
        np.maximum(error[upper[0]], error[upper[1]]),
        theory.n,
        *_measured(experiment, "covariance", lambda each: once(each[-1].transpose(1, 0, 3, 2)), _size(theory) ** 2),
    )


def _size(theory: Prediction) -> float:
    """Of the outputs, rms."""
    variance = theory.covariance_infinite.values.reshape(theory.mean_infinite.size, -1).diagonal()
    return float(np.sqrt(np.mean(theory.mean_infinite.values.ravel() ** 2 + np.maximum(variance, 0))))


def _measured(
    experiment: TrainedWidths, name: str, flat: Callable[[np.ndarray], np.ndarray], size: float
) -> Iterator[list[Any]]:
    """Widths, values and errors at the end of training."""
    seen = experiment.measurements
    yield [each.n for each in seen]
    yield [flat(each.value[name]) for each in seen]
    yield [np.hypot(flat(each.standard_error[name]), NUMERICAL * size) for each in seen]
