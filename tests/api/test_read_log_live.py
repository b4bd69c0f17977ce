"""What subscriptions show is logged for each reader of each message, before it leaves (test-list 45)."""

from __future__ import annotations

from collections.abc import Generator
from datetime import timedelta
from uuid import uuid4

import pytest

from api.access.token import issue_token
from api.app import create_app
from domain.kernel import Role
from domain.store.casebook import House
from tests.api.conftest import SETTINGS, Office, intake
from tests.api.reads import Log, alone
from tests.api.subscribers import events, followed, listening, websocket
from tests.conftest import Database

CHANGES = (
    "subscription Watch ($after: BigInt) { complaintsChanged(after: $after)"
    " { position changes { complaint { complainant phone complainantId } } } }"
)


@pytest.fixture
def address(house: House) -> Generator[str]:
    with followed(house) as wake, listening(create_app(SETTINGS, house, wake=wake.set)) as found:
        yield found


@pytest.fixture
def log(office: Office, shared_database: Database) -> Log:
    return Log(shared_database.owner, office.code)


def test_each_reader_of_a_message_is_logged_and_masks_are_each_post_s_own(
    address: str, office: Office, log: Log
) -> None:
    agent, auditor = office[Role.CS_AGENT], office[Role.AUDITOR]
    id = office.enrolled(Role.CS_AGENT)
    other = issue_token(office.casebook.house, office.code, id, "another", timedelta(days=1))
    with (
        websocket(address, agent.token) as first,
        websocket(address, other) as second,
        websocket(address, auditor.token) as third,
    ):
        for one in (first, second, third):
            one.subscribe(CHANGES, "1", after=0)
        agent.done("complaintReceive", id=uuid4(), **intake(phone="13800138000"))
        seen = [one.next()["changes"][0]["complaint"] for one in (first, second)]
        masked = third.next()["changes"][0]["complaint"]
        assert [one["complainant"] for one in seen] == ["王女士", "王女士"]
        assert (masked["complainant"], masked["phone"]) == ("王**", "138****8000")
        entries = log.entries()
    assert {str(entry["subjects"][0]) for entry in entries} == {seen[0]["complainantId"]}
    assert len({entry["reader"] for entry in entries}) == 2, "shared work is not a shared read"
    assert {(entry["road"], entry["operation"]) for entry in entries} == {("subscription", None)}


def test_a_message_that_cannot_be_logged_ends_the_subscription_without_it(database: Database) -> None:
    with alone(database) as the:
        agent, house = the.office[Role.CS_AGENT], the.office.casebook.house
        the.owner("REVOKE INSERT ON read_log FROM anjuan_app")
        with (
            listening(create_app(SETTINGS, house)) as address,
            events(address, agent.token, CHANGES, after=0) as stream,
        ):
            assert stream.error()["code"] == "read_log.away"
