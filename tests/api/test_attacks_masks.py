"""Attacks on masks: guessing what is masked by filters, orders, cursors, other roads or mistakes. Nothing leaks."""

from __future__ import annotations

import base64
import json
import re
from typing import Any

import pytest
from graphql import GraphQLEnumType, GraphQLInputObjectType

from api.schema import build
from domain.kernel import Role
from projections.complaint import COMPLAINTS
from projections.complaint_questions import ORDERS
from projections.filter import Filter, narrowings
from projections.page import Order, Pager
from projections.personal import personal_columns
from projections.views import VIEWS
from tests.api.conftest import SETTINGS, Office
from tests.api.reads import SECRETS, received, sent

NAMES = sorted({column for view in VIEWS.values() for column in personal_columns(view.row)})
TYPES = build(SETTINGS)._schema.type_map


def test_no_filter_names_a_personal_column() -> None:
    filters = [kind for kind in Filter.__subclasses__() if kind.__module__.startswith("projections.")]
    assert len(filters) >= 3
    for kind in filters:
        for name, one in narrowings(kind):
            words = set(re.findall(r"[a-z_]+", one.condition))
            assert not words & set(NAMES), f"{kind.__name__}.{name}"


@pytest.mark.parametrize("column", NAMES)
def test_no_list_can_be_ordered_by_a_personal_column(column: str) -> None:
    with pytest.raises(AssertionError, match="personal"):
        Pager(COMPLAINTS, COMPLAINTS.row, Order((column,)))
    assert all(column not in order.columns for order in ORDERS.values())


@pytest.mark.parametrize("column", NAMES)
@pytest.mark.parametrize("role", [Role.AUDITOR, Role.CS_AGENT])
def test_filtering_or_ordering_by_it_is_no_question(office: Office, column: str, role: Role) -> None:
    received(office)
    desk = office[role]
    for query in (
        f'{{ complaints(filter: {{{column}: "王女士"}}) {{ totalCount }} }}',
        f"{{ complaints(orderBy: {column.upper()}) {{ totalCount }} }}",
        f'{{ complaints({column}: "王女士") {{ totalCount }} }}',
    ):
        answer = sent(desk, query)
        assert "data" not in answer.json()
        assert not any(secret in answer.text for secret in SECRETS[1:])
    filter, order = TYPES["ComplaintFilter"], TYPES["CaseOrder"]
    assert isinstance(filter, GraphQLInputObjectType)
    assert isinstance(order, GraphQLEnumType)
    assert column not in filter.fields
    assert column.upper() not in order.values


@pytest.mark.parametrize("guess", ["王女士", "王", "138", "13800138000", "等候", "%", "_", "8000"])
@pytest.mark.parametrize("field", ["text", "department", "source"])
def test_no_free_text_finds_a_case_by_what_is_masked(office: Office, field: str, guess: str) -> None:
    received(office)
    for role in (Role.AUDITOR, Role.CS_AGENT):
        counted = office[role].ask(
            "query ($filter: ComplaintFilter) { complaints(filter: $filter) { totalCount edges { cursor } } }",
            filter={field: guess},
        )["complaints"]
        assert (counted["totalCount"], counted["edges"]) == ("0", [])


def test_neither_cursors_nor_ids_hold_what_is_masked(office: Office) -> None:
    received(office)
    for by, down in ((by.name, down) for by, down in ORDERS):
        edges: list[dict[str, Any]] = office[Role.AUDITOR].ask(
            f"{{ complaints(orderBy: {by}, descending: {json.dumps(down)}) {{ edges {{ cursor node {{ id }} }} }} }}"
        )["complaints"]["edges"]
        assert edges
        for edge in edges:
            for opaque in (edge["cursor"], edge["node"]["id"]):
                held = base64.urlsafe_b64decode(opaque + "=" * (-len(opaque) % 4)).decode("utf-8", "replace")
                assert not any(secret in held or ascii(secret)[1:-1] in held for secret in SECRETS)


def test_neither_aliases_nor_fragments_nor_directives_go_round_a_mask(office: Office) -> None:
    case, _ = received(office)
    query = (
        "query ($id: UUID!, $on: Boolean!) { complaint(id: $id) { phone a: phone b: phone @include(if: $on) ...F"
        " ... on Complaint { c: statement } ... on Node { ... on Complaint { d: complainant } } } }"
        " fragment F on Complaint { e: phone ... { f: statement } }"
    )
    shown = office[Role.AUDITOR].ask(query, id=case, on=True)["complaint"]
    assert shown == {
        "phone": "138****8000", "a": "138****8000", "b": "138****8000", "c": "***", "d": "王**", "e": "138****8000",
        "f": "***",
    }  # fmt: skip


@pytest.mark.parametrize(
    "query",
    [
        '{ complaint(number: "王女士") { phone } }',
        '{ complaint(id: "13800138000") { phone } }',
        "{ complaints(first: 1) { edges { node { phone { x } } } } }",
        '{ complaints(first: 1) { edges { node { phone(like: "138%") } } } }',
        "{ complaints(first: 1) { edges { node { phone @skip(if: 1) } } } }",
    ],
)
def test_mistakes_tell_nothing(office: Office, query: str) -> None:
    received(office)
    answer = sent(office[Role.AUDITOR], query)
    assert answer.json()["errors"]
    assert "statement" not in answer.text
    assert SECRETS[2] not in answer.text
    assert "138****" not in answer.text
