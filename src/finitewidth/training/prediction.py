"""`predict`: mean and covariance of trained networks' outputs over initialisations (PDLT ch. 6, 10, 11, ∞)."""

import warnings
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any

import numpy as np

from finitewidth.algorithms import Adam, Algorithm, Bayes, GradientDescent, GradientFlow, Sgd
from finitewidth.architecture import MLP, must_be_plain, whole_number
from finitewidth.cores import Progress
from finitewidth.errors import InputError, TrustWarning
from finitewidth.flow import flow
from finitewidth.flow.first_order import MOST_INPUTS, asked_tensors, notes, warn_beyond_first_order
from finitewidth.gaussian.estimate import Estimate
from finitewidth.precision import in_float64
from finitewidth.training import cross_entropy
from finitewidth.training.batches import ORDERS, over_batches
from finitewidth.training.bayes import posterior
from finitewidth.training.bayes_first_order import posterior_corrections
from finitewidth.training.crossings import Crossings, crossings
from finitewidth.training.first_order import WITHOUT_NTK, Corrections, corrections
from finitewidth.training.infinite_width import Kernels, gain, outputs_of, trained_covariance
from finitewidth.training.left_out import left_out_notes
from finitewidth.training.many_inputs.corrections import Populations, many_input_corrections, many_input_posterior
from finitewidth.training.many_points import MANY, outputs_of_many
from finitewidth.training.problem import Problem
from finitewidth.training.result import Covariance, Prediction, dataset, labelled
from finitewidth.training.solvers import Iterative, Solver

UNCERTAIN = 0.1
"""Numerical error of the mean, relative to the targets, above which it is warned of."""


@in_float64
def predict(
    net: MLP,
    x_train: Any,
    y_train: Any,
    x_test: Any = None,
    *,
    algorithm: Algorithm = GradientFlow(),  # noqa: B008  (frozen)
    order: int = 1,
    loss: str = "mse",
    regularisation: float | None = None,
    neurons: int = 4096,
    solver: Solver | None = None,
    progress: Progress | None = None,
) -> Prediction:
    """What networks predict after training: mean and covariance over initialisations, to order 1/n.

    E z = g y + (1/n) Σ terms ,     g = Θ_XT φ(Θ_TT) ,     loss ½ Σ (z − y)² over training inputs and outputs.

    Source: PDLT §10.2, §∞.1–3 (training), §6.3 (Bayes); THEORY-TRAINED §3–5. Orders above `order` are dropped.

    Arguments
        net: the network; λ_b and λ_W are its learning-rate tensor.
        x_train: training inputs, shape (N_T, n_in); zero they may be where the first layer has C_b > 0. y_train: their
            targets, shape (N_T,) or (N_T, n_L).
        x_test: inputs to predict, shape (N_X, n_in); None for the training inputs.
        algorithm: what is done to the parameters, `fw.GradientFlow()` to the end of training unless told.
        order: 0 for infinite width, 1 for the first correction in 1/n.
        loss: "mse", ½ Σ (z − y)², or "cross-entropy", at order 0 (PDLT §10.2): y_train holds labels 0 … n_L − 1 or
            probabilities of shape (N_T, n_L); of a single output, whose loss is logistic, labels 0 and 1 or
            probabilities.
        neurons: with more than 16 different inputs, order 1 is averaged over this many sample neurons of every hidden
            layer; its standard error, in `error`, falls like their root.
        solver: of the linear systems of order 0, fw.Direct() or fw.Iterative(); None, what there are fewer operations
            for. `notes` says what an iterative one did.
        progress: called with (parts done, parts in all) of that average, and of a solver's iterations.
        regularisation: ρ ≥ 0, a pull back to the initial parameters, 𝓛 + ½ ρ Σ_μ (θ − θ(0))²_μ/λ_μ; None for none.

    Returns
        A `Prediction`: `mean`, `std`, `covariance`, `mean_infinite`, `covariance_infinite`, `terms`, `error`.

    Raises
        InputError: naming the argument, its value and the remedy.

    Warns
        TrustWarning: where V/(nK²) at the last layer, terms larger than the targets, or log p(y) moved by more than 1
            say that first order is not enough at this width; where inputs are so much alike that rounding is a tenth
            of the targets or more.

    >>> import finitewidth as fw
    >>> net = fw.MLP("tanh", depth=3, width=100, C_W=1.5)
    >>> p = fw.predict(net, [[1.0, 0.0], [0.0, 1.0]], [1.0, -1.0], [[1.0, 0.0], [1.0, 1.0]], order=0)
    >>> p.mean.values.ravel().round(6).tolist()  # a training input ends at its label
    [1.0, -0.0]
    """
    check_request(algorithm, order, loss, regularisation)
    whole_number("neurons", neurons)
    _check_solver(solver, algorithm, order, loss)
    problem = Problem.of(net, x_train, y_train, x_test, loss=loss)
    if not (isinstance(algorithm, Bayes) or net.per_layer("lambda_b").any() or net.per_layer("lambda_W").any()):
        raise InputError("`net` has `lambda_b` and `lambda_W` 0 in every layer, so nothing is learned; give it rates")
    if order:
        must_be_plain(net, "the first order in 1/n (order=1)")
    kernels = _kernels(net, problem)
    if order and not isinstance(algorithm, Bayes):
        _check_rates(kernels.Theta)
    if order == 0:
        found = _FirstOrder(Corrections({}, {}))
    elif len(problem.inputs) <= MOST_INPUTS:
        found = _with_tensors(net, problem, kernels, algorithm)
    else:
        found = _with_neurons(net, problem, kernels, algorithm, neurons, progress)
    pull = float(regularisation or 0.0)
    if loss == "mse":
        infinite = _infinite_width(algorithm, kernels, problem.targets, pull, solver, progress)
    else:
        infinite = _by_cross_entropy(algorithm, kernels, problem.targets, pull)
    n = net.widths[-1] if net.widths else 1
    _warn_of_evidence(found.evidence / n, n)
    first = found.corrections
    mean_terms = dataset(first.mean)
    error = dataset(
        {
            "mean": infinite.mean_error + first.mean_error / n,
            "variance": infinite.variance_error + first.variance_error / n,
            "truncation": _truncation(net, problem.targets, first, infinite.mean),
            **({} if infinite.probabilities is None else {"probabilities": infinite.probabilities.error}),
        }
    )
    made = Prediction(
        labelled(infinite.mean),
        mean_terms,
        dataset(first.covariance),
        error,
        order,
        n,
        net.depth_to_width,
        None if infinite.log_evidence is None else infinite.log_evidence + found.evidence / n,
        (*infinite.notes, *found.notes),
        None if infinite.probabilities is None else labelled(infinite.probabilities.value),
        _infinite=infinite.covariance,
        _connected=first.connected,
        _crossings=found.crossings,
    )
    return replace(made, notes=(*made.notes, *left_out_notes(made.left_out, made.n)))


