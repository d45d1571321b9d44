"""Gaussian numbers against JAX's own bit by bit, mpmath's inverse error function, and the law they should have."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from scipy import stats

import finitewidth as fw
from finitewidth.experiments.networks import draw
from finitewidth.experiments.normals import IMPLEMENTATION, _bits, _inverse_normal, normals
from finitewidth.precision import float64


def drawn(shape, seed=3):
    with float64():
        return np.asarray(jax.jit(lambda key: normals(key, shape))(jax.random.key(seed, impl=IMPLEMENTATION)))


@pytest.mark.parametrize("count", [1, 7, 4097])
def test_bits_are_those_of_jax(count):
    with float64():
        for key in jax.random.split(jax.random.key(5, impl=IMPLEMENTATION), 3):
            np.testing.assert_array_equal(
                _bits(key, jax.lax.iota(jnp.uint32, count)), jax.random.bits(key, (count,), jnp.uint64)
            )


def test_numbers_are_those_of_jax_but_for_the_last_digits():
    with float64():
        expected = jax.random.normal(jax.random.key(3, impl=IMPLEMENTATION), (300, 40))
    np.testing.assert_allclose(drawn((300, 40)), expected, rtol=1e-11)


def test_inverse_against_forty_digits():
    near_one = 1 - 2.0 ** -np.arange(1, 53)
    u = np.concatenate([near_one, -near_one, np.linspace(-0.9999, 0.9999, 400), 2.0 ** -np.arange(1, 60)])
    with float64(), mpmath.workdps(40):
        found = np.asarray(jax.jit(_inverse_normal)(u))
        expected = np.array([float(mpmath.sqrt(2) * mpmath.erfinv(mpmath.mpf(float(each)))) for each in u])
        least = float(jax.jit(_inverse_normal)(np.nextafter(-1.0, 0.0)))
    np.testing.assert_allclose(found, expected, rtol=3e-14)
    np.testing.assert_allclose(least, -np.sqrt(2) * 5.863584748755168, rtol=1e-13)  # erfinv(1 − 2⁻⁵³), mpmath


def test_law():
    """Kolmogorov and Smirnov's distance, tails, and correlation of neighbours: 4.5 standard errors at most."""
    x = drawn((1 << 20,))
    assert stats.kstest(x, "norm").pvalue > 1e-5
    for k, (mean, variance) in {2: (1, 2), 4: (3, 96), 6: (15, 10170)}.items():
        assert abs(np.mean(x**k) - mean) < 4.5 * np.sqrt(variance / x.size)
    for at in (3.0, 4.0):  # either side of where one polynomial takes over from another, 2.9
        expected = x.size * 2 * stats.norm.sf(at)
        assert abs((np.abs(x) > at).sum() - expected) < 4.5 * np.sqrt(expected)
    for lag in (1, 2, 4096):
        assert abs(np.mean(x[lag:] * x[:-lag])) < 4.5 / np.sqrt(x.size)


def test_a_number_does_not_depend_on_those_drawn_beside_it():
    np.testing.assert_array_equal(drawn((8192,))[:96].reshape(8, 12), drawn((8, 12)))
    keys = jax.random.split(jax.random.key(1, impl=IMPLEMENTATION), 5)
    with float64():
        together = jax.jit(jax.vmap(lambda key: normals(key, (1000,))))(keys)
        alone = jax.jit(lambda key: normals(key, (1000,)))(keys[3])
    np.testing.assert_array_equal(together[3], alone)


def test_large_matrices_are_drawn_where_they_stand_with_the_same_numbers(monkeypatch):
    net = fw.MLP("tanh", depth=3, width=[20, 30], C_b=0.3, C_W=[1.0, 1.4, 0.8])

    def networks():
        keys = jax.random.split(jax.random.key(1, impl=IMPLEMENTATION), 3)
        return jax.jit(jax.vmap(lambda key: draw(key, net, n_in=5, n_out=2)))(keys)

    with float64():
        expected = networks()
        monkeypatch.setattr("finitewidth.experiments.networks.LARGE", 600)
        monkeypatch.setattr("finitewidth.experiments.networks._drawn_at_once", None)
        found = networks()
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_another_generator_is_another_run(tmp_path, monkeypatch):
    net, path = fw.MLP("tanh", depth=2, width=4), tmp_path / "run.db"
    fw.ensemble(net, [[1.0]], observables=["K"], n_networks=4, path=path, workers=1)
    monkeypatch.setattr("finitewidth.experiments.initial_networks.GENERATOR", "another")
    with pytest.raises(fw.InputError, match="its generator is"):
        fw.ensemble(net, [[1.0]], observables=["K"], n_networks=4, path=path, workers=1)
