"""A migration as a file: `NNNN_name.sql` in dbmate's format, cut into statements that know their line."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from itertools import pairwise


class MigrationError(Exception):
    """The migrations cannot be applied; the sentence names the file and what to do."""


@dataclass(frozen=True)
class Statement:
    """One statement of the part that migrates up, without its semicolon."""

    line: int
    """1-based, of its first word in the file."""
    sql: str


@dataclass(frozen=True)
class Migration:
    """One file. `digest` is the SHA-256 of its bytes, in hexadecimal."""

    version: int
    name: str
    digest: str
    transaction: bool
    statements: tuple[Statement, ...]

    @property
    def file(self) -> str:
        """The file's name."""
        return f"{self.version:04}_{self.name}.sql"


_NAME = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql")
_MARK = re.compile(r"^-- migrate:(up|down)\b[ \t]*(.*)$", re.MULTILINE)
_PIECE = re.compile(
    r"--[^\n]*|/\*|\*/|'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|(?<![\w$])\$(?:[A-Za-z_]\w*)?\$|;|\bBEGIN\s+ATOMIC\b",
    re.IGNORECASE,
)
_ESCAPED = re.compile(r"'(?:[^'\\]|''|\\.)*'", re.DOTALL)
"""A string with a leading E, in which a backslash escapes."""


def migrations(source: Traversable | None = None) -> tuple[Migration, ...]:
    """All migrations in the order of their numbers; those shipped with this package unless told otherwise."""
    place = files("migrations") if source is None else source
    found = sorted((parse(f.name, f.read_bytes()) for f in _sql(place)), key=lambda migration: migration.version)
    for one, other in pairwise(found):
        if one.version == other.version:
            raise MigrationError(f"{one.file} and {other.file} have the same number; give the newer one the next.")
    return tuple(found)


def _sql(place: Traversable) -> Iterable[Traversable]:
    return (file for file in place.iterdir() if file.name.endswith(".sql"))


def parse(file: str, content: bytes) -> Migration:
    """Read one migration; raises MigrationError when its name or its form is wrong."""
    named = _NAME.fullmatch(file)
    if named is None:
        raise MigrationError(f"{file} is not named like 0001_event.sql: four digits, then a name in small letters.")
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise MigrationError(f"{file} is not UTF-8.") from error
    marks = list(_MARK.finditer(text))
    if [mark[1] for mark in marks] not in (["up"], ["up", "down"]):
        raise MigrationError(f"{file} must have one line `-- migrate:up` and may have one `-- migrate:down` after it.")
    options = marks[0][2].split()
    if set(options) - {"transaction:true", "transaction:false"}:
        raise MigrationError(f"{file} has options this runner does not know: {marks[0][2]}.")
    start, end = marks[0].end(), marks[1].start() if len(marks) == 2 else len(text)
    return Migration(
        version=int(named[1]),
        name=named[2],
        digest=hashlib.sha256(content).hexdigest(),
        transaction="transaction:false" not in options,
        statements=tuple(_statements(file, text, start, end)),
    )


def _statements(file: str, text: str, start: int, end: int) -> Iterable[Statement]:
    """Cut at the semicolons that are in no comment, string, quoted name or dollar-quoted body."""
    at = begun = start
    while at < end:
        piece = _PIECE.search(text, at, end)
        mark, at = (piece[0], piece.end()) if piece else (";", end)
        if mark == "/*":
            at = _after_comment(text, at, end)
        elif mark.startswith("$"):
            closed = text.find(mark, at, end)
            at = end if closed < 0 else closed + len(mark)
        elif mark.startswith("'") and piece and re.search(r"(?<![\w$])[eE]$", text[start : piece.start()]):
            escaped = _ESCAPED.match(text, piece.start(), end)
            at = escaped.end() if escaped else end
        elif mark.upper().startswith("BEGIN"):
            raise MigrationError(
                f"{file} has a body BEGIN ATOMIC; write it in dollar quotes, so that its end is plain."
            )
        elif mark == ";":
            statement = text[begun : (piece.start() if piece else end)]
            words = re.search(r"\S", re.sub(r"--[^\n]*", lambda comment: " " * len(comment[0]), statement))
            if words:
                line = text.count("\n", 0, begun + words.start()) + 1
                yield Statement(line, statement[words.start() :].rstrip())
            begun = at


def _after_comment(text: str, at: int, end: int) -> int:
    depth = 1
    for mark in re.finditer(r"/\*|\*/", text[at:end]):
        depth += 1 if mark[0] == "/*" else -1
        if depth == 0:
            return at + mark.end()
    return end
