"""The density by quadrature, and against mixtures of Gaussians whose density is known exactly."""

import numpy as np
import pytest
from scipy.integrate import trapezoid
from scipy.stats import multivariate_normal

import finitewidth as fw
from finitewidth.errors import InputError, TrustWarning
from finitewidth.information import NearlyGaussian

X = ((1.2, -0.3), (0.4, 0.8))


def scaled(found, n, neurons=None):
    """The same K, G1 and V at another width: they do not depend on it."""
    fields = {name: getattr(found, name) for name in ("K", "G1", "V", "G1_error", "V_error")}
    return NearlyGaussian(**fields, n=n, neurons=neurons or found.neurons)


@pytest.fixture(scope="module")
def one_input():
    return fw.nearly_gaussian(fw.MLP("gelu", depth=3, width=50, n_out=2, C_b=0.1, C_W=2.0), X[:1])


@pytest.fixture(scope="module")
def two_inputs():
    return fw.nearly_gaussian(fw.MLP("gelu", depth=3, width=50, C_b=0.1, C_W=2.0), X)


def plane(found, two, reach=9.0, points=361):
    """A fine grid over two numbers, in units of standard deviations: coordinates and the volume of a cell."""
    line = np.linspace(-reach, reach, points)
    grid = np.stack(np.meshgrid(line, line, indexing="ij"), -1)
    root = np.linalg.cholesky(two)
    return grid @ root.T, (line[1] - line[0]) ** 2 * np.linalg.det(root)


@pytest.mark.parametrize("case", ["two neurons", "two inputs"])
def test_expanded_density_has_integral_one_and_the_moments_of_first_order(case, one_input, two_inputs):
    if case == "two neurons":  # on one input
        found = one_input
        z, cell = plane(found, found.K * np.eye(2))
        p = found.density(z[..., :, None])
        order = lambda i: (i, 0)  # noqa: E731
    else:  # of one neuron
        found = two_inputs
        z, cell = plane(found, found.K)
        p = found.density(z[..., None, :])
        order = lambda a: (0, a)  # noqa: E731
    assert p.sum() * cell == pytest.approx(1, rel=1e-10)
    G = found.covariance
    for s in np.ndindex(2, 2):
        (i, a), (j, b) = map(order, s)
        second = (p * z[..., s[0]] * z[..., s[1]]).sum() * cell
        assert second == pytest.approx((i == j) * G[a, b], abs=1e-10)
    for s in np.ndindex(2, 2, 2, 2):
        (i, a), (j, b), (k, c), (m, d) = map(order, s)
        four = (p * np.prod([z[..., each] for each in s], axis=0)).sum() * cell
        K, g = found.K, found.shift

        def pair(same, a, b, c, d, K=K, g=g):  # GG to order 1/n
            return same * (K[a, b] * K[c, d] + K[a, b] * g[c, d] + g[a, b] * K[c, d])

        wick = (
            pair(i == j and k == m, a, b, c, d)
            + pair(i == k and j == m, a, c, b, d)
            + pair(i == m and j == k, a, d, b, c)
        )
        assert four == pytest.approx(wick + found.four_point(i, j, k, m)[a, b, c, d], abs=1e-9)


def test_exponentiated_form_is_normalised_to_order_one_over_n(one_input):
    # within 6 standard deviations: beyond them is 10⁻⁹ of the mass, and c is small within at these widths
    left = []
    for n in (800, 1600, 3200):
        found = scaled(one_input, n)
        z, cell = plane(found, found.K * np.eye(2), reach=6.0)
        left.append(np.exp(found.log_density(z[..., :, None])).sum() * cell - 1)
    np.testing.assert_allclose(np.log2(np.abs(np.divide(left[:-1], left[1:]))), 2, atol=0.15)


