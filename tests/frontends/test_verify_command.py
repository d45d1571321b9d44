"""`finitewidth verify`, as networks are drawn and after training: options and exit codes."""

import json

import pytest

from finitewidth.compare import Comparison, TrainedVerification
from finitewidth.errors import InputError
from finitewidth.frontends.cli import main
from finitewidth.frontends.verify_command import AfterTraining


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--time", "3"], "`--time` goes with --trained, but got '3'"),
        (["--trained", "--x2", "1"], "`--x2` goes without --trained"),
        (["--trained", "--tensors", "V"], "`--tensors` goes without --trained"),
        (["--trained", "--time", "3", "--steps", "4"], "`--time` goes with gradient flow"),
        (["--trained", "--step", "-1"], "`--step` must be a finite number > 0"),
        (["--trained", "--networks", "10"], "`n_networks` must be at least 200"),
        (["--trained", "--train", "a.csv"], "`--test` is missing; --train, --test and --target go together"),
        (["--trained", "--step", "50"], "`step` must be below 2/λ_max"),
    ],
)
def test_options_that_do_not_go_together(arguments, message, capsys):
    assert main(["verify", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_table_to_learn_from(tmp_path):
    train, test = tmp_path / "train.csv", tmp_path / "test.csv"
    train.write_text("u,v,y\n0.1,0.2,1\n-0.3,0.4,-1\n")
    test.write_text("v,u\n0.5,0.6\n")
    x, y, asked = AfterTraining(train=str(train), test=str(test), target="y").problem()
    assert x.tolist() == [[0.1, 0.2], [-0.3, 0.4]] and y.tolist() == [1, -1] and asked.tolist() == [[0.6, 0.5]]
    with pytest.raises(InputError, match="is no column"):
        AfterTraining(train=str(train), test=str(test), target="z").problem()


@pytest.mark.parametrize(
    ("theory", "code", "words"), [(1.0, 0, "Agreement in all 1"), (2.0, 1, "Contradiction in 1 of 1")]
)
def test_a_contradiction_is_exit_code_1(theory, code, words, capsys, monkeypatch):
    """What was found is made up; how it is told is not."""

    def found(net, *_problem, algorithm, **_options):
        row = Comparison("mean_first_order", (0, 0), theory, 1.0, 0.1)
        return TrainedVerification(
            net=net, rows=(row,), n_networks=200, trained=1, algorithm=algorithm, widths=(8, 16, 32),
            detectable={"dNTK": 0.5}, fit=1e-9,
        )  # fmt: skip

    monkeypatch.setattr("finitewidth.compare.verify_trained", found)
    assert main(["verify", "--trained", "--time", "2"]) == code
    told = capsys.readouterr().out
    assert words in told and "mean train 0" in told and "series has not set in" in told


@pytest.mark.slow
def test_trained_networks_end_to_end(capsys):
    few = ["verify", "--trained", "--networks", "256", "--widths", "16,32", "--degree", "1", "--steps", "3"]
    assert main([*few, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["passed"] and len(found["rows"]) == 2 * (4 + 10) and set(found["detectable"]) > {"NTK", "dNTK"}
    assert main(few) == 0
    assert "Agreement in all 28 numbers" in capsys.readouterr().out
