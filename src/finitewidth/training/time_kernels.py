r"""What training time makes of perturbations: simplex integrals, as divided differences (THEORY-TRAINED §3).

A perturbation that acts at times s_1 > s_2 > … > s_k between free decays gives, for flow and for S steps of descent,

    I[x_0; …; x_k](t) = ∫_{t>s_1>…>s_k>0} e^{−x_0(t−s_1) − x_1(s_1−s_2) − … − x_k s_k}
    h_S[q_0; …; q_k]  = Σ_{j_0+…+j_k = S−k} q_0^{j_0} … q_k^{j_k} .

Both are divided differences, of x → e^{−xt} and of q → q^S. Their textbook form, Σ_j f(x_j)/Π (x_j − x_l), fails where
arguments come close; here they are the corner of exp(tZ) and of Z^S, Z bidiagonal with ones beside the diagonal, for
which nothing cancels (Opitz).
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.linalg

from finitewidth.algorithms import GradientDescent, GradientFlow


def simplex_integral(time: float, *x: np.ndarray) -> np.ndarray:
    """I[x_0; …; x_k](t) for arrays that broadcast; at t = ∞, 1/(x_1 … x_k) where x_0 = 0 and else 0."""
    if math.isinf(time):
        return np.where(x[0] == 0, math.prod((1.0 / each for each in x[1:]), start=np.ones(())), 0.0)
    k = len(x) - 1
    Z = _bidiagonal([-time * each for each in x])
    return time**k * scipy.linalg.expm(Z)[..., 0, k]


def simplex_sum(steps: float, *q: np.ndarray) -> np.ndarray:
    """h_S[q_0; …; q_k] for arrays that broadcast; at S = ∞, Π_{j≥1} 1/(1 − q_j) where q_0 = 1 and else 0."""
    if math.isinf(steps):
        return np.where(q[0] == 1, math.prod((1.0 / (1.0 - each) for each in q[1:]), start=np.ones(())), 0.0)
    return np.linalg.matrix_power(_bidiagonal(q), int(steps))[..., 0, len(q) - 1]


def _bidiagonal(diagonal: "list[np.ndarray] | tuple[np.ndarray, ...]") -> np.ndarray:
    values = np.stack(np.broadcast_arrays(*diagonal), axis=-1)
    size = values.shape[-1]
    return values[..., None] * np.eye(size) + np.eye(size, k=1)


@dataclass(frozen=True)
class TimeKernels:
    """The kernels of THEORY-TRAINED §3 over modes: a = 0 … M (0 does not decay) of what is predicted, b, c, d = 1 … M.

    Arguments
        algorithm: gradient flow or descent.
        rates: λ_1 … λ_M of the modes that are trained.
    """

    algorithm: GradientFlow | GradientDescent
    rates: np.ndarray

    def _axes(self, values: np.ndarray, still: float) -> list[np.ndarray]:
        """Values on the axes a, b, c, d; `still` for a = 0."""
        with_still = np.concatenate([[still], values])
        return [
            with_still[:, None, None, None],
            *(values.reshape([-1 if i == j else 1 for j in range(4)]) for i in (1, 2, 3)),
        ]

    @cached_property
    def T1(self) -> np.ndarray:
        """(a, b): one fluctuation of the NTK."""
        match self.algorithm:
            case GradientFlow(time):
                a, b, _, _ = self._axes(self.rates, 0.0)
                return simplex_integral(time, a, b)[:, :, 0, 0]
            case GradientDescent(eta, steps):
                a, b, _, _ = self._axes(1 - eta * self.rates, 1.0)
                return eta * simplex_sum(steps, a, b)[:, :, 0, 0]

    @cached_property
    def T2(self) -> np.ndarray:
        """(a, b, d): two fluctuations of the NTK."""
        match self.algorithm:
            case GradientFlow(time):
                a, b, d, _ = self._axes(self.rates, 0.0)
                return simplex_integral(time, a, b, d)[..., 0]
            case GradientDescent(eta, steps):
                a, b, d, _ = self._axes(1 - eta * self.rates, 1.0)
                return eta**2 * simplex_sum(steps, a, b, d)[..., 0]

    @cached_property
    def dNTK(self) -> tuple[np.ndarray, np.ndarray]:
        """X3 and Y3, (a, b, c): dNTK through a moving NTK, and through the second order of a finite step."""
        match self.algorithm:
            case GradientFlow(time):
                a, b, c, _ = self._axes(self.rates, 0.0)
                X3 = simplex_integral(time, a, b, b + c)[..., 0]
                return X3, np.zeros_like(X3)
            case GradientDescent(eta, steps):
                a, b, c, _ = self._axes(1 - eta * self.rates, 1.0)
                X3 = eta**2 * b * simplex_sum(steps, a, b, b * c)
                Y3 = eta**2 / 2 * simplex_sum(steps, a, b * c)
                return X3[..., 0], Y3[..., 0]

    @cached_property
    def ddNTK(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """X4, Ya, Yb, Yc, (a, b, c, d): as `dNTK`, one order higher."""
        match self.algorithm:
            case GradientFlow(time):
                a, b, c, d = self._axes(self.rates, 0.0)
                X4 = simplex_integral(time, a, b, b + c, b + c + d)
                return X4, np.zeros_like(X4), np.zeros_like(X4), np.zeros_like(X4)
            case GradientDescent(eta, steps):
                a, b, c, d = self._axes(1 - eta * self.rates, 1.0)
                X4 = eta**3 * b**2 * c * simplex_sum(steps, a, b, b * c, b * c * d)
                Ya = eta**3 / 2 * b * simplex_sum(steps, a, b, b * c * d)
                Yb = eta**3 / 2 * b * c * simplex_sum(steps, a, b * c, b * c * d)
                Yc = eta**3 / 6 * simplex_sum(steps, a, b * c * d)
                return X4, Ya, Yb, Yc
