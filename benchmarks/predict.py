"""How long `fw.predict` takes: infinite width by training inputs, first order by inputs in all. CPU seconds.

python benchmarks/predict.py                 # the table
python benchmarks/predict.py --train 5000    # one row
python benchmarks/predict.py --inputs --train 8000 --activation relu --solver iterative  # conjugate gradients
python benchmarks/predict.py --train --inputs --many 200 --neurons 2048 --steps 100  # order 1: diabetes, 200 + 100 rows
"""

import argparse
import time
from functools import partial

import numpy as np
from sklearn.datasets import load_diabetes

import finitewidth as fw

SOLVERS = {"none": None, "direct": fw.Direct(), "iterative": fw.Iterative()}


def infinite_width(N: int, activation: str = "tanh", solver: str = "none") -> tuple[float, float, float]:
    """CPU and wall seconds of order 0 at the end of training for N training inputs and 100 others, and its error."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((N + 100, 20)), rng.standard_normal(N)
    net = fw.MLP(activation, depth=3, width=512, **({"C_W": 2.0} if activation == "relu" else {"C_b": 0.1, "C_W": 1.4}))
    cpu, wall = time.process_time(), time.perf_counter()
    p = fw.predict(net, x[:N], y, x[N:], order=0, solver=SOLVERS[solver])
    return time.process_time() - cpu, time.perf_counter() - wall, float(p.error["mean"].max())


def first_order(N: int, outputs: int = 1) -> tuple[float, float, float]:
    """The same for order 1 with N inputs in all, one of them new."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((N, 8)), rng.standard_normal((N - 1, outputs))
    net = fw.MLP("tanh", depth=3, width=512, n_out=outputs, C_b=0.1, C_W=1.4)
    cpu, wall = time.process_time(), time.perf_counter()
    p = fw.predict(net, x[: N - 1], y, x[N - 1 :])
    return time.process_time() - cpu, time.perf_counter() - wall, float(p.error["mean"].max())


def many_inputs(N: int, neurons: int, steps: int | None) -> tuple[float, float, float]:
    """CPU and wall seconds of order 1 for N rows of diabetes and N/2 others, at the end of gradient flow or after steps
    of 1/λ_max; and the standard error of the correction to the mean over that correction, rms over inputs."""
    x, y = load_diabetes(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    x, y = (x[order] - x.mean(0)) / x.std(0), (y[order] - y.mean()) / y.std()
    net = fw.MLP("tanh", depth=3, width=64)
    # which also builds the tables of the activation
    Theta = fw.flow(net, x[: N + N // 2], tensors="", layers="last").Theta.values[0, :N, :N]
    algorithm = fw.GradientFlow() if steps is None else fw.GradientDescent(1 / np.linalg.eigvalsh(Theta)[-1], steps)
    cpu, wall = time.process_time(), time.perf_counter()
    p = fw.predict(net, x[:N], y[:N], x[N : N + N // 2], algorithm=algorithm, neurons=neurons)
    took = time.process_time() - cpu, time.perf_counter() - wall
    correction = p.mean - p.mean_infinite
    return *took, float(np.sqrt((p.error["mean"] ** 2).mean() / (correction**2).mean()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=int, nargs="*", default=[500, 2000, 5000], help="training inputs at order 0")
    parser.add_argument("--inputs", type=int, nargs="*", default=[4, 8], help="inputs in all at order 1")
    parser.add_argument("--many", type=int, nargs="*", default=[], help="rows of diabetes at order 1 (minutes each)")
    parser.add_argument("--neurons", type=int, default=4096, help="sample neurons for --many")
    parser.add_argument("--steps", type=int, help="of descent for --many, in place of gradient flow to its end")
    parser.add_argument("--activation", choices=["tanh", "relu"], default="tanh", help="for --train")
    parser.add_argument("--solver", choices=SOLVERS, default="none", help="for --train")
    arguments = parser.parse_args()
    at_order_0 = partial(infinite_width, activation=arguments.activation, solver=arguments.solver)
    print("| order | inputs | CPU s | wall s | error of the mean |")
    print("|---|---|---|---|---|")
    for order, sizes, measured in ((0, arguments.train, at_order_0), (1, arguments.inputs, first_order)):
        for N in sizes:
            cpu, wall, error = measured(N)
            print(f"| {order} | {N} | {cpu:.1f} | {wall:.1f} | {error:.1e} |", flush=True)
    for N in arguments.many:
        cpu, wall, error = many_inputs(N, arguments.neurons, arguments.steps)
        print(f"| 1 | {N} + {N // 2} | {cpu:.1f} | {wall:.1f} | {100 * error:.0f} % of the correction |", flush=True)


if __name__ == "__main__":
    main()
