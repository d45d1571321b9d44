"""Expected test error: bias² and variance at infinite width and to first order, and its scans."""

import numpy as np
import pytest

import finitewidth as fw
from finitewidth.errors import TrustWarning
from finitewidth.experiments import extrapolate, measure_trained

X = np.array([[-0.8, -1.3, -0.2], [0.4, 0.5, 0.3], [-0.6, -0.6, 0.1]])
Y, TARGET = [1.0, -1.2], [0.4]
NET = fw.MLP("tanh", depth=3, width=32, C_b=0.2, C_W=1.4, lambda_b=0.5, lambda_W=0.7)
DESCENT = fw.GradientDescent(0.3, 8)


@pytest.fixture(scope="module")
def prediction():
    return fw.predict(NET, X[:2], Y, X[2:], algorithm=DESCENT)


def test_what_is_left_out_of_the_error_is_the_square_of_the_first_order(prediction):
    """E (z − y)² from mean and variance as they are predicted, at several widths."""
    shift = sum(each.values for each in prediction.terms.values())
    for n in (32, 64, 640):
        p = prediction.at_width(n)
        exact = (p.mean.values - TARGET) ** 2 + p.variance.values
        np.testing.assert_allclose(exact - p.test_error(TARGET).error, (shift / n) ** 2, rtol=1e-9)
        stated = fw.predict(fw.MLP("tanh", depth=3, width=n, C_b=0.2, C_W=1.4, lambda_b=0.5, lambda_W=0.7),
                            X[:2], Y, X[2:], algorithm=DESCENT) if n == 64 else p  # fmt: skip
        np.testing.assert_allclose(p.covariance, stated.covariance, rtol=1e-12)
        np.testing.assert_allclose(p.error["truncation"], stated.error["truncation"], rtol=1e-12)
        assert p.r == pytest.approx(stated.r)


def test_a_label_that_has_been_learned_has_no_error():
    found = fw.predict(NET, X[:2], Y, X).test_error([*Y, *TARGET])
    assert abs(found.error[:2]).max() < 1e-12 and abs(found.error_first_order[:2]).max() < 1e-10
    assert found.error[2] > 0.01 and 0 < found.numerical_error[2] < 1e-5


def test_a_scan_is_prediction_after_prediction():
    scan = {"width": [32, 64], "C_W": [1.0, 1.4]}
    found = fw.generalisation(NET, X[:2], Y, X[2:], TARGET, scan=scan, algorithm=DESCENT)
    assert found.error.dims == ("width", "C_W")
    here = fw.predict(NET, X[:2], Y, X[2:], algorithm=DESCENT).test_error(TARGET)
    assert float(found.error.sel(width=32, C_W=1.4)) == pytest.approx(float(here.error.mean()), rel=1e-12)
    np.testing.assert_allclose(
        found.error - found.error_infinite, found.error_first_order / found.width, rtol=1e-9, atol=1e-14
    )
    deeper = fw.generalisation(NET, X[:2], Y, X[2:], TARGET, scan={"depth": [2, 3]}, order=0)
    assert deeper.error.dims == ("depth",) and not deeper.error_first_order.any()


@pytest.mark.slow
def test_networks_that_were_really_trained_err_as_much(prediction):
    """n (E (z − y)² − its value at infinite width) of networks of three widths, extrapolated, for three labels y."""
    labels, widths, off, errors = np.array([0.4, 1.5, -1.5]), (24, 48, 96), [], []
    theory = [prediction.test_error([y]) for y in labels]
    infinite, stated = (np.array([t[f"error_{of}"].item() for t in theory]) for of in ("infinite", "first_order"))
    for n in widths:
        net = fw.MLP("tanh", depth=3, width=n, C_b=0.2, C_W=1.4, lambda_b=0.5, lambda_W=0.7)
        seen = measure_trained(net, X[:2], Y, X[2:], algorithm=DESCENT, n_networks=4096, seed=5)
        mean, variance = seen.value["mean"][0, 0, 2], seen.value["covariance"][0, 0, 2, 0, 2]
        off.append(n * ((mean - labels) ** 2 + variance - infinite))
        # of every batch, up to order 1/networks
        means, variances = (seen.estimates[name].pseudo_values for name in ("mean", "covariance"))
        each = 2 * (mean - labels) * means[:, :1, 0, 2] + variances[:, 0, 0, 2, 0, 2, None]
        errors.append(n * each.std(0, ddof=1) / np.sqrt(len(each)))
    fit = extrapolate(widths, np.array(off), np.array(errors), order=1)
    assert np.all(np.abs(fit.value - stated) < 4 * fit.standard_error), (stated, fit.value, fit.standard_error)
    # of the first label, which is met, the variance alone counts, and so many networks hardly see its order 1/n
    assert np.all(fit.standard_error[1:] < 0.1 * np.abs(stated[1:])), (stated, fit.standard_error)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"net": "tanh"}, "`net` must be an MLP or a ResidualMLP, but got 'tanh'"),
        ({"scan": {"Cw": [1.0]}}, "`scan` must have keys among C_b, C_W"),
        ({"scan": {"width": [16, 16.5]}}, "`width` must be an integer"),
        ({"scan": {"C_W": ["a"]}}, "`scan` must have numbers for 'C_W', but got 'a'"),
        ({"scan": {"C_W": 1.0}}, "`scan` must have a list of values for 'C_W'"),
        ({"scan": [1.0]}, "`scan` must be a mapping"),
        ({"scan": {"C_W": [1.0, -1.0]}, "order": 0}, "at C_W=-1.0: .*C_W"),
        ({"scan": {"C_W": [90.0, 95.0]}, "order": 0}, "at C_W=90.0: `step` must be below"),
        ({"y_test": [1.0, 2.0], "order": 0}, "`y_test` must have shape \\(1, 1\\)"),
        ({"y_test": [np.nan], "order": 0}, "`y_test` must be finite"),
    ],
)
def test_bad_input(options, message):
    given = {"y_test": TARGET, "algorithm": DESCENT} | options
    with pytest.raises(fw.InputError, match=message):
        fw.generalisation(given.pop("net", NET), X[:2], Y, X[2:], given.pop("y_test"), **given)


def test_points_that_cannot_be_predicted_do_not_lose_the_others():
    def found(*C_W):
        return fw.generalisation(
            NET, X[:2], Y, X[2:], TARGET, scan={"C_W": C_W, "width": [16, 32]}, algorithm=DESCENT, order=0
        )

    with pytest.warns(TrustWarning, match=r"1 of 2 points of `scan` .*: at C_W=90.0: `step` must be below"):
        seen = found(90.0, 1.0)
    assert np.isnan(seen.error[0]).all() and np.nanargmin(seen.error) == 2
    np.testing.assert_array_equal(seen.error[1:], found(1.0).error)


def test_width_must_be_one(prediction):
    with pytest.raises(fw.InputError, match="`n` must be"):
        prediction.at_width(0)
