"""What is measured of every network of an ensemble: `finitewidth.experiments.observables` under its public name."""

import sys
from importlib import import_module

sys.modules[__name__] = import_module("finitewidth.experiments.observables")
