"""`finitewidth predict`: what it writes is what `fw.predict` says; real networks are trained as told; bad input."""

import csv
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import finitewidth as fw
from finitewidth.experiments.courses import course
from finitewidth.experiments.trained_outputs import trained_outputs
from finitewidth.frontends.cli import main
from finitewidth.frontends.prediction import Answer, is_short, not_small, read_tables

RNG = np.random.default_rng(8)
CHEAP = ("--activation", "relu", "--steps", "20", "--networks", "2", "--width", "8")


@pytest.fixture
def files(tmp_path):
    def written(columns):
        names = [f"u{i}" for i in range(columns)]
        frames = []
        for rows in (14, 9):
            frame = pd.DataFrame(RNG.standard_normal((rows, columns)) + 2.0, columns=names)
            frame["y"] = 30 + 7 * np.sin(frame["u0"])
            frames.append(frame)
        frames[0].to_csv(tmp_path / "train.csv", index=False)
        frames[1][[*reversed(names), "y"]].to_csv(tmp_path / "test.csv", index=False)
        return str(tmp_path / "train.csv"), str(tmp_path / "test.csv"), frames

    return written


def run(arguments, capsys):
    code = main([str(each) for each in arguments])
    captured = capsys.readouterr()
    return code, captured.out, [line for line in captured.err.splitlines() if not line.endswith(" …")]


def test_numbers_are_those_of_predict_on_standardised_data(files, tmp_path, capsys):
    train, test, (one, two) = files(2)
    options = ["--activation", "relu", "--width", "32", "--C-b", "0.1", "--C-W", "1.5", "--step", "0.02"]
    command = ["predict", train, test, "--target", "y", *options, "--steps", "30", "--out", tmp_path / "out", "--json"]
    code, out, err = run([*command, "--networks", "3"], capsys)
    found = json.loads(out)
    assert code == 0 and err == [] and found["order"] == 0
    x, y = one[["u0", "u1"]].to_numpy(), one["y"].to_numpy()

    def seen(frame):
        return np.column_stack([(frame[["u0", "u1"]] - x.mean(0)) / x.std(0), np.ones(len(frame))])

    net = fw.MLP("relu", depth=3, width=32, n_in=3, C_b=0.1, C_W=1.5)
    algorithm = fw.GradientDescent(0.02, 30)
    p = fw.predict(net, seen(one), (y - y.mean()) / y.std(), seen(two), algorithm=algorithm, order=0)
    mean = p.mean.values[:, 0] * y.std() + y.mean()
    np.testing.assert_allclose([row["mean"] for row in found["predictions"]], mean, rtol=1e-10)
    std = [row["std"] for row in found["predictions"]]
    np.testing.assert_allclose(std, p.std.values[:, 0] * y.std(), rtol=1e-8)
    np.testing.assert_allclose(found["rms_error"], np.sqrt(np.mean((mean - two["y"]) ** 2)), rtol=1e-10)
    assert np.shape(found["real_networks"]) == (3, 9)
    with (tmp_path / "out" / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["mean"]) for row in rows] == [row["mean"] for row in found["predictions"]]
    assert [float(row["y"]) for row in rows] == two["y"].tolist()
    assert (tmp_path / "out" / "prediction.png").read_bytes().startswith(b"\x89PNG")


def test_raw_leaves_units_alone(files, capsys):
    train, test, (one, two) = files(1)
    command = ["predict", train, test, "--target", "y", "--activation", "relu", "--algorithm", "bayes", "--noise", "2"]
    code, out, _ = run([*command, "--raw", "--C-b", "0", "--C-W", "2", "--json", "--order", "0"], capsys)
    found = json.loads(out)
    net = fw.MLP("relu", depth=3, width=64, n_in=2, C_W=2.0)
    x, new = (np.column_stack([frame["u0"], np.ones(len(frame))]) for frame in (one, two))
    p = fw.predict(net, x, one["y"].to_numpy(), new, algorithm=fw.Bayes(2.0), order=0)
    np.testing.assert_allclose([row["mean"] for row in found["predictions"]], p.mean.values[:, 0], rtol=1e-10)
    assert code == 0 and found["real_networks"] is None and "no real networks" in found["notes"][-1]


