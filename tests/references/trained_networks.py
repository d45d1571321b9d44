"""Real networks, really trained: plain JAX on every parameter, no theory (the oracle of tests/training).

Everything is drawn, differentiated and stepped here; nothing of finitewidth is imported.
"""

import jax
import jax.numpy as jnp
import numpy as np

SIGMA = {
    "tanh": jnp.tanh,
    "gelu": lambda z: 0.5 * z * (1 + jax.scipy.special.erf(z / np.sqrt(2.0))),
    "relu": jax.nn.relu,
}


def train(key, number, *, sigma, widths, hyper, x, y, trained, step, steps, rule="descent", mu=0.0, chunk=256):
    """Outputs before and after training, (number, 2, inputs, outputs) each, last layers in antithetic pairs (axis 1).

    widths: n_0 … n_L. hyper: C_b, C_W, lambda_b, lambda_W. x: all inputs; `trained`: which of them have the targets y.
    rule: "descent" (one Euler step), "flow" (one Runge-Kutta step of fourth order), "momentum".
    """
    C_b, C_W, lambda_b, lambda_W = hyper
    rates = [(lambda_b, lambda_W / n) for n in widths[:-1]]
    sigma = SIGMA[sigma]

    def outputs(theta, x):
        for l, (b, W) in enumerate(theta):
            x = b + (sigma(x) if l else x) @ W.T
        return x

    def loss(theta):
        return 0.5 * jnp.sum((outputs(theta, x[trained]) - y) ** 2)

    def move(theta, factor, by):
        return [(b + factor * db, W + factor * dW) for (b, W), (db, dW) in zip(theta, by, strict=True)]

    def velocity(theta):
        return [(-lb * db, -lw * dW) for (lb, lw), (db, dW) in zip(rates, jax.grad(loss)(theta), strict=True)]

    def descend(carry, _):
        theta, v = carry
        return (move(theta, step, velocity(theta)), v), None

    def flow(carry, _):
        theta, v = carry
        k1 = velocity(theta)
        k2 = velocity(move(theta, step / 2, k1))
        k3 = velocity(move(theta, step / 2, k2))
        k4 = velocity(move(theta, step, k3))
        for weight, k in ((1, k1), (2, k2), (2, k3), (1, k4)):
            theta = move(theta, weight * step / 6, k)
        return (theta, v), None

    def heavy_ball(carry, _):
        theta, v = carry
        v = [(mu * vb + step * db, mu * vW + step * dW) for (vb, vW), (db, dW) in zip(v, velocity(theta), strict=True)]
        return (move(theta, 1.0, v), v), None

    advance = {"descent": descend, "flow": flow, "momentum": heavy_ball}[rule]

    def one(key):
        theta = []
        for n, m, k in zip(widths[:-1], widths[1:], jax.random.split(key, len(widths) - 1), strict=True):
            draws = jax.random.normal(k, (m, n + 1))
            theta.append((np.sqrt(C_b) * draws[:, 0], np.sqrt(C_W / n) * draws[:, 1:]))

        def both(sign):
            start = [*theta[:-1], (sign * theta[-1][0], sign * theta[-1][1])]
            still = jax.tree.map(jnp.zeros_like, start)
            (end, _), _ = jax.lax.scan(advance, (start, still), None, length=steps)
            return outputs(start, x), outputs(end, x)

        return jax.vmap(both)(jnp.array([1.0, -1.0]))

    with jax.enable_x64(True):
        keys = jax.random.split(key, number)
        x, y = jnp.asarray(x), jnp.asarray(y)
        run = jax.jit(jax.vmap(one))
        found = [run(keys[i : i + chunk]) for i in range(0, number, chunk)]
        return tuple(np.concatenate([np.asarray(each[i]) for each in found]) for i in (0, 1))
