"""The history: a line for every event of any stream, in words, and never a personal value."""

from __future__ import annotations

import dataclasses
import json
from typing import get_args
from uuid import UUID

import pytest
from hypothesis import given as for_all
from hypothesis import settings

from domain.complaint import ComplaintEvent, Stage
from domain.institution import open_institution
from domain.kernel import Event, Role, named
from domain.money import Money
from domain.personal import ERASED, personal_fields
from domain.policy import DEFAULT_VALUES, publish
from domain.staff import enrol
from domain.store.casebook import Casebook, House
from projections.asof import blame
from projections.history import HISTORY, Change, HistoryRow, histories, history_after, show
from projections.question import ask
from projections.runner import catch_up
from projections.verify import verify
from tests.domain.given import BOSS, CASE, CHEN, MONDAY, PATIENT, ZHAO, received, stamp
from tests.projections.walks import HISTORIES, stored
from tests.rules import rule


def said(event: Event) -> dict[str, Change]:
    """What the line of an event says, by field."""
    return {change.field: change for change in show(None, event).changes}


def line_of(event: Event) -> HistoryRow:
    return show(None, event)


def test_a_line_names_stream_topic_actor_and_when_it_was_said():
    row = line_of(received(at=0.5).events[0])
    assert (row.stream_id, row.version, row.aggregate, row.topic) == (CASE, 1, "complaint", "complaint.received")
    assert (row.actor, row.occurred_at, row.subjects) == (ZHAO, stamp(ZHAO, 0.5).at, (PATIENT,))
    assert row.command_id == stamp(ZHAO, 0.5).command_id


@rule("CC-49")
def test_what_an_event_said_is_there_in_words():
    told = received().up_to(Stage.SETTLED, settlement="refund", amount=Money.of("1200.50"), payment="cash")
    by_topic = {event.topic: said(event) for event in told.events}
    heard = by_topic["complaint.received"]
    assert heard["channel"].values == ("telephone",)
    assert heard["received_at"].values == ("2026-03-02 01:00:00 UTC",)
    assert heard["departments"].values == ("皮肤科",)
    assert heard["stopped"].values == ("first_record 1: met",)
    assert heard["started"].values[1].startswith(f"form 1: {ZHAO}, due 2026-03-02 05:30:00 UTC, assumed (CC-09)")
    assert by_topic["complaint.plan_proposed"]["remedies"].values == ("apology", "refund")
    assert by_topic["complaint.plan_proposed"]["amount"].values == ("¥1200.50",)
    assert by_topic["complaint.qualified"]["is_dispute"].values == ("no",)
    assert by_topic["complaint.accepted"]["number"].values == ("BJ20260301",)


def test_a_late_step_says_by_how_much_it_was_late():
    assert said(received(at=1.5).events[0])["stopped"].values == ("first_record 1: late, 1800 s late",)


def test_a_field_that_keeps_its_default_was_not_said():
    assert "notified" not in said(
        received().up_to(Stage.CLOSED, settlement="refund", amount=Money.of(1), payment="cash").events[-2]
    )


def test_a_personal_field_is_named_and_its_value_left_out():
    heard = said(received().events[0])
    for name in ("complainant", "phone", "statement"):
        assert heard[name] == Change(name, personal=True)
    assert "孙女士" not in repr(heard)


def test_the_line_is_the_same_after_the_person_was_erased():
    """test-list 38: nothing of the line came from what the key opens."""
    event = received().events[0]
    blank = dict.fromkeys(personal_fields(type(event)), ERASED)
    assert show(None, dataclasses.replace(event, **blank)) == show(None, event)


@settings(deadline=None)
@for_all(HISTORIES)
def test_no_personal_value_is_ever_in_a_line(events: list[ComplaintEvent]):
    """test-list 37."""
    told = [getattr(event, name) for event in events for name in personal_fields(type(event)) if getattr(event, name)]
    lines = json.dumps([dataclasses.asdict(show(None, event)) for event in events], default=str, ensure_ascii=False)
    assert not [value for value in told if value in lines]


def test_every_field_of_every_case_event_is_said_or_is_the_envelope_s():
    for kind in get_args(ComplaintEvent):
        row_fields = {f.name for f in dataclasses.fields(kind)} - {f.name for f in dataclasses.fields(Event)}
        personal = personal_fields(kind)
        assert personal.keys() <= row_fields
        assert all(subject in row_fields for subject in personal.values())


