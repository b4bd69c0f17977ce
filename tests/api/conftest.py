"""The real application on the real database, asked over HTTP; one event loop in a thread serves all tests."""

from __future__ import annotations

import itertools
import json
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from fastapi import FastAPI

from api.access.token import issue_token
from api.app import create_app
from api.settings import Settings
from domain.institution import INSTITUTION, institution_id, open_institution
from domain.kernel import Role, Stamp, named
from domain.staff import STAFF, enrol
from domain.store.casebook import Casebook, House
from projections.runner import catch_up
from projections.views import VIEWS

SETTINGS = Settings(
    _env_file=None,  # pyright: ignore[reportCallIssue]  an argument of pydantic-settings
    unknown_tokens_max=100_000,  # all tests come from one address
    # a machine that is busy with something else is no fault of ours; tests of these limits set their own
    request_seconds=120,
    statement_seconds=60,
    read_log_seconds=60,
)
FOUNDER = named("tests", "founder")


@dataclass
class Edge:
    """The running application."""

    app: FastAPI
    portal: BlockingPortal

    def send(self, method: str, path: str, **parts: Any) -> httpx.Response:
        """One HTTP request."""

        async def go() -> httpx.Response:
            transport = httpx.ASGITransport(app=self.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://anjuan") as client:
                return await client.request(method, path, **parts)

        return self.portal.call(go)


@contextmanager
def running(app: FastAPI) -> Generator[Edge]:
    """The application with its lifespan, on an event loop of its own."""
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(app.router.lifespan_context(app)):
        yield Edge(app, portal)


@pytest.fixture(scope="session")
def edge(house: House) -> Generator[Edge]:
    with running(create_app(SETTINGS, house)) as opened:
        yield opened


@pytest.fixture(scope="session")
def resolving(house: House) -> Generator[Edge]:
    """The application without the planner."""
    with running(create_app(SETTINGS.model_copy(update={"plan": False}), house)) as opened:
        yield opened


@pytest.fixture(params=["planned", "resolved"])
def road(request: pytest.FixtureRequest, edge: Edge, resolving: Edge) -> Edge:
    """The application with the planner, and without: for rules of both roads."""
    return edge if request.param == "planned" else resolving


@dataclass
class Desk:
    """One staff member at the desk: asks and commands with their own token."""

    edge: Edge
    token: str
    id: UUID

    def post(self, query: str, **variables: Any) -> dict[str, Any]:
        """The whole answer of a GraphQL request."""
        answer = self.edge.send(
            "POST",
            "/graphql",
            json={"query": query, "variables": json.loads(json.dumps(variables, default=str))},
            headers={"Authorization": f"Bearer {self.token}"},
        )
        assert answer.status_code == 200, answer.text
        return answer.json()

    def ask(self, query: str, **variables: Any) -> Any:
        """The data of a question that must succeed."""
        said = self.post(query, **variables)
        assert "errors" not in said, said["errors"]
        return said["data"]

    def error(self, query: str, **variables: Any) -> dict[str, Any]:
        """The one error of a question that must fail, its extensions beside its message."""
        said = self.post(query, **variables)
        assert len(said.get("errors", ())) == 1, said
        return {"message": said["errors"][0]["message"], **said["errors"][0].get("extensions", {})}

    def command(self, name: str, /, *, command_id: UUID | None = None, **arguments: Any) -> dict[str, Any]:
        """Send one mutation; the receipt or the refusal."""
        said = self.sent(name, {"commandId": command_id or uuid4(), **arguments})
        assert "errors" not in said, said["errors"]
        return said["data"][name]

    def sent(self, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """The whole answer to one mutation."""
        given = {"commandId": uuid4(), **arguments}
        kinds = {n: _kind(self.edge, name, n) for n in given}
        mark = "ComplaintDecided" if "complaint" in _answers[name].lower() else "Decided"
        query = (
            f"mutation ({', '.join(f'${n}: {k}' for n, k in kinds.items())})"
            f" {{ {name}({', '.join(f'{n}: ${n}' for n in given)}) {{ __typename"
            f" ... on {mark} {{ {'complaintId' if mark != 'Decided' else 'id'} version position topics repeated }}"
            " ... on Refusal { code sentence sentenceZh field } } }"
        )
        return self.post(query, **given)

    def done(self, name: str, /, **arguments: Any) -> dict[str, Any]:
        """A command that must succeed."""
        said = self.command(name, **arguments)
        assert said["__typename"] in ("ComplaintDecided", "Decided"), said
        return said

    def refused(self, name: str, /, **arguments: Any) -> dict[str, Any]:
        """A command that must be refused, in both languages."""
        said = self.command(name, **arguments)
        assert said["__typename"] == "Refusal", said
        assert said["sentence"]
        assert said["sentenceZh"]
        assert said["sentenceZh"] != said["sentence"]
        return said


_kinds: dict[tuple[str, str], str] = {}
_answers: dict[str, str] = {}


def _kind(edge: Edge, mutation: str, argument: str) -> str:
    if not _kinds:
        from api.schema import build

        fields = build(SETTINGS)._schema.mutation_type.fields  # pyright: ignore[reportOptionalMemberAccess]
        for name, of in fields.items():
            _answers[name] = str(of.type)
            for n, a in of.args.items():
                _kinds[name, n] = str(a.type)
    return _kinds[mutation, argument]


@dataclass
class Office:
    """An institution with one person for each post."""

    casebook: Casebook
    edge: Edge
    desks: dict[Role, Desk] = field(default_factory=dict[Role, "Desk"])

    @property
    def code(self) -> str:
        return self.casebook.institution

    def __getitem__(self, role: Role) -> Desk:
        if role not in self.desks:
            id = self.enrolled(role)
            token = issue_token(self.casebook.house, self.code, id, f"test {role}", timedelta(days=1))
            self.desks[role] = Desk(self.edge, token, id)
        return self.desks[role]

    def enrolled(self, *roles: Role) -> UUID:
        """Somebody new with these posts."""
        said, id = stamp(), uuid4()
        self.casebook.act(
            STAFF,
            id,
            lambda known: enrol(known, said, id=id, name="某人", number=str(id)[:8], roles=roles, department="客服部"),
            command_id=said.command_id,
        )
        return id

    def by(self, road: Edge) -> Office:
        """The same institution, asked through another application."""
        return Office(self.casebook, road, {role: replace(desk, edge=road) for role, desk in self.desks.items()})

    def follow(self) -> None:
        """Bring the views up to date."""
        catch_up(self.casebook.house, VIEWS.values(), self.code)


def stamp(at: datetime | None = None) -> Stamp:
    """The founder's stamp for a new command."""
    return Stamp(by=FOUNDER, at=at or datetime.now(UTC), command_id=uuid4(), roles=frozenset({Role.ADMIN}))


def open_office(edge: Edge, casebook: Casebook) -> Office:
    """Open the institution of this casebook."""
    said = stamp()
    code = casebook.institution
    casebook.act(
        INSTITUTION,
        institution_id(code),
        lambda known: open_institution(known, said, code=code, name="测试医院", group="测试集团"),
        command_id=said.command_id,
    )
    return Office(casebook, edge)


@pytest.fixture
def office(edge: Edge, casebook: Casebook) -> Office:
    return open_office(edge, casebook)


@pytest.fixture
def elsewhere(edge: Edge, house: House) -> Office:
    """Another institution on the same database."""
    return open_office(edge, house.casebook(next(_elsewhere)))


_elsewhere = ("Z" + "".join(letters) for letters in itertools.product("ABCDEFGHIJKLMNOPQRSTUVWXYZ", repeat=3))


def intake(**more: Any) -> dict[str, Any]:
    """Arguments of a first record."""
    return {
        "receivedAt": datetime.now(UTC) - timedelta(hours=1),
        "channel": "TELEPHONE",
        "complainant": "王女士",
        "statement": "等候时间过长，且无人解释。",
        **more,
    }
