"""Who may come in and what they may ask: tokens, posts, institutions kept apart."""

from __future__ import annotations

import asyncio
import re
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from graphql import GraphQLObjectType

from api import complaint_commands, credential, glass, policy, staff
from api.access.roles import QUERIES
from api.access.token import issue_token, revoke_token, tokens
from api.context import query_pool
from api.identity import Identity, of_view
from api.schema import build
from domain.kernel import Refused, Role
from domain.staff import STAFF
from domain.store.casebook import House
from projections.complaint import COMPLAINTS
from projections.history import HISTORY
from tests.api.conftest import SETTINGS, Desk, Edge, Office, intake, stamp
from tests.api.statements import watched

ALL = (*complaint_commands.COMMANDS, *credential.COMMANDS, *glass.COMMANDS, *staff.COMMANDS, *policy.COMMANDS)
ME = "{ me { staffId institution roles name } }"


def fields(of: str) -> list[str]:
    found = build(SETTINGS)._schema.type_map[of]
    assert isinstance(found, GraphQLObjectType)
    return list(found.fields)


def status(edge: Edge, authorization: str | None, query: str = ME) -> tuple[int, dict[str, Any], dict[str, str]]:
    headers = {} if authorization is None else {"Authorization": authorization}
    answer = edge.send("POST", "/graphql", json={"query": query}, headers=headers)
    return answer.status_code, answer.json(), dict(answer.headers)


@pytest.mark.parametrize(
    "authorization",
    [None, "", "Bearer", "Bearer ", "Basic YTpi", "Bearer nonsense", "Bearer anjuan_" + "x" * 43],
)
@pytest.mark.parametrize("query", [ME, "{ __schema { types { name } } }", "{ __typename }", "nonsense {"])
def test_nothing_is_answered_without_a_token_that_opens(edge: Edge, authorization: str | None, query: str) -> None:
    code, said, headers = status(edge, authorization, query)
    assert code == 401
    assert said["errors"][0]["extensions"]["code"] == "access.token"
    assert "data" not in said
    assert headers["www-authenticate"].startswith("Bearer")


def test_only_health_is_open(edge: Edge) -> None:
    paths = {getattr(route, "path", "") for route in edge.app.routes}
    assert paths == {"/", "/graphql", "/livez", "/readyz", "/metrics", "/sign-in", "/sign-out", "/password"}
    assert edge.send("GET", "/livez").json() == {"live": True}
    assert edge.send("GET", "/graphql", params={"query": ME}).status_code == 401


def test_a_token_says_who_asks_and_is_not_kept(office: Office) -> None:
    agent = office[Role.CS_AGENT]
    me = agent.ask(ME)["me"]
    assert me == {"staffId": str(agent.id), "institution": office.code, "roles": ["CS_AGENT"], "name": "某人"}
    with office.casebook.house.everywhere.connection() as connection:
        kept = connection.execute(
            "SELECT t::text FROM api_token AS t WHERE institution = %s", (office.code,)
        ).fetchall()
    assert len(kept) == 1
    for words in (agent.token, agent.token.removeprefix("anjuan_")):
        assert words not in kept[0][0]
        assert words.encode().hex() not in kept[0][0], "nor its bytes"


def test_a_token_ends_when_it_is_revoked_or_expires_or_its_person_leaves(edge: Edge, office: Office) -> None:
    house, code = office.casebook.house, office.code
    revoked, leaving = office[Role.CS_AGENT], office[Role.GUIDE]
    assert revoke_token(house, code, revoked.token)
    assert not revoke_token(house, code, revoked.token)
    assert "revoked" in status(edge, f"Bearer {revoked.token}")[1]["errors"][0]["message"]

    brief = issue_token(house, code, leaving.id, "brief", timedelta(microseconds=1))
    assert "expired" in status(edge, f"Bearer {brief}")[1]["errors"][0]["message"]

    assert status(edge, f"Bearer {leaving.token}")[0] == 200
    said = stamp()
    office.casebook.act(STAFF, leaving.id, lambda staff: staff.leave(said), command_id=said.command_id)
    assert status(edge, f"Bearer {leaving.token}")[0] == 401
    assert [t.revoked_at is None for t in tokens(house, code)].count(False) == 1
    with pytest.raises(Refused, match=r"staff\.left"):
        issue_token(house, code, leaving.id, "too late", timedelta(days=1))


def test_tokens_are_refused_to_strangers_and_for_no_time(office: Office, elsewhere: Office) -> None:
    house = office.casebook.house
    stranger = elsewhere.enrolled(Role.ADMIN)
    with pytest.raises(Refused, match=r"staff\.unknown"):
        issue_token(house, office.code, stranger, "no", timedelta(days=1))
    with pytest.raises(Refused, match=r"token\.validity"):
        issue_token(house, office.code, office.enrolled(Role.GUIDE), "no", timedelta())
    with pytest.raises(Refused, match=r"token\.id"):
        revoke_token(house, office.code, "")
    assert not revoke_token(house, office.code, elsewhere[Role.ADMIN].token), "only one's own institution's"
    assert tokens(house, office.code) == []
    assert len(tokens(house, elsewhere.code)) == 1


