"""An activation σ, its derivatives, and what is known of it.

σ is a JAX function of real numbers, applied elementwise. Its derivatives come from automatic differentiation; what
automatic differentiation cannot see is declared: where σ or one of its derivatives jumps (`kinks`), the symmetry
(`parity`), and, for piecewise polynomials, the pieces themselves. Averages over Gaussians are exact to rounding only
when the integrals are split at the kinks, so kinks that were not declared are searched for (see
`finitewidth.activations.kinks`).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from typing import Any, Literal, cast

import jax
import numpy as np

from finitewidth.activations.transitions import graded_breaks, is_abrupt
from finitewidth.errors import InputError
from finitewidth.precision import float64

Parity = Literal["odd", "even", "none"]

_BLOCKS = ((2**10, 2**10), (2**13, 2**16))  # numbers evaluated at once, and how many in all
_LARGE_BLOCK = 2**16


@dataclass(frozen=True, eq=False)
class Activation:
    """An elementwise activation function σ.

    Arguments
        function: σ as a JAX function of an array, applied elementwise and differentiable by JAX away from its kinks.
        name: how it is called in tables and messages.
        kinks: the points where σ or any derivative of it jumps. They are searched for, also beyond those given here: a
            feature narrower than 2e-4 |z| that leaves no trace beside it is missed, so declare such kinks. Nothing is
            searched for where `transitions` are declared too, be it as (), and nothing is added to more than 64 kinks
            given here.
        parity: "odd", "even" or "none". `None`: found by evaluating σ(z) and σ(−z).
        pieces: for a piecewise polynomial, the coefficients (constant first) on each of the len(kinks) + 1 intervals,
            left to right.
        closed_form: name and parameters of the closed form of its Gaussian kernel, if it has one
            (`finitewidth.gaussian.closed_forms`).
        tails: words for the behaviour at −∞ and at +∞.
        summary: one line on what it is.
        transitions: (z, width) of the places where a smooth σ changes on a scale well below 1, such as the steps of
            tanh(1e6 (z − ½)): quadrature takes shorter panels there. `None` (the default): they are searched for.

    Raises
        InputError: when `function` is not callable, not elementwise, or does not return real numbers of its argument's
            shape; when it is not finite on the whole line, or the mean square of its derivative is infinite; when what
            is declared does not fit.

    >>> import finitewidth as fw, jax.numpy as jnp
    >>> fw.Activation(lambda z: z * jnp.tanh(z)).parity
    'even'
    """

    function: Callable[[Any], Any]
    name: str = "custom"
    kinks: tuple[float, ...] = None  # type: ignore[assignment]  # None is replaced by what is found
    parity: Parity = None  # type: ignore[assignment]
    pieces: tuple[tuple[float, ...], ...] | None = None
    closed_form: tuple[str, tuple[float, ...]] | None = None
    tails: tuple[str, str] | None = None
    summary: str = ""
    transitions: tuple[tuple[float, float], ...] = None  # type: ignore[assignment]
    kinks_were_declared: bool = field(default=True, init=False)

    def __post_init__(self) -> None:
        from finitewidth.activations.kinks import Found, check_slopes, find_kinks, find_parity

        if not callable(self.function):
            raise InputError(f"`function` must be a JAX function of an array, but got {self.function!r}")
        _check_elementwise(self)
        declared = cast(tuple[float, ...] | None, self.kinks)
        object.__setattr__(self, "kinks_were_declared", declared is not None)
        narrow = cast(tuple[tuple[float, float], ...] | None, self.transitions)
        found = Found(
            _sorted_kinks(() if declared is None else declared), _checked_transitions(() if narrow is None else narrow)
        )
        if declared is None or narrow is None:
            searched = find_kinks(self, found.kinks)
            found = Found(searched.kinks, searched.transitions if narrow is None else found.transitions)
        object.__setattr__(self, "kinks", found.kinks)
        object.__setattr__(self, "transitions", found.transitions)
        check_slopes(self)
        if cast(Parity | None, self.parity) is None:
            object.__setattr__(self, "parity", find_parity(self))
        else:
            _check_parity(self)
        if self.pieces is not None:
            _check_pieces(self)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_jitted"}  # compiled code stays here

    def __call__(self, z: Any) -> Any:
        """σ(z), elementwise; usable in JAX programs."""
        return self.function(z)

    def __repr__(self) -> str:
        return f"Activation({self.name})"

    def renamed(self, name: str) -> "Activation":
        """The same σ under another name."""
        return replace(self, name=name)

    def derivative(self, order: int) -> Callable[[Any], Any]:
        """σ⁽ᵒʳᵈᵉʳ⁾ as an elementwise JAX function; its almost-everywhere value at kinks (no delta functions)."""
        return _nth_derivative(self.function, order)

    def evaluate(self, z: np.ndarray, orders: tuple[int, ...] = (0,)) -> np.ndarray:
        """σ⁽ᵏ⁾(z) for each k in `orders`, in float64: shape (len(orders), *z.shape). No JAX array comes in or goes out.

        Arguments are taken in blocks, the last one padded, so that few shapes are ever compiled.
        """
        z, function = np.asarray(z, dtype=np.float64), self._jitted(tuple(orders))
        block = next((size for size, most in _BLOCKS if z.size <= most), _LARGE_BLOCK)
        flat = np.zeros(block * max(1, math.ceil(z.size / block)))
        flat[: z.size] = z.ravel()
        with float64(), jax.ensure_compile_time_eval():  # inside of jit too, where the numbers are wanted at once
            parts = [function(part) for part in flat.reshape(-1, block)]  # dispatched all, then waited for
        values = np.concatenate([np.asarray(part) for part in parts], axis=1) if parts[1:] else np.asarray(parts[0])
        return values[:, : z.size].reshape(len(orders), *z.shape)

    @cached_property
    def is_abrupt(self) -> bool:
        """Whether σ is smooth, but somewhere so steep that lattices and tables would step over it."""
        return any(is_abrupt(*transition) for transition in self.transitions)

    @cached_property
    def slope_power(self) -> float:
        """p of |σ'| ~ |z − c|⁻ᵖ at the kink c towards which σ' grows fastest; 0 if towards none."""
        from finitewidth.activations.kinks import steepest

        return steepest(self)[0]

    @cached_property
    def breaks(self) -> tuple[float, ...]:
        """Where panels of quadrature over z should end: the kinks, and the graded surroundings of the transitions."""
        graded = (z for transition in self.transitions for z in graded_breaks(*transition))
        return tuple(sorted({*self.kinks, *graded}))

    @cached_property
    def _jitted(self) -> Callable[[tuple[int, ...]], Callable[[np.ndarray], jax.Array]]:
        @cache
        def compiled(orders: tuple[int, ...]) -> Callable[[np.ndarray], jax.Array]:
            functions = [self.derivative(k) for k in orders]
            return jax.jit(lambda z: jax.numpy.stack([jax.numpy.broadcast_to(f(z), z.shape) for f in functions]))

        return compiled


def _nth_derivative(function: Callable[[Any], Any], order: int) -> Callable[[Any], Any]:
    for _ in range(order):
        function = _derivative(function)
    return function


def _derivative(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    # forward mode along the all-ones direction differentiates an elementwise function at every entry at once
    return lambda z: jax.jvp(function, (z,), (jax.numpy.ones_like(z),))[1]


def _check_elementwise(activation: Activation) -> None:
    remedy = "give a function built from jax.numpy that maps each number of an array to one number"
    name = activation.name
    # the same 512 numbers, in another order and among others: an elementwise function gives the same 512 results
    same, others = np.linspace(-1.3, 1.7, 512), np.linspace(-2.9, 2.3, 1024)
    with float64():
        try:
            result = jax.eval_shape(activation.function, jax.numpy.zeros((2, 3)))
            here = activation.evaluate(np.concatenate([same, others[:512]]))[0, :512]
            there = activation.evaluate(np.concatenate([others[512:], same[::-1]]))[0, 512:][::-1]
        except Exception as error:
            reason = _why_it_fails(activation.function, error)
            raise InputError(f"`function` of activation {name!r} fails on an array ({reason}); {remedy}") from error
    if getattr(result, "shape", None) != (2, 3) or not np.allclose(here, there, rtol=1e-12, atol=0, equal_nan=True):
        raise InputError(f"`function` of activation {name!r} is not elementwise; {remedy}")
    if result.dtype != np.float64:
        raise InputError(
            f"`function` of activation {name!r} returns {result.dtype} for float64 numbers; "
            "remove casts and 32-bit constants from it"
        )


def _why_it_fails(function: Callable[[Any], Any], error: Exception) -> str:
    if isinstance(function, np.ufunc) or isinstance(error, jax.errors.TracerArrayConversionError):
        return "it calls NumPy or SciPy, which JAX cannot follow: np.tanh is jnp.tanh there"
    return str(error).partition("\n")[0]


def _sorted_kinks(declared: Any) -> tuple[float, ...]:
    try:
        kinks = tuple(sorted({float(k) for k in declared}))
    except (TypeError, ValueError) as error:
        raise InputError(f"`kinks` must be a sequence of numbers, such as (0.0,), but got {declared!r}") from error
    if not all(math.isfinite(k) for k in kinks):
        raise InputError(f"`kinks` must be finite numbers, but got {declared!r}")
    return kinks


def _checked_transitions(declared: Any) -> tuple[tuple[float, float], ...]:
    try:
        found = tuple(sorted((float(z), float(width)) for z, width in declared))
    except (TypeError, ValueError) as error:
        raise InputError(
            f"`transitions` must be pairs of a place and a width, such as ((0.5, 1e-6),), but got {declared!r}"
        ) from error
    if not all(math.isfinite(z) and 0 < width < math.inf for z, width in found):
        raise InputError(f"`transitions` must be finite places with widths > 0, but got {declared!r}")
    return found


def _check_parity(activation: Activation) -> None:
    if activation.parity not in ("odd", "even", "none"):
        raise InputError(f"`parity` must be 'odd', 'even' or 'none', but got {activation.parity!r}")
    if activation.parity == "none":
        return
    z = np.linspace(0.01, 9.7, 512)
    z = z[~np.isin(z, np.abs(activation.kinks))]
    image = (-1.0 if activation.parity == "odd" else 1.0) * activation.evaluate(z)
    # a gross check only: what was declared may hold up to cancellation
    if not np.allclose(activation.evaluate(-z), image, rtol=1e-6, atol=1e-9):
        raise InputError(
            f"`parity` of activation {activation.name!r} is declared {activation.parity!r}, which it is not"
        )


def _check_pieces(activation: Activation) -> None:
    pieces, kinks = activation.pieces or (), activation.kinks
    if len(pieces) != len(kinks) + 1:
        raise InputError(f"`pieces` must have len(kinks) + 1 = {len(kinks) + 1} entries, but got {len(pieces)}")
    z = np.linspace(-1.0, 1.0, 512) * (10.0 + 2.0 * max(map(abs, kinks), default=0.0))
    z = z[~np.isin(z, kinks)]
    where = np.searchsorted(kinks, z) if kinks else np.zeros(z.size, dtype=int)
    expected = np.choose(where, [np.polynomial.polynomial.polyval(z, piece) for piece in pieces])
    value = activation.evaluate(z)[0]
    is_off = ~np.isclose(value, expected, rtol=1e-10, atol=1e-10)
    if is_off.any():
        i = int(np.argmax(is_off))
        raise InputError(f"`pieces` give {expected[i]:g} at z = {z[i]:g}, but `function` gives {value[i]:g} there")
