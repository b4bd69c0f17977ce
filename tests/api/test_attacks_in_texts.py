"""Texts that mean something to somebody else, in every argument there is: SQL, NUL, half characters, cursors, ids."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from typing import Any, cast
from uuid import uuid4

import pytest
from graphql import GraphQLEnumType, GraphQLInputObjectType, GraphQLNonNull, GraphQLObjectType, get_named_type

from api.schema import build
from domain.kernel import Role
from tests.api.conftest import SETTINGS, Office, intake
from tests.api.test_attacks import SECONDS, attack, code, send

SCHEMA = build(SETTINGS)._schema
SPOILT = [
    "'; DROP TABLE event; --",
    "' OR '1'='1",
    "\\'; select pg_sleep(60); --",
    "$$; select pg_sleep(60); $$",
    "%s %(x)s %% {0} {x} %",
    "\x00",
    "before\x00after",
    "\ud800",
    "a\udfffb",
    "\ufeff\u202e\u0085\u2028",
    "{{7*7}}${7*7}<script>alert(1)</script>",
    "../../../../etc/passwd",
    "9" * 6000,
    "1e999999999",
    "-1E-999999999",
    "NaN",
    "-infinity",
    "0001-01-01T00:00:00+23:59",
    "9999-12-31T23:59:59.999999-23:59",
    "2026-02-30T00:00:00Z",
]


def _arguments(root: GraphQLObjectType, name: str) -> Iterator[tuple[str, str]]:
    """Everything of an operation a text can be sent in: its arguments, and the fields of those that are inputs."""
    for argument, of in root.fields[name].args.items():
        yield argument, ""
        inner = cast(object, get_named_type(of.type))
        if isinstance(inner, GraphQLInputObjectType):
            yield from ((argument, part) for part in inner.fields)


def _plain(kind: Any) -> Any:
    """A value of this type that is nothing special."""
    if str(kind).endswith("!"):
        return _plain(kind.of_type)
    if str(kind).startswith("["):
        return [_plain(kind.of_type)]
    if isinstance(kind, GraphQLEnumType):
        return next(iter(kind.values))
    if isinstance(kind, GraphQLInputObjectType):
        parts = {n: f for n, f in kind.fields.items() if isinstance(f.type, GraphQLNonNull)}
        return {n: _plain(f.type) for n, f in (parts or dict([next(iter(kind.fields.items()))])).items()}
    return {"UUID": str(uuid4()), "DateTime": "2026-01-01T00:00:00Z", "BigInt": "1", "Int": 1, "Boolean": True,
            "Yuan": "1.00"}.get(str(kind), "某事")  # fmt: skip


def _spoilt(kind: Any, part: str, text: str) -> Any:
    if str(kind).endswith("!"):
        return _spoilt(kind.of_type, part, text)
    if str(kind).startswith("["):
        return [_spoilt(kind.of_type, part, text)]
    if isinstance(kind, GraphQLInputObjectType) and part:
        whole: dict[str, Any] = {} if kind.is_one_of else _plain(kind)
        return {**whole, part: _spoilt(kind.fields[part].type, "", text)}
    return text


ROOTS = {"query": SCHEMA.query_type, "mutation": SCHEMA.mutation_type}
OPERATIONS = [(word, name) for word, root in ROOTS.items() if root is not None for name in root.fields]


@pytest.mark.parametrize(("word", "name"), OPERATIONS)
def test_no_text_in_any_argument_does_more_than_a_text(office: Office, word: str, name: str) -> None:
    root = ROOTS[word]
    assert root is not None
    given = root.fields[name].args
    desk = office[Role.CS_DIRECTOR if word == "mutation" else Role.CS_CHIEF]
    for argument, part in _arguments(root, name):
        needed = {n: a for n, a in given.items() if n == argument or isinstance(a.type, GraphQLNonNull)}
        query = (
            f"{word} ({', '.join(f'${n}: {a.type}' for n, a in needed.items())})"
            f" {{ {name}({', '.join(f'{n}: ${n}' for n in needed)}) {{ __typename }} }}"
        )
        for text in SPOILT:
            spoilt = {argument: _spoilt(given[argument].type, part, text)}
            body = json.dumps({"query": query, "variables": {n: _plain(a.type) for n, a in needed.items()} | spoilt})
            before = time.perf_counter()
            status, said, _ = send(desk, content=body.encode(), headers={"Content-Type": "application/json"})
            assert time.perf_counter() - before < SECONDS
            assert status == (400 if _half(text) else 200), said
    assert desk.ask("{ me { staffId } }")["me"]["staffId"] == str(desk.id)


def _half(text: str) -> bool:
    """Whether a text holds half a character: no UTF-8 can say it."""
    return any("\ud800" <= c <= "\udfff" for c in text)


def test_spoilt_texts_are_kept_as_they_are_or_refused(office: Office) -> None:
    agent = office[Role.CS_AGENT]
    for text in SPOILT:
        if _half(text):
            continue
        said = agent.command("complaintReceive", **intake(statement=text))
        if "\x00" in text:
            assert said["code"] == "text.nul"
        else:
            office.follow()
            asked = "query ($id: UUID!) { complaint(id: $id) { statement } }"
            shown = office[Role.CS_DIRECTOR].ask(asked, id=said["complaintId"])
            assert shown["complaint"]["statement"].strip() == text.strip()
    literal = '{ complaints(filter: {text: "\\uD800"}) { totalCount } }'
    assert "errors" in attack(agent, literal)
    assert "errors" in attack(agent, '{ complaints(filter: {text: "\\u0000"}) { totalCount } }')


# institutions and cursors


def test_a_filter_by_another_institutions_ids_finds_nothing(office: Office, elsewhere: Office) -> None:
    theirs = elsewhere[Role.CS_AGENT]
    case = theirs.done("complaintReceive", **intake(statement="他院机密", departments=["外科"]))["complaintId"]
    elsewhere.follow()
    chief = office[Role.CS_CHIEF]
    said = attack(
        chief,
        "query ($o: UUID!, $c: UUID!) { complaints(filter: {owner: $o}) { totalCount }"
        ' text: complaints(filter: {text: "他院"}) { totalCount }'
        ' in: complaints(filter: {department: "外科"}) { totalCount }'
        " history(stream: $c) { totalCount } complaint(id: $c) { number } }",
        o=str(theirs.id), c=case,
    )  # fmt: skip
    assert [e["extensions"]["code"] for e in said["errors"]] == ["complaint.unknown"]
    found = attack(chief, "query ($c: UUID!) { complaints { totalCount } history(stream: $c) { totalCount } }", c=case)
    assert found["data"] == {"complaints": {"totalCount": "0"}, "history": {"totalCount": "0"}}


def test_a_cursor_that_was_tampered_with_is_refused_or_only_a_place(office: Office, elsewhere: Office) -> None:
    for where in (office, elsewhere):
        for _ in range(3):
            where[Role.CS_AGENT].done("complaintReceive", **intake())
        where.follow()
    chief = office[Role.CS_CHIEF]
    listed = (
        "query ($a: String, $b: String) { complaints(after: $a, before: $b) { edges { cursor node { institution } } } }"
    )
    good = chief.ask(listed)["complaints"]["edges"][0]["cursor"]
    foreign = elsewhere[Role.CS_CHIEF].ask(listed)["complaints"]["edges"][0]["cursor"]
    plain = base64.urlsafe_b64decode(good + "=" * (-len(good) % 4)).decode()
    made = [plain.replace('"', ""), plain + ",", "[]", "{}", "null", "[" * 500, plain.replace("2026", "20261"),
            plain.replace('["', '["\\u0000'), json.dumps(["' OR 1=1 --"] * 3), json.dumps(["infinity", "x", {}]),
            json.dumps([1e999, 2]), json.dumps([10**400] * 3)]  # fmt: skip
    cursors = [base64.urlsafe_b64encode(text.encode()).decode() for text in made]
    cursors += [
        good[:-3],
        good[3:],
        good + "AAAA",
        good[::-1],
        "",
        " ",
        "x" * 100_000,
        "\x00",
        "长",
        "🏥",
        "-1",
        "1; DROP",
    ]
    cursors += [good[:n] + ("A" if good[n] != "A" else "B") + good[n + 1 :] for n in range(0, len(good), 5)]
    for cursor in [*cursors, foreign]:
        for argument in ("a", "b"):
            said = attack(chief, listed, **{argument: cursor})
            if "errors" in said:
                assert code(said) == "page.cursor"
            else:
                assert {e["node"]["institution"] for e in said["data"]["complaints"]["edges"]} <= {office.code}
