"""The tensors of order 1/n: against an ensemble of real networks, dense, contracted, and at depth 1000.

    python benchmarks/vertex.py --quick
    python benchmarks/vertex.py --json benchmarks/vertex.json

What is measured, and how, is in benchmarks/README.md.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from kernels import processor, table

import finitewidth as fw
from finitewidth.experiments import measure

C_W, DEPTH, WIDTH = 1.5, 8, 64
NETWORKS = 64
GOAL = 0.01
REPEATS = 3
HEADER = ("case", "first call", "wall", "CPU", "floor", "CPU / floor", "memory", "result")
Record = dict[str, Any]


def main() -> None:
    options = arguments()
    if options.case:
        print(json.dumps(CASES[options.case[0]](*map(int, options.case[1:]))))
        return
    records = []
    for case in cases(options):
        print(*case, file=sys.stderr, flush=True)
        command = [
            sys.executable,
            __file__,
            "--case",
            *map(str, case),
        ]  # a fresh process: memory and compilation of its own
        try:
            found = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=options.limit).stdout
            records.append({"case": case, **json.loads(found.splitlines()[-1])})
        except (subprocess.SubprocessError, ValueError) as failure:
            records.append({"case": case, "failure": str(failure)})
        if options.json:
            options.json.write_text(json.dumps(records, indent=1) + "\n")
    versions = ", ".join(f"{name} {version(name)}" for name in ("finitewidth", "jax", "numpy", "scipy"))
    host = f"{processor()}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}"
    print("\n".join([f"{host}. {versions}.", "", *table(HEADER, [row(record) for record in records])]))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="without N = 16 and N = 2000")
    parser.add_argument("--limit", type=float, default=300.0, help="seconds a case may take, compilation included")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was measured, case by case")
    parser.add_argument("--case", nargs="+", help="one case in this process: its name and sizes")
    return parser.parse_args()


def cases(options: argparse.Namespace) -> list[tuple[str | int, ...]]:
    found: list[tuple[str | int, ...]] = [("theory", 4), ("ensemble", 4)]
    found += [("dense", N) for N in (4, 8, 16) if N < 16 or not options.quick]
    found += [("contract", N) for N in (100, 1000, 2000) if N < 2000 or not options.quick]
    found += [("error", nodes, randomisations) for nodes in (128, 512, 2048) for randomisations in (4, 16)]
    return [*found, ("deep", 1000)]


def network(depth: int = DEPTH, width: int = WIDTH) -> fw.MLP:
    return fw.MLP("tanh", depth=depth, width=width, C_W=C_W)


def inputs(N: int) -> np.ndarray:
    """Correlations of about ½: neither clusters nor orthogonal inputs."""
    rng = np.random.default_rng(0)
    return rng.standard_normal((1, 20)) + rng.standard_normal((N, 20))


def timed(call: Callable[[], Any]) -> tuple[Any, Record]:
    """The result, its first call's seconds, the least of further calls, and the memory that they needed."""
    before = peak()
    seconds, cpu = [], []
    for _ in range(1 + REPEATS):
        start, cpu_start = time.perf_counter(), time.process_time()
        result = call()
        seconds.append(time.perf_counter() - start)
        cpu.append(time.process_time() - cpu_start)
        if sum(seconds) > 20.0 and len(seconds) > 1:
            break
    return result, {"first": seconds[0], "wall": min(seconds[1:]), "cpu": min(cpu[1:]), "MiB": peak() - before}


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def theory(N: int) -> Record:
    net, x = network(), inputs(N)
    found, record = timed(lambda: fw.flow(net, x, order=1, tensors="VAB", layers="last"))
    errors = {name: found[f"{name}_error"] for name in "VAB" if f"{name}_error" in found}
    worst = max((float(np.linalg.norm(e) / np.linalg.norm(found[name])) for name, e in errors.items()), default=np.nan)
    return record | {"result": f"stated error {worst:.0e}"}


