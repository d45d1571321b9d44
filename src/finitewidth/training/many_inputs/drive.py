r"""What one sample neuron does to the motion of the outputs (THEORY-TRAINED §2, §3).

Along the free evolution with residuals e(s), and u(s) = ∫_0^s e, the outputs are driven besides by

    r_A = − ΔH_AB e_B + (dH_ABC + dH_BAC) e_B u_C
          − ½ (ddI_ABCD + ddI_BACD + ddII_{AB;CD} + ddII_{BA;CD}) e_B u_C u_D
          − (ddII_{AC;BD} + ddII_{BC;AD}) e_B ∫ e_C u_D ,

of a step η of descent in addition + (η/2) dH_ABC e_B e_C − (η/2)(ddI_ABCD + ddII_{AB;CD} + ddII_{AC;BD}) e_B e_C u_D
− (η²/6) ddI_ABCD e_B e_C e_D. Averages over networks pair the directions of every tensor in three ways,

    ddI_ABCD → δ_ij δ_km R_abcd + δ_ik δ_jm R_acbd + δ_im δ_jk R_adbc ,
    E[dH_ABC z_E] → δ_ij δ_km Q_abce + δ_ik δ_jm Q_acbe + δ_im δ_jk P_aebc ,  …

and every one is a product of pair operators of a neuron (`finitewidth.flow.neurons`), written out here slot by slot.
One of the residuals has the output that is driven; two others are summed over outputs. Arrays have the shape
(times, outputs, neurons, N), those in which that sum is still to be done (times, outputs, outputs, neurons, N).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

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
            still: e^{−Θs} w, (times, neurons, N).

        Returns
            vectors over a, (times, 2 neurons, N), and over e, (2 neurons, N), which are of the same output; and a
            matrix over ae, (times, N, N), of every output once.
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

    def dNTK_output(self, e: Array, u: Array, late: Array) -> "Outputs":
        """The same with z_E left for another output."""
        n, z = self.neurons, self.neurons.jet
        of_u = self._apply("rs", "r", u)
        of_late = of_u if late is u else self._apply("rs", "r", late)
        d_e, d_u = (n.join(n.e * w) for w in (e, u))
        d_late = d_u if late is u else n.join(n.e * late)
        back_u, back_e = (self._apply_transposed("r", "", z * w) for w in (u, e))
        back_late = back_u if late is u else self._apply_transposed("r", "", z * late)
        over_a = (
            z * self._apply("rs", "r", e),
            z * of_late,
            self._apply_transposed("rs", "r", e * z),
        )
        both = self.layer.operators["rs", ""].summed(n, d_e * d_late)
        both += self.layer.operators["r", ""].summed(n, n.join(e * of_u))
        return Outputs(
            np.concatenate(over_a, axis=-2),
            np.concatenate((back_late, back_e, back_u), axis=-2),
            n.e * z,
            self._apply_transposed("rs", "", z * e[:, :, None] * d_u[:, None]),
            both.sum(1),
        )

    def ddNTK(self, e: Array, u: Array, running: Array, step: float) -> tuple[Array, Array]:
        """The cubic terms of −r, of the first and of the second kind. `running`: weights of ∫ up to every node."""
        n = self.neurons
        Oe, Ou = (self._apply("rst", "r", each) for each in (e, u))
        Te, Tu = (self._apply("rs", "r", each) for each in (e, u))
        de, du = (n.join(n.e * each) for each in (e, u))  # Θ_ac d′_c e_c
        ddu = n.join(n.d * u)
        ee, eu, uu = _dot(de, de), _dot(de, du), _dot(du, du)

        first = 0.5 * (Oe * uu + 2 * Ou * eu)
        first += 0.5 * self._apply_transposed("rst", "r", e * uu) + n.e * n.join(_dot(e, Ou) * du)

        # of two outputs, that of e first: S_ik of e_i d u_k, h_ik of e_i g u_k, g_ik of e_i h u_k
        both = e[:, :, None] * du[:, None]
        S, S_other = self._apply("rs", "rt", both), self._apply_transposed("rs", "rt", both)
        g, h = n.join(n.g * both), n.join(n.h * e[:, :, None] * ddu[:, None])
        joined_T = n.join(_dot(e, Tu))
        second = 0.5 * (_over_second(S + S_other, du) + 2 * Tu * joined_T)
        second += 0.5 * (n.g * _over_first(h, du) + n.h * _over_first(g, ddu))
        past_T, past_h, past_S = (_integrated(running, each) for each in (joined_T, h, S))
        second += Te * past_T + _over_second(past_S, de) + n.g * _over_first(past_h, de)
        second += self._apply_transposed("rs", "r", e * past_T)
        second += n.e * n.join(n.g * _over_second(past_h, e) + _over_first(past_S, e))

        if step:
            first += step / 2 * (2 * Oe * eu + Ou * ee) + step**2 / 2 * Oe * ee
            second += step * (_over_second(S, de) + Te * joined_T + n.g * _over_first(h, de))
        return first, second


class Outputs(NamedTuple):
    """What the dNTK leaves of its driven output i at a and of another, m, at e.

    over_a, over_e: the one of i and the other of m, summed over neurons. alone: over a of any output, (neurons, N),
    with `second`, (times, m, i, neurons, N). both: over ae where i = m, (times, N, N).
    """

    over_a: Array
    over_e: Array
    alone: Array
    second: Array
    both: Array


def _dot(first: Array, second: Array) -> Array:
    """Summed over outputs."""
    return np.sum(first * second, axis=1, keepdims=True)


def _over_first(both: Array, w: Array) -> Array:
    """Σ_k both_ki w_k."""
    return np.sum(both * w[:, :, None], axis=1)


def _over_second(both: Array, w: Array) -> Array:
    """Σ_k both_ik w_k."""
    return np.sum(both * w[:, None], axis=2)


def _integrated(running: Array, f: Array) -> Array:
    return np.tensordot(running.astype(f.dtype), f, 1)


@dataclass(frozen=True)
class Traces:
    """What the dNTK's pairings need of the free evolution alone, at every node: the same whatever the residual.

    With Π = e^{−Θs}, Ω = ∫_0^s Π and its value for a finite step, Ω + (η/2) Π, on training inputs: the three as
    operators on (times, outputs, neurons, N), and their contractions with O^{r,0}, joined, with O^{rs,0} along a
    matrix, and with O^{rs,0} and a jet, (times, 1, neurons, N). Those in which z_E and a residual close a circle of
    their own, of whatever output, count n_L times.
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
    def of(cls, drive: Drive, slot: Array, decay: Array, past: Array, step: float, n_L: int = 1) -> "Traces":
        """Of modes (N, M) and what Π and Ω are in them, (times, M), for n_L outputs."""
        n = drive.neurons
        late = past + 0.5 * step * decay
        first, second = drive.layer.operators["r", ""], drive.layer.operators["rs", ""]

        def on(factors: Array) -> Callable[[Array], Array]:
            return lambda w: ((w @ slot) * factors[:, None, None]) @ slot.T

        def matrices(factors: Array) -> Array:
            return (slot * factors[:, None]) @ slot.T

        def joined(factors: Array) -> Array:
            return n_L * n.join(first.along(n, matrices(factors)))[:, None]

        jets = (n.e * n.jet) @ slot

        def of_jet(factors: Array) -> Array:
            return second(n, (jets * factors[:, None]) @ slot.T)[:, None]

        joined_past, second_past = joined(past), of_jet(past)
        return cls(
            on(decay),
            on(past),
            on(late),
            joined(decay),
            joined_past,
            joined(late) if step else joined_past,
            n_L * second.along(n, matrices(decay))[:, None],
            of_jet(decay),
            second_past,
            of_jet(late) if step else second_past,
        )
