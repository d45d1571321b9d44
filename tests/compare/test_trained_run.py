"""Trained networks beside `predict`: first order holds where infinite width is seen to fail.

At width 64 first order is a fifth of the covariance, and the next order some 2 %: one standard error of 6000 networks.
"""

import numpy as np
import pytest

import finitewidth as fw
from finitewidth.compare import compare_trained_run

NET = fw.MLP("tanh", depth=2, width=64, C_b=0.2, C_W=1.5, n_out=2)
X, Y = [[1.0, 0.2], [-0.5, 0.9]], [[0.5, 0.1], [-0.3, 0.4]]
SEEN = [X[0], [0.4, 0.4]]
TRAINING = fw.Training(X, Y, algorithm=fw.GradientDescent(0.1, 20), times=[0, 20])


@pytest.fixture(scope="module")
def run():
    return fw.ensemble(NET, SEEN, training=TRAINING, n_networks=6000, workers=1)


def test_first_order_holds_where_infinite_width_fails(run):
    first, infinite = (compare_trained_run(NET, SEEN, TRAINING, run, order=order) for order in (1, 0))
    assert not first.beyond  # a right theory fails 1 % of the time
    assert {(row.name, row.time) for row in infinite.beyond} >= {("mean", 20.0), ("covariance", 20.0)}
    assert all(row.time == 20.0 for row in infinite.beyond)
    names = [row.name for row in first.rows]
    assert names.count("mean") == 2 * 4 and names.count("covariance") == 2 * 10  # of 4 outputs, at 2 times


def test_rows_are_the_entries_that_they_say(run):
    found = compare_trained_run(NET, SEEN, TRAINING, run, order=0)
    alone = fw.predict(NET, X, Y, SEEN, algorithm=fw.GradientDescent(0.1, 20), order=0)
    for row in (row for row in found.rows if row.time == 20):
        theory = alone.mean if row.name == "mean" else alone.covariance
        axes = ("output", "sample", "output_b", "sample_b")
        assert row.theory == pytest.approx(float(theory.isel(dict(zip(axes, row.inputs, strict=False)))), abs=1e-12)
        assert row.experiment == run.estimate[row.name].value.values[1][row.inputs]


def test_at_the_end_of_training_nothing_is_left_to_compare_but_rounding():
    training = fw.Training([X[0]], [Y[0]])
    run = fw.ensemble(NET, [X[0]], training=training, n_networks=64, workers=1)
    found = compare_trained_run(NET, [X[0]], training, run, order=0)
    assert not found.beyond and found.to_dict()["rows"][0]["time"] == "inf"
    np.testing.assert_allclose([row.experiment for row in found.rows if row.name == "mean"], Y[0], atol=1e-6)


def test_another_run_or_algorithm_is_refused(run):
    other = fw.Training(X, Y, algorithm=fw.GradientDescent(0.2, 20), times=[0, 20])
    with pytest.raises(fw.InputError, match="its algorithm differs"):
        compare_trained_run(NET, SEEN, other, run)
    adam = fw.Training(X, Y, algorithm=fw.Adam(0.1, 2))
    with pytest.raises(fw.InputError, match="Adam"):
        compare_trained_run(NET, SEEN, adam, fw.ensemble(NET, SEEN, training=adam, n_networks=8, workers=1))
    loss = fw.observables.moment("i", name="mean")
    mine = fw.ensemble(NET, SEEN, observables=[loss], training=TRAINING, n_networks=8, workers=1)
    with pytest.raises(fw.InputError, match="no observable that the theory knows"):
        compare_trained_run(NET, SEEN, TRAINING, mine)


def test_an_expansion_in_powers_of_width_knows_no_kinks():
    relu = fw.MLP("relu", depth=2, width=32, C_W=2.0)
    training = fw.Training([X[0]], [0.5], algorithm=fw.GradientDescent(0.1, 2))
    run = fw.ensemble(relu, [X[0]], training=training, n_networks=8, workers=1)
    with pytest.warns(fw.TrustWarning, match="order 1/√n, which an expansion in 1/n does not know") as caught:
        compare_trained_run(relu, [X[0]], training, run)
    assert [each.filename for each in caught if "order 1/√n" in str(each.message)] == [__file__]