def _warn_of_evidence(shift: float, n: int) -> None:
    """log p(y) is expanded in 1/n: beyond a shift of one or so the next order, its square, is as large."""
    if abs(shift) > 1:
        warnings.warn(
            f"first order in 1/n is not small at `width` {n}: it moves log p(y) by {shift:+.2g}, a factor of "
            f"{np.exp(min(abs(shift), 700.0)):.1g} in the evidence; allow for more noise, or take a wider network",
            TrustWarning,
            stacklevel=4,
        )


def _truncation(net: MLP, targets: np.ndarray, first: Corrections, mean: np.ndarray) -> np.ndarray:
    """What order 1/n² may add to the mean: r T + T²/y, T the sizes of terms, which may cancel, y of the targets.

    1/n is multiplied by Var ΔH/λ² of the slowest mode that matters, which can be large where r is small.
    """
    n = net.widths[-1] if net.widths else 1
    size = sum((np.abs(each) for each in first.mean.values()), np.zeros_like(mean)) / n
    unit = float(np.sqrt(np.mean(targets**2)))
    if (typical := float(np.sqrt(np.mean(size**2)))) > unit > 0:
        warnings.warn(
            f"first order in 1/n is not small at `width` {n}: its terms are {typical / unit:.2g} times the targets "
            "(rms), whatever is left of them when they cancel; train for a shorter time, or take a wider network",
            TrustWarning,
            stacklevel=4,
        )
    return net.depth_to_width * size + (size**2 / unit if unit else 0.0)


@dataclass(frozen=True)
class _InfiniteWidth:
    mean: np.ndarray
    covariance: Covariance | cross_entropy.Drawn
    mean_error: np.ndarray
    variance_error: np.ndarray
    notes: tuple[str, ...]
    log_evidence: float | None = None
    probabilities: Estimate | None = None


