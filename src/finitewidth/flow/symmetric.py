r"""Symmetric storage: one number for all entries of a tensor that are equal by its symmetries.

V_{abcd} = V_{bacd} = V_{abdc} = V_{cdab}: of four different inputs, eight entries are one number, an *independent
component*. The permutations of axes that leave a tensor as it is follow from what it is a component of
(`finitewidth.flow.vertex.symmetries`). They sort its entries into orbits, each represented by its first entry in the
order of a, b, c, d. What is read is written out; what is stored is not.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, reduce
from math import prod
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from numpy.lib.mixins import NDArrayOperatorsMixin

from finitewidth.errors import InputError

Symmetries = tuple[str, ...]
"""All permutations of a tensor's axes that leave it as it is, as `("ab", "ba")`."""

_READ_ONLY = (
    "entries of a symmetric tensor cannot be assigned, because one number stands for many of them; "
    "make a plain array first: flow.V.copy(data=flow.V.values)"
)


@dataclass(frozen=True, eq=False)
class SymmetricTensor(NDArrayOperatorsMixin):
    """An array of shape (…, N, …, N) of which only the independent components are stored.

    It stands in for a NumPy array (NumPy's protocols for such, which xarray reads): indexing writes out what is asked
    for, choosing layers alone keeps the storage, `np.asarray` and every computation give plain arrays, and nothing that
    was written out is kept. `nbytes` is what is stored. Entries cannot be assigned.

    components: shape (…, components), in the order of `representatives`. symmetries: of the last axes. N: their length.
    """

    components: np.ndarray
    symmetries: Symmetries
    N: int

    @property
    def shape(self) -> tuple[int, ...]:
        return (*self.components.shape[:-1], *(self.N,) * len(self.symmetries[0]))

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return prod(self.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.components.dtype

    @property
    def nbytes(self) -> int:
        return self.components.nbytes

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> Any:
        key = key if isinstance(key, tuple) else (key,)
        leading, count = self.components.shape[:-1], self.components.shape[-1]
        if _chooses_rows(key, len(leading)):
            return replace(self, components=self.components[key[: len(leading)]])
        rows = np.arange(prod(leading)).reshape(*leading, *(1,) * len(self.symmetries[0]))
        row = np.broadcast_to(rows, self.shape)[key]
        component = np.broadcast_to(orbits(self.symmetries, self.N).component, self.shape)[key]
        return self.components.reshape(-1, count)[row, component]

    def __setitem__(self, key: Any, value: Any) -> None:
        raise InputError(_READ_ONLY)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("a symmetric tensor cannot be written out without a copy")
        written = self.components.take(orbits(self.symmetries, self.N).component, axis=-1)
        return written if dtype is None else written.astype(dtype, copy=False)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if any(isinstance(out, SymmetricTensor) for out in kwargs.get("out", ())):
            raise InputError(_READ_ONLY)
        return getattr(ufunc, method)(*_written_out(inputs), **_written_out(kwargs))

    def __array_function__(self, function: Callable[..., Any], types: Any, args: Any, kwargs: Any) -> Any:
        return function(*_written_out(args), **_written_out(kwargs))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or not hasattr(np.ndarray, name):  # arrays only: copying and pickling ask for more
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        written = np.asarray(self)
        written.flags.writeable = False  # what changes an array in place would be lost: it says so
        return getattr(written, name)

    def __repr__(self) -> str:
        with np.printoptions(precision=6, threshold=200, edgeitems=max(1, 5 - self.ndim)):  # as xarray shows arrays
            return np.array_repr(np.asarray(self))

    def _repr_inline_(self, max_width: int) -> str:
        ends = [f"{value:.4g}" for value in self.components.reshape(-1)[[0, -1]]] if self.size else []
        return f"{' ... '.join(ends)} ({len(self.symmetries)}-fold)"[:max_width]


class Orbits(NamedTuple):
    """component: which one each entry is, shape (N, …, N). representatives: the first entry of each, flat."""

    component: np.ndarray
    representatives: np.ndarray


@cache
def orbits(symmetries: Symmetries, N: int) -> Orbits:
    """The sets of entries that symmetries make equal, in the order of their first entries."""
    shape = (N,) * len(symmetries[0])
    entries = np.arange(N ** len(shape)).reshape(shape)
    first = reduce(np.minimum, _permuted(entries, symmetries))
    representatives = np.flatnonzero(first == entries)
    return Orbits(np.searchsorted(representatives, first).astype(np.int32), representatives)


def independent(tensor: np.ndarray, symmetries: Symmetries) -> np.ndarray:
    """The independent components of a tensor: entries that stand for their orbits, whose others differ by rounding."""
    return tensor.reshape(-1)[orbits(symmetries, len(tensor)).representatives]


def largest(errors: np.ndarray, symmetries: Symmetries) -> np.ndarray:
    """The errors of independent components: the largest of each orbit, since one number must be right for all of it."""
    return independent(reduce(np.maximum, _permuted(errors, symmetries)), symmetries)


def independent_components(tensor: xr.DataArray) -> xr.DataArray:
    """The different numbers of a tensor of `fw.flow(net, x, order=1)`, each once.

    V_{abcd} = V_{bacd} = V_{abdc} = V_{cdab}: of N⁴ entries some N⁴/8 are independent, and they are what is stored.
    Symmetries follow from the definition of each tensor: eight orders of its subscripts give one number for V and A,
    four for D and B, two for F, P, R, S, T, U, G1 and H1; Q has none.

    Source: THEORY §3.

    Arguments
        tensor: a variable of the result, `flow.V` or `flow.V_error`, at any of its layers and for all its inputs.

    Returns
        The components with dimensions layer, component. Coordinates a, b, c, d are the inputs of the entry that stands
        for the others, the first of them in that order; `multiplicity` is how many entries it stands for.

    Raises
        InputError: for arrays that were computed from such variables, or cut out of them by inputs.

    >>> import finitewidth as fw, numpy as np
    >>> flow = fw.flow(fw.MLP("relu", depth=3, width=100, C_W=2.0), np.eye(4), order=1, tensors="V")
    >>> V = fw.independent_components(flow.V)
    >>> V.sizes["component"], int(V.multiplicity.sum())
    (55, 256)
    >>> bool(np.isclose((V * V.multiplicity).sel(layer=3).sum(), flow.V.sel(layer=3).sum()))
    True
    """
    stored = tensor.data if isinstance(tensor, xr.DataArray) else tensor
    if not isinstance(stored, SymmetricTensor) or not isinstance(tensor, xr.DataArray):
        raise InputError(
            "`tensor` must be a variable of fw.flow(net, x, order=1) such as flow.V, at any layers and for all inputs, "
            f"but got {type(stored).__name__}; take it before computing or choosing inputs"
        )
    component, representatives = orbits(stored.symmetries, stored.N)
    rows = stored.components.ndim - 1
    leading, axes = tensor.dims[:rows], tensor.dims[rows:]
    places = np.unravel_index(representatives, component.shape)
    coordinates: dict[Any, Any] = {name: tensor[name] for name in leading if name in tensor.coords}
    coordinates |= {axis: ("component", place) for axis, place in zip(axes, places, strict=True)}
    coordinates["multiplicity"] = ("component", np.bincount(component.reshape(-1)))
    return xr.DataArray(stored.components, coordinates, (*leading, "component"), tensor.name, tensor.attrs)


def _permuted(tensor: np.ndarray, symmetries: Symmetries) -> list[np.ndarray]:
    return [tensor.transpose(["abcd".index(axis) for axis in permuted]) for permuted in symmetries]


def _chooses_rows(key: tuple[Any, ...], rows: int) -> bool:
    """Whether an index takes whole tensors: something of each of the first axes, everything of the others."""
    head, rest = key[:rows], key[rows:]
    plain = len(head) == rows and all(part is not None and part is not Ellipsis and np.ndim(part) <= 1 for part in head)
    return plain and all(part is Ellipsis or (isinstance(part, slice) and part == slice(None)) for part in rest)


def _written_out(value: Any) -> Any:
    """The same arguments with plain arrays in place of symmetric tensors."""
    if isinstance(value, SymmetricTensor):
        return np.asarray(value)
    if isinstance(value, dict):
        return {key: _written_out(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_written_out(each) for each in value)
    return value
