r"""One vertex, every tensor: the fluctuations of a finite layer, and how they grow (THEORY §3; PDLT ch. 4, 8, 11).

Layer ℓ + 1 sees layer ℓ through Ĝ, an average of n_ℓ independent draws of the features f(u), u ~ N(0, Ĝ⁽ℓ⁾). To first
order in 1/n, with r = n_ℓ/n_{ℓ−1}, X = n Cov[Ĝ, Ĝ] and M = n E[Ĝ − G],

    X⁽ℓ⁺¹⁾ = Cov_u[f, f] + r J X⁽ℓ⁾ Jᵀ          J = ∂⟨f⟩/∂G       (½ ⟨∂_e ∂_f f⟩ for e = f, else ⟨∂_e ∂_f f⟩)
    M⁽ℓ⁺¹⁾ = r (J M⁽ℓ⁾ + ½ J'' : X⁽ℓ⁾)          J'' = ∂²⟨f⟩/∂G²   (likewise, four derivatives)

The eleven tensors of the book are components of X, G1 and H1 of M. What each is, the two tables below say; that is all
that is written per tensor. Everything else follows from the features (`finitewidth.flow.jets`).
"""

from collections.abc import Iterator
from functools import cache
from itertools import combinations_with_replacement, permutations
from typing import NamedTuple

from finitewidth.flow.jets import Pair, Term, collect, contract, differentiate, feature, slots_of

# name -> (pair, pair) of slots (directions, axis): axes in the order of the book's subscripts (FACTS §1.4)
FLUCTUATIONS: dict[str, tuple[Pair, Pair]] = {
    "V": ((("", "a"), ("", "b")), (("", "c"), ("", "d"))),
    "D": ((("", "a"), ("", "b")), (("r", "c"), ("r", "d"))),
    "A": ((("r", "a"), ("r", "b")), (("s", "c"), ("s", "d"))),
    "F": ((("", "a"), ("r", "b")), (("", "c"), ("r", "d"))),
    "B": ((("r", "a"), ("s", "b")), (("r", "c"), ("s", "d"))),
    "P": ((("rs", "a"), ("", "d")), (("r", "b"), ("s", "c"))),
    "Q": ((("rs", "a"), ("r", "b")), (("s", "c"), ("", "d"))),
    "R": ((("rst", "a"), ("r", "b")), (("s", "c"), ("t", "d"))),
    "S": ((("rs", "a"), ("rt", "b")), (("s", "c"), ("t", "d"))),
    "T": ((("rs", "a"), ("s", "b")), (("t", "c"), ("rt", "d"))),
    "U": ((("rs", "a"), ("t", "b")), (("rt", "c"), ("s", "d"))),
}
SHIFTS: dict[str, Pair] = {
    "G1": (("", "a"), ("", "b")),
    "H1": (("r", "a"), ("r", "b")),
}
TENSORS = (*FLUCTUATIONS, *SHIFTS)


class Component(NamedTuple):
    """An entry of X or M: the tensor it is, and the sample on each of the tensor's axes (`"aacd"`)."""

    name: str
    axes: str


class Source(NamedTuple):
    """One term of Cov_u[f_p, f_q]: ⟨Π σ⟩ over all samples, less ⟨·⟩⟨·⟩ where no Θ connects p with q."""

    term: Term
    is_connected: bool


class Response(NamedTuple):
    """One term of J X Jᵀ, or of J M + ½ J'' : X: coefficients on the left (and right) of a component of this layer."""

    left: tuple[Term, ...]
    component: Component
    right: tuple[Term, ...] = ()


class Rule(NamedTuple):
    """How one tensor of layer ℓ + 1 follows from layer ℓ."""

    sources: tuple[Source, ...]
    responses: tuple[Response, ...]

    @property
    def needs(self) -> frozenset[str]:
        """The tensors of layer ℓ on the right-hand side."""
        return frozenset(response.component.name for response in self.responses)


@cache
def rule(name: str) -> Rule:
    """The recursion of one of the tensors."""
    if name in SHIFTS:
        return Rule((), (*_linear_shift(SHIFTS[name]), *_quadratic_shift(SHIFTS[name])))
    p, q = FLUCTUATIONS[name]
    responses = [
        Response(left, found, right)
        for e, left in jacobian(p).items()
        for g, right in jacobian(q).items()
        if (found := component(e, g)) is not None
    ]
    return Rule(covariance(p, q), tuple(responses))


