"""Clocks: who must have done what by when, and how it ended (CC-24, CC-64).

A clock runs in *intervals*, numbered per case and step. An interval that has stopped keeps its result for ever; a
restart is the next interval. What starts and stops is written into the event that caused it, so a later policy cannot
rewrite an old promise.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import TypedDict
from uuid import UUID

from domain.kernel import Refused, StaffId
from domain.policy import Deadline


class Step(StrEnum):
    """What a clock measures."""

    FIRST_RECORD = "first_record"  # CC-02
    FORM = "form"  # CC-09
    EVIDENCE = "evidence"  # CC-25
    QUALIFY = "qualify"  # CC-26
    PLAN = "plan"  # CC-27
    APPROVE = "approve"  # CC-28
    NEGOTIATE = "negotiate"  # CC-29
    DISPUTE = "dispute"  # B13
    FORMALITIES = "formalities"  # CC-30
    FILE = "file"  # CC-32
    INTERNAL_HANDLING = "internal_handling"  # CC-34
    IMPROVE = "improve"  # CC-35
    EXECUTE = "execute"  # CC-37
    CONFIRM = "confirm"  # CC-37
    FOLLOW_UP = "follow_up"  # CC-38
    IMPORTED_WORK = "imported_work"
    INVESTIGATE = "investigate"  # CC-21
    FIRST_CONTACT = "first_contact"  # CC-22
    CLOSE = "close"  # CC-23
    PLANNED = "planned"
    FEEDBACK = "feedback"  # B2


class ClockKind(StrEnum):
    """`step`: exactly one while the case is open. `case`: beside it, over several steps. `statutory`: the law's."""

    STEP = "step"
    CASE = "case"
    STATUTORY = "statutory"


class Outcome(StrEnum):
    """How an interval ended: in time, too late, or without a verdict of its own."""

    MET = "met"
    LATE = "late"
    PAUSED = "paused"
    SUPERSEDED = "superseded"
    ABANDONED = "abandoned"


@dataclass(frozen=True, kw_only=True)
class ClockStarted:
    """One interval of a clock began to run.

    `counted_from` is the moment the time allowed is counted from; it may lie before `started_at` when an earlier
    interval of the same duty was replaced. `due_provisional`: the year's holidays were not announced yet. `policy` and
    `policy_version` name the policy applied (version 0: the house's defaults), `rule` the rule it comes from.
    `assumed`: the rule book's figure is lost and a default stands in. `clamped`: the law allows less than the
    institution's own figure, so the law's was taken.
    """

    step: Step
    kind: ClockKind
    interval: int
    responsible: StaffId
    started_at: datetime
    counted_from: datetime
    due_at: datetime | None
    due_provisional: bool = False
    policy: UUID | None = None
    policy_version: int = 0
    rule: str = ""
    assumed: bool = False
    clamped: bool = False


@dataclass(frozen=True, kw_only=True)
class ClockStopped:
    """One interval of a clock ended. `late_seconds` is the elapsed time past `due_at`, 0 when in time."""

    step: Step
    kind: ClockKind
    interval: int
    responsible: StaffId
    started_at: datetime
    due_at: datetime | None
    stopped_at: datetime
    outcome: Outcome
    late_seconds: int = 0


@dataclass(frozen=True)
class Resting:
    """A clock that was paused: its last interval and when it was stopped. What was left of it is still left."""

    interval: ClockStarted
    paused_at: datetime


@dataclass(frozen=True)
class Clocks:
    """The clocks of one case: those running, those resting, and how many intervals each step has had."""

    running: tuple[ClockStarted, ...] = ()
    resting: tuple[Resting, ...] = ()
    intervals: tuple[tuple[Step, int], ...] = ()

    def of(self, step: Step) -> ClockStarted | None:
        """The running interval of this step, if it runs."""
        return next((clock for clock in self.running if clock.step == step), None)

    @property
    def step(self) -> ClockStarted | None:
        """The one step clock that runs while the case is open."""
        return next((clock for clock in self.running if clock.kind == ClockKind.STEP), None)

    def count(self, step: Step) -> int:
        """How many intervals this step has had."""
        return dict(self.intervals).get(step, 0)

    def after(self, stopped: tuple[ClockStopped, ...], started: tuple[ClockStarted, ...]) -> Clocks:
        """The clocks once an event has moved them. What it started may be among what it stopped."""
        if not stopped and not started:
            return self
        known = {(clock.step, clock.interval): clock for clock in (*self.running, *started)}
        ended = {(end.step, end.interval): end for end in stopped}
        restarted = {clock.step for clock in started}
        rest = [r for r in self.resting if r.interval.step not in restarted]
        rest += [
            Resting(known[key], end.stopped_at)
            for key, end in ended.items()
            if end.outcome == Outcome.PAUSED and key in known
        ]
        counts = dict(self.intervals) | {clock.step: clock.interval for clock in started}
        return Clocks(
            running=tuple(clock for key, clock in known.items() if key not in ended),
            resting=tuple(rest),
            intervals=tuple(counts.items()),
        )


