"""NOTATION.md says what the code does: the same names, the same shapes, none missing and none made up."""

import ast
import re
from dataclasses import fields
from pathlib import Path
from typing import get_type_hints

import numpy as np
import pytest

import finitewidth as fw
from finitewidth.experiments.trained_observables import TRAINED
from finitewidth.report.contents import Side
from finitewidth.report.inspection import COLUMNS

NOTATION = Path(__file__).resolve().parents[1] / "NOTATION.md"


def table(heading):
    """The rows of the tables below `heading`, as dictionaries by column."""
    section = NOTATION.read_text(encoding="utf-8").split(f"## {heading}\n")[1].split("\n## ")[0]
    lines = [line.strip().strip("|") for line in section.splitlines() if line.startswith("|")]
    header, *rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)] for line in lines]
    return [dict(zip(header, row, strict=True)) for row in rows if row != header and set(row[0]) != {"-"}]


def names(heading):
    return [name for row in table(heading) for name in re.findall(r"`([^`]+)`", row["name"])]


@pytest.fixture(scope="module")
def flow():
    net = fw.MLP("tanh", depth=3, width=16, n_in=2, n_out=1, C_b=0.1, C_W=1.2)
    return fw.flow(net, [[1.0, 2.0], [-1.0, 0.5], [0.3, 0.4]])


FLOW = table("What `finitewidth.flow` returns")


def test_flow_returns_the_variables_of_the_table_and_no_others(flow):
    stated = {name.strip("`") for name in (row["name"] for row in FLOW)}
    assert set(flow.data_vars) == stated | {f"{name}_error" for name in stated}


@pytest.mark.parametrize("row", FLOW, ids=lambda row: row["name"])
def test_shape_and_power_of_width(flow, row):
    variable = flow[row["name"].strip("`")]
    assert variable.dims == tuple(re.findall(r"\w+", row["shape"]))
    assert variable.dtype == np.float64
    error = flow[f"{variable.name}_error"]
    assert error.dims == variable.dims[: error.ndim]  # a bound for the layer, or for each of its entries
    # each is the coefficient of its power of 1/n, and so knows no width
    wider = fw.flow(fw.MLP("tanh", depth=3, width=32, n_in=2, C_b=0.1, C_W=1.2), [[1.0, 2.0], [-1.0, 0.5], [0.3, 0.4]])
    np.testing.assert_allclose(wider[variable.name], variable, rtol=1e-12)


ORDER_1 = table("What `finitewidth.flow` adds at order 1")


@pytest.fixture(scope="module")
def flow_at_order_1():
    net = fw.MLP("tanh", depth=3, width=16, n_in=2, C_b=0.1, C_W=1.2)
    return fw.flow(net, [[1.0, 2.0], [-1.0, 0.5]], order=1)


def test_order_1_adds_the_tensors_of_the_table_and_no_others(flow_at_order_1):
    stated = {row["name"].strip("`") for row in ORDER_1} | {row["name"].strip("`") for row in FLOW}
    assert set(flow_at_order_1.data_vars) == stated | {f"{name}_error" for name in stated}


@pytest.mark.parametrize("row", ORDER_1, ids=lambda row: row["name"])
def test_shape_of_the_tensors(flow_at_order_1, row):
    variable = flow_at_order_1[row["name"].strip("`")]
    dimensions = tuple(re.findall(r"\w+", row["shape"]))
    assert variable.dims == flow_at_order_1[f"{variable.name}_error"].dims == dimensions
    assert variable.attrs["order_in_1/n"] == int(row["1/n"])
    assert not np.any(variable.sel(layer=1))


def test_layers_count_from_one(flow):
    np.testing.assert_array_equal(flow.coords["layer"], [1, 2, 3])


@pytest.mark.parametrize("name", names("What `finitewidth.MLP` is given"))
def test_mlp_has_the_names_of_the_table(name):
    assert hasattr(fw.MLP("tanh", depth=2), name)


@pytest.mark.parametrize("name", names("What `finitewidth.ResidualMLP` is given besides"))
def test_residual_mlp_has_the_names_of_the_table(name):
    assert hasattr(fw.ResidualMLP("tanh", depth=2), name) and not hasattr(fw.MLP("tanh", depth=2), name)


def test_inspection_has_the_columns_of_the_table():
    assert set(names("What `finitewidth.torch.inspect` measures")) == set(COLUMNS)


def test_tuning_has_the_names_of_the_table():
    pytest.importorskip("torch")
    from finitewidth.frontends.torch import tune

    stated = set(names("What `finitewidth.torch.tuning` finds"))
    assert stated == {field.name for field in fields(tune.TunedLayer)} - {"name", "role"}


@pytest.mark.parametrize("name", names("What `finitewidth.critical` returns"))
@pytest.mark.parametrize("activation", ["gelu", "tanh"])
def test_critical_point_has_the_names_of_the_table(activation, name):
    result = fw.critical(activation)
    field, _, key = name.partition("[")
    value = getattr(result.preferred, field)[key.strip('"]')] if key else getattr(result, field)
    assert np.isfinite(value)


FIRST_ORDER = {f.__name__: f for f in (fw.nearly_gaussian, fw.tangent_kernel, fw.representation_learning)}


