"""Does the initialisation decide whether a deep network trains? Accuracy on digits after a fixed budget of steps.

    python benchmarks/trainability.py run       # goes on where trainability.jsonl, all that was run so far, ends
    python benchmarks/trainability.py table

MLPs of width 128 and depth 10, 30, 100 on digits of scikit-learn (1297 to train on, 500 to test), batches of 64, plain
SGD and Adam, three seeds, one after the other, of weights and batches alike. Five learning rates each, a factor of
about 3 apart (eight for plain SGD at depth 100), are trained at once, on one core. A run has trained if it classifies
more than half of the test digits.

    default     nn.Linear as it comes
    xavier      xavier_normal_, biases 0
    kaiming     kaiming_normal_ with the documented gain (ReLU's where none is), biases 0
    lsuv        orthogonal, each layer's output scaled to variance 1 on a batch (Mishkin, Matas 2016), biases 0
    ours        fw.torch.critical_init_
    orthogonal  fw.torch.critical_init_(distribution="orthogonal", output_std=1)
    scaled      ours with fw.torch.param_groups
    both        orthogonal with fw.torch.param_groups

and, on demand, the two options of `orthogonal` one at a time:

    weights     fw.torch.critical_init_(distribution="orthogonal")
    outputs     fw.torch.critical_init_(output_std=1)
"""

import argparse
import json
import time
from itertools import product
from pathlib import Path

import numpy as np
import torch

import finitewidth as fw


class Mish(torch.nn.Module):
    """torch.nn.Mish, whose derivative is slow on CPUs, from faster parts."""

    def forward(self, z):
        return z * torch.nn.functional.softplus(z).tanh()


ACTIVATIONS = {
    "relu": torch.nn.ReLU,
    "tanh": torch.nn.Tanh,
    "gelu": torch.nn.GELU,
    "silu": torch.nn.SiLU,
    "mish": torch.nn.Mish,
    "elu": torch.nn.ELU,
    "sin": lambda: fw.torch.from_spec(fw.MLP("sin", depth=2, n_in=1))[1],
    "softplus": torch.nn.Softplus,
}
SCHEMES = ("default", "xavier", "kaiming", "lsuv", "ours", "orthogonal", "scaled", "both")
ONE_OPTION = ("weights", "outputs")
OPTIONS = {
    "ours": {},
    "scaled": {},
    "orthogonal": {"distribution": "orthogonal", "output_std": 1.0},
    "both": {"distribution": "orthogonal", "output_std": 1.0},
    "weights": {"distribution": "orthogonal"},
    "outputs": {"output_std": 1.0},
}
DEPTHS, WIDTH, BATCH = (10, 30, 100), 128, 64
# plain rates, and rates of param_groups, in which a step changes outputs by order lr
RATES = {
    ("sgd", False): (3e-3, 1e-2, 3e-2, 1e-1, 3e-1),
    ("adam", False): (1e-4, 3e-4, 1e-3, 3e-3, 1e-2),
    ("sgd", True): (3.0, 10.0, 30.0, 100.0, 300.0),
    ("adam", True): (0.3, 1.0, 3.0, 10.0, 30.0),
}
LOWER = (1e-4, 3e-4, 1e-3)  # plain rates of SGD that depth 100 needs besides
DOCUMENTED_GAIN = {"relu": "relu", "tanh": "tanh", "elu": "relu"}


def digits():
    data = fw.load_data("digits")
    order = np.random.default_rng(0).permutation(len(data.inputs))
    x, y = data.inputs[order].astype(np.float32), np.asarray(data.targets)[order].astype(np.int64)
    return (x[:-500], y[:-500]), (x[-500:], y[-500:])


def drawn(activation, depth, scheme, seed, x):
    """A model as `scheme` initialises it."""
    torch.manual_seed(seed)
    widths = [x.shape[1], *[WIDTH] * (depth - 1), 10]
    modules = [m for i in range(depth) for m in (torch.nn.Linear(widths[i], widths[i + 1]), ACTIVATIONS[activation]())]
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


def layers_of(model):
    return [m for m in model if isinstance(m, torch.nn.Linear)]


def parameters(model):
    """Weights (as matrices that act from the right) and biases (as rows), in turn, first layer first."""
    return [t for m in layers_of(model) for t in (m.weight.detach().T, m.bias.detach()[None])]


def rate_factors(model, optimizer, x):
    """What param_groups multiplies `lr` by, in the order of `parameters`."""
    kind = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[optimizer]
    groups = fw.torch.param_groups(model, lr=1.0, optimizer=kind, example_input=torch.tensor(x[:256]))
    by_name = {g["name"]: g["lr"] for g in groups}
    return [by_name[f"{i}.{n}"] for i, m in enumerate(model) if m in layers_of(model) for n in ("weight", "bias")]


