"""The command line, in this process (fast) and as a process of its own (what a user sees)."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

import finitewidth
from finitewidth.frontends.cli import main

SMALL = ("--depth", "3", "--width", "16", "--inputs", "20")


def run(arguments: Sequence[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    code = main(list(arguments))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def process(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "finitewidth", *arguments],
        capture_output=True,
        text=True,
        encoding="utf-8",
        env={**os.environ, "COLUMNS": "100", **environment},
    )


def strict(text: str) -> dict[str, object]:
    def refuse(constant: str) -> float:
        raise AssertionError(f"{constant} is not JSON")

    found: dict[str, object] = json.loads(text, parse_constant=refuse)
    assert found["finitewidth"] == finitewidth.__version__
    return found


@pytest.mark.parametrize("command", [[], ["report"], ["critical"], ["flow"], ["phase"], ["activations"], ["predict"]])
def test_help_imports_nothing_that_computes(command: list[str]) -> None:
    code = (
        "import sys\nfrom finitewidth.frontends.cli import main\n"
        f"assert main({[*command, '--help']!r}) == 0\n"
        "heavy = {'jax', 'numpy', 'scipy', 'matplotlib', 'xarray', 'pandas', 'sklearn'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "Examples:" in result.stdout and "finitewidth" in result.stdout
    assert result.stderr == ""


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"], capsys) == (0, f"{finitewidth.__version__}\n", "")


def test_critical_gelu(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(["critical", "gelu", "--json"], capsys)
    found = strict(out)
    assert code == 0
    keys = ["activation", "universality_class", "C_b", "C_W", "K_star", "chi_parallel", "chi_perp", "points", "reason"]
    assert set(keys) <= set(found)
    assert (found["activation"], found["universality_class"]) == ("gelu", "half-stable")
    numbers = [found[key] for key in ("C_b", "C_W", "K_star")]
    np.testing.assert_allclose(numbers, [0.17292239075606735, 1.9830582574375471, 3.5615528128088], rtol=1e-8)


def test_critical_without_a_point_has_nulls_and_a_reason(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(["critical", "sigmoid", "--json"], capsys)
    found = strict(out)
    assert code == 0 and found["universality_class"] == "none" and found["C_W"] is None and found["reason"]


@pytest.mark.parametrize("activation", ["relu", "tanh", "gelu", "sigmoid", "sign", "monomial(2)"])
def test_critical_in_words(activation: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(["critical", activation], capsys)
    assert code == 0 and out.startswith(f"{activation}: ") and "\x1b" not in out


FLOW = [
    "flow",
    "--activation",
    "tanh",
    "--depth",
    "4",
    "--width",
    "64",
    "--C-b",
    "0.2",
    "--C-W",
    "1.3",
    "--lambda-b",
    "0.5",
    "--lambda-W",
    "0.7",
    "--x2",
    "1.1",
]


def single_input_flow() -> tuple[float, float, float]:
    """K, Θ, V of layer 4 by the recursions of FACTS 2.6 and the trapezoid rule, which converges geometrically."""
    x = np.linspace(-12, 12, 4001)
    weights = np.exp(-x * x / 2) / np.sqrt(2 * np.pi) * (x[1] - x[0])
    K, Theta, V = 0.2 + 1.3 * 1.1, 0.5 + 0.7 * 1.1, 0.0
    for _ in range(3):
        z = np.sqrt(K) * x
        s, ds = np.tanh(z), 1 / np.cosh(z) ** 2
        chi = 1.3 * weights @ (z * s * ds) / K
        V = 1.3**2 * (weights @ s**4 - (weights @ s**2) ** 2) + chi**2 * V
        Theta = 0.5 + 0.7 * weights @ s**2 + 1.3 * weights @ ds**2 * Theta
        K = 0.2 + 1.3 * weights @ s**2
    return K, Theta, V


def test_flow_of_one_input_is_scalars(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run([*FLOW, "--json"], capsys)
    layers = strict(out)["layers"]
    assert code == 0 and isinstance(layers, list)
    assert [layer["layer"] for layer in layers] == [1, 2, 3, 4]
    last = layers[-1]
    np.testing.assert_allclose([last["K"], last["Theta"], last["V"]], single_input_flow(), rtol=1e-12)
    assert {"K", "Theta", "V", "chi_parallel", "chi_perp"} <= set(last)


def test_flow_of_several_inputs_is_nested_lists_and_netcdf(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import xarray as xr

    np.savetxt(tmp_path / "x.csv", [[1.0, 2.0], [0.5, -1.0], [3.0, 0.0]], delimiter=",")
    options = ["--data", str(tmp_path / "x.csv"), "--depth", "3", "--width", "8", "--init", "lecun"]
    code, out, _ = run(["flow", *options, "--out", str(tmp_path / "flow.nc"), "--json"], capsys)
    layers = strict(out)["layers"]
    assert code == 0 and isinstance(layers, list)
    assert np.shape(layers[2]["K"]) == (3, 3) and np.shape(layers[2]["V"]) == (3,)
    with xr.open_dataset(tmp_path / "flow.nc", engine="h5netcdf") as saved:
        np.testing.assert_array_equal(saved.K.values[2], layers[2]["K"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["flow.nc", "x.csv"]


def test_flow_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(FLOW, capsys)
    assert code == 0 and re.search(r"^4 +0\.61922358 +1\.9173945 ", out, flags=re.MULTILINE)


def test_lists_are_taken_layer_by_layer(capsys: pytest.CaptureFixture[str]) -> None:
    options = [
        "flow",
        "--activation",
        "relu",
        "--depth",
        "3",
        "--width",
        "8,6",
        "--C-b",
        "0,0.1,0.2",
        "--C-W",
        "1,2,3",
        "--x2",
        "1",
        "--json",
    ]
    layers = strict(run(options, capsys)[1])["layers"]
    assert isinstance(layers, list)
    np.testing.assert_allclose([layer["K"] for layer in layers], [1.0, 1.1, 1.85], rtol=1e-12)


def test_activations(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(["activations", "--json"], capsys)
    rows = strict(out)["activations"]
    assert code == 0 and isinstance(rows, list)
    assert {"gelu", "tanh", "relu"} <= {row["name"] for row in rows}
    assert "leaky_relu(negative_slope)" in run(["activations"], capsys)[1]


def test_phase(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(["phase", "tanh", "--out", str(tmp_path / "tanh.svg"), "--json"], capsys)
    found = strict(out)
    assert code == 0 and found["activation"] == "tanh"
    cells, C_b, C_W = found["cells"], found["C_b"], found["C_W"]
    assert isinstance(cells, dict) and isinstance(C_b, list) and isinstance(C_W, list)
    assert np.shape(cells["chi_perp"]) == (len(C_b), len(C_W))
    assert (tmp_path / "tanh.svg").read_text().startswith("<?xml")
    tanh = run(["phase", "tanh"], capsys)[1]
    assert "On this line gradients" in tanh and "run away" not in tanh
    gelu = " ".join(run(["phase", "gelu"], capsys)[1].split())
    assert "but where χ∥ > 1 they run away from K*" in gelu  # below K* its fixed points are unstable


def test_report_as_json_with_pictures_and_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["report", *SMALL, "--out", str(tmp_path / "pictures"), "--html", str(tmp_path / "report.html"), "--json"]
    code, out, err = run(options, capsys)
    found = strict(out)
    assert code == 0 and (tmp_path / "pictures" / "report.png").exists()
    assert "Page: " in err
    assert found["command"] == "finitewidth " + " ".join(options)
    assert found["command"] in (tmp_path / "report.html").read_text().replace("&#x27;", "'")
    network = found["network"]
    assert isinstance(network, dict)
    assert network["lambda_b"] == [1.0] * 3 and network["lambda_W"] == [64.0, 16.0, 16.0]  # plain SGD


@pytest.mark.parametrize(
    "init", ["torch", "critical", *(pytest.param(n, marks=pytest.mark.slow) for n in ("kaiming", "xavier", "lecun"))]
)
def test_every_initialisation_is_reported_on(init: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(["report", *SMALL, "--init", init, "--activation", "tanh"], capsys)
    assert code == 0 and init in out


def test_a_process_prints_plainly_into_a_pipe() -> None:
    result = process("report", *SMALL, "--activation", "relu", "--C-b", "0", "--C-W", "2")
    assert result.returncode == 0, result.stderr
    assert "\x1b" not in result.stdout + result.stderr
    assert result.stdout.startswith("Your initialisation: signals and gradients survive all 3 layers")
    assert all(line.startswith("finitewidth: ") and line.endswith(" …") for line in result.stderr.splitlines())


def test_an_old_terminal_gets_question_marks_not_a_traceback() -> None:
    result = process("critical", "tanh", PYTHONIOENCODING="ascii")
    assert result.returncode == 0 and "tanh: C_b = 0" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["report", "--activation", "gelo"], "did you mean 'gelu'"),
        (["report", "--depth", "2.5"], "`--depth` must be an integer ≥ 1, but got '2.5'"),
        (["report", "--depth", "0"], "`--depth` must be an integer ≥ 1, but got '0'"),
        (["report", "--width", "-3"], "`--width` must be an integer ≥ 1, or several with commas, but got '-3'"),
        (["report", "--depth", "3", "--width", "4,5,6"], "`width` has 3 entries, but depth 3 has 2 hidden layers"),
        (["report", "--C-b", "-1", "--C-W", "2"], "`C_b` must be a finite number ≥ 0, but got -1.0"),
        (
            ["report", "--C-b", "x", "--C-W", "2"],
            "`--C-b` must be a number ≥ 0, or one per layer with commas, but got 'x'",
        ),
        (["report", "--C-b", "1"], "`--C-b` is given without `--C-W`"),
        (["report", "--C-W", "1"], "`--C-W` is given without `--C-b`"),
        (["report", "--C-b", "0", "--C-W", "1", "--init", "torch"], "give one of them"),
        (["report", "--init", "kaming"], "did you mean 'kaiming'?"),
        (["report", "--lambda-W", "-2"], "`lambda_W` must be a finite number ≥ 0"),
        (["report", "--n-out", "0"], "`--n-out` must be an integer ≥ 1, but got '0'"),
        (["report", "--inputs", "none"], "`--inputs` must be an integer ≥ 1, but got 'none'"),
        (["report", "--data", "nothing.csv"], "'nothing.csv' does not exist"),
        (["report", "--data", "digits.txt"], "has the ending '.txt'"),
        (["report", "--depht", "3"], "Did you mean --depth?"),
        (["report", "extra"], "extra"),
        (["report", "--out"], "--out requires an argument"),
        (["report", "--html", "."], "`--html` '.' is a directory; give the name of a file in it"),
        (["report", "--out", __file__], "cannot be written"),  # said before the flow, not after
        (["report", "--html", f"{__file__}/report.html"], "cannot be written"),
        (["repot"], 'Did you mean "report"?'),
        (["critical"], "ACTIVATION"),
        (["critical", "softmax"], "mixes neurons"),
        (["flow", "--x2", "-1"], "`--x2` must be a finite number > 0, but got '-1'"),
        (["flow", "--x2", "nan"], "`--x2` must be a finite number > 0, but got 'nan'"),
        (["flow", "--x2", "1", "--data", "digits"], "`--x2` and `--data` both give the input"),
        (["flow", "--order", "7"], "`order` must be"),
        (["flow", "--depth", "2", "--width", "4", "--out", "flow.csv"], "`--out` must end in .nc, but got 'flow.csv'"),
        (["flow", "--activation", "exp", "--C-b", "0", "--C-W", "3", "--x2", "2"], "layer"),
        (["phase", "tanh", "--out", "tanh.doc"], "`--out` must end in .png, .svg or .pdf, but got 'tanh.doc'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_one_line_and_exit_code_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(arguments, capsys)
    lines = [line for line in err.splitlines() if not line.endswith(" …")]
    assert code == 2 and out == "" and len(lines) == 1, err
    assert lines[0].startswith("finitewidth: ") and message in lines[0]


def test_a_folder_that_cannot_be_written_is_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("in the way")
    code, _, err = run(["report", *SMALL, "--out", str(tmp_path / "file" / "pictures")], capsys)
    assert code == 2 and "cannot be written" in err


def test_text_columns_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.csv").write_text("a,b\n1,red\n2,blue\n")
    code, _, err = run(["report", "--data", str(tmp_path / "x.csv")], capsys)
    assert code == 2 and "'b' (such as 'red')" in err


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_ctrl_c_ends_in_130() -> None:
    for patience in (1.0, 3.0, 9.0):
        running = subprocess.Popen(
            [sys.executable, "-m", "finitewidth", "report"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        time.sleep(patience)
        running.send_signal(signal.SIGINT)
        _, err = running.communicate(timeout=60)
        if running.returncode != -signal.SIGINT:  # else a busy machine had not come to our code
            break
    assert running.returncode == 130 and "Traceback" not in err and err.endswith("finitewidth: stopped\n")


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_ctrl_c_that_a_garbage_collection_swallows_still_ends_in_130() -> None:
    swallow = """
import gc, os, signal, sys, time
from finitewidth.frontends import cli
def run(arguments):
    gc.callbacks.append(lambda phase, _: phase == "start" and os.kill(os.getpid(), signal.SIGINT))
    gc.collect()  # the exception is raised where nobody can catch it
    gc.callbacks.clear()
    time.sleep(30)
cli._run = run
sys.exit(cli.main(["activations"]))
"""
    result = subprocess.run([sys.executable, "-c", swallow], capture_output=True, text=True, timeout=60)
    assert result.returncode == 130 and result.stderr == "finitewidth: stopped\n"


@pytest.mark.skipif(os.name == "nt", reason="pipes")
def test_a_reader_that_leaves_is_no_error() -> None:
    command = f"{sys.executable} -m finitewidth activations | head -1"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert result.returncode == 0 and result.stdout.startswith("name") and "Error" not in result.stderr
