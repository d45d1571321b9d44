"""Does the initialisation decide whether a deep network trains? Accuracy on digits after a fixed budget of steps.

    python benchmarks/trainability.py run --store trainability.jsonl     # resumes where it stopped
    python benchmarks/trainability.py table --store trainability.jsonl

MLPs of width 128 and depth 10, 30, 100 on digits of scikit-learn (1297 to train on, 500 to test), batches of 64, plain
SGD and Adam, five learning rates each (a factor of about 3 apart), three seeds. Weights are drawn by PyTorch itself;
training is done in JAX, all rates and seeds of a row at once. A run has trained if it classifies more than half of the
test digits.

    default     nn.Linear as it comes
    xavier      xavier_normal_, biases 0
    kaiming     kaiming_normal_ with the documented gain (ReLU's where none is), biases 0
    lsuv        orthogonal, each layer's output scaled to variance 1 on a batch (Mishkin, Matas 2016), biases 0
    ours        fw.torch.critical_init_
    orthogonal  fw.torch.critical_init_(distribution="orthogonal", output_std=1)
    scaled      ours with fw.torch.param_groups
    both        orthogonal with fw.torch.param_groups
"""

import argparse
import json
import time
from functools import partial
from itertools import product
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch

import finitewidth as fw

ACTIVATIONS = {
    "relu": (torch.nn.ReLU, jax.nn.relu),
    "tanh": (torch.nn.Tanh, jnp.tanh),
    "gelu": (torch.nn.GELU, partial(jax.nn.gelu, approximate=False)),
    "silu": (torch.nn.SiLU, jax.nn.silu),
    "mish": (torch.nn.Mish, jax.nn.mish),
    "elu": (torch.nn.ELU, jax.nn.elu),
    "sin": (lambda: fw.torch.from_spec(fw.MLP("sin", depth=2, n_in=1))[1], jnp.sin),
    "softplus": (torch.nn.Softplus, jax.nn.softplus),
}
SCHEMES = ("default", "xavier", "kaiming", "lsuv", "ours", "orthogonal", "scaled", "both")
OPTIONS = {
    "ours": {},
    "scaled": {},
    "orthogonal": {"distribution": "orthogonal", "output_std": 1.0},
    "both": {"distribution": "orthogonal", "output_std": 1.0},
}
DEPTHS, WIDTH, BATCH = (10, 30, 100), 128, 64
# plain rates, and rates of param_groups, in which a step changes outputs by order lr
RATES = {
    ("sgd", False): (3e-3, 1e-2, 3e-2, 1e-1, 3e-1),
    ("adam", False): (1e-4, 3e-4, 1e-3, 3e-3, 1e-2),
    ("sgd", True): (3.0, 10.0, 30.0, 100.0, 300.0),
    ("adam", True): (0.3, 1.0, 3.0, 10.0, 30.0),
}
DOCUMENTED_GAIN = {"relu": "relu", "tanh": "tanh", "elu": "relu"}


def digits():
    data = fw.load_data("digits")
    order = np.random.default_rng(0).permutation(len(data.inputs))
    x, y = data.inputs[order].astype(np.float32), np.asarray(data.targets)[order].astype(np.int32)
    return (x[:-500], y[:-500]), (x[-500:], y[-500:])


def drawn(activation, depth, scheme, seed, x):
    """A model as `scheme` initialises it."""
    torch.manual_seed(seed)
    widths = [x.shape[1], *[WIDTH] * (depth - 1), 10]
    modules = [
        m for i in range(depth) for m in (torch.nn.Linear(widths[i], widths[i + 1]), ACTIVATIONS[activation][0]())
    ]
    model = torch.nn.Sequential(*modules[:-1])
    layers = [m for m in model if isinstance(m, torch.nn.Linear)]
    if scheme in OPTIONS:
        return fw.torch.critical_init_(model, torch.tensor(x[:256]), verbose=False, **OPTIONS[scheme])
    for layer in layers if scheme != "default" else ():
        torch.nn.init.zeros_(layer.bias)
        if scheme == "xavier":
            torch.nn.init.xavier_normal_(layer.weight)
        elif scheme == "kaiming":
            known = DOCUMENTED_GAIN.get(activation, "relu")
            std = torch.nn.init.calculate_gain(known) / layer.in_features**0.5
            torch.nn.init.normal_(layer.weight, std=std)
        else:
            torch.nn.init.orthogonal_(layer.weight)
    if scheme == "lsuv":
        unit_variance_(model, torch.tensor(x[:256]))
    return model


