"""The catalogue of exact problems: Gaussian averages and whole flows with references of 30 digits.

The references were computed once, with mpmath and by roads that share nothing with the library, and are stored in
`references/`; `references/make_pairs.py` and `references/make_flows.py` make them again. Every problem is the float64
numbers given, exactly: near-collinear kernels are those numbers, not the correlation that they were rounded from.
"""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

REFERENCES = Path(__file__).parent / "references"


@dataclass(frozen=True)
class Pairs:
    """⟨σσ⟩_K and ⟨σ'σ'⟩_K of one activation over several two-input kernels."""

    activation: str
    kernels: tuple[str, ...]  # what each kernel is, in words
    K: np.ndarray  # (M, 2, 2)
    ss: np.ndarray  # (M,) ⟨σ(z₁) σ(z₂)⟩
    dsds: np.ndarray  # (M,) ⟨σ'(z₁) σ'(z₂)⟩, almost-everywhere σ'
    ss_scale: np.ndarray  # (M,) √(⟨σ(z₁)²⟩ ⟨σ(z₂)²⟩), the largest that |⟨σσ⟩| can be
    dsds_scale: np.ndarray  # (M,)


@dataclass(frozen=True)
class Flow:
    """K and Θ of every layer of a network on given inputs."""

    name: str
    activation: str
    network: dict[str, Any]  # keyword arguments of MLP; per-layer hyperparameters
    x: np.ndarray  # (N, n_in)
    layers: tuple[int, ...]  # those with references
    K: np.ndarray  # (len(layers), N, N)
    Theta: np.ndarray  # (len(layers), N, N)


@cache
def pairs() -> tuple[Pairs, ...]:
    """The two-input problems, one entry per activation."""
    stored = json.loads((REFERENCES / "pairs.json").read_text())["pairs"]
    names = dict.fromkeys(entry["activation"] for entry in stored)
    return tuple(_pairs(name, [entry for entry in stored if entry["activation"] == name]) for name in names)


def _pairs(activation: str, stored: list[dict[str, Any]]) -> Pairs:
    K11, K12, K22 = np.array([[float.fromhex(number) for number in entry["K"]] for entry in stored]).T
    keys = ("ss", "dsds", "ss_scale", "dsds_scale")
    values = {key: np.array([float(entry[key]) for entry in stored]) for key in keys}
    K = np.stack([np.stack([K11, K12], -1), np.stack([K12, K22], -1)], -2)
    return Pairs(activation, tuple(entry["kernel"] for entry in stored), K, **values)


@cache
def flows() -> tuple[Flow, ...]:
    """The networks with references for every layer, or for some of a deep one."""
    return tuple(
        Flow(
            entry["name"],
            entry["activation"],
            entry["network"],
            np.array(entry["x"]),
            tuple(entry["layers"]),
            np.array(entry["K"]).astype(float),
            np.array(entry["Theta"]).astype(float),
        )
        for entry in json.loads((REFERENCES / "flows.json").read_text())["flows"]
    )
