"""What order 1 lacks where σ has kinks: how large it may be, and how that is said."""

from collections.abc import Mapping

import numpy as np
import xarray as xr

from finitewidth.gaussian.estimate import Estimate


def left_out(
    crossed: Mapping[str, Estimate], terms: Mapping[str, Mapping[str, np.ndarray]], n: int
) -> dict[str, np.ndarray]:
    """At width n, of every quantity by name: the estimate of order 1/√n, its `_error`, and the `_size` of all.

    size = 2 (|estimate| + error) + (1/n) Σ |dNTK and ddNTK terms| ,

    a rule of thumb: what is left out of order 1/n, products of σ″ at kinks, is taken to be as large as what is not.

    Arguments
        crossed: coefficients of 1/√n. terms: of every quantity, coefficients of 1/n by source, of the same shape.
    """
    found: dict[str, np.ndarray] = {}
    for of, each in crossed.items():
        value, error = (part / np.sqrt(n) for part in (each.value, each.error))
        beside = sum(np.abs(term) for name, term in terms[of].items() if "dNTK" in name) / n
        found |= {of: value, f"{of}_error": error, f"{of}_size": 2 * (np.abs(value) + error) + beside}
    return found


def left_out_notes(lacking: xr.Dataset | None, n: int) -> tuple[str, ...]:
    """That it is left out, for the reader of a prediction or of a trained kernel."""
    if lacking is None:
        return ()
    sizes = " and ".join(
        f"the {str(name).removesuffix('_size')} by up to {float(size.max()):.2g}"
        for name, size in lacking.items()
        if str(name).endswith("_size")
    )
    what = "neurons that cross a kink while they are trained, of order 1/√n,"
    if not np.any(lacking["mean_error"] > 0):  # σ′ does not jump
        what = "what jumps of σ″ and higher derivatives do while a network is trained, of order 1/n,"
    return (f"left out: {what} may change {sizes} at width {n}; `left_out` has estimates",)
