"""Documents that schemathesis makes up from the schema as the edge shows it: none is a fault of ours.

Whatever is asked, in whatever post: no 500, no masked fault, no error without a code, and every answer has the shape
that the schema promises. The examples are the same in every run; `ANJUAN_TEST_EXAMPLES` makes more, and others.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
import schemathesis
from graphql import get_introspection_query
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.core.transport import Response
from schemathesis.graphql import nodes

from api.access.token import issue_token
from api.app import create_app
from api.chinese.sentences import SENTENCES
from domain.kernel import Role
from domain.store.casebook import House
from tests.api.conftest import SETTINGS, Desk, Office, intake, open_office, running

EXAMPLES = int(os.environ.get("ANJUAN_TEST_EXAMPLES", "0"))
WIDE = ("selections_max", "depth_max", "aliases_max", "repeats_max", "fields_max", "fragments_max", "directives_max")
LIMITS = {"plan": True, "cost_per_minute": 10**12, "cost_max": 10**6, "tokens_max": 20_000, **dict.fromkeys(WIDE, 500)}
"""Wide enough that what is made up is answered rather than refused for its size."""
INTROSPECTION = get_introspection_query(descriptions=False)


class Fuzzed:
    """An office with a few cases, at an application of its own, and its schema as schemathesis reads it."""

    def __init__(self, office: Office) -> None:
        self.office = office
        agent = office[Role.CS_AGENT]
        self.cases = [UUID(agent.done("complaintReceive", **intake())["complaintId"]) for _ in range(3)]
        accepted = {"id": self.cases[0], "cause": "因", "course": "过", "demand": "求"}
        office[Role.CS_DIRECTOR].done("complaintAccept", **accepted)
        office.follow()
        shown = office[Role.AUDITOR].ask(INTROSPECTION)
        self.schema: Any = schemathesis.graphql.from_dict(shown)
        self.operations: dict[str, list[Any]] = {
            root: [self.schema[root][name] for name in self.schema[root]] for root in ("Query", "Mutation")
        }
        self.known = [*self.cases, agent.id, office[Role.DEAN].id]

    def person(self, *roles: Role) -> Desk:
        """Somebody with these posts."""
        id = self.office.enrolled(*roles)
        token = issue_token(self.office.casebook.house, self.office.code, id, "fuzz", timedelta(days=1))
        return Desk(self.office.edge, token, id)

    def scalars(self) -> None:
        """How values of our scalars are made up: those that there are, any, and what is none."""
        now = datetime.now(UTC)
        moments = st.datetimes(datetime(1990, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
        wrong = st.text(max_size=20)
        schemathesis.graphql.scalar("UUID", (st.sampled_from(self.known) | st.uuids()).map(str).map(nodes.String))
        near = st.sampled_from([now, now - timedelta(hours=1)])
        schemathesis.graphql.scalar("DateTime", (near | moments).map(datetime.isoformat).map(nodes.String))
        whole = st.integers(-5, 10**4) | st.integers(-(2**70), 2**70)
        schemathesis.graphql.scalar("BigInt", whole.map(str).map(nodes.String) | wrong.map(nodes.String))
        money = st.decimals(-10, 10**6, places=2) | st.decimals(allow_nan=True, allow_infinity=True)
        schemathesis.graphql.scalar("Yuan", money.map(str).map(nodes.String))


@pytest.fixture(scope="module")
def fuzzed(house: House) -> Any:
    settings = SETTINGS.model_copy(update=LIMITS)
    with running(create_app(settings, house)) as edge:
        made = Fuzzed(open_office(edge, house.casebook("FUZZ")))
        made.scalars()
        yield made


@pytest.mark.parametrize("root", ["Query", "Mutation"])
@pytest.mark.parametrize("roles", [tuple(Role), (Role.KEEPER,)], ids=["every post", "keeper"])
def test_no_document_is_a_fault_of_ours(fuzzed: Fuzzed, roles: tuple[Role, ...], root: str) -> None:
    desk = fuzzed.person(*roles)
    most = EXAMPLES or (80 if len(roles) > 1 else 25)

    @settings(
        max_examples=most,
        deadline=None,
        database=None,
        derandomize=not EXAMPLES,
        suppress_health_check=(HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much),
    )
    @given(st.data())
    def asked(data: st.DataObject) -> None:
        operation = data.draw(st.sampled_from(fuzzed.operations[root]))
        case = data.draw(operation.as_strategy())
        answer = desk.edge.send(
            "POST",
            "/graphql",
            json={"query": case.body},
            headers={"Authorization": f"Bearer {desk.token}", "Accept": "application/json"},
        )
        holds(fuzzed, operation, case, answer)

    asked()


def holds(fuzzed: Fuzzed, operation: Any, case: Any, answer: httpx.Response) -> None:
    """What every answer keeps to."""
    assert answer.status_code == 200, (case.body, answer.text)
    for error in answer.json().get("errors", ()):
        assert error["extensions"]["code"] in SENTENCES, (case.body, error)
    if answer.json().get("data") is not None:
        response = Response.from_any(answer)  # pyright: ignore[reportUnknownMemberType]
        fuzzed.schema.validate_response(operation, response, case=case)


@pytest.mark.parametrize("root", ["Query", "Mutation"])
def test_whatever_the_schema_offers_is_tried(fuzzed: Fuzzed, root: str) -> None:
    """The generator makes a document for every question and every decision there is."""
    fields = {operation.definition.field_name for operation in fuzzed.operations[root]}
    kind = fuzzed.office[Role.AUDITOR].ask(f'{{ __type(name: "{root}") {{ fields {{ name }} }} }}')
    assert fields == {field["name"] for field in kind["__type"]["fields"]}
    assert len(fields) > 5
