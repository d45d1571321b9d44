"""Compiling for ensembles: one thread a program, so that bits do not depend on how many cores there are.

XLA may split a product over threads, and then adds its parts in an order that depends on their number. Ensembles have
whole chunks to give to every core, and lose nothing by keeping each program to one.

Programs are kept in the process by what they do, so that a second experiment that does the same with other numbers does
not compile again.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from functools import cache, wraps
from threading import Lock
from typing import Any, ParamSpec, TypeVar

import jax

P = ParamSpec("P")
R = TypeVar("R")


def compiled(function: Callable[P, R]) -> Callable[P, R]:
    """`jax.jit` with one thread a program where the processor computes; elsewhere plain `jax.jit`."""

    @cache
    def program() -> Callable[P, R]:
        return jax.jit(function, compiler_options=_one_thread())

    @wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        return program()(*args, **kwargs)

    return wrapped


MOST_KEPT = 64
_programs: OrderedDict[Hashable, Any] = OrderedDict()
_lock = Lock()


def kept(key: Hashable, make: Callable[[], Callable[P, R]]) -> Callable[P, R]:
    """The program of this key, made when it is first asked for; those that were not asked for lately are forgotten."""
    with _lock:
        if key not in _programs:
            _programs[key] = make()
            if len(_programs) > MOST_KEPT:
                _programs.popitem(last=False)
        _programs.move_to_end(key)
        found: Callable[P, R] = _programs[key]
        return found


@cache
def _one_thread() -> dict[str, Any] | None:
    # asked at the first call only: the back end is not to be started by an import
    return {"xla_cpu_multi_thread_eigen": False} if jax.default_backend() == "cpu" else None
