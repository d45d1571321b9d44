"""Reports made once for all tests of this folder."""

import numpy as np
import pytest

import finitewidth as fw
from finitewidth.report import Report


@pytest.fixture(scope="session")
def gelu_report() -> Report:
    """A small version of the default report: everything in it is finite and has two sides."""
    digits = fw.load_data("digits")
    net = fw.MLP("gelu", depth=6, width=32, n_out=10, C_b=0.001, C_W=1 / 3, lambda_b=1.0, lambda_W=[64.0] + [32.0] * 5)
    return fw.report(net, digits, label="torch", inputs=40, command="finitewidth report --depth 6 --width 32")


@pytest.fixture(scope="session")
def inputs() -> np.ndarray:
    return np.random.default_rng(3).normal(size=(5, 7))
