"""What becomes of training as networks widen: every layer moves, the output moves, the Hessian vanishes.

    python benchmarks/linearisation.py                      # widths 32 … 1024
    python benchmarks/linearisation.py --widths 32 64 128   # a minute

tanh, three layers of weights, two training inputs and one test input, gradient descent to a small error. Of every
network, at the test input:

- output: |z(T) − z(0)|.
- layer ℓ: its part of that, to first order in its own change, |∇_ℓ z(0) · Δθ_ℓ|; and its distance √(Σ Δθ²/λ).
- Hessian: the largest singular value of √λ ∇²z √λ, the largest of beginning, middle and end of training.
- kernel: ‖H(T) − H(0)‖/‖H(0)‖ on all three inputs.
- linearised: |z(T) − z_lin(T)|, the network's own linearisation trained alike.
- last layer alone: |z(T) − z_last(T)|, the same network trained alike with its hidden layers frozen.

Root mean squares over networks. Slopes d ln/d ln n by least squares, errors by bootstrap over networks.
"""

import argparse
import time
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

import finitewidth as fw
from finitewidth.experiments.courses import course
from finitewidth.experiments.linearised import linearised
from finitewidth.experiments.networks import draw, learning_rates, preactivations
from finitewidth.experiments.tangent_kernel import tangent_kernel
from finitewidth.experiments.training import train
from finitewidth.precision import float64

NET = fw.MLP("tanh", depth=3, width=1, C_b=0.1, C_W=1.5, lambda_b=0.5, lambda_W=1.0)
X = np.array([[1.0, 0.4, -0.6], [-0.3, 1.1, 0.7], [0.8, 0.9, 0.2]])  # the last is the test input
Y = np.array([[0.8, -0.5]])
STEP, STEPS, POWER = 0.15, 60, 40


def network(key: jax.Array, net: fw.MLP) -> dict[str, jax.Array]:
    """Everything of one network."""
    before, few = draw(key, net, n_in=3, n_out=1), Y.shape[1]
    plan = course(fw.GradientDescent(STEP, STEPS), times=[STEPS // 2, STEPS], inputs=few)
    rates = learning_rates(net, before)
    frozen = replace(net, lambda_b=(0.0, 0.0, net.lambda_b), lambda_W=(0.0, 0.0, net.lambda_W))

    def output(parameters):
        return preactivations(net, parameters, X[few:])[0, 0]

    def hessian(parameters):
        def once(_number, vector):
            turned = jax.jvp(jax.grad(lambda scaled: output(_scaled(scaled, rates))), (at,), (vector,))[1]
            size = jnp.sqrt(_dot(turned, turned))
            return jax.tree.map(lambda leaf: leaf / size, turned)

        at = jax.tree.map(lambda leaf, rate: leaf / jnp.sqrt(rate), parameters, rates)
        start = jax.tree.map(lambda leaf, seed: jax.random.normal(jax.random.key(seed), leaf.shape), at, _numbers(at))
        vector = jax.lax.fori_loop(0, POWER, once, start)
        turned = jax.jvp(jax.grad(lambda scaled: output(_scaled(scaled, rates))), (at,), (vector,))[1]
        return jnp.sqrt(_dot(turned, turned))

    def observe(net):
        return lambda after: (preactivations(net, after, X)[0], after)

    z, after = train(net, before, X[:few], Y, course=plan, key=key, observe=observe(net))
    z_last, _ = train(frozen, before, X[:few], Y, course=plan, key=key, observe=observe(frozen))
    middle, end = (jax.tree.map(lambda leaf, t=t: leaf[t], after) for t in (0, 1))
    H, H_end = tangent_kernel(net, before, X), tangent_kernel(net, end, X)
    z_before = preactivations(net, before, X)
    z_linear = linearised(H[..., :few], z_before, Y, course=plan, key=key)[:, 0]
    points = jax.tree.map(lambda *leaves: jnp.stack(leaves), before, middle, end)
    moved = jax.tree.map(lambda now, old: now - old, end, before)
    parts = [_dot(slope, by) for slope, by in zip(jax.grad(output)(before), moved, strict=True)]
    ways = jax.tree.map(lambda by, rate: jnp.sum(by**2) / rate, moved, rates)
    return {
        "training error left": jnp.linalg.norm(z[1, :few] - Y),
        "output": z[1, 2] - z_before[0, 2],
        **{f"output through layer {l}": part for l, part in enumerate(parts, 1)},
        **{f"distance of layer {l}": jnp.sqrt(sum(way)) for l, way in enumerate(ways, 1)},
        "Hessian": jnp.max(jax.lax.map(hessian, points)),
        "kernel": jnp.linalg.norm(H_end - H) / jnp.linalg.norm(H),
        "output less linearised": z[1, 2] - z_linear[1, 2],
        "output less that of last layer alone": z[1, 2] - z_last[1, 2],
    }


def _scaled(parameters, rates):
    return jax.tree.map(lambda leaf, rate: leaf * jnp.sqrt(rate), parameters, rates)


def _dot(one, other):
    return sum(jax.tree.leaves(jax.tree.map(lambda a, b: jnp.sum(a * b), one, other)))


def _numbers(tree):
    leaves, structure = jax.tree.flatten(tree)
    return jax.tree.unflatten(structure, range(len(leaves)))


def measured(width: int, networks: int) -> dict[str, np.ndarray]:
    """By name, a number of every network."""
    net = replace(NET, width=width)
    with float64():
        keys = jax.vmap(lambda k: jax.random.fold_in(jax.random.key(width), k))(jnp.arange(networks))
        together = max(1, min(networks, 256 // width))
        seen = jax.jit(lambda keys: jax.lax.map(lambda key: network(key, net), keys, batch_size=together))(keys)
        return {name: np.asarray(each) for name, each in seen.items()}


def slope(widths: list[int], seen: list[np.ndarray]) -> tuple[float, float]:
    """d ln rms/d ln n, and its error by bootstrap."""
    rng, log_n = np.random.default_rng(0), np.log(widths)

    def fit(samples):
        return np.polyfit(log_n, [0.5 * np.log(np.mean(each**2)) for each in samples], 1)[0]

    again = [fit([each[rng.integers(each.size, size=each.size)] for each in seen]) for _ in range(200)]
    return float(fit(seen)), float(np.std(again))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--widths", type=int, nargs="+", default=[32, 64, 128, 256, 512, 1024])
    parser.add_argument("--work", type=int, default=32768, help="networks times width, for every width")
    parser.add_argument("--most", type=int, default=256, help="networks at most")
    options = parser.parse_args()
    seen = {}
    for width in options.widths:
        begun, count = time.perf_counter(), max(8, min(options.most, options.work // width))
        seen[width] = measured(width, count)
        print(f"width {width}: {count} networks, {time.perf_counter() - begun:.0f} s", flush=True)
    print("| | " + " | ".join(map(str, options.widths)) + " | slope |")
    print("| --- |" + " --- |" * (len(options.widths) + 1))
    for name in seen[options.widths[0]]:
        samples = [seen[width][name] for width in options.widths]
        cells = [f"{np.sqrt(np.mean(each**2)):.3g}" for each in samples]
        value, error = slope(options.widths, samples)
        print(f"| {name} | " + " | ".join(cells) + f" | {value:.2f} ± {error:.2f} |")


if __name__ == "__main__":
    main()
