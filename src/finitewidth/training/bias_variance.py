r"""Generalisation: the expected error on new inputs, split into bias and variance over initialisations (PDLT §10.3).

    E (z − y)² = (E z − y)² + Var z ,          bias² + variance, of every input and output,

each with its value at infinite width and its coefficient of 1/n:

    bias²     (m − y)² + (1/n) 2 (m − y) Σ mean terms ,          m = E z at infinite width
    variance  P K Pᵀ + (1/n) Σ covariance terms

To first order the error is a straight line in 1/n: its slope says whether finite width helps or harms. What width would
be best lies beyond first order; what depth, C_b, C_W or λ is best at a given width does not, and differs from what is
best at infinite width.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import product
from numbers import Real
from typing import Any

import numpy as np
import xarray as xr

from finitewidth.algorithms import Algorithm, GradientFlow
from finitewidth.architecture import MLP, check_net, whole_number
from finitewidth.data import check_inputs
from finitewidth.errors import InputError, TrustWarning
from finitewidth.training.prediction import predict
from finitewidth.training.result import Prediction, checked_targets

SCANNED = ("C_b", "C_W", "lambda_b", "lambda_W", "depth", "width")


def generalisation(
    net: MLP,
    x_train: Any,
    y_train: Any,
    x_test: Any,
    y_test: Any,
    *,
    scan: Mapping[str, Sequence[float]] | None = None,
    algorithm: Algorithm = GradientFlow(),  # noqa: B008  (frozen)
    order: int = 1,
) -> xr.Dataset:
    """The expected test error of trained networks, averaged over test inputs and outputs, along a scan.

    Source: PDLT §10.3; THEORY-TRAINED §4, §5. Orders above `order` in 1/n are dropped.

    Arguments
        net, x_train, y_train, x_test, algorithm, order: as for `predict`.
        y_test: (N_X,) or (N_X, n_L), what the test inputs should have.
        scan: values of any of C_b, C_W, lambda_b, lambda_W, depth, width, as in {"C_W": [1.0, 1.5], "depth": [2, 3]};
            every combination is computed. Widths cost nothing. None for the network itself.

    Returns
        A Dataset with a dimension for each entry of `scan`, and the variables of `Prediction.test_error`, averaged, and
        `r`, Σ 1/n_ℓ over hidden layers.

    Raises
        InputError: naming the argument, its value and the remedy; at a point of the scan, saying which.

    Warns
        TrustWarning: where some points of the scan, but not all, cannot be predicted (a step beyond the stable bound,
            say): they are not a number, and the first reason is told.

    >>> import finitewidth as fw
    >>> net = fw.MLP("tanh", depth=2, width=64, C_b=0.2, C_W=1.4)
    >>> x, y, new, target = [[1.0, 0.2], [-0.5, 0.9]], [0.5, -0.3], [[0.4, 0.4]], [0.2]
    >>> found = fw.generalisation(net, x, y, new, target, scan={"C_W": [1.0, 1.4, 2.0]}, order=0)
    >>> bool((found.error == found.bias_squared + found.variance).all()), found.error.dims
    (True, ('C_W',))
    """
    check_net(net)
    scan = _checked(scan)
    targets = checked_targets(y_test, (len(check_inputs(x_test, "x_test", may_vanish=True)), net.n_out), "y_test")
    others = {name: values for name, values in scan.items() if name != "width"}
    widths = scan.get("width", (None,))
    first = {} if widths[0] is None else {"width": widths[0]}
    asked = [dict(zip(others, values, strict=True)) for values in product(*others.values())]
    nets = [_changed(net, {**changed, **first}) for changed in asked]

    def errors(of: MLP) -> list[dict[str, float]]:
        p = predict(of, x_train, y_train, x_test, algorithm=algorithm, order=order)
        return [_average(p if width is None else p.at_width(int(width)), targets) for width in widths]

    points = _of_those_that_can(errors, nets, asked)
    names = next(row for row in points if row is not None)[0]
    sizes = [len(values) for values in others.values()]
    shape, dims = (*sizes, len(widths)), (*others, "width")
    nothing = [dict.fromkeys(names, np.nan)] * len(widths)
    flat = [each for row in points for each in (nothing if row is None else row)]
    found = {name: (dims, np.reshape([each[name] for each in flat], shape)) for name in names}
    whole = xr.Dataset(found, {name: np.asarray(values) for name, values in scan.items()})
    return whole.transpose(*scan) if "width" in scan else whole.isel(width=0, drop=True)


def _changed(net: MLP, changed: Mapping[str, Any]) -> MLP:
    try:
        return replace(net, **changed)
    except InputError as error:
        raise InputError(_at(changed, error)) from error


def _of_those_that_can(
    errors: Callable[[MLP], list[dict[str, float]]], nets: Sequence[MLP], asked: Sequence[Mapping[str, Any]]
) -> list[list[dict[str, float]] | None]:
    """The errors at every point; None where there are none, which is warned of while other points have some."""
    found: list[list[dict[str, float]] | None] = []
    faults: list[tuple[Mapping[str, Any], InputError]] = []
    for net, changed in zip(nets, asked, strict=True):
        try:
            found.append(errors(net))
        except InputError as error:
            found.append(None)
            faults.append((changed, error))
    if faults:
        where, fault = faults[0]
        if len(faults) == len(nets):
            raise InputError(_at(where, fault)) from fault
        warnings.warn(
            f"{len(faults)} of {len(nets)} points of `scan` are not a number: {_at(where, fault)}"
            + (f"; and at {'; '.join(_where(each) for each, _ in faults[1:])}" if len(faults) > 1 else ""),
            TrustWarning,
            stacklevel=3,
        )
    return found


def _at(changed: Mapping[str, Any], error: InputError) -> str:
    return f"at {_where(changed)}: {error}" if changed else str(error)


def _where(changed: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in changed.items())


def _average(p: Prediction, targets: np.ndarray) -> dict[str, float]:
    return {str(name): float(each.mean()) for name, each in p.test_error(targets).items()} | {"r": p.r}


def _checked(scan: Any) -> dict[str, Sequence[float]]:
    if scan is None:
        return {}
    if not isinstance(scan, Mapping):
        raise InputError(f'`scan` must be a mapping such as {{"C_W": [1.0, 1.5]}}, but got {scan!r}')
    for name, values in scan.items():
        if name not in SCANNED:
            raise InputError(f"`scan` must have keys among {', '.join(SCANNED)}, but has {name!r}")
        if isinstance(values, str) or not isinstance(values, (Sequence, np.ndarray)) or len(values) == 0:
            raise InputError(f"`scan` must have a list of values for {name!r}, but got {values!r}")
    return {name: [_number(name, value) for value in values] for name, values in scan.items()}


def _number(name: str, value: Any) -> float:
    if name in ("depth", "width"):
        return whole_number(name, value)
    if not isinstance(value, Real):
        raise InputError(f"`scan` must have numbers for {name!r}, but got {value!r}")
    return float(value)