@pytest.mark.parametrize("columns", [1, 3])
def test_table_picture_and_defaults(columns, files, tmp_path, capsys, monkeypatch):
    train, test, _ = files(columns)
    monkeypatch.chdir(tmp_path)
    code, out, err = run(["predict", train, test, "--target", "y", *CHEAP], capsys)
    assert code == 0 and err == []
    assert "GradientDescent(step=" in out and "steps=20)" in out and "Note: infinite width" in out
    assert (tmp_path / "prediction" / "prediction.png").stat().st_size > 10_000
    assert sorted(path.name for path in (tmp_path / "prediction").iterdir()) == ["prediction.png", "predictions.csv"]


def test_the_target_may_be_unknown(files, tmp_path, capsys):
    train, test, (_, two) = files(1)
    two[["u0"]].to_csv(test, index=False)
    code, out, _ = run(["predict", train, test, "--target", "y", *CHEAP, "--out", tmp_path / "out"], capsys)
    assert code == 0 and "Root mean square" not in out
    assert "y" not in (tmp_path / "out" / "predictions.csv").read_text().splitlines()[0].split(",")


@pytest.mark.parametrize("blank", [slice(None), slice(0, 9, 2)], ids=["all", "some"])
def test_the_target_may_be_blank(blank, files, tmp_path, capsys):
    train, test, (_, two) = files(1)
    known = two["y"].copy()
    two.loc[two.index[blank], "y"] = np.nan
    two.to_csv(test, index=False)
    command = ["predict", train, test, "--target", "y", *CHEAP, "--out", tmp_path / "out"]
    code, out, err = run(command, capsys)
    written = pd.read_csv(tmp_path / "out" / "predictions.csv")
    assert code == 0 and err == [] and written["mean"].notna().all() and "nan" not in out
    if blank == slice(None):
        assert "Root mean square" not in out and "y" not in written
    else:
        assert "over the 4 rows that have one" in out
        np.testing.assert_array_equal(written["y"].isna(), two["y"].isna())
        found = json.loads(run([*command, "--json"], capsys)[1])
        rows = [row for row in found["predictions"] if row["y"] is not None]
        assert [row["y"] for row in rows] == known[1::2].tolist()
        off = [row["mean"] - row["y"] for row in rows]
        np.testing.assert_allclose(found["rms_error"], np.sqrt(np.mean(np.square(off))), rtol=1e-12)


def test_blanks_elsewhere_are_refused(files, capsys):
    train, test, (one, _) = files(1)
    one.loc[[0, 3], "y"] = np.nan
    one.to_csv(train, index=False)
    code, _, err = run(["predict", train, test, "--target", "y"], capsys)
    assert code == 2 and "column 'y' and in 1 more place (rows" in err[0]


def test_markers_at_both_ends_are_whole(files, tmp_path, capsys, monkeypatch):
    from finitewidth.report import canvas

    train, test, _ = files(1)
    seen, draw = [], canvas.to_png
    monkeypatch.setattr(canvas, "to_png", lambda figure: seen.append(figure) or draw(figure))
    run(["predict", train, test, "--target", "y", *CHEAP, "--out", tmp_path / "out"], capsys)
    axes = seen[0].axes[0]
    low, high = axes.get_xlim()
    inputs = np.concatenate([pd.read_csv(each)["u0"] for each in (train, test)])
    radius = 5 / axes.bbox.width * (high - low)  # of a marker, in pixels
    assert low + radius < inputs.min() and inputs.max() < high - radius


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--target", "z"], "`--target` 'z' is no column of"),
        ([], "--target"),
        (["--target", "y", "--depth", "0"], "`--depth` must be an integer ≥ 1, but got '0'"),
        (["--target", "y", "--activation", "gelo"], "did you mean 'gelu'"),
        (["--target", "y", "--order", "2"], "`--order` must be 0 or 1, but got '2'"),
        (["--target", "y", "--algorithm", "adam"], "`--algorithm` must be one of descent, flow, bayes"),
        (["--target", "y", "--noise", "0.1"], "`--noise` goes with `--algorithm bayes`"),
        (["--target", "y", "--algorithm", "flow", "--step", "1"], "`--step` goes with `--algorithm descent`"),
        (["--target", "y", "--step", "1e3"], "`step` must be below 2/λ_max"),
        (["--target", "y", "--step", "-1"], "`step` must be a finite number ≥ 0"),
        (["--target", "y", "--C-W", "x"], "`--C-W` must be a number"),
        (["--target", "y", "--networks", "-1"], "`--networks` must be an integer ≥ 0"),
        (["--target", "y", "--algorithm", "flow", "--time", "1,2"], "`--time` must be one number"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_one_line_and_exit_code_2(options, message, files, capsys):
    train, test, _ = files(1)
    code, out, err = run(["predict", train, test, *options], capsys)
    assert code == 2 and out == "" and len(err) == 1, err
    assert message in err[0]


def test_a_place_that_cannot_be_written_is_said_before_anything_is_computed(files, capsys, monkeypatch):
    train, test, _ = files(1)
    monkeypatch.setattr("finitewidth.frontends.prediction.predict_tables", None)  # not called
    code, out, err = run(["predict", train, test, "--target", "y", "--out", train], capsys)
    assert code == 2 and out == "" and len(err) == 1
    assert f"`--out` {train!r} cannot be written (File exists); give another directory" in err[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("u0,u2\n1,2\n", "lacks 'u1' and has 'u2', which training does not"),
        ("u0,u1\n1,\n", "must be finite, but has nan at row 0, column 'u1'"),
        ("u0,u1\n1,a\n", "has text in column 'u1'"),
        ("", "is empty (0 bytes)"),
    ],
)
def test_files_that_do_not_fit(text, message, files, capsys):
    train, test, _ = files(2)
    Path(test).write_text(text)
    code, _, err = run(["predict", train, test, "--target", "y"], capsys)
    assert code == 2 and len(err) == 1 and message in err[0]


