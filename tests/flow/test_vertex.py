"""The vertex against the recursions as the literature writes them, and the algebra of jets that it is made of.

THEORY §3's example by 30-digit trapezoid sums (of R, S, T, U and H1 the last digits printed there are wrong):
V 0.1525165489, A 0.6446400066, B 2.8031126116, D −0.2728337338, F 0.2527076667, P −1.0771167454, Q −0.4946094995,
R −8.7701187424, S 4.7209922202, T 1.2831121099, U 1.7285004150, G1 −0.0441048507, H1 0.0048820802.
"""

from collections import Counter
from collections.abc import Callable
from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mp, mpf

import finitewidth as fw
from finitewidth.flow.jets import Sigma, Slot, Term, collect, contract, differentiate, feature
from finitewidth.flow.vertex import FLUCTUATIONS, TENSORS, component, rule, with_needed
from tests.references import written_out

KERNELS = ("K", "Theta")
HYPERPARAMETERS = {
    "C_b": [0.1, 0.2, 0.05, 0.15],
    "C_W": [0.8, 1.3, 1.7, 0.9],
    "lambda_b": [0.3, 1.0, 0.2, 0.5],
    "lambda_W": [0.7, 0.4, 1.1, 0.6],
}


# --- against the recursions as the literature writes them ---


def test_single_input_in_30_digits() -> None:
    """THEORY §3's example."""
    exact = written_out.single_tanh(depth=4, x2="1.1", C_b="0.2", C_W="1.3", lambda_b="0.5", lambda_W="0.7")
    net = fw.MLP("tanh", depth=4, C_b=0.2, C_W=1.3, lambda_b=0.5, lambda_W=0.7)
    last = fw.flow(net, [[np.sqrt(1.1)]], order=1).isel(layer=-1)
    for name in (*KERNELS, *TENSORS):
        np.testing.assert_allclose(last[name].item(), float(exact[name]), rtol=1e-12, err_msg=name)
    printed = {"V": 0.1525165489, "R": -8.7701187424, "S": 4.7209922202, "T": 1.2831121099, "H1": 0.0048820802}
    for name, digits in printed.items():
        np.testing.assert_allclose(last[name].item(), digits, rtol=1e-8)


@pytest.mark.parametrize(
    ("name", "inputs", "depth", "spacing"),
    [
        ("gelu", 2, 4, 0.24),
        pytest.param("tanh", 3, 3, 0.24, marks=pytest.mark.slow),
        pytest.param("gelu", 4, 4, 0.36, marks=pytest.mark.slow),
    ],
)
def test_every_entry_of_correlated_inputs(name: str, inputs: int, depth: int, spacing: float) -> None:
    """Unequal widths, hyperparameters by layer, biases: FACTS §2.1–2.4 on one lattice for all inputs together.

    Every tensor is right to its stated error (and the rounding of the oracle), and that is at most 1e-6.
    """
    x = np.random.default_rng(3).normal(size=(inputs, 5)) * 0.6
    x[1] = 0.9 * x[0] + 0.4 * x[1]
    widths, options = [300, 100, 500][: depth - 1], {name: each[:depth] for name, each in HYPERPARAMETERS.items()}
    exact = written_out.recursion(getattr(written_out, name), x, widths=widths, **options, spacing=spacing)
    flow = fw.flow(fw.MLP(name, depth=depth, width=widths, **options), x, order=1)
    for layer, expected in enumerate(exact):
        for tensor in (*KERNELS, *TENSORS):
            scale = np.abs(expected[tensor]).max()
            off = np.abs(flow[tensor].values[layer] - expected[tensor]).max()
            stated = flow[f"{tensor}_error"].values[layer].max()
            assert off <= stated + 1e-12 * scale, f"{tensor} at layer {layer + 1}: off by {off / scale:.2g}"
            assert stated <= 1e-6 * scale


def test_one_input_is_the_diagonal_of_two() -> None:
    """The single-input route (lines) and the dense one (lattices) share only the rules."""
    x = np.array([[0.4, -1.1], [0.9, 0.3]])
    net = fw.MLP("gelu", depth=5, width=[800, 1600, 400, 1200], C_b=0.1, C_W=1.6, lambda_b=0.2, lambda_W=0.9)
    both = fw.flow(net, x, order=1)
    for i in range(2):
        alone = fw.flow(net, x[i : i + 1], order=1)
        for tensor in TENSORS:
            entry = both[tensor].values[(slice(None), *(i,) * (both[tensor].ndim - 1))]
            np.testing.assert_allclose(entry, alone[tensor].values.reshape(-1), rtol=1e-11, atol=1e-13, err_msg=tensor)


