r"""What one sample neuron does to the motion of the outputs (THEORY-TRAINED §2, §3).

Along the free evolution with residuals e(s), and u(s) = ∫_0^s e, the outputs are driven besides by

    r_A = − ΔH_AB e_B + (dH_ABC + dH_BAC) e_B u_C
          − ½ (ddI_ABCD + ddI_BACD + ddII_{AB;CD} + ddII_{BA;CD}) e_B u_C u_D
          − (ddII_{AC;BD} + ddII_{BC;AD}) e_B ∫ e_C u_D ,

of a step η of descent in addition + (η/2) dH_ABC e_B e_C − (η/2)(ddI_ABCD + ddII_{AB;CD} + ddII_{AC;BD}) e_B e_C u_D
− (η²/6) ddI_ABCD e_B e_C e_D. Averages over networks pair the directions of every tensor in three ways (one output):

    ddI_ABCD → R_abcd + R_acbd + R_adbc ,    E[dH_ABC z_E] → Q_abce + Q_acbe + P_aebc ,  …

and every one is a product of pair operators of a neuron (`finitewidth.flow.neurons`), written out here slot by slot.
Arrays have the shape (times, neurons, N).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from finitewidth.flow.neurons import HiddenLayer, Neurons

Array = np.ndarray


@dataclass(frozen=True)
class Drive:
    """One layer's neurons, with the tensors as maps from vectors to what is left at the output's slot a."""

    layer: HiddenLayer
    neurons: Neurons

    def _apply(self, left: str, right: str, w: Array) -> Array:
        return self.layer.operators[left, right](self.neurons, w)

    def _apply_transposed(self, left: str, right: str, w: Array) -> Array:
        return self.layer.operators[left, right].transposed(self.neurons, w)

    def fluctuation(self, e: Array) -> Array:
        """A's half of ΔH_ab e_b: two of them make A_abcd."""
        return self._apply("r", "r", e)

    def crossed(self, e: Array, *, swapped: bool = False) -> Array:
        """d_a Θ_ab d′_b e_b: two of them make B. `swapped`: with the paths exchanged."""
        n = self.neurons
        own, other = (n.e, n.d) if swapped else (n.d, n.e)
        return own * n.join(other * e)

    def NTK_output(self, still: Array, decay: Array, signs: Array) -> tuple[Array, Array, Array]:
        """E[ΔH_AB z_C z_E] e^{−Θs}_BC: D_abce + F_acbe as the product of two vectors, and F_aebc, summed over neurons.

        Arguments
            decay: e^{−Θs} on training inputs, (times, N, N). signs: w with ⟨w_B w_C⟩ = 1 there, (neurons, N).
            still: e^{−Θs} w.

        Returns
            vectors over a, (times, 2 neurons, N), and over e, (2 neurons, N); and a matrix over ae, (times, N, N).
        """
        n = self.neurons
        over_a = self._apply("r", "r", still), n.jet * self._apply("r", "", still)
        over_e = self._apply("", "", signs), self._apply_transposed("r", "", n.jet * signs)
        own = self.layer.operators["r", ""]
        both = own.summed(n, n.join(own.along(n, decay)))
        return np.concatenate(over_a, axis=-2), np.concatenate(over_e, axis=-2), both

    def dNTK(self, e: Array, u: Array, late: Array, traces: "Traces") -> Array:
        """E[dH_ABC z_E] and E[dH_BAC z_E] with z_E paired with one of the residuals B, C, of which the other is left.

        Q_abce, Q_acbe, P_aebc and Q_bace, Q_bcae, P_beac in turn, each with E at B, then at C. Where that closes a
        circle, its Θ is drawn, as a tangent jet.
        """
        n, z = self.neurons, self.neurons.jet
        back_u, back_late, back_e = (self._apply_transposed("r", "", z * w) for w in (u, late, e))
        of_e, of_u = (self._apply("rs", "r", w) for w in (e, u))
        of_late = of_u if late is u else self._apply("rs", "r", late)
        d_e, d_u = (n.join(n.e * w) for w in (e, u))
        d_late = d_u if late is u else n.join(n.e * late)
        decay, past, past_late = traces.decay, traces.past, traces.past_late

        found = z * self._apply("rs", "r", decay(back_late) + past_late(back_e)) + of_e * traces.joined_past_late
        found += of_late * traces.joined_decay + z * (traces.second_decay * d_late + traces.second_past_late * d_e)

        found += self._apply_transposed("rs", "r", z * decay(back_u) + e * traces.joined_past)
        back = self._apply_transposed("rs", "r", z * e)
        found += z * self._apply("r", "", decay(z * of_u) + past(back))
        return found + n.e * n.join(traces.along_decay * d_u + e * z * traces.second_past)

    def dNTK_output(self, e: Array, u: Array, late: Array) -> tuple[Array, Array, Array]:
        """The same with z_E left for another output: vectors over a and over e, and a matrix over ae."""
        n, z = self.neurons, self.neurons.jet
        of_u = self._apply("rs", "r", u)
        of_late = of_u if late is u else self._apply("rs", "r", late)
        d_e, d_u = (n.join(n.e * w) for w in (e, u))
        d_late = d_u if late is u else n.join(n.e * late)
        back_u, back_e = (self._apply_transposed("r", "", z * w) for w in (u, e))
        back_late = back_u if late is u else self._apply_transposed("r", "", z * late)
        back_second = self._apply_transposed("rs", "", z * e * d_u)
        over_a = (
            z * self._apply("rs", "r", e),
            z * of_late,
            self._apply_transposed("rs", "r", e * z),
            np.broadcast_to(n.e * z, e.shape),
        )
        over_e = back_late, back_e, back_u, back_second
        both = self.layer.operators["rs", ""].summed(n, d_e * d_late)
        both += self.layer.operators["r", ""].summed(n, n.join(e * of_u))
        return np.concatenate(over_a, axis=-2), np.concatenate(over_e, axis=-2), both

    def ddNTK(self, e: Array, u: Array, running: Array, step: float) -> tuple[Array, Array]:
        """The cubic terms of −r, of the first and of the second kind. `running`: weights of ∫ up to every node."""
        n = self.neurons
        Oe, Ou = (self._apply("rst", "r", each) for each in (e, u))
        Te, Tu = (self._apply("rs", "r", each) for each in (e, u))
        de, du = (n.join(n.e * each) for each in (e, u))  # Θ_ac d′_c e_c
        ddu = n.join(n.d * u)

        first = 0.5 * (Oe * du**2 + 2 * Ou * de * du)
        first += 0.5 * self._apply_transposed("rst", "r", e * du**2) + n.e * n.join(e * Ou * du)

        S, S_other = self._apply("rs", "rt", e * du), self._apply_transposed("rs", "rt", e * du)
        joined_T, joined_h, joined_g = n.join(e * Tu), n.join(e * n.h * ddu), n.join(e * n.g * du)
        second = 0.5 * (du * (S + S_other) + 2 * Tu * joined_T + n.g * du * joined_h + n.h * ddu * joined_g)
        past_T, past_h, past_S = (_integrated(running, each) for each in (joined_T, joined_h, S))
        second += Te * past_T + de * past_S + n.g * de * past_h
        second += self._apply_transposed("rs", "r", e * past_T)
        second += n.e * n.join(e * (n.g * past_h + past_S))

        if step:
            first += step / 2 * (2 * Oe * de * du + Ou * de**2) + step**2 / 2 * Oe * de**2
            second += step * (de * S + Te * joined_T + n.g * de * joined_h)
        return first, second


