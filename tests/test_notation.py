"""NOTATION.md says what the code does: the same names, the same shapes, none missing and none made up."""

import re
from pathlib import Path

import numpy as np
import pytest

import finitewidth as fw

NOTATION = Path(__file__).resolve().parents[1] / "NOTATION.md"


def table(heading):
    """The rows of the first table below `heading`, as dictionaries by column."""
    section = NOTATION.read_text(encoding="utf-8").split(f"## {heading}\n")[1].split("\n## ")[0]
    header, _, *rows = [line.strip().strip("|") for line in section.splitlines() if line.startswith("|")]
    columns = [cell.strip() for cell in header.split("|")]
    return [dict(zip(columns, map(str.strip, row.split("|")), strict=True)) for row in rows]


def names(heading):
    return [name for row in table(heading) for name in re.findall(r"`(\w+)`", row["name"])]


@pytest.fixture(scope="module")
def flow():
    net = fw.MLP("tanh", depth=3, width=16, n_in=2, n_out=1, C_b=0.1, C_W=1.2)
    return fw.flow(net, [[1.0, 2.0], [-1.0, 0.5], [0.3, 0.4]])


FLOW = table("What `finitewidth.flow` returns")


def test_flow_returns_the_variables_of_the_table_and_no_others(flow):
    stated = {name.strip("`") for name in (row["name"] for row in FLOW)}
    assert set(flow.data_vars) == stated | {f"{name}_error" for name in stated}


@pytest.mark.parametrize("row", FLOW, ids=lambda row: row["name"])
def test_shape_and_order(flow, row):
    variable = flow[row["name"].strip("`")]
    assert variable.dims == tuple(re.findall(r"\w+", row["shape"]))
    assert variable.dtype == np.float64
    assert flow[f"{variable.name}_error"].dims == variable.dims
    assert row["1/n"] in {"0", "1"}
    # what is multiplied by no power of 1/n knows no width: the book's leading order
    wider = fw.flow(fw.MLP("tanh", depth=3, width=32, n_in=2, C_b=0.1, C_W=1.2), [[1.0, 2.0], [-1.0, 0.5], [0.3, 0.4]])
    np.testing.assert_allclose(wider[variable.name], variable, rtol=1e-12)


def test_layers_count_from_one(flow):
    np.testing.assert_array_equal(flow.coords["layer"], [1, 2, 3])


@pytest.mark.parametrize("name", names("What `finitewidth.MLP` is given"))
def test_mlp_has_the_names_of_the_table(name):
    assert hasattr(fw.MLP("tanh", depth=2), name)


@pytest.mark.parametrize("name", names("What `finitewidth.critical` returns"))
def test_critical_point_has_the_names_of_the_table(name):
    assert np.isfinite(getattr(fw.critical("gelu"), name))


@pytest.mark.parametrize(
    "heading",
    ["What `finitewidth.flow` returns", "What `finitewidth.MLP` is given", "What the report adds"],
)
def test_every_row_says_where_it_comes_from(heading):
    assert all(re.fullmatch(r"PDLT ch\. \d+", row["source"]) for row in table(heading))
