"""Runs: the right averages, the same bits after whatever happened, and nothing lost or left out in silence."""

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from finitewidth.errors import InputError, TrustWarning
from finitewidth.experiments.ledger import Ledger
from finitewidth.experiments.runs import held, run
from tests.experiments.toys import Toy, bits, numbers_of


def test_averages_are_those_of_all_networks():
    found = run(Toy(), n_networks=1001, workers=1)
    x = numbers_of(Toy(), 1001)
    assert found.n_networks == 1001 and found.n_excluded == 0
    np.testing.assert_allclose(found.estimate["mean"].value, x.mean(), rtol=1e-13)
    np.testing.assert_allclose(found.estimate["variance"].value, x.var(ddof=1), rtol=2e-2)
    # sines of well-spread numbers are as good as independent: their own spread tells the error of the mean
    assert 0.6 < found.estimate["mean"].standard_error / (x.std() / np.sqrt(1001)) < 1.4


def test_a_spread_far_below_the_mean_is_not_rounded_away():
    # sums of 10^5 numbers 10^8 ± 1: the error of their mean is right to the digits that 64 batches give
    class Shifted(Toy):
        def contributions(self, numbers):
            return {"x": np.random.default_rng(int(numbers[0])).normal(size=8) + 1e8}

        def quantities(self):
            return {"mean": super().quantities()["mean"]}

    found = run(Shifted(together=8), n_networks=80_000, chunk=4096, workers=1).estimate["mean"]
    assert abs(found.value - 1e8) < 5.5 / np.sqrt(80_000)
    assert 0.6 < found.standard_error * np.sqrt(80_000) < 1.4


@pytest.mark.parametrize("workers", [1, 3])
def test_stopping_extending_and_workers_change_no_bit(tmp_path, workers):
    once = run(Toy(), n_networks=700, chunk=32, workers=1)
    for n in (50, 301, 700):
        found = run(Toy(), n_networks=n, chunk=32, workers=workers, path=tmp_path / "run.db")
    assert bits(found) == bits(once)
    again = run(Toy(), n_networks=301, chunk=32, path=tmp_path / "run.db")  # fewer than there are
    assert bits(again) == bits(run(Toy(), n_networks=301, chunk=32))


def test_only_what_is_missing_is_done(tmp_path):
    path, seen = tmp_path / "run.db", []
    run(Toy(), n_networks=256, chunk=32, path=path)
    run(Toy(), n_networks=300, chunk=32, path=path, progress=lambda done, total: seen.append((done, total)))
    assert seen[0] == (256, 300) and seen[-1] == (300, 300)


def test_a_damaged_row_is_said_before_anything_is_done_or_written(tmp_path):
    path, seen = tmp_path / "run.db", []
    run(Toy(), n_networks=256, chunk=32, path=path)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE chunks SET digest = ? WHERE first = (SELECT MAX(first) FROM chunks)", (b"other",))
    connection.close()
    before = path.read_bytes()
    with pytest.raises(InputError, match=r"is damaged .* nothing was changed in it"):
        run(Toy(), n_networks=300, chunk=32, path=path, progress=lambda *each: seen.append(each))
    assert seen == [] and path.read_bytes() == before


def test_an_interrupt_keeps_what_is_done(tmp_path):
    path = tmp_path / "run.db"
    with pytest.raises(KeyboardInterrupt):
        run(Toy(fails_at=200), n_networks=500, chunk=16, workers=1, path=path)
    with Ledger(path, None) as ledger:
        assert 150 <= held(ledger) <= 200
    found = run(Toy(), n_networks=500, chunk=16, path=path)
    assert bits(found) == bits(run(Toy(), n_networks=500, chunk=16))


PROGRAM = """
from finitewidth.experiments.runs import run
from tests.experiments.toys import Toy
report = lambda *done: print(*done, flush=True)
run(Toy(seconds=0.02), n_networks=4000, chunk=16, workers=2, path={path!r}, progress=report)
"""


