"""Every statement names its institution: read from the source, so row-level security cannot hide one that forgot.

test-list 35: a statement may touch tables of institutions only if each of them is narrowed – by `institution = …`, or
by being joined to one that is – or if it stands in EXCEPTED with the reason.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psycopg
import pytest

from tests.conftest import Database

ROOT = Path(__file__).parent.parent
LAYERS = ("domain", "projections", "api")

REFERENCE = re.compile(
    r"\b(FROM|JOIN|INTO|TABLE|COPY|LIKE|(?<!FOR )(?<!DO )(?<!KEY )UPDATE)\s+"
    r"(?!ONLY|IF|SET\b|OF\b|SKIP|STDIN|SELECT|LATERAL|unnest|generate_series)(\"?\{\w*\}\"?|[a-z_]+)(?!\s*\.|\()"
)
PREDICATE = re.compile(
    r"institution\s*=\s*(ANY\(|%\(?\w*\)?s?|\$\d|\{\w*\}|\w+\.institution|t\.institution|current_setting)"
    r"|USING \(institution\b"
)
SAID = re.compile(r"^ \(?(SELECT|WITH|INSERT|UPDATE|DELETE|COPY)\b| FROM ")
INSERTED = re.compile(r"INTO\s+(\"?\{\w*\}\"?|[a-z_]+)\s*(AS \w+\s*)?\((institution|\{)")


class Statement(NamedTuple):
    """One text of SQL in the source, `{name}` where the code puts something in."""

    file: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.text}"


def texts(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Every text the module writes, concatenations as one; docstrings are texts too, and say no SQL."""

    class Reader(ast.NodeVisitor):
        def __init__(self) -> None:
            self.found: list[tuple[int, str]] = []

        def visit(self, node: ast.AST) -> None:
            said = spelt(node)
            if said is None:
                self.generic_visit(node)
            else:
                self.found.append((getattr(node, "lineno", 0), said))

    reader = Reader()
    reader.visit(tree)
    return iter(reader.found)


def spelt(node: ast.AST) -> str | None:
    """The text of an expression that writes one, or None."""
    match node:
        case ast.Constant(value=str(said)):
            return said
        case ast.Constant(value=bytes(said)):
            return said.decode(errors="replace")
        case ast.JoinedStr(values=values):
            return "".join(spelt(v) or "{}" if isinstance(v, ast.Constant) else "{}" for v in values)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            one, other = spelt(left), spelt(right)
            if one is None and other is None:
                return None
            return (one if one is not None else "{}") + (other if other is not None else "{}")
        case _:
            return None


def statements(tables: frozenset[str]) -> list[Statement]:
    """Every text of the source that reads or writes tables of institutions, or tables the code names."""
    found: list[Statement] = []
    for layer in LAYERS:
        for file in sorted((ROOT / layer).rglob("*.py")):
            for line, text in texts(ast.parse(file.read_text("utf-8"))):
                words = " ".join(re.sub(r"--.*", "", text).split())
                if SAID.search(f" {words} ") and touched(words, tables):
                    found.append(Statement(file.relative_to(ROOT).as_posix(), line, words))
    return found


def touched(words: str, tables: frozenset[str]) -> list[str]:
    """The tables of institutions a statement touches, each as often as it does; `{…}` for one the code names."""
    return [
        name.strip('"')
        for _, name in REFERENCE.findall(words)
        if name.strip('"') in tables or name.strip('"').startswith("{")
    ]


def narrowed(words: str) -> int:
    """How many tables a statement narrows to institutions, or fills with rows that name theirs."""
    return len(PREDICATE.findall(words)) + len(INSERTED.findall(words))


@pytest.fixture(scope="module")
def tables(shared_database: Database) -> frozenset[str]:
    """Every table with a column `institution`."""
    with psycopg.connect(shared_database.owner) as connection:
        rows = connection.execute(
            "SELECT c.relname FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid"
            " WHERE a.attname = 'institution' AND c.relkind IN ('r', 'p') AND c.relnamespace = 'anjuan'::regnamespace"
        ).fetchall()
    return frozenset(name for (name,) in rows)


def test_every_statement_narrows_every_table_to_its_institution(tables: frozenset[str]) -> None:
    """test-list 35: as many predicates as tables, neither fewer nor, unnoticed, more."""
    found = statements(tables)
    assert len(found) > 60, "the source is read"
    wrong = [s for s in found if narrowed(s.text) != expected(s, tables)]
    assert not wrong, "\n".join(f"narrows {narrowed(s.text)} of {expected(s, tables)}: {s}" for s in wrong)


def test_what_is_excepted_is_there(tables: frozenset[str]) -> None:
    found = statements(tables)
    for file, part, _, why in EXCEPTED:
        assert any(s.file == file and part in s.text for s in found), f"{file} no longer says {part!r} ({why})"


def test_what_composed_statements_begin_their_conditions_with_is_the_institution() -> None:
    for file, begins in BEGINNINGS:
        said = [text for _, text in texts(ast.parse((ROOT / file).read_text("utf-8")))]
        assert [text for text in said if re.match(r"(at\.)?institution = ", text)] == [begins], file