class Moves(TypedDict):
    """What a decision puts into its event."""

    stopped: tuple[ClockStopped, ...]
    started: tuple[ClockStarted, ...]


class Turn:
    """Works out, for one decision at one moment, which intervals end and begin. Nothing happens until they are folded.

    `lenient` takes moments before an interval's start as they are: another system's log need not be consistent.
    """

    def __init__(self, clocks: Clocks, at: datetime, *, lenient: bool = False) -> None:
        self._clocks = clocks
        self._at = at
        self._lenient = lenient
        self._stopped: list[ClockStopped] = []
        self._started: list[ClockStarted] = []

    def start(
        self,
        step: Step,
        kind: ClockKind,
        deadline: Deadline,
        responsible: StaffId,
        *,
        counted_from: datetime | None = None,
        started_at: datetime | None = None,
    ) -> None:
        """Begin the next interval of a step; by default it is counted from now."""
        self._started.append(
            ClockStarted(
                step=step,
                kind=kind,
                interval=self._now().count(step) + 1,
                responsible=responsible,
                started_at=started_at or self._at,
                counted_from=counted_from or started_at or self._at,
                due_at=deadline.at,
                due_provisional=deadline.provisional,
                policy=deadline.policy,
                policy_version=deadline.policy_version,
                rule=deadline.rule,
                assumed=deadline.assumed,
                clamped=deadline.clamped,
            )
        )

    def stop(self, step: Step, outcome: Outcome | None = None) -> None:
        """End the running interval of a step, if it runs: met or late, unless another outcome is given."""
        running = self._now().of(step)
        if running is None:
            return
        if self._at < running.started_at and not self._lenient:
            began = running.started_at.astimezone(UTC).isoformat(timespec="seconds")
            raise Refused("time.before_step", f"This step only began at {began}; check the time given.", field="at")
        late = _seconds_late(running.due_at, self._at)
        self._stopped.append(
            ClockStopped(
                step=step,
                kind=running.kind,
                interval=running.interval,
                responsible=running.responsible,
                started_at=running.started_at,
                due_at=running.due_at,
                stopped_at=self._at,
                outcome=outcome or self._verdict(running, late),
                late_seconds=late,
            )
        )

    def _verdict(self, running: ClockStarted, late: int) -> Outcome:
        """Met or late; neither where another system's log says it ended before it began."""
        if self._at < running.started_at:
            return Outcome.ABANDONED
        return Outcome.LATE if late else Outcome.MET

    def stop_step(self, outcome: Outcome | None = None) -> None:
        """End the running step clock, whichever it is."""
        running = self._now().step
        if running is not None:
            self.stop(running.step, outcome)

    def next_step(
        self, step: Step, deadline: Deadline, responsible: StaffId, *, counted_from: datetime | None = None
    ) -> None:
        """End the running step clock and begin this one."""
        self.stop_step()
        self.start(step, ClockKind.STEP, deadline, responsible, counted_from=counted_from)

    def stop_all(self) -> None:
        """End every running clock with its verdict."""
        for clock in self._now().running:
            self.stop(clock.step)

    def resume(self, step: Step, responsible: StaffId) -> None:
        """Begin a paused clock again with the time that was left of it, if it rests."""
        for rest in self._now().resting:
            if rest.interval.step == step:
                due_at = rest.interval.due_at
                left = None if due_at is None else self._at + (due_at - rest.paused_at)
                self._again(rest.interval, responsible, due_at=left)

    def hand_over(self, before: StaffId, after: StaffId) -> None:
        """The clocks one person answers for run on, with the same deadlines, for another (CC-13)."""
        for clock in self._now().running:
            if clock.responsible == before != after:
                self.stop(clock.step, Outcome.SUPERSEDED)
                self._again(clock, after, due_at=clock.due_at)

    def moves(self) -> Moves:
        """What this decision stopped and started."""
        return {"stopped": tuple(self._stopped), "started": tuple(self._started)}

    def _again(self, clock: ClockStarted, responsible: StaffId, *, due_at: datetime | None) -> None:
        interval = self._now().count(clock.step) + 1
        self._started.append(
            replace(clock, interval=interval, responsible=responsible, started_at=self._at, due_at=due_at)
        )

    def _now(self) -> Clocks:
        return self._clocks.after(tuple(self._stopped), tuple(self._started))


def _seconds_late(due_at: datetime | None, at: datetime) -> int:
    """Elapsed seconds past the deadline, a begun second counted whole."""
    if due_at is None or at <= due_at:
        return 0
    late = at - due_at
    return late.days * 86400 + late.seconds + (late.microseconds > 0)
