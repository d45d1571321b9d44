"""What is being computed, said on standard error: a moving line on a terminal, a plain line now and then elsewhere."""

import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

PATIENCE = 10.0
"""Seconds before anything is said where standard error is not a terminal; a bad input is refused before that. Then
twice as long before more is said, and again twice as long, up to `LONGEST`."""

LONGEST = 640.0


class ProgressLine:
    """A context in which `line(stage)` shows the stage. On a terminal the line vanishes at the end."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._bar: Any = None
        self._task: Any = None
        self._timer: threading.Timer | None = None
        self._lock = threading.Lock()
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
            self._wait(PATIENCE)
        return self

    def __call__(self, stage: str) -> None:
        """Now in `stage`."""
        self._stage = stage
        if self._bar is not None:
            self._bar.update(self._task, description=stage)

    def counted(self, what: str) -> Callable[[int, int], None]:
        """A callback (done, total) that shows how many are done, how many a second, and how long the others will take.

        What is done at the first call took no time of this: a ledger had it.
        """
        begun: list[tuple[int, float]] = []

        def show(done: int, total: int) -> None:
            now = time.perf_counter()
            if not begun:
                begun.append((done, now))
            found, since = begun[0]
            pace = ""
            if done > found and now > since:
                rate = (done - found) / (now - since)
                pace = f", {rate:,.{0 if rate >= 10 else 2}f} a second, {(total - done) / rate:.0f} s left"
            self(f"{what}: {done:,} of {total:,}{pace}")

        return show

    def _wait(self, seconds: float) -> None:
        self._timer = threading.Timer(seconds, self._say, (seconds,))
        self._timer.daemon = True
        self._timer.start()

    def _say(self, waited: float) -> None:
        print(f"finitewidth: {self._stage} …", file=sys.stderr, flush=True)
        with self._lock:
            if self._timer is not None:
                self._wait(min(2 * waited, LONGEST))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
        if self._bar is not None:
            self._bar.stop()
