"""Initialisations by name, and the one this library advises beside the user's own."""

from dataclasses import replace

from finitewidth.architecture import MLP
from finitewidth.criticality import Criticality, critical, initialisation
from finitewidth.report.words import number

TITLES = {
    "torch": "PyTorch’s default initialisation",
    "kaiming": "Kaiming initialisation",
    "xavier": "Xavier initialisation",
    "lecun": "LeCun initialisation",
    "critical": "Critical initialisation",
    "nearest": "The nearest there is to criticality",
    "yours": "Your initialisation",
}


def default_network(n_in: int, mean_square: float) -> MLP:
    """GELU, depth 24, width 512, 10 outputs, as PyTorch initialises it, trained by plain SGD."""
    net = MLP("gelu", depth=24, width=512, n_in=n_in, n_out=10)
    return initialised(with_plain_sgd(net), "torch", mean_square)


def with_plain_sgd(net: MLP) -> MLP:
    """`net` with one learning rate for all parameters: λ_b = 1, λ_W⁽ℓ⁾ = n_{ℓ−1} (its `n_in` given)."""
    assert net.n_in is not None
    return replace(net, lambda_b=1.0, lambda_W=tuple(map(float, (net.n_in, *net.widths))))


def initialised(net: MLP, scheme: str, mean_square: float) -> MLP:
    """`net` with the C_b and C_W of `scheme`; `mean_square` = |x|²/n_0 of a typical input."""
    assert net.n_in is not None
    chosen = initialisation(scheme, net.activation, widths=(net.n_in, *net.widths, net.n_out), mean_square=mean_square)
    return replace(net, C_b=chosen.C_b, C_W=chosen.C_W)


def critical_twin(net: MLP, mean_square: float) -> tuple[Criticality, MLP | None]:
    """The activation's critical points, and `net` as advised: critical, or nearly so, or None where nothing is."""
    found = critical(net.activation)
    best, nearest = found.preferred, found.nearest
    realisable = (best is not None and best.attracts) or (nearest is not None and nearest.C_W is not None)
    return found, initialised(net, "critical", mean_square) if realisable else None


def is_critical(found: Criticality) -> bool:
    """Whether the advised initialisation is a critical point, rather than what comes nearest."""
    return found.preferred is not None and found.preferred.attracts


def in_words(found: Criticality, twin: MLP | None) -> str:
    """What the advice is, in a few sentences."""
    if twin is None:
        return f"{found.activation} has no critical initialisation: {found.reason.removeprefix('no critical point: ')}."
    if not is_critical(found):
        assert found.nearest is not None
        return f"{found.activation} has no critical initialisation to rest at. {found.nearest.note}."
    C_b, C_W = float(twin.per_layer("C_b")[-1]), float(twin.per_layer("C_W")[-1])
    words = f"Draw biases with variance C_b = {number(C_b, 8)} and weights with variance C_W / fan-in, "
    words += f"C_W = {number(C_W, 8)}"
    first = float(twin.per_layer("C_W")[0])
    if first != C_W:
        K = found.K_star or 1.0
        words += f"; in the first layer C_W = {number(first, 5)}, which brings these data to K = {number(K, 4)}"
    classes = {
        "scale-invariant": "Every size of signal is then kept as it is",
        "K*=0": "Signals then shrink as slowly as they can, as a power of depth",
        "half-stable": f"Signals then stay at K* = {number(found.K_star, 6)}",
    }
    return f"{words}. {classes[found.universality_class]} ({found.universality_class} class, ch. 5)."
