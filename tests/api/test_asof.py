"""Cases as they were, over GraphQL: up to any bound that has passed, who set what, and the history behind it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from domain.complaint import COMPLAINT
from domain.kernel import Role, replay
from tests.api.conftest import Office, intake

BEGUN = datetime(2026, 3, 1, 8, tzinfo=UTC)


HOW = """query ($id: UUID!, $as: AsOf!) { complaintAsOf(id: $id, asOf: $as) {
  version position stage owner number overdue clockStep
  clocks(first: 100) { totalCount edges { cursor node { step interval outcome } } }
  history(first: 100) { totalCount edges { node { version topic } } } } }"""


def walked(office: Office) -> UUID:
    """A case with seven events, an hour apart."""
    agent, director = office[Role.CS_AGENT], office[Role.CS_DIRECTOR]
    case = uuid4()
    at = {n: BEGUN + timedelta(hours=n) for n in range(8)}
    agent.done("complaintReceive", id=case, occurredAt=at[0], **intake(receivedAt=BEGUN))
    director.done("complaintAccept", id=case, occurredAt=at[1], cause="因", course="过", demand="求")
    agent.done("complaintMakeFirstContact", id=case, occurredAt=at[2], account="述")
    agent.done("complaintGatherEvidence", id=case, occurredAt=at[3], source="监控", content="甲")
    director.done("complaintCompleteInvestigation", id=case, occurredAt=at[4], findings="属实")
    qualified = {"reason": "因", "complexity": "SIMPLE", "category": "FEES", "severity": "SERIOUS", "isDispute": True}
    director.done("complaintQualify", id=case, occurredAt=at[5], **qualified)
    agent.done("complaintInformRights", id=case, occurredAt=at[6], how="当面")
    return case


def test_a_case_as_it_was_is_what_its_events_up_to_then_say(office: Office) -> None:
    """test-list 32: four kinds of bound agree with each other and with the domain's own fold."""
    case = walked(office)
    office.follow()
    auditor = office[Role.AUDITOR]
    history = office.casebook.history(case)
    assert len(history) == 7
    for n, (recorded, event) in enumerate(history, 1):
        state = replay(COMPLAINT, [e for _, e in history[:n]])
        assert state is not None
        bounds: list[dict[str, Any]] = [
            {"version": n},
            {"position": str(recorded.position)},
            {"occurredAt": event.stamp.at.isoformat()},
            {"recordedAt": recorded.recorded_at.isoformat()},
        ]
        shown = [auditor.ask(HOW, id=case, **{"as": bound})["complaintAsOf"] for bound in bounds]
        for one in shown:
            assert {**one, "overdue": 0} == {**shown[0], "overdue": 0}
        assert shown[0]["version"] == str(n)
        assert shown[0]["stage"] == state.stage.upper()
        assert shown[0]["owner"] == str(state.owner)
        assert shown[0]["number"] == (state.number or "")
        assert shown[0]["clockStep"] == state.running.step.upper()
        assert [line["node"]["version"] for line in shown[0]["history"]["edges"]] == [str(v) for v in range(1, n + 1)]
        running = [c for c in shown[0]["clocks"]["edges"] if c["node"]["outcome"] is None]
        assert len(running) == len(state.clocks.running)


def test_a_case_as_it_is_and_as_of_its_last_version_are_one(office: Office) -> None:
    """test-list 32"""
    case = walked(office)
    office.follow()
    auditor = office[Role.AUDITOR]
    now = HOW.replace("$as: AsOf!", "").replace("complaintAsOf(id: $id, asOf: $as)", "complaint(id: $id)")
    is_, was = (
        auditor.ask(now, id=case)["complaint"],
        auditor.ask(HOW, id=case, **{"as": {"version": 7}})["complaintAsOf"],
    )
    assert {**is_, "overdue": 0} == {**was, "overdue": 0}
    nested = "query ($id: UUID!, $a: String) { complaint(id: $id) { clocks(first: 2, after: $a) { pageInfo"
    nested += " { endCursor hasNextPage } edges { node { step } } } } }"
    past = nested.replace("complaint(id: $id)", "complaintAsOf(id: $id, asOf: {version: 7})")
    for query, name in ((nested, "complaint"), (past, "complaintAsOf")):
        cursor, steps = None, list[str]()
        while True:
            page = auditor.ask(query, id=case, a=cursor)[name]["clocks"]
            steps += [edge["node"]["step"] for edge in page["edges"]]
            cursor = page["pageInfo"]["endCursor"]
            if not page["pageInfo"]["hasNextPage"]:
                break
        assert steps == [edge["node"]["step"] for edge in is_["clocks"]["edges"]]


