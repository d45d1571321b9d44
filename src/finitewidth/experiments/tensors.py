"""Unbiased estimators of the tensors of order 1/n from one network's derivatives (FACTS 1.4).

Each tensor is the coefficient of one pairing of neurons, such as E[H_(ia)(jc) H_(ib)(jd)] = B_abcd/n for i ≠ j. So it
is the average over networks of a product in which only that pairing occurs, averaged over all i ≠ j: outputs are
exchangeable, and every choice of them estimates the same number. Three tensors are covariances, and lose the product of
two means:

    V_abcd = n (E[z_ia z_ib z_jc z_jd] − E[z_ia z_ib] E[z_jc z_jd])
    D_abcd = n (E[z_ia z_ib H_(jc)(jd)] − E[z_ia z_ib] E[H_(jc)(jd)])
    A_abcd = n (E[H_(ia)(ib) H_(jc)(jd)] − E[H_(ia)(ib)] E[H_(jc)(jd)])

    B_abcd = n E[H_(ia)(jc) H_(ib)(jd)]          F_abcd = n E[z_ia H_(ib)(jd) z_jc]
    P_abcd = n E[dH_(ia)(jb)(jc) z_id]           Q_abcd = n E[dH_(ia)(ib)(jc) z_jd]
    R_abcd = n E[ddI_(ia)(ib)(jc)(jd)]
    S_abcd = n E[ddII_(ia)(ib);(jc)(jd)]         T_abcd = n E[ddII_(ia)(jd);(ib)(jc)]
    U_abcd = n E[ddII_(ia)(jc);(jd)(ib)]

n is the width of the layer before the output. Subscripts stand in the order of FACTS 1.4 (T_{1342}, U_{1423}, B_{1324},
F_{1324} with slots z, H, z, H), and ddII_{12;34} pairs the Hessian of z_1 with the gradient of z_3.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from finitewidth.experiments.derivatives import Derivatives


@dataclass(frozen=True)
class Outputs:
    """How many outputs each order of derivatives uses: many where they are cheap.

    Arguments
        z: outputs that are drawn and read.
        H, dH, ddH: how many of them have gradients, in averages over H, over dH, and over ddI and ddII.
    """

    z: int
    H: int = 0
    dH: int = 0
    ddH: int = 0

    @property
    def moving(self) -> int:
        """How many outputs have gradients at all."""
        return max(self.H, self.dH, self.ddH)


def efficient_outputs(names: Collection[str], n: int, inputs: int) -> Outputs:
    """The outputs to use for these tensors at width n: where errors for a given time were smallest.

    Found by trial (tanh, depth 4, n = 32, one and two inputs). Given the layer before, z² of one output fluctuates by
    K √2, and its mean by √(V/n) from network to network: some 4n outputs make the first as small as the second, and
    cost little. Gradients cost more: after these numbers an error falls slower than the time for it rises.
    """
    levels = {TENSORS[name].level for name in names}
    numbers = {
        level: number if level in levels else 0
        for level, number in (GRADIENTS if inputs > 1 else GRADIENTS_ONE_INPUT).items()
    }
    reads = any(TENSORS[name].reads for name in names)
    return Outputs(z=max(16, min(4 * n, 1024)) if reads else max(2, *numbers.values()), **numbers)


@dataclass(frozen=True)
class Tensor:
    """One tensor: n^power × (E[product] − E[first] E[second])."""

    product: Callable[[Derivatives, Outputs], jax.Array]  # one network's contribution
    level: str  # the order of derivatives it needs, a field of Outputs
    reads: bool = True  # whether outputs without gradients contribute
    means: tuple[str, str] | None = None  # names of the two means whose product is subtracted
    power: int = 1


def _zz(d: Derivatives, _: Outputs) -> jax.Array:
    # transposed first: XLA takes twice as long for a product that contracts the first axes of both
    across = jax.lax.optimization_barrier(d.z.T)
    return across @ d.z / d.z.shape[0]


def _zzzz(d: Derivatives, _: Outputs) -> jax.Array:
    zz = _products(d)
    return _distinct("iab,jcd->abcd", zz, zz)


def _H(d: Derivatives, outputs: Outputs) -> jax.Array:
    return _diagonal(d, outputs).mean(0)


def _zzH(d: Derivatives, outputs: Outputs) -> jax.Array:
    return _distinct("iab,jcd->abcd", _products(d), _diagonal(d, outputs))


def _HH(d: Derivatives, outputs: Outputs) -> jax.Array:
    H = _diagonal(d, outputs)
    return _distinct("iab,jcd->abcd", H, H)


def _B(d: Derivatives, outputs: Outputs) -> jax.Array:
    H = d.H[:, :, : outputs.H]
    return _exchanged(_distinct("iajc,ibjd->abcd", H, H))


def _F(d: Derivatives, outputs: Outputs) -> jax.Array:
    return _exchanged(_distinct("ia,ibjd,jc->abcd", d.z, d.H[:, :, : outputs.H], d.z[: outputs.H]))


def _P(d: Derivatives, outputs: Outputs) -> jax.Array:
    return _distinct("iajbc,id->abcd", d.dH_pairs(outputs.dH), d.z)


def _Q(d: Derivatives, outputs: Outputs) -> jax.Array:
    return d.dH_weighted(outputs.dH).mean(0) / (d.z.shape[0] - 1)


def _R(d: Derivatives, outputs: Outputs) -> jax.Array:
    return _distinct("iabjcd->abcd", d.ddI_pairs(outputs.ddH))


def _S(d: Derivatives, outputs: Outputs) -> jax.Array:
    v = d.hessian_gradients(outputs.ddH)
    return _distinct("iajcp,ibjdp->abcd", v, v)


def _T(d: Derivatives, outputs: Outputs) -> jax.Array:
    v = jnp.einsum("iaibp->iabp", d.hessian_gradients(outputs.ddH))
    return _distinct("iabp,jdcp->abcd", v, v)


def _U(d: Derivatives, outputs: Outputs) -> jax.Array:
    v = d.hessian_gradients(outputs.ddH)
    return _distinct("iajdp,jcibp->abcd", v, v)


def _products(d: Derivatives) -> jax.Array:
    """z_ia z_ib, (i, a, b)."""
    return d.z[:, :, None] * d.z[:, None, :]


def _diagonal(d: Derivatives, outputs: Outputs) -> jax.Array:
    """H_(ja)(jb), (j, a, b)."""
    return jnp.einsum("jajb->jab", d.H[: outputs.H, :, : outputs.H])


def _distinct(product: str, *factors: jax.Array) -> jax.Array:
    """The average over i ≠ j of a product, written as the einsum over all i and j, which may run over the first i only.

    From the sum over all the sum over i = j is taken away: no array ever has both i and j and the axes of the result.
    """
    axes = product.split("->")[0].split(",")
    sizes = {
        axis: n for each, factor in zip(axes, factors, strict=True) for axis, n in zip(each, factor.shape, strict=True)
    }
    many, few = sizes["i"], sizes["j"]
    same = [
        factor[tuple(slice(few) if axis == "i" else slice(None) for axis in each)]
        for each, factor in zip(axes, factors, strict=True)
    ]
    total = jnp.einsum(product, *factors) - jnp.einsum(product.replace("j", "i"), *same)
    return total / (few * (many - 1))


def _exchanged(values: jax.Array) -> jax.Array:
    """The average with i and j exchanged, [abcd] and [cdab]: for sums over i and j that are not the same neurons."""
    return (values + values.transpose(2, 3, 0, 1)) / 2


TENSORS = {
    "K": Tensor(_zz, "z", power=0),
    "V": Tensor(_zzzz, "z", means=("K", "K")),
    "Theta": Tensor(_H, "H", reads=False, power=0),
    "A": Tensor(_HH, "H", reads=False, means=("Theta", "Theta")),
    "B": Tensor(_B, "H"),
    "D": Tensor(_zzH, "H", means=("K", "Theta")),
    "F": Tensor(_F, "H"),
    "P": Tensor(_P, "dH"),
    "Q": Tensor(_Q, "dH"),
    "R": Tensor(_R, "ddH", reads=False),
    "S": Tensor(_S, "ddH", reads=False),
    "T": Tensor(_T, "ddH", reads=False),
    "U": Tensor(_U, "ddH", reads=False),
}
GRADIENTS = {"H": 8, "dH": 2, "ddH": 2}
GRADIENTS_ONE_INPUT = {"H": 8, "dH": 4, "ddH": 4}
