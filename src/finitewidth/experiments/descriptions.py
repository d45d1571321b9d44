"""What was asked for, as JSON has it: runs with equal descriptions draw the same networks and sum the same numbers."""

import hashlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from finitewidth.activations import Activation
from finitewidth.architecture import MLP
from finitewidth.errors import InputError


def describe_net(net: MLP) -> dict[str, Any]:
    """The architecture; an activation is known by its name and by its values, since any function may have any name."""
    return {
        "activation": net.activation.name,
        "activation_values": _digest(",".join(f"{value:.9g}" for value in _values(net.activation)).encode()),
        "depth": net.depth,
        "width": list(net.widths),
        "n_in": net.n_in,
        "n_out": net.n_out,
        **{name: net.per_layer(name).tolist() for name in ("C_b", "C_W", "lambda_b", "lambda_W")},
    }


def net_of(description: Mapping[str, Any]) -> MLP:
    """The architecture that was described.

    Raises
        InputError: when its activation is not one of the named ones.
    """
    remedy = "compare in Python, where the network can be given"
    try:
        net = MLP(
            description["activation"],
            **{name: description[name] for name in ("depth", "width", "n_in", "n_out")},
            **{name: description[name] for name in ("C_b", "C_W", "lambda_b", "lambda_W")},
        )
    except InputError as error:
        raise InputError(f"the run's activation {description['activation']!r} has no name here; {remedy}") from error
    if describe_net(net)["activation_values"] != description["activation_values"]:
        raise InputError(
            f"the run's activation is called {description['activation']!r} but is another function; {remedy}"
        )
    return net


def describe_array(array: np.ndarray) -> dict[str, Any]:
    """Shape and digest."""
    array = np.ascontiguousarray(array, dtype=np.float64)
    return {"shape": list(array.shape), "sha256": _digest(array.astype("<f8").tobytes())}


def describe_function(function: Callable[..., Any]) -> dict[str, Any]:
    """A function by its name, its source text, and the values that it holds on to (partial arguments, closures)."""
    inner = inspect.unwrap(function)
    held: Any = None
    if hasattr(inner, "func"):  # functools.partial
        held = [[_held(each) for each in inner.args], {name: _held(each) for name, each in inner.keywords.items()}]
        inner = inner.func
    elif getattr(inner, "__closure__", None):
        held = [_held(cell.cell_contents) for cell in inner.__closure__]
    if not hasattr(inner, "__qualname__"):  # an object that is called: what it is made of is its repr
        return {"name": type(inner).__qualname__, "source": repr(inner)}
    try:
        source = inspect.getsource(inner)
    except (OSError, TypeError):  # typed at a prompt, or not Python
        code = getattr(inner, "__code__", None)
        source = repr((code.co_code, code.co_consts, code.co_names)) if code else ""
    return {"name": inner.__qualname__, "source": _digest(source.encode()), "holds": held}


def _held(value: Any) -> Any:
    if callable(value):
        return describe_function(value)
    # not the repr of an array, which leaves out its middle
    return describe_array(np.asarray(value)) if hasattr(value, "__array__") else repr(value)


def _values(activation: Activation) -> np.ndarray:
    return activation.evaluate(np.concatenate([np.linspace(-6.1, 6.3, 64), [-40.0, 40.0]])).ravel()


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
