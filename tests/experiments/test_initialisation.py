"""Measured networks against exact results of linear networks, and against the table of THEORY §3 by extrapolation.

Pulls are compared with 5.5: of t with 63 degrees of freedom it is exceeded once in 10^6, so that the hundred or so
numbers of this file fail by chance once in 10^4 changes of seed or of JAX's random numbers.
"""

import numpy as np
import pytest

import finitewidth as fw
from finitewidth.errors import InputError
from finitewidth.experiments import Outputs, initialisation, measure, measure_widths

X = np.array([[1.2, -0.3], [0.4, 0.8]])
BOUND = 5.5


def assert_within(seen, name, expected):
    error = seen.standard_error[name]
    pull = (seen.mean[name] - expected) / np.maximum(error, 1e-12)
    assert np.abs(pull).max() < BOUND, f"{name}: {seen.mean[name]} ± {error}, expected {expected}"


def linear_layer(net, K, M, l):
    """E[G_ab] and E[G_ab G_cd] of layer l + 1 from those of layer l; G is a layer's covariance given the last."""
    n, b, w = net.widths[l - 1], net.per_layer("C_b")[l], net.per_layer("C_W")[l]
    wick = M.transpose(0, 2, 1, 3) + M.transpose(0, 2, 3, 1)
    sums = K[:, :, None, None] + K
    return b + w * K, b**2 + b * w * sums + w**2 * (M + wick / n)


def test_deep_linear_networks_have_their_exact_kernels_and_vertex():
    net = fw.MLP(
        "linear",
        depth=4,
        width=[6, 3, 5],
        C_b=[0.2, 0.1, 0.0, 0.3],
        C_W=[1.0, 0.8, 1.1, 0.9],
        lambda_b=0.5,
        lambda_W=0.7,
    )
    seen = measure(net, X, n_networks=20000, tensors=["K", "V", "Theta"], seed=1)
    x2 = X @ X.T / 2
    K, Theta = 0.2 + x2, 0.5 + 0.7 * x2
    M = np.einsum("ab,cd->abcd", K, K)
    for l in (1, 2, 3):
        Theta = 0.5 + 0.7 * K + net.C_W[l] * Theta
        K, M = linear_layer(net, K, M, l)
    assert_within(seen, "K", K)
    assert_within(seen, "Theta", Theta)
    assert_within(seen, "V", 5 * (M - np.einsum("ab,cd->abcd", K, K)))
    assert (seen.standard_error["V"] < 0.15 * 5 * np.abs(M).max()).all()  # it is a test


def test_one_linear_input_has_the_product_over_its_layers():
    # FACTS 4.1: E[z⁴]/(3 K²) = Π (1 + 2/n_ℓ), C_b = 0, C_W = 1
    net = fw.MLP("linear", depth=3, width=[4, 8])
    seen = measure(net, [[1.0]], n_networks=20000, tensors=["V"], seed=2)
    assert_within(seen, "V", 8 * ((1 + 2 / 4) * (1 + 2 / 8) - 1))
    assert seen.standard_error["V"] < 0.5


def test_every_tensor_of_one_hidden_linear_layer():
    # exact in n (FACTS 2.1–2.4 with σ' = 1 and no second derivative): pins axes, pairings and powers of each
    w, b = 0.9, 0.4  # λ_W, λ_b
    net = fw.MLP("linear", depth=2, width=6, C_b=0.2, C_W=[1.0, 1.3], lambda_b=b, lambda_W=w)
    seen = measure(net, X, n_networks=4000, seed=3)
    assert seen.n == 6
    K, Th, C = 0.2 + X @ X.T / 2, b + w * X @ X.T / 2, 1.3
    two = np.einsum("ac,bd->abcd", K, K) + np.einsum("ad,bc->abcd", K, K)
    expected = {
        "K": 0.2 + C * K,
        "Theta": b + w * K + C * Th,
        "V": C**2 * two,
        "A": w**2 * two,
        "B": C**2 * np.einsum("ac,bd->abcd", Th, Th),
        "D": C * w * two,
        "F": C**2 * np.einsum("ac,bd->abcd", K, Th),
        "P": np.zeros((2,) * 4),
        "Q": w * C * np.einsum("bd,ac->abcd", K, Th),
        "R": np.zeros((2,) * 4),
        "S": C * w * np.einsum("ac,bd->abcd", Th, Th),
        "T": w**2 * np.einsum("bc,ad->abcd", K, Th),
        "U": np.zeros((2,) * 4),
    }
    assert seen.mean.keys() == expected.keys()
    for name, value in expected.items():
        assert_within(seen, name, value)
        assert (seen.standard_error[name] <= 0.15 * np.abs(value).max()).all()


