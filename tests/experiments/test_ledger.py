"""The ledger keeps what it was given, bit by bit, and refuses everything that it was not."""

import json
import mmap
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from finitewidth.errors import InputError
from finitewidth.experiments.chunks import Chunk
from finitewidth.experiments.ledger import Ledger
from finitewidth.experiments.statistics import Batch

DESCRIPTION = {"finitewidth": "1", "net": {"depth": 3, "width": [4, 5]}, "seed": 0}
CHUNK = Chunk(8, 14, 4, 66)
CELLS = [
    Batch(4, {"x": np.array([1.0, np.pi]), "y": np.float64(0.1)}, 0),
    Batch(1, {"x": np.array([-1e300, 5e-324]), "y": np.float64(-0.0)}, 1),
]


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "run.db"
    with Ledger(path, DESCRIPTION, extra={"x": [[1.0]]}) as ledger:
        ledger.write(CHUNK, CELLS)
    return path


def assert_refused_unchanged(path, message, description=DESCRIPTION):
    before = path.read_bytes()
    with pytest.raises(InputError, match=message), Ledger(path, description) as ledger:
        ledger.read(CHUNK)
    assert path.read_bytes() == before


def test_what_was_written_is_read_to_the_last_bit(path):
    with Ledger(path, DESCRIPTION) as ledger:
        assert ledger.done() == {(8, 14)}
        assert ledger.about == {"description": DESCRIPTION, "extra": {"x": [[1.0]]}}
        for wrote, found in zip(CELLS, ledger.read(CHUNK), strict=True):
            assert (wrote.count, wrote.excluded) == (found.count, found.excluded)
            assert all(np.asarray(wrote.sums[k]).tobytes() == np.asarray(found.sums[k]).tobytes() for k in "xy")


def test_a_chunk_that_is_there_is_not_changed(path):
    with Ledger(path, DESCRIPTION) as ledger:
        ledger.write(CHUNK, [Batch(4, {"x": np.zeros(2), "y": np.float64(0)}), CELLS[1]])
        assert ledger.read(CHUNK)[0].sums["y"] == 0.1


def test_without_a_path_it_takes_no_memory_that_grows():
    statm = Path("/proc/self/statm")
    if not statm.exists():
        pytest.skip("how much memory is resident is read from /proc")

    def resident():
        return int(statm.read_text().split()[1]) * mmap.PAGESIZE

    with Ledger(None, DESCRIPTION) as ledger:
        before = resident()
        for first in range(200):
            ledger.write(Chunk(first, first + 1, 1, first), [Batch(1, {"x": np.full(1 << 16, float(first))}, 0)])
        assert resident() - before < 30 << 20  # of 100 MiB that were written
        assert len(ledger.done()) == 200
        np.testing.assert_array_equal(ledger.read(Chunk(7, 8, 1, 7))[0].sums["x"], 7.0)


def test_another_run_is_refused_by_what_differs(path):
    other = {**DESCRIPTION, "net": {"depth": 3, "width": [4, 6]}}
    assert_refused_unchanged(path, r"holds another run: its net is width \[4, 5\], but now it is width \[4, 6\]", other)


def test_another_version_is_said_first(path):
    assert_refused_unchanged(path, "its finitewidth is", {**DESCRIPTION, "finitewidth": "2", "seed": 1})


def test_another_format_is_refused(path):
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    assert_refused_unchanged(path, "format 99")


def test_files_of_something_else_are_refused(tmp_path):
    text = tmp_path / "notes.txt"
    text.write_text("not a database, but something that somebody still needs " * 20)
    assert_refused_unchanged(text, "is damaged")
    other = tmp_path / "other.db"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE mine (a)")
    connection.close()
    assert_refused_unchanged(other, "file of something else")


def test_a_row_that_was_tampered_with_is_found(path):
    with sqlite3.connect(path) as connection:
        contents = bytearray(connection.execute("SELECT contents FROM chunks").fetchone()[0])
        contents[-3] ^= 1
        connection.execute("UPDATE chunks SET contents = ?", (bytes(contents),))
    connection.close()
    assert_refused_unchanged(path, "networks 8 to 13 do not match their digest")


def test_a_truncated_file_is_damaged(path):
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert_refused_unchanged(path, "damaged")


def test_a_place_that_cannot_be_written_is_said(tmp_path):
    with pytest.raises(InputError, match="cannot be used as a store"):
        Ledger(tmp_path / "none" / "run.db", DESCRIPTION)
    with pytest.raises(InputError, match="does not exist"):
        Ledger(tmp_path / "missing.db", None)
    assert not (tmp_path / "missing.db").exists()


def test_descriptions_are_json(path):
    with sqlite3.connect(path) as connection:
        stored = dict(connection.execute("SELECT name, value FROM about"))
    connection.close()
    assert json.loads(stored["description"]) == DESCRIPTION
