"""What is said of how far a command is."""

from finitewidth.frontends import progress
from finitewidth.frontends.progress import ProgressLine


def test_time_left_counts_what_was_done_now(monkeypatch):
    """Of a run that goes on: what its ledger had took no time."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: now[0])
    line, said = ProgressLine(), []
    monkeypatch.setattr(ProgressLine, "__call__", lambda self, stage: said.append(stage))
    show = line.counted("networks")
    for done, seconds in ((9000, 100.0), (9250, 110.0), (10000, 140.0)):
        now[0] = seconds
        show(done, 10_000)
    assert said == [
        "networks: 9,000 of 10,000",
        "networks: 9,250 of 10,000, 30 s left",
        "networks: 10,000 of 10,000, 0 s left",
    ]
