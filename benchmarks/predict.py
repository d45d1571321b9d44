"""How long `fw.predict` takes: infinite width by training inputs, first order by inputs in all. CPU seconds.

python benchmarks/predict.py                 # the table
python benchmarks/predict.py --train 5000    # one row
"""

import argparse
import time

import numpy as np

import finitewidth as fw


def infinite_width(N: int) -> tuple[float, float, float]:
    """CPU and wall seconds of order 0 at the end of training for N training inputs and 100 others, and its error."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((N + 100, 20)), rng.standard_normal(N)
    net = fw.MLP("tanh", depth=3, width=512, C_b=0.1, C_W=1.4)
    cpu, wall = time.process_time(), time.perf_counter()
    p = fw.predict(net, x[:N], y, x[N:], order=0)
    return time.process_time() - cpu, time.perf_counter() - wall, float(p.error["mean"].max())


def first_order(N: int, outputs: int = 1) -> tuple[float, float, float]:
    """The same for order 1 with N inputs in all, one of them new."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((N, 8)), rng.standard_normal((N - 1, outputs))
    net = fw.MLP("tanh", depth=3, width=512, n_out=outputs, C_b=0.1, C_W=1.4)
    cpu, wall = time.process_time(), time.perf_counter()
    p = fw.predict(net, x[: N - 1], y, x[N - 1 :])
    return time.process_time() - cpu, time.perf_counter() - wall, float(p.error["mean"].max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=int, nargs="*", default=[500, 2000, 5000], help="training inputs at order 0")
    parser.add_argument("--inputs", type=int, nargs="*", default=[4, 8], help="inputs in all at order 1")
    arguments = parser.parse_args()
    print("| order | inputs | CPU s | wall s | error of the mean |")
    print("|---|---|---|---|---|")
    for order, sizes, measured in ((0, arguments.train, infinite_width), (1, arguments.inputs, first_order)):
        for N in sizes:
            cpu, wall, error = measured(N)
            print(f"| {order} | {N} | {cpu:.1f} | {wall:.1f} | {error:.1e} |", flush=True)


if __name__ == "__main__":
    main()
