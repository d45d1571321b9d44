"""Data: the inputs x that a network is asked about, read from a file or given as an array, and checked once.

Everything past this door may rely on float64 of shape (N, n_in), N and n_in ≥ 1, finite, and no input of size zero.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from finitewidth.errors import InputError

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class DataSet:
    """Inputs with their origin.

    inputs: float64 of shape (N, n_in), as the file has them (no rescaling, except as `load_data` says for digits).
    names: one for each of the n_in columns.
    source: where they came from, in words for a reader.
    targets: shape (N,), or None where the source does not say which numbers are targets.
    """

    inputs: NDArray[np.float64]
    names: tuple[str, ...]
    source: str
    targets: NDArray[Any] | None = None


def load_data(source: str | PathLike[str]) -> DataSet:
    """The data set called `source`: `"digits"`, or a file `.csv`, `.npy`, `.npz` or `.parquet` with one input a row.

    `"digits"` are the 1797 handwritten digits of 8 × 8 pixels that ship with scikit-learn, each pixel divided by 16 so
    that it lies in [0, 1]; targets are the labels 0 … 9. From a file every column is taken as a component of the input,
    as it is. Of an `.npz` with several arrays, `FILE.npz:NAME` takes one.

    Raises
        InputError: one line with the source, what is wrong with it, and the remedy.

    >>> from finitewidth import load_data
    >>> digits = load_data("digits")
    >>> digits.inputs.shape, float(digits.inputs.max())
    ((1797, 64), 1.0)
    """
    if not isinstance(source, (str, PathLike)):
        kind = type(source).__name__
        raise InputError(
            f"`source` must be 'digits' or a path, but got {kind}; an array is passed as it is, not loaded"
        )
    if fspath(source) == "digits":
        return _digits()
    table = load_table(source)
    _check_norms(table.inputs, _mean_squares(table.inputs), f"data file {fspath(source)!r}")
    return table


def load_table(source: str | PathLike[str], *, may_be_blank: str | None = None) -> DataSet:
    """As `load_data` for a file, but rows may be zero: some columns are no components of the input, or are rescaled.

    Arguments
        may_be_blank: a column, of those there are, whose cells need not be filled: NaN stands for a blank.
    """
    request = fspath(source)
    path, member = _split_member(request)
    try:
        values, names = _read(path, member)
    except _FileFault as fault:
        raise InputError(f"data file {str(path)!r} {fault}") from fault
    except OSError as error:
        raise InputError(f"data file {str(path)!r} cannot be read: {error.strerror or error}") from error
    blank = np.zeros(np.shape(values), dtype=bool)
    if names is not None and may_be_blank in names:
        column = names.index(may_be_blank)
        blank[:, column] = np.isnan(values[:, column])
        values = np.where(blank, 0.0, values)
    inputs = _checked(values, f"data file {request!r}", names, norms=False)
    inputs = np.where(blank, np.nan, inputs) if blank.any() else inputs
    return DataSet(inputs, names or tuple(f"x{i}" for i in range(inputs.shape[1])), path.name)


def check_inputs(x: Any, name: str = "x", *, may_vanish: bool = False) -> NDArray[np.float64]:
    """`x` as a float64 array of shape (N, n_in), ready for the theory; a `DataSet` stands for its inputs.

    Arguments
        may_vanish: whether inputs may be zero, as they may where the first layer has C_b > 0, so that K⁽¹⁾ > 0.

    Raises
        InputError: with `name`, what is wrong with x, where (rows count from 0), and the remedy.

    >>> from finitewidth.data import check_inputs
    >>> check_inputs([[1, 2], [3, 4]])
    array([[1., 2.],
           [3., 4.]])
    """
    if isinstance(x, DataSet):
        x = x.inputs
    if isinstance(x, (str, PathLike)):
        raise InputError(f"`{name}` must be an array, but got {str(x)!r}; for a file, give load_data({str(x)!r})")
    return _checked(x, f"`{name}`", may_vanish=may_vanish)


def _checked(
    x: Any, label: str, columns: Sequence[str] | None = None, *, norms: bool = True, may_vanish: bool = False
) -> NDArray[np.float64]:
    array = _as_float64(x, label)
    if array.ndim != 2:
        raise InputError(
            f"{label} must have shape (N, n_in), one input a row, but got {array.shape}; "
            + ("flatten each input: x.reshape(len(x), -1)" if array.ndim > 2 else "make one input a row: [x]")
        )
    if 0 in array.shape:
        raise InputError(f"{label} is empty: its shape is {array.shape}; it needs at least one row and one column")
    K = _mean_squares(array)
    if not np.isfinite(K).all():  # where squares are finite, entries are: one pass over large arrays
        _check_finite(array, label, columns)
    if norms:
        _check_norms(array, K, label, may_vanish)
    return array


def _as_float64(x: Any, label: str) -> NDArray[np.float64]:
    if np.ma.is_masked(x):
        raise InputError(f"{label} has masked entries; fill them in or drop their rows")
    try:
        array = np.asarray(x)
    except (ValueError, TypeError, RuntimeError) as error:
        raise InputError(f"{label} is not one rectangular array of numbers ({_first_line(error)})") from error
    if array.dtype.kind == "c":
        raise InputError(f"{label} must be real, but has dtype {array.dtype}; give real and imaginary parts as columns")
    # "safe" refuses text, dates, objects and records, and lets through the small floats of JAX and PyTorch.
    if array.dtype.kind != "f" and not np.can_cast(array.dtype, np.float64, casting="safe"):
        raise InputError(f"{label} must hold real numbers, but has dtype {array.dtype}; convert it to float")
    return array.astype(np.float64, copy=False)


def _mean_squares(array: NDArray[np.float64]) -> NDArray[np.float64]:
    """|x|²/n_0 of every row."""
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        return np.asarray(np.einsum("ai,ai->a", array, array) / array.shape[1])


def _check_finite(array: NDArray[np.float64], label: str, columns: Sequence[str] | None) -> None:
    finite = np.isfinite(array)
    if not finite.all():
        bad = np.argwhere(~finite)
        row, column = (int(i) for i in bad[0])
        where = f"row {row}, column {column if columns is None else repr(columns[column])}"
        more = f" and in {len(bad) - 1} more place{'s' * (len(bad) > 2)}" if len(bad) > 1 else ""
        raise InputError(
            f"{label} must be finite, but has {array[row, column]} at {where}{more} (rows count from 0); "
            "fill in or drop such rows"
        )


def _check_norms(array: NDArray[np.float64], K: NDArray[np.float64], label: str, may_vanish: bool = False) -> None:
    """K⁽¹⁾ is made of K = |x|²/n_0: it must neither vanish, where C_b does, nor leave float64."""
    small = np.flatnonzero(K == 0)
    zero = small[~array[small].any(axis=1)]
    if len(zero) and not may_vanish:
        raise InputError(
            f"{label} is all zero in {_rows(zero)}: such an input makes no angle with others; drop it, or give the "
            "network biases (C_b > 0)"
        )
    least = 0.0 if may_vanish else np.finfo(np.float64).tiny
    outside = np.flatnonzero(~((least <= K) & (np.inf > K)))
    if len(outside):
        size = np.abs(array[outside[0]]).max()
        raise InputError(
            f"{label} has entries of size {size:.3g}, whose squares leave float64, in {_rows(outside)}; "
            "rescale the data to order one"
        )


def _rows(rows: NDArray[np.intp]) -> str:
    shown = ", ".join(map(str, rows[:8])) + (", …" if len(rows) > 8 else "")
    return f"row {shown} (rows count from 0)" if len(rows) == 1 else f"{len(rows)} rows: {shown} (rows count from 0)"


def _digits() -> DataSet:
    from sklearn.datasets import load_digits

    digits = load_digits()
    inputs = np.asarray(digits.data, dtype=np.float64) / 16.0
    source = "handwritten digits of scikit-learn, pixels in [0, 1]"
    return DataSet(inputs, tuple(digits.feature_names), source, np.asarray(digits.target))


class _FileFault(Exception):
    """What is wrong with a file, and the remedy: the rest of the sentence that begins "data file 'NAME'"."""


# The values of a file, still unchecked, and the names of their columns if it has any.
_Table = tuple[Any, tuple[str, ...] | None]


def _split_member(request: str) -> tuple[Path, str | None]:
    """`FILE.npz:NAME` as its two parts. Any other colon belongs to the path, as in C:\\data."""
    found = re.fullmatch(r"(.+\.npz):(.+)", request, flags=re.IGNORECASE)
    file, member = (found[1], found[2]) if found else (request, None)
    return Path(file).expanduser(), member


def _read(path: Path, member: str | None) -> _Table:
    readers: dict[str, Callable[[], _Table]] = {
        ".csv": lambda: _read_csv(path),
        ".npy": lambda: (_load_numpy(path, b"\x93NUMPY", ".npy"), None),
        ".npz": lambda: _read_npz(path, member),
        ".parquet": lambda: _read_parquet(path),
    }
    choice = f"give 'digits' or a file ending in {', '.join(readers)}"
    if path.is_dir():
        raise _FileFault(f"is a directory; {choice}")
    if path.suffix.lower() not in readers:
        raise _FileFault(f"has the ending {path.suffix!r}, which is not read here; {choice}")
    if not path.exists():
        raise _FileFault(f"does not exist; {choice}")
    if path.stat().st_size == 0:
        raise _FileFault("is empty (0 bytes); it needs at least one row of numbers")
    return readers[path.suffix.lower()]()


def _read_csv(path: Path) -> _Table:
    import pandas as pd

    try:
        with path.open(encoding="utf-8-sig") as file:
            first_line = next((line.strip() for line in file if line.strip()), "")
        header = 0 if _is_header([cell.strip() for cell in first_line.split(",")]) else None
        frame = pd.read_csv(path, header=header, skipinitialspace=True, encoding="utf-8-sig", low_memory=False)
    except UnicodeDecodeError as error:
        raise _not_a("text in UTF-8", error) from error
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise _not_a("a table of values separated by commas", error) from error
    if frame.shape[1] == 1 and (found := re.search(r"[;\t]", first_line)):
        raise _FileFault(f"separates its columns by {'semicolons' if found[0] == ';' else 'tabs'}; use commas")
    if not isinstance(frame.index, pd.RangeIndex):
        raise _FileFault("has more values in a row than names in its first line; name every column")
    if header is None:
        frame.columns = pd.Index([f"x{i}" for i in range(frame.shape[1])])
    return _from_frame(frame)


def _is_header(cells: list[str]) -> bool:
    """Names, or the labels 0, 1, 2, … that pandas writes for columns without names."""
    filled = [cell for cell in cells if cell]
    return not all(map(_is_number, filled)) or filled == [str(i) for i in range(len(filled))]


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _read_parquet(path: Path) -> _Table:
    import pandas as pd
    import pyarrow as pa

    try:
        return _from_frame(pd.read_parquet(path))
    except pa.ArrowException as error:
        raise _not_a("a Parquet file", error) from error


def _from_frame(frame: "pd.DataFrame") -> _Table:
    names = tuple(str(name) for name in frame.columns)
    if unnamed := [i for i, name in enumerate(names) if re.fullmatch(r"Unnamed: \d+", name)]:
        raise _FileFault(
            f"has no name for column {unnamed[0]} (columns count from 0), often a row number written by mistake; "
            "name it or leave it out (pandas: index=False)"
        )
    values = np.empty(frame.shape)
    text: dict[str, str] = {}  # column -> the first of its cells that is no number
    for i, name in enumerate(names):
        column = frame.iloc[:, i]
        numbers = _numbers(column)
        strange = column[numbers.isna() & column.notna()]
        if len(strange):
            text[name] = str(strange.iloc[0])
        values[:, i] = numbers.to_numpy(dtype=np.float64, na_value=np.nan)
    if text:
        listed = ", ".join(f"{name!r} (such as {cell[:40]!r})" for name, cell in list(text.items())[:8])
        more = f" and {len(text) - 8} more" if len(text) > 8 else ""
        plural = "columns" if len(text) > 1 else "column"
        raise _FileFault(f"has text in {plural} {listed}{more}; leave it out or turn it into numbers")
    return values, names


def _numbers(column: "pd.Series[Any]") -> "pd.Series[Any]":
    """The column as numbers, NaN where a cell is something else (dates too, though pandas would make them numbers)."""
    import pandas as pd

    try:
        if column.dtype.kind not in "mM":
            return pd.to_numeric(column, errors="coerce")
    except TypeError:  # cells that are lists, say
        pass
    return pd.Series(np.nan, index=column.index)


def _read_npz(path: Path, member: str | None) -> _Table:
    with _load_numpy(path, b"PK", ".npz") as archive:
        names = archive.files
        if not names:
            raise _FileFault("holds no array; save one in it, as in numpy.savez(FILE, x=x)")
        if member is None and len(names) > 1:
            raise _FileFault(f"holds several arrays, {', '.join(names)}; choose one as {f'{path}:{names[0]}'!r}")
        if member is not None and member not in names:
            raise _FileFault(f"holds no array {member!r}; choose from {', '.join(names)}")
        return _numpy(".npz", lambda: archive[member or names[0]]), None


def _load_numpy(path: Path, magic: bytes, ending: str) -> Any:
    # By its first bytes: numpy takes any other file for a pickle, and says so in words that mislead.
    with path.open("rb") as file:
        if file.read(len(magic)) != magic:
            raise _not_a(f"a NumPy {ending} file")
    return _numpy(ending, lambda: np.load(path, allow_pickle=False))


def _numpy(ending: str, load: Callable[[], Any]) -> Any:
    try:
        return load()
    except (ValueError, EOFError, BadZipFile) as error:
        if "allow_pickle" in str(error):
            raise _FileFault(
                "holds Python objects (dtype object), and loading those can run code; save numbers"
            ) from error
        raise _not_a(f"a NumPy {ending} file", error) from error


def _not_a(kind: str, error: Exception | None = None) -> _FileFault:
    reason = f" ({_first_line(error)})" if error is not None else ""
    return _FileFault(f"is not {kind}{reason}; is it complete, and what its ending says?")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
