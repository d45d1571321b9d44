r"""Hermite coefficients of products σ⁽ᵏ⁾(z_a) σ⁽ˡ⁾(z_b) on the plane of two inputs, ready to be rotated.

A rotation of the plane by φ mixes A_ij = ⟨A h_i(x₁) h_j(x₂)⟩ of one degree n = i + j only. It is exp(φ G) with
G = a₁†a₂ − a₂†a₁, which is i times a real symmetric matrix up to phases iʲ. Its eigenvalues are iμ, μ = n, n − 2 … −n;
its eigenvectors v_μ(j) are the same for all planes. In their basis a rotation is a phase e^{iμφ}.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy.linalg import eigh_tridiagonal

from finitewidth.activations import Activation
from finitewidth.cores import on_all_cores
from finitewidth.gaussian.planes import Lattices, derivatives_on

Half = tuple[int, ...]
"""Orders of the derivatives of σ at the two inputs of a plane."""

_EPS = float(np.finfo(float).eps)
_COARSER = 0.9  # an error that the difference of the lattices, not its power, bounds may be larger
_PLANES_AT_A_TIME = 4  # what they need of memory is bounded so


class Sector(NamedTuple):
    """Products A of one parity, by index, and the degrees of the polynomials that they are made of."""

    halves: np.ndarray
    degrees: tuple[int, ...]


class Planes(NamedTuple):
    """P planes. What is relative is so to √⟨A²⟩.

    Attributes
        coefficients: by sector, real and imaginary parts in the eigenbasis, shape (2, P, its halves, Σ_n (n//2 + 1)).
        norm: √⟨A²⟩, shape (P, halves).
        rest: what degrees above n leave out, relative, shape (P, halves, degree + 1).
        error: how far the coefficients on two lattices lie apart, relative, shape (P,).
    """

    coefficients: list[np.ndarray]
    norm: np.ndarray
    rest: np.ndarray
    error: np.ndarray


def sectors_of(activation: Activation, halves: tuple[Half, ...], degree: int) -> list[Sector]:
    """σσ of odd or even σ is even or odd itself."""
    if activation.parity == "none":
        return [Sector(np.arange(len(halves)), tuple(range(degree + 1)))]
    parity = np.array([sum(half) % 2 for half in halves])
    return [Sector(np.flatnonzero(parity == p), tuple(range(p, degree + 1, 2))) for p in (0, 1) if np.any(parity == p)]


def hermite_planes(
    activation: Activation,
    std: np.ndarray,
    rho: np.ndarray,
    halves: tuple[Half, ...],
    degree: int,
    h: float,
    reach: float,
) -> Planes:
    """Coefficients of all products on the planes of pairs of inputs.

    Arguments
        std, rho: standard deviations, shape (P, 2), and correlations, shape (P,).
        degree: the highest.
        h, reach: of a lattice on which products of σ are exact; it is made finer for the polynomials.
    """
    lattices = Lattices.of(1 / (_COARSER / h + np.sqrt(degree) / (2 * np.pi)), reach, activation.parity != "none")
    functions = _hermite_functions(degree, lattices)
    sectors = sectors_of(activation, halves, degree)

    def some_planes(at: int) -> Planes:
        some = slice(at, at + _PLANES_AT_A_TIME)
        return _some_planes(_products(activation, std[some], rho[some], halves, lattices), functions, sectors)

    found = on_all_cores(some_planes, range(0, len(std), _PLANES_AT_A_TIME))
    return Planes(
        [np.concatenate(each, axis=1) for each in zip(*(planes.coefficients for planes in found), strict=True)],
        *(np.concatenate([planes[i] for planes in found]) for i in (1, 2, 3)),
    )


def rotated(g: np.ndarray, phi: np.ndarray, degrees: tuple[int, ...]) -> np.ndarray:
    """Coefficients on planes turned by φ, up to signs (−1)^⌈j/2⌉: for each degree those of even j, then those of odd j.

    Arguments
        g: of a sector, shape (2, P, halves, at least Σ (n//2 + 1)).
        phi: shape (P,).
    """
    mu = np.concatenate([np.arange(n, -1, -2) for n in degrees])
    twice = np.where(mu > 0, 2.0, 1.0)
    angles = np.outer(phi, np.arange(degrees[-1] + 1))
    cos, sin = (f(angles)[:, None, mu] * twice for f in (np.cos, np.sin))
    re, im = g[..., : len(mu)]
    parts = (re * cos - im * sin).reshape(-1, len(mu)), (re * sin + im * cos).reshape(-1, len(mu))
    found = np.empty((len(parts[0]), sum(n + 1 for n in degrees)))
    to = 0
    for n, at in _starts(degrees):
        for part, v in zip(parts, _eigenvectors(n), strict=True):
            np.matmul(part[:, at : at + n // 2 + 1], v, out=found[:, to : to + v.shape[1]])
            to += v.shape[1]
    return found.reshape(*re.shape[:2], -1)


def _products(
    activation: Activation, std: np.ndarray, rho: np.ndarray, halves: tuple[Half, ...], lattices: Lattices
) -> np.ndarray:
    """A times the square root of the weights at all nodes, shape (2, P, halves, m₁, m₂)."""
    orders = tuple(sorted({k for half in halves for k in half}))
    d = derivatives_on(activation, std, rho, orders, lattices)
    found = np.stack([d[orders.index(k), 0] * d[orders.index(l), 1] for k, l in halves], axis=2)
    found *= np.sqrt(lattices.weights)[:, None, None]
    return found


def _some_planes(A: np.ndarray, functions: tuple[np.ndarray, np.ndarray], sectors: list[Sector]) -> Planes:
    squares = 0.5 * np.einsum("lphxy,lphxy->ph", A, A) + np.finfo(float).tiny
    table = functions[0][:, None, None] @ A @ functions[1].swapaxes(1, 2)[:, None, None]
    size = table.shape[-1]
    shares = np.zeros((2, *squares.shape, size))  # by degree: of the mean of both lattices, of their difference
    found = []
    for halves, degrees in sectors:
        n = np.repeat(degrees, [n + 1 for n in degrees])
        j = np.concatenate([np.arange(n + 1) for n in degrees])
        one, other = table.reshape(*table.shape[:3], -1)[:, :, halves][..., (n - j) * size + j]
        mean = 0.5 * (one + other)
        starts = np.flatnonzero(j == 0)
        for total, each in zip(shares, (mean, one - other), strict=True):
            total[:, halves[:, None], np.array(degrees)] = np.add.reduceat(each * each, starts, axis=-1)
        found.append(_in_eigenbasis(mean, degrees))
    shares /= squares[:, :, None]
    shares[0, ..., 0] += squares <= np.finfo(float).tiny  # nothing is left of what vanishes, σ″ of a line say
    rest = np.sqrt(np.maximum(1 - np.cumsum(shares[0], axis=-1), 4 * _EPS))
    return Planes(found, np.sqrt(squares), rest, 0.5 * np.sqrt(shares[1].sum(-1).max(-1)))


def _hermite_functions(degree: int, lattices: Lattices) -> tuple[np.ndarray, np.ndarray]:
    """h_n(x) times the square root of the weights for n ≤ degree, on either axis: shapes (2, degree + 1, m)."""
    found = []
    for x, weights in ((lattices.x, lattices.w_x), (lattices.y, lattices.w_y)):
        rows = [np.sqrt(weights)]
        for n in range(1, degree + 1):
            before = np.sqrt(n - 1) * rows[-2] if n > 1 else 0.0
            rows.append((x * rows[-1] - before) / np.sqrt(n))
        found.append(np.stack(rows, axis=1))
    return found[0], found[1]


@lru_cache(maxsize=512)
def _eigenvectors(n: int) -> tuple[np.ndarray, np.ndarray]:
    """v_μ(j) for μ = n, n − 2, … ≥ 0: at even j, shape (n//2 + 1, n//2 + 1), and at odd j."""
    j = np.arange(n)
    v = eigh_tridiagonal(np.zeros(n + 1), np.sqrt((n - j) * (j + 1.0)))[1] if n else np.ones((1, 1))
    upper = v.T[::-1][: n // 2 + 1]
    return np.ascontiguousarray(upper[:, ::2]), np.ascontiguousarray(upper[:, 1::2])


def _in_eigenbasis(a: np.ndarray, degrees: tuple[int, ...]) -> np.ndarray:
    """g_μ = Σ_j v_μ(j) i^{−j} a_j, real and imaginary part; those of −μ are its conjugates."""
    found = np.empty((2, *a.shape[:-1], sum(n // 2 + 1 for n in degrees)))
    to = 0
    for n, at in _starts(degrees):
        signs = (-1.0) ** np.arange(n // 2 + 1)
        even, odd = _eigenvectors(n)
        found[0, ..., at : at + n // 2 + 1] = a[..., to : to + n + 1 : 2] @ (even * signs).T
        found[1, ..., at : at + n // 2 + 1] = a[..., to + 1 : to + n + 1 : 2] @ (-odd * signs[: odd.shape[1]]).T
        to += n + 1
    return found


def _starts(degrees: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    """Degrees, and where their eigenvalues begin."""
    at = 0
    for n in degrees:
        yield n, at
        at += n // 2 + 1
