"""`flow(order=1)` as a person meets it: names, shapes, notes, warnings, and every message with which it refuses."""

import warnings

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import gamma

import finitewidth as fw
from finitewidth.errors import TrustWarning
from finitewidth.flow.vertex import FLUCTUATIONS, TENSORS

X = np.array([[0.4, -1.1], [0.9, 0.3]])
SINGULAR = fw.Activation(lambda z: jnp.abs(z) ** 0.75, name="singular")


def net(activation: str | fw.Activation = "gelu", **options) -> fw.MLP:
    return fw.MLP(activation, **{"depth": 3, "width": 500, "C_W": 1.5, **options})


@pytest.mark.parametrize("inputs", [1, 2])
def test_shapes_and_labels(inputs: int) -> None:
    flow = fw.flow(net(), X[:inputs], order=1, layers=[2, 3])
    assert list(flow.layer) == [2, 3]
    for name in TENSORS:
        dimensions = ("layer", *("abcd" if name in FLUCTUATIONS else "ab"))
        assert flow[name].dims == flow[f"{name}_error"].dims == dimensions
        assert flow[name].shape == (2, *(inputs,) * (len(dimensions) - 1))
        assert flow[name].attrs["order_in_1/n"] == 1 and flow[name].attrs["long_name"]
        assert np.all(flow[f"{name}_error"] >= 0)
    assert flow.attrs["notes"] == ""


@pytest.mark.parametrize(
    ("asked", "names"),
    [("ABDF", "DAFB"), ("V,G1", ["V", "G1"]), (["V", "H1"], ["V", "H1"]), ("V V", "V"), ("", ""), ([], "")],
)
def test_names_may_be_written_in_several_ways(asked, names) -> None:
    flow = fw.flow(net(), X[:1], order=1, tensors=asked)
    assert [name for name in TENSORS if name in flow] == list(names)


@pytest.mark.parametrize(
    ("activation", "tensors", "named"),
    [("relu", None, "P, Q, R, S, T, U"), ("relu", "VP", "P"), ("relu", "VABDF", ""), ("gelu", None, "")],
)
def test_note_on_kinks(activation: str, tensors: str | None, named: str) -> None:
    notes = fw.flow(net(activation), X[:1], order=1, tensors=tensors).attrs["notes"]
    expected = (
        f"σ has kinks: {named} are the almost-everywhere values, those of exact derivatives of a network; what "
        "the deltas of σ″ add over training steps that cross a kink is left out"
    )
    assert notes == (expected if named else "")


def test_activations_that_jump_have_V_and_G1() -> None:
    flow = fw.flow(net("sign"), X[:1], order=1)
    assert [name for name in TENSORS if name in flow] == ["V", "G1"]
    np.testing.assert_allclose(flow.V, 0.0, atol=1e-12)  # σ² = 1 for every neuron
    assert "σ jumps" in flow.attrs["notes"]


def test_steep_slopes_have_D_and_F() -> None:
    """σ = |z|^p behind one layer: F = C_W² ⟨σ²σ'²⟩ Θ, D = C_W λ_W Var σ² + C_W² Θ Cov(σ², σ'²), with moments of |z|."""
    p, C_W, x = 0.75, 1.5, 1.2
    found = fw.flow(fw.MLP(SINGULAR, depth=2, width=500, C_W=C_W), [[x]], order=1, layers="last")
    K, Theta = C_W * x**2, 1 + x**2

    def moment(q: float) -> float:
        return float((2 * K) ** (q / 2) * gamma((q + 1) / 2) / np.sqrt(np.pi))

    covariance = p**2 * (moment(4 * p - 2) - moment(2 * p) * moment(2 * p - 2))
    D = C_W * (moment(4 * p) - moment(2 * p) ** 2) + C_W**2 * Theta * covariance
    assert "A" not in found
    np.testing.assert_allclose(found.F.item(), C_W**2 * p**2 * moment(4 * p - 2) * Theta, rtol=1e-10)
    np.testing.assert_allclose(found.D.item(), D, rtol=1e-8)


@pytest.mark.parametrize(
    ("activation", "inputs", "tensors", "message"),
    [
        (
            "gelu",
            1,
            "VX",
            r"`tensors` must be made of the names V D A F B P Q R S T U G1 H1, as in \"ABDF\", but got 'VX'",
        ),
        ("gelu", 1, ["VA"], r"`tensors` must be made of the names .*but got \['VA'\]"),
        ("gelu", 1, "G", "`tensors` must be made of the names"),
        ("gelu", 1, [3], "`tensors` must be made of the names"),
        (SINGULAR, 1, "FB", r"`tensors` B are not given for singular, .* \|z − c\|\^\(−0\.25\).*tensors=\"V,D,F,G1\""),
        ("sign", 1, "VAB", '`tensors` A, B do not exist for sign, which jumps.*ask for tensors="V,G1"'),
        (
            "gelu",
            17,
            "VB",
            r"`x` has 17 inputs: the dense tensors V B take .* GiB a layer.*at most 16.*fw\.vertex\(net, x\)",
        ),
    ],
)
def test_refusals(activation, inputs: int, tensors, message: str) -> None:
    x = np.random.default_rng(0).normal(size=(inputs, 2))
    with pytest.raises(fw.InputError, match=message):
        fw.flow(net(activation), x, order=1, tensors=tensors)


def test_a_deep_network_of_many_inputs_is_refused_for_its_memory() -> None:
    """11 tensors of 16⁴ entries with errors at 1000 layers: 11 GiB."""
    deep = fw.MLP("gelu", depth=1000, width=10**6)
    with pytest.raises(fw.InputError, match=r"16 inputs at 1000 layers take 10\.7 GiB; keep fewer `layers`"):
        fw.flow(deep, np.eye(16), order=1)


@pytest.mark.parametrize("inputs", [1, 2])
def test_kept_layers_are_those_of_the_whole_flow(inputs: int) -> None:
    whole = fw.flow(net(), X[:inputs], order=1, tensors="V,G1")
    kept = fw.flow(net(), X[:inputs], order=1, tensors="V,G1", layers=[1, 3])
    assert kept.layer.values.tolist() == [1, 3]
    assert kept.equals(whole.sel(layer=[1, 3]))


def test_trust_warning_names_the_ratio_and_the_line_of_the_user() -> None:
    """V/(nK²) = 5(L − 1)/n for ReLU: warned beyond ½, here 5 · 9/10."""
    narrow = fw.MLP("relu", depth=10, width=10, C_W=2.0)
    with pytest.warns(TrustWarning, match=r"cannot be trusted at this width: r = 0\.9, V/\(nK²\) = 4\.5\.") as caught:
        fw.flow(narrow, X[:1], order=1)
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fw.flow(fw.MLP("relu", depth=10, width=100, C_W=2.0), X[:1], order=1)  # 0.45
        fw.flow(narrow, X[:1], order=1, tensors="B")  # says nothing about V


def test_progress_counts_pairs_and_layers() -> None:
    calls: list[tuple[int, int]] = []
    fw.flow(net(), X, order=1, tensors="V", progress=lambda done, of: calls.append((done, of)))
    assert calls[-3:] == [(1, 3), (2, 3), (3, 3)]
