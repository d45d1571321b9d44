"""`finitewidth ensemble` with a section [training]: from a file to a ledger to a comparison, and what is refused."""

import json

import pytest

import finitewidth as fw
from finitewidth.frontends.cli import main
from finitewidth.frontends.ensemble_spec import Spec
from finitewidth.frontends.training_spec import ALGORITHMS, algorithm

SPEC = """
[network]
activation = "tanh"
depth = 2
width = 16
C_b = 0.2
C_W = 1.5

[training]
x = [[1.0, 0.2], [-0.5, 0.9]]
y = [0.5, -0.3]
algorithm = "descent"
step = 0.1
steps = 20
times = [5, 20]

[inputs]
x = [[1.0, 0.2], [0.4, 0.4]]

[ensemble]
observables = ["mean", "covariance", "loss", { kind = "cumulant", pattern = "ii", name = "variance" }]
n_networks = 600
workers = 1
"""


@pytest.fixture
def spec(tmp_path):
    path = tmp_path / "spec.toml"
    path.write_text(SPEC)
    return path


def answer(capsys, *arguments):
    assert main([str(each) for each in arguments]) == 0
    return json.loads(capsys.readouterr().out)


def test_run_status_resume_compare(spec, tmp_path, capsys):
    ledger = tmp_path / "spec.db"
    first = answer(capsys, "ensemble", "run", spec, "--networks", 200, "--json")
    assert first["estimates"]["mean"]["dims"] == ["time", "output", "a"]
    described = answer(capsys, "ensemble", "status", ledger, "--json")
    assert described["done"] == 200 and described["description"]["times"] == ["5", "20"]
    again = answer(capsys, "ensemble", "resume", ledger, "--networks", 600, "--json")
    straight = answer(capsys, "ensemble", "run", spec, "--path", tmp_path / "straight.db", "--json")
    assert again["n_networks"] == 600 and straight["estimates"] == again["estimates"]
    estimates = again["estimates"]
    assert estimates["loss"]["value"][1] < estimates["loss"]["value"][0]
    covariance = estimates["covariance"]["value"]
    for t in (0, 1):  # of a single output the two say the same
        assert estimates["variance"]["value"][t][0][1] == pytest.approx(covariance[t][0][0][0][1], rel=1e-6)
    compared = answer(capsys, "ensemble", "compare", ledger, "--order", 0, "--json")
    assert compared["order"] == 0 and {(row["name"], row["time"]) for row in compared["rows"]} == {
        (name, time) for name in ("mean", "covariance") for time in (5.0, 20.0)
    }
    assert main(["ensemble", "status", str(ledger)]) == 0
    assert "algorithm: GradientDescent(step=0.1, steps=20)" in capsys.readouterr().out


def test_training_changed_is_another_run(spec, tmp_path, capsys):
    answer(capsys, "ensemble", "run", spec, "--networks", 8, "--json")
    spec.write_text(SPEC.replace("step = 0.1", "step = 0.2"))
    assert main(["ensemble", "run", str(spec), "--networks", "8"]) == 2
    assert "holds another run: its algorithm is" in capsys.readouterr().err


def test_examples_may_come_from_data_and_inputs_be_left_out(tmp_path):
    table = tmp_path / "table.csv"
    table.write_text("u,v,y\n1.0,0.2,0.5\n-0.5,0.9,-0.3\n0.3,0.3,0.1\n")
    contents = {
        "network": {"activation": "tanh", "depth": 2, "width": 8},
        "training": {"data": str(table), "target": "v", "rows": [0, 2], "step": 0.1, "steps": 3, "algorithm": "adam"},
        "ensemble": {"n_networks": 4, "workers": 1},
    }
    kept = Spec.checked("a.toml", contents).to_json()
    assert kept["inputs"]["x"] == kept["training"]["x"] == [[1.0, 0.5], [0.3, 0.1]]
    assert kept["training"]["y"] == [0.2, 0.3] and kept["training"].keys() >= {"algorithm", "step", "steps"}
    assert Spec.checked("a.db", kept).to_json() == kept
    table.unlink()  # a ledger's spec does not need the file
    found = Spec.checked("a.db", kept).run(
        path=tmp_path / "a.db", n_networks=None, engine=None, workers=None, progress=None
    )
    assert list(found.estimate) == ["mean", "covariance"] and found.estimate["mean"].value.shape == (1, 1, 2)


