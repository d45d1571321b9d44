"""The whole report: JSON, table, pictures, page."""

import io
import json
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from rich.console import Console

import finitewidth as fw
from finitewidth.report import Report
from finitewidth.report.initialisations import in_words
from finitewidth.report.verdict import headline

VOID = {"meta", "link", "br", "img", "hr", "input"}


class Checker(HTMLParser):
    """Every tag that opens closes, in order; and what the page asks the network for."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.fetched: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attributes:
            if name in ("src", "href", "data", "action", "srcset") and not (value or "").startswith("#"):
                self.fetched.append(f"{tag} {name}={value}")
            if name == "id":
                self.ids.append(value or "")

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()


def all_numbers(value: Any) -> list[float]:
    if isinstance(value, dict):
        return [n for entry in value.values() for n in all_numbers(entry)]
    if isinstance(value, list):
        return [n for entry in value for n in all_numbers(entry)]
    return [value] if isinstance(value, float) else []


def test_dict_is_strict_json_with_stable_keys(gelu_report: Report) -> None:
    found = gelu_report.to_dict()
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["finitewidth"] == fw.__version__
    assert set(found) == {
        "finitewidth", "verdict", "network", "data", "yours", "critical", "critical_point", "advice", "advice_in_words",
        "command", "seconds",
    }  # fmt: skip
    for side in (found["yours"], found["critical"]):
        assert set(side) == {
            "initialisation", "C_b", "C_W", "verdict", "signals", "gradients", "tangent_kernel", "finite_width",
        }  # fmt: skip
        assert len(side["signals"]["K"]["median"]) == 6
        assert len(side["tangent_kernel"]["eigenvalues"]) == 40
    assert found["data"] == {**found["data"], "inputs": 1797, "inputs_used": 40}
    assert len(all_numbers(found)) > 300


def test_numbers_are_those_of_the_flow(gelu_report: Report) -> None:
    x = fw.load_data("digits").inputs
    x = x[np.sort(np.random.default_rng(0).choice(len(x), 40, replace=False))]
    flow = fw.flow(gelu_report.yours.net, x)
    K = np.diagonal(flow.K.values, axis1=1, axis2=2)
    np.testing.assert_allclose(gelu_report.yours.signals.K.median, np.median(K, axis=1), rtol=1e-12)
    largest = np.linalg.eigvalsh(flow.Theta.values[-1])[-1]
    np.testing.assert_allclose(gelu_report.yours.tangent_kernel.learning_rate_sum, 2 / largest, rtol=1e-10)
    np.testing.assert_allclose(gelu_report.yours.tangent_kernel.learning_rate_mse, 40 * 10 / largest, rtol=1e-10)


@pytest.mark.parametrize("word", ["good", "rough", "not to be trusted"])
def test_headline_states_no_number_that_is_not_to_be_trusted(gelu_report: Report, word: Any) -> None:
    side = gelu_report.critical
    assert side is not None
    side = replace(side, finite_width=replace(side.finite_width, first_order=word, r=3.125, scale_std=3.9))
    assert ("390 %" in headline(side)) == (word == "rough")
    assert ("r = L/n = 3.1 it is too deep for its width" in headline(side)) == (word == "not to be trusted")


def test_no_critical_initialisation_is_said_once() -> None:
    words = in_words(fw.critical("monomial(2)"), None)
    assert words.startswith("monomial(2) has no critical initialisation: χ∥/χ⊥ is nowhere 1 ")
    assert words.count("no critical") == 1


def test_critical_side_is_critical_and_brings_the_data_to_the_fixed_point(gelu_report: Report) -> None:
    assert gelu_report.critical is not None
    signals = gelu_report.critical.signals
    assert signals.norms.word == signals.angles.word == "critical"
    np.testing.assert_allclose(signals.K.median, 3.5615528, rtol=1e-2)
    np.testing.assert_allclose(gelu_report.critical.net.per_layer("C_W")[1:], 1.9830582574375471, rtol=1e-8)
    np.testing.assert_allclose(gelu_report.critical.net.per_layer("C_b"), 0.17292239075606735, rtol=1e-7)


@pytest.mark.parametrize("width", [80, 100, 120])
def test_table_is_plain_and_narrow_in_a_pipe(
    gelu_report: Report, width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    gelu_report.print()
    text = capsys.readouterr().out
    assert text.isprintable() or "\x1b" not in text
    lines = text.splitlines()
    assert max(map(len, lines)) <= width
    assert not any(line != line.rstrip() for line in lines)
    assert lines[0].startswith("PyTorch’s default initialisation: the network forgets its inputs")
    assert "C_W = 1.9830583" in text.replace("\n  ", " ") and "torch.nn.init.normal_" in text and "…" in text
    assert "compiling" in lines[-1] or "compiling" in lines[-2]


def test_table_is_in_colour_on_a_terminal(gelu_report: Report) -> None:
    written = io.StringIO()
    gelu_report.print(console=Console(force_terminal=True, color_system="truecolor", width=100, file=written))
    assert "\x1b[" in written.getvalue()


def test_pictures_are_written_whole(gelu_report: Report, tmp_path: Path) -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    paths = gelu_report.save_pictures(tmp_path / "new" / "folder")
    assert dict(matplotlib.rcParams) == before
    names = ["signals", "angles", "susceptibilities", "gradients", "spectrum", "width", "phase", "report"]
    assert [path.stem for path in paths] == names
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)
    assert sorted(path.name for path in paths) == sorted(path.name for path in (tmp_path / "new" / "folder").iterdir())


def test_page_is_well_formed_and_asks_for_nothing(gelu_report: Report, tmp_path: Path) -> None:
    text = gelu_report.save_html(tmp_path / "report.html").read_text(encoding="utf-8")
    checker = Checker()
    checker.feed(text)
    assert checker.open == [] and checker.fetched == []
    assert len(checker.ids) == len(set(checker.ids))
    assert not re.search(r"@import|url\((?!#)|<script|<link|<img|<iframe", text)
    assert set(re.findall(r"https?://[^\"' <]*", text)) <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }
    pictures = re.findall(r"<svg.*?</svg>", text, flags=re.DOTALL)
    assert len(pictures) == 7
    for picture in pictures:
        ElementTree.fromstring(picture)
        assert "<title" in picture
    assert set(re.findall(r"url\(#([^)]*)\)", text)) <= set(checker.ids)
    for words in (
        "prefers-color-scheme: dark",
        "@media print",
        "(ch. 5)",
        "finitewidth report --depth 6",
        "variance_scaling",
    ):
        assert words in text


def test_page_escapes_what_it_is_given(gelu_report: Report, tmp_path: Path) -> None:
    report = replace(gelu_report, command="<script>alert('&')</script>")
    assert "<script" not in report.save_html(tmp_path / "page.html").read_text()


@pytest.mark.parametrize(
    ("net", "data"),
    [
        (fw.MLP("relu", depth=1, n_out=2), np.eye(3) + 0.1),  # no hidden layer
        (fw.MLP("erf", depth=3, width=8), np.array([[1.0, 2.0]])),  # one input
        (fw.MLP("monomial(2)", depth=3, width=8), np.eye(3) + 0.1),  # no critical point, and none near
        (fw.MLP("sigmoid", depth=3, width=[8, 5]), np.eye(3) + 0.1),  # the nearest choice
        (fw.MLP("sign", depth=3, width=8), np.eye(3) + 0.1),  # no gradient
        (fw.MLP("relu", depth=60, width=8, C_W=0.001), np.eye(3) + 0.1),  # almost out of float64
        (fw.MLP("erf", depth=2, width=8, C_b=[0.1, 0.2], C_W=[1.0, 2.0]), np.eye(3) + 0.1),
    ],
    ids=["linear", "single", "monomial", "sigmoid", "sign", "tiny", "layered"],
)
def test_cases_at_the_edge_are_reported_on(
    net: fw.MLP,
    data: np.ndarray,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    recwarn: pytest.WarningsRecorder,
) -> None:
    report = fw.report(net, data)
    json.dumps(report.to_dict(), allow_nan=False)
    report.print()
    checker = Checker()
    checker.feed(report.save_html(tmp_path / "report.html").read_text())
    assert checker.open == []
    assert not re.search(r"\bnan\b", capsys.readouterr().out)
    assert not [w for w in recwarn if issubclass(w.category, RuntimeWarning) and "NaN" in str(w.message)]


def test_critical_network_has_no_second_side() -> None:
    data = np.eye(3) + 0.1
    first = fw.report(fw.MLP("gelu", depth=3, width=8), data)
    assert first.critical is not None
    second = fw.report(first.critical.net, data, label="critical")
    assert second.critical is None and len(second.sides) == 1
    second.print()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"net": fw.MLP("relu", depth=2, width=4, n_in=5)}, "`net` has n_in=5, but the data have 3 columns"),
        ({"inputs": 0}, "`inputs` must be an integer ≥ 1, but got 0"),
        ({"data": "nothing.csv"}, "does not exist"),
    ],
)
def test_bad_input_is_refused_with_its_name(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(fw.InputError, match=re.escape(message)):
        fw.report(**{"net": fw.MLP("relu", depth=2, width=4), "data": np.eye(3) + 0.1, **arguments})


def test_progress_hears_of_each_stage() -> None:
    heard: list[str] = []
    report = fw.report(fw.MLP("relu", depth=2, width=4), np.eye(3) + 0.1, progress=heard.append)
    assert heard and set(report.timings) <= set(heard)
    assert all(0 <= compiling <= wall for wall, compiling in report.timings.values())


def test_reporting_chooses_no_backend_and_opens_no_window() -> None:
    code = (
        "import sys, numpy, finitewidth as fw, tempfile, pathlib\n"
        "report = fw.report(fw.MLP('relu', depth=2, width=4), numpy.eye(3) + 0.1)\n"
        "assert 'matplotlib' not in sys.modules, 'matplotlib is loaded before anything is drawn'\n"
        "report.save_pictures(tempfile.mkdtemp())\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_headline_counts_layers_as_people_do(gelu_report: Report) -> None:
    side = gelu_report.critical
    assert side is not None
    for depth, words in ((2, "survive both layers;"), (3, "survive all 3 layers;")):
        shallow = replace(side, net=fw.MLP("gelu", depth=depth))
        assert words in headline(shallow)


def test_network_that_keeps_its_inputs_apart_does_not_forget_them(gelu_report: Report) -> None:
    """χ⊥ = 0.08 at depth 2: angles go from 45° to 44°, and only gradients shrink."""
    side = gelu_report.yours
    assert side.signals.angle is not None and side.signals.angles.word == "vanishing"
    median, high = side.signals.angle.median, side.signals.angle.high
    kept = replace(side.signals.angle, median=np.full_like(median, 44.0), high=np.full_like(high, 60.0))
    words = headline(replace(side, signals=replace(side.signals, angle=kept)))
    assert "forgets" not in words and "the typical angle between two inputs is still 44° at the output" in words
    single = headline(replace(side, signals=replace(side.signals, angle=None)))
    assert "forgets" not in single and "gradients shrink, by a factor " in single and "; and" not in single
    assert "forgets its inputs" in headline(side)


def test_a_column_that_is_nearly_everything_is_named() -> None:
    x = np.random.default_rng(0).normal(size=(20, 3))
    net = fw.MLP("relu", depth=2, width=8)
    assert fw.report(net, x).sample.note == ""
    made = fw.report(net, x * [1.0, 1e3, 1.0])
    assert made.sample.note.startswith("Column 'x1' makes up 99.9 % of |x|²")
    assert made.to_dict()["data"]["note"] == made.sample.note
    assert fw.report(net, x[:, :1]).sample.note == ""


def test_one_of_a_kind_is_not_written_as_many(capsys: pytest.CaptureFixture[str]) -> None:
    fw.report(fw.MLP("relu", depth=2, width=8), np.array([[2.0]])).print()
    assert "1 input, 1 output; the only row of an array" in " ".join(capsys.readouterr().out.split())
