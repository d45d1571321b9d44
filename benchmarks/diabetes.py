"""Held-out diabetes: an ensemble of real trained networks beside infinite width and the first order in 1/n.

    python benchmarks/diabetes.py --networks 2000 --out diabetes.png

Data of scikit-learn, standardised, with a constant feature; 100 rows to learn from, `--rows` held out. Networks of
depth 3 and width 64, critical, gradient descent of half the stable step. Printed for every activation: root mean square
over the held-out rows of (mean of the ensemble − prediction), beside the ensemble's own standard error, for both
predictions; the same for the standard deviations.
"""

import argparse
import time
from pathlib import Path

import numpy as np
from sklearn.datasets import load_diabetes

import finitewidth as fw
from finitewidth.experiments.courses import course
from finitewidth.experiments.trained_outputs import trained_outputs
from finitewidth.sklearn import FiniteWidthRegressor

TRAIN = 100


def main() -> None:
    options = arguments()
    X, y = load_diabetes(return_X_y=True, scaled=False)
    order = np.random.default_rng(0).permutation(len(y))
    train, test = order[:TRAIN], order[TRAIN : TRAIN + options.rows]
    centre, scale = X[train].mean(0), X[train].std(0)
    x, new, target = (X[train] - centre) / scale, (X[test] - centre) / scale, y[train]
    found = {name: compare(name, x, target, new, options) for name in ("tanh", "gelu")}
    if options.out:
        draw(found, options.out)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", type=int, default=2000)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--rows", type=int, default=100, help="held-out rows")
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--out", type=Path, metavar="FILE.png", help="draw what is found")
    return parser.parse_args()


def compare(
    activation: str, x: np.ndarray, target: np.ndarray, new: np.ndarray, options: argparse.Namespace
) -> dict[str, np.ndarray]:
    """Means and standard deviations of the ensemble and of the predictions, in standard deviations of the target."""
    y = (target - target.mean()) / target.std()
    model = FiniteWidthRegressor(activation, width=options.width, normalize_y=False).fit(x, y)
    net, inputs, asked = model.net_, model.network_inputs(x), model.network_inputs(new)
    Theta = fw.flow(net, inputs, tensors="", layers="last").Theta.values[0]
    algorithm = fw.GradientDescent(1 / float(np.linalg.eigvalsh(Theta)[-1]), options.steps)
    began = time.process_time()
    plan = course(algorithm, inputs=len(inputs))
    z = trained_outputs(net, inputs, y[:, None], asked, course=plan, networks=options.networks, seed=0)[:, -1, :, 0]
    spent = time.process_time() - began
    found = {"ensemble": z.mean(0), "ensemble std": z.std(0, ddof=1), "error": z.std(0, ddof=1) / len(z) ** 0.5}
    print(f"{activation}: {len(z)} networks in {spent:.0f} s of CPU; standard error {rms(found['error']):.4f}")
    for order, name in ((0, "infinite width"), (1, "order 1/n")):
        began = time.process_time()
        p = fw.predict(net, inputs, y, asked, algorithm=algorithm, order=order)
        found[name], found[f"{name} std"] = p.mean.values[:, 0], p.std.values[:, 0]
        apart, spread = rms(found["ensemble"] - found[name]), rms(found["ensemble std"] - found[f"{name} std"])
        spent = time.process_time() - began
        print(
            f"  {name}: mean off by {apart:.4f}, std by {spread:.4f} of {rms(found['ensemble std']):.4f}; {spent:.0f} s"
        )
    return found


def rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(values**2)))


def draw(found: dict[str, dict[str, np.ndarray]], path: Path) -> None:
    """What the ensemble's mean differs from infinite width by: measured, and predicted at order 1/n."""
    from finitewidth.report.canvas import COLOURS, MUTED, new_figure, style, to_png

    with style():
        figure = new_figure(4.5 * len(found), 4.2)
        for k, (activation, each) in enumerate(found.items()):
            axes = figure.add_subplot(1, len(found), k + 1)
            base = each["infinite width"]
            order = np.argsort(each["ensemble"] - base)
            place = np.arange(len(order))
            moved = (each["ensemble"] - base)[order]
            axes.errorbar(
                place, moved, 2 * each["error"][order], fmt=".", color=COLOURS[0], label="real networks, ± 2 σ"
            )
            axes.axhline(0, color=MUTED, linewidth=1, label="infinite width")
            if "order 1/n" in each:
                axes.plot(place, (each["order 1/n"] - base)[order], ".", color=COLOURS[1], label="order 1/n")
            axes.set_title(activation)
            axes.set_xlabel("held-out rows, ordered by what is measured")
            axes.set_ylabel("mean − that of infinite width")
            axes.legend(frameon=False, fontsize=8)
        path.write_bytes(to_png(figure))


if __name__ == "__main__":
    main()
