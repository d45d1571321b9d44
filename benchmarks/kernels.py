"""Speed, memory and agreement of `fw.flow` and neural-tangents 0.6.5, side by side in one run.

    python benchmarks/kernels.py --quick
    python benchmarks/kernels.py --json benchmarks/kernels.json

What is measured, and how, is in benchmarks/README.md.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from contender import Contender, Failure
from environment import peer_python

COLUMNS = 784
C_B = 0.1
# C_W at which thirty layers neither explode nor vanish
C_WS = {"relu": 1.9, "erf": 1.4, "tanh": 1.8, "silu": 1.9, "mish": 1.7, "gelu": 1.9, "elu": 1.2}
AGAINST_PEER = ("relu", "erf", "gelu", "tanh")  # tanh: neural-tangents' numerical route, only where it fits (N ≤ 200)
AGAINST_RELU = ("tanh", "silu", "mish", "gelu", "elu")
LARGEST_NUMERICAL = 200
PEER_HEADER = (
    "σ", "N", "L", "first call", "peer", "repeated call", "peer", "faster", "floor",
    "memory", "peer", "less", "ΔK", "ΔΘ",
)  # fmt: skip
RELU_HEADER = ("σ", "N", "L", "first call", "repeated call", "our ReLU", "σ / ReLU", "floor", "memory")
ENOUGH_SECONDS, FEWEST, MOST = 20.0, 3, 15  # repeated calls of one pair of contenders


def main() -> None:
    options = arguments()
    python = None if options.no_peer else peer_python()
    records: list[dict[str, Any]] = []
    versions: dict[str, dict[str, str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for N in options.sizes:
            data = Path(folder) / f"{N}.npy"
            x = inputs(N)
            np.save(data, x)
            for depth in options.depths:
                lowest = floor(x, depth)
                for activation, rival in comparisons(options.activations, N, with_peer=python is not None):
                    case = {"activation": activation, "against": rival, "N": N, "depth": depth}
                    print(f"{activation} against {rival}, N {N}, depth {depth}", file=sys.stderr, flush=True)
                    result = compare(case, data, python, options.limit, versions)
                    records.append({**case, "floor_seconds": lowest, **result})
                    if options.json:
                        options.json.write_text(json.dumps(report(records, versions), indent=1) + "\n")
    print(markdown(report(records, versions)))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="N = 200 and depth 3 only")
    parser.add_argument("--sizes", type=int, nargs="+", default=[200, 1000, 2000], metavar="N")
    parser.add_argument("--depths", type=int, nargs="+", default=[3, 10, 30], metavar="L")
    parser.add_argument("--activations", nargs="+", default=list(C_WS), choices=list(C_WS))
    parser.add_argument("--limit", type=float, default=300.0, help="seconds one call may take, compilation included")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was measured, case by case")
    parser.add_argument("--no-peer", action="store_true", help="without neural-tangents")
    options = parser.parse_args()
    if options.quick:
        options.sizes, options.depths = [200], [3]
    return options


def inputs(N: int) -> np.ndarray:
    """N inputs of 784 columns in ten clusters, with norms from about 0.3 to 3 and correlations from 0 to nearly 1."""
    rng = np.random.default_rng(784)
    centres = rng.normal(size=(10, COLUMNS))
    spread = rng.uniform(0.02, 1.0, size=(N, 1))
    directions = centres[rng.integers(10, size=N)] + spread * rng.normal(size=(N, COLUMNS))
    return directions * np.exp(0.4 * rng.normal(size=(N, 1)))


def floor(x: np.ndarray, depth: int) -> float:
    """Seconds no method can beat: x·xᵀ (NumPy computes one half of it) and one pass over its N² entries per layer."""

    def once() -> float:
        start = time.perf_counter()
        K = x @ x.T
        for _ in range(depth):
            np.multiply(K, 0.999, out=K)
        return time.perf_counter() - start

    return statistics.median(once() for _ in range(7))


def comparisons(activations: list[str], N: int, *, with_peer: bool) -> list[tuple[str, str]]:
    """(activation, rival): rivals are "neural-tangents" on the same activation, and our own ReLU."""
    pairs = []
    for activation in activations:
        if with_peer and activation in AGAINST_PEER and (activation != "tanh" or N <= LARGEST_NUMERICAL):
            pairs.append((activation, "neural-tangents"))
        if activation in AGAINST_RELU or not with_peer:
            pairs.append((activation, "relu"))
    return pairs


def compare(
    case: dict[str, Any], data: Path, python: Path | None, limit: float, versions: dict[str, dict[str, str]]
) -> dict[str, Any]:
    """First call, peak memory and repeated calls of both; the repeated calls alternate, so that drift cancels."""
    activation, rival, depth = case["activation"], case["against"], case["depth"]
    against_relu = rival == "relu"
    sides = {
        "ours": (sys.executable, "finitewidth", activation),
        "rival": (sys.executable, "finitewidth", "relu") if against_relu else (python, "neural-tangents", activation),
    }
    running: dict[str, Contender] = {}
    result: dict[str, Any] = {}
    try:
        for side, (interpreter, name, sigma) in sides.items():
            result[side] = {}
            try:
                contender = running[side] = Contender(interpreter, name, patience=limit)
                versions[name] = contender.versions
                contender.ask("load", x=str(data), activation=sigma, depth=depth, C_b=C_B, C_W=C_WS[sigma])
                result[side]["first_seconds"] = contender.ask("time")["seconds"]
            except Failure as failure:
                give_up(running, result, side, failure)
        repeat(running, result)
        results = {}
        for side, contender in list(running.items()):
            result[side]["peak_MiB"] = contender.ask("memory")["MiB"]
            saved = data.with_name(f"{side}.npz")
            contender.ask("save", to=str(saved))
            results[side] = np.load(saved)
        if len(results) == 2 and not against_relu:
            result["difference"] = {q: difference(results["ours"][q], results["rival"][q]) for q in ("K", "Theta")}
    finally:
        for contender in running.values():
            contender.close()
    return result


def repeat(running: dict[str, Contender], result: dict[str, Any]) -> None:
    """Warm calls, A B A B …, and their medians."""
    seconds: dict[str, list[float]] = {side: [] for side in running}
    while running and not enough(seconds):
        for side in list(running):
            try:
                seconds[side].append(running[side].ask("time")["seconds"])
            except Failure as failure:
                give_up(running, result, side, failure)
    for side in running:
        result[side] |= {"warm_seconds": statistics.median(seconds[side]), "warm_calls": seconds[side]}


def enough(seconds: dict[str, list[float]]) -> bool:
    count = max(map(len, seconds.values()))
    return count >= MOST or (count >= FEWEST and sum(map(sum, seconds.values())) > ENOUGH_SECONDS)


def give_up(running: dict[str, Contender], result: dict[str, Any], side: str, failure: Failure) -> None:
    result[side]["failure"] = str(failure)
    print(f"  {side}: {failure}", file=sys.stderr, flush=True)
    if side in running:
        running.pop(side).close()


def difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    """max |ΔK_ab| / √(K_aa K_bb)."""
    scale = np.sqrt(np.diag(ours))
    return float(np.max(np.abs(ours - theirs) / scale[:, None] / scale[None, :]))


def report(records: list[dict[str, Any]], versions: dict[str, dict[str, str]]) -> dict[str, Any]:
    machine = {
        "processor": processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "system": platform.system(),
    }
    return {"machine": machine, "versions": versions, "columns": COLUMNS, "C_b": C_B, "C_W": C_WS, "cases": records}


def processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def markdown(measured: dict[str, Any]) -> str:
    """Two tables: against neural-tangents, and any activation against our ReLU."""
    machine = measured["machine"]
    libraries = "; ".join(
        f"{name}: " + ", ".join(f"{library} {version}" for library, version in found.items())
        for name, found in measured["versions"].items()
    )
    host = f"{machine['processor']}, {machine['cores']} cores, {machine['system']}, Python {machine['python']}"
    lines = [f"{host}. {libraries}.", ""]
    cases = [case for case in measured["cases"] if case["against"] == "neural-tangents"]
    if cases:
        lines += table(PEER_HEADER, [peer_row(case) for case in cases])
    cases = [case for case in measured["cases"] if case["against"] == "relu"]
    if cases:
        lines += table(RELU_HEADER, [relu_row(case) for case in cases])
    return "\n".join(lines)


def table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    return ["| " + " | ".join(row) + " |" for row in (header, ("---",) * len(header), *rows)] + [""]


def peer_row(case: dict[str, Any]) -> tuple[str, ...]:
    ours, peer = case["ours"], case["rival"]
    changed = case.get("difference", {})
    return (
        *what(case), duration(ours, "first_seconds"), duration(peer, "first_seconds"),
        duration(ours, "warm_seconds"), duration(peer, "warm_seconds"), ratio(peer, ours, "warm_seconds"),
        duration(case, "floor_seconds"), size(ours), size(peer), ratio(peer, ours, "peak_MiB"),
        *(f"{changed[q]:.0e}" if q in changed else "—" for q in ("K", "Theta")),
    )  # fmt: skip


def relu_row(case: dict[str, Any]) -> tuple[str, ...]:
    ours, relu = case["ours"], case["rival"]
    return (
        *what(case), duration(ours, "first_seconds"), duration(ours, "warm_seconds"), duration(relu, "warm_seconds"),
        ratio(ours, relu, "warm_seconds"), duration(case, "floor_seconds"), size(ours),
    )  # fmt: skip


def what(case: dict[str, Any]) -> tuple[str, str, str]:
    return case["activation"], str(case["N"]), str(case["depth"])


def duration(measured: dict[str, Any], key: str) -> str:
    if key not in measured:
        return "—"
    seconds = measured[key]
    return f"{seconds:.3g} s" if seconds >= 1 else f"{seconds * 1000:.3g} ms"


def size(measured: dict[str, Any]) -> str:
    return f"{measured['peak_MiB']:.0f} MiB" if "peak_MiB" in measured else "—"


def ratio(numerator: dict[str, Any], denominator: dict[str, Any], key: str) -> str:
    return f"{numerator[key] / denominator[key]:.2f}×" if key in numerator and key in denominator else "—"


if __name__ == "__main__":
    main()
