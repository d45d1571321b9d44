r"""Averages over sample neurons and residuals: the terms of order 1/n of mean and covariance (THEORY-TRAINED §4, §5).

A neuron's drive is a polynomial in the residual e = z_T(0) − y, at most cubic. Every neuron is given a ζ ~ N(0, K)
over all inputs, and is driven by e = −y + ζ and by e = −y − ζ: half the sum of what the outputs move by belongs to
the mean, half the difference, times the free output P ζ, to their covariance. With several outputs ζ and e are so
many. Where a tensor holds the z of the network at its initialisation (D, F, P, Q), it is paired with a residual, over
the free evolution, or left for another output.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from finitewidth.algorithms import GradientDescent, GradientFlow
from finitewidth.cores import Tally
from finitewidth.flow.neurons import PRECISION, HiddenLayer
from finitewidth.gaussian.normals import Normals
from finitewidth.training.infinite_width import Kernels
from finitewidth.training.many_inputs.drive import Drive, Outputs, Traces
from finitewidth.training.many_inputs.times import TimeNodes
from finitewidth.training.modes import Modes, trained

Terms = dict[str, np.ndarray]
MEAN = ("NTK", "dNTK", "ddNTK_I", "ddNTK_II")
COVARIANCE = ("NTK", "NTK_output", "dNTK", "ddNTK_I", "ddNTK_II")
_EVEN_RESIDUAL = 8  # columns of even normals
_NUMBERS = 2**19  # in one array of (times, neurons, N), of which every core holds some forty


@dataclass(frozen=True)
class Evolution:
    """The free evolution of the outputs over the nodes of training time, and what becomes of a drive.

    Attributes
        slot: u_m at every input, (N, M), zero where an input is not trained on. y: u_m·y, (M, n_L).
        through: Θ_XT u_m/λ_m, (X, M). free: P at the end of training, (X, N). test: which inputs are asked about.
    """

    time: TimeNodes
    slot: np.ndarray
    y: np.ndarray
    through: np.ndarray
    free: np.ndarray
    test: np.ndarray

    @classmethod
    def of(cls, algorithm: GradientFlow | GradientDescent, kernels: Kernels, targets: np.ndarray) -> "Evolution":
        """Of targets of shape (N_T, n_L)."""
        modes = Modes.of(kernels.Theta_TT)
        slot = np.zeros((len(kernels.K), len(modes.rates)))
        np.add.at(slot, kernels.train, modes.vectors)
        through = kernels.Theta_XT @ modes.vectors / modes.rates
        free = -(through * trained(algorithm, modes.rates)) @ slot.T
        free[np.arange(len(kernels.test)), kernels.test] += 1.0
        time = TimeNodes.of(algorithm, modes.rates)
        return cls(time, slot, modes.vectors.T @ targets, through, free, kernels.test)

    @property
    def outputs(self) -> int:
        return self.y.shape[1]

    def at_nodes(self, e: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """e and u at every node, (times, …, N), of residuals that begin as e, (…, M)."""
        apart = (-1, *(1,) * (e.ndim - 1), e.shape[-1])
        decay, past = ((each.reshape(apart) * e) @ self.slot.T for each in (self.time.remaining, self.time.trained))
        return decay.astype(PRECISION), past.astype(PRECISION)

    def answered(self, drive: np.ndarray) -> np.ndarray:
        """∫ P(t − s) r(s): what a drive moves the outputs by, (…, X)."""
        flat = drive.reshape(len(drive), -1, drive.shape[-1])
        in_modes = np.einsum("tm,tnm->nm", self._lost.astype(PRECISION), flat @ self.slot.astype(PRECISION))
        found = np.tensordot(self.time.total.astype(PRECISION), flat, 1)[:, self.test]
        found -= in_modes @ self.through.T.astype(PRECISION)
        return found.reshape(*drive.shape[1:-1], -1)

    def answered_each(self, drive: np.ndarray) -> np.ndarray:
        """The same by the node at which it drives, (times, …, X), of a drive (times, …, N)."""
        flat = drive.reshape(len(drive), -1, drive.shape[-1])
        total, lost = self.time.total.astype(PRECISION)[:, None, None], self._lost.astype(PRECISION)[:, None]
        slot, through = self.slot.astype(PRECISION), self.through.astype(PRECISION)
        found = total * flat[..., self.test] - (lost * (flat @ slot)) @ through.T
        return found.reshape(*drive.shape[:-1], -1)

    @property
    def _lost(self) -> np.ndarray:
        """What training undoes of a drive at every node, by modes, (times, M)."""
        return np.asarray(self.time.total[:, None] - self.time.damped_total)

    def shifted(self, G1: np.ndarray, H1: np.ndarray, K: np.ndarray) -> tuple[Terms, Terms]:
        """Terms of mean (X, n_L) and covariance (X, n_L, X, n_L) of shifts of the mean metric and of the mean NTK."""
        # H1 drives by −H1 e: linear in e, so that one drive of a unit residual in every mode says all
        unit, _ = self.at_nodes(np.eye(len(self.y)))
        response = self.answered(unit.astype(np.float64) @ H1)  # (M, X)
        half = -response.T @ (self.slot.T @ K @ self.free.T)
        covariance = {"H1": half + half.T, "G1": self.free @ G1 @ self.free.T}
        return {"H1": response.T @ self.y}, {name: self.alike(each) for name, each in covariance.items()}

    def alike(self, shared: np.ndarray) -> np.ndarray:
        """δ_ij shared_xy, (X, n_L, X, n_L)."""
        return np.einsum("xy,ij->xiyj", shared, np.eye(self.outputs))

    def residual_answered(self, drive: np.ndarray) -> np.ndarray:
        """∫_0^s e^{−Θ(s−s′)} r(s′) at every node, (times, …, N): what a drive moves residuals by."""
        flat = drive.reshape(len(drive), -1, drive.shape[-1])
        modes = np.ascontiguousarray((flat @ self.slot).transpose(2, 0, 1))
        moved = np.ascontiguousarray(self.time.damped_running.transpose(2, 0, 1)) @ modes
        return (moved.transpose(1, 2, 0) @ self.slot.T).astype(PRECISION).reshape(drive.shape)


def average(
    layer: HiddenLayer, evolution: Evolution, root: np.ndarray, count: int, rng: np.random.Generator, tally: Tally
) -> tuple[Terms, Terms]:
    """Terms of mean (X, n_L) and covariance (X, n_L, X, n_L) from `count` neurons of one layer, without H1 and G1.

    Arguments
        root: of K at the last layer, from `principal_root`. tally: counts neurons.
    """
    n_L = evolution.outputs
    normals = Normals(count, layer.even_columns + _EVEN_RESIDUAL * n_L, rng)
    answering = int(np.flatnonzero(np.any(evolution.slot, axis=1)).max()) + 1
    neurons = layer.draw(normals, answering)
    zeta = np.stack([normals.draw(len(root), _EVEN_RESIDUAL) @ root.T for _ in range(n_L)])
    signs = normals.signs(len(evolution.y))
    at_once = max(8, _NUMBERS // (len(evolution.time.total) * len(root) * n_L**2))
    mean: Terms = dict.fromkeys(MEAN, 0.0)  # type: ignore[arg-type]
    covariance: Terms = dict.fromkeys(COVARIANCE, 0.0)  # type: ignore[arg-type]
    for at in range(0, count, at_once):
        some = slice(at, at + at_once)
        found = _sums(Drive(layer, neurons.some(some)), evolution, zeta[:, some], signs[some])
        for terms, added in zip((mean, covariance), found, strict=True):
            for name, value in added.items():
                terms[name] = terms[name] + value / count
        tally.add(len(zeta[0, some]))
    return mean, covariance


def _sums(drive: Drive, evolution: Evolution, zeta: np.ndarray, signs: np.ndarray) -> tuple[Terms, Terms]:
    time = evolution.time
    slot, decay, past = (each.astype(PRECISION) for each in (evolution.slot, time.remaining, time.trained))
    traces = Traces.of(drive, slot, decay, past, time.step, evolution.outputs)
    free = zeta @ evolution.free.T
    y = evolution.y.T[:, None]
    above, below = (_moved(drive, evolution, sign * (zeta @ evolution.slot) - y, traces) for sign in (1, -1))
    mean = {name: 0.5 * (above.moved[name] + below.moved[name]).sum(1).T for name in MEAN}
    halves = {name: _paired(0.5 * (above.moved[name] - below.moved[name]), free) for name in MEAN}
    halves["dNTK"] = halves["dNTK"] + 0.5 * (above.with_output + below.with_output)
    halves["NTK_output"] = _with_output(drive, evolution, signs)
    covariance = {name: half + half.transpose(2, 3, 0, 1) for name, half in halves.items()}
    for each in (above, below):
        apart = np.einsum("jmx,imy->xiyj", each.crossed, each.swapped, optimize=True)
        alike = evolution.alike(np.einsum("kmx,kmy->xy", each.crossed, each.crossed, optimize=True))
        pair = _paired(each.fluctuation, each.fluctuation) + alike + 0.5 * (apart + apart.transpose(2, 3, 0, 1))
        covariance["NTK"] = covariance["NTK"] + 0.5 * pair
    return mean, covariance


def _paired(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Summed over neurons, (X, n_L, X, n_L), of what has the shape (n_L, neurons, X)."""
    return np.tensordot(first, second, ((1,), (1,))).transpose(1, 0, 3, 2)


