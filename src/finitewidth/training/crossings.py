r"""Neurons that cross a kink of σ while they are trained: an effect of order 1/√n, which no tensor of order 1/n holds.

Training moves the preactivations of a hidden neuron by some 1/√n, so that some √n of n neurons cross a kink. Where σ′
jumps, a neuron's velocity jumps too, by what the residual ε of its own input a drives it with:

    ż_ja = o_ja + σ′(z_ja) v_ja ,     v_ja = − Σ_i ε_ia h_ija Θ⁽ℓ⁾_aa ,     ∂z⁽ᴸ⁾_ia/∂z_ja = σ′(z_ja) h_ija ,

    o_ja = − Σ_ib ε_ib (σ′_jb h_ijb Θ⁽ℓ⁾_ab [b ≠ a] + η_ijab) ,

h of variance q⁽ℓ⁾/n_ℓ, and η what the other neurons of the layer do to this one, of variance q ⟨σ′σ′⟩ B⁽ℓ⁾/n_{ℓ−1}.
Up and down are equally likely (h → −h), yet not equally fast: a ReLU neuron that dies is not moved any more. So slopes
are lost. With p(κ) the density of z at the kink, and Δσ′ what neurons near it have won since the start, of which
`kink_paths` follows each,

    E[Δσ′_ja] = p(κ) ∫ Δσ′ dx ,     ΔH_{(ia)(kb)} = Σ_j Δσ′_ja h_ija (σ′_jb h_kjb Θ⁽ℓ⁾_ab + η_kjab) + (ia ↔ kb) ,

for a = b with Δσ′² in place of 2 σ′ Δσ′; and the outputs move by −∫ P(t − s) ΔH(s) ε(s) ds. Of an input that is not
trained on v is zero, and nothing is lost. Averages are over sample networks (their ε) and sample neurons (z, h, η). For
one input and one hidden layer of ReLU this is the closed form

    E ΔH(t) = −n^{−1/2} C_W^{3/2} Θ⁽¹⁾² ∫|ε|/(π √K⁽¹⁾) .

Our own derivation, checked against trained networks of widths 32 to 2048 (docs/prediction.md). Left out is order 1/n,
and of descent what a step does that is half below a kink and half above, of order η.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.special import ndtr

from finitewidth.activations import Activation
from finitewidth.algorithms import GradientDescent, GradientFlow
from finitewidth.architecture import MLP
from finitewidth.gaussian.estimate import Estimate
from finitewidth.gaussian.normals import Normals, principal_root
from finitewidth.gaussian.population import spread
from finitewidth.training.infinite_width import Kernels
from finitewidth.training.kink_paths import Bend, bends, changes
from finitewidth.training.many_inputs.averages import Evolution

_POPULATIONS = 8  # independent ones, whose scatter is the error
_MOST, _FEWEST = 1024, 16  # sample networks of each, with one sample neuron of every layer near every kink
_NUMBERS = 2**22  # residuals of all of them
_EVEN, _EVEN_COLUMNS = 2, 32  # columns of even normals: of every draw, and in all
_MANY_STEPS = 200  # that are taken for a flow


@dataclass(frozen=True)
class Crossings:
    """What crossing neurons do to E z and to the variance of z: coefficients of 1/√n, (X, n_L) each.

    n is the width of the layer before the output. Errors are standard errors.
    """

    mean: Estimate
    variance: Estimate


def crossings(
    net: MLP,
    algorithm: GradientFlow | GradientDescent,
    kernels: Kernels,
    K: np.ndarray,
    Theta: np.ndarray,
    targets: np.ndarray,
) -> Crossings | None:
    """What neurons that cross kinks do to the outputs, −∫ P(t − s) ΔH(s) ε(s) ds, at order 1/√n; order 1/n is dropped.

    Source: derived in this module.

    Arguments
        net, algorithm: the network, and how it is trained.
        kernels: of the last layer. K, Theta: of all layers, (L, N, N). targets: (N_T, n_L).

    Returns
        None for networks without kinks; where σ′ does not jump at them, zeros.
    """
    if not net.activation.kinks or net.depth == 1:
        return None
    if not (kinks := bends(net.activation)):
        nothing = _nothing(len(kernels.test), targets.shape[1])
        return Crossings(nothing, nothing)
    sample = _Sample.of(algorithm, kernels, targets)
    drive = np.zeros(sample.residual.shape)
    for each in sample.crossings(net, kinks, K, Theta):
        slope, square = (change[:, None, :-1, None] for change in (each.slope, each.square))
        own, other = (velocity[:, None, :, None] for velocity in (each.own, each.other))
        h, pull = each.h[:, :, None], each.pull[:, :, None]
        drive[..., each.a : each.a + 1] += h[..., each.a : each.a + 1] * (slope * other + square * own)
        drive += pull * (slope * own / each.Theta_aa)
    moved = sample.evolution.answered(np.moveaxis(drive, 2, 0))
    shared = 2 * moved * (sample.zeta @ sample.evolution.free.T)
    means = (_in_populations(each).mean(1).swapaxes(1, 2) for each in (moved, shared))
    return Crossings(*(spread(np.sqrt(net.widths[-1]) * each) for each in means))


def kernel_crossings(
    net: MLP,
    algorithm: GradientFlow | GradientDescent,
    kernels: Kernels,
    K: np.ndarray,
    Theta: np.ndarray,
    targets: np.ndarray,
) -> Estimate | None:
    """What neurons that cross kinks do to the tangent kernel, E ΔH after training: the coefficient of 1/√n.

    Source: derived in this module. Order 1/n is dropped.

    Arguments
        as `crossings`.

    Returns
        (X, n_L, X, n_L), with standard errors; None for networks without kinks.
    """
    if not net.activation.kinks or net.depth == 1:
        return None
    n_L, N, test = targets.shape[1], len(kernels.K), kernels.test
    if not (kinks := bends(net.activation)):
        return _nothing(len(test), n_L, len(test), n_L)
    sample = _Sample.of(algorithm, kernels, targets)
    change = np.zeros((_POPULATIONS, N, n_L, N, n_L))
    for each in sample.crossings(net, kinks, K, Theta):
        a, Theta_aa = each.a, each.Theta_aa
        h, pull, slope = map(_in_populations, (each.h[..., a], each.pull, each.slope[:, -1]))
        crossed = np.einsum("pm,pmi,pmkb->pibk", slope, h, pull)
        change[:, a] += crossed
        change[:, :, :, a] += crossed.transpose(0, 2, 3, 1)
        # of neurons that stay on a kink a network has σ′² below for part of the time, and above: a mean of two values,
        # as that of σ′ is, (a + b) E σ′ − a b
        square = (each.bend.below + each.bend.above) * slope
        change[:, a, :, a] += Theta_aa * np.einsum("pm,pmi,pmk->pik", square, h, h)
    change /= len(sample.zeta) / _POPULATIONS
    return spread(np.sqrt(net.widths[-1]) * change[:, test][:, :, :, test])


def _nothing(*shape: int) -> Estimate:
    return Estimate(np.zeros(shape), np.zeros(shape), "no crossings")


def _in_populations(samples: np.ndarray) -> np.ndarray:
    return samples.reshape(_POPULATIONS, -1, *samples.shape[1:])


def _short(algorithm: GradientFlow | GradientDescent) -> GradientFlow | GradientDescent:
    """Many steps as a flow: of an estimate, summing over all of them would be most of the work."""
    if isinstance(algorithm, GradientDescent) and algorithm.steps > _MANY_STEPS:
        return GradientFlow(algorithm.step * algorithm.steps)
    return algorithm


Draw = Callable[[int], np.ndarray]
"""Standard normals for every sample network, (count, columns)."""


@dataclass(frozen=True)
class _Sample:
    """Sample networks, `_POPULATIONS` times as many as in each population.

    evolution: the free one. zeta: outputs at initialisation, (count, n_L, N). residual: (count, n_L, times, N), zero
    where an input is not trained on. train: inputs that are. draw: more normals for them.
    """

    evolution: Evolution
    zeta: np.ndarray
    residual: np.ndarray
    train: np.ndarray
    draw: Draw

    @classmethod
    def of(cls, algorithm: GradientFlow | GradientDescent, kernels: Kernels, targets: np.ndarray) -> "_Sample":
        """Of kernels of the last layer and targets of shape (N_T, n_L)."""
        evolution = Evolution.of(_short(algorithm), kernels, targets)
        N, n_L = len(kernels.K), targets.shape[1]
        most = _NUMBERS // (_POPULATIONS * len(evolution.time.total) * N * n_L)
        count = 2 ** int(np.log2(np.clip(most, _FEWEST, _MOST)))
        children = np.random.SeedSequence(0).spawn(_POPULATIONS)
        normals = [Normals(count, _EVEN_COLUMNS, np.random.default_rng(child)) for child in children]

        def draw(columns: int) -> np.ndarray:
            return np.concatenate([each.draw(columns, _EVEN) for each in normals])

        root = principal_root(kernels.K)
        zeta = np.stack([draw(N) @ root.T for _ in range(n_L)], axis=1)
        at_zero = zeta @ evolution.slot - evolution.y.T
        residual = (at_zero[:, :, None] * evolution.time.remaining) @ evolution.slot.T
        return cls(evolution, zeta, residual, np.unique(kernels.train), draw)

    def crossings(self, net: MLP, kinks: list[Bend], K: np.ndarray, Theta: np.ndarray) -> Iterator["_Crossing"]:
        """Of every training input, hidden layer and kink."""
        layers = _layers(net, K, Theta, self.draw)
        for a in self.train.tolist():
            B = np.zeros_like(K[0])
            for layer in layers:
                for bend in kinks:
                    yield _crossing(self, layer, a, B, bend)
                B = _next_B(layer, a, B)


class _Crossing(NamedTuple):
    """Neurons of one layer near one kink on one input a, one for each sample network.

    Theta_aa: Θ_aa of the layer. h: (count, n_L, N). pull: of every output and input on z_ja, (count, n_L, N), which is
    σ′_jb h_jb Θ_ab [b ≠ a] + η. other, own: o and v at the nodes of training time, (count, times). slope, square:
    n_ℓ p(κ) ∫ Δσ′ dx and that of Δσ′² at the nodes and at the end, (count, times + 1), means of h and −h.
    """

    a: int
    bend: Bend
    Theta_aa: float
    h: np.ndarray
    pull: np.ndarray
    other: np.ndarray
    own: np.ndarray
    slope: np.ndarray
    square: np.ndarray


def _crossing(sample: _Sample, layer: "_Layer", a: int, B: np.ndarray, bend: Bend) -> _Crossing:
    """B: as in `_next_B`."""
    residual, time = sample.residual, sample.evolution.time
    n_L, N = residual.shape[1], residual.shape[3]
    K_aa, Theta_aa = float(layer.K[a, a]), float(layer.Theta[a, a])
    h = np.stack([sample.draw(N) @ layer.root_of_q.T for _ in range(n_L)], axis=1)
    between = _root(layer.q * layer.mean_slopes * B / layer.width_before)
    eta = np.stack([sample.draw(N) @ between.T for _ in range(n_L)], axis=1)
    pull = h * _on_kink(layer, a, bend.place, sample.draw(N))[:, None] * layer.Theta[a] + eta
    own = -np.einsum("mit,mi->mt", residual[..., a], h[..., a]) * Theta_aa
    other = -np.sum(residual @ pull[..., None], axis=1)[..., 0]
    until = np.vstack([time.running, time.total])
    offset = ndtr(sample.draw(1))[:, 0]
    near = 0.5 * layer.width * np.exp(-(bend.place**2) / (2 * K_aa)) / np.sqrt(2 * np.pi * K_aa)  # for h and for −h
    slope, square = (near * each for each in changes(other, own, bend, until, offset))
    return _Crossing(a, bend, Theta_aa, h, pull, other, own, slope, square)


@dataclass(frozen=True)
class _Layer:
    """A hidden layer: kernels of all inputs, q and a root of q/n_ℓ, sampled σ′ (count, N) and ⟨σ′σ′⟩.

    C_W: of the weights behind it. width, width_before: its own, and that of the layer before, ∞ where there is none.
    """

    activation: Activation
    K: np.ndarray
    Theta: np.ndarray
    q: np.ndarray
    root_of_q: np.ndarray
    slopes: np.ndarray
    mean_slopes: np.ndarray
    C_W: float
    width: int
    width_before: float


def _layers(net: MLP, K: np.ndarray, Theta: np.ndarray, draw: Draw) -> list[_Layer]:
    C_W = [float(each) for each in net.per_layer("C_W")]
    found: list[_Layer] = []
    q = np.full(K[0].shape, C_W[-1])
    for l in reversed(range(net.depth - 1)):
        slopes = net.activation.evaluate(draw(len(K[l])) @ principal_root(K[l]).T, (1,))[0]
        mean = slopes.T @ slopes / len(slopes)
        before = float(net.widths[l - 1]) if l else np.inf
        root = principal_root(q / net.widths[l])
        found.append(_Layer(net.activation, K[l], Theta[l], q, root, slopes, mean, C_W[l + 1], net.widths[l], before))
        q = C_W[l] * mean * q
    return found[::-1]


def _next_B(layer: _Layer, a: int, B: np.ndarray) -> np.ndarray:
    """B_{aabb′} of the next layer, the variance of H_jk between its neurons: THEORY §3, with χ⊥ for its response."""
    slopes, square = layer.slopes, layer.slopes[:, a] ** 2
    source = (square[:, None] * slopes).T @ slopes / len(slopes) * np.outer(layer.Theta[a], layer.Theta[a])
    carried = layer.width / layer.width_before * square.mean() * layer.mean_slopes * B
    return np.asarray(layer.C_W**2 * (source + carried))


def _on_kink(layer: _Layer, a: int, place: float, normal: np.ndarray) -> np.ndarray:
    """σ′ at all inputs of neurons with z_a = κ, (count, N); 0 at a itself."""
    along = layer.K[a] / layer.K[a, a]
    # of inputs x and −x nothing is left but rounding, beside which K itself is the measure
    left = _root(layer.K - np.outer(layer.K[a], along), float(layer.K.diagonal().max()))
    z = along * place + normal @ left.T
    slopes = layer.activation.evaluate(z, (1,))[0].copy()
    slopes[:, a] = 0.0
    return slopes


def _root(covariance: np.ndarray, size: float = 0.0) -> np.ndarray:
    """R with R Rᵀ = covariance, to a billionth of it or of `size`: of so many matrices eigenbases would be slow."""
    noise = 1e-9 * max(float(covariance.diagonal().max()), size, np.finfo(float).tiny)
    return np.linalg.cholesky(covariance + noise * np.eye(len(covariance)))
