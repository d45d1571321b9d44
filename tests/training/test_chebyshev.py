"""Polynomials of Θ, against matrix exponentials and against training step by step."""

import numpy as np
import pytest
import scipy.linalg

import finitewidth as fw
from finitewidth.training.chebyshev import Chebyshev
from finitewidth.training.modes import gained

rng = np.random.default_rng(6)
BASIS = np.linalg.qr(rng.standard_normal((120, 120)))[0]
A = (BASIS * 3.0 * 10 ** -np.linspace(0, 9, 120)) @ BASIS.T
A = 0.5 * (A + A.T)
COLUMNS = rng.standard_normal((120, 5))


def stepped(algorithm):
    """What has been learned of `COLUMNS`, w ← w + v with v ← μ v + η (columns − A w)."""
    w = v = np.zeros_like(COLUMNS)
    for _ in range(algorithm.steps):
        v = getattr(algorithm, "momentum", 0.0) * v + algorithm.step * (COLUMNS - A @ w)
        w = w + v
    return w


def flowed(algorithm):
    """∫₀ᵗ e^{−As} ds, a block of the exponential of a matrix twice as large."""
    N = len(A)
    block = np.block([[-A, np.eye(N)], [np.zeros((N, 2 * N))]])
    return scipy.linalg.expm(block * algorithm.time)[:N, N:] @ COLUMNS


@pytest.mark.parametrize(
    "algorithm",
    [
        fw.GradientFlow(0.3),
        fw.GradientFlow(200.0),
        fw.GradientDescent(0.1, 700),
        fw.GradientDescent(0.64, 700),  # the fastest modes change sign at every step
        fw.Momentum(0.2, 700, 0.9),
    ],
    ids=str,
)
def test_polynomials_train_as_steps_do(algorithm):
    roundings = algorithm.steps if isinstance(algorithm, fw.Momentum) else 0.0
    series = Chebyshev.of(lambda rates: gained(algorithm, rates), 3.0, 1e-10, roundings)
    counted = []
    found = series.applied(lambda v: A @ v, COLUMNS, lambda done, of: counted.append((done, of)))
    true = flowed(algorithm) if isinstance(algorithm, fw.GradientFlow) else stepped(algorithm)
    lengths = np.linalg.norm(COLUMNS, axis=0)
    # the tail bounds the operator's norm; rounding of φ itself, which is as large as the time, comes beside
    bound = series.tail + 100 * np.finfo(float).eps * series.largest
    assert np.all(np.linalg.norm(found - true, axis=0) <= bound * lengths)
    assert counted == [(k, series.products) for k in range(1, series.products + 1)]


def test_terms_grow_like_the_root_of_time_and_of_one_over_the_tail_hardly():
    def products(time, relative=1e-10):
        return Chebyshev.of(lambda rates: gained(fw.GradientFlow(time), rates), 1.0, relative).products

    assert products(1600.0) < 4.5 * products(100.0)
    assert products(1600.0, 1e-5) < products(1600.0) < 2.5 * products(1600.0, 1e-5)


def test_an_endless_series_is_none():
    assert Chebyshev.of(lambda rates: gained(fw.GradientFlow(1e30), rates), 1.0, 1e-10) is None
