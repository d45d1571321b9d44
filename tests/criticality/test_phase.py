"""Fixed points and phase diagrams against closed forms, printed digits (FACTS 3.6) and the recursion run layer by
layer."""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.special import ndtr

from finitewidth.activations import Activation
from finitewidth.criticality import critical_line, fixed_point, phase_diagram
from finitewidth.errors import InputError

TANH = Activation(jnp.tanh, "tanh", kinks=(), parity="odd")
ERF = Activation(jax.scipy.special.erf, "erf", kinks=(), parity="odd")
GELU = Activation(lambda z: z * jax.scipy.special.ndtr(z), "gelu", kinks=(), parity="none")
RELU = Activation(lambda z: jnp.where(z > 0, z, 0.0), "relu", kinks=(0.0,), parity="none")
COS = Activation(jnp.cos, "cos", kinks=(), parity="even")
SIGN = Activation(jnp.sign, "sign", kinks=(0.0,), parity="odd")
GELU_C_b, GELU_C_W, GELU_K = 0.17292239075606735, 1.9830582574375471, (3 + math.sqrt(17)) / 2

X = np.linspace(-9, 9, 721)
W = np.exp(-0.5 * X * X) * (X[1] - X[0]) / math.sqrt(2 * math.pi)


def iterate(sigma, C_b, C_W, K, layers=1500):
    for _ in range(layers):
        K = C_b + C_W * (W @ sigma(math.sqrt(K) * X) ** 2)
    return K


EDGE = [  # activation, C_b, C_W, q*
    (TANH, 2.01e-5, 1.0499956285, 0.025918602748),
    (TANH, 0.001, 1.18918958523, 0.107292356148),
    (TANH, 0.01, 1.42420529049, 0.273300913458),
    (TANH, 0.05, 1.76095463961, 0.570047881641),
    (TANH, 0.1, 1.98607264114, 0.805799181913),
    (TANH, 0.25, 2.40148923511, 1.31793899897),
    (TANH, 0.5, 2.84316745972, 1.97103061342),
    (ERF, 0.05, 1.37583900735, 0.517176837981),
    (ERF, 0.01, 1.1142800634, 0.253209656331),
    (ERF, 0.1, 1.55211785533, 0.726359229385),
]


@pytest.mark.parametrize(("activation", "C_b", "C_W", "q"), EDGE)
def test_edge_of_chaos_has_the_printed_digits(activation, C_b, C_W, q):
    K = brentq(lambda k: float(critical_line(activation, k)[0]) - C_b, 1e-3, 10, xtol=1e-14, rtol=1e-14)
    assert pytest.approx(q, abs=6e-12) == K  # printed to 11 or 12 decimals
    assert float(critical_line(activation, K)[1]) == pytest.approx(C_W, abs=6e-11)


def test_edge_of_chaos_by_its_kernel():
    C_b, C_W, chi = critical_line(TANH, np.array([0.5, 1.0]))
    np.testing.assert_allclose(C_W, [1.68797512058, 2.1533026489], rtol=3e-12)
    np.testing.assert_allclose(C_b, [0.0380412011113, 0.150964629379], rtol=3e-12)
    assert np.all(chi < 1)


def test_line_of_the_diagram_lies_where_angles_are_kept():
    line = phase_diagram(TANH, C_b=(0.0, 0.3), C_W=(0.5, 3.0), resolution=3).line
    assert (float(line.C_b[0]), float(line.C_W[0]), float(line.K_star[0])) == (0.0, 1.0, 0.0)
    for i in (100, 200, -1):  # χ⊥ by plain summation, at the fixed point that the recursion itself reaches
        K = iterate(np.tanh, float(line.C_b[i]), float(line.C_W[i]), 1.0, layers=2000)
        assert float(line.K_star[i]) == pytest.approx(K, rel=1e-9)
        assert float(line.C_W[i]) * (W @ (1 - np.tanh(math.sqrt(K) * X) ** 2) ** 2) == pytest.approx(1.0, abs=1e-9)
    assert np.all(line.stable[1:]) and float(line.C_b[-1]) == pytest.approx(0.3, abs=2e-2)


def test_cells_are_the_end_of_the_recursion():
    for activation, sigma in ((GELU, lambda z: z * ndtr(z)), (COS, np.cos)):
        cells = phase_diagram(activation, C_b=[0.02, 0.3], C_W=[0.4, 1.6]).cells
        for i in range(2):
            for j in range(2):
                C_b, C_W = float(cells.C_b[i]), float(cells.C_W[j])
                assert float(cells.K_star[i, j]) == pytest.approx(iterate(sigma, C_b, C_W, C_b + C_W), rel=1e-10)
        assert cells.attrs["error"] < 1e-10


def test_relu_plane_has_closed_forms():
    cells = phase_diagram(RELU, C_b=[0.0, 0.25], C_W=[1.0, 1.9, 2.0, 2.5]).cells
    assert cells.phase.values.tolist() == [
        ["ordered", "ordered", "critical", "diverging"],
        ["ordered", "ordered", "diverging", "diverging"],
    ]
    np.testing.assert_allclose(cells.K_star[1, :2], [0.25 / 0.5, 0.25 / 0.05], rtol=1e-11)
    np.testing.assert_allclose(cells.K_star[0, :3], [0.0, 0.0, 2.0], rtol=1e-15)
    np.testing.assert_allclose(cells.chi_perp[:, 1], 0.95, rtol=1e-13)
    np.testing.assert_allclose(cells.xi_angles[1, 1], -1 / math.log(0.95), rtol=1e-10)
    assert np.all(np.isnan(cells.chi_perp[1, 2:]))


