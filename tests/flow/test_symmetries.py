"""What holds for the tensors of every network: symmetries of indices, order of samples, duplicates, rank, scale."""

from functools import cache
from itertools import permutations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtr

import finitewidth as fw
from finitewidth.flow.vertex import FLUCTUATIONS, TENSORS

KINDS = ("gelu", "relu")

# Permutations of the axes that leave a tensor as it is. Each follows from what the tensor multiplies (FACTS §1.4): z's
# commute, H_{ij;αβ} = H_{ji;βα}, dH_{ijk} and ddI are symmetric in the neurons that gradients belong to, ddII in the
# exchange of both pairs (12)(34). None for Q: dH_{ijk} = dH_{ikj} takes Q_{0123} to its other term, Q_{0213}.
SYMMETRIES: dict[str, tuple[str, ...]] = {
    "V": ("bacd", "abdc", "cdab"),
    "D": ("bacd", "abdc"),  # z z, and H_{jj;αβ} symmetric
    "A": ("bacd", "abdc", "cdab"),
    "F": ("cdab",),  # z_α z_β exchanged with both slots of H
    "B": ("badc", "cdab"),  # the two H exchanged, and both transposed
    "P": ("acbd",),
    "Q": (),
    "R": ("abdc",),
    "S": ("badc",),
    "T": ("dcba",),
    "U": ("cdab",),
    "G1": ("ba",),
    "H1": ("ba",),
}


def network(name: str) -> fw.MLP:
    C_W = 2.0 if name == "relu" else 1.6
    return fw.MLP(name, depth=4, width=[400, 200, 800], C_b=0.1, C_W=C_W, lambda_b=0.7, lambda_W=0.4)


def inputs(seed: int, count: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 4))


@cache
def flow_of(name: str, seed: int) -> xr.Dataset:
    return fw.flow(network(name), inputs(seed), order=1)


def close(got: np.ndarray, expected: np.ndarray, flow: xr.Dataset, name: str) -> None:
    """To 1e-10 and to what both are stated to be good for."""
    error = 4 * float(flow[f"{name}_error"].max())
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-10 * np.abs(expected).max() + error, err_msg=name)


seeds = st.integers(0, 2)  # each is computed once


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tensor", TENSORS)
def test_symmetries_of_the_indices(kind: str, tensor: str) -> None:
    flow = flow_of(kind, 0)
    axes = "abcd" if tensor in FLUCTUATIONS else "ab"
    for permuted in SYMMETRIES[tensor]:
        other = np.einsum(f"...{axes}->...{permuted}", flow[tensor].values)
        close(other, flow[tensor].values, flow, tensor)


@pytest.mark.parametrize("tensor", FLUCTUATIONS)
def test_no_other_symmetry(tensor: str) -> None:
    """Of the 24 permutations, those that are not in the group made by the ones above change the tensor."""
    flow = flow_of("gelu", 0)
    values, group = flow[tensor].values[-1], {"abcd"}
    while more := {"".join(g["abcd".index(c)] for c in s) for g in group for s in SYMMETRIES[tensor]} - group:
        group |= more
    assert len(group) == {"V": 8, "A": 8, "D": 4, "B": 4, "Q": 1}.get(tensor, 2)
    for permuted in map("".join, permutations("abcd")):
        if permuted not in group:
            other = np.einsum(f"abcd->{permuted}", values)
            assert np.abs(other - values).max() > 1e-4 * np.abs(values).max(), permuted


@pytest.mark.parametrize("kind", ["gelu", pytest.param("relu", marks=pytest.mark.slow)])
@settings(max_examples=4, deadline=None)
@given(seed=seeds, order=st.permutations(range(3)))
def test_samples_in_any_order(kind: str, seed: int, order: list[int]) -> None:
    flow, other = flow_of(kind, seed), fw.flow(network(kind), inputs(seed)[order], order=1, layers="last")
    for name in TENSORS:
        axes = flow[name].ndim - 1
        expected = flow[name].values[-1][np.ix_(*[order] * axes)]
        close(other[name].values[-1], expected, flow, name)


