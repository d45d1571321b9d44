r"""⟨A(z_a, z_b) B(z_c, z_d)⟩ from two planes: Mehler's formula in canonical coordinates.

Let x and y be independent coordinates on the planes of (a, b) and of (c, d), and R = ⟨x yᵀ⟩. Rotations of both make it
R = diag(s₁, s₂) with |s₂| ≤ s₁ ≤ 1, the canonical correlations. With orthonormal Hermite polynomials h_n then

    ⟨A B⟩ = Σ_ij A_ij B_ij s₁ⁱ s₂ʲ ,      A_ij = ⟨A h_i(x₁) h_j(x₂)⟩ .

The integrals are done once for a plane, in coordinates of its own (`hermite`); a quartet of inputs costs rotations.
What the degrees i + j > D leave out is not estimated but bounded: by s₁^{D+1} ‖A_{>D}‖ ‖B_{>D}‖, with
‖A_{>D}‖² = ⟨A²⟩ − Σ A_ij².
"""

import numpy as np

from finitewidth.activations import Activation
from finitewidth.cores import on_all_cores
from finitewidth.errors import InputError
from finitewidth.gaussian.hermite import Half, Planes, hermite_planes, rotated, sectors_of
from finitewidth.gaussian.planes import axes_of

_TRIED, _HIGHEST = (48, 96, 160, 320), 320  # degrees
_MORE = 1.3
_GOAL = 1e-7  # of √(⟨A²⟩⟨B²⟩)
_ALIKE = 3  # quartets that the degree is tried on
_AT_A_TIME = 32  # quartets: what they need stays in the cache
_EPS = float(np.finfo(float).eps)


class Joined:
    """Two planes for every quartet: which of the P planes they are, their canonical correlations and angles.

    Attributes
        s, angles: shapes (Q, 2) and (2, Q).
        pairs, where: inputs of the planes, shape (P, 2); the left and the right plane of each quartet, shape (2, Q).
    """

    def __init__(self, rho: np.ndarray, quartets: np.ndarray) -> None:
        self.s, *angles = canonical_correlations(rho, quartets)
        self.angles = np.stack(angles)
        self.pairs, where = np.unique(quartets.reshape(-1, 2), axis=0, return_inverse=True)
        self.where = where.reshape(-1, 2).T


