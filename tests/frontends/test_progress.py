"""What is said of how far a command is."""

from typing import ClassVar

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
        "networks: 9,250 of 10,000, 25 a second, 30 s left",
        "networks: 10,000 of 10,000, 25 a second, 0 s left",
    ]


class Timer:
    """One that is rung by hand."""

    set_ones: ClassVar[list["Timer"]] = []

    def __init__(self, seconds, function, arguments):
        self.seconds, self.ring, self.cancelled = seconds, lambda: function(*arguments), False

    def start(self):
        self.set_ones.append(self)

    def cancel(self):
        self.cancelled = True


def test_where_there_is_no_terminal_more_is_said_twice_as_late_and_nothing_after_the_end(monkeypatch, capsys):
    monkeypatch.setattr(progress.threading, "Timer", Timer)
    monkeypatch.setattr(Timer, "set_ones", [])
    with ProgressLine() as line:
        for stage in ("first", "then"):
            line(stage)
            Timer.set_ones[-1].ring()
            assert capsys.readouterr().err == f"finitewidth: {stage} …\n"
    assert [timer.seconds for timer in Timer.set_ones] == [10.0, 20.0, 40.0]
    assert Timer.set_ones[-1].cancelled
    Timer.set_ones[-1].ring()  # it rang while the line was ending
    assert len(Timer.set_ones) == 3
