r"""The free evolution: training at infinite width, in the modes of the training kernel (THEORY-TRAINED §3).

    z_X(t) = ỹ_X + P_XU (z_U(0) − ỹ_U) ,     P_{xu} = Σ_{a=0}^{M} p^a_{xu} q_a ,     q_0 = 1 ,
    p^m_{xu} = (Θ_xT u_m/λ_m) u_m(u) ,     p^0 = 1 − Σ_m p^m ,

U all inputs, T those that are trained on. Sums over training inputs run over modes, b, c, d = 1 … M.
"""

from dataclasses import dataclass

import numpy as np

from finitewidth.algorithms import Algorithm
from finitewidth.training.infinite_width import Kernels
from finitewidth.training.modes import Modes, trained


@dataclass(frozen=True)
class FreeEvolution:
    """What first-order perturbations are sandwiched between.

    Attributes
        rates: λ_m, (M,).
        slot: u_m(u), (U, M): contracts an axis over inputs into one over modes; a training input that occurs twice is
            one row.
        outer: p^a_{xu}, (M + 1, X, U).
        P: P_{xu}, (X, U).
        y: u_m·y, (M, n_L). yy: Σ_i y_ib y_ic, (M, M).
        K: u_b·K u_c, (M, M). KE: Cov(e_b, z_x) of the free evolution, (M, X).
        P_K_P: covariance at infinite width.
    """

    rates: np.ndarray
    slot: np.ndarray
    outer: np.ndarray
    P: np.ndarray
    y: np.ndarray
    K: np.ndarray
    KE: np.ndarray
    left_out: int

    @property
    def yy(self) -> np.ndarray:
        return self.y @ self.y.T

    @property
    def outputs(self) -> int:
        return self.y.shape[1]

    @classmethod
    def of(cls, algorithm: Algorithm, kernels: Kernels, targets: np.ndarray) -> "FreeEvolution":
        modes = Modes.of(kernels.Theta_TT)
        slot = np.zeros((len(kernels.K), len(modes.rates)))
        np.add.at(slot, kernels.train, modes.vectors)
        through = kernels.Theta_XT @ modes.vectors / modes.rates
        identity = np.zeros((len(kernels.test), len(kernels.K)))
        identity[np.arange(len(kernels.test)), kernels.test] = 1.0
        decaying = np.einsum("xm,um->mxu", through, slot)
        outer = np.concatenate([(identity - decaying.sum(0))[None], decaying])
        P = identity - (through * trained(algorithm, modes.rates)) @ slot.T
        return cls(
            modes.rates,
            slot,
            outer,
            P,
            modes.vectors.T @ targets,
            slot.T @ kernels.K @ slot,
            slot.T @ kernels.K @ P.T,
            modes.left_out,
        )