def test_shift_of_the_kernel_of_two_inputs_with_a_kink() -> None:
    """ReLU: G1 = ½ C_W Σ ∂²F/∂K_i∂K_j V_ij over i, j ∈ {11, 12, 22} at layer 3, F the arc-cosine kernel."""

    def F(K11: mpf, K12: mpf, K22: mpf) -> mpf:
        size = mp.sqrt(K11 * K22)
        angle = mp.acos(K12 / size)
        return size * (mp.sin(angle) + (mp.pi - angle) * mp.cos(angle)) / (2 * mp.pi)

    net = fw.MLP("relu", depth=3, width=[200, 600], C_b=0.2, C_W=[1.1, 1.7, 1.3])
    flow = fw.flow(net, [[0.9, -0.2], [0.4, 1.1]], order=1, tensors="V,G1")
    entries = ((0, 0), (0, 1), (1, 1))
    K, V = [mpf(flow.K.values[1][e]) for e in entries], flow.V.values[1]
    second = np.array(
        [
            [float(mp.diff(F, tuple(K), tuple((k == i) + (k == j) for k in range(3)))) for j in range(3)]
            for i in range(3)
        ]
    )
    expected = (
        3 * 0.5 * 1.3 * sum(second[i, j] * V[e + g] for i, e in enumerate(entries) for j, g in enumerate(entries))
    )
    np.testing.assert_allclose(flow.G1.values[2][0, 1], expected, rtol=1e-8)
    np.testing.assert_allclose(flow.G1.values[2][0, 0], 0.0, atol=1e-12)


# --- the tensors that are asked for ---


@pytest.mark.parametrize("asked", ["V", "B", "D,F", "P", "U", "H1", ["Q", "G1"]])
def test_fewer_tensors_are_the_same_tensors(asked: str | list[str]) -> None:
    net, x = fw.MLP("gelu", depth=4, width=500, C_b=0.1, C_W=1.6), np.array([[0.4, -1.1], [0.9, 0.3]])
    everything, some = fw.flow(net, x, order=1), fw.flow(net, x, order=1, tensors=asked)
    present = [tensor for tensor in TENSORS if tensor in some]
    assert set(present) == set(asked.split(",") if isinstance(asked, str) else asked)
    for tensor in present:
        np.testing.assert_allclose(some[tensor], everything[tensor], rtol=1e-11, atol=1e-13)


def test_what_each_tensor_follows_from() -> None:
    """FACTS §2: which tensors stand on the right-hand sides."""
    needs = {
        "V": "V", "D": "V D", "A": "V D A", "F": "F", "B": "B", "P": "B P", "Q": "F Q", "R": "B P R", "S": "B S",
        "T": "F Q T", "U": "U", "G1": "V G1", "H1": "V D F G1 H1",
    }  # fmt: skip
    for name, expected in needs.items():
        assert set(with_needed((name,))) == set(expected.split()), name
        assert rule(name).needs <= set(expected.split())


# --- the algebra: Faà di Bruno, Wick, derivatives ---

SAMPLES = "ab"


def evaluated(terms: list[Term], sigma: Callable[[str, int], float], jet: Callable[[Slot], float]) -> float:
    """A polynomial at C_W = 2, λ_W = 3."""
    return sum(
        t.coefficient
        * 2.0**t.C_W
        * 3.0**t.lambda_W
        * np.prod([sigma(s.sample, s.order + s.weak) for s in t.sigmas])
        * np.prod([jet(j) for j in t.jets])
        for t in terms
    )


def cubic(seed: int) -> tuple[dict[str, np.ndarray], dict[Slot, float]]:
    """σ around z by its Taylor coefficients at each sample, and jets of z."""
    rng = np.random.default_rng(seed)
    slots = ["".join(d) for n in range(1, 4) for d in (("r", "s", "t"), ("rs", "rt", "st"), ("rst",))[n - 1]]
    return {a: rng.normal(size=6) for a in SAMPLES}, {(d, a): float(rng.normal()) for a in SAMPLES for d in slots}


def truncated_product(p: dict[frozenset[str], float], q: dict[frozenset[str], float]) -> dict[frozenset[str], float]:
    """Of polynomials in ε_r, ε_s, ε_t with ε² = 0: coefficients by the set of ε."""
    found: Counter[frozenset[str]] = Counter()
    for (i, x), (j, y) in product(p.items(), q.items()):
        if not i & j:
            found[i | j] += x * y  # type: ignore[assignment]
    return dict(found)


def jets_of_sigma(taylor: np.ndarray, jets: dict[str, float]) -> dict[frozenset[str], float]:
    """σ(z + Σ_I ε_I z_I) = Σ_k σ⁽ᵏ⁾ (Σ ε_I z_I)ᵏ/k! with nilpotent ε: the coefficient of ε_I is s_I."""
    step = {frozenset(d): z for d, z in jets.items()}
    power, factorial = {frozenset[str](): 1.0}, 1.0
    total: Counter[frozenset[str]] = Counter()
    for k in range(4):
        factorial *= max(k, 1)
        for i, c in power.items():
            total[i] += taylor[k] * c / factorial  # type: ignore[assignment]
        power = truncated_product(power, step)
    return dict(total)