def test_a_case_before_it_was_and_a_moment_said_twice_are_refused(office: Office) -> None:
    case, auditor = walked(office), office[Role.AUDITOR]
    early = (BEGUN - timedelta(days=1)).isoformat()
    not_yet = auditor.error(HOW, id=case, **{"as": {"occurredAt": early}})
    assert (not_yet["code"], not_yet["field"]) == ("complaint.not_yet", "asOf")
    for wrong in ({"version": 1, "position": 1}, {}, {"version": None}):
        said = auditor.post(HOW, id=case, **{"as": wrong})
        assert "data" not in said
        assert said["errors"]


ASKED_AS_OF = (HOW, "query ($id: UUID!, $as: AsOf) { complaintBlame(id: $id, asOf: $as) { field } }")


@pytest.mark.parametrize("query", ASKED_AS_OF, ids=["as of", "blame"])
def test_what_is_still_to_come_cannot_be_looked_at(office: Office, query: str) -> None:
    """The last version and position can; the next one would silently be the last."""
    case, auditor = walked(office), office[Role.AUDITOR]
    head, soon = office.casebook.head(), (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    auditor.ask(query, id=case, **{"as": {"version": 7}})
    auditor.ask(query, id=case, **{"as": {"position": head}})
    auditor.ask(query, id=case, **{"as": {"recordedAt": datetime.now(UTC).isoformat()}})
    for ahead, code in (
        ({"version": 8}, "as_of.version"),
        ({"version": 2**63 - 1}, "as_of.version"),
        ({"position": head + 1}, "as_of.position"),
        ({"occurredAt": soon}, "as_of.moment"),
        ({"recordedAt": soon}, "as_of.moment"),
    ):
        said = auditor.error(query, id=case, **{"as": ahead})
        assert (said["code"], said["field"]) == (code, "asOf")
        assert said["sentenceZh"]
    nobody = auditor.error(query, id=uuid4(), **{"as": {"version": 8}})
    assert nobody["code"] == "complaint.not_yet", "what is not there has no last version to tell of"


def test_every_field_names_the_event_that_set_it(office: Office) -> None:
    """Blame agrees with the fold: a field is set by the first event after which it has its value."""
    case, auditor = walked(office), office[Role.AUDITOR]
    query = "query ($id: UUID!, $as: AsOf) { complaintBlame(id: $id, asOf: $as)"
    query += " { field value version topic actor occurredAt } }"
    blamed = {b["field"]: b for b in auditor.ask(query, id=case)["complaintBlame"]}
    assert (blamed["stage"]["value"], blamed["stage"]["topic"]) == ("qualified", "complaint.qualified")
    assert blamed["complainant"]["topic"] == "complaint.received"
    assert blamed["number"]["topic"] == "complaint.accepted"
    assert blamed["rightsInformedAt"]["version"] == "7"
    assert blamed["severity"]["actor"] == str(office[Role.CS_DIRECTOR].id)
    assert blamed["severity"]["occurredAt"] == "2026-03-01T13:00:00.000000+00:00"
    assert blamed["closedAt"]["value"] is None
    then = {b["field"]: b for b in auditor.ask(query, id=case, **{"as": {"version": 2}})["complaintBlame"]}
    assert then["stage"]["value"] == "investigating"
    assert auditor.error(query, id=uuid4())["code"] == "complaint.unknown"


def test_the_history_names_personal_fields_and_keeps_their_values(office: Office) -> None:
    case, auditor = walked(office), office[Role.AUDITOR]
    office.follow()
    query = """query ($id: UUID, $after: BigInt, $down: Boolean!) { history(stream: $id, afterPosition: $after,
        descending: $down, first: 100) { totalCount edges { node { position version topic streamId
        changes { field values personal } } } } }"""
    lines = [e["node"] for e in auditor.ask(query, id=case, down=False)["history"]["edges"]]
    assert [line["version"] for line in lines] == [str(n) for n in range(1, 8)]
    told = {c["field"]: c for c in lines[0]["changes"]}
    assert "receivedAt" in told, "as the schema and the blame have it"
    assert not any("_" in c["field"] for line in lines for c in line["changes"])
    assert told["statement"] == {"field": "statement", "values": [], "personal": True}
    assert told["channel"]["values"] == ["telephone"]
    everything = auditor.ask(query, down=True)["history"]
    positions = [int(e["node"]["position"]) for e in everything["edges"]]
    assert positions == list(range(office.casebook.head(), 0, -1)), "every event of the institution, once"
    later = auditor.ask(query, down=False, after=lines[2]["position"], id=case)["history"]["edges"]
    assert [e["node"]["version"] for e in later] == ["4", "5", "6", "7"]
