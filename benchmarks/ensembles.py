"""Ensembles: the plain engine against bare products, layers against networks, two workers against one, the ledger.

    python benchmarks/ensembles.py
    python benchmarks/ensembles.py --json benchmarks/ensembles.json

What is measured, and how, is in benchmarks/README.md.
"""

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np
from kernels import processor, table

import finitewidth as fw
from finitewidth.experiments import Outputs
from finitewidth.experiments.compiled import compiled
from finitewidth.experiments.ensembles import at_initialisation
from finitewidth.precision import float64

REPEATS = 3
Record = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was measured")
    parser.add_argument("--only", nargs="+", choices=list(CASES), help="these cases only")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    records = {name: case() for name, case in CASES.items() if options.only is None or name in options.only}
    if options.json:
        options.json.write_text(json.dumps(records, indent=1) + "\n")
    versions = ", ".join(f"{name} {version(name)}" for name in ("finitewidth", "jax", "numpy"))
    host = f"{processor()}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}"
    rows = [(name, *row) for name, found in records.items() for row in found["rows"]]
    print(f"{host}. {versions}. Load when it began: {load:.1f}.\n")
    print("\n".join(table(("case", "what", "measured"), rows)))


def seconds(call: Callable[[], Any]) -> tuple[float, float]:
    """The least wall time and the least CPU time of several calls, after one that compiles."""
    jax.block_until_ready(call())
    wall, cpu = [], []
    for _ in range(REPEATS):
        begun, begun_cpu = time.perf_counter(), time.process_time()
        jax.block_until_ready(call())
        wall.append(time.perf_counter() - begun)
        cpu.append(time.process_time() - begun_cpu)
    return min(wall), min(cpu)


def inputs(N: int, n_in: int = 64) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((N, n_in))


def plain() -> Record:
    """Floating-point rate of networks that are drawn, run, and their kernel K taken, over that of bare products."""
    rows = []
    for n, N in ((256, 4), (256, 256), (1024, 4), (1024, 1024)):
        net, x = fw.MLP("relu", depth=4, width=n, C_W=2.0), inputs(N)
        made = at_initialisation(net, x, ["K"], seed=0, draw="networks", outputs=Outputs(z=n))
        weights = made.together * (64 * n + 3 * n * n)
        work = 2.0 * N * weights + 2.0 * made.together * N * N * n  # the layers' products, and K's
        with float64():
            _, cpu = seconds(lambda made=made: made.contributions(np.arange(made.together)))
            W = np.random.default_rng(1).standard_normal((made.together, 3, n, n))
            first, z = W[:, 0, :, :64], np.random.default_rng(2).standard_normal((made.together, n, N))
            product = compiled(lambda W, first, z, x: (first @ x.T, [W[:, l] @ z for l in range(3)]))
            _, bare = seconds(lambda product=product, W=W, first=first, z=z, x=x: product(W, first, z, x))
            _, draws = seconds(lambda weights=weights: _drawn(weights))
        rate, of_products = work / cpu, 2.0 * N * weights / bare
        text = (
            f"{1e-9 * rate:.1f} of {1e-9 * of_products:.1f} GFLOP/s, {100 * rate / of_products:.0f} %; drawing takes "
            f"{100 * draws / cpu:.0f} %, {1e9 * draws / weights:.0f} ns a weight; without it "
            f"{100 * work / (cpu - draws) / of_products:.0f} %"
        )
        rows.append((f"n = {n}, N = {N}", text))
    return {"rows": rows}


def numbers() -> Record:
    """CPU time of one Gaussian number of float64: ours, and JAX's with each of its generators."""
    from finitewidth.experiments.normals import IMPLEMENTATION, normals

    count, rows = 1 << 18, []
    with float64():
        for name, generator, draw in (
            ("ours", IMPLEMENTATION, normals),
            *(
                (f"jax.random.normal, {each}", each, jax.random.normal)
                for each in ("threefry2x32", "rbg", "unsafe_rbg")
            ),
        ):
            key, drawn = jax.random.key(0, impl=generator), compiled(lambda key, draw=draw: draw(key, (count,)))
            _, cpu = seconds(lambda key=key, drawn=drawn: drawn(key))
            rows.append((name, f"{1e9 * cpu / count:.0f} ns"))
    return {"rows": rows}


