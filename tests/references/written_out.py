"""The recursions of order 1/n as the literature writes them, tensor by tensor (FACTS §2.1–2.6; PDLT ch. 4, 8, 11).

The library derives them from one vertex; here each is typed out, derivatives by K as averages of f(z)(zz − K) times
inverses of the root of K, and averages over all inputs by the trapezoid rule on one lattice. NumPy and mpmath only.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from mpmath import mp, mpf
from scipy.special import ndtr

Array = np.ndarray


def tanh(z: Array) -> list[Array]:
    t = np.tanh(z)
    d = 1 - t * t
    return [t, d, -2 * t * d, d * (6 * t * t - 2)]


def gelu(z: Array) -> list[Array]:
    density = np.exp(-z * z / 2) / np.sqrt(2 * np.pi)
    return [z * ndtr(z), ndtr(z) + z * density, (2 - z * z) * density, (z**3 - 4 * z) * density]


def sum_over(subscripts: str, *arrays: Array) -> Array:
    return np.einsum(subscripts, *arrays, optimize=True)


@dataclass
class Averages:
    """⟨·⟩_K over all N inputs together, on a lattice x with z = L x, K = L Lᵀ of full rank."""

    K: Array
    derivatives: Callable[[Array], list[Array]]
    spacing: float = 0.42
    reach: float = 8.8

    def __post_init__(self) -> None:
        N = len(self.K)
        x = self.spacing * np.arange(-round(self.reach / self.spacing), round(self.reach / self.spacing) + 1)
        x = np.stack(np.meshgrid(*[x] * N, indexing="ij")).reshape(N, -1)
        x = x[:, (x * x).sum(0) <= self.reach**2]
        self.weight = np.exp(-0.5 * (x * x).sum(0)) * (self.spacing / np.sqrt(2 * np.pi)) ** N
        root = np.linalg.cholesky(self.K)
        self.x, self.s = x, self.derivatives(root @ x)
        # K⁻¹z = root⁻ᵀx: rounding is amplified by the condition number of the root, not by that of K
        self.inverse_root = np.linalg.inv(root)

    def _products(self, f: Array, g: Array) -> Array:
        return (f[:, None] * g).reshape(len(f) * len(g), -1)

    def pair(self, i: int, j: int) -> Array:
        return (self.s[i] * self.weight) @ self.s[j].T

    def quartet(self, i: int, j: int, k: int, l: int) -> Array:
        s, N = self.s, len(self.K)
        return ((self._products(s[i], s[j]) * self.weight) @ self._products(s[k], s[l]).T).reshape(N, N, N, N)

    def linear(self, i: int, j: int) -> Array:
        """K⁻¹_{ac} ⟨z_a s_1 s_2⟩, axes 1, 2, c."""
        N = len(self.K)
        return ((self._products(self.s[i], self.s[j]) * self.weight) @ self.x.T).reshape(N, N, N) @ self.inverse_root

    def dd(self, i: int, j: int) -> Array:
        """K⁻¹K⁻¹ ⟨s_1 s_2 (zz − K)⟩, axes 1, 2, a, b."""
        N = len(self.K)
        xx = self._products(self.x, self.x) - np.eye(N).reshape(-1, 1)
        raw = ((self._products(self.s[i], self.s[j]) * self.weight) @ xx.T).reshape(N, N, N, N)
        return sum_over("xycd,ca,db->xyab", raw, self.inverse_root, self.inverse_root)

    def dddd(self, i: int, j: int) -> Array:
        """The same of ∂_c∂_d(s_1 s_2), axes 1, 2, a, b, c, d: four inverses would amplify rounding twice as often."""
        N = len(self.K)
        total, unit = np.zeros((N,) * 6), np.eye(N)
        for at, c, d in (((2, 0), "x", "x"), ((1, 1), "x", "y"), ((1, 1), "y", "x"), ((0, 2), "y", "y")):
            total += sum_over(f"xyab,{c}c,{d}d->xyabcd", self.dd(i + at[0], j + at[1]), unit, unit)
        return total


def step(m: Averages, X: dict[str, Array], Th: Array, CW: float, lW: float, r: float) -> dict[str, Array]:
    """All tensors of layer ℓ + 1 (FACTS §2.1–2.4). Samples 1, 2, 3, 4 are a, b, c, d; 0, 1, 2, 3 are o, a, b, c."""
    e, p, q = sum_over, m.pair, m.quartet
    dd00, dd11 = m.dd(0, 0), m.dd(1, 1)
    Om = lW * p(0, 0) + CW * Th * p(1, 1)
    ddOm = lW * dd00 + CW * e("ab,abxy->abxy", Th, dd11)
    d4, d4_slopes = m.dddd(0, 0), m.dddd(1, 1)
    d4Om = lW * d4 + CW * e("ab,abwxyz->abwxyz", Th, d4_slopes)
    ssOm = lW * q(0, 0, 0, 0) + CW * e("abcd,cd->abcd", q(0, 0, 1, 1), Th)
    OmOm = (
        lW**2 * q(0, 0, 0, 0)
        + lW * CW * (e("abcd,cd->abcd", q(0, 0, 1, 1), Th) + e("abcd,ab->abcd", q(1, 1, 0, 0), Th))
        + CW**2 * e("abcd,ab,cd->abcd", q(1, 1, 1, 1), Th, Th)
    )
    F, B, P, Q, R, S, T, U = (X[name] for name in "FBPQRSTU")
    new: dict[str, Array] = {}
    new["V"] = CW**2 * (q(0, 0, 0, 0) - e("ab,cd->abcd", p(0, 0), p(0, 0))) + r * CW**2 / 4 * e(
        "abwx,wxyz,cdyz->abcd", dd00, X["V"], dd00
    )
    new["G1"] = r * CW * (e("abxy,xy->ab", dd00, X["G1"]) / 2 + e("abwxyz,wxyz->ab", d4, X["V"]) / 8)
    new["H1"] = r * (
        CW * p(1, 1) * X["H1"]
        + e("abxy,xy->ab", ddOm, X["G1"]) / 2
        + e("abwxyz,wxyz->ab", d4Om, X["V"]) / 8
        + CW / 2 * e("abxy,xyab->ab", dd11, X["D"])
        + CW * e("abxy,xayb->ab", dd11, F)
    )
    new["D"] = (
        CW * (ssOm - e("ab,cd->abcd", p(0, 0), Om))
        + r * CW / 4 * e("abwx,wxyz,cdyz->abcd", dd00, X["V"], ddOm)
        + r * CW**2 / 2 * e("abxy,xycd,cd->abcd", dd00, X["D"], p(1, 1))
    )
    new["A"] = (
        OmOm
        - e("ab,cd->abcd", Om, Om)
        + r / 4 * e("abwx,wxyz,cdyz->abcd", ddOm, X["V"], ddOm)
        + r * CW**2 * e("ab,cd,abcd->abcd", p(1, 1), p(1, 1), X["A"])
        + r * CW / 2 * e("abxy,xycd,cd->abcd", ddOm, X["D"], p(1, 1))
        + r * CW / 2 * e("cdxy,xyab,ab->abcd", ddOm, X["D"], p(1, 1))
    )
    new["B"] = CW**2 * (e("abcd,ab,cd->acbd", q(1, 1, 1, 1), Th, Th) + r * e("ac,bd,acbd->acbd", p(1, 1), p(1, 1), B))
    lin01 = m.linear(0, 1)
    new["F"] = CW**2 * e("abcd,cd->acbd", q(0, 0, 1, 1), Th) + r * CW**2 * e("acx,bdy,xcyd->acbd", lin01, lin01, F)
    source = CW**2 * e("oabc,oa,ob->oabc", q(2, 1, 1, 0), Th, Th)
    B_P = e("ooab->oab", B) + e("oabo->oab", P)
    new["P"] = source + r * CW**2 * (
        e("ab,oc,oab->oabc", p(1, 1), p(2, 0), B_P) + e("ab,oc,oabc->oabc", p(1, 1), p(1, 1), P)
    )
    Qoo = e("oabb->oab", Q)  # Q_0122
    new["Q"] = (
        source
        + lW / CW * e("aocb->oabc", new["F"])
        + r * CW**2 * (e("oa,bc,oab->oabc", p(1, 1), p(2, 0), Qoo) + e("oa,bc,oabc->oabc", p(1, 1), p(1, 1), Q))
        + r * CW**2 * e("oa,oax,bcy,xoyb->oabc", Th, m.linear(2, 1), m.linear(1, 0), F)
    )
    B_P230, P_2301 = e("oobc->obc", B) + e("obco->obc", P), e("obca->oabc", P)
    new["R"] = (
        lW * CW * e("oabc,ob,oc->oabc", q(2, 0, 1, 1), Th, Th)
        + CW**2 * e("oabc,oa,ob,oc->oabc", q(3, 1, 1, 1), Th, Th, Th)
        + r * CW * lW * e("bc,oa,obc->oabc", p(1, 1), p(2, 0), B_P230)
        + r * CW * lW * e("bc,oa,oabc->oabc", p(1, 1), p(1, 1), P_2301)
        + r * CW**2 * e("bc,oa,oa,obc->oabc", p(1, 1), Th, p(3, 1), B_P230)
        + r * CW**2 * e("bc,oa,oa,oabc->oabc", p(1, 1), Th, p(2, 2), P_2301)
        + r * CW**2 * e("bc,oa,oabc->oabc", p(1, 1), p(1, 1), R)
    )
    curved = e("abcd,ab,ac,bd->abcd", q(2, 2, 1, 1), Th, Th, Th)
    new["S"] = (
        CW * lW * e("abcd,ac,bd->abcd", q(1, 1, 1, 1), Th, Th)
        + CW**2 * curved
        + r * CW * e("cd,ab,abcd->abcd", p(1, 1), lW * p(1, 1) + CW * Th * p(2, 2), B)
        + r * CW**2 * e("ab,cd,abcd->abcd", p(1, 1), p(1, 1), S)
    )

    def joined(f: tuple[int, int], g: tuple[int, int]) -> Array:  # [f1|g2]F
        return e("acx,bdy,xayb->acdb", m.linear(*f), m.linear(*g), F)

    Q1322, Q1324 = e("acbb->acb", Q), e("acbd->acdb", Q)
    Q2411, Q2413 = e("bdaa->bda", Q), e("bdac->acdb", Q)
    X1342 = (
        e("abcd,ab,bd->acdb", q(1, 2, 0, 1), Th, Th)
        + r * e("bd,acdb->acdb", Th, joined((1, 0), (2, 1)))
        + r * (e("bd,ac,bda->acdb", p(1, 1), p(2, 0), Q2411) + e("bd,ac,acdb->acdb", p(1, 1), p(1, 1), Q2413))
    )
    new["T"] = (
        lW**2 * (e("abcd,ab->acdb", q(1, 1, 0, 0), Th) + r * joined((1, 0), (1, 0)))
        + lW * CW * (X1342 + e("bdca->acdb", X1342))
        + CW**2 * e("abcd->acdb", curved)
        + CW**2 * r * e("ac,bd,acdb->acdb", Th, Th, joined((2, 1), (2, 1)))
        + CW**2 * r * e("ac,bd,acdb->acdb", p(1, 1), p(1, 1), T)
        + CW**2 * r * e("bd,ac,bd,acb->acdb", Th, p(1, 1), p(3, 1), Q1322)
        + CW**2 * r * e("bd,ac,bd,acdb->acdb", Th, p(1, 1), p(2, 2), Q1324)
        + CW**2 * r * e("ac,bd,ac,bda->acdb", Th, p(1, 1), p(3, 1), Q2411)
        + CW**2 * r * e("ac,bd,ac,acdb->acdb", Th, p(1, 1), p(2, 2), Q2413)
    )
    new["U"] = CW**2 * (e("abcd->adbc", curved) + r * e("ad,bc,adbc->adbc", p(1, 1), p(1, 1), U))
    return new


def recursion(
    derivatives: Callable[[Array], list[Array]],
    x: Array,
    *,
    widths: Sequence[int],
    C_b: Sequence[float],
    C_W: Sequence[float],
    lambda_b: Sequence[float],
    lambda_W: Sequence[float],
    spacing: float = 0.42,
) -> list[dict[str, Array]]:
    """K, Theta and all tensors at layers 1 … L."""
    N, G0 = len(x), x @ x.T / x.shape[1]
    K, Th = C_b[0] + C_W[0] * G0, lambda_b[0] + lambda_W[0] * G0
    X = {name: np.zeros((N,) * 4) for name in "VABDFPQRSTU"} | {name: np.zeros((N, N)) for name in ("G1", "H1")}
    found = [X | {"K": K, "Theta": Th}]
    for l in range(len(widths)):
        m = Averages(K, derivatives, spacing)
        r = widths[l] / widths[l - 1] if l else 0.0
        X = step(m, X, Th, C_W[l + 1], lambda_W[l + 1], r)
        Th = lambda_b[l + 1] + lambda_W[l + 1] * m.pair(0, 0) + C_W[l + 1] * m.pair(1, 1) * Th
        K = C_b[l + 1] + C_W[l + 1] * m.pair(0, 0)
        found.append(X | {"K": K, "Theta": Th})
    return found


def single_tanh(*, depth: int, x2: str, C_b: str, C_W: str, lambda_b: str, lambda_W: str) -> dict[str, mpf]:
    """FACTS §2.6 for tanh in 30 digits, r = 1: every average a trapezoid sum, every derivative of σ written out."""
    with mp.workdps(30):
        CW, Cb, lb, lW, x2_ = (mpf(each) for each in (C_W, C_b, lambda_b, lambda_W, x2))
        grid = [mpf(i) / 10 for i in range(-120, 121)]
        weight = [mp.exp(-x * x / 2) / mp.sqrt(2 * mp.pi) / 10 for x in grid]
        K, Th = Cb + CW * x2_, lb + lW * x2_
        V = A = B = D = F = P = Q = R = S = T = U = G1 = H1 = mpf(0)
        for _ in range(depth - 1):
            z = [mp.sqrt(K) * x for x in grid]
            t = [mp.tanh(each) for each in z]
            d1 = [1 - s * s for s in t]
            s = [
                t,
                d1,
                [-2 * s * d for s, d in zip(t, d1, strict=True)],
                [d * (6 * s * s - 2) for s, d in zip(t, d1, strict=True)],
            ]

            def av(*orders: int, z_power: int = 0, s=s, z=z) -> mpf:
                return mp.fsum(w * z[i] ** z_power * mp.fprod(s[k][i] for k in orders) for i, w in enumerate(weight))

            m2, m11 = av(0, 0), av(1, 1)
            par, perp = CW / K * av(0, 1, z_power=1), CW * m11
            h = CW / (4 * K * K) * (av(1, 1, z_power=2) - K * m11)
            w = lW * par / CW + 2 * h * Th

            def fourth(*o: int, K=K, av=av) -> mpf:
                return (av(*o, z_power=4) / K**2 - 6 * av(*o, z_power=2) / K + 3 * av(*o)) / K**2

            Om2 = lW**2 * av(0, 0, 0, 0) + 2 * lW * CW * Th * av(0, 0, 1, 1) + CW**2 * Th**2 * av(1, 1, 1, 1)
            Om = lW * m2 + CW * Th * m11
            ssOm = lW * av(0, 0, 0, 0) + CW * Th * av(0, 0, 1, 1)
            d4Om = lW * fourth(0, 0) + CW * Th * fourth(1, 1)
            s2111, s2211 = av(2, 1, 1, 0), av(2, 2, 1, 1)
            V_ = par**2 * V + CW**2 * (av(0, 0, 0, 0) - m2**2)
            G1_ = par * G1 + CW * fourth(0, 0) * V / 8
            H1_ = perp * H1 + w * G1 + d4Om * V / 8 + 2 * h * D + 4 * h * F
            D_ = CW * (ssOm - m2 * Om) + par * w * V + par * perp * D
            A_ = Om2 - Om**2 + w**2 * V + 2 * perp * w * D + perp**2 * A
            B_ = CW**2 * av(1, 1, 1, 1) * Th**2 + perp**2 * B
            F_ = CW**2 * av(0, 0, 1, 1) * Th + par**2 * F
            P_ = CW**2 * s2111 * Th**2 + perp * (par - perp) * B + perp * par * P
            Q_ = CW**2 * s2111 * Th**2 + lW / CW * F_ + 2 * h * Th * par * F + perp * par * Q
            R_ = (
                lW * CW * s2111 * Th**2
                + CW**2 * av(3, 1, 1, 1) * Th**3
                + perp * (lW * av(2, 0) + CW * Th * av(3, 1)) * B
                + perp * w * P
                + perp**2 * R
            )
            S_ = (
                CW * lW * av(1, 1, 1, 1) * Th**2
                + CW**2 * s2211 * Th**3
                + perp * (lW * m11 + CW * Th * av(2, 2)) * B
                + perp**2 * S
            )
            T_ = (
                lW**2 * av(0, 0, 1, 1) * Th
                + 2 * CW * lW * s2111 * Th**2
                + CW**2 * s2211 * Th**3
                + w**2 * F
                + 2 * perp * w * Q
                + perp**2 * T
            )
            U_ = CW**2 * s2211 * Th**3 + perp**2 * U
            V, A, B, D, F, P, Q, R, S, T, U, G1, H1 = V_, A_, B_, D_, F_, P_, Q_, R_, S_, T_, U_, G1_, H1_
            K, Th = Cb + CW * m2, lb + lW * m2 + perp * Th
        return {
            "K": K, "Theta": Th, "V": V, "A": A, "B": B, "D": D, "F": F, "P": P, "Q": Q, "R": R, "S": S, "T": T, "U": U,
            "G1": G1, "H1": H1,
        }  # fmt: skip
