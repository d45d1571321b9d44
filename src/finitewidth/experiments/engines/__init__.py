"""Where chunks are done: in this process, in processes of this machine, on a cluster. Nothing else depends on which."""

from finitewidth.experiments.engines.choice import Engine, chosen

__all__ = ["Engine", "chosen"]
