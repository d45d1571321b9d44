"""For people's own networks in PyTorch: the front end `finitewidth.frontends.torch` under its public name."""

import sys
from importlib import import_module

sys.modules[__name__] = import_module("finitewidth.frontends.torch")
