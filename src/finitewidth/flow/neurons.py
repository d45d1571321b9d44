r"""What one neuron of a hidden layer adds to the last layer's tensors: applied to vectors, never formed (THEORY §3).

A neuron u of layer ℓ moves the metric of its successor by f(u)/n, and the layers behind it answer linearly, entry by
entry on N × N matrices. So every entry of Ĝ at the last layer is moved by a *pair operator* of that neuron,

    O_ab(u) = Σ_k L_k(a) E_k(a, b) R_k(b) ,    L_k, R_k products of σ⁽ⁱ⁾(u),  E_k fixed matrices,

and a tensor is the average over neurons of two of them, joined by a Θ⁽ℓ⁾ for every direction that occurs in both:

    A_abcd = ⟨O^{r,r}_ab O^{r,r}_cd⟩ ,    T_abcd = ⟨O^{rs,r}_ab Θ_ac O^{rs,r}_cd⟩ ,
    R_abcd = ⟨O^{rst,r}_ab Θ_ac Θ_ad d_c d_d⟩ …

For pairs whose slots hold different directions, (r, s) and (rs, t), the layers behind answer by χ⊥_ab alone. There
⟨σ′_a σ′_b⟩ is drawn too, one neuron a layer: a *path* d_a = √C_W σ′_a Π √C_W σ′_a(u′). So joins by Θ never close a
circle, and every contraction with vectors is a chain of matrix products.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from itertools import permutations
from typing import NamedTuple

import numpy as np

from finitewidth.activations import Activation
from finitewidth.architecture import MLP
from finitewidth.flow.jets import Pair, Sigma, Term, feature, pair_key
from finitewidth.flow.vertex import jacobian
from finitewidth.gaussian.kinked import PairKey
from finitewidth.gaussian.many_pairs import many_pairs
from finitewidth.gaussian.normals import Normals, principal_root

Kind = tuple[str, str]
"""The directions of a pair of slots: `("rs", "r")`."""

Form = str
"""Where a pair that a response reads has its slots: `"ab"`, or both at one sample, `"aa"`."""

Reads = Mapping[tuple[Kind, Form], np.ndarray]
"""What an entry of Ĝ makes of those of an earlier layer: kind and form of the pair -> factor, (N, N)."""

Means = Mapping[PairKey, np.ndarray]
"""⟨∂ⁱσ⁽ᵏ⁾_a ∂ʲσ⁽ˡ⁾_b⟩ by (k, i, l, j)."""

OPERATORS: tuple[Kind, ...] = (("", ""), ("r", ""), ("r", "r"), ("rs", ""), ("rs", "r"), ("rs", "rt"), ("rst", "r"))
_PATHS: tuple[Kind, ...] = (("r", "s"), ("rs", "t"))
_FLUCTUATING = (("", ""), ("r", "r"))  # no direction is left open: what counts is the distance from the mean
_ORDERS = (0, 1, 2, 3)
_EVEN, _EVEN_BEHIND = 24, 8  # columns of even normals for neurons, and for each of what else is drawn

PRECISION = np.float32
"""Of neurons: their scatter is far above its rounding."""


class Part(NamedTuple):
    """L(a) E(a, b) R(b): orders of the σ⁽ⁱ⁾ in L and R, and E, or one number for all its entries."""

    left: tuple[int, ...]
    edge: np.ndarray | float
    right: tuple[int, ...]


@dataclass(frozen=True)
class PairOperator:
    """O_ab(u), for all neurons of a sample at once; `mean` is subtracted where it is given."""

    parts: tuple[Part, ...]
    mean: np.ndarray | None = None

    def __call__(self, neurons: "Neurons", w: np.ndarray) -> np.ndarray:
        """Σ_b O_ab w_b, for w of shape (…, neurons, N)."""
        total = np.zeros_like(w)
        for left, edge, right in self.parts:
            total += neurons.sigma(left) * neurons.times(neurons.sigma(right) * w, edge, transposed=True)
        return total if self.mean is None else total - neurons.times(w, self.mean, transposed=True)

    def transposed(self, neurons: "Neurons", w: np.ndarray) -> np.ndarray:
        """Σ_a O_ab w_a."""
        total = np.zeros_like(w)
        for left, edge, right in self.parts:
            total += neurons.sigma(right) * neurons.times(neurons.sigma(left) * w, edge, transposed=False)
        return total if self.mean is None else total - neurons.times(w, self.mean, transposed=False)

    def along(self, neurons: "Neurons", matrices: np.ndarray) -> np.ndarray:
        """Σ_b O_ab Π_ab for matrices Π, (…, N, N): shape (…, neurons, N)."""
        total = np.zeros((*matrices.shape[:-2], *neurons.d.shape), PRECISION)
        for left, edge, right in self.parts:
            R = np.broadcast_to(neurons.sigma(right), neurons.d.shape)
            total += neurons.sigma(left) * (R @ np.swapaxes(edge * matrices, -1, -2))
        return total if self.mean is None else total - np.sum(self.mean * matrices, -1)[..., None, :]

    def summed(self, neurons: "Neurons", w: np.ndarray) -> np.ndarray:
        """Σ over neurons of w_a O_ab, for w of shape (…, neurons, N): shape (…, N, N)."""
        total = np.zeros((*w.shape[:-2], w.shape[-1], w.shape[-1]), PRECISION)
        for left, edge, right in self.parts:
            R = np.broadcast_to(neurons.sigma(right), neurons.d.shape)
            product = np.swapaxes(neurons.sigma(left) * w, -1, -2) @ R
            product *= PRECISION(edge) if isinstance(edge, float) else edge
            total += product
        return total if self.mean is None else total - w.sum(-2)[..., None] * self.mean

    def matrices(self, neurons: "Neurons") -> np.ndarray:
        """O_ab itself, (neurons, N, N)."""
        total = np.zeros((*neurons.d.shape, neurons.d.shape[-1]))
        for left, edge, right in self.parts:
            L, R = (np.broadcast_to(neurons.sigma(orders), neurons.d.shape) for orders in (left, right))
            total += np.asarray(edge) * L[:, :, None] * R[:, None, :]
        return total if self.mean is None else total - self.mean


@dataclass(frozen=True)
class Neurons:
    """Neurons of one layer: σ⁽ᵏ⁾ at every input, shape (neurons, N), by order k; two paths, and the Θ that joins.

    d, e: d_a of two independent paths. g, h: √C_W σ″_a times the rest of the same paths. jet: a tangent jet
    z_r ~ N(0, Θ), where a join has to be drawn. answering: vectors are zero beyond so many inputs.
    """

    derivatives: Mapping[int, np.ndarray]
    d: np.ndarray
    e: np.ndarray
    g: np.ndarray
    h: np.ndarray
    jet: np.ndarray
    Theta: np.ndarray
    answering: int

    def sigma(self, orders: tuple[int, ...]) -> np.ndarray | float:
        """Π σ⁽ᵏ⁾ over the orders."""
        found: np.ndarray | float = 1.0
        for order in orders:
            found = found * self.derivatives[order]
        return found

    def some(self, which: slice) -> "Neurons":
        """A few of them."""
        each = {order: value[which] for order, value in self.derivatives.items()}
        d, e, g, h, jet = (vectors[which] for vectors in (self.d, self.e, self.g, self.h, self.jet))
        return Neurons(each, d, e, g, h, jet, self.Theta, self.answering)

    def times(self, w: np.ndarray, edge: np.ndarray | float, *, transposed: bool) -> np.ndarray:
        """w · edge, or w · edgeᵀ, over the inputs where w is not zero."""
        w = w[..., : self.answering]
        if isinstance(edge, float):
            return PRECISION(edge) * w.sum(-1, keepdims=True)
        return w @ (edge[:, : self.answering].T if transposed else edge[: self.answering])

    def join(self, w: np.ndarray) -> np.ndarray:
        """Σ_b Θ_ab w_b."""
        return w[..., : self.answering] @ self.Theta[: self.answering]


@dataclass(frozen=True)
class HiddenLayer:
    """Layer ℓ as the last layer sees it: operators of its neurons, and what is needed to draw them.

    weight: n_{L−1}/n_ℓ, with which its fluctuations count in the coefficients of 1/n.
    """

    operators: Mapping[Kind, PairOperator]
    activation: Activation
    roots: tuple[np.ndarray, ...]
    C_W: tuple[float, ...]
    Theta: np.ndarray
    root_of_Theta: np.ndarray
    weight: float

    @property
    def even_columns(self) -> int:
        """Of even normals, that `draw` has use for."""
        return _EVEN + _EVEN_BEHIND * (2 * len(self.roots) - 1)

    def draw(self, normals: Normals, answering: int) -> Neurons:
        """Neurons u ~ N(0, K⁽ℓ⁾), and for both their paths one of every layer behind.

        Arguments
            answering: the vectors they are applied to are zero beyond so many inputs.
        """
        root, *behind = self.roots
        C_W, *C_W_behind = self.C_W

        def drawn(root: np.ndarray, even: int, orders: tuple[int, ...]) -> dict[int, np.ndarray]:
            values = self.activation.evaluate(normals.draw(len(root), even) @ root.T, orders)
            return {order: value.astype(PRECISION) for order, value in zip(orders, values, strict=True)}

        sigma = drawn(root, _EVEN, _ORDERS)
        paths = []
        for _ in range(2):
            path = np.full_like(sigma[0], C_W**0.5)
            for each, variance in zip(behind, C_W_behind, strict=True):
                path = path * PRECISION(variance**0.5) * drawn(each, _EVEN_BEHIND, (1,))[1]
            paths.append(path)
        d, e = (sigma[1] * path for path in paths)
        g, h = (sigma[2] * path for path in paths)
        jet = (normals.draw(len(root), _EVEN_BEHIND) @ self.root_of_Theta.T).astype(PRECISION)
        return Neurons(sigma, d, e, g, h, jet, self.Theta.astype(PRECISION), answering)


def hidden_layers(net: MLP, K: np.ndarray, Theta: np.ndarray) -> list[HiddenLayer]:
    """Layers 1 … L − 1, seen from the last.

    Arguments
        K, Theta: of all layers, shape (L, N, N).

    Raises
        InputError: for activations with kinks that are not like ReLU's.
    """
    found: list[HiddenLayer] = []
    identity = np.ones_like(K[0])
    behind: dict[Kind, Reads] = {kind: {(kind, "ab"): identity} for kind in OPERATORS}
    C_W, lambda_W = (net.per_layer(name) for name in ("C_W", "lambda_W"))
    for l in reversed(range(net.depth - 1)):
        weights = float(C_W[l + 1]), float(lambda_W[l + 1])
        means = many_pairs(net.activation, K[l], _needed())
        operators = {p: _operator(p, each, Theta[l], means, *weights) for p, each in behind.items()}
        found.append(
            HiddenLayer(
                operators,
                net.activation,
                tuple(principal_root(K[k]) for k in range(l, net.depth - 1)),
                tuple(float(C_W[k + 1]) for k in range(l, net.depth - 1)),
                Theta[l],
                principal_root(Theta[l]),
                net.widths[-1] / net.widths[l],
            )
        )
        responses = {kind: _responses(kind, Theta[l], means, *weights) for kind in (*OPERATORS, *_PATHS)}
        behind = {p: _composed(each, responses) for p, each in behind.items()}
    return found[::-1]


def _operator(kind: Kind, behind: Reads, Theta: np.ndarray, means: Means, C_W: float, lambda_W: float) -> PairOperator:
    """Features of a neuron, of all the pairs that the last layer's pair of this kind reads."""
    edges: dict[tuple[tuple[int, ...], tuple[int, ...]], np.ndarray] = {}
    mean = np.zeros_like(Theta)
    for (child, form), factor in behind.items():
        for term in _features(child):
            first, second = (s.order for s in sorted(term.sigmas))
            places = {"a": [], "b": []}  # type: dict[str, list[int]]
            places[form[0]].append(first)
            places[form[1]].append(second)
            strength = term.coefficient * C_W**term.C_W * lambda_W**term.lambda_W
            edge = strength * factor * _at(Theta, form) ** len(term.Thetas)
            key = tuple(sorted(places["a"])), tuple(sorted(places["b"]))
            edges[key] = edges.get(key, 0.0) + edge
            if kind in _FLUCTUATING:
                mean += edge * _at(_mean(means, Sigma("a", first), Sigma("b", second)), form)
    parts = tuple(Part(left, _edge(edge), right) for (left, right), edge in edges.items())
    return PairOperator(parts, mean.astype(PRECISION) if kind in _FLUCTUATING else None)