@pytest.mark.slow
def test_standard_errors_are_honest():
    # squared pulls of 50 experiments average to 63/61 ± 0.21, and pulls to 0 ± 0.14: five such errors fail once in 10^6
    net = fw.MLP("linear", depth=2, width=16)
    pulls = []
    for seed in range(50):
        seen = measure(net, [[1.0]], n_networks=1024, tensors=["V"], seed=seed)
        pulls.append((seen.mean["V"] - 2).item() / seen.standard_error["V"].item())
    assert 0.3 < np.mean(np.square(pulls)) < 2.1
    assert abs(np.mean(pulls)) < 0.7


SMALL = {"net": fw.MLP("gelu", depth=3, width=7, C_b=0.1, C_W=1.5), "x": X}


def test_the_same_seed_gives_the_same_bits_and_another_one_others():
    first, again, other = (measure(**SMALL, n_networks=200, tensors=["K", "V"], seed=s) for s in (5, 5, 6))
    for name in ("K", "V"):
        np.testing.assert_array_equal(first.mean[name], again.mean[name])
        np.testing.assert_array_equal(first.standard_error[name], again.standard_error[name])
        assert (first.mean[name] != other.mean[name]).all()


def test_batches_done_in_another_order_give_the_same_bits(monkeypatch):
    forward = measure(**SMALL, n_networks=200, tensors=["V"])
    monkeypatch.setattr(initialisation, "enumerate", lambda batches: reversed(list(enumerate(batches))), raising=False)
    backward = measure(**SMALL, n_networks=200, tensors=["V"])
    np.testing.assert_array_equal(forward.mean["V"], backward.mean["V"])
    np.testing.assert_array_equal(forward.standard_error["V"], backward.standard_error["V"])


def test_chunks_change_rounding_only():
    # the same networks: by threes, which leaves one to be padded in every batch of 7 or 8, or by twos
    one, other = (measure(**SMALL, n_networks=500, tensors=["V", "K"], chunk=chunk) for chunk in (3, 2))
    for name in ("V", "K"):
        scale = 1e-11 * np.abs(one.mean[name]).max()
        np.testing.assert_allclose(other.mean[name], one.mean[name], rtol=0, atol=scale)
        np.testing.assert_allclose(other.standard_error[name], one.standard_error[name], rtol=1e-9)


def test_networks_of_different_widths_and_seeds_are_independent():
    # 64 pseudo-values each: correlations of independent ones have the error 1/8, five of them fail once in 10^6
    seen = [
        measure(fw.MLP("linear", depth=2, width=n), [[1.0]], n_networks=640, tensors=["K"], seed=seed)
        for n, seed in ((8, 0), (8, 1), (9, 0))
    ]
    values = np.array([each.estimates["K"].pseudo_values.ravel() for each in seen])
    assert np.abs(np.corrcoef(values) - np.eye(3)).max() < 0.625


@pytest.mark.slow
def test_one_layer_is_exactly_gaussian_with_a_constant_kernel():
    net = fw.MLP("tanh", depth=1, C_b=0.3, C_W=1.4, lambda_b=0.2, lambda_W=0.6)
    seen = measure(net, X, n_networks=2000)
    assert seen.n == 2
    assert_within(seen, "K", 0.3 + 1.4 * X @ X.T / 2)
    np.testing.assert_allclose(seen.mean["Theta"], 0.2 + 0.6 * X @ X.T / 2, rtol=1e-12)
    for name in "VD":
        assert_within(seen, name, 0)
    for name in "ABFPQRSTU":
        np.testing.assert_allclose(seen.mean[name], 0, atol=1e-10)


def test_the_users_precision_is_left_alone():
    import jax.numpy as jnp

    seen = measure(**SMALL, n_networks=2, tensors=["K"])
    assert seen.mean["K"].dtype == np.float64
    assert jnp.ones(1).dtype == np.float32


def test_progress_counts_networks_up_to_the_last():
    calls = []
    measure(**SMALL, n_networks=150, tensors=["K"], progress=lambda *call: calls.append(call))
    done, total = zip(*calls, strict=True)
    assert set(total) == {150} and done[-1] == 150 and list(done) == sorted(set(done))
    calls.clear()
    measure_widths(**SMALL, widths=[4, 8], n_networks=[10, 30], tensors=["K"], progress=lambda *c: calls.append(c))
    assert calls[-1] == (40, 40) and {total for _, total in calls} == {40}


def test_only_tensors_asked_for_are_measured():
    assert list(measure(**SMALL, n_networks=4, tensors=["V", "K"]).mean) == ["K", "V"]
    assert list(measure(**SMALL, n_networks=4, tensors=["D"]).mean) == ["D"]


def test_relu_is_measured():
    # FACTS 4.2, one input: q₂/q₁ = (2/n) Σ z₊², so that the kernel's variance is 5/n K²: V = 5 K² at depth 2
    net = fw.MLP("relu", depth=2, width=8, C_W=2.0)
    seen = measure(net, [[1.0]], n_networks=10000, tensors=["V"], seed=4)
    assert_within(seen, "V", 5 * 2.0**2)
    assert seen.standard_error["V"] < 2


