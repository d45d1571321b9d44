r"""The first-order response of trained outputs, summed over training time (THEORY-TRAINED §3).

With e = z_T(0) − y in modes b, c, d of the training kernel, an output i at x moves by

    δz_{ix} = − Σ L_{xb} e_{ib} + Σ (dNTK)_{x;BC} e_B e_C − Σ C_{xbcd} e_{ib} e_c·e_d ,

where symmetry under rotations of the outputs leaves one pairing of the cubic term. `TimeKernels` and the outer
propagator p^a have been contracted already: nothing here knows of time any more.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from finitewidth.training.free import FreeEvolution
from finitewidth.training.time_kernels import TimeKernels

Tensors = Mapping[str, np.ndarray]
"""Coefficients of 1/n of the last layer over all inputs U, slots in training order."""


@dataclass(frozen=True)
class Responses:
    """Contracted with time; x: inputs that are asked about, b, c, d: modes, e, u: all inputs.

    Attributes
        shift: H1, (x, b).
        second: two fluctuations of the NTK, (x, d).
        pair: two NTKs with residuals b, d: A_{xb,yd} (x, b, y, d), B_{xy,bd} (x, y, b, d), B_{xd,by} (x, b, y, d).
        with_output: n Cov(ΔH_xB e_B, z_e), D and F, (x, e).
        dNTK: by which the output's neuron is paired: with a residual (x, b, c, e) — and c with e —, or with e.
        ddNTK_I, ddNTK_II: C, (x, b, c, d).
    """

    shift: np.ndarray
    second: np.ndarray
    pair: tuple[np.ndarray, np.ndarray, np.ndarray]
    with_output: np.ndarray
    dNTK: tuple[np.ndarray, np.ndarray]
    ddNTK_I: np.ndarray
    ddNTK_II: np.ndarray


def responses(free: FreeEvolution, time: TimeKernels, tensors: Tensors) -> Responses:
    """All of them, from the dense tensors."""
    n_L, e = free.outputs, free.slot
    tau = np.einsum("axu,ab->xub", free.outer, time.T1)
    tau2 = np.einsum("axu,abd->xubd", free.outer, time.T2)
    A, B, D, F = (tensors[name] for name in "ABDF")

    def with_modes(tensor: np.ndarray, axes: str) -> np.ndarray:
        """A tensor with the axes of `axes` over modes, others over inputs, in the tensor's own order."""
        for axis in sorted("abcd".index(each) for each in axes):
            tensor = np.moveaxis(np.tensordot(tensor, e, (axis, 0)), -1, axis)
        return tensor

    A_m, B_m = with_modes(A, "bcd"), with_modes(B, "bcd")
    second = (
        np.einsum("xubd,ubbd->xd", tau2, A_m)
        + np.einsum("xubd,ubbd->xd", tau2, B_m)
        + n_L * np.einsum("xubd,udbb->xd", tau2, B_m)
    )
    with_output = np.einsum("xub,ubbe->xe", tau, with_modes(D, "bc") + with_modes(F, "bc")) + n_L * np.einsum(
        "xub,uebb->xe", tau, with_modes(F, "cd")
    )
    pair = (
        np.einsum("xub,yvd,ubvd->xbyd", tau, tau, with_modes(A, "bd"), optimize=True),
        np.einsum("xub,yvd,uvbd->xybd", tau, tau, with_modes(B, "cd"), optimize=True),
        np.einsum("xub,yvd,udbv->xbyd", tau, tau, with_modes(B, "bc"), optimize=True),
    )
    return Responses(
        np.einsum("xub,ub->xb", tau, tensors["H1"] @ e),
        second,
        pair,
        with_output,
        _dNTK(free, time, tensors, with_modes),
        *_ddNTK(free, time, tensors, with_modes),
    )


WithModes = Callable[[np.ndarray, str], np.ndarray]


def _dNTK(
    free: FreeEvolution, time: TimeKernels, tensors: Tensors, with_modes: WithModes
) -> tuple[np.ndarray, np.ndarray]:
    """n E[dH_ABC z_E] of two residuals B, C: X3 (dH_ABC + dH_BAC) + Y3 dH_ABC."""
    X3, Y3 = time.dNTK
    P, Q = tensors["P"], tensors["Q"]
    own, other = X3 + Y3, X3  # of dH_ABC, where the output itself is differentiated twice, and of dH_BAC

    def summed(kernel: np.ndarray, tensor: np.ndarray) -> np.ndarray:
        return np.einsum("axu,abc,ubce->xbce", free.outer, kernel, tensor, optimize=True)

    # E[dH_ABC z_E]: (AB)(CE) Q_abce, (AC)(BE) Q_acbe, (AE)(BC) P_aebc
    AB = summed(own, with_modes(Q, "bc"))
    AC = summed(own, with_modes(Q, "bc").transpose(0, 2, 1, 3))
    AE = summed(own, with_modes(P, "cd").transpose(0, 2, 3, 1))
    # E[dH_BAC z_E]: (BA)(CE) Q_bace, (BC)(AE) Q_bcae, (BE)(AC) P_beac
    AB = AB + summed(other, with_modes(Q, "ac").transpose(1, 0, 2, 3))
    AE = AE + summed(other, with_modes(Q, "ab").transpose(2, 0, 1, 3))
    AC = AC + summed(other, with_modes(P, "ad").transpose(2, 0, 3, 1))
    return AB + AC.transpose(0, 2, 1, 3), AE


def _ddNTK(
    free: FreeEvolution, time: TimeKernels, tensors: Tensors, with_modes: WithModes
) -> tuple[np.ndarray, np.ndarray]:
    """C of both kinds; each term's three pairings (AB)(CD), (AC)(BD), (AD)(BC) with the output's partner first."""
    X4, Ya, Yb, Yc = time.ddNTK
    R, S, T, U = (tensors[name] for name in "RSTU")

    def summed(kernel: np.ndarray, pairings: tuple[tuple[np.ndarray, str], ...]) -> np.ndarray:
        """`pairings`: for each, a tensor and the places of its slots, a the output, b, c, d the residuals."""
        total: np.ndarray | float = 0.0
        for (tensor, places), partner_first in zip(pairings, ("xbcd", "xcbd", "xdbc"), strict=True):
            modes = "".join("abcd"[i] for i, place in enumerate(places) if place != "a")
            found = np.einsum(
                f"axu,abcd,{places.replace('a', 'u')}->{partner_first}",
                free.outer,
                kernel,
                with_modes(tensor, modes),
                optimize=True,
            )
            total = total + found
        return np.asarray(total)

    first = summed(X4 + Ya + Yb + Yc, ((R, "abcd"), (R, "acbd"), (R, "adbc")))
    first = first + summed(X4 + Ya, ((R, "bacd"), (R, "bdac"), (R, "bcad")))
    second = summed(X4 + 2 * Ya + Yb, ((S, "abcd"), (T, "acbd"), (U, "adbc")))
    second = second + summed(X4, ((S, "bacd"), (U, "bdac"), (T, "bcad")))
    second = second + summed(X4 + Yb, ((T, "abcd"), (S, "acbd"), (U, "adcb")))
    return first, second + summed(X4, ((T, "bacd"), (U, "bdca"), (S, "bcad")))
