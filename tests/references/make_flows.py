"""Makes flows.json: K and Θ layer by layer for networks on three inputs of unequal norms, to 25 digits.

    python tests/references/make_flows.py               # all of them: minutes
    python tests/references/make_flows.py tanh-10       # these; the others stay as they are

    K' = C_b + C_W ⟨σσ⟩_K      Θ' = λ_b + λ_W ⟨σσ⟩_K + C_W ⟨σ'σ'⟩_K Θ

Inputs and hyperparameters are taken exactly as the float64 numbers given. It needs mpmath only.
"""

import json
import sys
from dataclasses import dataclass
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any

from activations import OTHER_ROADS, ROADS
from mpmath import mp, mpf

FILE = Path(__file__).with_name("flows.json")
INPUTS = [[0.9, -0.4, 1.3, 0.2], [0.3, 0.5, 0.7, -0.6], [-2.1, 1.4, -0.8, 1.9]]


def per_layer(depth: int, C_b: float, C_W: float) -> dict[str, Any]:
    """Hyperparameters that differ from layer to layer, around these."""
    layers = range(1, depth + 1)
    return {
        "depth": depth,
        "C_b": [C_b * (1 + 0.1 * (layer % 3)) for layer in layers],
        "C_W": [C_W * (1 + 0.05 * (layer % 4)) for layer in layers],
        "lambda_b": [0.5 + 0.1 * (layer % 2) for layer in layers],
        "lambda_W": [0.7 + 0.1 * (layer % 5) for layer in layers],
    }


def everywhere(depth: int, C_b: float, C_W: float) -> dict[str, Any]:
    return {"depth": depth, "C_b": C_b, "C_W": C_W, "lambda_b": 1.0, "lambda_W": 1.0}


@dataclass(frozen=True)
class Problem:
    activation: str
    network: dict[str, Any]
    layers: tuple[int, ...]


TEN = tuple(range(1, 11))
PROBLEMS = {
    "relu-10": Problem("relu", per_layer(10, 0.1, 1.7), TEN),
    "tanh-10": Problem("tanh", per_layer(10, 0.05, 1.5), TEN),
    "elu-10": Problem("elu", per_layer(10, 0.1, 1.1), TEN),
    "hardtanh-10": Problem("hardtanh", per_layer(10, 0.05, 1.2), TEN),
    "relu-1000": Problem("relu", everywhere(1000, 0.0, 2.0), (1, 10, 100, 1000)),
    "erf-1000": Problem("erf", everywhere(1000, 0.0, 0.7853981633974483), (1, 10, 100, 1000)),
}


def flow(problem: Problem) -> tuple[list[dict], list[dict]]:
    """K and Θ of every layer, each a dictionary over pairs of inputs."""
    net, road = problem.network, ROADS[problem.activation]
    if net["depth"] > 100:
        road = OTHER_ROADS.get(problem.activation, road) if problem.activation == "relu" else road  # its formula
    C_b, C_W, lambda_b, lambda_W = (hyperparameter(net, n) for n in ("C_b", "C_W", "lambda_b", "lambda_W"))
    x = [[mpf(value) for value in row] for row in INPUTS]
    couples = list(combinations_with_replacement(range(len(x)), 2))
    inner = {(i, j): mp.fdot(x[i], x[j]) / len(x[i]) for i, j in couples}
    Ks = [{p: C_b[0] + C_W[0] * inner[p] for p in couples}]
    Thetas = [{p: lambda_b[0] + lambda_W[0] * inner[p] for p in couples}]
    for layer in range(1, net["depth"]):
        K, Theta = Ks[-1], Thetas[-1]
        averages = {
            (i, j): road.diagonal(K[i, i]) if i == j else road.pair(K[i, i], K[j, j], K[i, j]) for i, j in couples
        }
        Ks.append({p: C_b[layer] + C_W[layer] * averages[p][0] for p in couples})
        Thetas.append(
            {
                p: lambda_b[layer] + lambda_W[layer] * averages[p][0] + C_W[layer] * averages[p][1] * Theta[p]
                for p in couples
            }
        )
    return Ks, Thetas


def hyperparameter(net: dict[str, Any], name: str) -> list[mpf]:
    value = net[name]
    return [mpf(v) for v in (value if isinstance(value, list) else [value] * net["depth"])]


def square(entries: dict[tuple[int, int], mpf]) -> list[list[str]]:
    N = len(INPUTS)
    return [[mp.nstr(entries[min(i, j), max(i, j)], 25) for j in range(N)] for i in range(N)]


def main(names: list[str]) -> None:
    made = {e["name"]: e for e in json.loads(FILE.read_text())["flows"]} if FILE.exists() else {}
    for name in names:
        problem = PROBLEMS[name]
        Ks, Thetas = flow(problem)
        made[name] = {
            "name": name,
            "activation": problem.activation,
            "network": problem.network,
            "x": INPUTS,
            "layers": problem.layers,
            "K": [square(Ks[layer - 1]) for layer in problem.layers],
            "Theta": [square(Thetas[layer - 1]) for layer in problem.layers],
        }
        print(name, made[name]["K"][-1], file=sys.stderr, flush=True)  # noqa: T201
        lines = ",\n".join(json.dumps(made[n]) for n in PROBLEMS if n in made)
        FILE.write_text('{"made by": "make_flows.py", "flows": [\n' + lines + "\n]}\n")


if __name__ == "__main__":
    main(sys.argv[1:] or list(PROBLEMS))
