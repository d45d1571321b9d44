"""Symmetric storage: the right entries are taken for equal, and what is read is what was computed."""

import copy
import pickle
from collections.abc import Iterator
from functools import cache
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import finitewidth as fw
from finitewidth.flow import first_order
from finitewidth.flow.densely import dense_flow
from finitewidth.flow.symmetric import SymmetricTensor, orbits
from finitewidth.flow.vertex import FLUCTUATIONS, TENSORS, symmetries
from tests.flow.test_symmetries import SYMMETRIES

NETS = {
    name: fw.MLP(name, depth=3, width=[40, 64], C_b=0.2, C_W=C_W, lambda_b=0.5, lambda_W=0.7)
    for name, C_W in (("sin", 1.3), ("relu", (1.7, 2.0, 1.5)))
}


def inputs() -> np.ndarray:
    """Four correlated inputs, of different sizes."""
    own = np.random.default_rng(3).normal(size=(4, 6))
    return np.concatenate([own[:1], 0.6 * own[:1] + 0.8 * own[1:]])


@cache
def flow_and_every_entry(name: str) -> tuple[xr.Dataset, dict[str, np.ndarray], dict[str, np.ndarray]]:
    """A flow; and the last layer's tensors and errors as the recursion had them, before they were stored."""
    last = []

    def watched(*arguments: Any) -> Iterator[tuple[dict[str, np.ndarray], dict[str, np.ndarray]]]:
        for each in dense_flow(*arguments):
            last[:] = each
            yield each

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(first_order, "dense_flow", watched)
        return fw.flow(NETS[name], inputs(), order=1), *last


def flow_of(name: str) -> xr.Dataset:
    return flow_and_every_entry(name)[0]


def group_of(generators: tuple[str, ...], axes: str) -> set[str]:
    group = {axes}
    while more := {"".join(p[axes.index(q)] for q in g) for p in group for g in (*group, *generators)} - group:
        group |= more
    return group


@pytest.mark.parametrize("name", TENSORS)
def test_symmetries_are_those_of_what_a_tensor_multiplies(name: str) -> None:
    """Found from the table of slots; known from the correlators that the tensors are coefficients of."""
    axes = "abcd" if name in FLUCTUATIONS else "ab"
    assert set(symmetries(name)) == group_of(SYMMETRIES[name], axes)
    assert symmetries(name)[0] == axes


@pytest.mark.parametrize("name", TENSORS)
def test_the_recursion_has_these_symmetries_and_no_other(name: str) -> None:
    tensor = flow_and_every_entry("sin")[1][name]
    size = np.abs(tensor).max()
    axes = "abcd"[: tensor.ndim]
    away = {
        "".join(axes[i] for i in order): np.abs(tensor - tensor.transpose(order)).max() / size
        for order in permutations(range(tensor.ndim))
    }
    assert {order for order, distance in away.items() if distance < 1e-13} == set(symmetries(name))
    assert {order for order, distance in away.items() if distance < 1e-3} == set(symmetries(name))


@pytest.mark.parametrize("net", NETS)
def test_what_is_read_is_what_was_computed(net: str) -> None:
    """Values far within their errors, the first of equal entries exactly; errors as the largest of equal entries."""
    flow, values, errors = flow_and_every_entry(net)
    for name in TENSORS:
        value, error = flow[name].values[-1], flow[f"{name}_error"].values[-1]
        orders = [["abcd".index(axis) for axis in order] for order in symmetries(name)]
        np.testing.assert_array_equal(error, np.max([errors[name].transpose(order) for order in orders], axis=0))
        assert np.all(np.abs(value - values[name]) <= 0.1 * error), name
        first = np.triu(np.ones((4, 4), dtype=bool))  # ≤: of two axes that may be exchanged
        first = {"D": first[:, :, None, None] & first, "P": first[:, :, None], "G1": first}.get(name, False)
        np.testing.assert_array_equal(value, np.where(first, values[name], value))
        for order in orders:
            np.testing.assert_array_equal(value, value.transpose(order))


@pytest.mark.parametrize("N", [1, 2, 3, 4, 7, 16])
def test_one_number_for_each_orbit(N: int) -> None:
    """As many as Burnside's lemma says: the mean, over the group, of N to the number of cycles."""
    for name in TENSORS:
        cycles = [_cycles(order) for order in symmetries(name)]
        expected = sum(N**count for count in cycles) // len(cycles)
        component, representatives = orbits(symmetries(name), N)
        assert len(representatives) == expected == component.max() + 1
        assert np.array_equal(component.reshape(-1)[representatives], np.arange(expected))
    pairs = N * (N + 1) // 2
    assert len(orbits(symmetries("V"), N).representatives) == pairs * (pairs + 1) // 2


def _cycles(order: str) -> int:
    following = dict(zip(sorted(order), order, strict=True))
    orbit_of = {axis: frozenset(_walk(axis, following)) for axis in following}
    return len(set(orbit_of.values()))


def _walk(axis: str, following: dict[str, str]) -> list[str]:
    seen = [axis]
    while (axis := following[axis]) not in seen:
        seen.append(axis)
    return seen


def test_a_flow_stores_independent_components_only() -> None:
    flow = flow_of("sin")
    assert flow.V.nbytes == flow.V_error.nbytes == 3 * 55 * 8  # of 3 · 256 · 8
    assert flow.Q.nbytes == 3 * 256 * 8
    flow.V.values, flow.V.load()  # reading keeps nothing
    assert flow.V.nbytes == 3 * 55 * 8
    assert flow.V.sel(layer=2).nbytes == 55 * 8
    assert len(pickle.dumps(flow.V)) < flow.V.size * 8


