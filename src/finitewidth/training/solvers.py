"""How the linear systems of infinite width are solved, to be chosen as `solver` of `fw.predict`."""

import math
from dataclasses import dataclass
from numbers import Real

from finitewidth.architecture import whole_number
from finitewidth.errors import InputError


@dataclass(frozen=True)
class Direct:
    """Cholesky factors at the end of training and for `Bayes`, the modes of Θ before.

    Some N³/3 and 15 N³ operations; two matrices of N² numbers at the end of training, some six before.
    """


@dataclass(frozen=True)
class Iterative:
    """Conjugate gradients at the end of training and for `Bayes`, Chebyshev polynomials of Θ before.

        |B − (Θ_TT + ρ) X| ≤ tolerance |B| ,     B = (Θ_TX, y), its columns each in units of its own length,

    preconditioned by a randomised Nyström approximation (Frangella, Tropp and Udell 2023). 2 N² operations an iteration
    for every input asked about, where a Cholesky factor takes N³/3 in all: slower than `Direct` up to 8000 training
    inputs at least, with less memory, and smaller errors where Θ is ill-conditioned. Few iterations are enough where
    Θ + ρ is well conditioned, by its nature (ReLU) or by `regularisation` or noise; `Prediction.notes` says how many.
    A Θ that is singular to rounding (inputs almost alike) is regularised by 4 N ε λ_max, by more where errors of the
    kernel have made rates negative, and labels along modes below that are not fitted, which notes say; errors say what
    it changes.

    Arguments
        tolerance: residual of conjugate gradients relative to the right side, between 0 and 1.
        iterations: how many at most, ≥ 1; where they do not suffice, a `TrustWarning` says so.
        rank: of the approximation that preconditions them, ≥ 1; N/4 at most is used.

    Raises
        InputError: naming the argument and its value.
    """

    tolerance: float = 1e-8
    iterations: int = 1000
    rank: int = 500

    def __post_init__(self) -> None:
        valid = isinstance(self.tolerance, Real) and not isinstance(self.tolerance, bool)
        if not (valid and math.isfinite(self.tolerance) and 0 < self.tolerance < 1):
            raise InputError(f"`tolerance` must be a number between 0 and 1, but got {self.tolerance!r}")
        for name in ("iterations", "rank"):
            whole_number(name, getattr(self, name))


Solver = Direct | Iterative
