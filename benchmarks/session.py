"""One session: every work by every subject, in turn, each within its time, so that the whole ends when it was told to.

Nothing that a subject does can end the session: what fails, or is not done in time, is said where its number would be.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from benchmarks.machine import description
from benchmarks.results import Samples, Session

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.harness import Extent, Subject
    from benchmarks.works import Work

_SHARE = 2.0  # most take less than an equal share of the time that is left; the last but one may take two thirds
_RESERVE_S = 60.0  # to remove what was made, and to write the table and the plot


@dataclass
class Running:
    """A session that goes on.

    Attributes:
        subjects: runcard first.
        extent: Quick, or full.
        minutes: When it ends.
        rounds: So many trials of a work at most; None is as the work says.
        command: What was typed.
        say: Takes a line about what is going on.
    """

    subjects: Sequence[Subject]
    extent: Extent
    minutes: float
    rounds: int | None = None
    command: str = ""
    say: Callable[[str], None] = field(default=lambda line: print(line, file=sys.stderr, flush=True))

    def __post_init__(self) -> None:
        """Start the clock."""
        self._begun = self._planned = time.monotonic()
        self._end = self._begun + self.minutes * 60 - min(_RESERVE_S, self.minutes * 6)
        self._found: dict[str, dict[str, Samples]] = {}
        self._cuts: list[str] = []

    def measure(self, work: Work) -> None:
        """One work by every subject, a trial each in turn, so that a slow minute of the machine is everyone's."""
        taking = [each for each in self.subjects if self._takes(each, work)]
        times = (
            work.rounds[self.extent.quick] if self.rounds is None else min(self.rounds, work.rounds[self.extent.quick])
        )
        begun = time.monotonic()
        self._planned += work.budget_s
        until = min(max(begun + work.budget_s, self._planned), self._end)  # what earlier works left over is ours
        longest = 0.0
        for number in range(times):
            start = time.monotonic()
            if number and start + 1.15 * longest > until:
                self.cut(f"{work.key}: {number} of {times} rounds, for want of time")
                break
            turn = number % len(taking)
            order = taking[turn:] + taking[:turn]
            for place, subject in enumerate(order):
                share = _SHARE * max(0.0, until - time.monotonic()) / (len(order) - place + 1)
                self._try(work, subject, min(until, time.monotonic() + share))
            longest = max(longest, time.monotonic() - start)
            self._progress(f"{work.key}, round {number + 1} of {times}: {time.monotonic() - start:.0f} s")

    def cut(self, text: str) -> None:
        """Say what was left out, now and in the table."""
        if text not in self._cuts:
            self._cuts.append(text)
        self._progress(text)

    def told(self) -> Session:
        """What there is by now."""
        return Session(
            command=self.command,
            machine=description(),
            subjects={subject.side or subject.key: subject.title for subject in self.subjects},
            took_s=round(time.monotonic() - self._begun),
            rows={
                key: {subject: samples.told() for subject, samples in found.items()}
                for key, found in self._found.items()
            },
            cuts=list(self._cuts),
        )

    def _takes(self, subject: Subject, work: Work) -> bool:
        if subject.key == "runcard":
            return True
        if work.own:
            return False
        if subject.key not in work.without:
            return True
        if work.without[subject.key] and work.rounds[self.extent.quick]:
            for row in work.rows:
                self._of(row, subject).note = work.without[subject.key]
        return False

    def _try(self, work: Work, subject: Subject, until: float) -> None:
        limited = replace(subject, until=until)
        try:
            trial = work.trial(limited, self.extent)
        except Exception as error:  # whatever goes wrong with one tracker, the others are measured
            reason = subject.reason(error) if str(error) else type(error).__name__
            self.cut(f"{work.key}: {subject.title}, {reason}")
            for row in work.rows:
                self._of(row, subject).add(Samples(failures=[reason]))
            return
        for row, samples in trial.items():
            self._of(row, subject).add(samples)
            for failure in samples.failures:
                self.cut(f"{row}: {subject.title}, {failure}")

    def _of(self, row: str, subject: Subject) -> Samples:
        return self._found.setdefault(row, {}).setdefault(subject.side or subject.key, Samples())

    def _progress(self, text: str) -> None:
        minutes, seconds = divmod(int(time.monotonic() - self._begun), 60)
        self.say(f"[{minutes:2}:{seconds:02}] {text}")