def expected(statement: Statement, tables: frozenset[str]) -> int:
    """How many predicates a statement must have: one for each table, unless it is excepted."""
    for file, part, count, _ in EXCEPTED:
        if statement.file == file and part in statement.text:
            return count
    return len(touched(statement.text, tables))


COMPOSED = "its conditions begin with the institution: tests/api/test_access.py sees what is sent"
BEGINNINGS = (
    ("projections/changes.py", "institution = %s AND position > %s AND position <= %s"),
    ("projections/page.py", "institution = %s"),
    ("projections/read_log.py", "at.institution = %s"),
    ("api/plan/sql.py", "institution = {}"),
    ("api/plan/turn.py", "institution = {}"),
)
EVERY = "the runner's work, for every institution at once"
KEYED = "found by a digest that no two institutions share"
EXCEPTED: tuple[tuple[str, str, int, str], ...] = (
    ("domain/store/bulk.py", "INSERT INTO institution_position VALUES (%s, 0", 0, "the row is the institution's"),
    ("domain/store/staging.py", "COPY {} ({}) FROM STDIN", 0, "each row names its institution"),
    ("domain/store/staging.py", "SELECT {} FROM {} WHERE __load = %s", 1, "each row names its institution"),
    ("projections/changes.py", "SELECT {} FROM history WHERE {}", 0, COMPOSED),
    ("projections/page.py", "SELECT {} FROM {} WHERE {} ORDER BY {}", 0, COMPOSED),
    ("projections/page.py", "CROSS JOIN LATERAL (SELECT {} FROM {}", 0, COMPOSED),
    ("projections/page.py", "SELECT count(*) FROM (SELECT FROM {}", 0, COMPOSED),
    ("projections/rebuild.py", "FROM institution_position WHERE position > 0", 0, EVERY),
    ("projections/rebuild.py", "DELETE FROM rebuild WHERE view", 0, EVERY),
    ("projections/rebuild.py", "DELETE FROM tracking WHERE view", 0, EVERY),
    ("projections/rebuild.py", "DELETE FROM parked WHERE view", 0, EVERY),
    ("projections/rebuild.py", "FROM rebuild WHERE view = %s AND NOT finished ORDER BY", 0, EVERY),
    ("projections/rebuild.py", "SELECT NOT EXISTS (SELECT FROM rebuild", 0, EVERY),
    ("projections/rebuild.py", "coalesce(sum(head.position), 0)::bigint", 1, EVERY),
    ("projections/rebuild.py", "coalesce(sum(total), 0)::bigint", 0, EVERY),
    ("projections/switch.py", "SELECT position FROM tracking WHERE view", 0, EVERY),
    ("projections/switch.py", "DELETE FROM {} WHERE view = %s", 0, EVERY),
    ("projections/switch.py", "UPDATE {} SET view = %s", 0, EVERY),
    ("projections/switch.py", "DELETE FROM rebuild WHERE view", 0, EVERY),
    ("projections/switch.py", "SELECT EXISTS (SELECT FROM tracking AS t LEFT JOIN tracking", 1, EVERY),
    ("projections/table.py", "FROM {table} JOIN {wanted} USING ({key})", 1, "what is wanted is a list of keys"),
    ("projections/tracking.py", "HAVING count(t.view) <", 1, EVERY),
    ("projections/verify.py", "SELECT institution FROM institution_position UNION", 0, EVERY),
    ("projections/verify.py", "USING (institution, {key}, position)", 3, "narrowed twice and joined"),
    ("projections/read_log.py", "SELECT {} FROM {} WHERE {} ORDER BY at.read_at", 0, COMPOSED),
    ("projections/read_log.py", "SELECT count(*) FROM (SELECT FROM {} WHERE {}", 0, COMPOSED),
    ("api/access/doorkeeper.py", "FROM api_token AS token WHERE token_sha256", 1, KEYED),
    ("api/access/doorkeeper.py", "FROM identity_link AS link WHERE identity_sha256", 1, KEYED),
    ("api/access/identity.py", "INSERT INTO identity_link (identity_sha256, institution", 0, "the row names it"),
    ("api/access/token.py", "INSERT INTO api_token (token_sha256, institution", 0, "the row names it"),
    ("api/access/token.py", "FROM api_token WHERE label IS NOT NULL", 0, "tokens of an earlier version, of everybody"),
    ("api/access/token.py", "UPDATE api_token SET label = NULL", 0, KEYED),
    ("api/plan/fields.py", "extract(epoch FROM {}", 0, "no table"),
    ("api/plan/sql.py", 'SELECT * FROM "{}" WHERE {}{}', 0, COMPOSED),
    ("api/plan/turn.py", 'SELECT * FROM "{}" WHERE {}', 0, COMPOSED),
    ("projections/changes.py", "CROSS JOIN {met}", 5, "the sixth are the filters it is asked with, no table"),
    ("api/plan/sql.py", "SELECT count(*) AS n FROM (SELECT FROM", 0, COMPOSED),
    ("api/plan/statement.py", "SELECT {} FROM {} ORDER BY {}", 0, COMPOSED),
    ("api/premises.py", "SELECT EXISTS (SELECT FROM api_token", 0, "whether there are tokens of an earlier version"),
    ("api/premises.py", "SELECT institution FROM institution_position WHERE position > 0", 0, "lists the institutions"),
)
"""File, a part of the statement, how many tables it narrows, and why not all."""