def logits(p, sigma, z):
    """(runs, inputs, classes) of parameters with a leading axis of runs."""
    for number in range(0, len(p), 2):
        z = torch.baddbmm(p[number + 1], sigma(z) if number else z, p[number])
    return z


def losses(p, sigma, x, y):
    """Mean cross-entropy of each run."""
    each = torch.nn.functional.cross_entropy(logits(p, sigma, x).transpose(1, 2), y, reduction="none")
    return each.mean(dim=1)


def adam_(moments, g, number):
    """Adam's direction from the gradient g of step `number`, with PyTorch's defaults; `moments` are kept up."""
    first, second, direction = moments
    first.lerp_(g, 0.1)
    second.mul_(0.999).addcmul_(g, g, value=0.001)
    # m/(1 − 0.9ᵗ) / (√(v/(1 − 0.999ᵗ)) + 1e-8); memory allotted anew would take twice the time
    shrunk = (1 - 0.999**number) ** 0.5
    torch.sqrt(second, out=direction).add_(1e-8 * shrunk)
    return torch.div(first, direction, out=direction).mul_(shrunk / (1 - 0.9**number))


def trained(model, factors, rates, rows, data, test, *, sigma, optimizer):
    """Test accuracy at every rate, after a step for each batch of `rows`; 0.1 where the loss is no longer finite.

    All rates at once, as batched products, and with the same batches. A run whose loss is no longer finite is dropped
    at the next tenth step.
    """
    p = [t.expand(len(rates), -1, -1).clone() for t in parameters(model)]
    eta = [torch.tensor(rates)[:, None, None] * factor for factor in factors]
    moments = [[torch.zeros_like(w) for _ in range(3)] for w in p] if optimizer == "adam" else []
    x, y = torch.tensor(data[0]), torch.tensor(data[1])
    left = np.arange(len(rates))
    for number, batch in enumerate(torch.tensor(rows), start=1):
        for w in p:
            w.requires_grad_()
        loss = losses(p, sigma, x[batch].expand(len(left), -1, -1), y[batch].expand(len(left), -1))
        gradient = torch.autograd.grad(loss.sum(), p)
        with torch.no_grad():
            for i, (w, g) in enumerate(zip(p, gradient, strict=True)):
                w.addcmul_(eta[i], adam_(moments[i], g, number) if moments else g, value=-1)
            if number % 10 == 0 and not loss.isfinite().all():
                keep = loss.isfinite()
                left, p, eta = left[keep.numpy()], [w[keep] for w in p], [e[keep] for e in eta]
                moments = [[t[keep] for t in m] for m in moments]
        if not len(left):
            break
    accuracy = np.full(len(rates), 0.1)
    with torch.no_grad():
        for at, number in enumerate(left):
            z = logits([w[at : at + 1] for w in p], sigma, torch.tensor(test[0])[None])[0]
            if z.isfinite().all():
                accuracy[number] = float((z.argmax(dim=1) == torch.tensor(test[1])).double().mean())
    return accuracy


def rates_of(optimizer, is_scaled, depth):
    rates = RATES[optimizer, is_scaled]
    return (*LOWER, *rates) if optimizer == "sgd" and not is_scaled and depth == 100 else rates


def row(activation, depth, optimizer, scheme, seed, steps):
    data, test = digits()
    model = drawn(activation, depth, scheme, seed, data[0])
    is_scaled = scheme in ("scaled", "both")
    factors = rate_factors(model, optimizer, data[0]) if is_scaled else [1.0] * 2 * depth
    rates = rates_of(optimizer, is_scaled, depth)
    rows = np.random.default_rng((1, seed)).integers(len(data[0]), size=(steps, BATCH))
    sigma = Mish() if activation == "mish" else ACTIVATIONS[activation]()
    before = time.process_time()
    accuracy = trained(model, factors, rates, rows, data, test, sigma=sigma, optimizer=optimizer)
    return {
        "activation": activation,
        "depth": depth,
        "optimizer": optimizer,
        "scheme": scheme,
        "seed": seed,
        "steps": steps,
        "rates": list(rates),
        "accuracy": np.round(accuracy, 4).tolist(),
        "cpu_seconds": round(time.process_time() - before, 1),
    }


def read(store):
    return [json.loads(line) for line in store.read_text().splitlines()] if store.exists() else []


def run(store, activations, depths, optimizers, schemes, seeds, steps):
    names = ("activation", "depth", "optimizer", "scheme", "seed", "steps")
    done = {tuple(r[n] for n in names) for r in read(store)}
    wanted = [(*w[1:], w[0], steps) for w in product(range(seeds), activations, depths, optimizers, schemes)]
    for number, w in enumerate(wanted, start=1):
        if w in done:
            continue
        made = row(*w)
        with store.open("a") as file:
            file.write(json.dumps(made) + "\n")
        print(f"{number}/{len(wanted)} {w[:5]} best {max(made['accuracy']):.3f}, {made['cpu_seconds']} s", flush=True)


