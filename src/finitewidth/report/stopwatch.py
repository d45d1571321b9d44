"""Where the time goes, with one-time compilation told apart from computing."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import jax.monitoring

Progress = Callable[[str], None]

_compiling = {"seconds": 0.0}


def _on_duration(event: str, duration_secs: float, **_: str | int) -> None:
    # tracing, lowering and XLA; the names are JAX's own
    if event.startswith("/jax/core/compile/"):
        _compiling["seconds"] += duration_secs


jax.monitoring.register_event_duration_secs_listener(_on_duration)


@dataclass
class Stopwatch:
    """Seconds by stage: `stages[name] = (wall, of which JAX compiled)`. Says each stage to `progress` as it begins."""

    progress: Progress | None = None
    stages: dict[str, tuple[float, float]] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a `with` block as stage `name`; a name used twice adds up."""
        if self.progress is not None:
            self.progress(name)
        wall, compiling = time.perf_counter(), _compiling["seconds"]
        try:
            yield
        finally:
            seconds = time.perf_counter() - wall
            # nested traces report their time twice, so compilation is capped by the wall
            compiled = min(seconds, _compiling["seconds"] - compiling)
            before = self.stages.get(name, (0.0, 0.0))
            self.stages[name] = (before[0] + seconds, before[1] + compiled)