def test_a_token_opens_as_a_bearer_token_only(edge: Edge, office: Office) -> None:
    token = office[Role.CS_AGENT].token
    assert [status(edge, f"{scheme} {token}")[0] for scheme in ("Bearer", "bearer", "Basic", "Token")] == [
        200, 200, 401, 401,
    ]  # fmt: skip


def test_questions_cannot_write(house: House) -> None:
    """Whatever a question were made to say, its connections refuse to change anything."""

    async def write() -> None:
        async with query_pool(SETTINGS, house) as pool, pool.connection() as connection:
            await connection.execute("DELETE FROM api_token")

    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        asyncio.run(write())


def test_posts_are_those_held_now(office: Office) -> None:
    agent = office[Role.CS_AGENT]
    assert agent.error("{ viewLag { view } }")["code"] == "access.role"
    said = stamp()
    office.casebook.act(
        STAFF, agent.id, lambda staff: staff.assign_roles(said, [Role.GM_OFFICE]), command_id=said.command_id
    )
    assert agent.ask(ME)["me"]["roles"] == ["GM_OFFICE"]
    agent.ask("{ viewLag { view } }")


def test_every_question_says_who_may_ask_it_and_every_decision_who_may_decide() -> None:
    assert set(fields("Query")) | set(fields("Subscription")) == set(QUERIES)
    assert set(fields("Mutation")) == {command.name for command in ALL}
    assert all(QUERIES.values())
    assert all(command.allowed for command in ALL)


def test_the_auditor_may_ask_everything_and_decide_nothing(office: Office) -> None:
    assert all(Role.AUDITOR in roles for roles in QUERIES.values())
    own = {"staffIssueToken", "staffRevokeToken", "glassBreak", "glassMend"}  # their own tokens and looks
    assert {command.name for command in ALL if Role.AUDITOR in command.allowed} == own
    assert office[Role.AUDITOR].refused("complaintReceive", **intake())["code"] == "access.role"


NOBODY = Identity("staff", ["uuid"]).write((UUID(int=1),))
QUESTIONS: dict[str, str] = {
    "me": "{ me { roles } }",
    "institution": "{ institution { code } }",
    "complaint": "query ($id: UUID!) { complaint(id: $id) { number } }",
    "complaints": "{ complaints { edges { cursor } } }",
    "complaintClocks": "{ complaintClocks { edges { cursor } } }",
    "complaintAsOf": "query ($id: UUID!) { complaintAsOf(id: $id, asOf: {version: 1}) { number } }",
    "complaintBlame": "query ($id: UUID!) { complaintBlame(id: $id) { field } }",
    "brokenGlasses": "{ brokenGlasses { edges { cursor } } }",
    "personalReads": "{ personalReads { edges { cursor } } }",
    "history": "{ history { edges { cursor } } }",
    "complaintPolicy": "{ complaintPolicy { version } }",
    "staffTokens": "{ staffTokens { id } }",
    "viewLag": "{ viewLag { view } }",
    "node": f'{{ node(id: "{NOBODY}") {{ id }} }}',
    "nodes": f'{{ nodes(ids: ["{NOBODY}"]) {{ id }} }}',
}


ASKED = set(fields("Query"))
"""What subscriptions are refused is tried where they are."""
CASES = {"complaint", "complaints", "complaintClocks", "complaintAsOf", "complaintBlame"}
LOGGED = {"brokenGlasses", "personalReads"}
MAY_NOT: dict[Role, set[str]] = {role: {"history", "viewLag", *LOGGED} for role in Role} | {
    Role.AUDITOR: set(),
    Role.GM_OFFICE: LOGGED,
    Role.CS_CHIEF: {"viewLag", *LOGGED},
    Role.DEAN: {"viewLag", *LOGGED},
    Role.ADMIN: {"history", *CASES},
    Role.HR: {"history", "viewLag", *LOGGED, *CASES},
    Role.KEEPER: {"history", "viewLag", *LOGGED, *CASES},
}
"""What each post may not ask, said here once more: patients' words are on a need-to-know basis."""


def test_each_post_may_ask_what_it_needs_and_no_more() -> None:
    for role in Role:
        assert {question for question in ASKED if role not in QUERIES[question]} == MAY_NOT[role], role


@pytest.mark.parametrize("question", sorted(ASKED))
def test_a_question_is_refused_to_those_who_may_not_ask_it(office: Office, question: str) -> None:
    case = office[Role.CS_AGENT].done("complaintReceive", **intake())["complaintId"]
    office.follow()
    query = QUESTIONS[question]
    variables = {"id": case} if "$id" in query else {}
    for role in (Role.KEEPER, Role.GUIDE, Role.AUDITOR):
        if role in QUERIES[question]:
            office[role].ask(query, **variables)
        else:
            assert office[role].error(query, **variables)["code"] == "access.role"


