"""Theory meets experiment: what the one computes, the other measures on real networks, and nothing else do they share.

`initialisation`: kernels and tensors of networks as they are drawn. `trained`: outputs of networks that were trained.
"""

from finitewidth.compare.comparison import Comparison, Comparisons
from finitewidth.compare.initialisation import RunComparison, Verification, compare_run, compare_runs, verify
from finitewidth.compare.trained import TrainedVerification, verify_trained

__all__ = [
    "verify",
    "verify_trained",
    "compare_run",
    "compare_runs",
    "Comparison",
    "Comparisons",
    "Verification",
    "TrainedVerification",
    "RunComparison",
]
