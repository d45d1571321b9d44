"""The tensors of `flow` in the slot order in which training contracts them.

`flow` orders subscripts as PDLT does (NOTATION.md); the sums over training steps are written with slots in an
order of their own (THEORY-TRAINED §1.4). Here is the one place where the two meet.
"""

import numpy as np
import xarray as xr

IN_TRAINING_ORDER: dict[str, str] = {
    "A": "abcd",  # (r a)(r b) ; (s c)(s d)
    "B": "abcd",  # (r a)(s b) ; (r c)(s d)
    "D": "cdab",  # (r a)(r b) ; (0 c)(0 d)
    "F": "badc",  # (r a)(0 b) ; (r c)(0 d)
    "P": "acdb",  # (rs a)(0 b) ; (r c)(s d)
    "Q": "abcd",  # (rs a)(r b) ; (s c)(0 d)
    "R": "abcd",  # (rst a)(r b) ; (s c)(t d)
    "S": "abcd",  # (rs a)(rt b) ; (s c)(t d)
    "T": "abdc",  # (rs a)(s b) ; (rt c)(t d)
    "U": "abcd",  # (rs a)(t b) ; (rt c)(s d)
}
"""name → the letters abcd of its slots in training, in the order of `flow`'s axes."""


def in_training_order(tensors: xr.Dataset, name: str) -> np.ndarray:
    """A tensor of one layer, or its error (`"A_error"`), with its slots as training wants them."""
    return np.einsum(f"{IN_TRAINING_ORDER[name.removesuffix('_error')]}->abcd", tensors[name].values)
