"""What a worker in another process does: it is told once what the experiment is, then given chunks."""

import hashlib
import pickle

from finitewidth.errors import InputError
from finitewidth.experiments.accumulation import accumulated
from finitewidth.experiments.chunks import Chunk
from finitewidth.experiments.experiment import Experiment
from finitewidth.experiments.statistics import Batch
from finitewidth.programs import keep_compiled_programs

_experiments: dict[str, Experiment] = {}


class Unknown(Exception):
    """This worker has not been told of the experiment."""


def packed(experiment: Experiment) -> bytes:
    """The experiment as bytes that other processes understand.

    Raises
        InputError: when it holds something that cannot be sent, such as a lambda.
    """
    try:
        # by value what is not in a module: lambdas, functions typed at a prompt
        from cloudpickle import dumps
    except ImportError:
        from pickle import dumps
    try:
        return dumps(experiment)
    except Exception as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"`observables` or the network's activation cannot be sent to another process ({reason}); define their "
            "functions with `def` in a module, or use engine='threads'"
        ) from error


def name_of(experiment: bytes) -> str:
    """By what a worker knows it."""
    return hashlib.sha256(experiment).hexdigest()


def learn(experiment: bytes) -> None:
    """Know this experiment from now on; compiled programs are kept with it."""
    keep_compiled_programs()
    _experiments.setdefault(name_of(experiment), pickle.loads(experiment))


def work(name: str, chunk: Chunk) -> list[Batch]:
    """The sums of a chunk of a known experiment."""
    if name not in _experiments:
        raise Unknown(name)
    return accumulated(_experiments[name], chunk)


def taught(experiment: bytes, chunk: Chunk) -> list[Batch]:
    """The sums of a chunk of an experiment that may not be known yet."""
    learn(experiment)
    return work(name_of(experiment), chunk)