def _gathered(store):
    """By activation, optimizer, depth and scheme: accuracies (seed, rate)."""
    found = {}
    for r in sorted(read(store), key=lambda r: r["seed"]):
        found.setdefault((r["activation"], r["optimizer"], r["depth"], r["scheme"]), []).append(r["accuracy"])
    return {at: np.array(accuracies) for at, accuracies in found.items()}


def _of_seeds(accuracies):
    """Mean in %, and its standard error where there are seeds to tell it from."""
    mean, n = 100 * np.mean(accuracies), len(accuracies)
    return f"{mean:.1f}" + (f" ± {100 * np.std(accuracies, ddof=1) / n**0.5:.1f}" if n > 1 else "")


def _cell(accuracy):
    best = int(accuracy.mean(axis=0).argmax())
    at_end = best in (0, accuracy.shape[1] - 1) and accuracy[:, best].mean() > 0.5
    return f"{_of_seeds(accuracy[:, best])}{'*' if at_end else ''} ({100 * (accuracy > 0.5).mean():.0f} %)"


def table(store):
    found = _gathered(store)
    print(
        "Test accuracy in %, mean over seeds ± its standard error, at the best learning rate (* at an end of the "
        "sweep); in parentheses the share of runs that trained, over seeds and rates\n"
    )
    print("| activation | optimizer | depth | " + " | ".join(SCHEMES) + " |\n" + "|---" * (3 + len(SCHEMES)) + "|")
    for at in sorted({at[:3] for at in found}, key=lambda at: (at[1] != "sgd", at[2], list(ACTIVATIONS).index(at[0]))):
        cells = [_cell(found[*at, scheme]) if (*at, scheme) in found else "" for scheme in SCHEMES]
        print(f"| {at[0]} | {at[1]} | {at[2]} | " + " | ".join(cells) + " |")
    _print_transferred(found)
    _print_one_rate(found)


def _print_transferred(found):
    print("\nOne learning rate, the best at depth 10, at other depths: test accuracy in %\n")
    print("| activation | optimizer | scheme | depth 10 | depth 30 | depth 100 |\n|---|---|---|---|---|---|")
    for optimizer, activation, scheme in product(
        ("sgd", "adam"), ACTIVATIONS, ("ours", "scaled", "orthogonal", "both")
    ):
        cells = [found.get((activation, optimizer, depth, scheme)) for depth in DEPTHS]
        if cells[0] is None or all(c is None for c in cells[1:]):
            continue
        best = int(cells[0].mean(axis=0).argmax()) - len(RATES[optimizer, False])  # from the end: depth 100 has more
        shown = ["" if a is None else _of_seeds(a[:, best]) for a in cells]
        print(f"| {activation} | {optimizer} | {scheme} | " + " | ".join(shown) + " |")


def _print_one_rate(found):
    print("\nOne learning rate for all activations: mean test accuracy in %, and that of the worst activation\n")
    print("| optimizer | depth | scheme | rate | mean | worst |\n" + "|---" * 6 + "|")
    for optimizer, depth, scheme in product(("sgd", "adam"), DEPTHS, SCHEMES):
        means = [a.mean(axis=0) for at, a in found.items() if at[1:] == (optimizer, depth, scheme)]
        if len(means) < len(ACTIVATIONS):
            continue
        best = int(np.mean(means, axis=0).argmax())
        rate, of_rate = rates_of(optimizer, scheme in ("scaled", "both"), depth)[best], np.array(means)[:, best]
        print(
            f"| {optimizer} | {depth} | {scheme} | {rate:g} | {100 * of_rate.mean():.1f} | {100 * of_rate.min():.1f} |"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("do", choices=["run", "table"])
    parser.add_argument("--store", type=Path, default=Path(__file__).with_suffix(".jsonl"))
    parser.add_argument("--activations", nargs="+", default=list(ACTIVATIONS), choices=list(ACTIVATIONS))
    parser.add_argument("--depths", nargs="+", type=int, default=list(DEPTHS))
    parser.add_argument("--optimizers", nargs="+", default=["sgd", "adam"], choices=["sgd", "adam"])
    parser.add_argument("--schemes", nargs="+", default=list(SCHEMES), choices=[*SCHEMES, *ONE_OPTION])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=300)
    given = parser.parse_args()
    if given.do == "run":
        run(given.store, given.activations, given.depths, given.optimizers, given.schemes, given.seeds, given.steps)
    else:
        table(given.store)


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)  # gradients that vanish become denormal, and those are slow
    main()
