"""`finitewidth ensemble`: from a file to a ledger to a comparison, and what is refused."""

import json

import pytest

from finitewidth.frontends.cli import main

SPEC = """
[network]
activation = "tanh"
depth = 3
width = {width}
C_W = 1.3

[inputs]
x = [[1.0, 0.3]]

[ensemble]
observables = ["K", "V", {{ kind = "moment", pattern = "ii", layer = 1 }}]
n_networks = 3000
draw = "layers"
workers = 1
"""


@pytest.fixture
def spec(tmp_path):
    path = tmp_path / "spec.toml"
    path.write_text(SPEC.format(width=32))
    return path


def answer(capsys, *arguments):
    assert main([str(each) for each in arguments]) == 0
    return json.loads(capsys.readouterr().out)


def refusal(capsys, *arguments):
    assert main([str(each) for each in arguments]) == 2
    return capsys.readouterr().err


def test_run_status_resume_compare(spec, tmp_path, capsys):
    ledger = tmp_path / "spec.db"
    first = answer(capsys, "ensemble", "run", spec, "--networks", 1000, "--json")
    assert first["n_networks"] == 1000 and first["estimates"]["V"]["dims"] == ["a", "b", "c", "d"]
    assert answer(capsys, "ensemble", "status", ledger, "--json")["done"] == 1000
    again = answer(capsys, "ensemble", "resume", ledger, "--networks", 3000, "--json")
    assert again["n_networks"] == 3000
    straight = answer(capsys, "ensemble", "run", spec, "--path", tmp_path / "straight.db", "--json")
    assert straight["estimates"] == again["estimates"]
    compared = answer(capsys, "ensemble", "compare", ledger, "--json")
    rows = {row["name"]: row for row in compared["rows"]}
    assert rows.keys() == {"K", "V"}
    assert abs(rows["K"]["z"]) < 6 and 0.8 < rows["V"]["experiment"] / rows["V"]["theory"] < 1.2
    assert main(["ensemble", "compare", str(ledger)]) == 0
    assert "left out" in capsys.readouterr().out
    assert main(["ensemble", "status", str(ledger)]) == 0
    assert "3,000 of 3,000 networks" in capsys.readouterr().out
    assert answer(capsys, "ensemble", "run", spec, "--networks", 1000, "--json")["estimates"] == first["estimates"]
    assert main(["ensemble", "status", str(ledger)]) == 0
    assert "3,000 networks, of which 1,000 were asked for last" in capsys.readouterr().out
    assert answer(capsys, "ensemble", "resume", ledger, "--json")["n_networks"] == 3000


def test_runs_at_several_widths_are_extrapolated(tmp_path, capsys):
    ledgers = []
    for width in (8, 16, 32):
        spec = tmp_path / f"{width}.toml"
        spec.write_text(SPEC.format(width=width))
        answer(capsys, "ensemble", "run", spec, "--json")
        ledgers.append(tmp_path / f"{width}.db")
    compared = answer(capsys, "ensemble", "compare", *ledgers, "--json")
    assert compared["widths"] == [8, 16, 32]
    assert {row["name"] for row in compared["rows"]} == {"K", "G1", "V"}


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("width", "widht", "unknown key in [network]: 'widht'; did you mean 'width'?"),
        ("[inputs]", "[input]", "unknown section: 'input'; did you mean 'inputs'?"),
        ("pattern", "patern", "unknown key of the observable moment: 'patern'; did you mean 'pattern'?"),
        ('kind = "moment"', 'kind = "momnt"', "unknown kind of observable: 'momnt'; did you mean 'moment'?"),
        ("n_networks = 3000", "", "has no n_networks in [ensemble]"),
        ("x = [[1.0, 0.3]]", "", "needs one of data and x"),
        ("depth = 3", "depth = ", "is not TOML"),
        ("depth = 3", "depth = 0", "`depth` must be an integer ≥ 1"),
        ("x = [[1.0, 0.3]]", 'data = "digits"\nrows = [1797]', "rows must be a list of numbers from 0 to 1796"),
    ],
)
def test_specs_that_cannot_be_are_refused(spec, capsys, before, after, message):
    spec.write_text(spec.read_text().replace(before, after, 1))
    assert message in refusal(capsys, "ensemble", "run", spec)


def test_files_that_are_not_there_are_refused(tmp_path, capsys):
    assert "cannot be read" in refusal(capsys, "ensemble", "run", tmp_path / "none.toml")
    assert "does not exist" in refusal(capsys, "ensemble", "status", tmp_path / "none.db")
    assert "does not exist" in refusal(capsys, "ensemble", "resume", tmp_path / "none.db")
    assert "is missing" in refusal(capsys, "ensemble", "compare")
