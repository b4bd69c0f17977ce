"""Reading a table of text, line by line, from a file nobody vouches for.

What is wrong with the file as a whole (not there, cut short, not the table the mapping describes) is a FileProblem.
What is wrong with one line is a Spoiled line, with its place, and the reading goes on.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import zlib
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, cast

from api.exchange.columns import FileForm

LINE_LENGTH_MAX = 1_048_576
"""Longest line taken, in characters; of a longer one nothing is kept."""
KEPT_LENGTH_MAX = 4_000
"""How much of a spoiled line is kept to show."""


class FileProblem(Exception):
    """The file as a whole cannot be read; nothing was taken from it. The message names the file and the remedy."""


@dataclass(frozen=True)
class Line:
    """One line of the table: where it begins in the file (the heading is line 1) and its cells by heading."""

    number: int
    cells: Mapping[str, str]


@dataclass(frozen=True)
class Spoiled:
    """A line that is no line of the table. `kept` is what could be kept of it, `last` the last line it swallowed."""

    number: int
    last: int
    code: str
    sentence: str
    kept: str


@dataclass
class Source:
    """A table of text in a file, gzip-packed if its name ends in .gz."""

    path: Path
    form: FileForm
    columns: Mapping[str, str] = field(default_factory=dict[str, str])
    """The headings that must be there, each with who asks for it."""

    def digest(self) -> str:
        """SHA-256 of the file as it lies there, in hexadecimal. Raises FileProblem."""
        try:
            with self.path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as problem:
            raise FileProblem(f"{self.path}: {problem.strerror or problem}") from None

    def headings(self) -> list[str]:
        """The headings of the table. Raises FileProblem."""
        with self._opened() as text:
            return self._headings(self._reader(_Lines(text)))

    def __iter__(self) -> Iterator[Line | Spoiled]:
        """Every line below the heading that is not blank. Raises FileProblem, at any line."""
        with self._opened() as text:
            lines = _Lines(text)
            reader = self._reader(lines)
            headings = self._headings(reader)
            while True:
                lines.begin()
                try:
                    cells = next(reader)
                except StopIteration:
                    return
                except csv.Error as problem:
                    yield lines.spoiled("row.not_csv", f"The line does not end as a line of the table: {problem}.")
                    continue
                if lines.too_long:
                    yield lines.spoiled("row.too_long", f"The line has more than {LINE_LENGTH_MAX:,} characters.")
                elif cells:
                    yield self._line(lines, headings, cells)

    def _line(self, lines: _Lines, headings: list[str], cells: list[str]) -> Line | Spoiled:
        if len(cells) != len(headings):
            sentence = f"The line has {len(cells)} cells, the heading has {len(headings)}."
            return lines.spoiled("row.columns", sentence)
        if any(_misread(cell) for cell in cells):
            return lines.spoiled("row.encoding", f"The line is not written in {self._encoding()}.")
        if any("\0" in cell for cell in cells):
            return lines.spoiled("row.nul", "The line holds a NUL character; remove it.")
        return Line(lines.first, dict(zip(headings, cells, strict=True)))

    def _reader(self, lines: _Lines) -> Iterator[list[str]]:
        reader = csv.reader(lines, delimiter=self.form.delimiter, quotechar=self.form.quote, strict=True)
        return cast(Iterator[list[str]], reader)

    def _headings(self, reader: Iterator[list[str]]) -> list[str]:
        try:
            headings = [heading.strip() for heading in next(reader)]
        except StopIteration:
            raise FileProblem(f"{self.path}: the file is empty; it needs a line of headings.") from None
        except csv.Error as problem:
            raise FileProblem(f"{self.path}: line 1 is no line of headings: {problem}.") from None
        twice = sorted({h for h in headings if headings.count(h) > 1 and h in self.columns})
        if twice:
            raise FileProblem(f"{self.path}: the heading {twice[0]!r} stands there twice; rename one.")
        missing = [f"{h!r} (for {key})" for h, key in self.columns.items() if h not in headings]
        if missing:
            there = ", ".join(repr(h[:60]) for h in headings[:30])
            raise FileProblem(
                f"{self.path}: no column {', '.join(missing)}. The file, read as {self._encoding()} with delimiter"
                f" {self.form.delimiter!r}, has the columns {there}. Choose another mapping, or correct this one."
            )
        return headings

    def _encoding(self) -> str:
        return self.form.encoding.removesuffix("-sig")

    @contextmanager
    def _opened(self) -> Generator[IO[str]]:
        """The file as text. Characters that are none stay in it as surrogates, so one bad line spoils only itself."""
        try:
            packed = self.path.suffix == ".gz"
            with (
                cast(IO[bytes], gzip.open(self.path)) if packed else self.path.open("rb") as file,
                io.TextIOWrapper(file, self.form.encoding, errors="surrogateescape", newline="") as text,
            ):
                yield text
        except gzip.BadGzipFile as problem:
            raise FileProblem(f"{self.path}: not a gzip file, or a damaged one: {problem}.") from None
        except EOFError:
            raise FileProblem(f"{self.path}: the gzip file is cut short; fetch it again.") from None
        except zlib.error as problem:
            raise FileProblem(f"{self.path}: the gzip file is damaged: {problem}.") from None
        except UnicodeError as problem:
            sentence = f"{self.path}: not written in {self._encoding()}: {problem}; say its encoding in the mapping."
            raise FileProblem(sentence) from None
        except OSError as problem:
            raise FileProblem(f"{self.path}: {problem.strerror or problem}") from None


class _Lines:
    """The lines of a text for the csv reader, with the numbers of those that make one row, and none of them endless."""

    def __init__(self, text: IO[str]) -> None:
        self._text = text
        self._read = 0
        self._kept: list[str] = []
        self.first = 1
        self.too_long = False

    def begin(self) -> None:
        """The next line read begins a row."""
        self.first = self._read + 1
        self.too_long = False
        self._kept.clear()

    def spoiled(self, code: str, sentence: str) -> Spoiled:
        """The row read last, as one that is spoiled."""
        kept = "".join(self._kept)[:KEPT_LENGTH_MAX].rstrip("\r\n")
        return Spoiled(self.first, self._read, code, sentence, kept)

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._text.readline(LINE_LENGTH_MAX)
        if not line:
            raise StopIteration
        self._read += 1
        if sum(map(len, self._kept)) < KEPT_LENGTH_MAX:
            self._kept.append(line[:KEPT_LENGTH_MAX])
        if len(line) == LINE_LENGTH_MAX and line[-1] not in "\r\n":
            self.too_long = True
            while line and line[-1] not in "\r\n":
                line = self._text.readline(LINE_LENGTH_MAX)
            return "\n"
        return line


def _misread(cell: str) -> bool:
    return not cell.isascii() and any("\ud800" <= c <= "\udfff" for c in cell)


Progress = Callable[[str, int, int | None], None]
"""What is being done, how much of it is done, and out of how many where that is known."""


def no_progress(doing: str, done: int, of: int | None) -> None:
    """For callers who do not look."""


def never() -> bool:
    """For callers who do not interrupt."""
    return False