@pytest.mark.parametrize("case", ["one_input", "two_inputs"])
def test_log_density_is_that_of_a_mixture_up_to_second_order(case, request):
    # Ĝ = K + G1/n ± √(mode of V/n), each sign and each mode as likely: its mean and covariance are those asked for, and
    # its density is a finite sum of Gaussians
    base = request.getfixturevalue(case)
    N, m = len(base.K), 2
    values, vectors = np.linalg.eigh(base.V.reshape(N * N, N * N))
    modes = (vectors * np.sqrt(np.maximum(values, 0) * N * N)).T.reshape(-1, N, N)
    z = np.random.default_rng(0).normal(size=(20, m, N)) @ np.linalg.cholesky(base.K).T
    left = []
    for n in (10_000, 20_000, 40_000):
        found = scaled(base, n, m)
        exact = np.zeros(len(z))
        for mode in modes:
            for sign in (1, -1):
                law = multivariate_normal(cov=found.covariance + sign * mode / np.sqrt(n))
                exact += np.prod(law.pdf(z).reshape(len(z), m), 1) / (2 * len(modes))
        left.append(np.log(exact) - found.log_density(z))
    assert np.abs(left[0]).max() < 0.1 * np.abs(scaled(base, 10_000, m).action.correction(z)).max()
    largest = np.abs(left).max(1)
    np.testing.assert_allclose(np.log2(largest[:-1] / largest[1:]), 2, atol=0.15)


def test_action_and_log_density_differ_by_the_normaliser(two_inputs):
    for m in (1, 3):
        found = scaled(two_inputs, 60, m)
        z = np.random.default_rng(1).normal(size=(5, m, 2))
        np.testing.assert_allclose(-found.action(z) - found.action.log_normaliser, found.log_density(z), rtol=1e-12)


def test_couplings_of_one_number():
    # PDLT ch. 1: action ½ g z² − ⅛ v z⁴ has E z² = 1/g + (3/2) v/g³, connected E z⁴ = 3 v/g⁴
    found = fw.nearly_gaussian(fw.MLP("relu", depth=3, width=1000, C_W=2.0), [[1.0]])
    K, V = found.K.item(), found.V.item() / 1000
    assert found.action.quadratic_coupling.item() == pytest.approx((1 + 1.5 * V / K**2) / K)
    assert found.action.quartic_coupling.item() == pytest.approx(V / K**4)


def test_summing_over_a_neuron(one_input):
    # the density of one neuron is that of two, integrated: the couplings run so that it comes out
    two, one = one_input, scaled(one_input, one_input.n, 1)
    sd = np.sqrt(two.K.item())
    line = np.linspace(-10, 10, 2001) * sd
    for z in (0.0, 0.7 * sd, 2.5 * sd):
        p = two.density(np.stack([np.full_like(line, z), line], -1)[..., None])
        assert trapezoid(p, line) == pytest.approx(one.density([[z]]).item(), rel=1e-9)


def test_size_is_the_root_mean_square_of_the_correction(two_inputs):
    found = two_inputs
    z, cell = plane(found, found.K)
    weight = multivariate_normal(cov=found.K).pdf(z) * cell
    square = (found.action.correction(z[..., None, :]) ** 2 * weight).sum()
    assert found.action.size == pytest.approx(np.sqrt(square), rel=1e-9)


def test_loss_of_entropy_of_facts():
    # FACTS 7.1: entropy is less than that of the Gaussian of the same variance by m (m + 2) ε²/16 = ½ size²
    found = fw.nearly_gaussian(fw.MLP("relu", depth=3, width=100, C_W=2.0, n_out=4), [[1.0]])
    assert found.action.size**2 / 2 == pytest.approx(4 * 6 * 0.1**2 / 16)


def test_what_cannot_be_trusted_is_said(one_input):
    with pytest.warns(TrustWarning, match="cannot be trusted for the density of 2 neurons on 1 inputs"):
        scaled(one_input, 1).log_density(np.zeros((2, 1)))


def test_arguments():
    same = fw.nearly_gaussian(fw.MLP("relu", depth=2, width=100, C_W=2.0), [[1.0, 2.0], [2.0, 4.0]])
    with pytest.raises(InputError, match="not positive definite"):
        same.log_density(np.zeros((1, 2)))
    with pytest.raises(InputError, match=r"shape \(…, neurons, inputs\) = \(…, 1, 2\), but has \(2, 1\)"):
        same.log_density(np.zeros((2, 1)))