@pytest.fixture(scope="module")
def first_order():
    net = fw.MLP("tanh", depth=3, width=40, n_in=2, n_out=2, C_b=0.1, C_W=1.2)
    return {name: function(net, [[1.0, 2.0], [-1.0, 0.5]]) for name, function in FIRST_ORDER.items()}


@pytest.mark.parametrize(
    ("function", "row"),
    [(name, row) for name in FIRST_ORDER for row in table(f"What `finitewidth.{name}` returns")],
    ids=lambda each: each if isinstance(each, str) else each["name"],
)
def test_statistics_of_first_order_have_the_names_and_shapes_of_the_table(first_order, function, row):
    sizes = {"layer": 3, **dict.fromkeys("abcd", 2)}
    for name in re.findall(r"`([^`]+)`", row["name"]):
        value = first_order[function]
        for attribute in name.split("."):
            value = getattr(value, attribute)
        if callable(value):  # for four neurons
            value = value(0, 0, 1, 1)
        axes = [] if row["shape"] == "one" else re.findall(r"\w+", row["shape"])
        assert np.shape(value) == tuple(sizes[axis] for axis in axes)


@pytest.fixture(scope="module")
def prediction():
    net = fw.MLP("tanh", depth=3, width=40, n_out=2, C_b=0.1, C_W=1.2)
    options = {"order": 0, "loss": "cross-entropy", "algorithm": fw.GradientDescent(0.1, 2)}
    return fw.predict(net, [[1.0, 2.0], [-1.0, 0.5]], [[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0]], **options)


@pytest.mark.parametrize("row", table("What `finitewidth.trained_kernel` returns"), ids=lambda row: row["name"])
def test_trained_kernel_has_the_names_and_shapes_of_the_table(row):
    net = fw.MLP("linear", depth=2, width=40, n_out=2)
    kernel = fw.trained_kernel(net, [[1.0, 2.0], [-1.0, 0.5]], [[1.0, 0.0], [0.0, 1.0]])
    assert getattr(kernel, row["name"].strip("`")).dims == tuple(re.findall(r"\w+", row["shape"]))


def test_quadratic_model_has_the_names_of_the_table():
    model = fw.QuadraticModel(np.eye(2), np.zeros((2, 2, 2)))
    given = model.trained([1.0], train=[0])
    for row in table("What `finitewidth.QuadraticModel` is and gives"):
        name, shape = row["name"].strip("`"), tuple(re.findall(r"\w+", row["shape"]))
        assert model.meta_kernel.shape == (2, 2, 2) if name == "meta_kernel" else getattr(given, name).dims == shape


@pytest.mark.parametrize("row", table("What `finitewidth.predict` returns"), ids=lambda row: row["name"])
def test_prediction_has_the_names_and_shapes_of_the_table(prediction, row):
    for name in re.findall(r"`([^`]+)`", row["name"]):
        assert getattr(prediction, name).dims == tuple(re.findall(r"\w+", row["shape"]))


@pytest.mark.parametrize("row", table("What `finitewidth.ensemble` estimates"), ids=lambda row: row["name"])
def test_observables_have_the_axes_of_the_table(row):
    made = re.fullmatch(r"`(\w+)\((.*)\)`", row["name"])
    arguments = [ast.literal_eval(made[2])] if made[2] else []
    assert getattr(fw.observables, made[1])(*arguments).dims == tuple(re.findall(r"\w+", row["shape"]))


def test_observables_of_trained_networks_are_those_of_the_table():
    rows = {row["name"].strip("`"): row["shape"] for row in table("What `finitewidth.Training` adds")}
    assert rows.keys() == TRAINED.keys()
    for name, shape in rows.items():
        assert TRAINED[name].dims == (() if shape == "one" else tuple(re.findall(r"\w+", shape)))


@pytest.fixture(scope="module")
def prediction_at_order_1():
    return fw.predict(fw.MLP("tanh", depth=2, width=16, C_b=0.1, C_W=1.2), [[1.0, 2.0]], [1.0], [[0.0, 1.0]])


@pytest.mark.parametrize("row", table("What a prediction of order 1 adds"), ids=lambda row: row["name"])
def test_order_1_adds_the_names_and_shapes_of_the_table(prediction_at_order_1, row):
    for name in re.findall(r"`([^`]+)`", row["name"]):
        found = getattr(prediction_at_order_1, name)
        if callable(found):
            found = found([2.0]).error if name == "test_error" else found()
        assert found.dims == tuple(re.findall(r"\w+", row["shape"].removesuffix("each")))


@pytest.mark.parametrize("name", names("What `finitewidth.learning_rates` returns"))
def test_learning_rates_have_the_names_of_the_table(name):
    assert len(getattr(fw.learning_rates(fw.MLP("tanh", depth=3)), name)) == 3


@pytest.mark.parametrize("name", names("What the report adds"))
def test_report_has_the_names_of_the_table(name):
    place = Side
    for attribute in name.split("."):
        place = get_type_hints(place)[attribute]


@pytest.mark.parametrize("heading", re.findall(r"^## (.+)$", NOTATION.read_text(encoding="utf-8"), flags=re.MULTILINE))
def test_every_row_is_complete(heading):
    for row in table(heading):
        assert row["1/n"] in {"–", "0", "1"}
        assert re.fullmatch(r"PDLT (ch\. (\d+|∞)|App\. B)", row["source"])
