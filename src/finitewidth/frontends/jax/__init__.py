"""For people's own networks in JAX: any pair of functions init(key) and apply(parameters, x)."""
