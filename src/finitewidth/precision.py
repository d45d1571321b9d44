"""Double precision and wide vectors, chosen by the functions that need them, invisible to the user's own JAX program.

JAX computes in float32 unless told otherwise. The theory needs float64; a global switch would leak into the program
that imports this library. So each entry point that computes opens this context, for its own thread and duration.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import cache, wraps
from importlib import import_module
from typing import Any, ParamSpec, TypeVar

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


def jit_with_wide_vectors(function: Callable[P, R], **options: Any) -> Callable[P, R]:
    """`jax.jit` for processors with 512-bit vectors, of which XLA uses half unless told: 1.6 times as fast.

    What there is to compile for is asked at the first call only; a back end that does not know the option goes without.
    """

    @cache
    def compiled() -> Callable[P, R]:
        return jax.jit(function, compiler_options=_wide_vectors(), **options)

    @wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        return compiled()(*args, **kwargs)

    return wrapped


@cache
def _wide_vectors() -> dict[str, int] | None:
    option = {"xla_cpu_prefer_vector_width": 512}
    if jax.default_backend() != "cpu":
        return None
    try:
        jax.jit(lambda x: x, compiler_options=option).lower(0.0).compile()
    except Exception:  # of whatever kind: XLA promises its options to nobody
        return None
    return option
