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
    """Floating-point rate of the layers' products within a network that is drawn and run, over that of the products."""
    rows = []
    for n, N in ((256, 4), (256, 256), (1024, 4), (1024, 1024)):
        net, x = fw.MLP("relu", depth=4, width=n, C_W=2.0), inputs(N)
        made = at_initialisation(net, x, ["K"], seed=0, draw="networks", outputs=Outputs(z=n))
        with float64():
            _, cpu = seconds(lambda made=made: made.contributions(np.arange(made.together)))
            W = np.random.default_rng(1).standard_normal((made.together, 3, n, n))
            first, z = W[:, 0, :, :64], np.random.default_rng(2).standard_normal((made.together, n, N))
            product = compiled(lambda W, first, z, x: (first @ x.T, [W[:, l] @ z for l in range(3)]))
            _, bare = seconds(lambda product=product, W=W, first=first, z=z, x=x: product(W, first, z, x))
            _, draws = seconds(lambda n=n, made=made: _normals(made.together * (64 * n + 3 * n * n)))
        text = f"{100 * bare / cpu:.0f} % of bare products; drawing the weights alone takes {100 * draws / cpu:.0f} %"
        rows.append((f"n = {n}, N = {N}", text))
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
                n_networks=20_000,
                draw="layers",
                chunk=512,
                engine=engine,
                workers=count,
                progress=lambda done, _, seen=seen: seen.append((time.perf_counter(), done)),
            )
            # from the time when a tenth is done, start of processes and compilation behind it, to the end
            (begun, before), (ended, all_of_them) = next(s for s in seen if s[1] > 4000), seen[-1]
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


def _normals(count: int) -> jax.Array:
    return _drawn(jax.random.key(0), count)


def _drawn(key: jax.Array, count: int) -> jax.Array:
    if count not in _programs:
        _programs[count] = compiled(lambda key: jax.random.normal(key, (count,)))
    return _programs[count](key)


_programs: dict[int, Any] = {}
CASES: dict[str, Callable[[], Record]] = {"plain": plain, "layers": layers, "workers": workers, "ledger": ledger}


if __name__ == "__main__":
    main()
