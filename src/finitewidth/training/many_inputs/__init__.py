"""First order in 1/n for many inputs: sample neurons instead of tensors (THEORY §3, THEORY-TRAINED §3–5).

`times` lays nodes over training time; `drive` is what one sample neuron does to the outputs' motion; `averages` takes
means over neurons and residuals.
"""
