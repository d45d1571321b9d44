"""What was measured of a real network, layer by layer: numbers with their standard errors, beside theory, in words.

Filled by `fw.torch.inspect` and `fw.inspect`; knows no framework.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finitewidth.errors import InputError

Array = NDArray[np.float64]

COLUMNS = {
    "K": "variance of preactivations, E z²",
    "angle": "angle between two inputs, in degrees",
    "chi": "partial Jacobian from the layer before, |∂z⁽ℓ⁾/∂z⁽ℓ⁻¹⁾|² per neuron",
    "jacobian": "Jacobian of the output, |∂z⁽ᴸ⁾/∂z⁽ℓ⁾|² per output",
    "gradient": "norm of the weights’ gradient, root mean square over random directions of the output",
    "kurtosis": "excess kurtosis of one neuron",
    "correlation": "correlation of the squares of two neurons",
}


@dataclass(frozen=True)
class Column:
    """One quantity at every layer; NaN where it does not exist.

    value, standard_error: measured. theory: what the library predicts, to first order in 1/n where it can; None where
    it does not cover the architecture. dropped: the size of what that theory leaves out.
    """

    value: Array
    standard_error: Array
    theory: Array | None = None
    dropped: Array | None = None

    @property
    def z(self) -> Array | None:
        """(measured − theory)/√(standard error² + dropped²)."""
        if self.theory is None or self.dropped is None:
            return None
        with np.errstate(all="ignore"):
            return (self.value - self.theory) / np.hypot(self.standard_error, self.dropped)


@dataclass(frozen=True)
class Inspection:
    """What a network does to signals and gradients, measured on real ones. Printing it shows a table and a verdict.

    title: what was inspected. layers: the names of its layers, in the order in which they ran. kinds: what each is.
    columns: the quantities of `COLUMNS` by name. parameters: the gradient norm of every parameter, and its error.
    initialisations: how many were drawn; 0 where the weights were taken as they are. inputs: the size of the batch.
    tangent_kernel: Θ of the batch, mean over outputs, and its standard error; only `fw.inspect` has it.
    redrawn: how, in words. notes: what the reader should know. theory: why there is one or not.
    """

    title: str
    layers: tuple[str, ...]
    kinds: tuple[str, ...]
    columns: Mapping[str, Column]
    parameters: Mapping[str, tuple[float, float | None]]
    initialisations: int
    inputs: int
    redrawn: str = ""
    theory: str = ""
    notes: tuple[str, ...] = ()
    tangent_kernel: tuple[Array, Array] | None = field(default=None, repr=False)

    @property
    def verdict(self) -> str:
        """In one sentence: whether signals, angles and gradients survive, and the layer where they do not."""
        from finitewidth.report.inspection_verdict import verdict

        return verdict(self)

    @property
    def agreement(self) -> str:
        """In one sentence: whether theory agrees, empty where there is none."""
        from finitewidth.report.inspection_verdict import agreement

        return agreement(self)

    def to_dict(self) -> dict[str, Any]:
        """Everything, for JSON; NaN becomes null there."""
        layers = []
        for i, (name, kind) in enumerate(zip(self.layers, self.kinds, strict=True)):
            numbers = {}
            for key, column in self.columns.items():
                numbers[key] = {"value": float(column.value[i]), "standard_error": float(column.standard_error[i])}
                if column.theory is not None and column.dropped is not None:
                    numbers[key] |= {"theory": float(column.theory[i]), "dropped": float(column.dropped[i])}
            layers.append({"name": name, "kind": kind, **numbers})
        gradients = {name: {"value": v, "standard_error": e} for name, (v, e) in self.parameters.items()}
        contents: dict[str, Any] = {"title": self.title, "verdict": self.verdict, "agreement": self.agreement}
        contents |= {"initialisations": self.initialisations, "inputs": self.inputs, "redrawn": self.redrawn}
        contents |= {"layers": layers, "gradients": gradients, "theory": self.theory, "notes": list(self.notes)}
        if self.tangent_kernel is not None:
            value, error = self.tangent_kernel
            contents["tangent_kernel"] = {"value": value, "standard_error": error}
        return contents

    def save_picture(self, file: str | Path) -> Path:
        """Draw it into `file`, .png, .svg or .pdf, whole or not at all; its path."""
        from finitewidth.report.inspection_picture import save

        path = Path(file)
        if path.suffix not in (".png", ".svg", ".pdf"):
            raise InputError(f"`file` must end in .png, .svg or .pdf, but got {str(file)!r}")
        return save(self, path)

    def __str__(self) -> str:
        import io

        from finitewidth.report.inspection_table import render
        from finitewidth.report.text import print_on

        text = io.StringIO()
        print_on(render(self), text)
        return text.getvalue().rstrip("\n")


def column(values: "list[tuple[float, float | None] | None]") -> Column:
    """A column from (value, standard error) by layer, None where there is none."""
    shown = [(math.nan, math.nan) if v is None else (v[0], math.nan if v[1] is None else v[1]) for v in values]
    value, error = np.array(shown, dtype=np.float64).reshape(-1, 2).T
    return Column(value, error)