def with_needed(names: str | tuple[str, ...]) -> tuple[str, ...]:
    """The tensors that these follow from, and themselves, in the order of the tables."""
    found = set(names)
    while more := {need for name in found for need in rule(name).needs} - found:
        found |= more
    return tuple(name for name in TENSORS if name in found)


def component(e: Pair, g: Pair | None = None) -> Component | None:
    """Which tensor X_{e,g} (or M_e) is; None where it vanishes: where some direction occurs an odd number of times."""
    slots = (*e, *(g or ()))
    directions = "".join(d for d, _ in slots)
    if any(directions.count(r) % 2 for r in directions):
        return None
    name, axes = _patterns()[tuple(d for d, _ in slots)]
    on_axis = dict(zip(axes, (sample for _, sample in slots), strict=True))
    return Component(name, "".join(on_axis[axis] for axis in sorted(on_axis)))


@cache
def symmetries(name: str) -> tuple[str, ...]:
    """Permutations of the axes that leave a tensor as it is, itself first: `("abcd", "cdab")` says F_abcd = F_cdab."""
    forms = list(_forms(name))
    pattern, axes = forms[0]
    same = {other for found, other in forms if found == pattern}
    return tuple(sorted("".join(axis for _, axis in sorted(zip(axes, other, strict=True))) for other in same))


@cache
def _patterns() -> dict[tuple[str, ...], tuple[str, str]]:
    """(I, J[, K, L]) -> name and axes."""
    found: dict[tuple[str, ...], tuple[str, str]] = {}
    for name in TENSORS:
        for pattern, axes in _forms(name):
            found.setdefault(pattern, (name, axes))
    return found


def _forms(name: str) -> Iterator[tuple[tuple[str, ...], str]]:
    """(I, J[, K, L]) and axes of a tensor, as the tables have it first, then under every symmetry of X and M.

    Directions are drawn alike, so they may be renamed; slots of a pair commute, and so do the pairs of a covariance.
    """
    p, q = FLUCTUATIONS[name] if name in FLUCTUATIONS else (SHIFTS[name], ())
    for renamed in permutations("rst"):
        rename = dict(zip("rst", renamed, strict=True))
        for left in (p, p[::-1]):
            for right in (q, q[::-1]):
                for slots in ((*left, *right), (*right, *left)):
                    pattern = tuple("".join(sorted(rename[r] for r in directions)) for directions, _ in slots)
                    yield pattern, "".join(axis for _, axis in slots)


def covariance(p: Pair, q: Pair) -> tuple[Source, ...]:
    """Cov_u[f_p, f_q] = Σ over Wick contractions of ⟨f_p f_q⟩, less ⟨f_p⟩⟨f_q⟩."""
    inside = {frozenset(sample for _, sample in pair) for pair in (p, q)}
    terms = collect([t for left in feature(p) for right in feature(q) for t in contract(left * right)])
    return tuple(Source(t, any(not any(set(T) <= side for side in inside) for T in t.Thetas)) for t in terms)


@cache
def jacobian(p: Pair) -> dict[Pair, tuple[Term, ...]]:
    """J_{p,(ef)} for the entries (ef) of Ĝ on which ⟨f_p⟩ depends."""
    f = feature(p)
    found = {e: _derivative(f, (e,)) for e in combinations_with_replacement(slots_of(f), 2)}
    return {e: terms for e, terms in found.items() if terms}


def _derivative(f: list[Term], entries: tuple[Pair, ...]) -> tuple[Term, ...]:
    """The derivative of ⟨f⟩ by entries (ef) of G: ⟨∂_e ∂_f …⟩, times ½ for every e = f."""
    weight = 1.0
    for e, g in entries:
        f = differentiate(differentiate(f, e), g)
        weight *= 0.5 if e == g else 1.0
    return tuple(collect([t._replace(coefficient=weight * t.coefficient) for term in f for t in contract(term)]))


def _linear_shift(p: Pair) -> list[Response]:
    return [Response(left, found) for e, left in jacobian(p).items() if (found := component(e)) is not None]


def _quadratic_shift(p: Pair) -> list[Response]:
    """½ Σ_{(ef),(gh)} J''_{p;(ef)(gh)} X_{(ef)(gh)}: each two different entries once, equal ones with a factor ½."""
    f = feature(p)
    entries = combinations_with_replacement(slots_of(f), 2)
    found = []
    for e, g in combinations_with_replacement(list(entries), 2):
        terms, half = _derivative(f, (e, g)), 0.5 if e == g else 1.0
        if terms and (X := component(e, g)) is not None:
            found.append(Response(tuple(t._replace(coefficient=half * t.coefficient) for t in terms), X))
    return found
