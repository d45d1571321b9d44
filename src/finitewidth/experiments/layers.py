"""Networks drawn layer by layer without their weights, exactly (THEORY §3).

Given layer ℓ, the neurons of layer ℓ + 1 are independent, each Gaussian over the inputs with the covariance Ĝ⁽ℓ⁺¹⁾ that
layer ℓ decides. So a network of width n is drawn on N inputs with n N numbers a layer in place of n² weights, and every
function of preactivations, of whatever layers, has the law that it has in networks with weights.

The same holds for derivatives. Along random directions in parameter space, ε_r ~ N(0, λ), r ∈ {r, s, t}, let z_I be the
mixed derivative of z along the directions in I (z_∅ = z), and s_I those of σ(z),

    s_I = Σ_π σ^(|π|)(z) Π_{B∈π} z_B       over partitions π of I (Faà di Bruno).

Given layer ℓ, the z_I of layer ℓ + 1 are jointly Gaussian, independent over neurons, with the covariance

    Ĝ_(Ia)(Jb) = C_b [I=J=∅] + λ_b [I=J={r}] + (1/n) Σ_j { C_W s_I;ja s_J;jb + λ_W Σ_{r∈I∩J} s_I∖r;ja s_J∖r;jb } ,

since W and b are Gaussian, and so are the directions: ∂_I of W s contains W s_I and ε_r s_{I∖r}, no more. Directions
average to the contracted derivatives, E_ε[z_r z_r] = H, E_ε[z_rs z_r z_s] = dH, …, in each of which a direction stands
twice. With two different output neurons, a tensor is therefore n E[Ĝ_p Ĝ_q], less the product of means where that does
not vanish: at every width, without a derivative being taken.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations

import jax
import jax.numpy as jnp
import numpy as np

from finitewidth.architecture import MLP
from finitewidth.errors import InputError
from finitewidth.experiments.drawn import place
from finitewidth.experiments.normals import normals
from finitewidth.experiments.patterns import partitions
from finitewidth.experiments.tensors import TENSORS

Pair = tuple[tuple[str, str], tuple[str, str]]

# E[z of one neuron] × E[z of another]: (I, axis), (J, axis) of each. Definitions of `tensors`, each derivative there
# along a direction here.
PAIRS: dict[str, tuple[Pair, ...]] = {
    "K": ((("", "a"), ("", "b")),),
    "Theta": ((("r", "a"), ("r", "b")),),
    "V": ((("", "a"), ("", "b")), (("", "c"), ("", "d"))),
    "A": ((("r", "a"), ("r", "b")), (("s", "c"), ("s", "d"))),
    "B": ((("r", "a"), ("s", "b")), (("r", "c"), ("s", "d"))),
    "D": ((("", "a"), ("", "b")), (("r", "c"), ("r", "d"))),
    "F": ((("", "a"), ("r", "b")), (("", "c"), ("r", "d"))),
    "P": ((("rs", "a"), ("", "d")), (("r", "b"), ("s", "c"))),
    "Q": ((("rs", "a"), ("r", "b")), (("s", "c"), ("", "d"))),
    "R": ((("rst", "a"), ("r", "b")), (("s", "c"), ("t", "d"))),
    "S": ((("rs", "a"), ("rt", "b")), (("s", "c"), ("t", "d"))),
    "T": ((("rs", "a"), ("s", "b")), (("rt", "d"), ("t", "c"))),
    "U": ((("rs", "a"), ("t", "b")), (("rt", "c"), ("s", "d"))),
}
LAPACK_FROM = 48  # beyond so many rows, an eigenvalue decomposition by LAPACK is the faster root


class Layerwise:
    """A network whose layers are drawn one after the other, without weights.

    Arguments
        key: a JAX random key. net: the architecture. x: (N, n_in) inputs.
        jets: the derivatives to be drawn, labels I such as "", "r", "rs"; with each, all parts of it.
    """

    def __init__(self, key: jax.Array, net: MLP, x: jax.Array, *, jets: Sequence[str]) -> None:
        self.net, self.x, self._jets = net, x, tuple(jets)
        none = jnp.zeros_like(x.T)
        s = jnp.stack([none if I else x.T for I in self._jets])
        self._z, self._metrics = [], []
        for l, n in enumerate((*net.widths, net.n_out)):
            G = self._metric(l, s)
            size = G.shape[0] * G.shape[1]
            root = root_of(G.reshape(size, size))
            drawn = root @ normals(jax.random.fold_in(key, l), (root.shape[1], n))
            jet = drawn.reshape(len(self._jets), x.shape[0], n)
            s = self._activated(jet)
            self._metrics.append(G)
            self._z.append(jet[0].T)

    def z(self, layer: int | None = None) -> jax.Array:
        return self._z[place(self.net, layer)]

    @property
    def parameters(self) -> None:
        raise InputError(
            "`observables` read weights, but draw='layers' draws none; say so with needs='weights', and use "
            "draw='networks'"
        )

    H = derivatives = parameters

    def tensor(self, name: str) -> Mapping[str, jax.Array]:
        first, *others = (self._of(pair) for pair in PAIRS[name])
        if not others:
            return {"product": first}
        n = float((self.x.shape[1], *self.net.widths)[-1])
        axes = ["".join(axis for _, axis in pair) for pair in PAIRS[name]]
        product = n * jnp.einsum(f"{axes[0]},{axes[1]}->abcd", first, others[0])
        if TENSORS[name].means is None:
            return {"product": product}
        return {"product": product, "first": n * first, "second": others[0]}

    def _of(self, pair: Pair) -> jax.Array:
        """Ĝ⁽ᴸ⁾ of a pair, (N, N)."""
        (I, _), (J, _) = pair
        return self._metrics[-1][self._jets.index(I), :, self._jets.index(J), :]

    def _metric(self, l: int, s: jax.Array) -> jax.Array:
        """Ĝ of layer index l from the jets s of what comes in, (jets, n, N): axes (I, a, J, b)."""
        net, n = self.net, s.shape[1]
        C_b, C_W, lambda_b, lambda_W = (net.per_layer(name)[l] for name in ("C_b", "C_W", "lambda_b", "lambda_W"))
        G = C_W / n * jnp.einsum("Ija,Kjb->IaKb", s, s)
        constant = jnp.zeros((len(self._jets), len(self._jets))).at[0, 0].set(C_b)
        for r in sorted(set("".join(self._jets))):
            with_r = jnp.array([r in I for I in self._jets])
            without = [self._jets.index(I.replace(r, "")) for I in self._jets]
            less = jnp.where(with_r[:, None, None], s[jnp.array(without)], 0.0)  # s_{I∖r}, where I has r
            G = G + lambda_W / n * jnp.einsum("Ija,Kjb->IaKb", less, less)
            place_of_r = self._jets.index(r)
            constant = constant.at[place_of_r, place_of_r].set(lambda_b)
        return G + constant[:, None, :, None]

    def _activated(self, z: jax.Array) -> jax.Array:
        """s_I from z_I, (jets, N, n) to (jets, n, N)."""
        at = dict(zip(self._jets, z, strict=True))
        derivative = [self.net.activation.derivative(k)(z[0]) for k in range(1 + max(map(len, self._jets)))]
        s = []
        for I in self._jets:
            value = jnp.zeros_like(z[0])
            for blocks in partitions(range(len(I))):
                term = derivative[len(blocks)]
                for block in blocks:
                    term = term * at["".join(I[p] for p in sorted(block))]
                value = value + term
            s.append(value.T)
        return jnp.stack(s)


def jets_for(tensors: Sequence[str]) -> tuple[str, ...]:
    """The jets that these tensors need, with all parts of each, shortest first."""
    wanted = {I for name in tensors for pair in PAIRS[name] for I, _ in pair} | {""}
    closed = {"".join(part) for I in wanted for k in range(len(I) + 1) for part in combinations(I, k)}
    return tuple(sorted(closed, key=lambda I: (len(I), I)))


def root_of(G: jax.Array) -> jax.Array:
    """R with R Rᵀ = G, for a positive semidefinite G of any rank: inputs may repeat, or outnumber neurons."""
    if G.shape[0] > LAPACK_FROM:
        values, vectors = jnp.linalg.eigh(G)
        return vectors * jnp.sqrt(jnp.maximum(values, 0.0))
    return _pivoted(G)


def _pivoted(G: jax.Array) -> jax.Array:
    """Cholesky with the largest remaining diagonal first, stopped where nothing but rounding remains.

    Column by column in one program: for small matrices a call of LAPACK takes longer than the work.
    """
    size = G.shape[0]
    smallest = size * np.finfo(np.float64).eps * jnp.max(jnp.diagonal(G))

    def step(k: int, state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        rest, root = state
        diagonal = jnp.diagonal(rest)
        pivot = jnp.argmax(diagonal)
        value = diagonal[pivot]
        enough = value > smallest
        column = jnp.where(enough, rest[:, pivot] / jnp.sqrt(jnp.where(enough, value, 1.0)), 0.0)
        # a diverged network must show: what is not finite is not "not enough"
        column = jnp.where(jnp.isfinite(value), column, jnp.nan)
        return rest - jnp.outer(column, column), root.at[:, k].set(column)

    return jax.lax.fori_loop(0, size, step, (G, jnp.zeros_like(G)))[1]
