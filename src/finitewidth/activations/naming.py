"""From a name to an activation, and the list of all of them."""

import ast
import difflib
import re
from typing import Any

# isort: off
from finitewidth.activations import (  # noqa: F401  in the order in which they are listed
    rectifiers,
    sigmoids,
    gated,
    exponentials,
    softened,
    hard,
    shrinkage,
    periodic,
    polynomials,
    bells,
    perceptrons,
)

# isort: on
from finitewidth.activations.activation import Activation
from finitewidth.activations.entry import ENTRIES, Entry
from finitewidth.errors import InputError

_MIXES = "mixes neurons: it is not a function of one number, so no elementwise theory holds for it"
_REFUSED = {
    "softmax": _MIXES,
    "softmax2d": _MIXES,
    "softmin": _MIXES,
    "logsoftmax": _MIXES,
    "gumbelsoftmax": _MIXES + "; it is also random",
    "logsumexp": _MIXES,
    "logmeanexp": _MIXES,
    "standardize": _MIXES,
    "maxout": _MIXES,
    "multiheadattention": _MIXES,
    "glu": "mixes neurons: it multiplies one half of a layer by a gate made of the other half",
    "swiglu": "mixes neurons: it multiplies one half of a layer by a gate made of the other half",
    "geglu": "mixes neurons: it multiplies one half of a layer by a gate made of the other half",
    "onehot": "takes class labels, not real numbers",
    "log1mexp": "is defined for z > 0 only, and a Gaussian preactivation takes every real value",
    "log": "is defined for z > 0 only, and a Gaussian preactivation takes every real value",
    "sqrt": "is defined for z ≥ 0 only, and a Gaussian preactivation takes every real value",
    "dropout": "is random; an activation must be a fixed function",
}


def names() -> tuple[str, ...]:
    """The names of the catalogue, without aliases.

    >>> from finitewidth import activations
    >>> activations.names()[:3]
    ('relu', 'leaky_relu', 'prelu')
    """
    return tuple(ENTRIES)


def named(name: str) -> Activation:
    """The activation of that name: the same object each time it is asked for.

    Case, hyphens, underscores and spaces do not matter, nor does a module in front (torch.nn.ReLU); parameters follow
    in parentheses, by position or by name. What torch prints for a module of its own is such a name, too; a PReLU's
    slopes are not printed, and taken to be at the 0.25 they start with.

    Arguments
        name: "gelu", "LeakyReLU", "leaky_relu(0.1)", "leaky_relu(negative_slope=0.1)".

    Raises
        InputError: for an unknown name (with the nearest known one), for a function that is not elementwise, real and
            deterministic, and for parameters that do not fit.

    >>> from finitewidth import activations
    >>> activations.named("LeakyReLU(0.1)") is activations.leaky_relu(negative_slope=0.1)
    True
    """
    if not isinstance(name, str):
        raise InputError(f"`activation` must be the name of an activation, but got {name!r}")
    name = _without_module(name)
    plain = _plain(name).replace("'", "").replace('"', "")
    if plain in _known_names():
        return _known_names()[plain]()
    head, parenthesis, rest = name.partition("(")
    found = _known_names().get(_plain(head))
    if found is None:
        raise InputError(_unknown(name, _plain(head)))
    if parenthesis and not rest.rstrip().endswith(")"):
        raise InputError(f"`activation` {name!r}: the closing parenthesis is missing")
    args, kwargs = _parsed(name, rest.rstrip()[:-1])
    return found(*args, **kwargs)


def catalogue() -> list[dict[str, Any]]:
    """All activations and what is known of each, one row per name: what `finitewidth activations` shows.

    Returns
        rows with the keys `name, signature, parameters, example, summary, parity, kinks, tails, closed_form, aliases,
        torch, jax`. `parameters` maps names to defaults (None where a value must be given); the facts are those of
        `example`: the activation with its defaults, or with some parameters where it has none.
    """
    return [_row(entry) for entry in ENTRIES.values()]


def _row(entry: Entry) -> dict[str, Any]:
    activation = entry.default()
    return {
        "name": entry.name,
        "signature": entry.signature,
        "parameters": dict(entry.parameters),
        "example": activation.name,
        "summary": entry.summary,
        "parity": activation.parity,
        "kinks": activation.kinks,
        "tails": activation.tails,
        "closed_form": activation.closed_form[0] if activation.closed_form else None,
        "aliases": tuple(alias for alias in entry.aliases if "(" not in alias),
        "torch": entry.torch or None,
        "jax": entry.jax or None,
    }


def _without_module(name: str) -> str:
    """`ReLU` of `torch.nn.ReLU`, without what changes no number: `inplace=True`, and `num_parameters=1` of a PReLU."""
    head, parenthesis, rest = name.partition("(")
    return head.rpartition(".")[2] + parenthesis + re.sub(r",?\s*(inplace=\w+|num_parameters=\d+)", "", rest)


def _plain(name: str) -> str:
    return "".join(c for c in name.casefold() if c not in "-_ \t")


def _known_names() -> dict[str, Entry]:
    if not _KNOWN:
        _KNOWN.update({_plain(n): entry for entry in ENTRIES.values() for n in (entry.name, *entry.aliases)})
    return _KNOWN


_KNOWN: dict[str, Entry] = {}


def _unknown(name: str, plain: str) -> str:
    if plain in _REFUSED:
        return f"`activation` {name!r} {_REFUSED[plain]}"
    near = difflib.get_close_matches(plain, [n for n in _known_names() if "(" not in n], n=1, cutoff=0.5)
    meant = f"; did you mean {_spelled(near[0])!r}?" if near else ";"
    return f"`activation` must be a known name, but got {name!r}{meant} `finitewidth activations` lists all of them"


def _spelled(plain: str) -> str:
    """The name as it is written in the catalogue, of a name without its underscores."""
    entry = _known_names()[plain]
    return next(n for n in (entry.name, *entry.aliases) if _plain(n) == plain)


def _parsed(name: str, arguments: str) -> tuple[list[Any], dict[str, Any]]:
    try:
        call = ast.parse(f"f({arguments})", mode="eval").body
        assert isinstance(call, ast.Call)
        keywords = {str(k.arg): _value(k.value) for k in call.keywords}
        if len(keywords) < len(call.keywords):
            raise InputError(f"`activation` {name!r} gives a parameter twice")
        return [_value(a) for a in call.args], keywords
    except InputError:
        raise
    except (SyntaxError, ValueError, AssertionError, ZeroDivisionError) as error:
        raise InputError(f"`activation` {name!r}: parameters must be numbers, as in 'leaky_relu(0.1)'") from error


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):  # 1/3
        return ast.literal_eval(node.left) / ast.literal_eval(node.right)
    return ast.literal_eval(node)
