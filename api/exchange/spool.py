"""Lines of a file of any length, put in order: by case, cases by receipt, lines of a case by time.

They lie in a private database of SQLite that is gone when it is closed, so memory stays flat and nothing is appended
before the whole file has been read.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Self

from api.exchange.rows import Line

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TABLES = """
    CREATE TABLE told (reference TEXT PRIMARY KEY, received INTEGER NOT NULL, number INTEGER NOT NULL, cells TEXT);
    CREATE TABLE untold (reference TEXT PRIMARY KEY, code TEXT NOT NULL, sentence TEXT NOT NULL);
    CREATE TABLE line (reference TEXT NOT NULL, occurred INTEGER NOT NULL, number INTEGER NOT NULL, cells TEXT);
"""


@dataclass(frozen=True)
class Waiting:
    """A line of a case that cannot begin, with the reason."""

    reference: str
    line: Line
    code: str
    sentence: str


class Spool:
    """One file's lines on their way into the casebook."""

    def __init__(self) -> None:
        self._lines = sqlite3.connect("", isolation_level=None)
        self._lines.executescript("PRAGMA synchronous = off; PRAGMA journal_mode = off; PRAGMA cache_size = -20000;")
        self._lines.executescript(TABLES)
        self._lines.execute("BEGIN")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._lines.close()

    def tell(self, reference: str, received_at: datetime, line: Line) -> bool:
        """This line says what the case is; False when another has said it before."""
        values = (reference, _micros(received_at), line.number, _dumped(line.cells))
        return self._lines.execute("INSERT OR IGNORE INTO told VALUES (?, ?, ?, ?)", values).rowcount == 1

    def leave_untold(self, reference: str, code: str, sentence: str) -> None:
        """A line of the case does not say what the case is; the first reason is kept for when none does."""
        self._lines.execute("INSERT OR IGNORE INTO untold VALUES (?, ?, ?)", (reference, code, sentence))

    def add(self, reference: str, occurred_at: datetime, line: Line) -> None:
        """A line of work on the case."""
        values = (reference, _micros(occurred_at), line.number, _dumped(line.cells))
        self._lines.execute("INSERT INTO line VALUES (?, ?, ?, ?)", values)

    def sort(self) -> int:
        """Everything is in; the number of cases that can begin."""
        self._lines.execute("CREATE INDEX line_in_order ON line (reference, occurred, number)")
        self._lines.execute("CREATE INDEX told_in_order ON told (received, reference)")
        return self._lines.execute("SELECT count(*) FROM told").fetchone()[0]

    def cases(self) -> Iterator[tuple[str, Line]]:
        """Every case that can begin, by receipt and then by its reference, with the line that says what it is."""
        for reference, number, cells in self._lines.execute(
            "SELECT reference, number, cells FROM told ORDER BY received, reference"
        ):
            yield reference, Line(number, json.loads(cells))

    def lines_of(self, reference: str) -> list[Line]:
        """The lines of one case by time; lines of the same moment as they stood in the file."""
        found = self._lines.execute(
            "SELECT number, cells FROM line WHERE reference = ? ORDER BY occurred, number", (reference,)
        )
        return [Line(number, json.loads(cells)) for number, cells in found]

    def waiting(self) -> Iterator[Waiting]:
        """Every line of a case that no line says what it is."""
        for reference, number, cells, code, sentence in self._lines.execute(
            "SELECT line.reference, number, cells, code, sentence FROM line JOIN untold USING (reference)"
            " WHERE NOT EXISTS (SELECT 1 FROM told WHERE told.reference = line.reference) ORDER BY number"
        ):
            yield Waiting(reference, Line(number, json.loads(cells)), code, sentence)


def _micros(at: datetime) -> int:
    return (at - EPOCH) // timedelta(microseconds=1)


def _dumped(cells: Mapping[str, str]) -> str:
    return json.dumps(cells, ensure_ascii=False)
