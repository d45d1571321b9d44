"""Descriptions of learning algorithms: checked when they are made."""

import math

import pytest

import finitewidth as fw


def test_the_end_of_training_is_the_default():
    assert fw.GradientFlow().time == math.inf
    assert fw.GradientDescent(step=0.1).steps == math.inf


def test_equal_descriptions_are_equal_and_hashable():
    assert {fw.Momentum(0.1, 10), fw.Momentum(step=0.1, steps=10, momentum=0.9)} == {fw.Momentum(0.1, 10)}


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: fw.GradientFlow(time=-1.0), "`time` must be a number ≥ 0, but got -1.0"),
        (lambda: fw.GradientFlow(time=math.nan), "`time`"),
        (lambda: fw.GradientDescent(step=0), "`step` must be positive"),
        (lambda: fw.GradientDescent(step=math.inf), "`step` must be a finite number"),
        (lambda: fw.GradientDescent(step=0.1, steps=2.5), "`steps` must be an integer ≥ 0 or math.inf, but got 2.5"),
        (lambda: fw.Momentum(step=0.1, momentum=1.0), "`momentum` must be below 1"),
        (lambda: fw.Sgd(step=0.1, steps=math.inf, batch_size=2), "`steps` must be an integer ≥ 0, but got inf"),
        (lambda: fw.Sgd(step=0.1, steps=3, batch_size=0), "`batch_size` must be an integer ≥ 1, but got 0"),
        (lambda: fw.Adam(step=0.1, steps=3, beta2=1.0), "`beta2` must be below 1"),
        (lambda: fw.Adam(step=0.1, steps=3, epsilon=0.0), "`epsilon` must be positive"),
        (lambda: fw.Bayes(noise=-0.1), "`noise` must be a finite number ≥ 0, but got -0.1"),
    ],
)
def test_bad_values_are_refused_by_name(make, words):
    with pytest.raises(fw.InputError, match=words.replace("(", r"\(")):
        make()