def test_who_may_not_see_cases_does_not_see_one_through_their_own_command(office: Office) -> None:
    said = office[Role.KEEPER].error(
        "mutation ($a: UUID!, $b: DateTime!) { complaintReceive(commandId: $a, receivedAt: $b, channel: LETTER,"
        ' complainant: "某", statement: "某事") { ... on ComplaintDecided { complaint { statement } } } }',
        a=uuid4(),
        b=intake()["receivedAt"],
    )
    assert said["code"] == "access.role"


# institutions

CASE_LIST = "query ($after: String) { complaints(first: 1, after: $after) { edges { cursor node { complaintId } } } }"


def everything(desk: Desk, id: str, position: str) -> dict[str, Any]:
    """Every question that can name something, asked about one case."""
    return {
        "by id": desk.error(QUESTIONS["complaint"], id=id)["code"],
        "as of": desk.error(QUESTIONS["complaintAsOf"], id=id)["code"],
        "blame": desk.error(QUESTIONS["complaintBlame"], id=id)["code"],
        "history": desk.ask("query ($id: UUID!) { history(stream: $id) { edges { cursor } } }", id=id)["history"],
        "position": desk.error(
            "query ($p: BigInt!) { complaints(consistentWith: $p) { edges { cursor } } }", p=position
        )["code"],
    }


def test_another_institutions_ids_are_as_unknown_as_any(office: Office, elsewhere: Office) -> None:
    """test-list 36"""
    theirs = [elsewhere[Role.CS_AGENT].done("complaintReceive", **intake(statement="他院之事")) for _ in range(20)][-1]
    elsewhere.follow()
    office.follow()
    auditor = office[Role.AUDITOR]
    unknown = everything(auditor, str(uuid4()), "1000000")
    assert everything(auditor, theirs["complaintId"], theirs["position"]) == unknown
    director = office[Role.CS_DIRECTOR]
    refused = director.refused("complaintMakeFirstContact", id=theirs["complaintId"], account="越界")
    nobody = director.refused("complaintMakeFirstContact", id=uuid4(), account="越界")
    assert (refused["code"], refused["field"]) == (nobody["code"], nobody["field"]) == ("complaint.unknown", "id")
    cursor = elsewhere[Role.AUDITOR].ask(CASE_LIST)["complaints"]["edges"][0]["cursor"]
    assert auditor.ask(CASE_LIST, after=cursor)["complaints"]["edges"] == []
    assert auditor.ask(CASE_LIST)["complaints"]["edges"] == []


def test_another_institutions_staff_cannot_be_named(office: Office, elsewhere: Office) -> None:
    agent = office[Role.CS_AGENT]
    stranger = elsewhere.enrolled(Role.CS_AGENT)
    refused = agent.refused("complaintReceive", **intake(owner=stranger))
    assert (refused["code"], refused["field"]) == ("staff.unknown", "owner")
    refused = agent.refused("complaintReceive", **intake(accused=[stranger]))
    assert (refused["code"], refused["field"]) == ("staff.unknown", "accused")
    assert office.casebook.head() == 3, "nothing is left behind but the institution, the agent and their token"


def test_the_same_ids_in_two_institutions_are_two_cases(office: Office, elsewhere: Office) -> None:
    """test-list 36"""
    case, command = uuid4(), uuid4()
    for where, text in ((office, "甲"), (elsewhere, "乙")):
        said = where[Role.CS_AGENT].done("complaintReceive", id=case, command_id=command, **intake(statement=text))
        assert not said["repeated"]
        where.follow()
    for where, text in ((office, "甲"), (elsewhere, "乙")):
        shown = where[Role.CS_AGENT].ask("query ($id: UUID!) { complaint(id: $id) { statement } }", id=case)
        assert shown["complaint"]["statement"] == text


def test_every_statement_of_a_question_names_the_institution(
    office: Office, road: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """test-list 35: what the edge sends to the database is bound to the principal's institution, on both roads."""
    case = office[Role.CS_AGENT].done("complaintReceive", **intake())["complaintId"]
    office.follow()
    auditor = office.by(road)[Role.AUDITOR]
    seen = watched(monkeypatch)
    for question in QUESTIONS.values():
        auditor.ask(question, **({"id": case} if "$id" in question else {}))
    auditor.ask("{ complaints { totalCount edges { node { clocks { totalCount } history { totalCount } } } } }")
    ids = [of_view(COMPLAINTS).write((UUID(case),)), of_view(HISTORY).write((UUID(case), 1))]
    assert all(auditor.ask("query ($ids: [ID!]!) { nodes(ids: $ids) { id } }", ids=ids)["nodes"])
    asked = [sent for sent in seen if "api_token" not in sent.text and "institution_of_" not in sent.text]
    questions = [sent for sent in asked if "set_config" not in sent.text]
    assert len(questions) >= 5
    for text, values, _ in asked:
        assert f"'{office.code}'" in values, values
        if "set_config" not in text:
            # wherever a table is read, it is narrowed; values are numbered where a plan says them more than once
            assert re.search(r"institution = (%|\$1\b)", text), text