def ensemble(N: int) -> Record:
    """`NETWORKS` networks; what 1 % would cost follows from their standard error, cost ∝ 1/error²."""
    net, x = network(), inputs(N)
    found, record = timed(lambda: measure(net, x, n_networks=NETWORKS, tensors=list("VAB")))
    error = {k: float(np.linalg.norm(found.standard_error[k]) / np.linalg.norm(found.mean[k])) for k in "VAB"}
    needed = {k: record["cpu"] * (e / GOAL) ** 2 for k, e in error.items()}
    text = ", ".join(f"{k} ±{100 * e:.0f} %" for k, e in error.items())
    return record | {"error": error, "needed": needed, "result": f"{text}: {max(needed.values()):.2g} s for 1 %"}


def dense(N: int) -> Record:
    """All tensors over two steps; the floor: a number from each pair of planes, and N⁴ numbers written, a step."""
    net, x = network(depth=3), inputs(N)
    _, record = timed(lambda: fw.flow(net, x, order=1, layers="last"))
    return record | {"floor": 2 * dense_floor(N), "result": f"{record['cpu'] / 2:.2g} s a layer"}


def dense_floor(N: int, degree: int = 24, halves: int = 6) -> float:
    """The rotations of all quartets' coefficients, as one matrix product a degree: what BLAS needs for them."""
    quartets = N * (N - 1) * (N - 2) * (N - 3) // 24 + N * (N - 1) * (N - 2) // 2
    rng = np.random.default_rng(0)
    total = 0.0
    for n in range(2, degree + 1):
        a, b = (
            rng.standard_normal((2 * halves * max(quartets, 1), n // 2 + 1)),
            rng.standard_normal((n // 2 + 1, n + 1)),
        )
        start = time.process_time()
        a @ b
        total += time.process_time() - start
    return total


def contract(N: int) -> Record:
    """V : B; the floor: two matrix products a step and randomisation, M N² multiplications and additions each, and a
    few passes over N² numbers."""
    net, x, nodes, randomisations = network(), inputs(N), 512, 8
    B = np.eye(N)
    _, record = timed(lambda: fw.vertex(net, x, nodes=nodes, randomisations=randomisations).contract("V", B))
    z, K = np.random.default_rng(0).standard_normal((nodes, N)), np.empty((N, N))
    start = time.process_time()
    for _ in range(2):
        z.T @ z
        z @ K
    once = 0.5 * (time.process_time() - start)
    return record | {
        "floor": (DEPTH - 1) * randomisations * once,
        "result": f"{record['cpu'] / N**2 * 1e6:.2g} µs a pair",
    }


def error(nodes: int, randomisations: int) -> Record:
    """The stated error of V : B, relative, for B = 1 and for a random symmetric B."""
    net, x = network(), inputs(100)
    random = np.random.default_rng(1).standard_normal((100, 100))
    found = {}
    for name, B in (("1", np.eye(100)), ("random", random + random.T)):
        estimate, record = timed(
            lambda B=B: fw.vertex(net, x, nodes=nodes, randomisations=randomisations).contract("V", B)
        )
        found[name] = float(np.linalg.norm(estimate.error) / np.linalg.norm(estimate.value))
    return record | {"result": ", ".join(f"B = {name}: {100 * e:.2g} %" for name, e in found.items())}


def deep(depth: int) -> Record:
    """All tensors of one input; the floor: the recursion alone, eleven numbers by eleven a layer, in compiled code."""
    net, x = network(depth=depth), inputs(1)
    _, record = timed(lambda: fw.flow(net, x, order=1))
    return record | {"result": f"{record['cpu'] / depth * 1e6:.0f} µs a layer"}


def row(record: Record) -> tuple[str, ...]:
    name = " ".join(map(str, record["case"]))
    if "failure" in record:
        return (name, *["—"] * 6, record["failure"][:60])
    floor = record.get("floor")
    return (
        name, *(seconds(record[key]) for key in ("first", "wall", "cpu")), seconds(floor) if floor else "—",
        f"{record['cpu'] / floor:.1f}×" if floor else "—", f"{record['MiB']:.0f} MiB", record["result"],
    )  # fmt: skip


def seconds(value: float) -> str:
    return f"{value:.3g} s" if value >= 1 else f"{value * 1000:.3g} ms"


CASES: dict[str, Callable[..., Record]] = {
    "theory": theory, "ensemble": ensemble, "dense": dense, "contract": contract, "error": error, "deep": deep,
}  # fmt: skip

if __name__ == "__main__":
    main()
