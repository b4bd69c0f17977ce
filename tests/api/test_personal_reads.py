"""The log of reads over GraphQL: by subject, by reader, by time, page by page, of one's own institution only."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from domain.kernel import Role
from tests.api.conftest import Desk, Office
from tests.api.reads import ONE, received

READS = (
    "query ($subject: UUID, $reader: UUID, $from: DateTime, $until: DateTime, $first: Int, $after: String,"
    " $last: Int, $before: String) { personalReads(subject: $subject, reader: $reader, readFrom: $from,"
    " readBefore: $until, first: $first, after: $after, last: $last, before: $before) { totalCount"
    " pageInfo { hasNextPage hasPreviousPage startCursor endCursor } edges { cursor node { reader readAt fields"
    " subjects view purpose road operation correlation documentSha256 tokenId glass position } } } }"
)


def asked(desk: Desk, **narrowed: Any) -> list[dict[str, Any]]:
    return [edge["node"] for edge in desk.ask(READS, **narrowed)["personalReads"]["edges"]]


def test_the_log_is_asked_by_subject_by_reader_and_by_time(office: Office, elsewhere: Office) -> None:
    first, one = received(office)
    second, two = received(office)
    theirs, third = received(elsewhere)
    agent, chief, auditor = office[Role.CS_AGENT], office[Role.CS_CHIEF], office[Role.AUDITOR]
    for desk, case in ((agent, first), (chief, second), (agent, second)):
        desk.ask(ONE, id=case)
    elsewhere[Role.CS_AGENT].ask(ONE, id=theirs)
    everything = asked(auditor)
    assert [(read["reader"], read["subjects"]) for read in everything] == [
        (str(agent.id), [two]), (str(chief.id), [two]), (str(agent.id), [one]),
    ]  # fmt: skip
    assert [read["reader"] for read in asked(auditor, subject=two)] == [str(agent.id), str(chief.id)]
    assert [read["subjects"] for read in asked(auditor, reader=agent.id)] == [[two], [one]]
    assert asked(auditor, subject=two, reader=chief.id) == [everything[1]]
    assert asked(auditor, subject=third) == [], "of another institution nothing is known"
    assert asked(auditor, subject=uuid4()) == []
    earlier = [read["readAt"] for read in everything]
    assert asked(auditor, **{"from": earlier[0]}) == everything[:1]
    assert asked(auditor, until=earlier[0]) == everything[1:]
    assert asked(auditor, subject=two, **{"from": earlier[1], "until": earlier[0]}) == [everything[1]]
    long_ago = datetime.now(UTC) - timedelta(days=365)
    assert asked(auditor, until=long_ago) == []
    assert [read["reader"] for read in asked(elsewhere[Role.AUDITOR])] == [str(elsewhere[Role.CS_AGENT].id)]


@pytest.mark.parametrize("of_subject", [False, True])
def test_pages_go_both_ways_and_end(office: Office, of_subject: bool) -> None:
    case, subject = received(office)
    agent, auditor = office[Role.CS_AGENT], office[Role.AUDITOR]
    for _ in range(7):
        agent.ask(ONE, id=case)
    narrowed = {"subject": subject} if of_subject else {}
    whole = auditor.ask(READS, first=100, **narrowed)["personalReads"]
    assert whole["totalCount"] == "7"
    cursors = [edge["cursor"] for edge in whole["edges"]]
    assert len(set(cursors)) == 7

    forwards: list[str] = []
    page: dict[str, Any] = {"pageInfo": {"hasNextPage": True, "endCursor": None}}
    while page["pageInfo"]["hasNextPage"]:
        page = auditor.ask(READS, first=3, after=page["pageInfo"]["endCursor"], **narrowed)["personalReads"]
        forwards += [edge["cursor"] for edge in page["edges"]]
    assert forwards == cursors

    backwards: list[str] = []
    page = {"pageInfo": {"hasPreviousPage": True, "startCursor": None}}
    while page["pageInfo"]["hasPreviousPage"]:
        page = auditor.ask(READS, last=3, before=page["pageInfo"]["startCursor"], **narrowed)["personalReads"]
        backwards = [edge["cursor"] for edge in page["edges"]] + backwards
    assert backwards == cursors


@pytest.mark.parametrize("cursor", ["", "bm8", "WyJyZWFkX2xvZyIsMSwyXQ", "\u2603", "W10", "WyJyZWFkX2xvZyIsIngiLDFd"])
def test_a_cursor_of_elsewhere_is_refused(office: Office, cursor: str) -> None:
    for end in ("after", "before"):
        assert office[Role.AUDITOR].error(READS, **{end: cursor})["code"] == "page.cursor"