# THEORY §3: tanh, one input with |x|²/n_0 = 1.1, layer 4
TABLE = fw.MLP("tanh", depth=4, width=1, C_W=1.3, C_b=0.2, lambda_W=0.7, lambda_b=0.5)
VALUES = {"K": 0.6192235840, "Theta": 1.9173939125, "V": 0.15252, "A": 0.64462, "B": 2.80309, "D": -0.27283}
VALUES |= {"F": 0.25271, "P": -1.07711, "Q": -0.49462, "R": -8.76953, "S": 4.72119, "T": 1.28340, "U": 1.72878}
SHIFTS = {"K": -0.0441047, "Theta": 0.0048673}  # G1, H1


def assert_table(scan, names, order):
    for name in names:
        fit = scan.extrapolate(name, order=order)
        assert abs(fit.value.item() - VALUES[name]) < BOUND * fit.standard_error.item(), name
        assert fit.p_value.item() > 1e-6, name
        if name in SHIFTS:
            assert abs(fit.coefficients[1].item() - SHIFTS[name]) < BOUND * fit.standard_errors[1].item(), name


@pytest.mark.slow
def test_preactivations_of_a_tanh_network_extrapolate_to_the_table():
    scan = measure_widths(
        TABLE, [[np.sqrt(1.1)]], widths=[12, 24, 48], n_networks=[12000, 8000, 4000], tensors=["K", "V"], seed=11
    )
    assert_table(scan, ["K", "V"], order=1)
    assert scan.extrapolate("V").standard_error < 0.15 * VALUES["V"]


@pytest.mark.slow
def test_every_tensor_of_a_tanh_network_extrapolates_to_the_table():
    scan = measure_widths(
        TABLE, [[np.sqrt(1.1)]], widths=[16, 24, 48, 80], n_networks=[40000, 30000, 16000, 5000], seed=12
    )
    assert_table(scan, VALUES, order=2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"net": "tanh"}, r"`net` must be an MLP, but got 'tanh'; make one as"),
        ({"x": [1.0, 2.0]}, r"`x` must have the shape \(N, n_in\), one input a row, but has the shape \(2,\)"),
        ({"x": "data"}, r"`x` must hold real numbers, of shape \(N, n_in\), but got 'data'"),
        ({"x": np.ones((2, 2)) * 1j}, r"`x` must hold real numbers, .* complex128"),
        ({"x": [[1.0, np.nan]]}, r"`x` must be finite, but x\[0, 1\] is nan; remove or replace it"),
        ({"net": fw.MLP("tanh", depth=2, n_in=3)}, r"`x` has 2 columns, but the network has n_in = 3"),
        ({"n_networks": 1}, r"`n_networks` must be at least 2, .* but got 1"),
        ({"n_networks": 2.5}, r"`n_networks` must be an integer ≥ 1, but got 2.5"),
        ({"tensors": ["G1"]}, r"`tensors` has 'G1', but an experiment measures K, V, Theta, A"),
        ({"tensors": "V"}, r"`tensors` must be a list of names such as \['K', 'V'\], or None for all, but got 'V'"),
        ({"seed": -1}, r"`seed` must be an integer from 0 to 2\*\*32 - 1, but got -1"),
        ({"chunk": 0}, r"`chunk` must be an integer ≥ 1, but got 0"),
        ({"outputs": 8}, r"`outputs` must be an Outputs, as Outputs\(z=64, .* but got 8"),
        ({"outputs": Outputs(z=1), "tensors": ["V"]}, r"`outputs.z` must be at least 2, .* but got 1"),
        ({"outputs": Outputs(z=4, H=8), "tensors": ["B"]}, r"`outputs.z` counts all outputs, .* raise it to 8 or more"),
        ({"net": fw.MLP("relu", depth=4, width=4, C_W=1e160)}, r"K, V is not a finite number: .* choose C_W nearer"),
    ],
)
def test_arguments_that_cannot_be_used(change, message):
    with pytest.raises(InputError, match=message):
        measure(**{**SMALL, "n_networks": 10, "tensors": ["K", "V"], **change})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"widths": 16}, r"`widths` must be a list such as \[16, 32, 64\], but got 16"),
        ({"widths": [16, 16]}, r"`widths` must differ from each other"),
        ({"widths": [[8, 16], [16, 16]]}, r"`widths` must keep the ratios of the layers, which enter the limit"),
        ({"net": fw.MLP("tanh", depth=1)}, r"`net` has depth 1, no hidden layer whose width could change"),
        ({"n_networks": [10]}, r"`n_networks` has 1 entries for 2 widths; give 2 or one number"),
    ],
)
def test_widths_that_cannot_be_used(change, message):
    with pytest.raises(InputError, match=message):
        measure_widths(**{**SMALL, "widths": [8, 16], "n_networks": 10, **change})
