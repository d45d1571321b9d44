"""Training ensembles: ours, a Python loop over JAX trainings, and PyTorch's vmapped training.

    python benchmarks/trained_ensembles.py
    python benchmarks/trained_ensembles.py --width 64 --steps 200

The task: networks of three layers of weights, tanh, float64, eight inputs, gradient descent on ½ Σ (z − y)²; wanted are
the outputs of every network after the last step.

- ours: `finitewidth.experiments.training.train`, vmapped, as ensembles run it: as many networks as fit the cache.
- loop of steps: for every network, for every step, one call of a jitted step: what a script does.
- loop of trainings: for every network one call of a jitted training.
- torch.func: parameters stacked, for every step one call of vmap(grad(loss)) and an update in place.

Compilation is not counted. Contenders are called in turn, and of each the least of three rounds is shown: CPU time, of
all threads, and wall time. Outputs of ours and of the loops are compared to 1e-9, those of torch start elsewhere.

Then what bounds ours: the rate of the products that a step is made of, for as many networks at once, by XLA and by
NumPy (a BLAS, one matrix after the other), and the rate that ours reaches with everything around them.
"""

import argparse
import platform
import time
from collections.abc import Callable
from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np

import finitewidth as fw
from finitewidth.experiments.compiled import compiled
from finitewidth.experiments.courses import course
from finitewidth.experiments.networks import draw, learning_rates, preactivations
from finitewidth.experiments.trained_networks import Data, TrainedNetworks
from finitewidth.experiments.training import train
from finitewidth.precision import float64

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((8, 10)), RNG.standard_normal((1, 8))