def _infinite_width(
    algorithm: Algorithm,
    kernels: Kernels,
    targets: np.ndarray,
    regularisation: float,
    solver: Solver | None = None,
    progress: Progress | None = None,
) -> _InfiniteWidth:
    if isinstance(algorithm, Sgd):
        drawn = over_batches(algorithm, kernels, targets, regularisation)
        note = f"batches: an average over {ORDERS} of their orders, whose standard errors are in `error`"
        covariance = Covariance(drawn.shared, drawn.between)
        return _InfiniteWidth(drawn.mean, covariance, drawn.mean_error, drawn.variance_error, (note,))
    if len(targets) > MANY or isinstance(solver, Iterative):
        found = outputs_of_many(algorithm, kernels, targets, regularisation, solver, progress)
    elif isinstance(algorithm, Bayes):
        of_bayes = posterior(kernels, targets, algorithm.noise)
        found = outputs_of(of_bayes.gain, of_bayes.covariance, kernels, targets, of_bayes.log_evidence)
    else:
        g = gain(algorithm, kernels, regularisation)
        found = outputs_of(g, trained_covariance(g.value, kernels), kernels, targets)
    unit, worst = float(np.sqrt(np.mean(targets**2))), float(found.mean_error.max())
    if found.doubt or worst > UNCERTAIN * unit > 0:
        doubt = found.doubt or (
            f"the mean is known to ±{worst:.2g} only, {worst / unit:.2g} times the targets (rms): the kernel of the "
            "training inputs is nearly singular (inputs almost alike); merge such inputs, train for a shorter time, or "
            "give `regularisation`, to Bayes noise"
        )
        warnings.warn(doubt, TrustWarning, stacklevel=4)
    return _InfiniteWidth(
        found.mean,
        Covariance(found.covariance),
        found.mean_error,
        found.variance_error,
        found.notes,
        found.log_evidence,
    )


def _by_cross_entropy(
    algorithm: Algorithm, kernels: Kernels, targets: np.ndarray, regularisation: float
) -> _InfiniteWidth:
    drawn = cross_entropy.drawn(algorithm, kernels, targets, regularisation)
    said = cross_entropy.notes(algorithm, kernels, drawn)
    shift = kernels.Theta_error * drawn.learned + drawn.integration_error  # of an output
    variance_error = drawn.variance_error + kernels.K_error + 2 * shift * np.sqrt(drawn.variance(0))
    mean_error = drawn.mean.error + shift
    return _InfiniteWidth(drawn.mean.value, drawn, mean_error, variance_error, said, None, drawn.probabilities)


@dataclass(frozen=True)
class _FirstOrder:
    """Coefficients of 1/n, that of log p(y) among them."""

    corrections: Corrections
    evidence: float = 0.0
    notes: tuple[str, ...] = ()
    crossings: Crossings | None = None


def _kernels(net: MLP, problem: Problem) -> Kernels:
    last = flow(net, problem.inputs, tensors="", layers="last").isel(layer=0)
    return Kernels(
        last.K.values,
        last.Theta.values,
        float(last.K_error),
        float(last.Theta_error),
        problem.train,
        problem.test,
    )


def _check_rates(Theta: np.ndarray) -> None:
    """At order 1 there are products of three Θ, which must not leave float64."""
    size = float(np.abs(Theta).max())
    if size and not 1e-95 < size < 1e95:
        raise InputError(
            f"`net` has a tangent kernel of size {size:.3g}, whose third power leaves float64; at order 1 multiply "
            "`lambda_b` and `lambda_W` by one factor, and divide times or steps by it"
        )


