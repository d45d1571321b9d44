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


def trained_moments(K, Theta, tensors, y, train, eta, steps):
    """Coefficients of 1/n of E z, (n_L, N), and of Cov[z, z] without G1, (n_L N, n_L N), after `steps` steps.

    K, Theta, tensors: over all N samples. y: (n_L, len(train)). The response of z is summed step by step.
    """
    n_L, N = len(y), len(K)
    one = np.eye(n_L)
    K, Theta = np.kron(one, K), np.kron(one, Theta)
    T = np.concatenate([i * N + np.asarray(train) for i in range(n_L)])
    y = y.ravel()
    t = tensors
    AB = over_pairings(t["A"], t["B"], t["B"], n_L)
    DF = over_pairings(t["D"], t["F"], t["F"], n_L)
    PQ = over_pairings(t["Q"], t["Q"], t["P"], n_L)
    RR = over_pairings(t["R"], t["R"], t["R"], n_L)
    ST = over_pairings(t["S"], t["T"], t["U"], n_L)
    H1 = np.kron(one, t["H1"])
    one_step = np.eye(len(K))
    one_step[:, T] -= eta * Theta[:, T]
    power = [np.linalg.matrix_power(one_step, s) for s in range(steps + 1)]
    free = [p[T] for p in power]  # ε at each step is free[s] (z(0) − ỹ)

    # coefficients of the residuals ε at steps (s1 ≥ s2 ≥ s3) in z at the end
    shift, pairs, quadratic, cubic = [], [], [], []
    for s1 in range(steps):
        out = power[steps - 1 - s1]
        shift.append((out, s1))
        for s2 in range(s1):
            inner = np.linalg.matrix_power(one_step, s1 - 1 - s2)[T]
            pairs.append((out, inner, s2))
    label = np.zeros(len(K))
    label[T] = y
    m = -label  # mean of z(0) − ỹ
    total_mean, half, same = np.zeros(len(K)), np.zeros_like(K), np.zeros_like(K)
    end = power[steps]
    KE = [f @ K @ end.T for f in free]  # Cov(ε(s), z free at the end)
    e = [f @ m for f in free]  # mean of ε(s)

    def cov(s, u):
        return free[s] @ K @ free[u].T

    H_T = H1[:, T]
    for out, s in shift:  # z ← z − η H ε
        total_mean -= eta * out @ H_T @ e[s]
        half -= eta * out @ H_T @ KE[s]
        half -= eta * out @ np.einsum("abce,bc,ye->ay", DF[:, T], free[s], end)
    for out, inner, s in pairs:
        second = eta**2 * np.einsum("xa,abcd,bc->xd", out, AB[:, T][:, :, :, T], inner)
        total_mean += second @ e[s]
        half += second @ KE[s]
    for (out, s), (out2, u) in itertools.product(shift, shift):
        moment = np.outer(e[s], e[u]) + cov(s, u)
        same += eta**2 * np.einsum("xa,yc,abcd,bd->xy", out, out2, AB[:, T][:, :, :, T], moment, optimize=True)

    # dNTK: −η (dH_ABC + dH_BAC) ε_B(s1) Δ… with H moved at s2 < s1, and η²/2 dH_ABC ε_B ε_C within a step
    both = PQ[:, T][:, :, T] + PQ[T].transpose(1, 0, 2, 3)[:, :, T]
    for out, s1 in shift:
        for s2 in range(s1):
            quadratic.append((eta**2, out, both, s1, s2))
        quadratic.append((0.5 * eta**2, out, PQ[:, T][:, :, T], s1, s1))
    for c, out, X, s, u in quadratic:
        with_s = np.einsum("abce,be->ac", X, free[s])
        with_u = np.einsum("abce,ce->ab", X, free[u])
        total_mean += c * out @ (with_s @ e[u] + with_u @ e[s])
        half += c * out @ (with_s @ KE[u] + with_u @ KE[s])
        half += c * out @ np.einsum("abce,ye,bc->ay", X, end, np.outer(e[s], e[u]) + cov(s, u))

    I, II = RR, ST
    swapped_I = I.transpose(1, 0, 2, 3)  # ddI_BACD
    II_BA = II.transpose(1, 0, 2, 3)  # ddII_{BA;CD}
    II_AC = II.transpose(0, 2, 1, 3)  # ddII_{AC;BD}
    II_BC = II.transpose(2, 0, 1, 3)  # ddII_{BC;AD}, axes A B C D
    W = I + swapped_I + II + II_BA + II_AC + II_BC
    a = I + swapped_I + 2 * II
    b = I + II + II_AC
    for out, s1 in shift:
        for s2 in range(s1):
            for s3 in range(s2):
                cubic.append((eta**3, out, W, s1, s2, s3))
            cubic.append((0.5 * eta**3, out, a, s1, s2, s2))
        for s3 in range(s1):
            cubic.append((0.5 * eta**3, out, b, s1, s1, s3))
        cubic.append((eta**3 / 6, out, I, s1, s1, s1))
    for c, out, X, s, u, v in cubic:
        X = X[:, T][:, :, T][:, :, :, T]
        su, sv, uv = (np.outer(e[i], e[j]) + cov(i, j) for i, j in ((s, u), (s, v), (u, v)))
        first = np.einsum("abcd,cd->ab", X, uv)
        second = np.einsum("abcd,bd->ac", X, sv)
        third = np.einsum("abcd,bc->ad", X, su)
        of_mean = first @ e[s]
        of_mean += np.einsum("abcd,bd->ac", X, cov(s, v)) @ e[u] + np.einsum("abcd,bc->ad", X, cov(s, u)) @ e[v]
        total_mean -= c * out @ of_mean
        half -= c * out @ (first @ KE[s] + second @ KE[u] + third @ KE[v])
    return total_mean.reshape(n_L, N), half + half.T + same
