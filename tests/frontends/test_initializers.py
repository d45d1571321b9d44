"""Critical initializers of JAX: variances of what they draw, and use from Equinox and Flax."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import finitewidth as fw

KEY = jax.random.key(3)


@pytest.mark.parametrize("name", ["relu", "gelu", "tanh"])
def test_variances_are_those_of_the_critical_point(name):
    init, point = fw.initializers.critical(name), fw.critical(name)
    weights, biases = init(KEY, (400, 300)), init.bias(KEY, (40_000,))
    # of N Gaussian numbers, the mean square has the relative standard error √(2/N); 4.5 of them: 7e-6 false alarms
    assert np.isclose(400 * jnp.var(weights), point.C_W, rtol=4.5 * (2 / weights.size) ** 0.5)
    assert np.isclose(jnp.var(biases), point.C_b, rtol=4.5 * (2 / biases.size) ** 0.5)


def test_dtype_and_convolution():
    init = fw.initializers.critical("relu")
    kernel = init(KEY, (3, 3, 40, 50), jnp.float16)
    assert kernel.dtype == jnp.float16
    assert np.isclose(360 * np.var(np.asarray(kernel, dtype=float)), 2.0, rtol=4.5 * (2 / kernel.size) ** 0.5)


@pytest.mark.parametrize(("shape", "axes"), [((30, 90), {}), ((90, 30), {}), ((3, 3, 4, 50), {}), ((3, 3, 8, 6), {}),
                                            ((40, 12), {"in_axis": 1, "out_axis": 0})])  # fmt: skip
def test_orthogonal_weights_have_the_variance(shape, axes):
    init = fw.initializers.critical("gelu", distribution="orthogonal", **axes)
    kernel = np.asarray(init(KEY, shape, jnp.float32), dtype=float)
    matrix = kernel.T if axes else kernel.reshape(-1, shape[-1])  # (fan-in, fan-out)
    gram = matrix.T @ matrix if matrix.shape[0] >= matrix.shape[1] else matrix @ matrix.T
    # preactivations of variance C_W|s|²/fan-in: E W Wᵀ = C_W/fan-in 1, of rank fan-out
    scale = init.C_W * max(matrix.shape) / matrix.shape[0]
    np.testing.assert_allclose(gram, scale * np.eye(len(gram)), atol=1e-5 * scale)
    assert np.isclose(np.square(matrix).mean() * matrix.shape[0], init.C_W, rtol=1e-5)
    assert init(KEY, shape, jnp.bfloat16).dtype == jnp.bfloat16


def test_first_layer_brings_the_data_to_the_fixed_point():
    init = fw.initializers.critical("gelu", mean_square=0.3)
    assert np.isclose(init.C_b + init.C_W * 0.3, fw.critical("gelu").K_star)
    assert np.isclose(fw.initializers.critical("relu", mean_square=0.25).C_W, 4.0)


def kernels(layers, x):
    """K of every layer of `layers`, functions of one input each, measured."""
    seen = []
    for layer, sigma in layers:
        x = layer(sigma(x))
        seen.append(jnp.mean(x**2))
    return jnp.stack(seen)


def test_equinox_network_stays_at_the_fixed_point():
    equinox = pytest.importorskip("equinox")
    depth, width = 4, 300
    sigma = fw.activations.gelu
    x = jax.random.normal(KEY, (width,)) * 0.5
    first = fw.initializers.critical("gelu", mean_square=float(jnp.mean(x**2)), in_axis=1, out_axis=0)
    other = fw.initializers.critical("gelu", in_axis=1, out_axis=0)

    @equinox.filter_jit
    def seen_by(key):
        return kernels(network(key), x)

    def network(key):
        layers = []
        for i, k in enumerate(jax.random.split(key, depth)):
            init = other if i else first
            linear = equinox.nn.Linear(width, width, key=k)
            new = (init(k, (width, width)), init.bias(jax.random.fold_in(k, 1), (width,)))
            linear = equinox.tree_at(lambda layer: (layer.weight, layer.bias), linear, new)
            layers.append((linear, sigma if i else lambda z: z))
        return layers

    stays_at_the_fixed_point(np.array([seen_by(k) for k in jax.random.split(KEY, 12)]), depth / width)


def stays_at_the_fixed_point(seen, depth_to_width):
    """K of every layer, measured in networks (rows): 4.5 standard errors, and what is left of order 1/n."""
    error = seen.std(axis=0, ddof=1) / len(seen) ** 0.5
    assert np.all(np.abs(seen.mean(axis=0) - fw.critical("gelu").K_star) < 4.5 * error + 2 * depth_to_width)


def flax_network(nnx, width, depth, mean_square, seed):
    """As docs/jax.md has it."""
    first = fw.initializers.critical("gelu", mean_square=mean_square)
    other = fw.initializers.critical("gelu")
    gelu, rngs = lambda z: jax.nn.gelu(z, approximate=False), nnx.Rngs(seed)
    layers = [nnx.Linear(width, width, kernel_init=i, bias_init=i.bias, rngs=rngs) for i in (first, *[other] * depth)]
    return nnx.Sequential(layers[0], *[module for layer in layers[1:] for module in (gelu, layer)])


def test_flax_network_stays_at_the_fixed_point():
    nnx = pytest.importorskip("flax.nnx")
    depth, width = 3, 300
    x = 0.5 * jax.random.normal(KEY, (width,))

    @nnx.jit
    def seen_by(net):
        outputs, z = [], x
        for layer in net.layers:
            z = layer(z)
            outputs.append(jnp.mean(z**2))
        return jnp.stack(outputs[::2])  # those of linear layers

    mean_square = float(jnp.mean(x**2))
    seen = np.array([seen_by(flax_network(nnx, width, depth, mean_square, seed)) for seed in range(12)])
    stays_at_the_fixed_point(seen, (depth + 1) / width)


def test_flax_kernels_of_other_layers_have_the_variance_too():
    nnx, linen = pytest.importorskip("flax.nnx"), pytest.importorskip("flax.linen")
    init, rngs = fw.initializers.critical("gelu"), nnx.Rngs(0)
    convolution = nnx.Conv(16, 64, (3, 3), kernel_init=init, bias_init=init.bias, rngs=rngs).kernel[...]
    dense = linen.Dense(128, kernel_init=init, bias_init=init.bias).init(KEY, jnp.ones((1, 64)))["params"]["kernel"]
    half = nnx.Linear(64, 128, kernel_init=init, bias_init=init.bias, param_dtype=jnp.bfloat16, rngs=rngs).kernel[...]
    assert half.dtype == jnp.bfloat16
    for kernel, fan_in in ((convolution, 144), (dense, 64), (half, 64)):
        variance = np.square(np.asarray(kernel, dtype=float)).mean()
        # 4.5 standard errors, and what bfloat16 rounds
        assert np.isclose(fan_in * variance, init.C_W, rtol=4.5 * (2 / kernel.size) ** 0.5 + 2**-8)


def test_bad_input():
    with pytest.raises(fw.InputError, match="`mean_square` must be a finite number > 0"):
        fw.initializers.critical("relu", mean_square=0.0)
    with pytest.raises(fw.InputError, match=r"wrap a function as fw\.Activation"):
        fw.initializers.critical(jnp.tanh)
    with pytest.raises(fw.InputError, match="`distribution` must be 'normal' or 'orthogonal', but got 'uniform'"):
        fw.initializers.critical("relu", distribution="uniform")
    with pytest.raises(fw.InputError, match=r"`out_axis` must be one number .* but got \(-2, -1\)"):
        fw.initializers.critical("relu", distribution="orthogonal", in_axis=-3, out_axis=(-2, -1))
    with pytest.raises(fw.InputError, match="must be a known name"):
        fw.initializers.critical("gelou")


def test_made_inside_of_jit():
    """As Flax does where a model's init is compiled; of an activation that no other test computes before."""

    def draw(key):
        init = fw.initializers.critical(fw.activations.elu(0.7))
        return init(key, (8, 8)), init.bias(key, (8,))

    inside, outside = jax.jit(draw)(jax.random.key(0)), draw(jax.random.key(0))
    assert all(np.allclose(a, b) for a, b in zip(inside, outside, strict=True))
