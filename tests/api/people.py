"""People who sign in with a password, each from an address of their own."""

from __future__ import annotations

import itertools
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import Any
from uuid import UUID, uuid4

from api.access.local_user import set_password
from api.access.token import at_the_machine
from api.app import create_app
from api.chinese.sentences import SENTENCES
from domain.kernel import Role
from domain.staff import STAFF, Staff, enrol
from domain.store.casebook import House
from tests.api.conftest import SETTINGS, Edge, Office, running, stamp

ME = "{ me { staffId roles } }"
GOOD = "四匹白马 gallop past the pharmacy"
PROXY = ip_network("127.0.0.0/8")
ADDRESSES = (f"203.0.{n // 250}.{n % 250 + 1}" for n in itertools.count())


@contextmanager
def behind_a_proxy(house: House) -> Generator[Edge]:
    """The application behind a proxy, so that each test comes from an address of its own."""
    behind = SETTINGS.model_copy(update={"trusted_proxies": (PROXY,)})
    with running(create_app(behind, house)) as edge:
        yield edge


@dataclass
class User:
    """Somebody with a password, at an address of their own."""

    edge: Edge
    office: Office
    id: UUID
    number: str
    address: str = field(default_factory=lambda: next(ADDRESSES))

    def send(
        self, path: str, body: Any = None, token: str | None = None, **more: Any
    ) -> tuple[int, dict[str, Any], dict[str, str]]:
        headers = {"X-Forwarded-For": self.address} | ({"Authorization": f"Bearer {token}"} if token else {})
        answer = self.edge.send("POST", path, headers=headers, **({"json": body} if body is not None else more))
        assert answer.headers["cache-control"].startswith("no-store")
        return answer.status_code, answer.json(), dict(answer.headers)

    def sign_in(self, password: str = GOOD, **other: Any) -> tuple[int, dict[str, Any], dict[str, str]]:
        return self.send(
            "/sign-in", {"institution": self.office.code, "number": self.number, "password": password} | other
        )

    def session(self, password: str = GOOD) -> str:
        status, said, _ = self.sign_in(password)
        assert status == 200, said
        return said["token"]

    def refused(self, password: str = "not the right one", **other: Any) -> str:
        status, said, headers = self.sign_in(password, **other)
        assert status in (401, 429)
        (error,) = said["errors"]
        assert error["extensions"]["sentenceZh"] == SENTENCES[error["extensions"]["code"]]
        assert ("www-authenticate" in headers) == (status == 401)
        assert ("retry-after" in headers) == (status == 429)
        return error["extensions"]["code"]

    def me(self, token: str) -> tuple[int, Any]:
        status, said, _ = self.send("/graphql", {"query": ME}, token)
        return status, said["data"]["me"] if status == 200 else said["errors"][0]["extensions"]["code"]

    @property
    def staff(self) -> Staff:
        known: Staff | None = self.office.casebook.read(STAFF, self.id)
        assert known is not None
        return known


def with_password(office: Office, *roles: Role) -> User:
    said, id = stamp(), uuid4()
    number = f"W{str(id)[:6]}"
    office.casebook.act(
        STAFF,
        id,
        lambda known: enrol(
            known, said, id=id, name="欧阳文静", number=number, roles=roles or [Role.CS_AGENT], department="客服部"
        ),
        command_id=said.command_id,
    )
    set_password(office.casebook.house, office.code, id, GOOD, at_the_machine())
    return User(office.edge, office, id, number)


def pass_time(house: House, seconds: float) -> None:
    """As if so much time had passed since every try so far."""
    with house.pool.connection() as connection:
        connection.execute(
            "UPDATE sign_in_attempt SET tried_at = tried_at - %(s)s * interval '1 s',"
            " next_at = next_at - %(s)s * interval '1 s'",
            {"s": seconds},
        )
