"""σ: the named activations, any function of a user's own, and what is known of each.

    >>> from finitewidth import activations
    >>> activations.named("GELU") is activations.gelu
    True
    >>> activations.leaky_relu(0.1)
    Activation(leaky_relu(0.1))

A name without parameters is the activation itself (`activations.gelu`); one with parameters is called to choose them
(`activations.leaky_relu(0.1)`, `activations.leaky_relu()` for the defaults).
"""

from typing import Any

from finitewidth.activations.activation import Activation
from finitewidth.activations.entry import ENTRIES as _ENTRIES
from finitewidth.activations.naming import catalogue, named, names

__all__ = ["Activation", "named", "names", "catalogue"]


def __getattr__(name: str) -> Any:
    if name not in _ENTRIES:
        raise AttributeError(
            f"module {__name__!r} has no attribute {name!r}; its activations are {', '.join(_ENTRIES)}"
        )
    entry = _ENTRIES[name]
    return entry if entry.parameters else entry()


def __dir__() -> list[str]:
    return sorted([*__all__, *_ENTRIES])
