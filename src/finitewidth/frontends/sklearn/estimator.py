r"""What regressor and classifier share: from scikit-learn's parameters and data to a network, and on to `fw.predict`.

The network sees the features as they are, and with `intercept` one more that is 1 everywhere. Its critical
initialisation brings the training inputs to the kernel K* (K = 1 where any K will do): C_W of the first layer is
(K* − C_b)/⟨|x|²/n_0⟩.
"""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted, validate_data

from finitewidth.errors import InputError, TrustWarning

if TYPE_CHECKING:
    from finitewidth.algorithms import Algorithm
    from finitewidth.architecture import MLP
    from finitewidth.training.result import Prediction

_ROWS = 2000  # test inputs at once: kernels are matrices
_ROWS_AT_ORDER_1 = 200


@dataclass(frozen=True)
class Chunk:
    """For some rows the mean of every output, (rows, outputs), and the covariance between outputs, (rows, outputs,
    outputs)."""

    mean: np.ndarray
    covariance: np.ndarray


class FiniteWidthEstimator(BaseEstimator):
    """Base of `FiniteWidthRegressor` and `FiniteWidthClassifier`; parameters are documented there."""

    _progress: Callable[[int, int], None] | None = None  # told of averages over sample neurons; set by who shows it

    def __init__(
        self,
        activation: Any = "gelu",
        *,
        depth: int = 3,
        width: Any = 64,
        C_b: Any = "critical",
        C_W: Any = "critical",
        lambda_b: Any = 1.0,
        lambda_W: Any = 1.0,
        algorithm: Any = None,
        noise: float | None = None,
        regularisation: float | None = None,
        order: int = 0,
        intercept: bool = True,
        tune: str | None = None,
    ) -> None:
        self.activation = activation
        self.depth = depth
        self.width = width
        self.C_b = C_b
        self.C_W = C_W
        self.lambda_b = lambda_b
        self.lambda_W = lambda_W
        self.algorithm = algorithm
        self.noise = noise
        self.regularisation = regularisation
        self.order = order
        self.intercept = intercept
        self.tune = tune

    def network_inputs(self, X: Any) -> np.ndarray:
        """What the network sees of X: its features and, with `intercept`, the constant 1."""
        check_is_fitted(self, "net_")
        return self._inputs(validate_data(self, X, dtype=np.float64, reset=False))

    def _inputs(self, X: np.ndarray) -> np.ndarray:
        return np.hstack([X, np.ones((len(X), 1))]) if self.intercept else X

    def _fit_network(self, X: np.ndarray, targets: np.ndarray) -> None:
        """Sets `net_`, `algorithm_`, `notes_`, and `log_evidence_` with Bayes. Targets: (N, outputs)."""
        from finitewidth.algorithms import Bayes
        from finitewidth.training.prediction import check_request

        inputs = self._inputs(X)
        net, algorithm = self._network(inputs, targets.shape[1]), self._algorithm()
        if self.tune is not None:
            net, algorithm = self._tuned(net, algorithm, inputs, targets)
        self.net_, self.algorithm_, self._train = net, algorithm, (inputs, targets)
        self._asked_order = self._order()
        check_request(algorithm, self._asked_order, "mse", self.regularisation)
        known = self._ask(inputs[:1], order=0)  # a step too large, labels without noise that contradict: said here
        self.notes_ = known.notes
        if isinstance(algorithm, Bayes):
            self.log_evidence_ = known.log_evidence
        for note in known.notes:
            warnings.warn(note, TrustWarning, stacklevel=3)

    def _network(self, inputs: np.ndarray, outputs: int) -> "MLP":
        from dataclasses import replace

        from finitewidth.architecture import MLP
        from finitewidth.criticality.initialisation import initialisation

        given = {name: getattr(self, name) for name in ("C_b", "C_W")}
        for name, value in given.items():
            if isinstance(value, str) and value != "critical":
                raise InputError(f'`{name}` must be "critical", a number, or one per layer, but got {value!r}')
        net = MLP(
            self.activation,
            depth=self.depth,
            width=self.width,
            n_in=inputs.shape[1],
            n_out=outputs,
            lambda_b=self.lambda_b,
            lambda_W=self.lambda_W,
            **{name: value for name, value in given.items() if not isinstance(value, str)},
        )
        wanted = [name for name, value in given.items() if isinstance(value, str)]
        if not wanted:
            return net
        mean_square = float(np.mean(inputs**2))
        if mean_square == 0:
            raise InputError(
                "`X` is zero everywhere, so that no C_W brings it to a kernel; give intercept=True, or other X"
            )
        chosen = initialisation(
            "critical", net.activation, widths=(inputs.shape[1], *net.widths, outputs), mean_square=mean_square
        )
        return replace(net, **{name: getattr(chosen, name) for name in wanted})

    def _algorithm(self) -> "Algorithm":
        from dataclasses import replace

        from finitewidth.algorithms import Bayes, GradientFlow

        algorithm = GradientFlow() if self.algorithm is None else self.algorithm
        if self.noise is None:
            return algorithm
        if not isinstance(algorithm, Bayes):
            raise InputError(
                f"`noise` is the variance of labels in Bayes' rule, but the algorithm is {algorithm!r}; give "
                "algorithm=fw.Bayes(), or regularisation instead of noise"
            )
        return replace(algorithm, noise=self.noise)

    def _tuned(self, net: "MLP", algorithm: Any, inputs: np.ndarray, targets: np.ndarray) -> tuple["MLP", Any]:
        from finitewidth.algorithms import Bayes
        from finitewidth.frontends.sklearn.evidence import most_evident

        if self.tune != "evidence":
            raise InputError(f'`tune` must be None or "evidence", but got {self.tune!r}; for others, see GridSearchCV')
        if not isinstance(algorithm, Bayes):
            raise InputError(
                f'`tune="evidence"` needs algorithm=fw.Bayes(), whose evidence it is, but got {algorithm!r}'
            )
        return most_evident(net, inputs, targets, algorithm.noise)

    def _order(self) -> int:
        if isinstance(self.order, bool) or not isinstance(self.order, Integral) or self.order not in (0, 1):
            raise InputError(f"`order` must be 0 (infinite width) or 1 (first order in 1/n), but got {self.order!r}")
        return int(self.order)

    def _ask(
        self, inputs: np.ndarray, *, order: int | None = None, progress: Callable[[int, int], None] | None = None
    ) -> "Prediction":
        from finitewidth.training import predict

        return predict(
            self.net_,
            *self._train,
            inputs,
            algorithm=self.algorithm_,
            order=self._asked_order if order is None else order,
            regularisation=self.regularisation,
            progress=progress,
        )

    def _chunks(self, X: Any) -> Iterator[Chunk]:
        """Predictions for the rows of X, as many at a time as fit."""
        inputs = self.network_inputs(X)
        outputs = self._train[1].shape[1]
        rows, left_out = self._rows_at_once(), np.zeros(2)  # of mean and variance
        for begin in range(0, len(inputs), rows):
            # the last ones are asked in the company of those before, so that no other size of problem is compiled
            start = max(0, min(begin, len(inputs) - rows))
            found = self._ask(
                inputs[start : begin + rows], progress=self._shown(begin // rows, -(-len(inputs) // rows))
            )
            variance = found.std.values**2  # never negative: warned of where first order would have it so
            covariance = np.einsum("aiaj->aij", found.covariance.values) if self._asked_order else np.zeros((1, 1, 1))
            covariance = np.where(np.eye(outputs, dtype=bool), variance[:, :, None], covariance)
            if (lacks := found.left_out) is not None:
                left_out = np.maximum(left_out, [float(lacks[of].max()) for of in ("mean_size", "variance_size")])
            yield Chunk(found.mean.values[begin - start :], covariance[begin - start :])
        if left_out.any():
            of_mean, of_variance = (float(each) for each in left_out)
            warnings.warn(
                f"neurons that cross a kink of {self.net_.activation.name} while they are trained are left out at "
                f"order 1: that may change means by up to {of_mean:.2g} and variances by up to {of_variance:.2g}, of "
                "targets as the network sees them",
                TrustWarning,
                stacklevel=3,
            )

    def _shown(self, before: int, calls: int) -> Callable[[int, int], None] | None:
        show = self._progress
        return None if show is None else lambda done, parts: show(before * parts + done, calls * parts)

    def _rows_at_once(self) -> int:
        if self._asked_order == 0:
            return _ROWS
        from finitewidth.flow.first_order import MOST_INPUTS

        free = MOST_INPUTS - len(np.unique(self._train[0], axis=0))
        return free if free > 0 else _ROWS_AT_ORDER_1
