"""What tests of the log of reads share: the log as the owner reads it, and a database whose log can be taken away."""

from __future__ import annotations

import json
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import httpx
import psycopg
from psycopg.rows import dict_row

from api.app import create_app
from domain.kernel import Role
from domain.store.casebook import House
from tests.api.conftest import SETTINGS, Desk, Office, intake, open_office, running
from tests.conftest import MASTER_KEY, Database

SECRETS = ("王女士", "13800138000", "等候时间过长，且无人解释。")
LIST = "query Worklist { complaints { edges { node { number complainant phone statement } } } }"
ONE = "query ($id: UUID!) { complaint(id: $id) { complainant phone statement demand reason result } }"


@dataclass
class Log:
    """The log of one institution, read by the owner of the database."""

    owner: str
    institution: str

    def entries(self) -> list[dict[str, Any]]:
        with psycopg.connect(self.owner) as connection:
            connection.execute("SELECT set_config('anjuan.institution', %s, false)", (self.institution,))
            cursor = connection.cursor(row_factory=dict_row)
            cursor.execute("SELECT * FROM read_log WHERE institution = %s ORDER BY read_at, entry", (self.institution,))
            return cursor.fetchall()

    def by_subject(self, subject: str | UUID) -> list[int]:
        with psycopg.connect(self.owner) as connection:
            connection.execute("SELECT set_config('anjuan.institution', %s, false)", (self.institution,))
            rows = connection.execute(
                "SELECT entry FROM read_log_subject WHERE institution = %s AND subject = %s ORDER BY read_at, entry",
                (self.institution, subject),
            )
            return [entry for (entry,) in rows]


def received(office: Office, **more: Any) -> tuple[UUID, str]:
    """A case with all that a first record has, and its complainant's id."""
    case = uuid4()
    office[Role.CS_AGENT].done("complaintReceive", id=case, **intake(phone="13800138000", **more))
    office.follow()
    asked = "query ($id: UUID!) { complaint(id: $id) { complainantId } }"
    return case, office[Role.CS_AGENT].ask(asked, id=case)["complaint"]["complainantId"]


def sent(desk: Desk, query: str, headers: dict[str, str] | None = None, **body: Any) -> httpx.Response:
    """A request as it is, whatever becomes of it."""
    return desk.edge.send(
        "POST",
        "/graphql",
        content=json.dumps({"query": query, **body}, default=str),
        headers={"Authorization": f"Bearer {desk.token}", "Content-Type": "application/json", **(headers or {})},
    )


@dataclass
class Alone:
    """An office on a database nobody else uses, and its owner."""

    office: Office
    log: Log
    case: UUID

    def owner(self, *statements: str) -> list[tuple[Any, ...]]:
        """Say something as the owner; the rows of the last statement."""
        with psycopg.connect(self.log.owner, autocommit=True) as connection:
            for statement in statements:
                cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []  # pyright: ignore[reportPossiblyUnboundVariable]


@contextmanager
def alone(database: Database, **settings: Any) -> Generator[Alone]:
    with House(database.app, MASTER_KEY) as house:
        app = create_app(SETTINGS.model_copy(update=settings), house)
        with running(app) as edge:
            office = open_office(edge, house.casebook("TX"))
            case, _ = received(office)
            yield Alone(office, Log(database.owner, "TX"), case)


def refused(answer: httpx.Response) -> None:
    """Nothing left but the refusal."""
    assert answer.status_code == 503, answer.text
    said = answer.json()
    assert said["errors"][0]["extensions"]["code"] == "read_log.away"
    assert said["errors"][0]["extensions"]["sentenceZh"]
    assert "data" not in said
    assert answer.headers["retry-after"]
    assert not any(secret in answer.text for secret in SECRETS)
