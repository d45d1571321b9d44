"""Mean and covariance at order 1/n with combined indices A = (neuron, sample), no symmetry used.

Sums run over all neurons and all samples by brute force; time enters as nested sums over steps (gradient descent only).
Tensors come with the slots of THEORY-TRAINED §1.4.
"""

import itertools

import numpy as np


def over_pairings(first, second, third, n_L):
    """δ_ij δ_km X_abcd + δ_ik δ_jm Y_acbd + δ_im δ_jk Z_adbc, axes (i a)(j b)(k c)(m d) merged."""
    one = np.eye(n_L)
    found = np.einsum("ij,km,abcd->iajbkcmd", one, one, first)
    found = found + np.einsum("ik,jm,acbd->iajbkcmd", one, one, second)
    found = found + np.einsum("im,jk,adbc->iajbkcmd", one, one, third)
    size = n_L * len(first)
    return found.reshape((size,) * 4)


class Evolution:
    """The response of z after `steps` steps to residuals at every step before, summed step by step.

    K, Theta, tensors: over all N samples. y: (n_L, len(train)).
    """

    def __init__(self, K, Theta, tensors, y, train, eta, steps):
        n_L, N = len(y), len(K)
        one = np.eye(n_L)
        self.eta, self.steps, self.shape = eta, steps, (n_L, N)
        self.K, self.Theta = np.kron(one, K), np.kron(one, Theta)
        self.T = T = np.concatenate([i * N + np.asarray(train) for i in range(n_L)])
        t = tensors
        self.AB = over_pairings(t["A"], t["B"], t["B"], n_L)
        self.DF = over_pairings(t["D"], t["F"], t["F"], n_L)
        self.PQ = over_pairings(t["Q"], t["Q"], t["P"], n_L)
        self.RR = over_pairings(t["R"], t["R"], t["R"], n_L)
        self.ST = over_pairings(t["S"], t["T"], t["U"], n_L)
        self.H1 = np.kron(one, t["H1"])
        self.one_step = np.eye(len(self.K))
        self.one_step[:, T] -= eta * self.Theta[:, T]
        self.power = [np.linalg.matrix_power(self.one_step, s) for s in range(steps + 1)]
        self.free = [p[T] for p in self.power]  # ε at each step is free[s] (z(0) − ỹ)
        self.end = self.power[steps]
        m = np.zeros(len(self.K))
        m[T] = -y.ravel()  # mean of z(0) − ỹ
        self.e = [f @ m for f in self.free]  # mean of ε(s)
        self.KE = [f @ self.K @ self.end.T for f in self.free]  # Cov(ε(s), z free at the end)
        self.shift = [(self.power[steps - 1 - s], s) for s in range(steps)]  # z ← z − η H ε

    def quadratic(self):
        """(factor, outer propagator, tensor with E[dH z], s1, s2): dH_ABC ε_B(s1) ε_C(s2)."""
        T, PQ, eta = self.T, self.PQ, self.eta
        # dNTK: −η (dH_ABC + dH_BAC) ε_B(s1) Δ… with H moved at s2 < s1, and η²/2 dH_ABC ε_B ε_C within a step
        both = PQ[:, T][:, :, T] + PQ[T].transpose(1, 0, 2, 3)[:, :, T]
        for out, s1 in self.shift:
            for s2 in range(s1):
                yield eta**2, out, both, s1, s2
            yield 0.5 * eta**2, out, PQ[:, T][:, :, T], s1, s1

    def cubic(self):
        """(factor, outer propagator, tensor with E[ddH], s1, s2, s3)."""
        T, eta = self.T, self.eta
        I, II = self.RR, self.ST
        swapped_I = I.transpose(1, 0, 2, 3)  # ddI_BACD
        II_BA = II.transpose(1, 0, 2, 3)  # ddII_{BA;CD}
        II_AC = II.transpose(0, 2, 1, 3)  # ddII_{AC;BD}
        II_BC = II.transpose(2, 0, 1, 3)  # ddII_{BC;AD}, axes A B C D
        W = I + swapped_I + II + II_BA + II_AC + II_BC
        a = I + swapped_I + 2 * II
        b = I + II + II_AC
        W, a, b, I = (each[:, T][:, :, T][:, :, :, T] for each in (W, a, b, I))
        for out, s1 in self.shift:
            for s2 in range(s1):
                for s3 in range(s2):
                    yield eta**3, out, W, s1, s2, s3
                yield 0.5 * eta**3, out, a, s1, s2, s2
            for s3 in range(s1):
                yield 0.5 * eta**3, out, b, s1, s1, s3
            yield eta**3 / 6, out, I, s1, s1, s1


