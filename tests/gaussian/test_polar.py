"""Polar quadrature of all pairs of kernels: against 50 digits for ReLU and erf, and against the plane for the rest."""

import numpy as np
import pytest
from mpmath import mp, mpf

import finitewidth as fw
from finitewidth.gaussian.plane import direct_pairs
from finitewidth.gaussian.polar import pair_matrices

K = np.array([1e-12, 0.3, 1.0, 2.5, 40.0, 1e4])
THETA = np.array([1e-6, 1e-3, 0.2, 1.0, np.pi / 2])


def relu(a: mpf, b: mpf, t: mpf) -> tuple[mpf, mpf]:
    return mp.sqrt(a * b) * (mp.sin(t) + (mp.pi - t) * mp.cos(t)) / (2 * mp.pi), (mp.pi - t) / (2 * mp.pi)


def erf(a: mpf, b: mpf, t: mpf) -> tuple[mpf, mpf]:
    norm, c = (1 + 2 * a) * (1 + 2 * b), mp.sqrt(a * b) * mp.cos(t)
    return 2 / mp.pi * mp.asin(2 * c / mp.sqrt(norm)), 4 / mp.pi / mp.sqrt(norm - 4 * c * c)


@pytest.mark.parametrize(("name", "exact"), [("relu", relu), ("erf", erf)])
def test_fifty_digits(name: str, exact) -> None:
    """D to relative accuracy down to θ = 1e-6, for pairs of kernels that differ by up to sixteen orders."""
    mp.dps = 50
    found = pair_matrices(fw.activations.named(name), K, THETA, both_signs=True)
    for sign in (0, 1):
        for i, t in enumerate(THETA):
            for p, a in enumerate(map(mpf, K)):
                for q, b in enumerate(map(mpf, K)):
                    start, end = (mpf(0), mpf(float(t))) if sign == 0 else (mp.pi, mp.pi - mpf(float(t)))
                    (edge, _), (F, S) = exact(a, b, start), exact(a, b, end)
                    scale = mp.sqrt(exact(a, a, mpf(0))[0] * exact(b, b, mpf(0))[0])
                    slopes = mp.sqrt(exact(a, a, mpf(0))[1] * exact(b, b, mpf(0))[1])
                    D = mpf(float(found.D[sign, i, p, q]))
                    loss = 1e-9 if t < 1e-5 else 2e-13  # of differences between neighbours at a distance θ
                    assert abs(D - (edge - F)) <= loss * max(abs(edge - F), scale * t * t)
                    assert abs(mpf(float(found.S[sign, i, p, q])) - S) <= 2e-13 * slopes
                    assert abs(mpf(float(found.collinear[sign, p, q])) - edge) <= 2e-14 * scale


@pytest.mark.parametrize("name", ["tanh", "elu", "gaussian"])
def test_the_plane(name: str) -> None:
    """No parity, odd, even; smooth and kinked at 0. The plane splits in other variables, and says how well."""
    activation, kernels = fw.activations.named(name), K[1:4]
    found = pair_matrices(activation, kernels, THETA[1:], both_signs=True)
    a, b = (x.ravel() for x in np.meshgrid(kernels, kernels, indexing="ij"))
    for i, s in enumerate((1.0, -1.0)):
        for j, t in enumerate(THETA[1:]):
            w = np.full(a.shape, 2 * np.sin(t / 2) ** 2)
            plane, error = direct_pairs(activation, a, b, w, np.full(a.shape, s))
            for what, mine in (("D", found.D[i, j]), ("S", found.S[i, j]), ("collinear", found.collinear[i])):
                other, allowed = getattr(plane, what), getattr(error, what)
                assert np.all(np.abs(mine.ravel() - other) <= 1e-12 * np.abs(other).max() + allowed), (what, s, t)


def test_no_negative_sign_unless_asked_for() -> None:
    found = pair_matrices(fw.activations.named("tanh"), K[1:3], THETA[2:4], both_signs=False)
    assert found.D.shape == found.S.shape == (1, 2, 2, 2)
    assert found.collinear.shape == (1, 2, 2)


def test_more_nodes_change_nothing() -> None:
    few, many = (pair_matrices(fw.activations.named("tanh"), K, THETA, both_signs=True, order=n) for n in (12, 18))
    for one, other in zip(few, many, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-8, atol=1e-12)