def layers() -> Record:
    """Networks a second, drawn layer by layer and with weights: n = 1024, depth 10, N = 4."""
    net, x = fw.MLP("tanh", depth=10, width=1024, C_W=1.3), inputs(4)
    observables = [fw.observables.kernel(), fw.observables.kernel_covariance()]
    took = {}
    with float64():
        for draw in ("networks", "layers"):
            made = at_initialisation(net, x, observables, seed=0, draw=draw)
            wall, cpu = seconds(lambda made=made: made.contributions(np.arange(made.together)))
            took[draw] = (wall / made.together, cpu / made.together)
    ratios = [slow / fast for slow, fast in zip(took["networks"], took["layers"], strict=True)]
    milliseconds = {draw: 1e3 * cpu for draw, (_, cpu) in took.items()}
    text = ", ".join(f"{draw} {each:.3g} ms" for draw, each in milliseconds.items())
    rows = [
        ("CPU a network", text),
        ("layers are faster", f"{ratios[1]:.0f}× in CPU time, {ratios[0]:.0f}× in wall time"),
    ]
    return {"seconds": took, "rows": rows}


def workers() -> Record:
    """One and two workers over the same run, after a run that compiles."""
    net, x = fw.MLP("tanh", depth=6, width=256, C_W=1.3), inputs(4)
    rows = []
    for engine in ("threads", "processes"):
        took = {}
        for count in (1, 2):
            seen: list[tuple[float, int]] = []
            fw.ensemble(
                net,
                x,
                observables=["K", "V"],
                n_networks=100_000,
                draw="layers",
                chunk=512,
                engine=engine,
                workers=count,
                progress=lambda done, _, seen=seen: seen.append((time.perf_counter(), done)),
            )
            # from the time when two fifths are done, start of processes and compilation behind them all, to the end
            (begun, before), (ended, all_of_them) = next(s for s in seen if s[1] > 40_000), seen[-1]
            took[count] = (all_of_them - before) / (ended - begun)
        rates = f"{took[1]:.0f} and {took[2]:.0f} networks a second with one and two"
        rows.append((engine, f"{rates}: {took[2] / took[1]:.2f}×"))
    return {"rows": rows}


def ledger() -> Record:
    """What a ledger on disk adds: the time of its writes, over that of the run."""
    from finitewidth.experiments.ledger import Ledger

    net, x, spent = fw.MLP("tanh", depth=6, width=256, C_W=1.3), inputs(4), []
    write = Ledger.write

    def timed(self: Ledger, *arguments: Any) -> None:
        begun = time.perf_counter()
        write(self, *arguments)
        spent.append(time.perf_counter() - begun)

    Ledger.write = timed  # type: ignore[method-assign]
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "run.db"
            begun = time.perf_counter()
            fw.ensemble(net, x, observables=["K", "V"], n_networks=30_000, draw="layers", path=path)
            took, size = time.perf_counter() - begun, path.stat().st_size
    finally:
        Ledger.write = write  # type: ignore[method-assign]
    rows = [
        ("writes", f"{len(spent)} of {1e3 * np.mean(spent):.1f} ms, {100 * sum(spent) / took:.2f} % of {took:.0f} s"),
        ("size", f"{size / len(spent) / 1024:.1f} KiB a chunk"),
    ]
    return {"rows": rows}


def _drawn(count: int) -> jax.Array:
    from finitewidth.experiments.normals import IMPLEMENTATION, normals

    if count not in _programs:
        _programs[count] = compiled(lambda key: normals(key, (count,)))
    return _programs[count](jax.random.key(0, impl=IMPLEMENTATION))


_programs: dict[int, Any] = {}
CASES: dict[str, Callable[[], Record]] = {
    "numbers": numbers,
    "plain": plain,
    "layers": layers,
    "workers": workers,
    "ledger": ledger,
}


if __name__ == "__main__":
    main()
