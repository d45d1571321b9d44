"""An entry of the catalogue: a named activation with its parameters.

A family file declares one function per activation, from its parameters to what is known of it; `@entry` makes that
function a factory that checks the parameters, names the result and remembers it:

    @entry(torch="LeakyReLU", jax="leaky_relu")
    def leaky_relu(negative_slope: float = 0.01) -> Known: ...

    leaky_relu(0.1) is leaky_relu(negative_slope=0.1)      # one object: compiled functions and tables hang on it
"""

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from numbers import Real
from typing import Any

from finitewidth.activations.activation import Activation, Parity
from finitewidth.errors import InputError


@dataclass(frozen=True, eq=False, repr=False)
class Known(Activation):
    """An activation of the catalogue. Its facts are declared and tested, so nothing is searched for or checked again.

    It travels to other processes by its `recipe` ("leaky_relu(0.1)"), as functions cannot be pickled.
    """

    kinks: tuple[float, ...] = ()
    parity: Parity = "none"
    transitions: tuple[tuple[float, float], ...] = ()
    recipe: str = ""

    def __post_init__(self) -> None:
        pass

    def __reduce__(self) -> Any:
        return _recall, (self.recipe, self.name)


def _recall(recipe: str, name: str) -> Activation:
    from finitewidth.activations.naming import named

    activation = named(recipe)
    return activation if activation.name == name else activation.renamed(name)


@dataclass(frozen=True, eq=False)
class Entry:
    """A named activation, or a family of them with parameters: called with the parameters, it gives the `Activation`.

    Attributes
        name: its name here.
        define: from the parameters to what is known; its docstring's first line is the summary.
        aliases: other names.
        torch, jax: its names in torch.nn and jax.nn (or jax.numpy), "" if it has none.
        example: parameters to show it with, for an activation whose parameters have no defaults.
    """

    name: str
    define: Callable[..., Known]
    aliases: tuple[str, ...] = ()
    torch: str = ""
    jax: str = ""
    example: tuple[float, ...] = ()

    def __call__(self, *args: Any, **kwargs: Any) -> Activation:
        values = self._checked(args, kwargs)
        if values not in _MADE.setdefault(self.name, {}):
            name = self._canonical(values)
            made = replace(self.define(*values), name=name, recipe=name, summary=self.summary)
            _MADE[self.name].setdefault(values, made)  # of two threads, the first one's object is everybody's
        return _MADE[self.name][values]

    def __repr__(self) -> str:
        return f"<activation {self.signature}: call it to choose parameters>"

    @property
    def summary(self) -> str:
        """The docstring's first paragraph, on one line."""
        return " ".join(inspect.getdoc(self.define).split("\n\n")[0].split())  # type: ignore[union-attr]

    @cached_property
    def parameters(self) -> dict[str, float | int | None]:
        """Parameter names with their defaults, `None` where a value must be given."""
        return {p.name: None if p.default is p.empty else p.default for p in self._parameters}

    @property
    def signature(self) -> str:
        """`leaky_relu(negative_slope=0.01)`."""
        if not self._parameters:
            return self.name
        return f"{self.name}({', '.join(str(p.replace(annotation=p.empty)) for p in self._parameters)})"

    def default(self) -> Activation:
        """With its default parameters, or those of its example."""
        return self(*self.example)

    @cached_property
    def _parameters(self) -> tuple[inspect.Parameter, ...]:
        return tuple(inspect.signature(self.define).parameters.values())

    @property
    def _is_variadic(self) -> bool:
        return any(p.kind is p.VAR_POSITIONAL for p in self._parameters)

    def _checked(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[float | int, ...]:
        for key in kwargs:
            if key not in self.parameters or self._is_variadic:
                raise InputError(f"activation {self.name!r} has no parameter `{key}`; {self._takes()}")
        if len(args) > len(self._parameters) and not self._is_variadic:
            raise InputError(f"activation {self.name!r} got {len(args)} parameters; {self._takes()}")
        try:
            bound = inspect.signature(self.define).bind(*args, **kwargs)
        except TypeError as error:
            raise InputError(f"activation {self.name!r}: {error}; {self._takes()}") from error
        bound.apply_defaults()
        if self._is_variadic:
            name = self._parameters[0].name
            return tuple(self._number(f"{name}[{i}]", value, float) for i, value in enumerate(bound.args))
        return tuple(self._number(p.name, bound.arguments[p.name], p.annotation) for p in self._parameters)

    def _number(self, parameter: str, value: Any, kind: type) -> float | int:
        if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(float(value)):
            raise InputError(f"`{parameter}` of activation {self.name!r} must be a finite number, but got {value!r}")
        number = float(value)
        if kind is int and not number.is_integer():
            raise InputError(f"`{parameter}` of activation {self.name!r} must be an integer, but got {value!r}")
        return int(number) if kind is int else number + 0.0  # −0.0 + 0.0 = 0.0

    def _takes(self) -> str:
        if not self._parameters:
            return "it takes no parameters"
        example = f", for example {self._canonical(self.example)}" if self.example else ""
        return f"it is {self.signature}{example}"

    def _canonical(self, values: tuple[float | int, ...]) -> str:
        """The name with the parameters that differ from their defaults: `leaky_relu`, `leaky_relu(0.1)`."""
        shown = list(values)
        defaults = list(self.parameters.values())
        while shown and not self._is_variadic and shown[-1] == defaults[len(shown) - 1]:
            shown.pop()
        return f"{self.name}({', '.join(map(_short, shown))})" if shown else self.name


ENTRIES: dict[str, Entry] = {}
_MADE: dict[str, dict[tuple[float | int, ...], Activation]] = {}


def entry(
    *, aliases: tuple[str, ...] = (), torch: str = "", jax: str = "", example: tuple[float, ...] = ()
) -> Callable[[Callable[..., Known]], Entry]:
    """Decorator that enters a definition into the catalogue under its function's name."""

    def enter(define: Callable[..., Known]) -> Entry:
        made = ENTRIES[define.__name__] = Entry(define.__name__, define, aliases, torch, jax, example)
        return made

    return enter


def require(holds: bool, parameter: str, condition: str, value: float) -> None:
    """Raise an `InputError` that names the parameter unless the condition holds."""
    if not holds:
        raise InputError(f"`{parameter}` must be {condition}, but got {_short(value)}")


def _short(value: float | int) -> str:
    text = f"{value:g}"
    return text if float(text) == value else repr(value)