@torch.no_grad()
def unit_variance_(model, z):
    for module in model:
        if isinstance(module, torch.nn.Linear):
            for _ in range(10):
                std = float(module(z).std())
                if abs(std - 1) < 0.01 or std == 0:
                    break
                module.weight /= std
        z = module(z)


def stacked(trees):
    return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)


def parameters(model):
    """First layer, hidden layers on one leading axis, last layer."""
    layers = [(m.weight.detach().numpy().T, m.bias.detach().numpy()) for m in model if isinstance(m, torch.nn.Linear)]
    return {"first": layers[0], "hidden": stacked(layers[1:-1]), "last": layers[-1]}


def rate_factors(model, optimizer, x):
    """What param_groups multiplies `lr` by, in the layout of `parameters`."""
    kind = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[optimizer]
    groups = fw.torch.param_groups(model, lr=1.0, optimizer=kind, example_input=torch.tensor(x[:256]))
    by_name = {g["name"]: np.float32(g["lr"]) for g in groups}
    numbers = [i for i, m in enumerate(model) if isinstance(m, torch.nn.Linear)]
    pairs = [(by_name[f"{i}.weight"].reshape(1, 1), by_name[f"{i}.bias"].reshape(1)) for i in numbers]
    return {"first": pairs[0], "hidden": stacked(pairs[1:-1]), "last": pairs[-1]}


def ones_for(params):
    """Plain rates, in the shapes of `rate_factors` of several runs: all schemes then share one compiled program."""

    def of(weight, bias):
        return np.ones((*weight.shape[:-2], 1, 1), np.float32), np.ones((*bias.shape[:-1], 1), np.float32)

    return {place: of(*layer) for place, layer in params.items()}


@partial(jax.jit, static_argnames=("activation", "optimizer", "steps"))
def trained(params, factors, rates, keys, data, test, *, activation, optimizer, steps):
    """Test accuracies of every (run of `params`, rate) after `steps` batches."""
    sigma = ACTIVATIONS[activation][1]
    rule = optax.scale_by_adam() if optimizer == "adam" else optax.identity()

    def logits(p, x):
        z = x @ p["first"][0] + p["first"][1]
        z, _ = jax.lax.scan(lambda z, layer: (sigma(z) @ layer[0] + layer[1], None), z, p["hidden"])
        return sigma(z) @ p["last"][0] + p["last"][1]

    def loss(p, x, y):
        return optax.softmax_cross_entropy_with_integer_labels(logits(p, x), y).mean()

    def run(p, factors, key, rate):
        def step(carry, key):
            p, state = carry
            rows = jax.random.randint(key, (BATCH,), 0, len(data[0]))
            update, state = rule.update(jax.grad(loss)(p, data[0][rows], data[1][rows]), state)
            return (jax.tree.map(lambda w, u, f: w - rate * f * u, p, update, factors), state), None

        (p, _), _ = jax.lax.scan(step, (p, rule.init(p)), jax.random.split(key, steps))
        return (jnp.argmax(logits(p, test[0]), axis=1) == test[1]).mean(), jnp.isfinite(loss(p, *test))

    by_rate = jax.vmap(run, in_axes=(None, None, None, 0))
    return jax.vmap(by_rate, in_axes=(0, 0, 0, None))(params, factors, keys, rates)


def row(activation, depth, optimizer, scheme, seeds, steps):
    data, test = digits()
    models = [drawn(activation, depth, scheme, seed, data[0]) for seed in range(seeds)]
    params = stacked([parameters(m) for m in models])
    is_scaled = scheme in ("scaled", "both")
    factors = stacked([rate_factors(m, optimizer, data[0]) for m in models]) if is_scaled else ones_for(params)
    rates = RATES[optimizer, is_scaled]
    keys = jax.random.split(jax.random.key(0), seeds)
    before = time.process_time(), time.perf_counter()
    accuracy, finite = trained(
        params, factors, jnp.array(rates), keys, data, test, activation=activation, optimizer=optimizer, steps=steps
    )
    accuracy = np.where(finite, accuracy, 0.1)
    return {
        "activation": activation,
        "depth": depth,
        "optimizer": optimizer,
        "scheme": scheme,
        "seeds": seeds,
        "steps": steps,
        "rates": list(rates),
        "accuracy": np.round(accuracy, 4).tolist(),  # by seed and rate
        "cpu_seconds": round(time.process_time() - before[0], 1),
        "seconds": round(time.perf_counter() - before[1], 1),
    }


