"""`finitewidth inspect`: in this process, on modules written for the occasion."""

import json
import subprocess
import sys

import pytest

pytest.importorskip("torch")

from finitewidth.frontends.cli import main

MODELS = """
from torch import nn

def build():
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 4))

def broken():
    raise RuntimeError("no such layer")

instance, number = build(), 3
"""


@pytest.fixture
def models(tmp_path, monkeypatch):
    (tmp_path / "models_of_mine.py").write_text(MODELS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "models_of_mine"
    sys.modules.pop("models_of_mine", None)


def run(arguments, capsys):
    code = main(["inspect", *arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_json_table_and_picture(models, tmp_path, capsys) -> None:
    options = ["--input-shape", "3,4", "--initialisations", "2", "--no-theory", "--out", "deep/picture.png"]
    code, out, _ = run([f"{models}:build", *options, "--json"], capsys)
    found = json.loads(out)
    assert code == 0 and [layer["name"] for layer in found["layers"]] == ["1", "3"]
    assert found["layers"][0]["K"]["standard_error"] > 0 and found["layers"][0]["chi"]["value"] is None
    assert (tmp_path / "deep/picture.png").read_bytes()[:4] == b"\x89PNG"
    code, out, _ = run([f"{models}:instance", *options], capsys)
    assert code == 0 and "Gradients" in out and "Picture: deep/picture.png" in out and "\x1b" not in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["build"], "package.module:name"),
        (["models_of_mine:nobody"], "has no 'nobody'"),
        (["not_there:build"], "cannot be imported"),
        (["models_of_mine:number"], "is int"),
        (["models_of_mine:broken"], "RuntimeError: no such layer"),
        (["models_of_mine:build", "--inputs", "0"], "--inputs"),
        (["models_of_mine:build", "--out", "picture.jpeg"], "`--out` must end in"),
        (["models_of_mine:build", "--data", "digits"], "--input-shape"),
    ],
)
def test_bad_input_ends_in_one_line_and_exit_code_2(models, arguments, message, capsys) -> None:
    code, out, err = run([*arguments, "--input-shape", "3,4"], capsys)
    assert code == 2 and out == "" and message in err and err.count("\n") == 1


def test_help_loads_nothing_that_computes() -> None:
    code = (
        "import sys\nfrom finitewidth.frontends.cli import main\n"
        "assert main(['inspect', '--help']) == 0\n"
        "heavy = {'jax', 'numpy', 'torch', 'matplotlib'} & set(sys.modules)\nassert not heavy, heavy\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0 and "--input-shape" in result.stdout and "Examples:" in result.stdout, result.stderr
