"""Theory against experiment, and that the comparison can fail."""

import json

import numpy as np
import pytest

import finitewidth as fw
from finitewidth.compare import Comparison, RunComparison, Verification
from finitewidth.compare import initialisation as compare
from finitewidth.flow import singly
from finitewidth.flow.vertex import FLUCTUATIONS, TENSORS
from finitewidth.precision import float64

NET = fw.MLP("tanh", depth=3, width=16, C_b=0.2, C_W=1.3, lambda_b=0.5, lambda_W=0.7)
SHALLOW = fw.MLP("tanh", depth=2, width=16, C_b=0.2, C_W=1.3, lambda_b=0.5, lambda_W=0.7)
X = np.full((1, 1), 1.1**0.5)


def test_right_theory_passes_and_progress_is_told():
    """False-alarm rate 1e-6; few networks, large errors: what is tested is that everything is put together rightly."""
    seen = []
    options = {"n_networks": 400, "widths": (12,), "degree": 0, "false_alarm_rate": 1e-6}
    found = fw.verify(SHALLOW, X, **options, progress=lambda *a: seen.append(a))
    assert found.passed, str(found)
    assert [row.name for row in found.rows] == list(compare.NAMES)
    assert all(row.standard_error > 0 for row in found.rows)
    done, total = seen[-1]
    assert done == total == 400 * (16 + 10 + 1 + 1)


def test_a_wrong_kernel_is_caught(monkeypatch):
    """K is known to 0.5 %: 5 % too much cannot pass. (The theory's Dataset is falsified, the experiment is not.)"""
    right = compare.flow

    def wrong(*arguments, **options):
        return right(*arguments, **options) * 1.05

    monkeypatch.setattr(compare, "flow", wrong)
    found = fw.verify(NET, X, n_networks=400, widths=(12, 24), degree=1, tensors=["K"])
    assert not found.passed and "DISAGREE in K" in str(found)
    assert found.to_dict()["passed"] is False


def scans(net, widths, n_networks):
    widths = [[n] * (net.depth - 1) for n in widths]
    with float64():
        return compare._scans(net, X, compare.NAMES, widths, n_networks, 1, None)


def verdict(net, experiment, name, degree):
    theory = fw.flow(net, X, order=1, layers="last")
    rows = [row for level, scan in experiment if name in level for row in compare._compared(name, scan, theory, degree)]
    return Verification(net=net, rows=tuple(rows), widths=(), n_networks=0, false_alarm_rate=0.001)


def plant(monkeypatch, name, factor):
    """X' of one tensor is multiplied by a factor, at every layer."""
    source, responses = singly.source, singly.responses

    def planted_source(which, layer):
        return source(which, layer) * (factor if which == name else 1.0)

    def planted_responses(which, layer):
        for left, component, right in responses(which, layer):
            yield left * (factor if which == name else 1.0), component, right

    monkeypatch.setattr(singly, "source", planted_source)
    monkeypatch.setattr(singly, "responses", planted_responses)


@pytest.fixture(scope="module")
def shallow():
    return scans(SHALLOW, [16], 20_000)


@pytest.mark.parametrize("name", FLUCTUATIONS)
def test_five_percent_in_the_recursion_of_a_tensor_are_caught(name, shallow, monkeypatch):
    """One hidden layer, where first order in 1/n is exact. False-alarm rate 0.1 % for each tensor."""
    assert verdict(SHALLOW, shallow, name, 0).passed, str(verdict(SHALLOW, shallow, name, 0))
    plant(monkeypatch, name, 1.05)
    assert not verdict(SHALLOW, shallow, name, 0).passed, str(verdict(SHALLOW, shallow, name, 0))


# of a polynomial of degree two the averages of two hidden layers are polynomials of degree one in 1/n: shifts are exact
QUADRATIC = fw.Activation(lambda z: z + 0.7 * z * z, name="z + 0.7 z²")
SHIFTED = fw.MLP(QUADRATIC, depth=3, width=16, C_b=0.2, C_W=1.2, lambda_b=1.0, lambda_W=0.1)