def test_gelu_basins():
    below, above = (fixed_point(GELU, GELU_C_b, GELU_C_W, K) for K in (1.0, 10.0))
    assert above.K_star == pytest.approx(GELU_K, rel=1e-5) and (above.norms, above.angles) == ("critical", "critical")
    assert below.K_star == pytest.approx(3.03498, rel=1e-5) and below.angles == "vanishing"
    assert iterate(lambda z: z * ndtr(z), GELU_C_b, GELU_C_W, 2.9, layers=40000) == pytest.approx(
        below.K_star, rel=2e-3
    )


def test_pytorch_default_forgets_its_input():
    end = fixed_point(GELU, 1 / (3 * 512), 1 / 3)
    assert end.K_star == pytest.approx(iterate(lambda z: z * ndtr(z), 1 / (3 * 512), 1 / 3, 0.3), rel=1e-12)
    assert (end.norms, end.angles) == ("vanishing", "vanishing") and end.xi_angles < 0.5
    assert "gradients vanish" in end.verdict
    json.dumps(end.to_dict(), allow_nan=False)


@pytest.mark.parametrize(
    ("activation", "C_b", "C_W", "outcome", "norms", "angles"),
    [
        (RELU, 0.0, 2.0, "fixed point", "critical", "critical"),
        (RELU, 0.1, 2.0, "diverges", "critical", "critical"),
        (RELU, 0.0, 2.2, "diverges", "exploding", "exploding"),
        (RELU, 0.0, 1.0, "fixed point", "vanishing", "vanishing"),
        (TANH, 0.0, 1.0, "fixed point", "critical", "critical"),
        (TANH, 0.0, 3.0, "fixed point", "vanishing", "exploding"),
        (COS, 0.0, 40.0, "fixed point", "vanishing", "exploding"),
        (SIGN, 0.1, 1.0, "fixed point", "vanishing", "undefined"),
    ],
)
def test_verdicts(activation, C_b, C_W, outcome, norms, angles):
    end = fixed_point(activation, C_b, C_W)
    assert (end.outcome, end.norms, end.angles) == (outcome, norms, angles)
    json.dumps(end.to_dict(), allow_nan=False)


def test_a_bump_that_keeps_its_critical_decay():
    # ⟨σ²⟩ = K/(1 + 4K)^{3/2} for σ = z e^{−z²}: rises, then falls; K* = 0 at C_W = 1
    bump = Activation(lambda z: z * jnp.exp(-z * z), "z bump", kinks=(), parity="odd")
    assert (fixed_point(bump, 0.0, 1.0).K_star, fixed_point(bump, 0.0, 1.0).norms) == (0.0, "critical")
    end = fixed_point(bump, 0.0, 8.0)
    assert end.K_star == pytest.approx(0.75, rel=1e-12) and end.chi_parallel == pytest.approx(
        1 - 6 * 0.75 / 4, rel=1e-12
    )
    cells = phase_diagram(bump, C_b=[0.0], C_W=[0.5, 8.0]).cells
    np.testing.assert_allclose(cells.K_star, [[0.0, 0.75]], rtol=1e-10)


def test_tiny_and_huge_starts():
    assert fixed_point(TANH, 1e-14, 0.5, 1e-13).K_star == pytest.approx(2e-14, rel=1e-10)
    assert fixed_point(RELU, 1.0, 1.0, 1e12).K_star == pytest.approx(2.0, rel=1e-12)
    assert fixed_point(TANH, 0.0, 1.5, 0.0).K_star == 0.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((TANH, -0.1, 1.0), "`C_b` must be a finite number ≥ 0"),
        ((TANH, 0.1, 0.0), "`C_W` must be a finite number > 0"),
        ((TANH, 0.1, math.nan), "`C_W` must be a finite number > 0"),
        ((TANH, 0.1, 1.0, -1.0), "`K_start` must be a finite number ≥ 0"),
    ],
)
def test_bad_initialisations(arguments, message):
    with pytest.raises(InputError, match=message):
        fixed_point(*arguments)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resolution": 1}, "`resolution` must be an integer ≥ 2"),
        ({"C_b": (-1.0, 1.0)}, "`C_b` must be increasing finite numbers ≥ 0"),
        ({"C_W": [1.0, 0.5]}, "`C_W` must be increasing finite numbers > 0"),
        ({"C_W": "wide"}, "`C_W` must be increasing finite numbers > 0"),
    ],
)
def test_bad_planes(options, message):
    with pytest.raises(InputError, match=message):
        phase_diagram(TANH, **options)


def test_no_line_where_sigma_jumps():
    with pytest.raises(InputError, match="χ⊥ does not exist"):
        critical_line(SIGN, 1.0)
    assert phase_diagram(SIGN, C_b=[0.1], C_W=[1.0]).line.sizes["point"] == 0
