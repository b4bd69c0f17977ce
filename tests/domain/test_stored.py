"""Every event ever stored can be loaded: one stored body per topic, kept for ever in `stored.json`.

`python -m tests.domain.test_stored` adds the bodies of new topics; those that are there are never changed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest

import domain.complaint
import domain.credential
import domain.glass
import domain.institution
import domain.policy
import domain.series
import domain.staff
from domain.kernel import FORMER, TOPICS, Event, named
from domain.store.mapper import decode_body, encode_body
from domain.store.recorder import Envelope

STORED = Path(__file__).with_name("stored.json")
AT = datetime(2026, 3, 2, 1, tzinfo=UTC)
OURS = {
    topic
    for module in (
        domain.complaint,
        domain.credential,
        domain.glass,
        domain.institution,
        domain.policy,
        domain.series,
        domain.staff,
    )
    for topic, event in TOPICS.items()
    if event.__module__.startswith(module.__name__)
}
"""The topics of the house; tests elsewhere may register their own."""


def stored() -> dict[str, object]:
    return json.loads(STORED.read_text("utf-8"))


def canonical(body: object) -> bytes:
    return json.dumps(body, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def envelope(topic: str, body: bytes) -> Envelope:
    return Envelope(
        originator_id=named("BJ", "case", "1"),
        originator_version=1,
        topic=topic,
        state=body,
        event_id=UUID(int=1),
        command_id=UUID(int=2),
        actor=named("BJ", "staff", "li"),
        occurred_at=AT,
    )


def test_every_topic_has_a_stored_body() -> None:
    """test-list 29."""
    former = {topic for topic, (event, _) in FORMER.items() if event.topic in OURS}
    assert stored().keys() >= OURS | former


@pytest.mark.parametrize("topic", sorted(stored()))
def test_a_stored_body_loads_and_is_stored_again_unchanged(topic: str) -> None:
    """test-list 29. A former topic is stored again under the one that took its place."""
    body = canonical(stored()[topic])
    event = decode_body(topic, body, envelope(topic, body))
    if topic in FORMER:
        assert type(event) is FORMER[topic][0]
        return
    assert type(event) is TOPICS[topic]
    assert encode_body(event) == body


def examples() -> Iterator[Event]:
    """One event of every topic, as the decisions make them."""
    from tests.domain import test_complaint_custody as custody
    from tests.domain import test_credential, test_glass, test_institution, test_policy, test_staff
    from tests.domain import test_walks as walks
    from tests.domain.given import BOSS, stamp

    for seed in range(60):
        yield from walks.wander(seed, 600).events
    told = custody.imported()
    line = custody.work(told, "task-42933", 1, "investigating")
    assert line is not None
    yield from (*told.events, line)
    yield from told.then(lambda case: case.end_import(stamp(BOSS, 9), ended_at=AT, result="done")).events
    yield from filter(None, [test_institution.opened(), test_staff.enrolled(), test_policy.published()])
    zhao = test_staff.zhao()
    yield from filter(None, [zhao.leave(stamp(BOSS), "退休"), zhao.assign_roles(stamp(BOSS), ["cs_director"])])  # pyright: ignore[reportArgumentType]
    yield from test_credential.examples()
    yield from test_glass.examples()
    yield domain.series.issue(None, stamp(), institution="BJ", series="complaint", period="2026-03")


def add_new() -> None:
    """Write the body of every topic that has none yet, the fullest example of it."""
    known = stored() if STORED.exists() else {}
    fullest: dict[str, bytes] = {}
    for event in examples():
        body = encode_body(event)
        if event.topic not in known and len(body) > len(fullest.get(event.topic, b"")):
            fullest[event.topic] = body
    known |= {topic: json.loads(body) for topic, body in fullest.items()}
    STORED.write_text(json.dumps(known, ensure_ascii=False, sort_keys=True, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    add_new()