def _integrated(running: Array, f: Array) -> Array:
    return np.tensordot(running.astype(f.dtype), f, 1)


@dataclass(frozen=True)
class Traces:
    """What the dNTK's pairings need of the free evolution alone, at every node: the same whatever the residual.

    With Π = e^{−Θs}, Ω = ∫_0^s Π and its value for a finite step, Ω + (η/2) Π, on training inputs: the three as
    operators on (times, neurons, N), and their contractions with O^{r,0}, joined, with O^{rs,0} along a matrix, and
    with O^{rs,0} and a jet.
    """

    decay: Callable[[Array], Array]
    past: Callable[[Array], Array]
    past_late: Callable[[Array], Array]
    joined_decay: Array
    joined_past: Array
    joined_past_late: Array
    along_decay: Array
    second_decay: Array
    second_past: Array
    second_past_late: Array

    @classmethod
    def of(cls, drive: Drive, slot: Array, decay: Array, past: Array, step: float) -> "Traces":
        """Of modes (N, M) and what Π and Ω are in them, (times, M)."""
        n = drive.neurons
        late = past + 0.5 * step * decay
        first, second = drive.layer.operators["r", ""], drive.layer.operators["rs", ""]

        def on(factors: Array) -> Callable[[Array], Array]:
            return lambda w: ((w @ slot) * factors[:, None]) @ slot.T

        def matrices(factors: Array) -> Array:
            return (slot * factors[:, None]) @ slot.T

        def joined(factors: Array) -> Array:
            return n.join(first.along(n, matrices(factors)))

        jets = (n.e * n.jet) @ slot

        def of_jet(factors: Array) -> Array:
            return second(n, (jets * factors[:, None]) @ slot.T)

        joined_past, second_past = joined(past), of_jet(past)
        return cls(
            on(decay),
            on(past),
            on(late),
            joined(decay),
            joined_past,
            joined(late) if step else joined_past,
            second.along(n, matrices(decay)),
            of_jet(decay),
            second_past,
            of_jet(late) if step else second_past,
        )
