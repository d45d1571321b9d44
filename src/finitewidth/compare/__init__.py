"""Theory meets experiment: what the one computes, the other measures on real networks, and nothing else do they share.

`initialisation`: kernels and tensors of networks as they are drawn, by `verify` or from runs of `fw.ensemble`.
`trained`: outputs of networks that were trained, extrapolated from several widths. `trained_run`: those of one run.
"""

from finitewidth.compare.comparison import Comparison, Comparisons
from finitewidth.compare.initialisation import RunComparison, Verification, compare_run, compare_runs, verify
from finitewidth.compare.trained import TrainedVerification, verify_trained
from finitewidth.compare.trained_run import TrainedComparison, compare_trained_run

__all__ = [
    "verify",
    "verify_trained",
    "compare_run",
    "compare_runs",
    "compare_trained_run",
    "Comparison",
    "Comparisons",
    "Verification",
    "TrainedVerification",
    "RunComparison",
    "TrainedComparison",
]