@pytest.mark.parametrize("pair", sorted({pair for both in FLUCTUATIONS.values() for pair in both}))
def test_features_are_nilpotent_taylor_coefficients(pair: tuple[Slot, Slot]) -> None:
    taylor, jets = cubic(11)
    pair = ((pair[0][0], "a"), (pair[1][0], "b"))
    s = {a: jets_of_sigma(taylor[a], {d: z for (d, b), z in jets.items() if b == a}) for a in SAMPLES}
    I, J = (frozenset(directions) for directions, _ in pair)
    expected = 2.0 * s["a"][I] * s["b"][J] + 3.0 * sum(s["a"][I - {r}] * s["b"][J - {r}] for r in I & J)
    got = evaluated(feature(pair), lambda a, k: taylor[a][k], lambda slot: jets[slot])
    np.testing.assert_allclose(got, expected, rtol=1e-13)


@pytest.mark.parametrize("slot", [("", "a"), ("", "b"), ("r", "a"), ("rs", "a"), ("s", "b")])
def test_derivatives_are_differences(slot: Slot) -> None:
    """Of C_W s_rs s_s + …, by z (a shift along σ's Taylor series) and by the jets."""
    taylor, jets = cubic(5)
    f = feature((("rs", "a"), ("s", "b")))

    def at(shift: float) -> float:
        moved = dict(jets)
        if slot[0]:
            moved[slot] += shift

        def sigma(a: str, k: int) -> float:
            h = shift if slot == ("", a) else 0.0
            return sum(taylor[a][k + m] * h**m / [1, 1, 2, 6][m] for m in range(min(4, 6 - k)))

        return evaluated(f, sigma, lambda slot: moved[slot])

    got = evaluated(differentiate(f, slot), lambda a, k: taylor[a][k], lambda slot: jets[slot])
    np.testing.assert_allclose(got, (at(1e-5) - at(-1e-5)) / 2e-5, rtol=1e-8, atol=1e-8)


@given(st.lists(st.tuples(st.sampled_from("rs"), st.sampled_from("abcd")), min_size=0, max_size=6))
def test_wick_is_isserlis(jets: list[tuple[str, str]]) -> None:
    """Σ over all permutations of the jets, in consecutive pairs, over 2^{m} m!: brute force, with Θ a random matrix."""
    Theta = np.random.default_rng(0).normal(size=(4, 4))
    Theta += Theta.T

    def covariance(one: tuple[str, str], two: tuple[str, str]) -> float:
        return Theta["abcd".index(one[1]), "abcd".index(two[1])] if one[0] == two[0] else 0.0

    pairs = len(jets) // 2
    brute = 0.0
    if len(jets) % 2 == 0:
        ways = permutations(jets)
        brute = sum(np.prod([covariance(w[2 * i], w[2 * i + 1]) for i in range(pairs)]) for w in ways)
        brute /= 2.0**pairs * float(np.prod(np.arange(1, pairs + 1)))
    terms = contract(Term(1.5, 1, 0, (Sigma("a", 2),), tuple(jets)))
    assert all(t.sigmas == (Sigma("a", 2),) and not t.jets and t.C_W == 1 for t in terms)
    theta = [np.prod([Theta["abcd".index(T[0]), "abcd".index(T[1])] for T in t.Thetas]) for t in terms]
    np.testing.assert_allclose(
        sum(t.coefficient * x for t, x in zip(terms, theta, strict=True)), 1.5 * brute, atol=1e-9
    )


def test_equal_terms_are_collected_and_zero_ones_dropped() -> None:
    one = Term(1.0, 1, 0, (Sigma("a", 1), Sigma("b", 0)), (), ("ab", "cd"))
    same = Term(2.0, 1, 0, (Sigma("b", 0), Sigma("a", 1)), (), ("cd", "ab"))
    assert collect([one, same])[0].coefficient == 3.0
    assert collect([one, one._replace(coefficient=-1.0)]) == []
    with pytest.raises(NotImplementedError, match="order 1/n"):
        contract(Term(1.0, 0, 0, (), (("rs", "a"), ("rs", "b"))))


@pytest.mark.parametrize(
    ("e", "g", "expected"),
    [
        ((("t", "x"), ("t", "y")), (("", "u"), ("", "v")), ("D", "uvxy")),
        ((("s", "x"), ("", "y")), (("s", "u"), ("", "v")), ("F", "yxvu")),
        ((("", "x"), ("st", "y")), (("s", "u"), ("t", "v")), ("P", "yuvx")),
        ((("t", "x"), ("", "y")), (("s", "u"), ("st", "v")), ("Q", "vuxy")),
        ((("r", "x"), ("s", "y")), None, None),
        ((("r", "x"), ("", "y")), (("", "u"), ("", "v")), None),
        ((("", "x"), ("", "y")), None, ("G1", "xy")),
    ],
)
def test_every_component_is_a_tensor_under_another_name(e, g, expected) -> None:
    assert component(e, g) == expected