def averages_of_quartets(
    activation: Activation,
    K: np.ndarray,
    quartets: np.ndarray,
    halves: tuple[Half, ...],
    wanted: np.ndarray,
    h: float,
    reach: float,
) -> np.ndarray:
    """⟨σ⁽ᵏ⁾_a σ⁽ˡ⁾_b σ⁽ᵐ⁾_c σ⁽ⁿ⁾_d⟩ for (k, l) and (m, n) in `halves`.

    Arguments
        activation: without kinks.
        K: kernel, shape (N, N), of any rank.
        quartets: indices (a, b, c, d), shape (Q, 4); the planes are those of (a, b) and (c, d).
        wanted: which left and right halves are to be right to 1e-7 of √(⟨A²⟩⟨B²⟩), shape (2, ·).
        h, reach: spacing and reach of a lattice on which products of the derivatives are exact.

    Returns
        values and absolute errors, shape (2, Q, halves, halves).

    Raises
        InputError: if σ changes so fast at these K that polynomials of degree 320 are not enough.
    """
    std = np.sqrt(np.diag(K))
    rho = np.clip(K / np.outer(std, std), -1.0, 1.0)
    alike = np.argsort(-canonical_correlations(rho, quartets)[0][:, 0])[:_ALIKE]
    few, joined = Joined(rho, quartets[alike]), Joined(rho, quartets)

    def planes_of(these: Joined, degree: int) -> tuple[Planes, np.ndarray]:
        a, b = these.pairs.T
        planes = hermite_planes(activation, std[these.pairs], rho[a, b], halves, degree, h, reach)
        return planes, _enough(planes, these, wanted)

    for degree in _TRIED:
        enough = planes_of(few, degree)[1]
        if enough.max() <= degree:
            break
    degree = int(enough.max())
    while degree <= _HIGHEST:
        planes, enough = planes_of(joined, degree)
        if enough.max() <= degree:
            break
        degree = min(int(_MORE * degree), max(_HIGHEST, degree + 1))
    else:
        raise InputError(
            f"averages over four inputs at K = {std.max() ** 2:.4g} need Hermite polynomials beyond degree {_HIGHEST} "
            f"for {activation.name}; use smaller inputs, C_W or C_b, or inputs that are less alike"
        )
    found = np.zeros((2, len(quartets), len(halves), len(halves)))

    def fill(part: np.ndarray) -> None:
        found[:, part] = _averages(activation, planes, joined, part, halves, int(enough[part].max()))

    parts = np.array_split(np.argsort(enough), -(-len(enough) // _AT_A_TIME))
    on_all_cores(fill, parts)
    return found


def canonical_correlations(rho: np.ndarray, quartets: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(s₁, s₂), α, β of R = Q(α) diag(s₁, s₂) Q(β)ᵀ, Q rotations, for every quartet: shapes (Q, 2), (Q,), (Q,)."""
    a, b, c, d = quartets.T
    left, right = axes_of(rho[a, b]), axes_of(rho[c, d])

    def entry(i: int, j: int) -> np.ndarray:
        sign, other = 1 - 2 * i, 1 - 2 * j
        sums = rho[a, c] + other * rho[a, d] + sign * (rho[b, c] + other * rho[b, d])
        scale = 4 * left[i] * right[j]
        return np.divide(sums, scale, out=np.zeros_like(sums), where=scale > 0)

    r = [[entry(i, j) for j in range(2)] for i in range(2)]
    both, difference = r[0][0] + r[1][1], r[1][0] - r[0][1]  # (s₁ + s₂) times cos and sin of α − β
    apart, total = r[0][0] - r[1][1], r[1][0] + r[0][1]  # (s₁ − s₂) times cos and sin of α + β
    plus, minus = np.hypot(both, difference), np.hypot(apart, total)
    phi, psi = np.arctan2(difference, both), np.arctan2(total, apart)
    s = np.clip(0.5 * np.stack([plus + minus, plus - minus], axis=1), -1.0, 1.0)
    return s, 0.5 * (psi + phi), 0.5 * (psi - phi)


def _enough(planes: Planes, joined: Joined, wanted: np.ndarray) -> np.ndarray:
    """The lowest degree that leaves out no more than the goal, shape (Q,); one more than there is, if none does."""
    degree = planes.rest.shape[-1] - 1
    left, right = (planes.rest[:, side] for side in wanted)
    found = np.empty(len(joined.s), dtype=int)
    for part in np.array_split(np.arange(len(found)), -(-len(found) // _AT_A_TIME)):
        one, other = joined.where[:, part]
        most = (left[one] * right[other]).max(1) * joined.s[part, :1] ** np.arange(1, degree + 2)
        found[part] = (most > _GOAL).sum(1)  # it falls with the degree
    return np.maximum(found, 1)  # polynomials of both parities, also where a constant is all that there is


def _averages(
    activation: Activation, planes: Planes, joined: Joined, part: np.ndarray, halves: tuple[Half, ...], degree: int
) -> np.ndarray:
    s, where = joined.s[part], joined.where[:, part]
    found = np.zeros((2, len(part), len(halves), len(halves)))
    for sector, g in zip(sectors_of(activation, halves, degree), planes.coefficients, strict=True):
        left, right = (rotated(g[:, where[i]], joined.angles[i, part], sector.degrees) for i in range(2))
        found[0][:, sector.halves[:, None], sector.halves] = _paired(left, right, s, sector.degrees)
    left, right = (planes.rest[side, :, degree] for side in where)
    left_out = s[:, :1, None] ** (degree + 1) * left[:, :, None] * right[:, None, :]
    apart = planes.error[where].sum(0)[:, None, None]
    norm, other = (planes.norm[side] for side in where)
    found[1] = (left_out + apart + 16 * _EPS) * norm[:, :, None] * other[:, None, :]
    return found


def _paired(left: np.ndarray, right: np.ndarray, s: np.ndarray, degrees: tuple[int, ...]) -> np.ndarray:
    """Σ A_ij B_ij s₁ⁱ s₂ʲ."""
    j = np.concatenate([np.r_[0 : n + 1 : 2, 1 : n + 1 : 2] for n in degrees])
    i = np.repeat(degrees, [n + 1 for n in degrees]) - j
    powers = s[:, :, None] ** np.arange(degrees[-1] + 1)
    return (left * (powers[:, 0][:, i] * powers[:, 1][:, j])[:, None]) @ right.swapaxes(1, 2)
