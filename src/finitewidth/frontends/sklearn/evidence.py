r"""Hyperparameters by marginal likelihood: the C_b, C_W and noise under which the targets were to be expected most.

    log p(y) = −½ Σ_i y_i (K + s)⁻¹ y_i − ½ n_L log det 2π(K + s)          (infinite width, PDLT §6.3)

With K = U κ Uᵀ the noise s is searched without another factorisation: Σ_m [(u_m·y)²/(κ_m + s) + n_L log(κ_m + s)].
What is left, C_b and C_W, is searched by Nelder and Mead's simplex.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import scipy.linalg
from scipy.optimize import minimize, minimize_scalar

if TYPE_CHECKING:
    from finitewidth.algorithms import Bayes
    from finitewidth.architecture import MLP

_NOISE = (1e-8, 1e2)  # of the targets' mean square
_C_b, _C_W = (1e-5, 1e2), (1e-2, 1e2)


def most_evident(net: "MLP", inputs: np.ndarray, targets: np.ndarray, noise: float) -> tuple["MLP", "Bayes"]:
    """The network and the noise of largest evidence, from where `net` and `noise` are.

    C_b becomes one number for all layers; C_W of all layers changes by one factor.

    Arguments
        net: where the search starts. inputs, targets: shapes (N, n_0) and (N, n_L). noise: s ≥ 0, a candidate too.
    """
    from finitewidth.algorithms import Bayes

    power = float(np.mean(targets**2)) or 1.0

    def network(logs: np.ndarray) -> "MLP":
        C_b, factor = np.exp(np.clip(logs, np.log([_C_b[0], _C_W[0]]), np.log([_C_b[1], _C_W[1]])))
        return replace(net, C_b=float(C_b), C_W=tuple((factor * net.per_layer("C_W")).tolist()))

    def loss(logs: np.ndarray) -> float:
        return -best_noise(network(logs), inputs, targets, power, noise)[1]

    start = np.array([np.log(max(float(net.per_layer("C_b")[-1]), 1e-2)), 0.0])
    simplex = start + np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 0.5]])
    options = {"initial_simplex": simplex, "xatol": 1e-2, "fatol": 1e-3, "maxfev": 120}
    found = minimize(loss, start, method="Nelder-Mead", options=options)
    better = network(found.x)
    candidates = [(each, *best_noise(each, inputs, targets, power, noise)) for each in (net, better)]
    chosen, s, _ = max(candidates, key=lambda candidate: candidate[2])
    return chosen, Bayes(noise=s)


def best_noise(
    net: "MLP", inputs: np.ndarray, targets: np.ndarray, power: float, candidate: float
) -> tuple[float, float]:
    """The noise of largest evidence between 1e-8 and 100 times `power`, or `candidate`, and the log evidence there."""
    from finitewidth.flow import flow

    K = flow(net, inputs, tensors="", layers="last").K.values[0]
    kappa, modes = scipy.linalg.eigh(K)
    rounding = len(K) * np.finfo(float).eps * kappa[-1]
    kappa, weight = np.maximum(kappa, 0.0), np.sum((modes.T @ targets) ** 2, axis=1)
    outputs, N = targets.shape[1], len(K)

    def log_evidence(s: float) -> float:
        total = kappa + s
        return float(-0.5 * np.sum(weight / total + outputs * np.log(total)) - 0.5 * outputs * N * np.log(2 * np.pi))

    low, high = np.log(power * np.array(_NOISE))
    grid = np.linspace(low, high, 24)
    at = grid[int(np.argmax([log_evidence(float(np.exp(each))) for each in grid]))]
    step = grid[1] - grid[0]
    bounds = (max(low, at - step), min(high, at + step))
    fine = minimize_scalar(lambda log_s: -log_evidence(float(np.exp(log_s))), bounds=bounds, method="bounded")
    noises = [float(np.exp(fine.x))] + ([candidate] if candidate + kappa[0] > rounding else [])
    values = [log_evidence(s) for s in noises]
    return noises[int(np.argmax(values))], max(values)
