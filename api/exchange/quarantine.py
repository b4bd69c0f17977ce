"""Where lines go that cannot be taken over: a table beside the histories, with place and reason, and their count."""

from __future__ import annotations

import csv
import io
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from api.exchange.rows import KEPT_LENGTH_MAX, Line, Spoiled

HEADINGS = ("file", "line", "last_line", "case", "code", "reason", "kept")
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""A cell that begins so is taken for a formula by spreadsheets; it is kept with an apostrophe before it."""


@dataclass(frozen=True)
class Refusal:
    """One line that was not taken over. `code` counts alike ones; `case` is empty where the line names none."""

    line: int
    last_line: int
    case: str
    code: str
    reason: str
    kept: str

    @classmethod
    def of_spoiled(cls, spoiled: Spoiled) -> Refusal:
        """The refusal of something that is no line of the table."""
        return cls(spoiled.number, spoiled.last, "", spoiled.code, spoiled.sentence, spoiled.kept)

    @classmethod
    def of_line(cls, line: Line, case: str, code: str, reason: str) -> Refusal:
        """The refusal of a line of the table."""
        return cls(line.number, line.number, case, code, reason, _joined(line.cells))


class Quarantine:
    """The refused lines of one run, in a CSV file that appears, whole, when the run ends; without lines, none."""

    def __init__(self, file: Path, source: Path) -> None:
        self.file = file
        self.counts: Counter[str] = Counter()
        self._source = str(source)
        self._part = file.with_name(f".{file.name}.{os.getpid()}.part")
        self._out: IO[str] | None = None
        self._writer: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._out is not None:
            self._out.close()
            os.replace(self._part, self.file)
        elif error is None:
            self.file.unlink(missing_ok=True)

    def add(self, refusals: Iterable[Refusal]) -> None:
        """Keep and count these lines."""
        for refusal in refusals:
            self.counts[refusal.code] += 1
            cells = (refusal.case, refusal.code, refusal.reason, refusal.kept)
            self._table().writerow((guarded(self._source), refusal.line, refusal.last_line, *map(guarded, cells)))

    def _table(self) -> Any:
        if self._out is None:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            # what was refused may tell of people: nobody else reads it
            descriptor = os.open(self._part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            self._out = os.fdopen(descriptor, "w", encoding="utf-8-sig", errors="backslashreplace", newline="")
            self._writer = csv.writer(self._out)
            self._writer.writerow(HEADINGS)
        return self._writer


def guarded(cell: str) -> str:
    """The cell as a spreadsheet will show it, and never run it."""
    return f"'{cell}" if cell.startswith(FORMULA) else cell


def _joined(cells: Mapping[str, str]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="").writerow(cells.values())
    return out.getvalue()[:KEPT_LENGTH_MAX]
