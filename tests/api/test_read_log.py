"""The log of reads: what is shown of people unmasked is stored before it leaves, or does not leave (test-list 45)."""

from __future__ import annotations

import hashlib
import json
from typing import Any
from urllib.parse import quote
from uuid import UUID, uuid4

import psycopg
import pytest

from api.access.read_log import Reads, Shown
from api.identity import of_view
from domain.kernel import Role
from projections.complaint import COMPLAINTS
from tests.api.conftest import Edge, Office, intake
from tests.api.reads import LIST, ONE, SECRETS, Log, received, sent
from tests.conftest import Database


@pytest.fixture
def log(office: Office, shared_database: Database) -> Log:
    return Log(shared_database.owner, office.code)


def test_what_is_shown_unmasked_is_in_the_log(office: Office, log: Log) -> None:
    case, subject = received(office)
    agent = office[Role.CS_AGENT]
    answer = sent(agent, LIST, {"X-Purpose": "follow-up"}, operationName="Worklist")
    node = answer.json()["data"]["complaints"]["edges"][0]["node"]
    assert (node["complainant"], node["phone"], node["statement"]) == SECRETS
    (entry,) = log.entries()
    assert {k: v for k, v in entry.items() if k not in ("read_at", "entry")} == {
        "institution": office.code,
        "reader": agent.id,
        "token_id": hashlib.sha256(agent.token.encode()).hexdigest()[:12],
        "road": "question",
        "purpose": "follow-up",
        "document": hashlib.sha256(LIST.encode()).digest(),
        "operation": "Worklist",
        "correlation": answer.headers["x-correlation-id"],
        "view": "complaint_case",
        "fields": ["complainant", "phone", "statement"],
        "subjects": [UUID(subject)],
        "glass": None,
        "position": office.casebook.head(),
    }
    assert log.by_subject(subject) == [entry["entry"]]
    assert log.by_subject(case) == []


def test_only_fields_that_were_asked_for_and_have_a_value_are_in_it(office: Office, log: Log) -> None:
    case, _ = received(office)
    office[Role.CS_AGENT].ask("query ($id: UUID!) { complaint(id: $id) { phone demand result } }", id=case)
    assert [entry["fields"] for entry in log.entries()] == [["phone"]]


def test_what_is_masked_or_not_personal_is_not_in_it(office: Office, log: Log) -> None:
    case, _ = received(office)
    for role in (Role.AUDITOR, Role.ACCOUNTANT, Role.GUIDE, Role.CONSULTANT):
        shown = office[role].ask(ONE, id=case)["complaint"]
        assert shown["complainant"] == "王**"
        assert shown["phone"] == "138****8000"
        assert shown["statement"] == "***"
        assert shown["demand"] is None
    office[Role.CS_AGENT].ask("{ complaints { edges { node { number stage owner } } } }")
    assert log.entries() == []


def test_each_field_names_just_the_people_it_was_shown_of(office: Office, log: Log) -> None:
    _, first = received(office)
    second_case = uuid4()
    agent = office[Role.CS_AGENT]
    agent.done("complaintReceive", id=second_case, **intake())
    office.follow()
    asked = "query ($id: UUID!) { complaint(id: $id) { complainantId } }"
    second = agent.ask(asked, id=second_case)["complaint"]["complainantId"]
    agent.ask("{ complaints { edges { node { complainant phone result } } } }")
    said = {tuple(entry["fields"]): {str(s) for s in entry["subjects"]} for entry in log.entries()}
    # the second case was received without a number
    assert said in (
        {("complainant",): {first, second}, ("phone",): {first}},
        {("complainant", "phone"): {first, second}},
    )
    assert all(log.by_subject(one) for one in (first, second))


NODE = "... on Complaint { complainant }"
ROADS: dict[str, str] = {
    "of a clock": "{ of: complaintClocks { edges { node { complaint { complainant } } } } }",
    "of a line": "{ of: history { edges { node { complaint { complainant } } } } }",
    "by its global id": "query ($node: ID!) { of: node(id: $node) { " + NODE + " } }",
    "by global ids": "query ($node: ID!) { of: nodes(ids: [$node, $node]) { " + NODE + " } }",
    "one": "query ($id: UUID!) { of: complaint(id: $id) { complainant } }",
    "the list": '{ of: complaints(filter: {text: ""}) { edges { node { complainant } } } }',
    "as it was": 'query ($id: UUID!) { of: complaintAsOf(id: $id, asOf: {version: "1"}) { complainant } }',
    "who set it": "query ($id: UUID!) { of: complaintBlame(id: $id) { field value } }",
}


@pytest.mark.parametrize("way", ROADS)
def test_every_road_masks_and_logs(office: Office, road: Edge, log: Log, way: str) -> None:
    case, subject = received(office)
    known = {"id": case, "node": of_view(COMPLAINTS).write((case,))}
    query, there = ROADS[way], office.by(road)
    variables = {name: value for name, value in known.items() if f"${name}:" in query}
    masked = json.dumps(there[Role.AUDITOR].ask(query, **variables), ensure_ascii=False)
    assert not any(secret in masked for secret in SECRETS)
    assert "王**" in masked
    assert log.entries() == []
    assert "王女士" in json.dumps(there[Role.CS_CHIEF].ask(query, **variables), ensure_ascii=False)
    (entry, *_) = log.entries()
    assert "complainant" in entry["fields"]
    assert [str(s) for s in entry["subjects"]] == [subject]


