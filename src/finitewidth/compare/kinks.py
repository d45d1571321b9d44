"""Trained networks with kinks differ from the theory at order 1/√n: said wherever the two are compared."""

import warnings

from finitewidth.architecture import MLP
from finitewidth.errors import TrustWarning
from finitewidth.training.kink_paths import bends


def warn_of_kinks(net: MLP, theory: str) -> None:
    """Warns the caller's caller where neurons cross kinks at which σ′ jumps, of which `theory` does not know."""
    if net.depth > 1 and bends(net.activation):
        warnings.warn(
            f"`net`: neurons that cross a kink of {net.activation.name} change trained outputs at order 1/√n, which "
            f"{theory} does not know: rows may differ though nothing is wrong; fw.predict(…).left_out has the size",
            TrustWarning,
            stacklevel=3,
        )
