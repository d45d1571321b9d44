"""float64 where it is asked for, and nowhere else."""

from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import finitewidth as fw
from finitewidth import precision
from finitewidth.precision import float64, in_float64


@pytest.fixture(autouse=True)
def _single_precision_outside():
    assert jnp.ones(1).dtype == np.float32
    yield
    assert jnp.ones(1).dtype == np.float32


def test_context_is_double_inside_and_nests() -> None:
    with float64():
        with float64():
            assert jnp.ones(1).dtype == np.float64
        assert jnp.ones(1).dtype == np.float64


def test_context_ends_with_an_error() -> None:
    with pytest.raises(ZeroDivisionError), float64():
        1 / 0  # noqa: B018


def test_other_threads_do_not_notice() -> None:
    with float64(), ThreadPoolExecutor(1) as pool:
        assert pool.submit(lambda: jnp.ones(1).dtype).result() == np.float32


def test_decorated_function_keeps_its_name_and_result() -> None:
    @in_float64
    def third(x: float) -> jax.Array:
        """One third of x."""
        return jnp.asarray(x) / 3

    assert third.__name__ == "third" and third.__doc__ == "One third of x."
    assert float(third(1.0)) == 1.0 / 3.0


def test_flow_is_double_in_a_single_precision_program() -> None:
    flow = fw.flow(fw.MLP("tanh", depth=3, C_b=0.1), jnp.ones((1, 3)))
    assert flow.K.dtype == np.float64
    assert np.isclose(float(flow.K[0, 0, 0]), 1.1, rtol=1e-15)


def test_wide_vectors_are_asked_only_of_what_knows_them(monkeypatch: pytest.MonkeyPatch) -> None:
    ask = precision._wide_vectors.__wrapped__
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert ask() is None

    def unknown(*args: object, **options: object) -> None:
        raise RuntimeError("No such compile option")

    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    monkeypatch.setattr(jax, "jit", unknown)
    assert ask() is None
