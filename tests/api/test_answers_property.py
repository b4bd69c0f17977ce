"""Whatever happens between two questions, a kept answer, and 304, say what a fresh answer says."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api.app import create_app
from api.schema import build
from domain.kernel import Role
from domain.store.casebook import House
from projections.parked import retry
from projections.rebuild import rebuild
from projections.runner import catch_up
from projections.views import OF_CASES, VIEWS
from tests.api.conftest import SETTINGS, Edge, Office, intake, open_office, running
from tests.api.documents import Known, Written
from tests.api.test_answers import CLOCKS, NUMBERS
from tests.conftest import MASTER_KEY, Database, Server

LAST = (
    NUMBERS,
    CLOCKS,
    "{ complaints { totalCount } }",
    "{ complaints(first: 3) { pageInfo { hasNextPage endCursor } edges { node { stage history { totalCount } } } } }",
    "{ complaints { edges { node { complaintId version clocks(first: 2) { edges { node { dueAt step } } } } } } }",
    "query ($id: UUID!) { complaint(id: $id) { stage lastTopic lastAt } }",
    "query ($id: UUID!) { complaint(id: $id) { history { edges { node { topic position changes { field } } } } } }",
    "{ complaints(filter: {stages: [RECEIVED]}, orderBy: DUE) { edges { node { complaintId nextDueAt } } } }",
)


@dataclass
class Pair:
    """The same application twice, on one database at one moment: with kept answers, and without."""

    keeps: Edge
    fresh: Edge
    office: Office
    owner: str
    now: list[datetime]
    known: Known
    bodies: dict[str, bytes] = field(default_factory=dict[str, bytes])
    """What each tag was given with."""
    tags: dict[int, str] = field(default_factory=dict[int, str])
    told: int = 0

    @property
    def house(self) -> House:
        return self.office.casebook.house

    def document(self, seed: int) -> dict[str, Any]:
        """One of those that last, or a generated one, which mostly passes."""
        if seed < len(LAST):
            return {"query": LAST[seed], "variables": {"id": self.known.cases[0]} if "$id" in LAST[seed] else {}}
        written = Written(build(SETTINGS)._schema, Random(seed), self.known)
        return {"query": written.document(), "variables": written.variables}

    def question(self, seed: int, role: Role) -> None:
        """A generated document: what is answered equals a fresh answer, and so does what is said to be unchanged."""
        json = self.document(seed)
        headers = {
            "Authorization": f"Bearer {self.office[role].token}",
            "Accept-Encoding": ("gzip", "identity")[seed % 2],
        }
        tag = self.tags.get(seed)
        answer = self.keeps.send(
            "POST", "/graphql", json=json, headers={**headers, **({"If-None-Match": tag} if tag else {})}
        )
        expected = self.fresh.send("POST", "/graphql", json=json, headers=headers)
        if answer.status_code == 304:
            self.told += 1
            assert self.bodies[answer.headers["etag"]] == expected.content
            return
        if "errors" in expected.json():  # of several questions that fail, any may be the one that is said
            assert "errors" in answer.json()
            assert answer.headers["cache-control"] == "no-store"
            return
        assert (answer.status_code, answer.content) == (expected.status_code, expected.content)
        if "etag" in answer.headers:
            self.tags[seed] = answer.headers["etag"]
            assert self.bodies.setdefault(answer.headers["etag"], answer.content) == answer.content

    def step(self, kind: str, seed: int) -> None:
        rng = Random(seed)
        agent = self.office[Role.CS_AGENT]
        match kind:
            case "receive":
                agent.done("complaintReceive", **intake(receivedAt=self.now[0] - timedelta(minutes=5)))
            case "accept":
                agent.command(
                    "complaintAccept", id=rng.choice(self.known.cases), cause="某因", course="某事", demand="某求"
                )
            case "follow":
                self.office.follow()
            case "follow one view":
                catch_up(self.house, [rng.choice(list(VIEWS.values()))], self.office.code)
            case "fold again":
                view = rng.choice(list(VIEWS.values()))
                retry(self.house, view, self.office.code, UUID(rng.choice(self.known.cases)))
            case "rebuild":
                rebuild(self.house, OF_CASES[seed], owner=self.owner)
            case "later":
                self.now[0] += timedelta(hours=rng.choice((0, 1, 30)))
            case _:
                raise AssertionError(kind)


@pytest.fixture(scope="module")
def pair(server: Server, template: Database) -> Generator[Pair]:
    database = server.create(template)
    now = [datetime.now(UTC)]
    wide = SETTINGS.model_copy(update={"cost_per_minute": 10**12, "cost_max": 10**9, "aliases_max": 1000})
    bare = wide.model_copy(update={"answers_bytes": 0, "compress_bytes_min": 0})
    with (
        House(database.app, MASTER_KEY) as house,
        running(create_app(wide, house, clock=lambda: now[0])) as keeps,
        running(create_app(bare, house, clock=lambda: now[0])) as fresh,
    ):
        office = open_office(keeps, house.casebook("PAIR"))
        agent = office[Role.CS_AGENT]
        cases = [agent.done("complaintReceive", **intake())["complaintId"] for _ in range(4)]
        office.follow()
        known = Known(cursors={}, cases=cases, numbers=["PAIR20260001"], people=[str(agent.id)])
        yield Pair(keeps, fresh, office, database.owner, now, known)
    server.drop(database)


STEPS = ("receive", "accept", "follow", "follow", "follow one view", "fold again", "later")
ROLES = (Role.CS_DIRECTOR, Role.AUDITOR, Role.CASHIER)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("ask"), st.integers(0, len(LAST) + 3)),
            st.tuples(st.just("ask"), st.integers(0, len(LAST) + 3)),
            st.tuples(st.sampled_from(STEPS), st.integers(0, 10**6)),
        ),
        min_size=12,
        max_size=25,
    )
)
def test_whatever_happens_a_kept_answer_is_the_fresh_one(pair: Pair, steps: list[tuple[str, int]]) -> None:
    """Commands, views that follow together or apart, repairs and time passing, between questions."""
    for kind, seed in steps:
        if kind == "ask":
            pair.question(seed, ROLES[seed % len(ROLES)])
        else:
            pair.step(kind, seed)


def test_the_property_is_about_kept_answers(pair: Pair) -> None:
    """Of the documents above those that last are kept, and told from a tag; after a rebuild they are what is fresh."""
    before = 0
    for _ in range(2):
        before = pair.told
        for seed in range(len(LAST)):
            pair.question(seed, Role.CS_DIRECTOR)
    assert pair.told - before == len(LAST)
    for view in range(len(OF_CASES)):
        before = pair.told
        pair.step("rebuild", view)
        for seed in range(len(LAST)):
            pair.question(seed, Role.CS_DIRECTOR)
        assert pair.told - before < len(LAST)