@pytest.mark.parametrize("kind", KINDS)
def test_equal_inputs_have_equal_entries(kind: str) -> None:
    x = inputs(0)
    twice = fw.flow(network(kind), x[[0, 1, 2, 1]], order=1)
    flow = flow_of(kind, 0)
    for name in TENSORS:
        axes = flow[name].ndim - 1
        expected = flow[name].values[(slice(None), *np.ix_(*[[0, 1, 2, 1]] * axes))]
        close(twice[name].values, expected, flow, name)


def test_fewer_inputs_are_a_part() -> None:
    """No entry depends on inputs that it does not name."""
    for kind in KINDS:
        flow, part = flow_of(kind, 1), fw.flow(network(kind), inputs(1)[[2, 0]], order=1)
        for name in TENSORS:
            axes = flow[name].ndim - 1
            close(part[name].values, flow[name].values[(slice(None), *np.ix_(*[[2, 0]] * axes))], flow, name)


@pytest.mark.parametrize("kind", KINDS)
def test_singular_kernels(kind: str) -> None:
    """Four inputs in a plane, collinear and opposite ones among them. V by one integral over the plane."""
    x = np.array([[1.0, 0.2], [2.0, 0.4], [-0.3, 0.8], [-1.0, -0.2]])
    flow = fw.flow(fw.MLP(kind, depth=2, width=500, C_W=1.5, lambda_b=0.3), x, order=1)
    assert np.linalg.matrix_rank(flow.K.values[0]) == 2
    if kind == "gelu":
        grid = 0.25 * np.arange(-34, 35)
        g = np.stack(np.meshgrid(grid, grid)).reshape(2, -1)
        weight = 0.0625 * np.exp(-0.5 * (g * g).sum(0)) / (2 * np.pi)
        z = np.sqrt(0.75) * x @ g
        s, powers = z * ndtr(z), {2: weight, 4: weight}
    else:  # ⟨r²⟩ = 2 and ⟨r⁴⟩ = 8, times the average over angles
        angle = np.pi * (np.arange(40000) + 0.5) / 20000
        s = np.maximum(np.sqrt(0.75) * x @ np.stack([np.cos(angle), np.sin(angle)]), 0.0)
        powers = {2: np.full(40000, 2 / 40000), 4: np.full(40000, 8 / 40000)}
    pairs = (s * powers[2]) @ s.T
    quartets = np.einsum("am,bm,cm,dm,m->abcd", s, s, s, s, powers[4], optimize=True)
    V = 2.25 * (quartets - np.einsum("ab,cd->abcd", pairs, pairs))
    np.testing.assert_allclose(flow.V.values[1], V, rtol=0, atol=1e-8 * V.max())
    for name in TENSORS:
        assert np.all(np.isfinite(flow[name])) and np.all(np.isfinite(flow[f"{name}_error"]))


@pytest.mark.slow
@settings(max_examples=3, deadline=None)
@given(exponent=st.integers(-20, 20))
def test_relu_without_biases_has_a_power_for_each_tensor(exponent: int) -> None:
    """x → s x: without biases every jet of z goes like s, what four of them make like s⁴, G1 and H1 like s²."""
    net = fw.MLP("relu", depth=4, width=500, C_W=2.0, lambda_b=0.0)
    x, s = inputs(3), 2.0**exponent
    flow, other = fw.flow(net, x, order=1, layers="last"), fw.flow(net, s * x, order=1, layers="last")
    for name in TENSORS:
        power = 4 if name in FLUCTUATIONS else 2
        scale = np.abs(flow[name].values).max()
        np.testing.assert_allclose(
            other[name].values / s**power, flow[name].values, rtol=1e-9, atol=1e-9 * scale, err_msg=name
        )
