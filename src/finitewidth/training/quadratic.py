r"""Nearly-kernel methods: the quadratic model, the least that learns features (PDLT §11.4).

    z_i(x; W) = z_i(x; 0) + Σ_j W_ij φ_j(x) + (ε/2) Σ_jk W_ij W_ik ψ_jk(x)

Its gradient is that of a linear model whose features move with the parameters, φ^E_j = φ_j + ε Σ_k ψ_jk W_ik. All that
training inputs and others say of each other is in the kernel k_ab and the meta kernel μ_abc,

    k_ab = Σ_j φ_j(x_a) φ_j(x_b) ,     μ_abc = ε Σ_jk ψ_jk(x_a) φ_j(x_b) φ_k(x_c) ,

and gradient flow from W = 0 is dz_a/dt = − k^E_ab ε_b, dk^E_ab/dt = − (μ_abc + μ_bac) ε_c + O(ε²): a network's
evolution with its tangent kernel, its dNTK and no ddNTK. To first order in ε, along the free evolution of residuals,

    δz_x = p^a_xu [ X3_abc (μ_ubc + μ_buc) + Y3_abc μ_ubc ] e_b e_c ,     k^E_uv = k_uv − τ_c (μ_uvc + μ_vuc) e_c

(THEORY-TRAINED §3; `TimeKernels`), whereas parameters sought in the span of the training inputs' own features give

    δz_x = m_x − k_xT k_TT⁻¹ m_T ,     m_a = ½ μ_abc v_b v_c ,     v = − k_TT⁻¹ e ,     e = z_T(0) − y .

Both meet the labels. They differ elsewhere: with features that move, what is learned depends on the algorithm.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from finitewidth.algorithms import GradientDescent, GradientFlow
from finitewidth.architecture import real_array
from finitewidth.errors import InputError, TrustWarning
from finitewidth.training.free import FreeEvolution
from finitewidth.training.infinite_width import Kernels, gain
from finitewidth.training.modes import Modes
from finitewidth.training.result import labelled
from finitewidth.training.time_kernels import TimeKernels


@dataclass(frozen=True)
class NearlyKernelPrediction:
    """What a quadratic model predicts, to first order in ε. Made by `QuadraticModel.trained`.

    Attributes
        linear: the kernel method's prediction, ε = 0, (sample, output).
        correction: what moving features add, of order ε, (sample, output).
        kernel: k, (sample, sample_b).
        kernel_change: k^E after training less k, of order ε, for every output, (output, sample, sample_b).
    """

    linear: xr.DataArray
    correction: xr.DataArray
    kernel: xr.DataArray
    kernel_change: xr.DataArray

    @property
    def mean(self) -> xr.DataArray:
        """The prediction, (sample, output). Order ε² is dropped."""
        return self.linear + self.correction

    @property
    def effective_kernel(self) -> xr.DataArray:
        """k^E after training, (output, sample, sample_b). Order ε² is dropped."""
        return self.kernel_change + self.kernel


@dataclass(frozen=True)
class QuadraticModel:
    """A quadratic model on N inputs, of which some are trained on; outputs have parameters of their own.

    Source: PDLT §11.4.

    Arguments
        kernel: k, shape (N, N), symmetric and positive semidefinite.
        meta_kernel: μ, shape (N, N, N): the first input is the one whose ψ it is; symmetric in the other two. The
            tangent kernel and the dNTK of one output of one network make that network's own quadratic model.

    Raises
        InputError: naming the argument, its value and the remedy.

    >>> import finitewidth as fw, numpy as np
    >>> x = np.array([0.5, -1.0, 2.0])
    >>> phi, psi = np.stack([x, x**2, 0 * x + 1], 1), x[:, None, None] * np.eye(3)
    >>> model = fw.QuadraticModel.of_features(phi, psi, epsilon=0.1)
    >>> p = model.trained([1.0, -1.0], train=[0, 1])
    >>> p.mean.values[:2, 0].round(9).tolist()  # the labels are met, at every order
    [1.0, -1.0]
    >>> bool(abs(p.correction[2, 0]) > 0)
    True
    """

    kernel: np.ndarray
    meta_kernel: np.ndarray

    def __post_init__(self) -> None:
        k, mu = _numbers("kernel", self.kernel, 2), _numbers("meta_kernel", self.meta_kernel, 3)
        if k.shape[0] != k.shape[1] or mu.shape != (len(k),) * 3:
            raise InputError(
                f"`kernel` must have shape (N, N) and `meta_kernel` (N, N, N), but have {k.shape} and {mu.shape}"
            )
        if not np.allclose(k, k.T, rtol=1e-10, atol=1e-12 * np.abs(k).max()):
            raise InputError("`kernel` must be symmetric, but kernel[a, b] ≠ kernel[b, a]")
        if (lowest := float(np.linalg.eigvalsh(k)[0])) < -1e-10 * np.abs(k).max():
            raise InputError(
                f"`kernel` must be positive semidefinite, as Σ_j φ_j φ_j is, but has the eigenvalue {lowest:.3g}"
            )
        if not np.allclose(mu, mu.transpose(0, 2, 1), rtol=1e-10, atol=1e-12 * np.abs(mu).max()):
            raise InputError(
                "`meta_kernel` must be symmetric in its last two inputs, but meta_kernel[a, b, c] ≠ [a, c, b]"
            )
        object.__setattr__(self, "kernel", k)
        object.__setattr__(self, "meta_kernel", mu)

    @classmethod
    def of_features(cls, phi: Any, psi: Any, *, epsilon: float = 1.0) -> "QuadraticModel":
        """The model of features φ, shape (N, P), and meta features ψ, shape (N, P, P), symmetric in the last two.

        Raises
            InputError: naming the argument, its value and the remedy.
        """
        phi, psi = _numbers("phi", phi, 2), _numbers("psi", psi, 3)
        if psi.shape != (*phi.shape, phi.shape[1]):
            raise InputError(f"`psi` must have shape (N, P, P) = {(*phi.shape, phi.shape[1])}, but has {psi.shape}")
        if not np.allclose(psi, psi.transpose(0, 2, 1), rtol=1e-10, atol=1e-12 * np.abs(psi).max()):
            raise InputError("`psi` must be symmetric, psi[a, j, k] = psi[a, k, j]; give ½ (psi + psi transposed)")
        if not (isinstance(epsilon, (int, float)) and np.isfinite(epsilon)):
            raise InputError(f"`epsilon` must be a finite number, but got {epsilon!r}")
        return cls(phi @ phi.T, epsilon * np.einsum("ajk,bj,ck->abc", psi, phi, phi, optimize=True))

    def trained(
        self,
        y: Any,
        *,
        train: Sequence[int],
        algorithm: GradientFlow | GradientDescent | None = GradientFlow(),  # noqa: B008  (frozen)
        start: Any = None,
    ) -> NearlyKernelPrediction:
        """What the model predicts on all its inputs after training on some of them, from W = 0; loss ½ Σ (z − y)².

        Arguments
            y: targets, shape (N_T,) or (N_T, n_L). train: which of the N inputs each belongs to.
            algorithm: gradient flow or descent, at any time; None for the parameters in the span of the training
                inputs' features that meet the labels ("direct optimisation").
            start: outputs at W = 0, shape (N,) or (N, n_L); None for zeros.

        Raises
            InputError: naming the argument, its value and the remedy.

        Warns
            TrustWarning: where the correction is larger than the targets: then first order is not enough.
        """
        rows, targets, z = self._problem(y, train, start)
        if algorithm is None:
            linear, correction, change = self._directly(rows, targets, z)
        elif isinstance(algorithm, GradientFlow | GradientDescent):
            linear, correction, change = self._evolved(algorithm, rows, targets, z)
        else:
            raise InputError(f"`algorithm` must be fw.GradientFlow, fw.GradientDescent or None, but got {algorithm!r}")
        size, unit = (float(np.sqrt(np.mean(each**2))) for each in (correction, targets))
        if size > unit > 0:
            warnings.warn(
                f"the correction of first order in ε is {size / unit:.2g} times the targets (rms): first order is not "
                "enough; use a smaller ε, or train for a shorter time",
                TrustWarning,
                stacklevel=2,
            )
        pair = ("sample", "sample_b")
        return NearlyKernelPrediction(
            labelled(linear),
            labelled(correction),
            xr.DataArray(self.kernel, dims=pair),
            xr.DataArray(change, dims=("output", *pair)),
        )

    def _problem(self, y: Any, train: Any, start: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rows of the training inputs, targets (N_T, n_L) and outputs at the start (N, n_L)."""
        targets = _numbers("y", y, 2 if np.ndim(y) == 2 else 1).reshape(len(y), -1)
        N, rows = len(self.kernel), np.asarray(train)
        if rows.shape != (len(targets),) or rows.dtype.kind not in "iu" or not np.all((rows >= 0) & (rows < N)):
            raise InputError(f"`train` must be {len(targets)} integers from 0 to {N - 1}, but got {train!r}")
        if start is None:
            return rows, targets, np.zeros((N, targets.shape[1]))
        z = _numbers("start", start, 2 if np.ndim(start) == 2 else 1).reshape(len(start), -1)
        if z.shape != (N, targets.shape[1]):
            raise InputError(f"`start` must have shape {(N, targets.shape[1])}, but has {z.shape}")
        return rows, targets, z

    def _evolved(
        self, algorithm: GradientFlow | GradientDescent, rows: np.ndarray, targets: np.ndarray, z: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        k, mu = self.kernel, self.meta_kernel
        kernels = Kernels(np.zeros_like(k), k, 0.0, 0.0, rows, np.arange(len(k)))
        free = FreeEvolution.of(algorithm, kernels, targets)
        time, slot = TimeKernels(algorithm, free.rates), free.slot
        e = slot.T @ z - free.y
        linear = z + gain(algorithm, kernels, 0.0).value @ (targets - z[rows])
        X3, Y3 = time.dNTK
        own = np.einsum("uvw,vb,wc->ubc", mu, slot, slot, optimize=True)  # μ_ubc
        other = np.einsum("vuw,vb,wc->ubc", mu, slot, slot, optimize=True)  # μ_buc
        moved = np.einsum("abc,ubc,bi,ci->aui", X3 + Y3, own, e, e, optimize=True)
        moved = moved + np.einsum("abc,ubc,bi,ci->aui", X3, other, e, e, optimize=True)
        along = mu @ (slot @ (time.T1[0][:, None] * e))  # Σ_c μ_uvc τ_c e_c, (u, v, i)
        change = -(along + along.transpose(1, 0, 2)).transpose(2, 0, 1)
        return linear, np.einsum("axu,aui->xi", free.outer, moved), change

    def _directly(
        self, rows: np.ndarray, targets: np.ndarray, z: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        k, mu = self.kernel, self.meta_kernel
        modes = Modes.of(k[np.ix_(rows, rows)])
        inverse = (modes.vectors / modes.rates) @ modes.vectors.T
        v = inverse @ (targets - z[rows])
        along = mu[:, :, rows] @ v  # Σ_c μ_abc v_c, (a, b, i)
        m = 0.5 * np.einsum("abi,bi->ai", along[:, rows], v)
        change = (along + along.transpose(1, 0, 2)).transpose(2, 0, 1)
        return z + k[:, rows] @ v, m - k[:, rows] @ (inverse @ m[rows]), change


def _numbers(name: str, value: Any, axes: int) -> np.ndarray:
    array = real_array(name, value, f"an array of {axes} axes")
    if array.ndim != axes or not array.size:
        raise InputError(f"`{name}` must have {axes} axes and not be empty, but has shape {array.shape}")
    if not np.all(np.isfinite(array)):
        raise InputError(f"`{name}` must be finite, but has entries that are not")
    return array
