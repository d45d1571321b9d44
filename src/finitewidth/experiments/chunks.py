"""Which networks are done together, and which batch of the jackknife they belong to: fixed by their numbers alone.

Networks 0, 1, 2, … fall into cells of consecutive numbers: 64 cells of one network, 64 of two, 64 of four, … up to a
largest size that then stays. Cell c belongs to batch c mod 64. So at any number of networks there are as many batches
as there can be, of about equal size, and a run that goes on only adds cells: nothing depends on how many networks were
asked for first. A chunk, the unit of work and of storage, is a power of two of consecutive cells of one size.
"""

from collections.abc import Iterator
from dataclasses import dataclass

BATCHES = 64  # enough that a standard error is itself known to 9 %


@dataclass(frozen=True)
class Chunk:
    """Networks first … last − 1, in cells of `size` (the last cell may have fewer).

    first_cell: the number of the first cell.
    """

    first: int
    last: int
    size: int
    first_cell: int

    @property
    def count(self) -> int:
        """How many networks."""
        return self.last - self.first

    @property
    def cells(self) -> int:
        """How many cells."""
        return -(-self.count // self.size)

    @property
    def batches(self) -> list[int]:
        """The batch of every cell."""
        return [cell % BATCHES for cell in range(self.first_cell, self.first_cell + self.cells)]


def chunks(n_networks: int, largest: int) -> Iterator[Chunk]:
    """The chunks of networks 0 … n_networks − 1, none of more than `largest` networks."""
    first = cell = 0
    size = 1
    while first < n_networks:
        together = 1 << (min(BATCHES, largest // size).bit_length() - 1)
        last = min(first + together * size, n_networks)
        yield Chunk(first, last, size, cell)
        first, cell = last, cell + together
        if cell % BATCHES == 0:
            size = min(2 * size, largest)