def trained_moments(K, Theta, tensors, y, train, eta, steps):
    """Coefficients of 1/n of E z, (n_L, N), and of Cov[z, z] without G1, (n_L N, n_L N), after `steps` steps.

    K, Theta, tensors: over all N samples. y: (n_L, len(train)).
    """
    of = Evolution(K, Theta, tensors, y, train, eta, steps)
    T, AB, DF, free, end, e, KE = of.T, of.AB, of.DF, of.free, of.end, of.e, of.KE
    total_mean, half, same = np.zeros(len(of.K)), np.zeros_like(of.K), np.zeros_like(of.K)

    def cov(s, u):
        return free[s] @ of.K @ free[u].T

    H_T = of.H1[:, T]
    for out, s in of.shift:
        total_mean -= eta * out @ H_T @ e[s]
        half -= eta * out @ H_T @ KE[s]
        half -= eta * out @ np.einsum("abce,bc,ye->ay", DF[:, T], free[s], end)
        for s2 in range(s):
            inner = np.linalg.matrix_power(of.one_step, s - 1 - s2)[T]
            second = eta**2 * np.einsum("xa,abcd,bc->xd", out, AB[:, T][:, :, :, T], inner)
            total_mean += second @ e[s2]
            half += second @ KE[s2]
    for (out, s), (out2, u) in itertools.product(of.shift, of.shift):
        moment = np.outer(e[s], e[u]) + cov(s, u)
        same += eta**2 * np.einsum("xa,yc,abcd,bd->xy", out, out2, AB[:, T][:, :, :, T], moment, optimize=True)
    for c, out, X, s, u in of.quadratic():
        with_s = np.einsum("abce,be->ac", X, free[s])
        with_u = np.einsum("abce,ce->ab", X, free[u])
        total_mean += c * out @ (with_s @ e[u] + with_u @ e[s])
        half += c * out @ (with_s @ KE[u] + with_u @ KE[s])
        half += c * out @ np.einsum("abce,ye,bc->ay", X, end, np.outer(e[s], e[u]) + cov(s, u))
    for c, out, X, s, u, v in of.cubic():
        su, sv, uv = (np.outer(e[i], e[j]) + cov(i, j) for i, j in ((s, u), (s, v), (u, v)))
        first = np.einsum("abcd,cd->ab", X, uv)
        second = np.einsum("abcd,bd->ac", X, sv)
        third = np.einsum("abcd,bc->ad", X, su)
        of_mean = first @ e[s]
        of_mean += np.einsum("abcd,bd->ac", X, cov(s, v)) @ e[u] + np.einsum("abcd,bc->ad", X, cov(s, u)) @ e[v]
        total_mean -= c * out @ of_mean
        half -= c * out @ (first @ KE[s] + second @ KE[u] + third @ KE[v])
    return total_mean.reshape(of.shape), half + half.T + same


