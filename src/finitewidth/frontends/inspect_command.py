"""`finitewidth inspect package.module:name`: a model built by a user's own function, measured.

Registered by the command line by name, so that its `--help` loads neither PyTorch nor JAX.
"""

import importlib
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from finitewidth.errors import InputError
from finitewidth.frontends.options import AsJson, flag, option, whole
from finitewidth.frontends.progress import ProgressLine

if TYPE_CHECKING:
    import torch


def inspect(
    model: Annotated[str, Parameter(help="package.module:name of a function that builds it, or of a class or module.")],
    /,
    *,
    input_shape: Annotated[
        str | None, option("Shape of one input, such as 3,32,32: a batch of standard normals.", metavar="N,N,…")
    ] = None,
    data: Annotated[str | None, option("Instead: digits or a file, one input a row.", metavar="DATA")] = None,
    inputs: Annotated[str, option("Size of the batch. Default: 16.", metavar="N")] = "16",
    initialisations: Annotated[
        str, option("Networks to draw, by building the model. Default: 10.", metavar="N")
    ] = "10",
    seed: Annotated[str, option("Seed of weights and inputs. Default: 0.", metavar="N")] = "0",
    as_is: Annotated[bool, flag("One network with the weights that it is built with.", name="--as-is")] = False,
    no_theory: Annotated[bool, flag("Leave out what theory expects.", name="--no-theory")] = False,
    out: Annotated[str | None, option("Draw it into this file, .png, .svg or .pdf.", metavar="FILE")] = None,
    json: AsJson = False,
) -> None:
    """A PyTorch model of yours: its signals and gradients, layer by layer, over fresh initialisations."""
    count, drawn, number = (
        whole("inputs", inputs),
        whole("initialisations", initialisations, least=2),
        whole("seed", seed, least=0),
    )
    if (input_shape is None) == (data is None):
        raise InputError(
            "`--input-shape` or `--data` must be given, and not both, to say what the model is called with"
        )
    shape = None if input_shape is None else _shape(input_shape)
    if out is not None and Path(out).suffix not in (".png", ".svg", ".pdf"):
        raise InputError(f"`--out` must end in .png, .svg or .pdf, but got {out!r}")
    with ProgressLine() as progress:
        progress("loading PyTorch and the model")
        build = _found(model)
        torch = _torch()
        from finitewidth.frontends.torch.inspection import inspect as measure

        batch = _normals(torch, shape, count, number) if shape is not None else _rows(torch, str(data), count)
        found = measure(
            build,
            batch,
            initialisations=None if as_is else drawn,
            theory=not no_theory,
            seed=number,
            progress=progress.counted("networks"),
        )
        if out is not None:
            progress("drawing")
            found.save_picture(out)
    _show(found, json, out)


def _show(found: Any, json: bool, out: str | None) -> None:
    from finitewidth.report.inspection_table import render
    from finitewidth.report.strict_json import to_json
    from finitewidth.report.text import print_on

    if json:
        print(to_json(found.to_dict()))
        return
    print_on(render(found))
    if out is not None:
        print(f"Picture: {out}")


def _torch() -> Any:
    try:
        import torch
    except ImportError:
        raise InputError("`inspect` needs PyTorch: pip install 'finitewidth[torch]'") from None
    return torch


def _shape(text: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",")]
    if not all(re.fullmatch(r"\d+", part) and int(part) >= 1 for part in parts):
        raise InputError(f"`--input-shape` must be integers ≥ 1 with commas between, such as 3,32,32, but got {text!r}")
    return tuple(map(int, parts))


def _normals(torch: Any, shape: tuple[int, ...], count: int, seed: int) -> "torch.Tensor":
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(seed))


def _rows(torch: Any, data: str, count: int) -> "torch.Tensor":
    from finitewidth.data import load_data

    rows = load_data(data).inputs
    chosen = sorted({i * len(rows) // count for i in range(count)})  # evenly spread
    return torch.tensor(rows[chosen], dtype=torch.get_default_dtype())


def _found(path: str) -> Callable[[], Any]:
    """What `package.module:name` names, as a function that builds a model."""
    module_name, colon, name = path.partition(":")
    if not colon or not module_name or not name:
        raise InputError(f"MODEL must be package.module:name, such as my_package.models:build, but got {path!r}")
    if (here := os.getcwd()) not in sys.path:
        sys.path.insert(0, here)  # as `python -m` does
    try:
        found: Any = importlib.import_module(module_name)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise InputError(f"MODEL: {module_name!r} cannot be imported ({reason}); run it where it can be") from error
    for part in name.split("."):
        if not hasattr(found, part):
            raise InputError(f"MODEL: {module_name!r} has no {name!r}; name a function that builds the model")
        found = getattr(found, part)
    if isinstance(found, _torch().nn.Module):  # an instance: each draw is a copy, reset
        return found
    if not callable(found):
        raise InputError(
            f"MODEL {path!r} is {type(found).__name__}; name a function that builds the model, or its class"
        )
    return found
