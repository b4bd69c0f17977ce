"""Small logs of another system, written and brought in by tests."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest

from api.exchange.history import recorded_events
from api.exchange.importer import ImportReport, import_complaints
from api.exchange.intake import case_id
from api.exchange.mapping import ComplaintMapping, load_mapping
from domain.complaint import COMPLAINT, ComplaintCase
from domain.kernel import Event
from domain.store.casebook import Casebook
from tests.api.files import ACTOR, opened

LOG = """
name = "log"
[file]
rows = "log"
[time]
zone = "Asia/Shanghai"
[case]
id = "case"
received_at = "received"
channel = { column = "via", values = { tel = "telephone" } }
ended_at = "ended"
[line]
activity = "what"
occurred_at = "when"
performer = "who"
reference = "line"
stages = { settle = "settled" }
"""
HEADING = "case,received,via,ended,what,when,who,line"


def bring(casebook: Casebook, mapping: ComplaintMapping, file: Path, **more: object) -> ImportReport:
    """Import into an open institution, with the quarantine beside the mapping's file or where it is said."""
    more.setdefault("quarantine", file.parent / "quarantine")
    return import_complaints(opened(casebook), mapping, file, ACTOR, **more)  # pyright: ignore[reportArgumentType]


def case_of(casebook: Casebook, reference: str, mapping: str = "log") -> ComplaintCase | None:
    return casebook.read(COMPLAINT, case_id(casebook.institution, mapping, reference))


def events_of(casebook: Casebook) -> list[Event]:
    return [event for batch in recorded_events(casebook) for event in casebook.bodies.to_events(batch)]


def refused_lines(report: ImportReport) -> list[tuple[int, str]]:
    assert report.quarantine_file is not None
    with report.quarantine_file.open(encoding="utf-8-sig", newline="") as file:
        return [(int(row["line"]), row["code"]) for row in csv.DictReader(file)]


@pytest.fixture
def log(tmp_path: Path) -> ComplaintMapping:
    """A mapping of a small log."""
    file = tmp_path / "log.toml"
    file.write_text(LOG)
    return load_mapping(file)


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Writes the lines of a small log to a file."""

    def written(*lines: str | bytes, heading: str = HEADING) -> Path:
        file = tmp_path / "log.csv"
        raw = [line if isinstance(line, bytes) else line.encode() for line in (heading, *lines)]
        file.write_bytes(b"\n".join(raw) + b"\n")
        return file

    return written
