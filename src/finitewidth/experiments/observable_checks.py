"""Observables looked at before a run begins: whatever is wrong with one is said before hours go into networks."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from finitewidth.errors import InputError
from finitewidth.experiments.observables import Observable
from finitewidth.precision import float64

Shapes = Mapping[str, Any]  # by name, what has a `shape`


def check(observables: Sequence[Observable], contributed: Callable[[Observable], Shapes], *, of: str) -> None:
    """Every observable alone: what it contributes, and the estimate that is made of it.

    Arguments
        contributed: what an observable contributes of one network, or its shapes only.
        of: what an observable must be, for the message: "a JAX function of one network".

    Raises
        InputError: naming the observable.
    """
    for each in observables:
        try:
            with float64(), np.errstate(all="ignore"):  # averages that are all zero may be divided by
                averages = {name: np.zeros((2, *part.shape)) for name, part in contributed(each).items()}
                found = each.estimated(averages)
        except InputError:
            raise
        except Exception as error:
            reason = " ".join(str(error).split())[:300]
            raise InputError(
                f"`observables`: {each.name!r} fails on a network ({type(error).__name__}: {reason}); it must be {of}"
            ) from error
        _check_axes(each, found)


def _check_axes(observable: Observable, found: np.ndarray) -> None:
    """An estimate from averages over two resamples."""
    name, dims = observable.name, observable.dims
    if found.shape[:1] != (2,):
        raise InputError(
            f"`observables`: the statistic of {name!r} must keep the first axis of averages, one entry for each of 2 "
            f"resamples, but its result has the shape {found.shape}"
        )
    if found.ndim != 1 + len(dims):
        raise InputError(
            f"`observables`: {name!r} has {len(dims)} `dims` {dims}, but its estimate has the shape "
            f"{found.shape[1:]}; name every axis"
        )
    try:
        xr.DataArray(found[0], observable.coords, dims)
    except ValueError as error:
        raise InputError(
            f"`coords` of observable {name!r} do not go with its estimate of shape {found.shape[1:]} and `dims` "
            f"{dims}: {' '.join(str(error).split())}"
        ) from error
