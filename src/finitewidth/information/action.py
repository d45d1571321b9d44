r"""The quartic action, and the density it stands for (PDLT ch. 1, 4).

m neurons that are independent N(0, Ĝ) given Ĝ, with E[Ĝ] = K + G1/n and Cov[Ĝ] = V/n, have the density

    p(z) = N(z; 0, K) [1 + c(z)] + O(1/n²)
    c(z) = ½ G1 : Σ_i h_i /n + ⅛ V : (Σ_{i≠j} h_i h_j + Σ_i h⁽⁴⁾_i) /n

for ∂N/∂K_ab = ½ h_ab N: with y = K⁻¹ z, h_ab = y_a y_b − K⁻¹_ab and h⁽⁴⁾ the Hermite polynomial of four indices. With
S_ab = Σ_i h_{i,ab} and W_bd = Σ_ac V_abcd K⁻¹_ac no sum over pairs of neurons is left:

    c(z) = (1/n) [ ½ (G1 − W) : S + ⅛ S : V : S − ¼ m W : K⁻¹ ] .

Written as e^{−action}, log p = log N + c, the action is quadratic and quartic in z:

    action(z) = ½ Σ_i g^{ab} z_ia z_ib − ⅛ Σ_ij v^{(ab)(cd)} z_ia z_ib z_jc z_jd
    v^{(ab)(cd)} = (1/n) V raised           g^{ab} = K⁻¹ − (1/n) (G1 − W − ½ m (V : K⁻¹)) raised

where "raised" is with a K⁻¹ for every index. V is a covariance, hence positive: −⅛ v z⁴ makes the action fall without
bound at large z. It is never normalisable as it stands: it holds where c(z) is small, and there its two forms agree.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from finitewidth.errors import InputError
from finitewidth.information.correlators import Array


@dataclass(frozen=True)
class QuarticAction:
    """The action of m neurons on N inputs, to order 1/n.

    K: (N, N), positive definite. shift, fluctuation: G1/n and V/n. neurons: m.
    """

    K: Array
    shift: Array
    fluctuation: Array
    neurons: int

    @cached_property
    def quadratic_coupling(self) -> Array:
        """g^{ab}, (N, N). Depends on m: summing over a neuron moves some of the quartic coupling into it."""
        inverse, trace = self._inverse, np.einsum("abcd,cd->ab", self.fluctuation, self._inverse)
        return inverse - inverse @ (self.shift - self._W - self.neurons / 2 * trace) @ inverse

    @cached_property
    def quartic_coupling(self) -> Array:
        """v^{(ab)(cd)}, (N, N, N, N)."""
        raised = self.fluctuation
        for _ in range(4):  # each turn raises the first axis and moves it to the end
            raised = np.tensordot(raised, self._inverse, (0, 0))
        return raised

    def __call__(self, z: Array) -> Array:
        """The action of z, (…, m, N) to (…)."""
        squares = np.einsum("...ia,...ib->...ab", z, z)
        quadratic = np.einsum("ab,...ab->...", self.quadratic_coupling, squares)
        return (
            quadratic / 2
            - np.einsum("...ab,abcd,...cd->...", squares, self.quartic_coupling, squares, optimize=True) / 8
        )

    @cached_property
    def log_normaliser(self) -> float:
        """log Z with p = e^{−action}/Z to order 1/n, from log p = log N + c: action and c differ by it."""
        constant = self._gaussian_constant - self._correction(-self.neurons * self._inverse)
        return float(constant)

    def gaussian(self, z: Array) -> Array:
        """log N(z; 0, K) of m independent neurons, (…, m, N) to (…)."""
        return -np.einsum("...ia,ab,...ib->...", z, self._inverse, z, optimize=True) / 2 - self._gaussian_constant

    def correction(self, z: Array) -> Array:
        """c(z), (…, m, N) to (…): p = N (1 + c). Order 1/n."""
        y = z @ self._inverse
        return self._correction(np.einsum("...ia,...ib->...ab", y, y) - self.neurons * self._inverse)

    @cached_property
    def size(self) -> float:
        """√⟨c²⟩ over the Gaussian: what first order changes of the density, root mean square. Order 1/n.

        With indices contracted by K⁻¹,

            ⟨c²⟩ = (1/n²) [ ½ m G1_ab G1_ab + ⅛ m² V_abcd V_abcd + ¼ m V_abcd V_acbd ] .

        For one input without shift it is m (m + 2)/8 (V/(nK²))²: it grows with the number of neurons, as V/(nK²) does
        not. Half of its V-part is the loss of entropy, the distance from a Gaussian in nats.
        """
        m, shift, V = self.neurons, self.shift @ self._inverse, self.fluctuation
        raised = self.quartic_coupling
        square = (
            m / 2 * np.einsum("ab,ba->", shift, shift)
            + m**2 / 8 * np.einsum("abcd,abcd->", V, raised)
            + m / 4 * np.einsum("abcd,acbd->", V, raised)
        )
        return float(np.sqrt(square))

    @cached_property
    def _factor(self) -> tuple[Array, bool]:
        try:
            return cho_factor(self.K, lower=True)
        except np.linalg.LinAlgError as error:
            raise InputError(
                "`x` has inputs whose kernel K is not positive definite: their outputs are tied together and have no "
                "joint density; leave out inputs that are equal, or proportional where σ is homogeneous and C_b = 0"
            ) from error

    @cached_property
    def _inverse(self) -> Array:
        inverse = cho_solve(self._factor, np.eye(len(self.K)))
        return (inverse + inverse.T) / 2

    @cached_property
    def _W(self) -> Array:
        return np.einsum("abcd,ac->bd", self.fluctuation, self._inverse)

    @cached_property
    def _gaussian_constant(self) -> float:
        log_determinant = 2 * np.log(np.diagonal(self._factor[0])).sum()
        return float(self.neurons * (log_determinant + len(self.K) * np.log(2 * np.pi)) / 2)

    def _correction(self, S: Array) -> Array:
        linear = np.einsum("ab,...ab->...", self.shift - self._W, S) / 2
        square = np.einsum("...ab,abcd,...cd->...", S, self.fluctuation, S, optimize=True) / 8
        return linear + square - self.neurons * np.einsum("ab,ab->", self._W, self._inverse) / 4