def contenders(
    net: fw.MLP, step: float, steps: int, many: int, few: int
) -> dict[str, tuple[int, Callable[[], object]]]:
    """By name: how many networks, and what trains them."""
    plan = course(fw.GradientDescent(step, steps), inputs=len(X))
    together = TrainedNetworks(net, Data(X, Y), plan, seed=0).together
    root = jax.random.key(0)

    def outputs(key):
        parameters = draw(key, net, n_in=X.shape[1], n_out=1)
        return train(net, parameters, X, Y, course=plan, key=key, observe=lambda at: preactivations(net, at, X))[0]

    ensemble = compiled(lambda numbers: jax.vmap(lambda k: outputs(jax.random.fold_in(root, k)))(numbers))
    training = jax.jit(lambda number: outputs(jax.random.fold_in(root, number)))
    begin = jax.jit(lambda number: draw(jax.random.fold_in(root, number), net, n_in=X.shape[1], n_out=1))

    @jax.jit
    def one_step(parameters):
        slope = jax.grad(lambda at: 0.5 * jnp.sum((preactivations(net, at, X) - Y) ** 2))(parameters)
        rates = learning_rates(net, parameters)
        return jax.tree.map(lambda at, rate, by: at - step * rate * by, parameters, rates, slope)

    def ours():
        parts = [ensemble(start + np.arange(together)) for start in range(0, many, together)]
        return np.concatenate([np.asarray(part) for part in parts])

    def loop_of_steps():
        found = []
        for number in range(few):
            parameters = begin(number)
            for _ in range(steps):
                parameters = one_step(parameters)
            found.append(np.asarray(preactivations(net, parameters, X)))
        return np.stack(found)

    many = -(-many // together) * together
    return {
        "ours": (many, ours),
        "loop of steps": (few, loop_of_steps),
        "loop of trainings": (10 * few, lambda: np.stack([np.asarray(training(number)) for number in range(10 * few)])),
        "torch.func": (many, in_torch(net, step, steps, many)),
    }


def in_torch(net: fw.MLP, step: float, steps: int, many: int) -> Callable[[], object]:
    import torch
    from torch.func import grad, vmap

    torch.set_num_threads(1)  # as ours
    x, y = torch.tensor(X), torch.tensor(Y)
    widths = (X.shape[1], *net.widths, 1)
    shapes = [shape for a, b in pairwise(widths) for shape in ((b, 1), (b, a))]
    rates = [rate for a in widths[:-1] for rate in (1.0, 1.0 / a)]

    def loss(parameters):
        signal = x.T
        for l in range(0, len(parameters), 2):
            signal = parameters[l] + parameters[l + 1] @ (signal if l == 0 else torch.tanh(signal))
        return 0.5 * ((signal - y) ** 2).sum()

    slope = vmap(grad(loss))

    def training():
        deviations = [net.C_b**0.5 if shape[1] == 1 else (net.C_W / shape[1]) ** 0.5 for shape in shapes]
        parameters = [s * torch.randn(many, *shape, dtype=x.dtype) for s, shape in zip(deviations, shapes, strict=True)]
        for _ in range(steps):
            for at, rate, by in zip(parameters, rates, slope(parameters), strict=True):
                at -= step * rate * by
        return parameters

    return training


def rates(net: fw.MLP, together: int) -> dict[str, float]:
    """GFLOP/s of the products with the hidden layers' (n, n) weights, by what computes them."""
    n, N = net.widths[-1], len(X)
    W, z = RNG.standard_normal((together, n, n)), RNG.standard_normal((together, n, N))
    work = 2e-9 * together * n * n * N
    found = {"W z, NumPy": work / least_cpu(lambda: np.matmul(W, z))}
    for name, axes, left, right in (
        ("W z", "mij,mja->mia", W, z),
        ("Wᵀ ε", "mij,mia->mja", W, z),
        ("ε zᵀ", "mia,mja->mij", z, z),
    ):
        program = compiled(partial(jnp.einsum, axes))
        found[f"{name}, XLA"] = work / least_cpu(partial(program, left, right))
    return found


def least_cpu(call: Callable[[], object], times: int = 20) -> float:
    """Seconds of a call, the least of five rounds of several."""
    jax.block_until_ready(call())
    rounds = []
    for _ in range(5):
        begun = time.process_time()
        for _ in range(times):
            jax.block_until_ready(call())
        rounds.append((time.process_time() - begun) / times)
    return min(rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--networks", type=int, default=1024)
    options = parser.parse_args()
    net = fw.MLP("tanh", depth=3, width=options.width, C_b=0.1, C_W=1.5)
    with float64():
        found = contenders(net, 0.02, options.steps, options.networks, 8)
        results = {name: run() for name, (_, run) in found.items()}  # compiles
        for name in ("loop of steps", "loop of trainings"):
            count = min(8, len(results[name]))
            np.testing.assert_allclose(results[name][:count], results["ours"][:count], atol=1e-9)
        least = dict.fromkeys(found, (np.inf, np.inf))
        for _ in range(3):
            for name, (count, run) in found.items():
                wall, cpu = time.perf_counter(), time.process_time()
                run()
                now = (time.process_time() - cpu) / count, (time.perf_counter() - wall) / count
                least[name] = tuple(map(min, least[name], now))
        together = TrainedNetworks(
            net, Data(X, Y), course(fw.GradientDescent(0.02, options.steps), inputs=len(X)), seed=0
        ).together
        reached = rates(net, together)
    widths = (X.shape[1], *net.widths, 1)
    work = 6e-9 * options.steps * len(X) * sum(a * b for a, b in pairwise(widths))  # three products a layer
    print(f"{platform.processor() or platform.machine()}, jax {jax.__version__}, finitewidth {fw.__version__}")
    print(f"width {options.width}, {options.steps} steps")
    print("| | CPU a network | wall a network | CPU / ours | wall / ours |")
    print("| --- | --- | --- | --- | --- |")
    for name, (cpu, wall) in least.items():
        ratios = f"{cpu / least['ours'][0]:.1f} | {wall / least['ours'][1]:.1f}"
        print(f"| {name} | {cpu * 1e3:.3g} ms | {wall * 1e3:.3g} ms | {ratios} |")
    print(f"\nGFLOP/s, {together} networks at once: ours {work / least['ours'][0]:.1f}; bare products:")
    print(", ".join(f"{name} {rate:.1f}" for name, rate in reached.items()))


if __name__ == "__main__":
    main()