def _with_tensors(net: MLP, problem: Problem, kernels: Kernels, algorithm: Algorithm) -> _FirstOrder:
    """From all tensors of the last layer; warnings of `flow` are passed on as this call's own."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        wanted = "V,G1" if isinstance(algorithm, Bayes) else None
        tensors = flow(net, problem.inputs, order=1, tensors=wanted, layers="last").isel(layer=0)
    for each in caught:
        warnings.warn(each.message, each.category, stacklevel=4)
    known = tuple(filter(None, [tensors.attrs["notes"]]))
    if isinstance(algorithm, Bayes):
        return _FirstOrder(*posterior_corrections(kernels, problem.targets, algorithm.noise, tensors), notes=known)
    assert isinstance(algorithm, GradientFlow | GradientDescent)
    first = corrections(algorithm, kernels, problem.targets, tensors)
    crossed = None
    if net.activation.kinks:
        every = flow(net, problem.inputs, tensors="")
        crossed = crossings(net, algorithm, kernels, every.K.values, every.Theta.values, problem.targets)
    return _FirstOrder(first, notes=known, crossings=crossed)


def _with_neurons(
    net: MLP, problem: Problem, kernels: Kernels, algorithm: Algorithm, neurons: int, progress: Progress | None
) -> _FirstOrder:
    """From sample neurons, for more inputs than tensors can be held of."""
    asked = asked_tensors("V,G1" if isinstance(algorithm, Bayes) else None, net.activation)
    populations = Populations.of(net, problem.inputs, neurons)
    warn_beyond_first_order(net, populations.line, stacklevel=5)
    known = (
        f"{len(problem.inputs)} different inputs: order 1 is an average over {neurons} sample neurons of every hidden "
        "layer, whose standard error is in `error`",
        *filter(None, [notes(net.activation, asked)]),
    )
    if isinstance(algorithm, Bayes):
        found = many_input_posterior(kernels, problem.targets, algorithm.noise, populations, progress)
        return _FirstOrder(*found, notes=known)
    if "A" not in asked:
        raise InputError(WITHOUT_NTK)
    assert isinstance(algorithm, GradientFlow | GradientDescent)
    found_terms = many_input_corrections(algorithm, kernels, problem.targets, populations, progress)
    crossed = crossings(net, algorithm, kernels, populations.K, populations.Theta, problem.targets)
    return _FirstOrder(found_terms, notes=known, crossings=crossed)


def check_request(algorithm: Any, order: Any, loss: Any, regularisation: Any) -> None:
    """Refuse what `predict` cannot be asked, whatever the network and the data are."""
    if not isinstance(algorithm, Algorithm):
        raise InputError(f"`algorithm` must be one such as fw.GradientFlow(time=5.0), but got {algorithm!r}")
    if isinstance(algorithm, Adam):
        raise InputError(
            "`algorithm` Adam normalises every parameter's gradient by itself: its steps are no function of the "
            "outputs and the tangent kernel, so nothing here predicts it; train real networks, or use fw.Momentum"
        )
    if isinstance(order, bool) or order not in (0, 1):
        raise InputError(f"`order` must be 0 (infinite width) or 1 (first order in 1/n), but got {order!r}")
    if order and not isinstance(algorithm, GradientFlow | GradientDescent | Bayes):
        raise InputError(
            f"`order` 1 is computed for gradient flow, gradient descent and Bayes, but `algorithm` is {algorithm!r}; "
            "give order=0 for what it does at infinite width"
        )
    if loss not in ("mse", "cross-entropy"):
        raise InputError(f'`loss` must be "mse" or "cross-entropy", but got {loss!r}')
    if loss != "mse" and order:
        raise InputError(f'`loss` {loss!r} is known at infinite width only; give order=0, or loss="mse"')
    is_number = isinstance(regularisation, Real) and not isinstance(regularisation, bool)
    if regularisation is not None and not (is_number and 0 <= regularisation < np.inf):
        raise InputError(f"`regularisation` must be a finite number ≥ 0, or None, but got {regularisation!r}")
    if regularisation and isinstance(algorithm, Bayes):
        raise InputError(f"`regularisation` is no part of Bayes; give fw.Bayes(noise={regularisation!r})")
    if regularisation and order:
        raise InputError(
            f"`regularisation` is known at infinite width only, but got {regularisation!r} with order 1; give order=0"
        )


def _check_solver(solver: Any, algorithm: Algorithm, order: int, loss: str) -> None:
    if solver is not None and not isinstance(solver, Solver):
        raise InputError(f"`solver` must be fw.Direct(), fw.Iterative() or None, but got {solver!r}")
    if isinstance(solver, Iterative) and (order or loss != "mse" or isinstance(algorithm, Sgd)):
        raise InputError(
            f"`solver` {solver} is for gradient flow, gradient descent, momentum, Newton and Bayes at order=0 with "
            f'loss="mse", but got order={order}, loss="{loss}" and {algorithm}; leave `solver` out'
        )
