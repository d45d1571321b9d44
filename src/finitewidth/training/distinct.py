r"""Training inputs that occur several times, each once: a problem of its own, without the zero modes of duplicates.

With z_T = S z_U, where S (N_T, U) picks among the U different training inputs and M = SᵀS counts them, the columns of
Q = S M^{−½} are orthonormal, Θ_TT = Q M^½ Θ_UU M^½ Qᵀ, and training moves nothing that is orthogonal to Q:

    g = Θ_XT φ(Θ_TT) = Θ_XU M^½ φ(M^½ Θ_UU M^½) Qᵀ .

So kernels weighted by M^½, trained on Qᵀ y, predict the same; labels of one input count by their mean.
"""

from dataclasses import dataclass

import numpy as np

from finitewidth.training.infinite_width import Kernels


@dataclass(frozen=True)
class Distinct:
    """What linear algebra needs of a training set, every different input once.

    Attributes
        Theta_TT, K_TT: weighted by M^½ from both sides, (U, U). They are views of what they were made from.
        Theta_XT, K_XT: weighted by M^½ from the right, (X, U). K_XX: (X, X).
        targets: Qᵀ y, (U, n_L).
        repeated: how many training inputs have occurred before. contradiction: |y − Q Qᵀ y|², summed over outputs.
        K_size, Theta_size: the largest entries of K and Θ. K_error, Theta_error: absolute errors of theirs.
    """

    Theta_TT: np.ndarray
    K_TT: np.ndarray
    Theta_XT: np.ndarray
    K_XT: np.ndarray
    K_XX: np.ndarray
    targets: np.ndarray
    repeated: int
    contradiction: float
    K_size: float
    Theta_size: float
    K_error: float
    Theta_error: float

    @classmethod
    def of(cls, kernels: Kernels, targets: np.ndarray) -> "Distinct":
        """The same problem. K and Θ are weighted in place, so that there is no second matrix of their size."""
        size = int(kernels.train.max()) + 1  # a `Problem` counts training inputs first
        weight = np.sqrt(np.bincount(kernels.train))
        sizes = kernels.K_size, kernels.Theta_size
        Theta_XT, K_XT = (each[kernels.test, :size] * weight for each in (kernels.Theta, kernels.K))
        K_XX, Theta, K = kernels.K_XX, kernels.Theta[:size, :size], kernels.K[:size, :size]
        mean = np.zeros((size, targets.shape[1]))
        np.add.at(mean, kernels.train, targets)
        mean /= weight[:, None] ** 2
        repeated = len(targets) - size
        if repeated:
            for matrix in (Theta, K):
                matrix *= weight
                matrix *= weight[:, None]
        return cls(
            Theta,
            K,
            Theta_XT,
            K_XT,
            K_XX,
            weight[:, None] * mean,
            repeated,
            float(np.sum((targets - mean[kernels.train]) ** 2)),
            *sizes,
            kernels.K_error,
            kernels.Theta_error,
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know: that inputs were merged."""
        if not self.repeated:
            return ()
        return (f"{self.repeated} training inputs have occurred before: labels of one input count by their mean",)
