"""The ledger of a run: one row for every chunk that is done, in an SQLite file that no kill tears.

A row is written in one transaction (write-ahead log, synchronised), so that after a kill at any moment, during a write
included, the file opens and holds every chunk whose write had returned. A row is never changed: two processes that work
on one ledger write the same bits, and the second write is ignored. Every row carries a digest of its contents.

What the run is stands in the ledger as a description, written with the first row's file: another run's ledger, one of
another version, and a damaged one are refused and left as they are.
"""

import hashlib
import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from finitewidth.errors import InputError
from finitewidth.experiments.chunks import Chunk
from finitewidth.experiments.statistics import Batch

APPLICATION = 0x66_77_65_6E  # "fwen", in the header of the file
FORMAT = 1
_TABLES = """
CREATE TABLE about (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE chunks (
    first INTEGER, last INTEGER, contents BLOB NOT NULL, digest BLOB NOT NULL, PRIMARY KEY (first, last)
) WITHOUT ROWID;
"""


class Ledger:
    """An open ledger; a context that closes it.

    Arguments
        path: of the file; None keeps the rows in a file of SQLite's own that is gone when the ledger is closed, so that
            memory is bounded however many there are.
        description: what the run is; None opens a ledger that exists, whatever run it holds.
        extra: more about the run, kept beside the description but not compared.

    Raises
        InputError: when the file cannot be made or written, is not a ledger, is damaged, or holds another run.
    """

    def __init__(
        self, path: Path | None, description: Mapping[str, Any] | None, *, extra: Mapping[str, Any] | None = None
    ) -> None:
        self.path = path
        with self._said_clearly():
            if path is not None and description is None and not path.exists():
                raise InputError(f"`path` {str(path)!r} does not exist; give the path of a run")
            self._connection = sqlite3.connect("" if path is None else path, timeout=30, isolation_level=None)
            try:
                self._open(description, extra or {})
            except BaseException:
                self._connection.close()
                raise

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    @property
    def about(self) -> dict[str, Any]:
        """`description` and `extra`, as they were given when the ledger was made; `n_networks`, last asked for."""
        with self._said_clearly():
            return {name: json.loads(value) for name, value in self._connection.execute("SELECT * FROM about")}

    def ask(self, n_networks: int) -> None:
        """Note how many networks were last asked for."""
        with self._said_clearly():
            self._connection.execute("INSERT OR REPLACE INTO about VALUES ('n_networks', ?)", (str(n_networks),))

    def done(self) -> set[tuple[int, int]]:
        """(first, last) of every chunk that is there."""
        with self._said_clearly():
            return set(self._connection.execute("SELECT first, last FROM chunks"))

    def write(self, chunk: Chunk, cells: list[Batch]) -> None:
        """Add a chunk. When this returns, no kill takes it away."""
        contents = _packed(cells)
        row = (chunk.first, chunk.last, contents, _digest(chunk.first, chunk.last, contents))
        with self._said_clearly():
            self._connection.execute("INSERT OR IGNORE INTO chunks VALUES (?, ?, ?, ?)", row)

    def read(self, chunk: Chunk) -> list[Batch]:
        """The cells of a chunk that is there."""
        query = "SELECT contents, digest FROM chunks WHERE first = ? AND last = ?"
        with self._said_clearly():
            contents, digest = self._connection.execute(query, (chunk.first, chunk.last)).fetchone()
            self._verify(chunk.first, chunk.last, contents, digest)
            return _unpacked(contents)

    def verify(self) -> None:
        """Every row against its digest: before anything is added, and before hours go into what cannot be used."""
        with self._said_clearly():
            for row in self._connection.execute("SELECT first, last, contents, digest FROM chunks"):
                self._verify(*row)

    def _verify(self, first: int, last: int, contents: bytes, digest: bytes) -> None:
        if digest != _digest(first, last, contents):
            raise self._damaged(f"its networks {first} to {last - 1} do not match their digest")

    def _open(self, description: Mapping[str, Any] | None, extra: Mapping[str, Any]) -> None:
        execute = self._connection.execute
        application = execute("PRAGMA application_id").fetchone()[0]
        tables = {name for (name,) in execute("SELECT name FROM sqlite_master")}
        if not tables and application == 0 and description is not None:
            self._create(description, extra)
        elif application != APPLICATION:
            raise InputError(
                f"`path` {str(self.path)!r} is a file of something else, not a run of ensembles; give another path"
            )
        if (found := execute("PRAGMA user_version").fetchone()[0]) != FORMAT:
            raise InputError(
                f"`path` {str(self.path)!r} is a run in format {found}, but this version of finitewidth reads format "
                f"{FORMAT}; give another path, or use the version that made it"
            )
        if (state := execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
            raise self._damaged(state)
        if description is not None:
            self._compare(self.about["description"], _plain(description))

    def _create(self, description: Mapping[str, Any], extra: Mapping[str, Any]) -> None:
        execute = self._connection.execute
        execute("PRAGMA journal_mode = WAL")
        execute("BEGIN IMMEDIATE")  # all of it, or nothing: a kill in here leaves an empty file
        if not execute("SELECT 1 FROM sqlite_master").fetchone():  # unless another process was faster
            for statement in _TABLES.split(";")[:-1]:
                execute(statement)
            about = {"description": _plain(description), "extra": _plain(extra)}
            self._connection.executemany(
                "INSERT INTO about VALUES (?, ?)", [(name, json.dumps(value)) for name, value in about.items()]
            )
            execute(f"PRAGMA application_id = {APPLICATION}")
            execute(f"PRAGMA user_version = {FORMAT}")
        execute("COMMIT")

    def _compare(self, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
        # versions first, and last the size of chunks, which follows from the others
        rank = {"finitewidth": 0, "jax": 1, "chunk": 3}
        for name in sorted(found.keys() | wanted.keys(), key=lambda name: (rank.get(name, 2), name)):
            if found.get(name) != wanted.get(name):
                here, there = _difference(found.get(name), wanted.get(name))
                raise InputError(
                    f"`path` {str(self.path)!r} holds another run: its {name} is {here}, but now it is {there}; "
                    "give another path"
                )

    def _damaged(self, how: str) -> InputError:
        return InputError(
            f"`path` {str(self.path)!r} is damaged ({' '.join(str(how).split())}); nothing was changed in it: give "
            "another path, or a copy of it from before"
        )

    @contextmanager
    def _said_clearly(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            raise InputError(
                f"`path` {str(self.path)!r} cannot be used as a store of a run: {error}; give a file in a directory "
                "that exists, is on this machine and may be written"
            ) from error
        except (sqlite3.DatabaseError, ValueError, KeyError, TypeError) as error:
            if isinstance(error, InputError):
                raise
            raise self._damaged(str(error)) from error


def _packed(cells: list[Batch]) -> bytes:
    """A header of JSON and its length, then the numbers."""
    names = sorted(cells[0].sums)
    header = {
        "counts": [cell.count for cell in cells],
        "excluded": [cell.excluded for cell in cells],
        "shapes": {name: list(np.shape(cells[0].sums[name])) for name in names},
    }
    text = json.dumps(header).encode()
    numbers = [np.stack([cell.sums[name] for cell in cells]).astype("<f8").tobytes() for name in names]
    return b"".join([len(text).to_bytes(8, "little"), text, *numbers])


def _unpacked(contents: bytes) -> list[Batch]:
    length = int.from_bytes(contents[:8], "little")
    header, at, sums = json.loads(contents[8 : 8 + length]), 8 + length, {}
    cells = len(header["counts"])
    for name, shape in header["shapes"].items():
        size = cells * int(np.prod(shape, dtype=int))
        sums[name] = np.frombuffer(contents, "<f8", size, at).astype(np.float64).reshape(cells, *shape)
        at += 8 * size
    return [
        Batch(count, {name: each[c] for name, each in sums.items()}, excluded)
        for c, (count, excluded) in enumerate(zip(header["counts"], header["excluded"], strict=True))
    ]


def _digest(first: int, last: int, contents: bytes) -> bytes:
    return hashlib.sha256(f"{first} {last} ".encode() + contents).digest()


def _plain(description: Mapping[str, Any]) -> Any:
    return json.loads(json.dumps(description, sort_keys=True))


def _difference(found: Any, wanted: Any) -> tuple[str, str]:
    """The two, or within them the first entry that differs, in few words."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        for name in sorted(found.keys() | wanted.keys()):
            if found.get(name) != wanted.get(name):
                here, there = _difference(found.get(name), wanted.get(name))
                return f"{name} {here}", f"{name} {there}"
    return tuple(text if len(text) <= 80 else text[:77] + "…" for text in map(json.dumps, (found, wanted)))  # type: ignore[return-value]