def test_kill_9_in_mid_run_costs_a_chunk_a_worker_and_changes_no_bit(tmp_path):
    path = tmp_path / "run.db"
    program = [sys.executable, "-c", PROGRAM.format(path=str(path))]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen(program, stdout=subprocess.PIPE, env=environment, text=True) as process:
        reported = 0
        for line in process.stdout:
            reported = int(line.split()[0])
            if reported > 400:
                process.send_signal(signal.SIGKILL)
                break
        process.wait()
    with Ledger(path, None) as ledger:
        kept = sum(last - first for first, last in ledger.done())
    assert kept >= reported  # whatever was reported is kept
    assert kept < 4000
    found = run(Toy(), n_networks=1200, chunk=16, path=path)
    assert bits(found) == bits(run(Toy(), n_networks=1200, chunk=16))


def test_networks_that_diverge_are_counted_and_left_out():
    bad = (3, 77, 78)
    with pytest.warns(TrustWarning, match="3 of 400 networks contribute a number that is not finite"):
        found = run(Toy(bad=bad), n_networks=400)
    assert (found.n_networks, found.n_excluded) == (397, 3)
    np.testing.assert_allclose(found.estimate["mean"].value, np.delete(numbers_of(Toy(), 400), bad).mean(), rtol=1e-13)


def test_when_all_diverge_there_is_no_estimate():
    with pytest.raises(InputError, match="of 20 networks 20 contribute a number that is not finite"):
        run(Toy(bad=range(20)), n_networks=20)


def test_shapes_that_change_are_refused_and_what_was_done_is_kept(tmp_path):
    with pytest.raises(InputError, match=r"contribute 'x' of shape \(\) for some networks and \(2,\) for others"):
        run(Toy(grows_at=160), n_networks=500, chunk=16, workers=1, path=tmp_path / "run.db")
    assert run(Toy(), n_networks=128, chunk=16, path=tmp_path / "run.db").n_networks == 128


def test_a_ledger_of_another_seed_or_chunk_is_refused(tmp_path):
    path = tmp_path / "run.db"
    run(Toy(), n_networks=20, path=path)
    with pytest.raises(InputError, match="its seed is 0, but now it is 1"):
        run(Toy(seed=1), n_networks=20, path=path)
    with pytest.raises(InputError, match="its chunk is"):
        run(Toy(), n_networks=20, path=path, chunk=3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_networks": 0}, "`n_networks` must be an integer ≥ 1"),
        ({"n_networks": 1}, "at least 2"),
        ({"chunk": 0}, "`chunk` must be an integer ≥ 1"),
        ({"workers": 0}, "`workers` must be an integer ≥ 1"),
        ({"engine": "process"}, "did you mean 'processes'"),
        ({"engine": 3}, "`engine` must be"),
        ({"path": "/"}, "is a directory"),
        ({"path": "nowhere/run.db"}, "there is no directory 'nowhere'"),
        ({"path": 5}, "`path` must be the name of a file"),
        ({"path": "a" * 300}, "cannot be the name of a file"),
        ({"path": "a\0b"}, "cannot be the name of a file"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        run(Toy(), **{"n_networks": 10, **arguments})


def test_what_answers_at_the_address_but_is_no_scheduler_is_said():
    pytest.importorskip("distributed")
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer():
            server.accept()[0].sendall(b"HTTP/1.1 400 Bad Request\r\nServer: x\r\nContent-Length: 0\r\n\r\n" * 4)

        threading.Thread(target=answer, daemon=True).start()
        with pytest.raises(InputError, match="no scheduler answers there"):
            run(Toy(), n_networks=10, engine=f"127.0.0.1:{server.getsockname()[1]}")


def test_nobody_at_the_address_is_said_within_seconds():
    pytest.importorskip("distributed")
    begun = time.monotonic()
    with pytest.raises(InputError, match="no scheduler answers there"):
        run(Toy(), n_networks=10, engine="tcp://127.0.0.1:9")
    assert time.monotonic() - begun < 30
