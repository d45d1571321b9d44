"""A learning problem: training inputs with their targets, and the inputs that are asked about."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from finitewidth.architecture import MLP, check_net, has_biases, real_array
from finitewidth.data import DataSet, check_inputs
from finitewidth.errors import InputError

LARGEST_TARGET = 1e90
"""Terms of first order hold cubes of targets."""


@dataclass(frozen=True)
class Problem:
    """Training inputs T, targets y, and the inputs X that are asked about.

    Attributes
        inputs: all different inputs, shape (N, n_in). An input that occurs twice, in training, in testing or in both,
            is here once: K and Θ need not be told twice.
        train, test: which of them each training input and each input that is asked about is.
        targets: y, shape (N_T, n_L); of cross-entropy, probabilities.
    """

    inputs: np.ndarray
    train: np.ndarray
    test: np.ndarray
    targets: np.ndarray

    @classmethod
    def of(cls, net: MLP, x_train: Any, y_train: Any, x_test: Any = None, *, loss: str = "mse") -> "Problem":
        """The problem, checked.

        Raises
            InputError: for inputs or targets that cannot be used, naming the argument.
        """
        check_net(net)
        may_vanish = has_biases(net)
        x = check_inputs(x_train, "x_train", may_vanish=may_vanish)
        x_new = x if x_test is None else check_inputs(x_test, "x_test", may_vanish=may_vanish)
        check_columns(x_train, x_test)
        for name, each in (("x_train", x), ("x_test", x_new)):
            if net.n_in is not None and net.n_in != each.shape[1]:
                raise InputError(f"`{name}` has {each.shape[1]} columns, but the network has n_in = {net.n_in}")
        if x_new.shape[1] != x.shape[1]:
            raise InputError(f"`x_test` has {x_new.shape[1]} columns, but `x_train` has {x.shape[1]}")
        targets = (check_probabilities if loss == "cross-entropy" else check_targets)(net, y_train, len(x))
        # in the order of their first occurrence, training first
        _, first, inverse = np.unique(np.concatenate([x, x_new]), axis=0, return_index=True, return_inverse=True)
        order = np.argsort(first, kind="stable")
        place = np.argsort(order, kind="stable")[inverse.ravel()]
        return cls(np.concatenate([x, x_new])[first[order]], place[: len(x)], place[len(x) :], targets)


def check_columns(x_train: Any, x_test: Any) -> None:
    """Columns of two tables, where both have names, must be the same in the same order: nothing else tells them apart.

    Raises
        InputError: with the first column that is another.
    """
    names = [list(getattr(x, "columns", ())) for x in (x_train, x_test)]
    named = all(isinstance(each, str) for each in (*names[0], *names[1]))
    if named and len(names[0]) == len(names[1]) and names[0] != names[1]:
        column = next(i for i, (one, other) in enumerate(zip(*names, strict=True)) if one != other)
        raise InputError(
            f"`x_test` has the column {names[1][column]!r} where `x_train` has {names[0][column]!r}; give both the "
            "same columns in the same order, as in x_test[x_train.columns]"
        )


def check_targets(net: MLP, y: Any, N: int) -> np.ndarray:
    """Targets as float64 of shape (N, n_L)."""
    targets = _numbers(y, N)
    if targets.ndim == 1:
        targets = targets[:, None]
    if targets.shape[1] != net.n_out:
        raise InputError(
            f"`y_train` has {targets.shape[1]} columns, but the network has n_out = {net.n_out}; "
            f"give one column for each output, or a network with n_out={targets.shape[1]}"
        )
    return targets


def check_probabilities(net: MLP, y: Any, N: int) -> np.ndarray:
    """Class labels (N,) or probabilities (N, n_L) as probabilities; of one output that of label 1."""
    targets, classes = _numbers(y, N), max(2, net.n_out)
    if targets.ndim == 1 and net.n_out > 1:
        if np.any(bad := ~np.isin(targets, np.arange(classes))):
            raise InputError(
                f"`y_train` must hold labels 0 … {classes - 1} for n_out = {classes}, but has {targets[bad][0]:g}; "
                "give labels counted from 0, or probabilities of shape (N, n_out)"
            )
        return np.eye(classes)[targets.astype(int)]
    targets = targets.reshape(N, -1)
    if targets.shape[1] != net.n_out:
        raise InputError(f"`y_train` has {targets.shape[1]} columns, but the network has n_out = {net.n_out}")
    sums = targets.sum(1) if net.n_out > 1 else np.ones(N)
    if np.any(bad := (np.any(targets < 0, axis=1) | np.any(targets > 1, axis=1) | (np.abs(sums - 1) > 1e-6))):
        row = int(np.argmax(bad))
        what = "labels, or probabilities that add up to 1" if net.n_out > 1 else "labels 0 and 1, or probabilities"
        raise InputError(f"`y_train` must hold {what} for cross-entropy, but row {row} is {targets[row].tolist()}")
    return targets


def _numbers(y: Any, N: int) -> np.ndarray:
    """One or two axes of N finite numbers."""
    targets = real_array("y_train", y.targets if isinstance(y, DataSet) else y, "one row for each training input")
    if targets.ndim not in (1, 2):
        raise InputError(f"`y_train` must have shape (N,) or (N, n_L), but has {targets.shape}")
    if len(targets) != N:
        raise InputError(f"`y_train` has {len(targets)} rows, but `x_train` has {N}; give one target for each input")
    if not np.all(np.isfinite(targets)):
        row, column = np.argwhere(~np.isfinite(targets.reshape(N, -1)))[0]
        value = targets.reshape(N, -1)[row, column]
        raise InputError(
            f"`y_train` holds {value} at row {row}, column {column} (counted from 0); fill it in or drop the row"
        )
    if np.abs(targets).max() > LARGEST_TARGET:
        raise InputError(
            f"`y_train` has entries of size {np.abs(targets).max():.1g}, whose cubes leave float64; rescale them to "
            "order one"
        )
    return targets