def test_an_input_of_zero_is_one_like_others(files, tmp_path, capsys):
    train, test, _ = files(1)
    Path(test).write_text("u0\n0\n1\n")
    code, out, err = run(["predict", train, test, "--target", "y", *CHEAP, "--out", tmp_path / "out"], capsys)
    assert code == 0 and err == [] and "mean ± std" in out


def test_a_correction_that_is_none_is_said():
    infinite = Answer(np.zeros(4), np.ones(4))
    assert not_small(Answer(np.full(4, 0.8), np.ones(4)), infinite, 2.0) == ""
    assert "by 0.6 standard deviations" in not_small(Answer(np.full(4, 1.2), np.ones(4)), infinite, 2.0)
    assert "makes 2 variances negative" in not_small(Answer(np.zeros(4), np.array([0, 1, 0, 1])), infinite, 2.0)


def test_columns_are_matched_by_name(files):
    train, test, (_, two) = files(3)
    names, _, table = read_tables(train, test, "y")
    np.testing.assert_array_equal(table.features, two[list(names)].to_numpy())


def linear_problem():
    """One layer of weights: training is linear in the parameters, and every network follows the theory exactly."""
    net = fw.MLP("linear", depth=1, n_in=2, C_b=0.3, C_W=0.8, lambda_b=0.7, lambda_W=1.1)
    x = RNG.standard_normal((2, 2))
    return net, x, RNG.standard_normal((2, 1)), RNG.standard_normal((4, 2))


@pytest.mark.parametrize(
    "algorithm", [fw.GradientDescent(0.1, 17), fw.Momentum(0.05, 12, 0.8), fw.GradientFlow(time=1.3)]
)
def test_real_networks_are_trained_as_told(algorithm):
    """Of linear networks z(t) − z(0) is minus the gain times the residual at the start, which no step at all shows."""
    net, x, y, new = linear_problem()
    after, before = (
        trained_outputs(net, x, y, np.vstack([x, new]), course=course(each, inputs=2), networks=5, seed=1)[:, -1]
        for each in (algorithm, fw.GradientDescent(0.1, 0))
    )
    p = fw.predict(net, x, np.eye(2)[:, :1], np.vstack([x, new]), algorithm=algorithm, order=0)
    q = fw.predict(net, x, np.eye(2)[:, 1:], np.vstack([x, new]), algorithm=algorithm, order=0)
    gain = np.concatenate([p.mean.values, q.mean.values], axis=1)
    expected = before[..., 0] - (before[:, :2, 0] - y[:, 0]) @ gain.T
    np.testing.assert_allclose(after[..., 0], expected, atol=1e-5 if isinstance(algorithm, fw.GradientFlow) else 1e-12)


def test_what_is_not_carried_out_in_steps():
    assert is_short(fw.GradientDescent(0.1, 100), 1.0) and is_short(fw.GradientFlow(3.0), 1.0)
    for algorithm in (fw.Bayes(0.1), fw.GradientFlow(), fw.GradientFlow(1e6), fw.GradientDescent(0.1)):
        assert not is_short(algorithm, 1.0)
