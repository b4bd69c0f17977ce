"""A token believed from memory is held to what the database says in the same round trip: nothing is done before."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from api.access.proof import STATEMENT
from api.access.token import revoke_token
from api.app import create_app
from domain.kernel import Role
from domain.staff import STAFF
from tests.api.conftest import SETTINGS, Desk, Edge, Office, intake, running, stamp
from tests.api.statements import watched

ASK = "{ complaints { totalCount } }"


def status(desk: Desk, query: str, **variables: Any) -> tuple[int, dict[str, Any]]:
    """Status and answer of a request with the desk's token."""
    answer = desk.edge.send(
        "POST",
        "/graphql",
        json={"query": query, "variables": variables},
        headers={"Authorization": f"Bearer {desk.token}"},
    )
    return answer.status_code, answer.json()


def test_a_known_token_and_its_question_cost_one_round_trip(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    # of its own: nobody else's subscriptions look at positions beside it
    with running(create_app(SETTINGS, office.casebook.house)) as edge:
        auditor = office.by(edge)[Role.AUDITOR]
        query = "{ one: complaints { edges { node { overdue } } } }"
        auditor.ask(query)
        seen = watched(monkeypatch)
        auditor.ask(query)
    assert seen[1].text.encode() == STATEMENT
    assert len(seen) == 3, "the institution, the token, the question"
    assert len({sent.trip for sent in seen}) == 1


@pytest.mark.parametrize(
    "query", [ASK, "{ me { name } }", "{ nothing }", "{", "{ complaints(first: 0) { totalCount } }"]
)
def test_a_revoked_token_is_refused_at_once_whatever_it_asks(office: Office, road: Edge, query: str) -> None:
    desk = office.by(road)[Role.AUDITOR]
    assert status(desk, ASK)[0] == 200
    assert revoke_token(office.casebook.house, office.code, desk.token)
    code, said = status(desk, query)
    assert (code, said["errors"][0]["extensions"]["code"]) == (401, "access.token_revoked")
    assert "data" not in said


def test_a_revoked_token_commands_nothing(office: Office, road: Edge) -> None:
    desk = office.by(road)[Role.CS_AGENT]
    desk.ask("{ me { name } }")
    assert revoke_token(office.casebook.house, office.code, desk.token)
    head = office.casebook.head()
    variables = intake()
    query = (
        "mutation ($id: UUID!, $at: DateTime!, $said: String!) { complaintReceive(commandId: $id, receivedAt: $at,"
        ' channel: TELEPHONE, complainant: "x", statement: $said) { __typename } }'
    )
    code, _ = status(desk, query, id=str(uuid4()), at=variables["receivedAt"].isoformat(), said="x")
    assert code == 401
    assert office.casebook.head() == head


def test_changed_posts_count_at_once(office: Office, road: Edge) -> None:
    desk = office.by(road)[Role.AUDITOR]
    assert "data" in status(desk, "{ history { totalCount } }")[1]
    said = stamp()
    office.casebook.act(
        STAFF, desk.id, lambda staff: staff.assign_roles(said, roles=(Role.CASHIER,)), command_id=said.command_id
    )
    _, answer = status(desk, "{ history { totalCount } }")
    assert answer["errors"][0]["extensions"]["code"] == "access.role"


def test_only_a_bearer_token_is_believed(office: Office, road: Edge) -> None:
    desk = office.by(road)[Role.AUDITOR]
    desk.ask(ASK)
    for authorization in (f"Basic {desk.token}", desk.token, f"Token {desk.token}"):
        answer = desk.edge.send("POST", "/graphql", json={"query": ASK}, headers={"Authorization": authorization})
        assert answer.status_code == 401
