"""Histories and cases out, for other tools: JSON Lines, one event a line; CSV, one case a line.

Personal fields are withheld unless they are asked for. A file appears whole or not at all and takes nobody's place; a
name ending in .gz packs it.
"""

from __future__ import annotations

import csv
import gzip
import io
import os
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import IO, Any, cast
from uuid import UUID

import msgspec

from api.exchange.history import recorded_events
from api.exchange.quarantine import guarded
from api.exchange.rows import Progress, never, no_progress
from domain.kernel import Event
from domain.personal import personal_fields
from domain.store.casebook import Casebook
from domain.store.mapper import plain_body
from domain.store.recorder import Recorded
from projections.complaint import COMPLAINTS, ComplaintRow
from projections.personal import personal_columns
from projections.question import ask, question

WITHHELD = "［未导出 withheld］"
CASES_AT_ONCE = 1_000
_EARLIEST = datetime(1, 1, 1, tzinfo=UTC)
_json = msgspec.json.Encoder(decimal_format="string", uuid_format="canonical")


class ExportProblem(Exception):
    """The file cannot be written. The message names it and the remedy."""


class ExportStopped(Exception):
    """The export was interrupted; there is no file."""


def export_history(
    casebook: Casebook,
    path: Path,
    *,
    personal: bool = False,
    progress: Progress = no_progress,
    stop: Callable[[], bool] = never,
) -> int:
    """Write every event up to the present head, in position order; how many there are.

    A line has the envelope and, under `body`, the event's fields but those that have their default value. Raises
    ExportProblem, ExportStopped.
    """
    head, written = casebook.head(), 0
    with _written(path, private=personal) as out:
        for batch in recorded_events(casebook, upto=head):
            if stop():
                raise ExportStopped(f"{path}: stopped; nothing was written.")
            for recorded, event in zip(batch, casebook.bodies.to_events(batch), strict=True):
                out.write(_json.encode(_line(recorded, event, personal=personal)).decode() + "\n")
            written += len(batch)
            progress("exporting", written, head)
    return written


def _line(recorded: Recorded, event: Event, *, personal: bool) -> dict[str, Any]:
    body = plain_body(event)
    if not personal:
        hidden = personal_fields(type(event))
        body = {name: WITHHELD if name in hidden and value else value for name, value in body.items()}
    return {
        "institution": recorded.institution,
        "position": recorded.position,
        "stream": recorded.originator_id,
        "version": recorded.originator_version,
        "topic": event.topic,
        "event_id": recorded.event_id,
        "command_id": recorded.command_id,
        "actor": recorded.actor,
        "occurred_at": recorded.occurred_at,
        "recorded_at": recorded.recorded_at,
        "body": body,
    }


def export_cases(
    casebook: Casebook,
    path: Path,
    *,
    personal: bool = False,
    progress: Progress = no_progress,
    stop: Callable[[], bool] = never,
) -> int:
    """Write every case as the complaint list shows it, by receipt; how many there are.

    Times are in UTC, several values in a cell are parted by `; `, and cells that spreadsheets would run begin with an
    apostrophe. Raises ExportProblem, ExportStopped.
    """
    columns = [column.name for column in COMPLAINTS.columns]
    hidden = frozenset[str]() if personal else frozenset(personal_columns(ComplaintRow))
    written = 0
    with _written(path, private=personal, mark=True) as out:
        table = csv.writer(out)
        table.writerow(columns)
        for batch in _cases(casebook):
            if stop():
                raise ExportStopped(f"{path}: stopped; nothing was written.")
            for row in batch:
                table.writerow([_cell(getattr(row, name), withheld=name in hidden) for name in columns])
            written += len(batch)
            progress("exporting", written, None)
    return written


def _cases(casebook: Casebook) -> Iterator[list[ComplaintRow]]:
    after: tuple[datetime, UUID] = (_EARLIEST, UUID(int=0))
    while True:
        asked = question(
            COMPLAINTS,
            """
            SELECT {columns}
            FROM complaint_case
            WHERE institution = %(institution)s AND (received_at, complaint_id) > (%(received_at)s, %(id)s)
            ORDER BY received_at, complaint_id
            LIMIT %(limit)s
            """,
            institution=casebook.institution,
            received_at=after[0],
            id=after[1],
            limit=CASES_AT_ONCE,
        )
        with casebook.house.within(casebook.institution) as connection:
            batch = ask(connection, asked)
        yield batch
        if len(batch) < CASES_AT_ONCE:
            return
        after = (batch[-1].received_at, batch[-1].complaint_id)


def _cell(value: Any, *, withheld: bool) -> str:
    if value is None or value == "":
        return ""
    if withheld:
        return WITHHELD
    if isinstance(value, tuple):
        return guarded("; ".join(_plain(one) for one in cast(tuple[Any, ...], value)))
    return guarded(_plain(value))


def _plain(value: Any) -> str:
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, bool):
        return "true" if value else "false"
    return value.isoformat() if isinstance(value, datetime) else str(value)


@contextmanager
def _written(path: Path, *, private: bool, mark: bool = False) -> Generator[IO[str]]:
    """A text file that takes its name when it is complete; `private` keeps others from reading it."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    if path.exists():
        raise ExportProblem(f"{path}: there is such a file already; choose another name.")
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600 if private else 0o644)
        try:
            with (
                os.fdopen(descriptor, "wb") as file,
                _packed(file, path) as packed,
                io.TextIOWrapper(packed, "utf-8-sig" if mark else "utf-8", newline="") as out,
            ):
                yield out
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as problem:
        raise ExportProblem(f"{path}: {problem.strerror or problem}.") from None


@contextmanager
def _packed(file: IO[bytes], path: Path) -> Generator[IO[bytes]]:
    if path.suffix != ".gz":
        yield file
        return
    with gzip.GzipFile(filename="", fileobj=file, mode="wb", mtime=0) as packed:
        yield cast(IO[bytes], packed)
