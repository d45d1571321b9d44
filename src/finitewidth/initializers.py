"""Critical initialisation for JAX, Flax and Equinox, in the way of `jax.nn.initializers`."""

import sys
from importlib import import_module

sys.modules[__name__] = import_module("finitewidth.frontends.initializers")