@dataclass(frozen=True)
class _Moved:
    """What neurons move the outputs by.

    moved: by terms, (n_L, neurons, X). with_output: by the dNTK where its z is another output, (X, n_L, X, n_L).
    fluctuation, crossed, swapped: by one ΔH, (n_L, neurons, X), whose products in pairs make A_abcd, B_acbd and B_adbc.
    """

    moved: Mapping[str, np.ndarray]
    with_output: np.ndarray
    fluctuation: np.ndarray
    crossed: np.ndarray
    swapped: np.ndarray


def _moved(drive: Drive, evolution: Evolution, residual: np.ndarray, traces: Traces) -> _Moved:
    time, answered, n_L = evolution.time, evolution.answered, evolution.outputs
    e, u = evolution.at_nodes(residual)
    late = u + PRECISION(0.5 * time.step) * e if time.step else u
    fluctuation, crossed, swapped = drive.fluctuation(e), drive.crossed(e), drive.crossed(e, swapped=True)
    twice = drive.fluctuation(evolution.residual_answered(fluctuation))
    # n⟨ΔH_AB ΔH_BD⟩ over all outputs of B: B_abbd once, B_adbb n_L times
    twice += drive.crossed(evolution.residual_answered(swapped + n_L * crossed), swapped=True)
    first, second = drive.ddNTK(e, u, time.running, time.step)
    moved = {"NTK": twice, "dNTK": drive.dNTK(e, u, late, traces), "ddNTK_I": -first, "ddNTK_II": -second}
    return _Moved(
        {name: answered(each) for name, each in moved.items()},
        _with_dNTK(evolution, drive.dNTK_output(e, u, late)),
        *(-answered(each) for each in (fluctuation, crossed, swapped)),
    )


