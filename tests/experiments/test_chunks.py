"""Chunks cover every network once, and neither they nor their batches depend on how many networks are asked for."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from finitewidth.experiments.chunks import BATCHES, chunks

NETWORKS, LARGEST = st.integers(1, 50_000), st.integers(1, 700)


def batch_of_network(n_networks, largest):
    return [
        batch
        for chunk in chunks(n_networks, largest)
        for cell, batch in enumerate(chunk.batches)
        for _ in range(chunk.first + cell * chunk.size, min(chunk.last, chunk.first + (cell + 1) * chunk.size))
    ]


@given(NETWORKS, LARGEST)
def test_every_network_is_in_one_chunk_of_at_most_the_largest_size(n, largest):
    found = list(chunks(n, largest))
    assert found[0].first == 0 and found[-1].last == n
    assert all(before.last == after.first for before, after in pairwise(found))
    assert all(1 <= chunk.count <= largest for chunk in found)


@given(NETWORKS, st.integers(1, 20_000), LARGEST)
def test_more_networks_only_add(n, more, largest):
    few, many = list(chunks(n, largest)), list(chunks(n + more, largest))
    assert few[:-1] == many[: len(few) - 1]
    assert batch_of_network(n, largest) == batch_of_network(n + more, largest)[:n]


@given(st.integers(BATCHES, 50_000), LARGEST)
def test_there_are_all_batches_and_none_is_much_larger_than_another(n, largest):
    batches = batch_of_network(n, largest)
    sizes = [batches.count(b) for b in range(BATCHES)]
    assert min(sizes) >= 1
    assert max(sizes) <= 3 * min(sizes)


def test_ten_billion_networks_make_a_list_that_fits():
    found = sum(1 for _ in chunks(10**10, 1 << 17))
    assert found < 80_000
