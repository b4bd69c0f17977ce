"""Tokens over GraphQL and at the machine: issued once, for what they are for, ended by whoever may."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from api.access.doorkeeper import FIND, Doorkeeper
from api.access.token import convert_tokens, digest, revoke_token, token_id, tokens
from api.app import create_app
from domain.credential import Scope
from domain.kernel import Role
from domain.staff import STAFF, Staff
from domain.store.casebook import House
from tests.api.conftest import SETTINGS, Desk, Office, intake, open_office, running, stamp
from tests.conftest import MASTER_KEY, Database

ME = "{ me { staffId } }"
ISSUE = """
    mutation ($c: UUID!, $label: String!, $scopes: [Scope!]!, $id: UUID, $days: Int) {
      staffIssueToken(commandId: $c, label: $label, scopes: $scopes, id: $id, days: $days) {
        ... on TokenIssued { token tokenId expiresAt version position repeated id }
        ... on Refusal { code field sentence sentenceZh }
      }
    }
"""
LIST = "query ($id: UUID) { staffTokens(id: $id) { id label scopes session createdAt expiresAt revokedAt } }"


def issue(desk: Desk, *scopes: str, **more: Any) -> dict[str, Any]:
    said = {"c": uuid4(), "label": "报表程序", "scopes": scopes or ["ASK"], **more}
    return desk.ask(ISSUE, **said)["staffIssueToken"]


def holding(desk: Desk, token: str) -> Desk:
    return Desk(desk.edge, token, desk.id)


def leave(office: Office, id: UUID) -> None:
    said = stamp()
    office.casebook.act(STAFF, id, lambda staff: staff.leave(said), command_id=said.command_id)


def status(desk: Desk, token: str) -> tuple[int, str | None]:
    answer = desk.edge.send("POST", "/graphql", json={"query": ME}, headers={"Authorization": f"Bearer {token}"})
    return answer.status_code, None if answer.status_code == 200 else answer.json()["errors"][0]["extensions"]["code"]


# issue


def test_a_token_is_shown_once_and_stored_nowhere(office: Office) -> None:
    agent, command = office[Role.CS_AGENT], uuid4()
    first = issue(agent, "ASK", "DECIDE", c=command)
    assert status(agent, first["token"]) == (200, None)
    assert (first["id"], first["repeated"]) == (str(agent.id), False)
    again = issue(agent, "ASK", "DECIDE", c=command)
    assert again == {**first, "token": None, "repeated": True}
    assert issue(agent, "ASK", c=command)["code"] == "command.reused"
    assert issue(agent, "ASK", "DECIDE", c=command, days=7)["code"] == "command.reused"
    history = office.casebook.history(agent.id)
    assert [e.topic for _, e in history].count("staff.token_issued") == 2, "the desk's own, and this one"
    for words in (first["token"], first["token"].removeprefix("anjuan_")):
        assert words not in repr(history)


def test_tokens_of_two_commands_sent_at_once_are_one(office: Office) -> None:
    """Whoever loses the race is told so, and no second token opens anything."""
    agent, command = office[Role.CS_AGENT], uuid4()
    with ThreadPoolExecutor(4) as together:
        said = [f.result() for f in [together.submit(issue, agent, "ASK", c=command) for _ in range(4)]]
    assert len({one["tokenId"] for one in said}) == 1
    shown = [one["token"] for one in said if one["token"]]
    assert len(shown) == 1
    assert status(agent, shown[0]) == (200, None)


def test_a_token_may_do_what_it_is_for_and_no_more(office: Office) -> None:
    agent = office[Role.CS_AGENT]
    asks = holding(agent, issue(agent, "ASK")["token"])
    decides = holding(agent, issue(agent, "DECIDE")["token"])
    asks.ask(ME)
    assert asks.refused("complaintReceive", **intake())["code"] == "access.scope"
    case = decides.done("complaintReceive", **intake())["complaintId"]
    office.follow()
    schema = "{ __schema { queryType { name } } }"
    for query in (
        schema,
        ME,
        "{ complaints { edges { cursor } } }",
        "{ staffTokens { id } }",
        "{ institution { code } }",
    ):
        assert decides.error(query)["code"] == "access.scope"
    assert decides.error("query ($id: UUID!) { complaint(id: $id) { number } }", id=case)["code"] == "access.scope"
    said = decides.post(
        "mutation ($c: UUID!, $id: UUID!) { complaintMakeFirstContact(commandId: $c, id: $id, account: \"听取陈述\")"
        " { ... on ComplaintDecided { version complaint { statement } } } }",
        c=uuid4(), id=case,
    )  # fmt: skip
    assert said["errors"][0]["extensions"]["code"] == "access.scope", "nor is what a command shows read by it"


def test_nobody_gives_themselves_more_than_they_hold(office: Office) -> None:
    agent, admin = office[Role.CS_AGENT], office[Role.ADMIN]
    weak = holding(agent, issue(agent, "DECIDE")["token"])
    refused = issue(weak, "ASK", "DECIDE")
    assert (refused["code"], refused["field"]) == ("access.scope", "scopes")
    assert refused["sentenceZh"]
    assert issue(weak, "DECIDE")["token"]
    reads = holding(agent, issue(agent, "ASK")["token"])
    assert issue(reads, "ASK")["code"] == "access.scope", "issuing is deciding"
    limited = holding(admin, issue(admin, "DECIDE")["token"])
    assert issue(limited, "ASK", "DECIDE", "OWN_DOCUMENTS", id=agent.id)["token"]


def test_only_an_administrator_issues_for_others(office: Office) -> None:
    agent, admin = office[Role.CS_AGENT], office[Role.ADMIN]
    for role in set(Role) - {Role.ADMIN, Role.CS_AGENT}:
        assert issue(office[role], id=agent.id)["code"] == "access.role", role
    given = issue(admin, id=agent.id)
    assert holding(agent, given["token"]).ask(ME)["me"]["staffId"] == str(agent.id)
    staff: Staff | None = office.casebook.read(STAFF, agent.id)
    assert staff is not None
    assert staff.tokens[given["tokenId"]].issued_by == admin.id


@pytest.mark.parametrize(
    ("said", "code", "field"),
    [
        ({"days": 0}, "token.validity", "days"),
        ({"days": -5}, "token.validity", "days"),
        ({"days": SETTINGS.token_days_max + 1}, "token.validity", "days"),
        ({"days": 2**31 - 1}, "token.validity", "days"),
        ({"label": "  "}, "text.empty", "label"),
        ({"scopes": []}, "token.scopes", "scopes"),
        ({"id": UUID(int=7)}, "staff.unknown", "id"),
    ],
)
def test_a_token_that_cannot_be_is_refused(office: Office, said: dict[str, Any], code: str, field: str) -> None:
    refused = issue(office[Role.ADMIN], **said)
    assert (refused["code"], refused["field"]) == (code, field)
    assert issue(office[Role.ADMIN], days=SETTINGS.token_days_max)["token"]


# revoke


def test_a_token_is_ended_by_its_holder_and_an_administrator(office: Office) -> None:
    agent, admin, other = office[Role.CS_AGENT], office[Role.ADMIN], office[Role.CS_DIRECTOR]
    mine, theirs = issue(agent), issue(agent)
    refused = other.refused("staffRevokeToken", id=agent.id, tokenId=mine["tokenId"])
    assert refused["code"] == "access.role"
    assert status(agent, mine["token"]) == (200, None)
    done = agent.done("staffRevokeToken", id=agent.id, tokenId=mine["tokenId"], reason="程序停用")
    assert done["topics"] == ["staff.token_revoked"]
    assert status(agent, mine["token"]) == (401, "access.token_revoked"), "from the next request on"
    assert agent.done("staffRevokeToken", id=agent.id, tokenId=mine["tokenId"])["topics"] == []
    admin.done("staffRevokeToken", id=agent.id, tokenId=theirs["tokenId"])
    assert status(agent, theirs["token"]) == (401, "access.token_revoked")
    assert agent.refused("staffRevokeToken", id=agent.id, tokenId="0" * 12)["field"] == "tokenId"
    auditor = office[Role.AUDITOR]
    own = issue(auditor)
    auditor.done("staffRevokeToken", id=auditor.id, tokenId=own["tokenId"])
    assert status(auditor, own["token"]) == (401, "access.token_revoked")


@pytest.mark.parametrize(
    "query",
    [
        ME,
        "{ __typename }",
        "{ __schema { queryType { name } } }",
        "{ institution { code } }",
        "{ complaintClocks(first: 2) { edges { node { step } } } }",
        "{ complaints(first: 2) { edges { node { number statement } } } }",
        "{ nothing }",
        "nonsense {",
    ],
)
def test_what_was_answered_before_is_not_answered_to_a_token_that_ended_since(office: Office, query: str) -> None:
    """However well the token is remembered and the answer kept: on every road."""
    director = office[Role.CS_DIRECTOR]
    office[Role.CS_AGENT].done("complaintReceive", **intake())
    office.follow()
    for end in ("revoked", "left"):
        desk = holding(director, issue(director, "ASK", "DECIDE")["token"])
        for _ in range(3):
            desk.post(query) if "nonsense" not in query else status(desk, desk.token)
        if end == "revoked":
            assert revoke_token(office.casebook.house, office.code, desk.token)
        else:
            leave(office, desk.id)
        answer = desk.edge.send(
            "POST", "/graphql", json={"query": query}, headers={"Authorization": f"Bearer {desk.token}"}
        )
        assert answer.status_code == 401
        assert answer.json()["errors"][0]["extensions"]["code"] in ("access.token_revoked", "access.left")
        assert "data" not in answer.json()


def test_nothing_is_done_for_a_token_that_ended_since(office: Office) -> None:
    agent = office[Role.CS_AGENT]
    desk = holding(agent, issue(agent, "ASK", "DECIDE")["token"])
    desk.ask(ME)
    assert revoke_token(office.casebook.house, office.code, desk.token)
    head = office.casebook.head()
    for document in (
        "mutation ($c: UUID!, $at: DateTime!) { complaintReceive(commandId: $c, receivedAt: $at, channel: LETTER,"
        ' complainant: "某", statement: "某事") { __typename } }',
        'mutation ($c: UUID!) { staffIssueToken(commandId: $c, label: "再来", scopes: [ASK]) { __typename } }',
    ):
        answer = desk.edge.send(
            "POST",
            "/graphql",
            json={"query": document, "variables": {"c": str(uuid4()), "at": datetime.now(UTC).isoformat()}},
            headers={"Authorization": f"Bearer {desk.token}"},
        )
        assert (answer.status_code, "data" in answer.json()) == (401, False)
    for path in ("/sign-out", "/password"):
        sent = desk.edge.send(
            "POST", path, json={"old": "a", "new": "b"}, headers={"Authorization": f"Bearer {desk.token}"}
        )
        assert sent.status_code == 401
    assert office.casebook.head() == head


def test_another_institutions_tokens_cannot_be_ended_or_seen(office: Office, elsewhere: Office) -> None:
    admin, stranger = office[Role.ADMIN], elsewhere[Role.CS_AGENT]
    theirs = issue(stranger)
    assert admin.refused("staffRevokeToken", id=stranger.id, tokenId=theirs["tokenId"])["code"] == "staff.unknown"
    assert admin.error(LIST, id=stranger.id)["code"] == "staff.unknown"
    assert issue(admin, id=stranger.id)["code"] == "staff.unknown"
    assert not revoke_token(office.casebook.house, office.code, theirs["tokenId"])
    assert status(stranger, theirs["token"]) == (200, None)


def test_the_list_of_tokens_is_for_oneself_administrator_and_auditor(office: Office) -> None:
    agent = office[Role.CS_AGENT]
    made = issue(agent, "DECIDE", "ASK", days=30)
    agent.done("staffRevokeToken", id=agent.id, tokenId=made["tokenId"])
    for desk, id in (
        (agent, None),
        (agent, agent.id),
        (office[Role.ADMIN], agent.id),
        (office[Role.AUDITOR], agent.id),
    ):
        newest, desks = desk.ask(LIST, id=id)["staffTokens"]
        assert (newest["id"], newest["label"], newest["scopes"]) == (made["tokenId"], "报表程序", ["ASK", "DECIDE"])
        assert newest["revokedAt"]
        assert not desks["revokedAt"]
        assert made["token"] not in json.dumps(newest)
        assert datetime.fromisoformat(newest["expiresAt"]) - datetime.fromisoformat(newest["createdAt"]) == timedelta(
            30
        )
    for role in set(Role) - {Role.ADMIN, Role.AUDITOR, Role.CS_AGENT}:
        assert office[role].error(LIST, id=agent.id)["code"] == "access.role"
    assert office[Role.ADMIN].error(LIST, id=uuid4())["code"] == "staff.unknown"


def test_at_the_machine_a_token_is_named_by_enough_of_its_id(office: Office) -> None:
    house, code = office.casebook.house, office.code
    agent = office[Role.CS_AGENT]
    (known,) = tokens(house, code)
    assert (known.staff_id, known.revoked_at, known.scopes) == (agent.id, None, frozenset(Scope))
    assert revoke_token(house, code, known.id[:8], reason="丢失")
    assert status(agent, agent.token) == (401, "access.token_revoked")
    assert tokens(house, code)[0].revoked_at is not None


# what is remembered of a token


def test_what_is_remembered_of_a_token_holds_only_while_its_history_stands_still(office: Office) -> None:
    agent, house = office[Role.CS_AGENT], office.casebook.house
    doorkeeper: Doorkeeper = office.edge.app.state.doorkeeper
    header = f"Bearer {agent.token}"
    assert doorkeeper.remembered(header) is None
    agent.ask(ME)
    remembered = doorkeeper.remembered(header)
    assert remembered is not None
    assert (remembered.principal.staff_id, remembered.principal.token_id) == (agent.id, token_id(digest(agent.token)))

    def row() -> tuple[Any, ...] | None:
        with house.within(office.code) as connection:
            return connection.execute(FIND, (remembered.sha256,)).fetchone()

    found = row()
    assert found is not None
    assert remembered.still(found)
    assert not remembered.still(None)
    late = (*found[:4], remembered.expires_at, found[5])
    assert not remembered.still(late), "expired"
    elsewhere = ("XX", *found[1:])
    assert not remembered.still(elsewhere)
    issue(agent)
    assert not remembered.still(row()), "anything that happened to the person is looked at again"
    agent.ask(ME)
    assert doorkeeper.remembered(header) != remembered
    agent.done("staffRevokeToken", id=agent.id, tokenId=remembered.principal.token_id)
    assert status(agent, agent.token)[0] == 401
    assert doorkeeper.remembered(header) is None
    assert doorkeeper.remembered(None) is None
    assert doorkeeper.remembered("Bearer 令牌") is None


# tokens of earlier versions


def old_token(house: House, code: str, staff_id: UUID, **more: Any) -> str:
    """As version 0006 made them."""
    token = f"anjuan_{uuid4().hex}"
    said = {"label": "旧程序", "expires_at": datetime.now(UTC) + timedelta(days=9), "revoked_at": None, **more}
    with house.within(code) as connection:
        connection.execute(
            "INSERT INTO api_token (token_sha256, institution, staff_id, label, expires_at)"
            " VALUES (%s, %s, %s, %s, %s)",
            (digest(token), code, staff_id, said["label"], said["expires_at"]),
        )
        connection.execute(
            "UPDATE api_token SET revoked_at = %s WHERE token_sha256 = %s", (said["revoked_at"], digest(token))
        )
    return token


def test_tokens_of_an_earlier_version_are_told_to_their_holders_histories(database: Database) -> None:
    with House(database.app, MASTER_KEY) as house, running(create_app(SETTINGS, house)) as edge:
        office = open_office(edge, house.casebook("OLD"))
        agent, left = office[Role.CS_AGENT], office.enrolled(Role.GUIDE)
        good = old_token(house, "OLD", agent.id)
        ended = [
            old_token(house, "OLD", agent.id, revoked_at=datetime.now(UTC)),
            old_token(house, "OLD", agent.id, expires_at=datetime.now(UTC) - timedelta(days=1)),
            old_token(house, "OLD", left),
            old_token(house, "OLD", uuid4()),
        ]
        leave(office, left)
        assert status(agent, good) == (401, "access.token"), "not before it is in its holder's history"
        assert convert_tokens(house) == 1
        assert convert_tokens(house) == 0, "once"
        assert status(agent, good) == (200, None)
        assert {status(agent, token)[0] for token in ended} == {401}
        kept = next(t for t in tokens(house, "OLD") if t.id == token_id(digest(good)))
        assert (kept.label, kept.scopes) == ("旧程序", frozenset(Scope))
        assert timedelta(days=8) < kept.expires_at - datetime.now(UTC) < timedelta(days=9)
        assert revoke_token(house, "OLD", good)
        assert status(agent, good) == (401, "access.token_revoked")


# identities


def test_an_identity_is_linked_to_one_person_at_a_time(office: Office, elsewhere: Office) -> None:
    admin, agent, guide = office[Role.ADMIN], office[Role.CS_AGENT], office[Role.GUIDE]
    who = {"issuer": "https://login.example.cn", "subject": f"u-{uuid4()}"}
    for desk in (agent, office[Role.HR]):
        assert desk.refused("staffLinkIdentity", id=agent.id, **who)["code"] == "access.role"
    command = uuid4()
    first = admin.done("staffLinkIdentity", command_id=command, id=agent.id, **who)
    assert first["topics"] == ["staff.identity_linked"]
    assert admin.done("staffLinkIdentity", command_id=command, id=agent.id, **who)["repeated"]
    assert admin.done("staffLinkIdentity", id=agent.id, **who)["topics"] == []
    for desk, id in ((admin, guide.id), (elsewhere[Role.ADMIN], elsewhere[Role.CS_AGENT].id)):
        refused = desk.refused("staffLinkIdentity", id=id, **who)
        assert (refused["code"], refused["field"]) == ("identity.taken", "subject")
    assert admin.done("staffUnlinkIdentity", id=agent.id, **who)["topics"] == ["staff.identity_unlinked"]
    assert admin.done("staffUnlinkIdentity", id=agent.id, **who)["topics"] == []
    elsewhere[Role.ADMIN].done("staffLinkIdentity", id=elsewhere[Role.CS_AGENT].id, **who)
    assert admin.refused("staffLinkIdentity", id=uuid4(), **who)["code"] == "identity.taken"


def test_a_link_that_was_refused_binds_nobody(office: Office) -> None:
    admin, agent = office[Role.ADMIN], office[Role.CS_AGENT]
    who = {"issuer": "https://login.example.cn", "subject": f"u-{uuid4()}"}
    assert admin.refused("staffLinkIdentity", id=uuid4(), **who)["code"] == "staff.unknown"
    left = office.enrolled(Role.GUIDE)
    leave(office, left)
    assert admin.refused("staffLinkIdentity", id=left, **who)["code"] == "staff.left"
    admin.done("staffLinkIdentity", id=agent.id, **who)
    with office.casebook.house.within(office.code) as connection:
        row = connection.execute("SELECT t::text FROM identity_link AS t WHERE staff_id = %s", (agent.id,)).fetchone()
    assert row is not None
    assert who["subject"] not in row[0]
    refused = admin.refused("staffLinkIdentity", id=agent.id, issuer="login.example.cn", subject="u")
    assert (refused["code"], refused["field"]) == ("identity.issuer", "issuer")
