"""JSON that every reader accepts: full double precision, and null where a number is not finite."""

import dataclasses
import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from finitewidth._version import __version__


def plain(value: Any) -> Any:
    """`value` made of dict, list, str, int, float, bool and None; NaN and ±∞ become None."""
    if value is None or isinstance(value, (str, bool)):
        return value
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, int):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, (list, tuple)):
        return [plain(entry) for entry in value]
    return str(value)


def document(contents: Mapping[str, Any]) -> dict[str, Any]:
    """`contents` as plain values, with the version of this library first."""
    return {"finitewidth": __version__, **plain(contents)}


def to_json(contents: Mapping[str, Any]) -> str:
    """`document(contents)` as indented text."""
    return json.dumps(document(contents), indent=2, allow_nan=False, ensure_ascii=False)
