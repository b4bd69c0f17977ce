"""The schema: committed as it is, said in two languages, and such that selections can be compiled to SQL."""

from __future__ import annotations

import ast
import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
from graphql import GraphQLEnumType, GraphQLInputObjectType, GraphQLObjectType
from strawberry.types.base import get_object_definition

from api.chinese.sentences import SENTENCES
from api.chinese.words import KINDS, WORDS
from api.complaint import Complaint, ComplaintClock
from api.history import HistoryLine
from api.schema import build, print_schema
from projections.view import Row
from tests.api.conftest import SETTINGS

ROOT = Path(__file__).parents[2]
CODE = re.compile(r"[a-z_]+\.[a-z_]+")
TYPES = build(SETTINGS)._schema.type_map


def test_the_committed_schema_is_the_schema() -> None:
    assert (ROOT / "schema.graphql").read_text("utf-8") == print_schema(), "print it again with api.schema.print_schema"


@pytest.mark.parametrize("shown", [Complaint, ComplaintClock, HistoryLine])
def test_every_column_is_a_field_that_says_which_column_it_is(shown: type[Row]) -> None:
    definition = get_object_definition(shown, strict=True)
    fields: list[Any] = definition.fields
    resolved = {f.python_name for f in fields if f.base_resolver is not None}
    columns = {f.metadata["column"] for f in fields if f.python_name not in resolved}
    assert columns == {f.name for f in dataclasses.fields(shown.__mro__[1])}  # pyright: ignore[reportArgumentType]
    assert not any("column" in f.metadata for f in fields if f.python_name in resolved)


def ours(kind: type) -> list[GraphQLObjectType | GraphQLInputObjectType | GraphQLEnumType]:
    return [t for n, t in TYPES.items() if isinstance(t, kind) and not n.startswith("__")]  # pyright: ignore[reportReturnType]


def test_every_type_every_question_and_every_decision_is_described() -> None:
    silent = [t.name for kind in (GraphQLObjectType, GraphQLInputObjectType) for t in ours(kind) if not t.description]
    assert sorted(silent) == ["Mutation", "Query", "Subscription"]
    for root in ("Query", "Mutation", "Subscription"):
        found = TYPES[root]
        assert isinstance(found, GraphQLObjectType)
        for name, field in found.fields.items():
            said = field.description or ""
            assert any("一" <= c <= "鿿" for c in said.split("–")[0]), f"{name} has no Chinese term"
            assert len(said.split("–", 1)[1]) > 10, f"{name} is not described"


def test_every_closed_set_has_its_chinese_words() -> None:
    for kind in ours(GraphQLEnumType):
        assert isinstance(kind, GraphQLEnumType)
        if kind.name == "CaseOrder":
            continue
        assert kind.name in KINDS
        assert all(f"{kind.name}.{name.lower()}" in WORDS for name in kind.values), kind.name


REFUSING = ("Refused", "Unacceptable", "Unauthenticated", "_refuse")


def codes(file: Path) -> set[str]:
    """Every code a file refuses with: given to what refuses, or what is called code, wherever it is."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        values: list[ast.expr | None] = []
        match node:
            case ast.Dict():
                named = zip(node.keys, node.values, strict=True)
                values = [v for k, v in named if isinstance(k, ast.Constant) and k.value == "code"]
            case ast.Call():
                refuses = isinstance(node.func, ast.Name) and node.func.id in REFUSING
                values = [*(k.value for k in node.keywords if k.arg == "code"), *(node.args[:3] if refuses else ())]
            case ast.Assign(targets=[ast.Name(id="code")], value=value):
                values = [value]
            case ast.arguments():
                defaults = zip(node.args[::-1], node.defaults[::-1], strict=False)
                values = [default for argument, default in defaults if argument.arg == "code"]
            case _:
                pass
        for value in values:
            if isinstance(value, ast.Constant) and isinstance(value.value, str) and CODE.fullmatch(value.value):
                found.add(value.value)
    return found


FOLDERS = ("access", "edge", "live", "plan")
EDGE = [
    "app",
    "asof",
    "clock",
    "command",
    "complaint",
    "complaint_commands",
    "context",
    "cost",
    "glass",
    "history",
    "identity",
    "institution",
    "limits",
    "link",
    "narrow",
    "node",
    "page",
    "policy",
    "reads",
    "refusal",
    "scalars",
    "staff",
]
SOURCES = [
    *(ROOT / "domain").rglob("*.py"),
    *(ROOT / "projections").rglob("*.py"),
    *(file for folder in FOLDERS for file in (ROOT / "api" / folder).rglob("*.py")),
    *(ROOT / "api" / f"{module}.py" for module in EDGE),
]


def test_every_refusal_has_its_chinese_sentence() -> None:
    said = set[str]().union(*(codes(file) for file in SOURCES))
    assert len(said) > 60
    assert said - set(SENTENCES) == set(), "add these to api/chinese/sentences.py"
    assert set(SENTENCES) - said == set(), "nobody refuses with these any more"
