"""The driver's end of a worker: ask, wait for the answer, give up after a time limit."""

import json
import os
import select
import subprocess
import tempfile
from pathlib import Path
from typing import Any

WORKER = Path(__file__).parent / "worker.py"


class Failure(Exception):
    """The contender gave no result: too slow for its time limit, or an error of its own."""


class Contender:
    """A worker process that is started fresh, so that its first call and its peak memory are of one case only."""

    def __init__(self, python: str | Path, name: str, *, patience: float) -> None:
        self.name, self.patience = name, patience
        # not a pipe: nobody reads while the worker works, and a full pipe blocks it
        self.messages = tempfile.TemporaryFile()  # noqa: SIM115  (lives as long as the process)
        # unbuffered: select() must not wait for a line that already sits in a buffer
        self.process = subprocess.Popen(
            [str(python), str(WORKER), name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.messages,
            bufsize=0,
        )
        self.versions = self._answer(max(patience, 120))["versions"]

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        """The answer to a request; `Failure` when it comes too late or is an error."""
        self.process.stdin.write((json.dumps({"do": do, **request}) + "\n").encode())
        return self._answer(self.patience)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for end in (self.process.stdin, self.process.stdout, self.messages):
            end.close()

    def _answer(self, patience: float) -> dict[str, Any]:
        line = b""
        while not line.endswith(b"\n"):
            if not select.select([self.process.stdout], [], [], patience)[0]:
                raise Failure(f"took more than {patience:g} s")
            part = os.read(self.process.stdout.fileno(), 65536)
            if not part:
                raise Failure(f"{self.name} ended: {self._last_words()}")
            line += part
        answer = json.loads(line)
        if "error" in answer:
            raise Failure(answer["error"])
        return answer

    def _last_words(self) -> str:
        self.messages.seek(0)
        lines = self.messages.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "no message"