def _with_dNTK(evolution: Evolution, left: Outputs) -> np.ndarray:
    """dH_ABC e_B e_C with another output, (X, n_L, X, n_L)."""
    over_a, over_e = evolution.answered_each(left.over_a), left.over_e @ evolution.free.T
    found = np.tensordot(over_a, over_e, ((0, 2), (0, 2))).transpose(1, 0, 3, 2)
    alone = np.broadcast_to(left.alone, (len(left.second), *left.alone.shape))
    over_a, over_e = evolution.answered_each(alone), left.second @ evolution.free.T
    found = found + np.einsum("tnx,tminy->xiym", over_a, over_e, optimize=True)
    return found + evolution.alike(_answered_matrix(evolution, left.both))


def _with_output(drive: Drive, evolution: Evolution, signs: np.ndarray) -> np.ndarray:
    """− ΔH_AB e_B with another output, (X, n_L, X, n_L)."""
    still, _ = evolution.at_nodes(signs)
    decay = (evolution.slot * evolution.time.remaining[:, None]) @ evolution.slot.T
    at_zero = (signs @ evolution.slot.T).astype(PRECISION)
    over_a, over_e, both = drive.NTK_output(still, decay.astype(PRECISION), at_zero)
    half = evolution.answered(over_a).T @ (over_e @ evolution.free.T)
    return -evolution.alike(half + evolution.outputs * _answered_matrix(evolution, both))


def _answered_matrix(evolution: Evolution, both: np.ndarray) -> np.ndarray:
    """(X, X) of a matrix over a, which drives, and e, which is free, (times, N, N)."""
    return evolution.answered(both.swapaxes(1, 2)).T @ evolution.free.T
