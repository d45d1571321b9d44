"""Work on all cores: order, precision, counting, and stopping early."""

import threading
from time import sleep

import jax.numpy as jnp
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from finitewidth.cores import Stopped, Tally, on_all_cores


def test_results_come_in_the_order_of_the_arguments_and_in_float64():
    def work(i: int) -> tuple[int, str, list[int]]:
        sleep(0.01 * (5 - i))
        threads = [each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"]
        return i, str(jnp.ones(1).dtype), threads

    with threadpool_limits(2):  # of which test processes have one anyway
        found = on_all_cores(work, range(5))
        assert any(each["num_threads"] == 2 for each in threadpool_info())
    assert [i for i, _, _ in found] == [0, 1, 2, 3, 4]
    assert {dtype for _, dtype, _ in found} == {"float64"}
    assert all(n == 1 for _, _, threads in found for n in threads)


def test_progress_counts_up_to_the_end():
    seen = []
    tally = Tally(20, lambda done, total: seen.append((done, total)))

    def work(_: int) -> None:
        for _ in range(4):
            tally.add()

    on_all_cores(work, range(5), tally)
    assert seen == [(i, 20) for i in range(1, 21)]


def test_where_one_fails_the_others_stop_at_their_next_count():
    tally, ended = Tally(10**9), []
    begun = threading.Event()

    def work(i: int) -> None:
        if i == 0:
            begun.wait(10)
            raise ValueError("of the first")
        begun.set()
        try:
            while True:
                tally.add()
                sleep(0.001)
        except Stopped:
            ended.append(i)
            raise

    with pytest.raises(ValueError, match="of the first"):
        on_all_cores(work, range(2), tally)
    assert ended in ([], [1])  # [] where there is one core, and the second never began


def test_what_progress_raises_ends_the_work():
    def interrupted(done: int, _: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    tally = Tally(1000, interrupted)

    def work(_: int) -> None:
        for _ in range(100):
            tally.add()

    with pytest.raises(KeyboardInterrupt):
        on_all_cores(work, range(10), tally)
    with pytest.raises(Stopped):
        tally.add()
