"""Every example that a reader sees is run: those of the README, of the docs and of docstrings."""

import os
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import settings
from sybil import Sybil
from sybil.document import PythonDocStringDocument
from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser
from sybil.parsers.rest import DocTestParser
from sybil.parsers.rest import SkipParser as DocstringSkipParser
from threadpoolctl import threadpool_limits

# As many processes as cores: threads of BLAS and OpenMP would wait for one another longer than they compute.
if "PYTEST_XDIST_WORKER" in os.environ:
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    threadpool_limits(1)  # of libraries that are loaded already

# What one test process compiles, the others load, and the next run of the tests too.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parent / ".pytest_cache" / "programs"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")

# JAX compiles inside the first example of a property: time per example says nothing. A failure prints how to repeat it.
settings.register_profile("finitewidth", deadline=None, print_blob=True)
settings.load_profile("finitewidth")

# PyTorch and Equinox are optional: without them, the pages about them are not examples that can be run.
NEEDED = {"docs/pytorch.md": "torch", "docs/inspect.md": "torch", "docs/jax.md": "equinox"}
ABSENT = [page for page, module in NEEDED.items() if find_spec(module) is None]
pages = Sybil(parsers=[PythonCodeBlockParser(), SkipParser()], patterns=["*.md", "docs/**/*.md"], excludes=ABSENT)
docstrings = Sybil(
    parsers=[DocTestParser(), DocstringSkipParser()],
    patterns=["src/finitewidth/*.py", "src/finitewidth/*/*.py", "src/finitewidth/*/*/*.py"],
    excludes=["src/finitewidth/frontends/torch/*.py"] if find_spec("torch") is None else [],
    document_types={".py": PythonDocStringDocument},
)
pytest_collect_file = (pages + docstrings).pytest()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """One file, one worker: the examples of a page build on each other, and a file compiles its functions once."""
    from xdist.scheduler import LoadFileScheduling

    return LoadFileScheduling(config, log)
