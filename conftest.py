"""Every example that a reader sees is run: those of the README, of the docs and of docstrings."""

import pytest
from hypothesis import settings
from sybil import Sybil
from sybil.document import PythonDocStringDocument
from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser
from sybil.parsers.rest import DocTestParser
from sybil.parsers.rest import SkipParser as DocstringSkipParser

# JAX compiles inside the first example of a property: time per example says nothing. A failure prints how to repeat it.
settings.register_profile("finitewidth", deadline=None, print_blob=True)
settings.load_profile("finitewidth")

pages = Sybil(parsers=[PythonCodeBlockParser(), SkipParser()], patterns=["*.md", "docs/**/*.md"])
docstrings = Sybil(
    parsers=[DocTestParser(), DocstringSkipParser()],
    patterns=["src/finitewidth/*.py", "src/finitewidth/*/*.py"],
    document_types={".py": PythonDocStringDocument},
)
pytest_collect_file = (pages + docstrings).pytest()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """One file, one worker: the examples of a page build on each other, and a file compiles its functions once."""
    from xdist.scheduler import LoadFileScheduling

    return LoadFileScheduling(config, log)