def trained_cumulants(K, Theta, tensors, V, y, train, eta, steps):
    """Coefficients of 1/n of the connected three- and four-point functions, axes merged (neuron, sample).

    V: (N, N, N, N). Legs of a term that are not perturbed are free; sums over all ways to choose those that are.
    """
    of = Evolution(K, Theta, tensors, y, train, eta, steps)
    T, end, e, KE = of.T, of.end, of.e, of.KE
    AB, DF = of.AB[:, T][:, :, :, T], np.einsum("abce,yc,ze->abyz", of.DF[:, T], end, end)
    VV = over_pairings(V, V, V, of.shape[0])
    three = np.zeros((len(of.K),) * 3)
    four = np.einsum("xa,yb,zc,wd,abcd->xyzw", end, end, end, end, VV, optimize=True)

    def everywhere(total, found):
        """Adds every different choice of the legs, each once: `found` is symmetrised, and counted too often."""
        for legs in itertools.permutations(range(found.ndim)):
            total += found.transpose(legs)

    for out, s in of.shift:  # −η ΔH ε
        leg = -eta * np.einsum("xa,abyz->xbyz", out, DF)
        everywhere(three, np.einsum("xbyz,b->xyz", leg, e[s]) / 2)
        everywhere(four, np.einsum("xbyz,bw->xyzw", leg, KE[s]) / 2)
    for (out, s), (out2, u) in itertools.product(of.shift, of.shift):
        pair = eta**2 * np.einsum("xa,yc,abcd->xybd", out, out2, AB, optimize=True)
        # both orders of x and y are permuted over as well as summed over
        everywhere(three, np.einsum("xybd,b,dz->xyz", pair, e[s], KE[u]))
        everywhere(four, np.einsum("xybd,bz,dw->xyzw", pair, KE[s], KE[u]) / 2)
    for c, out, X, s, u in of.quadratic():
        leg = c * np.einsum("xa,abce,ye->xbcy", out, X, end)
        everywhere(three, np.einsum("xbcy,b,cz->xyz", leg, e[s], KE[u]))
        everywhere(three, np.einsum("xbcy,c,bz->xyz", leg, e[u], KE[s]))
        everywhere(four, np.einsum("xbcy,bz,cw->xyzw", leg, KE[s], KE[u]))
    for c, out, X, s, u, v in of.cubic():
        leg = -c * np.einsum("xa,abcd->xbcd", out, X)
        everywhere(three, np.einsum("xbcd,b,cy,dz->xyz", leg, e[s], KE[u], KE[v]))
        everywhere(three, np.einsum("xbcd,by,c,dz->xyz", leg, KE[s], e[u], KE[v]))
        everywhere(three, np.einsum("xbcd,by,cz,d->xyz", leg, KE[s], KE[u], e[v]))
        everywhere(four, np.einsum("xbcd,by,cz,dw->xyzw", leg, KE[s], KE[u], KE[v]))
    return three, four


def trained_kernel(K, Theta, tensors, y, train, eta, steps):
    """Coefficient of 1/n of E[H(t) − H(0)], (n_L N, n_L N), after `steps` steps: H and dH moved step by step."""
    n_L, N = len(y), len(K)
    one = np.eye(n_L)
    K, Theta = np.kron(one, K), np.kron(one, Theta)
    T = np.concatenate([i * N + np.asarray(train) for i in range(n_L)])
    t = tensors
    PQ = over_pairings(t["Q"], t["Q"], t["P"], n_L)
    RR = over_pairings(t["R"], t["R"], t["R"], n_L)
    ST = over_pairings(t["S"], t["T"], t["U"], n_L)
    dH_with_z = PQ[:, :, T]  # E[dH_ABC z_E] at initialisation; C in training
    second = 0.5 * (RR + RR.transpose(1, 0, 2, 3) + 2 * ST)[:, :, T][:, :, :, T]  # of a step of H
    first = (RR + ST + ST.transpose(0, 2, 1, 3))[:, :, T][:, :, :, T]  # of a step of dH_ABC
    one_step = np.eye(len(K))
    one_step[:, T] -= eta * Theta[:, T]
    free = [np.linalg.matrix_power(one_step, s)[T] for s in range(steps)]  # ε(s) = free[s] (z(0) − ỹ)
    label = np.zeros(len(K))
    label[T] = y.ravel()
    spread = K + np.outer(label, label)  # E (z(0) − ỹ)(z(0) − ỹ)
    H = np.zeros_like(K)
    for s in range(steps):
        # E[dH_ABC(s) ε_C(s)]: what dH was at initialisation, and every step that has moved it since
        moved = np.einsum("abce,ce->ab", dH_with_z, free[s])
        for u in range(s):
            moved = moved - eta * np.einsum("abcd,cd->ab", first, free[s] @ spread @ free[u].T)
        H += -eta * (moved + moved.T) + eta**2 * np.einsum("abcd,cd->ab", second, free[s] @ spread @ free[s].T)
    return H
