"""Slot orders: what training calls P_abcd is what the vertex calls the component of that pair of pairs."""

import pytest

from finitewidth.flow.vertex import component
from finitewidth.training.slots import IN_TRAINING_ORDER

# THEORY-TRAINED §1.4, written out: directions of the slots a b ; c d
PAIRS = {
    "D": ("r", "r", "", ""),
    "F": ("r", "", "r", ""),
    "A": ("r", "r", "s", "s"),
    "B": ("r", "s", "r", "s"),
    "P": ("rs", "", "r", "s"),
    "Q": ("rs", "r", "s", ""),
    "R": ("rst", "r", "s", "t"),
    "S": ("rs", "rt", "s", "t"),
    "T": ("rs", "s", "rt", "t"),
    "U": ("rs", "t", "rt", "s"),
}


@pytest.mark.parametrize("name", IN_TRAINING_ORDER)
def test_slots_are_those_of_the_sums_over_training(name):
    a, b, c, d = zip(PAIRS[name], "abcd", strict=True)
    assert component((a, b), (c, d)) == (name, IN_TRAINING_ORDER[name])