@pytest.fixture(scope="module")
def shifted():
    with float64():
        return compare._scans(SHIFTED, X, ("G1", "H1"), [[16, 16]], 50_000, 1, None)


@pytest.mark.slow  # a minute on two cores
@pytest.mark.filterwarnings("ignore::finitewidth.errors.TrustWarning")
@pytest.mark.parametrize("name", ["G1", "H1"])
def test_five_percent_in_the_recursion_of_a_shift_are_caught(name, shifted, monkeypatch):
    """Two hidden layers, of one there are no shifts. False-alarm rate 0.1 % for each."""
    assert verdict(SHIFTED, shifted, name, 0).passed, str(verdict(SHIFTED, shifted, name, 0))
    plant(monkeypatch, name, 1.05)
    assert not verdict(SHIFTED, shifted, name, 0).passed, str(verdict(SHIFTED, shifted, name, 0))


# critical, where the shifts are largest beside their noise
DEEP = fw.MLP("sin", depth=4, width=16, C_b=0.0, C_W=1.0, lambda_b=0.5, lambda_W=0.7)


@pytest.fixture(scope="module")
def deep():
    return scans(DEEP, [12, 20, 48], 60_000)


@pytest.mark.slow  # half an hour on two cores
@pytest.mark.parametrize("name", TENSORS)
def test_errors_in_the_recursion_are_caught_behind_three_hidden_layers(name, deep, monkeypatch):
    """10 % at every layer, 20 % for G1, 40 % for H1. False-alarm rate 0.1 % for each tensor.

    20 % of H1 are 3.3 standard errors of these networks, and 3.45 are needed to be caught; 10⁵ more networks would be.
    """
    assert verdict(DEEP, deep, name, 2).passed, str(verdict(DEEP, deep, name, 2))
    plant(monkeypatch, name, {"G1": 1.2, "H1": 1.4}.get(name, 1.1))
    assert not verdict(DEEP, deep, name, 2).passed, str(verdict(DEEP, deep, name, 2))


def test_the_limit_shares_the_false_alarm_rate():
    rows = tuple(Comparison("K", (i,), 0.0, z, 1.0) for i, z in enumerate([0.0, 3.0, -3.6, np.nan]))
    found = Verification(net=NET, rows=rows, widths=(8, 16, 32), n_networks=1000, false_alarm_rate=0.05)
    assert 2.5 < found.limit < 2.7  # t with 63 degrees of freedom, 5 % over 4 rows
    assert [row.inputs for row in found.beyond] == [(1,), (2,), (3,)]
    assert found.worst()[0].inputs == (2,)


def test_numbers_without_spread_must_be_equal():
    """Networks of one layer have one tangent kernel: a wrong theory of it has no standard error to hide behind."""
    rows = tuple(Comparison("Theta", (i, i), theory, 1.5, 0.0) for i, theory in enumerate([1.5 + 1e-15, 1.4999, 0.0]))
    found = RunComparison(net=NET, rows=rows, n_networks=10, joint_p_values={})
    assert [row.inputs for row in found.beyond] == [(1, 1), (2, 2)]
    assert [row["z"] for row in found.to_dict()["rows"]] == [0.0, None, None]
    json.dumps(found.to_dict(), allow_nan=False)  # an infinite z, and what is left out of nothing


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_networks": 10}, "`n_networks` must be at least 200"),
        ({"widths": (8, 16)}, "`widths` must have at least degree \\+ 1 = 3 different entries"),
        ({"degree": 7}, "`degree` must be 0, 1, 2 or 3"),
        ({"tensors": 5}, "`tensors` must be a list of names"),
        ({"tensors": ["X"]}, "`tensors` must be names among K, G1, V"),
        ({"false_alarm_rate": 2}, "`false_alarm_rate` must lie between 0 and 1"),
        ({"net": fw.MLP("tanh", depth=1)}, "`net` has depth 1"),
        ({"net": fw.MLP("tanh", depth=3, width=[10, 15])}, "`widths` must be multiples of 3"),
    ],
)
def test_bad_input(options, message):
    with pytest.raises(fw.InputError, match=message):
        fw.verify(options.pop("net", NET), X, **options)
