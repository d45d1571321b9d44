r"""Neurons that cross a kink of σ while they are trained: an effect of order 1/√n, which no tensor of order 1/n holds.

Training moves the preactivations of a hidden neuron by some 1/√n, so that some √n of n neurons cross a kink. Where σ′
jumps, a neuron's velocity jumps too, by what the residual ε of its own input a drives it with:

    ż_ja = o_ja + σ′(z_ja) v_ja ,     v_ja = − Σ_i ε_ia h_ija Θ⁽ℓ⁾_aa ,     ∂z⁽ᴸ⁾_ia/∂z_ja = σ′(z_ja) h_ija ,

    o_ja = − Σ_ib ε_ib (σ′_jb h_ijb Θ⁽ℓ⁾_ab [b ≠ a] + η_ijab) ,

h of variance q⁽ℓ⁾/n_ℓ, and η what the other neurons of the layer do to this one, of variance q ⟨σ′σ′⟩ B⁽ℓ⁾/n_{ℓ−1}.
With c₋ and c₊ the velocities below and above a kink κ of density p, neurons cross it upwards where both are positive,
as fast as c₋ brings them, downwards where both are negative, as fast as |c₊| does, and where c₋ > 0 > c₊ they stay on
it. Up and down are equally likely (h → −h), yet not equally fast: a ReLU neuron that dies is not moved any more. So
slopes are lost,

    dE[Δσ′_ja]/dt = p(κ) R(c₋, c₊) ,     ΔH_{(ia)(kb)} = Σ_j Δσ′_ja h_ija (σ′_jb h_kjb Θ⁽ℓ⁾_ab + η_kjab) + (ia ↔ kb) ,

for a = b with Δσ′² in place of 2 σ′ Δσ′; and the outputs move by −∫ P(t − s) ΔH(s) ε(s) ds. Averages are over sample
networks (their ε) and sample neurons (z, h, η). For one input and one hidden layer of ReLU this is the closed form

    E ΔH(t) = −n^{−1/2} C_W^{3/2} Θ⁽¹⁾² ∫|ε|/(π √K⁽¹⁾) .

Our own derivation, checked against trained networks of widths 32 to 512 (docs/prediction.md). Left out: what is of
order 1/n, and that the density at the kink changes when velocities turn round.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from finitewidth.activations import Activation
from finitewidth.algorithms import GradientDescent, GradientFlow
from finitewidth.architecture import MLP
from finitewidth.gaussian.normals import principal_root
from finitewidth.training.infinite_width import Kernels
from finitewidth.training.many_inputs.averages import Evolution

_MOST, _FEWEST = 4096, 128  # sample networks, each with one sample neuron of every layer
_NUMBERS = 2**21  # residuals of all of them
_MANY_STEPS = 200  # that are taken for a flow
_BESIDE = 1e-9  # of a kink, where σ′ is evaluated


@dataclass(frozen=True)
class Crossings:
    """What crossing neurons do, coefficients of 1/√n with their standard errors, (X, n_L) each.

    mean: to E z. variance: to the variance of z. n: the width of the layer before the output.
    """

    mean: np.ndarray
    mean_error: np.ndarray
    variance: np.ndarray
    variance_error: np.ndarray


class _Bend(NamedTuple):
    """A kink, and σ′ below and above."""

    place: float
    below: float
    above: float


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


def crossings(
    net: MLP,
    algorithm: GradientFlow | GradientDescent,
    kernels: Kernels,
    K: np.ndarray,
    Theta: np.ndarray,
    targets: np.ndarray,
) -> Crossings:
    """What neurons that cross kinks do to the outputs.

    Arguments
        kernels: of the last layer. K, Theta: of all layers, (L, N, N). targets: (N_T, n_L).
    """
    shape, bends = (len(kernels.test), targets.shape[1]), _bends(net.activation)
    if not bends:
        return Crossings(*np.zeros((4, *shape)))
    evolution = Evolution.of(_short(algorithm), kernels, targets)
    times = len(evolution.time.total)
    count = int(np.clip(_NUMBERS // (times * len(kernels.K) * shape[1]), _FEWEST, _MOST))
    rng = np.random.default_rng(0)
    root = principal_root(kernels.K)
    zeta = rng.standard_normal((count // 2, shape[1], len(kernels.K))) @ root.T
    zeta = np.concatenate([zeta, -zeta])
    at_zero = zeta @ evolution.slot - evolution.y.T
    residual = (at_zero[:, :, None] * evolution.time.remaining) @ evolution.slot.T  # (count, n_L, times, N)
    drive = np.zeros(residual.shape)
    layers = _layers(net, K, Theta, count, rng)
    for a in np.unique(kernels.train):
        B = np.zeros_like(kernels.K)
        for layer in layers:
            for bend in bends:
                _add(drive, _Input(layer, a, B, residual, rng), bend, evolution.time.running)
            B = _next_B(layer, a, B)
    by_time = np.moveaxis(drive, 2, 0).reshape(times, count * shape[1], -1)
    moved = evolution.answered(by_time).reshape(count, shape[1], -1)
    free = zeta @ evolution.free.T
    unit, shared = np.sqrt(net.widths[-1]), 2 * moved * free
    found = (each for of in (moved, shared) for each in (of.mean(0).T, of.std(0).T / np.sqrt(count)))
    return Crossings(*(unit * each for each in found))


def _bends(activation: Activation) -> list[_Bend]:
    """Kinks at which σ′ jumps."""
    places = np.array(activation.kinks)
    beside = _BESIDE * np.maximum(1.0, np.abs(places))
    below, above = activation.evaluate(np.stack([places - beside, places + beside]), (1,))[0]
    found = zip(places.tolist(), below.tolist(), above.tolist(), strict=True)
    return [_Bend(*each) for each in found if abs(each[1] - each[2]) > 1e-6]


def _short(algorithm: GradientFlow | GradientDescent) -> GradientFlow | GradientDescent:
    """Many steps as a flow: of an estimate, summing over all of them would be most of the work."""
    if isinstance(algorithm, GradientDescent) and algorithm.steps > _MANY_STEPS:
        return GradientFlow(algorithm.step * algorithm.steps)
    return algorithm


def _layers(net: MLP, K: np.ndarray, Theta: np.ndarray, count: int, rng: np.random.Generator) -> list[_Layer]:
    C_W = [float(each) for each in net.per_layer("C_W")]
    found: list[_Layer] = []
    q = np.full(K[0].shape, C_W[-1])
    for l in reversed(range(net.depth - 1)):
        z = rng.standard_normal((count, len(K[l]))) @ principal_root(K[l]).T
        slopes = net.activation.evaluate(z, (1,))[0]
        mean = slopes.T @ slopes / count
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


class _Input(NamedTuple):
    """One input's crossings in one layer: B as in `_next_B`, residuals (count, n_L, times, N)."""

    layer: _Layer
    a: int
    B: np.ndarray
    residual: np.ndarray
    rng: np.random.Generator


