"""The demonstration: the same seed gives the same history anywhere, by the rules, and only once."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Generator
from datetime import datetime, timedelta
from pathlib import Path
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from api.demo import demo
from api.demo.group import HOSPITALS, LAST_MOMENT
from api.demo.simulator import Simulator
from api.exchange.history import history_digest, replay_all
from domain.clock import ClockKind, Outcome, Step
from domain.complaint import (
    COMPLAINT,
    CaseEvent,
    CaseReopened,
    ComplaintAccepted,
    ComplaintCase,
    Stage,
    TransferAccepted,
    TransferOffered,
)
from domain.kernel import Event, Refused
from domain.series import NumberIssued, complaint_number_in
from domain.store.casebook import House
from domain.store.mapper import encode_body
from tests.api.files import opened
from tests.conftest import MASTER_KEY, Database, Server
from tests.rules import rule

SMALL = HOSPITALS[2:]


@pytest.fixture
def elsewhere(database: Database) -> Generator[House]:
    """A store of its own, empty."""
    with House(database.app, MASTER_KEY) as house:
        yield house


@pytest.fixture(scope="module")
def told() -> dict[str, list[Event]]:
    """Every event of the demonstration of seed 1, by institution, in order."""
    return {h.code: [e for command in Simulator(h, 1).commands() for e in command] for h in HOSPITALS}


def words(seed: int) -> list[tuple[object, ...]]:
    """All that is said in the smallest institution."""
    events = [e for command in Simulator(SMALL[0], seed).commands() for e in command]
    return [(e.originator_id, e.originator_version, e.topic, e.stamp, encode_body(e)) for e in events]


def test_the_same_seed_gives_the_same_history_in_two_databases(
    elsewhere: House, server: Server, template: Database
) -> None:
    other = server.create(template)
    try:
        with House(other.app, b"another master key of 32 bytes.."[:32]) as second:
            report = demo(elsewhere, 3)
            assert demo(second, 3) == report
            assert report.institutions == ("BJ", "SH", "CD")
            for code in report.institutions:
                assert history_digest(elsewhere.casebook(code)) == history_digest(second.casebook(code))
                replay = replay_all(elsewhere.casebook(code))
                assert (replay.failures, replay.cases > 0) == ([], True)
    finally:
        server.drop(other)


@pytest.mark.parametrize("hash_seed", ["0", "1", "4242"])
def test_no_order_of_hashes_is_in_it(hash_seed: str) -> None:
    """test-list 30."""
    program = (
        "import hashlib; from tests.api.test_demo import words;"
        "print(hashlib.sha256(repr(words(2)).encode()).hexdigest())"
    )
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "TZ": "America/New_York"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=Path(__file__).parents[2],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == hashlib.sha256(repr(words(2)).encode()).hexdigest()


def test_played_again_it_adds_nothing(elsewhere: House) -> None:
    first = demo(elsewhere, 7, hospitals=SMALL)
    again = demo(elsewhere, 7, hospitals=SMALL)
    assert (first.new_events, again.new_events) == (first.events, 0)
    assert elsewhere.casebook("CD").head() == first.events
    assert len({person.id for person in first.staff}) == len(first.staff) == 24


def test_an_interrupted_play_goes_on(elsewhere: House, house: House) -> None:
    commands = list(Simulator(SMALL[0], 8).commands())
    elsewhere.casebook("CD").append_many(commands[:300])
    report = demo(elsewhere, 8, hospitals=SMALL)
    assert report.new_events == report.events - sum(len(c) for c in commands[:300])


def test_it_is_not_mixed_with_other_records(elsewhere: House) -> None:
    demo(elsewhere, 1, hospitals=SMALL)
    with pytest.raises(Refused, match=r"demo\.institution_taken"):
        demo(elsewhere, 2, hospitals=SMALL)
    opened(elsewhere.casebook("BJ"))
    with pytest.raises(Refused, match=r"demo\.institution_taken"):
        demo(elsewhere, 1)
    # nothing was played before the refusal
    assert elsewhere.casebook("SH").head() == 0


def test_positions_follow_the_time_and_nothing_is_later_than_the_last_moment(told: dict[str, list[Event]]) -> None:
    for events in told.values():
        times = [event.stamp.at for event in events]
        assert times == sorted(times)
        assert times[-1] <= LAST_MOMENT


def test_there_is_something_to_show_of_everything(told: dict[str, list[Event]]) -> None:
    kinds = {type(event) for events in told.values() for event in events}
    missing = {kind.__name__ for kind in COMPLAINT.events} - {kind.__name__ for kind in kinds}
    assert missing == {"ComplaintImported", "WorkRecorded", "ImportedCaseEnded"}
    stages = {case.stage for events in told.values() for case in folded(events).values()}
    assert len(stages) >= 12
    outcomes = {s.outcome for events in told.values() for e in events if isinstance(e, CaseEvent) for s in e.stopped}
    assert {Outcome.MET, Outcome.LATE, Outcome.PAUSED, Outcome.SUPERSEDED} <= outcomes


def folded(events: list[Event]) -> dict[UUID, ComplaintCase]:
    cases: dict[UUID, ComplaintCase] = {}
    for event in events:
        if isinstance(event, CaseEvent):
            cases[event.originator_id] = COMPLAINT.evolve(cases.get(event.originator_id), event)
    return cases


@rule("CC-64")
def test_at_any_time_a_case_has_one_owner_and_one_step_that_runs(told: dict[str, list[Event]]) -> None:
    for events in told.values():
        cases: dict[UUID, ComplaintCase] = {}
        for event in events:
            if isinstance(event, CaseEvent):
                case = COMPLAINT.evolve(cases.get(event.originator_id), event)
                cases[event.originator_id] = case
                steps = [clock for clock in case.clocks.running if clock.kind == ClockKind.STEP]
                assert len(steps) == (0 if case.stage == Stage.FINISHED else 1)


@rule("CC-07", "CC-08")
def test_numbers_have_no_gap_in_any_month_and_stand_in_the_case(told: dict[str, list[Event]]) -> None:
    for code, events in told.items():
        by_month: dict[str, list[int]] = defaultdict(list)
        for event in events:
            if isinstance(event, NumberIssued):
                by_month[event.period].append(event.number)
        assert all(numbers == list(range(1, len(numbers) + 1)) for numbers in by_month.values())
        accepted = [e.number for e in events if isinstance(e, ComplaintAccepted)]
        assert sorted(accepted) == sorted(
            complaint_number_in(code, month, n) for month, numbers in by_month.items() for n in numbers
        )


@rule("OP-31", "CC-23")
def test_the_policy_in_force_when_it_happened_is_applied_and_named(told: dict[str, list[Event]]) -> None:
    """Beijing closes in seven days, from April on in five: counted from acceptance, by the version then in force."""
    here = ZoneInfo("Asia/Shanghai")
    april = datetime(2026, 4, 1, tzinfo=here)
    seen: set[int] = set()
    for event in told["BJ"]:
        if isinstance(event, ComplaintAccepted):
            (clock,) = [c for c in event.started if c.step == Step.CLOSE]
            version, days = (1, 7) if event.stamp.at < april else (2, 5)
            assert clock.policy_version == version
            assert clock.due_at is not None
            last_day = (event.stamp.at.astimezone(here) + timedelta(days=days)).date()
            assert clock.due_at.astimezone(here) == datetime(
                last_day.year, last_day.month, last_day.day, tzinfo=here
            ) + (timedelta(days=1))
            seen.add(version)
    assert seen == {1, 2}


def test_a_case_handled_again_keeps_its_number_and_a_transfer_is_accepted_by_whom_it_was_offered(
    told: dict[str, list[Event]],
) -> None:
    reopened = transferred = 0
    for events in told.values():
        numbers: dict[UUID, str] = {}
        offered: dict[UUID, UUID] = {}
        for event in events:
            if isinstance(event, ComplaintAccepted):
                assert event.originator_id not in numbers
                numbers[event.originator_id] = event.number
            elif isinstance(event, CaseReopened):
                assert event.originator_id in numbers
                reopened += 1
            elif isinstance(event, TransferOffered):
                offered[event.originator_id] = event.to
            elif isinstance(event, TransferAccepted):
                assert event.owner == offered[event.originator_id]
                transferred += 1
    assert reopened
    assert transferred


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**31))
@example(1064)  # a complaint comes in so late that its first record is after the last moment
def test_any_seed_plays_by_the_rules(seed: int) -> None:
    """A decision that refuses would end the play."""
    simulator = Simulator(SMALL[0], seed)
    events = [event for command in simulator.commands() for event in command]
    assert len(folded(events)) == simulator.cases