def test_staff_institutions_and_policies_have_lines_too():
    hired = enrol(
        None, stamp(BOSS), id=ZHAO, name="赵敏", number="0001", roles=[Role.CS_AGENT, Role.GUIDE], department="客服部"
    )
    opened = open_institution(None, stamp(BOSS), code="BJ", name="北京机构", group="集团")
    published = publish(
        None,
        stamp(BOSS),
        institution="BJ",
        values=DEFAULT_VALUES,
        effective_from=MONDAY.replace(month=4),
        approved_by=CHEN,
    )
    assert hired is not None
    assert opened is not None
    assert published is not None
    assert said(hired)["roles"].values == ("cs_agent", "guide")
    assert said(hired)["name"] == Change("name", personal=True)
    assert said(opened)["name"].values == ("北京机构",)
    values = said(published)["values"].values
    assert len(values) == len(DEFAULT_VALUES)
    assert "complaint.step.form: 4 hour (CC-09), assumed" in values
    assert "complaint.close.copy_to: 总经办 (CC-33), assumed" in values
    assert [line_of(e).aggregate for e in (hired, opened, published)] == ["staff", "institution", "policy"]


def test_an_event_has_one_line():
    event = received().events[0]
    with pytest.raises(AssertionError):
        show(line_of(event), event)


# on a real PostgreSQL


def test_a_line_per_event_in_the_order_of_the_institution(house: House, casebook: Casebook, institution: str):
    """test-list 22, 26."""
    walked = stored(casebook, 5, 10, 30)
    catch_up(house, [HISTORY], institution, batch=37)
    count = sum(map(len, walked))
    with house.everywhere.connection() as connection:
        rows = ask(connection, history_after(institution, 0, 10_000))
        rest = ask(connection, history_after(institution, count - 7, 5))
    assert [row.position for row in rows] == list(range(1, count + 1))
    assert [row.position for row in rest] == list(range(count - 6, count - 1))
    events = {(e.originator_id, e.originator_version): e for walk in walked for e in walk}
    for row in rows:
        folded = line_of(events[row.stream_id, row.version])
        assert (row.changes, row.subjects, row.topic) == (folded.changes, folded.subjects, folded.topic)
        assert (row.actor, row.occurred_at, row.command_id) == (folded.actor, folded.occurred_at, folded.command_id)
        assert row.institution == institution
    assert [row.recorded_at for row in rows] == sorted(row.recorded_at for row in rows)
    found = verify(house, HISTORY, institution)
    assert found.ok, found.first
    assert found.rows == count


def test_the_histories_of_several_cases_come_in_one_answer(house: House, casebook: Casebook, institution: str):
    """test-list 34."""
    walked = stored(casebook, 6, 8, 30)
    catch_up(house, [HISTORY], institution)
    ids = [events[0].originator_id for events in walked]
    with house.everywhere.connection() as connection:
        rows = ask(connection, histories(institution, [*ids, ids[0], UUID(int=1)], 5))
        later = ask(connection, histories(institution, ids, 100, after=3))
        assert ask(connection, histories("XX", ids, 5)) == []
    expected = [(id, version) for id, events in sorted(zip(ids, walked, strict=True)) for version in _versions(events)]
    assert [(r.stream_id, r.version) for r in rows] == [(id, v) for id, v in expected if v <= 5]
    assert [(r.stream_id, r.version) for r in later] == [(id, v) for id, v in expected if v > 3]


def _versions(events: list[ComplaintEvent]) -> list[int]:
    return [e.originator_version for e in events]


def test_no_personal_text_is_in_the_table(house: House, casebook: Casebook, institution: str):
    """test-list 37: nor in the stored events; the key alone opens it."""
    event = received(complainant="欧阳某某").events[0]
    casebook.append(event)
    catch_up(house, [HISTORY], institution)
    with house.everywhere.connection() as connection:
        rows = connection.execute("SELECT h::text FROM history AS h WHERE institution = %s", (institution,)).fetchall()
        states = connection.execute("SELECT state FROM event WHERE institution = %s", (institution,)).fetchall()
    assert len(rows) == len(states) == 1
    assert "欧阳某某" not in rows[0][0]
    assert "欧阳某某".encode() not in states[0][0]


def test_the_only_setter_of_a_line_is_its_event(house: House, casebook: Casebook, institution: str):
    told = received().up_to(Stage.INVESTIGATED)
    casebook.append_many([[event] for event in told.events])
    setters = blame(house, HISTORY, institution, (CASE, 2))
    assert {setter.version for setter in setters.values()} == {2}
    assert setters["actor"].value == told.events[1].stamp.by
    assert blame(house, HISTORY, institution, (named("nobody"), 1)) == {}
