"""Compiled programs kept from one process to the next: JAX's persistent compilation cache.

Only for processes that are ours, workers and the command line: a user's own program is left as it is.
"""

import hashlib
import os
import platform
import sys
from pathlib import Path

_FOLDER, _SHORTEST = "jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs"
_SECONDS = 0.2  # that compiling must take for a program to be worth a file


def keep_compiled_programs() -> None:
    """What one process has compiled, others and later ones load. Does not import JAX.

    A folder that the user has set stays. Programs are for one kind of processor, so that machines with one home folder
    do not share them; without a home to write to, every process compiles for itself.
    """
    jax = sys.modules.get("jax")
    if _FOLDER.upper() in os.environ or getattr(getattr(jax, "config", None), _FOLDER, None) is not None:
        return
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = base / "finitewidth" / "programs" / f"{platform.machine()}-{_processor()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return
    if not os.access(folder, os.W_OK):
        return
    if jax is None:  # it reads its environment when it is imported
        os.environ[_FOLDER.upper()] = str(folder)
        os.environ.setdefault(_SHORTEST.upper(), str(_SECONDS))
    else:
        jax.config.update(_FOLDER, str(folder))
        jax.config.update(_SHORTEST, _SECONDS)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        words = next(line for line in lines if line.startswith("flags"))
    except (OSError, StopIteration):
        words = platform.processor() or platform.node()
    return hashlib.sha256(words.encode()).hexdigest()[:12]