def read(store):
    return [json.loads(line) for line in store.read_text().splitlines()] if store.exists() else []


def run(store, activations, depths, optimizers, schemes, seeds, steps):
    names = ("activation", "depth", "optimizer", "scheme", "seeds", "steps")
    done = {tuple(r[n] for n in names) for r in read(store)}
    wanted = [(*w, seeds, steps) for w in product(activations, depths, optimizers, schemes)]
    for number, w in enumerate(wanted, start=1):
        if w in done:
            continue
        made = row(*w)
        with store.open("a") as file:
            file.write(json.dumps(made) + "\n")
        best = np.mean(made["accuracy"], axis=0).max()
        print(f"{number}/{len(wanted)} {w[:4]} best {best:.3f} in {made['seconds']} s", flush=True)


def _cell(accuracy):
    by_rate = accuracy.mean(axis=0)
    best = int(by_rate.argmax())
    at_end = best in (0, len(by_rate) - 1) and by_rate[best] > 0.5
    return f"{100 * by_rate[best]:.1f}{'*' if at_end else ''} ({100 * (accuracy > 0.5).mean():.0f} %)"


def table(store):
    rows = read(store)
    key = lambda r: (r["activation"], r["optimizer"], r["depth"])  # noqa: E731
    found = {(*key(r), r["scheme"]): np.asarray(r["accuracy"]) for r in rows}
    print(
        "Test accuracy in %, mean over seeds, at the best learning rate (* at an end of the sweep); in parentheses the "
        "share of runs that trained\n"
    )
    print("| activation | optimizer | depth | " + " | ".join(SCHEMES) + " |\n" + "|---" * (3 + len(SCHEMES)) + "|")
    for at in sorted({key(r) for r in rows}):
        cells = []
        for scheme in SCHEMES:
            a = found.get((*at, scheme))
            cells.append("" if a is None else _cell(a))
        print(f"| {at[0]} | {at[1]} | {at[2]} | " + " | ".join(cells) + " |")
    print("\nOne learning rate, the best at depth 10, at other depths: test accuracy in %\n")
    print("| activation | optimizer | scheme | depth 10 | depth 30 | depth 100 |\n|---|---|---|---|---|---|")
    for activation, optimizer in sorted({(r["activation"], r["optimizer"]) for r in rows}):
        for scheme in ("ours", "scaled", "orthogonal", "both"):
            at_10 = found.get((activation, optimizer, 10, scheme))
            if at_10 is None:
                continue
            best = int(at_10.mean(axis=0).argmax())
            cells = [found.get((activation, optimizer, depth, scheme)) for depth in DEPTHS]
            shown = ["" if a is None else f"{100 * a[:, best].mean():.1f}" for a in cells]
            if any(shown[1:]):
                print(f"| {activation} | {optimizer} | {scheme} | " + " | ".join(shown) + " |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("do", choices=["run", "table"])
    parser.add_argument("--store", type=Path, default=Path("trainability.jsonl"))
    parser.add_argument("--activations", nargs="+", default=list(ACTIVATIONS), choices=list(ACTIVATIONS))
    parser.add_argument("--depths", nargs="+", type=int, default=list(DEPTHS))
    parser.add_argument("--optimizers", nargs="+", default=["sgd", "adam"], choices=["sgd", "adam"])
    parser.add_argument("--schemes", nargs="+", default=list(SCHEMES), choices=list(SCHEMES))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=300)
    given = parser.parse_args()
    if given.do == "run":
        run(given.store, given.activations, given.depths, given.optimizers, given.schemes, given.seeds, given.steps)
    else:
        table(given.store)


if __name__ == "__main__":
    main()
