"""What a worker in another process does: it is told once what the experiment is, then given chunks."""

import hashlib
import os
import pickle
import platform
from pathlib import Path

from finitewidth.errors import InputError
from finitewidth.experiments.accumulation import accumulated
from finitewidth.experiments.chunks import Chunk
from finitewidth.experiments.experiment import Experiment
from finitewidth.experiments.statistics import Batch

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


def keep_compiled_programs() -> None:
    """Programs that one worker has compiled, others and later ones load: JAX's persistent compilation cache.

    Only in workers, which are ours; where the user has set a folder, that one stays. Programs are for one kind of
    processor, so that machines with one home folder do not share them.
    """
    import jax

    if getattr(jax.config, "jax_compilation_cache_dir", None) is not None:
        return
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = base / "finitewidth" / "programs" / f"{platform.machine()}-{_processor()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return  # no home to write to: every worker compiles for itself
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        words = next(line for line in lines if line.startswith("flags"))
    except (OSError, StopIteration):
        words = platform.processor() or platform.node()
    return hashlib.sha256(words.encode()).hexdigest()[:12]
