r"""The neural tangent kernel of finite networks: its mean and its spread over initialisations (PDLT ch. 8).

At infinite width H_{(ia)(jb)} = δ_ij Θ_ab in every network. At order 1/n its mean shifts, it differs from network to
network, and gradients of different outputs are no longer orthogonal.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from finitewidth.architecture import MLP
from finitewidth.data import check_inputs
from finitewidth.flow import flow
from finitewidth.information.correlators import Array, over_pairings


@dataclass(frozen=True)
class TangentKernel:
    """Mean and covariance of the entries of the NTK H_{(ia)(jb)} of a network's outputs i, j on N inputs a, b.

    Source: PDLT ch. 8. Dropped everywhere: order 1/n².

    Theta, H1, A, B, D, F: as `flow` gives them, (N, N) or (N, N, N, N); all but Theta are coefficients of 1/n.
    n: width of the layer before the output. n_out: n_L, the number of outputs.
    """

    Theta: Array
    H1: Array
    A: Array
    B: Array
    D: Array
    F: Array
    n: int
    n_out: int

    @cached_property
    def mean(self) -> Array:
        """E[H_{(ia)(ib)}] = Θ_ab + H1_ab/n, (N, N); 0 between different outputs. Orders 1 and 1/n."""
        return self.Theta + self.H1 / self.n

    def covariance(self, i: int, j: int, k: int, m: int) -> Array:
        """Cov[H_{(ia)(jb)}, H_{(kc)(md)}] for outputs i, j, k, m, (N, N, N, N) with axes a, b, c, d.

        (1/n) (δ_ij δ_km A_abcd + δ_ik δ_jm B_acbd + δ_im δ_jk B_adbc) .        Order 1/n; PDLT ch. 8.
        """
        return over_pairings((i, j, k, m), self.A, self.B) / self.n

    def output_covariance(self, i: int, j: int, k: int, m: int) -> Array:
        """Cov[z_ia z_jb, H_{(kc)(md)}] for outputs i, j, k, m, (N, N, N, N) with axes a, b, c, d.

        (1/n) (δ_ij δ_km D_abcd + δ_ik δ_jm F_acbd + δ_im δ_jk F_adbc) .        Order 1/n; PDLT ch. 8.
        """
        return over_pairings((i, j, k, m), self.D, self.F) / self.n

    @cached_property
    def variance(self) -> Array:
        """Var[H_{(ia)(ib)}], one output with itself, (N, N): (A_abab + B_aabb + B_abba)/n. Order 1/n."""
        return np.einsum("abab->ab", self.covariance(0, 0, 0, 0))

    @cached_property
    def variance_between_outputs(self) -> Array:
        """Var[H_{(ia)(jb)}], i ≠ j, (N, N): B_aabb/n; H itself is 0 there at infinite width. Order 1/n."""
        return np.einsum("abab->ab", self.covariance(0, 1, 0, 1))

    @cached_property
    def trace_mean(self) -> float:
        """E[tr H], the trace over outputs and inputs: n_L Σ_a (Θ_aa + H1_aa/n). Orders 1 and 1/n."""
        return float(self.n_out * np.trace(self.mean))

    @cached_property
    def trace_variance(self) -> float:
        """Var[tr H] = (1/n) Σ_ab (n_L² A_aabb + 2 n_L B_abab), the trace over outputs and inputs. Order 1/n.

        tr H bounds the largest eigenvalue, and so the learning rates that are stable, of each single network.
        """
        between, within = (np.einsum("aabb->", self.covariance(0, 0, k, k)) for k in (1, 0))
        return float(self.n_out * (self.n_out - 1) * between + self.n_out * within)


def tangent_kernel(net: MLP, x: Any) -> TangentKernel:
    """Mean and fluctuations of the neural tangent kernel over initialisations, to order 1/n.

    Source: PDLT ch. 8. Orders 1 and 1/n; order 1/n² is dropped.

    Arguments
        net: the network; its `lambda_b`, `lambda_W` are the learning-rate tensor in H = Σ λ ∂z ∂z.
        x: inputs, shape (N, n_in); N up to 16.

    Returns
        A `TangentKernel`.

    Raises
        InputError: naming the argument, its value and the remedy; for activations that jump, which have no NTK.

    Warns
        TrustWarning: where V/(nK²) at the last layer says that first order is not enough at this width.

    >>> import finitewidth as fw
    >>> net = fw.MLP("linear", depth=2, width=50, n_out=2, lambda_b=0.0)
    >>> kernel = fw.tangent_kernel(net, [[1.0]])  # H_ij = δ_ij Σ_k z_k²/n + Σ_k W_ik W_jk: A = 2, B = 1
    >>> [round(float(v[0, 0]), 12) for v in (kernel.mean, kernel.variance, kernel.variance_between_outputs)]
    [2.0, 0.08, 0.02]
    """
    x = check_inputs(x)
    # V is asked for, though unused, because it is what `flow` judges the trust in first order by
    tensors = flow(net, x, order=1, tensors="V,A,B,D,F,H1", layers="last").isel(layer=0)
    values = {name: tensors[name].values for name in ("Theta", "H1", "A", "B", "D", "F")}
    return TangentKernel(**values, n=(x.shape[1], *net.widths)[-1], n_out=net.n_out)
