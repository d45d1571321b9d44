"""What is being computed, said on standard error: a moving line on a terminal, one plain line elsewhere."""

import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

PATIENCE = 10.0
"""Seconds before anything is said where standard error is not a terminal; a bad input is refused before that."""


class ProgressLine:
    """A context in which `line(stage)` shows the stage. On a terminal the line vanishes at the end."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._bar: Any = None
        self._task: Any = None
        self._timer: threading.Timer | None = None
        self._stage = "loading JAX"

    def __enter__(self) -> "ProgressLine":
        if self._terminal:
            from rich.console import Console
            from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

            columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
            self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
            self._task = self._bar.add_task("loading JAX")
            self._bar.start()
        else:
            self._timer = threading.Timer(PATIENCE, self._say)
            self._timer.daemon = True
            self._timer.start()
        return self

    def __call__(self, stage: str) -> None:
        """Now in `stage`."""
        self._stage = stage
        if self._bar is not None:
            self._bar.update(self._task, description=stage)

    def counted(self, what: str) -> Callable[[int, int], None]:
        """A callback (done, total) that shows how many are done, and the time that the others will take.

        What is done at the first call took no time of this: a ledger had it.
        """
        begun: list[tuple[int, float]] = []

        def show(done: int, total: int) -> None:
            now = time.perf_counter()
            if not begun:
                begun.append((done, now))
            found, since = begun[0]
            left = f", {(now - since) * (total - done) / (done - found):.0f} s left" if done > found else ""
            self(f"{what}: {done:,} of {total:,}{left}")

        return show

    def _say(self) -> None:
        print(f"finitewidth: {self._stage} …", file=sys.stderr, flush=True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._bar is not None:
            self._bar.stop()