def _edge(edge: np.ndarray) -> np.ndarray | float:
    return float(edge.flat[0]) if np.all(edge == edge.flat[0]) else edge.astype(PRECISION)


def _responses(kind: Kind, Theta: np.ndarray, means: Means, C_W: float, lambda_W: float) -> Reads:
    """J of one layer."""
    found: dict[tuple[Kind, Form], np.ndarray] = {}
    for pair, terms in jacobian(_pair(kind)).items():
        key = _canonical(pair)
        for t in terms:
            left, right = sorted(t.sigmas)
            factor = t.coefficient * C_W**t.C_W * lambda_W**t.lambda_W * Theta ** len(t.Thetas)
            found[key] = found.get(key, 0.0) + factor * _mean(means, left, right)
    return found


def _composed(outer: Reads, responses: Mapping[Kind, Reads]) -> Reads:
    """Two layers in a row: outer_ab times what the response makes of its pair, whose slots are where `form` says."""
    found: dict[tuple[Kind, Form], np.ndarray] = {}
    for (kind, form), factor in outer.items():
        for (child, inner), response in responses[kind].items():
            key = child, "".join(form["ab".index(place)] for place in inner)
            found[key] = found.get(key, 0.0) + factor * _at(response, form)
    return found


def _at(matrix: np.ndarray, form: Form) -> np.ndarray:
    """The entries of a matrix at the samples of `form`, as a matrix over a and b."""
    match form:
        case "ab":
            return matrix
        case "ba":
            return matrix.T
        case "aa":
            return np.broadcast_to(np.diag(matrix)[:, None], matrix.shape)
        case _:
            return np.broadcast_to(np.diag(matrix)[None, :], matrix.shape)


