"""The (C_b, C_W) plane of an activation: where its deep networks forget, where they are chaotic, and the line in
between.

Every cell holds the fixed point that the kernel recursion reaches from K⁽¹⁾ = C_b + C_W (an input with |x|²/n_0 = 1)
and the susceptibilities there. The critical line χ⊥ = 1 has one point for each kernel K:

    C_W = 1/⟨σ'²⟩_K ,     C_b = K − C_W⟨σ²⟩_K ≥ 0 .

Source: Poole et al. 2016, Schoenholz et al. 2017; PDLT §5.1; FACTS 3.6.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from scipy.optimize import brentq

from finitewidth.activations import Activation, named
from finitewidth.criticality.critical import Criticality, critical
from finitewidth.criticality.fixed_point import ALTERNATING_LAYERS
from finitewidth.criticality.interpolant import Interpolant
from finitewidth.criticality.susceptibility import susceptibility
from finitewidth.errors import InputError

_CHUNK = 4096


@dataclass(frozen=True, eq=False)
class PhaseDiagram:
    """The phase diagram of one activation, at leading order in 1/n.

    Fields
        cells: dimensions (C_b, C_W). `K_star` (NaN where there is none), `chi_parallel`, `chi_perp`, `xi_norms` and
            `xi_angles` (1/|ln χ|, in layers), `phase`: "ordered" (χ⊥ < 1: inputs become alike), "chaotic" (χ⊥ > 1),
            "critical", "diverging" (K → ∞). Attribute `error`: relative error of the averages.
        line: dimension `point`: `K_star`, `C_b`, `C_W`, `chi_parallel`, `stable` along χ⊥ = 1, within the plane
            shown. An unstable point (|χ∥| > 1) is not the one that orbits reach.
        critical: the critical points (χ∥ = χ⊥ = 1).
    """

    activation: str
    cells: xr.Dataset
    line: xr.Dataset
    critical: Criticality


def phase_diagram(
    activation: Activation | str,
    *,
    C_b: Any = None,
    C_W: Any = None,
    resolution: int = 81,
) -> PhaseDiagram:
    """χ∥, χ⊥ and the fixed point over the (C_b, C_W) plane, and the critical line χ⊥ = 1.

    Equation: K* = C_b + C_W⟨σ²⟩_{K*}, χ∥ = C_W d⟨σ²⟩/dK, χ⊥ = C_W⟨σ'²⟩ at K*. Source: this module's opening.

    Arguments
        activation: an `Activation`, or the name of one.
        C_b, C_W: the values at which cells are computed (increasing arrays), or a pair (lowest, highest); by default
            a range around the critical point, or around what comes closest.
        resolution: number of values where they are not given one by one.

    Returns
        a `PhaseDiagram`. Cells are right to some 1e-10 (relative, more precisely `cells.attrs["error"]` over
        |1 − χ∥|), the line to 1e-12.

    Raises
        InputError: unknown activation, negative or unordered values, resolution < 2.

    >>> import finitewidth as fw
    >>> diagram = fw.phase_diagram("tanh", C_b=[0.05], C_W=[1.0, 3.0])
    >>> diagram.cells.phase.values.tolist()
    [['ordered', 'chaotic']]
    """
    activation = named(activation) if isinstance(activation, str) else activation
    if isinstance(resolution, bool) or not isinstance(resolution, (int, np.integer)) or resolution < 2:
        raise InputError(f"`resolution` must be an integer ≥ 2, but got {resolution!r}")
    points = critical(activation)
    default_C_b, default_C_W = _default_ranges(points)
    C_b_values = _axis("C_b", default_C_b if C_b is None else C_b, resolution, lowest_allowed=True)
    C_W_values = _axis("C_W", default_C_W if C_W is None else C_W, resolution, lowest_allowed=False)
    moments = Interpolant(activation)
    grid_b, grid_W = (a.ravel() for a in np.meshgrid(C_b_values, C_W_values, indexing="ij"))
    parts = [_cells(moments, grid_b[i : i + _CHUNK], grid_W[i : i + _CHUNK]) for i in range(0, grid_b.size, _CHUNK)]
    shape = (C_b_values.size, C_W_values.size)
    columns = {name: (("C_b", "C_W"), np.concatenate([p[name] for p in parts]).reshape(shape)) for name in parts[0]}
    cells = xr.Dataset(columns, coords={"C_b": C_b_values, "C_W": C_W_values})
    cells.attrs = {"activation": activation.name, "error": moments.error, "K_start": "C_b + C_W"}
    line = _line(activation, moments, points, C_b_values, C_W_values)
    return PhaseDiagram(activation.name, cells, line, points)


def critical_line(activation: Activation | str, K: np.ndarray | float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """C_b, C_W and χ∥ on the line χ⊥ = 1 at fixed points K > 0, each of the shape of K; C_b < 0 cannot be realised.

    Raises
        InputError: K < 0, or a σ that jumps (χ⊥ does not exist).
    """
    activation = named(activation) if isinstance(activation, str) else activation
    at = susceptibility(activation, K)
    if at.jumps:
        raise InputError(
            f"activation {activation.name!r} jumps at {at.jumps[0]:g}: χ⊥ does not exist, there is no critical line"
        )
    C_W = 1 / at.perp.value
    return at.K - C_W * at.mean_square.value, C_W, C_W * at.parallel.value


def _default_ranges(points: Criticality) -> tuple[tuple[float, float], tuple[float, float]]:
    known = points.preferred or points.nearest
    C_b, C_W = (known.C_b, known.C_W) if known is not None else (None, None)
    centre = 1.0 if C_W is None else C_W
    return (0.0, max(0.5, 2 * (C_b or 0.0))), (0.05 * centre, 2.5 * centre)


def _axis(name: str, values: Any, resolution: int, *, lowest_allowed: bool) -> np.ndarray:
    try:
        axis = np.atleast_1d(np.asarray(values, dtype=np.float64))
    except (TypeError, ValueError):
        axis = np.array([np.nan])
    if isinstance(values, tuple) and axis.shape == (2,):
        axis = np.linspace(axis[0], axis[1], resolution)
    bound = "≥" if lowest_allowed else ">"
    if (
        axis.ndim != 1
        or not np.all(np.isfinite(axis))
        or np.any(axis < 0)
        or (not lowest_allowed and np.any(axis == 0))
        or np.any(np.diff(axis) <= 0)
    ):
        raise InputError(
            f"`{name}` must be increasing finite numbers {bound} 0, or a pair (lowest, highest), but got {values!r}"
        )
    return axis


def _cells(moments: Interpolant, C_b: np.ndarray, C_W: np.ndarray) -> dict[str, np.ndarray]:
    start = C_b + C_W
    if np.any(moments.parallel_at_nodes < -1e-12 * moments.mean_square_at_nodes / moments.K):
        for _ in range(ALTERNATING_LAYERS):  # see `fixed_point`: what is left after them is monotone
            start = np.minimum(C_b + C_W * moments.mean_square(start), moments.high)
    K = _by_bracket(moments, C_b, C_W, start)
    with np.errstate(divide="ignore", invalid="ignore"):
        chi_parallel, chi_perp = C_W * moments.parallel(K), C_W * moments.perp(K)
        chi_parallel, chi_perp = np.where(np.isnan(K), np.nan, chi_parallel), np.where(np.isnan(K), np.nan, chi_perp)
        xi_norms, xi_angles = 1 / np.abs(np.log(np.abs(chi_parallel))), 1 / np.abs(np.log(chi_perp))
    phase = np.select(
        [np.isnan(K), np.isnan(chi_perp), np.abs(chi_perp - 1) < 1e-9, chi_perp < 1],
        ["diverging", "chaotic", "critical", "ordered"],
        "chaotic",
    )
    return {
        "K_star": K,
        "chi_parallel": chi_parallel,
        "chi_perp": chi_perp,
        "xi_norms": xi_norms,
        "xi_angles": xi_angles,
        "phase": phase,
    }


def _by_bracket(moments: Interpolant, C_b: np.ndarray, C_W: np.ndarray, start: np.ndarray) -> np.ndarray:
    """The first fixed point in the way of each monotone orbit from `start`: NaN if none, 0 included."""
    start = np.clip(start, moments.low, moments.high)

    def excess(K: np.ndarray) -> np.ndarray:
        return np.asarray(C_b + C_W * moments.mean_square(K) - K)

    at_start = excess(start)
    stays = np.abs(at_start) <= 1e-13 * start
    up = at_start > 0
    at_nodes = C_b[:, None] + C_W[:, None] * moments.mean_square_at_nodes - moments.K
    above = (start[:, None] < moments.K) & (at_nodes <= 0)
    below = (start[:, None] > moments.K) & (at_nodes >= 0)
    n = moments.K.size
    first_above = np.where(above.any(1), above.argmax(1), n)
    last_below = np.where(below.any(1), n - 1 - below[:, ::-1].argmax(1), -1)
    low = np.where(
        up, np.maximum(start, moments.K[np.clip(first_above - 1, 0, n - 1)]), moments.K[np.clip(last_below, 0, n - 1)]
    )
    high = np.where(
        up, moments.K[np.clip(first_above, 0, n - 1)], np.minimum(start, moments.K[np.clip(last_below + 1, 0, n - 1)])
    )
    for _ in range(55):
        middle = np.sqrt(low * high)
        rising = excess(middle) > 0
        low, high = np.where(rising, middle, low), np.where(rising, high, middle)
    K = np.sqrt(low * high)
    floor = C_b + C_W * moments.at_zero[0]
    with np.errstate(divide="ignore", invalid="ignore"):
        tiny = np.where(floor == 0, 0.0, np.minimum(floor / (1 - C_W * moments.at_zero[1]), moments.low))
    K = np.where(~up & (last_below < 0), tiny, K)
    K = np.where(up & (first_above == n), np.nan, K)
    return np.where(stays, start, K)


def _line(
    activation: Activation, moments: Interpolant, points: Criticality, C_b: np.ndarray, C_W: np.ndarray, size: int = 400
) -> xr.Dataset:
    """χ⊥ = 1 within the plane; the points where it meets C_b = 0 are on it."""
    if moments.jumps:
        return _line_dataset(*np.zeros((4, 0)))
    zeros = [p for p in points.points if p.K_star in (0.0, None)]
    if zeros and zeros[0].universality_class == "scale-invariant":  # every K, one place of the plane
        return _line_dataset(np.array([1.0]), np.array([0.0]), np.array([zeros[0].C_W]), np.array([1.0]))
    # the plane may show a sliver of the line only: look for it on a fine grid of the splines, compute it without
    fine = np.geomspace(moments.low, moments.high, 8000)
    fine_W = 1 / moments.perp(fine)
    fine_b = fine - fine_W * moments.mean_square(fine)
    shown = np.flatnonzero((fine_b >= 0) & (fine_b <= C_b[-1]) & (fine_W >= C_W[0]) & (fine_W <= C_W[-1]))
    K = np.zeros(0)
    if shown.size:
        highest = fine[min(fine.size - 1, shown[-1] + 1)]
        lowest = fine[max(0, shown[0] - 1)]
        # towards K* = 0 the line runs into its end, which is added below
        K = np.geomspace(max(lowest, 1e-3 * highest) if zeros else lowest, highest, size)
        in_view = slice(max(0, shown[0] - 1), shown[-1] + 2)
        ends = in_view.start + np.flatnonzero(fine_b[in_view][:-1] * fine_b[in_view][1:] < 0)
        crossings = [
            brentq(lambda k: float(critical_line(activation, k)[0]), fine[i], fine[i + 1], rtol=1e-14)
            for i in ends
            if abs(fine_b[i]) > 1e-9 * fine[i]  # near K* = 0 the sign is rounding
        ]
        K = np.union1d(K, crossings)
    on_b, on_W, chi = critical_line(activation, K)
    on_b = np.where(np.abs(on_b) <= 1e-12 * K, 0.0, on_b)
    if zeros:
        K, on_b, on_W, chi = (
            np.concatenate([[v], a]) for v, a in ((0.0, K), (0.0, on_b), (zeros[0].C_W, on_W), (1.0, chi))
        )
    keep = (on_b >= 0) & (on_b <= C_b[-1]) & (on_W >= C_W[0]) & (on_W <= C_W[-1])
    return _line_dataset(K[keep], on_b[keep], on_W[keep], chi[keep])


def _line_dataset(K: np.ndarray, C_b: np.ndarray, C_W: np.ndarray, chi_parallel: np.ndarray) -> xr.Dataset:
    columns = {"K_star": K, "C_b": C_b, "C_W": C_W, "chi_parallel": chi_parallel, "stable": np.abs(chi_parallel) < 1}
    return xr.Dataset({name: ("point", values) for name, values in columns.items()})