@pytest.fixture
def tensor() -> SymmetricTensor:
    """P of five layers and four inputs, of random numbers."""
    count = len(orbits(symmetries("P"), 4).representatives)
    return SymmetricTensor(np.random.default_rng(0).normal(size=(5, count)), symmetries("P"), 4)


@pytest.mark.parametrize(
    "key",
    [
        (2,),
        (slice(1, 4, 2),),
        ([0, 3],),
        (np.array([True, False, True, False, True]),),
        (np.array([[0, 1], [4, 4]]),),
        (..., 1),
        (None, 1),
        (-1, 0, 1, 2, 3),
        (slice(None), slice(None, None, -1), 2),
        (slice(None), [0, 1], slice(None), [2, 3]),
        ([0, 1], [1, 2]),
        (Ellipsis, Ellipsis)[:1],
        (np.arange(5 * 4**4).reshape(5, 4, 4, 4, 4) % 3 == 0,),
    ],
)
def test_indexed_as_numpy_does(tensor: SymmetricTensor, key: tuple[object, ...]) -> None:
    plain = np.asarray(tensor)
    assert np.shape(tensor[key]) == plain[key].shape
    np.testing.assert_array_equal(np.asarray(tensor[key]), plain[key])
    np.testing.assert_array_equal(np.asarray(tensor[1][key[1:]]), plain[1][key[1:]])


def test_choosing_layers_keeps_the_storage(tensor: SymmetricTensor) -> None:
    for key in (2, slice(1, 3), [0, 1], np.array([True, False, True, False, True])):
        assert isinstance(tensor[key], SymmetricTensor)
    assert not isinstance(tensor[0, 0], SymmetricTensor)


def test_behaves_as_the_variable_of_a_plain_array(tensor: SymmetricTensor, tmp_path: Path) -> None:
    dimensions, layers = ("layer", "a", "b", "c", "d"), {"layer": np.arange(1, 6)}
    stored = xr.Dataset({"P": (dimensions, tensor), "K": (dimensions[:3], np.ones((5, 4, 4)))}, layers)
    plain = stored.assign(P=stored.P.copy(data=stored.P.values))
    assert isinstance(plain.P.data, np.ndarray)
    for compute in (
        lambda d: d.sel(layer=5),
        lambda d: d.isel(layer=[0, 2], a=0, d=[1, 2]),
        lambda d: 2 * d.P - d.K / (1 + d.P**2),
        lambda d: d.P.mean("layer") + d.P.where(d.P > 0, 0).max(("a", "b")),
        lambda d: xr.concat([d, -d], "run"),
        lambda d: d.P.transpose("d", "c", "b", "a", "layer").astype("float32"),
        lambda d: xr.dot(d.P, d.K, dim=["a", "b"]),
        lambda d: d.stack(pair=("a", "b")).unstack(),
        lambda d: d.copy(deep=True),
        copy.deepcopy,
        lambda d: pickle.loads(pickle.dumps(d)),
    ):
        xr.testing.assert_allclose(compute(stored), compute(plain), rtol=1e-14)
    stored.to_netcdf(tmp_path / "P.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "P.nc", engine="h5netcdf") as opened:
        xr.testing.assert_equal(opened, plain)
    assert f"{float(stored.P[-1, 0, 0, 0, 0]):.4f}"[:5] in repr(stored.P.sel(layer=5))
    assert "2-fold" in repr(stored)


def test_entries_cannot_be_assigned(tensor: SymmetricTensor) -> None:
    variable = xr.DataArray(tensor)
    with pytest.raises(fw.InputError, match=r"cannot be assigned.*flow\.V\.copy\(data=flow\.V\.values\)"):
        variable[0] = 1.0
    with pytest.raises(fw.InputError, match="cannot be assigned"):
        variable += 1.0
    with pytest.raises(ValueError, match="read-only"):  # not lost in silence
        variable.data.sort()
    plain = variable.copy(data=variable.values)
    plain[0] = 1.0
    assert float(plain[0, 0, 0, 0, 0]) == 1.0


def test_independent_components_are_labelled_by_their_inputs() -> None:
    flow = flow_of("relu")
    for name in ("V", "F_error", "Q", "H1"):
        found = fw.independent_components(flow[name])
        axes = [axis for axis in "abcd" if axis in flow[name].dims]
        places = tuple(found[axis].values for axis in axes)
        assert int(found.multiplicity.sum()) == 4 ** len(axes)
        for layer in (2, 3):
            np.testing.assert_array_equal(found.sel(layer=layer), flow[name].values[layer - 1][places])
        total = (found * found.multiplicity).sum("component")
        np.testing.assert_allclose(total, flow[name].sum(axes), rtol=1e-12, atol=1e-15)
    assert fw.independent_components(flow.V.sel(layer=2)).dims == ("component",)


def test_components_of_a_plain_array_are_refused() -> None:
    flow = flow_of("sin")
    for wrong in (flow.V * 2, flow.V.isel(a=0), flow.K, np.ones((4, 4, 4, 4))):
        with pytest.raises(fw.InputError, match=r"`tensor` must be a variable of fw\.flow.*but got ndarray"):
            fw.independent_components(wrong)
