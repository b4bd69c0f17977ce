"""What a document costs and holds, and how a person's budget of cost fills up again."""

from __future__ import annotations

import time
from typing import Any
from uuid import uuid4

import pytest
from graphql import get_introspection_query

from api.access.roles import Principal
from api.cost import Budget, OverBudget
from api.limits import Gate
from api.schema import build
from api.settings import Settings
from domain.credential import Scope
from domain.kernel import Refused, Role
from tests.api.conftest import SETTINGS

SCHEMA = build(SETTINGS)._schema
AUDITOR = Principal("BJ", uuid4(), frozenset({Role.AUDITOR}), frozenset(Scope), "")


def gate(**settings: Any) -> Gate:
    return Gate(SCHEMA, SETTINGS.model_copy(update=settings))


def code(query: str, variables: dict[str, Any] | None = None, who: Principal = AUDITOR, **settings: Any) -> str | None:
    """The limit a document is over, if it is."""
    try:
        gate(**settings).admit(query, None, variables, who)
    except Refused as refused:
        return refused.code
    return None


def cost(query: str, variables: dict[str, Any] | None = None) -> int:
    """The least `cost_max` that lets it in."""
    low, high = 1, 10_000_000
    while low < high:
        middle = (low + high) // 2
        if code(query, variables, cost_max=middle) is None:
            high = middle
        else:
            low = middle + 1
    return low


PAGES = (
    "query ($n: Int = 20) { complaints(first: $n) { edges { node { number history(last: 5) { edges { cursor } } } } } }"
)


@pytest.mark.parametrize(
    ("query", "variables", "costs"),
    [
        ("{ __typename }", {}, 1),
        ("{ me { name number } }", {}, 1),
        ("{ a: me { name } b: me { name } }", {}, 2),
        ("{ complaints { edges { cursor } } }", {}, 51),
        ("{ complaints(first: 7) { edges { cursor } pageInfo { hasNextPage } } }", {}, 9),
        ("{ complaints(first: 7) { totalCount edges { cursor } } }", {}, 18),
        (PAGES, {}, 1 + 20 * (1 + 1 + 5)),
        (PAGES, {"n": 100}, 1 + 100 * (1 + 1 + 5)),
        (PAGES, {"n": None}, 1 + 50 * (1 + 1 + 5)),
        (PAGES, {"n": 10**6}, 1 + 100 * (1 + 1 + 5)),
        (PAGES, {"n": "many"}, 1 + 100 * (1 + 1 + 5)),
        ("{ complaints { ...C } } fragment C on ComplaintConnection { edges { ...E } } fragment E on ComplaintEdge"
         " { node { history { edges { node { changes { field } } } } } }", {}, 1 + 50 * (1 + 1 + 50 * (1 + 10))),
    ],
)  # fmt: skip
def test_an_operation_costs_its_rows(query: str, variables: dict[str, Any], costs: int) -> None:
    assert cost(query, variables) == costs


def test_pages_within_pages_within_pages_are_refused() -> None:
    inner = "history(first: 100) { edges { node { changes { field } } } }"
    assert code(f"{{ complaints(first: 100) {{ edges {{ node {{ {inner} }} }} }} }}") == "limit.cost"
    assert code(PAGES, {"n": 100}) is None


@pytest.mark.parametrize(
    ("limit", "most", "query", "says"),
    [
        ("document_chars_max", 20, "{ me { name number } }", "limit.document"),
        ("tokens_max", 5, "{ me { name number } }", "limit.tokens"),
        ("depth_max", 2, "{ complaints { edges { node { number } } } }", "limit.depth"),
        ("depth_max", 2, "{ ...F } fragment F on Query { complaints { edges { node { number } } } }", "limit.depth"),
        ("fields_max", 1, "{ me { name } institution { name } }", "limit.fields"),
        ("fields_max", 1, "{ ... { me { name } } ...F } fragment F on Query { institution { name } }", "limit.fields"),
        ("repeats_max", 2, "{ me { name name name } }", "limit.repeats"),
        ("repeats_max", 2, "{ me { a: name a: name ...F } } fragment F on Me { a: name }", "limit.repeats"),
        ("aliases_max", 1, "{ a: me { b: name } }", "limit.aliases"),
        ("directives_max", 1, "{ me @include(if: true) { name @skip(if: false) } }", "limit.directives"),
        ("directives_max", 1, "{ ... @include(if: true) { me { name } ...F @skip(if: false) } } fragment F on Query"
         " { me { name } }", "limit.directives"),
        ("selections_max", 4, "{ me { ...A ...A ...A ...A } } fragment A on Me { name }", "limit.selections"),
        ("fragments_max", 0, "{ me { ...A } } fragment A on Me { name }", "limit.fragments"),
        ("cost_max", 50, "{ complaints { edges { cursor } } }", "limit.cost"),
    ],
)  # fmt: skip
def test_every_limit_is_a_setting_with_a_code_of_its_own(limit: str, most: int, query: str, says: str) -> None:
    assert limit in Settings.model_fields
    for size, expected in ((most, says), (most * 4 + 20, None)):
        settings: dict[str, Any] = {limit: size}
        assert code(query, **settings) == expected


def test_fragments_that_spread_each_other_twice_are_measured_at_once() -> None:
    """Counted out, these are 2^49 fields."""
    bomb = " ".join(f"fragment F{n} on Query {{ ...F{n + 1} ...F{n + 1} }}" for n in range(48))
    before = time.process_time()
    said = code(f"{{ ...F0 }} {bomb} fragment F48 on Query {{ me {{ name }} }}")
    assert said == "limit.fields"
    assert time.process_time() - before < 1.0


def test_the_standard_introspection_query_is_within_the_limits() -> None:
    assert code(get_introspection_query()) is None


@pytest.mark.parametrize("role", list(Role))
def test_the_schema_is_shown_to_few_in_production_and_to_all_in_development(role: Role) -> None:
    who = Principal("BJ", uuid4(), frozenset({role}), frozenset(Scope), "")
    shown = None if role in (Role.AUDITOR, Role.ADMIN) else "limit.introspection"
    for query in (
        "{ __schema { types { name } } }",
        '{ ...F } fragment F on Query { a: __type(name: "Query") { name } }',
    ):
        assert code(query, who=who) == shown
        assert code(query, who=who, environment="development") is None
    assert code("{ __typename me { __typename } }", who=who) is None


def test_a_budget_is_used_up_and_fills_up_again_for_each_alone() -> None:
    now = 0.0
    budget = Budget(600, lambda: now)
    budget.spend("li", 500)
    with pytest.raises(OverBudget) as over:
        budget.spend("li", 200)
    assert over.value.seconds == 10
    budget.spend("wang", 600)
    now = 9.0
    with pytest.raises(OverBudget):
        budget.spend("li", 200)
    now = 10.0
    budget.spend("li", 200)
    now = 1000.0
    budget.spend("li", 10_000)  # whoever asks for more than a minute's worth at once has to have a full one
    with pytest.raises(OverBudget):
        budget.spend("li", 1)


def test_what_is_refused_costs_too() -> None:
    door = gate(cost_per_minute=3)
    for _ in range(3):
        with pytest.raises(Refused, match=r"limit\.aliases"):
            door.admit("{ " + " ".join(f"a{n}: __typename" for n in range(31)) + " }", None, None, AUDITOR)
    with pytest.raises(OverBudget):
        door.admit("{ me { name } }", None, None, AUDITOR)
