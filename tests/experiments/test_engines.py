"""Processes and clusters give the bits that threads give, whoever is killed meanwhile."""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import psutil
import pytest

from finitewidth.errors import InputError
from finitewidth.experiments.engines import processes
from finitewidth.experiments.runs import run
from tests.experiments.toys import Toy, bits

SLOW_TOY = {"seconds": 0.02}


@contextmanager
def killing(find, *, after, seen):
    """Within, SIGKILL one of the processes that `find` gives, once `after` networks have been reported in `seen`."""

    def kill():
        while not seen or seen[-1] < after:
            time.sleep(0.01)
        victims = find()
        os.kill(victims[0], signal.SIGKILL)
        killed.append(victims[0])

    killed: list[int] = []
    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    yield killed
    thread.join(timeout=10)


def workers_of_this_process():
    """Processes of a pool that this process started; spawned ones say so in their command line."""
    children = psutil.Process().children()
    return [child.pid for child in children if any("spawn_main" in part for part in child.cmdline())]


@pytest.mark.slow
def test_a_killed_process_is_replaced_and_its_chunk_done_again(tmp_path):
    seen = []
    with killing(workers_of_this_process, after=200, seen=seen) as killed:
        found = run(
            Toy(**SLOW_TOY),
            n_networks=2000,
            chunk=16,
            engine="processes",
            workers=2,
            path=tmp_path / "run.db",
            progress=lambda done, _: seen.append(done),
        )
    assert killed
    assert bits(found) == bits(run(Toy(), n_networks=2000, chunk=16))


@pytest.mark.slow
def test_processes_that_always_die_end_the_run(monkeypatch):
    monkeypatch.setattr(processes, "PATIENCE", 1)

    with pytest.raises(InputError, match="workers died 2 times in a row"):
        run(Deadly(), n_networks=10, engine="processes", workers=1)


class Deadly(Toy):
    def contributions(self, numbers):
        os.kill(os.getpid(), signal.SIGKILL)


def test_what_cannot_be_sent_is_said():
    toy = Toy()
    toy.held = threading.Lock()
    with pytest.raises(InputError, match="cannot be sent to another process"):
        run(toy, n_networks=10, engine="processes", workers=1)


@contextmanager
def cluster(workers):
    """A scheduler and workers as processes of their own on this machine: its address, and the workers."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    started = []

    def start(*arguments):
        command = [sys.executable, "-m", "distributed.cli." + arguments[0], *arguments[1:]]
        process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
        started.append(process)
        return process

    try:
        scheduler = start("dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard")
        address = next(line.split()[-1] for line in scheduler.stderr if "Scheduler at:" in line)
        threading.Thread(target=scheduler.stderr.read, daemon=True).start()
        options = ("--no-nanny", "--nthreads", "1", "--no-dashboard")
        several = [start("dask_worker", address, *options) for _ in range(workers)]
        for worker in several:
            next(line for line in worker.stderr if "Registered to" in line)
            threading.Thread(target=worker.stderr.read, daemon=True).start()
        yield address, several
    finally:
        for process in reversed(started):
            process.kill()
            process.wait()


@pytest.mark.slow
def test_a_cluster_gives_the_same_bits_when_a_worker_is_killed(tmp_path):
    pytest.importorskip("distributed")
    seen = []
    with (
        cluster(2) as (address, workers),
        killing(lambda: [workers[0].pid], after=400, seen=seen) as killed,
    ):
        found = run(
            Toy(**SLOW_TOY),
            n_networks=3000,
            chunk=16,
            engine=address,
            path=tmp_path / "run.db",
            progress=lambda done, _: seen.append(done),
        )
    assert killed and workers[0].returncode == -signal.SIGKILL
    assert bits(found) == bits(run(Toy(), n_networks=3000, chunk=16))


def test_workers_are_the_clusters_own_affair():
    with pytest.raises(InputError, match="`workers` is decided by the cluster"):
        run(Toy(), n_networks=10, engine="tcp://127.0.0.1:9", workers=2)