def _pair(kind: Kind) -> Pair:
    return (kind[0], "a"), (kind[1], "b")


@cache
def _features(kind: Kind) -> tuple[Term, ...]:
    """f of a pair, with directions that both slots hold contracted, and jets z_r alone left: others are of no use."""
    found = []
    for term in feature(_pair(kind)):
        if any(len(directions) > 1 for directions, _ in term.jets):
            continue
        held = [directions for directions, _ in term.jets]
        both = [r for r in set(held) if held.count(r) == 2]
        left = tuple(jet for jet in term.jets if jet[0] not in both)
        found.append(term._replace(jets=left, Thetas=("ab",) * len(both)))
    return tuple(found)


@cache
def _canonical(pair: Pair) -> tuple[Kind, Form]:
    """The kind of a pair under every renaming of directions, in the one order of its slots that has a name."""
    for slots in (pair, pair[::-1]):
        for renamed in permutations("rst"):
            rename = dict(zip("rst", renamed, strict=True))
            kind = tuple("".join(sorted(rename[r] for r in directions)) for directions, _ in slots)
            if kind in (*OPERATORS, *_PATHS):
                return (kind[0], kind[1]), "".join(sample for _, sample in slots)
    raise NotImplementedError(f"a response to {pair}")


@cache
def _needed() -> tuple[tuple[int, int, int, int], ...]:
    """All averages of pairs that responses and means ask for."""
    found = set()
    for kind in (*OPERATORS, *_PATHS):
        for terms in jacobian(_pair(kind)).values():
            found |= {pair_key(*sorted(t.sigmas)) for t in terms}
    for kind in OPERATORS:
        for pair in jacobian(_pair(kind)):
            if kind in _FLUCTUATING:
                found |= {pair_key(*sorted(t.sigmas)) for t in _features(_canonical(pair)[0])}
    return tuple(sorted(found))


def _mean(means: Means, left: Sigma, right: Sigma) -> np.ndarray:
    key = pair_key(left, right)
    return means[key] if key in means else means[pair_key(right, left)].T
