"""Makes pairs.json: ⟨σσ⟩_K and ⟨σ'σ'⟩_K of two inputs to 30 digits, for K exactly as stored (float64, in hexadecimal).

    python tests/references/make_pairs.py               # all of them: half an hour on two cores
    python tests/references/make_pairs.py relu tanh     # these; the others stay as they are
    python tests/references/make_pairs.py --check       # one road against another

It needs mpmath only. The roads are in averages.py.
"""

import json
import sys
from multiprocessing import Pool
from pathlib import Path
from typing import Any

from activations import OTHER_ROADS, ROADS
from averages import Strip
from mpmath import mp, mpf

FILE = Path(__file__).with_name("pairs.json")
NEAR, NEARER = 1 - 1e-6, 1 - 1e-12

# name: (K11, K22, correlation). K12 is correlation · √(K11 K22) in float64; K is the problem, not the correlation.
KERNELS = {
    **{f"unit, c = {c!r}": (1.0, 1.0, c) for c in (0.0, 0.5, -0.5, 0.9, NEAR, NEARER, -NEARER)},
    **{f"unequal, c = {c!r}": (0.3, 2.5, c) for c in (0.0, 0.5, -0.5, 0.9, NEAR, NEARER, -NEARER)},
    **{f"tiny, c = {c!r}": (0.3e-12, 2.5e-12, c) for c in (0.5, NEARER)},
    **{f"large, c = {c!r}": (30.0, 250.0, c) for c in (0.5, NEARER)},
    "hundred, c = 0.9": (100.0, 100.0, 0.9),
    **{f"huge, c = {c!r}": (0.3e12, 2.5e12, c) for c in (-0.5, NEARER)},
}


def sensible(activation: str, kernel: str) -> bool:
    """Whether the average is worth a test: not zero to 30 digits, not beyond float64, and a road reaches it."""
    kind, near = kernel.split(",")[0], repr(NEARER) in kernel
    if kind == "tiny":
        return activation not in ("softshrink", "hardshrink")
    if kind in ("large", "hundred"):
        return activation != "exp"
    if kind == "huge":
        no_road = isinstance(ROADS[activation], Strip) and near
        return not no_road and activation not in ("exp", "sin", "cos") and not (activation == "softsign" and near)
    return True


def problem(task: tuple[str, str]) -> dict[str, Any]:
    activation, kernel = task
    a, b, c = KERNELS[kernel]
    k = c * (a * b) ** 0.5
    road = ROADS[activation]
    ss, dsds = road.pair(mpf(a), mpf(b), mpf(k))
    (ss_a, dsds_a), (ss_b, dsds_b) = road.diagonal(mpf(a)), road.diagonal(mpf(b))
    return {
        "activation": activation,
        "kernel": kernel,
        "K": [a.hex(), k.hex(), b.hex()],
        "ss": mp.nstr(ss, 30),
        "dsds": mp.nstr(dsds, 30),
        "ss_scale": mp.nstr(mp.sqrt(ss_a * ss_b), 30),
        "dsds_scale": mp.nstr(mp.sqrt(dsds_a * dsds_b), 30),
    }


def check() -> None:
    for activation, other in OTHER_ROADS.items():
        for kernel in ("unit, c = 0.5", "unequal, c = 0.9", f"unequal, c = {-NEARER!r}", "hundred, c = 0.9"):
            a, b, c = KERNELS[kernel]
            K = mpf(a), mpf(b), mpf(c * (a * b) ** 0.5)
            one, two = ROADS[activation].pair(*K), other.pair(*K)
            apart = [mp.nstr(abs(x - y), 2) for x, y in zip(one, two, strict=True)]
            print(f"{activation:8} {kernel:40} differs by {apart}", flush=True)  # noqa: T201


def main(names: list[str]) -> None:
    made = json.loads(FILE.read_text())["pairs"] if FILE.exists() else []
    tasks = [(n, kernel) for n in names for kernel in KERNELS if sensible(n, kernel)]
    kept = [p for p in made if p["activation"] not in names]
    with Pool(2) as pool:
        for entry in pool.imap_unordered(problem, tasks):
            kept.append(entry)
            write(kept)
            print(*entry.values(), file=sys.stderr, flush=True)  # noqa: T201


def write(entries: list[dict[str, Any]]) -> None:
    names, kernels = list(ROADS), list(KERNELS)
    in_order = sorted(entries, key=lambda p: (names.index(p["activation"]), kernels.index(p["kernel"])))
    lines = ",\n".join(json.dumps(entry) for entry in in_order)
    FILE.write_text('{"made by": "make_pairs.py", "K": "[K11, K12, K22]", "pairs": [\n' + lines + "\n]}\n")


if __name__ == "__main__":
    if "--check" in sys.argv:
        check()
    else:
        main(sys.argv[1:] or list(ROADS))
