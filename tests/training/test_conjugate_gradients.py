"""Conjugate gradients with their preconditioner, against LU."""

import numpy as np

from finitewidth.training.conjugate_gradients import Nystrom, conjugate_gradients

rng = np.random.default_rng(7)
N = 300
BASIS = np.linalg.qr(rng.standard_normal((N, N)))[0]
A = (BASIS * 100 * np.arange(1, N + 1) ** -2.0) @ BASIS.T
COLUMNS = rng.standard_normal((N, 3)) * [1.0, 1e-6, 0.0]
SHIFT = 1e-4


def solve(rank, iterations=500):
    return conjugate_gradients(
        lambda v: A @ v + SHIFT * v,
        COLUMNS,
        Nystrom.of(A, rank).preconditioner(SHIFT),
        tolerance=1e-9,
        iterations=iterations,
    )


def test_columns_of_any_size_are_solved_and_the_residual_is_theirs():
    found = solve(60)
    matrix = A + SHIFT * np.eye(N)
    true = np.linalg.solve(matrix, COLUMNS)
    rounding = 10 * np.finfo(float).eps * 100 * np.abs(found.value).max()  # 100 is the norm of A
    np.testing.assert_allclose(found.residual, COLUMNS - matrix @ found.value, rtol=0, atol=rounding)
    off = np.linalg.norm(found.value - true, axis=0)
    assert found.converged and np.all(off <= np.linalg.norm(found.residual, axis=0) / SHIFT * (1 + 1e-9))
    assert np.all(off[:2] < 1e-6 * np.linalg.norm(true, axis=0)[:2]) and off[2] == 0


def test_rank_saves_iterations_and_too_few_are_said():
    assert solve(75).iterations < 0.3 * solve(1).iterations
    short = solve(1, iterations=5)
    assert not short.converged and short.iterations == 5


def test_nystrom_finds_the_large_eigenvalues():
    near = Nystrom.of(A, 60)
    true = 100 * np.arange(1, N + 1) ** -2.0
    np.testing.assert_allclose(near.S[:5], true[:5], rtol=0.05)
    assert np.all(near.S / true[:60] <= 1 + 1e-9)  # the approximation lies below A
