"""Double precision, chosen by the functions that need it and invisible to the user's own JAX program.

JAX computes in float32 unless told otherwise. The theory needs float64; a global switch would leak into the program
that imports this library. So each entry point that computes opens this context, for its own thread and duration.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import wraps
from importlib import import_module
from typing import ParamSpec, TypeVar

import jax

P = ParamSpec("P")
R = TypeVar("R")


def float64() -> AbstractContextManager[None]:
    """Context in which JAX arrays of this thread are float64; the caller's setting returns on exit."""
    if hasattr(jax, "enable_x64"):  # JAX >= 0.8
        return jax.enable_x64(True)
    return import_module("jax.experimental").enable_x64(True)  # JAX 0.7


def in_float64(function: Callable[P, R]) -> Callable[P, R]:
    """Run `function` in the `float64` context."""

    @wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        with float64():
            return function(*args, **kwargs)

    return wrapped
