r"""Connected three- and four-point functions of trained outputs, at order 1/n (THEORY-TRAINED §6).

At infinite width trained outputs are Gaussian. To first order one of the legs is perturbed, or two of them by the same
fluctuation of the NTK, and what is left are free, Gaussian legs:

    n E[z_ix z_jy z_kz]_c      = δ_ij T_{xyz,k} + δ_ik T_{xzy,j} + δ_jk T_{yzx,i} ,        T linear in the labels
    n E[z_ix z_jy z_kz z_mw]_c = δ_ij δ_km V_{xyzw} + δ_ik δ_jm V_{xzyw} + δ_im δ_jk V_{xwyz} ,   V knows no labels

V(0) is the four-point vertex at initialisation, T(0) = 0. Each source adds a term:

    V           four-point vertex at initialisation, P P P P V (to V)
    NTK_output  correlation of the NTK with the outputs, D and F
    NTK         fluctuation of the NTK, A and B
    dNTK, ddNTK_I, ddNTK_II
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import xarray as xr

from finitewidth.training.free import FreeEvolution
from finitewidth.training.responses import Responses
from finitewidth.training.slots import in_training_order
from finitewidth.training.time_kernels import TimeKernels

Terms = dict[str, np.ndarray]


@dataclass(frozen=True)
class Connected:
    """Free evolution, its first-order response and the tensors of the last layer: all that the correlators need."""

    free: FreeEvolution
    time: TimeKernels
    response: Responses
    tensors: xr.Dataset

    @cached_property
    def three(self) -> Terms:
        """T_{xyz,k} by source, coefficients of 1/n, (X, X, X, n_L) each."""
        response = self.response
        return {
            "NTK_output": self._three_of_output(),
            "NTK": self._three_of_pairs(),
            "dNTK": self._three_of_quadratic(*response.dNTK),
            "ddNTK_I": self._three_of_cubic(response.ddNTK_I),
            "ddNTK_II": self._three_of_cubic(response.ddNTK_II),
        }

    @cached_property
    def four(self) -> Terms:
        """V_{xyzw} by source, coefficients of 1/n, (X, X, X, X) each."""
        response, P = self.response, self.free.P
        return {
            "V": np.einsum("xa,yb,zc,wd,abcd->xyzw", P, P, P, P, self.tensors.V.values, optimize=True),
            "NTK_output": self._four_of_output(),
            "NTK": self._four_of_pairs(),
            "dNTK": self._four_of_quadratic(*response.dNTK),
            "ddNTK_I": self._four_of_cubic(response.ddNTK_I),
            "ddNTK_II": self._four_of_cubic(response.ddNTK_II),
        }

    @cached_property
    def _with_outputs(self) -> tuple[np.ndarray, np.ndarray]:
        """n Cov(ΔH_xb, z_y z_w), time summed: D, y paired with w, and F, x paired with y; (x, b, y, w)."""
        free = self.free
        tau = np.einsum("axu,ab->xub", free.outer, self.time.T1)
        D, F = (in_training_order(self.tensors, name) for name in "DF")
        of_D = np.einsum("xub,vb,uvcd,yc,wd->xbyw", tau, free.slot, D, free.P, free.P, optimize=True)
        return of_D, np.einsum("xub,vb,ucvd,yc,wd->xbyw", tau, free.slot, F, free.P, free.P, optimize=True)

    def _three_of_output(self) -> np.ndarray:
        D, F = self._with_outputs
        own, partner = (np.einsum("xbyz,bk->xyzk", each, self.free.y) for each in (D, F))
        return _of_three_legs(own, partner)

    def _three_of_pairs(self) -> np.ndarray:
        """−AB (y_B KE_D + y_D KE_B): which of both is the label's, and which pairing gives δ_ij y_k."""
        A, B, crossing = self.response.pair
        y, KE = self.free.y, self.free.KE
        both = np.einsum("xybd,bk,dz->xyzk", B + B.transpose(0, 1, 3, 2), y, KE, optimize=True)
        apart = np.einsum("xbzd,bk,dy->xyzk", crossing, y, KE, optimize=True)
        apart = apart + np.einsum("xbzd,dk,by->xyzk", A, y, KE, optimize=True)
        return -(both + apart + apart.transpose(1, 0, 2, 3))

    def _three_of_quadratic(self, paired: np.ndarray, with_e: np.ndarray) -> np.ndarray:
        y, KE, P = self.free.y, self.free.KE, self.free.P
        paired, with_e = (np.einsum("xbce,ye->xbcy", each, P) for each in (paired, with_e))
        own = -np.einsum("xbcy,bk,cz->xyzk", paired, y, KE, optimize=True)
        partner = -np.einsum("xbcy,bk,cz->xyzk", with_e + with_e.transpose(0, 2, 1, 3), y, KE, optimize=True)
        partner = partner - np.einsum("xbcz,by,ck->xyzk", paired, KE, y, optimize=True)
        return _of_three_legs(own + own.transpose(0, 2, 1, 3), partner)

    def _three_of_cubic(self, C: np.ndarray) -> np.ndarray:
        y, KE = self.free.y, self.free.KE
        partner = C + C.transpose(0, 1, 3, 2)
        own = np.einsum("xbcd,bk,cy,dz->xyzk", partner, y, KE, KE, optimize=True)
        return _of_three_legs(own, np.einsum("xbcd,by,ck,dz->xyzk", partner, KE, y, KE, optimize=True))

    def _four_of_output(self) -> np.ndarray:
        D, F = self._with_outputs
        leg = np.einsum("xbyz,bw->xyzw", F, self.free.KE)
        leg = leg + leg.transpose(0, 1, 3, 2) + np.einsum("xbzw,by->xyzw", D, self.free.KE)
        return -_of_four_legs(leg)

    def _four_of_pairs(self) -> np.ndarray:
        A, B, crossing = self.response.pair
        KE = self.free.KE
        together = np.einsum("xybd,bz,dw->xyzw", B + B.transpose(0, 1, 3, 2), KE, KE, optimize=True)
        apart = np.einsum("xbzd,by,dw->xyzw", A, KE, KE, optimize=True)
        apart = apart + np.einsum("xbzd,bw,dy->xyzw", crossing, KE, KE, optimize=True)
        apart = apart + apart.transpose(1, 0, 2, 3)
        return together + together.transpose(2, 3, 0, 1) + apart + apart.transpose(0, 1, 3, 2)

    def _four_of_quadratic(self, paired: np.ndarray, with_e: np.ndarray) -> np.ndarray:
        KE, P = self.free.KE, self.free.P
        paired, with_e = (np.einsum("xbce,ye->xbcy", each, P) for each in (paired, with_e))
        leg = np.einsum("xbcw,by,cz->xyzw", paired, KE, KE, optimize=True)
        leg = leg + leg.transpose(0, 1, 3, 2)
        with_e = with_e + with_e.transpose(0, 2, 1, 3)
        return _of_four_legs(leg + np.einsum("xbcy,bz,cw->xyzw", with_e, KE, KE, optimize=True))

    def _four_of_cubic(self, C: np.ndarray) -> np.ndarray:
        KE = self.free.KE
        partner = C + C.transpose(0, 1, 3, 2)
        return -_of_four_legs(np.einsum("xbcd,by,cz,dw->xyzw", partner, KE, KE, KE, optimize=True))


def _of_three_legs(own: np.ndarray, partner: np.ndarray) -> np.ndarray:
    """T, from what a perturbed leg x adds to δ_jk y_i, own_{xyz,i}, and to δ_ij y_k, partner_{xyz,k}."""
    return partner + partner.transpose(1, 0, 2, 3) + own.transpose(1, 2, 0, 3)


def _of_four_legs(leg: np.ndarray) -> np.ndarray:
    """V, from what a perturbed leg x adds to δ_ij δ_km, leg_{xyzw}, where any of the four may be perturbed."""
    pair = leg + leg.transpose(1, 0, 2, 3)
    return pair + pair.transpose(2, 3, 0, 1)
