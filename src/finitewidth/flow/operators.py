r"""Tensors of many inputs as linear operators: contracted with matrices, never formed (THEORY §3).

For N = 1000 inputs V has 10¹² entries. But X_{pq} = Σ over layers of (J⋯J) Cov_u[f_p, f_q] (J⋯J)ᵀ, where J acts entry
by entry on N × N matrices, and where the covariance is an average over neurons: a population of M sample neurons u_m
stands for a layer, and contracting ⟨σ_a σ_b σ_c σ_d⟩ with a matrix B_cd costs two matrix products, M N² each. So

    Y = X : B    is    B⁽ℓ⁾ = J⁽ℓ⁾ᵀ B⁽ℓ⁺¹⁾ down the layers, then Y⁽ℓ⁺¹⁾ = Cov_u[f, f] : B⁽ℓ⁺¹⁾ + r J⁽ℓ⁾ Y⁽ℓ⁾ up again .

The populations are randomised several times; how far their results lie apart is the error.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import scipy.linalg
from scipy.special import ndtri
from scipy.stats import qmc

from finitewidth.architecture import MLP, has_biases, must_be_plain, whole_number
from finitewidth.cores import Progress, Tally, on_all_cores, one_blas_thread
from finitewidth.data import check_inputs
from finitewidth.errors import InputError
from finitewidth.flow.jets import Pair, Term, pair_key
from finitewidth.flow.line import line_flow
from finitewidth.flow.pairs import pair_flow
from finitewidth.flow.vertex import FLUCTUATIONS, Source, component, covariance, jacobian
from finitewidth.gaussian.estimate import Estimate
from finitewidth.gaussian.many_pairs import is_piecewise_linear, many_pairs
from finitewidth.gaussian.population import spread
from finitewidth.gaussian.quartets import PairKey
from finitewidth.precision import in_float64

Kind = tuple[str, str]
"""The directions of a pair of slots, whatever their samples: `("r", "")`."""

_MOST_SOBOL = 128  # inputs
_LINKED_AT_A_TIME = 16  # sample neurons: what they need of memory is bounded so


@dataclass(frozen=True)
class Vertex:
    """The tensors of order 1/n of many inputs, at the last layer, as linear operators. Made by `fw.vertex`.

    Attributes
        net, K, Theta: the network, and the kernels of all layers, shape (L, N, N).
        nodes, randomisations, seed: how many sample neurons stand for a layer, how often, and their seed.
    """

    net: MLP
    K: np.ndarray
    Theta: np.ndarray
    nodes: int
    randomisations: int
    seed: int

    def contract(self, name: str, matrix: Any, *, progress: Progress | None = None) -> Estimate:
        """Σ over one pair of slots of the tensor times a matrix: for V, Σ_cd V_abcd B_cd.

        The pairs of slots are those of NOTATION.md: (ab)(cd), except for P, (ad)(bc). The second pair is summed.
        Cost: of order M N² for each layer with M sample neurons; M N³ for B, P, R, S, U, whose slots two Θ connect.

        Arguments
            name: one of V, D, A, F, B, P, Q, R, S, T, U.
            matrix: B, shape (N, N).
            progress: called with (parts done, parts in all).

        Returns
            an `Estimate` of shape (N, N): the coefficient of 1/n, n the width of the layer before, and one standard
            error over the randomisations of the populations.

        Raises
            InputError: for a name that is none of the tensors, or a matrix of another shape or not finite.
        """
        B = self._checked(name, matrix)
        p, q = ((left, right) for (left, _), (right, _) in FLUCTUATIONS[name])
        with one_blas_thread():
            steps = [_Step.of(self.net, l, self.K[l], self.Theta[l], p, q) for l in range(self.net.depth - 1)]
            down = _pulled_back(steps, q, B)
        tally = Tally(self.randomisations * len(steps), progress)

        def population(i: int) -> np.ndarray:
            up: dict[Kind, np.ndarray] = {}
            for l, step in enumerate(steps):
                seed = np.random.SeedSequence([self.seed, i, l])
                neurons = _population(self.net, step.root, step.orders, self.nodes, seed)
                up = step.pushed_on(up, down[l + 1], neurons, self.nodes)
                tally.add()
            return up.get(p, np.zeros_like(B))

        value, error, _ = spread(np.stack(on_all_cores(population, range(self.randomisations), tally)))
        return Estimate(value, error, "population")

    def _checked(self, name: str, matrix: Any) -> np.ndarray:
        if name not in FLUCTUATIONS:
            raise InputError(f"`name` must be one of {', '.join(FLUCTUATIONS)}, but got {name!r}")
        B, N = np.asarray(matrix, dtype=np.float64), self.K.shape[1]
        if B.shape != (N, N) or not np.all(np.isfinite(B)):
            raise InputError(f"`matrix` must hold finite numbers in the shape ({N}, {N}), but got shape {B.shape}")
        return B


@in_float64
def vertex(net: MLP, x: Any, *, nodes: int = 512, randomisations: int = 8, seed: int = 0) -> Vertex:
    """The tensors of order 1/n for many inputs, as operators that are contracted with matrices.

    Source: THEORY §3. For up to 16 inputs `fw.flow(net, x, order=1)` gives every entry, exactly.

    Arguments
        net: the network; its activation smooth or, as ReLU, linear on either side of the origin.
        x: inputs, shape (N, n_in).
        nodes: sample neurons that stand for a layer, a power of two.
        randomisations: how often, at least 2; their scatter is the error.
        seed: the same seed gives the same numbers.

    Raises
        InputError: for inputs that cannot be used, or an activation with other kinks.

    >>> import finitewidth as fw, numpy as np
    >>> net = fw.MLP("tanh", depth=3, width=100, C_W=1.5)
    >>> x = np.random.default_rng(0).standard_normal((40, 10))
    >>> fw.vertex(net, x).contract("V", np.eye(40)).value.shape
    (40, 40)
    """
    net = must_be_plain(net, "the vertex")
    x = check_inputs(x, may_vanish=has_biases(net))
    if net.n_in is not None and net.n_in != x.shape[1]:
        raise InputError(f"`x` has {x.shape[1]} columns, but the network has n_in = {net.n_in}")
    if net.activation.kinks and not is_piecewise_linear(net.activation):
        raise InputError(
            f"`net` has the activation {net.activation.name}, with kinks that populations of sample neurons do not "
            "resolve; use fw.flow(net, x, order=1) for up to 16 inputs, or an activation that is smooth or like ReLU"
        )
    for name, value in (("nodes", nodes), ("randomisations", randomisations)):
        whole_number(name, value)
    if nodes & (nodes - 1) or randomisations < 2:
        raise InputError(
            f"`nodes` must be a power of two and `randomisations` ≥ 2, but got {nodes} and {randomisations}"
        )
    line = line_flow(net, np.einsum("ai,ai->a", x, x) / x.shape[1])
    K, Theta, _ = pair_flow(net, x, line, list(range(1, net.depth + 1)), None)
    return Vertex(net, K, Theta, nodes, randomisations, seed)


@dataclass(frozen=True)
class _Step:
    """ℓ → ℓ + 1 for one sector: how the kinds of pairs on the left and on the right respond, and what connects them."""

    C_W: float
    lambda_W: float
    ratio: float
    Theta: np.ndarray
    left: dict[Kind, list[tuple[Kind, str, np.ndarray]]]
    right: dict[Kind, list[tuple[Kind, str, np.ndarray]]]
    sources: dict[tuple[Kind, Kind], tuple[Source, ...]]
    pair_means: dict[PairKey, np.ndarray]
    root: np.ndarray

    @classmethod
    def of(cls, net: MLP, l: int, K: np.ndarray, Theta: np.ndarray, p: Kind, q: Kind) -> "_Step":
        C_W, lambda_W = (float(net.per_layer(name)[l + 1]) for name in ("C_W", "lambda_W"))
        kinds = _reached(p), _reached(q)
        sources = {
            (e, g): covariance(_pair(e, "ab"), _pair(g, "cd"))
            for e in kinds[0]
            for g in kinds[1]
            if component(_pair(e, "ab"), _pair(g, "cd")) is not None
        }
        needed = {
            pair_key(*sorted(term.sigmas))
            for side in kinds
            for kind in side
            for terms in jacobian(_pair(kind, "ab")).values()
            for term in terms
        }
        needed |= {
            pair_key(*(s for s in sorted(source.term.sigmas) if s.sample in side))
            for each in sources.values()
            for source in each
            if not source.is_connected
            for side in ("ab", "cd")
        }
        means = many_pairs(net.activation, K, sorted(needed))

        @cache  # both sides of X respond alike
        def amplitude(terms: tuple[Term, ...]) -> np.ndarray:
            total = np.zeros_like(Theta)
            for t in terms:
                value = means[pair_key(*sorted(t.sigmas))]
                total += t.coefficient * C_W**t.C_W * lambda_W**t.lambda_W * value * Theta ** len(t.Thetas)
            return total

        def responses(side: Sequence[Kind]) -> dict[Kind, list[tuple[Kind, str, np.ndarray]]]:
            found = {}
            for kind in side:
                entries = jacobian(_pair(kind, "ab")).items()
                found[kind] = [((e[0][0], e[1][0]), e[0][1] + e[1][1], amplitude(terms)) for e, terms in entries]
            return found

        ratio = net.widths[l] / net.widths[l - 1] if l else 0.0
        return cls(
            C_W, lambda_W, ratio, Theta, responses(kinds[0]), responses(kinds[1]), sources, means, _square_root(K)
        )

    @property
    def orders(self) -> tuple[int, ...]:
        """The derivatives of σ that the sources need."""
        return tuple(sorted({s.order for each in self.sources.values() for source in each for s in source.term.sigmas}))

    def pulled_back(self, B: dict[Kind, np.ndarray]) -> dict[Kind, np.ndarray]:
        """Jᵀ B."""
        found: dict[Kind, np.ndarray] = {}
        for kind, matrix in B.items():
            for child, axes, amplitude in self.right[kind]:
                total = found.setdefault(child, np.zeros_like(matrix))
                product = amplitude * matrix
                if axes[0] != axes[1]:
                    total += product if axes == "ab" else product.T
                else:
                    total[np.diag_indices_from(total)] += product.sum(1 if axes == "aa" else 0)
        return found

    def pushed_on(
        self, Y: dict[Kind, np.ndarray], B: dict[Kind, np.ndarray], neurons: dict[int, np.ndarray], nodes: int
    ) -> dict[Kind, np.ndarray]:
        """Cov_u[f, f] : B + r J Y."""
        found = {kind: np.zeros_like(self.Theta) for kind in self.left}
        for (e, g), sources in self.sources.items():
            if g in B:
                for source in sources:
                    found[e] += self._source(source, B[g], neurons, nodes)
        for kind, responses in self.left.items():
            for child, axes, amplitude in responses:
                if child in Y:
                    found[kind] += self.ratio * amplitude * _spread_over(Y[child], axes)
        return found

    def _source(self, source: Source, B: np.ndarray, neurons: dict[int, np.ndarray], nodes: int) -> np.ndarray:
        """Σ_cd of one term of the covariance times B_cd; Θ within a pair goes to B or to the result."""
        term = source.term
        sigma = {s.sample: neurons[s.order] for s in term.sigmas}
        outer, inner = self.Theta ** term.Thetas.count("ab"), B * self.Theta ** term.Thetas.count("cd")
        links = [T for T in term.Thetas if T not in ("ab", "cd")]
        left, right = sigma["a"], sigma["b"]
        if len(links) > 1:
            total = _multiply_linked(sigma, links, self.Theta, inner) / nodes
        elif links:
            near, far = links[0][0], links[0][1]  # the node's σ_c B_cd σ_d, summed over the one that Θ does not link
            other = sigma["d" if far == "c" else "c"] @ (inner.T if far == "c" else inner)
            weight = (sigma[far] * other) @ self.Theta
            total = (left * weight if near == "a" else left).T @ (right * weight if near == "b" else right) / nodes
        else:
            weight = np.einsum("mc,mc->m", sigma["c"] @ inner, sigma["d"])
            if not source.is_connected:  # around the exact means: then the average over nodes has no bias
                order = {s.sample: s.order for s in term.sigmas}
                weight -= np.sum(inner * self._mean(order["c"], order["d"]))
                total = left.T @ (right * weight[:, None]) / nodes - self._mean(order["a"], order["b"]) * weight.mean()
            else:
                total = left.T @ (right * weight[:, None]) / nodes
        return term.coefficient * self.C_W**term.C_W * self.lambda_W**term.lambda_W * outer * total

    def _mean(self, k: int, l: int) -> np.ndarray:
        """⟨σ⁽ᵏ⁾_a σ⁽ˡ⁾_b⟩ almost everywhere."""
        key = (k, 0, l, 0)
        return self.pair_means[key] if key in self.pair_means else self.pair_means[l, 0, k, 0].T


def _pair(kind: Kind, samples: str) -> Pair:
    return (kind[0], samples[0]), (kind[1], samples[1])


def _reached(kind: Kind) -> tuple[Kind, ...]:
    """A kind of pair, and those that it responds to."""
    found: list[Kind] = []
    todo = [kind]
    while todo:
        each = todo.pop()
        if each not in found:
            found.append(each)
            todo += [(e[0][0], e[1][0]) for e in jacobian(_pair(each, "ab"))]
    return tuple(found)


def _pulled_back(steps: Sequence[_Step], q: Kind, B: np.ndarray) -> list[dict[Kind, np.ndarray]]:
    """B at layers 1 … L."""
    found = [{q: B}]
    for step in reversed(steps):
        found.insert(0, step.pulled_back(found[0]))
    return found


def _spread_over(Y: np.ndarray, axes: str) -> np.ndarray:
    """Y at the samples of `axes`, as a matrix over a and b."""
    if axes[0] != axes[1]:
        return Y if axes == "ab" else Y.T
    diagonal = np.diag(Y)
    return diagonal[:, None] if axes == "aa" else diagonal[None, :]


def _multiply_linked(sigma: dict[str, np.ndarray], links: list[str], Theta: np.ndarray, B: np.ndarray) -> np.ndarray:
    """Σ over nodes and cd of σ_a σ_b σ_c σ_d B_cd Θ Θ: N³ for each node."""
    total, path = np.zeros_like(Theta), None
    for at in range(0, len(sigma["a"]), _LINKED_AT_A_TIME):
        some = [sigma[sample][at : at + _LINKED_AT_A_TIME] for sample in "abcd"]
        operands = (*some, *[Theta] * len(links), B)
        subscripts = f"ma,mb,mc,md,{','.join(links)},cd->ab"
        if path is None:
            path = np.einsum_path(subscripts, *operands, optimize="optimal")[0]
        total += np.einsum(subscripts, *operands, optimize=path)
    return total


def _population(
    net: MLP, root: np.ndarray, orders: tuple[int, ...], nodes: int, seed: np.random.SeedSequence
) -> dict[int, np.ndarray]:
    """σ⁽ᵏ⁾ of sample neurons z ~ N(0, K), K = root rootᵀ, shape (nodes, N), by order.

    Scrambled Sobol points while the inputs are few enough for them to be more even than chance. (`gaussian.population`
    factors K in extended precision, which for a thousand inputs takes longer than all the rest.)
    """
    generator, N = np.random.default_rng(seed), len(root)
    if N <= _MOST_SOBOL:
        sobol = qmc.Sobol(N, scramble=True, bits=52, seed=generator)
        x = ndtri(sobol.random(nodes) + 0.5**53)
    else:
        x = generator.standard_normal((nodes, N))
    return dict(zip(orders, net.activation.evaluate(x @ root.T, orders), strict=True))


def _square_root(K: np.ndarray) -> np.ndarray:
    """Cholesky factor; where K is singular to rounding, of K with that much added to its diagonal."""
    scale = float(np.diag(K).max())
    for added in (0.0, 1e-14, 1e-13, 1e-12, 1e-11, 1e-10):
        try:
            return np.asarray(scipy.linalg.cholesky(K + added * scale * np.eye(len(K)), lower=True))
        except scipy.linalg.LinAlgError:
            continue
    raise InputError("`x` gives a kernel that is not positive semidefinite; check the inputs")
