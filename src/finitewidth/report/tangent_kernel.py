"""The neural tangent kernel on the data: its spectrum, and the largest step of gradient descent (PDLT ch. 8–10)."""

from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from finitewidth.architecture import MLP
from finitewidth.report.signals import Spread

Array = NDArray[np.float64]

STEPS = 1000
"""Steps of gradient descent after which `learnable` asks what has been learned."""


@dataclass(frozen=True)
class TangentKernel:
    """Θ by layer, its spectrum at the output, and learning rates; leading order in 1/n, at initialisation.

    Theta: Θ⁽ℓ⁾(x, x) over inputs, ℓ = 1 … L, in units of the learning-rate tensor.
    plain_sgd: whether λ_b = 1, λ_W⁽ℓ⁾ = n_{ℓ−1}: one learning rate for all parameters, as `torch.optim.SGD` has.
    eigenvalues: of the N × N matrix Θ⁽ᴸ⁾, largest first; those below the error of Θ are not numbers but noise,
        and NaN.
    resolved: how many are above it.
    condition: λ_max/λ_min, NaN where λ_min is below rounding.
    learnable: how many directions lose a factor e of their error within `STEPS` steps at η = 1/λ_max: λ ≥ λ_max/STEPS.
    learning_rate_sum: 2/λ_max, the largest stable rate for the loss ½ Σ (z − y)² over these N inputs.
    learning_rate_mse: N n_L/λ_max, the same for the mean of (z − y)² over inputs and outputs (`torch.nn.MSELoss()`).
    """

    Theta: Spread
    plain_sgd: bool
    eigenvalues: Array
    resolved: int
    condition: float
    learnable: int
    learning_rate_sum: float
    learning_rate_mse: float


def tangent_kernel(net: MLP, flow: xr.Dataset) -> TangentKernel:
    """The tangent kernel of `net`, read off its flow on N inputs.

    Gradient descent θ_μ ← θ_μ − η λ_μ ∂ℒ/∂θ_μ with ℒ = ½ Σ_{iα} (z − y)² multiplies the error along an eigenvector of
    Θ⁽ᴸ⁾ by 1 − ηλ each step: stable if and only if η < 2/λ_max. Outputs do not mix (H_ij = δ_ij Θ), so n_L leaves
    λ_max alone. A weight takes the step λ_W/n_{ℓ−1}: plain SGD, one step for all, is λ_b = 1 and λ_W⁽ℓ⁾ = n_{ℓ−1}.
    `MSELoss()` is (2/(N n_L)) × ℒ, hence η < N n_L/λ_max; it hardly depends on N, because λ_max grows with it.

    Source: PDLT ch. 10 (gradient descent at infinite width), THEORY §1. Dropped: order 1/n, and the change of Θ
        during training.
    """
    Theta = flow["Theta"].values
    number = Theta.shape[1]
    last = 0.5 * (Theta[-1] + Theta[-1].T)
    eigenvalues = np.linalg.eigvalsh(last)[::-1]
    largest = float(eigenvalues[0])
    # each entry of Θ is off by at most its error, the matrix by at most N times that
    rounding = number * (np.finfo(np.float64).eps * largest + float(np.max(flow["Theta_error"].values[-1])))
    resolved = int(np.count_nonzero(eigenvalues > rounding))
    eigenvalues = np.where(eigenvalues > rounding, eigenvalues, np.nan)
    fan_in = np.array([net.n_in, *net.widths], dtype=np.float64)
    return TangentKernel(
        Theta=Spread.over(np.diagonal(Theta, axis1=1, axis2=2)),
        plain_sgd=bool(np.all(net.per_layer("lambda_b") == 1) and np.all(net.per_layer("lambda_W") == fan_in)),
        eigenvalues=eigenvalues,
        resolved=resolved,
        condition=float(largest / eigenvalues[-1]),
        learnable=int(np.count_nonzero(eigenvalues >= largest / STEPS)),
        learning_rate_sum=2.0 / largest if largest > 0 else float("inf"),
        learning_rate_mse=number * net.n_out / largest if largest > 0 else float("inf"),
    )
