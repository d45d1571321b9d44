"""What the sections of a spec have in common: keys that are known, and examples from the file itself or from data."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from finitewidth.errors import InputError


def known(source: str, what: str, given: Iterable[Any], names: Iterable[str]) -> None:
    """Refuse a name that is not among those that are known, and say which is the nearest."""
    names = list(names)
    for key in given:
        if key not in names:
            near = get_close_matches(str(key), names, n=1)
            meant = f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(names)}"
            raise InputError(f"`SPEC` {source!r} has an unknown {what}: {key!r}{meant}")


def examples(source: str, section: str, given: Mapping[str, Any]) -> tuple[Any, Any]:
    """Inputs x (N, n_in) of a section, and their targets y (N, …), None where it has none.

    Arguments
        given: of the section: `x`, or `data` ("digits" or a file) with `rows` of it and `target`, the column that is no
            component of the inputs; `y`.

    Raises
        InputError: when they contradict each other, or data cannot be read.
    """
    place = f"`SPEC` {source!r}"
    if ("data" in given) == ("x" in given):
        raise InputError(f"{place} needs one of data and x in [{section}]")
    y = _array(place, section, "y", given["y"]) if "y" in given else None
    if "x" in given:
        if beside := [key for key in ("rows", "target") if key in given]:
            raise InputError(f"{place} has {beside[0]} in [{section}], which chooses from data, beside x")
        return _array(place, section, "x", given["x"]), y
    if y is not None and "target" in given:
        raise InputError(f"{place} has y in [{section}] beside target, a column of data; give one of them")
    x, targets = _read(source, section, given)
    rows = _rows(place, given.get("rows"), len(x))
    return x[rows], targets[rows] if y is None and targets is not None else y


def _array(place: str, section: str, key: str, given: Any) -> Any:
    import numpy as np

    try:
        return np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{place}: {key} in [{section}] must be lists of numbers, but got {given!r}") from error


def _read(source: str, section: str, given: Mapping[str, Any]) -> tuple[Any, Any]:
    import numpy as np

    from finitewidth.data import load_data, load_table

    data, target = given["data"], given.get("target")
    if target is None:
        found = load_data(data)
        return found.inputs, found.targets
    if data == "digits":
        raise InputError(
            f"`SPEC` {source!r} has target in [{section}], but the labels of digits come with them; leave it out"
        )
    table = load_table(data)
    known(source, f"target in [{section}]", [target], table.names)
    column = table.names.index(target)
    return np.delete(table.inputs, column, axis=1), table.inputs[:, column]


def _rows(place: str, rows: Any, inputs: int) -> Any:
    if rows is None:
        return slice(None)
    if not isinstance(rows, list) or not all(isinstance(r, int) and 0 <= r < inputs for r in rows) or not rows:
        raise InputError(f"{place}: rows must be a list of numbers from 0 to {inputs - 1}, but got {rows!r}")
    return rows
