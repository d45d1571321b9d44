"""Cholesky factors in place, against NumPy's LU."""

import numpy as np
import pytest

from finitewidth.training import cholesky
from finitewidth.training.cholesky import compacted, factored_in_place

rng = np.random.default_rng(5)


def gram(N, rank):
    half = rng.standard_normal((N, rank))
    whole = half @ half.T
    return 0.5 * (whole + whole.T)


@pytest.fixture(params=[cholesky.BLOCK, 70], ids=["one block", "many blocks"], autouse=True)
def block(request, monkeypatch):
    """Blocks as in use, and so small that there are several and a last one that is not full."""
    monkeypatch.setattr(cholesky, "BLOCK", request.param)


def test_a_leading_block_is_moved_and_factored_where_it_stands():
    whole = gram(330, 400)
    leading, right = whole[:300, :300].copy(), rng.standard_normal((300, 4))
    A = compacted(whole[:300, :300])
    np.testing.assert_array_equal(A, leading)
    found = factored_in_place(A)
    assert np.shares_memory(found.factor, whole)  # no second matrix
    np.testing.assert_allclose(found.solve(right), np.linalg.solve(leading, right), rtol=1e-9)
    assert np.isclose(found.log_determinant, np.linalg.slogdet(leading)[1], rtol=1e-12)
    true = 1 / np.linalg.cond(leading, 1)
    assert true <= found.condition * (1 + 1e-9) and found.condition <= 10 * true  # LAPACK's estimate is from above


def test_a_view_that_does_not_lead_is_copied():
    whole = gram(40, 50)
    before = whole.copy()
    np.testing.assert_array_equal(compacted(whole[3:20, 3:20]), before[3:20, 3:20])
    compacted(whole[3:20, 3:20])[:] = 0
    np.testing.assert_array_equal(whole, before)


def test_a_singular_matrix_comes_back_as_it_was():
    for A in (gram(600, 300), np.diag([1.0, 1e-13, 2.0])):  # the first fails, the second has a factor
        before = A.copy()
        assert factored_in_place(A) is None
        np.testing.assert_array_equal(A, before)