def test_a_receipt_masks_and_logs_too(office: Office, log: Log) -> None:
    receive = (
        "mutation ($c: UUID!, $at: DateTime!) { complaintReceive(commandId: $c, receivedAt: $at, channel: TELEPHONE,"
        ' complainant: "王女士", phone: "13800138000", statement: "等候") {'
        " ... on ComplaintDecided { complaint { complainant phone statement } } ... on Refusal { code } } }"
    )
    at = "2026-03-02T09:00:00+08:00"
    shown = office[Role.GUIDE].ask(receive, c=uuid4(), at=at)["complaintReceive"]["complaint"]
    assert shown == {"complainant": "王**", "phone": "138****8000", "statement": "***"}
    assert log.entries() == []
    shown = office[Role.CS_AGENT].ask(receive, c=uuid4(), at=at)["complaintReceive"]["complaint"]
    assert shown["complainant"] == "王女士"
    (entry,) = log.entries()
    assert entry["road"] == "command"
    assert entry["fields"] == ["complainant", "phone", "statement"]


def test_no_value_is_ever_in_the_log(office: Office, log: Log) -> None:
    case, _ = received(office)
    office[Role.CS_DIRECTOR].ask(ONE, id=case)
    with psycopg.connect(log.owner) as connection:
        connection.execute("SELECT set_config('anjuan.institution', %s, false)", (office.code,))
        said = str(connection.execute("SELECT l::text FROM read_log AS l").fetchall())
        said += str(connection.execute("SELECT l::text FROM read_log_subject AS l").fetchall())
    assert "complaint_case" in said
    assert not any(secret in said for secret in SECRETS)


@pytest.mark.parametrize(
    ("header", "extension", "stored"),
    [
        (None, None, None),
        ("audit 2026", None, "audit 2026"),
        (quote("回访"), None, "回访"),
        ("回访".encode().decode("latin-1"), None, "回访"),
        ("header", "回访", "回访"),
        (None, "  ", None),
        (None, "目" * 200, "目" * 200),
    ],
)
def test_a_purpose_is_said_by_header_or_extension(
    office: Office, log: Log, header: str | None, extension: str | None, stored: str | None
) -> None:
    case, _ = received(office)
    headers = {} if header is None else {"X-Purpose": header.encode("latin-1")}
    extensions = {} if extension is None else {"extensions": {"purpose": extension}}
    answer = sent(office[Role.CS_AGENT], ONE, headers, variables={"id": case}, **extensions)  # pyright: ignore[reportArgumentType]
    assert answer.json()["data"]["complaint"]["complainant"] == "王女士"
    (entry,) = {entry["purpose"] for entry in log.entries()}
    assert entry == stored


@pytest.mark.parametrize("said", ["目" * 201, 7, ["x"], "a\u0000b", "\ud800"])
def test_what_is_no_purpose_is_refused(office: Office, log: Log, said: Any) -> None:
    case, _ = received(office)
    answer = sent(office[Role.CS_AGENT], ONE, variables={"id": case}, extensions={"purpose": said})
    assert "王女士" not in answer.text
    assert answer.json()["errors"][0]["extensions"]["code"] in ("request.purpose", "request.body")
    assert log.entries() == []


@pytest.mark.parametrize("header", ["%FF", "%E5%9B", "x" * 201])
def test_a_header_that_is_no_purpose_is_refused(office: Office, log: Log, header: str) -> None:
    case, _ = received(office)
    answer = sent(office[Role.CS_AGENT], ONE, {"X-Purpose": header}, variables={"id": case})
    assert answer.json()["errors"][0]["extensions"]["code"] == "request.purpose"
    assert "data" not in answer.json()
    assert log.entries() == []


@pytest.mark.parametrize("table", ["read_log", "read_log_subject"])
@pytest.mark.parametrize("change", ["UPDATE {} SET entry = 0", "DELETE FROM {}", "TRUNCATE {}"])
def test_what_was_read_stays_read(database: Database, table: str, change: str) -> None:
    """By trigger for the owner, by privilege for the application."""
    with psycopg.connect(database.owner, autocommit=True) as connection:
        with pytest.raises(psycopg.errors.RestrictViolation):
            connection.execute(change.format(table).encode())
        with pytest.raises(psycopg.errors.RestrictViolation):
            connection.execute(f"SET session_replication_role = replica; {change.format(table)}".encode())
    with (
        psycopg.connect(database.app, autocommit=True) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute(change.format(table).encode())


def test_columns_shown_of_the_same_people_are_one_entry() -> None:
    one, two, glass = uuid4(), uuid4(), uuid4()
    reads = Reads()
    assert not reads
    reads.add("v", ["b", "a"], [one, two])
    reads.add("v", "c", [one])
    reads.add("v", "c", [one], glass)
    reads.add("w", "a", [])
    other = Reads()
    other.include(reads)
    both = tuple(sorted((one, two)))
    expected = [Shown("v", ("a", "b"), both), Shown("v", ("c",), (one,)), Shown("v", ("c",), (one,), glass)]
    assert reads.taken() == expected
    assert not reads
    assert reads.taken() == []
    assert other.taken() == expected, "what one reader was told is still to be logged for the next"
