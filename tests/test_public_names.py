"""The root package: every public name, in whatever order a program imports, and nothing loaded before it is used."""

import subprocess
import sys

import pytest

import finitewidth as fw

# `finitewidth.flow` and `finitewidth.report` are modules as well as public functions: a plain lazy package shows the
# function before, and the module after, anyone has imported the module.
CLASHES = {"flow", "report"}


def run(program):
    """`program` in a fresh interpreter; its standard output."""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_import_loads_no_heavy_library():
    loaded = run("import finitewidth, sys; print(*sys.modules)").split()
    heavy = {"jax", "torch", "matplotlib", "numpy", "scipy", "pandas", "xarray", "sklearn", "rich", "cyclopts"}
    assert heavy.isdisjoint(loaded)


@pytest.mark.parametrize("name", fw.__all__)
def test_every_public_name_is_there_and_listed(name):
    assert getattr(fw, name) is getattr(fw, name)
    assert name in dir(fw)


@pytest.mark.parametrize(
    "first",
    [
        "import finitewidth as fw",
        "import finitewidth.flow, finitewidth.report, finitewidth.activations; import finitewidth as fw",
        "import finitewidth as fw; fw.flow; fw.report; import finitewidth.flow, finitewidth.report",
        "from finitewidth import report, flow, activations; assert callable(flow); import finitewidth as fw",
        *(
            pytest.param(first, marks=pytest.mark.slow)
            for first in (
                "from finitewidth.flow import flow; from finitewidth.report import report; import finitewidth as fw",
                "from importlib import import_module as get; get('finitewidth.flow'); fw = get('finitewidth')",
            )
        ),
    ],
)
def test_public_functions_win_over_modules_of_the_same_name(first):
    check = """
import types, sys
modules = {"activations", "initializers", "observables", "sklearn"}
for name in fw.__all__:
    value = getattr(fw, name)
    assert isinstance(value, types.ModuleType) == (name in modules), name
assert isinstance(sys.modules["finitewidth.flow"], types.ModuleType)
from finitewidth.flow import flow
assert flow is fw.flow
assert isinstance(fw.activations.named("gelu"), fw.Activation)
"""
    run(first + check)


def test_the_clashes_are_the_ones_tested():
    home = {name: getattr(fw, name).__module__ for name in fw.__all__ if callable(getattr(fw, name))}
    assert {name for name, module in home.items() if module.split(".")[:2] == ["finitewidth", name]} == CLASHES


def test_a_public_name_can_be_replaced_for_a_test(monkeypatch):
    monkeypatch.setattr(fw, "flow", "replaced")
    assert fw.flow == "replaced"


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'flaw'"):
        fw.flaw  # noqa: B018
