"""What tuning did, as a table."""

import io
import math
from typing import TYPE_CHECKING

from rich.console import Group
from rich.text import Text

from finitewidth.report.inspection_table import shortened
from finitewidth.report.text import narrowest, print_on, wrapping_table
from finitewidth.report.words import number

if TYPE_CHECKING:
    from finitewidth.frontends.torch.tune import Tuning

_LONGEST = 26


def table_of(found: "Tuning") -> str:
    """One row a layer, what is left of deviations below."""
    table = wrapping_table("layer", "weights ×", "bias std", "E z²", "aim", "χ", "aim", "")
    for layer in found.layers:
        left = layer.role.startswith("left")
        table.add_row(
            shortened(layer.name, _LONGEST),
            "" if left else number(layer.scale),
            "" if math.isnan(layer.bias_std) else number(layer.bias_std),
            number(layer.variance),
            "" if math.isnan(layer.variance_target) else number(layer.variance_target),
            "" if math.isnan(layer.jacobian) else number(layer.jacobian),
            "" if math.isnan(layer.jacobian_target) else number(layer.jacobian_target),
            "" if layer.role == "chain" else layer.role,
        )
    gradients, signals = (number(math.exp(r), 2) for r in (found.residual_jacobian, found.residual_variance))
    end = f"In variance, gradients change by at most a factor {gradients} along the chain, signals by {signals}."
    text = io.StringIO()
    print_on(Group(table, Text(end)), text, least=narrowest(table))
    return text.getvalue().rstrip("\n")
