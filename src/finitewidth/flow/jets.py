r"""Tangent jets of a layer, as algebra: what the next layer's covariance is made of, and how it responds (THEORY §3).

Draw independent random directions ε_r, r ∈ {r, s, t}, in parameter space. The jet z_I is the mixed derivative of z
along the directions in I. With s_I the jets of σ(z), given layer ℓ the jets of layer ℓ + 1 are Gaussian with the
covariance

    Ĝ_{(Iα)(Jβ)} = C_b[I=J=∅] + λ_b[I=J={r}] + (1/n) Σ_j f_{(Iα)(Jβ)}(neuron j) ,
    f_{(Iα)(Jβ)} = C_W s_{I;α} s_{J;β} + λ_W Σ_{r ∈ I∩J} s_{I∖r;α} s_{J∖r;β} .

A *slot* is a jet of one sample, a *pair* of slots an entry of Ĝ, a *feature* the polynomial f of that pair. This module
holds three operations on features, and nothing about numbers: Wick contraction of the jets with |I| ≥ 1 (independent of
z at leading order, with ⟨z_{r;α} z_{r;β}⟩ = Θ_{αβ}), derivatives, and products.
"""

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

Slot = tuple[str, str]
"""(I, sample): the directions in alphabetical order, and the letter of the sample's axis."""

Pair = tuple[Slot, Slot]


class Sigma(NamedTuple):
    """∂^weak σ^(order) at a sample. `order` counts almost-everywhere derivatives, `weak` those that also see jumps."""

    sample: str
    order: int
    weak: int = 0


class Term(NamedTuple):
    """coefficient · C_W^C_W · λ_W^lambda_W · Π σ · Π z_I, before contraction; · Π Θ after it."""

    coefficient: float
    C_W: int
    lambda_W: int
    sigmas: tuple[Sigma, ...]
    jets: tuple[Slot, ...] = ()
    Thetas: tuple[str, ...] = ()

    def __mul__(self, other: "Term") -> "Term":  # type: ignore[override]
        return Term(
            self.coefficient * other.coefficient,
            self.C_W + other.C_W,
            self.lambda_W + other.lambda_W,
            self.sigmas + other.sigmas,
            self.jets + other.jets,
            self.Thetas + other.Thetas,
        )


def feature(pair: Pair) -> list[Term]:
    """f_{(Iα)(Jβ)} as a polynomial in the jets of one neuron."""
    (left, a), (right, b) = pair
    terms = [Term(1.0, 1, 0, (), ()) * s * t for s in _jet_of_sigma(left, a) for t in _jet_of_sigma(right, b)]
    for r in sorted(set(left) & set(right)):
        rest = _jet_of_sigma(left.replace(r, ""), a), _jet_of_sigma(right.replace(r, ""), b)
        terms += [Term(1.0, 0, 1, (), ()) * s * t for s in rest[0] for t in rest[1]]
    return terms


def contract(term: Term) -> list[Term]:
    """⟨·⟩ over the jets with |I| ≥ 1, given z: Wick's theorem, one term for each way to pair them."""
    by_direction: dict[str, list[str]] = {}
    for directions, sample in term.jets:
        by_direction.setdefault(directions, []).append(sample)
    if any(len(samples) % 2 for samples in by_direction.values()):
        return []
    if any(len(directions) > 1 for directions in by_direction):
        raise NotImplementedError(f"⟨z_rs z_rs⟩ is of no use at order 1/n, but {term} needs it")
    found = [term._replace(jets=())]
    for samples in by_direction.values():
        found = [t._replace(Thetas=t.Thetas + way) for t in found for way in _matchings(samples)]
    return found


def differentiate(terms: list[Term], slot: Slot) -> list[Term]:
    """∂/∂z_I;α of a polynomial."""
    directions, sample = slot
    found = []
    for term in terms:
        if directions:
            for i, jet in enumerate(term.jets):
                if jet == slot:
                    found.append(term._replace(jets=term.jets[:i] + term.jets[i + 1 :]))
        else:
            for i, s in enumerate(term.sigmas):
                if s.sample == sample:
                    risen = (*term.sigmas[:i], s._replace(weak=s.weak + 1), *term.sigmas[i + 1 :])
                    found.append(term._replace(sigmas=risen))
    return found


def slots_of(terms: list[Term]) -> list[Slot]:
    """The variables of a polynomial: z of its samples, and its jets."""
    found = {("", s.sample) for term in terms for s in term.sigmas}
    return sorted(found | {jet for term in terms for jet in term.jets})


def collect(terms: list[Term]) -> list[Term]:
    """Equal terms, once."""
    total: Counter[Term] = Counter()
    for term in terms:
        key = term._replace(coefficient=0.0, sigmas=tuple(sorted(term.sigmas)), Thetas=tuple(sorted(term.Thetas)))
        total[key] += term.coefficient  # type: ignore[assignment]
    return [key._replace(coefficient=float(c)) for key, c in total.items() if c]


def pair_key(left: Sigma, right: Sigma) -> tuple[int, int, int, int]:
    """(k, i, l, j) of ⟨∂ⁱσ⁽ᵏ⁾_a ∂ʲσ⁽ˡ⁾_b⟩: what such an average is looked up by."""
    return left.order, left.weak, right.order, right.weak


def _jet_of_sigma(directions: str, sample: str) -> list[Term]:
    """s_I = Σ_{partitions π of I} σ^{(|π|)} Π_{B∈π} z_B (Faà di Bruno)."""
    return [
        Term(1.0, 0, 0, (Sigma(sample, len(blocks)),), tuple((block, sample) for block in blocks))
        for blocks in _partitions(directions)
    ]


def _partitions(directions: str) -> Iterator[tuple[str, ...]]:
    if not directions:
        yield ()
        return
    first, rest = directions[0], directions[1:]
    for blocks in _partitions(rest):
        yield (first, *blocks)
        for i, block in enumerate(blocks):
            yield (*blocks[:i], first + block, *blocks[i + 1 :])


def _matchings(samples: list[str]) -> Iterator[tuple[str, ...]]:
    """All ways to pair the samples: as Θ's subscripts, in alphabetical order."""
    if not samples:
        yield ()
        return
    first, rest = samples[0], samples[1:]
    for i, partner in enumerate(rest):
        for others in _matchings(rest[:i] + rest[i + 1 :]):
            yield ("".join(sorted(first + partner)), *others)