def _add(drive: np.ndarray, at: _Input, bend: _Bend, running: np.ndarray) -> None:
    """Adds what crossings of one kink drive the outputs with, (count, n_L, times, N): −ΔH ε."""
    layer, a, residual, rng = at.layer, at.a, at.residual, at.rng
    count, outputs, _, N = residual.shape
    on_kink = _on_kink(layer, a, bend.place, rng.standard_normal((count, N)))
    K_aa, Theta_a = layer.K[a, a], layer.Theta[a]
    density = np.exp(-(bend.place**2) / (2 * K_aa)) / np.sqrt(2 * np.pi * K_aa)
    h = rng.standard_normal((count, outputs, N)) @ layer.root_of_q.T
    between = layer.q * layer.mean_slopes * at.B / layer.width_before
    eta = rng.standard_normal((count, outputs, N)) @ _root(between).T
    pull = h * on_kink[:, None] * Theta_a + eta  # of every output and input on z_ja; its own besides
    own = -np.einsum("mit,mi->mt", residual[..., a], h[..., a]) * Theta_a[a]
    other = -np.sum(residual @ pull[..., None], axis=1)[..., 0]

    rates = [_lost(sign * other, sign * own, bend) for sign in (1.0, -1.0)]
    strength = 0.5 * layer.width * density
    of_slope, of_square = (strength * (up + down) @ running.T for up, down in zip(*rates, strict=True))
    drive[..., a] += h[..., a][..., None] * (of_slope * other + of_square * own)[:, None]
    drive += pull[:, :, None] * (of_slope * own / Theta_a[a])[:, None, :, None]


def _on_kink(layer: _Layer, a: int, place: float, normal: np.ndarray) -> np.ndarray:
    """σ′ at all inputs of neurons with z_a = κ, (count, N); 0 at a itself."""
    along = layer.K[a] / layer.K[a, a]
    z = along * place + normal @ _root(layer.K - np.outer(layer.K[a], along)).T
    slopes = layer.activation.evaluate(z, (1,))[0].copy()
    slopes[:, a] = 0.0
    return slopes


def _root(covariance: np.ndarray) -> np.ndarray:
    """R with R Rᵀ = covariance, to a billionth: of one matrix for every input, an eigenbasis would be slow."""
    noise = 1e-9 * max(float(covariance.diagonal().max()), np.finfo(float).tiny)
    return np.linalg.cholesky(covariance + noise * np.eye(len(covariance)))


def _lost(other: np.ndarray, own: np.ndarray, bend: _Bend) -> tuple[np.ndarray, np.ndarray]:
    """R of σ′ and of σ′²: what becomes of slopes in a unit of time, for a unit density at the kink."""
    below, above = other + bend.below * own, other + bend.above * own
    up, down = (below > 0) & (above > 0), (below < 0) & (above < 0)
    stays = (below > 0) & (above < 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(stays, below / (below - above), 0.0)
    slope = bend.below + (bend.above - bend.below) * share  # at which a neuron on the kink stands still

    def rate(first: float, kept: np.ndarray, last: float) -> np.ndarray:
        crossing = np.where(up, below, 0.0) + np.where(down, above, 0.0)
        return crossing * (last - first) + np.where(stays, below * (kept - first) - above * (kept - last), 0.0)

    return rate(bend.below, slope, bend.above), rate(bend.below**2, slope**2, bend.above**2)