def test_labels_of_digits_come_with_them():
    contents = {
        "network": {"activation": "tanh", "depth": 2, "n_out": 10},
        "training": {"data": "digits", "rows": [3, 1], "time": 1.0, "loss": "cross-entropy"},
        "ensemble": {"n_networks": 4},
    }
    kept = Spec.checked("a.toml", contents).to_json()
    assert kept["training"]["y"] == [3, 1] and len(kept["training"]["x"][0]) == 64


@pytest.mark.parametrize("name", ALGORITHMS)
def test_algorithms_take_the_parameters_that_they_have(name):
    values = {"time": 2.0, "step": 0.1, "steps": 7, "batch_size": 2, "momentum": 0.5, "beta1": 0.8, "beta2": 0.9}
    given = {key: each for key, each in {**values, "epsilon": 1e-6}.items() if key in ALGORITHMS[name]}
    made = algorithm("a.toml", {"algorithm": name, **given})
    assert {key: getattr(made, key) for key in ALGORITHMS[name]} == given


def test_gradient_flow_to_its_end_where_nothing_is_said():
    assert algorithm("a.toml", {}) == fw.GradientFlow()


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("times =", "tims =", "unknown key in [training]: 'tims'; did you mean 'times'?"),
        ("[training]", "[trainin]", "unknown section: 'trainin'; did you mean 'training'?"),
        ('"descent"', '"descnt"', "unknown algorithm in [training]: 'descnt'; did you mean 'descent'?"),
        ("steps = 20", "time = 2.0", "has time in [training], which goes with the algorithm 'flow'"),
        ("step = 0.1\n", "", "has no step in [training], which 'descent' needs"),
        ("step = 0.1", "step = -0.1", "`step` must be a finite number ≥ 0"),
        ("y = [0.5, -0.3]", "", "has no targets in [training]; add y"),
        ("y = [0.5, -0.3]", "y = [0.5]", "`y_train` must have one row for each of the 2 inputs"),
        ("y = [0.5, -0.3]", 'y = ["a", "b"]', "y in [training] must be lists of numbers"),
        ("y = [0.5, -0.3]", 'target = "y"', "has target in [training], which chooses from data, beside x"),
        ("x = [[1.0, 0.2], [-0.5, 0.9]]\ny = [0.5, -0.3]", 'data = "digits"\ntarget = "y"', "the labels of digits"),
        ("times = [5, 20]", "times = [5, 21]", "`times` must be numbers of steps from 0 to"),
        ("times = [5, 20]", 'loss = "msr"', "`loss` must be 'mse' or 'cross-entropy'"),
        ('"mean", "cov', '"maen", "cov', "did you mean 'mean'?"),
        ('"mean", "cov', '"V", "cov', "a tensor of networks at initialisation"),
        ("workers = 1", 'draw = "layers"', "`training` trains networks with all their weights"),
    ],
)
def test_specs_that_cannot_be_are_refused(spec, capsys, before, after, message):
    assert before in SPEC
    spec.write_text(SPEC.replace(before, after, 1))
    assert main(["ensemble", "run", str(spec)]) == 2
    assert message in capsys.readouterr().err


def test_comparisons_that_cannot_be_are_refused(spec, tmp_path, capsys):
    ledger = tmp_path / "spec.db"
    answer(capsys, "ensemble", "run", spec, "--networks", 8, "--json")
    assert main(["ensemble", "compare", str(ledger), str(ledger)]) == 2
    assert "compared one at a time" in capsys.readouterr().err
    assert main(["ensemble", "compare", str(ledger), "--order", "2"]) == 2
    assert "`--order` must be 0 or 1" in capsys.readouterr().err
